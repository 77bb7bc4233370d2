package smime_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"
	"testing"

	"directnode/internal/cms"
	"directnode/internal/mail"
	"directnode/internal/spec"
	"directnode/internal/testpki"
	"directnode/resolver/trust"
	"directnode/sta/smime"
)

// cut gives the body of a sealed message, which is base64.
func cut(t testing.TB, raw []byte) (der []byte, encoded string) {
	t.Helper()
	h, body, err := mail.Split(raw)
	if err != nil {
		t.Fatal(err)
	}
	if der, err = mail.DecodeBody(h, body); err != nil {
		t.Fatal(err)
	}
	return der, string(body)
}

func TestOpenReadsEveryFormOfTheOuterHeader(t *testing.T) {
	spec.Covers(t, "AS-2.4-d", "AS-2.4-e")
	w := newWorld(t)
	msg := message("Subject: x\r\n\r\nHello\r\n")
	der, encoded := cut(t, w.seal(t, msg, smime.SealOptions{}))
	for _, header := range []string{
		"Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=\"smime.p7m\"\r\nContent-Transfer-Encoding: base64",
		"Content-Type: application/x-pkcs7-mime; smime-type=enveloped-data; name=smime.p7m\r\nContent-Transfer-Encoding: base64",
		"Content-Type: APPLICATION/X-PKCS7-MIME;NAME=smime.p7m;SMIME-TYPE=\"Enveloped-Data\";\r\nContent-Transfer-Encoding: BASE64",
		"content-type : application/pkcs7-mime\r\ncontent-transfer-encoding : base64 (as usual)",
		"Content-Type: application/pkcs7-mime;\r\n\tname=smime.p7m;\r\n smime-type=enveloped-data\r\nContent-Disposition: inline\r\nContent-Transfer-Encoding:\r\n base64",
	} {
		raw := []byte("From: ann@a.example\r\n" + header + "\r\n\r\n" + encoded)
		for form, r := range map[string][]byte{"CRLF": raw, "LF": bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n"))} {
			if h, _, err := mail.Split(r); err != nil || !smime.Recognize(h) {
				t.Errorf("%q (%s) is not recognized: %v", header, form, err)
			}
			if v := w.receive(t, r); !bytes.Equal(v.Message(), msg) {
				t.Errorf("%q (%s) came out as %q", header, form, v.Message())
			}
		}
	}
	for _, encoding := range []string{"binary", "8bit", "7bit"} {
		raw := append([]byte("Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: "+encoding+"\r\n\r\n"), der...)
		if v := w.receive(t, raw); !bytes.Equal(v.Message(), msg) {
			t.Errorf("%s came out as %q", encoding, v.Message())
		}
	}
}

