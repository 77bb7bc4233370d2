package admin_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"directnode/internal/admin"
	"directnode/internal/direct"
	"directnode/internal/testpki"
	"directnode/store"
	"directnode/store/kv/memory"
	"directnode/zones"
)

// text is an upload of a text; a size below 0 is one of a pipe.
func text(name, s string, size int64) admin.Upload {
	return admin.Upload{Name: name, Size: size, Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil }}
}

func whole(name, s string) []admin.Upload { return []admin.Upload{text(name, s, int64(len(s)))} }

func TestAPlanComesBeforeTheChange(t *testing.T) {
	n, p := newNode(t), newPKI(t)
	n.imports(admin.ImportRequest{Files: []admin.File{file("o", p.org.DER)}})
	zone := "$TTL 3600\n@ IN MX 20 mail\n@ IN NS node.direct.test.\nmail IN A 192.0.2.1\nmail IN A 192.0.2.2\n" +
		certRecord("alice", p.alice.DER) + certRecord("@", p.org.DER) + certRecord("mallory", p.foreign.DER)
	for _, dry := range []bool{true, false} {
		before := n.store.View()
		var plans []admin.ImportPlan
		src := admin.Source{Name: "z", Text: strings.NewReader(zone)}
		res, err := n.ImportZoneText(t.Context(), admin.ImportRequest{Origin: "a.direct.test", DryRun: dry}, src, func(e admin.Event) {
			if e.Plan != nil {
				plans = append(plans, *e.Plan)
				if n.store.View() != before {
					t.Error("the plan came after the change")
				}
			}
		})
		if err != nil || res.Code != admin.CodeWarnings || len(plans) != 1 || res.Plan == nil {
			t.Fatalf("dry run %v: %+v, %v, %d plans", dry, res, err, len(plans))
		}
		r, c := plans[0].Records, plans[0].Certificates
		if r.Added != 2 || r.Changed != 1 || r.Removed != 1 || r.Kept != 2 || len(r.Changes) != 3 {
			t.Errorf("records: %+v", r)
		}
		if c.New != 2 || c.Known != 1 || c.Unbound != 1 || !slices.Equal(c.Owners, []admin.OwnerPlan{{Owner: "alice@a.direct.test", New: 1}, {Owner: "a.direct.test", Known: 1}, {Owner: "mallory@a.direct.test", New: 1}}) {
			t.Errorf("certificates: %+v", c)
		}
		if mx := r.Changes[1]; mx.Change != "changed" || mx.Type != "MX" || !slices.Equal(mx.Before, []string{"3600 10 node.direct.test."}) || !slices.Equal(mx.After, []string{"3600 20 mail.a.direct.test."}) {
			t.Errorf("changes: %+v", r.Changes)
		}
		if (n.store.View() == before) != dry {
			t.Errorf("dry run %v: changed %v", dry, n.store.View() != before)
		}
	}
	// Again, through the socket: the plan says that nothing changes.
	var plan *admin.ImportPlan
	res, err := n.client.Import(t.Context(), "zone.import", admin.ImportRequest{Origin: "a.direct.test", DryRun: true}, []admin.Upload{text("z", zone, -1)}, func(e admin.Event) {
		if e.Plan != nil {
			plan = e.Plan
		}
	})
	if err != nil || plan == nil || len(plan.Records.Changes) != 0 || res.Plan.Certificates.Known != 3 {
		t.Errorf("again: %+v, %v", res.Plan, err)
	}
}

