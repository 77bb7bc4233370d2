package dnsserver

import (
	"github.com/miekg/dns"

	"directnode/zones"
)

func (s *solver) isNotify() bool { return s.q.opcode() == dns.OpcodeNotify }

// mayNotify takes a primary's word that a zone has changed (RFC 1996 §3.10:
// nobody else's). What the message says of the new version is not looked at:
// who is asked next says it again.
func (s *solver) mayNotify() (rcode int) {
	switch {
	case s.t.Peers == nil || !s.t.Peers.any, s.q.qtype != dns.TypeSOA:
		// We follow nobody; and of other types RFC 1996 §3.5 does not speak.
		return dns.RcodeNotImplemented
	case s.set == nil:
		return dns.RcodeServerFailure
	}
	name := zones.AppendLower(s.names[0][:0], s.q.name)
	z := s.set.Find(name)
	if z == nil || len(z.Apex().Name()) != len(name) {
		return dns.RcodeNotAuth
	}
	if !s.t.Peers.access(z.Apex().Name()).isPrimary(s.sig.key, s.t.Peer) {
		return dns.RcodeRefused
	}
	s.notified = z.Apex().Name()
	return dns.RcodeSuccess
}
