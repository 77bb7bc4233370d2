package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// targetDirectoryMemory bounds directd's memory, in slapd's.
const targetDirectoryMemory = 1.00

// Moments at which memory is looked at.
const (
	atStart = iota
	allAsked
	moments
)

var momentTitles = [moments]string{"three seconds after its first answer", "when every name was asked for once"}

// memoryResult is what one server has in memory.
type memoryResult struct {
	name   string
	rounds [moments][]usage
	stored int64 // octets of its database on disk
	err    error
}

// measureMemory starts each server alone, round after round. gldap keeps
// everything in one map of Go and is not asked for.
func (b *bench) measureMemory(ctx context.Context, kinds []kind) error {
	var results []*memoryResult
	for _, k := range kinds {
		results = append(results, &memoryResult{name: k.name()})
	}
	for round := range b.o.starts {
		for n, k := range kinds {
			r := results[n]
			if r.err != nil {
				continue
			}
			r.err = b.memoryOnce(ctx, k, r)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case r.err == nil:
				b.say("memory %d/%d  %-8s %s", round+1, b.o.starts, r.name, r.summary())
			case k.name() == own{}.name():
				return r.err
			default:
				b.say("absent: %v", r.err)
			}
		}
	}
	for _, r := range results {
		b.report.memory = append(b.report.memory, *r)
	}
	return nil
}

func (b *bench) memoryOnce(ctx context.Context, k kind, r *memoryResult) error {
	if _, err := k.version(ctx); err != nil {
		return err
	}
	dir := filepath.Join(b.scratch, "memory")
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
	var seen [moments]usage
	if seen[atStart], err = memory(tree(s.proc.cmd.Process.Pid)); err != nil {
		return err
	}
	all := byPipeline
	all.limit = b.data.names
	o, err := b.gen.do(ctx, all, s.addr, searchesForAll(b.data.names, b.o.certOctets), startWait)
	if err := errOr(err, errOr(ctx.Err(), o.valid())); err != nil {
		return err
	}
	if o.answers != uint64(b.data.names) {
		return fmt.Errorf("%d of %d names were answered", o.answers, b.data.names)
	}
	if seen[allAsked], err = memory(tree(s.proc.cmd.Process.Pid)); err != nil {
		return err
	}
	for m, u := range seen {
		r.rounds[m] = append(r.rounds[m], u)
	}
	r.stored, err = databaseSize(k, dir, b.data)
	return err
}

// databaseSize is what the server's database takes on disk: slapd's file is as
// long as it may ever become, and mostly a hole.
func databaseSize(k kind, dir string, d *dataSet) (int64, error) {
	path := filepath.Join(dir, "data", "store.db")
	if s, ok := k.(slapd); ok {
		stored, err := s.stored(d)
		if err != nil {
			return 0, err
		}
		path = filepath.Join(stored, "data.mdb")
	}
	var info unix.Stat_t
	if err := unix.Stat(path, &info); err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return info.Blocks * 512, nil
}

// figures are medians of one moment, in MiB.
func (r *memoryResult) figures(m int) (all, anon, files, resident float64) {
	pick := func(of func(usage) int64) float64 {
		var v []float64
		for _, u := range r.rounds[m] {
			v = append(v, float64(of(u))/(1<<20))
		}
		return spreadOf(v).Median
	}
	return pick(func(u usage) int64 { return u.all }), pick(func(u usage) int64 { return u.anon }),
		pick(func(u usage) int64 { return u.files }), pick(func(u usage) int64 { return u.resident })
}

func (r *memoryResult) summary() string {
	var parts []string
	for m, title := range momentTitles {
		all, anon, files, _ := r.figures(m)
		parts = append(parts, fmt.Sprintf("%.0f MiB (%.0f anonymous, %.0f files) %s", all, anon, files, title))
	}
	return strings.Join(parts, "; ")
}

func (r *report) memoryTable(b *strings.Builder) {
	if len(r.memory) == 0 {
		return
	}
	b.WriteString("\nMemory, each server alone, median of the starts, in MiB. Pss is what the process has in memory, pages that it shares counted in part; of it anonymous memory, which must stay, and mapped files, which the kernel may drop and read again. " +
		"slapd's database is a mapped file: at its start it has read next to nothing of it, and each page that a search touches counts from then on. The servers are therefore compared when each name was asked for once, that is with everything in memory that they answer from. " +
		"`directd` answers DNS from the same memory.\n\n")
	b.WriteString("| server | when | Pss | of it anonymous | of it mapped files | Rss | database on disk | × slapd's Pss | target | reached |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for i := range r.memory {
		m := &r.memory[i]
		for moment, title := range momentTitles {
			if m.err != nil || len(m.rounds[moment]) == 0 {
				fmt.Fprintf(b, "| %s | %s | absent | – | – | – | – | – | – | – |\n", m.name, title)
				continue
			}
			all, anon, files, resident := m.figures(moment)
			ratio, target, reached := r.memoryVerdict(m, moment, all)
			fmt.Fprintf(b, "| %s | %s | %.0f | %.0f | %.0f | %.0f | %.0f | %s | %s | %s |\n", m.name, title, all, anon, files, resident, float64(m.stored)/(1<<20), ratio, target, reached)
		}
	}
}

// memoryVerdict holds directd against slapd, and says that of slapd's figure
// at its start no claim is made.
func (r *report) memoryVerdict(m *memoryResult, moment int, all float64) (ratio, target, reached string) {
	ratio, target, reached = "–", "–", "–"
	if m.name != (own{}).name() {
		return
	}
	if moment == allAsked {
		target, reached = fmt.Sprintf("≤ %.2f", targetDirectoryMemory), "not measured"
	}
	for i := range r.memory {
		s := &r.memory[i]
		if s.name != (slapd{}).name() || s.err != nil || len(s.rounds[moment]) == 0 {
			continue
		}
		theirs, _, _, _ := s.figures(moment)
		ratio = fmt.Sprintf("%.2f", all/theirs)
		if moment == allAsked {
			reached = yes(all/theirs <= targetDirectoryMemory)
		}
	}
	return ratio, target, reached
}
