package dnsserver

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"
)

// The shares of answers by UDP. An address has Limits.Rate a second; networks
// around it have as much as so many busy addresses, so that one which sends from
// a whole network gains little. The prefixes and multiples are those that Knot
// DNS measured for its own limiter.
var shares = [2][4]share{
	{{32, 1}, {24, 32}, {20, 256}, {18, 768}}, // IPv4
	{{128, 1}, {64, 2}, {56, 3}, {48, 4}},     // IPv6: one customer has a /64 at the least, a /48 at most
}

type share struct {
	bits     int
	multiple int64
}

const (
	// rateSaved is the time whose share may be used at once: a resolver that
	// fetches a page of names is not yet a flood.
	rateSaved = 2500 * time.Millisecond

	// rateSets and rateWays are the size of the table: 2^15 sets of one cache
	// line each, 2 MiB. Who sends from more addresses at once than it holds
	// pushes out those that have used least of their share.
	rateSets = 1 << 15
	rateWays = 8
)

// limiter counts the answers that addresses and networks get (response rate
// limiting). It never allocates or blocks, and its memory is fixed.
//
// For each prefix it keeps one time: when its share will have been earned back
// (the generic cell rate algorithm, ITU-T I.371 Annex A, in its form of a
// virtual schedule). An entry is one word, a tag of the prefix's hash above that
// time; what a race between two readers loses is one answer.
type limiter struct {
	epoch   time.Time
	seed    maphash.Seed
	sets    []rateSet // a power of two
	answer  int64     // microseconds of one address's share that an answer takes
	absence int64     // the same for an answer that a name does not exist
}

type rateSet [rateWays]atomic.Uint64

// Fields of an entry: 24 bits of the hash, 40 of time in microseconds since the
// epoch, which come round in twelve days. A time further ahead than any share
// can be used is one from before.
const (
	rateTime = 40
	rateMask = 1<<rateTime - 1
)

// newLimiter limits an address to rate answers and absences NXDOMAIN answers a
// second.
func newLimiter(rate, absences int, at time.Time) *limiter {
	return &limiter{
		epoch: at, seed: maphash.MakeSeed(), sets: make([]rateSet, rateSets),
		answer: int64(time.Second/time.Microsecond) / int64(rate), absence: int64(time.Second/time.Microsecond) / int64(min(rate, absences)),
	}
}

// over takes an answer from the shares of an address and its networks, and tells
// whether one of them has none left. Then wider ones are not charged: one flood
// does not use up what belongs to its neighbors.
func (l *limiter) over(peer netip.Addr, absence bool, at time.Time) bool {
	if !peer.IsValid() {
		return false
	}
	now, cost := at.Sub(l.epoch).Microseconds(), l.answer
	if absence {
		cost = l.absence
	}
	family := 0
	if peer.Is6() {
		family = 1
	}
	for row, s := range shares[family] {
		if !l.take(l.hash(peer, family, row), now, max(1, cost/s.multiple)) {
			return true
		}
	}
	return false
}

// hash is a keyed hash of a prefix, so that nobody can aim at the entry of
// another.
func (l *limiter) hash(peer netip.Addr, family, row int) uint64 {
	var key [1 + 16]byte
	key[0] = byte(family<<4 | row)
	bits := shares[family][row].bits
	n := bits / 8
	if family == 0 {
		a := peer.As4()
		copy(key[1:], a[:])
	} else {
		a := peer.As16()
		copy(key[1:], a[:])
	}
	if bits%8 != 0 {
		key[1+n] &= byte(0xFF << (8 - bits%8))
		n++
	}
	return maphash.Bytes(l.seed, key[:1+n])
}

// take earns back what time has brought and takes cost, unless there is not so
// much left.
func (l *limiter) take(hash uint64, now, cost int64) bool {
	set := &l.sets[hash&uint64(len(l.sets)-1)]
	tag := hash &^ rateMask
	slot, old, debt := set.find(tag, now)
	if debt+cost > rateSaved.Microseconds() {
		return false
	}
	// Another reader may have been faster; then this answer is not counted.
	set[slot].CompareAndSwap(old, tag|uint64(now+debt+cost)&rateMask)
	return true
}

// find gives the entry with a tag and what it owes of the time to come; without
// one, the entry that owes least, to be replaced.
func (set *rateSet) find(tag uint64, now int64) (slot int, old uint64, debt int64) {
	least := int64(1<<63 - 1)
	for i := range set {
		e := set[i].Load()
		d := owes(e, now)
		if e&^rateMask == tag {
			return i, e, d
		}
		if d < least {
			slot, old, least = i, e, d
		}
	}
	return slot, old, 0
}

// owes is by how much an entry's time lies ahead.
func owes(entry uint64, now int64) int64 {
	d := int64((entry-uint64(now))&rateMask) << (64 - rateTime) >> (64 - rateTime)
	if d < 0 || d > rateSaved.Microseconds() {
		return 0
	}
	return d
}
