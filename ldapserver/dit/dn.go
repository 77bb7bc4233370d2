package dit

import (
	"encoding/hex"
	"errors"
	"fmt"
	"sort"
	"strings"

	"directnode/internal/ber"
	"directnode/internal/direct"
)

// ErrDN is wrapped by the errors about names that are not RFC 4514.
var ErrDN = errors.New("not a distinguished name")

const (
	// maxDN bounds a name that is parsed. The longest name here has a local
	// part of 64 octets, each escaped by three, and 127 labels.
	maxDN = 2048
	// maxRDNs is one more than the labels that a domain name can have.
	maxRDNs = 128
)

// escapeValue writes an attribute value as RFC 4514 §2.4 wants it: specials
// and the leading and trailing ones behind a backslash, octets outside of
// printable ASCII in hexadecimal.
func escapeValue(v string) string { return string(appendEscaped(nil, []byte(v))) }

// appendEscaped is escapeValue for callers with a buffer.
func appendEscaped(dst, v []byte) []byte {
	done := 0
	for i, c := range v {
		edge := i == 0 || i == len(v)-1
		if c > ' ' && !specials[c] || c == ' ' && !edge || c == '#' && i > 0 {
			continue
		}
		dst = append(dst, v[done:i]...)
		done = i + 1
		if c < ' ' || c > '~' {
			dst = fmt.Appendf(dst, `\%02x`, c)
		} else {
			dst = append(dst, '\\', c)
		}
	}
	return append(dst, v[done:]...)
}

// specials are the octets above the space that may need an escape. It never
// changes.
var specials = func() (set [256]bool) {
	for _, c := range []byte(`#"+,;<>\`) {
		set[c] = true
	}
	for c := 0x7f; c < 0x100; c++ {
		set[c] = true
	}
	return set
}()

// contextDN is the name of a domain's naming context (RFC 2247 §2).
func contextDN(d direct.Domain) string {
	return "dc=" + strings.ReplaceAll(d.String(), ".", ",dc=")
}

// canonical brings a name to the form in which names compare: attribute types
// by their short names in lower case, values folded (all naming attributes
// here ignore case and runs of spaces), every special in hexadecimal, so that
// a comma always separates. It reads RFC 4514 §3 and, beyond it, spaces around
// separators and ';' between RDNs, which RFC 2253 §4 tells readers to take.
func canonical(dn []byte) (string, error) {
	if len(dn) > maxDN {
		return "", fmt.Errorf("%w: longer than %d octets", ErrDN, maxDN)
	}
	p := dnParser{rest: string(dn)}
	p.space()
	if p.rest == "" {
		return "", nil
	}
	var out strings.Builder
	for n := 1; ; n++ {
		if n > maxRDNs {
			return "", fmt.Errorf("%w: more than %d components", ErrDN, maxRDNs)
		}
		rdn, err := p.rdn()
		if err != nil {
			return "", err
		}
		out.WriteString(rdn)
		if p.rest == "" {
			return out.String(), nil
		}
		p.rest = p.rest[1:] // the separator that rdn stopped at
		out.WriteByte(',')
	}
}

type dnParser struct{ rest string }

func (p *dnParser) space() { p.rest = strings.TrimLeft(p.rest, " ") }

// rdn reads one relative name, several values sorted, up to ',' or ';' or the
// end.
func (p *dnParser) rdn() (string, error) {
	var parts []string
	for {
		part, err := p.typeAndValue()
		if err != nil {
			return "", err
		}
		parts = append(parts, part)
		if p.rest == "" || p.rest[0] != '+' {
			sort.Strings(parts)
			return strings.Join(parts, "+"), nil
		}
		p.rest = p.rest[1:]
	}
}

func (p *dnParser) typeAndValue() (string, error) {
	p.space()
	at := strings.IndexByte(p.rest, '=')
	if at < 0 {
		return "", fmt.Errorf("%w: no '=' in a component", ErrDN)
	}
	name := strings.TrimRight(p.rest[:at], " ")
	if name == "" || strings.ContainsAny(name, `,+;"\<>#; `) {
		return "", fmt.Errorf("%w: attribute type %.20q", ErrDN, name)
	}
	p.rest = p.rest[at+1:]
	p.space()
	value, err := p.value()
	if err != nil {
		return "", err
	}
	return canonicalType(name) + "=" + canonicalValue(value), nil
}

func canonicalType(name string) string {
	if d, ok := Describe([]byte(name)); ok && !d.Binary {
		for _, row := range attributeTable {
			if d.Attrs == bit(row.attr) {
				return foldString(row.names[0])
			}
		}
	}
	return foldString(name)
}

