package store

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"directnode/internal/direct"
	"directnode/internal/keytag"
)

// AddCertificate adds a certificate, or changes the publication flags of one
// that is there, and tells whether anything was added. Of c it reads DER,
// Owner, PublishDNS, PublishLDAP and Added (zero = now); the rest it finds
// out itself.
//
// With a zero Owner the certificate goes to every owner that its
// subjectAltName names and whose domain is ours (AS 1.4); there must be one.
// With an Owner it goes to that one, even if the certificate does not name
// it: so an importer takes what another publisher published as it stood. Such
// a certificate has Bound false.
//
// Errors are *Refusal with ErrMalformed, ErrNoName, ErrForeign or ErrLimit,
// and name the certificate.
func (tx *Tx) AddCertificate(c Certificate) (added bool, err error) {
	cert, err := x509.ParseCertificate(c.DER)
	if err != nil {
		return false, refuse(certName(Fingerprint(c.DER), nil), ErrMalformed, "%v", err)
	}
	return tx.AddParsed(c, cert)
}

// AddParsed is AddCertificate for a caller who has parsed the certificate: of a
// hundred thousand that are imported, parsing is most of the work. DER is not
// read.
func (tx *Tx) AddParsed(c Certificate, cert *x509.Certificate) (added bool, err error) {
	sha := Fingerprint(cert.Raw)
	owners, err := tx.ownersFor(c.Owner, sha, cert)
	if err != nil {
		return false, err
	}
	if c.Added.IsZero() {
		c.Added = tx.at
	}
	tag, algorithm := keytag.OfKey(cert.PublicKey)
	var puts []Certificate
	for _, o := range owners {
		next := Certificate{Owner: o, SHA256: sha, DER: cert.Raw, PublishDNS: c.PublishDNS, PublishLDAP: c.PublishLDAP,
			Bound: Binds(cert, o), Added: c.Added.UTC().Truncate(time.Second)}
		if err := tx.CheckRoom(o, cert); err != nil {
			return false, err
		}
		puts = append(puts, next)
	}
	for _, next := range puts {
		fresh, err := tx.putCertificate(certRecord(next, tag, algorithm), next.Owner.Domain())
		if err != nil {
			return false, err
		}
		added = added || fresh
	}
	return added, nil
}

// ownersFor decides who gets a certificate.
func (tx *Tx) ownersFor(given direct.Owner, sha string, cert *x509.Certificate) ([]direct.Owner, error) {
	if tx.over {
		return nil, ErrTxOver
	}
	named := []direct.Owner{given}
	if given.IsZero() {
		var err error
		if named, err = OwnersOf(cert); err != nil {
			return nil, err
		}
	}
	var ours []direct.Owner
	for _, o := range named {
		if tx.Has(o.Domain()) {
			ours = append(ours, o)
		}
	}
	if len(ours) == 0 {
		return nil, refuse(certName(sha, cert), ErrForeign, "it is for %s: add the domain first", named[0])
	}
	return ours, nil
}

// CheckRoom tells whether an owner has room for all of these certificates, so
// that an importer can take what belongs together or none of it. Those that are
// here already need none. The error is a *Refusal with ErrLimit.
func (tx *Tx) CheckRoom(o direct.Owner, certs ...*x509.Certificate) error {
	h := tx.holding(o)
	count, size := h.Len(), 0
	for i := range h.Len() {
		size += len(h.table.record(h.refs[i]).der())
	}
	for i, c := range certs {
		same := func(other *x509.Certificate) bool { return bytes.Equal(other.Raw, c.Raw) }
		if h.holds(c.Raw) || slices.ContainsFunc(certs[:i], same) {
			continue
		}
		count++
		size += len(c.Raw)
		switch {
		case count > maxCertsPerOwner:
			return refuse(certName(Fingerprint(c.Raw), c), ErrLimit, "%s has %d certificates already, as many as one answer is to carry: remove old ones first", o, maxCertsPerOwner)
		case size > maxOwnerBytes:
			return refuse(certName(Fingerprint(c.Raw), c), ErrLimit, "the certificates of %s would have %d octets, at most %d fit one answer: remove old ones first", o, size, maxOwnerBytes)
		}
	}
	return nil
}

func (h Holding) holds(der []byte) bool {
	for i := range h.Len() {
		if bytes.Equal(h.table.record(h.refs[i]).der(), der) {
			return true
		}
	}
	return false
}

// holding is an owner's certificates, as changed so far.
func (tx *Tx) holding(o direct.Owner) Holding {
	key := []byte(o.Key())
	switch dr := tx.drafts[o.Domain()]; {
	case dr == nil && tx.base.data[o.Domain()] == nil, dr != nil && dr.removed:
		return Holding{}
	case dr == nil:
		return tx.base.data[o.Domain()].Certificates.Of(key)
	default:
		return Certificates{certs: &dr.certs.next}.Of(key)
	}
}

// putCertificate stores next, or the places where next is published if it is
// there.
func (tx *Tx) putCertificate(next record, d direct.Domain) (fresh bool, err error) {
	dr, err := tx.edit(d)
	if err != nil {
		return false, err
	}
	old := dr.certs.next.find(appendFolded(nil, next.owner()), next.sha())
	if old == nil {
		dr.certs.put(next)
		return true, nil
	}
	dr.publish(old, next.flags())
	return false, nil
}

// publish changes where a certificate is published.
func (dr *draft) publish(r record, flags byte) {
	const places = flagDNS | flagLDAP
	if (r.flags()^flags)&places == 0 {
		return
	}
	next := slices.Clone(r)
	next[atFlags] = r.flags()&^places | flags&places
	dr.certs.put(next.summed())
}

