package main

import (
	"context"
	"os"
	"runtime/debug"
	"time"

	"directnode/store"
)

// What the collector may let lie before it runs again, beside what is alive: an
// eighth of it within these bounds. Certificates are without pointers, so that
// a run costs next to nothing however many there are, and with the usual
// proportion of one to one a node of a million of them would take twice the
// memory for garbage that a few changes make in an hour.
const (
	minGarbage = 64 << 20
	maxGarbage = 512 << 20
)

// bulk is how much larger or smaller the certificates must have become for what
// the change left behind to be worth looking for.
const bulk = 32 << 20

// tidyAfter is how long after such a change its leftovers are given back: the
// order's answer is made of them.
const tidyAfter = 3 * time.Second

// tidy gives memory back that imports of many certificates have used, until ctx
// ends. Without it the collector would come by when as much again has been
// allocated, which may be never.
func (p *publisher) tidy(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.untidy:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(tidyAfter):
			debug.FreeOSMemory()
		}
	}
}

// gcPercent is the collector's proportion for so much that is alive.
func gcPercent(octets int64) int {
	garbage := min(max(octets/8, minGarbage), maxGarbage)
	return int(min(100, max(1, garbage*100/max(1, octets))))
}

// tuneGC sets the collector's proportion for a generation. An operator who has
// set GOGC is left alone.
func (p *publisher) tuneGC(v *store.View) {
	if os.Getenv("GOGC") != "" {
		return
	}
	var octets int64
	for _, d := range v.Domains() {
		octets += v.Domain(d).Certificates.Octets()
	}
	if d := octets - p.octets; max(d, -d) >= bulk {
		p.octets = octets
		select {
		case p.untidy <- struct{}{}:
		default: // it is known already
		}
	}
	// Setting it stops the world for a moment: not for every certificate.
	if percent := gcPercent(octets); percent != p.percent {
		p.percent = percent
		debug.SetGCPercent(percent)
	}
}
