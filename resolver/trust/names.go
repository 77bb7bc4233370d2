package trust

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
)

// rdns is a distinguished name in a form in which equality is string equality: one string for each relative distinguished name.
type rdns []string

// canonical brings a DER name into comparable form (RFC 5280 §7.1): attribute values that are strings are compared without regard
// to their ASN.1 string type, to case and to the amount of white space. A value that is no string, or of a string type that cannot
// be read, compares by its octets, and so does a name that does not decode.
func canonical(raw []byte) rdns {
	type attribute struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	type relativeSET []attribute // encoding/asn1 reads a type of this name as a SET
	var seq []relativeSET
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
func canonicalValue(v asn1.RawValue) string {
	s, ok := text(v)
	if !ok {
		return fmt.Sprintf("raw:%x", v.FullBytes)
	}
	// RFC 5280 §7.1 with RFC 4518 §2.6.1: leading and trailing space is dropped, inner space collapses, case does not matter.
	return fmt.Sprintf("%q", strings.ToLower(strings.Join(strings.Fields(s), " ")))
}

// text reads the string types of DirectoryString and those that legacy attributes use. TeletexString is read as ISO 8859-1, as
// everybody does; a UTF8String that is none is left to its octets, lest all broken ones be equal.
func text(v asn1.RawValue) (string, bool) {
	if v.Class != asn1.ClassUniversal || v.IsCompound {
		return "", false
	}
	switch v.Tag {
	case asn1.TagPrintableString, asn1.TagIA5String, asn1.TagNumericString, asn1.TagT61String:
		runes := make([]rune, len(v.Bytes))
		for i, b := range v.Bytes {
			runes[i] = rune(b)
		}
		return string(runes), true
	case asn1.TagUTF8String:
		s := string(v.Bytes)
		return s, strings.ToValidUTF8(s, "") == s
	case asn1.TagBMPString:
		if len(v.Bytes)%2 != 0 {
			return "", false
		}
		units := make([]uint16, len(v.Bytes)/2)
		for i := range units {
			units[i] = uint16(v.Bytes[2*i])<<8 | uint16(v.Bytes[2*i+1])
			if utf16.IsSurrogate(rune(units[i])) { // BMPString has none; decoding would make them all equal
				return "", false
			}
		}
		return string(utf16.Decode(units)), true
	}
	return "", false
}

// key is the name as one string.
func (n rdns) key() string { return strings.Join(n, ",") }

// within tells whether the name lies in the subtree (RFC 5280 §4.2.1.10: directoryName).
func (n rdns) within(subtree rdns) bool {
	return len(n) >= len(subtree) && slices.Equal(n[:len(subtree)], subtree)
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
