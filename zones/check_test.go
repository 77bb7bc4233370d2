package zones_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"directnode/internal/spec"
	"directnode/store"
	"directnode/zones"
)

// healthy is a zone that no check finds fault with.
const healthy = `$TTL 3600
@ SOA ns1 hostmaster 1 3600 600 1209600 300
@ NS ns1
@ NS ns.elsewhere.example.
@ MX 10 mail
_ldap._tcp SRV 0 0 389 ldap
ns1 A 192.0.2.1
mail A 192.0.2.2
ldap A 192.0.2.3
sub NS ns.sub
sub NS ns.elsewhere.example.
ns.sub A 192.0.2.4
`

// instead is the healthy zone with one line replaced; further lines after it.
func instead(line, by string) string {
	if line == "" {
		return healthy + by + "\n"
	}
	return strings.Replace(healthy, line+"\n", by+"\n", 1)
}

func ipkix(url string) string { return base64.StdEncoding.EncodeToString([]byte(url)) }

func TestCheck(t *testing.T) {
	spec.Covers(t, "AS-1.1-f", "AS-5.3-b")
	var many []store.Certificate
	for i := range 11 {
		many = append(many, cert(t, "bob@direct.example.org", []byte{0x30, 1, byte(i)}))
	}
	crossed := make(map[string]bool)
	soa := "@ SOA ns1 hostmaster 1 3600 600 1209600 300"
	for _, c := range []struct {
		why, text string
		certs     []store.Certificate
		want      []string // "level check: what", in order
	}{
		{"healthy", healthy, nil, nil},
		{"ten certificates", healthy, many[:10], nil},
		{"retry over refresh", instead(soa, "@ SOA ns1 hostmaster 1 600 3600 1209600 300"), nil, []string{"warning soa-timers: refresh 600, retry 3600"}},
		{"short expire", instead(soa, "@ SOA ns1 hostmaster 1 3600 600 3600 300"), nil, []string{"warning soa-timers: expire 3600"}},
		{"long minimum", instead(soa, "@ SOA ns1 hostmaster 1 3600 600 1209600 604800"), nil, []string{"warning soa-minimum: minimum 604800"}},
		{"no mailbox", instead(soa, "@ SOA ns1 . 1 3600 600 1209600 300"), nil, []string{"warning soa-names: the mailbox of the SOA is ."}},
		{"SOA of a server without an address", instead(soa, "@ SOA ns9 hostmaster 1 3600 600 1209600 300"), nil, []string{"warning soa-names: the server of the SOA, ns9.direct.example.org., has no address"}},
		{"one server", instead("@ NS ns.elsewhere.example.", ""), nil, []string{"warning ns-two: one server alone"}},
		{"server without an address", instead("", "@ NS ns3"), nil, []string{"error ns-address: direct.example.org. NS: ns3.direct.example.org. has no address"}},
		{"server that is an alias", instead("", "@ NS ns3\nns3 CNAME ns1"), nil, []string{"error ns-alias: direct.example.org. NS: ns3.direct.example.org. is an alias"}},
		{"server below a DNAME", instead("", "@ NS ns3.moved\nmoved DNAME elsewhere.example."), nil, []string{"error ns-alias: direct.example.org. NS: ns3.moved"}},
		{"delegation without glue", instead("ns.sub A 192.0.2.4", ""), nil, []string{"error cut-glue: sub.direct.example.org. is delegated to ns.sub.direct.example.org."}},
		{"no MX", instead("@ MX 10 mail", ""), nil, []string{"error mx-present: direct.example.org has no MX record"}},
		{"null MX", instead("@ MX 10 mail", "@ MX 0 ."), nil, []string{"error mx-present: the MX record says"}},
		{"MX without an address", instead("mail A 192.0.2.2", ""), nil, []string{"error mx-address: direct.example.org. MX: mail.direct.example.org. has no address"}},
		{"MX that owns something else", instead("mail A 192.0.2.2", "mail TXT x"), nil, []string{"error mx-address: direct.example.org. MX: mail.direct.example.org. has no address"}},
		{"MX with IPv6 alone", instead("mail A 192.0.2.2", "mail AAAA 2001:db8::2"), nil, nil},
		{"MX to an alias", instead("mail A 192.0.2.2", "mail CNAME ns1"), nil, []string{"error mx-alias: direct.example.org. MX: mail.direct.example.org. is an alias"}},
		{"MX to an address", instead("@ MX 10 mail", "@ MX 10 192.0.2.2."), nil, []string{"error mx-is-name: direct.example.org. MX: 192.0.2.2. is an address"}},
		{"MX to an address without a dot", instead("@ MX 10 mail", "@ MX 10 192.0.2.2"), nil, []string{"error mx-address: direct.example.org. MX: 192.0.2.2.direct.example.org.", "error mx-is-name: direct.example.org. MX: 192.0.2.2.direct.example.org. is an address"}},
		{"MX elsewhere", instead("@ MX 10 mail", "@ MX 10 mail.elsewhere.example."), nil, nil},
		{"MX in a delegated zone", instead("@ MX 10 mail", "@ MX 10 mail.sub"), nil, nil},
		{"LDAP without an address", instead("ldap A 192.0.2.3", ""), nil, []string{"error srv-address: _ldap._tcp.direct.example.org. SRV: ldap.direct.example.org. has no address"}},
		{"LDAP on an alias", instead("ldap A 192.0.2.3", "ldap CNAME ns1"), nil, []string{"error srv-alias: _ldap._tcp"}},
		{"LDAP with IPv6 alone", instead("ldap A 192.0.2.3", "ldap AAAA 2001:db8::3"), nil, []string{"warning srv-ipv4: _ldap._tcp"}},
		{"no LDAP on purpose", instead("_ldap._tcp SRV 0 0 389 ldap", "_ldap._tcp SRV 0 0 0 ."), nil, nil},
		{"TTL 0", instead("", "x 0 TXT y"), nil, []string{"warning ttl-zero: x.direct.example.org. TXT: TTL 0"}},
		{"TTL of a month", instead("", "x 2592000 TXT y"), nil, []string{"warning ttl-long: x.direct.example.org. TXT: is kept"}},
		{"two TTLs", instead("", "x 60 TXT y\nx 70 TXT z\nX 80 TXT zz"), nil, []string{"warning ttl-one: x.direct.example.org. TXT: records with different TTLs"}},
		{"URL of a certificate", instead("", "bob CERT 4 0 0 "+ipkix("http://pki.example.org/bob.cer")), nil, []string{"warning cert-type: bob.direct.example.org. CERT: the URL"}},
		{"URL that is none", instead("", "bob CERT 4 0 0 "+ipkix("file:///etc/passwd")), nil, []string{"warning cert-type: bob", `error cert-url: bob.direct.example.org. CERT: "file:///etc/passwd" is no http URL`}},
		{"PGP key", instead("", "bob CERT 3 0 0 eA=="), nil, []string{"warning cert-type: bob.direct.example.org. CERT: type 3"}},
		{"eleven certificates", healthy, many, []string{"warning cert-many: bob.direct.example.org. CERT: 11 records"}},
		{"twenty-one certificates", healthy, slices.Repeat(many, 2), []string{"warning cert-many: bob.direct.example.org. CERT: 11 records"}}, // the same twice
		{"large certificates", healthy, []store.Certificate{cert(t, "bob@direct.example.org", make([]byte, 20<<10))}, []string{"warning cert-many: bob"}},
		{"address without a name", healthy, []store.Certificate{cert(t, "*@direct.example.org", []byte{1})}, []string{"warning cert-unnamed: the certificates of *@direct.example.org"}},
		{"wildcard alias", instead("", "* CNAME elsewhere.example."), nil, []string{"warning wildcard-alias: *.direct.example.org. CNAME"}},
	} {
		d := &store.DomainData{Domain: domain(t, "direct.example.org"), Records: parse(t, c.text, "direct.example.org").Records, Certificates: store.NewCertificates(c.certs...)}
		findings := build(t, 7, d).Check(d.Domain)
		var got []string
		for _, f := range findings {
			got = append(got, fmt.Sprintf("%s %s: %s", f.Level, f.Name, f.What))
			crossed[f.Name] = true
			if f.Citation == "" || f.Do == "" || !strings.Contains(f.String(), f.Citation) {
				t.Errorf("%s: %+v", c.why, f)
			}
		}
		if !slices.EqualFunc(got, c.want, strings.HasPrefix) {
			t.Errorf("%s: %q\nwant %q", c.why, got, c.want)
		}
	}
	for _, name := range zones.CheckNames() {
		if !crossed[name] {
			t.Errorf("no case crosses %s", name)
		}
	}
}

