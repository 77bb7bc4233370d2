package dnsserver_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/miekg/dns"

	"directnode/dnsserver"
)

// TestUDPModes: however packets are moved, each query of a burst gets its answer,
// from the address that was asked.
func TestUDPModes(t *testing.T) {
	set := newSet(t)
	for _, mode := range []struct {
		name string
		wrap func(net.PacketConn) net.PacketConn
	}{
		{"system", func(pc net.PacketConn) net.PacketConn { return pc }},
		{"portable", dnsserver.Portable},
		{"any", func(pc net.PacketConn) net.PacketConn { return plain{pc} }},
	} {
		for _, c := range []struct{ network, bind, ask string }{
			{"udp4", "127.0.0.1", "127.0.0.1"}, {"udp6", "::1", "::1"}, {"udp4", "0.0.0.0", "127.0.0.2"}, {"udp", "::", "127.0.0.3"}, {"udp", "::", "::1"},
		} {
			if mode.name == "any" && c.bind != c.ask {
				continue // such a connection cannot say where an answer leaves from
			}
			t.Run(mode.name+" "+c.bind+" "+c.ask, func(t *testing.T) {
				pc, err := net.ListenPacket(c.network, net.JoinHostPort(c.bind, "0"))
				if err != nil {
					t.Skipf("SKIP %s: %v", c.bind, err)
				}
				stop := serveUDP(t, dnsserver.New(fixed(set), dnsserver.Options{}), mode.wrap(pc))
				burst(t, net.JoinHostPort(c.ask, fmt.Sprint(pc.LocalAddr().(*net.UDPAddr).Port)), 100)
				stop()
			})
		}
	}
}

// serveUDP serves one socket until stop is called.
func serveUDP(t *testing.T, s *dnsserver.Server, pc net.PacketConn) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, pc, nil) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// burst sends n queries at once and wants the answer to each.
func burst(t *testing.T, addr string, n int) {
	t.Helper()
	conn, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	q := ask(t, "direct.example.org.", dns.TypeSOA, 1232)
	for i := range n {
		binary.BigEndian.PutUint16(q, uint16(i))
		if _, err := conn.Write(q); err != nil {
			t.Fatal(err)
		}
	}
	answers(t, conn, n)
}

// answers wants an answer for each ID below n.
func answers(t *testing.T, conn net.Conn, n int) {
	t.Helper()
	seen, buf := make(map[uint16]bool), make([]byte, 4096)
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	for range n {
		k, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("%d of %d answered: %v", len(seen), n, err)
		}
		m := new(dns.Msg)
		if err := m.Unpack(buf[:k]); err != nil || len(m.Answer) != 1 {
			t.Fatalf("%v, %v", m, err)
		}
		seen[m.Id] = true
	}
	if len(seen) != n {
		t.Errorf("%d different answers of %d", len(seen), n)
	}
}

