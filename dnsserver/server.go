package dnsserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"directnode/zones"
)

// Options is what an operator may choose. The zero value is safe.
type Options struct {
	// UDPCert says when CERT records may leave by UDP: "cookie", "never" or
	// "always". Anything else counts as "cookie"; ParseUDPCert tells.
	UDPCert string
	// UDPSize is the most octets of an answer by UDP, and of a query as we tell
	// clients: DefaultUDPSize if 0, at least 512 and at most MaxUDPSize.
	UDPSize int
	Limits  Limits

	// CookieSecret makes the server cookies of all servers behind one address
	// good for each other (RFC 9018 §5). Zero draws one at random and replaces
	// it daily.
	CookieSecret [16]byte

	// Peers gives what the current generation says of other servers; it is
	// called like the function that gives the zones. Nil = nobody.
	Peers func() *Peers
	// Notified is called when a primary says that a zone has changed (RFC 1996).
	// It must not block. Nil = nobody wants to know.
	Notified func(apex zones.Name)

	// QueryLog is what is logged at first; see SetQueryLog.
	QueryLog QueryLog

	Log *slog.Logger // nil = silent
}

// Server answers on any number of sockets. Its limits hold for all together.
type Server struct {
	set     func() *zones.Set
	udpCert UDPCert
	udpSize int
	limits  Limits
	log     *slog.Logger
	conns   *conns
	cookies *Cookies
	rates   *limiter // nil without a limit
	misses  *misses
	signing *Signing
	totals  totals
	ids     atomic.Uint64

	queryLog atomic.Pointer[QueryLog] // nil: nothing is logged

	peers     func() *Peers
	notified  func(apex zones.Name)
	transfers chan struct{} // holds a token for each transfer that runs

	exchanges sync.Pool // of *exchange
}

// New makes a server. set gives the current generation; it is called once for
// each query, from many goroutines, and must not block.
func New(set func() *zones.Set, o Options) *Server {
	limits := o.Limits.withDefaults()
	cert, _ := ParseUDPCert(o.UDPCert) // the unknown is the strict default
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	at := time.Now()
	s := &Server{
		set: set, udpCert: cert, udpSize: udpSize(o.UDPSize), limits: limits, log: log, conns: newConns(limits),
		cookies: NewCookies(o.CookieSecret, at), misses: newMisses(at), exchanges: sync.Pool{New: func() any { return new(exchange) }},
		signing: NewSigning(), peers: o.Peers, notified: o.Notified, transfers: make(chan struct{}, limits.Transfers),
	}
	s.SetQueryLog(o.QueryLog)
	if s.peers == nil {
		s.peers = func() *Peers { return nil }
	}
	if s.notified == nil {
		s.notified = func(zones.Name) {}
	}
	if limits.Rate > 0 {
		absences := limits.Absences
		if absences < 0 {
			absences = limits.Rate
		}
		s.rates = newLimiter(limits.Rate, absences, at)
	}
	return s
}

// Serve answers on one address: on a UDP socket, a TCP listener or both. It
// blocks until ctx is cancelled and every answer that was begun is written, or
// until a socket fails; it closes both. It returns nil after a cancellation.
func (s *Server) Serve(ctx context.Context, udp net.PacketConn, tcp net.Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { s.interrupt(udp, tcp) })
	defer stop()

	var work sync.WaitGroup
	run := func(what string, f func(context.Context) error) {
		work.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("dns server: %s: %w", what, err))
			}
		})
	}
	if udp != nil {
		defer udp.Close()
		for range s.limits.UDPReaders {
			run("udp "+udp.LocalAddr().String(), func(ctx context.Context) error { return s.serveUDP(ctx, udp) })
		}
	}
	if tcp != nil {
		defer tcp.Close()
		run("tcp "+tcp.Addr().String(), func(ctx context.Context) error { return s.serveTCP(ctx, tcp) })
	}
	work.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	return nil
}

// interrupt ends the waits of Serve: for packets, for connections. Connections
// that are open are woken by serveTCP.
func (s *Server) interrupt(udp net.PacketConn, tcp net.Listener) {
	if udp != nil {
		now := time.Now()
		if err := errors.Join(udp.SetReadDeadline(now), udp.SetWriteDeadline(now.Add(udpStuck))); err != nil {
			udp.Close()
		}
	}
	if tcp != nil {
		tcp.Close()
	}
}

// reader is what one goroutine that reads packets keeps between them.
type reader struct {
	responder Responder
	tally     tally
	unlogged  uint32 // queries since the last one that was logged
}

// transport is what the packets of a batch have in common.
func (s *Server) transport(tcp bool, at time.Time) Transport {
	s.cookies.roll(at)
	return Transport{TCP: tcp, UDPCert: s.udpCert, UDPSize: s.udpSize, Cookies: s.cookies, At: at, Idle: s.limits.Idle, Peers: s.peers(), Signing: s.signing}
}

// answer answers one packet of a client, with the duties of a server added: no
// address gets more than its share, a panic is our fault and must neither end
// the process nor leave the client waiting, and a query is counted and can be
// logged.
func (s *Server) answer(r *reader, dst, packet []byte, t *Transport) (out []byte) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("dns: panic while answering", "peer", t.Peer, "tcp", t.TCP, "panic", p, "stack", string(debug.Stack()))
			r.responder = Responder{}
			r.tally[countServFail]++
			out = serverFailure(dst, packet)
		}
	}()
	out = r.responder.append(dst, s.set(), packet, t)
	switch {
	case len(out) > len(dst):
		out = s.account(r, out)
	case r.responder.s.transfer == nil:
		r.tally[countSilent]++
	}
	if l := s.sample(r); l != nil {
		s.logSample(l, packet, out[len(dst):], t)
	}
	if s.log.Enabled(context.Background(), slog.LevelDebug) {
		s.logQuery(packet, out[len(dst):], t)
	}
	return out
}

// account charges an answer to the address that it goes to.
func (s *Server) account(r *reader, out []byte) []byte {
	q := &r.responder.s
	absence := q.rcode == dns.RcodeNameError || q.absent && q.authority > 0
	if absence && s.misses.add(q.t.Peer, q.asked(), q.t.At) {
		r.tally[countSuspects]++
	}
	// The exempt are looked up as well: what is measured with them is what
	// others get.
	if s.rates != nil && !q.t.proved && s.rates.over(q.t.Peer, absence, q.t.At) && !s.limits.exempt(q.t.Peer) {
		out = q.slip(out)
	}
	r.tally.count(q)
	if q.refusal != "" { // only who has a key can bring this about
		s.log.Warn("dns: transfer refused", "zone", zones.Name(q.q.name), "peer", q.t.Peer, "key", q.sig.key.name, "why", q.refusal)
	}
	if q.notified != "" {
		s.notified(q.notified)
	}
	return out
}

// udpSize keeps what an operator chose within bounds.
func udpSize(n int) int {
	if n == 0 {
		return DefaultUDPSize
	}
	return min(max(n, plainUDP), MaxUDPSize)
}
