// Package ber reads and writes the Basic Encoding Rules within bounds.
//
// LDAP messages (RFC 4511 §5.1) and CMS structures (RFC 5652) are both BER;
// peers send lengths that are not minimal and, in CMS, constructed strings and
// indefinite lengths, which DER parsers refuse. Reader walks a byte slice
// without copying: bytes in, elements that point into them out. Depth, number
// of elements and total size are bounded, because a stack overflow cannot be
// recovered and a million empty elements cost more than the megabyte that
// carried them. Builder writes definite, minimal lengths, which is DER as long
// as the caller orders its sets.
//
// Sources: X.690 §8 (BER) and §10 (DER).
package ber

import (
	"errors"
	"fmt"
)

// Class is the class of a tag (X.690 §8.1.2.2).
type Class uint8

// The four classes.
const (
	Universal Class = iota
	Application
	ContextSpecific
	Private
)

// Tag is an identifier (X.690 §8.1.2).
type Tag struct {
	Class       Class
	Constructed bool
	Number      uint32
}

// The universal tags in use (X.680 §8.4).
var (
	Boolean         = Tag{Universal, false, 1}
	Integer         = Tag{Universal, false, 2}
	BitString       = Tag{Universal, false, 3}
	OctetString     = Tag{Universal, false, 4}
	Null            = Tag{Universal, false, 5}
	ObjectID        = Tag{Universal, false, 6}
	Enumerated      = Tag{Universal, false, 10}
	UTF8String      = Tag{Universal, false, 12}
	Sequence        = Tag{Universal, true, 16}
	Set             = Tag{Universal, true, 17}
	PrintableString = Tag{Universal, false, 19}
	IA5String       = Tag{Universal, false, 22}
	UTCTime         = Tag{Universal, false, 23}
	GeneralizedTime = Tag{Universal, false, 24}
)

// Context makes a context-specific tag.
func Context(number uint32, constructed bool) Tag {
	return Tag{ContextSpecific, constructed, number}
}

// App makes an application tag.
func App(number uint32, constructed bool) Tag {
	return Tag{Application, constructed, number}
}

// String names the tag for error messages.
func (t Tag) String() string {
	form := "primitive"
	if t.Constructed {
		form = "constructed"
	}
	return fmt.Sprintf("%s tag %d (%s)", [...]string{"universal", "application", "context", "private"}[t.Class&3], t.Number, form)
}

// Limits bounds what a Reader takes. The zero value means DefaultLimits.
type Limits struct {
	Depth int // nesting of constructed elements
	Count int // elements in all, children included
	Size  int // octets of the input
}

// DefaultLimits suits a protocol message: nothing in LDAP or CMS nests deeper
// than 12, and 64 KiB is the largest message that an LDAP client may send.
var DefaultLimits = Limits{Depth: 16, Count: 10_000, Size: 64 << 10}

// The errors that callers tell apart; all others wrap ErrSyntax.
var (
	ErrSyntax  = errors.New("ber: malformed")
	ErrShort   = errors.New("ber: more octets needed")
	ErrTooLong = errors.New("ber: longer than the limit")
	ErrTooDeep = errors.New("ber: nested deeper than the limit")
	ErrTooMany = errors.New("ber: more elements than the limit")
)

// budget is shared by a Reader and all Readers of its children.
type budget struct {
	count int // elements left; owned by the goroutine that reads
}

// Reader reads elements one after the other. It must not be used by several
// goroutines at once. The slices it gives point into the input.
type Reader struct {
	rest   []byte
	depth  int // levels left below this one
	budget *budget
	err    error // set when the input was refused whole
}

// Reset makes r read b from its start within l, and keeps r's memory: a server
// that reads one message after the other allocates nothing. No Reader of
// children may be in use any more.
func (r *Reader) Reset(b []byte, l Limits) {
	if l == (Limits{}) {
		l = DefaultLimits
	}
	if r.budget == nil {
		r.budget = new(budget)
	}
	*r.budget = budget{l.Count}
	*r = Reader{rest: b, depth: l.Depth, budget: r.budget}
	if len(b) > l.Size {
		r.err = fmt.Errorf("%w: %d octets, at most %d", ErrTooLong, len(b), l.Size)
	}
}

// NewReader reads b within l.
func NewReader(b []byte, l Limits) *Reader {
	r := new(Reader)
	r.Reset(b, l)
	return r
}

// Element is one tag, length and content.
type Element struct {
	Tag        Tag
	Raw        []byte // the whole element as it was encoded
	Content    []byte // the content octets, without an end-of-contents marker
	Indefinite bool   // the length was indefinite (X.690 §8.1.3.6)
}

