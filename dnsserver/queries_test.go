package dnsserver_test

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// differentialZones are the zones that every server loads: those of the other
// tests whose text all servers read, one that has every shape many times over,
// and one that the seed makes.
func differentialZones(t testing.TB, seed uint64) map[string]string {
	return map[string]string{
		"structure.example":   exampleText(t, "structure"),
		"upper.example":       serial7 + "lower NS ns.lower\nns.lower A 192.0.2.7\nlower DS 4711 8 2 " + strings.Repeat("0b", 32) + "\n" + long,
		"lower.upper.example": serial7 + "www A 192.0.2.8\nover CNAME mail.structure.example.\ndeep.er.name TXT x\n",
		"diff.example":        generatedZone(t),
		"random.example":      randomZone(seed),
	}
}

// serial7 is the minimum of a zone with the serial that the tests build with.
var serial7 = strings.Replace(minimum, "hostmaster 1", "hostmaster 7", 1)

// generatedZone has every shape of name many times over.
func generatedZone(t testing.TB) string {
	r := rand.New(rand.NewPCG(11, 12))
	var b strings.Builder
	b.WriteString("$TTL 3600\n@ SOA ns1 hostmaster 7 3600 600 86400 300\n@ NS ns1\n@ NS ns2.Diff.Example.\n@ MX 10 mail\n@ TXT \"apex\"\n")
	b.WriteString("ns1 A 192.0.2.1\nns1 AAAA 2001:db8::1\nns2 A 192.0.2.2\nmail A 192.0.2.3\nmail AAAA 2001:db8::3\n")
	plainNames(&b)
	wildcardNames(&b)
	aliasNames(&b)
	delegatedNames(&b)
	renamedNames(&b)
	unusualTypes(&b)
	everyType(t, &b, dns.TypeMD, dns.TypeMF) // BIND loads no zone with these (RFC 1035 §3.3.4: obsolete)
	certificateNames(&b, r)
	return b.String()
}

// randomZone has names of few labels at every depth, so that wildcards, empty
// non-terminals, cuts, aliases and DNAMEs come to lie in every way beside and above
// one another. What no server loads is left out.
func randomZone(seed uint64) string {
	r := rand.New(rand.NewPCG(seed, 30))
	labels := []string{"a", "b", "c", "d", "*"}
	name := func() string {
		parts := make([]string, 1+r.IntN(4))
		for i := range parts {
			parts[i] = labels[r.IntN(len(labels))]
		}
		return strings.Join(parts, ".")
	}
	var b strings.Builder
	b.WriteString(serial7)
	names := make(map[string]bool)
	for range 120 {
		names[name()] = true
	}
	sorted := slices.SortedFunc(maps.Keys(names), func(a, b string) int {
		return cmp.Or(cmp.Compare(strings.Count(a, "."), strings.Count(b, ".")), strings.Compare(a, b))
	})
	ends := make(map[string]bool) // cuts and DNAMEs: nothing but glue lies below
	for _, n := range sorted {
		if !belowOne(ends, n) {
			ends[n] = randomRecords(r, &b, n, name)
		}
	}
	return b.String()
}

func belowOne(ends map[string]bool, name string) bool {
	for _, rest, ok := strings.Cut(name, "."); ok; _, rest, ok = strings.Cut(rest, ".") {
		if ends[rest] {
			return true
		}
	}
	return false
}

// randomRecords writes what a name owns, and tells whether nothing may lie below.
func randomRecords(r *rand.Rand, b *strings.Builder, n string, name func() string) (end bool) {
	kind := r.IntN(12)
	if strings.HasPrefix(n, "*") {
		kind = 3 + r.IntN(9)
	}
	switch kind {
	case 0:
		fmt.Fprintf(b, "%s DNAME %s\n", n, name())
		return true
	case 1, 2:
		fmt.Fprintf(b, "%s NS ns.%s\n%s NS ns.elsewhere.example.\nns.%s A 192.0.2.1\n", n, n, n, n)
		if kind == 1 {
			fmt.Fprintf(b, "%s DS 1 8 2 %064x\n", n, r.Uint64())
		}
		return true
	case 3, 4:
		fmt.Fprintf(b, "%s CNAME %s\n", n, name())
		return false
	}
	for i, record := range []string{"A 192.0.2.2", "TXT \"" + n + "\"", "MX 10 " + name(), "TYPE65280 \\# 1 00", "SRV 0 0 389 " + name()} {
		if i == kind%5 || r.IntN(3) == 0 {
			fmt.Fprintf(b, "%s %s\n", n, record)
		}
	}
	return false
}

