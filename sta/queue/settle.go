package queue

import (
	"context"
	"fmt"
	"slices"
	"time"

	"directnode/internal/mail"
	"directnode/sta/smime"

	bolt "go.etcd.io/bbolt"
)

// Settle ends an inbound message in one transaction: it is no longer due;
// every delivery that is fresh, that is, whose Digest its Recipient has not
// had in the last 14 days, becomes due to be published, and its notice
// (notices[i] belongs to deliveries[i]; a zero one is none) due to be sent.
// The others leave no trace, and the caller discards what it staged for them.
// The fresh ones are returned, in order.
//
// When Settle returns nil all of it is durable. After an error nothing
// happened. ErrNotFound says that the message was settled or dropped before.
func (q *Queue) Settle(ctx context.Context, item string, deliveries []mail.Delivery, notices []smime.Sealed) ([]mail.Delivery, error) {
	if err := q.usable(ctx); err != nil {
		return nil, err
	}
	if len(notices) > len(deliveries) {
		return nil, fmt.Errorf("queue: settle %s: %d notices for %d deliveries", item, len(notices), len(deliveries))
	}
	now := time.Now()
	s := &settlement{item: item, deliveries: deliveries, notices: make([]*sealed, len(deliveries)), now: now}
	for i, n := range notices {
		if n.IsZero() {
			continue
		}
		sn := newSealed(n, now)
		s.notices[i] = &sn
		defer q.hold(sn.id)()
	}
	defer q.hold(item)()
	if err := q.writeNotices(s); err != nil {
		return nil, fmt.Errorf("queue: settle %s: %w", item, err)
	}
	q.o.crash("settle.synced")
	if err := q.update(s.commit); err != nil {
		q.removeNotices(s, nil)
		return nil, fmt.Errorf("queue: settle %s: %w", item, err)
	}
	q.o.crash("settle.committed")
	q.remove(item)
	q.removeNotices(s, s.fresh)
	q.o.crash("settle.removed")
	return q.scheduleSettled(s), nil
}

// settlement is the work of one Settle.
type settlement struct {
	item       string
	deliveries []mail.Delivery
	notices    []*sealed // by delivery; nil is none
	fresh      []bool    // by delivery; set by commit
	now        time.Time
}

// writeNotices makes the files of all notices durable before the transaction
// that may refer to them.
func (q *Queue) writeNotices(s *settlement) error {
	any := false
	for _, n := range s.notices {
		if n == nil {
			continue
		}
		any = true
		if err := q.writeSealed(n, "settle"); err != nil {
			q.removeNotices(s, nil)
			return err
		}
	}
	if !any {
		return nil
	}
	if err := q.syncSpool(); err != nil {
		q.removeNotices(s, nil)
		return err
	}
	return nil
}

// removeNotices removes the files of the notices that will not be sent.
func (q *Queue) removeNotices(s *settlement, fresh []bool) {
	for i, n := range s.notices {
		if n != nil && (fresh == nil || !fresh[i]) {
			q.remove(n.id)
		}
	}
}

// commit is the transaction. It may run twice, so that it sets fresh anew.
func (s *settlement) commit(tx *bolt.Tx) error {
	s.fresh = make([]bool, len(s.deliveries))
	if tx.Bucket(bktInbound).Get([]byte(s.item)) == nil {
		return ErrNotFound
	}
	for i, d := range s.deliveries {
		fresh, err := remember(tx, d, s.now)
		if err != nil {
			return err
		}
		if !fresh {
			continue
		}
		s.fresh[i] = true
		if err := s.putDelivery(tx, i); err != nil {
			return err
		}
	}
	return del(tx, bktInbound, s.item)
}

// putDelivery makes a fresh delivery and its notice due.
func (s *settlement) putDelivery(tx *bolt.Tx, i int) error {
	if n := s.notices[i]; n != nil {
		if err := n.rows(tx); err != nil {
			return err
		}
	}
	d := s.deliveries[i]
	if d.Staged == "" {
		return nil
	}
	return put(tx, bktPublish, subKey(s.item, d.Recipient), publishRow{
		Recipient: d.Recipient.String(), Digest: d.Digest[:], Staged: d.Staged, Created: s.now,
		retry: retry{State: stateDue, Next: s.now},
	})
}

// remember notes that a recipient has had a message, and tells whether that is
// new.
func remember(tx *bolt.Tx, d mail.Delivery, now time.Time) (fresh bool, err error) {
	key, at := seenKey(d.Recipient, d.Digest), timeKey(now)
	seen := tx.Bucket(bktSeen)
	if seen.Get(key) != nil {
		return false, nil
	}
	if err := seen.Put(key, at); err != nil {
		return false, err
	}
	return true, tx.Bucket(bktSeenAt).Put(slices.Concat(at, key), []byte{})
}

// scheduleSettled makes due in memory what the transaction made due, and
// returns the fresh deliveries.
func (q *Queue) scheduleSettled(s *settlement) (fresh []mail.Delivery) {
	for i, d := range s.deliveries {
		if !s.fresh[i] {
			continue
		}
		fresh = append(fresh, d)
		if d.Staged != "" {
			q.schedule(publishTask(subKey(s.item, d.Recipient), d.Recipient.Domain().String()), s.now)
		}
		if n := s.notices[i]; n != nil {
			q.scheduleSealed(*n)
		}
	}
	return fresh
}
