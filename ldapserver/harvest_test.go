package ldapserver_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"directnode/internal/ber"
	"directnode/internal/spec"
	"directnode/ldapserver"
	"directnode/ldapserver/dit"
)

// The people of the directory that strangers try to list. Every local part has
// this form and nothing else does, so that one who finds it in an answer has
// found an address.
const population = 10000

var addressMark = regexp.MustCompile(`(?i)zq[0-9]{4}`)

// knownToAsker is the one address that the stranger has from elsewhere.
const (
	knownToAsker   = "zq0007@b.direct.test"
	knownToAskerDN = "uid=zq0007," + top
)

func crowded(t testing.TB, n int, o dit.Options) *dit.Tree {
	t.Helper()
	owners := []string{"b.direct.test=ORG"}
	for i := range n {
		owners = append(owners, fmt.Sprintf("zq%04d@b.direct.test=certificate of zq%04d@b.direct.test", i, i))
	}
	return published(t, o, owners...)
}

// attempt is one try to get addresses: requests on one connection.
type attempt struct {
	name string
	pdus [][]byte
}

// text compiles a filter as people write it (RFC 4515).
func text(t testing.TB, filter string) []byte {
	t.Helper()
	packet, err := ldap.CompileFilter(filter)
	if err != nil {
		t.Fatalf("%s: %v", filter, err)
	}
	return packet.Bytes()
}

