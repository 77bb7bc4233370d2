package revocation_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"directnode/internal/testpki"
	"directnode/resolver/revocation"
)

func read(t testing.TB, der []byte) *revocation.CRL {
	t.Helper()
	c, err := revocation.ReadCRL(bytes.NewReader(der))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestListsAsTheStandardLibraryReadsThem: same entries, same times, same signature, however the octets come.
func TestListsAsTheStandardLibraryReadsThem(t *testing.T) {
	pki := testpki.New(t)
	for name, ca := range map[string]*testpki.CA{"RSA": pki.Root("Root"), "P-256": pki.Root("EC", testpki.WithKey(testpki.P256())), "P-384": pki.Root("EC 384", testpki.WithKey(testpki.P384()))} {
		var revoked []int64
		for i := range int64(3000) {
			revoked = append(revoked, 7*i*i+1)
		}
		der := makeList(t, ca.Pair, listOptions{revoked: revoked, reason: 4, number: 12})
		std, err := x509.ParseRevocationList(der)
		if err != nil {
			t.Fatal(err)
		}
		armored := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
		for how, r := range map[string]io.Reader{
			"at once": bytes.NewReader(der), "octet by octet": iotest.OneByteReader(bytes.NewReader(der)), "with the error": iotest.DataErrReader(bytes.NewReader(der)),
			"PEM": bytes.NewReader(armored), "PEM octet by octet": iotest.OneByteReader(bytes.NewReader(armored)),
		} {
			c, err := revocation.ReadCRL(r)
			if err != nil {
				t.Fatalf("%s %s: %v", name, how, err)
			}
			if c.Entries() != len(revoked) || !c.ThisUpdate.Equal(std.ThisUpdate) || !c.NextUpdate.Equal(std.NextUpdate) || c.Number.Int64() != 12 || c.Octets != int64(len(der)) {
				t.Errorf("%s %s: %d entries, %v to %v, number %v, %d octets", name, how, c.Entries(), c.ThisUpdate, c.NextUpdate, c.Number, c.Octets)
			}
			for _, e := range std.RevokedCertificateEntries {
				got, found := c.Find(e.SerialNumber)
				if !found || !got.At.Equal(e.RevocationTime) || got.Reason != e.ReasonCode {
					t.Fatalf("%s %s: %v: %v %v", name, how, e.SerialNumber, got, found)
				}
			}
			if _, found := c.Find(big.NewInt(3)); found {
				t.Errorf("%s %s: 3 is found", name, how)
			}
			if err := c.Issued(ca.Cert); err != nil {
				t.Errorf("%s %s: %v", name, how, err)
			}
		}
	}
}

// TestPKITSLists reads every list of NIST's suite as the standard library does.
func TestPKITSLists(t *testing.T) {
	dir := os.Getenv("PKITS_CRLS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data", "pkits", "crls")
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.crl"))
	if len(files) == 0 {
		t.Skip("SKIP data pkits absent")
	}
	for _, f := range files {
		der, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		std, stdErr := x509.ParseRevocationList(der)
		c, err := revocation.ReadCRL(bytes.NewReader(der))
		if err != nil && strings.Contains(err.Error(), "1.2.840.10040.4.3") {
			continue // DSA, which nobody in this network signs with
		}
		if (err == nil) != (stdErr == nil) {
			t.Errorf("%s: %v, the standard library says %v", filepath.Base(f), err, stdErr)
			continue
		}
		if err != nil {
			continue
		}
		if c.Entries() != len(std.RevokedCertificateEntries) {
			t.Errorf("%s: %d entries, the standard library has %d", filepath.Base(f), c.Entries(), len(std.RevokedCertificateEntries))
		}
		for _, e := range std.RevokedCertificateEntries {
			if _, found := c.Find(e.SerialNumber); !found {
				t.Errorf("%s: %v is missing", filepath.Base(f), e.SerialNumber)
			}
		}
	}
	t.Logf("%d lists", len(files))
}

// TestWhoseListItIs: the attacker's list ends here.
func TestWhoseListItIs(t *testing.T) {
	pki := testpki.New(t)
	ca := pki.Root("Root")
	der := makeList(t, ca.Pair, listOptions{revoked: []int64{5}})
	other := pki.Root("Other")
	impostor := pki.Root("Root") // the name and another key
	noSign := pki.Root("Root", testpki.WithKey(ca.Key), testpki.KeyUsage(x509.KeyUsageCertSign))
	spaced := pki.Root("  rOOt ", testpki.WithKey(ca.Key)) // RFC 5280 §7.1: the same name
	for _, tc := range []struct {
		name   string
		list   []byte
		issuer *testpki.CA
		want   string // part of the error; "" is none
	}{
		{"the issuer's", der, ca, ""},
		{"written otherwise", der, spaced, ""},
		{"another issuer's", der, other, "another issuer"},
		{"an impostor's", der, impostor, "not one of the issuer's key"},
		{"of a key that signs no lists", der, noSign, "without cRLSign"},
		{"changed on the way", append(append([]byte(nil), der[:len(der)-1]...), der[len(der)-1]^1), ca, "not one of the issuer's key"},
	} {
		err := read(t, tc.list).Issued(tc.issuer.Cert)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}

// idp writes issuingDistributionPoint by hand: the fields in order, each as its octets.
func idp(critical bool, fields ...[]byte) pkix.Extension {
	value, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: bytes.Join(fields, nil)})
	if err != nil {
		panic(err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: critical, Value: value}
}

func tagged(n byte, content ...byte) []byte { return append([]byte{n, byte(len(content))}, content...) }

// pointURL is distributionPoint with one URL.
func pointURL(url string) []byte {
	name := append([]byte{0x86, byte(len(url))}, url...)
	full := append([]byte{0xa0, byte(len(name))}, name...)
	return append([]byte{0xa0, byte(len(full))}, full...)
}

// TestScope: what a list says it is about (RFC 5280 §6.3.3).
func TestScope(t *testing.T) {
	pki := testpki.New(t)
	ca := pki.Root("Root")
	leaf := ca.Leaf("leaf", testpki.CRLDP("http://a.example/1.crl"))
	sub := ca.Intermediate("sub", testpki.CRLDP("http://a.example/1.crl"))
	yes := byte(0xff)
	for _, tc := range []struct {
		name       string
		extensions []pkix.Extension
		entry      []pkix.Extension
		leaf, sub  string // part of the reason, "" is covered
		partial    bool
	}{
		{name: "everything"},
		{name: "this point", extensions: []pkix.Extension{idp(true, pointURL("http://a.example/1.crl"))}},
		{name: "another point", extensions: []pkix.Extension{idp(true, pointURL("http://a.example/2.crl"))}, leaf: "another distribution point", sub: "another distribution point"},
		{name: "end entities", extensions: []pkix.Extension{idp(true, tagged(0x81, yes))}, sub: "end entities"},
		{name: "authorities", extensions: []pkix.Extension{idp(true, tagged(0x82, yes))}, leaf: "authorities"},
		{name: "attribute certificates", extensions: []pkix.Extension{idp(true, tagged(0x85, yes))}, leaf: "attribute", sub: "attribute"},
		{name: "some reasons", extensions: []pkix.Extension{idp(true, tagged(0x83, 6, 0x40))}, partial: true},
		{name: "indirect", extensions: []pkix.Extension{idp(true, tagged(0x84, yes))}, leaf: "indirect", sub: "indirect"},
		{name: "delta", extensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}}, leaf: "delta", sub: "delta"},
		{name: "unknown critical", extensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}, leaf: "1.2.3", sub: "1.2.3"},
		{name: "unknown", extensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: []byte{5, 0}}}},
		{name: "unknown critical in an entry", entry: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}, leaf: "1.2.3", sub: "1.2.3"},
		{name: "another issuer's entry", entry: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: []byte{0x30, 0}}}, leaf: "other issuers", sub: "other issuers"},
	} {
		c := read(t, makeList(t, ca.Pair, listOptions{revoked: []int64{99}, extensions: tc.extensions, entry: tc.entry}))
		for _, x := range []struct {
			cert *x509.Certificate
			want string
		}{{leaf.Cert, tc.leaf}, {sub.Cert, tc.sub}} {
			partial, err := c.Covers(x.cert)
			if (err == nil) != (x.want == "") || err != nil && !strings.Contains(err.Error(), x.want) || err == nil && partial != tc.partial {
				t.Errorf("%s, %s: partial %v, %v, want %q", tc.name, x.cert.Subject.CommonName, partial, err, x.want)
			}
		}
	}
}

