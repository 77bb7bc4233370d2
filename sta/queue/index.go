package queue

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"directnode/internal/direct"
	"directnode/internal/durable"
	"directnode/internal/mail"

	bolt "go.etcd.io/bbolt"
)

// format is the version of the index and the spool (docs/adr/0042).
const format = "1"

// The buckets of the index. Rows are JSON objects; times are RFC 3339.
var (
	bktMeta     = []byte("meta")     // "format"
	bktInbound  = []byte("inbound")  // ID → inboundRow
	bktOutbound = []byte("outbound") // ID → outboundRow
	bktDue      = []byte("due")      // ID "/" recipient key → dueRow; one or more for each outbound row
	bktPublish  = []byte("publish")  // ID "/" recipient key → publishRow
	bktSeen     = []byte("seen")     // seenKey → time
	bktSeenAt   = []byte("seen-at")  // time seenKey → nothing; the same in order of time
)

var buckets = [][]byte{bktMeta, bktInbound, bktOutbound, bktDue, bktPublish, bktSeen, bktSeenAt}

// States of a row.
const (
	stateDue    = "due"     // to be tried at Next
	stateHeld   = "held"    // inbound, refused or not judged within its lifetime: kept for the operator, never tried
	stateGiveUp = "give up" // outbound, permanently failed: the sender is still to be told
)

// retry is the part of a row that says how often and when.
type retry struct {
	State     string    `json:"state"`
	Attempts  int       `json:"attempts"`
	Next      time.Time `json:"next"`
	LastError string    `json:"last_error,omitempty"`
}

type inboundRow struct {
	Envelope envelopeRow `json:"envelope"`
	Size     int64       `json:"size"`
	Created  time.Time   `json:"created"`
	Fault    bool        `json:"fault,omitempty"` // held by our own faults and not refused: kept until the operator acts
	retry
}

// refused tells a held message that its peer's doing put there.
func (r inboundRow) refused() bool { return r.State == stateHeld && !r.Fault }

type outboundRow struct {
	MessageID string    `json:"message_id"`
	From      string    `json:"from"`
	Report    bool      `json:"report,omitempty"`
	Size      int64     `json:"size"`
	Created   time.Time `json:"created"`
}

type dueRow struct {
	To string `json:"to"`
	retry
}

type publishRow struct {
	Recipient string    `json:"recipient"`
	Digest    []byte    `json:"digest"`
	Staged    string    `json:"staged"`
	Created   time.Time `json:"created"`
	retry
}

type envelopeRow struct {
	From     string    `json:"from,omitempty"`
	NullPath bool      `json:"null_path,omitempty"`
	To       []string  `json:"to"`
	Peer     string    `json:"peer,omitempty"`
	Helo     string    `json:"helo,omitempty"`
	TLS      string    `json:"tls,omitempty"`
	At       time.Time `json:"at"`
}

func rowOfEnvelope(e mail.Envelope) envelopeRow {
	r := envelopeRow{From: e.From.String(), NullPath: e.NullPath, Helo: e.Helo, TLS: e.TLS, At: e.At}
	if e.Peer.IsValid() {
		r.Peer = e.Peer.String()
	}
	for _, to := range e.To {
		r.To = append(r.To, to.String())
	}
	return r
}

func (r envelopeRow) envelope(id string) (mail.Envelope, error) {
	e := mail.Envelope{ID: id, NullPath: r.NullPath, Helo: r.Helo, TLS: r.TLS, At: r.At}
	var err error
	if r.From != "" {
		if e.From, err = direct.ParseAddress(r.From); err != nil {
			return e, err
		}
	}
	if r.Peer != "" {
		if e.Peer, err = netip.ParseAddrPort(r.Peer); err != nil {
			return e, err
		}
	}
	for _, s := range r.To {
		to, err := direct.ParseAddress(s)
		if err != nil {
			return e, err
		}
		e.To = append(e.To, to)
	}
	return e, nil
}

func (r publishRow) delivery() (mail.Delivery, error) {
	rcpt, err := direct.ParseAddress(r.Recipient)
	if err != nil {
		return mail.Delivery{}, err
	}
	d := mail.Delivery{Recipient: rcpt, Staged: r.Staged}
	if len(r.Digest) != len(d.Digest) {
		return mail.Delivery{}, fmt.Errorf("a digest of %d octets", len(r.Digest))
	}
	copy(d.Digest[:], r.Digest)
	return d, nil
}

