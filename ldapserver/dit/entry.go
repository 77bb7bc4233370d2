package dit

import (
	"math/bits"

	"directnode/internal/ber"
	"directnode/store"
)

type kind uint8

const (
	kindOwner     kind = iota // a person or an organization that has certificates
	kindContext               // the top of a naming context
	kindRoot                  // the root DSE
	kindSubschema             // the subschema subentry
)

// Entry is one entry of the directory, encoded as far as an answer allows: the
// name and the text attributes stand ready as PartialAttributes of RFC 4511
// §4.1.7, the certificates are the store's own octets, so that a million of
// them are in memory once. The text of an owner's entry is made when an answer
// needs it: clients ask for certificates. Entries of owners belong to whom they
// were made for.
type Entry struct {
	kind     kind
	held     store.Holding // of an owner: what the entry is made of
	mail     []byte        // of an owner
	local    []byte        // of an owner with an address: its local part
	suffix   *suffix       // the naming context; nil for root DSE and subschema
	encoded  []byte        // LDAPDN, then the text attributes
	nameEnd  int           // where the LDAPDN ends in encoded
	spans    []span        // the text attributes, in order; of an owner once text was called
	certs    [][]byte      // values of userCertificate, DER
	certSize int           // octets of the certs as OCTET STRINGs, headers included
}

// span says up to where in Entry.encoded an attribute reaches.
type span struct {
	end  uint32
	attr Attr
}

// DN is the entry's name (RFC 4514).
func (e *Entry) DN() string { return string(contentOf(e.encoded[:e.nameEnd])) }

// Mail is the entry's mail value in lower case, empty for entries without.
func (e *Entry) Mail() string {
	values := e.values(Mail)
	v, _ := values.next()
	return string(fold(nil, v))
}

// Same tells whether two entries are one, in one generation of the tree or, for
// an owner whose certificates nobody touched, in several.
func (e *Entry) Same(other *Entry) bool {
	return e == other || e != nil && other != nil && e.held.Same(other.held) && e.suffix.dn == other.suffix.dn
}

// Reset empties an entry but for its buffers, so that it keeps no generation of
// the tree in memory.
func (e *Entry) Reset() {
	clear(e.certs)
	*e = Entry{encoded: e.encoded[:0], spans: e.spans[:0], certs: e.certs[:0]}
}

// add appends an attribute with one value.
func (e *Entry) add(a Attr, value []byte) {
	name := a.Name()
	values := Size(len(value))
	e.encoded = ber.AppendHeader(e.encoded, ber.Sequence, Size(len(name))+Size(values))
	e.encoded = append(ber.AppendHeader(e.encoded, ber.OctetString, len(name)), name...)
	e.encoded = ber.AppendTLV(ber.AppendHeader(e.encoded, ber.Set, values), ber.OctetString, value)
	e.spans = append(e.spans, span{uint32(len(e.encoded)), a})
}

// text makes the text attributes of an owner's entry, unless they are there.
func (e *Entry) text() {
	if e.kind != kindOwner || len(e.spans) > 0 {
		return
	}
	e.encoded = append(e.encoded, personClasses...)
	e.spans = append(e.spans, span{uint32(len(e.encoded)), ObjectClass})
	e.add(CommonName, e.mail)
	e.add(Surname, e.mail)
	if len(e.local) > 0 {
		e.add(UserID, e.local)
	}
	e.add(Mail, e.mail)
}

// Certificates gives the values of userCertificate. They must not be changed.
func (e *Entry) Certificates() [][]byte { return e.certs }

// attribute gives the encoded PartialAttribute of a, nil if the entry has none.
func (e *Entry) attribute(a Attr) []byte {
	start := uint32(e.nameEnd)
	for _, s := range e.spans {
		if s.attr == a {
			return e.encoded[start:s.end]
		}
		start = s.end
	}
	return nil
}

// values walks the values of a text attribute; next gives them one by one.
type values struct {
	single []byte // the only one, or
	rest   []byte // encoded ones
}

