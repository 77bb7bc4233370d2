package config_test

import (
	"bytes"
	"strings"
	"testing"

	"directnode/internal/config"
)

func TestWhatIsPrintedIsReadBack(t *testing.T) {
	var first, second bytes.Buffer
	if err := config.Print(&first, config.Default()); err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse("/etc/directd.toml", first.Bytes())
	if err != nil {
		t.Fatalf("%v\n%s", err, first.String())
	}
	if err := config.Print(&second, c); err != nil {
		t.Fatal(err)
	}
	if first.String() != second.String() {
		t.Errorf("printed\n%s\nread back\n%s", first.String(), second.String())
	}
	for _, key := range []string{"udp_cert", "anonymous", "socket", "submission", "profile", "mailbox"} {
		if !strings.Contains(first.String(), key) {
			t.Errorf("%s is not printed", key)
		}
	}
}

func TestErrorsNameFileLineAndRemedy(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":        {"data_dir = \"x\"\n[dns]\nlisten = []\nudp_crt = \"never\"\n", "f.toml:4: dns.udp_crt: unknown key; did you mean dns.udp_cert?"},
		"unknown table":      {"\n[smpt]\nlisten = []\n", "f.toml:2: smpt: unknown key; did you mean smtp?"},
		"strange key":        {"zzzzzzzzzzzzzzzzzzzzzz = 1\n", "f.toml:1: zzzzzzzzzzzzzzzzzzzzzz: unknown key; remove it"},
		"syntax":             {"data_dir = \n", "f.toml:1: "},
		"wrong type":         {"[delivery]\nport = \"x\"\n", "f.toml:2: "},
		"bad duration":       {"[resolver]\n\ntimeout = \"5 apples\"\n", "f.toml:3: "},
		"bad address":        {"[dns]\nlisten = [\"localhost\"]\n", "f.toml:2: dns.listen: \"localhost\" is no HOST:PORT"},
		"host name":          {"[dns]\nlisten = [\"localhost:53\"]\n", "f.toml:2: dns.listen: \"localhost:53\": \"localhost\" is no IP address"},
		"bad choice":         {"[policy]\nprofile = \"as-2\"\n", "f.toml:2: policy.profile: \"as-2\"; write one of as-1.2, as-1.3"},
		"bad network":        {"[limits]\nexempt = [\"10/8\"]\n", "f.toml:2: limits.exempt: \"10/8\" is no network"},
		"second stub":        {"[[resolver.stub]]\ndomain = \"a.example\"\nservers = [\"127.0.0.1:53\"]\n[[resolver.stub]]\ndomain = \"b.example\"\nservers = []\n", "f.toml:6: resolver.stub[1].servers: no server"},
		"missing key file":   {"[tls]\ncert_file = \"/nonexistent/c.pem\"\nkey_file = \"/nonexistent/k.pem\"\n", "f.toml:"},
		"half of tls":        {"[tls]\ncert_file = \"/nonexistent/c.pem\"\n", "f.toml:1: tls: cert_file and key_file belong together"},
		"missing master key": {"[keys]\nmaster_key_file = \"/nonexistent/k\"\n", "f.toml:2: keys.master_key_file: /nonexistent/k cannot be read"},
		"mailbox":            {"[delivery]\nmailbox = \"lmtp:127.0.0.1:24\"\n", "f.toml:2: delivery.mailbox: \"lmtp:127.0.0.1:24\"; this version delivers to maildir:DIR"},
		"hostname":           {"[node]\nhostname = \"x\"\n", "f.toml:2: node.hostname: "},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Parse("f.toml", []byte(c.text))
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Fatalf("error = %v\nwant prefix %s", err, c.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %v", err)
			}
		})
	}
}

func TestPathsAreRelativeToTheDataFolder(t *testing.T) {
	c, err := config.Parse("/etc/direct/f.toml", []byte("data_dir = \"state\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Path(c.Admin.Socket); got != "/etc/direct/state/admin.sock" {
		t.Errorf("socket = %s", got)
	}
}
