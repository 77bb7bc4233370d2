package cms

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"fmt"

	"directnode/internal/ber"
)

// KeyTransport is how the content encryption key is encrypted for a recipient.
type KeyTransport int

// The key transports that are written and read. OAEP with SHA-1 stands first because it is what every peer that knows OAEP
// understands; SHA-1 is not weak in this use (RFC 8017 §7.1 needs no collision resistance).
const (
	OAEPSHA1   KeyTransport = iota // RSAES-OAEP with SHA-1 and MGF1-SHA-1, the defaults of RFC 4055 §4.1
	OAEPSHA256                     // RSAES-OAEP with SHA-256 and MGF1-SHA-256
	OAEPSHA384                     // RSAES-OAEP with SHA-384 and MGF1-SHA-384
	OAEPSHA512                     // RSAES-OAEP with SHA-512 and MGF1-SHA-512
	PKCS1v15                       // RSAES-PKCS1-v1_5, for peers that know nothing else
)

var transports = [...]struct {
	name string
	hash crypto.Hash // 0 for PKCS #1 v1.5
}{
	OAEPSHA1:   {"RSA-OAEP-SHA-1", crypto.SHA1},
	OAEPSHA256: {"RSA-OAEP-SHA-256", crypto.SHA256},
	OAEPSHA384: {"RSA-OAEP-SHA-384", crypto.SHA384},
	OAEPSHA512: {"RSA-OAEP-SHA-512", crypto.SHA512},
	PKCS1v15:   {"RSA-PKCS1-v1.5", 0},
}

func (t KeyTransport) valid() bool { return t >= 0 && int(t) < len(transports) }

// String gives a name for logs, for instance "RSA-OAEP-SHA-256".
func (t KeyTransport) String() string {
	if !t.valid() {
		return fmt.Sprintf("KeyTransport(%d)", int(t))
	}
	return transports[t].name
}

// wrap encrypts the content encryption key.
func (t KeyTransport) wrap(pub *rsa.PublicKey, key []byte) ([]byte, error) {
	if t == PKCS1v15 {
		//lint:ignore SA1019 older peers of the Direct network read nothing else
		return rsa.EncryptPKCS1v15(rand.Reader, pub, key)
	}
	return rsa.EncryptOAEP(transports[t].hash.New(), rand.Reader, pub, key, nil)
}

// writeTo writes the keyEncryptionAlgorithm (RFC 3370 §4.2.1; RFC 3560 §3).
func (t KeyTransport) writeTo(b *ber.Builder) {
	if t == PKCS1v15 {
		writeAlgorithm(b, oidRSA, asn1Null)
		return
	}
	writeAlgorithm(b, oidRSAOAEP, oaepParams(transports[t].hash))
}

// oaepParams encodes RSAES-OAEP-params (RFC 4055 §4.1). Both the hash and the mask generation function are written out:
// readers take an absent mask generation function as MGF1 with SHA-1, whatever the hash. With SHA-1 everything is default
// and DER leaves it out (X.690 §11.5).
func oaepParams(hash crypto.Hash) []byte {
	var b ber.Builder
	b.Begin(ber.Sequence)
	if hash != crypto.SHA1 {
		id, _ := digestOID(hash)
		b.Begin(ber.Context(0, true))
		writeAlgorithm(&b, id, asn1Null) // RFC 4055 §2.1: NULL inside these parameters
		b.End()
		var inner ber.Builder
		writeAlgorithm(&inner, id, asn1Null)
		b.Begin(ber.Context(1, true))
		writeAlgorithm(&b, oidMGF1, inner.Encoded())
		b.End()
	}
	b.End()
	return b.Encoded()
}

// unwrapping is a key encryption algorithm as a peer named it.
type unwrapping struct {
	v15       bool
	hash, mgf crypto.Hash
	label     []byte
}

// String names the algorithm for the operator.
func (u unwrapping) String() string {
	if u.v15 {
		return PKCS1v15.String()
	}
	return fmt.Sprintf("RSA-OAEP-%s (MGF1 with %s)", u.hash, u.mgf)
}

// readTransport reads a keyEncryptionAlgorithm.
func readTransport(a algorithm) (unwrapping, error) {
	switch {
	case a.oid.Equal(oidRSA):
		return unwrapping{v15: true}, nil
	case a.oid.Equal(oidRSAOAEP):
		return readOAEP(a)
	}
	return unwrapping{}, fmt.Errorf("%w: key transport %s", ErrAlgorithm, nameOf(a.oid))
}

// readOAEP reads RSAES-OAEP-params (RFC 4055 §4.1). Hash and mask generation function may differ: some writers change only
// the first.
func readOAEP(a algorithm) (unwrapping, error) {
	p, err := readMasked(a)
	if err != nil {
		return unwrapping{}, err
	}
	u := unwrapping{hash: p.hash, mgf: p.mgf}
	if p.rest == nil || p.rest.Empty() {
		return u, nil
	}
	source, err := p.rest.Enter(ber.Context(2, true))
	if err != nil {
		return u, unread("pSourceFunc", err)
	}
	s, err := readAlgorithm(source)
	if err != nil {
		return u, err
	}
	if !s.oid.Equal(oidPSpecified) {
		return u, fmt.Errorf("%w: source of the OAEP label %s", ErrAlgorithm, nameOf(s.oid))
	}
	label, err := ber.NewReader(s.params, ber.Limits{Depth: 2, Count: 8, Size: 4096}).OctetString(ber.OctetString)
	if err != nil {
		return u, unread("OAEP label", err)
	}
	u.label = bytes.Clone(label)
	return u, nil
}
