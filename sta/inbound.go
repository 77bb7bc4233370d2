package sta

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"directnode/internal/cms"
	"directnode/internal/direct"
	"directnode/internal/mail"
	"directnode/resolver/trust"
	"directnode/sta/report"
	"directnode/sta/smime"
)

// maxHops is the number of Received fields after which a message is taken to
// be in a loop; RFC 5321 §6.3 asks for at least 100 for general mail, a Direct
// message passes two or three, and Postfix stops at 50.
const maxHops = 50

// ErrRefused marks an inbound message that nobody here may have. The outside
// has had its 250 and hears nothing more (AS 3.0-j, 3.0-k); the queue keeps
// the message, encrypted as it came, for the operator.
var ErrRefused = errors.New("refused")

// refusedError carries the reasons to the log; it is permanent.
type refusedError struct{ reason string }

func (e *refusedError) Error() string   { return "refused: " + e.reason }
func (e *refusedError) Is(t error) bool { return t == ErrRefused }
func (e *refusedError) Temporary() bool { return false }

// Recipient tells whether the node takes mail for an address. A domain with an
// organizational certificate answers alike for every address, so that nobody
// learns which exist.
func (a *Agent) Recipient(rcpt direct.Address) error {
	keys := a.keys()
	if !keys.Local(rcpt.Domain()) {
		return replyRelay
	}
	pairs, err := keys.Pairs(rcpt)
	if err != nil {
		return fmt.Errorf("keys of %s: %w", rcpt, err)
	}
	if len(pairs) == 0 {
		return replyUnknown
	}
	return nil
}

// Admit judges an inbound message by its header alone, before it is stored:
// what is not an encrypted S/MIME message is not taken (AS 2.4).
func (a *Agent) Admit(header []byte) error {
	h, _, err := mail.Split(header)
	switch {
	case err != nil:
		return malformed("not an Internet message (RFC 5322)")
	case len(h.All("Received")) > maxHops:
		return replyLoop
	case !smime.Recognize(h):
		return replyUnencrypted
	}
	return nil
}

// Receive opens, verifies and judges one inbound message and settles it in the
// queue: deliveries for the recipients that may have it, a processed
// notification for each. ErrRefused: nobody may have it. Any other error is
// temporary.
func (a *Agent) Receive(ctx context.Context, id string, env mail.Envelope, raw []byte, at time.Time) error {
	keys := a.keys()
	decrypters, err := decryptersFor(keys, env.To)
	if err != nil {
		return err
	}
	verified, err := a.open(id, raw, decrypters)
	if err != nil {
		return a.refuseWhole(ctx, id, env, err)
	}
	sender, err := a.checkEnvelope(env, verified)
	if err != nil {
		return a.refuseWhole(ctx, id, env, err)
	}
	accepted, outcomes := a.accept(keys, id, env, sender, verified, at)
	if len(accepted) == 0 {
		if err := a.story.Received(ctx, env, messageID(verified), outcomes); err != nil {
			return err
		}
		return &refusedError{"no recipient trusts the signer"}
	}
	if report.IsReport(verified.Header()) {
		return a.receiveReport(ctx, id, accepted[0], at)
	}
	return a.deliver(ctx, keys, id, env, accepted, outcomes, at)
}

// decryptersFor gives the keys of the actual recipients (AS 2.4-g).
func decryptersFor(keys Keys, rcpts []direct.Address) ([]cms.Decrypter, error) {
	var decrypters []cms.Decrypter
	for _, rcpt := range rcpts {
		pairs, err := keys.Pairs(rcpt)
		if err != nil {
			return nil, fmt.Errorf("keys of %s: %w", rcpt, err)
		}
		for _, p := range pairs {
			if p.Decrypter.Key != nil {
				decrypters = append(decrypters, p.Decrypter)
			}
		}
	}
	return decrypters, nil
}

// open decrypts and verifies the signature. Nothing of the plaintext goes
// anywhere before it has verified.
func (a *Agent) open(id string, raw []byte, decrypters []cms.Decrypter) (smime.Verified, error) {
	opened, err := smime.OpenDiagnosed(raw, decrypters, func(reason string) {
		a.o.Log.Warn("not decrypted", "id", id, "reason", reason)
	})
	if err != nil {
		return smime.Verified{}, err
	}
	// AS 2.6-d: SHA-1 SHOULD be accepted from legacy peers; the stricter profile does not.
	return smime.Verify(opened, cms.VerifyPolicy{AllowSHA1: !a.strict()})
}

