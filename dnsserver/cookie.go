package dnsserver

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"time"
)

// Sizes of the COOKIE option (RFC 7873 §4, RFC 9018 §4).
const (
	clientCookieSize = 8
	serverCookieSize = 16 // what we make; RFC 7873 §4.2 lets others have 8 to 32
	serverCookieMin  = 8
	serverCookieMax  = 32
	cookieVersion    = 1 // RFC 9018 §4.1
)

// Life of server cookies.
const (
	cookiePast   = time.Hour        // RFC 9018 §4.3: older ones prove nothing any more
	cookieFuture = 5 * time.Minute  // RFC 9018 §4.3: by how far the clocks of a cluster may differ
	cookieRenew  = 30 * time.Minute // RFC 9018 §4.3: one that is older is replaced although it is valid

	// secretLife is for how long a secret makes cookies; for as long again it
	// is accepted. It must be longer than cookiePast, so that no cookie loses
	// its secret before its time; a day keeps what a stolen one is good for
	// small (RFC 7873 §7.1).
	secretLife = 24 * time.Hour
)

// cookieOption is the COOKIE option of a query, pointing into the packet.
type cookieOption struct {
	client []byte // nil without the option
	server []byte // empty when the client has none yet
}

// parse reads the option's data; false if it has a length that none can have.
func (o *cookieOption) parse(data []byte) bool {
	if n := len(data) - clientCookieSize; n != 0 && (n < serverCookieMin || n > serverCookieMax) {
		return false
	}
	o.client, o.server = data[:clientCookieSize], data[clientCookieSize:]
	return true
}

// cookieState is what a COOKIE option is worth.
type cookieState uint8

const (
	cookieAbsent  cookieState = iota // no COOKIE option
	cookieClient                     // a client cookie alone: a client that asks us for the first time
	cookieForeign                    // a server cookie that we did not make for this client and address
	cookieStale                      // one that we made, out of its time
	cookieValid                      // one that proves that the client receives at its address
)

// Cookies makes and checks server cookies: version 1 of RFC 9018 §4, for the
// address that a query came from. It may be used by many goroutines.
type Cookies struct {
	fixed   bool // the secret was given and is not rolled
	secrets atomic.Pointer[secrets]
}

// secrets is one generation of them.
type secrets struct {
	current, previous sipKey
	since             time.Time // when current came into use
}

// NewCookies makes cookies with a secret that is drawn at random and replaced
// daily if it is all zero, and kept as it is otherwise: the servers behind one
// address share one (RFC 9018 §5).
func NewCookies(secret [16]byte, at time.Time) *Cookies {
	c := &Cookies{fixed: secret != [16]byte{}}
	if !c.fixed {
		secret = randomSecret()
	}
	key := newSipKey(secret)
	c.secrets.Store(&secrets{current: key, previous: key, since: at})
	return c
}

func randomSecret() (b [16]byte) {
	_, _ = rand.Read(b[:]) // documented never to return an error
	return b
}

// roll replaces a secret that has been in use for its time. It is called before
// each batch and costs one load then. The secret before the last one is gone: a
// cookie made with it is older than any that is accepted.
func (c *Cookies) roll(at time.Time) {
	if now := c.secrets.Load(); !c.fixed && at.Sub(now.since) >= secretLife {
		c.secrets.CompareAndSwap(now, &secrets{current: newSipKey(randomSecret()), previous: now.current, since: at})
	}
}

// check tells what the cookie of a query is worth and gives the server cookie
// that belongs into the answer: the client's own while it is good, else a new
// one (RFC 7873 §5.2).
func (c *Cookies) check(o cookieOption, peer netip.Addr, at time.Time) (cookieState, [serverCookieSize]byte) {
	now := c.secrets.Load()
	state, current := now.weigh(o, peer, at)
	if state == cookieValid && current {
		return state, [serverCookieSize]byte(o.server)
	}
	var server [serverCookieSize]byte
	server[0] = cookieVersion // RFC 9018 §4.2: the three octets behind it are zero in what we make
	binary.BigEndian.PutUint32(server[4:], uint32(at.Unix()))
	binary.LittleEndian.PutUint64(server[8:], cookieHash(now.current, o.client, server[:8], peer))
	return state, server
}

// weigh checks a server cookie. current is false for a valid one that is to be
// replaced.
func (s *secrets) weigh(o cookieOption, peer netip.Addr, at time.Time) (state cookieState, current bool) {
	if len(o.server) == 0 {
		return cookieClient, false
	}
	if len(o.server) != serverCookieSize || o.server[0] != cookieVersion {
		return cookieForeign, false
	}
	// RFC 9018 §4.2: what stands in the reserved octets is hashed as it came.
	current = hashEqual(cookieHash(s.current, o.client, o.server[:8], peer), o.server[8:])
	if !current && !hashEqual(cookieHash(s.previous, o.client, o.server[:8], peer), o.server[8:]) {
		return cookieForeign, false
	}
	// RFC 9018 §4.3: 32 bits, compared as serial numbers (RFC 1982 §3.2).
	age := time.Duration(int32(uint32(at.Unix())-binary.BigEndian.Uint32(o.server[4:]))) * time.Second
	if age > cookiePast || age < -cookieFuture {
		return cookieStale, false
	}
	return cookieValid, current && age <= cookieRenew
}

// cookieHash is the last part of a server cookie (RFC 9018 §4.4): a hash of the
// client cookie, the parts before it, and the client's address.
func cookieHash(k sipKey, client, head []byte, peer netip.Addr) uint64 {
	var buf [clientCookieSize + 8 + 16]byte
	b := append(append(buf[:0], client...), head...)
	switch {
	case peer.Is4():
		a := peer.As4()
		b = append(b, a[:]...)
	case peer.Is6():
		a := peer.As16()
		b = append(b, a[:]...)
	}
	return siphash24(k, b)
}

// hashEqual compares without telling by its time how much was right.
func hashEqual(h uint64, b []byte) bool {
	var own [8]byte
	binary.LittleEndian.PutUint64(own[:], h)
	return subtle.ConstantTimeCompare(own[:], b) == 1
}