// The EFAIL frames: somebody's encrypted message inside an attacker's message.
func TestOnlyTheRootIsDecrypted(t *testing.T) {
	spec.Covers(t, "AS-2.4-d")
	w := newWorld(t)
	sealed := w.seal(t, message("Subject: x\r\n\r\nsecret\r\n"), smime.SealOptions{})
	_, encoded := cut(t, sealed)
	part := "Content-Type: application/pkcs7-mime; smime-type=enveloped-data\r\nContent-Transfer-Encoding: base64\r\n\r\n" + encoded
	image := "--m\r\nContent-Type: text/html\r\n\r\n<img src=\"http://attacker.example/\r\n"
	frames := map[string]struct{ raw, check string }{}
	for _, kind := range []string{"mixed", "alternative", "related", "digest", "report", "signed", "encrypted", "parallel", "x-own"} {
		frames["multipart/"+kind] = struct{ raw, check string }{"Content-Type: multipart/" + kind + "; boundary=m\r\n\r\n" + image + "--m\r\n" + part + "\r\n--m--\r\n", smime.CheckEnveloped}
	}
	for name, raw := range map[string]string{
		"alone in a multipart": "Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n" + part + "\r\n--m--\r\n",
		"forwarded":            "Content-Type: message/rfc822\r\n\r\n" + string(sealed),
		"plain text":           "Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n" + encoded,
		"no type":              "Content-Transfer-Encoding: base64\r\n\r\n" + encoded,
		"by its file name":     "Content-Type: application/octet-stream; name=smime.p7m\r\nContent-Transfer-Encoding: base64\r\n\r\n" + encoded,
		"compressed":           "Content-Type: application/pkcs7-mime; smime-type=compressed-data\r\nContent-Transfer-Encoding: base64\r\n\r\n" + encoded,
		"authenticated":        "Content-Type: application/pkcs7-mime; smime-type=authEnveloped-data\r\nContent-Transfer-Encoding: base64\r\n\r\n" + encoded,
		"OpenPGP":              "Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=m\r\n\r\n--m\r\n" + part + "\r\n--m--\r\n",
	} {
		frames[name] = struct{ raw, check string }{raw, smime.CheckEnveloped}
	}
	frames["signed only"] = struct{ raw, check string }{"Content-Type: application/pkcs7-mime; smime-type=signed-data\r\nContent-Transfer-Encoding: base64\r\n\r\n" + encoded, smime.CheckOpaque}
	frames["two types"] = struct{ raw, check string }{"Content-Type: text/plain\r\n" + part, smime.CheckFormat}
	frames["two encodings"] = struct{ raw, check string }{"Content-Transfer-Encoding: 7bit\r\n" + part, smime.CheckFormat}
	frames["damaged base64"] = struct{ raw, check string }{strings.Replace(part, "\r\n\r\nM", "\r\n\r\n*", 1), smime.CheckFormat}
	frames["no CMS"] = struct{ raw, check string }{"Content-Type: application/pkcs7-mime\r\n\r\nhello", smime.CheckEnveloped}
	frames["no message"] = struct{ raw, check string }{"hello", smime.CheckFormat}
	for name, f := range frames {
		if h, _, err := mail.Split([]byte(f.raw)); err == nil && f.check == smime.CheckOpaque && smime.Recognize(h) {
			t.Errorf("%s: recognized", name)
		}
		o, err := smime.Open([]byte(f.raw), keys(t, w.bob))
		if check(err) != f.check || len(o.Entity()) != 0 {
			t.Errorf("%s: %v, want a refusal by %s; %d octets came out", name, err, f.check, len(o.Entity()))
		}
	}
}

