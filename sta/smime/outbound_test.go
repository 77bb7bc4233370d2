package smime_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"directnode/internal/cms"
	"directnode/internal/mail"
	"directnode/internal/spec"
	"directnode/internal/testpki"
	"directnode/resolver/trust"
	"directnode/sta/report"
	"directnode/sta/smime"
)

// contents are bodies with their own fields, as submitters send them.
func contents() map[string]string {
	long := strings.Repeat("long line ", 300)
	return map[string]string{
		"text":            "Content-Type: text/plain\r\nSubject: x\r\n\r\nHello\r\n",
		"no end of line":  "Subject: x\r\n\r\nHello",
		"empty body":      "Subject: x\r\n\r\n",
		"no body":         "Subject: x\r\n",
		"white space":     "Subject: x \r\n\r\n trailing \t\r\n\r\n\r\n",
		"dots and dashes": "Subject: x\r\n\r\n.\r\n..\r\n--\r\n--b--\r\nFrom here\r\n",
		"8-bit":           "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGröße 漢字 \xff\xfe\r\n",
		"long lines":      "Subject: x\r\n\r\n" + long + "\r\n" + long + "\xe9\r\n",
		"attachment":      "Content-Type: multipart/mixed; boundary=\"=_x\"\r\n\r\n--=_x\r\n\r\ntext\r\n--=_x\r\nContent-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n" + string(mail.EncodeBase64(bytes.Repeat([]byte{1, 2, 3}, 1000))) + "--=_x--\r\n",
		"XDM archive":     "Subject: XDM/1.0/DDM\r\nContent-Type: application/zip; name=xdm.zip\r\nContent-Transfer-Encoding: base64\r\n\r\nUEsDBA==\r\n",
		"forward":         "Content-Type: message/rfc822\r\n\r\nFrom: carl@c.example\r\nMessage-ID: <other@c.example>\r\nDate: Mon, 01 Jun 2026 11:00:00 +0000\r\n\r\nforwarded\r\n",
	}
}

func TestWhatGoesInComesOutOctetByOctet(t *testing.T) {
	spec.Covers(t, "AS-2.1-c", "AS-2.4-a", "AS-2.4-b", "AS-2.4-k", "AS-2.5.3-a", "AS-2.7-a", "AS-2.7-b")
	w := newWorld(t)
	for name, rest := range contents() {
		for _, o := range []smime.SealOptions{{}, {Cipher: cms.AES256CBC, Transport: cms.OAEPSHA256}, {Cipher: cms.AES192CBC, Transport: cms.PKCS1v15}} {
			msg := message(rest)
			v := w.receive(t, w.seal(t, msg, o))
			if !bytes.Equal(v.Message(), msg) || !v.Wrapped() {
				t.Errorf("%s (%s, %s): came out as\n%q\nwrapped %v", name, o.Cipher, o.Transport, v.Message(), v.Wrapped())
			}
			if len(v.Signers()) != 1 || !v.Signers()[0].Certificate.Equal(w.ann.Cert) || !v.Signers()[0].SigningTime.Equal(testpki.Now()) || len(v.Signers()[0].Embedded) != 1 {
				t.Errorf("%s: signers %+v", name, v.Signers())
			}
			if v.From().String() != "ann@a.example" || !v.Sender().IsZero() || v.Header().Get("To") != "bob@b.example" || v.Outer().Has("Subject") {
				t.Errorf("%s: from %s, header %q, outer %q", name, v.From(), v.Header(), v.Outer())
			}
		}
	}
}

func TestLineEndsBecomeCRLFAndNothingElseChanges(t *testing.T) {
	spec.Covers(t, "AS-2.5.3-c")
	w := newWorld(t)
	for name, rest := range contents() {
		msg := message(rest)
		lf := bytes.ReplaceAll(msg, []byte("\r\n"), []byte("\n"))
		if got := w.receive(t, w.seal(t, lf, smime.SealOptions{})).Message(); !bytes.Equal(got, msg) {
			t.Errorf("%s: came out as %q", name, got)
		}
	}
}

