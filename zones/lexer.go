package zones

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// entry is one entry of zone text (RFC 1035 §5.1): a line, or several where
// parentheses hold them together.
type entry struct {
	tokens []string // as written, quotes and escapes kept
	inside bool     // the line begins with blanks: the owner is that of the entry before
	line   int      // where it begins
}

// text is the entry for an error message.
func (e entry) text() string {
	const enough = 100
	var b strings.Builder
	for _, t := range e.tokens {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		if room := enough - b.Len(); len(t) > room {
			b.WriteString(strings.ToValidUTF8(t[:max(room, 0)], "?") + "…")
			break
		}
		b.WriteString(t)
	}
	return b.String()
}

// lexer splits zone text into entries.
type lexer struct {
	r     *bufio.Reader
	line  int // of the next octet
	depth int // open parentheses
	size  int // octets of the entry so far
	entry entry
	token []byte
	open  bool // a token has begun
}

func newLexer(r io.Reader) *lexer {
	return &lexer{r: bufio.NewReaderSize(r, 64<<10), line: 1}
}

var errEntryTooLong = fmt.Errorf("an entry of more than %d octets", maxEntryOctets)

// next gives the next entry that is not blank, or io.EOF. After any other
// error, entry is what had been read of the entry at fault.
func (l *lexer) next() (entry, error) {
	for {
		l.entry, l.size = entry{line: l.line}, 0
		done, err := l.readEntry()
		if err != nil {
			l.endToken()
			return l.entry, err
		}
		if len(l.entry.tokens) > 0 {
			return l.entry, nil
		}
		if done {
			return l.entry, io.EOF
		}
	}
}

// readEntry reads up to the line break that ends an entry; done at the end of
// the text.
func (l *lexer) readEntry() (done bool, err error) {
	first := true
	for {
		c, err := l.read()
		if errors.Is(err, io.EOF) {
			l.endToken()
			if l.depth > 0 {
				return true, errors.New("a parenthesis is not closed")
			}
			return true, nil
		}
		if err != nil {
			return true, err
		}
		if first {
			l.entry.inside = c == ' ' || c == '\t'
			first = false
		}
		end, err := l.octet(c)
		if end || err != nil {
			return false, err
		}
	}
}

// octet takes one octet outside quotes; end at the end of the entry.
func (l *lexer) octet(c byte) (end bool, err error) {
	switch c {
	case ' ', '\t', '\r':
		l.endToken()
	case '\n':
		l.endToken()
		return l.depth == 0, nil
	case ';':
		l.endToken()
		return false, l.skipComment()
	case '(':
		l.endToken()
		l.depth++
	case ')':
		l.endToken()
		if l.depth--; l.depth < 0 {
			l.depth = 0
			return false, errors.New("a parenthesis is closed that was not opened")
		}
	case '"':
		return false, l.quoted()
	case '\\':
		return false, l.escaped(c)
	default:
		if c < ' ' || c == 0x7f {
			return false, fmt.Errorf("control character %q", c)
		}
		l.put(c)
	}
	return false, nil
}

func (l *lexer) put(c byte) { l.token, l.open = append(l.token, c), true }

func (l *lexer) endToken() {
	if l.open {
		l.entry.tokens = append(l.entry.tokens, string(l.token))
		l.token, l.open = l.token[:0], false
	}
}

// skipComment stops before the line break, which may end the entry.
func (l *lexer) skipComment() error {
	for {
		b, err := l.r.Peek(1)
		if errors.Is(err, io.EOF) || err == nil && b[0] == '\n' {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := l.read(); err != nil {
			return err
		}
		l.size-- // comments do not count: nothing of them is kept
	}
}

// quoted takes a quoted string with its quotes, after the first one. It is a
// token of its own even where no blank stands beside it, but for the value of a
// parameter (RFC 9460 App. A: key="value"), which belongs to its key.
func (l *lexer) quoted() error {
	if n := len(l.token); n == 0 || l.token[n-1] != '=' || len(l.entry.tokens) == 0 {
		l.endToken()
	}
	l.put('"')
	for {
		c, err := l.read()
		if errors.Is(err, io.EOF) || err == nil && c == '\n' {
			return errors.New("a quoted string is not closed on its line")
		}
		if err != nil {
			return err
		}
		switch {
		case c == '"':
			l.put(c)
			l.endToken()
			return nil
		case c == '\\':
			if err := l.escaped(c); err != nil {
				return err
			}
		case c < ' ' && c != '\t' || c == 0x7f:
			return fmt.Errorf("control character %q in a quoted string", c)
		default:
			l.put(c)
		}
	}
}

// escaped keeps a backslash with the octet that it protects.
func (l *lexer) escaped(backslash byte) error {
	c, err := l.read()
	if errors.Is(err, io.EOF) || err == nil && (c < ' ' || c == 0x7f) {
		return errors.New("a backslash that protects nothing")
	}
	if err != nil {
		return err
	}
	l.put(backslash)
	l.put(c)
	return nil
}

func (l *lexer) read() (byte, error) {
	c, err := l.r.ReadByte()
	if err != nil {
		return 0, err
	}
	if c == '\n' {
		l.line++
	}
	if l.size++; l.size > maxEntryOctets {
		return 0, errEntryTooLong
	}
	return c, nil
}

// tokenize splits the RDATA of one record as a zone file would.
func tokenize(text string) ([]string, error) {
	if strings.ContainsAny(text, "\n\r") {
		return nil, errors.New("a line break in the data")
	}
	l := newLexer(strings.NewReader(text))
	e, err := l.next()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return e.tokens, nil
}
