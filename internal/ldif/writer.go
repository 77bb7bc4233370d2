package ldif

import (
	"bufio"
	"encoding/base64"
	"io"
	"strings"
)

// width is where lines are folded (RFC 2849 note 10 wants no more than 76
// columns for those who mail a text).
const width = 76

// Writer writes content records.
type Writer struct {
	out   *bufio.Writer
	begun bool
	line  []byte // used again and again
}

// NewWriter begins a text. RFC 2849 begins it with its version, which slapadd
// takes for an entry without a name.
func NewWriter(w io.Writer, version bool) *Writer {
	out := &Writer{out: bufio.NewWriterSize(w, buffer), begun: version}
	if version {
		out.out.WriteString("version: 1\n")
	}
	return out
}

// Begin begins a record with its name.
func (w *Writer) Begin(dn []byte) {
	if w.begun {
		w.out.WriteByte('\n')
	}
	w.begun = true
	w.Text("dn", dn)
}

// Text writes a value: as it is if it is a SAFE-STRING that does not end in a
// space, in Base64 if it is not (RFC 2849 notes 4 and 8).
func (w *Writer) Text(name string, value []byte) {
	if !isSafe(value) {
		w.Binary(name, value)
		return
	}
	w.line = append(append(append(w.line[:0], name...), ": "...), value...)
	w.fold()
}

// Binary writes a value in Base64.
func (w *Writer) Binary(name string, value []byte) {
	w.line = append(append(w.line[:0], name...), ":: "...)
	w.line = base64.StdEncoding.AppendEncode(w.line, value)
	w.fold()
}

// fold writes the line. The writer keeps its first error.
func (w *Writer) fold() {
	rest := w.line
	for n := width; len(rest) > n; n = width - 1 {
		w.out.Write(rest[:n])
		w.out.WriteString("\n ")
		rest = rest[n:]
	}
	w.out.Write(rest)
	w.out.WriteByte('\n')
}

// Flush ends the text. The error is the first of all writes.
func (w *Writer) Flush() error { return w.out.Flush() }

// isSafe tells whether a value is a SAFE-STRING and may stand as it is. Of the
// control characters, which RFC 2849 allows, none is written to a terminal.
func isSafe(v []byte) bool {
	for i, c := range v {
		if c < ' ' || c > '~' || i == 0 && strings.IndexByte(" :<", c) >= 0 {
			return false
		}
	}
	return len(v) == 0 || v[len(v)-1] != ' '
}
