package admin_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"directnode/internal/admin"
	"directnode/internal/probe"
	"directnode/internal/testpki"
)

// fakeProber answers as a node does whose listeners are as the test wants them.
type fakeProber struct {
	dns     map[string]probe.Answer // by "TYPE name"
	dnsErr  error
	ldap    probe.Directory
	ldapErr error
}

func (f *fakeProber) DNS(_ context.Context, _ netip.AddrPort, _, name, qtype string) (probe.Answer, error) {
	a, ok := f.dns[qtype+" "+name]
	if !ok {
		a.Rcode = "REFUSED"
	}
	return a, f.dnsErr
}

func (f *fakeProber) LDAP(_ context.Context, _ netip.AddrPort, _ string) (probe.Directory, error) {
	return f.ldap, f.ldapErr
}

func (f *fakeProber) Addresses() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("127.0.0.1")}
}

// verdicts are "verdict id: what" of the rows that are not ok, and of those
// with the id.
func verdicts(d admin.Diagnosis, id string) (out []string) {
	for _, c := range d.Checks {
		if (c.Verdict != admin.VerdictOK || c.ID == id) && !strings.HasPrefix(c.ID, "zone.") {
			out = append(out, fmt.Sprintf("%s %s: %s", c.Verdict, c.ID, c.What))
		}
	}
	return out
}

