package config_test

import (
	"bytes"
	"os"
	"path/filepath"
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
		"form without URL":   {"[dns]\ncert_form = \"ipkix\"\n", "f.toml:1: http.url: empty; dns.cert_form = \"ipkix\" needs the URL"},
		"no form":            {"[dns]\ncert_form = \"url\"\n", "f.toml:2: dns.cert_form: \"url\"; write one of pkix, ipkix, both"},
		"URL of nothing":     {"[http]\nurl = \"certs.example.org\"\n", "f.toml:2: http.url: \"certs.example.org\" is no URL of a host"},
		"URL of a file":      {"[http]\nurl = \"file:///etc/\"\n", "f.toml:2: http.url: \"file:///etc/\" is no URL of a host"},
		"URL with a query":   {"[http]\nurl = \"http://c.example.org/?x=1\"\n", "f.toml:2: http.url: \"http://c.example.org/?x=1\" has more than a host and a path"},
		"URL not in ASCII":   {"[http]\nurl = \"http://c.example.org/\u00e4/\"\n", "f.toml:2: http.url: "},
		"URL unserved":       {"[http]\nurl = \"http://c.example.org/\"\n", "f.toml:2: http.url: set, but http.listen is empty"},
		"tiny import":        {"[admin]\nmax_import_bytes = 5\n", "f.toml:2: admin.max_import_bytes: 5 lies outside of 1048576 to 2147483648"},
		"no rate":            {"[dns]\nrate = -1\n", "f.toml:2: dns.rate: -1 lies outside of 0 to 1000000"},
		"few connections":    {"[dns]\ntcp_connections = 1\n", "f.toml:2: dns.tcp_connections: 1 lies outside of 16 to 100000"},
		"query log":          {"[dns]\nquery_log = \"all\"\n", "f.toml:2: dns.query_log: \"all\"; write off, or 1/N"},
		"query log of none":  {"[dns]\nquery_log = \"1/0\"\n", "f.toml:2: dns.query_log: \"1/0\"; write off, or 1/N"},
		"names of no log":    {"[dns]\nquery_log_names = true\n", "f.toml:2: dns.query_log_names: set, but dns.query_log is off"},
		"missing secret":     {"[dns]\ncookie_secret_file = \"/nonexistent/c\"\n", "f.toml:2: dns.cookie_secret_file: open /nonexistent/c: no such file or directory; put the file there"},
		"log level":          {"[log]\nlevel = \"loud\"\n", "f.toml:2: log.level: \"loud\"; write one of debug, info, warn, error"},
		"no mode":            {"[policy]\nrevocation = \"hard\"\n", "f.toml:2: policy.revocation: \"hard\"; write one of strict, grace, soft"},
		"long grace":         {"[policy]\nrevocation_grace = \"9000h\"\n", "f.toml:2: policy.revocation_grace: 9000h0m0s lies outside of 0s to 720h0m0s"},
		"policy of nobody":   {"[[policy.domain]]\nrevocation = \"soft\"\n", "f.toml:1: policy.domain[0].domain: "},
		"policy of a domain": {"[[policy.domain]]\ndomain = \"a.example.org\"\nrevocation = \"none\"\n", "f.toml:3: policy.domain[0].revocation: \"none\"; write one of strict, grace, soft"},
		"no fetch port":      {"[resolver.fetch]\nports = [0]\n", "f.toml:2: resolver.fetch.ports: 0 is no port number"},
		"bad network":        {"[limits]\nexempt = [\"10/8\"]\n", "f.toml:2: limits.exempt: \"10/8\" is no network"},
		"second stub":        {"[[resolver.stub]]\ndomain = \"a.example\"\nservers = [\"127.0.0.1:53\"]\n[[resolver.stub]]\ndomain = \"b.example\"\nservers = []\n", "f.toml:6: resolver.stub[1].servers: no server"},
		"missing key file":   {"[tls]\ncert_file = \"/nonexistent/c.pem\"\nkey_file = \"/nonexistent/k.pem\"\n", "f.toml:"},
		"half of tls":        {"[tls]\ncert_file = \"/nonexistent/c.pem\"\n", "f.toml:1: tls: cert_file and key_file belong together"},
		"missing master key": {"[keys]\nmaster_key_file = \"/nonexistent/k\"\n", "f.toml:2: keys.master_key_file: /nonexistent/k cannot be read"},
		"mailbox":            {"[delivery]\nmailbox = \"lmtp:127.0.0.1:24\"\n", "f.toml:2: delivery.mailbox: \"lmtp:127.0.0.1:24\"; this version delivers to maildir:DIR"},
		"lifetime":           {"[delivery]\nlifetime = \"1h59m\"\n", "f.toml:2: delivery.lifetime: 1h59m0s is too short: inbound mail waits up to an hour"},
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

// TestEdges: files as operators write them.
func TestEdges(t *testing.T) {
	for name, text := range map[string]string{
		"empty":            "",
		"comments":         "# nothing\n\n   # but this\n",
		"byte order":       "# \u00e4\n[node]\nhostname = \"n.example.org\" # ours\n",
		"windows":          "[dns]\r\nlisten = [\r\n  \"127.0.0.1:53\",\r\n]\r\n",
		"IPv6":             "[dns]\nlisten = [\"[::1]:5300\", \"[::]:53\"]\n[ldap]\nlisten = []\n",
		"dotted keys":      "dns.listen = [\"127.0.0.1:53\"]\nnode.hostname = \"n.example.org\"\n",
		"inline table":     "node = { hostname = \"n.example.org\" }\n",
		"a credential":     "[keys]\nmaster_key_file = \"credential:master-key\"\n",
		"one address":      "[limits]\nexempt = [\"192.0.2.1\", \"2001:db8::/32\"]\n",
		"everything off":   "[dns]\nlisten = []\n[ldap]\nlisten = []\n[smtp]\nlisten = []\nsubmission = []\n",
		"by URL":           "[dns]\ncert_form = \"both\"\n[http]\nlisten = [\"127.0.0.1:8080\"]\nurl = \"http://certs.example.org\"\n",
		"listing":          "[ldap]\nanonymous = \"list\"\nlist_allow = [\"192.0.2.0/24\", \"2001:db8::1\"]\nrate = 1000\n",
		"query log":        "[dns]\nquery_log = \"1/1000\"\nquery_log_names = true\nrate = 0\n[log]\nlevel = \"warn\"\n",
		"archive and mail": "[delivery]\narchive = \"archive\"\nmailbox = \"maildir:/srv/mail\"\n",
	} {
		if _, err := config.Parse("f.toml", []byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]struct{ text, want string }{
		"key twice":           {"[dns]\nlisten = []\nlisten = []\n", "f.toml:3: "},
		"table twice":         {"[dns]\nlisten = []\n[ldap]\n[dns]\n", "f.toml:4: "},
		"text for an array":   {"[dns]\nlisten = \"127.0.0.1:53\"\n", "f.toml:2: "},
		"numbers in an array": {"[dns]\nlisten = [53]\n", "f.toml:2: "},
		"array for a text":    {"data_dir = [\"x\"]\n", "f.toml:1: "},
		"number for a time":   {"[resolver]\ntimeout = 5\n", "f.toml:2: "},
		"no port":             {"[dns]\nlisten = [\"::1\"]\n", "f.toml:2: dns.listen: \"::1\" is no HOST:PORT"},
		"no host":             {"[dns]\nlisten = [\":53\"]\n", "f.toml:2: dns.listen: \":53\" names no address; write 0.0.0.0:53 or [::]:53 for all"},
		"port too large":      {"[ldap]\nlisten = [\"127.0.0.1:65536\"]\n", "f.toml:2: ldap.listen: \"127.0.0.1:65536\": \"65536\" is no port number"},
		"listing for nobody":  {"[ldap]\nanonymous = \"list\"\n", "f.toml:1: ldap.list_allow: empty, so that nobody could list"},
		"listing for a name":  {"[ldap]\nlist_allow = [\"example.org\"]\n", "f.toml:2: ldap.list_allow: \"example.org\" is no network"},
		"no searches":         {"[ldap]\nrate = 0\n", "f.toml:2: ldap.rate: 0 lies outside of 1 to 1000000"},
		"no connections":      {"[ldap]\nconnections = 1\n", "f.toml:2: ldap.connections: 1 lies outside of 16 to 100000"},
		"no data folder":      {"data_dir = \"\"\n", "f.toml:1: data_dir: empty"},
		"no credential":       {"[keys]\nmaster_key_file = \"credential:\"\n", "f.toml:2: keys.master_key_file: credential: without a name"},
		"a credential's path": {"[keys]\nmaster_key_file = \"credential:../x\"\n", "f.toml:2: keys.master_key_file: "},
		"no retry":            {"[delivery]\nretry = []\n", "f.toml:2: delivery.retry: needs at least one wait"},
		"negative retry":      {"[delivery]\nretry = [\"1m\", \"-1m\"]\n", "f.toml:2: delivery.retry: "},
		"huge message":        {"[smtp]\nmax_message_bytes = 999999999999\n", "f.toml:2: smtp.max_message_bytes: "},
		"not text at all":     {"\x00\x01\x02", "f.toml:1: "},
		"bad UTF-8":           {"data_dir = \"\xff\"\n", "f.toml:1: "},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Parse("f.toml", []byte(c.text))
			if err == nil || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error = %v\nwant prefix %s on one line", err, c.want)
			}
		})
	}
}

