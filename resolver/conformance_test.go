package resolver_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"directnode/internal/direct"
	"directnode/internal/spec"
	"directnode/internal/testpki"
	"directnode/resolver"
	"directnode/resolver/fetch"

	"github.com/miekg/dns"
)

// conformance is the world of the public discovery tools on loopback: the zones and directories of the cases D1 to D18 and of the older
// ones, with an authority whose lists and certificates are fetched by HTTP. It is data; a publisher serves it.
type conformance struct {
	t        testing.TB
	pki      *testpki.PKI
	root     *testpki.CA
	between  *testpki.CA
	web      int // port of the authority's web server
	zones    map[string][]string
	revoked  []*big.Int
	broken   *fakeDNS // answers SERVFAIL
	resolver resolver.Options
}

// directoryEntry is one entry of a directory: certificates under a mail value.
type directoryEntry struct {
	mail  string
	certs [][]byte
}

// publisher serves the world's data by some servers.
type publisher interface {
	directory(t testing.TB, entries []directoryEntry) (port int)
	names(t testing.TB, zones map[string][]string) (addr string)
}

// newConformance builds the world and has it served.
func newConformance(t testing.TB, p publisher) *conformance {
	t.Helper()
	pki := testpki.New(t)
	c := &conformance{t: t, pki: pki, zones: map[string][]string{}, broken: newDNS(t)}
	c.serveAuthority()
	c.root = pki.Root("Conformance Root")
	c.between = c.root.Intermediate("Conformance Intermediate", c.points("root")...)
	c.describe(p)
	c.broken.rcode("", dns.RcodeServerFailure)
	broken, err := direct.ParseDomain("servfail.test")
	if err != nil {
		t.Fatal(err)
	}
	c.resolver = resolver.Options{
		Servers: []string{p.names(t, c.zones)}, Stubs: []resolver.Stub{{Domain: broken, Servers: []string{c.broken.addr}}},
		Timeout: 2 * time.Second, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}
	return c
}

const webHost = "pki.dcdt.test"

// points are the places at which an issuer's list and certificate are.
func (c *conformance) points(issuer string) []testpki.Option {
	base := fmt.Sprintf("http://%s:%d/%s", webHost, c.web, issuer)
	return []testpki.Option{testpki.CRLDP(base + ".crl"), testpki.AIA(base + ".cer")}
}

// serveAuthority serves certificates and lists; they are made when they are asked for, as the world is complete then.
func (c *conformance) serveAuthority() {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		issuers := map[string]*testpki.CA{"root": c.root, "between": c.between}
		name, kind, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), ".")
		ca := issuers[name]
		switch {
		case r.URL.Path == "/d19.cer":
			w.Write(c.ipkix())
		case ca == nil:
			http.NotFound(w, r)
		case kind == "cer":
			w.Write(ca.DER)
		default:
			w.Write(c.list(ca))
		}
	}))
	c.t.Cleanup(s.Close)
	c.web = s.Listener.Addr().(*net.TCPAddr).Port
}

// list is the revocation list of an authority. As at the public tool, certificates were revoked before they became valid.
func (c *conformance) list(ca *testpki.CA) []byte {
	template := x509.RevocationList{Number: big.NewInt(1), ThisUpdate: testpki.Now().Add(-time.Hour), NextUpdate: testpki.Now().Add(24 * time.Hour)}
	for _, serial := range c.revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: serial, RevocationTime: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), ReasonCode: 1})
	}
	der, err := x509.CreateRevocationList(rand.Reader, &template, ca.Cert, ca.Key)
	if err != nil {
		c.t.Error(err)
	}
	return der
}

func (c *conformance) ipkix() []byte { return c.good("D19_valA", "d19@domain1.test") }

func (c *conformance) leaf(ca *testpki.CA, issuer, name, owner string, o ...testpki.Option) testpki.Pair {
	return ca.Leaf(name, append(append([]testpki.Option{san(owner), testpki.EmailInDN(owner)}, c.points(issuer)...), o...)...)
}

func (c *conformance) good(name, owner string, o ...testpki.Option) []byte {
	return c.leaf(c.root, "root", name, owner, o...).DER
}

func (c *conformance) bad(name, owner string) []byte {
	return c.good(name, owner, testpki.Expired())
}

// gone is a certificate that its issuer has revoked.
func (c *conformance) gone(name, owner string) []byte {
	p := c.leaf(c.root, "root", name, owner)
	c.revoked = append(c.revoked, p.Cert.SerialNumber)
	return p.DER
}

