package dnsserver_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"directnode/dnsserver"
)

// noon is when the tests of cookies play.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const clientCookie = "0011223344556677"

// visitor is a client that has been here: what the server knows of it, and the
// cookie that it has from an earlier answer.
func visitor(t testing.TB) (tr dnsserver.Transport, cookie string) {
	t.Helper()
	tr = stranger()
	_, server := tr.Cookies.Check(unhex(t, clientCookie), tr.Peer, noon)
	return tr, clientCookie + hex.EncodeToString(server)
}

// stranger is a client of a server with cookies that has not been here.
func stranger() dnsserver.Transport {
	return dnsserver.Transport{Cookies: dnsserver.NewCookies([16]byte{}, noon), Peer: netip.MustParseAddr("192.0.2.55"), At: noon}
}

// askWith is ask with a COOKIE option; size 0 becomes 512.
func askWith(t testing.TB, name string, qtype, size uint16, cookie string) []byte {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(ask(t, name, qtype, max(size, 512))); err != nil {
		t.Fatal(err)
	}
	m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: cookie})
	return pack(t, m)
}

// cookieIn is the COOKIE option of an answer, "" without one.
func cookieIn(m *dns.Msg) string {
	if o := m.IsEdns0(); o != nil {
		for _, option := range o.Option {
			if c, ok := option.(*dns.EDNS0_COOKIE); ok {
				return c.Cookie
			}
		}
	}
	return ""
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSipHashReferenceVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/siphash24.txt")
	if err != nil {
		t.Fatal(err)
	}
	var key [16]byte
	for i := range key {
		key[i] = byte(i)
	}
	var msg []byte
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "#") {
			continue
		}
		if got := hex.EncodeToString(binary.LittleEndian.AppendUint64(nil, dnsserver.SipHash24(key, msg))); got != line {
			t.Errorf("of %d octets: %s, want %s", len(msg), got, line)
		}
		msg = append(msg, byte(len(msg)))
	}
	if len(msg) != 64 {
		t.Errorf("%d vectors, want 64", len(msg))
	}
}

// TestRFC9018AppendixA holds the cookies of its four examples.
func TestRFC9018AppendixA(t *testing.T) {
	const first = "e5e973e5a6b2a43f48e7dc849e37bfcf"
	for _, c := range []struct {
		what, secret, next string // next: the secret was rolled before the query
		peer, query        string
		at                 int64
		state, answer      string
	}{
		{"A.1 a new server cookie", first, "", "198.51.100.100", "2464c4abcf10c957", 1559731985, "client", "010000005cf79f111f8130c3eee29480"},
		{"A.2 a renewed one", first, "", "198.51.100.100", "2464c4abcf10c957010000005cf79f111f8130c3eee29480", 1559734385, "valid", "010000005cf7a871d4a564a1442aca77"},
		// Its reserved octets are not zero; it is 1 h 52 min old, too old to prove anything.
		{"A.3 reserved octets", first, "", "203.0.113.203", "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", 1559734700, "stale", "010000005cf7a9acf73a7810aca2381e"},
		{"A.4 a rolled secret, IPv6", "dd3bdf9344b678b185a6f5cb60fca715", "445536bcd2513298075a5d379663c962", "2001:db8:220:1:59de:d0f4:8769:82b8",
			"22681ab97d52c298010000005cf7c57926556bd0934c72f8", 1559741961, "valid", "010000005cf7c609a6bb79d16625507a"},
	} {
		at := time.Unix(c.at, 0)
		cookies := dnsserver.NewCookies([16]byte(unhex(t, c.secret)), at)
		if c.next != "" {
			cookies.RollTo([16]byte(unhex(t, c.next)), at)
		}
		state, server := cookies.Check(unhex(t, c.query), netip.MustParseAddr(c.peer), at)
		if got := hex.EncodeToString(server); state != c.state || got != c.answer {
			t.Errorf("%s: %s %s, want %s %s", c.what, state, got, c.state, c.answer)
		}
	}
}

