package zones_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"directnode/internal/direct"
	"directnode/internal/testpki"
	"directnode/store"
	"directnode/store/kv/memory"
	"directnode/zones"
)

// view is the view of a store that holds one domain with these records.
func view(t testing.TB, d direct.Domain, records []store.Record) *store.View {
	t.Helper()
	s := openStore(t)
	v, err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.AddDomain(d, records) })
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func openStore(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), memory.New(memory.Options{}), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestChangesGiveWhatBuildingAnewGives walks a store through changes and holds
// the zones that were carried along against zones built from nothing.
func TestChangesGiveWhatBuildingAnewGives(t *testing.T) {
	pki := testpki.New(t)
	ca := pki.Root("Root")
	ders := [][]byte{ca.DER, ca.Leaf("a").DER, ca.Leaf("b").DER}
	d := domain(t, "direct.example.org")
	records := parse(t, minimum+"host A 192.0.2.1\n@ MX 1 host\nlink CNAME host\ncut NS ns.cut\n*.wild TXT x\n"+
		"bob 7200 CERT IPKIX 0 0 eA==\nmoved DNAME elsewhere.example.\n", "direct.example.org").Records
	owners := []string{"direct.example.org", "bob@direct.example.org", "john.smith@direct.example.org", "smith@direct.example.org",
		"a.b.smith@direct.example.org", "host@direct.example.org", "*@direct.example.org", "link@direct.example.org", "x.cut@direct.example.org", "x.wild@direct.example.org",
		"moved@direct.example.org", "x.moved@direct.example.org"}
	rapid.Check(t, func(rt *rapid.T) {
		ctx := context.Background()
		s := openStore(t)
		v, err := s.Update(ctx, func(tx *store.Tx) error { return tx.AddDomain(d, records) })
		if err != nil {
			rt.Fatal(err)
		}
		options := zones.Options{Form: zones.Form(rapid.SampledFrom(zones.Forms()).Draw(rt, "form")), URL: "http://certs.example.org/"}
		current, err := zones.Build(v, options)
		if err != nil {
			rt.Fatal(err)
		}
		for range rapid.IntRange(1, 12).Draw(rt, "changes") {
			who, der := rapid.SampledFrom(owners).Draw(rt, "owner"), rapid.SampledFrom(ders).Draw(rt, "certificate")
			v, err := s.Update(ctx, func(tx *store.Tx) error {
				if rapid.Bool().Draw(rt, "remove") {
					return tx.RemoveCertificate(store.Fingerprint(der))
				}
				_, err := tx.AddCertificate(store.Certificate{Owner: owner(t, who), DER: der, PublishDNS: rapid.Bool().Draw(rt, "publish")})
				return err
			})
			if err != nil {
				rt.Logf("the store refuses %s: %v", who, err)
				continue
			}
			anew, errAnew := zones.Build(v, options)
			next, err := current.Update(v)
			if (err == nil) != (errAnew == nil) || err != nil && err.Error() != errAnew.Error() {
				rt.Fatalf("changing says %v, building anew %v", err, errAnew)
			}
			if err != nil {
				return // the change would be refused; the store of this run has taken it
			}
			was := dump(rt, current.Zone(d))
			compare(rt, next.Zone(d), anew.Zone(d))
			if now := dump(rt, current.Zone(d)); was != now {
				rt.Fatalf("a change reached the generation before it:\n%s\n%s", was, now)
			}
			current = next
		}
	})
}

// dump is all that a zone shows: its text, and the names that exist.
func dump(t *rapid.T, z *zones.Zone) string {
	var b bytes.Buffer
	if err := z.Write(&b, zones.FormatBIND); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s; %d nodes, serial %d, without a name %v\n", b.String(), z.Len(), z.Serial(), z.Unnamed())
}

