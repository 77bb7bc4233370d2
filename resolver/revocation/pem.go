package revocation

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"io"
)

// unarmored takes PEM off a stream that has it (RFC 7468). Lists are published in DER (RFC 5280 §4.2.1.13); some servers send what
// openssl wrote.
func unarmored(r io.Reader) io.Reader {
	b := bufio.NewReaderSize(r, window)
	head, _ := b.Peek(len(armor))
	if !bytes.Equal(head, []byte(armor)) {
		return b
	}
	if _, err := b.ReadSlice('\n'); err != nil {
		return broken{errors.New("PEM without a first line")}
	}
	return base64.NewDecoder(base64.StdEncoding, &untilDash{b: b})
}

const armor = "-----BEGIN "

// broken is a reader that has nothing but an error.
type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

// untilDash ends where the last line of the armor begins.
type untilDash struct {
	b    *bufio.Reader
	done bool
}

func (u *untilDash) Read(p []byte) (int, error) {
	if u.done || len(p) == 0 {
		return 0, io.EOF
	}
	n, err := u.b.Read(p)
	if i := bytes.IndexByte(p[:n], '-'); i >= 0 {
		u.done = true
		n, err = i, io.EOF
	}
	return n, err
}
