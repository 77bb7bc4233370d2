package zones_test

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"directnode/internal/spec"
	"directnode/zones"
)

func TestLookupNamesEveryOutcome(t *testing.T) {
	s, err := zones.BuildParsed(7, zones.Options{}, example(t, "structure"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		qtype    uint16
		kind     zones.Kind
		node     string
		wildcard bool
	}{
		{"structure.example.", dns.TypeSOA, zones.Hit, "structure.example.", false},
		{"structure.example.", dns.TypeAAAA, zones.NoData, "structure.example.", false},
		{"mixed.structure.example.", dns.TypeA, zones.Hit, "mixed.structure.example.", false},
		{"nobody.structure.example.", dns.TypeA, zones.NXDomain, "structure.example.", false},
		{"b.ent.structure.example.", dns.TypeTXT, zones.NoData, "b.ent.structure.example.", false},
		{"ent.structure.example.", dns.TypeANY, zones.NoData, "ent.structure.example.", false},
		{"x.b.ent.structure.example.", dns.TypeTXT, zones.NXDomain, "b.ent.structure.example.", false},
		{"y.wild.structure.example.", dns.TypeTXT, zones.Hit, "*.wild.structure.example.", true},
		{"z.y.wild.structure.example.", dns.TypeTXT, zones.Hit, "*.wild.structure.example.", true},
		{"y.wild.structure.example.", dns.TypeA, zones.NoData, "*.wild.structure.example.", true},
		{"*.wild.structure.example.", dns.TypeTXT, zones.Hit, "*.wild.structure.example.", false},
		{"x.wild.structure.example.", dns.TypeTXT, zones.NoData, "x.wild.structure.example.", false},
		{"y.x.wild.structure.example.", dns.TypeTXT, zones.NXDomain, "x.wild.structure.example.", false}, // RFC 4592 §2.2.1
		{"alias.structure.example.", dns.TypeA, zones.CName, "alias.structure.example.", false},
		{"alias.structure.example.", dns.TypeCNAME, zones.CName, "alias.structure.example.", false},
		{"y.many.structure.example.", dns.TypeA, zones.CName, "*.many.structure.example.", true},
		{"a.moved.structure.example.", dns.TypeA, zones.DName, "moved.structure.example.", false},
		{"c.b.a.moved.structure.example.", dns.TypeDNAME, zones.DName, "moved.structure.example.", false},
		{"moved.structure.example.", dns.TypeA, zones.NoData, "moved.structure.example.", false},
		{"moved.structure.example.", dns.TypeTXT, zones.Hit, "moved.structure.example.", false},
		{"moved.structure.example.", dns.TypeDNAME, zones.Hit, "moved.structure.example.", false},
		{"alias.structure.example.", dns.TypeRRSIG, zones.NoData, "alias.structure.example.", false},
		{"y.many.structure.example.", dns.TypeNSEC, zones.NoData, "*.many.structure.example.", true},
		{"sub.structure.example.", dns.TypeA, zones.Referral, "sub.structure.example.", false},
		{"sub.structure.example.", dns.TypeNS, zones.Referral, "sub.structure.example.", false},
		{"sub.structure.example.", dns.TypeDS, zones.Hit, "sub.structure.example.", false},
		{"ns1.sub.structure.example.", dns.TypeA, zones.Referral, "sub.structure.example.", false},
		{"a.b.sub.structure.example.", dns.TypeDS, zones.Referral, "sub.structure.example.", false},
	} {
		q := wire(t, c.name)
		z := s.Find(q)
		if z == nil {
			t.Errorf("Find(%s) = nil", c.name)
			continue
		}
		a := z.Lookup(q, c.qtype)
		if a.Kind != c.kind || a.Name(q).String() != c.node || a.Wildcard != c.wildcard {
			t.Errorf("Lookup(%s, %s) = %s at %s, wildcard %v; want %s at %s, %v", c.name, dns.TypeToString[c.qtype], a.Kind, a.Name(q), a.Wildcard, c.kind, c.node, c.wildcard)
		}
		if (a.RRset == nil) != (c.kind == zones.NoData || c.kind == zones.NXDomain) {
			t.Errorf("Lookup(%s, %s): %s with RRset %v", c.name, dns.TypeToString[c.qtype], a.Kind, a.RRset)
		}
	}
}

func TestFindPicksTheNearestApex(t *testing.T) {
	s := set(t, map[string]string{"example.org": "", "direct.example.org": "", "a.b.example.net": ""})
	for name, want := range map[string]string{
		"example.org.": "example.org", "x.example.org.": "example.org", "bob.direct.example.org.": "direct.example.org",
		"direct.example.org.": "direct.example.org", "indirect.example.org.": "example.org", "b.example.net.": "", "org.": "", ".": "", "x.a.b.example.net.": "a.b.example.net",
	} {
		got := ""
		if z := s.Find(wire(t, name)); z != nil {
			got = z.Domain().String()
		}
		if got != want {
			t.Errorf("Find(%s) = %q, want %q", name, got, want)
		}
	}
	if z := s.FindParentSide(wire(t, "direct.example.org.")); z == nil || z.Domain().String() != "example.org" {
		t.Errorf("the parent side of direct.example.org. is %v", z)
	}
	if z := s.FindParentSide(wire(t, ".")); z != nil {
		t.Errorf("the root has a parent side: %v", z.Domain())
	}
}

func TestDottedLocalPartsMakeEmptyNonTerminals(t *testing.T) {
	spec.Covers(t, "AS-5.1-b")
	s, err := zones.BuildParsed(7, zones.Options{}, example(t, "clinic"))
	if err != nil {
		t.Fatal(err)
	}
	z := s.Find(wire(t, "direct.example.org."))
	for name, want := range map[string]zones.Kind{
		"john.smith.direct.example.org.": zones.Hit, "smith.direct.example.org.": zones.NoData, "bob.direct.example.org.": zones.Hit,
		"direct.example.org.": zones.Hit, "john.direct.example.org.": zones.NXDomain, `john\.smith.direct.example.org.`: zones.NXDomain,
	} {
		if a := z.Lookup(wire(t, name), dns.TypeCERT); a.Kind != want {
			t.Errorf("CERT %s: %s, want %s", name, a.Kind, want)
		}
	}
}

func TestNamesCompareCanonically(t *testing.T) {
	// The list of RFC 4034 §6.1.
	var before zones.Name
	for i, text := range []string{"example.", "a.example.", "yljkjljk.a.example.", "Z.a.example.", "zABC.a.EXAMPLE.", "z.example.", `\001.z.example.`, "*.z.example.", `\200.z.example.`} {
		n, err := zones.ParseName(text)
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 && (before.Compare(n) >= 0 || n.Compare(before) <= 0) {
			t.Errorf("%s does not sort before %s", before, n)
		}
		if n.Compare(n) != 0 {
			t.Errorf("%s differs from itself", n)
		}
		before = n
	}
}

// TestNamesSortByTheirKeysAsTheyCompare: labels of any octets, those that end
// and escape a key among them.
func TestNamesSortByTheirKeysAsTheyCompare(t *testing.T) {
	name := rapid.Custom(func(t *rapid.T) zones.Name {
		var wire []byte
		for range rapid.IntRange(0, 4).Draw(t, "labels") {
			label := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 2, 'a', 'b', '.', 0xff}), 1, 3).Draw(t, "label")
			wire = append(append(wire, byte(len(label))), label...)
		}
		return zones.Name(append(wire, 0))
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := name.Draw(t, "a"), name.Draw(t, "b")
		if got, want := strings.Compare(a.SortKey(), b.SortKey()), a.Compare(b); got > 0 != (want > 0) || got < 0 != (want < 0) {
			t.Fatalf("%q and %q: the keys say %d, the names %d", string(a), string(b), got, want)
		}
	})
}
