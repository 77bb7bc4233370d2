package mail_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"directnode/internal/direct"
	"directnode/internal/mail"
)

func TestSplitKeepsEveryOctet(t *testing.T) {
	for name, msg := range map[string]string{
		"crlf":           "From: a@d.example\r\nSubject: one\r\n two\r\n\r\nbody\r\n",
		"lf":             "From: a@d.example\nSubject: one\n\ttwo\n\nbody\n",
		"mixed":          "From: a@d.example\r\nSubject: one\n two\r\n\nbody",
		"no body":        "From: a@d.example\r\n\r\n",
		"only a header":  "From: a@d.example\r\nSubject: x",
		"no header":      "\r\nbody",
		"body with CR":   "A: b\r\n\r\na\rb\x00c",
		"blank folding":  "A: b\r\n  \r\n c\r\n\r\nbody",
		"space at colon": "A : b\r\n\r\nbody",
	} {
		h, body, err := mail.Split([]byte(msg))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var raw []byte
		for _, f := range h {
			raw = append(raw, f.Raw...)
		}
		rest := strings.TrimPrefix(msg, string(raw))
		rest = strings.TrimPrefix(strings.TrimPrefix(rest, "\r"), "\n")
		if rest != string(body) {
			t.Errorf("%s: header %q and body %q do not make up %q", name, raw, body, msg)
		}
	}
}

func TestSplitReadsFieldsLeniently(t *testing.T) {
	h, body, err := mail.Split([]byte("from : a@d.example\r\nsubject: one\r\n\ttwo\r\n   three  \r\nX: 1\r\nx: 2\r\nEmpty:\r\n\r\nbody"))
	if err != nil {
		t.Fatal(err)
	}
	if got := h.Get("From"); got != "a@d.example" {
		t.Errorf("From = %q", got)
	}
	// RFC 5322 §2.2.3: unfolding removes the line end and keeps the white space.
	if got := h.Get("Subject"); got != "one\ttwo   three" {
		t.Errorf("Subject = %q", got)
	}
	if got := h.All("X"); len(got) != 2 || got[0] != "1" || got[1] != "2" {
		t.Errorf("X = %q", got)
	}
	if !h.Has("EMPTY") || h.Get("empty") != "" || h.Has("None") {
		t.Error("an empty field is a field, an absent one is none")
	}
	if _, _, err := h.One("X"); err == nil {
		t.Error("One takes two fields")
	}
	if string(body) != "body" {
		t.Errorf("body = %q", body)
	}
}

func TestSplitRefusesWhatReadersDisagreeAbout(t *testing.T) {
	for name, msg := range map[string]string{
		"no colon":           "From: a@d.example\r\ngarbage\r\n\r\n",
		"empty name":         ": x\r\n\r\n",
		"space in name":      "Fr om: x\r\n\r\n",
		"8-bit name":         "Fröm: x\r\n\r\n",
		"first line folded":  " From: x\r\n\r\n",
		"bare CR":            "From: a@d.example\rBcc: x@d.example\r\n\r\n",
		"NUL":                "From: a@d.example\x00\r\n\r\n",
		"header too long":    "X: " + strings.Repeat("x", mail.MaxHeaderBytes) + "\r\n\r\n",
		"header without end": strings.Repeat("X: y\r\n", mail.MaxHeaderBytes/6+1),
		"too many fields":    strings.Repeat("X: y\r\n", mail.MaxFields+1) + "\r\n",
	} {
		_, _, err := mail.Split([]byte(msg))
		var e *mail.Error
		if !errors.As(err, &e) || e.Citation == "" {
			t.Errorf("%s: %v, want *mail.Error", name, err)
		}
	}
	if _, _, err := mail.Split([]byte(strings.Repeat("X: y\r\n", mail.MaxFields) + "\r\n")); err != nil {
		t.Errorf("the limit itself is too many: %v", err)
	}
}