// TestTimesOfLists: a list speaks from thisUpdate to nextUpdate, clocks allowed for.
func TestTimesOfLists(t *testing.T) {
	ca := testpki.New(t).Root("Root")
	now := clock()
	c := read(t, makeList(t, ca.Pair, listOptions{this: now, next: now.Add(24 * time.Hour)}))
	for _, tc := range []struct {
		at time.Time
		ok bool
	}{
		{now.Add(-6 * time.Minute), false}, {now.Add(-4 * time.Minute), true}, {now, true}, {now.Add(24 * time.Hour), true}, {now.Add(24*time.Hour + time.Second), false},
	} {
		if err := c.Current(tc.at); (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.at, err)
		}
	}
}

// TestListsThatAreNone: whatever is cut or changed is refused, and nothing breaks.
func TestListsThatAreNone(t *testing.T) {
	ca := testpki.New(t).Root("Root")
	der := makeList(t, ca.Pair, listOptions{revoked: []int64{1, 2, 300}})
	for n := range der {
		if _, err := revocation.ReadCRL(bytes.NewReader(der[:n])); err == nil {
			t.Errorf("%d of %d octets are read as a list", n, len(der))
		}
	}
	whole := read(t, der)
	for i := range der {
		for _, flip := range []byte{1, 0x20, 0x80, 0xff} {
			broken := bytes.Clone(der)
			broken[i] ^= flip
			c, err := revocation.ReadCRL(bytes.NewReader(broken))
			if err == nil && c.Issued(ca.Cert) == nil {
				t.Errorf("octet %d ^ %#x: still one of the issuer's", i, flip)
			}
		}
	}
	if err := whole.Issued(ca.Cert); err != nil {
		t.Error(err)
	}
	for name, text := range map[string]string{
		"nothing": "", "a page": "<html><body>404</body></html>", "one octet": "\x30", "endless length": "\x30\x84\xff\xff\xff\xff\x30", "indefinite": "\x30\x80\x30\x80", "followed": string(der) + "x",
		"PEM of nothing": "-----BEGIN X509 CRL-----\n-----END X509 CRL-----\n", "PEM without a line": "-----BEGIN X509 CRL-----", "a certificate": string(ca.DER),
	} {
		if _, err := revocation.ReadCRL(strings.NewReader(text)); err == nil {
			t.Errorf("%s is read as a list", name)
		}
	}
	if _, err := revocation.ReadCRL(io.MultiReader(bytes.NewReader(der[:10]), &endless{})); err == nil {
		t.Error("an endless stream is read as a list")
	}
}

