package dnsserver

import (
	"github.com/miekg/dns"

	"directnode/zones"
)

// state is what is to be done next for an answer (RFC 1034 §4.3.2).
type state uint8

const (
	solveName       state = iota // find the zone and look the name up
	solveAnswer                  // put the RRset into the answer section
	solveAlias                   // put the CNAME there and go on with its target
	solveAuthority               // prove the absence, or refer to other servers
	solveAdditional              // add the addresses of hosts that were named
	tooLong                      // what must be there does not fit
	refused                      // not our zone
	solved
)

// solver works one question out.
type solver struct {
	reply
	set *zones.Set
	q   query
	t   Transport

	name     []byte        // what is looked up now, in lower case
	question [maxName]byte // where name is kept at first
	followed [maxChain]*zones.RRset
	chain    int // CNAMEs in followed

	zone *zones.Zone
	got  zones.Answer
	last *zones.RRset // whose hosts go into the additional section
}

// solve runs the states until the answer is whole.
func (s *solver) solve() {
	s.name = zones.AppendLower(s.question[:0], s.q.name)
	s.base, s.baseAt = s.name, headerSize
	for next := solveName; next != solved; {
		switch next {
		case solveName:
			next = s.solveName()
		case solveAnswer:
			next = s.solveAnswer()
		case solveAlias:
			next = s.solveAlias()
		case solveAuthority:
			next = s.solveAuthority()
		case solveAdditional:
			next = s.solveAdditional()
		case tooLong:
			s.truncate()
			next = solved
		case refused:
			s.fail(dns.RcodeRefused)
			next = solved
		}
	}
}

func (s *solver) solveName() state {
	s.zone = s.set.Find(s.name)
	if s.q.qtype == dns.TypeDS && s.zone != nil && len(s.name) == len(s.zone.Apex().Name()) {
		// RFC 4035 §3.1.4.1: the DS of an apex is data of the zone above.
		if above := s.set.FindParentSide(s.name); above != nil {
			s.zone = above
		}
	}
	if s.zone == nil {
		if s.chain > 0 {
			return solved // the alias leads out of our zones; who asked goes on there
		}
		return refused
	}
	s.got = s.zone.Lookup(s.name, s.q.qtype)
	if s.got.Kind != zones.Referral || s.chain > 0 {
		s.flags |= flagAA // RFC 1035 §4.1.1: it speaks of the first name
	}
	switch s.got.Kind {
	case zones.Hit:
		return solveAnswer
	case zones.CName:
		if s.q.qtype == dns.TypeCNAME || s.q.qtype == dns.TypeANY {
			return solveAnswer
		}
		return solveAlias
	case zones.NXDomain:
		s.rcode = dns.RcodeNameError // RFC 6604 §3: of the last name of a chain
	}
	return solveAuthority
}

func (s *solver) solveAnswer() state {
	// RFC 2181 §9: the RRset that was asked for is there whole, or TC is set.
	if s.t.mustUseTCP(s.got.RRset.Type, s.q.qtype) || !add(&s.reply, s.name, s.got.RRset) {
		return tooLong
	}
	s.answers += s.got.RRset.Count
	s.last = s.got.RRset
	return solveAdditional
}

// cnameTarget is where a CNAME's target stands behind the start of its record:
// after owner, type, class, TTL and length.
const cnameTarget = 2 + 2 + 2 + 4 + 2

func (s *solver) solveAlias() state {
	at := len(s.msg) - s.start
	if !add(&s.reply, s.name, s.got.RRset) {
		return tooLong
	}
	s.answers++
	target := s.got.RRset.Target()
	if s.seen(target) {
		return solved
	}
	s.followed[s.chain] = s.got.RRset
	if s.chain++; s.chain == maxChain {
		return solved // as good as a loop
	}
	// The record's owner is base itself, a pointer: the target's place is known.
	s.name = []byte(target)
	s.base, s.baseAt = s.name, at+cnameTarget
	return solveName
}

// seen tells whether a chain of aliases comes back to a name it has been at.
func (s *solver) seen(target zones.Name) bool {
	if string(s.question[:len(s.q.name)]) == string(target) {
		return true
	}
	for _, set := range s.followed[:s.chain] {
		if set.Target() == target {
			return true
		}
	}
	return false
}

func (s *solver) solveAuthority() state {
	owner, set := s.zone.Apex().Name(), s.zone.Negative() // RFC 2308 §2.1, §2.2
	if s.got.Kind == zones.Referral {
		owner, set = s.got.Node.Name(), s.got.RRset
	}
	if !add(&s.reply, owner, set) {
		return tooLong
	}
	s.authority += set.Count
	s.last = set
	return solveAdditional
}

func (s *solver) solveAdditional() state {
	for _, host := range s.last.Hosts() {
		for _, rrtype := range [...]uint16{dns.TypeA, dns.TypeAAAA} {
			set := host.RRset(rrtype)
			if set == nil {
				continue
			}
			if add(&s.reply, host.Name(), set) {
				s.additional += set.Count
				continue
			}
			// RFC 9471 §3: glue without which the referral is of no use must be
			// there, or TC is set. Everything else may be left out (RFC 2181 §9).
			if s.got.Kind == zones.Referral && host.Within(s.got.Node) {
				return tooLong
			}
		}
	}
	return solved
}