func TestWhatIsDecryptedMustBeSignedAsAWhole(t *testing.T) {
	spec.Covers(t, "AS-2.4-f", "AS-2.5.1-a")
	w := newWorld(t)
	inner := message("Subject: x\r\n\r\nHello\r\n")
	part := append([]byte("Content-Type: message/rfc822\r\n\r\n"), inner...)
	sig := detached(t, part, signer(w.ann))
	good := string(signed(signedHeader, part, sig))
	_, goodBody, _ := strings.Cut(good, "\r\n\r\n")
	sigPart := good[strings.Index(good, "--b\r\nContent-Type: application/pkcs7-signature"):strings.Index(good, "--b--")]
	replace := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in the entity", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	for name, tt := range map[string]struct{ entity, check string }{
		"not signed":               {string(part), smime.CheckSigned},
		"nothing":                  {"", smime.CheckSigned},
		"no entity":                {"hello", smime.CheckFormat},
		"encrypted again":          {string(w.seal(t, inner, smime.SealOptions{})), smime.CheckNested},
		"opaque":                   {"Content-Type: application/pkcs7-mime; smime-type=signed-data\r\n\r\nx", smime.CheckOpaque},
		"opaque, unnamed":          {"Content-Type: application/x-pkcs7-mime\r\n\r\nx", smime.CheckOpaque},
		"inside a multipart":       {"Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n" + good + "\r\n--m--\r\n", smime.CheckSigned},
		"three parts":              {replace("\r\n--b--", "\r\n--b\r\n\r\nmore\r\n--b--"), smime.CheckSigned},
		"four parts":               {replace("\r\n--b--", "\r\n--b\r\n\r\nmore\r\n--b\r\n\r\nmore\r\n--b--"), smime.CheckSigned},
		"one part":                 {signedHeader + "\r\n\r\n--b\r\n" + string(part) + "\r\n--b--\r\n", smime.CheckSigned},
		"signature first":          {signedHeader + "\r\n\r\n" + sigPart + "--b\r\n" + string(part) + "\r\n--b--\r\n", smime.CheckSigned},
		"two signatures":           {signedHeader + "\r\n\r\n" + sigPart + sigPart + "--b--\r\n", smime.CheckSignature},
		"not closed":               {replace("--b--\r\n", ""), smime.CheckSigned},
		"no boundary":              {replace("; boundary=b", ""), smime.CheckSigned},
		"two types":                {replace("Content-Type: multipart/signed", "Content-Type: text/plain\r\nContent-Type: multipart/signed"), smime.CheckFormat},
		"two boundaries":           {replace("; boundary=b", "; boundary=b; boundary=c"), smime.CheckFormat},
		"encoded as a whole":       {"Content-Transfer-Encoding: base64\r\n" + good, smime.CheckFormat},
		"OpenPGP":                  {replace("application/pkcs7-signature\"", "application/pgp-signature\""), smime.CheckSigned},
		"signature of no type":     {replace("Content-Type: application/pkcs7-signature\r\n", ""), smime.CheckSigned},
		"signature not base64":     {replace("base64\r\n\r\nMI", "base64\r\n\r\n*I"), smime.CheckFormat},
		"signature is no CMS":      {replace("base64\r\n\r\nMI", "base64\r\n\r\nAI"), smime.CheckSignature},
		"content changed":          {replace("Hello", "Hallo"), smime.CheckSignature},
		"content added":            {replace("Hello\r\n", "Hello\r\n\r\n"), smime.CheckSignature},
		"white space lost":         {replace("Subject: x", "Subject:x"), smime.CheckSignature},
		"fields swapped":           {replace("From: ann@a.example\r\nTo: bob@b.example\r\n", "To: bob@b.example\r\nFrom: ann@a.example\r\n"), smime.CheckSignature},
		"body under another head":  {"Content-Type: multipart/alternative; boundary=b\r\n\r\n" + goodBody, smime.CheckSigned},
		"enveloped as a signature": {string(signed(signedHeader, part, func() []byte { der, _ := cut(t, w.seal(t, inner, smime.SealOptions{})); return der }())), smime.CheckSignature},
		"content enclosed":         {string(signed(signedHeader, part, enclose(t, sig, part))), smime.CheckOpaque},
		"nobody signed":            {string(signed(signedHeader, part, withoutSigners(t, sig))), smime.CheckSignature},
	} {
		v, err := smime.Verify(smime.NewOpened(outerHeader(t), []byte(tt.entity)), cms.VerifyPolicy{})
		if check(err) != tt.check || len(v.Message()) != 0 {
			t.Errorf("%s: %v, want a refusal by %s; %d octets came out", name, err, tt.check, len(v.Message()))
		}
		var r *smime.Refusal
		if errors.As(err, &r) && (r.Citation == "" || r.Temporary() || strings.Contains(r.Error(), "Hello")) {
			t.Errorf("%s: refusal %v", name, r)
		}
	}
	if v, err := smime.Verify(smime.NewOpened(outerHeader(t), []byte(good)), cms.VerifyPolicy{}); err != nil || !bytes.Equal(v.Message(), inner) || v.Digest() != sha256.Sum256(part) {
		t.Errorf("the good one: %v", err)
	}
}

// contentInfo, signedData and encapsulated take just enough of RFC 5652 apart to forge it.
type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue // [0] around the SignedData
}

type signedData struct {
	Version, Digests, Encapsulated asn1.RawValue
	Certificates                   asn1.RawValue `asn1:"optional,tag:0"`
	Signers                        asn1.RawValue
}

