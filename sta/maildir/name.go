package maildir

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"directnode/internal/direct"
)

// maxName is what a file name may have on the file systems in use (NAME_MAX
// is 255 octets), less 15 for the ":2,FLAGS" that a mail reader appends when
// it moves a message from new to cur.
const maxName = 240

// folderName is the name of an address's Maildir. It is the same for two
// addresses exactly if they are Equal (AS 4.1.1: case does not count).
func folderName(a direct.Address) string { return encode(a.Key()) }

// fileName is the file name that stands for a message name.
func fileName(name string) string { return encode(name) }

// encode keeps lower-case letters, digits and "@+-_=", and dots that are not
// at the beginning (a hidden file is not a message, and ".." is not a folder
// below us); every other octet becomes %XX, upper case included where a file
// system might fold it. What gets too long ends with '~' and a hash instead;
// '~' occurs in no other name, so that two names never meet.
func encode(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', strings.IndexByte("@+-_=", c) >= 0, c == '.' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	if b.Len() <= maxName {
		return b.String()
	}
	sum := sha256.Sum256([]byte(s))
	tail := "~" + hex.EncodeToString(sum[:])
	return b.String()[:maxName-len(tail)] + tail
}

// handle is what Stage gives out: FOLDER/FILE, both encoded.
type handle struct{ folder, file string }

func (h handle) String() string { return h.folder + "/" + h.file }

// parseHandle takes back what String gave. The queue keeps handles on disk,
// so that they are checked as if they came from outside: both names must be
// ones that encode can make.
func parseHandle(s string) (handle, error) {
	folder, file, _ := strings.Cut(s, "/")
	if !isEncoded(folder) || !isEncoded(file) {
		return handle{}, fmt.Errorf("%w: %q", ErrHandle, s)
	}
	return handle{folder, file}, nil
}

func isEncoded(s string) bool {
	if s == "" || s[0] == '.' || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		c := s[i]
		ok := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'F' || '0' <= c && c <= '9' || strings.IndexByte("@+-_=.%~", c) >= 0
		if !ok {
			return false
		}
	}
	return true
}
