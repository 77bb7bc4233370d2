package dnsserver_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"directnode/dnsserver"
)

// TestASlowReaderGetsAllItsAnswers: more answers than the system keeps for a
// client are waited for, while others are answered.
func TestASlowReaderGetsAllItsAnswers(t *testing.T) {
	set := newSet(t)
	addr := start(t, fixed(set), dnsserver.Options{})
	slow := dial(t, addr)
	slow.SetDeadline(time.Now().Add(10 * time.Second))
	q := ask(t, "txt200.upper.example.", dns.TypeTXT, 0)
	one := framed(dnsserver.Handle(set, q, overTCP))
	const queries = 400 // 17 MB of answers
	if _, err := slow.Write(bytes.Repeat(framed(q), queries)); err != nil {
		t.Fatal(err)
	}
	if _, ok := connect(t, addr); !ok {
		t.Error("one who does not read holds up others")
	}
	got := make([]byte, len(one))
	for i := range queries {
		if _, err := io.ReadFull(slow, got); err != nil || !bytes.Equal(got, one) {
			t.Fatalf("answer %d: %v", i, err)
		}
	}
	if !alive(t, slow) {
		t.Error("the connection does not go on")
	}
}

// TestAClientThatNeverReadsIsGone: it keeps neither memory nor its place.
func TestAClientThatNeverReadsIsGone(t *testing.T) {
	addr := start(t, fixed(newSet(t)), dnsserver.Options{Limits: dnsserver.Limits{Write: 200 * time.Millisecond, TCPPerAddress: 1, Exempt: []netip.Prefix{}}})
	mute := dial(t, addr)
	q := bytes.Repeat(framed(ask(t, "txt200.upper.example.", dns.TypeTXT, 0)), 1000)
	mute.SetWriteDeadline(time.Now().Add(5 * time.Second))
	for range 5 {
		if _, err := mute.Write(q); err != nil {
			break // the server hung up
		}
	}
	for range 100 {
		if _, ok := connect(t, addr); ok {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("its place is not free again")
}

// TestHalfClosedClientsAreAnswered: all queries before the end of a client's
// stream are answered, and then ours ends.
func TestHalfClosedClientsAreAnswered(t *testing.T) {
	set := newSet(t)
	addr := start(t, fixed(set), dnsserver.Options{})
	q := ask(t, "direct.example.org.", dns.TypeSOA, 0)
	c := dial(t, addr)
	if _, err := c.Write(append(bytes.Repeat(framed(q), 3), 0, 9, 1)); err != nil { // and the beginning of another
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if want := bytes.Repeat(framed(dnsserver.Handle(set, q, overTCP)), 3); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d octets of %d: %v", len(got), len(want), err)
	}
}

// TestIdleConnectionsEnd: on real sockets too, and octets that trickle in keep
// none open.
func TestIdleConnectionsEnd(t *testing.T) {
	addr := start(t, fixed(newSet(t)), dnsserver.Options{Limits: dnsserver.Limits{Idle: 300 * time.Millisecond, FirstByte: time.Second}})
	soa := framed(ask(t, "direct.example.org.", dns.TypeSOA, 0))
	idle, trickle := dial(t, addr), dial(t, addr)
	if !alive(t, idle) {
		t.Fatal("not served")
	}
	if _, err := idle.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("an idle connection: %v, want EOF", err)
	}
	for i := range soa { // 37 octets would take four seconds
		if _, err := trickle.Write(soa[i : i+1]); err != nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	if alive(t, trickle) {
		t.Error("a query that trickles in is waited for")
	}
}

// TestSlotsAreUsedAgain: connections come and go in any order, and each gets its
// own answers.
func TestSlotsAreUsedAgain(t *testing.T) {
	set := newSet(t)
	addr := start(t, fixed(set), dnsserver.Options{})
	var open []net.Conn
	for i := range 300 {
		open = append(open, dial(t, addr))
		for j, c := range open {
			q := ask(t, "direct.example.org.", dns.TypeSOA, 0)
			binary.BigEndian.PutUint16(q, uint16(i<<8|j))
			want := framed(dnsserver.Handle(set, q, overTCP))
			got := make([]byte, len(want))
			c.SetDeadline(time.Now().Add(3 * time.Second))
			c.Write(framed(q))
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("round %d, connection %d: %v", i, j, err)
			}
		}
		if len(open) > 4 {
			open[i%4].Close()
			open = append(open[:i%4], open[i%4+1:]...)
		}
	}
}

// TestServeReportsABrokenListener: without its listener a server must not seem to
// serve.
func TestServeReportsABrokenListener(t *testing.T) {
	_, l := listen(t, "127.0.0.1")
	done := make(chan error, 1)
	go func() { done <- dnsserver.New(fixed(newSet(t)), dnsserver.Options{}).Serve(t.Context(), nil, l) }()
	time.Sleep(10 * time.Millisecond)
	l.Close()
	select {
	case err := <-done:
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("Serve: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Serve goes on without its listener")
	}
}

// TestServeEndsWithOpenConnections: idle ones, and one that does not read.
func TestServeEndsWithOpenConnections(t *testing.T) {
	_, l := listen(t, "127.0.0.1")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- dnsserver.New(fixed(newSet(t)), dnsserver.Options{}).Serve(ctx, nil, l) }()
	for range 3 {
		if _, ok := connect(t, l.Addr().String()); !ok {
			t.Fatal("not served")
		}
	}
	mute := dial(t, l.Addr().String())
	mute.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	mute.Write(bytes.Repeat(framed(ask(t, "txt200.upper.example.", dns.TypeTXT, 0)), 400))
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("Serve: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Serve does not drain")
	}
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
