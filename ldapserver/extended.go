package ldapserver

import (
	"math"

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
	name, err := in.Definite(tagRequestName)
	if err != nil {
		return err
	}
	var value []byte
	hasValue := false
	for !in.Empty() {
		e, err := element(&in)
		if err != nil {
			return err
		}
		if e.Tag == tagRequestValue {
			value, hasValue = e.Content, true
		}
	}
	switch string(name) {
	case dit.OIDCancel:
		return s.cancel(q, value)
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
	q.final = true
	q.extras.name = dit.OIDStartTLS // RFC 4511 §4.14.2
	switch {
	case hasValue:
		return errEnumeration // RFC 4511 §4.14.1: the value is absent
	case s.client.secure:
		return errAlreadyTLS // RFC 4511 §4.14.1
	case s.server.options.TLS == nil:
		return errNoTLS // RFC 4511 §4.14.1: as for an operation that is unknown
	}
	q.next = startTLS
	return nil
}

// cancel serves the Cancel operation (RFC 3909). Requests are served in order,
// so that the one to cancel has been answered whenever this one is served: it is
// too late for the last few, and the others are not remembered.
func (s *session) cancel(q *request, value []byte) error {
	q.final = true
	r, err := ber.NewReader(value, messageLimits).Enter(ber.Sequence)
	if err != nil {
		return errEnumeration
	}
	id, err := r.Int(ber.Integer)
	if err != nil || id < 1 || id > math.MaxInt32 || !r.Empty() {
		return errEnumeration
	}
	if int32(id) == q.id {
		return errCannotCancel // RFC 3909 §2.3: Cancel itself
	}
	return s.client.recent.canceled(int32(id))
}

// recent remembers the requests that were answered last.
type recent struct {
	ids  [maxOutstanding]int32 // negative: of an operation that cannot be canceled
	next uint8
}

func (r *recent) add(id int32, final bool) {
	if final {
		id = -id
	}
	r.ids[r.next%maxOutstanding] = id
	r.next++
}

// canceled is the answer to who wants a request canceled.
func (r *recent) canceled(id int32) error {
	for i := range r.ids {
		switch r.ids[(int(r.next)-1-i+2*maxOutstanding)%maxOutstanding] {
		case id:
			return errTooLate
		case -id:
			return errCannotCancel // RFC 3909 §2: Bind, StartTLS and Cancel
		}
	}
	return errNothing
}
