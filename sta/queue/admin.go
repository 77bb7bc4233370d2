package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Entry is one row of the queue as the administrator sees it: an inbound
// message, an outbound message for one recipient, or an accepted message on
// its way into a mailbox.
type Entry struct {
	ID        string // names the message in Retry and Drop
	Kind      string // inbound, outbound, publish
	State     string // due, held, give up
	MessageID string // outbound only: inside of inbound mail nobody has looked
	From      string // "" for the null path
	To        []string
	Size      int64 // on the wire
	Created   time.Time
	Next      time.Time // when it is tried again
	Attempts  int
	LastError string
}

// List returns the queue, the oldest first.
func (q *Queue) List(ctx context.Context) ([]Entry, error) {
	if err := q.usable(ctx); err != nil {
		return nil, err
	}
	var list []Entry
	err := q.db.View(func(tx *bolt.Tx) error {
		for _, part := range []func(*bolt.Tx) ([]Entry, error){listInbound, listOutbound, listPublish} {
			entries, err := part(tx)
			if err != nil {
				return err
			}
			list = append(list, entries...)
		}
		return nil
	})
	slices.SortStableFunc(list, func(a, b Entry) int { return a.Created.Compare(b.Created) })
	return list, err
}

func (r retry) entry(kind kind, id string, created time.Time) Entry {
	return Entry{ID: id, Kind: kind.String(), State: r.State, Created: created, Next: r.Next, Attempts: r.Attempts, LastError: r.LastError}
}

func listInbound(tx *bolt.Tx) (list []Entry, err error) {
	err = each(tx, bktInbound, "", func(id string, b []byte) error {
		var r inboundRow
		if err := json.Unmarshal(b, &r); err != nil {
			return fmt.Errorf("inbound %s: %w", id, err)
		}
		e := r.entry(inbound, id, r.Created)
		e.From, e.To, e.Size = r.Envelope.From, r.Envelope.To, r.Size
		list = append(list, e)
		return nil
	})
	return list, err
}

func listOutbound(tx *bolt.Tx) (list []Entry, err error) {
	err = each(tx, bktOutbound, "", func(id string, b []byte) error {
		var m outboundRow
		if err := json.Unmarshal(b, &m); err != nil {
			return fmt.Errorf("outbound %s: %w", id, err)
		}
		rows, err := dueRows(tx, id)
		for _, r := range rows {
			e := r.entry(outbound, id, m.Created)
			e.MessageID, e.From, e.To, e.Size = m.MessageID, m.From, []string{r.To}, m.Size
			list = append(list, e)
		}
		return err
	})
	return list, err
}

func listPublish(tx *bolt.Tx) (list []Entry, err error) {
	err = each(tx, bktPublish, "", func(key string, b []byte) error {
		var r publishRow
		if err := json.Unmarshal(b, &r); err != nil {
			return fmt.Errorf("publish %s: %w", key, err)
		}
		id, _, _ := strings.Cut(key, "/")
		e := r.entry(publish, id, r.Created)
		e.To = []string{r.Recipient}
		list = append(list, e)
		return nil
	})
	return list, err
}

// Retry makes everything of a message due now, held messages too. The count
// of attempts goes on; a message past its lifetime gets one more attempt.
func (q *Queue) Retry(ctx context.Context, id string) error {
	if err := q.usable(ctx); err != nil {
		return err
	}
	now := time.Now()
	defer q.hold(id)()
	var due []taskKey
	err := q.update(func(tx *bolt.Tx) error {
		due = nil
		for _, part := range []func(*bolt.Tx, string, time.Time) ([]taskKey, error){retryInbound, retryOutbound, retryPublish} {
			tasks, err := part(tx, id, now)
			if err != nil {
				return err
			}
			due = append(due, tasks...)
		}
		if len(due) == 0 {
			return ErrNotFound
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("queue: retry %s: %w", id, err)
	}
	for _, k := range due {
		q.schedule(k, now)
	}
	return nil
}

func retryInbound(tx *bolt.Tx, id string, now time.Time) ([]taskKey, error) {
	var r inboundRow
	ok, err := get(tx, bktInbound, id, &r)
	if err != nil || !ok {
		return nil, err
	}
	r.State, r.Next, r.Fault = stateDue, now, false
	return []taskKey{inboundTask(id, r.Envelope)}, put(tx, bktInbound, id, r)
}

func retryOutbound(tx *bolt.Tx, id string, now time.Time) (due []taskKey, err error) {
	rows, err := dueRows(tx, id)
	for _, r := range rows {
		if err != nil {
			break
		}
		r.Next = now // one that is given up stays so: its failure may have been told already
		due = append(due, outboundTask(id, r.to.Domain().String()))
		err = put(tx, bktDue, r.key, r.dueRow)
	}
	return due, err
}

func retryPublish(tx *bolt.Tx, id string, now time.Time) (due []taskKey, err error) {
	rows := map[string]publishRow{}
	err = each(tx, bktPublish, id+"/", func(key string, b []byte) error {
		var r publishRow
		if err := json.Unmarshal(b, &r); err != nil {
			return fmt.Errorf("publish %s: %w", key, err)
		}
		rows[key] = r
		return nil
	})
	for key, r := range rows {
		if err != nil {
			break
		}
		r.Next = now
		due = append(due, publishTask(key, domainOf(r.Recipient)))
		err = put(tx, bktPublish, key, r)
	}
	return due, err
}

// Drop removes an inbound or outbound message, without telling anybody. What
// was accepted for a mailbox is owed to its recipient: ErrAccepted.
func (q *Queue) Drop(ctx context.Context, id string) error {
	if err := q.usable(ctx); err != nil {
		return err
	}
	defer q.hold(id)()
	err := q.update(func(tx *bolt.Tx) error {
		if tx.Bucket(bktInbound).Get([]byte(id)) != nil || tx.Bucket(bktOutbound).Get([]byte(id)) != nil {
			return dropRows(tx, id)
		}
		if k, _ := tx.Bucket(bktPublish).Cursor().Seek([]byte(id + "/")); k != nil && strings.HasPrefix(string(k), id+"/") {
			return ErrAccepted
		}
		return ErrNotFound
	})
	if err != nil {
		return fmt.Errorf("queue: drop %s: %w", id, err)
	}
	q.remove(id)
	q.o.Log.Warn("queue: message dropped by the administrator", "id", id)
	return nil
}