func plainNames(b *strings.Builder) {
	for i := range 60 {
		fmt.Fprintf(b, "h%d A 192.0.2.%d\n", i, i+10)
		fmt.Fprintf(b, "MiXeD%d.CaSe TXT \"Kept As Written %d\"\n", i, i)
		fmt.Fprintf(b, "a.b%d.c.ent%d TXT \"below empty non-terminals\"\n", i, i%7)
		fmt.Fprintf(b, "h%d MX %d h%d\nh%d MX 5 elsewhere%d.example.\n", i, i, (i+1)%60, i, i)
		fmt.Fprintf(b, "_svc%d._tcp SRV 0 %d 389 h%d\n", i, i, (i+7)%60)
	}
	// Names of 250 octets and labels of 63.
	l63 := strings.Repeat("l", 63)
	fmt.Fprintf(b, "%s.%s.%s A 192.0.2.200\n", l63, l63, l63)
	fmt.Fprintf(b, "%s.%s.%s.%s TXT \"the longest\"\n", strings.Repeat("m", 48), l63, l63, l63)
	// Octets that text must escape.
	b.WriteString("a\\.b.esc A 192.0.2.201\n\\000nul.esc A 192.0.2.202\n\\255.esc TXT \"high\"\nsp\\032ace.esc TXT \"blank\"\n")
	b.WriteString("a.b.esc A 192.0.2.203\n")
}

func wildcardNames(b *strings.Builder) {
	for i := range 8 {
		fmt.Fprintf(b, "*.w%d A 192.0.2.100\n*.w%d MX 10 mail\n*.w%d TXT \"wild %d\"\n", i, i, i, i)
		fmt.Fprintf(b, "own.w%d TXT \"not from the wildcard\"\n", i)
		fmt.Fprintf(b, "deep.under.own2.w%d TXT \"makes own2 an empty non-terminal that the wildcard does not cover\"\n", i)
		fmt.Fprintf(b, "*.*.ww%d TXT \"two asterisks\"\n", i)
		fmt.Fprintf(b, "x.*.wx%d TXT \"below an asterisk\"\n", i) // the asterisk itself is an empty non-terminal
		fmt.Fprintf(b, "*.ent.we%d TXT \"below an empty non-terminal\"\n", i)
		fmt.Fprintf(b, "*.wc%d CNAME h%d\n", i, i)
		fmt.Fprintf(b, "*.wo%d CNAME out.elsewhere.example.\n", i)
		fmt.Fprintf(b, "*.wl%d CNAME x.wl%d\n", i, i) // leads to itself
		fmt.Fprintf(b, "*.wn%d CNAME gone.nowhere%d\n", i, i)
		fmt.Fprintf(b, "*.wcert%d TYPE65281 \\# 2 0001\n", i)
	}
}

func aliasNames(b *strings.Builder) {
	for i := range 20 {
		fmt.Fprintf(b, "c%d CNAME h%d\n", i, i)
		fmt.Fprintf(b, "cc%d CNAME c%d\n", i, i)
		fmt.Fprintf(b, "ccc%d CNAME CC%d\n", i, i)
		fmt.Fprintf(b, "cout%d CNAME www%d.elsewhere.example.\n", i, i)
		fmt.Fprintf(b, "cvoid%d CNAME nothing%d\n", i, i)
		fmt.Fprintf(b, "cent%d CNAME ent%d\n", i, i%7)
		fmt.Fprintf(b, "cwild%d CNAME made%d.w%d\n", i, i, i%8)
		fmt.Fprintf(b, "ccut%d CNAME host.sub%d\n", i, i)
		fmt.Fprintf(b, "cself%d CNAME cself%d\n", i, i)
		fmt.Fprintf(b, "loopa%d CNAME loopb%d\nloopb%d CNAME loopc%d\nloopc%d CNAME loopa%d\n", i, i, i, i, i, i)
		fmt.Fprintf(b, "cover%d CNAME www.lower.upper.example.\n", i)
		fmt.Fprintf(b, "capex%d CNAME @\n", i)
	}
	for i := range 24 {
		fmt.Fprintf(b, "chain%d CNAME chain%d\n", i, i+1)
	}
	b.WriteString("chain24 A 192.0.2.204\n")
}

