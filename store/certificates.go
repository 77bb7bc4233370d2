package store

import (
	"encoding/hex"
	"iter"
	"slices"

	"directnode/internal/direct"
)

// Certificates are the certificates of one domain. The zero value holds none.
// It never changes; reading it needs no lock.
type Certificates struct {
	certs *table
	keys  *table // the domain's keys, for Certificate.HasKey
}

// NewCertificates makes a table of certificates that are in no store: of a
// zone's text, or of a test. Of each it reads Owner, DER, the places where it
// is published, Bound and Added.
func NewCertificates(list ...Certificate) Certificates {
	b := newTableBuilder()
	for _, c := range list {
		b.add(newCertRecord(c), []byte(c.Owner.Key()))
	}
	return Certificates{certs: b.table(func(record) {})}
}

// Len counts them. One that belongs to two owners counts twice.
func (c Certificates) Len() int { return c.certs.len() }

// All yields all of them, those of one owner one after the other. The order of
// the owners means nothing; it is the same for as long as the process runs.
func (c Certificates) All(yield func(Certificate) bool) {
	for r := range c.certs.all {
		if !yield(c.certs.record(r).certificate(c.keys)) {
			return
		}
	}
}

// Sorted yields all of them by owner key, then SHA256: for those who read. It
// costs a sort, about two seconds for a million.
func (c Certificates) Sorted(yield func(Certificate) bool) {
	for r := range c.certs.sorted {
		if !yield(r.certificate(c.keys)) {
			return
		}
	}
}

// Owned lists the certificates of one owner, by SHA256.
func (c Certificates) Owned(o direct.Owner) []Certificate {
	var list []Certificate
	for _, r := range c.certs.owned([]byte(o.Key())) {
		list = append(list, c.certs.record(r).certificate(c.keys))
	}
	sortItems(list)
	return list
}

// Find lists the certificates with this fingerprint, one for each owner. It
// goes through the index: about a millisecond for each million.
func (c Certificates) Find(sha string) []Certificate {
	octets, err := hex.DecodeString(sha)
	if err != nil || len(octets) != atSize-atSHA {
		return nil
	}
	var found []Certificate
	for r := range bySHA(c.certs, octets) {
		found = append(found, r.certificate(c.keys))
	}
	sortItems(found)
	return found
}

func bySHA(t *table, sha []byte) func(func(record) bool) {
	return func(yield func(record) bool) { t.bySHA(sha, yield) }
}

// Holding is the certificates of one owner as they lie in the table: what is
// asked for at every query allocates nothing. They are in the canonical order
// of their CERT records (RFC 4034 §6.3). The zero value holds none.
type Holding struct {
	table *table
	refs  []ref
}

// Holdings yields the holding of every owner.
func (c Certificates) Holdings(yield func(Holding) bool) {
	for refs := range c.certs.owners {
		if !yield(Holding{c.certs, refs}) {
			return
		}
	}
}

// HoldingsFrom yields what Holdings does from a place on; see Holding.Place.
func (c Certificates) HoldingsFrom(place uint32) iter.Seq[Holding] {
	return func(yield func(Holding) bool) {
		for refs := range c.certs.ownersFrom(place) {
			if !yield(Holding{c.certs, refs}) {
				return
			}
		}
	}
}

// Of is the holding of an owner by the owner's key.
func (c Certificates) Of(key []byte) Holding { return Holding{c.certs, c.certs.owned(key)} }

// maxKeyText is longer than any Owner.Key: a local part whose every octet is
// escaped, its quotes, '@' and a domain.
const maxKeyText = 2*maxLocal + 2 + 1 + 253

// At is the holding whose CERT records stand at a name of the domain (AS 5.1):
// labels are those of the name above the domain, in wire form and lower case,
// without the domain's. It does not allocate.
func (c Certificates) At(labels []byte, domain string) Holding {
	if c.certs.len() == 0 {
		return Holding{}
	}
	var buf [maxKeyText]byte
	key, ok := appendLocal(buf[:0], labels)
	if !ok {
		return Holding{}
	}
	if len(key) > 0 {
		key = append(key, '@')
	}
	return c.Of(append(key, domain...))
}