// SetPublish sets how a certificate is published, for all its owners. With
// both false it is kept, and its key still opens old mail, but nobody finds
// it any more.
func (tx *Tx) SetPublish(sha string, dns, ldap bool) error {
	flags := certFlags(Certificate{PublishDNS: dns, PublishLDAP: ldap})
	return tx.eachHolder(sha, func(dr *draft, r record) { dr.publish(r, flags) })
}

// RemoveCertificate removes a certificate from all its owners, with its
// private key: mail that was encrypted for it can no longer be opened here.
func (tx *Tx) RemoveCertificate(sha string) error {
	return tx.eachHolder(sha, func(dr *draft, r record) {
		key := appendFolded(nil, r.owner())
		dr.certs.remove(key, r.sha())
		dr.keys.remove(key, r.sha())
	})
}

// eachHolder runs change for every owner of the certificate, or says that
// there is none.
func (tx *Tx) eachHolder(sha string, change func(*draft, record)) error {
	holders := tx.Find(sha)
	if len(holders) == 0 {
		return refuse(certName(sha, nil), ErrNotFound, "")
	}
	for _, c := range holders {
		dr, err := tx.edit(c.Owner.Domain())
		if err != nil {
			return err
		}
		change(dr, dr.certs.next.find([]byte(c.Owner.Key()), shaOctets(sha)))
	}
	return nil
}

// CheckKey tells whether PutKey would take a key, before the certificate is
// added: a certificate that is published without its key invites mail that
// nobody can open. Errors are those of PutKey.
func (tx *Tx) CheckKey(cert *x509.Certificate, key crypto.Signer) error {
	der, err := tx.seal.plain(cert, Fingerprint(cert.Raw), key)
	clear(der)
	return err
}

// PutKey stores the private key of a certificate that is there, sealed. With
// a zero owner the key goes to every owner of the certificate. A key that is
// there already is left as it is: there is only one that fits.
//
// Errors are *Refusal with ErrNotFound, ErrKeyMismatch, ErrMalformed (a key
// that cannot leave its device), ErrLimit or ErrNoMasterKey.
func (tx *Tx) PutKey(certSHA string, owner direct.Owner, key crypto.Signer) error {
	holders, err := tx.holdersOf(certSHA, owner)
	if err != nil {
		return err
	}
	cert, err := x509.ParseCertificate(holders[0].DER)
	if err != nil {
		return refuse(certName(certSHA, nil), ErrMalformed, "%v", err)
	}
	sealed, err := tx.seal.seal(cert, certSHA, key)
	if err != nil {
		return err
	}
	for _, c := range holders {
		dr, err := tx.edit(c.Owner.Domain())
		if err != nil {
			return err
		}
		if !c.HasKey {
			dr.keys.put(keyRecord(Key{CertSHA256: certSHA, Owner: c.Owner, Sealed: sealed}))
		}
	}
	return nil
}

// holdersOf finds the certificate of one owner, or of all if owner is zero.
func (tx *Tx) holdersOf(sha string, owner direct.Owner) ([]Certificate, error) {
	if tx.over {
		return nil, ErrTxOver
	}
	var holders []Certificate
	if owner.IsZero() {
		holders = tx.Find(sha)
	} else {
		for _, c := range tx.Owned(owner) {
			if c.SHA256 == sha {
				holders = append(holders, c)
			}
		}
	}
	if len(holders) == 0 {
		return nil, refuse(certName(sha, nil), ErrNotFound, "a key is stored with its certificate: add the certificate of %s first", owner)
	}
	return holders, nil
}

// AddAnchor makes a certificate a trust anchor of a domain, for certificates
// of senders (in), of recipients (out) or both, or changes these flags. Any
// certificate may be an anchor (AS 4.2.3): a root, an intermediate, a leaf.
func (tx *Tx) AddAnchor(d direct.Domain, der []byte, in, out bool) (added bool, err error) {
	dr, err := tx.edit(d)
	if err != nil {
		return false, err
	}
	sha := Fingerprint(der)
	if len(der) > maxAnchorDER {
		return false, refuse(certName(sha, nil), ErrLimit, "an anchor of %d octets, at most %d", len(der), maxAnchorDER)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return false, refuse(certName(sha, nil), ErrMalformed, "an anchor is one certificate: %v", err)
	}
	if !in && !out {
		return false, refuse(certName(sha, cert), ErrInvalid, "an anchor is for incoming mail, for outgoing mail or for both; to end its use, remove it")
	}
	old, there := dr.anchors.find(ident{sha: sha})
	switch {
	case there && old.In == in && old.Out == out:
		return false, nil
	case !there && len(dr.anchors.base)+dr.anchors.count >= maxAnchors:
		return false, refuse(certName(sha, cert), ErrLimit, "domain %s has %d anchors already", d, maxAnchors)
	}
	next := Anchor{SHA256: sha, DER: bytes.Clone(der), In: in, Out: out, Added: tx.at}
	if there {
		next.Added = old.Added
	}
	dr.anchors.put(next)
	return !there, nil
}

// RemoveAnchor ends a domain's trust in an anchor.
func (tx *Tx) RemoveAnchor(d direct.Domain, sha string) error {
	dr, err := tx.edit(d)
	if err != nil {
		return err
	}
	if _, there := dr.anchors.find(ident{sha: sha}); !there {
		return refuse(fmt.Sprintf("anchor %.16s… of %s", sha, d), ErrNotFound, "")
	}
	dr.anchors.remove(ident{sha: sha})
	return nil
}
