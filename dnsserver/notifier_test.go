package dnsserver_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"directnode/dnsserver"
	"directnode/store"
	"directnode/zones"
)

// listener is a secondary that hears notifies and answers as it is told.
type listener struct {
	net.PacketConn
	mu    sync.Mutex
	heard []uint32 // serials of those that it answered
	ports map[int]bool
	deaf  int // so many it does not answer
	key   string
	rcode int
}

func hear(t testing.TB, l *listener) netip.AddrPort {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.PacketConn, l.ports = pc, make(map[int]bool)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 2048)
		for {
			n, peer, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			if err := l.answer(buf[:n], peer); err != nil {
				t.Error(err)
			}
		}
	}()
	t.Cleanup(func() { pc.Close(); <-done })
	return pc.LocalAddr().(*net.UDPAddr).AddrPort()
}

func (l *listener) answer(packet []byte, peer net.Addr) error {
	m := new(dns.Msg)
	if err := m.Unpack(packet); err != nil {
		return err
	}
	if m.Opcode != dns.OpcodeNotify || !m.Authoritative || m.Response || m.Question[0].Qtype != dns.TypeSOA || m.Question[0].Name != "direct.example.org." {
		return fmt.Errorf("no notify: %s", m)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ports[peer.(*net.UDPAddr).Port] = true
	if l.deaf > 0 {
		l.deaf--
		return nil
	}
	mac := ""
	if l.key != "" {
		mac = m.IsTsig().MAC
		if err := dns.TsigVerify(packet, l.key, "", false); err != nil {
			return err
		}
	}
	l.heard = append(l.heard, m.Answer[0].(*dns.SOA).Serial)
	r := new(dns.Msg)
	r.SetReply(m)
	r.Rcode = l.rcode
	// Somebody who does not know the key, and somebody who guesses the ID.
	forged, err := r.Pack()
	if err != nil {
		return err
	}
	if l.key != "" {
		if _, err := l.WriteTo(forged, peer); err != nil {
			return err
		}
		r.SetTsig(tsigName, dns.HmacSHA256, 300, time.Now().Unix())
		if forged, _, err = dns.TsigGenerate(r, l.key, mac, false); err != nil {
			return err
		}
	}
	_, err = l.WriteTo(forged, peer)
	return err
}

func (l *listener) serials() []uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]uint32(nil), l.heard...)
}

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

