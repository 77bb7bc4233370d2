package dit

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestEscapedValuesAreReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.StringMatching(`[ -~]{1,20}`).Draw(t, "value")
		key, err := canonical([]byte("uid=" + escapeValue(value) + ",dc=b,dc=test"))
		if err != nil {
			t.Fatalf("%q: %v", escapeValue(value), err)
		}
		attr, got, parent := splitRDN(key)
		want := strings.ToLower(strings.Join(strings.FieldsFunc(value, func(r rune) bool { return r == ' ' }), " "))
		if attr != "uid" || got != want || parent != "dc=b,dc=test" {
			t.Fatalf("%q: %q = %q below %q", value, attr, got, parent)
		}
	})
}

func TestEscapeValueGolden(t *testing.T) {
	for value, want := range map[string]string{
		"bob": "bob", "a+b": `a\+b`, "#x": `\#x`, "x#": "x#", " x ": `\ x\ `, `a"b`: `a\"b`, `a\b`: `a\\b`, "a,b;c<d>e": `a\,b\;c\<d\>e`,
		"a=b": "a=b", "a\x00b": `a\00b`, "caf\u00e9": `caf\c3\a9`,
	} {
		if got := escapeValue(value); got != want {
			t.Errorf("escapeValue(%q) = %s, want %s", value, got, want)
		}
	}
}

func FuzzDN(f *testing.F) {
	for _, s := range []string{"dc=b,dc=test", `uid=a\,b\2c\ +cn="x,\"y" ; dc=#040162`, "CN = Subschema ", `x=\`, "2.5.4.3=#0c0141"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, dn string) {
		key, err := canonical([]byte(dn))
		if err != nil || len(key) > maxDN {
			return // the canonical form may be longer than a name that is read
		}
		again, err := canonical([]byte(key))
		if err != nil || again != key {
			t.Fatalf("%q is %q, and that is %q, %v", dn, key, again, err)
		}
		for rest := key; rest != ""; {
			_, _, rest = splitRDN(rest)
		}
	})
}
