package admin

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"directnode/internal/direct"
	"directnode/ldapserver/dit"
	"directnode/store"
)

// ImportLDIF takes entries with mail and userCertificate as another directory
// published them. What LDAP showed there is shown by LDAP here, under every
// address of the entry that is ours. An entry is taken whole or, where it is
// malformed, not at all; certificates that do not bind to their owner are
// counted as warnings, or left out when strict.
func (s *Service) ImportLDIF(ctx context.Context, req ImportRequest) (ImportResult, error) {
	if len(req.Files) != 1 {
		return ImportResult{}, &Error{"DN-LDIF-001", CodeUsage, "nothing was imported", fmt.Sprintf("%d files", len(req.Files)), "give one LDIF file"}
	}
	f := req.Files[0]
	return s.ImportLDIFText(ctx, req, Source{f.Name, bytes.NewReader(f.Data), int64(len(f.Data))}, nil)
}

// ImportLDIFText is ImportLDIF for a text that is not held in memory. What it
// is about to do goes to report before it is done.
func (s *Service) ImportLDIFText(ctx context.Context, req ImportRequest, src Source, report Reporter) (ImportResult, error) {
	im := &ldifImport{
		req: req, src: src, report: report, at: time.Now(),
		res: ImportResult{DryRun: req.DryRun, Items: []ImportItem{}}, plan: newPlanner(ImportPlan{Entries: &EntryPlan{}}),
	}
	err := s.change(ctx, req.DryRun, func(tx *store.Tx) error { return im.run(ctx, tx) })
	var text *dit.LDIFError
	if errors.As(err, &text) {
		return ImportResult{}, &Error{"DN-LDIF-002", CodeFailed, "nothing was imported", err.Error(), "correct the line and import the file again"}
	}
	return finish(&im.res, err)
}

// TakesLDIF tells whether an import of LDIF takes values of an attribute.
func TakesLDIF(attribute []byte) bool { return dit.LDIFWants(attribute) }

// ldifImport is one import of an LDIF file on its way.
type ldifImport struct {
	req    ImportRequest
	src    Source
	report Reporter
	at     time.Time

	res  ImportResult
	plan *planner
}

// run reads the file and makes the change of it. An error refuses all of it.
func (im *ldifImport) run(ctx context.Context, tx *store.Tx) error {
	text := &watched{ctx: ctx, r: im.src.Text, size: im.src.Size, report: im.report}
	sum, err := dit.ScanLDIF(text, im.src.Name, func(e dit.LDIFEntry) error {
		im.take(tx, e)
		return nil
	})
	if text.err != nil { // not the text's fault
		return text.err
	}
	if err != nil {
		return err
	}
	if sum.Partial != "" {
		im.res.add(ImportItem{File: im.src.Name, Kind: "file"}, "warning", "not all that was asked for is in it: "+sum.Partial)
	}
	im.plan.out.Entries.Read, im.plan.out.Entries.Without = sum.Entries, sum.Without
	im.res.Plan = im.plan.done()
	im.report.send(Event{Plan: im.res.Plan})
	return ctx.Err() // nobody hears of a change that nobody waits for
}

// item is an entry of the account that begins on a line.
func (im *ldifImport) item(line int) ImportItem {
	return ImportItem{File: fmt.Sprintf("%s:%d", im.src.Name, line), Kind: "entry"}
}

func (im *ldifImport) refuse(line int, why string) {
	im.plan.out.Entries.Refused++
	im.res.refuse(im.item(line), why)
}