func TestTheDoctorNamesWhatKeepsOthersFromFinding(t *testing.T) {
	p := newPKI(t)
	srv := func(port uint16, target string) net.SRV { return net.SRV{Target: target, Port: port} }
	noerror := func(a probe.Answer) probe.Answer { a.Rcode = "NOERROR"; return a }
	address := func(s string) probe.Answer {
		return noerror(probe.Answer{Addrs: []netip.Addr{netip.MustParseAddr(s)}})
	}
	const srvName = "SRV _ldap._tcp.a.direct.test."
	good := func() *fakeProber {
		return &fakeProber{
			dns: map[string]probe.Answer{
				"SOA a.direct.test.":        noerror(probe.Answer{SOA: true, Authoritative: true}),
				"CERT alice.a.direct.test.": noerror(probe.Answer{Certs: [][]byte{p.alice.DER}}),
				srvName:                     noerror(probe.Answer{SRV: []net.SRV{srv(389, "node.direct.test.")}}),
				"A node.direct.test.":       address("192.0.2.1"),
			},
			ldap: probe.Directory{NamingContexts: []string{"dc=A,dc=direct,dc=test"}, Certs: [][]byte{p.alice.DER}},
		}
	}
	listeners := func() *admin.Listeners {
		return &admin.Listeners{
			DNS: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:53")}, LDAP: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:389"), netip.MustParseAddrPort("127.0.0.1:3890")},
			LDAPTLS: []netip.AddrPort{netip.MustParseAddrPort("[::]:636")},
		}
	}
	for name, c := range map[string]struct {
		change  func(*fakeProber, *admin.Listeners)
		publish []string // alice's certificate; nil: it is not there
		row     string
		want    []string
		code    int
	}{
		"all is well": {func(*fakeProber, *admin.Listeners) {}, []string{"dns", "ldap"}, "ldap.certificate", []string{"ok ldap.certificate: the 1 published certificates"}, 0},
		"no certificate": {func(f *fakeProber, _ *admin.Listeners) { f.ldap = probe.Directory{} }, nil, "ldap.srv",
			[]string{"ok ldap.srv: 0 0 389 node.direct.test.; nothing is published by LDAP yet"}, 0},
		"no record and none needed": {func(f *fakeProber, _ *admin.Listeners) { f.dns[srvName] = probe.Answer{Rcode: "NXDOMAIN"} }, []string{"dns"}, "ldap.srv",
			[]string{"ok ldap.srv: no record, and none is needed: nothing is found by LDAP alone"}, 0},
		"no record": {func(f *fakeProber, _ *admin.Listeners) { f.dns[srvName] = probe.Answer{Rcode: "NXDOMAIN"} }, []string{"dns", "ldap"}, "ldap.srv",
			[]string{"failed ldap.srv: 1 owners are published by LDAP, and no record tells anybody where"}, 1},
		"no listener either": {func(f *fakeProber, l *admin.Listeners) { f.dns[srvName] = noerror(probe.Answer{}); l.LDAP = nil }, []string{"ldap"}, "ldap.srv",
			[]string{"failed ldap.srv: 1 owners are published by LDAP alone, the node has no LDAP listener, and no record names another server"}, 1},
		"no such service": {func(f *fakeProber, _ *admin.Listeners) {
			f.dns[srvName] = noerror(probe.Answer{SRV: []net.SRV{srv(0, ".")}})
		}, []string{"ldap"}, "ldap.srv",
			[]string{"failed ldap.srv: the record says that there is no LDAP service (RFC 2782), and 1 owners are published by LDAP"}, 1},
		"an alias": {func(f *fakeProber, _ *admin.Listeners) {
			f.dns["A node.direct.test."] = noerror(probe.Answer{Alias: "other.direct.test."})
		}, []string{"ldap"}, "", []string{"failed ldap.srv-target: is an alias of other.direct.test.: the target of an SRV record must not be one (RFC 2782)"}, 1},
		"no address": {func(f *fakeProber, _ *admin.Listeners) { f.dns["A node.direct.test."] = noerror(probe.Answer{}) }, []string{"ldap"}, "",
			[]string{"failed ldap.srv-target: has no A record: no client finds its address"}, 1},
		"our name in a zone of others": {func(f *fakeProber, _ *admin.Listeners) { delete(f.dns, "A node.direct.test.") }, []string{"ldap"}, "ldap.srv-port",
			[]string{"skipped ldap.srv-target: the node's own host name is in a zone of others, and public resolvers are not asked: see yourself that it has an A record (`dig A node.direct.test.`)", "ok ldap.srv-port: the listener 192.0.2.1:389"}, 0},
		"a server of others too": {func(f *fakeProber, _ *admin.Listeners) {
			f.dns[srvName] = noerror(probe.Answer{SRV: []net.SRV{{Target: "node.direct.test.", Port: 389, Priority: 1}, srv(389, "ldap.example.")}})
		}, []string{"ldap"}, "ldap.srv", []string{"ok ldap.srv: 0 0 389 ldap.example., then 1 0 389 node.direct.test.", "skipped ldap.srv-target: is not this node's, and its name is in a zone of others: it was not looked up and is not asked"}, 0},
		"a server of others alone": {func(f *fakeProber, _ *admin.Listeners) {
			f.dns[srvName] = noerror(probe.Answer{SRV: []net.SRV{srv(389, "ldap.a.direct.test.")}})
			f.dns["A ldap.a.direct.test."] = address("198.51.100.1")
		}, []string{"dns", "ldap"}, "", []string{"warning ldap.srv: 0 0 389 ldap.a.direct.test.: none of them is this node, and what it publishes by LDAP is found nowhere", "skipped ldap.srv-target: [198.51.100.1]: is not this node, and is not asked"}, 3},
		"a port with TLS": {func(f *fakeProber, _ *admin.Listeners) {
			f.dns[srvName] = noerror(probe.Answer{SRV: []net.SRV{srv(636, "node.direct.test.")}})
		}, []string{"ldap"}, "", []string{"failed ldap.srv-port: is a listener of ldap.listen_tls: who finds it by _ldap._tcp speaks LDAP without TLS"}, 1},
		"another port": {func(f *fakeProber, _ *admin.Listeners) {
			f.dns[srvName] = noerror(probe.Answer{SRV: []net.SRV{srv(9, "node.direct.test.")}})
		}, []string{"ldap"}, "", []string{"failed ldap.srv-port: is none that this node listens on for LDAP"}, 1},
		"a port on loopback": {func(f *fakeProber, _ *admin.Listeners) {
			f.dns[srvName] = noerror(probe.Answer{SRV: []net.SRV{srv(3890, "node.direct.test.")}})
		}, []string{"ldap"}, "", []string{"warning ldap.srv-port: the listener 127.0.0.1:3890 is on loopback, and [192.0.2.1] is what others are told"}, 3},
		"LDAP is silent": {func(f *fakeProber, _ *admin.Listeners) { f.ldapErr = errors.New("anonymous bind: refused") }, []string{"ldap"}, "",
			[]string{"failed ldap.answers: anonymous bind: refused", "failed ldap.certificate: anonymous bind: refused"}, 1},
		"LDAP is somebody else": {func(f *fakeProber, _ *admin.Listeners) { f.ldap = probe.Directory{NamingContexts: []string{"dc=x"}} }, []string{"ldap"}, "",
			[]string{"failed ldap.answers: dc=a,dc=direct,dc=test is not among the naming contexts", "failed ldap.certificate: 0 certificates where 1 are published"}, 1},
		"DNS is silent": {func(f *fakeProber, _ *admin.Listeners) { f.dnsErr = errors.New("timeout") }, []string{"dns"}, "",
			[]string{"failed dns.answers: timeout", "failed dns.answers: timeout", "failed dns.certificate: timeout", "skipped ldap.srv: no answer from 127.0.0.1:53: timeout"}, 1},
		"DNS is somebody else": {func(f *fakeProber, _ *admin.Listeners) { f.dns = nil }, nil, "",
			[]string{"failed dns.answers: no authoritative answer but REFUSED", "failed dns.answers: no authoritative answer but REFUSED", "skipped ldap.srv: REFUSED from 127.0.0.1:53"}, 1},
		"DNS shows another certificate": {func(f *fakeProber, _ *admin.Listeners) {
			f.dns["CERT alice.a.direct.test."] = noerror(probe.Answer{Certs: [][]byte{p.bob.DER}})
		}, []string{"dns"}, "", []string{"failed dns.certificate: NOERROR, with 1 certificates where 1 are published"}, 1},
		"DNS shows URLs": {func(f *fakeProber, _ *admin.Listeners) {
			f.dns["CERT alice.a.direct.test."] = noerror(probe.Answer{URLs: 1})
		}, []string{"dns"}, "", []string{"skipped dns.certificate: 1 URLs of certificates; URLs are not followed"}, 0},
		"no DNS listener": {func(_ *fakeProber, l *admin.Listeners) { l.DNS = nil }, []string{"dns"}, "",
			[]string{"skipped dns.answers: the node has no DNS listener", "skipped dns.certificate: the node has no DNS listener", "skipped ldap.srv: the node has no DNS listener, and public resolvers are not asked"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			if c.publish != nil {
				n.imports(admin.ImportRequest{Files: []admin.File{file("alice", p.alice.DER)}, Publish: c.publish})
			}
			f, l := good(), listeners()
			c.change(f, l)
			s := admin.New(n.store, n.mail, admin.Options{Hostname: "node.direct.test", Probe: f, Listeners: *l})
			d, err := s.Doctor(t.Context(), admin.DomainRequest{Domain: "a.direct.test"})
			if err != nil {
				t.Fatal(err)
			}
			if got := verdicts(d, c.row); !slices.Equal(got, c.want) {
				t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
			checkDiagnosis(t, d, c.code)
		})
	}
}

