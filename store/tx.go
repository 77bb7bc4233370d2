package store

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"time"

	"directnode/internal/direct"
	"directnode/store/kv"
)

// Tx is a change in the making: an overlay over the present generation. Its
// methods see what was changed before them. A method that returns an error
// has changed nothing, so that an import can pass over what is refused and go
// on. A Tx belongs to the function that Update calls, and to one goroutine.
type Tx struct {
	base   *View
	seal   *Sealer
	at     time.Time
	drafts map[direct.Domain]*draft
	peers  *peering // as changed so far; nil = as in base
	over   bool
}

func newTx(base *View, seal *Sealer, at time.Time) *Tx {
	return &Tx{base: base, seal: seal, at: at.UTC().Truncate(time.Second), drafts: map[direct.Domain]*draft{}}
}

// draft is what a transaction makes of one domain.
type draft struct {
	was     *DomainData // before the transaction; nil if it was not there
	removed bool        // and not added again
	fresh   bool        // added in this transaction: nothing of was remains

	data   DomainData // records, creation and signing as changed so far; its other lists are not used
	others bool       // records, anchors or signing changed

	certs   *tableEdit
	keys    *tableEdit
	anchors overlay[Anchor]

	built *DomainData // Tx.Domain's answer, until the next change
}

// Base is the view that the transaction began with.
func (tx *Tx) Base() *View { return tx.base }

// Domains lists the domains by name, as changed so far.
func (tx *Tx) Domains() []direct.Domain {
	var list []direct.Domain
	for _, d := range tx.base.domains {
		if tx.drafts[d] == nil {
			list = append(list, d)
		}
	}
	for d, dr := range tx.drafts {
		if !dr.removed {
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b direct.Domain) int { return cmp.Compare(a.String(), b.String()) })
	return list
}

// Has tells whether a domain is ours, as changed so far.
func (tx *Tx) Has(d direct.Domain) bool {
	if dr := tx.drafts[d]; dr != nil {
		return !dr.removed
	}
	return tx.base.data[d] != nil
}

// Domain returns a domain's data as changed so far, nil if it is not ours. In
// a large domain each call after a change costs a copy of its lists.
func (tx *Tx) Domain(d direct.Domain) *DomainData {
	dr := tx.drafts[d]
	switch {
	case dr == nil:
		return tx.base.data[d]
	case dr.removed:
		return nil
	}
	return dr.build(tx.base.Rev + 1)
}

// Owned lists the certificates of an owner, as changed so far.
func (tx *Tx) Owned(o direct.Owner) []Certificate {
	dr := tx.drafts[o.Domain()]
	switch {
	case dr == nil:
		return tx.base.Owned(o)
	case dr.removed:
		return nil
	}
	return Certificates{&dr.certs.next, &dr.keys.next}.Owned(o)
}

// Find lists the certificates with this fingerprint, as changed so far.
func (tx *Tx) Find(sha string) []Certificate {
	var found []Certificate
	for _, d := range tx.Domains() {
		if dr := tx.drafts[d]; dr != nil {
			if !dr.removed {
				found = append(found, Certificates{&dr.certs.next, &dr.keys.next}.Find(sha)...)
			}
			continue
		}
		found = append(found, tx.base.data[d].Certificates.Find(sha)...)
	}
	return found
}

// edit returns the draft of a domain that is there, ready to be changed.
func (tx *Tx) edit(d direct.Domain) (*draft, error) {
	if tx.over {
		return nil, ErrTxOver
	}
	if dr := tx.drafts[d]; dr != nil {
		if dr.removed {
			return nil, refuse("domain "+d.String(), ErrNotFound, "")
		}
		dr.built = nil
		return dr, nil
	}
	was := tx.base.data[d]
	if was == nil {
		return nil, refuse("domain "+d.String(), ErrNotFound, "")
	}
	dr := &draft{was: was, data: *was}
	dr.certs, dr.keys, dr.anchors.base = was.Certificates.certs.edit(), was.Keys.keys.edit(), was.Anchors
	tx.drafts[d] = dr
	return dr, nil
}

// build makes the domain's next data.
func (dr *draft) build(generation int64) *DomainData {
	if dr.built != nil {
		return dr.built
	}
	certs, keys := dr.certs.table(), dr.keys.table()
	dd := &DomainData{
		Domain: dr.data.Domain, Created: dr.data.Created, Records: dr.data.Records, Signing: dr.data.Signing,
		Certificates: Certificates{certs, keys}, Keys: Keys{keys}, Anchors: dr.anchors.merged(), Bundles: dr.data.Bundles,
		generation: generation, others: dr.others || dr.anchors.count > 0,
	}
	if !dr.fresh {
		dd.follow(dr.was)
	}
	dr.built = dd
	return dd
}

