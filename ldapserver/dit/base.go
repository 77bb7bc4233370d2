package dit

import "strings"

// Scope is how far below its base a search goes (RFC 4511 §4.5.1.2).
type Scope uint8

// The three scopes, with the values of the protocol.
const (
	ScopeBase Scope = iota
	ScopeOne
	ScopeSubtree
)

// NoSuchObject says that a name is not in the tree.
type NoSuchObject struct {
	Matched string // the longest name above it that is (RFC 4511 §4.1.9)
}

func (e *NoSuchObject) Error() string { return "no such object" }

// Base is the base object of a search.
type Base struct {
	entry   *Entry
	context *context // set for the top of a naming context
	tree    *Tree
}

// Find resolves the name of a base object. Errors: ErrDN, *NoSuchObject.
func (t *Tree) Find(dn []byte) (Base, error) {
	if len(dn) == 0 {
		return Base{entry: t.root, tree: t}, nil
	}
	if c := t.byDN[string(dn)]; c != nil { // as the root DSE spelled it
		return Base{c.suffix.entry, c, t}, nil
	}
	key, err := canonical(dn)
	if err != nil {
		return Base{}, err
	}
	if key == "" {
		return Base{entry: t.root, tree: t}, nil
	}
	if c := t.byDN[key]; c != nil {
		return Base{c.suffix.entry, c, t}, nil
	}
	if key == "cn=subschema" {
		return Base{entry: t.subschema, tree: t}, nil
	}
	if e := t.findOwner(key, firstValue(dn)); e != nil {
		return Base{entry: e, tree: t}, nil
	}
	return Base{}, &NoSuchObject{t.matched(key)}
}

// findOwner finds an owner's entry by its canonical name. The name holds the
// address, so that the index by mail serves for names as well. An address with
// spaces in quotes may have more of them than the canonical name; written is the
// value as the client wrote it.
func (t *Tree) findOwner(key, written string) *Entry {
	attr, value, parent := splitRDN(key)
	c := t.byDN[parent]
	if c == nil {
		return nil
	}
	at := ""
	if attr == "uid" {
		at = "@" + c.data.Domain.String()
	}
	for _, mail := range []string{value + at, foldString(written) + at} {
		for _, m := range []string{mail, quotedMail(mail)} {
			if e := new(Entry); c.find(e, []byte(m)) {
				if dn, err := canonical([]byte(e.DN())); err == nil && dn == key {
					return e
				}
			}
		}
	}
	return nil
}

// quotedMail is the address as it is written if its local part needs quotes.
func quotedMail(mail string) string {
	at := strings.LastIndexByte(mail, '@')
	if at < 0 {
		return mail
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(mail[:at]) + `"` + mail[at:]
}

func (t *Tree) matched(key string) string {
	for key != "" {
		if c := t.byDN[key]; c != nil {
			return c.suffix.dn
		}
		if e := t.findOwner(key, ""); e != nil {
			return e.DN()
		}
		_, key, _ = strings.Cut(key, ",")
	}
	return ""
}

// Entry is the base object itself.
func (b Base) Entry() *Entry { return b.entry }

// Contains tells whether an entry of the tree lies within the scope below the
// base. Naming contexts that lie below one another count as one tree, and the
// empty base as the parent of them all: some clients search a subtree there.
// The root DSE itself is in no scope but its own base (RFC 4512 §5.1).
func (b Base) Contains(e *Entry, s Scope) bool {
	if same := e.Same(b.entry); s == ScopeBase || same {
		return same && (s == ScopeBase || s == ScopeSubtree && e.kind != kindRoot)
	}
	if e.suffix == nil {
		return false
	}
	if b.entry.kind == kindRoot {
		return s == ScopeSubtree || e.kind == kindContext
	}
	if b.context == nil {
		return false // an owner's entry and the subschema have nothing below
	}
	base, at := b.context.suffix.dn, e.suffix.dn
	if at == base {
		return true // an owner's entry right below the base
	}
	above, below := strings.CutSuffix(at, ","+base)
	if !below {
		return false
	}
	return s == ScopeSubtree || e.kind == kindContext && !strings.Contains(above, ",")
}

// Each calls f for every entry within the scope below the base until f says
// false.
func (b Base) Each(s Scope, f func(*Entry) bool) {
	b.EachFrom(s, Position{}, func(e *Entry, _ Position) bool { return f(e) })
}

// Position is where a listing is: behind an entry that it came to. It holds no
// address, and it is good for the next generations of the tree, too: whatever
// is there from before to after comes once. The zero value is the beginning.
type Position struct {
	domain string // of the naming context; empty at the beginning
	below  bool   // among the owners, place and passed count
	place  uint32 // in the store's order
	passed int    // owners at that place that are done
}

// EachFrom is Each for what lies behind a position; f is told the position
// behind its entry. From must come from the same base and scope.
func (b Base) EachFrom(s Scope, from Position, f func(*Entry, Position) bool) {
	if s == ScopeBase || b.context == nil && b.entry.kind != kindRoot {
		if from == (Position{}) && b.Contains(b.entry, s) {
			f(b.entry, Position{below: true})
		}
		return
	}
	for _, c := range b.tree.contexts {
		domain := c.data.Domain.String()
		if domain < from.domain || b.context != nil && !strings.HasSuffix(c.suffix.dn, b.context.suffix.dn) {
			continue
		}
		at := Position{domain: domain}
		if domain == from.domain {
			at = from
		} else if b.Contains(c.suffix.entry, s) && !f(c.suffix.entry, at) {
			return
		}
		visit := func(e *Entry, at Position) bool { return !b.Contains(e, s) || f(e, at) }
		if !c.eachFrom(at, visit) {
			return
		}
	}
}
