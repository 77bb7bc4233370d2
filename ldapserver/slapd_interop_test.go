package ldapserver_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/bits"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"directnode/internal/ber"
	"directnode/internal/direct"
	"directnode/internal/spec"
	"directnode/internal/testpki"
	"directnode/ldapserver"
	"directnode/ldapserver/dit"
	"directnode/store"
)

// TestInteropSearchesLikeSlapd exports a directory as LDIF, loads OpenLDAP's
// server with it and asks both the same. LDAP_DIFF is the number of searches,
// LDAP_DIFF_SEED another choice of them. Each difference must be one of
// differences_test.go; docs/LDAP-DIFFERENCES.md says why we differ.
func TestInteropSearchesLikeSlapd(t *testing.T) {
	spec.Covers(t, "AS-1.4-h")
	total, seed := envNumber(t, "LDAP_DIFF", 1000), uint64(envNumber(t, "LDAP_DIFF_SEED", 1))
	v := difficultDirectory(t, seed)
	peer := startSlapd(t, v)
	for _, mode := range []string{dit.AnonymousExact, dit.AnonymousList} {
		t.Run(mode, func(t *testing.T) {
			tree, err := dit.Build(v, dit.Options{Anonymous: mode})
			if err != nil {
				t.Fatal(err)
			}
			c := comparison{
				ours:   newAsker(t, start(t, tree, ldapserver.Options{SizeLimit: 1 << 20}), v),
				theirs: newAsker(t, peer, v), explained: map[string]int{},
			}
			c.run(t, newQuestioner(v, seed, mode == dit.AnonymousExact), (total+1)/2)
			for _, d := range differences {
				t.Logf("%8d × %s", c.explained[d.name], d.name)
			}
			t.Logf("%d searches, %d of them find something; %d with the same answer, %d differ, %d unexplained", c.total, c.filled, c.equal, c.total-c.equal, c.unexplained)
			if c.filled < c.total/10 {
				t.Error("too few searches find anything")
			}
		})
	}
}

func envNumber(t *testing.T, variable string, otherwise int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q is no number", variable, text)
	}
	return n
}

// difficultLocals are local parts that names, filters and LDIF must escape, or
// that compare in more than one way.
var difficultLocals = []string{
	"bob", "Bob.Smith", "o'brien", "a+b", "x=y", "#hash", "star*", "per%cent", "{curly}", "a/b", "-", "1",
	`"bob smith"`, `"two  spaces"`, `" lead"`, `"trail "`, `"comma, inc"`, `"semi;colon"`, `"plus + and"`, `"quo\"te"`, `"back\\slash"`,
	`"<angle>"`, `"at@sign"`, `"paren(s)"`, `"dot..dot"`, `"# sharp"`, `"\"\\\""`, "UPPER", "MiXed",
}

// difficultDirectory has several domains, some below another, with owners of
// all kinds and up to four certificates for each.
func difficultDirectory(t *testing.T, seed uint64) view {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	ca := testpki.New(t).Root("Test Root")
	var v view
	for _, name := range []string{"a.direct.test", "b.direct.test", "clinic.example.org", "deep.er.clinic.example.org", "lab.b.direct.test"} {
		owners := []string{name, "only-in-dns@" + name, "nobody.else@ward." + name}
		for _, local := range difficultLocals {
			if name == "b.direct.test" || r.IntN(4) == 0 {
				owners = append(owners, local+"@"+name)
			}
		}
		for range 8 {
			owners = append(owners, fmt.Sprintf("%s%d.%c@%s", []string{"bob", "Bo", "ann", "x"}[r.IntN(4)], r.IntN(1000), 'a'+rune(r.IntN(26)), name))
		}
		v = append(v, domainOf(t, r, ca, name, owners))
	}
	return v
}

func domainOf(t *testing.T, r *rand.Rand, ca *testpki.CA, name string, owners []string) *store.DomainData {
	t.Helper()
	domain, err := direct.ParseDomain(name)
	if err != nil {
		t.Fatal(err)
	}
	var certs []store.Certificate
	for _, text := range owners {
		owner, err := direct.ParseOwner(text)
		if err != nil {
			t.Fatal(err)
		}
		for range 1 + max(0, r.IntN(7)-3) {
			certs = append(certs, store.Certificate{Owner: owner, DER: ca.Leaf("someone").DER, PublishLDAP: !strings.HasPrefix(text, "only-in-dns")})
		}
	}
	return &store.DomainData{Domain: domain, Certificates: store.NewCertificates(certs...)}
}

// comparison counts what became of the searches.
type comparison struct {
	ours, theirs         *asker
	total, equal, filled int
	unexplained          int
	explained            map[string]int
}

// atOnce is how many searches travel together: fewer than slapd takes from one
// anonymous connection before it stops reading.
const atOnce = 64

