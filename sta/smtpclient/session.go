package smtpclient

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// session is a connection to a server, greeted and ready for MAIL.
type session struct {
	host       string
	conn       net.Conn
	in         *bufio.Reader
	t          Timeouts
	end        time.Time         // of the whole delivery
	ext        map[string]string // extensions offered, keywords in upper case
	tlsVersion string
	broken     bool // an error left the dialogue in an unknown state
	unhook     func() bool
}

var (
	errHandshake = errors.New("TLS handshake failed")
	errInjected  = errors.New("octets in clear behind the answer to STARTTLS")
	errNoTLS     = errors.New("server does not offer STARTTLS")
)

// open connects, waits for the greeting, says EHLO and, as far as mode wants
// it, changes to TLS.
func (c *Client) open(ctx context.Context, host, addr string, mode TLSMode) (*session, *Error) {
	patience, done := context.WithTimeout(ctx, c.o.Timeouts.Connect)
	defer done()
	conn, err := c.o.Dial(patience, "tcp", addr)
	if err != nil {
		return nil, &Error{host, StepConnect, err}
	}
	s := &session{host: host, conn: conn, in: bufio.NewReader(conn), t: c.o.Timeouts}
	s.end, _ = ctx.Deadline()
	// A cancelled delivery ends whatever the session waits for.
	s.unhook = context.AfterFunc(ctx, func() { conn.Close() })
	if failed := s.start(ctx, c.o, mode); failed != nil {
		s.close()
		return nil, failed
	}
	return s, nil
}

// start is the dialogue before the first MAIL.
func (s *session) start(ctx context.Context, o Options, mode TLSMode) *Error {
	r, err := s.read(StepGreeting, s.t.Greeting)
	switch {
	case err != nil:
		return err
	case r.code != 220:
		// RFC 5321 §3.1: 554, no service here. It is this host's word, not the
		// domain's: there may be another exchanger.
		return s.said(StepGreeting, r)
	}
	if err := s.hello(o.Hostname); err != nil {
		return err
	}
	if mode == Never {
		return nil
	}
	if _, offered := s.ext["STARTTLS"]; !offered {
		if mode == Required {
			return s.failed(StepTLS, errNoTLS)
		}
		return nil
	}
	return s.startTLS(ctx, o, mode)
}

// hello says EHLO and, to a server that does not know it, HELO (RFC 5321 §3.2).
func (s *session) hello(name string) *Error {
	if name == "" {
		name = literal(s.conn.LocalAddr())
	}
	s.ext = map[string]string{}
	r, err := s.command(StepHello, "EHLO "+name, s.t.Command)
	if err == nil && r.code >= 500 {
		r, err = s.command(StepHello, "HELO "+name, s.t.Command)
		if err == nil && r.code == 250 {
			return nil
		}
	}
	switch {
	case err != nil:
		return err
	case r.code != 250:
		return s.said(StepHello, r)
	}
	for _, line := range r.lines[1:] {
		// RFC 5321 §4.1.1.1: keywords are case-insensitive.
		keyword, param, _ := strings.Cut(strings.TrimSpace(line), " ")
		s.ext[strings.ToUpper(keyword)] = param
	}
	return nil
}

// literal is a host that has no name (RFC 5321 §4.1.3).
func literal(a net.Addr) string {
	t, ok := a.(*net.TCPAddr)
	switch {
	case !ok:
		return "localhost"
	case t.IP.To4() != nil:
		return "[" + t.IP.String() + "]"
	}
	return "[IPv6:" + t.IP.String() + "]"
}

// startTLS changes to TLS and greets again (RFC 3207 §4.2: what was learnt in
// clear is forgotten).
func (s *session) startTLS(ctx context.Context, o Options, mode TLSMode) *Error {
	r, err := s.command(StepTLS, "STARTTLS", s.t.Command)
	switch {
	case err != nil:
		return err
	case r.code != 220 && mode == Opportunistic:
		return nil
	case r.code != 220:
		return s.said(StepTLS, r)
	case s.in.Buffered() > 0:
		// Read on after the handshake, these octets would pass for the server's
		// protected words.
		return s.failed(StepTLS, errInjected)
	}
	cfg := &tls.Config{}
	if o.TLSConfig != nil {
		cfg = o.TLSConfig.Clone()
	}
	cfg.ServerName = s.host
	cfg.InsecureSkipVerify = mode == Opportunistic
	conn := tls.Client(s.conn, cfg)
	s.arm(s.t.Connect)
	if err := conn.HandshakeContext(ctx); err != nil {
		return s.failed(StepTLS, fmt.Errorf("%w: %w", errHandshake, err))
	}
	s.conn = conn
	s.in.Reset(conn)
	s.tlsVersion = tls.VersionName(conn.ConnectionState().Version)
	return s.hello(o.Hostname)
}

// arm sets the deadline of the next step.
func (s *session) arm(d time.Duration) {
	at := time.Now().Add(d)
	if !s.end.IsZero() && s.end.Before(at) {
		at = s.end
	}
	// On a closed connection this fails, and so will the step itself.
	_ = s.conn.SetDeadline(at)
}

// write sends octets, within the deadline set before.
func (s *session) write(step Step, b string) *Error {
	if _, err := io.WriteString(s.conn, b); err != nil {
		return s.failed(step, err)
	}
	return nil
}

// read waits for a reply.
func (s *session) read(step Step, d time.Duration) (reply, *Error) {
	s.arm(d)
	r, err := readReply(s.in)
	if err != nil {
		return reply{}, s.failed(step, err)
	}
	return r, nil
}

// command sends a command and waits for the reply.
func (s *session) command(step Step, line string, d time.Duration) (reply, *Error) {
	s.arm(d)
	if err := s.write(step, line+"\r\n"); err != nil {
		return reply{}, err
	}
	return s.read(step, d)
}

// failed is an error that leaves the connection useless.
func (s *session) failed(step Step, err error) *Error {
	s.broken = true
	return &Error{s.host, step, err}
}

// said is an error that consists of the server's reply.
func (s *session) said(step Step, r reply) *Error {
	if r.code == 421 {
		s.broken = true // RFC 5321 §3.8: the server closes
	}
	if r.code < 400 {
		// Neither what was asked for nor a refusal, such as 354 to RCPT.
		return s.failed(step, fmt.Errorf("%w here: %v", errReplyLine, r.mail()))
	}
	return &Error{s.host, step, r.mail()}
}

// quit takes leave. Nothing depends on the answer, so it does not wait long.
func (s *session) quit() {
	if !s.broken {
		s.t.Command = min(s.t.Command, quitTimeout)
		// The mail is dealt with; a failure changes nothing.
		_, _ = s.command("QUIT", "QUIT", s.t.Command)
	}
	s.close()
}

func (s *session) close() {
	s.unhook()
	_ = s.conn.Close()
}
