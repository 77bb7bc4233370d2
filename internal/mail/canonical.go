package mail

import "bytes"

// Canonical gives b with every line end as CRLF, the form that is signed and
// hashed (RFC 5751 §3.1.1, RFC 1847 §2.1). Nothing else changes: trailing white
// space stays, a CR without LF is no line end and stays. Where there is nothing
// to change the result is b itself, not a copy.
func Canonical(b []byte) []byte {
	bare := bareLF(b)
	if bare == 0 {
		return b
	}
	out := make([]byte, 0, len(b)+bare)
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			break
		}
		out = append(out, b[:i]...)
		if i == 0 || b[i-1] != '\r' {
			out = append(out, '\r')
		}
		out = append(out, '\n')
		b = b[i+1:]
	}
	return append(out, b...)
}

// bareLF counts line ends that lack their CR.
func bareLF(b []byte) int {
	return bytes.Count(b, []byte("\n")) - bytes.Count(b, []byte("\r\n"))
}

// Traits is what decides how octets may travel (RFC 2045 §2.7 to §2.9).
type Traits struct {
	EightBit bool // an octet above 127
	Long     bool // a line over 998 octets (RFC 5322 §2.1.1)
	BareLF   bool // LF without CR
	BareCR   bool // CR without LF
	NUL      bool
}

// Encoding is the transfer encoding that states the traits without changing an
// octet: 7bit, 8bit or binary (RFC 2045 §6.2).
func (t Traits) Encoding() string {
	switch {
	case t.Long || t.BareLF || t.BareCR || t.NUL:
		return "binary"
	case t.EightBit:
		return "8bit"
	}
	return "7bit"
}

// TraitsOf looks at every octet once.
func TraitsOf(b []byte) Traits {
	var t Traits
	for at := 0; at < len(b); {
		next, text := line(b, at)
		t.Long = t.Long || len(text) > maxLine
		t.BareLF = t.BareLF || next-at == len(text)+1 && b[next-1] == '\n'
		t.BareCR = t.BareCR || bytes.IndexByte(text, '\r') >= 0
		at = next
	}
	t.NUL = bytes.IndexByte(b, 0) >= 0
	for _, c := range b {
		if c >= 0x80 {
			t.EightBit = true
			break
		}
	}
	return t
}
