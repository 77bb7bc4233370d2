package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// settle is how long a server may tidy up after its start before its memory is
// looked at.
const settle = 3 * time.Second

// startResult is what the starts of one server took.
type startResult struct {
	name   string
	ready  []float64 // s from exec to the first right answer
	memory []float64 // MiB, proportional set size
	files  []float64 // of it mapped files
	err    error
}

// measureStarts starts each server alone, round after round.
func (b *bench) measureStarts(ctx context.Context, kinds []kind) error {
	results := make([]startResult, len(kinds))
	for round := range b.o.starts {
		for n, k := range kinds {
			r := &results[n]
			r.name = k.name()
			if r.err != nil {
				continue
			}
			if r.err = b.startOnce(ctx, k, r); r.err == nil {
				b.say("start %d/%d  %-8s %.2f s, %.0f MiB, of it files %.0f", round+1, b.o.starts, r.name, r.ready[round], r.memory[round], r.files[round])
				continue
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if k.name() == (own{}).name() {
				return r.err
			}
			b.say("absent: %v", r.err)
		}
	}
	b.report.starts = results
	return nil
}

func (b *bench) startOnce(ctx context.Context, k kind, r *startResult) error {
	dir := filepath.Join(b.scratch, "start")
	defer os.RemoveAll(dir)
	s, err := start(ctx, b.o.serverCore, k, dir, b.data)
	if err != nil {
		return err
	}
	defer s.proc.stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(settle):
	}
	m, err := memory(tree(s.proc.cmd.Process.Pid))
	if err != nil {
		return err
	}
	r.ready = append(r.ready, s.ready.Seconds())
	r.memory, r.files = append(r.memory, float64(m.all)/(1<<20)), append(r.files, float64(m.files)/(1<<20))
	return s.verify(b.data)
}

// importResult is what a bulk import took.
type importResult struct {
	how   string
	count int
	took  time.Duration
}

func (r importResult) rate() float64 { return float64(r.count) / r.took.Seconds() }

// bulk is how many certificates the bulk import has.
const bulk = 100_000

// measureImport imports certificates into an empty node, as PEM files and as
// zone text. The daemon is killed as soon as the order is done: what is there
// after the next start was durable.
func (b *bench) measureImport(ctx context.Context) error {
	part := *b.data
	part.names = min(bulk, b.data.names)
	for _, way := range []struct {
		how    string
		orders orders
	}{{"`directctl cert import`, PEM", b.own.certOrders}, {"`directctl zone import`, zone text", b.own.zoneOrders}} {
		dir := filepath.Join(b.scratch, "bulk")
		took, err := b.own.importAll(ctx, &part, dir, way.orders, true)
		if err == nil {
			err = b.survived(ctx, &part, dir)
		}
		if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
			return fmt.Errorf("bulk import: %w", err)
		}
		r := importResult{way.how, part.names, took}
		b.report.imports = append(b.report.imports, r)
		b.say("bulk import, %s: %d in %.1f s, %.0f a second", r.how, r.count, took.Seconds(), r.rate())
	}
	return nil
}

// survived starts a node on a data directory again and looks for its
// certificates.
func (b *bench) survived(ctx context.Context, d *dataSet, dir string) error {
	s, err := start(ctx, anyCore, again{b.own}, dir, d)
	if err != nil {
		return fmt.Errorf("after kill -9: %w", err)
	}
	defer s.proc.stop()
	return s.verify(d)
}