// checkEnvelope gives the actual sender: MAIL FROM, which must be the signed
// message's From or Sender. A null path is taken for reports only, where From
// stands in (RFC 3798 §3 against AS 3.1.1).
func (a *Agent) checkEnvelope(env mail.Envelope, v smime.Verified) (direct.Address, error) {
	h := v.Header()
	sender := env.From
	if env.NullPath {
		from, err := mail.ParseAddressList(h.Get("From"))
		if err != nil || len(from) != 1 || !report.IsReport(h) {
			return direct.Address{}, errors.New("null sender on a message that is no report")
		}
		sender = from[0]
	}
	if err := checkSender(h, sender); err != nil {
		return direct.Address{}, errors.New("MAIL FROM is neither From nor Sender of the signed message")
	}
	if err := sameFrom(v.Outer(), h); err != nil {
		return direct.Address{}, err
	}
	if !a.strict() {
		return sender, nil
	}
	if !v.Wrapped() { // AS v1.3 2.4
		return direct.Address{}, errors.New("the message is not wrapped")
	}
	return sender, checkRecipients(h, env.To)
}

// sameFrom demands that an outer From is the signed one.
func sameFrom(outer, inner mail.Header) error {
	if !outer.Has("From") {
		return nil
	}
	o, err := mail.ParseAddressList(outer.Get("From"))
	i, err2 := mail.ParseAddressList(inner.Get("From"))
	if err != nil || err2 != nil || len(outer.All("From")) != 1 || len(o) != 1 || len(i) != 1 || !o[0].Equal(i[0]) {
		return errors.New("the outer From differs from the signed one")
	}
	return nil
}

// checkRecipients demands that every RCPT TO stands in To or Cc (AS v1.3 2.2).
func checkRecipients(h mail.Header, rcpts []direct.Address) error {
	named := make(map[string]bool)
	for _, name := range []string{"To", "Cc"} {
		for _, v := range h.All(name) {
			addrs, err := mail.ParseAddressList(v)
			if err != nil {
				return fmt.Errorf("field %s: %w", name, err)
			}
			for _, addr := range addrs {
				named[addr.Key()] = true
			}
		}
	}
	for _, rcpt := range rcpts {
		if !named[rcpt.Key()] {
			return fmt.Errorf("recipient %s stands in neither To nor Cc", rcpt)
		}
	}
	return nil
}

// accept judges the signers for every recipient by itself: each domain has its
// own anchors (AS 4.2.3).
func (a *Agent) accept(keys Keys, id string, env mail.Envelope, sender direct.Address, v smime.Verified, at time.Time) ([]Accepted, []Outcome) {
	var accepted []Accepted
	var outcomes []Outcome
	for _, rcpt := range env.To {
		verdict := a.judgeSigners(sender, v, keys.Anchors(rcpt.Domain(), In), at)
		if pairs, err := keys.Pairs(rcpt); err != nil || len(pairs) == 0 {
			verdict = Verdict{Address: sender, Refusal: &trust.Refusal{Check: "recipient", Citation: "AS 1.4", Kind: trust.NotFound, Detail: "the recipient has no key here"}}
		}
		a.audit(id, verdict, "verify for "+rcpt.String())
		if verdict.Refusal != nil {
			outcomes = append(outcomes, Outcome{rcpt, "refused", reason(verdict.Refusal)})
			continue
		}
		outcomes = append(outcomes, Outcome{rcpt, "delivered", ""})
		accepted = append(accepted, Accepted{rcpt, sender, messageID(v), v, verdict.Trusted[0]})
	}
	return accepted, outcomes
}

// judgeSigners evaluates every certificate whose signature verified. Any good
// one that is bound to the sender wins, wherever it stands.
func (a *Agent) judgeSigners(sender direct.Address, v smime.Verified, anchors []*x509.Certificate, at time.Time) Verdict {
	q := trust.Question{Address: sender, Purpose: trust.Verify, Anchors: anchors, At: at, Policy: a.o.Policy}
	for _, s := range v.Signers() {
		q.Candidates = append(q.Candidates, s.Certificate.Raw)
		q.Intermediates = append(q.Intermediates, s.Embedded...)
	}
	j := trust.Evaluate(q)
	return Verdict{Address: sender, Source: "signature", Trusted: j.Trusted(), Refusal: j.Refusal()}
}