func compare(t *rapid.T, got, want *zones.Zone) {
	if g, w := dump(t, got), dump(t, want); got.Serial() == want.Serial() && g != w {
		t.Fatalf("changed:\n%s\nbuilt anew:\n%s", g, w)
	}
	for _, name := range []string{"smith.direct.example.org.", "b.smith.direct.example.org.", "x.wild.direct.example.org.", "y.wild.direct.example.org.", "direct.example.org.", "x.cut.direct.example.org.",
		"moved.direct.example.org.", "x.moved.direct.example.org.", "bob.direct.example.org."} {
		n, err := zones.ParseName(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, qtype := range []uint16{dns.TypeCERT, dns.TypeTXT, dns.TypeMX} {
			g, w := got.Lookup([]byte(n), qtype), want.Lookup([]byte(n), qtype)
			if g.Kind != w.Kind || g.Wildcard != w.Wildcard || g.Name([]byte(n)) != w.Name([]byte(n)) {
				t.Fatalf("%s %d: %v, built anew %v", name, qtype, g, w)
			}
		}
	}
}

func TestAChangeSharesTheOtherNames(t *testing.T) {
	der := testpki.New(t).Root("Root").DER
	d := domain(t, "direct.example.org")
	s := openStore(t)
	add := func(tx *store.Tx, who string) error {
		_, err := tx.AddCertificate(store.Certificate{Owner: owner(t, who), DER: der, PublishDNS: true})
		return err
	}
	v, err := s.Update(t.Context(), func(tx *store.Tx) error {
		if err := tx.AddDomain(d, parse(t, minimum, "direct.example.org").Records); err != nil {
			return err
		}
		return add(tx, "alice@direct.example.org")
	})
	if err != nil {
		t.Fatal(err)
	}
	first, err := zones.Build(v, zones.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if v, err = s.Update(t.Context(), func(tx *store.Tx) error { return add(tx, "bob@direct.example.org") }); err != nil {
		t.Fatal(err)
	}
	second, err := first.Update(v)
	if err != nil {
		t.Fatal(err)
	}
	octets := func(s *zones.Set, name string) *byte {
		for rdata := range s.Zone(d).Lookup(wire(t, name), dns.TypeCERT).RRset.RData {
			return &rdata[0]
		}
		return nil
	}
	if octets(first, "alice.direct.example.org.") != octets(second, "alice.direct.example.org.") {
		t.Error("a change copies certificates that it does not touch")
	}
	if octets(second, "bob.direct.example.org.") == nil || second.Zone(d).Serial() != uint32(v.Rev) {
		t.Errorf("serial %d", second.Zone(d).Serial())
	}
}

// BenchmarkBuild builds 100,000 certificates from nothing.
func BenchmarkBuild(b *testing.B) {
	der := testpki.New(b).Root("Root").DER
	d := data(b, "bench.example", "")
	var certs []store.Certificate
	for i := range 100_000 {
		certs = append(certs, cert(b, fmt.Sprintf("u%07d@bench.example", i), der))
	}
	d.Certificates = store.NewCertificates(certs...)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := zones.BuildData(1, d); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkChange adds one certificate to a zone of 20,000.
func BenchmarkChange(b *testing.B) {
	der := testpki.New(b).Root("Root").DER
	d := domain(b, "bench.example")
	s := openStore(b)
	add := func(tx *store.Tx, i int) {
		if _, err := tx.AddCertificate(store.Certificate{Owner: owner(b, fmt.Sprintf("u%07d@bench.example", i)), DER: der, PublishDNS: true}); err != nil {
			b.Fatal(err)
		}
	}
	v, err := s.Update(b.Context(), func(tx *store.Tx) error {
		if err := tx.AddDomain(d, parse(b, minimum, "bench.example").Records); err != nil {
			return err
		}
		for i := range 20_000 {
			add(tx, i)
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	set, err := zones.Build(v, zones.Options{})
	if err != nil {
		b.Fatal(err)
	}
	if v, err = s.Update(b.Context(), func(tx *store.Tx) error { add(tx, 20_000); return nil }); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := set.Update(v); err != nil {
			b.Fatal(err)
		}
	}
}
