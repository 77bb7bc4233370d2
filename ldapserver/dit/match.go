package dit

import (
	"bytes"
	"unicode/utf8"
)

// Truth is the three-valued logic of filters (RFC 4511 §4.5.1.7). The order
// makes AND the minimum and OR the maximum.
type Truth uint8

// The three values.
const (
	False Truth = iota
	Undefined
	True
)

// Not negates; Undefined stays Undefined.
func (t Truth) Not() Truth { return True - t }

func truth(b bool) Truth {
	if b {
		return True
	}
	return False
}

// Present evaluates a presence item (RFC 4511 §4.5.1.7.5). The binary option
// names a way of transfer, not another attribute, so that userCertificate and
// userCertificate;binary are present together.
func (e *Entry) Present(d Description) Truth { return truth(e.Has(d.Attrs)) }

// Equal evaluates an equality assertion with the equality rule of the type.
// It is Undefined where the assertion is malformed for the type's syntax or
// where the type has no rule that this directory evaluates.
func (e *Entry) Equal(d Description, assertion []byte) Truth {
	result := False
	for a := Attr(0); a < attrCount; a++ {
		if d.Attrs.Has(a) {
			result = max(result, e.equal(a, assertion))
		}
	}
	return result
}

func (e *Entry) equal(a Attr, assertion []byte) Truth {
	return e.equalBy(attributeTable[a].rule, a, assertion)
}

// equalBy is equal by a rule that suits the type.
func (e *Entry) equalBy(r rule, a Attr, assertion []byte) Truth {
	switch r {
	case unmatched:
		return Undefined
	case objectID:
		return e.equalObjectID(a, assertion)
	case distinguished:
		return e.equalDN(a, assertion)
	case caseIgnoreIA5:
		if !isIA5(assertion) {
			return Undefined // RFC 4517 §4.2.3: the assertion has IA5String syntax
		}
	case caseIgnore, caseExact:
		if !isDirectoryString(assertion) {
			return Undefined
		}
	}
	values := e.values(a)
	for v, ok := values.next(); ok; v, ok = values.next() {
		if equalPrepared(v, assertion, r == caseExact) {
			return True
		}
	}
	return False
}

// equalObjectID compares by objectIdentifierMatch (RFC 4517 §4.2.26): a class
// may be asked by name or by OID; an unknown name is Undefined.
func (e *Entry) equalObjectID(a Attr, assertion []byte) Truth {
	if a == ObjectClass {
		if len(assertion) > maxDescription {
			return Undefined
		}
		var buf [maxDescription]byte
		name, known := classNames[string(fold(buf[:0], assertion))]
		if !known {
			return Undefined
		}
		assertion = []byte(name)
	}
	values := e.values(a)
	for v, ok := values.next(); ok; v, ok = values.next() {
		if bytes.EqualFold(v, assertion) {
			return True
		}
	}
	return False
}

func (e *Entry) equalDN(a Attr, assertion []byte) Truth {
	want, err := canonical(assertion)
	if err != nil {
		return Undefined
	}
	values := e.values(a)
	for v, ok := values.next(); ok; v, ok = values.next() {
		if got, err := canonical(v); err == nil && got == want {
			return True
		}
	}
	return False
}

// Substrings is a substring assertion (RFC 4511 §4.5.1.7.2); empty parts are
// absent.
type Substrings struct {
	Initial []byte
	Any     [][]byte
	Final   []byte
}

// Matches evaluates a substring assertion.
func (e *Entry) Matches(d Description, s Substrings) Truth {
	result := False
	for a := Attr(0); a < attrCount; a++ {
		if d.Attrs.Has(a) {
			result = max(result, e.matches(a, s))
		}
	}
	return result
}

