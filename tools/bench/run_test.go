package main

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// stranger is a server that is absent, or one that ends at once.
type stranger struct{ missing bool }

func (stranger) name() string     { return "stranger" }
func (stranger) settings() string { return "none" }

func (s stranger) version(context.Context) (string, error) {
	if s.missing {
		return "", exec.ErrNotFound
	}
	return "1", nil
}

func (stranger) command(string, netip.AddrPort, *dataSet) (*exec.Cmd, error) {
	return exec.Command("/bin/sh", "-c", "echo no such zone; exit 1"), nil
}

// TestAnAbsentPeerStopsNothing: its column says so.
func TestAnAbsentPeerStopsNothing(t *testing.T) {
	for name, k := range map[string]stranger{"missing": {true}, "ends at once": {false}} {
		t.Run(name, func(t *testing.T) {
			b := &bench{scratch: t.TempDir(), log: io.Discard, data: &dataSet{names: 100, pool: testPool(t, 1199)}}
			b.report = newReport(options{names: 100}, "", time.Unix(0, 0))
			b.o.serverCore = anyCore
			columns, err := b.startAll(t.Context(), []kind{k})
			if err != nil || len(columns) != 1 || columns[0].server != nil {
				t.Fatalf("startAll = %+v, %v", columns, err)
			}
			if text := b.report.markdown(); !strings.Contains(text, "| stranger | absent | none |") {
				t.Errorf("report:\n%s", text)
			}
		})
	}
}

// TestWhatAServerSaidIsTold, for there is nothing else to go by.
func TestWhatAServerSaidIsTold(t *testing.T) {
	d := &dataSet{names: 100, pool: testPool(t, 1199)}
	if _, err := start(t.Context(), anyCore, stranger{}, t.TempDir(), d); err == nil || !strings.Contains(err.Error(), "no such zone") {
		t.Errorf("start = %v", err)
	}
}

func TestTheCacheIsForOneRun(t *testing.T) {
	dir := t.TempDir()
	first, err := lockCache(dir, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	waits := make(chan struct{})
	got := make(chan error, 1)
	go func() {
		second, err := lockCache(dir, func(string, ...any) { close(waits) })
		if err == nil {
			err = second.Close()
		}
		got <- err
	}()
	<-waits
	select {
	case err := <-got:
		t.Fatal(errors.Join(errors.New("two runs have the cache"), err))
	default:
	}
	first.Close()
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}
