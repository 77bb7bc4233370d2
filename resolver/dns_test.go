package resolver_test

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"directnode/internal/direct"
	"directnode/internal/spec"
	"directnode/resolver"

	"github.com/miekg/dns"
)

// silentServer takes datagrams and connections and never answers.
func silentServer(t testing.TB) string {
	t.Helper()
	f := newDNS(t)
	f.set(func() { f.silent = true })
	return f.addr
}

func TestNoAnswerIsNeverAbsence(t *testing.T) {
	spec.Covers(t, "AS-2.3-b")
	for _, name := range []string{"CERT bob.direct.test.", "CERT direct.test.", "SRV _ldap._tcp.direct.test."} {
		for _, rcode := range []int{dns.RcodeServerFailure, dns.RcodeRefused, dns.RcodeNotImplemented, dns.RcodeFormatError} {
			w := newWorld(t)
			kind, owner, _ := strings.Cut(name, " ")
			w.dns.rcode(owner+" "+kind, rcode)
			res, r := w.discover("bob@direct.test", oneByOne)
			if r.Verdict != "temporary" || r.Code != 20 || res.Outcome != resolver.OutcomeTemporary || r.Reason.Detail == "" {
				t.Errorf("%s %s: %s code %d", name, dns.RcodeToString[rcode], r.Verdict, r.Code)
			}
			if asked := w.dns.asked(); asked[len(asked)-1] != name {
				t.Errorf("%s: the search went on: %v", name, asked)
			}
		}
	}
}

func TestDelegationIsNoAnswer(t *testing.T) {
	w := newWorld(t)
	change := func(m *dns.Msg) {
		m.Authoritative = false
		m.Rcode = dns.RcodeSuccess
		ns, _ := dns.NewRR("direct.test. 300 IN NS ns.direct.test.")
		m.Ns = []dns.RR{ns}
	}
	w.dns.set(func() { w.dns.change = change })
	if _, r := w.discover("bob@direct.test"); r.Verdict != "temporary" || r.Steps[0].Outcome != "referral" {
		t.Errorf("%s after %s", r.Verdict, r.Steps[0].Outcome)
	}
}

func TestSilentServerLeavesTimeForTheNext(t *testing.T) {
	w := newWorld(t)
	w.dns.cert(t, "bob.direct.test.", w.good("bob", "bob@direct.test"))
	start := time.Now()
	_, r := w.discover("bob@direct.test", func(o *resolver.Options) {
		o.Servers = []string{silentServer(t), w.dns.addr}
		o.Timeout = time.Second
	})
	if r.Verdict != "trusted" || time.Since(start) > time.Second {
		t.Errorf("%s after %v", r.Verdict, time.Since(start))
	}
	if r.Steps[0].Outcome != "timeout" {
		t.Errorf("first step: %+v", r.Steps[0])
	}
}

func TestOnlySilentServersIsTemporary(t *testing.T) {
	w := newWorld(t)
	start := time.Now()
	_, r := w.discover("bob@direct.test", func(o *resolver.Options) {
		o.Servers = []string{silentServer(t), silentServer(t)}
		o.Timeout = 400 * time.Millisecond
	})
	if r.Verdict != "temporary" || time.Since(start) > time.Second {
		t.Errorf("%s after %v", r.Verdict, time.Since(start))
	}
	if len(r.Steps) != 6 { // two servers by two transports, two places not asked
		t.Errorf("%d steps", len(r.Steps))
	}
}

func TestServerThatFailsIsFollowedByTheNext(t *testing.T) {
	w := newWorld(t)
	bad := newDNS(t)
	bad.rcode("", dns.RcodeServerFailure)
	w.dns.cert(t, "bob.direct.test.", w.good("bob", "bob@direct.test"))
	_, r := w.discover("bob@direct.test", func(o *resolver.Options) {
		o.Servers = []string{fmt.Sprintf("127.0.0.1:%d", closedPort(t)), bad.addr, w.dns.addr}
		o.Sequential = true // one question at a time: what one learns of a server would change the order for the others
	})
	if r.Verdict != "trusted" || r.Steps[0].Outcome != "unreachable" || r.Steps[1].Outcome != "servfail" {
		t.Errorf("%s: %+v", r.Verdict, r.Steps)
	}
	if bad.logged("tcp") > 0 {
		t.Error("a server that spoke was asked again by TCP")
	}
}

