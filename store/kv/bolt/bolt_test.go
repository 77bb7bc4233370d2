package bolt_test

import (
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

func TestBoltKeepsTheContract(t *testing.T) {
	kvtest.Run(t, func(t testing.TB) (kv.Store, func() kv.Store) {
		path := filepath.Join(t.TempDir(), "store.db")
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
