package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of the HTTP servers that are reached by TCP. What they serve is small,
// and nobody sends them a body.
const (
	httpHeaderTime = 5 * time.Second  // to send the head of a request
	httpReadTime   = 10 * time.Second // to send all of it
	httpWriteTime  = 30 * time.Second // to take the answer: 100 KB of figures at 3 KB/s
	httpIdleTime   = 30 * time.Second // between requests
	httpHeader     = 8 << 10          // octets of a request's head; browsers send 1 KB

	// httpGrace is how long requests under way may take when the node stops.
	httpGrace = 5 * time.Second

	// monitorConns is more than a monitoring system opens; what is left over
	// from crashed ones ends by httpIdleTime.
	monitorConns = 64
)

// newHTTP makes a server with every limit set.
func newHTTP(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: httpHeaderTime, ReadTimeout: httpReadTime, WriteTimeout: httpWriteTime, IdleTimeout: httpIdleTime,
		MaxHeaderBytes: httpHeader,
		// What strangers send is no fault of ours, and their lines are for debugging.
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// serveHTTP serves on one listener until ctx ends, and returns nil then and
// when requests under way have ended or their grace is over.
func serveHTTP(ctx context.Context, s *http.Server, l net.Listener) error {
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), httpGrace)
	defer cancel()
	if err := s.Shutdown(grace); errors.Is(err, context.DeadlineExceeded) {
		return s.Close() // who does not take an answer in this time loses it
	}
	return nil
}

// serveAdmin serves the administrator's orders on the Unix socket. An order may
// take minutes, and whoever may open the socket may do anything, so that only
// the head of a request has a limit.
func (n *node) serveAdmin(ctx context.Context) error {
	s := &http.Server{Handler: n.admin.Handler(), ReadHeaderTimeout: httpHeaderTime, ErrorLog: slog.NewLogLogger(n.log.Handler(), slog.LevelDebug)}
	return serveHTTP(ctx, s, n.listeners.admin)
}

// capped is a listener that closes at once what is over a number of
// connections in all or from one peer, an IPv4 address or an IPv6 /64.
type capped struct {
	net.Listener
	total, perPeer int
	exempt         []netip.Prefix // whom the number for one peer does not hold
	refused        atomic.Uint64

	mu    sync.Mutex // owns what follows
	open  int
	peers map[netip.Prefix]int
}

func newCapped(l net.Listener, total, perPeer int, exempt []netip.Prefix) *capped {
	return &capped{Listener: l, total: total, perPeer: perPeer, exempt: exempt, peers: make(map[netip.Prefix]int)}
}

// Accept gives the next connection that may stay.
func (c *capped) Accept() (net.Conn, error) {
	for {
		nc, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		peer, exempt := c.classify(nc.RemoteAddr())
		if c.enter(peer, exempt) {
			return &cappedConn{Conn: nc, leave: sync.OnceFunc(func() { c.leave(peer) })}, nil
		}
		c.refused.Add(1)
		nc.Close()
	}
}

func (c *capped) classify(a net.Addr) (peer netip.Prefix, exempt bool) {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}, true
	}
	ip := t.AddrPort().Addr().Unmap().WithZone("")
	for _, p := range c.exempt {
		exempt = exempt || p.Contains(ip)
	}
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	peer, _ = ip.Prefix(bits) // fails only for an address that is not valid
	return peer, exempt
}

func (c *capped) enter(peer netip.Prefix, exempt bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open >= c.total || !exempt && c.peers[peer] >= c.perPeer {
		return false
	}
	c.open++
	c.peers[peer]++
	return true
}

func (c *capped) leave(peer netip.Prefix) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	if c.peers[peer]--; c.peers[peer] == 0 {
		delete(c.peers, peer)
	}
}

func (c *capped) connections() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

// cappedConn gives its place back when it is closed, once.
type cappedConn struct {
	net.Conn
	leave func()
}

func (c *cappedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}