// cert adds CERT records of type 1 at the name of an owner.
func (c *conformance) cert(owner string, certs ...[]byte) {
	o, err := direct.ParseOwner(owner)
	if err != nil {
		c.t.Fatal(err)
	}
	name, err := o.DNSName()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, der := range certs {
		c.add(o.Domain().String(), fmt.Sprintf("%s 300 IN CERT 1 0 0 %s", name, base64.StdEncoding.EncodeToString(der)))
	}
}

// add adds lines to a zone.
func (c *conformance) add(zone string, lines ...string) {
	if c.zones[zone] == nil {
		c.zones[zone] = []string{
			"@ 300 IN SOA ns1.dcdt.test. hostmaster.dcdt.test. 1 3600 600 86400 60", "@ 300 IN NS ns1.dcdt.test.",
			"@ 300 IN A 127.0.0.1", "@ 300 IN MX 0 " + zone + ".",
		}
	}
	c.zones[zone] = append(c.zones[zone], lines...)
}

// srv names directories of a domain: "priority weight port [host]".
func (c *conformance) srv(domain string, records ...string) {
	for _, r := range records {
		if len(strings.Fields(r)) == 3 {
			r += " ldap.dcdt.test."
		}
		c.add(domain, "_ldap._tcp."+domain+". 300 IN SRV "+r)
	}
}

// describe is the table of the public tool's world, domain by domain. Where a case allows it, what must not be taken is valid, so that a
// wrong order is seen.
func (c *conformance) describe(p publisher) {
	e := func(mail string, certs ...[]byte) directoryEntry { return directoryEntry{mail, certs} }
	dir := func(entries ...directoryEntry) int { return p.directory(c.t, entries) }
	c.add("dcdt.test", "ns1 300 IN A 127.0.0.1", "ldap 300 IN A 127.0.0.1", "pki 300 IN A 127.0.0.1")

	l1 := dir(e("d1@domain1.test", c.good("D1_decC", "d1@domain1.test")), e("d2@domain1.test", c.good("D2_decC", "d2@domain1.test")),
		e("d5@domain1.test", c.good("D5_decC", "d5@domain1.test")), e("domain1.test", c.good("D1_decD", "domain1.test")))
	c.srv("domain1.test", fmt.Sprintf("0 0 %d", l1))
	c.cert("d1@domain1.test", c.good("D1_valA", "d1@domain1.test"))
	c.cert("domain1.test", c.bad("D1_invB", "domain1.test"), c.good("D2_valB", "domain1.test"))
	c.cert("d5@domain1.test", c.bad("D5_invA", "d5@domain1.test"))
	c.cert("d9@domain1.test", c.good("D9_valA", "d9@domain1.test"), c.bad("D9_invA", "d9@domain1.test"))
	c.cert("d14@domain1.test", c.good("D14_valA", "d14@domain1.test", testpki.WithKey(testpki.RSA4096())))

	l2 := dir(e("d3@domain2.test", c.good("D3_valC", "d3@domain2.test")), e("domain2.test", c.bad("D3_invD", "domain2.test"), c.good("D4_valD", "domain2.test")),
		e("d7@domain2.test", c.bad("D7_invC", "d7@domain2.test")), e("d15@domain2.test", c.good("D15_valC", "d15@domain2.test")))
	second := dir(e("d15@domain2.test", c.good("D15_decE", "d15@domain2.test")), e("dts515@domain2.test", c.good("DTS515_dec", "dts515@domain2.test")))
	c.srv("domain2.test", fmt.Sprintf("1 100 %d", second), fmt.Sprintf("0 0 %d", l2))

	l3 := dir(e("d10@domain3.test", c.good("D10_valE", "d10@domain3.test")))
	c.srv("domain3.test", fmt.Sprintf("0 0 %d ldap-unavailable.dcdt.test.", l3), fmt.Sprintf("1 0 %d", l3))

	l4 := dir(e("d6@domain4.test", c.good("D6_decC", "d6@domain4.test")))
	c.srv("domain4.test", fmt.Sprintf("0 0 %d", l4))
	c.cert("domain4.test", c.bad("D6_invB", "domain4.test"))

	l5 := dir(e("d16@domain5.test", c.good("D16_decE", "d16@domain5.test")))
	l6 := dir(e("d16@domain5.test", c.good("D16_valC", "d16@domain5.test")), e("domain5.test", c.bad("D8_invD", "domain5.test")))
	c.srv("domain5.test", fmt.Sprintf("0 0 %d", l5), fmt.Sprintf("0 100 %d", l6))

	c.add("domain6.test")
	c.srv("domain7.test", "0 0 10389 ldap-unavailable.dcdt.test.")
	l8 := dir(e("somebody@domain8.test", c.good("other", "somebody@domain8.test")))
	c.srv("domain8.test", fmt.Sprintf("0 0 %d", l8))

	c.cert("d17@domain9.test", c.gone("D17_invB", "d17@domain9.test"), c.gone("D17_invC", "d17@domain9.test"), c.good("D17_valA", "d17@domain9.test"))
	c.cert("domain9.test", c.good("D17_decD", "domain9.test"))
	c.cert("d17r@domain9.test", c.gone("D17R_invA", "d17r@domain9.test"))

	c.cert("d18@domain10.test", c.leaf(c.between, "between", "D18_valA", "d18@domain10.test").DER)
	c.cert("domain10.test", c.bad("D18_invB", "domain10.test"))

	// Beyond the public cases.
	c.cert("wrong@domain1.test", c.good("mallory", "mallory@domain1.test"))
	c.cert("stranger@domain1.test", c.pki.Root("Foreign Authority").Leaf("stranger", testpki.Address("stranger@domain1.test")).DER)
	url := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "http://%s:%d/d19.cer", webHost, c.web))
	c.add("domain11.test", "alias.domain11.test. 300 IN CNAME d1.domain1.test.", "d19.domain11.test. 300 IN CERT 4 0 0 "+url)
	c.add("domain11.test", "a.domain11.test. 300 IN CNAME b.domain11.test.", "b.domain11.test. 300 IN CNAME a.domain11.test.")
	silent := rawLDAP(c.t, func(conn net.Conn) { io.Copy(io.Discard, conn) })
	c.srv("domain12.test", fmt.Sprintf("0 0 %d", silent))
	dead := closedPort(c.t)
	c.srv("domain13.test", fmt.Sprintf("0 0 %d", dead), fmt.Sprintf("1 0 %d", l3))
}

