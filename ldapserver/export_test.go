package ldapserver

import (
	"time"

	"directnode/ldapserver/dit"
)

// Session is a session for the tests of the package's users: messages in,
// answers out, no socket.
type Session struct{ s *session }

// NewSession makes a session of a client that no rate limits.
func NewSession(tr *dit.Tree, o Options) *Session { return &Session{newSession(tr, o)} }

// Handle serves one message. It gives the answers, which are good until the
// next call, and whether the connection would end.
func (s *Session) Handle(pdu []byte, at time.Time) (answers []byte, ended bool) {
	s.s.out = s.s.out[:0]
	then := s.s.handle(pdu, at)
	return s.s.out, then == hangUp
}

// Results are the server's.
func (s *Session) Results() map[int]uint64 { return s.s.server.Results() }
