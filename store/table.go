package store

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"iter"
	"slices"
	"sync/atomic"
)

// table holds the records of one domain: an index of 16 octets a record, sorted
// by the hash of the owner and cut into shards, and the records themselves in
// large chunks. A million certificates are some thousands of pointers to the
// garbage collector, and a change copies a shard, the list of shards and its
// own record (docs/adr/0060). A table never changes; edit makes the next one,
// which shares all that stays. nil is an empty table.
type table struct {
	bits   int        // the number of shards is 2 to the power of it
	shards [][]ref    // by the first bits of the hash; each sorted by hash, owner, payload
	chunks []*chunk   // nil: free
	live   []uint32   // by chunk: octets that the index leads to
	tail   *tailChunk // where the next record goes; the writer's
	count  int
}

// chunk is the octets of records. They never change, but where they lie may: at
// a start they lie in the driver's memory (see Store.Settle). A slice of them is
// therefore for the moment and not to be kept.
type chunk struct {
	octets atomic.Pointer[[]byte]
	size   int // what there was to lead to when it was made; what is alive of it tells the waste
	tables int // that lead into it at a start; more than one, and none of them knows the waste
}

func newChunk(octets []byte) *chunk {
	c := &chunk{size: len(octets)}
	c.octets.Store(&octets)
	return c
}

// tailChunk is a chunk that is being filled. What is behind used has not been
// published by any table, so that the next writer may write there; what is
// before it is never written again. One writer at a time: the store's.
type tailChunk struct {
	index int
	buf   []byte
	used  int
}

// ref leads to a record.
type ref struct {
	hash uint32 // the first half of the hash of the owner's key
	sha  uint32 // the first octets of the fingerprint
	at   uint64 // chunk (18 bits), offset (22), length (20), flags (4)
}

// The flags of a ref: what is asked of every record is answered by the index.
const (
	refDNS   = 1 << 0
	refLDAP  = 1 << 1
	refPlain = 1 << 2 // see isPlain
)

const (
	// maxChunk and maxRefLength are what fits into a ref.
	maxChunk     = 1 << 22
	maxRefLength = 1<<20 - 1
	// minChunk: small domains are many.
	minChunk = 4 << 10
	// shardSize is how many refs a shard may have on average before there are
	// twice as many shards: at a million certificates, where a change copies a
	// shard and the list of shards, both are then about equally large.
	shardSize = 512
)

func makeRef(r record, h uint32, chunk, offset int) ref {
	flags := uint64(r.flags() & (flagDNS | flagLDAP))
	if isPlain(r.owner()) {
		flags |= refPlain
	}
	return ref{h, binary.BigEndian.Uint32(r.sha()), uint64(chunk)<<46 | uint64(offset)<<24 | uint64(len(r))<<4 | flags}
}

func (r ref) chunk() int  { return int(r.at >> 46) }
func (r ref) offset() int { return int(r.at >> 24 & (maxChunk - 1)) }
func (r ref) size() int   { return int(r.at >> 4 & maxRefLength) }

func (t *table) record(r ref) record {
	at, size := r.offset(), r.size()
	return record((*t.chunks[r.chunk()].octets.Load())[at : at+size : at+size])
}

func (t *table) len() int {
	if t == nil {
		return 0
	}
	return t.count
}

func (t *table) shard(hash uint32) int { return int(uint64(hash) >> (32 - t.bits)) }

// position is where in a shard refs with this hash are or would be. Hashes lie
// evenly, so that the place is nearly known.
func (t *table) position(s []ref, hash uint32) int {
	i := int(uint64(hash<<t.bits) * uint64(len(s)) >> 32)
	for i > 0 && s[i-1].hash >= hash {
		i--
	}
	for i < len(s) && s[i].hash < hash {
		i++
	}
	return i
}

// owned is the refs of an owner. It does not allocate.
func (t *table) owned(key []byte) []ref {
	if t == nil || t.count == 0 {
		return nil
	}
	hash := hashOf(key)
	s := t.shards[t.shard(hash)]
	from := t.position(s, hash)
	for from < len(s) && s[from].hash == hash && !sameFolded(t.record(s[from]).owner(), key) {
		from++
	}
	to := from
	for to < len(s) && s[to].hash == hash && (to == from || sameFolded(t.record(s[to]).owner(), key)) {
		to++
	}
	return s[from:to:to]
}

