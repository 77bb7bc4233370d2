package trust_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"directnode/internal/testpki"
	"directnode/resolver/trust"
)

// pathological are questions that were made to be expensive. Each must end as it says within the budget of one candidate; how
// long it takes is told and not judged.
var pathological = []struct {
	name  string
	want  bool   // usable
	check string // the row that refuses, "" = whichever
	build func(t testing.TB, pki *testpki.PKI, q *trust.Question)
}{
	{"mesh of seven levels that leads nowhere", false, "path", func(t testing.TB, pki *testpki.PKI, q *trust.Question) {
		mesh(t, pki, q, 6, 2)
		q.Anchors = []*x509.Certificate{pki.Root("Root").Cert}
	}},
	{"mesh below an anchor that has expired", false, "path-validity", func(t testing.TB, pki *testpki.PKI, q *trust.Question) {
		q.Anchors = []*x509.Certificate{mesh(t, pki, q, 6, 2, testpki.Expired())}
	}},
	{"mesh below an anchor with another key", false, "signature", func(t testing.TB, pki *testpki.PKI, q *trust.Question) {
		mesh(t, pki, q, 6, 2)
		q.Anchors = []*x509.Certificate{pki.Root("Level 6", testpki.WithKey(testpki.RSA2048(7)), testpki.SubjectKeyID([]byte("one"))).Cert}
	}},
	{"mesh below an anchor that permits other names", false, "name-constraints", func(t testing.TB, pki *testpki.PKI, q *trust.Question) {
		q.Anchors = []*x509.Certificate{mesh(t, pki, q, 6, 2, testpki.PermitEmail("other.example.org"))}
	}},
	{"mesh below an anchor that demands a policy", false, "policies", func(t testing.TB, pki *testpki.PKI, q *trust.Question) {
		q.Anchors = []*x509.Certificate{mesh(t, pki, q, 6, 2)}
		q.Policy.RequirePolicy = true
	}},
	{"mesh below an anchor that allows no path", false, "path-length", func(t testing.TB, pki *testpki.PKI, q *trust.Question) {
		q.Anchors = []*x509.Certificate{mesh(t, pki, q, 6, 2, testpki.PathLen(2))}
	}},
	{"mesh below a good anchor", true, "", func(t testing.TB, pki *testpki.PKI, q *trust.Question) {
		q.Anchors = []*x509.Certificate{mesh(t, pki, q, 6, 2)}
	}},
	{"mesh of three levels and four keys below a good anchor", true, "", func(t testing.TB, pki *testpki.PKI, q *trust.Question) {
		q.Anchors = []*x509.Certificate{mesh(t, pki, q, 3, 4)}
	}},
	{"sixty-four issuers of one name and key identifier", false, "signature", func(t testing.TB, pki *testpki.PKI, q *trust.Question) {
		root := pki.Root("Root")
		bob := root.Intermediate("Crowd").Leaf("bob", testpki.Address(bobAddress))
		for i := range 64 {
			q.Intermediates = append(q.Intermediates, root.Intermediate("Crowd", rsaKey(modulus(2048, i), 65537), testpki.SubjectKeyID(bob.Cert.AuthorityKeyId)).Cert)
		}
		q.Candidates, q.Anchors = [][]byte{bob.DER}, []*x509.Certificate{root.Cert}
	}},
	{"a hundred anchors of one name", true, "", func(t testing.TB, pki *testpki.PKI, q *trust.Question) {
		for i := range 100 {
			q.Anchors = append(q.Anchors, pki.Root("Crowd", testpki.WithKey(testpki.RSA2048(i)), testpki.SubjectKeyID([]byte(fmt.Sprint(i)))).Cert)
		}
		root := pki.Root("Crowd")
		q.Anchors = append(q.Anchors, root.Cert)
		q.Candidates = [][]byte{root.Leaf("bob", testpki.Address(bobAddress)).DER}
	}},
	{"a chain of eighty certificates", false, "path", func(t testing.TB, pki *testpki.PKI, q *trust.Question) {
		ca := pki.Root("Root")
		q.Anchors = []*x509.Certificate{ca.Cert}
		for i := range 80 {
			ca = ca.Intermediate(fmt.Sprintf("CA %d", i))
			q.Intermediates = append(q.Intermediates, ca.Cert)
		}
		q.Candidates = [][]byte{ca.Leaf("bob", testpki.Address(bobAddress)).DER}
	}},
	{"loop of self-issued certificates", false, "path", func(t testing.TB, pki *testpki.PKI, q *trust.Question) {
		var keys []*testpki.CA
		for i := range 8 {
			keys = append(keys, pki.Root("Loop", testpki.WithKey(testpki.RSA2048(i)), testpki.SubjectKeyID([]byte("one"))))
		}
		for i, by := range keys {
			q.Intermediates = append(q.Intermediates, by.CrossSign(keys[(i+1)%8]).Cert, by.CrossSign(keys[(i+3)%8]).Cert, by.CrossSign(keys[(i+5)%8]).Cert)
		}
		q.Candidates = [][]byte{keys[0].Leaf("bob", testpki.Address(bobAddress)).DER}
		q.Anchors = []*x509.Certificate{pki.Root("Root").Cert}
	}},
	{"two authorities that certify each other", false, "path", func(t testing.TB, pki *testpki.PKI, q *trust.Question) {
		a, b := pki.Root("A"), pki.Root("B")
		q.Intermediates = []*x509.Certificate{b.CrossSign(a).Cert, a.CrossSign(b).Cert, a.Cert, b.Cert}
		q.Candidates = [][]byte{a.Leaf("bob", testpki.Address(bobAddress)).DER}
	}},
	{"a thousand names and a thousand constraints", false, "name-constraints", func(t testing.TB, pki *testpki.PKI, q *trust.Question) {
		var names, limits []string
		for i := range 1000 {
			names, limits = append(names, fmt.Sprintf("n%d@x.example.org", i)), append(limits, fmt.Sprintf("h%d.example.org", i))
		}
		constrained(pki, q, testpki.ExcludeEmail(limits...), testpki.Address(append(names, bobAddress)...))
	}},
	{"a hundred names and a thousand constraints", false, "name-constraints", func(t testing.TB, pki *testpki.PKI, q *trust.Question) {
		names, limits := []string{bobAddress}, []string{}
		for i := range 98 {
			names = append(names, fmt.Sprintf("n%d@x.example.org", i))
		}
		for i := range 999 {
			limits = append(limits, fmt.Sprintf("h%d.example.org", i))
		}
		constrained(pki, q, testpki.ExcludeEmail(append(limits, "direct.example.org")...), testpki.Address(names...))
	}},
	{"names and constraints of hundreds of labels, through eight issuers", false, "name-constraints", func(t testing.TB, pki *testpki.PKI, q *trust.Question) {
		names, limits := []string{}, []string{}
		for i := range 100 {
			names = append(names, strings.Repeat("a.", 100)+fmt.Sprint("n", i))
			limits = append(limits, strings.Repeat("a.", 100)+fmt.Sprint("h", i))
		}
		root := pki.Root("Root")
		q.Anchors = []*x509.Certificate{root.Cert}
		hisp := root.Intermediate("HISP", testpki.PermitDNS(limits...))
		for range 8 {
			q.Intermediates = append(q.Intermediates, root.CrossSign(hisp, testpki.PermitDNS(limits...)).Cert)
		}
		q.Candidates = [][]byte{hisp.Leaf("bob", testpki.Address(bobAddress), testpki.Domain(names...)).DER}
	}},
	{"a certificate above 64 KiB among the issuers", false, "path", func(t testing.TB, pki *testpki.PKI, q *trust.Question) {
		constrained(pki, q, testpki.Extension(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, false, make([]byte, 70<<10)), testpki.Address(bobAddress))
	}},
	{"an RSA key of 16384 bits above", false, "signature", func(t testing.TB, pki *testpki.PKI, q *trust.Question) {
		hugeKey(pki, q, 16384, 65537)
	}},
	{"an RSA key of 8192 bits with the longest exponent above", false, "signature", func(t testing.TB, pki *testpki.PKI, q *trust.Question) {
		hugeKey(pki, q, 8192, 1<<31-1)
	}},
	{"an RSA key with exponent 1 above", false, "signature", func(t testing.TB, pki *testpki.PKI, q *trust.Question) {
		hugeKey(pki, q, 2048, 1)
	}},
	{"an RSA key of 16384 bits in the certificate", false, "key", func(t testing.TB, pki *testpki.PKI, q *trust.Question) {
		root := pki.Root("Root")
		q.Candidates, q.Anchors = [][]byte{root.Leaf("bob", testpki.Address(bobAddress), rsaKey(modulus(16384, 0), 65537)).DER}, []*x509.Certificate{root.Cert}
	}},
	{"an RSA key with exponent 1 in the certificate", false, "key", func(t testing.TB, pki *testpki.PKI, q *trust.Question) {
		root := pki.Root("Root")
		q.Candidates, q.Anchors = [][]byte{root.Leaf("bob", testpki.Address(bobAddress), rsaKey(modulus(2048, 0), 1)).DER}, []*x509.Certificate{root.Cert}
	}},
	{"thousands of policies in the certificate", false, "policies", func(t testing.TB, pki *testpki.PKI, q *trust.Question) {
		root := pki.Root("Root")
		q.Candidates = [][]byte{root.Leaf("bob", testpki.Address(bobAddress), policies(4000)).DER}
		q.Anchors = []*x509.Certificate{root.Cert}
	}},
	{"ten thousand policies in the anchor", true, "", func(t testing.TB, pki *testpki.PKI, q *trust.Question) {
		root := pki.Root("Root", policies(10_000))
		q.Candidates = [][]byte{root.Leaf("bob", testpki.Address(bobAddress), policies(200)).DER}
		q.Anchors = []*x509.Certificate{root.Cert}
	}},
	{"mappings of every policy to every other, level by level", true, "", func(t testing.TB, pki *testpki.PKI, q *trust.Question) {
		ca := pki.Root("Root")
		q.Anchors = []*x509.Certificate{ca.Cert}
		for i := range 6 {
			ca = ca.Intermediate(fmt.Sprintf("CA %d", i), policies(16), mappings(16))
			q.Intermediates = append(q.Intermediates, ca.Cert)
		}
		q.Candidates = [][]byte{ca.Leaf("bob", testpki.Address(bobAddress), policies(16)).DER}
		q.Policy.RequirePolicy = true
		q.Policy.Policies = []string{"1.3.6.1.4.1.99999.2.7"}
	}},
	{"mappings without end", false, "policies", func(t testing.TB, pki *testpki.PKI, q *trust.Question) {
		constrained(pki, q, testpki.Extension(asn1.ObjectIdentifier{2, 5, 29, 33}, true, mappingsDER(40)), testpki.Address(bobAddress))
	}},
	{"a subject of a thousand attributes", true, "", func(t testing.TB, pki *testpki.PKI, q *trust.Question) {
		var name pkix.Name
		for i := range 1000 {
			name.ExtraNames = append(name.ExtraNames, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 11}, Value: fmt.Sprint("unit ", i)})
		}
		constrained(pki, q, testpki.Subject(name), testpki.Address(bobAddress))
	}},
}

