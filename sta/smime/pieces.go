package smime

import "io"

// pieces is an entity as the slices that it is made of, so that a large message
// is not copied to stand between two headers.
type pieces [][]byte

func (p pieces) size() int {
	n := 0
	for _, b := range p {
		n += len(b)
	}
	return n
}

// reader reads the pieces one after another. It has Len because a writer of
// CMS that knows the size ahead writes DER.
func (p pieces) reader() *piecesReader { return &piecesReader{rest: p, left: p.size()} }

type piecesReader struct {
	rest pieces
	at   int // in rest[0]
	left int
}

// Len is the number of octets not yet read.
func (r *piecesReader) Len() int { return r.left }

// Read reads from the first piece that has octets left.
func (r *piecesReader) Read(b []byte) (int, error) {
	for len(r.rest) > 0 {
		n := copy(b, r.rest[0][r.at:])
		if r.at += n; r.at == len(r.rest[0]) {
			r.rest, r.at = r.rest[1:], 0
		}
		if n > 0 || len(b) == 0 {
			r.left -= n
			return n, nil
		}
	}
	return 0, io.EOF
}
