package zones_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"directnode/internal/spec"
	"directnode/internal/testpki"
	"directnode/store"
	"directnode/zones"
)

func build(t testing.TB, rev int64, all ...*store.DomainData) *zones.Set {
	t.Helper()
	s, err := zones.BuildData(rev, all...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBuildRefusesByName(t *testing.T) {
	many := func(n int, line string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, line+"\n", i)
		}
		return b.String()
	}
	var certs []store.Certificate
	for i := range 21 {
		certs = append(certs, cert(t, "bob@direct.example.org", []byte{0x30, 1, byte(i)}))
	}
	for _, c := range []struct {
		why   string
		data  *store.DomainData
		error string
	}{
		{"alias beside data", data(t, "direct.example.org", "x CNAME y\nx TXT z"), "x.direct.example.org. CNAME: the name also owns TXT"},
		{"two aliases", data(t, "direct.example.org", "x CNAME y\nx CNAME z"), "x.direct.example.org. CNAME: 2 records"},
		{"alias at the apex", data(t, "direct.example.org", "@ CNAME y"), "direct.example.org. CNAME: the name also owns NS"},
		{"no SOA", &store.DomainData{Domain: domain(t, "direct.example.org"), Records: []store.Record{rec("direct.example.org.", "NS", 1, "ns.example.")}}, "direct.example.org. SOA: missing"},
		{"no NS", &store.DomainData{Domain: domain(t, "direct.example.org"), Records: []store.Record{rec("direct.example.org.", "SOA", 1, "a. b. 1 2 3 4 5")}}, "direct.example.org. NS: missing"},
		{"two SOAs", data(t, "direct.example.org", "@ SOA a. b. 1 2 3 4 5"), "direct.example.org. SOA: 2 records"},
		{"SOA below", data(t, "direct.example.org", "x SOA a. b. 1 2 3 4 5"), "x.direct.example.org. SOA: stands below the apex"},
		{"data below a cut", data(t, "direct.example.org", "x NS ns.x\nns.x A 192.0.2.1\ny.x TXT z"), "y.x.direct.example.org. TXT: the name is delegated at x.direct.example.org."},
		{"certificate below a cut", data(t, "direct.example.org", "x NS ns.x", cert(t, "bob.x@direct.example.org", []byte{1})), "bob.x.direct.example.org. CERT: the name is delegated"},
		{"a set no message carries", data(t, "direct.example.org", many(241, "x TXT "+strings.Repeat("z", 240)+"%d")), "x.direct.example.org. TXT: "},
		{"too many certificates", data(t, "direct.example.org", "", certs...), "bob.direct.example.org. CERT: 21 records; at most 20"},
		{"certificate set too large", data(t, "direct.example.org", "", cert(t, "direct.example.org", bytes.Repeat([]byte{1}, 40_000)), cert(t, "direct.example.org", bytes.Repeat([]byte{2}, 30_000))), "direct.example.org. CERT: 70034 octets"},
		{"data below a DNAME", data(t, "direct.example.org", "x DNAME y\na.b.x TXT z"), "a.b.x.direct.example.org. TXT: a DNAME at x.direct.example.org."},
		{"data below a DNAME at the apex", data(t, "direct.example.org", "@ DNAME y.example.\na TXT z"), "a.direct.example.org. TXT: a DNAME at direct.example.org."},
		{"certificate below a DNAME", data(t, "direct.example.org", "x DNAME y", cert(t, "bob.x@direct.example.org", []byte{1})), "bob.x.direct.example.org. CERT: a DNAME at x.direct.example.org."},
		{"two DNAMEs", data(t, "direct.example.org", "x DNAME y\nx DNAME z"), "x.direct.example.org. DNAME: 2 records"},
		{"DNAME beside CNAME", data(t, "direct.example.org", "x DNAME y\nx CNAME z"), "x.direct.example.org. CNAME: the name also owns DNAME"},
		{"DNAME at a cut", data(t, "direct.example.org", "x DNAME y\nx NS ns.example."), "x.direct.example.org. DNAME: the name is delegated"},
		{"DNAME below a cut", data(t, "direct.example.org", "a.x DNAME y\nx NS ns.example."), "a.x.direct.example.org. DNAME: the name is delegated"},
		{"wildcard DNAME", data(t, "direct.example.org", "*.x DNAME y"), "*.x.direct.example.org. DNAME: a wildcard"},
		{"wildcard cut", data(t, "direct.example.org", "*.x NS ns.x"), "*.x.direct.example.org. NS: a wildcard cannot be delegated"},
	} {
		_, err := zones.BuildData(7, c.data)
		var be *zones.BuildError
		if !errors.As(err, &be) || !strings.Contains(err.Error(), c.error) {
			t.Errorf("%s: %v; want %q", c.why, err, c.error)
		}
	}
	for _, r := range []struct {
		record store.Record
		error  string
	}{
		{rec("elsewhere.example.", "A", 1, "192.0.2.1"), "outside the zone"},
		{rec("example.org.", "A", 1, "192.0.2.1"), "outside the zone"},
		{rec("x.direct.example.org.", "NONSENSE", 1, "1"), "unknown type"},
		{rec("x.direct.example.org.", "A", 1, "192.0.2.999"), "bad A"},
		{rec("x.direct.example.org.", "A", 1, "192.0.2.1\n@ A 192.0.2.2"), "line break"},
		{rec("x.direct.example.org.", "A", 1, "192.0.2.1 192.0.2.2"), "garbage"},
		{rec("x.direct.example.org.", "A", 1, ""), "bad A"},
		{rec("x.direct.example.org.", "A", 1<<31, "192.0.2.1"), "TTL"},
		{rec("x.direct.example.org.", "RRSIG", 1, "A 8 3 1 20300101000000 20200101000000 1 x. AAAA"), "signer"},
		{rec("x.direct.example.org.", "ANY", 1, "x"), "for queries"},
		{rec("..direct.example.org.", "A", 1, "192.0.2.1"), "name"},
		{rec(strings.Repeat("a", 64)+".direct.example.org.", "A", 1, "192.0.2.1"), "name"},
		{rec("", "A", 1, "192.0.2.1"), "empty name"},
	} {
		d := data(t, "direct.example.org", "")
		d.Records = append(d.Records, r.record)
		_, err := zones.BuildData(7, d)
		var be *zones.BuildError
		if !errors.As(err, &be) || !strings.Contains(err.Error(), r.error) || be.Name != r.record.Name {
			t.Errorf("%+v: %v; want %q", r.record, err, r.error)
		}
	}
}

