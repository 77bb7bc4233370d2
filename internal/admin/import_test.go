package admin_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"directnode/internal/admin"
	"directnode/internal/testpki"
	"directnode/store"
)

func TestABatchTakesWhatItCanAndNamesTheRest(t *testing.T) {
	n, p := newNode(t), newPKI(t)
	res := n.imports(admin.ImportRequest{Files: []admin.File{
		file("alice.key", p.alice.KeyPEM()), // before its certificate, in a file of its own
		file("pairs.pem", p.bob.KeyPEM(), p.bob.CertPEM(), p.org.CertPEM(), p.org.KeyPEM()),
		file("alice.crt", p.alice.DER),
		file("foreign.pem", p.foreign.CertPEM(), p.foreign.KeyPEM()),
		file("root.pem", p.root.CertPEM()),
		file("lonely.key", p.expired.KeyPEM()),
		file("note.txt", []byte("hello")),
		file("empty"),
	}})
	if res.Taken != 3 || res.Refused != 6 || res.Code != admin.CodeFailed {
		t.Errorf("result %+v", res)
	}
	want := []string{"a.direct.test [dns ldap] true", "alice@a.direct.test [dns ldap] true", "bob@b.direct.test [dns ldap] true"}
	if got := n.owners(); !slices.Equal(got, want) {
		t.Errorf("stored %v", got)
	}
	for name, why := range map[string]string{
		"foreign.pem certificate": "no domain of this node", "foreign.pem key": "the key of a certificate that was refused",
		"root.pem certificate": "directctl anchor add", "lonely.key key": "no certificate for it", "note.txt file": "is neither", "empty file": "is empty",
	} {
		i := slices.IndexFunc(res.Items, func(i admin.ImportItem) bool { return i.File+" "+i.Kind == name })
		if i < 0 || res.Items[i].State != "refused" || !strings.Contains(res.Items[i].Reason, why) {
			t.Errorf("%s is not refused because %q: %+v", name, why, res.Items)
		}
	}
}

func TestADryRunSaysWhatWouldBeAndChangesNothing(t *testing.T) {
	n, p := newNode(t), newPKI(t)
	before := n.store.View()
	req := admin.ImportRequest{DryRun: true, Files: []admin.File{file("p.pem", p.alice.CertPEM(), p.alice.KeyPEM()), file("x", []byte("x"))}}
	dry := n.imports(req)
	if n.store.View() != before || len(n.owners()) != 0 {
		t.Error("a dry run changed the store")
	}
	req.DryRun = false
	if real := n.imports(req); !slices.Equal(real.Items, dry.Items) || real.Taken != dry.Taken || real.Code != dry.Code {
		t.Errorf("dry run %+v\nreal run %+v", dry, real)
	}
}

func TestACertificateIsNotTakenWithoutItsKey(t *testing.T) {
	n, p := newNode(t, func(o *store.Options) { o.Seal = nil }), newPKI(t)
	res := n.imports(admin.ImportRequest{Files: []admin.File{file("pair.pem", p.alice.CertPEM(), p.alice.KeyPEM()), file("bob.pem", p.bob.CertPEM())}})
	if got := n.owners(); !slices.Equal(got, []string{"bob@b.direct.test [dns ldap] false"}) {
		t.Errorf("stored %v by %+v", got, res)
	}
	if res.Taken != 1 || res.Refused != 2 || !strings.Contains(res.Items[0].Reason, "needs the master key") {
		t.Errorf("result %+v", res)
	}
}

func TestAKeyThatIsThereTwiceIsTakenOnce(t *testing.T) {
	n, p := newNode(t), newPKI(t)
	res := n.imports(admin.ImportRequest{Files: []admin.File{file("a.pem", p.alice.CertPEM(), p.alice.KeyPEM()), file("alice.key", p.alice.KeyDER())}})
	if res.Taken != 1 || res.Refused != 0 {
		t.Errorf("result %+v", res)
	}
}

