package dnsserver

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// ListenTCP opens a listener for a Server. The server ends idle connections
// itself, so that the system need not ask each client whether it is still there.
func ListenTCP(ctx context.Context, addr string) (net.Listener, error) {
	l, err := (&net.ListenConfig{KeepAlive: -1}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("dns server: tcp %s: %w", addr, err)
	}
	return l, nil
}

// serveTCP serves the connections of a listener until ctx ends, then drains them.
func (s *Server) serveTCP(ctx context.Context, l net.Listener) error {
	of := &listening{l}
	stop := context.AfterFunc(ctx, func() { s.conns.wake(of) })
	defer stop()
	var open sync.WaitGroup
	defer open.Wait()
	if tl, ok := l.(*net.TCPListener); ok && loops {
		return s.serveLoops(ctx, tl, of, &open)
	}
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			s.log.Warn("dns: tcp accept", "err", err)
			time.Sleep(acceptPause)
			continue
		}
		at := time.Now()
		cn := &conn{link: stream{nc}, of: of, id: s.ids.Add(1), peer: addrOf(nc.RemoteAddr())}
		if refused := s.conns.admit(cn, at); refused != "" {
			s.log.Debug("dns: tcp refused", "peer", nc.RemoteAddr(), "why", refused)
			nc.Close()
			continue
		}
		open.Go(func() {
			x := s.exchanges.Get().(*exchange)
			x.reset(s, cn, nc)
			err := x.greet(at)
			if err == nil {
				err = x.serve(ctx)
			}
			x.end(err)
		})
	}
}

// serve answers the queries of one connection until it is idle, broken or no
// longer wanted. It returns nil when the client has hung up between queries.
func (x *exchange) serve(ctx context.Context) error {
	// The loop looks at ctx after a deadline was set, for that may have put off
	// the one by which wake ends the waiting.
	for ctx.Err() == nil {
		err := x.read()
		switch {
		case err == nil:
			if err := x.answer(ctx); err != nil {
				return err
			}
		case errors.Is(err, os.ErrDeadlineExceeded):
			if ctx.Err() != nil {
				return nil
			}
			if more, moved := x.wait(time.Now()); !more || moved != nil {
				return fmt.Errorf("%d octets of a query: %w", len(x.in), cmp.Or(moved, err))
			}
		case errors.Is(err, io.EOF) && len(x.in) == 0:
			return nil
		default:
			return fmt.Errorf("%d octets of a query: %w", len(x.in), err)
		}
	}
	return nil
}

// end closes the connection and gives x back.
func (x *exchange) end(err error) {
	s := x.server
	if err != nil {
		s.log.Debug("dns: tcp closed", "conn", x.conn.id, "peer", x.nc.RemoteAddr(), "err", err)
	}
	s.conns.leave(x.conn)
	x.nc.Close()
	x.conn, x.nc = nil, nil // what is pooled holds nothing
	s.exchanges.Put(x)
}

// desk answers the queries of one connection after the other.
type desk struct {
	reader
	server *Server
	out    []byte // answers not yet sent
}

// frames answers the queries that stand whole in b, each behind its length, until
// there are none left, enough is in out, or one wants a transfer: then more is
// true, and there may be others in b behind the used octets.
func (d *desk) frames(b []byte, t *Transport) (used int, more bool) {
	for len(d.out) < tcpWrite {
		packet, ok := frame(b[used:])
		if !ok {
			return used, false
		}
		used += lengthSize + len(packet)
		start := len(d.out)
		d.out = d.server.answer(&d.reader, append(d.out, 0, 0), packet, t)
		if len(d.out) == start+lengthSize {
			d.out = d.out[:start] // silence, or a transfer
			if d.responder.s.transfer != nil {
				return used, true
			}
			continue
		}
		binary.BigEndian.PutUint16(d.out[start:], uint16(len(d.out)-start-lengthSize))
	}
	return used, true
}

// emptied forgets what was sent, and the memory if it is more than is worth
// keeping.
func (d *desk) emptied() {
	if d.out = d.out[:0]; cap(d.out) > tcpKeep {
		d.out = nil
	}
}

