package trust_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"testing"

	"directnode/internal/testpki"
	"directnode/resolver/trust"
)

// TestNameConstraintsSeeTheAddressThatIsBound spells an excluded or not permitted address in the ways in which the binding still
// reads it: what is compared for the binding and what is compared for the constraint must be one thing.
func TestNameConstraintsSeeTheAddressThatIsBound(t *testing.T) {
	for _, spelling := range []string{"bob@direct.example.org", "bob@direct.example.org.", `"bob"@direct.example.org`, `"b\ob"@DIRECT.example.org.`} {
		for name, limit := range map[string]testpki.Option{
			"mailbox excluded":        testpki.ExcludeEmail(bobAddress),
			"quoted mailbox excluded": testpki.ExcludeEmail(`"bob"@direct.example.org`),
			"host excluded":           testpki.ExcludeEmail("direct.example.org"),
			"hosts below excluded":    testpki.ExcludeEmail(".example.org"),
		} {
			w := newWorld(t)
			ca := w.root.Intermediate("Limited CA", limit)
			q := w.question(t, ca.Leaf("bob", testpki.Address(spelling)))
			q.Intermediates = []*x509.Certificate{ca.Cert}
			if j := trust.Evaluate(q); len(j.Trusted()) != 0 {
				t.Errorf("%s: %s is trusted", name, spelling)
			}
		}
		w := newWorld(t)
		ca := w.root.Intermediate("Limited CA", testpki.PermitEmail(bobAddress))
		q := w.question(t, ca.Leaf("bob", testpki.Address(spelling)))
		q.Intermediates = []*x509.Certificate{ca.Cert}
		if r := trust.Evaluate(q).Refusal(); r != nil {
			t.Errorf("%s: %v", spelling, r)
		}
	}
}

// publicKey is a key of which only the public half matters.
type publicKey struct{ rsa.PublicKey }

func (k *publicKey) Public() crypto.PublicKey { return &k.PublicKey }

func (*publicKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, fmt.Errorf("no private key")
}

func rsaKey(n *big.Int, e int) testpki.Option {
	return testpki.WithKey(&publicKey{rsa.PublicKey{N: n, E: e}})
}

// TestRSAKeysThatAreNone: one certificate with such a key among the recipients would stop the message for all of them, and to an
// exponent of 1 the content key would go out in clear.
func TestRSAKeysThatAreNone(t *testing.T) {
	n := testpki.RSA2048(0).Public().(*rsa.PublicKey).N
	for name, key := range map[string]testpki.Option{
		"exponent 1":        rsaKey(n, 1),
		"exponent 2":        rsaKey(n, 2),
		"even exponent":     rsaKey(n, 65536),
		"exponent too long": rsaKey(n, 1<<31+1),
		"even modulus":      rsaKey(new(big.Int).Add(n, big.NewInt(1)), 65537),
	} {
		w := newWorld(t)
		good := w.hisp.Leaf("good", testpki.Address(bobAddress))
		j := trust.Evaluate(w.question(t, w.hisp.Leaf("bad", testpki.Address(bobAddress), key), good))
		if got := failing(j.Candidates[0]); !slices.Equal(got, []string{"key"}) {
			t.Errorf("%s: failing rows %v", name, got)
		}
		if got := j.Trusted(); len(got) != 1 || !got[0].Certificate().Equal(good.Cert) {
			t.Errorf("%s: the good certificate beside it is not the one that is trusted", name)
		}
	}
	w := newWorld(t)
	if r := trust.Evaluate(w.question(t, w.hisp.Leaf("bob", testpki.Address(bobAddress), rsaKey(n, 3)))).Refusal(); r != nil {
		t.Errorf("exponent 3: %v", r)
	}
}

// TestLongKeysCostMoreOfTheSearch: a verification with 8192 bits takes forty times one with 2048.
func TestLongKeysCostMoreOfTheSearch(t *testing.T) {
	w := newWorld(t)
	bob := w.root.Intermediate("Crowd").Leaf("bob", testpki.Address(bobAddress))
	q := w.question(t, bob)
	q.Intermediates = nil
	for i := range 40 {
		n := new(big.Int).Lsh(big.NewInt(1), 8191)
		n.SetBit(n, i+1, 1).SetBit(n, 0, 1)
		ca := w.root.Intermediate("Crowd", rsaKey(n, 1<<31-1), testpki.SubjectKeyID(bob.Cert.AuthorityKeyId))
		q.Intermediates = append(q.Intermediates, ca.Cert)
	}
	r := trust.Evaluate(q).Refusal()
	if r == nil || !strings.Contains(r.Detail, "stopped after 8 signatures") {
		t.Errorf("refusal %v", r)
	}
}

func TestReasonsAreShort(t *testing.T) {
	long := strings.Repeat("x", 20_000)
	w := newWorld(t)
	ca := w.root.Intermediate("CA", testpki.Subject(pkix.Name{CommonName: long}), testpki.Expired())
	q := w.question(t, ca.Leaf("bob", testpki.Address(long+"@example.org"), testpki.EmailInDN(long)))
	q.Intermediates = []*x509.Certificate{ca.Cert}
	for _, check := range trust.Evaluate(q).Candidates[0].Checks {
		if len(check.Detail) > 1000 {
			t.Errorf("%s: %d octets of detail", check.Name, len(check.Detail))
		}
	}
}

// unknownExtension is one that nobody knows.
func unknownExtension(critical bool) testpki.Option {
	return testpki.Extension(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, critical, []byte{5, 0})
}
