package trust

import (
	"crypto/x509"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"directnode/internal/direct"
	"directnode/internal/testpki"
)

// pkitsSkips are the cases of NIST's Public Key Interoperability Test Suite whose outcome rests on something this package does not do.
var pkitsSkips = []struct{ prefix, why string }{
	{"4.1.4 ", "DSA is not supported"},
	{"4.1.5 ", "DSA is not supported"},
	{"4.4.14 ", "a negative serial number does not parse (RFC 5280 §4.1.2.2 forbids it)"},
	{"4.4.", "revocation is not evaluated"},
	{"4.5.2 ", "revocation is not evaluated"},
	{"4.5.5 ", "revocation is not evaluated"},
	{"4.5.7 ", "revocation is not evaluated"},
	{"4.5.8 ", "the invalid certificate is the one that signs CRLs"},
	{"4.7.4 ", "revocation is not evaluated"},
	{"4.7.5 ", "revocation is not evaluated"},
	{"4.14.", "revocation is not evaluated"},
	{"4.15.", "revocation is not evaluated"},
}

// pkitsOff are the rows that have no counterpart in the suite: its certificates belong to no Direct Address and are for any use.
var pkitsOff = []string{"binding", "key-usage", "revocation"}

// pkitsVector is one case as the toolchain's file tells it.
type pkitsVector struct {
	Name              string
	CertPath, CRLPath []string
	ShouldValidate    bool
	InitialPolicySet  []string

	InitialPolicyMappingInhibit, InitialExplicitPolicy, InitialAnyPolicyInhibit bool
}

// policy translates the inputs of RFC 5280 §6.1.1.
func (v pkitsVector) policy() Policy {
	p := Policy{RequirePolicy: v.InitialExplicitPolicy, InhibitPolicyMapping: v.InitialPolicyMappingInhibit, InhibitAnyPolicy: v.InitialAnyPolicyInhibit}
	for _, name := range v.InitialPolicySet {
		if number, ok := strings.CutPrefix(name, "NIST-test-policy-"); ok {
			p.Policies = append(p.Policies, "2.16.840.1.101.3.2.1.48."+number)
		}
	}
	return p
}

func TestPKITS(t *testing.T) {
	root, err := exec.Command("go", "env", "GOROOT").Output() // the certificates are test data of the toolchain
	if err != nil {
		t.Skip("SKIP peer PKITS absent: " + err.Error())
	}
	dir := filepath.Join(strings.TrimSpace(string(root)), "src/crypto/x509/testdata/nist-pkits")
	raw, err := os.ReadFile(filepath.Join(dir, "vectors.json"))
	if err != nil {
		t.Skip("SKIP peer PKITS absent: " + err.Error())
	}
	var vectors []pkitsVector
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, v := range vectors {
		t.Run(strings.ReplaceAll(v.Name, " ", "_"), func(t *testing.T) {
			for _, s := range pkitsSkips {
				if strings.HasPrefix(v.Name, s.prefix) {
					t.Skip(s.why)
				}
			}
			ran++
			var ders [][]byte
			for _, name := range v.CertPath {
				der, err := os.ReadFile(filepath.Join(dir, "certs", name))
				if err != nil {
					t.Fatal(err)
				}
				ders = append(ders, der)
			}
			got, why := pkitsValid(t, ders, v.policy())
			t.Logf("valid %v %s", got, why)
			if got != v.ShouldValidate {
				t.Errorf("valid = %v, want %v: %s", got, v.ShouldValidate, why)
			}
		})
	}
	if ran < 140 {
		t.Errorf("only %d cases ran", ran)
	}
}

func pkitsValid(t *testing.T, ders [][]byte, p Policy) (bool, string) {
	t.Helper()
	anchor, err := x509.ParseCertificate(ders[0])
	if err != nil {
		t.Fatal(err)
	}
	q := Question{Purpose: Verify, Candidates: ders[len(ders)-1:], Anchors: []*x509.Certificate{anchor}, At: testpki.Now(), Policy: p}
	q.Address, _ = direct.ParseAddress("nobody@pkits.test")
	for _, der := range ders[1 : len(ders)-1] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return false, "an intermediate does not parse: " + err.Error()
		}
		q.Intermediates = append(q.Intermediates, c)
	}
	for _, check := range Evaluate(q).Candidates[0].Checks {
		if check.State != Pass && check.State != Skipped && !slices.Contains(pkitsOff, check.Name) {
			return false, check.Name + ": " + check.Detail
		}
	}
	return true, ""
}
