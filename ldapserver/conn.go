package ldapserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync/atomic"
	"time"

	"directnode/internal/ber"
)

// conn is a connection with a goroutine of its own. All fields but draining belong
// to it.
type conn struct {
	client  client
	session session
	raw     net.Conn // the socket: deadlines are set on it
	rw      net.Conn // raw, or TLS on top of it

	buf         []byte // buf[from:to] has been read and not served
	from, to    int
	begun       time.Time // when the first octet of the message at from came
	readBefore  time.Time // the deadlines as they are set
	writeBefore time.Time

	draining atomic.Bool // the server stops; set from outside
}

// serve runs a connection to its end. then says what is to be done first;
// session.out may hold what is to be written first.
func (s *Server) serve(ctx context.Context, c *conn, then next) {
	defer s.slots.give(c.client.peer.counted)
	c.session.server, c.session.client, c.session.flush = s, &c.client, c.write
	if c.buf == nil {
		c.buf = make([]byte, firstBuffer)
	}
	reason := "panic"
	defer func() {
		if v := recover(); v != nil {
			s.log.Error("ldap: panic in a connection", "conn", c.client.id, "panic", v, "stack", string(debug.Stack()))
		}
		c.rw.Close()
		s.ended(&c.client, reason)
	}()
	// A goroutine that waits in Read wakes when its deadline lies in the past.
	stop := context.AfterFunc(ctx, func() {
		c.draining.Store(true)
		c.raw.SetReadDeadline(time.Unix(1, 0))
	})
	defer stop()
	if encrypted, ok := c.raw.(*tls.Conn); ok {
		c.client.secure = true
		if err := c.handshake(ctx, encrypted); err != nil {
			reason = "TLS handshake: " + err.Error()
			return
		}
	}
	switch then {
	case startTLS:
		if err := c.startTLS(ctx); err != nil {
			reason = err.Error()
			return
		}
	case hangUp, leave:
		reason = c.hangUp("closed after the last answer")
		return
	}
	reason = c.loop(ctx)
}

// ended logs the end of a connection. There may be thousands a second, so that it
// is for those who look for something; Stats counts them.
func (s *Server) ended(c *client, reason string) {
	if s.log.Enabled(context.Background(), slog.LevelDebug) {
		s.log.Debug("ldap: connection closed", "conn", c.id, "peer", c.peer, "tls", c.secure, "end", reason)
	}
}

// loop is the message loop: read what is there, serve the whole messages in it,
// write the answers together.
func (c *conn) loop(ctx context.Context) (reason string) {
	served := 0
	for {
		pdu, err := c.message()
		if err != nil {
			return c.depart(err)
		}
		if pdu == nil || served == maxOutstanding {
			if err := c.write(c.session.out); err != nil {
				return err.Error()
			}
			c.session.out = recycle(c.session.out)
			served = 0
		}
		if pdu == nil {
			if err := c.read(); err != nil {
				return c.depart(err)
			}
			continue
		}
		served++
		switch c.session.handle(pdu, time.Now()) {
		case leave:
			if err := c.write(c.session.out); err != nil {
				return err.Error()
			}
			return "unbind"
		case hangUp:
			return c.hangUp("closed after a request")
		case startTLS:
			if err := c.startTLS(ctx); err != nil {
				return err.Error()
			}
		}
	}
}

// recycle empties an output buffer and gives back what a long answer grew: a
// connection that waits must not hold more than it needs.
func recycle(b []byte) []byte {
	if cap(b) > maxKept {
		return nil
	}
	return b[:0]
}

// message cuts the next message off the buffer, nil if more octets are needed.
// Errors: those of ber.FrameLength that end the connection.
func (c *conn) message() ([]byte, error) {
	pdu, err := message(c.buf[c.from:c.to])
	if pdu != nil {
		c.from += len(pdu)
		c.begun = time.Time{}
	}
	return pdu, err
}

// message is the first message in b, nil while it is not there whole.
func message(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if b[0] != 0x30 { // RFC 4511 §4.1.1: every message is a SEQUENCE
		return nil, ber.ErrSyntax
	}
	n, err := ber.FrameLength(b, maxPDU)
	if errors.Is(err, ber.ErrShort) || err == nil && n > len(b) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return b[:n:n], nil
}

