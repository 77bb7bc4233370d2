package store

import (
	"bytes"
	"slices"
)

// tableEdit makes the next table of one. The one below is never touched.
type tableEdit struct {
	base *table
	next table
	list bool   // the list of shards is next's own
	own  []bool // by shard: next's own, may be written; the others are shared
	mine bool   // chunks and live are next's own
}

func (t *table) edit() *tableEdit {
	e := &tableEdit{base: t}
	if t == nil {
		e.next.shards, e.own, e.list, e.mine = make([][]ref, 1), make([]bool, 1), true, true
		return e
	}
	e.next = *t
	e.own = make([]bool, len(t.shards))
	return e
}

// table is the table as edited so far. The edit may go on.
func (e *tableEdit) table() *table {
	e.compact()
	t := e.next
	clear(e.own)
	e.list, e.mine = false, false
	return &t
}

// writable makes a shard the edit's own.
func (e *tableEdit) writable(hash uint32) *[]ref {
	if !e.list {
		e.next.shards, e.list = slices.Clone(e.next.shards), true
	}
	i := e.next.shard(hash)
	s := &e.next.shards[i]
	if !e.own[i] {
		// Room for a few more, as an import of many brings them.
		*s = append(make([]ref, 0, len(*s)+len(*s)/8+4), *s...)
		e.own[i] = true
	}
	return s
}

// put adds a record, or replaces the one with its owner and fingerprint. The
// octets are copied.
func (e *tableEdit) put(r record) {
	e.ownChunks()
	hash := r.hash()
	s := e.writable(hash)
	chunk, offset := e.keep(r)
	next := makeRef(r, hash, chunk, offset)
	from := e.next.position(*s, hash)
	at := from
	for at < len(*s) && (*s)[at].hash == hash && e.next.compareRefs((*s)[at], next) < 0 {
		at++
	}
	for i := from; i < len(*s) && (*s)[i].hash == hash; i++ {
		if old := e.next.record((*s)[i]); (*s)[i].sha == next.sha && bytes.Equal(old.sha(), r.sha()) && compareFolded(old.owner(), r.owner()) == 0 {
			e.next.live[(*s)[i].chunk()] -= uint32(len(old))
			*s = slices.Delete(*s, i, i+1)
			if i < at {
				at--
			}
			e.next.count--
			break
		}
	}
	*s = slices.Insert(*s, at, next)
	e.next.count++
	if e.next.count > shardSize*len(e.next.shards) && e.next.bits < 20 {
		e.split()
	}
}

// remove takes out the record with this owner and fingerprint.
func (e *tableEdit) remove(key, sha []byte) {
	hash := hashOf(key)
	old := e.next.find(key, sha)
	if old == nil {
		return
	}
	e.ownChunks()
	s := e.writable(hash)
	for i := e.next.position(*s, hash); ; i++ {
		r := (*s)[i]
		if rec := e.next.record(r); &rec[0] == &old[0] {
			e.next.live[r.chunk()] -= uint32(len(rec))
			*s = slices.Delete(*s, i, i+1)
			e.next.count--
			return
		}
	}
}

// split doubles the shards. Each half is a part of what it was: nothing of the
// index is copied, and tables before and after still share it.
func (e *tableEdit) split() {
	bits := e.next.bits + 1
	shards := make([][]ref, 0, 2*len(e.next.shards))
	for _, s := range e.next.shards {
		middle, _ := slices.BinarySearchFunc(s, uint32(len(shards)+1)<<(32-bits), func(r ref, h uint32) int {
			if r.hash < h {
				return -1
			}
			return 1
		})
		shards = append(shards, s[:middle:middle], s[middle:len(s):len(s)])
	}
	e.next.bits, e.next.shards, e.own, e.list = bits, shards, make([]bool, len(shards)), true
}

// ownChunks makes the lists of chunks the edit's own.
func (e *tableEdit) ownChunks() {
	if !e.mine {
		e.next.chunks, e.next.live, e.mine = slices.Clone(e.next.chunks), slices.Clone(e.next.live), true
	}
}

// keep puts a record into the tail.
func (e *tableEdit) keep(r record) (chunk, offset int) {
	need := len(r)
	if t := e.next.tail; t == nil || len(t.buf)-t.used < need {
		e.grow(need)
	}
	t := e.next.tail
	offset = t.used
	copy(t.buf[offset:], r)
	t.used += need
	e.next.live[t.index] += uint32(need)
	return t.index, offset
}

// grow begins a chunk: as large as all chunks before it, within bounds.
func (e *tableEdit) grow(need int) {
	all := 0
	for _, c := range e.next.chunks {
		if c != nil {
			all += c.size
		}
		if all >= maxChunk {
			break
		}
	}
	buf := make([]byte, max(need, min(max(all, minChunk), maxChunk)))
	inHugePages(buf)
	i := slices.IndexFunc(e.next.chunks, func(c *chunk) bool { return c == nil })
	if i < 0 {
		i = len(e.next.chunks)
		e.next.chunks, e.next.live = append(e.next.chunks, nil), append(e.next.live, 0)
	}
	e.next.chunks[i], e.next.live[i] = newChunk(buf), 0
	e.next.tail = &tailChunk{index: i, buf: buf}
}

