package zones_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"directnode/internal/direct"
	"directnode/internal/spec"
	"directnode/internal/testpki"
	"directnode/store"
	"directnode/zones"
)

func TestParseMasterReadsEveryForm(t *testing.T) {
	p := example(t, "generic")
	want := []store.Record{
		rec("generic.example.", "SOA", 900, "ns.elsewhere.example. hostmaster.generic.example. 1 3600 600 1209600 300"),
		rec("generic.example.", "NS", 900, "ns.elsewhere.example."),
		rec("a.hosts.generic.example.", "A", 5400, "192.0.2.1"),
		rec("b.hosts.generic.example.", "A", 90, "192.0.2.2"),
		rec("c.hosts.generic.example.", "A", 900, "192.0.2.3"),
		rec("d.hosts.generic.example.", "TXT", 900, `"quoted \"text\"; with a semicolon" "plain" "A\\"`),
		rec("e.generic.example.", "TYPE65280", 900, `\# 3 010203`),
		rec("f.generic.example.", "TLSA", 900, "3 1 1 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
		rec("g.generic.example.", "CAA", 900, `0 issue "ca.example"`),
		rec("h.generic.example.", "PTR", 900, "a.hosts.generic.example."),
		rec(`i\.j.generic.example.`, "TXT", 900, `"a dot within a label"`),
	}
	if !slices.Equal(p.Records, want) {
		for i := range max(len(want), len(p.Records)) {
			var g, w store.Record
			if i < len(p.Records) {
				g = p.Records[i]
			}
			if i < len(want) {
				w = want[i]
			}
			if g != w {
				t.Errorf("record %d is %+v\nwant %+v", i, g, w)
			}
		}
	}
}

func TestParseMasterReadsCertificatesInEveryForm(t *testing.T) {
	spec.Covers(t, "AS-5.3-a", "AS-5.3-b", "AS-5.3-c", "AS-5.3.1-a")
	leaf := testpki.New(t).Root("Root").Leaf("bob", testpki.Address("bob@direct.example.org"))
	b64 := base64.StdEncoding.EncodeToString(leaf.DER)
	rdata := append([]byte{0, 1, 0x12, 0x34, 8}, leaf.DER...)
	folded := func(s string) string {
		return "(\n  " + strings.Join(slices.Collect(chunks(s, 28)), " ; a piece\n  ") + "\n  )"
	}
	for what, text := range map[string]string{
		"AS 5.3.1":           "bob.direct.example.org. IN CERT 1 0 5 " + folded(b64),
		"one line":           "bob CERT 1 0 5 " + b64,
		"two pieces":         "bob CERT PKIX 4660 RSASHA256 " + b64[:100] + " " + b64[100:],
		"AS's name":          "bob cert x509 0 0 " + b64,
		"RFC 3597":           fmt.Sprintf(`bob TYPE37 \# %d %s`, len(rdata), folded(hex.EncodeToString(rdata))),
		"RFC 3597, by name":  fmt.Sprintf(`bob CERT \# %d %x`, len(rdata), rdata),
		"number, named type": fmt.Sprintf(`bob TYPE37 1 0 0 %s`, b64),
		"an owner before":    "bob TXT x\n  CERT 1 0 5 " + b64,
	} {
		p := parse(t, "$TTL 300\n"+text, "direct.example.org")
		line := 2 + strings.Count(what, "before")
		if len(p.Certs) != 1 || p.Certs[0].Owner.String() != "bob@direct.example.org" || !bytes.Equal(p.Certs[0].DER, leaf.DER) || p.Certs[0].Line != line {
			t.Errorf("%s: %+v", what, p)
		}
	}
	// RFC 4398 §2.1: IPKIX, which the codec's own table misspells, is a URL.
	url := base64.StdEncoding.EncodeToString([]byte("http://pki.example.org/bob.cer"))
	for _, name := range []string{"IPKIX", "4", "ipkix"} {
		p := parse(t, "$TTL 300\nbob CERT "+name+" 0 0 "+url, "direct.example.org")
		if len(p.Certs) != 0 || len(p.Records) != 1 || p.Records[0].Type != "TYPE37" || p.Records[0].Data != fmt.Sprintf(`\# 35 0004000000%x`, "http://pki.example.org/bob.cer") {
			t.Errorf("CERT %s: %+v", name, p)
		}
	}
}

// long256 is a name of 256 octets, one more than fits (RFC 1035 §2.3.4).
var long256 = strings.Repeat(strings.Repeat("l", 63)+".", 3) + strings.Repeat("m", 43) + ".direct.example.org."

func TestParseMasterTakesAllOrNothing(t *testing.T) {
	spec.Covers(t, "AS-5.3-c")
	der := base64.StdEncoding.EncodeToString(testpki.New(t).Root("Root").DER)
	for _, c := range []struct {
		text, want string // after the good first line
	}{
		{"$INCLUDE /etc/passwd", "f.zone:2: $INCLUDE is refused"},
		{"$include x", "f.zone:2: $INCLUDE is refused"},
		{"$GENERATE 1-9 a$ A", "f.zone:2: $GENERATE takes"},
		{"$GENERATE 1-9 a$ MX 10 h$", "f.zone:2: $GENERATE ends in a type"},
		{"$GENERATE 1-9 $TTL A 192.0.2.$$", "f.zone:2: $GENERATE for 1: "},
		{"$GENERATE 9-1 a$ A 192.0.2.$", "f.zone:2: $GENERATE range"},
		{"$GENERATE 1-9/0 a$ A 192.0.2.$", "f.zone:2: $GENERATE range"},
		{"$GENERATE 1 a$ A 192.0.2.$", "f.zone:2: $GENERATE range"},
		{"$GENERATE 1-99999999999 a$ A 192.0.2.$", "f.zone:2: $GENERATE range"},
		{"$GENERATE 0-10000 a$ A 192.0.2.1", "f.zone:2: $GENERATE of 10001 records; at most 10000"},
		{strings.Repeat("$GENERATE 1-10000 a$ 1 TYPE700 \"\\# 0\"\n", 7), "f.zone:8: more than 65536 records"},
		{"$GENERATE 1-10000 a$ 1 TYPE700 \"\\# 10000 " + strings.Repeat("00", 10_000) + "\"", "f.zone:2: more than 16777216 octets"},
		{"$GENERATE 250-260 a$ A 192.0.2.$", "f.zone:2: $GENERATE for 256: bad A"},
		{"$GENERATE 1-2 a${1 A 192.0.2.$", "f.zone:2: $GENERATE: no }"},
		{"$GENERATE 1-2 a${-2} A 192.0.2.$", "f.zone:2: $GENERATE: 1-2 is less than 0"},
		{"$GENERATE 1-2 a${0,64} A 192.0.2.$", "f.zone:2: $GENERATE: ${0,64};"},
		{"$GENERATE 1-2 a${0,1,y} A 192.0.2.$", "f.zone:2: $GENERATE: ${0,1,y};"},
		{"$GENERATE 1-2 a${0,1,d,d} A 192.0.2.$", "f.zone:2: $GENERATE: ${0,1,d,d};"},
		{"$GENERATE 1-2 a$ $INCLUDE /etc/passwd", "f.zone:2: $GENERATE ends in a type"},
		{"$NONSENSE x", "f.zone:2: unknown directive"},
		{"$TTL", "f.zone:2: $TTL takes one value"},
		{"$TTL never", "f.zone:2: TTL"},
		{"$ORIGIN a..b", "f.zone:2: name"},
		{"\n\n  ; nothing\nx A 192.0.2.999", `f.zone:5: bad A A: "192.0.2.999": x A 192.0.2.999`},
		{"x A (\n192.0.2.1\n", "f.zone:2: a parenthesis is not closed: x A 192.0.2.1"},
		{"x A 192.0.2.1 )", "f.zone:2: a parenthesis is closed that was not opened"},
		{"x TXT \"open\nnext A 192.0.2.1", `f.zone:2: a quoted string is not closed on its line: x TXT "open`},
		{"x TXT \x01", "f.zone:2: control character"},
		{"x TXT a\\", "f.zone:2: a backslash that protects nothing"},
		{long256 + " TXT y", "f.zone:2: name"},
		{"x MX 10 " + long256, "f.zone:2: "},
		{"x CNAME " + long256, "f.zone:2: "},
		{"x CH TXT y", "f.zone:2: class CH: only IN is served"},
		{"x CLASS3 TXT y", "f.zone:2: class CLASS3"},
		{"x FOO y", "f.zone:2: unknown type"},
		{"x", "f.zone:2: no type: x"},
		{"x 3600", "f.zone:2: no type"},
		{"x 4294967295 A 192.0.2.1", "f.zone:2: TTL"},
		{"x 1y A 192.0.2.1", "f.zone:2: TTL"},
		{"elsewhere.example. A 192.0.2.1", "f.zone:2: elsewhere.example. lies outside direct.example.org."},
		{"\"x\" A 192.0.2.1", "f.zone:2: a quoted string"},
		{"x NSEC y A", "f.zone:2: records of DNSSEC signing"},
		{`x A \# 3 c00002`, "f.zone:2: "},
		{`x A \# 4 c000`, `f.zone:2: RDATA of 2 octets after \# 4`},
		{`x A \# 4 zz`, `f.zone:2: RDATA after \# is not hex`},
		{`x A \# many 00`, `f.zone:2: RDATA length`},
		{`x A \#`, `f.zone:2: RDATA after \# has no length`},
		{`x A \# 0`, `f.zone:2: a A record without RDATA`},
		{`x MX \# 4 000a c000`, `f.zone:2: `}, // a compression pointer
		{`x TYPE37 \# 5 0001000000`, "f.zone:2: a CERT record of 5 octets holds no certificate"},
		{"x CERT 1 0 5", "f.zone:2: a CERT record has type"},
		{"x CERT 1 0 5 MIID=fzCC", "f.zone:2: the certificate is not Base64"},
		{"x CERT 1 0 5 MIIDfzCCAuigAwIBAgIKcYxqqAAA", "f.zone:2: the CERT record holds no X.509 certificate"}, // AS 5.3.1 cut it "for brevity"
		{"x CERT 1 0 5 -----BEGIN CERTIFICATE-----", "f.zone:2: the certificate is not Base64"},
		{"x CERT NOPE 0 5 " + der, "f.zone:2: certificate type"},
		{"x CERT 1 99999 5 " + der, "f.zone:2: key tag"},
		{"x CERT 1 0 999 " + der, "f.zone:2: algorithm"},
		{"*.x CERT 1 0 5 " + der, "f.zone:2: a wildcard CERT record"},
		{`x TXT ` + strings.Repeat("z", 300<<10), "f.zone:2: an entry of more than"},
		{"x TXT " + strings.Repeat("é", 100) + "\ny A", "f.zone:3: "},
	} {
		p, err := zones.ParseMaster(strings.NewReader("a 60 TXT good\n"+c.text+"\n"), domain(t, "direct.example.org"), "f.zone")
		var me *zones.MasterError
		if !errors.As(err, &me) || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%.60q: %v; want %q", c.text, err, c.want)
		}
		if len(p.Records)+len(p.Certs) != 0 {
			t.Errorf("%.60q: took %+v", c.text, p)
		}
		if err != nil && len(err.Error()) > 700 {
			t.Errorf("%.60q: an error of %d characters", c.text, len(err.Error()))
		}
	}
	for text, want := range map[string]string{"x A 192.0.2.1": "f.zone:1: no TTL", " 60 A 192.0.2.1": "f.zone:1: no owner name"} {
		if _, err := zones.ParseMaster(strings.NewReader(text), domain(t, "direct.example.org"), "f.zone"); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v; want %q", text, err, want)
		}
	}
	if _, err := zones.ParseMaster(strings.NewReader(""), direct.Domain{}, "f.zone"); err == nil {
		t.Error("the zero domain is an origin")
	}
}

