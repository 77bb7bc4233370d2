package sta

import (
	"fmt"
	"strings"

	"directnode/internal/mail"
	"directnode/resolver/trust"
)

// This file is the only place where a decision becomes an SMTP reply
// (RFC 5321 §4.2, RFC 3463).

// Replies to a submitter, who is one of our own and may know everything.
var (
	replyNotLocal    = &mail.Reply{Code: 550, Enhanced: [3]int{5, 7, 1}, Text: "the sender's domain is not one of this node's; submit with an address of a domain that `directctl domain list` shows"}
	replyNullPath    = &mail.Reply{Code: 550, Enhanced: [3]int{5, 7, 1}, Text: "a submission needs a sender address: trust is decided for the sender (AS 2.4)"}
	replyNoKey       = &mail.Reply{Code: 550, Enhanced: [3]int{5, 7, 8}, Text: "this node holds no certificate with its key that may sign for the sender; import one with `directctl cert import`"}
	replyFromDiffer  = &mail.Reply{Code: 550, Enhanced: [3]int{5, 7, 1}, Text: "MAIL FROM must equal the message's From or Sender"}
	replyFromForeign = &mail.Reply{Code: 550, Enhanced: [3]int{5, 7, 1}, Text: "Sender may speak for a From of its own domain only"}
)

// Replies to the outside, which say nothing about what is inside.
var (
	replyRelay       = &mail.Reply{Code: 550, Enhanced: [3]int{5, 7, 1}, Text: "not an address of this node"}
	replyUnknown     = &mail.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "no such address"}
	replyUnencrypted = &mail.Reply{Code: 550, Enhanced: [3]int{5, 7, 1}, Text: "only signed and encrypted messages are taken here (application/pkcs7-mime, enveloped-data)"}
	replyLoop        = &mail.Reply{Code: 554, Enhanced: [3]int{5, 4, 6}, Text: "too many hops: the message is in a loop"}
)

// TooLarge is the reply to a message, or a header, that passes a limit.
func TooLarge(err error) error {
	return &mail.Reply{Code: 552, Enhanced: [3]int{5, 3, 4}, Text: err.Error()}
}

// NoSpace is the reply to a message for which there is no room on the disk now.
func NoSpace() error {
	return &mail.Reply{Code: 452, Enhanced: [3]int{4, 3, 1}, Text: "too little storage for a message at this time, try again later"}
}

// malformed refuses a submission that is no Internet message.
func malformed(what string) *mail.Reply {
	return &mail.Reply{Code: 554, Enhanced: [3]int{5, 6, 0}, Text: what}
}

// maxReasons bounds the reply to a submission whose recipients were all
// refused; the story keeps every reason.
const maxReasons = 3

// refuseAll answers a submission of which nothing can be sent. It is temporary
// where a later attempt may find what could not be looked up now.
func refuseAll(verdicts []Verdict) *mail.Reply {
	r := &mail.Reply{Code: 550, Enhanced: [3]int{5, 7, 1}}
	var reasons []string
	for _, v := range verdicts {
		if v.Refusal.Temporary() {
			r = &mail.Reply{Code: 451, Enhanced: [3]int{4, 4, 3}}
		}
		reasons = append(reasons, v.Address.String()+": "+reason(v.Refusal))
	}
	if n := len(reasons); n > maxReasons {
		reasons = append(reasons[:maxReasons], fmt.Sprintf("and %d more", n-maxReasons))
	}
	r.Text = "nothing was sent. " + strings.Join(reasons, "; ")
	return r
}

// reason says to one of our own why a recipient was refused.
func reason(r *trust.Refusal) string {
	return fmt.Sprintf("%s (%s, %s)", r.Detail, r.Check, r.Citation)
}

// status is the enhanced status code of a refusal in a delivery status
// notification (RFC 3464 §2.3.4).
func status(r *trust.Refusal) string {
	switch {
	case r.Temporary():
		return "4.4.3" // RFC 3463 §3.5: directory server failure
	case r.Kind == trust.NotFound:
		return "5.7.5" // RFC 3463 §3.8: cryptographic failure; there is nothing to encrypt to
	}
	return "5.7.1"
}
