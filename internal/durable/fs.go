package durable

import (
	"io"
	"io/fs"
	"os"
)

// FS is what this project asks of a file system where durability matters.
// Names are those of package os. An implementation promises nothing about
// survival until File.Sync (content) and SyncDir (entries) returned nil.
// All methods may be called concurrently.
type FS interface {
	// OpenFile is os.OpenFile.
	OpenFile(name string, flag int, mode fs.FileMode) (File, error)
	// Rename replaces newname atomically.
	Rename(oldname, newname string) error
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// Mkdir makes one directory; see MkdirAll for a durable chain.
	Mkdir(name string, mode fs.FileMode) error
	// ReadDir lists a directory sorted by name.
	ReadDir(name string) ([]fs.DirEntry, error)
	// Stat follows no special rule; a missing file is fs.ErrNotExist.
	Stat(name string) (fs.FileInfo, error)
	// SyncDir flushes the entries of a directory.
	SyncDir(name string) error
}

// File is an open file of an FS.
type File interface {
	io.Reader
	io.Writer
	io.Closer
	Name() string
	Stat() (fs.FileInfo, error)
	// Sync flushes the content. After an error the file must be given up.
	Sync() error
}

// OS returns the operating system's file system.
func OS() FS { return osFS{} }

type osFS struct{}

func (osFS) OpenFile(name string, flag int, mode fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, mode)
	if err != nil {
		return nil, err // a nil *os.File must not become a non-nil File
	}
	return f, nil
}

func (osFS) Rename(oldname, newname string) error       { return os.Rename(oldname, newname) }
func (osFS) Remove(name string) error                   { return os.Remove(name) }
func (osFS) Mkdir(name string, mode fs.FileMode) error  { return os.Mkdir(name, mode) }
func (osFS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }
func (osFS) Stat(name string) (fs.FileInfo, error)      { return os.Stat(name) }

func (osFS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}