func TestParseContentTypeReadsEveryUsualForm(t *testing.T) {
	tests := []struct {
		in, mediaType string
		params        map[string]string
	}{
		{`application/pkcs7-mime; smime-type=enveloped-data; name="smime.p7m"`, "application/pkcs7-mime", map[string]string{"smime-type": "enveloped-data", "name": "smime.p7m"}},
		{`APPLICATION/X-PKCS7-MIME;NAME=smime.p7m;SMIME-TYPE=Enveloped-Data;`, "application/x-pkcs7-mime", map[string]string{"smime-type": "Enveloped-Data", "name": "smime.p7m"}},
		{`multipart/signed; boundary=----=_Part_1_2; protocol=application/pkcs7-signature; micalg=sha-256`, "multipart/signed",
			map[string]string{"boundary": "----=_Part_1_2", "protocol": "application/pkcs7-signature", "micalg": "sha-256"}},
		{`text/plain (a comment; with "things" (nested))  ; charset = "utf-8" (another)`, "text/plain", map[string]string{"charset": "utf-8"}},
		{`application/pdf; name=report(1).pdf`, "application/pdf", map[string]string{"name": "report(1).pdf"}},
		{`text/plain;; ; format ; charset="us\-asc\"ii"`, "text/plain", map[string]string{"charset": `us-asc"ii`}},
		{`message/external-body; url*0="ftp://a;"; url*1="b"; name*=utf-8''na%C3%AFve`, "message/external-body", map[string]string{"url": "ftp://a;b", "name": "naïve"}},
		{`multipart/mixed; boundary="a b;c"; boundary="a b;c"`, "multipart/mixed", map[string]string{"boundary": "a b;c"}},
		{"text/plain", "text/plain", nil},
	}
	for _, tt := range tests {
		mediaType, params, err := mail.ParseContentType(tt.in)
		if err != nil || mediaType != tt.mediaType || fmt.Sprint(params) != fmt.Sprint(tt.params) {
			t.Errorf("ParseContentType(%s) = %s, %v, %v; want %s, %v", tt.in, mediaType, params, err, tt.mediaType, tt.params)
		}
	}
	for name, in := range map[string]string{
		"empty": "", "no subtype": "text", "empty subtype": "text/", "open quotes": `text/plain; charset="x`, "two values": "multipart/mixed; boundary=a; boundary=b",
		"too many": "text/plain" + strings.Repeat("; a=b", mail.MaxParams+1), "deep comment": "text/plain " + strings.Repeat("(", 20), "not a token": "te xt/plain",
	} {
		if mediaType, params, err := mail.ParseContentType(in); err == nil {
			t.Errorf("%s: got %s, %v", name, mediaType, params)
		}
	}
}

func TestSplitMultipartGivesTheSignedOctets(t *testing.T) {
	first := "Content-Type: text/plain\r\n\r\nline\r\n--bx\r\n --b\r\n--b-\r\ntrailing \r\n"
	for name, nl := range map[string]string{"crlf": "\r\n", "lf": "\n"} {
		body := strings.ReplaceAll("preamble --b\r\n--b\r\n"+first+"\r\n--b \t\r\n\r\nsecond\r\n--b--  \r\nepilogue\r\n--b\r\nnever\r\n", "\r\n", nl)
		parts, err := mail.SplitMultipart([]byte(body), "b", mail.Limits{})
		if err != nil || len(parts) != 2 {
			t.Fatalf("%s: %d parts, %v", name, len(parts), err)
		}
		if want := strings.ReplaceAll(first, "\r\n", nl); string(parts[0].Raw) != want {
			t.Errorf("%s: part 1 is %q, want %q", name, parts[0].Raw, want)
		}
		if string(parts[1].Body) != "second" || len(parts[1].Header) != 0 {
			t.Errorf("%s: part 2 is %q", name, parts[1].Raw)
		}
	}
}

func TestSplitMultipartEdges(t *testing.T) {
	tests := []struct {
		name, body string
		bodies     []string
		ok         bool
	}{
		{"no parts", "--b--", nil, true},
		{"an empty part", "--b\r\n--b--\r\n", []string{""}, true},
		{"no line end at the close", "--b\r\n\r\nx\r\n--b--", []string{"x"}, true},
		{"cut before the close", "--b\r\n\r\nx\r\n", []string{"x\r\n"}, false},
		{"cut inside the delimiter", "--b\r\n\r\nx\r\n--", []string{"x\r\n--"}, false},
		{"a line that goes on is no delimiter", "--b\r\n\r\nx\r\n--b--y\r\n--b--", []string{"x\r\n--b--y"}, true},
		{"a delimiter stands at the start of its line", "--b\r\n\r\nx --b--\r\n--b--", []string{"x --b--"}, true},
	}
	for _, tt := range tests {
		parts, err := mail.SplitMultipart([]byte(tt.body), "b", mail.Limits{})
		if (err == nil) != tt.ok || !tt.ok && !errors.Is(err, mail.ErrUnterminated) {
			t.Errorf("%s: %v", tt.name, err)
		}
		var bodies []string
		for _, p := range parts {
			bodies = append(bodies, string(p.Body))
		}
		if fmt.Sprintf("%q", bodies) != fmt.Sprintf("%q", tt.bodies) {
			t.Errorf("%s: %q, want %q", tt.name, bodies, tt.bodies)
		}
	}
	for name, tt := range map[string]struct{ body, boundary string }{
		"no delimiter":      {"text", "b"},
		"no boundary":       {"--\r\n", ""},
		"boundary too long": {"", strings.Repeat("b", mail.MaxBoundary+1)},
		"too many parts":    {strings.Repeat("--b\r\n\r\n", mail.MaxParts+1) + "--b--", "b"},
		"broken part":       {"--b\r\nno field\r\n\r\n--b--", "b"},
	} {
		if parts, err := mail.SplitMultipart([]byte(tt.body), tt.boundary, mail.Limits{}); err == nil {
			t.Errorf("%s: %d parts and no error", name, len(parts))
		}
	}
}

