package zones

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"directnode/internal/direct"
	"directnode/store"
)

// Options is what an operator may choose about all zones.
type Options struct {
	CertTTL uint32        // of CERT records; 0 = half an hour
	Seal    *store.Sealer // opens the keys of signed zones; nil where there are none
	Form    Form          // of CERT records; empty = PKIX
	URL     string        // below which IPKIX certificates are served; ends in a slash

	// unsigned leaves out keys and signatures: for text and checks, which are
	// about what the administrator owns, and need no key for it.
	unsigned bool
}

// BuildError is why a generation was refused: what is wrong, and where.
type BuildError struct {
	Domain direct.Domain
	Name   string // the owner name, absolute
	Type   string // empty where no single record is to blame
	Reason string
}

// Error names the zone, the name, the type and the reason.
func (e *BuildError) Error() string {
	at := e.Name
	if e.Type != "" {
		at += " " + e.Type
	}
	return fmt.Sprintf("zone %s: %s: %s", e.Domain, at, e.Reason)
}

// Build makes the zones of a generation. The error is a *BuildError.
func Build(v *store.View, o Options) (*Set, error) {
	return build(&Set{options: o}, v.Rev, dataOf(v))
}

// Update makes the zones of the next generation: those whose data did not
// change are shared with this one. The error is a *BuildError.
func (s *Set) Update(v *store.View) (*Set, error) { return build(s, v.Rev, dataOf(v)) }

// BuildParsed makes zones of texts alone, as a comparison with another server
// on the same files needs them. All certificates are published. The error is a
// *BuildError.
func BuildParsed(rev int64, o Options, texts ...Parsed) (*Set, error) {
	var all []*store.DomainData
	for _, p := range texts {
		d := &store.DomainData{Domain: p.Domain, Records: p.Records, Signing: p.Signing}
		certs := make([]store.Certificate, 0, len(p.Certs))
		for _, c := range p.Certs {
			certs = append(certs, store.Certificate{Owner: c.Owner, DER: c.DER, PublishDNS: true})
		}
		d.Certificates = store.NewCertificates(certs...)
		all = append(all, d)
	}
	return build(&Set{options: o}, rev, all)
}

func dataOf(v *store.View) []*store.DomainData {
	var all []*store.DomainData
	for _, d := range v.Domains() {
		all = append(all, v.Domain(d))
	}
	return all
}

func build(before *Set, rev int64, all []*store.DomainData) (*Set, error) {
	next := &Set{rev: rev, options: before.options, memory: before.memory, zones: make(map[Name]*Zone, len(all))}
	hosted := make(map[Name]*store.DomainData, len(all))
	for _, d := range all {
		apex, err := ParseName(d.Domain.DNSName())
		if err != nil {
			return nil, &BuildError{Domain: d.Domain, Name: d.Domain.DNSName(), Reason: err.Error()}
		}
		hosted[apex] = d
	}
	in := inputsOf(hosted)
	for _, apex := range slices.Sorted(maps.Keys(in)) {
		z, err := zoneOf(apex, *in[apex], before.zones[apex], next)
		if err != nil {
			return nil, err
		}
		next.zones[apex] = z
		next.deepest = max(next.deepest, apex.labels())
	}
	return next, nil
}

// inputsOf finds what each zone is made of.
func inputsOf(hosted map[Name]*store.DomainData) map[Name]*inputs {
	all := make(map[Name]*inputs, len(hosted))
	for apex, data := range hosted {
		all[apex] = &inputs{data: data}
	}
	for apex, in := range all {
		for up := apex.parent(); !up.isRoot(); up = up.parent() {
			if above := all[up]; above != nil {
				in.parents = append(in.parents, above.data)
				above.below = append(above.below, apex)
			}
		}
	}
	for _, in := range all {
		slices.Sort(in.below)
	}
	return all
}

func (in inputs) equal(other inputs) bool {
	return in.data == other.data && slices.Equal(in.parents, other.parents) && slices.Equal(in.below, other.below)
}

// zoneOf gives the zone for its inputs: the one there was if they are the same,
// that one with a few names changed if only certificates are others, else a new
// one.
func zoneOf(apex Name, in inputs, before *Zone, next *Set) (*Zone, error) {
	if before != nil && before.from.equal(in) {
		return before, nil
	}
	b := &builder{
		zone:    &Zone{domain: in.data.Domain, domainText: in.data.Domain.String(), serial: uint32(next.rev), from: in},
		before:  before,
		certTTL: cmp.Or(next.options.CertTTL, defaultCertTTL),
		form:    cmp.Or(next.options.Form, FormPKIX),
		url:     next.options.URL,
	}
	b.zone.certTTL = b.certTTL
	err := b.openKeys(apex, next)
	if err != nil {
		return nil, err
	}
	if owners, ok := in.since(before); ok {
		err = b.change(owners)
	} else {
		err = b.build(apex)
	}
	if err != nil {
		return nil, err
	}
	b.zone.remember(before)
	return b.zone, nil
}

