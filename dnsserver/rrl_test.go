package dnsserver_test

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"directnode/dnsserver"
)

// desk is a server at which questions are laid down by hand, so that peer and
// time are the test's.
func desk(t testing.TB, l dnsserver.Limits) (*dnsserver.Server, *dnsserver.Desk) {
	t.Helper()
	if l.Exempt == nil {
		l.Exempt = []netip.Prefix{}
	}
	s := dnsserver.New(fixed(newSet(t)), dnsserver.Options{Limits: l})
	return s, s.Desk()
}

func udpFrom(ip string) net.Addr { return &net.UDPAddr{IP: net.ParseIP(ip), Port: 4711} }

// whole counts how many of n questions from an address are answered whole; the
// others must be TC=1, no larger than the question and give nothing away.
func whole(t testing.TB, d *dnsserver.Desk, peer net.Addr, q []byte, n int, at time.Time) (answered int) {
	t.Helper()
	for range n {
		a := d.Answer(nil, q, peer, at)
		m := new(dns.Msg)
		if err := m.Unpack(a); err != nil {
			t.Fatalf("%v: %x", err, a)
		}
		switch {
		case !m.Truncated:
			answered++
		case len(m.Answer)+len(m.Ns) > 0 || m.Rcode != dns.RcodeSuccess || len(a) > len(q):
			t.Fatalf("a limited answer of %d octets to %d: %s", len(a), len(q), show(m))
		}
	}
	return answered
}

func TestAnAddressGetsItsShareOfAnswers(t *testing.T) {
	soa, absent := ask(t, "direct.example.org.", dns.TypeSOA, 1232), ask(t, "nobody.direct.example.org.", dns.TypeA, 1232)
	at := time.Now().Add(time.Second)
	_, d := desk(t, dnsserver.Limits{})
	for _, c := range []struct {
		what  string
		peer  net.Addr
		q     []byte
		after time.Duration
		want  int
	}{
		{"two and a half seconds' worth at once", udpFrom("192.0.2.1"), soa, 0, 125},
		{"nothing more then", udpFrom("192.0.2.1"), soa, 0, 0},
		{"50 a second later", udpFrom("192.0.2.1"), soa, time.Second, 50},
		{"a neighbor has his own", udpFrom("192.0.2.2"), soa, time.Second, 125},
		{"after a day no more than the first time", udpFrom("192.0.2.1"), soa, 24 * time.Hour, 125},
		{"after three weeks as well", udpFrom("192.0.2.1"), soa, 21 * 24 * time.Hour, 125},
		{"an address that is mapped is the same one", udpFrom("::ffff:192.0.2.1"), soa, 21 * 24 * time.Hour, 0},
		{"absent names", udpFrom("198.51.100.1"), absent, 0, 25},
		{"10 a second later", udpFrom("198.51.100.1"), absent, time.Second, 10},
		{"which leave nothing for others", udpFrom("198.51.100.1"), soa, time.Second, 0},
		{"an address of IPv6", udpFrom("2001:db8::1"), soa, 0, 125},
		{"its neighbor in the /64", udpFrom("2001:db8::2"), soa, 0, 125},
		{"the third one: a /64 has two shares", udpFrom("2001:db8::3"), soa, 0, 0},
		{"the next /64", udpFrom("2001:db8:0:1::1"), soa, 0, 125},
		{"the third /64: a /56 has three", udpFrom("2001:db8:0:2::1"), soa, 0, 0},
		{"another /56", udpFrom("2001:db8:0:100::1"), soa, 0, 125},
		{"the third /56: a /48 has four", udpFrom("2001:db8:0:200::1"), soa, 0, 0},
		{"another /48", udpFrom("2001:db8:1::1"), soa, 0, 125},
	} {
		if got := whole(t, d, c.peer, c.q, 200, at.Add(c.after)); got != c.want {
			t.Errorf("%s: %d whole answers, want %d", c.what, got, c.want)
		}
	}
}

