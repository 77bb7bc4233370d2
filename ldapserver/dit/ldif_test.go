package dit_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"directnode/internal/direct"
	"directnode/ldapserver/dit"
	"directnode/store"
)

// summary is entries as "line mail cert,cert".
func summary(entries []dit.LDIFEntry) []string {
	var out []string
	for _, e := range entries {
		var certs []string
		for _, der := range e.Certs {
			certs = append(certs, string(der))
		}
		out = append(out, fmt.Sprintf("%d %s %s", e.Line, e.Mail, strings.Join(certs, ",")))
	}
	return out
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestParseLDIFTakesWhatOthersWrite(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want []string
	}{
		"nothing":      {"", nil},
		"version only": {"version: 1\n", nil},
		"plain": {"version: 1\n\ndn: cn=bob,dc=b\nmail: bob@b.test\nuserCertificate:: " + b64("B") + "\n",
			[]string{"3 bob@b.test B"}},
		"binary option, other case, CRLF": {"dn: cn=bob,dc=b\r\nMAIL: bob@b.test\r\nUserCertificate;Binary:: " + b64("B") + "\r\n",
			[]string{"1 bob@b.test B"}},
		"several values": {"dn: cn=bob,dc=b\nmail: bob@b.test\nuserCertificate:: " + b64("B1") + "\nuserCertificate;binary:: " + b64("B2") + "\n",
			[]string{"1 bob@b.test B1,B2"}},
		"several addresses": {"dn: cn=bob,dc=b\nmail: bob@b.test\nrfc822Mailbox: bob@c.test\nuserCertificate:: " + b64("B") + "\n",
			[]string{"1 bob@b.test B", "1 bob@c.test B"}},
		"folded in the middle of everything": {"dn: cn=bo\n b,dc=b\nma\n il: bob@\n b.test\nuserCertificate:\n : " + b64("BBBB")[:3] + "\n " + b64("BBBB")[3:] + "\n",
			[]string{"1 bob@b.test BBBB"}},
		"comments, folded too": {"# first\n#\n folded: comment\ndn: cn=bob,dc=b\n# inside\n  more\nmail: bob@b.test\nuserCertificate:: " + b64("B") + "\n",
			[]string{"4 bob@b.test B"}},
		"no newline at the end, base64 mail and dn": {"dn:: " + b64("cn=bob,dc=b") + "\nmail:: " + b64("bob@b.test") + "\nuserCertificate:: " + b64("B"),
			[]string{"1 bob@b.test B"}},
		"empty lines between":      {"\n\ndn: cn=a,dc=b\nmail: a@b.test\nuserCertificate:: " + b64("A") + "\n\n\n\ndn: cn=c,dc=b\nmail: c@b.test\nuserCertificate:: " + b64("C") + "\n", []string{"3 a@b.test A", "9 c@b.test C"}},
		"without certificate":      {"dn: dc=b\nobjectClass: domain\ndc: b\n\ndn: cn=x,dc=b\nmail: x@b.test\n", nil},
		"attributes not known":     {"dn: cn=bob,dc=b\njpegPhoto;x-y:: " + b64("J") + "\nmail: bob@b.test\nuserCertificate:: " + b64("B") + "\n", []string{"1 bob@b.test B"}},
		"byte order mark":          {"\xef\xbb\xbfdn: cn=bob,dc=b\nmail: bob@b.test\nuserCertificate:: " + b64("B") + "\n", []string{"1 bob@b.test B"}},
		"organization":             {"dn: cn=org,dc=b\nmail: b.test\nuserCertificate;binary:: " + b64("O") + "\n", []string{"1 b.test O"}},
		"spaces before the values": {"dn:   cn=bob,dc=b\nmail:    bob@b.test\nuserCertificate::    " + b64("B") + "\n", []string{"1 bob@b.test B"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := dit.ParseLDIF(iotest.OneByteReader(strings.NewReader(c.in)), "f.ldif")
			if err != nil || !slices.Equal(summary(got), c.want) {
				t.Errorf("got %q, %v; want %q", summary(got), err, c.want)
			}
		})
	}
}