func TestLimitsAreLimitsNotLess(t *testing.T) {
	var certs []store.Certificate
	for i := range 20 {
		certs = append(certs, cert(t, "bob@direct.example.org", append(bytes.Repeat([]byte{1}, 2980), byte(i))))
	}
	s := build(t, 7, data(t, "direct.example.org", "", certs...))
	a := s.Find(wire(t, "direct.example.org.")).Lookup(wire(t, "bob.direct.example.org."), dns.TypeCERT)
	if a.Kind != zones.Hit || a.RRset.Count != 20 {
		t.Errorf("20 certificates give %v", a)
	}
}

func TestCertificatesBecomeRecordsOfTheirOwner(t *testing.T) {
	spec.Covers(t, "AS-5.1-a", "AS-5.2-c", "AS-5.3-a", "AS-1.4-g")
	pki := testpki.New(t)
	ca := pki.Root("Root")
	bob, org := ca.Leaf("bob", testpki.Address("bob@direct.example.org")), ca.Leaf("org", testpki.Domain("direct.example.org"))
	hidden := cert(t, "carol@direct.example.org", bob.DER)
	hidden.PublishDNS = false
	s := build(t, 7, data(t, "direct.example.org", "", cert(t, "Bob@direct.example.org", bob.DER), cert(t, "direct.example.org", org.DER), hidden))
	z := s.Find(wire(t, "direct.example.org."))
	for name, der := range map[string][]byte{"bob.direct.example.org.": bob.DER, "direct.example.org.": org.DER} {
		got := rdatas(z.Lookup(wire(t, name), dns.TypeCERT).RRset)
		// RFC 4398 §2: type 1, key tag, algorithm 8 (an RSA key), the DER itself.
		if len(got) != 1 || !bytes.Equal(got[0][:2], []byte{0, 1}) || got[0][4] != 8 || !bytes.Equal(got[0][5:], der) {
			t.Errorf("CERT %s = %x", name, got)
		}
	}
	if a := z.Lookup(wire(t, "carol.direct.example.org."), dns.TypeCERT); a.Kind != zones.NXDomain {
		t.Errorf("a certificate that is not to be published gives %s", a.Kind)
	}
}

