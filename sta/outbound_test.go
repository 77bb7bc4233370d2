package sta_test

import (
	"bytes"
	"crypto"
	"errors"
	"strings"
	"testing"

	"directnode/internal/cms"
	"directnode/internal/mail"
	"directnode/internal/spec"
	"directnode/internal/testpki"
	"directnode/resolver/trust"
	"directnode/sta/report"
	"directnode/sta/smime"
)

// open opens what the agent sealed, as the recipient would.
func (w *world) open(s smime.Sealed, recipient string) smime.Verified {
	w.t.Helper()
	opened, err := smime.Open(octets(w.t, s), []cms.Decrypter{w.pairs[recipient][0].Decrypter})
	if err != nil {
		w.t.Fatal(err)
	}
	v, err := smime.Verify(opened, cms.VerifyPolicy{})
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

func TestSendSealsForTrustedRecipientsOnly(t *testing.T) {
	spec.Covers(t, "AS-2.4-g", "AS-2.4-h", "AS-4.2.2-a", "AS-4.2.2-f", "AS-1.4-j", "AS-2.6-a", "AS-2.6-c")
	w := newWorld(t, "as-1.2")
	w.user(alice)
	w.user(bob)
	message := letter(alice, bob, "")
	text, err := w.send(w.envelope(alice, bob), message)
	if err != nil || !strings.Contains(text, "1 of 1") {
		t.Fatalf("Send = %q, %v", text, err)
	}
	if len(w.sealed) != 1 || len(w.sealed[0].To()) != 1 || w.sealed[0].To()[0].Key() != bob || w.sealed[0].From().Key() != alice {
		t.Fatalf("sealed %+v", w.sealed)
	}
	wire := octets(t, w.sealed[0])
	if bytes.Contains(wire, []byte("canary")) {
		t.Error("a word of the message crosses in clear")
	}
	v := w.open(w.sealed[0], bob)
	if !bytes.Equal(v.Message(), message) {
		t.Errorf("bob reads %q", v.Message())
	}
	if d := v.Results()[0].Digest; d != crypto.SHA256 {
		t.Errorf("signed with %v", d)
	}
}

func TestSendRefusesWithTheReasonOfEachRecipient(t *testing.T) {
	spec.Covers(t, "AS-4.3-a", "AS-4.1-a", "AS-4.0-b", "AS-4.0-f")
	w := newWorld(t, "as-1.2")
	w.user(alice)
	stranger := testpki.New(t).Root("Another Root").Leaf("x", testpki.Address("untrusted@b.direct.test"))
	w.found["untrusted@b.direct.test"] = [][]byte{stranger.DER}
	w.user("expired@b.direct.test", testpki.Expired())
	w.found["other@b.direct.test"] = w.found[alice] // bound to somebody else
	for rcpt, want := range map[string]string{
		"nobody@b.direct.test":    "no certificate is published",
		"untrusted@b.direct.test": "AS 4.2",
		"expired@b.direct.test":   "AS 4.0",
		"other@b.direct.test":     "AS 4.1",
	} {
		_, err := w.send(w.envelope(alice, rcpt), letter(alice, rcpt, ""))
		var reply *mail.Reply
		if !errors.As(err, &reply) || reply.Code != 550 || !strings.Contains(reply.Text, rcpt) || !strings.Contains(reply.Text, want) {
			t.Errorf("%s: %v, want %q", rcpt, err, want)
		}
		if len(w.verdicts) != 1 || w.verdicts[0].Refusal == nil {
			t.Errorf("%s: the story has %+v", rcpt, w.verdicts)
		}
	}
	if len(w.sealed) != 0 {
		t.Errorf("%d messages were sealed", len(w.sealed))
	}
}

func TestSendKeepsTemporaryFaultsApartFromAbsence(t *testing.T) {
	w := newWorld(t, "as-1.2")
	w.user(alice)
	w.findErr = errors.New("SERVFAIL")
	_, err := w.send(w.envelope(alice, bob), letter(alice, bob, ""))
	var reply *mail.Reply
	if !errors.As(err, &reply) || !reply.Temporary() {
		t.Errorf("the reply is %v, want a temporary one", err)
	}
	if w.verdicts[0].Refusal.Kind != trust.TemporaryFault {
		t.Errorf("verdict %+v", w.verdicts[0].Refusal)
	}
}

func TestSendDeliversToTheGoodAndReportsTheBad(t *testing.T) {
	spec.Covers(t, "AS-3.0-c", "AS-3.1.2-a")
	w := newWorld(t, "as-1.2")
	w.user(alice)
	w.user(bob)
	if _, err := w.send(w.envelope(alice, bob, "nobody@b.direct.test"), letter(alice, bob, "")); err != nil {
		t.Fatal(err)
	}
	if len(w.sealed) != 1 || len(w.sealed[0].To()) != 1 {
		t.Fatalf("sealed %+v", w.sealed)
	}
	n, err := report.Parse(w.mailbox[alice])
	if err != nil || n.OriginalMessageID != "1@a.direct.test" || n.Recipient.Key() != "nobody@b.direct.test" || n.Action != "failed" {
		t.Errorf("alice's report: %+v, %v", n, err)
	}
	if bytes.Contains(w.mailbox[alice], []byte("canary")) {
		t.Error("the report repeats words of the message")
	}
}

func TestBlindCopiesAreSealedApart(t *testing.T) {
	w := newWorld(t, "as-1.2")
	w.user(alice)
	w.user(bob)
	w.user(carol)
	if _, err := w.send(w.envelope(alice, bob, carol), letter(alice, bob, "Bcc: "+carol+"\r\n")); err != nil {
		t.Fatal(err)
	}
	if len(w.sealed) != 2 || w.puts != 1 {
		t.Fatalf("%d sealed messages in %d steps, want one for bob and one for carol in one", len(w.sealed), w.puts)
	}
	for _, s := range w.sealed {
		if len(s.To()) != 1 {
			t.Errorf("one message goes to %v", s.To())
		}
		if v := w.open(s, s.To()[0].Key()); bytes.Contains(v.Message(), []byte("Bcc")) || v.Header().Has("Bcc") {
			t.Error("the message names the blind copy")
		}
	}
}

func TestSubmissionsAreHeldAgainstTheirEnvelope(t *testing.T) {
	spec.Covers(t, "AS-2.1-a", "AS-2.2-a")
	w := newWorld(t, "as-1.2")
	w.user(alice)
	w.user(bob)
	two := bytes.Replace(letter(alice, bob, ""), []byte("To: "), []byte("From: "+carol+"\r\nTo: "), 1)
	for name, c := range map[string]struct {
		env     mail.Envelope
		message []byte
		want    string
	}{
		"null path":          {w.envelope("", bob), letter(alice, bob, ""), "needs a sender"},
		"foreign sender":     {w.envelope("x@c.direct.test", bob), letter("x@c.direct.test", bob, ""), "not one of this node's"},
		"another From":       {w.envelope(alice, bob), letter(carol, bob, ""), "MAIL FROM must equal"},
		"two From fields":    {w.envelope(alice, bob), two, "2 From fields"},
		"no key":             {w.envelope("dave@a.direct.test", bob), letter("dave@a.direct.test", bob, ""), "no certificate with its key"},
		"no message":         {w.envelope(alice, bob), []byte("hello\r\n"), "RFC 5322"},
		"To that is no list": {w.envelope(alice, bob), letter(alice, "undisclosed", ""), "field To"},
	} {
		_, err := w.send(c.env, c.message)
		var reply *mail.Reply
		if !errors.As(err, &reply) || reply.Code < 500 || !strings.Contains(reply.Text, c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if len(w.sealed) != 0 {
		t.Errorf("%d messages were sealed", len(w.sealed))
	}
}

func TestSubmissionsAreValidMIME(t *testing.T) {
	spec.Covers(t, "AS-2.1-b")
	w := newWorld(t, "as-1.2")
	w.user(alice)
	w.user(bob)
	with := func(fields, body string) []byte {
		return []byte("From: " + alice + "\r\nTo: " + bob + "\r\n" + fields + "\r\n" + body)
	}
	for name, message := range map[string][]byte{
		"multipart without boundary": with("MIME-Version: 1.0\r\nContent-Type: multipart/mixed\r\n", "x\r\n"),
		"multipart that never ends":  with("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n", "--b\r\n\r\nx\r\n"),
		"unknown transfer encoding":  with("MIME-Version: 1.0\r\nContent-Transfer-Encoding: rot13\r\n", "x\r\n"),
		"bad Base64":                 with("MIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n", "!!!!\r\n"),
	} {
		_, err := w.send(w.envelope(alice, bob), message)
		var reply *mail.Reply
		if !errors.As(err, &reply) || reply.Code != 554 || !strings.Contains(reply.Text, "MIME") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(w.sealed) != 0 {
		t.Errorf("%d messages were sealed", len(w.sealed))
	}
	for name, message := range map[string][]byte{
		"plain text without MIME fields": with("", "x\r\n"),
		"a whole multipart":              with("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n", "--b\r\n\r\nx\r\n--b--\r\n"),
	} {
		if _, err := w.send(w.envelope(alice, bob), message); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSenderMaySubmitForAnotherFrom(t *testing.T) {
	w := newWorld(t, "as-1.2")
	w.user(alice)
	w.user(bob)
	if _, err := w.send(w.envelope(alice, bob), letter("boss@a.direct.test", bob, "Sender: "+alice+"\r\n")); err != nil {
		t.Fatal(err)
	}
}

func TestMissingMessageIDAndDateAreAdded(t *testing.T) {
	spec.Covers(t, "AS-2.2-a")
	w := newWorld(t, "as-1.2")
	w.user(alice)
	w.user(bob)
	if _, err := w.send(w.envelope(alice, bob), []byte("From: "+alice+"\r\nTo: "+bob+"\r\n\r\nx\r\n")); err != nil {
		t.Fatal(err)
	}
	h := w.open(w.sealed[0], bob).Header()
	if h.Get("Date") == "" || !strings.HasSuffix(h.Get("Message-ID"), "@node-b.direct.test>") || w.sealed[0].MessageID() == "" {
		t.Errorf("header %q %q", h.Get("Date"), h.Get("Message-ID"))
	}
}

func TestTheSignerIsTheNewestValidPairOfTheSender(t *testing.T) {
	w := newWorld(t, "as-1.2")
	w.user(alice, testpki.Expired())
	w.user(alice, testpki.EncryptOnly())
	want := w.user(alice)
	w.user(bob)
	if _, err := w.send(w.envelope(alice, bob), letter(alice, bob, "")); err != nil {
		t.Fatal(err)
	}
	if got := w.open(w.sealed[0], bob).Signers(); len(got) != 1 || !got[0].Certificate.Equal(want.Certificate) {
		t.Errorf("signed by %v", got)
	}
}
