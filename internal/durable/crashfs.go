package durable

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// ErrCrashed is what every operation of a CrashFS returns from the crash on.
var ErrCrashed = errors.New("durable: the machine has stopped")

// sector is the unit that a device writes whole. 512 octets is the smallest
// in use; a torn write is a multiple of it.
const sector = 512

// Fate says what became, in a crash, of something that was not yet flushed.
type Fate int

// The fates of unflushed data. Kept is what a killed process leaves to a
// kernel that lives on; Lost is what a power cut may do; Torn (file content
// only) keeps the new size and every second new sector.
const (
	Kept Fate = iota
	Lost
	Torn
)

// Loss chooses independently what became of file content and of directory
// entries, because a journaling file system may commit either first.
type Loss struct{ Content, Entries Fate }

// Losses are the outcomes that Crashes shows for every crash point.
func Losses() []Loss {
	return []Loss{{Kept, Kept}, {Lost, Lost}, {Lost, Kept}, {Torn, Kept}, {Kept, Lost}}
}

// CrashFS is an FS in memory for tests. It counts the operations that change
// something (opening with O_CREATE or O_TRUNC, Write, Sync, Rename, Remove,
// Mkdir, SyncDir); at the one chosen by CrashAt it stops, and After shows what
// the next start may find. It is deterministic, and safe for concurrent use.
type CrashFS struct {
	mu      sync.Mutex
	root    *node
	ops     int
	crashAt int
	failAt  int
	failErr error
	crashed bool
}

// node is a file or a directory. live is what running processes see, flushed
// is what the device is known to hold.
type node struct {
	dir     bool
	mode    fs.FileMode
	live    []byte
	flushed []byte
	entries map[string]*node
	durable map[string]*node
}

func newDir(mode fs.FileMode) *node {
	return &node{dir: true, mode: fs.ModeDir | mode.Perm(), entries: map[string]*node{}, durable: map[string]*node{}}
}

// NewCrashFS returns an empty file system with nothing but its root "/".
// Relative names count from the root.
func NewCrashFS() *CrashFS { return &CrashFS{root: newDir(0o755)} }

// CrashAt stops the machine at the k-th counted operation from now, 1 being
// the next one. The operation itself does not happen, except that a Write
// leaves a first part, cut at a sector. 0 takes the order back.
func (c *CrashFS) CrashAt(k int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ops, c.crashAt = 0, k
}

// FailAt makes the k-th counted operation from now return err; the machine
// goes on. A Write that fails leaves a first part, a Sync that fails leaves
// the content unflushed for good.
func (c *CrashFS) FailAt(k int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ops, c.failAt, c.failErr = 0, k, err
}

// Ops returns the number of counted operations since the last CrashAt or
// FailAt.
func (c *CrashFS) Ops() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ops
}

// Crashed reports whether the chosen operation has been reached.
func (c *CrashFS) Crashed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.crashed
}

// After returns a new, running file system that holds what this one may have
// left behind if its machine stopped now.
func (c *CrashFS) After(l Loss) *CrashFS {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &CrashFS{root: c.root.after(l, map[*node]*node{})}
}

// after copies the surviving tree. seen keeps a file that two entries lead to
// (a rename of which only one half was flushed) one file.
func (n *node) after(l Loss, seen map[*node]*node) *node {
	if m := seen[n]; m != nil {
		return m
	}
	if !n.dir {
		m := &node{mode: n.mode, live: n.surviving(l.Content)}
		m.flushed = slices.Clone(m.live)
		seen[n] = m
		return m
	}
	from := n.entries
	if l.Entries == Lost {
		from = n.durable
	}
	m := newDir(n.mode)
	seen[n] = m
	for name, child := range from {
		m.entries[name] = child.after(l, seen)
		m.durable[name] = m.entries[name]
	}
	return m
}

