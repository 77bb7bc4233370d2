package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"directnode/internal/direct"

	bolt "go.etcd.io/bbolt"
)

// errPanic is what a handler that panicked is taken to have returned.
var errPanic = errors.New("the handler failed unexpectedly")

// Run calls the handlers for what is due until ctx is cancelled, and returns
// when the last one has ended. Handlers at work at that moment get
// Options.Drain to end by themselves, then their context is cancelled; what
// they did not finish is due at the next start.
func (q *Queue) Run(ctx context.Context, h Handlers) error {
	if q.closed.Load() {
		return ErrClosed
	}
	if !q.running.CompareAndSwap(false, true) {
		return errors.New("queue: it runs already")
	}
	defer q.running.Store(false)
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var wg sync.WaitGroup
	prune := time.Now().Add(pruneEvery)
	for ctx.Err() == nil {
		now := time.Now()
		if !now.Before(prune) {
			prune = now.Add(pruneEvery)
			if err := q.prune(now); err != nil {
				q.o.Log.Error("queue: old rows not removed", "error", err)
			}
		}
		for _, t := range q.sched.take(now) {
			wg.Go(func() { q.work(work, h, t) })
		}
		until := prune
		if next, ok := q.sched.wake(); ok && next.Before(until) {
			until = next
		}
		q.wait(ctx, until)
	}
	q.drain(&wg, cancel)
	return nil
}

// wait returns when something became due, at the latest at until.
func (q *Queue) wait(ctx context.Context, until time.Time) {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-q.wake:
	case <-timer.C:
	}
}

func (q *Queue) drain(wg *sync.WaitGroup, cancel func()) {
	stop := time.AfterFunc(q.o.Drain, cancel)
	defer stop.Stop()
	wg.Wait()
}

// work does one task. An error of the index is not the message's fault: the
// rows stand as they were, and the task comes again.
func (q *Queue) work(ctx context.Context, h Handlers, t *task) {
	var next time.Time
	var err error
	switch t.kind {
	case inbound:
		next, err = q.workInbound(ctx, h, t.key)
	case publish:
		next, err = q.workPublish(ctx, h, t.key)
	case outbound:
		next, err = q.workOutbound(ctx, h, t.key, t.name)
	}
	if err != nil {
		q.o.Log.Error("queue: index", "kind", t.kind.String(), "id", t.key, "error", err)
		next = time.Now().Add(indexRetry)
	}
	q.sched.end(t, next)
	q.signal()
}

// guard calls a handler. The name goes to the log if it panics.
func (q *Queue) guard(name, id string, call func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			q.o.Log.Error("queue: a handler panicked", "handler", name, "id", id, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("%s of %s: %w", name, id, errPanic)
		}
	}()
	return call()
}

// interrupted tells whether a handler failed only because Run ends.
func interrupted(ctx context.Context, err error) bool { return err != nil && ctx.Err() != nil }

func (q *Queue) workInbound(ctx context.Context, h Handlers, id string) (next time.Time, err error) {
	var row inboundRow
	ok, err := q.read(bktInbound, id, &row)
	if err != nil || !ok || row.State != stateDue {
		return time.Time{}, err
	}
	now := time.Now()
	if q.o.Retry.waits(row.Next, now) {
		return row.Next, nil
	}
	env, err := row.Envelope.envelope(id)
	if err != nil {
		return time.Time{}, err
	}
	result := q.guard("inbound", id, func() error {
		return h.Inbound(ctx, Item{ID: id, Envelope: env, Size: row.Size, Open: q.opener(id), Attempt: row.Attempts + 1})
	})
	q.o.crash("inbound.done")
	if interrupted(ctx, result) {
		return now, nil
	}
	if result == nil {
		return time.Time{}, q.finishInbound(id)
	}
	return q.failInbound(id, result, time.Now())
}

