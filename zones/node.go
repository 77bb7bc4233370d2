package zones

import (
	"encoding/binary"
	"slices"

	"github.com/miekg/dns"

	"directnode/store"
)

// Node is one name of a zone. Names that own nothing but have something below
// them are nodes as well (RFC 4592 §2.2.2: empty non-terminals exist). A name
// that owns certificates, nothing else and has nothing below it has none: it is
// found in the store's table of certificates.
type Node struct {
	name     Name
	children int      // names right below, those without a node among them
	cut      *Node    // the topmost delegation at or above this name, nil where we are authoritative
	renamed  *Node    // the DNAME at or above this name, nil without one
	wildcard *Node    // the child with the label "*" (RFC 4592 §2.1.1), nil without one
	sets     []*RRset // by type; empty for an empty non-terminal
	pinned   bool     // exists by itself: it owns records, or is the apex of another of our zones
}

// Name is the node's name.
func (n *Node) Name() Name { return n.name }

// RRset is the node's RRset of that type, nil without one.
func (n *Node) RRset(rrtype uint16) *RRset {
	for _, s := range n.sets {
		if s.Type == rrtype {
			return s
		}
	}
	return nil
}

// Smallest is the RRset that takes the fewest octets: the one that answers a
// question for ANY (RFC 8482 §4.1). Nil for an empty non-terminal.
func (n *Node) Smallest() *RRset {
	if len(n.sets) == 0 {
		return nil
	}
	return slices.MinFunc(n.sets, func(a, b *RRset) int { return a.octets() - b.octets() })
}

// RRset is all records of one name and type (RFC 2181 §5), kept as they stand
// in a message whose question is for that name.
type RRset struct {
	Type  uint16
	TTL   uint32
	Count int // records

	wire   []byte        // records one after the other, each owner a pointer to the question
	certs  store.Holding // instead of wire: records that are made of the store's certificates
	size   int           // of the records of certs, each owner taking as much as a pointer
	target Name          // of a CNAME or DNAME: where it leads
	hosts  []*Node       // nodes of this zone whose addresses a client will ask for next
}

// ownerAtQuestion is the compression pointer (RFC 1035 §4.1.4) to offset 12,
// where the name of the question begins.
const ownerAtQuestion = 0xC00C

// recordFixed is what precedes RDATA: pointer, type, class, TTL, length.
const recordFixed = 2 + 2 + 2 + 4 + 2

// newRRset packs sorted, distinct RDATA.
func newRRset(rrtype uint16, ttl uint32, rdata []rdata) *RRset {
	size := 0
	for _, d := range rdata {
		size += recordFixed + d.len()
	}
	wire := make([]byte, 0, size)
	for _, d := range rdata {
		wire = binary.BigEndian.AppendUint16(wire, ownerAtQuestion)
		wire = binary.BigEndian.AppendUint16(wire, rrtype)
		wire = binary.BigEndian.AppendUint16(wire, dns.ClassINET)
		wire = binary.BigEndian.AppendUint32(wire, ttl)
		wire = binary.BigEndian.AppendUint16(wire, uint16(d.len()))
		wire = d.append(wire)
	}
	return &RRset{Type: rrtype, TTL: ttl, Count: len(rdata), wire: wire}
}

// Target is where a CNAME or DNAME leads, in lower case. It is empty for other types.
func (r *RRset) Target() Name { return r.target }

// Hosts are the nodes of the zone that the records name as servers (NS, MX,
// SRV) and that have addresses: what belongs into the additional section.
func (r *RRset) Hosts() []*Node { return r.hosts }

// Len is the size of the records in a message where the owner takes that many
// octets.
func (r *RRset) Len(owner int) int { return r.octets() + r.Count*(owner-2) }

func (r *RRset) octets() int { return len(r.wire) + r.size }

// Append appends the records to a message, each under owner: a compression
// pointer, or labels that end in one or in the root.
func (r *RRset) Append(msg, owner []byte) []byte {
	if r.size > 0 {
		return r.appendCerts(msg, owner)
	}
	if len(owner) == 2 {
		start := len(msg)
		msg = append(msg, r.wire...)
		if binary.BigEndian.Uint16(owner) != ownerAtQuestion {
			for at := start; at < len(msg); at += recordFixed + r.rdlen(at-start) {
				copy(msg[at:], owner)
			}
		}
		return msg
	}
	for at := 0; at < len(r.wire); {
		next := at + recordFixed + r.rdlen(at)
		msg = append(msg, owner...)
		msg = append(msg, r.wire[at+2:next]...)
		at = next
	}
	return msg
}

// appendCerts is Append for certificates of the store.
func (r *RRset) appendCerts(msg, owner []byte) []byte {
	for i := range r.certs.Len() {
		if !r.certs.InDNS(i) {
			continue
		}
		rdata := r.certs.RData(i)
		msg = append(msg, owner...)
		msg = append(msg, byte(r.Type>>8), byte(r.Type), 0, dns.ClassINET,
			byte(r.TTL>>24), byte(r.TTL>>16), byte(r.TTL>>8), byte(r.TTL), byte(len(rdata)>>8), byte(len(rdata)))
		msg = append(msg, rdata...)
	}
	return msg
}

// setCerts makes r the CERT RRset of an owner's certificates, without copying
// any; Count is 0 if the DNS is to show none.
func (r *RRset) setCerts(h store.Holding, ttl uint32) {
	r.Type, r.TTL, r.certs, r.Count, r.size = dns.TypeCERT, ttl, h, 0, 0
	for i := range h.Len() {
		if h.InDNS(i) {
			r.Count++
			r.size += recordFixed + len(h.RData(i))
		}
	}
}

func (r *RRset) rdlen(at int) int {
	return int(binary.BigEndian.Uint16(r.wire[at+recordFixed-2:]))
}

// RData yields the RDATA of each record, which must not be written to.
func (r *RRset) RData(yield func([]byte) bool) {
	for i := range r.certs.Len() {
		if r.certs.InDNS(i) && !yield(r.certs.RData(i)) {
			return
		}
	}
	for at := 0; at < len(r.wire); {
		next := at + recordFixed + r.rdlen(at)
		if !yield(r.wire[at+recordFixed : next : next]) {
			return
		}
		at = next
	}
}

// Authoritative tells whether the zone's own servers answer for the name: it lies
// neither at nor below a cut.
func (n *Node) Authoritative() bool { return n.cut == nil }

// Within tells whether the node is top or lies below it.
func (n *Node) Within(top *Node) bool { return n.name.within(top.name) }