func TestDecodeBody(t *testing.T) {
	tests := []struct {
		encoding, in, want string
		ok                 bool
	}{
		{"", "as it is\r\n", "as it is\r\n", true},
		{"7BIT", "as it is\r\n", "as it is\r\n", true},
		{"8bit (really)", "\xff\x00", "\xff\x00", true},
		{"binary", "\r\n\r", "\r\n\r", true},
		{"Base64", "aGVs\r\nbG8=\r\n", "hello", true},
		{"base64", "aGVs bG8", "hello", true},
		{"base64", "", "", true},
		{"base64", "aGVsbG8=aGVs", "", false},
		{"base64", "aGV*bG8=", "", false},
		{"quoted-printable", "a=3Db=\r\nc \r\nd", "a=bc\r\nd", true},
		{"quoted-printable", "a=ZZ", "a=ZZ", true},
		{"quoted-printable", "a\x01", "", false},
		{"x-uuencode", "begin", "", false},
	}
	for _, tt := range tests {
		var h mail.Header
		if tt.encoding != "" {
			h, _, _ = mail.Split([]byte("Content-Transfer-Encoding: " + tt.encoding + "\r\n\r\n"))
		}
		got, err := mail.DecodeBody(h, []byte(tt.in))
		if (err == nil) != tt.ok || string(got) != tt.want {
			t.Errorf("%s of %q = %q, %v", tt.encoding, tt.in, got, err)
		}
	}
	h, _, _ := mail.Split([]byte("Content-Transfer-Encoding: 7bit\r\nContent-Transfer-Encoding: base64\r\n\r\n"))
	if _, err := mail.DecodeBody(h, nil); err == nil {
		t.Error("two transfer encodings are taken")
	}
}

func TestEncodeBase64GivesLinesOf76(t *testing.T) {
	for n := range 200 {
		in := bytes.Repeat([]byte{0xa5}, n)
		out := mail.EncodeBase64(in)
		for l := range bytes.SplitSeq(bytes.TrimSuffix(out, []byte("\r\n")), []byte("\r\n")) {
			if len(l) > 76 {
				t.Fatalf("line of %d", len(l))
			}
		}
		h, _, _ := mail.Split([]byte("Content-Transfer-Encoding: base64\r\n\r\n"))
		if back, err := mail.DecodeBody(h, out); err != nil || !bytes.Equal(back, in) {
			t.Fatalf("%d octets: %v", n, err)
		}
	}
}

func TestCanonicalChangesLineEndsOnly(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "a": "a", "a\n": "a\r\n", "\n\n": "\r\n\r\n", "a\r\nb\nc": "a\r\nb\r\nc", "a\r\r\n": "a\r\r\n", "a\rb \n": "a\rb \r\n", "\r": "\r", "\n\r": "\r\n\r",
	} {
		if got := mail.Canonical([]byte(in)); string(got) != want {
			t.Errorf("Canonical(%q) = %q, want %q", in, got, want)
		}
	}
	same := []byte("a\r\nb\r\n")
	if got := mail.Canonical(same); &got[0] != &same[0] {
		t.Error("a canonical text is copied")
	}
}

func TestTraitsDecideTheEncoding(t *testing.T) {
	long := strings.Repeat("x", 998)
	for in, want := range map[string]string{
		"": "7bit", "a\r\nb": "7bit", "é\r\n": "8bit", long + "\r\n" + long: "7bit", long + "x\r\n": "binary", "a\n": "binary", "a\rb\r\n": "binary", "a\x00": "binary",
	} {
		if got := mail.TraitsOf([]byte(in)).Encoding(); got != want {
			t.Errorf("%.20q: %s, want %s", in, got, want)
		}
	}
}