func TestACookieHoldsForAnHourAndItsClient(t *testing.T) {
	tr, cookie := visitor(t)
	other := netip.MustParseAddr("192.0.2.56")
	spoiled := func(at int) string {
		b := unhex(t, cookie)
		b[at] ^= 1
		return hex.EncodeToString(b)
	}
	for _, c := range []struct {
		what, cookie string
		peer         netip.Addr
		after        time.Duration
		state        string
		kept         bool // the answer has the same cookie
	}{
		{"at once", cookie, tr.Peer, 0, "valid", true},
		{"half an hour later", cookie, tr.Peer, 30 * time.Minute, "valid", true},
		{"a second later", cookie, tr.Peer, 30*time.Minute + time.Second, "valid", false},
		{"an hour later", cookie, tr.Peer, time.Hour, "valid", false},
		{"a second more", cookie, tr.Peer, time.Hour + time.Second, "stale", false},
		{"from a clock that is ahead", cookie, tr.Peer, -5 * time.Minute, "valid", true},
		{"from one too far ahead", cookie, tr.Peer, -5*time.Minute - time.Second, "stale", false},
		{"a client cookie alone", clientCookie, tr.Peer, 0, "client", false},
		{"of another address", cookie, other, 0, "foreign", false},
		{"of another client", spoiled(0), tr.Peer, 0, "foreign", false},
		{"of another version", spoiled(8), tr.Peer, 0, "foreign", false},
		{"with reserved octets we did not hash", spoiled(9), tr.Peer, 0, "foreign", false},
		{"of another time", spoiled(15), tr.Peer, 0, "foreign", false},
		{"with another hash", spoiled(23), tr.Peer, 0, "foreign", false},
		{"of another length", cookie[:len(cookie)-2], tr.Peer, 0, "foreign", false},
		{"of another maker, 8 octets", clientCookie + strings.Repeat("ab", 8), tr.Peer, 0, "foreign", false},
		{"of another maker, 32 octets", clientCookie + strings.Repeat("ab", 32), tr.Peer, 0, "foreign", false},
		{"7 octets", clientCookie[:14], tr.Peer, 0, "malformed", false},
		{"8 and 7 octets", clientCookie + strings.Repeat("ab", 7), tr.Peer, 0, "malformed", false},
		{"8 and 33 octets", clientCookie + strings.Repeat("ab", 33), tr.Peer, 0, "malformed", false},
		{"nothing", "", tr.Peer, 0, "malformed", false},
	} {
		state, server := tr.Cookies.Check(unhex(t, c.cookie), c.peer, noon.Add(c.after))
		if state != c.state || state == "valid" && (hex.EncodeToString(server) == cookie[16:]) != c.kept {
			t.Errorf("%s: %s %x, want %s", c.what, state, server, c.state)
		}
		if server == nil {
			continue
		}
		// Whatever was shown, what is handed out is good.
		fresh := append(unhex(t, c.cookie)[:8], server...)
		if state, _ := tr.Cookies.Check(fresh, c.peer, noon.Add(c.after)); state != "valid" {
			t.Errorf("%s: the answer's cookie is %s", c.what, state)
		}
	}
}

func TestSecretsRollDaily(t *testing.T) {
	day := 24 * time.Hour
	tr, cookie := visitor(t)
	state := func(after time.Duration) string {
		tr.Cookies.Roll(noon.Add(after))
		s, _ := tr.Cookies.Check(unhex(t, cookie), tr.Peer, noon)
		return s
	}
	if s := state(day - time.Second); s != "valid" {
		t.Errorf("before a day: %s", s)
	}
	if s := state(day); s != "valid" {
		t.Errorf("with the previous secret: %s", s)
	}
	if _, server := tr.Cookies.Check(unhex(t, cookie), tr.Peer, noon); hex.EncodeToString(server) == cookie[16:] {
		t.Error("a cookie of the previous secret is not renewed")
	}
	if s := state(2*day - time.Second); s != "valid" {
		t.Errorf("before the second roll: %s", s)
	}
	if s := state(2 * day); s != "foreign" {
		t.Errorf("after the second roll: %s", s)
	}
	// A secret that was given stays.
	a, b := dnsserver.NewCookies([16]byte{1}, noon), dnsserver.NewCookies([16]byte{1}, noon)
	a.Roll(noon.Add(30 * day))
	_, server := a.Check(unhex(t, clientCookie), tr.Peer, noon)
	if s, _ := b.Check(append(unhex(t, clientCookie), server...), tr.Peer, noon); s != "valid" {
		t.Errorf("of a neighbor with the same secret: %s", s)
	}
	if s, _ := dnsserver.NewCookies([16]byte{}, noon).Check(append(unhex(t, clientCookie), server...), tr.Peer, noon); s != "foreign" {
		t.Errorf("of a server with another secret: %s", s)
	}
}

