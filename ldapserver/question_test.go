package ldapserver_test

import (
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"directnode/internal/ber"
	"directnode/store"
)

// question is a search for the differential test, in parts that can be rewritten.
type question struct {
	base      string
	scope     int64
	deref     int64
	size      int64
	seconds   int64
	typesOnly bool
	filter    item
	selectors []string

	// everywhere makes one search of it below each naming context; see asker.one.
	everywhere bool
	// plainBase is the same base as the directory itself would write it; empty
	// where base is no name of an entry.
	plainBase string
	directory view
}

func (q question) pdu(id int64) []byte {
	return ask{base: q.base, scope: q.scope, deref: q.deref, size: q.size, seconds: q.seconds, typesOnly: q.typesOnly,
		filter: q.filter.encode(), attributes: q.selectors}.pdu(id)
}

func (q question) String() string {
	return fmt.Sprintf("base %q scope %d deref %d size %d seconds %d typesOnly %v filter %s attributes %q everywhere %v",
		q.base, q.scope, q.deref, q.size, q.seconds, q.typesOnly, q.filter, q.selectors, q.everywhere)
}

// The kinds of filter items, which are the context tags of RFC 4511 §4.5.1.7.
const (
	isAnd = iota
	isOr
	isNot
	isEqual
	isSubstrings
	isGreater
	isLess
	isPresent
	isApprox
	isExtensible
)

// item is a filter.
type item struct {
	kind  int
	of    []item // AND, OR, NOT
	name  string // the attribute description; of an extensible item it may be absent
	value string
	parts []string // of substrings: initial, any…, final; initial and final may be absent
	rule  string   // of an extensible item; may be absent
	dn    bool     // of an extensible item: attributes of the name count
}

func (f item) encode() []byte {
	switch f.kind {
	case isAnd, isOr, isNot:
		var parts [][]byte
		for _, part := range f.of {
			parts = append(parts, part.encode())
		}
		return set(uint32(f.kind), parts...)
	case isPresent:
		return present(f.name)
	case isSubstrings:
		return substrings(f.name, f.parts...)
	case isExtensible:
		return f.encodeExtensible()
	}
	return assertion(uint32(f.kind), f.name, f.value)
}

// encodeExtensible is MatchingRuleAssertion (RFC 4511 §4.5.1).
func (f item) encodeExtensible() []byte {
	var content []byte
	for tag, text := range []string{1: f.rule, 2: f.name} {
		if text != "" {
			content = ber.AppendTLV(content, ber.Context(uint32(tag), false), []byte(text))
		}
	}
	content = ber.AppendTLV(content, ber.Context(3, false), []byte(f.value))
	if f.dn {
		content = ber.AppendTLV(content, ber.Context(4, false), []byte{0xff})
	}
	return ber.AppendTLV(nil, ber.Context(isExtensible, true), content)
}

func (f item) String() string {
	switch f.kind {
	case isAnd, isOr, isNot:
		var b strings.Builder
		for _, part := range f.of {
			b.WriteString(part.String())
		}
		return "(" + "&|!"[f.kind:f.kind+1] + b.String() + ")"
	case isSubstrings:
		return fmt.Sprintf("(%s=SUBSTRINGS %q)", f.name, f.parts)
	case isPresent:
		return "(" + f.name + "=*)"
	case isExtensible:
		return fmt.Sprintf("(%s dn %v rule %q :=%q)", f.name, f.dn, f.rule, f.value)
	}
	return fmt.Sprintf("(%s%s%q)", f.name, map[int]string{isEqual: "=", isGreater: ">=", isLess: "<=", isApprox: "~="}[f.kind], f.value)
}

// each gives the filter with every item that is no set replaced by f of it.
func (f item) each(change func(item) item) item {
	if f.kind > isNot {
		return change(f)
	}
	of := make([]item, len(f.of))
	for i, part := range f.of {
		of[i] = part.each(change)
	}
	f.of = of
	return f
}

// questioner makes questions by chance about a directory.
type questioner struct {
	*rand.Rand
	directory view
	owners    []owned
	pinned    bool   // every filter names an address, or up to four
	focus     *owned // whom a search is about, most of the time
}

// owned is an owner with the domain that publishes its certificates.
type owned struct {
	mail, local string
	data        *store.DomainData
}

func newQuestioner(v view, seed uint64, pinned bool) *questioner {
	g := &questioner{Rand: rand.New(rand.NewPCG(seed, 2)), directory: v, pinned: pinned}
	for _, d := range v {
		for h := range d.Certificates.SortedHoldings {
			o := h.Owner()
			g.owners = append(g.owners, owned{o.String(), o.Address().Local(), d})
		}
	}
	return g
}

