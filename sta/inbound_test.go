package sta_test

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"strings"
	"testing"

	"directnode/internal/cms"
	"directnode/internal/mail"
	"directnode/internal/spec"
	"directnode/internal/testpki"
	"directnode/sta"
	"directnode/sta/report"
)

func TestReceiveDeliversAndNotifies(t *testing.T) {
	spec.Covers(t, "AS-3.2-a", "AS-3.2-f", "AS-3.2-g", "AS-3.0-b", "AS-3.0-d", "AS-3.0-e", "AS-3.0-f", "AS-3.1.1-b", "AS-3.1.1-g", "AS-4.2.2-b", "AS-4.2.2-e", "AS-1.4-i")
	w := newWorld(t, "as-1.2")
	a := w.user(alice)
	w.user(bob)
	message := letter(alice, bob, "")
	if err := w.receive(w.envelope(alice, bob), w.seal(message, a, alice, bob)); err != nil {
		t.Fatal(err)
	}
	if want := append([]byte("Return-Path: <"+alice+">\r\n"), message...); !bytes.Equal(w.mailbox[bob], want) {
		t.Errorf("bob has %q", w.mailbox[bob])
	}
	if len(w.notices) != 1 {
		t.Fatalf("%d notifications", len(w.notices))
	}
	n := w.notices[0]
	if n.From().Key() != bob || len(n.To()) != 1 || n.To()[0].Key() != alice || !n.IsReport() {
		t.Errorf("notification from %v to %v", n.From(), n.To())
	}
	v := w.open(n, alice)
	got, err := report.Parse(v.Message())
	if err != nil || got.Disposition != report.Processed || got.OriginalMessageID != "1@a.direct.test" || got.Recipient.Key() != bob {
		t.Errorf("notification %+v, %v", got, err)
	}
	if bytes.Contains(v.Message(), []byte("canary")) {
		t.Error("the notification repeats words of the message")
	}
}

func TestAMessageSentAgainIsDeliveredOnce(t *testing.T) {
	spec.Covers(t, "AS-3.2-a")
	w := newWorld(t, "as-1.2")
	a := w.user(alice)
	w.user(bob)
	message := letter(alice, bob, "")
	for range 3 { // sealed anew each time
		if err := w.receive(w.envelope(alice, bob), w.seal(message, a, alice, bob)); err != nil {
			t.Fatal(err)
		}
	}
	if w.deliveries != 1 || len(w.notices) != 1 || len(w.staged) != 0 || len(w.settled) != 3 {
		t.Errorf("%d deliveries, %d notifications, %d left staged, %d settled", w.deliveries, len(w.notices), len(w.staged), len(w.settled))
	}
}