func TestANetworkGetsItsShareOfAnswers(t *testing.T) {
	soa := ask(t, "direct.example.org.", dns.TypeSOA, 1232)
	_, d := desk(t, dnsserver.Limits{})
	at, total := time.Now(), 0
	for i := range 256 {
		total += whole(t, d, udpFrom(fmt.Sprintf("192.0.2.%d", i)), soa, 100, at)
	}
	if total < 4000 || total > 4100 { // 32 shares of 125; the rest is rounding
		t.Errorf("a /24 gets %d answers at once, want 4000", total)
	}
	if got := whole(t, d, udpFrom("192.0.3.1"), soa, 100, at); got != 100 {
		t.Errorf("the next /24 gets %d of 100", got)
	}
}

func TestWhoIsNotLimited(t *testing.T) {
	at := time.Now()
	soa := ask(t, "direct.example.org.", dns.TypeSOA, 1232)
	t.Run("TCP", func(t *testing.T) {
		_, d := desk(t, dnsserver.Limits{})
		if got := whole(t, d, &net.TCPAddr{IP: net.ParseIP("192.0.2.1")}, soa, 500, at); got != 500 {
			t.Errorf("%d of 500", got)
		}
	})
	t.Run("a valid cookie", func(t *testing.T) {
		_, d := desk(t, dnsserver.Limits{})
		m := new(dns.Msg)
		if err := m.Unpack(d.Answer(nil, askWith(t, "direct.example.org.", dns.TypeSOA, 1232, clientCookie), udpFrom("192.0.2.1"), at)); err != nil {
			t.Fatal(err)
		}
		good := askWith(t, "direct.example.org.", dns.TypeSOA, 1232, cookieIn(m))
		if got := whole(t, d, udpFrom("192.0.2.1"), good, 500, at); got != 500 {
			t.Errorf("%d of 500", got)
		}
		if got := whole(t, d, udpFrom("192.0.2.2"), good, 500, at); got != 125 {
			t.Errorf("somebody else's cookie: %d of 500", got)
		}
	})
	t.Run("an exempt network", func(t *testing.T) {
		_, d := desk(t, dnsserver.Limits{Exempt: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/28")}})
		if got := whole(t, d, udpFrom("192.0.2.1"), soa, 500, at); got != 500 {
			t.Errorf("%d of 500", got)
		}
		if got := whole(t, d, udpFrom("192.0.2.16"), soa, 500, at); got != 125 {
			t.Errorf("beside it: %d of 500", got)
		}
	})
	t.Run("other figures", func(t *testing.T) {
		_, d := desk(t, dnsserver.Limits{Rate: 10, Absences: 100})
		if got := whole(t, d, udpFrom("192.0.2.1"), ask(t, "nobody.direct.example.org.", dns.TypeA, 0), 500, at); got != 25 {
			t.Errorf("10 a second: %d of 500", got)
		}
		_, d = desk(t, dnsserver.Limits{Rate: -1})
		if got := whole(t, d, udpFrom("192.0.2.1"), soa, 500, at); got != 500 {
			t.Errorf("no limit: %d of 500", got)
		}
		_, d = desk(t, dnsserver.Limits{Absences: -1})
		if got := whole(t, d, udpFrom("192.0.2.1"), ask(t, "nobody.direct.example.org.", dns.TypeA, 0), 500, at); got != 125 {
			t.Errorf("absent names like others: %d of 500", got)
		}
	})
	t.Run("errors, which are as small as that", func(t *testing.T) {
		_, d := desk(t, dnsserver.Limits{})
		for range 500 {
			m := new(dns.Msg)
			if err := m.Unpack(d.Answer(nil, ask(t, "elsewhere.example.", dns.TypeA, 1232), udpFrom("192.0.2.1"), at)); err != nil || m.Rcode != dns.RcodeRefused || m.Truncated {
				t.Fatalf("%v %s", err, show(m))
			}
		}
	})
}

// TestAFloodOfAddressesLeavesTheBusyOnesLimited: whoever fills the table does
// not wash away what a busy address owes.
func TestAFloodOfAddressesLeavesTheBusyOnesLimited(t *testing.T) {
	soa := ask(t, "direct.example.org.", dns.TypeSOA, 1232)
	s, d := desk(t, dnsserver.Limits{})
	s.ShrinkRates(256)
	at := time.Now()
	whole(t, d, udpFrom("192.0.2.1"), soa, 200, at)
	peer := &net.UDPAddr{IP: make(net.IP, 16)}
	buf := make([]byte, 0, 4096)
	for i := range 5000 { // each a /48 of its own: four entries, together ten times what the table has
		peer.IP[0], peer.IP[3], peer.IP[4], peer.IP[5] = 0x20, byte(i>>16), byte(i>>8), byte(i)
		d.Answer(buf, soa, peer, at)
	}
	if got := whole(t, d, udpFrom("192.0.2.1"), soa, 200, at); got != 0 {
		t.Errorf("%d whole answers", got)
	}
}

func TestReadersShareTheLimit(t *testing.T) {
	s, _ := desk(t, dnsserver.Limits{})
	soa, at := ask(t, "direct.example.org.", dns.TypeSOA, 1232), time.Now()
	var total atomic.Int64
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() { total.Add(int64(whole(t, s.Desk(), udpFrom("192.0.2.1"), soa, 500, at))) })
	}
	readers.Wait()
	if n := total.Load(); n < 125 || n > 250 { // what a race loses is one answer
		t.Errorf("%d whole answers, want 125", n)
	}
}

