package resolver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"directnode/internal/direct"

	"github.com/go-ldap/ldap/v3"
	"github.com/miekg/dns"
)

// directories asks the servers of the SRV records, one after the other: at each the address over all naming contexts, then the domain.
// The first server that holds a certificate ends the search; one that is silent, refuses or holds none does not.
func (d *discovery) directories(ctx context.Context, l lookup) string {
	step := d.take(l, 0)
	if l.err != nil {
		return d.temporary(l.err.Error())
	}
	d.validate(ctx, l, step)
	servers := d.targets(l.rrs)
	if len(servers) == 0 {
		d.note(step, "the domain names no LDAP server")
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, d.rules.Timeout)
	defer cancel()
	// The addresses of all servers are asked for at once; whether a later one is needed shows only when an earlier one has failed.
	// One host with several servers is asked for once.
	pending := map[string]addresses{}
	for _, s := range servers {
		if _, begun := pending[strings.ToLower(s.host)]; !begun {
			pending[strings.ToLower(s.host)] = d.beginAddresses(ctx, s.host)
		}
	}
	var unknown []string // servers that might have held one
	for i, s := range servers {
		if err := d.ldapServer(ctx, s, pending[strings.ToLower(s.host)], len(servers)-i); err != nil {
			unknown = append(unknown, shorten(fmt.Sprintf("%s: %v", s, err)))
		}
		if len(d.res.Found) > 0 {
			return OutcomeFound
		}
	}
	if len(unknown) > 0 {
		return d.temporary("LDAP: " + strings.Join(unknown, "; "))
	}
	return ""
}

// addresses are the look-ups of a host's addresses of both kinds.
type addresses struct{ four, six *pending }

func (d *discovery) beginAddresses(ctx context.Context, host string) addresses {
	return addresses{d.beginLookup(ctx, question{host, dns.TypeA}), d.beginLookup(ctx, question{host, dns.TypeAAAA})}
}

// ldapServer asks one server within its share of the time: at its IPv4 addresses, and where none of them answers at the IPv6 ones,
// which are not waited for before. The error says that the server could not be asked to the end; a host that does not exist is no
// error, as it holds nothing.
func (d *discovery) ldapServer(ctx context.Context, s target, a addresses, left int) error {
	ctx, cancel := share(ctx, left)
	defer cancel()
	reached := false
	var failed error
	ask := func(hosts []host, spare int) error {
		if len(hosts) == 0 {
			return nil
		}
		l := d.out.directory(ctx, s, hosts, d.res.Subject, spare)
		d.rec.session(s, l)
		connected, err := d.takeSession(l)
		reached = reached || connected
		return err
	}
	four, err := d.addressesOf(ctx, s, a.four)
	failed = err
	if err == nil && four.noName {
		d.step(Step{Kind: KindLDAP, Server: s.String(), Question: "connect", Outcome: "unreachable", Detail: "the host has no address"})
		return nil
	}
	if err == nil {
		failed = ask(four.hosts, 1)
	}
	if reached {
		return failed
	}
	six, err := d.addressesOf(ctx, s, a.six)
	switch {
	case err != nil:
		return cmp.Or(failed, err)
	case len(six.hosts) > 0:
		// What a server with addresses of both kinds says counts, by whichever it was reached.
		if err := ask(six.hosts, 0); err != nil || reached {
			return err
		}
	case failed == nil && !four.any && !six.any:
		d.step(Step{Kind: KindLDAP, Server: s.String(), Question: "connect", Outcome: "unreachable", Detail: "the host has no address"})
	}
	return failed
}

// hostAddresses are the addresses of one kind that may be connected to.
type hostAddresses struct {
	hosts  []host
	any    bool // the host has addresses of this kind
	noName bool
}

// addressesOf waits for a look-up and leaves out what lies inside.
func (d *discovery) addressesOf(ctx context.Context, s target, p *pending) (hostAddresses, error) {
	// Half of the time is for the server itself.
	ctx, done := share(ctx, 2)
	defer done()
	l := p.wait(ctx, d)
	d.take(l, 0)
	if l.err != nil {
		return hostAddresses{}, l.err
	}
	out := hostAddresses{noName: l.noName, any: len(l.rrs) > 0}
	for _, h := range hostsOf(l) {
		at := netip.AddrPortFrom(h.addr, s.port).String()
		switch {
		case len(out.hosts) == maxTargetAddresses:
			return out, nil
		case d.rules.allowed(h):
			out.hosts = append(out.hosts, h)
		default:
			why := "the address is inside of a network and not public; allow it if this is meant"
			d.step(Step{Kind: KindLDAP, Server: at, Question: "connect", Outcome: "refused_inside", Detail: why})
			d.refused = append(d.refused, fmt.Sprintf("LDAP server %s was not asked: %s is no public address", s, h.addr))
		}
	}
	return out, nil
}