func (e *Entry) values(a Attr) values {
	if e.kind == kindOwner {
		switch a {
		case CommonName, Surname, Mail:
			return values{single: e.mail}
		case UserID:
			return values{single: e.local}
		case ObjectClass:
			return values{rest: valuesOf(personClasses)}
		}
		return values{}
	}
	return values{rest: valuesOf(e.attribute(a))}
}

// valuesOf is the content of the SET in an encoded PartialAttribute.
func valuesOf(attribute []byte) []byte {
	if attribute == nil {
		return nil
	}
	_, set := cut(contentOf(attribute)) // behind the description
	return contentOf(set)
}

func (v *values) next() ([]byte, bool) {
	if value := v.single; len(value) > 0 {
		v.single = nil
		return value, true
	}
	if len(v.rest) == 0 {
		return nil, false
	}
	value, rest := cut(v.rest)
	v.rest = rest
	return contentOf(value), true
}

// cut splits one element off our own encoding, which has minimal definite
// lengths and single-octet tags.
func cut(b []byte) (element, rest []byte) {
	size, length := header(b)
	return b[:size+length], b[size+length:]
}

func contentOf(element []byte) []byte {
	size, _ := header(element)
	return element[size:]
}

func header(b []byte) (size, length int) {
	if b[1] < 0x80 {
		return 2, int(b[1])
	}
	octets := int(b[1] & 0x7f)
	for _, c := range b[2 : 2+octets] {
		length = length<<8 | int(c)
	}
	return 2 + octets, length
}

// Size is the number of octets of an element with a single-octet tag and a
// content of n octets.
func Size(n int) int {
	if n < 0x80 {
		return 2 + n
	}
	return 2 + (bits.Len(uint(n))+7)/8 + n
}

// Has tells whether the entry has a value of one of the attributes.
func (e *Entry) Has(m Mask) bool {
	if m.Has(UserCertificate) && len(e.certs) > 0 {
		return true
	}
	if e.kind == kindOwner {
		return m&ownerText != 0 || m.Has(UserID) && len(e.local) > 0
	}
	for _, s := range e.spans {
		if m.Has(s.attr) {
			return true
		}
	}
	return false
}

// ownerText are the text attributes that every owner's entry has.
const ownerText Mask = 1<<ObjectClass | 1<<CommonName | 1<<Surname | 1<<Mail

// certificateName is the attribute description under which the certificates
// are answered.
func (s *Selection) certificateName() string {
	if s.plain && !s.binary {
		return "userCertificate"
	}
	return "userCertificate;binary" // RFC 4523 §2.1
}

// Selection is the attribute selection of a search (RFC 4511 §4.5.1.8). Its
// zero value, without any Add, selects all user attributes.
type Selection struct {
	TypesOnly bool // attribute descriptions without values

	mask   Mask
	plain  bool // userCertificate was asked by name
	binary bool // userCertificate;binary was asked by name
	named  bool // something was asked
}

// Add takes one attribute selector: a description, "*" (all user attributes),
// "+" (all operational attributes, RFC 3673) or "1.1" (none). What is not
// recognized selects nothing.
func (s *Selection) Add(selector []byte) {
	s.named = true
	switch string(selector) {
	case "*":
		s.mask |= userAttributes
		return
	case "+":
		s.mask |= operationalAttributes
		return
	case "1.1": // RFC 4511 §4.5.1.8: ignored beside other selectors, nothing when alone
		return
	}
	d, ok := Describe(selector)
	if !ok {
		return
	}
	s.mask |= d.Attrs
	if d.Attrs.Has(UserCertificate) {
		s.binary = s.binary || d.Binary
		s.plain = s.plain || !d.Binary
	}
}

func (s *Selection) attrs() Mask {
	if !s.named {
		return userAttributes
	}
	return s.mask
}

var tagSearchResultEntry = ber.App(4, true)

// ResultSize is the number of octets that AppendResult appends.
func (e *Entry) ResultSize(s *Selection) int {
	return Size(e.nameEnd + Size(e.attributesSize(s)))
}