func forge(t testing.TB, der []byte, change func(*signedData)) []byte {
	t.Helper()
	var c contentInfo
	if _, err := asn1.Unmarshal(der, &c); err != nil {
		t.Fatal(err)
	}
	var s signedData
	if _, err := asn1.Unmarshal(c.Content.Bytes, &s); err != nil {
		t.Fatal(err)
	}
	change(&s)
	inner, err := asn1.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	c.Content = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: inner}
	out, err := asn1.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// enclose puts content into a detached signature, which stays right.
func enclose(t testing.TB, der, content []byte) []byte {
	return forge(t, der, func(s *signedData) {
		octets, err := asn1.Marshal(content)
		if err != nil {
			t.Fatal(err)
		}
		wrapped, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: octets})
		if err != nil {
			t.Fatal(err)
		}
		s.Encapsulated = asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: append(bytes.Clone(s.Encapsulated.Bytes), wrapped...)}
	})
}

func withoutSigners(t testing.TB, der []byte) []byte {
	return forge(t, der, func(s *signedData) { s.Signers = asn1.RawValue{Tag: asn1.TagSet, IsCompound: true} })
}

func TestOneGoodSignatureIsEnoughAndAllResultsAreKept(t *testing.T) {
	spec.Covers(t, "AS-2.5.1-c")
	w := newWorld(t)
	second := w.root.Leaf("ann too", testpki.Address("ann@a.example"))
	part := append([]byte("Content-Type: message/rfc822\r\n\r\n"), message("\r\nHello\r\n")...)
	both := []cms.Signer{{Certificate: w.ann.Cert, Key: w.ann.Key}, {Certificate: second.Cert, Key: second.Key}}
	der := detached(t, part, both)
	damaged := bytes.Clone(der)
	damaged[len(damaged)-1] ^= 1 // the last signature
	for name, sig := range map[string][]byte{"both good": der, "last one bad": damaged, "first one bad": firstBad(t, der)} {
		v, err := smime.Verify(smime.NewOpened(outerHeader(t), signed(signedHeader, part, sig)), cms.VerifyPolicy{})
		if err != nil || len(v.Results()) != 2 {
			t.Errorf("%s: %d results, %v", name, len(v.Results()), err)
			continue
		}
		good := 0
		for _, r := range v.Results() {
			if r.Err == nil {
				good++
			}
		}
		want := 1
		if name == "both good" {
			want = 2
		}
		if good != want || len(v.Signers()) != want || len(v.Signers()[0].Embedded) != 2 {
			t.Errorf("%s: %d good, %d signers", name, good, len(v.Signers()))
		}
	}
}

// firstBad flips the last octet of the first SignerInfo.
func firstBad(t testing.TB, der []byte) []byte {
	return forge(t, der, func(s *signedData) {
		var first asn1.RawValue
		set := bytes.Clone(s.Signers.Bytes)
		rest, err := asn1.Unmarshal(set, &first)
		if err != nil {
			t.Fatal(err)
		}
		set[len(set)-len(rest)-1] ^= 1
		s.Signers = asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: set}
	})
}

