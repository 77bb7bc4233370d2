package queue_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"directnode/internal/durable"
	"directnode/internal/mail"
	"directnode/sta/queue"
)

func TestAReceivedMessageIsHandedOnAsItCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := tempDir(t)
		q := open(t, dir, queue.Options{})
		env := envelope(t, "ann@a.example", "bob@b.example", "ben@b.example")
		var header string
		id, err := q.Receive(t.Context(), env, strings.NewReader(wire), func(h []byte) error {
			header = string(h)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if want := wire[:strings.Index(wire, "MIIB")]; header != want {
			t.Errorf("admit got %q; want %q", header, want)
		}
		if got, err := os.ReadFile(filepath.Join(dir, "spool", id)); string(got) != wire {
			t.Errorf("spool file %q, %v", got, err)
		}
		wantList(t, q, "inbound due bob@b.example,ben@b.example 0")
		if q.Depth() != (queue.Depth{Inbound: 1}) {
			t.Errorf("depth %+v", q.Depth())
		}
		var got queue.Item
		var content string
		stop := run(t, q, queue.Handlers{Inbound: func(_ context.Context, i queue.Item) error {
			got, content = i, readAll(t, i.Open)
			return nil
		}})
		synctest.Wait()
		stop()
		env.ID = id
		if content != wire || got.ID != id || got.Attempt != 1 || got.Size != int64(len(wire)) || !sameEnvelope(got.Envelope, env) {
			t.Errorf("item %+v with %q; want envelope %+v", got, content, env)
		}
		wantList(t, q)
		if left := spool(t, dir); len(left) != 0 {
			t.Errorf("left in the spool: %v", left)
		}
	})
}

func sameEnvelope(a, b mail.Envelope) bool {
	if len(a.To) != len(b.To) {
		return false
	}
	for i := range a.To {
		if a.To[i] != b.To[i] {
			return false
		}
	}
	return a.ID == b.ID && a.From == b.From && a.NullPath == b.NullPath && a.Peer == b.Peer && a.Helo == b.Helo && a.TLS == b.TLS && a.At.Equal(b.At)
}

func TestTheNullPathAndAGivenNameSurviveARestart(t *testing.T) {
	dir := tempDir(t)
	q := open(t, dir, queue.Options{})
	env := mail.Envelope{ID: "node-a.0001", NullPath: true, To: addrs(t, `"odd user"@b.example`), At: time.Now()}
	if id := receive(t, q, env, wire); id != env.ID {
		t.Errorf("id %q", id)
	}
	if _, err := q.Receive(t.Context(), env, strings.NewReader(wire), nil); err == nil {
		t.Error("a second message of one name was taken")
	}
	finish(t, q)
	q = open(t, dir, queue.Options{})
	got := make(chan queue.Item, 1)
	stop := run(t, q, queue.Handlers{Inbound: func(_ context.Context, i queue.Item) error { got <- i; return nil }})
	defer stop()
	if i := <-got; !sameEnvelope(i.Envelope, env) {
		t.Errorf("envelope %+v; want %+v", i.Envelope, env)
	}
}

func TestWhatAdmitRefusesIsNotStored(t *testing.T) {
	dir := tempDir(t)
	q := open(t, dir, queue.Options{})
	read := 0
	body := readerFunc(func(p []byte) (int, error) { read++; return 0, errors.New("the body was read") })
	_, err := q.Receive(t.Context(), envelope(t, "ann@a.example", "bob@b.example"), io.MultiReader(strings.NewReader("Subject: x\r\n\r\n"), body), func([]byte) error { return permanent })
	if err != error(permanent) {
		t.Errorf("error %v; want the reply of admit as it is", err)
	}
	if read > 0 {
		t.Error("the body was read although the header was refused")
	}
	if left := spool(t, dir); len(left) != 0 {
		t.Errorf("in the spool: %v", left)
	}
	wantList(t, q)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestLimitsOfAReceivedMessage(t *testing.T) {
	dir := tempDir(t)
	q := open(t, dir, queue.Options{MaxBytes: 200 << 10})
	line := "X-Pad: " + strings.Repeat("x", 91) + "\r\n" // 100 octets
	for _, tt := range []struct {
		name string
		msg  string
		want error
	}{
		{"header at its limit", strings.Repeat(line, 1023) + "X: " + strings.Repeat("x", 93) + "\r\n\r\n", nil},
		{"header above its limit", strings.Repeat(line, 1025) + "\r\n", queue.ErrHeaderTooLarge},
		{"one endless line", strings.Repeat("x", 150<<10), queue.ErrHeaderTooLarge},
		{"message at its limit", "A: b\r\n\r\n" + strings.Repeat("x", 200<<10-8), nil},
		{"message above its limit", "A: b\r\n\r\n" + strings.Repeat("x", 200<<10-7), queue.ErrTooLarge},
		{"no body", "A: b\r\n", nil},
		{"bare LF", "A: b\n\nbody\n", nil},
		{"nothing", "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(spool(t, dir))
			_, err := q.Receive(t.Context(), envelope(t, "ann@a.example", "bob@b.example"), strings.NewReader(tt.msg), nil)
			if !errors.Is(err, tt.want) {
				t.Errorf("error %v; want %v", err, tt.want)
			}
			stored := len(spool(t, dir)) - before
			if (stored == 1) != (tt.want == nil) || stored > 1 {
				t.Errorf("%d files were stored", stored)
			}
		})
	}
	if _, err := q.Receive(t.Context(), mail.Envelope{ID: "../x"}, strings.NewReader(wire), nil); err == nil {
		t.Error("a name that leaves the spool was taken")
	}
}

