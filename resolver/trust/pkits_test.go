package trust_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"directnode/internal/spec"
	"directnode/internal/testpki"
	"directnode/resolver/revocation"
	"directnode/resolver/trust"
)

// pkitsOtherwise are the cases of NIST's Public Key Interoperability Test Suite that are decided otherwise than the suite expects, each
// with its reason: all of them by refusing what the suite accepts, but 4.15.4.
var pkitsOtherwise = map[string]string{
	"4.1.4":   "DSA is not supported",
	"4.1.5":   "DSA is not supported",
	"4.14.4":  "crypto/x509 does not parse a distribution point relative to the issuer's name",
	"4.14.5":  "crypto/x509 does not parse a distribution point relative to the issuer's name",
	"4.14.18": "lists by reason are not joined: one that speaks of some reasons never says good",
	"4.14.19": "lists by reason are not joined: one that speaks of some reasons never says good",
	"4.14.22": "indirect lists are not supported",
	"4.14.24": "indirect lists are not supported",
	"4.14.25": "indirect lists are not supported",
	"4.14.28": "indirect lists are not supported, here one of another issuer named by cRLIssuer",
	"4.14.29": "crypto/x509 does not parse a distribution point relative to the issuer's name",
	"4.14.30": "indirect lists are not supported, here one of another issuer named by cRLIssuer",
	"4.14.33": "indirect lists are not supported, here one of another issuer named by cRLIssuer",
	"4.15.4":  "delta lists are not supported: what the complete list says counts until its nextUpdate",
	"4.15.5":  "delta lists are not supported: what the complete list says counts until its nextUpdate",
}

// pkitsOff are the rows that have no counterpart in the suite: its certificates belong to no Direct Address and are for any use.
var pkitsOff = []string{"binding", "key-usage"}

// pkitsVector is one case as the toolchain's file tells it.
type pkitsVector struct {
	Name              string
	CertPath, CRLPath []string
	ShouldValidate    bool
	InitialPolicySet  []string

	InitialPolicyMappingInhibit, InitialExplicitPolicy, InitialAnyPolicyInhibit bool
}

// policy translates the inputs of RFC 5280 §6.1.1.
func (v pkitsVector) policy() trust.Policy {
	p := trust.Policy{RequirePolicy: v.InitialExplicitPolicy, InhibitPolicyMapping: v.InitialPolicyMappingInhibit, InhibitAnyPolicy: v.InitialAnyPolicyInhibit}
	for _, name := range v.InitialPolicySet {
		if number, ok := strings.CutPrefix(name, "NIST-test-policy-"); ok {
			p.Policies = append(p.Policies, "2.16.840.1.101.3.2.1.48."+number)
		}
	}
	return p
}

// TestPKITS runs all 249 cases. The certificates are test data of the toolchain; the lists, which are not, are taken from PKITS_CRLS, from
// where Debian's python3-cryptography-vectors puts them, or from beside the project. Without them the cases run that do not need any.
func TestPKITS(t *testing.T) {
	spec.Covers(t, "AS-4.2.2-a", "AS-4.0-d")
	root, err := exec.Command("go", "env", "GOROOT").Output()
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
	lists, missing := pkitsFolder()
	if missing != nil {
		t.Log("SKIP data pkits absent: " + missing.Error())
	}
	ran := 0
	for _, v := range vectors {
		t.Run(strings.ReplaceAll(v.Name, " ", "_"), func(t *testing.T) {
			number, _, _ := strings.Cut(v.Name, " ")
			if lists == "" && pkitsNeedsLists(number) {
				t.Skip("SKIP data pkits absent")
			}
			ran++
			got, why := pkitsValid(t, v, dir, lists)
			reason, otherwise := pkitsOtherwise[number]
			switch {
			case otherwise && got == v.ShouldValidate:
				t.Errorf("named as decided otherwise (%s), and valid = %v is what the suite expects", reason, got)
			case otherwise:
				t.Logf("valid = %v, and the suite expects %v: %s; %s", got, v.ShouldValidate, reason, why)
			case got != v.ShouldValidate:
				t.Errorf("valid = %v, want %v: %s", got, v.ShouldValidate, why)
			default:
				t.Logf("valid %v %s", got, why)
			}
		})
	}
	t.Logf("%d of %d cases ran, %d decided otherwise", ran, len(vectors), len(pkitsOtherwise))
	if len(vectors) != 249 || lists != "" && ran != len(vectors) || ran < 170 {
		t.Errorf("only %d cases of %d ran", ran, len(vectors))
	}
}