func TestWhatIsNotTrustedIsNeitherDeliveredNorAnswered(t *testing.T) {
	spec.Covers(t, "AS-3.0-j", "AS-3.0-k", "AS-4.1-b", "AS-4.1.1-a", "AS-4.2.2-c", "AS-4.3-b", "AS-2.4-h")
	good := func(w *world) ([]byte, mail.Envelope) {
		return w.seal(letter(alice, bob, ""), w.user(alice), alice, bob), w.envelope(alice, bob)
	}
	for name, make := range map[string]func(w *world) ([]byte, mail.Envelope){
		"signer of another root": func(w *world) ([]byte, mail.Envelope) {
			raw, env := good(w)
			w.anchors["b.direct.test"] = nil
			return raw, env
		},
		"expired signer": func(w *world) ([]byte, mail.Envelope) {
			return w.seal(letter(alice, bob, ""), w.user(alice, testpki.Expired()), alice, bob), w.envelope(alice, bob)
		},
		"signer bound to another address": func(w *world) ([]byte, mail.Envelope) {
			return w.seal(letter(alice, bob, ""), w.user("mallory@a.direct.test"), alice, bob), w.envelope(alice, bob)
		},
		"signer that may only encrypt": func(w *world) ([]byte, mail.Envelope) {
			return w.seal(letter(alice, bob, ""), w.user(alice, testpki.EncryptOnly()), alice, bob), w.envelope(alice, bob)
		},
		"another envelope sender": func(w *world) ([]byte, mail.Envelope) {
			raw, _ := good(w)
			return raw, w.envelope("mallory@a.direct.test", bob)
		},
		"null envelope sender": func(w *world) ([]byte, mail.Envelope) {
			raw, _ := good(w)
			return raw, w.envelope("", bob)
		},
		"outer From of somebody else": func(w *world) ([]byte, mail.Envelope) {
			raw, env := good(w)
			return bytes.Replace(raw, []byte("From: "+alice), []byte("From: "+carol), 1), env
		},
		"one octet changed": func(w *world) ([]byte, mail.Envelope) {
			raw, env := good(w)
			i := len(raw) - 300
			if raw[i]++; raw[i] == '\r'+1 || raw[i] == '\n'+1 {
				raw[i-2]++
			}
			return raw, env
		},
		"a recipient without a key": func(w *world) ([]byte, mail.Envelope) {
			raw, env := good(w)
			delete(w.pairs, bob)
			return raw, env
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "as-1.2")
			w.user(bob)
			raw, env := make(w)
			if err := w.receive(env, raw); !errors.Is(err, sta.ErrRefused) {
				t.Fatalf("Receive = %v", err)
			}
			if w.deliveries != 0 || len(w.notices) != 0 || len(w.staged) != 0 {
				t.Errorf("%d deliveries, %d notifications, %d staged", w.deliveries, len(w.notices), len(w.staged))
			}
			if len(w.outcomes) != 1 || w.outcomes[0].State != "refused" || w.outcomes[0].Reason == "" {
				t.Errorf("the story says %+v", w.outcomes)
			}
		})
	}
}

func TestEachRecipientIsJudgedByItself(t *testing.T) {
	spec.Covers(t, "AS-4.2.3-a", "AS-4.2.1-a")
	w := newWorld(t, "as-1.2")
	a := w.user(alice)
	w.user(bob)
	w.user("dan@a.direct.test")
	w.anchors["a.direct.test"] = nil // dan's domain trusts nobody
	if err := w.receive(w.envelope(alice, bob, "dan@a.direct.test"), w.seal(letter(alice, bob, ""), a, alice, bob, "dan@a.direct.test")); err != nil {
		t.Fatal(err)
	}
	if w.mailbox[bob] == nil || w.mailbox["dan@a.direct.test"] != nil || len(w.notices) != 1 {
		t.Errorf("mailboxes %d, notifications %d", len(w.mailbox), len(w.notices))
	}
}

func TestOrganizationCertificatesActForEveryAddress(t *testing.T) {
	spec.Covers(t, "AS-4.1.2-a", "AS-1.4-b")
	w := newWorld(t, "as-1.2")
	p := w.root.Leaf("org a", testpki.Domain("a.direct.test"))
	w.user(bob)
	a := w.user(alice)
	a.Certificate, a.Signer.Certificate, a.Signer.Key = p.Cert, p.Cert, p.Key
	w.found[alice] = [][]byte{p.DER}
	if err := w.receive(w.envelope(alice, bob), w.seal(letter(alice, bob, ""), a, alice, bob)); err != nil {
		t.Fatal(err)
	}
	if len(w.notices) != 1 {
		t.Errorf("%d notifications", len(w.notices))
	}
}

func TestNoReportAnswersAReport(t *testing.T) {
	spec.Covers(t, "AS-3.0-i")
	for _, disposition := range []string{report.Processed, report.Failed} {
		w := newWorld(t, "as-1.2")
		a := w.user(alice)
		w.user(bob)
		mdn, err := report.MDN{
			Disposition: disposition, From: address(t, alice), To: address(t, bob), OriginalMessageID: "9@b.direct.test",
			ReportingUA: "node-a.direct.test", MessageID: "<mdn@a.direct.test>", At: testpki.Now(),
		}.Compose()
		if err != nil {
			t.Fatal(err)
		}
		if err := w.receive(w.envelope(alice, bob), w.seal(mdn, a, alice, bob)); err != nil {
			t.Fatal(err)
		}
		if len(w.notices) != 0 {
			t.Errorf("%s: a report was answered", disposition)
		}
		if len(w.notified) != 1 || w.notified[0].Original != "9@b.direct.test" || w.notified[0].Signer.Key() != alice || w.notified[0].Recipient.Key() != alice {
			t.Errorf("%s: notice %+v", disposition, w.notified)
		}
		// A processed one is for the agent; a failure the sender must read.
		if delivered := w.mailbox[bob] != nil; delivered != (disposition == report.Failed) {
			t.Errorf("%s: delivered %v", disposition, delivered)
		}
	}
}