// value reads an attribute value in any of its three forms and stops at the
// separator behind it.
func (p *dnParser) value() (string, error) {
	switch {
	case strings.HasPrefix(p.rest, "#"):
		return p.hexValue()
	case strings.HasPrefix(p.rest, `"`):
		return p.quotedValue()
	}
	var b strings.Builder
	keep := 0 // octets that trailing-space removal must leave: escaped spaces count
	for i := 0; i < len(p.rest); i++ {
		c := p.rest[i]
		switch {
		case strings.IndexByte(",;+", c) >= 0:
			p.rest = p.rest[i:]
			return b.String()[:keep], nil
		case c == '\\':
			octet, used, err := unescapeDN(p.rest[i+1:])
			if err != nil {
				return "", err
			}
			b.WriteByte(octet)
			keep = b.Len()
			i += used
		case strings.IndexByte("\"<>\x00", c) >= 0:
			return "", fmt.Errorf("%w: character %q must be escaped", ErrDN, c)
		default:
			b.WriteByte(c)
			if c != ' ' {
				keep = b.Len()
			}
		}
	}
	p.rest = ""
	return b.String()[:keep], nil
}

// quotedValue reads the form of RFC 1779 and RFC 2253 §4.
func (p *dnParser) quotedValue() (string, error) {
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; c {
		case '"':
			p.rest = p.rest[i+1:]
			return b.String(), p.separator()
		case '\\':
			octet, used, err := unescapeDN(p.rest[i+1:])
			if err != nil {
				return "", err
			}
			b.WriteByte(octet)
			i += used
		default:
			b.WriteByte(c)
		}
	}
	return "", fmt.Errorf("%w: open quotation mark", ErrDN)
}

// hexValue reads '#' and the BER encoding of a string (RFC 4514 §2.4).
func (p *dnParser) hexValue() (string, error) {
	end := strings.IndexAny(p.rest, ",;+ ")
	if end < 0 {
		end = len(p.rest)
	}
	encoded, err := hex.DecodeString(p.rest[1:end])
	if err != nil {
		return "", fmt.Errorf("%w: hexadecimal value", ErrDN)
	}
	r := ber.NewReader(encoded, ber.Limits{})
	e, err := r.Next()
	if err != nil || !r.Empty() || e.Tag.Constructed {
		return "", fmt.Errorf("%w: hexadecimal value is not one string", ErrDN)
	}
	p.rest = p.rest[end:]
	return string(e.Content), p.separator()
}

// separator skips spaces and demands the end or a separator.
func (p *dnParser) separator() error {
	p.space()
	if p.rest != "" && strings.IndexByte(",;+", p.rest[0]) < 0 {
		return fmt.Errorf("%w: text behind a value", ErrDN)
	}
	return nil
}

// unescapeDN reads what follows a backslash (RFC 4514 §3 pair).
func unescapeDN(s string) (octet byte, used int, err error) {
	if s == "" {
		return 0, 0, fmt.Errorf("%w: ends in a backslash", ErrDN)
	}
	if strings.IndexByte(`\"+,;<>=# `, s[0]) >= 0 {
		return s[0], 1, nil
	}
	if len(s) < 2 {
		return 0, 0, fmt.Errorf("%w: unknown escape", ErrDN)
	}
	b, err := hex.DecodeString(s[:2])
	if err != nil {
		return 0, 0, fmt.Errorf("%w: unknown escape", ErrDN)
	}
	return b[0], 2, nil
}

func canonicalValue(v string) string {
	var b strings.Builder
	space := false
	for _, c := range []byte(strings.Trim(v, " ")) {
		if c == ' ' {
			space = true
			continue
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		if strings.IndexByte(`"+,;<>\=#`, c) >= 0 || c < ' ' || c > '~' {
			fmt.Fprintf(&b, `\%02x`, c)
			continue
		}
		b.WriteByte(lower(c))
	}
	return b.String()
}

// firstValue is the value in the first component of a name as it was written,
// without its escapes; empty where there is none.
func firstValue(dn []byte) string {
	p := dnParser{rest: string(dn)}
	at := strings.IndexByte(p.rest, '=')
	if at < 0 {
		return ""
	}
	p.rest = p.rest[at+1:]
	p.space()
	value, err := p.value()
	if err != nil {
		return ""
	}
	return value
}

// eachComponent calls f with the type and the value, unescaped, of every
// component of one of the tree's own names.
func eachComponent(dn string, f func(t Attr, value string)) {
	p := dnParser{rest: dn}
	for p.rest != "" {
		name, rest, _ := strings.Cut(p.rest, "=")
		p.rest = rest
		value, err := p.value()
		d, known := Describe([]byte(name))
		if err != nil || !known {
			return
		}
		for _, row := range attributeTable {
			if d.Attrs == bit(row.attr) {
				f(row.attr, value)
			}
		}
		p.rest = strings.TrimPrefix(p.rest, ",")
	}
}

// splitRDN gives the type and the plain value of the first component of a
// canonical name, and the name of its parent. Components of several values
// give no type.
func splitRDN(key string) (attr, value, parent string) {
	rdn, parent, _ := strings.Cut(key, ",")
	if strings.Contains(rdn, "+") {
		return "", "", parent
	}
	attr, escaped, _ := strings.Cut(rdn, "=")
	var b strings.Builder
	for i := 0; i < len(escaped); i++ {
		if escaped[i] != '\\' {
			b.WriteByte(escaped[i])
			continue
		}
		octet, used, err := unescapeDN(escaped[i+1:])
		if err != nil {
			return "", "", parent
		}
		b.WriteByte(octet)
		i += used
	}
	return attr, b.String(), parent
}
