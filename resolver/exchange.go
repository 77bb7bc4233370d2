package resolver

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// exchange is one query and what came back, as it went over the network. A discovery is worked out of its exchanges alone, so that a
// record of them gives the same result again.
type exchange struct {
	Name      string        `json:"name"` // of the question, as it was asked for
	Type      uint16        `json:"type"`
	Server    string        `json:"server"`
	Transport string        `json:"transport"`
	Direct    bool          `json:"direct,omitempty"` // asked as a server of the zone, without recursion
	Query     []byte        `json:"query"`
	Reply     []byte        `json:"reply,omitempty"`
	Failure   string        `json:"failure,omitempty"` // timeout, canceled, or what the network said
	Sent      time.Time     `json:"sent,omitzero"`
	RTT       time.Duration `json:"rtt"`
	Resent    int           `json:"resent,omitempty"`
	Cached    bool          `json:"cached,omitempty"`
	Age       time.Duration `json:"age,omitempty"`

	// Worked out by judge.
	outcome       string
	detail        string
	answers       int
	authenticated bool // AD: the server says that it has validated
	authoritative bool // AA
}

var (
	errTruncated = errors.New("truncated")
	errStray     = errors.New("not an answer to the question")
)

// rcodeError is a response that answers nothing.
type rcodeError struct{ outcome, detail string }

func (e *rcodeError) Error() string {
	if e.detail != "" {
		return e.outcome + ", " + e.detail
	}
	return e.outcome
}

// failureError is what the network said.
type failureError string

func (e failureError) Error() string { return string(e) }

// judge works out what an exchange says. m and err are those of the reply if it was parsed before.
func (x *exchange) judge(q, m *dns.Msg, err error) (*dns.Msg, error) {
	switch {
	case x.Failure != "":
		m, err = nil, failureError(x.Failure)
	case m == nil && err == nil:
		m, err = parseReply(x.Reply, q, x.Transport)
	}
	if x.Failure == "" && x.Transport == "tcp" && (errors.Is(err, errTruncated) || errors.Is(err, errStray)) {
		err = &rcodeError{outcome: "error", detail: "the answer is not readable"}
	}
	if err == nil {
		err = usable(m, x.Transport, x.Direct)
	}
	if m != nil {
		x.authenticated, x.authoritative = m.AuthenticatedData, m.Authoritative
	}
	x.outcome, x.detail, x.answers = outcomeOf(m, err, x.Type)
	return m, err
}

// rejudge works out an exchange of a record, of which only the octets are believed.
func (x *exchange) rejudge() (*dns.Msg, error) {
	q := new(dns.Msg)
	if err := q.Unpack(x.Query); err != nil || len(q.Question) != 1 || !sameQuestion(x.question(), question{q.Question[0].Name, q.Question[0].Qtype}) {
		return nil, fmt.Errorf("the query of a recorded exchange with %s is not readable", x.Server)
	}
	m, err := x.judge(q, nil, nil)
	if err != nil {
		return nil, nil
	}
	return m, nil
}

// conclude makes of all exchanges for a question what is known of it: the answer is that of the last one, if it is for this question.
func conclude(q question, t tape) heard {
	h := heard{exchanges: t}
	x := h.last()
	if x != nil && x.settled() && sameQuestion(x.question(), q) {
		// The message was parsed once already; a second time keeps judge the only place that decides what a reply says.
		if m, err := x.rejudge(); err == nil && m != nil {
			h.msg = m
			h.certs = decodeCERT(m)
			return h
		}
	}
	var failures []string
	for i := range t {
		if x := &t[i]; !x.settled() && x.outcome != "truncated" {
			failures = append(failures, fmt.Sprintf("%s by %s: %s", x.Server, x.Transport, x.reason()))
		}
	}
	h.failure = strings.Join(failures, "; ")
	if h.failure == "" {
		h.failure = "nobody answered"
	}
	return h
}

func (x *exchange) question() question { return question{x.Name, x.Type} }

func sameQuestion(a, b question) bool { return a.qtype == b.qtype && sameName(a.name, b.name) }

// settled tells whether the exchange answers its question, be it with absence.
func (x *exchange) settled() bool {
	switch x.outcome {
	case "answer", "alias", "nodata", "nxdomain":
		return true
	}
	return false
}

func (x *exchange) reason() string {
	if x.detail != "" {
		return x.outcome + ", " + x.detail
	}
	return x.outcome
}

// decodeCERT decodes what CERT records hold, once for all who will look at them.
func decodeCERT(m *dns.Msg) map[dns.RR][]byte {
	var out map[dns.RR][]byte
	for _, rr := range m.Answer {
		if c, ok := rr.(*dns.CERT); ok {
			if out == nil {
				out = map[dns.RR][]byte{}
			}
			if data, err := base64.StdEncoding.DecodeString(c.Certificate); err == nil {
				out[rr] = data
			}
		}
	}
	return out
}