func chunks(s string, n int) func(func(string) bool) {
	return func(yield func(string) bool) {
		for len(s) > 0 {
			k := min(n, len(s))
			if !yield(s[:k]) {
				return
			}
			s = s[k:]
		}
	}
}

// normal is a zone in the form in which two can be compared: the serial is the
// node's, not the text's.
func normal(p zones.Parsed) (records []store.Record, certs []string) {
	records = sortRecords(p.Records)
	for i, r := range records {
		if f := strings.Fields(r.Data); r.Type == "SOA" {
			f[2] = "0"
			records[i].Data = strings.Join(f, " ")
		}
	}
	for _, c := range p.Certs {
		certs = append(certs, fmt.Sprintf("%s %x", c.Owner.Key(), c.DER))
	}
	slices.Sort(certs)
	return records, certs
}

func roundTrip(t interface {
	Fatalf(string, ...any)
}, p zones.Parsed) {
	s, err := zones.BuildParsed(7, zones.Options{}, p)
	if err != nil {
		t.Fatalf("build: %v", err)
	}
	for _, format := range []string{zones.FormatBIND, zones.FormatRFC3597} {
		var text bytes.Buffer
		if err := s.Zone(p.Domain).Write(&text, format); err != nil {
			t.Fatalf("%s: %v", format, err)
		}
		back, err := zones.ParseMaster(bytes.NewReader(text.Bytes()), p.Domain, format)
		if err != nil {
			t.Fatalf("%s does not read back: %v\n%s", format, err, text.String())
		}
		r1, c1 := normal(p)
		r2, c2 := normal(back)
		if !slices.Equal(r1, r2) || !slices.Equal(c1, c2) {
			t.Fatalf("%s: %v\nbecame %v\n%s", format, r1, r2, text.String())
		}
	}
}

