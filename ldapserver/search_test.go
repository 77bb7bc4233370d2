package ldapserver_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"directnode/internal/spec"
	"directnode/ldapserver"
	"directnode/ldapserver/dit"
)

const (
	top     = "dc=b,dc=direct,dc=test"
	bobDN   = "uid=bob," + top
	carolDN = "uid=carol," + top
	orgDN   = "cn=b.direct.test," + top
)

func TestFiltersThatThePeersSend(t *testing.T) {
	spec.Covers(t, "AS-1.4-h", "AS-5.0-d")
	addr := start(t, world(t, dit.Options{}), ldapserver.Options{})
	hasCert := or(present("userCertificate;binary"), present("userCertificate"))
	for name, c := range map[string]struct {
		base   string
		filter []byte
		want   []string
	}{
		"mail":                            {top, equal("mail", "bob@b.direct.test"), []string{bobDN}},
		"mail in another case":            {top, equal("MAIL", "BOB@B.direct.Test"), []string{bobDN}},
		"mail with spaces around":         {top, equal("mail", " bob@b.direct.test "), []string{bobDN}},
		"mail by OID":                     {top, equal("0.9.2342.19200300.100.1.3", "bob@b.direct.test"), []string{bobDN}},
		"mail and certificate":            {top, and(equal("mail", "bob@b.direct.test"), hasCert), []string{bobDN}},
		"address or domain":               {top, or(equal("mail", "bob@b.direct.test"), equal("mail", "b.direct.test")), []string{bobDN, orgDN}},
		"address or domain, empty base":   {"", or(equal("mail", "bob@b.direct.test"), equal("mail", "b.direct.test")), []string{bobDN, orgDN}},
		"domain":                          {top, equal("mail", "b.direct.test"), []string{orgDN}},
		"empty base":                      {"", equal("mail", "bob@b.direct.test"), []string{bobDN}},
		"base in another spelling":        {"DC=B, DC=Direct, DC=Test", equal("mail", "bob@b.direct.test"), []string{bobDN}},
		"another context":                 {"dc=a,dc=direct,dc=test", equal("mail", "bob@b.direct.test"), nil},
		"unknown address":                 {top, equal("mail", "eve@b.direct.test"), nil},
		"unknown address, empty base":     {"", equal("mail", "eve@b.direct.test"), nil},
		"a star is a star":                {top, equal("mail", "*"), nil},
		"the same twice":                  {top, or(equal("mail", "bob@b.direct.test"), equal("mail", "BOB@b.direct.test")), []string{bobDN}},
		"mail, pinned, and more":          {top, and(equal("mail", "bob@b.direct.test"), substrings("cn", "bob", "")), []string{bobDN}},
		"mail, pinned, and what it isn't": {top, and(equal("mail", "bob@b.direct.test"), not(equal("objectClass", "person"))), nil},
		"mail and an unknown attribute":   {top, and(equal("mail", "bob@b.direct.test"), not(present("telephoneNumber"))), nil},
		"four addresses":                  {"", or(equal("mail", "1"), equal("mail", "bob@b.direct.test"), equal("mail", "3"), equal("mail", "carol@b.direct.test")), []string{bobDN, carolDN}},
		"nothing at all":                  {"", or(), nil}, // RFC 4526 absolute false
		"extensible, no rule":             {top, extensible("", "mail", "Bob@b.direct.test", false), []string{bobDN}},
		"extensible, the type's rule":     {top, extensible("caseIgnoreIA5Match", "mail", "Bob@b.direct.test", false), []string{bobDN}},
		"extensible, the rule by OID":     {top, extensible("1.3.6.1.4.1.1466.109.114.2", "rfc822Mailbox", "bob@b.direct.test", false), []string{bobDN}},
		"extensible, with regard to case": {top, and(equal("mail", "bob@b.direct.test"), extensible("caseExactMatch", "uid", "bob", false)), []string{bobDN}},
		"extensible, in another case":     {top, and(equal("mail", "bob@b.direct.test"), extensible("caseExactMatch", "uid", "Bob", false)), nil},
		"extensible, the name's case":     {top, and(equal("mail", "bob@b.direct.test"), extensible("caseExactMatch", "", "bob", true)), []string{bobDN}},
		"extensible, not the name's case": {top, and(equal("mail", "bob@b.direct.test"), extensible("caseExactMatch", "", "BOB", true)), nil},
		"extensible, not the type's rule": {top, extensible("caseExactMatch", "mail", "bob@b.direct.test", false), nil},
	} {
		t.Run(name, func(t *testing.T) {
			for _, scope := range []int64{1, 2} {
				if scope == 1 && c.base == "" {
					continue
				}
				dns, done := dial(t, addr).search(ask{base: c.base, scope: scope, filter: c.filter, attributes: []string{"userCertificate;binary", "userCertificate"}})
				if done.code != 0 || !slices.Equal(dns, c.want) {
					t.Errorf("scope %d: %q, %v; want %q", scope, dns, done, c.want)
				}
			}
		})
	}
}

