package trust

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"strings"

	"directnode/internal/direct"
)

var oidEmailAddress = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}

// boundTo tells how the certificate is bound to the address: "address", "domain", or "" with the reason why not. AS 4.1.1 and 4.1.2
// are two independent ways; with several subject alternative names any one that matches is enough (AS 4.1).
func boundTo(c *x509.Certificate, a direct.Address) (level, detail string) {
	reason := addressBound(c, a)
	if reason == "" {
		return "address", "rfc822Name " + a.String()
	}
	if domainBound(c, a.Domain()) {
		return "domain", "dNSName " + a.Domain().String()
	}
	return "", reason
}

// addressBound is AS 4.1.1; "" means that it holds.
func addressBound(c *x509.Certificate, a direct.Address) string {
	found := false
	for _, name := range c.EmailAddresses {
		// Condition 1: case-insensitive, the local part too, which overrides RFC 5280 §7.5.
		if got, err := direct.ParseAddress(name); err == nil && got.Equal(a) {
			found = true
			break
		}
	}
	if !found {
		return fmt.Sprintf("the subjectAltName names %s, not %s", altNames(c), a)
	}
	// Condition 2: a legacy emailAddress in the subject must match as well, each of them if there are several.
	for _, atv := range c.Subject.Names {
		if !atv.Type.Equal(oidEmailAddress) {
			continue
		}
		value, _ := atv.Value.(string)
		if got, err := direct.ParseAddress(value); err != nil || !got.Equal(a) {
			return fmt.Sprintf("emailAddress %q in the subject is not %s", value, a)
		}
	}
	return ""
}

// domainBound is AS 4.1.2: equality, no wildcard, no parent or child domain.
func domainBound(c *x509.Certificate, d direct.Domain) bool {
	for _, name := range c.DNSNames {
		if got, err := direct.ParseDomain(name); err == nil && got == d {
			return true
		}
	}
	return false
}

// altNames lists at most three names of a certificate for a reason.
func altNames(c *x509.Certificate) string {
	const shown = 3
	var names []string
	for _, e := range c.EmailAddresses {
		names = append(names, fmt.Sprintf("rfc822Name %q", e))
	}
	for _, d := range c.DNSNames {
		names = append(names, fmt.Sprintf("dNSName %q", d))
	}
	switch {
	case len(names) == 0:
		return "no address and no domain"
	case len(names) > shown:
		return strings.Join(names[:shown], ", ") + fmt.Sprintf(" and %d more", len(names)-shown)
	}
	return strings.Join(names, ", ")
}
