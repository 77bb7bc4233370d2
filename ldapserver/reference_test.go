package ldapserver

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	asn1 "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"directnode/internal/ber"
	"directnode/ldapserver/dit"
)

// A second evaluator, as plain as possible: it reads a filter with another
// decoder, and holds it against entries that are maps. It follows the sentences
// of RFC 4511 §4.5.1.7 and RFC 4518 and cares for no cost.

// errElsewhere says that an answer depends on what is not modelled here: names
// as values.
var errElsewhere = errors.New("not modelled")

// plainTypes are the attribute types by their spellings: the key in refEntry and
// the family of their rules.
var plainTypes = map[string][2]string{
	"cn": {"cn", "text"}, "commonname": {"cn", "text"}, "2.5.4.3": {"cn", "text"},
	"sn": {"sn", "text"}, "surname": {"sn", "text"}, "2.5.4.4": {"sn", "text"},
	"uid": {"uid", "text"}, "userid": {"uid", "text"}, "0.9.2342.19200300.100.1.1": {"uid", "text"},
	"o": {"o", "text"}, "organizationname": {"o", "text"}, "2.5.4.10": {"o", "text"},
	"mail": {"mail", "ia5"}, "rfc822mailbox": {"mail", "ia5"}, "0.9.2342.19200300.100.1.3": {"mail", "ia5"},
	"dc": {"dc", "ia5"}, "domaincomponent": {"dc", "ia5"}, "0.9.2342.19200300.100.1.25": {"dc", "ia5"},
	"objectclass": {"objectclass", "oid"}, "2.5.4.0": {"objectclass", "oid"},
	"usercertificate": {"usercertificate", "none"}, "2.5.4.36": {"usercertificate", "none"},
	"vendorname": {"vendorname", "exact"}, "1.3.6.1.1.4": {"vendorname", "exact"}, "vendorversion": {"vendorversion", "exact"}, "1.3.6.1.1.5": {"vendorversion", "exact"},
	"supportedcontrol": {"supportedcontrol", "oids"}, "supportedextension": {"supportedextension", "oids"}, "supportedfeatures": {"supportedfeatures", "oids"},
	"1.3.6.1.4.1.1466.101.120.13": {"supportedcontrol", "oids"}, "1.3.6.1.4.1.1466.101.120.7": {"supportedextension", "oids"}, "1.3.6.1.4.1.4203.1.3.5": {"supportedfeatures", "oids"},
	"supportedldapversion": {"supportedldapversion", "number"}, "1.3.6.1.4.1.1466.101.120.15": {"supportedldapversion", "number"},
	"namingcontexts": {"namingcontexts", "name"}, "1.3.6.1.4.1.1466.101.120.5": {"namingcontexts", "name"}, "subschemasubentry": {"subschemasubentry", "name"}, "2.5.18.10": {"subschemasubentry", "name"},
	"ldapsyntaxes": {"ldapsyntaxes", "none"}, "1.3.6.1.4.1.1466.101.120.16": {"ldapsyntaxes", "none"}, "matchingrules": {"matchingrules", "none"}, "2.5.21.4": {"matchingrules", "none"},
	"attributetypes": {"attributetypes", "none"}, "2.5.21.5": {"attributetypes", "none"}, "objectclasses": {"objectclasses", "none"}, "2.5.21.6": {"objectclasses", "none"},
}

var plainClasses = map[string]string{
	"top": "top", "2.5.6.0": "top", "person": "person", "2.5.6.6": "person", "organizationalperson": "organizationalperson", "2.5.6.7": "organizationalperson",
	"inetorgperson": "inetorgperson", "2.16.840.1.113730.3.2.2": "inetorgperson", "organization": "organization", "2.5.6.4": "organization",
	"dcobject": "dcobject", "1.3.6.1.4.1.1466.344": "dcobject", "subentry": "subentry", "2.5.17.0": "subentry", "subschema": "subschema", "2.5.20.1": "subschema",
}

// plainRules gives the families that a rule is for; with a star it takes
// substrings.
var plainRules = map[string]string{
	"caseignorematch": "text", "2.5.13.2": "text", "caseignoresubstringsmatch": "text*", "2.5.13.4": "text*",
	"caseignoreia5match": "ia5", "1.3.6.1.4.1.1466.109.114.2": "ia5", "caseignoreia5substringsmatch": "ia5*", "1.3.6.1.4.1.1466.109.114.3": "ia5*",
	"objectidentifiermatch": "oid", "2.5.13.0": "oid", "caseexactmatch": "exact", "2.5.13.5": "exact", "distinguishednamematch": "name", "2.5.13.1": "name",
}

