package smtpserver

// lineState is where in a line the last octet of a message left us.
type lineState uint8

const (
	lineStart  lineState = iota // after CR LF, or before the first octet
	inText                      // somewhere in a line
	afterCR                     // after a CR that must be followed by LF
	afterDot                    // after a dot that opens a line
	afterDotCR                  // after such a dot and a CR
)

// dotScanner finds the end of a message sent with DATA. The zero value is ready:
// a message starts at a line start, the CR LF being that of the command itself.
type dotScanner struct{ state lineState }

// scan reads b up to the end of the message. It returns how many octets of b
// belong to the message, terminator included, and whether the terminator was
// seen. ok is false if b[n] breaks the rules for line ends.
//
// RFC 5321 §4.1.1.4: only CR LF . CR LF ends the data, and §2.3.8: CR and LF
// occur only together.
func (s *dotScanner) scan(b []byte) (n int, end, ok bool) {
	for i, c := range b {
		switch {
		case c == 0:
			return i, false, false
		case c == '\n':
			switch s.state {
			case afterCR:
				s.state = lineStart
			case afterDotCR:
				return i + 1, true, true
			default:
				return i, false, false
			}
		case s.state == afterCR || s.state == afterDotCR:
			return i, false, false
		case c == '\r':
			if s.state == afterDot {
				s.state = afterDotCR
			} else {
				s.state = afterCR
			}
		case c == '.' && s.state == lineStart:
			s.state = afterDot
		default:
			s.state = inText
		}
	}
	return len(b), false, true
}

// chunkScanner turns octets sent with BDAT, which are not dot-stuffed, into
// DATA form. The zero value is ready.
type chunkScanner struct{ state lineState }

// scan appends b to dst with a dot doubled at each line start. ok is false if
// b breaks the rules for line ends: without BINARYMIME, which is not offered,
// they hold in chunks as well (RFC 3030 §3).
func (s *chunkScanner) scan(dst, b []byte) (out []byte, ok bool) {
	for _, c := range b {
		switch {
		case c == 0:
			return dst, false
		case c == '\n':
			if s.state != afterCR {
				return dst, false
			}
			s.state = lineStart
		case s.state == afterCR:
			return dst, false
		case c == '\r':
			s.state = afterCR
		default:
			if c == '.' && s.state == lineStart {
				dst = append(dst, '.')
			}
			s.state = inText
		}
		dst = append(dst, c)
	}
	return dst, true
}

// finish appends the terminator, after completing a last line that lacks its
// CR LF. ok is false if the message stops between CR and LF.
func (s *chunkScanner) finish(dst []byte) (out []byte, ok bool) {
	switch s.state {
	case afterCR:
		return dst, false
	case inText:
		dst = append(dst, "\r\n"...)
	}
	return append(dst, ".\r\n"...), true
}
