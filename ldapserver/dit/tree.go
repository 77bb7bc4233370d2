// Package dit is the directory information tree that LDAP publishes: one
// generation of the store in, entries ready to be answered out.
//
// Every domain with a certificate that is published by LDAP is a naming
// context named after it (RFC 2247: dc=b,dc=direct,dc=test). Below it stands
// one inetOrgPerson entry per owner (RFC 2798), with the address, or for an
// organization the bare domain name, in `mail` and the certificates in
// `userCertificate`. A tree is immutable; Update makes the next one and shares
// everything that did not change, down to the single entry. Look-ups by mail
// cost one hash, whatever the number of entries.
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
	"maps"
	"slices"
	"strings"

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

// ByMail finds the entry whose mail equals an assertion value under
// caseIgnoreIA5Match, nil if there is none. It does not allocate.
func (t *Tree) ByMail(assertion []byte) *Entry {
	assertion = bytes.Trim(assertion, " ")
	if len(assertion) > maxMail || len(assertion) == 0 {
		return nil
	}
	var buf [maxMail]byte
	key := fold(buf[:0], assertion)
	// An address holds runs of spaces only inside a quoted local part; there
	// the key is kept as the value has it.
	domain := key[bytes.LastIndexByte(key, '@')+1:]
	for len(domain) > 0 {
		if c := t.byDomain[string(domain)]; c != nil {
			if e := c.find(key); e != nil {
				return e
			}
		}
		dot := bytes.IndexByte(domain, '.')
		if dot < 0 {
			break
		}
		domain = domain[dot+1:] // an owner below the domain that publishes it
	}
	return nil
}

// suffix is the identity of a naming context, shared by its generations and
// entries.
type suffix struct {
	dn    string // canonical
	entry *Entry // the context's own entry
}

// context is one domain's part of the tree.
type context struct {
	data   *store.DomainData // what it was made of
	suffix *suffix
	shards []map[string]*Entry // by key; a power of two of them
	count  int
}

// shardSize is how many entries a shard is made for: what one changed entry
// costs to copy. Small domains have one shard.
const shardSize = 256

// next makes the context for new data; c is the one before or nil.
func (c *context) next(d *store.DomainData) *context {
	if c != nil && c.data == d {
		return c
	}
	n := &context{data: d}
	if c == nil {
		n.suffix = newSuffix(d.Domain)
		c = &context{data: &store.DomainData{}, shards: make([]map[string]*Entry, 1)}
	} else {
		n.suffix = c.suffix
	}
	groups := touched(c.data, d)
	n.shards = slices.Clone(c.shards)
	n.count = c.count
	for _, g := range groups {
		n.count += g.balance
	}
	if want := shardCount(n.count); want > 2*len(n.shards) {
		n.shards = rehash(n.shards, want)
	}
	n.apply(groups)
	return n
}

// apply puts the changed owners into the shards. A shard is copied before it
// is written, for it belongs to the generation before as well.
func (c *context) apply(groups []group) {
	fresh := make([]bool, len(c.shards)) // shards that belong to c alone
	for _, g := range groups {
		i := shardOf(g.key, len(c.shards))
		if !fresh[i] {
			fresh[i] = true
			copied := make(map[string]*Entry, len(c.shards[i])+1)
			maps.Copy(copied, c.shards[i])
			c.shards[i] = copied
		}
		if len(g.certs) == 0 {
			delete(c.shards[i], g.key)
			continue
		}
		c.shards[i][g.key] = c.ownerEntry(g)
	}
}

func shardCount(entries int) int {
	n := 1
	for n*shardSize < entries {
		n *= 2
	}
	return n
}

func rehash(old []map[string]*Entry, n int) []map[string]*Entry {
	shards := make([]map[string]*Entry, n)
	for _, shard := range old {
		for k, e := range shard {
			i := shardOf(k, n)
			if shards[i] == nil {
				shards[i] = map[string]*Entry{}
			}
			shards[i][k] = e
		}
	}
	return shards
}

// shardOf hashes a key by FNV-1a. Keys are the administrator's, not the
// client's, so that a keyed hash would buy nothing.
func shardOf[K string | []byte](key K, shards int) int {
	h := uint64(14695981039346656037)
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 1099511628211
	}
	return int(h>>32) & (shards - 1)
}

