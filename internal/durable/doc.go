// Package durable holds the few file operations that decide whether data is
// still there after the power went: write under a temporary name, fsync,
// rename, fsync of the directory; directories made so that they stay; a lock
// file that says who holds it.
//
// Data in: a path and octets. Data out: nil only when both the octets and
// the directory entry that leads to them have been flushed to the device.
//
// The expected sequence of system calls for WriteFile is
//
//	openat(tmp, O_CREAT|O_EXCL) write… fsync(tmp) close rename(tmp, path)
//	openat(dir, O_DIRECTORY) fsync(dir) close
//
// and each of them is needed: without the first fsync a crash may leave an
// empty file under the final name, without the second the file may be gone
// although its octets are on the device. An fsync that failed is never
// retried on the same file: the kernel may have dropped the dirty pages and
// marked them clean, so that the second call would succeed and say nothing
// true. The temporary file is thrown away instead.
//
// All calls go through the small interface [FS]. [OS] is the real one;
// [CrashFS] is a file system in memory that stops at a chosen operation and
// then shows what a machine may find after the crash. [Crashes] walks through
// every such point, so that a package can show that it survives all of them.
package durable
