package dnsserver

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Sizes of messages.
const (
	headerSize = 12    // RFC 1035 §4.1.1
	maxName    = 255   // RFC 1035 §2.3.4
	maxTCP     = 65535 // RFC 1035 §4.2.2: the length field has 16 bits
	plainUDP   = 512   // RFC 1035 §4.2.1: without EDNS

	// maxUDP is what fits through every usual path without fragments (RFC 9715
	// §3.1 and the DNS flag day of 2020): 1,280 octets of the least IPv6 MTU
	// less the headers. It is both what we send at most and what we advertise.
	maxUDP = 1232
)

// maxChain is how many aliases (CNAME, DNAME) one answer follows. No zone needs
// more than two; a loop ends here. Package zones counts on it for the size of RRsets.
const maxChain = 8

// UDP reading.
const (
	// udpBatch is how many packets one system call moves: more than this adds
	// latency and no speed.
	udpBatch = 32

	// udpQuery is the room for one query. Ours is 1232 as advertised; what is
	// longer arrives cut and is a format error.
	udpQuery = 2048

	// readPause keeps a socket that fails again and again from eating a core.
	readPause = 10 * time.Millisecond
)

// TCP reading and writing.
const (
	lengthSize = 2       // RFC 1035 §4.2.2
	tcpRead    = 2 << 10 // the read buffer at first: dozens of queries; grows with a longer one

	// tcpWrite is when pipelined answers go out although more queries are there.
	tcpWrite = 64 << 10

	// tcpKeep is what an idle connection may keep of its write buffer: 1,024 of
	// them then hold 16 MiB.
	tcpKeep = 16 << 10

	// acceptPause is how long accepting rests when the system has no more file
	// descriptors; meanwhile connections end.
	acceptPause = 50 * time.Millisecond
)

// Limits bound what clients may hold of a Server. The zero value of a field
// means its default.
type Limits struct {
	UDPReaders int // goroutines that read one UDP socket; 2: one answers while the other waits in the kernel

	// The figures of TCP are those that other servers have settled on: NSD 100
	// and BIND 150 clients are known to be too few beside slow ones.
	TCPTotal      int           // connections; 1024
	TCPPerAddress int           // of one IPv4 address or IPv6 /64; 32
	TCPPerNetwork int           // of one IPv4 /24 or IPv6 /48; 256
	FirstByte     time.Duration // from the handshake to the first octet; 3 s
	Idle          time.Duration // until the next query is there whole; 10 s (RFC 7766 §6.2.3: a few seconds)
	Transfers     int           // zones that are transferred at a time; 8: a slow secondary must not keep all others waiting
	Transfer      time.Duration // for one; 30 min: a million certificates over a line of 8 Mbit/s
	Write         time.Duration // for a batch of answers; 2 s: a client that does not read is gone

	// Answers by UDP to one address that shows no valid cookie; what is over is
	// answered with TC=1. Below 0 means no limit.
	Rate     int // a second; 50: a resolver that needs more has cookies or many addresses
	Absences int // NXDOMAIN answers a second, of the same share; 10: few people misspell more

	// Exempt networks are never refused, evicted or limited. Nil means loopback;
	// an empty slice means none.
	Exempt []netip.Prefix
}

func (l Limits) withDefaults() Limits {
	if l.Rate == 0 {
		l.Rate = 50
	}
	if l.Absences == 0 {
		l.Absences = 10
	}
	set := func(field *int, value int) {
		if *field <= 0 {
			*field = value
		}
	}
	wait := func(field *time.Duration, value time.Duration) {
		if *field <= 0 {
			*field = value
		}
	}
	set(&l.UDPReaders, 2)
	set(&l.TCPTotal, 1024)
	set(&l.TCPPerAddress, 32)
	set(&l.TCPPerNetwork, 256)
	set(&l.Transfers, 8)
	wait(&l.Transfer, 30*time.Minute)
	wait(&l.FirstByte, 3*time.Second)
	wait(&l.Idle, 10*time.Second)
	wait(&l.Write, 2*time.Second)
	if l.Exempt == nil {
		l.Exempt = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	}
	return l
}

