package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func answered(n uint64) outcome { return outcome{answers: n, elapsed: time.Second} }

// rowOf has one round of each figure, in µs of CPU for one answer.
func rowOf(m measurement, figures map[string]float64) *row {
	w := (&report{}).row(m)
	for name, f := range figures {
		w.add(name, answered(1000), time.Duration(f*1000)*time.Microsecond, nil)
	}
	return w
}

func TestVerdicts(t *testing.T) {
	knotOnly := measurement{title: "a", target: 0.75, against: knotAlone}
	better := measurement{title: "b", target: 0.85, against: betterPeer}
	ldap := measurement{title: "c", target: 0.35, against: slapdAlone}
	for name, c := range map[string]struct {
		m                      measurement
		figures                map[string]float64
		ratio, target, reached string
	}{
		"reached":         {knotOnly, map[string]float64{"directd": 3, "Knot": 4, "NSD": 1}, "0.75", "≤ 0.75 × Knot", "yes"},
		"not reached":     {knotOnly, map[string]float64{"directd": 3.1, "Knot": 4}, "0.78", "≤ 0.75 × Knot", "**no**"},
		"better is NSD":   {better, map[string]float64{"directd": 3, "Knot": 6, "NSD": 4}, "0.75", "≤ 0.85 × the better of Knot and NSD", "yes"},
		"better is Knot":  {better, map[string]float64{"directd": 3, "Knot": 3, "NSD": 4}, "1.00", "≤ 0.85 × the better of Knot and NSD", "**no**"},
		"peer absent":     {knotOnly, map[string]float64{"directd": 3, "NSD": 4}, "–", "≤ 0.75 × Knot", "not measured"},
		"one peer absent": {better, map[string]float64{"directd": 3, "NSD": 4}, "0.75", "≤ 0.85 × the better of Knot and NSD", "yes"},
		"ours void":       {knotOnly, map[string]float64{"Knot": 4}, "–", "≤ 0.75 × Knot", "not measured"},
		"slapd":           {ldap, map[string]float64{"directd": 10, "slapd": 40, "Knot": 1}, "0.25", "≤ 0.35 × slapd", "yes"},
		"slapd absent":    {ldap, map[string]float64{"directd": 10, "gldap": 40}, "–", "≤ 0.35 × slapd", "not measured"},
		"no target":       {measurement{}, map[string]float64{"directd": 3, "Knot": 4}, "–", "–", "–"},
	} {
		t.Run(name, func(t *testing.T) {
			ratio, target, reached := rowOf(c.m, c.figures).verdict()
			if ratio != c.ratio || target != c.target || reached != c.reached {
				t.Errorf("verdict = %q, %q, %q", ratio, target, reached)
			}
		})
	}
}

// TestTheReportShowsWhatDidNotCount: void rounds have no figure and a reason,
// an absent peer is called so.
func TestTheReportShowsWhatDidNotCount(t *testing.T) {
	r := newReport(options{names: 1000, cases: []string{"all"}}, "", time.Unix(0, 0))
	r.servers = []serverLine{{name: "directd", version: "v1"}, {name: "Knot", version: "3.2"}, {name: "NSD", absent: errors.New("none")}}
	w := r.row(measurement{title: "UDP CERT", target: 0.75, against: knotAlone})
	for _, f := range []float64{3, 5, 4} {
		w.add("directd", answered(1000), time.Duration(f*1000)*time.Microsecond, nil)
	}
	w.add("Knot", answered(1000), time.Millisecond, errors.New("7 queries lost"))
	text := r.markdown()
	for _, want := range []string{
		"1970-01-01 00:00 UTC", "BENCH_NAMES=1000",
		"| NSD | absent |",
		"| UDP CERT | 4.00 [3.00–5.00] | no valid run | absent | – | – | ≤ 0.75 × Knot | not measured |",
		"UDP CERT, Knot: 1 rounds did not count: 7 queries lost.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
}

func TestASectionIsReplacedAndTheRestStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "P.md")
	const page = "before\n<!-- bench: 10 names -->\nold\n<!-- end: 10 names -->\nbetween\n<!-- bench: 20 names -->\nkept\n<!-- end: 20 names -->\nafter\n"
	if err := os.WriteFile(path, []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a second run replaces the first
		if err := replaceSection(path, "10 names", "new\n"); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Replace(page, "old", "new", 1); string(got) != want {
		t.Errorf("page:\n%s", got)
	}
	for _, section := range []string{"30 names", ""} {
		if err := replaceSection(path, section, "x"); err == nil {
			t.Errorf("section %q was written", section)
		}
	}
	if err := replaceSection(path+"none", "10 names", "x"); err == nil {
		t.Error("a file without marks was made")
	}
	if _, err := spliced("<!-- bench: a -->\nno end", "a", "x"); err == nil {
		t.Error("a section without an end was replaced")
	}
}

func TestSignedBesideUnsigned(t *testing.T) {
	r := &report{signed: []signedResult{
		{title: "good", plain: []float64{4, 4.2, 3.9}, signed: []float64{5, 5.2, 4.9}},
		{title: "slow", plain: []float64{4}, signed: []float64{6}},
		{title: "none", err: errors.Join(errors.New("unknown command"), errors.New("dnssec"))},
	}}
	var b strings.Builder
	r.signedTable(&b)
	for _, want := range []string{
		"| good | 4.00 [3.90–4.20] | 5.00 [4.90–5.20] | 1.25 | ≤ 1.30 | yes |",
		"| slow | 4.00 [4.00–4.00] | 6.00 [6.00–6.00] | 1.50 | ≤ 1.30 | **no** |",
		"| none | – | – | – | ≤ 1.30 | not measured: unknown command; dnssec |",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
}
