// Package ldif reads and writes the lines of the LDAP Data Interchange Format
// (RFC 2849).
//
// Data in: a text as slapcat, ldapsearch, db2ldif or ApacheDS write it. Data
// out: its logical lines, unfolded, each with the number of the line on which
// it begins, and the attribute, form and value of each (Lines, Parse). Writer
// goes the other way; Inliner puts values that a text names by a URL in their
// place. What an entry means is not decided here but in ldapserver/dit, and no
// file is opened: whoever has the folder of the text does that.
//
// The whole is read as a stream, and every line has a limit. What is read
// beyond the grammar, because it is met: a byte order mark, CRLF and LF mixed,
// more than one empty line between entries, a fold at any octet, even inside
// of an attribute's name.
//
// Sources: RFC 2849, and RFC 4512 §2.5 for attribute descriptions.
package ldif

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
)

const (
	// MaxLine bounds one unfolded line. The largest value is a certificate;
	// 64 KiB of DER, the limit of the importer, are 88 KiB of Base64.
	MaxLine = 256 << 10

	// maxFolds bounds the lines that one logical line is folded into: every
	// octet on a line of its own would be a quarter of a million, and tools fold
	// at 60 and more.
	maxFolds = 64 << 10

	// buffer is what is read from below at once.
	buffer = 64 << 10
)

// ErrTooLong is wrapped by the error about a line that crosses a limit.
var ErrTooLong = errors.New("too long")

// Lines reads logical lines. After Next has returned true, the methods tell of
// one line, until the next call.
type Lines struct {
	in     *bufio.Reader
	number int // of the physical line read last
	err    error

	at   int
	line []byte // without its end and its folds
	raw  []byte // as it stands in the text
}

// NewLines reads the lines of a text.
func NewLines(r io.Reader) *Lines {
	return &Lines{in: bufio.NewReaderSize(r, buffer)}
}

// Next goes to the next line. It is false at the end of the text and after an
// error, which Err then tells.
func (l *Lines) Next() bool {
	l.line, l.raw = l.line[:0], l.raw[:0]
	if l.err != nil {
		return false
	}
	l.at = l.number + 1
	if l.err = l.physical(); l.err != nil {
		return false
	}
	if l.at == 1 {
		l.line = bytes.TrimPrefix(l.line, []byte("\xef\xbb\xbf")) // the mark that some editors put there
	}
	if len(l.line) == 0 {
		return true // an empty line is never continued: it ends a record
	}
	// RFC 2849 note 2: a line that begins with a space continues the one before.
	for folds := 0; ; folds++ {
		next, err := l.in.Peek(1)
		if err != nil && !errors.Is(err, io.EOF) {
			l.err = err // whether the line goes on, nobody knows
			return false
		}
		if err != nil || next[0] != ' ' {
			return true
		}
		if folds == maxFolds {
			l.err = fmt.Errorf("%w: a line folded into more than %d", ErrTooLong, maxFolds)
			return false
		}
		if l.err = l.continuation(); l.err != nil {
			return false
		}
	}
}

// physical appends one line of the text to the present one.
func (l *Lines) physical() error {
	start := len(l.raw)
	l.number++
	for {
		part, err := l.in.ReadSlice('\n')
		l.raw = append(l.raw, part...)
		if len(l.raw)-start > MaxLine {
			return fmt.Errorf("%w: a line of more than %d octets", ErrTooLong, MaxLine)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(l.raw) > start, err == nil:
			text := bytes.TrimSuffix(l.raw[start:], []byte("\n"))
			l.line = append(l.line, bytes.TrimSuffix(text, []byte("\r"))...)
			return nil
		}
		l.number--
		return err
	}
}

// continuation is physical for a line that begins with a space, which is no
// part of the value.
func (l *Lines) continuation() error {
	before := len(l.line)
	if err := l.physical(); err != nil {
		return err
	}
	l.line = append(l.line[:before], l.line[before+1:]...)
	if len(l.line) > MaxLine {
		return fmt.Errorf("%w: a line of more than %d octets", ErrTooLong, MaxLine)
	}
	return nil
}

// Err is why Next was false; nil at the end of the text.
func (l *Lines) Err() error {
	if errors.Is(l.err, io.EOF) {
		return nil
	}
	return l.err
}

// At is the number of the line on which the present one begins, and after an
// error the number of the line that it is about.
func (l *Lines) At() int { return l.at }

// Line is the present line without its end and its folds. It is good until the
// next call of Next.
func (l *Lines) Line() []byte { return l.line }

// Raw is the present line as it stands in the text, folds and ends included. It
// is good until the next call of Next.
func (l *Lines) Raw() []byte { return l.raw }

// Folds is on how many lines of the text the present one stands.
func (l *Lines) Folds() int { return l.number - l.at + 1 }

// IsComment tells whether the present line is a comment (RFC 2849 note 3).
func (l *Lines) IsComment() bool { return len(l.line) > 0 && l.line[0] == '#' }

// Form is how a value stands in a line.
type Form uint8

// The forms of RFC 2849 value-spec.
const (
	Plain  Form = iota // name: text
	Base64             // name:: Base64
	URL                // name:< URL
)

// Value is an attribute description and a value as they stand in a line: it
// points into the line.
type Value struct {
	Name []byte
	Form Form
	Text []byte // without the spaces before it
}

// Parse reads attrval-spec, dn-spec and the like.
func Parse(line []byte) (Value, error) {
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 {
		return Value{}, fmt.Errorf("no attribute name before ':' in %.40q", line)
	}
	v := Value{Name: line[:colon], Text: line[colon+1:]}
	if i := bytes.IndexFunc(v.Name, func(r rune) bool { return r <= ' ' || r > '~' }); i >= 0 {
		return Value{}, fmt.Errorf("%.40q is no attribute name", v.Name)
	}
	if len(v.Text) > 0 {
		switch v.Text[0] {
		case ':':
			v.Form, v.Text = Base64, v.Text[1:]
		case '<':
			v.Form, v.Text = URL, v.Text[1:]
		}
	}
	v.Text = bytes.TrimLeft(v.Text, " ") // RFC 2849: FILL
	return v, nil
}

// Base is the attribute's name without options (RFC 4512 §2.5).
func (v Value) Base() []byte {
	base, _, _ := bytes.Cut(v.Name, []byte(";"))
	return base
}

// ErrURL is wrapped by the error about a value that is not in the text.
var ErrURL = errors.New("the value is not here")

// AppendTo appends the value itself. For one that is named by a URL the error
// wraps ErrURL: nothing is fetched.
func (v Value) AppendTo(dst []byte) ([]byte, error) {
	switch v.Form {
	case URL:
		return dst, fmt.Errorf("%s:< %.80s: %w", v.Name, v.Text, ErrURL)
	case Base64:
		out, err := base64.StdEncoding.AppendDecode(dst, bytes.TrimRight(v.Text, " "))
		if err != nil {
			return dst, fmt.Errorf("%s:: is not Base64: %w", v.Name, err)
		}
		return out, nil
	}
	return append(dst, v.Text...), nil
}
