package admin_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"directnode/internal/admin"
	"directnode/internal/direct"
	"directnode/resolver"
	"directnode/store"
	"directnode/store/kv/memory"
)

// TestEveryOrderOverTheSocket gives every order of the handler, well and badly.
func TestEveryOrderOverTheSocket(t *testing.T) {
	n, p := newNode(t), newPKI(t)
	n.imports(admin.ImportRequest{Files: []admin.File{file("p", p.alice.CertPEM(), p.alice.KeyPEM())}})
	root := file("root.pem", p.root.CertPEM())
	type bad struct {
		req  any
		id   string
		code int
	}
	for _, c := range []struct {
		order string
		good  any
		want  string // stands in the answer
		bad   []bad
	}{
		{"status", struct{}{}, `"hostname":"node.direct.test"`, nil},
		{"domain.add", admin.DomainRequest{Domain: "C.direct.test", Addresses: []string{"192.0.2.1", "2001:db8::1"}, Servers: []string{"NS2.c.direct.test=192.0.2.2,2001:db8::2", "ns.elsewhere.example"}}, `"ns2.c.direct.test. 3600 IN AAAA 2001:db8::2"`, []bad{
			{admin.DomainRequest{Domain: "d.direct.test", Servers: []string{"ns2"}}, "DN-DOMAIN-004", 2}, {admin.DomainRequest{Domain: "d.direct.test", Servers: []string{"ns2.d.direct.test"}}, "DN-DOMAIN-004", 2},
			{admin.DomainRequest{Domain: "d.direct.test", Servers: []string{"ns.elsewhere.example=192.0.2.1"}}, "DN-DOMAIN-004", 2}, {admin.DomainRequest{Domain: "d.direct.test", Servers: []string{"node.direct.test"}}, "DN-DOMAIN-004", 2},
			{admin.DomainRequest{Domain: "d.direct.test", Servers: []string{"a.example", "A.example"}}, "DN-DOMAIN-004", 2}, {admin.DomainRequest{Domain: "d.direct.test", Servers: []string{"ns2.d.direct.test="}}, "DN-DOMAIN-002", 2},
			{admin.DomainRequest{}, "DN-DOMAIN-001", 2}, {admin.DomainRequest{Domain: "a..b"}, "DN-DOMAIN-001", 2},
			{admin.DomainRequest{Domain: "d.direct.test", Addresses: []string{"x"}}, "DN-DOMAIN-002", 2}, {admin.DomainRequest{Domain: "a.direct.test"}, "DN-STORE-004", 1},
		}},
		{"domain.list", struct{}{}, `"certificates":1`, nil},
		{"domain.show", admin.DomainRequest{Domain: "a.direct.test"}, "IN SRV", []bad{{admin.DomainRequest{Domain: "x.test"}, "DN-DOMAIN-003", 1}}},
		{"cert.import", admin.ImportRequest{Files: []admin.File{file("o", p.org.DER)}}, `"state":"taken"`, []bad{{admin.ImportRequest{Publish: []string{"DNS"}}, "DN-CERT-001", 2}}},
		{"cert.list", admin.CertificateQuery{}, `"owner":"alice@a.direct.test"`, nil},
		{"cert.show", admin.CertificateQuery{Owner: "a.direct.test"}, "BEGIN CERTIFICATE", []bad{{admin.CertificateQuery{SHA256: "00"}, "DN-CERT-002", 1}}},
		{"anchor.add", admin.AnchorRequest{Domain: "a.direct.test", File: root}, `"kind":"anchor"`, []bad{{admin.AnchorRequest{Domain: "x.test", File: root}, "DN-DOMAIN-003", 1}, {admin.AnchorRequest{File: root}, "DN-DOMAIN-001", 2}}},
		{"anchor.list", admin.AnchorRequest{}, p.root.SHA256(), []bad{{admin.AnchorRequest{Domain: "x.test"}, "DN-DOMAIN-003", 1}}},
		{"anchor.remove", admin.AnchorRequest{Domain: "a.direct.test", SHA256: p.root.SHA256()[:8]}, "removed", []bad{{admin.AnchorRequest{Domain: "a.direct.test", SHA256: "0"}, "DN-ANCHOR-001", 1}}},
		{"zone.import", admin.ImportRequest{Origin: "a.direct.test", Files: []admin.File{file("z", []byte(zoneText))}}, `"taken":2`, []bad{
			{admin.ImportRequest{Files: []admin.File{file("z", []byte(zoneText))}}, "DN-DOMAIN-001", 2}, {admin.ImportRequest{Origin: "a.direct.test"}, "DN-ZONE-001", 2},
			{admin.ImportRequest{Origin: "a.direct.test", Files: []admin.File{file("z", []byte("@ IN MX ten x\n"))}}, "DN-ZONE-002", 1},
		}},
		{"zone.check", admin.DomainRequest{Domain: "a.direct.test"}, `"code":`, []bad{{admin.DomainRequest{Domain: "x.test"}, "DN-DOMAIN-003", 1}}},
		{"zone.export", admin.ExportRequest{Domain: "a.direct.test"}, "SOA", []bad{{admin.ExportRequest{Domain: "a.direct.test", Format: "x"}, "DN-ZONE-003", 2}, {admin.ExportRequest{Domain: "x.test"}, "DN-DOMAIN-003", 1}}},
		{"ldif.import", admin.ImportRequest{Files: []admin.File{file("l", []byte("version: 1\n\n"+ldifOf("alice@a.direct.test", p.alice.DER)+ldifOf("eve@x.test", p.foreign.DER)))}}, `"refused":1`, []bad{{admin.ImportRequest{}, "DN-LDIF-001", 2}}},
		{"ldif.export", admin.ExportRequest{Domain: "a.direct.test"}, "mail: alice@a.direct.test", []bad{{admin.ExportRequest{Domain: "x.test"}, "DN-DOMAIN-003", 1}}},
		{"message.list", admin.MessageQuery{}, "[]", nil},
		{"message.show", admin.MessageQuery{ID: " <1@a.direct.test>"}, `"message_id":"1@a.direct.test"`, []bad{{admin.MessageQuery{}, "DN-MAIL-001", 1}, {admin.MessageQuery{ID: "2@a.direct.test"}, "DN-MAIL-001", 1}}},
		{"queue.list", struct{}{}, "[]", nil},
		{"queue.retry", admin.QueueRequest{ID: "q1"}, "q1 is due now", []bad{{admin.QueueRequest{}, "DN-MAIL-002", 1}}},
		{"queue.drop", admin.QueueRequest{ID: "q1"}, "q1 is dropped", []bad{{admin.QueueRequest{ID: "q2"}, "DN-MAIL-002", 1}}},
		{"discover", nil, "", []bad{
			{admin.DiscoverRequest{Address: "x"}, "DN-DISCOVER-001", 2}, {admin.DiscoverRequest{Address: "bob@b.direct.test"}, "DN-DISCOVER-003", 2},
			{admin.DiscoverRequest{Address: "bob@b.direct.test", As: "x.test"}, "DN-DOMAIN-003", 1}, {admin.DiscoverRequest{Address: "bob@b.direct.test", As: "a.direct.test"}, "DN-DISCOVER-002", 70},
		}},
		{"store.check", struct{}{}, `"problems":[]`, nil},
		{"cert.remove", admin.CertificateQuery{SHA256: p.alice.SHA256()}, "alice@a.direct.test removed", []bad{{admin.CertificateQuery{}, "DN-CERT-003", 2}, {admin.CertificateQuery{SHA256: p.alice.SHA256()}, "DN-CERT-002", 1}}},
		{"domain.remove", admin.DomainRequest{Domain: "c.direct.test"}, "c.direct.test removed", []bad{{admin.DomainRequest{Domain: "c.direct.test"}, "DN-DOMAIN-003", 1}}},
	} {
		t.Run(c.order, func(t *testing.T) {
			if c.good != nil {
				var ans json.RawMessage
				if err := n.client.Do(t.Context(), c.order, c.good, &ans); err != nil || !strings.Contains(string(ans), c.want) {
					t.Errorf("%s, %v; want %q in it", ans, err, c.want)
				}
			}
			for _, b := range append(c.bad, bad{json.RawMessage(`{"nonsense":1}`), "DN-ADMIN-001", 2}, bad{json.RawMessage(`[1]`), "DN-ADMIN-001", 2}) {
				var ans json.RawMessage
				e := asError(t, n.client.Do(t.Context(), c.order, b.req, &ans))
				if e.ID != b.id || e.Code != b.code {
					t.Errorf("%+v: %s with code %d, want %s with %d: %v", b.req, e.ID, e.Code, b.id, b.code, e)
				}
			}
		})
	}
	if want := []string{"retry", "drop"}; !slices.Equal(n.mail.calls, want) || n.mail.limit != 50 {
		t.Errorf("the mail's side was asked %v, limit %d", n.mail.calls, n.mail.limit)
	}
}

