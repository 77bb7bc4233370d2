package resolver_test

import (
	"crypto"
	"encoding/hex"
	"fmt"
	"net/netip"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"directnode/dnsserver"
	"directnode/internal/direct"
	"directnode/internal/testpki"
	"directnode/resolver"
	"directnode/zones"

	"github.com/miekg/dns"
)

// cookieServer answers with a server cookie like a real one: "secret" and the client's cookie.
func cookieServer(w *world, change func(q, m *dns.Msg, client []byte)) {
	w.dns.set(func() {
		w.dns.ask = func(q, m *dns.Msg) {
			var client []byte
			if opt := q.IsEdns0(); opt != nil {
				for _, o := range opt.Option {
					if c, ok := o.(*dns.EDNS0_COOKIE); ok {
						client, _ = hex.DecodeString(c.Cookie)
					}
				}
			}
			change(q, m, client)
		}
	})
}

func setCookie(m *dns.Msg, cookie []byte) {
	m.SetEdns0(1232, false)
	opt := m.IsEdns0()
	opt.Option = append(opt.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: hex.EncodeToString(cookie)})
}

// TestCookies: a client cookie stays with its server and comes back with what the server gave (RFC 7873 §5.3); BADCOOKIE is asked again.
func TestCookies(t *testing.T) {
	w := newWorld(t)
	w.dns.cert(t, "bob.direct.test.", w.good("bob", "bob@direct.test"))
	var sent [][]byte
	cookieServer(w, func(_, m *dns.Msg, client []byte) {
		sent = append(sent, client)
		if len(client) < 8 {
			return
		}
		setCookie(m, append(slices.Clone(client[:8]), "serverco"...))
		if len(client) == 8 {
			m.Rcode, m.Answer = dns.RcodeBadCookie, nil
		}
	})
	_, r := w.discover("bob@direct.test", oneByOne)
	if r.Verdict != "trusted" || r.Steps[0].Outcome != "badcookie" || r.Steps[1].Outcome != "answer" || r.Steps[1].Transport != "udp" {
		t.Errorf("%s: %+v", r.Verdict, r.Steps)
	}
	var got [][]byte
	w.dns.set(func() { got = slices.Clone(sent) })
	if len(got) != 2 || len(got[0]) != 8 || string(got[1][8:]) != "serverco" || string(got[0]) != string(got[1][:8]) {
		t.Errorf("cookies sent: %q", got)
	}
}

// TestForgedCookiesAreNotBelieved: an answer with another client's cookie is none, and one without a cookie, from a server that gives
// them, is asked for again by TCP.
func TestForgedCookiesAreNotBelieved(t *testing.T) {
	w := newWorld(t)
	w.dns.cert(t, "bob.direct.test.", w.good("bob", "bob@direct.test"))
	answers := 0
	cookieServer(w, func(_, m *dns.Msg, client []byte) {
		if answers++; answers == 1 {
			setCookie(m, append(slices.Clone(client[:8]), "serverco"...))
		}
	})
	r := w.resolver(oneByOne, func(o *resolver.Options) { o.Cache = -1 })
	for i, want := range []string{"udp", "tcp"} {
		res, err := r.Discover(t.Context(), address(t, "bob@direct.test"))
		if err != nil || len(res.Found) != 1 {
			t.Fatalf("%d: %v %+v", i, err, res)
		}
		if got := res.Steps[res.Found[0].Step-1].Transport; got != want {
			t.Errorf("discovery %d: answer by %s, want %s: %+v", i, got, want, res.Steps)
		}
	}
	cookieServer(w, func(_, m *dns.Msg, _ []byte) { setCookie(m, []byte("somebodyelse....")) })
	if _, rep := w.discover("bob@direct.test", oneByOne, func(o *resolver.Options) { o.Timeout = 400 * time.Millisecond }); rep.Verdict != "temporary" {
		t.Errorf("a forged cookie: %s %+v", rep.Verdict, rep.Steps)
	}
}

