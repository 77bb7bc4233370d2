package direct

import (
	"fmt"
	"strings"
)

// Domain is a Health Domain Name (AS 1.1): a fully qualified domain name of
// letters, digits and hyphens, kept in lower case without the final dot. The
// zero value is no domain.
type Domain struct {
	name string
}

// ParseDomain reads a Health Domain Name with or without the final dot. AS 1.1
// wants it fully qualified: at least two labels. Labels may begin with an
// underscore only where DNS uses it for services, never in a mail domain, so it
// is refused here. Errors wrap ErrDomain.
func ParseDomain(s string) (Domain, error) {
	name := strings.TrimSuffix(s, ".")
	if len(name) > maxName {
		return Domain{}, fmt.Errorf("%w: longer than %d characters", ErrDomain, maxName)
	}
	labels := 0
	for label := range strings.SplitSeq(name, ".") {
		if err := checkLabel(label); err != nil {
			return Domain{}, fmt.Errorf("%w: %q: %s", ErrDomain, s, err)
		}
		labels++
	}
	if labels < 2 {
		return Domain{}, fmt.Errorf("%w: %q is not fully qualified", ErrDomain, s)
	}
	return Domain{lower(name)}, nil
}

// checkLabel holds a label against RFC 1034 §3.5 as RFC 1123 §2.1 relaxed it.
func checkLabel(s string) error {
	switch {
	case s == "":
		return fmt.Errorf("empty label")
	case len(s) > maxLabel:
		return fmt.Errorf("label of %d octets, at most %d", len(s), maxLabel)
	case s[0] == '-' || s[len(s)-1] == '-':
		return fmt.Errorf("label %q begins or ends with a hyphen", s)
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-') {
			return fmt.Errorf("character %q in a label", c)
		}
	}
	return nil
}

// String is the name without the final dot.
func (d Domain) String() string { return d.name }

// DNSName is the absolute name, with the final dot.
func (d Domain) DNSName() string { return d.name + "." }

// IsZero tells the zero value, which is no domain.
func (d Domain) IsZero() bool { return d.name == "" }

// Contains tells whether a domain name (any case, final dot or not) is the
// domain or lies below it.
func (d Domain) Contains(name string) bool {
	n := lower(strings.TrimSuffix(name, "."))
	return n == d.name || strings.HasSuffix(n, "."+d.name)
}
