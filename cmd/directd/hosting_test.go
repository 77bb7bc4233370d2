package main

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
	"github.com/miekg/dns"

	"directnode/internal/spec"
	"directnode/internal/testnode"
	"directnode/internal/testpki"
)

// hostedDomain is what a publisher hands to the certification tools: a domain
// that publishes by LDAP alone, two addresses with certificates of their own,
// one of them with an old one beside the new one, and the organization's.
const hostedDomain = "direct.clinic.test"

var hostedAddresses = []string{"Carol.Jones@" + hostedDomain, "dave@" + hostedDomain}

// srvRecord is the line that a new domain has for its LDAP server.
var srvRecord = regexp.MustCompile(`(?m)^(\S+\s.*\bSRV\s+)0 0 (\d+) (\S+)$`)

// hostByLDAP makes a node publish the domain. The SRV records of the domain name
// a server that does not answer before the one that does.
func hostByLDAP(t *testing.T, n *testnode.Node) {
	t.Helper()
	ca := testpki.New(t).Root("Root")
	dir := t.TempDir()
	for i, leaf := range []testpki.Pair{
		ca.Leaf("carol", testpki.Address(hostedAddresses[0])),
		ca.Leaf("dave", testpki.Address(hostedAddresses[1])),
		ca.Leaf("dave, earlier", testpki.Address(hostedAddresses[1]), testpki.Expired()),
		ca.Leaf("organization", testpki.Domain(hostedDomain)),
	} {
		leaf.WriteCert(t, filepath.Join(dir, fmt.Sprint(i, ".pem")))
	}
	const warned = 3 // an old certificate is taken, with a warning
	must := func(args ...string) string {
		t.Helper()
		out, code := n.Ctl(args...)
		if code != 0 && code != warned {
			t.Fatalf("directctl %s: exit code %d\n%s", strings.Join(args, " "), code, out)
		}
		return out
	}
	must("domain", "add", hostedDomain)
	must("cert", "import", dir, "--publish", "ldap")
	zone := must("zone", "export", hostedDomain)
	record := srvRecord.FindStringSubmatch(zone)
	if record == nil {
		t.Fatalf("no SRV record in\n%s", zone)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(silent.Addr().String())
	silent.Close() // nobody listens there any more
	zone = srvRecord.ReplaceAllString(zone, "${1}10 0 ${2} ${3}\n${1}0 0 "+port+" ${3}")
	file := filepath.Join(dir, "hosted.zone")
	if err := os.WriteFile(file, []byte(zone), 0o600); err != nil {
		t.Fatal(err)
	}
	must("zone", "import", file, "--origin", hostedDomain)
}

// ldapTool walks the steps of the hosting test of the certification tools.
type ldapTool struct {
	dns string // the node's own DNS server
	at  time.Time
}

// answerTime is how long the tool waits for LDAP (DTS 577).
const answerTime = 15 * time.Second

func (c ldapTool) ask(t *testing.T, name string, typ uint16) []dns.RR {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), typ)
	r, _, err := (&dns.Client{Timeout: 5 * time.Second}).Exchange(m, c.dns)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return r.Answer
}

// servers gives the addresses of the LDAP servers of a domain, by priority and
// then by weight, the highest first. The tool asks for A records of targets and
// for nothing else.
func (c ldapTool) servers(t *testing.T, domain string) (servers []string) {
	t.Helper()
	var records []*dns.SRV
	for _, rr := range c.ask(t, "_ldap._tcp."+domain, dns.TypeSRV) {
		if srv, ok := rr.(*dns.SRV); ok {
			records = append(records, srv)
		}
	}
	slices.SortFunc(records, func(a, b *dns.SRV) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(b.Weight, a.Weight))
	})
	for _, srv := range records {
		for _, rr := range c.ask(t, srv.Target, dns.TypeA) {
			if a, ok := rr.(*dns.A); ok {
				servers = append(servers, net.JoinHostPort(a.A.String(), fmt.Sprint(srv.Port)))
			}
		}
	}
	if len(servers) == 0 {
		t.Fatalf("no LDAP server of %s: SRV %v", domain, records)
	}
	return servers
}

