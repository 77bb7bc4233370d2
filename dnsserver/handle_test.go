package dnsserver_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"directnode/dnsserver"
	"directnode/internal/spec"
)

// show is an answer on one line: code, flags, the records' names and types.
func show(m *dns.Msg) string {
	var b strings.Builder
	b.WriteString(dns.RcodeToString[m.Rcode])
	if m.Authoritative {
		b.WriteString(" AA")
	}
	if m.Truncated {
		b.WriteString(" TC")
	}
	section := func(name string, rrs []dns.RR) {
		for i, rr := range rrs {
			if rr.Header().Rrtype == dns.TypeOPT {
				continue
			}
			if i == 0 {
				b.WriteString(" | " + name)
			}
			b.WriteString(" " + strings.TrimSuffix(rr.Header().Name, ".") + "/" + dns.TypeToString[rr.Header().Rrtype])
		}
	}
	section("an", m.Answer)
	section("ns", m.Ns)
	section("ar", m.Extra)
	return b.String()
}

// spiral is what a DNAME gives that leads to a name below itself.
func spiral(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(" x." + strings.Repeat("s.", i+1) + "spiral.upper.example/CNAME")
	}
	return b.String()
}

func TestAnswers(t *testing.T) {
	spec.Covers(t, "AS-1.1-e", "AS-1.1-f", "AS-5.1-a", "AS-5.2-c")
	set := newSet(t)
	for _, c := range []struct {
		name  string
		qtype uint16
		want  string // over TCP
	}{
		{"direct.example.org.", dns.TypeSOA, "NOERROR AA | an direct.example.org/SOA"},
		{"direct.example.org.", dns.TypeNS, "NOERROR AA | an direct.example.org/NS | ar ns1.direct.example.org/A ns1.direct.example.org/AAAA"},
		{"direct.example.org.", dns.TypeMX, "NOERROR AA | an direct.example.org/MX | ar mail.direct.example.org/A"},
		{"_ldap._tcp.direct.example.org.", dns.TypeSRV, "NOERROR AA | an _ldap._tcp.direct.example.org/SRV | ar mail.direct.example.org/A"},
		{"direct.example.org.", dns.TypeCERT, "NOERROR AA | an direct.example.org/CERT"},
		{"bob.direct.example.org.", dns.TypeCERT, "NOERROR AA | an bob.direct.example.org/CERT"},
		{"carol.direct.example.org.", dns.TypeCERT, "NOERROR AA | an carol.direct.example.org/CERT"},
		{"robert.direct.example.org.", dns.TypeCERT, "NOERROR AA | an robert.direct.example.org/CNAME bob.direct.example.org/CERT"},

		// RFC 2308 §2, RFC 8020: an absence has the SOA and says which kind it is.
		{"bob.direct.example.org.", dns.TypeA, "NOERROR AA | ns direct.example.org/SOA"},
		{"nobody.direct.example.org.", dns.TypeCERT, "NXDOMAIN AA | ns direct.example.org/SOA"},
		{"smith.direct.example.org.", dns.TypeCERT, "NOERROR AA | ns direct.example.org/SOA"}, // an empty non-terminal of john.smith
		{"john.smith.direct.example.org.", dns.TypeCERT, "NOERROR AA | an john.smith.direct.example.org/CERT"},
		{"smith.direct.example.org.", dns.TypeANY, "NOERROR AA | ns direct.example.org/SOA"},
		{"bob.direct.example.org.", dns.TypeMX, "NOERROR AA | ns direct.example.org/SOA"},
		{"bob.direct.example.org.", 65280, "NOERROR AA | ns direct.example.org/SOA"},

		// Not ours.
		{"example.org.", dns.TypeSOA, "REFUSED"},
		{"mail.example.org.", dns.TypeCERT, "REFUSED"},
		{".", dns.TypeNS, "REFUSED"},
		{"version.bind.", dns.TypeTXT, "REFUSED"},

		// RFC 4592.
		{"a.wild.structure.example.", dns.TypeTXT, "NOERROR AA | an a.wild.structure.example/TXT"},
		{"b.a.wild.structure.example.", dns.TypeMX, "NOERROR AA | an b.a.wild.structure.example/MX | ar mail.structure.example/A"},
		{"a.wild.structure.example.", dns.TypeA, "NOERROR AA | ns structure.example/SOA"},
		{"a.x.wild.structure.example.", dns.TypeTXT, "NXDOMAIN AA | ns structure.example/SOA"},
		{"*.wild.structure.example.", dns.TypeTXT, "NOERROR AA | an *.wild.structure.example/TXT"},

		// Aliases: RFC 1034 §4.3.2 step 3a, RFC 6604 §3.
		{"alias2.structure.example.", dns.TypeA, "NOERROR AA | an alias2.structure.example/CNAME alias.structure.example/CNAME mail.structure.example/A"},
		{"alias.structure.example.", dns.TypeCNAME, "NOERROR AA | an alias.structure.example/CNAME"},
		{"alias.structure.example.", dns.TypeTXT, "NOERROR AA | an alias.structure.example/CNAME | ns structure.example/SOA"},
		{"z.many.structure.example.", dns.TypeA, "NOERROR AA | an z.many.structure.example/CNAME alias.structure.example/CNAME mail.structure.example/A"},
		{"away.structure.example.", dns.TypeA, "NOERROR AA | an away.structure.example/CNAME"},
		{"void.structure.example.", dns.TypeA, "NXDOMAIN AA | an void.structure.example/CNAME | ns structure.example/SOA"},
		{"ring1.structure.example.", dns.TypeA, "NOERROR AA | an ring1.structure.example/CNAME ring2.structure.example/CNAME"},
		{"over.lower.upper.example.", dns.TypeA, "NOERROR AA | an over.lower.upper.example/CNAME mail.structure.example/A"},
		{"deep.structure.example.", dns.TypeA, "NOERROR AA | an deep.structure.example/CNAME | ns sub.structure.example/NS sub.structure.example/NS | ar ns1.sub.structure.example/A"},
		{"ca.upper.example.", dns.TypeA, "NOERROR AA | an ca.upper.example/CNAME cb.upper.example/CNAME cc.upper.example/CNAME cd.upper.example/CNAME ce.upper.example/CNAME cf.upper.example/CNAME cg.upper.example/CNAME ch.upper.example/CNAME"},
		{"cf.upper.example.", dns.TypeA, "NOERROR AA | an cf.upper.example/CNAME cg.upper.example/CNAME ch.upper.example/CNAME ci.upper.example/CNAME cj.upper.example/CNAME ck.upper.example/CNAME cl.upper.example/CNAME cm.upper.example/A"},

		// RFC 6672 §3.2: the DNAME, a CNAME made of it, and on from there.
		{"a.moved.structure.example.", dns.TypeTXT, "NOERROR AA | an moved.structure.example/DNAME a.moved.structure.example/CNAME a.wild.structure.example/TXT"},
		{"x.moved.structure.example.", dns.TypeA, "NOERROR AA | an moved.structure.example/DNAME x.moved.structure.example/CNAME x.wild.structure.example/A"},
		{"y.x.moved.structure.example.", dns.TypeA, "NXDOMAIN AA | an moved.structure.example/DNAME y.x.moved.structure.example/CNAME | ns structure.example/SOA"},
		{"a.moved.structure.example.", dns.TypeCERT, "NOERROR AA | an moved.structure.example/DNAME a.moved.structure.example/CNAME | ns structure.example/SOA"},
		{"moved.structure.example.", dns.TypeTXT, "NOERROR AA | an moved.structure.example/TXT"},
		{"moved.structure.example.", dns.TypeA, "NOERROR AA | ns structure.example/SOA"},
		{"moved.structure.example.", dns.TypeDNAME, "NOERROR AA | an moved.structure.example/DNAME"},
		{"y.x.moved.structure.example.", dns.TypeCNAME, "NOERROR AA | an moved.structure.example/DNAME y.x.moved.structure.example/CNAME"},
		{"y.x.moved.structure.example.", dns.TypeANY, "NOERROR AA | an moved.structure.example/DNAME y.x.moved.structure.example/CNAME"},
		{"b.a.gone.structure.example.", dns.TypeA, "NOERROR AA | an gone.structure.example/DNAME b.a.gone.structure.example/CNAME"},
		{strings.Repeat("a.", 110) + "gone.structure.example.", dns.TypeA, "NOERROR AA | an gone.structure.example/DNAME " + strings.Repeat("a.", 110) + "gone.structure.example/CNAME"},
		{strings.Repeat("a.", 115) + "tight.upper.example.", dns.TypeA, "YXDOMAIN AA | an tight.upper.example/DNAME"},
		{"x.spiral.upper.example.", dns.TypeA, "NOERROR AA | an spiral.upper.example/DNAME x.spiral.upper.example/CNAME" + spiral(7)},
		{"a.r1.upper.example.", dns.TypeA, "NOERROR AA | an r1.upper.example/DNAME a.r1.upper.example/CNAME r2.upper.example/DNAME a.r2.upper.example/CNAME"},

		// RFC 4035 §2.5: an alias has RRSIG and NSEC of its own.
		{"alias.structure.example.", dns.TypeRRSIG, "NOERROR AA | ns structure.example/SOA"},

		// Delegations: no AA, and DS on the upper side.
		{"sub.structure.example.", dns.TypeA, "NOERROR | ns sub.structure.example/NS sub.structure.example/NS | ar ns1.sub.structure.example/A"},
		{"x.y.sub.structure.example.", dns.TypeCERT, "NOERROR | ns sub.structure.example/NS sub.structure.example/NS | ar ns1.sub.structure.example/A"},
		{"sub.structure.example.", dns.TypeDS, "NOERROR AA | an sub.structure.example/DS"},

		// A zone of ours below another of ours.
		{"www.lower.upper.example.", dns.TypeA, "NOERROR AA | an www.lower.upper.example/A"},
		{"lower.upper.example.", dns.TypeNS, "NOERROR AA | an lower.upper.example/NS"},
		{"lower.upper.example.", dns.TypeDS, "NOERROR AA | ns upper.example/SOA"},
		{"structure.example.", dns.TypeDS, "NOERROR AA | ns structure.example/SOA"},

		// ANY by RFC 8482 §4.1: one RRset.
		{"ns1.direct.example.org.", dns.TypeANY, "NOERROR AA | an ns1.direct.example.org/A"},
		{"alias.structure.example.", dns.TypeANY, "NOERROR AA | an alias.structure.example/CNAME"},
		{"nobody.direct.example.org.", dns.TypeANY, "NXDOMAIN AA | ns direct.example.org/SOA"},

		{"direct.example.org.", dns.TypeAXFR, "REFUSED"},
		{"direct.example.org.", dns.TypeIXFR, "REFUSED"},
		{"direct.example.org.", dns.TypeTKEY, "NOTIMP"},
		{"direct.example.org.", dns.TypeTSIG, "FORMERR"},
		{"direct.example.org.", dns.TypeOPT, "FORMERR"},
	} {
		if got := show(reply(t, set, ask(t, c.name, c.qtype, 0), overTCP)); got != c.want {
			t.Errorf("%s %s: %s\nwant %s", c.name, dns.Type(c.qtype), got, c.want)
		}
	}
}

