package admin_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"directnode/internal/admin"
	"directnode/internal/testpki"
)

// account is the items of an import without their fingerprints, a line each.
func account(res admin.ImportResult) (lines []string) {
	for _, i := range res.Items {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s %s %.60s", i.State, i.File, i.Owner, i.Reason)))
	}
	return lines
}

// TestExportsOfOtherServersAreTaken: each file of testdata/ldif has the layout
// of the tool that it is named after. Those of OpenLDAP were written by it.
func TestExportsOfOtherServersAreTaken(t *testing.T) {
	const notOurs = "not taken under this address: bob@mail.example.net is in no"
	const unbound = "taken as published, but its subjectAltName does not bind it"
	// Every directory has the same people.
	people := func(alice, bob, other, org, eve string) []string {
		return []string{
			"taken f:" + alice + " alice@dir.example.org", "taken f:" + alice + " alice@dir.example.org",
			"warning f:" + other + "  " + notOurs,
			"taken f:" + bob + " bob@dir.example.org", "warning f:" + bob + " Bob.Baer@dir.example.org " + unbound,
			"taken f:" + org + " dir.example.org",
			"refused f:" + eve + "  eve@elsewhere.example is in no domain of this node; add the",
		}
	}
	for name, c := range map[string]struct {
		want []string
		plan admin.EntryPlan
		code int
	}{
		"slapcat":        {people("27", "58", "64", "94", "119"), admin.EntryPlan{Read: 7, Taken: 3, Without: 3, Refused: 1}, 1},
		"ldapsearch":     {people("24", "49", "55", "73", "92"), admin.EntryPlan{Read: 7, Taken: 3, Without: 3, Refused: 1}, 1},
		"ldapsearch-LLL": {people("13", "37", "43", "59", "77"), admin.EntryPlan{Read: 7, Taken: 3, Without: 3, Refused: 1}, 1},
		"ldapsearch-cut": {[]string{"taken f:24 alice@dir.example.org", "taken f:24 alice@dir.example.org", "warning f  not all that was asked for is in it: line 50: the search tha"},
			admin.EntryPlan{Read: 3, Taken: 1, Without: 2}, 3},
		"db2ldif":   {people("30", "64", "74", "108", "140"), admin.EntryPlan{Read: 7, Taken: 3, Without: 3, Refused: 1}, 1},
		"db2ldif-r": {[]string{"taken f:20 alice@dir.example.org"}, admin.EntryPlan{Read: 4, Taken: 1, Without: 3}, 0},
		"apacheds":  {slices.Insert(people("13", "44", "52", "66", "92"), 6, "warning f:86  userSMIMECertificate alone: Direct clients ask for userCerti"), admin.EntryPlan{Read: 6, Taken: 3, Without: 2, Refused: 1}, 1},
		"changes":   {[]string{"taken f:3 alice@dir.example.org", "refused f:19  changetype modify: only entries can be imported, and changes", "refused f:32  changetype delete: only entries can be imported, and changes"}, admin.EntryPlan{Read: 3, Taken: 1, Refused: 2}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			if _, err := n.AddDomain(t.Context(), admin.DomainRequest{Domain: "dir.example.org"}); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(filepath.Join("testdata", "ldif", name+".ldif"))
			if err != nil {
				t.Fatal(err)
			}
			for _, dry := range []bool{true, false} {
				res, err := n.ImportLDIF(t.Context(), admin.ImportRequest{Files: []admin.File{file("f", data)}, DryRun: dry})
				if err != nil {
					t.Fatal(err)
				}
				checkAccount(t, res)
				if got := account(res); !slices.Equal(got, c.want) || res.Code != c.code || *res.Plan.Entries != c.plan {
					t.Errorf("dry run %v: code %d, %+v\n%s\nwant code %d, %+v\n%s", dry, res.Code, *res.Plan.Entries, strings.Join(got, "\n"), c.code, c.plan, strings.Join(c.want, "\n"))
				}
			}
		})
	}
}

