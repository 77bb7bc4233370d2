package dnsserver

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"time"

	"github.com/miekg/dns"

	"directnode/zones"
)

// Key is a secret that this server shares with others (RFC 8945 §2). It never
// changes.
type Key struct {
	name      zones.Name
	algorithm *algorithm
	secret    []byte
}

// NewKey makes a key. The algorithm is "hmac-sha256" or "hmac-sha512" (RFC 8945
// §6); all others are refused.
func NewKey(name, algorithm string, secret []byte) (*Key, error) {
	n, err := zones.ParseName(name)
	if err != nil {
		return nil, fmt.Errorf("TSIG key: %w", err)
	}
	a := algorithmOf([]byte(wireOf(algorithm)))
	if a == nil {
		return nil, fmt.Errorf("TSIG key %s: algorithm %.40q; there are hmac-sha256 and hmac-sha512", name, algorithm)
	}
	return &Key{n, a, secret}, nil
}

func wireOf(name string) zones.Name {
	n, err := zones.ParseName(name)
	if err != nil {
		return ""
	}
	return n
}

// algorithm is a hash that keys are used with.
type algorithm struct {
	name string // in wire form
	size int    // of a MAC
	hash func() hash.Hash
}

var (
	hmacSHA256 = algorithm{"\x0bhmac-sha256\x00", sha256.Size, sha256.New}
	hmacSHA512 = algorithm{"\x0bhmac-sha512\x00", sha512.Size, sha512.New}
)

// algorithmOf finds an algorithm by its name in wire form and lower case, nil
// if it is not one of ours.
func algorithmOf(name []byte) *algorithm {
	for _, a := range []*algorithm{&hmacSHA256, &hmacSHA512} {
		if string(name) == a.name {
			return a
		}
	}
	return nil
}

// tsigFudge is how many seconds two clocks may differ (RFC 8945 §10 recommends
// it).
const tsigFudge = 300

// tsigFixed is the numbers of a TSIG record: time, fudge, size of the MAC,
// original ID, error, size of the other data.
const tsigFixed = 6 + 2 + 2 + 2 + 2 + 2

// recordHead is what stands between the owner of a record and its RDATA.
const recordHead = 2 + 2 + 4 + 2

// tsig is a TSIG record (RFC 8945 §4.2). Its slices may point into the packet.
type tsig struct {
	at        int    // where the record begins in the packet; 0 = there is none
	owner     []byte // the key's name as it stands in the packet, with pointers into the question alone; else name
	name      []byte // of the key: in wire form, lower case
	algorithm []byte // the same
	time      uint64 // seconds since 1970
	fudge     uint16
	mac       []byte
	id        uint16 // of the message when it was signed
	code      uint16 // the error
	other     []byte
}

// parse reads the record that fills the packet from start to its end, at which
// recordHead octets are there behind its owner; data is where these begin. False
// means a format error.
func (t *tsig) parse(packet []byte, start, data int) bool {
	rr := packet[data:]
	// RFC 8945 §4.2: class ANY, TTL 0.
	if binary.BigEndian.Uint16(rr[2:]) != dns.ClassANY || binary.BigEndian.Uint32(rr[4:]) != 0 {
		return false
	}
	var ok bool
	if t.name, _, ok = expandName(packet, start); !ok {
		return false
	}
	t.owner = t.name
	if to := pointerIn(packet[start:data]); to < 0 || withinQuestion(packet, to) {
		t.owner = packet[start:data]
	}
	end, ok := plainName(packet, data+recordHead) // a name that is not compressed (RFC 3597 §4)
	if !ok || len(packet) < end+tsigFixed {
		return false
	}
	t.algorithm = zones.AppendLower(nil, packet[data+recordHead:end])
	rest := packet[end:]
	t.time = uint64(binary.BigEndian.Uint16(rest))<<32 | uint64(binary.BigEndian.Uint32(rest[2:]))
	t.fudge = binary.BigEndian.Uint16(rest[6:])
	size := int(binary.BigEndian.Uint16(rest[8:]))
	if len(rest) < tsigFixed+size {
		return false
	}
	t.mac = rest[10 : 10+size]
	rest = rest[10+size:]
	t.id, t.code = binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])
	t.other = rest[6:]
	if len(t.other) != int(binary.BigEndian.Uint16(rest[4:])) {
		return false
	}
	t.at = start
	return true
}