// TestAZoneIsTakenWholeOrNotAtAll: each fault is named with its line, and
// nothing of the zone is here afterward.
func TestAZoneIsTakenWholeOrNotAtAll(t *testing.T) {
	ca := testpki.New(t).Root("CA")
	many := ""
	for i := range 21 {
		many += certRecord("bob", ca.Leaf(fmt.Sprintf("bob %d", i), testpki.Address("bob@a.direct.test"), testpki.Serial(int64(i+1))).DER)
	}
	large := ""
	for i := range 13 {
		large += certRecord("bob", ca.Leaf(fmt.Sprintf("bob %d", i), testpki.Address("bob@a.direct.test"), testpki.Serial(int64(i+1)), testpki.Extension([]int{1, 2, 3, 4, i}, false, bytes.Repeat([]byte{'x'}, 4500))).DER)
	}
	for name, c := range map[string]struct {
		text string
		why  []string
	}{
		"the 21st certificate":   {zoneText + many, []string{"z:24: ", "bob@a.direct.test has 20 certificates already", "bob IN CERT"}},
		"over 60,000 octets":     {zoneText + large, []string{"z:1", "bob@a.direct.test", "at most 60000"}},
		"too much of other data": {zoneText + "x IN TXT " + strings.Repeat("\""+strings.Repeat("t", 250)+"\" ", 120) + "\nx IN TXT " + strings.Repeat("\""+strings.Repeat("u", 250)+"\" ", 125) + "\n", []string{"z:4: ", "x.a.direct.test. TXT", "60000"}},
		"an alias with data":     {zoneText + "alias IN CNAME mail\nalias IN A 192.0.2.2\n", []string{"z:4: ", "alias"}},
		"a fault":                {zoneText + "mail IN A 192.0.2\n", []string{"z:4: ", "mail IN A 192.0.2"}},
		"an include":             {zoneText + "$INCLUDE other.zone\n", []string{"z:4: ", "$INCLUDE is refused"}},
		"too many by generate":   {zoneText + "$GENERATE 1-100000 h$ A 192.0.2.1\n", []string{"z:4: ", "at most 10000"}},
		"a key":                  {zoneText + "x IN CERT PKIX 0 0 AAAA\n", []string{"z:4: ", "no X.509 certificate"}},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			before := n.store.View()
			for _, dry := range []bool{true, false} {
				_, err := n.client.Import(t.Context(), "zone.import", admin.ImportRequest{Origin: "a.direct.test", DryRun: dry}, whole("z", c.text), nil)
				e := asError(t, err)
				for _, want := range c.why {
					if !strings.Contains(e.Why, want) {
						t.Errorf("%q does not say %q", e.Why, want)
					}
				}
			}
			if n.store.View() != before {
				t.Error("something was taken")
			}
		})
	}
}

func TestAStreamThatGoesWrongChangesNothing(t *testing.T) {
	n := newNode(t)
	small := admin.New(n.store, n.mail, admin.Options{MaxImport: 1 << 20, TempDir: t.TempDir()})
	client := admin.NewClient(serveUnix(t, small.Handler()))
	before := n.store.View()
	req := admin.ImportRequest{Origin: "a.direct.test"}
	broken := errors.New("the disk is broken")
	for name, c := range map[string]struct {
		order string
		req   admin.ImportRequest
		files []admin.Upload
		id    string
	}{
		"too large":          {"zone.import", req, whole("z", zoneText+strings.Repeat("; comment\n", 200_000)), "DN-ADMIN-006"},
		"too large a folder": {"cert.import", admin.ImportRequest{}, whole("c", strings.Repeat("x", 2<<20)), "DN-ADMIN-006"},
		"no origin":          {"zone.import", admin.ImportRequest{}, whole("z", zoneText), "DN-DOMAIN-001"},
		"shorter than said":  {"zone.import", req, []admin.Upload{text("z", zoneText, 1000)}, ""},
		"cannot be read":     {"zone.import", req, []admin.Upload{{Name: "z", Size: 5, Open: func() (io.ReadCloser, error) { return nil, broken }}}, ""},
		"nothing":            {"zone.import", req, nil, "DN-ADMIN-007"},
	} {
		_, err := client.Import(t.Context(), c.order, c.req, c.files, nil)
		if c.id == "" {
			if err == nil {
				t.Errorf("%s: no error", name)
			}
			continue
		}
		if e := asError(t, err); e.ID != c.id {
			t.Errorf("%s: %+v", name, e)
		}
	}
	if _, err := client.Import(t.Context(), "zone.import", req, []admin.Upload{{Name: "z", Size: 5, Open: func() (io.ReadCloser, error) { return nil, broken }}}, nil); !errors.Is(err, broken) {
		t.Errorf("a file that cannot be read: %v", err)
	}
	ended := errors.New("no progress")
	ctx, cancel := context.WithCancelCause(t.Context())
	r, w := io.Pipe()
	defer w.Close()
	_, err := client.Import(ctx, "zone.import", req, []admin.Upload{{Name: "z", Size: -1, Open: func() (io.ReadCloser, error) {
		cancel(ended)
		return r, nil
	}}}, nil)
	if !errors.Is(err, ended) {
		t.Errorf("cut off: %v", err)
	}
	if n.store.View() != before {
		t.Error("something was taken")
	}
}

