package trust

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// rdns is a distinguished name in a form in which equality is string equality: one string for each relative distinguished name,
// of which no other string is the beginning.
type rdns []string

// canonical brings a DER name into comparable form (RFC 5280 §7.1): attribute values that are strings are compared without regard
// to their ASN.1 string type, to case and to the amount of white space. A value that is no string, or of a string type that cannot
// be read, compares by its octets, and so does a name that does not decode. It is called for every anchor of every question, and
// therefore reads the octets itself.
func canonical(raw []byte) rdns {
	undecoded := rdns{"\x00" + string(raw)} // a relative distinguished name begins with its number of attributes, which is not 0
	seq, rest, ok := cut(raw, tagSequence)
	if !ok || len(rest) > 0 {
		return undecoded
	}
	out := make(rdns, 0, 8)
	for len(seq) > 0 {
		var set []byte
		if set, seq, ok = cut(seq, tagSet); !ok || len(set) == 0 {
			return undecoded
		}
		rdn, ok := canonicalSet(set)
		if !ok {
			return undecoded
		}
		out = append(out, rdn)
	}
	return out
}

// canonicalSet reads the attributes of one relative distinguished name, which have no order.
func canonicalSet(set []byte) (string, bool) {
	var few [2]string
	attributes := few[:0]
	for len(set) > 0 {
		atv, rest, ok := cut(set, tagSequence)
		if !ok {
			return "", false
		}
		kind, value, ok := cut(atv, asn1.TagOID)
		if !ok {
			return "", false
		}
		b := make([]byte, 0, len(atv)+16)
		b = binary.AppendUvarint(b, uint64(len(kind)))
		b = append(b, kind...)
		attributes = append(attributes, string(appendValue(b, value)))
		set = rest
	}
	if len(attributes) == 1 {
		return "\x01" + attributes[0], true
	}
	slices.Sort(attributes)
	return string(binary.AppendUvarint(nil, uint64(len(attributes)))) + strings.Join(attributes, ""), true
}

// appendValue writes one attribute value, given with its tag: its length, a letter that tells texts from octets, and the form in which
// it is compared.
func appendValue(b, der []byte) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	out, ok := b, false
	if len(der) > 1 {
		if content, rest, whole := cut(der, der[0]); whole && len(rest) == 0 {
			out, ok = appendText(append(b, 't'), der[0], content)
		}
	}
	if !ok {
		out = append(append(b, 'o'), der...)
	}
	binary.BigEndian.PutUint32(out[start:], uint32(len(out)-start))
	return out
}

// appendText writes a string in the form in which it is compared. RFC 5280 §7.1 with RFC 4518 §2.6.1: leading and trailing space is
// dropped, inner space collapses, case does not matter.
func appendText(b []byte, tag byte, content []byte) ([]byte, bool) {
	if ascii := tag != asn1.TagBMPString && !slices.ContainsFunc(content, func(c byte) bool { return c >= utf8.RuneSelf }); !ascii || !isText(tag) {
		s, ok := text(tag, content)
		return append(b, strings.ToLower(strings.Join(strings.Fields(s), " "))...), ok
	}
	start, space := len(b), false
	for _, c := range content {
		switch {
		case c == ' ' || '\t' <= c && c <= '\r':
			space = true
			continue
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		}
		if space && len(b) > start {
			b = append(b, ' ')
		}
		b, space = append(b, c), false
	}
	return b, true
}

func isText(tag byte) bool {
	switch tag {
	case asn1.TagPrintableString, asn1.TagIA5String, asn1.TagNumericString, asn1.TagT61String, asn1.TagUTF8String:
		return true
	}
	return false
}

const (
	tagSequence = asn1.TagSequence | 0x20
	tagSet      = asn1.TagSet | 0x20
)

// cut takes the element of this tag off that the octets begin with.
func cut(b []byte, tag byte) (content, rest []byte, ok bool) {
	if len(b) < 2 || b[0] != tag || tag&0x1f == 0x1f {
		return nil, nil, false
	}
	length, header := int(b[1]), 2
	if octets := length & 0x7f; length >= 0x80 {
		if octets == 0 || octets > 3 || len(b) < 2+octets {
			return nil, nil, false // indefinite, or longer than any certificate
		}
		length = 0
		for _, o := range b[2 : 2+octets] {
			length = length<<8 | int(o)
		}
		header += octets
	}
	if len(b)-header < length {
		return nil, nil, false
	}
	return b[header : header+length], b[header+length:], true
}

// text reads the string types of DirectoryString and those that legacy attributes use. TeletexString is read as ISO 8859-1, as
// everybody does; a UTF8String that is none is left to its octets, lest all broken ones be equal.
func text(tag byte, b []byte) (string, bool) {
	switch tag {
	case asn1.TagPrintableString, asn1.TagIA5String, asn1.TagNumericString, asn1.TagT61String:
		runes := make([]rune, len(b))
		for i, c := range b {
			runes[i] = rune(c)
		}
		return string(runes), true
	case asn1.TagUTF8String:
		return string(b), utf8.Valid(b)
	case asn1.TagBMPString:
		if len(b)%2 != 0 {
			return "", false
		}
		units := make([]uint16, len(b)/2)
		for i := range units {
			units[i] = uint16(b[2*i])<<8 | uint16(b[2*i+1])
			if utf16.IsSurrogate(rune(units[i])) { // BMPString has none; decoding would make them all equal
				return "", false
			}
		}
		return string(utf16.Decode(units)), true
	}
	return "", false
}

// key is the name as one string.
func (n rdns) key() string { return strings.Join(n, "") }

// within tells whether the name lies in the subtree (RFC 5280 §4.2.1.10: directoryName).
func (n rdns) within(subtree rdns) bool {
	return len(n) >= len(subtree) && slices.Equal(n[:len(subtree)], subtree)
}

// label is how a certificate is named to a person: the subject, else a name it carries. A subject that nobody would read is not
// written out, which costs the square of its length.
func label(c *x509.Certificate) string {
	if len(c.RawSubject) > maxLabel {
		return fmt.Sprintf("serial %s with a subject of %d octets", c.SerialNumber, len(c.RawSubject))
	}
	if s := c.Subject.String(); s != "" {
		return s
	}
	for _, s := range append(slices.Clone(c.EmailAddresses), c.DNSNames...) {
		return s
	}
	return "serial " + c.SerialNumber.String()
}
