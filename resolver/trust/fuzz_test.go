package trust_test

import (
	"crypto/x509"
	"slices"
	"testing"

	"directnode/internal/testpki"
	"directnode/resolver/trust"
)

// FuzzEvaluate feeds arbitrary octets as a candidate and as an intermediate. Whatever they are, Evaluate ends, keeps every row and
// trusts nothing that does not stand on the anchor.
func FuzzEvaluate(f *testing.F) {
	w := newWorld(f)
	bob := w.hisp.Leaf("bob", testpki.Address(bobAddress), testpki.Domain("direct.example.org"), testpki.EmailInDN(bobAddress))
	limited := w.root.Intermediate("Limited", testpki.PermitEmail(".example.org"), testpki.ExcludeDNS("x.example"), testpki.PathLen(0))
	for _, pair := range [][2][]byte{{bob.DER, w.hisp.DER}, {limited.Leaf("bob").DER, limited.DER}, {w.root.DER, nil}, {nil, nil}, {[]byte{0x30, 0x80, 0, 0}, bob.DER}} {
		f.Add(pair[0], pair[1])
	}
	rows := len(trust.Evaluate(w.question(f, bob)).Candidates[0].Checks)
	f.Fuzz(func(t *testing.T, candidate, intermediate []byte) {
		q := w.question(t)
		q.Candidates = [][]byte{candidate}
		if c, err := x509.ParseCertificate(intermediate); err == nil {
			q.Intermediates = append(q.Intermediates, c)
		}
		j := trust.Evaluate(q)
		if len(j.Candidates[0].Checks) != rows {
			t.Fatalf("%d rows of %d", len(j.Candidates[0].Checks), rows)
		}
		for _, tr := range j.Trusted() {
			if !tr.Anchor().Equal(w.root.Cert) || tr.Certificate() == nil {
				t.Fatal("trusted without the anchor")
			}
		}
		if (j.Refusal() == nil) != (len(j.Trusted()) > 0) {
			t.Fatal("refusal and trust disagree")
		}
	})
}

// FuzzParseCertificates feeds arbitrary octets as what a place for issuers holds. What comes back is within the limits, each once, and
// parses again from its own octets.
func FuzzParseCertificates(f *testing.F) {
	pki := testpki.New(f)
	a, b := pki.Root("A"), pki.Root("B")
	for _, body := range [][]byte{a.DER, certsOnly(a.DER, b.DER), armor("PKCS7", certsOnly(a.DER)), a.CertPEM(), []byte("<html>"), {0x30, 0x80, 6, 9}, nil} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		certs, err := trust.ParseCertificates(body)
		if (err == nil) != (len(certs) > 0) || len(certs) > 64 {
			t.Fatalf("%d certificates, %v", len(certs), err)
		}
		seen := map[string]bool{}
		for _, c := range certs {
			if seen[string(c.Raw)] {
				t.Fatal("twice the same")
			}
			seen[string(c.Raw)] = true
			if again, err := trust.ParseCertificates(c.Raw); err != nil || len(again) != 1 || !again[0].Equal(c) {
				t.Fatalf("not itself: %v", err)
			}
		}
	})
}

// FuzzCertificateSet feeds two arbitrary files as intermediates and as what Issuers finds. Whatever they hold, the verdict about a
// good certificate with a known path stays, the budget holds and the order of the set decides nothing.
func FuzzCertificateSet(f *testing.F) {
	w := newAIAWorld(f)
	other := w.pki.Root("Other")
	f.Add(certsOnly(w.a.DER, w.b.DER), certsOnly(w.root.DER))
	f.Add(certsOnly(other.CrossSign(w.a).DER, w.a.CrossSign(w.b, testpki.Expired()).DER), w.b.DER)
	f.Add(certsOnly(w.b.CrossSign(w.a).DER, w.a.CrossSign(w.b).DER), []byte{})
	f.Fuzz(func(t *testing.T, given, fetched []byte) {
		set, _ := trust.ParseCertificates(given)
		more, _ := trust.ParseCertificates(fetched)
		q := w.question(t, w.bob)
		q.Intermediates = set
		q.Issuers = &places{at: map[string][]*x509.Certificate{"http://pki.example/a": more, "http://pki.example/b": more}}
		c := trust.Evaluate(q).Candidates[0]
		if c.Signatures > 64 || len(c.Fetches) > 5 || c.Usable && !c.Anchor.Equal(w.root.Cert) {
			t.Fatalf("%d signatures, %d fetches, usable %v", c.Signatures, len(c.Fetches), c.Usable)
		}
		slices.Reverse(q.Intermediates)
		if again := trust.Evaluate(q).Candidates[0]; again.Usable != c.Usable {
			t.Fatalf("usable %v, in the other order %v", c.Usable, again.Usable)
		}
		q.Intermediates = append(q.Intermediates, w.a.Cert, w.b.Cert)
		if len(set) < 60 && !trust.Evaluate(q).Candidates[0].Usable {
			t.Fatal("strangers spoil a good certificate")
		}
	})
}
