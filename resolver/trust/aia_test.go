package trust_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"

	"directnode/internal/spec"
	"directnode/internal/testpki"
	"directnode/resolver/trust"
)

// places answers for URLs; a URL without certificates is one that does not answer now. It keeps what it was asked.
type places struct {
	at    map[string][]*x509.Certificate
	asked []string
}

func (p *places) Issuers(_ context.Context, cert *x509.Certificate) (certs []*x509.Certificate, fetches []trust.Fetch) {
	for _, url := range cert.IssuingCertificateURL {
		p.asked = append(p.asked, url)
		f := trust.Fetch{URL: url, Outcome: "ok", Certificates: len(p.at[url])}
		if len(p.at[url]) == 0 {
			f.Outcome, f.Temporary = "timeout", true
		}
		certs, fetches = append(certs, p.at[url]...), append(fetches, f)
	}
	return certs, fetches
}

// aiaWorld is root → a → b → bob, each certificate with the place of its issuer.
type aiaWorld struct {
	pki        *testpki.PKI
	root, a, b *testpki.CA
	bob        testpki.Pair
	places     *places
}

func newAIAWorld(t testing.TB) aiaWorld {
	pki := testpki.New(t)
	root := pki.Root("Root", testpki.AIA("http://pki.example/root"))
	a := root.Intermediate("A", testpki.AIA("http://pki.example/root"))
	b := a.Intermediate("B", testpki.AIA("http://pki.example/a"))
	w := aiaWorld{pki, root, a, b, b.Leaf("bob", testpki.Address(bobAddress), testpki.AIA("http://pki.example/b")), &places{}}
	w.places.at = map[string][]*x509.Certificate{"http://pki.example/root": {root.Cert}, "http://pki.example/a": {a.Cert}, "http://pki.example/b": {b.Cert}}
	return w
}

func (w aiaWorld) question(t testing.TB, leaves ...testpki.Pair) trust.Question {
	q := trust.Question{Address: address(t, bobAddress), Purpose: trust.Encrypt, At: testpki.Now(), Anchors: []*x509.Certificate{w.root.Cert}, Issuers: w.places}
	for _, l := range leaves {
		q.Candidates = append(q.Candidates, l.DER)
	}
	return q
}

func TestIssuersAreAskedOnlyForWhatIsMissing(t *testing.T) {
	spec.Covers(t, "AS-4.2.2-f", "AS-4.2.2-g", "AS-4.2.2-h", "AS-4.2.2-i")
	for _, tc := range []struct {
		name  string
		set   func(w aiaWorld, q *trust.Question)
		asked string
	}{
		{"nothing at hand", func(aiaWorld, *trust.Question) {}, "b a"},
		{"everything at hand", func(w aiaWorld, q *trust.Question) { q.Intermediates = []*x509.Certificate{w.a.Cert, w.b.Cert} }, ""},
		{"the lower one at hand", func(w aiaWorld, q *trust.Question) { q.Intermediates = []*x509.Certificate{w.b.Cert} }, "a"},
		{"the upper one at hand", func(w aiaWorld, q *trust.Question) { q.Intermediates = []*x509.Certificate{w.a.Cert} }, "b"},
		{"an anchor in the middle", func(w aiaWorld, q *trust.Question) { q.Anchors = []*x509.Certificate{w.a.Cert} }, "b"},
		{"the issuer is the anchor", func(w aiaWorld, q *trust.Question) { q.Anchors = []*x509.Certificate{w.b.Cert} }, ""},
		{"the leaf is the anchor", func(w aiaWorld, q *trust.Question) { q.Anchors = []*x509.Certificate{w.bob.Cert} }, ""},
		{"an expired one of the same name at hand", func(w aiaWorld, q *trust.Question) {
			q.Intermediates = []*x509.Certificate{w.a.CrossSign(w.b, testpki.Expired()).Cert}
		}, "b a"},
		{"one of the same name with another key at hand", func(w aiaWorld, q *trust.Question) {
			q.Intermediates = []*x509.Certificate{w.a.Intermediate("B").Cert, w.a.Cert}
		}, "b"},
		{"all in one file, in any order", func(w aiaWorld, _ *trust.Question) {
			w.places.at["http://pki.example/b"] = []*x509.Certificate{w.root.Cert, w.a.Cert, w.pki.Root("Noise").Cert, w.b.Cert}
		}, "b"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newAIAWorld(t)
			q := w.question(t, w.bob)
			tc.set(w, &q)
			j := trust.Evaluate(q)
			if r := j.Refusal(); r != nil {
				t.Error(r)
			}
			var asked []string
			for _, url := range w.places.asked {
				asked = append(asked, strings.TrimPrefix(url, "http://pki.example/"))
			}
			if got := strings.Join(asked, " "); got != tc.asked {
				t.Errorf("asked for %q, want %q", got, tc.asked)
			}
			if got := j.Candidates[0].Fetches; len(got) != len(asked) || len(got) > 0 && (got[0].For == "" || got[0].URL == "") {
				t.Errorf("evidence %+v", got)
			}
		})
	}
}

