package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// event is a line of `go test -json`, as far as it matters here.
type event struct {
	Action, Package, Test, Key, Value string
}

// test is a test of a package, a subtest included.
type test struct{ pkg, name string }

// top is the test as people know it: the function, in its package below the module.
func (t test) top() string {
	_, pkg, _ := strings.Cut(t.pkg, "/")
	name, _, _ := strings.Cut(t.name, "/")
	return pkg + "." + name
}

// results are what tests said that they show, and how they ended.
type results struct {
	named  map[string][]test // requirement → tests
	passed map[test]bool
	failed map[test]bool
}

// readResults reads the output of `go test -json`. Lines that are no JSON, which
// builds may mix in, are skipped.
func readResults(r io.Reader) (*results, error) {
	all := &results{map[string][]test{}, map[test]bool{}, map[test]bool{}}
	in := bufio.NewReader(r)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] == '{' {
			var e event
			if err := json.Unmarshal(line, &e); err != nil {
				return nil, fmt.Errorf("results line %d: %w", n, err)
			}
			all.add(e)
		}
		switch {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("results line %d: %w", n, err)
		}
	}
}

func (r *results) add(e event) {
	t := test{e.Package, e.Test}
	switch {
	case t.name == "":
	case e.Action == "attr" && e.Key == "spec":
		if !slices.Contains(r.named[e.Value], t) {
			r.named[e.Value] = append(r.named[e.Value], t)
		}
	case e.Action == "pass":
		r.passed[t] = true
	case e.Action == "fail":
		r.failed[t] = true
	}
}

// of gives the tests that passed, and those that failed, among those that name
// a requirement.
func (r *results) of(id string) (passed, failed []string) {
	for _, t := range r.named[id] {
		switch {
		case r.failed[t]:
			failed = append(failed, t.top())
		case r.passed[t]:
			passed = append(passed, t.top())
		}
	}
	return sortedSet(passed), sortedSet(failed)
}

func sortedSet(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}

// known refuses ids that are not in the table: a slip of the pen would make a
// requirement look unshown, and a removed one would keep its tests.
func (r *results) known(rows []row) error {
	ids := map[string]bool{}
	for _, row := range rows {
		ids[row.id] = true
	}
	var wrong []string
	for id, tests := range r.named {
		if !ids[id] {
			wrong = append(wrong, fmt.Sprintf("%s names %q, which is not in the table", tests[0].top(), id))
		}
	}
	if wrong != nil {
		return errors.New(strings.Join(sortedSet(wrong), "\n"))
	}
	return nil
}
