package zones

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"

	"github.com/miekg/dns"

	"directnode/internal/direct"
	"directnode/store"
)

// The SMIMEA records of a signed zone (RFC 8162) are made of its certificates
// when they are asked for. Their names are hashes of local parts, which lead
// back to nobody: an index finds the owner. It takes 16 octets for each owner,
// and a signed zone alone has one: without signatures a record must not be used
// (RFC 8162 §1).

const (
	// smimeaLabel is below the domain, and the hashes below it (RFC 8162 §3).
	smimeaLabel = "\x0a_smimecert"

	// smimeaHash is how much of the SHA-256 makes the name (RFC 8162 §3), twice
	// as many digits.
	smimeaHash = 28

	// smimeaShards cut the index, so that a change copies little: at a million
	// owners 4 KB and the list.
	smimeaShards = 1 << 12
)

// smimea finds owners by the hash of their local part. It never changes.
type smimea struct{ shards [][]smimeaEntry }

type smimeaEntry struct {
	hash  uint64 // the first octets of it; the owner's own is compared whole
	place uint32 // of the owner's certificates
}

func smimeaShard(hash uint64) int { return int(hash >> (64 - 12)) }

// localHash is the hash of a local part. Quotes are not part of it (RFC 8162 §3).
func localHash(local string) [sha256.Size]byte { return sha256.Sum256([]byte(local)) }

// localHashes are the hashes under which an owner is found: of the local part in
// lower case, in which Direct addresses are compared (AS 5.1), and as written, as
// RFC 8162 §4 has it.
func localHashes(o direct.Owner) (hashes [][sha256.Size]byte) {
	local := o.Address().Local()
	lower := string(AppendLower(nil, []byte(local)))
	hashes = append(hashes, localHash(lower))
	if lower != local {
		hashes = append(hashes, localHash(local))
	}
	return hashes
}

// newSMIMEA makes the index of all owners with a published certificate.
func newSMIMEA(certs store.Certificates) *smimea {
	x := &smimea{make([][]smimeaEntry, smimeaShards)}
	for h := range certs.Holdings {
		if h.AnyDNS() {
			x.put(h, false)
		}
	}
	for _, s := range x.shards {
		slices.SortFunc(s, smimeaEntry.compare)
	}
	return x
}

func (e smimeaEntry) compare(f smimeaEntry) int {
	return cmp.Or(cmp.Compare(e.hash, f.hash), cmp.Compare(e.place, f.place))
}

// put adds an owner: at the end of a shard that is to be sorted, or in the right
// place of a copy of it.
func (x *smimea) put(h store.Holding, sorted bool) {
	owner := h.Owner()
	if !owner.IsAddress() {
		return
	}
	for _, sum := range localHashes(owner) {
		e := smimeaEntry{binary.BigEndian.Uint64(sum[:]), h.Place()}
		shard := &x.shards[smimeaShard(e.hash)]
		if !sorted {
			*shard = append(*shard, e)
			continue
		}
		if i, found := slices.BinarySearchFunc(*shard, e, smimeaEntry.compare); !found {
			*shard = slices.Insert(slices.Clone(*shard), i, e)
		}
	}
}

// with is the index with more owners. Those that have no certificate any more
// stay: what they lead to is looked at anyway.
func (x *smimea) with(certs store.Certificates, owners []direct.Owner) *smimea {
	if x == nil {
		return nil
	}
	next := &smimea{slices.Clone(x.shards)}
	for _, o := range owners {
		if h := certs.Of([]byte(o.Key())); h.Len() > 0 {
			next.put(h, true)
		}
	}
	return next
}

// find is the holding of the owner whose local part has the hash.
func (x *smimea) find(certs store.Certificates, hash []byte) (found store.Holding) {
	first := binary.BigEndian.Uint64(hash)
	shard := x.shards[smimeaShard(first)]
	i, _ := slices.BinarySearchFunc(shard, smimeaEntry{hash: first}, smimeaEntry.compare)
	for ; i < len(shard) && shard[i].hash == first; i++ {
		certs.AtPlace(shard[i].place, func(h store.Holding) bool {
			if h.AnyDNS() && slices.ContainsFunc(localHashes(h.Owner()), func(sum [sha256.Size]byte) bool { return bytes.Equal(sum[:smimeaHash], hash) }) {
				found = h
			}
			return found.Len() == 0
		})
	}
	return found
}

// empty tells whether the domain has no owner in it.
func (x *smimea) empty() bool {
	return !slices.ContainsFunc(x.shards, func(s []smimeaEntry) bool { return len(s) > 0 })
}

// answerSMIMEA answers for names at and below the label of RFC 8162, unless the
// zone's own records do.
func (z *Zone) answerSMIMEA(a *Answer, qname []byte, qtype uint16) bool {
	top := len(qname) - len(z.apex.name) - len(smimeaLabel)
	if top < 0 || string(qname[top:top+len(smimeaLabel)]) != smimeaLabel || z.smimea.empty() || !atLabel(qname, top) {
		return false
	}
	hashed := -1 // where the label right above begins
	for at := 0; at < top; at += 1 + int(qname[at]) {
		if z.nodes.find(qname[at:]) != nil {
			return false
		}
		hashed = at
	}
	own := z.nodes.find(qname[top:]) // nil: an empty non-terminal
	if own != nil && (hashed < 0 || own.cut != nil || own.renamed != nil) {
		return false // RFC 1034 §4.3.2 step 3b, RFC 6672 §3.2: what is below is somebody else's
	}
	*a = Answer{Kind: NoData, Node: own, at: top}
	if hashed < 0 {
		return true
	}
	a.Kind = NXDomain
	var set *RRset
	if set = z.smimeaSet(qname[hashed+1 : hashed+1+int(qname[hashed])]); set == nil {
		return own == nil || own.wildcard == nil // RFC 4592 §3.3.1: at names that are not there
	}
	a.Node, a.at, a.own = nil, hashed, *set
	switch {
	case hashed > 0:
	case qtype == dns.TypeSMIMEA || qtype == dns.TypeANY:
		a.Kind, a.RRset = Hit, &a.own
	default:
		a.Kind = NoData
	}
	return true
}

// atLabel tells whether a label of the name begins at that offset.
func atLabel(name []byte, offset int) bool {
	at := 0
	for at < offset {
		at += 1 + int(name[at])
	}
	return at == offset
}

// smimeaSet makes the SMIMEA RRset that stands at a hash in digits: the whole
// certificate, for the end entity itself (RFC 8162 §2: usage 3, selector 0,
// matching type 0). Nil if nobody has the hash.
func (z *Zone) smimeaSet(label []byte) *RRset {
	var hash [smimeaHash]byte
	if len(label) != hex.EncodedLen(smimeaHash) {
		return nil
	}
	if _, err := hex.Decode(hash[:], label); err != nil {
		return nil
	}
	h := z.smimea.find(z.from.data.Certificates, hash[:])
	var data []rdata
	for i := range h.Len() {
		if h.InDNS(i) {
			data = append(data, rdata{head: [5]byte{3, 0, 0}, used: 3, body: h.DER(i)})
		}
	}
	if len(data) == 0 {
		return nil
	}
	slices.SortFunc(data, rdata.compare)
	return newRRset(dns.TypeSMIMEA, z.certTTL, data)
}
