package sta

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"directnode/internal/direct"
	"directnode/internal/mail"
	"directnode/resolver/trust"
	"directnode/sta/report"
	"directnode/sta/smime"
)

const (
	// maxPatience is how long a message waits for the certificates of whom its
	// notification goes to. Sending agents report a failure when no notification
	// came within an hour, and ignore one that comes later; the letter itself is
	// worth reading all the same.
	maxPatience = time.Hour
	// maxReported bounds what is noted of one report: about as many recipients as
	// one message of ours can have. A report goes to one address, whose sender it
	// is; where it came to many they share this.
	maxReported = 100
)

// notifier makes the processed notifications of one message.
type notifier struct {
	a     *Agent
	keys  Keys
	id    string
	since time.Time // when the message was received
	at    time.Time
	found map[string]answer // what discovery said in the course of this message, by address
}

// answer is what Finder.Find returned.
type answer struct {
	found Found
	err   error
}

// Find implements Finder: each address is looked up once for a message, however
// many recipients answer.
func (n notifier) Find(ctx context.Context, who direct.Address) (Found, error) {
	known, ok := n.found[who.Key()]
	if !ok {
		known.found, known.err = n.a.finder.Find(ctx, who)
		n.found[who.Key()] = known
	}
	return known.found, known.err
}

// processed makes the sealed processed notification of one recipient. It is
// zero where none can be made: the sender cannot be encrypted to, and then
// nothing may be said (AS 3.0-k), or the recipient has nothing to sign with. The
// message is delivered all the same. An error is temporary.
func (n notifier) processed(ctx context.Context, acc Accepted) (smime.Sealed, error) {
	anchors := n.keys.Anchors(acc.recipient.Domain(), Out)
	var fault *trust.Refusal
	for _, target := range notificationTargets(acc) {
		v := n.a.judge(ctx, n, target, acc.recipient.Domain(), anchors, n.at)
		if v.Refusal != nil && target.Equal(acc.sender) {
			// AS 2.3-e: a certificate from a signed message is a way of discovery too.
			if own := n.a.fromSignature(ctx, acc, anchors, n.at); own.Refusal == nil {
				v = own
			}
		}
		n.a.audit(n.id, v, "encrypt notification")
		switch {
		case v.Refusal == nil:
			return n.seal(acc, target, v.Trusted), nil
		case v.Refusal.Temporary():
			fault = v.Refusal
		}
	}
	if fault != nil && n.at.Sub(n.since) < maxPatience {
		return smime.Sealed{}, fault
	}
	n.a.o.Log.Warn("no notification: the sender has no certificate that may be encrypted to", "id", n.id, "recipient", acc.recipient.String(), "sender", acc.sender.String())
	return smime.Sealed{}, nil
}

// seal composes, signs and seals, or says in the log why not: a message that is
// trusted is never held back for what is wrong with its notification.
func (n notifier) seal(acc Accepted, target direct.Address, to []trust.Trusted) smime.Sealed {
	s, err := n.a.sealNotification(n.keys, acc, target, to, n.at)
	if err != nil {
		n.a.o.Log.Error("no notification", "id", n.id, "recipient", acc.recipient.String(), "sender", acc.sender.String(), "reason", err.Error())
		return smime.Sealed{}
	}
	return s
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

func (a *Agent) fromSignature(ctx context.Context, acc Accepted, anchors []*x509.Certificate, at time.Time) Verdict {
	q := trust.Question{Address: acc.sender, Purpose: trust.Encrypt, Candidates: [][]byte{acc.signer.Certificate().Raw}, Anchors: anchors, At: at}
	for _, s := range acc.message.Signers() {
		q.Intermediates = append(q.Intermediates, s.Embedded...)
	}
	j := a.evaluate(ctx, acc.recipient.Domain(), q)
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
		Disposition:       report.Processed,
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

// receiveReport hands a notification to the story. A processed one is for the
// agent alone; all others tell the sender something and are delivered too. None
// is ever answered (AS 3.0-i).
func (a *Agent) receiveReport(ctx context.Context, id string, env mail.Envelope, accepted []Accepted, at time.Time) error {
	n, err := report.Parse(accepted[0].message.Message())
	if err != nil {
		a.o.Log.Warn("report not understood", "id", id, "reason", err.Error())
		return a.deliverUnread(ctx, id, env, accepted)
	}
	var readers []Accepted
	left := maxReported
	for _, acc := range accepted {
		all := reported(n)
		all = all[:min(len(all), left)]
		left -= len(all)
		deliver, err := a.note(ctx, id, acc, n, all, at)
		if err != nil {
			return err
		}
		if deliver {
			readers = append(readers, acc)
		}
	}
	deliveries, err := a.stageAll(ctx, id, readers)
	if err != nil {
		return err
	}
	return a.settle(ctx, id, deliveries, make([]smime.Sealed, len(deliveries)))
}

// note hands what a report says about each recipient to the story, and tells
// whether the one it came to is to read it: something counted that is not for
// the agent alone.
func (a *Agent) note(ctx context.Context, id string, acc Accepted, n report.Notification, all []report.Recipient, at time.Time) (deliver bool, err error) {
	for _, r := range all {
		counted, err := a.story.Notified(ctx, Notice{
			MessageID: n.MessageID, Original: n.OriginalMessageID, Recipient: r.Address, To: acc.recipient, Signer: acc.sender,
			Disposition: r.Disposition, Reason: r.Reason, At: at,
		})
		if err != nil {
			return false, err
		}
		a.o.Log.Info("notification", "id", id, "about", n.OriginalMessageID, "to", acc.recipient.String(), "recipient", r.Address.String(), "disposition", r.Disposition, "counted", counted)
		deliver = deliver || counted && r.Disposition != report.Processed
	}
	return deliver, nil
}

// reported gives what a report says about each recipient, each named once. A
// report that names nobody is noted as such.
func reported(n report.Notification) []report.Recipient {
	var all []report.Recipient
	seen := make(map[string]bool)
	for _, r := range n.Recipients {
		if !seen[r.Address.Key()] && len(all) < maxReported {
			seen[r.Address.Key()] = true
			all = append(all, r)
		}
	}
	if len(all) == 0 {
		all = []report.Recipient{{Address: n.Recipient, Disposition: n.Disposition, Reason: n.Reason}}
	}
	return all
}

// deliverUnread gives a report that we do not understand to the people it came
// to: its signer is trusted, and what a program cannot read they perhaps can.
// From a signer who may only notify it is refused.
func (a *Agent) deliverUnread(ctx context.Context, id string, env mail.Envelope, accepted []Accepted) error {
	var trusted []Accepted
	var outcomes []Outcome
	for _, acc := range accepted {
		if acc.notice {
			outcomes = append(outcomes, Outcome{acc.recipient, "refused", "a report that is not understood, from a signer trusted for notifications only"})
			continue
		}
		outcomes = append(outcomes, Outcome{acc.recipient, "delivered", ""})
		trusted = append(trusted, acc)
	}
	deliveries, err := a.stageAll(ctx, id, trusted)
	if err != nil {
		return err
	}
	if err := a.story.Received(ctx, env, accepted[0].messageID, outcomes); err != nil {
		return err
	}
	if len(trusted) == 0 {
		return &refusedError{"a report that is not understood"}
	}
	return a.settle(ctx, id, deliveries, make([]smime.Sealed, len(deliveries)))
}
