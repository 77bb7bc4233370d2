package dnsserver

import (
	"net/netip"
	"sync/atomic"

	"github.com/miekg/dns"

	"directnode/zones"
)

// counter names one figure that a Server counts.
type counter uint8

const (
	countUDP counter = iota
	countTCP
	countSilent
	countAnswer
	countReferral
	countNoData
	countNXDomain
	countFormErr
	countServFail
	countNotImp
	countRefused
	countNotAuth
	countBadVers
	countBadCookie
	countCookieOnly
	countTooLarge
	countNeedsProof
	countTooMany
	countCookieAbsent // the order of the next is that of cookieState
	countCookieClient
	countCookieForeign
	countCookieStale
	countCookieValid
	countSuspects
	countNotify
	countTransfer
	countTypes // the first of typeNames
	counters   = countTypes + typeClasses
)

// Words for the figures, as they stand in Stats.
var (
	resultNames = map[counter]string{
		countAnswer: "answer", countReferral: "referral", countNoData: "nodata", countNXDomain: "nxdomain", countFormErr: "formerr", countServFail: "servfail",
		countNotImp: "notimp", countRefused: "refused", countNotAuth: "notauth", countNotify: "notify", countTransfer: "transfer", countBadVers: "badvers", countBadCookie: "badcookie", countCookieOnly: "cookie",
	}
	truncationNames = map[counter]string{countTooLarge: "size", countNeedsProof: "proof", countTooMany: "rate"}
	cookieNames     = [...]string{cookieAbsent: "absent", cookieClient: "client", cookieForeign: "foreign", cookieStale: "stale", cookieValid: "valid"}
)

// typeClasses counts the types that figures tell apart: those that discovery
// and mail ask for, those that attackers like, and the rest.
const typeClasses = 12

// typeNames are their names, in the order of their counters.
var typeNames = [typeClasses]string{"other", "a", "aaaa", "any", "cert", "dnskey", "ds", "mx", "ns", "soa", "srv", "txt"}

// typeClass is the place of a type in typeNames.
func typeClass(qtype uint16) counter {
	switch qtype {
	case dns.TypeA:
		return 1
	case dns.TypeAAAA:
		return 2
	case dns.TypeANY:
		return 3
	case dns.TypeCERT:
		return 4
	case dns.TypeDNSKEY:
		return 5
	case dns.TypeDS:
		return 6
	case dns.TypeMX:
		return 7
	case dns.TypeNS:
		return 8
	case dns.TypeSOA:
		return 9
	case dns.TypeSRV:
		return 10
	case dns.TypeTXT:
		return 11
	}
	return 0
}

// tally is what one reader has counted since it last told the Server: plain
// numbers, so that readers do not fight for cache lines at every query.
type tally [counters]uint64

// totals is what all have counted.
type totals [counters]atomic.Uint64

// add takes a tally over and empties it.
func (t *totals) add(from *tally) {
	for i := range from {
		if from[i] != 0 {
			t[i].Add(from[i])
			from[i] = 0
		}
	}
}

// count counts an answer that is finished.
func (t *tally) count(s *solver) {
	if s.t.TCP {
		t[countTCP]++
	} else {
		t[countUDP]++
	}
	t[s.result()]++
	t[countTypes+typeClass(s.q.qtype)]++
	t[countCookieAbsent+counter(s.q.cookie)]++
	switch s.cut {
	case tooLarge:
		t[countTooLarge]++
	case needsProof:
		t[countNeedsProof]++
	case tooMany:
		t[countTooMany]++
	}
}

// result is what became of a query; a truncated one counts as what it would
// have been.
func (s *solver) result() counter {
	switch s.rcode {
	case dns.RcodeFormatError:
		return countFormErr
	case dns.RcodeServerFailure:
		return countServFail
	case dns.RcodeNotImplemented:
		return countNotImp
	case dns.RcodeRefused:
		return countRefused
	case dns.RcodeNotAuth:
		return countNotAuth
	case dns.RcodeBadVers:
		return countBadVers
	case dns.RcodeBadCookie:
		return countBadCookie
	}
	switch {
	case s.notified != "":
		return countNotify
	case s.q.qtype == dns.TypeIXFR:
		return countTransfer
	}
	switch s.got.Kind {
	case zones.NXDomain:
		return countNXDomain
	case zones.NoData:
		return countNoData
	case zones.Referral:
		return countReferral
	case 0:
		return countCookieOnly
	}
	return countAnswer
}

// Stats is what a Server has done since it was made.
type Stats struct {
	UDP, TCP uint64 // queries answered
	Silent   uint64 // packets that are no query

	// Types counts the answers by the type that was asked for, in lower case;
	// "other" are all types that Direct and its attackers have no use for.
	Types map[string]uint64
	// Results counts the answers by what they say: answer, referral, nodata,
	// nxdomain, cookie (no question), notify, transfer, and the errors formerr,
	// servfail, notimp, refused, notauth, badvers, badcookie.
	Results map[string]uint64
	// Truncated counts answers with TC by the reason: size, proof (the address
	// must be proved first), rate (the address or its network is over its share).
	Truncated map[string]uint64
	// Cookies counts queries by what their cookie is worth: absent, client
	// (without a server cookie), foreign, stale, valid.
	Cookies map[string]uint64

	// Connections by TCP that are open, that were refused for a limit, and that
	// had to make room for another.
	Open             int
	Refused, Evicted uint64

	// SuspectsSeen counts how often a network has become one of Suspects, which
	// are those that ask for many different names that do not exist, the most
	// eager first. Over UDP the address may be somebody else's.
	SuspectsSeen uint64
	Suspects     []Suspect
}

// Suspect is a network that may be working through a dictionary of names.
type Suspect struct {
	Network netip.Prefix
	Misses  uint64 // NXDOMAIN answers in its present window
}

// Stats gives the figures of now.
func (s *Server) Stats() Stats {
	get := func(c counter) uint64 { return s.totals[c].Load() }
	named := func(names map[counter]string) map[string]uint64 {
		m := make(map[string]uint64, len(names))
		for c, name := range names {
			m[name] = get(c)
		}
		return m
	}
	cookies := make(map[string]uint64, len(cookieNames))
	for i, name := range cookieNames {
		cookies[name] = get(countCookieAbsent + counter(i))
	}
	types := make(map[string]uint64, typeClasses)
	for i, name := range typeNames {
		types[name] = get(countTypes + counter(i))
	}
	open, refused, evicted := s.conns.figures()
	return Stats{
		Types: types, Open: open, Refused: refused, Evicted: evicted,
		UDP: get(countUDP), TCP: get(countTCP), Silent: get(countSilent),
		Results: named(resultNames), Truncated: named(truncationNames), Cookies: cookies,
		SuspectsSeen: get(countSuspects), Suspects: s.misses.suspects(),
	}
}
