package durable_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"directnode/internal/durable"
)

func put(content string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, content)
		return err
	}
}

func read(t testing.TB, fsys durable.FS, name string) (string, error) {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), nil
}

// temps returns the temporary files of a directory.
func temps(t testing.TB, fsys durable.FS, dir string) (names []string) {
	t.Helper()
	list, err := fsys.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if durable.IsTemp(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestWriteFileOnTheRealFileSystem(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	for _, content := range []string{"one", "two, longer", ""} {
		if err := durable.WriteFile(durable.OS(), path, 0o600, put(content)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != content {
			t.Fatalf("read %q, %v; want %q", got, err, content)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	if left := temps(t, durable.OS(), dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestWriteFileThatFailsLeavesTheOldFileAndNoTemporaryOne(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	if err := durable.WriteFile(durable.OS(), path, 0o600, put("old")); err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	err := durable.WriteFile(durable.OS(), path, 0o600, func(w io.Writer) error {
		io.WriteString(w, "half")
		return boom
	})
	if !errors.Is(err, boom) || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v: want boom and the path", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "old" {
		t.Errorf("content %q", got)
	}
	if left := temps(t, durable.OS(), dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// The heart of the package: wherever the machine stops and whatever the
// device dropped, the reader sees the old file or the new one, whole; and
// once WriteFile has returned nil, the new one.
func TestWriteFileSurvivesEveryCrash(t *testing.T) {
	old, next := strings.Repeat("old ", 700), strings.Repeat("new ", 1300)
	var acknowledged bool
	setup := func(fsys durable.FS) {
		if err := durable.WriteFile(fsys, "/a", 0o600, put(old)); err != nil {
			t.Fatal(err)
		}
	}
	run := func(fsys durable.FS) {
		acknowledged = durable.WriteFile(fsys, "/a", 0o600, put(next)) == nil
	}
	points := 0
	for c := range durable.Crashes(setup, run) {
		points++
		got, err := read(t, c.After, "/a")
		if err != nil {
			t.Fatalf("op %d %+v: %v", c.Op, c.Loss, err)
		}
		if got != old && got != next {
			t.Errorf("op %d %+v: %d octets that nobody wrote", c.Op, c.Loss, len(got))
		}
		if acknowledged && got != next {
			t.Errorf("op %d %+v: acknowledged and lost", c.Op, c.Loss)
		}
		if acknowledged != c.Whole {
			t.Errorf("op %d: acknowledged %v, whole %v", c.Op, acknowledged, c.Whole)
		}
	}
	if want := 6 * len(durable.Losses()); points != want {
		t.Errorf("%d outcomes seen; want %d: create, write, sync, rename, sync directory, end", points, want)
	}
}

// Each flush is needed: this shows that CrashFS notices when one is left out.
func TestCrashesFindAMissingFlush(t *testing.T) {
	for _, tt := range []struct {
		name string
		run  func(fsys durable.FS) error
	}{
		{"file not synced", func(fsys durable.FS) error {
			f, err := fsys.OpenFile("/t", os.O_WRONLY|os.O_CREATE, 0o600)
			if err != nil {
				return err
			}
			if _, err := f.Write(make([]byte, 3000)); err != nil {
				return err
			}
			if err := fsys.Rename("/t", "/a"); err != nil {
				return err
			}
			return fsys.SyncDir("/")
		}},
		{"directory not synced", func(fsys durable.FS) error {
			f, err := fsys.OpenFile("/a", os.O_WRONLY|os.O_CREATE, 0o600)
			if err != nil {
				return err
			}
			if _, err := f.Write(make([]byte, 3000)); err != nil {
				return err
			}
			return f.Sync()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lost := 0
			var acknowledged bool
			for c := range durable.Crashes(nil, func(fsys durable.FS) { acknowledged = tt.run(fsys) == nil }) {
				got, err := read(t, c.After, "/a")
				if acknowledged && (err != nil || len(got) != 3000) {
					lost++
				}
			}
			if lost == 0 {
				t.Error("no outcome shows the loss")
			}
		})
	}
}

func TestTornContentKeepsTheSizeAndEverySecondSector(t *testing.T) {
	c := durable.NewCrashFS()
	f, err := c.OpenFile("/a", os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f.Write(bytes.Repeat([]byte("x"), 1300))
	got, err := read(t, c.After(durable.Loss{Content: durable.Torn}), "/a")
	want := strings.Repeat("x", 512) + strings.Repeat("\x00", 512) + strings.Repeat("x", 276)
	if err != nil || got != want {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestAWriteAtTheCrashIsCutAtASector(t *testing.T) {
	c := durable.NewCrashFS()
	c.CrashAt(2)
	f, err := c.OpenFile("/a", os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	n, err := f.Write(make([]byte, 3000))
	if n != 1024 || !errors.Is(err, durable.ErrCrashed) {
		t.Errorf("Write = %d, %v", n, err)
	}
	if err := f.Sync(); !errors.Is(err, durable.ErrCrashed) {
		t.Errorf("Sync after the crash: %v", err)
	}
	got, err := read(t, c.After(durable.Loss{}), "/a")
	if len(got) != 1024 || err != nil {
		t.Errorf("%d octets, %v", len(got), err)
	}
}

// WriteFile must never report success after a flush that failed.
func TestWriteFileNeverAcknowledgesAfterAFault(t *testing.T) {
	eio := errors.New("input/output error")
	for k := 1; ; k++ {
		c := durable.NewCrashFS()
		if err := durable.WriteFile(c, "/a", 0o600, put("old")); err != nil {
			t.Fatal(err)
		}
		c.FailAt(k, eio)
		err := durable.WriteFile(c, "/a", 0o600, put("new"))
		if c.Ops() < k {
			if err != nil {
				t.Fatalf("no fault and yet %v", err)
			}
			if k != 6 {
				t.Errorf("%d operations; want 5", k-1)
			}
			return
		}
		if !errors.Is(err, eio) {
			t.Errorf("fault at %d: error %v", k, err)
		}
		if left := temps(t, c, "/"); len(left) != 0 {
			t.Errorf("fault at %d: left %v", k, left)
		}
		if got, err := read(t, c, "/a"); err != nil || got != "old" && got != "new" {
			t.Errorf("fault at %d: %q, %v", k, got, err)
		}
	}
}

func TestMkdirAllSurvivesEveryCrash(t *testing.T) {
	var made bool
	for c := range durable.Crashes(nil, func(fsys durable.FS) { made = durable.MkdirAll(fsys, "/a/b/c", 0o700) == nil }) {
		info, err := c.After.Stat("/a/b/c")
		if made && (err != nil || !info.IsDir() || info.Mode().Perm() != 0o700) {
			t.Errorf("op %d %+v: %v", c.Op, c.Loss, err)
		}
		// The next start makes the rest, and then it stays.
		if err := durable.MkdirAll(c.After, "/a/b/c", 0o700); err != nil {
			t.Errorf("op %d %+v: again: %v", c.Op, c.Loss, err)
		}
		again := c.After.After(durable.Loss{Content: durable.Lost, Entries: durable.Lost})
		if _, err := again.Stat("/a/b/c"); err != nil {
			t.Errorf("op %d %+v: second crash: %v", c.Op, c.Loss, err)
		}
	}
}

func TestMkdirAllOnTheRealFileSystem(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	for range 2 {
		if err := durable.MkdirAll(durable.OS(), dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := durable.MkdirAll(durable.OS(), filepath.Join(dir, "file"), 0o700); err == nil {
		t.Error("a file passed for a directory")
	}
}

// CrashFS must behave as the real file system does where nothing crashes.
func TestCrashFSAgreesWithTheRealOne(t *testing.T) {
	root := t.TempDir()
	real, mem := durable.OS(), durable.NewCrashFS()
	if err := durable.MkdirAll(mem, root, 0o700); err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		name string
		do   func(fsys durable.FS) (string, error)
	}{
		{"open missing", func(f durable.FS) (string, error) { _, err := f.OpenFile(root+"/x", os.O_RDONLY, 0); return "", err }},
		{"open in missing directory", func(f durable.FS) (string, error) {
			_, err := f.OpenFile(root+"/d/x", os.O_CREATE|os.O_WRONLY, 0o600)
			return "", err
		}},
		{"write", func(f durable.FS) (string, error) { return "", durable.WriteFile(f, root+"/x", 0o600, put("hello")) }},
		{"create existing", func(f durable.FS) (string, error) {
			_, err := f.OpenFile(root+"/x", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
			return "", err
		}},
		{"append", func(f durable.FS) (string, error) {
			h, err := f.OpenFile(root+"/x", os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				return "", err
			}
			io.WriteString(h, " world")
			info, err := h.Stat()
			return fmt.Sprint(info.Size()), errors.Join(err, h.Close())
		}},
		{"read", func(f durable.FS) (string, error) { return read(t, f, root+"/x") }},
		{"write a reader", func(f durable.FS) (string, error) {
			h, err := f.OpenFile(root+"/x", os.O_RDONLY, 0)
			if err != nil {
				return "", err
			}
			defer h.Close()
			_, err = io.WriteString(h, "no")
			return fmt.Sprint(err != nil), nil
		}},
		{"mkdir", func(f durable.FS) (string, error) { return "", f.Mkdir(root+"/d", 0o700) }},
		{"mkdir again", func(f durable.FS) (string, error) { return "", f.Mkdir(root+"/d", 0o700) }},
		{"rename", func(f durable.FS) (string, error) { return "", f.Rename(root+"/x", root+"/d/y") }},
		{"rename missing", func(f durable.FS) (string, error) { return "", f.Rename(root+"/x", root+"/d/y") }},
		{"list", func(f durable.FS) (string, error) {
			list, err := f.ReadDir(root)
			return fmt.Sprint(list), err
		}},
		{"list missing", func(f durable.FS) (string, error) { _, err := f.ReadDir(root + "/q"); return "", err }},
		{"sync missing", func(f durable.FS) (string, error) { return "", f.SyncDir(root + "/q") }},
		{"remove directory in use", func(f durable.FS) (string, error) {
			return fmt.Sprint(f.Remove(root+"/d") != nil), nil
		}},
		{"truncate", func(f durable.FS) (string, error) {
			h, err := f.OpenFile(root+"/d/y", os.O_WRONLY|os.O_TRUNC, 0)
			if err != nil {
				return "", err
			}
			info, err := h.Stat()
			return fmt.Sprint(info.Size(), info.Name(), info.Mode()), errors.Join(err, h.Close())
		}},
		{"remove", func(f durable.FS) (string, error) { return "", f.Remove(root + "/d/y") }},
		{"remove again", func(f durable.FS) (string, error) { return "", f.Remove(root + "/d/y") }},
		{"stat gone", func(f durable.FS) (string, error) { _, err := f.Stat(root + "/d/y"); return "", err }},
	}
	kind := func(err error) string {
		for _, k := range []error{fs.ErrNotExist, fs.ErrExist} {
			if errors.Is(err, k) {
				return k.Error()
			}
		}
		return fmt.Sprint(err)
	}
	for _, s := range steps {
		a, aerr := s.do(real)
		b, berr := s.do(mem)
		if a != b || kind(aerr) != kind(berr) {
			t.Errorf("%s: real %q, %v; memory %q, %v", s.name, a, aerr, b, berr)
		}
	}
}

func TestLockSaysWhoHoldsIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := durable.Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = durable.Lock(path)
	var held *durable.LockedError
	if !errors.As(err, &held) || held.PID != os.Getpid() {
		t.Fatalf("second lock: %v", err)
	}
	if want := fmt.Sprintf("%s is locked by process %d", path, os.Getpid()); err.Error() != want {
		t.Errorf("error %q; want %q", err, want)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = durable.Lock(path); err != nil {
		t.Fatal(err)
	}
	l.Close()
}

// TestLockEndsWithItsHolder starts this test binary again; the child takes
// the lock and is killed.
func TestLockEndsWithItsHolder(t *testing.T) {
	if path := os.Getenv("DURABLE_TEST_LOCK"); path != "" {
		l, err := durable.Lock(path)
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println("locked")
		time.Sleep(time.Minute) // the parent kills us long before
		l.Close()
		os.Exit(1)
	}
	path := filepath.Join(t.TempDir(), "lock")
	child := exec.Command(os.Args[0], "-test.run=^TestLockEndsWithItsHolder$")
	child.Env = append(os.Environ(), "DURABLE_TEST_LOCK="+path)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "locked\n" {
		t.Fatalf("child said %q, %v", line, err)
	}
	_, err = durable.Lock(path)
	var held *durable.LockedError
	if !errors.As(err, &held) || held.PID != child.Process.Pid {
		t.Errorf("while the child lives: %v; its number is %d", err, child.Process.Pid)
	}
	child.Process.Kill()
	child.Wait()
	l, err := durable.Lock(path)
	if err != nil {
		t.Fatalf("after the child was killed: %v", err)
	}
	l.Close()
}
