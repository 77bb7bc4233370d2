package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"directnode/dnsserver"
	"directnode/internal/admin"
	"directnode/internal/direct"
	"directnode/store"
	"directnode/zones"
)

// Bounds of what a primary's SOA may ask for.
const (
	// minRefresh keeps a SOA with refresh 1 from being asked for every second,
	// maxRefresh one of years from being asked for never.
	minRefresh = time.Minute
	maxRefresh = 24 * time.Hour
	// minRetry and maxRetry bound the wait after a failure.
	minRetry = 15 * time.Second
	maxRetry = time.Hour
	// minExpire keeps an EXPIRE of seconds from ending the zone between two
	// checks.
	minExpire = time.Hour
	// maxTaking is how many zones are taken at a time, and each primary gives one
	// of them: together they are held to what the memory of a small node has.
	maxTaking = 4
	// notifyRest is the least time between two checks that notifies bring about.
	notifyRest = time.Second
)

// follower keeps one domain as its primaries have it (RFC 1034 §4.3.5).
type follower struct {
	node   *node
	domain direct.Domain
	stop   context.CancelFunc
	wake   chan struct{} // holds a token when something is to be looked at

	mu        sync.Mutex // owns what follows
	transfer  store.Transfer
	next      time.Time
	confirmed time.Time // when a primary last said that what is here is current
	expired   bool
	ended     bool  // it says nothing about the domain any more
	err       error // of the last attempt
}

func newFollower(n *node, d direct.Domain, t store.Transfer) *follower {
	f := &follower{node: n, domain: d, wake: make(chan struct{}, 1), transfer: t}
	if t.Taken != nil {
		f.confirmed = t.Taken.At
	}
	return f
}

func (f *follower) wakeUp() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// end ends the follower. A check that is under way may still come to its end,
// and must not let a domain expire that follows nobody.
func (f *follower) end() {
	f.stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	f.node.publisher.expire(f.domain, false)
}

// settings takes over what a new generation says; other primaries are asked at
// once, and so are those of which there is nothing any more.
func (f *follower) settings(t store.Transfer) {
	f.mu.Lock()
	others := !slices.Equal(f.transfer.Primaries, t.Primaries) || f.transfer.Taken != nil && t.Taken == nil
	f.transfer = t
	f.mu.Unlock()
	if others {
		f.wakeUp()
	}
}

// run asks the primaries at the times that the SOA wants, and when they say that
// something changed, until ctx ends.
func (f *follower) run(ctx context.Context) {
	f.expireBy(time.Now())
	for {
		err := f.check(ctx)
		if ctx.Err() != nil {
			return
		}
		at := time.Now()
		wait := f.plan(err, at)
		f.expireBy(at)
		f.sleep(ctx, notifyRest)
		f.sleepOrWake(ctx, wait-notifyRest)
		if ctx.Err() != nil {
			return
		}
	}
}

func (f *follower) sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

func (f *follower) sleepOrWake(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-f.wake:
	}
}

// timers are what the SOA asks for, within bounds.
func (f *follower) timers() (refresh, retry, expire time.Duration) {
	t := zones.Timers{Refresh: 3600, Retry: 600, Expire: 14 * 86400}
	if data := f.node.store.View().Domain(f.domain); data != nil {
		if asked, ok := zones.TimersOf(data.Records); ok {
			t = asked
		}
	}
	seconds := func(n uint32) time.Duration { return time.Duration(n) * time.Second }
	return min(max(seconds(t.Refresh), minRefresh), maxRefresh), min(max(seconds(t.Retry), minRetry), maxRetry), max(seconds(t.Expire), minExpire)
}

// plan notes the outcome of a check and says when the next one is due.
func (f *follower) plan(err error, at time.Time) time.Duration {
	refresh, retry, expire := f.timers()
	f.mu.Lock()
	defer f.mu.Unlock()
	wait := refresh
	if f.err = err; err != nil {
		wait = retry
	} else {
		f.confirmed = at
	}
	if left := expire - at.Sub(f.confirmed); !f.expired && !f.confirmed.IsZero() && left > 0 {
		wait = min(wait, left)
	}
	f.next = at.Add(wait)
	return wait
}

// expireBy ends or begins again the answers from the zone (RFC 1035 §4.3.5): of
// a primary that has been silent for EXPIRE nobody knows whether it still wants
// its zone answered from here. Before anything was taken there is nothing that
// could expire.
func (f *follower) expireBy(at time.Time) {
	_, _, expire := f.timers()
	f.mu.Lock()
	defer f.mu.Unlock()
	was := f.expired
	is := f.transfer.Taken != nil && !f.confirmed.IsZero() && at.Sub(f.confirmed) >= expire
	if f.ended || was == is {
		return
	}
	f.expired = is
	f.node.publisher.expire(f.domain, is)
	if is {
		f.node.log.Error("secondary: the zone has expired; it is answered with SERVFAIL until a primary answers", "zone", f.domain)
	} else {
		f.node.log.Info("secondary: the zone is answered again", "zone", f.domain)
	}
}

