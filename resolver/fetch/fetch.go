// Package fetch is the one door to HTTP: everything that a certificate or a DNS record makes the node ask for goes through it.
//
// Data in: a kind (an issuer's certificate, a revocation list, a question to a responder, a certificate by URL, a trust bundle) and a
// URL that a stranger wrote. Data out: the octets of the answer and the Evidence of how they came, or an *Error that says whether
// asking later may help. What the octets mean is for others to decide.
//
// A URL in a certificate is an order from a stranger to a machine inside our network. The rules of the door, each with its test:
//
//   - http only, https where the kind or the operator wants it; no user, no odd form of an address, no name that is a number.
//   - The host is looked up first, and every address of it must be one of the public internet. One forbidden address refuses the host.
//     The addresses that were looked at are the ones that are dialed; nobody looks the name up again, so that a name which changes
//     under us (rebinding) changes nothing. The socket checks the address once more before it connects.
//   - Ports 80 and 443. What the operator opens (Options.Allow) is open on every port; the node's own listeners are never open.
//   - At most 3 redirects, each checked like the first, never from https to http.
//   - Every answer has a limit of octets, of time and of header, by kind. No compression is asked for or taken, so that a small answer
//     cannot become a large one. No proxy of the environment, no cookies, no credentials, no connection that lives on.
//   - The same question at the same time is asked once. Failures are remembered for minutes; a host that cannot be reached is left
//     alone for longer each time; two requests to one host at a time; a discovery has a budget (WithBudget).
//
// Sources: RFC 9110 and RFC 9112 (HTTP), RFC 3986 (URLs), RFC 6890 (special addresses), RFC 5280 §4.2.1.13, §4.2.2.1 and §8 (what the URLs
// in certificates are for, and that fetching them must not need what is being fetched).
package fetch

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Options configure a Door. The zero value reaches public addresses by http alone and looks names up as the system does.
type Options struct {
	Allow  []netip.Prefix   // addresses that may be reached although not public, on any port (tests, private networks)
	Ports  []uint16         // of public addresses; empty = 80 and 443
	Own    []netip.AddrPort // listeners of this node, never reached even inside Allow; 0.0.0.0 and :: stand for all of its addresses
	HTTPS  bool             // https for every kind, not only where the rules of the kind say so
	Roots  *x509.CertPool   // for https; nil = the system's
	Log    *slog.Logger     // nil = silent
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
}

// Door fetches. It may be used by any number of goroutines.
type Door struct {
	addresses *addresses
	https     bool
	roots     *x509.CertPool
	lookup    func(ctx context.Context, host string) ([]netip.Addr, error)
	log       *slog.Logger

	mu      sync.Mutex // guards all below
	kept    keeper
	flights map[string]chan struct{} // closed when the flight has ended
	hosts   map[string]*hostState
	counts  map[countKey]uint64
}

// countKey is what fetches are counted by.
type countKey struct {
	kind    Kind
	outcome Outcome
}

// New makes a door. It opens nothing.
func New(o Options) *Door {
	d := &Door{
		addresses: newAddresses(o), https: o.HTTPS, roots: o.Roots, lookup: o.Lookup, log: o.Log,
		kept: newKeeper(), flights: map[string]chan struct{}{}, hosts: map[string]*hostState{}, counts: map[countKey]uint64{},
	}
	if d.lookup == nil {
		d.lookup = systemLookup
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	return d
}

// systemLookup asks as the system is configured. The final dot keeps search lists out.
func systemLookup(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host+".")
}

// Get fetches a URL. The octets are shared with the cache: do not change them. The error is an *Error.
func (d *Door) Get(ctx context.Context, kind Kind, url string) ([]byte, Evidence, error) {
	start := time.Now()
	r, known := kind.rule()
	if !known {
		return nil, Evidence{}, fmt.Errorf("fetch: no kind %.20q", kind)
	}
	key := string(kind) + " " + url
	for {
		d.mu.Lock()
		if k, ok := d.kept.get(key, start); ok {
			d.count(kind, Cached)
			d.mu.Unlock()
			ev := k.evidence
			ev.Elapsed = time.Since(start)
			if k.err != nil {
				return nil, ev, k.err
			}
			ev.Outcome = Cached
			return k.body, ev, nil
		}
		flight, busy := d.flights[key]
		if !busy {
			flight = make(chan struct{})
			d.flights[key] = flight
			d.mu.Unlock()
			return d.lead(ctx, kind, r, url, key, flight)
		}
		d.mu.Unlock()
		select {
		case <-flight: // what came of it is kept; a flight that was given up is flown again
		case <-ctx.Done():
			err := failed(url, ctx.Err())
			return nil, Evidence{Kind: kind, URL: clip(url), Elapsed: time.Since(start), Outcome: err.Outcome, Detail: err.Detail}, err
		}
	}
}

// lead makes the request that others wait for. What they are given comes out of the cache, where it stays at least for a moment.
func (d *Door) lead(ctx context.Context, kind Kind, r rule, url, key string, flight chan struct{}) ([]byte, Evidence, error) {
	var body bytes.Buffer
	ev, err := d.request(ctx, request{kind: kind, rule: r, url: url, to: &body})
	now := time.Now()
	k := &kept{key: key, evidence: ev, expires: now} // not to be kept
	var fault *Error
	switch {
	case err == nil:
		k.body, k.expires = body.Bytes(), now.Add(max(r.fresh, flightTime))
	case ctx.Err() != nil, !errors.As(err, &fault), fault.Outcome == Budget:
		// No time left, no budget left: that says nothing about the URL.
	case fault.Outcome == Backoff:
		k.err, k.expires = err, now.Add(flightTime) // the host has a clock of its own
	default:
		k.err, k.expires = err, now.Add(negativeTime)
	}
	d.mu.Lock()
	d.kept.put(k, now)
	delete(d.flights, key)
	d.mu.Unlock()
	close(flight)
	if err != nil {
		return nil, ev, err
	}
	return k.body, ev, nil
}

// flightTime is how long the answer of a flight stays for those who waited for it.
const flightTime = time.Second

// Post sends a body, as questions to OCSP responders are (RFC 6960 appendix A.1). It is neither cached nor shared. The error is an *Error.
func (d *Door) Post(ctx context.Context, kind Kind, url, contentType string, content []byte) ([]byte, Evidence, error) {
	r, known := kind.rule()
	if !known {
		return nil, Evidence{}, fmt.Errorf("fetch: no kind %.20q", kind)
	}
	var body bytes.Buffer
	ev, err := d.request(ctx, request{kind: kind, rule: r, url: url, to: &body, content: content, contentType: contentType})
	if err != nil {
		return nil, ev, err
	}
	return body.Bytes(), ev, nil
}

// Save fetches a URL into w, which may have got a part when an error comes. It is neither cached nor shared. The error is an *Error
// that wraps w's, if there is one.
func (d *Door) Save(ctx context.Context, kind Kind, url string, w io.Writer) (Evidence, error) {
	r, known := kind.rule()
	if !known {
		return Evidence{}, fmt.Errorf("fetch: no kind %.20q", kind)
	}
	return d.request(ctx, request{kind: kind, rule: r, url: url, to: w})
}

// Counts gives how many fetches had which outcome, by kind.
func (d *Door) Counts() map[Kind]map[Outcome]uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[Kind]map[Outcome]uint64{}
	for k, n := range d.counts {
		if out[k.kind] == nil {
			out[k.kind] = map[Outcome]uint64{}
		}
		out[k.kind][k.outcome] = n
	}
	return out
}

// count needs mu.
func (d *Door) count(k Kind, o Outcome) { d.counts[countKey{k, o}]++ }
