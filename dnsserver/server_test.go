package dnsserver_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"directnode/dnsserver"
	"directnode/internal/spec"
	"directnode/zones"
)

// listen opens a UDP and a TCP socket on one port.
func listen(t testing.TB, host string) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		u, err := net.ListenPacket("udp", net.JoinHostPort(host, fmt.Sprint(l.Addr().(*net.TCPAddr).Port)))
		if err == nil {
			return u, l
		}
		l.Close()
	}
	t.Fatal("no port is free for both UDP and TCP")
	return nil, nil
}

// start serves on a loopback address until the test ends, and gives its address.
func start(t testing.TB, set func() *zones.Set, o dnsserver.Options) string {
	t.Helper()
	return serve(t, dnsserver.New(set, o))
}

// serve is start for a server that the test looks into.
func serve(t testing.TB, server *dnsserver.Server) string {
	t.Helper()
	u, l := listen(t, "127.0.0.1")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, u, l) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(5 * time.Second):
			t.Error("Serve does not drain")
		}
	})
	return l.Addr().String()
}

func fixed(s *zones.Set) func() *zones.Set { return func() *zones.Set { return s } }

func TestServesUDPAndTCPOnOneAddress(t *testing.T) {
	spec.Covers(t, "AS-5.4-a", "AS-1.1-e")
	addr := start(t, fixed(newSet(t)), dnsserver.Options{})
	for _, network := range []string{"udp", "tcp"} {
		c := &dns.Client{Net: network, Timeout: 3 * time.Second}
		for _, qtype := range []uint16{dns.TypeSOA, dns.TypeNS} {
			m := new(dns.Msg)
			m.SetQuestion("direct.example.org.", qtype)
			r, _, err := c.Exchange(m, addr)
			if err != nil || r.Rcode != dns.RcodeSuccess || !r.Authoritative || len(r.Answer) != 1 {
				t.Errorf("%s %s: %v, %v", network, dns.Type(qtype), r, err)
			}
		}
	}
}

func TestTruncatedCertificateComesOverTCP(t *testing.T) {
	spec.Covers(t, "AS-5.4-b", "AS-1.4-g")
	addr := start(t, fixed(newSet(t)), dnsserver.Options{})
	m := new(dns.Msg)
	m.SetQuestion("bob.direct.example.org.", dns.TypeCERT)
	m.SetEdns0(1232, false)
	r, _, err := (&dns.Client{}).Exchange(m, addr)
	if err != nil || !r.Truncated || len(r.Answer) != 0 {
		t.Fatalf("over UDP: %v, %v", r, err)
	}
	if r, _, err = (&dns.Client{Net: "tcp"}).Exchange(m, addr); err != nil || r.Truncated || len(r.Answer) != 1 {
		t.Errorf("over TCP: %v, %v", r, err)
	}
}

