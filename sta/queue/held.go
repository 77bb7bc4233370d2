package queue

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
)

// This file keeps the disk from filling up: what is refused has its share, and
// near the end nothing new is taken.

// roomy refuses a message while the disk has too little space left. A file
// system that does not tell is written to.
func (q *Queue) roomy() error {
	if q.o.MinFree < 0 {
		return nil
	}
	free, err := q.o.free(q.dir)
	if err == nil && free < q.o.MinFree {
		q.o.Log.Error("queue: no message is taken: too little space on the disk", "free", free, "needed", q.o.MinFree)
		return fmt.Errorf("queue: %w: %d octets are free; %d are needed", ErrNoSpace, free, q.o.MinFree)
	}
	return nil
}

// freeOn asks the operating system.
func freeOn(dir string) (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}

// full marks the error of a disk, or of a quota, that was used up meanwhile.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

// onDisk is what a message of so many octets is counted as.
func onDisk(size int64) int64 { return (size + heldBlock - 1) / heldBlock * heldBlock }

// countHeld adds a message that was refused, and makes room where they have
// become too many.
func (q *Queue) countHeld(size int64) error {
	if q.heldAtMost.Add(onDisk(size)) <= q.o.MaxHeld {
		return nil
	}
	return q.boundHeld(time.Now())
}

// heldMessage is a refused message that is kept.
type heldMessage struct {
	id    string
	since time.Time
	size  int64
}

// boundHeld removes the refused messages that have been kept long enough and,
// where the others take too much, the oldest of those. It goes an eighth below
// the limit, so that a flood does not read the whole index for each message.
func (q *Queue) boundHeld(at time.Time) error {
	q.bounding.Lock()
	defer q.bounding.Unlock()
	// What is added from here on may be counted twice, and never not at all.
	counted := q.heldAtMost.Load()
	held, err := q.refusedMessages()
	if err != nil {
		return err
	}
	var sum int64
	for _, m := range held {
		sum += m.size
	}
	limit := q.o.MaxHeld
	if sum > limit {
		limit -= limit / 8
	}
	n, expired := 0, 0
	for _, m := range held {
		old := m.since.Before(at.Add(-q.o.Keep))
		if !old && sum <= limit {
			break
		}
		if old {
			expired++
		}
		sum -= m.size
		n++
	}
	if err := q.dropHeld(held[:n]); err != nil {
		return err
	}
	q.heldAtMost.Add(sum - counted)
	if expired > 0 {
		q.o.Log.Info("queue: refused messages removed after their time", "count", expired)
	}
	if n > expired {
		q.o.Log.Warn("queue: refused messages removed before their time to make room", "count", n-expired, "octets", sum, "limit", q.o.MaxHeld)
	}
	return nil
}

// refusedMessages returns what is held because it was refused, the oldest first.
func (q *Queue) refusedMessages() (held []heldMessage, err error) {
	err = q.db.View(func(tx *bolt.Tx) error {
		return each(tx, bktInbound, "", func(id string, b []byte) error {
			var r inboundRow
			if err := json.Unmarshal(b, &r); err != nil {
				return fmt.Errorf("inbound %s: %w", id, err)
			}
			if r.refused() {
				held = append(held, heldMessage{id, r.Next, onDisk(r.Size)})
			}
			return nil
		})
	})
	slices.SortFunc(held, func(a, b heldMessage) int { return a.since.Compare(b.since) })
	return held, err
}

// dropHeld removes refused messages, unless the operator has had one tried
// again meanwhile.
func (q *Queue) dropHeld(held []heldMessage) error {
	for batch := range slices.Chunk(held, maxPrune) {
		if err := q.dropBatch(batch); err != nil {
			return err
		}
	}
	return nil
}

func (q *Queue) dropBatch(batch []heldMessage) error {
	for _, m := range batch {
		defer q.hold(m.id)()
	}
	var gone []string
	err := q.update(func(tx *bolt.Tx) error {
		gone = nil
		for _, m := range batch {
			var r inboundRow
			ok, err := get(tx, bktInbound, m.id, &r)
			if err != nil {
				return err
			}
			if !ok || !r.refused() {
				continue
			}
			if err := del(tx, bktInbound, m.id); err != nil {
				return err
			}
			gone = append(gone, m.id)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, id := range gone {
		q.remove(id)
	}
	return nil
}
