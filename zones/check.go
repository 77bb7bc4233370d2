package zones

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"directnode/internal/direct"
	"directnode/store"
)

// Level says how bad a finding is.
type Level string

// The levels.
const (
	LevelError   Level = "error"   // mail or certificates do not reach those who ask
	LevelWarning Level = "warning" // it works for most, or will not for long
)

// Finding is one thing about a zone that its administrator should know.
type Finding struct {
	Level    Level
	Name     string // of the check
	Citation string // the text that asks for it
	What     string // what was found, and where
	Do       string // what to do about it
}

// String is the finding on one line.
func (f Finding) String() string {
	return fmt.Sprintf("%s %s: %s (%s); %s", f.Level, f.Name, f.What, f.Citation, f.Do)
}

// Check looks at the zone of a domain as the view would show it. It looks at
// our own data alone and asks nobody: what lies in zones of others is not
// judged. The findings are in the order of the checks, then of the names.
func Check(v *store.View, d direct.Domain) []Finding { return Checker(v)(d) }

// Checker is Check for more than one domain: the zones are built once.
func Checker(v *store.View) func(direct.Domain) []Finding {
	s, err := Build(v, Options{unsigned: true})
	if err == nil {
		return s.Check
	}
	return func(d direct.Domain) []Finding {
		what := err.Error()
		var be *BuildError
		if errors.As(err, &be) && be.Domain != d {
			what = "another zone holds everything up: " + what
		}
		return []Finding{{LevelError, "builds", "RFC 1034 §4.2.1", what, "correct the record; until then the node publishes what it had before"}}
	}
}

// Check is Check for zones that are built already.
func (s *Set) Check(d direct.Domain) []Finding {
	z := s.Zone(d)
	if z == nil {
		return []Finding{{LevelError, "hosted", "AS 1.1", fmt.Sprintf("%s is not one of our domains", d), "add the domain"}}
	}
	c := &checker{set: s, zone: z, nodes: z.withRecords()}
	for _, row := range checks {
		c.row = row
		row.look(c)
	}
	return c.findings
}

// check is one row of the table.
type check struct {
	name     string
	level    Level
	citation string
	look     func(*checker)
}

// checks are all checks but that the zone builds.
var checks = []check{
	{"soa-timers", LevelWarning, "RFC 1912 §2.2", (*checker).soaTimers},
	{"soa-minimum", LevelWarning, "RFC 2308 §5", (*checker).soaMinimum},
	{"soa-names", LevelWarning, "RFC 1035 §3.3.13", (*checker).soaNames},
	{"ns-two", LevelWarning, "RFC 1034 §4.1", (*checker).twoServers},
	{"ns-address", LevelError, "RFC 1035 §3.3.11", func(c *checker) { c.targets(dns.TypeNS, isMissing) }},
	{"ns-alias", LevelError, "RFC 2181 §10.3", func(c *checker) { c.targets(dns.TypeNS, isAlias) }},
	{"cut-glue", LevelError, "RFC 1034 §4.2.1", (*checker).glue},
	{"mx-present", LevelError, "AS 1.1", (*checker).mxPresent},
	{"mx-address", LevelError, "RFC 5321 §5.1", func(c *checker) { c.targets(dns.TypeMX, isMissing) }},
	{"mx-alias", LevelError, "RFC 2181 §10.3", func(c *checker) { c.targets(dns.TypeMX, isAlias) }},
	{"mx-is-name", LevelError, "RFC 1035 §3.3.9", func(c *checker) { c.targets(dns.TypeMX, isNumber) }},
	{"srv-address", LevelError, "RFC 2782", func(c *checker) { c.targets(dns.TypeSRV, isMissing) }},
	{"srv-alias", LevelError, "RFC 2782", func(c *checker) { c.targets(dns.TypeSRV, isAlias) }},
	{"srv-ipv4", LevelWarning, "Certificate Discovery IG", func(c *checker) { c.targets(dns.TypeSRV, isWithoutA) }},
	{"ttl-zero", LevelWarning, "RFC 1912 §2.2", (*checker).ttlZero},
	{"ttl-long", LevelWarning, "RFC 1912 §2.2", (*checker).ttlLong},
	{"ttl-one", LevelWarning, "RFC 2181 §5.2", (*checker).ttlOne},
	{"cert-type", LevelWarning, "AS 5.3", (*checker).certType},
	{"cert-url", LevelError, "AS 5.3, RFC 2585 §3", (*checker).certURL},
	{"cert-many", LevelWarning, "AS 5.4", (*checker).certMany},
	{"cert-unnamed", LevelWarning, "AS 5.1", (*checker).certUnnamed},
	{"wildcard-alias", LevelWarning, "RFC 4592 §4.4", (*checker).wildcardAlias},
}