// connect gives the first server whose root DSE answers, and its naming contexts.
func (c ldapTool) connect(t *testing.T, domain string) (*ldap.Conn, []string) {
	t.Helper()
	var tried []error
	for _, server := range c.servers(t, domain) {
		conn, err := ldap.DialURL("ldap://"+server, ldap.DialWithDialer(&net.Dialer{Timeout: answerTime}))
		if err != nil {
			tried = append(tried, err)
			continue
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetTimeout(answerTime)
		if err := conn.UnauthenticatedBind(""); err != nil {
			tried = append(tried, err)
			continue
		}
		root, err := conn.Search(&ldap.SearchRequest{Scope: ldap.ScopeBaseObject, Filter: "(objectClass=*)", Attributes: []string{"namingContexts"}})
		if err == nil && len(root.Entries) == 1 && len(root.Entries[0].GetAttributeValues("namingContexts")) > 0 {
			if len(tried) == 0 {
				t.Error("the first server of the list was to be silent")
			}
			return conn, root.Entries[0].GetAttributeValues("namingContexts")
		}
		tried = append(tried, err)
	}
	t.Fatalf("no server of %s answers: %v", domain, tried)
	return nil, nil
}

// certificates searches below every base for an address or a domain. An error is
// one, that of an unknown address too. Every value must be a certificate.
func (c ldapTool) certificates(t *testing.T, subject string) (certs []*x509.Certificate) {
	t.Helper()
	conn, bases := c.connect(t, subject[strings.LastIndexByte(subject, '@')+1:])
	for _, base := range bases {
		r, err := conn.Search(&ldap.SearchRequest{BaseDN: base, Scope: ldap.ScopeWholeSubtree,
			Filter: "(&(mail=" + ldap.EscapeFilter(subject) + ")(|(userCertificate;binary=*)(userCertificate=*)))"})
		if err != nil {
			t.Fatalf("%s below %s: %v", subject, base, err)
		}
		for _, e := range r.Entries {
			values := e.GetRawAttributeValues("userCertificate;binary")
			if values == nil {
				values = e.GetRawAttributeValues("userCertificate")
			}
			for _, der := range values {
				cert, err := x509.ParseCertificate(der)
				if err != nil {
					t.Fatalf("%s: one value that does not parse fails the step: %v", e.DN, err)
				}
				certs = append(certs, cert)
			}
		}
	}
	slices.SortFunc(certs, func(a, b *x509.Certificate) int { return bytes.Compare(a.Raw, b.Raw) })
	return certs
}

// valid is the certificates that are so today.
func (c ldapTool) valid(certs []*x509.Certificate) []*x509.Certificate {
	return slices.DeleteFunc(slices.Clone(certs), func(x *x509.Certificate) bool { return c.at.Before(x.NotBefore) || c.at.After(x.NotAfter) })
}

// TestHostingByLDAP runs the hosting cases of the certification tools against a
// node: its own DNS server says where its LDAP server is.
func TestHostingByLDAP(t *testing.T) {
	w := testnode.Quickstart(t)
	hostByLDAP(t, w.B)
	c := ldapTool{dns: w.B.Config.DNS.Listen[0], at: testpki.Now()}
	t.Run("H3", func(t *testing.T) { hostingH3(t, c) })
	t.Run("H4", func(t *testing.T) { hostingH4(t, c) })
	t.Run("DTS557", func(t *testing.T) { hostingDTS557(t, c) })
	t.Run("DTS577", func(t *testing.T) { hostingDTS577(t, c) })
}

// hostingH3 is "LDAP address-bound certificate search" (also DTS 556): a valid
// certificate whose rfc822Name is the address.
func hostingH3(t *testing.T, c ldapTool) {
	spec.Covers(t, "AS-1.4-f", "AS-1.4-h", "AS-5.0-d")
	for i, address := range hostedAddresses {
		certs := c.certificates(t, address)
		valid := c.valid(certs)
		if len(certs) != i+1 || len(valid) != 1 {
			t.Errorf("%s: %d certificates, %d of them valid", address, len(certs), len(valid))
		}
		for _, x := range valid {
			if len(x.EmailAddresses) != 1 || !strings.EqualFold(x.EmailAddresses[0], address) {
				t.Errorf("%s: rfc822Name %q", address, x.EmailAddresses)
			}
		}
	}
}

// hostingH4 is "LDAP domain-bound certificate search" (also DTS 570): nothing
// for the address, a valid certificate for the domain whose dNSName is it.
func hostingH4(t *testing.T, c ldapTool) {
	spec.Covers(t, "AS-1.4-f", "AS-1.4-h", "AS-5.0-d")
	if certs := c.certificates(t, "nobody@"+hostedDomain); len(certs) != 0 {
		t.Errorf("%d certificates of nobody", len(certs))
	}
	valid := c.valid(c.certificates(t, hostedDomain))
	if len(valid) != 1 || !slices.Equal(valid[0].DNSNames, []string{hostedDomain}) {
		t.Errorf("for the domain: %v", valid)
	}
}

// hostingDTS557 asks both in mixed letters: the answer is the same.
func hostingDTS557(t *testing.T, c ldapTool) {
	spec.Covers(t, "AS-1.4-h", "AS-5.0-d")
	r := rand.New(rand.NewPCG(5, 57))
	for _, subject := range append([]string{hostedDomain}, hostedAddresses...) {
		want := c.certificates(t, strings.ToLower(subject))
		spellings := []string{subject, strings.ToUpper(subject)}
		for range 4 {
			letters := []rune(subject)
			for i, x := range letters {
				if r.IntN(2) == 0 {
					letters[i] = []rune(strings.ToUpper(string(x)))[0]
				}
			}
			spellings = append(spellings, string(letters))
		}
		for _, spelling := range spellings {
			got := c.certificates(t, spelling)
			if len(got) == 0 || !slices.EqualFunc(got, want, func(a, b *x509.Certificate) bool { return bytes.Equal(a.Raw, b.Raw) }) {
				t.Errorf("%s: %d certificates, in lower case %d", spelling, len(got), len(want))
			}
		}
	}
}

// hostingDTS577 asks for addresses that are not hosted: success without an
// entry, within the time that the tool waits.
func hostingDTS577(t *testing.T, c ldapTool) {
	spec.Covers(t, "AS-1.4-h", "AS-5.0-d")
	conn, bases := c.connect(t, hostedDomain)
	for _, subject := range []string{"nobody@" + hostedDomain, "carol.jones@elsewhere.test", "elsewhere.test", "*", "@" + hostedDomain} {
		for _, base := range bases {
			for _, filter := range []string{"(mail=%s)", "(&(mail=%s)(|(userCertificate;binary=*)(userCertificate=*)))"} {
				r, err := conn.Search(&ldap.SearchRequest{BaseDN: base, Scope: ldap.ScopeWholeSubtree, Filter: fmt.Sprintf(filter, ldap.EscapeFilter(subject)),
					Attributes: []string{"userCertificate", "userCertificate;binary"}})
				if err != nil || len(r.Entries) != 0 {
					t.Errorf("%s below %s: %v, %v", subject, base, r, err)
				}
			}
		}
	}
}
