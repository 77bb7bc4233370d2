//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"directnode/internal/admin"
	"directnode/internal/testnode"
	"directnode/internal/testpki"
)

// internetFiles are the zones of the root and of the zones above ours, and what
// the programs that judge us are told about them.
const internetFiles = "testdata/internet"

// internetAddresses are those of the servers of the root, of the zone above, and
// of the node. They lie beside the prefixes for documentation, which the judges
// would refuse as addresses that nobody can reach; they never leave the namespace.
var internetAddresses = []string{
	"192.0.3.1/32", "198.51.101.1/32", "2001:db9:1::1/128", "2001:db9:2::1/128", // the root
	"192.0.3.2/32", "203.0.114.1/32", "2001:db9:1::2/128", "2001:db9:3::1/128", // test. and arpa.
	"198.51.101.2/32", "203.0.114.2/32", "2001:db9:2::2/128", "2001:db9:3::2/128", // ours, by two names
}

// internet is a network namespace with a root and what leads from it to a node.
type internet struct {
	t      *testing.T
	dir    string // working files; the path is short enough for a socket
	keeper int    // process that keeps the namespace alive
	node   *admin.Client
}

// newInternet makes a namespace in which nothing runs yet. What runs in it is
// ended by its process id when the test ends, and the namespace ends with it.
func newInternet(t *testing.T) *internet {
	t.Helper()
	for _, name := range []string{"nsenter", "ip", "nsd", "dig", "ldns-signzone", "ldns-keygen", "ldns-key2ds"} {
		testnode.Peer(t, name)
	}
	if os.Geteuid() != 0 {
		t.Skip("SKIP network namespace: needs root")
	}
	dir, err := os.MkdirTemp("", "dn")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.CopyFS(dir, os.DirFS(internetFiles)); err != nil {
		t.Fatal(err)
	}
	keeper := exec.Command("sleep", "900") // should the test be killed, it ends by itself
	keeper.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := keeper.Start(); err != nil {
		if os.Getenv("DIRECTNODE_PEERS") == "required" {
			t.Fatalf("no network namespace although root: %v; give the container the right to make one", err)
		}
		t.Skipf("SKIP network namespace: %v", err)
	}
	w := &internet{t: t, dir: dir, keeper: keeper.Process.Pid}
	t.Cleanup(func() {
		_ = keeper.Process.Kill()
		_ = keeper.Wait()
	})
	w.run("ip", "link", "set", "lo", "up")
	for _, a := range internetAddresses {
		args := []string{"address", "add", a, "dev", "lo"}
		if strings.Contains(a, ":") {
			args = append(args, "nodad") // else it cannot be listened on for a moment
		}
		w.run("ip", args...)
	}
	return w
}

// command is a program inside the namespace. nsenter becomes the program, so that
// the process id is the program's.
func (w *internet) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{"--net=/proc/" + strconv.Itoa(w.keeper) + "/ns/net", "--", name}, args...)...)
	cmd.Dir = w.dir
	return cmd
}

// run runs a program inside the namespace to its end and gives what it wrote to
// standard output.
func (w *internet) run(name string, args ...string) []byte {
	w.t.Helper()
	cmd := w.command(name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.String())
	}
	return out
}

// start starts a server inside the namespace and ends it with the test.
func (w *internet) start(name string, args ...string) {
	w.t.Helper()
	cmd := w.command(name, args...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	w.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-done
		}
		if w.t.Failed() {
			w.t.Logf("%s:\n%s", name, log.String())
		}
	})
}