func TestTheWireHasTheOneForm(t *testing.T) {
	spec.Covers(t, "AS-2.4-c", "AS-2.4-f", "AS-2.5.1-a", "AS-2.5.1-b", "AS-2.5.1-d", "AS-2.5.2-a", "AS-2.6-a", "AS-2.6-c")
	w := newWorld(t)
	raw := w.seal(t, message("Subject: x\r\n\r\nGröße\r\n"), smime.SealOptions{})
	h, body, err := mail.Split(raw)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range h {
		names = append(names, f.Name)
	}
	if got := strings.Join(names, " "); got != "MIME-Version From To Date Message-ID Content-Type Content-Transfer-Encoding Content-Disposition" {
		t.Errorf("outer fields %s", got)
	}
	for name, want := range map[string]string{
		"From": "ann@a.example", "To": "bob@b.example", "Date": "Mon, 01 Jun 2026 12:00:00 +0000", "Message-ID": "<m1@a.example>", "MIME-Version": "1.0",
		"Content-Type": `application/pkcs7-mime; smime-type=enveloped-data; name="smime.p7m"`, "Content-Transfer-Encoding": "base64", "Content-Disposition": `attachment; filename="smime.p7m"`,
	} {
		if got := h.Get(name); got != want {
			t.Errorf("outer %s: %s, want %s", name, got, want)
		}
	}
	if traits := mail.TraitsOf(raw); traits != (mail.Traits{}) {
		t.Errorf("the wire is not 7-bit with CRLF: %+v", traits)
	}
	for l := range bytes.SplitSeq(bytes.TrimSuffix(body, []byte("\r\n")), []byte("\r\n")) {
		if len(l) > 76 || len(l) == 0 {
			t.Fatalf("base64 line of %d", len(l))
		}
	}
	checkEntity(t, w.open(t, raw).Entity())
}

// checkEntity holds the decrypted content against RFC 5751 §3.4.3.
func checkEntity(t *testing.T, entity []byte) {
	h, body, err := mail.Split(entity)
	if err != nil {
		t.Fatal(err)
	}
	mediaType, params, err := h.ContentType()
	if err != nil || mediaType != "multipart/signed" || params["protocol"] != "application/pkcs7-signature" || params["micalg"] != "sha-256" {
		t.Errorf("entity %s %v, %v", mediaType, params, err)
	}
	if b := params["boundary"]; len(b) > 70 || strings.Contains(b, ":") {
		t.Errorf("boundary %q", b)
	}
	parts, err := mail.SplitMultipart(body, params["boundary"], mail.Limits{})
	if err != nil || len(parts) != 2 {
		t.Fatalf("%d parts, %v", len(parts), err)
	}
	if mediaType, _, _ := parts[0].Header.ContentType(); mediaType != "message/rfc822" || parts[0].Header.Get("Content-Transfer-Encoding") != "8bit" {
		t.Errorf("part 1 %q", parts[0].Header)
	}
	s := parts[1].Header
	if s.Get("Content-Type") != "application/pkcs7-signature; name=smime.p7s" || s.Get("Content-Transfer-Encoding") != "base64" || s.Get("Content-Disposition") != "attachment; filename=smime.p7s" {
		t.Errorf("part 2 %q", s)
	}
	der, err := mail.DecodeBody(s, parts[1].Body)
	if err != nil {
		t.Fatal(err)
	}
	data, err := cms.ParseSignedData(der, cms.Limits{})
	if err != nil || !data.Detached() || len(data.Certificates()) != 1 {
		t.Fatalf("SignedData: detached %v, %d certificates, %v", data.Detached(), len(data.Certificates()), err)
	}
	results, err := data.Verify(bytes.NewReader(parts[0].Raw), cms.VerifyPolicy{})
	if err != nil || len(results) != 1 || results[0].Err != nil || results[0].Digest.String() != "SHA-256" {
		t.Errorf("%+v, %v", results, err)
	}
}

func TestNothingOfTheMessageIsInClear(t *testing.T) {
	spec.Covers(t, "AS-2.4-j")
	w := newWorld(t)
	msg := []byte("From: \"Canary-name\" <ann@a.example> (canary-comment)\r\nTo: canary-to <bob@b.example>\r\nCc: canary-cc@c.example\r\nSubject: canary-subject\r\n" +
		"Date: Mon, 01 Jun 2026 12:00:00 +0000 (canary-date)\r\nMessage-ID: <m1@a.example> (canary-id)\r\nX-Patient: canary-x\r\nReply-To: canary-reply@a.example\r\n" +
		"Disposition-Notification-To: canary-dnt@a.example\r\nContent-Type: text/plain; name=canary-file.txt\r\n\r\ncanary-body\r\n")
	raw := w.seal(t, msg, smime.SealOptions{})
	if bytes.Contains(bytes.ToLower(raw), []byte("canary")) {
		t.Errorf("in clear:\n%s", raw)
	}
	if v := w.receive(t, raw); !bytes.Equal(v.Message(), msg) {
		t.Errorf("came out as %q", v.Message())
	}
}

