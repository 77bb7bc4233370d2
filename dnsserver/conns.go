package dnsserver

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// conns counts the open TCP connections of a Server.
type conns struct {
	limits Limits

	mu     sync.Mutex // owns what follows, and place of each conn
	open   []*conn    // in no order; each knows its place
	counts map[holder]int
}

// holder is whom connections are counted for: an address or a network.
type holder struct {
	kind uint64 // the family and the width of the prefix
	bits uint64 // the prefix, which is never longer than 64 bits
}

func newConns(l Limits) *conns {
	return &conns{limits: l, counts: make(map[holder]int)}
}

// conn is one TCP connection.
type conn struct {
	net.Conn
	of      *listening
	peer    netip.Addr // not valid for one that has no IP address
	id      uint64
	exempt  bool
	address holder
	network holder
	place   int          // in conns.open; -1 when it is not there
	since   atomic.Int64 // when it last got an answer (or was opened), in nanoseconds
}

// listening is one listener that is being served: its connections end with it.
type listening struct {
	net.Listener
}

// admit counts a connection in. Over the count of its address or network it is
// refused: others must not suffer for it. Over the total, the connection that
// has gone longest without a query makes room (RFC 7766 §6.1 lets a server
// close idle connections under load). The returned reason is empty if it may
// stay.
func (c *conns) admit(nc net.Conn, of *listening, id uint64, at time.Time) (cn *conn, refused string) {
	cn = &conn{Conn: nc, of: of, id: id, peer: addrOf(nc.RemoteAddr())}
	cn.since.Store(at.UnixNano())
	cn.classify(&c.limits)

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
	cn.place = len(c.open)
	c.open = append(c.open, cn)
	c.counts[cn.address]++
	c.counts[cn.network]++
	return cn, ""
}

// evict closes the connection that has been idle longest and takes it out at
// once, so that the one which needs its place has it. The caller holds mu.
func (c *conns) evict() bool {
	var oldest *conn
	for _, cn := range c.open {
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
	if cn.place < 0 {
		return
	}
	last := len(c.open) - 1
	c.open[cn.place] = c.open[last]
	c.open[cn.place].place = cn.place
	c.open[last] = nil
	c.open, cn.place = c.open[:last], -1
	for _, h := range [...]holder{cn.address, cn.network} {
		if n := c.counts[h] - 1; n > 0 {
			c.counts[h] = n
		} else {
			delete(c.counts, h)
		}
	}
}

// wake ends the waiting for queries on the connections of one listener.
func (c *conns) wake(of *listening) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cn := range c.open {
		if cn.of == of {
			_ = cn.SetReadDeadline(time.Now()) // an error means that it is closed
		}
	}
}

// classify gives whom a connection is counted for. A /64 is what one IPv6
// customer holds at the least. A peer without an IP address (a pipe or a Unix
// socket) we opened ourselves.
func (cn *conn) classify(l *Limits) {
	cn.exempt = !cn.peer.IsValid() || l.exempt(cn.peer)
	if cn.peer.Is4() {
		a := cn.peer.As4()
		bits := uint64(binary.BigEndian.Uint32(a[:]))
		cn.address, cn.network = holder{4<<8 | 32, bits}, holder{4<<8 | 24, bits >> 8}
		return
	}
	a := cn.peer.As16()
	bits := binary.BigEndian.Uint64(a[:])
	cn.address, cn.network = holder{6<<8 | 64, bits}, holder{6<<8 | 48, bits >> 16}
}
