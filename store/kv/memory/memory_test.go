package memory_test

import (
	"testing"

	"directnode/store/kv"
	"directnode/store/kv/kvtest"
	"directnode/store/kv/memory"
)

func TestMemoryKeepsTheContract(t *testing.T) {
	kvtest.Run(t, func(t testing.TB) (kv.Store, func() kv.Store) {
		s := memory.New(memory.Options{History: kvtest.History()})
		return s, func() kv.Store {
			s = s.Reopen()
			return s
		}
	})
}
