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
	// maxFilesSize bounds all of them: the daemon holds them until it knows
	// which key belongs to which certificate, and takes 512 MiB with their names.
	maxFilesSize = 500 << 20
)

// upload makes an upload of one text of any size, a pipe too.
func upload(path string) (admin.Upload, error) {
	info, err := os.Stat(path)
	if err != nil {
		return admin.Upload{}, missing(path, err)
	}
	u := admin.Upload{Name: path, Size: -1, Open: opener(path)}
	switch {
	case info.IsDir():
		return u, missing(path, errFolder)
	case info.Mode().IsRegular():
		u.Size = info.Size()
		return u, readable(path)
	}
	return u, nil
}

// opener opens a file when its turn has come.
func opener(path string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, missing(path, err)
		}
		return f, nil
	}
}

// readable tells early what would end an order in its middle.
func readable(path string) error {
	if err := open(path); err != nil {
		return missing(path, err)
	}
	return nil
}

// uploader collects the files of one order.
type uploader struct {
	files []admin.Upload
	size  int64
}

// uploads are files, and the files directly inside folders, links to files
// among them. A path that was named must be readable; what cannot be read in a
// folder goes along with the reason, so that the account names it and takes the
// rest. A folder without files goes along empty.
func uploads(paths []string) ([]admin.Upload, error) {
	r := &uploader{}
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

func (r *uploader) named(path string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() { // a pipe: nobody knows its size
		f, err := readFile(path)
		if err != nil {
			return err
		}
		return r.add(admin.Upload{Name: path, Size: int64(len(f.Data)), Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(f.Data)), nil }})
	}
	if info.Size() > maxFileSize {
		return missing(path, errLarge)
	}
	if err := readable(path); err != nil {
		return err
	}
	return r.add(admin.Upload{Name: path, Size: info.Size(), Open: opener(path)})
}

func (r *uploader) folder(path string) error {
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
		name := filepath.Clean(path) + string(filepath.Separator)
		return r.add(admin.Upload{Name: name, Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("")), nil }})
	}
	return nil
}

// inside takes one entry of a folder. Its error says that the whole is too
// large.
func (r *uploader) inside(path string) error {
	info, err := os.Stat(path)
	if err == nil {
		switch {
		case !info.Mode().IsRegular(): // folders, sockets, pipes
			return nil
		case info.Size() > maxFileSize:
			err = errLarge
		default:
			err = open(path)
		}
	}
	if err != nil {
		return r.add(admin.Upload{Name: path, Fault: reason(err)})
	}
	return r.add(admin.Upload{Name: path, Size: info.Size(), Open: opener(path)})
}

// open tells whether a file can be opened.
func open(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return f.Close()
}

func (r *uploader) add(u admin.Upload) error {
	if r.size += u.Size; r.size > maxFilesSize {
		return &admin.Error{ID: "DN-FILE-002", Code: admin.CodeUsage, What: "nothing was done", Why: fmt.Sprintf("the files have more than %d MiB together", maxFilesSize>>20), Do: "give fewer files at once"}
	}
	r.files = append(r.files, u)
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

var errFolder = errors.New("is a folder")

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