// finishInbound removes a message that needs nothing more. Most often Settle
// has done so already.
func (q *Queue) finishInbound(id string) error {
	defer q.hold(id)()
	if ok, err := q.read(bktInbound, id, new(inboundRow)); err != nil || !ok {
		return err
	}
	if err := q.update(func(tx *bolt.Tx) error { return del(tx, bktInbound, id) }); err != nil {
		return err
	}
	q.remove(id)
	return nil
}

// failInbound records a failure. A message that was settled in spite of it is
// done.
func (q *Queue) failInbound(id string, result error, at time.Time) (next time.Time, err error) {
	var row inboundRow
	var found bool
	err = q.update(func(tx *bolt.Tx) error {
		row = inboundRow{}
		ok, err := get(tx, bktInbound, id, &row)
		if found = ok; err != nil || !ok {
			return err
		}
		row.retry = row.failed(q.o.Retry, stateHeld, id, row.Created, at, result)
		// What makes us fail unexpectedly may be made for that, and has no better
		// claim to the disk than what is refused.
		if row.Fault = row.State == stateHeld && !permanent(result) && !errors.Is(result, errPanic); row.Fault {
			row.LastError = errorText(fmt.Errorf("not judged within its lifetime, for faults of this node; kept until it is tried again or dropped by order; the last one: %w", result))
		}
		return put(tx, bktInbound, id, row)
	})
	if err != nil || !found {
		return time.Time{}, err
	}
	if row.refused() {
		err = q.countHeld(row.Size)
	}
	q.o.Log.Warn("queue: inbound message not settled", "id", id, "attempt", row.Attempts, "state", row.State, "next", row.Next, "error", result)
	if row.State == stateHeld {
		return time.Time{}, err
	}
	return row.Next, nil
}

// failed is the row after a failure: due again, or in the state end where the
// error is permanent or the lifetime is over.
func (r retry) failed(s Schedule, end, key string, created, at time.Time, err error) retry {
	r.Attempts++
	r.LastError = errorText(err)
	next, ok := s.after(r.Attempts, created, at, key)
	if permanent(err) || !ok {
		r.State, r.Next = end, at
		return r
	}
	r.State, r.Next = stateDue, next
	return r
}

func (q *Queue) workPublish(ctx context.Context, h Handlers, key string) (next time.Time, err error) {
	var row publishRow
	ok, err := q.read(bktPublish, key, &row)
	if err != nil || !ok {
		return time.Time{}, err
	}
	now := time.Now()
	if q.o.Retry.waits(row.Next, now) {
		return row.Next, nil
	}
	d, err := row.delivery()
	if err != nil {
		return time.Time{}, err
	}
	result := q.guard("publish", key, func() error { return h.Publish(ctx, d) })
	q.o.crash("publish.done")
	if interrupted(ctx, result) {
		return now, nil
	}
	if result == nil {
		err := q.update(func(tx *bolt.Tx) error { return del(tx, bktPublish, key) })
		q.o.crash("publish.recorded")
		return time.Time{}, err
	}
	// AS 3.2-d: the notification said that we have taken responsibility. There
	// is no end to this, and no error that is permanent.
	row.Attempts++
	row.LastError = errorText(result)
	row.Next = time.Now().Add(q.o.Retry.pause(row.Attempts, key))
	q.o.Log.Error("queue: accepted message not in its mailbox yet", "id", key, "attempt", row.Attempts, "next", row.Next, "error", result)
	return row.Next, q.update(func(tx *bolt.Tx) error { return put(tx, bktPublish, key, row) })
}

// workOutbound tries everything of a message that is due in one domain, then
// tells about what has been given up.
func (q *Queue) workOutbound(ctx context.Context, h Handlers, id, domain string) (next time.Time, err error) {
	msg, rows, err := q.readOutbound(id, domain)
	if err != nil {
		return time.Time{}, err
	}
	now := time.Now()
	var due []rcptRow
	for _, r := range rows {
		if r.State == stateDue && !q.o.Retry.waits(r.Next, now) {
			due = append(due, r)
		}
	}
	if len(due) > 0 {
		results := q.attempt(ctx, h, msg, due)
		q.o.crash("outbound.done")
		if ctx.Err() != nil {
			// Run ends. What got through is recorded; what failed may have failed
			// for that reason and stays as it was.
			due, results = onlyDelivered(due, results)
		}
		if err := q.recordAttempt(msg, due, results, time.Now()); err != nil {
			return time.Time{}, err
		}
		q.o.crash("outbound.recorded")
	}
	if ctx.Err() == nil {
		if err := q.giveUp(ctx, h, id, domain); err != nil {
			return time.Time{}, err
		}
	}
	_, rows, err = q.readOutbound(id, domain)
	for _, r := range rows {
		if next.IsZero() || r.Next.Before(next) {
			next = r.Next
		}
	}
	return next, err
}

