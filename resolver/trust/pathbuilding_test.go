package trust_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"directnode/internal/spec"
	"directnode/internal/testpki"
	"directnode/resolver/trust"
)

// defects are the ways in which one certificate of an authority cannot stand on a path, with the row that says so.
var defects = []struct {
	name, row string
	opts      []testpki.Option
}{
	{"expired", "path-validity", []testpki.Option{testpki.Expired()}},
	{"of the future", "path-validity", []testpki.Option{testpki.NotYetValid()}},
	{"no authority", "basic-constraints", []testpki.Option{testpki.NotCA()}},
	{"without basicConstraints", "basic-constraints", []testpki.Option{testpki.NoBasicConstraints()}},
	{"without keyCertSign", "issuer-key-usage", []testpki.Option{testpki.KeyUsage(x509.KeyUsageCRLSign)}},
	{"for other names", "name-constraints", []testpki.Option{testpki.PermitEmail("other.example.org")}},
	{"not for this name", "name-constraints", []testpki.Option{testpki.ExcludeEmail(bobAddress)}},
	{"signed with SHA-1", "signature-algorithm", []testpki.Option{testpki.SHA1()}},
	{"badly signed", "signature", []testpki.Option{testpki.BadSignature()}},
	{"with an unknown critical extension", "critical-extensions", []testpki.Option{unknownExtension(true)}},
	{"demanding a policy", "policies", []testpki.Option{testpki.Extension(asn1.ObjectIdentifier{2, 5, 29, 36}, true, []byte{0x30, 3, 0x80, 1, 0})}},
}

// TestTwoCrossSignsInEveryState is one authority certified by two roots, each certificate good or with each defect, the roots in both
// orders: the certificate of the user is trusted exactly where one of them is good, and the reason names a defect that is there.
func TestTwoCrossSignsInEveryState(t *testing.T) {
	spec.Covers(t, "AS-4.2.3-h")
	pki := testpki.New(t)
	one, two := pki.Root("Root One"), pki.Root("Root Two")
	hisp := one.Intermediate("HISP CA")
	bob := hisp.Leaf("bob", testpki.Address(bobAddress))
	certified := func(by *testpki.CA) (out []*x509.Certificate) {
		out = append(out, by.CrossSign(hisp).Cert)
		for _, d := range defects {
			out = append(out, by.CrossSign(hisp, d.opts...).Cert)
		}
		return out
	}
	byOne, byTwo := certified(one), certified(two)
	for i, first := range byOne {
		for j, second := range byTwo[:i+1] {
			q := trust.Question{Address: address(t, bobAddress), Purpose: trust.Encrypt, At: testpki.Now(), Candidates: [][]byte{bob.DER},
				Intermediates: []*x509.Certificate{first, second}, Anchors: []*x509.Certificate{one.Cert, two.Cert}}
			c := trust.Evaluate(q).Candidates[0]
			slices.Reverse(q.Intermediates)
			slices.Reverse(q.Anchors)
			if other := trust.Evaluate(q).Candidates[0]; other.Usable != c.Usable || (c.Anchor == nil) != (other.Anchor == nil) || c.Anchor != nil && !c.Anchor.Equal(other.Anchor) {
				t.Errorf("%d and %d: the order decides", i, j)
			}
			if want := i == 0 || j == 0; c.Usable != want {
				t.Errorf("%d and %d: usable %v: %v", i, j, c.Usable, c.Refusal())
				continue
			}
			if c.Usable {
				continue
			}
			if r := c.Refusal(); r.Check != defects[i-1].row && r.Check != defects[j-1].row {
				t.Errorf("%s and %s: refused by %s", defects[i-1].name, defects[j-1].name, r)
			}
		}
	}
}

// edge is one certificate of a graph of authorities.
type edge struct {
	subject, issuer, defect int // defect 0 = good, len(defects)+1 = a path length of 0
	cert                    *x509.Certificate
}

