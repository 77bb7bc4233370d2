package ldapserver_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"directnode/internal/testpki"
	"directnode/ldapserver"
	"directnode/ldapserver/dit"
)

// certificates makes a server's configuration and the client's that trusts it.
func certificates(t *testing.T) (server, trusting *tls.Config) {
	root := testpki.New(t).Root("LDAP Test Root")
	leaf := root.Leaf("ldap", testpki.Domain("ldap.b.direct.test"))
	pool := x509.NewCertPool()
	pool.AddCert(root.Cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.DER}, PrivateKey: leaf.Key}}},
		&tls.Config{RootCAs: pool, ServerName: "ldap.b.direct.test"}
}

func TestStartTLS(t *testing.T) {
	server, trusting := certificates(t)
	addr := start(t, world(t, dit.Options{StartTLS: true}), ldapserver.Options{TLS: server})
	c := client(t, addr)
	root, err := c.Search(&ldap.SearchRequest{Filter: "(objectClass=*)", Attributes: []string{"supportedExtension"}})
	if err != nil {
		t.Fatal(err)
	}
	if v := root.Entries[0].GetAttributeValues("supportedExtension"); len(v) != 3 {
		t.Errorf("supportedExtension = %q", v)
	}
	if err := c.StartTLS(trusting); err != nil {
		t.Fatal(err)
	}
	if r, err := c.Search(&ldap.SearchRequest{BaseDN: top, Scope: 2, Filter: "(mail=bob@b.direct.test)"}); err != nil || len(r.Entries) != 1 {
		t.Errorf("over TLS: %v, %v", r, err)
	}
	if _, err := c.Extended(ldap.NewExtendedRequest(dit.OIDStartTLS, nil)); !ldap.IsErrorWithCode(err, ldap.LDAPResultOperationsError) {
		t.Errorf("StartTLS twice: %v, want operationsError", err)
	}
}

// TestNothingSentInClearSurvivesStartTLS sends requests behind the StartTLS
// request in the same segment: none may be answered, before or after a
// handshake.
func TestNothingSentInClearSurvivesStartTLS(t *testing.T) {
	server, _ := certificates(t)
	addr := start(t, world(t, dit.Options{StartTLS: true}), ldapserver.Options{TLS: server})
	for name, injected := range map[string][]byte{
		"a search":       ask{base: top, scope: 2, filter: equal("mail", "bob@b.direct.test")}.pdu(2),
		"one octet":      {0x30},
		"another hello":  extended(3, dit.OIDStartTLS),
		"a bind":         bind(2, 3, "", ""),
		"what is no BER": []byte("\x16\x03\x01"),
	} {
		w := dial(t, addr)
		w.send(append(extended(1, dit.OIDStartTLS), injected...))
		m, err := w.read()
		if err != nil || m.id != 0 || m.name != "1.3.6.1.4.1.1466.20036" {
			t.Errorf("%s: %v, %v; want a notice of disconnection", name, m, err)
		}
		w.closed()
	}
}

func TestAHandshakeThatDoesNotComeTimesOut(t *testing.T) {
	server, _ := certificates(t)
	addr := start(t, world(t, dit.Options{StartTLS: true}), ldapserver.Options{TLS: server, PDUTimeout: 100 * time.Millisecond})
	w := dial(t, addr)
	w.send(extended(1, dit.OIDStartTLS))
	if m := w.must(); m.code != 0 || m.name != dit.OIDStartTLS {
		t.Fatalf("%v", m)
	}
	began := time.Now()
	if _, err := w.read(); err == nil {
		t.Error("an answer in clear")
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("closed after %v", took)
	}
}

func TestLDAPOverTLS(t *testing.T) {
	server, trusting := certificates(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tr := world(t, dit.Options{StartTLS: true})
	serve(t, ldapserver.New(func() *dit.Tree { return tr }, ldapserver.Options{TLS: server, PDUTimeout: time.Second}), tls.NewListener(l, server))
	c, err := tls.Dial("tcp", l.Addr().String(), trusting)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	w := wire{t, c}
	if dns, done := w.search(ask{base: top, scope: 2, filter: equal("mail", "bob@b.direct.test")}); done.code != 0 || len(dns) != 1 {
		t.Errorf("%q, %v", dns, done)
	}
	w.send(extended(1, dit.OIDStartTLS))
	if m := w.must(); m.code != 1 {
		t.Errorf("StartTLS inside TLS: %v, want operationsError", m)
	}
	w.send([]byte("x"))
	if m := w.must(); m.id != 0 {
		t.Errorf("%v, want a notice", m)
	}
	w.closed()
	clear := dial(t, l.Addr().String())
	clear.send(whoAmI(1))
	if m, err := clear.read(); err == nil && m.tag == 24 {
		t.Errorf("answered in clear: %v", m)
	}
}