// publish starts the node and gives it a domain as `domain add` makes it with two
// servers, with certificates, and another as it makes it without being told
// of a second server. sign are the flags of `dnssec enable`; nil leaves the domain unsigned.
func (w *internet) publish(sign []string) {
	w.start(testnode.Program(w.t, "directd"), "--config", "directd.toml")
	w.node = admin.NewClient(filepath.Join(w.dir, "data", "admin.sock"))
	testnode.Eventually(w.t, "directd answers on its socket", func() bool {
		var s admin.Status
		return w.node.Do(w.t.Context(), "status", struct{}{}, &s) == nil
	})
	w.ctl("domain", "add", "direct.example.test", "--address", "198.51.101.2", "--address", "2001:db9:2::2", "--ns", "ns2.direct.example.test=203.0.114.2,2001:db9:3::2")
	w.ctl("domain", "add", "poor.example.test")
	ca := testpki.New(w.t).Root("Root")
	for i, leaf := range []testpki.Pair{
		ca.Leaf("bob", testpki.Address("bob@direct.example.test")),
		ca.Leaf("organization", testpki.Domain("direct.example.test")),
	} {
		file := filepath.Join(w.dir, fmt.Sprintf("%d.pem", i))
		w.write(file, string(leaf.CertPEM()))
		w.ctl("cert", "import", file)
	}
	if sign != nil {
		w.ctl(append([]string{"dnssec", "enable", "direct.example.test"}, sign...)...)
	}
}

