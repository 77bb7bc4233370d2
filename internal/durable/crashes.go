package durable

import "iter"

// Crash is one outcome of a run that was stopped.
type Crash struct {
	Op    int      // the operation at which the machine stopped
	Loss  Loss     // what became of what was not flushed
	Whole bool     // the run reached its end before Op: the last point of all
	After *CrashFS // what the next start finds
}

// Crashes runs setup on a fresh file system and then run, once for every
// operation that run performs, stopping the machine there, and yields for
// each stop every outcome of Losses. The last ones (Whole) are those of a
// machine that stops after run returned. run must return when the FS it got
// fails, and must do the same operations each time up to the crash; what it
// was told (for example "accepted") it keeps in variables of its own, which
// the loop body may read: they belong to the run that was just stopped.
// A nil setup means an empty file system.
func Crashes(setup, run func(FS)) iter.Seq[Crash] {
	return func(yield func(Crash) bool) {
		for k := 1; ; k++ {
			c := NewCrashFS()
			if setup != nil {
				setup(c)
			}
			c.CrashAt(k)
			run(c)
			whole := !c.Crashed()
			for _, l := range Losses() {
				if !yield(Crash{Op: k, Loss: l, Whole: whole, After: c.After(l)}) {
					return
				}
			}
			if whole {
				return
			}
		}
	}
}
