package main

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// manners change an answer of the fake server below; nil sends none.
type manners func(n int, answer []byte) []byte

// fakeUDP answers queries over UDP until the test ends.
func fakeUDP(t *testing.T, m manners) netip.AddrPort {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 2048)
		for n := 0; ; n++ {
			size, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if a := m(n, answerTo(buf[:size], 1200)); a != nil {
				_, _ = c.WriteTo(a, from) // what is lost shows in the test
			}
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// fakeTCP answers queries over TCP, two at a time and the second first where
// two are there.
func fakeTCP(t *testing.T, m manners) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go fakeConn(c, m)
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func fakeConn(c net.Conn, m manners) {
	defer c.Close()
	var held []byte
	for n := 0; ; n++ {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		a := m(n, answerTo(query, 1200))
		if a == nil {
			return
		}
		framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...)
		if n%8 == 0 { // the first of eight comes last: RFC 7766 §6.2.1.1
			held = framed
			continue
		}
		if n%8 == 7 {
			framed = append(framed, held...)
		}
		if _, err := c.Write(framed); err != nil {
			return
		}
	}
}

func good(_ int, a []byte) []byte { return a }

// untilAnswered runs a load in short pieces until it has seen what it looks
// for: a busy machine takes longer.
func untilAnswered(t *testing.T, l load, to netip.AddrPort, seen func(outcome) bool) outcome {
	t.Helper()
	l.patience = 150 * time.Millisecond
	q := buildQueries(askCert, 1000)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		o, err := generator{core: 0}.do(ctx, l, to, q, 100*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if seen(o) {
			return o
		}
	}
	t.Fatal("the load never saw it")
	return outcome{}
}

// clean is a run against a fake server, whose one goroutine shares the machine
// with the generator and may lose a few; a measured run must lose none.
func clean(o outcome) bool { return o.wrong == 0 && o.lost*100 < o.answers && o.answers > 100 }

func TestAGoodServerHasCleanRuns(t *testing.T) {
	for name, l := range map[string]load{"closed": byUDP, "paced": {over: overUDP, window: 64, rate: 5000, each: 10 * time.Millisecond}} {
		o := untilAnswered(t, l, fakeUDP(t, good), clean)
		if l.rate == 0 && (o.latency.count != o.answers || o.octets < o.answers*1200) {
			t.Errorf("%s: %d latencies and %d octets of %d answers", name, o.latency.count, o.octets, o.answers)
		}
		var sum uint64
		for _, s := range o.slices {
			sum += s.answers
		}
		if l.each > 0 && sum != o.answers {
			t.Errorf("%s: the timeline has %d of %d answers", name, sum, o.answers)
		}
	}
	untilAnswered(t, byPipeline, fakeTCP(t, good), clean)
}

// TestOneConnectionForEachQuery: the fake server holds its first answer back,
// so it must see the second query on the same connection to send any.
func TestOneConnectionForEachQuery(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 1024)
				n, err := c.Read(buf)
				if err != nil {
					return
				}
				a := answerTo(buf[2:n], 1200)
				_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...))
				_, _ = c.Read(buf) // until the client closes
			}()
		}
	}()
	untilAnswered(t, byConnector, l.Addr().(*net.TCPAddr).AddrPort(), clean)
}

// TestWhatServersDoWrongIsSeen: one answer in fifty is enough.
func TestWhatServersDoWrongIsSeen(t *testing.T) {
	sometimes := func(f manners) manners {
		return func(n int, a []byte) []byte {
			if n%50 == 49 {
				return f(n, a)
			}
			return a
		}
	}
	for name, c := range map[string]struct {
		do  manners
		err error
	}{
		"truncated":     {func(_ int, a []byte) []byte { a[2] |= bitTC; return a }, errTruncation},
		"SERVFAIL":      {func(_ int, a []byte) []byte { a[3] |= 2; return a }, errCode},
		"short":         {func(_ int, a []byte) []byte { return a[:100] }, errShort},
		"another name":  {func(_ int, a []byte) []byte { a[15]++; return a }, errQuestion},
		"too short":     {func(_ int, a []byte) []byte { return a[:5] }, errForeign},
		"ID of another": {func(_ int, a []byte) []byte { a[0] ^= 0x80; return a }, errForeign},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // a query whose answer is taken for another's is waited for
			for _, over := range []load{byUDP, byPipeline} {
				start := fakeUDP
				if over.over != overUDP {
					start = fakeTCP
				}
				o := untilAnswered(t, over, start(t, sometimes(c.do)), func(o outcome) bool { return o.wrong > 0 })
				if o.valid() == nil || !errors.Is(o.first, c.err) {
					t.Errorf("valid = %v, first = %v, want %v", o.valid(), o.first, c.err)
				}
			}
		})
	}
}

func TestLostQueriesAreCounted(t *testing.T) {
	t.Parallel()
	drop := func(n int, a []byte) []byte {
		if n%1000 == 30 {
			return nil
		}
		return a
	}
	dropped := untilAnswered(t, byUDP, fakeUDP(t, drop), func(o outcome) bool { return o.lost > 0 })
	if dropped.valid() == nil {
		t.Error("a run with a lost query counts")
	}
	hangUp := untilAnswered(t, byPipeline, fakeTCP(t, drop), func(o outcome) bool { return o.lost > 0 })
	if hangUp.valid() == nil {
		t.Error("a run with a closed connection counts")
	}
}
