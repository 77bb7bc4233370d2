package zones

import (
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"slices"

	"github.com/miekg/dns"
)

// Proof is a record that proves an absence, made for one answer, and the name
// that it stands at. Purpose says how often it is asked for: the proof about a
// name that exists is one of as many as there are names.
type Proof struct {
	Name    []byte // in wire form and lower case
	Set     RRset
	Purpose Purpose
}

// Proofs appends what proves an answer that is, or contains, an absence, to a
// question for a name in lower case: why there is no data, no name, no DS at a
// cut, or no name nearer than the wildcard. An answer that needs no proof has
// none. No proof names anything but what was asked for and what lies above it.
func (z *Zone) Proofs(dst []Proof, qname []byte, a *Answer) []Proof {
	if z.signer == nil {
		return dst
	}
	if z.signer.nsec3 {
		return z.proofsHashed(dst, qname, a)
	}
	return z.proofsCompact(dst, qname, a)
}

// SignedAs is the name at which an RRset is signed that answers a question for
// name. With compact denial that is the name itself, even where a wildcard
// matched: the answer says that the name exists (RFC 9824 §3.3), and what it is
// made for is a name that anybody may think of. With NSEC3 it is the wildcard.
func (z *Zone) SignedAs(name []byte, a *Answer) ([]byte, Purpose) {
	switch {
	case !a.Wildcard:
		return name, Data
	case z.signer.nsec3:
		return []byte(a.Node.name), Data
	}
	return name, Denial
}

// proofsCompact: one record at the name that was asked for (RFC 9824 §3).
func (z *Zone) proofsCompact(dst []Proof, qname []byte, a *Answer) []Proof {
	switch a.Kind {
	case NXDomain:
		// RFC 9824 §3.1: the name exists and owns nothing but the news that it does not.
		return append(dst, z.nsec(qname, successor(qname), []uint16{dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNXNAME}, Denial))
	case NoData:
		p := Data
		if a.Wildcard {
			p = Denial
		}
		if a.Node != nil && a.Node.cut == a.Node && !a.Wildcard {
			return append(dst, z.noDS(a)) // a question for the DS of a cut
		}
		return append(dst, z.nsec(qname, successor(qname), a.types(dns.TypeRRSIG, dns.TypeNSEC), p))
	case Referral:
		if a.Node.RRset(dns.TypeDS) == nil {
			return append(dst, z.noDS(a))
		}
	}
	return dst
}

// noDS proves that a cut has no DS. The next name lies beside the cut, not below
// it, where the other servers answer (RFC 9824 §3.4).
func (z *Zone) noDS(a *Answer) Proof {
	cut := []byte(a.Node.name)
	return z.nsec(cut, sibling(cut), a.types(dns.TypeRRSIG, dns.TypeNSEC), Data)
}

// types lists the types at the name that matched, with others; below a cut only
// those that the upper side has (RFC 4034 §4.1.2).
func (a *Answer) types(others ...uint16) []uint16 {
	if a.Node == nil {
		if a.own.Type != 0 { // certificates, in one form; nothing for an empty non-terminal
			others = append(others, a.own.Type)
		}
		return others
	}
	for _, s := range a.Node.sets {
		if a.Node.cut == nil || s.Type == dns.TypeNS || s.Type == dns.TypeDS {
			others = append(others, s.Type)
		}
	}
	return others
}

func (z *Zone) nsec(owner, next []byte, types []uint16, p Purpose) Proof {
	set := RRset{Type: dns.TypeNSEC, TTL: z.negative.TTL, Count: 1} // RFC 9077 §3.1
	set.wire = recordHead(make([]byte, 0, recordFixed+len(next)+maxBitmap), &set)
	set.wire = endRecord(appendBitmap(append(set.wire, next...), types))
	return Proof{owner, set, p}
}

// recordHead begins a record whose length endRecord fills in.
func recordHead(dst []byte, set *RRset) []byte {
	dst = binary.BigEndian.AppendUint16(dst, ownerAtQuestion)
	dst = binary.BigEndian.AppendUint16(dst, set.Type)
	dst = binary.BigEndian.AppendUint16(dst, dns.ClassINET)
	dst = binary.BigEndian.AppendUint32(dst, set.TTL)
	return append(dst, 0, 0)
}

func endRecord(wire []byte) []byte {
	binary.BigEndian.PutUint16(wire[recordFixed-2:], uint16(len(wire)-recordFixed))
	return wire
}

// maxBitmap is a guess at the size of type bit maps: the first window whole and
// a further one with a type like CAA.
const maxBitmap = 2 + 32 + 2 + 1

// appendBitmap appends type bit maps (RFC 4034 §4.1.2).
func appendBitmap(dst []byte, types []uint16) []byte {
	slices.Sort(types)
	for len(types) > 0 {
		window := types[0] >> 8
		var bits [32]byte
		n := 0
		for len(types) > 0 && types[0]>>8 == window {
			low := types[0] & 0xFF
			bits[low>>3] |= 0x80 >> (low & 7)
			n = int(low>>3) + 1
			types = types[1:]
		}
		dst = append(dst, byte(window), byte(n))
		dst = append(dst, bits[:n]...)
	}
	return dst
}

// successor is the name right behind one in canonical order (RFC 4471 §3.1.2):
// a label of one zero octet before it. Where a name has no room for that, it is
// the next one beside it.
func successor(name []byte) []byte {
	if len(name)+2 <= maxName {
		return append([]byte{1, 0}, name...)
	}
	return sibling(name)
}