func renamedNames(b *strings.Builder) {
	for i := range 10 {
		fmt.Fprintf(b, "dn%d DNAME w%d\ndn%d TXT \"the owner stays\"\n", i, i%8, i)
		fmt.Fprintf(b, "dent%d DNAME c.ent%d\n", i, i%7)
		fmt.Fprintf(b, "dout%d DNAME tree%d.elsewhere.example.\n", i, i)
		fmt.Fprintf(b, "dsub%d DNAME sub%d\n", i, i)
		fmt.Fprintf(b, "dover%d DNAME lower.upper.example.\n", i)
		fmt.Fprintf(b, "dlong%d DNAME %s.%s\n", i, strings.Repeat("t", 63), strings.Repeat("u", 63))
		fmt.Fprintf(b, "dd%d DNAME dn%d\n", i, i)
		fmt.Fprintf(b, "dloopa%d DNAME dloopb%d\ndloopb%d DNAME dloopa%d\n", i, i, i, i)
		fmt.Fprintf(b, "dgrow%d DNAME g.dgrow%d\n", i, i)
		fmt.Fprintf(b, "dalias%d CNAME own.dn%d\n", i, i)
		fmt.Fprintf(b, "deep.er.dx%d DNAME w%d\n", i, i%8)
	}
}

func delegatedNames(b *strings.Builder) {
	for i := range 20 {
		fmt.Fprintf(b, "sub%d NS ns.sub%d\nsub%d NS ns.elsewhere.example.\nns.sub%d A 192.0.2.%d\nns.sub%d AAAA 2001:db8::%d\n", i, i, i, i, i, i, i+1)
		if i%2 == 0 {
			fmt.Fprintf(b, "sub%d DS %d 8 2 %064x\n", i, i, i)
		}
		fmt.Fprintf(b, "bare%d NS ns1.elsewhere.example.\nbare%d NS ns2.elsewhere.example.\n", i, i)
		fmt.Fprintf(b, "kin%d NS ns.sub%d\nkin%d NS ns1\n", i, i, i)
		fmt.Fprintf(b, "in.the.deep%d NS a.b.in.the.deep%d\na.b.in.the.deep%d A 192.0.2.%d\n", i, i, i, i+1)
		fmt.Fprintf(b, "*.side%d TXT \"beside a cut\"\nc.side%d NS ns.c.side%d\nns.c.side%d A 192.0.2.%d\n", i, i, i, i, i+1)
	}
}

func unusualTypes(b *strings.Builder) {
	for i := range 10 {
		fmt.Fprintf(b, "odd%d TYPE65280 \\# %d %s\n", i, i+1, strings.Repeat("ab", i+1))
		fmt.Fprintf(b, "odd%d CAA 0 issue \"ca%d.example\"\n", i, i)
		fmt.Fprintf(b, "odd%d TLSA 3 1 1 %064x\n", i, i)
		fmt.Fprintf(b, "odd%d PTR h%d\n", i, i)
		fmt.Fprintf(b, "odd%d HINFO \"CPU\" \"OS %d\"\n", i, i)
		fmt.Fprintf(b, "odd%d RP mailbox.h%d h%d\n", i, i, i)
		fmt.Fprintf(b, "odd%d NAPTR 100 10 \"u\" \"E2U+sip\" \"\" h%d\n", i, i)
		fmt.Fprintf(b, "odd%d SSHFP 1 1 %040x\n", i, i)
		fmt.Fprintf(b, "odd%d LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m\n", i)
		fmt.Fprintf(b, "odd%d AFSDB 1 h%d\n", i, i)
		fmt.Fprintf(b, "odd%d TXT", i)
		for j := range i + 1 {
			fmt.Fprintf(b, " \"%s\"", strings.Repeat(string(rune('a'+j)), 255))
		}
		b.WriteString("\n")
	}
}

