package ldapserver_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"directnode/internal/testnode"
)

// directoryClient is a program or a library of others that searches.
type directoryClient struct {
	name  string
	slow  bool // a search costs a process or a connection
	start func(t *testing.T, addr string) searcher
}

// searcher does one search with a client.
type searcher func(t *testing.T, q clientQuestion) clientAnswer

// clientQuestion is a search as every client can be asked for it.
type clientQuestion struct {
	base       string
	scope      int
	filter     string
	attributes []string
	manage     string // ManageDsaIT: "", "sent" or "critical"
}

func (q clientQuestion) String() string {
	return fmt.Sprintf("base %q scope %d filter %s attributes %q ManageDsaIT %q", q.base, q.scope, q.filter, q.attributes, q.manage)
}

// clientAnswer is what the client made of the answer.
type clientAnswer struct {
	code    int
	entries []clientEntry
}

type clientEntry struct {
	dn     string
	values map[string][]string // by attribute description as the client shows it
}

// certificates gives the certificates under one description.
func (a clientAnswer) certificates(name string) []string {
	var all []string
	for _, e := range a.entries {
		all = append(all, e.values[name]...)
	}
	slices.Sort(all)
	return all
}

// directoryClients are the clients that are installed by tools/install-peers.
var directoryClients = []directoryClient{
	{"go-ldap", false, startGoLDAP},
	{"ldapsearch", true, startLdapsearch},
	{"jndi", true, func(t *testing.T, addr string) searcher { return startJava(t, "JndiClient", nil, "ldap://"+addr) }},
	{"apache", true, func(t *testing.T, addr string) searcher {
		return startJava(t, "ApacheClient", apacheJars, hostPort(t, addr)...)
	}},
	{"netscape", false, func(t *testing.T, addr string) searcher {
		return startJava(t, "NetscapeClient", netscapeJars, hostPort(t, addr)...)
	}},
	{"ldap3", false, func(t *testing.T, addr string) searcher {
		return startPython(t, "client_ldap3.py", "ldap3", hostPort(t, addr)...)
	}},
	{"python-ldap", false, func(t *testing.T, addr string) searcher {
		return startPython(t, "client_python_ldap.py", "ldap", hostPort(t, addr)...)
	}},
	{"lib389", false, func(t *testing.T, addr string) searcher {
		return startPython(t, "client_lib389.py", "lib389", "ldap://"+addr)
	}},
}

// The jars of each library, in Debian's folder of them.
var (
	apacheJars   = []string{"apache-directory-api-all", "mina2-core", "slf4j-api", "commons-codec", "commons-lang3", "commons-collections4", "commons-text", "commons-pool2", "antlr"}
	netscapeJars = []string{"ldapjdk", "jss", "slf4j-api"}
)

const jarFolder = "/usr/share/java"

func hostPort(t *testing.T, addr string) []string {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return []string{host, port}
}

// absent skips a test for a peer that is not installed, or fails it where all
// must be there.
func absent(t *testing.T, name string) {
	t.Helper()
	if os.Getenv("DIRECTNODE_PEERS") == "required" {
		t.Fatalf("peer %s absent; tools/install-peers installs it", name)
	}
	t.Skipf("SKIP peer %s absent", name)
}

// startGoLDAP keeps one connection, bound anonymously.
func startGoLDAP(t *testing.T, addr string) searcher {
	c := client(t, addr)
	if err := c.UnauthenticatedBind(""); err != nil {
		t.Fatal(err)
	}
	return func(t *testing.T, q clientQuestion) (a clientAnswer) {
		request := &ldap.SearchRequest{BaseDN: q.base, Scope: q.scope, Filter: q.filter, Attributes: q.attributes}
		if q.manage != "" {
			request.Controls = []ldap.Control{ldap.NewControlManageDsaIT(q.manage == "critical")}
		}
		r, err := c.Search(request)
		var refused *ldap.Error
		switch {
		case errors.As(err, &refused) && refused.ResultCode < ldap.ErrorNetwork:
			a.code = int(refused.ResultCode)
		case err != nil:
			t.Fatal(err)
		}
		for _, e := range r.Entries {
			entry := clientEntry{e.DN, map[string][]string{}}
			for _, attribute := range e.Attributes {
				for _, v := range attribute.ByteValues {
					entry.values[attribute.Name] = append(entry.values[attribute.Name], string(v))
				}
			}
			a.entries = append(a.entries, entry)
		}
		return a
	}
}

