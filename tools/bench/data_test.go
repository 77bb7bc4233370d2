package main

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// testPool is a pool of one certificate, for making 256 keys takes long.
func testPool(t *testing.T, size int) *pool {
	t.Helper()
	m, err := newMaker(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if m.padding, err = m.pad(size); err != nil {
		t.Fatal(err)
	}
	der, err := m.sign()
	if err != nil {
		t.Fatal(err)
	}
	p, err := parsePool(der)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestCertificatesAreTheirOwners: each parses, has its size, names its owner
// and differs from all others.
func TestCertificatesAreTheirOwners(t *testing.T) {
	p := testPool(t, 1199)
	seen := map[string]bool{}
	for i := range 300 {
		for version := range 2 {
			der := p.certificate(i*33_331, version)
			c, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			if want := localPart(i*33_331) + "@" + zoneName; len(c.EmailAddresses) != 1 || c.EmailAddresses[0] != want || len(der) != 1199 {
				t.Fatalf("certificate of %v with %d octets, want %s", c.EmailAddresses, len(der), want)
			}
			seen[string(der)] = true
		}
	}
	if len(seen) != 600 {
		t.Errorf("%d different certificates", len(seen))
	}
}

func TestAPoolIsKeptAndADamagedOneIsNotRead(t *testing.T) {
	p := testPool(t, 1199)
	for name, raw := range map[string][]byte{"empty": nil, "text": []byte("no"), "cut": p.certs[0][:500], "foreign": bytes.ReplaceAll(p.certs[0], []byte(placeOwner), []byte("x9999999"))} {
		if _, err := parsePool(raw); err == nil {
			t.Errorf("%s: was read", name)
		}
	}
	if !expires(p.certs[0], time.Now().Add(lifetime)) || expires(p.certs[0], time.Now()) {
		t.Error("expiry is not seen")
	}
}

// TestLinesStandWhereTheyAreSaidToStand: a server that is changed by way of
// its zone text depends on it.
func TestLinesStandWhereTheyAreSaidToStand(t *testing.T) {
	d := &dataSet{names: 70, pool: testPool(t, 1199), zoneText: filepath.Join(t.TempDir(), "z")}
	if err := whole(d.zoneText, func(w io.Writer) error { return d.writeZone(w, 0, 70) }); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(d.zoneText)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(text)) != d.offset(d.names) {
		t.Fatalf("%d octets, want %d", len(text), d.offset(d.names))
	}
	line, _, _ := strings.Cut(string(text[d.offset(69):]), "\n")
	want := "u0000069 IN CERT PKIX 0 0 " + base64.StdEncoding.EncodeToString(d.pool.certificate(69, 0))
	if line != want {
		t.Errorf("line = %.60s", line)
	}
}
