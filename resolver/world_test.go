package resolver_test

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"directnode/internal/direct"
	"directnode/internal/testpki"
	"directnode/resolver"
	"directnode/resolver/trust"

	"github.com/hashicorp/go-hclog"
	"github.com/jimlambrt/gldap"
	"github.com/miekg/dns"
)

// fakeDNS is a name server on loopback, UDP and TCP on one port, whose answers a test sets.
type fakeDNS struct {
	addr string

	mu      sync.Mutex
	records map[string][]dns.RR // "name type", lower case
	names   map[string]bool     // existing names
	rcodes  map[string]int      // "name type" or "" for all
	change  func(*dns.Msg)      // last word on every answer
	ask     func(q, m *dns.Msg) // the same with the question
	log     []string            // "udp CERT bob.direct.test."
	silent  bool
	noTCP   bool
}

func newDNS(t testing.TB) *fakeDNS {
	t.Helper()
	f := &fakeDNS{records: map[string][]dns.RR{}, names: map[string]bool{}, rcodes: map[string]int{}}
	var pc net.PacketConn
	var l net.Listener
	for range 20 { // the port that UDP got may be taken for TCP
		var err error
		if pc, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if l, err = net.Listen("tcp", pc.LocalAddr().String()); err == nil {
			break
		}
		pc.Close()
	}
	f.addr = pc.LocalAddr().String()
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: f.handler("udp")}, {Listener: l, Handler: f.handler("tcp")}} {
		go s.ActivateAndServe() // ends with the test
		t.Cleanup(func() { s.Shutdown() })
	}
	return f
}

func (f *fakeDNS) handler(network string) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		f.mu.Lock()
		defer f.mu.Unlock()
		question := q.Question[0]
		key := strings.ToLower(question.Name) + " " + dns.TypeToString[question.Qtype]
		f.log = append(f.log, network+" "+dns.TypeToString[question.Qtype]+" "+question.Name)
		if f.silent || network == "tcp" && f.noTCP {
			return
		}
		m := new(dns.Msg).SetReply(q)
		m.Authoritative = true
		rcode, set := f.rcodes[key]
		if !set {
			rcode, set = f.rcodes[""]
		}
		switch {
		case set:
			m.Rcode = rcode
		case len(f.records[key]) > 0:
			m.Answer = f.records[key]
		case len(f.records[strings.ToLower(question.Name)+" CNAME"]) > 0:
			m.Answer = f.records[strings.ToLower(question.Name)+" CNAME"]
		case !f.names[strings.ToLower(question.Name)]:
			m.Rcode = dns.RcodeNameError
		}
		if f.change != nil {
			f.change(m)
		}
		if f.ask != nil {
			f.ask(q, m)
		}
		if network == "udp" {
			size := dns.MinMsgSize
			if opt := q.IsEdns0(); opt != nil {
				size = int(opt.UDPSize())
			}
			m.Truncate(size)
		}
		w.WriteMsg(m) // the client is the test
	}
}

// set changes the server between two questions.
func (f *fakeDNS) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// rcode answers a question ("name type"), or with "" every question, with a response code.
func (f *fakeDNS) rcode(question string, code int) {
	f.set(func() { f.rcodes[question] = code })
}

// replace sets the whole answer to a question.
func (f *fakeDNS) replace(question string, rrs ...dns.RR) {
	f.set(func() { f.records[question] = rrs })
}

// add takes records in zone file form.
func (f *fakeDNS) add(t testing.TB, lines ...string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.ToLower(rr.Header().Name)
		key := name + " " + dns.TypeToString[rr.Header().Rrtype]
		f.records[key] = append(f.records[key], rr)
		f.names[name] = true
	}
}

// cert publishes certificates as CERT records of type 1.
func (f *fakeDNS) cert(t testing.TB, name string, pairs ...testpki.Pair) {
	t.Helper()
	for _, p := range pairs {
		f.certOf(t, name, 1, p.DER)
	}
}

