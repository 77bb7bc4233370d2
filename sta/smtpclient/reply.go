package smtpclient

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"directnode/internal/mail"
)

var (
	errReplyLine   = errors.New("not an SMTP reply")
	errReplyLength = errors.New("reply too long")
)

// reply is what a server said, line by line.
type reply struct {
	code  int
	lines []string // texts without code and separator
}

// readReply reads a reply of one or more lines (RFC 5321 §4.2.1). The errors
// are errReplyLine, errReplyLength or those of the reader.
func readReply(r *bufio.Reader) (reply, error) {
	var all reply
	for {
		line, err := readLine(r)
		if err != nil {
			return reply{}, err
		}
		code, text, more, err := parseLine(line)
		switch {
		case err != nil:
			return reply{}, err
		case len(all.lines) > 0 && code != all.code:
			// RFC 5321 §4.2.1: every line of a reply carries the same code.
			return reply{}, fmt.Errorf("%w: codes %d and %d in one", errReplyLine, all.code, code)
		case len(all.lines) == maxReplyLines:
			return reply{}, errReplyLength
		}
		all.code = code
		all.lines = append(all.lines, text)
		if !more {
			return all, nil
		}
	}
}

// readLine reads one line. A missing CR is forgiven: some servers forget it in
// a reply, and no reply is ever taken for two.
func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull), len(line) > maxReplyLine:
		return "", errReplyLength
	case errors.Is(err, io.EOF):
		return "", io.ErrUnexpectedEOF
	case err != nil:
		return "", err
	}
	return strings.TrimSuffix(string(line[:len(line)-1]), "\r"), nil
}

// parseLine takes a reply line apart.
func parseLine(line string) (code int, text string, more bool, err error) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || !digit(line[1]) || !digit(line[2]) {
		return 0, "", false, errReplyLine
	}
	code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	if len(line) == 3 { // RFC 5321 §4.2: the text may be missing, and the space with it
		return code, "", false, nil
	}
	if line[3] != ' ' && line[3] != '-' {
		return 0, "", false, errReplyLine
	}
	return code, line[4:], line[3] == '-', nil
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// mail turns a reply into the form that travels on: its lines in one, its
// enhanced status code (RFC 3463) apart.
func (r reply) mail() *mail.Reply {
	out := &mail.Reply{Code: r.code}
	texts := make([]string, 0, len(r.lines))
	for _, l := range r.lines {
		if code, text, ok := cutEnhanced(l); ok && code[0] == r.code/100 {
			out.Enhanced = code
			l = text
		}
		if l = printable(l); l != "" {
			texts = append(texts, l)
		}
	}
	out.Text = strings.Join(texts, " ")
	out.Text = out.Text[:min(len(out.Text), maxText)]
	return out
}

// cutEnhanced finds a status code such as "5.1.1" before a text (RFC 2034 §4).
func cutEnhanced(s string) (code [3]int, text string, ok bool) {
	word, text, _ := strings.Cut(s, " ")
	part := strings.Split(word, ".")
	if len(part) != 3 {
		return code, "", false
	}
	for i, p := range part {
		if p == "" || len(p) > 3 {
			return code, "", false
		}
		for j := range len(p) {
			if !digit(p[j]) {
				return code, "", false
			}
			code[i] = code[i]*10 + int(p[j]-'0')
		}
	}
	return code, text, true
}

// printable makes a server's text fit for logs and reports.
func printable(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s))
}
