package direct

import (
	"fmt"
	"strings"
)

// Owner is whom a certificate belongs to (AS 1.4): a Direct Address, or a
// Health Domain Name for an organizational certificate. The zero value is
// nobody.
type Owner struct {
	address Address // zero for an organization
	domain  Domain
}

// ParseOwner reads an address where there is an '@', a domain elsewhere.
func ParseOwner(s string) (Owner, error) {
	if strings.Contains(s, "@") {
		a, err := ParseAddress(s)
		return OwnerOfAddress(a), err
	}
	d, err := ParseDomain(s)
	return OwnerOfDomain(d), err
}

// OwnerOfAddress makes an address an owner.
func OwnerOfAddress(a Address) Owner { return Owner{a, a.domain} }

// OwnerOfDomain makes an organization an owner.
func OwnerOfDomain(d Domain) Owner { return Owner{domain: d} }

// IsAddress tells an address from an organization.
func (o Owner) IsAddress() bool { return !o.address.IsZero() }

// IsZero tells the zero value, which is nobody.
func (o Owner) IsZero() bool { return o.domain.IsZero() }

// Address is the address, zero for an organization.
func (o Owner) Address() Address { return o.address }

// Domain is the owner's domain.
func (o Owner) Domain() Domain { return o.domain }

// String is the address or the domain. It is also the value of the `mail`
// attribute under which LDAP publishes the owner.
func (o Owner) String() string {
	if o.IsAddress() {
		return o.address.String()
	}
	return o.domain.String()
}

// Key is String without regard to case.
func (o Owner) Key() string { return lower(o.String()) }

// DNSName is where the owner's CERT records stand (AS 5.1, 5.2).
func (o Owner) DNSName() (string, error) {
	if o.IsAddress() {
		return o.address.DNSName()
	}
	return o.domain.DNSName(), nil
}

// OwnerFromDNSName is the way back: the apex is the organization, all labels
// above it, joined by dots, are the local part. AS 5.1 warns that the way back
// cannot tell bob.smith@example.org from bob@smith.example.org; here the zone
// decides.
func OwnerFromDNSName(name string, d Domain) (Owner, error) {
	labels, err := splitName(name)
	if err != nil {
		return Owner{}, err
	}
	below := len(labels) - strings.Count(d.name, ".") - 1
	if below < 0 || lower(strings.Join(labels[below:], ".")) != d.name {
		return Owner{}, fmt.Errorf("%w: %s does not lie in %s", ErrDomain, name, d)
	}
	if below == 0 {
		return OwnerOfDomain(d), nil
	}
	local := strings.Join(labels[:below], ".")
	a, err := ParseAddress(quoteLocal(local) + "@" + d.name)
	if err != nil {
		return Owner{}, fmt.Errorf("name %s: %w", name, err)
	}
	return OwnerOfAddress(a), nil
}

// splitName undoes the text form of a domain name (RFC 1035 §5.1).
func splitName(name string) ([]string, error) {
	var labels []string
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		switch c := name[i]; c {
		case '.':
			labels = append(labels, b.String())
			b.Reset()
		case '\\':
			octet, used := unescape(name[i+1:])
			if used == 0 {
				return nil, fmt.Errorf("%w: bad escape in %q", ErrDomain, name)
			}
			b.WriteByte(octet)
			i += used
		default:
			b.WriteByte(c)
		}
	}
	if b.Len() > 0 {
		labels = append(labels, b.String())
	}
	for _, l := range labels {
		if l == "" {
			return nil, fmt.Errorf("%w: empty label in %q", ErrDomain, name)
		}
	}
	return labels, nil
}

// unescape reads what follows a backslash: \DDD or \X. Zero used = malformed.
func unescape(s string) (octet byte, used int) {
	if s == "" {
		return 0, 0
	}
	if s[0] < '0' || s[0] > '9' {
		return s[0], 1
	}
	if len(s) < 3 {
		return 0, 0
	}
	v := 0
	for _, c := range []byte(s[:3]) {
		if c < '0' || c > '9' {
			return 0, 0
		}
		v = v*10 + int(c-'0')
	}
	if v > 255 {
		return 0, 0
	}
	return byte(v), 3
}
