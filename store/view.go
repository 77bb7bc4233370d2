package store

import (
	"sort"
	"strings"
	"time"

	"directnode/internal/direct"
)

// View is one generation of everything. It never changes.
type View struct {
	// Rev is the number of the generation, raised by one with each change. It
	// becomes the serial of the zones.
	Rev int64

	domains []direct.Domain // sorted by name
	data    map[direct.Domain]*DomainData
	peers   *peering // never nil
}

// Domains lists the domains of the node by name. The slice is shared: do not
// change it.
func (v *View) Domains() []direct.Domain { return v.domains }

// Domain returns a domain's data, or nil if the domain is not ours.
func (v *View) Domain(d direct.Domain) *DomainData { return v.data[d] }

// anySealed tells whether anything in the view is sealed under a master key.
func (v *View) anySealed() bool {
	for _, dd := range v.data {
		if dd.sealed() {
			return true
		}
	}
	return len(v.peers.keys) > 0
}

// Owned lists the certificates of an owner; see DomainData.Owned.
func (v *View) Owned(o direct.Owner) []Certificate {
	if dd := v.data[o.Domain()]; dd != nil {
		return dd.Owned(o)
	}
	return nil
}

// Find lists the certificates with this fingerprint, one for each owner.
func (v *View) Find(sha string) []Certificate {
	var found []Certificate
	for _, d := range v.domains {
		found = append(found, v.data[d].Certificates.Find(sha)...)
	}
	return found
}

// DomainData is all that belongs to one domain. It never changes, and views
// share it: the same pointer in two views means that nothing in the domain
// changed between them.
type DomainData struct {
	Domain       direct.Domain
	Created      time.Time
	Records      []Record // sorted by name and type; inside an RRset as given
	Certificates Certificates
	Anchors      []Anchor  // sorted by SHA256
	Bundles      []*Bundle // sorted by name
	Keys         Keys
	Signing      *Signing // nil: not signed by DNSSEC; shared: do not change it

	generation int64 // of the view that it was made for
	base       int64 // generation of the data it was made from; 0 = made from nothing
	touched    []direct.Owner
	others     bool // something else than certificates and keys changed, too
}

// Owned lists the certificates of one owner.
func (d *DomainData) Owned(o direct.Owner) []Certificate { return d.Certificates.Owned(o) }

// KeysOf lists the keys of one owner.
func (d *DomainData) KeysOf(o direct.Owner) []Key { return d.Keys.Owned(o) }

// Since tells what changed from prev to d: the owners, in no order, whose certificates or
// keys did, and whether records, anchors or signing did as well. ok is false when d was
// not made from prev directly; then everything must be taken as changed. With
// it a publisher of a million certificates rebuilds the few that changed.
func (d *DomainData) Since(prev *DomainData) (owners []direct.Owner, others, ok bool) {
	if prev == nil || prev.Domain != d.Domain || d.base == 0 || d.base != prev.generation {
		return nil, true, false
	}
	return d.touched, d.others, true
}

// Record is one resource record. Certificates are never records.
type Record struct {
	Name string // absolute, lower case
	Type string // mnemonic or TYPEn, upper case
	TTL  uint32
	Data string // RDATA in presentation form, names in it absolute
}

// Certificate is a certificate of one owner. One that names several owners
// of ours is there once for each.
type Certificate struct {
	Owner       direct.Owner
	SHA256      string // of DER, lower-case hexadecimal
	DER         []byte // shared: do not change it
	PublishDNS  bool
	PublishLDAP bool
	Bound       bool // the subjectAltName names the owner
	HasKey      bool
	Added       time.Time
}

// Anchor is a trust anchor of a domain: for incoming mail, outgoing or both.
type Anchor struct {
	SHA256  string
	DER     []byte // shared: do not change it
	In, Out bool
	Added   time.Time
}

// Key is the sealed private key of a certificate of an owner. View.Unseal
// opens it.
type Key struct {
	CertSHA256 string
	Owner      direct.Owner
	Sealed     []byte // shared: do not change it
}

// ident is what a certificate, a key or an anchor is found by.
type ident struct{ owner, sha string }

func (a ident) compare(b ident) int {
	if n := strings.Compare(a.owner, b.owner); n != 0 {
		return n
	}
	return strings.Compare(a.sha, b.sha)
}

// item is what the sorted lists of DomainData hold.
type item interface{ ident() ident }

func (c Certificate) ident() ident { return ident{c.Owner.Key(), c.SHA256} }

func (k Key) ident() ident { return ident{k.Owner.Key(), k.CertSHA256} }

func (a Anchor) ident() ident { return ident{sha: a.SHA256} }

// position is where an item is in a sorted list, or where it would be.
func position[T item](list []T, id ident) (int, bool) {
	i := sort.Search(len(list), func(i int) bool { return list[i].ident().compare(id) >= 0 })
	return i, i < len(list) && list[i].ident() == id
}
