package ldapserver_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"directnode/internal/ber"
	"directnode/ldapserver"
	"directnode/ldapserver/dit"
)

// bomb is what a hostile client sends: a text that has exhausted other
// decoders, repeated as often as it says.
type bomb struct {
	name  string
	part  []byte
	times int  // how often part is sent
	cut   bool // the connection must end; after the others it goes on
}

// announced is a message that begins with content and promises length octets.
func announced(length uint32, content string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{0x30, 0x84}, length)
	return append(b, content...)
}

// nested is a filter of sets in one another, each with a definite length.
func nested(tag uint32, depth int, inner []byte) []byte {
	headers, size := make([][]byte, depth), len(inner)
	for i := range headers {
		headers[depth-1-i] = ber.AppendHeader(nil, ber.Context(tag, true), size)
		size += len(headers[depth-1-i])
	}
	return append(slices.Concat(headers...), inner...)
}

// bombs is the whole set. Whatever is decided by its octets is in it; what is
// decided by waiting is in TestHalfMessages….
func bombs() []bomb {
	good := ask{base: top, scope: 2, filter: equal("mail", "bob@b.direct.test")}
	abandon := func(id, of int64) []byte {
		return envelope(id, func(b *ber.Builder) { b.Int(ber.App(16, false), of) })
	}
	var chased []byte // searches, each abandoned right behind it
	for id := range int64(64) {
		chased = append(append(chased, good.pdu(2*id+1)...), abandon(2*id+2, 2*id+1)...)
	}
	rule := func(name, value string) []byte {
		content := ber.AppendTLV(nil, ber.Context(1, false), []byte(name))
		return ber.AppendTLV(nil, ber.Context(9, true), ber.AppendTLV(content, ber.Context(3, false), []byte(value)))
	}
	const bySubstrings = "caseIgnoreSubstringsMatch"
	many := func(n int, pdu func(id int64) []byte) (all []byte) {
		for id := range int64(n) {
			all = append(all, pdu(id+1)...)
		}
		return all
	}
	return []bomb{
		{"length of 2^31-1", announced(1<<31-1, "\x02\x01\x01"), 1, true},
		{"length of 2^32-1", announced(1<<32-1, "\x02\x01\x01"), 1, true},
		{"length of 2^31", announced(1<<31, ""), 1, true},
		{"length of 64 KiB and one", announced(64<<10-5, "\x02\x01\x01"), 1, true},
		{"length of eight octets", []byte("\x30\x88\x7f\xff\xff\xff\xff\xff\xff\xff"), 1, true},
		{"length of 126 octets", append([]byte{0x30, 0xfe}, bytes.Repeat([]byte{0xff}, 126)...), 1, true},
		{"length 2^31-1, and as much as goes", slices.Concat(announced(1<<31-1, ""), make([]byte, 64<<10)), 1, true},
		{"indefinite message", []byte("\x30\x80\x02\x01\x01"), 1, true},
		{"indefinite in indefinite", []byte("\x30\x80"), 100000, true},
		{"indefinite operation", []byte("\x30\x09\x02\x01\x01\x63\x80\x00\x00\x00\x00"), 1, true},
		{"indefinite in indefinite, in a message", ber.AppendTLV(nil, ber.Sequence, slices.Concat([]byte("\x02\x01\x01"), bytes.Repeat([]byte{0x63, 0x80}, 30000))), 1, true},
		{"indefinite filters in a message", ask{filter: bytes.Repeat([]byte{0xa0, 0x80}, 28000)}.pdu(1), 1, true},
		{"name of 4 GiB inside a message", ber.AppendTLV(nil, ber.Sequence, []byte("\x02\x01\x01\x63\x08\x04\x84\xff\xff\xff\xff\x64\x63")), 1, true},
		{"name of 2 GiB inside a message", ber.AppendTLV(nil, ber.Sequence, []byte("\x02\x01\x01\x63\x08\x04\x84\x7f\xff\xff\xff\x64\x63")), 1, true},
		{"message id of 60,000 octets", ber.AppendTLV(nil, ber.Sequence, slices.Concat(ber.AppendTLV(nil, ber.Integer, make([]byte, 60000)), []byte("\x42\x00"))), 1, true},
		{"32,000 NULLs", ber.AppendTLV(nil, ber.Sequence, bytes.Repeat([]byte{5, 0}, 32000)), 1, true},
		{"32,000 NULLs behind an operation", ber.AppendTLV(nil, ber.Sequence, slices.Concat([]byte("\x02\x01\x01\x42\x00"), bytes.Repeat([]byte{5, 0}, 32000))), 1, true},
		{"zeroes", make([]byte, 64<<10), 16, true},
		{"ones", bytes.Repeat([]byte{0xff}, 64<<10), 16, true},
		{"text", bytes.Repeat([]byte("GET / HTTP/1.1\r\n"), 4096), 1, true},
		{"tag of many octets", append([]byte{0x3f}, bytes.Repeat([]byte{0x81}, 60000)...), 1, true},
		{"tag of many octets inside", ber.AppendTLV(nil, ber.Sequence, append([]byte("\x02\x01\x01\x7f"), bytes.Repeat([]byte{0x81}, 60000)...)), 1, true},

		{"NOT, 10,000 deep", ask{filter: nested(2, 10000, present("cn"))}.pdu(1), 1, false},
		{"AND, 10,000 deep", ask{filter: nested(0, 10000, present("cn"))}.pdu(1), 1, false},
		{"OR, 10,000 deep", ask{filter: nested(1, 10000, present("cn"))}.pdu(1), 1, false},
		{"empty AND in AND, 10,000 deep", ask{filter: nested(0, 10000, nil)}.pdu(1), 1, false},
		{"a filter of 16,000 items", ask{filter: and(slices.Repeat([][]byte{present("cn")}, 16000)...)}.pdu(1), 1, false},
		{"an OR of 2,000 addresses", ask{scope: 2, filter: or(slices.Repeat([][]byte{equal("mail", "bob@b.direct.test")}, 2000)...)}.pdu(1), 1, false},
		{"16,000 substrings", ask{filter: substrings("cn", slices.Repeat([]string{"a"}, 16000)...)}.pdu(1), 1, false},
		{"30,000 attributes", ask{attributes: slices.Repeat([]string{""}, 30000)}.pdu(1), 1, false},
		{"a name of 60,000 octets", ask{base: strings.Repeat("dc=x,", 12000)}.pdu(1), 1, false},
		{"a name of 60,000 backslashes", ask{base: "cn=" + strings.Repeat(`\`, 60000)}.pdu(1), 1, false},
		{"a name of 2,000 octets in many values", ask{base: strings.Repeat("cn=x+", 399) + "cn=x"}.pdu(1), 1, false},
		{"a name of 2,000 octets in hexadecimal", ask{base: "cn=#" + strings.Repeat("24", 900)}.pdu(1), 1, false},
		{"an assertion of 60,000 octets", ask{base: top, scope: 2, filter: equal("mail", strings.Repeat(" x", 30000))}.pdu(1), 1, false},
		{"an assertion of 60,000 spaces", ask{base: top, scope: 2, filter: and(equal("mail", "bob@b.direct.test"), equal("cn", strings.Repeat(" ", 60000)))}.pdu(1), 1, false},
		{"substrings of 60,000 spaces", ask{base: top, scope: 2, filter: and(equal("mail", "bob@b.direct.test"), substrings("cn", strings.Repeat(" ", 20000), strings.Repeat(" ", 20000), strings.Repeat("b ", 10000)))}.pdu(1), 1, false},
		{"60,000 asterisks by rule", ask{base: "cn=Subschema", filter: rule(bySubstrings, strings.Repeat("*", 60000))}.pdu(1), 1, false},
		{"thirty times 2,000 asterisks by rule", ask{base: "cn=Subschema", filter: or(slices.Repeat([][]byte{rule(bySubstrings, strings.Repeat("*", 2000))}, 30)...)}.pdu(1), 1, false},
		{"20,000 escapes by rule", ask{base: "cn=Subschema", filter: rule(bySubstrings, "*"+strings.Repeat(`\5c`, 10000)+strings.Repeat(`\2a`, 10000)+"*")}.pdu(1), 1, false},
		{"60,000 spaces by rule", ask{base: "cn=Subschema", filter: rule(bySubstrings, strings.Repeat(" x", 30000)+"*")}.pdu(1), 1, false},
		{"a rule of 60,000 octets", ask{filter: rule(strings.Repeat("x", 60000), "x")}.pdu(1), 1, false},
		{"thirty rules with the attributes of the name", ask{base: bobDN, filter: or(slices.Repeat([][]byte{set(9, ber.AppendTLV(nil, ber.Context(2, false), []byte("dc")), ber.AppendTLV(nil, ber.Context(3, false), []byte(strings.Repeat("x", 2000))), []byte("\x84\x01\xff"))}, 30)...)}.pdu(1), 1, false},
		{"a class of 60,000 octets", ask{filter: equal("objectClass", strings.Repeat("x", 60000))}.pdu(1), 1, false},
		{"an attribute of 60,000 octets", ask{filter: present(strings.Repeat("x;", 30000))}.pdu(1), 1, false},
		{"a selection of 60,000 octets", ask{attributes: []string{strings.Repeat("x;", 30000)}}.pdu(1), 1, false},
		{"4,000 controls", ask{controls: slices.Repeat([][]byte{control("1.2.3.4", false, "")}, 4000)}.pdu(1), 1, false},
		{"a control of 60,000 octets", ask{controls: [][]byte{control("1.2.840.113556.1.4.319", false, strings.Repeat("\x30", 60000))}}.pdu(1), 1, false},
		{"a bind name of 60,000 octets", bind(1, 3, strings.Repeat("x", 60000), "x"), 1, false},
		{"a password of 60,000 octets", bind(1, 3, "cn=x", strings.Repeat("x", 60000)), 1, false},
		{"an extended name of 60,000 octets", extended(1, strings.Repeat("1.", 30000)), 1, false},
		{"65,536 pipelined searches", many(64, good.pdu), 1024, false},
		{"16,384 pipelined searches that find nothing", many(64, ask{base: top, scope: 2, filter: equal("mail", "nobody@b.direct.test")}.pdu), 256, false},
		{"16,384 reads of the schema", many(64, ask{base: "cn=Subschema", attributes: []string{"1.1"}}.pdu), 256, false},
		{"16,384 binds", many(64, func(id int64) []byte { return bind(id, 3, "", "") }), 256, false},
		{"65,536 abandons", many(64, func(id int64) []byte { return abandon(id, 77) }), 1024, false},
		{"16,384 searches, each abandoned", chased, 256, false},
		{"16,384 messages with one number", slices.Repeat(whoAmI(1), 64), 256, false},
	}
}

// throw sends a bomb, then a good request, and reads whatever comes until the
// good answer or the end. It tells whether the connection still served.
func throw(w wire, b bomb) (alive bool, err error) {
	sent := make(chan error, 1)
	go func() {
		for range b.times {
			if _, err := w.Write(b.part); err != nil {
				sent <- nil // cut off in the middle
				return
			}
		}
		_, _ = w.Write(whoAmI(999999))
		sent <- nil
	}()
	alive, err = lastAnswer(w)
	if !alive {
		w.Close() // or the sender waits for a reader that is gone
	}
	return alive, errors.Join(err, <-sent)
}

// lastAnswer reads up to the answer with number 999999 without keeping anything,
// so that the memory that is measured is the server's.
func lastAnswer(w wire) (bool, error) {
	buf, have := make([]byte, 64<<10), 0
	for {
		n, err := w.Read(buf[have:])
		if err != nil {
			return false, timedOut(err)
		}
		for have += n; ; {
			size, err := ber.FrameLength(buf[:have], len(buf))
			if errors.Is(err, ber.ErrShort) || err == nil && size > have {
				break
			}
			if err != nil {
				return false, fmt.Errorf("an answer that is no message: %w", err)
			}
			if bytes.Contains(buf[:min(size, 12)], []byte("\x02\x03\x0f\x42\x3f")) {
				return true, nil
			}
			have = copy(buf, buf[size:have])
		}
	}
}

// timedOut keeps the error that matters: how a server cuts off differs.
func timedOut(err error) error {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return errors.New("neither answered nor cut off")
	}
	return nil
}

// TestBombsAreAnsweredOrCutOffAtOnce throws every bomb in fake time, which
// stands still while anybody works: what takes any time here has waited.
func TestBombsAreAnsweredOrCutOffAtOnce(t *testing.T) {
	for _, b := range bombs() {
		t.Run(b.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				connect, stop := inMemory(t, ldapserver.Options{})
				defer stop()
				neighbour := connect()
				neighbour.alive()
				w := connect()
				began := time.Now()
				alive, err := throw(w, b)
				if err != nil || alive == b.cut {
					t.Errorf("the connection serves: %v, want %v; %v", alive, !b.cut, err)
				}
				if took := time.Since(began); took >= time.Second {
					t.Errorf("took %v", took)
				}
				neighbour.alive()
				neighbour.Close()
				w.Close()
			})
		})
	}
}

// inMemory serves the world on pipes. It works in fake time.
func inMemory(t *testing.T, o ldapserver.Options) (connect func() wire, stop func()) {
	tr := world(t, dit.Options{})
	p := pipes{make(chan net.Conn), make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- ldapserver.New(func() *dit.Tree { return tr }, o).Serve(ctx, p) }()
	connect = func() wire {
		ours, theirs := net.Pipe()
		p.conns <- theirs
		return wire{t, ours}
	}
	return connect, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
}

// maxGrowth is how much of the heap one connection may have at any time.
const maxGrowth = 256 << 10

// heapWatch samples the live heap: it collects, so that garbage does not count.
type heapWatch struct {
	base, peak uint64
	stop, done chan struct{}
}

func liveHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func watchHeap() *heapWatch {
	h := &heapWatch{base: liveHeap(), stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(h.done)
		for {
			h.peak = max(h.peak, liveHeap())
			select {
			case <-h.stop:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	return h
}

// growth ends the watch and gives the most that was held above the beginning.
func (h *heapWatch) growth() int {
	close(h.stop)
	<-h.done
	return int(h.peak) - int(h.base)
}

// TestBombsStayWithinTheirMemory throws each bomb on many connections at once
// and samples the heap, while a neighbour on a connection of its own searches
// and must be answered every time.
func TestBombsStayWithinTheirMemory(t *testing.T) {
	const together = 8
	o := ldapserver.Options{PDUTimeout: time.Minute, IdleTimeout: time.Minute}
	addr := start(t, world(t, dit.Options{}), o)
	for _, b := range bombs() {
		if b.times > 64 {
			b.times = max(32, b.times/8) // with 8 connections it is one bomb all the same
		}
		stopNeighbour := goodNeighbour(t, addr)
		wires := make([]wire, together)
		for i := range wires {
			wires[i] = dial(t, addr)
			wires[i].SetDeadline(time.Now().Add(time.Minute)) // only a server that hangs needs it
		}
		// A client's buffers here are 64 KiB, which is not the server's.
		heap := watchHeap()
		var all sync.WaitGroup
		for _, w := range wires {
			all.Go(func() {
				if alive, err := throw(w, b); err != nil || alive == b.cut {
					t.Errorf("%s: the connection serves: %v, want %v; %v", b.name, alive, !b.cut, err)
				}
			})
		}
		all.Wait()
		per := heap.growth()/together - 64<<10
		if per > maxGrowth {
			t.Errorf("%s: %d octets of heap for each of %d connections", b.name, per, together)
		}
		for _, w := range wires {
			w.Close()
		}
		if n := stopNeighbour(); n == 0 {
			t.Errorf("%s: the neighbour was not served", b.name)
		}
	}
}

// TestNoSingleRequestAllocatesMuch counts all that one request has a session
// allocate, garbage included: in an event loop nobody else has his turn until it
// is served.
func TestNoSingleRequestAllocatesMuch(t *testing.T) {
	tr := world(t, dit.Options{})
	for _, b := range bombs() {
		if n, err := ber.FrameLength(b.part, 64<<10); b.times > 1 || err != nil || n != len(b.part) {
			continue // many messages, or none
		}
		s := ldapserver.NewSession(tr, ldapserver.Options{})
		s.Handle(whoAmI(1), time.Unix(1, 0)) // what a session allocates once
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		s.Handle(b.part, time.Unix(1, 0))
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > maxGrowth {
			t.Errorf("%s: %d octets allocated", b.name, n)
		}
	}
}

// TestLargeAnswersHoldLittle: four entries of the most octets that an owner can
// have, for clients that do not read.
func TestLargeAnswersHoldLittle(t *testing.T) {
	const together = 16
	owners := []string{"b.direct.test=ORG", "bob@b.direct.test=BOB-2"}
	var pins [][]byte
	for i := range 4 {
		owners = append(owners, fmt.Sprintf("u%d@b.direct.test=%s", i, strings.Repeat("c", 60000)))
		pins = append(pins, equal("mail", fmt.Sprintf("u%d@b.direct.test", i)))
	}
	addr := start(t, published(t, dit.Options{}, owners...), ldapserver.Options{WriteTimeout: time.Second})
	holdUp(t, addr, together, ask{base: top, scope: 2, filter: or(pins...)}.pdu(1))
	w := dial(t, addr) // one who reads gets all of it
	if dns, done := w.search(ask{base: top, scope: 2, filter: or(pins...)}); len(dns) != 4 || done.code != 0 {
		t.Errorf("%q, %v", dns, done)
	}
	w.alive()
}

// goodNeighbour searches until it is stopped; every search must find bob. It
// gives how many there were.
func goodNeighbour(t *testing.T, addr string) (stop func() int) {
	t.Helper()
	w := dial(t, addr)
	n, ending, done := 0, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			w.SetDeadline(time.Now().Add(30 * time.Second))
			if err := goodSearch(w); err != nil {
				t.Errorf("a neighbour's good search was not answered: %v", err)
				return
			}
			n++
			select {
			case <-ending:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	return func() int {
		close(ending)
		<-done
		w.Close()
		return n
	}
}

// goodSearch looks for bob and tells what is wrong if he is not found. It may be
// called from any goroutine.
func goodSearch(w wire) error {
	if _, err := w.Write(ask{base: top, scope: 2, filter: equal("mail", "bob@b.direct.test"), attributes: []string{"userCertificate;binary"}}.pdu(7)); err != nil {
		return err
	}
	entry, err := w.read()
	if err != nil {
		return err
	}
	if entry.tag != 4 || entry.dn != bobDN || !bytes.Contains(entry.body, []byte("BOB-2")) {
		return fmt.Errorf("answered %v %s", entry, entry.text)
	}
	done, err := w.read()
	if err == nil && (done.tag != 5 || done.code != 0 || done.id != 7) {
		err = fmt.Errorf("answered %v %s", done, done.text)
	}
	return err
}

// TestHalfMessagesAreCutOff: what is decided by waiting. A client that closes
// behind half a message is gone at once, one that says nothing more when the
// time of one request is over.
func TestHalfMessagesAreCutOff(t *testing.T) {
	whole := ask{base: top, scope: 2, filter: equal("mail", strings.Repeat("x", 30000))}.pdu(1)
	for _, at := range []int{1, 2, 3, 5, 20, len(whole) / 2, len(whole) - 1} {
		synctest.Test(t, func(t *testing.T) {
			connect, stop := inMemory(t, ldapserver.Options{})
			defer stop()
			w := connect()
			w.send(whole[:at])
			began := time.Now()
			if _, err := io.Copy(io.Discard, w); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); !about(took, 5*time.Second) {
				t.Errorf("%d octets: cut off after %v", at, took)
			}
			w.Close()
		})
	}
	addr := start(t, world(t, dit.Options{}), ldapserver.Options{PDUTimeout: time.Minute, IdleTimeout: time.Minute})
	for _, at := range []int{1, 2, 3, 5, 20, len(whole) / 2, len(whole) - 1} {
		w := dial(t, addr)
		w.send(whole[:at])
		w.Conn.(*net.TCPConn).CloseWrite()
		w.closed()
	}
}

// TestClientsThatDoNotReadHoldLittle: they ask for much and take nothing. When
// neither side goes on, little has piled up; then the clients are cut off.
func TestClientsThatDoNotReadHoldLittle(t *testing.T) {
	const together = 16
	large := published(t, dit.Options{}, "b.direct.test=ORG", "bob@b.direct.test=BOB-2"+strings.Repeat("c", 20000), "carol@b.direct.test=x")
	addr := start(t, large, ldapserver.Options{WriteTimeout: time.Second})
	holdUp(t, addr, together, ask{base: top, scope: 2, filter: equal("mail", "bob@b.direct.test")}.pdu(1))
}

// TestTheKernelHoldsLittleToo counts what the server has handed to the kernel for
// a client that does not read: memory of the machine that no limit of this
// process sees. By TCP and by TLS.
func TestTheKernelHoldsLittleToo(t *testing.T) {
	const size = 20000
	tr := published(t, dit.Options{}, "b.direct.test=ORG", "bob@b.direct.test="+strings.Repeat("c", size))
	server, trusting := certificates(t)
	for name, encrypted := range map[string]bool{"TCP": false, "TLS": true} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s, addr := ldapserver.New(func() *dit.Tree { return tr }, ldapserver.Options{}), l.Addr().String()
		if encrypted {
			l = tls.NewListener(l, server)
		}
		serve(t, s, l)
		if !encrypted {
			dial(t, addr).alive() // from now on connections begin with what the server has set
		}
		before := s.Results()[0]
		w := dial(t, addr)
		_ = w.Conn.(*net.TCPConn).SetReadBuffer(4096)
		var c net.Conn = w
		if encrypted {
			c = tls.Client(w.Conn, trusting)
		}
		go func() {
			_, _ = c.Write(bytes.Repeat(ask{base: top, scope: 2, filter: equal("mail", "bob@b.direct.test")}.pdu(1), 1000)) // ends with the test
		}()
		answered := func() uint64 { return s.Results()[0] - before }
		for last := uint64(1 << 62); answered() != last || last == 0; time.Sleep(200 * time.Millisecond) {
			last = answered()
		}
		if n := answered() * size; n > 1<<20 {
			t.Errorf("%s: %d octets of answers for a client that does not read", name, n)
		}
		w.Close()
	}
}

// holdUp has clients send a request again and again and read nothing.
func holdUp(t *testing.T, addr string, together int, request []byte) {
	t.Helper()
	stopNeighbour := goodNeighbour(t, addr)
	pipeline := bytes.Repeat(request, 2000)
	before := liveHeap()
	var all sync.WaitGroup
	var written atomic.Int64
	for range together {
		w := dial(t, addr)
		_ = w.Conn.(*net.TCPConn).SetReadBuffer(4096)
		w.SetDeadline(time.Now().Add(time.Minute))
		all.Go(func() {
			// Writing ends when the server has cut off: it does not read while
			// answers wait, and the kernel holds only so much.
			for {
				n, err := w.Write(pipeline)
				written.Add(int64(n))
				if err != nil {
					if err := timedOut(err); err != nil {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	// What is allocated while the collector runs counts as alive: of a few looks the
	// least one is nearest to what is held.
	held := uint64(1 << 62)
	for range 8 {
		time.Sleep(50 * time.Millisecond)
		held = min(held, liveHeap())
	}
	per := (int(held) - int(before)) / together
	t.Logf("%d octets of heap for each client that does not read", per)
	if per > maxGrowth {
		t.Errorf("that is more than %d", maxGrowth)
	}
	all.Wait()
	if stopNeighbour() == 0 {
		t.Error("the neighbour was not served")
	}
	if n := written.Load() / int64(together); n > 16<<20 {
		t.Errorf("the server took %d octets of requests from each client that did not read", n)
	}
}
