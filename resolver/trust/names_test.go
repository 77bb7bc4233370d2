package trust

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"strings"
	"testing"
)

// dn writes a name of one attribute, organizationName, with a value of any type.
func dn(tag byte, value string) []byte {
	v := append([]byte{tag, byte(len(value))}, value...)
	atv := append([]byte{0x30, byte(5 + len(v)), 6, 3, 0x55, 4, 10}, v...)
	set := append([]byte{0x31, byte(len(atv))}, atv...)
	return append([]byte{0x30, byte(len(set))}, set...)
}

// TestNamesAreComparedByMeaning is RFC 5280 §7.1, both ways.
func TestNamesAreComparedByMeaning(t *testing.T) {
	const printable, utf8, ia5, t61, bmp, universal, octets = 19, 12, 22, 20, 30, 28, 4
	for _, tc := range []struct {
		a, b  []byte
		equal bool
	}{
		{dn(printable, "Clinic"), dn(utf8, "Clinic"), true},
		{dn(printable, "Clinic"), dn(ia5, "CLINIC"), true},
		{dn(printable, "Clinic  of\tX "), dn(utf8, " clinic of x"), true},
		{dn(utf8, "Köln"), dn(t61, "K\xf6ln"), true},
		{dn(utf8, "Köln"), dn(bmp, "\x00K\x00\xf6\x00l\x00n"), true},
		{dn(utf8, "KÖLN"), dn(utf8, "köln"), true},
		{dn(printable, "Clinic"), dn(printable, "Clinics"), false},
		{dn(printable, ""), dn(utf8, " "), true},
		{dn(universal, "\x00\x00\x00A"), dn(universal, "\x00\x00\x00B"), false},
		{dn(universal, "\x00\x00\x00A"), dn(universal, "\x00\x00\x00A"), true},
		{dn(octets, "A"), dn(octets, "B"), false},
		{dn(octets, "A"), dn(printable, "A"), false},
		{dn(utf8, "\xff"), dn(utf8, "\xfe"), false},
		{dn(bmp, "\xd8\x00"), dn(bmp, "\xd8\x01"), false},
		{dn(bmp, "\x00"), dn(bmp, "\x01"), false},
		{dn(printable, "A"), append(dn(printable, "A"), 0), false},
		{[]byte{0x30, 0}, dn(printable, ""), false},
		{[]byte{0x30, 2, 0x31, 0}, []byte{0x30, 0}, false},
		{[]byte("junk"), []byte("junk"), true},
		{[]byte("junk"), []byte("jun"), false},
	} {
		if got := canonical(tc.a).key() == canonical(tc.b).key(); got != tc.equal {
			t.Errorf("%x and %x: equal %v", tc.a, tc.b, got)
		}
	}
}

