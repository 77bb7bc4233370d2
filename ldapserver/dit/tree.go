// Package dit is the directory information tree that LDAP publishes: one
// generation of the store in, entries ready to be answered out.
//
// Every domain with a certificate that is published by LDAP is a naming
// context named after it (RFC 2247: dc=b,dc=direct,dc=test). Below it stands
// one inetOrgPerson entry per owner (RFC 2798), with the address, or for an
// organization the bare domain name, in `mail` and the certificates in
// `userCertificate`. A tree is immutable; Update makes the next one and shares
// everything that did not change. Entries of owners are made when they are asked
// for, of the store's octets. Look-ups by mail cost one hash, whatever the number
// of entries.
//
// The package also decides how attributes compare (schema.go, match.go) and
// reads and writes LDIF (RFC 2849). It has no socket and no clock.
//
// Sources: RFC 4512 (models), RFC 4514 (names), RFC 4517 and RFC 4518
// (matching), RFC 4519, RFC 4523, RFC 4524 and RFC 2798 (schema), RFC 2247
// (names of domains), RFC 2849 (LDIF), AS 1.4 and the Certificate Discovery
// implementation guide that it names.
package dit

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"directnode/internal/ber"
	"directnode/internal/direct"
	"directnode/store"
)

// The values of Options.Anonymous.
const (
	AnonymousExact = "exact" // searches must pin mail by equality
	AnonymousList  = "list"  // any filter
)

// Options says how the tree is published. The zero value is safe.
type Options struct {
	Anonymous string // AnonymousExact (also if empty) or AnonymousList
	StartTLS  bool   // the server offers StartTLS: the root DSE says so
	Version   string // vendorVersion in the root DSE; empty leaves it out
}

// Tree is one generation of the directory. It is immutable and may be read by
// any number of goroutines.
type Tree struct {
	options   Options
	root      *Entry
	subschema *Entry
	contexts  []*context          // those with entries, in the order of their domains
	byDomain  map[string]*context // by domain name, empty ones too
	byDN      map[string]*context // by canonical name, those with entries
}

// View is a generation of the store as the tree needs it: a *store.View.
type View interface {
	// Domains lists the domains, sorted.
	Domains() []direct.Domain
	// Domain gives one domain's data. It is immutable, and the same pointer as
	// in the generation before if nothing in it changed.
	Domain(direct.Domain) *store.DomainData
}

// Build makes the tree of a generation. It fails for unknown Options.
func Build(v View, o Options) (*Tree, error) { return assemble(v, o, nil) }

// Update makes the tree of the next generation, with the options of t. Domains
// whose data is the same pointer are shared whole; in the others the entries
// whose certificates did not change are.
func (t *Tree) Update(v View) (*Tree, error) { return assemble(v, t.options, t) }

func assemble(v View, o Options, old *Tree) (*Tree, error) {
	switch o.Anonymous {
	case "", AnonymousExact, AnonymousList:
	default:
		return nil, fmt.Errorf("ldap anonymous %q: want %q or %q", o.Anonymous, AnonymousExact, AnonymousList)
	}
	t := &Tree{options: o, byDomain: map[string]*context{}, byDN: map[string]*context{}}
	for _, name := range v.Domains() {
		var before *context
		if old != nil {
			before = old.byDomain[name.String()]
		}
		c := before.next(v.Domain(name))
		t.byDomain[name.String()] = c
		if c.count > 0 {
			t.contexts = append(t.contexts, c)
			t.byDN[c.suffix.dn] = c
		}
	}
	slices.SortFunc(t.contexts, func(a, b *context) int {
		return strings.Compare(a.data.Domain.String(), b.data.Domain.String())
	})
	t.root = rootDSE(t.contexts, o)
	if old != nil {
		t.subschema = old.subschema
	} else {
		t.subschema = subschema()
	}
	return t, nil
}

// Listing tells whether searches without an exact mail value are allowed.
func (t *Tree) Listing() bool { return t.options.Anonymous == AnonymousList }

// Len is the number of owners' entries.
func (t *Tree) Len() int {
	n := 0
	for _, c := range t.contexts {
		n += c.count
	}
	return n
}

// maxMail is longer than any address (RFC 5321 §4.5.3.1.3), with room for the
// spaces that string preparation takes off.
const maxMail = 320

// ByMail is FindMail with an entry of its own; nil if there is none.
func (t *Tree) ByMail(assertion []byte) *Entry {
	e := new(Entry)
	if !t.FindMail(e, assertion) {
		return nil
	}
	return e
}

// FindMail makes the entry whose mail equals an assertion value under
// caseIgnoreIA5Match, and tells whether there is one. What e held before is
// overwritten; an entry that is used again and again is made without
// allocating.
func (t *Tree) FindMail(e *Entry, assertion []byte) bool {
	assertion = bytes.Trim(assertion, " ")
	if len(assertion) > maxMail || len(assertion) == 0 {
		return false
	}
	var buf [maxMail]byte
	key := fold(buf[:0], assertion)
	// An address holds runs of spaces only inside a quoted local part; there
	// the key is kept as the value has it.
	domain := key[bytes.LastIndexByte(key, '@')+1:]
	for len(domain) > 0 {
		if c := t.byDomain[string(domain)]; c != nil && c.find(e, key) {
			return true
		}
		dot := bytes.IndexByte(domain, '.')
		if dot < 0 {
			break
		}
		domain = domain[dot+1:] // an owner below the domain that publishes it
	}
	return false
}

