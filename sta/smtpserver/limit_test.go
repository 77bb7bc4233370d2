package smtpserver

import (
	"net/netip"
	"testing"
)

func TestLimiterCountsAHostOnce(t *testing.T) {
	l := &limiter{total: 3, perPeer: 1, peers: map[netip.Prefix]int{}, exempt: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	for _, step := range []struct {
		addr string
		want verdict
	}{
		{"192.0.2.1", admitted},
		{"192.0.2.1", peerFull},
		{"2001:db8::1", admitted},
		{"2001:db8::2", peerFull}, // the same /64 is the same host
		{"2001:db8:0:1::1", admitted},
		{"192.0.2.2", serverFull},
		{"127.0.0.1", admitted}, // exempt, and counted all the same
	} {
		if got := l.enter(netip.MustParseAddr(step.addr)); got != step.want {
			t.Errorf("%s: %v, want %v", step.addr, got, step.want)
		}
	}
	if l.now != 4 {
		t.Errorf("%d connections counted", l.now)
	}
	for _, a := range []string{"192.0.2.1", "2001:db8::1", "2001:db8:0:1::1", "127.0.0.1"} {
		l.leave(netip.MustParseAddr(a))
	}
	if l.now != 0 || len(l.peers) != 0 {
		t.Errorf("%d connections and %d peers are left", l.now, len(l.peers))
	}
}
