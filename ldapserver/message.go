package ldapserver

import (
	"fmt"
	"math"
	"runtime/debug"
	"time"

	"directnode/internal/ber"
	"directnode/ldapserver/dit"
)

// next says what becomes of the connection after a message.
type next int

const (
	proceed  next = iota
	hangUp        // close, what was appended is sent first
	startTLS      // send what was appended, then shake hands
)

// operation is a row of the table of requests.
type operation struct {
	request  ber.Tag
	response ber.Tag // zero: there is none
	name     string
	serve    func(*session, *request) error
}

// operations is the table of RFC 4511 §4.2–§4.12.
var operations = [...]operation{
	{ber.App(3, true), ber.App(5, true), "search", (*session).search},
	{ber.App(0, true), ber.App(1, true), "bind", (*session).bind},
	{ber.App(2, false), ber.Tag{}, "unbind", (*session).unbind},
	{ber.App(14, true), ber.App(15, true), "compare", (*session).compare},
	{ber.App(16, false), ber.Tag{}, "abandon", (*session).abandon},
	{ber.App(23, true), tagExtendedResponse, "extended", (*session).extended},
	{ber.App(6, true), ber.App(7, true), "modify", (*session).readOnly},
	{ber.App(8, true), ber.App(9, true), "add", (*session).readOnly},
	{ber.App(10, false), ber.App(11, true), "delete", (*session).readOnly},
	{ber.App(12, true), ber.App(13, true), "modifyDN", (*session).readOnly},
}

// request is one message while it is served.
type request struct {
	id       int32
	op       *operation
	in       ber.Reader // the elements of the LDAPMessage
	body     ber.Element
	controls error // why the controls refuse the request
	tree     *dit.Tree
	at       time.Time
	extras   extras
	next     next
	entries  int
}

// session is the state of a connection as the operations see it, free of
// sockets: messages in, answers appended to out.
type session struct {
	server *Server
	peer   peer
	secure bool                 // TLS is established
	out    []byte               // answers that are not written yet
	flush  func(b []byte) error // writes a part of a long answer; nil collects it

	reader  ber.Reader
	request request
	pinned  [maxPins]dit.Entry // scratch of search, empty between requests
	query   query              // scratch of search and compare, so that they allocate nothing
}

// handle serves one message, appends the answers to s.out and says how to go
// on.
func (s *session) handle(pdu []byte, at time.Time) (then next) {
	q := &s.request
	*q = request{at: at}
	mark := len(s.out)
	defer func() {
		if v := recover(); v != nil {
			then = s.panicked(v, mark)
		}
	}()
	if err := s.open(q, pdu); err != nil {
		return s.malformed(err)
	}
	err := s.serve(q)
	if err == errWrite {
		return hangUp
	}
	if err != nil && disconnects(err) {
		return s.malformed(err)
	}
	r := resultOf(err)
	s.server.count(r.code)
	if q.op.response != (ber.Tag{}) {
		s.out = appendResult(s.out, q.id, q.op.response, r, q.extras)
	}
	s.trace(q, r)
	return q.next
}

// serve takes the steps that all operations have in common.
func (s *session) serve(q *request) error {
	if q.op.response == (ber.Tag{}) {
		return q.op.serve(s, q) // RFC 4511 §4.1.11: controls of unbind and abandon have no effect
	}
	if q.controls != nil {
		return q.controls
	}
	// The one generation that this request sees.
	if q.tree = s.server.tree(); q.tree == nil {
		return errNoTree
	}
	return q.op.serve(s, q)
}

// panicked turns a panic into a result: a bug in one request must not end the
// process. The connection ends, because its state is unknown.
func (s *session) panicked(v any, mark int) next {
	q := &s.request
	s.server.log.Error("ldap: panic while serving a request", "peer", s.peer.name, "panic", v, "stack", string(debug.Stack()))
	s.server.count(other)
	s.out = s.out[:min(mark, len(s.out))]
	if q.op != nil && q.op.response != (ber.Tag{}) {
		s.out = appendResult(s.out, q.id, q.op.response, resultOf(errInternal), extras{})
	}
	s.out = appendNotice(s.out, other, "internal error")
	return hangUp
}

