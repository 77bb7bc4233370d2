package ldapserver_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"directnode/internal/ber"
	"directnode/ldapserver"
	"directnode/ldapserver/dit"
)

func TestFilterLimits(t *testing.T) {
	addr := start(t, world(t, dit.Options{}), ldapserver.Options{})
	known := equal("mail", "bob@b.direct.test")
	nested := func(depth int) []byte {
		f := known
		for range depth - 1 {
			f = and(f)
		}
		return f
	}
	items := func(n int) []byte { return and(slices.Repeat([][]byte{known}, n-1)...) }
	parts := func(n int) []byte {
		return and(known, substrings("cn", slices.Concat([]string{""}, slices.Repeat([]string{"b"}, n), []string{""})...))
	}
	for name, c := range map[string]struct {
		filter []byte
		code   int64
	}{
		"8 deep":                 {nested(8), 0},
		"9 deep":                 {nested(9), 11},
		"32 items":               {items(32), 0},
		"33 items":               {items(33), 11},
		"as many parts as items": {parts(29), 0},
		"one part more":          {parts(30), 11},
	} {
		w := dial(t, addr)
		if _, done := w.search(ask{base: top, scope: 2, filter: c.filter}); done.code != c.code {
			t.Errorf("%s: %v %q, want %d", name, done, done.text, c.code)
		}
		w.alive()
	}
}

func TestAttributeLimit(t *testing.T) {
	w := dial(t, start(t, world(t, dit.Options{}), ldapserver.Options{}))
	if _, done := w.search(ask{attributes: slices.Repeat([]string{"cn"}, 20)}); done.code != 0 {
		t.Errorf("20 attributes: %v", done)
	}
	if _, done := w.search(ask{attributes: slices.Repeat([]string{"cn"}, 21)}); done.code != 11 {
		t.Errorf("21 attributes: %v, want adminLimitExceeded", done)
	}
}

// refused tells whether the server turned the connection away.
func refused(t *testing.T, w wire) bool {
	t.Helper()
	w.Write(whoAmI(1)) // fails if the server has reset already
	m, err := w.read()
	if err != nil {
		return true
	}
	if m.id == 0 && m.code != 51 {
		t.Errorf("notice %v, want busy(51)", m)
	}
	return m.id == 0
}

func TestConnectionsPerAddress(t *testing.T) {
	o := ldapserver.Options{Exempt: everybody(), PerAddress: 3}
	addr := start(t, world(t, dit.Options{}), o)
	var open []wire
	for range 3 {
		w := dial(t, addr)
		w.alive()
		open = append(open, w)
	}
	if !refused(t, dial(t, addr)) {
		t.Error("a fourth connection was served")
	}
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	c, err := from.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	wire{t, c}.alive() // another address has slots of its own
	open[0].Close()
	deadline := time.Now().Add(5 * time.Second)
	for refused(t, dial(t, addr)) { // the slot comes back when the server has seen the end
		if time.Now().After(deadline) {
			t.Fatal("the slot of a closed connection does not come back")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestConnectionsInAll(t *testing.T) {
	addr := start(t, world(t, dit.Options{}), ldapserver.Options{Exempt: everybody(), Connections: 2})
	dial(t, addr).alive()
	dial(t, addr).alive()
	if !refused(t, dial(t, addr)) {
		t.Error("a third connection was served")
	}
}

func TestExemptNetworksAreNotThrottled(t *testing.T) {
	for name, exempt := range map[string][]netip.Prefix{"by default": nil, "by choice": {netip.MustParsePrefix("127.0.0.1/32")}} {
		addr := start(t, world(t, dit.Options{}), ldapserver.Options{Exempt: exempt, Connections: 1, PerAddress: 1, SearchRate: 1, MissRate: 1})
		for range 4 {
			w := dial(t, addr)
			for range 20 {
				if _, done := w.search(ask{base: top, scope: 2, filter: equal("mail", "eve@b.direct.test")}); done.code != 0 {
					t.Fatalf("%s: %v", name, done)
				}
			}
		}
	}
}

func TestSearchRate(t *testing.T) {
	addr := start(t, world(t, dit.Options{}), ldapserver.Options{Exempt: everybody(), SearchRate: 10})
	w := dial(t, addr)
	codes := map[int64]int{}
	for range 80 {
		_, done := w.search(ask{base: top, scope: 2, filter: equal("mail", "bob@b.direct.test")})
		codes[done.code]++
	}
	if codes[0] < 50 || codes[0] > 70 || codes[0]+codes[51] != 80 {
		t.Errorf("results = %v: five seconds' worth of 10 a second may be used at once", codes)
	}
	w.alive()
}

func TestGuessingIsSlowerThanSearching(t *testing.T) {
	addr := start(t, world(t, dit.Options{}), ldapserver.Options{Exempt: everybody(), SearchRate: 1000, MissRate: 2})
	for i, guess := range []ask{
		{base: top, scope: 2, filter: equal("mail", "eve@b.direct.test")},
		{base: "uid=eve," + top},
	} {
		c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i))}}).Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		w := wire{t, c}
		codes := map[int64]int{}
		for range 30 {
			_, done := w.search(guess)
			codes[done.code]++
		}
		if codes[51] < 15 || codes[51] > 20 {
			t.Errorf("guess %d: results = %v; want ten, then busy", i, codes)
		}
	}
}

