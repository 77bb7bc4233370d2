package report

import (
	"fmt"
	"strings"
	"time"

	"directnode/internal/direct"
	"directnode/internal/mail"
)

// The disposition types of AS 3.1.1, which is what a report may say that we
// compose, and three that only readers meet.
const (
	Processed  = "processed"  // trust verified, responsibility taken (AS 3.2)
	Dispatched = "dispatched" // handed to the final destination
	Displayed  = "displayed"  // shown to the recipient
	Failed     = "failed"     // not delivered, and given up

	Deleted = "deleted" // RFC 3798 §3.2.6.2; read only
	Denied  = "denied"  // RFC 2298 §3.2.6; read only
	Other   = "other"   // a type that nobody defined; read only
)

// defaultProduct stands in Reporting-UA where the caller names none: the field
// reads "name; product" (RFC 3798 §3.2.1), and checkers want both.
const defaultProduct = "Direct Node"

// FinalDestinationField is the extension field by which a dispatched MDN
// confirms delivery to the final destination.
const FinalDestinationField = "X-DIRECT-FINAL-DESTINATION-DELIVERY"

// MDN is a notification about one message by one of its recipients.
type MDN struct {
	Disposition       string         // Processed, Dispatched, Displayed or Failed
	From              direct.Address // the recipient it speaks for (AS 3.0-g)
	To                direct.Address // the original sender, or whom he named
	FinalRecipient    direct.Address // zero: From
	OriginalRecipient direct.Address // zero: not stated
	OriginalMessageID string         // of the message that is reported on; "": it had none
	ReportingUA       string         // "host name" or "host name; product"
	MessageID         string         // of the notification itself
	At                time.Time      // its Date
	Failure           string         // why, for type Failed (AS 3.3); any text, any line ends
	Error             string         // makes the disposition "…/error", which then is explained as it must be (AS 3.1.1)
	FinalDestination  bool           // adds FinalDestinationField
}

// Compose gives the MDN as a complete message. It fails for a disposition that
// is not one of the four, without From or To, and without a Message-ID.
func (m MDN) Compose() ([]byte, error) {
	if m.FinalRecipient.IsZero() {
		m.FinalRecipient = m.From
	}
	text, ok := mdnTexts[m.Disposition]
	if !ok {
		return nil, fmt.Errorf("compose MDN from %s: disposition %q", m.From, m.Disposition)
	}
	fields, err := m.fields()
	if err != nil {
		return nil, fmt.Errorf("compose MDN from %s: %w", m.From, err)
	}
	return message{
		from: m.From, to: m.To, subject: text.subject, messageID: m.MessageID, original: bracketed(m.OriginalMessageID), at: m.At,
		reportType: "disposition-notification", text: m.human(text.said), fields: fields,
	}.compose()
}

// fields is the body of message/disposition-notification, in the order of the
// grammar (RFC 3798 §3.1).
func (m MDN) fields() ([]byte, error) {
	var b mail.Builder
	b.Add("Reporting-UA", reportingUA(m.ReportingUA))
	if !m.OriginalRecipient.IsZero() {
		b.Add("Original-Recipient", "rfc822; "+m.OriginalRecipient.String())
	}
	b.Add("Final-Recipient", "rfc822; "+m.FinalRecipient.String())
	if id := bracketed(m.OriginalMessageID); id != "" {
		b.Add("Original-Message-ID", id)
	}
	disposition := "automatic-action/MDN-sent-automatically; " + m.Disposition
	if m.Error != "" {
		disposition += "/error"
	}
	b.Add("Disposition", disposition)
	if m.Failure != "" {
		// RFC 3798 §3.2.7. RFC 8098 dropped the field; AS 3.3 keeps it.
		b.AddText("Failure", m.Failure)
	}
	if m.Error != "" {
		b.AddText("Error", m.Error)
	}
	if m.FinalDestination {
		b.Add(FinalDestinationField, "")
	}
	return b.Bytes()
}

// reportingUA completes "name; product" (RFC 3798 §3.2.1).
func reportingUA(s string) string {
	name, product, _ := strings.Cut(asciiLine(s), ";")
	name, product = strings.TrimSpace(name), strings.TrimSpace(product)
	if product == "" {
		product = defaultProduct
	}
	return strings.TrimSpace(name + "; " + product)
}

// asciiLine is mail.OneLine with "?" for what is not ASCII.
func asciiLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r > '~' {
			return '?'
		}
		return r
	}, mail.OneLine(s))
}

// mdnText is what a disposition says to people.
type mdnText struct {
	subject, said string
}

var mdnTexts = map[string]mdnText{
	Processed: {"Processed: your message was received", "was received. Its signature was verified and its sender is trusted. The receiving system has taken responsibility for " +
		"delivering it to the recipient. This does not say that it was delivered or read."},
	Dispatched: {"Dispatched: your message was delivered", "was delivered to its final destination. This does not say that it was read."},
	Displayed:  {"Displayed: your message was shown", "was shown to the recipient. This does not say that it was understood or acted upon."},
	Failed:     {"Failed: your message was not delivered", "was received, but it was not delivered to the recipient and will not be tried again."},
}

// human is the text for people: what happened and, where something failed, why.
func (m MDN) human(said string) string {
	about := "Your message"
	if id := bracketed(m.OriginalMessageID); id != "" {
		about += " " + id
	}
	text := wrap(about + " to " + m.FinalRecipient.String() + " " + said)
	for _, why := range []string{m.Failure, m.Error} {
		if why != "" {
			text += "\n" + wrap("Reason: "+why)
		}
	}
	return text
}
