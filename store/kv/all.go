package kv

import (
	"context"
	"errors"
	"fmt"
)

// maxRestarts is how often All begins again because somebody wrote between
// two pages, before it gives up.
const maxRestarts = 8

// errMoved: another page was read at another revision.
var errMoved = errors.New("the store changed while it was read")

// All returns every key that begins with prefix, in order, as they stood at
// one revision, and that revision. When somebody writes between two pages it
// begins again.
func All(ctx context.Context, s Store, prefix string) ([]KV, int64, error) {
	for range maxRestarts {
		all, rev, err := readAll(ctx, s, prefix)
		if !errors.Is(err, errMoved) {
			return all, rev, err
		}
	}
	return nil, 0, fmt.Errorf("read %q: %w", prefix, errMoved)
}

func readAll(ctx context.Context, s Store, prefix string) ([]KV, int64, error) {
	var all []KV
	var first int64
	for after := ""; ; after = all[len(all)-1].Key {
		page, rev, err := s.Scan(ctx, prefix, after, 0)
		if err != nil {
			return nil, 0, err
		}
		switch {
		case after == "":
			first = rev
		case rev != first:
			return nil, 0, errMoved
		}
		if len(page) == 0 {
			return all, first, nil
		}
		all = append(all, page...)
	}
}
