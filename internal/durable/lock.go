package durable

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// LockedError says that another process (or another part of this one) holds
// the lock.
type LockedError struct {
	Path string
	PID  int // 0 if the holder did not leave its number
}

// Error names the lock file and, where known, the process that holds it.
func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("%s is locked by another process", e.Path)
	}
	return fmt.Sprintf("%s is locked by process %d", e.Path, e.PID)
}

// Lock takes an exclusive lock on the file path, making it (mode 0600) if it
// is not there, and writes the number of this process into it. It never
// waits: a lock that is held is a *LockedError. Closing the result gives the
// lock back, and so does the end of the process, however it ends; the file
// itself stays, because removing it would let two processes lock two
// different files of the same name.
func Lock(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f); err != nil {
		defer f.Close()
		if err == syscall.EWOULDBLOCK {
			return nil, &LockedError{Path: path, PID: readPID(f)}
		}
		return nil, &os.PathError{Op: "flock", Path: path, Err: err}
	}
	if err := writePID(f); err != nil {
		f.Close()
		return nil, err
	}
	return &lock{f}, nil
}

// flock repeats the call while a signal interrupts it.
func flock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err != syscall.EINTR {
			return err
		}
	}
}

type lock struct{ f *os.File }

// Close empties the file, so that nobody is told a number that has passed on
// to another process, and lets go of the lock.
func (l *lock) Close() error {
	err := l.f.Truncate(0)
	if cerr := l.f.Close(); err == nil {
		err = cerr
	}
	return err
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

func readPID(f *os.File) int {
	var b [20]byte // enough for the digits of an int64 and a line end
	n, _ := f.ReadAt(b[:], 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}
