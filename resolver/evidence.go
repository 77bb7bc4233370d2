package resolver

import (
	"fmt"
	"strings"
	"time"

	"directnode/internal/direct"
	"directnode/resolver/trust"
)

// The kinds of steps.
const (
	KindDNS    = "dns"    // a question to a name server
	KindLDAP   = "ldap"   // a connection, bind or search at a directory
	KindFetch  = "fetch"  // a certificate fetched from a URL in a CERT record
	KindDNSSEC = "dnssec" // what our own validation of an answer says; never decides
)

// The places where a certificate may have been found.
const (
	SourceDNSAddress  = "dns-address"
	SourceDNSDomain   = "dns-domain"
	SourceLDAPAddress = "ldap-address"
	SourceLDAPDomain  = "ldap-domain"
)

// The outcomes of a discovery.
const (
	OutcomeFound     = "found"
	OutcomeNotFound  = "not_found"
	OutcomeTemporary = "temporary"
)

// Step is one thing that was asked, or on purpose was not. Steps stand in the order of the discovery's rules, which is not always the
// order in time: what the order allows is asked at once.
type Step struct {
	N             int
	Parent        int    // the step that made this one necessary; 0 = none
	Kind          string // one of the kinds
	Server        string // host:port; empty if nobody was asked
	Question      string
	Transport     string        // udp or tcp
	Start         time.Duration // since the discovery began; 0 for what came from the cache
	RTT           time.Duration
	Outcome       string // answer nodata nxdomain truncated alias servfail refused timeout unreachable error not_asked not_needed …
	Detail        string
	Answers       int
	Octets        int           // of the reply
	Authenticated bool          // AD: the name server says that it has validated the answer (RFC 4035 §3.2.3)
	Cached        bool          // nobody was asked: the answer was known
	Age           time.Duration // of a cached answer
}

// Found is one certificate, or in Result.Skipped a value that is none.
type Found struct {
	DER    []byte
	Source string
	Step   int
	Err    error // why a skipped value cannot be used; nil for a certificate
}

// Result is everything that one discovery saw.
type Result struct {
	Address direct.Address // that was asked for
	Subject direct.Address // that the certificates were looked up for: Address, or Address without its tag where policy drops it
	Outcome string
	Source  string  // of what was found
	Found   []Found // every certificate of the first place that holds any, good or bad
	Skipped []Found // values on the way that are no certificates
	Steps   []Step
	Detail  string // why the outcome is what it is, if nothing was found
	Began   time.Time
	Elapsed time.Duration
}

// Certificates lists the DER of what was found, for trust.Question.
func (r Result) Certificates() [][]byte {
	var out [][]byte
	for _, f := range r.Found {
		out = append(out, f.DER)
	}
	return out
}

// Refusal says why nothing was found: absence or a temporary fault. It is nil if something was.
func (r Result) Refusal() *trust.Refusal {
	switch r.Outcome {
	case OutcomeFound:
		return nil
	case OutcomeNotFound:
		return &trust.Refusal{Check: "discovery", Citation: "AS 2.3", Detail: r.Detail, Kind: trust.NotFound}
	}
	return &trust.Refusal{Check: "discovery", Citation: "AS 2.3", Detail: r.Detail, Kind: trust.TemporaryFault}
}

// step records and numbers.
func (d *discovery) step(s Step) int {
	s.N = len(d.res.Steps) + 1
	s.Question, s.Detail = shorten(s.Question), shorten(s.Detail)
	d.res.Steps = append(d.res.Steps, s)
	return s.N
}

// since is the time of a step on the clock of the discovery.
func (d *discovery) since(sent time.Time) time.Duration {
	if sent.IsZero() || sent.Before(d.res.Began) {
		return 0 // from the cache, or asked by somebody else a little earlier
	}
	return sent.Sub(d.res.Began)
}

// stepOf is the step of one exchange with a name server.
func (d *discovery) stepOf(x *exchange, parent int) Step {
	s := Step{
		Parent: parent, Kind: KindDNS, Server: x.Server, Transport: x.Transport, Question: x.question().String(), Start: d.since(x.Sent), RTT: x.RTT,
		Outcome: x.outcome, Detail: x.detail, Answers: x.answers, Octets: len(x.Reply), Authenticated: x.authenticated, Cached: x.Cached, Age: x.Age,
	}
	if x.Resent > 0 {
		s.Detail = join(s.Detail, fmt.Sprintf("sent again %d times", x.Resent))
	}
	if x.Direct {
		s.Detail = join(s.Detail, "asked directly")
	}
	return s
}

// take records the steps of a look-up and gives the number of the last one, 0 if there is none.
func (d *discovery) take(l lookup, parent int) int {
	last := 0
	for _, h := range l.heard {
		for i := range h.exchanges {
			last = d.step(d.stepOf(&h.exchanges[i], parent))
		}
		if len(h.exchanges) == 0 && h.msg == nil {
			last = d.step(Step{Parent: parent, Kind: KindDNS, Question: l.question.String(), Outcome: "timeout", Detail: h.failure})
		}
	}
	return last
}

// note adds to the detail of a step, once.
func (d *discovery) note(step int, text string) {
	if step < 1 {
		return
	}
	s := &d.res.Steps[step-1]
	if !strings.Contains(s.Detail, text) {
		s.Detail = shorten(join(s.Detail, text))
	}
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

// shorten bounds what a server said: it goes to logs, reports and replies, and may be a megabyte.
func shorten(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + "…"
}
