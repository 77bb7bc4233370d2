package resolver

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
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

// answer is what the DNS says to a question, aliases followed. No records means absence.
type answer struct {
	rrs    []dns.RR // of the type asked for
	noName bool
	step   int // that gave it
}

// recorder takes the steps of a question.
type recorder func(Step) int

// query asks one question within the time for one question and follows aliases (RFC 1034 §3.6.2). The error is always temporary.
func (r *Resolver) query(ctx context.Context, record recorder, name string, qtype uint16) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	asked := name
	for aliases := 0; ; {
		m, step, err := r.ask(ctx, record, name, qtype)
		if err != nil {
			return answer{}, &LookupError{Name: asked, Type: dns.TypeToString[qtype], Detail: err.Error()}
		}
		rrs, target, n := follow(m, name, qtype)
		if aliases += n; aliases > maxAliases {
			return answer{}, &LookupError{Name: asked, Type: dns.TypeToString[qtype], Detail: fmt.Sprintf("more than %d aliases", maxAliases)}
		}
		// RFC 6604 §3: the response code belongs to the last name of the chain.
		if len(rrs) > 0 || n == 0 || m.Rcode == dns.RcodeNameError {
			return answer{rrs: rrs, noName: m.Rcode == dns.RcodeNameError, step: step}, nil
		}
		// The alias came alone, as from a server that is authoritative for it only.
		name = target
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

// attempt is one server by one transport.
type attempt struct {
	server  string
	network string
}

// plan lists the attempts in order: every server by the preferred transport, then by the other one, as some networks let only one of
// them pass.
func (r *Resolver) plan(name string) []attempt {
	networks := []string{"udp", "tcp"}
	if r.tcpFirst {
		networks = []string{"tcp", "udp"}
	}
	var out []attempt
	for _, network := range networks {
		for _, server := range r.serversFor(name) {
			out = append(out, attempt{server, network})
		}
	}
	return out
}

// ask puts the question to one server after the other until one answers. Every attempt gets an equal share of the time that is left,
// so that the last server is reached however many before it are silent. A server that spoke, if only to refuse, is not asked again.
func (r *Resolver) ask(ctx context.Context, record recorder, name string, qtype uint16) (*dns.Msg, int, error) {
	plan := r.plan(name)
	spoke := map[string]bool{}
	var failures []string
	for i, a := range plan {
		if spoke[a.server] {
			continue
		}
		m, step, err := r.attempt(ctx, record, a, name, qtype, 1+remaining(plan[i+1:], spoke))
		if errors.Is(err, errTruncated) {
			// RFC 7766 §5: what does not fit a datagram is asked for again by TCP, from the same server, at once.
			spoke[a.server] = true
			a.network = "tcp"
			m, step, err = r.attempt(ctx, record, a, name, qtype, 1+remaining(plan[i+1:], spoke))
		}
		if err == nil {
			return m, step, nil
		}
		var code *rcodeError
		spoke[a.server] = spoke[a.server] || errors.As(err, &code)
		failures = append(failures, fmt.Sprintf("%s by %s: %v", a.server, a.network, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, 0, errors.New(strings.Join(failures, "; "))
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

// attempt asks one server once, and once more without EDNS if the server does not know that (RFC 6891 §6.2.2).
func (r *Resolver) attempt(ctx context.Context, record recorder, a attempt, name string, qtype uint16, left int) (*dns.Msg, int, error) {
	ctx, cancel := share(ctx, left)
	defer cancel()
	q := new(dns.Msg)
	q.Id = dns.Id()
	q.RecursionDesired = true
	q.Question = []dns.Question{{Name: name, Qtype: qtype, Qclass: dns.ClassINET}}
	q.SetEdns0(ednsSize, false)

	m, step, err := r.exchange(ctx, record, a, q)
	var code *rcodeError
	if errors.As(err, &code) && (code.outcome == "formerr" || code.outcome == "notimp") {
		q.Extra = nil
		q.Id = dns.Id()
		return r.exchange(ctx, record, a, q)
	}
	return m, step, err
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
func (r *Resolver) exchange(ctx context.Context, record recorder, a attempt, q *dns.Msg) (*dns.Msg, int, error) {
	start := time.Now()
	m, err := roundTrip(ctx, a, q)
	switch {
	case err == nil:
		err = usable(m, a.network)
	case ctx.Err() != nil:
		err = ctx.Err() // the socket was closed under the read: the time was up
	}
	s := Step{
		Kind: "dns", Server: a.server, Transport: a.network, RTT: time.Since(start),
		Question: dns.TypeToString[q.Question[0].Qtype] + " " + q.Question[0].Name,
	}
	s.Outcome, s.Detail, s.Answers = outcomeOf(m, err, q.Question[0].Qtype)
	return m, record(s), err
}

// usable tells answers from responses that answer nothing. NOERROR and NXDOMAIN are answers; all else leaves it open whether the record
// exists.
func usable(m *dns.Msg, network string) error {
	switch {
	case m.Truncated && network == "udp":
		return errTruncated
	case m.Truncated:
		return &rcodeError{outcome: "error", detail: "truncated by TCP"}
	case m.Rcode == dns.RcodeNameError:
		return nil
	case m.Rcode != dns.RcodeSuccess:
		return &rcodeError{outcome: strings.ToLower(dns.RcodeToString[m.Rcode&0xfff])}
	case len(m.Answer) == 0 && isReferral(m):
		return &rcodeError{outcome: "referral", detail: "the server is neither recursive nor authoritative for the name"}
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
	var timeout net.Error
	switch {
	case errors.Is(err, errTruncated):
		return "truncated", "", 0
	case errors.As(err, &code):
		return code.outcome, code.detail, 0
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout", "", 0
	case errors.Is(err, context.Canceled):
		return "canceled", "", 0
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

// roundTrip sends one query over a socket of its own: a fresh source port, connected, so that the kernel drops datagrams from anybody
// but the server (RFC 5452 §9).
func roundTrip(ctx context.Context, a attempt, q *dns.Msg) (*dns.Msg, error) {
	wire, err := q.Pack()
	if err != nil {
		return nil, fmt.Errorf("question: %w", err)
	}
	conn, err := new(net.Dialer).DialContext(ctx, a.network, a.server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if a.network == "tcp" {
		return overTCP(conn, q, wire)
	}
	return overUDP(conn, q, wire)
}

func overUDP(conn net.Conn, q *dns.Msg, wire []byte) (*dns.Msg, error) {
	if _, err := conn.Write(wire); err != nil {
		return nil, err
	}
	buf := make([]byte, udpBuffer)
	for range maxStray {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		m, err := parseReply(buf[:n], q)
		if errors.Is(err, errStray) {
			continue // somebody guesses; the real answer may still come
		}
		return m, err
	}
	return nil, errStray
}

func overTCP(conn net.Conn, q *dns.Msg, wire []byte) (*dns.Msg, error) {
	// RFC 7766 §8: length and message in one segment.
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(wire)), uint16(len(wire)))
	if _, err := conn.Write(append(framed, wire...)); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	buf := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, buf); err != nil {
		return nil, err
	}
	m, err := parseReply(buf, q)
	if errors.Is(err, errTruncated) {
		return nil, &rcodeError{outcome: "error", detail: "the answer is not readable"}
	}
	return m, err
}

// parseReply holds a message against the question (RFC 5452 §9.1: identifier, name, type, class; RFC 1035 §7.3). errStray says that it
// is not the answer, errTruncated that it is, and cannot be read to its end.
func parseReply(wire []byte, q *dns.Msg) (*dns.Msg, error) {
	const headerSize, response = 12, 0x80
	if len(wire) < headerSize || binary.BigEndian.Uint16(wire) != q.Id || wire[2]&response == 0 {
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
	return m, nil
}

// sameName compares domain names without regard to case (RFC 1034 §3.1) and to how the text form escapes an octet: the DNS library
// writes o\'neil where an address has o'neil.
func sameName(a, b string) bool {
	if strings.EqualFold(a, b) {
		return true
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
