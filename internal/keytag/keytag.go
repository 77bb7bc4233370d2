// Package keytag works out the key tag and the algorithm that a CERT record
// gives of its certificate's key: a certificate in, two numbers out.
//
// Sections: RFC 4398 §2.1 (the key as a DNSKEY would hold it), RFC 4034 App. B
// (the sum), RFC 3110 §2 and RFC 5702 §2.1 (RSA), RFC 6605 §4 (ECDSA), RFC 8080
// §3 (Ed25519).
package keytag

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"

	"directnode/internal/ber"
)

// The algorithms of DNSSEC that keys of certificates have (RFC 8624 §3.1).
const (
	RSASHA256       = 8
	ECDSAP256SHA256 = 13
	ECDSAP384SHA384 = 14
	Ed25519         = 15
)

// Of gives key tag and algorithm of a certificate's key. RFC 4398 §2.1: where
// DNSSEC has no algorithm for the key or does not allow its size, both are
// zero; so they are for octets that are no certificate.
func Of(der []byte) (tag uint16, algorithm uint8) {
	spki, ok := subjectPublicKeyInfo(der)
	if !ok {
		return 0, 0
	}
	pub, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return 0, 0
	}
	return OfKey(pub)
}

// OfKey is Of for a public key that is parsed already.
func OfKey(pub any) (tag uint16, algorithm uint8) {
	algorithm, key := dnssecKey(pub)
	if algorithm == 0 {
		return 0, 0
	}
	// Flags 0: the key signs no zone (RFC 4034 §2.1.1). Protocol is always 3.
	return Sum(append([]byte{0, 0, 3, algorithm}, key...)), algorithm
}

// Sum is the key tag of the RDATA of a DNSKEY (RFC 4034 App. B).
func Sum(rdata []byte) uint16 {
	sum := uint32(0)
	for i, c := range rdata {
		if i%2 == 0 {
			sum += uint32(c) << 8
		} else {
			sum += uint32(c)
		}
	}
	return uint16(sum + sum>>16&0xFFFF)
}

// subjectPublicKeyInfo walks to the key (RFC 5280 §4.1) and no further.
func subjectPublicKeyInfo(der []byte) ([]byte, bool) {
	sequence := ber.Tag{Constructed: true, Number: 16}
	certificate, err := ber.NewReader(der, ber.Limits{}).Enter(sequence)
	if err != nil {
		return nil, false
	}
	tbs, err := certificate.Enter(sequence)
	if err != nil {
		return nil, false
	}
	if t, ok := tbs.Peek(); ok && t.Class == ber.ContextSpecific {
		if _, err := tbs.Next(); err != nil { // version
			return nil, false
		}
	}
	for range 5 { // serialNumber, signature, issuer, validity, subject
		if _, err := tbs.Next(); err != nil {
			return nil, false
		}
	}
	spki, err := tbs.Expect(sequence)
	return spki.Raw, err == nil
}

// dnssecKey is the key as the public key field of a DNSKEY.
func dnssecKey(pub any) (algorithm uint8, key []byte) {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		// RFC 5702 §2.1 names the sizes for RSA/SHA-256, RFC 3110 §2 the form;
		// the exponents of real keys fit into its short length field.
		n := k.N.Bytes()
		if len(n) < 64 || len(n) > 512 {
			return 0, nil
		}
		e := binary.BigEndian.AppendUint64(nil, uint64(k.E))
		e = bytes.TrimLeft(e, "\x00")
		return RSASHA256, append(append([]byte{byte(len(e))}, e...), n...)
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			return 0, nil
		}
		// RFC 6605 §4: x and y, without the octet for "uncompressed".
		switch len(point) {
		case 1 + 64:
			return ECDSAP256SHA256, point[1:]
		case 1 + 96:
			return ECDSAP384SHA384, point[1:]
		}
	case ed25519.PublicKey:
		return Ed25519, k // RFC 8080 §3
	}
	return 0, nil
}
