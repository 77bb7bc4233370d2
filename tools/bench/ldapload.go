package main

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
)

const (
	// firstID and manyIDs: message IDs have two octets, as those of a
	// connection that is kept for a while.
	firstID = 0x100
	manyIDs = 0x7000

	// ownerDigits follow the first letter of an owner.
	ownerDigits = 7
)

// helloID and farewellID are those of bind and unbind.
var (
	helloID    = []byte{1}
	farewellID = []byte{0x7f, 0xff}
)

// searches are LDAP searches for one certificate each: one message, of which
// the ID and the owner's digits differ.
type searches struct {
	message     []byte
	idAt, ownAt int     // where the message ID and the digits stand
	owners      []int32 // whom search n asks for
	size        int     // of a certificate

	bind, unbind []byte
	mail         []byte // scratch: the address that is looked for in a certificate
}

// buildSearches asks for owners at random, in the same order for every server.
func buildSearches(names, certOctets int) *searches {
	r := rand.New(rand.NewPCG(querySeed, uint64(names)))
	owners := make([]int32, poolOfQueries)
	for i := range owners {
		owners[i] = int32(r.IntN(names))
	}
	return searchesFor(owners, certOctets)
}

// searchesForAll ask for each owner once.
func searchesForAll(names, certOctets int) *searches {
	owners := make([]int32, names)
	for i := range owners {
		owners[i] = int32(i)
	}
	return searchesFor(owners, certOctets)
}

func searchesFor(owners []int32, certOctets int) *searches {
	address := placeOwner + "@" + zoneName
	id := binary.BigEndian.AppendUint16(nil, firstID)
	message := searchRequest(id, address)
	return &searches{
		message: message,
		idAt:    bytes.Index(message, tlv(tagInteger, id)) + 2,
		ownAt:   bytes.Index(message, []byte(address)) + 1,
		owners:  owners,
		size:    certOctets,
		bind:    bindRequest(helloID),
		unbind:  unbindRequest(farewellID),
		mail:    []byte(address),
	}
}

func (q *searches) count() int { return len(q.owners) }

func (q *searches) frame(b []byte, n int) []byte {
	from := len(b)
	b = append(b, q.message...)
	binary.BigEndian.PutUint16(b[from+q.idAt:], uint16(q.idOf(n)))
	putDigits(b[from+q.ownAt:from+q.ownAt+ownerDigits], q.owners[n])
	return b
}

func putDigits(b []byte, n int32) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
}

func (q *searches) cut(b []byte) (int, error) {
	head, content, err := header(b)
	if err != nil || head == 0 || len(b) < head+content {
		return 0, err
	}
	return head + content, nil
}

func (q *searches) id(msg []byte) (int, bool) {
	id, _, ok := operation(msg)
	return id, ok
}

func (q *searches) idOf(n int) int { return firstID + n%manyIDs }

// take checks an entry, and at the end that there was one. Answers to
// pipelined searches may come between each other (RFC 4511 §3.1).
func (q *searches) take(s *sentQuery, msg []byte) bool {
	_, op, ok := operation(msg)
	if !ok {
		s.wrong(errEncoding)
		return true
	}
	if op[0] != tagSearchDone {
		s.parts++
		if err := q.check(op, q.owners[s.query]); err != nil {
			s.wrong(err)
		}
		return false
	}
	if err := resultOf(op, tagSearchDone); err != nil {
		s.wrong(err)
	}
	if s.parts != 1 {
		s.wrong(errEntries)
	}
	return true
}

// check holds an entry against its owner.
func (q *searches) check(op []byte, owner int32) error {
	der, err := certificateOf(op)
	if err != nil {
		return err
	}
	if len(der) != q.size {
		return errSize
	}
	putDigits(q.mail[1:1+ownerDigits], owner)
	if !bytes.Contains(der, q.mail) {
		return errOwner
	}
	return nil
}

func (q *searches) hello() []byte    { return q.bind }
func (q *searches) farewell() []byte { return q.unbind }

func (q *searches) welcome(msg []byte) error {
	id, op, ok := operation(msg)
	switch {
	case !ok:
		return errEncoding
	case id != int(helloID[0]):
		return errForeign
	}
	return resultOf(op, tagBindResponse)
}