// Empty tells whether all has been read.
func (r *Reader) Empty() bool { return len(r.rest) == 0 }

// Rest gives what has not been read.
func (r *Reader) Rest() []byte { return r.rest }

// Peek gives the next tag without reading it.
func (r *Reader) Peek() (Tag, bool) {
	if r.err != nil {
		return Tag{}, false
	}
	h, err := parseHeader(r.rest)
	return h.tag, err == nil
}

// Next reads the next element. Errors: ErrShort, ErrTooLong, ErrTooDeep,
// ErrTooMany, ErrSyntax.
func (r *Reader) Next() (Element, error) {
	if r.err != nil {
		return Element{}, r.err
	}
	h, err := parseHeader(r.rest)
	if err != nil {
		return Element{}, err
	}
	if h.indefinite {
		return r.nextIndefinite(h)
	}
	if err := r.spend(); err != nil {
		return Element{}, err
	}
	end := h.size + h.length
	if h.length > len(r.rest)-h.size {
		return Element{}, fmt.Errorf("%w: element of %d octets, %d there", ErrShort, h.length, len(r.rest)-h.size)
	}
	e := Element{Tag: h.tag, Raw: r.rest[:end:end], Content: r.rest[h.size:end:end]}
	r.rest = r.rest[end:]
	return e, nil
}

// nextIndefinite finds the end-of-contents octets by walking the children.
// Only the walk counts against the budget, not the later reading of the same
// children, which is bounded by it.
func (r *Reader) nextIndefinite(h header) (Element, error) {
	if !h.tag.Constructed {
		return Element{}, fmt.Errorf("%w: indefinite length on a primitive element", ErrSyntax) // X.690 §8.1.3.2
	}
	n, err := r.walk(r.rest[h.size:], r.depth-1)
	if err != nil {
		return Element{}, err
	}
	end := h.size + n + 2
	e := Element{Tag: h.tag, Raw: r.rest[:end:end], Content: r.rest[h.size : h.size+n : h.size+n], Indefinite: true}
	r.rest = r.rest[end:]
	return e, r.spend()
}

// walk gives the number of content octets before the end-of-contents marker
// that ends the current level. It keeps its own stack: the nesting comes from
// the peer.
func (r *Reader) walk(b []byte, depth int) (int, error) {
	open := 1 // indefinite elements that wait for their marker
	at := 0
	for {
		if open > depth+1 {
			return 0, ErrTooDeep
		}
		if len(b)-at >= 2 && b[at] == 0 && b[at+1] == 0 {
			if open--; open == 0 {
				return at, nil
			}
			at += 2
			continue
		}
		h, err := parseHeader(b[at:])
		if err != nil {
			return 0, err
		}
		if err := r.spend(); err != nil {
			return 0, err
		}
		at += h.size
		switch {
		case h.indefinite && !h.tag.Constructed:
			return 0, fmt.Errorf("%w: indefinite length on a primitive element", ErrSyntax)
		case h.indefinite:
			open++
		case h.length > len(b)-at:
			return 0, fmt.Errorf("%w: element of %d octets, %d there", ErrShort, h.length, len(b)-at)
		default:
			at += h.length
		}
	}
}

func (r *Reader) spend() error {
	if r.budget.count--; r.budget.count < 0 {
		return ErrTooMany
	}
	return nil
}

// Definite reads an element that must have the tag and a definite length, and
// gives its content. RFC 4511 §5.1 allows LDAP no other lengths.
func (r *Reader) Definite(t Tag) ([]byte, error) {
	if content, ok := r.short(t); ok {
		return content, nil
	}
	e, err := r.Next()
	switch {
	case err != nil:
		return nil, err
	case e.Tag != t:
		return nil, fmt.Errorf("%w: %s where %s must stand", ErrSyntax, e.Tag, t)
	case e.Indefinite:
		return nil, fmt.Errorf("%w: indefinite length", ErrSyntax)
	}
	return e.Content, nil
}

// short is Definite for the usual element, with an identifier and a length of one
// octet each. Where it is false nothing was read.
func (r *Reader) short(t Tag) ([]byte, bool) {
	b := r.rest
	if len(b) < 2 || b[1] >= 0x80 || b[0] != t.octet() || t.Number >= 0x1f || r.err != nil || r.budget.count < 1 {
		return nil, false
	}
	end := 2 + int(b[1])
	if end > len(b) {
		return nil, false
	}
	r.budget.count--
	r.rest = b[end:]
	return b[2:end:end], true
}

// octet is the identifier octet of a tag with a low number (X.690 §8.1.2.4).
func (t Tag) octet() byte {
	o := byte(t.Class)<<6 | byte(t.Number)
	if t.Constructed {
		o |= 0x20
	}
	return o
}

// Inside gives a Reader of the children of a constructed element whose content r
// has given. Depth and count are shared with r.
func (r *Reader) Inside(content []byte) (Reader, error) {
	if r.depth <= 1 {
		return Reader{}, ErrTooDeep
	}
	return Reader{rest: content, depth: r.depth - 1, budget: r.budget}, nil
}

// Expect reads the next element and demands its tag.
func (r *Reader) Expect(t Tag) (Element, error) {
	got, ok := r.Peek()
	if ok && got != t {
		return Element{}, fmt.Errorf("%w: %s where %s must stand", ErrSyntax, got, t)
	}
	return r.Next()
}

// Enter expects a constructed element and gives a Reader of its children.
func (r *Reader) Enter(t Tag) (*Reader, error) {
	e, err := r.Expect(t)
	if err != nil {
		return nil, err
	}
	return r.Into(e)
}

// Into gives a Reader of the children of an element that r read. Depth and
// count are shared with r.
func (r *Reader) Into(e Element) (*Reader, error) {
	child, err := r.Child(e)
	if err != nil {
		return nil, err
	}
	return &child, nil
}

// Child is Into without an allocation: the Reader is given by value.
func (r *Reader) Child(e Element) (Reader, error) {
	if !e.Tag.Constructed {
		return Reader{}, fmt.Errorf("%w: %s has no children", ErrSyntax, e.Tag)
	}
	return r.Inside(e.Content)
}

type header struct {
	tag        Tag
	size       int // octets of tag and length
	length     int
	indefinite bool
}

const (
	maxTagOctets    = 4 // tag numbers up to 2^28: nothing we read comes near
	maxLengthOctets = 4 // lengths up to 2^31-1, padded or not
)

// parseHeader reads tag and length (X.690 §8.1.2, §8.1.3). Lengths that are
// not minimal are BER and taken.
func parseHeader(b []byte) (header, error) {
	var h header
	if len(b) == 0 {
		return h, ErrShort
	}
	h.tag = Tag{Class(b[0] >> 6), b[0]&0x20 != 0, uint32(b[0] & 0x1f)}
	h.size = 1
	if h.tag.Number == 0x1f {
		n, size, err := parseHighTag(b[1:])
		if err != nil {
			return h, err
		}
		h.tag.Number, h.size = n, 1+size
	}
	if len(b) == h.size {
		return h, ErrShort
	}
	first := b[h.size]
	h.size++
	switch {
	case first < 0x80:
		h.length = int(first)
		return h, nil
	case first == 0x80:
		h.indefinite = true
		return h, nil
	case first == 0xff:
		return h, fmt.Errorf("%w: reserved length", ErrSyntax) // X.690 §8.1.3.5 c
	}
	octets := int(first & 0x7f)
	if len(b)-h.size < min(octets, maxLengthOctets) {
		return h, ErrShort
	}
	if octets > maxLengthOctets {
		return h, fmt.Errorf("%w: length of %d octets", ErrTooLong, octets)
	}
	length := uint64(0)
	for _, c := range b[h.size : h.size+octets] {
		length = length<<8 | uint64(c)
	}
	if length > 1<<31-1 {
		return h, fmt.Errorf("%w: %d octets", ErrTooLong, length)
	}
	h.length = int(length)
	h.size += octets
	return h, nil
}

func parseHighTag(b []byte) (number uint32, size int, err error) {
	for size < len(b) && size < maxTagOctets {
		c := b[size]
		number = number<<7 | uint32(c&0x7f)
		size++
		if c&0x80 == 0 {
			return number, size, nil
		}
	}
	if size == maxTagOctets {
		return 0, 0, fmt.Errorf("%w: tag number", ErrTooLong)
	}
	return 0, 0, ErrShort
}

// FrameLength tells from the first octets of a stream how long its first
// element is, tag and length included. ErrShort asks for more octets (a header
// has at most 10), ErrTooLong says that it exceeds max. An indefinite length
// has no known end and is ErrSyntax: protocols that frame by length forbid it
// (RFC 4511 §5.1).
func FrameLength(b []byte, max int) (int, error) {
	h, err := parseHeader(b)
	if err != nil {
		return 0, err
	}
	if h.indefinite {
		return 0, fmt.Errorf("%w: indefinite length", ErrSyntax)
	}
	if h.length > max-h.size {
		return 0, fmt.Errorf("%w: %d octets, at most %d", ErrTooLong, h.length, max)
	}
	return h.size + h.length, nil
}
