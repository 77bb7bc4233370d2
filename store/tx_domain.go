package store

import (
	"fmt"
	"slices"
	"strings"

	"directnode/internal/direct"
)

// AddDomain makes the node responsible for a domain, with these records.
// ErrExists if it is there.
func (tx *Tx) AddDomain(d direct.Domain, records []Record) error {
	object := "domain " + d.String()
	switch {
	case tx.over:
		return ErrTxOver
	case d.IsZero():
		return refuse("the empty domain", ErrInvalid, "")
	case tx.Has(d):
		return refuse(object, ErrExists, "")
	case len(tx.base.domains)+len(tx.drafts) >= maxDomains:
		return refuse(object, ErrLimit, "a node has at most %d domains", maxDomains)
	}
	clean, err := cleanRecords(d, records)
	if err != nil {
		return err
	}
	dr := &draft{was: tx.base.data[d], fresh: true, others: true, certs: (*table)(nil).edit(), keys: (*table)(nil).edit()}
	dr.data = DomainData{Domain: d, Created: tx.at, Records: clean}
	tx.drafts[d] = dr
	return nil
}

// RemoveDomain removes a domain and everything that belongs to it, private
// keys and transfers included.
func (tx *Tx) RemoveDomain(d direct.Domain) error {
	dr, err := tx.edit(d)
	if err != nil {
		return err
	}
	tx.dropTransfer(d)
	if dr.was == nil {
		delete(tx.drafts, d)
		return nil
	}
	tx.drafts[d] = &draft{was: dr.was, removed: true, data: DomainData{Domain: d}}
	return nil
}

// SetRecords replaces all records of a domain.
func (tx *Tx) SetRecords(d direct.Domain, records []Record) error {
	dr, err := tx.edit(d)
	if err != nil {
		return err
	}
	clean, err := cleanRecords(d, records)
	if err != nil {
		return err
	}
	if !slices.Equal(clean, dr.data.Records) {
		dr.data.Records = clean
		dr.others = true
		dr.signingSeen()
	}
	return nil
}

// cleanRecords checks records, lowers their names, sorts them by name and
// type, and drops repetitions.
func cleanRecords(d direct.Domain, records []Record) ([]Record, error) {
	if len(records) > maxRecords {
		return nil, refuse("domain "+d.String(), ErrLimit, "%d records, at most %d", len(records), maxRecords)
	}
	clean := make([]Record, 0, len(records))
	for _, r := range records {
		r.Name, r.Type = strings.ToLower(r.Name), strings.ToUpper(r.Type)
		if fault := recordFault(d, r); fault != "" {
			return nil, refuse(fmt.Sprintf("record %.100q %.20q", r.Name, r.Type), ErrInvalid, "%s", fault)
		}
		clean = append(clean, r)
	}
	slices.SortStableFunc(clean, compareRecords)
	return dropRepeated(d, clean)
}

// dropRepeated: an RRset is a set (RFC 2181 §5).
func dropRepeated(d direct.Domain, sorted []Record) ([]Record, error) {
	out := sorted[:0]
	start := 0 // of the present RRset in out
	for _, r := range sorted {
		if len(out) > 0 && compareRecords(out[len(out)-1], r) != 0 {
			start = len(out)
		}
		if slices.ContainsFunc(out[start:], func(x Record) bool { return x.Data == r.Data }) {
			continue
		}
		if len(out)-start == maxRRset {
			return nil, refuse(fmt.Sprintf("RRset %s %s", r.Name, r.Type), ErrLimit, "more than %d records", maxRRset)
		}
		out = append(out, r)
	}
	return slices.Clip(out), nil
}

// recordFault says what is wrong with a record, or nothing. Whether the RDATA
// is right for its type is for package zones to say, which prepares every
// change before it is committed.
func recordFault(d direct.Domain, r Record) string {
	switch {
	case !strings.HasSuffix(r.Name, ".") || strings.HasSuffix(r.Name, `\.`):
		return "the name is not absolute"
	case len(r.Name) > maxRecordName:
		return fmt.Sprintf("a name of %d characters, at most %d", len(r.Name), maxRecordName)
	case !inDomain(d, r.Name):
		return "the name lies outside " + d.String()
	case r.Type == "CERT":
		return "certificates are not records here: they come and go with AddCertificate and RemoveCertificate"
	case r.Type == "" || len(r.Type) > 10 || strings.Trim(r.Type, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "":
		return "no record type"
	case r.TTL > maxTTL:
		return fmt.Sprintf("a TTL of %d, at most %d (RFC 2181 §8)", r.TTL, maxTTL)
	case r.Data == "":
		return "no data"
	case len(r.Data) > maxRecordData:
		return fmt.Sprintf("data of %d characters, at most %d", len(r.Data), maxRecordData)
	case strings.ContainsFunc(r.Name+r.Data, isControl):
		return "a control character (RFC 1035 §5.1 writes it as \\DDD)"
	}
	return ""
}

// inDomain compares by label: an escaped dot separates none (RFC 1035 §5.1).
func inDomain(d direct.Domain, name string) bool {
	head, found := strings.CutSuffix(name, d.DNSName())
	if !found {
		return false
	}
	if head == "" {
		return true
	}
	label, found := strings.CutSuffix(head, ".")
	escapes := len(label) - len(strings.TrimRight(label, `\`))
	return found && escapes%2 == 0
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }
