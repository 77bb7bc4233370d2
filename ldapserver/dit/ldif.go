package dit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"directnode/internal/direct"
	"directnode/internal/ldif"
	"directnode/store"
)

// Limits of ScanLDIF: a file comes from another publisher.
const (
	// maxLDIFEntry bounds what is kept of one entry: some times the
	// certificates that an owner may have.
	maxLDIFEntry = 1 << 20
	// maxLDIFValues bounds the values of one entry that are kept: a person has a
	// few addresses, and an owner 20 certificates.
	maxLDIFValues = 1000
	// maxLDIFProblems ends the reading of what is evidently something else.
	maxLDIFProblems = 1000
)

// LDIFValue is a value and the line on which it begins.
type LDIFValue struct {
	Line int
	Data []byte
}

// LDIFEntry is an entry of an LDIF file that has a certificate, or something of
// which the importer must speak.
type LDIFEntry struct {
	Line  int         // where it begins
	Mails []LDIFValue // of mail, in order, spaces around them removed
	Certs []LDIFValue // of userCertificate, with or without the binary option: DER as it stood there, not parsed
	Notes []LDIFNote  // what is left out although it looks like a certificate
	Fault *LDIFNote   // set: the entry is malformed, and none of it is to be taken
}

// LDIFNote is a sentence about a line.
type LDIFNote struct {
	Line int
	Text string
}

// LDIFSummary counts the entries of a file.
type LDIFSummary struct {
	Entries int // all that have a name
	Without int // those without a certificate
	Deleted int // of them, what a server keeps of entries that were deleted
	// Partial is why the file is not all that was asked for: what ldapsearch says
	// at its end. Empty: nobody said so.
	Partial string
}

// LDIFError is a fault that ends the reading of a file.
type LDIFError struct {
	File string
	Line int
	Err  error
}

// Error is file:line: what is wrong.
func (e *LDIFError) Error() string { return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err) }

// Unwrap gives the reason.
func (e *LDIFError) Unwrap() error { return e.Err }

// ScanLDIF reads an LDIF file (RFC 2849) and gives every entry with a
// certificate to take, in the order of the file. It keeps one entry in memory.
// Content records are read, and change records that add; other change records
// are faults. What ldapsearch writes beside entries is passed over, and so are
// entries that 389 Directory Server keeps as deleted, or values of them.
//
// An entry with a fault goes to take with Fault set, and the reading goes on
// behind it. Errors of take and of the reader end the reading, and so does a
// line or a number of faults that crosses a limit: then the error is an
// *LDIFError around them.
func ScanLDIF(r io.Reader, file string, take func(LDIFEntry) error) (LDIFSummary, error) {
	s := &ldifScanner{lines: ldif.NewLines(r), take: take}
	var err error
	for err == nil && s.lines.Next() {
		switch {
		case s.lines.IsComment():
		case len(s.lines.Line()) == 0:
			err = s.end()
		default:
			s.line(s.lines.Line())
		}
	}
	if err == nil {
		err = s.lines.Err()
	}
	if err == nil {
		err = s.end()
	}
	if err != nil {
		return s.sum, &LDIFError{file, s.lines.At(), err}
	}
	return s.sum, nil
}

// recordKind is what a record of the file turned out to be.
type recordKind uint8

const (
	recordNone   recordKind = iota // between records
	recordEntry                    // content, or a change that adds it
	recordOther                    // nothing of ours: to be passed over
	recordResult                   // what ldapsearch says at its end
)

// ldifScanner is the state that one line hands to the next.
type ldifScanner struct {
	lines    *ldif.Lines
	take     func(LDIFEntry) error
	sum      LDIFSummary
	problems int

	kind    recordKind
	entry   LDIFEntry
	size    int
	begun   bool // a record has begun in this file
	content bool // an attribute of the entry has been read
	skip    bool // the entry is one that was deleted
	smime   int  // the line of its first userSMIMECertificate
	scratch []byte
}

// fault notes the first fault of an entry.
func (s *ldifScanner) fault(format string, args ...any) {
	if s.entry.Fault == nil {
		s.entry.Fault = &LDIFNote{s.lines.At(), fmt.Sprintf(format, args...)}
	}
}

func (s *ldifScanner) note(format string, args ...any) {
	if len(s.entry.Notes) < maxLDIFValues {
		s.entry.Notes = append(s.entry.Notes, LDIFNote{s.lines.At(), fmt.Sprintf(format, args...)})
	}
}

// line takes one line that is neither empty nor a comment.
func (s *ldifScanner) line(line []byte) {
	if s.kind == recordOther || s.entry.Fault != nil {
		return
	}
	v, err := ldif.Parse(line)
	switch {
	case s.kind == recordNone:
		s.begin(v, err)
	case err != nil:
		s.fault("%s", err)
	case s.kind == recordResult:
		s.result(v)
	default:
		s.attribute(v)
	}
}

