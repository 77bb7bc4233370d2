package trust_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"directnode/internal/testpki"
	"directnode/resolver/trust"
)

// counting tells how often a path was looked for: once for every time that the issuer of a certificate without one is asked for.
type counting struct {
	certs []*x509.Certificate
	n     int
}

func (c *counting) Issuers(context.Context, *x509.Certificate) ([]*x509.Certificate, []trust.Fetch) {
	c.n++
	return c.certs, []trust.Fetch{{URL: "http://pki.example/b", Outcome: "ok"}}
}

// memoWorld is a question whose judgement takes one fetch, so that fetches count judgements.
func memoWorld(t testing.TB) (world, trust.Question, *counting, *statuses) {
	w := newWorld(t)
	c := &counting{certs: []*x509.Certificate{w.hisp.Cert}}
	s := &statuses{known: map[string]trust.RevocationResult{"bob": isGood, "HISP CA": isGood}}
	q := w.question(t, w.hisp.Leaf("bob", testpki.Address(bobAddress), testpki.AIA("http://pki.example/b")))
	q.Intermediates, q.Issuers, q.Revocation = nil, c, s
	return w, q, c, s
}

func TestMemoJudgesOnce(t *testing.T) {
	_, q, c, s := memoWorld(t)
	m := trust.NewMemo(0)
	for i := range 3 {
		q.At = q.At.Add(time.Hour)
		j := m.Evaluate(t.Context(), q)
		if len(j.Trusted()) != 1 || !j.Trusted()[0].At().Equal(q.At) || len(j.Candidates[0].Chain) != 3 {
			t.Fatalf("round %d: %v", i, j.Refusal())
		}
	}
	if c.n != 1 || len(s.asked) != 6 || m.Len() != 1 {
		t.Errorf("%d paths, %d statuses asked for, %d held", c.n, len(s.asked), m.Len())
	}
}

// TestMemoHonorsRevocation: a certificate that is revoked after it was remembered is refused at once, and so is one whose status is
// not known any more; what is refused for that is not remembered.
func TestMemoHonorsRevocation(t *testing.T) {
	_, q, _, s := memoWorld(t)
	m := trust.NewMemo(0)
	for i, step := range []struct {
		status trust.RevocationResult
		kind   trust.Kind
	}{{isGood, ""}, {isRevoked, trust.Revoked}, {isGood, ""}, {isDown, trust.Unknown}, {isNowhere, trust.Unknown}, {isGood, ""}, {isStale, ""}} {
		s.known["HISP CA"] = step.status
		j := m.Evaluate(t.Context(), q)
		var kind trust.Kind
		if r := j.Refusal(); r != nil {
			kind = r.Kind
		}
		if kind != step.kind || j.Candidates[0].Statuses[1].Result.Status != step.status.Status {
			t.Errorf("step %d: %q, want %q", i, kind, step.kind)
		}
	}
}

// TestMemoGivesNothingElse: whatever the answer depends on makes another question of it.
func TestMemoGivesNothingElse(t *testing.T) {
	w, base, c, _ := memoWorld(t)
	m := trust.NewMemo(0)
	m.Evaluate(t.Context(), base)
	for name, change := range map[string]func(q *trust.Question){
		"address":       func(q *trust.Question) { q.Address = address(t, "ann@direct.example.org") },
		"purpose":       func(q *trust.Question) { q.Purpose = trust.Verify },
		"profile":       func(q *trust.Question) { q.Policy.Profile = trust.AS13 },
		"key size":      func(q *trust.Question) { q.Policy.MinRSABits = 3072 },
		"policies":      func(q *trust.Question) { q.Policy.RequirePolicy = true },
		"accepted":      func(q *trust.Question) { q.Policy.Policies = []string{"1.2.3"} },
		"grace":         func(q *trust.Question) { q.Policy.Grace = time.Minute },
		"mode":          func(q *trust.Question) { q.Policy.Revocation = trust.RevocationSoft },
		"no status":     func(q *trust.Question) { q.Revocation = nil },
		"no issuers":    func(q *trust.Question) { q.Issuers = nil },
		"anchors":       func(q *trust.Question) { q.Anchors = []*x509.Certificate{w.pki.Root("Other").Cert} },
		"no anchors":    func(q *trust.Question) { q.Anchors = nil },
		"intermediates": func(q *trust.Question) { q.Intermediates = []*x509.Certificate{w.pki.Root("Noise").Cert} },
		"candidate":     func(q *trust.Question) { q.Candidates = [][]byte{w.hisp.Leaf("bob", testpki.Address(bobAddress)).DER} },
		"candidates":    func(q *trust.Question) { q.Candidates = append(slices.Clone(q.Candidates), q.Candidates[0]) },
	} {
		q := base
		change(&q)
		got, want := m.Evaluate(t.Context(), q), trust.Evaluate(q)
		if len(got.Trusted()) != len(want.Trusted()) || (got.Refusal() == nil) != (want.Refusal() == nil) || got.Refusal() != nil && *got.Refusal() != *want.Refusal() {
			t.Errorf("%s: %v, want %v", name, got.Refusal(), want.Refusal())
		}
	}
	n := c.n
	if m.Evaluate(t.Context(), base); c.n != n {
		t.Error("the first question was forgotten over the others")
	}
}

