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

	// sigWays is how many signatures a set has room for. Each signature may be in
	// one of two sets: at half its size the memory forgets nothing, where a single
	// set for each would run over for one name in twenty.
	sigWays = 4

	// leastSignatures and mostSignatures bound a cache: 1.3 MiB, and 80 MiB for
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

// sigSet is five cache lines: what is looked for is found in two.
type sigSet struct {
	ids  [sigWays]sigID // zero: free
	sigs [sigWays][signatureSize]byte
}

// find is where a signature is; free counts the places that are.
func (s *sigSet) find(id sigID) (at, free int) {
	at = -1
	for i := range s.ids {
		switch s.ids[i] {
		case id:
			at = i
		case sigID{}:
			free++
		}
	}
	return at, free
}

func newSigCache(size int) sigCache {
	return sigCache{make([]sigShard, sigShards), uint64(max(1, size/sigShards/sigWays))}
}

func (c *sigCache) size() int { return sigShards * int(c.sets) * sigWays }

// places are the two sets that a signature may be in.
func (c *sigCache) places(id sigID) (shard *sigShard, one, two uint64) {
	return &c.shards[id.a%sigShards], id.b & (c.sets - 1), id.b >> 32 & (c.sets - 1)
}

// get appends a signature.
func (c *sigCache) get(dst []byte, id sigID) ([]byte, bool) {
	shard, one, two := c.places(id)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if shard.sets == nil {
		return dst, false
	}
	for _, n := range [...]uint64{one, two} {
		set := &shard.sets[n]
		for i := range set.ids {
			if set.ids[i] == id {
				return append(dst, set.sigs[i][:]...), true
			}
		}
	}
	return dst, false
}

// put remembers a signature in the set that has more room, or in the place of
// any other.
func (c *sigCache) put(id sigID, sig *[signatureSize]byte) {
	shard, one, two := c.places(id)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if shard.sets == nil {
		shard.sets = make([]sigSet, c.sets)
	}
	set := &shard.sets[one]
	at, free := set.find(id)
	other := &shard.sets[two]
	if there, more := other.find(id); at < 0 && (there >= 0 || more > free) {
		set, at = other, there
	}
	if at < 0 {
		at, _ = set.find(sigID{})
	}
	if at < 0 {
		at = int(id.a>>32) % sigWays
	}
	set.ids[at], set.sigs[at] = id, *sig
}
