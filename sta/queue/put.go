package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"directnode/internal/direct"
	"directnode/sta/smime"

	bolt "go.etcd.io/bbolt"
)

// Put makes sealed messages due, each for each of its recipients, at once: all
// of them or none. When it returns nil this is durable: the submission may be
// answered with 250. After an error nothing of it is in the queue. ErrNoSpace
// says that the disk is too full to take anything.
func (q *Queue) Put(ctx context.Context, messages ...smime.Sealed) error {
	if err := q.usable(ctx); err != nil {
		return err
	}
	if len(messages) == 0 || slices.ContainsFunc(messages, smime.Sealed.IsZero) {
		return errors.New("queue: nothing is sealed")
	}
	if err := q.roomy(); err != nil {
		return err
	}
	now := time.Now()
	all := make([]sealed, len(messages))
	for i, s := range messages {
		all[i] = newSealed(s, now)
		defer q.hold(all[i].id)()
	}
	if err := q.store(all); err != nil {
		for _, n := range all {
			q.remove(n.id)
		}
		return err
	}
	q.o.crash("put.committed")
	for _, n := range all {
		q.o.Log.Info("queue: message queued", "id", n.id, "message_id", n.MessageID(), "from", n.From().String(), "recipients", len(n.to), "report", n.IsReport())
		q.scheduleSealed(n)
	}
	return nil
}

// store makes the files durable, then the rows of all of them in one
// transaction. After an error some files may be there.
func (q *Queue) store(all []sealed) error {
	for i := range all {
		if err := q.writeSealed(&all[i], "put"); err != nil {
			return err
		}
	}
	if err := q.syncSpool(); err != nil {
		return fmt.Errorf("queue: store %s: %w", all[0].id, err)
	}
	q.o.crash("put.synced")
	err := q.update(func(tx *bolt.Tx) error {
		for _, n := range all {
			if err := n.rows(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("queue: store %s: %w", all[0].id, err)
	}
	return nil
}

// sealed is an outbound message on its way into the queue.
type sealed struct {
	smime.Sealed
	id   string
	size int64
	to   []direct.Address // each once
	now  time.Time
}

func newSealed(s smime.Sealed, now time.Time) sealed {
	n := sealed{Sealed: s, id: NewID(now), now: now}
	seen := map[string]bool{}
	for _, to := range s.To() { // an address with two certificates stands there twice
		if !seen[to.Key()] {
			seen[to.Key()] = true
			n.to = append(n.to, to)
		}
	}
	return n
}

// writeSealed writes the spool file; the directory is still to be flushed.
func (q *Queue) writeSealed(n *sealed, point string) error {
	size, err := q.write(n.id, point, func(w io.Writer) error {
		_, err := n.WriteTo(w)
		return err
	})
	if err != nil {
		return fmt.Errorf("queue: store %s: %w", n.id, err)
	}
	n.size = size
	return nil
}

// rows puts the message and one row for each recipient into the index.
func (n sealed) rows(tx *bolt.Tx) error {
	err := put(tx, bktOutbound, n.id, outboundRow{
		MessageID: n.MessageID(), From: n.From().String(), Report: n.IsReport(), Size: n.size, Created: n.now,
	})
	if err != nil {
		return err
	}
	for _, to := range n.to {
		row := dueRow{To: to.String(), retry: retry{State: stateDue, Next: n.now}}
		if err := put(tx, bktDue, subKey(n.id, to), row); err != nil {
			return err
		}
	}
	return nil
}

func (q *Queue) scheduleSealed(n sealed) {
	for _, to := range n.to {
		q.schedule(outboundTask(n.id, to.Domain().String()), n.now)
	}
}
