package fetch

import (
	"fmt"
	"net/netip"
)

// special is a range of addresses that no server of the public internet has.
type special struct {
	prefix netip.Prefix
	what   string
}

// forbidden4 and forbidden6 are the special-purpose address registries of IANA (RFC 6890), with what became forbidden for the sake of
// this door: translated and tunnelled addresses, which reach an IPv4 address that was not looked at, and the addresses at which cloud
// platforms hand out credentials.
func forbidden4() []special {
	return specials(
		"0.0.0.0/8", "this network (RFC 791)",
		"10.0.0.0/8", "private (RFC 1918)",
		"100.64.0.0/10", "shared by a carrier's translator (RFC 6598)",
		"127.0.0.0/8", "loopback (RFC 1122)",
		"168.63.129.16/32", "a cloud platform's own service",
		"169.254.0.0/16", "link-local (RFC 3927), where cloud platforms keep credentials",
		"172.16.0.0/12", "private (RFC 1918)",
		"192.0.0.0/24", "IETF protocols (RFC 6890)",
		"192.0.2.0/24", "documentation (RFC 5737)",
		"192.31.196.0/24", "AS112 (RFC 7535)",
		"192.52.193.0/24", "AMT (RFC 7450)",
		"192.88.99.0/24", "6to4 relays (RFC 7526)",
		"192.168.0.0/16", "private (RFC 1918)",
		"192.175.48.0/24", "AS112 (RFC 7534)",
		"198.18.0.0/15", "benchmarks (RFC 2544)",
		"198.51.100.0/24", "documentation (RFC 5737)",
		"203.0.113.0/24", "documentation (RFC 5737)",
		"224.0.0.0/4", "multicast (RFC 5771)",
		"240.0.0.0/4", "reserved, broadcast among it (RFC 1112)",
	)
}

func forbidden6() []special {
	return specials(
		"::/128", "unspecified (RFC 4291)",
		"::1/128", "loopback (RFC 4291)",
		"::ffff:0:0/96", "an IPv4 address in disguise (RFC 4291)",
		"::/96", "an IPv4 address in disguise (RFC 4291)",
		"64:ff9b::/96", "an IPv4 address behind a translator (RFC 6052)",
		"64:ff9b:1::/48", "an IPv4 address behind a translator (RFC 8215)",
		"100::/64", "discard (RFC 6666)",
		"2001::/32", "an IPv4 address in a Teredo tunnel (RFC 4380)",
		"2001::/23", "IETF protocols (RFC 2928)",
		"2001:db8::/32", "documentation (RFC 3849)",
		"2002::/16", "an IPv4 address in a 6to4 tunnel (RFC 3056)",
		"2620:4f:8000::/48", "AS112 (RFC 7534)",
		"3fff::/20", "documentation (RFC 9637)",
		"fc00::/7", "unique local (RFC 4193)",
		"fe80::/10", "link-local (RFC 4291)",
		"fec0::/10", "site-local (RFC 3879)",
		"ff00::/8", "multicast (RFC 4291)",
	)
}

// global6 is all of IPv6 that has been given out as global unicast (RFC 4291 §2.4); what lies outside is no server's yet.
const global6 = "2000::/3"

func specials(pairs ...string) []special {
	list := make([]special, 0, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, special{netip.MustParsePrefix(pairs[i]), pairs[i+1]})
	}
	return list
}

// addresses decides which addresses may be connected to. It never changes.
type addresses struct {
	allow   []netip.Prefix
	ports   []uint16
	own     []netip.AddrPort
	local   func() []netip.Addr // of this machine's interfaces
	four    []special
	six     []special
	general netip.Prefix
}

func newAddresses(o Options) *addresses {
	a := &addresses{allow: o.Allow, ports: o.Ports, own: o.Own, local: interfaceAddrs, four: forbidden4(), six: forbidden6(), general: netip.MustParsePrefix(global6)}
	if len(a.ports) == 0 {
		a.ports = []uint16{80, 443}
	}
	return a
}

// check says why an address and port may not be connected to, or nothing.
func (a *addresses) check(ap netip.AddrPort) string {
	addr := ap.Addr()
	switch {
	case !addr.IsValid():
		return "no address"
	case addr.Zone() != "":
		return fmt.Sprintf("%s names an interface of this machine", addr)
	case addr.Is4In6():
		// Judged as what it is even where the IPv4 address itself is open: nothing that means well writes it so.
		return fmt.Sprintf("%s is an IPv4 address in disguise (RFC 4291)", addr)
	case a.isOwn(ap):
		return fmt.Sprintf("%s is a listener of this node", ap)
	}
	for _, p := range a.allow {
		if p.Contains(addr) {
			return "" // the operator's word, for any port
		}
	}
	if what := a.special(addr); what != "" {
		return fmt.Sprintf("%s is %s", addr, what)
	}
	for _, p := range a.ports {
		if p == ap.Port() {
			return ""
		}
	}
	return fmt.Sprintf("port %d is none of %v", ap.Port(), a.ports)
}

// special names the range that an address must not be in, or nothing.
func (a *addresses) special(addr netip.Addr) string {
	list := a.six
	if addr.Is4() {
		list = a.four
	}
	for _, s := range list {
		if s.prefix.Contains(addr) {
			return s.what
		}
	}
	if addr.Is6() && !a.general.Contains(addr) {
		return "outside of what is global (RFC 4291)"
	}
	return ""
}

// isOwn tells a listener of this node, also where it listens on all addresses.
func (a *addresses) isOwn(ap netip.AddrPort) bool {
	for _, own := range a.own {
		if own.Port() != ap.Port() {
			continue
		}
		if own.Addr().Unmap() == ap.Addr() {
			return true
		}
		if !own.Addr().IsUnspecified() {
			continue
		}
		if ap.Addr().IsLoopback() || ap.Addr().IsUnspecified() {
			return true
		}
		for _, local := range a.local() {
			if local == ap.Addr() {
				return true
			}
		}
	}
	return false
}

// ForbiddenRanges lists the ranges that are not reached unless the operator opens them.
func ForbiddenRanges() []netip.Prefix {
	var out []netip.Prefix
	for _, s := range append(forbidden4(), forbidden6()...) {
		out = append(out, s.prefix)
	}
	return out
}
