package queue_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"directnode/internal/direct"
	"directnode/internal/mail"
	"directnode/sta/queue"
)

func addr(t testing.TB, s string) direct.Address {
	t.Helper()
	a, err := direct.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func addrs(t testing.TB, list ...string) (all []direct.Address) {
	t.Helper()
	for _, s := range list {
		all = append(all, addr(t, s))
	}
	return all
}

// tempDir is t.TempDir in memory where the system has a place for that: these
// tests are about the order of things, and the flushes of a disk take time.
func tempDir(t testing.TB) string {
	t.Helper()
	const memory = "/dev/shm"
	var s syscall.Statfs_t
	if err := syscall.Statfs(memory, &s); err != nil || int64(s.Bavail)*int64(s.Bsize) < 1<<30 { // a container's is small
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(memory, "queue-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// open opens a queue and checks its invariants when the test ends.
func open(t testing.TB, dir string, o queue.Options) *queue.Queue {
	t.Helper()
	q, err := queue.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { finish(t, q) })
	return q
}

// finish checks and closes a queue, unless it is closed.
func finish(t testing.TB, q *queue.Queue) {
	t.Helper()
	if _, err := q.List(context.Background()); errors.Is(err, queue.ErrClosed) {
		return
	}
	for _, p := range q.Check() {
		t.Errorf("check: %v", p)
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
}

const wire = "Received: from peer\r\nFrom: ann@a.example\r\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n\r\nMIIB\r\n"

func envelope(t testing.TB, from string, to ...string) mail.Envelope {
	t.Helper()
	return mail.Envelope{
		From: addr(t, from), To: addrs(t, to...),
		Peer: netip.MustParseAddrPort("192.0.2.1:2525"), Helo: "peer.example", TLS: "TLS 1.3", At: time.Now().UTC(),
	}
}

// receive stores a message and returns its name.
func receive(t testing.TB, q *queue.Queue, env mail.Envelope, msg string) string {
	t.Helper()
	id, err := q.Receive(t.Context(), env, strings.NewReader(msg), nil)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// list is the queue as text, one line for each entry: kind state to attempts.
func list(t testing.TB, q *queue.Queue) (lines []string) {
	t.Helper()
	entries, err := q.List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		lines = append(lines, fmt.Sprintf("%s %s %s %d", e.Kind, e.State, strings.Join(e.To, ","), e.Attempts))
	}
	slices.Sort(lines)
	return lines
}

func wantList(t testing.TB, q *queue.Queue, want ...string) {
	t.Helper()
	if got := list(t, q); !slices.Equal(got, want) {
		t.Errorf("the queue holds %q; want %q", got, want)
	}
}

// spool returns the names of the spool files.
func spool(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "spool"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func readAll(t testing.TB, open func() (io.ReadCloser, error)) string {
	t.Helper()
	r, err := open()
	if err != nil {
		t.Error(err)
		return ""
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// run runs the queue until the returned function is called.
func run(t testing.TB, q *queue.Queue, h queue.Handlers) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx, h) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// temporary and permanent are errors as handlers return them.
var (
	temporary = &mail.Reply{Code: 451, Enhanced: [3]int{4, 3, 0}, Text: "later"}
	permanent = &mail.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "no such address"}
)

// journal notes what handlers were called for.
type journal struct {
	mu    sync.Mutex
	lines []string // guarded by mu
}

func (j *journal) note(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

func (j *journal) want(t testing.TB, want ...string) {
	t.Helper()
	if got := j.all(); !slices.Equal(got, want) {
		t.Errorf("handlers saw\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

var errBoom = errors.New("boom")

// sleep lets the time of a bubble pass, and what is due in it happen.
func sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
