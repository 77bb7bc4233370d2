package ldapserver_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"directnode/ldapserver/dit"
	"directnode/store"
)

// startSlapd loads OpenLDAP's server with the LDIF export of every domain, and
// runs it on loopback until the test ends. Each domain is a database of its own;
// one whose name lies below another's is glued to that.
func startSlapd(t *testing.T, v view) string {
	t.Helper()
	program := slapd(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "slapd.conf")
	var text strings.Builder
	for _, schema := range []string{"core", "cosine", "inetorgperson"} {
		fmt.Fprintf(&text, "include /etc/ldap/schema/%s.schema\n", schema)
	}
	// Its memory map is as large as the file may become: small, and not cleared.
	fmt.Fprintf(&text, "modulepath /usr/lib/ldap\nmoduleload back_mdb\npidfile %s/pid\nargsfile %s/args\nsizelimit unlimited\ntimelimit unlimited\nthreads 2\n", dir, dir)
	suffixes := map[*store.DomainData]string{}
	for _, d := range v {
		suffixes[d] = "dc=" + strings.ReplaceAll(d.Domain.String(), ".", ",dc=")
	}
	// A database is named before the one that it is glued to.
	inner := slices.Clone(v)
	slices.SortFunc(inner, func(a, b *store.DomainData) int { return len(suffixes[b]) - len(suffixes[a]) })
	for i, d := range inner {
		folder := filepath.Join(dir, fmt.Sprint("db", i))
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "database mdb\nsuffix %q\ndirectory %s\nmaxsize 67108864\nenvflags nosync\nindex mail eq\n", suffixes[d], folder)
		for _, above := range v {
			if strings.HasSuffix(suffixes[d], ","+suffixes[above]) {
				text.WriteString("subordinate\n")
				break
			}
		}
	}
	if err := os.WriteFile(config, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	// slapadd refuses an entry whose parent is in no database.
	outer := slices.Clone(inner)
	slices.Reverse(outer)
	for _, d := range outer {
		var ldif bytes.Buffer
		if err := dit.WriteLDIF(&ldif, v, d.Domain, dit.LDIFPlain); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), program, "-T", "add", "-q", "-f", config, "-b", suffixes[d])
		cmd.Stdin = &ldif
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("slapadd %s: %v\n%s", d.Domain, err, out)
		}
	}
	return runSlapd(t, program, config)
}

// slapd finds the program, which stands outside of a user's search path.
func slapd(t *testing.T) string {
	t.Helper()
	for _, folder := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/lib/openldap", "/usr/libexec") {
		path := filepath.Join(folder, "slapd")
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			return path
		}
	}
	absent(t, "slapd")
	return ""
}

func runSlapd(t *testing.T, program, config string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	var log bytes.Buffer
	cmd := exec.Command(program, "-f", config, "-h", "ldap://"+addr, "-d", "0")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-done
		}
	})
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return addr
		}
		select {
		case err := <-done:
			done <- err
			t.Fatalf("slapd ended: %v\n%s", err, log.String())
		default:
		}
	}
	t.Fatalf("slapd does not serve\n%s", log.String())
	return ""
}
