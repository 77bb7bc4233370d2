package queue

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"directnode/internal/durable"

	bolt "go.etcd.io/bbolt"
)

// Problem is a rule that the queue breaks.
type Problem struct {
	ID   string // the message, where it is about one
	What string
}

// String is the problem in one line.
func (p Problem) String() string { return strings.TrimSpace(p.ID + " " + p.What) }

// Check holds the queue against its rules and returns what breaks them:
//
//   - the pages of the index are sound, and every row can be read;
//   - every inbound and outbound row has its file, of the size recorded, and
//     every file its row;
//   - every outbound message has a recipient, and every recipient a message;
//   - the two indexes of seen messages agree;
//   - everything that is due is in the schedule;
//   - there is no temporary file that nobody is writing.
//
// It may be called while the queue works.
func (q *Queue) Check() []Problem {
	var problems []Problem
	report := func(id, format string, args ...any) {
		problems = append(problems, Problem{id, fmt.Sprintf(format, args...)})
	}
	if err := q.checkIndex(report); err != nil {
		report("", "index: %v", err)
	}
	q.checkFiles(report)
	q.checkSchedule(report)
	return problems
}

// checkIndex reads the whole index in a transaction that could write and does
// not: bbolt compares the pages with its list of free ones, which is that of
// the last writer, so that nobody may write meanwhile.
func (q *Queue) checkIndex(report reporter) error {
	tx, err := q.db.Begin(true)
	if err != nil {
		return err
	}
	for err := range tx.Check() {
		report("", "index: %v", err)
	}
	checkRows(tx, report)
	checkSeen(tx, report)
	return tx.Rollback()
}

type reporter func(id, format string, args ...any)

// checkRows: every row can be read, messages and recipients belong together.
func checkRows(tx *bolt.Tx, report reporter) {
	check := func(bucket []byte, row func(key string, b []byte) error) {
		err := each(tx, bucket, "", func(key string, b []byte) error {
			if err := row(key, b); err != nil {
				report(key, "%s row: %v", bucket, err)
			}
			return nil
		})
		if err != nil {
			report("", "%s: %v", bucket, err)
		}
	}
	check(bktInbound, func(id string, b []byte) error {
		var r inboundRow
		if err := json.Unmarshal(b, &r); err != nil {
			return err
		}
		_, err := r.Envelope.envelope(id)
		return err
	})
	check(bktOutbound, func(id string, b []byte) error {
		var r outboundRow
		if err := json.Unmarshal(b, &r); err != nil {
			return err
		}
		rows, err := dueRows(tx, id)
		if err == nil && len(rows) == 0 {
			err = errors.New("no recipient")
		}
		return err
	})
	check(bktDue, func(key string, _ []byte) error {
		id, _, _ := strings.Cut(key, "/")
		if tx.Bucket(bktOutbound).Get([]byte(id)) == nil {
			return errors.New("a recipient without a message")
		}
		return nil
	})
	check(bktPublish, func(_ string, b []byte) error {
		var r publishRow
		if err := json.Unmarshal(b, &r); err != nil {
			return err
		}
		_, err := r.delivery()
		return err
	})
}

func checkSeen(tx *bolt.Tx, report reporter) {
	seen, at := tx.Bucket(bktSeen), tx.Bucket(bktSeenAt)
	n := 0
	c := at.Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		n++
		if when := seen.Get(k[8:]); !bytes.Equal(when, k[:8]) {
			report("", "seen-at: %x does not agree with seen", k)
		}
	}
	if m := seen.Stats().KeyN; m != n {
		report("", "seen has %d rows and seen-at %d", m, n)
	}
}

// checkFiles compares the spool with the index. The queue may be at work: a
// difference counts only if it is still there when looked at again, and if
// nobody holds the message.
func (q *Queue) checkFiles(report reporter) {
	quiet := q.temps.Load() == 0
	list, err := q.fsys.ReadDir(q.spool)
	if err != nil {
		report("", "spool: %v", err)
		return
	}
	quiet = quiet && q.temps.Load() == 0
	for _, e := range list {
		switch id := e.Name(); {
		case durable.IsTemp(id):
			if quiet {
				report("", "spool: temporary file %s", id)
			}
		default:
			if first := q.orphan(id); first && q.orphan(id) {
				report(id, "a file without a row")
			}
		}
	}
	for _, id := range q.ids(report) {
		info, err := q.fsys.Stat(q.path(id))
		size, ok := q.sizeOf(id) // after Stat: a row goes before its file
		switch {
		case !ok:
		case errors.Is(err, fs.ErrNotExist):
			report(id, "a row without a file")
		case err != nil:
			report(id, "spool: %v", err)
		case info.Size() != size:
			report(id, "the file has %d octets; the row says %d", info.Size(), size)
		}
	}
}

// orphan reports whether a file has no row and nobody who is at work on it.
// One answer may be wrong, when the work begins between the questions; two
// cannot be, because an ID is never used again.
func (q *Queue) orphan(id string) bool {
	if q.held(id) {
		return false
	}
	if _, ok := q.sizeOf(id); ok {
		return false
	}
	_, err := q.fsys.Stat(q.path(id))
	return err == nil
}

// sizeOf returns the size of a message by its row. ok is false without a row.
func (q *Queue) sizeOf(id string) (size int64, ok bool) {
	var in inboundRow
	if found, err := q.read(bktInbound, id, &in); found && err == nil {
		return in.Size, true
	}
	var out outboundRow
	found, err := q.read(bktOutbound, id, &out)
	return out.Size, found && err == nil
}

// ids returns every message that needs a file.
func (q *Queue) ids(report reporter) (ids []string) {
	err := q.db.View(func(tx *bolt.Tx) error {
		note := func(id string, _ []byte) error {
			ids = append(ids, id)
			return nil
		}
		return errors.Join(each(tx, bktInbound, "", note), each(tx, bktOutbound, "", note))
	})
	if err != nil {
		report("", "index: %v", err)
	}
	return ids
}

// checkSchedule: what the index says is due is in memory.
func (q *Queue) checkSchedule(report reporter) {
	due := func() map[taskKey]bool {
		m := map[taskKey]bool{}
		err := q.db.View(func(tx *bolt.Tx) error {
			tasks, err := tasksOf(tx)
			for _, t := range tasks {
				m[t.taskKey] = true
			}
			return err
		})
		if err != nil {
			report("", "index: %v", err)
		}
		return m
	}
	var missing []taskKey
	for k := range due() {
		if !q.sched.has(k) && !q.held(idOf(k)) {
			missing = append(missing, k)
		}
	}
	if len(missing) == 0 {
		return
	}
	still := due()
	for _, k := range missing {
		if still[k] && !q.sched.has(k) && !q.held(idOf(k)) {
			report(idOf(k), "%s is due and not in the schedule", k.kind)
		}
	}
}

func idOf(k taskKey) string {
	id, _, _ := strings.Cut(k.key, "/")
	return id
}
