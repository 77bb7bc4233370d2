package dnsserver

import (
	"hash/maphash"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"directnode/zones"
)

// Making a signature takes as long as twenty answers. Signatures of names that
// exist are made once for each; who asks for names that do not exist has one made
// for every question, and that must not take the machine from the others.
const (
	// denialsASecond and denialsBurst bound the signatures that deny, of all clients
	// together whose address is proved, by TCP or a cookie, and once more of all
	// others: 4,000 of 32 microseconds are an eighth of a core. Who forges the
	// address of a resolver takes nothing of what the resolver has by TCP.
	denialsASecond = 4000
	denialsBurst   = 4000

	// networkDenialsASecond and networkDenialsBurst bound those of one network,
	// so that one flood leaves the others their share. A resolver for a large
	// provider misspells ten names a second.
	networkDenialsASecond = 500
	networkDenialsBurst   = 1000

	// denialNetworks is how many shares there are: networks that fall on the same
	// one have it together. 32 KiB.
	denialNetworks = 4096
)

// Signing bounds what signing may take of the machine. It may be used
// concurrently. What cannot be signed within it goes unanswered: by UDP with
// TC=1, by TCP with SERVFAIL.
type Signing struct {
	turns  chan struct{} // a token for each signature that is being made
	seed   maphash.Seed
	proved denials // to clients whose address is proved
	others denials
}

// denials is what is left of the signatures that deny.
type denials struct {
	all      quota
	networks [denialNetworks]quota
}

// NewSigning makes the bounds of a server: no more than half of the cores sign
// at a time.
func NewSigning() *Signing {
	return &Signing{turns: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), seed: maphash.MakeSeed()}
}

// quota is a number of events a second with a burst: the time at which the last
// one admitted would have been due, had they come evenly.
type quota struct{ due atomic.Int64 }

// take admits one more event.
func (s *quota) take(at int64, every, burst time.Duration) bool {
	for {
		due := s.due.Load()
		next := max(due, at) + int64(every)
		if next-at > int64(burst) {
			return false
		}
		if s.due.CompareAndSwap(due, next) {
			return true
		}
	}
}

// mayDeny tells whether a client may have one more denial signed.
func (s *Signing) mayDeny(peer netip.Addr, proved bool, at time.Time) bool {
	now, left := at.UnixNano(), &s.others
	if proved {
		left = &s.proved
	}
	bits := 48
	if peer.Is4() || peer.Is4In6() {
		peer, bits = peer.Unmap(), 24
	}
	network, err := peer.Prefix(bits)
	if err == nil { // an address that is not valid has no share of its own
		own := &left.networks[maphash.Comparable(s.seed, network)%denialNetworks]
		if !own.take(now, time.Second/networkDenialsASecond, time.Second*networkDenialsBurst/networkDenialsASecond) {
			return false
		}
	}
	return left.all.take(now, time.Second/denialsASecond, time.Second*denialsBurst/denialsASecond)
}

