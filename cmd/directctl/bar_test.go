package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"directnode/internal/admin"
)

func TestTheBarShowsWhereAnImportIs(t *testing.T) {
	for want, c := range map[string]struct {
		p     admin.Progress
		spent time.Duration
	}{
		"reading  [###############...............]  50% 512 KiB of 1024 KiB, 10s left": {admin.Progress{Stage: "reading", Done: 512 << 10, Total: 1 << 20}, 10 * time.Second},
		"sending  [##############################] 100% 1700 MiB of 1700 MiB":          {admin.Progress{Stage: "sending", Done: 1700 << 20, Total: 1700 << 20}, time.Minute},
		"storing  [###...........................]  10% 10000 of 100000, 1m30s left":   {admin.Progress{Stage: "storing", Done: 10000, Total: 100000}, 10 * time.Second},
		"storing  7s":    {admin.Progress{Stage: "storing"}, 7*time.Second + 900*time.Millisecond},
		"reading  2 KiB": {admin.Progress{Stage: "reading", Done: 2048}, time.Second},
		"storing  5":     {admin.Progress{Stage: "storing", Done: 5, Total: 4}, time.Second},
	} {
		if got := barLine(c.p, c.spent); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestTheBarComesLateAndGoes: a short import draws nothing, and nothing of a
// long one stays on the screen.
func TestTheBarComesLateAndGoes(t *testing.T) {
	var out bytes.Buffer
	start := time.Unix(0, 0)
	b := newBar(&out, start)
	b.show(start.Add(900*time.Millisecond), admin.Progress{Stage: "reading", Done: 1, Total: 2})
	b.clear()
	if out.Len() != 0 {
		t.Errorf("drew %q too early", out.String())
	}
	b.show(start.Add(1100*time.Millisecond), admin.Progress{Stage: "reading", Done: 1, Total: 2})
	b.show(start.Add(1150*time.Millisecond), admin.Progress{Stage: "reading", Done: 2, Total: 2})
	if n := strings.Count(out.String(), "\r"); n != 1 {
		t.Errorf("drew %d times in a moment", n)
	}
	b.clear()
	b.clear()
	if !strings.HasSuffix(out.String(), "\r\x1b[K") || strings.Count(out.String(), "\r") != 2 {
		t.Errorf("left %q", out.String())
	}
	var none *bar
	none.show(start, admin.Progress{})
	none.clear()
}

func TestNoBarWherePeopleDoNotLook(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/err")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	terminal, err := os.Open(os.DevNull) // a character device, as a terminal is
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	t.Setenv("TERM", "xterm")
	for name, c := range map[string]struct {
		tool tool
		want bool
	}{
		"a terminal": {tool{errOut: terminal, format: "text"}, true},
		"JSON":       {tool{errOut: terminal, format: "json"}, false},
		"a file":     {tool{errOut: file, format: "text"}, false},
		"not a file": {tool{errOut: &bytes.Buffer{}, format: "text"}, false},
	} {
		if got := c.tool.progress() != nil; got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