// pkitsNeedsLists names the sections and the cases whose outcome rests on a revocation list.
func pkitsNeedsLists(number string) bool {
	return slices.ContainsFunc([]string{"4.4.", "4.14.", "4.15."}, func(s string) bool { return strings.HasPrefix(number, s) }) ||
		slices.Contains([]string{"4.5.2", "4.5.5", "4.5.7", "4.5.8", "4.7.4", "4.7.5"}, number)
}

// pkitsValid judges the last certificate of a case with the lists of that case and nobody else's.
func pkitsValid(t *testing.T, v pkitsVector, dir, lists string) (bool, string) {
	t.Helper()
	var ders [][]byte
	for _, name := range v.CertPath {
		der, err := os.ReadFile(filepath.Join(dir, "certs", name))
		if err != nil {
			t.Fatal(err)
		}
		ders = append(ders, der)
	}
	anchor, err := x509.ParseCertificate(ders[0])
	if err != nil {
		t.Fatal(err)
	}
	q := trust.Question{Purpose: trust.Verify, Candidates: ders[len(ders)-1:], Anchors: []*x509.Certificate{anchor}, At: testpki.Now(), Policy: v.policy()}
	q.Address = address(t, "nobody@pkits.test")
	for _, der := range ders[1 : len(ders)-1] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return false, "an intermediate does not parse: " + err.Error()
		}
		q.Intermediates = append(q.Intermediates, c)
	}
	if lists != "" {
		q.Revocation, q.Policy.Revocation = pkitsLists(t, v, lists), trust.RevocationStrict
	}
	return trust.EvaluateOtherRows(q, pkitsOff)
}

func pkitsLists(t *testing.T, v pkitsVector, lists string) (l revocation.Lists) {
	t.Helper()
	for _, name := range v.CRLPath {
		raw, err := os.ReadFile(filepath.Join(lists, name))
		if err != nil {
			t.Fatal(err)
		}
		crl, err := revocation.ReadCRL(bytes.NewReader(raw))
		if err != nil {
			t.Logf("%s: %v", name, err)
			continue
		}
		l.CRLs = append(l.CRLs, crl)
	}
	return l
}

// pkitsFolder gives the first folder with lists that belong to the certificates, or why there is none.
func pkitsFolder() (string, error) {
	places := []string{"/usr/lib/python3/dist-packages/cryptography_vectors/x509/PKITS_data/crls", filepath.Join("..", "..", "..", "shared", "data", "pkits", "crls")}
	if named := os.Getenv("PKITS_CRLS"); named != "" {
		places = []string{named}
	}
	var missing []error
	for _, p := range places {
		err := pkitsEdition(p)
		if err == nil {
			return p, nil
		}
		missing = append(missing, err)
	}
	return "", errors.Join(missing...)
}

// pkitsEdition tells whether the lists are those of the certificates: there is an edition of 2001 too, under the same file names.
func pkitsEdition(lists string) error {
	raw, err := os.ReadFile(filepath.Join(lists, "TrustAnchorRootCRL.crl"))
	if err != nil {
		return err
	}
	if !bytes.Contains(raw, []byte("Test Certificates 2011")) {
		return fmt.Errorf("%s: the lists are of the edition before that of the certificates, and of other keys", lists)
	}
	return nil
}
