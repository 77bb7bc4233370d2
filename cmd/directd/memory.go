package main

import (
	"os"
	"runtime/debug"

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
	// Setting it stops the world for a moment: not for every certificate.
	if percent := gcPercent(octets); percent != p.percent {
		p.percent = percent
		debug.SetGCPercent(percent)
	}
}