func TestKeyTagIsThatOfTheKeyAsDNSKEY(t *testing.T) {
	spec.Covers(t, "AS-5.3-e")
	pki := testpki.New(t)
	leaf := pki.Root("Root").Leaf("bob", testpki.Address("bob@direct.example.org"))
	s := build(t, 7, data(t, "direct.example.org", "", cert(t, "bob@direct.example.org", leaf.DER), cert(t, "odd@direct.example.org", []byte{0x30, 0x03, 0x02, 0x01, 0x05})))
	z := s.Find(wire(t, "direct.example.org."))
	got := rdatas(z.Lookup(wire(t, "bob.direct.example.org."), dns.TypeCERT).RRset)[0]

	key := new(dns.DNSKEY)
	key.Hdr = dns.RR_Header{Name: ".", Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET}
	key.Flags, key.Protocol, key.Algorithm = 0, 3, dns.RSASHA256
	key.PublicKey = rsaPublicKey(t, leaf.Cert)
	if tag := uint16(got[2])<<8 | uint16(got[3]); tag != key.KeyTag() || tag == 0 {
		t.Errorf("key tag %d, want %d", tag, key.KeyTag())
	}
	// RFC 4398 §2.1: what DNSSEC cannot express has algorithm 0 and tag 0.
	if odd := rdatas(z.Lookup(wire(t, "odd.direct.example.org."), dns.TypeCERT).RRset)[0]; !bytes.Equal(odd[:5], []byte{0, 1, 0, 0, 0}) {
		t.Errorf("a certificate without a readable key has %x in front", odd[:5])
	}
}

