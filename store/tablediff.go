package store

import (
	"bytes"
	"slices"

	"directnode/internal/direct"
	"directnode/store/kv"
)

// difference yields the owners whose records differ between two tables, with
// the refs that they have in each. Shards that both share are not looked at, so
// that a change of a table costs its change.
func difference(a, b *table, yield func(before, after []ref) bool) {
	bits := 0
	for _, t := range []*table{a, b} {
		if t != nil {
			bits = max(bits, t.bits)
		}
	}
	for i := range 1 << bits {
		x, y := a.part(i, bits), b.part(i, bits)
		if len(x) == len(y) && (len(x) == 0 || &x[0] == &y[0]) {
			continue
		}
		for len(x) > 0 || len(y) > 0 {
			n, m := nextOwner(a, x, b, y)
			if !sameRefs(a, x[:n], b, y[:m]) && !yield(x[:n:n], y[:m:m]) {
				return
			}
			x, y = x[n:], y[m:]
		}
	}
}

// part is one of 2^bits parts of the index, of which a shard holds one or more.
func (t *table) part(i, bits int) []ref {
	if t == nil {
		return nil
	}
	s := t.shards[i>>(bits-t.bits)]
	if bits == t.bits {
		return s
	}
	// Looked for as split does, so that halves come out as the same slices.
	at := func(n int) int {
		low := uint64(n) << (32 - bits)
		k, _ := slices.BinarySearchFunc(s, low, func(r ref, low uint64) int {
			if uint64(r.hash) < low {
				return -1
			}
			return 1
		})
		return k
	}
	return s[at(i):at(i+1)]
}

// nextOwner is how many refs at the beginning of each list belong to the first
// of their owners.
func nextOwner(a *table, x []ref, b *table, y []ref) (n, m int) {
	switch {
	case len(x) == 0:
		return 0, b.group(y)
	case len(y) == 0:
		return a.group(x), 0
	}
	order := int(0)
	switch {
	case x[0].hash < y[0].hash:
		order = -1
	case x[0].hash > y[0].hash:
		order = 1
	case !sameRecord(a, x[0], b, y[0]):
		order = compareFolded(a.record(x[0]).owner(), b.record(y[0]).owner())
	}
	if order <= 0 {
		n = a.group(x)
	}
	if order >= 0 {
		m = b.group(y)
	}
	return n, m
}

// sameRecord tells whether two refs lead to one place, without a look at it.
func sameRecord(a *table, x ref, b *table, y ref) bool {
	return x.at == y.at && a.chunks[x.chunk()] == b.chunks[y.chunk()]
}

func sameRefs(a *table, x []ref, b *table, y []ref) bool {
	if len(x) != len(y) {
		return false
	}
	for i := range x {
		if !sameRecord(a, x[i], b, y[i]) && !bytes.Equal(a.record(x[i]), b.record(y[i])) {
			return false
		}
	}
	return true
}

// tableOps are the changes of the entries of a table.
func tableOps(prefix string, was, is *table) []kv.Op {
	var ops []kv.Op
	difference(was, is, func(before, after []ref) bool {
		for _, x := range before {
			old := was.record(x)
			if !slices.ContainsFunc(after, func(y ref) bool { return bytes.Equal(is.record(y).sha(), old.sha()) }) {
				ops = append(ops, kv.Op{Kind: kv.Delete, Key: recordKeyIn(prefix, old)})
			}
		}
		for _, y := range after {
			next := is.record(y)
			if !slices.ContainsFunc(before, func(x ref) bool { return bytes.Equal(was.record(x), next) }) {
				ops = append(ops, kv.Op{Kind: kv.Put, Key: recordKeyIn(prefix, next), Value: next})
			}
		}
		return true
	})
	return ops
}

// recordKeyIn is the key of a record below a prefix that ends in the domain.
func recordKeyIn(prefix string, r record) string {
	b := make([]byte, 0, len(prefix)+len(r.owner())+1+64)
	b = append(b, prefix...)
	b = append(appendFolded(b, r.owner()), '/')
	return string(appendHex(b, r.sha()))
}

func appendHex(dst, octets []byte) []byte {
	const digits = "0123456789abcdef"
	for _, c := range octets {
		dst = append(dst, digits[c>>4], digits[c&15])
	}
	return dst
}

// changedOwners lists the owners that tell two tables apart, up to a limit;
// whole is true when there are more.
func changedOwners(was, is *table, limit int) (owners []direct.Owner, whole bool) {
	difference(was, is, func(before, after []ref) bool {
		if len(owners) == limit {
			whole = true
			return false
		}
		t, r := is, after
		if len(after) == 0 {
			t, r = was, before
		}
		owners = append(owners, t.record(r[0]).parsedOwner())
		return true
	})
	return owners, whole
}
