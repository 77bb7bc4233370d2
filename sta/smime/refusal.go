package smime

import "fmt"

// The checks that a Refusal names.
const (
	CheckFormat     = "format"            // the octets are no message or no MIME
	CheckHeader     = "header"            // a field that must stand once is absent, doubled or wrong
	CheckBlindCopy  = "bcc"               // a Bcc field in a message to be sent
	CheckRecipients = "recipients"        // nobody to encrypt to, or not for encryption
	CheckSender     = "sender"            // the envelope sender is not the message's
	CheckEnveloped  = "enveloped"         // the root is no encrypted S/MIME message
	CheckNested     = "nested-encryption" // encrypted content inside encrypted content
	CheckOpaque     = "opaque-signature"  // the signature encloses its content
	CheckSigned     = "signed"            // the decrypted content is not a multipart/signed of two parts
	CheckSignature  = "signature"         // no signature verifies
	CheckWrapping   = "wrapping"          // the wrapped message cannot be unwrapped
)

// Refusal says which check a message did not pass. It is for our log and our
// audit; nothing of it is said to a peer (AS 3.0). It never quotes the message.
type Refusal struct {
	Check    string // one of the constants
	Citation string // document and section of the rule
	Detail   string
	Err      error // what lies below, if anything
}

func (r *Refusal) Error() string {
	s := fmt.Sprintf("%s: %s (%s)", r.Check, r.Detail, r.Citation)
	if r.Err != nil {
		s += ": " + r.Err.Error()
	}
	return s
}

// Unwrap gives what lies below.
func (r *Refusal) Unwrap() error { return r.Err }

// Temporary is false: the same message never passes later.
func (r *Refusal) Temporary() bool { return false }

func refuse(check, citation, detail string, err error) error {
	return &Refusal{Check: check, Citation: citation, Detail: detail, Err: err}
}
