package zones

import (
	"slices"

	"github.com/miekg/dns"
)

// Kind names the outcome of a lookup (RFC 1034 §4.3.2).
type Kind uint8

// The outcomes.
const (
	// Hit: the name owns an RRset of the type; for type ANY, some RRset.
	Hit Kind = iota + 1
	// CName: the name is an alias; Answer.RRset is the CNAME.
	CName
	// DName: the name lies below one that leads elsewhere with all that is
	// below it (RFC 6672 §2.1); Answer.RRset is the DNAME, Answer.Node its owner.
	DName
	// NoData: the name exists, with nothing of the type (RFC 2308 §2.2).
	NoData
	// NXDomain: neither the name nor anything below it exists (RFC 8020 §2).
	NXDomain
	// Referral: the name lies at or below a zone cut; Answer.RRset is the NS.
	Referral
)

var kindNames = [...]string{Hit: "Hit", CName: "CName", DName: "DName", NoData: "NoData", NXDomain: "NXDomain", Referral: "Referral"}

// String is the constant's name.
func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return "Kind(?)"
}

// Answer is the outcome of a lookup. It is not to be copied while its RRset is
// in use, which may lie in the Answer itself.
type Answer struct {
	Kind Kind
	// Node is the name that matched: the name itself, the wildcard it was made
	// from, the delegation point, the DNAME above; for NXDomain the closest
	// encloser. A name that owns nothing but certificates has no node: then it
	// is nil, and Name tells the name. For Referral and DName it is never nil.
	Node *Node
	// RRset is nil for NoData and NXDomain.
	RRset *RRset
	// Wildcard tells that the name does not exist and the records come from
	// "*" (RFC 4592 §3.3.2): their owner is the name asked for.
	Wildcard bool

	at  int   // without a node: where in the name asked for the one that matched begins
	own RRset // without a node: what RRset points to
}

// Name is the name that matched, for the name that was asked for. It allocates
// where there is no node.
func (a *Answer) Name(qname []byte) Name {
	if a.Node != nil {
		return a.Node.name
	}
	return Name(qname[a.at:])
}

// Lookup is LookupInto with an Answer of its own.
func (z *Zone) Lookup(qname []byte, qtype uint16) *Answer {
	a := new(Answer)
	z.LookupInto(a, qname, qtype)
	return a
}

// LookupInto finds what the zone has for a name and type. The name is in wire
// form, in lower case, and lies in the zone. It does not allocate.
func (z *Zone) LookupInto(a *Answer, qname []byte, qtype uint16) {
	if z.smimea != nil && z.answerSMIMEA(a, qname, qtype) {
		return
	}
	node, at := z.closest(qname, &a.own)
	if node == nil {
		z.answerCerts(a, at, qtype)
		return
	}
	*a = node.answer(at == 0, qtype)
}

// answerCerts answers for a name that owns certificates and nothing else, or
// for one below it: a.own holds them. Neither a cut nor a DNAME is above it, and
// nothing is below it, so that there is no wildcard either.
func (z *Zone) answerCerts(a *Answer, at int, qtype uint16) {
	a.Node, a.RRset, a.Wildcard, a.at = nil, nil, false, at
	switch {
	case at > 0:
		a.Kind = NXDomain
	case qtype == dns.TypeCERT || qtype == dns.TypeANY:
		a.Kind, a.RRset = Hit, &a.own
	default:
		a.Kind = NoData
	}
}

func (node *Node) answer(exact bool, qtype uint16) Answer {
	// RFC 1034 §4.3.2 step 3b: a cut on the way down is a referral. The DS of
	// a cut belongs to the upper side (RFC 4035 §3.1.4.1).
	if node.cut != nil && !(exact && node == node.cut && qtype == dns.TypeDS) {
		return Answer{Kind: Referral, Node: node.cut, RRset: node.cut.RRset(dns.TypeNS)}
	}
	// RFC 6672 §3.2 step 3C: before any wildcard, and not for the owner itself.
	if node.renamed != nil && !(exact && node == node.renamed) {
		return Answer{Kind: DName, Node: node.renamed, RRset: node.renamed.RRset(dns.TypeDNAME)}
	}
	wildcard := false
	if !exact {
		if node.wildcard == nil {
			return Answer{Kind: NXDomain, Node: node}
		}
		// RFC 4592 §3.3.1: only the asterisk right below the closest encloser.
		node, wildcard = node.wildcard, true
	}
	a := Answer{Kind: Hit, Node: node, Wildcard: wildcard}
	if qtype == dns.TypeANY {
		a.RRset = node.Smallest()
	} else {
		a.RRset = node.RRset(qtype)
	}
	if a.RRset == nil {
		if !besideAlias(qtype) {
			a.RRset = node.RRset(dns.TypeCNAME)
		}
		if a.RRset == nil {
			a.Kind = NoData
			return a
		}
	}
	if a.RRset.Type == dns.TypeCNAME {
		a.Kind = CName
	}
	return a
}

// besideAlias tells the types that an alias has of its own (RFC 4035 §2.5), so
// that a question for them is not one for its target.
func besideAlias(qtype uint16) bool { return qtype == dns.TypeRRSIG || qtype == dns.TypeNSEC }

// closest is the node of the name, or of the closest encloser (RFC 4592 §3.3.1),
// and where in qname that begins. Where the encloser has no node, it is nil, and
// certs what the name owns.
func (z *Zone) closest(qname []byte, certs *RRset) (node *Node, at int) {
	apex := len(qname) - len(z.apex.name)
	for at < apex {
		if n := z.nodes.find(qname[at:]); n != nil {
			return n, at
		}
		if z.certsAt(qname[at:], certs) {
			return nil, at
		}
		at += 1 + int(qname[at])
	}
	return z.apex, apex
}

// certsAt finds the certificates of the domain's own table that stand at a name
// without a node.
func (z *Zone) certsAt(name []byte, certs *RRset) bool {
	certs.setCerts(z.from.data.Certificates.At(name[:len(name)-len(z.apex.name)], z.domainText), z.certTTL)
	if certs.Count == 0 {
		return false
	}
	return len(z.from.below) == 0 || !z.isBelow(Name(name))
}

// isBelow tells the names that another of our zones answers for.
func (z *Zone) isBelow(name Name) bool { return slices.ContainsFunc(z.from.below, name.within) }
