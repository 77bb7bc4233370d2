package revocation

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"directnode/resolver/trust"
)

// Lists answers from lists that are at hand, whatever their URLs: for a verdict that is judged again from what was saved, and for tests. It
// implements trust.Revocation.
type Lists struct {
	CRLs      []*CRL
	AllowSHA1 bool // for suites of test vectors, which are older than its end
}

// Status implements trust.Revocation: the first list that is the issuer's, covers the certificate and speaks decides.
func (l Lists) Status(_ context.Context, cert, issuer *x509.Certificate, at time.Time) trust.RevocationResult {
	r := trust.RevocationResult{Why: "no list of " + nameText(issuer.RawSubject) + " is at hand"}
	for _, c := range l.CRLs {
		if !trust.SameName(c.issuer, issuer.RawSubject) {
			continue
		}
		check := c.Issued
		if l.AllowSHA1 {
			check = c.signedBy
		}
		if err := check(issuer); err != nil {
			r.Why = err.Error()
			continue
		}
		partial, err := c.Covers(cert)
		if err != nil {
			r.Why = err.Error()
			continue
		}
		e, found := c.Find(cert.SerialNumber)
		current := c.Current(at)
		switch {
		case found:
			return trust.RevocationResult{Status: trust.StatusRevoked, RevokedAt: e.At, Reason: reasonText(e.Reason), Source: c.label(), ThisUpdate: c.ThisUpdate, NextUpdate: c.NextUpdate}
		case current != nil:
			r.Why, r.GoodUntil = current.Error(), c.until()
		case partial:
			r.Why = "the list speaks of some reasons only"
		default:
			return trust.RevocationResult{Status: trust.StatusGood, Source: c.label(), ThisUpdate: c.ThisUpdate, NextUpdate: c.NextUpdate}
		}
	}
	return r
}

func (c *CRL) label() string {
	number := ""
	if c.Number != nil {
		number = " " + clip(c.Number.String())
	}
	return fmt.Sprintf("CRL%s of %s, %s", number, nameText(c.issuer), stamp(c.ThisUpdate))
}
