package resolver

import (
	"bytes"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// serverBook remembers how the name servers behaved: how fast they are, whether they are silent, and their cookies.
type serverBook struct {
	mu     sync.Mutex // guards the map and all in it
	states map[string]*serverState
}

type serverState struct {
	rtt      time.Duration // smoothed; 0 = never heard
	spread   time.Duration // smoothed deviation
	failures int           // since the last answer
	avoid    time.Time     // until then others are asked first
	cookie   cookie
}

func newServerBook() *serverBook { return &serverBook{states: map[string]*serverState{}} }

// state gives the entry of a server, for the owner of the lock. Strangers' servers come in by the walk; when there are too many, all
// are forgotten, which costs no more than a few slower questions.
func (b *serverBook) state(server string) *serverState {
	s := b.states[server]
	if s == nil {
		if len(b.states) >= maxServerStates {
			clear(b.states)
		}
		s = &serverState{}
		b.states[server] = s
	}
	return s
}

// order puts the fastest server first; those that failed lately come last. One that was never heard counts as fastest, so that each is
// tried, in the order of the configuration. The others' figures shrink a little each time, so that a server that was slow once is
// measured again.
func (b *serverBook) order(servers []string, at time.Time) []string {
	if len(servers) < 2 {
		return servers
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	out := slices.Clone(servers)
	slices.SortStableFunc(out, func(x, y string) int {
		sx, sy := b.states[x], b.states[y]
		if dx, dy := sx.avoided(at), sy.avoided(at); dx != dy {
			if dx {
				return 1
			}
			return -1
		}
		return int(sx.speed() - sy.speed())
	})
	for _, server := range out[1:] {
		if s := b.states[server]; s != nil {
			s.rtt -= s.rtt / 64
		}
	}
	return out
}

func (s *serverState) avoided(at time.Time) bool { return s != nil && at.Before(s.avoid) }

func (s *serverState) speed() time.Duration {
	if s == nil {
		return 0
	}
	return s.rtt
}

// heard takes the time of an answer into the figures (RFC 6298 §2).
func (b *serverBook) heard(server string, rtt time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.state(server)
	s.failures, s.avoid = 0, time.Time{}
	if s.rtt == 0 {
		s.rtt, s.spread = max(rtt, 1), rtt/2
		return
	}
	s.spread += ((s.rtt - rtt).Abs() - s.spread) / 4
	s.rtt = max(s.rtt+(rtt-s.rtt)/8, 1)
}

// failed takes note of a server that gave no answer: it is asked last for a second, then for two, four and so on.
func (b *serverBook) failed(server string, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.state(server)
	s.avoid = at.Add(min(time.Second<<min(s.failures, 6), maxAvoid))
	s.failures++
}

// patience is how long to wait for a datagram before it is sent again.
func (b *serverBook) patience(server string) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.states[server]
	if s == nil || s.rtt == 0 {
		return firstPatience
	}
	return min(max(s.rtt+4*s.spread, leastPatience), firstPatience)
}

// cookie gives the cookie for a server that is asked from an address.
func (b *serverBook) cookie(server string, local netip.Addr) cookie {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.state(server)
	if s.cookie.local != local || s.cookie.client == [clientCookie]byte{} {
		s.cookie = newCookie(local)
	}
	return s.cookie
}

// learn keeps the cookie of an answer that was accepted, and forgets that of a server that no longer gives one.
func (b *serverBook) learn(server string, q, m *dns.Msg) {
	sent := cookieOf(q)
	if sent == nil {
		return
	}
	got := cookieOf(m)
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.state(server)
	switch {
	case !bytes.Equal(s.cookie.client[:], sent[:clientCookie]): // made anew meanwhile
	case len(got) > clientCookie:
		s.cookie.server = bytes.Clone(got[clientCookie:])
	case got == nil:
		s.cookie.server = nil
	}
}

// forget drops the server's half of a cookie that it no longer honours.
func (b *serverBook) forget(server string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state(server).cookie.server = nil
}
