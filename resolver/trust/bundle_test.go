package trust_test

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"directnode/internal/cms"
	"directnode/internal/testnode"
	"directnode/internal/testpki"
	"directnode/resolver/trust"
)

func tlv(tag byte, parts ...[]byte) []byte {
	content := bytes.Join(parts, nil)
	der, err := asn1.Marshal(asn1.RawValue{Class: int(tag >> 6), Tag: int(tag & 0x1f), IsCompound: tag&0x20 != 0, Bytes: content})
	if err != nil {
		panic(err)
	}
	return der
}

var (
	oidSigned = []byte{6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2}
	oidPlain  = []byte{6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1}
)

// p7b is a certs-only message; content is the metadata that some bundles carry.
func p7b(content []byte, certs ...[]byte) []byte {
	encap := oidPlain
	if content != nil {
		encap = slices.Concat(oidPlain, tlv(0xa0, tlv(4, content)))
	}
	return tlv(0x30, oidSigned, tlv(0xa0, tlv(0x30, []byte{2, 1, 1}, tlv(0x31), tlv(0x30, encap), tlv(0xa0, certs...), tlv(0x31))))
}

// p7m signs content and encloses it.
func p7m(t testing.TB, content []byte, signers ...testpki.Pair) []byte {
	t.Helper()
	var list []cms.Signer
	for _, s := range signers {
		list = append(list, cms.Signer{Certificate: s.Cert, Key: s.Key})
	}
	der, err := cms.SignDetached(bytes.NewReader(content), list, cms.SignOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var info struct {
		Type asn1.ObjectIdentifier
		Data asn1.RawValue
	}
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		t.Fatal(err)
	}
	var data asn1.RawValue
	if _, err := asn1.Unmarshal(info.Data.Bytes, &data); err != nil {
		t.Fatal(err)
	}
	var fields [][]byte
	for rest := data.Bytes; len(rest) > 0; {
		var v asn1.RawValue
		if rest, err = asn1.Unmarshal(rest, &v); err != nil {
			t.Fatal(err)
		}
		fields = append(fields, v.FullBytes)
	}
	fields[2] = tlv(0x30, oidPlain, tlv(0xa0, tlv(4, content))) // encapContentInfo
	return tlv(0x30, oidSigned, tlv(0xa0, tlv(0x30, fields...)))
}

func anchorNames(b trust.Bundle) string {
	var list []string
	for _, c := range b.Certificates {
		list = append(list, c.Subject.CommonName)
	}
	return strings.Join(list, " ")
}