// listingFilters are what scanners, browsers, address books and people try.
// K stands for the address that the asker knows.
var listingFilters = strings.Fields(`
(mail=*) (objectClass=*) (objectclass=*) (cn=*) (sn=*) (uid=*) (name=*) (o=*) (dc=*) (userCertificate=*) (userCertificate;binary=*) (rfc822Mailbox=*) (2.5.4.3=*) (0.9.2342.19200300.100.1.3=*) (givenName=*)
(mail=z*) (mail=*@b.direct.test) (mail=*zq*) (mail=*test) (mail=*@*) (mail=zq000*) (MAIL=Z*Q*1*) (cn=z*) (cn=*@*) (sn=z*) (sn=*1) (uid=z*) (uid=*7) (uid=*q*) (name=z*) (0.9.2342.19200300.100.1.1=z*) (objectClass=inet*)
(mail>=a) (mail<=zz) (mail>=) (cn>=a) (cn<=zz) (sn>=a) (uid>=zq) (uid<=zz) (name>=a) (objectClass>=a)
(mail~=zq0001@b.direct.test) (mail~=zq) (cn~=zq0001) (uid~=zq0001) (sn~=person) (objectClass~=person)
(mail:=zq) (mail:caseIgnoreIA5Match:=zq) (:caseIgnoreMatch:=zq) (:dn:=b) (uid:dn:=zq) (dc:dn:=b) (:dn:2.5.13.2:=b) (mail:1.3.6.1.4.1.1466.109.114.3:=zq) (mail:caseIgnoreIA5SubstringsMatch:=*zq*) (cn:caseIgnoreMatch:=zq) (userCertificate:certificateMatch:=x) (userAccountControl:1.2.840.113556.1.4.803:=2) (memberOf:1.2.840.113556.1.4.1941:=dc=b) (objectClass:2.5.13.0:=person) (mail:0.9.9.9:=x)
(objectClass=person) (objectClass=top) (objectClass=inetOrgPerson) (objectClass=organizationalPerson) (objectClass=2.5.6.6) (objectClass=organization) (objectClass=dcObject) (objectClass=subentry) (objectClass=user) (objectClass=posixAccount) (objectClass=computer) (objectClass=group) (structuralObjectClass=inetOrgPerson) (objectCategory=person) (hasSubordinates=FALSE) (entryDN=*) (creatorsName=*) (modifyTimestamp>=19700101000000Z) (entryUUID=*) (entryCSN=*) (createTimestamp=*) (subschemaSubentry=*) (namingContexts=*)
(!(mail=x)) (!(mail=K)) (!(uid=zq0000)) (!(cn=x)) (!(objectClass=organization)) (!(userCertificate=*)) (!(!(mail=*))) (!(!(mail=K))) (!(&)) (!(|)) (!(&(mail=x))) (!(|(mail=x)(mail=y))) (!(telephoneNumber=*)) (!(mail>=z)) (!(:dn:=x))
(&) (|) (&(&)) (&(!(|))) (&(mail=*)) (&(objectClass=*)(mail=*)) (&(cn=*)(sn=*)(uid=*)) (&(objectClass=person)(uid=z*)) (&(!(mail=x))) (&(!(mail=K))(objectClass=*)) (&(|)) (&(|(mail=K)(mail=*))) (&(mail~=K)) (&(objectClass=*)(!(mail=K)))
(|(mail=*)) (|(mail=K)(mail=*)) (|(mail=K)(objectClass=*)) (|(mail=K)(!(mail=K))) (|(mail=K)(cn=*)) (|(mail=K)(&)) (|(mail=K)(uid=z*)) (|(mail=K)(mail~=zq)) (|(mail=K)(mail>=a)) (|(mail=K)(:dn:=b)) (|(&(mail=K)(cn=*))(cn=*)) (|(|(mail=K))(|(mail=*))) (|(mail=K)(&(objectClass=*)(sn=*))) (|(mail=K)(name=*)) (|(mail=1)(mail=2)(mail=3)(mail=4)(mail=5)) (|(mail=zq0000@b.direct.test)(mail=zq0001@b.direct.test)(mail=zq0002@b.direct.test)(mail=zq0003@b.direct.test)(mail=*)) (|(|(mail=1)(mail=2)(mail=3))(|(mail=4)(mail=5)(mail=6)))
(mail=\2a) (mail=z\2a) (mail=\2a@b.direct.test) (mail=%) (mail=_q0001@b.direct.test) (mail=zq\00) (mail=\00) (mail=.*) (mail=^zq) (mail=\20) (mail=) (mail=@) (mail=@b.direct.test) (mail=\ff\ff) (mail=K\00) (mail=K\0a) (mail=\22zq0001\22) (mail=mailto:K) (mail=smtp:*) (mail;x-foo=K) (mail;binary=K) (mail;lang-en=*) (proxyAddresses=smtp:*) (mailAlternateAddress=*) (memberUid=*)
(uid=zq) (sn=zq) (cn=zq) (name=zq) (uid=K) (cn=b.direct.test) (sn=b.direct.test) (o=b.direct.test) (dc=b) (mail=b.direct.test) (mail=direct.test) (mail=test) (userCertificate=x) (userCertificate;binary=x) (serialNumber=*)
(&(mail=*)(|(mail=z*)(cn=z*)(sn=z*)(givenName=z*))) (|(mail=*zq*)(cn=*zq*)(sn=*zq*)(givenName=*zq*)) (anr=zq) (&(objectCategory=Person)(objectClass=user)) (&(sAMAccountType=805306368)(mail=*)) (sAMAccountType=805306368) (&(objectClass=user)(servicePrincipalName=*)) (|(objectClass=user)(objectClass=posixAccount)(objectClass=person)) (&(objectClass=group)(member=*)) (&(objectCategory=computer)(userAccountControl:1.2.840.113556.1.4.803:=8192)) (msDS-AllowedToDelegateTo=*) (objectGUID=*) (objectSid=*) (adminCount=1) (|(objectClass=pKIEnrollmentService)(objectClass=certificationAuthority)) (&(objectClass=trustedDomain)) (objectClass=ldapSubEntry) (objectClass=nsTombstone) (&(objectClass=nsTombstone)(uid=*)) (mailNickname=*) (showInAddressBook=*) (&(mailnickname=*)(|(&(objectCategory=person)(objectClass=user))(objectCategory=group))) (uidNumber=*) (gidNumber>=0) (&(objectClass=inetOrgPerson)(userCertificate;binary=*)) (&(objectClass=inetOrgPerson)(!(userCertificate=*)))
`)