// refuseWhole records why a message came to nobody.
func (a *Agent) refuseWhole(ctx context.Context, id string, env mail.Envelope, why error) error {
	a.o.Log.Warn("inbound message refused", "id", id, "from", env.From.String(), "reason", why.Error())
	var outcomes []Outcome
	for _, rcpt := range env.To {
		outcomes = append(outcomes, Outcome{rcpt, "refused", why.Error()})
	}
	if err := a.story.Received(ctx, env, "", outcomes); err != nil {
		return err
	}
	return &refusedError{why.Error()}
}

// receiveReport hands a notification to the story. A processed one is for the
// agent alone; all others tell the sender something and are delivered too.
func (a *Agent) receiveReport(ctx context.Context, id string, acc Accepted, at time.Time) error {
	n, err := report.Parse(acc.message.Message())
	if err != nil {
		a.o.Log.Warn("report not understood", "id", id, "reason", err.Error())
		_, err := a.queue.Settle(ctx, id, nil, nil)
		return err
	}
	counted, err := a.story.Notified(ctx, Notice{
		MessageID: n.MessageID, Original: n.OriginalMessageID, Recipient: n.Recipient, Signer: acc.sender,
		Disposition: n.Disposition, Reason: n.Reason, At: at,
	})
	if err != nil {
		return err
	}
	a.o.Log.Info("notification", "id", id, "about", n.OriginalMessageID, "recipient", n.Recipient.String(), "disposition", n.Disposition, "counted", counted)
	var deliveries []mail.Delivery
	if counted && n.Disposition != "processed" {
		d, err := a.stage(ctx, id, acc)
		if err != nil {
			return err
		}
		deliveries = append(deliveries, d)
	}
	return a.settle(ctx, id, deliveries, make([]smime.Sealed, len(deliveries)))
}

// deliver stages the message for every recipient that accepted it, makes its
// processed notification (AS 3.2-a), and settles both in one transaction.
func (a *Agent) deliver(ctx context.Context, keys Keys, id string, env mail.Envelope, accepted []Accepted, outcomes []Outcome, at time.Time) error {
	var deliveries []mail.Delivery
	var notices []smime.Sealed
	for _, acc := range accepted {
		notice, err := a.processed(ctx, keys, id, acc, at)
		if err != nil {
			return err
		}
		d, err := a.stage(ctx, id, acc)
		if err != nil {
			return err
		}
		deliveries, notices = append(deliveries, d), append(notices, notice)
	}
	if err := a.story.Received(ctx, env, accepted[0].messageID, outcomes); err != nil {
		return err
	}
	return a.settle(ctx, id, deliveries, notices)
}

// stage writes the message, and only what its signature covers, for one
// recipient. Return-Path is the one field that final delivery adds
// (RFC 5321 §4.4).
func (a *Agent) stage(ctx context.Context, id string, acc Accepted) (mail.Delivery, error) {
	trace := "Return-Path: <" + acc.sender.String() + ">\r\n"
	content := io.MultiReader(bytes.NewReader([]byte(trace)), bytes.NewReader(acc.message.Message()))
	staged, err := a.box.Stage(ctx, acc.recipient, id, content)
	if err != nil {
		return mail.Delivery{}, fmt.Errorf("mailbox of %s: %w", acc.recipient, err)
	}
	return mail.Delivery{Recipient: acc.recipient, Digest: acc.Digest(), Staged: staged}, nil
}

// settle commits and discards what turned out to be a repetition.
func (a *Agent) settle(ctx context.Context, id string, deliveries []mail.Delivery, notices []smime.Sealed) error {
	fresh, err := a.queue.Settle(ctx, id, deliveries, notices)
	if err != nil {
		return err
	}
	isFresh := make(map[string]bool)
	for _, d := range fresh {
		isFresh[d.Staged] = true
	}
	for _, d := range deliveries {
		if !isFresh[d.Staged] {
			a.o.Log.Info("message had before, not delivered again", "id", id, "recipient", d.Recipient.String())
			if err := a.box.Discard(d.Staged); err != nil {
				a.o.Log.Warn("staged message left behind", "id", id, "reason", err.Error())
			}
		}
	}
	return nil
}