// begin takes a turn to sign. By UDP nobody waits for one.
func (s *Signing) begin(wait bool) bool {
	if wait {
		s.turns <- struct{}{}
		return true
	}
	select {
	case s.turns <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s *Signing) end() { <-s.turns }

// sign adds the RRSIG records of an RRset that was added last, under the same
// owner, and counts them. at is the name that the RRset has in the zone. False
// means that they do not fit, or cannot be had now.
func (s *solver) sign(owner, at []byte, set *zones.RRset, p zones.Purpose, section *int) bool {
	signer := s.zone.Signer()
	var buf [maxName]byte
	name := compress(buf[:0], &s.reply, owner)
	if len(s.msg)-s.start+signer.Len(set.Type, len(name)) > s.limit {
		return false
	}
	msg, ok := signer.Append(s.msg, name, at, set, p, s.t.At)
	if !ok {
		if !s.makeSignatures(signer, at, set, p) {
			return false
		}
		if msg, ok = signer.Append(s.msg, name, at, set, p, s.t.At); !ok {
			return false // others have taken its place in memory: as if there were no turn
		}
	}
	s.msg = msg
	*section += signer.Count(set.Type)
	return true
}

// makeSignatures signs what is not in memory, if that may be done now.
func (s *solver) makeSignatures(signer *zones.Signer, at []byte, set *zones.RRset, p zones.Purpose) bool {
	if bounds := s.t.Signing; bounds != nil {
		if p == zones.Denial && !bounds.mayDeny(s.t.Peer, s.t.proved, s.t.At) || !bounds.begin(s.t.TCP) {
			s.unsigned = true
			return false
		}
		defer bounds.end()
	}
	if err := signer.Sign(at, set, p, s.t.At); err != nil {
		s.unsigned = true
		return false
	}
	return true
}

// proving is what a solver keeps for answers of signed zones.
type proving struct {
	secure   bool // zone is signed, and who asks wants to see it
	absent   bool // the name does not exist, whatever the response code says
	unsigned bool // a signature could not be had now
	proofs   []zones.Proof
	pending  []pending
}

// pending is a proof for the authority section that waits until the answer
// section is whole.
type pending struct {
	zone  *zones.Zone
	proof zones.Proof
}

func (p *proving) reset() {
	p.secure, p.absent, p.unsigned, p.pending = false, false, false, p.pending[:0]
}

// compact tells whether a name that does not exist is denied by saying that it
// does. The response code tells the truth only to those who say that they know
// how to read it beside such a denial (RFC 9824 §5.1).
func (s *solver) compact() bool { return s.zone.Signer().Compact() && !s.q.edns.co }

// secured begins an answer of a zone, which may be signed.
func (s *solver) secured() {
	signer := s.zone.Signer()
	s.secure = s.q.edns.do && signer != nil
	s.q.edns.compact = s.q.edns.compact || s.secure && s.q.edns.co && signer.Compact()
}

// signAnswer signs the RRset that answers for s.name, and keeps the proof that
// no name is nearer than the wildcard that it came from.
func (s *solver) signAnswer() bool {
	at, purpose := s.zone.SignedAs(s.name, &s.got)
	if !s.sign(s.name, at, s.got.RRset, purpose, &s.answers) {
		return false
	}
	s.keepProofs()
	return true
}

func (s *solver) keepProofs() {
	if !s.got.Wildcard || !s.secure {
		return
	}
	s.proofs = s.zone.Proofs(s.proofs[:0], s.name, &s.got)
	for _, p := range s.proofs {
		s.pending = append(s.pending, pending{s.zone, p})
	}
}

// addPending writes the proofs that waited.
func (s *solver) addPending() bool {
	waited, here := s.pending, s.zone
	s.pending = s.pending[:0]
	defer func() { s.zone = here }()
	for i := range waited {
		p := &waited[i].proof
		s.zone = waited[i].zone
		if !s.addProof(p, &s.authority) {
			return false
		}
	}
	return true
}

func (s *solver) addProof(p *zones.Proof, section *int) bool {
	if !add(&s.reply, p.Name, &p.Set) {
		return false
	}
	*section += p.Set.Count
	return s.sign(p.Name, p.Name, &p.Set, p.Purpose, section)
}

// proveAuthority adds what makes the authority section one that can be proved:
// the signature of the SOA, or the DS of the cut (the NS of a cut is not signed,
// RFC 4035 §2.2), and the proofs.
func (s *solver) proveAuthority() bool {
	var name [maxName]byte
	if s.got.Kind != zones.Referral {
		apex := append(name[:0], s.zone.Apex().Name()...)
		if !s.sign(apex, apex, s.zone.Negative(), zones.Data, &s.authority) {
			return false
		}
	} else if ds := s.got.Node.RRset(dns.TypeDS); ds != nil {
		return s.addSigned(append(name[:0], s.got.Node.Name()...), ds, &s.authority)
	}
	s.proofs = s.zone.Proofs(s.proofs[:0], s.name, &s.got)
	for i := range s.proofs {
		if !s.addProof(&s.proofs[i], &s.authority) {
			return false
		}
	}
	return true
}

// signHost signs an additional RRset where there is room; without signatures it
// is as good as before (RFC 4035 §3.1.1).
func (s *solver) signHost(host *zones.Node, set *zones.RRset) {
	var name [maxName]byte
	owner := append(name[:0], host.Name()...)
	s.sign(owner, owner, set, zones.Data, &s.additional)
}

// addSigned is add for an RRset of the zone at its own name, with its
// signatures where they are wanted.
func (s *solver) addSigned(name []byte, set *zones.RRset, section *int) bool {
	if !add(&s.reply, name, set) {
		return false
	}
	*section += set.Count
	return !s.secure || s.sign(name, name, set, zones.Data, section)
}

// askedForSigner tells the questions that solveSigner answers.
func (s *solver) askedForSigner() bool {
	return s.q.qtype == dns.TypeRRSIG || s.q.qtype == dns.TypeNSEC && s.zone.Signer().Compact()
}

// solveSigner answers a question for RRSIG or NSEC: with the proof at the name,
// which with compact denial every name has, or with the signatures of one RRset
// (RFC 8482 §4.1 for ANY; RRSIG is its like).
func (s *solver) solveSigner() state {
	if s.got.Kind != zones.NoData && s.got.Kind != zones.NXDomain {
		return solveAuthority // a referral
	}
	if s.t.mustUseTCP(s.q.qtype, s.q.qtype) {
		return tooLong
	}
	if s.q.qtype == dns.TypeRRSIG && s.got.Kind == zones.NoData {
		s.zone.LookupInto(&s.got, s.name, dns.TypeANY)
		if s.got.RRset != nil {
			at, purpose := s.zone.SignedAs(s.name, &s.got)
			if !s.sign(s.name, at, s.got.RRset, purpose, &s.answers) {
				return tooLong
			}
			s.keepProofs()
			return solved
		}
	}
	if !s.zone.Signer().Compact() {
		return solveAuthority
	}
	s.rcode = dns.RcodeSuccess
	s.proofs = s.zone.Proofs(s.proofs[:0], s.name, &s.got)
	for i := range s.proofs {
		p := &s.proofs[i]
		if s.q.qtype == dns.TypeNSEC {
			if !add(&s.reply, p.Name, &p.Set) {
				return tooLong
			}
			s.answers += p.Set.Count
		}
		if (s.secure || s.q.qtype == dns.TypeRRSIG) && !s.sign(p.Name, p.Name, &p.Set, p.Purpose, &s.answers) {
			return tooLong
		}
	}
	return solved
}