func TestPublicationFollowsTheLastOrder(t *testing.T) {
	n, p := newNode(t), newPKI(t)
	files := []admin.File{file("a.pem", p.alice.CertPEM())}
	for _, step := range []struct {
		publish []string
		want    string
	}{
		{[]string{"ldap"}, "[ldap]"}, {[]string{"dns"}, "[dns]"}, {[]string{"none"}, "[]"}, {nil, "[]"}, {[]string{"dns", "ldap"}, "[dns ldap]"}, {nil, "[dns ldap]"},
	} {
		n.imports(admin.ImportRequest{Files: files, Publish: step.publish})
		if got := n.owners(); !slices.Equal(got, []string{"alice@a.direct.test " + step.want + " false"}) {
			t.Errorf("--publish %v left %v", step.publish, got)
		}
	}
	_, err := n.ImportCertificates(t.Context(), admin.ImportRequest{Files: files, Publish: []string{"web"}})
	if e := asError(t, err); e.ID != "DN-CERT-001" || e.Code != admin.CodeUsage {
		t.Errorf("error %+v", e)
	}
}

func TestAnExpiredCertificateIsAWarning(t *testing.T) {
	n, p := newNode(t), newPKI(t)
	res := n.imports(admin.ImportRequest{Files: []admin.File{file("old.pem", p.expired.CertPEM())}})
	if res.Code != admin.CodeWarnings || res.Taken != 1 || !strings.Contains(res.Items[0].Reason, "expired on ") {
		t.Errorf("result %+v", res)
	}
}

func TestAThousandPairsAreMatchedQuickly(t *testing.T) {
	n, p := newNode(t), newPKI(t)
	req := admin.ImportRequest{DryRun: true}
	for range 3000 { // the same few keys again and again: what counts is the number
		req.Files = append(req.Files, file("c", p.alice.DER), file("k", p.bob.KeyDER()))
	}
	start := time.Now()
	n.imports(req)
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("3,000 certificates beside 3,000 keys took %v", d)
	}
}

