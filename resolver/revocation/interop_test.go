package revocation_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"directnode/internal/testnode"
	"directnode/internal/testpki"
	"directnode/resolver/trust"
)

// TestInteropOpenSSLResponder asks `openssl ocsp`, which echoes nonces, as the issuer itself and as a responder of the issuer's.
func TestInteropOpenSSLResponder(t *testing.T) {
	openssl := testnode.Peer(t, "openssl")
	for name, delegated := range map[string]bool{"the issuer": false, "a responder": true} {
		t.Run(name, func(t *testing.T) {
			root := testpki.New(t).Root("Root")
			signer := root.Pair
			if delegated {
				signer = root.Leaf("responder", testpki.ExtKeyUsage(x509.ExtKeyUsageOCSPSigning))
			}
			url := startResponder(t, openssl, root, signer, "V\t440101000000Z\t\t64\tunknown\t/CN=good\nR\t440101000000Z\t260101000000Z,keyCompromise\t65\tunknown\t/CN=revoked\n")
			good := root.Leaf("good", testpki.Serial(0x64), testpki.OCSP(url))
			revoked := root.Leaf("revoked", testpki.Serial(0x65), testpki.OCSP(url))
			unknown := root.Leaf("unknown", testpki.Serial(0x66), testpki.OCSP(url))
			s := service(t, door(), t.TempDir())
			at := time.Now()
			status(t, s, good, root, at, trust.StatusGood)
			if r := status(t, s, revoked, root, at, trust.StatusRevoked); r.Reason != "keyCompromise" || r.RevokedAt.Year() != 2026 {
				t.Errorf("%+v", r)
			}
			status(t, s, unknown, root, at, trust.StatusUndetermined)
			if r := s.Status(context.Background(), good.Cert, root.Cert, at); !r.Cached {
				t.Errorf("asked again: %+v", r)
			}
		})
	}
}

// startResponder runs openssl on a port that it picks itself, and gives its URL. It must not be probed by a connection that is closed again:
// it waits for a question on that one for ever.
func startResponder(t *testing.T, openssl string, ca *testpki.CA, signer testpki.Pair, index string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "index.txt")
	if err := os.WriteFile(file, []byte(index), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(openssl, "ocsp", "-port", "0", "-index", file, "-CA", ca.WriteCert(t, filepath.Join(dir, "ca.pem")),
		"-rsigner", signer.WriteCert(t, filepath.Join(dir, "signer.pem")), "-rkey", signer.WriteKey(t, filepath.Join(dir, "signer.key")), "-ndays", "1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n') // ACCEPT [::]:39871 PID=1
	fields := strings.Fields(line)
	if err != nil || len(fields) < 2 || fields[0] != "ACCEPT" {
		t.Fatalf("openssl says %q, %v", line, err)
	}
	return "http://127.0.0.1" + fields[1][strings.LastIndex(fields[1], ":"):] + "/"
}

// TestInteropOpenSSLList reads a list that openssl has made.
func TestInteropOpenSSLList(t *testing.T) {
	openssl := testnode.Peer(t, "openssl")
	dir := t.TempDir()
	root := testpki.New(t).Root("Root")
	root.WriteCert(t, filepath.Join(dir, "ca.pem"))
	root.WriteKey(t, filepath.Join(dir, "ca.key"))
	config := "[ca]\ndefault_ca=x\n[x]\ndatabase=index.txt\ncrlnumber=number\ndefault_md=sha256\ndefault_crl_days=30\ncrl_extensions=e\n[e]\nauthorityKeyIdentifier=keyid\n"
	for name, text := range map[string]string{"index.txt": "R\t440101000000Z\t260101000000Z,superseded\t04D2\tunknown\t/CN=x\n", "number": "2A\n", "c.cnf": config} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(openssl, "ca", "-config", "c.cnf", "-gencrl", "-cert", "ca.pem", "-keyfile", "ca.key", "-out", "list.pem")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	body, err := os.ReadFile(filepath.Join(dir, "list.pem"))
	if err != nil {
		t.Fatal(err)
	}
	c := read(t, body)
	e, found := c.Find(testpki.New(t).Root("r", testpki.Serial(0x4d2)).Cert.SerialNumber)
	if err := c.Issued(root.Cert); err != nil || !found || e.Reason != 4 || c.Number.Int64() != 42 || c.Current(time.Now()) != nil {
		t.Errorf("%v, %v %+v, number %v", err, found, e, c.Number)
	}
}
