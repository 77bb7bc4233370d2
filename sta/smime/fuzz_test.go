package smime_test

import (
	"bytes"
	"testing"

	"directnode/internal/cms"
	"directnode/internal/mail"
	"directnode/sta/smime"
)

// FuzzOpenVerify: whatever comes from the wire, nothing comes out that was not
// signed, and every error has its type.
func FuzzOpenVerify(f *testing.F) {
	w := newWorld(f)
	msg := message("Subject: x\r\n\r\nHello\r\n")
	sealed := w.seal(f, msg, smime.SealOptions{})
	f.Add(sealed)
	f.Add(w.seal(f, msg, smime.SealOptions{Transport: cms.PKCS1v15, Cipher: cms.AES256CBC}))
	f.Add([]byte("Content-Type: application/pkcs7-mime\n\n0"))
	k := keys(f, w.bob)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if h, _, err := mail.Split(raw); err == nil {
			smime.Recognize(h)
		}
		o, err := smime.Open(raw, k)
		if err != nil {
			if err != cms.ErrDecrypt && check(err) == "" {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		v, err := smime.Verify(o, cms.VerifyPolicy{AllowSHA1: true})
		if err == nil && !bytes.Equal(v.Message(), msg) {
			t.Fatalf("came out as %q", v.Message())
		}
	})
}

// FuzzVerify is the same on the decrypted side, where the fuzzer gets deeper.
func FuzzVerify(f *testing.F) {
	w := newWorld(f)
	msg := message("Subject: x\r\n\r\nHello\r\n")
	part := append([]byte("Content-Type: message/rfc822\r\n\r\n"), msg...)
	plain := []byte("Content-Type: text/plain\r\n\r\nHello\r\n")
	f.Add(signed(signedHeader, part, detached(f, part, signer(w.ann))))
	f.Add(signed(signedHeader, plain, detached(f, plain, signer(w.ann))))
	f.Add([]byte("Content-Type: multipart/signed; boundary=b\n\n--b\n\n--b\nContent-Type: application/x-pkcs7-signature\n\n0\n--b--"))
	outer := outerHeader(f)
	f.Fuzz(func(t *testing.T, entity []byte) {
		v, err := smime.Verify(smime.NewOpened(outer, entity), cms.VerifyPolicy{AllowSHA1: true})
		if err != nil {
			if check(err) == "" {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if len(v.Signers()) == 0 || v.Wrapped() && !bytes.Equal(v.Message(), msg) || !v.Wrapped() && !bytes.HasSuffix(v.Message(), []byte("\r\n\r\nHello\r\n")) {
			t.Fatalf("came out as %q", v.Message())
		}
	})
}