// listingControls ask for pages, orders, changes and the rest that makes other
// servers give lists.
var listingControls = []struct{ name, oid, value string }{
	{"paged results", "1.2.840.113556.1.4.319", "30 05 0201 0a 0400"},
	{"paged results, size 0", "1.2.840.113556.1.4.319", "30 05 0201 00 0400"},
	{"paged results, a cookie of its own", "1.2.840.113556.1.4.319", "30 09 0201 0a 0404 00000001"},
	{"sort by mail", "1.2.840.113556.1.4.473", "30 08 3006 0404 6d61696c"},
	{"virtual list view", "2.16.840.1.113730.3.4.9", "30 0e 0201 00 0201 13 a006 0201 01 0201 00"},
	{"virtual list view from z", "2.16.840.1.113730.3.4.9", "30 09 0201 00 0201 13 81 01 7a"},
	{"persistent search", "2.16.840.1.113730.3.4.3", "30 09 0201 0f 0101 00 0101 ff"},
	{"content synchronization", "1.3.6.1.4.1.4203.1.9.1.1", "30 03 0a01 01"},
	{"content synchronization, persist", "1.3.6.1.4.1.4203.1.9.1.1", "30 03 0a01 03"},
	{"DirSync", "1.2.840.113556.1.4.841", "30 0a 0201 00 0203 00ffff 0400"},
	{"change notification", "1.2.840.113556.1.4.528", ""},
	{"show deleted", "1.2.840.113556.1.4.417", ""},
	{"security descriptors", "1.2.840.113556.1.4.801", "30 03 0201 07"},
	{"domain scope", "1.2.840.113556.1.4.1339", ""},
	{"search options", "1.2.840.113556.1.4.1340", "30 03 0201 02"},
	{"subentries", "1.3.6.1.4.1.4203.1.10.1", "0101 ff"},
	{"ManageDsaIT", dit.OIDManageDsaIT, ""},
	{"matched values", "1.2.826.0.1.3344810.2.3", "30 06 87 04 6d61696c"},
	{"assertion", "1.3.6.1.1.12", "87 04 6d61696c"},
	{"proxied authorization", "2.16.840.1.113730.3.4.18", "646e3a"},
	{"pre-read", "1.3.6.1.1.13.1", "30 03 0401 2a"},
	{"dereference", "1.3.6.1.4.1.4203.666.5.16", "30 0e 300c 0406 6d656d626572 3002 0400"},
	{"do not use copy", "1.3.6.1.1.22", ""},
	{"relax rules", "1.3.6.1.4.1.4203.666.5.12", ""},
}

// requests that are no searches, and could tell of entries.
func listingOperations(t testing.TB) (list []attempt) {
	add := func(name string, tag uint32, f func(b *ber.Builder)) {
		list = append(list, attempt{name, [][]byte{envelope(7, func(b *ber.Builder) {
			b.Begin(ber.App(tag, true))
			f(b)
			b.End()
		})}})
	}
	for _, c := range [][3]string{{top, "mail", "z"}, {top, "cn", "*"}, {top, "uid", "zq"}, {top, "objectClass", "inetOrgPerson"}, {"", "mail", "*"}, {"", "namingContexts", top}, {"cn=Subschema", "cn", "*"}, {"uid=*," + top, "mail", "*"}, {"uid=zq," + top, "cn", "zq"}, {top, "hasSubordinates", "TRUE"}, {top, "numSubordinates", "10000"}, {knownToAskerDN, "mail", "*"}} {
		add(fmt.Sprintf("compare %q", c), 14, func(b *ber.Builder) {
			b.Text(ber.OctetString, c[0])
			b.Begin(ber.Sequence)
			b.Text(ber.OctetString, c[1])
			b.Text(ber.OctetString, c[2])
			b.End()
		})
	}
	add("add below the context", 8, func(b *ber.Builder) {
		b.Text(ber.OctetString, "uid=zq,"+top)
		b.Begin(ber.Sequence)
		b.End()
	})
	add("modify the context", 6, func(b *ber.Builder) {
		b.Text(ber.OctetString, top)
		b.Begin(ber.Sequence)
		b.End()
	})
	add("rename to what exists", 12, func(b *ber.Builder) {
		b.Text(ber.OctetString, knownToAskerDN)
		b.Text(ber.OctetString, "uid=zq")
		b.Bool(ber.Boolean, true)
	})
	list = append(list, attempt{"delete the context", [][]byte{envelope(7, func(b *ber.Builder) { b.Text(ber.App(10, false), top) })}})
	for _, oid := range []string{dit.OIDWhoAmI, "1.3.6.1.4.1.4203.1.11.1", "1.3.6.1.1.8", "1.3.6.1.1.19", "1.3.6.1.1.21.1", "1.3.6.1.4.1.1466.101.119.1", "2.16.840.1.113730.3.5.3", "2.16.840.1.113719.1.27.100.3", "1.3.6.1.4.1.26027.1.6.2", "1.2.840.113556.1.4.1781"} {
		list = append(list, attempt{"extended " + oid, [][]byte{extended(7, oid)}})
	}
	for _, dn := range []string{"", "uid=zq," + top, "cn=admin," + top, top, "mail=*"} {
		for _, password := range []string{"", "x"} {
			for _, version := range []int64{2, 3} {
				list = append(list, attempt{fmt.Sprintf("bind %q with %q by version %d", dn, password, version), [][]byte{bind(1, version, dn, password), ask{base: top, scope: 2}.pdu(7)}})
			}
		}
	}
	return list
}

