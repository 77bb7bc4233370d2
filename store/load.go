package store

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"directnode/internal/direct"
	"directnode/store/kv"
)

// maxRereads is how often a load begins again because another writer of the
// same kv store committed a generation meanwhile.
const maxRereads = 8

// readView reads the whole store as of one generation, and gives the view and
// the revision of the generation's key. What is malformed or belongs to nothing
// is a problem and left out.
func readView(ctx context.Context, db kv.Store) (v *View, problems []Problem, rev int64, err error) {
	for range maxRereads {
		generation, rev, err := readGeneration(ctx, db)
		if err != nil {
			return nil, nil, 0, err
		}
		var problems []Problem
		l := newLoader(func(p Problem) { problems = append(problems, p) })
		for _, prefix := range prefixes() {
			if _, err := db.Stream(ctx, prefix, l.take); err != nil {
				return nil, nil, 0, err
			}
		}
		_, after, err := readGeneration(ctx, db)
		if err != nil {
			return nil, nil, 0, err
		}
		if after == rev {
			return l.view(generation), problems, rev, nil
		}
	}
	return nil, nil, 0, errors.New("the store changes faster than it can be read")
}

// readLent is readView for a driver that lends its memory, and then leaves the
// records where they are.
func (s *Store) readLent(ctx context.Context) (v *View, problems []Problem, rev int64, err error) {
	lender, ok := s.db.(kv.Lender)
	if !ok {
		return readView(ctx, s.db)
	}
	of, err := lender.Lend(ctx)
	if err != nil || of == nil {
		return readView(ctx, s.db)
	}
	// Nobody else has the store yet, and what is lent does not change.
	generation, rev, err := readGeneration(ctx, s.db)
	if err != nil {
		of.Return()
		return nil, nil, 0, err
	}
	l := newLoader(func(p Problem) { problems = append(problems, p) })
	l.loan = newLoan(of)
	for _, prefix := range prefixes() {
		if err := of.Stream(ctx, prefix, l.take); err != nil {
			of.Return()
			return nil, nil, 0, err
		}
	}
	s.loan = l.loan
	return l.view(generation), problems, rev, nil
}

func readGeneration(ctx context.Context, db kv.Store) (generation, rev int64, err error) {
	e, err := db.Get(ctx, keyGeneration)
	if err != nil {
		return 0, 0, err
	}
	var v generationValue
	if err := unmarshal(e.Value, &v); err != nil || v.Generation < 1 {
		return 0, 0, refuse(keyGeneration, ErrDamaged, "%s", e.Value)
	}
	return v.Generation, e.Rev, nil
}

// initialize writes what a new store begins with, or checks that an existing
// one has a layout we know.
func initialize(ctx context.Context, db kv.Store, created schemaValue) error {
	e, err := db.Get(ctx, keySchema)
	if errors.Is(err, kv.ErrNotFound) {
		return create(ctx, db, created)
	}
	if err != nil {
		return err
	}
	return checkSchema("the store", e.Value)
}

func create(ctx context.Context, db kv.Store, created schemaValue) error {
	for _, prefix := range prefixes() {
		page, _, err := db.Scan(ctx, prefix, "", 1)
		if err != nil {
			return err
		}
		if len(page) > 0 {
			return refuse("the store", ErrDamaged, "it holds %s but no %s: restore a backup", page[0].Key, keySchema)
		}
	}
	_, err := db.Txn(ctx, []kv.Cond{{Key: keySchema}}, []kv.Op{
		{Kind: kv.Put, Key: keySchema, Value: marshal(created)},
		{Kind: kv.Put, Key: keyGeneration, Value: marshal(generationValue{1})},
	})
	return err
}

func checkSchema(object string, value []byte) error {
	// Only the number is sure to be there in a later layout.
	var v struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(value, &v); err != nil {
		return refuse(object, ErrDamaged, "%s: %v", keySchema, err)
	}
	if v.Schema != schemaVersion {
		return refuse(object, ErrSchema, "it has schema %d, this version knows %d: run the version that wrote it, or restore a backup of this one",
			v.Schema, schemaVersion)
	}
	return nil
}

// loader turns entries into domain data and reports what it cannot take.
type loader struct {
	report  func(Problem)
	domains map[direct.Domain]*DomainData
	tables  map[direct.Domain]*loading
	peers   *peering
	bundles map[*Bundle]int // → how many anchors it should have
	loan    *loan           // nil: entries come and go

	last   *loading // of the last certificate or key: most entries follow one of their kind and domain
	prefix string   // what its keys begin with
}