// malformed ends the connection as RFC 4511 §4.1.1 demands.
func (s *session) malformed(err error) next {
	s.server.count(protocolError)
	s.server.log.Debug("ldap: malformed message", "peer", s.peer.name, "error", err)
	s.out = appendNotice(s.out, protocolError, "malformed message")
	return hangUp
}

// open reads the LDAPMessage around a request (RFC 4511 §4.1.1). All its
// errors disconnect.
func (s *session) open(q *request, pdu []byte) error {
	s.reader.Reset(pdu, messageLimits)
	var err error
	if q.in, err = enter(&s.reader, ber.Sequence); err != nil {
		return err
	}
	id, err := q.in.Int(ber.Integer)
	if err != nil {
		return err
	}
	if id < 1 || id > math.MaxInt32 { // RFC 4511 §4.1.1.1: zero is for unsolicited notifications
		return fmt.Errorf("%w: message id %d", ber.ErrSyntax, id)
	}
	q.id = int32(id)
	if q.body, err = element(&q.in); err != nil {
		return err
	}
	for i := range operations {
		if operations[i].request == q.body.Tag {
			q.op = &operations[i]
		}
	}
	if q.op == nil {
		return fmt.Errorf("%w: %s is no request", ber.ErrSyntax, q.body.Tag)
	}
	for !q.in.Empty() {
		e, err := element(&q.in)
		if err != nil {
			return err
		}
		if e.Tag != tagControls {
			continue // RFC 4511 §4: unknown trailing components are ignored
		}
		if q.controls, err = controls(&q.in, e); err != nil {
			return err
		}
	}
	return nil
}

var tagControls = ber.Context(0, true)

// controls reads the controls of a message (RFC 4511 §4.1.11). The first error
// refuses the request, the second one disconnects. An empty list is valid.
func controls(r *ber.Reader, e ber.Element) (refused, malformed error) {
	list, err := r.Child(e)
	if err != nil {
		return nil, err
	}
	for n := 0; !list.Empty(); n++ {
		if n == maxControls {
			return errControls, nil
		}
		c, err := enter(&list, ber.Sequence)
		if err != nil {
			return nil, err
		}
		oid, err := octets(&c)
		if err != nil {
			return nil, err
		}
		critical := false
		if t, ok := c.Peek(); ok && t == ber.Boolean {
			if critical, err = c.Bool(ber.Boolean); err != nil {
				return nil, err
			}
		}
		// RFC 3296 §3: ManageDsaIT changes nothing where there are no referrals;
		// JNDI sends it with everything.
		if critical && string(oid) != dit.OIDManageDsaIT {
			refused = errCritical
		}
	}
	return refused, nil
}

// element reads one element. RFC 4511 §5.1 allows only definite lengths.
func element(r *ber.Reader) (ber.Element, error) {
	e, err := r.Next()
	if err == nil && e.Indefinite {
		err = fmt.Errorf("%w: indefinite length", ber.ErrSyntax)
	}
	return e, err
}

// expect reads one element with tag t.
func expect(r *ber.Reader, t ber.Tag) (ber.Element, error) {
	e, err := element(r)
	if err == nil && e.Tag != t {
		err = fmt.Errorf("%w: %s where %s must stand", ber.ErrSyntax, e.Tag, t)
	}
	return e, err
}

// enter reads a constructed element with tag t and gives its children.
func enter(r *ber.Reader, t ber.Tag) (ber.Reader, error) {
	e, err := expect(r, t)
	if err != nil {
		return ber.Reader{}, err
	}
	return r.Child(e)
}

// octets reads an OCTET STRING, which in LDAP is primitive (RFC 4511 §5.1).
func octets(r *ber.Reader) ([]byte, error) {
	e, err := expect(r, ber.OctetString)
	return e.Content, err
}
