package zones

import (
	"cmp"
	"slices"

	"github.com/miekg/dns"

	"directnode/internal/direct"
	"directnode/store"
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
	b.zone.bare = b.before.bare
	b.written, b.moved = make(map[*Node]bool), make(map[Name]bool)
	for _, o := range owners {
		if err := b.changeOwner(o); err != nil {
			return err
		}
	}
	b.zone.smimea = b.before.smimea.with(b.zone.from.data.Certificates, owners)
	apex := b.node(b.zone.apex.name)
	b.zone.apex = apex
	for i, s := range apex.sets {
		if s.Type == dns.TypeSOA {
			apex.sets[i] = newSerial(s, b.zone.serial)
			b.zone.negative = negative(apex.sets[i])
		}
	}
	b.written, b.moved = nil, nil // the zone is whole; nothing of it changes any more
	b.zone.nodes.owned = nil
	return nil
}

// fromBare hangs the certificates on a node that is new, if its name existed
// without one, and tells whether it did.
func (b *builder) fromBare(n *Node) bool {
	if b.written == nil || b.form != FormPKIX || !b.bareCerts(n.name).AnyDNS() {
		return false
	}
	n.sets = []*RRset{b.copied(b.bareCerts(n.name))}
	b.zone.bare--
	return true
}

// bareCerts is what stands at a name in the zone as changed so far.
func (b *builder) bareCerts(name Name) store.Holding {
	data := b.before.from.data
	if b.moved[name] {
		data = b.zone.from.data
	}
	return data.Certificates.At([]byte(name[:len(name)-len(b.zone.apex.name)]), b.zone.domainText)
}

// copied is an RRset of certificates for a node.
func (b *builder) copied(h store.Holding) *RRset {
	var data []rdata
	for i := range h.Len() {
		if h.InDNS(i) {
			data = append(data, rdata{body: h.RData(i)})
		}
	}
	return newRRset(dns.TypeCERT, b.certTTL, data)
}

// changeOwner replaces the CERT records of one owner. Within a zone no two
// owners share a name.
func (b *builder) changeOwner(o direct.Owner) error {
	certs := b.zone.from.data.Owned(o)
	b.zone.unnamed = slices.DeleteFunc(slices.Clone(b.zone.unnamed), func(u direct.Owner) bool { return u.Key() == o.Key() })
	name, ok := certName(o)
	if !ok {
		if i := slices.IndexFunc(certs, func(c store.Certificate) bool { return c.PublishDNS }); i >= 0 {
			b.zone.unnamed = append(b.zone.unnamed, certs[i].Owner)
		}
		return nil
	}
	if b.zone.nodes.get(name) == nil && b.form == FormPKIX {
		return b.changeBare(name)
	}
	b.moved[name] = true
	b.items = nil
	if err := b.addCertRecords(name); err != nil {
		return err
	}
	if b.zone.nodes.get(name) == nil && !slices.ContainsFunc(certs, func(c store.Certificate) bool { return c.PublishDNS }) {
		return nil
	}
	n := b.node(name)
	b.addHolding(n, certs)
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

// changeBare changes the certificates at a name without a node. Such a name
// comes and goes, and with it what is missing above it.
func (b *builder) changeBare(name Name) error {
	had := b.bareCerts(name).AnyDNS()
	b.moved[name] = true
	h := b.bareCerts(name)
	switch {
	case h.AnyDNS():
		above := b.zone.nodes.get(name.parent())
		if !had {
			above = b.node(name.parent())
			above.children++
			b.zone.bare++
		}
		return b.checkBareName(name, above, h)
	case had:
		above := b.node(name.parent())
		above.children--
		b.zone.bare--
		b.prune(above)
	}
	return nil
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

// prune takes out a node that exists for nothing any more, and empty
// non-terminals that nothing is left below. What owns certificates and nothing
// else goes on without a node.
func (b *builder) prune(n *Node) {
	for n.name != b.zone.apex.name && !n.pinned && n.children == 0 {
		if len(n.sets) > 0 && b.form != FormPKIX {
			return
		}
		b.zone.nodes.remove(n.name)
		if len(n.sets) > 0 {
			b.zone.bare++
			return
		}
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