// TestCookiesInAnswers: who sends a COOKIE option has one back in every answer,
// who does not has none (RFC 7873 §5.2).
func TestCookiesInAnswers(t *testing.T) {
	set := newSet(t)
	tr, cookie := visitor(t)
	for _, c := range []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"direct.example.org.", dns.TypeSOA, "NOERROR AA | an direct.example.org/SOA"},
		{"nobody.direct.example.org.", dns.TypeA, "NXDOMAIN AA | ns direct.example.org/SOA"},
		{"elsewhere.example.", dns.TypeA, "REFUSED"},
		{"direct.example.org.", dns.TypeAXFR, "REFUSED"},
		{"direct.example.org.", dns.TypeTKEY, "NOTIMP"},
		{"direct.example.org.", dns.TypeTSIG, "FORMERR"},
	} {
		for sent, back := range map[string]string{cookie: cookie, clientCookie: clientCookie, clientCookie + strings.Repeat("ab", 16): clientCookie, "": ""} {
			q := ask(t, c.name, c.qtype, 1232)
			if sent != "" {
				q = askWith(t, c.name, c.qtype, 1232, sent)
			}
			for _, tcp := range []bool{false, true} {
				tr.TCP = tcp
				m := reply(t, set, q, tr)
				got := cookieIn(m)
				if !strings.HasPrefix(got, back) || back != "" && len(got) != 48 || back == "" && got != "" || show(m) != c.want {
					t.Errorf("%s %s with cookie %q, TCP %v: cookie %q, %s", c.name, dns.Type(c.qtype), sent, tcp, got, show(m))
				}
			}
		}
	}
	tr.TCP = false
	m := reply(t, set, askWith(t, "direct.example.org.", dns.TypeSOA, 1232, clientCookie+"ab"), tr)
	if m.Rcode != dns.RcodeFormatError || m.IsEdns0() == nil || cookieIn(m) != "" {
		t.Errorf("a COOKIE option of 9 octets: %v", m)
	}
	// RFC 7873 §5.2: the first one counts.
	two := new(dns.Msg)
	two.SetQuestion("direct.example.org.", dns.TypeSOA)
	two.SetEdns0(1232, false)
	two.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: 10, Cookie: clientCookie}, &dns.EDNS0_COOKIE{Code: 10, Cookie: "ab"}}
	if m := reply(t, set, pack(t, two), tr); !strings.HasPrefix(cookieIn(m), clientCookie) || len(m.IsEdns0().Option) != 1 || m.Rcode != dns.RcodeSuccess {
		t.Errorf("two COOKIE options: %v", m)
	}
	// A server without cookies has never heard of the option.
	if m := reply(t, set, askWith(t, "direct.example.org.", dns.TypeSOA, 1232, clientCookie), overUDP); cookieIn(m) != "" || len(m.Answer) != 1 {
		t.Errorf("without cookies: %v", m)
	}
}

