package smtpserver

import (
	"time"

	"directnode/internal/mail"
)

// trace is the field that this hop puts on top of the message (RFC 5321 §4.4).
// It has no FOR clause, which would show one recipient of a message the others
// (§7.2, blind copies), and names the version of TLS in a comment.
func trace(e mail.Envelope, esmtp bool, hostname string) string {
	// RFC 3848: ESMTPS is ESMTP after STARTTLS.
	with := "SMTP"
	switch {
	case esmtp && e.TLS != "":
		with = "ESMTPS (" + e.TLS + ")"
	case esmtp:
		with = "ESMTP"
	}
	return "Received: from " + e.Helo + " (" + addressLiteral(e) + ")\r\n" +
		"\tby " + hostname + " with " + with + " id " + e.ID + ";\r\n" +
		"\t" + e.At.Format(time.RFC1123Z) + "\r\n"
}

// addressLiteral is the client's address by RFC 5321 §4.1.3.
func addressLiteral(e mail.Envelope) string {
	a := e.Peer.Addr()
	if a.Is6() {
		return "[IPv6:" + a.String() + "]"
	}
	return "[" + a.String() + "]"
}