func TestAnonymousSearchMustNameTheAddress(t *testing.T) {
	addr := start(t, world(t, dit.Options{}), ldapserver.Options{})
	five := make([][]byte, 5)
	for i := range five {
		five[i] = equal("mail", fmt.Sprint(i))
	}
	known := equal("mail", "bob@b.direct.test")
	for name, f := range map[string][]byte{
		"presence of mail":              present("mail"),
		"any entry":                     present("objectClass"),
		"initial substring":             substrings("mail", "b", ""),
		"middle substring":              substrings("mail", "", "@", ""),
		"greater":                       assertion(5, "mail", "a"),
		"less":                          assertion(6, "mail", "z"),
		"approximate":                   assertion(8, "mail", "bob@b.direct.test"),
		"extensible by another rule":    extensible("caseIgnoreMatch", "uid", "bob", false),
		"extensible without a type":     extensible("caseIgnoreIA5Match", "", "bob@b.direct.test", false),
		"extensible by name, too":       extensible("", "mail", "bob@b.direct.test", true),
		"extensible substrings":         extensible("caseIgnoreIA5SubstringsMatch", "mail", "bob*", false),
		"extensible by nothing":         set(9),
		"class":                         equal("objectClass", "inetOrgPerson"),
		"cn":                            equal("cn", "bob@b.direct.test"),
		"uid":                           equal("uid", "bob"),
		"not an address":                not(known),
		"an address or anything":        or(known, present("objectClass")),
		"an address or not it":          or(known, not(known)),
		"absolute true":                 and(),
		"more than four addresses":      or(five...),
		"more than four, nested":        or(or(five[:3]...), or(five[3:]...)),
		"not not an address":            not(not(known)),
		"mail with an option":           equal("mail;lang-en", "bob@b.direct.test"),
		"unknown attribute":             equal("telephoneNumber", "1"),
		"and of two without an address": and(present("mail"), equal("uid", "bob")),
		"an unknown kind of filter":     unhex(t, "aa 00"),
	} {
		for _, base := range []string{"", top} {
			for _, scope := range []int64{1, 2} {
				dns, done := dial(t, addr).search(ask{base: base, scope: scope, filter: f})
				if len(dns) != 0 || done.code != 53 || !strings.Contains(done.text, "(mail=user@example.org)") {
					t.Errorf("%s, base %q, scope %d: %q, %v %q; want 53", name, base, scope, dns, done, done.text)
				}
			}
		}
	}
}

