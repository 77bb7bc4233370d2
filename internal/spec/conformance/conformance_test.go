package main

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"directnode/internal/spec"
)

var update = flag.Bool("update", false, "rewrite the golden file")

func TestReportListsWhatIsMissingFirst(t *testing.T) {
	out := filepath.Join(t.TempDir(), "CONFORMANCE.md")
	if err := run([]string{"-spec", "testdata/spec.tsv", "-out", out, "testdata/results.json"}, nil, io.Discard); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/want.md"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("report differs (-want +got):\n%s", diff)
	}
}

const head = "id\tsection\tlevel\tparty\tstatement\thow_shown\n"

// play runs the command on a table and results in memory.
func play(t *testing.T, table, results string, args ...string) (report string, err error) {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "SPEC.tsv"), filepath.Join(dir, "CONFORMANCE.md")
	if err := os.WriteFile(in, []byte(table), 0o600); err != nil {
		t.Fatal(err)
	}
	err = run(append([]string{"-spec", in, "-out", out}, args...), strings.NewReader(results), io.Discard)
	text, _ := os.ReadFile(out)
	return string(text), err
}

func outcome(id, action string) string {
	name := strings.ReplaceAll(id, "-", "") + action
	return `{"Action":"attr","Package":"m/p","Test":"Test` + name + `","Key":"spec","Value":"` + id + `"}` + "\n" +
		`{"Action":"` + action + `","Package":"m/p","Test":"Test` + name + `"}` + "\n"
}

func TestVerdictFollowsTheStatement(t *testing.T) {
	spec.Covers(t, "AS-0.2-b", "AS-0.2-c")
	table := head + "M-1\t1\tMUST\tSTA\ts\th\nR-1\t1\tREQUIRED\tSTA\ts\th\nS-1\t1\tSHOULD\tSTA\ts\th\nN-1\t1\tRECOMMENDED\tSTA\ts\th\nO-1\t1\tMUST\toperator\ts\th\n"
	all := outcome("M-1", "pass") + outcome("R-1", "pass") + outcome("S-1", "pass") + outcome("N-1", "pass")
	for _, tc := range []struct {
		name, results, verdict string
		gate                   error
	}{
		{"everything shown", all, unconditionally, nil},
		{"a SHOULD fails", all + outcome("S-1", "fail"), conditionally, nil},
		{"a RECOMMENDED is not shown", outcome("M-1", "pass") + outcome("R-1", "pass") + outcome("S-1", "pass"), conditionally, nil},
		{"a MUST fails", all + outcome("M-1", "fail"), notCompliant, errNotCompliant},
		{"a REQUIRED is skipped", outcome("M-1", "pass") + outcome("R-1", "skip") + outcome("S-1", "pass") + outcome("N-1", "pass"), notCompliant, errNotCompliant},
		{"nothing ran", "", notCompliant, errNotCompliant},
	} {
		report, err := play(t, table, tc.results, "-gate")
		if !errors.Is(err, tc.gate) {
			t.Errorf("%s: the gate says %v, want %v", tc.name, err, tc.gate)
		}
		if !strings.Contains(report, "**"+tc.verdict+"**") {
			t.Errorf("%s: not %q:\n%s", tc.name, tc.verdict, report)
		}
		if failing := strings.Contains(tc.name, "fails"); failing != strings.Contains(report, "**fails:** `p.Test") {
			t.Errorf("%s: the failing test is named wrongly:\n%s", tc.name, report)
		}
	}
}

func TestErrorsNameTheirCause(t *testing.T) {
	good := head + "M-1\t1\tMUST\tSTA\ts\th\n"
	for _, tc := range []struct{ name, table, results, want string }{
		{"unknown id", good, outcome("M-2", "skip"), `p.TestM2skip names "M-2"`},
		{"columns", "id\tname\n", "", "line 1"},
		{"short line", good + "M-2\t1\n", "", "line 3: 2 columns"},
		{"level", good + "M-2\t1\tMIGHT\tSTA\ts\th\n", "", `line 3, M-2: "MIGHT" is no level`},
		{"id twice", good + "M-1\t1\tMAY\tSTA\ts\th\n", "", `line 3: id "M-1"`},
		{"results", good, "{\"Action\":\n", "results line 1"},
	} {
		report, err := play(t, tc.table, tc.results)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q", tc.name, err, tc.want)
		}
		if report != "" {
			t.Errorf("%s: a report was written all the same", tc.name)
		}
	}
}

func TestTheProjectsTableIsSound(t *testing.T) {
	raw, err := os.ReadFile("../../../docs/SPEC.tsv")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := parseTable(raw)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, r := range rows {
		ids[r.id] = true
	}
	wrong, err := unknownIDs("../../..", ids)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range wrong {
		t.Error(w)
	}
}

func TestCheckFindsStaleReportsAndUnknownIDs(t *testing.T) {
	dir := t.TempDir()
	table := []byte(head + "M-1\t1\tMUST\tSTA\ts\th\n")
	rows, err := parseTable(table)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	report := filepath.Join(dir, "CONFORMANCE.md")
	if err := checkAll(rows, table, dir, report); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("without a report: %v", err)
	}
	write("CONFORMANCE.md", string(emptyReport(rows, table)))
	write("a/a_test.go", "package a\nfunc f() { spec.Covers(t, \"M-1\", id); other.Covers(t, \"X\"); Covers(\"Y\") }\n")
	write("testdata/b_test.go", "package b\nfunc f() { spec.Covers(t, \"M-9\") }\n")
	if err := checkAll(rows, table, dir, report); err != nil {
		t.Errorf("when all is well: %v", err)
	}
	if err := checkAll(rows, append(table, '\n'), dir, report); err == nil || !strings.Contains(err.Error(), "another table") {
		t.Errorf("with another table: %v", err)
	}
	write("a/a_test.go", "package a\nfunc f() {\n\tspec.Covers(t, \"M-1\", \"M-2\")\n}\n")
	if err := checkAll(rows, table, dir, report); err == nil || !strings.Contains(err.Error(), "a_test.go:3:24: \"M-2\"") {
		t.Errorf("with an unknown id: %v", err)
	}
}

func emptyReport(rows []row, table []byte) []byte {
	res, _ := readResults(bytes.NewReader(nil))
	return join(rows, res).markdown(digest(table))
}