// checker is what the checks look at and where they put what they find.
type checker struct {
	set      *Set
	zone     *Zone
	nodes    []*Node // those with anything but a few certificates
	row      check
	findings []Finding
}

func (c *checker) found(do, what string, args ...any) {
	c.findings = append(c.findings, Finding{c.row.level, c.row.name, c.row.citation, fmt.Sprintf(what, args...), do})
}

// manyCerts is a warning before maxCerts refuses.
const manyCerts = maxCerts / 2

// manyOctets is where a CERT RRset becomes more than clients are known to take:
// the usual ones have buffers of 16 KiB for an answer by TCP.
const manyOctets = 16 << 10

// withRecords is the nodes that a check may look at, in canonical order. A zone
// of a million addresses has few others.
func (z *Zone) withRecords() []*Node {
	var out []*Node
	for n := range z.nodes.all {
		if slices.ContainsFunc(n.sets, func(s *RRset) bool { return s.Type != dns.TypeCERT || s.crowded() || s.hasOtherThanPKIX() }) {
			out = append(out, n)
		}
	}
	for name, set := range z.allCerts {
		if set.crowded() {
			whole := *set
			out = append(out, &Node{name: name, sets: []*RRset{&whole}})
		}
	}
	slices.SortFunc(out, func(a, b *Node) int { return a.name.Compare(b.name) })
	return out
}

func (r *RRset) crowded() bool { return r.Count > manyCerts || r.octets() > manyOctets }

func (r *RRset) hasOtherThanPKIX() bool {
	for wire := range r.RData {
		if binary.BigEndian.Uint16(wire) != certPKIX {
			return true
		}
	}
	return false
}

// each calls f with every RRset of a type that the zone is authoritative for,
// or that is a cut.
func (c *checker) each(rrtype uint16, f func(*Node, *RRset)) {
	for _, n := range c.nodes {
		if s := n.RRset(rrtype); s != nil {
			f(n, s)
		}
	}
}

// soa is the SOA's names and numbers.
func (c *checker) soa() (mname, rname Name, numbers [5]uint32) {
	for wire := range c.zone.apex.RRset(dns.TypeSOA).RData {
		mname = nameIn(wire)
		rname = nameIn(wire[len(mname):])
		for i := range numbers {
			numbers[i] = binary.BigEndian.Uint32(wire[len(mname)+len(rname)+4*i:])
		}
	}
	return mname, rname, numbers
}

// nameIn is the name at the beginning of RDATA, in lower case.
func nameIn(wire []byte) Name {
	end := 0
	for end < len(wire) && wire[end] != 0 {
		end += 1 + int(wire[end])
	}
	return Name(AppendLower(nil, wire[:end+1]))
}

const day = 86400

func (c *checker) soaTimers() {
	_, _, n := c.soa()
	refresh, retry, expire := n[1], n[2], n[3]
	if retry == 0 || retry >= refresh {
		c.found("set retry below refresh, such as 600 and 3600", "refresh %d, retry %d: a secondary that fails once does not ask sooner", refresh, retry)
	}
	if expire < 7*day || expire <= refresh+retry {
		c.found("set expire to 1209600, two weeks", "expire %d: a secondary stops answering that soon after this node fails", expire)
	}
}

func (c *checker) soaMinimum() {
	if _, _, n := c.soa(); n[4] > day {
		c.found("set minimum to 300", "minimum %d: who asked for an address before it was there does not find it for so long", n[4])
	}
}

func (c *checker) soaNames() {
	mname, rname, _ := c.soa()
	if rname.labels() < 2 {
		c.found("name a mailbox, such as hostmaster and the domain", "the mailbox of the SOA is %s", rname)
	}
	if h := c.set.host(mname); mname.isRoot() || h.known && !h.a && !h.aaaa {
		c.found("name the server where the zone is kept and give it an address", "the server of the SOA, %s, has no address here", mname)
	}
}

func (c *checker) twoServers() {
	if ns := c.zone.apex.RRset(dns.TypeNS); ns.Count < 2 {
		c.found("add a secondary server in another network", "one server alone, so that the domain is away whenever it is")
	}
}

func (c *checker) mxPresent() {
	mx := c.zone.apex.RRset(dns.TypeMX)
	if mx == nil {
		c.found("add an MX record with the name of the mail server", "%s has no MX record", c.zone.domain)
		return
	}
	for wire := range mx.RData {
		if mx.Count == 1 && nameIn(wire[2:]).isRoot() {
			c.found("name the mail server", "the MX record says that %s takes no mail (RFC 7505)", c.zone.domain)
		}
	}
}

// host is what our zones know of a name that serves.
type host struct {
	known          bool // one of our zones answers for the name
	a, aaaa, alias bool
}

func (s *Set) host(name Name) (h host) {
	z := s.Find([]byte(name))
	if z == nil {
		return h
	}
	for rrtype, has := range map[uint16]*bool{dns.TypeA: &h.a, dns.TypeAAAA: &h.aaaa} {
		switch z.Lookup([]byte(name), rrtype).Kind {
		case Referral:
			return host{}
		case CName, DName:
			h.alias = true
		case Hit:
			*has = true
		}
	}
	h.known = true
	return h
}

// fault tells what is wrong with the host of a record, and what helps; empty
// where nothing is.
type fault func(name Name, h host) (what, do string)

func isMissing(_ Name, h host) (what, do string) {
	if h.known && !h.alias && !h.a && !h.aaaa {
		return "has no address", "add an A record for it, or correct the name"
	}
	return "", ""
}

func isAlias(_ Name, h host) (what, do string) {
	if h.known && h.alias {
		return "is an alias", "put the name there that the alias leads to"
	}
	return "", ""
}

func isWithoutA(_ Name, h host) (what, do string) {
	if h.known && h.aaaa && !h.a {
		return "has no IPv4 address", "add an A record: many clients look for nothing else"
	}
	return "", ""
}

func isNumber(name Name, _ host) (what, do string) {
	// Written without a final dot, an address has the domain behind it.
	labels := strings.SplitN(name.String(), ".", 5)
	if _, err := netip.ParseAddr(strings.Join(labels[:min(4, len(labels))], ".")); err == nil {
		return "is an address, not a name", "give the address a name with an A record and put that name there"
	}
	return "", ""
}

// targets holds the hosts that the records of a type name against one fault.
func (c *checker) targets(rrtype uint16, wrong fault) {
	skip, _ := hostOffset(rrtype)
	c.each(rrtype, func(n *Node, s *RRset) {
		for wire := range s.RData {
			name := nameIn(wire[skip:])
			// "." says that there is no such service (RFC 2782, RFC 7505 §3).
			// What lies at and below a cut is for glue.
			if name.isRoot() || n.cut != nil && name.within(n.name) {
				continue
			}
			if what, do := wrong(name, c.set.host(name)); what != "" {
				c.found(do, "%s %s: %s %s", n.name, typeString(rrtype), name, what)
			}
		}
	})
}

