package trust_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"directnode/internal/direct"
	"directnode/internal/spec"
	"directnode/internal/testpki"
	"directnode/resolver/trust"
)

const bobAddress = "bob@direct.example.org"

func address(t testing.TB, s string) direct.Address {
	t.Helper()
	a, err := direct.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// world is the hierarchy that most tests break in one place: root → hisp → leaf.
type world struct {
	pki        *testpki.PKI
	root, hisp *testpki.CA
}

func newWorld(t testing.TB) world {
	pki := testpki.New(t)
	root := pki.Root("Root")
	return world{pki, root, root.Intermediate("HISP CA")}
}

func (w world) question(t testing.TB, leaves ...testpki.Pair) trust.Question {
	q := trust.Question{
		Address: address(t, bobAddress), Purpose: trust.Encrypt, At: testpki.Now(),
		Intermediates: []*x509.Certificate{w.hisp.Cert}, Anchors: []*x509.Certificate{w.root.Cert},
	}
	for _, l := range leaves {
		q.Candidates = append(q.Candidates, l.DER)
	}
	return q
}

// failing lists the rows of a candidate that did not pass and were not skipped.
func failing(c trust.Candidate) []string {
	var names []string
	for _, r := range c.Checks {
		if r.State == trust.Fail || r.State == trust.Undetermined {
			names = append(names, r.Name)
		}
	}
	return names
}

func state(c trust.Candidate, name string) trust.State {
	for _, r := range c.Checks {
		if r.Name == name {
			return r.State
		}
	}
	return "no such row"
}

func TestGoodCertificateIsTrusted(t *testing.T) {
	spec.Covers(t, "AS-4.0-a", "AS-4.2.2-a", "AS-4.2.2-f")
	w := newWorld(t)
	bob := w.hisp.Leaf("bob", testpki.Address(bobAddress))
	j := trust.Evaluate(w.question(t, bob))
	if r := j.Refusal(); r != nil {
		t.Fatal(r)
	}
	got := j.Trusted()
	if len(got) != 1 {
		t.Fatalf("%d trusted", len(got))
	}
	tr := got[0]
	if !tr.Certificate().Equal(bob.Cert) || !tr.Anchor().Equal(w.root.Cert) || len(tr.Chain()) != 3 ||
		tr.Address().String() != bobAddress || tr.Purpose() != trust.Encrypt || !tr.At().Equal(testpki.Now()) {
		t.Errorf("Trusted holds something else: %v", tr)
	}
	c := j.Candidates[0]
	if !c.Usable || c.Bound != "address" || c.SHA256 != bob.SHA256() || !c.Anchor.Equal(w.root.Cert) {
		t.Errorf("candidate: %+v", c)
	}
	for _, r := range c.Checks {
		if r.Name == "" || r.Level == "" || r.Citation == "" {
			t.Errorf("row without name, level or citation: %+v", r)
		}
	}
}

func TestPurposesHaveNames(t *testing.T) {
	for p, want := range map[trust.Purpose]string{trust.Encrypt: "encrypt", trust.Verify: "verify", 0: "none"} {
		if p.String() != want {
			t.Errorf("purpose %d is %q", p, p)
		}
	}
}

func TestCheckNamesAreTheRowsInOrder(t *testing.T) {
	w := newWorld(t)
	var got []string
	for _, r := range trust.Evaluate(w.question(t, w.hisp.Leaf("bob"))).Candidates[0].Checks {
		got = append(got, r.Name)
	}
	if !slices.Equal(got, trust.CheckNames()) {
		t.Errorf("rows %v, names %v", got, trust.CheckNames())
	}
}

func TestZeroTrustedIsEmpty(t *testing.T) {
	var zero trust.Trusted
	if zero.Certificate() != nil || zero.Anchor() != nil || len(zero.Chain()) != 0 {
		t.Error("a Trusted that Evaluate did not make holds a certificate")
	}
}

// oneBroken breaks one rule at a time: exactly the rows named may fail, the first gives the refusal.
var oneBroken = []struct {
	name  string
	ids   []string
	rows  string // failing rows, first = refusal
	kind  trust.Kind
	build func(t *testing.T, w world) trust.Question
}{
	{"garbage is no certificate", nil, "parse", trust.Invalid, func(t *testing.T, w world) trust.Question {
		q := w.question(t)
		q.Candidates = [][]byte{[]byte("not DER")}
		return q
	}},
	{"huge certificate", nil, "parse", trust.Invalid, func(t *testing.T, w world) trust.Question {
		big := testpki.Extension(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, false, make([]byte, 70<<10))
		return w.question(t, w.hisp.Leaf("bob", testpki.Address(bobAddress), big))
	}},
	{"expired leaf", []string{"AS-4.0-b"}, "validity", trust.Invalid, leaf(testpki.Address(bobAddress), testpki.Expired())},
	{"leaf of the future", []string{"AS-4.0-b"}, "validity", trust.Invalid, leaf(testpki.Address(bobAddress), testpki.NotYetValid())},
	{"another address", []string{"AS-4.0-e", "AS-4.1-a", "AS-4.1.1-a"}, "binding", trust.Invalid, leaf(testpki.Address("mallory@direct.example.org"))},
	{"no subjectAltName", []string{"AS-4.1.1-a"}, "binding", trust.Invalid, leaf()},
	{"address in the subject only", []string{"AS-4.1.1-c"}, "binding", trust.Invalid, leaf(testpki.EmailInDN(bobAddress))},
	{"other address in the subject", []string{"AS-4.1.1-c"}, "binding", trust.Invalid, leaf(testpki.Address(bobAddress), testpki.EmailInDN("x@direct.example.org"))},
	{"two subject addresses, one wrong", []string{"AS-4.1.1-c"}, "binding", trust.Invalid,
		leaf(testpki.Address(bobAddress), testpki.EmailInDN(bobAddress), testpki.EmailInDN("x@direct.example.org"))},
	{"parent domain", []string{"AS-4.1.2-a"}, "binding", trust.Invalid, leaf(testpki.Domain("example.org"))},
	{"child domain", []string{"AS-4.1.2-a"}, "binding", trust.Invalid, leaf(testpki.Domain("x.direct.example.org"))},
	{"wildcard domain", []string{"AS-4.1.2-a"}, "binding", trust.Invalid, leaf(testpki.Domain("*.example.org"))},
	{"domain as rfc822Name of another host", nil, "binding", trust.Invalid, leaf(testpki.Address("bob@example.org"))},
	{"domain in the common name only", []string{"AS-4.1-c"}, "binding", trust.Invalid, leaf(testpki.Subject(pkix.Name{CommonName: "direct.example.org"}))},
	{"RSA-1024 leaf", nil, "key", trust.Invalid, leaf(testpki.Address(bobAddress), testpki.WithKey(testpki.RSA1024()))},
	{"Ed25519 key", nil, "key", trust.Invalid, leaf(testpki.Address(bobAddress), testpki.WithKey(ed25519.NewKeyFromSeed(make([]byte, 32))))},
	{"RSA-2048 where 3072 are wanted", nil, "key path-keys", trust.Invalid, func(t *testing.T, w world) trust.Question {
		q := w.question(t, w.hisp.Leaf("bob", testpki.Address(bobAddress)))
		q.Policy.MinRSABits = 3072
		return q
	}},
	{"ECDSA key to encrypt to", nil, "key", trust.Invalid,
		leaf(testpki.Address(bobAddress), testpki.WithKey(testpki.P256()), testpki.KeyUsage(x509.KeyUsageKeyEncipherment))},
	{"signing half of a pair, to encrypt", []string{"AS-4.1.3-b"}, "key-usage", trust.Invalid, leaf(testpki.Address(bobAddress), testpki.SignOnly())},
	{"encryption half of a pair, to verify", []string{"AS-4.1.3-b"}, "key-usage", trust.Invalid, func(t *testing.T, w world) trust.Question {
		q := w.question(t, w.hisp.Leaf("bob", testpki.Address(bobAddress), testpki.EncryptOnly()))
		q.Purpose = trust.Verify
		return q
	}},
	{"no purpose", nil, "key-usage", trust.Invalid, func(t *testing.T, w world) trust.Question {
		q := w.question(t, w.hisp.Leaf("bob", testpki.Address(bobAddress)))
		q.Purpose = 0
		return q
	}},
	{"SHA-1 leaf", []string{"AS-4.0-c"}, "signature-algorithm", trust.Invalid, leaf(testpki.Address(bobAddress), testpki.SHA1())},
	{"MD5 leaf", []string{"AS-4.0-c"}, "signature-algorithm signature path", trust.Invalid, leaf(testpki.Address(bobAddress), testpki.MD5())},
	{"SHA-1 intermediate", []string{"AS-4.0-c"}, "signature-algorithm", trust.Invalid, intermediate(testpki.SHA1())},
	{"flipped bit in the leaf's signature", []string{"AS-4.0-c"}, "signature path", trust.Invalid, leaf(testpki.Address(bobAddress), testpki.BadSignature())},
	{"flipped bit in the intermediate's signature", []string{"AS-4.0-c", "AS-4.2.2-a"}, "signature path", trust.Invalid, intermediate(testpki.BadSignature())},
	{"unknown issuer", []string{"AS-4.2.3-d"}, "path", trust.Untrusted, func(t *testing.T, w world) trust.Question {
		q := w.question(t, w.hisp.Leaf("bob", testpki.Address(bobAddress)))
		q.Intermediates = nil
		return q
	}},
	{"complete chain to a root that is no anchor", []string{"AS-4.0-f", "AS-4.2.2-c", "AS-4.2.3-h"}, "path", trust.Untrusted, func(t *testing.T, w world) trust.Question {
		q := w.question(t, w.hisp.Leaf("bob", testpki.Address(bobAddress)))
		q.Intermediates = append(q.Intermediates, w.root.Cert)
		q.Anchors = []*x509.Certificate{w.pki.Root("Other").Cert}
		return q
	}},
	{"no anchors at all", []string{"AS-4.2.3-h"}, "path", trust.Untrusted, func(t *testing.T, w world) trust.Question {
		q := w.question(t, w.hisp.Leaf("bob", testpki.Address(bobAddress)))
		q.Intermediates = append(q.Intermediates, w.root.Cert)
		q.Anchors = nil
		return q
	}},
	{"anchor of equal name and key identifier, other key", []string{"AS-4.2.3-b"}, "signature path", trust.Invalid, func(t *testing.T, w world) trust.Question {
		q := w.question(t, w.hisp.Leaf("bob", testpki.Address(bobAddress)))
		q.Anchors = []*x509.Certificate{w.pki.Root("Root", testpki.SubjectKeyID(w.root.Cert.SubjectKeyId)).Cert}
		return q
	}},
	{"anchor of equal name, other key identifier", []string{"AS-4.2.3-b"}, "path", trust.Untrusted, func(t *testing.T, w world) trust.Question {
		q := w.question(t, w.hisp.Leaf("bob", testpki.Address(bobAddress)))
		q.Anchors = []*x509.Certificate{w.pki.Root("Root").Cert}
		return q
	}},
	{"self-signed leaf that is no anchor", []string{"AS-4.2.3-k"}, "path", trust.Untrusted, func(t *testing.T, w world) trust.Question {
		return w.question(t, w.pki.SelfSigned("bob", testpki.Address(bobAddress)))
	}},
	{"leaf forged with the key identifier of an anchor", []string{"AS-4.2.3-b"}, "path", trust.Untrusted, func(t *testing.T, w world) trust.Question {
		return w.question(t, w.pki.SelfSigned("bob", testpki.Address(bobAddress), testpki.SubjectKeyID(w.root.Cert.SubjectKeyId)))
	}},
	{"anchor leaf with other bytes", []string{"AS-4.2.3-k"}, "basic-constraints issuer-key-usage", trust.Untrusted, func(t *testing.T, w world) trust.Question {
		key := testpki.RSA2048(0)
		q := w.question(t, w.pki.SelfSigned("bob", testpki.Address(bobAddress), testpki.WithKey(key)))
		q.Anchors = []*x509.Certificate{w.pki.SelfSigned("bob", testpki.Address(bobAddress), testpki.WithKey(key)).Cert}
		return q
	}},
	{"expired intermediate", []string{"AS-4.0-b", "AS-4.2.3-f"}, "path-validity", trust.Invalid, intermediate(testpki.Expired())},
	{"expired anchor", []string{"AS-4.2.3-f"}, "path-validity", trust.Invalid, func(t *testing.T, w world) trust.Question {
		root := w.pki.Root("Old Root", testpki.Expired())
		q := w.question(t, root.Leaf("bob", testpki.Address(bobAddress)))
		q.Anchors = []*x509.Certificate{root.Cert}
		return q
	}},
	{"RSA-1024 intermediate", nil, "path-keys", trust.Untrusted, intermediate(testpki.WithKey(testpki.RSA1024()))},
	{"intermediate with cA false", []string{"AS-4.2.2-a"}, "basic-constraints", trust.Untrusted, intermediate(testpki.NotCA())},
	{"intermediate without basicConstraints", []string{"AS-4.2.2-a"}, "basic-constraints", trust.Untrusted, intermediate(testpki.NoBasicConstraints())},
	{"certificate of a user as issuer", nil, "basic-constraints issuer-key-usage", trust.Untrusted,
		intermediate(testpki.NoBasicConstraints(), testpki.KeyUsage(x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment))},
	{"path length exceeded", []string{"AS-4.2.2-a"}, "path-length", trust.Untrusted, func(t *testing.T, w world) trust.Question {
		root := w.pki.Root("Short", testpki.PathLen(0))
		sub := root.Intermediate("Sub")
		q := w.question(t, sub.Leaf("bob", testpki.Address(bobAddress)))
		q.Anchors, q.Intermediates = []*x509.Certificate{root.Cert}, []*x509.Certificate{sub.Cert}
		return q
	}},
	{"intermediate without keyCertSign", nil, "issuer-key-usage", trust.Untrusted, intermediate(testpki.KeyUsage(x509.KeyUsageCRLSign))},
	{"name outside the permitted subtree", nil, "name-constraints", trust.Untrusted, intermediate(testpki.PermitEmail("other.example.org"))},
	{"name in an excluded subtree", nil, "name-constraints", trust.Untrusted, intermediate(testpki.ExcludeEmail(bobAddress))},
	{"unknown critical extension in the leaf", nil, "critical-extensions", trust.Untrusted,
		leaf(testpki.Address(bobAddress), testpki.Extension(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, true, []byte{5, 0}))},
	{"unknown critical extension above", nil, "critical-extensions", trust.Untrusted,
		intermediate(testpki.Extension(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, true, []byte{5, 0}))},
	{"explicit policy demanded, none there", nil, "policies", trust.Untrusted,
		intermediate(testpki.Extension(asn1.ObjectIdentifier{2, 5, 29, 36}, true, []byte{0x30, 3, 0x80, 1, 0}))},
	{"legacy emailAddress under as-1.3", nil, "profile", trust.Invalid, strict(testpki.Address(bobAddress), testpki.EmailInDN(bobAddress), testpki.CRLDP("http://crl.example/x"))},
	{"wildcard beside the address under as-1.3", nil, "profile", trust.Invalid,
		strict(testpki.Address(bobAddress), testpki.Domain("*.direct.example.org"), testpki.CRLDP("http://crl.example/x"))},
	{"no distribution point under as-1.3", nil, "profile", trust.Invalid, strict(testpki.Address(bobAddress))},
	{"an extension twice", nil, "parse", trust.Invalid, func(t *testing.T, w world) trust.Question {
		q := w.question(t)
		q.Candidates = [][]byte{twice(t, w.hisp.Leaf("bob", testpki.Address(bobAddress)).DER)}
		return q
	}},
}

// strict is leaf under as-1.3.
func strict(opts ...testpki.Option) func(*testing.T, world) trust.Question {
	return func(t *testing.T, w world) trust.Question {
		q := w.question(t, w.hisp.Leaf("bob", opts...))
		q.Policy.Profile = trust.AS13
		return q
	}
}

// twice repeats the first extension of a certificate (RFC 5280 §4.2 allows one of a kind). The signature does not fit any more, which
// a parser does not look at.
func twice(t testing.TB, der []byte) []byte {
	var c certificate
	if _, err := asn1.Unmarshal(der, &c); err != nil {
		t.Fatal(err)
	}
	c.TBS.Extensions = append(c.TBS.Extensions, c.TBS.Extensions[0])
	return mustMarshal(c, "")
}

func leaf(opts ...testpki.Option) func(*testing.T, world) trust.Question {
	return func(t *testing.T, w world) trust.Question { return w.question(t, w.hisp.Leaf("bob", opts...)) }
}

func intermediate(opts ...testpki.Option) func(*testing.T, world) trust.Question {
	return func(t *testing.T, w world) trust.Question {
		ca := w.root.Intermediate("Broken CA", opts...)
		q := w.question(t, ca.Leaf("bob", testpki.Address(bobAddress)))
		q.Intermediates = []*x509.Certificate{ca.Cert}
		return q
	}
}

func TestOneBrokenRuleRefuses(t *testing.T) {
	for _, tc := range oneBroken {
		t.Run(tc.name, func(t *testing.T) {
			spec.Covers(t, tc.ids...)
			j := trust.Evaluate(tc.build(t, newWorld(t)))
			if got := strings.Join(failing(j.Candidates[0]), " "); got != tc.rows {
				t.Errorf("failing rows %q, want %q", got, tc.rows)
			}
			if len(j.Trusted()) != 0 || j.Candidates[0].Usable {
				t.Error("trusted all the same")
			}
			r := j.Refusal()
			first, _, _ := strings.Cut(tc.rows, " ")
			if r == nil || r.Check != first || r.Kind != tc.kind || r.Detail == "" || r.Citation == "" {
				t.Errorf("refusal %+v, want check %s kind %s with detail and citation", r, first, tc.kind)
			}
		})
	}
}

func TestEveryRowIsBrokenByOneCertificate(t *testing.T) {
	w := newWorld(t)
	broken := map[string]bool{"extended-key-usage": true, "revocation": true, "count": true} // never fails; TestRevocationByPolicy; TestTooManyCandidates
	for _, tc := range oneBroken {
		first, _, _ := strings.Cut(tc.rows, " ")
		broken[first] = true
	}
	for _, r := range trust.Evaluate(w.question(t, w.hisp.Leaf("bob"))).Candidates[0].Checks {
		if !broken[r.Name] {
			t.Errorf("no certificate breaks the row %s", r.Name)
		}
	}
}

// stillGood are certificates that look odd and must be accepted.
func TestOddButGoodIsTrusted(t *testing.T) {
	for _, tc := range []struct {
		name, address string
		ids           []string
		purpose       trust.Purpose
		opts          []testpki.Option
	}{
		{"case of the address", "BOB@DIRECT.example.ORG", []string{"AS-4.1.1-a", "AS-4.1.1-b"}, trust.Encrypt, []testpki.Option{testpki.Address("Bob@Direct.Example.ORG")}},
		{"one of several names", bobAddress, []string{"AS-4.1-d"}, trust.Encrypt,
			[]testpki.Option{testpki.Address("a@b.example", bobAddress, "c@d.example"), testpki.Domain("x.example", "y.example")}},
		{"same address in the subject", bobAddress, []string{"AS-4.1.1-c"}, trust.Encrypt, []testpki.Option{testpki.Address(bobAddress), testpki.EmailInDN("BOB@direct.example.org")}},
		{"domain certificate", bobAddress, []string{"AS-4.1.2-a"}, trust.Encrypt, []testpki.Option{testpki.Domain("DIRECT.Example.org")}},
		{"domain certificate with emailAddress", bobAddress, []string{"AS-4.1.2-a"}, trust.Encrypt,
			[]testpki.Option{testpki.Domain("direct.example.org"), testpki.EmailInDN("direct.example.org")}},
		{"no keyUsage", bobAddress, []string{"AS-4.1.3-d"}, trust.Encrypt, []testpki.Option{testpki.Address(bobAddress), testpki.KeyUsage(0)}},
		{"extended key usage of a web server", bobAddress, []string{"AS-4.1.3-c"}, trust.Encrypt,
			[]testpki.Option{testpki.Address(bobAddress), testpki.ExtKeyUsage(x509.ExtKeyUsageServerAuth)}},
		{"encryption half of a pair", bobAddress, nil, trust.Encrypt, []testpki.Option{testpki.Address(bobAddress), testpki.EncryptOnly()}},
		{"signing half of a pair", bobAddress, nil, trust.Verify, []testpki.Option{testpki.Address(bobAddress), testpki.SignOnly()}},
		{"nonRepudiation alone signs", bobAddress, nil, trust.Verify, []testpki.Option{testpki.Address(bobAddress), testpki.KeyUsage(x509.KeyUsageContentCommitment)}},
		{"RSA-4096", bobAddress, []string{"AS-4.1.3-d"}, trust.Encrypt, []testpki.Option{testpki.Address(bobAddress), testpki.WithKey(testpki.RSA4096())}},
		{"P-256 signs", bobAddress, []string{"AS-4.1.3-d"}, trust.Verify, []testpki.Option{testpki.Address(bobAddress), testpki.WithKey(testpki.P256())}},
		{"P-384 signs", bobAddress, []string{"AS-4.1.3-d"}, trust.Verify, []testpki.Option{testpki.Address(bobAddress), testpki.WithKey(testpki.P384())}},
		{"empty subject", bobAddress, []string{"AS-4.1.3-d"}, trust.Encrypt, []testpki.Option{testpki.Address(bobAddress), testpki.Subject(pkix.Name{})}},
		{"unknown extension, not critical", bobAddress, []string{"AS-4.1-d"}, trust.Encrypt,
			[]testpki.Option{testpki.Address(bobAddress), testpki.Extension(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, false, []byte{5, 0})}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			spec.Covers(t, tc.ids...)
			w := newWorld(t)
			q := w.question(t, w.hisp.Leaf("bob", tc.opts...))
			q.Address, q.Purpose = address(t, tc.address), tc.purpose
			if r := trust.Evaluate(q).Refusal(); r != nil {
				t.Error(r)
			}
		})
	}
}