// TestAQueryForACookieAlone has no question (RFC 7873 §5.4).
func TestAQueryForACookieAlone(t *testing.T) {
	set := newSet(t)
	tr, cookie := visitor(t)
	stale := tr
	stale.At = noon.Add(2 * time.Hour)
	for _, c := range []struct {
		what, cookie string
		tr           dnsserver.Transport
		rcode        int
		back         bool
	}{
		{"a client cookie", clientCookie, tr, dns.RcodeSuccess, true},
		{"a good server cookie", cookie, tr, dns.RcodeSuccess, true},
		{"a foreign one", clientCookie + strings.Repeat("ab", 16), tr, dns.RcodeBadCookie, true},
		{"a stale one", cookie, stale, dns.RcodeBadCookie, true},
		{"a malformed one", "ab", tr, dns.RcodeFormatError, false},
		{"none", "", tr, dns.RcodeFormatError, false},
		{"where there are no cookies", clientCookie, overUDP, dns.RcodeFormatError, false},
	} {
		q := new(dns.Msg)
		q.SetEdns0(1232, false)
		if c.cookie != "" {
			q.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: 10, Cookie: c.cookie}}
		}
		m := reply(t, set, pack(t, q), c.tr)
		if m.Rcode != c.rcode || len(m.Question)+len(m.Answer)+len(m.Ns) != 0 || (len(cookieIn(m)) == 48) != c.back {
			t.Errorf("%s: %s, cookie %q", c.what, show(m), cookieIn(m))
		}
	}
}

// TestCertificatesByUDPNeedProof is udp_cert in all its values.
func TestCertificatesByUDPNeedProof(t *testing.T) {
	set := newSet(t)
	tr, cookie := visitor(t)
	foreign := clientCookie + strings.Repeat("ab", 16)
	const whole, cut = "whole", "cut"
	for _, c := range []struct {
		name                        string
		qtype                       uint16
		cookie                      string
		byCookie, never, alwaysGets string
	}{
		{"carol.direct.example.org.", dns.TypeCERT, "", cut, cut, whole},
		{"carol.direct.example.org.", dns.TypeCERT, clientCookie, cut, cut, whole},
		{"carol.direct.example.org.", dns.TypeCERT, foreign, cut, cut, whole},
		{"carol.direct.example.org.", dns.TypeCERT, cookie, whole, cut, whole},
		{"bob.direct.example.org.", dns.TypeCERT, cookie, whole, cut, whole}, // 1.2 KB: it fits with a cookie
		{"bob.direct.example.org.", dns.TypeCERT, "", cut, cut, whole},
		{"robert.direct.example.org.", dns.TypeCERT, cookie, whole, cut, whole}, // by its alias
		{"robert.direct.example.org.", dns.TypeCERT, clientCookie, cut, cut, whole},
		{"nobody.direct.example.org.", dns.TypeCERT, "", cut, cut, whole}, // that there is none is an answer too
		{"nobody.direct.example.org.", dns.TypeCERT, cookie, whole, cut, whole},
		{"carol.direct.example.org.", dns.TypeANY, "", cut, cut, cut},
		{"carol.direct.example.org.", dns.TypeANY, cookie, whole, cut, whole}, // the smallest RRset is the certificate
		{"ns1.direct.example.org.", dns.TypeANY, "", cut, cut, cut},
		{"ns1.direct.example.org.", dns.TypeANY, cookie, whole, whole, whole},
		{"direct.example.org.", dns.TypeDNSKEY, "", cut, cut, cut},
		{"direct.example.org.", dns.TypeDNSKEY, cookie, whole, whole, whole},
		{"direct.example.org.", dns.TypeRRSIG, foreign, cut, cut, cut},
		{"direct.example.org.", dns.TypeRRSIG, cookie, whole, whole, whole},
		{"direct.example.org.", dns.TypeSOA, "", whole, whole, whole},
		{"txt4.upper.example.", dns.TypeTXT, "", cut, cut, cut}, // 900 octets
		{"txt4.upper.example.", dns.TypeTXT, clientCookie, cut, cut, cut},
		{"txt4.upper.example.", dns.TypeTXT, cookie, whole, whole, whole},
	} {
		for policy, want := range map[dnsserver.UDPCert]string{dnsserver.CertByCookie: c.byCookie, dnsserver.CertNever: c.never, dnsserver.CertAlways: c.alwaysGets} {
			q := ask(t, c.name, c.qtype, 1232)
			if c.cookie != "" {
				q = askWith(t, c.name, c.qtype, 1232, c.cookie)
			}
			tr.UDPCert = policy
			m := reply(t, set, q, tr)
			got := whole
			if m.Truncated && len(m.Answer)+len(m.Ns) == 0 && m.Rcode == dns.RcodeSuccess {
				got = cut
			}
			if got != want || got == whole && len(m.Answer)+len(m.Ns) == 0 {
				t.Errorf("%s %s, cookie %q, policy %d: %s; want it %s", c.name, dns.Type(c.qtype), c.cookie, policy, show(m), want)
			}
		}
	}
}

