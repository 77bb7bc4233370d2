package sta

import (
	"time"

	"directnode/internal/direct"
	"directnode/resolver/trust"
)

// Verdict is what was decided about one recipient of a submission: to send,
// with the certificates to encrypt to, or not to, with the reason. There is one
// per recipient, and all are kept.
type Verdict struct {
	Address direct.Address
	Source  string // where the certificates were found
	Trusted []trust.Trusted
	Refusal *trust.Refusal // nil exactly where Trusted is not empty
}

// State names the verdict for logs and the story.
func (v Verdict) State() string {
	if v.Refusal != nil {
		return "refused"
	}
	return "queued"
}

// Outcome is what became of an inbound message for one recipient.
type Outcome struct {
	Address direct.Address
	State   string // delivered, refused
	Reason  string // for the operator only, never said to the sender
}

// Notice is a notification that arrived for a message of ours.
type Notice struct {
	MessageID   string         // of the notification itself
	Original    string         // Message-ID of the message it is about
	Recipient   direct.Address // whom it speaks of
	To          direct.Address // to whom of ours it came
	Signer      direct.Address // who signed it: verified, trusted, bound
	Disposition string         // processed, dispatched, displayed, failed
	Reason      string
	At          time.Time
}
