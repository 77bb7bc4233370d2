package admin

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"directnode/internal/direct"
	"directnode/store"
)

// errNothing ends a transaction in which nothing was taken.
var errNothing = errors.New("nothing to change")

// change carries a change out, or rehearses it in a dry run: then the same is
// refused, and nothing changes.
func (s *Service) change(ctx context.Context, dryRun bool, fn func(*store.Tx) error) error {
	var err error
	if dryRun {
		err = s.store.Rehearse(ctx, fn)
	} else {
		_, err = s.store.Update(ctx, fn)
	}
	if errors.Is(err, errNothing) {
		return nil
	}
	return err
}

// batch is what the files of one import hold, and what becomes of it.
type batch struct {
	res    ImportResult
	certs  []found
	keys   keyring
	places *places // nil: where nobody said
	taken  []taken // for those that are replaced
}

// places are where certificates are published.
type places struct{ dns, ldap bool }

// ImportCertificates takes certificates and the private keys found beside them.
// The owner comes from the subjectAltName (AS 1.4-d, 1.4-e); what belongs to no
// domain of ours is refused and named, the rest of the batch is taken, in one
// transaction.
func (s *Service) ImportCertificates(ctx context.Context, req ImportRequest) (ImportResult, error) {
	return s.importCertificates(ctx, req, nil)
}

func (s *Service) importCertificates(ctx context.Context, req ImportRequest, report Reporter) (ImportResult, error) {
	b := &batch{res: ImportResult{DryRun: req.DryRun, Items: []ImportItem{}}}
	var err error
	if b.places, err = publishTo(req.Publish); err != nil {
		return ImportResult{}, err
	}
	if req.Replace && b.places != nil && *b.places == (places{}) {
		return ImportResult{}, &Error{"DN-CERT-004", CodeUsage, "nothing was imported", "what is published nowhere replaces nothing", "leave out --replace, or say where to publish"}
	}
	for _, f := range req.Files {
		if err := ctx.Err(); err != nil {
			return ImportResult{}, storeFailure("nothing was imported", err)
		}
		b.sort(classify(f, req.Passphrase))
	}
	err = s.change(ctx, req.DryRun, func(tx *store.Tx) error {
		progress := report.counter(StageStoring, len(b.certs))
		for i, c := range b.certs {
			if err := ctx.Err(); err != nil {
				return err
			}
			b.take(tx, c)
			progress(i + 1)
		}
		if b.res.Taken == 0 {
			return errNothing
		}
		if req.Replace {
			return b.replace(tx)
		}
		return nil
	})
	if err != nil {
		return ImportResult{}, storeFailure("nothing was imported", err)
	}
	b.leftover()
	b.res.Code = b.res.code()
	return b.res, nil
}

// sort files what was found.
func (b *batch) sort(list []found) {
	for _, x := range list {
		switch {
		case x.cert != nil:
			b.certs = append(b.certs, x)
		case x.key != nil:
			b.keys.add(x)
		default:
			b.res.refuse(ImportItem{File: x.file, Kind: "file"}, x.bad)
		}
	}
}

// leftover names the keys that went to nobody.
func (b *batch) leftover() {
	for _, k := range b.keys.list {
		switch item := (ImportItem{File: k.found.file, Kind: "key"}); b.keys.fate[k.public] {
		case keyTaken:
		case keyRefused:
			b.res.refuse(item, "the key of a certificate that was refused")
		default:
			b.res.refuse(item, "a private key, and no certificate for it beside it; give both together")
		}
	}
}

// publishTo reads --publish. Where nobody said anything, what is new is
// published everywhere and what is here stays where it is.
func publishTo(list []string) (*places, error) {
	if len(list) == 0 {
		return nil, nil
	}
	p := &places{}
	for _, word := range list {
		switch word {
		case "dns":
			p.dns = true
		case "ldap":
			p.ldap = true
		case "none":
		default:
			return nil, &Error{"DN-CERT-001", CodeUsage, "nothing was imported", fmt.Sprintf("%q is no place to publish in", word), "write dns, ldap, dns,ldap or none"}
		}
	}
	return p, nil
}