func TestNegativeTTLIsTheLesserOne(t *testing.T) {
	m := reply(t, newSet(t), ask(t, "nobody.direct.example.org.", dns.TypeA, 0), overUDP)
	if soa := m.Ns[0].(*dns.SOA); soa.Hdr.Ttl != 300 || soa.Minttl != 300 || soa.Serial != 7 {
		t.Errorf("%v; want TTL 300 (RFC 2308 §3) and serial 7", soa)
	}
}

func TestCaseOfTheQuestionComesBack(t *testing.T) {
	spec.Covers(t, "AS-5.1-a")
	set := newSet(t)
	for _, name := range []string{"BOB.direct.EXAMPLE.org.", "bob.Direct.example.ORG."} {
		query := ask(t, name, dns.TypeCERT, 0)
		m := reply(t, set, query, overTCP)
		if m.Question[0].Name != name || len(m.Answer) != 1 || m.Answer[0].Header().Name != name {
			t.Errorf("%s: %v", name, m)
		}
	}
}

func TestTheWholeCertificateStandsInTheAnswer(t *testing.T) {
	spec.Covers(t, "AS-5.3-c", "AS-1.4-f")
	set := newSet(t)
	m := reply(t, set, ask(t, "bob.direct.example.org.", dns.TypeCERT, 0), overTCP)
	c := m.Answer[0].(*dns.CERT)
	if c.Type != 1 || c.Algorithm != 8 || len(c.Certificate) < 1000 {
		t.Errorf("%+v", c)
	}
}

