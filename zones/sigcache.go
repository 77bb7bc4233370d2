package zones

import (
	"encoding/binary"
	"hash/maphash"
	"sync"
)

// signatureSize is that of both algorithms (RFC 6605 §4, RFC 8080 §4).
const signatureSize = 64

const (
	// sigShards keeps readers out of each other's way: more than any machine
	// here has cores.
	sigShards = 64

	// sigWays is how many signatures compete for one place.
	sigWays = 4

	// leastSignatures and mostSignatures bound a cache: 1.4 MiB, and 88 MiB for
	// a domain of a million addresses that are all asked for.
	leastSignatures = 1 << 14
	mostSignatures  = 1 << 20

	// denialSignatures is the size of the cache of signatures that deny: they
	// have one of their own, so that a flood of names that do not exist cannot
	// wash the others out.
	denialSignatures = 1 << 13
)

// Signatures remembers the signatures of all zones, over the generations: what
// is signed names the place, so that an RRset that did not change keeps its
// signature. Its memory is bounded; what is forgotten is signed again. It may be
// used concurrently.
type Signatures struct {
	what, place  maphash.Seed
	data, denied sigCache
}

// newSignatures makes caches for that many names.
func newSignatures(names int) *Signatures {
	size := leastSignatures
	for size < 2*names && size < mostSignatures {
		size *= 2
	}
	return &Signatures{what: maphash.MakeSeed(), place: maphash.MakeSeed(), data: newSigCache(size), denied: newSigCache(denialSignatures)}
}

// holds tells whether the cache is large enough for that many names.
func (s *Signatures) holds(names int) bool {
	size := s.data.size()
	return size >= names || size >= mostSignatures
}

// sigID is what is signed, with which key, for which time: two hashes of it
// under two secrets, so that no two things ever share one.
type sigID struct{ a, b uint64 }

// id names the signature of an RRset whose content has that hash.
func (s *Signatures) id(key uint64, owner []byte, set *RRset, window uint32) sigID {
	var buf [maxName + 32]byte
	b := append(buf[:0], owner...)
	b = binary.BigEndian.AppendUint64(b, key)
	b = binary.BigEndian.AppendUint64(b, set.hash(s.what))
	b = binary.BigEndian.AppendUint32(b, window)
	b = binary.BigEndian.AppendUint32(b, set.TTL)
	b = binary.BigEndian.AppendUint16(b, set.Type)
	return sigID{maphash.Bytes(s.what, b), maphash.Bytes(s.place, b)}
}

// sigCache is a table of fixed size.
type sigCache struct {
	shards []sigShard
	sets   uint64 // of a shard, a power of two
}

type sigShard struct {
	mu   sync.Mutex // owns what follows; held for a few comparisons
	sets []sigSet   // made with the first signature
}

type sigSet struct {
	ids  [sigWays]sigID
	used [sigWays]bool // since the hand came by
	hand uint8
	sigs [sigWays][signatureSize]byte
}

func newSigCache(size int) sigCache {
	return sigCache{make([]sigShard, sigShards), uint64(max(1, size/sigShards/sigWays))}
}

func (c *sigCache) size() int { return sigShards * int(c.sets) * sigWays }

// get copies a signature into sig.
func (c *sigCache) get(id sigID, sig *[signatureSize]byte) bool {
	shard := &c.shards[id.a%sigShards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if shard.sets == nil {
		return false
	}
	set := &shard.sets[id.b&(c.sets-1)]
	for i := range set.ids {
		if set.ids[i] == id {
			set.used[i] = true
			*sig = set.sigs[i]
			return true
		}
	}
	return false
}

// put remembers a signature in the place of one that was not used lately.
func (c *sigCache) put(id sigID, sig *[signatureSize]byte) {
	shard := &c.shards[id.a%sigShards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if shard.sets == nil {
		shard.sets = make([]sigSet, c.sets)
	}
	set := &shard.sets[id.b&(c.sets-1)]
	for set.used[set.hand] {
		set.used[set.hand] = false
		set.hand = (set.hand + 1) % sigWays
	}
	set.ids[set.hand], set.sigs[set.hand] = id, *sig
	set.hand = (set.hand + 1) % sigWays
}
