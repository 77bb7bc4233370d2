package mail

import (
	"bytes"
	"strings"
)

// Field is one header field with the octets it came in.
type Field struct {
	Name string // as written, without the white space that RFC 5322 §4.5 once allowed before the colon
	Raw  []byte // the whole field: name, colon, value, every line end
}

// Value is the unfolded value without white space around it (RFC 5322 §2.2.3:
// unfolding removes each line end that is followed by white space).
func (f Field) Value() string {
	_, v, _ := bytes.Cut(f.Raw, []byte(":"))
	return strings.Trim(lineEnds.Replace(string(v)), " \t")
}

var lineEnds = strings.NewReplacer("\r\n", "", "\n", "")

// Header is the fields of a message or part in their order.
type Header []Field

// Get is the value of the first field of that name, "" if there is none. Names
// compare without regard to case (RFC 5322 §1.2.2).
func (h Header) Get(name string) string {
	for _, f := range h {
		if strings.EqualFold(f.Name, name) {
			return f.Value()
		}
	}
	return ""
}

// All is the values of all fields of that name, in order.
func (h Header) All(name string) []string {
	var all []string
	for _, f := range h {
		if strings.EqualFold(f.Name, name) {
			all = append(all, f.Value())
		}
	}
	return all
}

// Has tells whether there is a field of that name.
func (h Header) Has(name string) bool {
	for _, f := range h {
		if strings.EqualFold(f.Name, name) {
			return true
		}
	}
	return false
}

// One is the value of a field that may stand at most once (RFC 5322 §3.6).
// Two of them are an error: readers disagree about which one counts, and an
// attacker chooses the readers.
func (h Header) One(name string) (value string, present bool, err error) {
	all := h.All(name)
	switch len(all) {
	case 0:
		return "", false, nil
	case 1:
		return all[0], true, nil
	}
	return "", true, malformed("RFC 5322 §3.6", "%d fields named %s", len(all), name)
}

// IsContent tells the fields that describe the body (RFC 2045 §3): all whose
// name begins with "Content-". They belong to the entity, the others to the
// message.
func (f Field) IsContent() bool {
	const prefix = "content-"
	return len(f.Name) >= len(prefix) && strings.EqualFold(f.Name[:len(prefix)], prefix)
}

// Split cuts a message, or the octets of a body part, into header and body.
// The empty line between belongs to neither; a message without one is all
// header (RFC 5322 §3.5: the body is optional). Line ends are CRLF, or LF
// alone as in files. Every Raw and the body are slices of msg. Errors are
// *Error.
func Split(msg []byte) (Header, []byte, error) {
	var h Header
	for at := 0; at < len(msg); {
		end, text := line(msg, at)
		if end > MaxHeaderBytes {
			return nil, nil, malformed("RFC 5322 §2.1", "header longer than %d octets", MaxHeaderBytes)
		}
		if len(text) == 0 {
			return h, msg[end:], nil
		}
		if bytes.ContainsAny(text, "\r\x00") {
			// RFC 5322 §2.2: CR only before LF, NUL never. Readers that take a
			// bare CR for a line end would see other fields than we do.
			return nil, nil, malformed("RFC 5322 §2.2", "bare CR or NUL in the header")
		}
		if text[0] == ' ' || text[0] == '\t' {
			if len(h) == 0 {
				return nil, nil, malformed("RFC 5322 §2.2.3", "the header begins with a continuation line")
			}
			last := &h[len(h)-1]
			last.Raw = msg[at-len(last.Raw) : end]
			at = end
			continue
		}
		name, ok := fieldName(text)
		if !ok {
			return nil, nil, malformed("RFC 5322 §2.2", "line %d of the header is no field", len(h)+1)
		}
		if len(h) == MaxFields {
			return nil, nil, malformed("RFC 5322 §2.2", "more than %d header fields", MaxFields)
		}
		h = append(h, Field{Name: name, Raw: msg[at:end]})
		at = end
	}
	return h, nil, nil
}

// line finds the line that begins at at: where the next one begins, and its
// text without the line end.
func line(b []byte, at int) (next int, text []byte) {
	i := bytes.IndexByte(b[at:], '\n')
	if i < 0 {
		return len(b), b[at:]
	}
	text = b[at : at+i]
	if n := len(text); n > 0 && text[n-1] == '\r' {
		text = text[:n-1]
	}
	return at + i + 1, text
}

// fieldName reads RFC 5322 §3.6.8 field-name: printable ASCII except the colon.
// §4.5 (obsolete): white space may stand between name and colon.
func fieldName(text []byte) (string, bool) {
	name, _, ok := bytes.Cut(text, []byte(":"))
	name = bytes.TrimRight(name, " \t")
	if !ok || len(name) == 0 {
		return "", false
	}
	for _, c := range name {
		if c <= ' ' || c > '~' {
			return "", false
		}
	}
	return string(name), true
}
