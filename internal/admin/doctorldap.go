package admin

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"directnode/internal/probe"
	"directnode/store"
)

// learn asks our own listener for the SRV records and for the addresses of
// their targets. Names of our zones are answered there; whoever is refused lies
// in a zone of others, and public resolvers are not asked.
func (d *doctor) learn(ctx context.Context) *ldapView {
	if d.ldap != nil {
		return d.ldap
	}
	d.ldap = &ldapView{}
	if len(d.s.o.Listeners.DNS) == 0 {
		d.ldap.why = "the node has no DNS listener, and public resolvers are not asked"
		return d.ldap
	}
	l := d.s.o.Listeners.DNS[0]
	a, err := d.ask(ctx, l, "tcp", d.srvName(), "SRV")
	switch {
	case err != nil:
		d.ldap.why = fmt.Sprintf("no answer from %s: %v", reachable(l), err)
		return d.ldap
	case a.Rcode != "NOERROR" && a.Rcode != "NXDOMAIN":
		d.ldap.why = fmt.Sprintf("%s from %s", a.Rcode, reachable(l))
		return d.ldap
	}
	machine := d.s.o.Probe.Addresses()
	for _, srv := range a.SRV[:min(len(a.SRV), maxProbed)] {
		s := ldapServer{SRV: srv}
		if srv.Target != "." {
			s.addrs, s.err = d.ask(ctx, l, "tcp", srv.Target, "A")
			s.foreign = s.addrs.Rcode == "REFUSED"
			s.ours = strings.EqualFold(strings.TrimSuffix(srv.Target, "."), strings.TrimSuffix(d.s.o.Hostname, ".")) ||
				slices.ContainsFunc(s.addrs.Addrs, func(addr netip.Addr) bool { return slices.Contains(machine, addr) })
		}
		d.ldap.servers = append(d.ldap.servers, s)
	}
	// As clients ask: by priority, then the heavier first.
	slices.SortStableFunc(d.ldap.servers, func(a, b ldapServer) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(b.Weight, a.Weight))
	})
	return d.ldap
}

func (d *doctor) srvName() string { return "_ldap._tcp." + d.data.Domain.DNSName() }

// byLDAP counts the owners who are published by LDAP, and those of them who are
// published by nothing else.
func (d *doctor) byLDAP() (all, only int) {
	for h := range d.data.Certificates.Holdings {
		if h.AnyLDAP() {
			all++
			if !h.AnyDNS() {
				only++
			}
		}
	}
	return all, only
}

// lookSRV holds the SRV records against what is published by LDAP.
func (d *doctor) lookSRV(ctx context.Context) {
	looked := "SRV " + d.srvName()
	v := d.learn(ctx)
	if v.why != "" {
		d.skipped(looked, v.why)
		return
	}
	all, only := d.byLDAP()
	listens := len(d.s.o.Listeners.LDAP) > 0
	var texts []string
	for _, s := range v.servers {
		texts = append(texts, s.String())
	}
	found := strings.Join(texts, ", then ")
	record := fmt.Sprintf("put `%s 3600 IN SRV 0 0 PORT HOST` into the zone (`directctl zone export`, then `zone import`)", d.srvName())
	if listens {
		record = fmt.Sprintf("put `%s 3600 IN SRV 0 0 %d %s.` into the zone (`directctl zone export`, then `zone import`)", d.srvName(), d.s.o.Listeners.LDAP[0].Port(), strings.TrimSuffix(d.s.o.Hostname, "."))
	}
	switch {
	case len(v.servers) == 0 && only > 0 && !listens:
		d.failed(looked, fmt.Sprintf("%d owners are published by LDAP alone, the node has no LDAP listener, and no record names another server", only), "set ldap.listen, restart, and "+record)
	case len(v.servers) == 0 && all > 0 && listens:
		d.failed(looked, fmt.Sprintf("%d owners are published by LDAP, and no record tells anybody where", all), record)
	case len(v.servers) == 0:
		d.ok(looked, "no record, and none is needed: nothing is found by LDAP alone")
	case len(v.servers) == 1 && v.servers[0].Target == "." && all > 0:
		d.failed(looked, fmt.Sprintf("the record says that there is no LDAP service (RFC 2782), and %d owners are published by LDAP", all), record)
	case all == 0:
		d.ok(looked, found+"; nothing is published by LDAP yet")
	case !slices.ContainsFunc(v.servers, func(s ldapServer) bool { return s.ours }):
		d.warning(looked, found+": none of them is this node, and what it publishes by LDAP is found nowhere", "add a record for this node, or see that the other server has the same certificates (`directctl ldif export`)")
	default:
		d.ok(looked, found)
	}
}