func TestNobodyIsAskedOnBehalfOfABadCertificate(t *testing.T) {
	w := newAIAWorld(t)
	here := testpki.AIA("http://pki.example/b")
	q := w.question(t, w.b.Leaf("old", testpki.Address(bobAddress), here, testpki.Expired()), w.b.Leaf("eve", testpki.Address("eve@example.org"), here),
		w.b.Leaf("weak", testpki.Address(bobAddress), here, testpki.SHA1()), w.b.Leaf("small", testpki.Address(bobAddress), here, testpki.WithKey(testpki.RSA1024())),
		w.b.Leaf("sign", testpki.Address(bobAddress), here, testpki.SignOnly()), w.pki.SelfSigned("self", testpki.Address(bobAddress), here),
		w.b.Leaf("odd", testpki.Address(bobAddress), here, unknownExtension(true)))
	if j := trust.Evaluate(q); len(j.Trusted()) != 0 || len(w.places.asked) != 0 {
		t.Errorf("asked for %v", w.places.asked)
	}
}

func TestOneFetchServesAllCandidatesOfAnIssuer(t *testing.T) {
	w := newAIAWorld(t)
	q := w.question(t)
	for i := range 20 {
		q.Candidates = append(q.Candidates, w.b.Leaf(fmt.Sprintf("bob %d", i), testpki.Address(bobAddress), testpki.AIA("http://pki.example/b")).DER)
	}
	if j := trust.Evaluate(q); len(j.Trusted()) != 20 || len(w.places.asked) != 2 {
		t.Errorf("%d trusted, asked for %v", len(j.Trusted()), w.places.asked)
	}
}

// TestAPlaceThatDoesNotAnswerNowIsTemporary: what could not be fetched may be there later, what is not there is not.
func TestAPlaceThatDoesNotAnswerNowIsTemporary(t *testing.T) {
	w := newAIAWorld(t)
	delete(w.places.at, "http://pki.example/a")
	r := trust.Evaluate(w.question(t, w.bob)).Refusal()
	if r == nil || r.Check != "path" || r.Kind != trust.TemporaryFault || !r.Temporary() || !strings.Contains(r.Detail, "http://pki.example/a") {
		t.Errorf("refusal %+v", r)
	}
	w.places.at["http://pki.example/a"] = []*x509.Certificate{w.pki.Root("Noise").Cert}
	if r = trust.Evaluate(w.question(t, w.bob)).Refusal(); r == nil || r.Check != "path" || r.Kind != trust.Untrusted || r.Temporary() {
		t.Errorf("refusal %+v", r)
	}
}

// TestAFetchedCertificateIsNoAnchor: what comes from outside is believed for nothing.
func TestAFetchedCertificateIsNoAnchor(t *testing.T) {
	w := newAIAWorld(t)
	q := w.question(t, w.bob)
	q.Anchors = []*x509.Certificate{w.pki.Root("Root").Cert}
	r := trust.Evaluate(q).Refusal()
	if r == nil || r.Kind == trust.Revoked || len(trust.Evaluate(q).Trusted()) != 0 {
		t.Errorf("refusal %+v", r)
	}
}

