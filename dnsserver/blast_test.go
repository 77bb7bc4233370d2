package dnsserver_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"directnode/dnsserver"
)

// fromEnv is a number that makes a test longer, def without it.
func fromEnv(t *testing.T, name string, def int) (n int, given bool) {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return def, false
	}
	n, err := strconv.Atoi(s)
	if err != nil || n <= 0 {
		t.Fatalf("%s=%s is no number of packets", name, s)
	}
	return n, true
}

// holding is what a process holds when nothing goes on.
type holding struct {
	goroutines     int
	heap, resident int // octets; resident is 0 where the system does not tell
}

func (h holding) String() string {
	return fmt.Sprintf("%d goroutines, %d KiB of heap, %d KiB resident", h.goroutines, h.heap>>10, h.resident>>10)
}

func resting() (h holding) {
	for range 100 { // goroutines end a moment after what they have closed
		time.Sleep(10 * time.Millisecond)
		n := runtime.NumGoroutine()
		if n == h.goroutines {
			break
		}
		h.goroutines = n
	}
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	h.heap = int(m.HeapAlloc)
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		var size, pages int
		if _, err := fmt.Sscan(string(statm), &size, &pages); err == nil {
			h.resident = pages * os.Getpagesize()
		}
	}
	return h
}

// leaks tells whether more is held than before. What the runtime keeps for
// itself (spans, stacks) is in the resident memory too, so that this has more room.
func (h holding) leaks(before holding) bool {
	return h.goroutines > before.goroutines || h.heap > before.heap+16<<20 || h.resident > before.resident+32<<20
}

// blastSeeds are good questions of many kinds, to be spoiled.
func blastSeeds(t *testing.T) (seeds [][]byte) {
	for _, name := range []string{"direct.example.org.", "bob.direct.example.org.", "robert.direct.example.org.", "x.y.sub.structure.example.", "ring1.structure.example.", "a.wild.structure.example.", "mx.upper.example.", "txt200.upper.example.", "nowhere.example."} {
		for _, qtype := range []uint16{dns.TypeCERT, dns.TypeA, dns.TypeMX, dns.TypeANY, dns.TypeTXT, dns.TypeDS} {
			seeds = append(seeds, ask(t, name, qtype, 0), ask(t, name, qtype, 1232), askWith(t, name, qtype, 4096, clientCookie+"00112233445566778899aabbccddeeff"))
		}
	}
	return append(seeds, otherSeeds(t)...)
}

