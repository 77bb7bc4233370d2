package bolt_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"directnode/store/kv"
	"directnode/store/kv/bolt"
)

func put(t testing.TB, db kv.Store, key, value string) {
	t.Helper()
	if _, err := db.Txn(context.Background(), nil, []kv.Op{{Kind: kv.Put, Key: key, Value: []byte(value)}}); err != nil {
		t.Fatal(err)
	}
}

func TestTheFileIsForItsOwnerOnly(t *testing.T) {
	path := filepath.Join(scratch(t), "store.db")
	if err := open(t, path, bolt.Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o700} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := bolt.Open(path, bolt.Options{}); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %#o: %v", mode, err)
		}
	}
}

func TestASecondOpenSaysWhoHoldsTheStore(t *testing.T) {
	path := filepath.Join(scratch(t), "store.db")
	db := open(t, path, bolt.Options{})
	defer db.Close()
	_, err := bolt.Open(path, bolt.Options{})
	if !errors.Is(err, kv.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint("process ", os.Getpid())) || !strings.Contains(err.Error(), "directctl") {
		t.Errorf("second Open = %v", err)
	}
}

func TestWhatACrashLeftOfTheMakingIsNoStore(t *testing.T) {
	dir := scratch(t)
	path := filepath.Join(dir, "store.db")
	// The crash came before the rename: a torn file under the temporary name.
	if err := os.WriteFile(path+".new", []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	db := open(t, path, bolt.Options{})
	put(t, db, "a", "1")
	db.Close()
	if _, err := os.Stat(path + ".new"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the temporary file is still there: %v", err)
	}
	// An empty file is not taken for a new store.
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := bolt.Open(path, bolt.Options{}); !errors.Is(err, bolt.ErrDamaged) {
		t.Errorf("Open of an empty file = %v", err)
	}
}

// filled makes a store with a history and free pages, and returns its octets.
func filled(t testing.TB, path string) []byte {
	t.Helper()
	db := open(t, path, bolt.Options{History: kv.HistoryLimits{Events: 8}})
	for i := range 30 {
		put(t, db, fmt.Sprintf("key/%02d", i%12), strings.Repeat(fmt.Sprint(i), 150))
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	octets, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The file grows ahead of its use; the rest is zeros.
	const page = 16 << 10
	used := (len(bytes.TrimRight(octets, "\x00")) + page - 1) / page * page
	return octets[:used]
}

// content reads everything, or says why it cannot be read.
func content(path string) (string, error) {
	db, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		return "", err
	}
	defer db.Close()
	if err := db.Check(context.Background()); err != nil {
		return "", err
	}
	all, rev, err := kv.All(context.Background(), db, "")
	return fmt.Sprint(rev, all), err
}

func TestAChangedOctetIsFoundOrHarmless(t *testing.T) {
	dir := scratch(t)
	path := filepath.Join(dir, "store.db")
	octets := filled(t, path)
	want, err := content(path)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for i := 7; i < len(octets); i += 97 { // a stride that meets every field in some page
		bad := bytes.Clone(octets)
		bad[i] ^= 0x20
		// A new file each time: what bbolt found damaged it keeps mapped.
		path := filepath.Join(dir, fmt.Sprint("damaged-", i))
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := content(path)
		os.Remove(path)
		switch {
		case err != nil && !errors.Is(err, bolt.ErrDamaged):
			t.Fatalf("octet %d: %v does not say that the file is damaged", i, err)
		case err != nil:
			found++
		case got != want && !older(got, want):
			t.Fatalf("octet %d: another content passed for the right one", i)
		}
	}
	if found == 0 {
		t.Error("no damage was found at all")
	}
}

// older tells a content that is the one before: bbolt keeps two meta pages,
// and when the newer is damaged it falls back to the state before it.
func older(got, want string) bool {
	var a, b int
	fmt.Sscan(got, &a)
	fmt.Sscan(want, &b)
	return a == b-1
}

func TestATruncatedFileIsFound(t *testing.T) {
	path := filepath.Join(scratch(t), "store.db")
	octets := filled(t, path)
	for _, keep := range []int{1, 4096, 8192, 3 * 4096, len(octets) / 2} {
		if err := os.WriteFile(path, octets[:keep], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := content(path); !errors.Is(err, bolt.ErrDamaged) {
			t.Errorf("%d octets of %d: %v", keep, len(octets), err)
		}
	}
}

func TestAWaitingTransactionCanBeWithdrawn(t *testing.T) {
	db := open(t, filepath.Join(scratch(t), "store.db"), bolt.Options{})
	defer db.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := map[string]bool{}
	for i := range 64 {
		wg.Go(func() {
			key := fmt.Sprint("key", i)
			_, err := db.Txn(ctx, nil, []kv.Op{{Kind: kv.Put, Key: key, Value: make([]byte, 4096)}})
			if i == 20 {
				cancel()
			}
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			mu.Lock()
			done[key] = err == nil
			mu.Unlock()
		})
	}
	wg.Wait()
	for key, want := range done {
		if _, err := db.Get(context.Background(), key); (err == nil) != want {
			t.Errorf("%s: acknowledged %v, but Get = %v", key, want, err)
		}
	}
	if err := db.Check(context.Background()); err != nil {
		t.Error(err)
	}
}

func BenchmarkTxn(b *testing.B) {
	for _, writers := range []int{1, 16} {
		b.Run(fmt.Sprint("writers=", writers), func(b *testing.B) {
			db := open(b, filepath.Join(b.TempDir(), "store.db"), bolt.Options{})
			defer db.Close()
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					for i := w; i < b.N; i += writers {
						put(b, db, fmt.Sprint("key/", i%1000), "value")
					}
				})
			}
			wg.Wait()
		})
	}
}