// TestMemoEndsWithTheNextCertificate that begins or ends, on the second.
func TestMemoEndsWithTheNextCertificate(t *testing.T) {
	w := newWorld(t)
	end := testpki.Now().Add(time.Hour)
	q := w.question(t, w.hisp.Leaf("bob", testpki.Address(bobAddress), testpki.Valid(testpki.Now().Add(-time.Hour), end)),
		w.hisp.Leaf("next", testpki.Address(bobAddress), testpki.Valid(end.Add(-time.Minute), end.AddDate(1, 0, 0))))
	m := trust.NewMemo(0)
	for _, at := range []time.Time{testpki.Now(), end.Add(-time.Minute - 1), end.Add(-time.Minute), end, end.Add(1), end.Add(time.Hour), testpki.Now(), testpki.Now().Add(-2 * time.Hour)} {
		q.At = at
		var got, want []string
		for _, tr := range m.Evaluate(t.Context(), q).Trusted() {
			got = append(got, tr.Certificate().Subject.CommonName)
		}
		for _, tr := range trust.Evaluate(q).Trusted() {
			want = append(want, tr.Certificate().Subject.CommonName)
		}
		if !slices.Equal(got, want) {
			t.Errorf("at %v: %v, want %v", at, got, want)
		}
	}
}

// TestMemoForgetsWhatMayChange: nothing that rests on a place that did not answer is kept.
func TestMemoForgetsWhatMayChange(t *testing.T) {
	w := newAIAWorld(t)
	a := w.places.at["http://pki.example/a"]
	delete(w.places.at, "http://pki.example/a")
	m := trust.NewMemo(0)
	q := w.question(t, w.bob)
	if j := m.Evaluate(t.Context(), q); len(j.Trusted()) != 0 || m.Len() != 0 {
		t.Errorf("%d trusted, %d held", len(j.Trusted()), m.Len())
	}
	w.places.at["http://pki.example/a"] = a
	if j := m.Evaluate(t.Context(), q); len(j.Trusted()) != 1 {
		t.Errorf("the place answers now: %v", j.Refusal())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	q.Intermediates = []*x509.Certificate{w.b.Cert}
	if m.Evaluate(ctx, q); m.Len() != 1 {
		t.Errorf("%d held after a question that was cut short", m.Len())
	}
}

func TestMemoIsBounded(t *testing.T) {
	w := newWorld(t)
	leaf := w.hisp.Leaf("bob", testpki.Address(bobAddress))
	m := trust.NewMemo(20 * len(leaf.DER))
	for i := range 100 {
		q := w.question(t, leaf)
		q.Intermediates = nil
		q.Address = address(t, fmt.Sprintf("bob%d@direct.example.org", i))
		m.Evaluate(t.Context(), q)
		if m.Len() > 20 {
			t.Fatalf("%d held", m.Len())
		}
	}
	q := w.question(t, leaf)
	for range 70 {
		q.Candidates = append(q.Candidates, make([]byte, 1000))
	}
	big := trust.NewMemo(1 << 20)
	if big.Evaluate(t.Context(), q); big.Len() != 0 {
		t.Error("a question above the limit was kept")
	}
}

func TestMemoServesManyAtOnce(t *testing.T) {
	w := newWorld(t)
	m := trust.NewMemo(8 << 10)
	leaf := w.hisp.Leaf("bob", testpki.Address(bobAddress))
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 40 {
				q := w.question(t, leaf)
				if i%2 == g%2 {
					q.Address = address(t, fmt.Sprintf("x%d@direct.example.org", i%5))
				}
				if got := len(m.Evaluate(t.Context(), q).Trusted()) == 1; got != (q.Address.String() == bobAddress) {
					t.Errorf("%s: %v", q.Address, got)
				}
			}
		})
	}
	wg.Wait()
}

// always says good.
type always struct{}

func (always) Status(context.Context, *x509.Certificate, *x509.Certificate, time.Time) trust.RevocationResult {
	return trust.RevocationResult{Status: trust.StatusGood}
}

func benchmarkQuestion(b *testing.B) trust.Question {
	w := newWorld(b)
	q := w.question(b, w.hisp.Leaf("bob", testpki.Address(bobAddress)))
	for i := range 50 { // a trust bundle
		q.Anchors = append(q.Anchors, w.pki.Root(fmt.Sprintf("Root %d", i)).Cert)
	}
	q.Revocation = always{}
	return q
}

// BenchmarkEvaluate is one certificate, one intermediate and 51 anchors.
func BenchmarkEvaluate(b *testing.B) {
	q := benchmarkQuestion(b)
	for b.Loop() {
		if len(trust.Evaluate(q).Trusted()) != 1 {
			b.Fatal("not trusted")
		}
	}
}

// BenchmarkMemo is the same question again, revocation asked for each time.
func BenchmarkMemo(b *testing.B) {
	q := benchmarkQuestion(b)
	m := trust.NewMemo(0)
	for b.Loop() {
		if len(m.Evaluate(b.Context(), q).Trusted()) != 1 {
			b.Fatal("not trusted")
		}
	}
}