// otherSeeds are messages that are no plain questions: other opcodes, transfers,
// what is signed, and every option that a query may have.
func otherSeeds(t *testing.T) (seeds [][]byte) {
	message := func(change func(m *dns.Msg)) {
		m := new(dns.Msg)
		m.SetQuestion("direct.example.org.", dns.TypeSOA)
		change(m)
		seeds = append(seeds, pack(t, m))
	}
	record := func(text string) dns.RR {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		return rr
	}
	soa := record("direct.example.org. 3600 IN SOA ns1 hostmaster 3 3600 600 86400 300")
	message(func(m *dns.Msg) { m.SetNotify("direct.example.org."); m.Answer = []dns.RR{soa} })
	message(func(m *dns.Msg) { m.SetAxfr("direct.example.org.") })
	message(func(m *dns.Msg) { m.SetIxfr("direct.example.org.", 3, "ns1.", "hostmaster.") })
	message(func(m *dns.Msg) {
		m.SetUpdate("direct.example.org.")
		m.Insert([]dns.RR{record("mallory.direct.example.org. 60 IN CERT PKIX 0 0 eA==")})
	})
	message(func(m *dns.Msg) { m.Opcode = dns.OpcodeStatus; m.Question = nil })
	message(func(m *dns.Msg) { m.Question = nil; m.SetEdns0(1232, true) })
	message(func(m *dns.Msg) {
		m.SetEdns0(1232, true).IsEdns0().Option = []dns.EDNS0{
			&dns.EDNS0_NSID{Code: dns.EDNS0NSID}, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: clientCookie},
			&dns.EDNS0_EXPIRE{Code: dns.EDNS0EXPIRE, Empty: true}, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 2, SourceNetmask: 56, Address: net.ParseIP("2001:db8::")},
			&dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE}, &dns.EDNS0_PADDING{Padding: make([]byte, 64)}, &dns.EDNS0_LOCAL{Code: 13, Data: []byte("\x03org\x00")},
		}
	})
	for _, qtype := range []uint16{dns.TypeSOA, dns.TypeAXFR, dns.TypeIXFR, dns.TypeCERT} {
		for _, key := range []string{tsigName, "key.example."} {
			m := new(dns.Msg)
			m.SetQuestion("direct.example.org.", qtype)
			if qtype == dns.TypeIXFR {
				m.Ns = []dns.RR{soa}
			}
			m.SetTsig(key, dns.HmacSHA256, 1<<16-1, time.Now().Unix()) // good for as long as the test may take
			b, _, err := dns.TsigGenerate(m, tsigText, "", false)
			if err != nil {
				t.Fatal(err)
			}
			seeds = append(seeds, b)
		}
	}
	for _, name := range []string{"bob.direct.example.org.", "nobody.direct.example.org.", "x.y.sub.structure.example.", "a.wild.structure.example."} {
		seeds = append(seeds, askDO(t, name, dns.TypeCERT, false), askDO(t, name, dns.TypeA, true), askDO(t, name, dns.TypeDNSKEY, false))
	}
	return seeds
}

// TestBlast throws spoiled packets at real sockets, UDP and TCP, and asks a good
// question between them again and again: all of these are answered, and in the
// end the server holds no more than before. Two seconds; DNS_BLAST=N sends N
// packets, however long that takes.
func TestBlast(t *testing.T) {
	packets, long := fromEnv(t, "DNS_BLAST", 1<<62)
	end := time.Now().Add(2 * time.Second)
	// One zone is signed, another may be transferred by one who has the key.
	set, seeds := buildSigned(t, texts(t), modes[0], "direct.example.org", "upper.example", "lower.upper.example"), blastSeeds(t)
	peers := newPeers(t)
	before := resting()

	u, l := listen(t, "127.0.0.1")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	server := dnsserver.New(fixed(set), dnsserver.Options{Peers: func() *dnsserver.Peers { return peers }})
	go func() { done <- server.Serve(ctx, u, l) }()
	addr := l.Addr().String()
	more := func(sent int) bool {
		return sent < packets/2 && (long || time.Now().Before(end))
	}
	var both sync.WaitGroup
	var sent [2]int
	both.Go(func() { sent[0] = blastUDP(t, addr, seeds, more) })
	both.Go(func() { sent[1] = blastTCP(t, addr, seeds, more) })
	both.Wait()

	stats := server.Stats()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	t.Logf("%d packets by UDP and %d by TCP, a good question after every %d; answered %d and %d, silent %d, %v", sent[0], sent[1], everyGood, stats.UDP, stats.TCP, stats.Silent, stats.Results)
	if sent[0] < 2000 || sent[1] < 2000 || stats.TCP < uint64(sent[1])/2 || stats.Results["formerr"] == 0 || stats.Silent == 0 {
		t.Errorf("too little was tried")
	}
	if stats.Results["servfail"] > stats.TCP { // by UDP nothing fails
		t.Errorf("%v", stats.Results)
	}
	after := resting()
	t.Logf("before: %s; after: %s", before, after)
	if after.leaks(before) {
		t.Errorf("more is held than before")
	}
	runtime.KeepAlive(server)
}

const everyGood = 1000 // spoiled packets to a good one