// take takes one entry of the file. What makes it malformed is found before
// anything of it is added.
func (im *ldifImport) take(tx *store.Tx, e dit.LDIFEntry) {
	if e.Fault != nil {
		im.refuse(e.Fault.Line, e.Fault.Text)
		return
	}
	for _, n := range e.Notes {
		im.res.add(im.item(n.Line), "warning", n.Text)
	}
	if len(e.Certs) == 0 {
		return
	}
	certs, line, err := certificatesOf(e)
	if err != nil {
		im.refuse(line, err.Error())
		return
	}
	owners := im.owners(tx, e)
	for _, o := range owners {
		if err := tx.CheckRoom(o, im.acceptable(o, certs)...); err != nil {
			im.refuse(e.Line, err.Error())
			return
		}
	}
	taken := im.res.Taken
	for _, o := range owners {
		for _, c := range certs {
			im.add(tx, im.item(e.Line), o, c)
		}
	}
	if im.res.Taken > taken {
		im.plan.out.Entries.Taken++
	}
}

// certificatesOf parses the certificates of an entry, each once: servers that
// were fed in both ways hold the same under userCertificate and
// userCertificate;binary.
func certificatesOf(e dit.LDIFEntry) (certs []*x509.Certificate, line int, err error) {
	for _, v := range e.Certs {
		c, err := x509.ParseCertificate(v.Data)
		switch {
		case err != nil && bytes.HasPrefix(v.Data, []byte("-----BEGIN")):
			return nil, v.Line, errors.New("userCertificate is PEM text: the attribute's values are DER (RFC 4523 §2.1)")
		case err != nil:
			return nil, v.Line, fmt.Errorf("userCertificate does not parse as a certificate: %w", err)
		}
		if !slices.ContainsFunc(certs, func(other *x509.Certificate) bool { return bytes.Equal(other.Raw, c.Raw) }) {
			certs = append(certs, c)
		}
	}
	return certs, 0, nil
}

// owners gives those owners of an entry that are ours. Further addresses, at
// other providers or in other domains, are no fault of an entry that has one of
// ours; an entry that has none is refused.
func (im *ldifImport) owners(tx *store.Tx, e dit.LDIFEntry) []direct.Owner {
	if len(e.Mails) == 0 {
		im.refuse(e.Line, "userCertificate without mail: whose certificate is it?")
		return nil
	}
	var owners []direct.Owner
	type other struct {
		line int
		why  string
	}
	var others []other
	seen := make(map[string]bool, len(e.Mails))
	for _, m := range e.Mails {
		o, err := direct.ParseOwner(string(m.Data))
		switch {
		case err != nil:
			others = append(others, other{m.Line, err.Error()})
		case !tx.Has(o.Domain()):
			others = append(others, other{m.Line, o.String() + " is in no domain of this node; add the domain first"})
		case !seen[o.Key()]:
			seen[o.Key()] = true
			owners = append(owners, o)
		}
	}
	if len(owners) == 0 {
		im.refuse(others[0].line, others[0].why)
		return nil
	}
	for _, x := range others {
		im.res.add(im.item(x.line), "warning", "not taken under this address: "+x.why)
	}
	return owners
}

// acceptable leaves out what is refused to an owner.
func (im *ldifImport) acceptable(o direct.Owner, certs []*x509.Certificate) []*x509.Certificate {
	if !im.req.Strict {
		return certs
	}
	return slices.DeleteFunc(slices.Clone(certs), func(c *x509.Certificate) bool { return !store.Binds(c, o) })
}

// add takes one certificate for one owner.
func (im *ldifImport) add(tx *store.Tx, item ImportItem, o direct.Owner, c *x509.Certificate) {
	item.Owner, item.SHA256 = o.String(), store.Fingerprint(c.Raw)
	f := foreigner{owner: o, cert: c, bound: store.Binds(c, o), publish: store.Certificate{PublishLDAP: true}}
	if im.req.Strict && !f.bound {
		im.res.refuse(item, unboundRefused)
		im.plan.left(o)
		return
	}
	added, err := f.add(tx, item.SHA256)
	if err != nil {
		im.res.refuse(item, err.Error())
		return
	}
	f.account(&im.res, item, added)
	im.plan.certificate(o, added, f.bound, im.at.After(c.NotAfter))
}