func TestEveryKindOfKeyHasItsAlgorithm(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for curve, want := range map[elliptic.Curve]byte{elliptic.P256(): 13, elliptic.P384(): 14, elliptic.P521(): 0, nil: 15} {
		var key crypto.Signer = ed
		if curve != nil {
			if key, err = ecdsa.GenerateKey(curve, rand.Reader); err != nil {
				t.Fatal(err)
			}
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		s := build(t, 7, data(t, "direct.example.org", "", cert(t, "bob@direct.example.org", der)))
		got := rdatas(s.Zone(domain(t, "direct.example.org")).Lookup(wire(t, "bob.direct.example.org."), dns.TypeCERT).RRset)[0]
		tag := uint16(got[2])<<8 | uint16(got[3])
		if got[4] != want || want == 0 && tag != 0 {
			t.Errorf("%v: algorithm %d, tag %d; want algorithm %d", curve, got[4], tag, want)
		}
	}
}

func TestAddressesWithoutANameAreListedNotPublished(t *testing.T) {
	spec.Covers(t, "AS-5.1-b")
	s := build(t, 7, data(t, "direct.example.org", "",
		cert(t, "*@direct.example.org", []byte{1}), cert(t, "a.*@direct.example.org", []byte{1}),
		cert(t, strings.Repeat("a", 64)+"@direct.example.org", []byte{1}), cert(t, `"a..b"@direct.example.org`, []byte{1}),
		cert(t, `"b b"@direct.example.org`, []byte{1})))
	z := s.Find(wire(t, "direct.example.org."))
	if n := len(z.Unnamed()); n != 4 {
		t.Errorf("%d owners without a name: %v", n, z.Unnamed())
	}
	if a := z.Lookup(wire(t, "anybody.direct.example.org."), dns.TypeCERT); a.Kind != zones.NXDomain || a.Wildcard {
		t.Errorf("a name of nobody gives %s", a.Kind)
	}
	if a := z.Lookup(wire(t, `b\032b.direct.example.org.`), dns.TypeCERT); a.Kind != zones.Hit {
		t.Errorf("a quoted local part gives %s", a.Kind)
	}
}

func TestSerialIsTheGeneration(t *testing.T) {
	s := build(t, 1<<32+41, data(t, "direct.example.org", ""))
	z := s.Zone(domain(t, "direct.example.org"))
	soa := rdatas(z.Apex().RRset(dns.TypeSOA))[0]
	if got := soa[len(soa)-20 : len(soa)-16]; z.Serial() != 41 || !bytes.Equal(got, []byte{0, 0, 0, 41}) {
		t.Errorf("serial %d, in the SOA %x; want the lower 32 bits of the revision", z.Serial(), got)
	}
	// RFC 2308 §3: min(3600, 300).
	if z.Negative().TTL != 300 || z.Apex().RRset(dns.TypeSOA).TTL != 3600 {
		t.Errorf("SOA TTL %d, negative %d", z.Apex().RRset(dns.TypeSOA).TTL, z.Negative().TTL)
	}
}

func TestRRsetHasOneTTLAndNoRecordTwice(t *testing.T) {
	s := set(t, map[string]string{"direct.example.org": "x 500 A 192.0.2.1\nx 300 A 192.0.2.2\nx 400 A 192.0.2.1\n"})
	rr := s.Zone(domain(t, "direct.example.org")).Lookup(wire(t, "x.direct.example.org."), dns.TypeA).RRset
	if rr.TTL != 300 || rr.Count != 2 || !slices.EqualFunc(rdatas(rr), [][]byte{{192, 0, 2, 1}, {192, 0, 2, 2}}, bytes.Equal) {
		t.Errorf("RRset TTL %d, %d records: %v", rr.TTL, rr.Count, rdatas(rr))
	}
}

func TestUpdateSharesWhatDidNotChange(t *testing.T) {
	one, two := data(t, "one.example", ""), data(t, "two.example", "")
	first := build(t, 7, one, two)
	second, err := first.UpdateData(8, one, data(t, "two.example", "x TXT new"))
	if err != nil {
		t.Fatal(err)
	}
	if first.Zone(one.Domain) != second.Zone(one.Domain) || second.Zone(one.Domain).Serial() != 7 {
		t.Error("a zone without a change was built anew")
	}
	if z := second.Zone(two.Domain); z == first.Zone(two.Domain) || z.Serial() != 8 || z.Lookup(wire(t, "x.two.example."), dns.TypeTXT).Kind != zones.Hit {
		t.Error("a change does not show")
	}
	if first.Zone(two.Domain).Lookup(wire(t, "x.two.example."), dns.TypeTXT).Kind != zones.NXDomain {
		t.Error("a change shows in the generation before it")
	}
	third, err := second.UpdateData(9, one)
	if err != nil || third.Find(wire(t, "two.example.")) != nil || third.Len() != 1 || third.Rev() != 9 {
		t.Errorf("a removed domain is still there: %v", err)
	}
	if _, err := third.UpdateData(10, one, data(t, "two.example", "x CNAME y\nx TXT z")); err == nil {
		t.Error("a bad change was taken")
	}
}

func TestNamesThatTwoDomainsShareStandWhereTheyAreAsked(t *testing.T) {
	spec.Covers(t, "AS-5.1-c")
	up := data(t, "example.org", "smith NS ns.smith", cert(t, "bob.smith@example.org", []byte{0x30, 1, 1}), cert(t, "alice@example.org", []byte{0x30, 1, 2}))
	down := data(t, "smith.example.org", "", cert(t, "bob@smith.example.org", []byte{0x30, 1, 3}))
	s := build(t, 7, up, down)
	q := wire(t, "bob.smith.example.org.")
	if got := rdatas(s.Find(q).Lookup(q, dns.TypeCERT).RRset); s.Find(q).Domain() != down.Domain || len(got) != 2 {
		t.Errorf("bob.smith@example.org and bob@smith.example.org give %d records", len(got))
	}
	// Without the lower domain the name is one of the upper one again, and a
	// change of the upper one reaches the lower one.
	up2 := data(t, "example.org", "", slices.Collect(up.Certificates.All)...)
	alone, err := s.UpdateData(8, up2)
	if err != nil {
		t.Fatal(err)
	}
	if got := rdatas(alone.Find(q).Lookup(q, dns.TypeCERT).RRset); len(got) != 1 || alone.Find(q).Domain() != up.Domain {
		t.Errorf("without smith.example.org: %d records", len(got))
	}
	both, err := alone.UpdateData(9, data(t, "example.org", ""), down)
	if err != nil {
		t.Fatal(err)
	}
	if got := rdatas(both.Find(q).Lookup(q, dns.TypeCERT).RRset); len(got) != 1 {
		t.Errorf("after the upper domain gave its certificate up: %d records", len(got))
	}
	// The upper zone knows that the lower one exists, delegated or not.
	if a := both.FindParentSide(wire(t, "smith.example.org.")).Lookup(wire(t, "smith.example.org."), dns.TypeDS); a.Kind != zones.NoData {
		t.Errorf("DS of a domain of ours below another: %s", a.Kind)
	}
}

func TestDefaultRecordsAreAWholeZone(t *testing.T) {
	spec.Covers(t, "AS-1.1-f")
	d := domain(t, "direct.example.org")
	for _, host := range []string{"node.direct.example.org", "NODE.elsewhere.example", "direct.example.org", ""} {
		o := zones.DefaultOptions{Hostname: host, Addresses: addrs("192.0.2.1", "2001:db8::1", "::ffff:192.0.2.2"), LDAPPort: 389}
		v := view(t, d, zones.DefaultRecords(d, o))
		s, err := zones.Build(v, zones.Options{})
		if err != nil {
			t.Errorf("host %q: %v", host, err)
			continue
		}
		z := s.Zone(d)
		inside := host != "NODE.elsewhere.example"
		mx, srv := z.Apex().RRset(dns.TypeMX), z.Lookup(wire(t, "_ldap._tcp.direct.example.org."), dns.TypeSRV)
		if mx == nil || srv.Kind != zones.Hit || len(mx.Hosts()) == 1 != inside || len(srv.RRset.Hosts()) == 1 != inside {
			t.Errorf("host %q: MX %v, SRV %v", host, mx, srv)
		}
		lines := zones.Delegation(v, d)
		want := 1
		if inside {
			want = 4 // NS, two A, one AAAA
		}
		if len(lines) != want || !strings.Contains(lines[0], " IN NS ") {
			t.Errorf("host %q: to the zone above go %q", host, lines)
		}
	}
	if lines := zones.Delegation(view(t, domain(t, "other.example"), nil), d); lines != nil {
		t.Errorf("a domain that is not ours is delegated by %q", lines)
	}
	if r := zones.DefaultRecords(d, zones.DefaultOptions{Hostname: "h.example"}); len(r) != 3 {
		t.Errorf("without LDAP: %v", r)
	}
}

func TestExamplesBuild(t *testing.T) {
	files, err := os.ReadDir("examples")
	if err != nil || len(files) < 3 {
		t.Fatalf("examples: %v, %v", files, err)
	}
	for _, f := range files {
		if _, err := zones.BuildParsed(1, zones.Options{}, example(t, strings.TrimSuffix(f.Name(), ".zone"))); err != nil {
			t.Errorf("%s: %v", f.Name(), err)
		}
	}
}
