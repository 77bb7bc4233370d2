package store_test

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"testing/synctest"

	"directnode/internal/direct"
	"directnode/internal/testpki"
	"directnode/store"
	"directnode/store/kv/bolt"
)

// TestALoanIsSettledUnderReadersAndWriters opens a store whose certificates stay
// in the driver's memory, reads and changes it, settles it, and reads it again:
// what a reader sees is the same before and after, in every generation.
func TestALoanIsSettledUnderReadersAndWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	open := func() (*store.Store, *bolt.DB) {
		db, err := bolt.Open(path, bolt.Options{LendFrom: 1})
		if err != nil {
			t.Fatal(err)
		}
		s, err := store.Open(t.Context(), db, store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return s, db
	}
	ca := testpki.New(t).Root("Root")
	ders := [][]byte{ca.Leaf("a").DER, ca.Leaf("b").DER, ca.Leaf("c").DER}
	domains := []direct.Domain{domain(t, "a.direct.test"), domain(t, "b.direct.test")}
	add := func(tx *store.Tx, i int, der []byte) error {
		_, err := tx.AddCertificate(store.Certificate{Owner: owner(t, fmt.Sprintf("u%d@%s", i, domains[i%2])), DER: der, PublishDNS: true})
		return err
	}
	s, db := open()
	update(t, s, func(tx *store.Tx) error {
		for _, d := range domains {
			if err := tx.AddDomain(d, nil); err != nil {
				return err
			}
		}
		for i := range 700 {
			if err := add(tx, i, ders[i%3]); err != nil {
				return err
			}
		}
		return nil
	})
	want := everything(s.View())
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, settled := range []bool{false, true} {
		s, db = open()
		before := s.View()
		for i := range 15 { // pages that the change frees must not be written while they are lent
			update(t, s, func(tx *store.Tx) error { return add(tx, i*7, ders[(i*7+1)%3]) })
			update(t, s, func(tx *store.Tx) error { return tx.SetPublish(store.Fingerprint(ders[i%3]), i%2 == 0, true) })
		}
		after := everything(s.View())
		if settled {
			synctest.Test(t, func(t *testing.T) { // the grace is a minute
				if err := s.Settle(context.Background()); err != nil {
					t.Fatal(err)
				}
			})
			for range 8 {
				update(t, s, func(tx *store.Tx) error { return tx.SetPublish(store.Fingerprint(ders[0]), false, true) })
				update(t, s, func(tx *store.Tx) error { return tx.SetPublish(store.Fingerprint(ders[0]), true, true) })
			}
		} else if got := everything(s.View()); !bytes.Equal(got, after) {
			t.Error("what is read twice differs")
		}
		if got := everything(before); !bytes.Equal(got, want) {
			t.Errorf("settled %v: the generation of the start has changed", settled)
		}
		if problems, err := s.Check(t.Context()); err != nil || len(problems) > 0 {
			t.Errorf("settled %v: %v, %v", settled, problems, err)
		}
		want = everything(s.View())
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s, db = open()
	defer db.Close()
	if got := everything(s.View()); !bytes.Equal(got, want) {
		t.Error("after a restart it is not what it was")
	}
}

// everything is all certificates of a view as text.
func everything(v *store.View) []byte {
	var b bytes.Buffer
	for _, d := range v.Domains() {
		for c := range v.Domain(d).Certificates.Sorted {
			fmt.Fprintf(&b, "%s %s %v %v %v %x\n", c.Owner, c.SHA256, c.PublishDNS, c.PublishLDAP, c.Added.Unix(), c.DER)
		}
	}
	return b.Bytes()
}