func TestUDPSizes(t *testing.T) {
	set := newSet(t)
	proved, cookie := visitor(t)
	always := dnsserver.Transport{UDPCert: dnsserver.CertAlways}
	for _, c := range []struct {
		name  string
		qtype uint16
		edns  uint16
		tr    dnsserver.Transport
		tc    bool
	}{
		{"txt2.upper.example.", dns.TypeTXT, 0, overUDP, false},
		{"txt4.upper.example.", dns.TypeTXT, 0, overUDP, true},    // 900 octets, no EDNS
		{"txt4.upper.example.", dns.TypeTXT, 1232, overUDP, true}, // whose address is it?
		{"txt4.upper.example.", dns.TypeTXT, 1232, always, true},  // certificates only
		{"txt4.upper.example.", dns.TypeTXT, 1232, proved, false},
		{"txt4.upper.example.", dns.TypeTXT, 4096, proved, false},
		{"txt4.upper.example.", dns.TypeTXT, 600, proved, true},
		{"txt2.upper.example.", dns.TypeTXT, 1, proved, false},   // RFC 6891 §6.2.3: less than 512 is 512
		{"txt8.upper.example.", dns.TypeTXT, 4096, proved, true}, // more than 1232 never
		{"txt200.upper.example.", dns.TypeTXT, 4096, proved, true},
		{"txt200.upper.example.", dns.TypeTXT, 0, overTCP, false},
		{"bob.direct.example.org.", dns.TypeCERT, 600, proved, true},
		{"bob.direct.example.org.", dns.TypeCERT, 0, overTCP, false},
		{"carol.direct.example.org.", dns.TypeCERT, 1232, always, false},
		{"carol.direct.example.org.", dns.TypeCERT, 0, always, false},
		{"nobody.direct.example.org.", dns.TypeA, 0, overUDP, false},
		{"direct.example.org.", dns.TypeANY, 1232, overTCP, false},
		{"cut.upper.example.", dns.TypeA, 0, overUDP, true}, // RFC 9471: glue that is needed
		{"cut.upper.example.", dns.TypeA, 0, overTCP, false},
	} {
		q := ask(t, c.name, c.qtype, c.edns)
		if c.tr.Cookies != nil {
			q = setSize(askWith(t, c.name, c.qtype, c.edns, cookie), c.edns)
		}
		m := reply(t, set, q, c.tr)
		if m.Truncated != c.tc || m.Truncated != (len(m.Answer)+len(m.Ns) == 0) {
			t.Errorf("%s %s, EDNS %d, %+v: %s", c.name, dns.Type(c.qtype), c.edns, c.tr, show(m))
		}
	}
}