// appendLocal writes the local part that the labels of a name stand for, as
// Owner.Key has it; ok is false if no address has them.
func appendLocal(dst, labels []byte) (local []byte, ok bool) {
	start, quoted := len(dst), false
	for at := 0; at < len(labels); {
		label := labels[at+1 : at+1+int(labels[at])]
		if at > 0 {
			dst = append(dst, '.')
		}
		if len(label) == 1 && label[0] == '*' {
			return dst, false // it would be a wildcard (RFC 4592 §2.1.1): such an owner has no name
		}
		for _, c := range label {
			if !atext[c] {
				quoted = true
				// A dot inside of a label is none that separates two of them.
				if c == '.' || c < ' ' || c > '~' {
					return dst, false
				}
			}
		}
		dst = append(dst, label...)
		at += 1 + len(label)
		if len(dst)-start > maxLocal {
			return dst, false
		}
	}
	if !quoted {
		return dst, true
	}
	var plain [maxLocal]byte
	text := plain[:copy(plain[:], dst[start:])]
	dst = append(dst[:start], '"')
	for _, c := range text {
		if c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return append(dst, '"'), true
}

// Len counts the certificates of the holding.
func (h Holding) Len() int { return len(h.refs) }

// InDNS tells whether the DNS is to show certificate i.
func (h Holding) InDNS(i int) bool { return h.refs[i].at&refDNS != 0 }

// InLDAP tells whether LDAP is to show certificate i.
func (h Holding) InLDAP(i int) bool { return h.refs[i].at&refLDAP != 0 }

// AnyDNS tells whether the DNS is to show any of them.
func (h Holding) AnyDNS() bool { return h.any(refDNS) }

// AnyLDAP tells whether LDAP is to show any of them.
func (h Holding) AnyLDAP() bool { return h.any(refLDAP) }

func (h Holding) any(flag uint64) bool {
	for i := range h.refs {
		if h.refs[i].at&flag != 0 {
			return true
		}
	}
	return false
}

// Plain tells that the owner's name is one ordinary label below the domain. It
// costs nothing; where it is false, ask the owner.
func (h Holding) Plain() bool { return h.refs[0].at&refPlain != 0 }

// MaxRData is no less than the length of the RDATA of certificate i, without a
// look at it.
func (h Holding) MaxRData(i int) int { return h.refs[i].size() }

// RData is the RDATA of the CERT record of certificate i (RFC 4398 §2). It is a
// part of the table: it must not be changed, nor kept for longer than a request
// takes.
func (h Holding) RData(i int) []byte { return h.table.record(h.refs[i]).payload() }

// SHA256 is the fingerprint of a certificate: where it is the same, RData is.
func (h Holding) SHA256(i int) []byte { return h.table.record(h.refs[i]).sha() }

// DER is the certificate i; see RData.
func (h Holding) DER(i int) []byte { return h.RData(i)[certHead:] }

// OwnerText is the owner as written; see RData.
func (h Holding) OwnerText() []byte { return h.table.record(h.refs[0]).owner() }

// Owner is whose holding it is. The holding must not be empty.
func (h Holding) Owner() direct.Owner { return h.table.record(h.refs[0]).parsedOwner() }

// Keys are the sealed private keys of one domain. The zero value holds none.
// It never changes; reading it needs no lock.
type Keys struct{ keys *table }

// Len counts them.
func (k Keys) Len() int { return k.keys.len() }

// Sorted yields all of them by owner key, then CertSHA256.
func (k Keys) Sorted(yield func(Key) bool) {
	for r := range k.keys.sorted {
		if !yield(r.key()) {
			return
		}
	}
}

// Owned lists the keys of one owner, by CertSHA256.
func (k Keys) Owned(o direct.Owner) []Key {
	var list []Key
	for _, r := range k.keys.owned([]byte(o.Key())) {
		list = append(list, k.keys.record(r).key())
	}
	sortItems(list)
	return list
}

// Place is a number that finds the holding again, in this domain's table and in
// those made from it; few owners share one.
func (h Holding) Place() uint32 { return h.refs[0].hash }

// AtPlace yields the holdings with that number.
func (c Certificates) AtPlace(place uint32, yield func(Holding) bool) {
	if c.certs.len() == 0 {
		return
	}
	s := c.certs.shards[c.certs.shard(place)]
	for s = s[c.certs.position(s, place):]; len(s) > 0 && s[0].hash == place; {
		n := c.certs.group(s)
		if !yield(Holding{c.certs, s[:n:n]}) {
			return
		}
		s = s[n:]
	}
}

// SortedHoldings is Holdings by owner key. It costs a sort.
func (c Certificates) SortedHoldings(yield func(Holding) bool) {
	var list []Holding
	for h := range c.Holdings {
		list = append(list, h)
	}
	slices.SortFunc(list, func(a, b Holding) int { return compareFolded(a.OwnerText(), b.OwnerText()) })
	for _, h := range list {
		if !yield(h) {
			return
		}
	}
}

// Same tells whether two holdings are one and the same, changed by nobody in
// between.
func (h Holding) Same(other Holding) bool {
	return len(h.refs) == len(other.refs) && len(h.refs) > 0 && sameRefs(h.table, h.refs, other.table, other.refs)
}

// Octets is about how much memory the certificates take.
func (c Certificates) Octets() (n int64) {
	if c.certs == nil {
		return 0
	}
	for _, chunk := range c.certs.chunks {
		if chunk != nil {
			n += int64(chunk.size)
		}
	}
	return n + 16*int64(c.certs.count)
}
