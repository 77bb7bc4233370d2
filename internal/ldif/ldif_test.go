package ldif_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"directnode/internal/ldif"
)

// linesOf is "number text" of every line.
func linesOf(r io.Reader) (out []string, err error) {
	l := ldif.NewLines(r)
	for l.Next() {
		out = append(out, fmt.Sprintf("%d+%d %s", l.At(), l.Folds(), l.Line()))
	}
	return out, l.Err()
}

func TestLinesAreUnfoldedAndNumbered(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want []string
	}{
		"nothing":                   {"", nil},
		"no end":                    {"a: b", []string{"1+1 a: b"}},
		"folds":                     {"a: b\n c\n  d\nx: y\n", []string{"1+3 a: bc d", "4+1 x: y"}},
		"CRLF, and LF beside it":    {"a: b\r\n c\r\n\r\nx: y\n", []string{"1+2 a: bc", "3+1 ", "4+1 x: y"}},
		"a fold inside of the name": {"us\n erCertificate:\n : QQ==\n", []string{"1+3 userCertificate:: QQ=="}},
		"an empty continuation":     {"a: b\n \n c\n", []string{"1+3 a: bc"}},
		"a comment goes on too":     {"#a\n b\nx: y\n", []string{"1+2 #ab", "3+1 x: y"}},
		"an empty line does not":    {"\n a\n", []string{"1+1 ", "2+1  a"}},
		"a byte order mark":         {"\xef\xbb\xbfversion: 1\n", []string{"1+1 version: 1"}},
		"a tab is no fold":          {"a: b\n\tc\n", []string{"1+1 a: b", "2+1 \tc"}},
	} {
		got, err := linesOf(iotest.OneByteReader(strings.NewReader(c.in)))
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
}

func TestLinesEndAtTheirLimits(t *testing.T) {
	for name, in := range map[string]string{
		"one line":          "a: " + strings.Repeat("x", ldif.MaxLine),
		"one folded line":   "a: " + strings.Repeat(strings.Repeat("x", 1000)+"\n ", ldif.MaxLine/1000+2),
		"a comment":         "#" + strings.Repeat("x", ldif.MaxLine),
		"very many folds":   "a: b\n" + strings.Repeat(" \n", 70_000),
		"behind other text": "a: b\n\nb: " + strings.Repeat("x", ldif.MaxLine),
	} {
		l := ldif.NewLines(strings.NewReader(in))
		for l.Next() {
		}
		if !errors.Is(l.Err(), ldif.ErrTooLong) || l.At() == 0 {
			t.Errorf("%s: %v in line %d", name, l.Err(), l.At())
		}
		if l.Next() {
			t.Errorf("%s: a line behind the error", name)
		}
	}
	broken := errors.New("disk gone")
	for _, before := range []string{"", "a: b", "a: b\n", "a: b\n c"} {
		if _, err := linesOf(io.MultiReader(strings.NewReader(before), iotest.ErrReader(broken))); !errors.Is(err, broken) {
			t.Errorf("behind %q: %v", before, err)
		}
	}
}