// endless never stops.
type endless struct{}

func (*endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// bigList writes a list of n entries as a stream: serial numbers of 16 octets, a reason each, as large issuers have them.
type bigList struct {
	ca      testpki.Pair
	entries int
}

func (b bigList) serial(i int) []byte {
	s := make([]byte, 16)
	x := uint64(i)*0x9e3779b97f4a7c15 + 1
	for j := range s {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		s[j] = byte(x >> 11)
	}
	s[0] = s[0]&0x7f | 0x40
	return s
}

func length(n int) []byte { return []byte{0x84, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)} }

// writeTo writes the list twice over: into a digest, and then with its signature.
func (b bigList) writeTo(t testing.TB, w io.Writer) int {
	t.Helper()
	entry := func(i int) []byte {
		e := append([]byte{0x30, 47, 2, 16}, b.serial(i)...)
		e = append(e, "\x17\x0d260101000000Z"...)
		return append(e, 0x30, 12, 0x30, 10, 6, 3, 0x55, 0x1d, 0x15, 4, 3, 10, 1, 1)
	}
	algorithm := []byte{0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 5, 0}
	front := append([]byte{2, 1, 1}, algorithm...)
	front = append(front, b.ca.Cert.RawSubject...)
	front = append(front, "\x17\x0d260601000000Z\x17\x0d260701000000Z"...)
	size := b.entries * len(entry(0))
	tbs := func(w io.Writer) {
		w.Write([]byte{0x30})
		w.Write(length(len(front) + 6 + size))
		w.Write(front)
		w.Write([]byte{0x30})
		w.Write(length(size))
		for i := range b.entries {
			w.Write(entry(i))
		}
	}
	h := crypto.SHA256.New()
	tbs(h)
	signature, err := b.ca.Key.Sign(rand.Reader, h.Sum(nil), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	inner := 6 + len(front) + 6 + size
	bits := append([]byte{3, 0x82, byte((len(signature) + 1) >> 8), byte(len(signature) + 1), 0}, signature...)
	total := inner + len(algorithm) + len(bits)
	w.Write([]byte{0x30})
	w.Write(length(total))
	tbs(w)
	w.Write(algorithm)
	w.Write(bits)
	return 6 + total
}

// TestMemoryOfALargeList: reading a list takes less memory than the list has octets, the list never being in memory itself. By default 5
// MB; DNS_REVOCATION_LARGE=1 takes the largest that is read at all, 64 MiB.
func TestMemoryOfALargeList(t *testing.T) {
	entries := 100_000
	if os.Getenv("DNS_REVOCATION_LARGE") != "" {
		entries = (64<<20 - 2000) / 49
	}
	big := bigList{testpki.New(t).Root("Root").Pair, entries}
	path := filepath.Join(t.TempDir(), "list")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	size := big.writeTo(t, f)
	f.Close()
	if f, err = os.Open(path); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	c, err := revocation.ReadCRL(f)
	took := time.Since(start)
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if err := c.Issued(big.ca.Cert); err != nil {
		t.Error(err)
	}
	for _, i := range []int{0, 1, entries / 2, entries - 1} {
		if _, found := c.Find(new(bigInt).SetBytes(big.serial(i))); !found {
			t.Errorf("entry %d is missing", i)
		}
	}
	// All that was allocated, the garbage included: no collector needs to run for it to hold.
	all := int(after.TotalAlloc - before.TotalAlloc)
	t.Logf("%d octets, %d entries: %d octets of memory in all, %v", size, c.Entries(), all, took)
	if c.Entries() != entries || all > size+1<<20 {
		t.Errorf("%d entries, %d octets of memory for a list of %d", c.Entries(), all, size)
	}
}

type bigInt = big.Int

// BenchmarkFind is one look-up in a list of a hundred thousand.
func BenchmarkFind(b *testing.B) {
	list := bigList{testpki.New(b).Root("Root").Pair, 100_000}
	var buf bytes.Buffer
	list.writeTo(b, &buf)
	b.Run("read", func(b *testing.B) {
		b.SetBytes(int64(buf.Len()))
		for b.Loop() {
			if _, err := revocation.ReadCRL(bytes.NewReader(buf.Bytes())); err != nil {
				b.Fatal(err)
			}
		}
	})
	c := read(b, buf.Bytes())
	serials := make([]*big.Int, 1024)
	for i := range serials {
		serials[i] = new(big.Int).SetBytes(list.serial(i * 97))
	}
	b.Run("find", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, found := c.Find(serials[i%len(serials)]); !found {
				b.Fatal("missing")
			}
		}
	})
}