func TestAReportThatDoesNotCountIsNotDelivered(t *testing.T) {
	w := newWorld(t, "as-1.2")
	w.count = false
	a := w.user(alice)
	w.user(bob)
	mdn, _ := report.MDN{Disposition: report.Failed, From: address(t, alice), To: address(t, bob), OriginalMessageID: "unknown@b.direct.test", ReportingUA: "x", MessageID: "<m@a.direct.test>", At: testpki.Now()}.Compose()
	if err := w.receive(w.envelope(alice, bob), w.seal(mdn, a, alice, bob)); err != nil {
		t.Fatal(err)
	}
	if w.deliveries != 0 {
		t.Error("a report about nothing of ours was delivered")
	}
}

func TestNotificationsGoWhereTheyWereAskedFor(t *testing.T) {
	spec.Covers(t, "AS-3.2-g")
	for field, want := range map[string]string{
		"": alice,
		"Disposition-Notification-To: " + carol + "\r\n":               carol,
		"Disposition-Notification-To: nobody@nowhere.direct.test\r\n":  alice,
		"Disposition-Notification-To: undisclosed-recipients:;\r\n":    alice,
		"Disposition-Notification-To: \"A\" <ALICE@a.direct.test>\r\n": alice,
	} {
		w := newWorld(t, "as-1.2")
		a := w.user(alice)
		w.user(bob)
		w.user(carol)
		if err := w.receive(w.envelope(alice, bob), w.seal(letter(alice, bob, field), a, alice, bob)); err != nil {
			t.Fatal(err)
		}
		if len(w.notices) != 1 || w.notices[0].To()[0].Key() != want {
			t.Errorf("%q: notified %v, want %s", field, w.notices, want)
		}
	}
}

func TestASenderWhoPublishesNothingIsNotifiedByHisSignature(t *testing.T) {
	spec.Covers(t, "AS-2.3-d")
	w := newWorld(t, "as-1.2")
	a := w.user(alice)
	w.user(bob)
	delete(w.found, alice)
	if err := w.receive(w.envelope(alice, bob), w.seal(letter(alice, bob, ""), a, alice, bob)); err != nil {
		t.Fatal(err)
	}
	if len(w.notices) != 1 {
		t.Errorf("%d notifications", len(w.notices))
	}
}

func TestAFaultWhileNotifyingIsTriedAgain(t *testing.T) {
	w := newWorld(t, "as-1.2")
	a := w.user(alice)
	w.user(bob)
	raw := w.seal(letter(alice, bob, ""), a, alice, bob)
	w.findErr = errors.New("SERVFAIL")
	w.found = map[string][][]byte{}
	// The signature's certificate serves where discovery fails for now.
	if err := w.receive(w.envelope(alice, bob), raw); err != nil || len(w.notices) != 1 {
		t.Errorf("Receive = %v with %d notifications", err, len(w.notices))
	}
}

func TestTheStricterProfileWantsWrappedMailForNamedRecipients(t *testing.T) {
	w := newWorld(t, "as-1.3")
	a := w.user(alice)
	w.user(bob)
	w.user(carol)
	env := w.envelope(alice, carol)
	raw := w.seal(letter(alice, bob, ""), a, alice, carol) // carol stands in neither To nor Cc
	if err := w.receive(env, raw); !errors.Is(err, sta.ErrRefused) {
		t.Errorf("as-1.3: %v", err)
	}
	w = newWorld(t, "as-1.2")
	a = w.user(alice)
	w.user(carol)
	if err := w.receive(w.envelope(alice, carol), w.seal(letter(alice, bob, ""), a, alice, carol)); err != nil {
		t.Errorf("as-1.2: %v", err)
	}
}

