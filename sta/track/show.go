package track

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"directnode/store/kv"
)

// Show returns the story of a message by its Message-ID, which may be given
// with its brackets. Where we have both sent and received it, the sent one is
// shown. ok is false where nothing is known.
func (t *Track) Show(ctx context.Context, messageID string) (m Message, ok bool, err error) {
	messageID = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(messageID), "<"), ">")
	for _, d := range []Direction{Out, In} {
		list, _, err := t.db.Scan(ctx, prefixMessage+messagePrefix(d, messageID), "", 1)
		if err != nil {
			return Message{}, false, err
		}
		if len(list) > 0 {
			m, err := t.read(ctx, list[0])
			return m, err == nil, err
		}
	}
	return Message{}, false, nil
}

// read completes a message from its row.
func (t *Track) read(ctx context.Context, e kv.KV) (Message, error) {
	var row messageRow
	if err := decode(e, &row); err != nil {
		return Message{}, err
	}
	m := row.message()
	all, _, err := kv.All(ctx, t.db, recipientKey(strings.TrimPrefix(e.Key, prefixMessage), ""))
	if err != nil {
		return Message{}, err
	}
	m.Recipients = make([]Recipient, len(all)) // never null in JSON
	for i, e := range all {
		if err := decode(e, &m.Recipients[i]); err != nil {
			return Message{}, err
		}
	}
	if m.Direction == Out {
		m.Notifications, err = t.strays(ctx, m.MessageID)
		slices.SortStableFunc(m.Notifications, func(a, b Note) int { return a.At.Compare(b.At) })
	}
	return m, err
}

// List returns the newest messages, at most limit, the newest first.
func (t *Track) List(ctx context.Context, limit int) ([]Message, error) {
	if limit <= 0 || limit > maxList {
		limit = maxList
	}
	var messages []Message
	for after := ""; len(messages) < limit; {
		page, _, err := t.db.Scan(ctx, prefixAt, after, limit-len(messages))
		if err != nil || len(page) == 0 {
			return messages, err
		}
		for _, e := range page {
			after = e.Key
			row, err := t.db.Get(ctx, prefixMessage+afterTime(e.Key, prefixAt))
			if errors.Is(err, kv.ErrNotFound) {
				continue // pruned meanwhile
			}
			if err != nil {
				return nil, err
			}
			m, err := t.read(ctx, row)
			if err != nil {
				return nil, err
			}
			messages = append(messages, m)
		}
	}
	return messages, nil
}

// afterTime is what follows PREFIX TIME "/" in a key.
func afterTime(key, prefix string) string { return key[len(prefix)+len("0123456789abcdef/"):] }

// Prune forgets what is older than before and returns the number of messages
// and stray notifications forgotten, at most 1,000 of each at a time.
func (t *Track) Prune(ctx context.Context, before time.Time) (int, error) {
	messages, err := t.prune(ctx, prefixAt, before, t.opsOfMessage)
	if err != nil {
		return messages, err
	}
	refused, err := t.prune(ctx, prefixRefusedAt, before, t.opsOfRefused)
	if err != nil {
		return messages + refused, err
	}
	strays, err := t.prune(ctx, prefixStrayAt, before, func(_ context.Context, rest string) ([]kv.Op, error) {
		return []kv.Op{{Kind: kv.Delete, Key: prefixStray + rest}}, nil
	})
	return messages + refused + strays, err
}

// prune deletes the entries of an index of times that are older than before,
// with the rows that rowsOf finds for each.
func (t *Track) prune(ctx context.Context, index string, before time.Time, rowsOf func(context.Context, string) ([]kv.Op, error)) (n int, err error) {
	// Times are in the reverse order: the old ones follow before's.
	old, _, err := t.db.Scan(ctx, index, index+newestFirst(before)+"0", maxPrune) // '0' follows '/'
	if err != nil {
		return 0, err
	}
	for entries := range slices.Chunk(old, pruneBatch) {
		var ops []kv.Op
		for _, e := range entries {
			rows, err := rowsOf(ctx, afterTime(e.Key, index))
			if err != nil {
				return n, err
			}
			ops = append(append(ops, rows...), kv.Op{Kind: kv.Delete, Key: e.Key})
		}
		if _, err := t.db.Txn(ctx, nil, once(ops)); err != nil {
			return n, err
		}
		n += len(entries)
	}
	return n, nil
}

// once leaves out what stands in a transaction already: two entries of an
// index may lead to one row.
func once(ops []kv.Op) []kv.Op {
	seen := make(map[string]bool, len(ops))
	return slices.DeleteFunc(ops, func(o kv.Op) bool {
		again := seen[o.Key]
		seen[o.Key] = true
		return again
	})
}

// opsOfMessage deletes a message with its recipients.
func (t *Track) opsOfMessage(ctx context.Context, k string) ([]kv.Op, error) {
	ops := []kv.Op{{Kind: kv.Delete, Key: prefixMessage + k}}
	all, _, err := kv.All(ctx, t.db, recipientKey(k, ""))
	for _, e := range all {
		ops = append(ops, kv.Op{Kind: kv.Delete, Key: e.Key})
	}
	return ops, err
}

// opsOfRefused deletes an inbound message that came to nobody. One that was
// delivered after all, or is forgotten already, only leaves this index.
func (t *Track) opsOfRefused(ctx context.Context, k string) ([]kv.Op, error) {
	e, err := t.db.Get(ctx, prefixMessage+k)
	if errors.Is(err, kv.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m, err := t.read(ctx, e)
	if err != nil || arrived(m.Recipients) {
		return nil, err
	}
	ops, err := t.opsOfMessage(ctx, k)
	return append(ops, kv.Op{Kind: kv.Delete, Key: prefixAt + newestFirst(m.At) + "/" + k}), err
}

// pruneNowAndThen forgets old stories when the last time is an hour ago, or was
// not enough: a busy node must forget as fast as it learns. A failure costs
// disk space, not mail.
func (t *Track) pruneNowAndThen(ctx context.Context, at time.Time) {
	t.mu.Lock()
	due := at.Sub(t.pruned) >= pruneEvery
	if due {
		t.pruned = at
	}
	t.mu.Unlock()
	if !due {
		return
	}
	refused, err := t.prune(ctx, prefixRefusedAt, at.Add(-keepRefused), t.opsOfRefused)
	n, err2 := t.Prune(ctx, at.Add(-t.o.Keep))
	n += refused
	if err := errors.Join(err, err2); err != nil {
		t.o.Log.Warn("track: old stories not removed", "error", err)
		return
	}
	if n >= maxPrune { // there is more: at the next message
		t.mu.Lock()
		t.pruned = time.Time{}
		t.mu.Unlock()
	}
	if n > 0 {
		t.o.Log.Info("track: old stories removed", "count", n)
	}
}
