package ldapserver

import (
	"bytes"
	"errors"
	"math"
	"time"

	"directnode/internal/ber"
	"directnode/ldapserver/dit"
)

// query is a search request (RFC 4511 §4.5.1).
type query struct {
	base      []byte
	scope     dit.Scope
	sizeLimit int           // entries, as the client and the server allow
	timeLimit time.Duration // likewise
	filter    filter
	selection dit.Selection

	wanted, most  int // the size limits of the client (0: none) and the server
	page          int // entries of a page; 0: not paged
	paging        paging
	skip, skipped int // entries of the pages before that are found again
}

// clockEvery is how many entries a listing looks at between two looks at the
// clock.
const clockEvery = 64

// search serves a Search request: the base, the filter against every entry in
// scope that can match, the entries that do. Anonymous clients, and there are
// no others, must know the address that they ask for unless the tree allows
// listing to them.
func (s *session) search(q *request) error {
	p := &s.query
	if err := p.parse(q); err != nil {
		return err
	}
	var room [maxPins][]byte
	pins, pinned := room[:0], false
	if p.scope != dit.ScopeBase {
		pins, pinned = p.filter.pins(pins)
	}
	listing := q.tree.Listing() && s.client.peer.lists
	if listing && s.brief && !pinned && p.scope != dit.ScopeBase {
		return errLong
	}
	if err := s.charge(q); err != nil {
		return err
	}
	s.limits(p, listing)
	if q.paged.asked {
		if done, err := s.beginPage(q, p); done || err != nil {
			return err
		}
		p.limitPage(q.paged.size)
	}
	base, err := s.find(q, p.base)
	if err != nil {
		return err
	}
	switch {
	case p.scope == dit.ScopeBase:
		// One entry whose name, and with it whose address, the client knew; the
		// root DSE, the subschema and the contexts name no address.
		err = s.offer(q, p, base.Entry())
	case pinned:
		if err = s.named(q, p, base, pins); err == errLong {
			return err
		} else if err == nil && q.entries == 0 && p.skipped == 0 {
			q.guesses = max(q.guesses, 1)
		}
		s.missed(q)
	case listing:
		err = s.list(q, p, base)
	default:
		s.server.counts.denied[notNamed].Add(1)
		return errListing
	}
	if q.paged.asked && (err == nil || err == errPage) {
		s.endPage(q, p, err != nil)
		return nil
	}
	return err // nil with no entries: RFC 4511 §4.5.2, an unknown address is not an error
}

// charge takes a request for an entry from the client's budget. Exempt clients
// are looked up like all others: what a search costs is the same for everybody.
func (s *session) charge(q *request) error {
	over := s.server.limiter.search(s.client.peer.counted, q.at)
	if over == overNothing || s.client.peer.exempt {
		return nil
	}
	s.server.counts.denied[over].Add(1)
	return errBusy
}

// find resolves a name. One that is not there is a guess at an address.
func (s *session) find(q *request, name []byte) (dit.Base, error) {
	base, err := q.tree.Find(name)
	if err == nil {
		return base, nil // without the allocation of what follows
	}
	var missing *dit.NoSuchObject
	if errors.As(err, &missing) {
		q.guesses++
		s.missed(q)
	}
	return base, err
}

// missed takes the guesses of a request from the client's budget.
func (s *session) missed(q *request) {
	if p := &s.client.peer; !p.exempt && q.guesses > 0 {
		s.server.limiter.miss(p.counted, q.at, q.guesses)
	}
}

// named offers the entries that the filter pins. Every address that is not
// there is a guess by itself, or guesses were free beside an address that is.
// Domain names are no secret.
func (s *session) named(q *request, p *query, base dit.Base, pins [][]byte) error {
	seen := s.pinned[:len(pins)]
	defer func() {
		for i := range seen {
			seen[i].Reset()
		}
	}()
	for i, value := range pins {
		e := &seen[i]
		if !q.tree.FindMail(e, value) || !base.Contains(e, p.scope) {
			e.Reset() // the same as no other
			if bytes.IndexByte(value, '@') >= 0 {
				q.guesses++
			}
			continue
		}
		repeated := false
		for k := range i {
			repeated = repeated || seen[k].Same(e)
		}
		if repeated {
			continue
		}
		if err := s.offer(q, p, e); err != nil {
			return err
		}
	}
	return nil
}

