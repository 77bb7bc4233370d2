package dit_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"directnode/internal/ber"
	"directnode/internal/direct"
	"directnode/ldapserver/dit"
	"directnode/store"
)

// domain makes a domain's data from lines of "owner der"; "!" before the owner
// keeps the certificate out of LDAP.
func domain(t testing.TB, name string, lines ...string) *store.DomainData {
	t.Helper()
	d, err := direct.ParseDomain(name)
	if err != nil {
		t.Fatal(err)
	}
	var certs []store.Certificate
	for _, line := range lines {
		at := strings.LastIndexByte(line, ' ')
		name, hidden := strings.CutPrefix(line[:at], "!")
		owner, err := direct.ParseOwner(name)
		if err != nil {
			t.Fatal(err)
		}
		der := []byte(line[at+1:])
		certs = append(certs, store.Certificate{Owner: owner, DER: der, PublishLDAP: !hidden})
	}
	return &store.DomainData{Domain: d, Certificates: store.NewCertificates(certs...)}
}

// view is a generation of the store.
type view []*store.DomainData

func (v view) Domains() []direct.Domain {
	var names []direct.Domain
	for _, data := range v {
		names = append(names, data.Domain)
	}
	return names
}

func (v view) Domain(d direct.Domain) *store.DomainData {
	for _, data := range v {
		if data.Domain == d {
			return data
		}
	}
	return nil
}

func update(tr *dit.Tree, data ...*store.DomainData) (*dit.Tree, error) { return tr.Update(view(data)) }