func TestBaseReads(t *testing.T) {
	addr := start(t, world(t, dit.Options{}), ldapserver.Options{})
	for name, c := range map[string]struct {
		base   string
		filter []byte
		want   []string
		code   int64
	}{
		"root DSE":                    {"", present("objectclass"), []string{""}, 0},
		"root DSE, other filter":      {"", equal("objectClass", "person"), nil, 0},
		"root DSE by a name in it":    {"", equal("namingContexts", "DC=b, DC=direct, DC=test"), []string{""}, 0},
		"root DSE by another name":    {"", equal("namingContexts", "dc=c,dc=test"), nil, 0},
		"root DSE by no name":         {"", not(equal("namingContexts", "c.test")), nil, 0}, // Undefined
		"root DSE by version":         {"", and(equal("supportedLDAPVersion", "3"), equal("supportedControl", dit.OIDManageDsaIT)), []string{""}, 0},
		"root DSE by vendor":          {"", and(equal("vendorName", "Direct Node"), not(equal("vendorName", "direct node"))), []string{""}, 0}, // caseExactMatch
		"subschema":                   {"cn=Subschema", equal("objectClass", "subschema"), []string{"cn=Subschema"}, 0},
		"context":                     {top, present("objectClass"), []string{top}, 0},
		"owner":                       {bobDN, present("objectClass"), []string{bobDN}, 0},
		"owner, other case":           {strings.ToUpper(bobDN), present("objectClass"), []string{bobDN}, 0},
		"nobody":                      {"uid=eve," + top, present("objectClass"), nil, 32},
		"malformed":                   {"b.direct.test", present("objectClass"), nil, 34},
		"above the contexts":          {"dc=test", present("objectClass"), nil, 32},
		"absolute true (RFC 4526)":    {bobDN, and(), []string{bobDN}, 0},
		"absolute false (RFC 4526)":   {bobDN, or(), nil, 0},
		"certificate cannot be asked": {bobDN, equal("userCertificate", "BOB-1"), nil, 0},
	} {
		dns, done := dial(t, addr).search(ask{base: c.base, filter: c.filter})
		if !slices.Equal(dns, c.want) || done.code != c.code {
			t.Errorf("%s: %q, %v; want %q, code %d", name, dns, done, c.want, c.code)
		}
	}
	for _, scope := range []int64{0, 1, 2} {
		_, done := dial(t, addr).search(ask{base: "uid=eve," + top, scope: scope, filter: equal("mail", "x")})
		if done.code != 32 || done.matched != top {
			t.Errorf("scope %d: %v matched %q, want 32 matched %q", scope, done, done.matched, top)
		}
	}
}

