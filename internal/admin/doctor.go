package admin

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"directnode/internal/direct"
	"directnode/internal/probe"
	"directnode/store"
	"directnode/zones"
)

// Prober asks the node's own listeners as a stranger would. It may be used by
// any number of goroutines, and gives up when the context ends.
type Prober interface {
	// DNS puts one question to one server, by udp or tcp.
	DNS(ctx context.Context, server netip.AddrPort, network, name, qtype string) (probe.Answer, error)
	// LDAP binds anonymously, reads the root DSE, and searches for an address
	// unless that is empty.
	LDAP(ctx context.Context, server netip.AddrPort, mail string) (probe.Directory, error)
	// Addresses are those of the machine.
	Addresses() []netip.Addr
}

// Listeners are where the node answers. Addresses may be unspecified.
type Listeners struct {
	DNS     []netip.AddrPort // UDP and TCP
	LDAP    []netip.AddrPort // StartTLS or nothing
	LDAPTLS []netip.AddrPort
}

// The verdicts of a check.
const (
	VerdictOK      = "ok"
	VerdictWarning = "warning"
	VerdictFailed  = "failed"
	VerdictSkipped = "skipped" // it could not be made, or is not ours to make: nobody knows
)

// DoctorCheck is one row of a diagnosis: what was looked at, what was found,
// and what to do about it.
type DoctorCheck struct {
	ID      string `json:"id"`
	Domain  string `json:"domain,omitempty"`
	Looked  string `json:"looked"`
	Verdict string `json:"verdict"`
	What    string `json:"what"`
	Do      string `json:"do,omitempty"` // where the verdict is warning or failed
}

// Diagnosis is what the doctor found.
type Diagnosis struct {
	Checks   []DoctorCheck `json:"checks"`
	OK       int           `json:"ok"`
	Warnings int           `json:"warnings"`
	Failed   int           `json:"failed"`
	Skipped  int           `json:"skipped"`
	Code     int           `json:"code"`
}

// Doctor looks at one domain, or at all, as strangers see it. It asks the
// node's own listeners and nobody else; where something lies in the hands of
// others, it says so.
func (s *Service) Doctor(ctx context.Context, req DomainRequest) (Diagnosis, error) {
	v, domains, err := s.chosen(req.Domain)
	if err != nil {
		return Diagnosis{}, err
	}
	if s.o.Probe == nil {
		return Diagnosis{}, &Error{"DN-DOCTOR-001", CodeBug, "nothing was looked at", "the node has nothing to ask its listeners with", "look at the daemon's log"}
	}
	d := &doctor{s: s, at: time.Now(), view: v, checkZone: zones.Checker(v), out: []DoctorCheck{}}
	if len(domains) == 0 {
		d.row = "node.domains"
		d.warning("the domains of this node", "there is none: nothing is published and no mail is taken", "add one with `directctl domain add DOMAIN`")
	}
	for _, domain := range domains {
		if err := d.domain(ctx, domain, domainChecks); err != nil {
			return Diagnosis{}, storeFailure("the domains were not looked at to the end", err)
		}
	}
	return d.diagnosis(), nil
}

// ldapChecks runs what `domain show` shows of LDAP.
func (s *Service) ldapChecks(ctx context.Context, v *store.View, domain direct.Domain) []DoctorCheck {
	if s.o.Probe == nil {
		return nil
	}
	d := &doctor{s: s, at: time.Now(), view: v}
	_ = d.domain(ctx, domain, srvChecks) // cut off: what there is
	return d.out
}

// doctor is one look at the node.
type doctor struct {
	s         *Service
	at        time.Time
	view      *store.View
	checkZone func(direct.Domain) []zones.Finding
	out       []DoctorCheck

	// Of the domain that is looked at.
	row  string // of the check
	data *store.DomainData
	ldap *ldapView
}

// domainRow is one row of the table.
type domainRow struct {
	id   string
	look func(*doctor, context.Context)
}

