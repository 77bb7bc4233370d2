package resolver

import (
	"context"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// walk puts a question to the name servers of the zone itself: it finds the closest name above that has NS records, asks their hosts, and
// follows where they delegate. What the recursive servers are good for, they are asked for: NS and address records pass everywhere.
func (r *Resolver) walk(ctx context.Context, t *tape, q question) {
	servers := r.authorities(ctx, t, q.name)
	seen := map[string]bool{}
	for range maxReferrals {
		var fresh []string
		for _, s := range servers {
			if !seen[s] {
				seen[s] = true
				fresh = append(fresh, s)
			}
		}
		if len(fresh) == 0 {
			return // nobody is left, or the servers send us round in circles
		}
		m, err := r.askOneOf(ctx, t, fresh, true, q)
		if err == nil || m == nil || !isReferral(m) {
			return
		}
		servers = r.delegated(ctx, t, m, q.name)
	}
}

// authorities finds the servers of the closest zone that has any, from the name upwards, the top-level domain left out.
func (r *Resolver) authorities(ctx context.Context, t *tape, name string) []string {
	labels := dns.SplitDomainName(name)
	for i := range min(len(labels), maxZoneLabels) {
		if len(labels)-i < 2 {
			return nil
		}
		l := r.lookup(ctx, dns.Fqdn(strings.Join(labels[i:], ".")), dns.TypeNS)
		for _, h := range l.heard {
			*t = append(*t, h.exchanges...)
		}
		if hosts := nameServers(l.rrs, l.end); len(hosts) > 0 {
			return r.addressesOf(ctx, t, hosts, nil)
		}
	}
	return nil
}

// delegated takes the servers out of a referral (RFC 1034 §4.3.2 step 3b) that leads down to the name.
func (r *Resolver) delegated(ctx context.Context, t *tape, m *dns.Msg, name string) []string {
	var zone string
	for _, rr := range m.Ns {
		if h := rr.Header(); h.Rrtype == dns.TypeNS && dns.IsSubDomain(h.Name, name) {
			zone = h.Name
			break
		}
	}
	if zone == "" {
		return nil
	}
	// Addresses that came along are used only for hosts below the delegated zone (RFC 2181 §5.4.1): of others the sender knows nothing.
	glue := map[string][]host{}
	for _, rr := range m.Extra {
		owner := strings.ToLower(rr.Header().Name)
		if dns.IsSubDomain(zone, owner) {
			glue[owner] = append(glue[owner], hostsOf(lookup{rrs: []dns.RR{rr}})...)
		}
	}
	return r.addressesOf(ctx, t, nameServers(m.Ns, zone), glue)
}

// nameServers lists the hosts of a zone.
func nameServers(rrs []dns.RR, zone string) []string {
	var out []string
	for _, rr := range rrs {
		if ns, ok := rr.(*dns.NS); ok && sameName(ns.Hdr.Name, zone) && len(out) < maxAuthorities {
			out = append(out, ns.Ns)
		}
	}
	return out
}

// addressesOf gives the servers to ask for some hosts. A host name that is an address, as careless zones have it, is taken for what is
// meant. Servers inside are left out like LDAP servers inside: the zone is a stranger's.
func (r *Resolver) addressesOf(ctx context.Context, t *tape, names []string, glue map[string][]host) []string {
	var out []string
	for _, name := range names {
		hosts := glue[strings.ToLower(name)]
		if a, err := netip.ParseAddr(strings.TrimSuffix(name, ".")); err == nil {
			hosts = []host{{addr: a}}
		}
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
			if len(hosts) > 0 {
				break
			}
			l := r.lookup(ctx, name, qtype)
			for _, h := range l.heard {
				*t = append(*t, h.exchanges...)
			}
			hosts = hostsOf(l)
		}
		for _, h := range hosts {
			if r.rules.allowed(h) && len(out) < maxAuthorities {
				out = append(out, netip.AddrPortFrom(h.addr, r.authorityPort).String())
			}
		}
	}
	return out
}