// listingBases are names that a stranger may ask below.
var listingBases = []string{"", " ", top, "DC=B,DC=DIRECT,DC=TEST", "dc=b, dc=direct ,dc=test", "dc=direct,dc=test", "dc=test", "ou=people," + top, "cn=users," + top, "uid=*," + top, "uid=z*," + top, "uid=zq," + top, "uid=zq000," + top, "uid=," + top, "cn=*," + top, "mail=*," + top, "uid=zq+cn=x," + top, "cn=b.direct.test," + top, "uid=b.direct.test," + top, "cn=Subschema", "cn=schema", "cn=config", "cn=monitor", "cn=changelog", "cn=accesslog", "o=b.direct.test", "#30", "uid=#0400," + top, knownToAskerDN, "uid=zq," + knownToAskerDN, "dc=x," + top, "dc=zq,dc=direct,dc=test", "<GUID=00>", "b.direct.test", "cn=Directory Manager", "ou=system", "dc=b,dc=direct,dc=test,"}

// listingAttempts is the whole list, each different from the others.
func listingAttempts(t testing.TB) (list []attempt) {
	t.Helper()
	for _, f := range listingFilters {
		f = strings.ReplaceAll(f, "K", knownToAsker)
		encoded := text(t, f)
		var pdus [][]byte
		for _, base := range []string{"", top} {
			for scope := range int64(3) {
				pdus = append(pdus, ask{base: base, scope: scope, filter: encoded}.pdu(7))
			}
		}
		pdus = append(pdus, ask{base: top, scope: 2, filter: encoded, size: 1, deref: 3, attributes: []string{"*", "+"}}.pdu(7),
			ask{base: top, scope: 1, filter: encoded, typesOnly: true, attributes: []string{"mail"}}.pdu(7))
		list = append(list, attempt{f, pdus})
	}
	for _, base := range listingBases {
		var pdus [][]byte
		for scope := range int64(4) { // 3 is subordinate subtree, of a draft
			pdus = append(pdus, ask{base: base, scope: scope}.pdu(7), ask{base: base, scope: scope, filter: present("mail"), attributes: []string{"mail"}}.pdu(7))
		}
		list = append(list, attempt{fmt.Sprintf("base %q", base), pdus})
	}
	for _, c := range listingControls {
		for _, critical := range []bool{false, true} {
			var pdus [][]byte
			for _, f := range []string{"(objectClass=*)", "(mail=*)", "(mail=" + knownToAsker + ")"} {
				a := ask{base: top, scope: 2, filter: text(t, f), controls: [][]byte{control(c.oid, critical, string(unhex(t, c.value)))}}
				pdus = append(pdus, a.pdu(7), a.pdu(7)) // the second one may go on where the first ended
			}
			list = append(list, attempt{fmt.Sprintf("%s, critical %v", c.name, critical), pdus})
		}
	}
	for _, selection := range [][]string{{"*"}, {"+"}, {"*", "+"}, {"@inetOrgPerson"}, {"hasSubordinates", "numSubordinates"}, {"member", "memberOf"}, {"namingContexts", "defaultNamingContext", "configContext"}, {"1.1", "mail"}} {
		var pdus [][]byte
		for _, base := range []string{"", top, "cn=Subschema", knownToAskerDN, "cn=b.direct.test," + top} {
			pdus = append(pdus, ask{base: base, attributes: selection}.pdu(7))
		}
		list = append(list, attempt{fmt.Sprintf("selection %q", selection), pdus})
	}
	return append(list, listingOperations(t)...)
}

