package smtpserver

import (
	"net/netip"
	"sync"
	"time"
)

// The limits an operator may change stand in Options; these are their defaults.
const (
	// DefaultMessageBytes carries a document of 19 MiB: base64 and its line ends
	// enlarge it by 37 %, once as an attachment and once around the encryption.
	DefaultMessageBytes = 36 << 20
	// DefaultRecipients is what RFC 5321 §4.5.3.1.8 says must be accepted.
	DefaultRecipients = 100
	// DefaultConnections keeps file descriptors below the usual soft limit of 1024.
	DefaultConnections = 900
	// DefaultPerPeer lets one sending system use the parallelism that the
	// common ones have by default (20), and no more.
	DefaultPerPeer = 20
	// DefaultCommandTimeout is RFC 5321 §4.5.3.2.7: at least five minutes.
	DefaultCommandTimeout = 5 * time.Minute
	// DefaultDataTimeout is RFC 5321 §4.5.3.2.5: three minutes for a block.
	DefaultDataTimeout = 3 * time.Minute
	// DefaultWriteTimeout bounds a client that does not read its replies;
	// they are short, so a minute is a dead peer.
	DefaultWriteTimeout = time.Minute
	// DefaultSessionTimeout ends a session whatever it does. The largest
	// message at 256 kbit/s takes twenty minutes.
	DefaultSessionTimeout = time.Hour
	// DefaultMinRate is the average rate in octets per second below which a
	// transfer is taken for an attack on our slots: a tenth of a 9600 baud modem.
	DefaultMinRate = 100
	// DefaultGrace is how long messages under way may go on after a stop.
	DefaultGrace = 30 * time.Second
)

// These belong to the protocol and are not for the operator to set.
const (
	// maxCommandLine is 512 (RFC 5321 §4.5.3.1.4) plus what the parameters of
	// the extensions may add (SIZE 26, BODY 17, AUTH 500 by RFC 4954), rounded.
	maxCommandLine = 1100
	// readBuffer must exceed maxCommandLine: a line is taken out in one piece.
	readBuffer = 4096
	// maxHelo is the longest domain name, RFC 5321 §4.5.3.1.2.
	maxHelo = 255
	// maxErrors is the count of 4yz and 5yz replies after which the connection
	// ends; a well-behaved client makes none.
	maxErrors = 10
	// maxIdleCommands bounds commands that bring no message nearer (NOOP, RSET,
	// VRFY, EHLO …), as Postfix does with its 100 junk commands.
	maxIdleCommands = 100
	// maxDiscard bounds what is read and thrown away after a refusal, so that
	// the refusal reaches a client that only reads after writing.
	maxDiscard = 8 << 20
	// rateStart is how long a transfer may take before its rate counts.
	rateStart = time.Minute
	// handshakeTimeout bounds the TLS handshake, two round trips and a signature.
	handshakeTimeout = time.Minute
	// lingerTime and lingerBytes bound the wait for the client's close after a
	// refusal; closing at once would reset the connection and lose the reply.
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 1 << 20
	// stopSlack is how long a stop waits for backends after it has cut them off.
	stopSlack = 5 * time.Second
	// maxReplyText keeps a reply line within 512 octets (RFC 5321 §4.5.3.1.5).
	maxReplyText = 400
)

// limiter counts connections, in total and by peer. One limiter serves all
// listeners of a Server.
type limiter struct {
	total, perPeer int
	exempt         []netip.Prefix

	mu    sync.Mutex
	now   int                  // guarded by mu
	peers map[netip.Prefix]int // guarded by mu
}

// verdict says why a connection is not admitted; the zero value admits it.
type verdict int

const (
	admitted verdict = iota
	peerFull
	serverFull
)

// enter counts a connection and says whether it may stay. An exempt peer is
// looked up and counted like any other, and then let in: what loopback tests
// measure is what everybody else meets.
func (l *limiter) enter(peer netip.Addr) verdict {
	key := peerKey(peer)
	free := contains(l.exempt, peer)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case free:
	case l.peers[key] >= l.perPeer:
		return peerFull
	case l.now >= l.total:
		return serverFull
	}
	l.now++
	l.peers[key]++
	return admitted
}

// leave undoes an admitted enter.
func (l *limiter) leave(peer netip.Addr) {
	key := peerKey(peer)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now--
	if l.peers[key]--; l.peers[key] <= 0 {
		delete(l.peers, key)
	}
}

// peerKey is what counts as one peer: an IPv4 address, or an IPv6 /64 because
// a host owns at least that much of the address space.
func peerKey(a netip.Addr) netip.Prefix {
	bits := 64
	if a.Is4() {
		bits = 32
	}
	p, _ := a.Prefix(bits)
	return p
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