func (f *fakeDNS) certOf(t testing.TB, name string, kind uint16, data []byte) {
	t.Helper()
	f.add(t, fmt.Sprintf("%s 300 IN CERT %d 0 0 %s", name, kind, base64.StdEncoding.EncodeToString(data)))
}

// asked lists what was asked for, without repetition by another transport.
func (f *fakeDNS) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, line := range f.log {
		_, question, _ := strings.Cut(line, " ")
		if !slices.Contains(out, question) {
			out = append(out, question)
		}
	}
	return out
}

func (f *fakeDNS) logged(prefix string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, line := range f.log {
		if strings.HasPrefix(line, prefix) {
			n++
		}
	}
	return n
}

// entry is one entry of a fake directory.
type entry struct {
	base, mail string
	attribute  string // userCertificate, with or without option
	values     [][]byte
}

// fakeLDAP is somebody else's LDAP server: gldap with entries that match by equality of mail.
type fakeLDAP struct {
	port  int
	bases []string

	mu      sync.Mutex
	entries []entry
	filters []string
	result  int            // code of every search below the root DSE
	bind    int            // code of every bind
	refused map[string]int // codes of searches by base
}

func newLDAP(t testing.TB, bases ...string) *fakeLDAP {
	t.Helper()
	f := &fakeLDAP{bases: bases}
	mux, err := gldap.NewMux()
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{mux.Bind(f.onBind), mux.Search(f.onSearch)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := gldap.NewServer(gldap.WithLogger(hclog.NewNullLogger()))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Router(mux); err != nil {
		t.Fatal(err)
	}
	f.port = closedPort(t)
	go s.Run("127.0.0.1:" + strconv.Itoa(f.port)) // ends with the test
	t.Cleanup(func() { s.Stop() })
	for range 200 {
		if s.Ready() {
			return f
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("the fake LDAP server does not start")
	return nil
}

// closedPort is a port that nobody listens on.
func closedPort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (f *fakeLDAP) add(base, mail string, pairs ...testpki.Pair) {
	e := entry{base: base, mail: mail, attribute: "userCertificate;binary"}
	for _, p := range pairs {
		e.values = append(e.values, p.DER)
	}
	f.addEntry(e)
}

func (f *fakeLDAP) addEntry(e entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.entries = append(f.entries, e)
}

// fail sets the result codes of binds and of searches.
func (f *fakeLDAP) fail(bind, search int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bind, f.result = bind, search
}

// refuse sets the result codes of searches in single bases.
func (f *fakeLDAP) refuse(codes map[string]int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refused = codes
}

func (f *fakeLDAP) onBind(w *gldap.ResponseWriter, r *gldap.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.Write(r.NewBindResponse(gldap.WithResponseCode(f.bind)))
}

var escaped = regexp.MustCompile(`\\[0-9a-fA-F]{2}`)

func (f *fakeLDAP) onSearch(w *gldap.ResponseWriter, r *gldap.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	done := r.NewSearchDoneResponse(gldap.WithResponseCode(gldap.ResultSuccess))
	defer func() { w.Write(done) }()
	m, err := r.GetSearchMessage()
	if err != nil {
		done.SetResultCode(gldap.ResultProtocolError)
		return
	}
	if m.BaseDN == "" && m.Scope == gldap.BaseObject {
		if slices.Contains(m.Attributes, "namingContexts") {
			w.Write(r.NewSearchResponseEntry("", gldap.WithAttributes(map[string][]string{"namingContexts": f.bases})))
		}
		return
	}
	f.filters = append(f.filters, m.Filter)
	if code := cmp.Or(f.refused[m.BaseDN], f.result); code != gldap.ResultSuccess {
		done.SetResultCode(code)
		return
	}
	mail := strings.TrimSuffix(strings.TrimPrefix(m.Filter, "(mail="), ")")
	if strings.ContainsAny(mail, "*()") { // more than an equality match: everything that a careless server would return
		mail = ""
	}
	mail = escaped.ReplaceAllStringFunc(mail, func(s string) string {
		n, _ := strconv.ParseUint(s[1:], 16, 8)
		return string(rune(n))
	})
	for i, e := range f.entries {
		if e.base != m.BaseDN || mail != "" && !strings.EqualFold(e.mail, mail) {
			continue
		}
		out := r.NewSearchResponseEntry(fmt.Sprintf("cn=%d,%s", i, e.base), gldap.WithAttributes(map[string][]string{"mail": {e.mail}}))
		if len(e.values) > 0 {
			var values []string
			for _, v := range e.values {
				values = append(values, string(v))
			}
			out.AddAttribute(e.attribute, values)
		}
		w.Write(out)
	}
}

// world is a network of one name server, a hierarchy and as many directories as a case needs.
type world struct {
	t    testing.TB
	dns  *fakeDNS
	pki  *testpki.PKI
	root *testpki.CA
}

func newWorld(t testing.TB) *world {
	t.Helper()
	pki := testpki.New(t)
	return &world{t: t, dns: newDNS(t), pki: pki, root: pki.Root("Root")}
}

// good and bad make certificates for an owner, which may be an address or a domain; bad ones are expired.
func (w *world) good(name, owner string) testpki.Pair { return w.root.Leaf(name, san(owner)) }
func (w *world) bad(name, owner string) testpki.Pair {
	return w.root.Leaf(name, san(owner), testpki.Expired())
}

func san(owner string) testpki.Option {
	if strings.Contains(owner, "@") {
		return testpki.Address(owner)
	}
	return testpki.Domain(owner)
}

// srv names LDAP servers of a domain: "priority weight port".
func (w *world) srv(domain string, records ...string) {
	w.t.Helper()
	w.dns.add(w.t, "ldap.test. 300 IN A 127.0.0.1")
	for _, r := range records {
		if len(strings.Fields(r)) == 3 {
			r += " ldap.test."
		}
		w.dns.add(w.t, "_ldap._tcp."+domain+". 300 IN SRV "+r)
	}
}

func (w *world) resolver(change ...func(*resolver.Options)) *resolver.Resolver {
	w.t.Helper()
	o := resolver.Options{Servers: []string{w.dns.addr}, Timeout: 2 * time.Second}
	for _, c := range change {
		c(&o)
	}
	r, err := resolver.New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func address(t testing.TB, s string) direct.Address {
	t.Helper()
	a, err := direct.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// discover finds and judges.
func (w *world) discover(addr string, change ...func(*resolver.Options)) (resolver.Result, resolver.Report) {
	w.t.Helper()
	a := address(w.t, addr)
	res, err := w.resolver(change...).Discover(context.Background(), a)
	if err != nil {
		w.t.Fatal(err)
	}
	return res, resolver.NewReport(res, judge(res, w.root), true)
}

// oneByOne asks one place after the other.
func oneByOne(o *resolver.Options) { o.Sequential = true }

// judge trusts one authority, or none.
func judge(res resolver.Result, anchor *testpki.CA) trust.Judgement {
	q := trust.Question{Address: res.Subject, Purpose: trust.Encrypt, Candidates: res.Certificates(), At: testpki.Now()}
	if anchor != nil {
		q.Anchors = []*x509.Certificate{anchor.Cert}
	}
	return trust.Evaluate(q)
}

// usable lists the names of the certificates that came out trusted.
func usable(r resolver.Report) []string {
	var out []string
	for _, c := range r.Candidates {
		if c.Usable {
			cn, _, _ := strings.Cut(strings.TrimPrefix(c.Subject, "CN="), ",")
			out = append(out, cn)
		}
	}
	return out
}

func itoa(n int) string { return strconv.Itoa(n) }

// listenAt takes an address for UDP and TCP, or skips where this host has none like it.
func listenAt(t testing.TB, addr string) (net.PacketConn, net.Listener) {
	t.Helper()
	pc, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Skip("SKIP a second address of loopback: " + err.Error())
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		pc.Close()
		t.Skip("SKIP a second address of loopback: " + err.Error())
	}
	return pc, l
}

func base64Of(der []byte) string { return base64.StdEncoding.EncodeToString(der) }

func certRecordText(name string, der []byte) string {
	return name + " 300 IN CERT 1 0 0 " + base64Of(der) + "\n"
}
