package durable

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// tempMark begins the name of every temporary file, so that the owner of a
// directory can tell at start-up what a crash left behind.
const tempMark = ".tmp-"

// WriteFile makes or replaces the file path with what write produces. When
// it returns nil the content and the name are durable. When it returns an
// error before the rename the old file, if any, is untouched; when only the
// last step (the flush of the directory) failed, the new file is visible but
// may be gone after a crash. A crash leaves the old file or the new one,
// whole, and perhaps a temporary file for which IsTemp is true.
func WriteFile(fsys FS, path string, mode fs.FileMode, write func(io.Writer) error) error {
	dir := filepath.Dir(path)
	tmp, err := WriteTemp(fsys, dir, mode, write)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := fsys.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, fsys.Remove(tmp)))
	}
	if err := fsys.SyncDir(dir); err != nil {
		return fmt.Errorf("write %s: sync directory: %w", path, err)
	}
	return nil
}

// WriteTemp is the first half of WriteFile: it writes and syncs a temporary
// file in dir and returns its name. The caller renames it and syncs the
// directory, or removes it. After an error nothing is left.
func WriteTemp(fsys FS, dir string, mode fs.FileMode, write func(io.Writer) error) (string, error) {
	f, err := CreateTemp(fsys, dir, mode)
	if err != nil {
		return "", err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		if rerr := fsys.Remove(f.Name()); rerr != nil {
			err = errors.Join(err, rerr)
		}
		return "", err
	}
	return f.Name(), nil
}

// CreateTemp opens a new file in dir for writing under a name that no other
// caller has and for which IsTemp is true.
func CreateTemp(fsys FS, dir string, mode fs.FileMode) (File, error) {
	name := filepath.Join(dir, tempMark+rand.Text())
	return fsys.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
}

// IsTemp reports whether name (with or without its directory) was made by
// CreateTemp, WriteTemp or WriteFile. Such a file found at start-up, when no
// writer can be at work, is rubbish.
func IsTemp(name string) bool { return strings.HasPrefix(filepath.Base(name), tempMark) }

// SyncDir flushes the entries of a directory of the operating system.
func SyncDir(path string) error { return OS().SyncDir(path) }

// MkdirAll makes path and the parents it lacks, and flushes the parent of
// each one made, top down. That a directory can be seen proves nothing about
// its survival (an earlier run may have died between making and flushing), so
// the parent of the deepest directory found is flushed too; a parent that we
// may not open is somebody else's to keep and is passed over.
func MkdirAll(fsys FS, path string, mode fs.FileMode) error {
	path = filepath.Clean(path)
	info, err := fsys.Stat(path)
	switch {
	case err == nil && !info.IsDir():
		return &fs.PathError{Op: "mkdir", Path: path, Err: errors.New("exists and is not a directory")}
	case err == nil:
		if err := fsys.SyncDir(filepath.Dir(path)); err != nil && !errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("make directory %s: sync parent: %w", path, err)
		}
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	parent := filepath.Dir(path)
	if parent == path {
		return err
	}
	if err := MkdirAll(fsys, parent, mode); err != nil {
		return err
	}
	if err := fsys.Mkdir(path, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := fsys.SyncDir(parent); err != nil {
		return fmt.Errorf("make directory %s: sync parent: %w", path, err)
	}
	return nil
}