// TestPathologicalQuestionsStayInTheBudget: 64 signatures and 100,000 comparisons for a candidate, whatever it comes with.
// DNS_ROUNDS=N judges each N times and tells the mean.
func TestPathologicalQuestionsStayInTheBudget(t *testing.T) {
	rounds := 1
	if n, err := strconv.Atoi(os.Getenv("DNS_ROUNDS")); err == nil {
		rounds = n
	}
	for _, tc := range pathological {
		t.Run(tc.name, func(t *testing.T) {
			q := trust.Question{Address: address(t, bobAddress), Purpose: trust.Encrypt, At: testpki.Now()}
			tc.build(t, testpki.New(t), &q)
			var c trust.Candidate
			start := time.Now()
			for range rounds {
				c = trust.Evaluate(q).Candidates[0]
			}
			took := time.Since(start) / time.Duration(rounds)
			reason := "usable"
			if r := c.Refusal(); r != nil {
				reason = r.Error()
			}
			t.Logf("%.1f ms, %d signatures, %d comparisons, %d paths: %s", float64(took.Microseconds())/1000, c.Signatures, c.Comparisons, len(c.Paths), reason)
			if c.Usable != tc.want || !tc.want && tc.check != "" && c.Refusal().Check != tc.check {
				t.Errorf("usable %v, %s; want %v %s", c.Usable, reason, tc.want, tc.check)
			}
			if c.Signatures > 64 || c.Comparisons > 100_000 || len(c.Paths) > 49 {
				t.Errorf("%d signatures, %d comparisons, %d paths", c.Signatures, c.Comparisons, len(c.Paths))
			}
		})
	}
}