// client dials with go-ldap.
func client(t testing.TB, addr string) *ldap.Conn {
	t.Helper()
	c, err := ldap.DialURL("ldap://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetTimeout(5 * time.Second)
	return c
}

// TestDiscoveryByGoLDAP walks the steps of certificate discovery with an
// independent client: hosting cases H3 (address) and H4 (domain), in mixed
// case, and an address that is not hosted.
func TestDiscoveryByGoLDAP(t *testing.T) {
	spec.Covers(t, "AS-1.4-a", "AS-1.4-f", "AS-1.4-h", "AS-5.0-d")
	c := client(t, start(t, world(t, dit.Options{}), ldapserver.Options{}))
	if err := c.UnauthenticatedBind(""); err != nil {
		t.Fatal(err)
	}
	root, err := c.Search(&ldap.SearchRequest{Scope: ldap.ScopeBaseObject, Filter: "(objectClass=*)", Attributes: []string{"namingContexts"}})
	if err != nil || len(root.Entries) != 1 {
		t.Fatalf("root DSE: %v, %v", root, err)
	}
	contexts := root.Entries[0].GetAttributeValues("namingContexts")
	if !slices.Equal(contexts, []string{"dc=a,dc=direct,dc=test", top}) {
		t.Fatalf("namingContexts = %q", contexts)
	}
	find := func(subject, filter string, attributes ...string) (values []string) {
		t.Helper()
		for _, base := range contexts {
			r, err := c.Search(&ldap.SearchRequest{BaseDN: base, Scope: ldap.ScopeWholeSubtree, Attributes: attributes,
				Filter: strings.ReplaceAll(filter, "X", ldap.EscapeFilter(subject))})
			if err != nil {
				t.Fatalf("%s below %s: %v", subject, base, err)
			}
			for _, e := range r.Entries {
				for _, a := range e.Attributes {
					for _, v := range a.ByteValues {
						values = append(values, a.Name+" "+string(v))
					}
				}
			}
		}
		return values
	}
	const second = "(&(mail=X)(|(userCertificate;binary=*)(userCertificate=*)))"
	for _, q := range []struct {
		subject, filter string
		attributes      []string
		want            []string
	}{
		{"bob@b.direct.test", "(mail=X)", []string{"userCertificate", "userCertificate;binary"}, []string{"userCertificate;binary BOB-1", "userCertificate;binary BOB-2"}},
		{"BOB@B.Direct.Test", second, []string{"userCertificate"}, []string{"userCertificate BOB-1", "userCertificate BOB-2"}},
		{"b.direct.test", second, []string{"userCertificate;binary"}, []string{"userCertificate;binary ORG-B"}},
		{"B.DIRECT.test", "(mail=X)", []string{"usercertificate;BINARY"}, []string{"userCertificate;binary ORG-B"}},
		{"carol@b.direct.test", "(mail=X)", []string{"cn", "1.1"}, []string{"cn carol@b.direct.test"}},
		{"eve@b.direct.test", "(mail=X)", []string{"userCertificate"}, nil},
		{"*", "(mail=X)", []string{"userCertificate"}, nil},
	} {
		if got := find(q.subject, q.filter, q.attributes...); !slices.Equal(got, q.want) {
			t.Errorf("%s %s %q: %q, want %q", q.filter, q.subject, q.attributes, got, q.want)
		}
	}
	full, err := c.Search(&ldap.SearchRequest{BaseDN: top, Scope: ldap.ScopeWholeSubtree, Filter: "(mail=bob@b.direct.test)"})
	if err != nil || len(full.Entries) != 1 {
		t.Fatal(full, err)
	}
	e := full.Entries[0]
	if got := e.GetAttributeValues("objectClass"); !slices.Equal(got, []string{"top", "person", "organizationalPerson", "inetOrgPerson"}) {
		t.Errorf("objectClass = %q", got)
	}
	for name, want := range map[string]string{"cn": "bob@b.direct.test", "sn": "bob@b.direct.test", "uid": "bob", "mail": "bob@b.direct.test"} {
		if got := e.GetAttributeValue(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if ok, err := c.Compare(bobDN, "mail", "bob@b.direct.test"); !ok || err != nil {
		t.Errorf("compare: %v, %v", ok, err)
	}
	if err := c.Add(ldap.NewAddRequest(bobDN, nil)); !ldap.IsErrorWithCode(err, ldap.LDAPResultUnwillingToPerform) {
		t.Errorf("add: %v", err)
	}
	if err := c.Del(ldap.NewDelRequest(bobDN, nil)); !ldap.IsErrorWithCode(err, ldap.LDAPResultUnwillingToPerform) {
		t.Errorf("delete: %v", err)
	}
	if err := c.ModifyDN(ldap.NewModifyDNRequest(bobDN, "uid=x", true, "")); !ldap.IsErrorWithCode(err, ldap.LDAPResultUnwillingToPerform) {
		t.Errorf("modifyDN: %v", err)
	}
	if who, err := c.WhoAmI(nil); err != nil || who.AuthzID != "" {
		t.Errorf("who am I: %v, %v", who, err)
	}
	if _, err := c.Search(&ldap.SearchRequest{BaseDN: top, Scope: ldap.ScopeWholeSubtree, Filter: "(mail=*)"}); !ldap.IsErrorWithCode(err, ldap.LDAPResultUnwillingToPerform) {
		t.Errorf("listing: %v", err)
	}
}

func TestListingIsAnOperatorsChoice(t *testing.T) {
	addr := start(t, world(t, dit.Options{Anonymous: dit.AnonymousList}), ldapserver.Options{})
	for _, c := range []struct {
		base   string
		scope  int64
		filter []byte
		want   []string
	}{
		{top, 2, present("mail"), []string{orgDN, bobDN, carolDN}},
		{top, 1, present("objectClass"), []string{orgDN, bobDN, carolDN}},
		{top, 2, present("objectClass"), []string{top, orgDN, bobDN, carolDN}},
		{"", 1, present("objectClass"), []string{"dc=a,dc=direct,dc=test", top}},
		{"", 2, substrings("mail", "", "o", ".test"), []string{bobDN, carolDN}},
		{"", 2, not(or(equal("uid", "bob"), equal("objectClass", "organization"))), []string{"cn=a.direct.test,dc=a,dc=direct,dc=test", "uid=alice,dc=a,dc=direct,dc=test", orgDN, carolDN}},
		{"", 2, assertion(8, "uid", "bob"), []string{bobDN}},
		{"", 2, assertion(5, "uid", "a"), nil},
	} {
		dns, done := dial(t, addr).search(ask{base: c.base, scope: c.scope, filter: c.filter, attributes: []string{"1.1"}})
		slices.Sort(dns) // entries come in no order (RFC 4511 §4.5.2)
		slices.Sort(c.want)
		if done.code != 0 || !slices.Equal(dns, c.want) {
			t.Errorf("base %q scope %d: %q, %v; want %q", c.base, c.scope, dns, done, c.want)
		}
	}
}

func TestSizeLimits(t *testing.T) {
	var owners []string
	for i := range 600 {
		owners = append(owners, fmt.Sprintf("u%03d@b.direct.test=%s", i, strings.Repeat("c", 1000)))
	}
	list := published(t, dit.Options{Anonymous: dit.AnonymousList}, owners...)
	for _, c := range []struct {
		server int
		client int64
		n      int
		code   int64
	}{
		{0, 0, 500, 4}, {0, 7, 7, 4}, {0, 10000, 500, 4}, {100, 0, 100, 4}, {1000, 0, 600, 0}, {1000, 600, 600, 0}, {1000, 599, 599, 4},
	} {
		addr := start(t, list, ldapserver.Options{SizeLimit: c.server})
		dns, done := dial(t, addr).search(ask{base: top, scope: 1, size: c.client})
		if len(dns) != c.n || done.code != c.code {
			t.Errorf("server %d, client %d: %d entries, code %d; want %d, %d", c.server, c.client, len(dns), done.code, c.n, c.code)
		}
	}
	exact := start(t, published(t, dit.Options{}, owners...), ldapserver.Options{})
	dns, done := dial(t, exact).search(ask{base: top, scope: 1, size: 1, filter: or(equal("mail", "u001@b.direct.test"), equal("mail", "u002@b.direct.test"))})
	if len(dns) != 1 || done.code != 4 {
		t.Errorf("exact: %q, %v; want one entry and sizeLimitExceeded", dns, done)
	}
}

func TestTimeLimit(t *testing.T) {
	var owners []string
	for i := range 200 {
		owners = append(owners, fmt.Sprintf("u%03d@b.direct.test=c", i))
	}
	addr := start(t, published(t, dit.Options{Anonymous: dit.AnonymousList}, owners...), ldapserver.Options{TimeLimit: time.Nanosecond})
	if _, done := dial(t, addr).search(ask{base: top, scope: 1, seconds: 100}); done.code != 3 {
		t.Errorf("%v, want timeLimitExceeded", done)
	}
}

func TestHarvestGetsNoAddress(t *testing.T) {
	spec.Covers(t, "AS-6.1-f")
	var owners []string
	for i := range 1000 {
		owners = append(owners, fmt.Sprintf("person%04d@b.direct.test=DER", i))
	}
	addr := start(t, published(t, dit.Options{}, owners...), ldapserver.Options{})
	names := []string{"mail", "cn", "sn", "uid", "objectClass", "userCertificate", "userCertificate;binary", "name", "dc", "o", "givenName", "rfc822Mailbox", "2.5.4.3"}
	var filters [][]byte
	for _, name := range names {
		filters = append(filters, present(name), not(present(name)), substrings(name, "p", ""), substrings(name, "", "", "t"), substrings(name, "", "person", ""),
			assertion(5, name, "a"), assertion(6, name, "zzz"), assertion(8, name, "person"), not(equal(name, "x")), or(equal("mail", "x"), present(name)))
	}
	filters = append(filters, and(), equal("objectClass", "person"), equal("objectClass", "inetOrgPerson"), not(equal("mail", "x")), not(and(equal("mail", "x"))),
		or(and(equal("mail", "x"), present("cn")), present("cn")), and(or(equal("mail", "x"), present("cn"))), not(or()), set(9), unhex(t, "aa 00"))
	if len(filters) < 100 {
		t.Fatalf("only %d filters", len(filters))
	}
	w := dial(t, addr)
	for i, f := range filters {
		for _, base := range []string{"", top, "cn=Subschema", "dc=test"} {
			for scope := int64(0); scope <= 2; scope++ {
				for _, attributes := range [][]string{nil, {"*", "+"}, {"mail"}} {
					w.send(ask{base: base, scope: scope, filter: f, attributes: attributes}.pdu(7))
					for m := w.must(); m.tag != 5; m = w.must() {
						if strings.Contains(string(m.body), "person0") || strings.Contains(string(m.body), "@b.") {
							t.Fatalf("filter %d, base %q, scope %d: an address: %s", i, base, scope, m.dn)
						}
					}
				}
			}
		}
	}
}
