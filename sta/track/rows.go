package track

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"directnode/internal/direct"
	"directnode/store/kv"
)

// Keys. MESSAGE is DIRECTION/ID NUL FROM: two senders may use one Message-ID.
const (
	keyFormat       = "format"      // the version of all this (docs/adr/0043)
	prefixMessage   = "message/"    // MESSAGE → messageRow
	prefixRecipient = "recipient/"  // MESSAGE NUL ADDRESS → Recipient
	prefixAt        = "at/"         // TIME/MESSAGE, the newest first
	prefixRefusedAt = "refused-at/" // the same for inbound messages that came to nobody
	prefixStray     = "stray/"      // ID NUL HASH → strayRow: about nobody whom we know
	prefixStrayAt   = "stray-at/"   // TIME/ID NUL HASH
	format          = "1"
)

type messageRow struct {
	Direction Direction `json:"direction"`
	MessageID string    `json:"message_id"`
	From      string    `json:"from"`
	At        time.Time `json:"at"`
}

func (r messageRow) message() Message {
	return Message{Direction: r.Direction, MessageID: r.MessageID, From: r.From, At: r.At}
}

// keyID is a Message-ID as it stands in keys.
func keyID(id string) string {
	if len(id) <= maxKeyID && !strings.Contains(id, "\x00") {
		return "=" + id
	}
	sum := sha256.Sum256([]byte(id))
	return "#" + hex.EncodeToString(sum[:])
}

func keyOf(m Message) string {
	return messagePrefix(m.Direction, m.MessageID) + strings.ToLower(m.From)
}

// messagePrefix begins the keys of all messages of one Message-ID.
func messagePrefix(d Direction, id string) string { return string(d) + "/" + keyID(id) + "\x00" }

// recipientKey: addresses are compared without regard to case (AS 4.1.1); the
// lower case of Address.String is Address.Key.
func recipientKey(message, address string) string {
	return prefixRecipient + message + "\x00" + strings.ToLower(address)
}

// newestFirst orders times downward as text. Times before 1970, the zero time
// among them, are as old as can be.
func newestFirst(t time.Time) string {
	if t.Unix() < 0 {
		t = time.Unix(0, 0)
	}
	return fmt.Sprintf("%016x", uint64(math.MaxInt64-t.UnixNano()))
}

// changes collects a transaction.
type changes struct {
	conds []kv.Cond
	ops   []kv.Op
	err   error
}

// put writes a row that had the revision rev when it was read; 0 is absent.
func (c *changes) put(key string, rev int64, row any) {
	b, err := json.Marshal(row)
	c.err = errors.Join(c.err, err)
	c.conds = append(c.conds, kv.Cond{Key: key, Rev: rev})
	c.ops = append(c.ops, kv.Op{Kind: kv.Put, Key: key, Value: b})
}

func (c *changes) has(key string) bool {
	return slices.ContainsFunc(c.ops, func(o kv.Op) bool { return o.Key == key })
}

// change reads, decides and writes, again if somebody else wrote in between.
func (t *Track) change(ctx context.Context, decide func() ([]kv.Cond, []kv.Op, error)) error {
	for n := 0; ; n++ {
		conds, ops, err := decide()
		if err != nil || len(ops) == 0 {
			return err
		}
		if _, err = t.db.Txn(ctx, conds, ops); !errors.Is(err, kv.ErrConflict) || n == maxConflicts {
			return err
		}
	}
}

// get reads a row. rev is 0 where there is none.
func (t *Track) get(ctx context.Context, key string, row any) (rev int64, err error) {
	e, err := t.db.Get(ctx, key)
	if errors.Is(err, kv.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return e.Rev, decode(e, row)
}

func decode(e kv.KV, row any) error {
	if err := json.Unmarshal(e.Value, row); err != nil {
		return fmt.Errorf("row %q: %w", e.Key, err)
	}
	return nil
}

// found is a recipient's row as it was read.
type found struct {
	key  string
	rev  int64
	from string // whose message it is, as a key
	Recipient
}

// recipients returns the rows of one recipient in our messages of one
// Message-ID; most often there is one.
func (t *Track) recipients(ctx context.Context, messageID string, rcpt direct.Address) (rows []found, err error) {
	prefix := messagePrefix(Out, messageID)
	messages, _, err := kv.All(ctx, t.db, prefixMessage+prefix)
	for _, m := range messages {
		k := strings.TrimPrefix(m.Key, prefixMessage)
		f := found{key: recipientKey(k, rcpt.String()), from: k[len(prefix):]}
		if f.rev, err = t.get(ctx, f.key, &f.Recipient); err != nil {
			return nil, err
		}
		if f.rev != 0 {
			rows = append(rows, f)
		}
	}
	return rows, err
}

// checkFormat marks a new store, and refuses one that a later version wrote.
func (t *Track) checkFormat(ctx context.Context) error {
	e, err := t.db.Get(ctx, keyFormat)
	switch {
	case errors.Is(err, kv.ErrNotFound):
		_, err = t.db.Txn(ctx, []kv.Cond{{Key: keyFormat}}, []kv.Op{{Kind: kv.Put, Key: keyFormat, Value: []byte(format)}})
	case err == nil && string(e.Value) != format:
		err = fmt.Errorf("format %q; this version reads %q", e.Value, format)
	}
	if err != nil {
		return fmt.Errorf("track: %w", err)
	}
	return nil
}
