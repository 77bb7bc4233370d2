package queue

import "directnode/internal/durable"

// OnFS puts the spool on another file system.
func OnFS(o Options, fsys durable.FS) Options {
	o.fsys = fsys
	return o
}

// WithFree has the free octets of the disk asked from f.
func WithFree(o Options, f func(dir string) (int64, error)) Options {
	o.free = f
	return o
}

// AtCrashPoints has f called at every named point.
func AtCrashPoints(o Options, f func(point string)) Options {
	o.crash = f
	return o
}
