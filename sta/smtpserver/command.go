package smtpserver

import (
	"bytes"
	"errors"
	"strconv"
	"strings"

	"directnode/internal/direct"
)

// command is a command line taken apart: RFC 5321 §2.4, verb and argument.
type command struct {
	verb string // upper case
	arg  string
}

// parseCommand splits a line without its CR LF.
func parseCommand(line string) command {
	verb, arg, _ := strings.Cut(line, " ")
	return command{strings.ToUpper(verb), strings.Trim(arg, " \t")}
}

// clean says whether a command line, CR LF included, is free of control
// characters other than its line end. HT passes: RFC 5321 §4.1.1.1 counts it
// as white space.
func clean(line []byte) bool {
	text, ok := bytes.CutSuffix(line, []byte("\r\n"))
	return ok && bytes.IndexFunc(text, func(r rune) bool { return (r < ' ' && r != '\t') || r == 0x7f }) < 0
}

// validHelo says whether name can stand in a trace field as it is. It is laxer
// than RFC 5321 §4.1.2 (underscores, no dot needed), because clients are; it
// keeps out whatever could break the syntax of the field.
func validHelo(name string) bool {
	if name == "" || len(name) > maxHelo {
		return false
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("-._:[]", c) >= 0:
		default:
			return false
		}
	}
	return true
}

var errPath = errors.New("not a path in angle brackets")

// parsePath reads the argument of MAIL or RCPT, "FROM:<path> parameters", where
// prefix is "FROM:" or "TO:". It returns the addr-spec inside the brackets as it
// stands, quotes included, and the parameters. White space after the colon is
// taken although RFC 5321 §3.3 has none: much software sends it.
func parsePath(arg, prefix string) (spec, params string, err error) {
	if len(arg) < len(prefix) || !strings.EqualFold(arg[:len(prefix)], prefix) {
		return "", "", errPath
	}
	rest, ok := strings.CutPrefix(strings.TrimLeft(arg[len(prefix):], " \t"), "<")
	if !ok {
		return "", "", errPath
	}
	end := closingBracket(rest)
	if end < 0 {
		return "", "", errPath
	}
	spec, params = rest[:end], rest[end+1:]
	if params != "" && params[0] != ' ' && params[0] != '\t' {
		return "", "", errPath
	}
	// RFC 5321 §4.1.1.3 and appendix C: a source route is accepted and ignored.
	if strings.HasPrefix(spec, "@") {
		_, after, found := strings.Cut(spec, ":")
		if !found {
			return "", "", errPath
		}
		spec = after
	}
	return spec, strings.TrimSpace(params), nil
}

// closingBracket finds the ">" outside a quoted string.
func closingBracket(s string) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quoted:
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == '>' && !quoted:
			return i
		}
	}
	return -1
}

// parseRecipient reads a forward path. RFC 5321 §4.1.1.3 and §4.5.1: postmaster
// without a domain is a recipient, in any case of letters.
func parseRecipient(spec, hostname string) (direct.Address, error) {
	if strings.EqualFold(spec, "postmaster") {
		spec = "postmaster@" + hostname
	}
	return direct.ParseAddress(spec)
}

// parseChunk reads the argument of BDAT, "size" or "size LAST" (RFC 3030 §2).
func parseChunk(arg string) (size int64, last, ok bool) {
	f := strings.Fields(arg)
	if len(f) == 2 && strings.EqualFold(f[1], "LAST") {
		last, f = true, f[:1]
	}
	if len(f) != 1 {
		return 0, false, false
	}
	n, err := strconv.ParseUint(f[0], 10, 62)
	return int64(n), last, err == nil
}
