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
//
// Sources: AS 2.3, 5.0-5.4; RFC 1034 §3.6.2 (aliases), RFC 2308 (absence), RFC 2782 (SRV), RFC 4398 (CERT), RFC 4511 and 4515
// (LDAP), RFC 5321 §5.1 and RFC 7505 (MX), RFC 5452 (which answers to believe), RFC 6891 (EDNS), RFC 7766 (TCP).
package resolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"directnode/internal/direct"
	"directnode/resolver/trust"

	"github.com/miekg/dns"
)

// Stub sends the questions for one domain, and everything below it, to servers of its own.
type Stub struct {
	Domain  direct.Domain
	Servers []string // host:port
}

// Options configure a Resolver. The zero value asks the servers of /etc/resolv.conf.
type Options struct {
	Servers  []string      // host:port, recursive or authoritative; empty = resolv.conf
	Stubs    []Stub        // the longest matching domain wins
	Timeout  time.Duration // for each DNS question and for the LDAP part; 0 = 5 s
	TCPFirst bool          // AS 5.4: ask by TCP at once instead of after a truncated answer
	Log      *slog.Logger  // nil = silent
}

// Resolver asks. It holds no state between questions and may be used by any number of goroutines.
type Resolver struct {
	servers  []string
	stubs    []Stub
	timeout  time.Duration
	tcpFirst bool
	log      *slog.Logger
}

