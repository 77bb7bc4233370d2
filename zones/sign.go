package zones

import (
	"cmp"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"directnode/internal/direct"
	"directnode/internal/keytag"
	"directnode/store"
)

// The time for which signatures are good (RFC 4034 §3.1.5). Each name has a grid
// of its own, so that not all of a zone is signed anew at once; within a step of
// it equal data have equal signatures, whoever makes them and how often.
const (
	// signBack is how far back inception lies: a clock may be wrong by as much.
	signBack = 3 * time.Hour

	// signStep is how long a signature is handed out, signValid how long it is
	// good from then on. What is handed out is good for at least ten days more:
	// longer than any cache keeps data.
	signStep  = 4 * 24 * time.Hour
	signValid = 14 * 24 * time.Hour
)

// Flags of DNSKEY records (RFC 4034 §2.1.1, RFC 3757 §2).
const (
	flagZone = 1 << 8
	flagSEP  = 1
)

// dnskeyProtocol is all that the field may hold (RFC 4034 §2.1.2).
const dnskeyProtocol = 3

// rrsigFixed is RDATA of an RRSIG before the signer's name (RFC 4034 §3.1).
const rrsigFixed = 2 + 1 + 1 + 4 + 4 + 4 + 2

// Signer signs the answers of one zone. It never changes and may be used
// concurrently.
type Signer struct {
	apex   Name
	nsec3  bool
	keys   []zoneKey // those that sign the DNSKEY, CDS and CDNSKEY RRsets
	data   []zoneKey // the one that signs everything else
	memory *Signatures

	opened map[string]crypto.Signer // by DNSKey.ID; for the next generation
}

// zoneKey is a key that signs.
type zoneKey struct {
	tag       uint16
	algorithm uint8
	id        uint64 // tells it from every other key
	private   crypto.Signer
}

// Compact tells whether absences are denied as RFC 9824 has it.
func (s *Signer) Compact() bool { return !s.nsec3 }

// newSigner opens the keys of a domain, except those that the generation before
// has open.
func newSigner(apex Name, d direct.Domain, is *store.Signing, seal *store.Sealer, before *Signer, memory *Signatures) (*Signer, error) {
	s := &Signer{apex: apex, nsec3: is.Denial == store.DenialNSEC3, memory: memory, opened: make(map[string]crypto.Signer, len(is.Keys))}
	for _, k := range is.Keys {
		private := before.open(k.ID)
		if private == nil {
			var err error
			if private, err = seal.OpenDNSKey(d, k); err != nil {
				return nil, err
			}
		}
		s.opened[k.ID] = private
		rdata := dnskeyRData(is.Algorithm, k)
		sum := sha256.Sum256(rdata)
		key := zoneKey{keytag.Sum(rdata), is.Algorithm, binary.BigEndian.Uint64(sum[:]), private}
		if k.Role.SecureEntry() {
			s.keys = append(s.keys, key)
		}
		if k.Signs {
			s.data = append(s.data, key)
		}
	}
	return s, nil
}

func (s *Signer) open(id string) crypto.Signer {
	if s == nil {
		return nil
	}
	return s.opened[id]
}

// dnskeyRData is the RDATA of the key's DNSKEY record.
func dnskeyRData(algorithm uint8, k store.DNSKey) []byte {
	flags := uint16(flagZone)
	if k.Role.SecureEntry() {
		flags |= flagSEP
	}
	rdata := binary.BigEndian.AppendUint16(nil, flags)
	return append(append(rdata, dnskeyProtocol, algorithm), k.Public...)
}

// keysFor are the keys that sign RRsets of a type. RFC 7344 §4.1: CDS and
// CDNSKEY are signed with keys that the DS names, as the DNSKEY RRset is.
func (s *Signer) keysFor(rrtype uint16) []zoneKey {
	switch rrtype {
	case dns.TypeDNSKEY, dns.TypeCDS, dns.TypeCDNSKEY:
		return s.keys
	}
	return s.data
}