// suffix is the identity of a naming context, shared by its generations and
// entries.
type suffix struct {
	dn    string // canonical
	entry *Entry // the context's own entry
}

// context is one domain's part of the tree. The entries of its owners are made
// when they are asked for, of the store's own octets: there may be a million.
type context struct {
	data   *store.DomainData // what it was made of
	suffix *suffix
	count  int // owners with an entry
}

// next makes the context for new data; c is the one before or nil.
func (c *context) next(d *store.DomainData) *context {
	if c != nil && c.data == d {
		return c
	}
	n := &context{data: d}
	if c == nil {
		n.suffix = newSuffix(d.Domain)
		n.count = countEntries(d)
		return n
	}
	n.suffix = c.suffix
	owners, _, ok := d.Since(c.data)
	if !ok {
		n.count = countEntries(d)
		return n
	}
	n.count = c.count
	for _, o := range owners {
		key := []byte(o.Key())
		if c.data.Certificates.Of(key).AnyLDAP() {
			n.count--
		}
		if d.Certificates.Of(key).AnyLDAP() {
			n.count++
		}
	}
	return n
}

func countEntries(d *store.DomainData) (n int) {
	for h := range d.Certificates.Holdings {
		if h.AnyLDAP() {
			n++
		}
	}
	return n
}

// find makes the entry of the owner with this key.
func (c *context) find(e *Entry, key []byte) bool {
	h := c.data.Certificates.Of(key)
	if !h.AnyLDAP() {
		return false
	}
	c.fill(e, h)
	return true
}

// eachFrom calls f for the entry of every owner behind a position, with the
// position behind it, until f says false. The order is the store's: the same for
// as long as the process runs. The entry is good until f returns.
func (c *context) eachFrom(at Position, f func(*Entry, Position) bool) bool {
	skip := at.passed
	if !at.below {
		at.below, at.place, at.passed, skip = true, 0, 0, 0
	}
	var e Entry
	for h := range c.data.Certificates.HoldingsFrom(at.place) {
		if place := h.Place(); place != at.place {
			at.place, at.passed, skip = place, 0, 0
		}
		if skip > 0 {
			skip--
			continue
		}
		at.passed++
		if !h.AnyLDAP() {
			continue
		}
		if c.fill(&e, h); !f(&e, at) {
			return false
		}
	}
	return true
}

// eachSorted calls f for every owner's entry, with its text, in the order of the
// keys until f says false. The entry is good until f returns.
func (c *context) eachSorted(f func(*Entry) bool) bool {
	var e Entry
	for h := range c.data.Certificates.SortedHoldings {
		if !h.AnyLDAP() {
			continue
		}
		c.fill(&e, h)
		if e.text(); !f(&e) {
			return false
		}
	}
	return true
}

func newSuffix(d direct.Domain) *suffix {
	s := &suffix{dn: contextDN(d)}
	b := newEntryBuilder(s.dn, kindContext)
	label, _, _ := strings.Cut(d.String(), ".")
	b.add(ObjectClass, "top", "organization", "dcObject") // RFC 2247 §5.2
	b.add(DomainComponent, label)
	b.add(Organization, d.String())
	s.entry = b.entry()
	s.entry.suffix = s
	return s
}

// fill makes the entry of an address or an organization.
func (c *context) fill(e *Entry, h store.Holding) {
	mail := h.OwnerText()
	local, inside := localOf(mail, h), hasSuffix(mail, c.data.Domain.String())
	*e = Entry{kind: kindOwner, suffix: c.suffix, held: h, mail: mail, local: local, encoded: e.encoded[:0], spans: e.spans[:0], certs: e.certs[:0]}
	var buf [maxDN]byte
	dn := buf[:0]
	if len(local) > 0 && inside {
		dn = appendEscaped(append(dn, "uid="...), local)
	} else {
		dn = appendEscaped(append(dn, "cn="...), mail)
	}
	dn = append(append(dn, ','), c.suffix.dn...)
	e.encoded = ber.AppendTLV(e.encoded, ber.OctetString, dn)
	e.nameEnd = len(e.encoded)
	for i := range h.Len() {
		if h.InLDAP(i) {
			der := h.DER(i)
			e.certs = append(e.certs, der)
			e.certSize += Size(len(der))
		}
	}
}

// personClasses is the objectClass of every owner, encoded. It never changes.
var personClasses = func() []byte {
	b := newEntryBuilder("", kindOwner)
	b.add(ObjectClass, "top", "person", "organizationalPerson", "inetOrgPerson")
	e := b.entry()
	return e.encoded[e.nameEnd:]
}()

// localOf is the local part of an owner without quotes, empty for an
// organization.
func localOf(owner []byte, h store.Holding) []byte {
	if len(owner) > 0 && owner[0] == '"' {
		return []byte(h.Owner().Address().Local())
	}
	return owner[:max(0, bytes.LastIndexByte(owner, '@'))]
}

// hasSuffix tells an owner of the domain from one below it.
func hasSuffix(owner []byte, domain string) bool {
	return string(owner[bytes.LastIndexByte(owner, '@')+1:]) == domain
}
