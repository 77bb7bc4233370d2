package store

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"directnode/internal/durable"
)

// masterSize is the length of a master key: AES-256 and HKDF-SHA-256 level.
const masterSize = 32

// LoadMasterKey reads a master key file: 32 octets, or 64 hexadecimal digits
// with or without a line end. The file must be regular and readable by its
// owner alone (mode 0400 or 0600; AS 6.1). Errors say what to do and never
// quote the content.
func LoadMasterKey(path string) (key [32]byte, err error) {
	content, err := readSecret(path)
	if err != nil {
		return key, fmt.Errorf("master key: %w", err)
	}
	defer clear(content)
	if len(content) == masterSize {
		copy(key[:], content)
		return key, nil
	}
	digits := bytes.TrimRight(content, "\r\n")
	if len(digits) != hex.EncodedLen(masterSize) {
		return key, fmt.Errorf("master key: %s holds %d octets; it must hold %d octets or %d hexadecimal digits", path, len(content), masterSize, 2*masterSize)
	}
	if _, err := hex.Decode(key[:], digits); err != nil {
		clear(key[:])
		return key, fmt.Errorf("master key: %s: a character that is no hexadecimal digit", path)
	}
	return key, nil
}

// readSecret opens a small file that nobody else may read. It looks at the
// file that it opened, not at the name, and does not wait for a pipe.
func readSecret(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	case info.Mode().Perm()&^0o600 != 0:
		return nil, fmt.Errorf("%s has mode %#o, which lets others in; run: chmod 400 %s", path, info.Mode().Perm(), path)
	}
	return io.ReadAll(io.LimitReader(f, 2*masterSize+3)) // digits, line end, and one more to tell a longer file
}

// CreateMasterKey makes a new master key and writes it to a file that must not
// exist, mode 0400, as hexadecimal digits. Keep a copy of the file elsewhere:
// without it neither the store nor any backup gives back a private key.
func CreateMasterKey(path string) (key [32]byte, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return key, fmt.Errorf("master key: %w", err)
	}
	rand.Read(key[:]) // never fails; see crypto/rand
	_, err = fmt.Fprintf(f, "%x\n", key)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = durable.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		os.Remove(path) // nothing was sealed under it yet
		return [32]byte{}, fmt.Errorf("master key: %w", err)
	}
	return key, nil
}
