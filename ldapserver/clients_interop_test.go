package ldapserver_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"directnode/internal/spec"
	"directnode/internal/testpki"
	"directnode/ldapserver"
	"directnode/ldapserver/dit"
)

// Two addresses with a local part that filters, names or both must escape.
const (
	quotedAddress = `"bob (smith), \\ jr"@b.direct.test`
	plainAddress  = "O'Brien+lab@b.direct.test"
)

// hostedDirectory is a directory of three domains, one below another, with real
// certificates: several for an owner, one for each organization.
func hostedDirectory(t *testing.T) (tree *dit.Tree, certs map[string][]string) {
	t.Helper()
	ca := testpki.New(t).Root("Test Root")
	certs = map[string][]string{}
	var lines []string
	for _, owner := range []string{
		"a.direct.test", "alice@a.direct.test",
		"b.direct.test", "bob@b.direct.test", "bob@b.direct.test", quotedAddress, plainAddress,
		"lab.b.direct.test", "bob@lab.b.direct.test",
	} {
		option := testpki.Domain(owner)
		if strings.Contains(owner, "@") {
			option = testpki.Address(owner)
		}
		der := string(ca.Leaf("someone", option).DER)
		certs[owner] = append(certs[owner], der)
		lines = append(lines, owner+"="+der)
	}
	for _, list := range certs {
		slices.Sort(list)
	}
	return published(t, dit.Options{}, lines...), certs
}

// TestInteropClients lets clients of many makes look for certificates, each
// with the questions that the reference implementations and the tools of the
// certification ask.
func TestInteropClients(t *testing.T) {
	tree, certs := hostedDirectory(t)
	addr := start(t, tree, ldapserver.Options{})
	for _, c := range directoryClients {
		t.Run(c.name, func(t *testing.T) {
			spec.Covers(t, "AS-1.4-f", "AS-1.4-h", "AS-5.0-d")
			t.Parallel()
			search := c.start(t, addr)
			bases := contexts(t, search)
			for _, w := range walks {
				for _, subject := range c.subjects(certs) {
					want := certs[subject]
					if got := w.find(t, search, bases, swapCase(subject)); !slices.Equal(got, want) {
						t.Errorf("%s: %s: %d certificates, want %d", w.name, subject, len(got), len(want))
					}
				}
			}
			spellings(t, search, certs["bob@b.direct.test"])
			refusals(t, search)
		})
	}
}

// subjects is whom a client asks for: everybody who has certificates, and some
// who have none.
func (c directoryClient) subjects(certs map[string][]string) []string {
	if c.slow {
		return []string{quotedAddress, "b.direct.test", "nobody@b.direct.test"}
	}
	return append(slices.Sorted(maps.Keys(certs)), "nobody@b.direct.test", "*@b.direct.test", "nowhere.test")
}

// walk is how one program goes from an address or a domain, and the naming
// contexts of the root DSE, to certificates.
type walk struct {
	name string
	find func(t *testing.T, search searcher, bases []string, subject string) []string
}

var walks = []walk{
	{"Java reference implementation", javaWalk},
	{".NET reference implementation", dotnetWalk},
	{"discovery tool", discoveryToolWalk},
	{"edge testing tool", edgeToolWalk},
}

// contexts is the first step of them all: the root DSE, whose attribute is asked
// by name.
func contexts(t *testing.T, search searcher) []string {
	t.Helper()
	a := search(t, clientQuestion{filter: "(objectClass=*)", attributes: []string{"namingContexts"}})
	if a.code != 0 || len(a.entries) != 1 {
		t.Fatalf("root DSE: %+v", a)
	}
	for name, values := range a.entries[0].values {
		if strings.EqualFold(name, "namingContexts") {
			return values
		}
	}
	t.Fatalf("no naming contexts in %+v", a)
	return nil
}

// good demands success: an address that is not there is no error.
func good(t *testing.T, search searcher, q clientQuestion) clientAnswer {
	t.Helper()
	a := search(t, q)
	if a.code != 0 {
		t.Errorf("%s: code %d", q, a.code)
	}
	return a
}

var bothSpellings = []string{"userCertificate", "userCertificate;binary"}

// anySpelling takes the attribute with the option if it is there and the one
// without it else, as the tools do.
func anySpelling(a clientAnswer) []string {
	for _, name := range []string{"userCertificate;binary", "userCertificate", "usercertificate;binary", "usercertificate"} {
		if list := a.certificates(name); len(list) > 0 {
			return list
		}
	}
	return nil
}

// distinct sorts certificates: one that lies below two of the bases came twice.
func distinct(certs []string) []string {
	slices.Sort(certs)
	return slices.Compact(certs)
}

func withCertificate(subject string) string {
	return "(&(mail=" + escapeFilter(subject) + ")(|(userCertificate;binary=*)(userCertificate=*)))"
}