// conns counts the open TCP connections of a Server.
type conns struct {
	limits Limits

	mu     sync.Mutex // owns what follows
	open   map[*conn]struct{}
	counts map[netip.Prefix]int // by address and by network
}

func newConns(l Limits) *conns {
	return &conns{limits: l, open: make(map[*conn]struct{}), counts: make(map[netip.Prefix]int)}
}

// conn is one TCP connection.
type conn struct {
	net.Conn
	id      uint64
	exempt  bool
	address netip.Prefix
	network netip.Prefix
	since   atomic.Int64 // when it last got an answer (or was opened), in nanoseconds
}

// admit counts a connection in. Over the count of its address or network it is
// refused: others must not suffer for it. Over the total, the connection that
// has gone longest without a query makes room (RFC 7766 §6.1 lets a server
// close idle connections under load). The returned reason is empty if it may
// stay.
func (c *conns) admit(nc net.Conn, id uint64, at time.Time) (cn *conn, refused string) {
	cn = &conn{Conn: nc, id: id}
	cn.since.Store(at.UnixNano())
	cn.address, cn.network, cn.exempt = c.classify(nc.RemoteAddr())

	c.mu.Lock()
	defer c.mu.Unlock()
	if !cn.exempt {
		switch {
		case c.counts[cn.address] >= c.limits.TCPPerAddress:
			return nil, "too many connections of this address"
		case c.counts[cn.network] >= c.limits.TCPPerNetwork:
			return nil, "too many connections of this network"
		case len(c.open) >= c.limits.TCPTotal && !c.evict():
			return nil, "too many connections"
		}
	}
	c.open[cn] = struct{}{}
	c.counts[cn.address]++
	if cn.network != cn.address {
		c.counts[cn.network]++
	}
	return cn, ""
}

// evict closes the connection that has been idle longest and takes it out at
// once, so that the one which needs its place has it. The caller holds mu.
func (c *conns) evict() bool {
	var oldest *conn
	for cn := range c.open {
		if !cn.exempt && (oldest == nil || cn.since.Load() < oldest.since.Load()) {
			oldest = cn
		}
	}
	if oldest == nil {
		return false
	}
	c.drop(oldest)
	cut(oldest.Conn)
	return true
}

// cut closes a connection without a word. TLS would write a farewell and wait
// for a client that does not read, while everybody waits for mu.
func cut(nc net.Conn) {
	if under, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = under.NetConn()
	}
	nc.Close()
}

// leave counts a connection out; it does nothing for one that was evicted.
func (c *conns) leave(cn *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(cn)
}

func (c *conns) drop(cn *conn) {
	if _, ok := c.open[cn]; !ok {
		return
	}
	delete(c.open, cn)
	down := func(p netip.Prefix) {
		if c.counts[p]--; c.counts[p] <= 0 {
			delete(c.counts, p)
		}
	}
	down(cn.address)
	if cn.network != cn.address {
		down(cn.network)
	}
}

// classify gives the prefixes that a peer is counted under. A /64 is what one
// IPv6 customer holds at the least.
func (c *conns) classify(peer net.Addr) (address, network netip.Prefix, exempt bool) {
	ip := addrOf(peer)
	if !ip.IsValid() {
		return address, network, true // no IP peer: a pipe or a Unix socket, which we opened ourselves
	}
	exempt = c.limits.exempt(ip)
	bits, wide := 64, 48
	if ip.Is4() {
		bits, wide = 32, 24
	}
	address, _ = ip.Prefix(bits) // fails only for an address that is not valid
	network, _ = ip.Prefix(wide)
	return address, network, exempt
}

// exempt tells whether an address lies in one of the exempt networks.
func (l *Limits) exempt(ip netip.Addr) bool {
	for _, p := range l.Exempt {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// addrOf is the address of an IP peer, one of IPv4 in its own form; not valid
// for any other peer.
func addrOf(peer net.Addr) netip.Addr {
	switch a := peer.(type) {
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap().WithZone("")
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}