// begin takes the first line of a record.
func (s *ldifScanner) begin(v ldif.Value, err error) {
	first := !s.begun
	name := string(fold(nil, v.Name))
	if err == nil && name == "version" && first {
		s.begun = true
		if string(v.Text) != "1" || v.Form != ldif.Plain { // RFC 2849: version-number
			s.open()
			s.fault("version %.20q: only version 1 is known", v.Text)
		}
		return
	}
	s.begun = true
	switch {
	case err != nil:
		s.open()
		s.fault("%s", err)
	case name == "dn":
		s.open()
		s.sum.Entries++
		s.dn(v)
	case name == "search": // ldapsearch without -L: what came of it
		s.kind = recordResult
	case name == "ref": // ldapsearch without -L: a reference to another server
		s.kind = recordOther
	default:
		s.open()
		s.fault("an entry must begin with dn:, not with %.40q", v.Name)
	}
}

func (s *ldifScanner) open() {
	s.kind = recordEntry
	s.entry.Line = s.lines.At()
}

// dn holds the name against RFC 4514. It says nothing of the owner: that is
// what mail is for.
func (s *ldifScanner) dn(v ldif.Value) {
	dn, err := v.AppendTo(s.scratch[:0])
	if err != nil {
		s.fault("%s", err)
		return
	}
	s.scratch = dn
	if _, err := canonical(dn); err != nil {
		s.fault("dn %.60q: %s", dn, err)
	}
}

// result reads what ldapsearch says of a search: "0 Success", or that what it
// wrote is not all.
func (s *ldifScanner) result(v ldif.Value) {
	if text := string(v.Text); strings.EqualFold(string(v.Name), "result") && text != "0" && !strings.HasPrefix(text, "0 ") {
		s.sum.Partial = fmt.Sprintf("line %d: the search that wrote this file ended with result %.60s", s.lines.At(), text)
	}
}

// attribute takes a line of an entry behind its first.
func (s *ldifScanner) attribute(v ldif.Value) {
	name := string(fold(s.scratch[:0], v.Name))
	switch {
	case name == "dn":
		s.fault("a second dn: in one entry, is the empty line missing?")
		return
	case name == "changetype":
		s.changetype(v)
		return
	case name == "control" && !s.content:
		// RFC 2849: control-spec. What is critical must be obeyed, and here is no
		// server that could.
		if fields := strings.Fields(string(v.Text)); len(fields) > 1 && strings.HasPrefix(fields[1], "true") {
			s.fault("a change with the critical control %.60s: only entries can be imported", fields[0])
		}
		return
	}
	s.content = true
	if v.Form == ldif.URL && !LDIFWants(v.Name) {
		return // such as a picture: nobody misses it
	}
	value, err := v.AppendTo(s.scratch[:0])
	switch {
	case errors.Is(err, ldif.ErrURL):
		s.fault("%s: only directctl puts files in their place, those inside of the folder of the LDIF file; put the value itself there in Base64", err)
		return
	case err != nil:
		s.fault("%s", err)
		return
	}
	s.scratch = value
	s.value(v, value)
}

// changetype takes the changes that say the same as a content record.
func (s *ldifScanner) changetype(v ldif.Value) {
	switch {
	case s.content:
		s.fault("changetype: behind attributes")
	case !strings.EqualFold(string(bytes.TrimSpace(v.Text)), "add") || v.Form != ldif.Plain:
		s.fault("changetype %.20s: only entries can be imported, and changes that add them", v.Text)
	}
}

// The attributes that the directory does not know and the importer speaks of,
// in lower case.
const (
	smimeCertificate  = "usersmimecertificate"
	smimeOID          = "2.16.840.1.113730.3.1.40" // RFC 2798 §2.8
	objectClassDelete = "nstombstone"              // of 389 Directory Server
)

// value takes a value that is there.
func (s *ldifScanner) value(v ldif.Value, value []byte) {
	base, options := v.Base(), v.Name[len(v.Base()):]
	d, known := Describe(base)
	switch {
	case !known:
		if name := string(fold(nil, base)); s.smime == 0 && (name == smimeCertificate || name == smimeOID) {
			s.smime = s.lines.At()
		}
		return
	case d.Attrs == bit(ObjectClass):
		s.skip = s.skip || strings.EqualFold(string(value), objectClassDelete)
		return
	case d.Attrs != bit(Mail) && d.Attrs != bit(UserCertificate):
		return
	}
	deleted, foreign := replicaOptions(options)
	switch {
	case deleted:
	case d.Attrs == bit(UserCertificate) && foreign != "" && foreign != "binary":
		s.note("%s: a certificate with the option %.40s, which no client asks for, is not taken", v.Name, foreign)
	case d.Attrs == bit(Mail) && foreign != "":
		s.note("%s: an address with the option %.40s is not taken", v.Name, foreign)
	case d.Attrs == bit(Mail):
		if value = bytes.TrimSpace(value); len(value) == 0 {
			s.fault("an empty mail value")
			return
		}
		s.keep(&s.entry.Mails, value)
	case len(value) == 0:
		s.fault("an empty certificate")
	default:
		s.keep(&s.entry.Certs, value)
	}
}

