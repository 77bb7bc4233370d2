package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"directnode/internal/direct"
	"directnode/internal/testnode"
)

type directAddress = direct.Address

func mustAddress(t *testing.T, s string) direct.Address {
	t.Helper()
	a, err := direct.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestAFaultyConfigurationIsOneLine starts the daemon with what it cannot use:
// one line with file, line, what and what to do; exit code 30.
func TestAFaultyConfigurationIsOneLine(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":  {"[dns]\nlisten = []\nudp_crt = \"never\"\n", ":4: dns.udp_crt: unknown key; did you mean dns.udp_cert?"},
		"port in use":  {fmt.Sprintf("[ldap]\nlisten = [%q]\n[dns]\nlisten = []\n[smtp]\nlisten = []\nsubmission = []\n", busy.Addr()), ":3: ldap.listen: " + busy.Addr().String() + " is in use"},
		"missing key":  {"[tls]\ncert_file = \"c.pem\"\nkey_file = \"k.pem\"\n", "cannot be read"},
		"missing seal": {"[keys]\nmaster_key_file = \"gone.key\"\n", ":3: keys.master_key_file: "},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "directd.toml")
			if err := os.WriteFile(path, []byte("data_dir = \"state\"\n"+c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(testnode.Program(t, "directd"), "--config", path)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			_ = cmd.Run()
			if code := cmd.ProcessState.ExitCode(); code != exitConfig {
				t.Errorf("exit code %d", code)
			}
			line := stderr.String()
			if !strings.HasPrefix(line, "directd: "+path+":") || !strings.Contains(line, c.want) || strings.Count(line, "\n") != 1 {
				t.Errorf("said %q, want %q", line, c.want)
			}
		})
	}
}
