package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"directnode/dnsserver"
	"directnode/internal/config"
	"directnode/internal/direct"
	"directnode/internal/testpki"
	"directnode/ldapserver"
	"directnode/ldapserver/dit"
	"directnode/resolver/fetch"
	"directnode/resolver/revocation"
	"directnode/sta/queue"
	"directnode/store"
	"directnode/store/kv/memory"
	"directnode/zones"
)

func get(t *testing.T, h http.Handler, method, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w.Code, w.Body.String()
}

func TestReadinessFollowsTheNode(t *testing.T) {
	m := newMonitor("v", "go")
	h := m.handler(slog.New(slog.DiscardHandler))
	for _, step := range []struct {
		do   func()
		code int
		want string
	}{
		{func() {}, 503, "not ready: the store is being read"},
		{m.ready, 200, "ok"},
		{func() { m.notReady("the node is stopping") }, 503, "not ready: the node is stopping"},
	} {
		step.do()
		if code, body := get(t, h, "GET", "/readyz"); code != step.code || body != step.want+"\n" {
			t.Errorf("%d %q, want %d %q", code, body, step.code, step.want)
		}
		if code, body := get(t, h, "GET", "/livez"); code != 200 || body != "ok\n" {
			t.Errorf("livez %d %q", code, body)
		}
	}
	for _, c := range []struct {
		method, path string
		code         int
	}{{"GET", "/", 404}, {"GET", "/debug/pprof/", 404}, {"POST", "/metrics", 405}, {"GET", "/v1/status", 404}, {"HEAD", "/livez", 200}} {
		if code, _ := get(t, h, c.method, c.path); code != c.code {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, code, c.code)
		}
	}
}

