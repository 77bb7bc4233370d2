package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"directnode/internal/direct"

	"github.com/go-ldap/ldap/v3"
)

// dialogue is an anonymous LDAPv3 connection to one server, with what was said by it.
type dialogue struct {
	said   session
	conn   *ldap.Conn
	server string
	stop   func() bool // ends the watch over the context
}

// askDirectory runs one session within the time of ctx, which is this server's share of it.
func askDirectory(ctx context.Context, s target, hosts []host, a direct.Address, spare int) session {
	var d dialogue
	if !d.connect(ctx, s, hosts, spare) {
		return d.said
	}
	defer d.close()
	bases, ok := d.namingContexts(ctx)
	if !ok {
		return d.said
	}
	d.search(ctx, bases, a)
	return d.said
}

func (d *dialogue) close() {
	d.stop()
	d.conn.Close() // nothing is left to lose
}

// connect tries the addresses of a server in turn and binds anonymously at the first that accepts (RFC 4513 §5.1.1). spare parts of the
// time are left for others to try.
func (d *dialogue) connect(ctx context.Context, s target, hosts []host, spare int) bool {
	for i, h := range hosts {
		one, cancel := share(ctx, len(hosts)-i+spare)
		ok := d.open(ctx, one, netip.AddrPortFrom(h.addr, s.port).String())
		cancel()
		if ok {
			return true
		}
	}
	return false
}

// open connects and binds within the context of one address; the connection then lives within that of the server.
func (d *dialogue) open(ctx, one context.Context, server string) bool {
	x := ldapExchange{Server: server, Operation: opConnect, Sent: time.Now()}
	c, err := new(net.Dialer).DialContext(one, "tcp", server)
	x.RTT = time.Since(x.Sent)
	if err != nil {
		x.fail(one, err)
		d.said.Exchanges = append(d.said.Exchanges, x)
		return false
	}
	if deadline, ok := ctx.Deadline(); ok {
		c.SetDeadline(deadline) // a socket that takes no deadline fails at its first use
	}
	d.conn, d.server = ldap.NewConn(&guardedConn{Conn: c}, false), server
	d.conn.Start()
	d.stop = context.AfterFunc(ctx, func() { c.Close() })
	x = ldapExchange{Server: server, Operation: opBind, Sent: x.Sent} // with the connection, that is what it costs
	d.limitTime(one)
	if err := d.conn.UnauthenticatedBind(""); err != nil { // an empty name with an empty password: the anonymous bind
		x.fail(one, err)
	}
	x.RTT = time.Since(x.Sent)
	d.said.Exchanges = append(d.said.Exchanges, x)
	if x.Failure != "" || x.Code != ldap.LDAPResultSuccess {
		d.close()
		return false
	}
	return true
}

// limitTime gives the next requests what is left of the time of ctx.
func (d *dialogue) limitTime(ctx context.Context) time.Duration {
	left := time.Second
	if deadline, ok := ctx.Deadline(); ok {
		left = max(time.Until(deadline), time.Millisecond)
	}
	d.conn.SetTimeout(left)
	return left
}

// namingContexts reads the root DSE (RFC 4512 §5.1), asking for the attribute by name as it is operational.
func (d *dialogue) namingContexts(ctx context.Context) ([]string, bool) {
	x := ldapExchange{Server: d.server, Operation: opRoot}
	d.run(ctx, &x, ldap.NewSearchRequest("", ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, seconds(d.limitTime(ctx)), false,
		"(objectClass=*)", []string{"namingContexts"}, nil))
	d.said.Exchanges = append(d.said.Exchanges, x)
	if _, _, err := x.verdict(); err != nil {
		return nil, false
	}
	bases := contextsOf(x.Entries)
	if len(bases) == 0 {
		bases = []string{""} // a server that names none may still search from the root
	}
	return bases, true
}

// search looks for the address and for the domain in every naming context, all at once over the one connection (RFC 4511 §3.1), and
// waits for as much of it as the order needs: the domain counts only where all that is known of the address is that it is absent.
func (d *dialogue) search(ctx context.Context, bases []string, a direct.Address) {
	subjects := []string{a.String(), a.Domain().String()}
	left := d.limitTime(ctx)
	results := make([][]chan ldapExchange, len(subjects))
	for i, mail := range subjects {
		for _, base := range bases {
			done := make(chan ldapExchange, 1)
			results[i] = append(results[i], done)
			x := ldapExchange{Server: d.server, Operation: opSearch, Base: base, Mail: mail, Domain: i == 1}
			go func() {
				defer func() {
					if p := recover(); p != nil { // of the library: as good as a broken connection
						x.Failure = fmt.Sprint("the answer is not readable: ", p)
					}
					done <- x
				}()
				d.searchFor(ctx, &x, left)
			}()
		}
	}
	for _, subject := range results {
		settled := false
		for _, done := range subject {
			x := <-done // it ends with the connection at the latest
			d.said.Exchanges = append(d.said.Exchanges, x)
			_, _, err := x.verdict()
			settled = settled || err != nil || x.certificates() > 0 || x.Code == ldap.LDAPResultSizeLimitExceeded
		}
		if settled {
			return
		}
	}
}

// searchFor runs one search. Its size limit holds for what is read as well.
func (d *dialogue) searchFor(ctx context.Context, x *ldapExchange, left time.Duration) {
	req := ldap.NewSearchRequest(x.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, maxEntries, seconds(left), false,
		filterFor(x.Mail), []string{"userCertificate;binary", "userCertificate"}, nil)
	req.EnforceSizeLimit = true
	d.run(ctx, x, req)
}

// run sends a search and takes its result.
func (d *dialogue) run(ctx context.Context, x *ldapExchange, req *ldap.SearchRequest) {
	x.Sent = time.Now()
	res, err := d.conn.Search(req)
	x.RTT = time.Since(x.Sent)
	if err != nil {
		x.fail(ctx, err)
	}
	if res == nil {
		return
	}
	x.Referrals = len(res.Referrals)
	for _, e := range res.Entries {
		x.Entries = append(x.Entries, entryOf(e, x.Operation))
	}
}

// entryOf keeps what is wanted of an entry. RFC 4523 §2: userCertificate;binary by the book, without the option in many directories.
// Other options do not matter.
func entryOf(e *ldap.Entry, operation string) ldapEntry {
	var out ldapEntry
	for _, a := range e.Attributes {
		name, _, _ := strings.Cut(a.Name, ";")
		switch {
		case operation == opRoot && strings.EqualFold(name, "namingContexts"):
			out.Contexts = append(out.Contexts, a.Values...)
		case operation == opSearch && strings.EqualFold(name, "userCertificate"):
			out.Certificates = append(out.Certificates, a.ByteValues...)
		}
	}
	return out
}

// fail sorts what the library says into a result of the server and a fault of the network.
func (x *ldapExchange) fail(ctx context.Context, err error) {
	var network net.Error
	var result *ldap.Error
	switch {
	case errors.Is(err, ldap.ErrSizeLimitExceeded):
		x.Code = ldap.LDAPResultSizeLimitExceeded
	case errors.As(err, &result) && result.ResultCode < ldap.ErrorNetwork:
		x.Code = result.ResultCode
		if result.Err != nil {
			x.Message = shorten(result.Err.Error())
		}
	case ctx.Err() != nil, errors.As(err, &network) && network.Timeout(), strings.Contains(err.Error(), "timed out"):
		x.Failure = "timeout"
	default:
		x.Failure = shorten(err.Error())
	}
}

// seconds rounds up: 0 would mean no limit (RFC 4511 §4.5.1.5).
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }
