package ldapserver

import (
	"net/netip"
	"sync"
	"time"

	"directnode/internal/ber"
)

// Limits that no operator needs to move.
const (
	// maxPDU: the longest request a Direct client sends has less than 1 KiB; a
	// directory that also takes certificates in filters would need 64 KiB.
	maxPDU = 64 << 10
	// maxFilterDepth and maxFilterNodes: the clients of Direct nest two deep and
	// send four items. A filter is evaluated by recursion, once per candidate.
	maxFilterDepth = 8
	maxFilterNodes = 32
	// maxAttributes selected: an address book asks for about fifteen.
	maxAttributes = 20
	// maxControls on one message: no client sends more than three.
	maxControls = 16
	// maxPins: how many addresses one anonymous search may name. Two are needed
	// (address and domain in one OR); four leave room without making the search
	// a bulk query.
	maxPins = 4
	// maxBuffered is how much of an answer is kept before it is written.
	maxBuffered = 64 << 10
	// maxOutstanding is how many requests of a connection are served before their
	// answers leave and others have their turn, and how many Cancel remembers. No
	// client of Direct sends more than two ahead. It divides 256; see recent.
	maxOutstanding = 16
	// firstBuffer suits a connection's usual requests; it grows to maxPDU as
	// octets come in, never because a length promised them.
	firstBuffer = 2 << 10
	// partialBuffer is what an event loop keeps at first for a message that has
	// not come whole: most requests fit. It grows like the other one.
	partialBuffer = 512
	// maxKept is the most that a connection keeps of either buffer while it
	// waits: room for about ten answers, so that pipelining does not allocate.
	maxKept = 16 << 10
	// lingerTime and lingerOctets: after a notice of disconnection the rest that
	// the client sends is read for a moment, or its kernel would throw the notice
	// away with the reset.
	lingerTime   = 250 * time.Millisecond
	lingerOctets = 256 << 10
	// sendBuffer is how much the kernel is to hold for a client that does not read;
	// by itself it takes up to 4 MiB for each, of memory that TCP of the whole
	// machine shares. Linux takes twice the figure, which is 20 Mbit/s to the other
	// side of the earth.
	sendBuffer = 128 << 10
	// readSize is how much an event loop reads of one connection at a time: dozens
	// of requests, and little to keep for a client that sends thousands.
	readSize = 8 << 10
	// loopEvents is how many connections an event loop deals with before it lets
	// others have the processor, loopAccept how many it accepts at a time.
	loopEvents = 64
	loopAccept = 16
	// loopTick is how often an event loop looks for connections whose time is over,
	// and so by how much they may outstay it.
	loopTick = 250 * time.Millisecond
	// deadlineSlack: deadlines are moved only when they are older than this,
	// because moving one costs as much as evaluating a filter.
	deadlineSlack = time.Second
	// maxPeers bounds the table of rates; see limiter.
	maxPeers = 64 << 10
)

// messageLimits bounds the BER of one message: with filters cut at
// maxFilterDepth nothing legitimate reaches depth 16.
var messageLimits = ber.Limits{Depth: 16, Count: 4096, Size: maxPDU}

// The defaults of Options.
const (
	defaultConnections = 8192
	defaultPerAddress  = 8
	defaultSearchRate  = 20
	defaultMissRate    = 5
	defaultSizeExact   = 10
	defaultSizeList    = 500 // OpenLDAP's figure
	defaultTimeLimit   = 3 * time.Second
	defaultPDUTimeout  = 5 * time.Second
	defaultIdle        = 30 * time.Second
	defaultWrite       = 5 * time.Second
	// burstSeconds: how many seconds' worth of its rate an address that was
	// quiet may use at once. A mail gateway looks up the recipients of one
	// message together.
	burstSeconds = 5
)

