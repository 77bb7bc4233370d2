package main

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"directnode/dnsserver"
	"directnode/internal/cms"
	"directnode/internal/direct"
	"directnode/ldapserver/dit"
	"directnode/sta"
	"directnode/store"
	"directnode/zones"
)

// generation is what every reader of the node sees: one state of the store,
// built for each of them. It never changes.
type generation struct {
	rev   int64
	zones *zones.Set
	tree  *dit.Tree
	keys  *keyring
	links *links
}

// publisher turns a change of the store into the next generation (flow 5).
type publisher struct {
	current atomic.Pointer[generation] // replaced whole, while mu is held
	changed chan struct{}              // holds a token when current is new; nil = nobody looks
	sealer  *store.Sealer
	zones   zones.Options
	dit     dit.Options
	log     *slog.Logger

	percent int           // of the collector; the store's writer has it
	octets  int64         // of certificates at the last note to untidy; likewise
	untidy  chan struct{} // holds a token when much has come or gone; nil = nobody looks

	published atomic.Uint64 // generations since the start
	spent     atomic.Int64  // nanoseconds that building them took

	mu      sync.Mutex             // owns what follows, and the right to replace current
	expired map[direct.Domain]bool // not answered from: see follower.expireBy
}

// prepare builds the generation of a view that is not committed yet; an error
// refuses the change. What did not change is shared with the generation before.
// The store calls it for one change at a time.
func (p *publisher) prepare(next *store.View) (func(), error) {
	start := time.Now()
	g, err := p.build(next)
	if err != nil {
		return nil, err
	}
	return func() {
		p.replace(func() *generation { return g })
		p.tuneGC(next)
		p.published.Add(1)
		p.spent.Add(int64(time.Since(start)))
		p.log.Info("published", "generation", g.rev, "domains", len(next.Domains()), "ms", time.Since(start).Milliseconds())
	}, nil
}

func (p *publisher) build(next *store.View) (*generation, error) {
	old := p.current.Load()
	g := &generation{rev: next.Rev}
	var err error
	if old == nil {
		old = &generation{}
		if g.zones, err = zones.Build(next, p.zones); err != nil {
			return nil, err
		}
		if g.tree, err = dit.Build(next, p.dit); err != nil {
			return nil, err
		}
	} else {
		if g.zones, err = old.zones.Update(next); err != nil {
			return nil, err
		}
		if g.tree, err = old.tree.Update(next); err != nil {
			return nil, err
		}
	}
	if g.links, err = buildLinks(next, p.sealer, old.links); err != nil {
		return nil, err
	}
	g.keys, err = buildKeyring(next, p.sealer, old.keys)
	return g, err
}

// replace makes another generation the current one.
func (p *publisher) replace(next func() *generation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := *next()
	g.zones = g.zones.Expire(p.expired)
	p.current.Store(&g)
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// expire ends the answers from a domain's zone, or lets them go on.
func (p *publisher) expire(d direct.Domain, expired bool) {
	p.mu.Lock()
	same := p.expired[d] == expired
	if expired {
		if p.expired == nil {
			p.expired = make(map[direct.Domain]bool)
		}
		p.expired[d] = true
	} else {
		delete(p.expired, d)
	}
	p.mu.Unlock()
	if !same {
		p.replace(p.current.Load)
	}
}

func (p *publisher) zoneSet() *zones.Set        { return p.current.Load().zones }
func (p *publisher) dnsPeers() *dnsserver.Peers { return p.current.Load().links.peers }

func (p *publisher) ldapTree() *dit.Tree { return p.current.Load().tree }
func (p *publisher) agentKeys() sta.Keys { return p.current.Load().keys }

// keyring is the agent's view of a generation (sta.Keys).
type keyring struct {
	domains map[direct.Domain]*domainKeys
}

// domainKeys is one domain's part; it is shared between generations while the
// domain does not change.
type domainKeys struct {
	data    *store.DomainData
	in, out []*x509.Certificate
	open    func(store.Key) (crypto.Signer, error)
	opened  *sync.Map // certificate fingerprint → sta.Pair; outlives the generation, for opening costs a decryption
}

func buildKeyring(v *store.View, sealer *store.Sealer, old *keyring) (*keyring, error) {
	k := &keyring{make(map[direct.Domain]*domainKeys)}
	for _, d := range v.Domains() {
		dk := &domainKeys{data: v.Domain(d), opened: new(sync.Map), open: func(key store.Key) (crypto.Signer, error) { return v.Unseal(sealer, key) }}
		if old != nil && old.domains[d] != nil {
			before := old.domains[d]
			if before.data == dk.data {
				k.domains[d] = before
				continue
			}
			dk.opened = before.opened
		}
		var err error
		if dk.in, dk.out, err = anchorsOf(dk.data); err != nil {
			return nil, fmt.Errorf("anchors of %s: %w", d, err)
		}
		k.domains[d] = dk
	}
	return k, nil
}

// anchorsOf gives what a domain trusts for each direction: its own anchors, and
// those of its bundles.
func anchorsOf(data *store.DomainData) (in, out []*x509.Certificate, err error) {
	add := func(sha string, der []byte, forIn, forOut bool) error {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("%.16s: %w", sha, err)
		}
		if forIn {
			in = append(in, c)
		}
		if forOut {
			out = append(out, c)
		}
		return nil
	}
	for _, a := range data.Anchors {
		if err := add(a.SHA256, a.DER, a.In, a.Out); err != nil {
			return nil, nil, err
		}
	}
	for _, b := range data.Bundles {
		for _, a := range b.Anchors {
			if err := add(a.SHA256, a.DER, b.In, b.Out); err != nil {
				return nil, nil, fmt.Errorf("bundle %s: %w", b.Name, err)
			}
		}
	}
	return in, out, nil
}