// Waste is what chunks hold that no ref leads to any more. Up to a third of
// what is alive is let be, and this much in any case: moving costs too.
const spareWaste = 64 << 10

// maxMoves bounds the chunks that one change moves: some milliseconds.
const maxMoves = 1

// compact gives chunks back that are empty, and moves what is left of the
// emptiest ones while there is too much waste.
func (e *tableEdit) compact() {
	if !e.mine {
		return
	}
	for moves := 0; ; moves++ {
		alive, waste, worst := 0, 0, -1
		for i, c := range e.next.chunks {
			if c == nil || e.next.tail != nil && i == e.next.tail.index {
				continue
			}
			if e.next.live[i] == 0 {
				e.next.chunks[i] = nil
				continue
			}
			alive += int(e.next.live[i])
			waste += max(0, c.size-int(e.next.live[i]))
			if worst < 0 || share(e.next.live[i], c) < share(e.next.live[worst], e.next.chunks[worst]) {
				worst = i
			}
		}
		if worst < 0 || moves == maxMoves || waste <= spareWaste+alive/3 {
			return
		}
		e.move(worst)
	}
}

func share(live uint32, c *chunk) float64 { return float64(live) / float64(max(1, c.size)) }

// move copies what is alive of a chunk into the tail.
func (e *tableEdit) move(i int) {
	for _, s := range e.next.shards {
		for k, r := range s {
			if r.chunk() != i {
				continue
			}
			rec := e.next.record(r)
			chunk, offset := e.keep(rec)
			(*e.writable(r.hash))[k] = makeRef(rec, r.hash, chunk, offset)
		}
	}
	e.next.chunks[i], e.next.live[i] = nil, 0
}

// tableBuilder makes a table of many records that come in any order.
type tableBuilder struct {
	edit    *tableEdit // keeps the octets; its index is not used
	refs    []ref
	windows map[*chunk]int // lent chunks and their numbers
	window  *chunk         // the last of them
	number  int
}

func newTableBuilder() *tableBuilder { return &tableBuilder{edit: (*table)(nil).edit()} }

// add takes a record; its octets are copied. key is its owner in lower case.
func (b *tableBuilder) add(r record, key []byte) {
	chunk, offset := b.edit.keep(r)
	b.refs = append(b.refs, makeRef(r, hashOf(key), chunk, offset))
}

// lend takes a record that lies in a loan, without copying it.
func (b *tableBuilder) lend(r record, key []byte, l *loan) {
	window, offset := l.window(r)
	if window == nil {
		b.add(r, key)
		return
	}
	if window != b.window {
		number, known := b.windows[window]
		if !known {
			if b.windows == nil {
				b.windows = map[*chunk]int{}
			}
			number = len(b.edit.next.chunks)
			b.windows[window] = number
			b.edit.next.chunks, b.edit.next.live = append(b.edit.next.chunks, window), append(b.edit.next.live, 0)
		}
		b.window, b.number = window, number
	}
	b.edit.next.live[b.number] += uint32(len(r))
	b.refs = append(b.refs, makeRef(r, hashOf(key), b.number, offset))
}

// table sorts what was added. Of records with one owner and fingerprint the
// first stays, and repeated is called with the others.
func (b *tableBuilder) table(repeated func(record)) *table {
	t := &b.edit.next
	for t.bits = 0; len(b.refs) > shardSize<<t.bits && t.bits < 20; t.bits++ {
	}
	// A counting sort into the shards, then each by itself.
	starts := make([]int, 1<<t.bits+1)
	for _, r := range b.refs {
		starts[t.shard(r.hash)+1]++
	}
	for i := 1; i < len(starts); i++ {
		starts[i] += starts[i-1]
	}
	index := make([]ref, len(b.refs))
	fill := slices.Clone(starts)
	for _, r := range b.refs {
		i := t.shard(r.hash)
		index[fill[i]] = r
		fill[i]++
	}
	b.refs = nil
	for window, number := range b.windows {
		if window.tables++; window.tables == 1 {
			window.size = int(t.live[number])
		} else {
			window.size = 0
		}
	}
	t.shards = make([][]ref, 1<<t.bits)
	for i := range t.shards {
		s := index[starts[i]:starts[i+1]:starts[i+1]]
		slices.SortStableFunc(s, t.compareRefs)
		t.shards[i] = slices.CompactFunc(s, func(x, y ref) bool {
			same := x.hash == y.hash && x.sha == y.sha && compareRecordKeys(t.record(x), t.record(y)) == 0
			if same {
				t.live[y.chunk()] -= uint32(y.size())
				repeated(t.record(y))
			}
			return same
		})
		t.count += len(t.shards[i])
	}
	if t.count == 0 {
		return nil
	}
	return t
}

// finish is table for a builder that may be nil.
func (b *tableBuilder) finish(repeated func(record)) *table {
	if b == nil {
		return nil
	}
	return b.table(repeated)
}
