package store_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"testing"

	"directnode/internal/direct"
	"directnode/internal/testpki"
	"directnode/store"
	"directnode/store/kv/bolt"
)

// crowd adds n certificates of n owners: one certificate with n serial
// numbers, given to owners that it does not name.
func crowd(b *testing.B, s *store.Store, n int) {
	b.Helper()
	der := testpki.New(b).SelfSigned("crowd", testpki.Serial(0x4141414141414141)).DER
	at := bytes.Index(der, []byte("AAAAAAAA"))
	update(b, s, func(tx *store.Tx) error {
		if err := tx.AddDomain(domain(b, "a.direct.test"), nil); err != nil {
			return err
		}
		for i := range n {
			one := bytes.Clone(der)
			binary.BigEndian.PutUint64(one[at:], uint64(i)|1<<62)
			o := owner(b, fmt.Sprintf("u%07d@a.direct.test", i))
			if _, err := tx.AddCertificate(store.Certificate{Owner: o, DER: one}); err != nil {
				return err
			}
		}
		return nil
	})
}

// BenchmarkOneChange is the cost of one certificate among many: it must not
// follow their number but for the copy of a list.
func BenchmarkOneChange(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprint("certificates=", n), func(b *testing.B) {
			db, err := bolt.Open(filepath.Join(b.TempDir(), "store.db"), bolt.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			s, err := store.Open(context.Background(), db, store.Options{})
			if err != nil {
				b.Fatal(err)
			}
			crowd(b, s, n)
			sha := ""
			for c := range s.View().Domain(domain(b, "a.direct.test")).Certificates.All {
				sha = c.SHA256
			}
			for i := 0; b.Loop(); i++ {
				update(b, s, func(tx *store.Tx) error { return tx.SetPublish(sha, i%2 == 0, false) })
			}
		})
	}
}

// BenchmarkOpen is a start of the node.
func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "store.db")
	load := func() (*store.Store, *bolt.DB) {
		db, err := bolt.Open(path, bolt.Options{})
		if err != nil {
			b.Fatal(err)
		}
		s, err := store.Open(context.Background(), db, store.Options{})
		if err != nil {
			b.Fatal(err)
		}
		return s, db
	}
	s, db := load()
	crowd(b, s, 100_000)
	db.Close()
	for b.Loop() {
		s, db := load()
		if len(s.View().Owned(direct.Owner{})) != 0 {
			b.Fatal("nobody owns something")
		}
		db.Close()
	}
}
