package ldapserver

import (
	"encoding/binary"
	"hash/maphash"
	"math"

	"directnode/internal/ber"
	"directnode/ldapserver/dit"
)

// controls is a set of those that the server obeys.
type controls uint8

const (
	// manageDsaIT changes nothing where there are no referrals (RFC 3296 §3); JNDI
	// sends it with everything.
	manageDsaIT controls = 1 << iota
	pagedResults
)

func knownControl(oid []byte) controls {
	switch string(oid) {
	case dit.OIDManageDsaIT:
		return manageDsaIT
	case dit.OIDPagedResults:
		return pagedResults
	}
	return 0
}

var tagControls = ber.Context(0, true)

// readControls reads the controls of a message (RFC 4511 §4.1.11). The first
// error refuses the request, the second one disconnects. An empty list is valid.
func (q *request) readControls(e ber.Element) (refused, malformed error) {
	list, err := q.in.Child(e)
	if err != nil {
		return nil, err
	}
	var seen controls
	for n := 0; !list.Empty(); n++ {
		if n == maxControls {
			return errControls, nil
		}
		oid, critical, value, err := readControl(&list)
		if err != nil {
			return nil, err
		}
		control := knownControl(oid) & q.op.controls
		switch {
		case control == 0 && critical:
			refused = errCritical // unknown, or not for this operation
		case control == 0: // ignored
		case seen&control != 0:
			refused = errRepeated
		case control == pagedResults:
			if !q.paged.parse(value) {
				refused = errPagedValue
			}
		}
		seen |= control
	}
	return refused, nil
}

// readControl reads one control.
func readControl(list *ber.Reader) (oid []byte, critical bool, value []byte, err error) {
	c, err := enter(list, ber.Sequence)
	if err != nil {
		return nil, false, nil, err
	}
	if oid, err = octets(&c); err != nil {
		return nil, false, nil, err
	}
	if t, ok := c.Peek(); ok && t == ber.Boolean {
		if critical, err = c.Bool(ber.Boolean); err != nil {
			return nil, false, nil, err
		}
	}
	if !c.Empty() {
		value, err = octets(&c)
	}
	return oid, critical, value, err
}

// paged is the value of a paged results control in a request (RFC 2696 §2).
type paged struct {
	asked  bool
	size   int
	cookie []byte
}

func (p *paged) parse(value []byte) bool {
	in, err := ber.NewReader(value, messageLimits).Enter(ber.Sequence)
	if err != nil {
		return false
	}
	size, err := in.Int(ber.Integer)
	if err != nil || size < 0 || size > math.MaxInt32 {
		return false
	}
	cookie, err := octets(in)
	if err != nil || !in.Empty() {
		return false
	}
	*p = paged{asked: true, size: int(size), cookie: cookie}
	return true
}

// paging is the paged search that goes on on a connection. There is one at a
// time: what a new one leaves behind is forgotten.
type paging struct {
	cookie uint64 // names it, on this connection; 0: there is none
	search uint64 // what it asks, hashed
	next   dit.Position
	given  int // entries on the pages before
}

// cookieSize is the length of a cookie. It is a number and holds no address.
const cookieSize = 8

// beginPage begins a page: done tells that there is none to be given.
func (s *session) beginPage(q *request, p *query) (done bool, err error) {
	before := s.client.paging
	s.client.paging = paging{}
	// RFC 2696 §3: the client repeats its search, but for the message's id and the
	// control.
	p.paging = paging{search: maphash.Bytes(s.server.seed, q.body.Content)}
	if len(q.paged.cookie) > 0 {
		if len(q.paged.cookie) != cookieSize || before.cookie == 0 ||
			binary.BigEndian.Uint64(q.paged.cookie) != before.cookie || before.search != p.paging.search {
			return false, errCookie
		}
		p.paging = before
	}
	if q.paged.size == 0 {
		q.pageControl(0) // RFC 2696 §3: the client gives up
		return true, nil
	}
	return false, nil
}

// endPage ends a page. The client may ask for the next one with the cookie that it
// gets if there is more.
func (s *session) endPage(q *request, p *query, more bool) {
	if !more {
		q.pageControl(0)
		return
	}
	p.paging.cookie = s.server.cookies.Add(1)
	p.paging.given += q.entries
	s.client.paging = p.paging
	q.pageControl(p.paging.cookie)
}

// pageControl adds the control to the answer. The number of all entries is not told:
// RFC 2696 §2 lets zero stand for it.
func (q *request) pageControl(cookie uint64) {
	var octets []byte
	if cookie != 0 {
		octets = binary.BigEndian.AppendUint64(nil, cookie)
	}
	var value, b ber.Builder
	value.Begin(ber.Sequence)
	value.Int(ber.Integer, 0)
	value.Bytes(ber.OctetString, octets)
	value.End()
	b.Begin(tagControls)
	b.Begin(ber.Sequence)
	b.Text(ber.OctetString, dit.OIDPagedResults)
	b.Bytes(ber.OctetString, value.Encoded())
	b.End()
	b.End()
	q.extras.controls = b.Encoded()
}