// subKey is the key of a recipient's row. An ID holds no slash.
func subKey(id string, rcpt direct.Address) string { return id + "/" + rcpt.Key() }

// seenKey is the identity of a message for a recipient, of one length.
func seenKey(rcpt direct.Address, digest [32]byte) []byte {
	h := sha256.New()
	h.Write(digest[:])
	h.Write([]byte(rcpt.Key()))
	return h.Sum(nil)
}

// timeKey orders times as octets; it holds for times after 1970.
func timeKey(t time.Time) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(t.Unix()))
}

// get reads a row. ok is false where there is none.
func get(tx *bolt.Tx, bucket []byte, key string, row any) (ok bool, err error) {
	b := tx.Bucket(bucket).Get([]byte(key))
	if b == nil {
		return false, nil
	}
	if err := json.Unmarshal(b, row); err != nil {
		return false, fmt.Errorf("index row %s %s: %w", bucket, key, err)
	}
	return true, nil
}

func put(tx *bolt.Tx, bucket []byte, key string, row any) error {
	b, err := json.Marshal(row)
	if err != nil {
		return fmt.Errorf("index row %s %s: %w", bucket, key, err)
	}
	return tx.Bucket(bucket).Put([]byte(key), b)
}

func del(tx *bolt.Tx, bucket []byte, key string) error {
	return tx.Bucket(bucket).Delete([]byte(key))
}

// each calls fn for every key that begins with prefix, and its row. fn must
// not change the bucket.
func each(tx *bolt.Tx, bucket []byte, prefix string, fn func(key string, row []byte) error) error {
	c := tx.Bucket(bucket).Cursor()
	for k, v := c.Seek([]byte(prefix)); k != nil && strings.HasPrefix(string(k), prefix); k, v = c.Next() {
		if err := fn(string(k), v); err != nil {
			return err
		}
	}
	return nil
}

// dueRows returns the rows of one outbound message, in the order of their keys.
func dueRows(tx *bolt.Tx, id string) (rows []rcptRow, err error) {
	err = each(tx, bktDue, id+"/", func(key string, b []byte) error {
		r := rcptRow{key: key}
		if err := json.Unmarshal(b, &r.dueRow); err != nil {
			return fmt.Errorf("index row %s %s: %w", bktDue, key, err)
		}
		if r.to, err = direct.ParseAddress(r.To); err != nil {
			return fmt.Errorf("index row %s %s: %w", bktDue, key, err)
		}
		rows = append(rows, r)
		return nil
	})
	return rows, err
}

// rcptRow is a dueRow with its key and its address.
type rcptRow struct {
	key string
	to  direct.Address
	dueRow
}

// openIndex opens the index, or makes one under another name, flushes it and
// gives it its name, so that a crash in the middle of the first start leaves
// nothing half made (bbolt cannot open a file of which only a part arrived).
func openIndex(path string) (*bolt.DB, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := makeIndex(path); err != nil {
			return nil, fmt.Errorf("make %s: %w", path, err)
		}
	}
	db, err := bolt.Open(path, 0o600, boltOptions())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	err = db.View(func(tx *bolt.Tx) error {
		for _, name := range buckets {
			if tx.Bucket(name) == nil {
				return fmt.Errorf("%s is not an index of this queue: it has no bucket %q", path, name)
			}
		}
		if got := tx.Bucket(bktMeta).Get([]byte("format")); string(got) != format {
			return fmt.Errorf("%s has format %q; this version reads %q", path, got, format)
		}
		return nil
	})
	if err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

func boltOptions() *bolt.Options {
	return &bolt.Options{
		Timeout:         lockTimeout,
		FreelistType:    bolt.FreelistMapType,
		NoFreelistSync:  true, // the list of free pages is found again at the start; commits write less
		InitialMmapSize: mmapSize,
	}
}

func makeIndex(path string) error {
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := bolt.Open(tmp, 0o600, boltOptions())
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range buckets {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		return tx.Bucket(bktMeta).Put([]byte("format"), []byte(format))
	})
	if err = errors.Join(err, db.Sync(), db.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}