// readOutbound returns a message and its rows in one domain.
func (q *Queue) readOutbound(id, domain string) (msg Attempt, rows []rcptRow, err error) {
	err = q.db.View(func(tx *bolt.Tx) error {
		var row outboundRow
		ok, err := get(tx, bktOutbound, id, &row)
		if err != nil || !ok {
			return err
		}
		from, err := direct.ParseAddress(row.From)
		if err != nil {
			return fmt.Errorf("sender of %s: %w", id, err)
		}
		msg = Attempt{ID: id, MessageID: row.MessageID, From: from, Size: row.Size, Open: q.opener(id), Report: row.Report}
		all, err := dueRows(tx, id)
		for _, r := range all {
			if r.to.Domain().String() == domain {
				rows = append(rows, r)
			}
		}
		return err
	})
	return msg, rows, err
}

// attempt calls the handler and returns one result for each row.
func (q *Queue) attempt(ctx context.Context, h Handlers, a Attempt, due []rcptRow) []error {
	for _, r := range due {
		a.To = append(a.To, r.to)
		a.N = max(a.N, r.Attempts+1)
	}
	var results []error
	err := q.guard("outbound", a.ID, func() error {
		results = h.Outbound(ctx, a)
		if len(results) != len(due) {
			return fmt.Errorf("the handler gave %d results for %d recipients", len(results), len(due))
		}
		return nil
	})
	if err == nil {
		return results
	}
	results = make([]error, len(due))
	for i := range results {
		results[i] = err
	}
	return results
}

func onlyDelivered(due []rcptRow, results []error) (rows []rcptRow, nils []error) {
	for i, r := range due {
		if results[i] == nil {
			rows, nils = append(rows, r), append(nils, nil)
		}
	}
	return rows, nils
}

// recordAttempt writes what became of each recipient.
func (q *Queue) recordAttempt(msg Attempt, due []rcptRow, results []error, at time.Time) error {
	if len(due) == 0 {
		return nil
	}
	defer q.hold(msg.ID)()
	var gone bool
	after := make([]retry, len(due))
	err := q.update(func(tx *bolt.Tx) (err error) {
		var row outboundRow
		ok, err := get(tx, bktOutbound, msg.ID, &row)
		if err != nil || !ok {
			return err // dropped by the administrator meanwhile
		}
		for i, r := range due {
			if results[i] == nil {
				err = del(tx, bktDue, r.key)
			} else {
				r.retry = r.failed(q.o.Retry, stateGiveUp, r.key, row.Created, at, results[i])
				after[i] = r.retry
				err = put(tx, bktDue, r.key, r.dueRow)
			}
			if err != nil {
				return err
			}
		}
		gone, err = finishOutbound(tx, msg.ID)
		return err
	})
	if err != nil {
		return err
	}
	for i, r := range due {
		q.logAttempt(msg, r, after[i], results[i])
	}
	if gone {
		q.remove(msg.ID)
	}
	return nil
}

func (q *Queue) logAttempt(msg Attempt, r rcptRow, after retry, result error) {
	args := []any{"id", msg.ID, "message_id", msg.MessageID, "recipient", r.To, "attempt", r.Attempts + 1, "report", msg.Report}
	if result == nil {
		q.o.Log.Info("queue: delivered", args...)
		return
	}
	q.o.Log.Warn("queue: not delivered", append(args, "state", after.State, "next", after.Next, "error", result)...)
}

