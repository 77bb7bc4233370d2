package main

import "context"

// measureDirectories does what was asked for of LDAP: what needs servers of
// its own first.
func (b *bench) measureDirectories(ctx context.Context, kinds []kind) error {
	if err := limitOpenFiles(b.o.slow); err != nil {
		return err
	}
	if err := pin(b.o.clientCore); err != nil {
		return err
	}
	compared := without(kinds, gldapServer{}.name(), kind.name)
	if b.o.wants(caseMemory) {
		if err := b.measureMemory(ctx, compared); err != nil {
			return err
		}
	}
	columns, err := b.startAll(ctx, kinds)
	defer func() { stopAll(columns) }()
	if err != nil {
		return err
	}
	if err := b.measureAll(ctx, directoryMeasurements(), columns); err != nil {
		return err
	}
	if b.o.wants(caseGoLDAP) {
		if err := b.measureGoLDAP(ctx, columns); err != nil {
			return err
		}
	}
	if b.o.wants(caseSlow) {
		return b.measureSlow(ctx, without(columns, gldapServer{}.name(), func(c column) string { return c.kind.name() }))
	}
	return nil
}

// without are those of another name.
func without[T any](all []T, name string, of func(T) string) []T {
	var rest []T
	for _, x := range all {
		if of(x) != name {
			rest = append(rest, x)
		}
	}
	return rest
}
