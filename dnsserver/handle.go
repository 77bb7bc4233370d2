package dnsserver

import (
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"directnode/zones"
)

// Transport is what an answer depends on besides the question. Its zero value
// is UDP from an address that nothing is known of.
type Transport struct {
	TCP     bool
	TLS     bool // TCP with TLS: answers may be padded
	UDPCert UDPCert

	// UDPSize is the most octets of an answer by UDP, and what clients are told
	// that we take; 0 means DefaultUDPSize.
	UDPSize int

	// Cookies weighs the client's cookie, for Peer and At; nil ignores cookies,
	// so that no address is ever proved by one.
	Cookies *Cookies
	Peer    netip.Addr
	At      time.Time

	// Signing bounds what signing takes of the machine; nil bounds nothing.
	Signing *Signing

	// Idle is what a client that asks by TCP is told about idle connections
	// (RFC 7828 §3.3.2); 0 says nothing.
	Idle time.Duration

	// Peers knows the keys of other servers and what they may have; nil has no
	// keys, so that every TSIG record is refused and every transfer too.
	Peers *Peers

	proved bool // the client receives at its address: TCP, or a valid cookie
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
	if t.UDPSize == 0 {
		t.UDPSize = DefaultUDPSize
	}
	return r.append(dst, set, packet, &t)
}

// append is Append with a transport that is complete.
func (r *Responder) append(dst []byte, set *zones.Set, packet []byte, t *Transport) []byte {
	s := &r.s
	s.q = query{}
	rcode, silent := s.q.parse(packet)
	if silent {
		return dst
	}
	s.set, s.t, s.chain, s.last, s.got = set, *t, 0, nil, zones.Answer{}
	s.proving.reset()
	s.sig, s.transfer, s.notified, s.refusal = signature{}, nil, "", ""
	if rcode == dns.RcodeSuccess && s.q.tsigAt > 0 {
		rcode = s.verify()
	}
	s.begin(dst, &s.q, &s.t, s.prove())
	s.limit -= s.sig.size(&s.tsig)
	if rcode == dns.RcodeSuccess {
		rcode = s.mayAnswer()
	}
	switch {
	case rcode != dns.RcodeSuccess:
		s.fail(rcode)
	case s.transfer != nil:
		return dst // see Transfer
	case s.isNotify():
		s.flags |= flagAA // as the request has it (RFC 1996 §4.7)
	case s.q.qtype == dns.TypeIXFR:
		s.current()
	case len(s.q.question) > 0:
		s.solve()
		s.afterSolve()
	}
	return s.whole()
}

// verify weighs the TSIG record of a query.
func (s *solver) verify() (rcode int) {
	s.tsig = tsig{}
	if !s.tsig.parse(s.q.packet, s.q.tsigAt, s.q.tsigData) {
		return dns.RcodeFormatError
	}
	return s.sig.verify(s.q.packet, &s.tsig, s.t.Peers, s.t.At)
}

// whole is the message with what ends it: OPT, and a signature if the query had one.
func (s *solver) whole() []byte {
	out := s.finish(&s.q.edns)
	if s.q.tsigAt > 0 {
		out = s.sig.answer(out, s.start, &s.tsig, s.t.At)
	}
	return out
}

// prove weighs what the client shows for its address, and gives the options of
// the answer.
func (s *solver) prove() (o options) {
	e := &s.q.edns
	if e.cookie.client != nil && s.t.Cookies != nil {
		o.client = e.cookie.client
		s.q.cookie, o.server = s.t.Cookies.check(e.cookie, s.t.Peer, s.t.At)
	}
	s.t.proved = s.t.TCP || s.q.cookie == cookieValid
	if e.keepAlive && s.t.TCP { // RFC 7828 §3.2.1: over UDP it means nothing
		o.keepAlive = s.t.Idle
	}
	o.pad = e.padding && s.t.TLS // RFC 7830 §6: never where it can be read anyway
	return o
}

// mayAnswer turns away what no zone could answer.
func (s *solver) mayAnswer() (rcode int) {
	switch {
	case s.q.edns.version > 0:
		return dns.RcodeBadVers // RFC 6891 §6.1.3
	case len(s.q.question) == 0:
		return s.mayLearnCookie()
	case s.q.qclass != dns.ClassINET:
		return dns.RcodeRefused // CHAOS too: nobody needs our version
	case s.isNotify():
		return s.mayNotify()
	case s.set == nil:
		return dns.RcodeServerFailure
	}
	switch s.q.qtype {
	case dns.TypeAXFR, dns.TypeIXFR:
		return s.mayTransfer()
	case dns.TypeOPT, dns.TypeTSIG, dns.TypeNXNAME, dns.TypeNone:
		return dns.RcodeFormatError // no types to ask for (RFC 6895 §3.1, RFC 9824 §3.5)
	case dns.TypeTKEY, dns.TypeMAILA, dns.TypeMAILB:
		return dns.RcodeNotImplemented
	}
	return dns.RcodeSuccess
}

// mayLearnCookie answers a query for nothing but a cookie (RFC 7873 §5.4):
// BADCOOKIE tells that the one shown is not good. Ordinary queries never have
// this code: they are answered as if there were no cookie (RFC 7873 §5.2.3).
func (s *solver) mayLearnCookie() (rcode int) {
	switch s.q.cookie {
	case cookieAbsent: // cookies are ignored
		return dns.RcodeFormatError
	case cookieForeign, cookieStale:
		return dns.RcodeBadCookie
	}
	return dns.RcodeSuccess
}

// afterSolve guards what TC cannot say, for over TCP there is no larger
// transport, and what the question alone decides: that there is no certificate
// is an answer to a question for one.
func (s *solver) afterSolve() {
	truncated, guarded := s.flags&flagTC != 0, s.t.mustUseTCP(s.q.qtype, s.q.qtype)
	switch {
	case s.t.TCP && truncated:
		s.fail(dns.RcodeServerFailure)
	case guarded && (truncated || s.answers+s.authority > 0):
		s.truncate()
		s.rcode = dns.RcodeSuccess // the client is to ask again, not to believe this
		s.cut = needsProof
	case truncated && s.got.RRset != nil && s.t.mustUseTCP(s.got.RRset.Type, s.q.qtype):
		s.cut = needsProof
	case truncated:
		s.cut = tooLarge
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
	r.begin(dst, &q, &Transport{UDPSize: DefaultUDPSize}, options{})
	r.fail(dns.RcodeServerFailure)
	return r.finish(&edns{})
}
