package store_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"testing"

	"directnode/internal/testpki"
	"directnode/store"
	"directnode/store/kv/memory"
)

func TestARehearsalRefusesWhatUpdateRefusesAndChangesNothing(t *testing.T) {
	refused := errors.New("refused")
	a, b := domain(t, "a.direct.test"), domain(t, "b.direct.test")
	db := &failing{Store: memory.New(memory.Options{})}
	s := with(t, open(t, db, store.Options{}), "a.direct.test")
	before, published := s.View(), false
	if err := s.SetPrepare(func(next *store.View) (func(), error) {
		if next.Domain(a) == nil {
			return nil, refused
		}
		return func() { published = next != before }, nil
	}); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		fn   func(*store.Tx) error
		want error
	}{
		"good":             {context.Background(), func(tx *store.Tx) error { return tx.AddDomain(b, nil) }, nil},
		"no change":        {context.Background(), func(*store.Tx) error { return nil }, nil},
		"the function":     {context.Background(), func(tx *store.Tx) error { return tx.AddDomain(a, nil) }, store.ErrExists},
		"what is prepared": {context.Background(), func(tx *store.Tx) error { return tx.RemoveDomain(a) }, refused},
		"unservable":       {context.Background(), func(tx *store.Tx) error { return tx.RemoveDomain(a) }, store.ErrUnservable},
		"the context":      {ended, func(tx *store.Tx) error { return tx.AddDomain(b, nil) }, context.Canceled},
	} {
		db.fail = errors.New("nothing may be written")
		if err := s.Rehearse(c.ctx, c.fn); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if s.View() != before || published {
			t.Fatalf("%s: the view moved", name)
		}
	}
	db.fail = nil
	check(t, s)
}

func TestCheckKeySaysWhatPutKeyWould(t *testing.T) {
	pki := testpki.New(t)
	pair, other := pki.SelfSigned("alice", testpki.Address("alice@a.direct.test")), pki.SelfSigned("bob", testpki.Address("bob@a.direct.test"))
	foreign, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for name, sealer := range map[string]*store.Sealer{"sealed": store.NewSealer([32]byte{1}), "no master key": nil} {
		s := with(t, open(t, memory.New(memory.Options{}), store.Options{Seal: sealer}), "a.direct.test")
		update(t, s, func(tx *store.Tx) error {
			if _, err := tx.AddCertificate(store.Certificate{DER: pair.DER}); err != nil {
				return err
			}
			for _, key := range []*rsa.PrivateKey{pair.Key.(*rsa.PrivateKey), other.Key.(*rsa.PrivateKey), foreign} {
				before, after := tx.CheckKey(pair.Cert, key), tx.PutKey(pair.SHA256(), tx.Find(pair.SHA256())[0].Owner, key)
				if (before == nil) != (after == nil) || before != nil && before.Error() != after.Error() {
					t.Errorf("%s: CheckKey = %v, PutKey = %v", name, before, after)
				}
			}
			return nil
		})
	}
}
