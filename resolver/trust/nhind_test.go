package trust_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"strings"
	"testing"

	"directnode/internal/testpki"
	"directnode/resolver/trust"
)

// The tests of this file are named after reports of the tracker that the two reference implementations share (nhin-d). Each shows that
// what broke there holds here.

// judgeOne gives the verdict about the only candidate.
func judgeOne(q trust.Question) trust.Candidate { return trust.Evaluate(q).Candidates[0] }

// TestNHIND5_IntermediatesNeedNotBeInStock: there every certificate up to the anchor had to lie in the local store.
func TestNHIND5_IntermediatesNeedNotBeInStock(t *testing.T) {
	w := newAIAWorld(t)
	if c := judgeOne(w.question(t, w.bob)); !c.Usable || len(c.Chain) != 4 {
		t.Errorf("%v", c.Refusal())
	}
}

// TestNHIND87_AddressInTheAlternativeNameAlone: there the subject had to hold the address. 121 is the same of domains.
func TestNHIND87_AddressInTheAlternativeNameAlone(t *testing.T) {
	w := newWorld(t)
	plain := testpki.Subject(pkix.Name{Organization: []string{"Clinic"}})
	if c := judgeOne(w.question(t, w.hisp.Leaf("", plain, testpki.Address(bobAddress)))); !c.Usable || c.Bound != "address" {
		t.Errorf("%v", c.Refusal())
	}
}

func TestNHIND121_DomainInTheAlternativeNameAlone(t *testing.T) {
	w := newWorld(t)
	plain := testpki.Subject(pkix.Name{Organization: []string{"Clinic"}})
	if c := judgeOne(w.question(t, w.hisp.Leaf("", plain, testpki.Domain("direct.example.org")))); !c.Usable || c.Bound != "domain" {
		t.Errorf("%v", c.Refusal())
	}
	// And the subject alone binds nothing, neither by emailAddress nor by common name.
	for _, leaf := range []testpki.Pair{w.hisp.Leaf("direct.example.org"), w.hisp.Leaf("bob", testpki.EmailInDN(bobAddress)), w.hisp.Leaf(bobAddress)} {
		if c := judgeOne(w.question(t, leaf)); c.Usable || c.Refusal().Check != "binding" {
			t.Errorf("%s: usable %v", leaf.Cert.Subject, c.Usable)
		}
	}
}

// TestNHIND146_AnAnchorNeedNotBeSelfSigned: there nothing but a self-signed certificate could be an anchor.
func TestNHIND146_AnAnchorNeedNotBeSelfSigned(t *testing.T) {
	w := newWorld(t)
	bob := w.hisp.Leaf("bob", testpki.Address(bobAddress))
	for _, anchor := range []*x509.Certificate{bob.Cert, w.hisp.Cert} {
		q := w.question(t, bob)
		q.Anchors, q.Intermediates = []*x509.Certificate{anchor}, nil
		if c := judgeOne(q); !c.Usable || !c.Anchor.Equal(anchor) {
			t.Errorf("%s: %v", anchor.Subject, c.Refusal())
		}
	}
}

// TestNHIND156_AcceptedPoliciesAreConfigured: there a circle of trust could not tell certificates of one root apart by policy.
func TestNHIND156_AcceptedPoliciesAreConfigured(t *testing.T) {
	w := newWorld(t)
	hisp := w.root.Intermediate("HISP CA", policies(3)) // …99999.2.0 to …99999.2.2
	bob := hisp.Leaf("bob", testpki.Address(bobAddress), policies(2))
	for _, tc := range []struct {
		accepted []string
		required bool
		want     bool
	}{
		{nil, false, true}, {nil, true, true},
		{[]string{"1.3.6.1.4.1.99999.2.1"}, true, true},
		{[]string{"1.3.6.1.4.1.99999.2.2"}, true, false}, // of the authority, and not of the certificate
		{[]string{"1.3.6.1.4.1.99999.2.9"}, true, false},
		{[]string{"1.3.6.1.4.1.99999.2.9", "1.3.6.1.4.1.99999.2.0"}, true, true},
		{[]string{"2.5.29.32.0"}, true, true},
		{[]string{"1.3.6.1.4.1.99999.2.9"}, false, true}, // preferred, and not demanded
	} {
		q := w.question(t, bob)
		q.Intermediates = []*x509.Certificate{hisp.Cert}
		q.Policy.Policies, q.Policy.RequirePolicy = tc.accepted, tc.required
		if c := judgeOne(q); c.Usable != tc.want || !tc.want && c.Refusal().Check != "policies" {
			t.Errorf("%v, required %v: usable %v: %v", tc.accepted, tc.required, c.Usable, c.Refusal())
		}
	}
}