// exchange is what a connection with a goroutine of its own needs while it is
// open.
type exchange struct {
	desk
	conn *conn
	nc   net.Conn
	tls  bool
	in   []byte // what was read and not yet answered

	// Setting a deadline costs as much as answering a query. So the deadline of
	// reads stays where it is while it is no later than until, and is put off when
	// it has come; that of writes is renewed before too little of it is left.
	until   time.Time // when waiting for a query ends
	readBy  time.Time // the deadline of reads
	writeBy time.Time // the deadline of writes
	started bool      // something was read
}

// reset makes x one for a new connection.
func (x *exchange) reset(s *Server, cn *conn, nc net.Conn) {
	in := x.in[:0]
	if cap(in) == 0 || cap(in) > tcpRead {
		in = make([]byte, 0, tcpRead)
	}
	*x = exchange{desk: desk{reader: x.reader, server: s, out: x.out[:0]}, conn: cn, nc: nc, in: in}
	_, x.tls = nc.(*tls.Conn)
}

// greet sets the first deadline. With TLS it is one for writes too, for the
// handshake is part of the first read.
func (x *exchange) greet(at time.Time) error {
	x.until = at.Add(x.server.limits.FirstByte)
	x.readBy = x.until
	if x.tls {
		x.writeBy = x.until
		return x.nc.SetDeadline(x.until)
	}
	return x.nc.SetReadDeadline(x.until)
}

// wait puts the deadline of reads off; false if the time is over.
func (x *exchange) wait(at time.Time) (more bool, err error) {
	if !at.Before(x.until) {
		return false, nil
	}
	x.readBy = x.until
	return true, x.nc.SetReadDeadline(x.until)
}

// read reads what is there. What came before an error is kept for answer; the
// error comes again.
func (x *exchange) read() error {
	if len(x.in) == cap(x.in) {
		// Memory follows what a client has sent, not what it has announced.
		x.in = append(make([]byte, 0, min(2*cap(x.in), lengthSize+maxTCP)), x.in...)
	}
	n, err := x.nc.Read(x.in[len(x.in):cap(x.in)])
	x.in = x.in[:len(x.in)+n]
	if n > 0 {
		return nil
	}
	return err
}

// answer answers every query that is there whole and writes the answers
// together (RFC 7766 §8: a length never in a write of its own). What is left then
// is the beginning of the next query.
func (x *exchange) answer(ctx context.Context) error {
	t := x.server.transport(true, time.Now())
	t.Peer, t.TLS = x.conn.peer, x.tls
	used := 0
	for more := true; more; {
		var n int
		n, more = x.frames(x.in[used:], &t)
		used += n
		if x.responder.s.transfer != nil {
			if err := x.transfer(ctx); err != nil {
				return err
			}
			t.At = time.Now() // it may have taken long
		}
		if more {
			if err := x.flush(time.Now()); err != nil {
				return err
			}
		}
	}
	x.in = x.in[:copy(x.in, x.in[used:])]
	if used > 0 || !x.started {
		// The clock runs until the next query is there whole: octets that
		// trickle in do not set it back.
		x.started, x.until = true, t.At.Add(x.server.limits.Idle)
		if x.until.Before(x.readBy) {
			if _, err := x.wait(t.At); err != nil {
				return err
			}
		}
	}
	return x.flush(t.At)
}

// frame is the first message in b, false while it is not there whole.
func frame(b []byte) (packet []byte, ok bool) {
	if len(b) < lengthSize {
		return nil, false
	}
	end := lengthSize + int(binary.BigEndian.Uint16(b))
	if len(b) < end {
		return nil, false
	}
	return b[lengthSize:end], true
}

// flush sends the answers; a client that does not read them loses its
// connection.
func (x *exchange) flush(at time.Time) error {
	x.server.totals.add(&x.tally)
	if len(x.out) == 0 {
		return nil
	}
	if err := x.write(x.out, at); err != nil {
		return err
	}
	x.emptied()
	return nil
}

// write writes to a client that is to take all of it within Limits.Write.
func (x *exchange) write(b []byte, at time.Time) error {
	x.conn.since.Store(at.UnixNano())
	if limit := x.server.limits.Write; x.writeBy.Sub(at) < limit {
		x.writeBy = at.Add(limit + limit/4) // one deadline does for a while
		if err := x.nc.SetWriteDeadline(x.writeBy); err != nil {
			return err
		}
	}
	if _, err := x.nc.Write(b); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}
