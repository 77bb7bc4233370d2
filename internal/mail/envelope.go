package mail

import (
	"net/netip"
	"time"

	"directnode/internal/direct"
)

// Envelope is what SMTP says about a message beside its content
// (RFC 5321 §2.3.1). Decisions about trust rest on it: encryption and
// verification are performed for the actual sender and recipients (AS 2.4).
type Envelope struct {
	ID       string           // our name for the message; stands in Received and in every log line
	From     direct.Address   // MAIL FROM; the zero value goes with NullPath
	NullPath bool             // MAIL FROM:<> (RFC 5321 §4.5.5)
	To       []direct.Address // RCPT TO, in the order given
	Peer     netip.AddrPort   // the client's address
	Helo     string           // what the client called itself
	TLS      string           // protocol version, "" in clear
	At       time.Time        // when the message was received whole
}

// Delivery is one message due in one local mailbox.
type Delivery struct {
	Recipient direct.Address
	Digest    [32]byte // identity of the message: equal for a message that is sent again
	Staged    string   // the mailbox's handle of the written but not yet visible message; "" when nothing is to be published
}
