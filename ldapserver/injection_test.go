package ldapserver_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"directnode/internal/ber"
	"directnode/ldapserver"
	"directnode/ldapserver/dit"
)

// Somebody on the way between client and server may put octets in clear around
// a StartTLS request. None of them may have an effect once the handshake is
// done, and nothing that was asked on one side of the handshake may be answered
// on the other one.

// injectedID numbers what the attacker puts in; no good request has it.
const (
	injectedID = 66
	startID    = 5
	probeID    = 99
)

// injections is what the attacker would like to have obeyed.
func injections(t testing.TB) map[string][]byte {
	search := ask{base: top, scope: 2, filter: equal("mail", "bob@b.direct.test")}.pdu(injectedID)
	record := func(kind byte, content []byte) []byte {
		return append([]byte{kind, 3, 3, byte(len(content) >> 8), byte(len(content))}, content...)
	}
	return map[string][]byte{
		"a search":                 search,
		"a bind":                   bind(injectedID, 3, "", ""),
		"a bind with a password":   bind(injectedID, 3, "cn=admin", "secret"),
		"who am I":                 whoAmI(injectedID),
		"another StartTLS":         extended(injectedID, dit.OIDStartTLS),
		"an abandon":               envelope(injectedID, func(b *ber.Builder) { b.Int(ber.App(16, false), startID) }),
		"an unbind":                envelope(injectedID, func(b *ber.Builder) { b.Bytes(ber.App(2, false), nil) }),
		"a delete":                 envelope(injectedID, func(b *ber.Builder) { b.Text(ber.App(10, false), bobDN) }),
		"ten searches":             bytes.Repeat(search, 10),
		"a thousand searches":      bytes.Repeat(search, 1000),
		"half a search":            search[:len(search)/2],
		"one octet":                search[:1],
		"a header for what comes":  {0x30, 0x84, 0x00, 0x00, 0x01, 0x00},
		"a search in a TLS record": record(23, search),
		"an alert":                 record(21, []byte{1, 0}),
		"a handshake record":       record(22, []byte{1, 0, 0, 0}),
		"an empty TLS record":      record(23, nil),
		"a change of cipher":       record(20, []byte{1}),
		"text":                     []byte("GET / HTTP/1.1\r\n\r\n"),
		"zeroes":                   make([]byte, 40),
		"a response": envelope(injectedID, func(b *ber.Builder) {
			b.Begin(ber.App(24, true))
			b.Int(ber.Enumerated, 0)
			b.Text(ber.OctetString, "")
			b.Text(ber.OctetString, "")
			b.End()
		}),
	}
}

// delivery is how the injected octets reach the server.
type delivery struct {
	name string
	// send sends the StartTLS request and the injected octets, and gives those
	// that are to come glued before the client's first TLS octets.
	send func(w wire, request, injected []byte) (glued []byte)
}

// deliveries without "after the answer" cannot know whether the server has
// begun the handshake when the octets come; either way they must have no effect.
func deliveries() []delivery {
	apart := func() { time.Sleep(2 * time.Millisecond) } // for segments of their own; nothing depends on it
	return []delivery{
		{"in one segment", func(w wire, request, injected []byte) []byte {
			w.Write(slices.Concat(request, injected))
			return nil
		}},
		{"in the segment of the request's last octet", func(w wire, request, injected []byte) []byte {
			w.Write(request[:len(request)-1])
			apart()
			w.Write(append([]byte{request[len(request)-1]}, injected...))
			return nil
		}},
		{"in the next segment", func(w wire, request, injected []byte) []byte {
			w.Write(request)
			w.Write(injected)
			return nil
		}},
		{"a moment later", func(w wire, request, injected []byte) []byte {
			w.Write(request)
			apart()
			w.Write(injected)
			return nil
		}},
		{"glued to the first TLS octets", func(w wire, request, injected []byte) []byte {
			w.Write(request)
			return injected
		}},
		{"half behind the request, half glued", func(w wire, request, injected []byte) []byte {
			w.Write(slices.Concat(request, injected[:len(injected)/2]))
			return injected[len(injected)/2:]
		}},
	}
}

// gluing is a connection whose first write has something before it.
type gluing struct {
	net.Conn
	before []byte
}

func (g *gluing) Write(b []byte) (int, error) {
	if len(g.before) == 0 {
		return g.Conn.Write(b)
	}
	n, err := g.Conn.Write(append(g.before, b...))
	g.before = nil
	return min(n, len(b)), err
}

// protected is a server with StartTLS that counts the requests it serves.
type protected struct {
	addr     string
	requests atomic.Int64 // that looked at the tree
	server   *ldapserver.Server
	trusting *tls.Config
}

func newProtected(t *testing.T, o ldapserver.Options) *protected {
	t.Helper()
	p := &protected{}
	tr := world(t, dit.Options{StartTLS: true})
	o.TLS, p.trusting = certificates(t)
	p.addr, p.server = startWith(t, func() *dit.Tree { p.requests.Add(1); return tr }, o)
	return p
}