// follow notes what tells the data from that of the generation before. Where
// that is much, it costs more to go through than to begin anew.
func (d *DomainData) follow(was *DomainData) {
	limit := max(1000, d.Certificates.Len()/4)
	certs, many := changedOwners(was.Certificates.certs, d.Certificates.certs, limit)
	keys, more := changedOwners(was.Keys.keys, d.Keys.keys, limit)
	if many || more {
		return
	}
	d.base = was.generation
	d.touched = certs
	for _, o := range keys {
		if !slices.Contains(certs, o) {
			d.touched = append(d.touched, o)
		}
	}
}

// finish ends the transaction: the next view and the operations that lead to
// it. No operations means that nothing changed.
func (tx *Tx) finish() (*View, []kv.Op) {
	tx.over = true
	generation := tx.base.Rev + 1
	data := maps.Clone(tx.base.data)
	var ops []kv.Op
	for d, dr := range tx.drafts {
		changes := dr.ops()
		if len(changes) == 0 {
			continue
		}
		ops = append(ops, changes...)
		if dr.removed {
			delete(data, d)
		} else {
			data[d] = dr.build(generation)
		}
	}
	peers, changes := tx.peersAndOps()
	ops = append(ops, changes...)
	slices.SortFunc(ops, func(a, b kv.Op) int { return cmp.Compare(a.Key, b.Key) })
	return newView(generation, data, peers), ops
}

// ops are the changes of the draft's entries.
func (dr *draft) ops() []kv.Op {
	if dr.removed || dr.fresh {
		return dr.opsWhole()
	}
	d := dr.data.Domain
	var ops []kv.Op
	if dr.others {
		ops = diff(recordEntries(d, dr.was.Records), recordEntries(d, dr.data.Records))
	}
	if !slices.Equal(dr.was.Bundles, dr.data.Bundles) {
		ops = append(ops, diff(bundleEntries(d, dr.was.Bundles), bundleEntries(d, dr.data.Bundles))...)
	}
	if dr.was.Signing != dr.data.Signing {
		ops = append(ops, diff(signingEntries(d, dr.was.Signing), signingEntries(d, dr.data.Signing))...)
	}
	ops = append(ops, tableOps(certKeys(d), dr.was.Certificates.certs, &dr.certs.next)...)
	ops = append(ops, tableOps(keyKeys(d), dr.was.Keys.keys, &dr.keys.next)...)
	return append(ops, overlayOps(&dr.anchors, func(id ident) string { return anchorKey(d, id.sha) }, encodeAnchor)...)
}

// opsWhole compares all that was with all that is, for a domain that came or
// went.
func (dr *draft) opsWhole() []kv.Op {
	if dr.removed {
		return domainOps(dr.was, nil)
	}
	ops := domainOps(dr.was, dr.build(0))
	dr.built = nil // the real one gets its generation
	return ops
}

// domainOps compares all of a domain; nil is one that is not there.
func domainOps(was, is *DomainData) []kv.Op {
	var before, after map[string][]byte
	d := direct.Domain{}
	wasTables, isTables := &DomainData{}, &DomainData{}
	if was != nil {
		before, wasTables, d = entriesOf(was), was, was.Domain
	}
	if is != nil {
		after, isTables, d = entriesOf(is), is, is.Domain
	}
	ops := diff(before, after)
	ops = append(ops, tableOps(certKeys(d), wasTables.Certificates.certs, isTables.Certificates.certs)...)
	return append(ops, tableOps(keyKeys(d), wasTables.Keys.keys, isTables.Keys.keys)...)
}

// diff lists what makes is out of was.
func diff(was, is map[string][]byte) []kv.Op {
	var ops []kv.Op
	for key := range was {
		if _, stays := is[key]; !stays {
			ops = append(ops, kv.Op{Kind: kv.Delete, Key: key})
		}
	}
	for key, value := range is {
		if old, there := was[key]; !there || !bytes.Equal(old, value) {
			ops = append(ops, kv.Op{Kind: kv.Put, Key: key, Value: value})
		}
	}
	return ops
}

// overlayOps lists the changes of an overlay that change its stored form.
func overlayOps[T item](o *overlay[T], key func(ident) string, encode func(T) []byte) []kv.Op {
	var ops []kv.Op
	for _, id := range o.changed() {
		old, was := o.below(id)
		v, is := o.find(id)
		switch {
		case was && !is:
			ops = append(ops, kv.Op{Kind: kv.Delete, Key: key(id)})
		case is:
			if value := encode(v); !was || !bytes.Equal(encode(old), value) {
				ops = append(ops, kv.Op{Kind: kv.Put, Key: key(id), Value: value})
			}
		}
	}
	return ops
}
