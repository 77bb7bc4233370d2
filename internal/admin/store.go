package admin

import (
	"context"
	"errors"
	"fmt"
	"io"

	"directnode/store"
	"directnode/store/kv"
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
		return Done{}, restoreFailure(err)
	}
	v := s.store.View()
	return Done{fmt.Sprintf("restored %d domains; generation %d", len(v.Domains()), v.Rev)}, nil
}

func restoreFailure(err error) error {
	const what = "nothing was restored; the store is as it was"
	if errors.Is(err, store.ErrMalformed) {
		return &Error{"DN-STORE-006", CodeStore, what, err.Error(), "give a file that `directctl backup` wrote"}
	}
	return storeFailure(what, err)
}

// storeFailure makes an error of the store one that says whose turn it is: the
// operator's where the order was refused, the machine's where the store could
// not be used, time's where the order was cut off.
func storeFailure(what string, err error) error {
	var refusal *store.Refusal
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &Error{"DN-STORE-003", CodeTemporary, what, "the order was cut off: " + err.Error(), "give it again"}
	case errors.Is(err, kv.ErrClosed):
		return &Error{"DN-STORE-003", CodeTemporary, what, "the daemon is stopping", "give the order again when it runs"}
	case errors.Is(err, store.ErrWrongMasterKey), errors.Is(err, store.ErrNoMasterKey):
		return &Error{"DN-STORE-005", CodeStore, what, err.Error(), "start the daemon with the master key that sealed these keys (keys.master_key_file); no other opens them"}
	case errors.Is(err, store.ErrDamaged), errors.Is(err, store.ErrSchema):
		return &Error{"DN-STORE-001", CodeStore, what, err.Error(), "run `directctl store check`; where the store or the file is damaged, use an earlier backup"}
	case errors.As(err, &refusal), errors.Is(err, store.ErrUnservable):
		return &Error{"DN-STORE-004", CodeFailed, what, err.Error(), remedy(err)}
	}
	return &Error{"DN-STORE-001", CodeStore, what, err.Error(), "see that the disk of data_dir is sound and has room, then give the order again"}
}

// remedy says what to do about an order that the store refused.
func remedy(err error) string {
	switch {
	case errors.Is(err, store.ErrExists):
		return "nothing, if it is what you want; `directctl domain show` shows what is there"
	case errors.Is(err, store.ErrNotFound):
		return "somebody else may have removed it just now; look again"
	case errors.Is(err, store.ErrLimit):
		return "remove what is no longer used, or give less at once"
	}
	return "correct what it names and give the order again"
}
