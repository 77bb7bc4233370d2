package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"directnode/internal/direct"
	"directnode/internal/durable"
	"directnode/internal/mail"

	bolt "go.etcd.io/bbolt"
)

// Errors that a caller may branch on.
var (
	// ErrTooLarge: the message has more octets than Options.MaxBytes.
	ErrTooLarge = errors.New("message too large")
	// ErrHeaderTooLarge: the header has more octets than we take.
	ErrHeaderTooLarge = errors.New("message header too large")
	// ErrNotFound: no such message in the queue.
	ErrNotFound = errors.New("not in the queue")
	// ErrAccepted: the message was settled; it is owed to its recipient and
	// cannot be dropped.
	ErrAccepted = errors.New("the message was accepted and is due in a mailbox")
	// ErrNoSpace: the disk has too little space left to take a message. It is
	// temporary: whoever sends the message keeps it and comes again.
	ErrNoSpace = errors.New("too little space on the disk")
	// ErrClosed: the queue was closed.
	ErrClosed = errors.New("the queue is closed")
)

// Options are the settings of a queue. The zero value is usable.
type Options struct {
	Retry     Schedule      // when to try again, and when to give up
	MaxBytes  int64         // of a message on the wire; 0 means 48 MiB
	PerDomain int           // concurrent handlers for one domain, and for one peer's address inbound; 0 means 4
	Keep      time.Duration // how long a refused inbound message is kept; 0 means 7 days
	MaxHeld   int64         // octets of refused inbound messages together, the oldest go first; 0 means 1 GiB
	MinFree   int64         // octets that must be free on the disk for a message to be taken; 0 means 64 MiB, below 0 is not asked
	Drain     time.Duration // what running handlers get after Run was cancelled; 0 means 20 s
	Archive   string        // if set, a directory that gets a copy of every received message
	Log       *slog.Logger

	fsys  durable.FS                  // the spool's file system; set by tests
	free  func(string) (int64, error) // the free octets of a directory's disk; set by tests
	crash func(string)                // called at each named point; set by tests
}

// Item is an inbound message that is due to be opened and judged.
type Item struct {
	ID       string
	Envelope mail.Envelope
	Size     int64
	Open     func() (io.ReadCloser, error) // the octets as they crossed the wire
	Attempt  int                           // counted from 1
}

// Attempt is an outbound message that is due for some recipients, all in one
// domain.
type Attempt struct {
	ID        string
	MessageID string
	From      direct.Address
	To        []direct.Address
	Size      int64
	Open      func() (io.ReadCloser, error) // the octets as they cross the wire
	N         int                           // counted from 1
	Report    bool                          // it is a notification; nobody is told if it fails (AS 3.0-i)
}

// Handlers are what is done with what is due. Each may be called concurrently
// for different messages, never for the same message and domain, and may be
// called again for something that it did before. A panic counts as a
// temporary error. An error is permanent where it says so itself by a method
// Temporary that returns false (errors of the network excepted).
type Handlers struct {
	// Inbound ends with Settle, or returns nil without it when there is
	// nothing to deliver. After a permanent error, or when the lifetime is
	// over, the message is held for the operator.
	Inbound func(ctx context.Context, i Item) error
	// Publish makes a delivery visible. It is called until it succeeds.
	Publish func(ctx context.Context, d mail.Delivery) error
	// Outbound returns one result for each of Attempt.To; nil is delivered.
	Outbound func(ctx context.Context, a Attempt) []error
	// Expired is told of a recipient that is given up, with the last error. The
	// recipient stays in the queue until Expired returned nil.
	Expired func(ctx context.Context, a Attempt, rcpt direct.Address, last error) error
}

// Queue is an open queue. Its methods may be called concurrently.
type Queue struct {
	o     Options
	dir   string
	spool string
	fsys  durable.FS
	lock  io.Closer
	db    *bolt.DB
	sched *schedule
	wake  chan struct{} // of capacity 1: something became due

	commits group[func(*bolt.Tx) error]
	syncs   group[struct{}]

	running atomic.Bool  // Run is at work
	closed  atomic.Bool  // Close was called
	temps   atomic.Int64 // temporary files being written

	// heldAtMost is no less than what refused messages take: what each took is
	// added when it is refused, and boundHeld sets it right.
	heldAtMost atomic.Int64
	bounding   sync.Mutex // one boundHeld at a time

	mu       sync.Mutex
	inFlight map[string]int // by ID: files without a row that somebody is at work on; guarded by mu
}

// Open opens the queue in dir, which is made if it is not there, and repairs
// what a crash left: files that nobody was told about are removed; rows whose
// file is gone, which should not happen, are logged and dropped. A queue that
// another process holds is a *durable.LockedError.
func Open(dir string, o Options) (*Queue, error) {
	o = o.withDefaults()
	q := &Queue{
		o: o, dir: dir, spool: filepath.Join(dir, "spool"), fsys: o.fsys,
		sched: newSchedule(o.PerDomain), wake: make(chan struct{}, 1), inFlight: map[string]int{},
	}
	if err := durable.MkdirAll(durable.OS(), dir, 0o700); err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	lock, err := durable.Lock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	q.lock = lock
	if err := q.open(); err != nil {
		return nil, fmt.Errorf("queue: %w", errors.Join(err, q.Close()))
	}
	return q, nil
}

func (q *Queue) open() error {
	if err := durable.MkdirAll(q.fsys, q.spool, 0o700); err != nil {
		return err
	}
	if q.o.Archive != "" {
		if err := durable.MkdirAll(q.fsys, q.o.Archive, 0o700); err != nil {
			return err
		}
	}
	path := filepath.Join(q.dir, "index.db")
	if err := q.refuseLostIndex(path); err != nil {
		return err
	}
	var err error
	if q.db, err = openIndex(path); err != nil {
		return err
	}
	if err := q.sweep(); err != nil {
		return fmt.Errorf("sweep the spool: %w", err)
	}
	if err := q.prune(time.Now()); err != nil {
		return fmt.Errorf("prune the index: %w", err)
	}
	return q.load()
}