// list offers every entry in scope, from where the page before ended.
func (s *session) list(q *request, p *query, base dit.Base) error {
	var err error
	n := 0
	base.EachFrom(p.scope, p.paging.next, func(e *dit.Entry, behind dit.Position) bool {
		if n++; n%clockEvery == 0 && time.Since(q.at) > p.timeLimit {
			err = errTimeLimit
			if p.page > 0 && q.entries == p.page {
				err = errPage // it is not known whether there is more
			}
			return false
		}
		if err = s.offer(q, p, e); err == nil {
			p.paging.next = behind
		}
		return err == nil
	})
	return err
}

// offer appends the entry to the answer if the filter selects it.
func (s *session) offer(q *request, p *query, e *dit.Entry) error {
	if p.filter.matches(e) != dit.True {
		return nil
	}
	if p.skipped < p.skip {
		p.skipped++
		return nil
	}
	if q.entries >= p.sizeLimit {
		return errSizeLimit // RFC 4511 §4.5.1.4
	}
	if p.page > 0 && q.entries == p.page {
		return errPage
	}
	size := e.ResultSize(&p.selection)
	if s.brief && q.entries > 0 && len(s.out)+size > 2*maxBuffered {
		return errLong // what collects in a loop would wait there for a client that does not read
	}
	q.entries++
	s.out = appendEnvelope(s.out, q.id, size)
	s.out = e.AppendResult(s.out, &p.selection)
	if s.flush == nil || len(s.out) < maxBuffered {
		return nil
	}
	err := s.flush(s.out)
	s.out = s.out[:0]
	if err != nil {
		return errWrite
	}
	return nil
}

// limits lowers the client's limits to the server's (RFC 4511 §4.5.1.4, .5: a
// zero leaves it to the server).
func (s *session) limits(p *query, listing bool) {
	o := &s.server.options
	p.most = o.SizeLimit
	if p.most == 0 {
		p.most = defaultSizeExact
		if listing {
			p.most = defaultSizeList
		}
	}
	p.wanted = p.sizeLimit
	if p.sizeLimit == 0 || p.sizeLimit > p.most {
		p.sizeLimit = p.most
	}
	if p.timeLimit == 0 || p.timeLimit > o.TimeLimit {
		p.timeLimit = o.TimeLimit
	}
}

// limitPage sets the limits of a page: the server's bounds the page, so that pages
// lead through a long list; the client's bounds all pages together.
func (p *query) limitPage(size int) {
	p.page = min(size, p.most)
	p.sizeLimit = math.MaxInt
	if p.wanted > 0 {
		p.sizeLimit = p.wanted - p.paging.given
	}
	if p.paging.next == (dit.Position{}) {
		p.skip = p.paging.given // a few entries, which are found again faster than remembered
	}
}

// parse reads the request.
func (p *query) parse(q *request) error {
	in, err := q.in.Child(q.body)
	if err != nil {
		return err
	}
	if p.base, err = octets(&in); err != nil {
		return err
	}
	scope, err := in.Int(ber.Enumerated)
	if err != nil {
		return err
	}
	deref, err := in.Int(ber.Enumerated)
	if err != nil {
		return err
	}
	size, err := in.Int(ber.Integer)
	if err != nil {
		return err
	}
	seconds, err := in.Int(ber.Integer)
	if err != nil {
		return err
	}
	p.selection, p.paging = dit.Selection{}, paging{}
	p.page, p.skip, p.skipped = 0, 0, 0
	if p.selection.TypesOnly, err = in.Bool(ber.Boolean); err != nil {
		return err
	}
	// There are no aliases: derefAliases is read and has no effect.
	if scope < 0 || scope > 2 || deref < 0 || deref > 3 ||
		size < 0 || size > math.MaxInt32 || seconds < 0 || seconds > math.MaxInt32 {
		return errEnumeration
	}
	p.scope, p.sizeLimit, p.timeLimit = dit.Scope(scope), int(size), time.Duration(seconds)*time.Second
	if err := p.filter.parse(&in); err != nil {
		return err
	}
	return p.attributes(&in)
}

// attributes reads the attribute selection (RFC 4511 §4.5.1.8).
func (p *query) attributes(in *ber.Reader) error {
	list, err := enter(in, ber.Sequence)
	if err != nil {
		return err
	}
	for n := 0; !list.Empty(); n++ {
		if n == maxAttributes {
			return errAttributes
		}
		name, err := octets(&list)
		if err != nil {
			return err
		}
		p.selection.Add(name)
	}
	return nil
}