// Count is how many RRSIG records an RRset of that type has.
func (s *Signer) Count(rrtype uint16) int { return len(s.keysFor(rrtype)) }

// Len is the size of these records in a message where the owner takes that many
// octets.
func (s *Signer) Len(rrtype uint16, owner int) int {
	return s.Count(rrtype) * (owner + recordFixed - 2 + rrsigFixed + len(s.apex) + signatureSize)
}

// Purpose tells whether a signature proves what is there or what is not.
type Purpose uint8

// The purposes.
const (
	Data   Purpose = iota // of names that exist: there are as many as names
	Denial                // of whatever is asked for
)

// Append appends the RRSIG records of an RRset that stands in the message below
// owner and in the zone at name, lower case. False means that a signature is not
// in memory; then nothing is appended and Sign makes them.
func (s *Signer) Append(msg, owner, name []byte, set *RRset, p Purpose, at time.Time) ([]byte, bool) {
	start := len(msg)
	cache, window, begins := s.place(name, p, at)
	keys := s.keysFor(set.Type)
	for i := range keys {
		var ok bool
		msg = s.appendRecord(msg, owner, name, set, &keys[i], begins)
		if msg, ok = cache.get(msg, s.memory.id(keys[i].id, name, set, window)); !ok {
			return msg[:start], false
		}
	}
	return msg, true
}

// Sign makes the signatures of an RRset, so that Append finds them. The error
// is the key's.
func (s *Signer) Sign(name []byte, set *RRset, p Purpose, at time.Time) error {
	cache, window, begins := s.place(name, p, at)
	keys := s.keysFor(set.Type)
	for i := range keys {
		key := &keys[i]
		id := s.memory.id(key.id, name, set, window)
		if _, known := cache.get(nil, id); known {
			continue
		}
		made, err := key.sign(appendSigned(s.appendRData(nil, name, set, key, begins), name, set))
		if err != nil {
			return fmt.Errorf("sign %s %s: %w", Name(name), typeString(set.Type), err)
		}
		cache.put(id, &made)
	}
	return nil
}

// place finds the cache, and the step of the name's grid with its beginning.
func (s *Signer) place(name []byte, p Purpose, at time.Time) (cache *sigCache, window uint32, begins int64) {
	const step = int64(signStep / time.Second)
	shift := int64(jitter(name) % uint64(step))
	n := (at.Unix() + shift) / step
	cache = &s.memory.data
	if p == Denial {
		cache = &s.memory.denied
	}
	return cache, uint32(n), n*step - shift
}

