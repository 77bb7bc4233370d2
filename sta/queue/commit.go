package queue

import (
	"sync"

	bolt "go.etcd.io/bbolt"
)

// group lets many callers share one slow step (a commit, a flush). The first
// to come does the step for everybody who is waiting; who comes meanwhile
// waits, and one of them does the next step for all. A caller alone never
// waits for others to come.
type group[T any] struct {
	mu      sync.Mutex
	waiting []*caller[T] // guarded by mu
	busy    bool         // guarded by mu: somebody leads
}

type caller[T any] struct {
	v      T
	signal chan signal
}

type signal struct {
	lead bool // you do the next step
	err  error
}

// do returns the result of a run whose values include v. run gets at most
// maxBatch values and returns one error for each.
func (g *group[T]) do(v T, run func([]T) []error) error {
	me := &caller[T]{v, make(chan signal, 1)}
	g.mu.Lock()
	g.waiting = append(g.waiting, me)
	if g.busy {
		g.mu.Unlock()
		if s := <-me.signal; !s.lead {
			return s.err
		}
		g.mu.Lock()
	}
	// The leader is always the first in the line.
	g.busy = true
	n := min(len(g.waiting), maxBatch)
	batch := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	g.mu.Unlock()

	values := make([]T, n)
	for i, c := range batch {
		values[i] = c.v
	}
	errs := run(values)

	g.mu.Lock()
	if len(g.waiting) > 0 {
		g.waiting[0].signal <- signal{lead: true}
	} else {
		g.busy = false
	}
	g.mu.Unlock()
	for i, c := range batch[1:] {
		c.signal <- signal{err: errs[i+1]}
	}
	return errs[0]
}

// update runs fn in a transaction of the index and returns when it is
// durable. fn may run twice, and others' changes may be in the same
// transaction: it sets what it hands out, and changes nothing else outside.
func (q *Queue) update(fn func(*bolt.Tx) error) error {
	return q.commits.do(fn, q.commit)
}

func (q *Queue) commit(fns []func(*bolt.Tx) error) []error {
	errs := make([]error, len(fns))
	refused := false
	err := q.db.Update(func(tx *bolt.Tx) error {
		for _, fn := range fns {
			if err := fn(tx); err != nil {
				refused = true
				return err
			}
		}
		return nil
	})
	for i, fn := range fns {
		errs[i] = err
		if refused { // one of them failed: each by itself, so that only that one does
			errs[i] = q.db.Update(fn)
		}
	}
	return errs
}

// syncSpool flushes the entries of the spool directory.
func (q *Queue) syncSpool() error {
	return q.syncs.do(struct{}{}, func(all []struct{}) []error {
		errs := make([]error, len(all))
		err := q.fsys.SyncDir(q.spool)
		for i := range errs {
			errs[i] = err
		}
		return errs
	})
}