// hostsOf takes the addresses out of an answer, with what its server vouches for.
func hostsOf(l lookup) []host {
	vouched := voucher(l.source())
	var out []host
	for _, rr := range l.rrs {
		var ip net.IP
		switch rr := rr.(type) {
		case *dns.A:
			ip = rr.A
		case *dns.AAAA:
			ip = rr.AAAA
		}
		if a, ok := netip.AddrFromSlice(ip); ok && len(out) < maxAddrs {
			out = append(out, host{a.Unmap(), vouched})
		}
	}
	return out
}

// session is what was said between us and one LDAP server about one address.
type session struct {
	Exchanges []ldapExchange `json:"exchanges"`
	Failure   string         `json:"failure,omitempty"` // why there is not even an exchange
}

// ldapExchange is one request with its result. A discovery is worked out of these alone, like that of the DNS.
type ldapExchange struct {
	Server    string        `json:"server"`
	Operation string        `json:"operation"` // connect, bind, root, search
	Base      string        `json:"base,omitempty"`
	Mail      string        `json:"mail,omitempty"`
	Domain    bool          `json:"domain,omitempty"`  // the search is for the domain, not for the address
	Code      uint16        `json:"code"`              // result code of the server
	Failure   string        `json:"failure,omitempty"` // there is no result: timeout, or what the network said
	Message   string        `json:"message,omitempty"` // diagnostic message of the result
	Entries   []ldapEntry   `json:"entries,omitempty"`
	Referrals int           `json:"referrals,omitempty"`
	Sent      time.Time     `json:"sent,omitzero"`
	RTT       time.Duration `json:"rtt"`
	Cached    bool          `json:"cached,omitempty"`
	Age       time.Duration `json:"age,omitempty"`
}

// ldapEntry keeps what a discovery reads of an entry, octet by octet.
type ldapEntry struct {
	Contexts     []string `json:"contexts,omitempty"`     // namingContexts of the root DSE
	Certificates [][]byte `json:"certificates,omitempty"` // userCertificate in any spelling
}

const (
	opConnect = "connect"
	opBind    = "bind"
	opRoot    = "root"
	opSearch  = "search"
)

// errCut: the server holds more than it shows, and what it showed holds no certificate.
var errCut = errors.New("size limit reached before any certificate")

// verdict sorts what came of an exchange: an error means that the server did not do what it was asked.
func (x *ldapExchange) verdict() (outcome, detail string, err error) {
	switch {
	case x.Failure == "timeout":
		return "timeout", "", fmt.Errorf("%s: %s", x.Operation, x.Failure)
	case x.Failure != "":
		return "unreachable", x.Failure, fmt.Errorf("%s: %s", x.Operation, x.Failure)
	case x.Code == ldap.LDAPResultSuccess:
	case x.Operation == opSearch && x.Code == ldap.LDAPResultNoSuchObject:
		detail = "no such object" // a naming context without entries
	case x.Operation == opSearch && x.Code == ldap.LDAPResultSizeLimitExceeded:
		detail = "size limit reached; only the first entries are used"
	case x.Operation == opSearch && x.Code == ldap.LDAPResultReferral:
		detail = "a referral, which is not followed"
	default:
		text := fmt.Sprintf("result %d", x.Code)
		if name := ldap.LDAPResultCodeMap[x.Code]; name != "" {
			text += " (" + name + ")"
		}
		if x.Message != "" {
			text += ": " + x.Message
		}
		return "error", text, fmt.Errorf("%s: %s", x.Operation, text)
	}
	if detail == "" && x.Referrals > 0 {
		detail = "search references are not followed"
	}
	outcome = "nodata"
	if len(x.Entries) > 0 || x.Operation != opSearch {
		outcome = "answer"
	}
	return outcome, detail, nil
}

// question names the request as steps show it.
func (x *ldapExchange) questionText() string {
	switch x.Operation {
	case opRoot:
		return "namingContexts"
	case opSearch:
		base := x.Base
		if base == "" {
			base = `""`
		}
		return filterFor(x.Mail) + " in " + base
	}
	return x.Operation
}

// filterFor pins the mail attribute. RFC 4515 §3: an address may hold '*', '(' or '\', which must not become part of the filter.
func filterFor(mail string) string { return "(mail=" + ldap.EscapeFilter(mail) + ")" }

// certificates counts the values of an exchange.
func (x *ldapExchange) certificates() int {
	n := 0
	for _, e := range x.Entries {
		n += len(e.Certificates)
	}
	return n
}

