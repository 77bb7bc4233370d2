package trust

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"

	"directnode/internal/cms"
)

// Errors of ParseCertificates, wrapped.
var (
	ErrNoCertificates = errors.New("no certificate")
	ErrTooLarge       = errors.New("too large")
)

// ParseCertificates reads what a place that authorityInfoAccess points to may hold (RFC 5280 §4.2.2.1): one certificate in DER, or a
// "certs-only" CMS message in DER or BER (RFC 5652 §5.1 without signers; the bridges of the field publish ".p7c"). Beyond the
// RFC it reads what servers really send: certificates one after the other, PEM, and base64 without armor. Nothing in it is believed:
// signers, if there are any, are ignored, and what is no certificate that can be parsed is left out.
//
// At most maxBody octets and maxBag certificates are read, each certificate once. Errors: ErrTooLarge, and ErrNoCertificates where
// there is not one certificate, with what there was instead.
func ParseCertificates(body []byte) ([]*x509.Certificate, error) {
	if len(body) > maxBody {
		return nil, fmt.Errorf("%w: %d octets, at most %d", ErrTooLarge, len(body), maxBody)
	}
	var b bag
	trimmed := bytes.TrimSpace(body)
	switch {
	case len(trimmed) == 0:
		return nil, fmt.Errorf("%w: nothing at all", ErrNoCertificates)
	case bytes.Contains(trimmed, []byte("-----BEGIN ")):
		b.pem(trimmed)
	case body[0] == tagSequence: // SEQUENCE: Certificate or ContentInfo
		b.der(body)
	default:
		der, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(trimmed), nil)))
		if err != nil {
			return nil, fmt.Errorf("%w: neither DER nor PEM, it begins with %.16q", ErrNoCertificates, trimmed)
		}
		b.der(der)
	}
	if len(b.certs) == 0 {
		return nil, fmt.Errorf("%w: %w", ErrNoCertificates, b.complaint())
	}
	return b.certs, nil
}

// bag collects certificates, each once.
type bag struct {
	certs []*x509.Certificate
	err   error // the first
}

func (b *bag) complaint() error {
	if b.err != nil {
		return b.err
	}
	return errors.New("an empty list")
}

func (b *bag) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

func (b *bag) pem(rest []byte) {
	for len(b.certs) < maxBag {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return
		}
		b.der(block.Bytes)
	}
}

// der reads elements one after the other.
func (b *bag) der(rest []byte) {
	for len(rest) > 0 && len(b.certs) < maxBag {
		var element []byte
		if element, rest = cutElement(rest); element == nil {
			b.message(rest)
			return
		}
		if isContentInfo(element) {
			b.message(element)
			continue
		}
		b.certificate(element)
	}
}

func (b *bag) certificate(der []byte) {
	if len(der) > maxCertificate {
		b.fail(fmt.Errorf("a certificate of %d octets, at most %d", len(der), maxCertificate))
		return
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		b.fail(err)
		return
	}
	b.add(c)
}

func (b *bag) message(der []byte) {
	s, err := cms.ParseSignedData(der, cms.Limits{Size: maxBody, Certificates: maxBagRead})
	if err != nil {
		b.fail(err)
		return
	}
	for _, c := range s.Certificates() {
		b.add(c)
	}
}

func (b *bag) add(c *x509.Certificate) {
	if len(b.certs) == maxBag || len(c.Raw) > maxCertificate {
		return
	}
	for _, have := range b.certs {
		if have.Equal(c) {
			return
		}
	}
	b.certs = append(b.certs, c)
}

// cutElement cuts a DER element of definite length off, header included; nil if the octets do not begin with one, with all of them as
// the rest: BER of indefinite length is for package cms to read.
func cutElement(b []byte) (element, rest []byte) {
	_, rest, ok := cut(b, tagSequence)
	if !ok {
		return nil, b
	}
	return b[:len(b)-len(rest)], rest
}

// isContentInfo tells a CMS message from a certificate: the one begins with an OBJECT IDENTIFIER inside, the other with a SEQUENCE.
func isContentInfo(element []byte) bool {
	content, _, _ := cut(element, tagSequence)
	return len(content) > 0 && content[0] == asn1.TagOID
}
