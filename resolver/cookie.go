package resolver

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/netip"

	"github.com/miekg/dns"
)

// RFC 7873 §4: eight octets of the client's, eight to thirty-two of the server's.
const (
	clientCookie    = 8
	minServerCookie = 8
	maxServerCookie = 32
)

// cookie is what one server gets from us and gave to us. It belongs to our address as well (RFC 7873 §8.2): from another one a new
// cookie is made, so that nobody can follow this host by it.
type cookie struct {
	local  netip.Addr
	client [clientCookie]byte
	server []byte
}

// errNoCookie: a server that is known to give cookies answered without ours; the answer may be anybody's.
var errNoCookie = errors.New("the answer lacks the cookie of the server")

// newCookie is for a server that is asked from an address for the first time.
func newCookie(local netip.Addr) cookie {
	c := cookie{local: local}
	rand.Read(c.client[:]) // never fails: crypto/rand ends the program instead
	return c
}

// option is the COOKIE option of a query.
func (c cookie) option() *dns.EDNS0_COOKIE {
	return &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: hex.EncodeToString(append(bytes.Clone(c.client[:]), c.server...))}
}

// cookieOf takes the option out of a message: nil if there is none or none that is well formed (RFC 7873 §5.3).
func cookieOf(m *dns.Msg) []byte {
	opt := m.IsEdns0()
	if opt == nil {
		return nil
	}
	for _, o := range opt.Option {
		c, ok := o.(*dns.EDNS0_COOKIE)
		if !ok {
			continue
		}
		raw, err := hex.DecodeString(c.Cookie)
		if err != nil || len(raw) != clientCookie && (len(raw) < clientCookie+minServerCookie || len(raw) > clientCookie+maxServerCookie) {
			return nil
		}
		return raw
	}
	return nil
}

// checkCookie holds the cookie of an answer against that of the query (RFC 7873 §5.3). An answer that repeats another client's cookie
// is not ours. One without a cookie is only believed of a server that gave none before; by TCP the connection proves the address.
func checkCookie(q, m *dns.Msg, network string) error {
	sent := cookieOf(q)
	if sent == nil {
		return nil
	}
	got := cookieOf(m)
	switch {
	case got != nil && !bytes.Equal(got[:clientCookie], sent[:clientCookie]):
		return errStray
	case got == nil && len(sent) > clientCookie && network == "udp":
		return errNoCookie
	}
	return nil
}
