package revocation

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"time"
)

// index holds the entries of a list in little more memory than the list itself has on the wire, and finds one in two or three looks
// at memory: records one after the other in large pieces that never move, chained by a hash of the serial number. A record is
//
//	0  place of the next record of the chain, plus one; 0 = the last
//	4  when it was revoked, in seconds since 1970
//	8  reason
//	9  length of the serial number
//	10 the serial number, as the content of an INTEGER
//
// Serial numbers are chosen by issuers, so the hash has a seed of its own for each list.
type index struct {
	pieces [][]byte
	heads  []uint32
	seed   maphash.Seed
	count  int
}

const (
	pieceBits = 20
	pieceSize = 1 << pieceBits
	recordTop = 10
	// octetsPerHead is about the size of an entry on the wire, so that a chain has one or two records.
	octetsPerHead = 40
	minHeads      = 16
)

// newIndex prepares for the entries of a list of so many octets.
func newIndex(octets int) index {
	n := max(minHeads, octets/octetsPerHead)
	return index{heads: make([]uint32, 1<<(bits.Len(uint(n))-1)), seed: maphash.MakeSeed()}
}

func (x *index) head(serial []byte) *uint32 {
	return &x.heads[maphash.Bytes(x.seed, serial)&uint64(len(x.heads)-1)]
}

// add appends a record. The serial number has at most maxSerial octets.
func (x *index) add(serial []byte, at time.Time, reason byte) {
	size := recordTop + len(serial)
	last := len(x.pieces) - 1
	if last < 0 || cap(x.pieces[last])-len(x.pieces[last]) < size {
		// The first piece of a short list is short.
		x.pieces = append(x.pieces, make([]byte, 0, min(pieceSize, max(recordTop+maxSerial, len(x.heads)*octetsPerHead*2))))
		last++
	}
	p := x.pieces[last]
	place := uint32(last<<pieceBits | len(p))
	head := x.head(serial)
	p = binary.BigEndian.AppendUint32(p, *head)
	p = binary.BigEndian.AppendUint32(p, uint32(max(0, at.Unix())))
	p = append(p, reason, byte(len(serial)))
	x.pieces[last] = append(p, serial...)
	*head = place + 1
	x.count++
}

// find looks a serial number up.
func (x *index) find(serial []byte) (at time.Time, reason byte, found bool) {
	if len(x.heads) == 0 {
		return time.Time{}, 0, false
	}
	for place := *x.head(serial); place != 0; {
		place--
		r := x.pieces[place>>pieceBits][place&(pieceSize-1):]
		if n := int(r[9]); n == len(serial) && string(r[recordTop:recordTop+n]) == string(serial) {
			return time.Unix(int64(binary.BigEndian.Uint32(r[4:])), 0).UTC(), r[8], true
		}
		place = binary.BigEndian.Uint32(r)
	}
	return time.Time{}, 0, false
}

// octets is what the index takes of memory.
func (x *index) octets() int {
	n := 4 * len(x.heads)
	for _, p := range x.pieces {
		n += cap(p)
	}
	return n
}
