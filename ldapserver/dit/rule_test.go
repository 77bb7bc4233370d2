package dit_test

import (
	"fmt"
	"slices"
	"testing"

	"directnode/ldapserver/dit"
)

// TestRules evaluates extensible items for bob@b.direct.test; the type or the rule
// may be empty.
func TestRules(t *testing.T) {
	tr := tree(t, domain(t, "b.direct.test", "bob@b.direct.test B"))
	e := tr.ByMail([]byte("bob@b.direct.test"))
	for _, c := range []struct {
		rule, attr, value string
		dn                bool
		want              dit.Truth
	}{
		{"", "uid", "BOB", false, dit.True},
		{"caseIgnoreMatch", "uid", "BOB", false, dit.True},
		{"2.5.13.2", "cn", "bob@b.direct.TEST", false, dit.True},
		{"CASEIGNOREIA5MATCH", "mail", "x", false, dit.False},
		{"caseIgnoreIA5Match", "mail", "caf\u00e9", false, dit.Undefined},
		{"caseIgnoreMatch", "mail", "bob@b.direct.test", false, dit.Undefined}, // not the rule of mail
		{"caseExactMatch", "uid", "bob", false, dit.True},                      // as the first example of RFC 4515 §4
		{"caseExactMatch", "uid", "BOB", false, dit.False},
		{"caseExactMatch", "mail", "bob@b.direct.test", false, dit.Undefined}, // its syntax is another
		{"caseIgnoreMatch", "", "bob", false, dit.True},                       // uid has it
		{"caseIgnoreMatch", "", "eve", false, dit.False},
		{"caseIgnoreIA5Match", "", "bob@b.direct.test", false, dit.True},
		{"objectIdentifierMatch", "objectClass", "person", false, dit.True},
		{"objectIdentifierMatch", "", "2.5.6.6", false, dit.True},
		{"distinguishedNameMatch", "", "dc=test", false, dit.False},
		{"", "userCertificate", "B", false, dit.Undefined},
		{"", "dc", "direct", false, dit.False},
		{"", "dc", "direct", true, dit.True},
		{"caseIgnoreIA5Match", "", "DIRECT", true, dit.True},
		{"caseIgnoreMatch", "", "direct", true, dit.False}, // dc has another rule
		{"caseIgnoreMatch", "dc", "direct", true, dit.Undefined},
		{"", "name", "bob", true, dit.False}, // uid is no name
		{"caseIgnoreSubstringsMatch", "uid", "b*", false, dit.True},
		{"caseIgnoreSubstringsMatch", "uid", "*o*", false, dit.True},
		{"caseIgnoreSubstringsMatch", "", "*b.direct*", false, dit.True},
		{"caseIgnoreSubstringsMatch", "uid", "x*b", false, dit.False},
		{"caseIgnoreSubstringsMatch", "uid", "bob", false, dit.Undefined}, // no asterisk: RFC 4517 §3.3.30
		{"caseIgnoreSubstringsMatch", "uid", "*", false, dit.Undefined},
		{"caseIgnoreSubstringsMatch", "uid", "b**b", false, dit.Undefined},
		{"caseIgnoreSubstringsMatch", "uid", `*\2A*`, false, dit.False}, // an asterisk is looked for
		{"caseIgnoreIA5SubstringsMatch", "dc", "*rec*", true, dit.True},
		{"caseIgnoreSubstringsMatch", "mail", "b*", false, dit.Undefined},
	} {
		a := dit.RuleAssertion{DN: c.dn, Value: []byte(c.value)}
		var ok bool
		if c.rule != "" {
			if a.Rule, ok = dit.FindRule([]byte(c.rule)); !ok {
				t.Fatalf("%s is not known", c.rule)
			}
		}
		if c.attr != "" {
			d, ok := dit.Describe([]byte(c.attr))
			if !ok {
				t.Fatalf("%s is not known", c.attr)
			}
			a.Attrs = d.Attrs
		}
		if got := e.MatchesRule(a); got != c.want {
			t.Errorf("(%s:dn %v:%s:=%s) = %v, want %v", c.attr, c.dn, c.rule, c.value, got, c.want)
		}
	}
	for _, name := range []string{"certificateExactMatch", "2.5.13.34", "objectIdentifierFirstComponentMatch", "noSuchMatch", "", string(make([]byte, 1000))} {
		if _, ok := dit.FindRule([]byte(name)); ok {
			t.Errorf("rule %.40q is evaluated", name)
		}
	}
}

// TestAListingGoesOnFromEveryPlace interrupts a listing behind every entry.
func TestAListingGoesOnFromEveryPlace(t *testing.T) {
	lines := map[string][]string{}
	for _, d := range []string{"a.direct.test", "b.direct.test", "c.b.direct.test"} {
		for i := range 60 {
			lines[d] = append(lines[d], fmt.Sprintf("u%03d@%s C", i, d))
		}
	}
	tr := tree(t, domain(t, "a.direct.test", lines["a.direct.test"]...), domain(t, "b.direct.test", lines["b.direct.test"]...), domain(t, "c.b.direct.test", lines["c.b.direct.test"]...))
	for _, name := range []string{"", "dc=b,dc=direct,dc=test", "cn=Subschema"} {
		base, err := tr.Find([]byte(name))
		if err != nil {
			t.Fatal(err)
		}
		for _, scope := range []dit.Scope{dit.ScopeBase, dit.ScopeOne, dit.ScopeSubtree} {
			var all []string
			base.Each(scope, func(e *dit.Entry) bool {
				all = append(all, e.DN())
				return true
			})
			for step := 1; step < 4; step++ {
				var got []string
				var at dit.Position
				for more := true; more; {
					more = false
					n := 0
					base.EachFrom(scope, at, func(e *dit.Entry, behind dit.Position) bool {
						got, at, more = append(got, e.DN()), behind, true
						n++
						return n < step
					})
				}
				if !slices.Equal(got, all) {
					t.Errorf("base %q, scope %d, in steps of %d: %d entries, want %d", name, scope, step, len(got), len(all))
				}
			}
		}
	}
}
