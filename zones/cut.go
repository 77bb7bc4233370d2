package zones

import (
	"slices"

	"github.com/miekg/dns"
)

// cutAt marks what lies at and below delegations. Below one we are not
// authoritative: only addresses for glue make sense there (RFC 1034 §4.2.1).
func (b *builder) cutAt() error {
	cuts := false
	for _, n := range b.order {
		cuts = cuts || n != b.zone.apex && n.RRset(dns.TypeNS) != nil
	}
	if !cuts {
		return nil
	}
	for _, n := range b.order {
		for up := n; up != b.zone.apex; up = b.zone.nodes.get(up.name.parent()) {
			if up.RRset(dns.TypeNS) != nil {
				n.cut = up // the last one found is the topmost
			}
		}
		if n.cut == nil {
			continue
		}
		for _, s := range n.sets {
			if !allowedInCut(n, s.Type) && !slices.ContainsFunc(b.zone.from.below, n.name.within) {
				return b.delegated(n, s.Type)
			}
		}
	}
	return nil
}

func (b *builder) delegated(n *Node, rrtype uint16) error {
	return b.refuse(n.name, rrtype, "the name is delegated at %s, so that we would never answer with it", n.cut.name)
}

// renameAt marks what a DNAME answers for. Nothing may stand below one (RFC
// 6672 §2.4), nor may it share its name with a cut (§2.3).
func (b *builder) renameAt() error {
	renames := slices.ContainsFunc(b.order, func(n *Node) bool { return n.RRset(dns.TypeDNAME) != nil })
	if !renames {
		return nil
	}
	for _, n := range b.order {
		for up := n; ; up = b.zone.nodes.get(up.name.parent()) {
			if up.RRset(dns.TypeDNAME) != nil {
				n.renamed = up
			}
			if up == b.zone.apex {
				break
			}
		}
		if n.renamed == nil || n.renamed == n || len(n.sets) == 0 || slices.ContainsFunc(b.zone.from.below, n.name.within) {
			continue
		}
		return b.occluded(n, n.sets[0].Type)
	}
	return nil
}

func (b *builder) occluded(n *Node, rrtype uint16) error {
	return b.refuse(n.name, rrtype, "a DNAME at %s leads the name elsewhere, so that we would never answer with it (RFC 6672 §2.4)", n.renamed.name)
}

func allowedInCut(n *Node, rrtype uint16) bool {
	switch rrtype {
	case dns.TypeA, dns.TypeAAAA:
		return true
	case dns.TypeNS, dns.TypeDS:
		return n == n.cut
	}
	return false
}