func TestErrorsOfTheMailsSideAreNotBugs(t *testing.T) {
	n := newNode(t)
	n.mail.err = errors.New("input/output error")
	for order, id := range map[string]string{"message.list": "DN-MAIL-003", "message.show": "DN-MAIL-003", "queue.list": "DN-MAIL-004"} {
		var ans json.RawMessage
		if e := asError(t, n.client.Do(t.Context(), order, struct{}{}, &ans)); e.ID != id || e.Code != admin.CodeStore {
			t.Errorf("%s: %+v", order, e)
		}
	}
}

func TestDiscoverAnswersAndRefuses(t *testing.T) {
	n := newNode(t)
	var asked direct.Domain
	s := admin.New(n.store, n.mail, admin.Options{Discover: func(_ context.Context, a direct.Address, as direct.Domain, _ bool) (admin.DiscoverResponse, error) {
		asked = as
		if strings.HasPrefix(a.Local(), "long") {
			return admin.DiscoverResponse{}, errors.New("the local part is too long for a label")
		}
		return admin.DiscoverResponse{Report: resolver.Report{Address: a.String()}}, nil
	}})
	client := admin.NewClient(serveUnix(t, s.Handler()))
	var r resolver.Report
	if err := client.Do(t.Context(), "discover", admin.DiscoverRequest{Address: "bob@x.test", As: "b.direct.test"}, &r); err != nil || r.Address != "bob@x.test" || asked.String() != "b.direct.test" {
		t.Errorf("%+v, %v, as %s", r, err, asked)
	}
	if e := asError(t, client.Do(t.Context(), "discover", admin.DiscoverRequest{Address: "long@x.test", As: "b.direct.test"}, &r)); e.ID != "DN-DISCOVER-005" || e.Code != admin.CodeUsage {
		t.Errorf("%+v", e)
	}
}