func TestWhatIsWrittenReadsBack(t *testing.T) {
	spec.Covers(t, "AS-5.3-c")
	for _, name := range []string{"clinic", "structure", "generic"} {
		roundTrip(t, example(t, name))
	}
	// The DER of one real certificate stands for all.
	der := example(t, "clinic").Certs[0].DER
	rapid.Check(t, func(t *rapid.T) {
		d, _ := direct.ParseDomain("direct.example.org")
		p, err := zones.ParseMaster(strings.NewReader(minimum), d, "minimum")
		if err != nil {
			t.Fatal(err)
		}
		label := rapid.StringOfN(rapid.RuneFrom([]rune(`ab.$@;()"\ *_-`+"\x01\x7f")), 1, 6, -1)
		n := rapid.IntRange(0, 6).Draw(t, "records")
		seen := map[string]bool{}
		for range n {
			name := escape(label.Draw(t, "label")) + ".direct.example.org."
			typ := rapid.SampledFrom([]string{"TXT", "MX", "SRV", "TYPE700", "AAAA"}).Draw(t, "type")
			if key := strings.ToLower(name) + typ; seen[key] {
				continue
			} else {
				seen[key] = true
			}
			target := escape(label.Draw(t, "target")) + ".example."
			data := map[string]string{"TXT": `"` + quote(label.Draw(t, "text")) + `"`, "MX": "10 " + target, "SRV": "1 2 3 " + target, "TYPE700": `\# 2 0aff`, "AAAA": "2001:db8::1"}[typ]
			one, err := zones.ParseMaster(strings.NewReader(name+" 60 IN "+typ+" "+data+"\n"), d, "one")
			if err != nil {
				t.Fatalf("%s %s %s: %v", name, typ, data, err)
			}
			p.Records = append(p.Records, one.Records...)
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "certificates") {
			a, err := direct.ParseAddress(fmt.Sprintf("%s%d@direct.example.org", rapid.SampledFrom([]string{"bob", "john.smith", "o'neil+lab", `$a=`}).Draw(t, "local"), i))
			if err != nil {
				t.Fatal(err)
			}
			p.Certs = append(p.Certs, zones.ParsedCert{Owner: direct.OwnerOfAddress(a), DER: der})
		}
		roundTrip(t, p)
	})
}

