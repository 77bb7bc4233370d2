package queue

import "directnode/internal/durable"

// OnFS puts the spool on another file system.
func OnFS(o Options, fsys durable.FS) Options {
	o.fsys = fsys
	return o
}

// AtCrashPoints has f called at every named point.
func AtCrashPoints(o Options, f func(point string)) Options {
	o.crash = f
	return o
}
