package dnsserver_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"directnode/dnsserver"
	"directnode/internal/direct"
	"directnode/store"
	"directnode/zones"
)

// signedAt is the time of these tests.
var signedAt = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// masterKey seals the keys of these tests.
var masterKey = store.NewSealer([32]byte{7})

// mode is a way to sign.
type mode struct {
	algorithm uint8
	split     bool
	denial    string
}

func (m mode) String() string {
	keys := "csk"
	if m.split {
		keys = "split"
	}
	return fmt.Sprintf("%d-%s-%s", m.algorithm, keys, m.denial)
}

var modes = []mode{
	{store.AlgorithmECDSA, false, store.DenialCompact},
	{store.AlgorithmECDSA, true, store.DenialNSEC3},
	{store.AlgorithmEd25519, true, store.DenialCompact},
	{store.AlgorithmEd25519, false, store.DenialNSEC3},
}

// signing makes keys for a domain.
func signing(t testing.TB, d direct.Domain, m mode) *store.Signing {
	t.Helper()
	roles := []store.KeyRole{store.RoleCSK}
	if m.split {
		roles = []store.KeyRole{store.RoleKSK, store.RoleZSK}
	}
	var keys []store.DNSKey
	for _, role := range roles {
		k, err := masterKey.NewDNSKey(d, m.algorithm, role)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	return zones.Advance(zones.StartSigning(m.algorithm, m.denial, keys, 3600, signedAt.AddDate(0, 0, -7)), signedAt)
}

// buildSigned builds zones of texts, all signed but those whose names are given.
func buildSigned(t testing.TB, texts map[string]string, m mode, unsigned ...string) *zones.Set {
	t.Helper()
	var all []zones.Parsed
	for origin, text := range texts {
		d, err := direct.ParseDomain(origin)
		if err != nil {
			t.Fatal(err)
		}
		p, err := zones.ParseMaster(strings.NewReader(text), d, origin)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(unsigned, origin) {
			p.Signing = signing(t, d, m)
		}
		all = append(all, p)
	}
	s, err := zones.BuildParsed(7, zones.Options{Seal: masterKey}, all...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// askDO is ask with the DO bit; co sets CO beside it.
func askDO(t testing.TB, name string, qtype uint16, co bool) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.Id = 0xBEEF
	m.SetEdns0(1232, true)
	if co {
		m.IsEdns0().Hdr.Ttl |= 1 << 14
	}
	return pack(t, m)
}

// signedTCP is the transport of these tests.
var signedTCP = dnsserver.Transport{TCP: true, At: signedAt}

// validator walks answers as a resolver does that trusts the DS of each zone.
type validator struct {
	t    testing.TB
	set  *zones.Set
	at   time.Time
	keys map[string][]*dns.DNSKEY
}

func newValidator(t testing.TB, set *zones.Set, at time.Time) *validator {
	return &validator{t, set, at, map[string][]*dns.DNSKEY{}}
}

// zoneKeys asks for the keys of a zone and holds them against its CDS: what the
// parent is to publish. Nil for a zone that is not signed.
func (v *validator) zoneKeys(apex string) []*dns.DNSKEY {
	if keys, known := v.keys[apex]; known {
		return keys
	}
	v.keys[apex] = nil
	tr := signedTCP
	tr.At = v.at
	m := reply(v.t, v.set, askDO(v.t, apex, dns.TypeDNSKEY, false), tr)
	cds := reply(v.t, v.set, askDO(v.t, apex, dns.TypeCDS, false), tr)
	var keys []*dns.DNSKEY
	for _, rr := range m.Answer {
		if k, ok := rr.(*dns.DNSKEY); ok {
			keys = append(keys, k)
		}
	}
	secure := false
	for _, rr := range cds.Answer {
		if ds, ok := rr.(*dns.CDS); ok {
			for _, k := range keys {
				secure = secure || k.KeyTag() == ds.KeyTag && strings.EqualFold(k.ToDS(dns.SHA256).Digest, ds.Digest) && v.covered(m.Answer, apex, dns.TypeDNSKEY, []*dns.DNSKEY{k})
			}
		}
	}
	if !secure {
		return nil
	}
	v.keys[apex] = keys
	if !v.covered(cds.Answer, apex, dns.TypeCDS, keys) {
		v.t.Errorf("the CDS of %s is not signed", apex)
	}
	return keys
}

// covered tells whether the RRset of a section has a signature that verifies.
func (v *validator) covered(section []dns.RR, name string, rrtype uint16, keys []*dns.DNSKEY) bool {
	_, ok := v.signature(section, name, rrtype, keys)
	return ok
}

func (v *validator) signature(section []dns.RR, name string, rrtype uint16, keys []*dns.DNSKEY) (*dns.RRSIG, bool) {
	var set []dns.RR
	for _, rr := range section {
		if strings.EqualFold(rr.Header().Name, name) && rr.Header().Rrtype == rrtype {
			set = append(set, rr)
		}
	}
	for _, rr := range section {
		sig, ok := rr.(*dns.RRSIG)
		if !ok || !strings.EqualFold(sig.Hdr.Name, name) || sig.TypeCovered != rrtype {
			continue
		}
		for _, k := range keys {
			if k.KeyTag() == sig.KeyTag && sig.SignerName == k.Hdr.Name && sig.ValidityPeriod(v.at) && sig.Hdr.Ttl == set[0].Header().Ttl && sig.Verify(k, set) == nil {
				return sig, true
			}
		}
	}
	return nil, false
}

// zoneOf is the zone that answers for a name.
func (v *validator) zoneOf(name string) (string, *zones.Zone) {
	wire, err := zones.ParseName(name)
	if err != nil {
		v.t.Fatal(err)
	}
	z := v.set.Find([]byte(strings.ToLower(string(wire))))
	if z == nil {
		return "", nil
	}
	return z.Domain().DNSName(), z
}

// check validates an answer with DO against the one without.
func (v *validator) check(m, plain *dns.Msg) {
	v.t.Helper()
	fail := func(format string, args ...any) {
		v.t.Helper()
		v.t.Errorf("%s %s: %s\n%s", m.Question[0].Name, dns.TypeToString[m.Question[0].Qtype], fmt.Sprintf(format, args...), m)
	}
	renames := map[string]bool{}
	final := m.Question[0].Name
	for _, rr := range m.Answer {
		h := rr.Header()
		switch x := rr.(type) {
		case *dns.RRSIG:
			continue
		case *dns.DNAME:
			renames[h.Name] = true
		case *dns.CNAME:
			if strings.EqualFold(h.Name, final) && m.Question[0].Qtype != dns.TypeCNAME {
				final = x.Target
			}
		}
		apex, _ := v.zoneOf(h.Name)
		keys := v.zoneKeys(apex)
		if keys == nil {
			continue
		}
		if _, made := rr.(*dns.CNAME); made && below(h.Name, renames) {
			continue // RFC 6672 §5.3.1
		}
		sig, ok := v.signature(m.Answer, h.Name, h.Rrtype, keys)
		if !ok {
			fail("the %s of %s has no good signature", dns.TypeToString[h.Rrtype], h.Name)
			continue
		}
		if int(sig.Labels) < dns.CountLabel(strings.TrimPrefix(h.Name, "*.")) && !v.noneNearer(m, h.Name, int(sig.Labels), keys) {
			fail("nothing proves that no name is nearer to %s than the wildcard", h.Name)
		}
	}
	v.authority(m, plain, final, fail)
	if got, want := bare(m), bare(plain); got != want {
		fail("answers %s, without DO %s", got, want)
	}
}

func below(name string, renames map[string]bool) bool {
	for owner := range renames {
		if dns.IsSubDomain(owner, name) && owner != name {
			return true
		}
	}
	return false
}

// bare is what an answer says without what DNSSEC adds.
func bare(m *dns.Msg) string {
	var lines []string
	for _, rr := range m.Answer {
		if rr.Header().Rrtype != dns.TypeRRSIG || m.Question[0].Qtype == dns.TypeRRSIG {
			lines = append(lines, rr.String())
		}
	}
	return strings.Join(lines, "\n")
}

// authority validates what the authority section proves about the last name.
func (v *validator) authority(m, plain *dns.Msg, final string, fail func(string, ...any)) {
	v.t.Helper()
	if len(plain.Ns) == 0 {
		if m.Rcode != plain.Rcode {
			fail("code %s, without DO %s", dns.RcodeToString[m.Rcode], dns.RcodeToString[plain.Rcode])
		}
		return
	}
	first := plain.Ns[0].Header()
	apex, z := v.zoneOf(final)
	if first.Rrtype == dns.TypeSOA {
		apex, z = v.zoneOf(first.Name)
	}
	if z == nil {
		fail("an authority section for %s, which is not ours", final)
		return
	}
	keys := v.zoneKeys(apex)
	if keys == nil {
		return
	}
	for _, rr := range m.Ns {
		h := rr.Header()
		if h.Rrtype == dns.TypeRRSIG || h.Rrtype == dns.TypeNS {
			continue
		}
		if !v.covered(m.Ns, h.Name, h.Rrtype, keys) {
			fail("the %s of %s has no good signature", dns.TypeToString[h.Rrtype], h.Name)
		}
	}
	if first.Rrtype == dns.TypeNS { // a referral
		ds := slices.ContainsFunc(m.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeDS && rr.Header().Name == first.Name })
		if types, ok := v.typesAt(m, first.Name); !ds && (!ok || slices.Contains(types, dns.TypeDS) || slices.Contains(types, dns.TypeSOA) || !slices.Contains(types, dns.TypeNS)) {
			fail("neither a DS nor a proof that there is none")
		}
		return
	}
	qtype := m.Question[0].Qtype
	types, matched := v.typesAt(m, final)
	compact := z.Signer().Compact()
	switch {
	case plain.Rcode == dns.RcodeNameError && compact:
		co := m.IsEdns0().Hdr.Ttl&(1<<14) != 0
		if want := map[bool]int{false: dns.RcodeSuccess, true: dns.RcodeNameError}[co]; m.Rcode != want {
			fail("code %s with CO %v", dns.RcodeToString[m.Rcode], co)
		}
		if !matched || !slices.Equal(types, []uint16{dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNXNAME}) {
			fail("the types %v do not say that there is no name", types)
		}
	case plain.Rcode == dns.RcodeNameError:
		if m.Rcode != dns.RcodeNameError || matched || !v.nxdomain3(m, final, keys) {
			fail("no proof that the name does not exist")
		}
	case m.Rcode != plain.Rcode:
		fail("code %s, without DO %s", dns.RcodeToString[m.Rcode], dns.RcodeToString[plain.Rcode])
	case matched:
		if slices.Contains(types, qtype) || slices.Contains(types, dns.TypeCNAME) && qtype != dns.TypeDS || slices.Contains(types, dns.TypeNXNAME) {
			fail("the types %v do not deny", types)
		}
	case !compact && v.wildcardNoData(m, final, qtype, keys):
	default:
		fail("no proof that the type is not there")
	}
}

// typesAt gives the bit maps of the record that matches a name.
func (v *validator) typesAt(m *dns.Msg, name string) ([]uint16, bool) {
	for _, rr := range m.Ns {
		switch x := rr.(type) {
		case *dns.NSEC:
			if strings.EqualFold(x.Hdr.Name, name) {
				return x.TypeBitMap, true
			}
		case *dns.NSEC3:
			if x.Match(name) {
				return x.TypeBitMap, true
			}
		}
	}
	return nil, false
}

// covers tells whether a record covers the hash of a name.
func (v *validator) covers(m *dns.Msg, name string) bool {
	return slices.ContainsFunc(m.Ns, func(rr dns.RR) bool {
		x, ok := rr.(*dns.NSEC3)
		return ok && x.Cover(name) && !x.Match(name) && x.Flags == 0 && x.Iterations == 0 && x.Salt == ""
	})
}

// encloser finds the closest encloser that the records prove (RFC 5155 §8.3).
func (v *validator) encloser(m *dns.Msg, name string) (encloser string, ok bool) {
	labels := dns.SplitDomainName(name)
	for i := 1; i <= len(labels); i++ {
		above := dns.Fqdn(strings.Join(labels[i:], "."))
		if _, matched := v.typesAt(m, above); matched {
			return above, v.covers(m, dns.Fqdn(strings.Join(labels[i-1:], ".")))
		}
	}
	return "", false
}

// nxdomain3 is RFC 5155 §8.4.
func (v *validator) nxdomain3(m *dns.Msg, name string, _ []*dns.DNSKEY) bool {
	encloser, ok := v.encloser(m, name)
	return ok && v.covers(m, "*."+encloser)
}

// wildcardNoData is RFC 5155 §8.7.
func (v *validator) wildcardNoData(m *dns.Msg, name string, qtype uint16, _ []*dns.DNSKEY) bool {
	encloser, ok := v.encloser(m, name)
	types, matched := v.typesAt(m, "*."+encloser)
	return ok && matched && !slices.Contains(types, qtype) && !slices.Contains(types, dns.TypeCNAME)
}

// noneNearer is RFC 5155 §8.8.
func (v *validator) noneNearer(m *dns.Msg, name string, labels int, keys []*dns.DNSKEY) bool {
	all := dns.SplitDomainName(name)
	next := dns.Fqdn(strings.Join(all[len(all)-labels-1:], "."))
	for _, rr := range m.Ns {
		if x, ok := rr.(*dns.NSEC3); ok && x.Cover(next) && !x.Match(next) {
			return v.covered(m.Ns, x.Hdr.Name, dns.TypeNSEC3, keys)
		}
	}
	return false
}

// names are those of the texts and others near them.
func signedNames() []string {
	return []string{
		"direct.example.org.", "bob.direct.example.org.", "BOB.direct.example.org.", "carol.direct.example.org.", "robert.direct.example.org.", "nobody.direct.example.org.",
		"x.bob.direct.example.org.", "smith.direct.example.org.", "john.smith.direct.example.org.", "a.b.c.direct.example.org.", "_ldap._tcp.direct.example.org.", "_tcp.direct.example.org.",
		"structure.example.", "a.wild.structure.example.", "b.a.wild.structure.example.", "x.wild.structure.example.", "a.x.wild.structure.example.", "*.wild.structure.example.", "wild.structure.example.",
		"mixed.structure.example.", "a.b.ent.structure.example.", "b.ent.structure.example.", "ent.structure.example.", "c.ent.structure.example.",
		"alias.structure.example.", "alias2.structure.example.", "away.structure.example.", "void.structure.example.", "ring1.structure.example.", "z.many.structure.example.", "y.z.many.structure.example.", "deep.structure.example.",
		"moved.structure.example.", "a.moved.structure.example.", "x.moved.structure.example.", "y.x.moved.structure.example.", "gone.structure.example.", "b.a.gone.structure.example.",
		"sub.structure.example.", "host.sub.structure.example.", "ns1.sub.structure.example.", "_ldap._tcp.structure.example.",
		"upper.example.", "lower.upper.example.", "www.lower.upper.example.", "over.lower.upper.example.", "ca.upper.example.", "cf.upper.example.", "txt8.upper.example.", "mx.upper.example.", "cut.upper.example.", "x.cut.upper.example.",
		strings.Repeat("a.", 115) + "tight.upper.example.", strings.Repeat("a.", 116) + "structure.example.", strings.Repeat("a.", 116) + "aa.structure.example.", strings.Repeat("a.", 117) + "structure.example.",
		strings.Repeat("z", 63) + "." + strings.Repeat("z", 63) + "." + strings.Repeat("z", 63) + "." + strings.Repeat("z", 43) + ".structure.example.",
		`A\000\255b.structure.example.`, `a\.b.structure.example.`,
	}
}

func signedTypes() []uint16 {
	return []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeNS, dns.TypeSOA, dns.TypeMX, dns.TypeTXT, dns.TypeCERT, dns.TypeCNAME, dns.TypeDNAME, dns.TypeSRV, dns.TypeDS, dns.TypeANY, dns.TypeCAA, dns.TypeDNSKEY, dns.TypeCDS, dns.TypeCDNSKEY, dns.TypeNSEC3PARAM, dns.TypeSMIMEA, 65280}
}