// replicaOptions reads attribute options. `db2ldif -r` of 389 Directory Server
// writes when a value changed as an option, and keeps values that were deleted;
// foreign is the first option besides.
func replicaOptions(options []byte) (deleted bool, foreign string) {
	for option := range strings.SplitSeq(string(fold(nil, options)), ";") {
		kind, _, _ := strings.Cut(option, "-")
		switch {
		case option == "":
		case option == "deleted", option == "deletedattribute":
			deleted = true
		case option != kind && (kind == "adcsn" || kind == "mdcsn" || kind == "vdcsn" || kind == "vucsn"):
		case foreign == "" || foreign == "binary":
			foreign = option
		}
	}
	return deleted, foreign
}

func (s *ldifScanner) keep(list *[]LDIFValue, value []byte) {
	if s.size += len(value); s.size > maxLDIFEntry {
		s.fault("an entry with more than %d octets of addresses and certificates", maxLDIFEntry)
		return
	}
	if len(*list) == maxLDIFValues {
		s.fault("an entry with more than %d values of one attribute", maxLDIFValues)
		return
	}
	*list = append(*list, LDIFValue{s.lines.At(), bytes.Clone(value)})
}

// end closes the record that is open. The error is that of take, or that there
// are too many faults.
func (s *ldifScanner) end() error {
	entry, kind, smime, skip := s.entry, s.kind, s.smime, s.skip
	s.kind, s.entry, s.size, s.content, s.skip, s.smime = recordNone, LDIFEntry{}, 0, false, false, 0
	if kind != recordEntry {
		if entry.Fault == nil {
			return nil
		}
		entry.Line = entry.Fault.Line
	}
	switch {
	case entry.Fault != nil:
		if s.problems++; s.problems > maxLDIFProblems {
			return fmt.Errorf("more than %d malformed entries: this is hardly LDIF", maxLDIFProblems)
		}
		entry.Mails, entry.Certs, entry.Notes = nil, nil, nil
		return s.take(entry)
	case skip:
		s.sum.Deleted++
		s.sum.Without++
		return nil
	case len(entry.Certs) == 0:
		s.sum.Without++
		if smime > 0 && len(entry.Mails) > 0 {
			entry.Notes = append(entry.Notes, LDIFNote{smime, "userSMIMECertificate alone: Direct clients ask for userCertificate; import the certificate itself with `directctl cert import`"})
		}
		if len(entry.Notes) == 0 {
			return nil
		}
	}
	return s.take(entry)
}

// LDIFWants tells whether an attribute of an LDIF file is one that an import
// takes values of.
func LDIFWants(attribute []byte) bool {
	base, _, _ := bytes.Cut(attribute, []byte(";"))
	d, ok := Describe(base)
	return ok && (d.Attrs == bit(Mail) || d.Attrs == bit(UserCertificate))
}

// The formats of WriteLDIF.
const (
	LDIFPlain   = "plain"   // without a line for the version: slapadd does not take one
	LDIFRFC2849 = "rfc2849" // with it, as the grammar of RFC 2849 wants it
)

// LDIFFormats lists the formats, the default first.
func LDIFFormats() []string { return []string{LDIFPlain, LDIFRFC2849} }

// WriteLDIF writes what LDAP publishes of a domain as LDIF (RFC 2849): the
// context entry, then the owners' entries in the order of their names. ScanLDIF
// reads it back, and so do slapadd (the plain format), ldapadd and ldif2db:
// nothing stands before what it stands below, and there are no attributes that
// servers keep for themselves.
func WriteLDIF(w io.Writer, v View, d direct.Domain, format string) error {
	data := v.Domain(d)
	if data == nil {
		return fmt.Errorf("ldif of %s: the node has no such domain", d)
	}
	t, err := Build(oneDomain{data}, Options{})
	if err != nil {
		return fmt.Errorf("ldif of %s: %w", d, err)
	}
	out := ldif.NewWriter(w, format == LDIFRFC2849)
	c := t.byDomain[d.String()]
	c.suffix.entry.writeLDIF(out)
	c.eachSorted(func(e *Entry) bool {
		e.writeLDIF(out)
		return true
	})
	if err := out.Flush(); err != nil {
		return fmt.Errorf("ldif of %s: %w", d, err)
	}
	return nil
}

// oneDomain is the view of one domain by itself.
type oneDomain struct{ data *store.DomainData }

func (v oneDomain) Domains() []direct.Domain               { return []direct.Domain{v.data.Domain} }
func (v oneDomain) Domain(direct.Domain) *store.DomainData { return v.data }

func (e *Entry) writeLDIF(w *ldif.Writer) {
	w.Begin(contentOf(e.encoded[:e.nameEnd]))
	for _, s := range e.spans {
		values := e.values(s.attr)
		for v, ok := values.next(); ok; v, ok = values.next() {
			w.Text(s.attr.Name(), v)
		}
	}
	for _, der := range e.certs {
		w.Binary("userCertificate;binary", der) // RFC 4523 §2.1
	}
}
