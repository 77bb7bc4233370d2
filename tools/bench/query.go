package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
)

// Types and codes of RFC 1035 §3.2.2, RFC 4398 §2 and RFC 6891 §6.1.1.
const (
	typeMX   = 15
	typeCERT = 37
	typeOPT  = 41

	rcodeNoError  = 0
	rcodeNXDomain = 3
)

const (
	lengthSize = 2 // before each message on a stream
	headerSize = 12
	optSize    = 11

	// poolOfQueries is a multiple of the 65,536 message IDs, so that the ID of
	// a query follows from its place.
	poolOfQueries = 1 << 18

	// querySeed makes all servers get the same questions in the same order.
	querySeed = 0x6469726563742121
)

// question says what a load asks and what answer is right.
type question struct {
	qtype uint16
	edns  uint16 // the size that the client offers; 0 for none
	label string // "" for the apex, else a format with the owner's number
	do    bool   // signatures are wanted too (RFC 4035 §3.2.1)
	few   int    // ask for the first few names in turn, instead of all at random
	ldap  bool   // not by DNS: search the directory for the certificate of a name
	want  want
}

// want is the right answer's form.
type want struct {
	rcode   byte
	tc      bool
	answers uint16 // least number of records in the answer section
	size    int    // least size of the message
}

// queries are ready messages; the ID of number i is i modulo 65,536.
type queries struct {
	msgs [][]byte
	want want
}

func buildQueries(q question, names int) *queries {
	r := rand.New(rand.NewPCG(querySeed, uint64(names)))
	out := &queries{msgs: make([][]byte, poolOfQueries), want: q.want}
	arena := make([]byte, 0, poolOfQueries*64)
	for i := range out.msgs {
		name := zoneName
		switch {
		case q.few > 0:
			name = fmt.Sprintf(q.label, i%min(q.few, names)) + "." + zoneName
		case q.label != "":
			name = fmt.Sprintf(q.label, r.IntN(names)) + "." + zoneName
		}
		from := len(arena)
		arena = appendQuery(arena, uint16(i), name, q.qtype, q.edns)
		if q.do {
			arena[len(arena)-4] |= bitDO
		}
		out.msgs[i] = arena[from:len(arena):len(arena)]
	}
	return out
}

// The stream of a TCP connection: each message behind two octets with its
// length (RFC 1035 §4.2.2); answers may come in any order (RFC 7766 §6.2.1.1).

func (q *queries) count() int { return len(q.msgs) }

func (q *queries) frame(b []byte, n int) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(q.msgs[n])))
	return append(b, q.msgs[n]...)
}

func (q *queries) cut(b []byte) (int, error) {
	if len(b) < lengthSize {
		return 0, nil
	}
	n := lengthSize + int(binary.BigEndian.Uint16(b))
	if n > len(b) {
		return 0, nil
	}
	return n, nil
}

func (q *queries) id(msg []byte) (int, bool) {
	if len(msg) < lengthSize+headerSize {
		return 0, false
	}
	return int(binary.BigEndian.Uint16(msg[lengthSize:])), true
}

func (q *queries) idOf(n int) int { return n & 0xffff }

func (q *queries) take(s *sentQuery, msg []byte) bool {
	s.err = q.want.check(q.msgs[s.query], msg[lengthSize:])
	return true
}

func (q *queries) hello() []byte            { return nil }
func (q *queries) welcome(msg []byte) error { return errForeign }
func (q *queries) farewell() []byte         { return nil }

// appendQuery writes a query (RFC 1035 §4.1).
func appendQuery(b []byte, id uint16, name string, qtype, edns uint16) []byte {
	b = binary.BigEndian.AppendUint16(b, id)
	b = append(b, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	if edns > 0 {
		b[len(b)-1] = 1
	}
	for label := range strings.SplitSeq(name, ".") {
		b = append(b, byte(len(label)))
		b = append(b, label...)
	}
	b = append(b, 0)
	b = binary.BigEndian.AppendUint16(b, qtype)
	b = append(b, 0, 1)
	if edns > 0 { // RFC 6891 §6.1.2
		b = append(b, 0, 0, typeOPT)
		b = binary.BigEndian.AppendUint16(b, edns)
		b = append(b, 0, 0, 0, 0, 0, 0)
	}
	return b
}

// bitDO stands in the third octet of the OPT record's TTL (RFC 6891 §6.1.4).
const bitDO = 0x80

// Bits of the second pair of octets of a message.
const (
	bitQR    = 0x80
	bitAA    = 0x04
	bitTC    = 0x02
	maskCode = 0x0f
)

// check says what is wrong with an answer to a query. It runs for every answer,
// so its errors are made beforehand.
func (w *want) check(query, answer []byte) error {
	end := len(query)
	if query[headerSize-1] == 1 {
		end -= optSize
	}
	switch {
	case len(answer) < end || answer[0] != query[0] || answer[1] != query[1]:
		return errForeign
	case string(answer[headerSize:end]) != string(query[headerSize:end]):
		return errQuestion
	case answer[2]&bitQR == 0 || answer[2]&bitAA == 0 || answer[5] != 1:
		return errHeader
	case answer[3]&maskCode != w.rcode:
		return errCode
	case answer[2]&bitTC != 0 != w.tc:
		return errTruncation
	case binary.BigEndian.Uint16(answer[6:]) < w.answers:
		return errNoAnswer
	case len(answer) < w.size:
		return errShort
	}
	return nil
}

// What can be wrong with an answer.
var (
	errForeign    = errors.New("the ID is another query's")
	errQuestion   = errors.New("the question is not repeated")
	errHeader     = errors.New("the header is no authoritative answer's")
	errCode       = errors.New("the response code is another")
	errTruncation = errors.New("it is truncated, or should be and is not")
	errNoAnswer   = errors.New("the answer section has too few records")
	errShort      = errors.New("the message is too short to hold what was asked for")
)