func TestValidityEndsAreInside(t *testing.T) {
	spec.Covers(t, "AS-4.0-b")
	from, to := testpki.Now(), testpki.Now().Add(time.Hour)
	for _, part := range []string{"leaf", "intermediate", "anchor"} {
		w := newWorld(t)
		valid := testpki.Valid(from, to)
		address := testpki.Address(bobAddress)
		q := w.question(t, w.hisp.Leaf("bob", address, valid))
		switch part {
		case "intermediate":
			ca := w.root.Intermediate("CA", valid)
			q = w.question(t, ca.Leaf("bob", address))
			q.Intermediates = []*x509.Certificate{ca.Cert}
		case "anchor":
			root := w.pki.Root("R", valid)
			q = w.question(t, root.Leaf("bob", address))
			q.Anchors = []*x509.Certificate{root.Cert}
		}
		for _, moment := range []struct {
			at   time.Time
			want bool
		}{{from.Add(-time.Second), false}, {from, true}, {to, true}, {to.Add(time.Second), false}} {
			q.At = moment.at
			if got := len(trust.Evaluate(q).Trusted()) == 1; got != moment.want {
				t.Errorf("%s at %v: trusted %v", part, moment.at.Sub(from), got)
			}
		}
	}
}

func TestAnchorMayStandAnywhere(t *testing.T) {
	spec.Covers(t, "AS-4.2.2-c", "AS-4.2.3-b", "AS-4.2.3-g", "AS-4.2.3-i")
	w := newWorld(t)
	bob := w.hisp.Leaf("bob", testpki.Address(bobAddress))
	for want, anchor := range []*x509.Certificate{bob.Cert, w.hisp.Cert, w.root.Cert} {
		q := w.question(t, bob)
		q.Anchors = []*x509.Certificate{anchor}
		got := trust.Evaluate(q).Trusted()
		if len(got) != 1 || len(got[0].Chain()) != want+1 || !got[0].Anchor().Equal(anchor) {
			t.Errorf("anchor %s: %v", anchor.Subject, got)
		}
	}
	// With all three configured the path stops at the first one met.
	q := w.question(t, bob)
	q.Anchors = []*x509.Certificate{w.root.Cert, w.hisp.Cert}
	if got := trust.Evaluate(q).Trusted(); len(got) != 1 || len(got[0].Chain()) != 2 {
		t.Errorf("the path went past the first anchor: %v", got)
	}
	// A self-signed leaf that is an anchor is its own path.
	self := w.pki.SelfSigned("bob", testpki.Address(bobAddress))
	q = w.question(t, self)
	q.Anchors = []*x509.Certificate{self.Cert}
	if got := trust.Evaluate(q).Trusted(); len(got) != 1 || len(got[0].Chain()) != 1 {
		t.Errorf("self-signed anchor: %v", got)
	}
}

