package zones

import (
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"directnode/internal/direct"
	"directnode/store"
)

// Parsed is what a zone text held.
type Parsed struct {
	// Domain is the origin.
	Domain direct.Domain
	// Records are all but the certificates, in the order of the text, names
	// absolute and in lower case. A CERT record of another type than PKIX, such
	// as the URL of a certificate, is a record TYPE37 here.
	Records []store.Record
	// Lines are those of the records.
	Lines []int
	// Certs are the CERT records of type PKIX.
	Certs []ParsedCert
	// Signing is for BuildParsed alone: no text has it.
	Signing *store.Signing
}

// ParsedCert is a certificate of a zone text and where it stood.
type ParsedCert struct {
	Owner direct.Owner
	DER   []byte
	Line  int
}

// MasterError is why a zone text was not taken.
type MasterError struct {
	File   string
	Line   int
	Record string // the entry, cut to a line's length
	Err    error
}

// Error is file:line, the reason, and the entry.
func (e *MasterError) Error() string {
	s := fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Err)
	if e.Record != "" {
		s += ": " + e.Record
	}
	return s
}

// Unwrap gives the reason.
func (e *MasterError) Unwrap() error { return e.Err }

// ParseMaster reads zone text (RFC 1035 §5.1, with $TTL of RFC 2308 §4 and the
// generic form of RFC 3597 §5, and BIND's $GENERATE) whose names are relative to origin. It takes all
// or nothing; the error is a *MasterError. file is for messages alone: nothing
// is opened, $INCLUDE is refused.
func ParseMaster(r io.Reader, origin direct.Domain, file string) (Parsed, error) {
	var certs []ParsedCert
	p, err := ScanMaster(r, origin, file, func(c ParsedCert, _ *x509.Certificate) error {
		certs = append(certs, c)
		return nil
	})
	p.Certs = certs
	if err != nil {
		return Parsed{}, err
	}
	return p, nil
}

// TakeCert takes one certificate of a zone text.
type TakeCert func(ParsedCert, *x509.Certificate) error

// ScanMaster is ParseMaster for a text whose certificates are too many to hold:
// each goes to take as it is read, and Certs stays empty. An error of take
// becomes the reason of the *MasterError, with the place of the record. What
// take was given before an error counts for nothing.
func ScanMaster(r io.Reader, origin direct.Domain, file string, take TakeCert) (Parsed, error) {
	apex, err := ParseName(origin.DNSName())
	if err != nil || origin.IsZero() {
		return Parsed{}, &MasterError{File: file, Err: fmt.Errorf("origin %q is no domain", origin)}
	}
	limited := &io.LimitedReader{R: r, N: maxMasterOctets + 1}
	p := &masterParser{lex: newLexer(limited), apex: apex, origin: origin.DNSName(), take: take, out: Parsed{Domain: origin}}
	for {
		e, err := p.lex.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = p.entry(e)
		}
		if err == nil && limited.N <= 0 {
			err = fmt.Errorf("more than %d octets of zone text", maxMasterOctets)
		}
		if err != nil {
			return Parsed{}, &MasterError{file, e.line, e.text(), err}
		}
	}
	return p.out, nil
}

// masterParser is the state that one entry hands to the next.
type masterParser struct {
	lex        *lexer
	apex       Name
	origin     string  // what relative names end in, absolute
	owner      string  // of the last record, absolute; empty before the first
	defaultTTL *uint32 // $TTL
	lastTTL    *uint32 // RFC 1035 §5.1: omitted, it is the last one stated
	generated  int64   // records by $GENERATE
	octets     int     // of them
	take       TakeCert
	out        Parsed
}

func (p *masterParser) entry(e entry) error {
	if !e.inside && strings.HasPrefix(e.tokens[0], "$") {
		return p.directive(e)
	}
	return p.record(e)
}

func (p *masterParser) record(e entry) error {
	h, rest, err := p.header(e)
	if err != nil {
		return err
	}
	wire, err := parseRData(h.typ, rest, p.origin)
	if err != nil {
		return err
	}
	if h.ttl == nil {
		if h.ttl, err = p.impliedTTL(h.typ, wire); err != nil {
			return err
		}
	}
	if h.typ == dns.TypeCERT && binary.BigEndian.Uint16(wire) == certPKIX {
		return p.cert(h.name, wire[certHead:], e.line)
	}
	typ, text := typeString(h.typ), ""
	if h.typ == dns.TypeCERT {
		// The store keeps certificates apart and takes no record of that name;
		// a URL is no certificate.
		typ, text = fmt.Sprintf("TYPE%d", h.typ), genericText(wire)
	} else if text, err = rdataText(h.typ, wire); err != nil {
		return err
	}
	p.out.Records = append(p.out.Records, store.Record{Name: h.name.String(), Type: typ, TTL: *h.ttl, Data: text})
	p.out.Lines = append(p.out.Lines, e.line)
	return nil
}

func (p *masterParser) directive(e entry) error {
	tokens := e.tokens
	name := strings.ToUpper(tokens[0])
	switch name {
	case "$ORIGIN", "$TTL":
		if len(tokens) != 2 {
			return fmt.Errorf("%s takes one value", name)
		}
	}
	switch name {
	case "$ORIGIN":
		origin, err := p.absolute(tokens[1])
		if err != nil {
			return err
		}
		p.origin = origin
		return nil
	case "$TTL":
		ttl, err := parseTTL(tokens[1])
		p.defaultTTL = &ttl
		return err
	case "$INCLUDE":
		return errors.New("$INCLUDE is refused: an import reads one text and opens no other file; put the included text in its place")
	case "$GENERATE":
		return p.generate(e)
	}
	return fmt.Errorf("unknown directive %.20q", tokens[0])
}

