package dnsserver_test

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"directnode/dnsserver"
)

// longName is a name of 255 octets below an origin.
func longName(origin string) string {
	l63 := strings.Repeat("l", 63)
	for n := 63; ; n-- {
		name := strings.Join([]string{strings.Repeat("m", n), l63, l63, l63, origin}, ".")
		if _, ok := dns.IsDomainName(name); ok && len(name)+1 <= 255 {
			return name
		}
	}
}

// TestATSIGErrorIsNoAmplifier: the name of a key that nobody knows, written in two
// octets as a pointer to the question, comes back whole. The address of the one
// who asked is not proved.
func TestATSIGErrorIsNoAmplifier(t *testing.T) {
	set := newSet(t)
	tr := withPeers(t, false)
	for _, size := range []uint16{0, 512, 4096} {
		q := ask(t, longName("example."), dns.TypeSOA, size)
		rdata := []byte("\x0bhmac-sha256\x00")
		rdata = append48(rdata, uint64(tsigAt.Unix()))
		rdata = append(rdata, 1, 44, 0, 0, 0xBE, 0xEF, 0, 0, 0, 0) // fudge, no MAC, ID, error, no other data
		q = append(q, 0xC0, 12, 0, byte(dns.TypeTSIG), 0, byte(dns.ClassANY), 0, 0, 0, 0, 0, byte(len(rdata)))
		q = append(q, rdata...)
		binary.BigEndian.PutUint16(q[10:], binary.BigEndian.Uint16(q[10:])+1)
		a := dnsserver.Handle(set, q, tr)
		m := unpack(t, a)
		if m.Rcode != dns.RcodeNotAuth {
			t.Errorf("%s", m)
		}
		if factor := float64(len(a)+28) / float64(len(q)+28); len(a) > 512 || factor > 1.25 {
			t.Errorf("EDNS %d: %d octets for %d, %.2f×", size, len(a), len(q), factor)
		}
	}
}

func append48(b []byte, v uint64) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, uint16(v>>32)), uint32(v))
}

// TestForgedQuestionsTakeNoDenialsFromTheProved: who forges the address of a
// resolver and asks for names that do not exist must not keep the resolver from
// having an absence proved, by TCP or with a cookie.
func TestForgedQuestionsTakeNoDenialsFromTheProved(t *testing.T) {
	set := buildSigned(t, texts(t), modes[0])
	peer := netip.MustParseAddr("192.0.2.55")
	cookies := dnsserver.NewCookies([16]byte{1}, signedAt)
	tr := dnsserver.Transport{Signing: dnsserver.NewSigning(), Peer: peer, At: signedAt, Cookies: cookies}
	for i := range 20_000 { // more than all clients together get in a moment
		dnsserver.Handle(set, askDO(t, "n"+strconv.Itoa(i)+".direct.example.org.", dns.TypeA, false), tr)
	}
	m := new(dns.Msg)
	if err := m.Unpack(dnsserver.Handle(set, askDO(t, "last.direct.example.org.", dns.TypeA, false), tr)); err != nil || !m.Truncated {
		t.Errorf("the flood is not bounded: %v\n%s", err, m)
	}
	tr.TCP = true
	for _, name := range []string{"absent.direct.example.org.", "missing.direct.example.org."} {
		if m := reply(t, set, askDO(t, name, dns.TypeA, false), tr); m.Rcode != dns.RcodeSuccess || len(m.Ns) == 0 {
			t.Errorf("%s by TCP: %s", name, m)
		}
	}
}

// TestWhoIsLimitedGetsWholeMessages: an error in a TSIG record is as small as an
// answer gets, and stays what it is when its address is over its share.
func TestWhoIsLimitedGetsWholeMessages(t *testing.T) {
	set := newSet(t)
	peers := newPeers(t)
	d := dnsserver.New(fixed(set), dnsserver.Options{Limits: dnsserver.Limits{Rate: 1, Exempt: []netip.Prefix{}}, Peers: func() *dnsserver.Peers { return peers }}).Desk()
	for _, key := range []string{tsigName, "nobody.example."} {
		for _, qtype := range []uint16{dns.TypeAXFR, dns.TypeSOA, dns.TypeTKEY} {
			q, _ := signed(t, question("direct.example.org.", qtype), key, dns.HmacSHA256, tsigText, tsigAt)
			for i := range 10 {
				a := d.Answer(nil, q, udpFrom("198.51.100.9"), tsigAt)
				m := new(dns.Msg)
				if err := m.Unpack(a); err != nil || m.IsTsig() == nil {
					t.Fatalf("%s, key %s, answer %d: %v\n%s\n%x", dns.Type(qtype), key, i, err, m, a)
				}
			}
		}
	}
}
