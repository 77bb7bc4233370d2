package ldapserver_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// difference is one thing that we do otherwise than slapd on purpose.
// docs/LDAP-DIFFERENCES.md has a section of the same name with the reason. It is
// a rewriting of the search, of the peer's answer or of both: what the peer
// answers to the rewritten search must be, to the last value, what we answer to
// the original.
type difference struct {
	name    string
	rewrite func(q question) question
	adjust  func(q question, theirs *found)
}

// applies tells whether the difference has anything to say about a search.
func (d difference) applies(q question) bool {
	if d.adjust != nil {
		return true
	}
	return d.rewrite(q).String() != q.String()
}

// unknown is a filter item that is Undefined everywhere.
func unknown(item) item { return item{kind: isEqual, name: "x-nothing", value: "x"} }

// inItems rewrites the items of a filter for which when is true.
func inItems(when func(item) bool, change func(item) item) func(question) question {
	return func(q question) question {
		q.filter = q.filter.each(func(f item) item {
			if when(f) {
				return change(f)
			}
			return f
		})
		return q
	}
}

// inSelectors rewrites selectors for which when is true to one that selects nothing.
func inSelectors(when func(string) bool) func(question) question {
	return func(q question) question {
		q.selectors = slices.Clone(q.selectors)
		for i, s := range q.selectors {
			if when(s) {
				q.selectors[i] = "x-nothing"
			}
		}
		return q
	}
}

func both(f, g func(question) question) func(question) question {
	return func(q question) question { return g(f(q)) }
}

func isElsewhere(description string) bool {
	return slices.ContainsFunc(elsewhere, func(e string) bool { return strings.EqualFold(e, description) })
}

// isForeignClass tells an object class that only OpenLDAP's schema has.
func isForeignClass(name string) bool { return slices.Contains(foreignClasses, strings.ToLower(name)) }

// isCertificate tells a description of userCertificate by any of its names.
func isCertificate(description string) bool {
	typ, _, _ := strings.Cut(strings.ToLower(description), ";")
	return typ == "usercertificate" || typ == "2.5.4.36"
}

// isSpelled tells whether a description is one of a type's names.
func isSpelled(description, typ string) bool {
	return slices.ContainsFunc(spelling[typ], func(n string) bool { return strings.EqualFold(n, description) })
}

// differences are tried in this order.
var differences = []difference{
	{name: "empty-base", rewrite: func(q question) question {
		q.everywhere = strings.Trim(q.base, " ") == "" && q.scope > 0
		return q
	}},
	{name: "names-in-hexadecimal", rewrite: func(q question) question {
		if strings.Contains(q.base, "#04") {
			q.base = q.plainBase
		}
		return q
	}},
	{name: "smaller-schema", rewrite: both(
		inItems(func(f item) bool {
			return isElsewhere(f.name) || isSpelled(f.name, "objectClass") && isForeignClass(f.value)
		}, unknown),
		inSelectors(isElsewhere))},
	{name: "no-operational-attributes", rewrite: inSelectors(func(s string) bool { return s == "+" })},
	{name: "no-selection-by-class", rewrite: inSelectors(func(s string) bool { return strings.HasPrefix(s, "@") })},
	{name: "approximate-is-equal", rewrite: inItems(func(f item) bool { return f.kind == isApprox }, func(f item) item {
		f.kind = isEqual
		return f
	})},
	{name: "certificates-do-not-compare", rewrite: inItems(func(f item) bool {
		return isCertificate(f.name) && (f.kind == isEqual || f.kind == isApprox || f.kind == isExtensible)
	}, unknown)},
	{name: "classes-by-their-identifiers", rewrite: inItems(func(f item) bool {
		return f.kind == isExtensible && f.rule == "objectIdentifierMatch" && (f.name == "" || isSpelled(f.name, "objectClass"))
	}, func(f item) item { return item{kind: isEqual, name: "objectClass", value: f.value} })},
	{name: "spaces-in-substrings", rewrite: func(q question) question { return withPrepared(q) }},
	{name: "no-nul", rewrite: inItems(func(f item) bool {
		return f.kind == isSubstrings && strings.Contains(strings.Join(f.parts, ""), "\x00")
	}, func(f item) item {
		return item{kind: isEqual, name: f.name, value: "nobody"}
	})},
	{name: "an-address-has-its-spaces", rewrite: func(q question) question {
		if q.scope > 0 {
			q.filter = exactAddresses(q.filter, q.directory)
		}
		return q
	}},
	{name: "spelled-as-asked", adjust: func(q question, theirs *found) {
		plain, binary := false, false
		for _, s := range q.selectors {
			if isCertificate(s) {
				withOption := strings.HasSuffix(strings.ToLower(s), ";binary")
				plain, binary = plain || !withOption && !strings.Contains(s, ";"), binary || withOption
			}
		}
		if !plain || binary {
			return
		}
		for dn, e := range theirs.entries {
			theirs.entries[dn] = strings.ReplaceAll(e, "userCertificate;binary[", "userCertificate[")
		}
	}},
}

