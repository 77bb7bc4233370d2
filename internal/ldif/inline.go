package ldif

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
)

// Inliner is a text in which the values that stand in files ("name:< URL") are
// put in their places, in Base64. All else is what it was to the octet, and
// every line has the number that it had, so that a message about line 7 speaks
// of line 7 of the original.
type Inliner struct {
	lines *Lines
	name  string
	wants func(attribute []byte) bool
	fetch func(url string) ([]byte, error)

	rest []byte // of what is to be read
	err  error
}

// NewInliner reads a text of that name. Of the attributes that wants tells of,
// values are fetched; of others a URL stays a URL. An error of fetch ends the
// text and has the place in it.
func NewInliner(r io.Reader, name string, wants func(attribute []byte) bool, fetch func(url string) ([]byte, error)) *Inliner {
	return &Inliner{lines: NewLines(r), name: name, wants: wants, fetch: fetch}
}

// Read reads the new text. A line that crosses a limit is an error here
// already.
func (in *Inliner) Read(p []byte) (int, error) {
	for len(in.rest) == 0 {
		if in.err != nil {
			return 0, in.err
		}
		in.next()
	}
	n := copy(p, in.rest)
	in.rest = in.rest[n:]
	return n, nil
}

// next makes the next line of the new text, or err.
func (in *Inliner) next() {
	if !in.lines.Next() {
		if in.err = io.EOF; in.lines.Err() != nil {
			in.err = in.fault(in.lines.Err())
		}
		return
	}
	in.rest = in.lines.Raw()
	if in.lines.IsComment() || !bytes.ContainsRune(in.lines.Line(), '<') {
		return
	}
	v, err := Parse(in.lines.Line())
	if err != nil || v.Form != URL || !in.wants(v.Name) {
		return // a fault is for whoever reads the entries
	}
	value, err := in.fetch(string(v.Text))
	if err != nil {
		in.rest, in.err = nil, in.fault(fmt.Errorf("%s:< %.200s: %w", v.Name, v.Text, err))
		return
	}
	in.rest = in.spread(v.Name, value)
}

func (in *Inliner) fault(err error) error {
	return fmt.Errorf("%s:%d: %w", in.name, in.lines.At(), err)
}

// spread writes the value on as many lines as its URL stood on.
func (in *Inliner) spread(name, value []byte) []byte {
	line := append(bytes.Clone(name), ":: "...)
	line = base64.StdEncoding.AppendEncode(line, value)
	out := line
	for range in.lines.Folds() - 1 {
		out = append(out, "\n "...) // an empty continuation
	}
	return append(out, '\n')
}
