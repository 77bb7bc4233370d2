package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"directnode/internal/durable"
	"directnode/sta/queue"
)

// ofSize is an inbound message of n octets.
func ofSize(n int) string { return wire + strings.Repeat("x", n-len(wire)) }

// Whoever sends what nobody may have fills his share of the disk and no more:
// the oldest make room, in one go, and leave one line in the log.
func TestRefusedMessagesTakeNoMoreThanTheirShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		dir := tempDir(t)
		q := open(t, dir, queue.Options{MaxHeld: 80 << 10, Log: slog.New(slog.NewTextHandler(&log, nil))})
		h := queue.Handlers{Inbound: func(_ context.Context, i queue.Item) error {
			if i.Envelope.To[0].Local() == "bad" {
				return permanent
			}
			return temporary
		}}
		stop := run(t, q, h)
		defer stop()
		receive(t, q, envelope(t, "ann@a.example", "bob@b.example"), ofSize(40<<10)) // waits for its next attempt; no refused one
		var ids []string
		for range 10 { // eight of them, 10 KiB counted as three blocks of 4, are too many
			sleep(time.Second)
			ids = append(ids, receive(t, q, envelope(t, "ann@a.example", "bad@b.example"), ofSize(10<<10)))
			synctest.Wait()
		}
		left := spool(t, dir)
		if n := len(left) - 1; n < 5 || n > 6 {
			t.Errorf("%d refused messages are held; want 5 or 6", n)
		}
		if slices.Contains(left, ids[0]) || !slices.Contains(left, ids[9]) {
			t.Errorf("held %v of %v; the oldest go first", left, ids)
		}
		if n := strings.Count(log.String(), "make room"); n < 1 || n > 3 {
			t.Errorf("%d lines in the log", n)
		}
		if q.Depth().Inbound != 1 {
			t.Errorf("depth %+v", q.Depth())
		}
	})
}

// A message that only our own faults kept from being judged is the peer's no
// more and the recipient's not yet: it waits for the operator, however long,
// and no flood of refused ones pushes it out.
func TestWhatOurOwnFaultsHeldUpIsKeptUntilTheOperatorActs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := tempDir(t)
		q := open(t, dir, queue.Options{Retry: fixed, MaxHeld: 80 << 10})
		fault := true
		h := queue.Handlers{Inbound: func(_ context.Context, i queue.Item) error {
			switch {
			case i.Envelope.To[0].Local() == "bad":
				return permanent
			case i.Envelope.To[0].Local() == "panic":
				panic("what a stranger has found out")
			case fault:
				return errBoom
			}
			return nil
		}}
		stop := run(t, q, h)
		id := receive(t, q, envelope(t, "ann@a.example", "bob@b.example"), ofSize(70<<10))
		receive(t, q, envelope(t, "ann@a.example", "panic@b.example"), wire)
		sleep(2 * time.Hour)
		for range 20 {
			receive(t, q, envelope(t, "ann@a.example", "bad@b.example"), ofSize(10<<10))
			synctest.Wait()
		}
		sleep(30 * 24 * time.Hour)
		stop()
		finish(t, q)
		q = open(t, dir, queue.Options{Retry: fixed, MaxHeld: 80 << 10})
		entries, err := q.List(t.Context())
		if err != nil || len(entries) != 1 || entries[0].ID != id || entries[0].State != "held" {
			t.Fatalf("the queue holds %+v, %v", entries, err)
		}
		if why := entries[0].LastError; !strings.Contains(why, "lifetime") || !strings.Contains(why, errBoom.Error()) {
			t.Errorf("the reason is %q", why)
		}
		stop = run(t, q, h)
		defer stop()
		fault = false
		if err := q.Retry(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wantList(t, q)
	})
}

// Near the end of the disk nothing new is taken, so that what was taken can be
// delivered; the peer keeps it and comes again.
func TestNothingIsTakenWhereTheDiskIsFull(t *testing.T) {
	free := int64(1 << 20)
	dir := tempDir(t)
	q := open(t, dir, queue.WithFree(queue.Options{MinFree: 1 << 20}, func(string) (int64, error) { return free, nil }))
	id := receive(t, q, envelope(t, "ann@a.example", "bob@b.example"), wire)
	free--
	_, err := q.Receive(t.Context(), envelope(t, "ann@a.example", "bob@b.example"), strings.NewReader(wire), nil)
	for _, err := range []error{err, q.Put(t.Context(), sealed(t, "m1", "ann@a.example", "cat@c.example"))} {
		if !errors.Is(err, queue.ErrNoSpace) {
			t.Errorf("error %v", err)
		}
	}
	wantList(t, q, "inbound due bob@b.example 0")
	if _, err := q.Settle(t.Context(), id, nil, nil); err != nil {
		t.Errorf("what was taken is not settled: %v", err)
	}
	if left := spool(t, dir); len(left) != 0 {
		t.Errorf("in the spool: %v", left)
	}
}

func TestADiskThatFillsWhileWritingSaysSo(t *testing.T) {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT} {
		fsys := durable.NewCrashFS()
		q := open(t, tempDir(t), queue.OnFS(queue.Options{}, fsys))
		fsys.FailAt(2, fmt.Errorf("write: %w", full))
		_, err := q.Receive(t.Context(), envelope(t, "ann@a.example", "bob@b.example"), strings.NewReader(wire), nil)
		if !errors.Is(err, queue.ErrNoSpace) {
			t.Errorf("%v: error %v", full, err)
		}
		wantList(t, q)
	}
}
