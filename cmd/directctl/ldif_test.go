package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"directnode/internal/admin"
)

// TestOnlyFilesInsideOfTheFolderAreRead, whatever a URL looks like.
func TestOnlyFilesInsideOfTheFolderAreRead(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "in")
	for path, content := range map[string][]byte{
		"in/a.der": []byte("DER"), "in/sub/b.der": []byte("DER"), "in/sp ace;x.der": []byte("DER"), "in/large": bytes.Repeat([]byte{'x'}, maxValueFile+1), "in/just": bytes.Repeat([]byte{'x'}, maxValueFile),
		"out.der": []byte("SECRET"), "inside/out.der": []byte("SECRET"),
	} {
		if err := os.MkdirAll(filepath.Join(top, filepath.Dir(path)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(top, path), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"in/good": "a.der", "in/bad": "../out.der", "in/absolute": filepath.Join(top, "out.der"), "in/up": "..", "in/loop": "loop", "alias": "in"} {
		if err := os.Symlink(target, filepath.Join(top, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	const outside, escapes = "lies outside of the folder", "path escapes from parent"
	for url, want := range map[string]string{
		"file://" + dir + "/a.der": "DER", "file://localhost" + dir + "/a.der": "DER", "FILE://" + dir + "/sub/../a.der": "DER", "file:" + dir + "/sub/b.der": "DER",
		"file:a.der": "DER", "file:sub/b.der": "DER", "file:./sub/../a.der": "DER", "file:good": "DER", "file:sp%20ace%3bx.der": "DER", "file:sp%20ace;x.der": "DER", "file:just": strings.Repeat("x", maxValueFile),
		"file://" + top + "/alias/a.der": "!" + outside, // another way to the folder, which was not given
		"file:///etc/passwd":             "!" + outside,
		"file://" + top + "/out.der":     "!" + outside, "file://" + top + "/inside/out.der": "!" + outside, "file:../out.der": "!" + outside, "file:sub/../../out.der": "!" + outside,
		"file://" + dir + "/../out.der": "!" + outside, "file:%2e%2e/out.der": "!" + outside, "file:..%2fout.der": "!" + outside, "file:": "!" + outside,
		"file:bad": "!" + escapes, "file:absolute": "!" + escapes, "file:up/out.der": "!" + escapes,
		"file:loop": "!too many levels", "file:none.der": "!no such file", "file:sub": "!is no regular file", "file:pipe": "!is no regular file", "file:large": "!has more than 65536",
		"file://server/share/a.der": `!the file is on the host "server"`, "http://localhost/a.der": `!URLs of "http"`, "ldap:///dc=x": `!URLs of "ldap"`, "ftp://x/a": `!URLs of "ftp"`,
		"a.der": `!URLs of ""`, "/etc/passwd": `!URLs of ""`, "": `!URLs of ""`, "file:a.der?x": "!a file URL has no query", "file:a.der#x": "!a file URL has no query", "%": "!is no URL", "file:%zz": "!is no URL",
	} {
		f, err := openFolder(dir)
		if err != nil {
			t.Fatal(err)
		}
		data, err := f.fetch(url)
		got := string(data)
		if err != nil {
			got = "!" + err.Error()
		}
		if got != want && (!strings.HasPrefix(want, "!") || !strings.HasPrefix(got, want)) {
			t.Errorf("%s: %.100q, want %.100q", url, got, want)
		}
		_ = f.root.Close()
	}
	// By a link to the folder, its own path counts too.
	f, err := openFolder(filepath.Join(top, "alias"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.root.Close()
	for _, path := range []string{dir, filepath.Join(top, "alias")} {
		if data, err := f.fetch("file://" + path + "/a.der"); err != nil || string(data) != "DER" {
			t.Errorf("%s by a link: %q, %v", path, data, err)
		}
	}
}

func TestAnLDIFFileIsSentWithItsValues(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.ldif")
	text := "dn: cn=x\nmail: x@x.test\nuserCertificate:< file:x.der\njpegPhoto:< file:///etc/passwd\n"
	for name, content := range map[string]string{path: text, filepath.Join(dir, "x.der"): "DER"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	u, err := uploadLDIF(path)
	if err != nil || u.Size != -1 || u.About != int64(len(text)) || u.Name != path {
		t.Fatalf("%+v, %v", u, err)
	}
	read := func() (string, error) {
		r, err := u.Open()
		if err != nil {
			return "", err
		}
		data, err := io.ReadAll(r)
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		return string(data), err
	}
	want := strings.Replace(text, ":< file:x.der", ":: "+base64.StdEncoding.EncodeToString([]byte("DER")), 1)
	if got, err := read(); err != nil || got != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	if err := os.Remove(filepath.Join(dir, "x.der")); err != nil {
		t.Fatal(err)
	}
	_, err = read()
	e, ok := err.(*admin.Error)
	if !ok || e.ID != "DN-LDIF-003" || e.Code != admin.CodeFailed || e.Why != fmt.Sprintf("%s:3: userCertificate:< file:x.der: no such file or directory", path) || e.Do == "" {
		t.Errorf("a file that went away: %v", err)
	}
	if _, err := uploadLDIF(dir); err == nil {
		t.Error("a folder: no error")
	}
}
