package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report collects what becomes a section of the Markdown file.
type report struct {
	topic   string // "" for DNS
	names   int
	at      time.Time
	command string
	servers []serverLine
	rows    []*row
	starts  []startResult
	imports []importResult
	changes []changeResult
	signed  []signedResult
	goLDAP  []goResult
	slow    []slowResult
	memory  []memoryResult
	slowly  int           // how many slow connections
	ripened time.Duration // how long they were there before
}

// topicLDAP is the part of the directories.
const topicLDAP = "LDAP"

// serverLine describes a column.
type serverLine struct {
	name, version, settings string
	absent                  error
}

// row is one measured case.
type row struct {
	measurement
	cells map[string]*cell
}

// cell is one server's rounds of a case. A round that does not count leaves its
// reason in void.
type cell struct {
	cpu, rate, p50, p99 []float64
	void                []error
}

func newReport(o options, topic string, at time.Time) *report {
	return &report{topic: topic, names: o.names, at: at, command: o.command(), slowly: o.slow, ripened: o.ripen}
}

// command is what repeats the run.
func (o *options) command() string {
	return fmt.Sprintf("make bench BENCH_NAMES=%d BENCH_FLAGS='-cases %s -peers %s -rounds %d -seconds %g -starts %d -changes %d -rate %d -slow %d -cert-octets %d'",
		o.names, strings.Join(o.cases, ","), strings.Join(o.peers, ","), o.rounds, o.seconds.Seconds(), o.starts, o.changes, o.rate, o.slow, o.certOctets)
}

func (r *report) server(k kind, c column, err error) {
	line := serverLine{name: k.name(), settings: k.settings(), absent: err}
	if c.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), versionWait)
		defer cancel()
		line.version, _ = k.version(ctx) // it was there a moment ago
	}
	r.servers = append(r.servers, line)
}

func (r *report) row(m measurement) *row {
	w := &row{measurement: m, cells: map[string]*cell{}}
	r.rows = append(r.rows, w)
	return w
}

// add takes one round and gives it in words.
func (w *row) add(name string, o outcome, cpu time.Duration, err error) string {
	c := w.cells[name]
	if c == nil {
		c = &cell{}
		w.cells[name] = c
	}
	if err != nil {
		c.void = append(c.void, err)
		return "does not count: " + err.Error()
	}
	micros := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	each := micros(cpu) / float64(o.answers)
	rate := float64(o.answers) / o.elapsed.Seconds()
	p50, p99 := micros(o.latency.quantile(0.5)), micros(o.latency.quantile(0.99))
	c.cpu, c.rate, c.p50, c.p99 = append(c.cpu, each), append(c.rate, rate), append(c.p50, p50), append(c.p99, p99)
	return fmt.Sprintf("%6.2f µs, %7.0f/s, p50 %.0f µs, p99 %.0f µs", each, rate, p50, p99)
}

// median is the cell's figure; false if no round counted.
func (w *row) median(name string) (float64, bool) {
	c := w.cells[name]
	if c == nil || len(c.cpu) == 0 {
		return 0, false
	}
	return spreadOf(c.cpu).Median, true
}

// verdict is the ratio with its target and whether it was reached.
func (w *row) verdict() (ratio, target, reached string) {
	ours, ok := w.median(own{}.name())
	target = "–"
	against := []string{knot{}.name()}
	switch w.against {
	case noTarget:
		return "–", "–", "–"
	case knotAlone:
		target = fmt.Sprintf("≤ %.2f × Knot", w.target)
	case slapdAlone:
		against = []string{slapd{}.name()}
		target = fmt.Sprintf("≤ %.2f × slapd", w.target)
	case betterPeer:
		against = append(against, nsd{}.name())
		target = fmt.Sprintf("≤ %.2f × the better of Knot and NSD", w.target)
	}
	var figures []float64
	for _, name := range against {
		if f, ok := w.median(name); ok {
			figures = append(figures, f)
		}
	}
	if !ok || len(figures) == 0 {
		return "–", target, "not measured"
	}
	value := ours / slices.Min(figures)
	reached = "**no**"
	if value <= w.target {
		reached = "yes"
	}
	return fmt.Sprintf("%.2f", value), target, reached
}

// section is the name of the report's place in the Markdown file.
func (r *report) section() string {
	if r.topic != "" {
		return fmt.Sprintf("%s, %d names", r.topic, r.names)
	}
	return fmt.Sprintf("%d names", r.names)
}

