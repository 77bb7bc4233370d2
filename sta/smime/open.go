package smime

import (
	"bytes"
	"errors"
	"strings"

	"directnode/internal/cms"
	"directnode/internal/mail"
)

// Opened is a decrypted message whose signature has not been looked at. It shows
// nothing of its content: until Verify has passed, the content may be anybody's
// (CBC proves nothing), and parts of it may have been moved.
type Opened struct {
	outer  mail.Header
	entity []byte
}

// Outer is the header that came in clear.
func (o Opened) Outer() mail.Header { return o.outer }

// Recognize tells by the header alone whether a message is an encrypted S/MIME
// message (AS 2.4): what the MX port admits.
func Recognize(h mail.Header) bool { return checkEnveloped(h) == nil }

// checkEnveloped reads RFC 5751 §3.2 leniently: both media types, parameters in
// any order and case, and none of them needed. smime-type, where it is given,
// must say enveloped-data.
func checkEnveloped(h mail.Header) error {
	mediaType, params, err := h.ContentType()
	if err != nil {
		return refuse(CheckFormat, "RFC 2045 §5.1", "Content-Type", err)
	}
	if mediaType != typeEnveloped && mediaType != typeEnvelopedLegacy {
		return refuse(CheckEnveloped, "AS 2.4", "the message is not encrypted", nil)
	}
	switch strings.ToLower(strings.TrimSpace(params["smime-type"])) {
	case "enveloped-data", "":
		return nil
	case "signed-data":
		return refuse(CheckOpaque, "AS 2.4", "the message is signed but not encrypted", nil)
	}
	return refuse(CheckEnveloped, "AS 2.4", "another kind of S/MIME message than enveloped-data", nil)
}

// Closed is a message as it came from the wire, taken apart as far as that goes
// without a key.
type Closed struct {
	outer     mail.Header
	enveloped *cms.EnvelopedData
	size      int // of the encrypted object; the content is smaller
}

// Parse takes the clear part of a message apart. Errors are *Refusal.
func Parse(raw []byte) (Closed, error) {
	h, body, err := mail.Split(raw)
	if err != nil {
		return Closed{}, refuse(CheckFormat, "RFC 5322 §2.2", "not an Internet message", err)
	}
	if err := checkEnveloped(h); err != nil {
		return Closed{}, err
	}
	octets, err := mail.DecodeBody(h, body)
	if err != nil {
		return Closed{}, refuse(CheckFormat, "RFC 2045 §6", "the transfer encoding of the encrypted content", err)
	}
	enveloped, err := cms.ParseEnvelopedData(octets, cms.Limits{})
	if err != nil {
		return Closed{}, refuse(CheckEnveloped, "RFC 5652 §6", "no EnvelopedData", err)
	}
	// A header of its own: the slices of h would keep all of raw in memory.
	h, _, err = mail.Split(bytes.Clone(raw[:len(raw)-len(body)]))
	return Closed{outer: h, enveloped: enveloped, size: len(octets)}, err
}

// Open decrypts with the first of the keys that fits. The keys must be those of
// one actual recipient (AS 2.4): what opens with somebody else's key is not for
// this one. diagnose, unless nil, is told why a message did not decrypt; the
// sentence is for the node's own log, see cms.DecryptDiagnosed. The error is
// cms.ErrDecrypt, the same value whatever happened.
func (c Closed) Open(keys []cms.Decrypter, diagnose func(reason string)) (Opened, error) {
	var plain bytes.Buffer
	plain.Grow(c.size)
	if err := c.enveloped.DecryptDiagnosed(&plain, keys, diagnose); err != nil {
		return Opened{}, err
	}
	return Opened{outer: c.outer, entity: plain.Bytes()}, nil
}

// Opens tells whether the keys decrypt the message to the content that o holds.
// It keeps no second copy of the content.
func (c Closed) Opens(o Opened, keys []cms.Decrypter, diagnose func(reason string)) bool {
	same := comparison{rest: o.entity}
	return c.enveloped.DecryptDiagnosed(&same, keys, diagnose) == nil && len(same.rest) == 0
}

// comparison is a writer that takes exactly the octets that it expects.
type comparison struct{ rest []byte }

func (c *comparison) Write(b []byte) (int, error) {
	if !bytes.HasPrefix(c.rest, b) {
		return 0, errors.New("another content")
	}
	c.rest = c.rest[len(b):]
	return len(b), nil
}

// Open decrypts a message as it came from the wire with the first of the keys
// that fits. The keys must be those of the actual recipients (AS 2.4). Only the
// root is ever decrypted: an encrypted part inside another message is an
// attacker's frame around somebody's mail (EFAIL), and refused.
//
// The error is cms.ErrDecrypt, the same value whatever happened, once a key is
// involved; before that it is a *Refusal.
func Open(raw []byte, keys []cms.Decrypter) (Opened, error) {
	c, err := Parse(raw)
	if err != nil {
		return Opened{}, err
	}
	return c.Open(keys, nil)
}
