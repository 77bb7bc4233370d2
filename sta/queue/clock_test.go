package queue_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"directnode/internal/mail"
	"directnode/sta/queue"
)

// TestAClockThatWasPutBackLosesNoYear: what was postponed while the clock was
// wrong is tried at the next start, not in a year.
func TestAClockThatWasPutBackLosesNoYear(t *testing.T) {
	dir := tempDir(t)
	var j journal
	fail := queue.Handlers{Inbound: func(context.Context, queue.Item) error { return errBoom }}
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(365 * 24 * time.Hour) // the clock is a year ahead
		q := open(t, dir, queue.Options{})
		stop := run(t, q, fail)
		receive(t, q, envelope(t, "ann@a.example", "bob@b.example"), wire)
		synctest.Wait()
		wantList(t, q, "inbound due bob@b.example 1")
		stop()
		finish(t, q)
	})
	synctest.Test(t, func(t *testing.T) { // and here it is right again
		q := open(t, dir, queue.Options{})
		stop := run(t, q, queue.Handlers{Inbound: func(_ context.Context, i queue.Item) error {
			j.note("attempt %d", i.Attempt)
			return nil
		}})
		sleep(time.Second)
		stop()
		wantList(t, q)
		finish(t, q)
	})
	j.want(t, "attempt 2")
}

// TestAKeptErrorIsText: the index keeps the beginning of a peer's words, never
// half a character.
func TestAKeptErrorIsText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, tempDir(t), queue.Options{})
		text := "x" + strings.Repeat("é", 1000)
		stop := run(t, q, queue.Handlers{Inbound: func(context.Context, queue.Item) error { return errors.Join(&mail.Reply{Code: 451, Text: text}) }})
		receive(t, q, envelope(t, "ann@a.example", "bob@b.example"), wire)
		synctest.Wait()
		stop()
		entries, err := q.List(context.Background())
		if err != nil || len(entries) != 1 {
			t.Fatalf("%+v, %v", entries, err)
		}
		if s := entries[0].LastError; !utf8.ValidString(s) || strings.ContainsRune(s, utf8.RuneError) || len(s) < 400 {
			t.Errorf("kept %q", s)
		}
		finish(t, q)
	})
}
