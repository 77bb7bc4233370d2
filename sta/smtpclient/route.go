package smtpclient

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// route gives the hosts that take mail for a domain, best first (RFC 5321 §5.1).
func (c *Client) route(ctx context.Context, domain string) ([]string, *Error) {
	mxs, err := c.o.Lookup.MX(ctx, domain)
	switch {
	case err == nil && len(mxs) > 0:
	case err == nil, notFound(err):
		// No MX: the domain is its own exchanger.
		return []string{domain}, nil
	default:
		return nil, &Error{domain, StepLookup, fmt.Errorf("MX: %w", err)}
	}
	// RFC 7505 §3: a single MX with an empty name says that the domain takes no mail.
	if len(mxs) == 1 && strings.Trim(mxs[0].Host, ".") == "" {
		return nil, refusal(domain, StepLookup, 556, [3]int{5, 1, 10}, "The domain accepts no mail (null MX)")
	}
	hosts := c.order(mxs)
	if len(hosts) == 0 {
		return nil, refusal(domain, StepLookup, 550, [3]int{5, 4, 6}, "Mail for the domain would come back to this host")
	}
	return hosts, nil
}

// order sorts exchangers by preference, those of one preference at random so
// that they share the load, and drops what lies at or behind ourselves.
func (c *Client) order(mxs []*net.MX) []string {
	list := slices.Clone(mxs)
	rand.Shuffle(len(list), func(i, k int) { list[i], list[k] = list[k], list[i] })
	slices.SortStableFunc(list, func(a, b *net.MX) int { return int(a.Pref) - int(b.Pref) })
	if own := slices.IndexFunc(list, c.isSelf); own >= 0 {
		limit := list[own].Pref
		list = slices.DeleteFunc(list, func(m *net.MX) bool { return m.Pref >= limit })
	}
	var hosts []string
	for _, m := range list {
		// A root name among others is no host (RFC 7505 §3 forbids it there).
		if h := strings.ToLower(strings.TrimSuffix(m.Host, ".")); h != "" && !slices.Contains(hosts, h) {
			hosts = append(hosts, h)
		}
	}
	return hosts[:min(len(hosts), maxHosts)]
}

func (c *Client) isSelf(m *net.MX) bool {
	return slices.ContainsFunc(c.o.Self, func(name string) bool {
		return strings.EqualFold(strings.TrimSuffix(name, "."), strings.TrimSuffix(m.Host, "."))
	})
}

// addresses gives where a host is to be reached.
func (c *Client) addresses(ctx context.Context, host string) ([]netip.Addr, *Error) {
	addrs, err := c.o.Lookup.Addrs(ctx, host)
	switch {
	case err == nil && len(addrs) > 0:
		return addrs[:min(len(addrs), maxAddresses)], nil
	case err == nil, notFound(err):
		// RFC 3463 §3.2: 5.1.2, bad destination system address.
		return nil, refusal(host, StepLookup, 550, [3]int{5, 1, 2}, "No address for "+host)
	}
	return nil, &Error{host, StepLookup, fmt.Errorf("address: %w", err)}
}

func notFound(err error) bool {
	var nf interface{ NotFound() bool }
	return errors.As(err, &nf) && nf.NotFound()
}