// mesh makes levels of authorities: each has the same number of keys, and each key of a level is certified by each key of the level
// above, all with one key identifier. It gives the certificate of one key of the top level, made with the options.
func mesh(t testing.TB, pki *testpki.PKI, q *trust.Question, levels, keys int, top ...testpki.Option) *x509.Certificate {
	t.Helper()
	one := testpki.SubjectKeyID([]byte("one"))
	made := map[[2]int]*testpki.CA{}
	at := func(level, key int, opts ...testpki.Option) *testpki.CA {
		if ca := made[[2]int{level, key}]; ca != nil && len(opts) == 0 {
			return ca
		}
		made[[2]int{level, key}] = pki.Root(fmt.Sprintf("Level %d", level), append([]testpki.Option{testpki.WithKey(testpki.RSA2048(key)), one}, opts...)...)
		return made[[2]int{level, key}]
	}
	for level := range levels {
		for key := range keys {
			subject := at(level, key)
			for by := range keys {
				q.Intermediates = append(q.Intermediates, at(level+1, by).CrossSign(subject, one).Cert)
			}
		}
	}
	q.Candidates = [][]byte{at(0, 0).Leaf("bob", testpki.Address(bobAddress)).DER}
	return at(levels, 0, top...).Cert
}

// constrained puts one intermediate with an option between a root and a certificate with another.
func constrained(pki *testpki.PKI, q *trust.Question, above, leaf testpki.Option) {
	root := pki.Root("Root")
	ca := root.Intermediate("CA", above)
	q.Candidates, q.Intermediates, q.Anchors = [][]byte{ca.Leaf("bob", leaf).DER}, []*x509.Certificate{ca.Cert}, []*x509.Certificate{root.Cert}
}

