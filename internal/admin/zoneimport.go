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
	"time"

	"directnode/internal/direct"
	"directnode/store"
	"directnode/zones"
)

// Source is a text that an import reads once, from its beginning to its end.
type Source struct {
	Name string // for messages
	Text io.Reader
	Size int64 // of the text; 0 where nobody knows
}

// ImportZone takes zone text as another publisher published it: its records
// replace those of the domain, its CERT records are added. Certificates that do
// not bind to their owner are counted as warnings, or left out when strict. A
// zone with an error is not taken at all.
func (s *Service) ImportZone(ctx context.Context, req ImportRequest) (ImportResult, error) {
	if len(req.Files) != 1 {
		if _, err := parseDomain(req.Origin); err != nil {
			return ImportResult{}, err
		}
		return ImportResult{}, &Error{"DN-ZONE-001", CodeUsage, "nothing was imported", fmt.Sprintf("%d files", len(req.Files)), "give one zone file"}
	}
	f := req.Files[0]
	return s.ImportZoneText(ctx, req, Source{f.Name, bytes.NewReader(f.Data), int64(len(f.Data))}, nil)
}

// ImportZoneText is ImportZone for a text that is not held in memory. What it
// is about to do goes to report before it is done.
func (s *Service) ImportZoneText(ctx context.Context, req ImportRequest, src Source, report Reporter) (ImportResult, error) {
	d, err := parseDomain(req.Origin)
	if err != nil {
		return ImportResult{}, err
	}
	im := &zoneImport{
		service: s, domain: d, req: req, src: src, report: report,
		res: ImportResult{DryRun: req.DryRun, Items: []ImportItem{}}, plan: newZonePlanner(d), at: time.Now(),
	}
	err = s.change(ctx, req.DryRun, func(tx *store.Tx) error { return im.run(ctx, tx) })
	return im.finish(err)
}

// zoneImport is one import of zone text on its way.
type zoneImport struct {
	service *Service
	domain  direct.Domain
	req     ImportRequest
	src     Source
	report  Reporter
	at      time.Time

	res    ImportResult
	plan   *planner
	parsed zones.Parsed
}

// run reads the text and makes the change of it. An error refuses all of it.
func (im *zoneImport) run(ctx context.Context, tx *store.Tx) error {
	if err := follows(tx.Transfer(im.domain)); err != nil {
		return err
	}
	var before []store.Record
	if tx.Has(im.domain) {
		before = tx.Domain(im.domain).Records
	} else {
		im.plan.out.New = true
		if err := tx.AddDomain(im.domain, nil); err != nil {
			return err
		}
	}
	text := &watched{ctx: ctx, r: im.src.Text, size: im.src.Size, report: im.report}
	var err error
	im.parsed, err = zones.ScanMaster(text, im.domain, im.src.Name, func(c zones.ParsedCert, cert *x509.Certificate) error { return im.take(tx, c, cert) })
	if text.err != nil { // not the text's fault
		return text.err
	}
	if err != nil {
		return err
	}
	records := im.service.complete(im.domain, im.parsed.Records)
	if err := tx.SetRecords(im.domain, records); err != nil {
		return err
	}
	im.plan.records(before, records)
	im.res.Taken += len(im.parsed.Records)
	im.res.Plan = im.plan.done()
	im.report.send(Event{Plan: im.res.Plan})
	return ctx.Err() // nobody hears of a change that nobody waits for
}

// take takes one certificate of the text.
func (im *zoneImport) take(tx *store.Tx, c zones.ParsedCert, cert *x509.Certificate) error {
	item := ImportItem{File: fmt.Sprintf("%s:%d", im.src.Name, c.Line), Kind: "record", Owner: c.Owner.String(), SHA256: store.Fingerprint(c.DER)}
	f := foreigner{owner: c.Owner, cert: cert, bound: store.Binds(cert, c.Owner), publish: store.Certificate{PublishDNS: true}}
	if im.req.Strict && !f.bound {
		im.res.refuse(item, unboundRefused)
		im.plan.left(c.Owner)
		return nil
	}
	added, err := f.add(tx, item.SHA256)
	if err != nil {
		return err // a name with too much at it: nothing of the zone is taken
	}
	f.account(&im.res, item, added)
	im.plan.certificate(c.Owner, added, f.bound, im.at.After(cert.NotAfter))
	return nil
}

// finish turns the outcome into the answer.
func (im *zoneImport) finish(err error) (ImportResult, error) {
	const what = "nothing was imported"
	var text *zones.MasterError
	var build *zones.BuildError
	var ours *Error
	switch {
	case errors.As(err, &ours):
		return ImportResult{}, ours
	case errors.As(err, &text):
		return ImportResult{}, &Error{"DN-ZONE-002", CodeFailed, what, err.Error(), "correct the line and import the file again"}
	case errors.As(err, &build) && errors.Is(err, store.ErrUnservable):
		return ImportResult{}, &Error{"DN-ZONE-004", CodeFailed, what, im.place(build) + err.Error(), im.remedy(build)}
	}
	return finish(&im.res, err)
}

// place gives "file:line: " for what cannot be published, where the text has
// it.
func (im *zoneImport) place(e *zones.BuildError) string {
	i := slices.IndexFunc(im.parsed.Records, func(r store.Record) bool {
		return strings.EqualFold(r.Name, e.Name) && (e.Type == "" || strings.EqualFold(r.Type, e.Type))
	})
	if i < 0 {
		return ""
	}
	return fmt.Sprintf("%s:%d: ", im.src.Name, im.parsed.Lines[i])
}

func (im *zoneImport) remedy(e *zones.BuildError) string {
	if e.Type == "CERT" {
		return "remove certificates of that name from the file, or from the store with `directctl cert remove`, and import the file again"
	}
	return "correct the records of that name and import the file again"
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
