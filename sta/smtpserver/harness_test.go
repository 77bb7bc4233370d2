package smtpserver_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"directnode/internal/direct"
	"directnode/internal/mail"
	"directnode/internal/testpki"
	"directnode/sta/smtpserver"
)

// received is a message that the backend has taken.
type received struct {
	env  mail.Envelope
	body string // trace field included
}

// content is the message as the client sent it.
func (r received) content() string {
	_, after, _ := strings.Cut(r.body, ";\r\n\t")
	_, after, _ = strings.Cut(after, "\r\n")
	return after
}

// store is a backend in memory. Hooks, when set, come first.
type store struct {
	onRcpt func(*smtpserver.Session, direct.Address) error
	onData func(mail.Envelope, io.Reader) error

	mu   sync.Mutex
	got  []received
	torn int // messages that did not end as they should
}

func (b *store) Rcpt(_ context.Context, s *smtpserver.Session, to direct.Address) error {
	if b.onRcpt != nil {
		return b.onRcpt(s, to)
	}
	return nil
}

func (b *store) Data(_ context.Context, env mail.Envelope, r io.Reader) (string, error) {
	if b.onData != nil {
		if err := b.onData(env, r); err != nil {
			return "", err
		}
	}
	body, err := io.ReadAll(r)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.torn++
		return "", fmt.Errorf("reading the message: %w", err)
	}
	b.got = append(b.got, received{env, string(body)})
	return "", nil
}

func (b *store) messages() []received {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]received(nil), b.got...)
}

// logBuffer is a log that tests may read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// server runs a server on a loopback socket until the test ends.
type server struct {
	addr string
	log  *logBuffer
	stop context.CancelFunc
	done chan error
}

func serve(t testing.TB, b smtpserver.Backend, o smtpserver.Options) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{addr: l.Addr().String(), log: &logBuffer{}, done: make(chan error, 1)}
	if o.Hostname == "" {
		o.Hostname = "mx.direct.test"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(s.log, nil))
	}
	ctx, stop := context.WithCancel(t.Context())
	s.stop = stop
	go func() { s.done <- smtpserver.New(b, o).Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := s.wait(); err != nil {
			t.Errorf("Serve: %v", err)
		}
		if strings.Contains(s.log.String(), "smtp engine") {
			t.Errorf("the engine reported something unexpected:\n%s", s.log.String())
		}
	})
	return s
}

func (s *server) wait() error {
	select {
	case err := <-s.done:
		s.done <- err
		return err
	case <-time.After(10 * time.Second):
		return errors.New("Serve did not return")
	}
}

// client is the scripted side of a dialogue.
type client struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &client{t, conn, bufio.NewReader(conn)}
}

// greeted is a client past EHLO.
func greeted(t testing.TB, addr string) *client {
	t.Helper()
	c := dial(t, addr)
	c.play("S: 220", "C: EHLO client.test", "S: 250")
	return c
}

// readReply reads a whole reply; a closed connection reads as "EOF".
func (c *client) readReply() string {
	var all []string
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			if !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
				return "error: " + err.Error()
			}
			return strings.Join(append(all, "EOF"), "\n")
		}
		if !strings.HasSuffix(line, "\r\n") || len(line) > 512 {
			c.t.Errorf("reply line %q is no SMTP line", line)
		}
		line = strings.TrimRight(line, "\r\n")
		all = append(all, line)
		if len(line) < 4 || line[3] != '-' {
			return strings.Join(all, "\n")
		}
	}
}

// play runs a dialogue. "C: x" sends x and CR LF, "R: x" sends x raw, "S: x"
// wants a reply that starts with x, "S: EOF" the end of the connection.
func (c *client) play(script ...string) {
	c.t.Helper()
	for i, step := range script {
		kind, text, _ := strings.Cut(step, ": ")
		switch kind {
		case "C", "R":
			if kind == "C" {
				text += "\r\n"
			}
			if _, err := io.WriteString(c.conn, text); err != nil {
				c.t.Fatalf("step %d, %s: %v", i, step, err)
			}
		case "S":
			if got := c.readReply(); !strings.HasPrefix(got, text) {
				c.t.Fatalf("step %d: got %q, want %q", i, got, text)
			}
		default:
			c.t.Fatalf("step %d: %q is no step", i, step)
		}
	}
}

func (c *client) startTLS() {
	c.t.Helper()
	c.play("C: STARTTLS", "S: 220")
	tc := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})
	if err := tc.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	c.conn, c.r = tc, bufio.NewReader(tc)
}

func serverTLS(t testing.TB) *tls.Config {
	t.Helper()
	leaf := testpki.New(t).Root("Root").Leaf("mx", testpki.Domain("mx.direct.test"), testpki.ExtKeyUsage(x509.ExtKeyUsageServerAuth))
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.DER}, PrivateKey: leaf.Key}}}
}

// addressed is a dialogue up to the first recipient.
func addressed(then ...string) []string {
	return append([]string{"C: MAIL FROM:<ann@a.direct.test>", "S: 250 2.1.0", "C: RCPT TO:<bob@b.direct.test>", "S: 250 2.1.5"}, then...)
}

// inData is a dialogue up to DATA's 354.
func inData(then ...string) []string { return append(addressed("C: DATA", "S: 354"), then...) }

func waitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for range 1000 {
		if cond() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s did not happen", what)
}
