package sta_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"directnode/internal/cms"
	"directnode/internal/mail"
	"directnode/internal/spec"
	"directnode/internal/testpki"
	"directnode/sta"
	"directnode/sta/report"
)

// A message that somebody recorded on its way to bob is sent again with carol
// beside him: she must not read what was never encrypted to her.
func TestNobodyReadsWhatWasEncryptedToAnother(t *testing.T) {
	spec.Covers(t, "AS-2.4-g")
	for _, rcpts := range [][]string{{bob, carol}, {carol, bob}} {
		w := newWorld(t, "as-1.2")
		a := w.user(alice)
		w.user(bob)
		w.user(carol)
		if err := w.receive(w.envelope(alice, rcpts...), w.seal(letter(alice, bob, ""), a, alice, bob)); err != nil {
			t.Fatal(err)
		}
		if w.mailbox[bob] == nil || w.mailbox[carol] != nil || len(w.notices) != 1 || len(w.staged) != 0 {
			t.Errorf("%v: bob %v, carol %v, %d notifications", rcpts, w.mailbox[bob] != nil, w.mailbox[carol] != nil, len(w.notices))
		}
		for _, o := range w.outcomes {
			if want := map[string]string{bob: "delivered", carol: "refused"}[o.Address.Key()]; o.State != want {
				t.Errorf("the story says %+v", o)
			}
		}
	}
}

func TestEachRecipientOpensWithKeysOfItsOwn(t *testing.T) {
	w := newWorld(t, "as-1.2")
	a := w.user(alice)
	w.user(bob)
	w.user(carol)
	if err := w.receive(w.envelope(alice, bob, carol), w.seal(letter(alice, bob, ""), a, alice, bob, carol)); err != nil {
		t.Fatal(err)
	}
	if w.mailbox[bob] == nil || w.mailbox[carol] == nil || len(w.notices) != 2 {
		t.Errorf("%d mailboxes, %d notifications", len(w.mailbox), len(w.notices))
	}
}

// Mail under way was encrypted to the certificate that has expired since. That
// nothing can be signed with it any more is no reason to keep the letter back.
func TestARecipientWhoCannotSignStillGetsTheMessage(t *testing.T) {
	for name, o := range map[string][]testpki.Option{"expired": nil, "encrypt only": {testpki.EncryptOnly()}} {
		w := newWorld(t, "as-1.2")
		a := w.user(alice)
		w.user(bob, o...)
		w.user(carol)
		raw := w.seal(letter(alice, bob, ""), a, alice, bob, carol)
		if name == "expired" {
			w.expire(bob)
		}
		if err := w.receive(w.envelope(alice, bob, carol), raw); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if w.mailbox[bob] == nil || w.mailbox[carol] == nil || len(w.notices) != 1 {
			t.Errorf("%s: bob %v, carol %v, %d notifications", name, w.mailbox[bob] != nil, w.mailbox[carol] != nil, len(w.notices))
		}
	}
}

// expire makes the certificates of a user old, with the keys that they had.
func (w *world) expire(who string) {
	for i := range w.pairs[who] {
		c := *w.pairs[who][i].Certificate
		c.NotBefore, c.NotAfter = testpki.Now().AddDate(-2, 0, 0), testpki.Now().AddDate(-1, 0, 0)
		w.pairs[who][i].Certificate = &c
	}
}

// The sender's directory may be down for days. The letter waits for it as long
// as its notification would still be believed, and no longer.
func TestADeadDirectoryOfTheSenderDelaysTheMessageOnlySoLong(t *testing.T) {
	w := newWorld(t, "as-1.2")
	a := w.user(alice, testpki.SignOnly()) // half of a pair: his signature shows nothing to encrypt to
	w.user(bob)
	raw := w.seal(letter(alice, bob, ""), a, alice, bob)
	w.found, w.findErr = map[string][][]byte{}, errors.New("SERVFAIL")
	env := w.envelope(alice, bob)
	err := w.receive(env, raw)
	var temporary interface{ Temporary() bool }
	if !errors.As(err, &temporary) || !temporary.Temporary() || w.deliveries != 0 || len(w.staged) != 0 {
		t.Fatalf("at once: %v, %d deliveries, %d staged", err, w.deliveries, len(w.staged))
	}
	env.At = testpki.Now().Add(-2 * time.Hour)
	if err := w.receive(env, raw); err != nil || w.mailbox[bob] == nil || len(w.notices) != 0 {
		t.Errorf("two hours later: %v, delivered %v", err, w.mailbox[bob] != nil)
	}
}