// withPrepared replaces substring items with spaces at the ends of parts by the
// values that RFC 4518 §2.6.1 makes them match: value and parts begin and end
// with one space where they stand at an end, and have two between words.
func withPrepared(q question) question {
	return inItems(func(f item) bool {
		return f.kind == isSubstrings && !isCertificate(f.name) && utf8.ValidString(strings.Join(f.parts, "")) && slices.ContainsFunc(f.parts, func(p string) bool { return strings.Trim(p, " ") != p })
	}, func(f item) item {
		pattern := "(?is)^"
		for i, part := range f.parts {
			if i > 0 {
				pattern += ".*"
			}
			if part != "" {
				pattern += regexp.QuoteMeta(prepared(part, i == 0, i > 0 && i == len(f.parts)-1))
			}
		}
		whole := regexp.MustCompile(pattern + "$")
		any := item{kind: isOr}
		for _, v := range valuesOf(f.name, q.directory) {
			if whole.MatchString(prepared(v, true, true)) {
				any.of = append(any.of, item{kind: isEqual, name: f.name, value: v})
			}
		}
		return any
	})(q)
}

func prepared(s string, first, last bool) string {
	inner := strings.Join(strings.Fields(s), "  ")
	if inner == "" {
		return " "
	}
	if first || strings.HasPrefix(s, " ") {
		inner = " " + inner
	}
	if last || strings.HasSuffix(s, " ") {
		inner += " "
	}
	return inner
}

// valuesOf is all values of an attribute type in the directory.
func valuesOf(name string, v view) (values []string) {
	typ := ""
	for t := range spelling {
		if isSpelled(name, t) {
			typ = t
		}
	}
	for _, d := range v {
		label, _, _ := strings.Cut(d.Domain.String(), ".")
		values = append(values, map[string][]string{"dc": {label}, "o": {d.Domain.String()}, "name": {d.Domain.String()}}[typ]...)
		for h := range d.Certificates.SortedHoldings {
			o := h.Owner()
			switch typ {
			case "mail", "cn", "sn", "name":
				values = append(values, o.String())
			case "uid":
				if o.IsAddress() {
					values = append(values, o.Address().Local())
				}
			}
		}
	}
	return values
}

// exactAddresses makes conditions that name an address with other spaces than any
// owner's conditions that no entry meets. NOT and what is below it do not name.
func exactAddresses(f item, v view) item {
	switch {
	case f.kind == isAnd || f.kind == isOr:
		of := make([]item, len(f.of))
		for i, part := range f.of {
			of[i] = exactAddresses(part, v)
		}
		f.of = of
	case f.kind == isEqual && strings.Contains(strings.Trim(f.value, " "), " "):
		same := func(m string) bool { return strings.EqualFold(m, strings.Trim(f.value, " ")) }
		if addresses := valuesOf(f.name, v); isSpelled(f.name, "mail") && !slices.ContainsFunc(addresses, same) {
			f.value = "nobody"
		}
	}
	return f
}

// TestEveryDifferenceHasItsReason: the list of the test and that of the document
// are one.
func TestEveryDifferenceHasItsReason(t *testing.T) {
	b, err := os.ReadFile("../docs/LDAP-DIFFERENCES.md")
	if err != nil {
		t.Fatal(err)
	}
	var written, known []string
	for line := range strings.Lines(string(b)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "## "); ok {
			written = append(written, name)
		}
	}
	for _, d := range differences {
		known = append(known, d.name)
	}
	if !slices.Equal(written, known) {
		t.Errorf("docs/LDAP-DIFFERENCES.md explains %q, the test knows %q", written, known)
	}
}
