package ldapserver_test

import (
	"bytes"
	"context"
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
	"strings"
	"sync"
	"testing"
	"time"

	"directnode/internal/ber"
	"directnode/ldapserver"
	"directnode/ldapserver/dit"
)

// fromEnv is a number that makes a test longer, def without it.
func fromEnv(t testing.TB, name string, def int) (n int, given bool) {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return def, false
	}
	n, err := strconv.Atoi(s)
	if err != nil || n <= 0 {
		t.Fatalf("%s=%s is no number", name, s)
	}
	return n, true
}

// holding is what a process holds when nothing goes on.
type holding struct {
	goroutines, descriptors int // descriptors are 0 where the system does not tell
	heap, resident          int // octets
}

func (h holding) String() string {
	return fmt.Sprintf("%d goroutines, %d descriptors, %d KiB of heap, %d KiB resident", h.goroutines, h.descriptors, h.heap>>10, h.resident>>10)
}

// resting waits until goroutines and descriptors are no more than want, or do
// not become fewer: they end a moment after what they have closed.
func resting(want holding) (h holding) {
	for range 300 {
		h.goroutines, h.descriptors = runtime.NumGoroutine(), 0
		if open, err := os.ReadDir("/proc/self/fd"); err == nil {
			h.descriptors = len(open)
		}
		if h.goroutines <= want.goroutines && h.descriptors <= want.descriptors {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	runtime.GC() // what has a finalizer, or lies in a pool, goes with the second and third collection
	runtime.GC()
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

// restingNow is what is held before a test begins.
func restingNow() holding {
	time.Sleep(50 * time.Millisecond) // what the tests before closed
	return resting(holding{goroutines: 1 << 30, descriptors: 1 << 30})
}

// leaks tells whether more is held than before. The runtime keeps the stacks
// and the spans of its busiest moment for a while, so that resident memory has
// more room.
func (h holding) leaks(before holding) bool {
	return h.goroutines > before.goroutines || h.descriptors > before.descriptors || h.heap > before.heap+8<<20 || h.resident > before.resident+64<<20
}

// served is a server whose end a test waits for itself.
type served struct {
	*ldapserver.Server
	addr string
	stop func()
}

func serveUntil(t *testing.T, tr *dit.Tree, o ldapserver.Options) served {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	s := ldapserver.New(func() *dit.Tree { return tr }, o)
	go func() { done <- s.Serve(ctx, l) }()
	return served{s, l.Addr().String(), func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}}
}

// seeds are good messages of every kind, to be spoiled.
func seeds() (all [][]byte) {
	known := equal("mail", "bob@b.direct.test")
	certificate := or(present("userCertificate;binary"), present("userCertificate"))
	for _, f := range [][]byte{
		nil, known, and(known, certificate), or(known, equal("mail", "b.direct.test")), not(known), and(known, substrings("cn", "b", "o", "t")),
		and(known, assertion(5, "sn", "a"), assertion(6, "cn", "z")), and(known, assertion(8, "uid", "bob")), and(), or(),
		and(known, set(9, ber.AppendTLV(nil, ber.Context(1, false), []byte("caseIgnoreMatch")), ber.AppendTLV(nil, ber.Context(2, false), []byte("cn")), ber.AppendTLV(nil, ber.Context(3, false), []byte("bob@b.direct.test")), []byte("\x84\x01\xff"))),
	} {
		for _, base := range []string{"", top, bobDN, "cn=Subschema", `UID=#040362 6f62 + cn="x\,y" ; dc=b`} {
			for scope := range int64(3) {
				all = append(all, ask{base: base, scope: scope, filter: f, attributes: []string{"userCertificate;binary", "cn", "1.1"}}.pdu(scope+1))
			}
		}
	}
	page := control("1.2.840.113556.1.4.319", false, "\x30\x05\x02\x01\x0a\x04\x00")
	for _, c := range [][]byte{page, control("1.2.840.113556.1.4.319", true, "\x30\x09\x02\x01\x01\x04\x04abcd"), control(dit.OIDManageDsaIT, true, ""), control("1.2.3", false, "x")} {
		all = append(all, ask{base: top, scope: 2, filter: known, controls: [][]byte{c}, size: 1, seconds: 1, typesOnly: true, attributes: []string{"*", "+"}}.pdu(300))
	}
	return append(all, otherSeeds()...)
}

// otherSeeds are the requests that are no searches.
func otherSeeds() [][]byte {
	named := func(tag uint32, more func(b *ber.Builder)) []byte {
		return envelope(70000, func(b *ber.Builder) {
			b.Begin(ber.App(tag, true))
			b.Text(ber.OctetString, bobDN)
			more(b)
			b.End()
		}, control(dit.OIDManageDsaIT, false, ""))
	}
	list := func(b *ber.Builder) {
		b.Begin(ber.Sequence)
		b.Text(ber.OctetString, "mail")
		b.Text(ber.OctetString, "bob@b.direct.test")
		b.End()
	}
	return [][]byte{
		bind(1, 3, "", ""), bind(2, 2, "", ""), bind(3, 3, "cn=admin", "secret"), whoAmI(4), extended(5, dit.OIDStartTLS), extended(6, "1.3.6.1.1.8"),
		named(14, list), named(6, list), named(8, list), named(12, func(b *ber.Builder) { b.Text(ber.OctetString, "uid=x"); b.Bool(ber.Boolean, true) }),
		envelope(1<<31-1, func(b *ber.Builder) { b.Text(ber.App(10, false), bobDN) }),
		envelope(9, func(b *ber.Builder) { b.Int(ber.App(16, false), 3) }),
		envelope(10, func(b *ber.Builder) {
			b.Begin(ber.App(23, true))
			b.Text(ber.Context(0, false), "1.3.6.1.1.8")
			b.Bytes(ber.Context(1, false), []byte("\x30\x03\x02\x01\x03"))
			b.End()
		}),
		envelope(11, func(b *ber.Builder) {
			b.Begin(ber.App(0, true))
			b.Int(ber.Integer, 3)
			b.Text(ber.OctetString, "")
			b.Begin(ber.Context(3, true))
			b.Text(ber.OctetString, "GSSAPI")
			b.Text(ber.OctetString, "token")
			b.End()
			b.End()
		}),
		envelope(12, func(b *ber.Builder) { b.Bytes(ber.App(2, false), nil) }),
	}
}

// spoil changes a message: octets, lengths, pieces taken out, doubled, put
// elsewhere or taken from another message; most of the time the outer length is
// put right afterwards, so that the inner parts are read at all.
func spoil(r *rand.Rand, seeds [][]byte) []byte {
	b := bytes.Clone(seeds[r.IntN(len(seeds))])
	head := 2
	if b[1] >= 0x80 {
		head += int(b[1] & 0x7f)
	}
	reframe := r.IntN(8) != 0
	if reframe {
		b = b[head:]
	}
	for range []int{1, 1, 1, 2, 4}[r.IntN(5)] {
		if len(b) == 0 {
			break
		}
		i := r.IntN(len(b))
		n := min(1+r.IntN(12), len(b)-i)
		switch r.IntN(14) {
		default: // the text inside of values, so that the message stays one
			for range 8 {
				if k := r.IntN(len(b)); b[k] > ' ' && b[k] < 0x7f {
					b[k] = spoilers[r.IntN(len(spoilers))]
					break
				}
			}
		case 0:
			b[i] ^= 1 << r.IntN(8)
		case 1:
			b[i] = []byte{0, 1, 0x30, 0x7f, 0x80, 0x81, 0x84, 0xff, 0x04, 0xa0, 0xa2, 0xa3}[r.IntN(12)]
		case 2:
			b[i] += byte(r.IntN(5)) - 2
		case 3:
			b = slices.Delete(b, i, i+n)
		case 4:
			b = slices.Insert(b, i, bytes.Clone(b[i:i+n])...)
		case 5:
			other := seeds[r.IntN(len(seeds))]
			k := r.IntN(len(other))
			b = slices.Insert(b, i, other[k:min(k+n, len(other))]...)
		case 6:
			b = b[:i]
		case 7:
			b = slices.Insert(b, i, ber.AppendHeader(nil, ber.Tag{Class: ber.Class(r.IntN(4)), Number: uint32(r.IntN(30)), Constructed: r.IntN(2) == 0}, r.IntN(1<<r.IntN(17)))...)
		}
	}
	if reframe {
		b = ber.AppendTLV(nil, ber.Sequence, b)
	}
	return b
}

// spoilers are octets that mean something somewhere.
const spoilers = "*@.,=\\+;#\"aZ0 \x00\xff"

const everyGood = 1000 // spoiled messages to a good search

// TestBlast throws spoiled messages at a real socket, and searches between them
// again and again on a connection that stays and on one that is new: all of
// these find what they look for, and in the end the server holds no more than
// before. One second; LDAP_BLAST=N sends N messages, however long that takes.
func TestBlast(t *testing.T) {
	messages, long := fromEnv(t, "LDAP_BLAST", 1<<62)
	end := time.Now().Add(time.Second)
	tr, all := world(t, dit.Options{StartTLS: true}), seeds()
	certificate, _ := certificates(t)
	before := restingNow()
	s := serveUntil(t, tr, ldapserver.Options{TLS: certificate})
	const throwers = 2
	more := func(sent int) bool {
		return sent < messages/throwers && (long || sent <= everyGood || time.Now().Before(end))
	}
	var sent [throwers]int
	var both sync.WaitGroup
	for i := range sent {
		both.Go(func() { sent[i] = blast(t, s.addr, rand.New(rand.NewPCG(7, uint64(i))), all, more) })
	}
	both.Wait()
	s.stop()
	results := s.Results()
	total := sent[0] + sent[1]
	t.Logf("%d messages, a good search after every %d; results %v", total, everyGood, results)
	served := uint64(0)
	for _, n := range results {
		served += n
	}
	if total < 2*everyGood || served < uint64(total)/5 || results[0] == 0 || results[2] == 0 || results[53] == 0 {
		t.Error("too little was tried")
	}
	if n := results[80]; n > 0 {
		t.Errorf("%d internal errors", n)
	}
	after := resting(before)
	t.Logf("before: %s; after: %s", before, after)
	if after.leaks(before) {
		t.Error("more is held than before")
	}
	runtime.KeepAlive(s.Server)
}

// blast sends messages on connection after connection: each carries messages
// until the server hangs up or a hundred are sent.
func blast(t *testing.T, addr string, r *rand.Rand, all [][]byte, more func(int) bool) (sent int) {
	kept, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer func() { kept.Close() }()
	for asked := 0; more(sent); {
		n, err := blastConnection(addr, r, all)
		sent += n
		if err != nil {
			t.Errorf("after %d messages: %v", sent, err)
			return sent
		}
		if sent/everyGood == asked {
			continue
		}
		asked = sent / everyGood
		kept.SetDeadline(time.Now().Add(30 * time.Second))
		if err := goodSearch(wire{t, kept}); err != nil {
			t.Errorf("after %d messages a connection that was good is not served: %v", sent, err)
			return sent
		}
		fresh, err := net.Dial("tcp", addr)
		if err != nil {
			t.Errorf("after %d messages: %v", sent, err)
			return sent
		}
		fresh.SetDeadline(time.Now().Add(30 * time.Second))
		err = goodSearch(wire{t, fresh})
		fresh.Close()
		if err != nil {
			t.Errorf("after %d messages a new connection is not served: %v", sent, err)
			return sent
		}
	}
	return sent
}

// blastConnection sends one connection's few messages: the server does not see
// those behind one that makes it hang up.
func blastConnection(addr string, r *rand.Rand, all [][]byte) (sent int, err error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	_ = conn.(*net.TCPConn).SetLinger(0) // leaves no port behind
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	defer conn.Close()
	read := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, conn)
		read <- timedOut(err)
	}()
	var segment []byte
	for range 6 {
		if r.IntN(6) == 0 { // what follows a spoiled message must not suffer
			segment = append(segment, all[r.IntN(len(all))]...)
			continue
		}
		segment = append(segment, spoil(r, all)...)
		sent++
	}
	if _, err := conn.Write(segment); err != nil {
		return sent, err
	}
	_ = conn.(*net.TCPConn).CloseWrite()
	return sent, <-read // the server hangs up
}

