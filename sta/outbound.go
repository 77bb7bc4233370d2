package sta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"directnode/internal/cms"
	"directnode/internal/direct"
	"directnode/internal/mail"
	"directnode/resolver/trust"
	"directnode/sta/report"
	"directnode/sta/smime"
)

// Send takes a submitted message, in clear and in memory only, and returns once
// its sealed form is durable for every recipient that can have it. Recipients
// that cannot are reported to the sender: by the reply where there is nobody
// left, by a delivery status notification in the sender's mailbox otherwise.
// The text it returns goes into the 250 reply. Errors are *mail.Reply, or
// internal errors of which the submitter learns nothing but "later".
func (a *Agent) Send(ctx context.Context, env mail.Envelope, message []byte, at time.Time) (string, error) {
	keys := a.keys()
	sub, err := a.checkSubmission(keys, env, message, at)
	if err != nil {
		return "", err
	}
	signers, err := signersFor(keys, env.From, at)
	if err != nil {
		return "", err
	}
	verdicts := a.judgeAll(ctx, keys, env, at)
	sealed, err := a.seal(sub, env, signers, verdicts, at)
	if err != nil {
		return "", err
	}
	if err := a.story.Sent(ctx, env, sub.messageID, verdicts); err != nil {
		return "", err
	}
	if len(sealed) == 0 {
		return "", refuseAll(verdicts)
	}
	bounce, err := a.stageRefused(ctx, env, sub.messageID, verdicts, at)
	if err == nil {
		err = a.queue.Put(ctx, sealed...)
	}
	if err != nil {
		// The submitter sends all of it again: nothing of it may be queued, and the
		// report, which would be one more for each attempt, is shown last.
		ctx := context.WithoutCancel(ctx) // the submitter may be gone
		return "", errors.Join(err, a.story.Withdrawn(ctx, env, sub.messageID, "not accepted: try again"), a.discard(bounce))
	}
	if bounce != "" {
		if err := a.box.Publish(ctx, env.From, bounce); err != nil {
			// What is queued is queued: a refusal now would have it sent twice. The
			// story has the verdicts.
			a.o.Log.Error("the report about refused recipients stays staged", "id", env.ID, "err", err)
		}
	}
	return fmt.Sprintf("accepted as %s for %d of %d recipients", env.ID, len(env.To)-refused(verdicts), len(env.To)), nil
}

// submission is a message that was checked and completed.
type submission struct {
	message   []byte
	messageID string
	visible   map[string]bool // keys of the addresses in To and Cc
}

// checkSubmission holds the message against AS 2.1 and 2.2 and adds what the
// submitter left out: Message-ID and Date (RFC 6409 §8.2, §8.3).
func (a *Agent) checkSubmission(keys Keys, env mail.Envelope, message []byte, at time.Time) (submission, error) {
	var sub submission
	if env.NullPath || env.From.IsZero() {
		return sub, replyNullPath
	}
	if !keys.Local(env.From.Domain()) {
		return sub, replyNotLocal
	}
	h, _, err := mail.Split(message)
	if err != nil {
		return sub, malformed("the submission is no Internet message (RFC 5322): " + err.Error())
	}
	if err := mail.CheckStructure(message); err != nil { // AS 2.1-b
		return sub, malformed("the submission is no valid MIME message: " + err.Error())
	}
	if reply := checkSender(h, env.From); reply != nil {
		return sub, reply
	}
	var missing bytes.Buffer
	if id, ok := mail.MessageID(h.Get("Message-ID")); ok {
		sub.messageID = id
	} else {
		field := mail.NewMessageID(a.o.Hostname, nil)
		sub.messageID, _ = mail.MessageID(field)
		fmt.Fprintf(&missing, "Message-ID: %s\r\n", field)
	}
	if !h.Has("Date") {
		fmt.Fprintf(&missing, "Date: %s\r\n", mail.FormatDate(at))
	}
	sub.message = append(missing.Bytes(), withoutBcc(h, message)...)
	sub.visible = make(map[string]bool)
	for _, name := range []string{"To", "Cc"} {
		for _, v := range h.All(name) {
			addrs, err := mail.ParseAddressList(v)
			if err != nil {
				return sub, malformed("field " + name + ": " + err.Error())
			}
			for _, addr := range addrs {
				sub.visible[addr.Key()] = true
			}
		}
	}
	return sub, nil
}

