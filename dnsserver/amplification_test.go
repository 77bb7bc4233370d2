package dnsserver_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"directnode/dnsserver"
	"directnode/store"
	"directnode/zones"
)

var update = flag.Bool("update", false, "write ../docs/AMPLIFICATION.md anew")

const amplificationFile = "../docs/AMPLIFICATION.md"

// shapes are the kinds of names that a zone has, from small to large.
var shapes = []struct{ what, name string }{
	{"a small certificate", "carol.direct.example.org."},
	{"an RSA certificate", "bob.direct.example.org."},
	{"the apex", "direct.example.org."},
	{"an alias of a certificate", "robert.direct.example.org."},
	{"an alias that leaves the zone", "over.lower.upper.example."},
	{"a chain of aliases", "ca.upper.example."},
	{"an empty non-terminal", "smith.direct.example.org."},
	{"a name that is not there", "nobody.direct.example.org."},
	{"a wildcard", "a.wild.structure.example."},
	{"a delegation", "x.y.sub.structure.example."},
	{"a delegation with 13 servers", "cut.upper.example."},
	{"30 mail exchangers", "mx.upper.example."},
	{"450 octets of text", "txt2.upper.example."},
	{"900 octets of text", "txt4.upper.example."},
	{"45 KB of text", "txt200.upper.example."},
	{"no zone of ours", "elsewhere.example."},
}

// guarded are the types that leave only to a proved address.
var guarded = map[uint16]bool{dns.TypeCERT: true, dns.TypeANY: true, dns.TypeDNSKEY: true, dns.TypeRRSIG: true}

var measuredTypes = []uint16{dns.TypeCERT, dns.TypeANY, dns.TypeDNSKEY, dns.TypeRRSIG, dns.TypeSOA, dns.TypeNS, dns.TypeMX, dns.TypeA, dns.TypeAAAA, dns.TypeTXT, dns.TypeDS,
	dns.TypeCDS, dns.TypeCDNSKEY, dns.TypeNSEC, dns.TypeNSEC3PARAM, dns.TypeSMIMEA, 65280}

// measuredZones are the same names unsigned, and signed in the ways that differ
// in size: one key or two, RFC 9824 or NSEC3.
func measuredZones(t *testing.T) []measuredZone {
	all := []measuredZone{{"unsigned", newSet(t)}}
	for _, m := range []mode{{store.AlgorithmECDSA, false, store.DenialCompact}, {store.AlgorithmECDSA, true, store.DenialNSEC3}} {
		all = append(all, measuredZone{map[string]string{store.DenialCompact: "signed", store.DenialNSEC3: "signed, NSEC3"}[m.denial], buildSigned(t, texts(t), m)})
	}
	return all
}

type measuredZone struct {
	what string
	set  *zones.Set
}

// measure is one question and its answer, in octets of DNS.
type measure struct {
	shape            string
	question, answer int
}

func (m measure) factor() float64 { return float64(m.answer) / float64(max(m.question, 1)) }

// onTheWire is the factor with the headers of IPv4 and UDP.
func (m measure) onTheWire() float64 { return float64(m.answer+28) / float64(m.question+28) }

func (m measure) String() string {
	if m.question == 0 {
		return "–"
	}
	return fmt.Sprintf("%d → %d, %.2f× (%s)", m.question, m.answer, m.factor(), m.shape)
}

// tooLarge tells which bound an answer breaks.
func (m measure) tooLarge(qtype uint16, cookie string) string {
	excess := 0
	if cookie == "client cookie" {
		excess = 16 // the server cookie that the answer must carry
	}
	switch {
	case cookie == "valid cookie":
		if m.answer > 1232 {
			return "at most 1232"
		}
	case guarded[qtype] && (m.answer > m.question+excess || m.onTheWire() > 1.25):
		return "no larger than the question"
	case m.answer > 512:
		return "at most 512"
	}
	return ""
}