func TestManyClientsAtOnce(t *testing.T) {
	set := newSet(t)
	addr := start(t, fixed(set), dnsserver.Options{})
	var wrong atomic.Int64
	var clients sync.WaitGroup
	for i := range 16 {
		clients.Go(func() {
			conn, err := net.Dial("udp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			buf := make([]byte, 2048)
			for j := range 100 {
				q := ask(t, fmt.Sprintf("n%d.structure.example.", j), dns.TypeA, 1232)
				binary.BigEndian.PutUint16(q, uint16(i<<8|j))
				conn.SetDeadline(time.Now().Add(3 * time.Second))
				if _, err := conn.Write(q); err != nil {
					wrong.Add(1)
				}
				n, err := conn.Read(buf)
				if err != nil || !bytes.Equal(buf[:n], dnsserver.Handle(set, q, overUDP)) {
					wrong.Add(1)
				}
			}
		})
	}
	clients.Wait()
	if n := wrong.Load(); n != 0 {
		t.Errorf("%d of 1600 queries failed", n)
	}
}

// TestAnswersLeaveFromTheAddressAsked: a socket on all addresses must not let
// the kernel choose another one (RFC 2181 §4).
func TestAnswersLeaveFromTheAddressAsked(t *testing.T) {
	for _, c := range []struct{ network, bind, ask string }{{"udp4", "0.0.0.0", "127.0.0.2"}, {"udp", "0.0.0.0", "127.0.0.2"}, {"udp", "::", "127.0.0.3"}, {"udp", "::", "::1"}, {"udp6", "::1", "::1"}} {
		u, err := net.ListenPacket(c.network, net.JoinHostPort(c.bind, "0"))
		if err != nil {
			t.Logf("SKIP %s: %v", c.bind, err)
			continue
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- dnsserver.New(fixed(newSet(t)), dnsserver.Options{}).Serve(ctx, u, nil) }()
		conn, err := net.Dial("udp", net.JoinHostPort(c.ask, fmt.Sprint(u.LocalAddr().(*net.UDPAddr).Port)))
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(2 * time.Second))
		if _, err := conn.Write(ask(t, "direct.example.org.", dns.TypeSOA, 0)); err != nil {
			t.Fatal(err)
		}
		// A connected socket takes packets of that one address only.
		if _, err := conn.Read(make([]byte, 512)); err != nil {
			t.Errorf("bound to %s, asked at %s: %v", c.bind, c.ask, err)
		}
		conn.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// plain hides that a socket is one of the system's.
type plain struct{ net.PacketConn }

func TestAnyPacketConnIsServed(t *testing.T) {
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- dnsserver.New(fixed(newSet(t)), dnsserver.Options{}).Serve(ctx, plain{u}, nil) }()
	m := new(dns.Msg)
	m.SetQuestion("direct.example.org.", dns.TypeSOA)
	if r, _, err := (&dns.Client{}).Exchange(m, u.LocalAddr().String()); err != nil || len(r.Answer) != 1 {
		t.Errorf("%v, %v", r, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestPipelinedQueriesAreAllAnswered(t *testing.T) {
	spec.Covers(t, "AS-5.4-a")
	set := newSet(t)
	conn, err := net.Dial("tcp", start(t, fixed(set), dnsserver.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	var out, want bytes.Buffer
	for i := range 400 {
		q := ask(t, []string{"bob.direct.example.org.", "nobody.direct.example.org.", "txt200.upper.example."}[i%3], []uint16{dns.TypeCERT, dns.TypeCERT, dns.TypeTXT}[i%3], 0)
		binary.BigEndian.PutUint16(q, uint16(i))
		out.Write(framed(q))
		if i%7 == 0 {
			out.Write(framed([]byte("silence"))) // no header: nothing to answer
		}
		want.Write(framed(dnsserver.Handle(set, q, overTCP)))
	}
	go func() {
		for out.Len() > 0 { // in pieces that fit no frame
			if _, err := conn.Write(out.Next(37)); err != nil {
				return
			}
		}
	}()
	got := make([]byte, want.Len())
	if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%v; equal: %v", err, bytes.Equal(got, want.Bytes()))
	}
}

func framed(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

func TestTheLongestQueryIsRead(t *testing.T) {
	conn, err := net.Dial("tcp", start(t, fixed(newSet(t)), dnsserver.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	q := ask(t, "direct.example.org.", dns.TypeSOA, 0)
	q = append(q, make([]byte, 65535-len(q))...) // garbage behind it: a format error
	if _, err := conn.Write(append(framed(q), framed(ask(t, "direct.example.org.", dns.TypeSOA, 0))...)); err != nil {
		t.Fatal(err)
	}
	co := &dns.Conn{Conn: conn}
	for _, want := range []int{dns.RcodeFormatError, dns.RcodeSuccess} {
		if m, err := co.ReadMsg(); err != nil || m.Rcode != want {
			t.Errorf("%v, %v; want %s", m, err, dns.RcodeToString[want])
		}
	}
}

// pipes is a listener whose connections are pipes, so that time is the
// bubble's.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// dial gives the client's end.
func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// inBubble serves on pipes in a bubble of time.
func inBubble(t *testing.T, o dnsserver.Options, f func(t *testing.T, p *pipes)) {
	set := newSet(t)
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- dnsserver.New(fixed(set), o).Serve(ctx, nil, p) }()
		f(t, p)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// closedAfter is how long the server keeps a connection on which nothing more
// is sent or read.
func closedAfter(t *testing.T, c net.Conn) time.Duration {
	t.Helper()
	begin := time.Now()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read: %v, want EOF", err)
	}
	return time.Since(begin)
}

func TestTCPTimeouts(t *testing.T) {
	soa := framed(ask(t, "direct.example.org.", dns.TypeSOA, 0))
	inBubble(t, dnsserver.Options{}, func(t *testing.T, p *pipes) {
		c := p.dial()
		if d := closedAfter(t, c); d != 3*time.Second {
			t.Errorf("a client that says nothing is kept %s, want 3s", d)
		}

		c = p.dial()
		c.Write(soa[:1])
		if d := closedAfter(t, c); d != 10*time.Second {
			t.Errorf("half a length is waited for %s, want 10s", d)
		}

		c = p.dial()
		begin := time.Now()
		for i := range soa { // an octet every two seconds would take over a minute
			if _, err := c.Write(soa[i : i+1]); err != nil {
				break
			}
			time.Sleep(2 * time.Second)
		}
		if d := time.Since(begin); d > 13*time.Second {
			t.Errorf("a query that trickles in is waited for %s", d)
		}

		c = p.dial()
		for range 3 {
			c.Write(soa)
			if m, err := (&dns.Conn{Conn: c}).ReadMsg(); err != nil || len(m.Answer) != 1 {
				t.Errorf("%v, %v", m, err)
			}
			time.Sleep(9 * time.Second) // less than idle
		}
		c.Write(soa)
		(&dns.Conn{Conn: c}).ReadMsg()
		if d := closedAfter(t, c); d != 10*time.Second {
			t.Errorf("an idle client is kept %s, want 10s", d)
		}

		c = p.dial()
		c.Write(soa)
		time.Sleep(3 * time.Second) // the answer is not read
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("a client that does not read for 3s still has its connection: %v", err)
		}
	})
}

func TestServeDrains(t *testing.T) {
	set := newSet(t)
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- dnsserver.New(fixed(set), dnsserver.Options{}).Serve(ctx, nil, p) }()
		idle, busy := p.dial(), p.dial()
		busy.Write(framed(ask(t, "direct.example.org.", dns.TypeSOA, 0)))
		synctest.Wait() // the answer is on its way; the pipe holds nothing, so it waits for a reader
		begin := time.Now()
		cancel()
		if m, err := (&dns.Conn{Conn: busy}).ReadMsg(); err != nil || len(m.Answer) != 1 {
			t.Errorf("an answer that was begun is lost: %v, %v", m, err)
		}
		if closedAfter(t, idle) != 0 || closedAfter(t, busy) != 0 {
			t.Error("connections linger")
		}
		if err := <-done; err != nil || time.Since(begin) != 0 {
			t.Errorf("Serve: %v after %s", err, time.Since(begin))
		}
	})
}

func TestServeReportsABrokenSocket(t *testing.T) {
	u, l := listen(t, "127.0.0.1")
	done := make(chan error, 1)
	go func() { done <- dnsserver.New(fixed(newSet(t)), dnsserver.Options{}).Serve(t.Context(), u, l) }()
	time.Sleep(10 * time.Millisecond)
	u.Close()
	select {
	case err := <-done:
		if !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), "udp 127.0.0.1") {
			t.Errorf("Serve: %v", err)
		}
	case <-time.After(3 * time.Second):
		t.Fatal("Serve goes on without its UDP socket")
	}
	if _, err := net.DialTimeout("tcp", l.Addr().String(), time.Second); err == nil {
		t.Error("the TCP listener stays open")
	}
}

// connect opens a connection and tells whether the server keeps it: it answers
// a query.
func connect(t *testing.T, addr string) (net.Conn, bool) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, alive(t, c)
}

