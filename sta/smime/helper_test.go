package smime_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"testing"

	"directnode/internal/cms"
	"directnode/internal/direct"
	"directnode/internal/mail"
	"directnode/internal/testpki"
	"directnode/resolver/trust"
	"directnode/sta/smime"
)

// world is two correspondents under one root.
type world struct {
	root     *testpki.CA
	ann, bob testpki.Pair
}

func newWorld(t testing.TB) world {
	root := testpki.New(t).Root("Test Root")
	return world{root: root, ann: root.Leaf("ann", testpki.Address("ann@a.example")), bob: root.Leaf("bob", testpki.Address("bob@b.example"))}
}

func address(t testing.TB, s string) direct.Address {
	t.Helper()
	a, err := direct.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func signer(p testpki.Pair) []cms.Signer {
	return []cms.Signer{{Certificate: p.Cert, Key: p.Key}}
}

func keys(t testing.TB, pairs ...testpki.Pair) []cms.Decrypter {
	t.Helper()
	var d []cms.Decrypter
	for _, p := range pairs {
		key, ok := p.Key.(crypto.Decrypter)
		if !ok {
			t.Fatal("a key that does not decrypt")
		}
		d = append(d, cms.Decrypter{Certificate: p.Cert, Key: key})
	}
	return d
}

// trusted judges a certificate for an address.
func (w world) trusted(t testing.TB, who string, p testpki.Pair, purpose trust.Purpose) []trust.Trusted {
	t.Helper()
	j := trust.Evaluate(trust.Question{Address: address(t, who), Purpose: purpose, Candidates: [][]byte{p.DER}, Anchors: []*x509.Certificate{w.root.Cert}, At: testpki.Now()})
	if len(j.Trusted()) == 0 {
		t.Fatal(j.Refusal())
	}
	return j.Trusted()
}

// message composes a message from ann to bob around further fields and a body.
func message(rest string) []byte {
	return []byte("From: ann@a.example\r\nTo: bob@b.example\r\nDate: Mon, 01 Jun 2026 12:00:00 +0000\r\nMessage-ID: <m1@a.example>\r\nMIME-Version: 1.0\r\n" + rest)
}

func (w world) sign(t testing.TB, msg []byte) smime.Signed {
	t.Helper()
	s, err := smime.Sign(msg, signer(w.ann), testpki.Now())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (w world) seal(t testing.TB, msg []byte, o smime.SealOptions) []byte {
	t.Helper()
	s, err := smime.Seal(w.sign(t, msg), address(t, "ann@a.example"), w.trusted(t, "bob@b.example", w.bob, trust.Encrypt), o)
	if err != nil {
		t.Fatal(err)
	}
	return wire(t, s)
}

func wire(t testing.TB, s smime.Sealed) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := s.WriteTo(&b)
	if err != nil || n != int64(b.Len()) || n != s.Size() {
		t.Fatalf("WriteTo: %d of %d octets, %v", n, s.Size(), err)
	}
	return b.Bytes()
}

func (w world) open(t testing.TB, raw []byte) smime.Opened {
	t.Helper()
	o, err := smime.Open(raw, keys(t, w.bob))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (w world) receive(t testing.TB, raw []byte) smime.Verified {
	t.Helper()
	v, err := smime.Verify(w.open(t, raw), cms.VerifyPolicy{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// signed frames any part and any signature as an entity that a peer might have encrypted.
func signed(header string, part, signature []byte) []byte {
	return bytes.Join([][]byte{
		[]byte(header + "\r\n\r\npreamble\r\n--b\r\n"), part,
		[]byte("\r\n--b\r\nContent-Type: application/pkcs7-signature\r\nContent-Transfer-Encoding: base64\r\n\r\n"), mail.EncodeBase64(signature), []byte("--b--\r\nepilogue\r\n"),
	}, nil)
}

const signedHeader = `Content-Type: multipart/signed; protocol="application/pkcs7-signature"; micalg=sha-256; boundary=b`

func detached(t testing.TB, content []byte, s []cms.Signer) []byte {
	t.Helper()
	der, err := cms.SignDetached(bytes.NewReader(content), s, cms.SignOptions{SigningTime: testpki.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// outerHeader is the clear header of a message from ann to bob.
func outerHeader(t testing.TB) mail.Header {
	t.Helper()
	h, _, err := mail.Split(message("Content-Type: application/pkcs7-mime\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// check gives the check that an error refuses by, "" for none.
func check(err error) string {
	var r *smime.Refusal
	if errors.As(err, &r) {
		return r.Check
	}
	return ""
}
