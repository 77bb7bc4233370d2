package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// LookupError is the error of every question to the DNS.
type LookupError struct {
	Name   string
	Type   string
	Detail string

	kind lookupKind
}

type lookupKind int

const (
	lookupTemporary lookupKind = iota // zero value: when in doubt, ask again
	lookupNoData
	lookupNoName
	lookupNullMX
)

func (e *LookupError) Error() string { return fmt.Sprintf("%s %s: %s", e.Type, e.Name, e.Detail) }

// Temporary: nobody gave an answer; asking again later may help.
func (e *LookupError) Temporary() bool { return e.kind == lookupTemporary }

// NotFound: the DNS says that there is no such record, be it for want of the name or of the type.
func (e *LookupError) NotFound() bool { return e.kind == lookupNoData || e.kind == lookupNoName }

// NoSuchName: the DNS says that the name itself does not exist (NXDOMAIN), which also rules out every other type.
func (e *LookupError) NoSuchName() bool { return e.kind == lookupNoName }

// NullMX: the domain says that it takes no mail (RFC 7505).
func (e *LookupError) NullMX() bool { return e.kind == lookupNullMX }

// question is a name in the form of zone files, absolute, and a type.
type question struct {
	name  string
	qtype uint16
}

func (q question) String() string { return dns.TypeToString[q.qtype] + " " + q.name }

// key is the form under which questions are one: names do not depend on case (RFC 1034 §3.1).
func (q question) key() string { return dns.TypeToString[q.qtype] + " " + strings.ToLower(q.name) }

// heard is what came of one question to the DNS: everything that was sent and received for it, and the message that answers it.
type heard struct {
	exchanges []exchange
	msg       *dns.Msg          // nil where nobody answered
	certs     map[dns.RR][]byte // contents of the CERT records in msg, decoded once
	failure   string            // why nobody answered
}

// last is the exchange that gave the answer.
func (h *heard) last() *exchange {
	if len(h.exchanges) == 0 {
		return nil
	}
	return &h.exchanges[len(h.exchanges)-1]
}

// lookup is an answer with aliases followed. No records and no error mean absence.
type lookup struct {
	question question
	heard    []heard // one, and one more for each alias that came alone
	rrs      []dns.RR
	end      string // the name that the aliases lead to
	noName   bool
	err      *LookupError // always temporary
}

// source is the exchange that gave the answer.
func (l *lookup) source() *exchange {
	if len(l.heard) == 0 {
		return nil
	}
	return l.heard[len(l.heard)-1].last()
}

// chase asks a question and follows aliases (RFC 1034 §3.6.2).
func chase(q question, ask func(question) heard) lookup {
	l := lookup{question: q, end: q.name}
	fail := func(detail string) lookup {
		l.rrs, l.err = nil, &LookupError{Name: q.name, Type: dns.TypeToString[q.qtype], Detail: detail}
		return l
	}
	for aliases := 0; ; {
		h := ask(question{l.end, q.qtype})
		l.heard = append(l.heard, h)
		if h.msg == nil {
			return fail(h.failure)
		}
		rrs, target, n := follow(h.msg, l.end, q.qtype)
		if aliases += n; aliases > maxAliases {
			return fail(fmt.Sprintf("more than %d aliases", maxAliases))
		}
		// RFC 6604 §3: the response code belongs to the last name of the chain.
		if len(rrs) > 0 || n == 0 || h.msg.Rcode == dns.RcodeNameError {
			l.rrs, l.end, l.noName = rrs, target, h.msg.Rcode == dns.RcodeNameError
			return l
		}
		// The alias came alone, as from a server that is authoritative for it only.
		l.end = target
	}
}

// follow walks the aliases inside one answer, from name to where they end, and takes the records there.
func follow(m *dns.Msg, name string, qtype uint16) (rrs []dns.RR, end string, aliases int) {
	end = name
	for aliases <= maxAliases {
		next := ""
		for _, rr := range m.Answer {
			h := rr.Header()
			if h.Class != dns.ClassINET || !sameName(h.Name, end) {
				continue
			}
			if h.Rrtype == qtype {
				rrs = append(rrs, rr)
			} else if c, ok := rr.(*dns.CNAME); ok && next == "" {
				next = c.Target
			}
		}
		if len(rrs) > 0 || next == "" {
			return rrs, end, aliases
		}
		end = next
		aliases++
	}
	return nil, end, aliases
}