// TestRawStreamsAreRefusedPolitely sends what no client of ours sends.
func TestRawStreamsAreRefusedPolitely(t *testing.T) {
	n := newNode(t)
	for body, id := range map[string]string{
		"":                          "DN-ADMIN-001",
		"{}":                        "DN-ADMIN-001",
		"{\"x\":1}\n":               "DN-ADMIN-001",
		strings.Repeat(" ", 100000): "DN-ADMIN-001",
		"{\"origin\":\"a.direct.test\"}\n{\"name\":\"z\",\"size\":9}\nabc": "DN-ADMIN-007",
		"{\"origin\":\"a.direct.test\"}\nnothing\n":                        "DN-ADMIN-007",
	} {
		transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", n.socket)
		}}
		client := &http.Client{Transport: transport}
		res, err := client.Post("http://x/v1/stream/zone.import", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(res.Body)
		res.Body.Close()
		transport.CloseIdleConnections()
		if err != nil || !bytes.Contains(answer, []byte(id)) {
			t.Errorf("%.30q: %s, %v", body, answer, err)
		}
	}
}

// TestImportsTellHowFarTheyAre streams files of each kind.
func TestImportsTellHowFarTheyAre(t *testing.T) {
	n, p := newNode(t), newPKI(t)
	for order, files := range map[string][]admin.Upload{
		"zone.import": whole("z", zoneText+certRecord("alice", p.alice.DER)),
		"ldif.import": whole("l", "version: 1\n\n"+ldifOf("alice@a.direct.test", p.alice.DER)),
		"cert.import": {text("c", string(p.alice.CertPEM()), int64(len(p.alice.CertPEM()))), text("k", string(p.alice.KeyPEM()), int64(len(p.alice.KeyPEM())))},
	} {
		stages := map[string]bool{}
		res, err := n.client.Import(t.Context(), order, admin.ImportRequest{Origin: "a.direct.test"}, files, func(e admin.Event) {
			if e.Progress != nil {
				stages[e.Progress.Stage] = true
			}
		})
		if err != nil || res.Code != admin.CodeOK || res.Taken == 0 {
			t.Errorf("%s: %+v, %v", order, res, err)
		}
		if !stages[admin.StageSending] || !stages[admin.StageReading] && !stages[admin.StageStoring] {
			t.Errorf("%s: stages %v", order, stages)
		}
	}
	if got := n.owners(); !slices.Equal(got, []string{"alice@a.direct.test [dns ldap] true"}) {
		t.Errorf("stored %v", got)
	}
	res, err := n.client.Import(t.Context(), "cert.import", admin.ImportRequest{}, []admin.Upload{{Name: "in/x", Fault: "no such file"}}, nil)
	if err != nil || res.Refused != 1 || !strings.Contains(res.Items[0].Reason, "no such file") {
		t.Errorf("%+v, %v", res, err)
	}
}