func (n *node) surviving(f Fate) []byte {
	switch f {
	case Lost:
		return slices.Clone(n.flushed)
	case Torn:
		b := slices.Clone(n.live)
		for at := sector; at < len(b); at += 2 * sector {
			end := min(at+sector, len(b))
			clear(b[at:end])
			if at < len(n.flushed) {
				copy(b[at:end], n.flushed[at:])
			}
		}
		if len(b) <= sector && len(n.flushed) != len(n.live) {
			clear(b) // a single sector: the size arrived and the octets did not
		}
		return b
	default:
		return slices.Clone(n.live)
	}
}

// step counts one operation and says whether it may happen. Callers hold mu.
func (c *CrashFS) step() error {
	if c.crashed {
		return ErrCrashed
	}
	c.ops++
	if c.ops == c.crashAt {
		c.crashed = true
		return ErrCrashed
	}
	if c.ops == c.failAt {
		return c.failErr
	}
	return nil
}

// alive is step for operations that change nothing.
func (c *CrashFS) alive() error {
	if c.crashed {
		return ErrCrashed
	}
	return nil
}

func split(name string) []string {
	p := strings.TrimPrefix(filepath.ToSlash(filepath.Clean("/"+name)), "/")
	if p == "" {
		return nil
	}
	return strings.Split(p, "/")
}

func (c *CrashFS) lookup(op, name string) (*node, error) {
	n := c.root
	for _, part := range split(name) {
		if !n.dir || n.entries[part] == nil {
			return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
		n = n.entries[part]
	}
	return n, nil
}

// parent returns the directory that holds name, and the last element.
func (c *CrashFS) parent(op, name string) (*node, string, error) {
	parts := split(name)
	if len(parts) == 0 {
		return nil, "", &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	dir, err := c.lookup(op, strings.Join(parts[:len(parts)-1], "/"))
	if err != nil {
		return nil, "", &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	if !dir.dir {
		return nil, "", &fs.PathError{Op: op, Path: name, Err: errors.New("not a directory")}
	}
	return dir, parts[len(parts)-1], nil
}

// OpenFile implements FS. Only a file may be opened; a new one, or one that
// is cut to nothing, counts as an operation.
func (c *CrashFS) OpenFile(name string, flag int, mode fs.FileMode) (File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.alive(); err != nil {
		return nil, err
	}
	dir, base, err := c.parent("open", name)
	if err != nil {
		return nil, err
	}
	n := dir.entries[base]
	switch {
	case n == nil && flag&os.O_CREATE == 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	case n != nil && flag&os.O_CREATE != 0 && flag&os.O_EXCL != 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrExist}
	case n != nil && n.dir:
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("is a directory")}
	case n == nil:
		if err := c.step(); err != nil {
			return nil, err
		}
		n = &node{mode: mode.Perm()}
		dir.entries[base] = n
	case flag&os.O_TRUNC != 0:
		if err := c.step(); err != nil {
			return nil, err
		}
		n.live = nil
	}
	return &crashFile{fs: c, n: n, name: name, writable: flag&(os.O_WRONLY|os.O_RDWR) != 0, atEnd: flag&os.O_APPEND != 0}, nil
}

// Rename implements FS.
func (c *CrashFS) Rename(oldname, newname string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.step(); err != nil {
		return err
	}
	from, a, err := c.parent("rename", oldname)
	if err != nil {
		return err
	}
	to, b, err := c.parent("rename", newname)
	if err != nil {
		return err
	}
	n := from.entries[a]
	if n == nil {
		return &fs.PathError{Op: "rename", Path: oldname, Err: fs.ErrNotExist}
	}
	delete(from.entries, a)
	to.entries[b] = n
	return nil
}

// Remove implements FS.
func (c *CrashFS) Remove(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.step(); err != nil {
		return err
	}
	dir, base, err := c.parent("remove", name)
	if err != nil {
		return err
	}
	n := dir.entries[base]
	if n == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	if len(n.entries) > 0 {
		return &fs.PathError{Op: "remove", Path: name, Err: errors.New("directory not empty")}
	}
	delete(dir.entries, base)
	return nil
}

// Mkdir implements FS.
func (c *CrashFS) Mkdir(name string, mode fs.FileMode) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.step(); err != nil {
		return err
	}
	dir, base, err := c.parent("mkdir", name)
	if err != nil {
		return err
	}
	if dir.entries[base] != nil {
		return &fs.PathError{Op: "mkdir", Path: name, Err: fs.ErrExist}
	}
	dir.entries[base] = newDir(mode)
	return nil
}