func TestAChangeThatCannotBeMadeIsNoSuccess(t *testing.T) {
	n, p := newNode(t), newPKI(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := n.AddAnchor(gone, admin.AnchorRequest{Domain: "a.direct.test", File: file("r", p.root.DER)})
	if e := asError(t, err); e.Code != admin.CodeTemporary {
		t.Errorf("anchor: %+v", e)
	}
	_, err = n.ImportCertificates(gone, admin.ImportRequest{Files: []admin.File{file("a", p.alice.DER)}})
	if e := asError(t, err); e.Code != admin.CodeTemporary {
		t.Errorf("certificates: %+v", e)
	}
	if len(n.owners()) != 0 {
		t.Error("something was stored")
	}
}

func TestARefusedGenerationRefusesTheBatch(t *testing.T) {
	n, p := newNode(t), newPKI(t)
	if err := n.store.SetPrepare(func(next *store.View) (func(), error) {
		if len(next.Find(p.alice.SHA256())) > 0 {
			return nil, fmt.Errorf("no room")
		}
		return nil, nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, dry := range []bool{false, true} {
		_, err := n.ImportCertificates(t.Context(), admin.ImportRequest{DryRun: dry, Files: []admin.File{file("a", p.alice.DER), file("b", p.bob.DER)}})
		if e := asError(t, err); !strings.Contains(e.Why, "no room") || e.What != "nothing was imported" {
			t.Errorf("dry run %v: %+v", dry, e)
		}
		if len(n.owners()) != 0 {
			t.Errorf("stored %v", n.owners())
		}
	}
}

const zoneText = `$TTL 300
@ IN MX 10 mail
mail IN A 192.0.2.1
`

func certRecord(name string, der []byte) string {
	return fmt.Sprintf("%s IN CERT PKIX 0 0 %s\n", name, base64Of(der))
}

func TestAZoneReplacesRecordsAndAddsCertificates(t *testing.T) {
	n, p := newNode(t), newPKI(t)
	n.imports(admin.ImportRequest{Files: []admin.File{file("o", p.org.DER)}, Publish: []string{"ldap"}})
	text := zoneText + certRecord("alice", p.alice.DER) + certRecord("@", p.org.DER)
	res, err := n.ImportZone(t.Context(), admin.ImportRequest{Origin: "a.direct.test", Files: []admin.File{file("z", []byte(text))}})
	if err != nil || res.Code != 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	checkAccount(t, res)
	if got := n.owners(); !slices.Equal(got, []string{"a.direct.test [dns ldap] false", "alice@a.direct.test [dns] false"}) {
		t.Errorf("stored %v", got)
	}
	d, err := n.ShowDomain(t.Context(), admin.DomainRequest{Domain: "a.direct.test"})
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(d.Records, "\n")
	for _, want := range []string{"IN MX 10 mail.a.direct.test.", "IN SOA ", "IN NS ", "mail.a.direct.test. 300 IN A 192.0.2.1"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is missing in\n%s", want, all)
		}
	}
	if strings.Contains(all, "SRV") {
		t.Errorf("the records from before are still there:\n%s", all)
	}
	// A zone of a domain that is not there makes it.
	if _, err := n.ImportZone(t.Context(), admin.ImportRequest{Origin: "new.direct.test", Files: []admin.File{file("z", []byte(zoneText))}}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.ShowDomain(t.Context(), admin.DomainRequest{Domain: "new.direct.test"}); err != nil {
		t.Error(err)
	}
}

func TestStrictRefusesOnlyWhatDoesNotBind(t *testing.T) {
	p := newPKI(t)
	zone := zoneText + certRecord("alice", p.alice.DER) + certRecord("mallory", p.foreign.DER)
	ldif := ldifOf("alice@a.direct.test", p.alice.DER) + ldifOf("mallory@a.direct.test", p.foreign.DER)
	orders := map[string]func(*node, admin.ImportRequest) (admin.ImportResult, error){
		"zone": func(n *node, r admin.ImportRequest) (admin.ImportResult, error) {
			r.Origin, r.Files = "a.direct.test", []admin.File{file("f", []byte(zone))}
			return n.ImportZone(t.Context(), r)
		},
		"ldif": func(n *node, r admin.ImportRequest) (admin.ImportResult, error) {
			r.Files = []admin.File{file("f", []byte("version: 1\n\n"+ldif))}
			return n.ImportLDIF(t.Context(), r)
		},
	}
	for name, order := range orders {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			before := n.store.View()
			if res, err := order(n, admin.ImportRequest{DryRun: true}); err != nil || res.Code != admin.CodeWarnings || n.store.View() != before {
				t.Errorf("dry run: %+v, %v", res, err)
			}
			res, err := order(n, admin.ImportRequest{Strict: true})
			if err != nil || res.Code != admin.CodeFailed || res.Refused != 1 {
				t.Fatalf("strict: %+v, %v", res, err)
			}
			checkAccount(t, res)
			if got := n.owners(); len(got) != 1 || !strings.HasPrefix(got[0], "alice@") {
				t.Errorf("strict left %v, and said %+v", got, res)
			}
			res, err = order(n, admin.ImportRequest{})
			if err != nil || res.Code != admin.CodeWarnings || len(n.owners()) != 2 {
				t.Errorf("as published: %+v, %v, %v", res, err, n.owners())
			}
			checkAccount(t, res)
		})
	}
}

func TestAZoneThatCannotBeServedIsRefusedInADryRunToo(t *testing.T) {
	n := newNode(t)
	text := zoneText + "alias IN CNAME mail\nalias IN A 192.0.2.2\n"
	for _, dry := range []bool{true, false} {
		_, err := n.ImportZone(t.Context(), admin.ImportRequest{Origin: "a.direct.test", DryRun: dry, Files: []admin.File{file("z", []byte(text))}})
		if e := asError(t, err); e.Code != admin.CodeFailed || !strings.Contains(e.Why, "alias") {
			t.Errorf("dry run %v: %+v", dry, e)
		}
	}
}

func TestExportsComeBackAsTheyWere(t *testing.T) {
	n, p := newNode(t), newPKI(t)
	n.imports(admin.ImportRequest{Files: []admin.File{file("a", p.alice.DER), file("o", p.org.DER)}})
	before := n.owners()
	for _, format := range []string{"", "bind", "rfc3597", "nsupdate"} {
		text, err := n.ExportZone(t.Context(), admin.ExportRequest{Domain: "a.direct.test", Format: format})
		if err != nil || text.Text == "" {
			t.Fatalf("%s: %v", format, err)
		}
		if format == "nsupdate" {
			continue
		}
		res, err := n.ImportZone(t.Context(), admin.ImportRequest{Origin: "a.direct.test", Files: []admin.File{file("z", []byte(text.Text))}})
		if err != nil || res.Code != 0 || !slices.Equal(n.owners(), before) {
			t.Errorf("%q: %+v, %v, stored %v", format, res, err, n.owners())
		}
		checkAccount(t, res)
	}
	text, err := n.ExportLDIF(t.Context(), admin.ExportRequest{Domain: "a.direct.test"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{p.alice.SHA256(), p.org.SHA256()} {
		if _, err := n.RemoveCertificate(t.Context(), admin.CertificateQuery{SHA256: c}); err != nil {
			t.Fatal(err)
		}
	}
	if res, err := n.ImportLDIF(t.Context(), admin.ImportRequest{Files: []admin.File{file("l", []byte(text.Text))}}); err != nil || res.Taken != 2 {
		t.Errorf("%+v, %v", res, err)
	}
	want := strings.ReplaceAll(strings.Join(before, "\n"), "dns ldap", "ldap")
	if got := strings.Join(n.owners(), "\n"); got != want {
		t.Errorf("stored\n%s\nwant\n%s", got, want)
	}
}

func TestAnchorsComeFromEveryKindOfFile(t *testing.T) {
	n, p := newNode(t), newPKI(t)
	other := testpki.New(t).Root("Other")
	res, err := n.AddAnchor(t.Context(), admin.AnchorRequest{Domain: "a.direct.test", In: true, File: file("f", p.root.CertPEM(), other.CertPEM(), p.alice.KeyPEM())})
	if err != nil || res.Taken != 2 || res.Refused != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	checkAccount(t, res)
	res, err = n.AddAnchor(t.Context(), admin.AnchorRequest{Domain: "a.direct.test", File: file("f", p.root.DER)})
	if err != nil || res.Items[0].State != "known" || strings.Contains(res.Items[0].Reason, "published") {
		t.Errorf("again: %+v, %v", res, err)
	}
	list, err := n.ListAnchors(t.Context(), admin.AnchorRequest{Domain: "a.direct.test"})
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	i := slices.IndexFunc(list, func(a admin.Anchor) bool { return a.SHA256 == p.root.SHA256() })
	if !list[i].In || !list[i].Out || list[1-i].Out {
		t.Errorf("anchors %+v", list)
	}
	res, err = n.AddAnchor(t.Context(), admin.AnchorRequest{Domain: "a.direct.test", File: file("f", []byte("hello"))})
	if err != nil || res.Code != admin.CodeFailed || res.Taken != 0 {
		t.Errorf("text: %+v, %v", res, err)
	}
	sha := p.root.SHA256()
	for _, wrong := range []string{"", "zz", "0"} {
		if wrong == "0" && sha[0] == '0' {
			continue
		}
		_, err := n.RemoveAnchor(t.Context(), admin.AnchorRequest{Domain: "a.direct.test", SHA256: wrong})
		if e := asError(t, err); e.ID != "DN-ANCHOR-001" || e.Code != admin.CodeFailed {
			t.Errorf("%q: %+v", wrong, e)
		}
	}
	if _, err := n.RemoveAnchor(t.Context(), admin.AnchorRequest{Domain: "a.direct.test", SHA256: colons(sha)}); err != nil {
		t.Error(err)
	}
	if _, err := n.RemoveAnchor(t.Context(), admin.AnchorRequest{Domain: "a.direct.test", SHA256: strings.ToUpper(other.SHA256()[:12])}); err != nil {
		t.Error(err)
	}
	if all, _ := n.ListAnchors(t.Context(), admin.AnchorRequest{}); len(all) != 0 {
		t.Errorf("left %+v", all)
	}
}

func TestCertificatesAreFoundByOwnerAndFingerprint(t *testing.T) {
	n, p := newNode(t), newPKI(t)
	n.imports(admin.ImportRequest{Files: []admin.File{file("p", p.alice.CertPEM(), p.bob.CertPEM(), p.org.CertPEM())}})
	sha := p.alice.SHA256()
	for _, q := range []admin.CertificateQuery{{Owner: "ALICE@A.direct.test"}, {SHA256: sha}, {SHA256: strings.ToUpper(sha[:16])}, {SHA256: colons(sha)}} {
		list, err := n.ShowCertificates(t.Context(), q)
		if err != nil || len(list) != 1 || list[0].Owner != "alice@a.direct.test" || !bytes.Equal([]byte(list[0].PEM), p.alice.CertPEM()) {
			t.Errorf("%+v: %+v, %v", q, list, err)
		}
	}
	_, err := n.ShowCertificates(t.Context(), admin.CertificateQuery{Owner: "nobody@a.direct.test"})
	if e := asError(t, err); e.ID != "DN-CERT-002" || !strings.Contains(e.Why, "nobody@a.direct.test") {
		t.Errorf("%+v", e)
	}
	for _, q := range []admin.CertificateQuery{{}, {SHA256: sha[:3]}, {SHA256: "ffffffffffff"}, {Owner: "alice@a.direct.test"}} {
		_, err := n.RemoveCertificate(t.Context(), q)
		asError(t, err)
	}
	if len(n.owners()) != 3 {
		t.Errorf("left %v", n.owners())
	}
	if _, err := n.RemoveCertificate(t.Context(), admin.CertificateQuery{SHA256: colons(sha)}); err != nil {
		t.Error(err)
	}
	if len(n.owners()) != 2 {
		t.Errorf("left %v", n.owners())
	}
}

// openssl req -x509 makes every certificate a CA unless told otherwise.
func TestASelfSignedCertificateOfAnOwnerIsTakenAlthoughItMayIssue(t *testing.T) {
	n, p := newNode(t), testpki.New(t)
	own := p.Root("alice", testpki.Address("alice@a.direct.test"), testpki.KeyUsage(0))
	issuers := []*testpki.CA{
		p.Root("Issuer with a name", testpki.Address("ca@a.direct.test")),
		p.Root("Issuer without a name", testpki.KeyUsage(0)),
	}
	req := admin.ImportRequest{Files: []admin.File{file("own.pem", own.CertPEM(), own.KeyPEM())}}
	for _, ca := range issuers {
		req.Files = append(req.Files, file("ca.pem", ca.CertPEM()))
	}
	res := n.imports(req)
	if got := n.owners(); !slices.Equal(got, []string{"alice@a.direct.test [dns ldap] true"}) || res.Refused != len(issuers) {
		t.Errorf("stored %v by %+v", got, res)
	}
}

// TestAReplacementKeepsWhatMailStillNeeds: with Replace the new certificate is
// published instead of the old one, which stays with its key; without, beside it.
func TestAReplacementKeepsWhatMailStillNeeds(t *testing.T) {
	ca := testpki.New(t).Root("CA")
	year := func(n int) testpki.Option {
		return testpki.Valid(time.Now().AddDate(-1, 0, 0), time.Now().AddDate(n, 0, 0))
	}
	leaf := func(serial int64, more ...testpki.Option) testpki.Pair {
		return ca.Leaf("alice", append(more, testpki.Address("alice@a.direct.test"), testpki.Serial(serial))...)
	}
	old := leaf(1, year(1))
	dual := leaf(2, year(2))
	for name, c := range map[string]struct {
		fresh   testpki.Pair
		key     bool
		publish []string
		want    []string // what is published, by serial number
		state   string
	}{
		"the same kind":       {dual, true, nil, []string{"1 []", "2 [dns ldap]"}, "replaced"},
		"in one place":        {dual, true, []string{"dns"}, []string{"1 [ldap]", "2 [dns]"}, "replaced"},
		"the same again":      {old, true, nil, []string{"1 [dns ldap]"}, ""},
		"valid for less":      {leaf(3, testpki.Valid(time.Now().AddDate(-1, 0, 0), time.Now().AddDate(0, 1, 0))), true, nil, []string{"1 [dns ldap]", "3 [dns ldap]"}, "valid for longer"},
		"expired":             {leaf(3, testpki.Valid(time.Now().AddDate(-2, 0, 0), time.Now().AddDate(-1, 0, 0))), true, nil, []string{"1 [dns ldap]", "3 [dns ldap]"}, "has expired"},
		"not valid yet":       {leaf(3, testpki.Valid(time.Now().AddDate(0, 1, 0), time.Now().AddDate(2, 0, 0))), true, nil, []string{"1 [dns ldap]", "3 [dns ldap]"}, "not valid before"},
		"without its key":     {dual, false, nil, []string{"1 [dns ldap]", "2 [dns ldap]"}, "could not be opened"},
		"for signing alone":   {leaf(3, year(2), testpki.SignOnly()), true, nil, []string{"1 [dns ldap]", "3 [dns ldap]"}, "it is for [signing encryption], and the new one for [signing]"},
		"another kind of key": {leaf(3, year(2), testpki.WithKey(testpki.P256())), true, nil, []string{"1 [dns ldap]", "3 [dns ldap]"}, "its key is RSA, and that of the new one ECDSA"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.imports(admin.ImportRequest{Files: []admin.File{file("old", old.CertPEM(), old.KeyPEM())}})
			parts := [][]byte{c.fresh.CertPEM()}
			if c.key {
				parts = append(parts, c.fresh.KeyPEM())
			}
			req := admin.ImportRequest{Files: []admin.File{file("new", parts...)}, Publish: c.publish, Replace: true, DryRun: true}
			view := n.store.View()
			dry := n.imports(req)
			if n.store.View() != view {
				t.Error("a dry run changed something")
			}
			req.DryRun = false
			res := n.imports(req)
			if strings.Join(account(dry), "\n") != strings.Join(account(res), "\n") {
				t.Errorf("a dry run said %q, and then %q", account(dry), account(res))
			}
			said := fmt.Sprint(res.Items)
			if !strings.Contains(said, c.state) || (res.Replaced == 1) != (c.state == "replaced") {
				t.Errorf("%q does not say %q", said, c.state)
			}
			list, err := n.ShowCertificates(t.Context(), admin.CertificateQuery{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, x := range list {
				block, _ := pem.Decode([]byte(x.PEM))
				cert, err := x509.ParseCertificate(block.Bytes)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, fmt.Sprintf("%v %v", cert.SerialNumber, x.Publish))
				if cert.SerialNumber.Int64() == 1 && !x.HasKey {
					t.Error("the key of the old one is gone")
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("published %q, want %q", got, c.want)
			}
		})
	}
	n := newNode(t)
	_, err := n.ImportCertificates(t.Context(), admin.ImportRequest{Files: []admin.File{file("new", dual.CertPEM())}, Publish: []string{"none"}, Replace: true})
	if e := asError(t, err); e.ID != "DN-CERT-004" {
		t.Errorf("published nowhere: %+v", e)
	}
}