// TestALargeZoneIsStreamed imports DNS_IMPORT certificates (a million is 1.7 GB
// of text) that differ in nothing but their serial numbers, and holds neither
// the text nor an account of each.
func TestALargeZoneIsStreamed(t *testing.T) {
	count := 2000
	if s := os.Getenv("DNS_IMPORT"); s != "" {
		if _, err := fmt.Sscan(s, &count); err != nil {
			t.Fatal(err)
		}
	}
	der := testpki.New(t).Root("CA").Leaf("x", testpki.Domain("a.direct.test"), testpki.Serial(0x7a7a7a7a7a7a)).DER
	serial := bytes.Index(der, []byte{0x7a, 0x7a, 0x7a, 0x7a, 0x7a, 0x7a})
	r, w := io.Pipe()
	go func() {
		fmt.Fprintf(w, "$ORIGIN a.direct.test.\n$TTL 300\n@ IN MX 10 mail\n")
		for i := range count {
			own := bytes.Clone(der)
			copy(own[serial+1:], fmt.Sprintf("%05d", i%100000))
			fmt.Fprintf(w, "user%d IN CERT PKIX 0 0 %s\n", i, base64Of(own))
		}
		w.Close()
	}()
	db := memory.New(memory.Options{})
	defer db.Close()
	s, err := store.Open(t.Context(), db, store.Options{Prepare: func(next *store.View) (func(), error) {
		_, err := zones.Build(next, zones.Options{})
		return nil, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	service := admin.New(s, &fakeMail{}, admin.Options{Hostname: "node.direct.test", TempDir: t.TempDir()})
	client := admin.NewClient(serveUnix(t, service.Handler()))
	res, err := client.Import(t.Context(), "zone.import", admin.ImportRequest{Origin: "a.direct.test"},
		[]admin.Upload{{Name: "big", Size: -1, Open: func() (io.ReadCloser, error) { return r, nil }}}, nil)
	if err != nil || res.Taken != count+1 || res.Warned != count || res.Plan.Certificates.New != count {
		t.Fatalf("%d taken, %d warned, %v", res.Taken, res.Warned, err)
	}
	if len(res.Plan.Certificates.Owners) != 1000 || res.Plan.Certificates.Omitted != count-1000 || len(res.Items)+res.Omitted != count {
		t.Errorf("%d owners, %d omitted; %d items, %d omitted", len(res.Plan.Certificates.Owners), res.Plan.Certificates.Omitted, len(res.Items), res.Omitted)
	}
}

// TestExportsAreStreamed: the same text as in one answer, and errors as ever.
func TestExportsAreStreamed(t *testing.T) {
	n, p := newNode(t), newPKI(t)
	n.imports(admin.ImportRequest{Files: []admin.File{file("a", p.alice.DER)}})
	for _, order := range []string{"zone.export", "ldif.export"} {
		req := admin.ExportRequest{Domain: "a.direct.test"}
		var whole admin.Text
		if err := n.client.Do(t.Context(), order, req, &whole); err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := n.client.Export(t.Context(), order, req, &b); err != nil || b.String() != whole.Text || b.Len() == 0 {
			t.Errorf("%s: %v, %d octets of %d", order, err, b.Len(), len(whole.Text))
		}
		b.Reset()
		err := n.client.Export(t.Context(), order, admin.ExportRequest{Domain: "x.test"}, &b)
		if e := asError(t, err); e.ID != "DN-DOMAIN-003" || b.Len() != 0 {
			t.Errorf("%s: %+v", order, e)
		}
	}
	err := n.client.Export(t.Context(), "zone.export", admin.ExportRequest{Domain: "a.direct.test", Format: "x"}, io.Discard)
	if e := asError(t, err); e.ID != "DN-ZONE-003" || e.Code != admin.CodeUsage {
		t.Errorf("%+v", e)
	}
}

// TestAFileIsTakenAsLongAsItWasSaidToBe: what follows a file, or a file that
// grew while it was sent, means that something else than the zone was read.
func TestAFileIsTakenAsLongAsItWasSaidToBe(t *testing.T) {
	n := newNode(t)
	before := n.store.View()
	for order, content := range map[string]string{"zone.import": zoneText, "ldif.import": "version: 1\n"} {
		req := admin.ImportRequest{Origin: "a.direct.test"}
		_, err := n.client.Import(t.Context(), order, req, []admin.Upload{text("z", content+"x", int64(len(content)))}, nil)
		if err == nil || !strings.Contains(err.Error(), "changed while it was read") {
			t.Errorf("%s: a file that grew: %v", order, err)
		}
		_, err = n.client.Import(t.Context(), order, req, append(whole("z", content), whole("another", content)...), nil)
		if e := asError(t, err); e.ID != "DN-ADMIN-007" {
			t.Errorf("%s: two files: %+v", order, e)
		}
	}
	if n.store.View() != before {
		t.Error("something was taken")
	}
}

// TestAClientThatReadsNothingKeepsNobodyWaiting: a plan fills the socket of a
// tool that was stopped, in the middle of a change. The next order is carried
// out, and the first is not.
func TestAClientThatReadsNothingKeepsNobodyWaiting(t *testing.T) {
	n := newNode(t)
	service := admin.New(n.store, n.mail, admin.Options{TempDir: t.TempDir(), Patience: 50 * time.Millisecond})
	conn, err := net.Dial("unix", serveUnix(t, service.Handler()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.(*net.UnixConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	zone := zoneText
	for i := range 900 { // an answer of megabytes
		zone += fmt.Sprintf("n%d IN TXT", i) + strings.Repeat(" \""+strings.Repeat("t", 250)+"\"", 8) + "\n"
	}
	body := fmt.Sprintf("{\"origin\":\"a.direct.test\"}\n{\"name\":\"z\",\"size\":%d}\n%s", len(zone), zone)
	fmt.Fprintf(conn, "POST /v1/stream/zone.import HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	first := make([]byte, 1)
	if _, err := conn.Read(first); err != nil { // the plan is on its way, and nothing more is read
		t.Fatal(err)
	}
	if _, err := n.AddDomain(t.Context(), admin.DomainRequest{Domain: "c.direct.test"}); err != nil {
		t.Fatal(err)
	}
	d, err := direct.ParseDomain("a.direct.test")
	if err != nil {
		t.Fatal(err)
	}
	if got := len(n.store.View().Domain(d).Records); got > 100 {
		t.Errorf("%d records: the change that nobody hears of was made", got)
	}
}
