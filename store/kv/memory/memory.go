// Package memory is the kv contract without a disk: for tests, and for
// commands that need a store for the length of one run.
//
// Data in and out: as package kv says; "durable" means as long as the process.
// Close ends the watches but keeps the data, and Reopen hands it on, so that
// tests can play a restart.
package memory

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"

	"directnode/store/kv"
)

// Options of a Store. The zero value is good.
type Options struct {
	History kv.HistoryLimits
}

// Store implements kv.Store.
type Store struct {
	opts  Options
	stop  chan struct{}
	watch sync.WaitGroup

	mu        sync.Mutex // guards all below
	closed    bool
	rev       int64
	compacted int64 // events of revisions up to this one are gone
	data      map[string]kv.KV
	keys      []string // the keys of data, and after a deletion perhaps more; sorted if sorted is set
	sorted    bool
	log       []kv.Event
	logBytes  int64
	signal    *kv.Signal
}

// New makes an empty store.
func New(o Options) *Store {
	o.History = o.History.OrDefault()
	return &Store{opts: o, stop: make(chan struct{}), data: map[string]kv.KV{}, sorted: true, signal: kv.NewSignal()}
}

// Reopen closes s and returns a store that holds what s held.
func (s *Store) Reopen() *Store {
	s.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	n := New(s.opts)
	n.rev, n.compacted, n.log, n.logBytes = s.rev, s.compacted, s.log, s.logBytes
	n.data, n.keys, n.sorted = s.data, s.keys, s.sorted
	s.data, s.keys, s.log = nil, nil, nil
	return n
}

// Get implements kv.Store.
func (s *Store) Get(ctx context.Context, key string) (kv.KV, error) {
	if err := s.lock(ctx); err != nil {
		return kv.KV{}, err
	}
	defer s.mu.Unlock()
	e, ok := s.data[key]
	if !ok {
		return kv.KV{}, fmt.Errorf("%q: %w", key, kv.ErrNotFound)
	}
	return clone(e), nil
}

// lock takes the lock unless the context has ended or the store is closed.
func (s *Store) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return kv.ErrClosed
	}
	return nil
}

func clone(e kv.KV) kv.KV {
	e.Value = bytes.Clone(e.Value)
	return e
}

// Scan implements kv.Store.
func (s *Store) Scan(ctx context.Context, prefix, after string, limit int) ([]kv.KV, int64, error) {
	if err := s.lock(ctx); err != nil {
		return nil, 0, err
	}
	defer s.mu.Unlock()
	if limit <= 0 || limit > kv.MaxScanKeys {
		limit = kv.MaxScanKeys
	}
	s.sort()
	var page []kv.KV
	size := 0
	for _, key := range s.keys[s.seek(prefix, after):] {
		if !strings.HasPrefix(key, prefix) || len(page) == limit || size >= kv.MaxScanBytes {
			break
		}
		e := clone(s.data[key])
		page = append(page, e)
		size += len(e.Key) + len(e.Value)
	}
	return page, s.rev, nil
}

// Stream implements kv.Store.
func (s *Store) Stream(ctx context.Context, prefix string, fn func(key, value []byte) error) (int64, error) {
	if err := s.lock(ctx); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	s.sort()
	for _, key := range s.keys[s.seek(prefix, ""):] {
		if !strings.HasPrefix(key, prefix) {
			break
		}
		if err := fn([]byte(key), s.data[key].Value); err != nil {
			return 0, err
		}
	}
	return s.rev, nil
}

// seek returns the index of the first key that is not below prefix and lies
// after after.
func (s *Store) seek(prefix, after string) int {
	return sort.Search(len(s.keys), func(i int) bool { return s.keys[i] >= prefix && s.keys[i] > after })
}

// sort brings keys up to date; transactions only append to it.
func (s *Store) sort() {
	if s.sorted {
		return
	}
	s.keys = slices.DeleteFunc(s.keys, func(k string) bool { _, ok := s.data[k]; return !ok })
	slices.Sort(s.keys)
	s.keys = slices.Compact(s.keys)
	s.sorted = true
}

// Txn implements kv.Store.
func (s *Store) Txn(ctx context.Context, conds []kv.Cond, ops []kv.Op) (int64, error) {
	if err := kv.Validate(conds, ops); err != nil {
		return 0, err
	}
	if err := s.lock(ctx); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	for _, c := range conds {
		if have := s.data[c.Key].Rev; have != c.Rev {
			return 0, fmt.Errorf("%q is at revision %d, not %d: %w", c.Key, have, c.Rev, kv.ErrConflict)
		}
	}
	events := s.apply(ops)
	if len(events) == 0 {
		return s.rev, nil
	}
	s.rev++
	s.remember(events)
	s.signal.Raise()
	return s.rev, nil
}

// apply changes data and returns what changed, as events of the next revision.
func (s *Store) apply(ops []kv.Op) []kv.Event {
	rev := s.rev + 1
	var events []kv.Event
	for _, op := range ops {
		_, present := s.data[op.Key]
		if op.Kind == kv.Delete {
			if !present {
				continue
			}
			delete(s.data, op.Key)
			s.sorted = false
		} else {
			s.data[op.Key] = kv.KV{Key: op.Key, Value: bytes.Clone(op.Value), Rev: rev}
			if !present {
				s.keys = append(s.keys, op.Key)
				s.sorted = false
			}
		}
		events = append(events, kv.Event{Rev: rev, Kind: op.Kind, Key: op.Key, Value: bytes.Clone(op.Value)})
	}
	return events
}

// remember appends to the history and forgets whole revisions from its
// beginning until it is within its limits.
func (s *Store) remember(events []kv.Event) {
	for _, e := range events {
		s.logBytes += size(e)
	}
	s.log = append(s.log, events...)
	for len(s.log) > s.opts.History.Events || s.logBytes > s.opts.History.Bytes {
		s.compacted = s.log[0].Rev
		n := 0
		for n < len(s.log) && s.log[n].Rev == s.compacted {
			s.logBytes -= size(s.log[n])
			n++
		}
		s.log = slices.Delete(s.log, 0, n)
	}
}

func size(e kv.Event) int64 { return int64(len(e.Key) + len(e.Value)) }

// Watch implements kv.Store. It starts one goroutine, which ends with ctx or
// with Close.
func (s *Store) Watch(ctx context.Context, prefix string, from int64) (<-chan []kv.Event, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	if from <= 0 {
		from = s.rev + 1
	}
	if from <= s.compacted {
		return nil, fmt.Errorf("revision %d, the history begins after %d: %w", from, s.compacted, kv.ErrCompacted)
	}
	out := make(chan []kv.Event)
	s.watch.Go(func() { kv.Follow(ctx, (*history)(s), prefix, from, s.stop, out) })
	return out, nil
}

// history gives kv.Follow its view of the store.
type history Store

func (h *history) Changed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.signal.Changed()
}

func (h *history) Events(from int64) ([]kv.Event, int64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if from <= h.compacted {
		return nil, from, kv.ErrCompacted
	}
	i := sort.Search(len(h.log), func(i int) bool { return h.log[i].Rev >= from })
	var events []kv.Event
	for _, e := range h.log[i:] {
		e.Value = bytes.Clone(e.Value)
		events = append(events, e)
	}
	return events, max(from, h.rev+1), nil
}

// Close implements kv.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return kv.ErrClosed
	}
	s.closed = true
	s.mu.Unlock()
	close(s.stop)
	s.watch.Wait()
	return nil
}