// spoiled is a seed that was spoiled, or now and then is whole: what follows a
// packet must not suffer from it.
func spoiled(r *rand.Rand, seeds [][]byte) []byte {
	seed := seeds[r.IntN(len(seeds))]
	if r.IntN(8) == 0 {
		return seed
	}
	return mutate(r, seed)
}

func blastUDP(t *testing.T, addr string, seeds [][]byte, more func(int) bool) (sent int) {
	conn, err := net.Dial("udp", addr)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer conn.Close()
	r := rand.New(rand.NewPCG(3, 4))
	for ; more(sent); sent++ {
		if sent%64 == 0 {
			time.Sleep(100 * time.Microsecond) // a socket's buffer holds few hundred; what it drops spoils nothing
		}
		if sent%everyGood != 0 {
			_, _ = conn.Write(spoiled(r, seeds)) // an empty packet is fine, a full buffer too
			continue
		}
		if !goodByUDP(t, addr) {
			t.Errorf("a good question by UDP after %d packets is not answered", sent)
			return sent
		}
	}
	return sent
}

// goodByUDP asks as a resolver does: again if a full socket lost the packet.
func goodByUDP(t *testing.T, addr string) bool {
	conn, err := net.Dial("udp", addr)
	if err != nil {
		t.Error(err)
		return false
	}
	defer conn.Close()
	q, buf := ask(t, "direct.example.org.", dns.TypeSOA, 1232), make([]byte, 2048)
	for range 5 {
		if _, err := conn.Write(q); err != nil {
			continue
		}
		conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		if n, err := conn.Read(buf); err == nil {
			return goodSOA(buf[:n])
		}
	}
	return false
}

func goodSOA(b []byte) bool {
	m := new(dns.Msg)
	return m.Unpack(b) == nil && m.Rcode == dns.RcodeSuccess && len(m.Answer) == 1
}

// blastTCP opens connections, sends each some frames, now and then one that is
// cut or has a wrong length, and a good question by a connection of its own.
func blastTCP(t *testing.T, addr string, seeds [][]byte, more func(int) bool) (sent int) {
	r := rand.New(rand.NewPCG(5, 6))
	good := framed(ask(t, "direct.example.org.", dns.TypeSOA, 1232))
	for asked := 0; more(sent); {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Errorf("after %d packets: %v", sent, err)
			return sent
		}
		sent += spoiledFrames(r, conn, seeds, func(n int) bool { return n < everyGood && more(sent+n) })
		if sent/everyGood == asked {
			continue
		}
		asked = sent / everyGood
		if !goodByTCP(addr, good) {
			t.Errorf("a good question by TCP after %d packets is not answered", sent)
			return sent
		}
	}
	return sent
}

// spoiledFrames sends frames on a connection until one has a wrong length and
// three more, of which the server cannot know where they begin.
func spoiledFrames(r *rand.Rand, conn net.Conn, seeds [][]byte, more func(int) bool) (sent int) {
	_ = conn.(*net.TCPConn).SetLinger(0) // leaves no port behind
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(io.Discard, conn)
	}()
	defer func() {
		_ = conn.(*net.TCPConn).CloseWrite() // what was sent is read before the server hangs up
		<-read
		conn.Close()
	}()
	for left := everyGood; left > 0 && more(sent); left-- {
		frame := framed(spoiled(r, seeds))
		if left > 3 && r.IntN(200) == 0 {
			binary.BigEndian.PutUint16(frame, uint16(r.Uint32()))
			left = 4
		}
		if _, err := conn.Write(frame); err != nil {
			break
		}
		sent++
	}
	return sent
}

