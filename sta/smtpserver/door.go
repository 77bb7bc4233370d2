package smtpserver

import (
	"context"
	"net"
	"net/netip"
	"sync"
)

// door is the listener the engine accepts from: the real one, with connections
// refused that may not come in and a gate before each of the others.
type door struct {
	srv  *Server
	l    net.Listener
	work context.Context // ends when messages under way lose their grace

	mu    sync.Mutex
	gates map[*gate]struct{} // guarded by mu
	isOff bool               // guarded by mu
}

// Accept waits for the next client that may come in. An error of the listener
// after shut is final.
func (d *door) Accept() (net.Conn, error) {
	for {
		c, err := d.l.Accept()
		if err != nil {
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.isOff {
				return nil, net.ErrClosed
			}
			return nil, err
		}
		if g := d.admit(c); g != nil {
			return g, nil
		}
	}
}

// admit checks a client at the door: the networks that have service here
// first (RFC 5321 §3.1: 554 in place of the greeting), then the limits.
func (d *door) admit(c net.Conn) *gate {
	peer := peerOf(c)
	log := d.srv.log.With("peer", peer.String())
	if d.srv.o.Networks != nil && !contains(d.srv.o.Networks, peer.Addr()) {
		log.Info("smtp connection refused", "why", "network")
		refuse(c, replyNotAllowed.Error())
		return nil
	}
	switch d.srv.limiter.enter(peer.Addr()) {
	case peerFull:
		log.Info("smtp connection refused", "why", "limit of the address")
		refuse(c, replyPeerFull.Error())
		return nil
	case serverFull:
		log.Info("smtp connection refused", "why", "limit of the server")
		refuse(c, replyServerFull.Error())
		return nil
	}
	g := newGate(d.srv, d, c, peer)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gates[g] = struct{}{}
	g.draining = d.isOff
	return g
}

func peerOf(c net.Conn) netip.AddrPort {
	if t, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		a := t.AddrPort()
		return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
	}
	// A listener that is not TCP is a test's or a local socket: no address.
	return netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
}

// left is called by a gate when it closes.
func (d *door) left(g *gate) {
	d.srv.limiter.leave(g.session.Peer.Addr())
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.gates, g)
}

// shut stops accepting and tells the clients that wait for a command's answer
// or think about the next one. It may be called twice.
func (d *door) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.isOff {
		return
	}
	d.isOff = true
	// The listener is not needed any more, whatever closing it says.
	_ = d.l.Close()
	for g := range d.gates {
		g.drain()
	}
}

// cut ends all connections.
func (d *door) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for g := range d.gates {
		g.cut()
	}
}

// Close is the engine's way to stop accepting.
func (d *door) Close() error {
	d.shut()
	return nil
}

// Addr is the address of the listener.
func (d *door) Addr() net.Addr { return d.l.Addr() }
