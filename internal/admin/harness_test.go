package admin_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"directnode/internal/admin"
	"directnode/internal/testpki"
	"directnode/store"
	"directnode/store/kv/memory"
	"directnode/zones"
)

// node is a service on a real store with a fake mail side, behind a socket.
type node struct {
	*admin.Service
	t      *testing.T
	store  *store.Store
	mail   *fakeMail
	client *admin.Client
	log    *syncBuffer
	socket string
}

// newNode serves a.direct.test and b.direct.test, unless the options change
// the store's.
func newNode(t *testing.T, change ...func(*store.Options)) *node {
	t.Helper()
	db := memory.New(memory.Options{})
	t.Cleanup(func() { _ = db.Close() })
	seal := store.NewSealer([32]byte{1})
	o := store.Options{Seal: seal, Prepare: func(next *store.View) (func(), error) {
		_, err := zones.Build(next, zones.Options{Seal: seal})
		return nil, err
	}}
	for _, f := range change {
		f(&o)
	}
	s, err := store.Open(t.Context(), db, o)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, store: s, mail: &fakeMail{}, log: &syncBuffer{}}
	n.Service = admin.New(s, n.mail, admin.Options{Hostname: "node.direct.test", LDAPPort: 389, Version: "test", Started: time.Unix(0, 0).UTC(), Log: slog.New(slog.NewTextHandler(n.log, nil))})
	n.socket = serveUnix(t, n.Handler())
	n.client = admin.NewClient(n.socket)
	for _, d := range []string{"a.direct.test", "b.direct.test"} {
		if _, err := n.AddDomain(t.Context(), admin.DomainRequest{Domain: d}); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// serveUnix serves a handler on a socket whose path is short enough.
func serveUnix(t *testing.T, h http.Handler) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "admin")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return socket
}

// syncBuffer is a log that a server may write while a test reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// fakeMail is a mail side with one message and one item in its queue.
type fakeMail struct {
	err   error
	calls []string
	limit int
}

func (m *fakeMail) Messages(limit int) ([]admin.Message, error) {
	m.limit = limit
	return nil, m.err
}

func (m *fakeMail) Message(id string) (admin.Message, bool, error) {
	return admin.Message{MessageID: id, Direction: "out"}, id == "1@a.direct.test", m.err
}

func (m *fakeMail) Queue() admin.QueueOrders         { return m }
func (m *fakeMail) List() ([]admin.QueueItem, error) { return nil, m.err }
func (m *fakeMail) Retry(id string) error            { return m.act("retry", id) }
func (m *fakeMail) Drop(id string) error             { return m.act("drop", id) }

func (m *fakeMail) act(verb, id string) error {
	if id != "q1" {
		return errors.New("not in the queue")
	}
	m.calls = append(m.calls, verb)
	return nil
}

// pki is a root with one end entity for each of the two domains.
type pki struct {
	root             *testpki.CA
	alice, bob, org  testpki.Pair
	foreign, expired testpki.Pair
}

func newPKI(t *testing.T) pki {
	p := testpki.New(t)
	root := p.Root("Root")
	return pki{
		root:    root,
		alice:   root.Leaf("alice", testpki.Address("alice@a.direct.test")),
		bob:     root.Leaf("bob", testpki.Address("bob@b.direct.test")),
		org:     root.Leaf("organization", testpki.Domain("a.direct.test")),
		foreign: root.Leaf("eve", testpki.Address("eve@elsewhere.test")),
		expired: root.Leaf("old", testpki.Address("old@a.direct.test"), testpki.Expired()),
	}
}

func file(name string, parts ...[]byte) admin.File {
	return admin.File{Name: name, Data: bytes.Join(parts, nil)}
}

// imports gives an import order and demands that it is carried out.
func (n *node) imports(req admin.ImportRequest) admin.ImportResult {
	n.t.Helper()
	res, err := n.ImportCertificates(n.t.Context(), req)
	if err != nil {
		n.t.Fatal(err)
	}
	checkAccount(n.t, res)
	return res
}

// checkAccount holds the counts of a result against its items.
func checkAccount(t *testing.T, res admin.ImportResult) {
	t.Helper()
	refused, warned := 0, 0
	for _, i := range res.Items {
		switch i.State {
		case "refused":
			refused++
		case "warning":
			warned++
		case "taken", "known", "replaced":
		default:
			t.Errorf("the state %q is not in the contract", i.State)
		}
		if i.File == "" || i.Kind == "" || i.State != "taken" && i.Reason == "" {
			t.Errorf("an item says too little: %+v", i)
		}
	}
	if refused != res.Refused || warned != res.Warned {
		t.Errorf("counts %+v do not agree with the items", res)
	}
	want := admin.CodeOK
	switch {
	case refused > 0:
		want = admin.CodeFailed
	case warned > 0:
		want = admin.CodeWarnings
	}
	if res.Code != want {
		t.Errorf("code %d, want %d", res.Code, want)
	}
}

// owners lists owner, places and key of everything that is stored.
func (n *node) owners() []string {
	n.t.Helper()
	list, err := n.ListCertificates(n.t.Context(), admin.CertificateQuery{})
	if err != nil {
		n.t.Fatal(err)
	}
	out := []string{}
	for _, c := range list {
		out = append(out, fmt.Sprintf("%s %v %v", c.Owner, c.Publish, c.HasKey))
	}
	return out
}

func asError(t *testing.T, err error) *admin.Error {
	t.Helper()
	var e *admin.Error
	if !errors.As(err, &e) {
		t.Fatalf("%v (%T) is no *admin.Error", err, err)
	}
	if e.ID == "" || e.Code == 0 || e.What == "" || e.Why == "" || e.Do == "" {
		t.Errorf("an error says too little: %+v", e)
	}
	return e
}

// colons writes a fingerprint as openssl does.
func colons(sha string) string {
	b, _ := hex.DecodeString(sha)
	return strings.ReplaceAll(fmt.Sprintf("% X", b), " ", ":")
}

func base64Of(der []byte) string { return base64.StdEncoding.EncodeToString(der) }

// ldifOf is one entry as other directories write it.
func ldifOf(mail string, der []byte) string {
	return "dn: cn=x,dc=a,dc=direct,dc=test\nobjectClass: inetOrgPerson\ncn: x\nsn: x\nmail: " + mail + "\nuserCertificate;binary:: " + base64Of(der) + "\n\n"
}
