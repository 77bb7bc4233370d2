package dnsserver_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"directnode/dnsserver"
	"directnode/zones"
)

// The keys of the tests, and a time at which everything is signed.
var (
	tsigSecret = bytes.Repeat([]byte{0x5a}, 32)
	tsigText   = base64.StdEncoding.EncodeToString(tsigSecret)
	tsigAt     = time.Unix(1_700_000_000, 0)
	tsigPeer   = netip.MustParseAddr("192.0.2.77")
)

const (
	tsigName  = "ns2.secondary.example."
	otherName = "ns3.secondary.example."
)

func newKey(t testing.TB, name, algorithm string) *dnsserver.Key {
	t.Helper()
	k, err := dnsserver.NewKey(name, algorithm, tsigSecret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func apexOf(t testing.TB, name string) zones.Name {
	t.Helper()
	n, err := zones.ParseName(name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// newPeers lets the first key have direct.example.org from anywhere, and the
// second one structure.example from another network.
func newPeers(t testing.TB) *dnsserver.Peers {
	one, two := newKey(t, tsigName, "hmac-sha256"), newKey(t, otherName, "hmac-sha512")
	return dnsserver.NewPeers([]*dnsserver.Key{one, two}, map[zones.Name]dnsserver.Access{
		apexOf(t, "direct.example.org"): {Allow: []dnsserver.Rule{{Key: one}}},
		apexOf(t, "structure.example"):  {Allow: []dnsserver.Rule{{Key: two, Prefix: netip.MustParsePrefix("198.51.100.0/24")}}},
		apexOf(t, "upper.example"): {Primaries: []dnsserver.Primary{
			{Addr: netip.MustParseAddrPort("192.0.2.77:53"), Key: one}}},
	})
}

func withPeers(t testing.TB, tcp bool) dnsserver.Transport {
	return dnsserver.Transport{TCP: tcp, Peers: newPeers(t), Peer: tsigPeer, At: tsigAt}
}

// signed is a message under a key, made by another implementation.
func signed(t testing.TB, m *dns.Msg, name, algorithm, secret string, at time.Time) (packet []byte, mac string) {
	t.Helper()
	m.SetTsig(name, algorithm, 300, at.Unix())
	packet, mac, err := dns.TsigGenerate(m, secret, "", false)
	if err != nil {
		t.Fatal(err)
	}
	return packet, mac
}

func question(name string, qtype uint16) *dns.Msg {
	m := new(dns.Msg)
	m.Id = 0xBEEF
	m.Question = []dns.Question{{Name: name, Qtype: qtype, Qclass: dns.ClassINET}}
	return m
}

func unpack(t testing.TB, b []byte) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatalf("the answer does not parse: %v\n%x", err, b)
	}
	return m
}

func TestAnOrdinaryQueryThatIsSignedHasASignedAnswer(t *testing.T) {
	for _, c := range []struct{ name, algorithm string }{{tsigName, dns.HmacSHA256}, {otherName, dns.HmacSHA512}} {
		for _, size := range []uint16{0, 1232} {
			m := question("Direct.Example.ORG.", dns.TypeSOA)
			if size > 0 {
				m.SetEdns0(size, true)
			}
			packet, mac := signed(t, m, c.name, c.algorithm, tsigText, tsigAt)
			out := dnsserver.Handle(newSet(t), packet, withPeers(t, false))
			answer := unpack(t, out)
			if answer.Rcode != dns.RcodeSuccess || len(answer.Answer) != 1 || answer.IsTsig() == nil {
				t.Fatalf("%s: %s", c.name, answer)
			}
			if (answer.IsEdns0() != nil) != (size > 0) {
				t.Errorf("%s: OPT", c.name)
			}
			if err := dns.TsigVerifyWithProvider(bytes.Clone(out), secretOf(tsigText), mac, false); err != nil && err != dns.ErrTime {
				t.Errorf("%s: %v", c.name, err)
			}
			out[len(out)-20] ^= 1
			if err := dns.TsigVerifyWithProvider(bytes.Clone(out), secretOf(tsigText), mac, false); err != dns.ErrSig {
				t.Errorf("an altered answer: %v", err)
			}
		}
	}
}

// secretOf verifies with one secret, whatever the key's name.
type secretOf string

func (s secretOf) Generate(msg []byte, t *dns.TSIG) ([]byte, error) { return nil, dns.ErrSecret }

func (s secretOf) Verify(msg []byte, t *dns.TSIG) error {
	b, err := hmacOf(string(s), t.Algorithm, msg)
	if err != nil {
		return err
	}
	if hex.EncodeToString(b) != t.MAC {
		return dns.ErrSig
	}
	return nil
}

// TestWhatIsWrongWithASignatureIsSaid is the table of RFC 8945 §5.2 and §5.3.2.
func TestWhatIsWrongWithASignatureIsSaid(t *testing.T) {
	const fine = 0
	set := newSet(t)
	// retouch alters the TSIG record of a finished packet and leaves its MAC.
	retouch := func(packet []byte, change func(*dns.TSIG)) []byte {
		m := unpack(t, packet)
		change(m.IsTsig())
		return pack(t, m)
	}
	// shorten signs with a MAC that is cut.
	shorten := func(packet []byte, size int) []byte {
		return retouch(packet, func(s *dns.TSIG) { s.MAC, s.MACSize = s.MAC[:2*size], uint16(size) })
	}
	sign := func(name, algorithm, secret string, at time.Time) []byte {
		packet, _ := signed(t, question("direct.example.org.", dns.TypeSOA), name, algorithm, secret, at)
		return packet
	}
	good := func() []byte { return sign(tsigName, dns.HmacSHA256, tsigText, tsigAt) }
	foreign := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32))
	for _, c := range []struct {
		what        string
		packet      []byte
		rcode, code int
		mac         bool // the answer is signed
		record      bool // the answer has a TSIG record
	}{
		{"good", good(), dns.RcodeSuccess, fine, true, true},
		{"upper case", sign("NS2.Secondary.Example.", dns.HmacSHA256, tsigText, tsigAt), dns.RcodeSuccess, fine, true, true},
		{"at the edge of the fudge", sign(tsigName, dns.HmacSHA256, tsigText, tsigAt.Add(-300*time.Second)), dns.RcodeSuccess, fine, true, true},
		{"unknown key", sign("nobody.example.", dns.HmacSHA256, tsigText, tsigAt), dns.RcodeNotAuth, dns.RcodeBadKey, false, true},
		{"the key's other algorithm", sign(tsigName, dns.HmacSHA512, tsigText, tsigAt), dns.RcodeNotAuth, dns.RcodeBadKey, false, true},
		{"SHA-1", sign(tsigName, dns.HmacSHA1, tsigText, tsigAt), dns.RcodeNotAuth, dns.RcodeBadKey, false, true},
		{"SHA-384", sign(tsigName, dns.HmacSHA384, tsigText, tsigAt), dns.RcodeNotAuth, dns.RcodeBadKey, false, true},
		{"wrong secret", sign(tsigName, dns.HmacSHA256, foreign, tsigAt), dns.RcodeNotAuth, dns.RcodeBadSig, false, true},
		{"wrong secret and wrong time", sign(tsigName, dns.HmacSHA256, foreign, tsigAt.Add(-time.Hour)), dns.RcodeNotAuth, dns.RcodeBadSig, false, true},
		{"late", sign(tsigName, dns.HmacSHA256, tsigText, tsigAt.Add(-301*time.Second)), dns.RcodeNotAuth, dns.RcodeBadTime, true, true},
		{"early", sign(tsigName, dns.HmacSHA256, tsigText, tsigAt.Add(301*time.Second)), dns.RcodeNotAuth, dns.RcodeBadTime, true, true},
		{"MAC cut in half", shorten(good(), 16), dns.RcodeNotAuth, dns.RcodeBadTrunc, true, true},
		{"MAC cut and late", shorten(sign(tsigName, dns.HmacSHA256, tsigText, tsigAt.Add(-time.Hour)), 16), dns.RcodeNotAuth, dns.RcodeBadTime, true, true},
		{"MAC cut to less than half", shorten(good(), 15), dns.RcodeFormatError, fine, false, false},
		{"no MAC", shorten(good(), 0), dns.RcodeFormatError, fine, false, false},
		{"MAC too long", retouch(good(), func(s *dns.TSIG) { s.MAC += "00"; s.MACSize++ }), dns.RcodeFormatError, fine, false, false},
		{"TTL", retouch(good(), func(s *dns.TSIG) { s.Hdr.Ttl = 1 }), dns.RcodeFormatError, fine, false, false},
		{"class", retouch(good(), func(s *dns.TSIG) { s.Hdr.Class = dns.ClassINET }), dns.RcodeFormatError, fine, false, false},
		{"time altered", retouch(good(), func(s *dns.TSIG) { s.TimeSigned++ }), dns.RcodeNotAuth, dns.RcodeBadSig, false, true},
		{"fudge altered", retouch(good(), func(s *dns.TSIG) { s.Fudge++ }), dns.RcodeNotAuth, dns.RcodeBadSig, false, true},
		{"ID altered on the way", retouch(good(), func(*dns.TSIG) {}), dns.RcodeSuccess, fine, true, true},
		{"original ID altered", retouch(good(), func(s *dns.TSIG) { s.OrigId++ }), dns.RcodeNotAuth, dns.RcodeBadSig, false, true},
		{"not last", notLast(t, good()), dns.RcodeFormatError, fine, false, false},
		{"twice", twice(t, good()), dns.RcodeFormatError, fine, false, false},
	} {
		if c.what == "ID altered on the way" {
			c.packet[0]++
		}
		out := dnsserver.Handle(set, c.packet, withPeers(t, false))
		m := unpack(t, out)
		s := m.IsTsig()
		if m.Rcode != c.rcode || (s != nil) != c.record {
			t.Errorf("%s: %s, TSIG %v; want %s, TSIG %v", c.what, dns.RcodeToString[m.Rcode], s, dns.RcodeToString[c.rcode], c.record)
			continue
		}
		if c.rcode != dns.RcodeSuccess && len(m.Answer)+len(m.Ns) > 0 {
			t.Errorf("%s: records to a query that is not believed", c.what)
		}
		if s == nil {
			continue
		}
		if int(s.Error) != c.code || (s.MACSize > 0) != c.mac {
			t.Errorf("%s: error %s, a MAC of %d octets; want %s, signed %v", c.what, dns.RcodeToString[int(s.Error)], s.MACSize, dns.RcodeToString[c.code], c.mac)
		}
		if c.mac {
			mac := unpack(t, c.packet).IsTsig().MAC
			if want := macOfAnswer(t, out, mac); s.MAC != want {
				t.Errorf("%s: the answer is signed with %s, want %s", c.what, s.MAC, want)
			}
		}
		if c.code == dns.RcodeBadTime { // RFC 8945 §5.2.3
			other, err := hex.DecodeString(s.OtherData)
			if err != nil || len(other) != 6 || binary.BigEndian.Uint64(append([]byte{0, 0}, other...)) != uint64(tsigAt.Unix()) || s.TimeSigned != unpack(t, c.packet).IsTsig().TimeSigned {
				t.Errorf("%s: time %d, other data %s", c.what, s.TimeSigned, s.OtherData)
			}
		}
	}
}