func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 32
		}
	}
	return string(b)
}

func words(s string) []string {
	return strings.FieldsFunc(lowerASCII(s), func(r rune) bool { return r == ' ' })
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > 127 }) < 0
}

// described gives the types that a description stands for.
func described(s string) (types [][2]string, known bool) {
	s = lowerASCII(s)
	if s == "name" || s == "2.5.4.41" {
		return [][2]string{plainTypes["cn"], plainTypes["sn"], plainTypes["o"]}, true
	}
	if base, ok := strings.CutSuffix(s, ";binary"); ok && plainTypes[base][0] == "usercertificate" {
		s = base
	}
	t, known := plainTypes[s]
	return [][2]string{t}, known
}

const (
	isFalse = iota
	isUndefined
	isTrue
)

func verdict(b bool) int {
	if b {
		return isTrue
	}
	return isFalse
}

// plainEval evaluates a decoded filter.
func plainEval(p *asn1.Packet, e refEntry) (int, error) {
	content := func(i int) string { return string(p.Children[i].ByteValue) }
	switch p.Tag {
	case 0, 1, 2:
		var all []int
		for _, c := range p.Children {
			v, err := plainEval(c, e)
			if err != nil {
				return 0, err
			}
			all = append(all, v)
		}
		switch p.Tag {
		case 0:
			return slices.Min(append(all, isTrue)), nil
		case 1:
			return slices.Max(append(all, isFalse)), nil
		}
		return isTrue - all[0], nil
	case 7:
		types, known := described(p.Data.String())
		if !known {
			return isUndefined, nil
		}
		return verdict(slices.ContainsFunc(types, func(t [2]string) bool { return len(e[t[0]]) > 0 })), nil
	case 3, 8:
		return plainItem(content(0), e, func(t [2]string) (int, error) { return plainEqual(t, e, content(1), t[1]) })
	case 4:
		var s plainSubstrings
		for _, c := range p.Children[1].Children {
			s = append(s, plainPart{int(c.Tag), c.Data.String()})
		}
		return plainItem(content(0), e, func(t [2]string) (int, error) { return s.match(t, e), nil })
	case 9:
		return plainExtensible(p, e)
	}
	return isUndefined, nil
}

func plainItem(description string, e refEntry, f func([2]string) (int, error)) (int, error) {
	types, known := described(description)
	if !known {
		return isUndefined, nil
	}
	result := isFalse
	for _, t := range types {
		v, err := f(t)
		if err != nil {
			return 0, err
		}
		result = max(result, v)
	}
	return result, nil
}

// plainEqual compares by the rules of a family, which is the type's own if no
// other is named.
func plainEqual(t [2]string, e refEntry, assertion, family string) (int, error) {
	switch t[1] {
	case "none":
		return isUndefined, nil
	case "name":
		return 0, errElsewhere
	case "ia5":
		if !isASCII(assertion) {
			return isUndefined, nil
		}
	case "text", "exact":
		if assertion == "" || !utf8.ValidString(assertion) {
			return isUndefined, nil
		}
	case "oid":
		class, known := plainClasses[lowerASCII(assertion)]
		if !known {
			return isUndefined, nil
		}
		assertion = class
	}
	return verdict(slices.ContainsFunc(e[t[0]], func(v string) bool { return plainSame(v, assertion, family) })), nil
}

func plainSame(value, assertion, family string) bool {
	if family == "exact" {
		spaces := func(r rune) bool { return r == ' ' }
		return slices.Equal(strings.FieldsFunc(value, spaces), strings.FieldsFunc(assertion, spaces))
	}
	return slices.Equal(words(value), words(assertion))
}

// plainPart is a part of a substring assertion: 0 initial, 1 any, 2 final.
type plainPart struct {
	kind int
	text string
}

type plainSubstrings []plainPart

