package archtest

import (
	"fmt"
	"slices"
	"strings"
)

// Law is what ParseLaw makes of a text.
type Law struct {
	module string
	level  map[string]int // package → level, 0 lowest
	never  []rule
	only   []rule // from is the module of others, to the packages that may import it
	tests  map[string]bool
}

// rule is one "never" or "only" line.
type rule struct {
	from string
	to   []string
	text string
}

// ParseLaw reads a law for the packages of a module. An error names the line.
func ParseLaw(module, text string) (*Law, error) {
	l := &Law{module: module, level: map[string]int{}, tests: map[string]bool{}}
	next := 0
	n := 0
	for line := range strings.Lines(text) {
		n++
		line, _, _ = strings.Cut(line, "#")
		line = strings.Join(strings.Fields(line), " ")
		if line == "" {
			continue
		}
		if err := l.statement(line, &next); err != nil {
			return nil, fmt.Errorf("law line %d: %w", n, err)
		}
	}
	return l, nil
}

func (l *Law) statement(line string, next *int) error {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "never":
		return addRule(&l.never, rest, " -> ", line)
	case "only":
		return addRule(&l.only, rest, ": ", line)
	case "tests":
		for _, p := range list(rest) {
			l.tests[p] = true
		}
		return nil
	case "<":
		if *next == 0 {
			return fmt.Errorf("%q has no level below", line)
		}
	default:
		if *next != 0 {
			return fmt.Errorf("%q is no statement", line)
		}
		rest = line
	}
	for _, p := range list(rest) {
		if _, twice := l.level[p]; twice {
			return fmt.Errorf("%s has two levels", p)
		}
		l.level[p] = *next
	}
	*next++
	return nil
}

func addRule(to *[]rule, text, sep, line string) error {
	from, targets, ok := strings.Cut(text, sep)
	if !ok {
		return fmt.Errorf("%q lacks %q", line, strings.TrimSpace(sep))
	}
	*to = append(*to, rule{from, list(targets), line})
	return nil
}

func list(s string) []string {
	var out []string
	for p := range strings.SplitSeq(s, ",") {
		if p = strings.TrimSpace(p); p != "" {
			out = append(out, p)
		}
	}
	return out
}

// File is a source file with the packages that it imports.
type File struct {
	Package string // path below the module
	Name    string // path below the module
	Test    bool
	Imports []string
}

// Violation is one import that the law does not allow, or one package that the
// law does not know (Import is empty then).
type Violation struct {
	File, Import, Rule string
}

// String is one line for the log of a test.
func (v Violation) String() string {
	if v.Import == "" {
		return fmt.Sprintf("%s: %s", v.File, v.Rule)
	}
	return fmt.Sprintf("%s imports %s: %s", v.File, v.Import, v.Rule)
}

// Check holds files against the law.
func (l *Law) Check(files []File) []Violation {
	var all []Violation
	for _, f := range files {
		_, levelled := l.level[f.Package]
		if !levelled && !l.tests[f.Package] {
			all = append(all, Violation{f.Name, "", "the law does not know package " + f.Package})
			continue
		}
		for _, imp := range f.Imports {
			if why := l.forbids(f, imp); why != "" {
				all = append(all, Violation{f.Name, imp, why})
			}
		}
	}
	return all
}

// forbids says why f may not import imp, or nothing.
func (l *Law) forbids(f File, imp string) string {
	target, ours := strings.CutPrefix(imp, l.module+"/")
	forTests := f.Test || l.tests[f.Package]
	if !ours {
		if forTests || isStd(imp) {
			return ""
		}
		return l.foreign(f.Package, imp)
	}
	for _, r := range l.never {
		if (r.from == "*" || r.from == f.Package && !forTests) && slices.Contains(r.to, target) {
			return r.text
		}
	}
	switch {
	case forTests:
		return ""
	case l.tests[target]:
		return "package for tests"
	}
	level, known := l.level[target]
	switch {
	case !known:
		return "the law does not know package " + target
	case level >= l.level[f.Package]:
		return fmt.Sprintf("%s is not below %s", target, f.Package)
	}
	return ""
}

// foreign checks an import of others' code.
func (l *Law) foreign(pkg, imp string) string {
	for _, r := range l.only {
		if imp != r.from && !strings.HasPrefix(imp, r.from+"/") {
			continue
		}
		if slices.Contains(r.to, pkg) {
			return ""
		}
		return r.text
	}
	return "the law does not know this module; a new one needs a decision in docs/adr"
}

// isStd says whether a path is of the standard library: its first element has
// no dot.
func isStd(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return !strings.Contains(first, ".")
}
