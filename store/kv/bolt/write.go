package bolt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"

	bbolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"directnode/store/kv"
)

// request is a transaction that waits for a commit.
type request struct {
	conds []kv.Cond
	ops   []kv.Op
	bytes int
	turn  chan bool // true: commit, for yourself and those behind you; false: it is done

	rev int64 // the answer, written by the committing goroutine before turn
	err error
}

// Txn implements kv.Store. Transactions that arrive while another commits
// wait and are committed together; the first of them does it for all. When
// ctx ends while a transaction still waits, it is withdrawn.
func (db *DB) Txn(ctx context.Context, conds []kv.Cond, ops []kv.Op) (int64, error) {
	if err := kv.Validate(conds, ops); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	r := &request{conds: conds, ops: ops, turn: make(chan bool, 1)}
	for _, op := range ops {
		r.bytes += len(op.Key) + len(op.Value)
	}
	if err := db.enqueue(r); err != nil {
		return 0, err
	}
	var lead bool
	select {
	case lead = <-r.turn:
	case <-ctx.Done():
		if db.withdraw(r) {
			return 0, ctx.Err()
		}
		lead = <-r.turn // too late: it is being committed
	}
	if lead {
		batch := db.take()
		db.commit(batch)
		db.settle(batch, r)
	}
	return r.rev, r.err
}

// enqueue lets r wait, or lead at once if nobody does.
func (db *DB) enqueue(r *request) error {
	db.mu.Lock()
	defer db.mu.Unlock()
	switch {
	case db.closed:
		return kv.ErrClosed
	case db.broken != nil:
		return db.broken
	}
	db.pending = append(db.pending, r)
	if !db.leading {
		db.leading = true
		r.turn <- true
	}
	return nil
}

// withdraw takes r back unless its turn has come.
func (db *DB) withdraw(r *request) bool {
	db.mu.Lock()
	defer db.mu.Unlock()
	i := slices.Index(db.pending, r)
	if i < 0 || len(r.turn) > 0 {
		return false
	}
	db.pending = slices.Delete(db.pending, i, i+1)
	return true
}

// take removes the requests of the next commit from those that wait.
func (db *DB) take() []*request {
	db.mu.Lock()
	defer db.mu.Unlock()
	n, size := 0, 0
	for n < len(db.pending) && n < maxBatchTxns && (n == 0 || size+db.pending[n].bytes <= maxBatchBytes) {
		size += db.pending[n].bytes
		n++
	}
	batch := slices.Clone(db.pending[:n])
	db.pending = slices.Delete(db.pending, 0, n)
	return batch
}

