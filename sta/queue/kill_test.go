package queue_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"directnode/internal/direct"
	"directnode/internal/mail"
	"directnode/sta/queue"
	"directnode/sta/smime"
)

// The kill tests run a whole life of a queue in a child process that kills
// itself at a named point: a peer sends three messages, one of them twice; one
// of ours is submitted to a good and a bad address. After a restart, in which
// peer and submitter send again what they have had no answer to, everything
// must have arrived, once.

// Where the child keeps what happened in the world outside.
const (
	envChild = "QUEUE_TEST_CHILD" // the directory
	envKill  = "QUEUE_TEST_KILL"  // POINT:N, or nothing
)

// letters are what the peer sends, in order. The third repeats the first.
var letters = []string{"one", "two", "one"}

func TestKillChild(t *testing.T) {
	dir := os.Getenv(envChild)
	if dir == "" {
		t.Skip("only as a child of TestKillAtEveryPoint")
	}
	w := &outside{t: t, dir: dir}
	q, err := queue.Open(filepath.Join(dir, "q"), queue.AtCrashPoints(queue.Options{
		Retry: queue.Schedule{Delays: []time.Duration{10 * time.Millisecond}},
	}, w.killer(os.Getenv(envKill))))
	if err != nil {
		t.Fatal(err)
	}
	w.q = q
	w.submit()
	w.sendLetters()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for q.Depth() != (queue.Depth{}) {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if err := q.Run(ctx, queue.Handlers{Inbound: w.inbound, Publish: w.publish, Outbound: w.outbound, Expired: w.expired}); err != nil {
		t.Error(err)
	}
	finish(t, q)
}

// outside is the world of the child: peers, mailboxes, and a list of events
// that outlives it.
type outside struct {
	t   *testing.T
	dir string
	q   *queue.Queue
	mu  sync.Mutex
}

func (w *outside) killer(spec string) func(string) {
	point, n, _ := strings.Cut(spec, ":")
	left, _ := strconv.Atoi(n)
	var mu sync.Mutex
	return func(at string) {
		mu.Lock()
		defer mu.Unlock()
		w.note("point %s", at)
		if at != point {
			return
		}
		if left--; left == 0 {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			time.Sleep(time.Hour) // the signal comes any moment
		}
	}
}

func (w *outside) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f, err := os.OpenFile(filepath.Join(w.dir, "events"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	fmt.Fprintf(f, format+"\n", args...)
}

func events(t testing.TB, dir string) (lines []string) {
	f, err := os.Open(filepath.Join(dir, "events"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		lines = append(lines, s.Text())
	}
	return lines
}

// submit sends the message of ours, unless an earlier life took it.
func (w *outside) submit() {
	if slices.Contains(events(w.t, w.dir), "250 submitted") {
		return
	}
	if err := w.q.Put(w.t.Context(), sealed(w.t, "ours", "bob@b.example", "good@c.example", "bad@c.example")); err != nil {
		w.t.Fatal(err)
	}
	w.note("250 submitted")
}

func (w *outside) sendLetters() {
	for i, text := range letters {
		done := fmt.Sprintf("250 letter %d", i)
		if slices.Contains(events(w.t, w.dir), done) {
			continue
		}
		msg := fmt.Sprintf("Received: %d %s\r\n\r\n%s", i, time.Now(), text)
		if _, err := w.q.Receive(w.t.Context(), envelope(w.t, "ann@a.example", "bob@b.example"), strings.NewReader(msg), nil); err != nil {
			w.t.Fatal(err)
		}
		w.note("%s", done)
	}
}

// inbound is the agent in small: stage, settle, discard.
func (w *outside) inbound(ctx context.Context, i queue.Item) error {
	_, text, _ := strings.Cut(readAll(w.t, i.Open), "\r\n\r\n")
	for _, sub := range []string{"tmp", "new"} {
		if err := os.MkdirAll(filepath.Join(w.dir, sub), 0o700); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(w.dir, "tmp", i.ID), []byte(text), 0o600); err != nil {
		return err
	}
	d := mail.Delivery{Recipient: i.Envelope.To[0], Digest: sha256.Sum256([]byte(text)), Staged: i.ID}
	notice := sealed(w.t, "notice-"+text, "bob@b.example", "ann@a.example")
	fresh, err := w.q.Settle(ctx, i.ID, []mail.Delivery{d}, []smime.Sealed{notice})
	if err == nil && len(fresh) == 0 {
		err = os.Remove(filepath.Join(w.dir, "tmp", i.ID))
	}
	return err
}

func (w *outside) publish(_ context.Context, d mail.Delivery) error {
	err := os.Rename(filepath.Join(w.dir, "tmp", d.Staged), filepath.Join(w.dir, "new", d.Staged))
	if errors.Is(err, os.ErrNotExist) {
		return nil // done before
	}
	return err
}

func (w *outside) outbound(_ context.Context, a queue.Attempt) []error {
	errs := make([]error, len(a.To))
	for i, to := range a.To {
		r, err := a.Open()
		if err != nil {
			w.t.Error(err)
			return errs
		}
		n, err := io.Copy(io.Discard, r)
		r.Close()
		switch {
		case err != nil || n != a.Size:
			w.t.Errorf("%d of %d octets, %v", n, a.Size, err)
		case to.Local() == "bad":
			errs[i] = permanent
		default:
			w.note("sent %s %s %s", a.MessageID, to, a.ID)
		}
	}
	return errs
}

func (w *outside) expired(_ context.Context, a queue.Attempt, rcpt direct.Address, _ error) error {
	w.note("expired %s %s %s", a.MessageID, rcpt, a.ID)
	return nil
}

// live runs a child until it ends or kills itself.
func live(t *testing.T, dir, kill string) (killed bool) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestKillChild$")
	child.Env = append(os.Environ(), envChild+"="+dir, envKill+"="+kill)
	out, err := child.CombinedOutput()
	if err == nil {
		return false
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return true
	}
	t.Fatalf("child: %v\n%s", err, out)
	return false
}

func TestKillAtEveryPoint(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many processes")
	}
	whole := tempDir(t)
	if live(t, whole, "") {
		t.Fatal("the child was killed by somebody else")
	}
	audit(t, whole, "")
	count := map[string]int{}
	for _, line := range events(t, whole) {
		if point, ok := strings.CutPrefix(line, "point "); ok {
			count[point]++
		}
	}
	// Where handlers and transactions meet, the last time is another story than
	// the first: the duplicate has been settled by then.
	again := []string{"settle.committed", "inbound.done", "publish.done", "outbound.done"}
	for _, point := range []string{
		"put.written", "put.renamed", "put.synced", "put.committed",
		"receive.written", "receive.renamed", "receive.synced", "receive.committed",
		"settle.written", "settle.renamed", "settle.synced", "settle.committed", "settle.removed",
		"inbound.done", "publish.done", "publish.recorded",
		"outbound.done", "outbound.recorded", "expired.done", "expired.recorded",
	} {
		if count[point] == 0 {
			t.Errorf("point %s is never passed", point)
		}
		times := []int{1}
		if slices.Contains(again, point) {
			times = append(times, count[point])
		}
		for _, n := range times {
			t.Run(fmt.Sprintf("%s_%d", point, n), func(t *testing.T) {
				t.Parallel()
				dir := tempDir(t)
				live(t, dir, fmt.Sprintf("%s:%d", point, n))
				if live(t, dir, "") {
					t.Fatal("killed in its second life")
				}
				audit(t, dir, point)
			})
		}
	}
}

// audit looks at what the world outside has seen in all lives together.
func audit(t *testing.T, dir, point string) {
	t.Helper()
	seen := map[string]int{} // without the queue's name: how often
	names := map[string]map[string]bool{}
	for _, line := range events(t, dir) {
		f := strings.Fields(line)
		if f[0] != "sent" && f[0] != "expired" {
			continue
		}
		key := strings.Join(f[:3], " ")
		seen[key]++
		if names[key] == nil {
			names[key] = map[string]bool{}
		}
		names[key][f[3]] = true
	}
	for _, key := range []string{
		"sent notice-one ann@a.example", "sent notice-two ann@a.example",
		"sent ours good@c.example", "expired ours bad@c.example",
	} {
		// Delivery is at least once: a second time only where the process may
		// have died between an effect and its record (handlers run side by side),
		// or before the submitter had its 250.
		most := 2
		if point == "" || strings.HasPrefix(point, "receive.") {
			most = 1
		}
		if n := seen[key]; n < 1 || n > most {
			t.Errorf("%q happened %d times; want 1 to %d", key, n, most)
		}
		// A notice is never made twice, only sent twice.
		if strings.Contains(key, "notice") && len(names[key]) != 1 {
			t.Errorf("%q under %d names", key, len(names[key]))
		}
	}
	var delivered []string
	list, err := os.ReadDir(filepath.Join(dir, "new"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		b, err := os.ReadFile(filepath.Join(dir, "new", e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		delivered = append(delivered, string(b))
	}
	slices.Sort(delivered)
	if want := []string{"one", "two"}; !slices.Equal(delivered, want) {
		t.Errorf("delivered %v; want %v", delivered, want)
	}
	q := open(t, filepath.Join(dir, "q"), queue.Options{})
	wantList(t, q)
	if left := spool(t, filepath.Join(dir, "q")); len(left) != 0 {
		t.Errorf("left in the spool: %v", left)
	}
}