// startLdapsearch runs the program anew for each search.
func startLdapsearch(t *testing.T, addr string) searcher {
	path := testnode.Peer(t, "ldapsearch")
	return func(t *testing.T, q clientQuestion) (a clientAnswer) {
		args := []string{"-x", "-LLL", "-o", "ldif-wrap=no", "-H", "ldap://" + addr, "-b", q.base, "-s", []string{"base", "one", "sub"}[q.scope]}
		switch q.manage {
		case "sent":
			args = append(args, "-M")
		case "critical":
			args = append(args, "-MM")
		}
		out, err := exec.CommandContext(t.Context(), path, append(append(args, q.filter), q.attributes...)...).Output()
		var exit *exec.ExitError
		switch {
		case errors.As(err, &exit):
			a.code = exit.ExitCode() // which is the result code
		case err != nil:
			t.Fatal(err)
		}
		a.entries = ldifEntries(t, out)
		return a
	}
}

// ldifEntries reads what ldapsearch prints.
func ldifEntries(t *testing.T, text []byte) (entries []clientEntry) {
	t.Helper()
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimRight(line, "\n"), ":")
		if !ok {
			continue
		}
		if encoded, ok := strings.CutPrefix(value, ":"); ok {
			decoded, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			value = string(decoded)
		} else {
			value = strings.TrimPrefix(value, " ")
		}
		if name == "dn" {
			entries = append(entries, clientEntry{value, map[string][]string{}})
		} else if len(entries) > 0 {
			e := entries[len(entries)-1]
			e.values[name] = append(e.values[name], value)
		}
	}
	return entries
}

// startJava compiles a client of testdata/jndi and keeps it running.
func startJava(t *testing.T, class string, jars []string, args ...string) searcher {
	compiler, java := testnode.Peer(t, "javac"), testnode.Peer(t, "java")
	classes := t.TempDir()
	path := []string{classes}
	for _, jar := range jars {
		file := filepath.Join(jarFolder, jar+".jar")
		if _, err := os.Stat(file); err != nil {
			absent(t, file)
		}
		path = append(path, file)
	}
	joined := strings.Join(path, ":")
	// One processor and the quick compiler alone: these programs live a second.
	out, err := exec.CommandContext(t.Context(), compiler, "-J-XX:TieredStopAtLevel=1", "-Xlint:all,-path", "-Werror", "-proc:none", "-d", classes, "-cp", joined,
		"testdata/jndi/Wire.java", "testdata/jndi/"+class+".java").CombinedOutput()
	if err != nil {
		t.Fatalf("javac %s: %v\n%s", class, err, out)
	}
	return talk(t, exec.Command(java, append([]string{"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-cp", joined, class}, args...)...))
}

// startPython keeps a client of testdata/python running. The system's own Python
// has the packages of the system; another one may stand before it.
func startPython(t *testing.T, script, module string, args ...string) searcher {
	for _, python := range []string{"/usr/bin/python3", "python3"} {
		if err := exec.CommandContext(t.Context(), python, "-c", "import "+module).Run(); err == nil {
			return talk(t, exec.Command(python, append([]string{"-B", filepath.Join("testdata/python", script)}, args...)...))
		}
	}
	absent(t, "python3 module "+module)
	return nil
}

// clientPatience is how long a client may take over one answer: its start is
// counted in.
const clientPatience = 60 * time.Second

// talk starts a client that speaks the protocol of testdata/jndi/Wire.java and
// testdata/python/wire.py.
func talk(t *testing.T, cmd *exec.Cmd) searcher {
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil && !t.Failed() {
			t.Errorf("%s: %v\n%s", cmd, err, complaints.String())
		}
	})
	lines := bufio.NewReader(out)
	return func(t *testing.T, q clientQuestion) clientAnswer {
		t.Helper()
		late := time.AfterFunc(clientPatience, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		fmt.Fprintf(in, "%s\t%d\t%s\t%s\t%s\n", q.base, q.scope, q.filter, strings.Join(q.attributes, ","), q.manage)
		a, err := readAnswer(lines)
		if err != nil {
			t.Fatalf("%s\n%s: %v\n%s", cmd, q, err, complaints.String())
		}
		return a
	}
}

func readAnswer(lines *bufio.Reader) (a clientAnswer, err error) {
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return a, fmt.Errorf("the client ended: %w", errors.Join(err, io.ErrUnexpectedEOF))
		}
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		last, err := base64.StdEncoding.DecodeString(f[len(f)-1])
		if err != nil {
			return a, fmt.Errorf("%q: %w", line, err)
		}
		switch {
		case f[0] == "dn" && len(f) == 2:
			a.entries = append(a.entries, clientEntry{string(last), map[string][]string{}})
		case f[0] == "value" && len(f) == 3 && len(a.entries) > 0:
			e := a.entries[len(a.entries)-1]
			e.values[f[1]] = append(e.values[f[1]], string(last))
		case f[0] == "done" && len(f) == 3:
			if a.code, err = strconv.Atoi(f[1]); err == nil && a.code < 0 {
				err = errors.New(string(last))
			}
			return a, err
		default:
			return a, fmt.Errorf("line %q", line)
		}
	}
}