// TestAnyGraphOfCrossSigns draws graphs of authorities that certify each other, with certificates good and bad and some anchors, and
// compares the verdict with that of a plain enumeration of all paths. DNS_GRAPHS sets how many.
func TestAnyGraphOfCrossSigns(t *testing.T) {
	const names = 4
	pki := testpki.New(t)
	var cas []*testpki.CA
	for i := range names {
		cas = append(cas, pki.Root(fmt.Sprintf("CA %d", i), testpki.WithKey(testpki.RSA2048(i))))
	}
	var edges []edge
	for s, subject := range cas {
		for i, issuer := range cas {
			for d := range len(defects) + 2 {
				var opts []testpki.Option
				switch {
				case d == len(defects)+1:
					opts = []testpki.Option{testpki.PathLen(0)}
				case d > 0:
					opts = defects[d-1].opts
				}
				edges = append(edges, edge{s, i, d, issuer.CrossSign(subject, opts...).Cert})
			}
		}
	}
	bob := cas[0].Leaf("bob", testpki.Address(bobAddress))
	graphs := 400
	if n, err := strconv.Atoi(os.Getenv("DNS_GRAPHS")); err == nil {
		graphs = n
	}
	trusted, most := 0, 0
	for seed := range graphs {
		rng := rand.New(rand.NewPCG(uint64(seed), 5280))
		q := trust.Question{Address: address(t, bobAddress), Purpose: trust.Encrypt, At: testpki.Now(), Candidates: [][]byte{bob.DER}}
		var chosen []edge
		for range 2 + rng.IntN(14) {
			e := edges[rng.IntN(len(edges))]
			if rng.IntN(2) == 0 {
				e = edges[(e.subject*names+e.issuer)*(len(defects)+2)] // the good one
			}
			chosen = append(chosen, e)
			q.Intermediates = append(q.Intermediates, e.cert)
		}
		anchors := map[int]bool{}
		for range rng.IntN(3) {
			i := 1 + rng.IntN(names-1)
			anchors[i] = true
			q.Anchors = append(q.Anchors, cas[i].Cert)
		}
		c := trust.Evaluate(q).Candidates[0]
		want := reaches(chosen, anchors, []int{0}, 0)
		if c.Usable != want {
			t.Errorf("seed %d: usable %v, want %v: %v", seed, c.Usable, want, c.Refusal())
		}
		if c.Usable {
			trusted++
		}
		most = max(most, c.Signatures)
		if c.Signatures > 64 {
			t.Errorf("seed %d: %d signatures", seed, c.Signatures)
		}
	}
	t.Logf("%d of %d trusted, at most %d signatures", trusted, graphs, most)
	if trusted < graphs/20 || trusted > graphs*19/20 {
		t.Errorf("%d of %d trusted: the graphs show nothing", trusted, graphs)
	}
}

// reaches tells whether the last of the names on a path is an anchor, or comes to one by good certificates.
func reaches(edges []edge, anchors map[int]bool, path []int, between int) bool {
	top := path[len(path)-1]
	if anchors[top] {
		return true
	}
	for _, e := range edges {
		good := e.defect == 0 || e.defect == len(defects)+1 && between == 0
		if e.subject != top || !good || slices.Contains(path, e.issuer) {
			continue
		}
		if reaches(edges, anchors, append(path[:len(path):len(path)], e.issuer), between+1) {
			return true
		}
	}
	return false
}

// TestConstraintsByKindAndCase is every kind of name that RFC 5280 §4.2.1.10 constrains, permitted and excluded, in three cases.
func TestConstraintsByKindAndCase(t *testing.T) {
	type pair struct {
		base, name string
		inside     bool
	}
	kinds := []struct {
		tag   int
		fold  bool // letters have a case
		pairs []pair
	}{
		{1, true, []pair{
			{"bob@direct.example.org", "bob@direct.example.org", true}, {"bob@direct.example.org", "ann@direct.example.org", false},
			{"bob@direct.example.org", "bob@example.org", false}, {"bob@direct.example.org", "xbob@direct.example.org", false},
			{"direct.example.org", "bob@direct.example.org", true}, {"direct.example.org", "bob@x.direct.example.org", false},
			{"direct.example.org", "bob@xdirect.example.org", false}, {"direct.example.org", "direct.example.org@x.example", false},
			{".example.org", "bob@direct.example.org", true}, {".example.org", "bob@a.b.example.org", true},
			{".example.org", "bob@example.org", false}, {".example.org", "bob@xexample.org", false}, {"", "bob@direct.example.org", true},
			{"org", "bob@org", true}, {"org", "bob@example.org", false},
		}},
		{2, true, []pair{
			{"example.org", "example.org", true}, {"example.org", "direct.example.org", true}, {"example.org", "a.b.example.org", true},
			{"example.org", "xexample.org", false}, {"direct.example.org", "example.org", false}, {"example.org", "example.com", false},
			{".example.org", "direct.example.org", true}, {".example.org", "example.org", false}, {"", "anything.example", true},
		}},
		{6, true, []pair{
			{"example.org", "https://example.org/a", true}, {"example.org", "https://x.example.org/a", false}, {".example.org", "ldap://x.example.org:389/", true},
			{".example.org", "https://example.org/a", false}, {"example.org", "https://user@example.org:8443/a", true}, {"example.org", "https://example.org.evil/a", false},
		}},
		{7, false, []pair{
			{"\xc0\x00\x02\x00\xff\xff\xff\x00", "\xc0\x00\x02\x09", true}, {"\xc0\x00\x02\x00\xff\xff\xff\x00", "\xc0\x00\x03\x09", false},
			{"\xc0\x00\x02\x09\xff\xff\xff\xff", "\xc0\x00\x02\x09", true}, {"\xc0\x00\x02\x09\xff\xff\xff\xff", "\xc0\x00\x02\x08", false},
			{"\x00\x00\x00\x00\x00\x00\x00\x00", "\xc0\x00\x02\x08", true},
			{strings.Repeat("\x20\x01", 8) + strings.Repeat("\xff", 4) + strings.Repeat("\x00", 12), strings.Repeat("\x20\x01", 8), true},
			{strings.Repeat("\x20\x01", 8) + strings.Repeat("\xff", 4) + strings.Repeat("\x00", 12), "\xc0\x00\x02\x08", false},
		}},
	}
	pki := testpki.New(t)
	root := pki.Root("Root")
	n := 0
	for _, kind := range kinds {
		cases := []func(string) string{strings.Clone}
		if kind.fold {
			cases = append(cases, strings.ToUpper, swapCase)
		}
		for _, p := range kind.pairs {
			for _, excluded := range []bool{false, true} {
				ca := root.Intermediate("Limited", constraint(excluded, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: kind.tag, Bytes: []byte(p.base)}))
				for _, change := range cases {
					value := change(p.name)
					if kind.tag == 6 { // the scheme of a URI that we read has small letters
						scheme, rest, _ := strings.Cut(p.name, ":")
						value = scheme + ":" + change(rest)
					}
					// One leaf with the name beside an address of another kind than the one that is constrained.
					names := []asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: kind.tag, Bytes: []byte(value)}}
					leaf := ca.Leaf("x", testpki.Extension(asn1.ObjectIdentifier{2, 5, 29, 17}, false, mustMarshal(names, "")))
					q := trust.Question{Address: address(t, bobAddress), Purpose: trust.Encrypt, At: testpki.Now(), Candidates: [][]byte{leaf.DER},
						Intermediates: []*x509.Certificate{ca.Cert}, Anchors: []*x509.Certificate{root.Cert}}
					n++
					if got := state(trust.Evaluate(q).Candidates[0], "name-constraints") == trust.Pass; got != (p.inside != excluded) {
						t.Errorf("kind %d: %q against %q, excluded %v: allowed %v", kind.tag, value, p.base, excluded, got)
					}
				}
			}
		}
	}
	t.Logf("%d combinations", n)
}