// takeSession records the steps of a session and keeps its certificates: those of the address over all naming contexts, and where there
// are none those of the domain. One naming context that refuses does not hide what the others hold, as many directories name some that
// anonymous clients may not read; but where nothing is found, it leaves open whether there is something.
func (d *discovery) takeSession(l session) (connected bool, err error) {
	if len(l.Exchanges) == 0 {
		return false, errors.New(cmp.Or(l.Failure, outOfTime))
	}
	var refused error
	for i := range l.Exchanges {
		x := &l.Exchanges[i]
		if x.Operation == opSearch && x.Domain && (len(d.res.Found) > 0 || refused != nil) {
			break
		}
		step, failed := d.takeExchange(x)
		if x.Operation != opSearch {
			connected = connected || x.Operation == opBind && failed == nil
			err = failed // of a connection, the last address counts
			continue
		}
		d.keepEntries(x, step)
		if failed == nil && x.Code == ldap.LDAPResultSizeLimitExceeded && len(d.res.Found) == 0 {
			failed = errCut
		}
		refused = cmp.Or(refused, failed)
	}
	switch {
	case len(d.res.Found) > 0:
		return connected, nil
	case refused != nil:
		return connected, refused
	case err == nil && l.Failure != "":
		return connected, errors.New(l.Failure)
	}
	return connected, err
}

// takeExchange records one exchange.
func (d *discovery) takeExchange(x *ldapExchange) (step int, err error) {
	outcome, detail, err := x.verdict()
	answers := len(x.Entries)
	switch {
	case err != nil:
	case x.Operation == opBind:
		detail = "anonymous"
	case x.Operation == opRoot:
		bases := contextsOf(x.Entries)
		detail, answers = strings.Join(bases, ", "), len(bases)
	}
	return d.step(Step{
		Kind: KindLDAP, Server: x.Server, Question: x.questionText(), Transport: "tcp", Start: d.since(x.Sent), RTT: x.RTT,
		Outcome: outcome, Detail: detail, Answers: answers, Cached: x.Cached, Age: x.Age,
	}), err
}

func (d *discovery) keepEntries(x *ldapExchange, step int) {
	source, bare := SourceLDAPAddress, 0
	if x.Domain {
		source = SourceLDAPDomain
	}
	for _, e := range x.Entries {
		for _, v := range e.Certificates {
			d.keep(v, source, step, nil)
		}
		if len(e.Certificates) == 0 {
			bare++
		}
	}
	if bare > 0 {
		d.note(step, fmt.Sprintf("%d without a certificate", bare))
	}
}

// contextsOf lists the naming contexts that are searched.
func contextsOf(entries []ldapEntry) []string {
	var bases []string
	for _, e := range entries {
		bases = append(bases, e.Contexts...)
	}
	return bases[:min(len(bases), maxBaseDNs)]
}

// conclusive tells whether the session says all that there is to know, so that it may be remembered.
func (l *session) conclusive() bool {
	searched := false
	for i := range l.Exchanges {
		x := &l.Exchanges[i]
		if _, _, err := x.verdict(); err != nil || x.Code == ldap.LDAPResultSizeLimitExceeded {
			return false
		}
		searched = searched || x.Operation == opSearch
	}
	return searched && l.Failure == ""
}

// String is host:port as a domain names it.
func (s target) String() string {
	return net.JoinHostPort(strings.TrimSuffix(s.host, "."), strconv.Itoa(int(s.port)))
}

// directory gives what is remembered of a server, else what it says. Those who ask it for the same at the same time share one answer.
func (n network) directory(ctx context.Context, s target, hosts []host, a direct.Address, spare int) session {
	var key strings.Builder
	fmt.Fprintf(&key, "%s %s", s, a.Key())
	for _, h := range hosts {
		fmt.Fprintf(&key, " %s", h.addr)
	}
	l, from, err := n.r.sessions.do(ctx, key.String(), func(flight context.Context) (session, kept) {
		// The flight outlives the one who began it by no more than the time that he had.
		flight, cancel := withDeadlineOf(flight, ctx, n.r.timeout)
		defer cancel()
		l := askDirectory(flight, s, hosts, a, spare)
		if !l.conclusive() {
			return l, kept{}
		}
		return l, kept{l.octets(), n.r.ldapTTL}
	})
	switch {
	case err != nil:
		return session{Failure: outOfTime}
	case from.cached:
		return l.remembered(from.age)
	}
	return l
}

// withDeadlineOf gives a flight the deadline of another context.
func withDeadlineOf(flight, ctx context.Context, otherwise time.Duration) (context.Context, context.CancelFunc) {
	if deadline, ok := ctx.Deadline(); ok {
		return context.WithDeadline(flight, deadline)
	}
	return context.WithTimeout(flight, otherwise)
}

func (l *session) octets() int {
	n := 0
	for i := range l.Exchanges {
		x := &l.Exchanges[i]
		n += entryOverhead + len(x.Base) + len(x.Mail) + len(x.Message)
		for _, e := range x.Entries {
			for _, c := range e.Certificates {
				n += len(c) + 24
			}
		}
	}
	return n
}

// remembered is a session out of the cache: nobody was asked.
func (l session) remembered(age time.Duration) session {
	exchanges := make([]ldapExchange, len(l.Exchanges))
	copy(exchanges, l.Exchanges)
	for i := range exchanges {
		exchanges[i].Cached, exchanges[i].Age, exchanges[i].RTT, exchanges[i].Sent = true, age, 0, time.Time{}
	}
	l.Exchanges = exchanges
	return l
}
