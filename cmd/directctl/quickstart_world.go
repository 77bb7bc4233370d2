package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"directnode/internal/admin"
	"directnode/internal/config"
)

// world is the quickstart's two nodes and their folder.
type world struct {
	dir  string
	a, b *node
}

// node is one directd that the quickstart runs.
type node struct {
	name, domain, user, publishes string
	dir                           string
	cfg                           config.Config
	client                        *admin.Client
	cmd                           *exec.Cmd
	exited                        chan struct{} // closed when the process has ended
}

// newWorld makes the CA, the certificates and both configurations.
func newWorld(dir string) (*world, error) {
	w := &world{dir: dir}
	if err := writePKI(filepath.Join(dir, "evidence")); err != nil {
		return nil, err
	}
	ports, err := freePorts(8)
	if err != nil {
		return nil, err
	}
	w.a = &node{name: "a", domain: "a.direct.test", user: "alice", publishes: "dns"}
	w.b = &node{name: "b", domain: "b.direct.test", user: "bob", publishes: "ldap"}
	w.a.configure(dir, ports[:4])
	w.b.configure(dir, ports[4:])
	for _, n := range w.nodes() {
		other := w.a
		if n == w.a {
			other = w.b
		}
		n.cfg.Resolver.Stub = []config.Stub{{Domain: n.domain, Servers: n.cfg.DNS.Listen}, {Domain: other.domain, Servers: other.cfg.DNS.Listen}}
		_, port, _ := net.SplitHostPort(other.cfg.SMTP.Listen[0])
		fmt.Sscan(port, &n.cfg.Delivery.Port)
		if err := n.writeConfig(); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *world) nodes() []*node { return []*node{w.a, w.b} }

func (w *world) evidence(name string) string { return filepath.Join(w.dir, "evidence", name) }

// freePorts asks the system for ports that are free for UDP and TCP.
func freePorts(n int) ([]string, error) {
	var addrs []string
	var held []net.Listener
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	for tries := 0; len(addrs) < n; tries++ {
		if tries > 10*n {
			return nil, errors.New("no free ports on loopback")
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		held = append(held, l)
		u, err := net.ListenPacket("udp", l.Addr().String())
		if err != nil {
			continue
		}
		u.Close()
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}

func (n *node) configure(dir string, addrs []string) {
	n.dir = filepath.Join(dir, "node-"+n.name)
	c := config.Default()
	c.DataDir = n.dir
	c.Node.Hostname = "node-" + n.name + "." + n.domain
	c.DNS.Listen, c.LDAP.Listen = addrs[:1], addrs[1:2]
	c.SMTP.Listen, c.SMTP.Submission = addrs[2:3], addrs[3:4]
	c.Resolver.Servers = c.DNS.Listen // nothing is asked outside of this machine
	c.Delivery.Retry = []config.Duration{config.Duration(time.Second)}
	c.Delivery.Archive = "archive"
	n.cfg = c
	n.client = admin.NewClient(c.Path(c.Admin.Socket))
}

func (n *node) configPath() string { return n.dir + ".toml" }

func (n *node) writeConfig() error {
	var b bytes.Buffer
	if err := config.Print(&b, n.cfg); err != nil {
		return err
	}
	return os.WriteFile(n.configPath(), b.Bytes(), 0o644)
}

// directd finds the daemon beside this program, then in the search path.
func directd() (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "directd")
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
	}
	path, err := exec.LookPath("directd")
	if err != nil {
		return "", errors.New("directd stands neither beside directctl nor in the search path; build both with `make`")
	}
	return path, nil
}

func (n *node) start() error {
	path, err := directd()
	if err != nil {
		return err
	}
	log, err := os.Create(n.dir + ".log")
	if err != nil {
		return err
	}
	defer log.Close()
	n.cmd = exec.Command(path, "--config", n.configPath())
	n.cmd.Stdout, n.cmd.Stderr = log, log
	// A group of its own: Ctrl-C reaches this program, which drains the nodes.
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := n.cmd.Start(); err != nil {
		return err
	}
	n.exited = make(chan struct{})
	go func() {
		_ = n.cmd.Wait()
		close(n.exited)
	}()
	return nil
}

// ready waits until the node answers on its admin socket.
func (n *node) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, quickstartWait)
	defer cancel()
	for {
		var s admin.Status
		err := n.client.Do(ctx, "status", struct{}{}, &s)
		if err == nil {
			return nil
		}
		select {
		case <-n.exited:
			return fmt.Errorf("it ended: %s", n.lastLine())
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// lastLine gives the end of the node's log.
func (n *node) lastLine() string {
	b, err := os.ReadFile(n.dir + ".log")
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}

// stopGrace is how long a node may drain.
const stopGrace = 15 * time.Second

// stop ends both nodes and waits until they have.
func (w *world) stop() {
	for _, n := range w.nodes() {
		if n.exited != nil {
			_ = n.cmd.Process.Signal(syscall.SIGTERM)
		}
	}
	deadline := time.After(stopGrace)
	for _, n := range w.nodes() {
		if n.exited == nil {
			continue
		}
		select {
		case <-n.exited:
		case <-deadline:
			_ = n.cmd.Process.Kill()
			<-n.exited
		}
	}
}

// died gives the first node that ends by itself.
func (w *world) died() <-chan *node {
	c := make(chan *node, 2)
	for _, n := range w.nodes() {
		go func() {
			<-n.exited
			c <- n
		}()
	}
	return c
}

// hints are lines to try while the nodes are up.
func (w *world) hints() string {
	_, dnsA, _ := net.SplitHostPort(w.a.cfg.DNS.Listen[0])
	_, dnsB, _ := net.SplitHostPort(w.b.cfg.DNS.Listen[0])
	return fmt.Sprintf(`
Both nodes stay up until Ctrl-C. Try, in another terminal:

  dig @127.0.0.1 -p %s +tcp CERT alice.a.direct.test
  dig @127.0.0.1 -p %s SRV _ldap._tcp.b.direct.test
  ldapsearch -x -H ldap://%s -b dc=b,dc=direct,dc=test '(mail=%s)' 'userCertificate;binary'
  swaks --server %s --from %s --to %s --header 'Subject: hello'
  %s discover %s --explain --dns %s --anchor %s
  %s --config %s message list
  openssl cms -decrypt -in %s -recip %s -inkey %s | openssl cms -verify -CAfile %s

`, dnsA, dnsB, w.b.cfg.LDAP.Listen[0], bob, w.a.cfg.SMTP.Submission[0], alice, bob,
		os.Args[0], bob, w.b.cfg.DNS.Listen[0], w.evidence("root.pem"), os.Args[0], w.a.configPath(),
		w.evidence("wire.eml"), w.evidence("bob.crt.pem"), w.evidence("bob.key.pem"), w.evidence("root.pem"))
}
