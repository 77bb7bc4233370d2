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

// summary is entries as "line mail cert,cert", faults as "!line text", notes as
// "?line text".
func summary(entries []dit.LDIFEntry) []string {
	var out []string
	for _, e := range entries {
		if e.Fault != nil {
			out = append(out, fmt.Sprintf("!%d %s", e.Fault.Line, e.Fault.Text))
			continue
		}
		var certs []string
		for _, der := range e.Certs {
			certs = append(certs, string(der.Data))
		}
		for _, m := range e.Mails {
			if len(certs) > 0 {
				out = append(out, fmt.Sprintf("%d %s %s", e.Line, m.Data, strings.Join(certs, ",")))
			}
		}
		if len(e.Mails) == 0 {
			out = append(out, fmt.Sprintf("%d nobody %s", e.Line, strings.Join(certs, ",")))
		}
		for _, n := range e.Notes {
			out = append(out, fmt.Sprintf("?%d %s", n.Line, n.Text))
		}
	}
	return out
}

// scan reads all entries of a text.
func scan(r io.Reader, file string) (entries []dit.LDIFEntry, sum dit.LDIFSummary, err error) {
	sum, err = dit.ScanLDIF(r, file, func(e dit.LDIFEntry) error {
		entries = append(entries, e)
		return nil
	})
	return entries, sum, err
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestScanLDIFTakesWhatOthersWrite(t *testing.T) {
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
		"a change that adds":       {"dn: cn=bob,dc=b\ncontrol: 2.16.840.1.113730.3.4.2 false\nchangetype: add\nmail: bob@b.test\nuserCertificate:: " + b64("B") + "\n", []string{"1 bob@b.test B"}},
		"what ldapsearch adds":     {"# extended LDIF\n#\n\n# bob, b\ndn: cn=bob,dc=b\nmail: bob@b.test\nuserCertificate:: " + b64("B") + "\n\n# search reference\nref: ldap://c.test/dc=c??sub\n\n# search result\nsearch: 2\nresult: 0 Success\n\n# numResponses: 3\n", []string{"5 bob@b.test B"}},
		"state of a replica":       {"dn: cn=bob,dc=b\nmail;vucsn-5f0000000000000a0000: bob@b.test\nmail;vdcsn-5f0000000000000a0000;deleted: old@b.test\nuserCertificate;vucsn-5f0000000000000a0000;binary:: " + b64("B") + "\n\ndn: nsuniqueid=1,cn=gone,dc=b\nobjectClass: nsTombstone\nmail: gone@b.test\nuserCertificate:: " + b64("G") + "\n", []string{"1 bob@b.test B"}},
		"other options":            {"dn: cn=bob,dc=b\nmail: bob@b.test\nuserCertificate;lang-en:: " + b64("E") + "\nuserCertificate:: " + b64("B") + "\nmail;x-old: b@b.test\n", []string{"1 bob@b.test B", "?3 userCertificate;lang-en: a certificate with the option lang-en, which no client asks for, is not taken", "?5 mail;x-old: an address with the option x-old is not taken"}},
		"S/MIME beside it":         {"dn: cn=bob,dc=b\nmail: bob@b.test\nuserSMIMECertificate:: " + b64("S") + "\nuserCertificate:: " + b64("B") + "\n", []string{"1 bob@b.test B"}},
		"S/MIME alone":             {"dn: cn=bob,dc=b\nmail: bob@b.test\nuserSMIMECertificate;binary:: " + b64("S") + "\n", []string{"?3 userSMIMECertificate alone: Direct clients ask for userCertificate; import the certificate itself with `directctl cert import`"}},
		"a picture in a file":      {"dn: cn=bob,dc=b\njpegPhoto:< file:///tmp/bob.jpg\nmail: bob@b.test\nuserCertificate:: " + b64("B") + "\n", []string{"1 bob@b.test B"}},
		"names in all forms":       {"dn: 2.5.4.3=#0403626F62 + UID = \"b, o\";dc=b\nmail: bob@b.test\nuserCertificate:: " + b64("B") + "\n\ndn: cn=\\c3\\a4\\,\\ ,dc=b\nmail: a@b.test\nuserCertificate:: " + b64("A") + "\n\ndn:\nobjectClass: top\n", []string{"1 bob@b.test B", "5 a@b.test A"}},
		"no mail":                  {"dn: cn=ca,dc=b\nuserCertificate:: " + b64("B") + "\n", []string{"1 nobody B"}},
		"version without a line":   {"version: 1\ndn: cn=bob,dc=b\nmail: bob@b.test\nuserCertificate:: " + b64("B") + "\n", []string{"2 bob@b.test B"}},
		"spaces before the values": {"dn:   cn=bob,dc=b\nmail:    bob@b.test\nuserCertificate::    " + b64("B") + "\n", []string{"1 bob@b.test B"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, _, err := scan(iotest.OneByteReader(strings.NewReader(c.in)), "f.ldif")
			if err != nil || !slices.Equal(summary(got), c.want) {
				t.Errorf("got %q, %v; want %q", summary(got), err, c.want)
			}
		})
	}
}