// markdown writes the section.
func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured on %s by\n`%s`\non %s.\n\n", r.at.UTC().Format("2006-01-02 15:04 UTC"), r.command, machine())
	b.WriteString("| server | version | as configured |\n|---|---|---|\n")
	for _, s := range r.servers {
		version := s.version
		if s.absent != nil {
			version = "absent"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", s.name, version, s.settings)
	}
	r.startTable(&b)
	r.importTable(&b)
	r.changeTable(&b)
	r.cpuTable(&b)
	r.latencyTable(&b)
	r.signedTable(&b)
	r.goTable(&b)
	r.slowTable(&b)
	r.memoryTable(&b)
	r.voids(&b)
	return b.String()
}

func (r *report) columns() []string {
	var names []string
	for _, s := range r.servers {
		names = append(names, s.name)
	}
	if r.topic != "" {
		return names
	}
	return append(names, echo{}.name())
}

func (r *report) cpuTable(b *strings.Builder) {
	if len(r.rows) == 0 {
		return
	}
	b.WriteString("\nServer CPU for one answer in µs: median of the rounds [least–most].\n\n| case |")
	for _, name := range r.columns() {
		fmt.Fprintf(b, " %s |", name)
	}
	b.WriteString(" ratio | target | reached |\n|---|" + strings.Repeat("---|", len(r.columns())+3) + "\n")
	for _, w := range r.rows {
		fmt.Fprintf(b, "| %s |", w.title)
		for _, name := range r.columns() {
			fmt.Fprintf(b, " %s |", r.figure(w, name))
		}
		ratio, target, reached := w.verdict()
		fmt.Fprintf(b, " %s | %s | %s |\n", ratio, target, reached)
	}
}

func (r *report) figure(w *row, name string) string {
	c := w.cells[name]
	switch {
	case c == nil && name == (echo{}).name():
		return "–"
	case c == nil:
		return "absent"
	case len(c.cpu) == 0:
		return "no valid run"
	}
	s := spreadOf(c.cpu)
	return fmt.Sprintf("%.2f [%.2f–%.2f]", s.Median, s.Min, s.Max)
}

func (r *report) latencyTable(b *strings.Builder) {
	if len(r.rows) == 0 {
		return
	}
	b.WriteString("\nAnswers a second, and latency p50 / p99 in µs, in the same runs. The generator's core is the limit of the faster servers; latency is that of full windows.\n\n| case |")
	for _, name := range r.columns() {
		fmt.Fprintf(b, " %s |", name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(r.columns())) + "\n")
	for _, w := range r.rows {
		fmt.Fprintf(b, "| %s |", w.title)
		for _, name := range r.columns() {
			c := w.cells[name]
			if c == nil || len(c.cpu) == 0 {
				b.WriteString(" – |")
				continue
			}
			fmt.Fprintf(b, " %.0f; %.0f / %.0f |", spreadOf(c.rate).Median, spreadOf(c.p50).Median, spreadOf(c.p99).Median)
		}
		b.WriteString("\n")
	}
}

// voids names the rounds that do not count.
func (r *report) voids(b *strings.Builder) {
	for _, w := range r.rows {
		for _, name := range r.columns() {
			if c := w.cells[name]; c != nil && len(c.void) > 0 {
				fmt.Fprintf(b, "\n%s, %s: %d rounds did not count: %v.\n", w.title, name, len(c.void), c.void[0])
			}
		}
	}
}

// machine describes where this runs.
func machine() string {
	model := "an unknown processor"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	kernel := "Linux"
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		kernel += " " + strings.TrimSpace(string(b))
	}
	return fmt.Sprintf("%s, %d cores, %s, %s", model, runtime.NumCPU(), kernel, goVersion())
}

// goVersion is that of the Go which builds the programs.
func goVersion() string {
	out, err := exec.Command("go", "env", "GOVERSION").Output()
	if err != nil {
		return runtime.Version()
	}
	return strings.TrimSpace(string(out))
}

// replaceSection puts text between the marks of a section in a file.
func replaceSection(path, section, text string) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; -o writes into a file that has the marks of its sections", err)
	}
	if err != nil {
		return err
	}
	page, err := spliced(string(b), section, text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(page), 0o644)
}

// spliced replaces what stands between the marks of a section.
func spliced(page, section, text string) (string, error) {
	begin, end := "<!-- bench: "+section+" -->\n", "<!-- end: "+section+" -->\n"
	head, rest, ok := strings.Cut(page, begin)
	if !ok {
		return "", fmt.Errorf("the line %q is missing", strings.TrimSpace(begin))
	}
	_, tail, ok := strings.Cut(rest, end)
	if !ok {
		return "", fmt.Errorf("the line %q is missing after %q", strings.TrimSpace(end), strings.TrimSpace(begin))
	}
	return head + begin + text + end + tail, nil
}
