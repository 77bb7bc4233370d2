package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"directnode/internal/direct"
)

// model is a table as a map: owner and fingerprint → record.
type model map[string]string

// TestTableAgreesWithAMap edits tables at random, a few records or thousands at
// a time, and holds every generation against a map: when it is made, and again
// when all later ones have been.
func TestTableAgreesWithAMap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type generation struct {
			table *table
			want  model
		}
		var all []generation
		now, want := (*table)(nil), model{}
		for range rapid.IntRange(1, 5).Draw(rt, "generations") {
			e := now.edit()
			was, before := now, want
			want = maps.Clone(want)
			for range rapid.IntRange(1, 4).Draw(rt, "steps") {
				step(rt, e, want)
			}
			now = e.table()
			if rapid.IntRange(0, 3).Draw(rt, "given up") == 0 { // an edit that comes to nothing writes nowhere
				now, want = was, before
				continue
			}
			checkTable(rt, now, want)
			checkDifference(rt, was, now, before, want)
			all = append(all, generation{now, want})
		}
		for _, g := range all {
			checkTable(rt, g.table, g.want)
		}
		if len(all) > 0 {
			first, last := all[0], all[len(all)-1]
			checkDifference(rt, first.table, last.table, first.want, last.want)
			checkBuilt(rt, last.table, last.want)
		}
	})
}

// testRecord is the certificate number n of owner number i.
func testRecord(t *rapid.T, i, n int, flags byte) record {
	text := fmt.Sprintf("User%d@d.example", i)
	if i%5 == 0 {
		text = fmt.Sprintf(`"user %d"@d.example`, i)
	}
	if i == 0 {
		text = "d.example"
	}
	o, err := direct.ParseOwner(text)
	if err != nil {
		t.Fatal(err)
	}
	der := bytes.Repeat([]byte{byte(i), byte(n)}, 20+i%90)
	sum := sha256.Sum256(der)
	c := Certificate{Owner: o, SHA256: hex.EncodeToString(sum[:]), DER: der, PublishDNS: flags&1 != 0, PublishLDAP: flags&2 != 0}
	return certRecord(c, uint16(n), 8)
}

func modelKey(r record) string { return lowerText(r.owner()) + "/" + r.shaText() }

func step(t *rapid.T, e *tableEdit, want model) {
	from := rapid.IntRange(0, 700).Draw(t, "from")
	count := rapid.SampledFrom([]int{1, 1, 1, 3, 20, 20, 20, 600}).Draw(t, "count")
	n, flags := rapid.IntRange(0, 2).Draw(t, "certificate"), byte(rapid.IntRange(0, 3).Draw(t, "flags"))
	remove := rapid.IntRange(0, 2).Draw(t, "remove") == 0
	for i := from; i < from+count; i++ {
		r := testRecord(t, i, n, flags)
		if remove {
			e.remove(appendFolded(nil, r.owner()), r.sha())
			delete(want, modelKey(r))
		} else {
			e.put(r)
			want[modelKey(r)] = string(r)
		}
	}
}

func checkTable(t *rapid.T, is *table, want model) {
	if is.len() != len(want) {
		t.Fatalf("%d records, want %d", is.len(), len(want))
	}
	seen := 0
	owners := map[string]bool{}
	for refs := range is.owners {
		owner := lowerText(is.record(refs[0]).owner())
		if owners[owner] {
			t.Fatalf("the records of %s are in two places", owner)
		}
		owners[owner] = true
		if found := is.owned([]byte(owner)); len(found) != len(refs) || &found[0] != &refs[0] {
			t.Fatalf("%s has %d records, %d are found", owner, len(refs), len(found))
		}
		var before []byte
		for _, r := range refs {
			rec := is.record(r)
			if want[modelKey(rec)] != string(rec) {
				t.Fatalf("%s is not what was put", modelKey(rec))
			}
			if bytes.Compare(before, rec.payload()) >= 0 {
				t.Fatalf("the records of %s are out of order", owner)
			}
			before = rec.payload()
			seen++
		}
	}
	if seen != len(want) {
		t.Fatalf("%d records are walked, want %d", seen, len(want))
	}
	if is == nil {
		return
	}
	live := make([]uint32, len(is.chunks))
	for r := range is.all {
		live[r.chunk()] += uint32(r.size())
	}
	if !slices.Equal(live, is.live) {
		t.Fatalf("alive in the chunks is %v, counted %v", live, is.live)
	}
}

func checkDifference(t *rapid.T, was, is *table, before, after model) {
	want := map[string]bool{}
	for _, pair := range [][2]model{{before, after}, {after, before}} {
		for key, value := range pair[0] {
			if pair[1][key] != value {
				want[key[:len(key)-65]] = true
			}
		}
	}
	difference(was, is, func(x, y []ref) bool {
		var owner string
		if len(x) > 0 {
			owner = lowerText(was.record(x[0]).owner())
		} else {
			owner = lowerText(is.record(y[0]).owner())
		}
		if !want[owner] {
			t.Fatalf("%s is said to differ, or twice", owner)
		}
		delete(want, owner)
		return true
	})
	if len(want) > 0 {
		t.Fatalf("%d owners differ and are not told", len(want))
	}
}

// checkBuilt holds a table that is made at once against the one that grew.
func checkBuilt(t *rapid.T, grown *table, want model) {
	b := newTableBuilder()
	for _, value := range want {
		r := record(value)
		b.add(r, appendFolded(nil, r.owner()))
	}
	built := b.table(func(r record) { t.Fatalf("%s twice", modelKey(r)) })
	checkTable(t, built, want)
	difference(grown, built, func(x, y []ref) bool {
		t.Fatalf("%d records of an owner grew, %d were built", len(x), len(y))
		return false
	})
}

// TestNamesFindTheirOwners: what an owner's domain name says leads to the owner,
// and no other name does.
func TestNamesFindTheirOwners(t *testing.T) {
	owners := []string{"bob@d.example", "Bob.Smith@d.example", `"a b"@d.example`, `"q\"\\"@d.example`, "*@d.example", "x.*@d.example", "d.example", `"a..b"@d.example`}
	var list []Certificate
	for i, text := range owners {
		o, err := direct.ParseOwner(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, Certificate{Owner: o, DER: []byte{0x30, 1, byte(i)}, PublishDNS: true})
	}
	c := NewCertificates(list...)
	for labels, want := range map[string]string{
		"":                                  "d.example",
		"\x03bob":                           "bob@d.example",
		"\x03bob\x05smith":                  "Bob.Smith@d.example",
		"\x09bob.smith":                     "", // one label with a dot in it
		"\x03a b":                           `"a b"@d.example`,
		"\x03q\"\\":                         `"q\"\\"@d.example`,
		"\x01*":                             "",
		"\x01x\x01*":                        "",
		"\x04a..b":                          "",
		"\x01a\x01b":                        "",
		"\x02b\x00":                         "",
		"\x05smith":                         "",
		"\x03bob\x01\xc3":                   "",
		"\x3f" + long(63):                   "",
		"\x3f" + long(63)[:62] + "x\x03bob": "",
	} {
		h := c.At([]byte(labels), "d.example")
		got := ""
		if h.Len() > 0 {
			got = string(h.OwnerText())
		}
		if got != want {
			t.Errorf("At(%q) = %q, want %q", labels, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { c.At([]byte("\x03q\"\\"), "d.example") }); n > 0 {
		t.Errorf("a look-up makes %v allocations", n)
	}
}

func long(n int) string { return string(bytes.Repeat([]byte{'a'}, n)) }
