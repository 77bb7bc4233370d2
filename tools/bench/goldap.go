package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"
)

const (
	// goLDAPMode is the argument that makes this program a client.
	goLDAPMode   = "goldap-client"
	goLDAPModule = "github.com/go-ldap/ldap/v3"

	targetGoLDAP = 1.30
)

// goLDAPConns are how many connections the client keeps, with a search
// outstanding on each.
var goLDAPConns = []int{1, 16}

// goRun is what one run of the client saw.
type goRun struct {
	Searches uint64        `json:"searches"`
	Wrong    uint64        `json:"wrong"`
	First    string        `json:"first,omitempty"` // what was wrong first
	Elapsed  time.Duration `json:"elapsed"`
	P50      time.Duration `json:"p50"`
	P99      time.Duration `json:"p99"`
}

// valid says whether the run counts.
func (r *goRun) valid() error {
	switch {
	case r.Wrong > 0:
		return fmt.Errorf("%d of %d answers wrong, first: %s", r.Wrong, r.Searches, r.First)
	case r.Searches == 0 || r.Elapsed <= 0:
		return errors.New("no answer")
	}
	return nil
}

// runGoLDAP is the client: it searches for a while and prints a goRun.
func runGoLDAP(args []string) error {
	if len(args) != 5 {
		return fmt.Errorf("%s ADDRESS NAMES CERT-OCTETS CONNECTIONS DURATION", goLDAPMode)
	}
	var n [3]int
	for i := range n {
		v, err := strconv.Atoi(args[i+1])
		if err != nil || v < 1 {
			return fmt.Errorf("%s: not a number", args[i+1])
		}
		n[i] = v
	}
	d, err := time.ParseDuration(args[4])
	if err != nil {
		return err
	}
	c := goClient{address: args[0], names: n[0], size: n[1]}
	r, err := c.run(n[2], d)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// goClient searches as a program in Go does that looks for certificates.
type goClient struct {
	address     string
	names, size int
}

// run searches on so many connections, after a warm-up.
func (g goClient) run(conns int, d time.Duration) (goRun, error) {
	var opened []*ldap.Conn
	defer func() {
		for _, c := range opened {
			c.Close()
		}
	}()
	for range conns {
		c, err := ldap.DialURL("ldap://" + g.address)
		if err != nil {
			return goRun{}, err
		}
		opened = append(opened, c)
		if err := c.UnauthenticatedBind(""); err != nil {
			return goRun{}, err
		}
	}
	if r := g.all(opened, warmUp); r.Wrong > 0 {
		return r, nil
	}
	return g.all(opened, d), nil
}

// all searches on all connections for a while.
func (g goClient) all(conns []*ldap.Conn, d time.Duration) goRun {
	var mu sync.Mutex
	var sum goRun
	var latency histogram
	var wg sync.WaitGroup
	began := time.Now()
	for n, c := range conns {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(querySeed, uint64(n)))
			for time.Since(began) < d {
				at := time.Now()
				err := g.search(c, r.IntN(g.names))
				took := time.Since(at)
				mu.Lock()
				latency.add(took)
				if err != nil {
					if sum.Wrong++; sum.First == "" {
						sum.First = err.Error()
					}
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	sum.Elapsed, sum.Searches = time.Since(began), latency.count
	sum.P50, sum.P99 = latency.quantile(0.5), latency.quantile(0.99)
	return sum
}

// search looks for the certificate of an owner and holds the answer against
// that.
func (g goClient) search(c *ldap.Conn, owner int) error {
	mail := mailOf(owner)
	found, err := c.Search(ldap.NewSearchRequest(directoryBase, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false,
		"(mail="+ldap.EscapeFilter(mail)+")", []string{certificateType}, nil))
	if err != nil {
		return err
	}
	if len(found.Entries) != 1 {
		return errEntries
	}
	values := found.Entries[0].GetEqualFoldRawAttributeValues(certificateType)
	switch {
	case len(values) != 1:
		return errValues
	case len(values[0]) != g.size:
		return errSize
	case !bytes.Contains(values[0], []byte(mail)):
		return errOwner
	}
	return nil
}

// goResult is the client with so many connections, by server.
type goResult struct {
	conns int
	cells map[string]*goCell
}

// goCell is what the rounds of one server gave; a round that does not count
// leaves its reason in void.
type goCell struct {
	rate, p50, p99 []float64
	void           []error
}

// measureGoLDAP runs the client against every server in turn.
func (b *bench) measureGoLDAP(ctx context.Context, columns []column) error {
	for _, conns := range goLDAPConns {
		r := goResult{conns: conns, cells: map[string]*goCell{}}
		for round := range b.o.rounds {
			for _, c := range columns {
				if c.server == nil {
					continue
				}
				run, err := b.goLDAP(ctx, c.server, conns)
				if ctx.Err() != nil {
					return ctx.Err()
				}
				said := r.add(c.kind.name(), run, err)
				b.say("%-42s %d/%d  %-8s %s", fmt.Sprintf("go-ldap on %d connections", conns), round+1, b.o.rounds, c.kind.name(), said)
			}
		}
		b.report.goLDAP = append(b.report.goLDAP, r)
	}
	return nil
}

// goLDAP runs the client in a process of its own, on the generator's core.
func (b *bench) goLDAP(ctx context.Context, s *server, conns int) (goRun, error) {
	self, err := os.Executable()
	if err != nil {
		return goRun{}, err
	}
	text, err := output(ctx, b.o.clientCore, self, goLDAPMode, s.addr.String(), strconv.Itoa(b.data.names), strconv.Itoa(b.o.certOctets), strconv.Itoa(conns), b.o.seconds.String())
	if err != nil {
		return goRun{}, err
	}
	var r goRun
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return goRun{}, fmt.Errorf("%s said %.200q: %w", goLDAPMode, text, err)
	}
	return r, r.valid()
}

// add takes one round and gives it in words.
func (r *goResult) add(name string, run goRun, err error) string {
	c := r.cells[name]
	if c == nil {
		c = &goCell{}
		r.cells[name] = c
	}
	if err != nil {
		c.void = append(c.void, err)
		return "does not count: " + err.Error()
	}
	micros := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	rate := float64(run.Searches) / run.Elapsed.Seconds()
	c.rate, c.p50, c.p99 = append(c.rate, rate), append(c.p50, micros(run.P50)), append(c.p99, micros(run.P99))
	return fmt.Sprintf("%7.0f/s, p50 %.0f µs, p99 %.0f µs", rate, micros(run.P50), micros(run.P99))
}

// ratio is directd's searches a second over slapd's; false if one is missing.
func (r *goResult) ratio() (float64, bool) {
	ours, theirs := r.cells[own{}.name()], r.cells[slapd{}.name()]
	if ours == nil || theirs == nil || len(ours.rate) == 0 || len(theirs.rate) == 0 {
		return 0, false
	}
	return spreadOf(ours.rate).Median / spreadOf(theirs.rate).Median, true
}

func (r *report) goTable(b *strings.Builder) {
	if len(r.goLDAP) == 0 {
		return
	}
	version, err := moduleVersion(goLDAPModule)
	if err != nil {
		version = goLDAPModule
	}
	fmt.Fprintf(b, "\nThe client %s end to end, on the generator's core with GOMAXPROCS=1, one search outstanding on each connection: searches a second, median of the rounds [least–most]; p50 / p99 in µs.\n\n| connections |", version)
	for _, name := range r.columns() {
		fmt.Fprintf(b, " %s |", name)
	}
	b.WriteString(" ratio | target | reached |\n|---|" + strings.Repeat("---|", len(r.columns())+3) + "\n")
	for _, g := range r.goLDAP {
		fmt.Fprintf(b, "| %d |", g.conns)
		for _, name := range r.columns() {
			fmt.Fprintf(b, " %s |", g.figure(name))
		}
		ratio, reached := "–", "not measured"
		if x, ok := g.ratio(); ok {
			ratio, reached = fmt.Sprintf("%.2f", x), yes(x >= targetGoLDAP)
		}
		fmt.Fprintf(b, " %s | ≥ %.2f × slapd | %s |\n", ratio, targetGoLDAP, reached)
	}
	for _, g := range r.goLDAP {
		for _, name := range r.columns() {
			if c := g.cells[name]; c != nil && len(c.void) > 0 {
				fmt.Fprintf(b, "\ngo-ldap on %d connections, %s: %d rounds did not count: %s.\n", g.conns, name, len(c.void), oneLine(c.void[0]))
			}
		}
	}
}

func (r *goResult) figure(name string) string {
	c := r.cells[name]
	switch {
	case c == nil:
		return "absent"
	case len(c.rate) == 0:
		return "no valid run"
	}
	s := spreadOf(c.rate)
	return fmt.Sprintf("%.0f [%.0f–%.0f]; %.0f / %.0f", s.Median, s.Min, s.Max, spreadOf(c.p50).Median, spreadOf(c.p99).Median)
}
