// Package bolt is the embedded driver of the kv contract: one file, one
// process, every change durable before it is acknowledged. It is the only
// place that knows go.etcd.io/bbolt.
//
// Data in and out: as package kv says. On disk, three buckets:
//
//	state  "s" → format, revision, compacted revision, and the count and
//	             check sum of what the other two hold
//	data   key → revision (8 octets), CRC-32C (4), value
//	log    revision (8) number in it (4) → kind (1), CRC-32C (4), key, value
//
// The check sums exist because bbolt has none for its pages: a flipped bit in
// a record must be found, not served. Open goes through all pages and refuses
// what is damaged, with ErrDamaged; values are compared whenever they are read.
//
// The file is made under a temporary name, synced and renamed, because bbolt
// files can be damaged by a power cut during their very first write.
// Concurrent transactions share one commit (two fdatasyncs); each keeps its
// own revision, conditions and error.
package bolt

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	bbolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"directnode/internal/durable"
	"directnode/store/kv"
)

// ErrDamaged means that the file is not what was written. Restore a backup.
var ErrDamaged = errors.New("the store file is damaged: restore the last backup")

// Options of a DB. The zero value is good.
type Options struct {
	History kv.HistoryLimits
	// LendFrom is the size in octets from which a file is lent (Lend) and not
	// copied; 0 = 64 MiB, which is copied in no time.
	LendFrom int
}

// DB implements kv.Store.
type DB struct {
	path     string
	history  kv.HistoryLimits
	lendFrom int
	commits  int // the goroutine that leads has it
	bolt     *bbolt.DB
	lock     io.Closer
	stop     chan struct{}
	watch    sync.WaitGroup

	mu        sync.Mutex // guards all below
	closed    bool
	inspected inspected
	loan      *loan // nil: nothing was lent
	broken    error // set when a commit failed in a way after which the file may not be what bbolt thinks
	leading   bool  // a goroutine is committing
	pending   []*request
	signal    *kv.Signal
}

// Open opens the store at path, or makes it if there is no such file.
//
// Errors: kv.ErrLocked when another process holds it, ErrDamaged when its
// content is not what was written, and an error that says what to do when the
// file's mode lets others read it.
func Open(path string, o Options) (*DB, error) {
	lock, err := lockFile(path)
	if err != nil {
		return nil, err
	}
	db := &DB{path: path, history: o.History.OrDefault(), lendFrom: cmp.Or(o.LendFrom, minLoan), lock: lock, stop: make(chan struct{}), signal: kv.NewSignal()}
	if err := db.open(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return db, nil
}

func (db *DB) open() error {
	info, err := os.Stat(db.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := create(db.path); err != nil {
			return fmt.Errorf("make store %s: %w", db.path, err)
		}
	case err != nil:
		return fmt.Errorf("open store: %w", err)
	default:
		if err := checkFile(db.path, info); err != nil {
			return err
		}
	}
	if db.inspected, err = inspect(db.path); err != nil {
		return err
	}
	o := options()
	// While it fits, a growing file waits for no reader, nor for a loan.
	o.InitialMmapSize = max(initialMmap, 2*len(db.inspected.file))
	err = guard(func() (err error) {
		db.bolt, err = bbolt.Open(db.path, fileMode, o)
		return err
	})
	return openError(db.path, err)
}

// options: the free list is written with each commit, for finding the free
// pages of a large file again takes a second at a start; the map form keeps
// finding one cheap. A page holds a dozen certificates, not two.
func options() *bbolt.Options {
	return &bbolt.Options{
		Timeout:         lockTimeout,
		FreelistType:    bbolt.FreelistMapType,
		PageSize:        pageSize,
		InitialMmapSize: initialMmap,
		NoStatistics:    true,
	}
}

// lockFile takes the lock file beside the store. bbolt locks the store itself
// as well; this lock also covers its making and knows the holder's number.
func lockFile(path string) (io.Closer, error) {
	deadline := time.Now().Add(lockTimeout)
	for {
		lock, err := durable.Lock(path + ".lock")
		var held *durable.LockedError
		switch {
		case err == nil:
			return lock, nil
		case !errors.As(err, &held):
			return nil, fmt.Errorf("open store %s: %w", path, err)
		case time.Now().After(deadline):
			return nil, lockedError(path, held.PID)
		}
		time.Sleep(lockPoll)
	}
}

// lockedError says who should be asked instead.
func lockedError(path string, pid int) error {
	who := ""
	if pid != 0 {
		who = fmt.Sprintf(" (process %d)", pid)
	}
	return fmt.Errorf("open store %s: %w%s; while directd runs, it holds the store: ask it through directctl, or stop it first", path, kv.ErrLocked, who)
}

// checkFile looks at a store file before anything reads its content.
func checkFile(path string, info os.FileInfo) error {
	switch {
	case !info.Mode().IsRegular():
		return fmt.Errorf("open store %s: not a regular file", path)
	case info.Mode().Perm()&^fileMode != 0:
		return fmt.Errorf("open store %s: mode %#o lets others in; run: chmod 600 %s", path, info.Mode().Perm(), path)
	case info.Size() < 4*int64(os.Getpagesize()):
		// The smallest file has four pages. An empty one bbolt would take for
		// new, and the administrator would find a store without any domain.
		return fmt.Errorf("open store %s: %d octets are no store: %w", path, info.Size(), ErrDamaged)
	}
	return nil
}

// create makes a new store file so that a crash leaves either none or a whole
// one. The lock file is held: no other process does the same.
func create(path string) (err error) {
	dir := filepath.Dir(path)
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	db, err := bbolt.Open(tmp, fileMode, options())
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range []string{bucketState, bucketData, bucketLog} {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		return state{}.save(tx)
	})
	if cerr := db.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	// The commit has synced the content; now the name.
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return durable.SyncDir(dir)
}

// openError explains what bbolt says about a file that it does not open.
func openError(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, berrors.ErrTimeout):
		return lockedError(path, 0)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return fmt.Errorf("open store %s: %v: %w", path, err, ErrDamaged)
	}
	return fmt.Errorf("open store %s: %w", path, err)
}

// Close implements kv.Store. It waits for transactions and watches to end.
func (db *DB) Close() error {
	db.mu.Lock()
	if db.closed {
		db.mu.Unlock()
		return kv.ErrClosed
	}
	db.closed = true
	db.mu.Unlock()
	close(db.stop)
	db.watch.Wait()
	if db.loan != nil {
		db.loan.Return() // its memory stays mapped: somebody may still look at it
	} else {
		_ = syscall.Munmap(db.inspected.file) // nothing was written
	}
	return errors.Join(db.bolt.Close(), db.lock.Close())
}
