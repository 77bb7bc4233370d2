package bolt_test

import (
	"os"
	"path/filepath"
	"testing"

	"directnode/store/kv"
	"directnode/store/kv/bolt"
	"directnode/store/kv/kvtest"
)

func open(t testing.TB, path string, o bolt.Options) *bolt.DB {
	t.Helper()
	db, err := bolt.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// scratch is a directory for a store whose durability is not the question: in
// memory where the system has such a place, so that syncs cost nothing.
func scratch(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "bolt-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestBoltKeepsTheContract(t *testing.T) {
	kvtest.Run(t, func(t testing.TB) (kv.Store, func() kv.Store) {
		path := filepath.Join(scratch(t), "store.db")
		db := open(t, path, bolt.Options{History: kvtest.History()})
		return db, func() kv.Store {
			if err := db.Check(t.Context()); err != nil {
				t.Error(err)
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
			db = open(t, path, bolt.Options{History: kvtest.History()})
			return db
		}
	})
}
