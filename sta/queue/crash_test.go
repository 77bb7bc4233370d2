package queue_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"directnode/internal/durable"
	"directnode/internal/mail"
	"directnode/sta/queue"
	"directnode/sta/smime"
)

// TestTheSpoolSurvivesEveryCrash stops the spool's file system at every one of
// its operations while a message is received, one is put and one is settled,
// and looks at every outcome. The index is a real file: it commits only after
// the spool has said that the file is durable, so that its state at the stop is
// the one it has when the call returns with the error of the stop.
func TestTheSpoolSurvivesEveryCrash(t *testing.T) {
	dir, empty := filepath.Join(tempDir(t), "q"), filepath.Join(tempDir(t), "empty")
	finish(t, open(t, empty, queue.Options{}))
	message := strings.Repeat("X-Pad: 0123456789\r\n", 100) + "\r\nbody\r\n"
	put := []smime.Sealed{sealed(t, "put", "ann@a.example", "cat@c.example"), sealed(t, "put", "ann@a.example", "dan@d.example")}
	notices := []smime.Sealed{sealed(t, "n1", "bob@b.example", "ann@a.example"), sealed(t, "n2", "ben@b.example", "ann@a.example")}
	deliveries := []mail.Delivery{delivery(t, "bob@b.example", 1, "1"), delivery(t, "ben@b.example", 1, "2")}

	var acked []string // what the run that was stopped acknowledged
	run := func(fsys durable.FS) {
		acked = nil
		if err := errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(empty))); err != nil {
			t.Fatal(err)
		}
		q, err := queue.Open(dir, queue.OnFS(queue.Options{}, fsys))
		if err != nil {
			return
		}
		defer q.Close()
		ack := func(what string, err error) {
			switch {
			case err == nil:
				acked = append(acked, what)
			case !errors.Is(err, durable.ErrCrashed):
				t.Errorf("%s: %v", what, err)
			}
		}
		_, err = q.Receive(t.Context(), envelope(t, "ann@a.example", "bob@b.example"), strings.NewReader(message), nil)
		ack("received", err)
		id, err := q.Receive(t.Context(), envelope(t, "ann@a.example", "ben@b.example"), strings.NewReader(message), nil)
		if err == nil {
			_, err = q.Settle(t.Context(), id, deliveries, notices)
			ack("settled", err)
		}
		ack("put", q.Put(t.Context(), put...))
	}
	setup := func(fsys durable.FS) {
		if err := durable.MkdirAll(fsys, filepath.Join(dir, "spool"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	points := 0
	for c := range durable.Crashes(setup, run) {
		points++
		q, err := queue.Open(dir, queue.OnFS(queue.Options{}, c.After)) // it changes no row: all outcomes of one stop may share the index
		if err != nil {
			t.Fatalf("op %d %+v: %v", c.Op, c.Loss, err)
		}
		have := list(t, q)
		want := map[string][]string{
			"received": {"inbound due bob@b.example 0"},
			"settled":  {"outbound due ann@a.example 0", "publish due bob@b.example 0", "publish due ben@b.example 0"},
			"put":      {"outbound due cat@c.example 0", "outbound due dan@d.example 0"},
		}
		if slices.Contains(have, want["put"][0]) != slices.Contains(have, want["put"][1]) {
			t.Errorf("op %d %+v: half of what was put together", c.Op, c.Loss)
		}
		for _, what := range acked {
			for _, line := range want[what] {
				if !slices.Contains(have, line) {
					t.Errorf("op %d %+v: %s was acknowledged; %q is lost", c.Op, c.Loss, what, line)
				}
			}
		}
		if c.Whole && len(acked) != 3 {
			t.Errorf("nothing stopped and only %v was acknowledged", acked)
		}
		checkContents(t, q, dir, c, message, append(slices.Clone(notices), put...))
		for _, p := range q.Check() {
			t.Errorf("op %d %+v: %v", c.Op, c.Loss, p)
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	}
	if want := 5*4 + 4; points < want*len(durable.Losses()) {
		t.Errorf("only %d outcomes seen", points)
	}
}

// checkContents reads every message that is due through the queue.
func checkContents(t *testing.T, q *queue.Queue, dir string, c durable.Crash, message string, all []smime.Sealed) {
	t.Helper()
	known := map[string]bool{message: true}
	for _, s := range all {
		var b bytes.Buffer
		if _, err := s.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		known[b.String()] = true
	}
	entries, err := q.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Kind == "publish" {
			continue
		}
		f, err := c.After.OpenFile(filepath.Join(dir, "spool", e.ID), os.O_RDONLY, 0)
		if err != nil {
			t.Errorf("op %d %+v: %v", c.Op, c.Loss, err)
			continue
		}
		b, err := io.ReadAll(f)
		f.Close()
		if err != nil || !known[string(b)] {
			t.Errorf("op %d %+v: message %s has %d octets that nobody wrote, %v", c.Op, c.Loss, e.ID, len(b), err)
		}
	}
}