// pointerIn is where the pointer at the end of a name leads that skipName took,
// -1 for a name without one.
func pointerIn(name []byte) int {
	at := 0
	for name[at] > 0 && name[at] <= 63 {
		at += 1 + int(name[at])
	}
	if name[at] == 0 {
		return -1
	}
	return int(binary.BigEndian.Uint16(name[at:]) & 0x3FFF)
}

// withinQuestion tells whether an offset lies in the name of the question, which
// stands at the same place of the answer.
func withinQuestion(packet []byte, at int) bool {
	end, ok := plainName(packet, headerSize)
	return ok && binary.BigEndian.Uint16(packet[4:]) == 1 && headerSize <= at && at < end
}

// expandName reads a name that may be compressed, in lower case; end is where
// what follows it stands.
func expandName(b []byte, at int) (name []byte, end int, ok bool) {
	end, ok = skipName(b, at)
	for ok && at < len(b) {
		n := int(b[at])
		switch {
		case n >= 0xC0:
			// Pointers lead backward only, so that this ends.
			to := int(binary.BigEndian.Uint16(b[at:]) & 0x3FFF)
			if _, ok = skipName(b, to); !ok || to < headerSize { // no name stands in the header
				return nil, 0, false
			}
			at = to
			continue
		case n > 63 || len(name)+1+n > maxName || at+1+n > len(b):
			return nil, 0, false
		}
		name = zones.AppendLower(name, b[at:at+1+n])
		if n == 0 {
			return name, end, true
		}
		at += 1 + n
	}
	return nil, 0, false
}

// size is what a record of the key takes in a message.
func (k *Key) size() int {
	return len(k.name) + recordHead + len(k.algorithm.name) + tsigFixed + k.algorithm.size
}

// signatures is the state of a dialog whose messages sign each other: the MAC
// of one goes into that of the next (RFC 8945 §5.3). The zero value with a key
// begins one with a request.
type signatures struct {
	key   *Key
	prior []byte // the MAC before; nil for a request
	later bool   // not the first message of an answer (RFC 8945 §5.3.1)

	mac      hash.Hash
	unsigned int // messages without a record that wait in mac
}

// begin is a MAC over what came before.
func (s *signatures) begin() {
	s.mac, s.unsigned = hmac.New(s.key.algorithm.hash, s.key.secret), 0
	if s.prior != nil {
		var size [2]byte
		binary.BigEndian.PutUint16(size[:], uint16(len(s.prior)))
		s.mac.Write(size[:])
		s.mac.Write(s.prior)
	}
}

// add takes in a message as it was before its record was added.
func (s *signatures) add(msg []byte, id uint16, extra int) {
	var head [headerSize]byte
	copy(head[:], msg)
	binary.BigEndian.PutUint16(head[:], id)
	binary.BigEndian.PutUint16(head[10:], uint16(int(binary.BigEndian.Uint16(msg[10:]))-extra))
	s.mac.Write(head[:])
	s.mac.Write(msg[headerSize:])
}

// sum ends the MAC with the variables of the record (RFC 8945 §4.3.3), or with
// its timers alone.
func (s *signatures) sum(t *tsig) []byte {
	var b []byte
	if !s.later {
		b = append(b, s.key.name...)
		b = binary.BigEndian.AppendUint16(b, dns.ClassANY)
		b = binary.BigEndian.AppendUint32(b, 0)
		b = append(b, s.key.algorithm.name...)
	}
	b = append48(b, t.time)
	b = binary.BigEndian.AppendUint16(b, t.fudge)
	if !s.later {
		b = binary.BigEndian.AppendUint16(b, t.code)
		b = binary.BigEndian.AppendUint16(b, uint16(len(t.other)))
		b = append(b, t.other...)
	}
	s.mac.Write(b)
	return s.mac.Sum(nil)
}

func append48(b []byte, v uint64) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, uint16(v>>32)), uint32(v))
}

// sign adds the record to the message that begins at start of b.
func (s *signatures) sign(b []byte, start int, t tsig) []byte {
	msg := b[start:]
	t.id = binary.BigEndian.Uint16(msg)
	s.begin()
	s.add(msg, t.id, 0)
	t.mac = s.sum(&t)
	s.prior, s.later, s.mac = t.mac, true, nil
	t.name, t.algorithm = []byte(s.key.name), []byte(s.key.algorithm.name)
	return t.append(b, start)
}