func alive(t *testing.T, c net.Conn) bool {
	t.Helper()
	c.SetDeadline(time.Now().Add(3 * time.Second))
	if _, err := c.Write(framed(ask(t, "direct.example.org.", dns.TypeSOA, 0))); err != nil {
		return false
	}
	_, err := (&dns.Conn{Conn: c}).ReadMsg()
	return err == nil
}

func TestConnectionCaps(t *testing.T) {
	nobody := []netip.Prefix{}
	set := fixed(newSet(t))
	t.Run("of an address", func(t *testing.T) {
		addr := start(t, set, dnsserver.Options{Limits: dnsserver.Limits{TCPPerAddress: 2, Exempt: nobody}})
		a, ok1 := connect(t, addr)
		_, ok2 := connect(t, addr)
		_, ok3 := connect(t, addr)
		if !ok1 || !ok2 || ok3 {
			t.Errorf("with a cap of 2: %v %v %v", ok1, ok2, ok3)
		}
		a.Close()
		for range 100 { // the place is free as soon as the server has noticed
			if _, ok := connect(t, addr); ok {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Error("a closed connection still counts")
	})
	t.Run("of a network", func(t *testing.T) {
		addr := start(t, set, dnsserver.Options{Limits: dnsserver.Limits{TCPPerNetwork: 1, Exempt: nobody}})
		_, ok1 := connect(t, addr)
		_, ok2 := connect(t, addr)
		if !ok1 || ok2 {
			t.Errorf("with a cap of 1: %v %v", ok1, ok2)
		}
	})
	t.Run("in total the oldest idle one goes", func(t *testing.T) {
		addr := start(t, set, dnsserver.Options{Limits: dnsserver.Limits{TCPTotal: 2, Exempt: nobody}})
		a, _ := connect(t, addr)
		b, _ := connect(t, addr)
		if !alive(t, a) { // now b has been idle longer
			t.Fatal("closed too early")
		}
		if _, ok := connect(t, addr); !ok || !alive(t, a) || alive(t, b) {
			t.Errorf("the new one %v, the one in use %v, the idle one %v", ok, alive(t, a), alive(t, b))
		}
	})
	t.Run("exempt", func(t *testing.T) {
		addr := start(t, set, dnsserver.Options{Limits: dnsserver.Limits{TCPTotal: 1, TCPPerAddress: 1, TCPPerNetwork: 1}})
		for i := range 5 {
			if _, ok := connect(t, addr); !ok {
				t.Errorf("connection %d of loopback is refused", i)
			}
		}
	})
}

func TestAPanicIsAServerFailure(t *testing.T) {
	var logged lockedBuffer
	broken := func() *zones.Set { panic("no generation") }
	addr := start(t, broken, dnsserver.Options{Log: slog.New(slog.NewTextHandler(&logged, nil))})
	for _, network := range []string{"udp", "tcp"} {
		m := new(dns.Msg)
		m.SetQuestion("direct.example.org.", dns.TypeSOA)
		r, _, err := (&dns.Client{Net: network, Timeout: 2 * time.Second}).Exchange(m, addr)
		if err != nil || r.Rcode != dns.RcodeServerFailure {
			t.Errorf("%s: %v, %v", network, r, err)
		}
	}
	if s := logged.String(); !strings.Contains(s, "no generation") || !strings.Contains(s, "server_test.go") {
		t.Errorf("the log does not say where: %s", s)
	}
}

func TestQueriesAreLoggedAtDebugAlone(t *testing.T) {
	for level, want := range map[slog.Level]bool{slog.LevelDebug: true, slog.LevelInfo: false} {
		var logged lockedBuffer
		addr := start(t, fixed(newSet(t)), dnsserver.Options{Log: slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: level}))})
		m := new(dns.Msg)
		m.SetQuestion("bob.direct.example.org.", dns.TypeCERT)
		if _, _, err := (&dns.Client{Net: "tcp"}).Exchange(m, addr); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(logged.String(), "bob.direct.example.org"); got != want {
			t.Errorf("at %s: %s", level, logged.String())
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestNoAnswerMixesGenerations: whoever asks while generations change sees one
// or the other.
func TestNoAnswerMixesGenerations(t *testing.T) {
	text := func(mark string) string { return minimum + strings.Repeat("x TXT "+mark+"\n", 1) + "y CNAME x\n" }
	var current atomic.Pointer[zones.Set]
	a, b := oneZone(t, "gen.example", text("a")), oneZone(t, "gen.example", text("b"))
	current.Store(a)
	addr := start(t, current.Load, dnsserver.Options{})
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				current.Store([]*zones.Set{a, b}[i%2])
			}
		}
	})
	conn, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	q := ask(t, "y.gen.example.", dns.TypeTXT, 0)
	wantA, wantB := dnsserver.Handle(a, q, overUDP), dnsserver.Handle(b, q, overUDP)
	buf := make([]byte, 512)
	for range 500 {
		conn.SetDeadline(time.Now().Add(2 * time.Second))
		conn.Write(q)
		n, err := conn.Read(buf)
		if err != nil || !bytes.Equal(buf[:n], wantA) && !bytes.Equal(buf[:n], wantB) {
			t.Fatalf("%v: %x", err, buf[:n])
		}
	}
	close(stop)
	writer.Wait()
}