// macOfAnswer is what RFC 8945 §4.3 says of the first answer to a request: the
// other implementation does not look at the signature of an error.
func macOfAnswer(t testing.TB, out []byte, request string) string {
	t.Helper()
	s := unpack(t, out).IsTsig()
	before, err := hex.DecodeString(request)
	if err != nil {
		t.Fatal(err)
	}
	record := make([]byte, 512)
	end, err := dns.PackRR(s, record, 0, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	msg := bytes.Clone(out[:len(out)-end])
	msg[11]--
	name, algorithm := apexOf(t, s.Hdr.Name), apexOf(t, s.Algorithm)
	b := binary.BigEndian.AppendUint16(nil, uint16(len(before)))
	b = append(append(append(b, before...), msg...), name...)
	b = append(append(b, 0, 255, 0, 0, 0, 0), algorithm...)
	b = append(b, byte(s.TimeSigned>>40), byte(s.TimeSigned>>32), byte(s.TimeSigned>>24), byte(s.TimeSigned>>16), byte(s.TimeSigned>>8), byte(s.TimeSigned))
	b = append(b, byte(s.Fudge>>8), byte(s.Fudge), byte(s.Error>>8), byte(s.Error), 0, byte(s.OtherLen))
	other, err := hex.DecodeString(s.OtherData)
	if err != nil {
		t.Fatal(err)
	}
	mac, err := hmacOf(tsigText, s.Algorithm, append(b, other...))
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(mac)
}

func notLast(t testing.TB, packet []byte) []byte {
	m := unpack(t, packet)
	m.Extra = append(m.Extra, &dns.A{Hdr: dns.RR_Header{Name: "x.", Rrtype: dns.TypeA, Class: dns.ClassINET}, A: []byte{192, 0, 2, 1}})
	return pack(t, m)
}

func twice(t testing.TB, packet []byte) []byte {
	m := unpack(t, packet)
	m.Extra = append(m.Extra, m.Extra[0])
	return pack(t, m)
}

func TestOfOtherAlgorithmsNoKeyIsMade(t *testing.T) {
	for _, a := range []string{"hmac-md5.sig-alg.reg.int", "hmac-sha1", "hmac-sha224", "hmac-sha384", "hmac-sha256-128", "gss-tsig", ""} {
		if _, err := dnsserver.NewKey(tsigName, a, tsigSecret); err == nil {
			t.Errorf("%s is taken", a)
		}
	}
}

// FuzzTSIG: whatever stands in a packet, it is nobody's unless the key made it.
func FuzzTSIG(f *testing.F) {
	set, transport := newSet(f), withPeers(f, true)
	good, _ := signed(f, question("direct.example.org.", dns.TypeAXFR), tsigName, dns.HmacSHA256, tsigText, tsigAt)
	f.Add(good)
	f.Add(notLast(f, good))
	f.Add(twice(f, good))
	plain, _ := question("direct.example.org.", dns.TypeAXFR).Pack()
	f.Add(plain)
	notify := question("upper.example.", dns.TypeSOA)
	notify.Opcode, notify.Authoritative = dns.OpcodeNotify, true
	told, _ := signed(f, notify, tsigName, dns.HmacSHA256, tsigText, tsigAt)
	f.Add(told)
	f.Fuzz(func(t *testing.T, packet []byte) {
		var r dnsserver.Responder
		out := r.Append(nil, set, packet, transport)
		if x := r.Transfer(); x != nil {
			if !signedBy(packet) {
				t.Fatalf("a transfer to a packet that nobody signed\n%x", packet)
			}
			return
		}
		if len(out) > 0 {
			unpack(t, out)
		}
	})
}

// signedBy tells whether another implementation takes the packet's signature.
func signedBy(packet []byte) bool {
	err := dns.TsigVerifyWithProvider(bytes.Clone(packet), secretOf(tsigText), "", false)
	return err == nil || err == dns.ErrTime
}