// TestAClientLearnsItsCookie over a socket: the first question brings it, the
// second one the certificate.
func TestAClientLearnsItsCookie(t *testing.T) {
	addr := start(t, fixed(newSet(t)), dnsserver.Options{})
	conn, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	exchange := func(cookie string) *dns.Msg {
		if _, err := conn.Write(askWith(t, "bob.direct.example.org.", dns.TypeCERT, 1232, cookie)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 2048)
		n, err := conn.Read(buf)
		m := new(dns.Msg)
		if err != nil || m.Unpack(buf[:n]) != nil {
			t.Fatal(err)
		}
		return m
	}
	m := exchange(clientCookie)
	cookie := cookieIn(m)
	if !m.Truncated || len(cookie) != 48 {
		t.Fatalf("the first answer: %s, cookie %q", show(m), cookie)
	}
	if m = exchange(cookie); m.Truncated || len(m.Answer) != 1 {
		t.Errorf("with the cookie: %s", show(m))
	}
	if m = exchange("ffffffffffffffff" + cookie[16:]); !m.Truncated {
		t.Errorf("with another client's cookie: %s", show(m))
	}
}

func FuzzCookie(f *testing.F) {
	tr, cookie := visitor(f)
	f.Add([]byte(nil), []byte(nil), int64(0))
	f.Add(unhex(f, clientCookie), tr.Peer.AsSlice(), int64(0))
	f.Add(unhex(f, cookie), tr.Peer.AsSlice(), int64(3600))
	f.Add(append(unhex(f, cookie), make([]byte, 16)...), []byte(net.IPv6loopback), int64(-301))
	fixed := dnsserver.NewCookies([16]byte{7}, noon)
	f.Fuzz(func(t *testing.T, data, peer []byte, after int64) {
		ip, _ := netip.AddrFromSlice(peer)
		at := noon.Add(time.Duration(after%100_000) * time.Second)
		state, server := fixed.Check(data, ip, at)
		if (state == "malformed") != (len(data) != 8 && (len(data) < 16 || len(data) > 40)) {
			t.Fatalf("%x is %s", data, state)
		}
		if state == "malformed" {
			return
		}
		good := append(bytes.Clone(data[:8]), server...)
		if again, same := fixed.Check(good, ip, at); again != "valid" || !bytes.Equal(same, server) {
			t.Fatalf("the cookie handed out for %x is %s, answered with %x", data, again, same)
		}
		if elsewhere, _ := fixed.Check(good, netip.MustParseAddr("203.0.113.77"), at); elsewhere == "valid" && ip != netip.MustParseAddr("203.0.113.77") {
			t.Fatalf("the cookie for %x at %s is good elsewhere", data, ip)
		}
		if state == "valid" && !bytes.Equal(server[:1], []byte{1}) {
			t.Fatalf("%x is valid and answered with %x", data, server)
		}
	})
}

func BenchmarkCookie(b *testing.B) {
	tr, cookie := visitor(b)
	for _, c := range []struct {
		what, cookie string
	}{{"new", clientCookie}, {"valid", cookie}, {"foreign", clientCookie + strings.Repeat("ab", 16)}} {
		q := askWith(b, "direct.example.org.", dns.TypeSOA, 1232, c.cookie)
		set := newSet(b)
		b.Run(c.what, func(b *testing.B) {
			var r dnsserver.Responder
			buf := make([]byte, 0, 4096)
			b.ReportAllocs()
			for b.Loop() {
				r.Append(buf, set, q, tr)
			}
		})
	}
}
