package dnsserver

import (
	"encoding/binary"

	"directnode/zones"
)

// reply is an answer that is being written. The message begins at start of msg,
// which may hold others before it.
type reply struct {
	msg     []byte
	start   int
	records int // offset behind the question
	limit   int // octets of the message, room for OPT kept free

	flags                          uint16
	rcode                          int
	answers, authority, additional int
	cut                            truncation
	opt                            options // of our OPT record, if there is one

	// base is the name that owners are compressed against: the question's, or
	// the target of the last CNAME. It stands whole at baseAt of the message.
	base   []byte
	baseAt int
}

// begin writes the header's place and the question as it was sent: its case
// comes back octet by octet (RFC 4343 §4.1), and clients check it.
func (r *reply) begin(dst []byte, q *query, t *Transport, o options) {
	o.udpSize = t.UDPSize
	*r = reply{opt: o}
	r.start = len(dst)
	r.msg = append(append(dst, q.packet[:headerSize]...), q.question...)
	r.records = len(r.msg)
	r.flags = flagQR | q.flags&(opcodeMask|flagRD)
	r.limit = t.limit(&q.edns, q.qtype)
	if q.edns.present {
		r.limit -= optSize + o.size()
	}
}

// wireName is a name in wire form, in whichever type it is kept.
type wireName interface{ ~string | ~[]byte }

// add appends an RRset if it fits.
func add[N wireName](r *reply, owner N, set *zones.RRset) bool {
	var buf [maxName]byte
	name := compress(buf[:0], r, owner)
	if len(r.msg)-r.start+set.Len(len(name)) > r.limit {
		return false
	}
	r.msg = set.Append(r.msg, name)
	return true
}

// compress writes a name with the longest end that it shares with base replaced
// by a pointer (RFC 1035 §4.1.4). Pointers only ever lead back to base.
func compress[N wireName](dst []byte, r *reply, name N) []byte {
	for at := 0; at < len(name) && name[at] != 0; at += 1 + int(name[at]) {
		if back := suffixAt(r.base, name[at:]); back >= 0 {
			dst = append(dst, name[:at]...)
			return binary.BigEndian.AppendUint16(dst, 0xC000|uint16(r.baseAt+back))
		}
	}
	return append(dst, name...)
}

// suffixAt is where whole goes on with the labels of end and nothing else, -1
// if it does not.
func suffixAt[N wireName](whole []byte, end N) int {
	at := 0
	for len(whole)-at > len(end) {
		at += 1 + int(whole[at])
	}
	if len(whole)-at == len(end) && string(whole[at:]) == string(end) {
		return at
	}
	return -1
}

// finish writes the header and the OPT record.
func (r *reply) finish(e *edns) []byte {
	questions := 0
	if r.records > r.start+headerSize {
		questions = 1
	}
	if e.present {
		r.msg = e.append(r.msg, r.start, r.rcode, &r.opt)
		r.additional++
	}
	h := r.msg[r.start : r.start+headerSize]
	binary.BigEndian.PutUint16(h[2:], r.flags|uint16(r.rcode&0xF))
	binary.BigEndian.PutUint16(h[4:], uint16(questions))
	binary.BigEndian.PutUint16(h[6:], uint16(r.answers))
	binary.BigEndian.PutUint16(h[8:], uint16(r.authority))
	binary.BigEndian.PutUint16(h[10:], uint16(r.additional))
	return r.msg
}

// fail makes the answer an error without records.
func (r *reply) fail(rcode int) {
	r.msg = r.msg[:r.records]
	r.answers, r.authority, r.additional = 0, 0, 0
	r.flags &^= flagAA | flagTC
	r.rcode = rcode
}