// learned runs an attempt and gives the addresses in its answers that are not
// in its questions.
func learned(t testing.TB, addr string, a attempt) (addresses []string) {
	t.Helper()
	w := dial(t, addr)
	defer w.Close()
	known := addressMark.FindAll(bytes.ToLower(bytes.Join(a.pdus, nil)), -1)
	for _, pdu := range a.pdus {
		w.send(pdu)
		for done := false; !done; {
			m, err := w.read()
			if err != nil {
				t.Fatalf("%s: %x: %v", a.name, pdu, err)
			}
			done = m.tag != 4 && m.tag != 19
			for _, s := range []string{string(m.body), m.matched, m.text} {
				for _, found := range addressMark.FindAllString(strings.ToLower(s), -1) {
					if !slices.ContainsFunc(known, func(k []byte) bool { return string(k) == found }) {
						addresses = append(addresses, found)
					}
				}
			}
		}
	}
	return addresses
}

// TestStrangersLearnNoAddress makes every listing attempt on a directory of
// 10,000 addresses with default settings.
func TestStrangersLearnNoAddress(t *testing.T) {
	spec.Covers(t, "AS-6.1-f")
	attempts := listingAttempts(t)
	distinct := map[string]bool{}
	for _, a := range attempts {
		distinct[hex.EncodeToString(bytes.Join(a.pdus, nil))] = true
	}
	if len(distinct) < 200 || len(distinct) != len(attempts) {
		t.Fatalf("%d attempts, %d of them distinct", len(attempts), len(distinct))
	}
	addr := start(t, crowded(t, population, dit.Options{}), ldapserver.Options{})
	requests := 0
	for _, a := range attempts {
		requests += len(a.pdus)
		if got := learned(t, addr, a); len(got) > 0 {
			t.Errorf("%s: learned %d addresses, as %s", a.name, len(got), got[0])
		}
	}
	t.Logf("%d attempts of %d requests on %d addresses: none learned", len(attempts), requests, population)
}

// TestTheListingAttemptsWouldListAnOpenDirectory shows that the attempts are
// good ones: where listing is allowed, many of them list.
func TestTheListingAttemptsWouldListAnOpenDirectory(t *testing.T) {
	addr := start(t, crowded(t, 300, dit.Options{Anonymous: dit.AnonymousList}), ldapserver.Options{SizeLimit: 3})
	worked := 0
	for _, a := range listingAttempts(t) {
		if len(learned(t, addr, a)) > 0 {
			worked++
		}
	}
	if worked < 120 {
		t.Errorf("only %d attempts work where listing is allowed", worked)
	}
}

// TestWhoIsThereIsNotInTheErrors compares the answers about somebody who is
// there and somebody who is not, for requests that need no such answer: they
// must be the same octets.
func TestWhoIsThereIsNotInTheErrors(t *testing.T) {
	addr := start(t, crowded(t, population, dit.Options{}), ldapserver.Options{})
	w := dial(t, addr)
	request := func(name string, f func(dn string) []byte) {
		t.Helper()
		var answers []string
		for _, dn := range []string{knownToAskerDN, "uid=zq000x," + top} {
			w.send(f(dn))
			answers = append(answers, strings.ReplaceAll(string(w.must().body), dn, "DN"))
		}
		if answers[0] != answers[1] {
			t.Errorf("%s: %x for one who is there, %x for one who is not", name, answers[0], answers[1])
		}
	}
	request("bind with a password", func(dn string) []byte { return bind(7, 3, dn, "x") })
	request("bind without a password", func(dn string) []byte { return bind(7, 3, dn, "") })
	request("delete", func(dn string) []byte {
		return envelope(7, func(b *ber.Builder) { b.Text(ber.App(10, false), dn) })
	})
	for tag, name := range map[uint32]string{6: "modify", 8: "add"} {
		request(name, func(dn string) []byte {
			return envelope(7, func(b *ber.Builder) {
				b.Begin(ber.App(tag, true))
				b.Text(ber.OctetString, dn)
				b.Begin(ber.Sequence)
				b.End()
				b.End()
			})
		})
	}
	request("rename", func(dn string) []byte {
		return envelope(7, func(b *ber.Builder) {
			b.Begin(ber.App(12, true))
			b.Text(ber.OctetString, dn)
			b.Text(ber.OctetString, "uid=x")
			b.Bool(ber.Boolean, true)
			b.End()
		})
	})
}

