package resolver

import (
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/miekg/dns"
)

// Types of RFC 4398 §2.1.
const (
	certPKIX  = 1
	certIPKIX = 4
	certURI   = 253
)

// value is what one record carries: octets that may be a certificate, or the reason why they are not looked at.
type value struct {
	DER []byte
	Err error
}

// certificatesOf takes the certificates out of CERT records. One record that cannot be used never spoils the others (AS 5.3); key
// tag and algorithm are ignored, as AS 5.3 leaves them undefined and publishers set them to anything.
func certificatesOf(rrs []dns.RR) []value {
	var out []value
	for _, rr := range rrs {
		c, ok := rr.(*dns.CERT)
		if !ok {
			continue
		}
		switch c.Type {
		case certPKIX:
			der, err := base64.StdEncoding.DecodeString(c.Certificate)
			if err != nil {
				err = errors.New("CERT record is not readable")
			}
			out = append(out, value{der, err})
		case certIPKIX, certURI:
			out = append(out, value{nil, fmt.Errorf("CERT type %d holds a URL, which is not fetched in this version", c.Type)})
		default:
			out = append(out, value{nil, fmt.Errorf("CERT type %d is no X.509 certificate", c.Type)})
		}
	}
	return out
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