// jitter is FNV-1a of a name: where its grid begins, on every machine alike.
func jitter(name []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range name {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h ^ h>>32
}

// appendRecord appends an RRSIG record up to the signature. Its TTL is that of
// what it covers (RFC 4034 §3).
func (s *Signer) appendRecord(msg, owner, name []byte, set *RRset, key *zoneKey, begins int64) []byte {
	msg = append(msg, owner...)
	msg = binary.BigEndian.AppendUint16(msg, dns.TypeRRSIG)
	msg = binary.BigEndian.AppendUint16(msg, dns.ClassINET)
	msg = binary.BigEndian.AppendUint32(msg, set.TTL)
	msg = binary.BigEndian.AppendUint16(msg, uint16(rrsigFixed+len(s.apex)+signatureSize))
	return s.appendRData(msg, name, set, key, begins)
}

// appendRData appends RRSIG RDATA without the signature (RFC 4034 §3.1).
func (s *Signer) appendRData(dst, name []byte, set *RRset, key *zoneKey, begins int64) []byte {
	dst = binary.BigEndian.AppendUint16(dst, set.Type)
	dst = append(dst, key.algorithm, labelsFor(name))
	dst = binary.BigEndian.AppendUint32(dst, set.TTL)
	// RFC 4034 §3.1.5: seconds modulo 2^32.
	dst = binary.BigEndian.AppendUint32(dst, uint32(begins+int64(signValid/time.Second)))
	dst = binary.BigEndian.AppendUint32(dst, uint32(begins-int64(signBack/time.Second)))
	dst = binary.BigEndian.AppendUint16(dst, key.tag)
	return append(dst, s.apex...)
}

// labelsFor counts labels for an RRSIG: neither the root nor the asterisk of a
// wildcard count (RFC 4034 §3.1.3).
func labelsFor(name []byte) (n byte) {
	for at := 0; at < len(name) && name[at] != 0; at += 1 + int(name[at]) {
		n++
	}
	if len(name) > 1 && name[0] == 1 && name[1] == '*' {
		n--
	}
	return n
}

// sign signs octets. Equal octets have equal signatures: both algorithms are
// used in their deterministic form (RFC 6979, RFC 8032).
func (k *zoneKey) sign(data []byte) (sig [signatureSize]byte, err error) {
	if k.algorithm == store.AlgorithmEd25519 {
		out, err := k.private.Sign(nil, data, crypto.Hash(0))
		if err != nil || len(out) != ed25519.SignatureSize {
			return sig, fmt.Errorf("Ed25519: %d octets: %w", len(out), err)
		}
		return [signatureSize]byte(out), nil
	}
	sum := sha256.Sum256(data)
	out, err := k.private.Sign(nil, sum[:], crypto.SHA256)
	if err != nil {
		return sig, err
	}
	err = ecdsaFields(&sig, out)
	return sig, err
}

// ecdsaFields takes r and s out of their DER (RFC 3279 §2.2.3) and puts them
// side by side as RFC 6605 §4 has them.
func ecdsaFields(sig *[signatureSize]byte, der []byte) error {
	rest := der
	if len(rest) < 2 || rest[0] != 0x30 || int(rest[1]) != len(rest)-2 {
		return fmt.Errorf("an ECDSA signature of %d octets", len(der))
	}
	rest = rest[2:]
	const half = signatureSize / 2
	for end := half; end <= signatureSize; end += half {
		if len(rest) < 2 || rest[0] != 0x02 || int(rest[1]) > len(rest)-2 {
			return fmt.Errorf("an ECDSA signature of %d octets", len(der))
		}
		n := rest[2 : 2+int(rest[1])]
		rest = rest[2+len(n):]
		for len(n) > half && n[0] == 0 {
			n = n[1:]
		}
		if len(n) > half {
			return fmt.Errorf("an ECDSA number of %d octets", len(n))
		}
		copy(sig[end-len(n):], n)
	}
	return nil
}

// hash is of the records' content.
func (r *RRset) hash(seed maphash.Seed) uint64 {
	if r.size == 0 {
		return maphash.Bytes(seed, r.wire)
	}
	// A certificate is what its fingerprint says, which is thirty times shorter.
	var buf [maxCerts * sha256.Size]byte
	sums := buf[:0]
	for i := range r.certs.Len() {
		if r.certs.InDNS(i) {
			sums = append(sums, r.certs.SHA256(i)...)
		}
	}
	return maphash.Bytes(seed, sums)
}

// signingSets are the RRsets that signing adds to the apex: the keys, what the
// parent is asked to publish (RFC 7344, RFC 8078), and the parameters of NSEC3.
func signingSets(apex Name, is *store.Signing) []*RRset {
	var dnskey, cds, cdnskey []rdata
	for _, k := range is.Keys {
		dnskey = append(dnskey, rdata{body: dnskeyRData(is.Algorithm, k)})
	}
	for _, k := range ForParent(is) {
		rd := dnskeyRData(is.Algorithm, k)
		cds = append(cds, rdata{body: dsRData(apex, rd)})
		cdnskey = append(cdnskey, rdata{body: rd})
	}
	if is.Leaving != store.Staying {
		// RFC 8078 §4: the algorithm 0 asks for no DS at all.
		cds = []rdata{{body: []byte{0, 0, 0, 0, 0}}}
		cdnskey = []rdata{{body: []byte{0, 0, dnskeyProtocol, 0, 0}}}
	}
	var sets []*RRset
	add := func(rrtype uint16, data []rdata) {
		if len(data) > 0 {
			slices.SortFunc(data, rdata.compare)
			sets = append(sets, newRRset(rrtype, dnskeyTTL, data))
		}
	}
	add(dns.TypeDNSKEY, dnskey)
	if is.Denial == store.DenialNSEC3 {
		// RFC 9276 §3.1: no iterations, no salt. RFC 5155 §4.1.2: no flag is set.
		add(dns.TypeNSEC3PARAM, []rdata{{body: []byte{dns.SHA1, 0, 0, 0, 0}}})
	}
	add(dns.TypeCDS, cds)
	add(dns.TypeCDNSKEY, cdnskey)
	return sets
}

// madeBySigner tells the types that a signed zone's apex gets from its keys.
func madeBySigner(rrtype uint16) bool {
	switch rrtype {
	case dns.TypeDNSKEY, dns.TypeCDS, dns.TypeCDNSKEY:
		return true
	}
	return false
}

// dsRData is the RDATA of the DS for a DNSKEY, with SHA-256 (RFC 4034 §5.1.4,
// RFC 4509 §2).
func dsRData(apex Name, dnskey []byte) []byte {
	sum := sha256.Sum256(append([]byte(apex), dnskey...))
	ds := binary.BigEndian.AppendUint16(nil, keytag.Sum(dnskey))
	return append(append(ds, dnskey[3], dns.SHA256), sum[:]...)
}

// DS is the lines to hand to whoever runs the zone above for the keys that the
// parent is to name now. It is empty for a domain without such.
func DS(d direct.Domain, is *store.Signing) (lines []string) {
	apex, err := ParseName(d.DNSName())
	if is == nil || err != nil || is.Leaving != store.Staying {
		return nil
	}
	for _, k := range ForParent(is) {
		ds := dsRData(apex, dnskeyRData(is.Algorithm, k))
		lines = append(lines, fmt.Sprintf("%s %d IN DS %d %d %d %s", d.DNSName(), dnskeyTTL,
			binary.BigEndian.Uint16(ds), ds[2], ds[3], strings.ToUpper(hex.EncodeToString(ds[4:]))))
	}
	return lines
}

// KeyTag is the tag of a key's DNSKEY record (RFC 4034 App. B).
func KeyTag(algorithm uint8, k store.DNSKey) uint16 { return keytag.Sum(dnskeyRData(algorithm, k)) }

// openKeys gives the zone its signer if the domain is signed.
func (b *builder) openKeys(apex Name, next *Set) error {
	data := b.zone.from.data
	if data.Signing == nil || next.options.unsigned {
		return nil
	}
	if names := data.Certificates.Len() + len(data.Records); next.memory == nil || !next.memory.holds(names) {
		next.memory = newSignatures(names)
	}
	var before *Signer
	if b.before != nil {
		before = b.before.signer
	}
	signer, err := newSigner(apex, data.Domain, data.Signing, next.options.Seal, before, next.memory)
	if err != nil {
		return b.refuse(apex, dns.TypeDNSKEY, "%v", err)
	}
	b.zone.signer = signer
	return nil
}

// addKeys adds the records of the keys to the apex. None may be there from
// elsewhere: a key that does not sign here would break the chain of trust.
func (b *builder) addKeys() error {
	if b.zone.signer == nil {
		return nil
	}
	apex := b.zone.apex
	for _, s := range apex.sets {
		if madeBySigner(s.Type) {
			return b.refuse(apex.name, s.Type, "among the records of a signed domain; remove it: these records are made of the domain's own keys")
		}
	}
	b.zone.smimea = newSMIMEA(b.zone.from.data.Certificates)
	apex.sets = append(apex.sets, signingSets(apex.name, b.zone.from.data.Signing)...)
	slices.SortFunc(apex.sets, func(x, y *RRset) int { return cmp.Compare(x.Type, y.Type) })
	return nil
}
