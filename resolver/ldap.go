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

	"github.com/go-ldap/ldap/v3"
)

// ldap asks the servers of the SRV records, one after the other: at each the address over all naming contexts, then the domain. The
// first server that holds a certificate ends the search; one that is silent, refuses or holds none does not.
func (d *discovery) ldap(ctx context.Context) string {
	servers, srvStep, err := d.r.ldapServers(ctx, d.step, d.res.Address.Domain())
	if err != nil {
		return d.temporary(err)
	}
	if len(servers) == 0 {
		if srvStep > 0 {
			d.note(srvStep, "the domain names no LDAP server")
		}
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, d.r.timeout)
	defer cancel()
	var unknown []string // servers that might have held one
	for i, s := range servers {
		if err := d.ldapServer(ctx, s, len(servers)-i); err != nil {
			unknown = append(unknown, shorten(fmt.Sprintf("%s:%d: %v", s.host, s.port, err)))
		}
		if len(d.res.Found) > 0 {
			return OutcomeFound
		}
	}
	if len(unknown) > 0 {
		return d.temporary(fmt.Errorf("LDAP: %s", strings.Join(unknown, "; ")))
	}
	return ""
}

// ldapServer asks one server within its share of the time. The error says that the server could not be asked to the end; a host that
// does not exist is no error, as it holds nothing.
func (d *discovery) ldapServer(ctx context.Context, s target, left int) error {
	ctx, cancel := share(ctx, left)
	defer cancel()
	lookupCtx, done := share(ctx, 2)
	addrs, err := d.r.addrs(lookupCtx, d.step, s.host)
	done()
	var lookup *LookupError
	if errors.As(err, &lookup) && lookup.NotFound() {
		d.step(Step{Kind: "ldap", Server: hostPort(s), Question: "connect", Outcome: "unreachable", Detail: "the host has no address"})
		return nil
	}
	if err != nil {
		return err
	}
	l, err := d.connect(ctx, s, addrs)
	if err != nil {
		return err
	}
	defer l.close()
	return l.search()
}

func hostPort(s target) string {
	return net.JoinHostPort(strings.TrimSuffix(s.host, "."), strconv.Itoa(int(s.port)))
}

// session is an anonymous LDAPv3 connection to one server.
type session struct {
	d      *discovery
	ctx    context.Context // of this server's share of the time; lives as long as the connection
	conn   *ldap.Conn
	server string
	stop   func() bool // ends the watch over ctx
}

func (l *session) close() {
	l.stop()
	l.conn.Close() // nothing is left to lose
}

// connect tries the addresses of a server in turn and binds anonymously at the first that accepts (RFC 4513 §5.1.1).
func (d *discovery) connect(ctx context.Context, s target, addrs []netip.Addr) (*session, error) {
	var last error
	addrs = addrs[:min(len(addrs), maxTargetAddresses)]
	for i, addr := range addrs {
		one, cancel := share(ctx, len(addrs)-i)
		l, err := d.open(ctx, one, netip.AddrPortFrom(addr, s.port).String())
		cancel()
		if err == nil {
			return l, nil
		}
		last = err
	}
	if last == nil {
		last = errors.New("the host has no address")
	}
	return nil, last
}

// open connects and binds within the context of one address; the session then lives within that of the server.
func (d *discovery) open(ctx, one context.Context, server string) (*session, error) {
	start := time.Now()
	c, err := new(net.Dialer).DialContext(one, "tcp", server)
	if err != nil {
		d.ldapStep(server, "connect", start, outcomeOfLDAP(one, err), err.Error(), 0)
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		c.SetDeadline(deadline) // a socket that takes no deadline fails at its first use
	}
	conn := ldap.NewConn(&guardedConn{Conn: c}, false)
	conn.Start()
	l := &session{d: d, ctx: ctx, conn: conn, server: server}
	l.stop = context.AfterFunc(ctx, func() { c.Close() })
	if err := l.bind(one, start); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *session) bind(ctx context.Context, start time.Time) error {
	l.limitTime(ctx)
	err := l.conn.UnauthenticatedBind("") // an empty name with an empty password: the anonymous bind
	if err != nil {
		l.d.ldapStep(l.server, "bind", start, outcomeOfLDAP(ctx, err), err.Error(), 0)
		return fmt.Errorf("bind: %w", err)
	}
	l.d.ldapStep(l.server, "bind", start, "answer", "anonymous", 0)
	return nil
}

// limitTime gives the next request what is left of the time of ctx.
func (l *session) limitTime(ctx context.Context) time.Duration {
	left := time.Second
	if deadline, ok := ctx.Deadline(); ok {
		left = max(time.Until(deadline), time.Millisecond)
	}
	l.conn.SetTimeout(left)
	return left
}

// search looks for the address in every naming context, then for the domain.
func (l *session) search() error {
	bases, err := l.namingContexts()
	if err != nil {
		return err
	}
	address := l.d.res.Address
	for _, subject := range []struct{ mail, source string }{
		{address.String(), SourceLDAPAddress},
		{address.Domain().String(), SourceLDAPDomain},
	} {
		if err := l.searchAll(bases, subject.mail, subject.source); err != nil || len(l.d.res.Found) > 0 {
			return err
		}
	}
	return nil
}