func TestEverySignedAnswerValidates(t *testing.T) {
	for _, m := range modes {
		t.Run(m.String(), func(t *testing.T) {
			set := buildSigned(t, texts(t), m)
			v := newValidator(t, set, signedAt)
			for _, name := range signedNames() {
				for _, qtype := range signedTypes() {
					plain := reply(t, set, ask(t, name, qtype, 0), signedTCP)
					v.check(reply(t, set, askDO(t, name, qtype, m.algorithm == store.AlgorithmEd25519), signedTCP), plain)
					if t.Failed() {
						return
					}
				}
			}
			for apex, keys := range v.keys {
				if keys == nil {
					t.Errorf("no key of %s is trusted", apex)
				}
			}
		})
	}
}

func mustDomain(t testing.TB, s string) direct.Domain {
	t.Helper()
	d, err := direct.ParseDomain(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// BenchmarkSignedAnswer is the CPU of one answer over TCP, with and without a
// signature that is in memory.
func BenchmarkSignedAnswer(b *testing.B) {
	signed := buildSigned(b, texts(b), modes[0])
	unsigned := build(b, texts(b))
	for _, c := range []struct {
		name  string
		set   *zones.Set
		owner string
		qtype uint16
	}{
		{"cert/unsigned", unsigned, "bob.direct.example.org.", dns.TypeCERT},
		{"cert/signed", signed, "bob.direct.example.org.", dns.TypeCERT},
		{"nxdomain/unsigned", unsigned, "nobody.direct.example.org.", dns.TypeCERT},
		{"nxdomain/signed", signed, "nobody.direct.example.org.", dns.TypeCERT},
	} {
		b.Run(c.name, func(b *testing.B) {
			var r dnsserver.Responder
			var out []byte
			q := askDO(b, c.owner, c.qtype, false)
			b.ReportAllocs()
			for b.Loop() {
				out = r.Append(out[:0], c.set, q, signedTCP)
			}
			b.SetBytes(int64(len(out)))
		})
	}
}

// TestQuestionsForWhatSigningMakes: RRSIG, NSEC and NXNAME are no data, and who
// asks for them gets little.
func TestQuestionsForWhatSigningMakes(t *testing.T) {
	for _, c := range []struct {
		mode        mode
		name, qtype string
		want        string
	}{
		{modes[0], "mail.structure.example.", "RRSIG", "NOERROR AA | an mail.structure.example/RRSIG"},
		{modes[0], "b.ent.structure.example.", "RRSIG", "NOERROR AA | an b.ent.structure.example/RRSIG"},
		{modes[0], "nobody.structure.example.", "RRSIG", "NOERROR AA | an nobody.structure.example/RRSIG"},
		{modes[0], "mail.structure.example.", "NSEC", "NOERROR AA | an mail.structure.example/NSEC mail.structure.example/RRSIG"},
		{modes[0], "nobody.structure.example.", "NSEC", "NOERROR AA | an nobody.structure.example/NSEC nobody.structure.example/RRSIG"},
		{modes[0], "mail.structure.example.", "TYPE128", "FORMERR"},
		{modes[0], "host.sub.structure.example.", "RRSIG", "NOERROR | ns sub.structure.example/NS sub.structure.example/NS sub.structure.example/DS sub.structure.example/RRSIG | ar ns1.sub.structure.example/A"},
		{modes[1], "mail.structure.example.", "RRSIG", "NOERROR AA | an mail.structure.example/RRSIG"},
		{modes[1], "mail.structure.example.", "TYPE128", "FORMERR"},
	} {
		set := buildSigned(t, map[string]string{"structure.example": exampleText(t, "structure")}, c.mode)
		qtype := uint16(dns.TypeNXNAME)
		if c.qtype != "TYPE128" {
			qtype = dns.StringToType[c.qtype]
		}
		if got := show(reply(t, set, askDO(t, c.name, qtype, false), signedTCP)); got != c.want {
			t.Errorf("%s %s %s:\n got %s\nwant %s", c.mode, c.name, c.qtype, got, c.want)
		}
		// Over UDP they go to those who have proved their address.
		udp := signedTCP
		udp.TCP = false
		if got := reply(t, set, askDO(t, c.name, qtype, false), udp); c.qtype == "RRSIG" && !got.Truncated {
			t.Errorf("%s %s by UDP without a cookie:\n%s", c.name, c.qtype, got)
		}
	}
}

// TestCompactAnswersAreMarked: CO comes back from a zone that makes compact
// denials, and from no other (RFC 9824 §5.1).
func TestCompactAnswersAreMarked(t *testing.T) {
	for i, want := range []bool{true, false} {
		set := buildSigned(t, map[string]string{"structure.example": exampleText(t, "structure")}, modes[i])
		got := reply(t, set, askDO(t, "mail.structure.example.", dns.TypeA, true), signedTCP)
		if co := got.IsEdns0().Hdr.Ttl&(1<<14) != 0; co != want {
			t.Errorf("%s: CO %v", modes[i], co)
		}
	}
	set := oneZone(t, "structure.example", exampleText(t, "structure"))
	if got := reply(t, set, askDO(t, "nobody.structure.example.", dns.TypeA, true), signedTCP); got.IsEdns0().Hdr.Ttl&(1<<14) != 0 || got.Rcode != dns.RcodeNameError || len(got.Ns) != 1 {
		t.Errorf("an unsigned zone:\n%s", got)
	}
}
