package trust

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"
)

// rdns is a distinguished name in a form in which equality is string equality: one string for each relative distinguished name.
type rdns []string

// canonical brings a DER name into comparable form (RFC 5280 §7.1): attribute values that are strings are compared without regard
// to their ASN.1 string type, to case and to the amount of white space. A name that does not decode compares by its octets alone.
func canonical(raw []byte) rdns {
	var seq pkix.RDNSequence
	rest, err := asn1.Unmarshal(raw, &seq)
	if err != nil || len(rest) > 0 {
		return rdns{fmt.Sprintf("raw:%x", raw)}
	}
	out := make(rdns, 0, len(seq))
	for _, set := range seq {
		atvs := make([]string, 0, len(set))
		for _, a := range set {
			atvs = append(atvs, a.Type.String()+"="+canonicalValue(a.Value))
		}
		slices.Sort(atvs) // a SET has no order
		out = append(out, strings.Join(atvs, "+"))
	}
	return out
}

// canonicalValue quotes, so that a value cannot imitate the separators around it.
func canonicalValue(v any) string {
	s, ok := v.(string)
	if !ok {
		return fmt.Sprintf("%T:%v", v, v)
	}
	// RFC 5280 §7.1 with RFC 4518 §2.6.1: leading and trailing space is dropped, inner space collapses, case does not matter.
	return fmt.Sprintf("%q", strings.ToLower(strings.Join(strings.Fields(s), " ")))
}

// key is the name as one string.
func (n rdns) key() string { return strings.Join(n, ",") }

// within tells whether the name lies in the subtree (RFC 5280 §4.2.1.10: directoryName).
func (n rdns) within(subtree rdns) bool {
	return len(n) >= len(subtree) && slices.Equal(n[:len(subtree)], subtree)
}

// selfIssued: subject and issuer are one entity (RFC 5280 §3.2). Such certificates do not count for path lengths and name constraints.
func selfIssued(c *x509.Certificate) bool {
	return canonical(c.RawSubject).key() == canonical(c.RawIssuer).key()
}

// label is how a certificate is named to a person: the subject, else a name it carries.
func label(c *x509.Certificate) string {
	if s := c.Subject.String(); s != "" {
		return s
	}
	for _, s := range append(slices.Clone(c.EmailAddresses), c.DNSNames...) {
		return s
	}
	return "serial " + c.SerialNumber.String()
}
