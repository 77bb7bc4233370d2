package zones_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"directnode/internal/testpki"
	"directnode/store"
	"directnode/zones"
)

func soaOf(serial uint32) string {
	return fmt.Sprintf("direct.example.org. 3600 IN SOA ns. h. %d 3600 600 86400 300", serial)
}

// incoming reads a transfer of records as text; "SOA n" stands for a SOA.
func incoming(t testing.TB, have *uint32, lines ...string) (*zones.Incoming, error) {
	t.Helper()
	apex, err := zones.ParseName("direct.example.org")
	if err != nil {
		t.Fatal(err)
	}
	in := zones.NewIncoming(apex, have)
	for _, l := range lines {
		var serial uint32
		if n, _ := fmt.Sscanf(l, "SOA %d", &serial); n == 1 {
			l = soaOf(serial)
		}
		rr, err := dns.NewRR(l)
		if err != nil {
			t.Fatal(err)
		}
		if err := in.Take(rr); err != nil {
			return in, err
		}
	}
	return in, nil
}

const (
	nsLine   = "direct.example.org. 3600 IN NS ns.elsewhere.example."
	wwwLine  = "www.direct.example.org. 60 IN A 192.0.2.1"
	mailLine = "Mail.Direct.Example.Org. 60 IN A 192.0.2.2"
)

