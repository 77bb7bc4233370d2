package main

import (
	"fmt"
	"strings"
)

// Targets for a million names.
const (
	targetStart  = 0.20   // of Knot's start
	targetMemory = 1.30   // of NSD's memory
	targetChange = 20.0   // ms, median
	targetSlice  = 5.0    // ms, p99 of each 100 ms while changes are made
	targetImport = 10_000 // certificates a second
)

// yes says whether a target was reached.
func yes(reached bool) string {
	if reached {
		return "yes"
	}
	return "**no**"
}

// startTable shows starts and memory.
func (r *report) startTable(b *strings.Builder) {
	if len(r.starts) == 0 {
		return
	}
	b.WriteString("\nFrom exec to the first right answer (for the last name), and resident memory (Pss) three seconds later; each server alone, median [least–most].\n\n")
	b.WriteString("| server | start, s | × Knot | target | reached | memory, MiB | of it mapped files | × NSD | target | reached |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, s := range r.starts {
		if s.err != nil || len(s.ready) == 0 {
			fmt.Fprintf(b, "| %s | absent | – | – | – | – | – | – | – | – |\n", s.name)
			continue
		}
		ready, mem := spreadOf(s.ready), spreadOf(s.memory)
		toKnot, startReached := r.held(s.name, ready.Median, knot{}.name(), targetStart, func(o startResult) []float64 { return o.ready })
		toNSD, memoryReached := r.held(s.name, mem.Median, nsd{}.name(), targetMemory, func(o startResult) []float64 { return o.memory })
		startTarget, memoryTarget := "–", "–"
		if s.name == (own{}).name() {
			startTarget, memoryTarget = fmt.Sprintf("≤ %.2f", targetStart), fmt.Sprintf("≤ %.2f", targetMemory)
		}
		fmt.Fprintf(b, "| %s | %.2f [%.2f–%.2f] | %s | %s | %s | %.0f [%.0f–%.0f] | %.0f | %s | %s | %s |\n", s.name,
			ready.Median, ready.Min, ready.Max, toKnot, startTarget, startReached, mem.Median, mem.Min, mem.Max, spreadOf(s.files).Median, toNSD, memoryTarget, memoryReached)
	}
}

// held is the ratio of a figure to a peer's, and for ours whether it is within
// the target.
func (r *report) held(name string, value float64, peer string, target float64, of func(startResult) []float64) (ratio, reached string) {
	ours := name == own{}.name()
	for _, s := range r.starts {
		if s.name != peer || s.err != nil || len(of(s)) == 0 {
			continue
		}
		x := value / spreadOf(of(s)).Median
		if !ours {
			return fmt.Sprintf("%.2f", x), "–"
		}
		return fmt.Sprintf("%.2f", x), yes(x <= target)
	}
	if !ours {
		return "–", "–"
	}
	return "–", "not measured"
}

func (r *report) importTable(b *strings.Builder) {
	if len(r.imports) == 0 {
		return
	}
	fmt.Fprintf(b, "\nBulk import into an empty node, on both cores; the daemon was killed (SIGKILL) when the order was done, started again, and had them.\n\n| how | certificates | s | a second | target | reached |\n|---|---|---|---|---|---|\n")
	for _, i := range r.imports {
		fmt.Fprintf(b, "| %s | %d | %.1f | %.0f | ≥ %d | %s |\n", i.how, i.count, i.took.Seconds(), i.rate(), targetImport, yes(i.rate() >= targetImport))
	}
}

func (r *report) changeTable(b *strings.Builder) {
	if len(r.changes) == 0 {
		return
	}
	b.WriteString("\nOne certificate replaced: from the start of the administrator's command (`directctl cert import`; `nsupdate` for Knot and BIND; `nsd-control reload` for NSD, its zone text already edited) until a new TCP connection gets the new certificate, from `directd` by LDAP too; meanwhile a paced load asks for CERT by UDP.\n\n")
	b.WriteString("| server | changes | visible after, ms | load: answered | lost | p99 of 100 ms, worst, ms | the load alone | reached |\n|---|---|---|---|---|---|---|---|\n")
	for _, c := range r.changes {
		reached := "–"
		v := spreadOf(c.visible)
		if c.name == (own{}).name() {
			reached = yes(c.err == nil && v.N > 0 && v.Median <= targetChange && worst(c.disturbed) <= targetSlice)
		}
		visible := "–"
		if v.N > 0 {
			visible = fmt.Sprintf("%.1f [%.1f–%.1f]", v.Median, v.Min, v.Max)
		}
		fmt.Fprintf(b, "| %s | %d | %s | %d | %d | %.2f | %.2f | %s |\n", c.name, v.N, visible, c.load.answers, c.load.lost, worst(c.disturbed), worst(c.quiet), reached)
	}
	fmt.Fprintf(b, "\nTargets for `directd`: visible within %.0f ms at the median, nothing lost, no p99 over %.0f ms.\n", targetChange, targetSlice)
	for _, c := range r.changes {
		if c.err != nil {
			fmt.Fprintf(b, "\n%s: does not count: %s.\n", c.name, oneLine(c.err))
		}
	}
}
