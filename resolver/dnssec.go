package resolver

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// The outcomes of our own validation. None of them changes what a discovery finds: Direct asks for no DNSSEC.
const (
	dnssecSecure   = "secure"   // signatures from an anchor down to the records
	dnssecInsecure = "insecure" // a zone on the way is proven not to be signed
	dnssecBogus    = "bogus"    // a signature that must be there does not hold
	dnssecOpen     = "open"     // not every record that is needed could be had, or the limits were reached
)

// parseAnchors reads DS and DNSKEY records.
func parseAnchors(lines []string) ([]dns.RR, error) {
	var out []dns.RR
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		switch rr.(type) {
		case *dns.DS, *dns.DNSKEY:
			out = append(out, rr)
		default:
			return nil, fmt.Errorf("resolver: %q is no DS or DNSKEY record (%v)", line, err)
		}
	}
	return out, nil
}

// validation is the way from an anchor to one answer (RFC 4035 §5).
type validation struct {
	anchors  []dns.RR
	at       time.Time
	ask      func(question) lookup
	verified int // signatures tried
	why      string
}

// validate records what DNSSEC says of an answer, where that is wanted. Absence is not validated: it moves a discovery on to the next
// place, and never makes a certificate usable.
func (d *discovery) validate(ctx context.Context, l lookup, parent int) {
	if !d.rules.Validate || len(l.rrs) == 0 || len(l.heard) == 0 {
		return
	}
	ctx, cancel := share(ctx, 2) // the rest is for the discovery itself
	defer cancel()
	v := &validation{anchors: d.out.trustAnchors(), at: d.res.Began, ask: func(q question) lookup {
		l := chase(q, func(q question) heard { return d.out.ask(ctx, q) })
		d.rec.lookup(l)
		d.take(l, parent)
		return l
	}}
	outcome := v.judge(l)
	d.step(Step{Parent: parent, Kind: KindDNSSEC, Question: l.question.String(), Outcome: outcome, Detail: v.why, Answers: v.verified})
}

// judge finds the signature of the records and the keys of its signer.
func (v *validation) judge(l lookup) string {
	msg := l.heard[len(l.heard)-1].msg
	sigs := signatures(msg.Answer, l.end, l.question.qtype)
	if len(sigs) == 0 {
		return v.unsigned(l.end)
	}
	signer := sigs[0].SignerName
	if !dns.IsSubDomain(signer, l.end) {
		return v.say(dnssecBogus, "the signer %s is not above %s", signer, l.end)
	}
	keys, outcome := v.keysOf(signer)
	if outcome != dnssecSecure {
		return outcome
	}
	if !v.holds(l.rrs, sigs, keys) {
		return v.say(dnssecBogus, "no signature of %s holds for %s", signer, l.question)
	}
	return v.say(dnssecSecure, "signed by %s", signer)
}

func (v *validation) say(outcome, format string, args ...any) string {
	v.why = fmt.Sprintf(format, args...)
	return outcome
}

// zones lists the names from an anchor's down to a name, the anchor's first.
func (v *validation) zones(name string) (anchor string, below []string) {
	best := -1
	for _, a := range v.anchors {
		owner := dns.CanonicalName(a.Header().Name)
		if n := dns.CountLabel(owner); n > best && dns.IsSubDomain(owner, name) {
			anchor, best = owner, n
		}
	}
	if best < 0 {
		return "", nil
	}
	labels := dns.SplitDomainName(dns.CanonicalName(name))
	for i := len(labels) - best - 1; i >= 0; i-- {
		below = append(below, dns.Fqdn(strings.Join(labels[i:], ".")))
	}
	return anchor, below
}

// keysOf walks from the anchor down to a zone, by DS and DNSKEY records (RFC 4035 §5.2).
func (v *validation) keysOf(zone string) ([]*dns.DNSKEY, string) {
	anchor, below := v.zones(zone)
	if anchor == "" {
		return nil, v.say(dnssecOpen, "no anchor is above %s", zone)
	}
	if len(below) > maxChain {
		return nil, v.say(dnssecOpen, "%s is more than %d labels below the anchor", zone, maxChain)
	}
	var ds []*dns.DS
	var pinned []*dns.DNSKEY
	for _, a := range v.anchors {
		if dns.CanonicalName(a.Header().Name) != anchor {
			continue
		}
		switch a := a.(type) {
		case *dns.DS:
			ds = append(ds, a)
		case *dns.DNSKEY:
			pinned = append(pinned, a)
		}
	}
	keys, outcome := v.zoneKeys(anchor, ds, pinned)
	for _, name := range below {
		if outcome != dnssecSecure {
			return nil, outcome
		}
		var cut bool
		if ds, cut, outcome = v.delegation(name, keys); outcome == dnssecSecure && cut {
			keys, outcome = v.zoneKeys(name, ds, nil)
		}
	}
	if outcome != dnssecSecure {
		return nil, outcome
	}
	return keys, dnssecSecure
}

// zoneKeys takes the keys of a zone, one of which must be the one that DS records or an anchor name and must sign them all.
func (v *validation) zoneKeys(zone string, ds []*dns.DS, pinned []*dns.DNSKEY) ([]*dns.DNSKEY, string) {
	l := v.ask(question{zone, dns.TypeDNSKEY})
	if l.err != nil || len(l.rrs) == 0 {
		return nil, v.say(dnssecOpen, "the keys of %s could not be had", zone)
	}
	var keys, entry []*dns.DNSKEY
	for _, rr := range l.rrs {
		k, ok := rr.(*dns.DNSKEY)
		if !ok || k.Flags&dns.ZONE == 0 || k.Protocol != 3 || len(keys) == maxZoneKeys {
			continue
		}
		keys = append(keys, k)
		if named(k, ds, pinned) {
			entry = append(entry, k)
		}
	}
	sigs := signatures(l.heard[len(l.heard)-1].msg.Answer, l.end, dns.TypeDNSKEY)
	if !v.holds(l.rrs, sigs, entry) {
		return nil, v.say(dnssecBogus, "no key of %s that its parent names signs its keys", zone)
	}
	return keys, dnssecSecure
}