func TestParse(t *testing.T) {
	for in, want := range map[string]string{
		"dn: cn=x":                       "dn|cn=x|0",
		"a:b":                            "a|b|0",
		"a:":                             "a||0",
		"a:   b ":                        "a|b |0",
		"cn;lang-en: x":                  "cn;lang-en|x|0",
		"a::  QQ== ":                     "a|A|1",
		"a::":                            "a||1",
		"a:< file:///x":                  "!a:< file:///x: the value is not here",
		"a: <b":                          "a|<b|0",
		"a:: Q":                          "!a:: is not Base64: illegal base64 data at input byte 0",
		"nothing":                        `!no attribute name before ':' in "nothing"`,
		": x":                            `!no attribute name before ':' in ": x"`,
		"two words: x":                   `!"two words" is no attribute name`,
		"ä: x":                           `!"ä" is no attribute name`,
		"2.5.4.36;binary:: QQ==":         "2.5.4.36;binary|A|1",
		strings.Repeat("x", 100) + " no": `!no attribute name before ':' in "` + strings.Repeat("x", 40) + `"`,
	} {
		got := ""
		v, err := ldif.Parse([]byte(in))
		var text []byte
		if err == nil {
			text, err = v.AppendTo(nil)
		}
		if got = fmt.Sprintf("%s|%s|%d", v.Name, text, v.Form); err != nil {
			got = "!" + err.Error()
		}
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if v, err := ldif.Parse([]byte("userCertificate;binary;x: y")); err != nil || string(v.Base()) != "userCertificate" {
		t.Errorf("base %q, %v", v.Base(), err)
	}
}

// TestWhatIsWrittenIsReadBack, and every line fits 76 columns.
func TestWhatIsWrittenIsReadBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type pair struct{ name, value string }
		var want []pair
		var b bytes.Buffer
		version := rapid.Bool().Draw(rt, "version")
		w := ldif.NewWriter(&b, version)
		if version {
			want = append(want, pair{"version", "1"})
		}
		for range rapid.IntRange(0, 5).Draw(rt, "entries") {
			dn := rapid.String().Draw(rt, "dn")
			w.Begin([]byte(dn))
			if len(want) > 0 {
				want = append(want, pair{"", ""})
			}
			want = append(want, pair{"dn", dn})
			for range rapid.IntRange(0, 5).Draw(rt, "values") {
				p := pair{rapid.StringMatching(`[a-zA-Z][a-zA-Z0-9;-]{0,30}`).Draw(rt, "name"), rapid.OneOf(rapid.String(), rapid.StringMatching(`[ -~]{0,300}`)).Draw(rt, "value")}
				if rapid.Bool().Draw(rt, "binary") {
					w.Binary(p.name, []byte(p.value))
				} else {
					w.Text(p.name, []byte(p.value))
				}
				want = append(want, p)
			}
		}
		if err := w.Flush(); err != nil {
			rt.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if len(line) > 77 {
				rt.Fatalf("a line of %d columns", len(line)-1)
			}
			if i := strings.IndexFunc(line, func(r rune) bool { return r != '\n' && (r < ' ' || r > '~') }); i >= 0 {
				rt.Fatalf("a line with %q", line[i])
			}
		}
		l := ldif.NewLines(&b)
		var got []pair
		for l.Next() {
			if len(l.Line()) == 0 {
				got = append(got, pair{})
				continue
			}
			v, err := ldif.Parse(l.Line())
			if err != nil {
				rt.Fatal(err)
			}
			text, err := v.AppendTo(nil)
			if err != nil {
				rt.Fatal(err)
			}
			got = append(got, pair{string(v.Name), string(text)})
		}
		if !slices.Equal(got, want) || l.Err() != nil {
			rt.Fatalf("got %q, %v; want %q", got, l.Err(), want)
		}
	})
}