func TestScanLDIFNamesTheMalformedEntryAndReadsTheRest(t *testing.T) {
	good := "dn: cn=ok,dc=b\nmail: ok@b.test\nuserCertificate:: " + b64("OK") + "\n"
	const ok = "1 ok@b.test OK"
	for bad, want := range map[string]string{
		"dn: cn=bob,dc=b\nmail: bob@b.test\nuserCertificate:: !!!\n":              "!7 userCertificate:: is not Base64",
		"dn: cn=bob,dc=b\nmail: bob@b.test\nuserCertificate:< file:///etc/cert\n": "!7 userCertificate:< file:///etc/cert: the value is not here: only directctl puts files",
		"dn: cn=bob,dc=b\nmail:< http://c.test/\n":                                "!6 mail:< http://c.test/: the value is not here",
		"dn: cn=bob,dc=b\nnonsense\nmail: bob@b.test\n":                           "!6 no attribute name before ':'",
		"mail: bob@b.test\nuserCertificate:: " + b64("B") + "\n":                  "!5 an entry must begin with dn:",
		"dn: bob\nmail: bob@b.test\n":                                             "!5 dn \"bob\": not a distinguished name",
		"dn:: !\nmail: bob@b.test\n":                                              "!5 dn:: is not Base64",
		"dn:< file:///x\nmail: bob@b.test\n":                                      "!5 dn:< file:///x: the value is not here",
		"dn: cn=bob,dc=b\nmail:\nuserCertificate:: " + b64("B") + "\n":            "!6 an empty mail value",
		"dn: cn=bob,dc=b\nmail: bob@b.test\nuserCertificate::\n":                  "!7 an empty certificate",
		"dn: cn=bob,dc=b\nchangetype: modify\nadd: mail\nmail: bob@b.test\n-\n":   "!6 changetype modify: only entries",
		"dn: cn=bob,dc=b\nchangetype: delete\n":                                   "!6 changetype delete: only entries",
		"dn: cn=bob,dc=b\nchangetype: modrdn\nnewrdn: cn=eve\ndeleteoldrdn: 1\n":  "!6 changetype modrdn: only entries",
		"dn: cn=bob,dc=b\nmail: b@b.test\nchangetype: add\n":                      "!7 changetype: behind attributes",
		"dn: cn=bob,dc=b\ncontrol: 1.2.3 true:x\nchangetype: add\n":               "!6 a change with the critical control 1.2.3",
		"dn: cn=bob,dc=b\ndn: cn=eve,dc=b\n":                                      "!6 a second dn:",
		" dn: cn=bob,dc=b\n":                                                      "!5 \" dn\" is no attribute name",
		"search: 2\nnonsense\n":                                                   "!6 no attribute name",
	} {
		got, _, err := scan(strings.NewReader(good+"\n"+bad+"\n"+good), "f.ldif")
		if list := summary(got); err != nil || len(list) != 3 || list[0] != ok || !strings.HasPrefix(list[1], want) || !strings.HasSuffix(list[2], ok[1:]) {
			t.Errorf("%q: %q, %v; want %q between the others", bad, list, err, want)
		}
		for _, e := range got {
			if e.Fault != nil && len(e.Mails)+len(e.Certs)+len(e.Notes) > 0 {
				t.Errorf("%q: half of the entry is there", bad)
			}
		}
	}
	got, _, err := scan(strings.NewReader("version: 2\n\n"+good), "f.ldif")
	if list := summary(got); err != nil || len(list) != 2 || !strings.HasPrefix(list[0], "!1 version") {
		t.Errorf("version 2: %q, %v", list, err)
	}
}

func TestScanLDIFCountsEntries(t *testing.T) {
	entry := "dn: cn=x,dc=b\nmail: x@b.test\nuserCertificate:: " + b64("X") + "\n\n"
	bare := "dn: dc=b\nobjectClass: domain\n\n"
	gone := "dn: nsuniqueid=1,dc=b\nobjectClass: nsTombstone\nmail: x@b.test\nuserCertificate:: " + b64("X") + "\n\n"
	for _, c := range []struct {
		in   string
		want dit.LDIFSummary
	}{
		{"", dit.LDIFSummary{}},
		{"version: 1\n\n" + bare + entry + entry + gone, dit.LDIFSummary{Entries: 4, Without: 2, Deleted: 1}},
		{entry + "search: 2\nresult: 0 Success\n", dit.LDIFSummary{Entries: 1}},
		{entry + "search: 2\nresult: 4 Size limit exceeded\n", dit.LDIFSummary{Entries: 1, Partial: "line 6: the search that wrote this file ended with result 4 Size limit exceeded"}},
	} {
		if _, got, err := scan(strings.NewReader(c.in), "f"); err != nil || got != c.want {
			t.Errorf("%q: %+v, %v; want %+v", c.in, got, err, c.want)
		}
	}
}

func TestScanLDIFEndsAtItsLimits(t *testing.T) {
	long := strings.Repeat("x", 300<<10)
	for name, in := range map[string]string{
		"one line":           "dn: cn=" + long + "\n",
		"one folded line":    "dn: cn=" + strings.Repeat(strings.Repeat("x", 64)+"\n ", 5<<10) + "\n",
		"too many malformed": strings.Repeat("x\n\n", 1001),
	} {
		_, _, err := scan(strings.NewReader(in), "f.ldif")
		var problem *dit.LDIFError
		if !errors.As(err, &problem) || problem.Line == 0 || problem.File != "f.ldif" {
			t.Errorf("%s: %v, want one problem that ends the reading", name, err)
		}
	}
	for name, in := range map[string]string{
		"an entry with more than 1048576": "dn: cn=bob,dc=b\nmail: bob@b.test\n" + strings.Repeat("userCertificate:: "+b64(strings.Repeat("c", 100<<10))+"\n", 11),
		"an entry with more than 1000":    "dn: cn=bob,dc=b\n" + strings.Repeat("mail: bob@b.test\n", 1001),
	} {
		if got, _, err := scan(strings.NewReader(in), "f.ldif"); err != nil || len(got) != 1 || got[0].Fault == nil || !strings.HasPrefix(got[0].Fault.Text, name) {
			t.Errorf("%s: %.200q, %v", name, summary(got), err)
		}
	}
	broken := errors.New("disk gone")
	got, _, err := scan(io.MultiReader(strings.NewReader("dn: cn=a,dc=b\nmail: a@b.test\nuserCertificate:: "+b64("A")+"\n\n"), iotest.ErrReader(broken)), "f.ldif")
	if !errors.Is(err, broken) || len(got) != 1 {
		t.Errorf("broken reader: %q, %v", summary(got), err)
	}
	n := 0
	_, err = dit.ScanLDIF(strings.NewReader(strings.Repeat("dn: cn=a,dc=b\nuserCertificate:: QQ==\n\n", 3)), "f", func(dit.LDIFEntry) error { n++; return broken })
	if !errors.Is(err, broken) || n != 1 {
		t.Errorf("an error of the taker: %v after %d entries", err, n)
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
		if err := dit.WriteLDIF(&b, view{data}, data.Domain, dit.LDIFRFC2849); err != nil {
			rt.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if len(line) > 77 {
				rt.Fatalf("line of %d columns", len(line)-1)
			}
		}
		entries, _, err := scan(&b, "f.ldif")
		if err != nil {
			rt.Fatal(err)
		}
		got := map[string][]string{}
		for _, e := range entries {
			for _, der := range e.Certs {
				got[string(e.Mails[0].Data)] = append(got[string(e.Mails[0].Data)], string(der.Data))
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
	if err := dit.WriteLDIF(&b, view{data}, data.Domain, dit.LDIFRFC2849); err != nil {
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
	b.Reset()
	if err := dit.WriteLDIF(&b, view{data}, data.Domain, dit.LDIFPlain); err != nil || "version: 1\n\n"+b.String() != want {
		t.Errorf("%v, without the version\n%s", err, b.String())
	}
	d, err := direct.ParseDomain("c.direct.test")
	if err != nil {
		t.Fatal(err)
	}
	if err := dit.WriteLDIF(&b, view{data}, d, dit.LDIFPlain); err == nil {
		t.Error("a domain that is not there: no error")
	}
	if err := dit.WriteLDIF(failingWriter{}, view{data}, data.Domain, dit.LDIFRFC2849); err == nil {
		t.Error("a full disk: no error")
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func FuzzScanLDIF(f *testing.F) {
	f.Add([]byte("version: 1\n\ndn: cn=bob,dc=b\nmail: bob@b.test\nuserCertificate;binary:: QQ==\n"))
	f.Add([]byte("dn: cn=bo\n b,dc=b\r\n# c\n c\nmail:< http://x\n\n\xff:"))
	f.Add([]byte("dn:: Y249YQ==\nrfc822Mailbox: a@b\n2.5.4.36:: QQ==\n\ndn: cn=b\nchangetype: add\nmail;vucsn-1: b\nuserCertificate;x:: QQ==\n\nsearch: 2\nresult: 4 x\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		entries, sum, err := scan(bytes.NewReader(in), "f.ldif")
		for _, e := range entries {
			if e.Line < 1 || e.Fault == nil && len(e.Certs)+len(e.Notes) == 0 || e.Fault != nil && e.Fault.Line < e.Line {
				t.Fatalf("entry %+v", e)
			}
		}
		if err != nil && !strings.HasPrefix(err.Error(), "f.ldif:") {
			t.Fatalf("error without file and line: %v", err)
		}
		if sum.Without > sum.Entries || sum.Deleted > sum.Without {
			t.Fatalf("summary %+v", sum)
		}
		// Whatever was read can be published and comes back the same.
		d, _ := direct.ParseDomain("b.test")
		for _, e := range entries {
			if len(e.Mails) == 0 || len(e.Certs) == 0 {
				continue
			}
			owner, err := direct.ParseOwner(string(e.Mails[0].Data))
			if err != nil || owner.Domain() != d {
				continue
			}
			data := &store.DomainData{Domain: d, Certificates: store.NewCertificates(store.Certificate{Owner: owner, DER: e.Certs[0].Data, PublishLDAP: true})}
			var b bytes.Buffer
			if err := dit.WriteLDIF(&b, view{data}, d, dit.LDIFPlain); err != nil {
				t.Fatal(err)
			}
			again, _, err := scan(&b, "g.ldif")
			if err != nil || len(again) != 1 || string(again[0].Mails[0].Data) != owner.String() || !bytes.Equal(again[0].Certs[0].Data, e.Certs[0].Data) {
				t.Fatalf("%+v came back as %q, %v", e, summary(again), err)
			}
			return
		}
	})
}
