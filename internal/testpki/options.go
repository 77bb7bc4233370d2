package testpki

import (
	"bytes"
	"crypto"
	_ "crypto/md5" // hash of the MD5 option
	"crypto/rand"
	_ "crypto/sha1" // hash of the SHA1 option
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"
)

// Option changes one property of a certificate before it is signed.
type Option func(*request)

// Address adds rfc822Names to the subjectAltName, as written.
func Address(addrs ...string) Option {
	return func(r *request) { r.template.EmailAddresses = append(r.template.EmailAddresses, addrs...) }
}

// Domain adds dNSNames to the subjectAltName, as written.
func Domain(names ...string) Option {
	return func(r *request) { r.template.DNSNames = append(r.template.DNSNames, names...) }
}

// EmailInDN adds a legacy emailAddress attribute to the subject (RFC 5280 §4.1.2.6: IA5String).
func EmailInDN(addr string) Option {
	return func(r *request) {
		r.template.Subject.ExtraNames = append(r.template.Subject.ExtraNames, pkix.AttributeTypeAndValue{
			Type:  asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1},
			Value: asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte(addr)},
		})
	}
}

// Subject replaces the whole subject.
func Subject(n pkix.Name) Option { return func(r *request) { r.template.Subject = n } }

// Serial replaces the counted serial number.
func Serial(n int64) Option { return func(r *request) { r.template.SerialNumber = big.NewInt(n) } }

// Valid sets both ends of the validity.
func Valid(notBefore, notAfter time.Time) Option {
	return func(r *request) { r.template.NotBefore, r.template.NotAfter = notBefore, notAfter }
}

// Expired ends the validity one year before Now.
func Expired() Option { return Valid(defaultNotBefore(), Now().AddDate(-1, 0, 0)) }

// NotYetValid starts the validity in 2040: after Now, and after the present of whoever runs the tests.
func NotYetValid() Option {
	return Valid(time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC), defaultNotAfter())
}

// KeyUsage replaces the key usage bits; 0 leaves the extension out.
func KeyUsage(u x509.KeyUsage) Option { return func(r *request) { r.template.KeyUsage = u } }

// SignOnly and EncryptOnly are the two halves of a single-use pair.
func SignOnly() Option { return KeyUsage(x509.KeyUsageDigitalSignature) }

// EncryptOnly asserts keyEncipherment alone.
func EncryptOnly() Option { return KeyUsage(x509.KeyUsageKeyEncipherment) }

// ExtKeyUsage sets the extended key usages.
func ExtKeyUsage(u ...x509.ExtKeyUsage) Option {
	return func(r *request) { r.template.ExtKeyUsage = u }
}

// NotCA writes basicConstraints with cA FALSE.
func NotCA() Option {
	return func(r *request) { r.template.BasicConstraintsValid, r.template.IsCA = true, false }
}

// NoBasicConstraints leaves the extension out, also for an authority.
func NoBasicConstraints() Option {
	return func(r *request) { r.template.BasicConstraintsValid, r.template.IsCA = false, false }
}

// PathLen sets pathLenConstraint.
func PathLen(n int) Option {
	return func(r *request) { r.template.MaxPathLen, r.template.MaxPathLenZero = n, n == 0 }
}

// AIA adds caIssuers URLs to authorityInfoAccess.
func AIA(urls ...string) Option {
	return func(r *request) {
		r.template.IssuingCertificateURL = append(r.template.IssuingCertificateURL, urls...)
	}
}

// OCSP adds responder URLs to authorityInfoAccess.
func OCSP(urls ...string) Option {
	return func(r *request) { r.template.OCSPServer = append(r.template.OCSPServer, urls...) }
}

// CRLDP adds CRL distribution points.
func CRLDP(urls ...string) Option {
	return func(r *request) {
		r.template.CRLDistributionPoints = append(r.template.CRLDistributionPoints, urls...)
	}
}

// PermitEmail and its three siblings write name constraints (critical, RFC 5280 §4.2.1.10).
func PermitEmail(s ...string) Option {
	return constrain(func(c *x509.Certificate) { c.PermittedEmailAddresses = s })
}

// ExcludeEmail excludes rfc822Name subtrees.
func ExcludeEmail(s ...string) Option {
	return constrain(func(c *x509.Certificate) { c.ExcludedEmailAddresses = s })
}

// PermitDNS permits dNSName subtrees.
func PermitDNS(s ...string) Option {
	return constrain(func(c *x509.Certificate) { c.PermittedDNSDomains = s })
}

// ExcludeDNS excludes dNSName subtrees.
func ExcludeDNS(s ...string) Option {
	return constrain(func(c *x509.Certificate) { c.ExcludedDNSDomains = s })
}

func constrain(set func(*x509.Certificate)) Option {
	return func(r *request) {
		r.template.PermittedDNSDomainsCritical = true
		set(&r.template)
	}
}

// Extension adds an extension as it stands; it replaces the one that would have been made for the same OID.
func Extension(oid asn1.ObjectIdentifier, critical bool, value []byte) Option {
	return func(r *request) {
		r.template.ExtraExtensions = append(r.template.ExtraExtensions, pkix.Extension{Id: oid, Critical: critical, Value: value})
	}
}

// SubjectKeyID replaces the subjectKeyIdentifier, for instance by that of somebody else.
func SubjectKeyID(id []byte) Option { return func(r *request) { r.template.SubjectKeyId = id } }

// WithKey uses this key instead of the next one of the pool. An ECDSA key drops keyEncipherment, which it cannot do.
func WithKey(key crypto.Signer) Option {
	return func(r *request) {
		r.key = key
		if isECDSA(key) {
			r.template.KeyUsage &^= x509.KeyUsageKeyEncipherment
		}
	}
}

// BadSignature flips one bit of the signature after it is made.
func BadSignature() Option { return func(r *request) { r.corrupt = true } }

// SHA1 signs with sha1WithRSAEncryption. The issuer must have an RSA key.
func SHA1() Option { return func(r *request) { r.digest = 0x05 } }

// MD5 signs with md5WithRSAEncryption. The issuer must have an RSA key.
func MD5() Option { return func(r *request) { r.digest = 0x04 } }

// resign replaces sha256WithRSAEncryption by the sibling OID that ends in digest, in both places, and signs again. The standard
// library no longer signs with these digests; the OIDs have one length, so the lengths around them stay right.
func resign(t testing.TB, der []byte, digest byte, signer crypto.Signer) []byte {
	t.Helper()
	hash := map[byte]crypto.Hash{0x04: crypto.MD5, 0x05: crypto.SHA1}[digest]
	sha256WithRSA := []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b}
	weak := append(bytes.Clone(sha256WithRSA[:8]), digest)

	var c struct {
		TBS       asn1.RawValue
		Algorithm asn1.RawValue
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &c); err != nil {
		t.Fatal(err)
	}
	c.TBS.FullBytes = bytes.Replace(c.TBS.FullBytes, sha256WithRSA, weak, 1)
	c.Algorithm.FullBytes = bytes.Replace(c.Algorithm.FullBytes, sha256WithRSA, weak, 1)
	h := hash.New()
	h.Write(c.TBS.FullBytes)
	sig, err := signer.Sign(rand.Reader, h.Sum(nil), hash)
	if err != nil {
		t.Fatal(err)
	}
	c.Signature = asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}
	out, err := asn1.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
