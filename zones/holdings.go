package zones

import (
	"strings"

	"github.com/miekg/dns"

	"directnode/internal/direct"
	"directnode/store"
)

// addCertificates adds the CERT records: of the domain's own certificates, and
// of those of a domain above whose address has its name in here (AS 5.1:
// bob.smith@example.org and bob@smith.example.org share one name). What is left
// without a node afterwards is counted by checkBare.
func (b *builder) addCertificates() error {
	for _, d := range b.zone.from.parents {
		b.addForeign(d)
	}
	// Names that others lie below come first: they are nodes then.
	for h := range b.zone.from.data.Certificates.Holdings {
		if !h.AnyDNS() || h.Plain() && b.zone.plain() && b.form == FormPKIX {
			continue
		}
		name, ok := b.zone.nameOf(h)
		switch {
		case !ok:
			b.zone.unnamed = append(b.zone.unnamed, h.Owner())
		case b.zone.isBelow(name): // another of our zones answers for the name and shows the certificate
		case b.form != FormPKIX:
			b.node(name) // its records are not those that the store has ready
		case name != b.zone.apex.name:
			b.node(name.parent())
		}
	}
	for _, n := range b.order {
		b.addHeld(n)
	}
	return nil
}

// addForeign adds the certificates of a domain above.
func (b *builder) addForeign(d *store.DomainData) {
	for h := range d.Certificates.Holdings {
		// Of one label there are a million, and of these at most one is ours.
		if !h.AnyDNS() || h.Plain() && b.zone.apex.name.labels() > 1+labelsOf(d.Domain) {
			continue
		}
		name, ok := certName(h.Owner())
		if !ok || !name.within(b.zone.apex.name) || b.zone.isBelow(name) {
			continue
		}
		n := b.node(name)
		n.pinned = true
		b.addHolding(n, d.Owned(h.Owner()))
	}
}

func labelsOf(d direct.Domain) int { return strings.Count(d.String(), ".") + 1 }

// addHeld adds the domain's own certificates that stand at a node.
func (b *builder) addHeld(n *Node) {
	h := b.held(n.name)
	if h.AnyDNS() && !b.zone.isBelow(n.name) {
		b.addHolding(n, b.zone.from.data.Owned(h.Owner()))
	}
}

// held is the domain's own certificates that stand at a name, shown or not.
func (b *builder) held(name Name) store.Holding {
	labels := name[:len(name)-len(b.zone.apex.name)]
	return b.zone.from.data.Certificates.At([]byte(labels), b.zone.domainText)
}

func (b *builder) addHolding(n *Node, certs []store.Certificate) {
	var known *RRset
	if b.before != nil {
		if was := b.before.nodes.get(n.name); was != nil {
			known = was.RRset(dns.TypeCERT)
		}
	}
	for i := range certs {
		if !certs[i].PublishDNS {
			continue
		}
		for _, data := range b.certForms(n.name, &certs[i], known) {
			b.items = append(b.items, item{n, dns.TypeCERT, b.certTTL, data})
		}
	}
}

// checkBare counts the names without a node and holds them against the limits
// of an RRset, and against what is above them.
func (b *builder) checkBare() error {
	if b.form != FormPKIX {
		return nil
	}
	apex := b.zone.apex
	plainTaken := 0 // names of one label that have a node
	for _, n := range b.order {
		if n.name.parent() == apex.name {
			if h := b.held(n.name); h.AnyDNS() && h.Plain() {
				plainTaken++
			}
		}
	}
	plain := 0
	for h := range b.zone.from.data.Certificates.Holdings {
		if !h.AnyDNS() {
			continue
		}
		simple := h.Plain() && b.zone.plain()
		if simple {
			plain++
		}
		if simple && !large(h) && apex.renamed == nil {
			continue
		}
		name, ok := b.zone.nameOf(h)
		if !ok || b.zone.nodes.get(name) != nil || b.zone.isBelow(name) {
			continue
		}
		above := b.zone.nodes.get(name.parent())
		if err := b.checkBareName(name, above, h); err != nil {
			return err
		}
		if !simple {
			above.children++
			b.zone.bare++
		}
	}
	if b.zone.plain() {
		apex.children += plain - plainTaken
		b.zone.bare += plain - plainTaken
	}
	return nil
}

// large tells a holding that might cross a limit.
func large(h store.Holding) bool { return h.Len() > 1 || h.MaxRData(0) > maxSetOctets/2 }

// checkBareName checks one name without a node, of which above is the parent.
func (b *builder) checkBareName(name Name, above *Node, h store.Holding) error {
	var set RRset
	set.setCerts(h, b.certTTL)
	switch {
	case above.cut != nil:
		return b.delegated(&Node{name: name, cut: above.cut}, dns.TypeCERT)
	case above.renamed != nil:
		return b.occluded(&Node{name: name, renamed: above.renamed}, dns.TypeCERT)
	}
	return b.checkSize(name, dns.TypeCERT, set.octets(), set.Count)
}

// certName is where the certificates of an owner stand. Some addresses have no
// domain name (AS 5.1). An asterisk is a legal local part, but as a label it
// would make the name a wildcard and answer for everybody (RFC 4592 §2.1.1).
func certName(o direct.Owner) (Name, bool) {
	text, err := o.DNSName()
	if err != nil {
		return "", false
	}
	name, err := ParseName(text)
	return name, err == nil && !name.hasLabel("*")
}