// TestSlowClientsHoldUpNobody: clients of many addresses that say nothing, send
// an octet now and then, leave a message or a handshake half done, or do not
// read, take places for as long as they get; good searches beside them are all
// answered, and in the end nothing is left of them. 240 slow clients;
// LDAP_SLOW=4000 for the long run.
func TestSlowClientsHoldUpNobody(t *testing.T) {
	slow, long := fromEnv(t, "LDAP_SLOW", 240)
	period := 500 * time.Millisecond
	if long {
		period = 10 * time.Second
	}
	large := published(t, dit.Options{StartTLS: true}, "b.direct.test=ORG", "bob@b.direct.test=BOB-2", "carol@b.direct.test="+strings.Repeat("c", 20000))
	certificate, _ := certificates(t)
	before := restingNow()
	// The slow clients are limited as the defaults say, eight connections for each of
	// their addresses; the good one searches more often than one address may.
	s := serveUntil(t, large, ldapserver.Options{TLS: certificate, Exempt: []netip.Prefix{netip.MustParsePrefix("127.3.0.0/16")}})
	alone := goodSearches(t, s.addr, period)
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	var open [slowKinds]int
	for i := range slow {
		if i%20 == 0 {
			time.Sleep(5 * time.Millisecond) // they are slow, not a flood of connections
		}
		open[i%slowKinds]++
		clients.Go(func() { slowClient(ctx, s.addr, net.IPv4(127, 1, byte(i/8/250), byte(1+i/8%250)), i%slowKinds) })
	}
	during := holdingNow()
	beside := goodSearches(t, s.addr, period)
	cancel()
	clients.Wait()
	s.stop()
	after := resting(before)
	t.Logf("%d slow clients, %d of each kind; good searches without them: %s; beside them: %s", slow, open[0], alone, beside)
	t.Logf("before: %s; with them: %s; after: %s", before, during, after)
	if after.leaks(before) {
		t.Error("more is held than before")
	}
	runtime.KeepAlive(s.Server)
}