// TestAmplification measures every type, EDNS size, DO, cookie and shape of
// zone, and holds what docs/AMPLIFICATION.md tells.
func TestAmplification(t *testing.T) {
	tr, cookie := visitor(t)
	cookies := []struct{ what, cookie string }{{"no cookie", ""}, {"client cookie", clientCookie}, {"foreign cookie", clientCookie + strings.Repeat("ab", 16)}, {"valid cookie", cookie}}
	worst := make(map[string]map[uint16]map[string]measure)
	measured := 0
	all := measuredZones(t)
	for _, zone := range all {
		worst[zone.what] = make(map[uint16]map[string]measure)
		for _, qtype := range measuredTypes {
			worst[zone.what][qtype] = make(map[string]measure)
			for _, shape := range shapes {
				for _, c := range cookies {
					for _, size := range []uint16{0, 512, 1232, 4096, 65535} {
						for _, do := range []bool{false, true} {
							q := amplificationQuery(t, shape.name, qtype, size, c.cookie, do)
							if q == nil {
								continue
							}
							m := measure{shape.what, len(q), len(dnsserver.Handle(zone.set, q, tr))}
							measured++
							if m.factor() > worst[zone.what][qtype][c.what].factor() {
								worst[zone.what][qtype][c.what] = m
							}
							if what := m.tooLarge(qtype, c.what); what != "" {
								t.Errorf("%s, %s %s, EDNS %d, %s: %d octets for %d; %s", zone.what, shape.name, dns.Type(qtype), size, c.what, m.answer, m.question, what)
							}
						}
					}
				}
			}
		}
	}
	set := all[0].set
	// The figure that is quoted is of the name that stands in it.
	bob := amplificationQuery(t, "bob.direct.example.org.", dns.TypeCERT, 1232, clientCookie, false)
	if a := dnsserver.Handle(set, bob, tr); len(bob) != 63 || len(a) != 79 {
		t.Errorf("CERT of bob.direct.example.org: %d → %d, want 63 → 79 (1.25 times)", len(bob), len(a))
	}

	got := amplificationText(all, worst, measured)
	if *update {
		if err := os.WriteFile(amplificationFile, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(amplificationFile)
	if err != nil || string(want) != got {
		t.Errorf("%s is not what is measured (%v); write it anew with -update", amplificationFile, err)
	}
}

// amplificationQuery gives nil for what cannot be asked: a cookie without EDNS.
func amplificationQuery(t testing.TB, name string, qtype, size uint16, cookie string, do bool) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	if size > 0 {
		m.SetEdns0(size, do)
	} else if cookie != "" || do {
		return nil
	}
	if cookie != "" {
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: cookie}}
	}
	return pack(t, m)
}

func amplificationText(all []measuredZone, worst map[string]map[uint16]map[string]measure, measured int) string {
	var b strings.Builder
	b.WriteString(`# Amplification

What somebody gains who sends questions by UDP with the address of a victim. Generated by ` + "`go test ./dnsserver -run TestAmplification -update`" + `;
the test fails when an answer becomes larger than this.

`)
	fmt.Fprintf(&b, "Measured: %d questions, of %d types, %d shapes of names in zones that are not signed, signed with one key (RFC 9824) and with two (NSEC3), EDNS\n"+
		"absent and of 512 to 65535 octets, DO and not, four states of the cookie, with `dns.udp_cert = \"cookie\"`. Octets of DNS, question → answer; with the headers of IPv4 and UDP, 28 octets each way, every factor\n"+
		"above 1 is smaller.\n\n", measured, len(measuredTypes), len(shapes))
	b.WriteString(`- CERT, ANY, DNSKEY and RRSIG to an address that proved nothing: never larger than the question, except by the 16 octets of the server cookie
  that a client cookie asks for (63 → 79 octets, 1.25×, for ` + "`bob.direct.example.org`" + `; with the headers never more than 1.25×).
- Everything else to such an address: at most 512 octets, and at most 50 answers a second (10 of names that do not exist) before they too become
  no larger than the question.
- A valid cookie proves that the client receives at its address: nobody else can be aimed at with it.

The worst factor by type, and where it is met:
`)
	for _, zone := range all {
		fmt.Fprintf(&b, "\n## %s\n\n| type | no cookie | client cookie | foreign cookie | valid cookie |\n|---|---|---|---|---|\n", strings.ToUpper(zone.what[:1])+zone.what[1:])
		for _, qtype := range measuredTypes {
			w := worst[zone.what][qtype]
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", dns.Type(qtype), w["no cookie"], w["client cookie"], w["foreign cookie"], w["valid cookie"])
		}
	}
	return b.String()
}
