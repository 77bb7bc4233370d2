// Package ldapserver answers LDAP version 3 clients that look for
// certificates: connections in, entries of a dit.Tree out.
//
// It is the read-only, anonymous part of RFC 4511 that certificate discovery
// needs (AS 1.4, the Certificate Discovery implementation guide): Bind,
// Search, Compare, Unbind, Abandon, StartTLS and "Who am I?"; whatever would
// write is refused. Unless the tree allows listing, a search must name the
// address that it looks for by equality, because the addresses of a Direct
// domain are people's and must not be harvested.
//
// A connection is a goroutine that reads a message, serves it and goes on;
// everything between the octets of a message and the octets of its answers
// (session.handle) is free of sockets. Every request sees one tree.
//
// Sources: RFC 4511 (protocol), RFC 4513 (authentication), RFC 4515 (what
// filters mean in text), RFC 3296 (ManageDsaIT), RFC 4526 (absolute filters),
// RFC 4532 (Who am I?), RFC 3673 ("+").
package ldapserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"directnode/ldapserver/dit"
)

// Options are an operator's choices. The zero value is safe: every limit has
// its default.
type Options struct {
	TLS *tls.Config // offers StartTLS if set
	Log *slog.Logger

	// Exempt lists the networks that no connection or rate limit throttles; nil
	// means loopback, an empty list nobody.
	Exempt      []netip.Prefix
	Connections int // open at once, in all
	PerAddress  int // open at once, from one address
	SearchRate  int // searches a second from one address
	MissRate    int // of those, that find nothing: guesses at addresses
	SizeLimit   int // entries of an answer
	TimeLimit   time.Duration

	PDUTimeout   time.Duration // from the first octet of a request to its last
	IdleTimeout  time.Duration // between requests
	WriteTimeout time.Duration // for a client to take what it asked for
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Exempt == nil {
		o.Exempt = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	}
	for _, d := range []struct {
		value *int
		or    int
	}{
		{&o.Connections, defaultConnections}, {&o.PerAddress, defaultPerAddress},
		{&o.SearchRate, defaultSearchRate}, {&o.MissRate, defaultMissRate},
	} {
		if *d.value <= 0 {
			*d.value = d.or
		}
	}
	for _, d := range []struct {
		value *time.Duration
		or    time.Duration
	}{
		{&o.TimeLimit, defaultTimeLimit}, {&o.PDUTimeout, defaultPDUTimeout},
		{&o.IdleTimeout, defaultIdle}, {&o.WriteTimeout, defaultWrite},
	} {
		if *d.value <= 0 {
			*d.value = d.or
		}
	}
	return o
}

// Server serves any number of listeners from one tree.
type Server struct {
	options Options
	tree    func() *dit.Tree
	log     *slog.Logger
	limiter *limiter
	slots   slots
	serial  atomic.Uint64 // numbers the connections for the log
	results [maxResult + 1]atomic.Uint64
}

// maxResult is the highest result code that is counted by itself.
const maxResult = 80

// New makes a server. tree gives the current generation; it is asked once per
// request and may be called from many goroutines.
func New(tree func() *dit.Tree, o Options) *Server {
	o = o.withDefaults()
	return &Server{options: o, tree: tree, log: o.Log, limiter: newLimiter(o.SearchRate, o.MissRate)}
}

// Results gives how many requests ended with each LDAP result code since the
// start; codes that did not occur are absent.
func (s *Server) Results() map[int]uint64 {
	counts := map[int]uint64{}
	for code := range s.results {
		if n := s.results[code].Load(); n > 0 {
			counts[code] = n
		}
	}
	return counts
}

func (s *Server) count(code resultCode) { s.results[min(int(code), maxResult)].Add(1) }

// acceptPause is how long accepting rests after an error such as a lack of
// file descriptors, which passes.
const acceptPause = 50 * time.Millisecond

// Serve accepts connections until ctx is done, then tells the clients that the
// server goes away, waits for the requests that are being served and returns
// nil. It closes l. Another error says that l broke. For LDAP over TLS give it
// a listener of tls.NewListener.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var connections sync.WaitGroup
	defer connections.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		nc, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("ldap on %s: %w", l.Addr(), err)
			}
			s.log.Warn("ldap: accept failed", "listener", l.Addr(), "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		}
		p := s.peer(nc)
		if !s.slots.take(p.counted, p.exempt, s.options.Connections, s.options.PerAddress) {
			s.turnAway(nc, p)
			continue
		}
		connections.Go(func() {
			defer s.slots.give(p.counted)
			s.serve(ctx, nc, p)
		})
	}
}

// peer is the other end of a connection.
type peer struct {
	name    string
	counted netip.Addr // what the limits count
	exempt  bool
}

func (s *Server) peer(nc net.Conn) peer {
	name := nc.RemoteAddr().String()
	at, err := netip.ParseAddrPort(name)
	if err != nil {
		return peer{name: name} // not an IP socket: all of them count as one peer
	}
	p := peer{name: name, counted: peerOf(at.Addr())}
	for _, network := range s.options.Exempt {
		p.exempt = p.exempt || network.Contains(at.Addr().Unmap().WithZone(""))
	}
	return p
}

// turnAwayTime bounds the notice to a client that gets no slot: it fits the
// empty send buffer of a new connection, so that nothing waits for the client.
const turnAwayTime = 20 * time.Millisecond

func (s *Server) turnAway(nc net.Conn, p peer) {
	s.count(busy)
	s.log.Info("ldap: connection refused", "peer", p.name, "reason", "too many connections")
	if _, encrypted := nc.(*tls.Conn); !encrypted { // a handshake is more than it gets
		nc.SetWriteDeadline(time.Now().Add(turnAwayTime))
		nc.Write(appendNotice(nil, busy, "too many connections"))
	}
	nc.Close()
}