// TestCookiesOpenUDPAtOurOwnServer: it sends certificates by datagram to whom it knows.
func TestCookiesOpenUDPAtOurOwnServer(t *testing.T) {
	w := newWorld(t)
	d, err := direct.ParseDomain("direct.test")
	if err != nil {
		t.Fatal(err)
	}
	text := "@ 300 IN SOA ns.direct.test. h.direct.test. 1 2 3 4 60\n@ 300 IN NS ns.direct.test.\nns 300 IN A 127.0.0.1\n"
	for _, name := range []string{"ann", "bob"} {
		text += certRecordText(name, w.good(name, name+"@direct.test").DER)
	}
	p, err := zones.ParseMaster(strings.NewReader(text), d, "zone")
	if err != nil {
		t.Fatal(err)
	}
	set, err := zones.BuildParsed(1, zones.Options{}, p)
	if err != nil {
		t.Fatal(err)
	}
	o := resolver.Options{Servers: []string{serveZones(t, set, dnsserver.Options{})}, Sequential: true}
	r, err := resolver.New(o)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"ann", "bob"} {
		res, err := r.Discover(t.Context(), address(t, name+"@direct.test"))
		if err != nil || len(res.Found) != 1 {
			t.Fatalf("%v %+v", err, res)
		}
		if got := res.Steps[res.Found[0].Step-1].Transport; got != []string{"tcp", "udp"}[i] {
			t.Errorf("%s came by %s: %+v", name, got, res.Steps)
		}
	}
}

// TestMixedCaseMustComeBack: with the option on, an answer in another case is not believed.
func TestMixedCaseMustComeBack(t *testing.T) {
	w := newWorld(t)
	w.dns.cert(t, "a.long.name.with.many.letters.direct.test.", w.good("a", "a.long.name.with.many.letters@direct.test"))
	mixed := func(o *resolver.Options) { o.MixCase, o.Sequential, o.Timeout = true, true, 400*time.Millisecond }
	if _, r := w.discover("a.long.name.with.many.letters@direct.test", mixed); r.Verdict != "trusted" || strings.ToLower(r.Steps[0].Question) != "cert a.long.name.with.many.letters.direct.test." {
		t.Errorf("%s: %+v", r.Verdict, r.Steps)
	}
	if asked := w.dns.asked(); strings.ToLower(asked[0]) == asked[0] {
		t.Errorf("asked %q", asked) // by chance once in 2^30
	}
	w.dns.set(func() { w.dns.change = func(m *dns.Msg) { m.Question[0].Name = strings.ToLower(m.Question[0].Name) } })
	if _, r := w.discover("a.long.name.with.many.letters@direct.test", mixed); r.Verdict != "temporary" {
		t.Errorf("an answer in lower case: %s", r.Verdict)
	}
}