func (c *comparison) run(t *testing.T, g *questioner, n int) {
	for c.total < n {
		var questions []question
		for range min(atOnce, n-c.total) {
			questions = append(questions, g.next())
		}
		ours, theirs := c.ours.ask(t, questions), c.theirs.ask(t, questions)
		for i, q := range questions {
			c.judge(t, q, ours[i], theirs[i])
		}
		c.total += len(questions)
	}
}

func (c *comparison) judge(t *testing.T, q question, ours, theirs found) {
	if len(ours.entries) > 0 {
		c.filled++
	}
	if c.same(t, q, ours, theirs) {
		c.equal++
		return
	}
	if names := c.explain(t, q, ours); names != nil {
		for _, name := range names {
			c.explained[name]++
		}
		return
	}
	if c.unexplained++; c.unexplained <= 20 {
		t.Errorf("not explained: %s\n%s", q, ours.differences(theirs))
	}
}

// same compares two answers to one search. Where the client's limit cut them,
// each server may have chosen other entries.
func (c *comparison) same(t *testing.T, q question, ours, theirs found) bool {
	if ours.code != sizeLimitExceeded || theirs.code != sizeLimitExceeded {
		return ours.differences(theirs) == ""
	}
	if len(ours.entries) != len(theirs.entries) || int64(len(ours.entries)) != q.size {
		return false
	}
	q.size = 0
	all := c.theirs.one(t, q)
	for dn, e := range ours.entries {
		if all.entries[dn] != e {
			return false
		}
	}
	return true
}

// explain finds the fewest differences that make our answer the one that the peer
// gives to the search as they rewrite it.
func (c *comparison) explain(t *testing.T, q question, ours found) []string {
	var may []difference
	for _, d := range differences {
		if d.applies(q) {
			may = append(may, d)
		}
	}
	for n := 1; n <= len(may); n++ {
		for set := range 1 << len(may) {
			if bits.OnesCount(uint(set)) != n {
				continue
			}
			var used []difference
			var names []string
			for i, d := range may {
				if set>>i&1 != 0 {
					used, names = append(used, d), append(names, d.name)
				}
			}
			if c.explains(t, q, ours, used) {
				return names
			}
		}
	}
	return nil
}

func (c *comparison) explains(t *testing.T, q question, ours found, used []difference) bool {
	rewritten := q
	for _, d := range used {
		if d.rewrite != nil {
			rewritten = d.rewrite(rewritten)
		}
	}
	// The limit is applied here: a rewritten search may be several.
	limit := rewritten.size
	rewritten.size = 0
	theirs := c.theirs.one(t, rewritten)
	for _, d := range used {
		if d.adjust != nil {
			d.adjust(q, &theirs)
		}
	}
	if limit == 0 || theirs.code != 0 || int64(len(theirs.entries)) <= limit {
		return ours.differences(theirs) == ""
	}
	if ours.code != sizeLimitExceeded || int64(len(ours.entries)) != limit {
		return false
	}
	for dn, e := range ours.entries {
		if theirs.entries[dn] != e {
			return false
		}
	}
	return true
}

// The result codes that the comparison knows by name.
const (
	sizeLimitExceeded = 4
	noSuchObject      = 32
	invalidDNSyntax   = 34
)

// found is an answer: entries by their names in one spelling, each with its
// attributes in one text.
type found struct {
	code    int64
	matched string
	entries map[string]string
	twice   bool // an entry came more than once
}

// differences tells in words where two answers differ, nothing if they do not.
func (f found) differences(other found) string {
	var b strings.Builder
	if f.code != other.code || f.twice || other.twice {
		fmt.Fprintf(&b, "  code %d and %d, an entry twice %v and %v\n", f.code, other.code, f.twice, other.twice)
	}
	if f.matched != other.matched {
		fmt.Fprintf(&b, "  matched %q and %q\n", f.matched, other.matched)
	}
	names := slices.Sorted(maps.Keys(f.entries))
	for name := range other.entries {
		if _, ok := f.entries[name]; !ok {
			names = append(names, name)
		}
	}
	shown := 0
	for _, name := range names {
		a, inOurs := f.entries[name]
		b2, inTheirs := other.entries[name]
		if a == b2 && inOurs == inTheirs {
			continue
		}
		if shown++; shown <= 2 {
			fmt.Fprintf(&b, "  %s\n    %v %s\n    %v %s\n", name, inOurs, a, inTheirs, b2)
		}
	}
	if shown > 0 {
		fmt.Fprintf(&b, "  %d and %d entries, %d of them differ\n", len(f.entries), len(other.entries), shown)
	}
	return b.String()
}

// asker is a client that asks many questions at a time.
type asker struct {
	addr      string
	directory view
	conn      net.Conn
	in        *bufio.Reader
	names     map[string]string // of entries: as they came → in one spelling
}

func newAsker(t *testing.T, addr string, v view) *asker {
	a := &asker{addr: addr, directory: v, names: map[string]string{}}
	a.dial(t)
	t.Cleanup(func() { a.conn.Close() })
	return a
}