func TestSealNamesExactlyItsRecipients(t *testing.T) {
	spec.Covers(t, "AS-2.4-g")
	w := newWorld(t)
	org := w.root.Leaf("org", testpki.Domain("c.example"))
	second := w.root.Leaf("bob too", testpki.Address("bob@b.example"))
	to := w.trusted(t, "bob@b.example", w.bob, trust.Encrypt)
	to = append(to, w.trusted(t, "BOB@b.example", second, trust.Encrypt)...)
	to = append(to, w.trusted(t, "carl@c.example", org, trust.Encrypt)...)
	to = append(to, w.trusted(t, "cora@c.example", org, trust.Encrypt)...)
	s, err := smime.Seal(w.sign(t, message("Cc: nobody@d.example\r\nSubject: x\r\n\r\nx")), address(t, "ann@a.example"), to, smime.SealOptions{})
	if err != nil {
		t.Fatal(err)
	}
	const want = "bob@b.example, carl@c.example, cora@c.example"
	var got []string
	for _, a := range s.To() {
		got = append(got, a.String())
	}
	raw := wire(t, s)
	h, body, err := mail.Split(raw)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(got, ", ") != want || h.Get("To") != want || h.Has("Cc") {
		t.Errorf("To() %s, outer header %q", got, h)
	}
	if s.From().String() != "ann@a.example" || s.MessageID() != "m1@a.example" || s.IsReport() || s.IsZero() || !(smime.Sealed{}).IsZero() {
		t.Errorf("from %s, id %s, report %v, zero %v", s.From(), s.MessageID(), s.IsReport(), s.IsZero())
	}
	der, err := mail.DecodeBody(h, body)
	if err != nil {
		t.Fatal(err)
	}
	data, err := cms.ParseEnvelopedData(der, cms.Limits{})
	if err != nil || len(data.Recipients()) != 3 { // one per certificate: two of bob, one of the organization
		t.Errorf("%d recipient infos, %v", len(data.Recipients()), err)
	}
	for _, p := range []testpki.Pair{w.bob, second, org} {
		if _, err := smime.Open(raw, keys(t, p)); err != nil {
			t.Errorf("%s: %v", p.Cert.Subject, err)
		}
	}
	if _, err := smime.Open(raw, keys(t, w.ann)); err != cms.ErrDecrypt {
		t.Errorf("another's key: %v", err)
	}
}

func TestReportsAreSecuredLikeMessages(t *testing.T) {
	spec.Covers(t, "AS-3.0-d", "AS-3.0-e", "AS-3.0-f")
	w := newWorld(t)
	m := report.MDN{Disposition: report.Processed, From: address(t, "ann@a.example"), To: address(t, "bob@b.example"), OriginalMessageID: "<o@b.example>", MessageID: "<n@a.example>", At: testpki.Now()}
	mdn, err := m.Compose()
	if err != nil {
		t.Fatal(err)
	}
	s, err := smime.Seal(w.sign(t, mdn), m.From, w.trusted(t, "bob@b.example", w.bob, trust.Encrypt), smime.SealOptions{})
	if err != nil || !s.IsReport() {
		t.Fatalf("report %v, %v", s.IsReport(), err)
	}
	raw := wire(t, s)
	for _, word := range []string{"disposition", "report", "Original", "processed", "Subject"} {
		if bytes.Contains(raw, []byte(word)) {
			t.Errorf("%q in clear", word)
		}
	}
	v := w.receive(t, raw)
	if n, err := report.Parse(v.Message()); err != nil || n.OriginalMessageID != "o@b.example" || n.Disposition != report.Processed || !bytes.Equal(v.Message(), mdn) {
		t.Errorf("came out as %+v, %v", n, err)
	}
}

