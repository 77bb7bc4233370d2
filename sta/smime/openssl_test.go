package smime_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"directnode/internal/cms"
	"directnode/internal/mail"
	"directnode/internal/spec"
	"directnode/internal/testpki"
	"directnode/sta/smime"
)

// openssl runs the peer; a test without it is skipped loudly.
func openssl(t testing.TB, args ...string) []byte {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("SKIP peer openssl absent")
	}
	cmd := exec.Command(path, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl %q: %v\n%s", args, err, stderr.Bytes())
	}
	return out
}

// files writes what openssl reads and gives the paths.
func (w world) files(t testing.TB) map[string]string {
	t.Helper()
	dir := t.TempDir()
	paths := map[string]string{"root": filepath.Join(dir, "root.pem"), "tmp": filepath.Join(dir, "tmp")}
	save(t, paths["root"], w.root.CertPEM())
	for name, p := range map[string]testpki.Pair{"ann": w.ann, "bob": w.bob} {
		paths[name], paths[name+".key"] = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
		save(t, paths[name], p.CertPEM())
		save(t, paths[name+".key"], p.KeyPEM())
	}
	return paths
}

func save(t testing.TB, path string, b []byte) string {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func opensslSign(t testing.TB, p testpki.Pair, content []byte, digest string) []byte {
	t.Helper()
	dir := t.TempDir()
	return openssl(t, "cms", "-sign", "-binary", "-in", save(t, filepath.Join(dir, "in"), content), "-md", digest, "-outform", "DER",
		"-signer", save(t, filepath.Join(dir, "cert"), p.CertPEM()), "-inkey", save(t, filepath.Join(dir, "key"), p.KeyPEM()))
}

func TestOpensslReadsWhatWeSeal(t *testing.T) {
	spec.Covers(t, "AS-2.4-a", "AS-2.4-c", "AS-2.5.2-a", "AS-2.5.3-a")
	w := newWorld(t)
	f := w.files(t)
	for name, rest := range contents() {
		for _, o := range []smime.SealOptions{{}, {Cipher: cms.AES256CBC, Transport: cms.OAEPSHA256}, {Transport: cms.PKCS1v15}} {
			if o.Cipher != cms.AES128CBC && name != "8-bit" {
				continue // one content shows the algorithms, one algorithm the contents
			}
			msg := message(rest)
			save(t, f["tmp"], w.seal(t, msg, o))
			entity := openssl(t, "cms", "-decrypt", "-in", f["tmp"], "-recip", f["bob"], "-inkey", f["bob.key"])
			save(t, f["tmp"], entity)
			content := openssl(t, "cms", "-verify", "-in", f["tmp"], "-CAfile", f["root"])
			h, body, err := mail.Split(content)
			if err != nil {
				t.Fatal(err)
			}
			mediaType, _, err := h.ContentType()
			got, err2 := mail.DecodeBody(h, body)
			if err != nil || err2 != nil || mediaType != "message/rfc822" || !bytes.Equal(got, msg) {
				t.Errorf("%s (%s, %s): openssl gives %s %q, %v, %v", name, o.Cipher, o.Transport, mediaType, got, err, err2)
			}
		}
	}
}

func TestWeReadWhatOpensslSeals(t *testing.T) {
	spec.Covers(t, "AS-2.4-b", "AS-2.5.1-c", "AS-2.6-b", "AS-2.7-a", "AS-2.7-b")
	w := newWorld(t)
	f := w.files(t)
	inner := message("Subject: x\r\n\r\nGröße and trailing space \r\n")
	for form, nl := range map[string]string{"CRLF": "\r\n", "LF": "\n"} {
		part := bytes.ReplaceAll(append([]byte("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"), inner...), []byte("\r\n"), []byte(nl))
		save(t, f["tmp"], part)
		entity := openssl(t, "cms", "-sign", "-in", f["tmp"], "-signer", f["ann"], "-inkey", f["ann.key"], "-md", "sha256")
		for _, encrypt := range [][]string{
			{"-aes128", "-recip", f["bob"]},
			{"-aes256", "-recip", f["bob"], "-keyopt", "rsa_padding_mode:oaep"},
			{"-aes128", "-recip", f["bob"], "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256"},
			{"-aes192", "-keyid", "-recip", f["bob"], "-stream"},
			{"-aes128", "-binary", "-recip", f["bob"]},
		} {
			save(t, f["tmp"], entity)
			raw := openssl(t, append([]string{"cms", "-encrypt", "-in", f["tmp"], "-from", "ann@a.example", "-to", "bob@b.example", "-subject", "x"}, encrypt...)...)
			v, err := smime.Verify(w.open(t, raw), cms.VerifyPolicy{})
			if err != nil || !bytes.Equal(v.Message(), inner) || !v.Signers()[0].Certificate.Equal(w.ann.Cert) {
				t.Errorf("%s %q: %q, %v", form, encrypt, v.Message(), err)
			}
		}
	}
}