func TestNothingAboveTheAnchorMatters(t *testing.T) {
	spec.Covers(t, "AS-4.2.3-f", "AS-4.2.3-g")
	pki := testpki.New(t)
	root := pki.Root("Expired Root", testpki.Expired())
	hisp := root.Intermediate("HISP CA")
	q := trust.Question{Address: address(t, bobAddress), Purpose: trust.Encrypt, At: testpki.Now(),
		Candidates:    [][]byte{hisp.Leaf("bob", testpki.Address(bobAddress)).DER},
		Intermediates: []*x509.Certificate{root.Cert}, Anchors: []*x509.Certificate{hisp.Cert}}
	if r := trust.Evaluate(q).Refusal(); r != nil {
		t.Error(r)
	}
}

func TestOtherPathIsTriedWhenOneFails(t *testing.T) {
	spec.Covers(t, "AS-4.2.3-h")
	w := newWorld(t)
	other := w.pki.Root("Other Root")
	bob := w.hisp.Leaf("bob", testpki.Address(bobAddress))
	expiredCross := other.CrossSign(w.hisp, testpki.Expired())
	goodCross := other.CrossSign(w.hisp)
	for name, order := range map[string][]*x509.Certificate{
		"bad first": {expiredCross.Cert, goodCross.Cert, w.hisp.Cert}, "good first": {goodCross.Cert, expiredCross.Cert},
	} {
		q := w.question(t, bob)
		q.Intermediates, q.Anchors = order, []*x509.Certificate{other.Cert}
		got := trust.Evaluate(q).Trusted()
		if len(got) != 1 || !got[0].Anchor().Equal(other.Cert) {
			t.Errorf("%s: %v", name, trust.Evaluate(q).Refusal())
		}
	}
}