func TestParseAddressListKeepsAddrSpecsOnly(t *testing.T) {
	for in, want := range map[string]string{
		"":                        "",
		"ann@a.example":           "ann@a.example",
		"<ann@a.example>":         "ann@a.example",
		"Ann Lee <ann@a.example>": "ann@a.example",
		`"Lee, Ann" <ann@a.example>, bob@b.example (Bob, the (other) one)`: "ann@a.example bob@b.example",
		"=?utf-8?q?Andr=C3=A9?= <andre@a.example>,, ,bob@b.example,":       "andre@a.example bob@b.example",
		"André <andre@a.example>":                                          "andre@a.example",
		`"mallory@m.example" <ann@a.example>`:                              "ann@a.example",
		`"ann lee"@a.example`:                                              `"ann lee"@a.example`,
		"(comment) <Ann.Lee+x@A.Example> (end)":                            "Ann.Lee+x@a.example",
		"< ann@a.example >":                                                "ann@a.example",
	} {
		list, err := mail.ParseAddressList(in)
		var got []string
		for _, a := range list {
			got = append(got, a.String())
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("ParseAddressList(%s) = %s, %v; want %s", in, got, err, want)
		}
	}
	for _, in := range []string{
		"ann", "Ann Lee", "undisclosed-recipients:;", "Group: ann@a.example, bob@b.example;", "ann@a.example bob@b.example", "ann lee@a.example", "<ann@a.example", "ann@a.example>",
		"<ann@a.example> bob@b.example", "<>", "<@relay.example:ann@a.example>", "ann@a.example; bob@b.example", `"ann@a.example`, "ann@a.example (", "ann@[127.0.0.1]",
		"ann@a.example\x00", "ann @ a.example", "a@b@c.example", strings.Repeat("a@b.example,", mail.MaxAddresses+1), strings.Repeat("(", 11) + strings.Repeat(")", 11) + "a@b.example",
	} {
		list, err := mail.ParseAddressList(in)
		var e *mail.Error
		if !errors.As(err, &e) {
			t.Errorf("ParseAddressList(%.60s) = %v, %v; want an error", in, list, err)
		}
	}
}

func TestMessageIDInEveryForm(t *testing.T) {
	for in, want := range map[string]string{
		"<a@b>": "a@b", " <a@b> ": "a@b", "a@b": "a@b", "(c) <a@b> (c)": "a@b", "<a@b> <c@d>": "a@b", "see <a@b>": "a@b", "<no-at>": "no-at",
		"": "", "<>": "", "<a b>": "", "<a@b": "", "a b": "", "<a@\x01b>": "", "<a<b>": "", "<é@b>": "", "<" + strings.Repeat("a", 901) + ">": "",
	} {
		if got, ok := mail.MessageID(in); got != want || ok != (want != "") {
			t.Errorf("MessageID(%.40q) = %q, %v; want %q", in, got, ok, want)
		}
	}
}