// checkDiagnosis holds the counts and the code against the rows. The zones of
// these tests have a name server alone, which is a warning.
func checkDiagnosis(t *testing.T, d admin.Diagnosis, code int) {
	t.Helper()
	count := map[string]int{}
	for _, c := range d.Checks {
		count[c.Verdict]++
		if c.ID == "" || c.Looked == "" || c.What == "" || (c.Do != "") != (c.Verdict == admin.VerdictFailed || c.Verdict == admin.VerdictWarning) {
			t.Errorf("a row says too little or too much: %+v", c)
		}
	}
	if d.OK != count[admin.VerdictOK] || d.Warnings != count[admin.VerdictWarning] || d.Failed != count[admin.VerdictFailed] || d.Skipped != count[admin.VerdictSkipped] {
		t.Errorf("counts %+v, rows %v", d, count)
	}
	if want := max(code, 0); code == admin.CodeOK && d.Code != admin.CodeWarnings || code != admin.CodeOK && d.Code != want {
		t.Errorf("code %d, want %d", d.Code, code)
	}
}

func TestTheDoctorCountsDays(t *testing.T) {
	n, p := newNode(t), newPKI(t)
	ca := testpki.New(t).Root("CA")
	n.imports(admin.ImportRequest{Files: []admin.File{file("f", p.expired.CertPEM())}})
	f := &fakeProber{}
	s := admin.New(n.store, n.mail, admin.Options{Hostname: "node.direct.test", Probe: f})
	find := func() string {
		d, err := s.Doctor(t.Context(), admin.DomainRequest{Domain: "a.direct.test"})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range d.Checks {
			if c.ID == "cert.expiry" {
				return c.Verdict + " " + c.What
			}
		}
		return ""
	}
	if got := find(); !strings.HasPrefix(got, "failed expired, and there is no other: old@a.direct.test (") {
		t.Errorf("expired: %q", got)
	}
	soon := ca.Leaf("old", testpki.Address("old@a.direct.test"), testpki.Valid(time.Now().AddDate(-1, 0, 0), time.Now().AddDate(0, 0, 10)))
	n.imports(admin.ImportRequest{Files: []admin.File{file("f", soon.DER)}})
	if got := find(); !strings.HasPrefix(got, "warning will expire within 30 days, and there is no other: old@a.direct.test (") {
		t.Errorf("soon: %q", got)
	}
	later := ca.Leaf("old", testpki.Address("old@a.direct.test"), testpki.Valid(time.Now().AddDate(-1, 0, 0), time.Now().AddDate(2, 0, 0)))
	n.imports(admin.ImportRequest{Files: []admin.File{file("f", later.DER)}})
	if got := find(); got != "ok every owner has one that lasts" {
		t.Errorf("renewed: %q", got)
	}
}

