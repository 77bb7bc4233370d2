package smtpclient

import (
	"errors"
	"fmt"

	"directnode/internal/mail"
)

// Error is why a recipient did not get the message. Err is, or wraps, the
// *mail.Reply of the server, or says what kept us from getting one.
type Error struct {
	Host string // the server, or the domain before one was found
	Step Step
	Err  error
}

// Step is where a delivery failed.
type Step string

// The steps of a delivery, in their order.
const (
	StepLookup   Step = "lookup"
	StepConnect  Step = "connect"
	StepGreeting Step = "greeting"
	StepHello    Step = "EHLO"
	StepTLS      Step = "STARTTLS"
	StepMail     Step = "MAIL"
	StepRcpt     Step = "RCPT"
	StepData     Step = "DATA"
	StepMessage  Step = "message" // the message itself, and the answer to it
	StepLocal    Step = "local"   // reading the message that is to be sent
)

// Error names host, step and reason.
func (e *Error) Error() string { return fmt.Sprintf("smtp to %s: %s: %v", e.Host, e.Step, e.Err) }

// Unwrap gives the reason.
func (e *Error) Unwrap() error { return e.Err }

// Temporary says that a later attempt may succeed: a 4yz reply (RFC 5321
// §4.2.1), and whatever is not a reply, such as a broken connection.
func (e *Error) Temporary() bool {
	var r *mail.Reply
	return !errors.As(e.Err, &r) || r.Temporary()
}

// refusal is an error in terms of a reply that no server has given: the reason
// lies with the message or the domain (RFC 3463).
func refusal(host string, step Step, code int, enhanced [3]int, text string) *Error {
	return &Error{host, step, &mail.Reply{Code: code, Enhanced: enhanced, Text: text}}
}

// nextHost says that the fault is with one host, so that the next may do
// better: it cannot be reached, does not want to talk, or broke off before a
// word of the message had left. Anything said to MAIL, RCPT or DATA is an answer
// of the domain, and to ask its other hosts would be asking until one errs.
func (e *Error) nextHost() bool {
	var r *mail.Reply
	answered := errors.As(e.Err, &r) && r.Code != 421
	switch e.Step {
	case StepConnect, StepGreeting, StepHello, StepTLS:
		return true
	case StepMail, StepRcpt, StepData:
		return !answered
	}
	return false
}