// TestNothingThatArrivedIsLost: what lies in a socket when the server is told to
// stop is answered.
func TestNothingThatArrivedIsLost(t *testing.T) {
	set := newSet(t)
	for _, wrap := range []func(net.PacketConn) net.PacketConn{func(pc net.PacketConn) net.PacketConn { return pc }, dnsserver.Portable} {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("udp", pc.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		q := ask(t, "direct.example.org.", dns.TypeSOA, 0)
		for i := range 100 {
			binary.BigEndian.PutUint16(q, uint16(i))
			if _, err := conn.Write(q); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // before it reads at all
		if err := dnsserver.New(fixed(set), dnsserver.Options{}).Serve(ctx, wrap(pc), nil); err != nil {
			t.Fatal(err)
		}
		answers(t, conn, 100)
	}
}

// TestListenUDP: a socket for each processor, all served, on a port that nobody
// else gets.
func TestListenUDP(t *testing.T) {
	was := runtime.GOMAXPROCS(3)
	defer runtime.GOMAXPROCS(was)
	sockets, err := dnsserver.ListenUDP(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS == "linux" && len(sockets) != 3 {
		t.Errorf("%d sockets for 3 processors", len(sockets))
	}
	addr := sockets[0].LocalAddr().String()
	if again, err := dnsserver.ListenUDP(t.Context(), addr); err == nil {
		t.Errorf("a second server got %d sockets on the same port", len(again))
	}
	s := dnsserver.New(fixed(newSet(t)), dnsserver.Options{})
	var stops []func()
	for _, pc := range sockets {
		if got := pc.LocalAddr().String(); got != addr {
			t.Errorf("a socket on %s, not %s", got, addr)
		}
		stops = append(stops, serveUDP(t, s, pc))
	}
	for range 20 { // clients that the kernel divides
		burst(t, addr, 10)
	}
	for _, stop := range stops {
		stop()
	}
}

// TestUDPSize: an operator's size lets larger answers out and is what clients are
// told; what the client takes still counts.
func TestUDPSize(t *testing.T) {
	set := newSet(t)
	q := func(size uint16) []byte { return ask(t, "bob.direct.example.org.", dns.TypeCERT, size) }
	full := len(dnsserver.Handle(set, q(4096), dnsserver.Transport{UDPCert: dnsserver.CertAlways, UDPSize: 4096}))
	for _, c := range []struct {
		size int
		edns uint16
		tc   bool
	}{{4096, 4096, false}, {full, 4096, false}, {full - 1, 4096, true}, {4096, uint16(full), false}, {4096, uint16(full - 1), true}, {512, 4096, true}} {
		m := new(dns.Msg)
		answer := dnsserver.Handle(set, q(c.edns), dnsserver.Transport{UDPCert: dnsserver.CertAlways, UDPSize: c.size})
		if err := m.Unpack(answer); err != nil {
			t.Fatal(err)
		}
		if m.Truncated != c.tc || m.IsEdns0().UDPSize() != uint16(c.size) {
			t.Errorf("udp_size %d, client %d: TC %v, told %d", c.size, c.edns, m.Truncated, m.IsEdns0().UDPSize())
		}
	}
	for given, want := range map[int]uint16{0: 1232, 100: 512, 4000: 4000, 1 << 20: 4096} {
		m := new(dns.Msg)
		m.SetQuestion("direct.example.org.", dns.TypeSOA)
		m.SetEdns0(1232, false)
		r, _, err := (&dns.Client{}).Exchange(m, start(t, fixed(set), dnsserver.Options{UDPSize: given}))
		if err != nil || r.IsEdns0().UDPSize() != want {
			t.Errorf("UDPSize %d: %v, %v", given, r, err)
		}
	}
}

// TestPadding: where it cannot be read, an answer to a padded query is padded to
// a multiple of 468 octets (RFC 8467 §4.1); elsewhere never (RFC 7830 §6).
func TestPadding(t *testing.T) {
	set := newSet(t)
	m := new(dns.Msg)
	m.SetQuestion("txt200.upper.example.", dns.TypeTXT)
	m.SetEdns0(1232, false)
	m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_PADDING{Padding: make([]byte, 7)})
	for _, name := range []string{"direct.example.org.", "bob.direct.example.org.", "nobody.direct.example.org.", "txt200.upper.example.", "elsewhere.example."} {
		m.Question[0].Name = name
		r := new(dns.Msg)
		answer := dnsserver.Handle(set, pack(t, m), dnsserver.Transport{TCP: true, TLS: true})
		if err := r.Unpack(answer); err != nil || len(answer)%468 != 0 || r.Truncated {
			t.Errorf("%s: %d octets, %v", name, len(answer), err)
		}
		plain := dnsserver.Handle(set, pack(t, m), overTCP)
		if err := r.Unpack(plain); err != nil || len(r.IsEdns0().Option) != 0 {
			t.Errorf("%s without TLS: %v, %v", name, r.IsEdns0(), err)
		}
	}
	m.IsEdns0().Option = nil
	if answer := dnsserver.Handle(set, pack(t, m), dnsserver.Transport{TCP: true, TLS: true}); len(answer) == 0 || len(answer)%468 == 0 {
		t.Errorf("padded unasked: %d octets", len(answer))
	}
}

// TestPacketsAreMovedWithoutAllocation: reading, answering and writing a batch on
// a loopback socket.
func TestPacketsAreMovedWithoutAllocation(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	conn, err := net.Dial("udp", pc.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	turn, err := dnsserver.New(fixed(newSet(t)), dnsserver.Options{UDPCert: "always"}).Turn(pc)
	if err != nil {
		t.Fatal(err)
	}
	queries := [][]byte{ask(t, "carol.direct.example.org.", dns.TypeCERT, 1232), ask(t, "nobody.direct.example.org.", dns.TypeCERT, 1232), ask(t, "direct.example.org.", dns.TypeMX, 0)}
	buf := make([]byte, 4096)
	n := testing.AllocsPerRun(50, func() {
		for _, q := range queries {
			if _, err := conn.Write(q); err != nil {
				t.Fatal(err)
			}
		}
		for got := 0; got < len(queries); {
			k, err := turn()
			if err != nil {
				t.Fatal(err)
			}
			got += k
		}
		for range queries {
			if _, err := conn.Read(buf); err != nil {
				t.Fatal(err)
			}
		}
	})
	if runtime.GOOS == "linux" && n != 0 {
		t.Errorf("%v allocations for a batch of three", n)
	}
}