// lookup is a question that belongs to no discovery.
func (r *Resolver) lookup(ctx context.Context, name string, qtype uint16) lookup {
	return chase(question{name, qtype}, func(q question) heard { return r.ask(ctx, q) })
}

// ask gives what is known of a question, else what the servers say. Those who ask the same at the same time share one answer.
func (r *Resolver) ask(ctx context.Context, q question) heard {
	h, from, err := r.answers.do(ctx, q.key(), func(ctx context.Context) (heard, kept) {
		h := r.askServers(ctx, q)
		return h, h.keep()
	})
	switch {
	case err != nil:
		return heard{failure: outOfTime}
	case from.cached:
		return h.remembered(from.age)
	}
	return h
}

// outOfTime is the failure of what was still waited for when the time for the whole discovery was up.
const outOfTime = "the time for one discovery was used up before an answer came"

// remembered is an answer out of the cache: nobody was asked, and nothing went over the network.
func (h heard) remembered(age time.Duration) heard {
	x := *h.last()
	x.Cached, x.Age, x.RTT, x.Resent, x.Sent = true, age, 0, 0, time.Time{}
	h.exchanges = []exchange{x}
	return h
}

// keep says for how long an answer may be believed: the shortest time of its records, for absence that of the SOA record (RFC 2308 §5).
// Absence without a SOA record and failures are not remembered.
func (h *heard) keep() kept {
	if h.msg == nil {
		return kept{}
	}
	const day = 24 * 60 * 60
	ttl, positive := uint32(day), false
	for _, rr := range h.msg.Answer {
		ttl = min(ttl, validTTL(rr.Header().Ttl))
		positive = positive || rr.Header().Rrtype != dns.TypeCNAME
	}
	if !positive || h.msg.Rcode == dns.RcodeNameError {
		negative := uint32(0)
		for _, rr := range h.msg.Ns {
			if soa, ok := rr.(*dns.SOA); ok {
				negative = min(validTTL(soa.Hdr.Ttl), validTTL(soa.Minttl), maxNegativeTTL)
				break
			}
		}
		if len(h.msg.Answer) == 0 || h.msg.Rcode == dns.RcodeNameError {
			ttl = min(ttl, negative)
		}
	}
	x := h.last()
	// Parsed, a record takes about as much again as on the wire, a certificate twice: in Base64 and decoded.
	return kept{cost: len(x.Query) + 4*len(x.Reply), ttl: time.Duration(ttl) * time.Second}
}

// validTTL: RFC 2181 §8: a value with the top bit set is 0.
func validTTL(ttl uint32) uint32 {
	if ttl > 1<<31-1 {
		return 0
	}
	return ttl
}

// attempt is one server by one transport.
type attempt struct {
	server  string
	network string
	direct  bool // a server that is authoritative for the name: no recursion is asked for
}

// plan lists the attempts in order: every server by the preferred transport, the fastest first, then by the other transport, as some
// networks let only one of them pass.
func (r *Resolver) plan(servers []string, direct bool) []attempt {
	servers = r.book.order(servers, time.Now())
	networks := []string{"udp", "tcp"}
	if r.tcpFirst {
		networks = []string{"tcp", "udp"}
	}
	out := make([]attempt, 0, 2*len(servers))
	for _, network := range networks {
		for _, server := range servers {
			out = append(out, attempt{server, network, direct})
		}
	}
	return out
}

// askServers puts the question to the servers of its domain and, where they give nothing and it is wanted, to those of the zone itself.
func (r *Resolver) askServers(ctx context.Context, q question) heard {
	var t tape
	asking, cancel := context.WithTimeout(ctx, r.timeout)
	r.askOneOf(asking, &t, r.serversFor(q.name), false, q)
	cancel()
	h := conclude(q, t)
	if !r.direct.wanted(h) {
		return h
	}
	ctx, cancel = context.WithTimeout(ctx, r.timeout)
	defer cancel()
	before := len(t)
	r.walk(ctx, &t, q)
	if len(t) == before {
		return h
	}
	if walked := conclude(q, t); walked.msg != nil || h.msg == nil {
		return walked
	}
	return h
}

// tape holds exchanges in the order in which they ended.
type tape []exchange

