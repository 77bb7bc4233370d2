package admin

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"directnode/internal/direct"
	"directnode/ldapserver/dit"
	"directnode/store"
	"directnode/zones"
)

// ImportLDIF takes entries with mail and userCertificate as another directory
// published them.
func (s *Service) ImportLDIF(ctx context.Context, req ImportRequest) (ImportResult, error) {
	if len(req.Files) != 1 {
		return ImportResult{}, &Error{"DN-LDIF-001", CodeUsage, "nothing was imported", fmt.Sprintf("%d files", len(req.Files)), "give one LDIF file"}
	}
	f := req.Files[0]
	return s.ImportLDIFText(ctx, req, Source{f.Name, bytes.NewReader(f.Data), int64(len(f.Data))}, nil)
}

// ImportLDIFText is ImportLDIF for a text that is not held in memory.
func (s *Service) ImportLDIFText(ctx context.Context, req ImportRequest, f Source, report Reporter) (ImportResult, error) {
	text := &watched{ctx: ctx, r: f.Text, size: f.Size, report: report}
	entries, err := dit.ParseLDIF(text, f.Name)
	if text.err != nil {
		return ImportResult{}, storeFailure("nothing was imported", text.err)
	}
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

const (
	unboundRefused = "its subjectAltName does not bind it to its owner (AS 4.1)"
	unboundTaken   = "taken as published, but its subjectAltName does not bind it to its owner: nobody may use it for that address (AS 4.1)"
)

// foreigner is one certificate as somebody else published it.
type foreigner struct {
	owner   direct.Owner
	cert    *x509.Certificate
	bound   bool
	publish store.Certificate // where; what is published elsewhere already stays so
}

// foreign takes one certificate as somebody else published it.
func foreign(tx *store.Tx, res *ImportResult, item ImportItem, owner direct.Owner, der []byte, strict bool, publish store.Certificate) {
	item.Owner, item.SHA256 = owner.String(), store.Fingerprint(der)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		res.refuse(item, "does not parse as a certificate: "+err.Error())
		return
	}
	f := foreigner{owner, cert, store.Binds(cert, owner), publish}
	if strict && !f.bound {
		res.refuse(item, unboundRefused)
		return
	}
	added, err := f.add(tx, item.SHA256)
	if err != nil {
		res.refuse(item, err.Error())
		return
	}
	f.account(res, item, added)
}

// add stores it and tells whether it was not here before.
func (f *foreigner) add(tx *store.Tx, sha string) (bool, error) {
	c := f.publish
	c.Owner, c.DER = f.owner, f.cert.Raw
	if here, ok := holding(tx, f.owner, sha); ok {
		c.PublishDNS, c.PublishLDAP = c.PublishDNS || here.PublishDNS, c.PublishLDAP || here.PublishLDAP
	}
	return tx.AddParsed(c, f.cert)
}

// account notes that it was taken, and what is odd about it.
func (f *foreigner) account(res *ImportResult, item ImportItem, added bool) {
	if !f.bound {
		res.add(item, "warning", unboundTaken)
		res.Taken++
		return
	}
	res.record(item, added, nil, f.cert)
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
	var b strings.Builder
	err := s.WriteZone(&b, req)
	return Text{b.String()}, err
}

// WriteZone is ExportZone for a text that is not held in memory.
func (s *Service) WriteZone(w io.Writer, req ExportRequest) error {
	v, data, err := s.domainData(req.Domain)
	if err != nil {
		return err
	}
	if req.Format == "" {
		req.Format = zones.FormatBIND
	}
	if !slices.Contains(zones.Formats(), req.Format) {
		return &Error{"DN-ZONE-003", CodeUsage, "nothing was exported", fmt.Sprintf("there is no format %.40q", req.Format), "write --format " + strings.Join(zones.Formats(), ", ")}
	}
	if err := zones.WriteMaster(w, v, data.Domain, req.Format); err != nil {
		return &Error{"DN-ZONE-003", CodeFailed, "nothing was exported", err.Error(), "correct the zone; `directctl zone check` tells more"}
	}
	return nil
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
	var b strings.Builder
	err := s.WriteLDIF(&b, req)
	return Text{b.String()}, err
}

// WriteLDIF is ExportLDIF for a text that is not held in memory.
func (s *Service) WriteLDIF(w io.Writer, req ExportRequest) error {
	v, data, err := s.domainData(req.Domain)
	if err != nil {
		return err
	}
	if err := dit.WriteLDIF(w, v, data.Domain); err != nil {
		return storeFailure("nothing was exported", err)
	}
	return nil
}