// loading is the tables of one domain on their way.
type loading struct {
	domain      direct.Domain
	certs, keys *tableBuilder
}

func newLoader(report func(Problem)) *loader {
	return &loader{report: report, domains: map[direct.Domain]*DomainData{}, tables: map[direct.Domain]*loading{}, peers: newPeering(), bundles: map[*Bundle]int{}}
}

// assemble builds a view from entries. Every entry that is malformed or
// belongs to nothing is reported and left out.
func assemble(entries []kv.KV, generation int64, report func(Problem)) *View {
	l := newLoader(report)
	for _, domains := range []bool{true, false} { // domains first: the others belong to them
		for _, e := range entries {
			if strings.HasPrefix(e.Key, prefixDomain) == domains {
				_ = l.take([]byte(e.Key), e.Value)
			}
		}
	}
	return l.view(generation)
}

// view joins what was taken.
func (l *loader) view(generation int64) *View {
	for _, dd := range l.domains {
		dd.generation = generation
		l.finish(dd)
	}
	slices.SortFunc(l.peers.keys, compareKeys)
	return newView(generation, l.domains, l.peers)
}

// take files one entry, whose octets it does not keep. Its error is always nil.
func (l *loader) take(key, value []byte) error {
	var err error
	switch {
	case l.last != nil && bytes.HasPrefix(key, []byte(l.prefix)), bytes.HasPrefix(key, []byte(prefixCert)), bytes.HasPrefix(key, []byte(prefixKey)):
		err = l.takeRecord(key, value)
	default:
		err = l.takeOther(kv.KV{Key: string(key), Value: bytes.Clone(value)})
	}
	if err != nil {
		l.report(Problem{string(key), err.Error()})
	}
	return nil
}

// takeRecord files a certificate or a sealed key.
func (l *loader) takeRecord(key, value []byte) error {
	if l.last == nil || !bytes.HasPrefix(key, []byte(l.prefix)) {
		if err := l.begin(string(key)); err != nil {
			return err
		}
	}
	id, err := cutIdentBytes(key[len(l.prefix):])
	if err != nil {
		return err
	}
	certificate := l.prefix[0] == prefixCert[0]
	r, err := decodeRecord(value, l.last.domain, id, certificate)
	if err != nil {
		return err
	}
	to := &l.last.keys
	if certificate {
		to = &l.last.certs
	}
	if *to == nil {
		*to = newTableBuilder()
	}
	if l.loan != nil && value[0] == recordVersion {
		(*to).lend(r, id.owner, l.loan)
	} else {
		(*to).add(r, id.owner)
	}
	return nil
}

// begin finds the domain of a certificate's or key's entry.
func (l *loader) begin(key string) error {
	l.last = nil
	kind, _, _ := strings.Cut(key, "/")
	d, _, err := cutDomain(key, kind+"/")
	if err != nil {
		return err
	}
	if l.domains[d] == nil {
		return fmt.Errorf("domain %s is not there", d)
	}
	if l.tables[d] == nil {
		l.tables[d] = &loading{domain: d}
	}
	l.last, l.prefix = l.tables[d], kind+"/"+d.String()+"/"
	return nil
}

func newView(generation int64, data map[direct.Domain]*DomainData, peers *peering) *View {
	domains := slices.SortedFunc(maps.Keys(data), func(a, b direct.Domain) int { return cmp.Compare(a.String(), b.String()) })
	return &View{Rev: generation, domains: domains, data: data, peers: peers}
}