// builder makes one zone, with build or with change.
type builder struct {
	zone    *Zone
	before  *Zone // the zone one generation ago, nil for a new one
	certTTL uint32
	form    Form
	url     string
	items   []item
	order   []*Node        // all nodes as they were made, so that errors do not depend on a map
	written map[*Node]bool // by change: nodes that are this zone's own; the others are shared
	moved   map[Name]bool  // by change: names whose owner's certificates are those of the new data already
}

// build makes the zone from nothing.
func (b *builder) build(apex Name) error {
	in := b.zone.from
	b.zone.nodes = newTable(len(in.data.Records))
	b.zone.apex = &Node{name: apex}
	b.zone.nodes.put(b.zone.apex)
	b.order = append(b.order, b.zone.apex)
	for _, name := range in.below {
		b.node(name).pinned = true // it exists, whether or not the records delegate it
	}
	for _, step := range []func() error{b.addRecords, b.addCertificates, b.group, b.checkApex, b.addKeys, b.cutAt, b.renameAt, b.checkBare, b.link} {
		if err := step(); err != nil {
			return err
		}
	}
	b.zone.nodes = b.zone.nodes.grown()
	return nil
}

// item is one record on its way into an RRset.
type item struct {
	node *Node
	typ  uint16
	ttl  uint32
	data rdata
}

func (b *builder) refuse(n Name, rrtype uint16, format string, args ...any) error {
	e := &BuildError{Domain: b.zone.domain, Name: n.String(), Reason: fmt.Sprintf(format, args...)}
	if rrtype != 0 {
		e.Type = typeString(rrtype)
	}
	return e
}

// node is the node of a name in the zone, to be written to. It and what is
// missing between it and the apex are made (RFC 4592 §2.2.2: empty non-terminals
// exist).
func (b *builder) node(name Name) *Node {
	n := b.zone.nodes.get(name)
	switch {
	case n == nil:
		above := b.node(name.parent())
		n = &Node{name: name, cut: above.cut, renamed: above.renamed}
		if name.first() == "*" {
			above.wildcard = n
		}
		if !b.fromBare(n) {
			above.children++
		}
	case b.written == nil || b.written[n]:
		return n
	default:
		shared := n
		n = new(Node)
		*n = *shared
		n.sets = slices.Clone(shared.sets)
		if n.cut == shared {
			n.cut = n
		}
		if n.renamed == shared {
			n.renamed = n
		}
	}
	b.zone.nodes.put(n)
	if b.written != nil {
		b.written[n] = true
	} else {
		b.order = append(b.order, n)
	}
	return n
}

