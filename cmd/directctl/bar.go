package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"directnode/internal/admin"
)

const (
	// barAfter is when a bar appears: what takes less needs none.
	barAfter = time.Second
	// barEvery is how often it is drawn.
	barEvery = 100 * time.Millisecond
	barWidth = 30
)

// bar draws how far an order has come on one line of a terminal. A nil bar
// draws nothing.
type bar struct {
	w       io.Writer
	started time.Time
	stage   string
	since   time.Time // of the stage
	drawn   time.Time
	visible bool
}

func newBar(w io.Writer, at time.Time) *bar { return &bar{w: w, started: at} }

// show draws, unless it is too early or was done just now.
func (b *bar) show(at time.Time, p admin.Progress) {
	if b == nil {
		return
	}
	if p.Stage != b.stage {
		b.stage, b.since = p.Stage, at
	}
	if at.Sub(b.started) < barAfter || at.Sub(b.drawn) < barEvery {
		return
	}
	b.drawn, b.visible = at, true
	fmt.Fprintf(b.w, "\r\x1b[K%s", barLine(p, at.Sub(b.since)))
}

// clear takes the line away.
func (b *bar) clear() {
	if b == nil || !b.visible {
		return
	}
	b.visible = false
	fmt.Fprint(b.w, "\r\x1b[K")
}

// barLine is one state of the bar, with what is left at the speed so far.
func barLine(p admin.Progress, spent time.Duration) string {
	done := amount(p.Stage, p.Done)
	if p.Total <= 0 || p.Done > p.Total {
		if p.Done <= 0 {
			return fmt.Sprintf("%-8s %v", p.Stage, spent.Truncate(time.Second))
		}
		return fmt.Sprintf("%-8s %s", p.Stage, done)
	}
	full := int(p.Done * barWidth / p.Total)
	line := fmt.Sprintf("%-8s [%s%s] %3d%% %s of %s", p.Stage, strings.Repeat("#", full), strings.Repeat(".", barWidth-full), p.Done*100/p.Total, done, amount(p.Stage, p.Total))
	if p.Done > 0 && p.Done < p.Total && spent >= barAfter {
		left := time.Duration(float64(spent) * float64(p.Total-p.Done) / float64(p.Done))
		line += fmt.Sprintf(", %v left", left.Truncate(time.Second))
	}
	return line
}

// amount is octets where files move, and a number elsewhere.
func amount(stage string, n int64) string {
	switch {
	case stage != admin.StageSending && stage != admin.StageReading:
		return fmt.Sprint(n)
	case n < 10<<20:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
