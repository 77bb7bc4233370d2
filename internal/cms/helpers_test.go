package cms_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"directnode/internal/cms"
	"directnode/internal/testpki"
)

// entity is a MIME entity as it would be signed.
var entity = []byte("Content-Type: text/plain\r\n\r\nHello, Direct world.\r\n")

var signedAt = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// people is the world of most tests: two RSA leaves under one authority and one ECDSA leaf.
type people struct {
	ca                *testpki.CA
	alice, bob, carol testpki.Pair
}

func newPeople(t testing.TB) people {
	t.Helper()
	ca := testpki.New(t).Root("CMS Test Root")
	return people{
		ca:    ca,
		alice: ca.Leaf("alice", testpki.Address("alice@direct.test")),
		bob:   ca.Leaf("bob", testpki.Address("bob@direct.test")),
		carol: ca.Leaf("carol", testpki.Address("carol@direct.test"), testpki.WithKey(testpki.P256())),
	}
}

func signer(p testpki.Pair, extra ...*x509.Certificate) cms.Signer {
	return cms.Signer{Certificate: p.Cert, Key: p.Key, Extra: extra}
}

func decrypter(p testpki.Pair) cms.Decrypter {
	return cms.Decrypter{Certificate: p.Cert, Key: p.Key.(crypto.Decrypter)}
}

func sign(t testing.TB, content []byte, o cms.SignOptions, signers ...cms.Signer) []byte {
	t.Helper()
	der, err := cms.SignDetached(bytes.NewReader(content), signers, o)
	if err != nil {
		t.Fatalf("SignDetached: %v", err)
	}
	return der
}

func parseSigned(t testing.TB, der []byte) *cms.SignedData {
	t.Helper()
	s, err := cms.ParseSignedData(der, cms.Limits{})
	if err != nil {
		t.Fatalf("ParseSignedData: %v", err)
	}
	return s
}

// verify gives the results over content.
func verify(t testing.TB, der, content []byte, p cms.VerifyPolicy) []cms.SignerResult {
	t.Helper()
	results, err := parseSigned(t, der).Verify(bytes.NewReader(content), p)
	if err != nil {
		t.Fatalf("Verify: %v", err)
	}
	return results
}

// verifyOne gives the error of the only signer.
func verifyOne(t testing.TB, der, content []byte, p cms.VerifyPolicy) cms.SignerResult {
	t.Helper()
	results := verify(t, der, content, p)
	if len(results) != 1 {
		t.Fatalf("%d results for one signer", len(results))
	}
	return results[0]
}

func encrypt(t testing.TB, content []byte, c cms.Cipher, to ...cms.Recipient) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := cms.Encrypt(&out, bytes.NewReader(content), to, c); err != nil {
		t.Fatalf("Encrypt: %v", err)
	}
	return out.Bytes()
}

func parseEnveloped(t testing.TB, der []byte) *cms.EnvelopedData {
	t.Helper()
	e, err := cms.ParseEnvelopedData(der, cms.Limits{})
	if err != nil {
		t.Fatalf("ParseEnvelopedData: %v", err)
	}
	return e
}

// decrypt gives the content; it checks that an error leaves nothing behind and is the one value.
func decrypt(t testing.TB, der []byte, keys ...cms.Decrypter) ([]byte, error) {
	t.Helper()
	var out bytes.Buffer
	err := parseEnveloped(t, der).Decrypt(&out, keys)
	if err != nil && (err != cms.ErrDecrypt || out.Len() != 0) {
		t.Fatalf("Decrypt gave %v and wrote %d octets; only ErrDecrypt and nothing may come", err, out.Len())
	}
	return out.Bytes(), err
}

// reason gives what the operator is told about a failed decryption.
func reason(t testing.TB, der []byte, keys ...cms.Decrypter) string {
	t.Helper()
	var told []string
	var out bytes.Buffer
	err := parseEnveloped(t, der).DecryptDiagnosed(&out, keys, func(r string) { told = append(told, r) })
	if err != cms.ErrDecrypt || len(told) != 1 || out.Len() != 0 {
		t.Fatalf("DecryptDiagnosed gave %v, wrote %d octets, told %q", err, out.Len(), told)
	}
	return told[0]
}

func wantErr(t testing.TB, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("error is %v, must be %v", got, want)
	}
}

// fixture reads a file that OpenSSL made, or with "../gpgsm/" another peer: see testdata/README.
func fixture(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "openssl", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func fixturePair(t testing.TB, name string) testpki.Pair {
	t.Helper()
	block, _ := pem.Decode(fixture(t, name+".crt"))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	block, _ = pem.Decode(fixture(t, name+".key"))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return testpki.Pair{Cert: cert, DER: cert.Raw, Key: key.(crypto.Signer)}
}

// openssl runs the peer in a folder of its own.
type openssl struct {
	t   testing.TB
	dir string
}

func newOpenSSL(t testing.TB) openssl {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("SKIP peer openssl absent")
	}
	return openssl{t, t.TempDir()}
}

func (o openssl) path(name string) string { return filepath.Join(o.dir, name) }

func (o openssl) write(name string, b []byte) string {
	o.t.Helper()
	if err := os.WriteFile(o.path(name), b, 0o600); err != nil {
		o.t.Fatal(err)
	}
	return o.path(name)
}

func (o openssl) read(name string) []byte {
	o.t.Helper()
	b, err := os.ReadFile(o.path(name))
	if err != nil {
		o.t.Fatal(err)
	}
	return b
}

// pair writes NAME.crt and NAME.key.
func (o openssl) pair(name string, p testpki.Pair) {
	o.t.Helper()
	p.WriteCert(o.t, o.path(name+".crt"))
	p.WriteKey(o.t, o.path(name+".key"))
}

// cms runs "openssl cms" with these arguments in the folder.
func (o openssl) cms(args ...string) error {
	cmd := exec.Command("openssl", append([]string{"cms"}, args...)...)
	cmd.Dir = o.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		o.t.Logf("openssl cms %q: %v\n%s", args, err, out)
	}
	return err
}

func (o openssl) mustCMS(args ...string) {
	o.t.Helper()
	if err := o.cms(args...); err != nil {
		o.t.Fatalf("openssl cms %q: %v", args, err)
	}
}

func certificates(pairs ...testpki.Pair) (out []*x509.Certificate) {
	for _, p := range pairs {
		out = append(out, p.Cert)
	}
	return out
}
