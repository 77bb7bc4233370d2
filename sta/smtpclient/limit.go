package smtpclient

import "time"

// Timeouts bound each step of a delivery. A zero field stands for the minimum
// of RFC 5321 §4.5.3.2; shorter ones are for tests and for servers nearby.
type Timeouts struct {
	Connect  time.Duration // TCP and TLS handshakes; 1 minute, RFC 5321 has none
	Greeting time.Duration // §4.5.3.2.1: 5 minutes
	Command  time.Duration // EHLO, STARTTLS, and §4.5.3.2.2, .3: MAIL, RCPT 5 minutes
	DataInit time.Duration // §4.5.3.2.4: 2 minutes
	Block    time.Duration // §4.5.3.2.5: 3 minutes for each block of the message
	Final    time.Duration // §4.5.3.2.6: 10 minutes for the answer to the message
	Total    time.Duration // everything, all hosts; 30 minutes
}

func (t Timeouts) withDefaults() Timeouts {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&t.Connect, time.Minute}, {&t.Greeting, 5 * time.Minute}, {&t.Command, 5 * time.Minute}, {&t.DataInit, 2 * time.Minute},
		{&t.Block, 3 * time.Minute}, {&t.Final, 10 * time.Minute}, {&t.Total, 30 * time.Minute},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	return t
}

const (
	// maxReplyLines bounds a reply; the longest real ones, lists of extensions,
	// have about twenty.
	maxReplyLines = 100
	// maxReplyLine is twice what RFC 5321 §4.5.3.1.5 allows (512): servers that
	// put an explanation and a link in a refusal exceed it.
	maxReplyLine = 1000
	// maxHosts and maxAddresses bound the places where a domain can make us
	// look: 10 exchangers, 6 addresses each.
	maxHosts     = 10
	maxAddresses = 6
	// maxRecipients is what a server must take in one transaction (RFC 5321
	// §4.5.3.1.8); more are sent in further ones.
	maxRecipients = 100
	// quitTimeout bounds the farewell, of which nothing depends.
	quitTimeout = 5 * time.Second
	// blockSize is what is written under one deadline.
	blockSize = 32 << 10
	// maxText keeps what a server says short enough for a report.
	maxText = 500
)