func TestNoAnswerAllocates(t *testing.T) {
	_, d := desk(t, dnsserver.Limits{})
	buf, at := make([]byte, 0, 4096), time.Now()
	for what, q := range map[string][]byte{
		"whole and limited": ask(t, "direct.example.org.", dns.TypeSOA, 1232), "absent": ask(t, "nobody.direct.example.org.", dns.TypeA, 1232),
		"with a cookie": askWith(t, "bob.direct.example.org.", dns.TypeCERT, 1232, clientCookie),
	} {
		for _, ip := range []string{"192.0.2.1", "2001:db8::1"} {
			peer := udpFrom(ip)
			if n := testing.AllocsPerRun(300, func() { d.Answer(buf, q, peer, at) }); n != 0 {
				t.Errorf("%s, %s: %v allocations an answer", what, ip, n)
			}
		}
	}
}

func TestStats(t *testing.T) {
	s, d := desk(t, dnsserver.Limits{})
	at := time.Now()
	udp, tcp := udpFrom("192.0.2.1"), net.Addr(&net.TCPAddr{IP: net.ParseIP("192.0.2.1")})
	cookieQuery := new(dns.Msg)
	cookieQuery.SetEdns0(1232, false)
	cookieQuery.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: 10, Cookie: clientCookie}}
	d.Answer(nil, []byte("silence"), udp, at)
	d.Answer(nil, ask(t, "direct.example.org.", dns.TypeSOA, 0), udp, at)
	d.Answer(nil, ask(t, "direct.example.org.", dns.TypeSOA, 0), tcp, at)
	d.Answer(nil, ask(t, "direct.example.org.", dns.TypeA, 0), udp, at)
	d.Answer(nil, ask(t, "x.sub.structure.example.", dns.TypeA, 0), udp, at)
	d.Answer(nil, ask(t, "elsewhere.example.", dns.TypeA, 0), udp, at)
	d.Answer(nil, ask(t, "txt4.upper.example.", dns.TypeTXT, 0), udp, at)
	d.Answer(nil, ask(t, "bob.direct.example.org.", dns.TypeCERT, 0), udp, at)
	d.Answer(nil, askWith(t, "bob.direct.example.org.", dns.TypeCERT, 1232, clientCookie+"0011223344556677"), udp, at)
	d.Answer(nil, pack(t, cookieQuery), udp, at)
	for range 200 {
		d.Answer(nil, ask(t, "nobody.direct.example.org.", dns.TypeA, 0), udp, at)
	}
	got := s.Stats()
	for what, pair := range map[string][2]uint64{
		"udp": {got.UDP, 208}, "tcp": {got.TCP, 1}, "silent": {got.Silent, 1},
		"answer": {got.Results["answer"], 5}, "nodata": {got.Results["nodata"], 1}, "referral": {got.Results["referral"], 1}, "refused": {got.Results["refused"], 1},
		"nxdomain": {got.Results["nxdomain"], 200}, "cookie": {got.Results["cookie"], 1}, "formerr": {got.Results["formerr"], 0},
		"size": {got.Truncated["size"], 1}, "proof": {got.Truncated["proof"], 2}, "rate": {got.Truncated["rate"], 177},
		"absent": {got.Cookies["absent"], 207}, "client": {got.Cookies["client"], 1}, "foreign": {got.Cookies["foreign"], 1}, "valid": {got.Cookies["valid"], 0},
		"suspects": {uint64(len(got.Suspects)), 0},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: %d, want %d", what, pair[0], pair[1])
		}
	}
}

