package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// stopWait is how long a server may take to end by itself. NSD and Knot
	// need seconds to free a million names.
	stopWait = 20 * time.Second

	// maxLog is what is read of the end of a server's output for an error.
	maxLog = 2 << 10
)

// process is a server under measurement with everything that it started.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when the first process has ended
}

// pin binds this whole process to a core. Threads that come later inherit that.
func pin(core int) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	var one unix.CPUSet
	one.Set(core)
	for _, t := range threads {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(tid, &one); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("core %d: %w; choose others with -server-core and -client-core", core, err)
		}
	}
	return nil
}

// anyCore is for programs that are not bound.
const anyCore = -1

// startOn starts a program bound to one core. It gets a process group of its
// own, so that Ctrl-C reaches it through stop alone, and dies with us.
func startOn(core int, cmd *exec.Cmd, log string) (*process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := onCore(core, cmd.Start); err != nil {
		return nil, fmt.Errorf("%s: %w", cmd.Path, err)
	}
	p := &process{cmd: cmd, log: log, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(p.done)
	}()
	return p, nil
}

// onCore runs f on a thread that is bound to one core; what f starts inherits
// that.
func onCore(core int, f func() error) error {
	if core == anyCore {
		return f()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	one.Set(core)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("core %d: %w; choose others with -server-core and -client-core", core, err)
	}
	err := f()
	return errors.Join(err, unix.SchedSetaffinity(0, &before))
}

// stop ends a server: politely first, then every process of its tree by force.
func (p *process) stop() {
	pids := tree(p.cmd.Process.Pid)
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.done:
	case <-time.After(stopWait):
	}
	for _, pid := range pids {
		for alive(pid) {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may end in between
			time.Sleep(time.Millisecond)
		}
	}
	<-p.done
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// said is the end of what a server printed.
func (p *process) said() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b[max(0, len(b)-maxLog):]))
}

// alive tells whether a process still runs; one that only waits for its parent
// to take notice does not.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	s, err := parseStat(b)
	return err == nil && s.state != 'Z' && s.state != 'X'
}

// tree is a process and all that descend from it.
func tree(root int) []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is good
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // ended meanwhile
		}
		if s, err := parseStat(b); err == nil {
			children[s.parent] = append(children[s.parent], s.pid)
		}
	}
	pids := []int{root}
	for i := 0; i < len(pids); i++ {
		pids = append(pids, children[pids[i]]...)
	}
	return pids
}

// stat is what is used of /proc/PID/stat (proc_pid_stat(5)).
type stat struct {
	pid, parent int
	state       byte
	cpu         time.Duration // user and system
}

// userHZ is the unit of times in /proc; it is 100 on every Linux port that Go
// runs on.
const userHZ = 100

// parseStat reads a stat line. The program's name stands in parentheses and may
// hold anything, parentheses and blanks too.
func parseStat(b []byte) (stat, error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return stat{}, errors.New("no program's name")
	}
	fields := strings.Fields(string(b[end+1:])) // from field 3, the state
	if len(fields) < 13 {
		return stat{}, errors.New("too few fields")
	}
	var n [4]int
	for i, text := range []string{strings.TrimSpace(string(b[:open])), fields[1], fields[11], fields[12]} {
		v, err := strconv.Atoi(text)
		if err != nil {
			return stat{}, err
		}
		n[i] = v
	}
	return stat{n[0], n[1], fields[0][0], time.Duration(n[2]+n[3]) * time.Second / userHZ}, nil
}

// cpuClock is what every thread of a server had run at one moment.
type cpuClock map[string]time.Duration

// readClock reads schedstat, which counts nanoseconds, thread by thread, and
// stat, which counts hundredths of a second, where the kernel has no schedstat.
func readClock(pids []int) (cpuClock, error) {
	clock := cpuClock{}
	for _, pid := range pids {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid)) // the pattern is good
		for _, t := range threads {
			if d, err := threadTime(t); err == nil {
				clock[t] = d
			} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ESRCH) {
				return nil, err
			}
		}
	}
	if len(clock) == 0 {
		return nil, errors.New("the server has ended")
	}
	return clock, nil
}

func threadTime(dir string) (time.Duration, error) {
	b, err := os.ReadFile(dir + "/schedstat")
	if err == nil {
		first, _, _ := bytes.Cut(b, []byte(" "))
		ns, err := strconv.ParseInt(string(first), 10, 64)
		return time.Duration(ns), err
	}
	if b, err = os.ReadFile(dir + "/stat"); err != nil {
		return 0, err
	}
	s, err := parseStat(b)
	return s.cpu, err
}

// since is what the threads have run from one reading to the next. A thread
// that is new counts from its beginning; what one that is gone ran last is
// unknown and left out.
func (c cpuClock) since(before cpuClock) time.Duration {
	var sum time.Duration
	for t, d := range c {
		sum += d - before[t]
	}
	return sum
}

// usage is the proportional set size of processes, in octets: pages that
// several share count once.
type usage struct {
	all, files, anon int64 // all, and of it mapped files and what is no file
	resident         int64 // resident set size: shared pages count in full
}

// memory adds up what processes have in memory, and how much of that is mapped
// files, which the kernel can drop.
func memory(pids []int) (usage, error) {
	var sum usage
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return usage{}, err
		}
		u, err := parseRollup(b)
		if err != nil {
			return usage{}, fmt.Errorf("process %d: %w", pid, err)
		}
		sum.all, sum.files, sum.anon, sum.resident = sum.all+u.all, sum.files+u.files, sum.anon+u.anon, sum.resident+u.resident
	}
	return sum, nil
}

// parseRollup reads /proc/PID/smaps_rollup (proc_pid_smaps(5)).
func parseRollup(b []byte) (usage, error) {
	var u usage
	found := false
	fields := map[string]*int64{"Pss": &u.all, "Pss_File": &u.files, "Pss_Anon": &u.anon, "Rss": &u.resident}
	for line := range strings.Lines(string(b)) {
		name, rest, _ := strings.Cut(line, ":")
		field := fields[name]
		if field == nil {
			continue
		}
		kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
		if err != nil {
			return u, err
		}
		*field = kb << 10
		found = found || name == "Pss"
	}
	if !found {
		return u, errors.New("no Pss in its smaps_rollup")
	}
	return u, nil
}

// output runs a program of the administrator's on a core and gives what it
// printed.
func output(ctx context.Context, core int, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := onCore(core, cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	text := strings.TrimSpace(out.String())
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args, " "), err, text[max(0, len(text)-maxLog):])
	}
	return text, err
}
