package dnsserver

import (
	"github.com/miekg/dns"

	"directnode/zones"
)

// Transport is what an answer depends on besides the question.
type Transport struct {
	TCP     bool
	UDPCert UDPCert
}

// Handle gives the answer to one packet, nil to stay silent. It is a pure
// function; set is one generation, nil for a server that has none yet.
func Handle(set *zones.Set, packet []byte, t Transport) []byte {
	return new(Responder).Append(nil, set, packet, t)
}

// Responder answers one packet after another without allocating. The zero value
// is ready; it must not be used by two goroutines at a time.
type Responder struct {
	s solver
}

// Append is Handle for callers with a buffer: the answer is appended to dst; a
// length that did not grow means silence.
func (r *Responder) Append(dst []byte, set *zones.Set, packet []byte, t Transport) []byte {
	s := &r.s
	s.q = query{}
	rcode, silent := s.q.parse(packet)
	if silent {
		return dst
	}
	s.set, s.t, s.chain, s.last = set, t, 0, nil
	s.begin(dst, &s.q, t)
	if rcode == dns.RcodeSuccess {
		rcode = s.mayAnswer()
	}
	if rcode == dns.RcodeSuccess {
		s.solve()
		s.afterSolve()
	} else {
		s.fail(rcode)
	}
	return s.finish(s.q.edns)
}

// mayAnswer turns away what no zone could answer.
func (s *solver) mayAnswer() (rcode int) {
	switch {
	case s.q.edns.version > 0:
		return dns.RcodeBadVers // RFC 6891 §6.1.3
	case s.q.qclass != dns.ClassINET:
		return dns.RcodeRefused // CHAOS too: nobody needs our version
	case s.set == nil:
		return dns.RcodeServerFailure
	}
	switch s.q.qtype {
	case dns.TypeAXFR, dns.TypeIXFR:
		return dns.RcodeRefused // the names of a zone are the addresses of people
	case dns.TypeOPT, dns.TypeTSIG, dns.TypeNone:
		return dns.RcodeFormatError // no types to ask for (RFC 6895 §3.1)
	case dns.TypeTKEY, dns.TypeMAILA, dns.TypeMAILB:
		return dns.RcodeNotImplemented
	}
	return dns.RcodeSuccess
}

// afterSolve guards what TC cannot say: over TCP there is no larger transport.
func (s *solver) afterSolve() {
	if s.t.TCP && s.flags&flagTC != 0 {
		s.fail(dns.RcodeServerFailure)
	}
}

// serverFailure is the answer to a packet over which we stumbled: header and
// the error, nothing that would have to be parsed again.
func serverFailure(dst, packet []byte) []byte {
	if len(packet) < headerSize || packet[2]&(flagQR>>8) != 0 {
		return dst
	}
	q := query{packet: packet, flags: uint16(packet[2])<<8 | uint16(packet[3])}
	var r reply
	r.begin(dst, &q, Transport{})
	r.fail(dns.RcodeServerFailure)
	return r.finish(edns{})
}
