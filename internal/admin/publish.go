package admin

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"slices"
	"strings"

	"directnode/internal/direct"
	"directnode/ldapserver/dit"
	"directnode/store"
	"directnode/zones"
)

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
	if req.Format == "" {
		req.Format = dit.LDIFPlain
	}
	if !slices.Contains(dit.LDIFFormats(), req.Format) {
		return &Error{"DN-LDIF-004", CodeUsage, "nothing was exported", fmt.Sprintf("there is no format %.40q", req.Format), "write --format " + strings.Join(dit.LDIFFormats(), " or ")}
	}
	if err := dit.WriteLDIF(w, v, data.Domain, req.Format); err != nil {
		return storeFailure("nothing was exported", err)
	}
	return nil
}