// javaWalk asks each context twice, the second time for entries that have a
// certificate.
func javaWalk(t *testing.T, search searcher, bases []string, subject string) (found []string) {
	t.Helper()
	for _, base := range bases {
		a := good(t, search, clientQuestion{base: base, scope: 2, filter: "(mail=" + escapeFilter(subject) + ")", attributes: bothSpellings, manage: "sent"})
		if len(a.entries) == 0 {
			a = good(t, search, clientQuestion{base: base, scope: 2, filter: withCertificate(subject), attributes: bothSpellings, manage: "sent"})
		}
		found = append(found, anySpelling(a)...)
	}
	return distinct(found)
}

// dotnetWalk takes the values of whatever attribute comes.
func dotnetWalk(t *testing.T, search searcher, bases []string, subject string) (found []string) {
	t.Helper()
	for _, base := range bases {
		a := good(t, search, clientQuestion{base: base, scope: 2, filter: "(mail=" + escapeFilter(subject) + ")", attributes: bothSpellings})
		for _, e := range a.entries {
			for _, values := range e.values {
				found = append(found, values...)
			}
		}
	}
	return distinct(found)
}

// discoveryToolWalk asks for no attribute by name, which means all.
func discoveryToolWalk(t *testing.T, search searcher, bases []string, subject string) (found []string) {
	t.Helper()
	for _, base := range bases {
		a := good(t, search, clientQuestion{base: base, scope: 2, filter: withCertificate(subject)})
		found = append(found, anySpelling(a)...)
	}
	return distinct(found)
}

// edgeToolWalk asks once below the empty name, for the address and its domain
// together, and tells by cn what it found.
func edgeToolWalk(t *testing.T, search searcher, _ []string, subject string) (found []string) {
	t.Helper()
	domain := subject[strings.LastIndexByte(subject, '@')+1:]
	a := good(t, search, clientQuestion{scope: 2, filter: "(|(mail=" + escapeFilter(subject) + ")(mail=" + escapeFilter(domain) + "))"})
	for _, e := range a.entries {
		cn := e.values["cn"]
		switch {
		case len(cn) == 1 && strings.EqualFold(cn[0], subject):
			found = append(found, anySpelling(clientAnswer{entries: []clientEntry{e}})...)
		case len(cn) != 1 || !strings.EqualFold(cn[0], domain):
			t.Errorf("%s: cn is %q", subject, cn)
		}
	}
	return distinct(found)
}

// spellings asks for the certificates with the option and without, as an
// attribute and as a condition.
func spellings(t *testing.T, search searcher, want []string) {
	t.Helper()
	for _, q := range []clientQuestion{
		{base: top, scope: 2, filter: "(mail=bob@b.direct.test)", manage: "sent"},
		{base: top, scope: 1, filter: "(&(mail=bob@b.direct.test)(userCertificate=*))"},
		{base: top, scope: 2, filter: "(&(mail=bob@b.direct.test)(userCertificate;binary=*))", manage: "critical"},
		{base: "", scope: 2, filter: "(|(mail=bob@b.direct.test)(mail=b.direct.tes))"},
		{base: bobDN, scope: 0, filter: "(objectClass=*)"},
		{base: "UID=Bob,DC=B,DC=direct,DC=Test", scope: 0, filter: "(objectClass=*)"},
	} {
		for _, name := range []string{"userCertificate", "userCertificate;binary"} {
			q.attributes = []string{name}
			a := good(t, search, q)
			if len(a.entries) != 1 || !strings.EqualFold(a.entries[0].dn, bobDN) {
				t.Errorf("%s: %d entries", q, len(a.entries))
				continue
			}
			if len(a.entries[0].values) != 1 || !slices.Equal(a.certificates(name), want) {
				t.Errorf("%s: attributes %d, of this name %d values, want %d", q, len(a.entries[0].values), len(a.certificates(name)), len(want))
			}
		}
	}
}

// refusals is what a client is told that may not list, or names what is not
// there.
func refusals(t *testing.T, search searcher) {
	t.Helper()
	for _, c := range []struct {
		q    clientQuestion
		code int
	}{
		{clientQuestion{base: top, scope: 2, filter: "(mail=*)"}, 53},
		{clientQuestion{base: "", scope: 2, filter: "(objectClass=*)"}, 53},
		{clientQuestion{base: top, scope: 1, filter: "(mail=bob*)", attributes: []string{"mail"}}, 53},
		{clientQuestion{base: "dc=nowhere,dc=test", scope: 2, filter: "(mail=bob@b.direct.test)"}, 32},
	} {
		if a := search(t, c.q); a.code != c.code || len(a.entries) != 0 {
			t.Errorf("%s: code %d, %d entries; want code %d", c.q, a.code, len(a.entries), c.code)
		}
	}
}

// escapeFilter is RFC 4515 §3, for ASCII.
func escapeFilter(v string) string {
	return strings.NewReplacer(`\`, `\5c`, `*`, `\2a`, `(`, `\28`, `)`, `\29`).Replace(v)
}

func swapCase(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		}
		return r
	}, s)
}