// domainChecks is every check of a domain, in the order in which they are told.
// Another kind of check is another row.
var domainChecks = slices.Concat([]domainRow{
	{"zone.check", (*doctor).lookZone},
	{"dns.answers", (*doctor).lookDNS},
	{"dns.certificate", (*doctor).lookDNSCertificate},
}, srvChecks, []domainRow{
	{"ldap.answers", (*doctor).lookLDAP},
	{"ldap.certificate", (*doctor).lookLDAPCertificate},
	{"cert.expiry", (*doctor).lookExpiry},
})

// srvChecks are those of how LDAP is found: (RFC 2782, Certificate Discovery IG).
var srvChecks = []domainRow{
	{"ldap.srv", (*doctor).lookSRV},
	{"ldap.srv-target", (*doctor).lookTargets},
	{"ldap.srv-port", (*doctor).lookPorts},
}

// domain runs checks on one domain. The error is that of the context.
func (d *doctor) domain(ctx context.Context, name direct.Domain, rows []domainRow) error {
	d.data, d.ldap = d.view.Domain(name), nil
	for _, row := range rows {
		d.row = row.id
		row.look(d, ctx)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

func (d *doctor) add(looked, verdict, what, do string) {
	c := DoctorCheck{ID: d.row, Looked: looked, Verdict: verdict, What: what, Do: do}
	if d.data != nil {
		c.Domain = d.data.Domain.String()
	}
	d.out = append(d.out, c)
}

func (d *doctor) ok(looked, what string)          { d.add(looked, VerdictOK, what, "") }
func (d *doctor) skipped(looked, what string)     { d.add(looked, VerdictSkipped, what, "") }
func (d *doctor) warning(looked, what, do string) { d.add(looked, VerdictWarning, what, do) }
func (d *doctor) failed(looked, what, do string)  { d.add(looked, VerdictFailed, what, do) }
func (d *doctor) domainName() string              { return d.data.Domain.String() }
func (d *doctor) short(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, probeTime)
}

// diagnosis counts.
func (d *doctor) diagnosis() Diagnosis {
	out := Diagnosis{Checks: d.out}
	for _, c := range d.out {
		switch c.Verdict {
		case VerdictOK:
			out.OK++
		case VerdictWarning:
			out.Warnings++
		case VerdictFailed:
			out.Failed++
		case VerdictSkipped:
			out.Skipped++
		}
	}
	switch {
	case out.Failed > 0:
		out.Code = CodeFailed
	case out.Warnings > 0:
		out.Code = CodeWarnings
	}
	return out
}

// lookZone tells of the zone what `zone check` tells.
func (d *doctor) lookZone(context.Context) {
	const looked = "the records of the zone"
	findings := d.checkZone(d.data.Domain)
	for _, f := range findings {
		verdict := VerdictWarning
		if f.Level == zones.LevelError {
			verdict = VerdictFailed
		}
		d.row = "zone." + f.Name
		d.add(looked, verdict, fmt.Sprintf("%s (%s)", f.What, f.Citation), f.Do)
	}
	if len(findings) == 0 {
		d.ok(looked, "nothing is wrong with them")
	}
}

// reachable is an address at which the machine itself reaches a listener.
func reachable(l netip.AddrPort) netip.AddrPort {
	switch a := l.Addr(); {
	case !a.IsUnspecified():
		return l
	case a.Is4():
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), l.Port())
	default:
		return netip.AddrPortFrom(netip.IPv6Loopback(), l.Port())
	}
}

// lookDNS asks every DNS listener for the SOA, in both ways.
func (d *doctor) lookDNS(ctx context.Context) {
	name := d.data.Domain.DNSName()
	if len(d.s.o.Listeners.DNS) == 0 {
		d.skipped("SOA "+name, "the node has no DNS listener")
		return
	}
	for _, l := range d.s.o.Listeners.DNS[:min(len(d.s.o.Listeners.DNS), maxProbed)] {
		for _, network := range []string{"udp", "tcp"} {
			looked := fmt.Sprintf("SOA %s at %s by %s", name, reachable(l), network)
			a, err := d.ask(ctx, l, network, name, "SOA")
			switch {
			case err != nil:
				d.failed(looked, err.Error(), "look at the daemon's log and at what filters packets on this machine")
			case a.Rcode == "SERVFAIL":
				d.failed(looked, "SERVFAIL: the zone cannot be answered now", "see `directctl domain show "+d.domainName()+"`; a secondary whose primary is silent for too long says this")
			case a.Rcode != "NOERROR" || !a.SOA || !a.Authoritative:
				d.failed(looked, fmt.Sprintf("no authoritative answer but %s", a.Rcode), "see that no other server listens on that address")
			default:
				d.ok(looked, "an authoritative answer")
			}
		}
	}
}

