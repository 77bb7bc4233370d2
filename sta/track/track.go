// Package track keeps the mail's story: for every message and recipient what
// became of it, and every notification about it, counted or not.
//
// Data in: verdicts of the agent (Expect, Delivered), results of the queue
// (Sent, Failed) and notifications that arrived (Record). Data out: the story
// as an administrator reads it (Show, List), and for each notification whether
// it counts.
//
// Notifications come from outside. One counts only if it is about a message
// that we sent to the recipient that it speaks of, if it came to the sender of
// that message, and if the address that its verified and trusted signature is
// bound to is that recipient (AS 3.0-g: reports go from the original receiver
// to the original sender; RFC 3798 §6.1: a notification can be forged like any
// other mail). A failure may be told by any address of the recipient's domain.
// The others are kept with the reason, and change nothing.
//
// The states of an outbound recipient only go forward, whatever the order in
// which things are heard of:
//
//	refused < queued < sent < processed < dispatched, failed, timed_out
//
// "sent" may be recorded after "processed" has arrived, and a notification may
// arrive twice. Everything here may be repeated: events carry their own
// identity, a notification its Message-ID.
//
// Sources: AS 3.1.1, 3.2, 3.3; RFC 3798 §3.2.6 (dispositions); the
// Implementation Guide for Delivery Notification in Direct (states, late
// notifications are suppressed).
package track

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"directnode/internal/direct"
	"directnode/store/kv"
)

// Direction tells our messages from those of others.
type Direction string

// The two directions, and the names under which administrators see them.
const (
	Out Direction = "out"
	In  Direction = "in"
)

// State is what has become of a message for one recipient.
type State string

// The states of an outbound recipient; an inbound one is Delivered or Refused.
const (
	Refused    State = "refused"    // by our own trust decision; nothing was sent
	Queued     State = "queued"     // sealed and durable
	Sent       State = "sent"       // the recipient's node has answered 250
	Processed  State = "processed"  // its agent has trusted and taken the message (AS 3.2)
	Dispatched State = "dispatched" // it has handed the message to the final destination
	Failed     State = "failed"     // given up by us, or failed according to the recipient's agent
	TimedOut   State = "timed_out"  // no notification within the time
	Delivered  State = "delivered"  // inbound: due in the recipient's mailbox
)

// rank orders the outbound states. A state replaces only one of lower rank.
func (s State) rank() int {
	switch s {
	case Queued:
		return 1
	case Sent:
		return 2
	case Processed:
		return 3
	case Dispatched, Failed, TimedOut:
		return 4
	}
	return 0 // Refused: a later submission of the same message may do better
}

// Message is the story of one message.
type Message struct {
	Direction     Direction   `json:"direction"`
	MessageID     string      `json:"message_id"` // without brackets
	From          string      `json:"from"`
	At            time.Time   `json:"at"`
	Submission    string      `json:"-"` // our name for the submission, for Expect; it stands with the recipients
	Recipients    []Recipient `json:"recipients"`
	Notifications []Note      `json:"notifications,omitempty"` // about nobody whom the message went to; never counted
}

// Recipient is the story of a message for one recipient.
type Recipient struct {
	Address       string `json:"address"` // as direct.Address.String gives it
	State         State  `json:"state"`
	Reason        string `json:"reason,omitempty"`
	Submission    string `json:"submission,omitempty"`    // the one that made it queued
	Notifications []Note `json:"notifications,omitempty"` // in the order of their arrival
}

// Note is a notification that was kept.
type Note struct {
	MessageID   string    `json:"message_id"`
	Disposition string    `json:"disposition"`
	At          time.Time `json:"at"`
	Counted     bool      `json:"counted"`
	Reason      string    `json:"reason,omitempty"` // of a failure, or why it does not count
	Signer      string    `json:"signer,omitempty"`
	To          string    `json:"to,omitempty"`        // whom it came to
	Recipient   string    `json:"recipient,omitempty"` // whom it speaks of, where it stands with the message
}

