package store

import (
	"syscall"
	"unsafe"
)

// hugePage is the size of the pages that are asked for.
const hugePage = 2 << 20

// inHugePages asks the system to back a buffer that nobody has written to yet
// with large pages: a start that fills a gigabyte then meets a few hundred page
// faults in place of three hundred thousand. It is advice and may be ignored; the
// range is rounded outwards, which does no harm to what lies beside it.
func inHugePages(buf []byte) {
	if len(buf) < hugePage {
		return
	}
	start := uintptr(unsafe.Pointer(&buf[0]))
	from := start &^ (hugePage - 1)
	to := (start + uintptr(len(buf)) + hugePage - 1) &^ (hugePage - 1)
	_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, from, to-from, syscall.MADV_HUGEPAGE)
}
