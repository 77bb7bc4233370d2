package dit

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"directnode/internal/direct"
	"directnode/store"
)

// Limits of ParseLDIF: a file comes from another publisher.
const (
	// maxLDIFLine bounds one unfolded line. The largest value is a
	// certificate; 64 KiB of DER, the limit of the importer, are 88 KiB of
	// Base64.
	maxLDIFLine = 256 << 10
	// maxLDIFEntry bounds one entry: as many certificates as an owner may have.
	maxLDIFEntry = 1 << 20
	// maxLDIFEntries bounds the file: twice the largest directory that the
	// node is measured with.
	maxLDIFEntries = 2_000_000
	// maxLDIFProblems ends the reading of what is evidently something else.
	maxLDIFProblems = 1000
)

// LDIFEntry is what one value of `mail` says in an LDIF file: the owner and
// its certificates.
type LDIFEntry struct {
	Mail  string
	Certs [][]byte // DER as it stood there, not parsed
	Line  int      // where the entry begins
}

// LDIFProblem is an entry that could not be read.
type LDIFProblem struct {
	File string
	Line int
	Text string
}

// Error is file:line: what is wrong.
func (p LDIFProblem) Error() string { return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text) }

// LDIFProblems is the error of ParseLDIF when some entries are unreadable and
// the rest is not. The caller decides whether the rest is of use.
type LDIFProblems []LDIFProblem

// Error gives the first problem and how many there are.
func (p LDIFProblems) Error() string {
	if len(p) == 1 {
		return p[0].Error()
	}
	return fmt.Sprintf("%s (and %d more)", p[0].Error(), len(p)-1)
}

// errLDIF is wrapped by problems that end the reading.
var errLDIF = errors.New("ldif")

// ParseLDIF reads the content records of an LDIF file (RFC 2849) and gives an
// LDIFEntry for every value of mail that stands beside userCertificate values,
// with or without the binary option. Entries without certificates are skipped.
//
// Malformed entries give an error of type LDIFProblems together with all
// readable entries. Errors of the reader and exceeded limits end the reading:
// another error, with the entries up to there.
func ParseLDIF(r io.Reader, file string) ([]LDIFEntry, error) {
	p := ldifParser{file: file, lines: ldifLines{in: bufio.NewReaderSize(r, 64<<10)}}
	for {
		line, at, err := p.lines.next()
		if err != nil && !errors.Is(err, io.EOF) {
			p.end()
			if errors.Is(err, errLDIF) {
				return p.entries, LDIFProblem{file, at, strings.TrimPrefix(err.Error(), "ldif: ")}
			}
			return p.entries, fmt.Errorf("%s:%d: %w", file, at, err)
		}
		if err != nil || len(line) == 0 {
			p.end()
		} else {
			p.line(line, at)
		}
		if err != nil {
			break
		}
		if len(p.problems) >= maxLDIFProblems || len(p.entries) >= maxLDIFEntries {
			return p.entries, LDIFProblem{file, at, fmt.Sprintf("stopped after %d entries and %d malformed ones", len(p.entries), len(p.problems))}
		}
	}
	if len(p.problems) > 0 {
		return p.entries, p.problems
	}
	return p.entries, nil
}

type ldifParser struct {
	file     string
	lines    ldifLines
	entries  []LDIFEntry
	problems LDIFProblems

	begun bool // something but the version has been read
	open  bool // inside of an entry
	bad   bool // the entry has a problem already
	start int
	size  int
	mails []string
	certs [][]byte
}

func (p *ldifParser) problem(line int, format string, args ...any) {
	if !p.bad {
		p.problems = append(p.problems, LDIFProblem{p.file, line, fmt.Sprintf(format, args...)})
	}
	p.bad = true
}

