package cms_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"go.mozilla.org/pkcs7"

	"directnode/internal/cms"
	"directnode/internal/testpki"
)

// go.mozilla.org/pkcs7 as a peer: AES-CBC with PKCS #1 v1.5, and signatures.

func TestPeerPKCS7ReadsWhatWeWrite(t *testing.T) {
	p := newPeople(t)
	random := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		content := make([]byte, random.IntN(2000))
		for i := range content {
			content[i] = byte(random.Uint32())
		}
		for _, c := range []cms.Cipher{cms.AES128CBC, cms.AES256CBC} {
			m, err := pkcs7.Parse(encrypt(t, content, c, cms.Recipient{Certificate: p.bob.Cert, Transport: cms.PKCS1v15}))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := m.Decrypt(p.bob.Cert, p.bob.Key); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%s: %d octets came back as %d, %v", c, len(content), len(got), err)
			}
		}
		for _, who := range []testpki.Pair{p.alice, p.carol} {
			m, err := pkcs7.Parse(sign(t, content, cms.SignOptions{}, signer(who)))
			if err != nil {
				t.Fatal(err)
			}
			m.Content = content
			if err := m.Verify(); err != nil {
				t.Errorf("signature over %d octets: %v", len(content), err)
			}
		}
	}
}

func TestPeerPKCS7WritesWhatWeRead(t *testing.T) {
	p := newPeople(t)
	random := rand.New(rand.NewPCG(3, 4))
	// The peer's choice of cipher is a package variable, so this must not run beside another use of it.
	before := pkcs7.ContentEncryptionAlgorithm
	defer func() { pkcs7.ContentEncryptionAlgorithm = before }()
	for range 20 {
		content := make([]byte, 1+random.IntN(2000))
		for i := range content {
			content[i] = byte(random.Uint32())
		}
		for _, algorithm := range []int{pkcs7.EncryptionAlgorithmAES128CBC, pkcs7.EncryptionAlgorithmAES256CBC} {
			pkcs7.ContentEncryptionAlgorithm = algorithm
			der, err := pkcs7.Encrypt(content, certificates(p.alice, p.bob))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := decrypt(t, der, decrypter(p.bob)); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d octets came back as %d, %v", len(content), len(got), err)
			}
		}
		for _, who := range []testpki.Pair{p.alice, p.carol} {
			sd, err := pkcs7.NewSignedData(content)
			if err != nil {
				t.Fatal(err)
			}
			sd.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
			if err := sd.AddSigner(who.Cert, who.Key, pkcs7.SignerInfoConfig{}); err != nil {
				t.Fatal(err)
			}
			sd.Detach()
			der, err := sd.Finish()
			if err != nil {
				t.Fatal(err)
			}
			if r := verifyOne(t, der, content, cms.VerifyPolicy{}); r.Err != nil {
				t.Errorf("signature over %d octets: %v", len(content), r.Err)
			}
		}
	}
}