// withoutBcc removes Bcc and Resent-Bcc fields, which are for the submission
// only (RFC 5322 §3.6.3, §3.6.6); every other octet stays.
func withoutBcc(h mail.Header, message []byte) []byte {
	if !h.Has("Bcc") && !h.Has("Resent-Bcc") {
		return message
	}
	var out bytes.Buffer
	at := 0
	for _, f := range h {
		if !strings.EqualFold(f.Name, "Bcc") && !strings.EqualFold(f.Name, "Resent-Bcc") {
			out.Write(f.Raw)
		}
		at += len(f.Raw)
	}
	out.Write(message[at:])
	return out.Bytes()
}

// checkSender demands one From with one address, and an envelope sender that is
// this address or the Sender's: signatures are made for the actual sender
// (AS 2.2, 2.4). A Sender speaks for a From of its own domain only: what people
// read is From, and a signature that is bound to mallory@x must not vouch for
// ceo@y.
func checkSender(h mail.Header, sender direct.Address) error {
	fields := h.All("From")
	if len(fields) != 1 {
		return malformed(fmt.Sprintf("the message has %d From fields; it needs exactly one", len(fields)))
	}
	from, err := mail.ParseAddressList(fields[0])
	switch {
	case err != nil:
		return malformed("field From: " + err.Error())
	case len(from) != 1:
		return malformed(fmt.Sprintf("field From holds %d addresses; it needs exactly one", len(from)))
	case from[0].Equal(sender):
		return nil
	}
	for _, v := range h.All("Sender") {
		addrs, err := mail.ParseAddressList(v)
		if err != nil {
			return malformed("field Sender: " + err.Error())
		}
		if len(addrs) != 1 || !addrs[0].Equal(sender) {
			continue
		}
		if from[0].Domain() != sender.Domain() {
			return replyFromForeign
		}
		return nil
	}
	return replyFromDiffer
}

// signersFor gives the pair that signs for the sender now (AS 1.4-j): the most
// specific one, the newest of those. One signature is enough for every
// verifier, and some look at the first SignerInfo only.
func signersFor(keys Keys, sender direct.Address, at time.Time) ([]cms.Signer, error) {
	pairs, err := keys.Pairs(sender)
	if err != nil {
		return nil, fmt.Errorf("keys of %s: %w", sender, err)
	}
	for _, p := range pairs {
		if maySign(p.Certificate) && !at.Before(p.Certificate.NotBefore) && !at.After(p.Certificate.NotAfter) {
			return []cms.Signer{p.Signer}, nil
		}
	}
	return nil, replyNoKey
}

// maxLookups is how many recipients of one submission are looked up at a time.
// One after another, the slow directories of a hundred recipients would take
// longer than the ten minutes that a submitter waits (RFC 5321 §4.5.3.2.6).
const maxLookups = 16

// judgeAll gives one verdict per recipient, in the order of the envelope.
func (a *Agent) judgeAll(ctx context.Context, keys Keys, env mail.Envelope, at time.Time) []Verdict {
	anchors := keys.Anchors(env.From.Domain(), Out)
	verdicts := make([]Verdict, len(env.To))
	slots := make(chan struct{}, maxLookups)
	var wg sync.WaitGroup
	var failed atomic.Value // a panic belongs to this submission, not to the process
	for i, rcpt := range env.To {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					failed.Store(fmt.Sprintf("%v\n%s", p, debug.Stack()))
				}
				<-slots
			}()
			verdicts[i] = a.judge(ctx, a.finder, rcpt, env.From.Domain(), anchors, at)
		})
	}
	wg.Wait()
	if p := failed.Load(); p != nil {
		panic(p)
	}
	for _, v := range verdicts {
		a.audit(env.ID, v, "encrypt")
	}
	return verdicts
}