// What only looks like a wrapped message is a message that forwards another.
func TestAForwardIsWrapped(t *testing.T) {
	w := newWorld(t)
	for name, rest := range map[string]string{
		"another message":    "Content-Type: message/rfc822\r\n\r\n" + strings.Replace(string(message("\r\nx")), "m1", "m2", 1),
		"another sender":     "Content-Type: message/rfc822\r\n\r\n" + strings.Replace(string(message("\r\nx")), "ann", "eve", 1),
		"not a message":      "Content-Type: message/rfc822\r\n\r\nhello",
		"not decodable":      "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n***",
		"not a readable one": "Content-Type: message/rfc822; x\"\r\n\r\nhello",
	} {
		if msg := message(rest); !bytes.Equal(w.receive(t, w.seal(t, msg, smime.SealOptions{})).Message(), msg) {
			t.Errorf("%s does not come out as it went in", name)
		}
	}
}

// RFC 5751 §3.1: what is a wrapped message already is signed as it is.
func TestAWrappedSubmissionIsNotWrappedAgain(t *testing.T) {
	w := newWorld(t)
	inner := message("Subject: x\r\n\r\nHello\r\n")
	for name, rest := range map[string]string{
		"as it is": "Content-Type: message/rfc822\r\n\r\n" + string(inner),
		"base64":   "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + string(mail.EncodeBase64(inner)),
	} {
		if v := w.receive(t, w.seal(t, message(rest), smime.SealOptions{})); !bytes.Equal(v.Message(), inner) || !v.Wrapped() {
			t.Errorf("%s: came out as %q", name, v.Message())
		}
	}
}

func TestSignRefusesWhatAS22DoesNotAllow(t *testing.T) {
	spec.Covers(t, "AS-2.2-a", "AS-2.2-c", "AS-2.2-d", "AS-2.2-g")
	w := newWorld(t)
	const rest = "To: bob@b.example\r\nDate: Mon, 01 Jun 2026 12:00:00 +0000\r\nMessage-ID: <m1@a.example>\r\n"
	for name, tt := range map[string]struct{ msg, check string }{
		"no From":          {rest + "\r\n", smime.CheckHeader},
		"empty From":       {"From:\r\n" + rest + "\r\n", smime.CheckHeader},
		"two From":         {"From: ann@a.example\r\nFrom: bob@b.example\r\n" + rest + "\r\n", smime.CheckHeader},
		"two addresses":    {"From: ann@a.example, bob@b.example\r\n" + rest + "\r\n", smime.CheckHeader},
		"group in From":    {"From: us: ann@a.example;\r\n" + rest + "\r\n", smime.CheckHeader},
		"two Senders":      {"From: ann@a.example\r\nSender: a@a.example, b@b.example\r\n" + rest + "\r\n", smime.CheckHeader},
		"no Date":          {"From: ann@a.example\r\nMessage-ID: <m1@a.example>\r\n\r\n", smime.CheckHeader},
		"bad Date":         {"From: ann@a.example\r\nDate: yesterday\r\nMessage-ID: <m1@a.example>\r\n\r\n", smime.CheckHeader},
		"two Dates":        {"From: ann@a.example\r\nDate: Mon, 01 Jun 2026 12:00:00 +0000\r\n" + rest + "\r\n", smime.CheckHeader},
		"no Message-ID":    {"From: ann@a.example\r\nDate: Mon, 01 Jun 2026 12:00:00 +0000\r\n\r\n", smime.CheckHeader},
		"two Message-IDs":  {"From: ann@a.example\r\nMessage-ID: <m2@a.example>\r\n" + rest + "\r\n", smime.CheckHeader},
		"Bcc":              {"From: ann@a.example\r\nBcc: carl@c.example\r\n" + rest + "\r\n", smime.CheckBlindCopy},
		"bare CR":          {"From: ann@a.example\r\n" + rest + "\r\na\rb", smime.CheckFormat},
		"NUL":              {"From: ann@a.example\r\n" + rest + "\r\na\x00b", smime.CheckFormat},
		"not a message":    {"hello", smime.CheckFormat},
		"nothing":          {"", smime.CheckHeader},
		"header of a type": {"From: ann@a.example\r\nno field\r\n" + rest + "\r\n", smime.CheckFormat},
	} {
		_, err := smime.Sign([]byte(tt.msg), signer(w.ann), testpki.Now())
		if check(err) != tt.check {
			t.Errorf("%s: %v, want a refusal by %s", name, err, tt.check)
		}
	}
	if _, err := smime.Sign(message("\r\nx"), nil, testpki.Now()); err == nil {
		t.Error("signed by nobody")
	}
}