// TestWhoWorksThroughADictionaryIsSeen: many different absent names of one
// network make it a suspect, the same one over and over does not.
func TestWhoWorksThroughADictionaryIsSeen(t *testing.T) {
	s, d := desk(t, dnsserver.Limits{})
	at := time.Now()
	tcp := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip)} }
	for i := range 1000 {
		d.Answer(nil, ask(t, "nobody.direct.example.org.", dns.TypeCERT, 0), tcp("198.51.100.9"), at)
		d.Answer(nil, ask(t, fmt.Sprintf("n%d.direct.example.org.", i), dns.TypeCERT, 0), tcp(fmt.Sprintf("192.0.2.%d", i%256)), at)
		d.Answer(nil, ask(t, fmt.Sprintf("n%d.direct.example.org.", i/4), dns.TypeCERT, 0), tcp("2001:db8:0:1ff::1"), at)
		// A network that is as eager, but slowly.
		d.Answer(nil, ask(t, fmt.Sprintf("n%d.direct.example.org.", i), dns.TypeCERT, 0), tcp("203.0.113.9"), at.Add(time.Duration(i)*20*time.Second))
	}
	got := s.Stats()
	if len(got.Suspects) != 2 || got.SuspectsSeen != 2 {
		t.Fatalf("%+v, seen %d", got.Suspects, got.SuspectsSeen)
	}
	for _, x := range got.Suspects {
		if x.Misses != 1000 || x.Network != netip.MustParsePrefix("192.0.2.0/24") && x.Network != netip.MustParsePrefix("2001:db8:0:100::/56") {
			t.Errorf("%+v", x)
		}
	}
	// By UDP, what is limited tells nothing and counts as nothing learned.
	s, d = desk(t, dnsserver.Limits{})
	for i := range 1000 {
		d.Answer(nil, ask(t, fmt.Sprintf("n%d.direct.example.org.", i), dns.TypeCERT, 0), udpFrom("192.0.2.1"), at)
	}
	if got := s.Stats(); len(got.Suspects) != 0 || got.Truncated["proof"] != 1000 {
		t.Errorf("%+v", got)
	}
}

func BenchmarkServerAnswer(b *testing.B) {
	for _, c := range []struct {
		what, name string
		qtype      uint16
		peers      int
	}{
		{"one address", "direct.example.org.", dns.TypeSOA, 1},
		{"many addresses", "direct.example.org.", dns.TypeSOA, 1 << 16},
		{"absent, many addresses", "nobody.direct.example.org.", dns.TypeA, 1 << 16},
		{"TC, many addresses", "bob.direct.example.org.", dns.TypeCERT, 1 << 16},
	} {
		b.Run(c.what, func(b *testing.B) {
			_, d := desk(b, dnsserver.Limits{})
			q, buf, at := ask(b, c.name, c.qtype, 1232), make([]byte, 0, 4096), time.Now()
			peer := &net.UDPAddr{IP: net.IP{10, 0, 0, 0}}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				n := i * 40503 % c.peers
				peer.IP[1], peer.IP[2], peer.IP[3] = byte(n>>14), byte(n>>7), byte(n)
				d.Answer(buf, q, peer, at.Add(time.Duration(i)*10*time.Microsecond))
			}
		})
	}
}
