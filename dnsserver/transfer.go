package dnsserver

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/miekg/dns"

	"directnode/zones"
)

// Transfer is a zone on its way to another server: instead of one answer, any
// number of messages by TCP (RFC 5936, RFC 1995). It shows one generation,
// however long it takes.
type Transfer struct {
	zone     *zones.Zone
	diffs    []*zones.Diff // what is sent instead of the whole zone; nil = all of it
	upToDate bool          // the client has it: the SOA alone says so (RFC 1995 §2)

	header   [4]byte // ID and flags
	question []byte
	edns     edns
	udpSize  int
	key      *Key
	sig      signatures
}

// mayTransfer decides who gets a zone: the holder of a key that the zone's
// owner allowed. Everybody else gets not one name, for the names of a zone are
// the addresses of people.
func (s *solver) mayTransfer() (rcode int) {
	key := s.sig.key
	if key == nil || !s.t.TCP && s.q.qtype == dns.TypeAXFR { // RFC 5936 §4.2
		return dns.RcodeRefused
	}
	name := zones.AppendLower(s.names[0][:0], s.q.name)
	z := s.set.Find(name)
	if z == nil || len(z.Apex().Name()) != len(name) {
		return dns.RcodeNotAuth // RFC 5936 §2.2.1
	}
	if !s.t.Peers.access(z.Apex().Name()).mayHave(key, s.t.Peer) {
		s.refusal = "the zone's settings do not let this key have it from there"
		return dns.RcodeRefused
	}
	if s.q.qtype == dns.TypeIXFR && !s.q.held {
		return dns.RcodeFormatError // RFC 1995 §3
	}
	if z.Expired() {
		return dns.RcodeServerFailure
	}
	if s.refusal = whyNot(z); s.refusal != "" {
		return dns.RcodeRefused
	}
	s.zone = z
	if s.t.TCP {
		s.transfer = s.newTransfer(z)
	}
	return dns.RcodeSuccess
}

// whyNot says why a zone cannot be transferred to anybody. Signatures and proofs
// that something is not there are made here as they are asked for: the zone has
// none that another server could answer with.
func whyNot(z *zones.Zone) string {
	if z.Signer() != nil {
		return "the zone is signed as it is asked; a copy would have neither signatures nor proofs of absence. Let the secondary sign it, or have no secondary"
	}
	return ""
}

// newTransfer chooses between all of the zone and what has changed.
func (s *solver) newTransfer(z *zones.Zone) *Transfer {
	x := &Transfer{zone: z, question: bytes.Clone(s.q.question), edns: s.q.edns, udpSize: s.t.UDPSize, key: s.sig.key, sig: s.sig.signatures}
	// Nothing may point into the packet: its memory is used again while the
	// zone goes out.
	x.edns.cookie, x.sig.prior = cookieOption{}, bytes.Clone(x.sig.prior)
	copy(x.header[:], s.q.packet)
	binary.BigEndian.PutUint16(x.header[2:], flagQR|flagAA|s.q.flags&flagRD)
	if s.q.qtype != dns.TypeIXFR {
		return x
	}
	if serialAtLeast(s.q.serial, z.Serial()) {
		x.upToDate = true // RFC 1995 §2: the same or a newer version
		return x
	}
	x.diffs, _ = z.Changes(s.q.serial) // RFC 1995 §4: without a history, all of it
	return x
}

// serialAtLeast tells whether a is b or comes after it (RFC 1982 §3.2).
func serialAtLeast(a, b uint32) bool { return int32(a-b) >= 0 }

// current answers an IXFR by UDP with the SOA of now: the client sees whether
// it needs more, and comes back by TCP (RFC 1995 §2 allows it for whatever does
// not fit; a certificate does not).
func (s *solver) current() {
	apex := s.zone.Apex()
	soa := apex.RRset(dns.TypeSOA)
	if !add(&s.reply, apex.Name(), soa) {
		s.truncate()
		return
	}
	s.flags |= flagAA
	s.answers = soa.Count
}

// Kind is "IXFR" for changes, "AXFR" for all, "SOA" where there is nothing to
// send.
func (x *Transfer) Kind() string {
	switch {
	case x.upToDate:
		return "SOA"
	case x.diffs != nil:
		return "IXFR"
	}
	return "AXFR"
}

// maxTransferMessage is when a message of a transfer is full. Larger ones save
// nothing; a record that is larger has a message of its own.
const maxTransferMessage = 32 << 10

// Messages yields the messages one after the other, not signed yet. Each is
// good until the next.
func (x *Transfer) Messages(yield func(msg []byte) bool) {
	w := &transferWriter{x: x, yield: yield}
	apex := x.zone.Apex()
	soa := func() bool { return w.set(apex.Name(), apex.RRset(dns.TypeSOA)) }
	if soa() && !x.upToDate && x.body(w) {
		soa()
	}
	if !w.over {
		w.flush()
	}
}

// body is what stands between the first and the last SOA.
func (x *Transfer) body(w *transferWriter) bool {
	if x.diffs == nil {
		apex := x.zone.Apex().Name()
		for owner, set := range x.zone.All {
			if set.Type == dns.TypeSOA && owner == apex {
				continue // RFC 5936 §2.2: first and last, and nowhere else
			}
			if !w.set(owner, set) {
				return false
			}
		}
		return true
	}
	for _, d := range x.diffs { // RFC 1995 §4
		for owner, record := range d.Records {
			if !w.add(owner, record) {
				return false
			}
		}
	}
	return true
}

