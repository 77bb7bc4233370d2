package trust

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"net/url"
	"strings"

	"directnode/internal/direct"
)

// Tags of GeneralName (RFC 5280 §4.2.1.6).
const (
	nameEmail     = 1
	nameDNS       = 2
	nameDirectory = 4
	nameURI       = 6
	nameIP        = 7
)

// generalName is one name of a certificate or the base of one subtree.
type generalName struct {
	tag   int
	value []byte
	dn    rdns // for nameDirectory
}

// subtrees is the nameConstraints extension of one certificate.
type subtrees struct {
	permitted, excluded []generalName
}

// checkNameConstraints holds every certificate of the path against the constraints of everyone above it (RFC 5280 §4.2.1.10).
func checkNameConstraints(v *view) (State, string) {
	comparisons := 0
	return v.above(func(i int, c *x509.Certificate) string {
		value, present := extension(c, oidNameConstraints)
		if !present {
			return ""
		}
		limits, err := parseConstraints(value)
		if err != nil {
			return fmt.Sprintf("the name constraints of %s: %v", label(c), err)
		}
		for j, below := range v.path[:i] {
			// RFC 5280 §6.1.3 (b): self-issued certificates are exempt unless they are the last one.
			if j > 0 && selfIssued(below) {
				continue
			}
			names, err := namesOf(below)
			if err != nil {
				return fmt.Sprintf("the names of %s: %v", label(below), err)
			}
			comparisons += len(names) * (len(limits.permitted) + len(limits.excluded))
			if comparisons > maxComparisons {
				return "too many names and name constraints"
			}
			if reason := limits.refuse(names); reason != "" {
				return fmt.Sprintf("%s does not let %s use %s", label(c), label(below), reason)
			}
		}
		return ""
	})
}

// parseConstraints reads the extension itself rather than the fields of x509.Certificate, which leave out directory names.
func parseConstraints(der []byte) (subtrees, error) {
	type subtree struct {
		Base    asn1.RawValue
		Minimum int `asn1:"optional,tag:0"`
		Maximum int `asn1:"optional,tag:1,default:-1"`
	}
	var ext struct {
		Permitted []subtree `asn1:"optional,tag:0"`
		Excluded  []subtree `asn1:"optional,tag:1"`
	}
	if rest, err := asn1.Unmarshal(der, &ext); err != nil || len(rest) > 0 {
		return subtrees{}, fmt.Errorf("not readable")
	}
	var out subtrees
	read := func(from []subtree) (to []generalName, err error) {
		for _, s := range from {
			// RFC 5280 §4.2.1.10: minimum is 0 and maximum is absent; nobody may interpret anything else.
			if s.Minimum != 0 || s.Maximum != -1 {
				return nil, fmt.Errorf("minimum or maximum is set")
			}
			n, err := readName(s.Base)
			if err != nil {
				return nil, err
			}
			to = append(to, n)
		}
		return to, nil
	}
	var err error
	if out.permitted, err = read(ext.Permitted); err != nil {
		return subtrees{}, err
	}
	out.excluded, err = read(ext.Excluded)
	return out, err
}

func readName(v asn1.RawValue) (generalName, error) {
	if v.Class != asn1.ClassContextSpecific {
		return generalName{}, fmt.Errorf("a name of class %d", v.Class)
	}
	n := generalName{tag: v.Tag, value: v.Bytes}
	if v.Tag == nameDirectory {
		n.dn = canonical(v.Bytes) // explicitly tagged: the content is the Name
	}
	return n, nil
}

// namesOf lists what constraints apply to: the subject, the subjectAltName, and the legacy emailAddress of a subject if there is no
// subjectAltName (RFC 5280 §4.2.1.10).
func namesOf(c *x509.Certificate) ([]generalName, error) {
	var names []generalName
	if dn := canonical(c.RawSubject); len(dn) > 0 {
		names = append(names, generalName{tag: nameDirectory, dn: dn})
	}
	der, present := extension(c, oidSubjectAltName)
	if !present {
		for _, a := range c.Subject.Names {
			if value, _ := a.Value.(string); a.Type.Equal(oidEmailAddress) {
				names = append(names, generalName{tag: nameEmail, value: []byte(value)})
			}
		}
		return names, nil
	}
	var seq []asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &seq); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("the subjectAltName is not readable")
	}
	for _, v := range seq {
		n, err := readName(v)
		if err != nil {
			return nil, err
		}
		names = append(names, n)
	}
	return names, nil
}