func TestAReaderThatFailsLeavesNothing(t *testing.T) {
	dir := tempDir(t)
	q := open(t, dir, queue.Options{})
	_, err := q.Receive(t.Context(), envelope(t, "ann@a.example", "bob@b.example"),
		io.MultiReader(strings.NewReader(wire), readerFunc(func([]byte) (int, error) { return 0, errBoom })), nil)
	if !errors.Is(err, errBoom) {
		t.Errorf("error %v", err)
	}
	if left := spool(t, dir); len(left) != 0 {
		t.Errorf("in the spool: %v", left)
	}
}

func TestReceiveFromManyAtOnce(t *testing.T) {
	const n = 60
	q := open(t, tempDir(t), queue.Options{})
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if _, err := q.Receive(t.Context(), envelope(t, "ann@a.example", "bob@b.example"), strings.NewReader(wire), nil); err != nil {
				t.Error(err)
			}
			if p := q.Check(); len(p) > 0 {
				t.Errorf("check while others work: %v", p)
			}
		})
	}
	wg.Wait()
	if got := len(list(t, q)); got != n {
		t.Errorf("%d messages; want %d", got, n)
	}
}

// The archive holds what crossed the wire, with its Return-Path first, and a
// failure to write it does not cost the message.
func TestArchive(t *testing.T) {
	archive := filepath.Join(tempDir(t), "archive")
	q := open(t, tempDir(t), queue.Options{Archive: archive})
	id := receive(t, q, envelope(t, "ann@a.example", "bob@b.example"), wire)
	got, err := os.ReadFile(filepath.Join(archive, id+".eml"))
	if want := "Return-Path: <ann@a.example>\r\n" + wire; string(got) != want {
		t.Errorf("archived %q, %v; want %q", got, err, want)
	}
	if err := os.RemoveAll(archive); err != nil {
		t.Fatal(err)
	}
	receive(t, q, envelope(t, "ann@a.example", "bob@b.example"), wire)
	if got := len(list(t, q)); got != 2 {
		t.Errorf("%d messages; want 2", got)
	}
}

// No fault of the disk may lead to an acknowledgment, and after each the
// queue works on.
func TestReceiveNeverAcknowledgesAfterAFault(t *testing.T) {
	for k := 1; ; k++ {
		fsys := durable.NewCrashFS()
		q := open(t, tempDir(t), queue.OnFS(queue.Options{}, fsys))
		fsys.FailAt(k, errBoom)
		_, err := q.Receive(t.Context(), envelope(t, "ann@a.example", "bob@b.example"), strings.NewReader(wire), nil)
		if fsys.Ops() < k {
			if err != nil || k < 5 {
				t.Errorf("end at %d: %v", k, err)
			}
			return
		}
		if !errors.Is(err, errBoom) {
			t.Errorf("fault at %d: %v", k, err)
		}
		wantList(t, q)
		receive(t, q, envelope(t, "ann@a.example", "bob@b.example"), wire)
	}
}

func TestOnlyOneProcessHoldsAQueue(t *testing.T) {
	dir := tempDir(t)
	open(t, dir, queue.Options{})
	_, err := queue.Open(dir, queue.Options{})
	var held *durable.LockedError
	if !errors.As(err, &held) || held.PID != os.Getpid() {
		t.Errorf("error %v", err)
	}
}

func TestAClosedQueueTakesNothing(t *testing.T) {
	q, err := queue.Open(tempDir(t), queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = q.Receive(t.Context(), envelope(t, "ann@a.example", "bob@b.example"), strings.NewReader(wire), nil)
	_, err2 := q.List(t.Context())
	for _, err := range []error{err, err2, q.Put(t.Context(), sealed(t, "1", "ann@a.example", "bob@b.example")), q.Run(t.Context(), queue.Handlers{}), q.Retry(t.Context(), "x"), q.Drop(t.Context(), "x")} {
		if !errors.Is(err, queue.ErrClosed) {
			t.Errorf("error %v", err)
		}
	}
}