// searchAll looks for one subject in every naming context. One that refuses does not hide what the others hold, and many directories
// name some that anonymous clients may not read; but where nothing is found, it leaves open whether there is something.
func (l *session) searchAll(bases []string, mail, source string) error {
	var refused error
	for _, base := range bases {
		err := l.searchFor(base, mail, source)
		var result *ldap.Error
		switch {
		case err == nil:
		case errors.Is(err, errCut), errors.As(err, &result) && result.ResultCode < ldap.ErrorNetwork:
			refused = cmp.Or(refused, err)
		default:
			return err // the connection is of no more use
		}
	}
	if len(l.d.res.Found) > 0 {
		return nil
	}
	return refused
}

// errCut: the server holds more than it shows, and what it showed holds no certificate.
var errCut = errors.New("size limit reached before any certificate")

// namingContexts reads the root DSE (RFC 4512 §5.1), asking for the attribute by name as it is operational.
func (l *session) namingContexts() ([]string, error) {
	start := time.Now()
	left := l.limitTime(l.ctx)
	req := ldap.NewSearchRequest("", ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, seconds(left), false,
		"(objectClass=*)", []string{"namingContexts"}, nil)
	res, err := l.conn.Search(req)
	if err != nil {
		l.d.ldapStep(l.server, "namingContexts", start, outcomeOfLDAP(l.ctx, err), err.Error(), 0)
		return nil, fmt.Errorf("root DSE: %w", err)
	}
	var bases []string
	for _, e := range res.Entries {
		bases = append(bases, e.GetEqualFoldAttributeValues("namingContexts")...)
	}
	bases = bases[:min(len(bases), maxBaseDNs)]
	l.d.ldapStep(l.server, "namingContexts", start, "answer", strings.Join(bases, ", "), len(bases))
	if len(bases) == 0 {
		bases = []string{""} // a server that names none may still search from the root
	}
	return bases, nil
}

// searchFor runs one search and keeps every certificate of every entry. An entry without one is passed over.
func (l *session) searchFor(base, mail, source string) error {
	start := time.Now()
	left := l.limitTime(l.ctx)
	// RFC 4515 §3: an address may hold '*', '(' or '\', which must not become part of the filter.
	filter := "(mail=" + ldap.EscapeFilter(mail) + ")"
	req := ldap.NewSearchRequest(base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, maxEntries, seconds(left), false,
		filter, []string{"userCertificate;binary", "userCertificate"}, nil)
	req.EnforceSizeLimit = true
	res, err := l.conn.Search(req)
	question := filter + " in " + quoteBase(base)
	detail, cut := "", false
	switch {
	case ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject):
		detail = "no such object" // a naming context without entries
	case ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded), errors.Is(err, ldap.ErrSizeLimitExceeded):
		detail, cut = "size limit reached; only the first entries are used", true
	case ldap.IsErrorWithCode(err, ldap.LDAPResultReferral):
		detail = "a referral, which is not followed"
	case err != nil:
		l.d.ldapStep(l.server, question, start, outcomeOfLDAP(l.ctx, err), err.Error(), 0)
		return fmt.Errorf("search: %w", err)
	}
	if res == nil {
		res = &ldap.SearchResult{}
	}
	if detail == "" && len(res.Referrals) > 0 {
		detail = "search references are not followed"
	}
	outcome := "nodata"
	if len(res.Entries) > 0 {
		outcome = "answer"
	}
	step := l.d.ldapStep(l.server, question, start, outcome, detail, len(res.Entries))
	l.keepEntries(res.Entries, source, step)
	if cut && len(l.d.res.Found) == 0 {
		return errCut
	}
	return nil
}

func (l *session) keepEntries(entries []*ldap.Entry, source string, step int) {
	bare := 0
	for _, e := range entries {
		values := 0
		for _, a := range e.Attributes {
			// RFC 4523 §2: userCertificate;binary by the book, without the option in many directories. Other options do not matter.
			name, _, _ := strings.Cut(a.Name, ";")
			if !strings.EqualFold(name, "userCertificate") {
				continue
			}
			for _, v := range a.ByteValues {
				values++
				l.d.keep(v, source, step, nil)
			}
		}
		if values == 0 {
			bare++
		}
	}
	if bare > 0 {
		l.d.note(step, fmt.Sprintf("%d without a certificate", bare))
	}
}

func quoteBase(base string) string {
	if base == "" {
		return `""`
	}
	return base
}

// seconds rounds up: 0 would mean no limit (RFC 4511 §4.5.1.5).
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

func (d *discovery) ldapStep(server, question string, start time.Time, outcome, detail string, answers int) int {
	return d.step(Step{Kind: "ldap", Server: server, Question: question, Transport: "tcp", RTT: time.Since(start),
		Outcome: outcome, Detail: detail, Answers: answers})
}

// outcomeOfLDAP sorts what the library says into outcomes of a step. A server's own refusal is an error; all else is the network.
func outcomeOfLDAP(ctx context.Context, err error) string {
	var network net.Error
	var result *ldap.Error
	switch {
	case ctx.Err() != nil, errors.As(err, &network) && network.Timeout(), strings.Contains(err.Error(), "timed out"):
		return "timeout"
	case errors.As(err, &result) && result.ResultCode < ldap.ErrorNetwork:
		return "error"
	}
	return "unreachable"
}