func TestVariantsOfTheSignedEntityAreRead(t *testing.T) {
	spec.Covers(t, "AS-2.5.1-c", "AS-2.5.1-e", "AS-2.5.3-b")
	w := newWorld(t)
	inner := message("Subject: x\r\n\r\nHello =3D \r\n")
	bare := append([]byte("Content-Type: message/rfc822\r\n\r\n"), inner...)
	entity := func(part []byte) string { return string(signed(signedHeader, part, detached(t, part, signer(w.ann)))) }
	good := entity(bare)
	with := func(encoding string, body []byte) string {
		return entity(append([]byte("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: "+encoding+"\r\n\r\n"), body...))
	}
	for name, e := range map[string]string{
		"as it is":              good,
		"legacy part":           strings.Replace(good, "Content-Type: application/pkcs7-signature", "Content-Type: application/x-pkcs7-signature; name=smime.p7s", 1),
		"legacy protocol":       strings.Replace(good, `protocol="application/pkcs7-signature"`, "protocol=application/x-pkcs7-signature", 1),
		"no protocol":           strings.Replace(good, `protocol="application/pkcs7-signature"; `, "", 1),
		"micalg sha256":         strings.Replace(good, "sha-256", "sha256", 1),
		"micalg wrong":          strings.Replace(good, "sha-256", "md5", 1),
		"no micalg":             strings.Replace(good, "micalg=sha-256; ", "", 1),
		"parameters turned":     strings.Replace(good, signedHeader, `Content-type:MULTIPART/SIGNED;BOUNDARY="b";Micalg="sha-256";PROTOCOL=application/pkcs7-signature`, 1),
		"LF only":               strings.ReplaceAll(good, "\r\n", "\n"),
		"no preamble":           strings.Replace(good, "preamble\r\n", "", 1),
		"a Content-Disposition": strings.Replace(good, "Content-Transfer-Encoding: base64\r\n", "Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=smime.p7s\r\n", 1),
		"7bit":                  with("7bit", inner),
		"8bit":                  with("8bit", inner),
		"base64":                with("base64", mail.EncodeBase64(inner)),
		"quoted-printable":      with("quoted-printable", bytes.ReplaceAll(bytes.ReplaceAll(inner, []byte("="), []byte("=3D")), []byte(" \r\n"), []byte("=20\r\n"))),
	} {
		v, err := smime.Verify(smime.NewOpened(outerHeader(t), []byte(e)), cms.VerifyPolicy{})
		if err != nil || !bytes.Equal(v.Message(), inner) || !v.Wrapped() {
			t.Errorf("%s: %q, %v", name, v.Message(), err)
		}
		if bytes.Contains(v.Message(), []byte("preamble")) || bytes.Contains(v.Message(), []byte("epilogue")) {
			t.Errorf("%s: what nobody signed came out", name)
		}
	}
}

