package smime

import (
	"errors"
	netmail "net/mail"
	"strings"
	"time"

	"directnode/internal/cms"
	"directnode/internal/direct"
	"directnode/internal/mail"
)

// Media types and names of S/MIME (RFC 5751 §3.2, §3.4.3). The x- forms are
// read, never written (AS 2.4, 2.5.1).
const (
	typeEnveloped       = "application/pkcs7-mime"
	typeEnvelopedLegacy = "application/x-pkcs7-mime"
	typeSignature       = "application/pkcs7-signature"
	typeSignatureLegacy = "application/x-pkcs7-signature"
	typeSigned          = "multipart/signed"
	typeMessage         = "message/rfc822"
)

// Signed is a message with its detached signature, not yet encrypted. Only Sign
// makes one; the zero value is nothing and cannot be sealed.
type Signed struct {
	entity pieces // multipart/signed, complete
	head   head
	report bool
}

// head is what an outer header repeats of a message, and whom it is from.
type head struct {
	from      direct.Address
	sender    direct.Address // zero: no Sender field
	date      string
	messageID string // without brackets
}

// Sign wraps a complete message (RFC 5322) and signs it, for every signer, with
// SHA-256. Line ends become CRLF (RFC 5751 §3.1.1); no other octet changes, and
// whoever unwraps gets the message back.
//
// The message needs what AS 2.2 wants of it: one From with one address, one
// Date, one Message-ID. It must not have a Bcc field, which would tell every
// recipient of the others, nor a CR that is not before an LF, nor a NUL
// (RFC 5322 §2.2, §4): readers disagree about what these mean. Errors are
// *Refusal, or those of cms.SignDetached.
func Sign(message []byte, signers []cms.Signer, at time.Time) (Signed, error) {
	message = mail.Canonical(message)
	traits := mail.TraitsOf(message)
	if traits.BareCR || traits.NUL {
		return Signed{}, refuse(CheckFormat, "RFC 5322 §2.2", "a bare CR or a NUL in the message", nil)
	}
	h, body, err := mail.Split(message)
	if err != nil {
		return Signed{}, refuse(CheckFormat, "AS 2.1", "not an Internet message", err)
	}
	s := Signed{report: h.IsReport()}
	if s.head, err = readHead(h); err != nil {
		return Signed{}, err
	}
	part := wrap(message, traits)
	inner, wrapped, err := innerHeader(h, body, s.head)
	if err != nil {
		return Signed{}, err
	}
	if wrapped {
		part, s.report = contentOf(h, body), inner.IsReport()
	}
	signature, err := cms.SignDetached(part.reader(), signers, cms.SignOptions{SigningTime: at})
	if err != nil {
		return Signed{}, err
	}
	s.entity, err = multipartSigned(part, signature)
	return s, err
}

// readHead reads the fields that AS 2.2 requires and an outer header repeats.
func readHead(h mail.Header) (head, error) {
	var d head
	if h.Has("Bcc") {
		return d, refuse(CheckBlindCopy, "AS 2.2", "a Bcc field would tell every recipient of the others", nil)
	}
	var err error
	if d.from, d.sender, err = readOriginators(h); err != nil {
		return d, err
	}
	date, _, err := h.One("Date")
	if err != nil {
		return d, refuse(CheckHeader, "RFC 5322 §3.6.1", "Date", err)
	}
	when, err := netmail.ParseDate(date)
	if err != nil {
		return d, refuse(CheckHeader, "AS 2.2", "no Date that can be read", nil)
	}
	if d.date = date; strings.Contains(date, "(") {
		d.date = mail.FormatDate(when) // a comment may say anything and must not be copied
	}
	id, _, err := h.One("Message-ID")
	if err != nil {
		return d, refuse(CheckHeader, "RFC 5322 §3.6.4", "Message-ID", err)
	}
	var ok bool
	if d.messageID, ok = mail.MessageID(id); !ok {
		return d, refuse(CheckHeader, "AS 2.2", "no Message-ID that can be read", nil)
	}
	return d, nil
}

