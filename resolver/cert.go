package resolver

import (
	"bytes"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/dns"
)

// Types of RFC 4398 §2.1.
const (
	certPKIX  = 1
	certIPKIX = 4
	certURI   = 253
)

// value is what one record carries: octets that may be a certificate, a URL that leads to one, or the reason why it is not looked at.
type value struct {
	DER []byte
	URL string
	Err error
}

// valuesOf takes the values out of CERT records. One record that cannot be used never spoils the others (AS 5.3); key tag and
// algorithm are ignored, as AS 5.3 leaves them undefined and publishers set them to anything.
func valuesOf(l lookup) []value {
	var certs map[dns.RR][]byte
	if len(l.heard) > 0 {
		certs = l.heard[len(l.heard)-1].certs
	}
	out := make([]value, 0, len(l.rrs))
	for _, rr := range l.rrs {
		if c, ok := rr.(*dns.CERT); ok {
			out = append(out, valueOf(c, certs))
		}
	}
	return out
}

func valueOf(c *dns.CERT, certs map[dns.RR][]byte) value {
	data, readable := certs[c]
	if !readable {
		return value{Err: errors.New("CERT record is not readable")}
	}
	switch c.Type {
	case certPKIX:
		return value{DER: data}
	case certIPKIX:
		return urlOf(data)
	case certURI:
		// RFC 4398 §2.1: the URI ends in a NUL octet and the certificate, of a kind that the URI defines, follows. The Java reference
		// implementation publishes nothing but the URL of an X.509 certificate under this type, so that is what is read.
		uri, _, _ := bytes.Cut(data, []byte{0})
		return urlOf(uri)
	}
	return value{Err: fmt.Errorf("CERT type %d is no X.509 certificate", c.Type)}
}

// urlOf takes a URL of printable ASCII; where it may lead is for the package fetch to say.
func urlOf(data []byte) value {
	text := strings.TrimSpace(string(data))
	switch {
	case len(data) > maxURL:
		return value{Err: fmt.Errorf("CERT record holds a URL of %d octets, at most %d", len(data), maxURL)}
	case text == "" || !isText(data) || strings.ContainsAny(text, " \t\r\n"):
		return value{Err: errors.New("CERT record should hold a URL and does not")}
	}
	return value{URL: text}
}

// certificateIn takes the certificate out of what a URL of a CERT record led to: DER (RFC 4398 §2.1), or the same in one PEM block, as
// the tools of others read both.
func certificateIn(body []byte) []byte {
	if block, _ := pem.Decode(body); block != nil && block.Type == "CERTIFICATE" {
		return block.Bytes
	}
	return body
}

// notACertificate tells octets that are no X.509 certificate at all from those that are one, however bad. Only the outermost structure
// is looked at (RFC 5280 §4.1: a sequence of tbsCertificate, algorithm, signature): a certificate that is broken further inside must
// end the search like every bad certificate, and one that is too large too, while garbage is no certificate.
func notACertificate(der []byte) error {
	var outer struct {
		TBS       asn1.RawValue
		Algorithm asn1.RawValue
		Signature asn1.BitString
	}
	_, err := asn1.Unmarshal(der, &outer)
	switch {
	case err == nil && outer.TBS.IsCompound && outer.Algorithm.IsCompound:
		return nil
	case isText(der):
		return errors.New("value is text (Base64 or PEM?) instead of the DER certificate itself")
	}
	return errors.New("value is no X.509 certificate")
}

// isText recognises the usual mistake of publishers: the presentation form where the octets belong.
func isText(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\n' && c != '\r' && c != '\t' || c > '~' {
			return false
		}
	}
	return len(b) > 0
}
