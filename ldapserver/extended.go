package ldapserver

import (
	"directnode/internal/ber"
	"directnode/ldapserver/dit"
)

var (
	tagRequestName  = ber.Context(0, false)
	tagRequestValue = ber.Context(1, false)
)

// extended serves an Extended request (RFC 4511 §4.12).
func (s *session) extended(q *request) error {
	in, err := q.in.Child(q.body)
	if err != nil {
		return err
	}
	name, err := expect(&in, tagRequestName)
	if err != nil {
		return err
	}
	hasValue := false
	for !in.Empty() {
		e, err := element(&in)
		if err != nil {
			return err
		}
		hasValue = hasValue || e.Tag == tagRequestValue
	}
	switch string(name.Content) {
	case dit.OIDStartTLS:
		return s.startTLS(q, hasValue)
	case dit.OIDWhoAmI:
		if hasValue {
			return errEnumeration // RFC 4532 §2.1: the value is absent
		}
		q.extras.hasValue = true // RFC 4532 §2.2: anonymous is an empty authzId
		return nil
	}
	return errExtended // RFC 4511 §4.12: protocolError for a name that is not recognized
}

// startTLS answers in clear; the connection shakes hands afterwards. Bind
// state to reset there is none.
func (s *session) startTLS(q *request, hasValue bool) error {
	q.extras.name = dit.OIDStartTLS // RFC 4511 §4.14.2
	switch {
	case hasValue:
		return errEnumeration // RFC 4511 §4.14.1: the value is absent
	case s.secure:
		return errAlreadyTLS // RFC 4511 §4.14.1
	case s.server.options.TLS == nil:
		return errNoTLS // RFC 4511 §4.14.1: as for an operation that is unknown
	}
	q.next = startTLS
	return nil
}
