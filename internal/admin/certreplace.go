package admin

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"directnode/internal/direct"
	"directnode/store"
)

// taken is a certificate that an import has taken for one owner.
type taken struct {
	owner direct.Owner
	cert  *x509.Certificate
	item  ImportItem
}

// replace ends the publication of certificates in whose place others were
// imported. They are kept, with their keys: peers hold the old certificate for
// as long as their caches do, and their mail must be opened.
func (b *batch) replace(tx *store.Tx) error {
	imported := make(map[string]bool, len(b.taken))
	for _, t := range b.taken {
		imported[t.item.SHA256+" "+t.owner.Key()] = true
	}
	at := time.Now()
	for _, t := range b.taken {
		here, ok := holding(tx, t.owner, t.item.SHA256)
		if !ok {
			continue
		}
		for _, old := range tx.Owned(t.owner) {
			if imported[old.SHA256+" "+t.owner.Key()] || !sharesPlace(here, old) {
				continue
			}
			if err := b.replaceOne(tx, t, here, old, at); err != nil {
				return err
			}
		}
	}
	return nil
}

// sharesPlace tells whether both are published somewhere.
func sharesPlace(a, b store.Certificate) bool {
	return a.PublishDNS && b.PublishDNS || a.PublishLDAP && b.PublishLDAP
}

func (b *batch) replaceOne(tx *store.Tx, t taken, here, old store.Certificate, at time.Time) error {
	cert, err := x509.ParseCertificate(old.DER)
	if err != nil {
		return nil // `store check` tells of it
	}
	item := t.item
	item.SHA256 = old.SHA256
	if why := stays(cert, t.cert, old.HasKey && !here.HasKey, at); why != "" {
		b.res.add(item, "warning", fmt.Sprintf("the certificate %.16s stays published: %s", old.SHA256, why))
		return nil
	}
	next := store.Certificate{Owner: t.owner, DER: cert.Raw, PublishDNS: old.PublishDNS && !here.PublishDNS, PublishLDAP: old.PublishLDAP && !here.PublishLDAP}
	if _, err := tx.AddParsed(next, cert); err != nil {
		return err
	}
	b.res.add(item, "replaced", fmt.Sprintf("no longer published where %.16s is; kept, with its key where it has one", here.SHA256))
	return nil
}

// stays says why an old certificate is not replaced by a new one, and nothing
// where it is.
func stays(old, fresh *x509.Certificate, keyless bool, at time.Time) string {
	oldUses, uses := usesOf(old), usesOf(fresh)
	switch {
	case at.After(fresh.NotAfter):
		return "the new one has expired"
	case at.Before(fresh.NotBefore):
		return "the new one is not valid before " + fresh.NotBefore.UTC().Format(time.DateOnly)
	case old.NotAfter.After(fresh.NotAfter):
		return "it is valid for longer than the new one"
	case keyless:
		return "its private key is here, and that of the new one is not: mail to the new one could not be opened"
	case old.PublicKeyAlgorithm != fresh.PublicKeyAlgorithm:
		return fmt.Sprintf("its key is %s, and that of the new one %s", old.PublicKeyAlgorithm, fresh.PublicKeyAlgorithm)
	case slices.ContainsFunc(oldUses, func(use string) bool { return !slices.Contains(uses, use) }):
		return fmt.Sprintf("it is for %v, and the new one for %v", oldUses, uses)
	}
	return ""
}

// usesOf is what the key of a certificate may be used for in mail (RFC 8550
// §4.4.2: without the extension, for everything).
func usesOf(c *x509.Certificate) (uses []string) {
	const (
		sign    = x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment
		encrypt = x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment | x509.KeyUsageKeyAgreement
	)
	if c.KeyUsage == 0 || c.KeyUsage&sign != 0 {
		uses = append(uses, "signing")
	}
	if c.KeyUsage == 0 || c.KeyUsage&encrypt != 0 {
		uses = append(uses, "encryption")
	}
	return uses
}