// TestNoValueImitatesASeparator: two names with other attributes are never equal, whatever stands in the values.
func TestNoValueImitatesASeparator(t *testing.T) {
	marshal := func(n pkix.RDNSequence) []byte {
		der, err := asn1.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	o, ou := asn1.ObjectIdentifier{2, 5, 4, 10}, asn1.ObjectIdentifier{2, 5, 4, 11}
	atv := func(t asn1.ObjectIdentifier, v string) pkix.AttributeTypeAndValue {
		return pkix.AttributeTypeAndValue{Type: t, Value: v}
	}
	var all []string
	for _, n := range []pkix.RDNSequence{
		{{atv(o, "a")}, {atv(ou, "b")}}, {{atv(o, "a"), atv(ou, "b")}}, {{atv(ou, "b")}, {atv(o, "a")}}, {{atv(o, "a,2.5.4.11=b")}}, {{atv(o, `a"+2.5.4.11="b`)}},
		{{atv(o, "a")}}, {{atv(o, "a")}, {atv(ou, "")}}, {{atv(o, "ab")}}, {},
	} {
		key := canonical(marshal(n)).key()
		if slices.Contains(all, key) {
			t.Errorf("%v equals another", n)
		}
		all = append(all, key)
	}
	// A SET has no order.
	x, y := pkix.RDNSequence{{atv(o, "a"), atv(ou, "b")}}, pkix.RDNSequence{{atv(ou, "b"), atv(o, "a")}}
	if canonical(marshal(x)).key() != canonical(marshal(y)).key() {
		t.Error("the order inside a SET decides")
	}
}

func TestNamesWithinSubtrees(t *testing.T) {
	name := func(values ...string) rdns {
		var b []byte
		for _, v := range values {
			one := dn(19, v)
			b = append(b, one[2:]...)
		}
		return canonical(append([]byte{0x30, byte(len(b))}, b...))
	}
	for _, tc := range []struct {
		n, subtree rdns
		in         bool
	}{
		{name("A", "B"), name("a"), true}, {name("A", "B"), name("A", "B"), true}, {name("A"), name("A", "B"), false},
		{name("A", "B"), name("B"), false}, {name("AB"), name("A"), false}, {name("A"), name(), true},
	} {
		if tc.n.within(tc.subtree) != tc.in {
			t.Errorf("%q in %q: %v", tc.n, tc.subtree, !tc.in)
		}
	}
}

// FuzzNameConstraints feeds arbitrary octets as the two extensions. Nothing is allowed that is excluded, an empty extension allows
// everything, and what is permitted by a set is permitted by a larger one.
func FuzzNameConstraints(f *testing.F) {
	seq := func(b ...[]byte) []byte {
		body := bytes.Join(b, nil)
		return append([]byte{0x30, byte(len(body))}, body...)
	}
	tagged := func(tag byte, b string) []byte { return append([]byte{tag, byte(len(b))}, b...) }
	for _, base := range []string{"\x81" + "bob@example.org", "\x81.example.org", "\x82example.org", "\x86example.org", "\x87\xc0\x00\x02\x00\xff\xff\xff\x00", "\x88\x2a\x03"} {
		tree := string(seq(tagged(base[0], base[1:])))
		for _, side := range []byte{0xa0, 0xa1} {
			f.Add(seq(tagged(side, tree)), seq(tagged(0x81, "Bob@example.org"), tagged(0x82, "x.example.org"), tagged(0x86, "https://example.org"), tagged(0x87, "\xc0\x00\x02\x01")))
		}
	}
	f.Add(seq(tagged(0xa0, string(seq(append([]byte{0xa4, byte(len(dn(19, "A")))}, dn(19, "A")...))))), seq(append([]byte{0xa4, byte(len(dn(19, "a")))}, dn(19, "a")...)))
	f.Fuzz(func(t *testing.T, constraints, alternatives []byte) {
		limits, err := parseConstraints(constraints)
		if err != nil {
			return
		}
		names, err := parseAlternatives(alternatives)
		if err != nil {
			return
		}
		reason := limits.refuse(names)
		if reason != "" && !strings.HasSuffix(reason, "which is excluded") && !strings.HasSuffix(reason, "which lies in no permitted subtree") {
			t.Fatalf("a reason without a reason: %q", reason)
		}
		if empty := (subtrees{}).refuse(names); empty != "" {
			t.Fatalf("no constraints, and yet %s", empty)
		}
		if len(limits.permitted) == 0 && len(limits.excluded) > 0 {
			// The same trees on the other side: a name that can be compared is refused by exactly one of them, if there is one tree of its kind.
			other := subtrees{permitted: limits.excluded}
			for _, n := range names {
				one := []generalName{n}
				if limits.refuse(one) == "" && other.refuse(one) == "" && slices.ContainsFunc(limits.excluded, func(b generalName) bool { return b.tag == n.tag }) {
					t.Fatalf("%s is neither inside nor outside", n.shown)
				}
			}
		}
		twice := subtrees{append(slices.Clone(limits.permitted), limits.permitted...), append(slices.Clone(limits.excluded), limits.excluded...)}
		if (twice.refuse(names) == "") != (reason == "") {
			t.Fatal("constraints said twice say something else")
		}
	})
}
