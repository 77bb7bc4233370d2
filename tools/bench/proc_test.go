package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// helperMode makes the test binary a process that uses CPU, see helper.
const helperMode = "BENCH_TEST_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(helperMode) != "" {
		if err := helper(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// helper uses CPU in a thread, then in a child that does the same, says what
// the kernel charged it for and stays until its input ends.
func helper() error {
	if os.Getenv(helperMode) == "parent" {
		c, in, err := startHelper("child")
		if err != nil {
			return err
		}
		defer c.Wait()
		defer in.Close()
	}
	deadline := 200 * time.Millisecond
	for used() < deadline {
		for i := range 1 << 20 {
			sink += i
		}
	}
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

var sink int

func used() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return time.Hour
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// startHelper starts a helper and waits until it has used its CPU.
func startHelper(as string) (*exec.Cmd, io.Closer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	c := exec.Command(self)
	c.Env = append(os.Environ(), helperMode+"="+as)
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := c.Start(); err != nil {
		return nil, nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready\n" {
		return nil, nil, fmt.Errorf("helper said %q: %w", line, err)
	}
	return c, in, nil
}

// TestTheClockCountsTheWholeTree: a process and its child, each of which the
// kernel has charged for 200 ms at least.
func TestTheClockCountsTheWholeTree(t *testing.T) {
	c, in, err := startHelper("parent")
	if err != nil {
		t.Fatal(err)
	}
	pids := tree(c.Process.Pid)
	if len(pids) != 2 || pids[0] != c.Process.Pid {
		t.Fatalf("tree = %v, want the helper %d and its child", pids, c.Process.Pid)
	}
	whole, err := readClock(pids)
	if err != nil {
		t.Fatal(err)
	}
	one, err := readClock(pids[:1])
	if err != nil {
		t.Fatal(err)
	}
	if m, err := memory(pids); err != nil || m.all < 1<<20 || m.files > m.all {
		t.Errorf("memory = %+v, %v", m, err)
	}
	in.Close()
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	// The account of the kernel when all has ended: both processes.
	charged := c.ProcessState.UserTime() + c.ProcessState.SystemTime()
	sum, alone := whole.since(nil), one.since(nil)
	if sum < 390*time.Millisecond || sum > charged+20*time.Millisecond {
		t.Errorf("the clock of both says %v, the kernel charged %v", sum, charged)
	}
	if alone >= sum || alone < 190*time.Millisecond {
		t.Errorf("the clock of the parent says %v, that of both %v", alone, sum)
	}
}

func TestSinceCountsNewThreadsAndForgetsEndedOnes(t *testing.T) {
	before := cpuClock{"a": 100, "ended": 50}
	after := cpuClock{"a": 130, "new": 7}
	if got := after.since(before); got != 37 {
		t.Errorf("since = %d, want 30 of a and 7 of new", got)
	}
}

func TestAClockNeedsAProcess(t *testing.T) {
	c, in, err := startHelper("child")
	if err != nil {
		t.Fatal(err)
	}
	in.Close()
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := readClock([]int{c.Process.Pid}); err == nil {
		t.Error("a process that has ended has a clock")
	}
}

func TestParseStat(t *testing.T) {
	const rest = " S 17 1 1 0 -1 4194560 1 2 3 4 250 50 9 9 20 0 1 0 1"
	for name, c := range map[string]struct {
		line string
		want stat
		bad  bool
	}{
		"plain":          {line: "42 (nsd)" + rest, want: stat{42, 17, 'S', 3 * time.Second}},
		"blanks":         {line: "42 (nsd: server 1)" + rest, want: stat{42, 17, 'S', 3 * time.Second}},
		"parentheses":    {line: "42 (a) R 1 (b)" + rest, want: stat{42, 17, 'S', 3 * time.Second}},
		"no name":        {line: "42 nsd" + rest, bad: true},
		"cut short":      {line: "42 (nsd) S 17 1", bad: true},
		"not numbers":    {line: "42 (nsd)" + strings.ReplaceAll(rest, "250", "x"), bad: true},
		"empty":          {bad: true},
		"only the names": {line: ")(", bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseStat([]byte(c.line))
			if (err != nil) != c.bad || got != c.want {
				t.Errorf("parseStat = %+v, %v", got, err)
			}
		})
	}
}

// TestStopEndsTheTree: a server's child ends with it.
func TestStopEndsTheTree(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), helperMode+"=parent")
	if cmd.Stdin, _, err = os.Pipe(); err != nil { // stays open: they end by signals alone
		t.Fatal(err)
	}
	p, err := startOn(anyCore, cmd, t.TempDir()+"/output")
	if err != nil {
		t.Fatal(err)
	}
	for p.said() != "ready" {
		if p.ended() {
			t.Fatal(p.said())
		}
		time.Sleep(time.Millisecond)
	}
	pids := tree(cmd.Process.Pid)
	p.stop()
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d of %v lives", pid, pids)
		}
	}
}

func TestParseRollup(t *testing.T) {
	const text = "55d0-7ffe ---p 00000000 00:00 0   [rollup]\nRss:   9 kB\nPss:                1500 kB\nPss_Dirty:   3 kB\nPss_Anon: 1000 kB\nPss_File:            500 kB\nPss_Shmem: 0 kB\n"
	if u, err := parseRollup([]byte(text)); err != nil || u != (usage{all: 1500 << 10, files: 500 << 10, anon: 1000 << 10, resident: 9 << 10}) {
		t.Errorf("parseRollup = %+v, %v", u, err)
	}
	for _, bad := range []string{"", "Rss: 9 kB\n", "Pss: x kB\n", "Pss:\n"} {
		if u, err := parseRollup([]byte(bad)); err == nil {
			t.Errorf("%q: %+v", bad, u)
		}
	}
}
