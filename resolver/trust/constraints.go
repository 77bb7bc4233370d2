package trust

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"net/netip"
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

// generalName is one name of a certificate or the base of one subtree, in the form in which it is compared.
type generalName struct {
	tag   int
	text  string // email, DNS, URI: lower case, without a final dot; of a URI that is a name the host
	shown string // for people
	value []byte // IP
	dn    rdns   // directory name
	bad   bool   // it cannot be compared with anything
}

// subtrees is the nameConstraints extension of one certificate.
type subtrees struct {
	permitted, excluded []generalName
}

// limitsOf is what a node keeps of its nameConstraints extension.
type limitsOf struct {
	present bool
	trees   subtrees
	err     error
}

// namesOfNode is what a node keeps of its names.
type namesOfNode struct {
	list []generalName
	err  error
}

func (n *node) constraints() *limitsOf {
	if n.limits == nil {
		n.limits = &limitsOf{}
		var value []byte
		if value, n.limits.present = extension(n.cert, oidNameConstraints); n.limits.present {
			n.limits.trees, n.limits.err = parseConstraints(value)
		}
	}
	return n.limits
}

func (n *node) constrained() *namesOfNode {
	if n.names == nil {
		n.names = &namesOfNode{}
		n.names.list, n.names.err = namesOf(n.cert)
	}
	return n.names
}

// aboveNameConstraints holds every certificate of the path against the constraints of up (RFC 5280 §4.2.1.10), also where up is the
// anchor: what an organization that was made an anchor may vouch for is written in its certificate.
func aboveNameConstraints(v *view, below []*node, up *node) string {
	limits := up.constraints()
	switch {
	case !limits.present:
		return ""
	case limits.err != nil:
		return fmt.Sprintf("the name constraints of %s: %v", label(up.cert), limits.err)
	}
	for j, n := range below {
		// RFC 5280 §6.1.3 (b): self-issued certificates are exempt unless they are the last one.
		if j > 0 && n.selfIssued() {
			continue
		}
		if reason := v.constrain(up, n); reason != "" {
			return reason
		}
	}
	return ""
}

// constrain compares one certificate with the constraints of one issuer, once for all paths that hold both.
func (v *view) constrain(up, n *node) string {
	pair := [2]*node{up, n}
	if reason, known := v.pool.refusals[pair]; known {
		return reason
	}
	names := n.constrained()
	if names.err != nil {
		return fmt.Sprintf("the names of %s: %v", label(n.cert), names.err)
	}
	trees := up.constraints().trees
	cost := len(names.list) * (len(trees.permitted) + len(trees.excluded))
	if v.comparisons+cost > maxComparisons {
		return fmt.Sprintf("too many names and name constraints: %d of %s times %d of %s, more than %d in all", len(names.list), label(n.cert),
			len(trees.permitted)+len(trees.excluded), label(up.cert), maxComparisons)
	}
	v.comparisons += cost
	reason := trees.refuse(names.list)
	if reason != "" {
		reason = fmt.Sprintf("%s does not let %s use %s", label(up.cert), label(n.cert), reason)
	}
	v.pool.refusals[pair] = reason
	return reason
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
	read := func(from []subtree) (to []generalName, err error) {
		for _, s := range from {
			// RFC 5280 §4.2.1.10: minimum is 0 and maximum is absent; nobody may interpret anything else.
			if s.Minimum != 0 || s.Maximum != -1 {
				return nil, fmt.Errorf("minimum or maximum is set")
			}
			n, err := readBase(s.Base)
			if err != nil {
				return nil, err
			}
			to = append(to, n)
		}
		return to, nil
	}
	var out subtrees
	var err error
	if out.permitted, err = read(ext.Permitted); err != nil {
		return subtrees{}, err
	}
	out.excluded, err = read(ext.Excluded)
	return out, err
}

// readBase reads the base of a subtree. One that has no meaning is kept as bad: a name of its kind is then refused, and certificates
// without a name of that kind are not concerned (RFC 5280 §4.2.1.10).
func readBase(v asn1.RawValue) (generalName, error) {
	n, err := readAny(v)
	if err != nil {
		return n, err
	}
	switch n.tag {
	case nameEmail:
		if strings.ContainsRune(n.text, '@') {
			n.text = mailbox(n.text)
			_, ok := hostOf(n.text)
			n.bad = !ok
		}
	case nameURI:
		_, err := netip.ParseAddr(n.text) // the host of a constraint is a name, not an address
		n.bad = err == nil
	case nameIP:
		n.bad = len(n.value) != 8 && len(n.value) != 32
	}
	return n, nil
}

// readName reads a name of a certificate.
func readName(v asn1.RawValue) (generalName, error) {
	n, err := readAny(v)
	if err != nil {
		return n, err
	}
	switch n.tag {
	case nameEmail:
		n.text = mailbox(n.text)
		_, ok := hostOf(n.text)
		n.bad = !ok
	case nameDNS:
		n.bad = n.text == ""
	case nameURI:
		// RFC 5280 §4.2.1.10: a URI without a host name, which an address is not, is refused where URIs are constrained.
		u, err := url.Parse(string(v.Bytes))
		if err != nil {
			n.bad = true
			break
		}
		n.text = fold(u.Hostname())
		_, err = netip.ParseAddr(n.text)
		n.bad = n.text == "" || err == nil
	case nameIP:
		n.bad = len(n.value) != 4 && len(n.value) != 16
	}
	return n, nil
}