// line takes one unfolded line that is neither empty nor a comment.
func (p *ldifParser) line(line []byte, at int) {
	if p.bad {
		return
	}
	name, value, err := splitLDIF(line)
	if err != nil {
		p.open, p.start = true, at
		p.problem(at, "%s", err)
		return
	}
	if !p.open && strings.EqualFold(name, "version") && !p.begun {
		p.begun = true
		if string(value) != "1" {
			p.problem(at, "version %.20q: only version 1 is known", value) // RFC 2849: version-number
			p.open = true
		}
		return
	}
	p.begun = true
	if !p.open {
		p.open, p.start = true, at
		if !strings.EqualFold(name, "dn") {
			p.problem(at, "an entry must begin with dn:, not with %.40q", name)
			return
		}
		if _, err := canonical(value); err != nil {
			p.problem(at, "dn %.60q: %s", value, err)
		}
		return
	}
	p.attribute(name, value, at)
}

func (p *ldifParser) attribute(name string, value []byte, at int) {
	if p.size += len(value); p.size > maxLDIFEntry {
		p.problem(at, "an entry of more than %d octets", maxLDIFEntry)
		return
	}
	switch {
	case strings.EqualFold(name, "changetype"):
		p.problem(at, "a change record: only content records can be imported")
		return
	case strings.EqualFold(name, "dn"):
		p.problem(at, "a second dn: in one entry, is the empty line missing?")
		return
	}
	d, ok := Describe([]byte(name))
	switch {
	case !ok:
	case d.Attrs == bit(Mail):
		mail := strings.TrimSpace(string(value))
		if mail == "" {
			p.problem(at, "an empty mail value")
			return
		}
		p.mails = append(p.mails, mail)
	case d.Attrs == bit(UserCertificate):
		if len(value) == 0 {
			p.problem(at, "an empty certificate")
			return
		}
		p.certs = append(p.certs, bytes.Clone(value))
	}
}

// end closes the entry that is open.
func (p *ldifParser) end() {
	if p.open && !p.bad && len(p.certs) > 0 {
		if len(p.mails) == 0 {
			p.problem(p.start, "userCertificate without mail: whose certificate is it?")
		} else {
			for _, mail := range p.mails {
				p.entries = append(p.entries, LDIFEntry{mail, p.certs, p.start})
			}
		}
	}
	p.open, p.bad, p.size, p.mails, p.certs = false, false, 0, nil, nil
}

// splitLDIF reads attrval-spec (RFC 2849): "name: text", "name:: Base64" or
// "name:< URL", the last of which is refused: an import must not make the node
// fetch what a file names.
func splitLDIF(line []byte) (name string, value []byte, err error) {
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 {
		return "", nil, fmt.Errorf("no attribute name before ':' in %.40q", line)
	}
	name, value = string(line[:colon]), line[colon+1:]
	switch {
	case bytes.HasPrefix(value, []byte("<")):
		return "", nil, fmt.Errorf("%s:< names a URL: values are not fetched, put the value itself there in Base64", name)
	case bytes.HasPrefix(value, []byte(":")):
		text := bytes.TrimSpace(value[1:])
		decoded := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
		n, err := base64.StdEncoding.Decode(decoded, text)
		if err != nil {
			return "", nil, fmt.Errorf("%s:: is not Base64: %w", name, err)
		}
		return name, decoded[:n], nil
	}
	return name, bytes.TrimLeft(value, " "), nil // RFC 2849: FILL
}

// ldifLines reads lines and unfolds them (RFC 2849 note 2): a line that begins
// with a space continues the one before. Comments, folded ones too, are left
// out.
type ldifLines struct {
	in     *bufio.Reader
	number int // of the physical line read last
}

