package store

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"directnode/store/kv"
)

// Restore replaces everything by what a backup holds, in one change, which
// like every other is prepared and published. Before anything is changed the
// whole backup is read and held against all invariants of Check; its private
// keys must open under this store's master key. The generation goes on
// counting from the higher of the two, so that zone serials never go back.
//
// Errors are *Refusal with ErrMalformed (no backup at all), ErrDamaged,
// ErrSchema, ErrNoMasterKey or ErrWrongMasterKey, or those of Update.
func (s *Store) Restore(ctx context.Context, r io.Reader) error {
	p, err := parseBackup(ctx, r)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	restored, err := s.verifyBackup(ctx, p)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if err := s.acquire(ctx); err != nil {
		return err
	}
	defer s.release()
	present := s.View()
	generation := max(present.Rev, p.header.Generation) + 1
	for _, dd := range restored.data {
		dd.generation = generation
	}
	next := newView(generation, restored.data, restored.peers)
	if _, err := s.commit(ctx, next, changesBetween(present, next)); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return nil
}

// verifyBackup makes a view of a backup if all of it is sound.
func (s *Store) verifyBackup(ctx context.Context, p *parsedBackup) (*View, error) {
	c := &audit{ctx: ctx, seal: s.seal}
	keys := make(map[string]bool, len(p.entries))
	for _, e := range p.entries {
		if keys[e.Key] {
			return nil, damagedBackup("%.100q stands in it twice", e.Key)
		}
		keys[e.Key] = true
	}
	v := assemble(p.entries, p.header.Generation, c.report)
	if err := s.verifyMaster(p, v); err != nil {
		return nil, err
	}
	if err := c.view(v); err != nil {
		return nil, err
	}
	if len(c.problems) > 0 {
		return nil, damagedBackup("%s (%d problems in all)", c.problems[0], len(c.problems))
	}
	return v, nil
}

// verifyMaster: keys that nobody here can open must not replace keys that
// open. A backup without keys may come from anywhere.
func (s *Store) verifyMaster(p *parsedBackup, v *View) error {
	switch {
	case !v.anySealed():
		return nil
	case s.seal == nil:
		return refuse("the backup", ErrNoMasterKey, "it holds private keys")
	case p.master == nil:
		return damagedBackup("it holds private keys but no %s", keyMaster)
	}
	return s.seal.checkMaster("the backup", p.master)
}

// changesBetween lists the operations that make the entries of one view into
// those of another. Domains that the views share are not looked at.
func changesBetween(was, is *View) []kv.Op {
	var ops []kv.Op
	for _, d := range was.domains {
		before, after := was.data[d], is.data[d]
		switch {
		case before == after:
		case after == nil:
			ops = append(ops, domainOps(before, nil)...)
		default:
			ops = append(ops, domainOps(before, after)...)
		}
	}
	for _, d := range is.domains {
		if was.data[d] == nil {
			ops = append(ops, domainOps(nil, is.data[d])...)
		}
	}
	if was.peers != is.peers {
		ops = append(ops, diff(was.peers.entries(), is.peers.entries())...)
	}
	slices.SortFunc(ops, func(a, b kv.Op) int { return cmp.Compare(a.Key, b.Key) })
	return ops
}
