package ldapserver

import (
	"context"
	"fmt"
	"log/slog"
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
	hangUp        // send what was appended, wait a moment for the client to have it, close
	leave         // send what was appended and close: the client wants no more
	startTLS      // send what was appended, then shake hands
	detach        // nothing was done: serve the message where it may take long, or answer much
)

// operation is a row of the table of requests.
type operation struct {
	request  ber.Tag
	response ber.Tag // zero: there is none
	name     string
	controls controls // those that it may come with
	serve    func(*session, *request) error
}

// operations is the table of RFC 4511 §4.2–§4.12.
var operations = [...]operation{
	{ber.App(3, true), ber.App(5, true), "search", manageDsaIT | pagedResults, (*session).search},
	{ber.App(0, true), ber.App(1, true), "bind", 0, (*session).bind},
	{ber.App(2, false), ber.Tag{}, "unbind", 0, (*session).unbind},
	{ber.App(14, true), ber.App(15, true), "compare", manageDsaIT, (*session).compare},
	{ber.App(16, false), ber.Tag{}, "abandon", 0, (*session).abandon},
	{ber.App(23, true), tagExtendedResponse, "extended", 0, (*session).extended},
	{ber.App(6, true), ber.App(7, true), "modify", manageDsaIT, (*session).readOnly},
	{ber.App(8, true), ber.App(9, true), "add", manageDsaIT, (*session).readOnly},
	{ber.App(10, false), ber.App(11, true), "delete", manageDsaIT, (*session).readOnly},
	{ber.App(12, true), ber.App(13, true), "modifyDN", manageDsaIT, (*session).readOnly},
}

// request is one message while it is served.
type request struct {
	id       int32
	op       *operation
	in       ber.Reader // the elements of the LDAPMessage
	body     ber.Element
	controls error // why the controls refuse the request
	paged    paged // the paged results control
	tree     *dit.Tree
	at       time.Time
	extras   extras
	next     next
	entries  int
	guesses  int  // at addresses that are not there
	final    bool // it cannot be canceled (RFC 3909 §2)
}

// client is what a connection keeps from one request to the next.
type client struct {
	id     uint64 // for the log
	peer   peer
	secure bool // TLS is established
	paging paging
	recent recent
}

// session serves the requests of one client at a time, free of sockets: messages
// in, answers appended to out.
type session struct {
	server *Server
	client *client
	brief  bool                 // what may take long must detach
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
	switch {
	case err == errLong:
		s.out = s.out[:mark]
		return detach
	case err == errWrite:
		return hangUp
	case err != nil && disconnects(err):
		return s.malformed(err)
	}
	r := resultOf(err)
	s.server.counts.request(q, r.code)
	if q.op.response != (ber.Tag{}) {
		s.out = appendResult(s.out, q.id, q.op.response, r, &q.extras)
		s.client.recent.add(q.id, q.final)
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
	s.server.log.Error("ldap: panic while serving a request", "peer", s.client.peer, "panic", v, "stack", string(debug.Stack()))
	s.server.counts.result(other)
	s.out = s.out[:min(mark, len(s.out))]
	if q.op != nil && q.op.response != (ber.Tag{}) {
		s.out = appendResult(s.out, q.id, q.op.response, resultOf(errInternal), &extras{})
	}
	s.out = appendNotice(s.out, other, "internal error")
	return hangUp
}

// malformed ends the connection as RFC 4511 §4.1.1 demands.
func (s *session) malformed(err error) next {
	s.server.counts.result(protocolError)
	s.server.log.Debug("ldap: malformed message", "peer", s.client.peer, "error", err)
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
			break
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
		if q.controls, err = q.readControls(e); err != nil {
			return err
		}
	}
	return nil
}

// element reads one element. RFC 4511 §5.1 allows only definite lengths.
func element(r *ber.Reader) (ber.Element, error) {
	e, err := r.Next()
	if err == nil && e.Indefinite {
		err = fmt.Errorf("%w: indefinite length", ber.ErrSyntax)
	}
	return e, err
}

// enter reads a constructed element with tag t and gives its children.
func enter(r *ber.Reader, t ber.Tag) (ber.Reader, error) {
	content, err := r.Definite(t)
	if err != nil {
		return ber.Reader{}, err
	}
	return r.Inside(content)
}

// octets reads an OCTET STRING, which in LDAP is primitive (RFC 4511 §5.1).
func octets(r *ber.Reader) ([]byte, error) { return r.Definite(ber.OctetString) }

// trace logs a served request. It names no address: what people look up is
// not for the log.
func (s *session) trace(q *request, r result) {
	if !s.server.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	s.server.log.Debug("ldap: request", "peer", s.client.peer, "id", q.id, "op", q.op.name, "result", int(r.code),
		"entries", q.entries, "duration", time.Since(q.at))
}