// Notification is a notification that arrived, decrypted and parsed.
type Notification struct {
	MessageID   string         // of the notification itself
	Original    string         // the Message-ID of the message that it is about
	Recipient   direct.Address // whom it speaks of
	To          direct.Address // whom it came to
	Signer      direct.Address // whom its signature is bound to: verified and trusted; zero if it is not
	Disposition string         // processed, dispatched, displayed, failed …
	Reason      string
	At          time.Time
}

// Options are the settings of a Track. The zero value is usable.
type Options struct {
	Keep time.Duration // how long a message is remembered; 0 means 90 days. One that came to nobody: 7 days
	Log  *slog.Logger
}

// Track is the mail's story in a store. Its methods may be called concurrently.
type Track struct {
	db kv.Store
	o  Options

	mu     sync.Mutex
	pruned time.Time // when old stories were last looked for; guarded by mu
}

// Open makes a Track on a store that nobody else writes to.
func Open(ctx context.Context, db kv.Store, o Options) (*Track, error) {
	if o.Keep <= 0 {
		o.Keep = defaultKeep
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	t := &Track{db: db, o: o}
	return t, t.checkFormat(ctx)
}

// Expect records a message that was submitted, with the verdict on each
// recipient as its first state. When it returns nil a notification about it
// will be recognized. A message that is submitted again keeps the states that
// are further on.
func (t *Track) Expect(ctx context.Context, m Message) error {
	m.Direction = Out
	return t.record(ctx, m)
}

// Delivered records an inbound message and what became of it for each of its
// recipients.
func (t *Track) Delivered(ctx context.Context, m Message) error {
	m.Direction = In
	return t.record(ctx, m)
}

func (t *Track) record(ctx context.Context, m Message) error {
	if m.MessageID == "" {
		return fmt.Errorf("track: a message without an identifier")
	}
	k := keyOf(m)
	err := t.change(ctx, func() ([]kv.Cond, []kv.Op, error) {
		var c changes
		if err := t.putMessage(ctx, &c, k, m); err != nil {
			return nil, nil, err
		}
		for _, r := range m.Recipients {
			if err := t.merge(ctx, &c, k, m, r); err != nil {
				return nil, nil, err
			}
		}
		return c.conds, c.ops, c.err
	})
	if err != nil {
		return fmt.Errorf("track: message %s: %w", m.MessageID, err)
	}
	t.pruneNowAndThen(ctx, m.At)
	return nil
}

// putMessage records the message itself, once.
func (t *Track) putMessage(ctx context.Context, c *changes, k string, m Message) error {
	_, err := t.db.Get(ctx, prefixMessage+k)
	if err == nil {
		return nil
	}
	if !errors.Is(err, kv.ErrNotFound) {
		return err
	}
	c.put(prefixMessage+k, 0, messageRow{Direction: m.Direction, MessageID: m.MessageID, From: m.From, At: m.At})
	c.put(prefixAt+newestFirst(m.At)+"/"+k, 0, struct{}{})
	if m.Direction == In && !arrived(m.Recipients) {
		c.put(prefixRefusedAt+newestFirst(m.At)+"/"+k, 0, struct{}{})
	}
	return nil
}

// arrived tells whether an inbound message came to anybody.
func arrived(rcpts []Recipient) bool {
	return slices.ContainsFunc(rcpts, func(r Recipient) bool { return r.State == Delivered })
}

// merge records one recipient. One that is there moves only forward.
func (t *Track) merge(ctx context.Context, c *changes, k string, m Message, r Recipient) error {
	d := m.Direction
	key := recipientKey(k, r.Address)
	if c.has(key) {
		return nil // named twice
	}
	var old Recipient
	rev, err := t.get(ctx, key, &old)
	if err != nil {
		return err
	}
	r.Notifications = old.Notifications
	r.Reason = short(r.Reason, maxText)
	if r.Submission = ""; d == Out && r.State == Queued {
		r.Submission = m.Submission
	}
	switch {
	case rev == 0:
	case d == In && old.State == Delivered: // what was delivered stays so when it is sent again
		return nil
	case d == Out && old.State.rank() >= r.State.rank() && old.State.rank() > 0:
		return nil
	}
	c.put(key, rev, r)
	return nil
}

// Sent records that the recipient's node has taken the message.
func (t *Track) Sent(ctx context.Context, messageID string, from, rcpt direct.Address, _ time.Time) error {
	return t.advance(ctx, messageID, from, rcpt, Sent, "")
}

// Failed records that the queue has given up. It changes nothing for a
// recipient whose agent has told us that it has the message; applied is false
// then, and the sender must not hear of a failure. A failure that was recorded
// before applies again, and one of a message that is not known (any more).
func (t *Track) Failed(ctx context.Context, messageID string, from, rcpt direct.Address, reason string, _ time.Time) (applied bool, err error) {
	if err := t.advance(ctx, messageID, from, rcpt, Failed, reason); err != nil {
		return false, err
	}
	rows, err := t.recipients(ctx, messageID, rcpt)
	if err != nil {
		return false, fmt.Errorf("track: %s to %s: %w", messageID, rcpt, err)
	}
	confirmed := func(f found) bool {
		return f.from == from.Key() && (f.State == Processed || f.State == Dispatched)
	}
	return !slices.ContainsFunc(rows, confirmed), nil
}

// Withdraw takes back what Expect recorded for a submission that the queue did
// not take: its recipients are refused with the reason. What another
// submission of the same message made queued, before or after, stays.
func (t *Track) Withdraw(ctx context.Context, m Message, reason string) error {
	m.Direction = Out
	err := t.change(ctx, func() ([]kv.Cond, []kv.Op, error) {
		var c changes
		all, _, err := kv.All(ctx, t.db, recipientKey(keyOf(m), ""))
		for _, e := range all {
			var r Recipient
			if err := decode(e, &r); err != nil {
				return nil, nil, err
			}
			if r.State != Queued || r.Submission != m.Submission || m.Submission == "" {
				continue
			}
			r.State, r.Reason, r.Submission = Refused, short(reason, maxText), ""
			c.put(e.Key, e.Rev, r)
		}
		return c.conds, c.ops, errors.Join(err, c.err)
	})
	if err != nil {
		return fmt.Errorf("track: message %s: %w", m.MessageID, err)
	}
	return nil
}

// advance moves a recipient forward by an event of our own. A message that is
// not known (any more) is no error: the queue must not stop for its story.
func (t *Track) advance(ctx context.Context, messageID string, from, rcpt direct.Address, s State, reason string) error {
	err := t.change(ctx, func() ([]kv.Cond, []kv.Op, error) {
		var c changes
		found, err := t.recipients(ctx, messageID, rcpt)
		for _, f := range found {
			now := f.State.rank()
			if f.from != from.Key() || now == 0 || now >= s.rank() || now >= Processed.rank() {
				continue
			}
			f.State, f.Reason = s, short(reason, maxText)
			c.put(f.key, f.rev, f.Recipient)
		}
		return c.conds, c.ops, errors.Join(err, c.err)
	})
	if err != nil {
		return fmt.Errorf("track: %s to %s: %w", messageID, rcpt, err)
	}
	return nil
}

// Record keeps a notification and tells whether it counts. Recording it again
// gives the same answer and changes nothing.
func (t *Track) Record(ctx context.Context, n Notification) (counted bool, err error) {
	err = t.change(ctx, func() ([]kv.Cond, []kv.Op, error) {
		var c changes
		found, err := t.recipients(ctx, n.Original, n.Recipient)
		if err != nil {
			return nil, nil, err
		}
		counted = false
		for _, f := range meant(found, n.To) {
			if i := slices.IndexFunc(f.Notifications, func(o Note) bool { return o.same(noteOf(n)) }); i >= 0 {
				counted = counted || f.Notifications[i].Counted
				continue
			}
			note := judge(n, f.from, &f.Recipient)
			f.Notifications = keep(f.Notifications, note)
			c.put(f.key, f.rev, f.Recipient)
			counted = counted || note.Counted
		}
		if len(found) == 0 {
			err = t.putStray(ctx, &c, n)
		}
		return c.conds, c.ops, errors.Join(err, c.err)
	})
	if err != nil {
		return false, fmt.Errorf("track: notification %s: %w", n.MessageID, err)
	}
	return counted, nil
}

// meant leaves out the messages of others that have the same Message-ID, where
// one is from whom the notification came to.
func meant(rows []found, to direct.Address) []found {
	others := func(f found) bool { return f.from != to.Key() }
	if own := slices.DeleteFunc(slices.Clone(rows), others); len(own) > 0 {
		return own
	}
	return rows
}

// same tells a notification that is recorded again. What came to two of ours is
// two.
func (n Note) same(o Note) bool {
	return n.MessageID == o.MessageID && n.Signer == o.Signer && n.To == o.To
}

// judge decides whether a notification about a message of from's that went to
// r counts, and moves r forward if it does.
func judge(n Notification, from string, r *Recipient) Note {
	note := noteOf(n)
	next := stateOf(n.Disposition)
	switch {
	case n.Signer.IsZero():
		note.Reason = "not authenticated: no trusted signature"
	case !speaksFor(n.Signer, n.Recipient, next):
		note.Reason = "not authenticated: signed by another address than the recipient"
	case !mayHear(n.To, from, next):
		note.Reason = "came to another address than the sender of the message"
	case r.State == Refused:
		note.Reason = "the message was not sent to this recipient"
	case r.State == TimedOut:
		// The sender has been told of a failure; saying otherwise now would
		// leave nobody knowing what is true.
		note.Reason = "came after the time-out"
	case next == "" && !strings.EqualFold(n.Disposition, "displayed"):
		note.Reason = "a disposition that says nothing about delivery"
	default:
		note.Counted = true
	}
	if note.Counted && next.rank() > r.State.rank() {
		r.State, r.Reason = next, note.Reason
	}
	return note
}

// speaksFor tells whether a signer may say so of a recipient. That a message
// arrived is said by the recipient's own agent in the recipient's name; that it
// did not, by any address of the recipient's domain: the recipient may have no
// key to sign with, and the Java reference implementation writes as postmaster.
func speaksFor(signer, rcpt direct.Address, says State) bool {
	return signer.Equal(rcpt) || says == Failed && !rcpt.IsZero() && signer.Domain() == rcpt.Domain()
}

// mayHear tells whether a notification came to the right place: reports go to
// the original sender (AS 3.0-g), so that nobody reads in his mailbox of what
// somebody else has sent. "Processed" is delivered to nobody, and may be asked
// for at another address (AS 3.2-g): one of the sender's domain will do.
func mayHear(to direct.Address, from string, says State) bool {
	if says == Processed && !to.IsZero() {
		return strings.HasSuffix(from, "@"+to.Domain().String())
	}
	return to.Key() == from
}

func noteOf(n Notification) Note {
	return Note{MessageID: n.MessageID, Disposition: short(n.Disposition, maxPeerText), At: n.At, Reason: short(n.Reason, maxPeerText), Signer: n.Signer.String(), To: n.To.String()}
}

// stateOf is the state that a disposition brings (RFC 3798 §3.2.6.2,
// AS 3.1.1-b and -c).
func stateOf(disposition string) State {
	switch s := State(strings.ToLower(disposition)); s {
	case Processed, Dispatched, Failed:
		return s
	}
	return ""
}

// keep appends a note. When there are too many, the oldest that does not count
// makes room: it is what an attacker can make many of.
func keep(notes []Note, n Note) []Note {
	notes = append(notes, n)
	if len(notes) <= maxNotes {
		return notes
	}
	i := max(0, slices.IndexFunc(notes, func(o Note) bool { return !o.Counted }))
	return slices.Delete(notes, i, i+1)
}