// setSize writes the size into an OPT record that is the only record.
func setSize(q []byte, size uint16) []byte {
	binary.BigEndian.PutUint16(q[questionEnd(q)+3:], size)
	return q
}

func TestLargeCertificatesAreWholeOverTCPAndNothingOverUDP(t *testing.T) {
	spec.Covers(t, "AS-5.4-b")
	set := newSet(t)
	over := func(tr dnsserver.Transport) *dns.Msg {
		return reply(t, set, ask(t, "direct.example.org.", dns.TypeCERT, 4096), tr)
	}
	if m := over(overUDP); !m.Truncated || len(m.Answer) != 0 {
		t.Errorf("over UDP: %s", show(m))
	}
	if m := over(overTCP); m.Truncated || len(m.Answer) != 1 {
		t.Errorf("over TCP: %s", show(m))
	}
}

func TestAdditionalDataGivesWay(t *testing.T) {
	// RFC 2181 §9: what was left out of the additional section is no reason for TC.
	tr, cookie := visitor(t)
	m := reply(t, newSet(t), askWith(t, "mx.upper.example.", dns.TypeMX, 1232, cookie), tr)
	if m.Truncated || len(m.Answer) != 30 || len(m.Extra) < 3 || len(m.Extra) > 60 {
		t.Errorf("%s", show(m))
	}
}

