package resolver_test

import (
	"bytes"
	"context"
	"encoding/base64"
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

	"directnode/dnsserver"
	"directnode/internal/direct"
	"directnode/ldapserver"
	"directnode/ldapserver/dit"
	"directnode/store"
	"directnode/zones"

	"github.com/miekg/dns"
)

// ourServers publish with this project's own servers.
type ourServers struct{}

// storeView is what a directory is built of.
type storeView []*store.DomainData

func (v storeView) Domains() []direct.Domain {
	var out []direct.Domain
	for _, d := range v {
		out = append(out, d.Domain)
	}
	return out
}

func (v storeView) Domain(name direct.Domain) *store.DomainData {
	for _, d := range v {
		if d.Domain == name {
			return d
		}
	}
	return nil
}

func (ourServers) directory(t testing.TB, entries []directoryEntry) int {
	t.Helper()
	certs := map[direct.Domain][]store.Certificate{}
	for _, e := range entries {
		owner, err := direct.ParseOwner(e.mail)
		if err != nil {
			t.Fatal(err)
		}
		for _, der := range e.certs {
			certs[owner.Domain()] = append(certs[owner.Domain()], store.Certificate{Owner: owner, DER: der, PublishLDAP: true})
		}
	}
	var view storeView
	for domain, list := range certs {
		view = append(view, &store.DomainData{Domain: domain, Certificates: store.NewCertificates(list...)})
	}
	tree, err := dit.Build(view, dit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveUntilEnd(t, func(ctx context.Context) error {
		return ldapserver.New(func() *dit.Tree { return tree }, ldapserver.Options{}).Serve(ctx, l)
	})
	return l.Addr().(*net.TCPAddr).Port
}

func (ourServers) names(t testing.TB, texts map[string][]string) string {
	t.Helper()
	var parsed []zones.Parsed
	for origin, lines := range texts {
		d, err := direct.ParseDomain(origin)
		if err != nil {
			t.Fatal(err)
		}
		p, err := zones.ParseMaster(strings.NewReader(strings.Join(lines, "\n")+"\n"), d, origin)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, p)
	}
	set, err := zones.BuildParsed(1, zones.Options{CertTTL: 300}, parsed...)
	if err != nil {
		t.Fatal(err)
	}
	return serveZones(t, set, dnsserver.Options{})
}

// serveZones answers on loopback, UDP and TCP on one port.
func serveZones(t testing.TB, set *zones.Set, o dnsserver.Options) string {
	t.Helper()
	udp, tcp := listenBoth(t)
	serveUntilEnd(t, func(ctx context.Context) error {
		return dnsserver.New(func() *zones.Set { return set }, o).Serve(ctx, udp, tcp)
	})
	return tcp.Addr().String()
}

func listenBoth(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 { // the port that TCP got may be taken for UDP
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err == nil {
			return udp, tcp
		}
		tcp.Close()
	}
	t.Fatal("no port for UDP and TCP")
	return nil, nil
}

func serveUntilEnd(t testing.TB, serve func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// theirServers publish with a name server of somebody else and OpenLDAP.
type theirServers struct {
	program string
	config  func(dir string, port int, origins []string) (name, text string, args []string)
}

func knot() theirServers {
	return theirServers{"knotd", func(dir string, port int, origins []string) (string, string, []string) {
		var b strings.Builder
		fmt.Fprintf(&b, "server:\n  rundir: %q\n  listen: 127.0.0.1@%d\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n", dir, port)
		fmt.Fprintf(&b, "control:\n  listen: %q\nlog:\n  - target: stderr\n    any: warning\n", filepath.Join(dir, "control"))
		fmt.Fprintf(&b, "database:\n  storage: %q\ntemplate:\n  - id: default\n    storage: %q\n    file: \"%%s.zone\"\n    journal-content: none\n    zonefile-sync: -1\nzone:\n", filepath.Join(dir, "db"), dir)
		for _, o := range origins {
			fmt.Fprintf(&b, "  - domain: %s\n", o)
		}
		return "knot.conf", b.String(), []string{"-c", filepath.Join(dir, "knot.conf")}
	}}
}

func bind() theirServers {
	return theirServers{"named", func(dir string, port int, origins []string) (string, string, []string) {
		var b strings.Builder
		fmt.Fprintf(&b, "options {\n  directory %q;\n  listen-on port %d { 127.0.0.1; };\n  listen-on-v6 { none; };\n  pid-file none;\n  session-keyfile none;\n", dir, port)
		b.WriteString("  recursion no;\n  allow-transfer { none; };\n  notify no;\n  dnssec-validation no;\n  empty-zones-enable no;\n  check-names master ignore;\n  check-integrity no;\n};\ncontrols { };\n")
		for _, o := range origins {
			fmt.Fprintf(&b, "zone %q { type master; file \"%s.zone\"; };\n", o, o)
		}
		return "named.conf", b.String(), []string{"-g", "-n", "1", "-c", filepath.Join(dir, "named.conf")}
	}}
}

// peer finds a program of others.
func peer(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	switch {
	case err != nil && os.Getenv("DIRECTNODE_PEERS") == "required":
		t.Fatalf("peer %s absent; tools/install-peers installs it", name)
	case err != nil:
		t.Skipf("SKIP peer %s absent", name)
	}
	return path
}

// background runs a program in the foreground of its own process group until the test ends.
func background(t testing.TB, ready func() bool, program string, args ...string) {
	t.Helper()
	var log bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // it holds nothing that is wanted later
		<-ended
	})
	for range 800 {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%s ended: %v\n%s", program, err, log.String())
		case <-time.After(25 * time.Millisecond):
		}
		if ready() {
			return
		}
	}
	t.Fatalf("%s does not serve", program)
}