// parseReply holds a message against the question (RFC 5452 §9.1: identifier, name, type, class; RFC 1035 §7.3) and its cookie.
// errStray says that it is not the answer, errTruncated that it is, and cannot be read to its end.
func parseReply(wire []byte, q *dns.Msg, network string) (*dns.Msg, error) {
	const headerSize, response = 12, 0x80
	if len(wire) < headerSize || uint16(wire[0])<<8|uint16(wire[1]) != q.Id || wire[2]&response == 0 {
		return nil, errStray
	}
	m := new(dns.Msg)
	if err := m.Unpack(wire); err != nil {
		return nil, errTruncated
	}
	if m.Opcode != dns.OpcodeQuery {
		return nil, errStray
	}
	if len(m.Question) == 0 && m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return m, nil // a server that did not understand the question may leave it out
	}
	if len(m.Question) != 1 || !sameName(m.Question[0].Name, q.Question[0].Name) ||
		m.Question[0].Qtype != q.Question[0].Qtype || m.Question[0].Qclass != q.Question[0].Qclass {
		return nil, errStray
	}
	if err := checkCookie(q, m, network); err != nil {
		return nil, err
	}
	return m, nil
}

// usable tells answers from responses that answer nothing. NOERROR and NXDOMAIN are answers; all else leaves it open whether the record
// exists.
func usable(m *dns.Msg, network string, direct bool) error {
	switch {
	case m.Truncated && network == "udp":
		return errTruncated
	case m.Truncated:
		return &rcodeError{outcome: "error", detail: "truncated by TCP"}
	case m.Rcode == dns.RcodeNameError:
		return lame(m, direct)
	case m.Rcode != dns.RcodeSuccess:
		return &rcodeError{outcome: rcodeName(m.Rcode)}
	case len(m.Answer) == 0 && isReferral(m):
		return &rcodeError{outcome: "referral", detail: "the server is neither recursive nor authoritative for the name"}
	case len(m.Answer) == 0:
		return lame(m, direct)
	}
	return nil
}

func rcodeName(rcode int) string {
	if name, ok := dns.RcodeToString[rcode&0xfff]; ok {
		return strings.ToLower(name)
	}
	return fmt.Sprintf("rcode %d", rcode&0xfff)
}

// lame: a server that was asked as one of the zone's own knows of absence only if it is authoritative (RFC 1034 §4.3.1).
func lame(m *dns.Msg, direct bool) error {
	if direct && !m.Authoritative {
		return &rcodeError{outcome: "lame", detail: "the server is not authoritative for the name"}
	}
	return nil
}

// isReferral: a delegation instead of an answer (RFC 2308 §2.2). A negative answer carries SOA, or comes from a server that recurses.
func isReferral(m *dns.Msg) bool {
	if m.Authoritative || m.RecursionAvailable {
		return false
	}
	ns := false
	for _, rr := range m.Ns {
		switch rr.Header().Rrtype {
		case dns.TypeSOA:
			return false
		case dns.TypeNS:
			ns = true
		}
	}
	return ns
}

func outcomeOf(m *dns.Msg, err error, qtype uint16) (outcome, detail string, answers int) {
	var code *rcodeError
	var failure failureError
	switch {
	case errors.Is(err, errTruncated):
		return "truncated", "", 0
	case errors.Is(err, errNoCookie):
		return "no_cookie", err.Error(), 0
	case errors.As(err, &code):
		return code.outcome, code.detail, 0
	case errors.As(err, &failure) && (failure == "timeout" || failure == "canceled"):
		return string(failure), "", 0
	case err != nil:
		return "unreachable", err.Error(), 0
	case m.Rcode == dns.RcodeNameError:
		return "nxdomain", "", 0
	}
	alias := false
	for _, rr := range m.Answer {
		if rr.Header().Rrtype == qtype {
			answers++
		}
		alias = alias || rr.Header().Rrtype == dns.TypeCNAME
	}
	switch {
	case answers > 0:
		return "answer", "", answers
	case alias:
		return "alias", "", 0
	}
	return "nodata", "", 0
}

// sameName compares domain names without regard to case (RFC 1034 §3.1) and to how the text form escapes an octet: the DNS library
// writes o\'neil where an address has o'neil.
func sameName(a, b string) bool {
	if strings.EqualFold(a, b) {
		return true
	}
	if !strings.Contains(a, `\`) && !strings.Contains(b, `\`) {
		return false
	}
	const longest = 255
	wireA, wireB := make([]byte, longest+1), make([]byte, longest+1)
	endA, errA := dns.PackDomainName(a, wireA, 0, nil, false)
	endB, errB := dns.PackDomainName(b, wireB, 0, nil, false)
	return errA == nil && errB == nil && bytes.Equal(lowerASCII(wireA[:endA]), lowerASCII(wireB[:endB]))
}

func lowerASCII(b []byte) []byte {
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return b
}