// askOneOf puts the question to one server after the other until one answers. Every attempt gets an equal share of the time that is
// left, so that the last server is reached however many before it are silent. A server that spoke, if only to refuse, is not asked
// again. The message is that of the last exchange.
func (r *Resolver) askOneOf(ctx context.Context, t *tape, servers []string, direct bool, q question) (*dns.Msg, error) {
	plan := r.plan(servers, direct)
	spoke := map[string]bool{}
	var m *dns.Msg
	err := errors.New("there is no server to ask")
	for i, a := range plan {
		if spoke[a.server] {
			continue
		}
		m, err = r.attempt(ctx, t, a, q, 1+remaining(plan[i+1:], spoke))
		if errors.Is(err, errTruncated) || errors.Is(err, errNoCookie) {
			// RFC 7766 §5: what does not fit a datagram is asked for again by TCP, from the same server, at once.
			spoke[a.server] = true
			a.network = "tcp"
			m, err = r.attempt(ctx, t, a, q, 1+remaining(plan[i+1:], spoke))
		}
		if err == nil {
			return m, nil
		}
		var code *rcodeError
		spoke[a.server] = spoke[a.server] || errors.As(err, &code)
		if ctx.Err() != nil {
			break
		}
	}
	return m, err
}

// remaining counts the attempts that are still to be made.
func remaining(plan []attempt, spoke map[string]bool) int {
	n := 0
	for _, a := range plan {
		if !spoke[a.server] {
			n++
		}
	}
	return n
}

// attempt asks one server, and once more where the server wants it asked in another way.
func (r *Resolver) attempt(ctx context.Context, t *tape, a attempt, q question, left int) (*dns.Msg, error) {
	ctx, cancel := share(ctx, left)
	defer cancel()
	edns, cookies := true, 0
	for {
		m, err := r.exchange(ctx, t, a, q, edns)
		var code *rcodeError
		switch {
		case !errors.As(err, &code):
			return m, err
		case edns && (code.outcome == "formerr" || code.outcome == "notimp"):
			edns = false // RFC 6891 §6.2.2: a server that does not know EDNS
		case code.outcome == "badcookie" && cookies == 0 && a.network == "udp":
			cookies++ // RFC 7873 §5.3: the answer brought the cookie to use
		case code.outcome == "badcookie" && a.network == "udp":
			a.network = "tcp"
		default:
			return m, err
		}
	}
}

// share gives one of left equal parts of the time that the context still has.
func share(ctx context.Context, left int) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || left < 2 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(deadline)/time.Duration(left))
}

// exchange sends one query and records what came of it.
func (r *Resolver) exchange(ctx context.Context, t *tape, a attempt, q question, edns bool) (*dns.Msg, error) {
	msg := r.query(q, a, edns)
	x := exchange{Name: q.name, Type: q.qtype, Server: a.server, Transport: a.network, Direct: a.direct, Sent: time.Now()}
	m, err := r.roundTrip(ctx, a, msg, &x)
	x.RTT = time.Since(x.Sent)
	switch {
	case err == nil || x.Reply != nil:
		r.book.heard(a.server, x.RTT)
		if err == nil {
			r.book.learn(a.server, msg, m)
		} else if errors.Is(err, errNoCookie) {
			r.book.forget(a.server)
		}
	case ctx.Err() != nil:
		x.Failure = failureOf(ctx.Err()) // the socket was closed under the read: the time was up
		r.book.failed(a.server, time.Now())
	default:
		x.Failure = failureOf(err)
		r.book.failed(a.server, time.Now())
	}
	m, err = x.judge(msg, m, err)
	*t = append(*t, x)
	return m, err
}

// query is the message for a question.
func (r *Resolver) query(q question, a attempt, edns bool) *dns.Msg {
	m := new(dns.Msg)
	m.Id = dns.Id()
	m.RecursionDesired = !a.direct
	m.AuthenticatedData = true // RFC 6840 §5.7: say whether you have validated
	m.Question = []dns.Question{{Name: q.name, Qtype: q.qtype, Qclass: dns.ClassINET}}
	if edns {
		m.SetEdns0(ednsSize, r.validates())
	}
	return m
}

// failureOf is the text of an error of the network in a record.
func failureOf(err error) string {
	var network net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "timeout"
	case errors.Is(err, context.Canceled):
		return "canceled"
	}
	return err.Error()
}
