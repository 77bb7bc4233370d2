package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"directnode/store/kv"
)

// Prepare builds what the servers will publish from a view that is about to
// be committed. An error refuses the change. publish, called after the commit
// and before the next change begins, makes it visible; it cannot fail and may
// be nil. Prepare runs alone, never twice at once, and may be called for a
// view that is then not committed.
type Prepare func(next *View) (publish func(), err error)

// Options of a Store. The zero value is good for a store without keys.
type Options struct {
	Seal    *Sealer      // nil: private keys can be neither stored nor opened
	Prepare Prepare      // nil: nothing to prepare; see also SetPrepare
	Log     *slog.Logger // nil: silent
}

// Store is the administrator's data. View may be called by anyone at any
// time; changes come one after the other.
type Store struct {
	db   kv.Store // never changes
	seal *Sealer  // never changes
	log  *slog.Logger

	view atomic.Pointer[View] // the committed generation
	loan *loan                // set by Open; what Settle copies

	writer        chan struct{} // holds a token while somebody changes the store; guards what follows
	generationRev int64         // revision of the generation's key
	prepare       Prepare
}

// Open reads a store, or makes it in a kv store that has none yet, and
// prepares and publishes its present generation.
//
// Errors: *Refusal with ErrSchema, ErrDamaged or ErrWrongMasterKey; what
// Options.Prepare says; what the kv store says.
func Open(ctx context.Context, db kv.Store, o Options) (*Store, error) {
	s := &Store{db: db, seal: o.Seal, log: o.Log, writer: make(chan struct{}, 1)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	created := schemaValue{schemaVersion, time.Now().UTC().Truncate(time.Second)}
	if err := initialize(ctx, db, created); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := s.load(ctx); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := s.checkMaster(ctx); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := s.SetPrepare(o.Prepare); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return s, nil
}

// load reads everything and makes it the present view.
func (s *Store) load(ctx context.Context) error {
	v, problems, rev, err := s.readLent(ctx)
	if err != nil {
		return err
	}
	if len(problems) > 0 {
		return refuse(problems[0].Object, ErrDamaged, "%s (%d problems in all): restore a backup", problems[0].Detail, len(problems))
	}
	s.view.Store(v)
	s.generationRev = rev
	return nil
}

// checkMaster compares the master key with the one that the store was made
// with. The first one given to a store becomes its master key.
func (s *Store) checkMaster(ctx context.Context) error {
	if s.seal == nil {
		return nil
	}
	e, err := s.db.Get(ctx, keyMaster)
	switch {
	case errors.Is(err, kv.ErrNotFound):
		if s.anyKey() {
			return refuse("the store", ErrDamaged, "it holds private keys but no %s: restore a backup", keyMaster)
		}
		_, err := s.db.Txn(ctx, []kv.Cond{{Key: keyMaster}}, []kv.Op{{Kind: kv.Put, Key: keyMaster, Value: s.seal.master()}})
		return err
	case err != nil:
		return err
	}
	return s.seal.checkMaster("the store", e.Value)
}

func (s *Store) anyKey() bool { return s.View().anySealed() }

// View is the committed generation. It never waits.
func (s *Store) View() *View { return s.view.Load() }

// SetPrepare sets what prepares every later change, after it has prepared and
// published the present generation. An error changes nothing.
func (s *Store) SetPrepare(p Prepare) error {
	if err := s.acquire(context.Background()); err != nil {
		return err
	}
	defer s.release()
	if p != nil {
		publish, err := p(s.View())
		if err != nil {
			return fmt.Errorf("generation %d: %w", s.View().Rev, err)
		}
		if publish != nil {
			publish()
		}
	}
	s.prepare = p
	return nil
}

func (s *Store) acquire(ctx context.Context) error {
	select {
	case s.writer <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Store) release() { <-s.writer }

// Update changes the store: fn edits the overlay, the next generation is
// prepared, committed and published. It returns the view that holds the
// change. An error of fn, of Prepare, of the commit or of ctx refuses the
// whole change, and the present view stays. A change that changes nothing
// returns the present view and commits nothing.
//
// Update must not be called by fn or by Prepare.
func (s *Store) Update(ctx context.Context, fn func(*Tx) error) (*View, error) {
	if err := s.acquire(ctx); err != nil {
		return nil, err
	}
	defer s.release()
	next, ops, err := s.try(fn)
	if err != nil {
		return nil, err
	}
	if len(ops) == 0 {
		return s.View(), nil
	}
	return s.commit(ctx, next, ops)
}

// Rehearse goes through everything of Update that can refuse a change, Prepare
// among it, and changes nothing.
func (s *Store) Rehearse(ctx context.Context, fn func(*Tx) error) error {
	if err := s.acquire(ctx); err != nil {
		return err
	}
	defer s.release()
	next, ops, err := s.try(fn)
	if err != nil || len(ops) == 0 {
		return err
	}
	_, err = s.prepared(ctx, next)
	return err
}

// try runs a change against the present generation. The writer's token is
// held.
func (s *Store) try(fn func(*Tx) error) (*View, []kv.Op, error) {
	tx := newTx(s.View(), s.seal, time.Now())
	if err := fn(tx); err != nil {
		tx.over = true
		return nil, nil, err
	}
	next, ops := tx.finish()
	return next, ops, nil
}

// prepared lets Prepare build what the servers will publish.
func (s *Store) prepared(ctx context.Context, next *View) (publish func(), err error) {
	if s.prepare != nil {
		if publish, err = s.prepare(next); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnservable, err)
		}
	}
	if publish == nil {
		publish = func() {}
	}
	return publish, ctx.Err()
}

// commit prepares a view, makes it durable and publishes it. The writer's
// token is held.
func (s *Store) commit(ctx context.Context, next *View, ops []kv.Op) (*View, error) {
	publish, err := s.prepared(ctx, next)
	if err != nil {
		return nil, err
	}
	ops = append(slices.Clip(ops), kv.Op{Kind: kv.Put, Key: keyGeneration, Value: marshal(generationValue{next.Rev})})
	// Every change is conditional on the generation it was made from: were
	// there a second writer, one of the two would be refused.
	rev, err := s.db.Txn(ctx, []kv.Cond{{Key: keyGeneration, Rev: s.generationRev}}, ops)
	if err != nil {
		return nil, fmt.Errorf("commit generation %d: %w", next.Rev, err)
	}
	s.generationRev = rev
	s.view.Store(next)
	publish()
	s.log.LogAttrs(ctx, slog.LevelInfo, "store changed", slog.Int64("generation", next.Rev), slog.Int("entries", len(ops)-1))
	return next, nil
}
