package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"directnode/internal/config"
	"directnode/internal/direct"
	"directnode/internal/mail"
	"directnode/internal/testnode"
	"directnode/sta/queue"
)

// TestTheAdminSocketTakesNobodysPlace: a path that is not a left-over socket is
// never removed.
func TestTheAdminSocketTakesNobodysPlace(t *testing.T) {
	dir, err := os.MkdirTemp("", "dn") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file, live, stale := filepath.Join(dir, "file"), filepath.Join(dir, "live"), filepath.Join(dir, "stale")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("unix", live)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	left, err := net.Listen("unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	left.(*net.UnixListener).SetUnlinkOnClose(false)
	left.Close()
	for path, want := range map[string]string{file: "is no socket", live: "is in use", stale: "", filepath.Join(dir, "new"): ""} {
		c := config.Default()
		c.DataDir, c.Admin.Socket = dir, path
		n := &node{cfg: c, log: logger(slog.LevelInfo)}
		err := n.openAdmin(t.Context())
		if got := err == nil; got != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", filepath.Base(path), err, want)
		}
		if err == nil {
			info, err := os.Stat(path)
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: mode %v, %v", filepath.Base(path), info.Mode(), err)
			}
		}
		n.close()
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file is %q, %v", b, err)
	}
	if c, err := net.Dial("unix", live); err != nil {
		t.Errorf("the other daemon lost its socket: %v", err)
	} else {
		c.Close()
	}
}

// TestAReloadAtTheWrongMomentKillsNobody: SIGHUP ends a process that does not
// handle it, and a certificate's renewal hook asks for no leave.
func TestAReloadAtTheWrongMomentKillsNobody(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "directd.toml")
	text := "data_dir = \"state\"\n[dns]\nlisten = []\n[ldap]\nlisten = []\n[smtp]\nlisten = []\nsubmission = []\n[admin]\nsocket = \"s\"\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(testnode.Program(t, "directd"), "--config", path)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lock := filepath.Join(dir, "state", "lock")
	testnode.Eventually(t, "the data folder is locked", func() bool {
		_ = cmd.Process.Signal(syscall.Signal(0))
		_, err := os.Stat(lock)
		return err == nil
	})
	for range 50 { // while it starts, serves and stops
		_ = cmd.Process.Signal(syscall.SIGHUP)
		time.Sleep(2 * time.Millisecond)
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_ = cmd.Process.Signal(syscall.SIGHUP)
	if err := cmd.Wait(); err != nil {
		t.Errorf("directd: %v\n%s", err, out.String())
	}
}

// TestInboundMailIsOpenedWithinItsBudget: strangers decide how many large
// messages are in work at the same time; memory is ours.
func TestInboundMailIsOpenedWithinItsBudget(t *testing.T) {
	b := newBudget(100)
	release, err := b.take(t.Context(), 60)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := b.take(ctx, 60); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("120 of 100: %v", err)
	}
	release()
	whole, err := b.take(t.Context(), 1000) // larger than all there is: alone
	if err != nil {
		t.Fatal(err)
	}
	whole()
}

func TestItemsAreReadAtTheirSize(t *testing.T) {
	text := bytes.Repeat([]byte("x"), 1000)
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }
	b, err := readItem(queue.Item{Size: 1000, Open: open})
	if err != nil || !bytes.Equal(b, text) || cap(b) > 1024 {
		t.Errorf("%d octets in %d, %v", len(b), cap(b), err)
	}
	for _, size := range []int64{999, 1001} {
		if _, err := readItem(queue.Item{Size: size, Open: open}); err == nil {
			t.Errorf("a file of 1000 octets passed for %d", size)
		}
	}
}

// TestAFirstStartMayBeCutShort: whatever moment the power fails at, the next
// start goes on from there.
func TestAFirstStartMayBeCutShort(t *testing.T) {
	dir := t.TempDir()
	c := config.Default()
	c.DataDir = dir
	n := &node{cfg: c, log: logger(slog.LevelInfo)}
	half := filepath.Join(dir, "master.key.new")
	if err := os.WriteFile(half, []byte("0123"), 0o400); err != nil {
		t.Fatal(err)
	}
	first, err := n.masterKey()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := n.masterKey(); err != nil || again != first {
		t.Errorf("the second start has another key, %v", err)
	}
	if _, err := os.Stat(half); !os.IsNotExist(err) {
		t.Errorf("the half-written key is still there: %v", err)
	}
}

// TestAStopDuringTheStartIsAStop: a service manager that changes its mind finds
// no failure.
func TestAStopDuringTheStartIsAStop(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "directd.toml")
	text := "data_dir = \"s\"\n[dns]\nlisten = []\n[ldap]\nlisten = []\n[smtp]\nlisten = []\nsubmission = []\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := serve(ctx, path); err != nil {
		t.Errorf("serve = %v", err)
	}
}

// TestAFullDiskIsATemporaryReply: RFC 5321 §4.2.2, RFC 3463 §3.4.
func TestAFullDiskIsATemporaryReply(t *testing.T) {
	q, err := queue.Open(t.TempDir(), queue.Options{MinFree: math.MaxInt64})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	to, err := direct.ParseAddress("bob@b.direct.test")
	if err != nil {
		t.Fatal(err)
	}
	_, err = mxBackend{queue: q, counts: new(mailCounts)}.Data(t.Context(), mail.Envelope{From: to, To: []direct.Address{to}}, strings.NewReader("A: b\r\n\r\n"))
	var reply *mail.Reply
	if !errors.As(err, &reply) || reply.Code != 452 || reply.Enhanced != [3]int{4, 3, 1} {
		t.Errorf("reply %v", err)
	}
}