// TestDirectoriesInsideAreNotAsked: a stranger's domain must not make us connect to our own network; what the zone's own server inside says
// of inside, and what the operator allows, is meant.
func TestDirectoriesInsideAreNotAsked(t *testing.T) {
	w := newWorld(t)
	l := newLDAP(t, "ou=x")
	l.add("ou=x", "bob@direct.test", w.good("bob", "bob@direct.test"))
	w.srv("direct.test", fmt.Sprintf("0 0 %d", l.port))
	w.dns.set(func() { w.dns.change = func(m *dns.Msg) { m.Authoritative, m.RecursionAvailable = false, true } })
	_, r := w.discover("bob@direct.test")
	if r.Verdict != "not_found" || !strings.Contains(r.Reason.Detail, "no public address") || !slices.ContainsFunc(r.Steps, func(s resolver.ReportStep) bool { return s.Outcome == "refused_inside" }) {
		t.Errorf("through a recursive server: %s %+v", r.Verdict, r.Steps)
	}
	if _, r := w.discover("bob@direct.test", func(o *resolver.Options) { o.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")} }); r.Verdict != "trusted" {
		t.Errorf("allowed: %s", r.Verdict)
	}
	w.dns.set(func() { w.dns.change = nil })
	for _, address := range []string{"169.254.169.254", "0.0.0.0", "224.0.0.1", "255.255.255.255"} {
		w.dns.replace("ldap.test. A", rr(t, "ldap.test. 300 IN A "+address))
		if _, r := w.discover("bob@direct.test"); r.Verdict != "not_found" {
			t.Errorf("%s: %s %+v", address, r.Verdict, r.Steps)
		}
	}
}

func TestTagIsDroppedByPolicy(t *testing.T) {
	w := newWorld(t)
	w.dns.cert(t, "bob.direct.test.", w.good("bob", "bob@direct.test"))
	w.dns.cert(t, "bob+lab.direct.test.", w.good("tagged", "bob+lab@direct.test"))
	drop := func(o *resolver.Options) { o.DropTag = true }
	if _, r := w.discover("bob+lab@direct.test", drop); !slices.Equal(usable(r), []string{"tagged"}) {
		t.Errorf("usable %v", usable(r))
	}
	report, rec := w.recorded("bob+other@direct.test", nil, drop)
	if !slices.Equal(usable(report), []string{"bob"}) || report.Address != "bob+other@direct.test" {
		t.Errorf("usable %v for %s", usable(report), report.Address)
	}
	sameAgain(t, report, rec)
}

// TestLotAmongServers: RFC 2782: the weight decides how often a server comes first, and one of weight 0 comes first at times.
func TestLotAmongServers(t *testing.T) {
	w := newWorld(t)
	for _, weight := range []int{0, 10, 90} {
		l := newLDAP(t, "ou=x")
		l.add("ou=x", "bob@direct.test", w.good(fmt.Sprint(weight), "bob@direct.test"))
		w.srv("direct.test", fmt.Sprintf("%d %d %d", 1, weight, l.port))
	}
	r := w.resolver(func(o *resolver.Options) { o.SRVRandom = true })
	first := map[string]int{}
	for range 150 {
		res, err := r.Discover(t.Context(), address(t, "bob@direct.test"))
		if err != nil || len(res.Found) != 1 {
			t.Fatal(err, res.Steps)
		}
		first[usable(resolver.NewReport(res, judge(res, w.root), true))[0]]++
	}
	if first["90"] < 100 || first["10"] == 0 || first["90"] == 150 { // fails by chance about once in 10^6
		t.Errorf("%v", first)
	}
	report, rec := w.recordedBy(r, "bob@direct.test", nil)
	sameAgain(t, report, rec)
}

// TestOneQuestionPerName: a thousand recipients in few domains ask each name once.
func TestOneQuestionPerName(t *testing.T) {
	w := newWorld(t)
	for i := range 20 {
		w.dns.cert(t, fmt.Sprintf("d%d.test.", i), w.good("d", fmt.Sprintf("d%d.test", i)))
	}
	w.dns.set(func() { // absence is remembered by its SOA record
		w.dns.change = func(m *dns.Msg) {
			if len(m.Answer) == 0 {
				m.Ns = []dns.RR{rr(t, "test. 300 IN SOA ns.test. h.test. 1 2 3 4 60")}
			}
		}
	})
	r := w.resolver()
	var wg sync.WaitGroup
	slots := make(chan struct{}, 50)
	for i := range 1000 {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if res, err := r.Discover(t.Context(), address(t, fmt.Sprintf("u%d@d%d.test", i, i%20))); err != nil || len(res.Found) != 1 {
				t.Errorf("%v %+v", err, res)
			}
		})
	}
	wg.Wait()
	w.dns.mu.Lock()
	defer w.dns.mu.Unlock()
	count := map[string]int{}
	for _, line := range w.dns.log {
		if count[line]++; count[line] > 1 {
			t.Errorf("%s: %d times", line, count[line])
		}
	}
	if len(count) > 1000+2*20 {
		t.Errorf("%d questions", len(count))
	}
}