func TestOrderOfIntermediatesDoesNotMatter(t *testing.T) {
	spec.Covers(t, "AS-4.2.2-e", "AS-4.2.2-h")
	pki := testpki.New(t)
	root := pki.Root("Root")
	a := root.Intermediate("A")
	b := a.Intermediate("B")
	bob := b.Leaf("bob", testpki.Address(bobAddress))
	noise := pki.Root("Noise").Intermediate("More noise")
	sets := [][]*x509.Certificate{{a.Cert, b.Cert}, {b.Cert, a.Cert}, {noise.Cert, b.Cert, bob.Cert, a.Cert, root.Cert, nil, b.Cert}}
	for i, set := range sets {
		q := trust.Question{Address: address(t, bobAddress), Purpose: trust.Verify, At: testpki.Now(),
			Candidates: [][]byte{bob.DER}, Intermediates: set, Anchors: []*x509.Certificate{root.Cert}}
		got := trust.Evaluate(q).Trusted()
		if len(got) != 1 || len(got[0].Chain()) != 4 || !got[0].Chain()[1].Equal(b.Cert) {
			t.Errorf("set %d: %v", i, trust.Evaluate(q).Refusal())
		}
	}
}

func TestGoodOnesAreUsedBesideBadOnes(t *testing.T) {
	spec.Covers(t, "AS-4.1-a")
	w := newWorld(t)
	old := w.hisp.Leaf("old", testpki.Address(bobAddress), testpki.Expired())
	mallory := w.hisp.Leaf("mallory", testpki.Address("mallory@direct.example.org"))
	bob, next := w.hisp.Leaf("bob", testpki.Address(bobAddress)), w.hisp.Leaf("bob next", testpki.Address(bobAddress))
	q := w.question(t, old, mallory, bob, next, bob)
	j := trust.Evaluate(q)
	if len(j.Candidates) != 5 {
		t.Fatalf("%d candidates of 5", len(j.Candidates))
	}
	var got []string
	for _, tr := range j.Trusted() {
		got = append(got, tr.Certificate().Subject.CommonName)
	}
	if !slices.Equal(got, []string{"bob", "bob next"}) || j.Refusal() != nil {
		t.Errorf("trusted %v, refusal %v", got, j.Refusal())
	}
}

