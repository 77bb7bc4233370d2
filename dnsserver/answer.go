package dnsserver

import (
	"encoding/binary"

	"github.com/miekg/dns"

	"directnode/zones"
)

// state is what is to be done next for an answer (RFC 1034 §4.3.2).
type state uint8

const (
	solveName       state = iota // find the zone and look the name up
	solveAnswer                  // put the RRset into the answer section
	solveAlias                   // put the CNAME there and go on with its target
	solveRename                  // put the DNAME and a CNAME made of it there and go on
	solveAuthority               // prove the absence, or refer to other servers
	solveAdditional              // add the addresses of hosts that were named
	solveSigner                  // answer with what signing makes: RRSIG, NSEC
	tooLong                      // what must be there does not fit
	refused                      // not our zone
	expired                      // our zone, and nobody knows whether it is still so
	solved
)

// solver works one question out.
type solver struct {
	reply
	set *zones.Set
	q   query
	t   Transport

	names   [maxChain + 1][maxName]byte // what has been looked up, in lower case
	name    []byte                      // what is looked up now, the last of names
	chain   int                         // aliases followed
	renames [maxChain]*zones.RRset      // by alias: the DNAME it was made of, nil for others

	tsig     tsig // the query's, where it has one
	sig      signature
	transfer *Transfer  // instead of an answer
	refusal  string     // why a holder of a key of ours does not get a zone
	notified zones.Name // the zone that a primary says has changed

	zone *zones.Zone
	got  zones.Answer
	last *zones.RRset // whose hosts go into the additional section

	proving
}

// asked is the name of the question in lower case.
func (s *solver) asked() []byte { return s.names[0][:len(s.q.name)] }

// solve runs the states until the answer is whole.
func (s *solver) solve() {
	s.name = zones.AppendLower(s.names[0][:0], s.q.name)
	s.renames = [maxChain]*zones.RRset{}
	s.base, s.baseAt = s.name, headerSize
	for next := solveName; next != solved; {
		switch next {
		case solveSigner:
			next = s.solveSigner()
		case solveName:
			next = s.solveName()
		case solveAnswer:
			next = s.solveAnswer()
		case solveAlias:
			next = s.solveAlias()
		case solveRename:
			next = s.solveRename()
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
		case expired:
			s.fail(dns.RcodeServerFailure) // RFC 1035 §4.3.5: others are to be asked
			next = solved
		}
		if len(s.pending) > 0 && (next == solved || next == solveAuthority || next == solveAdditional) && !s.addPending() {
			next = tooLong
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
	if s.zone.Expired() {
		return expired
	}
	s.secured()
	s.zone.LookupInto(&s.got, s.name, s.q.qtype)
	if s.got.Kind != zones.Referral || s.chain > 0 {
		s.flags |= flagAA // RFC 1035 §4.1.1: it speaks of the first name
	}
	if s.zone.Signer() != nil && s.askedForSigner() {
		return solveSigner
	}
	switch s.got.Kind {
	case zones.Hit:
		return solveAnswer
	case zones.CName:
		if s.wantsAlias() {
			return solveAnswer
		}
		return solveAlias
	case zones.DName:
		return solveRename
	case zones.NXDomain:
		s.absent = true
		if !s.secure || !s.compact() {
			s.rcode = dns.RcodeNameError // RFC 6604 §3: of the last name of a chain
		}
	}
	return solveAuthority
}

// wantsAlias tells questions that an alias itself answers.
func (s *solver) wantsAlias() bool { return s.q.qtype == dns.TypeCNAME || s.q.qtype == dns.TypeANY }

func (s *solver) solveAnswer() state {
	// RFC 2181 §9: the RRset that was asked for is there whole, or TC is set.
	if s.t.mustUseTCP(s.got.RRset.Type, s.q.qtype) || !add(&s.reply, s.name, s.got.RRset) {
		return tooLong
	}
	s.answers += s.got.RRset.Count
	if s.secure && !s.signAnswer() {
		return tooLong
	}
	s.last = s.got.RRset
	return solveAdditional
}

// aliasTarget is where the target stands behind the start of a CNAME record
// whose owner is a pointer: after owner, type, class, TTL and length.
const aliasTarget = 2 + 2 + 2 + 4 + 2

func (s *solver) solveAlias() state {
	at := len(s.msg) - s.start
	if !add(&s.reply, s.name, s.got.RRset) {
		return tooLong
	}
	s.answers++
	if s.secure && !s.signAnswer() {
		return tooLong
	}
	// The record's owner is base itself, a pointer: the target's place is known.
	return s.follow(append(s.names[s.chain+1][:0], s.got.RRset.Target()...), at+aliasTarget)
}

// solveRename answers below a DNAME: with it, and with the CNAME that it makes
// of the name (RFC 6672 §3.1), for those who asked know no DNAME.
func (s *solver) solveRename() state {
	owner, set := s.got.Node.Name(), s.got.RRset
	if s.t.mustUseTCP(set.Type, s.q.qtype) || !s.addRename(owner, set) {
		return tooLong
	}
	prefix, target := s.name[:len(s.name)-len(owner)], set.Target()
	if len(prefix)+len(target) > maxName {
		s.rcode = dns.RcodeYXDomain // RFC 6672 §3.2 step 3C: no name can be that long
		return solved
	}
	next := append(append(s.names[s.chain+1][:0], prefix...), target...)
	at := len(s.msg) - s.start
	if !s.addAlias(set.TTL, next) {
		return tooLong
	}
	s.answers++
	if s.chain == 0 {
		// What the question's labels look like is kept as in the question.
		copy(s.msg[s.start+at+aliasTarget:], s.q.name[:len(prefix)])
	}
	if s.wantsAlias() {
		return solved
	}
	return s.follow(next, at+aliasTarget)
}

// addRename puts a DNAME into the answer section, once however often a chain
// comes by.
func (s *solver) addRename(owner zones.Name, set *zones.RRset) bool {
	for _, before := range s.renames[:s.chain] {
		if before == set {
			return true
		}
	}
	s.renames[s.chain] = set
	var name [maxName]byte
	return s.addSigned(append(name[:0], owner...), set, &s.answers)
}

// addAlias writes a CNAME record for base.
func (s *solver) addAlias(ttl uint32, target []byte) bool {
	if len(s.msg)-s.start+aliasTarget+len(target) > s.limit {
		return false
	}
	s.msg = binary.BigEndian.AppendUint16(s.msg, 0xC000|uint16(s.baseAt))
	s.msg = binary.BigEndian.AppendUint16(s.msg, dns.TypeCNAME)
	s.msg = binary.BigEndian.AppendUint16(s.msg, dns.ClassINET)
	s.msg = binary.BigEndian.AppendUint32(s.msg, ttl) // RFC 6672 §3.1: the DNAME's
	s.msg = binary.BigEndian.AppendUint16(s.msg, uint16(len(target)))
	s.msg = append(s.msg, target...)
	return true
}

// follow goes on with the target of an alias, which stands at that offset of
// the message. It stops where the chain comes back to a name that it has been
// at, and where it is as long as a loop.
func (s *solver) follow(target []byte, at int) state {
	for i := range s.chain + 1 {
		// Names end by themselves: none is the beginning of another.
		if string(s.names[i][:len(target)]) == string(target) {
			return solved
		}
	}
	if s.chain++; s.chain == maxChain {
		return solved
	}
	s.name, s.base, s.baseAt = target, target, at
	return solveName
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
	if s.secure && !s.proveAuthority() {
		return tooLong
	}
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
				if s.secure && host.Authoritative() {
					s.signHost(host, set)
				}
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