// situation is one case with what a person must be told.
type situation struct {
	id, address     string
	usable          []string // names of the certificates that may be used
	source, verdict string
	check           string // that refuses
	says            string // what the explanation must say
}

// situations are the cases of the public tool and those beside them in which somebody asks why a recipient was dropped.
func situations() []situation {
	return []situation{
		{"D1", "d1@domain1.test", []string{"D1_valA"}, "dns-address", "trusted", "", "not needed"},
		{"D2", "d2@domain1.test", []string{"D2_valB"}, "dns-domain", "trusted", "", "validity: expired"},
		{"D3", "d3@domain2.test", []string{"D3_valC"}, "ldap-address", "trusted", "", "address-bound, via LDAP"},
		{"D4", "d4@domain2.test", []string{"D4_valD"}, "ldap-domain", "trusted", "", "validity: expired"},
		{"D5", "d5@domain1.test", nil, "dns-address", "invalid", "validity", "expired"},
		{"D6", "d6@domain4.test", nil, "dns-domain", "invalid", "validity", "expired"},
		{"D7", "d7@domain2.test", nil, "ldap-address", "invalid", "validity", "expired"},
		{"D8", "d8@domain5.test", nil, "ldap-domain", "invalid", "validity", "expired"},
		{"D9", "d9@domain1.test", []string{"D9_valA"}, "dns-address", "trusted", "", "validity: expired"},
		{"D10", "d10@domain3.test", []string{"D10_valE"}, "ldap-address", "trusted", "", "the host has no address"},
		{"D11", "d11@domain6.test", nil, "", "not_found", "discovery", "the domain names no LDAP server"},
		{"D12", "d12@domain7.test", nil, "", "not_found", "discovery", "the host has no address"},
		{"D13", "d13@domain8.test", nil, "", "not_found", "discovery", "there is no certificate for this address"},
		{"D14", "d14@domain1.test", []string{"D14_valA"}, "dns-address", "trusted", "", "tcp"},
		{"D15", "d15@domain2.test", []string{"D15_valC"}, "ldap-address", "trusted", "", "address-bound, via LDAP"},
		{"D16", "d16@domain5.test", []string{"D16_valC"}, "ldap-address", "trusted", "", "address-bound, via LDAP"},
		{"D17", "d17@domain9.test", []string{"D17_valA"}, "dns-address", "trusted", "", "revoked"},
		{"D18", "d18@domain10.test", []string{"D18_valA"}, "dns-address", "trusted", "", "between.cer"},
		{"revoked", "d17r@domain9.test", nil, "dns-address", "revoked", "revocation", "keyCompromise"},
		{"binding", "wrong@domain1.test", nil, "dns-address", "invalid", "binding", "mallory@domain1.test"},
		{"stranger", "stranger@domain1.test", nil, "dns-address", "untrusted", "path", "Foreign Authority"},
		{"servfail", "bob@servfail.test", nil, "", "temporary", "discovery", "servfail"},
		{"silent directory", "bob@domain12.test", nil, "", "temporary", "discovery", "timeout"},
		{"DTS507", "d10@domain13.test", nil, "", "temporary", "discovery", "refused"},
		{"DTS515", "dts515@domain2.test", []string{"D4_valD"}, "ldap-domain", "trusted", "", "domain-bound, via LDAP"},
		{"alias", "alias@domain11.test", nil, "dns-address", "invalid", "binding", "d1@domain1.test"},
		{"alias loop", "a@domain11.test", nil, "", "temporary", "discovery", "CERT a.domain11.test."},
		{"IPKIX", "d19@domain11.test", nil, "dns-address", "invalid", "binding", "/d19.cer"},
	}
}

