package store

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"hash/maphash"
	"time"

	"directnode/internal/direct"
	"directnode/internal/keytag"
)

// record is a certificate or a sealed key as it lies in memory and on disk, so
// that a start copies it and works nothing out:
//
//	0   version (2)
//	1   flags
//	2   CRC-32C of everything else, big-endian as all numbers here
//	6   seconds since 1970
//	14  SHA-256 of the certificate
//	46  length of the owner
//	48  the owner as written
//	…   payload: the RDATA of the certificate's CERT record (RFC 4398 §2: type,
//	    key tag, algorithm, DER), or the sealed key
type record []byte

const (
	recordVersion = 2

	atFlags = 1
	atSum   = 2
	atAdded = 6
	atSHA   = 14
	atSize  = 46
	atOwner = 48
)

const (
	flagDNS   = 1 << 0
	flagLDAP  = 1 << 1
	flagBound = 1 << 2
	flagsAll  = flagDNS | flagLDAP | flagBound
)

// certHead is type, key tag and algorithm of a CERT record (RFC 4398 §2).
const certHead = 5

// certPKIX is the certificate type of an X.509 certificate (RFC 4398 §2.1).
const certPKIX = 1

func (r record) flags() byte     { return r[atFlags] }
func (r record) sha() []byte     { return r[atSHA:atSize] }
func (r record) shaText() string { return hex.EncodeToString(r.sha()) }
func (r record) owner() []byte   { return r[atOwner:r.ownerEnd()] }
func (r record) ownerEnd() int   { return atOwner + int(binary.BigEndian.Uint16(r[atSize:])) }
func (r record) payload() []byte { return r[r.ownerEnd():] }
func (r record) added() time.Time {
	return time.Unix(int64(binary.BigEndian.Uint64(r[atAdded:])), 0).UTC()
}

// der is the certificate of a record that holds one.
func (r record) der() []byte { return r[r.ownerEnd()+certHead:] }

func (r record) ident() ident { return ident{lowerText(r.owner()), r.shaText()} }

// parsedOwner was parsed before it was written.
func (r record) parsedOwner() direct.Owner {
	o, _ := direct.ParseOwner(string(r.owner()))
	return o
}

// appendHead appends all of a record but its payload.
func appendHead(dst []byte, flags byte, added time.Time, sha []byte, owner string) []byte {
	dst = append(dst, recordVersion, flags, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint64(dst, uint64(added.Unix()))
	dst = append(dst, sha...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(owner)))
	return append(dst, owner...)
}

// certRecord encodes a certificate with the key tag and algorithm of its key.
func certRecord(c Certificate, tag uint16, algorithm uint8) record {
	owner := c.Owner.String()
	r := make([]byte, 0, atOwner+len(owner)+certHead+len(c.DER))
	r = appendHead(r, certFlags(c), c.Added, shaOctets(c.SHA256), owner)
	r = binary.BigEndian.AppendUint16(r, certPKIX)
	r = binary.BigEndian.AppendUint16(r, tag)
	return record(append(append(r, algorithm), c.DER...)).summed()
}

// keyRecord encodes a sealed key.
func keyRecord(k Key) record {
	owner := k.Owner.String()
	r := make([]byte, 0, atOwner+len(owner)+len(k.Sealed))
	return record(append(appendHead(r, 0, time.Unix(0, 0), shaOctets(k.CertSHA256), owner), k.Sealed...)).summed()
}

// castagnoli is the CRC with hardware support. It never changes.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum is the check sum that the record should have.
func (r record) sum() uint32 {
	return crc32.Update(crc32.Checksum(r[:atSum], castagnoli), castagnoli, r[atAdded:])
}

// summed writes the check sum into a record that is being made.
func (r record) summed() record {
	binary.BigEndian.PutUint32(r[atSum:], r.sum())
	return r
}

// shaOctets of a fingerprint, which is 64 digits wherever one is made.
func shaOctets(text string) []byte {
	b := make([]byte, atSize-atSHA)
	_, _ = hex.Decode(b, []byte(text))
	return b
}

func certFlags(c Certificate) (flags byte) {
	if c.PublishDNS {
		flags |= flagDNS
	}
	if c.PublishLDAP {
		flags |= flagLDAP
	}
	if c.Bound {
		flags |= flagBound
	}
	return flags
}

// certificate is the record as the rest of the node sees it, with a DER of its
// own.
func (r record) certificate(keys *table) Certificate {
	flags, der := r.flags(), r.der()
	return Certificate{
		Owner: r.parsedOwner(), SHA256: r.shaText(), DER: bytes.Clone(der), Added: r.added(),
		PublishDNS: flags&flagDNS != 0, PublishLDAP: flags&flagLDAP != 0, Bound: flags&flagBound != 0,
		HasKey: keys.has(r),
	}
}