// TestAnEntryIsTakenWholeOrNotAtAll: whatever is wrong with one value, nothing
// of its entry is here afterward, and all of the others is.
func TestAnEntryIsTakenWholeOrNotAtAll(t *testing.T) {
	ca := testpki.New(t).Root("CA")
	leaf := func(name string, serial int64, more ...testpki.Option) []byte {
		return ca.Leaf(name, append(more, testpki.Address(name+"@a.direct.test"), testpki.Serial(serial))...).DER
	}
	good := ldifOf("good@a.direct.test", leaf("good", 1))
	entry := func(lines ...string) string {
		return "dn: cn=bob,dc=a\n" + strings.Join(lines, "\n") + "\n\n"
	}
	value := func(der []byte) string { return "userCertificate;binary:: " + base64Of(der) }
	mail := "mail: bob@a.direct.test"
	var many []string
	for i := range 21 {
		many = append(many, value(leaf("bob", int64(i+1))))
	}
	large := value(leaf("bob", 9, testpki.Extension([]int{1, 2, 3, 4}, false, bytes.Repeat([]byte{'x'}, 59_500))))
	for name, c := range map[string]struct {
		text string
		item string
	}{
		"one of two is no certificate": {entry(mail, many[0], "userCertificate:: QUJD"), "f:11  userCertificate does not parse"},
		"one is PEM":                   {entry(mail, many[0], "userCertificate:: "+base64Of([]byte("-----BEGIN CERTIFICATE-----\n"))), "f:11  userCertificate is PEM text"},
		"one is not Base64":            {entry(mail, many[0], "userCertificate:: *"), "f:11  userCertificate:: is not Base64"},
		"one is in a file":             {entry(mail, many[0], "userCertificate:< file:///etc/passwd"), "f:11  userCertificate:< file:///etc/passwd: the value is not here"},
		"one by HTTP":                  {entry(mail, many[0], "userCertificate:< http://c.test/x"), "f:11  userCertificate:< http://c.test/x: the value is not here"},
		"the 21st":                     {entry(append([]string{mail}, many...)...), "f:8  certificate"},
		"60,000 octets":                {entry(mail, many[0], large), "f:8  certificate"},
		"nobody":                       {entry(many[0]), "f:8  userCertificate without mail"},
		"somebody of ours and a fault": {entry(mail, "mail: alice@a.direct.test", many[0], "userCertificate:: QUJD"), "f:12  userCertificate does not parse"},
		"an address that is none":      {entry("mail: bob", many[0]), "f:9  "},
		"a change":                     {entry("changetype: modify", "add: userCertificate", many[0], "-"), "f:9  changetype modify"},
	} {
		n := newNode(t)
		res, err := n.ImportLDIF(t.Context(), admin.ImportRequest{Files: []admin.File{file("f", []byte(good+c.text+ldifOf("last@a.direct.test", leaf("last", 2))))}})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		checkAccount(t, res)
		if len(res.Items) != 3 || !strings.HasPrefix(account(res)[1], "refused "+c.item) || res.Code != admin.CodeFailed {
			t.Errorf("%s: %q", name, account(res))
		}
		if got := n.owners(); !slices.Equal(got, []string{"good@a.direct.test [ldap] false", "last@a.direct.test [ldap] false"}) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestAPlanOfLDIFComesBeforeTheChange(t *testing.T) {
	n, p := newNode(t), newPKI(t)
	n.imports(admin.ImportRequest{Files: []admin.File{file("o", p.org.DER)}})
	text := ldifOf("a.direct.test", p.org.DER) + ldifOf("alice@a.direct.test", p.alice.DER) + ldifOf("mallory@a.direct.test", p.foreign.DER) + ldifOf("old@a.direct.test", p.expired.DER) +
		"dn: cn=carol,dc=a\nmail: carol@a.direct.test\n\n" + ldifOf("x@elsewhere.test", p.foreign.DER)
	for _, strict := range []bool{true, false} {
		for _, dry := range []bool{true, false} {
			before := n.store.View()
			plans := 0
			req := admin.ImportRequest{Strict: strict, DryRun: dry}
			res, err := n.ImportLDIFText(t.Context(), req, admin.Source{Name: "l", Text: strings.NewReader(text)}, func(e admin.Event) {
				if e.Plan == nil {
					return
				}
				plans++
				if n.store.View() != before {
					t.Error("the plan came after the change")
				}
			})
			if err != nil || plans != 1 || res.Plan == nil || res.Plan.Records != nil || res.Plan.Domain != "" {
				t.Fatalf("%+v: %+v, %v, %d plans", req, res, err, plans)
			}
			want, certs := admin.EntryPlan{Read: 6, Taken: 3, Without: 1, Refused: 1}, [5]int{2, 1, 1, 0, 1}
			if !strict {
				want.Taken, certs = 4, [5]int{1, 3, 0, 1, 1}
			}
			c := res.Plan.Certificates
			if got := [5]int{c.New, c.Known, c.Left, c.Unbound, c.Expired}; *res.Plan.Entries != want || got != certs || len(c.Owners) != 4 {
				t.Errorf("%+v: %+v, %+v", req, *res.Plan.Entries, c)
			}
			if (n.store.View() == before) != dry {
				t.Errorf("%+v: changed %v", req, n.store.View() != before)
			}
		}
	}
}

func TestWhatIsNoLDIFChangesNothing(t *testing.T) {
	n, p := newNode(t), newPKI(t)
	before := n.store.View()
	good := ldifOf("alice@a.direct.test", p.alice.DER)
	for name, text := range map[string]string{
		"a long line":     good + strings.Repeat("x", 300<<10),
		"something else":  good + strings.Repeat("x\n\n", 2000),
		"a folded novel":  good + "a: b\n" + strings.Repeat(" \n", 70_000),
		"a long value":    good + "dn: x=" + strings.Repeat("x\n ", 150_000),
		"a byte too many": good + "#" + strings.Repeat("x", 256<<10),
	} {
		_, err := n.client.Import(t.Context(), "ldif.import", admin.ImportRequest{}, whole("f", text), nil)
		if e := asError(t, err); e.ID != "DN-LDIF-002" || e.Code != admin.CodeFailed || !strings.HasPrefix(e.Why, "f:") {
			t.Errorf("%s: %+v", name, e)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := n.ImportLDIFText(ctx, admin.ImportRequest{}, admin.Source{Name: "f", Text: strings.NewReader(good)}, func(admin.Event) { cancel() })
	if e := asError(t, err); e.Code != admin.CodeTemporary {
		t.Errorf("nobody waits for it any more: %+v", e)
	}
	if n.store.View() != before {
		t.Error("something was taken")
	}
}

// TestAnExportOfAnImportIsTheExport, whatever is in it, on another node too.
func TestAnExportOfAnImportIsTheExport(t *testing.T) {
	ca := testpki.New(t).Root("CA")
	locals := []string{"bob", "Bob.Smith", "x+tag", `"o'hara, x"`, `"a \"b\" c"`, `"#,x"`, `" lead"`, `"trail "`, "a=b", "very.long.local.part.that.makes.the.line.longer.than.a.fold"}
	var ders [][]byte
	for i := range 12 {
		ders = append(ders, ca.Leaf("x", testpki.Address(locals[i%len(locals)]+"@a.direct.test"), testpki.Serial(int64(i+1))).DER)
	}
	export := func(n *node) string {
		var b bytes.Buffer
		if err := n.client.Export(t.Context(), "ldif.export", admin.ExportRequest{Domain: "a.direct.test"}, &b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	imported := func(n *node, text string) admin.ImportResult {
		res, err := n.client.Import(t.Context(), "ldif.import", admin.ImportRequest{}, whole("f", text), nil)
		if err != nil || res.Refused > 0 {
			t.Fatalf("%+v, %v", res, err)
		}
		return res
	}
	for seed := range uint64(15) { // each with two nodes, which take their time
		r := rand.New(rand.NewPCG(1, seed))
		var text strings.Builder
		for range r.IntN(11) {
			owner := locals[r.IntN(len(locals))] + "@a.direct.test"
			if r.IntN(6) == 0 {
				owner = "a.direct.test"
			}
			text.WriteString(ldifOf(owner, ders[r.IntN(len(ders))]))
		}
		first, second := newNode(t), newNode(t)
		imported(first, text.String())
		was := export(first)
		view := first.store.View()
		if imported(first, was); first.store.View() != view {
			t.Fatalf("seed %d: an import of what was exported changed something", seed)
		}
		imported(second, was)
		if again := export(second); again != was || export(first) != was {
			t.Fatalf("seed %d: export\n%s\nbecame\n%s", seed, was, again)
		}
	}
}

// manyEntries is an export of that many owners with the sizes of real ones.
func manyEntries(t *testing.T, count int) string {
	ca := testpki.New(t).Root("CA")
	var b strings.Builder
	b.Grow(count * (2400))
	leaf := ca.Leaf("owner", testpki.Address("owner000000@a.direct.test")).DER
	at := bytes.Index(leaf, []byte("owner000000@"))
	for i := range count {
		copy(leaf[at:], fmt.Sprintf("owner%06d", i)) // the signature does not matter here
		der := base64Of(leaf)
		fmt.Fprintf(&b, "dn: uid=owner%06d,ou=People,dc=a,dc=direct,dc=test\nobjectClass: top\nobjectClass: person\nobjectClass: organizationalPerson\nobjectClass: inetOrgPerson\ncn: Owner %d\nsn: Owner\nuid: owner%06d\nmail: owner%06d@a.direct.test\n", i, i, i, i)
		line := "userCertificate;binary:: " + der
		for len(line) > 78 {
			b.WriteString(line[:78] + "\n ")
			line = line[78:]
		}
		b.WriteString(line + "\nstructuralObjectClass: inetOrgPerson\nentryUUID: 88e7f77e-7c7e-1041-9356-4b4bb01c33b3\ncreatorsName: cn=admin,dc=a,dc=direct,dc=test\ncreateTimestamp: 20260301120000Z\nentryCSN: 20260301120000.581965Z#000000#000#000000\nmodifiersName: cn=admin,dc=a,dc=direct,dc=test\nmodifyTimestamp: 20260301120000Z\n\n")
	}
	return b.String()
}

// TestALargeDirectoryIsStreamed: 2,000 entries, or DNS_LDIF_ENTRIES of them,
// for which it logs what they cost.
func TestALargeDirectoryIsStreamed(t *testing.T) {
	count := 2000
	if s := os.Getenv("DNS_LDIF_ENTRIES"); s != "" {
		var err error
		if count, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	text := manyEntries(t, count)
	n := newNode(t)
	start := time.Now()
	res, err := n.client.Import(t.Context(), "ldif.import", admin.ImportRequest{}, whole("f", text), nil)
	if err != nil || res.Taken != count || res.Code != admin.CodeOK {
		t.Fatalf("%d taken, %d refused, code %d, %v", res.Taken, res.Refused, res.Code, err)
	}
	took := time.Since(start)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start = time.Now()
	sink := &counting{}
	if err := n.client.Export(t.Context(), "ldif.export", admin.ExportRequest{Domain: "a.direct.test"}, sink); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	t.Logf("%d entries, %d octets: import %v, %.0f a second; export of %d octets %v, which allocated %d octets", count, len(text), took, float64(count)/took.Seconds(), sink.n, time.Since(start), after.TotalAlloc-before.TotalAlloc)
	// A list of the owners, a page at a time of the text: not the text.
	if spent := after.TotalAlloc - before.TotalAlloc; spent > uint64(sink.n)/2+16<<20 {
		t.Errorf("an export of %d octets allocated %d", sink.n, spent)
	}
}

type counting struct{ n int64 }

func (c *counting) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// peer finds a program of OpenLDAP.
func peer(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	switch {
	case err != nil && os.Getenv("DIRECTNODE_PEERS") == "required":
		t.Fatalf("peer %s absent", name)
	case err != nil:
		t.Skipf("SKIP peer %s absent", name)
	}
	return path
}

// TestInteropSlapdTakesAnExport: slapadd loads it with the schema checked,
// slapcat writes it in its own way, and an import of that is the same again.
func TestInteropSlapdTakesAnExport(t *testing.T) {
	slapadd, slapcat := peer(t, "slapadd"), peer(t, "slapcat")
	n, p := newNode(t), newPKI(t)
	ca := testpki.New(t).Root("CA")
	text := ldifOf("a.direct.test", p.org.DER) + ldifOf("alice@a.direct.test", p.alice.DER)
	for i, local := range []string{"Bob.Smith", "x+tag", `"o'hara, x"`, `"a \"b\" c"`, `"#,x"`, `" lead"`, `"trail "`, "a=b"} {
		owner := local + "@a.direct.test"
		text += ldifOf(owner, ca.Leaf("x", testpki.Address(owner), testpki.Serial(int64(i+1))).DER) + ldifOf(owner, ca.Leaf("x", testpki.Address(owner), testpki.Serial(int64(i+100))).DER)
	}
	if res, err := n.ImportLDIF(t.Context(), admin.ImportRequest{Files: []admin.File{file("f", []byte(text))}}); err != nil || res.Code != admin.CodeOK {
		t.Fatalf("%+v, %v", res, err)
	}
	was, err := n.ExportLDIF(t.Context(), admin.ExportRequest{Domain: "a.direct.test"})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	conf, exported := filepath.Join(dir, "slapd.conf"), filepath.Join(dir, "export.ldif")
	db := filepath.Join(dir, "db")
	settings := fmt.Sprintf("include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\ninclude /etc/ldap/schema/inetorgperson.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\ndatabase mdb\nsuffix \"dc=a,dc=direct,dc=test\"\ndirectory %s\nmaxsize 16777216\n", db)
	for path, content := range map[string]string{conf: settings, exported: was.Text} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(db, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), slapadd, "-f", conf, "-l", exported).CombinedOutput(); err != nil {
		t.Fatalf("slapadd: %v\n%s", err, out)
	}
	theirs, err := exec.CommandContext(t.Context(), slapcat, "-f", conf).Output()
	if err != nil {
		t.Fatalf("slapcat: %v", err)
	}
	second := newNode(t)
	if res, err := second.ImportLDIF(t.Context(), admin.ImportRequest{Files: []admin.File{file("f", theirs)}}); err != nil || res.Code != admin.CodeOK {
		t.Fatalf("%q, %v", account(res), err)
	}
	again, err := second.ExportLDIF(t.Context(), admin.ExportRequest{Domain: "a.direct.test"})
	if err != nil || again.Text != was.Text {
		t.Errorf("%v: through slapd\n%s\nbecame\n%s", err, was.Text, again.Text)
	}
}