// New checks the options. It opens nothing.
func New(o Options) (*Resolver, error) {
	r := &Resolver{timeout: o.Timeout, tcpFirst: o.TCPFirst, log: o.Log}
	if r.timeout <= 0 {
		r.timeout = defaultTimeout
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	servers := o.Servers
	if len(servers) == 0 {
		conf, err := dns.ClientConfigFromFile("/etc/resolv.conf")
		if err != nil || len(conf.Servers) == 0 {
			return nil, fmt.Errorf("resolver: no DNS servers given and none in /etc/resolv.conf (%v)", err)
		}
		for _, s := range conf.Servers {
			servers = append(servers, net.JoinHostPort(s, conf.Port))
		}
	}
	var err error
	if r.servers, err = hostPorts(servers); err != nil {
		return nil, err
	}
	for _, s := range o.Stubs {
		if s.Domain.IsZero() || len(s.Servers) == 0 {
			return nil, fmt.Errorf("resolver: a stub needs a domain and a server")
		}
		if s.Servers, err = hostPorts(s.Servers); err != nil {
			return nil, fmt.Errorf("stub %s: %w", s.Domain, err)
		}
		r.stubs = append(r.stubs, s)
	}
	return r, nil
}

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

// Step is one thing that was asked, or on purpose was not.
type Step struct {
	N         int
	Kind      string // dns or ldap
	Server    string // host:port; empty if nobody was asked
	Question  string
	Transport string // udp or tcp
	RTT       time.Duration
	Outcome   string // answer nodata nxdomain truncated alias servfail refused timeout unreachable error not_asked …
	Detail    string
	Answers   int
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
	Address direct.Address
	Steps   []Step
	Found   []Found // the certificates of the place that ended the search, each once, in the order of the answer
	Skipped []Found // values met on the way that are no X.509 certificates
	Source  string  // of the certificates; empty if there are none
	Outcome string
	Detail  string // for people, why the outcome is what it is, if nothing was found
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

// place is somewhere to look. It gives "" if it holds nothing, else the outcome that ends the search.
type place struct {
	name string
	look func(*discovery, context.Context) (outcome string)
}

// places is the order of the Implementation Guide; see the package comment for the rule that stops it.
func places() []place {
	return []place{
		{SourceDNSAddress, (*discovery).dnsAddress},
		{SourceDNSDomain, (*discovery).dnsDomain},
		{"ldap", (*discovery).ldap},
	}
}

// discovery is one run of Discover.
type discovery struct {
	r   *Resolver
	res Result
}

// Discover looks for the certificates of an address. A Result always comes back; its Outcome says whether there are certificates
// (Found), whether there are none, or whether that could not be learned now. The error is for a question that is none.
func (r *Resolver) Discover(ctx context.Context, a direct.Address) (Result, error) {
	if a.IsZero() {
		return Result{}, errors.New("resolver: no address to discover")
	}
	start := time.Now()
	d := &discovery{r: r, res: Result{Address: a, Outcome: OutcomeNotFound, Detail: "there is no certificate for this address"}}
	ended := ""
	for _, p := range places() {
		if ended != "" {
			d.step(Step{Kind: kindOf(p.name), Question: d.questionOf(p.name), Outcome: "not_asked", Detail: ended})
			continue
		}
		if outcome := p.look(d, ctx); outcome != "" {
			d.res.Outcome, ended = outcome, "the search ended before: "+outcome
		}
	}
	if len(d.res.Found) > 0 {
		d.res.Source, d.res.Detail = d.res.Found[0].Source, ""
	}
	d.res.Elapsed = time.Since(start)
	r.log.InfoContext(ctx, "discover", "address", a.String(), "outcome", d.res.Outcome, "source", d.res.Source,
		"certificates", len(d.res.Found), "steps", len(d.res.Steps), "ms", d.res.Elapsed.Milliseconds(), "detail", d.res.Detail)
	return d.res, nil
}

func kindOf(place string) string {
	if place == "ldap" {
		return "ldap"
	}
	return "dns"
}

// questionOf names what a place would have been asked first.
func (d *discovery) questionOf(place string) string {
	domain := d.res.Address.Domain()
	switch place {
	case SourceDNSAddress:
		name, _ := d.res.Address.DNSName()
		return "CERT " + name
	case SourceDNSDomain:
		return "CERT " + domain.DNSName()
	}
	return "SRV " + srvName(domain)
}

// step records and numbers.
func (d *discovery) step(s Step) int {
	s.N = len(d.res.Steps) + 1
	s.Question, s.Detail = shorten(s.Question), shorten(s.Detail)
	d.res.Steps = append(d.res.Steps, s)
	return s.N
}

// temporary ends the search without an answer.
func (d *discovery) temporary(err error) string {
	d.res.Detail = err.Error()
	return OutcomeTemporary
}

// shorten bounds what a server said: it goes to logs, reports and replies, and may be a megabyte.
func shorten(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + "…"
}

func (d *discovery) dnsAddress(ctx context.Context) string {
	name, err := d.res.Address.DNSName()
	if err != nil {
		// AS 5.1 has no form for such an address, so nothing can be published under it: the domain is next.
		d.step(Step{Kind: "dns", Question: "CERT " + d.res.Address.String(), Outcome: "not_asked", Detail: err.Error()})
		return ""
	}
	return d.dnsCertificates(ctx, name, SourceDNSAddress)
}

func (d *discovery) dnsDomain(ctx context.Context) string {
	return d.dnsCertificates(ctx, d.res.Address.Domain().DNSName(), SourceDNSDomain)
}

func (d *discovery) dnsCertificates(ctx context.Context, name, source string) string {
	ans, err := d.r.query(ctx, d.step, name, dns.TypeCERT)
	if err != nil {
		return d.temporary(err)
	}
	for _, value := range certificatesOf(ans.rrs) {
		d.keep(value.DER, source, ans.step, value.Err)
	}
	if len(d.res.Found) == 0 {
		return ""
	}
	return OutcomeFound
}

// keep files one value under certificates or under skipped ones, and says on its step why it was skipped.
func (d *discovery) keep(der []byte, source string, step int, err error) {
	if err == nil {
		err = notACertificate(der)
	}
	f := Found{DER: der, Source: source, Step: step, Err: err}
	if err != nil {
		if len(d.res.Skipped) < maxSkipped {
			d.res.Skipped = append(d.res.Skipped, f)
			d.note(step, err.Error())
		}
		return
	}
	for _, have := range d.res.Found {
		if string(have.DER) == string(der) {
			return
		}
	}
	if len(d.res.Found) == maxFound {
		d.note(step, fmt.Sprintf("more than %d certificates; the rest is left out", maxFound))
		return
	}
	d.res.Found = append(d.res.Found, f)
}

// note adds to the detail of a step, once.
func (d *discovery) note(step int, text string) {
	s := &d.res.Steps[step-1]
	switch {
	case s.Detail == "":
		s.Detail = text
	case !strings.Contains(s.Detail, text):
		s.Detail += "; " + text
	}
}
