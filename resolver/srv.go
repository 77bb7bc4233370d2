package resolver

import (
	"cmp"
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"directnode/internal/direct"

	"github.com/miekg/dns"
)

func srvName(d direct.Domain) string { return "_ldap._tcp." + d.DNSName() }

// target is an LDAP server that a domain names.
type target struct {
	host string // absolute name
	port uint16
}

// targets orders the LDAP servers of a domain (RFC 2782): priority ascending; among equals the higher weight first and not by lot, as
// the discovery tools of this network expect it (a record of weight 0 must come after one of weight 100, always), or by lot if that is
// wanted.
func (d *discovery) targets(rrs []dns.RR) []target {
	var records []*dns.SRV
	for _, rr := range rrs {
		// RFC 2782: a target of "." says that the service is decidedly not available.
		if s, ok := rr.(*dns.SRV); ok && s.Target != "." && s.Port != 0 {
			records = append(records, s)
		}
	}
	slices.SortStableFunc(records, func(a, b *dns.SRV) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(b.Weight, a.Weight))
	})
	if d.rules.SRVRandom {
		byLot(records, d.lottery)
	}
	var out []target
	for _, s := range records {
		// Named twice, a server is asked once, at its best place: repetitions must not crowd out the others.
		known := slices.ContainsFunc(out, func(t target) bool { return t.port == s.Port && sameName(t.host, s.Target) })
		if !known && len(out) < maxLDAPServers {
			out = append(out, target{s.Target, s.Port})
		}
	}
	return out
}

// byLot orders the records of each priority by weighted lot: RFC 2782, "Usage rules": those of weight 0 first, then again and again
// one at random in proportion to its weight.
func byLot(records []*dns.SRV, lottery *rand.Rand) {
	for len(records) > 0 {
		same := 1
		for same < len(records) && records[same].Priority == records[0].Priority {
			same++
		}
		group := records[:same]
		slices.SortStableFunc(group, func(a, b *dns.SRV) int { return cmp.Compare(min(a.Weight, 1), min(b.Weight, 1)) })
		for ; len(group) > 1; group = group[1:] {
			sum := 0
			for _, s := range group {
				sum += int(s.Weight)
			}
			ticket, running, pick := lottery.IntN(sum+1), 0, 0
			for i, s := range group {
				if running += int(s.Weight); running >= ticket {
					pick = i
					break
				}
			}
			chosen := group[pick]
			copy(group[1:pick+1], group[:pick])
			group[0] = chosen
		}
		records = records[same:]
	}
}

// MX gives the mail servers of a domain in the order in which they are to be tried (RFC 5321 §5.1): by preference, those of one
// preference in random order, hosts without the final dot. The error is a *LookupError: NotFound means that the domain has no MX
// record and the caller may try its addresses unless NoSuchName, NullMX that it takes no mail (RFC 7505), Temporary that nobody knows.
func (r *Resolver) MX(ctx context.Context, domain string) ([]*net.MX, error) {
	name := dns.Fqdn(domain)
	ans := r.lookup(ctx, name, dns.TypeMX)
	if ans.err != nil {
		return nil, ans.err
	}
	var out []*net.MX
	for _, rr := range ans.rrs {
		if mx, ok := rr.(*dns.MX); ok {
			out = append(out, &net.MX{Host: strings.TrimSuffix(mx.Mx, "."), Pref: mx.Preference})
		}
	}
	if len(out) == 0 {
		return nil, absence(ans, name, "MX")
	}
	if len(out) == 1 && out[0].Host == "" {
		return nil, &LookupError{Name: name, Type: "MX", Detail: "the domain takes no mail (null MX)", kind: lookupNullMX}
	}
	out = slices.DeleteFunc(out, func(mx *net.MX) bool { return mx.Host == "" })
	if len(out) == 0 {
		return nil, absence(ans, name, "MX")
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	slices.SortStableFunc(out, func(a, b *net.MX) int { return cmp.Compare(a.Pref, b.Pref) })
	return out[:min(len(out), maxMX)], nil
}

// Addrs gives the addresses of a host, IPv4 first; a literal address is its own answer. The error is a *LookupError.
func (r *Resolver) Addrs(ctx context.Context, host string) ([]netip.Addr, error) {
	hosts, err := r.hosts(ctx, host)
	if err != nil {
		return nil, err
	}
	out := make([]netip.Addr, 0, len(hosts))
	for _, h := range hosts {
		out = append(out, h.addr)
	}
	return out, nil
}

// hosts asks for both kinds of addresses at once.
func (r *Resolver) hosts(ctx context.Context, name string) ([]host, error) {
	if a, err := netip.ParseAddr(strings.Trim(name, "[].")); err == nil {
		return []host{{addr: a}}, nil
	}
	name = dns.Fqdn(name)
	later, cancel := context.WithCancel(ctx)
	defer cancel()
	six := make(chan lookup, 1)
	go func() { six <- r.lookup(later, name, dns.TypeAAAA) }()
	v4 := r.lookup(ctx, name, dns.TypeA)
	if v4.err == nil && v4.noName {
		return nil, absence(v4, name, "A")
	}
	if v4.err == nil && len(v4.rrs) > 0 {
		// An address is there: wait only a little for more, as some servers never answer AAAA.
		defer time.AfterFunc(r.timeout/8, cancel).Stop()
	}
	v6 := <-six
	out := append(hostsOf(v4), hostsOf(v6)...)
	switch {
	case len(out) > 0:
		return out[:min(len(out), maxAddrs)], nil
	case v4.err != nil:
		return nil, v4.err
	case v6.err != nil:
		return nil, v6.err
	}
	// Some servers say NXDOMAIN to AAAA where there is only nothing of that type; the answer to A is the one to believe.
	return nil, absence(v4, name, "A")
}

func absence(a lookup, name, qtype string) *LookupError {
	if a.noName {
		return &LookupError{Name: name, Type: qtype, Detail: "no such name", kind: lookupNoName}
	}
	return &LookupError{Name: name, Type: qtype, Detail: "no such record", kind: lookupNoData}
}
