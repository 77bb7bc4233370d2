package admin

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"directnode/internal/direct"
	"directnode/store"
)

// maxPlanLines bounds what a plan lists of each kind: people read the first
// screens, and the counts are of everything.
const maxPlanLines = 1000

// ImportPlan says what an import of zone text or of LDIF changes.
type ImportPlan struct {
	Domain       string          `json:"domain,omitempty"`  // zone
	New          bool            `json:"new,omitempty"`     // zone: the domain is not here yet
	Records      *RecordPlan     `json:"records,omitempty"` // zone
	Entries      *EntryPlan      `json:"entries,omitempty"` // ldif
	Certificates CertificatePlan `json:"certificates"`
}

// EntryPlan counts the entries of an LDIF file.
type EntryPlan struct {
	Read    int `json:"read"`
	Taken   int `json:"taken"`   // at least one certificate of theirs
	Without int `json:"without"` // they have no certificate
	Refused int `json:"refused"`
}

// RecordPlan counts records; certificates are none.
type RecordPlan struct {
	Added   int            `json:"added"`
	Changed int            `json:"changed"`
	Removed int            `json:"removed"`
	Kept    int            `json:"kept"`
	Changes []RecordChange `json:"changes"`
	Omitted int            `json:"omitted,omitempty"` // names and types with changes that are not listed
}

// RecordChange is what becomes of the records of one name and type.
type RecordChange struct {
	Change string   `json:"change"` // added, changed, removed
	Name   string   `json:"name"`
	Type   string   `json:"type"`
	Before []string `json:"before,omitempty"` // TTL and data
	After  []string `json:"after,omitempty"`
}

// CertificatePlan counts certificates. An import takes none away.
type CertificatePlan struct {
	New     int         `json:"new"`
	Known   int         `json:"known"`
	Left    int         `json:"left"`    // not taken: they do not bind to their owner, and --strict was given
	Unbound int         `json:"unbound"` // of those that are taken
	Expired int         `json:"expired"` // of those that are taken
	Owners  []OwnerPlan `json:"owners"`
	Omitted int         `json:"omitted,omitempty"` // certificates of owners that are not listed
}

// OwnerPlan counts the certificates of one owner.
type OwnerPlan struct {
	Owner string `json:"owner"`
	New   int    `json:"new"`
	Known int    `json:"known"`
	Left  int    `json:"left,omitempty"`
}

// planner makes the plan of one import.
type planner struct {
	out    ImportPlan
	owners map[direct.Owner]int // → place in Owners
}

func newPlanner(out ImportPlan) *planner {
	out.Certificates.Owners = []OwnerPlan{}
	return &planner{out: out, owners: make(map[direct.Owner]int)}
}

func newZonePlanner(d direct.Domain) *planner {
	return newPlanner(ImportPlan{Domain: d.String(), Records: &RecordPlan{Changes: []RecordChange{}}})
}

// owner is where the certificates of an owner are counted; nil for those that
// are not listed.
func (p *planner) owner(o direct.Owner) *OwnerPlan {
	c := &p.out.Certificates
	i, ok := p.owners[o]
	if !ok {
		if len(c.Owners) >= maxPlanLines {
			c.Omitted++
			return nil
		}
		i = len(c.Owners)
		p.owners[o] = i
		c.Owners = append(c.Owners, OwnerPlan{Owner: o.String()})
	}
	return &c.Owners[i]
}

// certificate notes one that is taken.
func (p *planner) certificate(o direct.Owner, added, bound, expired bool) {
	c, by := &p.out.Certificates, p.owner(o)
	if by == nil {
		by = new(OwnerPlan)
	}
	if added {
		c.New++
		by.New++
	} else {
		c.Known++
		by.Known++
	}
	if !bound {
		c.Unbound++
	}
	if expired {
		c.Expired++
	}
}

// left notes one that is not taken.
func (p *planner) left(o direct.Owner) {
	p.out.Certificates.Left++
	if by := p.owner(o); by != nil {
		by.Left++
	}
}

func (p *planner) done() *ImportPlan {
	out := p.out
	return &out
}

// setKey names an RRset.
type setKey struct{ name, typ string }

// records compares what there is with what will be.
func (p *planner) records(before, after []store.Record) {
	was, will := recordSets(before), recordSets(after)
	keys := maps.Clone(was)
	maps.Copy(keys, will)
	out := p.out.Records
	for _, k := range slices.SortedFunc(maps.Keys(keys), func(a, b setKey) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.typ, b.typ)) }) {
		c := compareSets(was[k], will[k], out)
		if c == "" {
			continue
		}
		if len(out.Changes) >= maxPlanLines {
			out.Omitted++
			continue
		}
		out.Changes = append(out.Changes, RecordChange{c, k.name, k.typ, was[k], will[k]})
	}
}

// recordSets gives the records of each name and type as text, sorted.
func recordSets(records []store.Record) map[setKey][]string {
	sets := make(map[setKey][]string)
	for _, r := range records {
		k := setKey{strings.ToLower(r.Name), strings.ToUpper(r.Type)}
		sets[k] = append(sets[k], fmt.Sprintf("%d %s", r.TTL, planData(k.typ, r.Data)))
	}
	for k, texts := range sets {
		slices.Sort(texts)
		sets[k] = slices.Compact(texts)
	}
	return sets
}

// planData is a record's data without what is set anew at every change: the
// serial of a SOA.
func planData(typ, data string) string {
	fields := strings.Fields(data)
	if typ != "SOA" || len(fields) != 7 {
		return data
	}
	fields[2] = "SERIAL"
	return strings.Join(fields, " ")
}

// compareSets counts the records of one name and type and says what becomes of
// them, nothing where they stay as they are.
func compareSets(was, will []string, out *RecordPlan) string {
	kept := 0
	for _, t := range will {
		if _, ok := slices.BinarySearch(was, t); ok {
			kept++
		}
	}
	gone, come := len(was)-kept, len(will)-kept
	changed := min(gone, come)
	out.Kept += kept
	out.Changed += changed
	out.Removed += gone - changed
	out.Added += come - changed
	switch {
	case gone == 0 && come == 0:
		return ""
	case len(was) == 0:
		return "added"
	case len(will) == 0:
		return "removed"
	}
	return "changed"
}
