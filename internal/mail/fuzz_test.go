package mail_test

import (
	"bytes"
	"testing"

	"directnode/internal/mail"
)

// FuzzSplit holds the MIME split to its promise: pieces are the input's own
// octets, in order, and nothing is lost between them but delimiters.
func FuzzSplit(f *testing.F) {
	f.Add([]byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nA: b\r\n c\r\n\r\nx\r\n--b--\r\n"))
	f.Add([]byte("content-type : multipart/signed;boundary=\"a;b\" (c)\n\npre\n--a;b \n\nx\n--a;b\n\n--a;b--"))
	f.Add([]byte("Content-Transfer-Encoding: quoted-printable\n\na=3D=\nb"))
	f.Add([]byte("From: \"a, b\" <a@b.example>, (c) d@e.example\nMessage-ID: <a@b>\n\n"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		h, body, err := mail.Split(msg)
		if err != nil {
			return
		}
		at := 0
		for _, field := range h {
			if !bytes.HasPrefix(msg[at:], field.Raw) {
				t.Fatalf("field %q is not at %d", field.Raw, at)
			}
			at += len(field.Raw)
			if v := field.Value(); bytes.ContainsAny([]byte(v), "\r\n\x00") {
				t.Fatalf("value %q of field %q", v, field.Raw)
			}
		}
		if rest := msg[at:]; !bytes.HasSuffix(rest, body) || len(rest)-len(body) > 2 {
			t.Fatalf("body %q after %q", body, rest)
		}
		if canon := mail.Canonical(msg); !bytes.Equal(mail.Canonical(canon), canon) || mail.TraitsOf(canon).BareLF {
			t.Fatalf("Canonical(%q) = %q", msg, canon)
		}
		checkFields(t, h)
		if decoded, err := mail.DecodeBody(h, body); err == nil && len(decoded) > len(body) {
			t.Fatalf("%d octets decode to %d", len(body), len(decoded))
		}
		_, params, err := h.ContentType()
		if err != nil {
			return
		}
		parts, err := mail.SplitMultipart(body, params["boundary"], mail.Limits{Parts: 50})
		if err != nil && len(parts) == 0 {
			return
		}
		at = 0
		for _, p := range parts {
			i := bytes.Index(body[at:], p.Raw)
			if i < 0 || !bytes.HasSuffix(p.Raw, p.Body) {
				t.Fatalf("part %q is not in %q", p.Raw, body[at:])
			}
			at += i + len(p.Raw)
		}
		_ = mail.CheckStructure(msg)
	})
}

// checkFields reads what is read of every message and holds the results to
// what the rest of the system builds upon.
func checkFields(t *testing.T, h mail.Header) {
	for _, v := range h.All("From") {
		list, err := mail.ParseAddressList(v)
		for _, a := range list {
			if err == nil && a.IsZero() {
				t.Fatalf("an empty address in %q", v)
			}
		}
	}
	if id, ok := mail.MessageID(h.Get("Message-ID")); ok {
		var b mail.Builder
		b.Add("Original-Message-ID", "<"+id+">")
		if _, err := b.Bytes(); err != nil {
			t.Fatalf("identifier %q cannot be written: %v", id, err)
		}
	}
	var b mail.Builder
	b.AddText("Error", h.Get("Subject"))
	out, err := b.Bytes()
	if err != nil {
		t.Fatalf("text %q: %v", h.Get("Subject"), err)
	}
	if again, _, err := mail.Split(out); err != nil || len(again) != 1 {
		t.Fatalf("text %q makes %d fields, %v", h.Get("Subject"), len(again), err)
	}
}
