package maildir_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"directnode/internal/direct"
	"directnode/internal/durable"
	"directnode/sta/maildir"
)

func addr(t testing.TB, s string) direct.Address {
	t.Helper()
	a, err := direct.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// files returns the content of a folder by file name.
func files(t testing.TB, fsys durable.FS, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	list, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return got
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		f, err := fsys.OpenFile(filepath.Join(dir, e.Name()), os.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		got[e.Name()] = string(b)
	}
	return got
}

const message = "From: ann@a.direct.example\r\n\r\nHello, Bob.\r\n"

func TestAMessageIsSeenOnlyAfterPublish(t *testing.T) {
	m := maildir.New(filepath.Join(t.TempDir(), "mail", "direct"))
	bob := addr(t, "Bob@b.direct.example")
	staged, err := m.Stage(t.Context(), bob, "0001", strings.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	inNew := filepath.Join(m.Folder(bob), "new")
	if got := files(t, durable.OS(), inNew); len(got) != 0 {
		t.Errorf("visible before Publish: %v", got)
	}
	for range 3 { // Publish may be repeated
		if err := m.Publish(t.Context(), bob, staged); err != nil {
			t.Fatal(err)
		}
	}
	if got := files(t, durable.OS(), inNew); len(got) != 1 || got["0001"] != message {
		t.Errorf("in new: %v", got)
	}
	if got := files(t, durable.OS(), filepath.Join(m.Folder(bob), "staged")); len(got) != 0 {
		t.Errorf("left in staged: %v", got)
	}
}

// Mail readers remove what lies in tmp for 36 hours. A message that waits longer
// for its publication must not be among that.
func TestAReaderThatCleansItsMaildirTakesNothingStaged(t *testing.T) {
	m := maildir.New(t.TempDir())
	bob := addr(t, "bob@b.direct.example")
	staged, err := m.Stage(t.Context(), bob, "1", strings.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"tmp", "new", "cur"} {
		for name := range files(t, durable.OS(), filepath.Join(m.Folder(bob), sub)) {
			if err := os.Remove(filepath.Join(m.Folder(bob), sub, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := m.Publish(t.Context(), bob, staged); err != nil {
		t.Fatal(err)
	}
	if got := files(t, durable.OS(), filepath.Join(m.Folder(bob), "new")); len(got) != 1 || got["1"] != message {
		t.Errorf("in new: %v", got)
	}
}

func TestPublishAgainDoesNotBringBackWhatTheReaderTook(t *testing.T) {
	m := maildir.New(t.TempDir())
	bob := addr(t, "bob@b.direct.example")
	staged, err := m.Stage(t.Context(), bob, "1", strings.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Publish(t.Context(), bob, staged); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(m.Folder(bob), "new", "1"), filepath.Join(m.Folder(bob), "cur", "1:2,S")); err != nil {
		t.Fatal(err)
	}
	if err := m.Publish(t.Context(), bob, staged); err != nil {
		t.Fatal(err)
	}
	if got := files(t, durable.OS(), filepath.Join(m.Folder(bob), "new")); len(got) != 0 {
		t.Errorf("published twice: %v", got)
	}
}

func TestDiscardRemovesOnlyWhatIsStaged(t *testing.T) {
	m := maildir.New(t.TempDir())
	bob := addr(t, "bob@b.direct.example")
	one, err := m.Stage(t.Context(), bob, "1", strings.NewReader("one"))
	if err != nil {
		t.Fatal(err)
	}
	two, err := m.Stage(t.Context(), bob, "2", strings.NewReader("two"))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Publish(t.Context(), bob, one); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := errors.Join(m.Discard(one), m.Discard(two)); err != nil {
			t.Fatal(err)
		}
	}
	if got := files(t, durable.OS(), filepath.Join(m.Folder(bob), "staged")); len(got) != 0 {
		t.Errorf("in staged: %v", got)
	}
	if got := files(t, durable.OS(), filepath.Join(m.Folder(bob), "new")); len(got) != 1 || got["1"] != "one" {
		t.Errorf("in new: %v", got)
	}
}

func TestOnlyTheOwnerMayRead(t *testing.T) {
	root := filepath.Join(t.TempDir(), "mail")
	m := maildir.New(root)
	bob := addr(t, "bob@b.direct.example")
	staged, err := m.Stage(t.Context(), bob, "1", strings.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Publish(t.Context(), bob, staged); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"tmp", "new", "cur", "staged"} {
		if info, err := os.Stat(filepath.Join(m.Folder(bob), sub)); err != nil || !info.IsDir() {
			t.Errorf("%s: %v", sub, err)
		}
	}
}

func TestFoldersStayBelowTheDirectoryAndApart(t *testing.T) {
	m := maildir.New("/mail")
	long := strings.Repeat("!", 64) + "@" + strings.Repeat("a.", 80) + "example"
	for _, tt := range []struct{ address, folder string }{
		{"bob@b.direct.example", "bob@b.direct.example"},
		{"BOB@B.Direct.Example", "bob@b.direct.example"},
		{"bob+lab_x-y=z@b.example", "bob+lab_x-y=z@b.example"},
		{"o'neil/x/@b.example", "o%27neil%2Fx%2F@b.example"},
		{`".."@b.example`, "%22..%22@b.example"},
		{`"../../etc/cron"@b.example`, "%22..%2F..%2Fetc%2Fcron%22@b.example"},
		{`"a b:%"@b.example`, "%22a%20b%3A%25%22@b.example"},
		{"a~b@b.example", "a%7Eb@b.example"},
	} {
		if got, want := m.Folder(addr(t, tt.address)), "/mail/"+tt.folder; got != want {
			t.Errorf("%s: folder %s; want %s", tt.address, got, want)
		}
	}
	a, b := m.Folder(addr(t, long)), m.Folder(addr(t, strings.Replace(long, "example", "exampld", 1)))
	if a == b || len(filepath.Base(a)) > 240 || filepath.Dir(a) != "/mail" {
		t.Errorf("long addresses: %s and %s", a, b)
	}
}

func TestNamesAndHandlesCannotLeaveTheFolder(t *testing.T) {
	root := t.TempDir()
	m := maildir.New(filepath.Join(root, "mail"))
	bob := addr(t, "bob@b.direct.example")
	for _, name := range []string{"../../x", "/etc/x", ".", "..", ".hidden", "a:2,S", "A\x00B", strings.Repeat("n/", 300)} {
		staged, err := m.Stage(t.Context(), bob, name, strings.NewReader(message))
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		if err := m.Publish(t.Context(), bob, staged); err != nil {
			t.Fatalf("%q: %v", name, err)
		}
	}
	if got := files(t, durable.OS(), filepath.Join(m.Folder(bob), "new")); len(got) != 8 {
		t.Errorf("%d files in new; want 8", len(got))
	}
	if list, err := os.ReadDir(root); err != nil || len(list) != 1 {
		t.Errorf("beside the mail directory: %v, %v", list, err)
	}
	for _, staged := range []string{"", "x", "/", "bob@b.direct.example/", "/1", "../x", "bob@b.direct.example/../new/1", "bob@b.direct.example/.x", "bob@b.direct.example/A\x00"} {
		if err := m.Publish(t.Context(), bob, staged); !errors.Is(err, maildir.ErrHandle) {
			t.Errorf("Publish(%q) = %v", staged, err)
		}
		if err := m.Discard(staged); !errors.Is(err, maildir.ErrHandle) {
			t.Errorf("Discard(%q) = %v", staged, err)
		}
	}
	if err := m.Publish(t.Context(), bob, "eve@b.direct.example/1"); !errors.Is(err, maildir.ErrHandle) {
		t.Errorf("somebody else's message: %v", err)
	}
	if _, err := m.Stage(t.Context(), direct.Address{}, "1", strings.NewReader("")); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("no recipient: %v", err)
	}
}

func TestStageThatFailsLeavesNothing(t *testing.T) {
	m := maildir.New(t.TempDir())
	bob := addr(t, "bob@b.direct.example")
	boom := errors.New("decryption failed")
	pr, pw := io.Pipe()
	go func() {
		io.WriteString(pw, message)
		pw.CloseWithError(boom)
	}()
	if _, err := m.Stage(t.Context(), bob, "1", pr); !errors.Is(err, boom) {
		t.Errorf("error %v", err)
	}
	if got := files(t, durable.OS(), filepath.Join(m.Folder(bob), "staged")); len(got) != 0 {
		t.Errorf("in staged: %v", got)
	}
}

func TestAFolderThatWasTakenAwayIsMadeAgain(t *testing.T) {
	m := maildir.New(t.TempDir())
	bob := addr(t, "bob@b.direct.example")
	if _, err := m.Stage(t.Context(), bob, "1", strings.NewReader(message)); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(m.Folder(bob)); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Stage(t.Context(), bob, "2", strings.NewReader(message)); err == nil {
		t.Error("staged into nothing")
	}
	if _, err := m.Stage(t.Context(), bob, "2", strings.NewReader(message)); err != nil {
		t.Errorf("second try: %v", err)
	}
}

// Wherever the machine stops: a staged message can be published whole, a
// published one is there whole and once, and going on after the restart (the
// caller stages and publishes again under the same name) always ends with
// exactly one message and nothing left over.
func TestDeliverySurvivesEveryCrash(t *testing.T) {
	bob := addr(t, "bob@b.direct.example")
	long := message + strings.Repeat("line\r\n", 400)
	var staged string
	var published bool
	run := func(fsys durable.FS) {
		staged, published = "", false
		m := maildir.NewOn(fsys, "/var/mail")
		s, err := m.Stage(t.Context(), bob, "1", strings.NewReader(long))
		if err != nil {
			return
		}
		staged = s
		published = m.Publish(t.Context(), bob, s) == nil
	}
	points := 0
	for c := range durable.Crashes(nil, run) {
		points++
		m := maildir.NewOn(c.After, "/var/mail")
		inNew := filepath.Join(m.Folder(bob), "new")
		before := files(t, c.After, inNew)
		if len(before) > 1 || len(before) == 1 && before["1"] != long {
			t.Errorf("op %d %+v: a reader sees %d files, not whole", c.Op, c.Loss, len(before))
		}
		if published && len(before) != 1 {
			t.Errorf("op %d %+v: published and lost", c.Op, c.Loss)
		}
		handle := staged
		if handle == "" { // not acknowledged: the caller begins again
			var err error
			if handle, err = m.Stage(t.Context(), bob, "1", strings.NewReader(long)); err != nil {
				t.Fatalf("op %d %+v: stage again: %v", c.Op, c.Loss, err)
			}
		}
		if err := m.Publish(t.Context(), bob, handle); err != nil {
			t.Fatalf("op %d %+v: publish again: %v", c.Op, c.Loss, err)
		}
		if got := files(t, c.After, inNew); len(got) != 1 || got["1"] != long {
			t.Errorf("op %d %+v: after the restart %d messages", c.Op, c.Loss, len(got))
		}
		if got := files(t, c.After, filepath.Join(m.Folder(bob), "staged")); len(got) != 0 && c.Loss.Entries == durable.Kept {
			t.Errorf("op %d %+v: left in staged %d", c.Op, c.Loss, len(got))
		}
	}
	if points < 15*len(durable.Losses()) {
		t.Errorf("only %d outcomes seen", points)
	}
}