// named tells whether DS records or an anchor name a key.
func named(k *dns.DNSKEY, ds []*dns.DS, pinned []*dns.DNSKEY) bool {
	for _, p := range pinned {
		if p.Algorithm == k.Algorithm && p.PublicKey == k.PublicKey {
			return true
		}
	}
	for _, d := range ds {
		if d.KeyTag != k.KeyTag() || d.Algorithm != k.Algorithm || d.DigestType == dns.SHA1 && len(ds) > 1 {
			continue // RFC 4509 §3: SHA-1 does not count where there is another digest
		}
		if made := k.ToDS(d.DigestType); made != nil && strings.EqualFold(made.Digest, d.Digest) {
			return true
		}
	}
	return false
}

// delegation asks the parent, whose keys are known, for the DS records of a name: a signed zone, an unsigned one, or no zone cut at all.
func (v *validation) delegation(name string, keys []*dns.DNSKEY) (ds []*dns.DS, cut bool, outcome string) {
	l := v.ask(question{name, dns.TypeDS})
	if l.err != nil || len(l.heard) == 0 {
		return nil, false, v.say(dnssecOpen, "the DS records of %s could not be had", name)
	}
	msg := l.heard[len(l.heard)-1].msg
	if len(l.rrs) == 0 {
		switch v.denies(msg, name, keys) {
		case denialDelegation:
			return nil, false, v.say(dnssecInsecure, "%s is delegated without DS records", name)
		case denialNoCut:
			return nil, false, dnssecSecure
		}
		return nil, false, v.say(dnssecOpen, "the absence of DS records of %s is not proven", name)
	}
	if !v.holds(l.rrs, signatures(msg.Answer, l.end, dns.TypeDS), keys) {
		return nil, false, v.say(dnssecBogus, "the DS records of %s are not signed by their zone", name)
	}
	for _, rr := range l.rrs {
		if d, ok := rr.(*dns.DS); ok {
			ds = append(ds, d)
		}
	}
	return ds, true, dnssecSecure
}

// The ways in which DS records can be absent.
type denial int

const (
	denialNone       denial = iota // not proven
	denialDelegation               // NS without DS: an unsigned zone begins
	denialNoCut                    // no NS: the zone goes on
)

// denies reads NSEC and NSEC3 records that match the name, or an opt-out span that covers it (RFC 4035 §5.4, RFC 5155 §8.6).
func (v *validation) denies(m *dns.Msg, name string, keys []*dns.DNSKEY) denial {
	for _, rr := range m.Ns {
		var types []uint16
		matched, optOut := false, false
		switch rr := rr.(type) {
		case *dns.NSEC:
			types, matched = rr.TypeBitMap, sameName(rr.Hdr.Name, name)
			if !matched && dns.IsSubDomain(name, rr.NextDomain) {
				types, matched = []uint16{}, true // an empty non-terminal
			}
		case *dns.NSEC3:
			types, matched = rr.TypeBitMap, rr.Iterations <= maxNSEC3Iterations && rr.Match(name)
			optOut = !matched && rr.Flags&1 == 1 && rr.Iterations <= maxNSEC3Iterations && rr.Cover(name)
		}
		if !matched && !optOut || !v.holds([]dns.RR{rr}, signatures(m.Ns, rr.Header().Name, rr.Header().Rrtype), keys) {
			continue
		}
		ns, soa, ds := false, false, false
		for _, t := range types {
			ns, soa, ds = ns || t == dns.TypeNS, soa || t == dns.TypeSOA, ds || t == dns.TypeDS
		}
		switch {
		case optOut, ns && !soa && !ds:
			return denialDelegation
		case !ns && !ds:
			return denialNoCut
		}
	}
	return denialNone
}

// maxNSEC3Iterations: RFC 9276 §3.2: more are not worth the hashing.
const maxNSEC3Iterations = 100

// unsigned tells whether records may be unsigned: the first zone cut on the way without DS records says so.
func (v *validation) unsigned(name string) string {
	if _, outcome := v.keysOf(name); outcome != dnssecSecure {
		return outcome
	}
	return v.say(dnssecBogus, "%s is in a signed zone and its records are not signed", name)
}

// signatures lists the RRSIG records over a set.
func signatures(section []dns.RR, name string, qtype uint16) []*dns.RRSIG {
	var out []*dns.RRSIG
	for _, rr := range section {
		if s, ok := rr.(*dns.RRSIG); ok && s.TypeCovered == qtype && sameName(s.Hdr.Name, name) {
			out = append(out, s)
		}
	}
	return out
}

// holds tells whether one of the signatures over a set is good with one of the keys (RFC 4035 §5.3).
func (v *validation) holds(set []dns.RR, sigs []*dns.RRSIG, keys []*dns.DNSKEY) bool {
	for _, s := range sigs {
		if !s.ValidityPeriod(v.at) {
			continue
		}
		for _, k := range keys {
			if s.KeyTag != k.KeyTag() || s.Algorithm != k.Algorithm || !sameName(s.SignerName, k.Hdr.Name) {
				continue
			}
			if v.verified++; v.verified > maxVerified {
				return false
			}
			if s.Verify(k, set) == nil {
				return true
			}
		}
	}
	return false
}