func TestTheFirstErrorIsAlwaysTheSame(t *testing.T) {
	text := "[dns]\nlisten = [\"x\"]\n[ldap]\nlisten = [\"x\"]\n[smtp]\nlisten = [\"x\"]\nsubmission = [\"x\"]\n[resolver]\nservers = [\"x\"]\n"
	for range 50 {
		if _, err := config.Parse("f.toml", []byte(text)); err == nil || !strings.HasPrefix(err.Error(), "f.toml:2: dns.listen") {
			t.Fatal(err)
		}
	}
}

func TestFilesThatAreNoConfiguration(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large.toml")
	if err := os.WriteFile(large, bytes.Repeat([]byte("#\n"), 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{filepath.Join(dir, "none.toml"): "no such file", dir: "is a directory", large: "longer than"} {
		if _, err := config.Load(path); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestTheCookieSecretIsASecret: in octets or digits, and for nobody else.
func TestTheCookieSecretIsASecret(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"digits":     {"000102030405060708090a0b0c0d0e0f\n", 0o400, ""},
		"octets":     {"0123456789abcdef", 0o600, ""},
		"open":       {"000102030405060708090a0b0c0d0e0f\n", 0o640, "can be read by others (mode 0640)"},
		"short":      {"0001", 0o400, "holds neither 16 octets nor 32 hexadecimal digits"},
		"long":       {strings.Repeat("ab", 17), 0o400, "holds neither"},
		"no secret":  {strings.Repeat("0", 32), 0o400, "is all zero"},
		"no file":    {"", 0, "no such file"},
		"whole book": {strings.Repeat("x", 1<<20), 0o400, "holds neither"},
	} {
		path := filepath.Join(dir, name)
		if c.mode != 0 {
			if err := os.WriteFile(path, []byte(c.text), c.mode); err != nil {
				t.Fatal(err)
			}
		}
		cfg, err := config.Parse("f.toml", []byte("[dns]\ncookie_secret_file = \""+path+"\"\n"))
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v, want %s", name, err, c.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := cfg.CookieSecret(); err != nil || got == [16]byte{} {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
}
