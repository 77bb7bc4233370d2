package report

import (
	"bytes"
	"fmt"
	"mime/quotedprintable"
	"strings"
	"time"

	"directnode/internal/direct"
	"directnode/internal/mail"
)

// message is what both kinds of report have in common (RFC 6522 §3).
type message struct {
	from, to   direct.Address
	subject    string
	messageID  string // with or without brackets
	original   string // Message-ID of the message that is reported on; "" if it had none
	at         time.Time
	reportType string // report-type parameter, and subtype of the second part
	text       string // for people, lines ended by LF
	fields     []byte // the second part's body
}

// compose gives the whole message. AS 3.1.1, 2.2: From, To, Date and
// Message-ID, as any message. It has no Disposition-Notification-To
// (RFC 3798 §2.1: no MDN about an MDN) and says that a program wrote it
// (RFC 3834 §5).
func (m message) compose() ([]byte, error) {
	id, ok := mail.MessageID(m.messageID)
	if !ok {
		return nil, fmt.Errorf("report from %s: no Message-ID of its own", m.from)
	}
	var b mail.Builder
	b.AddAddresses("From", m.from)
	b.AddAddresses("To", m.to)
	b.Add("Subject", m.subject)
	b.AddDate("Date", m.at)
	b.Add("Message-ID", "<"+id+">")
	if m.original != "" {
		b.Add("In-Reply-To", m.original)
		b.Add("References", m.original)
	}
	b.Add("Auto-Submitted", "auto-replied")
	b.Add("MIME-Version", "1.0")
	human, err := humanPart(m.text)
	if err != nil {
		return nil, err
	}
	boundary := mail.NewBoundary(bytes.Join([][]byte{[]byte(id), human, m.fields}, []byte{0}))
	b.Add("Content-Type", "multipart/report; report-type="+m.reportType+`; boundary="`+boundary+`"`)

	var machine mail.Builder
	machine.Add("Content-Type", "message/"+m.reportType)
	machine.Add("Content-Transfer-Encoding", "7bit")
	machine.Body(m.fields)
	part, err := machine.Bytes()
	if err != nil {
		return nil, err
	}
	open, shut := []byte("--"+boundary+"\r\n"), []byte("\r\n--"+boundary)
	b.Body(open, human, shut, []byte("\r\n"), part, shut, []byte("--\r\n"))
	out, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("report from %s: %w", m.from, err)
	}
	return out, nil
}

// humanPart is the first part (RFC 6522 §3): text for people, in 7 bits.
func humanPart(text string) ([]byte, error) {
	text = strings.ReplaceAll(text, "\n", "\r\n")
	var b mail.Builder
	if !(mail.TraitsOf([]byte(text))).EightBit {
		b.Add("Content-Type", "text/plain; charset=us-ascii")
		b.Add("Content-Transfer-Encoding", "7bit")
		b.Body([]byte(text))
		return b.Bytes()
	}
	var qp bytes.Buffer
	w := quotedprintable.NewWriter(&qp)
	w.Write([]byte(text)) // a bytes.Buffer does not fail
	w.Close()
	b.Add("Content-Type", "text/plain; charset=utf-8")
	b.Add("Content-Transfer-Encoding", "quoted-printable")
	b.Body(qp.Bytes())
	return b.Bytes()
}

// wrap breaks a paragraph into lines of at most 76 characters where it can.
func wrap(paragraph string) string {
	const width = 76
	var b strings.Builder
	column := 0
	for _, word := range strings.Fields(mail.OneLine(paragraph)) {
		switch {
		case column == 0:
		case column+1+len(word) > width:
			b.WriteByte('\n')
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	b.WriteByte('\n')
	return b.String()
}

// bracketed gives an identifier in angle brackets, "" if it is none.
func bracketed(id string) string {
	inside, ok := mail.MessageID("<" + id + ">") // bare, as Parse gives it: a parenthesis in it opens no comment
	if !ok {
		inside, ok = mail.MessageID(id)
	}
	if !ok {
		return ""
	}
	return "<" + inside + ">"
}
