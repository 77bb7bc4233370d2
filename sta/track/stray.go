package track

import (
	"context"
	"crypto/sha256"
	"encoding/hex"

	"directnode/store/kv"
)

// strayPrefix begins the keys of the strays about one Message-ID.
func strayPrefix(original string) string { return prefixStray + keyID(original) + "\x00" }

// putStray keeps a notification about a message or a recipient that we do not
// know, once.
func (t *Track) putStray(ctx context.Context, c *changes, n Notification) error {
	sum := sha256.Sum256([]byte(n.MessageID + "\x00" + n.Signer.Key() + "\x00" + n.To.Key()))
	prefix := strayPrefix(n.Original)
	key := prefix + hex.EncodeToString(sum[:16])
	all, _, err := kv.All(ctx, t.db, prefix)
	if err != nil {
		return err
	}
	for _, e := range all {
		if e.Key == key {
			return nil
		}
	}
	if len(all) >= maxNotes {
		t.o.Log.Warn("track: too many notifications about nobody; not kept", "message_id", n.Original, "notification", n.MessageID)
		return nil
	}
	messages, _, err := t.db.Scan(ctx, prefixMessage+messagePrefix(Out, n.Original), "", 1)
	if err != nil {
		return err
	}
	note := noteOf(n)
	note.Recipient = n.Recipient.String()
	note.Reason = "no message of ours has this identifier"
	if len(messages) > 0 {
		note.Reason = "the message did not go to this recipient"
	}
	c.put(key, 0, note)
	c.put(prefixStrayAt+newestFirst(n.At)+"/"+key[len(prefixStray):], 0, struct{}{})
	return nil
}

func (t *Track) strays(ctx context.Context, original string) (notes []Note, err error) {
	all, _, err := kv.All(ctx, t.db, strayPrefix(original))
	for _, e := range all {
		var n Note
		if err := decode(e, &n); err != nil {
			return nil, err
		}
		notes = append(notes, n)
	}
	return notes, err
}