// TestTrustBundles: what a bundle holds is what its publisher put in, and never who signed it.
func TestTrustBundles(t *testing.T) {
	pki := testpki.New(t)
	a, b := pki.Root("A"), pki.Root("B")
	signer := pki.SelfSigned("signer")
	mallory := pki.SelfSigned("mallory")
	expired := pki.SelfSigned("expired", testpki.Expired())
	plain := p7b(nil, a.DER, b.DER)
	signed := p7m(t, plain, signer)
	tampered := bytes.Replace(bytes.Clone(signed), a.DER, append(bytes.Clone(a.DER[:len(a.DER)-1]), a.DER[len(a.DER)-1]^1), 1)
	armor := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	for _, tc := range []struct {
		name   string
		body   []byte
		signer *testpki.Pair
		want   string
		skip   int
		err    error
	}{
		{name: "p7b", body: plain, want: "A B"},
		{name: "p7b with metadata", body: p7b([]byte("<TrustBundle/>"), b.DER, a.DER), want: "B A"},
		{name: "p7b in PEM", body: armor("PKCS7", plain), want: "A B"},
		{name: "p7b with one twice", body: p7b(nil, a.DER, a.DER), want: "A"},
		{name: "p7b with what is none", body: p7b(nil, a.DER, tlv(0x30, []byte{5, 0})), want: "A", skip: 1},
		{name: "certificates in PEM", body: slices.Concat(a.CertPEM(), b.CertPEM()), want: "A B"},
		{name: "one certificate", body: a.DER, want: "A"},
		{name: "a key among them", body: slices.Concat(a.CertPEM(), a.KeyPEM()), want: "A", skip: 1},
		{name: "empty p7b", body: p7b(nil), err: trust.ErrBundleFormat},
		{name: "nothing", err: trust.ErrBundleFormat},
		{name: "a page", body: []byte("<html>"), err: trust.ErrBundleFormat},
		{name: "too large", body: make([]byte, 8<<20+1), err: trust.ErrBundleFormat},

		{name: "p7m", body: signed, signer: &signer, want: "A B"},
		{name: "p7m in PEM", body: armor("CMS", signed), signer: &signer, want: "A B"},
		{name: "p7m of PEM", body: p7m(t, a.CertPEM(), signer), signer: &signer, want: "A"},
		{name: "p7m of two signers", body: p7m(t, plain, mallory, signer), signer: &signer, want: "A B"},
		{name: "p7m of somebody else", body: p7m(t, plain, mallory), signer: &signer, err: trust.ErrBundleSignature},
		{name: "p7m that was changed", body: tampered, signer: &signer, err: trust.ErrBundleSignature},
		{name: "p7m without a pinned signer", body: signed, err: trust.ErrBundleSignature},
		{name: "p7b where a signature is wanted", body: plain, signer: &signer, err: trust.ErrBundleSignature},
		{name: "PEM where a signature is wanted", body: a.CertPEM(), signer: &signer, err: trust.ErrBundleFormat},
		{name: "p7m of an expired signer", body: p7m(t, plain, expired), signer: &expired, err: trust.ErrBundleSignature},
		{name: "p7m of nothing", body: p7m(t, []byte("text"), signer), signer: &signer, err: trust.ErrBundleFormat},
		{name: "p7m of an empty p7b", body: p7m(t, p7b(nil), signer), signer: &signer, err: trust.ErrBundleFormat},
		{name: "p7m of p7m", body: p7m(t, signed, signer), signer: &signer, err: trust.ErrBundleFormat},
	} {
		var pinned *x509.Certificate
		if tc.signer != nil {
			pinned = tc.signer.Cert
		}
		got, err := trust.ParseBundle(tc.body, pinned, testpki.Now())
		if tc.err != nil {
			if !errors.Is(err, tc.err) || anchorNames(got) != "" {
				t.Errorf("%s: %q, %v, want %v", tc.name, anchorNames(got), err, tc.err)
			}
			continue
		}
		if err != nil || anchorNames(got) != tc.want || got.Skipped != tc.skip || got.Signed != (pinned != nil) {
			t.Errorf("%s: %q, %d skipped, signed %v, %v", tc.name, anchorNames(got), got.Skipped, got.Signed, err)
		}
	}
	if !trust.IsSignedBundle(signed) || trust.IsSignedBundle(plain) || trust.IsSignedBundle(a.DER) {
		t.Error("a signed bundle is not told from one that is not")
	}
}

// TestInteropBundlesOfOpenSSL: as the tools of publishers write them.
func TestInteropBundlesOfOpenSSL(t *testing.T) {
	openssl := testnode.Peer(t, "openssl")
	dir := t.TempDir()
	pki := testpki.New(t)
	a, signer := pki.Root("A"), pki.SelfSigned("signer")
	cert, key, anchor := signer.WriteCert(t, filepath.Join(dir, "s.pem")), signer.WriteKey(t, filepath.Join(dir, "s.key")), a.WriteCert(t, filepath.Join(dir, "a.pem"))
	plain, signed := filepath.Join(dir, "b.p7b"), filepath.Join(dir, "b.p7m")
	for _, args := range [][]string{
		{"crl2pkcs7", "-nocrl", "-certfile", anchor, "-outform", "DER", "-out", plain},
		{"cms", "-sign", "-binary", "-nodetach", "-in", plain, "-signer", cert, "-inkey", key, "-outform", "DER", "-out", signed},
	} {
		if out, err := exec.Command(openssl, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	for file, pinned := range map[string]*x509.Certificate{plain: nil, signed: signer.Cert} {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := trust.ParseBundle(body, pinned, testpki.Now()); err != nil || anchorNames(got) != "A" {
			t.Errorf("%s: %q, %v", filepath.Base(file), anchorNames(got), err)
		}
	}
}

// FuzzBundle: no octets make the reader panic, and with a pinned signer none but his give anchors.
func FuzzBundle(f *testing.F) {
	pki := testpki.New(f)
	a, signer, mallory := pki.Root("A"), pki.SelfSigned("signer"), pki.SelfSigned("mallory")
	f.Add(p7b(nil, a.DER))
	f.Add(p7m(f, p7b(nil, a.DER), mallory))
	f.Add([]byte(a.CertPEM()))
	f.Fuzz(func(t *testing.T, body []byte) {
		if b, err := trust.ParseBundle(body, nil, testpki.Now()); (err == nil) == (len(b.Certificates) == 0) {
			t.Errorf("%d certificates, %v", len(b.Certificates), err)
		}
		if b, err := trust.ParseBundle(body, signer.Cert, testpki.Now()); err == nil || len(b.Certificates) > 0 {
			t.Errorf("a forged bundle is taken: %d certificates", len(b.Certificates))
		}
	})
}