func holdingNow() holding { return resting(holding{goroutines: 1 << 30, descriptors: 1 << 30}) }

// goodSearches searches for a while, on a connection that is kept and on new
// ones, each from an address of its own; every search must find bob. It tells
// how long that took.
func goodSearches(t *testing.T, addr string, period time.Duration) string {
	t.Helper()
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 3, 0, 1)}}
	connect := func() wire {
		c, err := from.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(30 * time.Second))
		return wire{t, c}
	}
	kept := connect()
	defer kept.Close()
	var took []time.Duration
	for end := time.Now().Add(period); time.Now().Before(end) || len(took) < 50; time.Sleep(2 * time.Millisecond) {
		begin := time.Now()
		if err := goodSearch(kept); err != nil {
			t.Fatalf("good search %d is not answered: %v", len(took), err)
		}
		took = append(took, time.Since(begin))
		if len(took)%10 == 0 {
			fresh := connect()
			if err := goodSearch(fresh); err != nil {
				t.Fatalf("a new connection is not served after %d good searches: %v", len(took), err)
			}
			fresh.Close()
		}
	}
	slices.Sort(took)
	return fmt.Sprintf("%d, p50 %s, p99 %s", len(took), took[len(took)/2], took[len(took)*99/100])
}

const slowKinds = 5

