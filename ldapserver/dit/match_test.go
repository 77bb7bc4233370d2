package dit_test

import (
	"testing"

	"directnode/ldapserver/dit"
)

func TestEquality(t *testing.T) {
	tr := tree(t, domain(t, "b.direct.test", `"o  hara"@b.direct.test B`))
	e := tr.ByMail([]byte(`"o  hara"@b.direct.test`))
	for _, c := range []struct {
		attr, value string
		want        dit.Truth
	}{
		{"mail", `"o  hara"@b.direct.test`, dit.True},
		{"mail", ` "O hara"@B.DIRECT.test  `, dit.True}, // RFC 4518 §2.6.1: runs of spaces are one
		{"mail", `"ohara"@b.direct.test`, dit.False},
		{"mail", "caf\u00e9@b.direct.test", dit.Undefined}, // not IA5
		{"rfc822mailbox", "x", dit.False},
		{"cn", "caf\u00e9", dit.False},
		{"uid", "O HARA", dit.True},
		{"uid", "", dit.Undefined}, // RFC 4517 §3.3.6: at least one character
		{"uid", " ", dit.False},
		{"cn", "caf\xe9", dit.Undefined}, // not UTF-8
		{"mail", "", dit.False},          // RFC 4517 §3.3.15: an IA5 string may be empty
		{"name", `"o hara"@b.direct.test`, dit.True},
		{"objectClass", "PERSON", dit.True},
		{"objectClass", "2.5.6.6", dit.True},
		{"objectClass", "dcObject", dit.False},
		{"objectClass", "noSuchClass", dit.Undefined},
		{"userCertificate", "B", dit.Undefined},
		{"dc", "b", dit.False},
	} {
		d, ok := dit.Describe([]byte(c.attr))
		if !ok {
			t.Fatalf("%s is not known", c.attr)
		}
		if got := e.Equal(d, []byte(c.value)); got != c.want {
			t.Errorf("(%s=%s) = %v, want %v", c.attr, c.value, got, c.want)
		}
	}
}

func TestSubstrings(t *testing.T) {
	tr := tree(t, domain(t, "b.direct.test", `"o  hara"@b.direct.test B`))
	e := tr.ByMail([]byte(`"o  hara"@b.direct.test`))
	part := func(s string) []byte {
		if s == "" {
			return nil
		}
		return []byte(s)
	}
	for _, c := range []struct {
		attr, initial, any, final string
		want                      dit.Truth
	}{
		{"uid", "O", "", "", dit.True},
		{"uid", "", "", "RA", dit.True},
		{"uid", "o", "", "a", dit.True},
		{"uid", "o ", "", "", dit.True},
		{"uid", "", "o h", "", dit.True},
		{"uid", "", " ", "", dit.True},
		{"uid", "o hara", "", "a", dit.False}, // parts must not overlap
		{"uid", "ha", "", "", dit.False},
		{"uid", "", "\xe9", "", dit.Undefined},
		{"uid", "", "", "\xe9", dit.Undefined},
		{"mail", "", "hara", "test", dit.True},
		{"mail", "", "\xe9", "", dit.Undefined},
		{"mail", "\xe9", "", "", dit.Undefined},
		{"objectClass", "per", "", "", dit.Undefined}, // no SUBSTR rule
		{"userCertificate", "B", "", "", dit.Undefined},
		{"name", "", "@b.", "", dit.True},
	} {
		d, _ := dit.Describe([]byte(c.attr))
		s := dit.Substrings{Initial: part(c.initial), Final: part(c.final)}
		if c.any != "" {
			s.Any = [][]byte{[]byte(c.any)}
		}
		if got := e.Matches(d, s); got != c.want {
			t.Errorf("(%s=%s*%s*%s) = %v, want %v", c.attr, c.initial, c.any, c.final, got, c.want)
		}
	}
}

func TestDescribe(t *testing.T) {
	for text, ok := range map[string]bool{
		"mail": true, "MAIL": true, "0.9.2342.19200300.100.1.3": true, "userCertificate;binary": true, "2.5.4.36;BINARY": true,
		"mail;binary": false, "mail;lang-en": false, "userCertificate;binary;x": false, "userCertificate;": false, "": false, ";binary": false,
		"telephoneNumber": false, "userCertificate;binary                                        ": false,
	} {
		if _, got := dit.Describe([]byte(text)); got != ok {
			t.Errorf("Describe(%q) = %v", text, got)
		}
	}
}

func TestSubschemaNamesEveryAttributeOfTheEntries(t *testing.T) {
	tr := tree(t, domain(t, "b.direct.test", "bob@b.direct.test B"))
	base, err := tr.Find([]byte(dit.SubschemaDN))
	if err != nil {
		t.Fatal(err)
	}
	got := answer(t, base.Entry(), false, "attributeTypes", "objectClasses", "ldapSyntaxes", "matchingRules")
	if n := len(got.values["attributeTypes"]); n != 21 {
		t.Errorf("%d attribute types", n)
	}
	for _, name := range []string{"objectClasses", "ldapSyntaxes", "matchingRules"} {
		if len(got.values[name]) == 0 {
			t.Errorf("no %s", name)
		}
	}
}

func TestLookUpsDoNotAllocate(t *testing.T) {
	tr := tree(t, domain(t, "b.direct.test", "bob@b.direct.test B"))
	mail, dn := []byte("Bob@b.direct.test"), []byte("dc=b,dc=direct,dc=test")
	out := make([]byte, 0, 4096)
	var e dit.Entry
	name := []byte("userCertificate;binary")
	if n := testing.AllocsPerRun(100, func() {
		var s dit.Selection
		s.Add(name)
		if _, err := tr.Find(dn); err != nil {
			t.Fatal(err)
		}
		if !tr.FindMail(&e, mail) {
			t.Fatal("bob is not there")
		}
		out = e.AppendResult(out[:0], &s)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
