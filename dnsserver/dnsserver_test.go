package dnsserver_test

import (
	"encoding/binary"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"directnode/dnsserver"
	"directnode/internal/direct"
	"directnode/zones"
)

// texts are the zones that the tests answer for; the example files are those
// that package zones documents.
func texts(t testing.TB) map[string]string {
	t.Helper()
	return map[string]string{
		"direct.example.org": exampleText(t, "clinic") + aliasOfBob,
		"structure.example":  exampleText(t, "structure"),
		"upper.example":      minimum + "lower NS ns.lower\nns.lower A 192.0.2.7\n" + long,
		"lower.upper.example": minimum + "www A 192.0.2.8\n@ DS 1 8 2 " + strings.Repeat("00", 32) + "\n" +
			"over CNAME mail.structure.example.\n",
	}
}

// exampleText is one of the texts that package zones documents.
func exampleText(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("../zones/examples/" + name + ".zone")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const (
	minimum    = "$TTL 3600\n@ SOA ns.elsewhere.example. hostmaster 1 3600 600 86400 300\n@ NS ns.elsewhere.example.\n"
	aliasOfBob = "\nrobert IN CNAME bob\n"
)

// long is a chain longer than any answer follows, circles, and RRsets of several sizes.
var long = func() string {
	var b strings.Builder
	for i := range 12 {
		b.WriteString("c" + string(rune('a'+i)) + " CNAME c" + string(rune('b'+i)) + "\n")
	}
	b.WriteString("cm A 192.0.2.9\n")
	for _, n := range []int{2, 4, 8, 200} {
		for i := range n {
			b.WriteString("txt" + strconv.Itoa(n) + " TXT " + strings.Repeat("z", 200) + strconv.Itoa(i) + "\n")
		}
	}
	for i := range 30 {
		b.WriteString("mx MX " + strconv.Itoa(i) + " h" + strconv.Itoa(i) + "\nh" + strconv.Itoa(i) + " A 192.0.2." + strconv.Itoa(i) + "\nh" + strconv.Itoa(i) + " AAAA 2001:db8::" + strconv.Itoa(i) + "\n")
	}
	b.WriteString("tight DNAME a-longer-name-than-the-one-it-stands-for\nspiral DNAME s.spiral\nr1 DNAME r2\nr2 DNAME r1\n")
	for i := range 13 {
		b.WriteString("cut NS ns" + strconv.Itoa(i) + ".a-rather-long-name-for-a-server.cut\nns" + strconv.Itoa(i) + ".a-rather-long-name-for-a-server.cut AAAA 2001:db8::" + strconv.Itoa(i) + "\n")
	}
	return b.String()
}()

func newSet(t testing.TB) *zones.Set { return build(t, texts(t)) }

func oneZone(t testing.TB, origin, text string) *zones.Set {
	return build(t, map[string]string{origin: text})
}

func build(t testing.TB, texts map[string]string) *zones.Set {
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
		all = append(all, p)
	}
	s, err := zones.BuildParsed(7, zones.Options{}, all...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var (
	overUDP = dnsserver.Transport{}
	overTCP = dnsserver.Transport{TCP: true}
)

// ask packs a question: EDNS with that size if size > 0.
func ask(t testing.TB, name string, qtype uint16, size uint16) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.Id = 0xBEEF
	m.RecursionDesired = true
	m.Question = []dns.Question{{Name: name, Qtype: qtype, Qclass: dns.ClassINET}}
	if size > 0 {
		m.SetEdns0(size, false)
	}
	return pack(t, m)
}

func pack(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// reply asks and reads the answer, holding it against what is true of all.
func reply(t testing.TB, set *zones.Set, query []byte, tr dnsserver.Transport) *dns.Msg {
	t.Helper()
	b := dnsserver.Handle(set, query, tr)
	if b == nil {
		t.Fatalf("silence")
	}
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatalf("answer does not parse: %v\n%x", err, b)
	}
	if why := faulty(query, b, tr); why != "" {
		t.Fatalf("%s\n%s", why, m)
	}
	return m
}

// faulty tells what is wrong with an answer whatever it answers.
func faulty(query, answer []byte, tr dnsserver.Transport) string {
	m := new(dns.Msg)
	if err := m.Unpack(answer); err != nil {
		return "does not parse: " + err.Error()
	}
	size := 65535
	if !tr.TCP {
		size = 512
		q := new(dns.Msg)
		if err := q.Unpack(query); err == nil && q.IsEdns0() != nil {
			size = min(1232, max(512, int(q.IsEdns0().UDPSize())))
		} else if err != nil && m.IsEdns0() != nil {
			size = 1232
		}
	}
	switch {
	case len(answer) > size:
		return "larger than the client takes"
	case binary.BigEndian.Uint16(answer) != binary.BigEndian.Uint16(query):
		return "another ID"
	case !m.Response:
		return "no answer"
	case m.RecursionAvailable || m.Zero || m.AuthenticatedData || m.CheckingDisabled:
		return "RA, Z, AD or CD set"
	case m.RecursionDesired != (query[2]&1 != 0):
		return "RD not copied"
	case m.Opcode != int(query[2]>>3&0xF):
		return "another opcode"
	case m.Truncated && len(m.Answer)+len(m.Ns) > 0:
		return "TC with records"
	case len(m.Question) == 1 && string(answer[12:questionEnd(answer)]) != string(query[12:questionEnd(query)]):
		return "question not echoed"
	}
	return ""
}

func questionEnd(b []byte) int {
	at := 12
	for at < len(b) && b[at] != 0 {
		at += 1 + int(b[at])
	}
	return min(at+5, len(b))
}