func TestEDNS(t *testing.T) {
	set := newSet(t)
	base := func(change func(*dns.Msg)) []byte {
		m := new(dns.Msg)
		m.SetQuestion("direct.example.org.", dns.TypeSOA)
		m.SetEdns0(1232, false)
		change(m)
		return pack(t, m)
	}
	m := reply(t, set, base(func(m *dns.Msg) { m.IsEdns0().SetDo() }), overUDP)
	if o := m.IsEdns0(); o == nil || o.UDPSize() != 1232 || o.Version() != 0 || !o.Do() || len(o.Option) != 0 {
		t.Errorf("OPT %v", o)
	}
	m = reply(t, set, base(func(m *dns.Msg) { m.IsEdns0().Hdr.Ttl = 0x00007FFF }), overUDP)
	if o := m.IsEdns0(); o == nil || o.Hdr.Ttl != 0 || m.Rcode != dns.RcodeSuccess {
		t.Errorf("unknown flags: %v", o)
	}
	m = reply(t, set, base(func(m *dns.Msg) {
		m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_NSID{Code: dns.EDNS0NSID}, &dns.EDNS0_LOCAL{Code: 65001, Data: []byte{1, 2, 3}})
	}), overUDP)
	if o := m.IsEdns0(); o == nil || len(o.Option) != 0 || len(m.Answer) != 1 {
		t.Errorf("unknown options: %s %v", show(m), o)
	}
	m = reply(t, set, base(func(m *dns.Msg) { m.IsEdns0().SetVersion(1); m.IsEdns0().SetDo() }), overUDP)
	if o := m.IsEdns0(); o == nil || m.Rcode != dns.RcodeBadVers || o.Version() != 0 || len(m.Answer)+len(m.Ns) != 0 || m.Authoritative || len(m.Question) != 1 {
		t.Errorf("version 1: %s", show(m))
	}
	m = reply(t, set, base(func(m *dns.Msg) { m.Extra = append(m.Extra, m.Extra[0]) }), overUDP)
	if m.Rcode != dns.RcodeFormatError || m.IsEdns0() != nil {
		t.Errorf("two OPT: %s", show(m))
	}
	m = reply(t, set, base(func(m *dns.Msg) { m.Ns, m.Extra = m.Extra, nil }), overUDP)
	if m.Rcode != dns.RcodeFormatError {
		t.Errorf("OPT in the authority section: %s", show(m))
	}
	m = reply(t, set, base(func(m *dns.Msg) { m.Extra[0].Header().Name = "x." }), overUDP)
	if m.Rcode != dns.RcodeFormatError {
		t.Errorf("OPT with a name: %s", show(m))
	}
	bad := base(func(m *dns.Msg) {
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_LOCAL{Code: 65001, Data: []byte{1, 2, 3}}}
	})
	bad[len(bad)-4]++ // the option's length
	if m = reply(t, set, bad, overUDP); m.Rcode != dns.RcodeFormatError {
		t.Errorf("an option longer than the record: %s", show(m))
	}
	if m = reply(t, set, ask(t, "direct.example.org.", dns.TypeSOA, 0), overUDP); m.IsEdns0() != nil {
		t.Error("OPT in an answer to a query without")
	}
	for _, name := range []string{"elsewhere.example.", "bob.direct.example.org.", "nobody.direct.example.org."} {
		if m = reply(t, set, ask(t, name, dns.TypeCERT, 1232), overUDP); m.IsEdns0() == nil {
			t.Errorf("%s without OPT", show(m))
		}
	}
}

