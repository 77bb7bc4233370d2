package store

import (
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

// readAll reads every entry of the store as of one generation, with that
// generation's number and the revision of its key.
func readAll(ctx context.Context, db kv.Store) (entries []kv.KV, generation, rev int64, err error) {
	for range maxRereads {
		generation, rev, err = readGeneration(ctx, db)
		if err != nil {
			return nil, 0, 0, err
		}
		entries = nil
		for _, prefix := range prefixes() {
			part, _, err := kv.All(ctx, db, prefix)
			if err != nil {
				return nil, 0, 0, err
			}
			entries = append(entries, part...)
		}
		_, after, err := readGeneration(ctx, db)
		if err != nil {
			return nil, 0, 0, err
		}
		if after == rev {
			return entries, generation, rev, nil
		}
	}
	return nil, 0, 0, errors.New("the store changes faster than it can be read")
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
	peers   *peering
}

// assemble builds a view from entries. Every entry that is malformed or
// belongs to nothing is reported and left out.
func assemble(entries []kv.KV, generation int64, report func(Problem)) *View {
	l := &loader{report, map[direct.Domain]*DomainData{}, newPeering()}
	for _, e := range entries { // domains first: the others belong to them
		if strings.HasPrefix(e.Key, prefixDomain) {
			l.take(e)
		}
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Key, prefixDomain) {
			l.take(e)
		}
	}
	for _, dd := range l.domains {
		dd.generation = generation
		l.finish(dd)
	}
	slices.SortFunc(l.peers.keys, compareKeys)
	return newView(generation, l.domains, l.peers)
}

func newView(generation int64, data map[direct.Domain]*DomainData, peers *peering) *View {
	domains := slices.SortedFunc(maps.Keys(data), func(a, b direct.Domain) int { return cmp.Compare(a.String(), b.String()) })
	return &View{Rev: generation, domains: domains, data: data, peers: peers}
}

// take files one entry.
func (l *loader) take(e kv.KV) {
	kind, _, _ := strings.Cut(e.Key, "/")
	var err error
	switch kind + "/" {
	case prefixDomain:
		err = l.takeDomain(e)
	case prefixRecord:
		d, set, derr := decodeRRset(e)
		err = l.into(d, derr, func(dd *DomainData) { dd.Records = append(dd.Records, set...) })
	case prefixCert:
		d, c, derr := decodeCertificate(e)
		err = l.into(d, derr, func(dd *DomainData) { dd.Certificates.list = append(dd.Certificates.list, c) })
	case prefixKey:
		d, k, derr := decodeKey(e)
		err = l.into(d, derr, func(dd *DomainData) { dd.Keys.list = append(dd.Keys.list, k) })
	case prefixAnchor:
		d, a, derr := decodeAnchor(e)
		err = l.into(d, derr, func(dd *DomainData) { dd.Anchors = append(dd.Anchors, a) })
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
	if err != nil {
		l.report(Problem{e.Key, err.Error()})
	}
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
	sortItems(dd.Certificates.list)
	sortItems(dd.Keys.list)
	sortItems(dd.Anchors)
	for k := range dd.Keys.Sorted {
		i, found := position(dd.Certificates.list, k.ident())
		if !found {
			l.report(Problem{keyKey(dd.Domain, k.ident()), "a private key without its certificate"})
			continue
		}
		dd.Certificates.list[i].HasKey = true
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

// entriesOf writes a domain as the entries that assemble reads.
func entriesOf(dd *DomainData) map[string][]byte {
	entries := make(map[string][]byte, 1+len(dd.Records)+dd.Certificates.Len()+dd.Keys.Len()+len(dd.Anchors))
	entries[domainKey(dd.Domain)] = marshal(domainValue{dd.Created})
	maps.Copy(entries, recordEntries(dd.Domain, dd.Records))
	maps.Copy(entries, signingEntries(dd.Domain, dd.Signing))
	for c := range dd.Certificates.All {
		entries[certKey(dd.Domain, c.ident())] = encodeCertificate(c)
	}
	for k := range dd.Keys.Sorted {
		entries[keyKey(dd.Domain, k.ident())] = encodeKey(k)
	}
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
