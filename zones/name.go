package zones

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/miekg/dns"
)

// Name is an absolute domain name in wire form (RFC 1035 §3.1: each label after
// its length, the root's zero octet last) with its letters in lower case. It is
// comparable and the key of every map; two spellings of one name are one Name.
type Name string

// maxName is the size of a name on the wire (RFC 1035 §2.3.4).
const maxName = 255

// ParseName reads the text form of an absolute name (RFC 1035 §5.1); the final
// dot may be absent.
func ParseName(s string) (Name, error) {
	wire, err := packName(s)
	return Name(AppendLower(nil, wire)), err
}

// packName gives the wire form with the case as written.
func packName(s string) ([]byte, error) {
	if s == "" {
		return nil, fmt.Errorf("empty name")
	}
	var buf [maxName + 1]byte
	n, err := dns.PackDomainName(dns.Fqdn(s), buf[:], 0, nil, false)
	if err != nil {
		return nil, fmt.Errorf("name %.260q: %w", s, err)
	}
	if n > maxName {
		return nil, fmt.Errorf("name %.260q: %d octets; at most %d (RFC 1035 §2.3.4)", s, n, maxName)
	}
	return bytes.Clone(buf[:n]), nil
}

// AppendLower appends wire, an uncompressed name, with its letters in lower
// case (RFC 4343 §3: ASCII only). Length octets are at most 63 and hence never
// mistaken for letters, which begin at 65.
func AppendLower(dst, wire []byte) []byte {
	for _, c := range wire {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

// String is the text form, absolute and escaped where zone files need it.
func (n Name) String() string {
	s, _, err := dns.UnpackDomainName([]byte(n), 0)
	if err != nil {
		return fmt.Sprintf("bad name %q", string(n))
	}
	if strings.HasPrefix(s, "$") {
		return `\` + s // it would begin a line of zone text like a directive
	}
	return s
}

// isRoot tells the root, which has no parent.
func (n Name) isRoot() bool { return len(n) <= 1 }

// parent is the name without its first label. The root is its own parent.
func (n Name) parent() Name {
	if n.isRoot() {
		return n
	}
	return n[1+int(n[0]):]
}

// first is the first label, empty for the root.
func (n Name) first() string {
	if n.isRoot() {
		return ""
	}
	return string(n[1 : 1+int(n[0])])
}

// labels counts the labels, the root's empty one left out.
func (n Name) labels() int {
	count := 0
	for ; !n.isRoot(); n = n.parent() {
		count++
	}
	return count
}

// within tells whether the name is apex or lies below it.
func (n Name) within(apex Name) bool {
	for len(n) > len(apex) {
		n = n.parent()
	}
	return n == apex
}

// hasLabel tells whether one of the labels is l.
func (n Name) hasLabel(l string) bool {
	for ; !n.isRoot(); n = n.parent() {
		if n.first() == l {
			return true
		}
	}
	return false
}

// Compare orders names canonically (RFC 4034 §6.1): label by label from the
// right, octet by octet, the shorter first.
func (n Name) Compare(m Name) int {
	a, b := n.split(), m.split()
	for i := 1; i <= len(a) && i <= len(b); i++ {
		if c := strings.Compare(a[len(a)-i], b[len(b)-i]); c != 0 {
			return c
		}
	}
	return len(a) - len(b)
}

// sortKey is a text whose order octet by octet is that of Compare: the labels
// from the right, each ended by a zero octet, and what could be taken for one
// written as two.
func (n Name) sortKey() string {
	var ends [maxName/2 + 1]int
	count := 0
	for at := 0; at < len(n) && n[at] != 0; at += 1 + int(n[at]) {
		ends[count] = at
		count++
	}
	key := make([]byte, 0, len(n)+8)
	for count--; count >= 0; count-- {
		at := ends[count]
		for _, c := range []byte(n[at+1 : at+1+int(n[at])]) {
			if c <= 1 {
				key = append(key, 1)
				c++
			}
			key = append(key, c)
		}
		key = append(key, 0)
	}
	return string(key)
}

func (n Name) split() []string {
	var out []string
	for ; !n.isRoot(); n = n.parent() {
		out = append(out, n.first())
	}
	return out
}