func swapCase(s string) string {
	b := []byte(s)
	for i, c := range b {
		if i%2 == 0 {
			b[i] = strings.ToUpper(string(c))[0]
		}
	}
	return string(b)
}

// TestConstraintsOfTheLegacyAddress: without a subjectAltName the emailAddress of the subject is what is constrained, with one it is not.
func TestConstraintsOfTheLegacyAddress(t *testing.T) {
	w := newWorld(t)
	for _, tc := range []struct {
		name  string
		limit testpki.Option
		leaf  []testpki.Option
		want  bool
	}{
		{"excluded, no subjectAltName", testpki.ExcludeEmail("direct.example.org"), []testpki.Option{testpki.EmailInDN(bobAddress)}, false},
		{"excluded in another case", testpki.ExcludeEmail("direct.example.org"), []testpki.Option{testpki.EmailInDN("BOB@Direct.Example.ORG")}, false},
		{"permitted, no subjectAltName", testpki.PermitEmail(bobAddress), []testpki.Option{testpki.EmailInDN("BOB@Direct.Example.ORG")}, true},
		{"not permitted, no subjectAltName", testpki.PermitEmail("ann@direct.example.org"), []testpki.Option{testpki.EmailInDN(bobAddress)}, false},
		{"one of two excluded", testpki.ExcludeEmail(bobAddress), []testpki.Option{testpki.EmailInDN("ann@direct.example.org"), testpki.EmailInDN(bobAddress)}, false},
		{"no address that can be read", testpki.PermitEmail("direct.example.org"), []testpki.Option{testpki.EmailInDN("bob")}, false},
		{"beside a subjectAltName", testpki.ExcludeEmail(bobAddress), []testpki.Option{testpki.EmailInDN(bobAddress), testpki.Domain("direct.example.org")}, true},
	} {
		ca := w.root.Intermediate("Limited CA", tc.limit)
		q := w.question(t, ca.Leaf("bob", tc.leaf...))
		q.Intermediates = []*x509.Certificate{ca.Cert}
		if got := state(trust.Evaluate(q).Candidates[0], "name-constraints") == trust.Pass; got != tc.want {
			t.Errorf("%s: allowed %v", tc.name, got)
		}
	}
}

// TestConstraintsOfDirectoryNamesCompareWhatIsThere: two values of a type that is no text are not equal for being of that type.
func TestConstraintsOfDirectoryNamesCompareWhatIsThere(t *testing.T) {
	name := func(c byte) []byte {
		value := append([]byte{28, 4}, 0, 0, 0, c)
		atv := append([]byte{0x30, 5 + byte(len(value)), 6, 3, 0x55, 4, 10}, value...)
		set := append([]byte{0x31, byte(len(atv))}, atv...)
		return append([]byte{0x30, byte(len(set))}, set...)
	}
	w := newWorld(t)
	for c, want := range map[byte]bool{'A': true, 'B': false} {
		ca := w.root.Intermediate("Limited", constraint(false, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: name('A')}))
		san := []asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: name(c)}}
		q := w.question(t, ca.Leaf("", testpki.Subject(pkix.Name{}), testpki.Extension(asn1.ObjectIdentifier{2, 5, 29, 17}, false, mustMarshal(san, ""))))
		q.Intermediates = []*x509.Certificate{ca.Cert}
		if got := state(trust.Evaluate(q).Candidates[0], "name-constraints") == trust.Pass; got != want {
			t.Errorf("%c in the subtree of A: allowed %v", c, got)
		}
	}
}
