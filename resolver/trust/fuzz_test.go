package trust_test

import (
	"crypto/x509"
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
