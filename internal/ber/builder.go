package ber

import (
	"encoding/asn1"
	"math/bits"
)

// AppendTLV appends one element with a minimal definite length.
func AppendTLV(dst []byte, t Tag, content []byte) []byte {
	return append(AppendHeader(dst, t, len(content)), content...)
}

// AppendHeader appends tag and length of an element whose content of length
// octets follows.
func AppendHeader(dst []byte, t Tag, length int) []byte {
	return appendLength(appendTag(dst, t), length)
}

func appendTag(dst []byte, t Tag) []byte {
	first := byte(t.Class) << 6
	if t.Constructed {
		first |= 0x20
	}
	if t.Number < 0x1f {
		return append(dst, first|byte(t.Number))
	}
	dst = append(dst, first|0x1f)
	for shift := (bits.Len32(t.Number) - 1) / 7 * 7; shift > 0; shift -= 7 {
		dst = append(dst, 0x80|byte(t.Number>>shift)&0x7f)
	}
	return append(dst, byte(t.Number)&0x7f)
}

func appendLength(dst []byte, n int) []byte {
	if n < 0x80 {
		return append(dst, byte(n))
	}
	octets := (bits.Len(uint(n)) + 7) / 8
	dst = append(dst, 0x80|byte(octets))
	for i := octets - 1; i >= 0; i-- {
		dst = append(dst, byte(n>>(8*i)))
	}
	return dst
}

// Builder writes nested elements with minimal definite lengths. The zero value
// is ready for use.
type Builder struct {
	buf  []byte
	open []int // for every open element: where its content begins
}

// Begin opens a constructed (or wrapping) element; End closes it.
func (b *Builder) Begin(t Tag) {
	b.buf = appendTag(b.buf, t)
	b.open = append(b.open, len(b.buf))
}

// End closes the element opened last. The length is put in front of the
// content by moving it: messages are small, and lengths are then minimal.
func (b *Builder) End() {
	start := b.open[len(b.open)-1]
	b.open = b.open[:len(b.open)-1]
	n := len(b.buf) - start
	var length [8]byte
	l := appendLength(length[:0], n)
	b.buf = append(b.buf, l...)
	copy(b.buf[start+len(l):], b.buf[start:start+n])
	copy(b.buf[start:], l)
}

// Bytes appends a primitive element.
func (b *Builder) Bytes(t Tag, content []byte) { b.buf = AppendTLV(b.buf, t, content) }

// Text appends a primitive element of text.
func (b *Builder) Text(t Tag, content string) {
	b.buf = append(AppendHeader(b.buf, t, len(content)), content...)
}

// Raw appends octets that are encoded already.
func (b *Builder) Raw(encoded []byte) { b.buf = append(b.buf, encoded...) }

// Bool appends a BOOLEAN; true is 0xff, as DER and LDAP demand (X.690 §11.1,
// RFC 4511 §5.1).
func (b *Builder) Bool(t Tag, v bool) {
	octet := byte(0)
	if v {
		octet = 0xff
	}
	b.Bytes(t, []byte{octet})
}

// Int appends an INTEGER or ENUMERATED in the fewest octets (X.690 §8.3.2).
func (b *Builder) Int(t Tag, v int64) {
	n := 1
	for x := v; x > 127 || x < -128; x >>= 8 {
		n++
	}
	b.buf = AppendHeader(b.buf, t, n)
	for i := n - 1; i >= 0; i-- {
		b.buf = append(b.buf, byte(v>>(8*i)))
	}
}

// OID appends an OBJECT IDENTIFIER (X.690 §8.19). The identifier must have two
// arcs or more.
func (b *Builder) OID(oid asn1.ObjectIdentifier) {
	content := appendArc(nil, uint64(oid[0])*40+uint64(oid[1]))
	for _, arc := range oid[2:] {
		content = appendArc(content, uint64(arc))
	}
	b.Bytes(ObjectID, content)
}

func appendArc(dst []byte, v uint64) []byte {
	for shift := (bits.Len64(v|1) - 1) / 7 * 7; shift > 0; shift -= 7 {
		dst = append(dst, 0x80|byte(v>>shift)&0x7f)
	}
	return append(dst, byte(v)&0x7f)
}

// Encoded gives what was written. All elements must be closed.
func (b *Builder) Encoded() []byte { return b.buf }

// Reset empties the builder and keeps its memory.
func (b *Builder) Reset() { b.buf, b.open = b.buf[:0], b.open[:0] }
