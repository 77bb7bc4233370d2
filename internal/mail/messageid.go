package mail

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// MessageID gives the identifier of a Message-ID, Original-Message-ID or
// In-Reply-To value without its angle brackets (RFC 5322 §3.6.4). Reports in
// the wild leave the brackets out or surround them with words; the first pair
// of brackets counts, else the whole value. It is no identifier if nothing is
// left, or anything but printable ASCII or another bracket is inside.
func MessageID(v string) (string, bool) {
	if i := openingBracket(v); i >= 0 {
		inside, _, ok := strings.Cut(v[i+1:], ">")
		if !ok {
			return "", false
		}
		v = inside // a parenthesis in here opens no comment
	} else {
		v = stripComments(v)
	}
	v = strings.TrimSpace(v)
	if v == "" || len(v) > maxMessageID {
		return "", false
	}
	for i := range len(v) {
		if c := v[i]; c <= ' ' || c > '~' || c == '<' || c == '>' {
			return "", false
		}
	}
	return v, true
}

// openingBracket is where the first "<" outside comments stands, -1 for none. An
// open comment is none.
func openingBracket(v string) int {
	for i := 0; i < len(v); i++ {
		switch v[i] {
		case '<':
			return i
		case '(':
			n, ok := commentLength(v[i:])
			if !ok {
				if at := strings.IndexByte(v[i:], '<'); at >= 0 {
					return i + at
				}
				return -1
			}
			i += n - 1
		}
	}
	return -1
}

// NewMessageID makes "<…@host>" (RFC 5322 §3.6.4). A seed makes it a function
// of the seed, so that a report that is composed again after a crash is the same
// report; without one it is random.
func NewMessageID(host string, seed []byte) string {
	var id [16]byte
	if seed == nil {
		rand.Read(id[:])
	} else {
		sum := sha256.Sum256(seed)
		copy(id[:], sum[:])
	}
	return "<" + hex.EncodeToString(id[:]) + "@" + host + ">"
}

// NewBoundary makes a boundary (RFC 2046 §5.1.1), random or, with a seed, a
// function of it: 160 bits that nobody who writes the content can foresee or,
// where the seed covers the content, arrange. The characters need neither quotes
// nor an escape, and none is a colon.
func NewBoundary(seed []byte) string {
	var id [20]byte
	if seed == nil {
		rand.Read(id[:])
	} else {
		sum := sha256.Sum256(append([]byte("boundary:"), seed...))
		copy(id[:], sum[:])
	}
	return "dn-" + hex.EncodeToString(id[:])
}