// transferWriter fills one message after the other.
type transferWriter struct {
	x     *Transfer
	yield func([]byte) bool
	msg   []byte
	count int
	sent  bool // a message
	over  bool // nobody wants more
}

// set adds an RRset, record by record: a message need not hold all of it (RFC
// 5936 §2.2).
func (w *transferWriter) set(owner zones.Name, set *zones.RRset) bool {
	for record := range set.Records {
		if !w.add(owner, record) {
			return false
		}
	}
	return true
}

// add adds a record: its owner, and what stands behind the owner.
func (w *transferWriter) add(owner zones.Name, record []byte) bool {
	if w.count > 0 && len(w.msg)+len(owner)+len(record) > maxTransferMessage && !w.flush() {
		return false
	}
	if w.count == 0 {
		w.begin()
	}
	apex := w.x.zone.Apex().Name()
	if string(w.x.question[:len(w.x.question)-4]) == string(apex) { // the case of names stays (RFC 5936 §3.4)
		w.msg = append(w.msg, owner[:len(owner)-len(apex)]...)
		w.msg = binary.BigEndian.AppendUint16(w.msg, 0xC000|headerSize)
	} else {
		w.msg = append(w.msg, owner...)
	}
	w.msg = append(w.msg, record...)
	w.count++
	return true
}

// begin writes header and question. RFC 5936 §2.2.1 leaves the question out of
// later messages or not; it stays, so that names can point to it.
func (w *transferWriter) begin() {
	w.msg = append(append(w.msg[:0], w.x.header[:]...), 0, 1, 0, 0, 0, 0, 0, 0)
	w.msg = append(w.msg, w.x.question...)
}

func (w *transferWriter) flush() bool {
	binary.BigEndian.PutUint16(w.msg[6:], uint16(w.count))
	if w.x.edns.present && !w.sent {
		binary.BigEndian.PutUint16(w.msg[10:], 1)
		w.msg = w.x.edns.append(w.msg, 0, dns.RcodeSuccess, &options{udpSize: w.x.udpSize})
	}
	w.count, w.sent = 0, true
	w.over = !w.yield(w.msg)
	return !w.over
}

// transfer sends the zone that the last packet asked for; nothing if it did not.
func (x *exchange) transfer(ctx context.Context) error {
	t := x.responder.s.transfer
	if t == nil {
		return nil
	}
	x.responder.s.transfer = nil // it holds a generation
	s := x.server
	if err := x.flush(time.Now()); err != nil {
		return err
	}
	select {
	case s.transfers <- struct{}{}:
		defer func() { <-s.transfers }()
	default:
		s.log.Warn("dns: transfer put off: too many at a time", "zone", t.zone.Domain(), "peer", x.nc.RemoteAddr(), "key", t.key.name)
		return x.putOff(t)
	}
	x.tally[countTransfer]++
	start := time.Now()
	messages, octets, err := x.send(ctx, t, start.Add(s.limits.Transfer))
	attrs := []any{"zone", t.zone.Domain(), "serial", t.zone.Serial(), "kind", t.Kind(), "peer", x.nc.RemoteAddr(), "key", t.key.name,
		"messages", messages, "octets", octets, "ms", time.Since(start).Milliseconds()}
	if err != nil {
		s.log.Warn("dns: transfer broke off", append(attrs, "err", err)...)
		return err
	}
	s.log.Info("dns: transferred", attrs...)
	return nil
}

// send writes the messages of a transfer. It holds one of them in memory, and
// each must be taken within the time for a write: a secondary that does not read
// is gone.
func (x *exchange) send(ctx context.Context, t *Transfer, until time.Time) (messages, octets int, err error) {
	var frame []byte
	for msg := range t.Messages {
		at := time.Now()
		if err = ctx.Err(); err == nil && at.After(until) {
			err = errTransferTime
		}
		if err != nil {
			break
		}
		msg = t.Sign(msg, at)
		frame = append(binary.BigEndian.AppendUint16(frame[:0], uint16(len(msg))), msg...)
		messages, octets = messages+1, octets+len(frame)
		if err = x.write(frame, at); err != nil {
			break
		}
	}
	return messages, octets, err
}

var errTransferTime = errors.New("it takes longer than a transfer may")

// putOff tells a secondary to come again.
func (x *exchange) putOff(t *Transfer) error {
	w := transferWriter{x: t}
	w.begin()
	binary.BigEndian.PutUint16(w.msg[2:], flagQR|dns.RcodeServerFailure)
	msg := t.Sign(w.msg, time.Now())
	x.out = append(binary.BigEndian.AppendUint16(x.out, uint16(len(msg))), msg...)
	return x.flush(time.Now())
}

// Sign signs the next message of those that Messages yields (RFC 8945 §5.3.1:
// each of them).
func (x *Transfer) Sign(msg []byte, at time.Time) []byte {
	return x.sig.sign(msg, 0, tsig{time: unixTime(at), fudge: tsigFudge})
}

// Transfer is what the last packet gets instead of an answer, nil if it gets one
// or silence.
func (r *Responder) Transfer() *Transfer { return r.s.transfer }