// escape is a label, dots included, in text form.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, `\%03d`, s[i])
	}
	return b.String()
}

func quote(s string) string { return escape(s) }

func TestNsupdateFormatReplacesRRsets(t *testing.T) {
	p := example(t, "clinic")
	s, err := zones.BuildParsed(7, zones.Options{}, p)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := s.Zone(p.Domain).Write(&text, zones.FormatNsupdate); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	for _, want := range []string{"zone direct.example.org.", "update delete bob.direct.example.org. CERT", "update add mail.direct.example.org. 3600 IN A 192.0.2.2", "send"} {
		if !slices.Contains(lines, want) {
			t.Errorf("no line %q in\n%s", want, text.String())
		}
	}
	for _, l := range lines {
		if strings.HasPrefix(l, "update") && (strings.Contains(l, " SOA") || strings.Contains(l, "direct.example.org. NS")) {
			t.Errorf("the other server's %q would be changed", l)
		}
	}
	var many strings.Builder
	for i := range 300 {
		fmt.Fprintf(&many, "h%d TXT %s\n", i, strings.Repeat("z", 250))
	}
	text.Reset()
	if err := set(t, map[string]string{"direct.example.org": many.String()}).Zone(p.Domain).Write(&text, zones.FormatNsupdate); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(text.String(), "\nsend\n"); n != 2 {
		t.Errorf("80 KB of records go in %d messages, want 2", n)
	}
}