// TestPeersUnderstandUs asks with the tools that operators use.
func TestPeersUnderstandUs(t *testing.T) {
	spec.Covers(t, "AS-5.3-a", "AS-5.0-c")
	addr := start(t, fixed(newSet(t)), dnsserver.Options{})
	host, port, _ := net.SplitHostPort(addr)
	for _, tool := range []string{"dig", "kdig"} {
		t.Run(tool, func(t *testing.T) {
			if _, err := exec.LookPath(tool); err != nil {
				t.Skip("SKIP peer " + tool + " absent")
			}
			run := func(args ...string) string {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				out, err := exec.CommandContext(ctx, tool, append([]string{"@" + host, "-p", port}, args...)...).CombinedOutput()
				if err != nil {
					t.Errorf("%s %v: %v\n%s", tool, args, err, out)
				}
				return string(out)
			}
			// Both fall back to TCP by themselves.
			for _, name := range []string{"direct.example.org", "bob.direct.example.org", "BOB.Direct.Example.Org"} {
				out := run("+short", "CERT", name)
				if !strings.HasPrefix(strings.TrimSpace(lastLine(out)), "1 ") && !strings.HasPrefix(strings.TrimSpace(lastLine(out)), "PKIX ") {
					t.Errorf("CERT %s: %s", name, out)
				}
			}
			for query, want := range map[string]string{
				"nobody.direct.example.org CERT": "NXDOMAIN", "smith.direct.example.org CERT": "NOERROR", "elsewhere.example SOA": "REFUSED",
				"direct.example.org MX": "mail.direct.example.org", "sub.structure.example NS": "ns1.sub.structure.example", "alias2.structure.example A": "192.0.2.2",
			} {
				out := run(strings.Fields(query)...)
				if !strings.Contains(out, want) || strings.Contains(strings.ToLower(out), "malformed") || strings.Contains(out, "WARNING: Message") {
					t.Errorf("%s: no %q in\n%s", query, want, out)
				}
			}
		})
	}
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

func TestParseUDPCert(t *testing.T) {
	for s, want := range map[string]dnsserver.UDPCert{"": dnsserver.CertByCookie, "cookie": dnsserver.CertByCookie, "never": dnsserver.CertNever, "always": dnsserver.CertAlways} {
		if got, ok := dnsserver.ParseUDPCert(s); !ok || got != want {
			t.Errorf("%q: %v, %v", s, got, ok)
		}
	}
	if got, ok := dnsserver.ParseUDPCert("sometimes"); ok || got != dnsserver.CertByCookie {
		t.Errorf("sometimes: %v, %v", got, ok)
	}
	set := newSet(t)
	for option, tc := range map[string]bool{"cookie": true, "never": true, "always": false, "sometimes": true} {
		m := new(dns.Msg)
		m.SetQuestion("carol.direct.example.org.", dns.TypeCERT)
		r, _, err := (&dns.Client{}).Exchange(m, start(t, fixed(set), dnsserver.Options{UDPCert: option}))
		if err != nil || r.Truncated != tc {
			t.Errorf("udp_cert %s: %v, %v", option, r, err)
		}
	}
}