// next gives the next logical line, empty for an empty line, and where it
// began. io.EOF comes without a line.
func (l *ldifLines) next() ([]byte, int, error) {
	for {
		line, err := l.physical()
		if err != nil {
			return nil, l.number, err
		}
		at := l.number
		for {
			peek, err := l.in.Peek(1)
			if err != nil || peek[0] != ' ' || len(line) == 0 {
				break
			}
			more, err := l.physical()
			if err != nil {
				return nil, l.number, err
			}
			if line = append(line, more[1:]...); len(line) > maxLDIFLine {
				return nil, at, fmt.Errorf("%w: a line of more than %d octets", errLDIF, maxLDIFLine)
			}
		}
		if len(line) > 0 && line[0] == '#' {
			continue
		}
		if at == 1 {
			line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf")) // the mark that some editors put there
		}
		return line, at, nil
	}
}

// physical reads one line without its end, LF or CRLF. The result may be kept.
func (l *ldifLines) physical() ([]byte, error) {
	var line []byte
	for {
		part, err := l.in.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxLDIFLine {
			l.number++
			return nil, fmt.Errorf("%w: a line of more than %d octets", errLDIF, maxLDIFLine)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(line) > 0, err == nil:
			l.number++
			line = bytes.TrimSuffix(line, []byte("\n"))
			return bytes.TrimSuffix(line, []byte("\r")), nil
		}
		return nil, err
	}
}

// WriteLDIF writes what LDAP publishes of a domain as LDIF (RFC 2849): the
// context entry and the owners' entries. ParseLDIF reads it back.
func WriteLDIF(w io.Writer, v View, d direct.Domain) error {
	data := v.Domain(d)
	if data == nil {
		return fmt.Errorf("ldif of %s: the node has no such domain", d)
	}
	t, err := Build(oneDomain{data}, Options{})
	if err != nil {
		return fmt.Errorf("ldif of %s: %w", d, err)
	}
	out := bufio.NewWriterSize(w, 64<<10)
	out.WriteString("version: 1\n")
	for _, c := range t.contexts {
		c.suffix.entry.writeLDIF(out)
		c.eachSorted(func(e *Entry) bool {
			e.writeLDIF(out)
			return true
		})
	}
	if err := out.Flush(); err != nil { // bufio keeps the first error of all writes
		return fmt.Errorf("ldif of %s: %w", d, err)
	}
	return nil
}

// oneDomain is the view of one domain by itself.
type oneDomain struct{ data *store.DomainData }

func (v oneDomain) Domains() []direct.Domain               { return []direct.Domain{v.data.Domain} }
func (v oneDomain) Domain(direct.Domain) *store.DomainData { return v.data }

func (e *Entry) writeLDIF(w *bufio.Writer) {
	w.WriteByte('\n')
	writeLDIFValue(w, "dn", []byte(e.DN()), false)
	for _, s := range e.spans {
		values := e.values(s.attr)
		for v, ok := values.next(); ok; v, ok = values.next() {
			writeLDIFValue(w, s.attr.Name(), v, false)
		}
	}
	for _, der := range e.certs {
		writeLDIFValue(w, "userCertificate;binary", der, true)
	}
}

// writeLDIFValue writes one attrval-spec, folded at 76 columns; binary values,
// and those that are no SAFE-STRING or end in a space, go out in Base64
// (RFC 2849 notes 4 and 8).
func writeLDIFValue(w *bufio.Writer, name string, value []byte, binary bool) {
	line := name + ": " + string(value)
	if binary || !isSafeString(value) {
		line = name + ":: " + base64.StdEncoding.EncodeToString(value)
	}
	const width = 76
	for first := true; first || line != ""; first = false {
		n := min(width, len(line))
		if !first {
			n = min(width-1, len(line))
			w.WriteByte(' ')
		}
		w.WriteString(line[:n])
		w.WriteByte('\n')
		line = line[n:]
	}
}

func isSafeString(v []byte) bool {
	for i, c := range v {
		if c == 0 || c == '\n' || c == '\r' || c >= 0x80 || i == 0 && strings.IndexByte(" :<", c) >= 0 {
			return false
		}
	}
	return len(v) == 0 || v[len(v)-1] != ' '
}