// certificateNames are CERT RRsets of one to five records, as addresses have
// them. No server looks into the octets; type IPKIX says that there is no
// certificate in them.
func certificateNames(b *strings.Builder, r *rand.Rand) {
	for i := range 40 {
		owner := fmt.Sprintf("user%d", i)
		if i%3 == 0 {
			owner = fmt.Sprintf("john.smith%d", i)
		}
		for range i%5 + 1 {
			data := make([]byte, 300+r.IntN(1500))
			for j := range data {
				data[j] = byte(r.Uint32())
			}
			fmt.Fprintf(b, "%s CERT 4 %d 8 %s\n", owner, r.IntN(65536), base64.StdEncoding.EncodeToString(data))
		}
	}
}

// questionTypes are asked for; those that many names own more often.
var questionTypes = []uint16{
	dns.TypeA, dns.TypeA, dns.TypeA, dns.TypeAAAA, dns.TypeNS, dns.TypeNS, dns.TypeSOA, dns.TypeMX, dns.TypeMX, dns.TypeTXT, dns.TypeTXT,
	dns.TypeCERT, dns.TypeCERT, dns.TypeCNAME, dns.TypeCNAME, dns.TypeDNAME, dns.TypeDS, dns.TypeDS, dns.TypeSRV, dns.TypeANY, dns.TypePTR,
	dns.TypeCAA, dns.TypeTLSA, dns.TypeHINFO, dns.TypeNAPTR, dns.TypeLOC, dns.TypeSSHFP, dns.TypeRP, dns.TypeAFSDB, dns.TypeNSEC,
	dns.TypeRRSIG, dns.TypeDNSKEY, dns.TypeNULL, dns.TypeSMIMEA, dns.TypeHTTPS, 65280, 65281, 65535, 4096,
}

// generateQueries makes queries about the zones, the same for the same seed.
func generateQueries(t testing.TB, texts map[string]string, total int, seed uint64) []differentialQuery {
	r := rand.New(rand.NewPCG(seed, 20))
	names := ownersOf(t, texts)
	random := ownersOf(t, map[string]string{"random.example": texts["random.example"]})
	out := make([]differentialQuery, total)
	for i := range out {
		from := names
		if i%3 == 0 {
			from = random
		}
		out[i] = generateQuery(r, from, uint16(i))
	}
	return out
}

