package direct_test

import (
	"errors"
	"strings"
	"testing"

	"directnode/internal/direct"
	"directnode/internal/spec"
)

func TestParseAddressTakesAddrSpecsAndNothingElse(t *testing.T) {
	spec.Covers(t, "AS-1.3-a")
	good := map[string]string{ // input → String
		"bob@direct.example.org":                    "bob@direct.example.org",
		"Bob.Smith+lab@DIRECT.Example.ORG":          "Bob.Smith+lab@direct.example.org",
		"o'brien@direct.example.org.":               "o'brien@direct.example.org",
		`"bob smith"@direct.example.org`:            `"bob smith"@direct.example.org`,
		`"bob"@direct.example.org`:                  "bob@direct.example.org",
		`"a\"b"@direct.example.org`:                 `"a\"b"@direct.example.org`,
		strings.Repeat("a", 64) + "@direct.example": strings.Repeat("a", 64) + "@direct.example",
	}
	for in, want := range good {
		a, err := direct.ParseAddress(in)
		if err != nil || a.String() != want {
			t.Errorf("ParseAddress(%q) = %q, %v; want %q", in, a, err, want)
		}
	}
	for _, in := range []string{
		"", "bob", "@direct.example.org", "bob@", "bob@org", "bob@@direct.example.org", ".bob@d.example", "bob.@d.example", "a..b@d.example",
		"Bob <bob@d.example>", "bob@[127.0.0.1]", "bob@-d.example", "bob@d-.example", "bob@d_e.example", "b\rob@d.example", "bob@d.example\n",
		`"bob@d.example`, `""@d.example`, `"a"b"@d.example`, "\"a\x00\"@d.example", "bob smith@d.example", "bób@d.example", "bob@bücher.example",
		strings.Repeat("a", 65) + "@d.example", "bob@" + strings.Repeat("a", 64) + ".example", "bob@" + strings.Repeat("a.", 130) + "example",
	} {
		if a, err := direct.ParseAddress(in); !errors.Is(err, direct.ErrAddress) || !a.IsZero() {
			t.Errorf("ParseAddress(%q) = %q, %v; want ErrAddress", in, a, err)
		}
	}
}

func TestAddressesCompareWithoutRegardToCase(t *testing.T) {
	a, _ := direct.ParseAddress("Bob.SMITH@Direct.Example.org")
	b, _ := direct.ParseAddress("bob.smith@direct.example.ORG")
	c, _ := direct.ParseAddress("bobsmith@direct.example.org")
	if !a.Equal(b) || a.Key() != b.Key() || a.Equal(c) {
		t.Errorf("Equal(%s, %s) = %v, Equal(%s, %s) = %v", a, b, a.Equal(b), a, c, a.Equal(c))
	}
}

func TestDNSNameFollowsSection51(t *testing.T) {
	spec.Covers(t, "AS-5.1-a")
	for in, want := range map[string]string{
		"bob@direct.example.org":         "bob.direct.example.org.",
		"John.Smith@direct.example.org":  "John.Smith.direct.example.org.",
		"bob+lab@direct.example.org":     "bob+lab.direct.example.org.",
		`"bob smith"@direct.example.org`: `bob\032smith.direct.example.org.`,
		`"a\\b;c"@direct.example.org`:    `a\\b\;c.direct.example.org.`,
		"$x@direct.example.org":          `\$x.direct.example.org.`,
	} {
		a, err := direct.ParseAddress(in)
		if err != nil {
			t.Fatal(err)
		}
		got, err := a.DNSName()
		if err != nil || got != want {
			t.Errorf("DNSName(%s) = %q, %v; want %q", a, got, err, want)
		}
	}
	for _, in := range []string{`"a..b"@d.example`, `".a"@d.example`, strings.Repeat("a", 64) + "@d.example",
		strings.Repeat("abc.", 15) + "ab@" + strings.Repeat("a23456789.", 18) + "example"} {
		a, err := direct.ParseAddress(in)
		if err != nil {
			t.Fatalf("%s: %v", in, err)
		}
		if name, err := a.DNSName(); len(in) > 80 && len(name) > 254 || err == nil && len(in) < 80 {
			t.Errorf("DNSName(%s) = %q, want an error", in, name)
		}
	}
}

func TestOwnersComeBackFromTheirNames(t *testing.T) {
	d, err := direct.ParseDomain("direct.example.org")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"bob@direct.example.org", "john.smith@direct.example.org", `"b o\"b"@direct.example.org`, "direct.example.org"} {
		o, err := direct.ParseOwner(s)
		if err != nil {
			t.Fatal(err)
		}
		name, err := o.DNSName()
		if err != nil {
			t.Fatal(err)
		}
		back, err := direct.OwnerFromDNSName(strings.ToUpper(name[:1])+name[1:], d)
		if err != nil || back.Key() != o.Key() || back.IsAddress() != o.IsAddress() {
			t.Errorf("%s → %s → %s, %v", o, name, back, err)
		}
	}
	for _, name := range []string{"example.org.", "bob.direct.example.com.", `bob\300.direct.example.org.`, "a..direct.example.org.", ""} {
		if o, err := direct.OwnerFromDNSName(name, d); err == nil {
			t.Errorf("OwnerFromDNSName(%q) = %s, want an error", name, o)
		}
	}
}

func TestTagAndContains(t *testing.T) {
	a, _ := direct.ParseAddress("bob+lab@direct.example.org")
	if b, ok := a.WithoutTag(); !ok || b.String() != "bob@direct.example.org" {
		t.Errorf("WithoutTag = %s, %v", b, ok)
	}
	d := a.Domain()
	for name, want := range map[string]bool{"direct.example.org": true, "Bob.Direct.Example.org.": true, "indirect.example.org": false, "example.org": false} {
		if d.Contains(name) != want {
			t.Errorf("Contains(%s) = %v", name, !want)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"bob@direct.example.org", `"b b"@d.example`, "a.b+c@d.example.", "@", `"\\"@a.b`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := direct.ParseAddress(s)
		if err != nil {
			if !errors.Is(err, direct.ErrAddress) {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		again, err := direct.ParseAddress(a.String())
		if err != nil || again != a {
			t.Fatalf("%q → %q → %q, %v", s, a, again, err)
		}
		name, err := a.DNSName()
		if err != nil {
			return
		}
		o, err := direct.OwnerFromDNSName(name, a.Domain())
		if err != nil || o.Address() != a {
			t.Fatalf("%q → %q → %q, %v", s, name, o, err)
		}
	})
}
