package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"directnode/internal/testpki"
	"directnode/store"
	"directnode/store/kv/memory"
)

func bundleOf(name string, certs ...testpki.Pair) store.Bundle {
	b := store.Bundle{Name: name, URL: "https://bundle.example.org/b.p7b", In: true, Refresh: 24 * time.Hour}
	for _, c := range certs {
		b.Anchors = append(b.Anchors, store.BundleAnchor{DER: c.DER})
	}
	return b
}

func bundleText(v *store.View, d string, t testing.TB) string {
	var out strings.Builder
	for _, b := range v.Domain(domain(t, d)).Bundles {
		fmt.Fprintf(&out, "%s %s in=%v out=%v signer=%d %v:", b.Name, b.URL, b.In, b.Out, len(b.Signer), b.Refresh)
		for _, a := range b.Anchors {
			fmt.Fprintf(&out, " %.8s", a.SHA256)
		}
		out.WriteByte('\n')
	}
	return out.String()
}

// TestBundlesAreReplacedWhole, and kept through restarts, backups and restores.
func TestBundlesAreReplacedWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s, db := boltStore(t, path)
	with(t, s, "a.direct.test", "b.direct.test")
	pki := testpki.New(t)
	x, y, z := pki.Root("x"), pki.Root("y"), pki.Root("z")
	a := domain(t, "a.direct.test")
	set := func(b store.Bundle) bool {
		t.Helper()
		changed := false
		update(t, s, func(tx *store.Tx) (err error) {
			changed, err = tx.SetBundle(a, b)
			return err
		})
		return changed
	}
	signed := bundleOf("network", x.Pair, y.Pair)
	signed.Signer = z.DER
	if !set(signed) || !set(bundleOf("second", z.Pair)) {
		t.Fatal("nothing changed")
	}
	added := s.View().Domain(a).Bundle("network").Added
	rev := s.View().Rev
	if set(signed) || s.View().Rev != rev {
		t.Error("the same bundle changed something")
	}
	next := bundleOf("network", y.Pair, z.Pair, z.Pair)
	next.Signer = z.DER
	if !set(next) {
		t.Error("another set changed nothing")
	}
	got := s.View().Domain(a).Bundle("network")
	if len(got.Anchors) != 2 || !got.Added.Equal(added) || s.View().Domain(a).Bundle("third") != nil {
		t.Errorf("%+v", got)
	}
	want := bundleText(s.View(), "a.direct.test", t)
	check(t, s)
	var backup bytes.Buffer
	if err := s.Backup(context.Background(), &backup); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s, _ = boltStore(t, path)
	if got := bundleText(s.View(), "a.direct.test", t); got != want {
		t.Errorf("after a restart\n%swant\n%s", got, want)
	}
	other := open(t, memory.New(memory.Options{}), store.Options{Seal: sealer()})
	if err := other.Restore(context.Background(), bytes.NewReader(backup.Bytes())); err != nil {
		t.Fatal(err)
	}
	if got := bundleText(other.View(), "a.direct.test", t); got != want {
		t.Errorf("after a restore\n%swant\n%s", got, want)
	}
	update(t, s, func(tx *store.Tx) error { return tx.RemoveBundle(a, "network") })
	if s.View().Domain(a).Bundle("network") != nil || s.View().Domain(a).Bundle("second") == nil {
		t.Error("not removed, or too much")
	}
	update(t, s, func(tx *store.Tx) error { return tx.RemoveDomain(a) })
	check(t, s)
}

// TestBundlesThatAreRefused leave everything as it is.
func TestBundlesThatAreRefused(t *testing.T) {
	s := with(t, newStore(t), "a.direct.test")
	x := testpki.New(t).Root("x")
	a := domain(t, "a.direct.test")
	for name, change := range map[string]func(*store.Bundle){
		"no name":      func(b *store.Bundle) { b.Name = "" },
		"a path":       func(b *store.Bundle) { b.Name = "a/b" },
		"a long name":  func(b *store.Bundle) { b.Name = strings.Repeat("x", 65) },
		"no way":       func(b *store.Bundle) { b.In = false },
		"no anchor":    func(b *store.Bundle) { b.Anchors = nil },
		"no cert":      func(b *store.Bundle) { b.Anchors[0].DER = []byte{1} },
		"no signer":    func(b *store.Bundle) { b.Signer = []byte{1} },
		"half seconds": func(b *store.Bundle) { b.Refresh = time.Second / 2 },
		"no URL":       func(b *store.Bundle) { b.URL = "" },
		"a long URL":   func(b *store.Bundle) { b.URL = "https://" + strings.Repeat("x", 2048) },
	} {
		b := bundleOf("n", x.Pair)
		change(&b)
		_, err := s.Update(context.Background(), func(tx *store.Tx) error {
			_, err := tx.SetBundle(a, b)
			return err
		})
		if !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := s.Update(context.Background(), func(tx *store.Tx) error {
		for i := range 65 {
			if _, err := tx.SetBundle(a, bundleOf(fmt.Sprint("n", i), x.Pair)); err != nil {
				return err
			}
		}
		return nil
	})
	if !errors.Is(err, store.ErrLimit) {
		t.Errorf("65 bundles: %v", err)
	}
	_, err = s.Update(context.Background(), func(tx *store.Tx) error { return tx.RemoveBundle(a, "n") })
	if !errors.Is(err, store.ErrNotFound) {
		t.Errorf("%v", err)
	}
}
