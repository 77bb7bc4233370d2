package ldapserver

import "directnode/internal/ber"

var tagSimple = ber.Context(0, false)

// bind serves a Bind request (RFC 4511 §4.2). Nobody has an account: the only
// bind that succeeds is the anonymous one, which changes nothing.
func (s *session) bind(q *request) error {
	q.final = true
	in, err := q.in.Child(q.body)
	if err != nil {
		return err
	}
	version, err := in.Int(ber.Integer)
	if err != nil {
		return err
	}
	name, err := octets(&in)
	if err != nil {
		return err
	}
	method, err := element(&in)
	if err != nil {
		return err
	}
	switch {
	case version != 3:
		return errVersion // RFC 4511 §4.2: protocolError for a version that is not supported
	case method.Tag != tagSimple:
		return errAuthMethod // SASL, and what may come
	case len(name) == 0 && len(method.Content) == 0:
		return nil // RFC 4513 §5.1.1: anonymous
	case len(method.Content) == 0:
		return errUnauthBind // RFC 4513 §5.1.2: unauthenticated bind fails by default
	}
	return errCredentials // RFC 4513 §5.1.3
}

// unbind ends the session without an answer (RFC 4511 §4.3).
func (s *session) unbind(q *request) error {
	q.next = leave
	return nil
}

// abandon has no answer and no effect (RFC 4511 §4.11): requests are served in
// order, so that the one to abandon has been answered.
func (s *session) abandon(*request) error { return nil }

// readOnly refuses what would change the directory.
func (s *session) readOnly(*request) error { return errReadOnly }
