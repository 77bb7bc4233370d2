package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

const (
	// signedNames are asked for in turn, so that their signatures are made once
	// and kept. A cache of signatures is bounded; this many fit everywhere.
	signedNames = 4000

	// signedWarmUp makes them all.
	signedWarmUp = 3 * time.Second

	targetSigned = 1.30
)

// signedResult is one way of asking, without and with signatures.
type signedResult struct {
	title         string
	plain, signed []float64 // µs of CPU for one answer
	err           error
}

// askSigned asks for certificates with their signatures.
func askSigned(answers uint16) question {
	return question{qtype: typeCERT, edns: 4096, label: "u%07d", do: true, few: signedNames, want: want{answers: answers, size: 1000}}
}

// measureSigned holds a node with the zone signed against the one without.
func (b *bench) measureSigned(ctx context.Context, plain *server) error {
	ours := b.own
	var err error
	if ours.ldap, err = freePort(); err != nil {
		return err
	}
	s, err := start(ctx, b.o.serverCore, ours, filepath.Join(b.scratch, "signed"), b.data)
	if err != nil {
		return err
	}
	defer s.proc.stop()
	err = ours.ctl(ctx, filepath.Join(s.dir, "directd.toml"), "dnssec", "enable", zoneName)
	for _, way := range []struct {
		title string
		load  load
	}{{"TCP, 8 pipelined on 20 connections", byPipeline}, {"TCP, 1 outstanding on 50 connections", byTurns}} {
		r := signedResult{title: way.title, err: err}
		if err == nil {
			b.compareSigned(ctx, way.load, plain, s, &r)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		b.report.signed = append(b.report.signed, r)
		b.say("signed CERT, %s: %s", r.title, r.summary())
	}
	return nil
}

func (b *bench) compareSigned(ctx context.Context, l load, plain, signed *server, r *signedResult) {
	without, with := buildQueries(askSigned(1), b.data.names), buildQueries(askSigned(2), b.data.names)
	if _, r.err = b.gen.do(ctx, l, signed.addr, with, signedWarmUp); r.err != nil {
		return
	}
	for range b.o.rounds {
		for _, side := range []struct {
			s       *server
			q       *queries
			figures *[]float64
		}{{plain, without, &r.plain}, {signed, with, &r.signed}} {
			o, cpu, err := b.gen.measure(ctx, l, side.s, side.q, b.o.seconds)
			if err != nil {
				r.err = err
				continue
			}
			*side.figures = append(*side.figures, float64(cpu)/float64(time.Microsecond)/float64(o.answers))
		}
	}
}

// ratio is that of the medians; false if one of them is missing.
func (r *signedResult) ratio() (float64, bool) {
	if len(r.plain) == 0 || len(r.signed) == 0 {
		return 0, false
	}
	return spreadOf(r.signed).Median / spreadOf(r.plain).Median, true
}

func (r *signedResult) summary() string {
	x, ok := r.ratio()
	if !ok {
		return "not measured: " + oneLine(r.err)
	}
	return fmt.Sprintf("%.2f µs with, %.2f µs without, ratio %.2f", spreadOf(r.signed).Median, spreadOf(r.plain).Median, x)
}

func (r *report) signedTable(b *strings.Builder) {
	if len(r.signed) == 0 {
		return
	}
	fmt.Fprintf(b, "\nSigned on the fly: CERT with its signature (DO set, %d names in turn, signatures made before) beside the same questions to the unsigned zone; server CPU for one answer in µs.\n\n", signedNames)
	b.WriteString("| case | unsigned | signed | ratio | target | reached |\n|---|---|---|---|---|---|\n")
	for _, s := range r.signed {
		x, ok := s.ratio()
		if !ok {
			fmt.Fprintf(b, "| %s | – | – | – | ≤ %.2f | not measured: %s |\n", s.title, targetSigned, oneLine(s.err))
			continue
		}
		p, w := spreadOf(s.plain), spreadOf(s.signed)
		fmt.Fprintf(b, "| %s | %.2f [%.2f–%.2f] | %.2f [%.2f–%.2f] | %.2f | ≤ %.2f | %s |\n", s.title, p.Median, p.Min, p.Max, w.Median, w.Min, w.Max, x, targetSigned, yes(x <= targetSigned))
	}
}
