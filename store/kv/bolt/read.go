package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	bbolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"directnode/store/kv"
)

// Get implements kv.Store.
func (db *DB) Get(ctx context.Context, key string) (kv.KV, error) {
	var out kv.KV
	err := db.view(ctx, func(tx *bbolt.Tx) error {
		stored := tx.Bucket([]byte(bucketData)).Get([]byte(key))
		if stored == nil {
			return fmt.Errorf("%q: %w", key, kv.ErrNotFound)
		}
		var err error
		out, err = copyOut([]byte(key), stored)
		return err
	})
	return out, err
}

// copyOut takes an entry out of the transaction: its memory is the file's and
// goes away with it.
func copyOut(key, stored []byte) (kv.KV, error) {
	rev, value, err := decodeData(key, stored)
	if err != nil {
		return kv.KV{}, err
	}
	return kv.KV{Key: string(key), Value: append([]byte{}, value...), Rev: rev}, nil
}

// Scan implements kv.Store.
func (db *DB) Scan(ctx context.Context, prefix, after string, limit int) ([]kv.KV, int64, error) {
	if limit <= 0 || limit > kv.MaxScanKeys {
		limit = kv.MaxScanKeys
	}
	var page []kv.KV
	var rev int64
	err := db.view(ctx, func(tx *bbolt.Tx) error {
		st, err := loadState(tx)
		if err != nil {
			return err
		}
		rev = st.rev
		size := 0
		c := tx.Bucket([]byte(bucketData)).Cursor()
		for k, v := seek(c, prefix, after); k != nil && bytes.HasPrefix(k, []byte(prefix)); k, v = c.Next() {
			if len(page) == limit || size >= kv.MaxScanBytes {
				return nil
			}
			e, err := copyOut(k, v)
			if err != nil {
				return err
			}
			page = append(page, e)
			size += len(e.Key) + len(e.Value)
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	return page, rev, nil
}

// Stream implements kv.Store. The slices are the file's own, mapped into
// memory.
func (db *DB) Stream(ctx context.Context, prefix string, fn func(key, value []byte) error) (rev int64, err error) {
	err = db.view(ctx, func(tx *bbolt.Tx) error {
		st, err := loadState(tx)
		if err != nil {
			return err
		}
		rev = st.rev
		size := 0
		c := tx.Bucket([]byte(bucketData)).Cursor()
		for k, v := seek(c, prefix, ""); k != nil && bytes.HasPrefix(k, []byte(prefix)); k, v = c.Next() {
			_, value, err := decodeData(k, v)
			if err != nil {
				return err
			}
			if err := fn(k, value[:len(value):len(value)]); err != nil {
				return err
			}
			if size += len(v); size >= releaseEvery {
				size = 0
				if err := ctx.Err(); err != nil {
					return err
				}
			}
		}
		db.release(tx)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return rev, nil
}

// seek moves to the first key that is not below prefix and lies after after.
func seek(c *bbolt.Cursor, prefix, after string) (k, v []byte) {
	k, v = c.Seek([]byte(max(prefix, after)))
	if k != nil && string(k) == after {
		k, v = c.Next()
	}
	return k, v
}

// view runs fn in a read transaction. A panic inside is damage that bbolt met.
func (db *DB) view(ctx context.Context, fn func(*bbolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := guard(func() error { return db.bolt.View(fn) })
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return kv.ErrClosed
	}
	return err
}

// Watch implements kv.Store. It starts one goroutine, which ends with ctx or
// with Close.
func (db *DB) Watch(ctx context.Context, prefix string, from int64) (<-chan []kv.Event, error) {
	var st state
	err := db.view(ctx, func(tx *bbolt.Tx) (err error) {
		st, err = loadState(tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	if from <= 0 {
		from = st.rev + 1
	}
	if from <= st.compacted {
		return nil, fmt.Errorf("revision %d, the history begins after %d: %w", from, st.compacted, kv.ErrCompacted)
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.closed {
		return nil, kv.ErrClosed // Close no longer waits for new goroutines
	}
	out := make(chan []kv.Event)
	db.watch.Go(func() { kv.Follow(ctx, (*history)(db), prefix, from, db.stop, out) })
	return out, nil
}

// history gives kv.Follow its view of the log.
type history DB

func (h *history) Changed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.signal.Changed()
}

func (h *history) Events(from int64) (events []kv.Event, next int64, err error) {
	next = from
	err = (*DB)(h).view(context.Background(), func(tx *bbolt.Tx) error {
		st, err := loadState(tx)
		if err != nil {
			return err
		}
		if from <= st.compacted {
			return kv.ErrCompacted
		}
		size := 0
		c := tx.Bucket([]byte(bucketLog)).Cursor()
		for k, v := c.Seek(logKey(from, 0)); k != nil; k, v = c.Next() {
			if logRev(k) >= next { // a revision begins
				if len(events) >= maxFollowEvents || size >= maxFollowBytes {
					return nil
				}
				next = logRev(k) + 1
			}
			e, err := decodeEvent(k, v)
			if err != nil {
				return err
			}
			events = append(events, e)
			size += len(e.Key) + len(e.Value)
		}
		next = max(next, st.rev+1)
		return nil
	})
	return events, next, err
}