func TestAnInlinerChangesNothingButTheValues(t *testing.T) {
	fetched := map[string]string{"file:///a": "AAAA", "file:///empty": "", "file:///long": strings.Repeat("L", 300)}
	wants := func(name []byte) bool { return !bytes.HasPrefix(name, []byte("photo")) }
	fetch := func(url string) ([]byte, error) {
		v, ok := fetched[url]
		if !ok {
			return nil, errors.New("no such file")
		}
		return []byte(v), nil
	}
	for name, c := range map[string]struct{ in, want string }{
		"nothing":          {"", ""},
		"no URL":           {"\xef\xbb\xbfversion: 1\r\n\r\n# c\n :<\ndn: cn=x\r\n y\ncert:: QQ==\nx: <y\nodd", "\xef\xbb\xbfversion: 1\r\n\r\n# c\n :<\ndn: cn=x\r\n y\ncert:: QQ==\nx: <y\nodd"},
		"a URL":            {"dn: x\ncert;binary:< file:///a\nmail: y\n", "dn: x\ncert;binary:: QUFBQQ==\nmail: y\n"},
		"of another":       {"photo:< file:///none\n", "photo:< file:///none\n"},
		"folded":           {"cert\n :\n < file:\n ///a\nmail: y\n", "cert:: QUFBQQ==\n \n \n \nmail: y\n"},
		"empty":            {"cert:< file:///empty", "cert:: \n"},
		"long":             {"cert:< file:///long\n", "cert:: " + base64.StdEncoding.EncodeToString([]byte(fetched["file:///long"])) + "\n"},
		"malformed before": {"nonsense\n\ncert:< file:///a\n", "nonsense\n\ncert:: QUFBQQ==\n"},
	} {
		got, err := io.ReadAll(ldif.NewInliner(iotest.OneByteReader(strings.NewReader(c.in)), "f.ldif", wants, fetch))
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
		was, _ := linesOf(strings.NewReader(c.in))
		is, _ := linesOf(bytes.NewReader(got))
		for i := range was {
			if number, _, _ := strings.Cut(was[i], " "); !strings.HasPrefix(is[i], number+" ") {
				t.Errorf("%s: line %q became %q", name, was[i], is[i])
			}
		}
	}
	_, err := io.ReadAll(ldif.NewInliner(strings.NewReader("dn: x\n y\ncert:<file:///none\n"), "f.ldif", wants, fetch))
	if err == nil || err.Error() != "f.ldif:3: cert:< file:///none: no such file" {
		t.Errorf("a file that is not there: %v", err)
	}
	_, err = io.ReadAll(ldif.NewInliner(strings.NewReader("\n"+strings.Repeat("x", ldif.MaxLine+1)), "f.ldif", wants, fetch))
	if !errors.Is(err, ldif.ErrTooLong) || !strings.HasPrefix(err.Error(), "f.ldif:2: ") {
		t.Errorf("a long line: %v", err)
	}
}

func FuzzInliner(f *testing.F) {
	f.Add([]byte("version: 1\n\ndn: x\ncert:< file:///a\n# c\n d\nmail:\n : QQ==\n"))
	f.Add([]byte("a\n :\n <\n b\r\n\r\n \n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		all := func([]byte) bool { return true }
		got, err := io.ReadAll(ldif.NewInliner(bytes.NewReader(in), "f", all, func(url string) ([]byte, error) { return []byte(url), nil }))
		if err != nil {
			if !errors.Is(err, ldif.ErrTooLong) {
				t.Fatal(err)
			}
			return
		}
		// Line by line it says the same, at the same numbers, and no URL is left.
		a, b := ldif.NewLines(bytes.NewReader(in)), ldif.NewLines(bytes.NewReader(got))
		for a.Next() {
			if !b.Next() || a.At() != b.At() || a.Folds() != b.Folds() {
				t.Fatalf("line %d of %q is not in %q: %v", a.At(), in, got, b.Err())
			}
			v, err := ldif.Parse(a.Line())
			if err != nil || v.Form != ldif.URL || a.IsComment() {
				if !bytes.Equal(a.Line(), b.Line()) {
					t.Fatalf("%q became %q", a.Line(), b.Line())
				}
				continue
			}
			w, err := ldif.Parse(b.Line())
			if err != nil || w.Form != ldif.Base64 || !bytes.Equal(v.Name, w.Name) {
				t.Fatalf("%q became %q: %v", a.Line(), b.Line(), err)
			}
			if value, err := w.AppendTo(nil); err != nil || !bytes.Equal(value, v.Text) {
				t.Fatalf("%q became %q, %v", v.Text, value, err)
			}
		}
		if b.Next() || a.Err() != nil || b.Err() != nil {
			t.Fatalf("ends differ: %v, %v", a.Err(), b.Err())
		}
	})
}