func (b *builder) addRecords() error {
	for _, r := range b.zone.from.data.Records {
		if err := b.addRecord(r); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) addRecord(r store.Record) error {
	fail := func(reason string) error {
		return &BuildError{Domain: b.zone.domain, Name: r.Name, Type: r.Type, Reason: reason}
	}
	name, err := ParseName(r.Name)
	if err != nil {
		return fail(err.Error())
	}
	if !name.within(b.zone.apex.name) {
		return fail("the name lies outside the zone")
	}
	typ, ok := parseType(r.Type)
	if !ok {
		return fail("unknown type")
	}
	if why := refusedType(typ); why != "" {
		return fail(why)
	}
	// RFC 4592 §4.2: what a cut made from an asterisk means is undefined.
	if typ == dns.TypeNS && name.first() == "*" {
		return fail("a wildcard cannot be delegated")
	}
	// RFC 6672 §3.3: neither what it should lead to, nor who would cache it.
	if typ == dns.TypeDNAME && name.first() == "*" {
		return fail("a wildcard cannot lead elsewhere as a whole")
	}
	if r.TTL > maxTTL {
		return fail(fmt.Sprintf("TTL over %d (RFC 2181 §8)", maxTTL))
	}
	tokens, err := tokenize(r.Data)
	if err != nil {
		return fail(err.Error())
	}
	wire, err := parseRData(typ, tokens, ".")
	if err != nil {
		return fail(err.Error())
	}
	if typ == dns.TypeCERT && binary.BigEndian.Uint16(wire) == certPKIX {
		if same, why := b.conflict(name, wire); same || why != "" {
			if same {
				return nil
			}
			return fail(why)
		}
	}
	n := b.node(name)
	n.pinned = true
	b.items = append(b.items, item{n, typ, r.TTL, rdata{body: wire}})
	return nil
}

// group makes RRsets of the items and hangs them on their nodes.
func (b *builder) group() error {
	slices.SortFunc(b.items, func(x, y item) int {
		return cmp.Or(strings.Compare(string(x.node.name), string(y.node.name)), cmp.Compare(x.typ, y.typ), x.data.compare(y.data))
	})
	for rest := b.items; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].node == rest[0].node && rest[n].typ == rest[0].typ {
			n++
		}
		if err := b.hang(rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	b.items = nil
	for _, n := range b.order {
		if err := b.checkAlias(n); err != nil {
			return err
		}
	}
	return nil
}

// checkAlias holds a name against RFC 1034 §3.6.2: an alias has no other data.
func (b *builder) checkAlias(n *Node) error {
	if n.RRset(dns.TypeCNAME) == nil || len(n.sets) == 1 {
		return nil
	}
	other := n.sets[0].Type
	if other == dns.TypeCNAME {
		other = n.sets[1].Type
	}
	return b.refuse(n.name, dns.TypeCNAME, "the name also owns %s; an alias has no other data (RFC 1034 §3.6.2)", typeString(other))
}

// hang makes one RRset of all items of a name and type.
func (b *builder) hang(items []item) error {
	node, typ := items[0].node, items[0].typ
	ttl, size := items[0].ttl, 0
	var data []rdata
	for _, it := range items {
		ttl = min(ttl, it.ttl) // RFC 2181 §5.2: one TTL for all
		if len(data) > 0 && data[len(data)-1].compare(it.data) == 0 {
			continue // RFC 2181 §5: no record twice
		}
		data = append(data, it.data)
		size += recordFixed + it.data.len()
	}
	if err := b.checkSize(node.name, typ, size, len(data)); err != nil {
		return err
	}
	switch {
	case typ == dns.TypeCNAME && len(data) > 1:
		return b.refuse(node.name, typ, "%d records; an alias leads to one name (RFC 2181 §10.1)", len(data))
	case typ == dns.TypeDNAME && len(data) > 1:
		return b.refuse(node.name, typ, "%d records; a name leads to one (RFC 6672 §2.4)", len(data))
	case typ == dns.TypeSOA && len(data) > 1:
		return b.refuse(node.name, typ, "%d records; a zone has one (RFC 1035 §5.2)", len(data))
	case typ == dns.TypeSOA:
		data[0] = withSerial(data[0], b.zone.serial)
	}
	set := newRRset(typ, ttl, data)
	if typ == dns.TypeCNAME || typ == dns.TypeDNAME {
		set.target = Name(AppendLower(nil, data[0].body))
	}
	node.sets = append(node.sets, set)
	return nil
}

func (b *builder) checkSize(name Name, rrtype uint16, octets, count int) error {
	switch {
	case octets > maxSetOctets:
		return b.refuse(name, rrtype, "%d octets of records; a DNS message cannot carry more than %d", octets, maxSetOctets)
	case rrtype == dns.TypeCERT && count > maxCerts:
		return b.refuse(name, rrtype, "%d records; at most %d", count, maxCerts)
	}
	return nil
}

// soaFixed is the numbers behind the two names of a SOA (RFC 1035 §3.3.13).
const soaFixed = 5 * 4

func withSerial(soa rdata, serial uint32) rdata {
	body := slices.Clone(soa.body)
	binary.BigEndian.PutUint32(body[len(body)-soaFixed:], serial)
	return rdata{body: body}
}

// checkApex holds the zone against RFC 1034 §4.2.1: it begins with a SOA and
// names its servers.
func (b *builder) checkApex() error {
	apex := b.zone.apex
	soa := apex.RRset(dns.TypeSOA)
	if soa == nil {
		return b.refuse(apex.name, dns.TypeSOA, "missing; every zone has one (RFC 1034 §4.2.1)")
	}
	if apex.RRset(dns.TypeNS) == nil {
		return b.refuse(apex.name, dns.TypeNS, "missing; every zone names its servers (RFC 1034 §4.2.1)")
	}
	b.zone.negative = negative(soa)
	for _, n := range b.order {
		if n != apex && n.RRset(dns.TypeSOA) != nil {
			return b.refuse(n.name, dns.TypeSOA, "stands below the apex")
		}
	}
	return nil
}

// negative is the SOA for negative answers (RFC 2308 §3).
func negative(soa *RRset) *RRset {
	for wire := range soa.RData {
		ttl := min(soa.TTL, binary.BigEndian.Uint32(wire[len(wire)-4:]), maxTTL)
		return newRRset(dns.TypeSOA, ttl, []rdata{{body: wire}})
	}
	return nil
}

// link finds the addresses that go with NS, MX and SRV records (RFC 1034
// §3.7.1, RFC 2782) once for all queries.
func (b *builder) link() error {
	for _, n := range b.order {
		for _, s := range n.sets {
			skip, ok := hostOffset(s.Type)
			if !ok {
				continue
			}
			for wire := range s.RData {
				host := b.zone.nodes.find(AppendLower(nil, wire[skip:]))
				if host == nil || host.RRset(dns.TypeA) == nil && host.RRset(dns.TypeAAAA) == nil {
					continue
				}
				// Addresses below a cut are not ours to give, except as glue.
				if (host.cut == nil || s.Type == dns.TypeNS) && !slices.Contains(s.hosts, host) {
					s.hosts = append(s.hosts, host)
				}
			}
		}
	}
	return nil
}

// hostOffset is where in RDATA the name of a server begins.
func hostOffset(rrtype uint16) (int, bool) {
	switch rrtype {
	case dns.TypeNS:
		return 0, true
	case dns.TypeMX:
		return 2, true
	case dns.TypeSRV:
		return 6, true
	}
	return 0, false
}
