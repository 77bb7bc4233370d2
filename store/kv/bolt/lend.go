package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"syscall"

	bbolt "go.etcd.io/bbolt"

	"directnode/store/kv"
)

// inspected is what Open found: the file as it lay in memory then. The map stays
// until Close, or for good if it was lent.
type inspected struct {
	file []byte
	size uint64 // of a page
	txid uint64
	root uint64 // page of the data
	lent bool
}

// minLoan: a smaller file is copied in no time.
const minLoan = 64 << 20

// madvPopulateRead maps all of a range at once (MADV_POPULATE_READ, Linux 5.14).
const madvPopulateRead = 22

// loan implements kv.Loan.
type loan struct {
	db   *DB
	tx   *bbolt.Tx // keeps every page of its state from being used again
	once sync.Once
}

// Lend implements kv.Lender. It lends what Open has gone through, for as long as
// that is the present state.
func (db *DB) Lend(ctx context.Context) (kv.Loan, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	in := &db.inspected
	if db.closed || in.lent || len(in.file) < db.lendFrom || in.root == 0 {
		return nil, nil
	}
	tx, err := db.bolt.Begin(false)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", db.path, err)
	}
	if uint64(tx.ID()) != in.txid {
		return nil, tx.Rollback() // somebody has written since
	}
	in.lent = true
	db.loan = &loan{db: db, tx: tx}
	return db.loan, nil
}

// Memory implements kv.Loan.
func (l *loan) Memory() []byte { return l.db.inspected.file }

// Return implements kv.Loan.
func (l *loan) Return() {
	l.once.Do(func() {
		l.Forget(0, len(l.db.inspected.file))
		_ = l.tx.Rollback() // of a transaction that only read
	})
}

// Forget implements kv.Loan: the pages are no longer memory of this process.
func (l *loan) Forget(from, to int) {
	page := int(l.db.inspected.size)
	from, to = from&^(page-1), to&^(page-1)
	if from < to {
		_ = syscall.Madvise(l.db.inspected.file[from:to], syscall.MADV_DONTNEED) // advice
	}
}

// Stream implements kv.Loan. Values have a check sum of the driver's, which is
// compared as everywhere.
func (l *loan) Stream(ctx context.Context, prefix string, fn func(key, value []byte) error) error {
	in := &l.db.inspected
	c := &pageCheck{file: in.file, size: in.size, end: uint64(len(in.file)) / in.size}
	size := 0
	return guard(func() error {
		_, err := c.scan(in.root, 0, []byte(prefix), func(k, v []byte) error {
			if len(v) < dataHeader || castagnoli(k, v[:8], v[dataHeader:]) != binary.BigEndian.Uint32(v[8:]) {
				return fmt.Errorf("key %q: wrong check sum: %w", k, ErrDamaged)
			}
			if size += len(v); size >= releaseEvery {
				size = 0
				if err := ctx.Err(); err != nil {
					return err
				}
			}
			return fn(k, v[dataHeader:])
		})
		return err
	})
}

// scan calls fn for the keys below a page that begin with prefix. over tells
// that it has seen one behind them. Values reach to the end of the file.
func (c *pageCheck) scan(id uint64, depth int, prefix []byte, fn func(key, value []byte) error) (over bool, err error) {
	if id < firstPage || id >= c.end || depth > maxDepth {
		return true, damagedPage(id, "outside of the %d pages", c.end)
	}
	raw := c.file[id*c.size:]
	pages := min(uint64(binary.NativeEndian.Uint32(raw[12:]))+1, c.end-id)
	p, err := pageOf(id, raw[:pages*c.size:pages*c.size])
	if err != nil {
		return true, err
	}
	for i := range p.count {
		e, err := p.element(i)
		if err != nil {
			return true, err
		}
		begins := bytes.HasPrefix(e.key, prefix)
		if !begins && bytes.Compare(e.key, prefix) > 0 {
			return true, nil
		}
		if !p.branch {
			if begins {
				from := int(id*c.size) + p.valueAt(i)
				err = fn(e.key, c.file[from:from+len(e.value)])
			}
		} else if i+1 == p.count || p.mayHold(i+1, prefix) {
			over, err = c.scan(e.child, depth+1, prefix, fn)
		}
		if over || err != nil {
			return true, err
		}
	}
	return false, nil
}

// valueAt is where in the page the value of an element begins.
func (p *page) valueAt(i int) int {
	at := pageHeader + i*pageElement
	return at + int(binary.NativeEndian.Uint32(p.raw[at+4:])) + int(binary.NativeEndian.Uint32(p.raw[at+8:]))
}

// mayHold tells whether what precedes element i of a branch may hold keys with
// the prefix: not where the element itself begins at or before them.
func (p *page) mayHold(i int, prefix []byte) bool {
	e, err := p.element(i)
	return err != nil || bytes.Compare(e.key, prefix) > 0
}
