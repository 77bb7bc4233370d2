package admin

import (
	"context"
	"fmt"
	"io"
)

// CheckStore holds the store against every invariant.
func (s *Service) CheckStore(ctx context.Context, _ struct{}) (Check, error) {
	problems, err := s.store.Check(ctx)
	if err != nil {
		return Check{}, storeFailure("the store was not checked", err)
	}
	c := Check{Problems: []string{}}
	for _, p := range problems {
		c.Problems = append(c.Problems, p.String())
		c.Code = CodeStore
	}
	return c, nil
}

// Backup writes a backup of everything the administrator owns. Private keys
// are in it as they are stored: sealed. The master key is not.
func (s *Service) Backup(ctx context.Context, w io.Writer) error {
	if err := s.store.Backup(ctx, w); err != nil {
		return storeFailure("no backup was made", err)
	}
	return nil
}

// Restore replaces everything the administrator owns by a backup, or nothing.
func (s *Service) Restore(ctx context.Context, r io.Reader) (Done, error) {
	if err := s.store.Restore(ctx, r); err != nil {
		return Done{}, storeFailure("nothing was restored; the store is as it was", err)
	}
	v := s.store.View()
	return Done{fmt.Sprintf("restored %d domains; generation %d", len(v.Domains()), v.Rev)}, nil
}

func storeFailure(what string, err error) error {
	return &Error{"DN-STORE-001", CodeStore, what, err.Error(), "correct what it names and give the order again"}
}
