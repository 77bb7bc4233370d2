package zones

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"directnode/internal/direct"
	"directnode/store"
)

// DefaultOptions is what a node knows of itself when a domain is added.
type DefaultOptions struct {
	Hostname  string       // of this node: SOA MNAME, NS, MX and SRV target
	Addresses []netip.Addr // of the host; used when its name lies in the domain
	LDAPPort  uint16       // 0 = no LDAP
	TTL       uint32       // 0 = an hour
	Servers   []NameServer // besides the node: the secondaries
}

// NameServer is a server for a zone, with the addresses that are to be shown
// where its name lies in the zone.
type NameServer struct {
	Name      string
	Addresses []netip.Addr
}

// Timers of a new SOA, within what RFC 1912 §2.2 recommends. A secondary that
// missed a NOTIFY shows what was replaced for refresh at the longest, so that it
// stands at an hour although others advise four and more.
const (
	soaRefresh = 3600
	soaRetry   = 600
	soaExpire  = 14 * 86400
	// soaMinimum is how long others remember that a name is not there (RFC 2308
	// §4): a new address must not stay unreachable for long.
	soaMinimum = 300
)

// DefaultRecords is what a new domain shows before anybody edits it: SOA and
// NS, MX (AS 1.1), the SRV record by which LDAP is found (RFC 2782), and the
// host's addresses where its name lies in the domain.
func DefaultRecords(d direct.Domain, o DefaultOptions) []store.Record {
	apex := d.DNSName()
	host := dns.Fqdn(strings.ToLower(cmp.Or(o.Hostname, d.String())))
	ttl := cmp.Or(o.TTL, defaultTTL)
	add := func(name, typ, data string) store.Record {
		return store.Record{Name: name, Type: typ, TTL: ttl, Data: data}
	}
	records := []store.Record{
		add(apex, "SOA", fmt.Sprintf("%s hostmaster.%s 1 %d %d %d %d", host, apex, soaRefresh, soaRetry, soaExpire, soaMinimum)),
		add(apex, "MX", "10 "+host),
	}
	for _, server := range append([]NameServer{{host, o.Addresses}}, o.Servers...) {
		name := dns.Fqdn(strings.ToLower(server.Name))
		records = append(records, add(apex, "NS", name))
		if !d.Contains(name) {
			continue // whoever has the name says where it is
		}
		for _, a := range server.Addresses {
			typ := "AAAA"
			if a = a.Unmap().WithZone(""); a.Is4() {
				typ = "A"
			}
			records = append(records, add(name, typ, a.String()))
		}
	}
	if o.LDAPPort != 0 {
		records = append(records, add("_ldap._tcp."+apex, "SRV", fmt.Sprintf("0 0 %d %s", o.LDAPPort, host)))
	}
	return records
}

// Delegation is the lines to hand to whoever runs the zone above: the domain's
// servers, and their addresses where these lie in the domain (glue, RFC 1034
// §4.2.1). It is empty for a domain that is not ours.
func Delegation(v *store.View, d direct.Domain) []string {
	data := v.Domain(d)
	if data == nil {
		return nil
	}
	line := func(r store.Record) string {
		return fmt.Sprintf("%s %d IN %s %s", r.Name, r.TTL, strings.ToUpper(r.Type), r.Data)
	}
	var lines []string
	servers := make(map[Name]bool)
	for _, r := range data.Records {
		if !strings.EqualFold(r.Type, "NS") || !sameName(r.Name, d.DNSName()) {
			continue
		}
		lines = append(lines, line(r))
		if host, err := ParseName(r.Data); err == nil {
			servers[host] = true
		}
	}
	for _, r := range data.Records {
		name, err := ParseName(r.Name)
		if err == nil && servers[name] && (strings.EqualFold(r.Type, "A") || strings.EqualFold(r.Type, "AAAA")) {
			lines = append(lines, line(r))
		}
	}
	return lines
}

func sameName(a, b string) bool {
	x, errX := ParseName(a)
	y, errY := ParseName(b)
	return errX == nil && errY == nil && x == y
}
