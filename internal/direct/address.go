// Package direct is the vocabulary of the system: Direct Addresses, Health
// Domain Names and the owners of certificates.
//
// Text comes in once, through ParseAddress, ParseDomain and ParseOwner; from
// there on the values are valid by construction, comparable, and map to a
// domain name and back. The package imports nothing but the standard library,
// so that every other package may speak it.
//
// Sources: AS 1.1-1.3 and 5.1 (the Applicability Statement for Secure Health
// Transport), RFC 5322 §3.4.1 (addr-spec), RFC 5321 §4.5.3.1 (sizes),
// RFC 1034 §3.1 and RFC 1035 §5.1 (names and their text form).
package direct

import (
	"errors"
	"fmt"
	"strings"
)

const (
	maxLocal   = 64  // RFC 5321 §4.5.3.1.1
	maxAddress = 254 // RFC 5321 §4.5.3.1.3 less the angle brackets
	maxLabel   = 63  // RFC 1034 §3.1
	maxName    = 253 // RFC 1034 §3.1: 255 octets on the wire are 253 characters without the final dot
)

// ErrAddress and ErrDomain are wrapped by every parse error.
var (
	ErrAddress = errors.New("not a Direct Address")
	ErrDomain  = errors.New("not a Health Domain Name")
)

// Address is a Direct Address (AS 1.0): a Health Endpoint Name at a Health
// Domain Name. The zero value is no address. The local part is kept as
// written; use Equal or Key to compare.
type Address struct {
	local  string // unquoted content, case as written
	domain Domain
}

// ParseAddress reads an addr-spec (RFC 5322 §3.4.1): a dot-atom or a
// quoted-string, '@', a domain name. Display names, comments, angle brackets
// and domain literals are no part of a Direct Address. Errors wrap ErrAddress.
func ParseAddress(s string) (Address, error) {
	if len(s) > maxAddress {
		return Address{}, fmt.Errorf("%w: longer than %d octets", ErrAddress, maxAddress)
	}
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return Address{}, fmt.Errorf("%w: %q has no @", ErrAddress, s)
	}
	local, err := parseLocal(s[:at])
	if err != nil {
		return Address{}, fmt.Errorf("%w: %q: %s", ErrAddress, s, err)
	}
	domain, err := ParseDomain(s[at+1:])
	if err != nil {
		return Address{}, fmt.Errorf("%w: %q: %w", ErrAddress, s, err)
	}
	return Address{local, domain}, nil
}

func parseLocal(s string) (string, error) {
	if len(s) > maxLocal {
		return "", fmt.Errorf("local part longer than %d octets", maxLocal)
	}
	if strings.HasPrefix(s, `"`) {
		return unquote(s)
	}
	// RFC 5322 §3.2.3: dot-atom-text, no empty atom.
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" {
			return "", errors.New("empty local part or two dots together")
		}
		for i := range len(atom) {
			if !isAtext(atom[i]) {
				return "", fmt.Errorf("character %q in the local part", atom[i])
			}
		}
	}
	return s, nil
}

// unquote reads RFC 5322 §3.2.4 quoted-string, printable ASCII only: controls
// have no business in an address that ends in logs and header fields.
func unquote(s string) (string, error) {
	if len(s) < 3 || s[len(s)-1] != '"' {
		return "", errors.New("open or empty quoted local part")
	}
	var b strings.Builder
	in := s[1 : len(s)-1]
	for i := 0; i < len(in); i++ {
		c := in[i]
		if c == '\\' {
			if i++; i == len(in) {
				return "", errors.New("open quoted local part")
			}
			c = in[i]
		} else if c == '"' {
			return "", errors.New("quote inside a quoted local part")
		}
		if c < 0x20 || c > 0x7e {
			return "", fmt.Errorf("character %q in the local part", c)
		}
		b.WriteByte(c)
	}
	return b.String(), nil
}

func isAtext(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

// Local is the Health Endpoint Name as written, without quotes (AS 1.2).
func (a Address) Local() string { return a.local }

// Domain is the Health Domain Name (AS 1.1).
func (a Address) Domain() Domain { return a.domain }

// IsZero tells the zero value, which is no address.
func (a Address) IsZero() bool { return a.local == "" }

// String is the addr-spec: the local part as written (quoted where RFC 5322
// needs it), the domain in lower case.
func (a Address) String() string {
	if a.IsZero() {
		return ""
	}
	return quoteLocal(a.local) + "@" + a.domain.String()
}

func quoteLocal(s string) string {
	if _, err := parseLocal(s); err == nil && s[0] != '"' {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// Equal compares as AS 4.1.1 demands: without regard to case, the local part
// included.
func (a Address) Equal(b Address) bool { return a.Key() == b.Key() }

// Key is the form under which maps and stores hold the address: equal exactly
// for addresses that are Equal.
func (a Address) Key() string { return lower(a.String()) }

// DNSName is the absolute domain name that holds the address's CERT records
// (AS 5.1): '@' becomes '.', so that dots of the local part separate labels as
// well. Octets that have a meaning in a zone file are escaped (RFC 1035 §5.1).
// Case is kept as written. It fails where a label or the name gets too long,
// or where a quoted local part would give an empty label.
func (a Address) DNSName() (string, error) {
	wire := 1
	var b strings.Builder
	for label := range strings.SplitSeq(a.local, ".") {
		if label == "" || len(label) > maxLabel {
			return "", fmt.Errorf("%w: %s has no domain name: a label of %d octets", ErrAddress, a, len(label))
		}
		wire += 1 + len(label)
		escapeLabel(&b, label)
		b.WriteByte('.')
	}
	wire += len(a.domain.name) + 1
	if wire > maxName+2 {
		return "", fmt.Errorf("%w: %s has no domain name: longer than %d octets", ErrAddress, a, maxName+2)
	}
	return b.String() + a.domain.DNSName(), nil
}

func escapeLabel(b *strings.Builder, label string) {
	for i := range len(label) {
		switch c := label[i]; {
		case strings.IndexByte(`."\;()@$`, c) >= 0:
			b.WriteByte('\\')
			b.WriteByte(c)
		case c <= ' ' || c > '~':
			fmt.Fprintf(b, `\%03d`, c)
		default:
			b.WriteByte(c)
		}
	}
}

// WithoutTag removes a "+tag" from the end of the local part and tells whether
// there was one. The tag is part of the address unless policy says otherwise.
func (a Address) WithoutTag() (Address, bool) {
	i := strings.IndexByte(a.local, '+')
	if i <= 0 {
		return a, false
	}
	return Address{a.local[:i], a.domain}, true
}

func lower(s string) string {
	// ASCII only: neither domain names nor local parts hold anything else.
	return strings.ToLower(s)
}
