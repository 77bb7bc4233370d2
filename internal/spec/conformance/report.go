package main

import (
	"fmt"
	"slices"
	"strings"
)

// entry is a requirement with what tests say about it.
type entry struct {
	row
	passed, failed []string
}

// shown says that some test passed for it and none failed.
func (e entry) shown() bool { return len(e.passed) > 0 && len(e.failed) == 0 }

// report is the whole table, judged.
type report []entry

func join(rows []row, res *results) report {
	var r report
	for _, row := range rows {
		e := entry{row: row}
		e.passed, e.failed = res.of(row.id)
		r = append(r, e)
	}
	return r
}

// The verdicts of the Applicability Statement, section "Requirements".
const (
	notCompliant    = "not compliant"
	conditionally   = "conditionally compliant"
	unconditionally = "unconditionally compliant"
)

func (r report) verdict() string {
	switch {
	case len(r.pick(must, true, false)) > 0:
		return notCompliant
	case len(r.pick(should, true, false)) > 0:
		return conditionally
	}
	return unconditionally
}

// pick gives the requirements of a class that bind software or not, and are
// shown or not.
func (r report) pick(c class, software, shown bool) []entry {
	var list []entry
	for _, e := range r {
		if e.class() == c && e.bindsSoftware() == software && e.shown() == shown {
			list = append(list, e)
		}
	}
	return list
}

func (r report) summary() string {
	count := func(c class) string {
		done := len(r.pick(c, true, true))
		return fmt.Sprintf("%d of %d", done, done+len(r.pick(c, true, false)))
	}
	return fmt.Sprintf("%s; shown: %s MUST, %s SHOULD", r.verdict(), count(must), count(should))
}

// origin begins the line that ties a report to its table.
const origin = "<!-- made from SPEC.tsv, SHA-256 "

// markdown writes the report: what is missing first.
func (r report) markdown(digest string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# Conformance\n\n%s%s; do not edit, run make spec -->\n\n", origin, digest)
	fmt.Fprintf(&b, "By the tests of this revision: **%s**.\n\n", r.verdict())
	b.WriteString("A sentence is shown if a test that names it passes and none that names it fails. Levels are those of RFC 2119; MUST stands for\n" +
		"MUST, MUST NOT, SHALL and REQUIRED, SHOULD for SHOULD, SHOULD NOT and RECOMMENDED. Sentences that bind operators and issuers are\n" +
		"theirs to keep and stand at the end.\n\n")
	b.WriteString("| level | shown | not shown |\n|---|---|---|\n")
	for _, c := range []struct {
		class
		name string
	}{{must, "MUST"}, {should, "SHOULD"}, {other, "other"}} {
		fmt.Fprintf(&b, "| %s | %d | %d |\n", c.name, len(r.pick(c.class, true, true)), len(r.pick(c.class, true, false)))
	}
	missing(&b, "MUST, not shown", r.pick(must, true, false))
	proved(&b, "MUST, shown", r.pick(must, true, true))
	missing(&b, "SHOULD, not shown", r.pick(should, true, false))
	proved(&b, "SHOULD, shown", r.pick(should, true, true))
	proved(&b, "Permissions, facts, risks and topics, shown", r.pick(other, true, true))
	missing(&b, "Permissions, facts, risks and topics, not shown", r.pick(other, true, false))
	var people []entry
	for _, c := range []class{must, should, other} {
		people = append(people, slices.Concat(r.pick(c, false, true), r.pick(c, false, false))...)
	}
	forOthers(&b, people)
	return []byte(b.String())
}

func missing(b *strings.Builder, title string, list []entry) {
	if !heading(b, title, list, "| id | level | sentence | what would show it |\n|---|---|---|---|\n") {
		return
	}
	for _, e := range list {
		note := e.howShown
		if len(e.failed) > 0 {
			note = "**fails:** " + tests(e.failed)
			fmt.Fprintf(b, "| %s | %s | %s | %s |\n", e.id, e.level, cell(e.statement), note)
			continue
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", e.id, e.level, cell(e.statement), cell(note))
	}
}

func proved(b *strings.Builder, title string, list []entry) {
	if !heading(b, title, list, "| id | level | sentence | tests |\n|---|---|---|---|\n") {
		return
	}
	for _, e := range list {
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", e.id, e.level, cell(e.statement), tests(e.passed))
	}
}

func forOthers(b *strings.Builder, list []entry) {
	if !heading(b, "For operators and issuers", list, "| id | level | party | sentence | tests |\n|---|---|---|---|---|\n") {
		return
	}
	for _, e := range list {
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", e.id, e.level, e.party, cell(e.statement), tests(e.passed))
	}
}

func heading(b *strings.Builder, title string, list []entry, table string) bool {
	fmt.Fprintf(b, "\n## %s (%d)\n\n", title, len(list))
	if len(list) == 0 {
		b.WriteString("None.\n")
		return false
	}
	b.WriteString(table)
	return true
}

func tests(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = "`" + n + "`"
	}
	return strings.Join(quoted, "<br>")
}

// cell makes a text fit for a table in Markdown.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "*", `\*`, "_", `\_`, "`", "'").Replace(s)
}