// pick gives one of a list.
func pick[T any](g *questioner, list ...T) T { return list[g.IntN(len(list))] }

// oneIn tells true once in n times.
func (g *questioner) oneIn(n int) bool { return g.IntN(n) == 0 }

func (g *questioner) next() question {
	g.focus = &g.owners[g.IntN(len(g.owners))]
	q := question{directory: g.directory, scope: int64(g.IntN(3)), typesOnly: g.oneIn(8), selectors: g.selectors()}
	q.base, q.plainBase = g.base()
	if strings.Trim(q.base, " ") == "" && q.scope == 0 {
		q.scope = 2 // the root DSE tells of the server, not of the directory
	}
	if g.oneIn(4) {
		q.deref = int64(g.IntN(4))
	}
	if g.oneIn(6) {
		q.size = int64(pick(g, 1, 2, 5, 50, 10000))
	}
	if g.oneIn(6) {
		q.seconds = int64(pick(g, 5, 60, 86400))
	}
	switch {
	case q.scope == 0 && g.oneIn(2):
		q.filter = pick(g, item{kind: isPresent, name: "objectClass"}, g.filter(3))
	case g.pinned:
		q.filter = g.pinnedFilter()
	default:
		q.filter = g.filter(3)
	}
	return q
}

// base is mostly the name of a context or an owner, in any spelling that RFC 4514
// and the older texts allow.
func (g *questioner) base() (spelled, plain string) {
	var dn [][2]string
	switch n := g.IntN(20); {
	case n < 3:
		return "", ""
	case n < 13:
		dn = contextOf(g.owner().data)
	case n < 17:
		dn = g.nameOf(g.owner())
	case n < 18:
		dn = append([][2]string{{"uid", "nobody"}}, contextOf(pick(g, g.directory...))...)
	default:
		return pick(g, "dc=test", "dc=direct,dc=test", "dc=nowhere,dc=test", "uid=x,uid=bob,dc=b,dc=direct,dc=test", "o=nowhere", "c=US", " ",
			"b.direct.test", "dc=b,,dc=test", "dc=b,dc=direct,dc=test,", "=x", "dc", `dc=b\`, `dc=b\zz,dc=test`, `dc="b`, "dc=#zz", ","), ""
	}
	return g.spellDN(dn, g.oneIn(2)), g.spellDN(dn, false)
}

// owner is one of them, most often the one that the search is about.
func (g *questioner) owner() owned {
	if g.oneIn(4) {
		return pick(g, g.owners...)
	}
	return *g.focus
}

// contextOf is the name of a domain's context, in components.
func contextOf(d *store.DomainData) (dn [][2]string) {
	for label := range strings.SplitSeq(d.Domain.String(), ".") {
		dn = append(dn, [2]string{"dc", label})
	}
	return dn
}

// nameOf is the name of an owner's entry: by uid in the owner's own domain.
func (g *questioner) nameOf(o owned) [][2]string {
	rdn := [2]string{"cn", o.mail}
	if o.local != "" && strings.HasSuffix(o.mail, "@"+o.data.Domain.String()) {
		rdn = [2]string{"uid", o.local}
	}
	return append([][2]string{rdn}, contextOf(o.data)...)
}

// spellDN writes a name, in one of its many forms if odd.
func (g *questioner) spellDN(dn [][2]string, odd bool) string {
	var b strings.Builder
	for i, part := range dn {
		if i > 0 {
			sep := ","
			if odd {
				sep = pick(g, ",", ",", ", ", " ,", " , ", ";")
			}
			b.WriteString(sep)
		}
		name, value := part[0], part[1]
		if odd {
			name = g.spellName(name)
			value = g.letters(value)
			if g.oneIn(6) {
				name += " "
			}
		}
		b.WriteString(name + "=")
		switch {
		case odd && g.oneIn(40):
			fmt.Fprintf(&b, "#04%02x%x", len(value), value)
		case odd && g.oneIn(10):
			b.WriteString(`"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`)
		default:
			g.escapeDN(&b, value, odd)
		}
	}
	return b.String()
}

// escapeDN writes a value (RFC 4514 §2.4), with more escapes than it needs if odd.
func (g *questioner) escapeDN(b *strings.Builder, value string, odd bool) {
	for i := range len(value) {
		c := value[i]
		special := strings.IndexByte(`"+,;<>\`, c) >= 0 || c == ' ' && (i == 0 || i == len(value)-1) || c == '#' && i == 0
		switch {
		case odd && g.oneIn(12), odd && special && g.oneIn(2):
			fmt.Fprintf(b, `\%02x`, c)
		case special:
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
}

// letters changes the case of some.
func (g *questioner) letters(s string) string {
	switch g.IntN(4) {
	case 0:
		return strings.ToUpper(s)
	case 1:
		b := []byte(s)
		for i := range b {
			if g.oneIn(2) {
				b[i] = swapCase(string(b[i : i+1]))[0]
			}
		}
		return string(b)
	}
	return s
}

// spelling is the names of each attribute type that the directory has.
var spelling = map[string][]string{
	"mail":            {"mail", "mail", "rfc822Mailbox", "0.9.2342.19200300.100.1.3"},
	"cn":              {"cn", "cn", "commonName", "2.5.4.3"},
	"sn":              {"sn", "sn", "surname", "2.5.4.4"},
	"uid":             {"uid", "uid", "userid", "0.9.2342.19200300.100.1.1"},
	"o":               {"o", "o", "organizationName", "2.5.4.10"},
	"dc":              {"dc", "dc", "domainComponent", "0.9.2342.19200300.100.1.25"},
	"name":            {"name", "2.5.4.41"},
	"objectClass":     {"objectClass", "objectClass", "2.5.4.0"},
	"userCertificate": {"userCertificate", "userCertificate;binary", "2.5.4.36", "2.5.4.36;binary"},
}

func (g *questioner) spellName(name string) string {
	if g.oneIn(3) {
		name = pick(g, spelling[name]...)
	}
	if g.oneIn(5) {
		name = g.letters(name)
	}
	return name
}

// elsewhere is attribute types that OpenLDAP's schema has and that no entry here
// can hold; nowhere is what no directory knows, and what is no description.
var (
	elsewhere = []string{"description", "telephoneNumber", "givenName", "userSMIMECertificate", "userSMIMECertificate;binary", "l", "cACertificate;binary",
		"cn;lang-en", "mail;lang-de-ch", "userCertificate;lang-en", "entryDN", "hasSubordinates", "structuralObjectClass", "modifyTimestamp"}
	nowhere = []string{"x-nothing", "1.2.3.4.5", "nsDS5ReplConflict", "cn;x-nothing", "mail;binary", "userCertificate;binary;x-nothing", "userCertificate;x-nothing",
		"", ";binary", "ma il", "mail;", "2.5.4.", "mail*", "2.5.4.3;binary"}
)

// foreignClasses are classes that OpenLDAP's schema has and ours has not.
var foreignClasses = []string{"alias", "country"}

// attribute is a description for a filter, and the type whose values suit it.
func (g *questioner) attribute() (description, typ string) {
	switch n := g.IntN(20); {
	case n == 0:
		return pick(g, elsewhere...), pick(g, "cn", "mail")
	case n == 1:
		return pick(g, nowhere...), pick(g, "cn", "mail")
	}
	typ = pick(g, "mail", "mail", "cn", "cn", "sn", "uid", "uid", "o", "dc", "name", "objectClass", "userCertificate")
	return g.spellName(typ), typ
}

// selectors is the attribute selection.
func (g *questioner) selectors() (list []string) {
	if g.oneIn(4) {
		return nil
	}
	for range 1 + g.IntN(4) {
		switch n := g.IntN(20); {
		case n < 3:
			list = append(list, pick(g, "*", "+", "1.1", "*", "1.1", "@inetOrgPerson"))
		case n < 4:
			list = append(list, pick(g, elsewhere...))
		case n < 5:
			list = append(list, pick(g, nowhere...))
		case n < 6 && len(list) > 0:
			list = append(list, list[0])
		default:
			typ := pick(g, "mail", "cn", "sn", "uid", "o", "dc", "name", "objectClass", "userCertificate", "userCertificate")
			list = append(list, g.spellName(typ))
		}
	}
	return list
}

// filter nests no deeper than depth.
func (g *questioner) filter(depth int) item {
	n := g.IntN(10)
	switch {
	case depth == 0 || n < 5:
		return g.item()
	case n < 7:
		return item{kind: isAnd, of: g.some(depth)}
	case n < 9:
		return item{kind: isOr, of: g.some(depth)}
	}
	return item{kind: isNot, of: []item{g.filter(depth - 1)}}
}

func (g *questioner) some(depth int) (of []item) {
	n := 1 + g.IntN(3)
	if g.oneIn(20) {
		n = 0 // RFC 4526
	}
	for range n {
		of = append(of, g.filter(depth-1))
	}
	return of
}

// pinnedFilter is one that names addresses.
func (g *questioner) pinnedFilter() item {
	address := func() item {
		return item{kind: isEqual, name: g.spellName("mail"), value: g.assertion("mail")}
	}
	switch g.IntN(4) {
	case 0:
		return address()
	case 1:
		of := []item{address()}
		for range g.IntN(3) {
			of = append(of, g.filter(2))
		}
		g.Shuffle(len(of), func(i, j int) { of[i], of[j] = of[j], of[i] })
		return item{kind: isAnd, of: of}
	case 2:
		var of []item
		for range 1 + g.IntN(4) {
			of = append(of, address())
		}
		return item{kind: isOr, of: of}
	}
	return item{kind: isAnd, of: []item{
		{kind: isOr, of: []item{address(), address()}},
		{kind: isOr, of: []item{{kind: isPresent, name: "userCertificate;binary"}, {kind: isPresent, name: "userCertificate"}}},
	}}
}

func (g *questioner) item() item {
	name, typ := g.attribute()
	f := item{kind: pick(g, isEqual, isEqual, isEqual, isEqual, isSubstrings, isSubstrings, isPresent, isPresent, isGreater, isLess, isApprox, isExtensible), name: name}
	switch f.kind {
	case isPresent:
	case isSubstrings:
		f.parts = g.cut(g.assertion(typ))
	case isExtensible:
		f.value, f.dn = g.assertion(typ), g.oneIn(4)
		f.rule = pick(g, "", "", "caseIgnoreMatch", "caseExactMatch", "caseIgnoreIA5Match", "2.5.13.2", "objectIdentifierMatch", "x-nothing", "1.2.3.4.5")
		if f.rule != "" && g.oneIn(4) {
			f.name = ""
		}
	default:
		f.value = g.assertion(typ)
	}
	return f
}

// value is one that an entry has.
func (g *questioner) value(typ string) string {
	o := g.owner()
	switch typ {
	case "mail", "cn", "sn":
		return o.mail
	case "uid":
		return o.local
	case "o":
		return o.data.Domain.String()
	case "dc":
		label, _, _ := strings.Cut(o.data.Domain.String(), ".")
		return label
	case "name":
		return pick(g, o.mail, o.data.Domain.String())
	case "objectClass":
		return pick(g, "top", "person", "organizationalPerson", "inetOrgPerson", "organization", "dcObject", "2.5.6.6", "2.16.840.1.113730.3.2.2", "subschema")
	case "userCertificate":
		for c := range o.data.Certificates.All {
			if c.Owner.String() == o.mail && g.oneIn(2) {
				return string(c.DER)
			}
			if c.Owner.String() == o.mail {
				return exactAssertion(c.DER)
			}
		}
	}
	return o.mail
}

// exactAssertion names a certificate as certificateExactMatch wants it (RFC 4523
// §2.2).
func exactAssertion(der []byte) string {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return "no certificate"
	}
	return fmt.Sprintf("{ serialNumber %d, issuer rdnSequence:%q }", cert.SerialNumber, cert.Issuer.String())
}

// assertion is a value of the type, often with something odd about it.
func (g *questioner) assertion(typ string) string {
	v := g.value(typ)
	switch g.IntN(24) {
	case 0:
		return pick(g, "", " ", "  ")
	case 1:
		return v + "x"
	case 2:
		return " " + v
	case 3:
		return v + "  "
	case 4:
		return strings.ReplaceAll(v, " ", "   ")
	case 5:
		return strings.ReplaceAll(v, " ", "")
	case 6:
		return pick(g, "*", "\xff", "b\xf6b", "bób@b.direct.test", "bob\x00@b.direct.test", foreignClasses[0], foreignClasses[1])
	case 7, 8, 9, 10:
		return g.letters(v)
	}
	return v
}

// cut makes the parts of a substring assertion of a value.
func (g *questioner) cut(v string) []string {
	if len(v) == 0 {
		v = "x"
	}
	i, j := g.IntN(len(v)+1), g.IntN(len(v)+1)
	if i > j {
		i, j = j, i
	}
	parts := [][]string{
		{v[:i], ""},
		{"", v[j:]},
		{"", v[i:j], ""},
		{v[:i], v[j:]},
		{v[:i/2], v[i:j], v[j:]},
		{"", v[:i/2], v[i:j], ""},
	}[g.IntN(6)]
	// An item without any part, and a middle part without an octet, are no
	// filters (RFC 4511 §4.5.1.7.2).
	if strings.Join(parts, "") == "" || slices.Contains(parts[1:len(parts)-1], "") {
		return []string{"b", ""}
	}
	return parts
}