// TestGuessesAreFewWhateverTheirForm guesses for a minute with default
// settings, as fast as the server answers, and counts the addresses that were
// tried: never more than the rate for what finds nothing, while who finds what
// he looks for may ask as often as the rate for searches says.
func TestGuessesAreFewWhateverTheirForm(t *testing.T) {
	n := 0
	guess := func() string { n++; return fmt.Sprintf("guess%06d@b.direct.test", n) }
	mail := func(value string) []byte { return equal("mail", value) }
	const known, domain = "bob@b.direct.test", "b.direct.test"
	for name, c := range map[string]struct {
		tried int // addresses by one request
		pdu   func() []byte
	}{
		"one address":                 {1, func() []byte { return ask{base: top, scope: 2, filter: mail(guess())}.pdu(7) }},
		"one address, one level":      {1, func() []byte { return ask{base: top, scope: 1, filter: mail(guess())}.pdu(7) }},
		"one address in all contexts": {1, func() []byte { return ask{scope: 2, filter: mail(guess())}.pdu(7) }},
		"four addresses": {4, func() []byte {
			return ask{base: top, scope: 2, filter: or(mail(guess()), mail(guess()), mail(guess()), mail(guess()))}.pdu(7)
		}},
		"three and one that is there": {3, func() []byte {
			return ask{base: top, scope: 2, filter: or(mail(known), mail(guess()), mail(guess()), mail(guess()))}.pdu(7)
		}},
		"one that is there and three": {3, func() []byte {
			return ask{base: top, scope: 2, filter: or(mail(guess()), mail(guess()), mail(guess()), mail(known))}.pdu(7)
		}},
		"one and the domain": {1, func() []byte { return ask{base: top, scope: 2, filter: or(mail(domain), mail(guess()))}.pdu(7) }},
		"three and one, at most one entry": {3, func() []byte {
			return ask{base: top, scope: 2, size: 1, filter: or(mail(guess()), mail(guess()), mail(guess()), mail(known))}.pdu(7)
		}},
		"one, and a condition": {1, func() []byte {
			return ask{base: top, scope: 2, filter: and(mail(guess()), present("userCertificate"))}.pdu(7)
		}},
		"by name": {1, func() []byte { g, _, _ := strings.Cut(guess(), "@"); return ask{base: "uid=" + g + "," + top}.pdu(7) }},
		"by name, a search that is refused": {1, func() []byte {
			g, _, _ := strings.Cut(guess(), "@")
			return ask{base: "uid=" + g + "," + top, scope: 2}.pdu(7)
		}},
		"by name, with a filter that is not": {1, func() []byte {
			g, _, _ := strings.Cut(guess(), "@")
			return ask{base: "uid=" + g + "," + top, filter: or()}.pdu(7)
		}},
		"below one who is there": {1, func() []byte { return ask{base: bobDN, scope: 2, filter: mail(guess())}.pdu(7) }},
		"by compare": {1, func() []byte {
			g, _, _ := strings.Cut(guess(), "@")
			return envelope(7, func(b *ber.Builder) {
				b.Begin(ber.App(14, true))
				b.Text(ber.OctetString, "uid="+g+","+top)
				b.Begin(ber.Sequence)
				b.Text(ber.OctetString, "mail")
				b.Text(ber.OctetString, "x")
				b.End()
				b.End()
			})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, w wire) {
				// 5 a second, and 5 seconds' worth at once; the last request before the
				// bucket is full may be over.
				const most = 5*60 + 25 + 4
				if tried := c.tried * answered(t, w, c.pdu); tried > most || tried < most/2 {
					t.Errorf("%d addresses were tried in a minute, at most %d may be", tried, most)
				}
			})
		})
	}
	for name, f := range map[string][]byte{"an address": mail(known), "the domain": mail(domain), "two": or(mail(known), mail("carol@b.direct.test")), "address or domain": or(mail(known), mail(domain))} {
		t.Run("found: "+name, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, w wire) {
				if found := answered(t, w, func() []byte { return ask{base: top, scope: 2, filter: f}.pdu(7) }); found < 20*60 {
					t.Errorf("%d searches were answered in a minute, want 20 a second", found)
				}
			})
		})
	}
}

