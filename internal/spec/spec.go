// Package spec ties tests to the sentences of the Applicability Statement.
//
// docs/SPEC.tsv holds every MUST and SHOULD of the specification as a row with
// an id. A test that shows a row calls Covers with that id; the id becomes an
// attribute of the test in the output of `go test -json`, and the command
// internal/spec/conformance joins both into docs/CONFORMANCE.md. A row counts
// as shown only while a test that names it passes.
package spec

import "testing"

// Covers states that the running test shows the requirements with these ids
// (for example "AS-2.4-a"). Name only what a failure of the requirement would
// make fail.
func Covers(t testing.TB, ids ...string) {
	t.Helper()
	for _, id := range ids {
		t.Attr("spec", id)
	}
}