func TestLargeAnswersComeByTCP(t *testing.T) {
	spec.Covers(t, "AS-5.4-a", "AS-5.4-b")
	w := newWorld(t)
	w.dns.cert(t, "bob.direct.test.", w.good("one", "bob@direct.test"), w.good("two", "bob@direct.test"))
	_, r := w.discover("bob@direct.test", oneByOne)
	if len(usable(r)) != 2 || r.Steps[0].Outcome != "truncated" || r.Steps[1].Transport != "tcp" || r.Steps[1].Answers != 2 {
		t.Errorf("%+v", r.Steps)
	}
	udp := w.dns.logged("udp")
	_, r = w.discover("bob@direct.test", oneByOne, func(o *resolver.Options) { o.TCPFirst = true })
	if len(usable(r)) != 2 || w.dns.logged("udp") != udp {
		t.Error("tcp first: UDP was used")
	}
}

func TestCutAnswerIsAskedForByTCP(t *testing.T) {
	spec.Covers(t, "AS-5.4-b")
	w := newWorld(t)
	bob := w.good("bob", "bob@direct.test")
	w.dns.cert(t, "bob.direct.test.", bob)
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	tcp, err := net.Listen("tcp", udp.LocalAddr().String())
	if err != nil {
		t.Skip("the port is taken for TCP")
	}
	go (&dns.Server{Listener: tcp, Handler: w.dns.handler("tcp")}).ActivateAndServe()
	defer tcp.Close()
	go func() { // answers whole messages cut after 100 octets, without TC
		buf := make([]byte, 4096)
		for {
			n, peer, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			q := new(dns.Msg)
			if q.Unpack(buf[:n]) != nil {
				continue
			}
			m := new(dns.Msg).SetReply(q)
			m.Answer = w.dns.records["bob.direct.test. CERT"]
			wire, _ := m.Pack()
			udp.WriteTo(wire[:100], peer)
		}
	}()
	_, r := w.discover("bob@direct.test", func(o *resolver.Options) { o.Servers = []string{tcp.Addr().String()} })
	if r.Verdict != "trusted" || r.Steps[0].Outcome != "truncated" {
		t.Errorf("%s: %+v", r.Verdict, r.Steps)
	}
}

func TestOnlyOneTransportPasses(t *testing.T) {
	w := newWorld(t)
	w.dns.set(func() { w.dns.noTCP = true })
	w.dns.cert(t, "bob.direct.test.", w.root.Leaf("b", san("bob@direct.test")))
	if _, r := w.discover("bob@direct.test", func(o *resolver.Options) { o.TCPFirst, o.Timeout = true, time.Second }); r.Verdict != "trusted" {
		t.Errorf("UDP only: %s %+v", r.Verdict, r.Steps)
	}
}

func TestForgedDatagramsAreReadPast(t *testing.T) {
	w := newWorld(t)
	good := w.good("good", "bob@direct.test")
	forged := w.good("forged", "bob@direct.test")
	w.dns.cert(t, "good.test.", good)
	w.dns.cert(t, "forged.test.", forged)
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	go func() {
		buf := make([]byte, 4096)
		for {
			n, peer, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			q := new(dns.Msg)
			if q.Unpack(buf[:n]) != nil {
				continue
			}
			answer := func(from string, change func(*dns.Msg)) {
				m := new(dns.Msg).SetReply(q)
				rr := dns.Copy(w.dns.records[from+" CERT"][0])
				rr.Header().Name = q.Question[0].Name
				m.Answer = []dns.RR{rr}
				change(m)
				wire, _ := m.Pack()
				udp.WriteTo(wire, peer)
			}
			answer("forged.test.", func(m *dns.Msg) { m.Id++ })
			answer("forged.test.", func(m *dns.Msg) { m.Question[0].Name = "other.test." })
			answer("forged.test.", func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeA })
			answer("forged.test.", func(m *dns.Msg) { m.Response = false })
			answer("forged.test.", func(m *dns.Msg) { m.Question = nil })
			udp.WriteTo([]byte("noise"), peer)
			answer("good.test.", func(*dns.Msg) {})
		}
	}()
	_, r := w.discover("bob@direct.test", func(o *resolver.Options) { o.Servers = []string{udp.LocalAddr().String()} })
	if !slices.Equal(usable(r), []string{"good"}) {
		t.Errorf("usable %v: %+v", usable(r), r.Steps)
	}
}