// TestNHIND174_AnyOfSeveralNamesBinds: there the first dNSName counted, which was a wildcard.
func TestNHIND174_AnyOfSeveralNamesBinds(t *testing.T) {
	w := newWorld(t)
	if c := judgeOne(w.question(t, w.hisp.Leaf("org", testpki.Domain("*.direct.example.org", "x.example", "direct.example.org")))); !c.Usable || c.Bound != "domain" {
		t.Errorf("%v", c.Refusal())
	}
}

// TestNHIND202_ARefusalNamesItsReason: there the whole of the answer was NoTrustedRecipients.
func TestNHIND202_ARefusalNamesItsReason(t *testing.T) {
	for _, tc := range oneBroken {
		c := judgeOne(tc.build(t, newWorld(t)))
		r := c.Refusal()
		if r == nil || r.Check == "" || r.Citation == "" || r.Detail == "" || strings.Contains(r.Detail, "%!") {
			t.Errorf("%s: %+v", tc.name, r)
		}
		if c.Certificate != nil && len(c.Paths) == 0 {
			t.Errorf("%s: no path is told", tc.name)
		}
	}
}

// TestNHIND212_SeveralIntermediatesMakeOnePath, whatever else of the same names lies around.
func TestNHIND212_SeveralIntermediatesMakeOnePath(t *testing.T) {
	w := newAIAWorld(t)
	q := w.question(t, w.bob)
	q.Intermediates = []*x509.Certificate{w.pki.Root("B").Cert, w.root.Cert, w.pki.Root("A").Cert, w.a.Cert, w.b.Cert, w.pki.Root("Noise").Cert}
	if c := judgeOne(q); !c.Usable || len(c.Chain) != 4 || len(c.Fetches) != 0 {
		t.Errorf("%v, %d fetches", c.Refusal(), len(c.Fetches))
	}
}

// TestNHIND214_ACertificateOfSomebodyElseIsRefused: there a trusted certificate of another domain could sign.
func TestNHIND214_ACertificateOfSomebodyElseIsRefused(t *testing.T) {
	w := newWorld(t)
	for _, names := range [][]testpki.Option{{testpki.Domain("other.example.org")}, {testpki.Address("bob@other.example.org")}, {testpki.Address("eve@direct.example.org")},
		{testpki.Domain("example.org")}, {testpki.Domain("x.direct.example.org")}, {testpki.Domain("*.example.org")}} {
		for _, purpose := range []trust.Purpose{trust.Encrypt, trust.Verify} {
			q := w.question(t, w.hisp.Leaf("x", names...))
			q.Purpose = purpose
			if c := judgeOne(q); c.Usable || c.Refusal().Check != "binding" {
				t.Errorf("%v: usable %v", c.Certificate.DNSNames, c.Usable)
			}
		}
	}
}

// TestNHIND216_IssuersAreFoundByAIA: there only the root was loaded, and the path failed.
func TestNHIND216_IssuersAreFoundByAIA(t *testing.T) {
	w := newAIAWorld(t)
	q := w.question(t, w.bob)
	if c := judgeOne(q); !c.Usable || len(c.Fetches) != 2 {
		t.Errorf("%v, fetches %v", c.Refusal(), c.Fetches)
	}
	q.Issuers = nil
	if c := judgeOne(q); c.Usable || c.Refusal().Check != "path" {
		t.Errorf("without anybody to ask: usable %v", c.Usable)
	}
}

// bag gives what a file of certificates holds for every certificate.
type bag []byte

