// Package ldapserver answers LDAP version 3 clients that look for
// certificates: connections in, entries of a dit.Tree out.
//
// It is the read-only, anonymous part of RFC 4511 that certificate discovery
// needs (AS 1.4, the Certificate Discovery implementation guide): Bind,
// Search, Compare, Unbind, Abandon, StartTLS, Cancel and "Who am I?"; whatever
// would write is refused. Unless the tree allows listing, and the client is one
// of those that it is allowed to, a search must name the address that it looks
// for by equality, because the addresses of a Direct domain are people's and must
// not be harvested.
//
// Everything between the octets of a message and the octets of its answers
// (session.handle) is free of sockets. Every request sees one tree. On Linux a
// plain TCP listener is served by an event loop for each processor
// (loop_linux.go), which reads what is there, serves every whole message in it
// and writes once; what would keep others waiting leaves it for a goroutine:
// TLS, listings, and clients that do not take their answers. Other systems and
// listeners have a goroutine for each connection (conn.go).
//
// Filters are evaluated by the matching rules of the schema, extensible items
// too. certificateExactMatch is described and not evaluated: parsers of its
// assertions, open to anybody, have been the source of remote crashes in other
// directories. A filter item with it is Undefined (RFC 4511 §4.5.1.7), a Compare
// gets inappropriateMatching.
//
// Sources: RFC 4511 (protocol), RFC 4513 (authentication), RFC 4515 (what
// filters mean in text), RFC 2696 (paged results), RFC 3296 (ManageDsaIT), RFC
// 3909 (Cancel), RFC 4526 (absolute filters), RFC 4532 (Who am I?), RFC 3673
// ("+").
package ldapserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/maphash"
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

	// ListAllow holds the networks whose clients may list, if the tree lets anybody.
	// All others must name the address that they ask for.
	ListAllow []netip.Prefix

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
	cookies atomic.Uint64 // numbers the pages of paged results
	seed    maphash.Seed  // of the hashes of searches in pages
	counts  counts
}

// New makes a server. tree gives the current generation; it is asked once per
// request and may be called from many goroutines.
func New(tree func() *dit.Tree, o Options) *Server {
	o = o.withDefaults()
	return &Server{options: o, tree: tree, log: o.Log, limiter: newLimiter(o.SearchRate, o.MissRate), seed: maphash.MakeSeed()}
}

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
	if tl, ok := l.(*net.TCPListener); ok && loops {
		return s.serveLoops(ctx, tl, &connections)
	}
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
		c := &conn{raw: nc, rw: nc, client: client{id: s.serial.Add(1), peer: s.peerOf(nc)}}
		if !s.admit(&c.client.peer) {
			s.turnAway(nc)
			continue
		}
		limitSendBuffer(nc)
		connections.Go(func() { s.serve(ctx, c, proceed) })
	}
}

// limitSendBuffer sets sendBuffer where there is such a thing.
func limitSendBuffer(nc net.Conn) {
	if encrypted, ok := nc.(*tls.Conn); ok {
		nc = encrypted.NetConn()
	}
	if b, ok := nc.(interface{ SetWriteBuffer(bytes int) error }); ok {
		_ = b.SetWriteBuffer(sendBuffer) // what fails here, fails when it is read
	}
}

// peer is the other end of a connection.
type peer struct {
	addr    netip.AddrPort // not valid for other sockets than IP's: all of them count as one
	counted netip.Addr     // what the limits count
	exempt  bool           // from limits
	lists   bool           // may list, if the tree lets anybody
}

// LogValue implements slog.LogValuer.
func (p peer) LogValue() slog.Value {
	if !p.addr.IsValid() {
		return slog.StringValue("local")
	}
	return slog.StringValue(p.addr.String())
}

func (s *Server) peerOf(nc net.Conn) peer {
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		return s.peer(a.AddrPort())
	}
	return peer{}
}

func (s *Server) peer(addr netip.AddrPort) peer {
	ip := addr.Addr().Unmap().WithZone("")
	return peer{addr: addr, counted: counted(ip), exempt: within(s.options.Exempt, ip), lists: within(s.options.ListAllow, ip)}
}

func within(networks []netip.Prefix, ip netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(ip) {
			return true
		}
	}
	return false
}

// admit takes a slot for a connection; false if there is none for it.
func (s *Server) admit(p *peer) bool {
	over := s.slots.take(p, s.options.Connections, s.options.PerAddress)
	if over == overNothing {
		return true
	}
	s.counts.result(busy)
	s.counts.denied[over].Add(1)
	if s.log.Enabled(context.Background(), slog.LevelDebug) {
		s.log.Debug("ldap: connection refused", "peer", *p, "reason", denialNames[over])
	}
	return false
}

// turnAwayTime bounds the notice to a client that gets no slot: it fits the
// empty send buffer of a new connection, so that nothing waits for the client.
const turnAwayTime = 20 * time.Millisecond

func (s *Server) turnAway(nc net.Conn) {
	if _, encrypted := nc.(*tls.Conn); !encrypted { // a handshake is more than it gets
		nc.SetWriteDeadline(time.Now().Add(turnAwayTime))
		nc.Write(appendTurnedAway(nil))
	}
	nc.Close()
}

func appendTurnedAway(dst []byte) []byte { return appendNotice(dst, busy, "too many connections") }