// lookTargets holds the host of each record against the zones.
func (d *doctor) lookTargets(ctx context.Context) {
	for _, s := range d.learn(ctx).servers {
		if s.Target == "." {
			continue
		}
		looked := "the LDAP server " + s.Target
		switch a := s.addrs; {
		case s.err != nil:
			d.skipped(looked, "no answer from our own DNS listener: "+s.err.Error())
		case s.foreign && s.ours:
			d.skipped(looked, "the node's own host name is in a zone of others, and public resolvers are not asked: see yourself that it has an A record (`dig A "+s.Target+"`)")
		case s.foreign:
			d.skipped(looked, "is not this node's, and its name is in a zone of others: it was not looked up and is not asked")
		case a.Rcode != "NOERROR" && a.Rcode != "NXDOMAIN":
			d.skipped(looked, a.Rcode+" from our own DNS listener")
		case a.Alias != "":
			d.failed(looked, "is an alias of "+a.Alias+": the target of an SRV record must not be one (RFC 2782)", "put "+a.Alias+" into the SRV record")
		case len(a.Addrs) == 0:
			d.failed(looked, "has no A record: no client finds its address", "add an A record for "+s.Target+", or correct the name in the SRV record")
		case !s.ours:
			d.skipped(looked, fmt.Sprintf("%v: is not this node, and is not asked", a.Addrs))
		default:
			d.ok(looked, fmt.Sprintf("%v", a.Addrs))
		}
	}
}

// lookPorts holds the port of each record that names this node against its
// listeners.
func (d *doctor) lookPorts(ctx context.Context) {
	for _, s := range d.learn(ctx).servers {
		if !s.ours {
			continue
		}
		looked := fmt.Sprintf("port %d of %s", s.Port, s.Target)
		i := slices.Index(ports(d.s.o.Listeners.LDAP), s.Port)
		switch {
		case i < 0 && slices.Contains(ports(d.s.o.Listeners.LDAPTLS), s.Port):
			d.failed(looked, "is a listener of ldap.listen_tls: who finds it by _ldap._tcp speaks LDAP without TLS", "name a port of ldap.listen in the record")
		case i < 0:
			d.failed(looked, "is none that this node listens on for LDAP", fmt.Sprintf("name a port of ldap.listen in the record (%s), or listen there", portList(d.s.o.Listeners.LDAP)))
		case d.s.o.Listeners.LDAP[i].Addr().IsLoopback() && slices.ContainsFunc(s.addrs.Addrs, func(a netip.Addr) bool { return !a.IsLoopback() }):
			d.warning(looked, fmt.Sprintf("the listener %s is on loopback, and %v is what others are told", d.s.o.Listeners.LDAP[i], s.addrs.Addrs), "listen on an address that others reach, in ldap.listen")
		default:
			d.ok(looked, "the listener "+d.s.o.Listeners.LDAP[i].String())
		}
	}
}

func portList(list []netip.AddrPort) string {
	if len(list) == 0 {
		return "there is none"
	}
	var out []string
	for _, p := range ports(list) {
		out = append(out, fmt.Sprint(p))
	}
	return strings.Join(out, ", ")
}

// ownLDAP gives the listeners that SRV records lead to, each once; where no
// record does, all of them.
func (d *doctor) ownLDAP(ctx context.Context) (list []netip.AddrPort) {
	servers := d.learn(ctx).servers
	for _, l := range d.s.o.Listeners.LDAP {
		named := slices.ContainsFunc(servers, func(s ldapServer) bool { return s.ours && s.Port == l.Port() })
		if (named || len(servers) == 0) && len(list) < maxProbed {
			list = append(list, l)
		}
	}
	return list
}