// take takes one certificate, under every owner of ours that its
// subjectAltName names, with its key where there is one.
func (b *batch) take(tx *store.Tx, c found) {
	item := ImportItem{File: c.file, Kind: "certificate", SHA256: store.Fingerprint(c.cert.Raw)}
	public := publicKey(c.cert.PublicKey)
	refuse := func(why string) {
		b.keys.settle(public, keyRefused)
		b.res.refuse(item, why)
	}
	if isIssuer(c.cert) {
		const why = "the certificate of an issuer, which is not published; if you trust it, add it with `directctl anchor add`"
		if c.chain {
			b.res.add(item, "known", why)
		} else {
			refuse(why)
		}
		return
	}
	owners, err := ourOwners(tx, c.cert)
	if err != nil {
		refuse(err.Error())
		return
	}
	key := b.keys.byPublic[public]
	if key != nil { // before the certificate: without its key it would invite mail that nobody can open
		if err := tx.CheckKey(c.cert, key); err != nil {
			refuse(err.Error())
			return
		}
	}
	for _, o := range owners {
		item.Owner = o.String()
		added, err := tx.AddParsed(b.publication(tx, o, c.cert), c.cert)
		if err == nil && key != nil {
			err = tx.PutKey(item.SHA256, o, key)
		}
		if err != nil {
			refuse(err.Error())
			continue
		}
		b.keys.settle(public, keyTaken)
		b.taken = append(b.taken, taken{o, c.cert, item})
		b.res.record(item, added, nil, c.cert)
	}
}

// publication is a certificate with the places where it is to be published.
func (b *batch) publication(tx *store.Tx, o direct.Owner, cert *x509.Certificate) store.Certificate {
	p := places{true, true}
	if b.places != nil {
		p = *b.places
	} else if here, ok := holding(tx, o, store.Fingerprint(cert.Raw)); ok {
		p = places{here.PublishDNS, here.PublishLDAP}
	}
	return store.Certificate{Owner: o, DER: cert.Raw, PublishDNS: p.dns, PublishLDAP: p.ldap}
}

// holding is an owner's certificate that is here already.
func holding(tx *store.Tx, o direct.Owner, sha string) (store.Certificate, bool) {
	for _, c := range tx.Owned(o) {
		if c.SHA256 == sha {
			return c, true
		}
	}
	return store.Certificate{}, false
}

// The fates of a key in an import.
const (
	keyTaken   = "taken"
	keyRefused = "refused"
)

// keyring finds the private key of a certificate, however many there are.
type keyring struct {
	list     []foundKey
	byPublic map[string]crypto.Signer
	fate     map[string]string // by public key
}

type foundKey struct {
	found
	public string
}

func (k *keyring) add(x found) {
	if k.byPublic == nil {
		k.byPublic, k.fate = map[string]crypto.Signer{}, map[string]string{}
	}
	public := publicKey(x.key.Public())
	k.list = append(k.list, foundKey{x, public})
	k.byPublic[public] = x.key
}

// settle notes what became of a key. One that went to somebody was taken,
// whatever else was refused.
func (k *keyring) settle(public, fate string) {
	if k.byPublic[public] != nil && k.fate[public] != keyTaken {
		k.fate[public] = fate
	}
}

// publicKey is a public key as its SubjectPublicKeyInfo, and "" where it has
// none: then it is nobody's.
func publicKey(pub crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return ""
	}
	return string(der)
}

// ourOwners gives those of a certificate's owners that belong to us.
func ourOwners(tx *store.Tx, c *x509.Certificate) ([]direct.Owner, error) {
	all, err := store.OwnersOf(c)
	if err != nil {
		return nil, err
	}
	ours := slices.DeleteFunc(slices.Clone(all), func(o direct.Owner) bool { return !tx.Has(o.Domain()) })
	if len(ours) == 0 {
		return nil, fmt.Errorf("belongs to %v, which is in no domain of this node; add the domain first", all)
	}
	return ours, nil
}

// record notes what became of a certificate under one owner.
func (r *ImportResult) record(item ImportItem, added bool, err error, c *x509.Certificate) {
	switch {
	case err != nil:
		r.refuse(item, err.Error())
	case time.Now().After(c.NotAfter):
		r.add(item, "warning", "taken although it expired on "+c.NotAfter.UTC().Format(time.DateOnly))
		r.Taken++
	case !added:
		r.add(item, "known", knownReason(item.Kind))
		r.Taken++
	default:
		r.add(item, "taken", "")
		r.Taken++
	}
}

func knownReason(kind string) string {
	if kind == "anchor" {
		return "was here before; for which mail it counts is up to date"
	}
	return "was here before; its key and where it is published are up to date"
}

func (r *ImportResult) refuse(item ImportItem, why string) { r.add(item, "refused", why) }

func (r *ImportResult) add(item ImportItem, state, reason string) {
	item.State, item.Reason = state, reason
	switch state {
	case "refused":
		r.Refused++
	case "warning":
		r.Warned++
	case "replaced":
		r.Replaced++
	}
	if len(r.Items) >= maxItems {
		r.Omitted++
		return
	}
	r.Items = append(r.Items, item)
}

// code is the tool's exit code: what was refused outweighs what was only odd.
func (r *ImportResult) code() int {
	switch {
	case r.Refused > 0:
		return CodeFailed
	case r.Warned > 0:
		return CodeWarnings
	}
	return CodeOK
}
