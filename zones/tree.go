package zones

import (
	"bytes"
	"maps"

	"github.com/miekg/dns"

	"directnode/internal/direct"
	"directnode/store"
)

// Zone is what the DNS shows of one domain. It is immutable.
type Zone struct {
	domain     direct.Domain
	serial     uint32
	domainText string // the domain as owners' keys end in it
	apex       *Node
	nodes      table
	negative   *RRset  // the SOA for negative answers (RFC 2308 §3)
	signer     *Signer // nil: not signed
	smimea     *smimea // nil: not signed
	certTTL    uint32
	bare       int            // names without a node: they own certificates and nothing else
	unnamed    []direct.Owner // whose certificates have no domain name to stand at
	expired    bool           // see Set.Expire
	history    []*Diff        // the steps that led to this version, the oldest first; those that are kept

	from inputs
}

// inputs is all that a zone was made of: equal inputs make an equal zone.
type inputs struct {
	data    *store.DomainData
	parents []*store.DomainData // our domains above this one, nearest first
	below   []Name              // our domains below this one, sorted
}

// Domain is the domain that the zone publishes.
func (z *Zone) Domain() direct.Domain { return z.domain }

// Serial is the SOA serial: the generation that last changed the zone.
func (z *Zone) Serial() uint32 { return z.serial }

// Apex is the node of the domain itself.
func (z *Zone) Apex() *Node { return z.apex }

// Signer signs the zone's answers; nil for a zone that is not signed.
func (z *Zone) Signer() *Signer { return z.signer }

// Negative is the SOA as it stands in negative answers: its TTL is the lesser
// of the SOA's own and the MINIMUM field (RFC 2308 §3).
func (z *Zone) Negative() *RRset { return z.negative }

// Len counts the names, empty non-terminals included.
func (z *Zone) Len() int { return z.nodes.count + z.bare }

// Unnamed lists the owners whose certificates the DNS cannot show, because no
// domain name can be formed from the address (AS 5.1) or because it would be a
// wildcard.
func (z *Zone) Unnamed() []direct.Owner { return z.unnamed }

// Expired tells that the zone must not be answered from: its primary has not
// been heard of for too long (RFC 1035 §4.3.5).
func (z *Zone) Expired() bool { return z.expired }

// Set is one generation of all our zones. It is immutable.
type Set struct {
	rev     int64
	options Options
	memory  *Signatures // nil until a zone is signed; the next generation has it too
	zones   map[Name]*Zone
	deepest int // labels of the longest apex
}

// Rev is the store's revision that the set was built from.
func (s *Set) Rev() int64 { return s.rev }

// Len counts the zones.
func (s *Set) Len() int { return len(s.zones) }

// Zone is the zone of a domain, nil if it is not ours.
func (s *Set) Zone(d direct.Domain) *Zone {
	apex, err := ParseName(d.DNSName())
	if err != nil {
		return nil
	}
	return s.zones[apex]
}

// Find is the zone that answers for a name (RFC 1034 §4.3.2 step 2): the
// nearest apex at or above it, nil if it is not ours. The name is in wire form,
// in lower case.
func (s *Set) Find(qname []byte) *Zone {
	if s == nil {
		return nil
	}
	labels := 0
	for at := 0; at < len(qname) && qname[at] != 0; at += 1 + int(qname[at]) {
		labels++
	}
	for at := 0; at < len(qname); at += 1 + int(qname[at]) {
		if labels <= s.deepest {
			if z := s.zones[Name(qname[at:])]; z != nil {
				return z
			}
		}
		if qname[at] == 0 {
			break
		}
		labels--
	}
	return nil
}

// Expire is the set in which exactly these zones have expired. It is to be called
// again on what Update makes.
func (s *Set) Expire(expired map[direct.Domain]bool) *Set {
	next := s
	for apex, z := range s.zones {
		if z.expired == expired[z.domain] {
			continue
		}
		if next == s {
			copied := *s
			copied.zones = maps.Clone(s.zones)
			next = &copied
		}
		changed := *z
		changed.expired = expired[z.domain]
		next.zones[apex] = &changed
	}
	return next
}

// FindParentSide is the zone that holds the upper side of a cut at the name,
// nil if it is not ours. Only DS records live there (RFC 4035 §3.1.4.1).
func (s *Set) FindParentSide(qname []byte) *Zone {
	if len(qname) <= 1 {
		return nil
	}
	return s.Find(qname[1+int(qname[0]):])
}

// All yields every RRset of the zone with the name that owns it: the SOA first,
// as a transfer wants it (RFC 5936 §2.2), then those of the apex, then the other
// names in no order, all of one name one after the other. What lies below a cut
// of ours, glue, is among them; what another of our zones answers for is not.
// An RRset is good until yield returns.
func (z *Zone) All(yield func(owner Name, set *RRset) bool) {
	soa := z.apex.RRset(dns.TypeSOA)
	if !yield(z.apex.name, soa) {
		return
	}
	for _, s := range z.apex.sets {
		if s != soa && !yield(z.apex.name, s) {
			return
		}
	}
	for n := range z.nodes.all {
		if n == z.apex {
			continue
		}
		for _, s := range n.sets {
			if !yield(n.name, s) {
				return
			}
		}
	}
	z.allCerts(yield)
}

// allCerts is All for the names without a node.
func (z *Zone) allCerts(yield func(owner Name, set *RRset) bool) {
	var set RRset
	for h := range z.from.data.Certificates.Holdings {
		if !h.AnyDNS() {
			continue
		}
		name, ok := z.nameOf(h)
		if !ok || z.nodes.get(name) != nil || z.isBelow(name) {
			continue
		}
		set.setCerts(h, z.certTTL)
		if !yield(name, &set) {
			return
		}
	}
}

// nameOf is where the certificates of an owner of the zone's own domain stand.
func (z *Zone) nameOf(h store.Holding) (Name, bool) {
	if !h.Plain() || !z.plain() {
		return certName(h.Owner())
	}
	text := h.OwnerText()
	label := text[:bytes.IndexByte(text, '@')]
	name := append(make([]byte, 0, 1+len(label)+len(z.apex.name)), byte(len(label)))
	return Name(append(AppendLower(name, label), z.apex.name...)), true
}

// plain tells whether one label more than the apex is always a name.
func (z *Zone) plain() bool { return len(z.apex.name)+1+maxLabel <= maxName }
