package dit_test

import (
	"context"
	"fmt"
	"testing"

	"directnode/internal/direct"
	"directnode/internal/spec"
	"directnode/internal/testpki"
	"directnode/ldapserver/dit"
	"directnode/store"
	"directnode/store/kv/memory"
)

// TestTreeFollowsTheStore makes generations in a store, one change after the
// other, and holds the updated tree against one that is built anew.
func TestTreeFollowsTheStore(t *testing.T) {
	spec.Covers(t, "AS-1.4-a", "AS-1.4-h")
	ctx := context.Background()
	db := memory.New(memory.Options{})
	t.Cleanup(func() { db.Close() })
	s, err := store.Open(ctx, db, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	root := testpki.New(t).Root("Test Root")
	bob1, bob2 := root.Leaf("bob", testpki.Address("bob@b.direct.test")), root.Leaf("bob", testpki.Address("bob@b.direct.test"))
	both := root.Leaf("both", testpki.Address("carol@b.direct.test"), testpki.Domain("a.direct.test"))
	d := func(name string) direct.Domain {
		d, err := direct.ParseDomain(name)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	add := func(p testpki.Pair, ldap bool) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			_, err := tx.AddCertificate(store.Certificate{DER: p.DER, PublishLDAP: ldap})
			return err
		}
	}
	tr, err := dit.Build(s.View(), dit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		change  func(*store.Tx) error
		entries int
		bob     int // certificates
	}{
		{func(tx *store.Tx) error { return tx.AddDomain(d("a.direct.test"), nil) }, 0, 0},
		{func(tx *store.Tx) error { return tx.AddDomain(d("b.direct.test"), nil) }, 0, 0},
		{add(bob1, false), 0, 0},
		{func(tx *store.Tx) error { return tx.SetPublish(bob1.SHA256(), false, true) }, 1, 1},
		{add(bob2, true), 1, 2},
		{add(both, true), 3, 2},
		{func(tx *store.Tx) error { return tx.SetPublish(bob2.SHA256(), true, false) }, 3, 1},
		{func(tx *store.Tx) error { return tx.SetRecords(d("b.direct.test"), nil) }, 3, 1},
		{func(tx *store.Tx) error { return tx.RemoveCertificate(bob1.SHA256()) }, 2, 0},
		{func(tx *store.Tx) error { return tx.RemoveDomain(d("a.direct.test")) }, 1, 0},
	} {
		before := tr.ByMail([]byte("carol@b.direct.test"))
		v, err := s.Update(ctx, step.change)
		if err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		if tr, err = tr.Update(v); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		built, err := dit.Build(v, dit.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := contents(t, tr), contents(t, built); got != want {
			t.Fatalf("step %d: updated\n%s\nbuilt\n%s", i, got, want)
		}
		bob := 0
		if e := tr.ByMail([]byte("bob@b.direct.test")); e != nil {
			bob = len(e.Certificates())
		}
		if tr.Len() != step.entries || bob != step.bob {
			t.Errorf("step %d: %d entries, bob has %d certificates; want %d, %d", i, tr.Len(), bob, step.entries, step.bob)
		}
		if after := tr.ByMail([]byte("carol@b.direct.test")); before != nil && after != nil && !after.Same(before) {
			t.Errorf("step %d: carol's entry was made anew", i)
		}
	}
}

// TestOneChangeInALargeDomainCostsOneChange counts what an update allocates.
func TestOneChangeInALargeDomainCostsOneChange(t *testing.T) {
	ctx := context.Background()
	db := memory.New(memory.Options{})
	t.Cleanup(func() { db.Close() })
	s, err := store.Open(ctx, db, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	name, err := direct.ParseDomain("b.direct.test")
	if err != nil {
		t.Fatal(err)
	}
	leaf := testpki.New(t).Root("Test Root").Leaf("bob", testpki.Address("bob@b.direct.test"))
	owner := func(i int) direct.Owner {
		o, err := direct.ParseOwner(fmt.Sprintf("u%05d@b.direct.test", i))
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	const n = 3000
	first, err := s.Update(ctx, func(tx *store.Tx) error {
		if err := tx.AddDomain(name, nil); err != nil {
			return err
		}
		for i := range n {
			if _, err := tx.AddCertificate(store.Certificate{Owner: owner(i), DER: leaf.DER, PublishLDAP: true}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	tr, err := dit.Build(first, dit.Options{})
	if err != nil || tr.Len() != n {
		t.Fatalf("%d entries, %v", tr.Len(), err)
	}
	next, err := s.Update(ctx, func(tx *store.Tx) error {
		_, err := tx.AddCertificate(store.Certificate{Owner: owner(n), DER: leaf.DER, PublishLDAP: true})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	allocs := testing.AllocsPerRun(10, func() {
		if u, err := tr.Update(next); err != nil || u.Len() != n+1 {
			t.Fatalf("%d entries, %v", u.Len(), err)
		}
	})
	if allocs > 200 {
		t.Errorf("one certificate more costs %v allocations", allocs)
	}
}
