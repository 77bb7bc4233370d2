// Package probe asks a node's own listeners as a stranger would, so that the
// node can be told what strangers see.
//
// Data in: the address of a listener and a question. Data out: what was
// answered, in values that need no protocol library to look at. DNS asks one
// question by UDP or TCP and takes the answer as it is: no other server is
// asked, no alias followed, nothing cached. LDAP binds anonymously, reads the
// root DSE and searches for one address. Nothing is judged here; that is done
// in internal/admin.
//
// It stands apart from package resolver, which walks from server to server
// until it has found somebody's certificate: a check wants to know of one
// listener, and of each step.
//
// Sources: RFC 1035, RFC 2782, RFC 4398 and RFC 7766 for DNS; RFC 4511, RFC 4512
// §5.1, RFC 4513 §5.1.1 and RFC 4523 for LDAP.
package probe

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
	"github.com/miekg/dns"
)

// Limits of what a listener may answer: it is ours, and could all the same be
// somebody else's by mistake.
const (
	// maxLDAP is what an LDAP session may send: the root DSE of a node with
	// 50,000 domains, and as many certificates as an owner may have. The library
	// decodes whatever comes.
	maxLDAP = 4 << 20
	// maxEntries of a search for one address, which finds one.
	maxEntries = 10
	// udpSize is what fits a datagram everywhere; SOA and SRV records do.
	udpSize = 1232
)

// Prober asks. It holds nothing.
type Prober struct{}

// Answer is what a DNS server answered to one question.
type Answer struct {
	Rcode         string // NOERROR, NXDOMAIN, REFUSED…
	Authoritative bool
	Truncated     bool
	Alias         string // the name itself is an alias, and leads there

	// Of the answer section, at whatever name: the server may have followed an
	// alias.
	SOA   bool
	SRV   []net.SRV
	Addrs []netip.Addr
	Certs [][]byte // CERT records of type PKIX
	URLs  int      // CERT records of type IPKIX
}

// DNS asks one question of one server: network is udp or tcp, name absolute,
// qtype such as SRV.
func (Prober) DNS(ctx context.Context, server netip.AddrPort, network, name, qtype string) (Answer, error) {
	number, ok := dns.StringToType[qtype]
	if !ok {
		return Answer{}, fmt.Errorf("%s: no type of records", qtype)
	}
	q := new(dns.Msg).SetQuestion(name, number)
	q.RecursionDesired = false
	q.SetEdns0(udpSize, false)
	c := &dns.Client{Net: network, Timeout: timeLeft(ctx), UDPSize: udpSize}
	m, _, err := c.ExchangeContext(ctx, q, server.String())
	if err != nil {
		return Answer{}, err
	}
	a := Answer{Rcode: dns.RcodeToString[m.Rcode], Authoritative: m.Authoritative, Truncated: m.Truncated}
	for _, rr := range m.Answer {
		if err := a.take(rr, name); err != nil {
			return Answer{}, err
		}
	}
	return a, nil
}

func (a *Answer) take(rr dns.RR, name string) error {
	switch rr := rr.(type) {
	case *dns.SOA:
		a.SOA = true
	case *dns.SRV:
		a.SRV = append(a.SRV, net.SRV{Target: rr.Target, Port: rr.Port, Priority: rr.Priority, Weight: rr.Weight})
	case *dns.A:
		a.addr(rr.A)
	case *dns.AAAA:
		a.addr(rr.AAAA)
	case *dns.CNAME:
		if strings.EqualFold(rr.Hdr.Name, name) {
			a.Alias = rr.Target
		}
	case *dns.CERT:
		if rr.Type != dns.CertPKIX {
			a.URLs++
			return nil
		}
		der, err := base64.StdEncoding.DecodeString(rr.Certificate)
		if err != nil {
			return fmt.Errorf("CERT %s: %w", name, err)
		}
		a.Certs = append(a.Certs, der)
	}
	return nil
}

func (a *Answer) addr(ip net.IP) {
	if addr, ok := netip.AddrFromSlice(ip); ok {
		a.Addrs = append(a.Addrs, addr.Unmap())
	}
}

// Directory is what an LDAP server shows to anybody.
type Directory struct {
	NamingContexts []string
	Certs          [][]byte // that were found for the address
}

// LDAP binds to a server anonymously, reads its root DSE, and searches all
// naming contexts for an address, unless that is empty. The error names the
// step that failed; what was learned before stands in the answer.
func (Prober) LDAP(ctx context.Context, server netip.AddrPort, mail string) (Directory, error) {
	var d Directory
	c, err := new(net.Dialer).DialContext(ctx, "tcp", server.String())
	if err != nil {
		return d, fmt.Errorf("connect: %w", err)
	}
	_ = c.SetDeadline(time.Now().Add(timeLeft(ctx))) // a socket that takes none fails at its first use
	conn := ldap.NewConn(&limited{Conn: c, left: maxLDAP}, false)
	conn.Start()
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	conn.SetTimeout(timeLeft(ctx))
	if err := conn.UnauthenticatedBind(""); err != nil {
		return d, fmt.Errorf("anonymous bind: %w", err)
	}
	// RFC 4512 §5.1: the attributes are operational and asked for by name.
	res, err := conn.Search(ldap.NewSearchRequest("", ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 0, false, "(objectClass=*)", []string{"namingContexts", "supportedLDAPVersion"}, nil))
	if err != nil {
		return d, fmt.Errorf("root DSE: %w", err)
	}
	for _, e := range res.Entries {
		d.NamingContexts = append(d.NamingContexts, e.GetEqualFoldAttributeValues("namingContexts")...)
	}
	if len(res.Entries) == 0 {
		return d, errors.New("root DSE: there is none")
	}
	if mail == "" {
		return d, nil
	}
	if d.Certs, err = search(conn, d.NamingContexts, mail); err != nil {
		return d, fmt.Errorf("search for %s: %w", mail, err)
	}
	return d, nil
}

// limited is a connection that ends after so many octets.
type limited struct {
	net.Conn
	left int // owned by the reader
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, fmt.Errorf("more than %d octets", maxLDAP)
	}
	n, err := l.Conn.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

// search asks as discovery does: for the one address, below every naming
// context.
func search(conn *ldap.Conn, bases []string, mail string) (certs [][]byte, err error) {
	filter := "(mail=" + ldap.EscapeFilter(mail) + ")" // RFC 4515 §3
	for _, base := range bases {
		req := ldap.NewSearchRequest(base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, maxEntries, 0, false, filter, []string{"userCertificate;binary", "userCertificate"}, nil)
		req.EnforceSizeLimit = true
		res, err := conn.Search(req)
		if ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range res.Entries {
			for _, a := range e.Attributes {
				if name, _, _ := strings.Cut(a.Name, ";"); strings.EqualFold(name, "userCertificate") {
					certs = append(certs, a.ByteValues...)
				}
			}
		}
		if len(certs) > 0 {
			return certs, nil
		}
	}
	return nil, nil
}

// timeLeft is how long ctx lasts; ten seconds where nobody said.
func timeLeft(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 10 * time.Second
	}
	return max(time.Until(deadline), time.Millisecond)
}

// Addresses are those of the machine.
func (Prober) Addresses() []netip.Addr {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil // nobody knows: then no address is ours
	}
	var out []netip.Addr
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Addr().Unmap())
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}
