package ber

import (
	"encoding/asn1"
	"fmt"
)

// Bool reads a BOOLEAN under tag t (X.690 §8.2).
func (r *Reader) Bool(t Tag) (bool, error) {
	content, err := r.content(t)
	if err != nil {
		return false, err
	}
	if len(content) != 1 {
		return false, fmt.Errorf("%w: BOOLEAN of %d octets", ErrSyntax, len(content))
	}
	return content[0] != 0, nil
}

// content is Expect for those who need no more.
func (r *Reader) content(t Tag) ([]byte, error) {
	if content, ok := r.short(t); ok {
		return content, nil
	}
	e, err := r.Expect(t)
	return e.Content, err
}

// Int reads an INTEGER or ENUMERATED of at most 64 bits under tag t
// (X.690 §8.3).
func (r *Reader) Int(t Tag) (int64, error) {
	content, err := r.content(t)
	if err != nil {
		return 0, err
	}
	return Element{Content: content}.Int()
}

// Int gives the element's content as an integer of at most 64 bits.
func (e Element) Int() (int64, error) {
	c := e.Content
	if len(c) == 0 || len(c) > 8 {
		return 0, fmt.Errorf("%w: INTEGER of %d octets", ErrSyntax, len(c))
	}
	v := int64(int8(c[0])) // the first octet carries the sign
	for _, o := range c[1:] {
		v = v<<8 | int64(o)
	}
	return v, nil
}

// OID reads an OBJECT IDENTIFIER (X.690 §8.19).
func (r *Reader) OID() (asn1.ObjectIdentifier, error) {
	e, err := r.Expect(ObjectID)
	if err != nil {
		return nil, err
	}
	return e.OID()
}

// maxArcs bounds an object identifier: the longest in use has 14 arcs.
const maxArcs = 32

// OID gives the element's content as an object identifier.
func (e Element) OID() (asn1.ObjectIdentifier, error) {
	c := e.Content
	if len(c) == 0 || c[len(c)-1]&0x80 != 0 {
		return nil, fmt.Errorf("%w: OBJECT IDENTIFIER", ErrSyntax)
	}
	oid := make(asn1.ObjectIdentifier, 1, 10)
	arc := uint64(0)
	for _, o := range c {
		if arc>>24 != 0 || len(oid) > maxArcs {
			return nil, fmt.Errorf("%w: OBJECT IDENTIFIER", ErrTooLong)
		}
		arc = arc<<7 | uint64(o&0x7f)
		if o&0x80 != 0 {
			continue
		}
		if len(oid) == 1 { // the first two arcs share one number (X.690 §8.19.4)
			first := min(arc/40, 2)
			oid[0] = int(first)
			arc -= first * 40
		}
		oid = append(oid, int(arc))
		arc = 0
	}
	return oid, nil
}

// OctetString reads an octet string under tag t. The constructed form of the
// same tag, which only BER has (X.690 §8.7.3), is joined; the result points
// into the input otherwise.
func (r *Reader) OctetString(t Tag) ([]byte, error) {
	t.Constructed = false
	got, ok := r.Peek()
	if !ok || !got.Constructed {
		e, err := r.Expect(t)
		return e.Content, err
	}
	t.Constructed = true
	e, err := r.Expect(t)
	if err != nil {
		return nil, err
	}
	in, err := r.Into(e)
	if err != nil {
		return nil, err
	}
	return in.join(nil)
}

// join appends the content of every OCTET STRING that is left, segments of
// segments included; the depth limit bounds the recursion.
func (r *Reader) join(dst []byte) ([]byte, error) {
	for !r.Empty() {
		e, err := r.Next()
		if err != nil {
			return nil, err
		}
		switch {
		case e.Tag == OctetString:
			dst = append(dst, e.Content...)
		case e.Tag.Class == Universal && e.Tag.Number == OctetString.Number:
			in, err := r.Into(e)
			if err != nil {
				return nil, err
			}
			if dst, err = in.join(dst); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("%w: %s inside an octet string", ErrSyntax, e.Tag)
		}
	}
	return dst, nil
}