// A message is judged for the moment at which we took it: tried again later, it
// is the same message.
func TestTheSignerIsJudgedAsOfTheReceipt(t *testing.T) {
	w := newWorld(t, "as-1.2")
	a := w.user(alice, testpki.Valid(testpki.Now().AddDate(0, 0, -10), testpki.Now().Add(-time.Hour)))
	w.user(alice)
	w.user(bob)
	env := w.envelope(alice, bob)
	env.At = testpki.Now().Add(-2 * time.Hour)
	if err := w.receive(env, w.seal(letter(alice, bob, ""), a, alice, bob)); err != nil || w.mailbox[bob] == nil {
		t.Errorf("Receive = %v", err)
	}
	w.seen = map[string]bool{}
	env.At = testpki.Now().Add(-time.Minute)
	if err := w.receive(env, w.seal(letter(alice, bob, ""), a, alice, bob)); !errors.Is(err, sta.ErrRefused) {
		t.Errorf("taken after the expiry: %v", err)
	}
}

// From is what people read; an assistant may send for it, a stranger may not.
func TestASenderSpeaksForHisOwnDomainOnly(t *testing.T) {
	const mallory = "mallory@a.direct.test"
	for from, delivered := range map[string]bool{"boss@a.direct.test": true, "boss@b.direct.test": false} {
		w := newWorld(t, "as-1.2")
		m := w.user(mallory)
		w.user(bob)
		err := w.receive(w.envelope(mallory, bob), w.seal(letter(from, bob, "Sender: "+mallory+"\r\n"), m, mallory, bob))
		if got := err == nil && w.mailbox[bob] != nil; got != delivered {
			t.Errorf("From %s, Sender %s: Receive = %v", from, mallory, err)
		}
		if !delivered && !errors.Is(err, sta.ErrRefused) {
			t.Errorf("From %s: %v", from, err)
		}
		_, err = w.send(w.envelope(mallory, bob), letter(from, bob, "Sender: "+mallory+"\r\n"))
		var reply *mail.Reply
		if delivered != (err == nil) || err != nil && (!errors.As(err, &reply) || reply.Code != 550) {
			t.Errorf("From %s submitted: %v", from, err)
		}
	}
}

func TestAReportAboutSeveralRecipientsIsNotedForEach(t *testing.T) {
	w := newWorld(t, "as-1.2")
	a := w.user(alice)
	w.user(bob)
	dsn, err := report.DSN{
		From: address(t, alice), To: address(t, bob), ReportingMTA: "a.direct.test", OriginalMessageID: "9@b.direct.test", MessageID: "<d@a.direct.test>", At: testpki.Now(),
		Failures: []report.Failure{{Recipient: address(t, "x@a.direct.test"), Reason: "first"}, {Recipient: address(t, alice), Reason: "second"}, {Recipient: address(t, "ALICE@a.direct.test")}},
	}.Compose()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.receive(w.envelope(alice, bob), w.seal(dsn, a, alice, bob)); err != nil {
		t.Fatal(err)
	}
	if len(w.notified) != 2 || w.notified[1].Recipient.Key() != alice || w.notified[1].Disposition != report.Failed || w.notified[1].Reason != "second" {
		t.Errorf("notices %+v", w.notified)
	}
	if w.deliveries != 1 {
		t.Errorf("%d deliveries", w.deliveries)
	}
}

// What a trusted peer calls a report and we do not understand, a person may.
func TestAReportThatIsNotUnderstoodIsDeliveredAndNotAnswered(t *testing.T) {
	w := newWorld(t, "as-1.2")
	a := w.user(alice)
	w.user(bob)
	w.user(carol)
	odd := bytes.Replace(letter(alice, bob, ""), []byte("text/plain"), []byte("multipart/report; boundary=x"), 1)
	odd = bytes.Replace(odd, []byte("canary-body"), []byte("--x\r\n\r\nlaboratory report\r\n--x--"), 1)
	if err := w.receive(w.envelope(alice, bob, carol), w.seal(odd, a, alice, bob, carol)); err != nil {
		t.Fatal(err)
	}
	if w.mailbox[bob] == nil || w.mailbox[carol] == nil || len(w.notices) != 0 || len(w.outcomes) != 2 {
		t.Errorf("%d mailboxes, %d notifications, outcomes %+v", len(w.mailbox), len(w.notices), w.outcomes)
	}
}