// TestMalformedAndForeignPackets: what can be answered is, with the header alone
// where the question cannot be trusted; the rest meets silence.
func TestMalformedAndForeignPackets(t *testing.T) {
	set := newSet(t)
	good := ask(t, "direct.example.org.", dns.TypeSOA, 1232)
	with := func(change func([]byte) []byte) []byte { return change(bytes.Clone(good)) }
	for _, c := range []struct {
		what  string
		query []byte
		want  string // "" = silence
	}{
		{"nothing", nil, ""},
		{"11 octets", good[:11], ""},
		{"an answer", with(func(b []byte) []byte { b[2] |= 0x80; return b }), ""},
		{"a header alone", with(func(b []byte) []byte { b[5], b[11] = 0, 0; return b[:12] }), "FORMERR"},
		{"no question", with(func(b []byte) []byte { b[5] = 0; return b }), "FORMERR"},
		{"two questions", with(func(b []byte) []byte { b[5] = 2; return b }), "FORMERR"},
		{"a cut question", good[:20], "FORMERR"},
		{"a cut OPT", good[:len(good)-1], "FORMERR"},
		{"trailing octets", append(bytes.Clone(good), 0), "FORMERR"},
		{"a record in the answer section", with(func(b []byte) []byte { b[7], b[11] = 1, 0; return b }), "FORMERR"},
		{"a pointer in the question", with(func(b []byte) []byte { b[12] = 0xC0; return b }), "FORMERR"},
		{"a label type of nobody", with(func(b []byte) []byte { b[12] = 0x41; return b }), "FORMERR"},
		{"a name over 255 octets", append(append(append([]byte{1, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}, bytes.Repeat([]byte{1, 'a'}, 128)...), 0), 0, 6, 0, 1), "FORMERR"},
		{"opcode STATUS", with(func(b []byte) []byte { b[2] |= 2 << 3; return b }), "NOTIMP"},
		{"opcode NOTIFY", with(func(b []byte) []byte { b[2] |= 4 << 3; return b }), "NOTIMP"},
		{"opcode UPDATE", with(func(b []byte) []byte { b[2] |= 5 << 3; return b }), "NOTIMP"},
		{"opcode 15", with(func(b []byte) []byte { b[2] |= 15 << 3; return b }), "NOTIMP"},
		{"class CHAOS", with(func(b []byte) []byte { b[questionEnd(b)-1] = 3; return b }), "REFUSED"},
		{"class ANY", with(func(b []byte) []byte { b[questionEnd(b)-1] = 255; return b }), "REFUSED"},
		{"Z, AD, CD, AA, TC, RA set", with(func(b []byte) []byte { b[2] |= 6; b[3] = 0xFF; return b }), "NOERROR AA | an direct.example.org/SOA"},
	} {
		for _, tr := range []dnsserver.Transport{overUDP, overTCP} {
			if c.want == "" {
				if b := dnsserver.Handle(set, c.query, tr); b != nil {
					t.Errorf("%s: answered %x", c.what, b)
				}
				continue
			}
			m := reply(t, set, c.query, tr)
			if got := show(m); got != c.want {
				t.Errorf("%s: %s; want %s", c.what, got, c.want)
			}
			if b := dnsserver.Handle(set, c.query, tr); m.Rcode == dns.RcodeFormatError && len(b) > len(c.query)+11 {
				t.Errorf("%s: %d octets for %d", c.what, len(b), len(c.query))
			}
		}
	}
	if m := reply(t, nil, good, overUDP); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("without a generation: %s", show(m))
	}
}

// TestAnUnprovenAddressGetsNoMoreThanItSent: certificates and ANY are what an
// attacker would aim at somebody else.
func TestAnUnprovenAddressGetsNoMoreThanItSent(t *testing.T) {
	set := newSet(t)
	for _, name := range []string{"direct.example.org.", "bob.direct.example.org.", "robert.direct.example.org.", "carol.direct.example.org."} {
		for _, qtype := range []uint16{dns.TypeCERT, dns.TypeANY} {
			for _, size := range []uint16{0, 512, 1232, 4096, 65535} {
				q := ask(t, name, qtype, size)
				if a := dnsserver.Handle(set, q, overUDP); len(a) > len(q) {
					t.Errorf("%s %s, EDNS %d: %d octets for %d", name, dns.Type(qtype), size, len(a), len(q))
				}
			}
		}
	}
}

// TestEveryPointerLeadsBack: some resolvers do not follow others.
func TestEveryPointerLeadsBack(t *testing.T) {
	set := newSet(t)
	for _, name := range []string{"direct.example.org.", "alias2.structure.example.", "sub.structure.example.", "mx.upper.example.", "ca.upper.example.", "void.structure.example.", "x.moved.structure.example.", "q.gone.structure.example.", "x.spiral.upper.example.", "a.r1.upper.example."} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeNS, dns.TypeMX, dns.TypeTXT} {
			b := dnsserver.Handle(set, ask(t, name, qtype, 1232), overTCP)
			for at := questionEnd(b); at < len(b); {
				for b[at] != 0 && b[at] < 0xC0 {
					at += 1 + int(b[at])
				}
				if b[at] >= 0xC0 {
					to := int(binary.BigEndian.Uint16(b[at:]) & 0x3FFF)
					if to >= at || to < 12 {
						t.Fatalf("%s: a pointer at %d to %d", name, at, to)
					}
					at++
				}
				at++
				at += 10 + int(binary.BigEndian.Uint16(b[at+8:]))
			}
		}
	}
}

