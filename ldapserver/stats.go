package ldapserver

import "sync/atomic"

// denial is a limit that keeps a client from what it wants.
type denial int

const (
	overNothing     denial = iota
	overRate               // too many searches
	overMisses             // too many that found nothing
	overPerAddress         // too many connections of one address
	overConnections        // too many connections
	notNamed               // the search names no address
	tooComplex             // a limit on what one request may ask
	denials
)

// denialNames are the labels of Stats.Denied.
var denialNames = [denials]string{overRate: "rate", overMisses: "misses", overPerAddress: "per_address",
	overConnections: "connections", notNamed: "listing", tooComplex: "complexity"}

// outcome is what became of a search.
type outcome int

const (
	found   outcome = iota
	absent          // success without entries, or no such object
	limited         // a size or time limit cut the answer
	denied          // see Stats.Denied
	failed          // anything else: malformed requests, unknown controls
	outcomes
)

// outcomeNames are the labels of Stats.Searches.
var outcomeNames = [outcomes]string{found: "found", absent: "absent", limited: "limited", denied: "denied", failed: "failed"}

// Stats are figures since the start.
type Stats struct {
	Open     int               // connections now
	Accepted uint64            // connections
	Results  map[int]uint64    // requests by LDAP result code
	Searches map[string]uint64 // found, absent, limited, denied, failed
	Denied   map[string]uint64 // what was denied, by reason: rate, misses, per_address, connections, listing, complexity
}

// Stats gives the figures.
func (s *Server) Stats() Stats {
	st := Stats{Results: s.Results(), Searches: map[string]uint64{}, Denied: map[string]uint64{}}
	st.Open, st.Accepted = s.slots.figures()
	for o, name := range outcomeNames {
		st.Searches[name] = s.counts.searches[o].Load()
	}
	for d := overRate; d < denials; d++ {
		st.Denied[denialNames[d]] = s.counts.denied[d].Load()
	}
	return st
}

// Results gives how many requests ended with each LDAP result code since the
// start; codes that did not occur are absent.
func (s *Server) Results() map[int]uint64 {
	list := map[int]uint64{}
	for code := range s.counts.results {
		if n := s.counts.results[code].Load(); n > 0 {
			list[code] = n
		}
	}
	return list
}

// maxResult is the highest result code that is counted by itself.
const maxResult = int(cannotCancel)

// counts are the counters behind Stats.
type counts struct {
	results  [maxResult + 1]atomic.Uint64
	searches [outcomes]atomic.Uint64
	denied   [denials]atomic.Uint64
}

func (c *counts) result(code resultCode) { c.results[min(int(code), maxResult)].Add(1) }

// request counts a request that was served.
func (c *counts) request(q *request, code resultCode) {
	c.result(code)
	if code == adminLimitExceeded {
		c.denied[tooComplex].Add(1)
	}
	if q.op.name == "search" {
		c.searches[outcomeOf(q, code)].Add(1)
	}
}

func outcomeOf(q *request, code resultCode) outcome {
	switch code {
	case success:
		if q.entries > 0 || q.paged.asked {
			return found
		}
		return absent
	case noSuchObject:
		return absent
	case sizeLimitExceeded, timeLimitExceeded:
		return limited
	case busy, unwillingToPerform, adminLimitExceeded:
		return denied
	}
	return failed
}
