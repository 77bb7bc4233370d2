package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"directnode/internal/admin"
	"directnode/internal/testpki"
)

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPathsAreReadAndWhatCannotBeReadIsNamed(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "in", "a.pem"), "a")
	write(t, filepath.Join(dir, "in", ".hidden"), "h")
	write(t, filepath.Join(dir, "in", "sub", "c.pem"), "c")
	target := write(t, filepath.Join(dir, "elsewhere", "b.pem"), "b")
	for link, to := range map[string]string{"b.pem": target, "gone.pem": filepath.Join(dir, "nothing"), "folder": filepath.Join(dir, "elsewhere")} {
		if err := os.Symlink(to, filepath.Join(dir, "in", link)); err != nil {
			t.Fatal(err)
		}
	}
	large := filepath.Join(dir, "in", "large.bin")
	write(t, large, "")
	if err := os.Truncate(large, maxFileSize+1); err != nil {
		t.Fatal(err)
	}
	files, err := uploads([]string{filepath.Join(dir, "in"), target, t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range files {
		text := "fault: " + f.Fault
		if f.Fault == "" {
			text = contents(t, f)
		}
		got[filepath.Base(filepath.Dir(f.Name))+"/"+filepath.Base(f.Name)] = text
	}
	for name, want := range map[string]string{"in/a.pem": "a", "in/b.pem": "b", "elsewhere/b.pem": "b", "in/gone.pem": "fault: no such file", "in/large.bin": "fault: larger than 64 MiB"} {
		if !strings.HasPrefix(got[name], want) || want == "" {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
	if len(files) != 6 { // and the empty folder
		t.Errorf("%d files: %v", len(files), slices.Sorted(maps.Keys(got)))
	}
	if last := files[len(files)-1]; !strings.HasSuffix(last.Name, "/") || contents(t, last) != "" {
		t.Errorf("the empty folder: %+v", last)
	}
}

func contents(t *testing.T, u admin.Upload) string {
	t.Helper()
	r, err := u.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil || int64(len(b)) != u.Size {
		t.Fatalf("%s: %d octets of %d, %v", u.Name, len(b), u.Size, err)
	}
	return string(b)
}

func TestAPathThatWasNamedMustBeReadable(t *testing.T) {
	dir := t.TempDir()
	large := write(t, filepath.Join(dir, "large"), "")
	if err := os.Truncate(large, maxFileSize+1); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "none"), large} {
		_, err := uploads([]string{path})
		var e *admin.Error
		if !errors.As(err, &e) || e.ID != "DN-FILE-001" || e.Code != admin.CodeFailed || !strings.Contains(e.Why, path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestAFolderThatIsTooLargeIsRefusedBeforeItIsRead(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"1", "2", "3", "4", "5", "6", "7", "8"} {
		if err := os.Truncate(write(t, filepath.Join(dir, name), ""), maxFileSize); err != nil {
			t.Fatal(err)
		}
	}
	_, err := uploads([]string{dir})
	var e *admin.Error
	if !errors.As(err, &e) || e.Code != admin.CodeUsage || !strings.Contains(e.Do, "fewer") {
		t.Errorf("%v", err)
	}
}

func TestPrepareFolderTouchesOnlyItsOwn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "q")
	for range 2 {
		got, err := prepareFolder(dir)
		if err != nil || got != dir {
			t.Fatalf("%s, %v", got, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "old")); err == nil {
			t.Error("what an earlier quickstart left is still there")
		}
		write(t, filepath.Join(dir, "old"), "x")
	}
	mine := t.TempDir()
	keep := write(t, filepath.Join(mine, "letter"), "x")
	if _, err := prepareFolder(mine); err == nil {
		t.Error("a folder of somebody else's was taken")
	}
	if _, err := os.Stat(keep); err != nil {
		t.Error(err)
	}
	if _, err := prepareFolder(keep); err == nil {
		t.Error("a file was taken for a folder")
	}
	if _, err := prepareFolder(t.TempDir()); err != nil {
		t.Errorf("an empty folder: %v", err)
	}
}

func TestAsksTheDaemonWhereItIsAndNothingElseIsGiven(t *testing.T) {
	dir := t.TempDir()
	without := write(t, filepath.Join(dir, "without.toml"), "data_dir = \"gone\"\n")
	with := write(t, filepath.Join(dir, "with.toml"), "data_dir = \"data\"\n")
	write(t, filepath.Join(dir, "data", "admin.sock"), "")
	broken := write(t, filepath.Join(dir, "broken.toml"), "x = 1\n")
	for name, c := range map[string]struct {
		tool tool
		d    discovery
		want bool
	}{
		"--socket":           {tool{socket: "s"}, discovery{}, true},
		"--socket and --dns": {tool{socket: "s"}, discovery{dns: []string{"127.0.0.1"}}, false},
		"--anchor":           {tool{config: with}, discovery{anchors: []string{"f"}}, false},
		"a daemon":           {tool{config: with}, discovery{}, true},
		"no daemon":          {tool{config: without}, discovery{}, false},
		"no configuration":   {tool{config: broken}, discovery{}, false},
	} {
		if got := c.tool.asksDaemon(c.d); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestCertificateQueriesAreOwnersOrFingerprints(t *testing.T) {
	for arg, want := range map[string]admin.CertificateQuery{
		"alice@a.direct.test": {Owner: "alice@a.direct.test"}, "a.direct.test": {Owner: "a.direct.test"}, "AB:cd": {SHA256: "AB:cd"}, "abcd": {SHA256: "abcd"},
	} {
		if got := certificateQuery([]string{arg}); got != want {
			t.Errorf("%s: %+v", arg, got)
		}
	}
	if got := certificateQuery(nil); got != (admin.CertificateQuery{}) {
		t.Errorf("nothing: %+v", got)
	}
}

func TestReadAnchorsTakesPEMAndDER(t *testing.T) {
	pki, dir := testpki.New(t), t.TempDir()
	a, b := pki.Root("A"), pki.Root("B")
	both := write(t, filepath.Join(dir, "both.pem"), string(a.CertPEM())+string(b.CertPEM()))
	der := write(t, filepath.Join(dir, "a.der"), string(a.DER))
	if list, err := readAnchors([]string{both, der}); err != nil || len(list) != 3 {
		t.Errorf("%d anchors, %v", len(list), err)
	}
	for name, text := range map[string]string{"text": "hello", "key": string(a.KeyPEM()), "empty": ""} {
		_, err := readAnchors([]string{write(t, filepath.Join(dir, name), text)})
		var e *admin.Error
		if !errors.As(err, &e) || e.Code != admin.CodeUsage || !strings.Contains(e.Why, name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// hostile is what a peer may put into fields that a terminal shows.
const hostile = "\x1b]0;owned\x07\x1b[2J\r\n\tnext\x7f\u009b1m\u202egnp"

func TestTextForATerminalHoldsNothingOfATerminal(t *testing.T) {
	n := []admin.Notification{{MessageID: hostile, Disposition: hostile, Reason: hostile}}
	for name, show := range map[string]func(*bytes.Buffer){
		"message": func(b *bytes.Buffer) {
			showText(b, admin.Message{MessageID: hostile, From: hostile, Recipients: []admin.Recipient{{Address: "x", State: "sent", Reason: hostile, Notifications: n}}}, showMessage)
		},
		"import": func(b *bytes.Buffer) {
			showText(b, admin.ImportResult{Items: []admin.ImportItem{{State: "refused", File: hostile, Reason: hostile}}}, showImport)
		},
		"error": func(b *bytes.Buffer) {
			tl := &tool{out: b, errOut: b, format: "text"}
			tl.fail(&admin.Error{ID: "DN-X", Code: 1, What: hostile, Why: hostile, Do: hostile})
		},
	} {
		var b bytes.Buffer
		show(&b)
		if i := strings.IndexAny(b.String(), "\x1b\x07\r\x7f\u009b\u202e"); i >= 0 {
			t.Errorf("%s: %q", name, b.String())
		}
		if strings.Contains(b.String(), "\tnext") || !strings.Contains(b.String(), "next") {
			t.Errorf("%s: a field breaks its line: %q", name, b.String())
		}
	}
}

func TestExportedTextIsPrintedAsItIs(t *testing.T) {
	const zone = "a.\t300\tIN\tTXT \"x\"\n\nb.\t1\n"
	var b bytes.Buffer
	if n, err := (asciiOnly{&b}).Write([]byte(zone)); err != nil || n != len(zone) || b.String() != zone {
		t.Errorf("%q", b.String())
	}
	b.Reset()
	hostile := []byte("a \x1b[2J \u009b x\r\x7f\n")
	if n, err := (asciiOnly{&b}).Write(hostile); err != nil || n != len(hostile) || b.String() != "a ?[2J ?? x??\n" || hostile[2] != 0x1b {
		t.Errorf("%q", b.String())
	}
}

// runTool runs a command line and gives code, standard output and error.
func runTool(args ...string) (int, string, string) {
	var out, errOut bytes.Buffer
	code := runWith(context.Background(), &out, &errOut, args)
	return code, out.String(), errOut.String()
}

func TestWrongUseIsAnObjectWhereJSONWasAskedFor(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		code int
		id   string
	}{
		"an unknown flag before -o":  {[]string{"domain", "list", "--nonsense", "-o", "json"}, 2, "DN-USAGE-001"},
		"an unknown flag, -ojson":    {[]string{"domain", "list", "--nonsense", "-ojson"}, 2, "DN-USAGE-001"},
		"an unknown flag, --output":  {[]string{"--nonsense", "--output=json"}, 2, "DN-USAGE-001"},
		"an unknown verb":            {[]string{"domain", "grow", "-o", "json"}, 2, "DN-USAGE-001"},
		"an unknown noun":            {[]string{"-o", "json", "nonsense"}, 2, "DN-USAGE-001"},
		"a missing argument":         {[]string{"domain", "add", "-o", "json"}, 2, "DN-USAGE-001"},
		"a missing flag":             {[]string{"zone", "import", "f", "-o", "json"}, 2, "DN-USAGE-001"},
		"no time at all":             {[]string{"--timeout", "0s", "--socket", "x", "status", "-o", "json"}, 2, "DN-USAGE-001"},
		"a missing configuration":    {[]string{"--config", "none.toml", "status", "-o", "json"}, 30, "DN-CONFIG-001"},
		"a daemon that is not there": {[]string{"--socket", "none", "status", "-o", "json"}, 20, "DN-ADMIN-003"},
		"a missing file":             {[]string{"--socket", "none", "cert", "import", "none.pem", "-o", "json"}, 1, "DN-FILE-001"},
		"a missing passphrase":       {[]string{"--socket", "none", "cert", "import", "tool_test.go", "--passphrase-file", "none", "-o", "json"}, 1, "DN-FILE-001"},
		"a missing backup":           {[]string{"--socket", "none", "restore", "none.bak", "-o", "json"}, 1, "DN-FILE-001"},
		"a backup of nobody":         {[]string{"--socket", "none", "backup", filepath.Join(t.TempDir(), "b"), "-o", "json"}, 20, "DN-ADMIN-003"},
		"no address":                 {[]string{"discover", "nonsense", "-o", "json"}, 2, "DN-DISCOVER-001"},
		"a bad anchor":               {[]string{"discover", "bob@b.direct.test", "--anchor", "tool_test.go", "-o", "json"}, 2, "DN-ANCHOR-002"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errOut := runTool(c.args...)
			var answer map[string]map[string]any
			if err := json.Unmarshal([]byte(out), &answer); err != nil {
				t.Fatalf("%v: %q %q", err, out, errOut)
			}
			e := answer["error"]
			if code != c.code || e["id"] != c.id || e["code"] != float64(c.code) || e["what"] == "" || e["why"] == "" || e["do"] == "" {
				t.Errorf("code %d, %v", code, e)
			}
		})
	}
}

func TestAnInterruptedCommandSaysSo(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
	defer cancel()
	<-ctx.Done()
	var out bytes.Buffer
	tl := &tool{out: &out, errOut: &out, format: "text"}
	if code := tl.fail(ctx.Err()); code != admin.CodeTemporary || !strings.Contains(out.String(), "DN-USAGE-002") {
		t.Errorf("%d %s", code, out.String())
	}
}