// clearAnswers reads what comes in clear until StartTLS is answered or the server has
// hung up. It fails for an answer to what was injected.
func clearAnswers(t *testing.T, w wire, allowed ...int64) (started bool) {
	t.Helper()
	for {
		head := make([]byte, 1)
		if n, err := w.Read(head); n == 0 || err != nil {
			return false
		}
		if head[0] != 0x30 {
			return false // a TLS alert: the server takes what it got for a handshake
		}
		m, err := wire{t, &unread{w.Conn, head}}.read()
		if err != nil {
			return false
		}
		switch {
		case m.id == startID && m.tag == 24 && m.code == 0:
			return true
		case m.id == 0 || slices.Contains(allowed, m.id):
		default:
			t.Errorf("answered in clear: %v", m)
		}
	}
}

// unread gives octets back before the rest.
type unread struct {
	net.Conn
	first []byte
}

func (u *unread) Read(b []byte) (int, error) {
	if len(u.first) == 0 {
		return u.Conn.Read(b)
	}
	n := copy(b, u.first)
	u.first = u.first[n:]
	return n, nil
}

// inside shakes hands, sends what is to follow and a probe, and reads until the
// probe is answered or the connection ends. It fails for any other answer, and
// tells whether the probe was answered.
func inside(t *testing.T, w wire, trusting *tls.Config, glued, follow []byte) bool {
	t.Helper()
	c := tls.Client(&gluing{w.Conn, slices.Clone(glued)}, trusting)
	if err := c.Handshake(); err != nil {
		return false // the server did not take it: nothing can be obeyed any more
	}
	if _, err := c.Write(append(slices.Clone(follow), whoAmI(probeID)...)); err != nil {
		return false
	}
	for {
		m, err := wire{t, c}.read()
		switch {
		case err != nil:
			return false
		case m.id == probeID && m.code == 0:
			return true
		case m.id != 0:
			t.Errorf("answered inside TLS: %v", m)
			return false
		}
	}
}

// TestNoInjectedOctetIsObeyed tries every injection by every delivery.
func TestNoInjectedOctetIsObeyed(t *testing.T) {
	p := newProtected(t, ldapserver.Options{})
	variants := 0
	for name, injected := range injections(t) {
		for _, d := range deliveries() {
			variants++
			before := p.requests.Load()
			w := dial(t, p.addr)
			glued := d.send(w, extended(startID, dit.OIDStartTLS), injected)
			probed := clearAnswers(t, w) && inside(t, w, p.trusting, glued, nil)
			w.Close()
			// StartTLS itself and the probe.
			if n := p.requests.Load() - before; n > 2 {
				t.Errorf("%s, %s: %d requests were served", name, d.name, n)
			}
			if probed {
				t.Errorf("%s, %s: the connection went on as if nothing had come", name, d.name)
			}
		}
	}
	t.Logf("%d variants: every connection was cut", variants)
	if variants < 100 {
		t.Errorf("only %d variants", variants)
	}
}

// TestAMessageCannotSpanTheHandshake begins a message in clear and ends it
// inside TLS.
func TestAMessageCannotSpanTheHandshake(t *testing.T) {
	p := newProtected(t, ldapserver.Options{})
	search := ask{base: top, scope: 2, filter: equal("mail", "bob@b.direct.test")}.pdu(injectedID)
	for at := 1; at < len(search); at++ {
		before := p.requests.Load()
		w := dial(t, p.addr)
		w.Write(append(extended(startID, dit.OIDStartTLS), search[:at]...))
		probed := clearAnswers(t, w) && inside(t, w, p.trusting, nil, search[at:])
		w.Close()
		if n := p.requests.Load() - before; probed || n > 2 {
			t.Errorf("%d octets in clear: %d requests were served, the connection goes on: %v", at, n, probed)
		}
	}
}