func (c *checker) glue() {
	c.each(dns.TypeNS, func(n *Node, s *RRset) {
		for wire := range s.RData {
			name := nameIn(wire)
			if n.cut != n || !name.within(n.name) {
				continue
			}
			if at := c.zone.nodes.get(name); at == nil || at.RRset(dns.TypeA) == nil && at.RRset(dns.TypeAAAA) == nil {
				c.found("add its A record to this zone too", "%s is delegated to %s, whose address nobody can find without the zone itself", n.name, name)
			}
		}
	})
}

// longTTL is a week: what RFC 1912 §2.2 calls long.
const longTTL = 7 * day

func (c *checker) ttlZero() {
	c.ttl(func(ttl uint32) bool { return ttl == 0 }, "TTL 0: every use of the record is a question here", "set a TTL of 300 or more")
}

func (c *checker) ttlLong() {
	c.ttl(func(ttl uint32) bool { return ttl > longTTL }, "is kept by others for more than a week after it was changed", "set a TTL of a day or less")
}

func (c *checker) ttl(odd func(uint32) bool, what, do string) {
	for _, n := range c.nodes {
		for _, s := range n.sets {
			if odd(s.TTL) {
				c.found(do, "%s %s: %s", n.name, typeString(s.Type), what)
			}
		}
	}
}

func (c *checker) ttlOne() {
	type key struct {
		name Name
		typ  uint16
	}
	first, told := make(map[key]uint32), make(map[key]bool)
	for _, r := range c.zone.from.data.Records {
		name, err := ParseName(r.Name)
		typ, ok := parseType(r.Type)
		if err != nil || !ok {
			continue // the zone would not have been built
		}
		k := key{name, typ}
		if ttl, ok := first[k]; !ok {
			first[k] = r.TTL
		} else if ttl != r.TTL && !told[k] {
			told[k] = true
			c.found("give them one TTL", "%s %s: records with different TTLs; the smallest is published for all", name, typeString(typ))
		}
	}
}

func (c *checker) certType() {
	c.eachOtherCERT(func(n *Node, kind uint16, _ []byte) {
		if kind == certIPKIX {
			c.found("publish the certificate itself where you have it", "%s CERT: the URL of a certificate; several clients and the certification tools count certificates alone", n.name)
		} else {
			c.found("take the record out", "%s CERT: type %d is neither a certificate (1) nor the URL of one (4)", n.name, kind)
		}
	})
}

func (c *checker) certURL() {
	c.eachOtherCERT(func(n *Node, kind uint16, data []byte) {
		if kind != certIPKIX {
			return
		}
		if u, err := url.Parse(string(data)); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			c.found("put an http URL there", "%s CERT: %.80q is no http URL", n.name, data)
		}
	})
}

// eachOtherCERT calls f with every CERT record that is not of type PKIX.
func (c *checker) eachOtherCERT(f func(n *Node, kind uint16, data []byte)) {
	c.each(dns.TypeCERT, func(n *Node, s *RRset) {
		for wire := range s.RData {
			if kind := binary.BigEndian.Uint16(wire); kind != certPKIX {
				f(n, kind, wire[certHead:])
			}
		}
	})
}

func (c *checker) certMany() {
	c.each(dns.TypeCERT, func(n *Node, s *RRset) {
		if s.crowded() {
			c.found("take out what has expired or was replaced", "%s CERT: %d records, %d octets; at most %d and %d are published, and clients may take less", n.name, s.Count, s.octets(), maxCerts, maxSetOctets)
		}
	})
}

func (c *checker) certUnnamed() {
	for _, o := range c.zone.unnamed {
		c.found("publish them by LDAP, or choose another address", "the certificates of %s have no domain name to stand at", o)
	}
}

func (c *checker) wildcardAlias() {
	c.each(dns.TypeCNAME, func(n *Node, s *RRset) {
		if n.name.first() == "*" {
			c.found("name the aliases one by one", "%s CNAME: every address without a certificate of its own leads to %s", n.name, s.target)
		}
	})
}
