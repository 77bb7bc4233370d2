package zones

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/miekg/dns"

	"directnode/internal/direct"
)

// Diff is what makes one version of a zone of the one before, as an incremental
// transfer says it (RFC 1995 §4). It never changes.
type Diff struct {
	From, To uint32 // serials

	octets []byte // records, each behind its owner
}

// Len is its size: octets with names that are not compressed.
func (d *Diff) Len() int { return len(d.octets) }

// Records yields the old SOA, the records that go, the new SOA, and the records
// that come. A record is what stands behind its owner: type, class, TTL, length,
// RDATA.
func (d *Diff) Records(yield func(owner Name, record []byte) bool) {
	for rest := d.octets; len(rest) > 0; {
		end := nameEnd(rest)
		next := end + recordFixed - 2 + int(binary.BigEndian.Uint16(rest[end+recordFixed-4:]))
		if !yield(Name(rest[:end]), rest[end:next]) {
			return
		}
		rest = rest[next:]
	}
}

// nameEnd is where a name that begins b ends.
func nameEnd(b []byte) int {
	at := 0
	for b[at] != 0 {
		at += 1 + int(b[at])
	}
	return at + 1
}

// Records yields each record as it stands behind its owner: type, class, TTL,
// length, RDATA. It is good until yield returns.
func (r *RRset) Records(yield func(record []byte) bool) {
	var record []byte
	for data := range r.RData {
		record = binary.BigEndian.AppendUint16(record[:0], r.Type)
		record = binary.BigEndian.AppendUint16(record, dns.ClassINET)
		record = binary.BigEndian.AppendUint32(record, r.TTL)
		record = binary.BigEndian.AppendUint16(record, uint16(len(data)))
		if !yield(append(record, data...)) {
			return
		}
	}
}

// Changes are the steps from a version of the zone to this one; false if that
// version is not known any more, or never was.
func (z *Zone) Changes(serial uint32) ([]*Diff, bool) {
	for i, d := range z.history {
		if d.From == serial {
			return z.history[i:], true
		}
	}
	return nil, false
}

// remember gives a zone the history of the one before it, with what makes it
// different. It costs what changed. Where that is not known, or too much, the
// history begins anew: then a transfer is whole.
func (z *Zone) remember(before *Zone) {
	if before == nil {
		return
	}
	room := z.historyRoom()
	w := &diffWriter{before: before, after: z, room: room}
	w.write()
	if w.over() {
		return
	}
	history := append(slices.Clone(before.history), &Diff{before.serial, z.serial, slices.Concat(w.gone, w.come)})
	size := 0
	for i := len(history) - 1; i >= 0; i-- {
		if size += history[i].Len(); size > room || len(history)-i > maxHistory {
			history = slices.Clone(history[i+1:])
			break
		}
	}
	z.history = history
}

// historyRoom is how many octets of history a zone keeps: as many as the zone
// has, for then a whole transfer costs less, within bounds.
func (z *Zone) historyRoom() int {
	zone := z.from.data.Certificates.Len()*usualCert + len(z.from.data.Records)*usualRecord
	return min(max(zone, minHistoryOctets), maxHistoryOctets)
}

// diffWriter finds the difference between two zones of the same apex.
type diffWriter struct {
	before, after *Zone
	gone, come    []byte
	room          int
}

func (w *diffWriter) over() bool { return len(w.gone)+len(w.come) > w.room }

func (w *diffWriter) write() {
	apex := w.after.apex.name
	w.gone = w.put(w.gone, apex, w.before.apex.RRset(dns.TypeSOA))
	w.come = w.put(w.come, apex, w.after.apex.RRset(dns.TypeSOA))
	w.names(func(n Name) bool {
		w.name(n)
		return !w.over()
	})
}

func (w *diffWriter) put(to []byte, owner Name, set *RRset) []byte {
	for record := range set.Records {
		to = append(append(to, owner...), record...)
	}
	return to
}

// names yields every name at which the zones may differ, once.
func (w *diffWriter) names(yield func(Name) bool) {
	owners, others, ok := w.after.from.data.Since(w.before.from.data)
	alone := len(w.before.from.parents)+len(w.before.from.below)+len(w.after.from.parents)+len(w.after.from.below) == 0
	names := make(map[Name]bool)
	switch {
	case !ok || !alone:
		// Nobody has kept count: every name, unless there are too many.
		w.everyName(names)
	case others:
		for _, z := range []*Zone{w.before, w.after} {
			for n := range z.nodes.all {
				names[n.name] = true
			}
		}
		addNames(names, owners)
	default:
		addNames(names, owners)
	}
	for _, n := range slices.Sorted(maps.Keys(names)) {
		if !yield(n) {
			return
		}
	}
}

func addNames(names map[Name]bool, owners []direct.Owner) {
	for _, o := range owners {
		if n, ok := certName(o); ok {
			names[n] = true
		}
	}
}

// everyName collects the names of both zones. Of zones that are too large for
// that the difference counts as too large.
func (w *diffWriter) everyName(names map[Name]bool) {
	for _, z := range []*Zone{w.before, w.after} {
		for n := range z.All {
			if names[n] = true; len(names) > maxComparedNames {
				w.room = 0
				return
			}
		}
	}
}

// name writes down what differs at one name.
func (w *diffWriter) name(n Name) {
	if !n.within(w.after.apex.name) {
		return
	}
	was, is := w.before.nodes.get(n), w.after.nodes.get(n)
	var a, b Answer
	w.sets(n, w.before.certSet(&a, n), w.after.certSet(&b, n))
	if was == is {
		return
	}
	types := make(map[uint16]bool)
	for _, node := range []*Node{was, is} {
		if node == nil {
			continue
		}
		for _, s := range node.sets {
			types[s.Type] = true
		}
	}
	for _, t := range slices.Sorted(maps.Keys(types)) {
		if t == dns.TypeCERT || t == dns.TypeSOA {
			continue
		}
		w.sets(n, nodeSet(was, t), nodeSet(is, t))
	}
}

func nodeSet(n *Node, rrtype uint16) *RRset {
	if n == nil {
		return nil
	}
	return n.RRset(rrtype)
}

// certSet is what the zone holds of type CERT at a name, nil without any.
func (z *Zone) certSet(a *Answer, n Name) *RRset {
	z.LookupInto(a, []byte(n), dns.TypeCERT)
	if a.Kind != Hit || a.Wildcard {
		return nil
	}
	return a.RRset
}

// sets writes down the records that only one of two RRsets has. A record with
// another TTL is another one.
func (w *diffWriter) sets(owner Name, was, is *RRset) {
	if was == is {
		return
	}
	w.gone = w.missing(w.gone, owner, was, is)
	w.come = w.missing(w.come, owner, is, was)
}

// missing adds the records of set that other does not have.
func (w *diffWriter) missing(to []byte, owner Name, set, other *RRset) []byte {
	if set == nil {
		return to
	}
	for record := range set.Records {
		if other == nil || !other.has(record) {
			to = append(append(to, owner...), record...)
		}
	}
	return to
}

func (r *RRset) has(record []byte) bool {
	for x := range r.Records {
		if bytes.Equal(x, record) {
			return true
		}
	}
	return false
}