func (a *asker) dial(t *testing.T) {
	t.Helper()
	c, err := net.Dial("tcp", a.addr)
	if err != nil {
		t.Fatal(err)
	}
	a.conn, a.in = c, bufio.NewReaderSize(c, 256<<10)
}

// one asks a single question, which may stand for several: the union of them is
// the answer.
func (a *asker) one(t *testing.T, q question) found {
	t.Helper()
	if !q.everywhere {
		return a.ask(t, []question{q})[0]
	}
	var parts []question
	for _, d := range a.directory {
		part := q
		part.everywhere = false
		part.base = "dc=" + strings.ReplaceAll(d.Domain.String(), ".", ",dc=")
		if q.scope == 1 {
			part.scope = 0 // the contexts are what lies right below the empty name
		}
		parts = append(parts, part)
	}
	whole := found{entries: map[string]string{}}
	for _, f := range a.ask(t, parts) {
		whole.code = max(whole.code, f.code)
		maps.Copy(whole.entries, f.entries) // a context below another is in both
	}
	return whole
}

// ask sends the questions in one piece and sorts the answers by their IDs.
func (a *asker) ask(t *testing.T, questions []question) []found {
	t.Helper()
	var out bytes.Buffer
	for i, q := range questions {
		out.Write(q.pdu(int64(i + 1)))
	}
	a.conn.SetDeadline(time.Now().Add(60 * time.Second))
	if _, err := out.WriteTo(a.conn); err != nil {
		t.Fatal(err)
	}
	answers := make([]found, len(questions))
	for i := range answers {
		answers[i].entries = map[string]string{}
	}
	for open := len(questions); open > 0; {
		m, err := a.read(t)
		if err != nil {
			t.Fatalf("%s ends the connection (%v) in the course of\n%s", a.addr, err, questions)
		}
		if m.id < 1 || m.id > int64(len(questions)) {
			t.Fatalf("%s answers %s, in the course of\n%s", a.addr, m, questions)
		}
		f := &answers[m.id-1]
		switch m.tag {
		case 4:
			name := a.name(t, m.dn)
			_, f.twice = f.entries[name]
			f.entries[name] = attributesOf(t, m.body)
		case 5:
			f.code, f.matched = m.code, a.name(t, m.matched)
			open--
		default:
			t.Fatalf("%s answers %s", a.addr, m)
		}
	}
	return answers
}

// read reads one message.
func (a *asker) read(t *testing.T) (message, error) {
	t.Helper()
	const longestHeader = 6
	for have := 2; ; have++ {
		head, err := a.in.Peek(have)
		if err != nil {
			return message{}, err
		}
		n, err := ber.FrameLength(head, 16<<20)
		if errors.Is(err, ber.ErrShort) && have < longestHeader {
			continue
		}
		if err != nil {
			return message{}, err
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(a.in, b); err != nil {
			return message{}, err
		}
		return decode(t, b), nil
	}
}

// name is a name in one spelling. It is read by go-ldap, not by what is under
// test.
func (a *asker) name(t *testing.T, dn string) string {
	t.Helper()
	if dn == "" {
		return ""
	}
	if name, ok := a.names[dn]; ok {
		return name
	}
	parsed, err := ldap.ParseDN(dn)
	if err != nil {
		t.Fatalf("name %q: %v", dn, err)
	}
	var parts []string
	for _, rdn := range parsed.RDNs {
		if len(rdn.Attributes) != 1 {
			t.Fatalf("name %q has a component of several values", dn)
		}
		// Runs of spaces count as one, and those at the ends not (RFC 4518 §2.6.1).
		value := strings.Join(strings.Fields(rdn.Attributes[0].Value), " ")
		parts = append(parts, strings.ToLower(fmt.Sprintf("%s=%q", rdn.Attributes[0].Type, value)))
	}
	a.names[dn] = strings.Join(parts, ",")
	return a.names[dn]
}

// attributesOf writes the attributes of an entry in one order. Certificates are
// long and come as a number that tells them apart.
func attributesOf(t *testing.T, body []byte) string {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("entry %x: %v", body, err)
		}
	}
	in, err := ber.NewReader(body, ber.Limits{Depth: 8, Count: 10000, Size: 16 << 20}).Enter(ber.App(4, true))
	must(err)
	_, err = in.Next() // the name
	must(err)
	list, err := in.Enter(ber.Sequence)
	must(err)
	var lines []string
	for !list.Empty() {
		attribute, err := list.Enter(ber.Sequence)
		must(err)
		name, err := attribute.OctetString(ber.OctetString)
		must(err)
		set, err := attribute.Enter(ber.Set)
		must(err)
		var values []string
		for !set.Empty() {
			value, err := set.OctetString(ber.OctetString)
			must(err)
			if len(value) > 300 {
				values = append(values, fmt.Sprintf("%x…", value[len(value)-16:]))
				continue
			}
			values = append(values, string(value))
		}
		slices.Sort(values)
		lines = append(lines, fmt.Sprintf("%s%q", name, values))
	}
	slices.Sort(lines)
	return strings.Join(lines, " ")
}