func tree(t testing.TB, data ...*store.DomainData) *dit.Tree {
	t.Helper()
	tr, err := dit.Build(view(data), dit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// decoded is an answered entry.
type decoded struct {
	dn         string
	attributes []string            // descriptions in the order of the answer
	values     map[string][]string // by description
}

// answer encodes the entry for the given selectors and reads it back.
func answer(t testing.TB, e *dit.Entry, typesOnly bool, selectors ...string) decoded {
	t.Helper()
	s := dit.Selection{TypesOnly: typesOnly}
	for _, name := range selectors {
		s.Add([]byte(name))
	}
	b := e.AppendResult(nil, &s)
	if len(b) != e.ResultSize(&s) {
		t.Fatalf("ResultSize = %d, the result has %d octets", e.ResultSize(&s), len(b))
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("result %x: %v", b, err)
		}
	}
	r, err := ber.NewReader(b, ber.Limits{Depth: 16, Count: 10000, Size: 1 << 20}).Enter(ber.App(4, true))
	must(err)
	dn, err := r.OctetString(ber.OctetString)
	must(err)
	d := decoded{dn: string(dn), values: map[string][]string{}}
	list, err := r.Enter(ber.Sequence)
	must(err)
	for !list.Empty() {
		attribute, err := list.Enter(ber.Sequence)
		must(err)
		name, err := attribute.OctetString(ber.OctetString)
		must(err)
		set, err := attribute.Enter(ber.Set)
		must(err)
		values := []string{}
		for !set.Empty() {
			v, err := set.OctetString(ber.OctetString)
			must(err)
			values = append(values, string(v))
		}
		d.attributes = append(d.attributes, string(name))
		d.values[string(name)] = values
	}
	return d
}

func TestAnAddressIsPublishedAsInetOrgPerson(t *testing.T) {
	tr := tree(t, domain(t, "b.direct.test", "Bob.Smith@b.direct.test DER1", "bob.smith@b.direct.test DER2"))
	e := tr.ByMail([]byte("BOB.smith@B.Direct.Test"))
	if e == nil {
		t.Fatal("not found by mail in another case")
	}
	got := answer(t, e, false)
	if want := "uid=Bob.Smith,dc=b,dc=direct,dc=test"; !strings.EqualFold(got.dn, want) || got.dn != e.DN() {
		t.Errorf("dn = %s, want %s", got.dn, want)
	}
	for name, want := range map[string][]string{
		"objectClass": {"top", "person", "organizationalPerson", "inetOrgPerson"},
	} {
		if !slices.Equal(got.values[name], want) {
			t.Errorf("%s = %q, want %q", name, got.values[name], want)
		}
	}
	for _, name := range []string{"cn", "sn", "mail"} {
		if v := got.values[name]; len(v) != 1 || !strings.EqualFold(v[0], "bob.smith@b.direct.test") {
			t.Errorf("%s = %q", name, v)
		}
	}
	certs := slices.Sorted(slices.Values(got.values["userCertificate;binary"]))
	if !slices.Equal(certs, []string{"DER1", "DER2"}) {
		t.Errorf("certificates = %q: both are the same owner's", certs)
	}
}

func TestAnOrganizationIsPublishedUnderItsBareDomain(t *testing.T) {
	tr := tree(t, domain(t, "b.direct.test", "b.direct.test ORG"))
	e := tr.ByMail([]byte("b.direct.test"))
	if e == nil {
		t.Fatal("not found")
	}
	got := answer(t, e, false)
	if got.dn != "cn=b.direct.test,dc=b,dc=direct,dc=test" || got.values["mail"][0] != "b.direct.test" || got.values["uid"] != nil {
		t.Errorf("entry = %+v", got)
	}
}

func TestOnlyWhatIsForLDAPIsPublished(t *testing.T) {
	tr := tree(t,
		domain(t, "a.direct.test", "!alice@a.direct.test A"),
		domain(t, "b.direct.test", "!bob@b.direct.test B1", "bob@b.direct.test B2", "!carol@b.direct.test C"))
	if e := tr.ByMail([]byte("alice@a.direct.test")); e != nil {
		t.Error("alice is not for LDAP")
	}
	if e := tr.ByMail([]byte("carol@b.direct.test")); e != nil {
		t.Error("carol is not for LDAP")
	}
	if e := tr.ByMail([]byte("bob@b.direct.test")); e == nil || len(e.Certificates()) != 1 || string(e.Certificates()[0]) != "B2" {
		t.Errorf("bob = %v", e)
	}
	root, err := tr.Find(nil)
	if err != nil {
		t.Fatal(err)
	}
	if v := answer(t, root.Entry(), false, "namingContexts").values["namingContexts"]; !slices.Equal(v, []string{"dc=b,dc=direct,dc=test"}) {
		t.Errorf("namingContexts = %q: a domain without LDAP data is no context", v)
	}
	if tr.Len() != 1 {
		t.Errorf("Len = %d", tr.Len())
	}
}

func TestRootDSEShowsOperationalAttributesOnlyByNameOrPlus(t *testing.T) {
	tr, err := dit.Build(view{domain(t, "b.direct.test", "bob@b.direct.test B"), domain(t, "a.direct.test", "a.direct.test A")},
		dit.Options{StartTLS: true, Version: "1.0"})
	if err != nil {
		t.Fatal(err)
	}
	base, err := tr.Find(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := answer(t, base.Entry(), false); !slices.Equal(got.attributes, []string{"objectClass"}) {
		t.Errorf("without selection: %q", got.attributes)
	}
	got := answer(t, base.Entry(), false, "+")
	for name, want := range map[string][]string{
		"namingContexts":       {"dc=a,dc=direct,dc=test", "dc=b,dc=direct,dc=test"},
		"supportedLDAPVersion": {"3"},
		"supportedControl":     {"2.16.840.1.113730.3.4.2", "1.2.840.113556.1.4.319"},
		"supportedExtension":   {"1.3.6.1.1.8", "1.3.6.1.4.1.4203.1.11.3", "1.3.6.1.4.1.1466.20037"},
		"supportedFeatures":    {"1.3.6.1.4.1.4203.1.5.1", "1.3.6.1.4.1.4203.1.5.3"},
		"subschemaSubentry":    {"cn=Subschema"},
		"vendorName":           {"Direct Node"},
		"vendorVersion":        {"1.0"},
	} {
		if !slices.Equal(got.values[name], want) {
			t.Errorf("%s = %q, want %q", name, got.values[name], want)
		}
	}
	if got := answer(t, base.Entry(), false, "NAMINGCONTEXTS"); len(got.values["namingContexts"]) != 2 {
		t.Errorf("by name in another case: %+v", got)
	}
	plain := tree(t)
	base, err = plain.Find(nil)
	if err != nil {
		t.Fatal(err)
	}
	if v := answer(t, base.Entry(), false, "supportedExtension").values["supportedExtension"]; slices.Contains(v, dit.OIDStartTLS) {
		t.Error("StartTLS is announced and not offered")
	}
}

func TestCertificatesAreAnsweredTheWayTheyWereAsked(t *testing.T) {
	tr := tree(t, domain(t, "b.direct.test", "bob@b.direct.test B"))
	e := tr.ByMail([]byte("bob@b.direct.test"))
	for _, c := range []struct{ asked, want []string }{
		{[]string{"userCertificate;binary"}, []string{"userCertificate;binary"}},
		{[]string{"USERCERTIFICATE;BINARY"}, []string{"userCertificate;binary"}},
		{[]string{"userCertificate"}, []string{"userCertificate"}},
		{[]string{"2.5.4.36"}, []string{"userCertificate"}},
		{[]string{"userCertificate", "userCertificate;binary"}, []string{"userCertificate;binary"}}, // once, or the client counts it twice
		{[]string{"userCertificate;binary", "userCertificate"}, []string{"userCertificate;binary"}},
		{[]string{"userCertificate;lang-en"}, nil},
		{[]string{"cn", "MAIL"}, []string{"cn", "mail"}},
		{[]string{"name"}, []string{"cn", "sn"}}, // RFC 4512 §2.5.1: subtypes
		{[]string{"1.1"}, nil},
		{[]string{"1.1", "cn"}, []string{"cn"}},
		{[]string{"noSuchAttribute"}, nil},
		{[]string{"+"}, nil},
		{[]string{"*"}, []string{"objectClass", "cn", "sn", "uid", "mail", "userCertificate;binary"}},
		{nil, []string{"objectClass", "cn", "sn", "uid", "mail", "userCertificate;binary"}},
	} {
		got := answer(t, e, false, c.asked...)
		if !slices.Equal(got.attributes, c.want) {
			t.Errorf("asked %q: got %q, want %q", c.asked, got.attributes, c.want)
		}
		types := answer(t, e, true, c.asked...)
		if !slices.Equal(types.attributes, c.want) {
			t.Errorf("types only, asked %q: got %q, want %q", c.asked, types.attributes, c.want)
		}
		for name, values := range types.values {
			if len(values) != 0 {
				t.Errorf("types only: %s has values %q", name, values)
			}
		}
	}
}

func TestSizesAroundEveryLengthForm(t *testing.T) {
	for _, n := range []int{1, 100, 110, 127, 128, 240, 255, 256, 300, 65500, 65535, 65536, 70000} {
		tr := tree(t, domain(t, "b.direct.test", "bob@b.direct.test "+strings.Repeat("x", n)))
		got := answer(t, tr.ByMail([]byte("bob@b.direct.test")), false, "userCertificate;binary")
		if v := got.values["userCertificate;binary"]; len(v) != 1 || len(v[0]) != n {
			t.Errorf("certificate of %d octets: %d values", n, len(v))
		}
	}
}

func TestFindResolvesNames(t *testing.T) {
	tr := tree(t,
		domain(t, "direct.test", "ann@direct.test A"),
		domain(t, "b.direct.test", "bob@b.direct.test B", `"o'hara, x"@b.direct.test O`, `" two  spaces "@b.direct.test S`, `"in  between"@ward.b.direct.test I`, "b.direct.test ORG"))
	for dn, want := range map[string]string{
		"":                                    "",
		"  ":                                  "",
		"dc=b,dc=direct,dc=test":              "dc=b,dc=direct,dc=test",
		"DC=B, dc = Direct ;dc=TEST":          "dc=b,dc=direct,dc=test",
		"domainComponent=b,dc=direct,dc=test": "dc=b,dc=direct,dc=test",
		"0.9.2342.19200300.100.1.25=#0401" + "62": "", // relative: no such context
		"dc=#040162,dc=direct,dc=test":            "dc=b,dc=direct,dc=test",
		`dc="b",dc=direct,dc=test`:                "dc=b,dc=direct,dc=test",
		`dc=\62,dc=direct,dc=test`:                "dc=b,dc=direct,dc=test",
		"CN=subschema":                            "cn=Subschema",
		"UID=BOB,dc=b,dc=direct,dc=test":          "uid=bob,dc=b,dc=direct,dc=test",
		`uid=o'hara\, x,dc=b,dc=direct,dc=test`:   `uid=o'hara\, x,dc=b,dc=direct,dc=test`,
		`uid=o'hara\2c  x,dc=b,dc=direct,dc=test`: `uid=o'hara\, x,dc=b,dc=direct,dc=test`, // runs of spaces are one
		"cn=b.direct.test,dc=b,dc=direct,dc=test": "cn=b.direct.test,dc=b,dc=direct,dc=test",

		// The tree's own names with spaces at the ends and runs of them.
		`uid=\ two  spaces\ ,dc=b,dc=direct,dc=test`:                   `uid=\ two  spaces\ ,dc=b,dc=direct,dc=test`,
		`UID = " TWO  spaces ", dc=b,dc=direct,dc=test`:                `uid=\ two  spaces\ ,dc=b,dc=direct,dc=test`,
		`cn=\"in  between\"@ward.b.direct.test,dc=b,dc=direct,dc=test`: `cn=\"in  between\"@ward.b.direct.test,dc=b,dc=direct,dc=test`,
	} {
		base, err := tr.Find([]byte(dn))
		if err != nil {
			if want != "" {
				t.Errorf("Find(%q): %v", dn, err)
			}
			continue
		}
		if got := base.Entry().DN(); got != want {
			t.Errorf("Find(%q) = %q, want %q", dn, got, want)
		}
	}
	for dn, matched := range map[string]string{
		"dc=test":                                  "",
		"dc=c,dc=direct,dc=test":                   "dc=direct,dc=test",
		"uid=eve,dc=b,dc=direct,dc=test":           "dc=b,dc=direct,dc=test",
		"cn=bob,dc=b,dc=direct,dc=test":            "dc=b,dc=direct,dc=test", // another attribute is another name
		"uid=bob+cn=x,dc=b,dc=direct,dc=test":      "dc=b,dc=direct,dc=test",
		"cn=x,UID=Bob,dc=b,dc=direct,dc=test":      "uid=bob,dc=b,dc=direct,dc=test",
		"cn=x,cn=y,uid=bob,dc=b,dc=direct,dc=test": "uid=bob,dc=b,dc=direct,dc=test",
		`cn=a\,dc=b,dc=elsewhere`:                  "",
		"uid=ann,dc=b,dc=direct,dc=test":           "dc=b,dc=direct,dc=test",
		"cn=bob@b.direct.test,dc=direct,dc=test":   "dc=direct,dc=test",
	} {
		_, err := tr.Find([]byte(dn))
		missing, ok := err.(*dit.NoSuchObject)
		if !ok || missing.Matched != matched {
			t.Errorf("Find(%q): %v, want no such object below %q", dn, err, matched)
		}
	}
	for _, dn := range []string{"b.direct.test", "dc=b,", "=b", ",", "dc=b,,dc=test", `dc=\zz`, `dc=b\`, "dc=#zz", "dc=#04", `dc="b`,
		"d c=b", "dc=<b>", strings.Repeat("dc=b,", 500) + "dc=b", strings.Repeat("dc=b,", 130) + "dc=b"} {
		if _, err := tr.Find([]byte(dn)); err == nil {
			t.Errorf("Find(%.30q): no error", dn)
		} else if _, missing := err.(*dit.NoSuchObject); missing {
			t.Errorf("Find(%.30q): %v, want a syntax error", dn, err)
		}
	}
}

func TestScopes(t *testing.T) {
	tr := tree(t,
		domain(t, "direct.test", "ann@direct.test A"),
		domain(t, "b.direct.test", "bob@b.direct.test B"),
		domain(t, "x.c.direct.test", "eve@x.c.direct.test E"))
	const (
		top = "dc=direct,dc=test"
		sub = "dc=b,dc=direct,dc=test"
		far = "dc=x,dc=c,dc=direct,dc=test"
		ann = "uid=ann," + top
		bob = "uid=bob," + sub
		eve = "uid=eve," + far
	)
	for _, c := range []struct {
		base  string
		scope dit.Scope
		want  []string
	}{
		{"", dit.ScopeBase, []string{""}},
		{"", dit.ScopeOne, []string{sub, top, far}},
		{"", dit.ScopeSubtree, []string{sub, bob, top, ann, far, eve}},
		{top, dit.ScopeBase, []string{top}},
		{top, dit.ScopeOne, []string{sub, ann}},
		{top, dit.ScopeSubtree, []string{sub, bob, top, ann, far, eve}},
		{sub, dit.ScopeOne, []string{bob}},
		{sub, dit.ScopeSubtree, []string{sub, bob}},
		{bob, dit.ScopeBase, []string{bob}},
		{bob, dit.ScopeOne, nil},
		{bob, dit.ScopeSubtree, []string{bob}},
		{"cn=Subschema", dit.ScopeSubtree, []string{"cn=Subschema"}},
	} {
		base, err := tr.Find([]byte(c.base))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		base.Each(c.scope, func(e *dit.Entry) bool {
			got = append(got, e.DN())
			return true
		})
		if !slices.Equal(got, c.want) {
			t.Errorf("base %q scope %d: %q, want %q", c.base, c.scope, got, c.want)
		}
		for _, mail := range []string{"ann@direct.test", "bob@b.direct.test", "eve@x.c.direct.test"} {
			if e := tr.ByMail([]byte(mail)); base.Contains(e, c.scope) != slices.Contains(c.want, e.DN()) {
				t.Errorf("base %q scope %d: Contains(%s) = %v", c.base, c.scope, mail, base.Contains(e, c.scope))
			}
		}
	}
}

func TestOwnerBelowItsDomainIsFound(t *testing.T) {
	tr := tree(t, domain(t, "direct.test", "bob@lab.direct.test B"))
	e := tr.ByMail([]byte("bob@lab.direct.test"))
	if e == nil || e.DN() != "cn=bob@lab.direct.test,dc=direct,dc=test" {
		t.Fatalf("entry = %v", e)
	}
	if base, err := tr.Find([]byte(e.DN())); err != nil || !base.Entry().Same(e) {
		t.Errorf("Find(%s) = %v, %v", e.DN(), base, err)
	}
}

func TestUpdateSharesWhatDidNotChange(t *testing.T) {
	a := domain(t, "a.direct.test", "alice@a.direct.test A")
	b := domain(t, "b.direct.test", "bob@b.direct.test B", "carol@b.direct.test C")
	first := tree(t, a, b)
	again := domain(t, "b.direct.test", "bob@b.direct.test B", "carol@b.direct.test C2", "dave@b.direct.test D")
	next, err := update(first, a, again)
	if err != nil {
		t.Fatal(err)
	}
	for _, mail := range []string{"alice@a.direct.test", "bob@b.direct.test"} {
		if !first.ByMail([]byte(mail)).Same(next.ByMail([]byte(mail))) {
			t.Errorf("%s was made anew", mail)
		}
	}
	if e := next.ByMail([]byte("carol@b.direct.test")); string(e.Certificates()[0]) != "C2" {
		t.Errorf("carol = %q", e.Certificates())
	}
	if e := first.ByMail([]byte("carol@b.direct.test")); string(e.Certificates()[0]) != "C" {
		t.Errorf("the old generation changed: carol = %q", e.Certificates())
	}
	if first.ByMail([]byte("dave@b.direct.test")) != nil {
		t.Error("the old generation got a new entry")
	}
}

func TestAnonymousMustBeKnown(t *testing.T) {
	if _, err := dit.Build(view{}, dit.Options{Anonymous: "all"}); err == nil {
		t.Error("no error")
	}
	for mode, listing := range map[string]bool{"": false, "exact": false, "list": true} {
		if tr, err := dit.Build(view{}, dit.Options{Anonymous: mode}); err != nil || tr.Listing() != listing {
			t.Errorf("%q: %v, %v", mode, tr.Listing(), err)
		}
	}
}

// contents is everything that a tree says, for comparison.
func contents(t testing.TB, tr *dit.Tree) string {
	base, err := tr.Find(nil)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintln(&b, answer(t, base.Entry(), false, "+"), tr.Len())
	base.Each(dit.ScopeSubtree, func(e *dit.Entry) bool {
		fmt.Fprintln(&b, answer(t, e, false), e.Mail())
		if m := e.Mail(); m != "" && !tr.ByMail([]byte(strings.ToUpper(m))).Same(e) {
			t.Errorf("%s is listed and not found", m)
		}
		return true
	})
	return b.String()
}

func TestUpdateGivesWhatBuildGives(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		lines := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
			hidden := rapid.SampledFrom([]string{"", "", "!"}).Draw(t, "hidden")
			owner := fmt.Sprintf("u%d@b.direct.test", rapid.IntRange(0, 12).Draw(t, "owner"))
			if rapid.IntRange(0, 9).Draw(t, "kind") == 0 {
				owner = "b.direct.test"
			}
			return fmt.Sprintf("%s%s c%d", hidden, owner, rapid.IntRange(0, 5).Draw(t, "cert"))
		}), 0, 20)
		other := domain(t, "a.direct.test", "a.direct.test A")
		tr := tree(t, other)
		for step := range rapid.IntRange(1, 4).Draw(rt, "steps") {
			data := domain(t, "b.direct.test", lines.Draw(rt, "certificates")...)
			var err error
			if tr, err = update(tr, other, data); err != nil {
				rt.Fatal(err)
			}
			if got, want := contents(t, tr), contents(t, tree(t, other, data)); got != want {
				rt.Fatalf("step %d: updated\n%s\nbuilt\n%s", step, got, want)
			}
		}
	})
}

func TestLargeDomainsKeepEveryEntryWhenTheyGrow(t *testing.T) {
	var lines []string
	for i := range 1100 {
		lines = append(lines, fmt.Sprintf("u%d@b.direct.test c%d", i, i))
	}
	small := domain(t, "b.direct.test", lines[:10]...)
	big := domain(t, "b.direct.test", lines...)
	tr, err := update(tree(t, small), big)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := contents(t, tr), contents(t, tree(t, big)); got != want {
		t.Error("the grown tree differs from the built one")
	}
	tr, err = update(tr, small)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := contents(t, tr), contents(t, tree(t, small)); got != want {
		t.Error("the shrunken tree differs from the built one")
	}
}