// mutate spoils a query in one of the ways that networks and attackers do.
func mutate(r *rand.Rand, b []byte) []byte {
	b = bytes.Clone(b)
	for range 1 + r.IntN(4) {
		if len(b) == 0 {
			return b
		}
		i := r.IntN(len(b))
		switch r.IntN(6) {
		case 0:
			b[i] ^= 1 << r.IntN(8)
		case 1:
			b[i] = byte(r.Uint32())
		case 2:
			b = b[:i]
		case 3:
			b = slices.Insert(b, i, byte(r.Uint32()))
		case 4:
			b = append(b, b[i:]...)
		case 5:
			if len(b) >= 12 {
				b[4+r.IntN(8)] = byte(r.IntN(3))
			}
		}
	}
	return b
}

// TestAMillionSpoiledPackets: every one is answered well or not at all, in time.
func TestAMillionSpoiledPackets(t *testing.T) {
	set := newSet(t)
	var seeds [][]byte
	for _, name := range []string{"direct.example.org.", "bob.direct.example.org.", "robert.direct.example.org.", "x.y.sub.structure.example.", "ring1.structure.example.", "a.wild.structure.example.", "mx.upper.example.", "nowhere.example."} {
		for _, qtype := range []uint16{dns.TypeCERT, dns.TypeA, dns.TypeMX, dns.TypeANY, dns.TypeDS} {
			for _, size := range []uint16{0, 1232} {
				seeds = append(seeds, ask(t, name, qtype, size))
			}
		}
	}
	const packets, checked, budget = 1_000_000, 20, 2 * time.Second
	r := rand.New(rand.NewPCG(1, 2))
	var responder dnsserver.Responder
	buf := make([]byte, 0, 65535)
	end := time.Now().Add(budget)
	n, answered := 0, 0
	for ; n < packets; n++ {
		if n%1024 == 0 && time.Now().After(end) {
			break
		}
		q := mutate(r, seeds[r.IntN(len(seeds))])
		tr := dnsserver.Transport{TCP: n%3 == 0, UDPCert: dnsserver.UDPCert(n % 3)}
		a := responder.Append(buf, set, q, tr)
		if len(a) == 0 {
			continue
		}
		answered++
		if n%checked == 0 {
			if why := faulty(q, a, tr); why != "" {
				t.Fatalf("packet %d, %x: %s\n%x", n, q, why, a)
			}
		} else if !tr.TCP && len(a) > 1232 {
			t.Fatalf("packet %d, %x: %d octets", n, q, len(a))
		}
	}
	t.Logf("%d packets, %d answered", n, answered)
	if n < packets/100 || answered < n/10 {
		t.Errorf("only %d packets in %s, %d answered", n, budget, answered)
	}
}

func FuzzHandle(f *testing.F) {
	set := newSet(f)
	for _, name := range []string{"direct.example.org.", "robert.direct.example.org.", "x.sub.structure.example.", "."} {
		f.Add(ask(f, name, dns.TypeCERT, 1232), uint8(0))
		f.Add(ask(f, name, dns.TypeANY, 0), uint8(1))
	}
	f.Fuzz(func(t *testing.T, q []byte, how uint8) {
		tr := dnsserver.Transport{TCP: how&1 != 0, UDPCert: dnsserver.UDPCert(how >> 1 % 3)}
		a := dnsserver.Handle(set, q, tr)
		if a == nil {
			return
		}
		if why := faulty(q, a, tr); why != "" {
			t.Fatalf("%s\n%x\n%x", why, q, a)
		}
		if again := dnsserver.Handle(set, q, tr); !bytes.Equal(a, again) {
			t.Fatalf("two answers to one question:\n%x\n%x", a, again)
		}
	})
}