// seal signs once and seals for those who can have the message: one envelope
// for the recipients that stand in To or Cc, one of its own for every other, so
// that nobody learns of a blind copy (RFC 5322 §3.6.3).
func (a *Agent) seal(sub submission, env mail.Envelope, signers []cms.Signer, verdicts []Verdict, at time.Time) ([]smime.Sealed, error) {
	var groups [][]trust.Trusted
	var open []trust.Trusted
	for _, v := range verdicts {
		switch {
		case v.Refusal != nil:
		case sub.visible[v.Address.Key()]:
			open = append(open, v.Trusted...)
		default:
			groups = append(groups, v.Trusted)
		}
	}
	if len(open) > 0 {
		groups = append(groups, open)
	}
	if len(groups) == 0 {
		return nil, nil
	}
	signed, err := smime.Sign(sub.message, signers, at)
	var unfit *smime.Refusal
	if errors.As(err, &unfit) {
		return nil, malformed(unfit.Detail + " (" + unfit.Citation + ")")
	}
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", env.ID, err)
	}
	var sealed []smime.Sealed
	for _, g := range groups {
		s, err := smime.Seal(signed, env.From, g, smime.SealOptions{Transport: a.o.Transport})
		if err != nil {
			return nil, fmt.Errorf("seal %s: %w", env.ID, err)
		}
		sealed = append(sealed, s)
	}
	return sealed, nil
}

// stageRefused stages a failed delivery status notification about the refused
// recipients in the sender's own mailbox, "" where none was refused. It never
// leaves the node.
func (a *Agent) stageRefused(ctx context.Context, env mail.Envelope, messageID string, verdicts []Verdict, at time.Time) (staged string, err error) {
	var failures []report.Failure
	for _, v := range verdicts {
		if v.Refusal != nil {
			failures = append(failures, report.Failure{Recipient: v.Address, Status: status(v.Refusal), Reason: reason(v.Refusal)})
		}
	}
	if len(failures) == 0 {
		return "", nil
	}
	return a.stageBounce(ctx, env.From, messageID, env.ID+".dsn", failures, at)
}

// stageBounce writes a delivery status notification where the mailbox of one of
// ours does not show it yet.
func (a *Agent) stageBounce(ctx context.Context, sender direct.Address, messageID, name string, failures []report.Failure, at time.Time) (staged string, err error) {
	dsn := report.DSN{
		To:                sender,
		ReportingMTA:      a.o.Hostname,
		OriginalMessageID: messageID,
		MessageID:         mail.NewMessageID(a.o.Hostname, []byte(name)),
		At:                at,
		Failures:          failures,
	}
	composed, err := dsn.Compose()
	if err != nil {
		return "", fmt.Errorf("compose the report about %s: %w", messageID, err)
	}
	if staged, err = a.box.Stage(ctx, sender, name, bytes.NewReader(composed)); err != nil {
		return "", fmt.Errorf("report about %s: %w", messageID, err)
	}
	return staged, nil
}

// discard removes a staged report, if there is one.
func (a *Agent) discard(staged string) error {
	if staged == "" {
		return nil
	}
	return a.box.Discard(staged)
}

// Undelivered records that a message was given up for one recipient and tells
// the sender, unless the recipient's agent has said that it has the message: a
// connection that broke after the last octet looks like a failure to us only.
// Reports are given up silently: no report about a report (AS 3.0-i).
func (a *Agent) Undelivered(ctx context.Context, id, messageID string, sender, rcpt direct.Address, last error, at time.Time) error {
	applied, err := a.story.Failed(ctx, messageID, sender, rcpt, last.Error(), at)
	if err != nil {
		return err
	}
	if !applied {
		a.o.Log.Info("given up, but its recipient has it; the sender is not told", "id", id, "recipient", rcpt.String())
		return nil
	}
	if !a.keys().Local(sender.Domain()) {
		return nil
	}
	f := report.Failure{Recipient: rcpt, Status: "5.0.0", Reason: "the message could not be delivered and is given up; the last answer was: " + last.Error()}
	staged, err := a.stageBounce(ctx, sender, messageID, id+"."+shortHash(rcpt.Key())+".dsn", []report.Failure{f}, at)
	if err != nil {
		return err
	}
	return a.box.Publish(ctx, sender, staged)
}

func refused(verdicts []Verdict) int {
	n := 0
	for _, v := range verdicts {
		if v.Refusal != nil {
			n++
		}
	}
	return n
}