// ownersOf lists the owner names of the texts and all names above them.
func ownersOf(t testing.TB, texts map[string]string) []string {
	seen := map[string]bool{"elsewhere.example.": true, "example.": true, ".": true}
	for origin, text := range texts {
		zp := dns.NewZoneParser(strings.NewReader(text), origin+".", "")
		for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
			for name := rr.Header().Name; dns.IsSubDomain(origin+".", name); {
				seen[name] = true
				next, end := dns.NextLabel(name, 0)
				if end {
					break
				}
				name = name[next:]
			}
		}
		if err := zp.Err(); err != nil {
			t.Fatal(err)
		}
	}
	var out []string
	for name := range seen {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func generateQuery(r *rand.Rand, names []string, id uint16) differentialQuery {
	for {
		q := differentialQuery{name: mutateName(r, names[r.IntN(len(names))]), qtype: questionTypes[r.IntN(len(questionTypes))], qclass: dns.ClassINET}
		if _, ok := dns.IsDomainName(q.name); !ok {
			continue
		}
		m := new(dns.Msg)
		m.Id = id
		if r.IntN(50) == 0 {
			q.qclass = []uint16{dns.ClassCHAOS, dns.ClassHESIOD, dns.ClassANY, dns.ClassNONE, 4711}[r.IntN(5)]
		}
		var own uint16
		if _, err := fmt.Sscanf(strings.ToLower(q.name), "type%d.every.", &own); err == nil && r.IntN(2) == 0 {
			q.qtype = own
		}
		if strings.HasPrefix(q.name, "every.") {
			q.qtype = slices.Sorted(maps.Keys(typeSamples))[r.IntN(len(typeSamples))]
		}
		if r.IntN(20) == 0 {
			q.qtype = uint16(256 + r.IntN(60000)) // a type of nobody
		}
		m.Question = []dns.Question{{Name: q.name, Qtype: q.qtype, Qclass: q.qclass}}
		q.how = unusual(r, m)
		packet, err := m.Pack()
		if err != nil {
			continue // a name longer than 255 octets
		}
		q.packet = packet
		return q
	}
}

// mutateName keeps a name in a third of the cases, else takes one near it.
func mutateName(r *rand.Rand, name string) string {
	labels := dns.SplitDomainName(name)
	word := func() string {
		return []string{"x", "*", "www", "a", "host", "ns", "_ldap", "\\000", "own", strings.Repeat("q", 63), "b", "c", "d"}[r.IntN(13)]
	}
	switch r.IntN(12) {
	case 0, 1:
		labels = append([]string{word()}, labels...)
	case 2:
		labels = append([]string{word(), word()}, labels...)
	case 3:
		labels = append([]string{word(), word(), word(), word()}, labels...)
	case 4:
		if len(labels) > 0 {
			labels[0] = word()
		}
	case 5:
		if len(labels) > 1 {
			labels[r.IntN(len(labels)-1)] = word()
		}
	case 6:
		if len(labels) > 1 {
			labels = labels[1:]
		}
	case 7:
		if len(labels) > 0 && labels[0] != "" && !strings.Contains(labels[0], "\\") {
			labels[0] += string(rune('a' + r.IntN(26)))
		}
	}
	return randomCase(r, dns.Fqdn(strings.Join(labels, ".")))
}

func randomCase(r *rand.Rand, name string) string {
	if r.IntN(2) == 0 {
		return name
	}
	b := []byte(name)
	for i, c := range b {
		if ('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z') && r.IntN(2) == 0 {
			b[i] ^= 0x20
		}
	}
	return string(b)
}

// differentialOptions are what a query may carry. COOKIE is not among them, for an
// answer to it is never the same twice.
var differentialOptions = []struct {
	what   string
	option dns.EDNS0
}{
	{"nsid", &dns.EDNS0_NSID{Code: dns.EDNS0NSID}},
	{"subnet", &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: net.IPv4(192, 0, 2, 0)}},
	{"subnet6", &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 2, SourceNetmask: 56, Address: net.ParseIP("2001:db8::")}},
	{"expire", &dns.EDNS0_EXPIRE{Code: dns.EDNS0EXPIRE, Empty: true}},
	{"padding", &dns.EDNS0_PADDING{Padding: make([]byte, 31)}},
	{"keytag", &dns.EDNS0_LOCAL{Code: 14, Data: []byte{0x4F, 0x66}}},
	{"chain", &dns.EDNS0_LOCAL{Code: 13, Data: []byte("\x07example\x00")}},
	{"dau", &dns.EDNS0_DAU{Code: dns.EDNS0DAU, AlgCode: []uint8{13, 15}}},
	{"keepalive", &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE}},
}

// unusual sets header bits and an OPT record by chance, and says so.
func unusual(r *rand.Rand, m *dns.Msg) (how string) {
	flag := func(chance int, text string) bool {
		if r.IntN(chance) != 0 {
			return false
		}
		how += " " + text
		return true
	}
	m.RecursionDesired = flag(2, "rd")
	m.CheckingDisabled = flag(8, "cd")
	m.AuthenticatedData = flag(8, "ad")
	if !flag(2, "edns") {
		return how
	}
	size := []uint16{0, 512, 1232, 4096, 65535}[r.IntN(5)]
	m.SetEdns0(size, flag(3, "do"))
	o := m.IsEdns0()
	if flag(15, "version") {
		o.SetVersion(uint8(1 + r.IntN(255)))
	}
	if flag(6, "option") {
		o.Option = append(o.Option, &dns.EDNS0_LOCAL{Code: 65001, Data: []byte{1, 2, 3}})
	}
	for _, option := range differentialOptions {
		if flag(12, option.what) {
			o.Option = append(o.Option, option.option)
		}
	}
	if flag(6, "flags") {
		o.Hdr.Ttl |= 0x4001
	}
	return how
}
