package dnsserver

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

// query is what we need of a query, pointing into the packet.
type query struct {
	packet []byte
	flags  uint16

	question []byte // the question as sent; empty if there is none or it is not well formed
	name     []byte // its name, as sent
	qtype    uint16
	qclass   uint16

	tsigAt   int    // where a TSIG record begins, 0 = there is none
	tsigData int    // where its owner ends
	serial   uint32 // of an IXFR: the version that the client has (RFC 1995 §3)
	held     bool   // there is one

	edns   edns
	cookie cookieState // what the cookie in edns is worth
}

// Bits of the header's second word (RFC 1035 §4.1.1).
const (
	flagQR      = 1 << 15
	flagAA      = 1 << 10
	flagTC      = 1 << 9
	flagRD      = 1 << 8
	opcodeMask  = 0xF << 11
	opcodeShift = 11
)

func (q *query) opcode() int { return int(q.flags & opcodeMask >> opcodeShift) }

// parse reads a query. It tells what to say to one that goes no further:
// silent means nothing, else rcode is success or the error to answer with.
func (q *query) parse(packet []byte) (rcode int, silent bool) {
	if len(packet) < headerSize {
		return 0, true // no ID to answer to
	}
	q.packet = packet
	q.flags = binary.BigEndian.Uint16(packet[2:])
	if q.flags&flagQR != 0 {
		return 0, true // an answer; answering it could make two servers talk for ever
	}
	if q.opcode() != dns.OpcodeQuery && q.opcode() != dns.OpcodeNotify {
		return dns.RcodeNotImplemented, false // RFC 8906 §3.1.4; other counts mean other things
	}
	switch binary.BigEndian.Uint16(packet[4:]) {
	case 0:
		if q.opcode() != dns.OpcodeQuery {
			return dns.RcodeFormatError, false // RFC 1996 §3.7
		}
		return q.parseCookieQuery(), false
	case 1:
	default:
		return dns.RcodeFormatError, false // RFC 9619 §4: a query has no more than one question
	}
	at, ok := q.parseQuestion()
	if !ok {
		return dns.RcodeFormatError, false
	}
	return q.parseRecords(at), false
}

// parseCookieQuery reads a query without a question, which is for a server
// cookie (RFC 7873 §5.4). Without a COOKIE option it is for nothing.
func (q *query) parseCookieQuery() (rcode int) {
	rcode = q.parseRecords(headerSize)
	if rcode == dns.RcodeSuccess && q.edns.version == 0 && q.edns.cookie.client == nil {
		return dns.RcodeFormatError
	}
	return rcode
}

func (q *query) parseQuestion() (end int, ok bool) {
	end, ok = plainName(q.packet, headerSize)
	if !ok || len(q.packet) < end+4 {
		return 0, false
	}
	q.name = q.packet[headerSize:end]
	q.qtype = binary.BigEndian.Uint16(q.packet[end:])
	q.qclass = binary.BigEndian.Uint16(q.packet[end+2:])
	q.question = q.packet[headerSize : end+4]
	return end + 4, true
}

// plainName finds the end of an uncompressed name. The question is the first
// name of a message, so there is nothing that a pointer could point to.
func plainName(b []byte, at int) (end int, ok bool) {
	start := at
	for at < len(b) && at-start < maxName {
		n := int(b[at])
		if n == 0 {
			return at + 1, true
		}
		if n > 63 {
			return 0, false
		}
		at += 1 + n
	}
	return 0, false
}

// skipName finds the end of a name that may be compressed; we need no such name.
func skipName(b []byte, at int) (end int, ok bool) {
	start := at
	for at < len(b) && at-start < maxName {
		n := int(b[at])
		switch {
		case n == 0:
			return at + 1, true
		case n >= 0xC0:
			// RFC 1035 §4.1.4: a pointer is two octets and the name's last part,
			// and leads backward.
			if at+1 >= len(b) || int(binary.BigEndian.Uint16(b[at:])&0x3FFF) >= at {
				return 0, false
			}
			return at + 2, true
		case n > 63:
			return 0, false
		}
		at += 1 + n
	}
	return 0, false
}

// parseRecords walks the records behind the question and takes what says how
// to answer: OPT, TSIG, and the SOA of an IXFR.
func (q *query) parseRecords(at int) (rcode int) {
	answers := int(binary.BigEndian.Uint16(q.packet[6:]))
	authority := int(binary.BigEndian.Uint16(q.packet[8:]))
	additional := int(binary.BigEndian.Uint16(q.packet[10:]))
	if answers != 0 && q.opcode() != dns.OpcodeNotify { // RFC 1996 §3.7: the new SOA
		return dns.RcodeFormatError
	}
	above, all := answers+authority, answers+authority+additional
	for i := range all {
		end, next, ok := skipRecord(q.packet, at)
		if !ok {
			return dns.RcodeFormatError
		}
		switch rr := q.packet[end:next]; binary.BigEndian.Uint16(rr) {
		case dns.TypeOPT:
			if i < above || end != at+1 || q.edns.present || !q.edns.parse(rr) {
				// RFC 6891 §6.1.1: one, in the additional section, owned by the root.
				q.edns = edns{}
				return dns.RcodeFormatError
			}
		case dns.TypeTSIG:
			if i < above || i != all-1 { // RFC 8945 §5.1
				return dns.RcodeFormatError
			}
			q.tsigAt, q.tsigData = at, end
		case dns.TypeSOA:
			if q.qtype == dns.TypeIXFR && i < above && len(rr) >= recordHead+2+soaNumbers {
				q.serial, q.held = binary.BigEndian.Uint32(rr[len(rr)-soaNumbers:]), true
			}
		}
		at = next
	}
	if at != len(q.packet) || q.edns.malformed {
		return dns.RcodeFormatError // RFC 7873 §5.2.2 for an option that cannot be a cookie
	}
	return dns.RcodeSuccess
}

// soaNumbers is the numbers at the end of a SOA, the serial first (RFC 1035
// §3.3.13).
const soaNumbers = 5 * 4