// processed makes the sealed processed notification of one recipient. It is
// zero where the sender cannot be encrypted to: then nothing may be said
// (AS 3.0-k). An error is temporary.
func (a *Agent) processed(ctx context.Context, keys Keys, id string, acc Accepted, at time.Time) (smime.Sealed, error) {
	anchors := keys.Anchors(acc.recipient.Domain(), Out)
	for _, target := range notificationTargets(acc) {
		v := a.judge(ctx, target, anchors, at)
		if v.Refusal != nil && target.Equal(acc.sender) {
			// AS 2.3-e: a certificate from a signed message is a way of discovery too.
			if own := a.fromSignature(acc, anchors, at); own.Refusal == nil {
				v = own
			}
		}
		a.audit(id, v, "encrypt notification")
		switch {
		case v.Refusal == nil:
			return a.sealNotification(keys, acc, target, v.Trusted, at)
		case v.Refusal.Kind == trust.TemporaryFault:
			return smime.Sealed{}, v.Refusal
		}
	}
	a.o.Log.Warn("no notification: the sender has no certificate that may be encrypted to", "id", id, "sender", acc.sender.String())
	return smime.Sealed{}, nil
}

// notificationTargets gives the addresses that a processed notification may go
// to, in the order of AS 3.2-g: Disposition-Notification-To, then MAIL FROM.
func notificationTargets(acc Accepted) []direct.Address {
	var targets []direct.Address
	if v := acc.message.Header().Get("Disposition-Notification-To"); v != "" {
		if addrs, err := mail.ParseAddressList(v); err == nil && len(addrs) > 0 {
			targets = append(targets, addrs[0])
		}
	}
	if len(targets) == 0 || !targets[0].Equal(acc.sender) {
		targets = append(targets, acc.sender)
	}
	return targets
}

func (a *Agent) fromSignature(acc Accepted, anchors []*x509.Certificate, at time.Time) Verdict {
	q := trust.Question{Address: acc.sender, Purpose: trust.Encrypt, Candidates: [][]byte{acc.signer.Certificate().Raw}, Anchors: anchors, At: at, Policy: a.o.Policy}
	for _, s := range acc.message.Signers() {
		q.Intermediates = append(q.Intermediates, s.Embedded...)
	}
	j := trust.Evaluate(q)
	return Verdict{Address: acc.sender, Source: "signature", Trusted: j.Trusted(), Refusal: j.Refusal()}
}

// sealNotification composes, signs and seals. The Message-ID follows from the
// message and the recipient, so that a notification made again is the same.
func (a *Agent) sealNotification(keys Keys, acc Accepted, target direct.Address, to []trust.Trusted, at time.Time) (smime.Sealed, error) {
	signers, err := signersFor(keys, acc.recipient, at)
	if err != nil {
		return smime.Sealed{}, fmt.Errorf("sign the notification of %s: %w", acc.recipient, err)
	}
	digest := acc.Digest()
	mdn := report.MDN{
		Disposition:       "processed",
		From:              acc.recipient,
		To:                target,
		FinalRecipient:    acc.recipient,
		OriginalMessageID: acc.messageID,
		ReportingUA:       a.o.Hostname + "; Direct Node",
		MessageID:         mail.NewMessageID(a.o.Hostname, append(digest[:], acc.recipient.Key()...)),
		At:                at,
	}
	composed, err := mdn.Compose()
	if err != nil {
		return smime.Sealed{}, err
	}
	signed, err := smime.Sign(composed, signers, at)
	if err != nil {
		return smime.Sealed{}, err
	}
	return smime.Seal(signed, acc.recipient, to, smime.SealOptions{Transport: a.o.Transport})
}

func messageID(v smime.Verified) string {
	id, _ := mail.MessageID(v.Header().Get("Message-ID"))
	return id
}

// maySign tells whether keyUsage, where there is one, allows signatures
// (RFC 5280 §4.2.1.3).
func maySign(c *x509.Certificate) bool {
	return c.KeyUsage == 0 || c.KeyUsage&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) != 0
}

func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}
