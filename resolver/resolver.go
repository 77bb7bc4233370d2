// Package resolver finds somebody's certificates in the DNS and in LDAP, and says how.
//
// Data in: a Direct Address and the servers that are to be asked. Data out: a Result with every certificate of the first place
// that holds any, and every step that led there; whether a certificate may be used is decided by package trust, and NewReport joins
// both into what `directctl discover` prints. Packages that send mail also get MX and address look-ups from here, so that all of a
// node's questions take the same way and obey the same stub servers.
//
// The order of places and the rule that the first place with a certificate ends the search, however bad that certificate is, are
// those of the S&I Certificate Discovery Implementation Guide, which AS 2.3 and 5.0 make normative: CERT records of the address,
// CERT records of the domain (AS 5.1, 5.2), then each LDAP server of the domain's SRV records, address before domain at each. Only
// "there is none" moves on; "I could not learn it" (SERVFAIL, REFUSED, time-out) ends the search as temporary and is never absence.
// What the order allows is asked at once, and what it does not need is not waited for.
//
// Where to read: discover.go is the order; evidence.go what is kept of it. dns.go asks and follows aliases, exchange.go says what a
// reply means, transport.go, cookie.go and servers.go bring it over the network, walk.go asks the servers of a zone itself, dnssec.go
// validates for those who want to see that. ldap.go says what a directory's answers mean and ldapclient.go gets them. cache.go
// remembers, record.go keeps a discovery so that it can be made again.
//
// What an outside says and what is made of it are apart: exchanges with name servers, directories and web servers are plain values, and
// a Result is worked out of them alone. Replay does that with the exchanges of a record, without a network and with the clock of then.
//
// Sources: AS 2.3, 5.0-5.4; RFC 1034 §3.6.2 (aliases), RFC 2308 (absence), RFC 2782 (SRV), RFC 4035 §5 (validation), RFC 4398 (CERT),
// RFC 4511 and 4515 (LDAP), RFC 5321 §5.1 and RFC 7505 (MX), RFC 5452 (which answers to believe), RFC 6891 (EDNS), RFC 7766 (TCP),
// RFC 7873 (cookies).
package resolver

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"directnode/internal/direct"
	"directnode/resolver/fetch"

	"github.com/miekg/dns"
)

// Stub sends the questions for one domain, and everything below it, to servers of its own.
type Stub struct {
	Domain  direct.Domain
	Servers []string // host:port
}

// DirectMode says when the name servers of a zone itself are asked.
type DirectMode string

const (
	DirectNever     DirectMode = ""           // zero value
	DirectOnFailure DirectMode = "on-failure" // where the recursive servers give no answer: some refuse CERT, some networks drop large ones
	DirectOnAbsence DirectMode = "on-absence" // also where they say that there is nothing, as some answer for types that they do not know
)

// wanted tells whether what was heard is reason enough to ask the servers of the zone.
func (m DirectMode) wanted(h heard) bool {
	switch m {
	case DirectOnFailure:
		return h.msg == nil
	case DirectOnAbsence:
		return h.msg == nil || len(h.msg.Answer) == 0
	}
	return false
}

// Fetcher gets what a URL in a CERT record names; *fetch.Door is one.
type Fetcher interface {
	Get(ctx context.Context, kind fetch.Kind, url string) ([]byte, fetch.Evidence, error)
}

// Options configure a Resolver. The zero value asks the servers of /etc/resolv.conf.
type Options struct {
	Servers []string      // host:port, recursive or authoritative; empty = resolv.conf
	Stubs   []Stub        // the longest matching domain wins
	Timeout time.Duration // for each DNS question and for the LDAP part; 0 = 5 s
	Budget  time.Duration // for one discovery, everything included; 0 = 10 s
	Log     *slog.Logger  // nil = silent

	TCPFirst   bool       // AS 5.4: ask by TCP at once instead of after a truncated answer
	MixCase    bool       // let the case of names be part of what a forger must guess; some servers do not repeat it
	Sequential bool       // ask one place after the other, also where the order allows to ask them at once
	Direct     DirectMode // when to ask the servers of a zone itself
	SRVRandom  bool       // order LDAP servers of one priority by weighted lot instead of by weight descending
	DropTag    bool       // look for bob@… where bob+lab@… has no certificate

	Allow   []netip.Prefix // addresses inside that LDAP servers and the servers of a zone may have
	Fetch   Fetcher        // for CERT records that hold a URL; nil = they are skipped
	Anchors []string       // DS or DNSKEY records in zone file form: answers are validated, as evidence and nothing else; empty = not

	Cache   int           // octets of the cache for the DNS, and of that for LDAP; 0 = 16 MiB, negative = none
	LDAPTTL time.Duration // how long answers of directories are remembered; 0 = 5 minutes, negative = not at all

	authorityPort uint16 // of the servers of a zone; 0 = 53
}

