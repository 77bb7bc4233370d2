package smtpclient

import (
	"bytes"
	"errors"
	"io"
)

var (
	errBareLineEnd = errors.New("bare CR or LF about to leave")
	errNUL         = errors.New("message holds a NUL octet")
)

// traits are what must be known of a message before MAIL.
type traits struct {
	size     int64 // RFC 1870 §5: octets with CR LF, without dots doubled and terminator
	eightBit bool  // some octet is above 127
}

// inspect reads a message to its end.
func inspect(open func() (io.ReadCloser, error)) (traits, error) {
	body, err := open()
	if err != nil {
		return traits{}, err
	}
	defer body.Close()
	var t traits
	var e encoder
	e.plain = true
	in, out := make([]byte, blockSize), make([]byte, 0, 2*blockSize)
	for {
		n, err := body.Read(in)
		out = e.encode(out[:0], in[:n])
		t.size += int64(len(out))
		for _, c := range out {
			switch {
			case c == 0:
				// RFC 5321 §4.5.2 has text; servers cut messages at a NUL.
				return traits{}, errNUL
			case c > 127:
				t.eightBit = true
			}
		}
		if errors.Is(err, io.EOF) {
			t.size += int64(len(e.complete(nil)))
			return t, nil
		}
		if err != nil {
			return traits{}, err
		}
	}
}

// encoder brings a message into the form of DATA (RFC 5321 §4.1.1.4, §4.5.2):
// every line end, CR LF or bare CR or bare LF, becomes CR LF, a dot that opens a
// line is doubled, and a dot on its own line ends it. The zero value is ready.
type encoder struct {
	plain  bool // do not double dots
	inLine bool // the last octet was not a line end
	wasCR  bool // it was a CR, and an LF would belong to it
}

// encode appends the form of b to dst. Its result has only whole CR LFs.
func (e *encoder) encode(dst, b []byte) []byte {
	for _, c := range b {
		switch {
		case c == '\n' && e.wasCR:
		case c == '\n', c == '\r':
			dst = append(dst, '\r', '\n')
			e.inLine = false
		default:
			if c == '.' && !e.inLine && !e.plain {
				dst = append(dst, '.')
			}
			dst = append(dst, c)
			e.inLine = true
		}
		e.wasCR = c == '\r'
	}
	return dst
}

// complete ends the last line.
func (e *encoder) complete(dst []byte) []byte {
	if e.inLine {
		dst = append(dst, '\r', '\n')
	}
	return dst
}

// finish ends the message.
func (e *encoder) finish(dst []byte) []byte { return append(e.complete(dst), ".\r\n"...) }

// cleanLines says whether CR and LF occur only together. It guards the wire
// against a mistake here: a bare one could make a careless server see the end
// of a message where there is none.
func cleanLines(b []byte) bool {
	n := bytes.Count(b, []byte("\r\n"))
	return bytes.Count(b, []byte("\r")) == n && bytes.Count(b, []byte("\n")) == n
}
