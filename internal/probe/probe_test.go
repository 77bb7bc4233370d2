package probe_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"directnode/internal/direct"
	"directnode/internal/probe"
	"directnode/internal/testpki"
	"directnode/ldapserver"
	"directnode/ldapserver/dit"
	"directnode/store"
)

// serveDNS answers with what answer makes of a question, by UDP and TCP on one
// port.
func serveDNS(t *testing.T, answer func(q *dns.Msg) *dns.Msg) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	h := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		if m := answer(q); m != nil {
			_ = w.WriteMsg(m)
		}
	})
	for _, s := range []*dns.Server{{Listener: l, Handler: h}, {PacketConn: pc, Handler: h}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { _ = s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return netip.MustParseAddrPort(l.Addr().String())
}

func short(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestDNSGivesTheAnswerAsItIs(t *testing.T) {
	der := testpki.New(t).SelfSigned("x").DER
	at := serveDNS(t, func(q *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(q)
		m.Authoritative = true
		for _, text := range []string{"x.test. 60 IN SOA a. b. 1 2 3 4 5", "x.test. 60 IN SRV 1 2 389 ldap.x.test.", "x.test. 60 IN A 192.0.2.1", "x.test. 60 IN AAAA 2001:db8::1",
			"x.test. 60 IN CERT PKIX 0 0 " + base64.StdEncoding.EncodeToString(der), "x.test. 60 IN CERT 4 0 0 aHR0cDovL3gv", "X.test. 60 IN CNAME y.test.", "y.test. 60 IN CNAME z.test."} {
			rr, err := dns.NewRR(text)
			if err != nil {
				panic(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		if q.Question[0].Name == "none.test." {
			m.SetRcode(q, dns.RcodeRefused)
			m.Answer = nil
		}
		return m
	})
	for _, network := range []string{"udp", "tcp"} {
		a, err := probe.Prober{}.DNS(short(t), at, network, "x.test.", "SRV")
		if err != nil || a.Rcode != "NOERROR" || !a.Authoritative || !a.SOA || a.Alias != "y.test." || a.URLs != 1 || len(a.Certs) != 1 || !slices.Equal(a.Certs[0], der) ||
			fmt.Sprint(a.Addrs) != "[192.0.2.1 2001:db8::1]" || !slices.Equal(a.SRV, []net.SRV{{Target: "ldap.x.test.", Port: 389, Priority: 1, Weight: 2}}) {
			t.Errorf("%s: %+v, %v", network, a, err)
		}
		if a, err := (probe.Prober{}).DNS(short(t), at, network, "none.test.", "A"); err != nil || a.Rcode != "REFUSED" {
			t.Errorf("%s: %+v, %v", network, a, err)
		}
	}
	if _, err := (probe.Prober{}).DNS(short(t), at, "udp", "x.test.", "NONSENSE"); err == nil {
		t.Error("a type that is none: no error")
	}
}

func TestWhoDoesNotAnswerIsAnError(t *testing.T) {
	silent := serveDNS(t, func(*dns.Msg) *dns.Msg { return nil })
	for _, network := range []string{"udp", "tcp"} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if a, err := (probe.Prober{}).DNS(ctx, silent, network, "x.test.", "A"); err == nil {
			t.Errorf("%s: %+v", network, a)
		}
		cancel()
	}
	for name, serve := range map[string]func(net.Conn){
		"connect":          nil,
		"anonymous bind":   func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"anonymous bind ":  func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) },
		"anonymous bind  ": func(c net.Conn) { _, _ = c.Write([]byte("\x30\x84\x7f\xff\xff\xff")); _, _ = io.Copy(c, endless{}) },
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if serve == nil {
			_ = l.Close()
		} else {
			t.Cleanup(func() { _ = l.Close() })
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					serve(c)
					_ = c.Close()
				}
			}()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, err = probe.Prober{}.LDAP(ctx, netip.MustParseAddrPort(l.Addr().String()), "x@x.test")
		cancel()
		if err == nil || !strings.HasPrefix(err.Error(), strings.TrimSpace(name)+": ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// endless is a text that does not end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestLDAPFindsWhatANodePublishes(t *testing.T) {
	pki := testpki.New(t)
	root := pki.Root("CA")
	bob := root.Leaf("bob", testpki.Address("bob@b.direct.test"))
	d, err := direct.ParseDomain("b.direct.test")
	if err != nil {
		t.Fatal(err)
	}
	owner, err := direct.ParseOwner("bob@b.direct.test")
	if err != nil {
		t.Fatal(err)
	}
	data := &store.DomainData{Domain: d, Certificates: store.NewCertificates(store.Certificate{Owner: owner, DER: bob.DER, PublishLDAP: true})}
	tree, err := dit.Build(view{data}, dit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	server := ldapserver.New(func() *dit.Tree { return tree }, ldapserver.Options{})
	go func() { served <- server.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	})
	at := netip.MustParseAddrPort(l.Addr().String())
	for mail, want := range map[string]int{"bob@b.direct.test": 1, "nobody@b.direct.test": 0, "": 0, "*(": 0} {
		got, err := probe.Prober{}.LDAP(short(t), at, mail)
		if err != nil || len(got.Certs) != want || !slices.Equal(got.NamingContexts, []string{"dc=b,dc=direct,dc=test"}) {
			t.Errorf("%q: %+v, %v", mail, got, err)
		}
	}
	if list := (probe.Prober{}).Addresses(); !slices.Contains(list, netip.MustParseAddr("127.0.0.1")) {
		t.Errorf("the machine's addresses are %v", list)
	}
}

type view struct{ data *store.DomainData }

func (v view) Domains() []direct.Domain               { return []direct.Domain{v.data.Domain} }
func (v view) Domain(direct.Domain) *store.DomainData { return v.data }
