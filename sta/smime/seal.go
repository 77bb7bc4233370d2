package smime

import (
	"bytes"
	"encoding/base64"
	"io"
	"slices"

	"directnode/internal/cms"
	"directnode/internal/direct"
	"directnode/internal/mail"
	"directnode/resolver/trust"
)

// SealOptions are the choices of Seal. The zero value is what every peer can
// read: AES-128-CBC (AS 2.7) under RSAES-OAEP with SHA-1.
type SealOptions struct {
	Cipher    cms.Cipher
	Transport cms.KeyTransport
}

// Sealed is a message as it crosses the wire: signed, encrypted, with an outer
// header that tells no more than the envelope does. Only Seal makes one. It
// never changes; copies share their octets.
type Sealed struct {
	from      direct.Address
	to        []direct.Address
	messageID string
	octets    []byte
	report    bool
}

// From is the envelope sender (MAIL FROM).
func (s Sealed) From() direct.Address { return s.from }

// To is the recipients whom the message is encrypted to, each once, in the order given to Seal.
func (s Sealed) To() []direct.Address { return slices.Clone(s.to) }

// MessageID is the identifier that inner and outer header share, without brackets.
func (s Sealed) MessageID() string { return s.messageID }

// Size is the number of octets that WriteTo writes.
func (s Sealed) Size() int64 { return int64(len(s.octets)) }

// IsReport tells that the message inside is a mail system report: nobody may be
// told if it cannot be delivered (AS 3.0).
func (s Sealed) IsReport() bool { return s.report }

// IsZero tells the zero value, which is no message.
func (s Sealed) IsZero() bool { return len(s.octets) == 0 }

// WriteTo writes the message, header and body, with CRLF.
func (s Sealed) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(s.octets)
	return int64(n), err
}

// Seal encrypts a signed message once for all certificates of to (AS 2.4,
// RFC 5751 §3.3) and gives it the outer header. The recipients are the addresses
// that the certificates were judged for; each of them can read the message and
// stands in the outer To, and nobody else does: what the envelope says, the
// header may. from is MAIL FROM and must be the message's From or Sender.
// Errors are *Refusal, or those of cms.Encrypt.
func Seal(s Signed, from direct.Address, to []trust.Trusted, o SealOptions) (Sealed, error) {
	if len(s.entity) == 0 {
		return Sealed{}, refuse(CheckFormat, "AS 2.4", "nothing was signed", nil)
	}
	if from.IsZero() || !from.Equal(s.head.from) && !from.Equal(s.head.sender) {
		// AS 2.4: signing is performed on the basis of the actual sender.
		return Sealed{}, refuse(CheckSender, "AS 2.4", "the envelope sender is neither From nor Sender of the message", nil)
	}
	recipients, addresses, err := recipientsOf(to, o.Transport)
	if err != nil {
		return Sealed{}, err
	}
	sealed := Sealed{from: from, to: addresses, messageID: s.head.messageID, report: s.report}
	header, err := s.head.outer(addresses)
	if err != nil {
		return Sealed{}, err
	}
	var out bytes.Buffer
	out.Grow(len(header) + s.entity.size()/3*4/76*78 + len(recipients)*1024 + 1024)
	out.Write(header)
	lines := &lineWriter{w: &out}
	encoder := base64.NewEncoder(base64.StdEncoding, lines)
	if err := cms.Encrypt(encoder, s.entity.reader(), recipients, o.Cipher); err != nil {
		return Sealed{}, err
	}
	if err := encoder.Close(); err != nil {
		return Sealed{}, err
	}
	lines.end()
	sealed.octets = out.Bytes()
	return sealed, nil
}

// recipientsOf gives the certificates to encrypt to and the addresses, each once.
func recipientsOf(to []trust.Trusted, transport cms.KeyTransport) ([]cms.Recipient, []direct.Address, error) {
	var recipients []cms.Recipient
	var addresses []direct.Address
	for _, t := range to {
		if t.Certificate() == nil || t.Purpose() != trust.Encrypt {
			return nil, nil, refuse(CheckRecipients, "AS 4", "a certificate that was not judged for encryption", nil)
		}
		recipients = append(recipients, cms.Recipient{Certificate: t.Certificate(), Transport: transport})
		if !slices.ContainsFunc(addresses, t.Address().Equal) {
			addresses = append(addresses, t.Address())
		}
	}
	if len(recipients) == 0 {
		return nil, nil, refuse(CheckRecipients, "AS 2.3", "no certificate to encrypt to", nil)
	}
	return recipients, addresses, nil
}

// outer composes the outer header. AS 2.2 requires From, To, Date and
// Message-ID; everything else of the message, the subject and the display names
// among it, stays inside (AS 2.4, 6.1).
func (d head) outer(to []direct.Address) ([]byte, error) {
	var b mail.Builder
	b.Add("MIME-Version", "1.0")
	b.AddAddresses("From", d.from)
	b.AddAddresses("To", to...)
	b.Add("Date", d.date)
	b.Add("Message-ID", "<"+d.messageID+">")
	b.Add("Content-Type", typeEnveloped+`; smime-type=enveloped-data; name="smime.p7m"`)
	b.Add("Content-Transfer-Encoding", "base64")
	b.Add("Content-Disposition", `attachment; filename="smime.p7m"`)
	b.Body()
	return b.Bytes()
}

// lineWriter breaks base64 into lines of 76 characters (RFC 2045 §6.8).
type lineWriter struct {
	w      *bytes.Buffer
	column int
}

func (l *lineWriter) Write(b []byte) (int, error) {
	const width = 76
	for rest := b; len(rest) > 0; {
		n := min(width-l.column, len(rest))
		l.w.Write(rest[:n])
		rest = rest[n:]
		if l.column += n; l.column == width {
			l.end()
		}
	}
	return len(b), nil
}

// end ends a line that has begun.
func (l *lineWriter) end() {
	if l.column > 0 {
		l.w.WriteString("\r\n")
		l.column = 0
	}
}
