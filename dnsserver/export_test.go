package dnsserver

import (
	"net"
	"net/netip"
	"time"
)

// SipHash24 lets the reference vectors reach the function.
func SipHash24(key [16]byte, b []byte) uint64 { return siphash24(newSipKey(key), b) }

// RollTo replaces the secret as a daily roll does, by one that is known.
func (c *Cookies) RollTo(secret [16]byte, at time.Time) {
	c.secrets.Store(&secrets{current: newSipKey(secret), previous: c.secrets.Load().current, since: at})
}

// Roll is what precedes every batch.
func (c *Cookies) Roll(at time.Time) { c.roll(at) }

// Check weighs a COOKIE option's data; the state is a word for it.
func (c *Cookies) Check(data []byte, peer netip.Addr, at time.Time) (state string, server []byte) {
	var o cookieOption
	if !o.parse(data) {
		return "malformed", nil
	}
	s, cookie := c.check(o, peer, at)
	return cookieNames[s], cookie[:]
}

// ShrinkRates gives the limiter a table of so many sets, a power of two, which is
// sooner full.
func (s *Server) ShrinkRates(sets int) { s.rates.sets = make([]rateSet, sets) }

// Desk is a reader of a Server without a socket.
type Desk struct {
	s *Server
	r reader
}

// Desk answers as one goroutine would that reads packets.
func (s *Server) Desk() *Desk { return &Desk{s: s} }

// Answer is what becomes of one packet.
func (d *Desk) Answer(dst, packet []byte, peer net.Addr, at time.Time) []byte {
	_, tcp := peer.(*net.TCPAddr)
	t := d.s.transport(tcp, at)
	t.Peer = addrOf(peer)
	out := d.s.answer(&d.r, dst, packet, &t)
	d.s.totals.add(&d.r.tally)
	return out
}

// Portable has a socket served in the way of other systems.
func Portable(pc net.PacketConn) net.PacketConn { return forcedPortable{pc.(*net.UDPConn)} }

type forcedPortable struct{ *net.UDPConn }

// Turn gives what moves one batch of packets through a socket.
func (s *Server) Turn(pc net.PacketConn) (func() (int, error), error) {
	socket, err := s.openUDP(pc)
	if err != nil {
		return nil, err
	}
	b := newBatch(s.udpSize)
	return func() (int, error) {
		n, err := socket.read(b.packets)
		if n > 0 {
			s.exchangeBatch(socket, b, n)
		}
		return n, err
	}, nil
}
