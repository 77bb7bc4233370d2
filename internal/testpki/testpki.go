// Package testpki makes certificate trees for tests: names and options in, certificates with their keys out.
//
// No key is generated: the keys are committed beside this file and handed out in a fixed order, so that a tree costs about two
// milliseconds per certificate and is the same in every run (ECDSA signatures excepted, which are random by nature).
//
//	pki := testpki.New(t)
//	root := pki.Root("Test Root")
//	hisp := root.Intermediate("Test HISP CA")
//	bob := hisp.Leaf("bob", testpki.Address("bob@b.direct.test"))
//	old := hisp.Leaf("bob (old)", testpki.Address("bob@b.direct.test"), testpki.Expired())
//
// Every certificate is as RFC 5280 and the Direct profile want it until an option breaks it: version 3, SHA-256 with RSA-2048,
// critical keyUsage (digitalSignature and keyEncipherment; keyCertSign and cRLSign for authorities), critical basicConstraints
// for authorities, subjectKeyIdentifier and authorityKeyIdentifier, valid from 2024 to 2044, serial numbers counted from 1 per PKI.
package testpki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"os"
	"testing"
	"time"
)

// Now is the moment at which tests of decision code judge: inside the default validity, before Soon.
// The default validity also contains the present, so that whole nodes can run on these certificates.
func Now() time.Time { return time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC) }

// defaultNotBefore and defaultNotAfter stand in UTCTime's range (RFC 5280 §4.1.2.5: through 2049) and contain Now and the present.
func defaultNotBefore() time.Time { return time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC) }
func defaultNotAfter() time.Time  { return time.Date(2044, 1, 1, 0, 0, 0, 0, time.UTC) }

// PKI hands out keys and serial numbers, in order. It belongs to one test and must not be shared between goroutines.
type PKI struct {
	t      testing.TB
	serial int64
	nextCA int
	nextEE int
}

// New starts a PKI without any certificate.
func New(t testing.TB) *PKI {
	t.Helper()
	return &PKI{t: t}
}

// Pair is a certificate with its private key.
type Pair struct {
	Cert *x509.Certificate
	Key  crypto.Signer
	DER  []byte
}

// CertPEM is the certificate as a PEM block.
func (p Pair) CertPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.DER})
}

// KeyPEM is the private key as a PKCS #8 PEM block.
func (p Pair) KeyPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: p.KeyDER()})
}

// KeyDER is the private key as PKCS #8 DER.
func (p Pair) KeyDER() []byte {
	der, err := x509.MarshalPKCS8PrivateKey(p.Key)
	if err != nil {
		panic("testpki: a pool key does not marshal: " + err.Error())
	}
	return der
}

// SHA256 is the fingerprint in lower-case hexadecimal, as the product prints it.
func (p Pair) SHA256() string {
	sum := sha256.Sum256(p.DER)
	return hex.EncodeToString(sum[:])
}

// WriteCert writes the certificate as PEM, mode 0644, and returns the path.
func (p Pair) WriteCert(t testing.TB, path string) string {
	t.Helper()
	return write(t, path, p.CertPEM(), 0o644)
}

// WriteDER writes the certificate as DER, mode 0644, and returns the path.
func (p Pair) WriteDER(t testing.TB, path string) string {
	t.Helper()
	return write(t, path, p.DER, 0o644)
}

// WriteKey writes the private key as PKCS #8 PEM, mode 0600, and returns the path.
func (p Pair) WriteKey(t testing.TB, path string) string {
	t.Helper()
	return write(t, path, p.KeyPEM(), 0o600)
}

func write(t testing.TB, path string, data []byte, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, data, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// CA is a certification authority: a certificate that issues others.
type CA struct {
	Pair
	pki *PKI
}

// Root makes a self-signed authority.
func (p *PKI) Root(name string, opts ...Option) *CA {
	p.t.Helper()
	return &CA{Pair: p.issue(nil, p.authority(name), opts), pki: p}
}

// SelfSigned makes an end-entity certificate that is its own issuer (AS 4.2.3: a chain of length 1).
func (p *PKI) SelfSigned(name string, opts ...Option) Pair {
	p.t.Helper()
	return p.issue(nil, p.endEntity(name), opts)
}

// Intermediate makes an authority issued by this one.
func (c *CA) Intermediate(name string, opts ...Option) *CA {
	c.pki.t.Helper()
	return &CA{Pair: c.pki.issue(c, c.pki.authority(name), opts), pki: c.pki}
}

// CrossSign issues a second certificate, by this authority, for the name and the key of another.
func (c *CA) CrossSign(other *CA, opts ...Option) *CA {
	c.pki.t.Helper()
	s := c.pki.authority(other.Cert.Subject.CommonName)
	s.key = other.Key
	s.template.Subject = other.Cert.Subject
	return &CA{Pair: c.pki.issue(c, s, opts), pki: c.pki}
}

// Leaf makes an end-entity certificate issued by this authority.
func (c *CA) Leaf(name string, opts ...Option) Pair {
	c.pki.t.Helper()
	return c.pki.issue(c, c.pki.endEntity(name), opts)
}

// request is what options may change before a certificate is signed.
type request struct {
	template x509.Certificate
	key      crypto.Signer
	digest   byte // last octet of the PKCS #1 signature OID to force, 0 = leave
	corrupt  bool // break the signature after it is made
}

func (p *PKI) base(name string) *request {
	p.serial++
	return &request{template: x509.Certificate{
		SerialNumber: big.NewInt(p.serial),
		Subject:      pkix.Name{CommonName: name, Organization: []string{"Direct Node Test"}},
		NotBefore:    defaultNotBefore(),
		NotAfter:     defaultNotAfter(),
	}}
}

func (p *PKI) authority(name string) *request {
	r := p.base(name)
	r.key = authorityKey(p.nextCA)
	p.nextCA++
	r.template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	r.template.BasicConstraintsValid = true
	r.template.IsCA = true
	r.template.MaxPathLen = -1
	return r
}

func (p *PKI) endEntity(name string) *request {
	r := p.base(name)
	r.key = endEntityKey(p.nextEE)
	p.nextEE++
	r.template.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	return r
}

// issue applies the options and signs; issuer nil means self-signed.
func (p *PKI) issue(issuer *CA, r *request, opts []Option) Pair {
	p.t.Helper()
	for _, o := range opts {
		o(r)
	}
	if len(r.template.SubjectKeyId) == 0 {
		r.template.SubjectKeyId = keyID(p.t, r.key)
	}
	parent, signer := &r.template, r.key
	if issuer != nil {
		parent, signer = issuer.Cert, issuer.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, &r.template, parent, r.key.Public(), signer)
	if err != nil {
		p.t.Fatalf("testpki: %s: %v", r.template.Subject, err)
	}
	if r.digest != 0 {
		der = resign(p.t, der, r.digest, signer)
	}
	if r.corrupt {
		der[len(der)-1] ^= 0x01
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		p.t.Fatalf("testpki: %s: %v", r.template.Subject, err)
	}
	return Pair{Cert: cert, Key: r.key, DER: der}
}

// keyID follows RFC 7093 §2 method 1: 160 bits of the SHA-256 of the public key.
func keyID(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(spki)
	return sum[:20]
}

// isECDSA tells the keys whose end-entity certificates cannot do key transport.
func isECDSA(key crypto.Signer) bool {
	_, ok := key.(*ecdsa.PrivateKey)
	return ok
}