func goodByTCP(addr string, framed []byte) bool {
	conn, err := net.DialTimeout("tcp", addr, 2*time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	return goodOn(conn, framed)
}

func goodOn(conn net.Conn, framed []byte) bool {
	conn.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := conn.Write(framed); err != nil {
		return false
	}
	m, err := (&dns.Conn{Conn: conn}).ReadMsg()
	return err == nil && m.Rcode == dns.RcodeSuccess && len(m.Answer) == 1
}

// TestSlowClientsHoldUpNobody: clients of many addresses that say nothing, send
// an octet now and then, or do not read, take all the places there are; good
// ones beside them are served. 200 slow clients; DNS_SLOW=2000 for the long run.
func TestSlowClientsHoldUpNobody(t *testing.T) {
	slow, long := fromEnv(t, "DNS_SLOW", 200)
	period := time.Second
	if long {
		period = 10 * time.Second
	}
	addr := start(t, fixed(newSet(t)), dnsserver.Options{Limits: dnsserver.Limits{TCPTotal: max(slow/2, 64), Exempt: []netip.Prefix{}}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	before := served(t, addr, period/2)
	large := framed(ask(t, "txt200.upper.example.", dns.TypeTXT, 0))
	var clients sync.WaitGroup
	defer clients.Wait()
	defer cancel()
	for i := range slow {
		time.Sleep(time.Millisecond) // they are slow, not a flood of connections
		clients.Go(func() {
			slowClient(ctx, addr, netip.AddrFrom4([4]byte{127, 1, byte(i / 8 / 250), byte(1 + i/8%250)}), i%3, large)
		})
	}
	t.Logf("%d slow clients; before them: %s; with them: %s", slow, before, served(t, addr, period))
}

// served asks good questions by connections of their own for a while, of which
// each must be answered, and tells how long that took.
func served(t *testing.T, addr string, period time.Duration) string {
	t.Helper()
	good := framed(ask(t, "direct.example.org.", dns.TypeSOA, 1232))
	var took []time.Duration
	for end := time.Now().Add(period); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		begin := time.Now()
		if !goodByTCP(addr, good) {
			t.Fatalf("good client %d is not served", len(took))
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	return fmt.Sprintf("%d good ones, p50 %s, p99 %s", len(took), took[len(took)/2], took[len(took)*99/100])
}

// slowClient keeps a connection from an address of its own, opens it again when
// it was closed, and does one of three bad things on it.
func slowClient(ctx context.Context, addr string, from netip.Addr, how int, large []byte) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}}
	for ctx.Err() == nil {
		conn, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return
		}
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		switch how {
		case 0: // says nothing
			_, _ = conn.Read(make([]byte, 1))
		case 1: // an octet now and then
			for i := 0; ; i++ {
				if _, err := conn.Write(large[i%len(large) : i%len(large)+1]); err != nil {
					break
				}
				select {
				case <-ctx.Done():
				case <-time.After(300 * time.Millisecond):
				}
			}
		case 2: // asks for much and reads nothing
			_ = conn.(*net.TCPConn).SetReadBuffer(4096)
			_, _ = conn.Write(bytes.Repeat(large, 4))
			<-waitClosed(ctx, conn)
		}
		stop()
		conn.Close()
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// waitClosed is closed when ctx ends or writing fails, since the server is gone.
func waitClosed(ctx context.Context, conn net.Conn) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if _, err := conn.Write([]byte{0}); err != nil {
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	return done
}

// TestCapsHoldAgainstOneNetwork: one network that takes all the places it gets
// leaves the others to the rest.
func TestCapsHoldAgainstOneNetwork(t *testing.T) {
	addr := start(t, fixed(newSet(t)), dnsserver.Options{Limits: dnsserver.Limits{TCPPerAddress: 4, TCPPerNetwork: 16, TCPTotal: 64, Exempt: []netip.Prefix{}}})
	good := framed(ask(t, "direct.example.org.", dns.TypeSOA, 1232))
	kept := 0
	for i := range 100 {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(fmt.Sprintf("127.2.0.%d", 1+i%10))}}
		conn, err := d.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if goodOn(conn, good) {
			kept++
		}
	}
	if kept != 16 {
		t.Errorf("one network has %d connections, want 16", kept)
	}
	if !goodByTCP(addr, good) {
		t.Error("another network is not served")
	}
}