func (r record) key() Key {
	return Key{CertSHA256: r.shaText(), Owner: r.parsedOwner(), Sealed: bytes.Clone(r.payload())}
}

// checkRecord holds a value against the form of a record and against the key
// that it stands under.
func checkRecord(value []byte, d direct.Domain, id identBytes, payload int) error {
	r := record(value)
	if len(r) < atOwner || r[0] != recordVersion || r.flags()&^flagsAll != 0 || len(r) < r.ownerEnd()+payload {
		return fmt.Errorf("malformed value")
	}
	if r.sum() != binary.BigEndian.Uint32(r[atSum:]) {
		return fmt.Errorf("wrong check sum")
	}
	var sha [32]byte
	if n, err := hex.Decode(sha[:], id.sha); err != nil || n != len(sha) || string(sha[:]) != string(r.sha()) {
		return fmt.Errorf("the certificate is not the one that was stored")
	}
	owner := r.owner()
	if !sameFolded(owner, id.owner) || !ownerIn(owner, d) {
		return fmt.Errorf("owner %.300q does not belong here", owner)
	}
	return nil
}

// ownerIn tells whether an owner is well formed and of the domain. The common
// forms are told without parsing.
func ownerIn(owner []byte, d direct.Domain) bool {
	name := d.String()
	if string(owner) == name {
		return true
	}
	if local, ok := cutSuffix(owner, name); ok && len(local) > 1 && local[len(local)-1] == '@' && isAtom(local[:len(local)-1]) && len(owner) <= 254 {
		return true
	}
	o, err := direct.ParseOwner(string(owner))
	return err == nil && o.Domain() == d && o.String() == string(owner)
}

func cutSuffix(b []byte, suffix string) ([]byte, bool) {
	if len(b) < len(suffix) || string(b[len(b)-len(suffix):]) != suffix {
		return nil, false
	}
	return b[:len(b)-len(suffix)], true
}

// maxLocal is RFC 5321 §4.5.3.1.1.
const maxLocal = 64

// isAtom tells a local part of one atom (RFC 5322 §3.2.3).
func isAtom(b []byte) bool {
	for _, c := range b {
		if !atext[c] {
			return false
		}
	}
	return len(b) > 0 && len(b) <= maxLocal
}

// atext is RFC 5322 §3.2.3. It never changes.
var atext = func() (t [256]bool) {
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~") {
		t[c] = true
	}
	return t
}()

// isPlain tells an owner whose CERT records stand one ordinary label below the
// domain: nothing has to be worked out for such a one.
func isPlain(owner []byte) bool {
	n := 0
	for n < len(owner) && owner[n] != '@' {
		if !atext[owner[n]] {
			return false // a dot, or a quote
		}
		n++
	}
	return n > 0 && n < maxLocal && n < len(owner) && !(n == 1 && owner[0] == '*')
}

// hashSeed differs from process to process: who chooses addresses cannot crowd
// a shard. It never changes.
var hashSeed = maphash.MakeSeed()

// hashOf an owner's key.
func hashOf(key []byte) uint32 { return uint32(maphash.Bytes(hashSeed, key) >> 32) }

// hash of the record's owner.
func (r record) hash() uint32 {
	var buf [320]byte
	return hashOf(appendFolded(buf[:0], r.owner()))
}

func appendFolded(dst, text []byte) []byte {
	for _, c := range text {
		dst = append(dst, folded(c))
	}
	return dst
}

func folded(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

func lowerText(text []byte) string { return string(appendFolded(nil, text)) }

// sameFolded compares text with a key, which is in lower case.
func sameFolded(text, key []byte) bool {
	if len(text) != len(key) {
		return false
	}
	for i, c := range text {
		if folded(c) != key[i] {
			return false
		}
	}
	return true
}

// compareFolded orders texts as their keys.
func compareFolded(a, b []byte) int {
	for i := 0; i < len(a) && i < len(b); i++ {
		if x, y := folded(a[i]), folded(b[i]); x != y {
			return int(x) - int(y)
		}
	}
	return len(a) - len(b)
}

// newCertRecord is certRecord for a certificate of which nothing is known yet.
func newCertRecord(c Certificate) record {
	c.SHA256 = Fingerprint(c.DER)
	tag, algorithm := keytag.Of(c.DER)
	return certRecord(c, tag, algorithm)
}