// AppendResult appends the entry as a SearchResultEntry (RFC 4511 §4.5.2) with
// the attributes that s selects.
func (e *Entry) AppendResult(dst []byte, s *Selection) []byte {
	n := e.attributesSize(s)
	dst = ber.AppendHeader(dst, tagSearchResultEntry, e.nameEnd+Size(n))
	dst = append(dst, e.encoded[:e.nameEnd]...)
	dst = ber.AppendHeader(dst, ber.Sequence, n)
	mask := s.attrs()
	start := uint32(e.nameEnd)
	for _, span := range e.spans {
		if mask.Has(span.attr) {
			dst = appendAttribute(dst, e.encoded[start:span.end], s.TypesOnly)
		}
		start = span.end
	}
	if mask.Has(UserCertificate) && len(e.certs) > 0 {
		dst = e.appendCertificates(dst, s)
	}
	return dst
}

func (e *Entry) attributesSize(s *Selection) int {
	mask := s.attrs()
	if mask&(ownerText|1<<UserID) != 0 {
		e.text()
	}
	n := 0
	start := uint32(e.nameEnd)
	for _, span := range e.spans {
		if mask.Has(span.attr) {
			n += attributeSize(e.encoded[start:span.end], s.TypesOnly)
		}
		start = span.end
	}
	if mask.Has(UserCertificate) && len(e.certs) > 0 {
		n += Size(e.certificatesContent(s))
	}
	return n
}

// attributeSize is the size of a prepared PartialAttribute, or of what remains
// of it without the values.
func attributeSize(attribute []byte, typesOnly bool) int {
	if !typesOnly {
		return len(attribute)
	}
	description, _ := cut(contentOf(attribute))
	return Size(len(description) + Size(0))
}

func appendAttribute(dst, attribute []byte, typesOnly bool) []byte {
	if !typesOnly {
		return append(dst, attribute...)
	}
	description, _ := cut(contentOf(attribute))
	dst = ber.AppendHeader(dst, ber.Sequence, len(description)+Size(0))
	dst = append(dst, description...)
	return ber.AppendHeader(dst, ber.Set, 0)
}

// certificatesContent is the content length of the certificates' attribute.
func (e *Entry) certificatesContent(s *Selection) int {
	values := e.certSize
	if s.TypesOnly {
		values = 0
	}
	return Size(len(s.certificateName())) + Size(values)
}

func (e *Entry) appendCertificates(dst []byte, s *Selection) []byte {
	name := s.certificateName()
	dst = ber.AppendHeader(dst, ber.Sequence, e.certificatesContent(s))
	dst = append(ber.AppendHeader(dst, ber.OctetString, len(name)), name...)
	if s.TypesOnly {
		return ber.AppendHeader(dst, ber.Set, 0)
	}
	dst = ber.AppendHeader(dst, ber.Set, e.certSize)
	for _, der := range e.certs {
		dst = ber.AppendTLV(dst, ber.OctetString, der)
	}
	return dst
}

// entryBuilder makes an Entry.
type entryBuilder struct {
	b ber.Builder
	e Entry
}

func newEntryBuilder(dn string, k kind) *entryBuilder {
	b := &entryBuilder{e: Entry{kind: k}}
	b.b.Text(ber.OctetString, dn)
	b.e.nameEnd = len(b.b.Encoded())
	return b
}

// add appends one attribute with its values.
func (b *entryBuilder) add(a Attr, values ...string) {
	b.b.Begin(ber.Sequence)
	b.b.Text(ber.OctetString, a.Name())
	b.b.Begin(ber.Set)
	for _, v := range values {
		b.b.Text(ber.OctetString, v)
	}
	b.b.End()
	b.b.End()
	b.e.spans = append(b.e.spans, span{uint32(len(b.b.Encoded())), a})
}

func (b *entryBuilder) entry() *Entry {
	e := b.e
	// The builder's buffer has grown by doubling; an entry lives long.
	e.encoded = append([]byte(nil), b.b.Encoded()...)
	e.spans = append([]span(nil), b.e.spans...)
	return &e
}
