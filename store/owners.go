package store

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"strings"

	"directnode/internal/direct"
)

// OwnersOf tells to whom a certificate was issued: the Direct Addresses and
// Health Domain Names in its subjectAltName, in the order in which they stand
// there, addresses first.
//
// AS 1.4 binds an address by an rfc822Name and a domain by a dNSName of that
// extension; AS 4.1.2 and RFC 5280 §4.2.1.6 leave the subject's CN and
// emailAddress out of it. A wildcard is no Health Domain Name, and an
// rfc822Name that holds a domain is no address. Names that are neither are
// passed over; when nothing is left the error is a *Refusal with ErrNoName
// that says what each was.
func OwnersOf(cert *x509.Certificate) ([]direct.Owner, error) {
	var owners []direct.Owner
	var faults []string
	seen := map[string]bool{}
	take := func(o direct.Owner, err error) {
		switch {
		case err != nil:
			faults = append(faults, err.Error())
		case !seen[o.Key()]:
			seen[o.Key()] = true
			owners = append(owners, o)
		}
	}
	for _, name := range cert.EmailAddresses { // AS 1.4: rfc822Name
		a, err := direct.ParseAddress(name)
		take(direct.OwnerOfAddress(a), err)
	}
	for _, name := range cert.DNSNames { // AS 1.4: dNSName
		d, err := direct.ParseDomain(name)
		take(direct.OwnerOfDomain(d), err)
	}
	if len(owners) == 0 {
		return nil, refuse(certName(Fingerprint(cert.Raw), cert), ErrNoName, "%s", noNameDetail(faults))
	}
	return owners, nil
}

func noNameDetail(faults []string) string {
	if len(faults) == 0 {
		return "the subject's CN and emailAddress do not count (AS 1.4); ask the issuer for an rfc822Name or a dNSName"
	}
	return strings.Join(faults, "; ")
}

// Binds tells whether a certificate's subjectAltName names this owner, without
// regard to case (AS 4.1.1, 4.1.2).
func Binds(cert *x509.Certificate, o direct.Owner) bool {
	owners, err := OwnersOf(cert)
	return err == nil && slices.ContainsFunc(owners, func(x direct.Owner) bool { return x.Key() == o.Key() })
}

// Fingerprint is the SHA-256 of a certificate's DER in lower-case hexadecimal,
// the name by which certificates are known here.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}
