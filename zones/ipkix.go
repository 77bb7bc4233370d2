package zones

import (
	"encoding/binary"
	"net/url"
	"strings"

	"directnode/internal/direct"
	"directnode/internal/keytag"
	"directnode/store"
)

// Form says how a certificate stands in the DNS (RFC 4398 §2.1, AS 5.3).
type Form string

// The forms. Every peer reads PKIX. The reference implementations do not read
// IPKIX, one of them fails at a name where both stand (docs/OPERATING.md): it
// is for who must publish what is too large for a DNS message.
const (
	FormPKIX  Form = "pkix"  // the certificate itself
	FormIPKIX Form = "ipkix" // the URL of it, on the node's own HTTP listener
	FormBoth  Form = "both"
)

// Forms lists them, the default first.
func Forms() []string { return []string{string(FormPKIX), string(FormIPKIX), string(FormBoth)} }

const (
	ipkixDir       = "ipkix/"
	ipkixExtension = ".cer" // RFC 2585 §4.1
	sha256Digits   = 64
)

// certURL is where the HTTP listener serves a certificate: base, which ends in
// a slash, then the domain name at which its CERT record stands, then its
// fingerprint. Whoever asks knows both from the DNS; nobody finds a name by
// guessing fingerprints, or a certificate by guessing names.
func certURL(base string, name Name, sha string) string {
	return base + ipkixDir + url.PathEscape(strings.TrimSuffix(name.String(), ".")) + "/" + sha + ipkixExtension
}

// certForms is the RDATA that publishes a certificate, in each form that the
// operator asked for.
func (b *builder) certForms(name Name, c *store.Certificate, known *RRset) []rdata {
	var all []rdata
	if b.form != FormIPKIX {
		all = append(all, certRData(c.DER, known))
	}
	if b.form != FormPKIX {
		sha := c.SHA256
		if sha == "" { // of no store
			sha = store.Fingerprint(c.DER)
		}
		all = append(all, ipkixRData(c.DER, certURL(b.url, name, sha), known))
	}
	return all
}

// ipkixRData is the RDATA that points to a certificate. Key tag and algorithm
// are those of its key, as in the record that holds it (RFC 4398 §2).
func ipkixRData(der []byte, url string, before *RRset) rdata {
	d := rdata{used: certHead, body: []byte(url)}
	if head, ok := knownHead(d.body, before); ok {
		d.head = head
		return d
	}
	tag, algorithm := keytag.Of(der)
	binary.BigEndian.PutUint16(d.head[:], certIPKIX)
	binary.BigEndian.PutUint16(d.head[2:], tag)
	d.head[4] = algorithm
	return d
}

// PublishedAt gives the certificate that a path below our URL names, in its
// escaped form and without the slash at its beginning, with its fingerprint. It
// is one that the DNS publishes, now, under that name.
func PublishedAt(v *store.View, path string) (der []byte, sha string, ok bool) {
	rest, ok := strings.CutPrefix(path, ipkixDir)
	if !ok {
		return nil, "", false
	}
	escaped, file, ok := strings.Cut(rest, "/")
	sha, isCert := strings.CutSuffix(file, ipkixExtension)
	if !ok || !isCert || len(sha) != sha256Digits {
		return nil, "", false
	}
	text, err := url.PathUnescape(escaped)
	if err != nil {
		return nil, "", false
	}
	name, err := ParseName(text)
	if err != nil || name.hasLabel("*") {
		return nil, "", false
	}
	// AS 5.1: bob.smith@example.org and bob@smith.example.org share one name.
	for up := name; !up.isRoot(); up = up.parent() {
		if der, ok := publishedIn(v, up, name, sha); ok {
			return der, sha, true
		}
	}
	return nil, "", false
}

// publishedIn looks in one domain.
func publishedIn(v *store.View, apex, name Name, sha string) ([]byte, bool) {
	d, err := direct.ParseDomain(strings.TrimSuffix(apex.String(), "."))
	if err != nil {
		return nil, false
	}
	data := v.Domain(d)
	if data == nil {
		return nil, false
	}
	owner, err := direct.OwnerFromDNSName(name.String(), d)
	if err != nil {
		return nil, false
	}
	for _, c := range data.Owned(owner) {
		if c.SHA256 == sha && c.PublishDNS {
			return c.DER, true
		}
	}
	return nil, false
}