func TestAdmitTakesEncryptedMessagesOnly(t *testing.T) {
	spec.Covers(t, "AS-2.4-e")
	w := newWorld(t, "as-1.2")
	loop := strings.Repeat("Received: x\r\n", 51)
	for header, want := range map[string]int{
		"Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m\r\n\r\n":      0,
		"content-type: application/x-pkcs7-mime; name=\"smime.p7m\"\r\n\r\n":                           0,
		"Content-Type: text/plain\r\n\r\n":                                                             550,
		"Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=b\r\n\r\n": 550,
		"Content-Type: application/pkcs7-mime; smime-type=signed-data\r\n\r\n":                         550,
		"Subject: x\r\n\r\n": 550,
		loop + "Content-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n\r\n": 554,
	} {
		err := w.agent.Admit([]byte(header))
		var reply *mail.Reply
		if got := errors.As(err, &reply); got != (want != 0) || got && reply.Code != want {
			t.Errorf("Admit(%.60q) = %v, want %d", header, err, want)
		}
	}
}

func TestRecipientsOfTheNode(t *testing.T) {
	w := newWorld(t, "as-1.2")
	w.user(bob)
	for rcpt, want := range map[string]int{bob: 0, "BOB@B.direct.test": 0, carol: 550, "x@elsewhere.test": 550} {
		err := w.agent.Recipient(address(t, rcpt))
		var reply *mail.Reply
		if got := errors.As(err, &reply); got != (want != 0) || got && reply.Code != want {
			t.Errorf("Recipient(%s) = %v, want %d", rcpt, err, want)
		}
	}
	// With an organizational key every address answers alike.
	org := w.root.Leaf("org b", testpki.Domain("b.direct.test"))
	w.pairs["b.direct.test"] = []sta.Pair{{Certificate: org.Cert}}
	if err := w.agent.Recipient(address(t, carol)); err == nil {
		t.Error("with a key that opens nothing")
	}
	w.pairs["b.direct.test"][0].Decrypter = cms.Decrypter{Certificate: org.Cert, Key: org.Key.(crypto.Decrypter)}
	if err := w.agent.Recipient(address(t, carol)); err != nil {
		t.Errorf("with an organizational certificate: %v", err)
	}
}

func TestUndeliveredMailIsReportedToItsSender(t *testing.T) {
	w := newWorld(t, "as-1.2")
	err := w.agent.Undelivered(context.Background(), "id1", "1@a.direct.test", address(t, alice), address(t, "x@c.direct.test"), errors.New("550 5.1.1 no such user"), testpki.Now())
	if err != nil {
		t.Fatal(err)
	}
	n, err := report.Parse(w.mailbox[alice])
	if err != nil || n.OriginalMessageID != "1@a.direct.test" || n.Recipient.Key() != "x@c.direct.test" {
		t.Errorf("report %+v, %v", n, err)
	}
	if len(w.failed) != 1 || w.failed[0] != "1@a.direct.test "+alice+" x@c.direct.test 550 5.1.1 no such user" {
		t.Errorf("the story has %q", w.failed)
	}
}

// A connection that broke after the last octet is a failure to the queue, and
// none to the recipient.
func TestNoFailureIsReportedOfAMessageThatArrived(t *testing.T) {
	w := newWorld(t, "as-1.2")
	w.arrived = true
	err := w.agent.Undelivered(context.Background(), "id1", "1@a.direct.test", address(t, alice), address(t, "x@c.direct.test"), errors.New("connection lost"), testpki.Now())
	if err != nil || len(w.failed) != 1 || w.mailbox[alice] != nil || len(w.staged) != 0 {
		t.Errorf("%v; story %q, alice has %q", err, w.failed, w.mailbox[alice])
	}
}
