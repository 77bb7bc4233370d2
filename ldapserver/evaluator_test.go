package ldapserver

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"directnode/internal/ber"
	"directnode/internal/direct"
	"directnode/ldapserver/dit"
	"directnode/store"
)

// oneDomain is a generation of the store with one domain.
type oneDomain struct{ data *store.DomainData }

func (v oneDomain) Domains() []direct.Domain               { return []direct.Domain{v.data.Domain} }
func (v oneDomain) Domain(direct.Domain) *store.DomainData { return v.data }

// people is a tree of b.direct.test with these owners.
func people(t testing.TB, o dit.Options, owners ...string) *dit.Tree {
	d, err := direct.ParseDomain("b.direct.test")
	if err != nil {
		t.Fatal(err)
	}
	var certs []store.Certificate
	for _, name := range owners {
		owner, err := direct.ParseOwner(name)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, store.Certificate{Owner: owner, DER: []byte("DER"), PublishLDAP: true})
	}
	data := &store.DomainData{Domain: d, Certificates: store.NewCertificates(certs...)}
	tr, err := dit.Build(oneDomain{data}, o)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func newSession(tr *dit.Tree, o Options) *session {
	return &session{server: New(func() *dit.Tree { return tr }, o), client: &client{peer: peer{exempt: true, lists: true}}}
}

// The reference evaluator: entries are maps from lower-case attribute names to
// values, filters are trees, truth is 1, 0 or -1 for Undefined. It follows the
// sentences of RFC 4511 §4.5.1.7 and nothing else.

type refFilter struct {
	op       string // & | ! = * >= <= ~= : and p for presence
	children []*refFilter
	attr     string
	value    string
	parts    []string // initial, any…, final
	rule     string   // of an extensible item
	dn       bool
}

type refEntry map[string][]string

var refSyntax = map[string]string{"mail": "ia5", "dc": "ia5", "cn": "text", "sn": "text", "uid": "text", "o": "text", "objectclass": "oid", "usercertificate": "none"}

func (f *refFilter) eval(e refEntry) int {
	switch f.op {
	case "&":
		result := 1
		for _, c := range f.children {
			switch v := c.eval(e); {
			case v == 0:
				return 0
			case v < 0:
				result = -1
			}
		}
		return result
	case "|":
		result := 0
		for _, c := range f.children {
			switch v := c.eval(e); {
			case v == 1:
				return 1
			case v < 0:
				result = -1
			}
		}
		return result
	case "!":
		switch f.children[0].eval(e) {
		case 1:
			return 0
		case 0:
			return 1
		}
		return -1
	}
	name := strings.ToLower(f.attr)
	if name == "usercertificate;binary" {
		name = "usercertificate"
	}
	if name == "name" { // the supertype of cn, sn and o
		or := &refFilter{op: "|"}
		for _, sub := range []string{"cn", "sn", "o"} {
			g := *f
			g.attr = sub
			or.children = append(or.children, &g)
		}
		return or.eval(e)
	}
	if f.op == ":" {
		return f.extensible(e, name)
	}
	syntax, known := refSyntax[name]
	switch {
	case !known, f.op == ">=", f.op == "<=":
		return -1
	case f.op == "p":
		return boolean(len(e[name]) > 0)
	case syntax == "none", syntax == "oid" && f.op == "*":
		return -1
	}
	if f.op == "*" {
		return boolean(slices.ContainsFunc(e[name], f.substring))
	}
	if syntax == "oid" && !slices.Contains([]string{"top", "person", "organizationalperson", "inetorgperson", "organization", "dcobject", "subentry", "subschema"}, strings.ToLower(f.value)) {
		return -1
	}
	return boolean(slices.ContainsFunc(e[name], func(v string) bool { return strings.EqualFold(v, strings.TrimSpace(f.value)) }))
}

// refRules gives the syntax that a rule is for.
var refRules = map[string]string{"caseIgnoreMatch": "text", "2.5.13.2": "text", "CASEIGNOREIA5MATCH": "ia5", "objectIdentifierMatch": "oid"}