// settle tells everybody in the batch but its leader, wakes the watchers, and
// passes the lead on.
func (db *DB) settle(batch []*request, leader *request) {
	for _, r := range batch {
		if r != leader {
			r.turn <- false
		}
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	db.signal.Raise()
	if len(db.pending) > 0 {
		db.pending[0].turn <- true
		return
	}
	db.leading = false
}

// errNoChange rolls a transaction back that has nothing to write.
var errNoChange = errors.New("no change")

// commit applies the requests of a batch in order, in one bbolt transaction.
// A request whose conditions do not hold is left out and the others go on; an
// error of the engine fails them all.
func (db *DB) commit(batch []*request) {
	err := guard(func() error {
		return db.bolt.Update(func(tx *bbolt.Tx) error {
			st, err := loadState(tx)
			if err != nil {
				return err
			}
			before := st.rev
			for _, r := range batch {
				r.rev, r.err = 0, nil
				if err := db.perform(tx, &st, r); err != nil {
					return err
				}
			}
			if st.rev == before {
				return errNoChange
			}
			if err := db.trim(tx, &st); err != nil {
				return err
			}
			return st.save(tx)
		})
	})
	if err == nil || errors.Is(err, errNoChange) {
		db.tidy()
		return
	}
	err = db.failed(err)
	for _, r := range batch {
		r.rev, r.err = 0, err
	}
}

// tidy gives the pages back that commits have looked at, now and then: each
// brings its neighbors along, and after some thousand changes all of a large
// file would count as memory of this process. Only the goroutine that commits
// calls it.
func (db *DB) tidy() {
	if db.commits++; db.commits%releaseCommits == 0 {
		_ = guard(func() error { // nothing depends on it
			return db.bolt.View(func(tx *bbolt.Tx) error {
				db.release(tx)
				return nil
			})
		})
	}
}

// failed decides what a failed commit means for the next one. After an error
// of the device nobody knows which pages have reached it, and a later fsync
// may say nothing about them: no further write until the file has been opened
// and read again. A full disk is different: the new pages had no place, and
// the two pages that decide which state counts, already had one.
func (db *DB) failed(err error) error {
	switch {
	case errors.Is(err, berrors.ErrDatabaseNotOpen):
		return kv.ErrClosed
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("store %s: no space left for the change: %w", db.path, err)
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.broken == nil {
		db.broken = fmt.Errorf("store %s takes no change since a write failed; check the disk, then restart: %w", db.path, err)
	}
	return db.broken
}

// perform checks a request's conditions and applies its operations. Its error
// is the engine's; the request's own goes into r.err.
func (db *DB) perform(tx *bbolt.Tx, st *state, r *request) error {
	data := tx.Bucket([]byte(bucketData))
	for _, c := range r.conds {
		var have int64
		if stored := data.Get([]byte(c.Key)); stored != nil {
			rev, _, err := decodeData([]byte(c.Key), stored)
			if err != nil {
				return err
			}
			have = rev
		}
		if have != c.Rev {
			r.err = fmt.Errorf("%q is at revision %d, not %d: %w", c.Key, have, c.Rev, kv.ErrConflict)
			return nil
		}
	}
	if len(r.ops) >= bulkOps {
		data.FillPercent = bulkFill
	}
	events, err := apply(data, st, r.ops)
	if err != nil {
		return err
	}
	if len(events) > 0 {
		st.rev++
		if err := db.record(tx, st, events); err != nil {
			return err
		}
	}
	r.rev = st.rev
	return nil
}

// apply writes the operations as changes of the next revision.
func apply(data *bbolt.Bucket, st *state, ops []kv.Op) ([]kv.Event, error) {
	rev := st.rev + 1
	events := make([]kv.Event, 0, len(ops))
	for _, op := range ops {
		key := []byte(op.Key)
		old := data.Get(key)
		if old == nil && op.Kind == kv.Delete {
			continue
		}
		if old != nil {
			st.keys--
			st.sum -= entrySum(key, old)
		}
		var err error
		if op.Kind == kv.Delete {
			err = data.Delete(key)
		} else {
			stored := encodeData(op.Key, rev, op.Value)
			st.keys++
			st.sum += entrySum(key, stored)
			err = data.Put(key, stored)
		}
		if err != nil {
			return nil, fmt.Errorf("%s %q: %w", op.Kind, op.Key, err)
		}
		events = append(events, kv.Event{Rev: rev, Kind: op.Kind, Key: op.Key, Value: op.Value})
	}
	return events, nil
}

// record appends the events of a revision to the history. A revision that is
// larger than the whole history is allowed to be is not written at all: trim
// would take it out again at once.
func (db *DB) record(tx *bbolt.Tx, st *state, events []kv.Event) error {
	if n, size := weight(events); n > int64(db.history.Events) || size > db.history.Bytes {
		st.compacted = st.rev
		return nil
	}
	log := tx.Bucket([]byte(bucketLog))
	for i, e := range events {
		key := logKey(e.Rev, i)
		stored := encodeEvent(key, e)
		if err := log.Put(key, stored); err != nil {
			return fmt.Errorf("history of revision %d: %w", e.Rev, err)
		}
		st.logCount++
		st.logBytes += int64(len(stored))
	}
	return nil
}

func weight(events []kv.Event) (n, size int64) {
	for _, e := range events {
		size += int64(len(e.Key) + len(e.Value) + logHeader)
	}
	return int64(len(events)), size
}

// trim forgets whole revisions from the beginning of the history until it is
// within its limits and begins after st.compacted.
func (db *DB) trim(tx *bbolt.Tx, st *state) error {
	log := tx.Bucket([]byte(bucketLog))
	var gone [][]byte
	c := log.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if logRev(k) > st.compacted {
			if st.logCount <= int64(db.history.Events) && st.logBytes <= db.history.Bytes {
				break
			}
			st.compacted = logRev(k)
		}
		gone = append(gone, slices.Clone(k))
		st.logCount--
		st.logBytes -= int64(len(v))
	}
	for _, k := range gone { // not under the cursor: it would skip entries
		if err := log.Delete(k); err != nil {
			return fmt.Errorf("history: %w", err)
		}
	}
	return nil
}
