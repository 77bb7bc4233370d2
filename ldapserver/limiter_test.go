package ldapserver

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"directnode/ldapserver/dit"
)

func TestBudgetsComeBackWithTime(t *testing.T) {
	l := newLimiter(10, 2)
	p, q := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	at := time.Unix(1000, 0)
	burst := func(p netip.Addr, at time.Time) int {
		n := 0
		for n < 1000 && l.search(p, at) == overNothing {
			n++
		}
		return n
	}
	if n := burst(p, at); n != 50 {
		t.Errorf("%d searches at once, want 50", n)
	}
	if n := burst(q, at); n != 50 {
		t.Errorf("another peer: %d searches, want 50", n)
	}
	if n := burst(p, at.Add(time.Second)); n != 10 {
		t.Errorf("%d searches after a second, want 10", n)
	}
	if n := burst(p, at.Add(-time.Hour)); n != 0 {
		t.Errorf("%d searches when the clock goes back", n)
	}
	if n := burst(p, at.Add(time.Hour)); n != 50 {
		t.Errorf("%d searches after an hour, want 50", n)
	}
	at = at.Add(2 * time.Hour)
	for range 10 {
		l.miss(p, at, 1)
	}
	if l.search(p, at) != overMisses || l.search(p, at.Add(time.Second)) != overNothing {
		t.Error("ten misses must stop the peer for half a second")
	}
}

func TestTheTableOfPeersIsBounded(t *testing.T) {
	l := newLimiter(10, 2)
	at := time.Unix(1000, 0)
	for i := range 2 * maxPeers {
		p := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		l.search(p, at) // all at once: nobody has got anything back
	}
	n := 0
	for i := range l.shards {
		n += len(l.shards[i].buckets)
	}
	if n > maxPeers {
		t.Errorf("%d peers, at most %d", n, maxPeers)
	}
	if n < maxPeers/2 {
		t.Errorf("only %d peers are remembered of %d", n, 2*maxPeers)
	}
}

func TestWhatCountsAsOnePeer(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"2001:db8::1", "2001:db8::ffff:0:0:1", true}, // one subscriber has a /64
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"fe80::1%eth0", "fe80::1%eth1", true},
	} {
		if same := counted(netip.MustParseAddr(c.a)) == counted(netip.MustParseAddr(c.b)); same != c.same {
			t.Errorf("%s and %s: same = %v", c.a, c.b, same)
		}
	}
}

// tired is a listener that fails a few times before it accepts.
type tired struct {
	net.Listener
	left int
}

func (l *tired) Accept() (net.Conn, error) {
	if l.left > 0 {
		l.left--
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

func TestLackOfFileDescriptorsPasses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tr := people(t, dit.Options{}, "bob@b.direct.test")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- New(func() *dit.Tree { return tr }, Options{}).Serve(ctx, &tired{l, 3}) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(10 * time.Second))
	c.Write([]byte("\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00"))
	answer := make([]byte, 14)
	if _, err := c.Read(answer); err != nil {
		t.Errorf("not served after the errors: %v", err)
	}
	c.Close()
	cancel()
	if err := <-done; err != nil && !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}