// A report is for the sender of the message that it is about: in another's
// mailbox it would tell what somebody else has sent, and to whom.
func TestAReportIsDeliveredOnlyWhereItCounts(t *testing.T) {
	w := newWorld(t, "as-1.2")
	a := w.user(alice)
	w.user(bob)
	w.user(carol)
	w.stranger = address(t, carol)
	mdn, err := report.MDN{Disposition: report.Failed, From: address(t, alice), To: address(t, bob), OriginalMessageID: "9@b.direct.test", ReportingUA: "x", MessageID: "<m@a.direct.test>", At: testpki.Now()}.Compose()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.receive(w.envelope(alice, carol, bob), w.seal(mdn, a, alice, bob, carol)); err != nil {
		t.Fatal(err)
	}
	if len(w.notified) != 2 || w.notified[0].To.Key() != carol || w.notified[1].To.Key() != bob {
		t.Errorf("noted %+v", w.notified)
	}
	if w.mailbox[bob] == nil || w.mailbox[carol] != nil || len(w.staged) != 0 {
		t.Errorf("bob has %d octets, carol %d", len(w.mailbox[bob]), len(w.mailbox[carol]))
	}
}

// Whom we only send to may tell us what became of it, and nothing else.
func TestAnOutboundPartnerMayNotify(t *testing.T) {
	w := newWorld(t, "as-1.2")
	w.outOnly = true
	a := w.user(alice)
	w.user(bob)
	mdn, err := report.MDN{Disposition: report.Failed, From: address(t, alice), To: address(t, bob), OriginalMessageID: "9@b.direct.test", ReportingUA: "x", MessageID: "<m@a.direct.test>", At: testpki.Now()}.Compose()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.receive(w.envelope(alice, bob), w.seal(mdn, a, alice, bob)); err != nil || len(w.notified) != 1 || w.deliveries != 1 {
		t.Errorf("a notification: %v, %d noted, %d delivered", err, len(w.notified), w.deliveries)
	}
	if err := w.receive(w.envelope(alice, bob), w.seal(letter(alice, bob, ""), a, alice, bob)); !errors.Is(err, sta.ErrRefused) {
		t.Errorf("a letter: %v", err)
	}
	odd := bytes.Replace(letter(alice, bob, ""), []byte("text/plain"), []byte("multipart/report; boundary=x"), 1)
	w.deliveries = 0
	if err := w.receive(w.envelope(alice, bob), w.seal(odd, a, alice, bob)); !errors.Is(err, sta.ErrRefused) || w.deliveries != 0 {
		t.Errorf("a letter that calls itself a report: %v, %d delivered", err, w.deliveries)
	}
}

// Two messages without an identifier that say the same on two days are two.
func TestMessagesWithoutIdentifierAreToldApartByDate(t *testing.T) {
	w := newWorld(t, "as-1.2")
	a := w.user(alice)
	w.user(bob)
	for _, date := range []string{"Mon, 1 Jan 2024 10:00:00 +0000", "Tue, 2 Jan 2024 10:00:00 +0000", "Tue, 2 Jan 2024 10:00:00 +0000"} {
		header := "From: " + alice + "\r\nTo: " + bob + "\r\nDate: " + date + "\r\nMIME-Version: 1.0\r\n"
		if err := w.receive(w.envelope(alice, bob), w.unwrapped(header, "your appointment is confirmed", a, bob)); err != nil {
			t.Fatal(err)
		}
	}
	if w.deliveries != 2 {
		t.Errorf("%d deliveries of two messages, one of them sent twice", w.deliveries)
	}
}