func TestFetchesAreLimited(t *testing.T) {
	pki := testpki.New(t)
	t.Run("an endless hierarchy", func(t *testing.T) {
		p := &places{at: map[string][]*x509.Certificate{}}
		ca := pki.Root("Level 9", testpki.AIA("http://pki.example/10"))
		var below []*testpki.CA
		for i := 8; i >= 0; i-- {
			url := fmt.Sprintf("http://pki.example/%d", i+1)
			p.at[url] = []*x509.Certificate{ca.Cert}
			ca = ca.Intermediate(fmt.Sprintf("Level %d", i), testpki.AIA(url))
			below = append(below, ca)
		}
		p.at["http://pki.example/0"] = []*x509.Certificate{ca.Cert}
		bob := below[len(below)-1].Leaf("bob", testpki.Address(bobAddress), testpki.AIA("http://pki.example/0"))
		q := trust.Question{Address: address(t, bobAddress), Purpose: trust.Encrypt, At: testpki.Now(), Candidates: [][]byte{bob.DER}, Issuers: p,
			Anchors: []*x509.Certificate{pki.Root("Other").Cert}}
		if trust.Evaluate(q); len(p.asked) != 5 {
			t.Errorf("%d places were asked, want 5", len(p.asked))
		}
	})
	t.Run("a place that names itself", func(t *testing.T) {
		root := pki.Root("Root")
		loop := root.Intermediate("Loop", testpki.AIA("http://pki.example/loop"))
		p := &places{at: map[string][]*x509.Certificate{"http://pki.example/loop": {loop.Cert}}}
		q := trust.Question{Address: address(t, bobAddress), Purpose: trust.Encrypt, At: testpki.Now(), Issuers: p,
			Candidates: [][]byte{loop.Leaf("bob", testpki.Address(bobAddress), testpki.AIA("http://pki.example/loop")).DER}}
		if trust.Evaluate(q); len(p.asked) != 1 {
			t.Errorf("asked for %v", p.asked)
		}
	})
	t.Run("many candidates with places of their own", func(t *testing.T) {
		p := &places{}
		q := trust.Question{Address: address(t, bobAddress), Purpose: trust.Encrypt, At: testpki.Now(), Issuers: p}
		for i := range 25 {
			q.Candidates = append(q.Candidates, pki.Root(fmt.Sprint(i)).Leaf("bob", testpki.Address(bobAddress), testpki.AIA(fmt.Sprintf("http://pki.example/%d", i))).DER)
		}
		if trust.Evaluate(q); len(p.asked) != 20 {
			t.Errorf("%d places were asked, want 20", len(p.asked))
		}
	})
	t.Run("a file with more certificates than are taken", func(t *testing.T) {
		root := pki.Root("Root")
		hisp := root.Intermediate("HISP")
		var file []*x509.Certificate
		for i := range 80 {
			file = append(file, pki.Root(fmt.Sprintf("Noise %d", i)).Cert)
		}
		p := &places{at: map[string][]*x509.Certificate{"http://pki.example/bag": append(file, hisp.Cert)}}
		q := trust.Question{Address: address(t, bobAddress), Purpose: trust.Encrypt, At: testpki.Now(), Issuers: p, Anchors: []*x509.Certificate{root.Cert},
			Candidates: [][]byte{hisp.Leaf("bob", testpki.Address(bobAddress), testpki.AIA("http://pki.example/bag")).DER}}
		if r := trust.Evaluate(q).Refusal(); r != nil {
			t.Errorf("the issuer that was asked for was left out: %v", r)
		}
	})
	t.Run("a context that has ended", func(t *testing.T) {
		w := newAIAWorld(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if trust.EvaluateContext(ctx, w.question(t, w.bob)); len(w.places.asked) != 0 {
			t.Errorf("asked for %v", w.places.asked)
		}
	})
}

// TestEveryPathIsExplained: which path was taken, and what the others fell by.
func TestEveryPathIsExplained(t *testing.T) {
	w := newWorld(t)
	other := w.pki.Root("Other Root")
	bob := w.hisp.Leaf("bob", testpki.Address(bobAddress))
	q := w.question(t, bob)
	q.Anchors = append(q.Anchors, other.Cert)
	q.Intermediates = []*x509.Certificate{
		other.CrossSign(w.hisp, testpki.Valid(testpki.Now().AddDate(-1, 0, 0), testpki.Now().AddDate(0, -1, 0))).Cert, // newest first
		other.CrossSign(w.hisp, testpki.NotCA(), testpki.Valid(testpki.Now().AddDate(-1, -1, 0), testpki.Now().AddDate(1, 0, 0))).Cert,
		other.CrossSign(w.hisp, testpki.ExcludeEmail(bobAddress), testpki.Valid(testpki.Now().AddDate(-1, -2, 0), testpki.Now().AddDate(1, 0, 0))).Cert,
		w.pki.Root("HISP CA", testpki.WithKey(testpki.RSA2048(3)), testpki.SubjectKeyID(w.hisp.Cert.SubjectKeyId), testpki.Valid(testpki.Now().AddDate(-1, -3, 0), testpki.Now().AddDate(1, 0, 0))).Cert,
		w.hisp.Cert,
	}
	want := []string{"path-validity", "basic-constraints", "name-constraints", "signature", "chosen"}
	for range 2 {
		c := trust.Evaluate(q).Candidates[0]
		var got []string
		for _, p := range c.Paths {
			if p.Chosen {
				got = append(got, "chosen")
				continue
			}
			got = append(got, p.Check)
			if p.Citation == "" || p.Detail == "" || len(p.Chain) < 2 || !p.Chain[0].Equal(bob.Cert) {
				t.Errorf("a path without a reason: %+v", p)
			}
		}
		if !slices.Equal(got, want) || !c.Anchor.Equal(w.root.Cert) {
			t.Errorf("paths %v, want %v", got, want)
		}
		slices.Reverse(q.Intermediates) // the order of the question decides nothing
		slices.Reverse(q.Anchors)
	}
}

// TestTheSameSetGivesTheSamePath in whatever order it comes.
func TestTheSameSetGivesTheSamePath(t *testing.T) {
	w := newWorld(t)
	var set []*x509.Certificate
	anchors := []*x509.Certificate{w.root.Cert}
	for i := range 5 {
		r := w.pki.Root(fmt.Sprintf("Root %d", i))
		anchors = append(anchors, r.Cert)
		set = append(set, r.CrossSign(w.hisp).Cert)
	}
	set = append(set, w.hisp.Cert)
	bob := w.hisp.Leaf("bob", testpki.Address(bobAddress))
	var first *x509.Certificate
	for i := range len(set) {
		q := w.question(t, bob)
		q.Intermediates = append(slices.Clone(set[i:]), set[:i]...)
		q.Anchors = append(slices.Clone(anchors[i:]), anchors[:i]...)
		got := trust.Evaluate(q).Trusted()
		if len(got) != 1 || first != nil && !got[0].Anchor().Equal(first) {
			t.Fatalf("rotation %d: another path", i)
		}
		first = got[0].Anchor()
	}
}
