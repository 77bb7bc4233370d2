package kv

import (
	"context"
	"strings"
)

// History is what a driver's log of changes must offer so that Follow can
// serve a Watch from it.
type History interface {
	// Events returns changes with a revision of at least from, oldest first
	// and whole revisions only, and the revision to ask for next. It may stop
	// after any revision. No events means that there are none yet. It fails
	// with ErrCompacted when from is no longer in the history.
	Events(from int64) (events []Event, next int64, err error)
	// Changed returns a channel that is closed after the next change, or when
	// the store is closed.
	Changed() <-chan struct{}
}

// Follow is the body of every driver's Watch: it sends what History has, then
// waits for more. It holds no lock and no transaction while it waits for the
// receiver, so that a slow one costs nobody anything. It returns, and closes
// out, when ctx ends, when stop is closed, or when History fails.
func Follow(ctx context.Context, h History, prefix string, from int64, stop <-chan struct{}, out chan<- []Event) {
	defer close(out)
	for {
		changed := h.Changed() // before Events: a change in between must wake us
		events, next, err := h.Events(from)
		if err != nil {
			return
		}
		progress := next > from
		from = next
		if batch := only(events, prefix); len(batch) > 0 {
			select {
			case out <- batch:
			case <-ctx.Done():
				return
			case <-stop:
				return
			}
		}
		if progress {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		case <-stop:
			return
		}
	}
}

func only(events []Event, prefix string) []Event {
	if prefix == "" {
		return events
	}
	kept := events[:0]
	for _, e := range events {
		if strings.HasPrefix(e.Key, prefix) {
			kept = append(kept, e)
		}
	}
	return kept
}

// Signal tells any number of goroutines that something changed. Its zero
// value is not ready; use NewSignal. The owner calls Raise and Changed under
// the lock that guards the state it signals.
type Signal struct{ ch chan struct{} }

// NewSignal makes a Signal.
func NewSignal() *Signal { return &Signal{make(chan struct{})} }

// Changed returns the channel that the next Raise closes.
func (s *Signal) Changed() <-chan struct{} { return s.ch }

// Raise wakes everybody who waits.
func (s *Signal) Raise() {
	close(s.ch)
	s.ch = make(chan struct{})
}
