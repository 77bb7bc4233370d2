package resolver

import (
	"cmp"
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"

	"directnode/internal/direct"

	"github.com/miekg/dns"
)

func srvName(d direct.Domain) string { return "_ldap._tcp." + d.DNSName() }

// target is an LDAP server that a domain names.
type target struct {
	host string // absolute name
	port uint16
}

// ldapServers looks the SRV records up and orders them (RFC 2782): priority ascending; among equals the higher weight first and not by
// lot, as the discovery tools of this network expect it (a record of weight 0 must come after one of weight 100, always).
func (r *Resolver) ldapServers(ctx context.Context, record recorder, d direct.Domain) ([]target, int, error) {
	ans, err := r.query(ctx, record, srvName(d), dns.TypeSRV)
	if err != nil {
		return nil, 0, err
	}
	var records []*dns.SRV
	for _, rr := range ans.rrs {
		// RFC 2782: a target of "." says that the service is decidedly not available.
		if s, ok := rr.(*dns.SRV); ok && s.Target != "." && s.Port != 0 {
			records = append(records, s)
		}
	}
	slices.SortStableFunc(records, func(a, b *dns.SRV) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(b.Weight, a.Weight))
	})
	var out []target
	for _, s := range records {
		// Named twice, a server is asked once, at its best place: repetitions must not crowd out the others.
		known := slices.ContainsFunc(out, func(t target) bool { return t.port == s.Port && sameName(t.host, s.Target) })
		if !known && len(out) < maxLDAPServers {
			out = append(out, target{s.Target, s.Port})
		}
	}
	return out, ans.step, nil
}

// unrecorded is for questions that belong to no discovery.
func unrecorded(Step) int { return 0 }

// MX gives the mail servers of a domain in the order in which they are to be tried (RFC 5321 §5.1): by preference, those of one
// preference in random order, hosts without the final dot. The error is a *LookupError: NotFound means that the domain has no MX
// record and the caller may try its addresses unless NoSuchName, NullMX that it takes no mail (RFC 7505), Temporary that nobody knows.
func (r *Resolver) MX(ctx context.Context, domain string) ([]*net.MX, error) {
	name := dns.Fqdn(domain)
	ans, err := r.query(ctx, unrecorded, name, dns.TypeMX)
	if err != nil {
		return nil, err
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
	return r.addrs(ctx, unrecorded, host)
}

func (r *Resolver) addrs(ctx context.Context, record recorder, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(strings.Trim(host, "[].")); err == nil {
		return []netip.Addr{a}, nil
	}
	name := dns.Fqdn(host)
	v4, err4 := r.query(ctx, record, name, dns.TypeA)
	if err4 == nil && v4.noName {
		return nil, absence(v4, name, "A")
	}
	if err4 == nil && len(v4.rrs) > 0 {
		// An address is there: wait only a little for more, as some servers never answer AAAA.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.timeout/8)
		defer cancel()
	}
	v6, err6 := r.query(ctx, record, name, dns.TypeAAAA)
	var out []netip.Addr
	for _, rr := range append(v4.rrs, v6.rrs...) {
		var ip net.IP
		switch rr := rr.(type) {
		case *dns.A:
			ip = rr.A
		case *dns.AAAA:
			ip = rr.AAAA
		}
		if a, ok := netip.AddrFromSlice(ip); ok && len(out) < maxAddrs {
			out = append(out, a.Unmap())
		}
	}
	switch {
	case len(out) > 0:
		return out, nil
	case err4 != nil:
		return nil, err4
	case err6 != nil:
		return nil, err6
	}
	// Some servers say NXDOMAIN to AAAA where there is only nothing of that type; the answer to A is the one to believe.
	return nil, absence(v4, name, "A")
}

func absence(a answer, name, qtype string) *LookupError {
	if a.noName {
		return &LookupError{Name: name, Type: qtype, Detail: "no such name", kind: lookupNoName}
	}
	return &LookupError{Name: name, Type: qtype, Detail: "no such record", kind: lookupNoData}
}