// request signs a request, so that check can hold the answer against it.
func (s *signatures) request(msg []byte, at time.Time) []byte {
	msg = s.sign(msg, 0, tsig{time: unixTime(at), fudge: tsigFudge})
	s.later = false // the answer begins a chain of its own
	return msg
}

// append adds the record to the message that begins at start of b.
func (t *tsig) append(b []byte, start int) []byte {
	extra := b[start+10 : start+12]
	binary.BigEndian.PutUint16(extra, binary.BigEndian.Uint16(extra)+1)
	b = append(b, t.name...)
	b = binary.BigEndian.AppendUint16(b, dns.TypeTSIG)
	b = binary.BigEndian.AppendUint16(b, dns.ClassANY)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(t.algorithm)+tsigFixed+len(t.mac)+len(t.other)))
	b = append(b, t.algorithm...)
	b = append48(b, t.time)
	b = binary.BigEndian.AppendUint16(b, t.fudge)
	b = binary.BigEndian.AppendUint16(b, uint16(len(t.mac)))
	b = append(b, t.mac...)
	b = binary.BigEndian.AppendUint16(b, t.id)
	b = binary.BigEndian.AppendUint16(b, t.code)
	b = binary.BigEndian.AppendUint16(b, uint16(len(t.other)))
	return append(b, t.other...)
}

// unixTime is a time as TSIG has it.
func unixTime(at time.Time) uint64 { return uint64(max(at.Unix(), 0)) & (1<<48 - 1) }

// fresh tells whether a record was made within the fudge of at (RFC 8945
// §5.2.3).
func (t *tsig) fresh(at time.Time) bool {
	now := unixTime(at)
	return max(now, t.time)-min(now, t.time) <= uint64(t.fudge)
}

// The errors of a TSIG record (RFC 8945 §3).
const (
	tsigBadSig   = dns.RcodeBadSig
	tsigBadKey   = dns.RcodeBadKey
	tsigBadTime  = dns.RcodeBadTime
	tsigBadTrunc = dns.RcodeBadTrunc
)

// signature is what the TSIG record of a query is worth, and how the answer to
// it is signed.
type signature struct {
	signatures        // with a key: the answer is signed
	code       uint16 // the error that the answer names; 0 = the query is its key's
}

// verify weighs the record of a query in the order that RFC 8945 §5.2 gives. A
// rcode other than NOERROR is the answer to the query.
func (g *signature) verify(packet []byte, t *tsig, peers *Peers, at time.Time) (rcode int) {
	*g = signature{}
	key := peers.key(t.name)
	if key == nil || string(t.algorithm) != key.algorithm.name { // §5.2.1: an algorithm that is not known is the same
		g.code = tsigBadKey
		return dns.RcodeNotAuth
	}
	// §5.2.2.1: no longer than the hash, no shorter than half of it or ten octets.
	if len(t.mac) > key.algorithm.size || len(t.mac) < max(10, key.algorithm.size/2) {
		return dns.RcodeFormatError
	}
	s := signatures{key: key}
	s.begin()
	s.add(packet[:t.at], t.id, 1)
	whole := s.sum(t)
	if !hmac.Equal(whole[:len(t.mac)], t.mac) { // §5.2.2
		g.code = tsigBadSig
		return dns.RcodeNotAuth
	}
	g.signatures = signatures{key: key, prior: t.mac}
	switch {
	case !t.fresh(at): // §5.2.3
		g.code = tsigBadTime
	case len(t.mac) < key.algorithm.size: // §5.2.4: nobody needs to shorten them
		g.code = tsigBadTrunc
	default:
		return dns.RcodeSuccess
	}
	return dns.RcodeNotAuth
}

// size is the room that the answer's record takes.
func (g *signature) size(t *tsig) int {
	switch {
	case g.key != nil:
		return g.key.size() + 6 // the other data of BADTIME
	case g.code != 0:
		return len(t.owner) + recordHead + len(t.algorithm) + tsigFixed
	}
	return 0
}