// FuzzCRL: no octets make the reader panic, and what it reads the standard library reads too or has a reason of its own.
func FuzzCRL(f *testing.F) {
	ca := testpki.New(f).Root("Root")
	f.Add(makeList(f, ca.Pair, listOptions{}))
	f.Add(makeList(f, ca.Pair, listOptions{revoked: []int64{1, 200, 70000}, reason: 1}))
	f.Add(makeList(f, ca.Pair, listOptions{extensions: []pkix.Extension{idp(true, pointURL("http://a.example/"), tagged(0x81, 0xff))}}))
	f.Add([]byte("-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := revocation.ReadCRL(bytes.NewReader(data))
		if err != nil {
			return
		}
		_ = c.Issued(ca.Cert)
		_, _ = c.Covers(ca.Cert)
		std, err := x509.ParseRevocationList(data)
		if err != nil {
			return
		}
		if c.Entries() != len(std.RevokedCertificateEntries) {
			t.Errorf("%d entries, the standard library has %d", c.Entries(), len(std.RevokedCertificateEntries))
		}
		for _, e := range std.RevokedCertificateEntries {
			if _, found := c.Find(e.SerialNumber); !found {
				t.Errorf("%v is missing", e.SerialNumber)
			}
		}
	})
}

// Example of a list that is judged by hand.
func ExampleReadCRL() {
	_, err := revocation.ReadCRL(strings.NewReader("<html>"))
	fmt.Println(err)
	// Output: revocation list: CertificateList: tag 0x3c where 0x30 must stand
}