func TestServerWithoutEDNS(t *testing.T) {
	w := newWorld(t)
	bob := w.good("bob", "bob@direct.test")
	w.dns.cert(t, "bob.direct.test.", bob)
	handler := w.dns.handler("tcp")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{Listener: l, Handler: dns.HandlerFunc(func(rw dns.ResponseWriter, q *dns.Msg) {
		if q.IsEdns0() != nil {
			m := new(dns.Msg)
			m.Id, m.Response, m.Rcode = q.Id, true, dns.RcodeFormatError // and no question: it did not get that far
			rw.WriteMsg(m)
			return
		}
		handler(rw, q)
	})}
	go s.ActivateAndServe()
	defer s.Shutdown()
	_, r := w.discover("bob@direct.test", func(o *resolver.Options) { o.Servers, o.TCPFirst = []string{l.Addr().String()}, true })
	if r.Verdict != "trusted" {
		t.Errorf("%s: %+v", r.Verdict, r.Steps)
	}
}

func TestAliases(t *testing.T) {
	w := newWorld(t)
	bob := w.good("bob", "bob@direct.test")
	// One server that is authoritative for the alias only: it comes alone.
	w.dns.add(t, "bob.direct.test. 300 IN CNAME certs.other.test.")
	w.dns.cert(t, "certs.other.test.", bob)
	if _, r := w.discover("bob@direct.test"); r.Verdict != "trusted" || r.Source != "dns-address" || r.Steps[0].Outcome != "alias" {
		t.Errorf("alias alone: %s %+v", r.Verdict, r.Steps)
	}
	// A recursive server sends alias and certificate together.
	w.dns.replace("ann.direct.test. CERT", rr(t, "ann.direct.test. 300 IN CNAME Bob2.other.test."), rename(w.dns.records["certs.other.test. CERT"][0], "bob2.OTHER.test."))
	if res, _ := w.discover("ann@direct.test"); len(res.Found) != 1 {
		t.Errorf("alias with its target: %+v", res.Steps)
	}
	// An alias into nothing is absence: the domain is next.
	w.dns.add(t, "gone.direct.test. 300 IN CNAME nowhere.other.test.")
	w.dns.cert(t, "direct.test.", w.good("domain", "direct.test"))
	if _, r := w.discover("gone@direct.test"); r.Source != "dns-domain" {
		t.Errorf("alias into nothing: %q", r.Source)
	}
	// A loop is neither an answer nor absence.
	w.dns.add(t, "loop.direct.test. 300 IN CNAME a.loop.test.", "a.loop.test. 300 IN CNAME b.loop.test.", "b.loop.test. 300 IN CNAME a.loop.test.")
	w.dns.replace("long.direct.test. CNAME", rr(t, "long.direct.test. 300 IN CNAME long.direct.test."))
	for _, a := range []string{"loop@direct.test", "long@direct.test"} {
		if _, r := w.discover(a); r.Verdict != "temporary" {
			t.Errorf("%s: %s", a, r.Verdict)
		}
	}
	// Records of other names in the answer section are not believed.
	w.dns.replace("eve.direct.test. CERT", w.dns.records["certs.other.test. CERT"]...)
	if _, r := w.discover("eve@direct.test"); r.Source != "dns-domain" {
		t.Errorf("record of another name was taken: %q", r.Source)
	}
}

