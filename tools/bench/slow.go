package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// targetSlow bounds the p99 among slow connections, in p99s without them.
const targetSlow = 3.0

// slowLoads are the good searches whose latency is measured.
var slowLoads = []struct {
	title string
	load  load
}{
	{"1 connection, 1 search outstanding", load{over: overTCP, conns: 1, window: 1, urgent: true}},
	{"20 connections, 1 search outstanding on each", load{over: overTCP, conns: 20, window: 1, urgent: true}},
}

// slowResult is the latency of one load at one server.
type slowResult struct {
	name, title      string
	quiet, crowded   []float64 // p99 in µs of each round, alone and among slow connections
	quiet50, crowd50 []float64
	open             []float64 // slow connections, as their clients see them, at the end of each round
	closed           int64     // of them by the server, in all rounds
	void             []error
}

// measureSlow measures latencies alone and among slow connections, in turn.
// gldap has no limits that could be shown.
func (b *bench) measureSlow(ctx context.Context, columns []column) error {
	var results []*slowResult
	for _, l := range slowLoads {
		for _, c := range columns {
			results = append(results, &slowResult{name: c.kind.name(), title: l.title})
		}
	}
	q := buildSearches(b.data.names, b.o.certOctets)
	for round := range b.o.rounds {
		for n, c := range columns {
			if c.server == nil {
				continue
			}
			var mine []*slowResult
			for k := range slowLoads {
				mine = append(mine, results[k*len(columns)+n])
			}
			b.slowRound(ctx, c.server, q, mine)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			for _, r := range mine {
				b.say("%-42s %d/%d  %-8s %s", "slow connections, "+r.title, round+1, b.o.rounds, r.name, r.summary())
			}
		}
	}
	for _, r := range results {
		b.report.slow = append(b.report.slow, *r)
	}
	return nil
}

// slowRound is one round at one server: every load alone, then every load in
// the crowd.
func (b *bench) slowRound(ctx context.Context, s *server, q *searches, results []*slowResult) {
	for k, l := range slowLoads {
		r := results[k]
		r.quiet, r.quiet50 = b.latencyOf(ctx, l.load, s, q, r, r.quiet, r.quiet50)
	}
	c, disperse, err := gather(ctx, b.o.clientCore, s.addr, b.o.slow)
	if err != nil {
		for _, r := range results {
			r.void = append(r.void, err)
		}
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(b.o.ripen):
	}
	for k, l := range slowLoads {
		r := results[k]
		before := c.closed.Load()
		r.crowded, r.crowd50 = b.latencyOf(ctx, l.load, s, q, r, r.crowded, r.crowd50)
		r.open = append(r.open, float64(c.open.Load()))
		r.closed += c.closed.Load() - before
	}
	if err := disperse(); err != nil {
		for _, r := range results {
			r.void = append(r.void, fmt.Errorf("the crowd: %w", err))
		}
	}
}

// latencyOf measures once and appends p99 and p50.
func (b *bench) latencyOf(ctx context.Context, l load, s *server, q *searches, r *slowResult, p99, p50 []float64) (more99, more50 []float64) {
	o, _, err := b.gen.measure(ctx, l, s, q, b.o.seconds)
	if err != nil {
		r.void = append(r.void, err)
		return p99, p50
	}
	micros := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	return append(p99, micros(o.latency.quantile(0.99))), append(p50, micros(o.latency.quantile(0.5)))
}

// ratio is that of the medians; false if one of them is missing.
func (r *slowResult) ratio() (float64, bool) {
	if len(r.quiet) == 0 || len(r.crowded) == 0 {
		return 0, false
	}
	return spreadOf(r.crowded).Median / spreadOf(r.quiet).Median, true
}

func (r *slowResult) summary() string {
	x, ok := r.ratio()
	if !ok {
		return "not measured: " + reasons(r.void)
	}
	return fmt.Sprintf("p99 %.0f µs, alone %.0f, ratio %.2f so far; %.0f open, %d closed by the server", spreadOf(r.crowded).Median, spreadOf(r.quiet).Median, x, spreadOf(r.open).Median, r.closed)
}

// reasons is the first of several errors.
func reasons(void []error) string {
	if len(void) == 0 {
		return "absent"
	}
	return oneLine(void[0])
}

func (r *report) slowTable(b *strings.Builder) {
	if len(r.slow) == 0 {
		return
	}
	fmt.Fprintf(b, "\nA good search among %d slow connections from %d addresses: half of them are idle, half send a search request, an octet a second; what a server closes is opened anew, and they are there for %.0f s before anything is measured. Latency in µs, median of the rounds [least–most]; alone and in the crowd in turn.\n\n", r.slowly, min(r.slowly, crowdAddresses), r.ripened.Seconds())
	b.WriteString("| server | load | p50 alone | p99 alone | p50 in the crowd | p99 in the crowd | ratio of p99 | target | reached | slow connections open | closed by the server |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
	for i := range r.slow {
		s := &r.slow[i]
		target := "–"
		if s.name == (own{}).name() {
			target = fmt.Sprintf("< %.0f", targetSlow)
		}
		x, ok := s.ratio()
		if !ok {
			fmt.Fprintf(b, "| %s | %s | – | – | – | – | – | %s | not measured: %s | – | – |\n", s.name, s.title, target, reasons(s.void))
			continue
		}
		reached := "–"
		if target != "–" {
			reached = yes(x < targetSlow)
		}
		q, c := spreadOf(s.quiet), spreadOf(s.crowded)
		fmt.Fprintf(b, "| %s | %s | %.0f | %.0f [%.0f–%.0f] | %.0f | %.0f [%.0f–%.0f] | %.2f | %s | %s | %.0f | %d |\n", s.name, s.title,
			spreadOf(s.quiet50).Median, q.Median, q.Min, q.Max, spreadOf(s.crowd50).Median, c.Median, c.Min, c.Max, x, target, reached, spreadOf(s.open).Median, s.closed)
	}
	for i := range r.slow {
		if s := &r.slow[i]; len(s.void) > 0 && len(s.crowded) > 0 {
			fmt.Fprintf(b, "\n%s, %s: %d measurements did not count: %s.\n", s.name, s.title, len(s.void), reasons(s.void))
		}
	}
}
