package trust_test

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"directnode/internal/spec"
	"directnode/internal/testpki"
	"directnode/resolver/trust"
)

// certsOnly writes a CMS SignedData without signers (RFC 5652 §5.1), with what is no certificate wherever certs holds none.
func certsOnly(certs ...[]byte) []byte {
	data := mustMarshal(struct{ Type asn1.ObjectIdentifier }{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}}, "")
	signed := mustMarshal(struct {
		Version      int
		Digests      asn1.RawValue
		Content      asn1.RawValue
		Certificates asn1.RawValue
		Signers      asn1.RawValue
	}{1, asn1.RawValue{FullBytes: []byte{0x31, 0}}, asn1.RawValue{FullBytes: data},
		asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: bytes.Join(certs, nil)}, asn1.RawValue{FullBytes: []byte{0x31, 0}}}, "")
	return mustMarshal(struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue
	}{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: signed}}, "")
}

func armor(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func names(certs []*x509.Certificate) string {
	var out []string
	for _, c := range certs {
		out = append(out, c.Subject.CommonName)
	}
	return strings.Join(out, " ")
}

func TestParseCertificates(t *testing.T) {
	spec.Covers(t, "AS-4.2.2-g")
	pki := testpki.New(t)
	a, b := pki.Root("A"), pki.Root("B")
	both := certsOnly(a.DER, b.DER)
	// The same with indefinite lengths all the way to the certificates.
	indefinite := func(der []byte) []byte {
		var c struct {
			Type    asn1.ObjectIdentifier
			Content asn1.RawValue
		}
		if _, err := asn1.Unmarshal(der, &c); err != nil {
			t.Fatal(err)
		}
		var s asn1.RawValue
		if _, err := asn1.Unmarshal(c.Content.Bytes, &s); err != nil {
			t.Fatal(err)
		}
		out := append([]byte{0x30, 0x80}, mustMarshal(c.Type, "")...)
		out = append(append(append(out, 0xa0, 0x80, 0x30, 0x80), s.Bytes...), 0, 0)
		return append(out, 0, 0, 0, 0)
	}
	for _, tc := range []struct {
		name string
		body []byte
		want string
	}{
		{"DER", a.DER, "A"},
		{"DER, one after the other", append(bytes.Clone(a.DER), b.DER...), "A B"},
		{"certs-only message", both, "A B"},
		{"certs-only message in BER", indefinite(both), "A B"},
		{"PEM", append(a.CertPEM(), b.CertPEM()...), "A B"},
		{"PEM with text around it", append([]byte("Issuer: A\r\n\r\n"), a.CertPEM()...), "A"},
		{"PEM of a certs-only message", armor("PKCS7", both), "A B"},
		{"base64 without armor", []byte(base64.StdEncoding.EncodeToString(both)), "A B"},
		{"base64 in lines", []byte("\n" + base64.StdEncoding.EncodeToString(a.DER[:600]) + "\r\n" + base64.StdEncoding.EncodeToString(a.DER[600:]) + "\n"), "A"},
		{"the same one three times", append(append(a.CertPEM(), a.CertPEM()...), armor("PKCS7", certsOnly(a.DER, a.DER))...), "A"},
		{"what is no certificate between two", certsOnly(a.DER, []byte{0x30, 3, 2, 1, 5}, b.DER), "A B"},
		{"octets of no meaning behind", append(bytes.Clone(a.DER), "\r\n"...), "A"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := trust.ParseCertificates(tc.body)
			if err != nil || names(got) != tc.want {
				t.Errorf("%s (%v), want %s", names(got), err, tc.want)
			}
		})
	}
	for name, body := range map[string][]byte{
		"nothing": nil, "white space": []byte(" \r\n"), "a page": []byte("<!DOCTYPE html><html><body>404</body></html>"),
		"an empty list": certsOnly(), "a truncated certificate": a.DER[:200], "a private key": a.KeyPEM(), "an open armor": []byte("-----BEGIN CERTIFICATE-----\nMII"),
		"a list of nothing that can be read": certsOnly([]byte{0x30, 3, 2, 1, 5}), "another kind of message": {0x30, 0x0b, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 7, 3},
	} {
		if got, err := trust.ParseCertificates(body); !errors.Is(err, trust.ErrNoCertificates) || len(got) != 0 {
			t.Errorf("%s: %s, %v", name, names(got), err)
		}
	}
}

func TestParseCertificatesLimits(t *testing.T) {
	pki := testpki.New(t)
	if _, err := trust.ParseCertificates(make([]byte, 1<<20+1)); !errors.Is(err, trust.ErrTooLarge) {
		t.Errorf("a body above the limit: %v", err)
	}
	var many [][]byte
	for i := range 70 {
		many = append(many, pki.Root(fmt.Sprint("CA ", i)).DER)
	}
	for name, body := range map[string][]byte{"message": certsOnly(many...), "one after the other": bytes.Join(many, nil)} {
		if got, err := trust.ParseCertificates(body); err != nil || len(got) != 64 {
			t.Errorf("%s: %d of 70 certificates, %v", name, len(got), err)
		}
	}
	big := pki.Root("Big", testpki.Extension(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, false, make([]byte, 70<<10)))
	if got, err := trust.ParseCertificates(append(bytes.Clone(big.DER), many[0]...)); err != nil || len(got) != 1 {
		t.Errorf("a certificate above the limit beside one below: %s, %v", names(got), err)
	}
	if _, err := trust.ParseCertificates(big.DER); !errors.Is(err, trust.ErrNoCertificates) {
		t.Errorf("a certificate above the limit: %v", err)
	}
}

// TestInteropOpenSSLCertsOnly reads what OpenSSL makes of two certificates.
func TestInteropOpenSSLCertsOnly(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("DIRECTNODE_PEERS") == "required" {
			t.Fatal(err)
		}
		t.Skip("SKIP peer openssl absent")
	}
	pki := testpki.New(t)
	dir := t.TempDir()
	a := pki.Root("A").WriteCert(t, filepath.Join(dir, "a.pem"))
	b := pki.Root("B").WriteCert(t, filepath.Join(dir, "b.pem"))
	for _, form := range []string{"DER", "PEM"} {
		out, err := exec.Command(openssl, "crl2pkcs7", "-nocrl", "-certfile", a, "-certfile", b, "-outform", form).Output()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := trust.ParseCertificates(out); err != nil || names(got) != "A B" && names(got) != "B A" {
			t.Errorf("%s: %s, %v", form, names(got), err)
		}
	}
}
