package dnsserver_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"directnode/dnsserver"
)

// startTLS serves DNS over TLS on a loopback address until the test ends.
func startTLS(t *testing.T, o dnsserver.Options) (addr string, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ns.example"}, DNSNames: []string{"ns.example"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(cert)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"dot"}, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- dnsserver.New(fixed(newSet(t)), o).Serve(ctx, nil, tls.NewListener(l, config)) }()
	t.Cleanup(func() {
		begin := time.Now()
		cancel()
		select {
		case err := <-done:
			if err != nil || time.Since(begin) > 2*time.Second {
				t.Errorf("Serve: %v after %s", err, time.Since(begin))
			}
		case <-time.After(5 * time.Second):
			t.Error("Serve does not drain")
		}
	})
	return l.Addr().String(), &tls.Config{RootCAs: roots, ServerName: "ns.example", NextProtos: []string{"dot"}, MinVersion: tls.VersionTLS12}
}

// TestServesTLS: a listener of TLS is a listener like any other (RFC 7858).
func TestServesTLS(t *testing.T) {
	addr, config := startTLS(t, dnsserver.Options{})
	conn, err := tls.Dial("tcp", addr, config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	var out []byte
	for range 3 {
		out = append(out, framed(ask(t, "bob.direct.example.org.", dns.TypeCERT, 1232))...)
		out = append(out, framed(ask(t, "txt200.upper.example.", dns.TypeTXT, 0))...) // four records of TLS
	}
	for len(out) > 0 { // in pieces that fit no frame
		n := min(len(out), 50)
		if _, err := conn.Write(out[:n]); err != nil {
			t.Fatal(err)
		}
		out = out[n:]
	}
	co := &dns.Conn{Conn: conn}
	for i := range 6 {
		if m, err := co.ReadMsg(); err != nil || m.Truncated || len(m.Answer) != []int{1, 200}[i%2] {
			t.Errorf("answer %d: %v, %v", i, m, err)
		}
	}
	if _, err := exec.LookPath("kdig"); err != nil {
		t.Log("SKIP peer kdig absent")
		return
	}
	host, port, _ := net.SplitHostPort(addr)
	out, err = exec.CommandContext(t.Context(), "kdig", "@"+host, "-p", port, "+tls", "+short", "CERT", "bob.direct.example.org").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "PKIX ") && !strings.HasPrefix(string(out), "1 ") {
		t.Errorf("kdig +tls: %v\n%s", err, out)
	}
}

// TestTLSKeepsToTheLimits: who shakes no hands is gone after FirstByte, and one
// that is evicted while it does not read holds up nobody.
func TestTLSKeepsToTheLimits(t *testing.T) {
	addr, config := startTLS(t, dnsserver.Options{Limits: dnsserver.Limits{TCPTotal: 1, FirstByte: 300 * time.Millisecond, Exempt: []netip.Prefix{}}})
	mute, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	begin := time.Now()
	mute.SetReadDeadline(begin.Add(3 * time.Second))
	if _, err := mute.Read(make([]byte, 1)); err == nil || time.Since(begin) > 2*time.Second {
		t.Errorf("a client that says nothing is kept %s: %v", time.Since(begin), err)
	}
	for i := range 5 { // each takes the only place
		begin := time.Now()
		conn, err := tls.Dial("tcp", addr, config)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(3 * time.Second))
		if !alive(t, conn) || time.Since(begin) > time.Second {
			t.Errorf("client %d is not served, or after %s", i, time.Since(begin))
		}
	}
}
