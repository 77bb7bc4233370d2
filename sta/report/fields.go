package report

import (
	"bytes"
	"fmt"
	"strings"

	"directnode/internal/mail"
)

// readGroups reads the body of a machine-readable part: groups of fields with
// empty lines between (RFC 3464 §2.1). mail.Split would stop at the first odd
// line; here a line that is no field goes on with the one before it, as some
// composers break a Disposition after its semicolon without white space, or
// with an empty line.
func (n *Notification) readGroups(b []byte) ([]mail.Header, error) {
	if len(b) > maxMachine {
		return nil, fmt.Errorf("%w: machine-readable part of %d octets, at most %d", ErrMalformed, len(b), maxMachine)
	}
	var groups []mail.Header
	var last *mail.Field
	fields, ended := 0, true
	for line := range bytes.SplitSeq(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), []byte("\n")) {
		text := clean(line)
		if strings.TrimSpace(text) == "" {
			ended = true
			continue
		}
		name, ok := fieldName(text)
		switch {
		case !ok && last == nil:
			n.odd("text before the first field")
		case !ok && ended && !strings.HasSuffix(strings.TrimSpace(string(last.Raw)), ";"):
			n.odd("text after the fields")
		case !ok:
			if text[0] != ' ' && text[0] != '\t' {
				n.odd("a line that is no field")
				text = " " + text
			}
			last.Raw = append(last.Raw, text...)
		default:
			if fields++; fields > maxFields {
				return nil, fmt.Errorf("%w: more than %d fields", ErrMalformed, maxFields)
			}
			if ended {
				groups = append(groups, nil)
			}
			g := &groups[len(groups)-1]
			*g = append(*g, mail.Field{Name: name, Raw: []byte(text)})
			last = &(*g)[len(*g)-1]
			ended = false
		}
	}
	return groups, nil
}

// clean drops the controls that have no place in a field.
func clean(line []byte) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f {
			return -1
		}
		return r
	}, string(line))
}

// fieldName gives the name if the line begins a field. White space may stand
// before the colon (RFC 5322 §4.5) but not before the name.
func fieldName(line string) (string, bool) {
	name, _, ok := strings.Cut(line, ":")
	name = strings.TrimRight(name, " \t")
	if !ok || name == "" || strings.ContainsAny(name, " \t;<>@\"()") {
		return "", false
	}
	return name, true
}