// measured is a node's rooms with one domain and one certificate in them, as
// far as figures need them.
func measured(t *testing.T) (*monitor, *nodeMetrics) {
	t.Helper()
	p := &publisher{dit: dit.Options{Anonymous: "exact"}, log: slog.New(slog.DiscardHandler)}
	s, err := store.Open(t.Context(), memory.New(memory.Options{}), store.Options{Prepare: p.prepare})
	if err != nil {
		t.Fatal(err)
	}
	a := mustAddress(t, "alice@direct.example.org")
	leaf := testpki.New(t).Root("Test CA").Leaf("alice", testpki.Address(a.String()))
	_, err = s.Update(t.Context(), func(tx *store.Tx) error {
		records := zones.DefaultRecords(a.Domain(), zones.DefaultOptions{Hostname: "ns.direct.example.org", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}})
		if err := tx.AddDomain(a.Domain(), records); err != nil {
			return err
		}
		_, err := tx.AddCertificate(store.Certificate{Owner: direct.OwnerOfAddress(a), DER: leaf.DER, PublishDNS: true, PublishLDAP: true})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	m := newMonitor("v0", "go0")
	door := fetch.New(fetch.Options{})
	status, err := revocation.Open(revocation.Options{Fetch: door, Dir: filepath.Join(t.TempDir(), "revocation")})
	if err != nil {
		t.Fatal(err)
	}
	n := &nodeMetrics{
		door: door, revocation: status,
		dns: dnsserver.New(p.zoneSet, dnsserver.Options{}), ldap: ldapserver.New(p.ldapTree, ldapserver.Options{}), web: &public{}, view: s.View, publisher: p, mail: &mailCounts{},
		queue: func(context.Context) ([]queue.Entry, error) {
			return []queue.Entry{
				{Kind: "inbound", State: "held", Created: at.Add(-time.Hour), From: "secret@elsewhere.example"},
				{Kind: "outbound", State: "due", Created: at.Add(-time.Minute), To: []string{"secret@elsewhere.example"}},
				{Kind: "outbound", State: "due", Created: at},
			}, nil
		},
		now: func() time.Time { return at },
	}
	m.registry.MustRegister(n)
	return m, n
}

func TestFiguresAreThereAndSayNothingOfPeople(t *testing.T) {
	m, n := measured(t)
	n.mail.count(mailIn, nil)
	n.mail.count(mailOut, errors.New("refused"))
	n.mail.attempts([]error{nil, errors.New("451")})
	code, body := get(t, m.handler(slog.New(slog.DiscardHandler)), "GET", "/metrics")
	if code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	for _, line := range []string{
		`directnode_build_info{goversion="go0",version="v0"} 1`,
		`directnode_dns_queries_total{transport="udp"} 0`,
		`directnode_dns_query_types_total{type="cert"} 0`,
		`directnode_dns_tcp_connections 0`,
		`directnode_dns_tcp_turned_away_total{action="evicted"} 0`,
		`directnode_dns_truncated_total{reason="proof"} 0`,
		`directnode_dns_cookie_total{state="valid"} 0`,
		`directnode_dns_enumeration_suspects 0`,
		`directnode_ldap_searches_total{result="found"} 0`,
		`directnode_ldap_denied_total{reason="listing"} 0`,
		`directnode_ldap_denied_total{reason="misses"} 0`,
		`directnode_ldap_connections 0`,
		`directnode_ldap_connections_total 0`,
		`directnode_generation 2`,
		`directnode_store_commits_total 2`,
		`directnode_zones 1`,
		`directnode_certificates 1`,
		`directnode_smtp_messages_total{direction="in",result="taken"} 1`,
		`directnode_smtp_messages_total{direction="out",result="refused"} 1`,
		`directnode_smtp_delivery_attempts_total{result="failed"} 1`,
		`directnode_queue_messages{kind="inbound",state="due"} 0`,
		`directnode_queue_messages{kind="inbound",state="held"} 1`,
		`directnode_queue_messages{kind="outbound",state="due"} 2`,
		`directnode_queue_oldest_seconds 60`,
		"go_goroutines ", "process_resident_memory_bytes ",
	} {
		if !strings.Contains(body, "\n"+line) {
			t.Errorf("no line %s", line)
		}
	}
	for _, secret := range []string{"alice", "example", "secret"} {
		if strings.Contains(body, secret) {
			t.Errorf("%q stands in the figures", secret)
		}
	}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

// TestABrokenQueueTakesNoOtherFigureWithIt: monitoring is wanted most when
// something is broken.
func TestABrokenQueueTakesNoOtherFigureWithIt(t *testing.T) {
	m, n := measured(t)
	n.queue = func(context.Context) ([]queue.Entry, error) { return nil, errors.New("disk") }
	code, body := get(t, m.handler(slog.New(slog.DiscardHandler)), "GET", "/metrics")
	if code != 200 || !strings.Contains(body, "directnode_zones 1") || strings.Contains(body, "directnode_queue_messages{") {
		t.Errorf("%d\n%s", code, body)
	}
}

// acceptAll accepts into a channel until the listener is closed.
func acceptAll(t *testing.T, exempt []netip.Prefix) (c *capped, accepted chan net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	c, accepted = newCapped(l, 3, 2, exempt), make(chan net.Conn, 8)
	go func() {
		defer close(accepted)
		for {
			nc, err := c.Accept()
			if err != nil {
				return
			}
			accepted <- nc
		}
	}()
	return c, accepted
}

func TestConnectionsAreCapped(t *testing.T) {
	dial := func(c *capped) net.Conn {
		nc, err := net.Dial("tcp", c.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		return nc
	}
	c, accepted := acceptAll(t, nil)
	dial(c)
	first := <-accepted
	dial(c)
	<-accepted
	third := dial(c)
	if _, err := third.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the third of a peer got %v", err)
	}
	if c.connections() != 2 || c.refused.Load() != 1 {
		t.Errorf("%d open, %d refused", c.connections(), c.refused.Load())
	}
	first.Close()
	first.Close() // twice gives back one place
	dial(c)
	<-accepted
	if c.connections() != 2 {
		t.Errorf("%d open", c.connections())
	}

	c, accepted = acceptAll(t, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	for range 3 {
		dial(c)
		<-accepted
	}
	if _, err := dial(c).Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the fourth of all got %v", err)
	}
}

func TestMonitoringOfOthersNeedsAWord(t *testing.T) {
	for text, want := range map[string]string{
		"[admin]\nlisten = \"127.0.0.1:9100\"\n":                       "",
		"[admin]\nlisten = \"[::1]:9100\"\n":                           "",
		"[admin]\nlisten = \"192.0.2.1:9100\"\n":                       "f.toml:2: admin.listen: \"192.0.2.1:9100\" is reached by other machines",
		"[admin]\nlisten = \"0.0.0.0:9100\"\n":                         "f.toml:2: admin.listen: \"0.0.0.0:9100\" is reached by other machines",
		"[admin]\nlisten = \"0.0.0.0:9100\"\nallow_remote = true\n":    "",
		"[admin]\nlisten = \"localhost:9100\"\nallow_remote = false\n": "f.toml:2: admin.listen: ",
	} {
		_, err := config.Parse("f.toml", []byte(text))
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