// slowClient keeps a connection from an address of its own, opens it again when
// it was closed, and does one of five bad things on it.
func slowClient(ctx context.Context, addr string, from net.IP, kind int) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}
	request := ask{base: top, scope: 2, filter: equal("mail", "carol@b.direct.test")}.pdu(1)
	for ctx.Err() == nil {
		conn, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return
		}
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		switch kind {
		case 0: // says nothing
		case 1: // an octet now and then
			for i := 0; ctx.Err() == nil; i++ {
				if _, err := conn.Write(request[i%len(request) : i%len(request)+1]); err != nil {
					break
				}
				pause(ctx, 300*time.Millisecond)
			}
		case 2: // half a message
			_, _ = conn.Write(request[:len(request)-1])
		case 3: // a handshake that does not come
			_, _ = conn.Write(extended(1, dit.OIDStartTLS))
		case 4: // asks for much and reads nothing
			_ = conn.(*net.TCPConn).SetReadBuffer(4096)
			_, _ = conn.Write(bytes.Repeat(request, 40))
			for ctx.Err() == nil {
				if _, err := conn.Write(request); err != nil {
					break
				}
				pause(ctx, 300*time.Millisecond)
			}
		}
		_, _ = io.Copy(io.Discard, conn)
		stop()
		conn.Close()
		pause(ctx, 500*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// TestBlastWithoutSockets gives spoiled messages to a session: the answers are
// whole messages, none says that something went wrong inside, a good search
// after every thousand finds what it looks for, and nothing is held in the end.
// Half a second; LDAP_BLAST=N gives N messages.
func TestBlastWithoutSockets(t *testing.T) {
	messages, long := fromEnv(t, "LDAP_BLAST", 1<<62)
	end := time.Now().Add(time.Second / 2)
	s, all, r := ldapserver.NewSession(world(t, dit.Options{}), ldapserver.Options{}), seeds(), rand.New(rand.NewPCG(8, 9))
	good := ask{base: top, scope: 2, filter: equal("mail", "bob@b.direct.test")}.pdu(7)
	before := restingNow()
	sent, ended := 0, 0
	for ; sent < messages && (long || sent%everyGood != 0 || time.Now().Before(end)); sent++ {
		pdu := spoil(r, all)
		answers, over := s.Handle(pdu, time.Unix(int64(sent), 0))
		if err := wholeAnswers(answers); err != nil {
			t.Fatalf("message %x: %v in %x", pdu, err, answers)
		}
		if over {
			ended++
		}
		if sent%everyGood != 0 {
			continue
		}
		if answers, over = s.Handle(good, time.Unix(int64(sent), 0)); over || !bytes.Contains(answers, []byte("BOB-2")) {
			t.Fatalf("after %d messages a good search is answered %x", sent, answers)
		}
	}
	results := s.Results()
	t.Logf("%d messages, %d ended the connection; results %v", sent, ended, results)
	if results[80] > 0 || results[0] == 0 || results[2] == 0 || ended == sent {
		t.Errorf("results %v", results)
	}
	if after := resting(before); after.leaks(before) {
		t.Errorf("before: %s; after: %s", before, after)
	}
	runtime.KeepAlive(s)
}

// wholeAnswers tells what is wrong with the framing of answers.
func wholeAnswers(b []byte) error {
	for len(b) > 0 {
		n, err := ber.FrameLength(b, len(b))
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