// answer adds, once or again, the answer's record to the message that begins at start of b.
func (g *signature) answer(b []byte, start int, query *tsig, at time.Time) []byte {
	t := tsig{time: unixTime(at), fudge: tsigFudge, code: g.code}
	switch {
	case g.code == tsigBadTime:
		// RFC 8945 §5.2.3: the time is the client's, ours is the other data.
		t.time, t.other = query.time, append48(nil, unixTime(at))
	case g.code == tsigBadKey, g.code == tsigBadSig:
		// RFC 8945 §5.3.2: not signed, for nobody is known to share a secret. A name
		// that the query has in two octets takes no more here: who sent it may be anybody.
		t.name, t.algorithm, t.id = query.owner, query.algorithm, query.id
		return t.append(b, start)
	case g.key == nil:
		return b
	}
	dialog := g.signatures
	return dialog.sign(b, start, t)
}

// maxUnsigned is how many messages may come without a record between two that
// have one (RFC 8945 §5.3.1).
const maxUnsigned = 99

// check takes in one message of an answer to a request that s signed. An error
// means that it must not be believed, nor any that follows.
func (s *signatures) check(msg []byte, at time.Time) error {
	start, data, err := lastTSIG(msg)
	if err != nil {
		return err
	}
	if s.mac == nil {
		s.begin()
	}
	if start == 0 {
		s.add(msg, binary.BigEndian.Uint16(msg), 0)
		if s.unsigned++; !s.later || s.unsigned > maxUnsigned {
			return errUnsigned
		}
		return nil
	}
	var t tsig
	if !t.parse(msg, start, data) {
		return errors.New("its TSIG record is malformed")
	}
	if string(t.name) != string(s.key.name) || string(t.algorithm) != s.key.algorithm.name {
		return fmt.Errorf("it is signed with another key, %.100s", zones.Name(t.name))
	}
	if t.code != 0 && len(t.mac) == 0 {
		return fmt.Errorf("the other server says %s: %w", rcodeName(int(t.code)), errUnsigned)
	}
	s.add(msg[:start], t.id, 1)
	mac := s.sum(&t)
	switch {
	case !hmac.Equal(mac, t.mac):
		return errors.New("its TSIG signature is wrong")
	case t.code != 0:
		return fmt.Errorf("the other server says %s; compare the clocks", rcodeName(int(t.code)))
	case !t.fresh(at):
		return fmt.Errorf("it was signed at another time than now (%s); compare the clocks", time.Unix(int64(t.time), 0).UTC().Format(time.RFC3339))
	}
	s.prior, s.later, s.mac = mac, true, nil
	return nil
}

// whole tells whether all messages so far are vouched for.
func (s *signatures) whole() bool { return s.later && s.mac == nil }

var errUnsigned = errors.New("it is not signed")

// lastTSIG finds the TSIG record of a message: where it begins and where its
// owner ends, 0 without one. It is the last record or there is none.
func lastTSIG(msg []byte) (start, data int, err error) {
	if len(msg) < headerSize {
		return 0, 0, errShort
	}
	at := headerSize
	for range binary.BigEndian.Uint16(msg[4:]) {
		end, ok := skipName(msg, at)
		if !ok || len(msg) < end+4 {
			return 0, 0, errShort
		}
		at = end + 4
	}
	records := 0
	for i := range 3 {
		records += int(binary.BigEndian.Uint16(msg[6+2*i:]))
	}
	for i := range records {
		end, next, ok := skipRecord(msg, at)
		if !ok {
			return 0, 0, errShort
		}
		if binary.BigEndian.Uint16(msg[end:]) == dns.TypeTSIG {
			if i != records-1 || binary.BigEndian.Uint16(msg[10:]) == 0 {
				return 0, 0, errors.New("its TSIG record is not the last one")
			}
			start, data = at, end
		}
		at = next
	}
	if at != len(msg) {
		return 0, 0, errors.New("something follows its records")
	}
	return start, data, nil
}

var errShort = errors.New("it is cut short")

// skipRecord finds where the owner of a record ends and where the next begins.
func skipRecord(b []byte, at int) (data, next int, ok bool) {
	data, ok = skipName(b, at)
	if !ok || len(b) < data+recordHead {
		return 0, 0, false
	}
	next = data + recordHead + int(binary.BigEndian.Uint16(b[data+8:]))
	return data, next, next <= len(b)
}

// rcodeName is the word for a code, which is another server's.
func rcodeName(code int) string {
	if s, ok := dns.RcodeToString[code]; ok {
		return s
	}
	return fmt.Sprintf("RCODE%d", code)
}