// refuseLostIndex stops the start where an index would be made beside a spool
// that holds messages: the sweep would take them all for rubbish.
func (q *Queue) refuseLostIndex(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	list, err := q.fsys.ReadDir(q.spool)
	if err != nil {
		return err
	}
	for _, e := range list {
		if !durable.IsTemp(e.Name()) {
			return fmt.Errorf("%s is missing but %s holds messages; restore the index, or move the spool away", path, q.spool)
		}
	}
	return nil
}

func (o Options) withDefaults() Options {
	o.Retry = o.Retry.orDefault()
	if o.MaxBytes <= 0 {
		o.MaxBytes = defaultMaxBytes
	}
	if o.PerDomain <= 0 {
		o.PerDomain = defaultPerDomain
	}
	if o.Keep <= 0 {
		o.Keep = defaultKeep
	}
	if o.MaxHeld <= 0 {
		o.MaxHeld = defaultMaxHeld
	}
	if o.MinFree == 0 {
		o.MinFree = defaultMinFree
	}
	if o.Drain <= 0 {
		o.Drain = defaultDrain
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.fsys == nil {
		o.fsys = durable.OS()
	}
	if o.free == nil {
		o.free = freeOn
	}
	if o.crash == nil {
		o.crash = func(string) {}
	}
	return o
}

// Close releases the queue. Run must have returned, and no other method may
// be at work.
func (q *Queue) Close() error {
	if q.closed.Swap(true) {
		return nil
	}
	var err error
	if q.db != nil {
		err = q.db.Close()
	}
	return errors.Join(err, q.lock.Close())
}

// load makes a task of everything that the index holds.
func (q *Queue) load() error {
	return q.db.View(func(tx *bolt.Tx) error {
		tasks, err := tasksOf(tx)
		now := time.Now()
		for _, t := range tasks {
			if t.next.After(now) && !q.o.Retry.waits(t.next, now) {
				t.next = now
			}
			q.sched.add(t.taskKey, t.next)
		}
		return err
	})
}

// tasksOf returns what the rows of the index demand to be done. A task may
// stand in it more than once; the earliest counts.
func tasksOf(tx *bolt.Tx) ([]task, error) {
	found := map[taskKey]time.Time{}
	var order []taskKey
	note := func(k taskKey, next time.Time) {
		if old, ok := found[k]; !ok {
			order = append(order, k)
			found[k] = next
		} else if next.Before(old) {
			found[k] = next
		}
	}
	err := errors.Join(
		each(tx, bktInbound, "", func(id string, b []byte) error {
			var r inboundRow
			if err := json.Unmarshal(b, &r); err != nil {
				return fmt.Errorf("inbound %s: %w", id, err)
			}
			if r.State != stateHeld {
				note(inboundTask(id, r.Envelope), r.Next)
			}
			return nil
		}),
		each(tx, bktDue, "", func(key string, b []byte) error {
			var r dueRow
			if err := json.Unmarshal(b, &r); err != nil {
				return fmt.Errorf("due %s: %w", key, err)
			}
			id, _, _ := strings.Cut(key, "/")
			note(outboundTask(id, domainOf(r.To)), r.Next)
			return nil
		}),
		each(tx, bktPublish, "", func(key string, b []byte) error {
			var r publishRow
			if err := json.Unmarshal(b, &r); err != nil {
				return fmt.Errorf("publish %s: %w", key, err)
			}
			note(publishTask(key, domainOf(r.Recipient)), r.Next)
			return nil
		}),
	)
	tasks := make([]task, 0, len(order))
	for _, k := range order {
		tasks = append(tasks, task{taskKey: k, next: found[k]})
	}
	return tasks, err
}

// inboundTask goes into the lane of the peer that the message came from. MAIL
// FROM is what anybody writes: a lane by it could be filled by strangers to
// hold up a partner.
func inboundTask(id string, env envelopeRow) taskKey {
	return taskKey{lane{inbound, laneOf(env.Peer)}, id}
}

// laneOf names the lane of a peer's address and port: an IPv4 address has its
// own, an IPv6 address shares that of its /64, which is what one customer has.
// Mail of our own domains, which is handed over and comes from no peer, has one.
func laneOf(peer string) string {
	ap, err := netip.ParseAddrPort(peer)
	if err != nil {
		return "own"
	}
	a := ap.Addr().Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(a, bits).Masked().String()
}

func outboundTask(id, domain string) taskKey {
	return taskKey{lane{outbound, domain}, id}
}

func publishTask(key, domain string) taskKey {
	return taskKey{lane{publish, domain}, key}
}

// domainOf is the domain of an address in the index, which String wrote there
// in lower case.
func domainOf(addr string) string { return addr[strings.LastIndexByte(addr, '@')+1:] }

// schedule makes a task due now and wakes Run.
func (q *Queue) schedule(k taskKey, next time.Time) {
	q.sched.add(k, next)
	q.signal()
}

func (q *Queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default: // it is awake already
	}
}

// usable refuses work on a closed queue or for a caller that has gone.
func (q *Queue) usable(ctx context.Context) error {
	if q.closed.Load() {
		return ErrClosed
	}
	return ctx.Err()
}

// Depth is how much there is to do; held messages are not counted.
type Depth struct{ Inbound, Outbound, Publish int }

// Depth counts what is due now or later.
func (q *Queue) Depth() Depth {
	n := q.sched.depth()
	return Depth{n[inbound], n[outbound], n[publish]}
}
