package dnsserver

import (
	"context"
	"net/netip"
	"slices"

	"directnode/zones"
)

// Peers is what one generation says of other name servers: the keys that are
// shared with them, who may have which zone, and who tells of changes to one.
// It never changes. Nil knows nobody.
type Peers struct {
	keys  map[zones.Name]*Key
	zones map[zones.Name]Access
	any   bool // a zone has primaries
}

// Access is what other servers may do with one zone.
type Access struct {
	Allow     []Rule    // who may have it
	Primaries []Primary // who may tell that it changed (RFC 1996)
}

// Rule lets the holders of a key have a zone.
type Rule struct {
	Key    *Key
	Prefix netip.Prefix // where they ask from; not valid = anywhere
}

// Primary is a server that a zone comes from.
type Primary struct {
	Addr netip.AddrPort
	Key  *Key

	// Begin is asked before a zone is taken, not before the primary is asked for
	// its version; an error ends the fetch. Nil: nobody is asked.
	Begin func(context.Context) error
}

// NewPeers collects the keys, and the access to each zone by its apex.
func NewPeers(keys []*Key, access map[zones.Name]Access) *Peers {
	p := &Peers{keys: make(map[zones.Name]*Key, len(keys)), zones: access}
	for _, a := range access {
		p.any = p.any || len(a.Primaries) > 0
	}
	for _, k := range keys {
		p.keys[k.name] = k
	}
	return p
}

// key finds a key by its name in wire form and lower case.
func (p *Peers) key(name []byte) *Key {
	if p == nil {
		return nil
	}
	return p.keys[zones.Name(name)]
}

// access is what is allowed with a zone.
func (p *Peers) access(apex zones.Name) Access {
	if p == nil {
		return Access{}
	}
	return p.zones[apex]
}

// mayHave tells whether who signs with the key at the address may have the zone.
func (a Access) mayHave(key *Key, addr netip.Addr) bool {
	return slices.ContainsFunc(a.Allow, func(r Rule) bool {
		return r.Key == key && (!r.Prefix.IsValid() || r.Prefix.Contains(addr))
	})
}

// isPrimary tells whether the zone comes from who signs with the key at the
// address. The port is another one for every message.
func (a Access) isPrimary(key *Key, addr netip.Addr) bool {
	return slices.ContainsFunc(a.Primaries, func(p Primary) bool { return p.Key == key && p.Addr.Addr() == addr })
}
