package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestInteropDNSOverTLS: a node with dns.listen_tls is one that kdig speaks TLS
// with, and that proves who it is (RFC 7858 §3.2, RFC 8310 §8.1).
func TestInteropDNSOverTLS(t *testing.T) {
	dir := t.TempDir()
	selfSigned(t, dir, "ns.a.direct.test")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	path := filepath.Join(dir, "directd.toml")
	text := fmt.Sprintf("data_dir = \"s\"\n[dns]\nlisten = []\nlisten_tls = [%q]\n[tls]\ncert_file = %q\nkey_file = %q\n[ldap]\nlisten = []\n[smtp]\nlisten = []\nsubmission = []\n",
		addr, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, path) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve = %v", err)
		}
	}()
	for range 100 {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	host, port, _ := net.SplitHostPort(addr)
	// A node without domains says REFUSED, and here it says it inside TLS; kdig fails
	// where the certificate is not that of the host.
	out := string(run(t, nil, "kdig", "@"+host, "-p", port, "+tls", "+tls-ca="+filepath.Join(dir, "cert.pem"), "+tls-hostname=ns.a.direct.test", "+padding", "SOA", "a.direct.test"))
	for _, want := range []string{"TLS session", "REFUSED", "PADDING", "468 B"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// selfSigned writes cert.pem and key.pem for a host.
func selfSigned(t *testing.T, dir, host string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: cert}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