func TestAnIncomingZoneBecomesRecords(t *testing.T) {
	in, err := incoming(t, nil, "SOA 5", nsLine, wwwLine, mailLine, "x.direct.example.org. 60 IN TYPE65500 \\# 2 0102", "SOA 5")
	if err != nil || !in.Done() || !in.Whole() || in.Serial() != 5 {
		t.Fatal(err, in)
	}
	records, err := in.Apply([]store.Record{{Name: "gone.direct.example.org.", Type: "A", TTL: 1, Data: "192.0.2.9"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != 5 {
		t.Errorf("%v", records)
	}
	if !slices.Contains(records, store.Record{Name: "mail.direct.example.org.", Type: "A", TTL: 60, Data: "192.0.2.2"}) {
		t.Errorf("names in lower case: %v", records)
	}
	timers, ok := zones.TimersOf(records)
	if !ok || timers != (zones.Timers{Refresh: 3600, Retry: 600, Expire: 86400}) {
		t.Errorf("timers %v", timers)
	}
	if _, err := zones.Build(view(t, domain(t, "direct.example.org"), records), zones.Options{}); err != nil {
		t.Error(err)
	}

	have := uint32(5)
	steps, err := incoming(t, &have, "SOA 7", "SOA 5", wwwLine, "SOA 6", "www.direct.example.org. 60 IN A 192.0.2.7", "SOA 6", "SOA 7", "new.direct.example.org. 60 IN TXT \"a b\"", "SOA 7")
	if err != nil || !steps.Done() || steps.Whole() {
		t.Fatal(err)
	}
	after, err := steps.Apply(records)
	if err != nil {
		t.Fatal(err)
	}
	if len(after) != 6 || !slices.Contains(after, store.Record{Name: "www.direct.example.org.", Type: "A", TTL: 60, Data: "192.0.2.7"}) {
		t.Errorf("%v", after)
	}
	again, err := incoming(t, &have, "SOA 5")
	if err != nil || !again.UpToDate() {
		t.Errorf("a SOA alone: %v", err)
	}
	whole, err := incoming(t, &have, "SOA 8", nsLine, wwwLine, "SOA 8")
	if err != nil || !whole.Done() || !whole.Whole() {
		t.Errorf("all of the zone instead of steps: %v", err)
	}
	if _, err := steps.Apply(after); err == nil || !strings.Contains(err.Error(), "not there") {
		t.Errorf("steps that do not fit: %v", err)
	}
}

func TestAnIncomingZoneThatCannotBeIsRefused(t *testing.T) {
	five := uint32(5)
	for want, c := range map[string]struct {
		have  *uint32
		lines []string
	}{
		"does not begin":      {nil, []string{nsLine}},
		"nothing but a SOA":   {nil, []string{"SOA 5", "SOA 5"}},
		"ends with 6":         {nil, []string{"SOA 5", nsLine, "SOA 6"}},
		"follows its end":     {nil, []string{"SOA 5", nsLine, "SOA 5", nsLine}},
		"from version 4":      {&five, []string{"SOA 7", "SOA 4"}},
		"from version 9":      {&five, []string{"SOA 7", "SOA 5", "SOA 6", "SOA 9"}},
		"outside":             {nil, []string{"SOA 5", "www.example.org. 1 IN A 192.0.2.1"}},
		"SOA below":           {nil, []string{"SOA 5", "www.direct.example.org. 1 IN SOA a. b. 1 1 1 1 1"}},
		"class 3":             {nil, []string{"SOA 5", "www.direct.example.org. 1 CH A 192.0.2.1"}},
		"signed":              {nil, []string{"SOA 5", "direct.example.org. 1 IN DNSKEY 257 3 13 AAAA"}},
		"NSEC: the zone is s": {nil, []string{"SOA 5", "direct.example.org. 1 IN NSEC a. A"}},
		"queries and message": {nil, []string{"SOA 5", "direct.example.org. 1 IN TYPE249 \\# 0"}},
	} {
		_, err := incoming(t, c.have, c.lines...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", c.lines, err, want)
		}
	}
	in, err := incoming(t, nil, "SOA 5", nsLine)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Apply(nil); err == nil {
		t.Error("half a zone is taken")
	}
}

// TestACertificateOfThePrimaryIsServedUnlessOursIsThere: what the owner
// publishes himself goes on being answered, and two publishers of one name are
// told so.
func TestACertificateOfThePrimaryIsServedUnlessOursIsThere(t *testing.T) {
	ca := testpki.New(t).Root("Root")
	ours, theirs := ca.Leaf("a").DER, ca.Leaf("b").DER
	d := domain(t, "direct.example.org")
	cert := func(der []byte) store.Record {
		return store.Record{Name: "bob.direct.example.org.", Type: "TYPE37", TTL: 60, Data: fmt.Sprintf(`\# %d 0001000000%x`, 5+len(der), der)}
	}
	base := parse(t, minimum, "direct.example.org").Records
	s := openStore(t)
	var current *zones.Set
	try := func(f func(*store.Tx) error) error {
		_, err := s.Update(t.Context(), f)
		return err
	}
	if err := s.SetPrepare(func(v *store.View) (func(), error) {
		next, err := zones.Build(v, zones.Options{})
		if err == nil && current != nil {
			next, err = current.Update(v)
		}
		return func() { current = next }, err
	}); err != nil {
		t.Fatal(err)
	}
	if err := try(func(tx *store.Tx) error { return tx.AddDomain(d, append(slices.Clone(base), cert(theirs))) }); err != nil {
		t.Fatal(err)
	}
	certs := func() int {
		qname, _ := zones.ParseName("bob.direct.example.org")
		if a := current.Zone(d).Lookup([]byte(qname), dns.TypeCERT); a.Kind == zones.Hit {
			return a.RRset.Count
		}
		return 0
	}
	if certs() != 1 {
		t.Error("the primary's certificate is not served")
	}
	add := func(der []byte) error {
		return try(func(tx *store.Tx) error {
			_, err := tx.AddCertificate(store.Certificate{Owner: owner(t, "bob@direct.example.org"), DER: der, PublishDNS: true})
			return err
		})
	}
	if err := add(ours); err == nil || !strings.Contains(err.Error(), "bob.direct.example.org.") || !strings.Contains(err.Error(), "bob@direct.example.org") {
		t.Errorf("a certificate beside the primary's: %v", err)
	}
	if err := add(theirs); err != nil || certs() != 1 {
		t.Errorf("the same certificate: %v, %d records", err, certs())
	}
	if err := try(func(tx *store.Tx) error { return tx.SetRecords(d, append(slices.Clone(base), cert(ours))) }); err == nil || !strings.Contains(err.Error(), "bob.direct.example.org.") {
		t.Errorf("another certificate of the primary beside ours: %v", err)
	}
	if err := try(func(tx *store.Tx) error { return tx.SetRecords(d, base) }); err != nil || certs() != 1 {
		t.Errorf("without the primary's: %v, %d records", err, certs())
	}
}