func (c *context) find(key []byte) *Entry {
	return c.shards[shardOf(key, len(c.shards))][string(key)]
}

// each calls f for every owner's entry in the order of the keys, until f says
// false.
func (c *context) each(f func(*Entry) bool) bool {
	last := ""
	for cert := range c.data.Certificates.Sorted {
		if !cert.PublishLDAP {
			continue
		}
		key := cert.Owner.Key()
		if key == last {
			continue
		}
		last = key
		if !f(c.find([]byte(key))) {
			return false
		}
	}
	return true
}

// group is one owner with the certificates that are published for it now; with
// none, its entry goes away.
type group struct {
	key     string
	owner   direct.Owner
	certs   [][]byte
	balance int // entries more than before: -1, 0 or 1
}

// touched gives the owners whose published certificates differ between two
// generations of a domain. The store names them if it made one generation of
// the other; else the lists are compared.
func touched(old, new *store.DomainData) []group {
	var groups []group
	owners, _, ok := new.Since(old)
	if !ok {
		return difference(slices.Collect(old.Certificates.Sorted), slices.Collect(new.Certificates.Sorted))
	}
	for _, o := range owners {
		if g, changed := compare(old.Owned(o), new.Owned(o)); changed {
			groups = append(groups, g)
		}
	}
	return groups
}

// difference walks two lists of certificates, both sorted by owner.
func difference(old, new []store.Certificate) []group {
	var groups []group
	for len(old) > 0 || len(new) > 0 {
		a, b := run(old), run(new)
		if order := compareRuns(a, b); order < 0 {
			b = nil
		} else if order > 0 {
			a = nil
		}
		old, new = old[len(a):], new[len(b):]
		if g, changed := compare(a, b); changed {
			groups = append(groups, g)
		}
	}
	return groups
}

// compare holds an owner's certificates of two generations against each other.
func compare(a, b []store.Certificate) (group, bool) {
	if sameCertificates(a, b) {
		return group{}, false
	}
	g := group{certs: ders(b)}
	if len(b) > 0 {
		g.owner = b[0].Owner
	} else {
		g.owner = a[0].Owner
	}
	g.key = g.owner.Key()
	had, has := slices.ContainsFunc(a, published), len(g.certs) > 0
	switch {
	case has && !had:
		g.balance = 1
	case had && !has:
		g.balance = -1
	}
	return g, had || has
}

func published(c store.Certificate) bool { return c.PublishLDAP }

// run is the certificates of the first owner in the list.
func run(list []store.Certificate) []store.Certificate {
	n := 0
	for n < len(list) && (list[n].Owner == list[0].Owner || list[n].Owner.Key() == list[0].Owner.Key()) {
		n++
	}
	return list[:n]
}

func compareRuns(a, b []store.Certificate) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	case a[0].Owner == b[0].Owner:
		return 0
	}
	return strings.Compare(a[0].Owner.Key(), b[0].Owner.Key())
}

func sameCertificates(a, b []store.Certificate) bool {
	return slices.EqualFunc(a, b, func(x, y store.Certificate) bool {
		return x.SHA256 == y.SHA256 && x.PublishLDAP == y.PublishLDAP && x.Owner == y.Owner
	})
}

func ders(list []store.Certificate) [][]byte {
	var out [][]byte
	for _, c := range list {
		if c.PublishLDAP {
			out = append(out, c.DER)
		}
	}
	return out
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

// ownerEntry makes the entry of an address or an organization.
func (c *context) ownerEntry(g group) *Entry {
	mail := g.owner.String()
	local, name := "", "cn="+escapeValue(mail)
	if g.owner.IsAddress() {
		local = g.owner.Address().Local()
		if g.owner.Domain() == c.data.Domain {
			name = "uid=" + escapeValue(local)
		}
	}
	b := newEntryBuilder(name+","+c.suffix.dn, kindOwner)
	b.add(ObjectClass, "top", "person", "organizationalPerson", "inetOrgPerson")
	b.add(CommonName, mail)
	b.add(Surname, mail)
	if local != "" {
		b.add(UserID, local)
	}
	b.add(Mail, mail)
	e := b.entry()
	e.key = g.key
	e.suffix = c.suffix
	e.certs = g.certs
	for _, der := range g.certs {
		e.certSize += Size(len(der))
	}
	return e
}