// finishOutbound removes a message that has no recipient left.
func finishOutbound(tx *bolt.Tx, id string) (gone bool, err error) {
	rows, err := dueRows(tx, id)
	if err != nil || len(rows) > 0 {
		return false, err
	}
	return true, del(tx, bktOutbound, id)
}

// giveUp tells about the recipients of a message that are given up, and
// removes each when that has been heard.
func (q *Queue) giveUp(ctx context.Context, h Handlers, id, domain string) error {
	msg, rows, err := q.readOutbound(id, domain)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if r.State != stateGiveUp || q.o.Retry.waits(r.Next, time.Now()) {
			continue
		}
		msg.To, msg.N = []direct.Address{r.to}, r.Attempts
		result := q.guard("expired", r.key, func() error { return h.Expired(ctx, msg, r.to, lastError(r.LastError)) })
		q.o.crash("expired.done")
		switch {
		case interrupted(ctx, result):
			return nil
		case result == nil:
			err = q.removeRecipient(id, r.key)
		default:
			err = q.postpone(r, result)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// lastError is an error as the index has kept it.
type lastError string

func (e lastError) Error() string   { return string(e) }
func (e lastError) Temporary() bool { return false }

func (q *Queue) removeRecipient(id, key string) error {
	defer q.hold(id)()
	var gone bool
	err := q.update(func(tx *bolt.Tx) (err error) {
		if err := del(tx, bktDue, key); err != nil {
			return err
		}
		gone, err = finishOutbound(tx, id)
		return err
	})
	if err == nil && gone {
		q.remove(id)
	}
	q.o.crash("expired.recorded")
	return err
}

// postpone keeps a recipient that is given up until the sender could be told.
func (q *Queue) postpone(r rcptRow, result error) error {
	q.o.Log.Error("queue: the sender could not be told of a failure yet", "id", r.key, "error", result)
	r.Attempts++
	r.Next = time.Now().Add(q.o.Retry.pause(r.Attempts, r.key))
	return q.update(func(tx *bolt.Tx) error {
		if tx.Bucket(bktDue).Get([]byte(r.key)) == nil {
			return nil // dropped meanwhile
		}
		return put(tx, bktDue, r.key, r.dueRow)
	})
}

// read reads one row.
func (q *Queue) read(bucket []byte, key string, row any) (ok bool, err error) {
	err = q.db.View(func(tx *bolt.Tx) error {
		ok, err = get(tx, bucket, key, row)
		return err
	})
	return ok, err
}

// prune removes what has been kept long enough: identities of messages, and
// inbound messages that nobody may have.
func (q *Queue) prune(at time.Time) error {
	cutoff := timeKey(at.Add(-seenFor))
	var more bool
	err := q.db.View(func(tx *bolt.Tx) error {
		first, _ := tx.Bucket(bktSeenAt).Cursor().First()
		more = first != nil && olderThan(first, cutoff)
		return nil
	})
	for more && err == nil {
		err = q.update(func(tx *bolt.Tx) (err error) {
			more, err = pruneSeen(tx, cutoff)
			return err
		})
	}
	if err != nil {
		return err
	}
	return q.boundHeld(at)
}

// olderThan compares the time that a key of seen-at begins with.
func olderThan(key, cutoff []byte) bool { return bytes.Compare(key[:len(cutoff)], cutoff) < 0 }

// pruneSeen forgets identities older than cutoff, maxPrune at a time.
func pruneSeen(tx *bolt.Tx, cutoff []byte) (more bool, err error) {
	var old [][]byte
	c := tx.Bucket(bktSeenAt).Cursor()
	for k, _ := c.First(); k != nil && olderThan(k, cutoff) && len(old) < maxPrune; k, _ = c.Next() {
		old = append(old, bytes.Clone(k))
	}
	for _, k := range old {
		if err := errors.Join(tx.Bucket(bktSeenAt).Delete(k), tx.Bucket(bktSeen).Delete(k[len(cutoff):])); err != nil {
			return false, err
		}
	}
	return len(old) == maxPrune, nil
}