// TestWhatIsOutstandingIsAnsweredInClear pipelines requests before StartTLS:
// they are answered in clear, in order, and before the answer to StartTLS, or
// StartTLS is refused (RFC 4511 §4.14.1); none is answered inside.
func TestWhatIsOutstandingIsAnsweredInClear(t *testing.T) {
	p := newProtected(t, ldapserver.Options{})
	good := ask{base: top, scope: 2, filter: equal("mail", "bob@b.direct.test")}
	abandon := envelope(3, func(b *ber.Builder) { b.Int(ber.App(16, false), 1) })
	abandonStart := envelope(3, func(b *ber.Builder) { b.Int(ber.App(16, false), startID) })
	for name, before := range map[string][]byte{
		"nothing":                       nil,
		"a search":                      good.pdu(1),
		"a bind":                        bind(1, 3, "", ""),
		"a hundred searches":            bytes.Repeat(good.pdu(1), 100),
		"a search that is abandoned":    append(good.pdu(1), abandon...),
		"an abandon of what is to come": abandonStart,
		"a paged search":                ask{base: top, scope: 2, filter: equal("mail", "bob@b.direct.test"), controls: [][]byte{control("1.2.840.113556.1.4.319", false, "\x30\x05\x02\x01\x01\x04\x00")}}.pdu(1),
		"a refused extended operation":  extended(2, "1.2.3.4"),
		"a StartTLS with a value": envelope(2, func(b *ber.Builder) {
			b.Begin(ber.App(23, true))
			b.Text(ber.Context(0, false), dit.OIDStartTLS)
			b.Text(ber.Context(1, false), "x")
			b.End()
		}),
		"a StartTLS that is critical": envelope(2, func(b *ber.Builder) {
			b.Begin(ber.App(23, true))
			b.Text(ber.Context(0, false), dit.OIDStartTLS)
			b.End()
		}, control("1.2.3", true, "")),
	} {
		for _, together := range []bool{true, false} {
			w := dial(t, p.addr)
			if together {
				w.Write(append(slices.Clone(before), extended(startID, dit.OIDStartTLS)...))
			} else {
				w.Write(before)
				w.Write(extended(startID, dit.OIDStartTLS))
			}
			if !clearAnswers(t, w, 1, 2) {
				t.Errorf("%s, together %v: StartTLS is not answered", name, together)
				w.Close()
				continue
			}
			if !inside(t, w, p.trusting, nil, nil) {
				t.Errorf("%s, together %v: not served inside TLS", name, together)
			}
			w.Close()
		}
	}
}

// TestStartTLSInsideTLSIsRefused asks for it after StartTLS and on a listener of
// LDAP over TLS, alone and with a request behind it; that one is answered,
// because nothing came in clear.
func TestStartTLSInsideTLSIsRefused(t *testing.T) {
	p := newProtected(t, ldapserver.Options{})
	inner := func(c net.Conn, follow []byte) {
		t.Helper()
		w := wire{t, c}
		w.send(append(extended(startID, dit.OIDStartTLS), follow...))
		if m := w.must(); m.id != startID || m.code != 1 {
			t.Errorf("%v, want operationsError", m)
		}
		if len(follow) == 0 {
			w.alive()
		} else if m := w.must(); m.id != probeID || m.code != 0 {
			t.Errorf("%v, want the answer to what was pipelined inside TLS", m)
		}
	}
	for _, follow := range [][]byte{nil, whoAmI(probeID)} {
		w := dial(t, p.addr)
		w.send(extended(startID, dit.OIDStartTLS))
		if !clearAnswers(t, w) {
			t.Fatal("StartTLS is refused")
		}
		c := tls.Client(w.Conn, p.trusting)
		inner(c, follow)
		c.Close()
	}
	// The same on a connection that is encrypted from the beginning.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, trusting := certificates(t)
	tr := world(t, dit.Options{StartTLS: true})
	serve(t, ldapserver.New(func() *dit.Tree { return tr }, ldapserver.Options{TLS: server}), tls.NewListener(l, server))
	for _, follow := range [][]byte{nil, whoAmI(probeID)} {
		c := tls.Client(dial(t, l.Addr().String()).Conn, trusting)
		inner(c, follow)
		c.Close()
	}
	// In clear on that listener nothing is answered in LDAP.
	for name, b := range injections(t) {
		w := dial(t, l.Addr().String())
		w.Write(b)
		w.Conn.(*net.TCPConn).CloseWrite()
		got, _ := io.ReadAll(w)
		if len(got) > 0 && got[0] == 0x30 || bytes.Contains(got, []byte("BOB")) {
			t.Errorf("%s: answered in clear: %x", name, got)
		}
		w.Close()
	}
}

// TestInjectionDoesNotReachOthers has clients that inject beside clients that
// shake hands and search: each gets its own.
func TestInjectionDoesNotReachOthers(t *testing.T) {
	p := newProtected(t, ldapserver.Options{})
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 6 {
				c, err := net.Dial("tcp", p.addr)
				if err != nil {
					t.Error(err)
					return
				}
				c.SetDeadline(time.Now().Add(30 * time.Second))
				w := wire{t, c}
				request := extended(startID, dit.OIDStartTLS)
				if i%2 == 0 {
					request = append(request, bytes.Repeat(bind(injectedID, 3, "", ""), 1+i)...)
				}
				_, _ = w.Write(request)
				if started := clearAnswers(t, w); started != (i%2 == 1) {
					t.Errorf("client %d: StartTLS answered: %v", i, started)
				}
				if i%2 == 1 {
					inner := tls.Client(c, p.trusting)
					if err := goodSearch(wire{t, inner}); err != nil {
						t.Errorf("client %d is not served: %v", i, err)
					}
				}
				c.Close()
			}
		})
	}
	all.Wait()
	if n := p.server.Results()[80]; n > 0 {
		t.Errorf("%d internal errors", n)
	}
}