func (e *Entry) matches(a Attr, s Substrings) Truth {
	switch attributeTable[a].rule {
	case caseIgnore:
		if !utf8.Valid(s.Initial) || !utf8.Valid(s.Final) {
			return Undefined
		}
		for _, part := range s.Any {
			if !utf8.Valid(part) {
				return Undefined
			}
		}
	case caseIgnoreIA5:
		if !isIA5(s.Initial) || !isIA5(s.Final) {
			return Undefined
		}
		for _, part := range s.Any {
			if !isIA5(part) {
				return Undefined
			}
		}
	default:
		return Undefined // no SUBSTR rule
	}
	values := e.values(a)
	for v, ok := values.next(); ok; v, ok = values.next() {
		if s.match(v) {
			return True
		}
	}
	return False
}

// RuleAssertion is the assertion of an extensible filter item (RFC 4511
// §4.5.1.7.7).
type RuleAssertion struct {
	Rule  Rule // none: the equality rule of each type
	Attrs Mask // none: every type that the rule is for
	DN    bool // the attributes of the entry's name count as well
	Value []byte
}

// MatchesRule evaluates an extensible item. A rule that does not suit the type is
// Undefined there.
func (e *Entry) MatchesRule(a RuleAssertion) Truth {
	var parts Substrings
	if a.Rule.substrings {
		var ok bool
		if parts, ok = parseSubstrings(a.Value); !ok {
			return Undefined
		}
	}
	result := False
	for t := Attr(0); t < attrCount; t++ {
		r := attributeTable[t].rule
		fits := !a.Rule.named || a.Rule.suits(r)
		if a.Rule.named {
			r = a.Rule.family
		}
		switch {
		case a.Attrs != 0 && !a.Attrs.Has(t), a.Attrs == 0 && !fits:
		case !fits:
			result = max(result, Undefined)
		case a.Rule.substrings:
			result = max(result, e.matches(t, parts))
		default:
			result = max(result, e.equalBy(r, t, a.Value))
		}
	}
	if a.DN && result != True && e.nameMatches(a, parts) {
		return True
	}
	return result
}

// suits tells whether the rule may be applied to types whose own rule is r: to
// those of its family, and for whole values to all whose syntax is Directory
// String (RFC 4517 §4.2.4, §4.2.11: caseExactMatch and caseIgnoreMatch).
func (a Rule) suits(r rule) bool {
	isText := func(r rule) bool { return r == caseIgnore || r == caseExact }
	return a.family == r || !a.substrings && isText(a.family) && isText(r)
}

// nameMatches looks for the assertion among the attributes of the entry's name,
// which without a rule compare without regard to case: uid, cn and dc.
func (e *Entry) nameMatches(a RuleAssertion, parts Substrings) bool {
	found := false
	eachComponent(e.DN(), func(t Attr, value string) {
		switch {
		case a.Attrs != 0 && !a.Attrs.Has(t), a.Rule.named && !a.Rule.suits(attributeTable[t].rule):
		case a.Rule.substrings:
			found = found || parts.match([]byte(value))
		default:
			found = found || equalPrepared([]byte(value), a.Value, a.Rule.named && a.Rule.family == caseExact)
		}
	})
	return found
}

// maxParts of a substring assertion in text: a filter may have no more items.
const maxParts = 32

// parseSubstrings reads the text form of a substring assertion (RFC 4517
// §3.3.30): parts between asterisks, '*' and '\\' inside of them as \2A and \5C.
func parseSubstrings(text []byte) (Substrings, bool) {
	// Counted before memory is taken: 64 KiB of asterisks are many parts.
	if n := bytes.Count(text, []byte{'*'}); n == 0 || n >= maxParts {
		return Substrings{}, false
	}
	list := bytes.Split(text, []byte{'*'})
	for i, part := range list {
		list[i] = unescapePart(part)
		inner := i > 0 && i < len(list)-1
		if inner && len(part) == 0 {
			return Substrings{}, false
		}
	}
	s := Substrings{Any: list[1 : len(list)-1]}
	if first := list[0]; len(first) > 0 {
		s.Initial = first
	}
	if last := list[len(list)-1]; len(last) > 0 {
		s.Final = last
	}
	return s, s.Initial != nil || s.Final != nil || len(s.Any) > 0
}