// read waits for more octets.
func (c *conn) read() error {
	c.makeRoom()
	now := time.Now()
	deadline := now.Add(c.session.server.options.IdleTimeout)
	if c.to > c.from {
		if c.begun.IsZero() {
			c.begun = now
		}
		deadline = c.begun.Add(c.session.server.options.PDUTimeout)
	}
	if stale(c.readBefore, deadline, c.session.server.options.IdleTimeout) {
		c.raw.SetReadDeadline(deadline)
		c.readBefore = deadline
	}
	if c.draining.Load() { // after the deadline was set, or it could undo the wake-up
		return errDraining
	}
	n, err := c.rw.Read(c.buf[c.to:])
	if n > 0 {
		c.to += n
		return nil
	}
	if c.draining.Load() {
		return errDraining
	}
	return err
}

// makeRoom moves the unread octets to the front and grows the buffer by
// doubling when it is full: memory follows what came, not what was promised.
func (c *conn) makeRoom() {
	if c.from == c.to {
		c.from, c.to = 0, 0
		if len(c.buf) > maxKept {
			c.buf = make([]byte, firstBuffer)
		}
		return
	}
	if c.from > 0 {
		c.to = copy(c.buf, c.buf[c.from:c.to])
		c.from = 0
	}
	if c.to == len(c.buf) {
		grown := make([]byte, min(2*len(c.buf), maxPDU))
		copy(grown, c.buf)
		c.buf = grown
	}
}

// write sends b within the time that a client has to take it.
func (c *conn) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	deadline := time.Now().Add(c.session.server.options.WriteTimeout)
	if stale(c.writeBefore, deadline, c.session.server.options.WriteTimeout) {
		c.raw.SetWriteDeadline(deadline)
		c.writeBefore = deadline
	}
	_, err := c.rw.Write(b)
	return err
}

// stale tells whether a deadline must be moved: back always, forth only when
// it is worth the call.
func stale(set, want time.Time, timeout time.Duration) bool {
	late := want.Sub(set)
	return late < 0 || late > min(deadlineSlack, timeout/16)
}

var errDraining = errors.New("the server stops")

// depart ends the connection after an error of message or read, with a notice
// of disconnection where RFC 4511 §4.4.1 has one.
func (c *conn) depart(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, errDraining), disconnects(err):
		c.session.out = c.session.server.appendFarewell(c.session.out, err)
	case errors.As(err, &timeout) && timeout.Timeout():
		return c.hangUp("timed out")
	case errors.Is(err, io.EOF):
		return "closed by the client"
	default:
		return err.Error()
	}
	return c.hangUp(err.Error())
}

// appendFarewell appends the notice of disconnection that is due after an error
// of message, or when the server stops.
func (s *Server) appendFarewell(dst []byte, err error) []byte {
	switch {
	case errors.Is(err, errDraining):
		return appendNotice(dst, unavailable, "the server stops")
	case errors.Is(err, ber.ErrTooLong):
		s.counts.result(protocolError)
		return appendNotice(dst, protocolError, fmt.Sprintf("message longer than %d octets", maxPDU))
	}
	s.counts.result(protocolError)
	return appendNotice(dst, protocolError, "malformed message")
}

// hangUp sends what is to be sent and closes the sending half, then reads for
// a moment: closing a socket with unread octets resets the connection, and the
// client would never see the last answer.
func (c *conn) hangUp(reason string) string {
	if err := c.write(c.session.out); err != nil {
		return err.Error()
	}
	half, ok := c.rw.(interface{ CloseWrite() error })
	if len(c.session.out) == 0 || !ok {
		return reason
	}
	half.CloseWrite()
	c.raw.SetReadDeadline(time.Now().Add(lingerTime))
	io.CopyN(io.Discard, c.rw, lingerOctets)
	return reason
}

// startTLS sends the answer and shakes hands. Octets that came in clear behind
// the request would be taken for protected ones afterwards: a client that sent
// them, or somebody on the way, is sent away (RFC 4511 §4.14.1).
func (c *conn) startTLS(ctx context.Context) error {
	if c.to > c.from {
		c.session.server.counts.result(protocolError)
		c.session.out = appendNotice(c.session.out[:0], protocolError, "octets in clear behind StartTLS")
		return errors.New(c.hangUp("octets in clear behind StartTLS"))
	}
	if err := c.write(c.session.out); err != nil {
		return err
	}
	c.session.out = recycle(c.session.out)
	encrypted := tls.Server(c.raw, c.session.server.options.TLS)
	c.rw = encrypted
	c.client.secure = true
	return c.handshake(ctx, encrypted)
}

// handshake completes TLS within the time of one request.
func (c *conn) handshake(ctx context.Context, t *tls.Conn) error {
	deadline := time.Now().Add(c.session.server.options.PDUTimeout)
	c.raw.SetDeadline(deadline)
	c.readBefore, c.writeBefore = deadline, deadline
	return t.HandshakeContext(ctx) // ends when ctx does, too
}