// refuse gives the first name that the constraints do not allow, "" if there is none.
func (s subtrees) refuse(names []generalName) string {
	for _, n := range names {
		constrained, allowed := false, false
		for _, base := range s.permitted {
			if base.tag != n.tag {
				continue
			}
			constrained = true
			// A kind of name that is not understood, or a name that cannot be read, is allowed by no permitted subtree.
			in, ok := n.in(base)
			allowed = allowed || ok && in
		}
		if constrained && !allowed {
			return n.String() + ", which lies in no permitted subtree"
		}
		for _, base := range s.excluded {
			if base.tag != n.tag {
				continue
			}
			// … and refused by every excluded one.
			if in, ok := n.in(base); in || !ok {
				return n.String() + ", which is excluded"
			}
		}
	}
	return ""
}

// String shows the name in a reason.
func (n generalName) String() string {
	switch n.tag {
	case nameEmail, nameDNS, nameURI:
		return fmt.Sprintf("%q", n.value)
	case nameDirectory:
		return "its subject or directory name"
	}
	return fmt.Sprintf("a name of kind %d", n.tag)
}

// in tells whether the name lies in the subtree; ok is false where that cannot be told.
func (n generalName) in(base generalName) (in, ok bool) {
	name, limit := strings.ToLower(string(n.value)), strings.ToLower(string(base.value))
	switch n.tag {
	case nameDirectory:
		return n.dn.within(base.dn), true
	case nameDNS:
		// Zero or more labels on the left. A wildcard is a label like another here: it binds no address anyway.
		name = strings.TrimSuffix(name, ".")
		return limit == "" || name == strings.TrimPrefix(limit, ".") && limit[0] != '.' || strings.HasSuffix(name, "."+strings.TrimPrefix(limit, ".")), name != ""
	case nameEmail:
		return mailboxIn(name, limit)
	case nameURI:
		u, err := url.Parse(string(n.value))
		if err != nil || u.Hostname() == "" {
			return false, false
		}
		return hostIn(strings.TrimSuffix(strings.ToLower(u.Hostname()), "."), limit), true
	case nameIP:
		half := len(base.value) / 2
		if len(n.value) != half || len(base.value)%2 != 0 {
			return false, len(base.value) == 8 || len(base.value) == 32
		}
		masked := make([]byte, half)
		for i := range masked {
			masked[i] = n.value[i] & base.value[half+i]
		}
		return bytes.Equal(masked, base.value[:half]), true
	}
	return false, false
}

// mailboxIn is RFC 5280 §4.2.1.10 for rfc822Name: a mailbox, all mailboxes of a host, or all of every host below a domain.
func mailboxIn(name, limit string) (in, ok bool) {
	name = mailbox(name)
	at := strings.LastIndexByte(name, '@')
	if at <= 0 || at == len(name)-1 {
		return false, false
	}
	if strings.ContainsRune(limit, '@') {
		return name == mailbox(limit), true
	}
	return hostIn(name[at+1:], limit), true
}

// mailbox brings an rfc822Name into the one form in which the binding reads it (addressBound): without regard to case (AS 4.1.1), to
// needless quotes and to the final dot of the host. An exclusion that compared other octets than the binding would be no exclusion.
func mailbox(s string) string {
	if a, err := direct.ParseAddress(s); err == nil {
		return a.Key()
	}
	return strings.TrimSuffix(s, ".")
}

// hostIn: without a leading dot exactly this host, with one every host below.
func hostIn(host, limit string) bool {
	if strings.HasPrefix(limit, ".") {
		return strings.HasSuffix(host, limit)
	}
	return limit == "" || host == limit
}