// unescapePart puts asterisks and backslashes for their escapes.
func unescapePart(part []byte) []byte {
	if bytes.IndexByte(part, '\\') < 0 {
		return part
	}
	out := make([]byte, 0, len(part))
	for len(part) > 0 {
		c, used := part[0], 1
		if len(part) >= 3 && c == '\\' {
			switch string(part[1:3]) {
			case "2A", "2a":
				c, used = '*', 3
			case "5C", "5c":
				used = 3
			}
		}
		out, part = append(out, c), part[used:]
	}
	return out
}

// match follows RFC 4518 §2.6.1: value and parts are brought to a form in
// which every run of spaces is two spaces and the ends of the whole are one,
// so that a part can end anywhere in a run.
func (s Substrings) match(value []byte) bool {
	if s.letters() > letters(value) {
		return false // and an assertion of 64 KiB takes no memory for each value
	}
	rest := spaced(value, true, true)
	if s.Initial != nil {
		initial := spaced(s.Initial, true, false)
		if !bytes.HasPrefix(rest, initial) {
			return false
		}
		rest = rest[len(initial):]
	}
	for _, part := range s.Any {
		part = spaced(part, false, false)
		i := bytes.Index(rest, part)
		if i < 0 {
			return false
		}
		rest = rest[i+len(part):]
	}
	return s.Final == nil || bytes.HasSuffix(rest, spaced(s.Final, false, true))
}

// letters is how many octets of the parts are no spaces.
func (s Substrings) letters() int {
	n := letters(s.Initial) + letters(s.Final)
	for _, part := range s.Any {
		n += letters(part)
	}
	return n
}

func letters(text []byte) int { return len(text) - bytes.Count(text, []byte{' '}) }

// spaced prepares a string for substring matching (RFC 4518 §2.6.1): ASCII
// letters in lower case, inner runs of spaces doubled; a run at an end is one
// space, which stands there anyway at the ends of a whole value.
func spaced(text []byte, start, end bool) []byte {
	trimmed := bytes.Trim(text, " ")
	out := make([]byte, 0, min(len(text), 3*letters(text))+8) // two spaces behind each letter at most
	if start || len(text) > 0 && text[0] == ' ' {
		out = append(out, ' ')
	}
	for i, c := range trimmed {
		switch {
		case c != ' ':
			out = append(out, lower(c))
		case trimmed[i-1] != ' ':
			out = append(out, ' ', ' ')
		}
	}
	if len(trimmed) == 0 {
		if len(out) == 0 && end {
			out = append(out, ' ')
		}
		return out
	}
	if end || text[len(text)-1] == ' ' {
		out = append(out, ' ')
	}
	return out
}

// equalPrepared compares as caseIgnoreMatch and caseIgnoreIA5Match do after
// string preparation (RFC 4518): without regard to ASCII case, to spaces at
// the ends and to the length of runs of spaces; exact regards case. Every value here is ASCII, so
// that folding beyond ASCII could only make an assertion match what it does
// not name.
func equalPrepared(value, assertion []byte, exact bool) bool {
	value, assertion = bytes.Trim(value, " "), bytes.Trim(assertion, " ")
	for len(value) > 0 && len(assertion) > 0 {
		if value[0] != assertion[0] && (exact || lower(value[0]) != lower(assertion[0])) {
			return false
		}
		if value[0] == ' ' {
			value, assertion = bytes.TrimLeft(value, " "), bytes.TrimLeft(assertion, " ")
			continue
		}
		value, assertion = value[1:], assertion[1:]
	}
	return len(value) == len(assertion)
}

// isDirectoryString tells whether an assertion has the syntax of RFC 4517
// §3.3.6: at least one character, in UTF-8.
func isDirectoryString(b []byte) bool { return len(b) > 0 && utf8.Valid(b) }

func isIA5(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}
