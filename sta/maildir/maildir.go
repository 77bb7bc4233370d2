// Package maildir delivers messages into Maildirs, one for each address,
// below one directory.
//
// Data in: a recipient, a name and the octets of a message. Data out: a file
// in the "new" folder of the recipient's Maildir, which any mail reader or
// IMAP server understands (the format of cr.yp.to/proto/maildir.html: a file
// is written elsewhere, and moved to new when it is whole).
//
// The two halves are apart because a message becomes visible only after the
// queue has committed that it is delivered (AS 3.2: the processed
// notification asserts that the receiving STA has taken responsibility):
//
//	Stage    staged/NAME written and flushed; nobody sees it
//	Publish  staged/NAME moved to new/NAME and flushed; may be repeated
//	Discard  staged/NAME removed; may be repeated
//
// "staged" stands beside tmp, new and cur. In tmp, where the format has files
// written, readers remove what is older than 36 hours; a message that waits
// longer to be published (a full or broken disk, a node that is down) would be
// lost, and it could not be told from one that was published and then deleted
// by its reader. Nobody but this package removes from staged.
//
// A name is chosen by the caller and stands for one message. Staging it again
// replaces what a crash left behind, and publishing it again changes nothing,
// so that every step can be repeated after a restart.
//
// The folder of an address is its Key (lower case), with every octet that
// could mean something to a file system or a shell percent-encoded.
package maildir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"sync"

	"directnode/internal/direct"
	"directnode/internal/durable"
)

// Modes of what we make: messages hold health information in clear.
const (
	dirMode  = 0o700
	fileMode = 0o600
)

// staging is the folder of a Maildir that staged messages lie in.
const staging = "staged"

// ErrHandle is wrapped by errors about a handle that Stage did not give out.
var ErrHandle = errors.New("maildir: not a handle of a staged message")

// Maildir delivers below one directory. It may be used concurrently, by one
// process at a time.
type Maildir struct {
	fsys durable.FS
	dir  string

	mu    sync.Mutex
	ready map[string]bool // by folder: made, and swept of what a crash left; guarded by mu
}

// New returns a Maildir below dir, which is made when the first message is
// staged.
func New(dir string) *Maildir { return NewOn(durable.OS(), dir) }

// NewOn is New on a given file system.
func NewOn(fsys durable.FS, dir string) *Maildir {
	return &Maildir{fsys: fsys, dir: filepath.Clean(dir), ready: map[string]bool{}}
}

// Folder returns the directory that is the Maildir of an address.
func (m *Maildir) Folder(rcpt direct.Address) string {
	return filepath.Join(m.dir, folderName(rcpt))
}

// Stage writes the message where no reader looks, under a file name that
// follows from name alone, and returns a handle for Publish and Discard. When
// it returns nil the file is durable. The octets are written as they are.
func (m *Maildir) Stage(ctx context.Context, rcpt direct.Address, name string, msg io.Reader) (string, error) {
	if rcpt.IsZero() || name == "" {
		return "", fmt.Errorf("stage %q for %q: %w", name, rcpt, fs.ErrInvalid)
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	h := handle{folderName(rcpt), fileName(name)}
	if err := m.prepare(h.folder); err != nil {
		return "", fmt.Errorf("maildir of %s: %w", rcpt, err)
	}
	err := durable.WriteFile(m.fsys, m.path(h, staging), fileMode, func(w io.Writer) error {
		_, err := io.Copy(w, msg)
		return err
	})
	if err != nil {
		m.forget(h.folder) // the administrator may have taken the folder away; look again next time
		return "", fmt.Errorf("stage for %s: %w", rcpt, err)
	}
	return h.String(), nil
}

// Publish makes a staged message visible. When it returns nil the message is
// in the mailbox durably. A message that is not staged any more was published
// before, wherever its reader has put it since: that is success.
func (m *Maildir) Publish(ctx context.Context, rcpt direct.Address, staged string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	h, err := parseHandle(staged)
	if err != nil {
		return err
	}
	if h.folder != folderName(rcpt) {
		return fmt.Errorf("%w: %q is not for %s", ErrHandle, staged, rcpt)
	}
	err = m.fsys.Rename(m.path(h, staging), m.path(h, "new"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("publish for %s: %w", rcpt, err)
	}
	// Also when the rename was done before: the process may have ended between
	// the rename and the flush. First new, so that the message has a durable
	// name at every moment.
	for _, sub := range []string{"new", staging} {
		if err := m.fsys.SyncDir(filepath.Join(m.dir, h.folder, sub)); err != nil {
			return fmt.Errorf("publish for %s: sync %s: %w", rcpt, sub, err)
		}
	}
	return nil
}

// Discard removes a staged message that is not to be published. A message
// that is not there is no error.
func (m *Maildir) Discard(staged string) error {
	h, err := parseHandle(staged)
	if err != nil {
		return err
	}
	if err := m.fsys.Remove(m.path(h, staging)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("discard: %w", err)
	}
	return nil
}

func (m *Maildir) path(h handle, sub string) string {
	return filepath.Join(m.dir, h.folder, sub, h.file)
}

// prepare makes the folders of a Maildir durable before its first use
// in this process, and removes half-written files: the lock makes sure that
// none of ours is being written in this folder yet.
func (m *Maildir) prepare(folder string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ready[folder] {
		return nil
	}
	for _, sub := range []string{"tmp", "new", "cur", staging} {
		if err := durable.MkdirAll(m.fsys, filepath.Join(m.dir, folder, sub), dirMode); err != nil {
			return err
		}
	}
	dir := filepath.Join(m.dir, folder, staging)
	list, err := m.fsys.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		if durable.IsTemp(e.Name()) {
			if err := m.fsys.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	m.ready[folder] = true
	return nil
}

// forget makes the next Stage look at the folder again, unless it is there.
func (m *Maildir) forget(folder string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.fsys.Stat(filepath.Join(m.dir, folder, staging)); errors.Is(err, fs.ErrNotExist) {
		delete(m.ready, folder)
	}
}