func (b bag) Issuers(context.Context, *x509.Certificate) ([]*x509.Certificate, []trust.Fetch) {
	certs, err := trust.ParseCertificates(b)
	f := trust.Fetch{URL: "http://pki.example/issued.p7c", Outcome: "ok", Certificates: len(certs)}
	if err != nil {
		f.Outcome = err.Error()
	}
	return certs, []trust.Fetch{f}
}

// TestNHIND236_IssuersComeInMessagesToo: there a ".p7c" could not be read.
func TestNHIND236_IssuersComeInMessagesToo(t *testing.T) {
	w := newAIAWorld(t)
	noise := w.pki.Root("Noise")
	for name, body := range map[string][]byte{"DER": certsOnly(noise.DER, w.a.DER, w.b.DER), "PEM": armor("PKCS7", certsOnly(w.b.DER, w.a.DER, noise.DER))} {
		q := w.question(t, w.bob)
		q.Issuers = bag(body)
		if c := judgeOne(q); !c.Usable || len(c.Fetches) != 1 {
			t.Errorf("%s: %v, %d fetches", name, c.Refusal(), len(c.Fetches))
		}
	}
}

// TestNHIND244_NothingIsFetchedBelowAnAnchor: there issuers were looked for although the anchor had issued the certificate.
func TestNHIND244_NothingIsFetchedBelowAnAnchor(t *testing.T) {
	w := newAIAWorld(t)
	for _, anchor := range []*x509.Certificate{w.b.Cert, w.bob.Cert} {
		q := w.question(t, w.bob)
		q.Anchors = []*x509.Certificate{anchor}
		if c := judgeOne(q); !c.Usable || len(w.places.asked) != 0 {
			t.Errorf("%v, asked for %v", c.Refusal(), w.places.asked)
		}
	}
}

// TestNHIND277_AnIntermediateAnchorEndsThePath: there the path went on to the root, which was no anchor.
func TestNHIND277_AnIntermediateAnchorEndsThePath(t *testing.T) {
	w := newAIAWorld(t)
	q := w.question(t, w.bob)
	q.Intermediates = []*x509.Certificate{w.root.Cert, w.a.Cert, w.b.Cert}
	q.Anchors = []*x509.Certificate{w.a.Cert}
	if c := judgeOne(q); !c.Usable || len(c.Chain) != 3 || !c.Anchor.Equal(w.a.Cert) {
		t.Errorf("%v", c.Refusal())
	}
}

// TestNHIND285_AnUnknownStatusIsNotGood: there a list that could not be had stood for "not revoked", as in 211.
func TestNHIND285_AnUnknownStatusIsNotGood(t *testing.T) {
	w := newWorld(t)
	for _, mode := range []trust.RevocationMode{"", trust.RevocationStrict, trust.RevocationGrace, trust.RevocationSoft} {
		q := w.question(t, w.hisp.Leaf("bob", testpki.Address(bobAddress)))
		q.Revocation, q.Policy.Revocation = &statuses{}, mode
		c := judgeOne(q)
		if got := state(c, "revocation"); got != trust.Undetermined {
			t.Errorf("%q: the row says %s", mode, got)
		}
		if c.Usable != (mode == trust.RevocationSoft) {
			t.Errorf("%q: usable %v", mode, c.Usable)
		}
	}
}

// TestAKeyIdentifierIsNoIdentity: the Java implementation takes a certificate for an anchor whose key identifier is that of one.
func TestAKeyIdentifierIsNoIdentity(t *testing.T) {
	w := newWorld(t)
	for _, anchor := range []*testpki.CA{w.root, w.hisp} {
		q := w.question(t, w.pki.SelfSigned("bob", testpki.Address(bobAddress), testpki.SubjectKeyID(anchor.Cert.SubjectKeyId), testpki.Subject(anchor.Cert.Subject)))
		q.Anchors = append(q.Anchors, anchor.Cert)
		if c := judgeOne(q); c.Usable || c.Anchor != nil {
			t.Errorf("%s: usable %v", anchor.Cert.Subject, c.Usable)
		}
	}
}
