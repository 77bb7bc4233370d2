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

// errDryRun ends a transaction that must not be committed.
var errDryRun = errors.New("dry run")

// ImportCertificates takes certificates and the private keys found beside them.
// The owner comes from the subjectAltName (AS 1.4-d, 1.4-e); what belongs to no
// domain of ours is refused and named, the rest of the batch is taken, in one
// transaction.
func (s *Service) ImportCertificates(ctx context.Context, req ImportRequest) (ImportResult, error) {
	toDNS, toLDAP, err := publishTo(req.Publish)
	if err != nil {
		return ImportResult{}, err
	}
	res := ImportResult{DryRun: req.DryRun, Items: []ImportItem{}}
	var certs, keys []found
	for _, f := range req.Files {
		for _, x := range classify(f, req.Passphrase) {
			switch {
			case x.cert != nil:
				certs = append(certs, x)
			case x.key != nil:
				keys = append(keys, x)
			default:
				res.refuse(ImportItem{File: x.file, Kind: "file"}, x.bad)
			}
		}
	}
	used := make([]string, len(keys)) // what became of each key; "" = nobody asked for it
	_, err = s.store.Update(ctx, func(tx *store.Tx) error {
		for _, c := range certs {
			importCertificate(tx, &res, c, keys, used, toDNS, toLDAP)
		}
		if req.DryRun || res.Taken == 0 {
			return errDryRun
		}
		return nil
	})
	if err != nil && !errors.Is(err, errDryRun) {
		return ImportResult{}, storeFailure("nothing was imported", err)
	}
	for i, k := range keys {
		switch item := (ImportItem{File: k.file, Kind: "key"}); used[i] {
		case "":
			res.refuse(item, "a private key, and no certificate for it beside it; give both together")
		case "refused":
			res.refuse(item, "the key of a certificate that was refused")
		}
	}
	res.Code = res.code()
	return res, nil
}

func publishTo(list []string) (dns, ldap bool, err error) {
	if len(list) == 0 {
		return true, true, nil
	}
	for _, p := range list {
		switch p {
		case "dns":
			dns = true
		case "ldap":
			ldap = true
		case "none":
		default:
			return false, false, &Error{"DN-CERT-001", CodeUsage, "nothing was imported", fmt.Sprintf("%q is no place to publish in", p), "write dns, ldap, dns,ldap or none"}
		}
	}
	return dns, ldap, nil
}

// importCertificate takes one certificate, under every owner of ours that its
// subjectAltName names, with its key where there is one.
func importCertificate(tx *store.Tx, res *ImportResult, c found, keys []found, used []string, toDNS, toLDAP bool) {
	item := ImportItem{File: c.file, Kind: "certificate", SHA256: store.Fingerprint(c.cert.Raw)}
	if c.cert.IsCA {
		const why = "the certificate of an issuer, which is not published; if you trust it, add it with `directctl anchor add`"
		if c.chain {
			res.add(item, "known", why)
		} else {
			res.refuse(item, why)
		}
		return
	}
	keyAt := slices.IndexFunc(keys, func(k found) bool { return samePublicKey(k.key, c.cert) })
	owners, err := ourOwners(tx, c.cert)
	if err != nil {
		if keyAt >= 0 && used[keyAt] == "" {
			used[keyAt] = "refused"
		}
		res.refuse(item, err.Error())
		return
	}
	for _, o := range owners {
		item.Owner = o.String()
		added, err := tx.AddCertificate(store.Certificate{Owner: o, DER: c.cert.Raw, PublishDNS: toDNS, PublishLDAP: toLDAP})
		if err == nil && keyAt >= 0 {
			used[keyAt] = "taken"
			err = tx.PutKey(item.SHA256, o, keys[keyAt].key)
		}
		res.record(item, added, err, c.cert)
	}
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
		r.add(item, "known", "was here before; its key and where it is published were brought up to date")
		r.Taken++
	default:
		r.add(item, "taken", "")
		r.Taken++
	}
}

func samePublicKey(k crypto.Signer, c *x509.Certificate) bool {
	pub, ok := k.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && pub.Equal(c.PublicKey)
}

func (r *ImportResult) refuse(item ImportItem, why string) { r.add(item, "refused", why) }

func (r *ImportResult) add(item ImportItem, state, reason string) {
	item.State, item.Reason = state, reason
	switch state {
	case "refused":
		r.Refused++
	case "warning":
		r.Warned++
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