// check asks the primaries in their order until one is believed.
func (f *follower) check(ctx context.Context) error {
	var failed []error
	view := f.node.publisher.current.Load().links
	was := view.view.Transfer(f.domain)
	for _, p := range view.primaries[f.domain] {
		err := f.checkOne(ctx, p, was)
		if err == nil || ctx.Err() != nil {
			return err
		}
		f.node.log.Warn("secondary: not taken", "zone", f.domain, "primary", p.Addr, "err", err)
		failed = append(failed, fmt.Errorf("%s: %w", p.Addr, err))
	}
	return errors.Join(failed...)
}

func (f *follower) checkOne(ctx context.Context, p dnsserver.Primary, was store.Transfer) error {
	apex, err := zones.ParseName(f.domain.DNSName())
	if err != nil {
		return err
	}
	var held *uint32
	if was.Taken != nil {
		held = &was.Taken.Serial
	}
	turn := f.node.peering.taking.turn(p.Addr.Addr())
	defer turn.end()
	p.Begin = turn.begin
	in, err := dnsserver.Fetch(ctx, apex, p, held)
	if err == nil {
		err = f.take(ctx, p, was, in)
	}
	if errors.Is(err, admin.ErrSteps) {
		f.node.log.Warn("secondary: asks for all of the zone", "zone", f.domain, "primary", p.Addr, "err", err)
		if in, err = dnsserver.Fetch(ctx, apex, p, nil); err == nil {
			err = f.take(ctx, p, was, in)
		}
	}
	return err
}

// taking shares out the right to take a zone: to a few at a time, and to one of
// each primary, so that a slow one with many zones holds up nobody else's.
type taking struct {
	all chan struct{}

	mu sync.Mutex
	of map[netip.Addr]chan struct{} // as many as primaries were ever named
}

func newTaking() *taking {
	return &taking{all: make(chan struct{}, maxTaking), of: make(map[netip.Addr]chan struct{})}
}

// turn is one check's.
func (t *taking) turn(primary netip.Addr) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of[primary] == nil {
		t.of[primary] = make(chan struct{}, 1)
	}
	return &turn{wants: [2]chan struct{}{t.of[primary], t.all}}
}

// turn is the right of one check to take a zone, once it has it.
type turn struct {
	wants [2]chan struct{}
	has   int
}

// begin waits for the turn.
func (t *turn) begin(ctx context.Context) error {
	for ; t.has < len(t.wants); t.has++ {
		select {
		case t.wants[t.has] <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// end gives back what it has.
func (t *turn) end() {
	for ; t.has > 0; t.has-- {
		<-t.wants[t.has-1]
	}
}

// take commits what came; nil means that nothing changed, which is written down
// now and then, so that a restart knows how old the zone is.
func (f *follower) take(ctx context.Context, p dnsserver.Primary, was store.Transfer, in *zones.Incoming) error {
	at := time.Now()
	_, _, expire := f.timers()
	if in == nil && at.Sub(was.Taken.At) < min(expire/8, maxRefresh) {
		return nil
	}
	if err := f.node.admin.TakeZone(ctx, f.domain, was, in, at); err != nil {
		return err
	}
	if in != nil {
		f.node.log.Info("secondary: taken", "zone", f.domain, "primary", p.Addr, "serial", in.Serial(), "whole", in.Whole())
	}
	return nil
}

// secondary is how a domain follows its primaries, for its administrator.
func (p *peering) secondary(d direct.Domain) admin.Secondary {
	p.mu.Lock()
	f := p.followers[d]
	p.mu.Unlock()
	if f == nil {
		return admin.Secondary{State: "waiting"}
	}
	_, _, expire := f.timers()
	f.mu.Lock()
	defer f.mu.Unlock()
	s := admin.Secondary{State: "current"}
	switch {
	case f.expired:
		s.State = "expired"
	case f.transfer.Taken == nil:
		s.State = "waiting"
	case f.err != nil:
		s.State = "stale"
	}
	shown := func(t time.Time) *time.Time {
		t = t.UTC().Truncate(time.Second)
		return &t
	}
	if f.transfer.Taken != nil {
		s.Serial, s.Checked, s.Expires = &f.transfer.Taken.Serial, shown(f.confirmed), shown(f.confirmed.Add(expire))
	}
	if !f.next.IsZero() {
		s.Next = shown(f.next)
	}
	if f.err != nil {
		s.Error = f.err.Error()
	}
	return s
}
