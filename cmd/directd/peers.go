package main

import (
	"context"
	"fmt"
	"maps"
	"sync"

	"directnode/dnsserver"
	"directnode/internal/direct"
	"directnode/store"
	"directnode/zones"
)

// links is what a generation says of other name servers, with their keys
// opened. It is shared between generations while that is the same.
type links struct {
	view      *store.View // that it was made of
	peers     *dnsserver.Peers
	targets   map[zones.Name][]dnsserver.Target
	primaries map[direct.Domain][]dnsserver.Primary
}

func buildLinks(v *store.View, sealer *store.Sealer, old *links) (*links, error) {
	if old != nil && v.SamePeers(old.view) {
		return old, nil
	}
	l := &links{view: v, targets: make(map[zones.Name][]dnsserver.Target), primaries: make(map[direct.Domain][]dnsserver.Primary)}
	keys := make(map[string]*dnsserver.Key)
	var list []*dnsserver.Key
	for _, k := range v.TSIGKeys() {
		secret, err := v.TSIGSecret(sealer, k)
		if err != nil {
			return nil, err
		}
		key, err := dnsserver.NewKey(k.Name, k.Algorithm, secret)
		if err != nil {
			return nil, err
		}
		keys[k.Name], list = key, append(list, key)
	}
	access := make(map[zones.Name]dnsserver.Access)
	for _, d := range v.Domains() {
		t := v.Transfer(d)
		if t.IsZero() {
			continue
		}
		apex, err := zones.ParseName(d.DNSName())
		if err != nil {
			return nil, fmt.Errorf("transfers of %s: %w", d, err)
		}
		var a dnsserver.Access
		for _, r := range t.Allow {
			a.Allow = append(a.Allow, dnsserver.Rule{Key: keys[r.Key], Prefix: r.Prefix})
		}
		for _, p := range t.Primaries {
			a.Primaries = append(a.Primaries, dnsserver.Primary{Addr: p.Addr, Key: keys[p.Key]})
		}
		for _, p := range t.Notify {
			l.targets[apex] = append(l.targets[apex], dnsserver.Target{Addr: p.Addr, Key: keys[p.Key]})
		}
		access[apex] = a
		if len(a.Primaries) > 0 {
			l.primaries[d] = a.Primaries
		}
	}
	l.peers = dnsserver.NewPeers(list, access)
	return l, nil
}

// peering keeps other name servers and this node together: it tells secondaries
// of new generations, and has a follower for each domain that has primaries.
type peering struct {
	node     *node
	notifier *dnsserver.Notifier
	taking   *taking

	mu        sync.Mutex // owns what follows
	followers map[direct.Domain]*follower

	told map[zones.Name]uint32 // serial by zone; Run's own
}

func newPeering(n *node) *peering {
	return &peering{
		node: n, taking: newTaking(), followers: make(map[direct.Domain]*follower), told: make(map[zones.Name]uint32),
		notifier: dnsserver.NewNotifier(dnsserver.NotifyOptions{Sources: n.publicAddresses(), Log: n.log}),
	}
}

// run looks at each new generation until ctx ends.
func (p *peering) run(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() { _ = p.notifier.Run(ctx) }) // ends with ctx alone
	for {
		g := p.node.publisher.current.Load()
		p.tell(g)
		p.follow(ctx, g, &work)
		select {
		case <-ctx.Done():
			return nil
		case <-p.node.publisher.changed:
		}
	}
}

// tell notifies the secondaries of zones whose serial is another one than they
// were told last. At the start that is every zone: what changed just before the
// end may not have been told.
func (p *peering) tell(g *generation) {
	for apex, targets := range g.links.targets {
		z := g.zones.Find([]byte(apex))
		if z == nil || z.Expired() || p.told[apex] == z.Serial() {
			continue
		}
		p.told[apex] = z.Serial()
		p.notifier.Changed(z, targets)
	}
	maps.DeleteFunc(p.told, func(apex zones.Name, _ uint32) bool { return g.links.targets[apex] == nil })
}

// follow starts and ends followers.
func (p *peering) follow(ctx context.Context, g *generation, work *sync.WaitGroup) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for d, f := range p.followers {
		if g.links.primaries[d] == nil {
			f.end()
			delete(p.followers, d)
		}
	}
	for d := range g.links.primaries {
		if f := p.followers[d]; f != nil {
			f.settings(g.links.view.Transfer(d))
			continue
		}
		f := newFollower(p.node, d, g.links.view.Transfer(d))
		p.followers[d] = f
		ctx, stop := context.WithCancel(ctx)
		f.stop = stop
		work.Go(func() { f.run(ctx) })
	}
}

// notified wakes the follower of a zone.
func (p *peering) notified(apex zones.Name) {
	z := p.node.publisher.current.Load().zones.Find([]byte(apex))
	if z == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.followers[z.Domain()]; f != nil {
		f.wakeUp()
	}
}
