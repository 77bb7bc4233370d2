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

	"directnode/zones"
)

// Options is what an operator may choose. The zero value is safe.
type Options struct {
	// UDPCert says when CERT records may leave by UDP: "cookie", "never" or
	// "always". Anything else counts as "cookie"; ParseUDPCert tells.
	UDPCert string
	Limits  Limits
	Log     *slog.Logger // nil = silent
}

// Server answers on any number of sockets. Its limits hold for all together.
type Server struct {
	set     func() *zones.Set
	udpCert UDPCert
	limits  Limits
	log     *slog.Logger
	conns   *conns
	ids     atomic.Uint64
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
	return &Server{set: set, udpCert: cert, limits: limits, log: log, conns: newConns(limits)}
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
// that are open notice by themselves.
func (s *Server) interrupt(udp net.PacketConn, tcp net.Listener) {
	if udp != nil {
		if err := udp.SetReadDeadline(time.Now()); err != nil {
			udp.Close()
		}
	}
	if tcp != nil {
		tcp.Close()
	}
}

// answer answers one packet of a client, with the two duties of a server added:
// a panic is our fault and must neither end the process nor leave the client
// waiting, and a query can be logged.
func (s *Server) answer(r *Responder, dst, packet []byte, t Transport, peer net.Addr) (out []byte) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("dns: panic while answering", "peer", peer, "tcp", t.TCP, "panic", p, "stack", string(debug.Stack()))
			*r = Responder{}
			out = serverFailure(dst, packet)
		}
	}()
	out = r.Append(dst, s.set(), packet, t)
	if s.log.Enabled(context.Background(), slog.LevelDebug) {
		s.logQuery(packet, out[len(dst):], t, peer)
	}
	return out
}
