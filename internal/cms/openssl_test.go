package cms_test

import (
	"bytes"
	"crypto"
	"fmt"
	"io"
	"testing"

	"directnode/internal/cms"
)

// OpenSSL as a peer, both ways. What it made once is in testdata/openssl and tested everywhere; here it reads what we make,
// and makes it anew.

func TestPeerOpenSSLVerifiesWhatWeSign(t *testing.T) {
	o := newOpenSSL(t)
	p := newPeople(t)
	p.ca.WriteCert(t, o.path("ca.crt"))
	o.write("content", entity)
	o.write("other", append(bytes.Clone(entity), 'x'))
	for name, c := range map[string]struct {
		digest  crypto.Hash
		signers []cms.Signer
	}{
		"rsa-sha256":   {crypto.SHA256, []cms.Signer{signer(p.alice)}},
		"rsa-sha384":   {crypto.SHA384, []cms.Signer{signer(p.alice)}},
		"rsa-sha512":   {crypto.SHA512, []cms.Signer{signer(p.alice, p.ca.Cert)}},
		"ecdsa-sha256": {crypto.SHA256, []cms.Signer{signer(p.carol)}},
		"ecdsa-sha512": {crypto.SHA512, []cms.Signer{signer(p.carol)}},
		"three":        {crypto.SHA256, []cms.Signer{signer(p.alice), signer(p.bob, p.ca.Cert), signer(p.carol)}},
	} {
		t.Run(name, func(t *testing.T) {
			o.write(name, sign(t, entity, cms.SignOptions{Digest: c.digest, SigningTime: signedAt}, c.signers...))
			args := []string{"-verify", "-binary", "-inform", "DER", "-in", name, "-CAfile", "ca.crt", "-purpose", "any", "-out", "out"}
			o.mustCMS(append(args, "-content", "content")...)
			if !bytes.Equal(o.read("out"), entity) {
				t.Error("another content came out")
			}
			if err := o.cms(append(args, "-content", "other")...); err == nil {
				t.Error("openssl verifies over another content")
			}
		})
	}
}

func TestPeerOpenSSLSignsWhatWeVerify(t *testing.T) {
	o := newOpenSSL(t)
	p := newPeople(t)
	o.pair("alice", p.alice)
	o.pair("carol", p.carol)
	o.write("content", entity)
	for i, args := range [][]string{
		{"-signer", "alice.crt", "-inkey", "alice.key", "-md", "sha256"},
		{"-signer", "alice.crt", "-inkey", "alice.key", "-md", "sha512", "-keyid"},
		{"-signer", "alice.crt", "-inkey", "alice.key", "-md", "sha256", "-keyopt", "rsa_padding_mode:pss"},
		{"-signer", "carol.crt", "-inkey", "carol.key", "-md", "sha384"},
		{"-signer", "carol.crt", "-inkey", "carol.key", "-signer", "alice.crt", "-inkey", "alice.key", "-md", "sha256"},
	} {
		name := fmt.Sprintf("signed%d", i)
		o.mustCMS(append([]string{"-sign", "-binary", "-in", "content", "-outform", "DER", "-out", name}, args...)...)
		for _, r := range verify(t, o.read(name), entity, cms.VerifyPolicy{}) {
			if r.Err != nil {
				t.Errorf("%v: %v", args, r.Err)
			}
		}
	}
}

func TestPeerOpenSSLDecryptsWhatWeEncrypt(t *testing.T) {
	o := newOpenSSL(t)
	p := newPeople(t)
	o.pair("bob", p.bob)
	big := bytes.Repeat(entity, 2000) // several segments
	for _, c := range allCiphers {
		for _, transport := range allTransports {
			if c != cms.AES128CBC && transport != cms.OAEPSHA1 {
				continue // cipher and transport do not know of each other
			}
			for form, content := range map[string]io.Reader{"DER": bytes.NewReader(big), "BER": struct{ io.Reader }{bytes.NewReader(big)}} {
				var out bytes.Buffer
				to := []cms.Recipient{{Certificate: p.alice.Cert}, {Certificate: p.bob.Cert, Transport: transport}}
				if err := cms.Encrypt(&out, content, to, c); err != nil {
					t.Fatal(err)
				}
				o.write("message", out.Bytes())
				if err := o.cms("-decrypt", "-inform", "DER", "-in", "message", "-recip", "bob.crt", "-inkey", "bob.key", "-out", "out"); err != nil {
					t.Errorf("%s, %s, %s: %v", c, transport, form, err)
				} else if !bytes.Equal(o.read("out"), big) {
					t.Errorf("%s, %s, %s: another content came out", c, transport, form)
				}
			}
		}
	}
}

func TestPeerOpenSSLEncryptsWhatWeDecrypt(t *testing.T) {
	o := newOpenSSL(t)
	p := newPeople(t)
	o.pair("alice", p.alice)
	o.pair("bob", p.bob)
	o.pair("carol", p.carol)
	big := bytes.Repeat(entity, 2000)
	o.write("content", big)
	for i, args := range [][]string{
		{"-aes-128-cbc", "-recip", "bob.crt"},
		{"-aes-192-cbc", "-recip", "bob.crt"},
		{"-aes-256-cbc", "-recip", "bob.crt"},
		{"-aes-128-cbc", "-keyid", "-recip", "bob.crt"},
		{"-aes-128-cbc", "-stream", "-indef", "-recip", "bob.crt"},
		{"-aes-256-cbc", "-stream", "-indef", "-keyid", "-recip", "alice.crt", "-recip", "carol.crt", "-recip", "bob.crt"},
		{"-aes-128-cbc", "-recip", "bob.crt", "-keyopt", "rsa_padding_mode:oaep"},
		{"-aes-128-cbc", "-recip", "bob.crt", "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256"},
		{"-aes-128-cbc", "-recip", "bob.crt", "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha512", "-keyopt", "rsa_mgf1_md:sha256"},
	} {
		name := fmt.Sprintf("message%d", i)
		o.mustCMS(append([]string{"-encrypt", "-binary", "-in", "content", "-outform", "DER", "-out", name}, args...)...)
		if got, err := decrypt(t, o.read(name), decrypter(p.bob)); err != nil || !bytes.Equal(got, big) {
			t.Errorf("%v: %d octets, %v", args, len(got), err)
		}
	}
}

// TestPeerOpenSSLReadsTheRefusedFiles proves that the fixtures that we refuse are sound.
func TestPeerOpenSSLReadsTheRefusedFiles(t *testing.T) {
	o := newOpenSSL(t)
	alice := fixturePair(t, "alice")
	o.pair("alice", alice)
	for _, file := range []string{"enveloped-3des.der", "enveloped-des.der", "enveloped-rc2.der"} {
		o.write("message", fixture(t, file))
		if err := o.cms("-decrypt", "-inform", "DER", "-in", "message", "-recip", "alice.crt", "-inkey", "alice.key", "-out", "out", "-provider", "legacy", "-provider", "default"); err != nil {
			t.Logf("SKIP %s: this openssl has no legacy provider", file)
			continue
		}
		if !bytes.Equal(o.read("out"), fixture(t, "content.txt")) {
			t.Errorf("%s: another content", file)
		}
	}
}