func TestNoSecretLeavesTheService(t *testing.T) {
	n, p := newNode(t), newPKI(t)
	const passphrase = "correct horse battery"
	var res json.RawMessage
	req := admin.ImportRequest{Passphrase: passphrase, Files: []admin.File{file("k", p.alice.KeyPEM(), p.alice.CertPEM()), file("lonely", p.foreign.KeyPEM())}}
	if err := n.client.Do(t.Context(), "cert.import", req, &res); err != nil {
		t.Fatal(err)
	}
	var shown, list json.RawMessage
	if err := errors.Join(n.client.Do(t.Context(), "cert.show", admin.CertificateQuery{}, &shown), n.client.Do(t.Context(), "domain.show", admin.DomainRequest{Domain: "a.direct.test"}, &list)); err != nil {
		t.Fatal(err)
	}
	var backup bytes.Buffer
	if err := n.client.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	everything := n.log.String() + string(res) + string(shown) + string(list) + backup.String()
	for what, secret := range map[string]string{"the passphrase": passphrase, "a key's DER": string(p.alice.KeyDER()), "a key's Base64": base64Of(p.alice.KeyDER())[:60], "a key's PEM": "PRIVATE KEY"} {
		if strings.Contains(everything, secret) {
			t.Errorf("%s is in an answer, the log or the backup", what)
		}
	}
	if !strings.Contains(n.log.String(), "order=cert.import") || !strings.Contains(n.log.String(), "order=backup") {
		t.Errorf("the log does not name the orders:\n%s", n.log.String())
	}
}

