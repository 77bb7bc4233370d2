package mail

import (
	"mime"
	"strings"
	"time"

	"directnode/internal/direct"
)

// Builder composes a message or a part: fields in the order they are added,
// folded, with CRLF, then the body. What is not well-formed is an error of Bytes
// and never a field: no value can end its line and begin another field. The
// zero value is an empty message.
type Builder struct {
	buf  []byte
	body bool
	err  error
}

// Add adds a field whose value is printable ASCII. It is folded at white space
// to lines of 78 characters where it has any (RFC 5322 §2.2.3).
func (b *Builder) Add(name, value string) {
	if !validName(name) {
		b.fail("RFC 5322 §3.6.8", "a field name that is none")
		return
	}
	for i := range len(value) {
		if c := value[i]; c != '\t' && (c < ' ' || c > '~') {
			b.fail("RFC 5322 §2.2", "a control or 8-bit character in field %s", name)
			return
		}
	}
	b.fold(name, value)
}

// AddText adds a field of free text (RFC 5322 §2.2.1): OneLine, folded, with
// text beyond ASCII as encoded words (RFC 2047). A reader that unfolds and
// decodes gets the words back.
func (b *Builder) AddText(name, text string) {
	text = OneLine(text)
	if !isASCII(text) {
		text = mime.QEncoding.Encode("utf-8", text)
	}
	b.Add(name, text)
}

// OneLine makes one line of any text: line ends, white space and other controls
// between words become one space, octets that are no UTF-8 become "?", and a
// word that no line could hold (RFC 5322 §2.1.1) is cut.
func OneLine(text string) string {
	words := strings.FieldsFunc(strings.ToValidUTF8(text, "?"), func(r rune) bool { return r <= ' ' || r == 0x7f })
	for i, w := range words {
		if len(w) > maxWord && isASCII(w) {
			words[i] = cutWord(w)
		}
	}
	return strings.Join(words, " ")
}

func cutWord(w string) string {
	var b strings.Builder
	for len(w) > maxWord {
		b.WriteString(w[:maxWord])
		b.WriteByte(' ')
		w = w[maxWord:]
	}
	b.WriteString(w)
	return b.String()
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// DecodeText undoes AddText on an unfolded value: encoded words become the text
// they stand for (RFC 2047 §6). What cannot be decoded stays as it is.
func DecodeText(value string) string {
	if text, err := new(mime.WordDecoder).DecodeHeader(value); err == nil {
		return text
	}
	return value
}

// AddAddresses adds a field with bare addr-specs (RFC 5322 §3.4.1).
func (b *Builder) AddAddresses(name string, list ...direct.Address) {
	specs := make([]string, len(list))
	for i, a := range list {
		if a.IsZero() {
			b.fail("RFC 5322 §3.4", "an empty address in field %s", name)
			return
		}
		specs[i] = a.String()
	}
	b.Add(name, strings.Join(specs, ", "))
}

// AddDate adds a Date field or its like (RFC 5322 §3.3), with a numeric zone.
func (b *Builder) AddDate(name string, at time.Time) { b.Add(name, FormatDate(at)) }

// FormatDate is RFC 5322 §3.3 date-time with a numeric zone.
func FormatDate(at time.Time) string { return at.Format("Mon, 02 Jan 2006 15:04:05 -0700") }

// AddField adds a field that was read, octet by octet but with CRLF.
func (b *Builder) AddField(f Field) {
	if b.body {
		b.fail("RFC 5322 §2.1", "a field after the body has begun")
		return
	}
	raw := Canonical(f.Raw)
	b.buf = append(b.buf, raw...)
	if len(raw) == 0 || raw[len(raw)-1] != '\n' {
		b.buf = append(b.buf, '\r', '\n')
	}
}

// Body ends the header, if it is still open, and adds octets as they are.
func (b *Builder) Body(octets ...[]byte) {
	if !b.body {
		b.body = true
		b.buf = append(b.buf, '\r', '\n')
	}
	for _, o := range octets {
		b.buf = append(b.buf, o...)
	}
}

// Bytes gives what was composed, or the first error (*Error).
func (b *Builder) Bytes() ([]byte, error) {
	if b.err != nil {
		return nil, b.err
	}
	return b.buf, nil
}

func (b *Builder) fail(citation, format string, args ...any) {
	if b.err == nil {
		b.err = malformed(citation, format, args...)
	}
}

// fold writes the field. RFC 5322 §2.2.3: a line end may stand before any
// white space of the value; lines should keep to 78 characters and must keep to 998 (§2.1.1).
func (b *Builder) fold(name, value string) {
	if b.body {
		b.fail("RFC 5322 §2.1", "a field after the body has begun")
		return
	}
	line := name + ":"
	space := " " // the white space before the next word; RFC 5322 §2.2.3: unfolding gives it back
	for rest := strings.Trim(value, " \t"); rest != ""; {
		word := rest // the next run without white space
		after := ""
		if i := strings.IndexAny(rest, " \t"); i >= 0 {
			word, rest = rest[:i], rest[i:]
			n := len(rest) - len(strings.TrimLeft(rest, " \t"))
			after, rest = rest[:n], rest[n:]
		} else {
			rest = ""
		}
		if len(line)+len(space)+len(word) > foldedLine && line != name+":" {
			b.buf = append(append(b.buf, line...), '\r', '\n')
			line = ""
		}
		line += space + word
		space = after
		if len(line) > maxLine {
			b.fail("RFC 5322 §2.1.1", "field %s has a word of %d characters", name, len(word))
			return
		}
	}
	b.buf = append(append(b.buf, line...), '\r', '\n')
}

func validName(name string) bool {
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c > '~' || c == ':' {
			return false
		}
	}
	return name != "" && len(name) <= foldedLine-2
}