func readAny(v asn1.RawValue) (generalName, error) {
	if v.Class != asn1.ClassContextSpecific {
		return generalName{}, fmt.Errorf("a name of class %d", v.Class)
	}
	n := generalName{tag: v.Tag, value: v.Bytes}
	switch v.Tag {
	case nameEmail, nameDNS, nameURI:
		n.text, n.shown = fold(string(v.Bytes)), fmt.Sprintf("%q", v.Bytes)
	case nameDirectory:
		n.dn, n.shown = canonical(v.Bytes), "its subject or directory name" // explicitly tagged: the content is the Name
	default:
		n.shown = fmt.Sprintf("a name of kind %d", v.Tag)
	}
	return n, nil
}

// fold makes ASCII letters small, and no others, and drops the final dot of an absolute name.
func fold(s string) string {
	return strings.TrimSuffix(lowerASCII(s), ".")
}

func lowerASCII(s string) string {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if 'A' <= b[i] && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}

// mailbox brings an rfc822Name into the one form in which the binding reads it (addressBound): without regard to case (AS 4.1.1), to
// needless quotes and to the final dot of the host. An exclusion that compared other octets than the binding would be no exclusion.
func mailbox(folded string) string {
	if a, err := direct.ParseAddress(folded); err == nil {
		return a.Key()
	}
	return folded
}

// hostOf gives what stands behind the @ of a mailbox.
func hostOf(mailbox string) (string, bool) {
	at := strings.LastIndexByte(mailbox, '@')
	if at <= 0 || at == len(mailbox)-1 {
		return "", false
	}
	return mailbox[at+1:], true
}

// namesOf lists what constraints apply to: the subject, the subjectAltName, and the legacy emailAddress of a subject if there is no
// subjectAltName (RFC 5280 §4.2.1.10).
func namesOf(c *x509.Certificate) ([]generalName, error) {
	var names []generalName
	if dn := canonical(c.RawSubject); len(dn) > 0 {
		names = append(names, generalName{tag: nameDirectory, dn: dn, shown: "its subject or directory name"})
	}
	if der, present := extension(c, oidSubjectAltName); present {
		alternatives, err := parseAlternatives(der)
		return append(names, alternatives...), err
	}
	for _, a := range c.Subject.Names {
		if !a.Type.Equal(oidEmailAddress) {
			continue
		}
		value, _ := a.Value.(string)
		n, err := readName(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: nameEmail, Bytes: []byte(value)})
		if err != nil {
			return nil, err
		}
		names = append(names, n)
	}
	return names, nil
}

// parseAlternatives reads a subjectAltName extension.
func parseAlternatives(der []byte) ([]generalName, error) {
	var seq []asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &seq); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("the subjectAltName is not readable")
	}
	names := make([]generalName, 0, len(seq))
	for _, v := range seq {
		n, err := readName(v)
		if err != nil {
			return nil, err
		}
		names = append(names, n)
	}
	return names, nil
}

// refuse gives the first name that the constraints do not allow, "" if there is none. What cannot be compared is allowed by no
// permitted subtree and refused by every excluded one.
func (s subtrees) refuse(names []generalName) string {
	for i := range names {
		n := &names[i]
		constrained, allowed := false, false
		for j := range s.permitted {
			if base := &s.permitted[j]; base.tag == n.tag && !allowed {
				constrained = true
				allowed = n.comparable(base) && n.within(base)
			}
		}
		if constrained && !allowed {
			return n.shown + ", which lies in no permitted subtree"
		}
		for j := range s.excluded {
			base := &s.excluded[j]
			if base.tag == n.tag && (!n.comparable(base) || n.within(base) || n.mayBe(base)) {
				return n.shown + ", which is excluded"
			}
		}
	}
	return ""
}

// comparable tells whether within has an answer: the kind of name is understood and both can be read.
func (n *generalName) comparable(base *generalName) bool {
	switch n.tag {
	case nameEmail, nameDNS, nameDirectory, nameURI, nameIP:
		return !n.bad && !base.bad
	}
	return false
}

// within tells whether the name lies in the subtree.
func (n *generalName) within(base *generalName) bool {
	switch n.tag {
	case nameDirectory:
		return n.dn.within(base.dn)
	case nameDNS:
		// Zero or more labels on the left; with a leading dot, which RFC 5280 does not know for this kind and the field uses, one or more.
		below := strings.TrimPrefix(base.text, ".")
		return base.text == "" || n.text == base.text || strings.HasSuffix(n.text, "."+below)
	case nameEmail:
		if strings.ContainsRune(base.text, '@') {
			return n.text == base.text // a mailbox
		}
		host, _ := hostOf(n.text)
		return hostIn(host, base.text) // all mailboxes of a host, or of every host below a domain
	case nameURI:
		return hostIn(n.text, base.text)
	case nameIP:
		half := len(base.value) / 2
		if len(n.value) != half {
			return false // the other family
		}
		for i := range half {
			if (n.value[i]^base.value[i])&base.value[half+i] != 0 {
				return false
			}
		}
		return true
	}
	return false
}

// mayBe tells whether a wildcard stands for names of an excluded subtree. A wildcard binds no address, and this asks nothing of
// the certificates that carry one; it keeps the meaning of an exclusion whoever reads it.
func (n *generalName) mayBe(base *generalName) bool {
	parent, wild := strings.CutPrefix(n.text, "*.")
	return wild && n.tag == nameDNS && strings.HasSuffix(strings.TrimPrefix(base.text, "."), "."+parent)
}

// hostIn: without a leading dot exactly this host, with one every host below.
func hostIn(host, limit string) bool {
	if strings.HasPrefix(limit, ".") {
		return strings.HasSuffix(host, limit)
	}
	return limit == "" || host == limit
}