// Local implements sta.Keys.
func (k *keyring) Local(d direct.Domain) bool { return k.domains[d] != nil }

// Pairs implements sta.Keys.
func (k *keyring) Pairs(a direct.Address) ([]sta.Pair, error) {
	dk := k.domains[a.Domain()]
	if dk == nil {
		return nil, nil
	}
	var pairs []sta.Pair
	for _, owner := range []direct.Owner{direct.OwnerOfAddress(a), direct.OwnerOfDomain(a.Domain())} {
		own, err := dk.pairs(owner)
		if err != nil {
			return nil, fmt.Errorf("key of %s: %w", owner, err)
		}
		pairs = append(pairs, own...)
	}
	return pairs, nil
}

// pairs opens an owner's keys at their first use: most keys of a large domain
// are never used in the life of a process.
func (dk *domainKeys) pairs(owner direct.Owner) ([]sta.Pair, error) {
	var pairs []sta.Pair
	for _, key := range dk.data.KeysOf(owner) {
		if p, ok := dk.opened.Load(key.CertSHA256); ok {
			pairs = append(pairs, p.(sta.Pair))
			continue
		}
		p, err := dk.openPair(owner, key)
		if err != nil {
			return nil, err
		}
		dk.opened.Store(key.CertSHA256, p)
		pairs = append(pairs, p)
	}
	slices.SortFunc(pairs, func(a, b sta.Pair) int { return b.Certificate.NotBefore.Compare(a.Certificate.NotBefore) })
	return pairs, nil
}

func (dk *domainKeys) openPair(owner direct.Owner, key store.Key) (sta.Pair, error) {
	certs := dk.data.Owned(owner)
	i := slices.IndexFunc(certs, func(c store.Certificate) bool { return c.SHA256 == key.CertSHA256 })
	if i < 0 {
		return sta.Pair{}, fmt.Errorf("the certificate %.16s of a key is missing", key.CertSHA256)
	}
	c, err := x509.ParseCertificate(certs[i].DER)
	if err != nil {
		return sta.Pair{}, err
	}
	signer, err := dk.open(key)
	if err != nil {
		return sta.Pair{}, err
	}
	pair := sta.Pair{Certificate: c, Signer: cms.Signer{Certificate: c, Key: signer}}
	// An elliptic key signs and cannot decrypt: CMS has key agreement for it.
	if d, ok := signer.(crypto.Decrypter); ok {
		pair.Decrypter = cms.Decrypter{Certificate: c, Key: d}
	}
	return pair, nil
}

// Anchors implements sta.Keys.
func (k *keyring) Anchors(d direct.Domain, way sta.Way) []*x509.Certificate {
	dk := k.domains[d]
	switch {
	case dk == nil:
		return nil
	case way == sta.In:
		return dk.in
	}
	return dk.out
}
