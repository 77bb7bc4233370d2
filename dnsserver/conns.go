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

	refused, evicted uint64 // since the start
}

// figures gives how many are open, and how many were refused or evicted.
func (c *conns) figures() (open int, refused, evicted uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open), c.refused, c.evicted
}

// holder is whom connections are counted for: an address or a network.
type holder struct {
	kind uint64 // the family and the width of the prefix
	bits uint64 // the prefix, which is never longer than 64 bits
}

func newConns(l Limits) *conns {
	return &conns{limits: l, counts: make(map[holder]int)}
}

// link is how a connection is told from outside that its time is over. Neither
// call waits for anybody.
type link interface {
	cut()  // close without a word
	wake() // wait for no further query
}

// conn is one TCP connection in the books.
type conn struct {
	link    link // owned by conns.mu
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

// stream is a connection that has a goroutine of its own.
type stream struct{ net.Conn }

// cut implements link. TLS would write a farewell and wait for a client that does
// not read, while everybody waits for the books.
func (s stream) cut() {
	nc := s.Conn
	if under, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = under.NetConn()
	}
	nc.Close()
}

// wake implements link.
func (s stream) wake() { _ = s.SetReadDeadline(time.Now()) } // an error means that it is closed

// admit counts a connection in. Over the count of its address or network it is
// refused: others must not suffer for it. Over the total, the connection that
// has gone longest without a query makes room (RFC 7766 §6.1 lets a server
// close idle connections under load). The returned reason is empty if it may
// stay.
func (c *conns) admit(cn *conn, at time.Time) (refused string) {
	cn.since.Store(at.UnixNano())
	cn.classify(&c.limits)

	c.mu.Lock()
	defer c.mu.Unlock()
	if why := c.over(cn); why != "" {
		c.refused++
		return why
	}
	cn.place = len(c.open)
	c.open = append(c.open, cn)
	c.counts[cn.address]++
	c.counts[cn.network]++
	return ""
}

// over says which limit keeps a connection out, nothing if none does. The
// caller holds mu.
func (c *conns) over(cn *conn) string {
	switch {
	case cn.exempt:
	case c.counts[cn.address] >= c.limits.TCPPerAddress:
		return "too many connections of this address"
	case c.counts[cn.network] >= c.limits.TCPPerNetwork:
		return "too many connections of this network"
	case len(c.open) >= c.limits.TCPTotal && !c.evict():
		return "too many connections"
	}
	return ""
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
	c.evicted++
	oldest.link.cut()
	return true
}

// relink gives a connection another link; false if it was evicted meanwhile.
func (c *conns) relink(cn *conn, l link) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	cn.link = l
	return cn.place >= 0
}

// leave counts a connection out; it does nothing for one that was evicted. A
// connection is closed after it: what is in the books can be told.
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
			cn.link.wake()
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
