package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// changeWait bounds one change: NSD reads its whole zone again, beside the
	// load.
	changeWait = 5 * time.Minute

	// commandGrace is how long a command may go on after its change is seen.
	commandGrace = 2 * time.Second

	// visiblePause is how often a change is looked for at first. Looking takes
	// time from the servers and the command, so that it gets rarer: the figure
	// is good to visibleShare of it.
	visiblePause = time.Millisecond
	visibleShare = 50

	// changeSpread is a prime: changes fall all over the zone.
	changeSpread = 7919

	// sliceLength is how finely a load's latency is looked at.
	sliceLength = 100 * time.Millisecond

	// quietTime is how long the load runs alone before the changes, to show
	// what the machine does by itself.
	quietTime = 5 * time.Second
)

// changer is a server whose administrator can replace a certificate.
type changer interface {
	kind
	// change gives what replaces the certificate of owner i: the preparation is
	// done when it returns, and the time of the returned function counts.
	change(s *server, d *dataSet, i, version int) (func(ctx context.Context, core int) error, error)
	// changes is how many are made, for they take from milliseconds to minutes.
	changes() int
}

// changeResult is what the changes of one server took, and what a load saw.
type changeResult struct {
	name      string
	visible   []float64 // ms from the command to the right answer everywhere
	quiet     []slice   // the load alone
	disturbed []slice
	load      outcome
	err       error
}

// change is by the tool, with a PEM file.
func (o own) change(s *server, d *dataSet, i, version int) (func(context.Context, int) error, error) {
	path := filepath.Join(s.dir, "new.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d.pool.certificate(i, version)})
	if err := os.WriteFile(path, block, 0o600); err != nil {
		return nil, err
	}
	return func(ctx context.Context, core int) error {
		_, err := output(ctx, core, filepath.Join(o.bin, "directctl"), "--config", filepath.Join(s.dir, "directd.toml"), "cert", "import", path)
		return err
	}, nil
}

func (own) changes() int { return 100 }

// update is a dynamic update (RFC 2136) by knsupdate: of one command and one
// message, the quickest way that Knot and BIND have. BIND's own nsupdate does
// not always end.
func update(s *server, d *dataSet, i, version int) (func(context.Context, int) error, error) {
	path := filepath.Join(s.dir, "update")
	line := d.line(i, version)
	_, rdata, _ := bytes.Cut(line, []byte(" CERT "))
	name := localPart(i) + "." + zoneName + "."
	text := fmt.Sprintf("server %s %d\nzone %s\nupdate delete %s CERT\nupdate add %s 3600 CERT %ssend\n", s.addr.Addr(), s.addr.Port(), zoneName, name, name, rdata)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, err
	}
	knsupdate, err := find("knsupdate")
	return func(ctx context.Context, core int) error {
		_, err := output(ctx, core, knsupdate, "-v", path)
		return err
	}, err
}

func (knot) change(s *server, d *dataSet, i, version int) (func(context.Context, int) error, error) {
	return update(s, d, i, version)
}

func (knot) changes() int { return 20 }

func (bind) change(s *server, d *dataSet, i, version int) (func(context.Context, int) error, error) {
	return update(s, d, i, version)
}

func (bind) changes() int { return 20 }

