// Package kv is the contract between what must survive a restart and the
// engine that keeps it: a small ordered key-value store in which every change
// has a revision.
//
// Data in: conditions and operations, applied together or not at all. Data
// out: values with the revision that wrote them, ranges in key order, and the
// stream of changes from any revision that is still in the history. The
// semantics are those of etcd's KV and Watch services, so that an embedded
// engine and a cluster can stand behind the same code:
//
//   - The store has one revision, 0 when it is empty and new. A transaction
//     that changes something raises it by exactly one, however many keys it
//     touches; all its events carry that number. A transaction that changes
//     nothing (no operation, or only deletions of absent keys) returns the
//     present revision.
//   - A KV's Rev is the revision of the last transaction that put the key.
//   - When Txn returns nil the change is durable and every later Get, Scan and
//     Watch, from any goroutine, sees it. When it returns an error that wraps
//     ErrConflict, ErrInvalid or a context's error, nothing was changed. After
//     any other error the outcome is unknown: read again before relying on it.
//   - Keys are octet strings ordered bytewise.
//
// Slices handed out belong to the caller, slices handed in are not kept. All
// methods may be called concurrently. The conformance suite in kvtest holds
// every driver to this text.
package kv

import (
	"context"
	"errors"
)

// Errors that a caller may branch on. They come wrapped, with the key or the
// revision concerned.
var (
	// ErrNotFound: Get of a key that is absent.
	ErrNotFound = errors.New("key not found")
	// ErrConflict: a condition of a transaction does not hold.
	ErrConflict = errors.New("the key was changed by somebody else")
	// ErrCompacted: the history no longer reaches back to the revision that a
	// Watch asks for. Scan, then watch from the revision after the scan's.
	ErrCompacted = errors.New("the revision is no longer in the history")
	// ErrInvalid: the request breaks a limit of limit.go.
	ErrInvalid = errors.New("request outside the limits of the store")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("the store is closed")
	// ErrLocked: another process holds the store.
	ErrLocked = errors.New("the store is held by another process")
)

// KV is a key with its value and the revision that put it.
type KV struct {
	Key   string
	Value []byte
	Rev   int64
}

// Cond holds when the key's Rev is exactly Rev; 0 demands that it be absent.
type Cond struct {
	Key string
	Rev int64
}

// OpKind tells a put from a deletion, in operations and in events.
type OpKind uint8

// The two kinds of change.
const (
	Put    OpKind = 1
	Delete OpKind = 2
)

// String is "put" or "delete".
func (k OpKind) String() string {
	switch k {
	case Put:
		return "put"
	case Delete:
		return "delete"
	}
	return "no operation"
}

// Op is one change of a transaction. Deleting an absent key is no change.
type Op struct {
	Kind  OpKind
	Key   string
	Value []byte // of a Put
}

// Event is a change that happened.
type Event struct {
	Rev   int64
	Kind  OpKind
	Key   string
	Value []byte // of a Put
}

// Store is the contract. The package document says what holds for all of it.
type Store interface {
	// Get returns the present value of a key, or ErrNotFound.
	Get(ctx context.Context, key string) (KV, error)

	// Scan returns, in key order, keys that begin with prefix and are greater
	// than after, and the revision of the store that it read: one consistent
	// state. A page holds at most limit keys (MaxScanKeys if limit is not
	// positive or larger) and may be shorter when values are large; only an
	// empty page is the end. All reads every page.
	Scan(ctx context.Context, prefix, after string, limit int) ([]KV, int64, error)

	// Stream calls fn for every key that begins with prefix, in key order, as
	// they stood at one revision, and returns that revision. key and value are
	// good until fn returns and must not be written to; fn must not use the
	// store. An error of fn ends the reading and is returned as it is. It is
	// for those who take millions of values and would not copy them twice.
	Stream(ctx context.Context, prefix string, fn func(key, value []byte) error) (int64, error)

	// Txn applies all ops if every condition holds, else none (ErrConflict).
	// A key may stand in at most one op. It returns the revision of the store
	// after the change.
	Txn(ctx context.Context, conds []Cond, ops []Op) (int64, error)

	// Watch delivers every event with a revision of at least from whose key
	// begins with prefix, in order, without gaps, until ctx ends. 0 means from
	// now on; a from in the future waits for it. ErrCompacted if the history
	// begins later. A batch holds whole revisions; inside a revision events
	// stand in the order of the transaction's ops. A watcher that reads slowly
	// delays nobody; one that falls behind the history finds its channel
	// closed, and asking again from where it stopped says ErrCompacted. The
	// channel is also closed when ctx ends or the store is closed.
	Watch(ctx context.Context, prefix string, from int64) (<-chan []Event, error)

	// Close ends all watches and releases the engine. Afterwards every method
	// returns ErrClosed.
	Close() error
}

// Lender is a Store that can lend its memory to somebody who would otherwise
// copy all of it. It is for the start: what is lent keeps the space of later
// changes occupied.
type Lender interface {
	// Lend gives the present state, or nil where lending is not worth while or
	// not possible.
	Lend(ctx context.Context) (Loan, error)
}

// Loan is the state of a store at one revision, in the store's own memory. Until
// it is returned nothing in it changes.
type Loan interface {
	// Memory holds every value that Stream gives.
	Memory() []byte
	// Stream is Store.Stream, but that values reach to the end of Memory's
	// capacity, so that their place in it can be told, and are good until Return.
	Stream(ctx context.Context, prefix string, fn func(key, value []byte) error) error
	// Forget tells that a part of Memory will hardly be read again. It still may.
	Forget(from, to int)
	// Return ends the loan. Memory may then change.
	Return()
}