func TestCheckLooksIntoOurOtherZones(t *testing.T) {
	upper, lower := data(t, "example.org", "mail A 192.0.2.1\nalias CNAME mail"), data(t, "direct.example.org", "@ MX 1 mail.example.org.\n@ MX 2 none.example.org.\n@ MX 3 alias.example.org.")
	var got []string
	for _, f := range build(t, 7, upper, lower).Check(lower.Domain) {
		if strings.HasPrefix(f.Name, "mx") {
			got = append(got, f.Name)
		}
	}
	if want := []string{"mx-address", "mx-alias"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestCheckOfAView(t *testing.T) {
	d := domain(t, "direct.example.org")
	if got := zones.Check(view(t, d, parse(t, healthy, "direct.example.org").Records), d); len(got) != 0 {
		t.Errorf("healthy: %v", got)
	}
	other := domain(t, "other.example")
	if got := zones.Check(view(t, d, parse(t, healthy, "direct.example.org").Records), other); len(got) != 1 || got[0].Name != "hosted" {
		t.Errorf("not ours: %v", got)
	}
	broken := view(t, d, parse(t, healthy+"x CNAME y\nx TXT z\n", "direct.example.org").Records)
	if got := zones.Check(broken, d); len(got) != 1 || got[0].Name != "builds" || got[0].Level != zones.LevelError || strings.Contains(got[0].What, "another zone") {
		t.Errorf("broken: %v", got)
	}
	if got := zones.Check(broken, other); len(got) != 1 || !strings.Contains(got[0].What, "another zone") {
		t.Errorf("broken by another: %v", got)
	}
}

func TestTheDefaultZonePassesItsCheck(t *testing.T) {
	d := domain(t, "direct.example.org")
	records := zones.DefaultRecords(d, zones.DefaultOptions{Hostname: "node.direct.example.org", Addresses: addrs("192.0.2.1"), LDAPPort: 389})
	for _, f := range zones.Check(view(t, d, records), d) {
		if f.Name != "ns-two" { // one node is one server
			t.Errorf("%s", f)
		}
	}
}
