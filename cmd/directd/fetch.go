package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"time"

	"directnode/internal/config"
	"directnode/internal/direct"
	"directnode/resolver/fetch"
	"directnode/resolver/revocation"
	"directnode/resolver/trust"
)

// openFetch makes the door to HTTP and what is kept of issuers' lists.
func (n *node) openFetch(context.Context) error {
	allow, err := config.Prefixes(n.cfg.Resolver.Fetch.Allow)
	if err != nil {
		return configError(err)
	}
	ports := make([]uint16, 0, len(n.cfg.Resolver.Fetch.Ports))
	for _, p := range n.cfg.Resolver.Fetch.Ports {
		ports = append(ports, uint16(p))
	}
	n.door = fetch.New(fetch.Options{
		Allow: allow, Ports: ports, Own: n.listeners.private(), HTTPS: n.cfg.Resolver.Fetch.HTTPS, Log: n.log,
		Lookup: func(ctx context.Context, host string) ([]netip.Addr, error) { return n.resolver.Addrs(ctx, host) },
	})
	dir := filepath.Join(n.cfg.DataDir, "revocation")
	n.revocation, err = revocation.Open(revocation.Options{Fetch: n.door, Dir: dir, Log: n.log})
	if err != nil {
		return storeError(fmt.Errorf("%s: %w", dir, err))
	}
	return nil
}

// private lists the addresses that a URL in somebody's certificate must not make us connect to, whatever is open: those of every listener
// but the one whose content anybody may have.
func (l *listeners) private() []netip.AddrPort {
	var own []netip.AddrPort
	add := func(x net.Listener) {
		if x == nil {
			return
		}
		if a, ok := x.Addr().(*net.TCPAddr); ok {
			own = append(own, a.AddrPort())
		}
	}
	for _, d := range l.dns {
		add(d.tcp)
	}
	for _, list := range [][]net.Listener{l.ldap, l.mx, l.submission} {
		for _, x := range list {
			add(x)
		}
	}
	add(l.monitor)
	return own
}

// policies are the certificate rules of the configuration: for all, and for single domains of ours.
func policies(p config.Policy) (all trust.Policy, domains map[direct.Domain]trust.Policy, err error) {
	all = trust.Policy{Profile: p.Profile, Revocation: trust.RevocationMode(p.Revocation), Grace: grace(p.RevocationGrace)}
	domains = make(map[direct.Domain]trust.Policy)
	for _, d := range p.Domain {
		name, err := direct.ParseDomain(d.Domain)
		if err != nil {
			return all, nil, err
		}
		own := all
		if d.Revocation != "" {
			own.Revocation = trust.RevocationMode(d.Revocation)
		}
		if d.RevocationGrace != 0 {
			own.Grace = grace(d.RevocationGrace)
		}
		domains[name] = own
	}
	return all, domains, nil
}

// grace gives the time of the configuration, in which 0 means none, as trust takes it.
func grace(d config.Duration) time.Duration {
	if d <= 0 {
		return time.Nanosecond
	}
	return time.Duration(d)
}

// refreshPause is how often lists and answers are looked at. They are fetched long before their end, so that a minute more or less does not
// matter; it varies, lest all nodes of the world ask at the full minute.
const refreshPause = time.Minute

// keepFresh fetches lists and answers again ahead of their end.
func (n *node) keepFresh(ctx context.Context) error {
	for {
		timer := time.NewTimer(refreshPause/2 + rand.N(refreshPause))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		n.revocation.Refresh(ctx, time.Now())
	}
}