// hugeKey puts an issuer with a key of this kind, of the right name and key identifier, above a certificate.
func hugeKey(pki *testpki.PKI, q *trust.Question, bits, exponent int) {
	root := pki.Root("Root")
	bob := root.Intermediate("CA").Leaf("bob", testpki.Address(bobAddress))
	ca := root.Intermediate("CA", rsaKey(modulus(bits, 1), exponent), testpki.SubjectKeyID(bob.Cert.AuthorityKeyId))
	q.Candidates, q.Intermediates, q.Anchors = [][]byte{bob.DER}, []*x509.Certificate{ca.Cert}, []*x509.Certificate{root.Cert}
}

// modulus gives an odd number of so many bits, another for each i.
func modulus(bits, i int) *big.Int {
	n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
	return n.SetBit(n, 0, 1).SetBit(n, i+2, 1)
}

func policyOID(i int) asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 2, i}
}

// policies writes the first n certificate policies of this test.
func policies(n int) testpki.Option {
	type information struct{ ID asn1.ObjectIdentifier }
	var list []information
	for i := range n {
		list = append(list, information{policyOID(i)})
	}
	return testpki.Extension(asn1.ObjectIdentifier{2, 5, 29, 32}, false, mustMarshal(list, ""))
}

// mappings maps each of n policies to each of them.
func mappings(n int) testpki.Option {
	return testpki.Extension(asn1.ObjectIdentifier{2, 5, 29, 33}, true, mappingsDER(n))
}

func mappingsDER(n int) []byte {
	type mapping struct{ Issuer, Subject asn1.ObjectIdentifier }
	var list []mapping
	for i := range n {
		for j := range n {
			list = append(list, mapping{policyOID(i), policyOID(j)})
		}
	}
	return mustMarshal(list, "")
}

// TestOddEncodings: what the field and attackers write otherwise than RFC 5280 says.
func TestOddEncodings(t *testing.T) {
	w := newWorld(t)
	good := w.hisp.Leaf("bob", testpki.Address(bobAddress))
	long := new(big.Int).Lsh(big.NewInt(1), 8*30)
	for _, tc := range []struct {
		name string
		der  []byte
		row  string // "" = trusted
	}{
		{"a serial number of 0", w.hisp.Leaf("bob", testpki.Address(bobAddress), testpki.Serial(0)).DER, ""},
		{"a negative serial number", serial(t, good.DER, big.NewInt(-5)), "parse"},
		{"a serial number of 31 octets", serial(t, good.DER, long), "signature"}, // read, and the signature over it is of other octets
		{"an octet behind the certificate", append(bytes.Clone(good.DER), 0), "parse"},
		{"an octet missing", good.DER[:len(good.DER)-1], "parse"},
		{"indefinite length", append(append([]byte{0x30, 0x80}, good.DER[4:]...), 0, 0), "parse"},
		{"a length longer than needed", append([]byte{0x30, 0x83, 0, good.DER[2], good.DER[3]}, good.DER[4:]...), "parse"},
		{"an extension twice", twice(t, good.DER), "parse"},
		{"nothing", nil, "parse"},
		{"PEM", good.CertPEM(), "parse"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q := w.question(t, good)
			q.Candidates[0] = tc.der
			c := trust.Evaluate(q).Candidates[0]
			got := ""
			if r := c.Refusal(); r != nil {
				got = r.Check
			}
			if got != tc.row {
				t.Errorf("refused by %q (%v), want %q", got, c.Refusal(), tc.row)
			}
		})
	}
}

// serial writes another serial number into a certificate, and leaves the signature as it was.
func serial(t testing.TB, der []byte, n *big.Int) []byte {
	t.Helper()
	var c certificate
	if _, err := asn1.Unmarshal(der, &c); err != nil {
		t.Fatal(err)
	}
	c.TBS.Serial = asn1.RawValue{FullBytes: mustMarshal(n, "")}
	return mustMarshal(c, "")
}

// certificate is one taken apart as far as these tests change it.
type certificate struct {
	TBS struct {
		Version                                           asn1.RawValue `asn1:"explicit,tag:0"`
		Serial, Algorithm, Issuer, Validity, Subject, Key asn1.RawValue
		Extensions                                        []asn1.RawValue `asn1:"explicit,tag:3"`
	}
	Algorithm asn1.RawValue
	Signature asn1.BitString
}