// An open comment that is looked through from each of its parentheses would take minutes.
func TestHostileValuesTakeLinearTime(t *testing.T) {
	n := 1 << 19
	hostile := []string{strings.Repeat(`(\(`, n/3), strings.Repeat("(", n), strings.Repeat(`"`, n), strings.Repeat("=?", n/2), strings.Repeat("a;", n/2), strings.Repeat("<", n), strings.Repeat("() ", n/3)}
	start := time.Now()
	for _, v := range hostile {
		mail.MessageID(v)
		mail.ParseAddressList(v)
		mail.ParseContentType(v)
		mail.DecodeText(v)
		mail.OneLine(v)
		mail.DecodeBody(mail.Header{{Name: "Content-Transfer-Encoding", Raw: []byte("C:" + v)}}, nil)
	}
	delimiters := []byte(strings.Repeat("\n--b ", n/6) + strings.Repeat(" ", n))
	mail.SplitMultipart(delimiters, "b", mail.Limits{Parts: n})
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestNewMessageID(t *testing.T) {
	if a, b := mail.NewMessageID("h.example", []byte("seed")), mail.NewMessageID("h.example", []byte("seed")); a != b {
		t.Errorf("one seed gives %s and %s", a, b)
	}
	seen := map[string]bool{}
	for range 10000 {
		id := mail.NewMessageID("h.example", nil)
		if _, ok := mail.MessageID(id); !ok || seen[id] || !strings.HasSuffix(id, "@h.example>") {
			t.Fatalf("%s is no new identifier", id)
		}
		seen[id] = true
	}
	first, again := mail.NewBoundary([]byte("x")), mail.NewBoundary([]byte("x"))
	if b := mail.NewBoundary(nil); len(b) > 70 || strings.Contains(b, ":") || b == mail.NewBoundary(nil) || first != again {
		t.Errorf("boundary %q", b)
	}
}

func TestBuilderComposesStrictly(t *testing.T) {
	ann, err := direct.ParseAddress("ann@a.example")
	if err != nil {
		t.Fatal(err)
	}
	var b mail.Builder
	b.AddAddresses("From", ann)
	b.AddAddresses("To", ann, ann, ann, ann, ann, ann)
	b.AddDate("Date", time.Date(2026, 6, 1, 12, 0, 0, 0, time.FixedZone("", -4*3600)))
	b.Add("Empty", "")
	b.AddText("Error", "first line\nsecond\r\nthird\rfourth\tfifth")
	b.AddField(mail.Field{Name: "X", Raw: []byte("X: kept\n  as it is")})
	b.Body([]byte("body\r\n"), []byte("more"))
	got, err := b.Bytes()
	want := "From: ann@a.example\r\n" +
		"To: ann@a.example, ann@a.example, ann@a.example, ann@a.example, ann@a.example,\r\n ann@a.example\r\n" +
		"Date: Mon, 01 Jun 2026 12:00:00 -0400\r\nEmpty:\r\nError: first line second third fourth fifth\r\nX: kept\r\n  as it is\r\n\r\nbody\r\nmore"
	if err != nil || string(got) != want {
		t.Errorf("got %q, %v\nwant %q", got, err, want)
	}
}

func TestTextFieldsComeBackEqualAndFolded(t *testing.T) {
	for _, text := range []string{
		"short", strings.Repeat("a long explanation ", 300), "naïve Größe 漢字 " + strings.Repeat("é", 400), "8-bit \xff\xfe octets", strings.Repeat("x", 5000), "tab\there\r\n.\r\nBcc: mallory@m.example",
	} {
		var b mail.Builder
		b.AddText("Failure", text)
		raw, err := b.Bytes()
		if err != nil {
			t.Errorf("%.30q: %v", text, err)
			continue
		}
		for l := range strings.SplitSeq(strings.TrimSuffix(string(raw), "\r\n"), "\r\n") {
			if len(l) > 998 || strings.ContainsAny(l, "\r\n") {
				t.Errorf("%.30q: line %q", text, l)
			}
		}
		h, body, err := mail.Split(raw)
		if err != nil || len(h) != 1 || len(body) != 0 {
			t.Fatalf("%.30q: %d fields, body %q, %v", text, len(h), body, err)
		}
		words := func(s string) string { return strings.Join(strings.Fields(s), " ") }
		want := words(strings.ToValidUTF8(text, "?"))
		got := words(mail.DecodeText(h[0].Value()))
		if len(text) == 5000 {
			got = strings.ReplaceAll(got, " ", "")
		}
		if got != want {
			t.Errorf("%.30q came back as %.60q, want %.60q", text, got, want)
		}
	}
}

func TestBuilderCannotBeMadeToInject(t *testing.T) {
	for name, compose := range map[string]func(*mail.Builder){
		"CRLF in a value": func(b *mail.Builder) { b.Add("Subject", "x\r\nBcc: a@b.example") },
		"LF in a value":   func(b *mail.Builder) { b.Add("Subject", "x\nBcc: a@b.example") },
		"CR in a value":   func(b *mail.Builder) { b.Add("Subject", "x\rBcc: a@b.example") },
		"NUL in a value":  func(b *mail.Builder) { b.Add("Subject", "x\x00") },
		"8-bit in a value": func(b *mail.Builder) {
			b.Add("Subject", "é")
		},
		"colon in a name":     func(b *mail.Builder) { b.Add("Bcc: a@b.example, x", "y") },
		"empty name":          func(b *mail.Builder) { b.Add("", "y") },
		"no address":          func(b *mail.Builder) { b.AddAddresses("To", direct.Address{}) },
		"a word too long":     func(b *mail.Builder) { b.Add("X", strings.Repeat("x", 1000)) },
		"field after body":    func(b *mail.Builder) { b.Body(); b.Add("X", "y") },
		"raw field in a body": func(b *mail.Builder) { b.Body(); b.AddField(mail.Field{Raw: []byte("X: y\r\n")}) },
	} {
		var b mail.Builder
		compose(&b)
		if out, err := b.Bytes(); err == nil {
			t.Errorf("%s: composed %q", name, out)
		}
	}
}

func TestCheckStructure(t *testing.T) {
	multi := func(header, body string) string {
		return "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + header + "\r\n" + body + "\r\n--b--\r\n"
	}
	nested := "text"
	for i := range mail.MaxDepth + 1 {
		nested = fmt.Sprintf("Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n%s\r\n--b%d--", i, i, nested, i)
		if i == 0 {
			nested = strings.Replace(nested, "text", "\r\ntext", 1)
		}
	}
	for name, tt := range map[string]struct {
		msg string
		ok  bool
	}{
		"plain":               {"Subject: x\r\n\r\ntext", true},
		"multipart":           {multi("", "text"), true},
		"attachment":          {multi("Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n", "aGVsbG8="), true},
		"forward":             {multi("Content-Type: message/rfc822\r\n", "From: x\r\n\r\ntext"), true},
		"no boundary":         {"Content-Type: multipart/mixed\r\n\r\n--b--", false},
		"no delimiter":        {"Content-Type: multipart/mixed; boundary=b\r\n\r\ntext", false},
		"not closed":          {"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext", false},
		"unknown encoding":    {multi("Content-Transfer-Encoding: x-own\r\n", "text"), false},
		"bad base64":          {multi("Content-Transfer-Encoding: base64\r\n", "a*b"), false},
		"encoded multipart":   {"Content-Transfer-Encoding: base64\r\n" + multi("", "text"), false},
		"encoded message":     {multi("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n", "QTogYg=="), false},
		"broken forward":      {multi("Content-Type: message/rfc822\r\n", "no field\r\n\r\n"), false},
		"two types":           {"Content-Type: text/plain\r\nContent-Type: text/html\r\n\r\nx", false},
		"too deep":            {nested, false},
		"too many in a whole": {multi("Content-Type: multipart/mixed; boundary=c\r\n", strings.Repeat("--c\r\n\r\n", mail.MaxParts-1)+"--c--"), false},
	} {
		if err := mail.CheckStructure([]byte(tt.msg)); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestIsReportErrsTowardsYes(t *testing.T) {
	for header, want := range map[string]bool{
		"Content-Type: multipart/report; report-type=x":                true,
		"content-type : (c) Multipart/Report (broken":                  true,
		"Content-Type: message/global-delivery-status":                 true,
		"Content-Type: text/plain\r\nContent-Type: multipart/report":   true,
		"Content-Type: multipart/mixed; boundary=\"multipart/report\"": false,
		"Subject: multipart/report":                                    false,
	} {
		h, _, err := mail.Split([]byte(header + "\r\n\r\n"))
		if err != nil || h.IsReport() != want {
			t.Errorf("%q: %v, %v", header, h.IsReport(), err)
		}
	}
}

// White space inside a quoted local part is part of the address.
func TestBuilderKeepsWhiteSpaceOfAddresses(t *testing.T) {
	for _, spec := range []string{`"a  b"@x.example`, `"` + strings.Repeat("long  ", 10) + `"@x.example`} {
		a, err := direct.ParseAddress(spec)
		if err != nil {
			t.Fatal(err)
		}
		var b mail.Builder
		b.AddAddresses("From", a)
		out, err := b.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		h, _, err := mail.Split(out)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := h.Addresses("From"); err != nil || len(got) != 1 || got[0] != a {
			t.Errorf("%s was written as %q: %v, %v", spec, out, got, err)
		}
	}
}

// What stands in the brackets is the identifier, to the octet: a notification
// that names another one is about nothing.
func TestMessageIDKeepsWhatIsInItsBrackets(t *testing.T) {
	for v, want := range map[string]string{
		"<a(b)c@x.example>":          "a(b)c@x.example",
		"<a(b@x.example>":            "a(b@x.example",
		"(old <x@y>) <a@x.example>":  "a@x.example",
		"<a@x.example> (said <x@y>)": "a@x.example",
		"(open <a@x.example>":        "a@x.example",
		"a@x.example (no brackets)":  "a@x.example",
		"in reply to <a@x.example> ": "a@x.example",
		"(\\) <x@y>) <a@x.example>":  "a@x.example",
	} {
		if got, ok := mail.MessageID(v); !ok || got != want {
			t.Errorf("MessageID(%q) = %q, %v, want %q", v, got, ok, want)
		}
	}
}
