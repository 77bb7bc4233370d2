package main

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// patience is how long without any answer until what is outstanding is
	// lost. Loopback loses nothing but by full queues; on a busy machine a
	// server may be off its core for as long as a second.
	patience = 3 * time.Second

	// warmUp comes before each measurement and is not counted: caches fill, and
	// a runtime that slept gets going.
	warmUp = 200 * time.Millisecond

	socketBuffer = 4 << 20
)

// transport is how a load speaks to a server.
type transport uint8

const (
	overUDP transport = iota
	overTCP           // connections that are kept
	perConnection
)

// load is one way to ask.
type load struct {
	over   transport
	conns  int // TCP connections
	window int // queries outstanding: in all by UDP, on a connection by TCP
	rate   int // queries a second at most; 0: as fast as answers come
	limit  int // queries in all, by TCP; 0: until the time ends

	// urgent goes before whatever else is on the generator's core.
	urgent bool

	patience time.Duration // until what is outstanding is lost; 0: the constant

	// each is how often the latencies so far go to slices and begin anew; 0:
	// never.
	each time.Duration
}

// outcome is what a load saw.
type outcome struct {
	answers, wrong, lost uint64
	octets               uint64
	elapsed              time.Duration
	latency              histogram
	slices               []slice
	first                error // the first that was wrong
}

// slice is the latency of one part of a timeline.
type slice struct {
	answers    uint64
	p99, worst time.Duration
}

// record counts one answer.
func (o *outcome) record(w *want, query, answer []byte, took time.Duration) {
	o.count(len(answer), took, w.check(query, answer))
}

// count counts one answer, and what is wrong with it.
func (o *outcome) count(octets int, took time.Duration, err error) {
	o.answers++
	o.octets += uint64(octets)
	o.latency.add(took)
	if err != nil {
		o.fail(err)
	}
}

func (o *outcome) fail(err error) {
	o.wrong++
	if o.first == nil {
		o.first = err
	}
}

// valid says whether the run counts.
func (o *outcome) valid() error {
	switch {
	case o.wrong > 0:
		return fmt.Errorf("%d of %d answers wrong, first: %w", o.wrong, o.answers, o.first)
	case o.lost > 0:
		return fmt.Errorf("%d queries lost, %d answered", o.lost, o.answers)
	case o.answers == 0:
		return fmt.Errorf("no answer")
	}
	return nil
}

// generator sends loads from one core.
type generator struct {
	core int
}

// run sends a load until the context or the time ends, whichever comes first.
func (g generator) run(ctx context.Context, l load, to netip.AddrPort, q dialect, d time.Duration) (outcome, error) {
	runtime.LockOSThread() // not unlocked: the thread has a core and a priority of its own and ends with the goroutine
	var one unix.CPUSet
	one.Set(g.core)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return outcome{}, err
	}
	if l.patience == 0 {
		l.patience = patience
	}
	if l.rate > 0 || l.urgent {
		// Latencies are measured while other programs or threads run on the same
		// core, which must not be waited for. Without the right to that a little
		// too much is measured.
		_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -19)
	}
	if asked, ok := q.(*queries); ok && l.over == overUDP {
		return runUDP(ctx, l, to, asked, d)
	}
	return runTCP(ctx, l, to, q, d)
}

// do is run on a goroutine of its own, after a warm-up.
func (g generator) do(ctx context.Context, l load, to netip.AddrPort, q dialect, d time.Duration) (outcome, error) {
	type result struct {
		o   outcome
		err error
	}
	c := make(chan result)
	go func() {
		o, err := g.run(ctx, l, to, q, d)
		c <- result{o, err}
	}()
	r := <-c
	return r.o, r.err
}

// measure warms a server up and measures it: CPU of its process tree for one
// answer.
func (g generator) measure(ctx context.Context, l load, s *server, q dialect, d time.Duration) (outcome, time.Duration, error) {
	if _, err := g.do(ctx, l, s.addr, q, warmUp); err != nil {
		return outcome{}, 0, err
	}
	pids := tree(s.proc.cmd.Process.Pid)
	before, err := readClock(pids)
	if err != nil {
		return outcome{}, 0, err
	}
	o, err := g.do(ctx, l, s.addr, q, d)
	if err != nil {
		return outcome{}, 0, err
	}
	after, err := readClock(pids)
	if err != nil {
		return outcome{}, 0, err
	}
	return o, after.since(before), errOr(ctx.Err(), o.valid())
}

func errOr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}