// change edits the zone text in place, serial number and certificate, and asks
// NSD to read it again: it has no other way.
func (nsd) change(s *server, d *dataSet, i, version int) (func(context.Context, int) error, error) {
	f, err := os.OpenFile(filepath.Join(s.dir, "zone.text"), os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.WriteAt(d.line(i, version), d.offset(i)); err != nil {
		return nil, err
	}
	serial := bytes.Index([]byte(head), []byte("1000000001"))
	if _, err := f.WriteAt(fmt.Appendf(nil, "%010d", 1_000_000_001+version), int64(serial)); err != nil {
		return nil, err
	}
	control, err := find("nsd-control")
	return func(ctx context.Context, core int) error {
		_, err := output(ctx, core, control, "-c", filepath.Join(s.dir, "nsd.conf"), "reload", zoneName)
		return err
	}, err
}

func (nsd) changes() int { return 3 }

// measureChanges replaces certificates one after the other while a load runs.
func (b *bench) measureChanges(ctx context.Context, columns []column) error {
	q := buildQueries(askCert, b.data.names)
	for _, c := range columns {
		k, ok := c.kind.(changer)
		if c.server == nil || !ok {
			continue
		}
		r := b.changesOf(ctx, k, c.server, q)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		b.report.changes = append(b.report.changes, r)
		b.say("one certificate replaced: %s: %s", r.name, r.summary())
	}
	return nil
}

func (b *bench) changesOf(ctx context.Context, k changer, s *server, q *queries) changeResult {
	r := changeResult{name: k.name()}
	l := load{over: overUDP, window: 4096, rate: b.o.rate, each: sliceLength}
	quiet, err := b.gen.do(ctx, l, s.addr, q, quietTime)
	if err = errOr(err, quiet.valid()); err != nil {
		r.err = fmt.Errorf("the load alone: %w", err)
	}
	r.quiet = quiet.slices
	running, stop := context.WithCancel(ctx)
	defer stop()
	loaded := make(chan error, 1)
	go func() {
		var err error
		r.load, err = b.gen.do(running, l, s.addr, q, time.Hour)
		loaded <- err
	}()
	for n := range min(k.changes(), b.o.changes) {
		took, err := b.changeOnce(ctx, k, s, n)
		if err != nil {
			r.err = errors.Join(r.err, err)
			break
		}
		r.visible = append(r.visible, float64(took)/float64(time.Millisecond))
	}
	stop()
	if err = errOr(<-loaded, r.load.valid()); err != nil {
		r.err = errors.Join(r.err, fmt.Errorf("the load during changes: %w", err))
	}
	r.disturbed = r.load.slices
	return r
}

// changeOnce makes change n and waits until everything answers with it.
func (b *bench) changeOnce(ctx context.Context, k changer, s *server, n int) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, changeWait)
	defer cancel()
	i, version := (n+1)*changeSpread%b.data.names, n+1
	der := b.data.pool.certificate(i, version)
	do, err := k.change(s, b.data, i, version)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	done := make(chan error, 1)
	go func() {
		// Bound to no core: the generator goes before everything on its own.
		err := do(ctx, anyCore)
		if err != nil {
			cancel() // nothing will be seen
		}
		done <- err
	}()
	err = s.awaitChange(ctx, i, der)
	took := time.Since(began)
	if err != nil {
		cancel() // the command is to end as well, and its error says more
		return 0, errors.Join(err, <-done)
	}
	// What is seen is done, whether or not the command remembers to end.
	select {
	case <-done:
	case <-time.After(commandGrace):
	}
	return took, nil
}

// awaitChange waits until a server shows a certificate: by DNS, and by LDAP
// where it has that.
func (s *server) awaitChange(ctx context.Context, i int, der []byte) error {
	shown := []func() error{func() error { return s.has(i, der, uint16(i)) }}
	if o, ok := s.kind.(own); ok {
		shown = append(shown, func() error { return directoryHas(o.ldap, i, der) })
	}
	began := time.Now()
	for _, look := range shown {
		for {
			err := look()
			if err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("the change cannot be seen: %w", err)
			case <-time.After(max(visiblePause, time.Since(began)/visibleShare)):
			}
		}
	}
	return nil
}

// worst is the greatest p99 of a slice, in ms.
func worst(slices []slice) float64 {
	var w time.Duration
	for _, s := range slices {
		w = max(w, s.p99)
	}
	return float64(w) / float64(time.Millisecond)
}

func (r *changeResult) summary() string {
	v := spreadOf(r.visible)
	text := fmt.Sprintf("visible after %.1f ms [%.1f–%.1f] of %d, load %d answered, %d lost, worst p99 of 100 ms %.2f ms (alone %.2f)",
		v.Median, v.Min, v.Max, v.N, r.load.answers, r.load.lost, worst(r.disturbed), worst(r.quiet))
	if r.err != nil {
		text += "; does not count: " + oneLine(r.err)
	}
	return text
}

// oneLine is an error that was joined of several, for a table or a log.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
