package cms

import (
	"bytes"
	"crypto"
	_ "crypto/sha1" // verification by policy; hash of RSA-OAEP
	_ "crypto/sha256"
	_ "crypto/sha512" // SHA-384 too
	"encoding/asn1"
	"fmt"

	"directnode/internal/ber"
)

type oid = asn1.ObjectIdentifier

// Content types (RFC 5652 §4, §5.1, §6.1) and attributes (RFC 5652 §11; RFC 5751 §2.5.2; RFC 6211 §2).
var (
	oidData          = oid{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData    = oid{1, 2, 840, 113549, 1, 7, 2}
	oidEnvelopedData = oid{1, 2, 840, 113549, 1, 7, 3}

	oidContentType         = oid{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest       = oid{1, 2, 840, 113549, 1, 9, 4}
	oidSigningTime         = oid{1, 2, 840, 113549, 1, 9, 5}
	oidSMIMECapabilities   = oid{1, 2, 840, 113549, 1, 9, 15}
	oidAlgorithmProtection = oid{1, 2, 840, 113549, 1, 9, 52}
)

// Digests (RFC 5754 §2, RFC 3370 §2.1), keys and signatures (RFC 8017 appendix C; RFC 5754 §3).
var (
	oidSHA1   = oid{1, 3, 14, 3, 2, 26}
	oidSHA256 = oid{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidSHA384 = oid{2, 16, 840, 1, 101, 3, 4, 2, 2}
	oidSHA512 = oid{2, 16, 840, 1, 101, 3, 4, 2, 3}

	oidRSA        = oid{1, 2, 840, 113549, 1, 1, 1}
	oidRSAOAEP    = oid{1, 2, 840, 113549, 1, 1, 7}
	oidMGF1       = oid{1, 2, 840, 113549, 1, 1, 8}
	oidPSpecified = oid{1, 2, 840, 113549, 1, 1, 9}

	oidAES128CBC = oid{2, 16, 840, 1, 101, 3, 4, 1, 2}
	oidAES192CBC = oid{2, 16, 840, 1, 101, 3, 4, 1, 22}
	oidAES256CBC = oid{2, 16, 840, 1, 101, 3, 4, 1, 42}
)

// digests are the hash functions we know; SHA-1 stands last and is guarded where it is used.
var digests = []struct {
	oid  oid
	hash crypto.Hash
}{
	{oidSHA256, crypto.SHA256},
	{oidSHA384, crypto.SHA384},
	{oidSHA512, crypto.SHA512},
	{oidSHA1, crypto.SHA1},
}

func digestByOID(o oid) (crypto.Hash, bool) {
	for _, d := range digests {
		if d.oid.Equal(o) {
			return d.hash, true
		}
	}
	return 0, false
}

func digestOID(h crypto.Hash) (oid, bool) {
	for _, d := range digests {
		if d.hash == h {
			return d.oid, true
		}
	}
	return nil, false
}

type scheme int

const (
	schemePKCS1v15 scheme = iota + 1
	schemePSS
	schemeECDSA
)

// signatures are the signature algorithms we verify. A hash of 0 means that the identifier names none: plain rsaEncryption
// (RFC 3370 §3.2), RSASSA-PSS, which has it in its parameters, and id-ecPublicKey, which some libraries write.
var signatures = []struct {
	oid    oid
	scheme scheme
	hash   crypto.Hash
}{
	{oidRSA, schemePKCS1v15, 0},
	{oid{1, 2, 840, 113549, 1, 1, 11}, schemePKCS1v15, crypto.SHA256},
	{oid{1, 2, 840, 113549, 1, 1, 12}, schemePKCS1v15, crypto.SHA384},
	{oid{1, 2, 840, 113549, 1, 1, 13}, schemePKCS1v15, crypto.SHA512},
	{oid{1, 2, 840, 113549, 1, 1, 5}, schemePKCS1v15, crypto.SHA1},
	{oid{1, 2, 840, 113549, 1, 1, 10}, schemePSS, 0},
	{oid{1, 2, 840, 10045, 2, 1}, schemeECDSA, 0},
	{oid{1, 2, 840, 10045, 4, 3, 2}, schemeECDSA, crypto.SHA256},
	{oid{1, 2, 840, 10045, 4, 3, 3}, schemeECDSA, crypto.SHA384},
	{oid{1, 2, 840, 10045, 4, 3, 4}, schemeECDSA, crypto.SHA512},
	{oid{1, 2, 840, 10045, 4, 1}, schemeECDSA, crypto.SHA1},
}

// signatureOID gives the identifier that we write (RFC 5754 §3.2, §3.3).
func signatureOID(s scheme, h crypto.Hash) (oid, bool) {
	for _, a := range signatures {
		if a.scheme == s && a.hash == h {
			return a.oid, true
		}
	}
	return nil, false
}

// refused names what a peer may still send and nobody here will use, so that the operator's log says more than numbers.
var refused = []struct {
	oid  oid
	name string
}{
	{oid{1, 2, 840, 113549, 2, 2}, "MD2"},
	{oid{1, 2, 840, 113549, 2, 4}, "MD4"},
	{oid{1, 2, 840, 113549, 2, 5}, "MD5"},
	{oid{1, 3, 36, 3, 2, 1}, "RIPEMD-160"},
	{oid{2, 16, 840, 1, 101, 3, 4, 2, 4}, "SHA-224"},
	{oid{1, 2, 840, 113549, 1, 1, 2}, "MD2 with RSA"},
	{oid{1, 2, 840, 113549, 1, 1, 3}, "MD4 with RSA"},
	{oid{1, 2, 840, 113549, 1, 1, 4}, "MD5 with RSA"},
	{oid{1, 2, 840, 113549, 1, 1, 14}, "SHA-224 with RSA"},
	{oid{1, 2, 840, 10040, 4, 3}, "DSA with SHA-1"},
	{oid{1, 3, 14, 3, 2, 7}, "DES-CBC"},
	{oid{1, 2, 840, 113549, 3, 7}, "DES-EDE3-CBC (3DES)"},
	{oid{1, 2, 840, 113549, 3, 2}, "RC2-CBC"},
	{oid{1, 2, 840, 113549, 3, 4}, "RC4"},
	{oid{1, 2, 840, 113533, 7, 66, 10}, "CAST5-CBC"},
	{oid{1, 3, 6, 1, 4, 1, 188, 7, 1, 1, 2}, "IDEA-CBC"},
	{oid{2, 16, 840, 1, 101, 3, 4, 1, 6}, "AES-128-GCM outside AuthEnvelopedData"},
	{oid{2, 16, 840, 1, 101, 3, 4, 1, 46}, "AES-256-GCM outside AuthEnvelopedData"},
}

// nameOf names an algorithm for the operator: by name when we know one, else by number.
func nameOf(o oid) string {
	for _, r := range refused {
		if r.oid.Equal(o) {
			return r.name
		}
	}
	if h, ok := digestByOID(o); ok {
		return h.String()
	}
	return o.String()
}

// Cipher is a content encryption algorithm.
type Cipher int

// The ciphers that are written and read: AES in CBC mode (RFC 3565). AES-128 is the default because every peer has it.
const (
	AES128CBC Cipher = iota
	AES192CBC
	AES256CBC
)

var ciphers = [...]struct {
	oid     oid
	name    string
	keySize int
}{
	AES128CBC: {oidAES128CBC, "AES-128-CBC", 16},
	AES192CBC: {oidAES192CBC, "AES-192-CBC", 24},
	AES256CBC: {oidAES256CBC, "AES-256-CBC", 32},
}

func (c Cipher) valid() bool { return c >= 0 && int(c) < len(ciphers) }

// String gives the usual name, for instance "AES-128-CBC".
func (c Cipher) String() string {
	if !c.valid() {
		return fmt.Sprintf("Cipher(%d)", int(c))
	}
	return ciphers[c].name
}

func cipherByOID(o oid) (Cipher, bool) {
	for c, a := range ciphers {
		if a.oid.Equal(o) {
			return Cipher(c), true
		}
	}
	return 0, false
}

// algorithm is an AlgorithmIdentifier (RFC 5280 §4.1.1.2) as it was read.
type algorithm struct {
	oid    oid
	params []byte // the element as encoded; empty when absent
}

func readAlgorithm(r *ber.Reader) (algorithm, error) {
	in, err := r.Enter(ber.Sequence)
	if err != nil {
		return algorithm{}, unread("algorithm identifier", err)
	}
	o, err := in.OID()
	if err != nil {
		return algorithm{}, unread("algorithm identifier", err)
	}
	return algorithm{oid: o, params: in.Rest()}, nil
}

// noParams tells whether the parameters are absent or NULL, which must be taken as equal (RFC 4055 §2.1, RFC 5754 §2).
func (a algorithm) noParams() bool {
	return len(a.params) == 0 || bytes.Equal(a.params, []byte{5, 0})
}

// params reads the parameters of an algorithm as a SEQUENCE. Their elements are few, so they have a budget of their own.
func (a algorithm) sequence() (*ber.Reader, error) {
	r, err := ber.NewReader(a.params, ber.Limits{Depth: defaultDepth, Count: 64, Size: 4096}).Enter(ber.Sequence)
	if err != nil {
		return nil, unread("parameters of "+nameOf(a.oid), err)
	}
	return r, nil
}

// writeAlgorithm writes an AlgorithmIdentifier; params is an encoded element or nil for none.
func writeAlgorithm(b *ber.Builder, o oid, params []byte) {
	b.Begin(ber.Sequence)
	b.OID(o)
	b.Raw(params)
	b.End()
}

// asn1Null is NULL, the parameters of the RSA algorithms (RFC 3370 §3.2, §4.2.1).
var asn1Null = []byte{5, 0}