// Resolver asks. It holds nothing but what it remembers of answers and servers, and may be used by any number of goroutines.
type Resolver struct {
	servers       []string
	stubs         []Stub
	rules         rules
	timeout       time.Duration
	tcpFirst      bool
	mixCase       bool
	direct        DirectMode
	authorityPort uint16
	fetcher       Fetcher
	anchors       []dns.RR
	ldapTTL       time.Duration
	log           *slog.Logger

	book     *serverBook
	answers  *cache[heard]
	sessions *cache[session]
}

// New checks the options. It opens nothing.
func New(o Options) (*Resolver, error) {
	r := &Resolver{
		timeout: cmp.Or(max(o.Timeout, 0), defaultTimeout), tcpFirst: o.TCPFirst, mixCase: o.MixCase, direct: o.Direct,
		authorityPort: cmp.Or(o.authorityPort, 53), fetcher: o.Fetch, ldapTTL: cmp.Or(o.LDAPTTL, defaultLDAPTTL), log: o.Log,
		book: newServerBook(), answers: newCache[heard](cmp.Or(o.Cache, defaultCache)), sessions: newCache[session](cmp.Or(o.Cache, defaultCache)),
	}
	r.rules = rules{Sequential: o.Sequential, SRVRandom: o.SRVRandom, DropTag: o.DropTag, Validate: len(o.Anchors) > 0, Allow: o.Allow,
		Timeout: r.timeout, Budget: cmp.Or(max(o.Budget, 0), defaultBudget)}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	switch o.Direct {
	case DirectNever, DirectOnFailure, DirectOnAbsence:
	default:
		return nil, fmt.Errorf("resolver: %q is no way to ask the servers of a zone", o.Direct)
	}
	var err error
	if r.anchors, err = parseAnchors(o.Anchors); err != nil {
		return nil, err
	}
	return r, r.setServers(o)
}

// setServers takes the servers of the options or of the system.
func (r *Resolver) setServers(o Options) error {
	servers := o.Servers
	if len(servers) == 0 {
		conf, err := dns.ClientConfigFromFile("/etc/resolv.conf")
		if err != nil || len(conf.Servers) == 0 {
			return fmt.Errorf("resolver: no DNS servers given and none in /etc/resolv.conf (%v)", err)
		}
		for _, s := range conf.Servers {
			servers = append(servers, net.JoinHostPort(s, conf.Port))
		}
	}
	var err error
	if r.servers, err = hostPorts(servers); err != nil {
		return err
	}
	for _, s := range o.Stubs {
		if s.Domain.IsZero() || len(s.Servers) == 0 {
			return fmt.Errorf("resolver: a stub needs a domain and a server")
		}
		if s.Servers, err = hostPorts(s.Servers); err != nil {
			return fmt.Errorf("stub %s: %w", s.Domain, err)
		}
		r.stubs = append(r.stubs, s)
	}
	return nil
}

// validates tells whether answers are to come with their signatures.
func (r *Resolver) validates() bool { return len(r.anchors) > 0 }

// hostPorts completes addresses without a port with 53 and keeps the first maxDNSServers.
func hostPorts(in []string) ([]string, error) {
	var out []string
	for _, s := range in {
		host, port, err := net.SplitHostPort(s)
		if err != nil {
			host, port = strings.Trim(s, "[]"), "53"
		}
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil || number == 0 || host == "" || strings.ContainsAny(host, " /") {
			return nil, fmt.Errorf("resolver: %q is no host:port", s)
		}
		if len(out) < maxDNSServers {
			out = append(out, net.JoinHostPort(host, port))
		}
	}
	return out, nil
}

// serversFor picks by the longest domain that the name lies in.
func (r *Resolver) serversFor(name string) []string {
	servers, longest := r.servers, -1
	for _, s := range r.stubs {
		if n := len(s.Domain.String()); n > longest && s.Domain.Contains(name) {
			servers, longest = s.Servers, n
		}
	}
	return servers
}