func TestParseLDIFNamesTheMalformedEntryAndReadsTheRest(t *testing.T) {
	good := "dn: cn=ok,dc=b\nmail: ok@b.test\nuserCertificate:: " + b64("OK") + "\n"
	for bad, want := range map[string]string{
		"dn: cn=bob,dc=b\nmail: bob@b.test\nuserCertificate:: !!!\n":              "f.ldif:7: userCertificate:: is not Base64",
		"dn: cn=bob,dc=b\nmail: bob@b.test\nuserCertificate:< file:///etc/cert\n": "f.ldif:7: userCertificate:< names a URL: values are not fetched",
		"dn: cn=bob,dc=b\nnonsense\nmail: bob@b.test\n":                           "f.ldif:6: no attribute name before ':'",
		"mail: bob@b.test\nuserCertificate:: " + b64("B") + "\n":                  "f.ldif:5: an entry must begin with dn:",
		"dn: bob\nmail: bob@b.test\n":                                             "f.ldif:5: dn \"bob\": not a distinguished name",
		"dn: cn=bob,dc=b\nuserCertificate:: " + b64("B") + "\n":                   "f.ldif:5: userCertificate without mail",
		"dn: cn=bob,dc=b\nmail:\nuserCertificate:: " + b64("B") + "\n":            "f.ldif:6: an empty mail value",
		"dn: cn=bob,dc=b\nmail: bob@b.test\nuserCertificate::\n":                  "f.ldif:7: an empty certificate",
		"dn: cn=bob,dc=b\nchangetype: add\nmail: bob@b.test\n":                    "f.ldif:6: a change record",
		"dn: cn=bob,dc=b\ndn: cn=eve,dc=b\n":                                      "f.ldif:6: a second dn:",
		" dn: cn=bob,dc=b\n":                                                      "f.ldif:5: an entry must begin with dn:",
	} {
		got, err := dit.ParseLDIF(strings.NewReader(good+"\n"+bad+"\n"+good), "f.ldif")
		var problems dit.LDIFProblems
		if !errors.As(err, &problems) || len(problems) != 1 || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: error %v, want %s…", bad, err, want)
		}
		if len(got) != 2 || got[0].Mail != "ok@b.test" || got[1].Mail != "ok@b.test" {
			t.Errorf("%q: the readable entries are %q", bad, summary(got))
		}
	}
	if _, err := dit.ParseLDIF(strings.NewReader("version: 2\n\n"+good), "f.ldif"); err == nil || !strings.Contains(err.Error(), "f.ldif:1: version") {
		t.Errorf("version 2: %v", err)
	}
	if _, err := dit.ParseLDIF(strings.NewReader("x\n\ny\n\n"), "f.ldif"); err == nil || !strings.Contains(err.Error(), "and 1 more") {
		t.Errorf("two problems: %v", err)
	}
}

func TestParseLDIFEndsAtItsLimits(t *testing.T) {
	long := strings.Repeat("x", 300<<10)
	for name, in := range map[string]string{
		"one line":           "dn: cn=" + long + "\n",
		"one folded line":    "dn: cn=" + strings.Repeat("x\n ", 270<<10) + "\n",
		"too many malformed": strings.Repeat("x\n\n", 1001),
	} {
		_, err := dit.ParseLDIF(strings.NewReader(in), "f.ldif")
		var problem dit.LDIFProblem
		if !errors.As(err, &problem) || problem.Line == 0 {
			t.Errorf("%s: %v, want one problem that ends the reading", name, err)
		}
	}
	entry := "dn: cn=bob,dc=b\nmail: bob@b.test\n" + strings.Repeat("userCertificate:: "+b64(strings.Repeat("c", 100<<10))+"\n", 11)
	if got, err := dit.ParseLDIF(strings.NewReader(entry), "f.ldif"); err == nil || !strings.Contains(err.Error(), "an entry of more than") || len(got) != 0 {
		t.Errorf("large entry: %d entries, %v", len(got), err)
	}
	broken := errors.New("disk gone")
	got, err := dit.ParseLDIF(io.MultiReader(strings.NewReader("dn: cn=a,dc=b\nmail: a@b.test\nuserCertificate:: "+b64("A")+"\n\n"), iotest.ErrReader(broken)), "f.ldif")
	if !errors.Is(err, broken) || len(got) != 1 {
		t.Errorf("broken reader: %q, %v", summary(got), err)
	}
}

func TestLDIFRoundTrip(t *testing.T) {
	locals := []string{"bob", "Bob.Smith", "x+tag", `"o'hara, x"`, `"a \"b\" c"`, `"#,x"`, `" lead"`, `"trail "`, "a=b", "very.long.local.part.that.makes.the.line.longer.than.a.fold"}
	rapid.Check(t, func(rt *rapid.T) {
		want := map[string][]string{}
		var lines []string
		for i := range rapid.IntRange(1, 8).Draw(rt, "certificates") {
			owner := rapid.SampledFrom(locals).Draw(rt, "local") + "@b.direct.test"
			if rapid.IntRange(0, 5).Draw(rt, "organization") == 0 {
				owner = "b.direct.test"
			}
			der := fmt.Sprintf("%d%s", i, rapid.StringMatching(`[a-z]{0,200}`).Draw(rt, "der"))
			lines = append(lines, owner+" "+der)
			want[owner] = append(want[owner], der)
		}
		data := domain(t, "b.direct.test", lines...)
		var b bytes.Buffer
		if err := dit.WriteLDIF(&b, view{data}, data.Domain); err != nil {
			rt.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if len(line) > 77 {
				rt.Fatalf("line of %d columns", len(line)-1)
			}
		}
		entries, err := dit.ParseLDIF(&b, "f.ldif")
		if err != nil {
			rt.Fatal(err)
		}
		got := map[string][]string{}
		for _, e := range entries {
			for _, der := range e.Certs {
				got[e.Mail] = append(got[e.Mail], string(der))
			}
		}
		for _, m := range []map[string][]string{got, want} {
			for owner := range m {
				slices.Sort(m[owner])
			}
		}
		if !reflect.DeepEqual(got, want) {
			rt.Fatalf("got %q, want %q", got, want)
		}
	})
}

func TestWriteLDIFGolden(t *testing.T) {
	data := domain(t, "b.direct.test", "bob@b.direct.test "+strings.Repeat("B", 60), `" x"@b.direct.test X`, "!hidden@b.direct.test H")
	var b bytes.Buffer
	if err := dit.WriteLDIF(&b, view{data}, data.Domain); err != nil {
		t.Fatal(err)
	}
	want := `version: 1

dn: dc=b,dc=direct,dc=test
objectClass: top
objectClass: organization
objectClass: dcObject
dc: b
o: b.direct.test

dn: uid=\ x,dc=b,dc=direct,dc=test
objectClass: top
objectClass: person
objectClass: organizationalPerson
objectClass: inetOrgPerson
cn: " x"@b.direct.test
sn: " x"@b.direct.test
uid:: IHg=
mail: " x"@b.direct.test
userCertificate;binary:: WA==

dn: uid=bob,dc=b,dc=direct,dc=test
objectClass: top
objectClass: person
objectClass: organizationalPerson
objectClass: inetOrgPerson
cn: bob@b.direct.test
sn: bob@b.direct.test
uid: bob
mail: bob@b.direct.test
userCertificate;binary:: QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJ
 CQkJCQkJCQkJCQkJCQkJCQkJCQkJC
`
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	d, err := direct.ParseDomain("c.direct.test")
	if err != nil {
		t.Fatal(err)
	}
	if err := dit.WriteLDIF(&b, view{data}, d); err == nil {
		t.Error("a domain that is not there: no error")
	}
	if err := dit.WriteLDIF(failingWriter{}, view{data}, data.Domain); err == nil {
		t.Error("a full disk: no error")
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func FuzzParseLDIF(f *testing.F) {
	f.Add([]byte("version: 1\n\ndn: cn=bob,dc=b\nmail: bob@b.test\nuserCertificate;binary:: QQ==\n"))
	f.Add([]byte("dn: cn=bo\n b,dc=b\r\n# c\n c\nmail:< http://x\n\n\xff:"))
	f.Add([]byte("dn:: Y249YQ==\nrfc822Mailbox: a@b\n2.5.4.36:: QQ==\n\nchangetype: add\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		entries, err := dit.ParseLDIF(bytes.NewReader(in), "f.ldif")
		for _, e := range entries {
			if e.Mail == "" || len(e.Certs) == 0 || e.Line < 1 {
				t.Fatalf("entry %+v", e)
			}
		}
		if err != nil && !strings.HasPrefix(err.Error(), "f.ldif:") {
			t.Fatalf("error without file and line: %v", err)
		}
		// Whatever was read can be published and comes back the same.
		d, _ := direct.ParseDomain("b.test")
		data := &store.DomainData{Domain: d}
		for i, e := range entries {
			owner, err := direct.ParseOwner(e.Mail)
			if err != nil || owner.Domain() != d || i > 0 {
				continue
			}
			data.Certificates = store.NewCertificates(store.Certificate{Owner: owner, DER: e.Certs[0], PublishLDAP: true})
		}
		if data.Certificates.Len() == 0 {
			return
		}
		var b bytes.Buffer
		if err := dit.WriteLDIF(&b, view{data}, d); err != nil {
			t.Fatal(err)
		}
		again, err := dit.ParseLDIF(&b, "g.ldif")
		if err != nil || len(again) != 1 || again[0].Mail != slices.Collect(data.Certificates.All)[0].Owner.String() || !bytes.Equal(again[0].Certs[0], slices.Collect(data.Certificates.All)[0].DER) {
			t.Fatalf("%+v came back as %+v, %v", data.Certificates, again, err)
		}
	})
}