// takeOther files an entry of one of the smaller kinds.
func (l *loader) takeOther(e kv.KV) (err error) {
	kind, _, _ := strings.Cut(e.Key, "/")
	switch kind + "/" {
	case prefixDomain:
		err = l.takeDomain(e)
	case prefixRecord:
		d, set, derr := decodeRRset(e)
		err = l.into(d, derr, func(dd *DomainData) { dd.Records = append(dd.Records, set...) })
	case prefixAnchor:
		d, a, derr := decodeAnchor(e)
		err = l.into(d, derr, func(dd *DomainData) { dd.Anchors = append(dd.Anchors, a) })
	case prefixBundle:
		d, b, n, derr := decodeBundle(e)
		err = l.into(d, derr, func(dd *DomainData) { dd.Bundles = append(dd.Bundles, b) })
		if err == nil {
			l.bundles[b] = n
		}
	case prefixBundleAnchor:
		d, rest, derr := cutDomain(e.Key, prefixBundleAnchor)
		if ierr := l.into(d, derr, func(dd *DomainData) { err = takeBundleAnchor(dd, rest, e.Value) }); ierr != nil {
			err = ierr
		}
	case prefixTSIG:
		k, derr := decodeTSIG(e)
		if err = derr; err == nil {
			l.peers.keys = append(l.peers.keys, k)
		}
	case prefixTransfer:
		d, t, derr := decodeTransfer(e)
		err = l.into(d, derr, func(*DomainData) { l.peers.transfers[d] = t })
	case prefixDNSKey:
		d, s, derr := decodeSigning(e)
		err = l.into(d, derr, func(dd *DomainData) { dd.Signing = s })
	default:
		err = errors.New("unknown kind of entry")
	}
	return err
}

func (l *loader) takeDomain(e kv.KV) error {
	d, created, err := decodeDomain(e)
	if err == nil {
		l.domains[d] = &DomainData{Domain: d, Created: created}
	}
	return err
}

func (l *loader) into(d direct.Domain, err error, add func(*DomainData)) error {
	if err != nil {
		return err
	}
	dd := l.domains[d]
	if dd == nil {
		return fmt.Errorf("domain %s is not there", d)
	}
	add(dd)
	return nil
}

// finish brings lists into order and joins keys to their certificates.
func (l *loader) finish(dd *DomainData) {
	slices.SortStableFunc(dd.Records, compareRecords)
	sortItems(dd.Anchors)
	slices.SortFunc(dd.Bundles, func(a, b *Bundle) int { return cmp.Compare(a.Name, b.Name) })
	for _, b := range dd.Bundles {
		slices.SortFunc(b.Anchors, func(x, y BundleAnchor) int { return cmp.Compare(x.SHA256, y.SHA256) })
		if len(b.Anchors) != l.bundles[b] {
			l.report(Problem{bundleKey(dd.Domain, b.Name), fmt.Sprintf("%d anchors of %d are there", len(b.Anchors), l.bundles[b])})
		}
	}
	var certs, keys *table
	if t := l.tables[dd.Domain]; t != nil {
		certs = t.certs.finish(func(r record) { l.report(Problem{recordKeyIn(certKeys(dd.Domain), r), "stands there twice"}) })
		keys = t.keys.finish(func(r record) { l.report(Problem{recordKeyIn(keyKeys(dd.Domain), r), "stands there twice"}) })
		delete(l.tables, dd.Domain)
	}
	dd.Certificates, dd.Keys = Certificates{certs, keys}, Keys{keys}
	for r := range keys.all {
		if k := keys.record(r); !certs.has(k) {
			l.report(Problem{recordKeyIn(keyKeys(dd.Domain), k), "a private key without its certificate"})
		}
	}
}

// sortItems: entries come in key order, which is already right but for owners
// of which one is the beginning of another.
func sortItems[T item](list []T) {
	compare := func(a, b T) int { return a.ident().compare(b.ident()) }
	if !slices.IsSortedFunc(list, compare) {
		slices.SortFunc(list, compare)
	}
}

func compareRecords(a, b Record) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Type, b.Type))
}

// entriesOf writes a domain, its certificates and keys apart, as the entries that
// assemble reads.
func entriesOf(dd *DomainData) map[string][]byte {
	entries := make(map[string][]byte, 2+len(dd.Records)+len(dd.Anchors))
	entries[domainKey(dd.Domain)] = marshal(domainValue{dd.Created})
	maps.Copy(entries, recordEntries(dd.Domain, dd.Records))
	maps.Copy(entries, signingEntries(dd.Domain, dd.Signing))
	maps.Copy(entries, bundleEntries(dd.Domain, dd.Bundles))
	for _, a := range dd.Anchors {
		entries[anchorKey(dd.Domain, a.SHA256)] = encodeAnchor(a)
	}
	return entries
}

// recordEntries groups sorted records by RRset.
func recordEntries(d direct.Domain, records []Record) map[string][]byte {
	entries := map[string][]byte{}
	for len(records) > 0 {
		n := 1
		for n < len(records) && compareRecords(records[0], records[n]) == 0 {
			n++
		}
		entries[recordKey(d, records[0].Type, records[0].Name)] = encodeRRset(records[:n])
		records = records[n:]
	}
	return entries
}