func TestWriteMasterSaysWhatItCannot(t *testing.T) {
	d := data(t, "direct.example.org", "")
	v := view(t, d.Domain, d.Records)
	var text bytes.Buffer
	if err := zones.WriteMaster(&text, v, d.Domain, zones.FormatBIND); err != nil || !strings.Contains(text.String(), fmt.Sprintf(" %d 3600 600 86400 300", v.Rev)) {
		t.Errorf("%v\n%s", err, text.String())
	}
	if err := zones.WriteMaster(&text, v, d.Domain, "xml"); err == nil || !strings.Contains(err.Error(), "xml") {
		t.Errorf("format xml: %v", err)
	}
	if err := zones.WriteMaster(&text, v, domain(t, "other.example"), zones.FormatBIND); err == nil || !strings.Contains(err.Error(), "other.example") {
		t.Errorf("a domain of somebody else: %v", err)
	}
	if err := zones.WriteMaster(failing{}, v, d.Domain, zones.FormatBIND); err == nil {
		t.Error("a disk that is full goes unnoticed")
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestNamedCheckzoneReadsWhatWeWrite(t *testing.T) {
	tool, err := exec.LookPath("named-checkzone")
	if err != nil {
		t.Skip("SKIP peer named-checkzone absent")
	}
	for _, name := range []string{"clinic", "structure", "generic"} {
		p := example(t, name)
		s, err := zones.BuildParsed(7, zones.Options{}, p)
		if err != nil {
			t.Fatal(err)
		}
		for _, format := range []string{zones.FormatBIND, zones.FormatRFC3597} {
			file := filepath.Join(t.TempDir(), name)
			var text bytes.Buffer
			if err := s.Zone(p.Domain).Write(&text, format); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(tool, "-i", "none", p.Domain.String(), file).CombinedOutput(); err != nil {
				t.Errorf("%s as %s: %v\n%s", name, format, err, out)
			}
		}
	}
}

// generating is zone text with every form of $GENERATE.
const generating = minimum + `$GENERATE 1-3 a$ A 192.0.2.$
$GENERATE 0-20/10 b${5,4,d} 60 IN TXT "\"no. $ of ${0,3,x}; \$5\" $$6"
$GENERATE 8-17 c${0,0,o} CNAME a${-7}.elsewhere.example.
$GENERATE 254-257 ${0,3,n}.rev PTR h${0,4,X}
$GENERATE 31-33 ${0,8,N}rev PTR h$
$GENERATE 7-7 *.w$ MX "$ @"
`

func TestGenerateMakesRecords(t *testing.T) {
	var got []string
	for _, r := range parse(t, generating, "x.example").Records[2:] {
		got = append(got, strings.TrimSuffix(r.Name, ".x.example.")+" "+r.Type+" "+strings.ReplaceAll(r.Data, ".x.example.", ""))
	}
	want := []string{"a1 A 192.0.2.1", "a2 A 192.0.2.2", "a3 A 192.0.2.3",
		`b0005 TXT "no. 0 of 000; $5" "$6"`, `b0015 TXT "no. 10 of 00a; $5" "$6"`, `b0025 TXT "no. 20 of 014; $5" "$6"`,
		"c10 CNAME a1.elsewhere.example.", "c11 CNAME a2.elsewhere.example.", "c12 CNAME a3.elsewhere.example.", "c13 CNAME a4.elsewhere.example.", "c14 CNAME a5.elsewhere.example.",
		"c15 CNAME a6.elsewhere.example.", "c16 CNAME a7.elsewhere.example.", "c17 CNAME a8.elsewhere.example.", "c20 CNAME a9.elsewhere.example.", "c21 CNAME a10.elsewhere.example.",
		"e.f.rev PTR h00FE", "f.f.rev PTR h00FF", "0.0.1.rev PTR h0100", "1.0.1.rev PTR h0101",
		"f.1.0.0.rev PTR h31", "0.2.0.0.rev PTR h32", "1.2.0.0.rev PTR h33", "*.w7 MX 7"}
	for i := range want {
		want[i] = strings.TrimSpace(want[i])
	}
	for i := range got {
		got[i] = strings.TrimSuffix(got[i], " x.example.")
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
}

// TestInteropGenerateMakesWhatBINDMakes compares with the inventor.
func TestInteropGenerateMakesWhatBINDMakes(t *testing.T) {
	tool, err := exec.LookPath("named-compilezone")
	switch {
	case err != nil && os.Getenv("DIRECTNODE_PEERS") == "required":
		t.Fatal("peer named-compilezone absent; tools/install-peers installs it")
	case err != nil:
		t.Skip("SKIP peer named-compilezone absent")
	}
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	if err := os.WriteFile(in, []byte(generating), 0o600); err != nil {
		t.Fatal(err)
	}
	if log, err := exec.Command(tool, "-i", "none", "-k", "ignore", "-o", out, "x.example", in).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	written, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	theirs, ours := sortRecords(parse(t, string(written), "x.example").Records), sortRecords(parse(t, generating, "x.example").Records)
	if !slices.Equal(ours, theirs) {
		t.Errorf("ours:\n%v\nBIND's:\n%v", ours, theirs)
	}
}

func FuzzParseMaster(f *testing.F) {
	// Short seeds: the fuzzer spends its time on making long ones shorter.
	text, err := os.ReadFile("examples/generic.zone")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		f.Add([]byte("$TTL 5\n" + line))
	}
	f.Add([]byte("$TTL 1\n@ SOA a b 1 2 3 4 5\n@ NS a\nx CERT IPKIX 0 0 eA==\n"))
	f.Add([]byte("$TTL 1\n@ SOA a b 1 2 3 4 5\n@ NS a\nc NS a.c\n*.w MX 1 a\na.b CNAME c\n"))
	f.Add([]byte("$TTL 1\n@ SOA a b 1 2 3 4 5\n@ NS a\n$GENERATE 1-3/2 a${1,2,n} A 192.0.2.$\nd DNAME e\n"))
	f.Add([]byte("$ORIGIN .\n@ 5 TYPE37 \\# 6 000400000061\n"))
	d, err := direct.ParseDomain("structure.example")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := zones.ParseMaster(bytes.NewReader(text), d, "fuzz")
		if err != nil {
			var me *zones.MasterError
			if !errors.As(err, &me) || len(p.Records)+len(p.Certs) != 0 {
				t.Fatalf("%v, took %+v", err, p)
			}
			return
		}
		s, err := zones.BuildParsed(1, zones.Options{}, p)
		if err != nil {
			var be *zones.BuildError
			if !errors.As(err, &be) {
				t.Fatal(err)
			}
			return
		}
		// What a server publishes can be written, read and published again.
		var first, second bytes.Buffer
		if err := s.Zone(d).Write(&first, zones.FormatBIND); err != nil {
			t.Fatal(err)
		}
		back, err := zones.ParseMaster(bytes.NewReader(first.Bytes()), d, "again")
		if err != nil {
			t.Fatalf("%v\n%s", err, first.String())
		}
		s, err = zones.BuildParsed(1, zones.Options{}, back)
		if err != nil {
			t.Fatalf("%v\n%s", err, first.String())
		}
		if err := s.Zone(d).Write(&second, zones.FormatBIND); err != nil || first.String() != second.String() {
			t.Fatalf("%v\n%s\nbecame\n%s", err, first.String(), second.String())
		}
	})
}
