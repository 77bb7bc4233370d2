package zones

import (
	"hash/maphash"
	"maps"
	"slices"
)

// perShard is how many nodes one shard of a table holds, about: few, because a
// change copies whole shards, and many, because it copies the list of shards.
// At a million names that is 100 nodes and 10,000 shards.
const perShard = 100

// table finds nodes by name. A table is written by whoever builds it, then only
// read; edit gives one that shares every shard until it changes it.
type table struct {
	seed   maphash.Seed
	shards []map[Name]*Node
	owned  []bool // by shard: not shared, may be written; nil = all
	count  int
}

func newTable(nodes int) table {
	t := table{seed: maphash.MakeSeed(), shards: make([]map[Name]*Node, 1+nodes/perShard)}
	for i := range t.shards {
		t.shards[i] = make(map[Name]*Node, min(nodes, perShard))
	}
	return t
}

// edit copies the table for changes.
func (t table) edit() table {
	t.shards = slices.Clone(t.shards)
	t.owned = make([]bool, len(t.shards))
	return t
}

// crowded tells a table that has outgrown its shards, so that copying one costs
// too much. Building the zone anew gives it as many as it needs.
func (t *table) crowded() bool { return t.count > 4*perShard*len(t.shards) }

// grown is the table with as many shards as its nodes ask for.
func (t table) grown() table {
	if !t.crowded() {
		return t
	}
	next := newTable(t.count)
	for n := range t.all {
		next.put(n)
	}
	return next
}

// find is the node of a name in wire form, nil without one.
func (t *table) find(name []byte) *Node {
	return t.shards[maphash.Bytes(t.seed, name)%uint64(len(t.shards))][Name(name)]
}

// get is find for a Name.
func (t *table) get(name Name) *Node { return t.shards[t.shard(name)][name] }

func (t *table) shard(name Name) int {
	return int(maphash.String(t.seed, string(name)) % uint64(len(t.shards)))
}

// put adds or replaces a node.
func (t *table) put(n *Node) {
	s := t.writable(n.name)
	if s[n.name] == nil {
		t.count++
	}
	s[n.name] = n
}

// remove takes a node out.
func (t *table) remove(name Name) {
	s := t.writable(name)
	if s[name] != nil {
		t.count--
	}
	delete(s, name)
}

func (t *table) writable(name Name) map[Name]*Node {
	i := t.shard(name)
	if t.owned != nil && !t.owned[i] {
		t.shards[i], t.owned[i] = maps.Clone(t.shards[i]), true
	}
	return t.shards[i]
}

// all yields the nodes in no order.
func (t *table) all(yield func(*Node) bool) {
	for _, s := range t.shards {
		for _, n := range s {
			if !yield(n) {
				return
			}
		}
	}
}
