package cms

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"

	"directnode/internal/ber"
)

// identifier is a SignerIdentifier (RFC 5652 §5.3) or a RecipientIdentifier (§6.2.1): both name a certificate either by
// issuer and serial number or by its subject key identifier.
type identifier struct {
	issuer []byte   // encoded Name; nil when the key identifier is used
	serial *big.Int // nil when the key identifier is used
	keyID  []byte   // nil when issuer and serial are used
}

func readIdentifier(r *ber.Reader) (identifier, error) {
	if t, ok := r.Peek(); ok && t.Class == ber.ContextSpecific {
		id, err := r.OctetString(ber.Context(0, false))
		if err != nil {
			return identifier{}, unread("subject key identifier", err)
		}
		if len(id) == 0 || len(id) > maxKeyIDOctets {
			return identifier{}, fmt.Errorf("%w: subject key identifier of %d octets", ErrMalformed, len(id))
		}
		return identifier{keyID: id}, nil
	}
	in, err := r.Enter(ber.Sequence)
	if err != nil {
		return identifier{}, unread("issuer and serial number", err)
	}
	issuer, err := in.Expect(ber.Sequence)
	if err != nil {
		return identifier{}, unread("issuer", err)
	}
	serial, err := in.Expect(ber.Integer)
	if err != nil {
		return identifier{}, unread("serial number", err)
	}
	if len(serial.Content) == 0 || len(serial.Content) > maxSerialOctets {
		return identifier{}, fmt.Errorf("%w: serial number of %d octets", ErrMalformed, len(serial.Content))
	}
	return identifier{issuer: issuer.Raw, serial: integer(serial.Content)}, nil
}

// integer reads two's complement (X.690 §8.3.3); serial numbers are compared as numbers, so that padding does not matter.
func integer(content []byte) *big.Int {
	n := new(big.Int).SetBytes(content)
	if content[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(content))))
	}
	return n
}

// names tells whether the identifier means the certificate. The issuer is compared octet by octet: whoever wrote the
// identifier copied it from the certificate.
func (i identifier) names(c *x509.Certificate) bool {
	if i.keyID != nil {
		return bytes.Equal(i.keyID, c.SubjectKeyId)
	}
	return i.serial.Cmp(c.SerialNumber) == 0 && bytes.Equal(i.issuer, c.RawIssuer)
}

// writeIssuerAndSerial writes IssuerAndSerialNumber (RFC 5652 §10.2.4), which every peer understands.
func writeIssuerAndSerial(b *ber.Builder, c *x509.Certificate) error {
	serial, err := asn1.Marshal(c.SerialNumber)
	if err != nil {
		return fmt.Errorf("%w: serial number: %w", ErrKey, err)
	}
	b.Begin(ber.Sequence)
	b.Raw(c.RawIssuer)
	b.Raw(serial)
	b.End()
	return nil
}