func TestSealRefusesWhatWasNotJudged(t *testing.T) {
	spec.Covers(t, "AS-2.4-h")
	w := newWorld(t)
	ann, good := address(t, "ann@a.example"), w.trusted(t, "bob@b.example", w.bob, trust.Encrypt)
	s := w.sign(t, message("\r\nx"))
	for name, try := range map[string]func() (smime.Sealed, error){
		smime.CheckFormat: func() (smime.Sealed, error) { return smime.Seal(smime.Signed{}, ann, good, smime.SealOptions{}) },
		smime.CheckSender: func() (smime.Sealed, error) {
			return smime.Seal(s, address(t, "eve@a.example"), good, smime.SealOptions{})
		},
		smime.CheckRecipients: func() (smime.Sealed, error) { return smime.Seal(s, ann, nil, smime.SealOptions{}) },
	} {
		if sealed, err := try(); check(err) != name || !sealed.IsZero() {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, to := range map[string][]trust.Trusted{"for verification": w.trusted(t, "bob@b.example", w.bob, trust.Verify), "zero": {{}}} {
		if _, err := smime.Seal(s, ann, to, smime.SealOptions{}); check(err) != smime.CheckRecipients {
			t.Errorf("%s: %v", name, err)
		}
	}
	sent, err := smime.Sign([]byte("From: boss@a.example\r\nSender: ann@a.example\r\n"+string(message("\r\nx")[len("From: ann@a.example\r\n"):])), signer(w.ann), testpki.Now())
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := smime.Seal(sent, ann, good, smime.SealOptions{})
	if err != nil || !sealed.From().Equal(ann) || !bytes.Contains(wire(t, sealed), []byte("\r\nFrom: boss@a.example\r\n")) {
		t.Errorf("by Sender: %v", err)
	}
}

func TestRandomContentsSurvive(t *testing.T) {
	spec.Covers(t, "AS-2.5.3-a")
	w := newWorld(t)
	alphabet := []string{"a", "\r\n", ".", " ", "\t", "-", "--", "é", "\xff", "=", strings.Repeat("z", 500), "From "}
	for i := range 60 {
		var body strings.Builder
		for j := range 40 {
			body.WriteString(alphabet[(i*7+j*j*(i+3)+i*i)%len(alphabet)])
		}
		msg := message(fmt.Sprintf("Subject: %d\r\n\r\n%s", i, body.String()))
		if got := w.receive(t, w.seal(t, msg, smime.SealOptions{})).Message(); !bytes.Equal(got, msg) {
			t.Fatalf("%q came out as %q", msg, got)
		}
	}
}

// A composer that has wrapped the message itself wrote two headers. Who sends
// and who gets a blind copy must be the same in both: the recipient sees the
// inner one.
func TestTheHeadersOfAWrappedSubmissionAgree(t *testing.T) {
	w := newWorld(t)
	const from = "From: boss@a.example\r\nTo: bob@b.example\r\nDate: Mon, 01 Jun 2026 12:00:00 +0000\r\nMessage-ID: <m1@a.example>\r\n"
	outer := from + "Sender: ann@a.example\r\nContent-Type: message/rfc822\r\n\r\n"
	for name, c := range map[string]struct {
		inner   string
		refused string
	}{
		"same Sender":  {from + "Sender: ann@a.example\r\n\r\nx\r\n", ""},
		"no Sender":    {from + "\r\nx\r\n", smime.CheckSender},
		"other Sender": {from + "Sender: eve@a.example\r\n\r\nx\r\n", smime.CheckSender},
		"Bcc":          {from + "Sender: ann@a.example\r\nBcc: eve@a.example\r\n\r\nx\r\n", smime.CheckBlindCopy},
	} {
		_, err := smime.Sign([]byte(outer+c.inner), signer(w.ann), testpki.Now())
		if got := check(err); got != c.refused {
			t.Errorf("%s: refused by %q, want %q (%v)", name, got, c.refused, err)
		}
	}
}