// maxLabel is the size of a label (RFC 1035 §2.3.4).
const maxLabel = 63

// sibling is the name that follows one and all that is below it: a zero octet
// at the end of its first label, where there is room; else the next label of
// the same length, in which no letter is upper case.
func sibling(name []byte) []byte {
	if len(name) < 2 {
		return name // of the root: there is none, and the order begins anew
	}
	label, rest := name[1:1+name[0]], name[1+name[0]:]
	if len(label) < maxLabel && len(name) < maxName {
		next := append([]byte{name[0] + 1}, label...)
		return append(append(next, 0), rest...)
	}
	next := slices.Clone(label)
	for len(next) > 0 && next[len(next)-1] == 0xFF {
		next = next[:len(next)-1]
	}
	if len(next) == 0 {
		return sibling(rest)
	}
	if next[len(next)-1]++; 'A' <= next[len(next)-1] && next[len(next)-1] <= 'Z' {
		next[len(next)-1] = 'Z' + 1
	}
	return append(append([]byte{byte(len(next))}, next...), rest...)
}

// proofsHashed: the proofs of RFC 5155 §7.2, each with records that match or
// cover one hash and no other (RFC 7129 App. B).
func (z *Zone) proofsHashed(dst []Proof, qname []byte, a *Answer) []Proof {
	switch a.Kind {
	case NXDomain: // §7.2.2: the closest encloser, the name below it, its wildcard
		encloser := []byte(a.Name(qname))
		return append(dst, z.match(encloser, a, Data), z.cover(nextCloser(qname, encloser), Denial), z.cover(wildcardOf(encloser), Data))
	case NoData:
		if !a.Wildcard {
			name := []byte(a.Name(qname))
			return append(dst, z.match(name, a, Data)) // §7.2.3, §7.2.4
		}
		// §7.2.5
		wildcard := []byte(a.Node.name)
		dst = append(dst, z.encloserOf(wildcard))
		return append(dst, z.cover(nextCloser(qname, wildcard[2:]), Denial), z.match(wildcard, a, Data))
	case Hit, CName:
		if a.Wildcard { // §7.2.6
			return append(dst, z.cover(nextCloser(qname, []byte(a.Node.name)[2:]), Denial))
		}
	case Referral: // §7.2.7
		if a.Node.RRset(dns.TypeDS) == nil {
			return append(dst, z.match([]byte(a.Node.name), a, Data))
		}
	}
	return dst
}

// nextCloser is the ancestor of a name, or itself, that has one label more than
// the encloser (RFC 5155 §1.3).
func nextCloser(name, encloser []byte) []byte {
	for at := 0; at < len(name) && name[at] != 0; {
		next := at + 1 + int(name[at])
		if len(name)-next <= len(encloser) {
			return name[at:]
		}
		at = next
	}
	return name
}

func wildcardOf(encloser []byte) []byte { return append([]byte{1, '*'}, encloser...) }

// encloserOf proves that the name above a wildcard exists.
func (z *Zone) encloserOf(wildcard []byte) Proof {
	var a Answer
	z.LookupInto(&a, wildcard[2:], dns.TypeNSEC3)
	return z.match(wildcard[2:], &a, Data)
}

// match is the NSEC3 record of a name that exists.
func (z *Zone) match(name []byte, a *Answer, p Purpose) Proof {
	types := a.types()
	if slices.ContainsFunc(types, func(t uint16) bool { return t != dns.TypeNS }) {
		types = append(types, dns.TypeRRSIG) // NS alone is a cut: unsigned (RFC 5155 §7.1)
	}
	hash := nsec3Hash(name)
	return z.nsec3(hash, add(hash, 1), types, p)
}

// cover is an NSEC3 record that covers the hash of a name that does not exist.
func (z *Zone) cover(name []byte, p Purpose) Proof {
	hash := nsec3Hash(name)
	return z.nsec3(add(hash, -1), add(hash, 1), nil, p)
}

type nsec3Value = [sha1.Size]byte

// nsec3Hash: no iterations and no salt (RFC 9276 §3.1).
func nsec3Hash(name []byte) nsec3Value { return sha1.Sum(name) }

// add adds 1 or -1 to a hash, modulo 2^160.
func add(h nsec3Value, step int) nsec3Value {
	for i := len(h) - 1; i >= 0; i-- {
		h[i] += byte(step)
		if step > 0 && h[i] != 0 || step < 0 && h[i] != 0xFF {
			break
		}
	}
	return h
}

// nsec3 is a record of RFC 5155 §3.2, at the hash as a label (§3).
func (z *Zone) nsec3(owner, next nsec3Value, types []uint16, p Purpose) Proof {
	set := RRset{Type: dns.TypeNSEC3, TTL: z.negative.TTL, Count: 1}
	set.wire = recordHead(make([]byte, 0, recordFixed+5+1+len(next)+maxBitmap), &set)
	set.wire = append(set.wire, dns.SHA1, 0, 0, 0, 0, byte(len(next)))
	set.wire = endRecord(appendBitmap(append(set.wire, next[:]...), types))
	var label [32]byte
	base32.HexEncoding.Encode(label[:], owner[:])
	name := append(make([]byte, 0, 1+len(label)+len(z.apex.name)), byte(len(label)))
	name = AppendLower(name, label[:])
	return Proof{append(name, z.apex.name...), set, p}
}