func (s plainSubstrings) match(t [2]string, e refEntry) int {
	switch t[1] {
	case "text":
		for _, p := range s {
			if !utf8.ValidString(p.text) {
				return isUndefined
			}
		}
	case "ia5":
		for _, p := range s {
			if !isASCII(p.text) {
				return isUndefined
			}
		}
	default:
		return isUndefined
	}
	return verdict(slices.ContainsFunc(e[t[0]], func(v string) bool { return s.fits(" " + strings.Join(words(v), "  ") + " ") }))
}

// fits keeps all places where the parts so far can end.
func (s plainSubstrings) fits(value string) bool {
	ends := map[int]bool{0: true}
	for _, p := range s {
		text, next := p.prepared(), map[int]bool{}
		for at := range len(value) + 1 {
			if !strings.HasPrefix(value[at:], text) || p.kind == 2 && at+len(text) != len(value) {
				continue
			}
			for end := range ends {
				if end == at || p.kind != 0 && end < at {
					next[at+len(text)] = true
				}
			}
		}
		ends = next
	}
	return len(ends) > 0
}

// prepared follows RFC 4518 §2.6.1.
func (p plainPart) prepared() string {
	before, after := p.kind == 0 || strings.HasPrefix(p.text, " "), p.kind == 2 || strings.HasSuffix(p.text, " ")
	body := strings.Join(words(p.text), "  ")
	if body == "" {
		if before || after {
			return " "
		}
		return ""
	}
	if before {
		body = " " + body
	}
	if after {
		body += " "
	}
	return body
}

// plainExtensible follows RFC 4511 §4.5.1.7.7.
func plainExtensible(p *asn1.Packet, e refEntry) (int, error) {
	var rule, description, value *string
	dn := false
	for _, c := range p.Children {
		text := c.Data.String()
		switch c.Tag {
		case 1:
			rule = &text
		case 2:
			description = &text
		case 3:
			value = &text
		case 4:
			dn = text != "\x00"
		}
	}
	if value == nil || rule == nil && description == nil {
		return isUndefined, nil
	}
	family, bySubstrings := "", false
	if rule != nil {
		if family = plainRules[lowerASCII(*rule)]; family == "" {
			return isUndefined, nil
		}
		family, bySubstrings = strings.CutSuffix(family, "*")
	}
	var types [][2]string
	if description != nil {
		var known bool
		if types, known = described(*description); !known {
			return isUndefined, nil
		}
	}
	var s plainSubstrings
	if bySubstrings {
		var ok bool
		if s, ok = plainParts(*value); !ok {
			return isUndefined, nil
		}
	}
	fits := func(t [2]string) bool {
		texts := (family == "text" || family == "exact") && (t[1] == "text" || t[1] == "exact") && !bySubstrings
		return family == "" || t[1] == family || texts || family == "oid" && t[1] == "oids"
	}
	by := func(t [2]string) string {
		if family == "" {
			return t[1]
		}
		return family
	}
	asked := types
	if description == nil {
		for _, t := range plainTypes {
			if fits(t) {
				asked = append(asked, t)
			}
		}
	}
	result := isFalse
	for _, t := range asked {
		v, err := isUndefined, error(nil)
		switch {
		case !fits(t):
		case bySubstrings:
			v = s.match(t, e)
		default:
			v, err = plainEqual(t, e, *value, by(t))
		}
		if err != nil {
			return 0, err
		}
		result = max(result, v)
	}
	if dn && slices.ContainsFunc(e["DN"], func(pair string) bool {
		name, v, _ := strings.Cut(pair, "=")
		t := plainTypes[name]
		if types != nil && !slices.Contains(types, t) || !fits(t) {
			return false
		}
		if bySubstrings {
			return s.fits(" " + strings.Join(words(v), "  ") + " ")
		}
		return plainSame(v, *value, by(t))
	}) {
		return isTrue, nil
	}
	return result, nil
}

