package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	bbolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"directnode/store/kv"
)

// guard turns a panic of the engine into ErrDamaged: bbolt panics where a
// page is not what it must be, and a page that points beyond the file faults.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v: %w", p, ErrDamaged)
		}
	}()
	return fn()
}

// inspect goes through a whole store file before it is opened for writing, so
// that damage is an error that says what to do (see also pageCheck). Values are
// held against their check sums by whoever reads them, and all by Check.
func inspect(path string) (in inspected, err error) {
	err = guard(func() error {
		o := options()
		o.ReadOnly = true
		db, err := bbolt.Open(path, fileMode, o)
		if err != nil {
			return openError(path, err)
		}
		defer db.Close() // nothing was written
		return db.View(func(tx *bbolt.Tx) error {
			if err := checkSize(path, tx); err != nil {
				return err
			}
			st, err := loadState(tx)
			if err != nil {
				return err
			}
			if in, err = checkPages(path, tx, st); err != nil {
				return err
			}
			return verifyLog(context.Background(), tx, st)
		})
	})
	if errors.Is(err, ErrDamaged) {
		err = fmt.Errorf("store %s: %w", path, err)
	}
	return in, err
}

// checkSize finds a file that was cut off: its pages are there as far as the
// map reaches and fault beyond the end of the file.
func checkSize(path string, tx *bbolt.Tx) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() < tx.Size() {
		return fmt.Errorf("%d octets are left of %d: %w", info.Size(), tx.Size(), ErrDamaged)
	}
	return nil
}

// verify holds every entry against its check sum and both buckets against the
// state.
func verify(ctx context.Context, tx *bbolt.Tx) error {
	st, err := loadState(tx)
	if err != nil {
		return err
	}
	if err := verifyData(ctx, tx, st); err != nil {
		return err
	}
	return verifyLog(ctx, tx, st)
}

func verifyData(ctx context.Context, tx *bbolt.Tx, st state) error {
	var keys int64
	var sum uint64
	err := tx.Bucket([]byte(bucketData)).ForEach(func(k, v []byte) error {
		rev, _, err := decodeData(k, v)
		switch {
		case err != nil:
			return err
		case rev < 1 || rev > st.rev:
			return fmt.Errorf("key %q: revision %d, the store is at %d: %w", k, rev, st.rev, ErrDamaged)
		}
		keys++
		sum += entrySum(k, v)
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	if keys != st.keys || sum != st.sum {
		return fmt.Errorf("%d keys (sum %x) where %d (sum %x) were written: %w", keys, sum, st.keys, st.sum, ErrDamaged)
	}
	return nil
}

func verifyLog(ctx context.Context, tx *bbolt.Tx, st state) error {
	var count, size int64
	last, next := st.compacted, 0
	err := tx.Bucket([]byte(bucketLog)).ForEach(func(k, v []byte) error {
		e, err := decodeEvent(k, v)
		if err != nil {
			return err
		}
		if e.Rev == last+1 {
			last, next = e.Rev, 0
		}
		if string(k) != string(logKey(last, next)) || last == st.compacted {
			return fmt.Errorf("history: entry %x where event %d of revision %d was expected: %w", k, next, last, ErrDamaged)
		}
		next++
		count++
		size += int64(len(v))
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	if count != st.logCount || size != st.logBytes || last != st.rev {
		return fmt.Errorf("history: %d events of %d octets up to revision %d where %d of %d up to %d were written: %w",
			count, size, last, st.logCount, st.logBytes, st.rev, ErrDamaged)
	}
	return nil
}

// Check holds the file against bbolt's page invariants and ours: every check
// sum, the revision counter, the counts, the order and completeness of the
// history. The error joins all that was found and wraps ErrDamaged.
func (db *DB) Check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var found []error
	err := guard(func() error {
		// A write transaction that writes nothing: bbolt's own check reads
		// the free list, which another writer would change under it.
		tx, err := db.bolt.Begin(true)
		if err != nil {
			return err
		}
		defer tx.Rollback()               // nothing was written
		for problem := range tx.Check() { // to its end: it sends until it is done
			if len(found) < maxProblems {
				found = append(found, fmt.Errorf("%v: %w", problem, ErrDamaged))
			}
		}
		return verify(ctx, tx)
	})
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return kv.ErrClosed
	}
	if err = errors.Join(append(found, err)...); err != nil {
		return fmt.Errorf("check store %s: %w", db.path, err)
	}
	return nil
}
