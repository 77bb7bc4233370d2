package bolt

import (
	"syscall"

	bbolt "go.etcd.io/bbolt"
)

// release gives the pages of the file that this process has mapped back to the
// system. They stay in the page cache, and come back by themselves when they are
// read; but they no longer count as memory of this process, which keeps what it
// serves on the heap. It does nothing that could fail: the advice may be
// ignored. A transaction is open, so that the map stays where it is.
func (db *DB) release(tx *bbolt.Tx) {
	info := tx.DB().Info()
	size := uintptr(tx.Size()) &^ (uintptr(info.PageSize) - 1)
	if file := db.inspected.file; len(file) > 0 {
		_ = syscall.Madvise(file, syscall.MADV_DONTNEED)
	}
	// The errno would say that a part of the range is not mapped.
	_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, info.Data, size, syscall.MADV_DONTNEED)
}