// find is the record of an owner with this fingerprint, nil without one.
func (t *table) find(key, sha []byte) record {
	for _, r := range t.owned(key) {
		if rec := t.record(r); bytes.Equal(rec.sha(), sha) {
			return rec
		}
	}
	return nil
}

// has tells whether there is a record with owner and fingerprint of another.
func (t *table) has(r record) bool {
	if t.len() == 0 {
		return false
	}
	var buf [320]byte
	return t.find(appendFolded(buf[:0], r.owner()), r.sha()) != nil
}

// all yields every ref, those of an owner one after the other.
func (t *table) all(yield func(ref) bool) {
	if t == nil {
		return
	}
	for _, s := range t.shards {
		for _, r := range s {
			if !yield(r) {
				return
			}
		}
	}
}

// owners yields the refs of each owner. Records are not looked at but where two
// neighbors have one hash.
func (t *table) owners(yield func([]ref) bool) { t.ownersFrom(0)(yield) }

// ownersFrom is owners from a hash on: hashes rise from shard to shard.
func (t *table) ownersFrom(hash uint32) iter.Seq[[]ref] {
	return func(yield func([]ref) bool) {
		if t.len() == 0 {
			return
		}
		first := t.shard(hash)
		for i, s := range t.shards[first:] {
			if i == 0 {
				s = s[t.position(s, hash):]
			}
			for len(s) > 0 {
				n := t.group(s)
				if !yield(s[:n:n]) {
					return
				}
				s = s[n:]
			}
		}
	}
}

// group is how many refs at the beginning of a list belong to one owner.
func (t *table) group(s []ref) int {
	n := 1
	for n < len(s) && s[n].hash == s[0].hash && compareFolded(t.record(s[n]).owner(), t.record(s[0]).owner()) == 0 {
		n++
	}
	return n
}

// bySHA yields the records with a fingerprint. It goes through the index: about
// a millisecond for each million.
func (t *table) bySHA(sha []byte, yield func(record) bool) {
	first := binary.BigEndian.Uint32(sha)
	for r := range t.all {
		if r.sha == first {
			if rec := t.record(r); bytes.Equal(rec.sha(), sha) && !yield(rec) {
				return
			}
		}
	}
}

// sorted yields every record by owner key, then fingerprint.
func (t *table) sorted(yield func(record) bool) { t.sortedBy(compareRecordKeys, yield) }

func (t *table) sortedBy(compare func(a, b record) int, yield func(record) bool) {
	list := make([]ref, 0, t.len())
	for r := range t.all {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b ref) int { return compare(t.record(a), t.record(b)) })
	for _, r := range list {
		if !yield(t.record(r)) {
			return
		}
	}
}

func compareRecordKeys(a, b record) int {
	return cmp.Or(compareFolded(a.owner(), b.owner()), bytes.Compare(a.sha(), b.sha()))
}

// compareStored is the order of records by the keys that they are stored under,
// where a '/' follows the owner.
func compareStored(a, b record) int {
	x, y := a.owner(), b.owner()
	n := min(len(x), len(y))
	if c := compareFolded(x[:n], y[:n]); c != 0 || len(x) == len(y) {
		return cmp.Or(c, bytes.Compare(a.sha(), b.sha()))
	}
	if len(x) < len(y) {
		return int('/') - int(folded(y[n]))
	}
	return int(folded(x[n])) - int('/')
}

// compareRefs is the order inside of a shard.
func (t *table) compareRefs(a, b ref) int {
	if a.hash != b.hash {
		return cmp.Compare(a.hash, b.hash)
	}
	x, y := t.record(a), t.record(b)
	return cmp.Or(compareFolded(x.owner(), y.owner()), bytes.Compare(x.payload(), y.payload()), bytes.Compare(x.sha(), y.sha()))
}
