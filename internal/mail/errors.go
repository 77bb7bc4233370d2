package mail

import "fmt"

// ErrUnterminated comes back, together with the parts found so far, for a
// multipart without its close delimiter: it was cut, or never was whole.
var ErrUnterminated = malformed("RFC 2046 §5.1.1", "multipart without its close delimiter")

// Error says which rule of a format the octets break. It never quotes them:
// they may be health information.
type Error struct {
	Citation string // the document and section of the rule
	Detail   string // what is wrong, in words
}

func (e *Error) Error() string { return "malformed mail: " + e.Detail + " (" + e.Citation + ")" }

func malformed(citation, format string, args ...any) *Error {
	return &Error{Citation: citation, Detail: fmt.Sprintf(format, args...)}
}
