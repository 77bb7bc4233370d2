// Command conformance joins the requirements in docs/SPEC.tsv with the output
// of `go test -json` and writes docs/CONFORMANCE.md: which sentences of the
// specification are shown by a passing test, and first which are not.
//
//	go test -count=1 -json ./... | go run ./internal/spec/conformance
//	go run ./internal/spec/conformance -gate results.json
//	go run ./internal/spec/conformance -check
//
// A test names what it shows by spec.Covers. It counts if it passed; a test that
// was skipped or did not end does not count, and a failed one speaks against the
// sentence it names. An id that is not in the table is an error.
//
// With -gate the exit status is 1 unless every sentence with MUST that binds
// software is shown. With -check no results are read: the table must be sound,
// the ids named in the module's tests must be in it, and CONFORMANCE.md must
// have been made from it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// errNotCompliant is the answer of the gate.
var errNotCompliant = errors.New("not compliant: sentences with MUST are not shown")

func run(args []string, stdin io.Reader, stderr io.Writer) error {
	flags := flag.NewFlagSet("conformance", flag.ContinueOnError)
	flags.SetOutput(stderr)
	specFile := flags.String("spec", "docs/SPEC.tsv", "table of requirements")
	out := flags.String("out", "docs/CONFORMANCE.md", "report")
	check := flags.Bool("check", false, "check table, ids in tests and the report's origin; run no generation")
	gate := flags.Bool("gate", false, "fail unless compliant")
	if err := flags.Parse(args); err != nil {
		return err
	}
	raw, err := os.ReadFile(*specFile)
	if err != nil {
		return err
	}
	rows, err := parseTable(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", *specFile, err)
	}
	if *check {
		return checkAll(rows, raw, ".", *out)
	}
	results := stdin
	if name := flags.Arg(0); name != "" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		results = f
	}
	shown, err := readResults(results)
	if err != nil {
		return err
	}
	if err := shown.known(rows); err != nil {
		return err
	}
	r := join(rows, shown)
	if err := os.WriteFile(*out, r.markdown(digest(raw)), 0o644); err != nil {
		return err
	}
	fmt.Fprintln(stderr, "conformance:", r.summary())
	if *gate && r.verdict() == notCompliant {
		return errNotCompliant
	}
	return nil
}