// TestAbsenceIsRemembered: by the SOA record, and without one not at all; failures never.
func TestAbsenceIsRemembered(t *testing.T) {
	w := newWorld(t)
	w.dns.rcode("bad.direct.test. CERT", dns.RcodeServerFailure)
	w.dns.set(func() {
		w.dns.change = func(m *dns.Msg) {
			if strings.HasPrefix(m.Question[0].Name, "soa.") {
				m.Ns = []dns.RR{rr(t, "direct.test. 300 IN SOA ns.direct.test. h.direct.test. 1 2 3 4 60")}
			}
		}
	})
	r := w.resolver(oneByOne)
	for range 3 {
		for _, a := range []string{"soa@direct.test", "bare@direct.test", "bad@direct.test"} {
			if _, err := r.Discover(t.Context(), address(t, a)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, want := range map[string]int{"soa": 1, "bare": 3, "bad": 3} {
		if got := w.dns.logged("udp CERT " + name); got != want {
			t.Errorf("%s was asked %d times, want %d", name, got, want)
		}
	}
}

// TestCacheIsBounded: a stranger who has us ask for ever new names pushes out what is old, and no more.
func TestCacheIsBounded(t *testing.T) {
	w := newWorld(t)
	der := w.good("x", "direct.test").DER
	w.dns.set(func() {
		w.dns.ask = func(q, m *dns.Msg) {
			m.Rcode = dns.RcodeSuccess
			m.Answer = []dns.RR{rr(t, q.Question[0].Name+" 300 IN CERT 1 0 0 "+base64Of(der))}
		}
	})
	const bound = 1 << 20
	r := w.resolver(oneByOne, func(o *resolver.Options) { o.Cache = bound })
	discover := func(i int) {
		if _, err := r.Discover(t.Context(), address(t, fmt.Sprintf("u%d@direct.test", i))); err != nil {
			t.Fatal(err)
		}
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	discover(0)
	before := heap()
	for i := range 1500 {
		discover(i)
	}
	w.dns.set(func() { w.dns.log = nil })
	if grown := int64(heap()) - int64(before); grown > 4*bound {
		t.Errorf("the cache of %d octets holds %d", bound, grown)
	}
	discover(1499)
	discover(0)
	if asked := len(w.dns.asked()); asked != 1 {
		t.Errorf("%d questions for what was used last and what was pushed out", asked)
	}
	runtime.KeepAlive(r)
}

// TestValidationIsEvidence: signed and unsigned answers are told apart, from an anchor down, and forged ones named; nothing else changes.
func TestValidationIsEvidence(t *testing.T) {
	w := newWorld(t)
	key := &dns.DNSKEY{Hdr: dns.RR_Header{Name: "direct.test.", Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 300}, Flags: 257, Protocol: 3, Algorithm: dns.ECDSAP256SHA256}
	private, err := key.Generate(256)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(rrs ...dns.RR) dns.RR {
		s := &dns.RRSIG{Hdr: dns.RR_Header{Name: rrs[0].Header().Name, Rrtype: dns.TypeRRSIG, Class: dns.ClassINET, Ttl: 300}, Algorithm: key.Algorithm, SignerName: key.Hdr.Name,
			KeyTag: key.KeyTag(), Inception: uint32(time.Now().Add(-time.Hour).Unix()), Expiration: uint32(time.Now().Add(time.Hour).Unix())}
		if err := s.Sign(private.(crypto.Signer), rrs); err != nil {
			t.Fatal(err)
		}
		return s
	}
	bob := rr(t, strings.TrimSpace("bob.direct.test. 300 IN CERT 1 0 0 "+base64Of(w.good("bob", "bob@direct.test").DER)))
	w.dns.replace("direct.test. DNSKEY", key, sign(key))
	w.dns.replace("bob.direct.test. CERT", bob, sign(bob))
	forged := rr(t, "eve.direct.test. 300 IN CERT 1 0 0 "+base64Of(w.good("eve", "eve@direct.test").DER))
	wrong := sign(forged)
	forged.(*dns.CERT).KeyTag = 1 // after it was signed
	w.dns.replace("eve.direct.test. CERT", forged, wrong)
	w.dns.cert(t, "ann.direct.test.", w.good("ann", "ann@direct.test"))
	nsec := rr(t, "ann.direct.test. 300 IN NSEC bob.direct.test. CERT RRSIG NSEC")
	for _, name := range []string{"bob", "eve", "ann"} {
		w.dns.set(func() { w.dns.names[name+".direct.test."] = true })
	}
	w.dns.set(func() {
		w.dns.ask = func(q, m *dns.Msg) {
			if q.Question[0].Qtype == dns.TypeDS && q.Question[0].Name == "ann.direct.test." {
				m.Ns = []dns.RR{nsec, sign(nsec)}
			}
		}
	})
	validating := func(o *resolver.Options) { o.Anchors, o.Sequential = []string{key.ToDS(dns.SHA256).String()}, true }
	for name, want := range map[string]string{"bob": "secure", "eve": "bogus", "ann": "bogus"} {
		report, rec := w.recorded(name+"@direct.test", nil, validating)
		got := ""
		for _, s := range report.Steps {
			if s.Kind == resolver.KindDNSSEC {
				got = s.Outcome
			}
		}
		if got != want || report.Verdict != "trusted" {
			t.Errorf("%s: %q, %s, want %q and trusted: %+v", name, got, report.Verdict, want, report.Steps)
		}
		sameAgain(t, report, rec)
	}
	other := func(o *resolver.Options) {
		o.Anchors, o.Sequential = []string{"other.test. IN DS 1 13 2 " + strings.Repeat("00", 32)}, true
	}
	if _, r := w.discover("bob@direct.test", other); r.Verdict != "trusted" || !slices.ContainsFunc(r.Steps, func(s resolver.ReportStep) bool { return s.Outcome == "open" }) {
		t.Errorf("without an anchor above: %+v", r.Steps)
	}
	if _, err := resolver.New(resolver.Options{Servers: []string{"127.0.0.1"}, Anchors: []string{"x. IN A 127.0.0.1"}}); err == nil {
		t.Error("an A record was taken for an anchor")
	}
}

// TestURLsOfRecords: a URL that is none, too many, and ones that lead nowhere; what is missing for now is not absence.
func TestURLsOfRecords(t *testing.T) {
	w := newWorld(t)
	w.dns.cert(t, "direct.test.", w.good("domain", "direct.test"))
	bob := w.good("bob", "bob@direct.test")
	for name, tc := range map[string]struct{ url, source, verdict string }{
		"garbage behind it":        {serveBody(t, []byte("<html>")), "dns-domain", "trusted"},
		"PEM behind it":            {serveBody(t, bob.CertPEM()), "dns-address", "trusted"},
		"refused by the door":      {"ftp://127.0.0.1/x", "dns-domain", "trusted"},
		"an address inside":        {"http://169.254.169.254/x", "dns-domain", "trusted"},
		"nobody listens":           {fmt.Sprintf("http://127.0.0.1:%d/x", closedPort(t)), "", "temporary"},
		"no URL":                   {"two words", "dns-domain", "trusted"},
		"longer than any":          {"http://x/" + strings.Repeat("x", 3000), "dns-domain", "trusted"},
		"the domain and then more": {serveBody(t, bob.DER), "dns-address", "trusted"},
	} {
		w.dns.set(func() { delete(w.dns.records, "bob.direct.test. CERT") })
		w.dns.certOf(t, "bob.direct.test.", 4, []byte(tc.url))
		if _, r := w.discover("bob@direct.test", openDoor); r.Source != tc.source || r.Verdict != tc.verdict {
			t.Errorf("%s: %s from %q: %+v", name, r.Verdict, r.Source, r.Steps)
		}
	}
	for range 10 {
		w.dns.certOf(t, "many.direct.test.", 4, []byte(serveBody(t, w.root.Leaf("many", testpki.Address("many@direct.test")).DER)))
	}
	if res, _ := w.discover("many@direct.test", openDoor); len(res.Found) != 4 {
		t.Errorf("%d of ten URLs were fetched", len(res.Found))
	}
}

// TestMemoryOfOneDiscovery: a directory that sends as much as it may, eight times over.
func TestMemoryOfOneDiscovery(t *testing.T) {
	w := newWorld(t)
	var records []string
	l := newLDAP(t, "ou=x")
	for i := range 64 {
		e := entry{base: "ou=x", mail: "bob@direct.test", attribute: "userCertificate;binary"}
		for j := range 2 {
			e.values = append(e.values, fmt.Appendf(make([]byte, 12_000), "%d %d", i, j)) // no certificates: the search goes on
		}
		l.addEntry(e)
	}
	w.dns.add(t, "ldap.test. 300 IN A 127.0.0.1")
	for i := range 8 {
		records = append(records, fmt.Sprintf("%d 0 %d ldap%d.test.", i, l.port, i))
		w.dns.add(t, fmt.Sprintf("ldap%d.test. 300 IN A 127.0.0.1", i))
	}
	w.srv("direct.test", records...)
	r := w.resolver(func(o *resolver.Options) { o.Cache = -1 })
	var peak uint64
	done, sampled := make(chan struct{}), make(chan struct{})
	// What a collection found alive: what is allocated while one looks does not count.
	alive := func() uint64 {
		runtime.GC()
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(live)
		return live[0].Value.Uint64()
	}
	base := alive()
	go func() {
		defer close(sampled)
		for {
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
				peak = max(peak, alive()) // of the client, and of the directory in this process
			}
		}
	}()
	res, err := r.Discover(t.Context(), address(t, "bob@direct.test"))
	close(done)
	<-sampled
	if err != nil || res.Outcome == resolver.OutcomeFound {
		t.Fatalf("%v %+v", err, res)
	}
	// The fake directory builds each answer in this process too, about as large as what the client holds.
	if grown := int64(peak) - int64(base); grown > 16<<20 {
		t.Errorf("%d KiB held", grown>>10)
	}
}
