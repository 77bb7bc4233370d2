package main

import (
	"crypto/x509"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

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
}

// publisher turns a change of the store into the next generation (flow 5).
type publisher struct {
	current atomic.Pointer[generation] // replaced whole by the store's writer
	sealer  *store.Sealer
	zones   zones.Options
	dit     dit.Options
	log     *slog.Logger
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
		p.current.Store(g)
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
	g.keys, err = buildKeyring(next, p.sealer, old.keys)
	return g, err
}

func (p *publisher) zoneSet() *zones.Set { return p.current.Load().zones }
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
	sealer  *store.Sealer
	in, out []*x509.Certificate
	byOwner map[string][]*sealedPair // by owner key, newest certificate first
}

// sealedPair opens its private key at the first use: most keys of a large
// domain are never used in the life of a process.
type sealedPair struct {
	certificate *x509.Certificate
	open        func() (sta.Pair, error) // sync.OnceValues
}

func buildKeyring(v *store.View, sealer *store.Sealer, old *keyring) (*keyring, error) {
	k := &keyring{make(map[direct.Domain]*domainKeys)}
	for _, d := range v.Domains() {
		data := v.Domain(d)
		if old != nil && old.domains[d] != nil && old.domains[d].data == data {
			k.domains[d] = old.domains[d]
			continue
		}
		dk, err := buildDomainKeys(data, sealer)
		if err != nil {
			return nil, fmt.Errorf("keys of %s: %w", d, err)
		}
		k.domains[d] = dk
	}
	return k, nil
}

func buildDomainKeys(data *store.DomainData, sealer *store.Sealer) (*domainKeys, error) {
	dk := &domainKeys{data: data, sealer: sealer, byOwner: make(map[string][]*sealedPair)}
	for _, a := range data.Anchors {
		c, err := x509.ParseCertificate(a.DER)
		if err != nil {
			return nil, fmt.Errorf("anchor %.16s: %w", a.SHA256, err)
		}
		if a.In {
			dk.in = append(dk.in, c)
		}
		if a.Out {
			dk.out = append(dk.out, c)
		}
	}
	der := make(map[string][]byte, len(data.Certificates))
	for _, c := range data.Certificates {
		der[c.SHA256] = c.DER
	}
	for _, key := range data.Keys {
		c, err := x509.ParseCertificate(der[key.CertSHA256])
		if err != nil {
			return nil, fmt.Errorf("certificate %.16s of a key: %w", key.CertSHA256, err)
		}
		owner := key.Owner.Key()
		dk.byOwner[owner] = append(dk.byOwner[owner], newSealedPair(c, key, sealer))
	}
	for _, pairs := range dk.byOwner {
		slices.SortFunc(pairs, func(a, b *sealedPair) int { return b.certificate.NotBefore.Compare(a.certificate.NotBefore) })
	}
	return dk, nil
}

func newSealedPair(c *x509.Certificate, key store.Key, sealer *store.Sealer) *sealedPair {
	return &sealedPair{c, sync.OnceValues(func() (sta.Pair, error) {
		signer, err := sealer.Unseal(key)
		if err != nil {
			return sta.Pair{}, err
		}
		pair := sta.Pair{Certificate: c, Signer: cms.Signer{Certificate: c, Key: signer}}
		// An elliptic key signs and cannot decrypt; CMS has key agreement for it.
		if d, ok := signer.(cryptoDecrypter); ok {
			pair.Decrypter = cms.Decrypter{Certificate: c, Key: d}
		}
		return pair, nil
	})}
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
		for _, s := range dk.byOwner[owner.Key()] {
			p, err := s.open()
			if err != nil {
				return nil, fmt.Errorf("key of %s: %w", owner, err)
			}
			pairs = append(pairs, p)
		}
	}
	return pairs, nil
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