// unwrapped is a message of an older peer: its header is the outer one.
func (w *world) unwrapped(header, text string, signer sta.Pair, to string) []byte {
	w.t.Helper()
	part := []byte("Content-Type: text/plain\r\n\r\n" + text + "\r\n")
	signature, err := cms.SignDetached(bytes.NewReader(part), []cms.Signer{signer.Signer}, cms.SignOptions{SigningTime: testpki.Now()})
	if err != nil {
		w.t.Fatal(err)
	}
	var entity, sealed bytes.Buffer
	entity.WriteString("Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; micalg=sha-256; boundary=b\r\n\r\n--b\r\n")
	entity.Write(part)
	entity.WriteString("\r\n--b\r\nContent-Type: application/pkcs7-signature\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	entity.Write(mail.EncodeBase64(signature))
	entity.WriteString("--b--\r\n")
	if err := cms.Encrypt(&sealed, &entity, []cms.Recipient{{Certificate: w.pairs[to][0].Certificate}}, cms.AES128CBC); err != nil {
		w.t.Fatal(err)
	}
	return append([]byte(header+"Content-Type: application/pkcs7-mime; smime-type=enveloped-data\r\nContent-Transfer-Encoding: base64\r\n\r\n"), mail.EncodeBase64(sealed.Bytes())...)
}

// The submitter who reads 451 tries again; he must not find a report for each
// time, about a message of which nothing was sent.
func TestNothingIsReportedWhereNothingWasTaken(t *testing.T) {
	w := newWorld(t, "as-1.2")
	w.user(alice)
	w.user(bob)
	w.putErr = errors.New("disk full")
	if _, err := w.send(w.envelope(alice, bob, "nobody@b.direct.test"), letter(alice, bob, "")); err == nil {
		t.Fatal("accepted without having been queued")
	}
	if w.mailbox[alice] != nil || len(w.staged) != 0 {
		t.Errorf("alice has %q", w.mailbox[alice])
	}
	if len(w.withdrawn) != 1 || w.withdrawn[0] != "id0 1@a.direct.test not accepted: try again" {
		t.Errorf("the story takes back %q", w.withdrawn)
	}
}

func TestBlindCopiesOfResentMailAreRemoved(t *testing.T) {
	w := newWorld(t, "as-1.2")
	w.user(alice)
	w.user(bob)
	if _, err := w.send(w.envelope(alice, bob), letter(alice, bob, "Resent-Bcc: "+carol+"\r\n")); err != nil {
		t.Fatal(err)
	}
	if v := w.open(w.sealed[0], bob); bytes.Contains(v.Message(), []byte(carol)) {
		t.Error("the message names the blind copy")
	}
}

// Recipients are looked up side by side: a submitter does not wait for a
// hundred directories one after another.
func TestRecipientsAreLookedUpSideBySide(t *testing.T) {
	w := newWorld(t, "as-1.2")
	w.user(alice)
	var rcpts []string
	for i := range 40 {
		rcpts = append(rcpts, strings.Repeat("x", i+1)+"@b.direct.test")
	}
	w.slow = 50 * time.Millisecond
	start := time.Now()
	_, err := w.send(w.envelope(alice, rcpts...), letter(alice, bob, ""))
	if err == nil || len(w.verdicts) != len(rcpts) {
		t.Fatalf("%v, %d verdicts", err, len(w.verdicts))
	}
	for i, v := range w.verdicts {
		if v.Address != address(t, rcpts[i]) {
			t.Fatalf("verdict %d is about %s", i, v.Address)
		}
	}
	if d := time.Since(start); d > time.Second {
		t.Errorf("%v for 40 lookups of 50 ms", d)
	}
}

// A bug met on the way of one submission ends that submission: whoever called
// Send sees the panic and recovers, the process lives on.
func TestAPanicStaysWithItsSubmission(t *testing.T) {
	w := newWorld(t, "as-1.2")
	w.user(alice)
	w.found = nil
	w.panics = true
	defer func() {
		if recover() == nil {
			t.Error("no panic reached the caller")
		}
	}()
	_, _ = w.send(w.envelope(alice, bob), letter(alice, bob, ""))
}

// One message to many asks once for its sender.
func TestTheSenderIsLookedUpOncePerMessage(t *testing.T) {
	w := newWorld(t, "as-1.2")
	a := w.user(alice)
	w.user(bob)
	w.user(carol)
	raw := w.seal(letter(alice, bob, ""), a, alice, bob, carol)
	w.finds.Store(0)
	if err := w.receive(w.envelope(alice, bob, carol), raw); err != nil {
		t.Fatal(err)
	}
	if n := w.finds.Load(); n != 1 || len(w.notices) != 2 {
		t.Errorf("%d lookups, %d notifications", n, len(w.notices))
	}
}
