package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"
)

// bench is one run of the program.
type bench struct {
	o       options
	data    *dataSet
	own     own
	scratch string
	log     io.Writer // progress, for people
	gen     generator
	report  *report
}

// column is a server of the table; server is nil where it is absent.
type column struct {
	kind   kind
	server *server
}

// say reports progress.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.log, "%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

// measure does what was asked for of one part.
func (b *bench) measure(ctx context.Context, p part) error {
	if p.topic == topicLDAP {
		return b.measureDirectories(ctx, p.kinds)
	}
	return b.measureDNS(ctx, p.kinds)
}

// measureDNS measures what needs servers of its own first.
func (b *bench) measureDNS(ctx context.Context, kinds []kind) error {
	if b.o.wants(caseImport) {
		if err := b.measureImport(ctx); err != nil {
			return err
		}
	}
	if err := pin(b.o.clientCore); err != nil {
		return err
	}
	if b.o.wants(caseStart) {
		if err := b.measureStarts(ctx, kinds); err != nil {
			return err
		}
	}
	columns, err := b.startAll(ctx, kinds)
	defer func() { stopAll(columns) }()
	if err != nil {
		return err
	}
	if err := b.measureAll(ctx, measurements(b.o.certOctets), columns); err != nil {
		return err
	}
	if b.o.wants(caseSigned) {
		if err := b.measureSigned(ctx, columns[0].server); err != nil {
			return err
		}
	}
	if b.o.wants(caseChange) {
		return b.measureChanges(ctx, columns)
	}
	return nil
}

// startAll starts ours and each peer that is there. A peer that does not start
// is absent; ours must.
func (b *bench) startAll(ctx context.Context, kinds []kind) ([]column, error) {
	var columns []column
	for _, k := range kinds {
		c, err := b.startOne(ctx, k)
		columns = append(columns, c)
		switch {
		case err == nil:
		case k.name() == own{}.name() || ctx.Err() != nil:
			return columns, err
		default:
			b.say("absent: %v", err)
		}
		b.report.server(k, c, err)
	}
	return columns, nil
}

func (b *bench) startOne(ctx context.Context, k kind) (column, error) {
	version, err := k.version(ctx)
	if err != nil {
		return column{kind: k}, fmt.Errorf("%s: %w", k.name(), err)
	}
	s, err := start(ctx, b.o.serverCore, k, filepath.Join(b.scratch, k.name()), b.data)
	if err != nil {
		return column{kind: k}, err
	}
	c := column{kind: k, server: s}
	if err := s.verify(b.data); err != nil {
		return c, err
	}
	b.say("%s at %s after %.2f s (%s)", k.name(), s.addr, s.ready.Seconds(), version)
	return c, nil
}

func stopAll(columns []column) {
	for _, c := range columns {
		if c.server != nil {
			c.server.proc.stop()
		}
	}
}

// measureAll measures every case, round after round, server after server.
func (b *bench) measureAll(ctx context.Context, all []measurement, columns []column) error {
	for _, m := range all {
		if !b.o.wants(m.key) {
			continue
		}
		if err := b.measureCase(ctx, m, columns); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) measureCase(ctx context.Context, m measurement, columns []column) error {
	q := b.dialect(m.ask)
	row := b.report.row(m)
	if m.echo > 0 {
		k := echo{m.echo}
		s, err := start(ctx, b.o.serverCore, k, filepath.Join(b.scratch, k.name()), b.data)
		if err != nil {
			return err
		}
		defer s.proc.stop()
		columns = append(columns[:len(columns):len(columns)], column{k, s})
	}
	for round := range b.o.rounds {
		for _, c := range columns {
			if c.server == nil {
				continue
			}
			o, cpu, err := b.gen.measure(ctx, m.load, c.server, echoed(q, c.kind), b.o.seconds)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil && c.server.proc.ended() {
				return errors.Join(fmt.Errorf("%s: %s: %w", m.title, c.kind.name(), err), errors.New(c.server.proc.said()))
			}
			s := row.add(c.kind.name(), o, cpu, err)
			b.say("%-42s %d/%d  %-8s %s", m.title, round+1, b.o.rounds, c.kind.name(), s)
		}
	}
	return nil
}

// dialect makes what a case asks.
func (b *bench) dialect(q question) dialect {
	if q.ldap {
		return buildSearches(b.data.names, b.o.certOctets)
	}
	return buildQueries(q, b.data.names)
}

// echoed are the queries as they are for a server: of the echo's answers the
// length alone can be right.
func echoed(q dialect, k kind) dialect {
	e, ok := k.(echo)
	asked, dns := q.(*queries)
	if !ok || !dns {
		return q
	}
	copied := *asked
	copied.want = want{size: e.size}
	return &copied
}