func (f *refFilter) extensible(e refEntry, name string) int {
	want, known := refRules[f.rule]
	if f.rule != "" && !known || f.rule == "" && name == "" || name != "" && refSyntax[name] == "" {
		return -1
	}
	result := 0
	for attr, syntax := range refSyntax {
		if name != "" && attr != name || name == "" && syntax != want {
			continue
		}
		result = -1
		if f.rule == "" || syntax == want {
			result = (&refFilter{op: "=", attr: attr, value: f.value}).eval(e)
		}
		if result != 0 {
			break
		}
	}
	for _, pair := range e["DN"] {
		attr, value, _ := strings.Cut(pair, "=")
		if f.dn && (name == "" || name == attr) && (f.rule == "" || refSyntax[attr] == want) && strings.EqualFold(value, strings.TrimSpace(f.value)) {
			return 1
		}
	}
	return result
}

func (f *refFilter) substring(value string) bool {
	pattern := value
	pattern = strings.ToLower(pattern)
	for i, p := range f.parts {
		p = strings.ToLower(p)
		switch {
		case i == 0:
			if !strings.HasPrefix(pattern, p) {
				return false
			}
			pattern = pattern[len(p):]
		case i == len(f.parts)-1:
			if !strings.HasSuffix(pattern, p) {
				return false
			}
		default:
			at := strings.Index(pattern, p)
			if at < 0 {
				return false
			}
			pattern = pattern[at+len(p):]
		}
	}
	return true
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (f *refFilter) encode() []byte {
	tags := map[string]uint32{"&": 0, "|": 1, "!": 2, "=": 3, "*": 4, ">=": 5, "<=": 6, "p": 7, "~=": 8, ":": 9}
	tag := ber.Context(tags[f.op], f.op != "p")
	switch f.op {
	case "&", "|", "!":
		var content []byte
		for _, c := range f.children {
			content = append(content, c.encode()...)
		}
		return ber.AppendTLV(nil, tag, content)
	case "p":
		return ber.AppendTLV(nil, tag, []byte(f.attr))
	case ":":
		var content []byte
		if f.rule != "" {
			content = ber.AppendTLV(content, ber.Context(1, false), []byte(f.rule))
		}
		if f.attr != "" {
			content = ber.AppendTLV(content, ber.Context(2, false), []byte(f.attr))
		}
		content = ber.AppendTLV(content, ber.Context(3, false), []byte(f.value))
		if f.dn {
			content = ber.AppendTLV(content, ber.Context(4, false), []byte{0xff})
		}
		return ber.AppendTLV(nil, tag, content)
	}
	content := ber.AppendTLV(nil, ber.OctetString, []byte(f.attr))
	if f.op != "*" {
		return ber.AppendTLV(nil, tag, ber.AppendTLV(content, ber.OctetString, []byte(f.value)))
	}
	var list []byte
	for i, p := range f.parts {
		kind := uint32(1)
		if i == 0 {
			kind = 0
		} else if i == len(f.parts)-1 {
			kind = 2
		}
		if p != "" {
			list = ber.AppendTLV(list, ber.Context(kind, false), []byte(p))
		}
	}
	return ber.AppendTLV(nil, tag, ber.AppendTLV(content, ber.Sequence, list))
}

func drawFilter(t *rapid.T, depth int) *refFilter {
	ops := []string{"=", "=", "=", "=", "*", ">=", "<=", "p", "~=", ":"}
	if depth > 0 {
		ops = append(ops, "&", "&", "&", "|", "|", "|", "!", "!")
	}
	f := &refFilter{op: rapid.SampledFrom(ops).Draw(t, "op")}
	switch f.op {
	case "&", "|":
		for range rapid.IntRange(0, 3).Draw(t, "children") {
			f.children = append(f.children, drawFilter(t, depth-1))
		}
		return f
	case "!":
		f.children = []*refFilter{drawFilter(t, depth-1)}
		return f
	}
	f.attr = rapid.SampledFrom([]string{"mail", "MAIL", "mail", "mail", "cn", "sn", "uid", "objectClass", "userCertificate", "userCertificate;binary", "name", "telephoneNumber", "mail;x", "dc", "o"}).Draw(t, "attribute")
	values := []string{"bob@b.direct.test", "BOB@b.direct.test", "carol@b.direct.test", "b.direct.test", "B.direct.test", "bob", "person", "inetOrgPerson", "dcObject", "x", "b", "noclass", " bob@b.direct.test"}
	f.value = rapid.SampledFrom(values).Draw(t, "value")
	if f.op == ":" {
		f.rule = rapid.SampledFrom([]string{"", "", "caseIgnoreMatch", "2.5.13.2", "CASEIGNOREIA5MATCH", "objectIdentifierMatch", "certificateExactMatch", "noSuchMatch"}).Draw(t, "rule")
		f.dn = rapid.Bool().Draw(t, "name, too")
		if rapid.IntRange(0, 3).Draw(t, "typeless") == 0 {
			f.attr = ""
		}
	}
	if f.op == "*" {
		pieces := []string{"b", "o", "bob", "@", ".test", "X", "DIRECT"}
		maybe := append([]string{"", ""}, pieces...)
		f.parts = append(f.parts, rapid.SampledFrom(maybe).Draw(t, "initial"))
		for range rapid.IntRange(0, 2).Draw(t, "parts") {
			f.parts = append(f.parts, rapid.SampledFrom(pieces).Draw(t, "any"))
		}
		f.parts = append(f.parts, rapid.SampledFrom(maybe).Draw(t, "final"))
		if strings.Join(f.parts, "") == "" {
			f.parts = []string{"", "b", ""}
		}
	}
	return f
}

// references are the entries of the tree of the property tests, by name.
func references() map[string]refEntry {
	person := func(mail string) refEntry {
		e := refEntry{"objectclass": {"top", "person", "organizationalPerson", "inetOrgPerson"}, "cn": {mail}, "sn": {mail}, "mail": {mail}, "usercertificate": {"DER"}}
		if local, _, address := strings.Cut(mail, "@"); address {
			e["uid"] = []string{local}
			e["DN"] = []string{"uid=" + local}
		} else {
			e["DN"] = []string{"cn=" + mail}
		}
		e["DN"] = append(e["DN"], "dc=b", "dc=direct", "dc=test")
		return e
	}
	const top = "dc=b,dc=direct,dc=test"
	return map[string]refEntry{
		top:                       {"objectclass": {"top", "organization", "dcObject"}, "dc": {"b"}, "o": {"b.direct.test"}, "DN": {"dc=b", "dc=direct", "dc=test"}},
		"cn=b.direct.test," + top: person("b.direct.test"),
		"uid=bob," + top:          person("bob@b.direct.test"),
		"uid=Carol," + top:        person("Carol@b.direct.test"),
		`uid=eve.x\+tag,` + top:   person("eve.x+tag@b.direct.test"),
	}
}

// searched runs a subtree search from the empty base and gives the names found
// and the result code.
func searched(t testing.TB, s *session, filter []byte) ([]string, int64) {
	var b ber.Builder
	b.Begin(ber.Sequence)
	b.Int(ber.Integer, 1)
	b.Begin(ber.App(3, true))
	b.Text(ber.OctetString, "")
	b.Int(ber.Enumerated, 2)
	b.Int(ber.Enumerated, 0)
	b.Int(ber.Integer, 0)
	b.Int(ber.Integer, 0)
	b.Bool(ber.Boolean, false)
	b.Raw(filter)
	b.Begin(ber.Sequence)
	b.End()
	b.End()
	b.End()
	s.out = s.out[:0]
	if then := s.handle(b.Encoded(), time.Unix(1, 0)); then != proceed {
		t.Fatalf("filter %x ended the connection: %x", filter, s.out)
	}
	var names []string
	for _, m := range answers(t, s.out) {
		if m.tag == 5 {
			slices.Sort(names)
			return names, m.code
		}
		names = append(names, m.name)
	}
	t.Fatalf("no result in %x", s.out)
	return nil, 0
}

type answered struct {
	tag  uint32
	code int64
	name string
}

// answers reads what a session appended; it must be whole messages.
func answers(t testing.TB, out []byte) []answered {
	var list []answered
	for len(out) > 0 {
		n, err := ber.FrameLength(out, len(out))
		if err != nil {
			t.Fatalf("answers %x: %v", out, err)
		}
		r, err := ber.NewReader(out[:n], ber.Limits{Depth: 8, Count: 10000, Size: n}).Enter(ber.Sequence)
		if err != nil {
			t.Fatalf("answers %x: %v", out, err)
		}
		if _, err := r.Int(ber.Integer); err != nil {
			t.Fatalf("answers %x: %v", out, err)
		}
		op, err := r.Next()
		if err != nil || !r.Empty() {
			t.Fatalf("answers %x: %v", out, err)
		}
		in, err := r.Into(op)
		if err != nil {
			t.Fatalf("answers %x: %v", out, err)
		}
		m := answered{tag: op.Tag.Number}
		if m.tag == 4 {
			dn, err := in.OctetString(ber.OctetString)
			if err != nil {
				t.Fatalf("answers %x: %v", out, err)
			}
			m.name = string(dn)
		} else if m.code, err = in.Int(ber.Enumerated); err != nil {
			t.Fatalf("answers %x: %v", out, err)
		}
		list = append(list, m)
		out = out[n:]
	}
	return list
}

func TestEvaluatorAgreesWithTheReference(t *testing.T) {
	owners := []string{"b.direct.test", "bob@b.direct.test", "Carol@b.direct.test", "eve.x+tag@b.direct.test"}
	listing := newSession(people(t, dit.Options{Anonymous: dit.AnonymousList}, owners...), Options{})
	exact := newSession(people(t, dit.Options{}, owners...), Options{})
	entries := references()
	pinned := 0
	rapid.Check(t, func(rt *rapid.T) {
		f := drawFilter(rt, 4)
		encoded := f.encode()
		var parsed filter
		if err := parsed.parse(ber.NewReader(encoded, messageLimits)); err != nil {
			rt.Skip(err) // more items than the limit
		}
		var want []string
		for name, e := range entries {
			if f.eval(e) == 1 {
				want = append(want, name)
			}
		}
		slices.Sort(want)
		got, code := searched(t, listing, encoded)
		if code != 0 || !slices.Equal(got, want) {
			rt.Fatalf("filter %x: found %q (code %d), the reference %q", encoded, got, code, want)
		}
		got, code = searched(t, exact, encoded)
		if code == 53 {
			if len(got) != 0 {
				rt.Fatalf("filter %x: refused, and found %q", encoded, got)
			}
			return
		}
		pinned++
		if code != 0 || !slices.Equal(got, want) {
			rt.Fatalf("filter %x: found %q (code %d), the reference %q", encoded, got, code, want)
		}
	})
	if pinned == 0 {
		t.Error("no filter named an address: the test shows nothing about exact searches")
	}
}

func TestSearchDoesNotAllocate(t *testing.T) {
	s := newSession(people(t, dit.Options{}, "bob@b.direct.test"), Options{})
	f := &refFilter{op: "&", children: []*refFilter{{op: "=", attr: "mail", value: "Bob@b.direct.test"},
		{op: "|", children: []*refFilter{{op: "p", attr: "userCertificate;binary"}, {op: "p", attr: "userCertificate"}}}}}
	pdu := searchPDU("dc=b,dc=direct,dc=test", f.encode())
	at := time.Unix(1, 0)
	if n := testing.AllocsPerRun(200, func() {
		s.out = s.out[:0]
		if s.handle(pdu, at) != proceed {
			t.Fatal("the connection ended")
		}
	}); n != 0 {
		t.Errorf("%v allocations for one search", n)
	}
	if !bytes.Contains(s.out, []byte("userCertificate;binary")) {
		t.Errorf("answer %x", s.out)
	}
}

func searchPDU(base string, filter []byte) []byte {
	var b ber.Builder
	b.Begin(ber.Sequence)
	b.Int(ber.Integer, 1)
	b.Begin(ber.App(3, true))
	b.Text(ber.OctetString, base)
	b.Int(ber.Enumerated, 2)
	b.Int(ber.Enumerated, 0)
	b.Int(ber.Integer, 0)
	b.Int(ber.Integer, 0)
	b.Bool(ber.Boolean, false)
	b.Raw(filter)
	b.Begin(ber.Sequence)
	b.Text(ber.OctetString, "userCertificate;binary")
	b.End()
	b.End()
	b.End()
	return b.Encoded()
}

func FuzzMessage(f *testing.F) {
	secret := "zq7"
	s := newSession(people(f, dit.Options{StartTLS: true}, secret+"@b.direct.test"), Options{})
	mail := &refFilter{op: "=", attr: "mail", value: "zq7@b.direct.test"}
	f.Add(searchPDU("dc=b,dc=direct,dc=test", mail.encode()))
	f.Add(searchPDU("", (&refFilter{op: "!", children: []*refFilter{mail}}).encode()))
	f.Add([]byte("\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00"))
	f.Add([]byte("\x30\x05\x02\x01\x03\x42\x00"))
	f.Add([]byte("\x30\x1e\x02\x01\x01\x77\x19\x80\x171.3.6.1.4.1.4203.1.11.3"))
	f.Add([]byte("\x30\x28\x02\x01\x01\x6e\x23\x04\x16dc=b,dc=direct,dc=test\x30\x09\x04\x02dc\x04\x03\x42\x20 "))
	f.Fuzz(func(t *testing.T, pdu []byte) {
		s.out = s.out[:0]
		then := s.handle(pdu, time.Unix(1, 0))
		list := answers(t, s.out)
		if then == startTLS {
			t.Fatal("StartTLS without a certificate")
		}
		for _, m := range list {
			if m.code == int64(other) {
				t.Fatal("an internal error")
			}
		}
		// Nobody gets an address that is not in the question; questions that
		// could have it in another spelling are left out.
		if bytes.Contains(bytes.ToLower(s.out), []byte(secret)) && !bytes.Contains(bytes.ToLower(pdu), []byte(secret)) && !bytes.ContainsAny(pdu, `\#`) {
			t.Fatalf("the question %x got an address: %x", pdu, s.out)
		}
	})
}

func FuzzFilter(f *testing.F) {
	tr := people(f, dit.Options{Anonymous: dit.AnonymousList}, "b.direct.test", "bob@b.direct.test", `"a  b"@b.direct.test`)
	for _, g := range []*refFilter{
		{op: "p", attr: "userCertificate;binary"},
		{op: "*", attr: "mail", parts: []string{"b", "o", "t"}},
		{op: "&", children: []*refFilter{{op: "=", attr: "mail", value: "bob@b.direct.test"}, {op: "!", children: []*refFilter{{op: ">=", attr: "cn", value: "a"}}}}},
		{op: "|", children: []*refFilter{{op: "=", attr: "mail", value: " B.direct.test"}, {op: "~=", attr: "uid", value: "bob"}, {op: ":", value: "x"}}},
		{op: ":", attr: "mail", rule: "caseIgnoreIA5Match", value: "bob@b.direct.test"},
		{op: ":", attr: "cn", rule: "caseIgnoreSubstringsMatch", value: `b*\2a`, dn: true},
	} {
		f.Add(g.encode())
	}
	base, err := tr.Find(nil)
	if err != nil {
		f.Fatal(err)
	}
	var parsed filter
	f.Fuzz(func(t *testing.T, encoded []byte) {
		if err := parsed.parse(ber.NewReader(encoded, messageLimits)); err != nil {
			return
		}
		if len(parsed.nodes)+len(parsed.any) > maxFilterNodes || parsed.nodes[0].end != len(parsed.nodes) {
			t.Fatalf("%d nodes, %d parts, end %d", len(parsed.nodes), len(parsed.any), parsed.nodes[0].end)
		}
		pins, pinned := parsed.pins(nil)
		if len(pins) > maxPins {
			t.Fatalf("%d pins", len(pins))
		}
		base.Each(dit.ScopeSubtree, func(e *dit.Entry) bool {
			if parsed.matches(e) != dit.True || !pinned {
				return true
			}
			// What a pinned filter selects must be found by one of its pins.
			for _, p := range pins {
				if e.Same(tr.ByMail(p)) || strings.Contains(e.Mail(), "  ") {
					return true
				}
			}
			t.Fatalf("filter %x selects %s, its pins %q do not", encoded, e.DN(), pins)
			return false
		})
	})
}

func BenchmarkSearch(b *testing.B) {
	var owners []string
	for i := range 10000 {
		owners = append(owners, fmt.Sprintf("u%07d@b.direct.test", i))
	}
	s := newSession(people(b, dit.Options{}, owners...), Options{})
	pdu := searchPDU("dc=b,dc=direct,dc=test", (&refFilter{op: "=", attr: "mail", value: "u0004711@b.direct.test"}).encode())
	at := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		s.out = s.out[:0]
		s.handle(pdu, at)
	}
}
