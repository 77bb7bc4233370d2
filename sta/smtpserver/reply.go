package smtpserver

import (
	"errors"
	"strings"

	smtp "github.com/emersion/go-smtp"

	"directnode/internal/mail"
)

// What the server says of its own accord. These never change.
var (
	replyOK              = say(250, 2, 0, 0, "OK")
	replyChunk           = say(250, 2, 0, 0, "Chunk received")
	replyBye             = say(221, 2, 0, 0, "Goodbye")
	replyStartTLS        = say(220, 2, 0, 0, "Ready to start TLS")
	replyNoVerify        = say(252, 2, 5, 2, "Cannot verify an address; send a message to try")
	replyHelp            = say(214, 2, 0, 0, "See RFC 5321")
	replyUnknown         = say(500, 5, 5, 2, "Command not recognized")
	replyNotImplemented  = say(502, 5, 5, 1, "Command not implemented")
	replyOutOfOrder      = say(503, 5, 5, 1, "Command out of sequence")
	replySynchronization = say(503, 5, 5, 0, "Data sent before it was asked for")
	replyNoRecipients    = say(554, 5, 5, 1, "No valid recipients")
	replyNoArgument      = say(501, 5, 5, 4, "Command takes no argument")
	replyBadHelo         = say(501, 5, 5, 4, "Domain name or address literal required")
	replyMailSyntax      = say(501, 5, 5, 4, "Syntax: MAIL FROM:<address>")
	replyRcptSyntax      = say(501, 5, 5, 4, "Syntax: RCPT TO:<address>")
	replyBadSender       = say(553, 5, 1, 7, "Sender address not valid")
	replyBadRecipient    = say(553, 5, 1, 3, "Recipient address not valid")
	replyBadChunk        = say(501, 5, 5, 4, "Syntax: BDAT size [LAST]; closing connection")
	replyLineTooLong     = say(500, 5, 5, 2, "Line too long, closing connection")
	replyBadCharacter    = say(500, 5, 5, 2, "Commands are printable characters ended by CR LF; closing connection")
	replyBareLineEnd     = say(550, 5, 5, 2, "Bare CR, bare LF or NUL in message; closing connection")
	replyTooLarge        = say(552, 5, 3, 4, "Message too large")
	replyFailed          = say(451, 4, 3, 0, "Temporary failure, try again later")
	replyInternal        = say(421, 4, 3, 0, "Internal error, closing connection")
	replyTooSlow         = say(421, 4, 4, 2, "Message transfer too slow, closing connection")
	replyIdle            = say(421, 4, 4, 2, "Idle too long, closing connection")
	replySessionTooLong  = say(421, 4, 4, 2, "Session too long, closing connection")
	replyTooManyErrors   = say(421, 4, 7, 0, "Too many errors, closing connection")
	replyTooManyCommands = say(421, 4, 7, 0, "Too many commands without a message, closing connection")
	replyStopping        = say(421, 4, 3, 2, "Service shutting down, closing connection")
	replyServerFull      = say(421, 4, 3, 2, "Too many connections, try again later")
	replyPeerFull        = say(421, 4, 7, 0, "Too many connections from your address, try again later")
	replyNotAllowed      = say(554, 5, 7, 1, "No service for your address")
)

func say(code, class, subject, detail int, text string) *mail.Reply {
	return &mail.Reply{Code: code, Enhanced: [3]int{class, subject, detail}, Text: text}
}

// forClient is what the client is told about an error of the backend: a
// mail.Reply as it stands, and of anything else only that it may try again.
func forClient(err error) *mail.Reply {
	var r *mail.Reply
	if !errors.As(err, &r) || r.Code < 400 || r.Code > 599 {
		return replyFailed
	}
	return r
}

// engineError dresses a reply for the engine, which writes it.
func engineError(r *mail.Reply) error {
	return &smtp.SMTPError{Code: r.Code, EnhancedCode: smtp.EnhancedCode(r.Enhanced), Message: oneLine(r.Text)}
}

// oneLine keeps what a backend says within one reply line.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, s)
	return s[:min(len(s), maxReplyText)]
}
