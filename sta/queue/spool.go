package queue

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"directnode/internal/durable"
	"directnode/internal/mail"

	bolt "go.etcd.io/bbolt"
)

// fileMode: the spool is ciphertext, and still nobody else's business.
const fileMode = 0o600

// NewID makes a name for a message: the time, so that listings are in order,
// and enough chance that nobody can guess or repeat it. It holds nothing of
// the message (TM-3: names in the queue tell nothing).
func NewID(at time.Time) string {
	return fmt.Sprintf("%011x-%s", at.UnixMilli(), rand.Text()[:16])
}

// validID tells whether a name may be a file name and part of a key.
func validID(id string) bool {
	if id == "" || len(id) > maxID {
		return false
	}
	for i := range len(id) {
		c := id[i]
		ok := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || (c == '-' || c == '_' || c == '.') && i > 0
		if !ok {
			return false
		}
	}
	return true
}

func (q *Queue) path(id string) string { return filepath.Join(q.spool, id) }

// opener opens a message of the spool for reading.
func (q *Queue) opener(id string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		f, err := q.fsys.OpenFile(q.path(id), os.O_RDONLY, 0)
		if err != nil {
			return nil, fmt.Errorf("message %s: %w", id, err)
		}
		return f, nil
	}
}

// write makes the spool file id from what fill writes and flushes its
// content; the entry in the directory is still to be flushed (syncSpool).
// After an error nothing is left. point names the caller for crash tests.
func (q *Queue) write(id, point string, fill func(io.Writer) error) (int64, error) {
	q.temps.Add(1)
	defer q.temps.Add(-1)
	var n counter
	tmp, err := durable.WriteTemp(q.fsys, q.spool, fileMode, func(w io.Writer) error {
		n.w = w
		return fill(&n)
	})
	if err != nil {
		return 0, full(err)
	}
	q.o.crash(point + ".written")
	if err := q.fsys.Rename(tmp, q.path(id)); err != nil {
		return 0, errors.Join(err, q.fsys.Remove(tmp))
	}
	q.o.crash(point + ".renamed")
	return n.n, nil
}

// counter counts what passes.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// remove unlinks the file of a message that is done with. The directory is not
// flushed: what a crash brings back is swept at the next start.
func (q *Queue) remove(id string) {
	if err := q.fsys.Remove(q.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		q.o.Log.Warn("queue: file of a finished message left behind", "id", id, "error", err)
	}
}

// hold says that the file of id may be without a row for a while, until
// release is called.
func (q *Queue) hold(id string) (release func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.inFlight[id]++
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.inFlight[id]--; q.inFlight[id] == 0 {
			delete(q.inFlight, id)
		}
	}
}

func (q *Queue) held(id string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.inFlight[id] > 0
}

// archive keeps a copy of a received message for support cases, with its
// Return-Path (RFC 5321 §4.4) first. It is a convenience: a failure is logged
// and the message goes on.
func (q *Queue) archive(id string, env mail.Envelope) {
	path := filepath.Join(q.o.Archive, id+".eml")
	err := durable.WriteFile(q.fsys, path, fileMode, func(w io.Writer) error {
		if _, err := fmt.Fprintf(w, "Return-Path: <%s>\r\n", env.From); err != nil {
			return err
		}
		r, err := q.opener(id)()
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = io.Copy(w, r)
		return err
	})
	if err != nil {
		q.o.Log.Warn("queue: message not archived", "id", id, "error", err)
	}
}

// sweep makes the spool and the index agree at the start, when nobody else is
// at work.
func (q *Queue) sweep() error {
	list, err := q.fsys.ReadDir(q.spool)
	if err != nil {
		return err
	}
	files := make(map[string]bool, len(list))
	for _, e := range list {
		files[e.Name()] = true
	}
	known := map[string]bool{}
	var lost []string
	note := func(id string, _ []byte) error {
		known[id] = true
		if !files[id] {
			lost = append(lost, id)
		}
		return nil
	}
	err = q.db.View(func(tx *bolt.Tx) error {
		return errors.Join(each(tx, bktInbound, "", note), each(tx, bktOutbound, "", note))
	})
	if err != nil {
		return err
	}
	if len(lost) > 0 {
		err = q.update(func(tx *bolt.Tx) error {
			for _, id := range lost {
				if err := dropRows(tx, id); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, id := range lost {
		q.o.Log.Error("queue: a message has lost its file and is dropped", "id", id)
	}
	for _, e := range list {
		if known[e.Name()] {
			continue
		}
		if err := q.fsys.Remove(q.path(e.Name())); err != nil {
			return err
		}
		q.o.Log.Info("queue: removed a file that no message owns", "file", e.Name())
	}
	return nil
}

// dropRows removes every row of a message except those of accepted deliveries,
// which need no file of the spool.
func dropRows(tx *bolt.Tx, id string) error {
	rows, err := dueRows(tx, id)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if err := del(tx, bktDue, r.key); err != nil {
			return err
		}
	}
	return errors.Join(del(tx, bktInbound, id), del(tx, bktOutbound, id))
}