func BenchmarkHandle(b *testing.B) {
	set := newSet(b)
	always := dnsserver.Transport{UDPCert: dnsserver.CertAlways}
	for _, c := range []struct {
		what, name string
		qtype      uint16
		tr         dnsserver.Transport
	}{
		{"CERT over TCP", "bob.direct.example.org.", dns.TypeCERT, overTCP},
		{"CERT over UDP, allowed", "carol.direct.example.org.", dns.TypeCERT, always},
		{"TC", "bob.direct.example.org.", dns.TypeCERT, overUDP},
		{"NXDOMAIN", "nobody.direct.example.org.", dns.TypeCERT, overUDP},
		{"MX with addresses", "direct.example.org.", dns.TypeMX, overUDP},
		{"CNAME and CERT", "robert.direct.example.org.", dns.TypeCERT, overTCP},
		{"DNAME and TXT", "a.moved.structure.example.", dns.TypeTXT, overUDP},
		{"referral", "x.sub.structure.example.", dns.TypeA, overUDP},
		{"refused", "elsewhere.example.", dns.TypeA, overUDP},
	} {
		b.Run(c.what, func(b *testing.B) {
			q := ask(b, c.name, c.qtype, 1232)
			var r dnsserver.Responder
			buf := make([]byte, 0, 4096)
			b.ReportAllocs()
			for b.Loop() {
				if len(r.Append(buf, set, q, c.tr)) == 0 {
					b.Fatal("silence")
				}
			}
		})
	}
}

func BenchmarkHandleInALargeZone(b *testing.B) {
	const names = 100_000
	var text strings.Builder
	text.WriteString(minimum)
	for i := range names {
		fmt.Fprintf(&text, "u%07d TXT %s\n", i, strings.Repeat("z", 200))
	}
	set := oneZone(b, "bench.example", text.String())
	r := rand.New(rand.NewPCG(1, 2))
	queries := make([][]byte, 4096)
	for i := range queries {
		queries[i] = ask(b, fmt.Sprintf("u%07d.bench.example.", r.IntN(names)), dns.TypeTXT, 1232)
	}
	var resp dnsserver.Responder
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		resp.Append(buf, set, queries[i%len(queries)], overUDP)
	}
}

func TestAnswersAreMadeWithoutAllocating(t *testing.T) {
	set := newSet(t)
	var r dnsserver.Responder
	buf := make([]byte, 0, 65535)
	for name, qtype := range map[string]uint16{
		"bob.direct.example.org.": dns.TypeCERT, "nobody.direct.example.org.": dns.TypeCERT, "direct.example.org.": dns.TypeMX, "robert.direct.example.org.": dns.TypeCERT,
		"alias2.structure.example.": dns.TypeA, "a.moved.structure.example.": dns.TypeTXT, "x.spiral.upper.example.": dns.TypeA, "x.sub.structure.example.": dns.TypeA, "elsewhere.example.": dns.TypeA,
	} {
		q := ask(t, name, qtype, 1232)
		for _, tr := range []dnsserver.Transport{overUDP, overTCP} {
			if n := testing.AllocsPerRun(50, func() { r.Append(buf, set, q, tr) }); n != 0 {
				t.Errorf("%s %s, TCP %v: %v allocations", name, dns.Type(qtype), tr.TCP, n)
			}
		}
	}
}

// TestBelowADNAMETheQuestionsLettersStay: the CNAME is made for this question.
func TestBelowADNAMETheQuestionsLettersStay(t *testing.T) {
	m := reply(t, newSet(t), ask(t, "HoSt.A.MoVeD.structure.example.", dns.TypeA, 0), overTCP)
	if len(m.Answer) != 2 {
		t.Fatalf("%s", show(m))
	}
	d, c := m.Answer[0].(*dns.DNAME), m.Answer[1].(*dns.CNAME)
	if c.Target != "HoSt.A.wild.structure.example." || c.Hdr.Ttl != d.Hdr.Ttl || c.Hdr.Name != "HoSt.A.MoVeD.structure.example." {
		t.Errorf("%v\n%v", d, c)
	}
}

// TestADNAMEIsWholeOrTruncated: where the CNAME does not fit, nothing is there.
func TestADNAMEIsWholeOrTruncated(t *testing.T) {
	set := newSet(t)
	for _, tr := range []dnsserver.Transport{overUDP, overTCP} {
		name := strings.Repeat("a.", 110) + "gone.structure.example."
		m := reply(t, set, ask(t, name, dns.TypeA, 0), tr)
		if m.Truncated == tr.TCP || len(m.Answer) != 2 && tr.TCP {
			t.Errorf("TCP %v: %s", tr.TCP, show(m))
		}
	}
}