// newResolver makes a resolver of the world with its door.
func (c *conformance) newResolver() (*resolver.Resolver, *fetch.Door) {
	c.t.Helper()
	var r *resolver.Resolver
	o := c.resolver
	door := fetch.New(fetch.Options{Allow: o.Allow, Lookup: func(ctx context.Context, host string) ([]netip.Addr, error) { return r.Addrs(ctx, host) }})
	o.Fetch = door
	r, err := resolver.New(o)
	if err != nil {
		c.t.Fatal(err)
	}
	return r, door
}

// run discovers and judges, and holds the result, its explanation and its replay against the situation.
func (c *conformance) run(t *testing.T, s situation) {
	r, door := c.newResolver()
	w := &world{t: t, root: c.root}
	report, rec := w.recordedBy(r, s.address, door)
	if got := usable(report); !slices.Equal(got, s.usable) {
		t.Errorf("usable %v, want %v", got, s.usable)
	}
	check := ""
	if report.Reason != nil {
		check = report.Reason.Check
	}
	if report.Source != s.source || report.Verdict != s.verdict || check != s.check {
		t.Errorf("source %q verdict %q check %q, want %q %q %q: %+v", report.Source, report.Verdict, check, s.source, s.verdict, s.check, report.Reason)
	}
	var text strings.Builder
	if err := report.WriteText(&text, true); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text.String(), s.says) {
		t.Errorf("the explanation does not say %q", s.says)
	}
	sameAgain(t, report, rec)
	if t.Failed() {
		t.Log("\n" + text.String())
	}
}

func (c *conformance) runAll(t *testing.T) {
	for _, s := range situations() {
		t.Run(s.id, func(t *testing.T) {
			t.Parallel()
			c.run(t, s)
		})
	}
}

// TestConformance: every case of the discovery tools, published by our own servers, explained and replayed.
func TestConformance(t *testing.T) {
	spec.Covers(t, "AS-2.3-a", "AS-2.3-b", "AS-2.3-c", "AS-5.0-a", "AS-5.0-b", "AS-5.1-a", "AS-5.2-a", "AS-5.4-b")
	newConformance(t, ourServers{}).runAll(t)
}

// TestOneMessageToAll: the eighteen recipients of one message are discovered together, each as if it were alone, and no question is asked
// twice.
func TestOneMessageToAll(t *testing.T) {
	c := newConformance(t, ourServers{})
	r, door := c.newResolver()
	var mu sync.Mutex
	got := map[string]bool{}
	asked := map[string]int{}
	want := map[string]bool{}
	var wg sync.WaitGroup
	for _, s := range situations() {
		if !strings.HasPrefix(s.id, "D") || strings.HasPrefix(s.id, "DTS") {
			continue
		}
		want[s.id] = s.verdict == "trusted"
		wg.Go(func() {
			w := &world{t: t, root: c.root}
			report, _ := w.recordedBy(r, s.address, door)
			mu.Lock()
			defer mu.Unlock()
			got[s.id] = report.Verdict == "trusted" && slices.Equal(usable(report), s.usable)
			for _, step := range report.Steps {
				if step.Kind == resolver.KindDNS && step.Server != "" && !step.Cached && step.Outcome != "truncated" {
					asked[fmt.Sprint(strings.ToLower(step.Question), step.RTTMS)]++
				}
			}
		})
	}
	wg.Wait()
	if len(want) != 18 || !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	names := map[string]int{} // the same question with another time would be another exchange
	for key := range asked {
		question := strings.TrimRight(key, "0123456789.")
		if names[question]++; names[question] > 1 {
			t.Errorf("%s was asked %d times", question, names[question])
		}
	}
}
