package report

import (
	"fmt"
	"mime"
	"strings"
	"time"

	"directnode/internal/direct"
	"directnode/internal/mail"
)

// Failure is one recipient that a message did not reach.
type Failure struct {
	Recipient  direct.Address
	Status     string // RFC 3463, for instance "5.1.1"; "": "5.0.0"
	Reason     string // what happened and why, in a sentence
	Remedy     string // what the sender can do; "": what fits the status
	Diagnostic string // the answer of the remote server, word for word; "": none
}

// DSN is a failed delivery status notification about one message.
type DSN struct {
	From              direct.Address // zero: postmaster of the domain of To
	To                direct.Address // the original sender
	ReportingMTA      string         // host name of the node
	OriginalMessageID string         // of the message that is reported on
	MessageID         string         // of the notification itself
	At                time.Time      // its Date
	Arrival           time.Time      // when the message was taken; zero: not stated
	Failures          []Failure      // at least one
}

// Compose gives the DSN as a complete message. It fails without To, without a
// Message-ID, without failures, and for a status that is none.
func (d DSN) Compose() ([]byte, error) {
	if d.From.IsZero() && !d.To.IsZero() {
		from, err := direct.ParseAddress("postmaster@" + d.To.Domain().String())
		if err != nil {
			return nil, fmt.Errorf("compose DSN to %s: %w", d.To, err)
		}
		d.From = from
	}
	if len(d.Failures) == 0 {
		return nil, fmt.Errorf("compose DSN to %s: nothing failed", d.To)
	}
	fields, err := d.fields()
	if err != nil {
		return nil, fmt.Errorf("compose DSN to %s: %w", d.To, err)
	}
	return message{
		from: d.From, to: d.To, subject: "Undelivered: your message did not reach everybody", messageID: d.MessageID, original: bracketed(d.OriginalMessageID), at: d.At,
		reportType: "delivery-status", text: d.human(), fields: fields,
	}.compose()
}

// fields is the body of message/delivery-status: the group about the message,
// then one group for each recipient, each after an empty line (RFC 3464 §2.1).
func (d DSN) fields() ([]byte, error) {
	var b mail.Builder
	b.Add("Reporting-MTA", "dns; "+asciiLine(d.ReportingMTA)) // §2.2.2
	if id := bracketed(d.OriginalMessageID); id != "" {
		b.Add("X-Original-Message-ID", id) // AS 3.1.2
	}
	if !d.Arrival.IsZero() {
		b.AddDate("Arrival-Date", d.Arrival) // §2.2.5
	}
	fields, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	for _, f := range d.Failures {
		group, err := f.fields()
		if err != nil {
			return nil, err
		}
		fields = append(append(fields, '\r', '\n'), group...)
	}
	return fields, nil
}

// fields is one per-recipient group (RFC 3464 §2.3).
func (f Failure) fields() ([]byte, error) {
	if f.Recipient.IsZero() {
		return nil, fmt.Errorf("a failure without recipient")
	}
	if f.Status == "" {
		f.Status = "5.0.0"
	}
	if !isStatus(f.Status) {
		return nil, fmt.Errorf("status %q", f.Status)
	}
	var b mail.Builder
	b.Add("Final-Recipient", "rfc822; "+f.Recipient.String()) // §2.3.2
	b.Add("Action", "failed")                                 // §2.3.3
	status := f.Status                                        // §2.3.4
	if f.Reason != "" {
		status += " " + comment(f.Reason) // AS 3.3: the explanation is a comment to the status
	}
	b.Add("Status", status)
	if f.Diagnostic != "" {
		b.Add("Diagnostic-Code", "smtp; "+asciiLine(f.Diagnostic)) // §2.3.6
	}
	return b.Bytes()
}

// comment makes a comment of any text (RFC 5322 §3.2.2). Beyond ASCII it is
// encoded words in base64, which has no parenthesis to escape (RFC 2047 §5).
func comment(text string) string {
	text = mail.OneLine(text)
	if encoded := mime.BEncoding.Encode("utf-8", text); encoded != text {
		return "(" + encoded + ")"
	}
	return "(" + strings.NewReplacer(`\`, `\\`, `(`, `\(`, `)`, `\)`).Replace(text) + ")"
}

// isStatus tells a status code of a failure, permanent or for the time being
// (RFC 3463 §2: class, subject, detail).
func isStatus(s string) bool {
	pieces := strings.Split(s, ".")
	if len(pieces) != 3 || pieces[0] != "4" && pieces[0] != "5" {
		return false
	}
	for _, p := range pieces[1:] {
		if p == "" || len(p) > 3 || strings.Trim(p, "0123456789") != "" {
			return false
		}
	}
	return true
}

// human is the text for people: what happened, why, what to do.
func (d DSN) human() string {
	about := "Your message"
	if id := bracketed(d.OriginalMessageID); id != "" {
		about += " " + id
	}
	text := wrap(about + " was not delivered to the recipients below. Nothing of it was sent in clear. Recipients that are not listed are not affected.")
	for _, f := range d.Failures {
		text += "\n" + f.Recipient.String() + "\n"
		if f.Reason != "" {
			text += wrap("Reason: " + f.Reason)
		}
		if f.Diagnostic != "" {
			text += wrap("The other server said: " + f.Diagnostic)
		}
		text += wrap("What to do: " + f.remedy())
	}
	return text
}

// remedy gives the advice that fits the status where the caller has no better.
func (f Failure) remedy() string {
	if f.Remedy != "" {
		return f.Remedy
	}
	for _, r := range remedies {
		if strings.HasPrefix(strings.TrimLeft(f.Status, "45"), r.status) {
			return r.advice
		}
	}
	return "Reach the recipient by other means, and tell your administrator if it happens again."
}

// remedies by subject and detail of the status (RFC 3463 §3), the more
// particular first.
var remedies = []struct{ status, advice string }{
	{".1.2", "Check the part of the address after the @. If it is right, ask the recipient's organization whether it receives Direct messages."},
	{".1.", "Check the address with the recipient and send the message again."},
	{".2.2", "Ask the recipient to make room in the mailbox and send the message again."},
	{".3.4", "Send the message in smaller pieces."},
	{".4.7", "Send the message again later, or reach the recipient by other means."},
	{".4.", "Send the message again later."},
	{".6.", "Ask the recipient which kinds of documents the address takes."},
	{".7.", "Ask your administrator to settle with the recipient's organization whom each side trusts."},
}
