package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"directnode/internal/admin"
)

const (
	// maxFileSize bounds one file that is read for the daemon.
	maxFileSize = 64 << 20
	// maxFilesSize bounds all of them: the daemon takes 256 MiB, of which
	// Base64 leaves three quarters.
	maxFilesSize = 190 << 20
)

// fileReader reads files for one order.
type fileReader struct {
	files []admin.File
	size  int64
}

// readPaths reads files, and the files directly inside folders, links to files
// among them. A path that was named must be readable; what cannot be read in a
// folder goes along with the reason, so that the account names it and takes the
// rest. A folder without files goes along empty.
func readPaths(paths []string) ([]admin.File, error) {
	r := &fileReader{}
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, missing(p, err)
		}
		if info.IsDir() {
			err = r.folder(p)
		} else {
			err = r.named(p, info)
		}
		if err != nil {
			return nil, err
		}
	}
	return r.files, nil
}

func (r *fileReader) named(path string, info fs.FileInfo) error {
	if err := r.grow(info.Size()); err != nil {
		return err
	}
	f, err := readFile(path)
	if err != nil {
		return err
	}
	r.files = append(r.files, f)
	return nil
}

func (r *fileReader) folder(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return missing(path, err)
	}
	before := len(r.files)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if err := r.inside(filepath.Join(path, e.Name())); err != nil {
			return err
		}
	}
	if len(r.files) == before {
		r.files = append(r.files, admin.File{Name: filepath.Clean(path) + string(filepath.Separator)})
	}
	return nil
}

// inside reads one entry of a folder. Its error says that the whole is too
// large.
func (r *fileReader) inside(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		r.files = append(r.files, admin.File{Name: path, Fault: reason(err)})
		return nil
	case !info.Mode().IsRegular(): // folders, sockets, pipes
		return nil
	case info.Size() <= maxFileSize:
		if err := r.grow(info.Size()); err != nil {
			return err
		}
	}
	data, err := readBounded(path)
	if err != nil {
		r.files = append(r.files, admin.File{Name: path, Fault: reason(err)})
		return nil
	}
	r.files = append(r.files, admin.File{Name: path, Data: data})
	return nil
}

func (r *fileReader) grow(size int64) error {
	if r.size += size; r.size > maxFilesSize {
		return &admin.Error{ID: "DN-FILE-002", Code: admin.CodeUsage, What: "nothing was done", Why: fmt.Sprintf("the files have more than %d MiB together", maxFilesSize>>20), Do: "give fewer files at once"}
	}
	return nil
}

// readFile reads one file that was named.
func readFile(path string) (admin.File, error) {
	data, err := readBounded(path)
	if err != nil {
		return admin.File{}, missing(path, err)
	}
	return admin.File{Name: path, Data: data}, nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && info.Size() > maxFileSize {
		return nil, errLarge
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(io.LimitReader(f, maxFileSize+1)); err != nil {
		return nil, err
	}
	if b.Len() > maxFileSize {
		return nil, errLarge
	}
	return b.Bytes(), nil
}

var errLarge = fmt.Errorf("larger than %d MiB", maxFileSize>>20)

func missing(path string, err error) error {
	do := "correct the path"
	switch {
	case errors.Is(err, fs.ErrPermission):
		do = "run directctl as somebody who may read it"
	case errors.Is(err, errLarge):
		do = "give a smaller file; this one is hardly what it should be"
	}
	return &admin.Error{ID: "DN-FILE-001", Code: admin.CodeFailed, What: "nothing was done", Why: path + ": " + reason(err), Do: do}
}

// reason is an error without the path, which stands before it already.
func reason(err error) string {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return err.Error()
}