// ReadDir implements FS.
func (c *CrashFS) ReadDir(name string) ([]fs.DirEntry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.alive(); err != nil {
		return nil, err
	}
	n, err := c.lookup("readdir", name)
	if err != nil {
		return nil, err
	}
	if !n.dir {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errors.New("not a directory")}
	}
	list := make([]fs.DirEntry, 0, len(n.entries))
	for base, child := range n.entries {
		list = append(list, fs.FileInfoToDirEntry(child.info(base)))
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, nil
}

// Stat implements FS.
func (c *CrashFS) Stat(name string) (fs.FileInfo, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.alive(); err != nil {
		return nil, err
	}
	n, err := c.lookup("stat", name)
	if err != nil {
		return nil, err
	}
	return n.info(filepath.Base(name)), nil
}

// SyncDir implements FS: the entries of the directory as they are now become
// durable. What a child holds, and whether the directory itself can be
// reached, is not its business.
func (c *CrashFS) SyncDir(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.step(); err != nil {
		return err
	}
	n, err := c.lookup("syncdir", name)
	if err != nil {
		return err
	}
	n.durable = make(map[string]*node, len(n.entries))
	for base, child := range n.entries {
		n.durable[base] = child
	}
	return nil
}

type crashFile struct {
	fs       *CrashFS
	n        *node
	name     string
	at       int
	writable bool
	atEnd    bool
	closed   bool
}

func (f *crashFile) Name() string { return f.name }

func (f *crashFile) Read(p []byte) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.usable(); err != nil {
		return 0, err
	}
	if f.at >= len(f.n.live) {
		return 0, io.EOF
	}
	n := copy(p, f.n.live[f.at:])
	f.at += n
	return n, nil
}

func (f *crashFile) Write(p []byte) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.usable(); err != nil {
		return 0, err
	}
	if !f.writable {
		return 0, &fs.PathError{Op: "write", Path: f.name, Err: fs.ErrPermission}
	}
	err := f.fs.step()
	if err != nil {
		p = p[:len(p)/2/sector*sector] // torn
	}
	if f.atEnd {
		f.at = len(f.n.live)
	}
	if need := f.at + len(p) - len(f.n.live); need > 0 {
		f.n.live = append(f.n.live, make([]byte, need)...)
	}
	copy(f.n.live[f.at:], p)
	f.at += len(p)
	return len(p), err
}

func (f *crashFile) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.usable(); err != nil {
		return err
	}
	if err := f.fs.step(); err != nil {
		return err
	}
	f.n.flushed = slices.Clone(f.n.live)
	return nil
}

func (f *crashFile) Stat() (fs.FileInfo, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.usable(); err != nil {
		return nil, err
	}
	return f.n.info(filepath.Base(f.name)), nil
}

// Close needs no living machine: closing a handle changes nothing on disk.
func (f *crashFile) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return fs.ErrClosed
	}
	f.closed = true
	return nil
}

func (f *crashFile) usable() error {
	if f.closed {
		return fs.ErrClosed
	}
	return f.fs.alive()
}

// info describes n under the name base.
func (n *node) info(base string) fs.FileInfo {
	return nodeInfo{name: base, size: int64(len(n.live)), mode: n.mode}
}

type nodeInfo struct {
	name string
	size int64
	mode fs.FileMode
}

func (i nodeInfo) Name() string       { return i.name }
func (i nodeInfo) Size() int64        { return i.size }
func (i nodeInfo) Mode() fs.FileMode  { return i.mode }
func (i nodeInfo) ModTime() time.Time { return time.Time{} }
func (i nodeInfo) IsDir() bool        { return i.mode.IsDir() }
func (i nodeInfo) Sys() any           { return nil }
