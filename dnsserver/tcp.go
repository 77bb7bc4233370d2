package dnsserver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// serveTCP accepts connections until ctx ends, then drains them.
func (s *Server) serveTCP(ctx context.Context, l net.Listener) error {
	var open sync.WaitGroup
	defer open.Wait()
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
		cn, refused := s.conns.admit(nc, s.ids.Add(1), time.Now())
		if refused != "" {
			s.log.Debug("dns: tcp refused", "peer", nc.RemoteAddr(), "why", refused)
			nc.Close()
			continue
		}
		open.Go(func() {
			defer s.conns.leave(cn)
			defer cn.Close()
			if err := s.serveConn(ctx, cn); err != nil {
				s.log.Debug("dns: tcp closed", "conn", cn.id, "peer", cn.RemoteAddr(), "err", err)
			}
		})
	}
}

// serveConn answers the queries of one connection until it is idle, broken or
// no longer wanted. It returns nil when the client has hung up between queries.
func (s *Server) serveConn(ctx context.Context, cn *conn) error {
	stop := context.AfterFunc(ctx, func() { _ = cn.SetReadDeadline(time.Now()) }) // an error means that it is closed
	defer stop()
	x := &exchange{server: s, conn: cn, in: make([]byte, 0, tcpRead)}
	if err := cn.SetReadDeadline(time.Now().Add(s.limits.FirstByte)); err != nil {
		return err
	}
	for first := true; ctx.Err() == nil; first = false {
		if err := x.read(); err != nil {
			if ctx.Err() != nil || errors.Is(err, io.EOF) && len(x.in) == 0 {
				return nil
			}
			return fmt.Errorf("%d octets of a query: %w", len(x.in), err)
		}
		answered, err := x.answer(ctx)
		if err != nil {
			return err
		}
		if answered || first {
			// The clock runs until the next query is there whole: octets that
			// trickle in do not set it back. The loop looks at ctx afterwards,
			// for this may overwrite the deadline of a cancellation.
			if err := cn.SetReadDeadline(time.Now().Add(s.limits.Idle)); err != nil {
				return err
			}
		}
	}
	return nil
}

// exchange is the memory of one connection.
type exchange struct {
	reader
	server *Server
	conn   *conn
	in     []byte // what was read and not yet answered
	out    []byte
}

// read reads what is there. What came before an error is kept for answer; the
// error comes again.
func (x *exchange) read() error {
	if len(x.in) == cap(x.in) {
		// Memory follows what a client has sent, not what it has announced.
		x.in = append(make([]byte, 0, min(2*cap(x.in), lengthSize+maxTCP)), x.in...)
	}
	n, err := x.conn.Read(x.in[len(x.in):cap(x.in)])
	x.in = x.in[:len(x.in)+n]
	if n > 0 {
		return nil
	}
	return err
}

// answer answers every query that is there whole and writes the answers
// together, each behind its length (RFC 7766 §8: never in a write of its own).
func (x *exchange) answer(ctx context.Context) (any bool, err error) {
	t := x.server.transport(true, time.Now())
	used := 0
	for {
		packet, ok := frame(x.in[used:])
		if !ok {
			break
		}
		used += lengthSize + len(packet)
		start := len(x.out)
		x.out = x.server.answer(&x.reader, append(x.out, 0, 0), packet, t, x.conn.RemoteAddr())
		if len(x.out) == start+lengthSize {
			x.out = x.out[:start] // silence, or a transfer
			if err := x.transfer(ctx); err != nil {
				return true, err
			}
			continue
		}
		binary.BigEndian.PutUint16(x.out[start:], uint16(len(x.out)-start-lengthSize))
		if len(x.out) >= tcpWrite {
			if err := x.flush(); err != nil {
				return true, err
			}
		}
	}
	x.in = x.in[:copy(x.in, x.in[used:])]
	return used > 0, x.flush()
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
func (x *exchange) flush() error {
	x.server.totals.add(&x.tally)
	if len(x.out) == 0 {
		return nil
	}
	if err := x.write(x.out, time.Now()); err != nil {
		return err
	}
	if x.out = x.out[:0]; cap(x.out) > tcpKeep {
		x.out = nil
	}
	return nil
}

func (x *exchange) write(b []byte, at time.Time) error {
	x.conn.since.Store(at.UnixNano())
	if err := x.conn.SetWriteDeadline(at.Add(x.server.limits.Write)); err != nil {
		return err
	}
	if _, err := x.conn.Write(b); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}