// TestEverySecondaryHearsOfTheLastVersion: with and without a key, from a new
// port each time, again when it did not answer, several changes at once.
func TestEverySecondaryHearsOfTheLastVersion(t *testing.T) {
	l := newLive(t, transferText)
	key := newKey(t, tsigName, "hmac-sha256")
	plain, keyed, deaf, dead := &listener{}, &listener{key: tsigText}, &listener{deaf: 2}, &listener{deaf: 1 << 30}
	refusing := &listener{rcode: dns.RcodeRefused}
	targets := []dnsserver.Target{{Addr: hear(t, plain)}, {Addr: hear(t, keyed), Key: key}, {Addr: hear(t, deaf)}, {Addr: hear(t, dead)}, {Addr: hear(t, refusing)}}
	n := dnsserver.NewNotifier(dnsserver.NotifyOptions{
		Waits: []time.Duration{100 * time.Millisecond, 100 * time.Millisecond, time.Second}, Pause: 20 * time.Millisecond,
		Sources: []netip.Addr{netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.1")},
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	var last uint32
	for i := range 20 {
		if err := l.change(func(tx *store.Tx) error { return l.add(tx, fmt.Sprintf("u%d@direct.example.org", i), 0) }); err != nil {
			t.Fatal(err)
		}
		z := l.current.Load().Zone(l.domain)
		last = z.Serial()
		n.Changed(z, targets)
	}
	for name, x := range map[string]*listener{"plain": plain, "keyed": keyed, "deaf at first": deaf, "refusing": refusing} {
		eventually(t, name+" has not heard", func() bool {
			h := x.serials()
			return len(h) > 0 && h[len(h)-1] == last
		})
		if h := x.serials(); len(h) > 20 {
			t.Errorf("%s heard %v", name, h)
		}
	}
	eventually(t, "the dead one is not asked again", func() bool {
		dead.mu.Lock()
		defer dead.mu.Unlock()
		return len(dead.ports) >= 3
	})
	deaf.mu.Lock()
	if len(deaf.ports) < 3 {
		t.Errorf("the same port for several attempts: %v", deaf.ports)
	}
	deaf.mu.Unlock()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestAZoneIsFetchedFromAServerOfOurKind takes a zone whole, then its changes,
// then nothing, and refuses what is not signed with the key.
func TestAZoneIsFetchedFromAServerOfOurKind(t *testing.T) {
	l := newLive(t, transferText)
	addr := netip.MustParseAddrPort(serveLive(t, l, dnsserver.Limits{}))
	apex := apexOf(t, "direct.example.org")
	primary := dnsserver.Primary{Addr: addr, Key: newKey(t, tsigName, "hmac-sha256")}
	if err := l.change(func(tx *store.Tx) error {
		for i := range 60 {
			if err := l.add(tx, fmt.Sprintf("u%d@direct.example.org", i), i%3); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	in, err := dnsserver.Fetch(t.Context(), apex, primary, nil)
	if err != nil || !in.Whole() {
		t.Fatal(err)
	}
	records, err := in.Apply(nil)
	if err != nil || len(records) != 68 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	held := in.Serial()
	if again, err := dnsserver.Fetch(t.Context(), apex, primary, &held); again != nil || err != nil {
		t.Errorf("nothing has changed: %v %v", again, err)
	}
	for i := range 3 {
		if err := l.change(func(tx *store.Tx) error {
			return tx.SetRecords(l.domain, l.records(transferText+fmt.Sprintf("new A 192.0.2.%d\n", i)))
		}); err != nil {
			t.Fatal(err)
		}
	}
	in, err = dnsserver.Fetch(t.Context(), apex, primary, &held)
	if err != nil || in.Whole() || in.Serial() != l.current.Load().Zone(l.domain).Serial() {
		t.Fatalf("%v %v", in, err)
	}
	after, err := in.Apply(records)
	if err != nil || len(after) != 69 {
		t.Errorf("%d records, %v", len(after), err)
	}

	other, err := dnsserver.NewKey(tsigName, "hmac-sha256", []byte("another secret altogether"))
	if err != nil {
		t.Fatal(err)
	}
	for what, p := range map[string]dnsserver.Primary{"another secret": {Addr: addr, Key: other}, "another key": {Addr: addr, Key: newKey(t, otherName, "hmac-sha512")}} {
		if _, err := dnsserver.Fetch(t.Context(), apex, p, &held); err == nil {
			t.Errorf("%s: taken", what)
		} else {
			t.Logf("%s: %v", what, err)
		}
	}
	if _, err := dnsserver.Fetch(t.Context(), zones.Name("\x07nowhere\x07example\x00"), primary, nil); err == nil {
		t.Error("a zone that is not there")
	}
}

// TestAPrimaryIsHeldToSizeTimeAndSignature: what it sends is bounded and signed
// to its end.
func TestAPrimaryIsHeldToSizeTimeAndSignature(t *testing.T) {
	soa, ns := mustRR(t, "direct.example.org. 60 IN SOA a. b. 9 1 1 1 1"), mustRR(t, "direct.example.org. 60 IN NS a.")
	for what, c := range map[string]func(w dns.ResponseWriter, m *dns.Msg){
		"not signed": func(w dns.ResponseWriter, m *dns.Msg) {
			m.Answer = []dns.RR{soa, ns, soa}
			_ = w.WriteMsg(m)
		},
		"the end not signed": func(w dns.ResponseWriter, m *dns.Msg) {
			m.Answer = []dns.RR{soa, ns}
			m.SetTsig(tsigName, dns.HmacSHA256, 300, time.Now().Unix())
			_ = w.WriteMsg(m)
			last := new(dns.Msg)
			last.MsgHdr, last.Answer = m.MsgHdr, []dns.RR{soa}
			_ = w.WriteMsg(last)
		},
		"cut off": func(w dns.ResponseWriter, m *dns.Msg) {
			m.Answer = []dns.RR{soa, ns}
			m.SetTsig(tsigName, dns.HmacSHA256, 300, time.Now().Unix())
			_ = w.WriteMsg(m)
			_ = w.Close()
		},
		"signed long ago": func(w dns.ResponseWriter, m *dns.Msg) {
			m.Answer = []dns.RR{soa, ns, soa}
			m.SetTsig(tsigName, dns.HmacSHA256, 300, time.Now().Add(-time.Hour).Unix())
			_ = w.WriteMsg(m)
		},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := &dns.Server{Listener: l, TsigSecret: map[string]string{tsigName: tsigText}, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			m := new(dns.Msg)
			m.SetReply(q)
			m.Authoritative = true
			c(w, m)
		})}
		go func() { _ = server.ActivateAndServe() }()
		primary := dnsserver.Primary{Addr: l.Addr().(*net.TCPAddr).AddrPort(), Key: newKey(t, tsigName, "hmac-sha256")}
		if _, err := dnsserver.Fetch(t.Context(), apexOf(t, "direct.example.org"), primary, nil); err == nil {
			t.Errorf("%s: taken", what)
		} else {
			t.Logf("%s: %v", what, err)
		}
		_ = server.Shutdown()
	}
}

func mustRR(t testing.TB, s string) dns.RR {
	t.Helper()
	rr, err := dns.NewRR(s)
	if err != nil {
		t.Fatal(err)
	}
	return rr
}
