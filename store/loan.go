package store

import (
	"context"
	"runtime"
	"time"

	"directnode/store/kv"
)

// loan is the driver's memory, in which records lie after a start. Copying a
// million of them takes most of the time that a start has, and the page faults
// of a gigabyte most of that; so they are served where they lie, and copied when
// the node answers already (docs/adr/0061).
type loan struct {
	of      kv.Loan
	memory  []byte
	windows []*chunk // of maxChunk octets each; nil: no record lies there
}

func newLoan(of kv.Loan) *loan {
	memory := of.Memory()
	return &loan{of: of, memory: memory, windows: make([]*chunk, (len(memory)+maxChunk-1)/maxChunk)}
}

// window is the chunk that a record lies in, and where; nil if it lies in two.
func (l *loan) window(r record) (c *chunk, offset int) {
	at := cap(l.memory) - cap(r) // both end where the memory ends
	if at < 0 || at+len(r) > len(l.memory) || at/maxChunk != (at+len(r)-1)/maxChunk {
		return nil, 0
	}
	w := &l.windows[at/maxChunk]
	if *w == nil {
		from := at &^ (maxChunk - 1)
		to := min(from+maxChunk, len(l.memory))
		*w = newChunk(l.memory[from:to:to])
		(*w).size = 0 // what lies between the records is no waste that moving could mend
	}
	return *w, at % maxChunk
}

const (
	// settleStep is how much is copied before others have their turn: a fraction
	// of a millisecond.
	settleStep = 64 << 10
	// settleGrace is how long slices that were taken before may still be read.
	// They are taken for a moment, and no request takes as long.
	settleGrace = time.Minute
)

// Settle copies what a start left in the driver's memory, and gives that back.
// It returns when it is done, or when ctx ends; call it when the node serves. It
// disturbs neither readers nor changes.
func (s *Store) Settle(ctx context.Context) error {
	l := s.loan
	if l == nil {
		return nil
	}
	defer l.of.Return()
	for i, w := range l.windows {
		if w == nil {
			continue
		}
		from := *w.octets.Load()
		to := make([]byte, len(from))
		inHugePages(to)
		for at := 0; at < len(from); at += settleStep {
			if ctx.Err() != nil {
				return nil
			}
			copy(to[at:], from[at:min(at+settleStep, len(from))])
			runtime.Gosched()
		}
		w.octets.Store(&to)
		l.of.Forget(i*maxChunk, i*maxChunk+len(from))
	}
	select {
	case <-ctx.Done():
	case <-time.After(settleGrace):
	}
	return nil
}
