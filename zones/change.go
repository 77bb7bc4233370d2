package zones

import (
	"cmp"
	"slices"

	"github.com/miekg/dns"

	"directnode/internal/direct"
)

// since tells which owners' certificates tell the inputs from those of the zone
// before; ok is false if that is not all, and the zone must be built anew.
// Zones of ours below and above one another may share names and are always
// built anew.
func (in inputs) since(before *Zone) (owners []direct.Owner, ok bool) {
	if before == nil || before.nodes.crowded() || len(in.parents)+len(in.below)+len(before.from.parents)+len(before.from.below) > 0 {
		return nil, false
	}
	owners, others, ok := in.data.Since(before.from.data)
	return owners, ok && !others
}

// change makes the zone from the one before and the owners whose certificates
// changed. It costs what these names cost, whatever else the zone holds: all
// nodes but theirs, those above them and the apex are shared. Pointers to nodes
// that a shared node holds (cut, renamed, wildcard, hosts) stay right, for they
// are read for data that a certificate does not change: NS, DNAME, the
// wildcard's own records, addresses.
func (b *builder) change(owners []direct.Owner) error {
	b.zone.nodes = b.before.nodes.edit()
	b.zone.apex = b.before.apex
	b.zone.unnamed = b.before.unnamed
	b.written = make(map[*Node]bool)
	for _, o := range owners {
		if err := b.changeOwner(o); err != nil {
			return err
		}
	}
	apex := b.node(b.zone.apex.name)
	b.zone.apex = apex
	for i, s := range apex.sets {
		if s.Type == dns.TypeSOA {
			apex.sets[i] = newSerial(s, b.zone.serial)
			b.zone.negative = negative(apex.sets[i])
		}
	}
	b.written = nil // the zone is whole; nothing of it changes any more
	b.zone.nodes.owned = nil
	return nil
}

// changeOwner replaces the CERT records of one owner. Within a zone no two
// owners share a name.
func (b *builder) changeOwner(o direct.Owner) error {
	certs := b.zone.from.data.Owned(o)
	b.zone.unnamed = slices.DeleteFunc(slices.Clone(b.zone.unnamed), func(u direct.Owner) bool { return u.Key() == o.Key() })
	name, ok := certName(o)
	if !ok {
		for _, c := range certs {
			if c.PublishDNS {
				b.zone.unnamed = append(b.zone.unnamed, c.Owner)
			}
		}
		return nil
	}
	b.items = nil
	if err := b.addCertRecords(name); err != nil {
		return err
	}
	for i := range certs {
		if err := b.addCertificate(&certs[i], true); err != nil {
			return err
		}
	}
	if len(b.items) == 0 && b.zone.nodes.get(name) == nil {
		return nil
	}
	n := b.node(name)
	n.sets = slices.DeleteFunc(n.sets, func(s *RRset) bool { return s.Type == dns.TypeCERT })
	if len(b.items) == 0 {
		b.prune(n)
		return nil
	}
	if n.cut != nil {
		return b.delegated(n, dns.TypeCERT)
	}
	if n.renamed != nil && n.renamed.name != n.name {
		return b.occluded(n, dns.TypeCERT)
	}
	slices.SortFunc(b.items, func(x, y item) int { return x.data.compare(y.data) })
	if err := b.hang(b.items); err != nil {
		return err
	}
	slices.SortFunc(n.sets, func(x, y *RRset) int { return cmp.Compare(x.Type, y.Type) })
	return b.checkAlias(n)
}

// addCertRecords adds the CERT records at a name that hold no certificate, such
// as the URL of one (type IPKIX): they are zone data and stand in the RRset
// that the certificates make anew.
func (b *builder) addCertRecords(name Name) error {
	n := b.before.nodes.get(name)
	if n == nil || n.RRset(dns.TypeCERT) == nil {
		return nil
	}
	for _, r := range b.zone.from.data.Records {
		if typ, _ := parseType(r.Type); typ != dns.TypeCERT {
			continue
		}
		if owner, err := ParseName(r.Name); err != nil || owner != name {
			continue
		}
		if err := b.addRecord(r); err != nil {
			return err
		}
	}
	return nil
}

// prune takes out a node that owns nothing any more, and empty non-terminals
// that nothing is left below.
func (b *builder) prune(n *Node) {
	for n.name != b.zone.apex.name && len(n.sets) == 0 && n.children == 0 {
		b.zone.nodes.remove(n.name)
		n = b.node(n.name.parent())
		n.children--
	}
}

// newSerial is a SOA with another serial.
func newSerial(soa *RRset, serial uint32) *RRset {
	for wire := range soa.RData {
		return newRRset(dns.TypeSOA, soa.TTL, []rdata{withSerial(rdata{body: wire}, serial)})
	}
	return soa
}
