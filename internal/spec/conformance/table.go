package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// row is one requirement.
type row struct {
	id, section, level, party, statement, howShown string
}

// columns are the first columns of the table; more may follow.
var columns = []string{"id", "section", "level", "party", "statement", "how_shown"}

// class sorts levels by what it means not to show them.
type class int

const (
	must   class = iota // the software does not conform
	should              // it conforms on conditions
	other               // permissions, facts, risks, topics
)

// levels are the words of RFC 2119 and those for sentences without one.
var levels = map[string]class{
	"MUST": must, "MUST NOT": must, "SHALL": must, "SHALL NOT": must, "REQUIRED": must,
	"SHOULD": should, "SHOULD NOT": should, "RECOMMENDED": should, "NOT RECOMMENDED": should,
	"MAY": other, "OPTIONAL": other, "FACT": other, "RISK": other, "TOPIC": other,
}

// forPeople are the parties a program cannot stand in for.
var forPeople = []string{"operator", "issuer"}

func (r row) class() class { return levels[r.level] }

// bindsSoftware says whether a program can keep or break the requirement.
func (r row) bindsSoftware() bool { return !slices.Contains(forPeople, r.party) }

// parseTable reads tab-separated requirements with a line of column names.
// RFC 2119 §1 to §5 have the levels.
func parseTable(raw []byte) ([]row, error) {
	lines := strings.Split(strings.TrimRight(string(raw), "\n"), "\n")
	if head := strings.Split(lines[0], "\t"); len(head) < len(columns) || !slices.Equal(head[:len(columns)], columns) {
		return nil, fmt.Errorf("line 1: columns are %q, want %q", head, columns)
	}
	var rows []row
	seen := map[string]int{}
	for i, line := range lines[1:] {
		f := strings.Split(line, "\t")
		if len(f) < len(columns) {
			return nil, fmt.Errorf("line %d: %d columns", i+2, len(f))
		}
		r := row{f[0], f[1], f[2], f[3], f[4], f[5]}
		if _, ok := levels[r.level]; !ok {
			return nil, fmt.Errorf("line %d, %s: %q is no level", i+2, r.id, r.level)
		}
		if first, twice := seen[r.id]; twice || r.id == "" {
			return nil, fmt.Errorf("line %d: id %q is empty or stands in line %d already", i+2, r.id, first)
		}
		seen[r.id] = i + 2
		rows = append(rows, r)
	}
	return rows, nil
}

// digest identifies a table.
func digest(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}
