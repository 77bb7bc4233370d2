package resolver

import "net/netip"

// reach is how far into our own network an address lies.
type reach int

const (
	reachPublic   reach = iota
	reachPrivate        // of an organization: RFC 1918, RFC 4193, RFC 6598
	reachLoopback       // of this host
	reachNowhere        // link-local, multicast, documentation, reserved: no server of anybody's domain lives there
)

// privateRanges and nowhereRanges are the special ranges of RFC 6890 that netip.Addr has no question for. An address that holds an IPv4
// address inside is judged by that one.
func privateRanges() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10")} // RFC 6598: behind a carrier's translator
}

func nowhereRanges() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"),     // RFC 1122 §3.2.1.3: this network
		netip.MustParsePrefix("192.0.0.0/24"),  // RFC 6890: protocol assignments
		netip.MustParsePrefix("198.18.0.0/15"), // RFC 2544: benchmarks
		netip.MustParsePrefix("240.0.0.0/4"),   // RFC 1112 §4: reserved, broadcast included
		netip.MustParsePrefix("fec0::/10"),     // RFC 3879: site-local of old
		netip.MustParsePrefix("100::/64"),      // RFC 6666: discard
	}
}

// embedded gives the IPv4 address that a translator would reach for an IPv6 one, by range and by the octet at which it stands.
func embedded(a netip.Addr) (netip.Addr, bool) {
	if !a.Is6() || a.Is4In6() {
		return a, false
	}
	raw := a.As16()
	for _, r := range []struct {
		prefix string
		at     int
	}{
		{"64:ff9b::/96", 12},   // RFC 6052 §2.1
		{"64:ff9b:1::/48", 12}, // RFC 8215
		{"2002::/16", 2},       // RFC 3056 §2: 6to4
		{"::/96", 12},          // RFC 4291 §2.5.5.1: IPv4-compatible
	} {
		if netip.MustParsePrefix(r.prefix).Contains(a) {
			v4, _ := netip.AddrFromSlice(raw[r.at : r.at+4])
			return v4, true
		}
	}
	return a, false
}

// reachOf sorts an address.
func reachOf(a netip.Addr) reach {
	a = a.Unmap()
	switch {
	case !a.IsValid():
		return reachNowhere
	case a.IsLoopback():
		return reachLoopback
	case a.IsUnspecified(), a.IsMulticast(), a.IsLinkLocalUnicast(), a.IsInterfaceLocalMulticast(), a.Zone() != "":
		return reachNowhere
	case a.IsPrivate():
		return reachPrivate
	}
	if v4, ok := embedded(a); ok {
		return reachOf(v4)
	}
	for _, p := range privateRanges() {
		if p.Contains(a) {
			return reachPrivate
		}
	}
	for _, p := range nowhereRanges() {
		if p.Contains(a) {
			return reachNowhere
		}
	}
	return reachPublic
}

// host is an address with how far inside the name server sits that gave it as its own.
type host struct {
	addr    netip.Addr
	vouched reach
}

// voucher is the reach that a name server gives to the addresses in its answer: that of its own address, if it is authoritative for
// them. A domain that is published inside has its servers inside; what a recursive server heard outside and passes on must not lead
// back in.
func voucher(x *exchange) reach {
	if x == nil || !x.authoritative {
		return reachPublic
	}
	server, err := netip.ParseAddrPort(x.Server)
	if err != nil {
		return reachPublic
	}
	return reachOf(server.Addr())
}

// allowed tells whether a stranger's domain may make us connect to an address.
func (r *rules) allowed(h host) bool {
	addr := h.addr.Unmap()
	for _, p := range r.Allow {
		if p.Contains(addr) {
			return true
		}
	}
	inside := reachOf(addr)
	return inside == reachPublic || inside != reachNowhere && h.vouched != reachNowhere && h.vouched >= inside
}