// header is a record before its RDATA.
type header struct {
	name Name
	typ  uint16
	ttl  *uint32 // nil if not stated
}

// header reads owner, TTL, class and type (RFC 1035 §5.1: TTL and class in
// either order, each may be absent).
func (p *masterParser) header(e entry) (h header, rest []string, err error) {
	rest = e.tokens
	if !e.inside {
		if p.owner, err = p.absolute(rest[0]); err != nil {
			return h, nil, err
		}
		rest = rest[1:]
	}
	if p.owner == "" {
		return h, nil, errors.New("no owner name: the first record must state one")
	}
	if h.name, err = ParseName(p.owner); err != nil {
		return h, nil, err
	}
	if !h.name.within(p.apex) {
		return h, nil, fmt.Errorf("%s lies outside %s", p.owner, p.apex)
	}
	class := false
	for len(rest) > 0 {
		t := strings.ToUpper(rest[0])
		switch {
		case h.ttl == nil && t != "" && '0' <= t[0] && t[0] <= '9':
			ttl, err := parseTTL(t)
			if err != nil {
				return h, nil, err
			}
			h.ttl, p.lastTTL = &ttl, &ttl
		case !class && (t == "IN" || t == "CLASS1"):
			class = true
		case t == "CH" || t == "HS" || t == "CS" || strings.HasPrefix(t, "CLASS"):
			return h, nil, fmt.Errorf("class %.20s: only IN is served", t)
		default:
			return p.typed(h, rest)
		}
		rest = rest[1:]
	}
	return h, nil, errors.New("no type")
}

func (p *masterParser) typed(h header, rest []string) (header, []string, error) {
	typ, ok := parseType(rest[0])
	if !ok {
		return h, nil, fmt.Errorf("unknown type %.20q", rest[0])
	}
	if why := refusedType(typ); why != "" {
		return h, nil, errors.New(why)
	}
	h.typ = typ
	return h, rest[1:], nil
}

// impliedTTL is the TTL of a record that states none: $TTL, else the last one
// stated, else for the SOA its own MINIMUM, as RFC 1035 meant that field.
func (p *masterParser) impliedTTL(typ uint16, wire []byte) (*uint32, error) {
	switch {
	case p.defaultTTL != nil:
		return p.defaultTTL, nil
	case p.lastTTL != nil:
		return p.lastTTL, nil
	case typ == dns.TypeSOA && len(wire) >= soaFixed:
		ttl := min(binary.BigEndian.Uint32(wire[len(wire)-4:]), maxTTL)
		p.lastTTL = &ttl
		return p.lastTTL, nil
	}
	return nil, errors.New("no TTL: none stated, no $TTL before")
}

// cert takes a certificate for the owner that the name stands for.
func (p *masterParser) cert(name Name, der []byte, line int) error {
	if name.hasLabel("*") {
		return errors.New("a wildcard CERT record would answer for every address")
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("the CERT record holds no X.509 certificate: %w", err)
	}
	owner, err := direct.OwnerFromDNSName(name.String(), p.out.Domain)
	if err != nil {
		return err
	}
	return p.take(ParsedCert{owner, der, line}, cert)
}

// absolute completes a name with the origin (RFC 1035 §5.1).
func (p *masterParser) absolute(s string) (string, error) {
	switch {
	case s == "@":
		return p.origin, nil
	case s[0] == '"':
		return "", fmt.Errorf("a quoted string %.70s in place of a name", s)
	case endsInDot(s):
	case p.origin == ".":
		s += "."
	default:
		s += "." + p.origin
	}
	if _, err := packName(s); err != nil {
		return "", err
	}
	return s, nil
}

// endsInDot tells whether the last octet is a dot that no backslash protects.
func endsInDot(s string) bool {
	if !strings.HasSuffix(s, ".") {
		return false
	}
	slashes := 0
	for i := len(s) - 2; i >= 0 && s[i] == '\\'; i-- {
		slashes++
	}
	return slashes%2 == 0
}

// parseTTL reads seconds, or BIND's 1w2d3h4m5s.
func parseTTL(s string) (uint32, error) {
	total, digits := uint64(0), ""
	for _, c := range strings.ToLower(s) {
		if '0' <= c && c <= '9' {
			digits += string(c)
			continue
		}
		unit := map[rune]uint64{'s': 1, 'm': 60, 'h': 3600, 'd': 86400, 'w': 604800}[c]
		n, err := strconv.ParseUint(digits, 10, 32)
		if unit == 0 || err != nil {
			return 0, fmt.Errorf("TTL %.20q", s)
		}
		total, digits = total+n*unit, ""
	}
	if digits != "" {
		n, err := strconv.ParseUint(digits, 10, 32)
		if err != nil {
			return 0, fmt.Errorf("TTL %.20q", s)
		}
		total += n
	}
	if s == "" || total > math.MaxInt32 {
		return 0, fmt.Errorf("TTL %.20q: at most %d (RFC 2181 §8)", s, maxTTL)
	}
	return uint32(total), nil
}
