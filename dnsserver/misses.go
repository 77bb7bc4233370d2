package dnsserver

import (
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// The names of a Direct zone are people's addresses, so that who asks for one
// name after another to see which exist is to be seen himself.
const (
	// missWindow is the time over which the names are counted.
	missWindow = 10 * time.Minute

	// missNames is how many of the 64 bits that names leave make a suspect: 48
	// are set by about 90 different names, which nobody misspells in ten
	// minutes. The same name asked for again leaves its bit as it was.
	missNames = 48

	// missSets and missWays are the size of the table: 4,096 networks, 160 KiB.
	missSets = 512
	missWays = 8
)

// misses counts the names that do not exist and were asked for, by networks: a
// /24 or /56 is where one who changes his address stays. Its memory is fixed.
type misses struct {
	epoch time.Time
	seed  maphash.Seed
	sets  []missSet
}

type missSet struct {
	mu      sync.Mutex // owns entries; held for a few comparisons
	entries [missWays]missEntry
}

type missEntry struct {
	network uint64 // packed; 0 for none
	since   time.Duration
	names   uint64 // a bit for each name, by its hash
	count   uint64
}

func (e *missEntry) suspect() bool { return bits.OnesCount64(e.names) >= missNames }

func newMisses(at time.Time) *misses {
	return &misses{epoch: at, seed: maphash.MakeSeed(), sets: make([]missSet, missSets)}
}

// add counts a name in lower case that was asked for in vain. It tells whether
// the network has become a suspect by it.
func (m *misses) add(peer netip.Addr, name []byte, at time.Time) bool {
	if !peer.IsValid() {
		return false
	}
	network, now := packNetwork(peer), at.Sub(m.epoch)
	set := &m.sets[maphash.Comparable(m.seed, network)%missSets]
	bit := uint64(1) << (maphash.Bytes(m.seed, name) % 64)

	set.mu.Lock()
	defer set.mu.Unlock()
	e := set.find(network)
	if e.network != network || now-e.since > missWindow {
		*e = missEntry{network: network, since: now}
	}
	was := e.suspect()
	e.names |= bit
	e.count++
	return !was && e.suspect()
}

// find is the entry of a network, or the one with the fewest names, to be
// replaced.
func (set *missSet) find(network uint64) *missEntry {
	least := &set.entries[0]
	for i := range set.entries {
		e := &set.entries[i]
		if e.network == network {
			return e
		}
		if bits.OnesCount64(e.names) < bits.OnesCount64(least.names) {
			least = e
		}
	}
	return least
}

// suspects lists them, the most eager first.
func (m *misses) suspects() []Suspect {
	var all []Suspect
	for i := range m.sets {
		set := &m.sets[i]
		set.mu.Lock()
		for _, e := range set.entries {
			if e.suspect() {
				all = append(all, Suspect{Network: unpackNetwork(e.network), Misses: e.count})
			}
		}
		set.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b Suspect) int { return cmp.Compare(b.Misses, a.Misses) })
	return all
}

// packNetwork puts family and prefix into one word: 7 octets hold a /56.
func packNetwork(peer netip.Addr) uint64 {
	if peer.Is4() {
		a := peer.As4()
		return 4<<56 | uint64(a[0])<<16 | uint64(a[1])<<8 | uint64(a[2])
	}
	a := peer.As16()
	return 6<<56 | binary.BigEndian.Uint64(a[:])>>8
}

func unpackNetwork(n uint64) netip.Prefix {
	if n>>56 == 4 {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(n >> 16), byte(n >> 8), byte(n)}), 24)
	}
	var a [16]byte
	binary.BigEndian.PutUint64(a[:], n<<8)
	return netip.PrefixFrom(netip.AddrFrom16(a), 56)
}
