package mail

import (
	"strings"

	"directnode/internal/direct"
)

// ParseAddressList reads the mailboxes of From, Sender, To, Cc or
// Disposition-Notification-To (RFC 5322 §3.4) and keeps the addr-specs: display
// names and comments are dropped, whatever they hold. Group syntax is refused:
// what a group means is anybody's guess, and RFC 5322 §3.6.2 has no group in
// From. So are routes and anything that is no Direct Address. An empty value
// gives an empty list. Errors are *Error.
func ParseAddressList(v string) ([]direct.Address, error) {
	p := addressParser{rest: v}
	var list []direct.Address
	for {
		if err := p.skipCFWS(); err != nil {
			return nil, err
		}
		if p.rest == "" {
			return list, nil
		}
		if p.rest[0] == ',' { // RFC 5322 §4.4 (obsolete): empty elements
			p.rest = p.rest[1:]
			continue
		}
		a, err := p.mailbox()
		if err != nil {
			return nil, err
		}
		if len(list) == MaxAddresses {
			return nil, malformed("RFC 5321 §4.5.3.1.8", "more than %d addresses", MaxAddresses)
		}
		list = append(list, a)
		if p.rest != "" && p.rest[0] != ',' {
			return nil, malformed("RFC 5322 §3.4", "text after an address")
		}
	}
}

// addressParser holds what is still to be read of an address list.
type addressParser struct {
	rest string
}

// mailbox reads one mailbox: words that are a display name if "<" follows, or
// an addr-spec if not (RFC 5322 §3.4).
func (p *addressParser) mailbox() (direct.Address, error) {
	var spec strings.Builder // the words joined as an addr-spec would be
	words := 0
	for {
		if err := p.skipCFWS(); err != nil {
			return direct.Address{}, err
		}
		if p.rest == "" {
			break
		}
		switch c := p.rest[0]; {
		case c == ',':
		case c == '<':
			return p.angle()
		case c == ':' || c == ';':
			return direct.Address{}, malformed("RFC 5322 §3.4", "group syntax in an address field")
		default:
			word, err := p.word()
			if err != nil {
				return direct.Address{}, err
			}
			spec.WriteString(word)
			words++
			continue
		}
		break
	}
	if words == 0 {
		return direct.Address{}, malformed("RFC 5322 §3.4", "empty address")
	}
	return parseSpec(spec.String(), words)
}

// angle reads "<addr-spec>" (RFC 5322 §3.4).
func (p *addressParser) angle() (direct.Address, error) {
	p.rest = p.rest[1:]
	var spec strings.Builder
	words := 0
	for {
		if err := p.skipCFWS(); err != nil {
			return direct.Address{}, err
		}
		if p.rest == "" {
			return direct.Address{}, malformed("RFC 5322 §3.4", "open angle bracket in an address")
		}
		if p.rest[0] == '>' {
			p.rest = p.rest[1:]
			if err := p.skipCFWS(); err != nil {
				return direct.Address{}, err
			}
			return parseSpec(spec.String(), words)
		}
		word, err := p.word()
		if err != nil {
			return direct.Address{}, err
		}
		spec.WriteString(word)
		words++
	}
}

// word reads a run of characters that is neither separated by CFWS nor a
// delimiter of the list; a quoted string is read whole, with its quotes.
func (p *addressParser) word() (string, error) {
	quoted := false
	for i := 0; i < len(p.rest); i++ {
		c := p.rest[i]
		switch {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case strings.IndexByte(" \t\r\n(,<>:;", c) >= 0:
			if i == 0 {
				return "", malformed("RFC 5322 §3.4", "stray %q in an address", c)
			}
			word := p.rest[:i]
			p.rest = p.rest[i:]
			return word, nil
		}
	}
	if quoted {
		return "", malformed("RFC 5322 §3.2.4", "open quotes in an address")
	}
	word := p.rest
	p.rest = ""
	return word, nil
}

// parseSpec makes an address of the joined words. More than one word is an
// addr-spec only by the obsolete white space around '@' (RFC 5322 §4.4), which
// nothing in use writes: it is refused, so that "ann bob@x" is never "annbob@x".
func parseSpec(spec string, words int) (direct.Address, error) {
	if words > 1 {
		return direct.Address{}, malformed("RFC 5322 §3.4.1", "white space inside an address")
	}
	a, err := direct.ParseAddress(spec)
	if err != nil {
		return direct.Address{}, malformed("RFC 5322 §3.4.1", "not a Direct Address")
	}
	return a, nil
}

// skipCFWS skips white space and comments (RFC 5322 §3.2.2).
func (p *addressParser) skipCFWS() error {
	for {
		p.rest = strings.TrimLeft(p.rest, " \t\r\n")
		if p.rest == "" || p.rest[0] != '(' {
			return nil
		}
		n, ok := commentLength(p.rest)
		if !ok {
			return malformed("RFC 5322 §3.2.2", "open or too deeply nested comment")
		}
		p.rest = p.rest[n:]
	}
}

// commentLength is the length of the comment that s begins with.
func commentLength(s string) (int, bool) {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '(':
			if depth++; depth > maxComment {
				return 0, false
			}
		case ')':
			if depth--; depth == 0 {
				return i + 1, true
			}
		}
	}
	return 0, false
}

// stripComments removes comments outside quoted strings. From an open comment
// on, all stays: looking for its end again and again would cost the square of
// the length.
func stripComments(s string) string {
	if !strings.Contains(s, "(") {
		return s
	}
	var b strings.Builder
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case c == '(' && !quoted:
			n, ok := commentLength(s[i:])
			if !ok {
				b.WriteString(s[i:])
				return b.String()
			}
			i += n - 1
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Addresses reads a field that may stand only once, such as From; a missing
// field gives an empty list.
func (h Header) Addresses(name string) ([]direct.Address, error) {
	v, _, err := h.One(name)
	if err != nil {
		return nil, err
	}
	return ParseAddressList(v)
}