// plainParts reads the text form of a substring assertion (RFC 4517 §3.3.30).
func plainParts(text string) (plainSubstrings, bool) {
	list := strings.Split(text, "*")
	if len(list) < 2 || len(list) > 32 {
		return nil, false
	}
	var s plainSubstrings
	for i, part := range list {
		part = strings.NewReplacer(`\2A`, "*", `\2a`, "*", `\5C`, `\`, `\5c`, `\`).Replace(part)
		kind := 1
		switch i {
		case 0:
			kind = 0
		case len(list) - 1:
			kind = 2
		}
		if part == "" && kind == 1 {
			return nil, false
		}
		if part != "" {
			s = append(s, plainPart{kind, part})
		}
	}
	return s, len(s) > 0
}

// plainWorld is the tree of the fuzz targets and the same as maps.
func plainWorld(t testing.TB) (*dit.Tree, map[string]refEntry) {
	entries := references()
	const quoted = `"a  b"@b.direct.test`
	entries["uid=a  b,dc=b,dc=direct,dc=test"] = refEntry{"objectclass": {"top", "person", "organizationalPerson", "inetOrgPerson"}, "cn": {quoted}, "sn": {quoted}, "mail": {quoted},
		"uid": {"a  b"}, "usercertificate": {"DER"}, "DN": {"uid=a  b", "dc=b", "dc=direct", "dc=test"}}
	return people(t, dit.Options{Anonymous: dit.AnonymousList}, "b.direct.test", "bob@b.direct.test", "Carol@b.direct.test", "eve.x+tag@b.direct.test", quoted), entries
}

// compareEvaluators holds every entry against a filter by both.
func compareEvaluators(t *testing.T, tr *dit.Tree, entries map[string]refEntry, encoded []byte) {
	var parsed filter
	r := ber.NewReader(encoded, messageLimits)
	if err := parsed.parse(r); err != nil || !r.Empty() {
		return
	}
	p, err := asn1.DecodePacketErr(encoded)
	if err != nil {
		return // it reads no length that is padded beyond its taste
	}
	base, err := tr.Find(nil)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	base.Each(dit.ScopeSubtree, func(e *dit.Entry) bool {
		reference, ok := entries[e.DN()]
		if !ok {
			t.Fatalf("no reference for %s", e.DN())
		}
		seen++
		want, err := plainEval(p, reference)
		if err == nil && int(parsed.matches(e)) != want {
			t.Fatalf("filter %x, entry %s: %d, the reference %d", encoded, e.DN(), parsed.matches(e), want)
		}
		return true
	})
	if seen != len(entries) {
		t.Fatalf("%d entries, want %d", seen, len(entries))
	}
}

var filterTexts = []string{
	"(mail=bob@b.direct.test)", "(&(mail=BOB@B.direct.test)(|(userCertificate;binary=*)(userCertificate=*)))", "(!(uid=  A   B ))", "(mail=*b*.test)", "(uid=a *b)", "(uid=* *)",
	"(cn:dn:caseIgnoreMatch:=b)", "(:dn:2.5.13.2:=eve.x\\2btag)", "(:caseIgnoreIA5SubstringsMatch:=b*\\2a*test)", "(dc:dn:=direct)", "(name~=bob@b.direct.test)", "(objectClass=2.5.6.6)", "(objectClass>=top)",
	"(2.5.4.3=b.direct.test)", "(mail=\\c3\\a9)", "(cn=\\c3\\a9*)", "(userCertificate=x)", "(telephoneNumber=1)", "(mail;x=1)", "(&)", "(|)", "(vendorName=*)", "(:2.5.13.0:=person)", "(uid:1.2.3:=x)", "(cn:caseIgnoreIA5Match:=bob)",
}

// FuzzFilterText reads filters as people write them (RFC 4515), with go-ldap's
// compiler.
func FuzzFilterText(f *testing.F) {
	for _, text := range filterTexts {
		f.Add(text)
	}
	tr, entries := plainWorld(f)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ldap.CompileFilter(text)
		if err != nil {
			return
		}
		encoded := p.Bytes()
		compareEvaluators(t, tr, entries, encoded)
		again, err := ldap.DecompileFilter(p)
		if err != nil {
			return
		}
		if q, err := ldap.CompileFilter(again); err == nil {
			compareEvaluators(t, tr, entries, q.Bytes())
		}
	})
}

// FuzzEvaluator reads filters from BER.
func FuzzEvaluator(f *testing.F) {
	for _, text := range filterTexts {
		p, err := ldap.CompileFilter(text)
		if err != nil {
			f.Fatalf("%s: %v", text, err)
		}
		f.Add(p.Bytes())
	}
	tr, entries := plainWorld(f)
	f.Fuzz(func(t *testing.T, encoded []byte) { compareEvaluators(t, tr, entries, encoded) })
}