func rr(t testing.TB, line string) dns.RR {
	t.Helper()
	r, err := dns.NewRR(line)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func rename(r dns.RR, name string) dns.RR {
	r = dns.Copy(r)
	r.Header().Name = name
	return r
}

func TestStubsTakeTheirDomain(t *testing.T) {
	w := newWorld(t)
	inner, outer := newDNS(t), newDNS(t)
	inner.cert(t, "bob.b.direct.test.", w.good("inner", "bob@b.direct.test"))
	outer.cert(t, "bob.direct.test.", w.good("outer", "bob@direct.test"))
	w.dns.cert(t, "bob.other.test.", w.good("else", "bob@other.test"))
	stubs := func(o *resolver.Options) {
		for name, f := range map[string]*fakeDNS{"direct.test": outer, "b.direct.test": inner} {
			d, err := direct.ParseDomain(name)
			if err != nil {
				t.Fatal(err)
			}
			o.Stubs = append(o.Stubs, resolver.Stub{Domain: d, Servers: []string{f.addr}})
		}
	}
	for a, want := range map[string]string{"bob@b.direct.test": "inner", "bob@direct.test": "outer", "bob@other.test": "else"} {
		if _, r := w.discover(a, stubs); !slices.Equal(usable(r), []string{want}) {
			t.Errorf("%s: %v", a, usable(r))
		}
	}
	if slices.ContainsFunc(w.dns.asked(), func(q string) bool { return !strings.HasSuffix(q, "other.test.") }) {
		t.Errorf("the default server was asked %v", w.dns.asked())
	}
}

func TestOptionsAreChecked(t *testing.T) {
	d, err := direct.ParseDomain("direct.test")
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]resolver.Options{
		"empty server":        {Servers: []string{""}},
		"URL":                 {Servers: []string{"dns://127.0.0.1"}},
		"stub without server": {Servers: []string{"127.0.0.1"}, Stubs: []resolver.Stub{{Domain: d}}},
		"stub without domain": {Servers: []string{"127.0.0.1"}, Stubs: []resolver.Stub{{Servers: []string{"127.0.0.1"}}}},
	} {
		if _, err := resolver.New(o); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	for _, s := range []string{"127.0.0.1", "127.0.0.1:5300", "::1", "[::1]", "[::1]:53", "ns.example.org:53"} {
		if _, err := resolver.New(resolver.Options{Servers: []string{s}}); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func TestMX(t *testing.T) {
	w := newWorld(t)
	w.dns.add(t, "a.test. 300 IN MX 20 backup.a.test.", "a.test. 300 IN MX 10 one.a.test.", "a.test. 300 IN MX 10 two.a.test.",
		"null.test. 300 IN MX 0 .", "plain.test. 300 IN A 127.0.0.1")
	w.dns.rcode("broken.test. MX", dns.RcodeServerFailure)
	r := w.resolver()
	orders := map[string]bool{}
	for range 40 {
		mx, err := r.MX(t.Context(), "A.test")
		if err != nil || len(mx) != 3 || mx[2].Host != "backup.a.test" {
			t.Fatalf("%v %v", mx, err)
		}
		orders[mx[0].Host] = true
	}
	if len(orders) != 2 {
		t.Error("hosts of one preference always come in one order") // RFC 5321 §5.1; fails by chance once in 2^39
	}
	for _, tc := range []struct {
		domain                              string
		temporary, absent, noName, takesNil bool
	}{
		{domain: "null.test", takesNil: true},
		{domain: "plain.test", absent: true},
		{domain: "gone.test", absent: true, noName: true},
		{domain: "broken.test", temporary: true},
	} {
		_, err := r.MX(t.Context(), tc.domain)
		var e *resolver.LookupError
		if !errors.As(err, &e) {
			t.Errorf("%s: %v", tc.domain, err)
			continue
		}
		if e.Temporary() != tc.temporary || e.NotFound() != tc.absent || e.NoSuchName() != tc.noName || e.NullMX() != tc.takesNil || e.Error() == "" {
			t.Errorf("%s: %+v", tc.domain, e)
		}
	}
}

func TestAddrs(t *testing.T) {
	w := newWorld(t)
	w.dns.add(t, "both.test. 300 IN A 192.0.2.1", "both.test. 300 IN AAAA 2001:db8::1", "six.test. 300 IN AAAA 2001:db8::2",
		"four.test. 300 IN A 192.0.2.3", "none.test. 300 IN TXT x", "half.test. 300 IN A 192.0.2.4")
	w.dns.rcode("half.test. AAAA", dns.RcodeServerFailure)
	w.dns.rcode("four.test. AAAA", dns.RcodeNameError) // as some servers say
	w.dns.rcode("broken.test. A", dns.RcodeServerFailure)
	w.dns.add(t, "broken.test. 300 IN TXT x")
	r := w.resolver()
	for host, want := range map[string]string{
		"both.test": "[192.0.2.1 2001:db8::1]", "six.test.": "[2001:db8::2]", "four.test": "[192.0.2.3]", "half.test": "[192.0.2.4]",
		"192.0.2.9": "[192.0.2.9]", "[2001:db8::9]": "[2001:db8::9]",
	} {
		got, err := r.Addrs(t.Context(), host)
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: %v %v", host, got, err)
		}
	}
	var e *resolver.LookupError
	if _, err := r.Addrs(t.Context(), "none.test"); !errors.As(err, &e) || !e.NotFound() || e.NoSuchName() {
		t.Errorf("none.test: %v", err)
	}
	if _, err := r.Addrs(t.Context(), "gone.test"); !errors.As(err, &e) || !e.NoSuchName() {
		t.Errorf("gone.test: %v", err)
	}
	if _, err := r.Addrs(t.Context(), "broken.test"); !errors.As(err, &e) || !e.Temporary() {
		t.Errorf("broken.test: %v", err)
	}
}