func TestAnUnwrappedMessageGetsTheOuterHeader(t *testing.T) {
	w := newWorld(t)
	part := []byte("Content-Type: text/plain; charset=utf-8\r\nSubject: not a field of the message\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGröße\r\n")
	outer, _, err := mail.Split([]byte("Received: from a\r\nFrom: ann@a.example\nSubject: in clear\r\nContent-Type: application/pkcs7-mime\r\nContent-Disposition: attachment\r\nTo: bob@b.example\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := smime.Verify(smime.NewOpened(outer, signed(signedHeader, part, detached(t, part, signer(w.ann)))), cms.VerifyPolicy{})
	want := "MIME-Version: 1.0\r\nReceived: from a\r\nFrom: ann@a.example\r\nSubject: in clear\r\nTo: bob@b.example\r\n" +
		"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGröße\r\n"
	if err != nil || string(v.Message()) != want || v.Wrapped() {
		t.Errorf("got %q, wrapped %v, %v", v.Message(), v.Wrapped(), err)
	}
}

func TestWhatCannotBeUnwrappedIsRefused(t *testing.T) {
	w := newWorld(t)
	for name, tt := range map[string]struct{ part, check string }{
		"unknown encoding":   {"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: x-own\r\n\r\nFrom: ann@a.example\r\n\r\n", smime.CheckWrapping},
		"damaged encoding":   {"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n***", smime.CheckWrapping},
		"no message":         {"Content-Type: message/rfc822\r\n\r\nhello", smime.CheckWrapping},
		"two types":          {"Content-Type: message/rfc822\r\nContent-Type: text/plain\r\n\r\nFrom: ann@a.example\r\n\r\n", smime.CheckFormat},
		"message in message": {"Content-Type: message/rfc822\r\n\r\nContent-Type: message/rfc822\r\n\r\nFrom: ann@a.example\r\n\r\n", smime.CheckHeader},
	} {
		_, err := smime.Verify(smime.NewOpened(outerHeader(t), signed(signedHeader, []byte(tt.part), detached(t, []byte(tt.part), signer(w.ann)))), cms.VerifyPolicy{})
		if check(err) != tt.check {
			t.Errorf("%s: %v, want a refusal by %s", name, err, tt.check)
		}
	}
	h := outerHeader(t)
	if o := smime.NewOpened(h, nil); o.Outer().Get("From") != "ann@a.example" {
		t.Errorf("outer header %q", o.Outer())
	}
}

func TestARefusalKeepsItsCause(t *testing.T) {
	w := newWorld(t)
	part := []byte("Content-Type: text/plain\r\n\r\nHello")
	_, err := smime.Verify(smime.NewOpened(outerHeader(t), signed(signedHeader, []byte("Content-Type: text/plain\r\n\r\nHallo"), detached(t, part, signer(w.ann)))), cms.VerifyPolicy{})
	if !errors.Is(err, cms.ErrDigest) {
		t.Errorf("%v does not say that the digest differs", err)
	}
}

func TestTheSignedHeaderMustSayFromWhom(t *testing.T) {
	w := newWorld(t)
	for name, header := range map[string]string{
		"no From":       "To: bob@b.example\r\n",
		"empty From":    "From: \r\n",
		"two From":      "From: ann@a.example\r\nfrom : eve@e.example\r\n",
		"two addresses": "From: ann@a.example, eve@e.example\r\n",
		"group":         "From: all: ann@a.example;\r\n",
		"name only":     "From: ann\r\n",
		"two Senders":   "From: ann@a.example\r\nSender: ann@a.example\r\nSender: eve@e.example\r\n",
		"bare CR":       "From: ann@a.example\rFrom: eve@e.example\r\n",
	} {
		for form, part := range map[string]string{"wrapped": "Content-Type: message/rfc822\r\n\r\n" + header + "\r\nHello", "unwrapped": "Content-Type: text/plain\r\n\r\nHello"} {
			outer := outerHeader(t)
			if form == "unwrapped" {
				var err error
				if outer, _, err = mail.Split([]byte(header + "\r\n")); err != nil {
					continue // it would not have been opened
				}
			}
			_, err := smime.Verify(smime.NewOpened(outer, signed(signedHeader, []byte(part), detached(t, []byte(part), signer(w.ann)))), cms.VerifyPolicy{})
			if c := check(err); c != smime.CheckHeader && c != smime.CheckWrapping && c != smime.CheckFormat {
				t.Errorf("%s, %s: %v", name, form, err)
			}
		}
	}
}

// Whatever octet of the decrypted content changes, the message is refused or
// comes out as it was signed.
func TestNoChangedOctetGetsThrough(t *testing.T) {
	spec.Covers(t, "AS-2.5.3-b")
	w := newWorld(t)
	inner := message("Subject: x\r\n\r\nHello\r\n")
	part := append([]byte("Content-Type: message/rfc822\r\n\r\n"), inner...)
	good := signed(signedHeader, part, detached(t, part, signer(w.ann)))
	at := bytes.Index(good, part)
	for i := range good {
		if i > at+len(part) && i%3 != 0 {
			continue // of the long base64 of the signature, every third character
		}
		for _, flip := range []byte{0x01, 0x80} {
			entity := bytes.Clone(good)
			entity[i] ^= flip
			v, err := smime.Verify(smime.NewOpened(outerHeader(t), entity), cms.VerifyPolicy{})
			if err == nil && (!bytes.Equal(v.Message(), inner) || i >= at && i < at+len(part)) {
				t.Fatalf("octet %d of %q: came out as %q", i, good, v.Message())
			}
			if err != nil && check(err) == "" {
				t.Fatalf("octet %d: untyped error %v", i, err)
			}
		}
	}
}

// The gadgets of EFAIL move and change blocks of the ciphertext.
func TestNoChangedCiphertextGetsThrough(t *testing.T) {
	spec.Covers(t, "AS-2.4-b")
	w := newWorld(t)
	msg := message("Subject: x\r\n\r\n" + strings.Repeat("Hello\r\n", 40))
	der, _ := cut(t, w.seal(t, msg, smime.SealOptions{}))
	try := func(what string, changed []byte) {
		raw := append([]byte("Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: binary\r\n\r\n"), changed...)
		o, err := smime.Open(raw, keys(t, w.bob))
		if err == nil {
			var v smime.Verified
			if v, err = smime.Verify(o, cms.VerifyPolicy{}); err == nil && !bytes.Equal(v.Message(), msg) {
				t.Fatalf("%s: came out as %q", what, v.Message())
			}
		}
		if err == nil && !bytes.Equal(changed, der) && !strings.HasPrefix(what, "octet") {
			t.Fatalf("%s: accepted", what)
		}
		if err != nil && err != cms.ErrDecrypt && check(err) == "" {
			t.Fatalf("%s: untyped error %v", what, err)
		}
	}
	for i := 0; i < len(der); i += 31 {
		changed := bytes.Clone(der)
		changed[i] ^= 1 << (i % 8)
		try(fmt.Sprintf("octet %d", i), changed)
	}
	blocks := len(der)/16 - 40 // the ciphertext is at the end
	for i := range 30 {
		changed := bytes.Clone(der)
		a, b := len(der)-16*(1+i), len(der)-16*(1+(i*7+3)%blocks%40)
		if a == b {
			continue
		}
		copy(changed[a:a+16], der[b:b+16])
		try(fmt.Sprintf("block %d over %d", b, a), changed)
	}
}

func TestWeakDigestsFollowThePolicy(t *testing.T) {
	spec.Covers(t, "AS-2.6-b", "AS-2.6-d", "AS-2.6-e")
	w := newWorld(t)
	inner := message("Subject: x\r\n\r\nHello\r\n")
	part := append([]byte("Content-Type: message/rfc822\r\n\r\n"), inner...)
	for _, digest := range []string{"sha1", "md5", "sha256", "sha384", "sha512"} {
		sig := opensslSign(t, w.ann, part, digest)
		for _, allow := range []bool{false, true} {
			_, err := smime.Verify(smime.NewOpened(outerHeader(t), signed(signedHeader, part, sig)), cms.VerifyPolicy{AllowSHA1: allow})
			want := digest != "md5" && (digest != "sha1" || allow)
			if (err == nil) != want {
				t.Errorf("%s with AllowSHA1 %v: %v", digest, allow, err)
			}
		}
	}
}

// A second recipient has the message only where keys of its own give the same
// content.
func TestOpensTellsWhoseKeysOpenTheMessage(t *testing.T) {
	w := newWorld(t)
	carl := w.root.Leaf("carl", testpki.Address("carl@c.example"))
	to := append(w.trusted(t, "bob@b.example", w.bob, trust.Encrypt), w.trusted(t, "carl@c.example", carl, trust.Encrypt)...)
	both, err := smime.Seal(w.sign(t, message("\r\nto both\r\n")), address(t, "ann@a.example"), to, smime.SealOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		raw  []byte
		want bool
	}{
		"to both":      {wire(t, both), true},
		"to bob alone": {w.seal(t, message("\r\nto bob\r\n"), smime.SealOptions{}), false},
	} {
		closed, err := smime.Parse(c.raw)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := closed.Open(keys(t, w.bob), nil)
		if err != nil {
			t.Fatal(err)
		}
		if !closed.Opens(opened, keys(t, w.bob), nil) {
			t.Errorf("%s: not for bob, who has opened it", name)
		}
		if got := closed.Opens(opened, keys(t, carl), nil); got != c.want {
			t.Errorf("%s: for carl %v, want %v", name, got, c.want)
		}
		if closed.Opens(smime.Opened{}, keys(t, w.bob), nil) {
			t.Errorf("%s: the same as nothing", name)
		}
	}
}
