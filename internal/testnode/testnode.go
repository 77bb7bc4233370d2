// Package testnode runs whole nodes on loopback for tests: the real programs,
// built once per test process, in the world that `directctl quickstart` makes.
package testnode

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"directnode/internal/admin"
	"directnode/internal/config"
	"directnode/internal/direct"
	"directnode/sta/smtpclient"
)

// Wait bounds everything that a test waits for. It is generous: a loaded
// machine with the race detector is slow, and nothing asserts on it.
const Wait = 60 * time.Second

// build compiles both programs once.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "directnode-bin")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-o", dir+"/", "directnode/cmd/directd", "directnode/cmd/directctl")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as `make` builds them, so that they are there already
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return dir, nil
})

// Program gives the path of directd or directctl.
func Program(t testing.TB, name string) string {
	t.Helper()
	dir, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// Clean removes the built programs; a TestMain calls it.
func Clean() {
	if dir, err := build(); err == nil {
		os.RemoveAll(dir)
	}
}

// World is two nodes that know each other: A publishes by DNS, B by LDAP.
type World struct {
	Dir   string
	A, B  *Node
	Alice direct.Address
	Bob   direct.Address
}

// Node is one directd.
type Node struct {
	Config config.Config
	Client *admin.Client

	t    testing.TB
	path string // of the configuration
	cmd  *exec.Cmd
}

// Quickstart runs `directctl quickstart --once` and then starts both nodes
// again from what it left. They are stopped when the test ends, and their
// stores are checked.
func Quickstart(t testing.TB) *World {
	t.Helper()
	// A socket's path is short; t.TempDir may not be.
	dir, err := os.MkdirTemp("", "dn")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	dir = filepath.Join(dir, "q")
	out, err := exec.Command(Program(t, "directctl"), "quickstart", "--once", "--dir", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("quickstart: %v\n%s\n%s%s", err, out, tail(dir, "node-a.log"), tail(dir, "node-b.log"))
	}
	w := &World{Dir: dir, A: newNode(t, dir, "a"), B: newNode(t, dir, "b")}
	w.Alice, _ = direct.ParseAddress("alice@a.direct.test")
	w.Bob, _ = direct.ParseAddress("bob@b.direct.test")
	w.A.Start()
	w.B.Start()
	t.Cleanup(func() {
		w.A.Stop()
		w.B.Stop()
		if t.Failed() {
			t.Logf("%s%s", tail(dir, "node-a.log"), tail(dir, "node-b.log"))
		}
	})
	return w
}

func newNode(t testing.TB, dir, name string) *Node {
	t.Helper()
	path := filepath.Join(dir, "node-"+name+".toml")
	c, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return &Node{Config: c, Client: admin.NewClient(c.Path(c.Admin.Socket)), t: t, path: path}
}

// Evidence reads a file of the quickstart's evidence.
func (w *World) Evidence(name string) []byte {
	w.A.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.Dir, "evidence", name))
	if err != nil {
		w.A.t.Fatal(err)
	}
	return b
}

// Start starts the daemon and waits until it answers.
func (n *Node) Start() {
	n.t.Helper()
	n.Launch()
	n.Ready()
}

// Launch starts the daemon.
func (n *Node) Launch() {
	n.t.Helper()
	log, err := os.OpenFile(strings.TrimSuffix(n.path, ".toml")+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		n.t.Fatal(err)
	}
	defer log.Close()
	n.cmd = exec.Command(Program(n.t, "directd"), "--config", n.path)
	n.cmd.Stdout, n.cmd.Stderr = log, log
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
}

// Ready waits until the daemon answers.
func (n *Node) Ready() {
	n.t.Helper()
	Eventually(n.t, "directd answers on its socket", func() bool {
		var s admin.Status
		return n.Client.Do(context.Background(), "status", struct{}{}, &s) == nil
	})
}

// Kill ends the daemon as a power failure would end its process.
func (n *Node) Kill() {
	_ = n.cmd.Process.Signal(syscall.SIGKILL)
	_ = n.cmd.Wait()
	n.cmd = nil
}

// Stop drains the daemon; one that does not end with code 0 fails the test.
func (n *Node) Stop() {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Signal(syscall.SIGTERM)
	if err := n.cmd.Wait(); err != nil {
		n.t.Errorf("directd %s: %v", n.path, err)
	}
	n.cmd = nil
}

// Ctl runs directctl against the node and gives its output and exit code.
func (n *Node) Ctl(args ...string) (string, int) {
	n.t.Helper()
	cmd := exec.Command(Program(n.t, "directctl"), append([]string{"--config", n.path}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		n.t.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// Submit submits a message; the error is the server's refusal.
func (n *Node) Submit(from direct.Address, to []direct.Address, message []byte) error {
	client := smtpclient.New(smtpclient.Options{Hostname: "test.direct.test"})
	body := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(message)), nil }
	ctx, cancel := context.WithTimeout(context.Background(), Wait)
	defer cancel()
	for _, err := range client.Submit(ctx, n.Config.SMTP.Submission[0], from, to, body) {
		if err != nil {
			return err
		}
	}
	return nil
}

// Message gives the story of a message; the zero Message where there is none.
func (n *Node) Message(id string) admin.Message {
	var m admin.Message
	_ = n.Client.Do(context.Background(), "message.show", admin.MessageQuery{ID: id}, &m)
	return m
}

// Mail gives the messages in a recipient's Maildir by file name.
func (n *Node) Mail(rcpt direct.Address) map[string][]byte {
	n.t.Helper()
	_, dir, _ := strings.Cut(n.Config.Delivery.Mailbox, ":")
	folder := filepath.Join(n.Config.Path(dir), rcpt.Key(), "new")
	entries, err := os.ReadDir(folder)
	if err != nil && !os.IsNotExist(err) {
		n.t.Fatal(err)
	}
	mails := make(map[string][]byte)
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			n.t.Fatal(err)
		}
		mails[e.Name()] = b
	}
	return mails
}

// Compose writes a small message.
func Compose(from, to direct.Address, id, body string) []byte {
	return []byte("From: " + from.String() + "\r\nTo: " + to.String() + "\r\nSubject: a letter\r\nDate: " + time.Now().Format(time.RFC1123Z) +
		"\r\nMessage-ID: <" + id + ">\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n" + body + "\r\n")
}

// Eventually waits until f is true.
func Eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(Wait)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", Wait, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Peer gives the path of a program that a test speaks with. Where it is absent
// the test is skipped loudly, or fails under `make interop`.
func Peer(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("DIRECTNODE_PEERS") == "required" {
		t.Fatalf("peer %s absent; tools/install-peers installs it", name)
	}
	t.Skipf("SKIP peer %s absent", name)
	return ""
}

// maxTail is how much of a log a failure shows.
const maxTail = 6000

func tail(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return err.Error() + "\n"
	}
	if len(b) > maxTail {
		b = b[len(b)-maxTail:]
	}
	return "--- " + name + "\n" + string(b) + "\n"
}