// counted is what the limits count: an IPv4 address, or the /64 network of an
// IPv6 address, which is what one subscriber has.
func counted(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if !a.Is6() {
		return a
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}

// limiter is a token bucket per peer for searches and for searches that found
// nothing. It is safe for concurrent use.
type limiter struct {
	searches, misses float64 // tokens a second
	shards           [64]limiterShard
}

type limiterShard struct {
	mu      sync.Mutex
	buckets map[netip.Addr]*bucket // guarded by mu
}

// bucket is what a peer has used and not yet got back.
type bucket struct {
	at               time.Time
	searches, misses float64
}

func newLimiter(searches, misses int) *limiter {
	return &limiter{searches: float64(searches), misses: float64(misses)}
}

func (l *limiter) shard(peer netip.Addr) *limiterShard {
	b := peer.As16()
	h := uint32(2166136261)
	for _, c := range b {
		h = (h ^ uint32(c)) * 16777619
	}
	return &l.shards[h>>16%uint32(len(l.shards))]
}

// search takes one search from the peer's budget and tells whether it was used
// up, or that of searches that find nothing.
func (l *limiter) search(peer netip.Addr, at time.Time) denial {
	s := l.shard(peer)
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.bucket(l, peer, at)
	switch {
	case b.searches+1 > l.searches*burstSeconds:
		return overRate
	case b.misses+1 > l.misses*burstSeconds:
		return overMisses
	}
	b.searches++
	return overNothing
}

// miss counts addresses, or names, that were asked for and are not there.
func (l *limiter) miss(peer netip.Addr, at time.Time, n int) {
	s := l.shard(peer)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bucket(l, peer, at).misses += float64(n)
}

// bucket gives a peer's bucket with what came back until now.
func (s *limiterShard) bucket(l *limiter, peer netip.Addr, at time.Time) *bucket {
	b := s.buckets[peer]
	if b == nil {
		if s.buckets == nil {
			s.buckets = map[netip.Addr]*bucket{}
		}
		if len(s.buckets) >= maxPeers/len(l.shards) {
			s.evict(l, at)
		}
		b = &bucket{at: at}
		s.buckets[peer] = b
		return b
	}
	if past := at.Sub(b.at).Seconds(); past > 0 {
		b.searches = max(0, b.searches-past*l.searches)
		b.misses = max(0, b.misses-past*l.misses)
		b.at = at
	}
	return b
}

// evictTries is how many peers evict looks at: a flood of addresses must not
// make every new one pay for a walk through the table.
const evictTries = 8

// evict makes room: of a few peers at random it drops those that have got
// everything back, or the last one if none has. Forgetting a peer errs on its
// side.
func (s *limiterShard) evict(l *limiter, at time.Time) {
	var last netip.Addr
	tries, dropped := 0, 0
	for peer, b := range s.buckets {
		if tries++; tries > evictTries {
			break
		}
		last = peer
		if past := at.Sub(b.at).Seconds(); b.searches <= past*l.searches && b.misses <= past*l.misses {
			delete(s.buckets, peer)
			dropped++
		}
	}
	if dropped == 0 {
		delete(s.buckets, last)
	}
}

// slots counts connections, in all and by peer. It is safe for concurrent use.
type slots struct {
	mu      sync.Mutex
	total   int                // guarded by mu
	taken   uint64             // since the start; guarded by mu
	perPeer map[netip.Addr]int // guarded by mu
}

// take gives a slot unless a limit is reached; exempt peers get one always.
func (s *slots) take(p *peer, maxTotal, maxPeer int) denial {
	s.mu.Lock()
	defer s.mu.Unlock()
	peer := p.counted
	switch {
	case p.exempt:
	case s.perPeer[peer] >= maxPeer:
		return overPerAddress
	case s.total >= maxTotal:
		return overConnections
	}
	s.taken++
	if s.perPeer == nil {
		s.perPeer = map[netip.Addr]int{}
	}
	s.total++
	s.perPeer[peer]++
	return overNothing
}

// figures gives how many slots are taken, and how many were since the start.
func (s *slots) figures() (now int, ever uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total, s.taken
}

func (s *slots) give(peer netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	if s.perPeer[peer]--; s.perPeer[peer] == 0 {
		delete(s.perPeer, peer)
	}
}
