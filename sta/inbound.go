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

// Recipient tells whether the node takes mail for an address: it must have a key
// that opens it. A domain with an organizational certificate answers alike for
// every address, so that nobody learns which exist.
func (a *Agent) Recipient(rcpt direct.Address) error {
	keys := a.keys()
	if !keys.Local(rcpt.Domain()) {
		return replyRelay
	}
	boxes, err := keysOf(keys, []direct.Address{rcpt})
	if err != nil {
		return err
	}
	if len(boxes[0].decrypters) == 0 {
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
	boxes, err := keysOf(keys, env.To)
	if err != nil {
		return err
	}
	verified, err := a.open(id, raw, boxes)
	if err != nil {
		return a.refuseWhole(ctx, id, env, err)
	}
	sender, err := a.checkEnvelope(env, verified)
	if err != nil {
		return a.refuseWhole(ctx, id, env, err)
	}
	accepted, outcomes, fault := a.accept(ctx, keys, id, boxes, sender, verified, received(env, at))
	if fault != nil && at.Sub(received(env, at)) < maxPatience {
		// The signer may turn out to be good, and a message that is refused is gone.
		return fault
	}
	if len(accepted) == 0 {
		if err := a.story.Received(ctx, env, messageID(verified), outcomes); err != nil {
			return err
		}
		return &refusedError{"no recipient trusts the signer"}
	}
	if report.IsReport(verified.Header()) {
		return a.receiveReport(ctx, id, env, accepted, at)
	}
	return a.deliver(ctx, keys, id, env, accepted, outcomes, at)
}

// received is the moment for which a message is judged: that of its receipt,
// however often and late it is tried again.
func received(env mail.Envelope, at time.Time) time.Time {
	if !env.At.IsZero() && env.At.Before(at) {
		return env.At
	}
	return at
}

// box is a recipient with its keys.
type box struct {
	recipient  direct.Address
	decrypters []cms.Decrypter
	identity   string // equal for recipients with the same keys
	known      bool   // the recipient has a key here
	opens      bool   // its keys open the message
}

// keysOf gives the keys of the actual recipients (AS 2.4-g), each apart from the
// others.
func keysOf(keys Keys, rcpts []direct.Address) ([]box, error) {
	boxes := make([]box, 0, len(rcpts))
	for _, rcpt := range rcpts {
		pairs, err := keys.Pairs(rcpt)
		if err != nil {
			return nil, fmt.Errorf("keys of %s: %w", rcpt, err)
		}
		b := box{recipient: rcpt, known: len(pairs) > 0}
		for _, p := range pairs {
			if p.Decrypter.Key != nil {
				b.decrypters = append(b.decrypters, p.Decrypter)
				b.identity += fingerprint(p.Decrypter.Certificate)
			}
		}
		boxes = append(boxes, b)
	}
	return boxes, nil
}

// open decrypts the message, verifies its signature and notes whose keys open
// it. Nothing of the plaintext goes anywhere before it has verified.
//
// Every recipient needs a key of its own that opens the message: who has
// recorded somebody's mail may send it again to him and to another besides, and
// the keys of the first must not open it for the second.
func (a *Agent) open(id string, raw []byte, boxes []box) (v smime.Verified, err error) {
	closed, err := smime.Parse(raw)
	if err != nil {
		return v, err
	}
	var opened smime.Opened
	done := false
	why := cms.ErrDecrypt
	known := make(map[string]bool) // by identity: whether the keys open the message
	for i := range boxes {
		b := &boxes[i]
		if opens, tried := known[b.identity]; tried {
			b.opens = opens
			continue
		}
		diagnose := func(reason string) {
			a.o.Log.Warn("not decrypted", "id", id, "recipient", b.recipient.String(), "reason", reason)
		}
		if done {
			b.opens = closed.Opens(opened, b.decrypters, diagnose)
		} else if o, err := closed.Open(b.decrypters, diagnose); err == nil {
			// AS 2.6-d: SHA-1 SHOULD be accepted from legacy peers; the stricter profile does not.
			if v, err = smime.Verify(o, cms.VerifyPolicy{AllowSHA1: !a.strict()}); err == nil {
				opened, done, b.opens = o, true, true
			} else {
				why = err
			}
		}
		known[b.identity] = b.opens
	}
	if !done {
		return smime.Verified{}, why
	}
	return v, nil
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
	if err := checkSender(h, sender); errors.Is(err, replyFromForeign) {
		return direct.Address{}, errors.New("the From lies in another domain than MAIL FROM and Sender")
	} else if err != nil {
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

// accept judges the signers for every recipient by its domain's own anchors
// (AS 4.2.3). fault is a refusal of a recipient that may be another later.
func (a *Agent) accept(ctx context.Context, keys Keys, id string, boxes []box, sender direct.Address, v smime.Verified, at time.Time) (accepted []Accepted, outcomes []Outcome, fault error) {
	j := jury{ctx, a, keys, sender, v, at, make(map[juryKey]Verdict)}
	for _, b := range boxes {
		verdict, notice := j.judgeFor(b)
		a.audit(id, verdict, "verify for "+b.recipient.String())
		if verdict.Refusal != nil {
			if verdict.Refusal.Temporary() {
				fault = verdict.Refusal
			}
			outcomes = append(outcomes, Outcome{b.recipient, "refused", reason(verdict.Refusal)})
			continue
		}
		outcomes = append(outcomes, Outcome{b.recipient, "delivered", ""})
		accepted = append(accepted, Accepted{b.recipient, sender, messageID(v), v, verdict.Trusted[0], notice})
	}
	return accepted, outcomes, fault
}

// judgeFor gives the verdict of one recipient. notice tells that the signer is
// trusted by the anchors for outbound mail alone: somebody whom we only send to
// may tell us what became of it, and nothing else (AS 3.0, AS 4.2.1).
func (j *jury) judgeFor(b box) (verdict Verdict, notice bool) {
	switch {
	case !b.known:
		return Verdict{Address: j.sender, Refusal: &trust.Refusal{Check: "recipient", Citation: "AS 1.4", Kind: trust.NotFound, Detail: "the recipient has no key here"}}, false
	case !b.opens:
		return Verdict{Address: j.sender, Refusal: &trust.Refusal{Check: "recipient", Citation: "AS 2.4", Kind: trust.Invalid, Detail: "the message is not encrypted to this recipient"}}, false
	}
	verdict = j.of(b.recipient.Domain(), In)
	if verdict.Refusal == nil || !report.IsReport(j.message.Header()) {
		return verdict, false
	}
	if out := j.of(b.recipient.Domain(), Out); out.Refusal == nil {
		return out, true
	}
	return verdict, false
}

// jury judges the signers of one message once for each domain and way: all
// recipients of a domain have the same anchors.
type jury struct {
	ctx     context.Context // of the message
	agent   *Agent
	keys    Keys
	sender  direct.Address
	message smime.Verified
	at      time.Time
	reached map[juryKey]Verdict
}

type juryKey struct {
	domain direct.Domain
	way    Way
}

// of evaluates every certificate whose signature verified. Any good one that is
// bound to the sender wins, wherever it stands.
func (j *jury) of(d direct.Domain, way Way) Verdict {
	key := juryKey{d, way}
	if v, ok := j.reached[key]; ok {
		return v
	}
	q := trust.Question{Address: j.sender, Purpose: trust.Verify, Anchors: j.keys.Anchors(d, way), At: j.at}
	for _, s := range j.message.Signers() {
		q.Candidates = append(q.Candidates, s.Certificate.Raw)
		q.Intermediates = append(q.Intermediates, s.Embedded...)
	}
	judgement := j.agent.evaluate(j.ctx, d, q)
	v := Verdict{Address: j.sender, Source: "signature", Trusted: judgement.Trusted(), Refusal: judgement.Refusal()}
	j.reached[key] = v
	return v
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

// deliver makes the processed notification of every recipient that accepted the
// message (AS 3.2-a), stages the message for each, and settles both in one
// transaction.
func (a *Agent) deliver(ctx context.Context, keys Keys, id string, env mail.Envelope, accepted []Accepted, outcomes []Outcome, at time.Time) error {
	n := notifier{a: a, keys: keys, id: id, since: received(env, at), at: at, found: make(map[string]answer)}
	notices := make([]smime.Sealed, len(accepted))
	for i, acc := range accepted {
		var err error
		if notices[i], err = n.processed(ctx, acc); err != nil {
			return err
		}
	}
	deliveries, err := a.stageAll(ctx, id, accepted)
	if err != nil {
		return err
	}
	if err := a.story.Received(ctx, env, accepted[0].messageID, outcomes); err != nil {
		return err
	}
	return a.settle(ctx, id, deliveries, notices)
}

// stageAll stages the message for every recipient.
func (a *Agent) stageAll(ctx context.Context, id string, accepted []Accepted) ([]mail.Delivery, error) {
	deliveries := make([]mail.Delivery, 0, len(accepted))
	for _, acc := range accepted {
		d, err := a.stage(ctx, id, acc)
		if err != nil {
			return nil, err
		}
		deliveries = append(deliveries, d)
	}
	return deliveries, nil
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