func (d *doctor) askLDAP(ctx context.Context, l netip.AddrPort, mail string) (probe.Directory, error) {
	ctx, cancel := d.short(ctx)
	defer cancel()
	return d.s.o.Probe.LDAP(ctx, reachable(l), mail)
}

// lookLDAP binds at our listeners and reads the root DSE.
func (d *doctor) lookLDAP(ctx context.Context) {
	all, _ := d.byLDAP()
	suffix := "dc=" + strings.ReplaceAll(d.domainName(), ".", ",dc=") // RFC 2247 §2
	for _, l := range d.ownLDAP(ctx) {
		looked := fmt.Sprintf("anonymous bind and root DSE at %s", reachable(l))
		answer, err := d.askLDAP(ctx, l, "")
		switch {
		case err != nil:
			d.failed(looked, err.Error(), "look at the daemon's log, and see that no other server listens there")
		case all > 0 && !slices.ContainsFunc(answer.NamingContexts, func(c string) bool { return strings.EqualFold(c, suffix) }):
			d.failed(looked, suffix+" is not among the naming contexts", "see that no other server listens there; otherwise look at the daemon's log")
		default:
			d.ok(looked, fmt.Sprintf("%d naming contexts", len(answer.NamingContexts)))
		}
	}
}

// lookLDAPCertificate searches for a certificate that is published, as a sender
// does.
func (d *doctor) lookLDAPCertificate(ctx context.Context) {
	owner, ders, ok := d.published(store.Holding.AnyLDAP, store.Holding.InLDAP, false)
	if !ok {
		d.ok("certificates published by LDAP", "there is none")
		return
	}
	for _, l := range d.ownLDAP(ctx) {
		looked := fmt.Sprintf("(mail=%s) at %s", owner, reachable(l))
		answer, err := d.askLDAP(ctx, l, owner.String())
		switch {
		case err != nil:
			d.failed(looked, err.Error(), "look at the daemon's log, and see that no other server listens there")
		case !sameSet(answer.Certs, ders):
			d.failed(looked, fmt.Sprintf("%d certificates where %d are published", len(answer.Certs), len(ders)), "see that no other server listens there; otherwise run `directctl store check` and look at the daemon's log")
		default:
			d.ok(looked, fmt.Sprintf("the %d published certificates", len(ders)))
		}
	}
}

// lookExpiry looks for certificates that have expired or will soon, and that
// have no successor.
func (d *doctor) lookExpiry(ctx context.Context) {
	var expired, soon []string
	count := 0
	for h := range d.data.Certificates.Holdings {
		if ctx.Err() != nil {
			return
		}
		if !h.AnyDNS() && !h.AnyLDAP() {
			continue
		}
		count++
		switch last := lastNotAfter(h); {
		case last.IsZero(): // does not parse: `store check` tells
		case d.at.After(last):
			expired = append(expired, fmt.Sprintf("%s (%s)", h.Owner(), last.UTC().Format(time.DateOnly)))
		case d.at.Add(expiresSoon).After(last):
			soon = append(soon, fmt.Sprintf("%s (%s)", h.Owner(), last.UTC().Format(time.DateOnly)))
		}
	}
	looked := fmt.Sprintf("the published certificates of %d owners", count)
	if len(expired) > 0 {
		d.failed(looked, "expired, and there is no other: "+someOf(expired), "import their new certificates, or remove the old ones with `directctl cert remove`")
	}
	if len(soon) > 0 {
		d.warning(looked, fmt.Sprintf("will expire within %d days, and there is no other: %s", int(expiresSoon.Hours()/24), someOf(soon)), "get new certificates and import them beside the old ones before that day")
	}
	if len(expired)+len(soon) == 0 {
		d.ok(looked, "every owner has one that lasts")
	}
}

// lastNotAfter is when the last of an owner's published certificates expires.
func lastNotAfter(h store.Holding) (last time.Time) {
	for i := range h.Len() {
		if !h.InDNS(i) && !h.InLDAP(i) {
			continue
		}
		if c, err := x509.ParseCertificate(h.DER(i)); err == nil && c.NotAfter.After(last) {
			last = c.NotAfter
		}
	}
	return last
}

// someOf names the first of many, sorted.
func someOf(list []string) string {
	const shown = 5
	slices.Sort(list)
	if len(list) <= shown {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:shown], ", "), len(list)-shown)
}
