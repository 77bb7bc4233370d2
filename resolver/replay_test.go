package resolver_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"testing"

	"directnode/internal/testpki"
	"directnode/resolver"
	"directnode/resolver/revocation"
)

// recorded discovers with a record and judges at the moment of the tests.
func (w *world) recorded(addr string, door revocation.Fetcher, change ...func(*resolver.Options)) (resolver.Report, *resolver.Record) {
	w.t.Helper()
	return w.recordedBy(w.resolver(change...), addr, door)
}

func (w *world) recordedBy(r *resolver.Resolver, addr string, door revocation.Fetcher) (resolver.Report, *resolver.Record) {
	w.t.Helper()
	res, rec, err := r.DiscoverRecorded(context.Background(), address(w.t, addr))
	if err != nil {
		w.t.Fatal(err)
	}
	report, err := resolver.JudgeRecorded(context.Background(), res, rec, door, resolver.Judging{
		Anchors: []*x509.Certificate{w.root.Cert}, AnchorsKnown: true, At: testpki.Now(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return report, rec
}

// sameAgain brings a record through JSON, makes the report again and holds it against the first, octet by octet.
func sameAgain(t testing.TB, report resolver.Report, rec *resolver.Record) {
	t.Helper()
	raw, err := json.Marshal(rec)
	if err != nil {
		t.Fatal(err)
	}
	back := new(resolver.Record)
	if err := json.Unmarshal(raw, back); err != nil {
		t.Fatal(err)
	}
	again, err := resolver.ReplayReport(context.Background(), back)
	if err != nil {
		t.Fatal(err)
	}
	first, err := json.MarshalIndent(report, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	second, err := json.MarshalIndent(again, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Errorf("then:\n%s\nagain:\n%s", first, second)
	}
}

// TestReplayOfWhatTheCacheGave: answers out of the cache are part of a record like those of the network.
func TestReplayOfWhatTheCacheGave(t *testing.T) {
	w := newWorld(t)
	l := newLDAP(t, "ou=x")
	l.add("ou=x", "bob@direct.test", w.good("bob", "bob@direct.test"))
	w.srv("direct.test", "0 0 "+itoa(l.port))
	w.dns.add(t, "direct.test. 300 IN TXT x")
	r := w.resolver()
	cold, rec := w.recordedBy(r, "bob@direct.test", nil)
	sameAgain(t, cold, rec)
	warm, rec := w.recordedBy(r, "bob@direct.test", nil)
	sameAgain(t, warm, rec)
	cached := 0
	for _, s := range warm.Steps {
		if s.Cached {
			cached++
		}
	}
	if cold.Verdict != "trusted" || warm.Verdict != "trusted" || cached < 5 {
		t.Errorf("%s, %s, %d cached: %+v", cold.Verdict, warm.Verdict, cached, warm.Steps)
	}
}

func TestRecordsThatAreNoneAreRefused(t *testing.T) {
	w := newWorld(t)
	w.dns.cert(t, "bob.direct.test.", w.good("bob", "bob@direct.test"))
	for name, spoil := range map[string]func(*resolver.Record){
		"another form":           func(r *resolver.Record) { r.Version++ },
		"no address":             func(r *resolver.Record) { r.Address = "x" },
		"no query":               func(r *resolver.Record) { r.Questions[0].Exchanges[0].Query = nil },
		"query for another name": func(r *resolver.Record) { r.Questions[0].Exchanges[0].Name = "eve.direct.test." },
		"no judge":               func(r *resolver.Record) { r.Judgement = nil },
		"anchor that is none":    func(r *resolver.Record) { r.Judgement.Anchors[0] = []byte("x") },
	} {
		_, rec := w.recorded("bob@direct.test", nil)
		spoil(rec)
		if _, err := resolver.ReplayReport(t.Context(), rec); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// A reply to another question is not believed because it is in a file.
	report, rec := w.recorded("bob@direct.test", nil)
	rec.Questions[0].Exchanges[0].Reply[0] ^= 0xff
	if again, err := resolver.ReplayReport(t.Context(), rec); err != nil || again.Verdict != "temporary" || report.Verdict != "trusted" {
		t.Errorf("%v, %s, then %s", err, again.Verdict, report.Verdict)
	}
}