// ctl gives an order to the node.
func (w *internet) ctl(args ...string) {
	w.t.Helper()
	cmd := exec.Command(testnode.Program(w.t, "directctl"), append([]string{"--config", filepath.Join(w.dir, "directd.toml")}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("directctl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// delegation is what `domain show` tells to hand over to the zone above.
func (w *internet) delegation(domain string) string {
	w.t.Helper()
	var d admin.Domain
	if err := w.node.Do(w.t.Context(), "domain.show", admin.DomainRequest{Domain: domain}, &d); err != nil {
		w.t.Fatal(err)
	}
	return strings.Join(d.Delegation, "\n") + "\n"
}

// delegate serves the root and the zones above ours, signed, with what the node
// says about its domains.
func (w *internet) delegate() {
	w.t.Helper()
	ds := w.sign("arpa", "arpa.", "")
	ds += w.sign("test", "test.", w.delegation("direct.example.test")+w.ds("direct.example.test")+w.delegation("poor.example.test"))
	w.sign("root", ".", ds)
	w.serve("root", []string{"."}, []string{"root"}, "192.0.3.1", "198.51.101.1", "2001:db9:1::1", "2001:db9:2::1")
	w.serve("above", []string{"test", "arpa"}, []string{"test", "arpa"}, "192.0.3.2", "203.0.114.1", "2001:db9:1::2", "2001:db9:3::1")
	testnode.Eventually(w.t, "the root and the zones above answer", func() bool {
		root, err1 := w.command("dig", "@192.0.3.1", "+time=1", "+tries=1", "+short", "SOA", ".").Output()
		above, err2 := w.command("dig", "@203.0.114.1", "+time=1", "+tries=1", "+short", "SOA", "test").Output()
		return err1 == nil && err2 == nil && len(root) > 0 && len(above) > 0
	})
}

// ds is what the owner of the zone above enters for a signed domain a day later,
// when the node shows it: it is made of the published key here.
func (w *internet) ds(domain string) string {
	w.t.Helper()
	var b strings.Builder
	for line := range strings.Lines(string(w.run("dig", "@198.51.101.2", "+tcp", "+noall", "+answer", "DNSKEY", domain))) {
		if strings.Contains(line, "DNSKEY\t257 ") { // RFC 4034 §2.1.1: a secure entry point
			w.write(filepath.Join(w.dir, "child.key"), line)
			b.Write(w.run("ldns-key2ds", "-n", "-2", "child.key"))
		}
	}
	return b.String()
}

// sign adds lines to a zone, signs it with a new key and gives the DS records for
// the zone above it. The key of the root stands in the file anchor.
func (w *internet) sign(file, origin, more string) (ds string) {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.dir, file+".zone"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(filepath.Join(w.dir, file+".zone"), string(text)+more)
	key := strings.TrimSpace(string(w.run("ldns-keygen", "-a", "ECDSAP256SHA256", "-k", origin)))
	day := func(n int) string { return time.Now().AddDate(0, 0, n).UTC().Format("20060102") }
	w.run("ldns-signzone", "-i", day(-1), "-e", day(14), "-f", file+".signed", file+".zone", key)
	if origin == "." {
		w.run("cp", key+".key", "anchor")
	}
	return string(w.run("ldns-key2ds", "-n", "-2", key+".key"))
}

// serve starts a server of others for signed zones.
func (w *internet) serve(name string, zones, files []string, addresses ...string) {
	w.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "server:\n  server-count: 1\n  username: \"\"\n  chroot: \"\"\n  zonesdir: %q\n  pidfile: \"\"\n  database: \"\"\n  xfrdfile: \"\"\n  xfrdir: %q\n", w.dir, w.dir)
	fmt.Fprintf(&b, "  zonelistfile: %q\n  hide-version: yes\n  minimal-responses: yes\n", filepath.Join(w.dir, name+".list"))
	for _, a := range addresses {
		fmt.Fprintf(&b, "  ip-address: %s\n", a)
	}
	b.WriteString("remote-control:\n  control-enable: no\n")
	for i := range zones {
		fmt.Fprintf(&b, "zone:\n  name: %s\n  zonefile: %s.signed\n", zones[i], files[i])
	}
	conf := filepath.Join(w.dir, name+".conf")
	w.write(conf, b.String())
	w.start("nsd", "-d", "-c", conf)
}

func (w *internet) write(file, text string) {
	w.t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// finding is one line of zonemaster.
type finding struct {
	Level    string         `json:"level"`
	Module   string         `json:"module"`
	TestCase string         `json:"testcase"`
	Tag      string         `json:"tag"`
	Args     map[string]any `json:"args"`
}

func (f finding) String() string {
	return fmt.Sprint(f.Level, " ", f.TestCase, " ", f.Tag, " ", f.Args)
}

// zonemaster judges a domain, by every test of its default profile but one:
// connectivity03 asks route servers of the internet from which autonomous systems
// our prefixes come.
func (w *internet) zonemaster(domain string) []finding {
	w.t.Helper()
	out := w.run("zonemaster-cli", "--dump-profile")
	var profile map[string]any
	if err := json.Unmarshal(out[bytes.IndexByte(out, '{'):], &profile); err != nil {
		w.t.Fatal(err)
	}
	cases := profile["test_cases"].([]any)
	asked := slices.DeleteFunc(slices.Clone(cases), func(c any) bool { return c == "connectivity03" })
	if len(asked) != len(cases)-1 {
		w.t.Fatalf("zonemaster has no test connectivity03: %v", cases)
	}
	text, err := json.Marshal(map[string]any{"test_cases": asked})
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(filepath.Join(w.dir, "profile.json"), string(text))
	out = w.run("zonemaster-cli", "--hints", "hints", "--profile", "profile.json", "--level", "INFO", "--no-progress", "--json", "--raw", domain)
	var findings []finding
	if err := json.Unmarshal(out[bytes.IndexByte(out, '['):], &findings); err != nil {
		w.t.Fatalf("%v\n%s", err, out)
	}
	return findings
}

// judged are the names of what zonemaster found of some levels, and the tests
// that had something to say.
func judged(findings []finding, levels ...string) (tags []string, tests int) {
	said := make(map[string]bool)
	for _, f := range findings {
		said[f.TestCase] = true
		if slices.Contains(levels, f.Level) && !slices.Contains(tags, f.Tag) {
			tags = append(tags, f.Tag)
		}
	}
	slices.Sort(tags)
	return tags, len(said)
}

// dnsviz looks at names from the root down and gives what it finds wrong, one
// line each, and what it has seen, with what follows from the key of the root
// (grok of Debian 12 cannot be told of that key).
func (w *internet) dnsviz(names ...string) (wrong []string, seen string) {
	w.t.Helper()
	root := ".:a.root.test=192.0.3.1,a.root.test=[2001:db9:1::1],b.root.test=198.51.101.1,b.root.test=[2001:db9:2::1]"
	w.run("dnsviz", append([]string{"probe", "-d", "1", "-A", "-a", ".", "-E", "-x", root, "-R", "SOA,NS,MX,CERT,TXT", "-o", "probe.json"}, names...)...)
	w.run("dnsviz", "grok", "-r", "probe.json", "-o", "grok.json")
	text, err := os.ReadFile(filepath.Join(w.dir, "grok.json"))
	if err != nil {
		w.t.Fatal(err)
	}
	var grok any
	if err := json.Unmarshal(text, &grok); err != nil {
		w.t.Fatalf("%v\n%s", err, text)
	}
	complaints(grok, "", &wrong)
	return wrong, string(w.run("dnsviz", "print", "-t", "anchor", "-r", "probe.json"))
}

// complaints collects what stands under "errors" and "warnings" anywhere.
func complaints(v any, path string, out *[]string) {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if key == "errors" || key == "warnings" {
				for _, c := range value.([]any) {
					text, _ := json.Marshal(c)
					*out = append(*out, path+" "+key+": "+string(text))
				}
				continue
			}
			complaints(value, path+"/"+key, out)
		}
	case []any:
		for i, value := range v {
			complaints(value, path+"/"+strconv.Itoa(i), out)
		}
	}
}

// TestInteropJudges lets zonemaster and dnsviz look at a domain as `domain add`
// and `dnssec enable` make it, from a root down.
func TestInteropJudges(t *testing.T) {
	for _, name := range []string{"zonemaster-cli", "dnsviz", "unbound-host", "drill", "delv", "named"} {
		testnode.Peer(t, name)
	}
	for _, c := range []struct {
		what    string
		sign    []string
		notices []string // of zonemaster, besides those for the timers of the SOA
		seen    string   // by dnsviz: how the delegation and the zone stand
	}{
		{"unsigned", nil, []string{"NEITHER_DNSKEY_NOR_DS", "NOT_SIGNED"}, "direct.example.test [-] [-]"},
		{"signed", []string{}, nil, "direct.example.test [.] [.]"},
		{"signed with two keys and NSEC3", []string{"--split", "--denial", "nsec3", "--algorithm", "ed25519"}, nil, "direct.example.test [.] [.]"},
	} {
		t.Run(c.what, func(t *testing.T) {
			if c.what != "signed" && os.Getenv("DIRECTNODE_PEERS") != "required" {
				t.Skip("SKIP: make interop lets them look at this one too")
			}
			w := newInternet(t)
			w.publish(c.sign)
			w.delegate()
			w.judgeByZonemaster(c.notices)
			w.judgeByDNSViz(c.seen)
			if c.sign != nil {
				w.judgeByValidators()
			}
		})
	}
}

func (w *internet) judgeByZonemaster(notices []string) {
	w.t.Helper()
	findings := w.zonemaster("direct.example.test")
	bad, tests := judged(findings, "WARNING", "ERROR", "CRITICAL")
	if len(bad) > 0 || tests < 40 {
		w.t.Errorf("zonemaster: %d tests spoke: %q\n%v", tests, bad, findings)
	}
	// An hour for refresh, ten minutes for retry: zones.DefaultRecords says why.
	want := append([]string{"REFRESH_MINIMUM_VALUE_LOWER", "RETRY_MINIMUM_VALUE_LOWER"}, notices...)
	slices.Sort(want)
	if got, _ := judged(findings, "NOTICE"); !slices.Equal(got, want) {
		w.t.Errorf("zonemaster noticed %q, want %q\n%v", got, want, findings)
	}
	// Its silence means something: it misses a second server where there is none.
	if bad, _ := judged(w.zonemaster("poor.example.test"), "WARNING", "ERROR", "CRITICAL"); !slices.Contains(bad, "NOT_ENOUGH_NS_CHILD") {
		w.t.Errorf("zonemaster found %q where one server is alone", bad)
	}
}

func (w *internet) judgeByDNSViz(zone string) {
	w.t.Helper()
	wrong, seen := w.dnsviz("direct.example.test", "bob.direct.example.test", "nobody.direct.example.test")
	if len(wrong) > 0 {
		w.t.Errorf("dnsviz: %s\n%s", strings.Join(wrong, "\n"), seen)
	}
	for _, part := range []string{"test [.] [.]", zone, "CERT: ", "bob.direct.example.test"} {
		if !strings.Contains(seen, part) {
			w.t.Errorf("dnsviz has not seen %q:\n%s", part, seen)
		}
	}
}

// judgeByValidators lets resolvers of others walk from the key of the root to
// what is there and what is not: BIND, which delv and drill then ask for each
// link of the chain, and Unbound by itself.
func (w *internet) judgeByValidators() {
	w.t.Helper()
	w.resolver()
	// Unbound keeps questions for test. from a real internet.
	w.write(filepath.Join(w.dir, "unbound.conf"), "server:\n  local-zone: \"test.\" nodefault\n  root-hints: \"hints\"\n  trust-anchor-file: \"anchor\"\n  chroot: \"\"\n  username: \"\"\n")
	for _, c := range []struct {
		name, rrtype string
		there        bool
	}{
		{"bob.direct.example.test", "CERT", true},
		{"direct.example.test", "SOA", true},
		{"direct.example.test", "DNSKEY", true},
		{"bob.direct.example.test", "TXT", false},
		{"nobody.direct.example.test", "CERT", false},
	} {
		if out := string(w.run("dig", "@127.0.0.1", "+dnssec", c.name, c.rrtype)); !strings.Contains(out, "flags: qr rd ra ad;") || strings.Contains(out, "ANSWER: 0") == c.there {
			w.t.Errorf("BIND: %s", out)
		}
		if out := string(w.run("unbound-host", "-C", "unbound.conf", "-v", "-t", c.rrtype, c.name)); !strings.Contains(out, "(secure)") {
			w.t.Errorf("unbound-host %s %s: %s", c.name, c.rrtype, out)
		}
		out, _ := w.command("delv", "@127.0.0.1", "-a", "anchors.conf", c.name, c.rrtype).CombinedOutput() // its exit code tells data from absence
		if want := map[bool]string{true: "; fully validated", false: "; negative response, fully validated"}[c.there]; !strings.Contains(string(out), want) {
			w.t.Errorf("delv %s %s: %s", c.name, c.rrtype, out)
		}
		if !c.there {
			continue // drill -S walks from what is there
		}
		if out := string(w.run("drill", "-S", "-k", "anchor", "@127.0.0.1", c.name, c.rrtype)); !strings.Contains(out, "Chase successful") {
			w.t.Errorf("drill %s %s: %s", c.name, c.rrtype, out)
		}
	}
}

// resolver starts a resolver in the namespace that trusts the key of the root.
func (w *internet) resolver() {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.dir, "anchor"))
	if err != nil {
		w.t.Fatal(err)
	}
	_, key, _ := strings.Cut(string(text), "DNSKEY\t")
	key, _, _ = strings.Cut(key, " ;")
	f := strings.Fields(key)
	if len(f) < 4 {
		w.t.Fatalf("the key of the root is %q", text)
	}
	anchors := fmt.Sprintf("trust-anchors { . static-key %s %s %s \"%s\"; };\n", f[0], f[1], f[2], strings.Join(f[3:], ""))
	w.write(filepath.Join(w.dir, "anchors.conf"), anchors)
	w.write(filepath.Join(w.dir, "named.conf"), fmt.Sprintf(`options {
  directory %q;
  listen-on { 127.0.0.1; };
  listen-on-v6 { none; };
  pid-file none;
  session-keyfile none;
  recursion yes;
  dnssec-validation yes;
  empty-zones-enable no;
};
controls { };
zone "." { type hint; file "hints"; };
`, w.dir)+anchors)
	w.start("named", "-g", "-n", "1", "-c", "named.conf")
	testnode.Eventually(w.t, "the resolver resolves", func() bool {
		out, err := w.command("dig", "@127.0.0.1", "+time=2", "+tries=1", "+short", "SOA", "test").Output()
		return err == nil && len(out) > 0
	})
}