func (d *doctor) ask(ctx context.Context, l netip.AddrPort, network, name, qtype string) (probe.Answer, error) {
	ctx, cancel := d.short(ctx)
	defer cancel()
	return d.s.o.Probe.DNS(ctx, reachable(l), network, name, qtype)
}

// lookDNSCertificate asks for a certificate that is published, as a sender does.
func (d *doctor) lookDNSCertificate(ctx context.Context) {
	owner, ders, ok := d.published(store.Holding.AnyDNS, store.Holding.InDNS, true)
	if !ok {
		d.ok("certificates published by DNS", "there is none")
		return
	}
	name, _ := owner.DNSName() // published looked for one that has a name
	looked := "CERT " + name
	if len(d.s.o.Listeners.DNS) == 0 {
		d.skipped(looked, "the node has no DNS listener")
		return
	}
	l := d.s.o.Listeners.DNS[0]
	looked = fmt.Sprintf("%s at %s by tcp", looked, reachable(l))
	a, err := d.ask(ctx, l, "tcp", name, "CERT")
	switch {
	case err != nil:
		d.failed(looked, err.Error(), "look at the daemon's log and at what filters packets on this machine")
	case len(a.Certs) == 0 && a.URLs > 0:
		d.skipped(looked, fmt.Sprintf("%d URLs of certificates; URLs are not followed", a.URLs))
	case !sameSet(a.Certs, ders):
		d.failed(looked, fmt.Sprintf("%s, with %d certificates where %d are published", a.Rcode, len(a.Certs), len(ders)), "run `directctl zone check "+d.domainName()+"` and `directctl store check`, then look at the daemon's log")
	default:
		d.ok(looked, fmt.Sprintf("the %d published certificates of %s", len(ders), owner))
	}
}

// published is an owner with certificates that are published, the first that
// comes, and these.
func (d *doctor) published(any func(store.Holding) bool, in func(store.Holding, int) bool, named bool) (owner direct.Owner, ders [][]byte, ok bool) {
	for h := range d.data.Certificates.Holdings {
		if !any(h) {
			continue
		}
		o := h.Owner()
		if _, err := o.DNSName(); named && err != nil {
			continue
		}
		for i := range h.Len() {
			if in(h, i) {
				ders = append(ders, h.DER(i))
			}
		}
		return o, ders, true
	}
	return owner, nil, false
}

// sameSet compares what was found with what is published.
func sameSet(a, b [][]byte) bool {
	fingerprints := func(ders [][]byte) []string {
		var out []string
		for _, der := range ders {
			out = append(out, store.Fingerprint(der))
		}
		slices.Sort(out)
		return slices.Compact(out)
	}
	return slices.Equal(fingerprints(a), fingerprints(b))
}

// ports are those of listeners.
func ports(list []netip.AddrPort) (out []uint16) {
	for _, l := range list {
		out = append(out, l.Port())
	}
	return out
}

// ldapView is what the DNS says about where LDAP is, asked once.
type ldapView struct {
	servers []ldapServer
	why     string // there is no answer
}

// ldapServer is an SRV record and what is known of its target.
type ldapServer struct {
	net.SRV
	addrs   probe.Answer
	err     error
	foreign bool // another zone than ours holds the name
	ours    bool // this node
}

func (s ldapServer) String() string {
	return fmt.Sprintf("%d %d %d %s", s.Priority, s.Weight, s.Port, s.Target)
}
