package ldapserver

import (
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
}

// clockEvery is how many entries a listing looks at between two looks at the
// clock.
const clockEvery = 64

// search serves a Search request: the base, the filter against every entry in
// scope that can match, the entries that do. Anonymous clients, and there are
// no others, must know the address that they ask for unless the tree allows
// listing.
func (s *session) search(q *request) error {
	p := &s.query
	if err := p.parse(q); err != nil {
		return err
	}
	s.limits(q, p)
	if !s.server.limiter.search(s.peer.counted, q.at) && !s.peer.exempt {
		return errBusy
	}
	base, err := q.tree.Find(p.base)
	if err != nil {
		s.missed(q, err)
		return err
	}
	if p.scope == dit.ScopeBase {
		// One entry whose name, and with it whose address, the client knew; the
		// root DSE, the subschema and the contexts name no address.
		return s.offer(q, p, base.Entry())
	}
	var room [maxPins][]byte
	pins, pinned := p.filter.pins(room[:0])
	switch {
	case pinned:
		err = s.named(q, p, base, pins)
	case q.tree.Listing():
		err = s.list(q, p, base)
	default:
		return errListing
	}
	if err == nil && q.entries == 0 {
		s.server.limiter.miss(s.peer.counted, q.at)
	}
	return err // nil with no entries: RFC 4511 §4.5.2, an unknown address is not an error
}

// missed counts a name that is not there as a guess at an address.
func (s *session) missed(q *request, err error) {
	var missing *dit.NoSuchObject
	if errors.As(err, &missing) {
		s.server.limiter.miss(s.peer.counted, q.at)
	}
}

// named offers the entries that the filter pins.
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

// list offers every entry in scope.
func (s *session) list(q *request, p *query, base dit.Base) error {
	var err error
	n := 0
	base.Each(p.scope, func(e *dit.Entry) bool {
		if n++; n%clockEvery == 0 && time.Since(q.at) > p.timeLimit {
			err = errTimeLimit
			return false
		}
		err = s.offer(q, p, e)
		return err == nil
	})
	return err
}

// offer appends the entry to the answer if the filter selects it.
func (s *session) offer(q *request, p *query, e *dit.Entry) error {
	if p.filter.matches(e) != dit.True {
		return nil
	}
	if q.entries >= p.sizeLimit {
		return errSizeLimit // RFC 4511 §4.5.1.4
	}
	q.entries++
	s.out = appendEnvelope(s.out, q.id, e.ResultSize(&p.selection))
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
func (s *session) limits(q *request, p *query) {
	o := &s.server.options
	size := o.SizeLimit
	if size == 0 {
		size = defaultSizeExact
		if q.tree.Listing() {
			size = defaultSizeList
		}
	}
	if p.sizeLimit == 0 || p.sizeLimit > size {
		p.sizeLimit = size
	}
	if p.timeLimit == 0 || p.timeLimit > o.TimeLimit {
		p.timeLimit = o.TimeLimit
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
	p.selection = dit.Selection{}
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
