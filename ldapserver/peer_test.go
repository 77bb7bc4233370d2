package ldapserver_test

import (
	"context"
	"encoding/base64"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"directnode/internal/spec"
	"directnode/internal/testpki"
	"directnode/ldapserver"
	"directnode/ldapserver/dit"
)

// ldapsearch runs OpenLDAP's client and gives what it prints and its exit
// code, which is the LDAP result code.
func ldapsearch(t *testing.T, addr string, args ...string) (string, int) {
	t.Helper()
	path, err := exec.LookPath("ldapsearch")
	if err != nil {
		t.Skip("SKIP peer ldapsearch absent")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	args = append([]string{"-x", "-LLL", "-o", "ldif-wrap=no", "-H", "ldap://" + addr}, args...)
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("ldapsearch %q: %v", args, err)
	}
	code := 0
	if exit != nil {
		code = exit.ExitCode()
	}
	return string(out), code
}

// TestDiscoveryByLdapsearch takes the steps of certificate discovery with an
// independent client: hosting cases H3 and H4, in mixed case, and an address
// that is not hosted.
func TestDiscoveryByLdapsearch(t *testing.T) {
	root := testpki.New(t).Root("Test Root")
	bob := root.Leaf("bob", testpki.Address("bob@b.direct.test"))
	org := root.Leaf("b", testpki.Domain("b.direct.test"))
	tr := published(t, dit.Options{}, "b.direct.test="+string(org.DER), "bob@b.direct.test="+string(bob.DER))
	addr := start(t, tr, ldapserver.Options{})
	bob64, org64 := base64.StdEncoding.EncodeToString(bob.DER), base64.StdEncoding.EncodeToString(org.DER)
	const both = "(&(mail=X)(|(userCertificate;binary=*)(userCertificate=*)))"
	at := func(filter, subject string) string { return strings.ReplaceAll(filter, "X", subject) }
	for name, c := range map[string]struct {
		args []string
		want []string // lines of the output, in order
		code int
	}{
		"root DSE": {[]string{"-b", "", "-s", "base", "objectclass=*", "namingContexts"},
			[]string{"dn:", "namingContexts: dc=b,dc=direct,dc=test"}, 0},
		"subschema": {[]string{"-b", "cn=Subschema", "-s", "base", "(objectClass=subschema)", "cn"}, []string{"dn: cn=Subschema", "cn: Subschema"}, 0},
		"H3":        {[]string{"-b", top, at(both, "bob@b.direct.test"), "userCertificate;binary"}, []string{"dn: " + bobDN, "userCertificate;binary:: " + bob64}, 0},
		"H3 DTS557": {[]string{"-b", strings.ToUpper(top), at("(mail=X)", "BOB@B.direct.TEST"), "usercertificate"}, []string{"dn: " + bobDN, "userCertificate:: " + bob64}, 0},
		"H4":        {[]string{"-b", top, at(both, "b.direct.test"), "userCertificate;binary"}, []string{"dn: " + orgDN, "userCertificate;binary:: " + org64}, 0},
		"H4 DTS557": {[]string{"-b", top, "(mail=B.DIRECT.test)", "userCertificate;binary", "userCertificate"}, []string{"dn: " + orgDN, "userCertificate;binary:: " + org64}, 0},
		"DTS577":    {[]string{"-b", top, "(mail=nobody@b.direct.test)"}, nil, 0},
		"address or domain at the empty base": {[]string{"-b", "", "(|(mail=nobody@b.direct.test)(mail=b.direct.test))", "cn"},
			[]string{"dn: " + orgDN, "cn: b.direct.test"}, 0},
		"listing": {[]string{"-b", top, "(mail=*)"},
			[]string{"Server is unwilling to perform (53)", "Additional information: anonymous search needs a filter that names the address: (mail=user@example.org), or up to four of them in an OR"}, 53},
		"an escaped star": {[]string{"-b", top, `(mail=\2a)`}, nil, 0},
		"no such base":    {[]string{"-b", "dc=c," + top, "(mail=x)"}, []string{"No such object (32)", "Matched DN: " + top}, 32},
		"paged, not critical": {[]string{"-b", top, "-E", "pr=10/noprompt", "(mail=bob@b.direct.test)", "uid"},
			[]string{"dn: " + bobDN, "uid: bob"}, 0},
		"paged, critical": {[]string{"-b", top, "-E", "!pr=10/noprompt", "(mail=bob@b.direct.test)", "uid"},
			[]string{"dn: " + bobDN, "uid: bob"}, 0},
		"paged, one by one": {[]string{"-b", "", "-E", "!pr=1/noprompt", "(|(mail=bob@b.direct.test)(mail=b.direct.test))", "cn"},
			[]string{"dn: " + bobDN, "cn: bob@b.direct.test", "dn: " + orgDN, "cn: b.direct.test"}, 0},
		"a critical control that nobody knows": {[]string{"-b", top, "-e", "!1.2.3.4", "(mail=bob@b.direct.test)", "uid"},
			[]string{"Critical extension is unavailable (12)", "Additional information: critical control not supported"}, 12},
		"extensible":            {[]string{"-b", top, "(mail:caseIgnoreIA5Match:=BOB@b.direct.test)", "uid"}, []string{"dn: " + bobDN, "uid: bob"}, 0},
		"ManageDsaIT, critical": {[]string{"-M", "-M", "-b", top, "(mail=bob@b.direct.test)", "uid"}, []string{"dn: " + bobDN, "uid: bob"}, 0},
		"StartTLS refused":      {[]string{"-ZZ", "-b", "", "-s", "base"}, []string{"ldap_start_tls: Protocol error (2)", "additional info: TLS is not configured"}, 1},
		"bind with a password":  {[]string{"-D", "cn=admin", "-w", "secret", "-b", ""}, []string{"ldap_bind: Invalid credentials (49)", "additional info: there are no accounts here; bind with an empty name and an empty password"}, 49},
		"version 2":             {[]string{"-P", "2", "-b", ""}, []string{"ldap_bind: Protocol error (2)", "additional info: only LDAP version 3 is spoken"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			if c.code == 0 && strings.HasPrefix(name, "H") {
				spec.Covers(t, "AS-1.4-f", "AS-1.4-h", "AS-5.0-d")
			}
			out, code := ldapsearch(t, addr, c.args...)
			var lines []string
			for line := range strings.Lines(out) {
				if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "# pagedresults") {
					lines = append(lines, line)
				}
			}
			if strings.Join(lines, "\n") != strings.Join(c.want, "\n") || code != c.code {
				t.Errorf("code %d\n%s\nwant code %d\n%s", code, strings.Join(lines, "\n"), c.code, strings.Join(c.want, "\n"))
			}
		})
	}
}
