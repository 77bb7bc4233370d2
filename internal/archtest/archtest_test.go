package archtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// theLaw is the import law. DO NOT CHANGE IT TO FIX A BUILD: an arrow that is
// not here would tie two rooms together that are understood apart. A change
// needs a decision in docs/adr.
const theLaw = `
std
< internal/direct, internal/ber, internal/durable
< internal/ldif, internal/cms, internal/mail, internal/config, internal/keytag, store/kv
< resolver/trust, resolver/fetch, store, store/kv/bolt, store/kv/memory
< resolver/revocation
< resolver, sta/smime, sta/report, sta/smtpserver, sta/smtpclient, sta/maildir, zones, ldapserver/dit, internal/probe
< sta, sta/queue, sta/track, internal/admin
< dnsserver, ldapserver, cmd/directctl
< cmd/directd

# The servers answer from what was built for them; only builders read the store.
never dnsserver -> store
never ldapserver -> store
# Discovery is about other people's certificates and works without a node.
never resolver -> store, zones, dnsserver, ldapserver
# The agent knows its neighbors through small interfaces of its own.
never sta -> resolver, store, sta/queue, sta/smtpserver, sta/smtpclient
# The tool asks the daemon and never opens its files or serves in its place.
never cmd/directctl -> store, store/kv, store/kv/bolt, store/kv/memory, sta, sta/queue, sta/track, sta/maildir, sta/smtpserver, zones, ldapserver/dit, dnsserver, ldapserver
# Commands are the top.
never * -> cmd/directd, cmd/directctl

only github.com/miekg/dns: zones, dnsserver, resolver, internal/probe
only github.com/go-ldap/ldap/v3: resolver, internal/probe
only go.etcd.io/bbolt: store/kv/bolt, sta/queue
only github.com/emersion/go-smtp: sta/smtpserver
only golang.org/x/crypto/ocsp: resolver/revocation
only golang.org/x/net: dnsserver
only golang.org/x/sync: cmd/directd
only golang.org/x/sys: dnsserver, ldapserver
only software.sslmate.com/src/go-pkcs12: internal/admin
only github.com/pelletier/go-toml/v2: internal/config
only github.com/spf13/cobra: cmd/directd, cmd/directctl
only github.com/coreos/go-systemd/v22: cmd/directd
only github.com/prometheus/client_golang: cmd/directd

tests internal/testpki, internal/testnode, internal/archtest, internal/spec, internal/spec/conformance, store/kv/kvtest
`

func TestImportLawHolds(t *testing.T) {
	law, err := ParseLaw("directnode", theLaw)
	if err != nil {
		t.Fatal(err)
	}
	files, err := Load("../..")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("only %d files found", len(files))
	}
	for _, v := range law.Check(files) {
		t.Error(v)
	}
}

func TestForbiddenArrowsAreReported(t *testing.T) {
	const text = `
std   # the library
< low, alone
< mid, side
< top

never top -> low
never * -> cmd
only example.org/codec: mid
tests helper
`
	law, err := ParseLaw("m", text)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		file File
		want string // part of the violation; "" is none
	}{
		{"downwards", File{Package: "mid", Imports: []string{"fmt", "m/low", "m/alone"}}, ""},
		{"two levels down", File{Package: "top", Imports: []string{"m/alone"}}, ""},
		{"standard library with a slash", File{Package: "low", Imports: []string{"net/http"}}, ""},
		{"upwards", File{Package: "low", Imports: []string{"m/mid"}}, "mid is not below low"},
		{"sideways", File{Package: "mid", Imports: []string{"m/side"}}, "side is not below mid"},
		{"never", File{Package: "top", Imports: []string{"m/low"}}, "never top -> low"},
		{"never, in a test", File{Package: "top", Test: true, Imports: []string{"m/low"}}, ""},
		{"command", File{Package: "top", Imports: []string{"m/cmd"}}, "never * -> cmd"},
		{"command, in a test", File{Package: "top", Test: true, Imports: []string{"m/cmd"}}, "never * -> cmd"},
		{"command, in a helper", File{Package: "helper", Imports: []string{"m/cmd"}}, "never * -> cmd"},
		{"helper", File{Package: "top", Imports: []string{"m/helper"}}, "package for tests"},
		{"helper, in a test", File{Package: "low", Test: true, Imports: []string{"m/helper", "m/top"}}, ""},
		{"a helper looks up", File{Package: "helper", Imports: []string{"m/top"}}, ""},
		{"module allowed", File{Package: "mid", Imports: []string{"example.org/codec", "example.org/codec/sub"}}, ""},
		{"module elsewhere", File{Package: "top", Imports: []string{"example.org/codec/sub"}}, "only example.org/codec: mid"},
		{"module with a longer name", File{Package: "mid", Imports: []string{"example.org/codec2"}}, "does not know this module"},
		{"module in a test", File{Package: "low", Test: true, Imports: []string{"example.org/peer"}}, ""},
		{"package of no level", File{Package: "new"}, "does not know package new"},
		{"import of no level", File{Package: "top", Imports: []string{"m/new"}}, "does not know package new"},
	} {
		tc.file.Name = tc.file.Package + "/x.go"
		got := law.Check([]File{tc.file})
		switch {
		case tc.want == "" && len(got) > 0:
			t.Errorf("%s: %v", tc.name, got)
		case tc.want != "" && (len(got) != 1 || !strings.Contains(got[0].String(), tc.want) || !strings.HasPrefix(got[0].String(), tc.file.Name)):
			t.Errorf("%s: got %v, want %q", tc.name, got, tc.want)
		}
	}
}

func TestBadLawsAreRefused(t *testing.T) {
	for _, text := range []string{"< low", "std\nlow", "std\n< a\n< a", "std\nnever a b", "std\nonly x"} {
		if _, err := ParseLaw("m", text); err == nil || !strings.Contains(err.Error(), "law line") {
			t.Errorf("%q: error %v", text, err)
		}
	}
}

func TestLoadReadsWhatTheGoCommandWould(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a/a.go":            "package a\nimport (\n\t\"fmt\"\n\tx \"m/b\"\n)\nfunc f() { syntax error",
		"a/a_test.go":       "package a\nimport \"testing\"",
		"a/testdata/t.go":   "package t\nimport \"m/hidden\"",
		".hidden/h.go":      "package h\nimport \"m/hidden\"",
		"_old/o.go":         "package o\nimport \"m/hidden\"",
		"nested/go.mod":     "module other",
		"nested/n.go":       "package n\nimport \"m/hidden\"",
		"a/notes.txt":       "import \"m/hidden\"",
		"nested/deep/in.go": "package deep\nimport \"m/hidden\"",
	} {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, err := Load(dir)
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v", files, err)
	}
	if f := files[0]; f.Package != "a" || f.Test || strings.Join(f.Imports, " ") != "fmt m/b" {
		t.Errorf("%+v", f)
	}
	if f := files[1]; !f.Test || strings.Join(f.Imports, " ") != "testing" {
		t.Errorf("%+v", f)
	}
}