func TestBackupAndRestoreThroughTheClient(t *testing.T) {
	n, p := newNode(t), newPKI(t)
	n.imports(admin.ImportRequest{Files: []admin.File{file("p", p.alice.CertPEM(), p.alice.KeyPEM(), p.bob.CertPEM())}})
	want := n.owners()
	var backup bytes.Buffer
	if err := n.client.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	if _, err := n.RemoveDomain(t.Context(), admin.DomainRequest{Domain: "a.direct.test"}); err != nil {
		t.Fatal(err)
	}
	done, err := n.client.Restore(t.Context(), bytes.NewReader(backup.Bytes()))
	if err != nil || !strings.Contains(done.Done, "restored 2 domains") || !slices.Equal(n.owners(), want) {
		t.Errorf("%+v, %v, %v", done, err, n.owners())
	}
	before := n.store.View()
	other := newNode(t, func(o *store.Options) { o.Seal = store.NewSealer([32]byte{2}) })
	for name, c := range map[string]struct {
		to   *node
		data []byte
		id   string
		why  string
	}{
		"another master key": {other, backup.Bytes(), "DN-STORE-005", "another master key"},
		"cut short":          {n, backup.Bytes()[:backup.Len()-1], "DN-STORE-001", "cut short"},
		"one octet changed":  {n, flip(backup.Bytes(), backup.Len()/2), "DN-STORE-001", "damaged"},
		"something else":     {n, bytes.Repeat([]byte("no backup "), 1<<20), "DN-STORE-006", "it is no backup"},
		"nothing":            {n, nil, "DN-STORE-001", "cut short"},
	} {
		_, err := c.to.client.Restore(t.Context(), bytes.NewReader(c.data))
		if e := asError(t, err); e.ID != c.id || e.Code != admin.CodeStore || !strings.Contains(e.Why, c.why) {
			t.Errorf("%s: %+v", name, e)
		}
	}
	if n.store.View() != before || len(other.owners()) != 0 {
		t.Error("a refused restore changed something")
	}
}

func flip(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i] ^= 1
	return b
}

