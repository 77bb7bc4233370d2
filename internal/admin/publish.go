package admin

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"directnode/internal/direct"
	"directnode/ldapserver/dit"
	"directnode/store"
	"directnode/zones"
)

// ImportZone takes zone text as another publisher published it: its records
// replace those of the domain, its CERT records are added. Certificates that do
// not bind to their owner are counted as warnings, or refused when strict. A
// zone with an error is not taken at all.
func (s *Service) ImportZone(ctx context.Context, req ImportRequest) (ImportResult, error) {
	d, err := parseDomain(req.Origin)
	if err != nil {
		return ImportResult{}, err
	}
	if len(req.Files) != 1 {
		return ImportResult{}, &Error{"DN-ZONE-001", CodeUsage, "nothing was imported", fmt.Sprintf("%d files", len(req.Files)), "give one zone file"}
	}
	f := req.Files[0]
	parsed, err := zones.ParseMaster(bytes.NewReader(f.Data), d, f.Name)
	if err != nil {
		return ImportResult{}, &Error{"DN-ZONE-002", CodeFailed, "nothing was imported", err.Error(), "correct the line and import the file again"}
	}
	res := ImportResult{DryRun: req.DryRun, Items: []ImportItem{}}
	err = s.change(ctx, req.DryRun, func(tx *store.Tx) error {
		records := s.complete(d, parsed.Records)
		if tx.Has(d) {
			err = tx.SetRecords(d, records)
		} else {
			err = tx.AddDomain(d, records)
		}
		if err != nil {
			return err
		}
		res.Taken += len(parsed.Records)
		for _, c := range parsed.Certs {
			foreign(tx, &res, ImportItem{File: fmt.Sprintf("%s:%d", f.Name, c.Line), Kind: "record"}, c.Owner, c.DER, req.Strict, store.Certificate{PublishDNS: true})
		}
		return nil
	})
	return finish(&res, err)
}

// complete adds SOA and NS where the text has none: a zone needs both
// (RFC 1035 §5.2).
func (s *Service) complete(d direct.Domain, records []store.Record) []store.Record {
	has := make(map[string]bool)
	for _, r := range records {
		if strings.EqualFold(r.Name, d.DNSName()) {
			has[r.Type] = true
		}
	}
	for _, r := range zones.DefaultRecords(d, zones.DefaultOptions{Hostname: s.o.Hostname, Addresses: s.o.Listen}) {
		if (r.Type == "SOA" || r.Type == "NS") && !has[r.Type] {
			records = append(records, r)
		}
	}
	return records
}

// ImportLDIF takes entries with mail and userCertificate as another directory
// published them.
func (s *Service) ImportLDIF(ctx context.Context, req ImportRequest) (ImportResult, error) {
	if len(req.Files) != 1 {
		return ImportResult{}, &Error{"DN-LDIF-001", CodeUsage, "nothing was imported", fmt.Sprintf("%d files", len(req.Files)), "give one LDIF file"}
	}
	f := req.Files[0]
	entries, err := dit.ParseLDIF(bytes.NewReader(f.Data), f.Name)
	var problems dit.LDIFProblems
	if err != nil && !errors.As(err, &problems) {
		return ImportResult{}, &Error{"DN-LDIF-002", CodeFailed, "nothing was imported", err.Error(), "correct the line and import the file again"}
	}
	res := ImportResult{DryRun: req.DryRun, Items: []ImportItem{}}
	for _, p := range problems {
		res.refuse(ImportItem{File: fmt.Sprintf("%s:%d", f.Name, p.Line), Kind: "entry"}, p.Text)
	}
	err = s.change(ctx, req.DryRun, func(tx *store.Tx) error {
		for _, e := range entries {
			item := ImportItem{File: fmt.Sprintf("%s:%d", f.Name, e.Line), Kind: "entry"}
			owner, err := direct.ParseOwner(e.Mail)
			if err == nil && !tx.Has(owner.Domain()) {
				err = fmt.Errorf("%s is in no domain of this node; add the domain first", owner)
			}
			if err != nil {
				res.refuse(item, err.Error())
				continue
			}
			for _, der := range e.Certs {
				foreign(tx, &res, item, owner, der, req.Strict, store.Certificate{PublishLDAP: true})
			}
		}
		return nil
	})
	return finish(&res, err)
}

// foreign takes one certificate as somebody else published it.
func foreign(tx *store.Tx, res *ImportResult, item ImportItem, owner direct.Owner, der []byte, strict bool, c store.Certificate) {
	item.Owner, item.SHA256 = owner.String(), store.Fingerprint(der)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		res.refuse(item, "does not parse as a certificate: "+err.Error())
		return
	}
	bound := store.Binds(cert, owner)
	if strict && !bound {
		res.refuse(item, "its subjectAltName does not bind it to its owner (AS 4.1)")
		return
	}
	c.Owner, c.DER = owner, der
	if here, ok := holding(tx, owner, item.SHA256); ok { // where it is published already stays
		c.PublishDNS, c.PublishLDAP = c.PublishDNS || here.PublishDNS, c.PublishLDAP || here.PublishLDAP
	}
	added, err := tx.AddCertificate(c)
	if err == nil && !bound {
		res.add(item, "warning", "taken as published, but its subjectAltName does not bind it to its owner: nobody may use it for that address (AS 4.1)")
		res.Taken++
		return
	}
	res.record(item, added, err, cert)
}

func finish(res *ImportResult, err error) (ImportResult, error) {
	if err != nil {
		return ImportResult{}, storeFailure("nothing was imported", err)
	}
	res.Code = res.code()
	return *res, nil
}

// ExportZone gives the zone text of a domain.
func (s *Service) ExportZone(_ context.Context, req ExportRequest) (Text, error) {
	v, data, err := s.domainData(req.Domain)
	if err != nil {
		return Text{}, err
	}
	if req.Format == "" {
		req.Format = "bind"
	}
	var b strings.Builder
	if err := zones.WriteMaster(&b, v, data.Domain, req.Format); err != nil {
		return Text{}, &Error{"DN-ZONE-003", CodeUsage, "nothing was exported", err.Error(), "write --format bind, rfc3597 or nsupdate"}
	}
	return Text{b.String()}, nil
}

// CheckZone looks at a zone as the DNS shows it and says what keeps mail or
// certificates from those who ask. It asks nobody.
func (s *Service) CheckZone(_ context.Context, req DomainRequest) (ZoneCheck, error) {
	v, data, err := s.domainData(req.Domain)
	if err != nil {
		return ZoneCheck{}, err
	}
	c := ZoneCheck{Findings: []Finding{}}
	for _, f := range zones.Check(v, data.Domain) {
		c.Findings = append(c.Findings, Finding{string(f.Level), f.Name, f.Citation, f.What, f.Do})
		switch {
		case f.Level == zones.LevelError:
			c.Code = CodeFailed
		case c.Code == CodeOK:
			c.Code = CodeWarnings
		}
	}
	return c, nil
}

// ExportLDIF gives the published entries of a domain.
func (s *Service) ExportLDIF(_ context.Context, req ExportRequest) (Text, error) {
	v, data, err := s.domainData(req.Domain)
	if err != nil {
		return Text{}, err
	}
	var b strings.Builder
	if err := dit.WriteLDIF(&b, v, data.Domain); err != nil {
		return Text{}, storeFailure("nothing was exported", err)
	}
	return Text{b.String()}, nil
}
