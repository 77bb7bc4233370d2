package store_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"directnode/internal/direct"
	"directnode/store"
	"directnode/store/kv/memory"
)

// sign signs a domain with one new key.
func sign(t testing.TB, s *store.Store, d direct.Domain, algorithm uint8) store.Signing {
	t.Helper()
	var is store.Signing
	update(t, s, func(tx *store.Tx) error {
		key, err := tx.NewDNSKey(d, algorithm, store.RoleCSK)
		if err != nil {
			return err
		}
		key.State, key.Signs, key.Since = store.KeyPublished, true, time.Unix(1, 0).UTC()
		is = store.Signing{Algorithm: algorithm, Denial: store.DenialCompact, Since: key.Since, Keys: []store.DNSKey{key}}
		return tx.SetSigning(d, &is)
	})
	return is
}

func TestTheKeysOfASignedDomainAreKeptSealed(t *testing.T) {
	for _, algorithm := range []uint8{store.AlgorithmECDSA, store.AlgorithmEd25519} {
		s := with(t, newStore(t), "a.direct.test")
		d := domain(t, "a.direct.test")
		is := sign(t, s, d, algorithm)
		check(t, s)
		saved := backup(t, s)

		db := memory.New(memory.Options{})
		again := open(t, db, store.Options{Seal: sealer()})
		if err := restore(again, saved); err != nil {
			t.Fatal(err)
		}
		got := again.View().Domain(d).Signing
		if got == nil || len(got.Keys) != 1 || got.Keys[0].ID != is.Keys[0].ID || got.Denial != is.Denial {
			t.Fatalf("restored %+v of %+v", got, is)
		}
		key, err := sealer().OpenDNSKey(d, got.Keys[0])
		if err != nil || key.Public() == nil {
			t.Fatalf("algorithm %d: %v", algorithm, err)
		}
		if bytes.Contains(saved, got.Keys[0].Sealed[:40]) { // in JSON it is Base64
			t.Error("the backup holds the key in another form than the store")
		}
		other := got.Keys[0]
		if _, err := sealer().OpenDNSKey(domain(t, "b.direct.test"), other); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("a key opens for another domain: %v", err)
		}
		other.Public = bytes.Clone(other.Public)
		other.Public[0] ^= 1
		if _, err := sealer().OpenDNSKey(d, other); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("a key opens for another public key: %v", err)
		}
		if err := restore(open(t, memory.New(memory.Options{}), store.Options{Seal: store.NewSealer([32]byte{9})}), saved); !errors.Is(err, store.ErrWrongMasterKey) {
			t.Errorf("restored under another master key: %v", err)
		}
		if err := restore(open(t, memory.New(memory.Options{}), store.Options{}), saved); !errors.Is(err, store.ErrNoMasterKey) {
			t.Errorf("restored without a master key: %v", err)
		}
	}
}

func TestWhatIsNoChainOfTrustIsRefused(t *testing.T) {
	s := with(t, newStore(t), "a.direct.test")
	d := domain(t, "a.direct.test")
	is := sign(t, s, d, store.AlgorithmECDSA)
	for name, spoil := range map[string]func(*store.Signing){
		"no key":             func(x *store.Signing) { x.Keys = nil },
		"nothing signs":      func(x *store.Signing) { x.Keys[0].Signs = false },
		"a ZSK alone":        func(x *store.Signing) { x.Split, x.Keys[0].Role = true, store.RoleZSK },
		"a KSK signs":        func(x *store.Signing) { x.Split, x.Keys[0].Role = true, store.RoleKSK },
		"twice the same":     func(x *store.Signing) { x.Keys = append(x.Keys, x.Keys[0]) },
		"another algorithm":  func(x *store.Signing) { x.Algorithm = store.AlgorithmEd25519 },
		"unknown algorithm":  func(x *store.Signing) { x.Algorithm = 5 },
		"unknown denial":     func(x *store.Signing) { x.Denial = "nsec" },
		"unknown state":      func(x *store.Signing) { x.Keys[0].State = "" },
		"unknown departure":  func(x *store.Signing) { x.Leaving = "soon" },
		"role without split": func(x *store.Signing) { x.Split = true },
	} {
		spoiled := is.Clone()
		spoil(spoiled)
		_, err := s.Update(context.Background(), func(tx *store.Tx) error { return tx.SetSigning(d, spoiled) })
		if !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := s.View().Domain(d).Signing; len(got.Keys) != 1 || !got.Keys[0].Signs {
		t.Errorf("a refused change left %+v", got)
	}
}

func TestASignedDomainRemembersItsLargestTTL(t *testing.T) {
	s := with(t, newStore(t), "a.direct.test")
	d := domain(t, "a.direct.test")
	sign(t, s, d, store.AlgorithmECDSA)
	set := func(ttl uint32) {
		update(t, s, func(tx *store.Tx) error {
			list := records(d.String(), "192.0.2.1")
			for i := range list {
				list[i].TTL = ttl
			}
			return tx.SetRecords(d, list)
		})
	}
	set(200_000)
	set(60)
	if got := s.View().Domain(d).Signing.MaxTTL; got != 200_000 {
		t.Errorf("MaxTTL %d; caches may keep signatures for 200000 s", got)
	}
	update(t, s, func(tx *store.Tx) error { return tx.SetSigning(d, nil) })
	if s.View().Domain(d).Signing != nil {
		t.Error("still signed")
	}
}