func TestABackupOfABusyStoreIsOneGeneration(t *testing.T) {
	n, p := newNode(t), newPKI(t)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			_, _ = n.ImportCertificates(context.Background(), admin.ImportRequest{Files: []admin.File{file("p", p.alice.CertPEM(), p.alice.KeyPEM())}})
			_, _ = n.RemoveCertificate(context.Background(), admin.CertificateQuery{SHA256: p.alice.SHA256()})
		}
	}()
	for range 20 {
		var b bytes.Buffer
		if err := n.client.Backup(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		fresh, err := store.Open(t.Context(), memory.New(memory.Options{}), store.Options{Seal: store.NewSealer([32]byte{1})})
		if err != nil {
			t.Fatal(err)
		}
		if err := fresh.Restore(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	<-done
}

func TestAClientSaysWhyThereIsNoAnswer(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		socket string
		id     string
		do     string
	}{
		"nobody":          {filepath.Join(dir, "none"), "DN-ADMIN-003", "start directd"},
		"not a socket":    {"/dev/null", "DN-ADMIN-003", "directd"},
		"an empty answer": {serveUnix(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})), "DN-ADMIN-004", "log"},
		"another program": {serveUnix(t, http.NotFoundHandler()), "DN-ADMIN-004", "version"},
		"an answer that breaks off": {serveUnix(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"done":`)
			panic(http.ErrAbortHandler)
		})), "DN-ADMIN-004", "log"},
		"a daemon that dies": {serveUnix(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })), "DN-ADMIN-004", "log"},
	} {
		t.Run(name, func(t *testing.T) {
			client := admin.NewClient(c.socket)
			var d admin.Done
			_, restored := client.Restore(t.Context(), strings.NewReader("x"))
			for way, err := range map[string]error{"Do": client.Do(t.Context(), "queue.drop", admin.QueueRequest{}, &d), "Restore": restored} {
				e := asError(t, err)
				if e.ID != c.id || e.Code != admin.CodeTemporary || !strings.Contains(e.Do, c.do) {
					t.Errorf("%s: %+v", way, e)
				}
			}
			if name == "an empty answer" {
				return // an empty backup is for the one who reads it to refuse
			}
			if e := asError(t, client.Backup(t.Context(), io.Discard)); e.ID != c.id {
				t.Errorf("Backup: %+v", e)
			}
		})
	}
}

func TestAnOrderThatTakesTooLongMayHaveBeenCarriedOut(t *testing.T) {
	begun := make(chan struct{}, 1)
	socket := serveUnix(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		begun <- struct{}{}
		<-r.Context().Done()
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var d admin.Done
	e := asError(t, admin.NewClient(socket).Do(ctx, "cert.import", admin.ImportRequest{}, &d))
	<-begun
	if e.ID != "DN-ADMIN-005" || e.Code != admin.CodeTemporary || !strings.Contains(e.Do, "--timeout") || !strings.Contains(e.Why, "may have been carried out") {
		t.Errorf("%+v", e)
	}
}

func TestAnOrderThatIsTooLargeIsNamed(t *testing.T) {
	n := newNode(t)
	var d admin.ImportResult
	huge := admin.ImportRequest{Files: []admin.File{{Name: "x", Data: make([]byte, 200<<20)}}}
	if e := asError(t, n.client.Do(t.Context(), "cert.import", huge, &d)); e.ID != "DN-ADMIN-006" || e.Code != admin.CodeUsage || !strings.Contains(e.Do, "fewer") {
		t.Errorf("%+v", e)
	}
	// Somebody else's client learns the same from the daemon, before it sends.
	conn, err := net.Dial("unix", n.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST /v1/cert.import HTTP/1.1\r\nHost: d\r\nContent-Length: 999999999\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if answer, _ := io.ReadAll(res.Body); !strings.Contains(string(answer), "DN-ADMIN-006") {
		t.Errorf("%d %s", res.StatusCode, answer)
	}
}

func TestAPanicInAnOrderIsAnAnswerAndALogLine(t *testing.T) {
	n := newNode(t)
	s := admin.New(n.store, nil, admin.Options{Log: nil}) // no mail side: every order of the mail panics
	var list json.RawMessage
	e := asError(t, admin.NewClient(serveUnix(t, s.Handler())).Do(t.Context(), "queue.list", struct{}{}, &list))
	if e.ID != "DN-ADMIN-002" || e.Code != admin.CodeBug {
		t.Errorf("%+v", e)
	}
}

func TestTheSocketsErrorsAreObjectsWithoutTheClient(t *testing.T) {
	n := newNode(t)
	client := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", n.socket) }}}
	for body, id := range map[string]string{"": "DN-ADMIN-001", "{": "DN-ADMIN-001", "{} {}": "DN-ADMIN-001", `{"domain":7}`: "DN-ADMIN-001", `{"domain":"x.test"}`: "DN-DOMAIN-003"} {
		res, err := client.Post("http://d/v1/domain.show", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		var answer map[string]map[string]any
		err = json.NewDecoder(res.Body).Decode(&answer)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusUnprocessableEntity || answer["error"]["id"] != id {
			t.Errorf("%q: %d %v, %v", body, res.StatusCode, answer, err)
		}
		if keys := slices.Sorted(maps.Keys(answer["error"])); !slices.Equal(keys, []string{"code", "do", "id", "what", "why"}) {
			t.Errorf("%q: an error has %v", body, keys)
		}
	}
}

func TestPermissionDeniedNamesTheUser(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may do everything")
	}
	n := newNode(t)
	if err := os.Chmod(n.socket, 0); err != nil {
		t.Fatal(err)
	}
	var s admin.Status
	if e := asError(t, n.client.Do(t.Context(), "status", struct{}{}, &s)); !strings.Contains(e.Do, "user") {
		t.Errorf("%+v", e)
	}
}