// answered asks again and again for a minute and counts the answers that are
// not busy(51).
func answered(t *testing.T, w wire, pdu func() []byte) (n int) {
	for range 60 * 25 {
		w.SetDeadline(time.Time{})
		w.send(pdu())
		m := w.must()
		for m.tag == 4 {
			m = w.must()
		}
		if m.code != 51 {
			n++
		}
		time.Sleep(time.Second / 25)
	}
	return n
}

// TestInteropHarvestByLdapsearch lists with OpenLDAP's client and its
// extensions, as somebody at a shell does.
func TestInteropHarvestByLdapsearch(t *testing.T) {
	peerOrSkip(t, "ldapsearch")
	addr := start(t, crowded(t, population, dit.Options{}), ldapserver.Options{})
	for _, args := range [][]string{
		{}, {"-b", ""}, {"-b", top}, {"-b", top, "-s", "one"}, {"-b", top, "-s", "children"}, {"-b", top, "-z", "0", "-l", "0", "mail=*"},
		{"-b", top, "-E", "pr=100/noprompt", "(mail=*)", "mail"}, {"-b", top, "-E", "!pr=100/noprompt", "(mail=*)", "mail"},
		{"-b", top, "-E", "sss=mail"}, {"-b", top, "-E", "sss=mail", "-E", "vlv=0/99/1/0"}, {"-b", top, "-E", "sync=ro"},
		{"-b", top, "-E", "subentries=true"}, {"-b", top, "-E", "domainScope"}, {"-b", top, "-E", "mv=((mail=*))", "(objectClass=*)"},
		{"-b", top, "-a", "always", "(|(uid=z*)(cn=*))", "*", "+"}, {"-b", top, "-A"}, {"-b", "cn=Subschema", "-s", "base", "+"}, {"-b", "", "-s", "base", "*", "+"},
	} {
		out, _ := ldapsearch(t, addr, args...)
		if found := addressMark.FindString(out); found != "" || out == "" {
			t.Errorf("%q: learned %s\n%.500s", args, found, out)
		}
	}
}

// peerOrSkip skips loudly where a program is missing.
func peerOrSkip(t *testing.T, name string) {
	t.Helper()
	_, err := exec.LookPath(name)
	switch {
	case err != nil && os.Getenv("DIRECTNODE_PEERS") == "required":
		t.Fatalf("peer %s absent", name)
	case err != nil:
		t.Skipf("SKIP peer %s absent", name)
	}
}

// TestOneAddressHasOneBudgetOnAllItsConnections: one address with all its connections
// has the budget of one.
func TestOneAddressHasOneBudgetOnAllItsConnections(t *testing.T) {
	addr := start(t, world(t, dit.Options{}), ldapserver.Options{Exempt: everybody(), MissRate: 1, SearchRate: 1000})
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}
	answers := map[int64]int{}
	for range 8 {
		c, err := from.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		for range 10 {
			_, done := wire{t, c}.search(ask{base: top, scope: 2, filter: equal("mail", "nobody@b.direct.test")})
			answers[done.code]++
		}
	}
	if answers[0] < 5 || answers[0] > 15 || answers[0]+answers[51] != 80 {
		t.Errorf("results = %v: five seconds' worth of one a second may be used at once", answers)
	}
}
