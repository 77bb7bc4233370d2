package revocation

import (
	"errors"
	"fmt"
	"hash"
	"io"
)

// source reads DER from a stream: a window moves over the octets, and what leaves it goes into a digest.
type source struct {
	r      io.Reader
	buf    []byte
	lo, hi int   // what has been read and not consumed
	mark   int   // consumed up to here and not digested; -1 = nothing is to be digested
	taken  int64 // octets read from r
	sum    hash.Hash
	eof    bool
	idle   int // reads that gave nothing
}

// maxIdle is how often a reader may give nothing at all, as bufio has it.
const maxIdle = 100

var (
	errShort = errors.New("it ends too early")
	errLarge = fmt.Errorf("it has more than %d octets", maxCRL)
)

func newSource(r io.Reader) *source { return &source{r: r, buf: make([]byte, window), mark: -1} }

// need gives the next n octets without consuming them. They are valid until the next call.
func (s *source) need(n int) ([]byte, error) {
	for s.hi-s.lo < n {
		if err := s.fill(n); err != nil {
			return nil, err
		}
	}
	return s.buf[s.lo : s.lo+n], nil
}

// fill reads more, with room for n octets.
func (s *source) fill(n int) error {
	if n > len(s.buf)/2 {
		return fmt.Errorf("a field of %d octets", n)
	}
	if s.eof {
		return errShort
	}
	if s.hi == len(s.buf) {
		s.digest()
		copy(s.buf, s.buf[s.lo:s.hi])
		s.hi -= s.lo
		s.lo = 0
		if s.mark >= 0 {
			s.mark = 0
		}
	}
	got, err := s.r.Read(s.buf[s.hi:])
	if got == 0 && err == nil {
		if s.idle++; s.idle > maxIdle {
			return io.ErrNoProgress
		}
	}
	s.hi += got
	if s.taken += int64(got); s.taken > maxCRL {
		return errLarge
	}
	if errors.Is(err, io.EOF) {
		s.eof = true
		return nil
	}
	return err
}

// digest feeds what was consumed.
func (s *source) digest() {
	if s.mark >= 0 && s.sum != nil {
		s.sum.Write(s.buf[s.mark:s.lo])
		s.mark = s.lo
	}
}

// begin starts what is to be digested here. The digest itself is known a little later, by use.
func (s *source) begin() { s.mark = s.lo }

// use gives the digest, while all that begin marked is still in the window.
func (s *source) use(h hash.Hash) { s.sum = h }

// end ends what is digested.
func (s *source) end() {
	s.digest()
	s.mark = -1
}

// skip consumes octets that need has given.
func (s *source) skip(n int) { s.lo += n }

// header is the tag and length of an element.
type header struct {
	tag    byte
	length int
	size   int // octets of tag and length
}

// peek reads the next header without consuming it. Lengths are definite (X.690 §10.1); that they are minimal does not matter to anybody.
func (s *source) peek() (header, error) {
	b, err := s.need(2)
	if err != nil {
		return header{}, err
	}
	h := header{tag: b[0], length: int(b[1]), size: 2}
	if h.tag&0x1f == 0x1f {
		return h, errors.New("a tag of several octets")
	}
	if b[1] < 0x80 {
		return h, nil
	}
	n := int(b[1] & 0x7f)
	if n == 0 || n > 4 {
		return h, errors.New("a length that no list has")
	}
	if b, err = s.need(2 + n); err != nil {
		return h, err
	}
	h.length, h.size = 0, 2+n
	for _, c := range b[2:] {
		h.length = h.length<<8 | int(c)
	}
	if h.length > maxCRL {
		return h, errLarge
	}
	return h, nil
}

// open consumes the header of a constructed element with this tag and gives the length of its content.
func (s *source) open(tag byte, what string) (int, error) {
	h, err := s.peek()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	if h.tag != tag {
		return 0, fmt.Errorf("%s: tag %#x where %#x must stand", what, h.tag, tag)
	}
	s.skip(h.size)
	return h.length, nil
}

// whole consumes an element of at most limit octets and gives it with its header. It is valid until the next call.
func (s *source) whole(limit int, what string) (raw []byte, h header, err error) {
	if h, err = s.peek(); err != nil {
		return nil, h, fmt.Errorf("%s: %w", what, err)
	}
	if h.size+h.length > limit {
		return nil, h, fmt.Errorf("%s: %d octets, at most %d", what, h.size+h.length, limit)
	}
	if raw, err = s.need(h.size + h.length); err != nil {
		return nil, h, fmt.Errorf("%s: %w", what, err)
	}
	s.skip(len(raw))
	return raw, h, nil
}

// place is how many octets have been consumed.
func (s *source) place() int64 { return s.taken - int64(s.hi-s.lo) }
