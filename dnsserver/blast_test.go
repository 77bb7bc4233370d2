package dnsserver_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
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

// resting is what a process holds when nothing goes on.
func resting() (goroutines int, heap uint64) {
	var m runtime.MemStats
	for range 100 { // goroutines end a moment after what they have closed
		time.Sleep(10 * time.Millisecond)
		n := runtime.NumGoroutine()
		if n == goroutines {
			break
		}
		goroutines = n
	}
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return goroutines, m.HeapAlloc
}

// blastSeeds are good questions of many kinds, to be spoiled.
func blastSeeds(t *testing.T) (seeds [][]byte) {
	for _, name := range []string{"direct.example.org.", "bob.direct.example.org.", "robert.direct.example.org.", "x.y.sub.structure.example.", "ring1.structure.example.", "a.wild.structure.example.", "mx.upper.example.", "txt200.upper.example.", "nowhere.example."} {
		for _, qtype := range []uint16{dns.TypeCERT, dns.TypeA, dns.TypeMX, dns.TypeANY, dns.TypeTXT, dns.TypeDS} {
			seeds = append(seeds, ask(t, name, qtype, 0), ask(t, name, qtype, 1232), askWith(t, name, qtype, 4096, clientCookie+"00112233445566778899aabbccddeeff"))
		}
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
	set, seeds := newSet(t), blastSeeds(t)
	goroutines, heap := resting()

	u, l := listen(t, "127.0.0.1")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	server := dnsserver.New(fixed(set), dnsserver.Options{})
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
	t.Logf("%d packets by UDP, %d by TCP; answered %d and %d, silent %d, %v", sent[0], sent[1], stats.UDP, stats.TCP, stats.Silent, stats.Results)
	if sent[0] < 2000 || sent[1] < 2000 || stats.Results["formerr"] == 0 || stats.Silent == 0 {
		t.Errorf("too little was tried")
	}
	if stats.Results["servfail"] > stats.TCP { // by UDP nothing fails
		t.Errorf("%v", stats.Results)
	}
	after, size := resting()
	if after > goroutines || int64(size)-int64(heap) > 16<<20 {
		t.Errorf("%d goroutines and %d KiB before, %d and %d after", goroutines, heap>>10, after, size>>10)
	}
	runtime.KeepAlive(server)
}

const everyGood = 1000 // spoiled packets to a good one

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
			_, _ = conn.Write(mutate(r, seeds[r.IntN(len(seeds))])) // an empty packet is fine, a full buffer too
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
	for more(sent) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Errorf("after %d packets: %v", sent, err)
			return sent
		}
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		go func() { _, _ = bytes.NewBuffer(nil).ReadFrom(conn) }() // ends with the connection
		for i := 0; i < everyGood && more(sent); i++ {
			frame := framed(mutate(r, seeds[r.IntN(len(seeds))]))
			if r.IntN(200) == 0 {
				binary.BigEndian.PutUint16(frame, uint16(r.Uint32())) // from here on all is garbage
			}
			if _, err := conn.Write(frame); err != nil {
				break
			}
			sent++
		}
		conn.Close()
		if !goodByTCP(addr, good) {
			t.Errorf("a good question by TCP after %d packets is not answered", sent)
			return sent
		}
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
	slow, _ := fromEnv(t, "DNS_SLOW", 200)
	addr := start(t, fixed(newSet(t)), dnsserver.Options{Limits: dnsserver.Limits{TCPTotal: max(slow/2, 64), Exempt: []netip.Prefix{}}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
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
	good := framed(ask(t, "direct.example.org.", dns.TypeSOA, 1232))
	var took []time.Duration
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		begin := time.Now()
		if !goodByTCP(addr, good) {
			t.Fatalf("good client %d is not served", len(took))
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	p99 := took[len(took)*99/100]
	t.Logf("%d slow clients, %d good ones: p50 %s, p99 %s", slow, len(took), took[len(took)/2], p99)
	if p99 > 500*time.Millisecond {
		t.Errorf("a good client waits %s (p99)", p99)
	}
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