func TestRefusalIsThatOfTheCandidateThatGotFurthest(t *testing.T) {
	w := newWorld(t)
	old := w.hisp.Leaf("old", testpki.Address(bobAddress), testpki.Expired())
	stranger := w.pki.Root("Stranger").Leaf("bob", testpki.Address(bobAddress))
	for _, q := range []trust.Question{w.question(t, old, stranger), w.question(t, stranger, old)} {
		if r := trust.Evaluate(q).Refusal(); r.Kind != trust.Untrusted || r.Check != "path" {
			t.Errorf("refusal %+v", r)
		}
	}
}

func TestCodes(t *testing.T) {
	for kind, code := range map[trust.Kind]int{trust.NotFound: 10, trust.Untrusted: 11, trust.Invalid: 12, trust.Revoked: 13, trust.Unknown: 14, trust.TemporaryFault: 20, "": 0} {
		if got := kind.Code(); got != code {
			t.Errorf("%s: code %d, want %d", kind, got, code)
		}
	}
	r := trust.Evaluate(trust.Question{}).Refusal()
	if r.Kind != trust.NotFound || r.Code() != 10 || r.Temporary() || !strings.Contains(r.Error(), "no certificate") {
		t.Errorf("empty question: %v", r)
	}
}

func TestTooManyCandidates(t *testing.T) {
	w := newWorld(t)
	bob := w.hisp.Leaf("bob", testpki.Address(bobAddress))
	q := w.question(t)
	for range 64 {
		q.Candidates = append(q.Candidates, []byte{0x30, 0})
	}
	q.Candidates = append(q.Candidates, bob.DER)
	j := trust.Evaluate(q)
	if len(j.Trusted()) != 0 || failing(j.Candidates[64])[0] != "count" {
		t.Error("candidate 65 was judged")
	}
	q.Candidates = q.Candidates[1:]
	if len(trust.Evaluate(q).Trusted()) != 1 {
		t.Error("candidate 64 was not judged")
	}
}

func TestDepth(t *testing.T) {
	for _, tc := range []struct {
		intermediates int
		want          bool
	}{{6, true}, {7, false}} { // leaf + intermediates + root: 8 is the limit
		pki := testpki.New(t)
		root := pki.Root("Root")
		q := trust.Question{Address: address(t, bobAddress), Purpose: trust.Encrypt, At: testpki.Now(), Anchors: []*x509.Certificate{root.Cert}}
		ca := root
		for i := range tc.intermediates {
			ca = ca.Intermediate(fmt.Sprintf("CA %d", i))
			q.Intermediates = append(q.Intermediates, ca.Cert)
		}
		q.Candidates = [][]byte{ca.Leaf("bob", testpki.Address(bobAddress)).DER}
		if got := len(trust.Evaluate(q).Trusted()) == 1; got != tc.want {
			t.Errorf("%d intermediates: trusted %v", tc.intermediates, got)
		}
	}
}