// pipes is a listener of connections in memory, so that time can be faked.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error {
	close(p.closed)
	return nil
}

func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// inFakeTime runs f with a connection to a server whose clock moves only when
// everybody waits. Limits are the defaults.
func inFakeTime(t *testing.T, f func(t *testing.T, w wire)) {
	synctest.Test(t, func(t *testing.T) {
		tr := world(t, dit.Options{})
		p := pipes{make(chan net.Conn), make(chan struct{})}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- ldapserver.New(func() *dit.Tree { return tr }, ldapserver.Options{}).Serve(ctx, p) }()
		ours, theirs := net.Pipe()
		p.conns <- theirs
		f(t, wire{t, ours})
		ours.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// about tells whether took is the limit, give or take the slack that keeps the
// server from moving a deadline for every request.
func about(took, limit time.Duration) bool {
	return took > limit-1100*time.Millisecond && took <= limit
}

func TestHalfAMessageTimesOutAfterFiveSeconds(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w wire) {
		w.alive()
		began := time.Now()
		long := ask{base: strings.Repeat("x", 1000)}
		for _, c := range long.pdu(1) { // an octet now and then must not buy more time
			if _, err := w.Write([]byte{c}); err != nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(began); !about(took-200*time.Millisecond, 5*time.Second) {
			t.Errorf("cut off after %v", took)
		}
	})
}

func TestIdleConnectionsTimeOutAfterThirtySeconds(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w wire) {
		for range 10 { // every request starts the time again
			time.Sleep(20 * time.Second)
			w.alive()
		}
		began := time.Now()
		w.closed()
		if took := time.Since(began); !about(took, 30*time.Second) {
			t.Errorf("closed after %v", took)
		}
	})
}

func TestAClientThatDoesNotReadIsCutOffAfterFiveSeconds(t *testing.T) {
	inFakeTime(t, func(t *testing.T, w wire) {
		time.Sleep(3 * time.Second)
		w.alive()
		w.send(ask{base: top, scope: 2, filter: equal("mail", "bob@b.direct.test")}.pdu(1))
		began := time.Now()
		_, err := w.Write([]byte{0x30}) // waits for a reader, and the server is none: it writes
		if took := time.Since(began); err == nil || !about(took, 5*time.Second) {
			t.Errorf("cut off after %v, %v", took, err)
		}
	})
}

// TestBombsNeedLittleMemory sends what has exhausted other decoders and
// watches the heap.
func TestBombsNeedLittleMemory(t *testing.T) {
	addr := start(t, world(t, dit.Options{}), ldapserver.Options{PDUTimeout: time.Minute, IdleTimeout: time.Minute})
	bombs := [][]byte{
		unhex(t, "30 84 7fffffff 0201 01"),
		bytes.Repeat([]byte{0x30, 0x80}, 32000),
		ber.AppendTLV(nil, ber.Sequence, bytes.Repeat([]byte{5, 0}, 32000)),
		ask{attributes: slices.Repeat([]string{""}, 31000)}.pdu(1),
		ask{filter: and(slices.Repeat([][]byte{present("cn")}, 16000)...)}.pdu(1),
		ask{filter: substrings("cn", slices.Repeat([]string{"a"}, 16000)...)}.pdu(1),
		ask{base: strings.Repeat("dc=x,", 13000)}.pdu(1),
		ask{controls: slices.Repeat([][]byte{control("1", false, "")}, 8000)}.pdu(1),
		bytes.Repeat(envelope(1, func(b *ber.Builder) { b.Int(ber.App(16, false), 3) }), 8000), // a storm of abandons
	}
	const rounds = 10
	for i, bomb := range bombs {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for range rounds {
			w := dial(t, addr)
			w.Write(bomb)
			w.Conn.(*net.TCPConn).CloseWrite()
			began := time.Now()
			io.Copy(io.Discard, w.Conn)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("bomb %d: cut off after %v", i, took)
			}
			w.Close()
		}
		runtime.ReadMemStats(&after)
		// Buffers grow by doubling up to the message: less than three times its
		// size, on both sides of the connection.
		if per := (after.TotalAlloc - before.TotalAlloc) / rounds; per > 6*64<<10 {
			t.Errorf("bomb %d: %d octets allocated for %d received", i, per, len(bomb))
		}
	}
}

func TestManySlowConnectionsDoNotHinderOthers(t *testing.T) {
	addr := start(t, world(t, dit.Options{}), ldapserver.Options{})
	for range 300 {
		dial(t, addr).send([]byte{0x30, 0x82})
	}
	w := dial(t, addr)
	began := time.Now()
	for i := range 50 {
		if _, done := w.search(ask{base: top, scope: 2, filter: equal("mail", fmt.Sprint(i))}); done.code != 0 {
			t.Fatal(done)
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("50 searches took %v", took)
	}
}
