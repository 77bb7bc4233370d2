package admin

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"

	"directnode/internal/direct"
	"directnode/resolver/trust"
	"directnode/store"
)

// ListCertificates gives the certificates of an owner, or all.
func (s *Service) ListCertificates(_ context.Context, q CertificateQuery) ([]Certificate, error) {
	return s.selectCertificates(q, false)
}

// ShowCertificates gives them with their PEM.
func (s *Service) ShowCertificates(_ context.Context, q CertificateQuery) ([]Certificate, error) {
	list, err := s.selectCertificates(q, true)
	if err == nil && len(list) == 0 {
		return nil, noCertificate(q)
	}
	return list, err
}

func noCertificate(q CertificateQuery) error {
	asked := strings.TrimSpace(q.Owner + " " + q.SHA256)
	if asked == "" {
		asked = "an empty question"
	}
	return &Error{"DN-CERT-002", CodeFailed, "nothing found", "no certificate matches " + asked, "`directctl cert list` shows what there is"}
}

func (s *Service) selectCertificates(q CertificateQuery, withPEM bool) ([]Certificate, error) {
	list := []Certificate{}
	v := s.store.View()
	for _, d := range v.Domains() {
		for c := range v.Domain(d).Certificates.Sorted {
			if q.matches(c) {
				list = append(list, describe(c, withPEM))
			}
		}
	}
	return list, nil
}

// matches compares the owner without regard to case and takes a fingerprint by
// its beginning, as people copy them.
func (q CertificateQuery) matches(c store.Certificate) bool {
	if q.Owner != "" && !strings.EqualFold(q.Owner, c.Owner.String()) {
		return false
	}
	return strings.HasPrefix(c.SHA256, fingerprint(q.SHA256))
}

// fingerprint takes hexadecimal digits as people copy them: in either case,
// with the colons of openssl or without.
func fingerprint(s string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimSpace(s), ":", ""))
}

func describe(c store.Certificate, withPEM bool) Certificate {
	d := Certificate{Owner: c.Owner.String(), SHA256: c.SHA256, HasKey: c.HasKey, Bound: c.Bound, Publish: []string{}}
	if c.PublishDNS {
		d.Publish = append(d.Publish, "dns")
	}
	if c.PublishLDAP {
		d.Publish = append(d.Publish, "ldap")
	}
	if cert, err := x509.ParseCertificate(c.DER); err == nil {
		d.Subject, d.Issuer, d.NotBefore, d.NotAfter = cert.Subject.String(), cert.Issuer.String(), cert.NotBefore, cert.NotAfter
	}
	if withPEM {
		d.PEM = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.DER}))
	}
	return d
}

// RemoveCertificate removes one certificate, with its key, by fingerprint.
func (s *Service) RemoveCertificate(ctx context.Context, q CertificateQuery) (Done, error) {
	list, err := s.selectCertificates(q, false)
	switch {
	case err != nil:
		return Done{}, err
	case len(fingerprint(q.SHA256)) < minPrefix:
		return Done{}, &Error{"DN-CERT-003", CodeUsage, "nothing was removed", fmt.Sprintf("%q is too little of a fingerprint", q.SHA256), fmt.Sprintf("give at least %d digits of the certificate's SHA-256; `directctl cert list` shows them", minPrefix)}
	case len(list) == 0:
		return Done{}, noCertificate(q)
	}
	sha := list[0].SHA256
	for _, c := range list {
		if c.SHA256 != sha {
			return Done{}, &Error{"DN-CERT-003", CodeUsage, "nothing was removed", "several certificates begin with " + q.SHA256, "give more of the fingerprint"}
		}
	}
	if _, err := s.store.Update(ctx, func(tx *store.Tx) error { return tx.RemoveCertificate(sha) }); err != nil {
		return Done{}, storeFailure("the certificate was not removed", err)
	}
	return Done{fmt.Sprintf("certificate %s of %s removed", sha[:16], list[0].Owner)}, nil
}

// AddAnchor makes a certificate a trust anchor of a domain (AS 4.2.1).
func (s *Service) AddAnchor(ctx context.Context, req AnchorRequest) (ImportResult, error) {
	_, data, err := s.domainData(req.Domain)
	if err != nil {
		return ImportResult{}, err
	}
	if !req.In && !req.Out {
		req.In, req.Out = true, true
	}
	if trust.IsSignedBundle(bytes.TrimPrefix(req.File.Data, byteOrderMark)) {
		return ImportResult{}, &Error{"DN-ANCHOR-003", CodeUsage, "no anchor was added", req.File.Name + " is a signed bundle: the certificates beside the signature are its signer's, not anchors", "add it with `directctl bundle add --file FILE --signer CERTIFICATE`"}
	}
	res := ImportResult{Items: []ImportItem{}}
	list := classify(req.File, "")
	err = s.change(ctx, false, func(tx *store.Tx) error {
		for _, x := range list {
			addAnchor(tx, &res, x, data.Domain, req)
		}
		if res.Taken == 0 {
			return errNothing
		}
		return nil
	})
	if err != nil {
		return ImportResult{}, storeFailure("no anchor was added", err)
	}
	res.Code = res.code()
	return res, nil
}

func addAnchor(tx *store.Tx, res *ImportResult, x found, d direct.Domain, req AnchorRequest) {
	item := ImportItem{File: x.file, Kind: "anchor", Owner: d.String()}
	switch {
	case x.key != nil:
		item.Kind = "key"
		res.refuse(item, "a private key, not a certificate; an anchor needs the certificate only")
	case x.cert == nil:
		item.Kind = "file"
		res.refuse(item, x.bad)
	default:
		item.SHA256 = store.Fingerprint(x.cert.Raw)
		added, err := tx.AddAnchor(d, x.cert.Raw, req.In, req.Out)
		res.record(item, added, err, x.cert)
	}
}

// ListAnchors gives the anchors of a domain, or of all.
func (s *Service) ListAnchors(_ context.Context, req AnchorRequest) ([]Anchor, error) {
	v, domains, err := s.chosen(req.Domain)
	if err != nil {
		return nil, err
	}
	list := []Anchor{}
	for _, d := range domains {
		list = append(list, anchorsOf(v.Domain(d))...)
	}
	return list, nil
}

// RemoveAnchor removes an anchor of a domain by the beginning of its
// fingerprint.
func (s *Service) RemoveAnchor(ctx context.Context, req AnchorRequest) (Done, error) {
	_, data, err := s.domainData(req.Domain)
	if err != nil {
		return Done{}, err
	}
	var match []string
	for _, a := range data.Anchors {
		if prefix := fingerprint(req.SHA256); len(prefix) >= minPrefix && strings.HasPrefix(a.SHA256, prefix) {
			match = append(match, a.SHA256)
		}
	}
	if len(match) != 1 {
		return Done{}, &Error{"DN-ANCHOR-001", CodeFailed, "nothing was removed", fmt.Sprintf("%d anchors of %s begin with %q", len(match), data.Domain, req.SHA256), fmt.Sprintf("give at least %d digits of its SHA-256; `directctl anchor list` shows them", minPrefix)}
	}
	if _, err := s.store.Update(ctx, func(tx *store.Tx) error { return tx.RemoveAnchor(data.Domain, match[0]) }); err != nil {
		return Done{}, storeFailure("the anchor was not removed", err)
	}
	return Done{fmt.Sprintf("anchor %s of %s removed", match[0][:16], data.Domain)}, nil
}