func writeFile(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s theirServers) names(t testing.TB, texts map[string][]string) string {
	t.Helper()
	program, dir, port := peer(t, s.program), t.TempDir(), closedPort(t)
	var origins []string
	for origin, lines := range texts {
		origins = append(origins, origin)
		writeFile(t, filepath.Join(dir, origin+".zone"), "$ORIGIN "+origin+".\n$TTL 300\n"+strings.Join(lines, "\n")+"\n")
	}
	slices.Sort(origins)
	name, text, args := s.config(dir, port, origins)
	writeFile(t, filepath.Join(dir, name), text)
	addr := net.JoinHostPort("127.0.0.1", itoa(port))
	background(t, func() bool {
		for _, origin := range origins {
			m := new(dns.Msg).SetQuestion(dns.Fqdn(origin), dns.TypeSOA)
			r, _, err := (&dns.Client{Net: "tcp", Timeout: time.Second}).Exchange(m, addr)
			if err != nil || r.Rcode != dns.RcodeSuccess || len(r.Answer) != 1 {
				return false
			}
		}
		return true
	}, program, args...)
	return addr
}

// directory loads LDIF into slapd. An entry of several certificates is one with several values, as slapd knows no two of one name.
func (theirServers) directory(t testing.TB, entries []directoryEntry) int {
	t.Helper()
	slapd, slapadd, dir, port := peer(t, "slapd"), peer(t, "slapadd"), t.TempDir(), closedPort(t)
	conf, ldif, db := filepath.Join(dir, "slapd.conf"), filepath.Join(dir, "data.ldif"), filepath.Join(dir, "db")
	if err := os.Mkdir(db, 0o700); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("dn: ou=dcdt\nobjectClass: organizationalUnit\nou: dcdt\n\n")
	for i, e := range entries {
		fmt.Fprintf(&b, "dn: cn=%d,ou=dcdt\nobjectClass: inetOrgPerson\ncn: %d\nsn: %d\nmail: %s\n", i, i, i, e.mail)
		for _, der := range e.certs {
			fmt.Fprintf(&b, "userCertificate;binary:: %s\n", base64.StdEncoding.EncodeToString(der))
		}
		b.WriteString("\n")
	}
	writeFile(t, ldif, b.String())
	writeFile(t, conf, fmt.Sprintf("include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\ninclude /etc/ldap/schema/inetorgperson.schema\n"+
		"modulepath /usr/lib/ldap\nmoduleload back_mdb\nthreads 2\ndatabase mdb\nsuffix \"ou=dcdt\"\ndirectory %s\nmaxsize 4194304\ndbnosync\nindex mail eq\n", db))
	if out, err := exec.Command(slapadd, "-q", "-f", conf, "-l", ldif).CombinedOutput(); err != nil {
		t.Fatalf("slapadd: %v\n%s", err, out)
	}
	addr := net.JoinHostPort("127.0.0.1", itoa(port))
	background(t, func() bool {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	}, slapd, "-f", conf, "-h", "ldap://"+addr, "-d", "0")
	return port
}

// TestInteropConformance: the same cases published by Knot and by BIND, with OpenLDAP beside. Where nobody demands the peers, one of the
// two is enough.
func TestInteropConformance(t *testing.T) {
	peers := []theirServers{knot()}
	if os.Getenv("DIRECTNODE_PEERS") == "required" {
		peers = append(peers, bind())
	}
	for _, s := range peers {
		t.Run(s.program, func(t *testing.T) {
			t.Parallel()
			newConformance(t, s).runAll(t)
		})
	}
}
