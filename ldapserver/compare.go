package ldapserver

import (
	"directnode/internal/ber"
	"directnode/ldapserver/dit"
)

// compare serves a Compare request (RFC 4511 §4.10). Who names an entry knows
// its address, so that an answer lists nothing; it counts like a search.
func (s *session) compare(q *request) error {
	in, err := q.in.Child(q.body)
	if err != nil {
		return err
	}
	name, err := octets(&in)
	if err != nil {
		return err
	}
	ava, err := enter(&in, ber.Sequence)
	if err != nil {
		return err
	}
	description, err := octets(&ava)
	if err != nil {
		return err
	}
	assertion, err := octets(&ava)
	if err != nil {
		return err
	}
	if err := s.charge(q); err != nil {
		return err
	}
	base, err := s.find(q, name)
	if err != nil {
		return err
	}
	d, known := dit.Describe(description)
	switch e := base.Entry(); {
	case !known:
		return errUnknownType
	case e.Present(d) != dit.True:
		return errNoAttribute
	default:
		return comparison(e.Equal(d, assertion))
	}
}

func comparison(t dit.Truth) error {
	switch t {
	case dit.True:
		return errCompareTrue
	case dit.False:
		return errCompareFalse
	}
	return errNoComparison
}