func TestTheDoctorSeesAllDomainsOrSaysWhyNot(t *testing.T) {
	n := newNode(t)
	if e := asError(t, func() error { _, err := n.Doctor(t.Context(), admin.DomainRequest{}); return err }()); e.ID != "DN-DOCTOR-001" {
		t.Errorf("without a probe: %+v", e)
	}
	s := admin.New(n.store, n.mail, admin.Options{Hostname: "node.direct.test", Probe: &fakeProber{}})
	d, err := s.Doctor(t.Context(), admin.DomainRequest{})
	if err != nil || !slices.ContainsFunc(d.Checks, func(c admin.DoctorCheck) bool { return c.Domain == "a.direct.test" }) || !slices.ContainsFunc(d.Checks, func(c admin.DoctorCheck) bool { return c.Domain == "b.direct.test" }) {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := s.Doctor(t.Context(), admin.DomainRequest{Domain: "x.test"}); asError(t, err).ID != "DN-DOMAIN-003" {
		t.Error(err)
	}
	cut, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Doctor(cut, admin.DomainRequest{}); asError(t, err).Code != admin.CodeTemporary {
		t.Error(err)
	}
	show, err := s.ShowDomain(t.Context(), admin.DomainRequest{Domain: "a.direct.test"})
	if err != nil || len(show.LDAP) == 0 || show.LDAP[0].ID != "ldap.srv" {
		t.Errorf("domain show: %+v, %v", show.LDAP, err)
	}
	for _, d := range []string{"a.direct.test", "b.direct.test"} {
		if _, err := n.RemoveDomain(t.Context(), admin.DomainRequest{Domain: d}); err != nil {
			t.Fatal(err)
		}
	}
	if d, err := s.Doctor(t.Context(), admin.DomainRequest{}); err != nil || len(d.Checks) != 1 || d.Code != admin.CodeWarnings {
		t.Errorf("no domain: %+v, %v", d, err)
	}
}