// readOriginators reads From and Sender (RFC 5322 §3.6.2). From has exactly one
// mailbox: with two, or two fields, each reader shows the one it likes.
func readOriginators(h mail.Header) (from, sender direct.Address, err error) {
	list, err := h.Addresses("From")
	if err == nil && len(list) != 1 {
		err = errors.New("it holds no address, or several")
	}
	if err != nil {
		return from, sender, refuse(CheckHeader, "AS 2.2", "From does not give one Direct Address", err)
	}
	from = list[0]
	if !h.Has("Sender") {
		return from, sender, nil
	}
	list, err = h.Addresses("Sender")
	if err == nil && len(list) != 1 {
		err = errors.New("it holds no address, or several")
	}
	if err != nil {
		return from, sender, refuse(CheckHeader, "RFC 5322 §3.6.2", "Sender does not give one Direct Address", err)
	}
	return from, list[0], nil
}

// wrap puts the message into a message/rfc822 (RFC 5751 §3.1), so that its whole
// header is protected. RFC 2046 §5.2.1 allows no encoding here but 7bit, 8bit
// and binary, and none is needed: the part travels inside EnvelopedData, which is
// base64 on the wire, and never through a 7-bit transport by itself
// (RFC 5751 §3.1.2). So the octets stay as they are, and the field only states
// what they are.
func wrap(message []byte, traits mail.Traits) pieces {
	header := "Content-Type: " + typeMessage + "\r\nContent-Transfer-Encoding: " + traits.Encoding() + "\r\n\r\n"
	return pieces{[]byte(header), message}
}

// innerHeader gives the header inside a submission that its composer has wrapped
// already (RFC 5751 §3.1: the top level is message/rfc822, and that message is
// the message): the inner header has the same From and Message-ID. A message that
// merely forwards another one has not, and is wrapped like any. Since the
// recipient sees the inner header alone, it must name the same Sender, whom the
// signature is made for, and no blind copy.
func innerHeader(h mail.Header, body []byte, outer head) (inner mail.Header, wrapped bool, err error) {
	mediaType, _, err := h.ContentType()
	if err != nil || mediaType != typeMessage {
		return nil, false, nil
	}
	content, err := mail.DecodeBody(h, body)
	if err != nil {
		return nil, false, nil
	}
	inner, _, err = mail.Split(content)
	if err != nil {
		return nil, false, nil
	}
	from, sender, err := readOriginators(inner)
	id, _ := mail.MessageID(inner.Get("Message-ID"))
	if err != nil || !from.Equal(outer.from) || id != outer.messageID {
		return nil, false, nil
	}
	if _, err := readHead(inner); err != nil {
		return nil, false, err
	}
	if !sender.Equal(outer.sender) {
		return nil, false, refuse(CheckSender, "AS 2.4", "the wrapped message names another Sender than the header around it", nil)
	}
	return inner, true, nil
}

// contentOf is the MIME entity of a message: its Content- fields and its body (RFC 2045 §3).
func contentOf(h mail.Header, body []byte) pieces {
	var p pieces
	for _, f := range h {
		if f.IsContent() {
			p = append(p, f.Raw)
		}
	}
	return append(p, []byte("\r\n"), body)
}

// multipartSigned frames the signed part and its signature (RFC 5751 §3.4.3,
// RFC 1847 §2.1). The CRLF before a delimiter belongs to the delimiter, so that
// exactly part is what the signature covers.
func multipartSigned(part pieces, signature []byte) (pieces, error) {
	boundary := mail.NewBoundary(nil)
	var top, sig mail.Builder
	top.Add("Content-Type", typeSigned+`; protocol="`+typeSignature+`"; micalg=sha-256; boundary="`+boundary+`"`)
	top.Body([]byte("--" + boundary + "\r\n"))
	sig.Add("Content-Type", typeSignature+"; name=smime.p7s")
	sig.Add("Content-Transfer-Encoding", "base64")
	sig.Add("Content-Disposition", "attachment; filename=smime.p7s")
	sig.Body(mail.EncodeBase64(signature))
	start, err := top.Bytes()
	if err != nil {
		return nil, err
	}
	second, err := sig.Bytes()
	if err != nil {
		return nil, err
	}
	entity := append(pieces{start}, part...)
	return append(entity, []byte("\r\n--"+boundary+"\r\n"), second, []byte("--"+boundary+"--\r\n")), nil
}
