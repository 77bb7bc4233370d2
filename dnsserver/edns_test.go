package dnsserver_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"directnode/dnsserver"
)

// TestRFC8906Probes asks the eighteen questions of RFC 8906 §8, by which the
// servers are found that break resolvers, and holds each answer whole.
func TestRFC8906Probes(t *testing.T) {
	type want struct {
		rcode   int
		soa     bool // the answer is there
		opt, do bool
		tc      bool
	}
	plain, edns := want{soa: true}, want{soa: true, opt: true}
	badVersion := want{rcode: dns.RcodeBadVers, opt: true}
	option := func(code uint16) dns.EDNS0 { return &dns.EDNS0_LOCAL{Code: code, Data: nil} }
	set := newSet(t)
	for _, c := range []struct {
		section, what string
		tcp           bool
		change        func(m *dns.Msg)
		wire          func(b []byte)
		want          want
	}{
		{"8.1.1", "a zone of ours", false, nil, nil, plain},
		{"8.1.2", "an unknown type", false, func(m *dns.Msg) { m.Question[0].Qtype = 1000 }, nil, want{}},
		{"8.1.3.1", "CD=1", false, func(m *dns.Msg) { m.CheckingDisabled = true }, nil, plain},
		{"8.1.3.2", "AD=1", false, func(m *dns.Msg) { m.AuthenticatedData = true }, nil, plain},
		{"8.1.3.3", "the reserved bit", false, func(m *dns.Msg) { m.Zero = true }, nil, plain},
		{"8.1.3.4", "RD=1", false, func(m *dns.Msg) { m.RecursionDesired = true }, nil, plain},
		{"8.1.4", "an unknown opcode", false, nil, func(b []byte) { b[2] |= 15 << 3 }, want{rcode: dns.RcodeNotImplemented}},
		{"8.1.5", "TCP", true, nil, nil, plain},
		{"8.2.1", "EDNS", false, func(m *dns.Msg) { m.SetEdns0(4096, false) }, nil, edns},
		{"8.2.2", "version 1", false, func(m *dns.Msg) { m.SetEdns0(4096, false).IsEdns0().SetVersion(1) }, nil, badVersion},
		{"8.2.3", "an unknown option", false, func(m *dns.Msg) { m.SetEdns0(4096, false).IsEdns0().Option = []dns.EDNS0{option(100)} }, nil, edns},
		{"8.2.4", "an unknown flag", false, func(m *dns.Msg) { m.SetEdns0(4096, false).IsEdns0().Hdr.Ttl |= 0x40 }, nil, edns},
		{"8.2.5", "version 1 with an unknown flag", false, func(m *dns.Msg) { m.SetEdns0(4096, false).IsEdns0().Hdr.Ttl |= 1<<16 | 0x40 }, nil, badVersion},
		{"8.2.6", "version 1 with an unknown option", false, func(m *dns.Msg) {
			o := m.SetEdns0(4096, false).IsEdns0()
			o.SetVersion(1)
			o.Option = []dns.EDNS0{option(100)}
		}, nil, badVersion},
		{"8.2.7", "an answer that does not fit, with DO=1", false, func(m *dns.Msg) {
			m.Question[0] = dns.Question{Name: "txt4.upper.example.", Qtype: dns.TypeTXT, Qclass: dns.ClassINET}
			m.SetEdns0(512, true)
		}, nil, want{opt: true, do: true, tc: true}},
		{"8.2.8", "DO=1", false, func(m *dns.Msg) { m.SetEdns0(4096, true) }, nil, want{soa: true, opt: true, do: true}},
		{"8.2.9", "version 1 with DO=1", false, func(m *dns.Msg) { m.SetEdns0(4096, true).IsEdns0().SetVersion(1) }, nil, want{rcode: dns.RcodeBadVers, opt: true, do: true}},
		{"8.2.10", "many known options", false, func(m *dns.Msg) {
			m.SetEdns0(4096, false).IsEdns0().Option = []dns.EDNS0{
				&dns.EDNS0_NSID{Code: dns.EDNS0NSID}, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: clientCookie},
				&dns.EDNS0_EXPIRE{Code: dns.EDNS0EXPIRE, Empty: true}, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, Address: net.IPv4zero},
			}
		}, nil, edns},
	} {
		m := new(dns.Msg)
		m.SetQuestion("direct.example.org.", dns.TypeSOA)
		m.RecursionDesired = false
		if c.change != nil {
			c.change(m)
		}
		q := pack(t, m)
		if c.wire != nil {
			c.wire(q)
		}
		tr := stranger()
		tr.TCP = c.tcp
		r := reply(t, set, q, tr)
		got := want{rcode: r.Rcode, soa: len(r.Answer) == 1 && r.Authoritative, tc: r.Truncated}
		cookies := 0
		if o := r.IsEdns0(); o != nil {
			got.opt, got.do = true, o.Do()
			if cookieIn(r) != "" {
				cookies = 1
			}
			if o.Version() != 0 || o.Hdr.Ttl&0x7FFF != 0 || len(o.Option) != cookies {
				t.Errorf("§%s %s: %v", c.section, c.what, o)
			}
		}
		if got != c.want || cookies == 1 != (c.section == "8.2.10") {
			t.Errorf("§%s %s: %+v, want %+v", c.section, c.what, got, c.want)
		}
	}
}

// options are the options of an answer, by code.
func optionCodes(m *dns.Msg) (codes []uint16) {
	if o := m.IsEdns0(); o != nil {
		for _, option := range o.Option {
			codes = append(codes, option.Option())
		}
	}
	return codes
}

// TestKeepAliveIsToldToWhoAsksByTCP (RFC 7828 §3.2, §3.3).
func TestKeepAliveIsToldToWhoAsksByTCP(t *testing.T) {
	set := newSet(t)
	tr := stranger()
	tr.Idle = 10 * time.Second
	raw := func(data ...byte) []byte {
		m := new(dns.Msg)
		m.SetQuestion("direct.example.org.", dns.TypeSOA)
		m.SetEdns0(1232, false).IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_LOCAL{Code: 11, Data: data}}
		return pack(t, m)
	}
	for _, c := range []struct {
		what string
		q    []byte
		tcp  bool
		idle time.Duration
		want uint16
	}{
		{"asked by TCP", raw(), true, 10 * time.Second, 100},
		{"asked by UDP", raw(), false, 10 * time.Second, 0},
		{"not asked", ask(t, "direct.example.org.", dns.TypeSOA, 1232), true, 10 * time.Second, 0},
		{"without EDNS", ask(t, "direct.example.org.", dns.TypeSOA, 0), true, 10 * time.Second, 0},
		{"a client that names a time", raw(0, 100), true, 10 * time.Second, 0},
		{"longer than the field", raw(), true, 3 * time.Hour, 65535},
		{"where nothing is said", raw(), true, 0, 0},
	} {
		tr.TCP, tr.Idle = c.tcp, c.idle
		m := reply(t, set, c.q, tr)
		var got uint16
		if o := m.IsEdns0(); o != nil && len(o.Option) == 1 {
			got = o.Option[0].(*dns.EDNS0_TCP_KEEPALIVE).Timeout
		}
		if got != c.want || len(m.Answer) != 1 {
			t.Errorf("%s: %d, want %d; %s", c.what, got, c.want, show(m))
		}
	}
}

func TestKeepAliveIsTheServersIdleTime(t *testing.T) {
	addr := start(t, fixed(newSet(t)), dnsserver.Options{Limits: dnsserver.Limits{Idle: 7 * time.Second}})
	m := new(dns.Msg)
	m.SetQuestion("direct.example.org.", dns.TypeSOA)
	m.SetEdns0(1232, false).IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_TCP_KEEPALIVE{Code: 11}, &dns.EDNS0_COOKIE{Code: 10, Cookie: clientCookie}}
	r, _, err := (&dns.Client{Net: "tcp"}).Exchange(m, addr)
	if err != nil || !slices.Equal(optionCodes(r), []uint16{10, 11}) || r.IsEdns0().Option[1].(*dns.EDNS0_TCP_KEEPALIVE).Timeout != 70 {
		t.Errorf("%v, %v", r, err)
	}
}

// TestOptionsOfAnotherVersionAreNotRead: not even a COOKIE that cannot be one.
func TestOptionsOfAnotherVersionAreNotRead(t *testing.T) {
	q := askWith(t, "direct.example.org.", dns.TypeSOA, 1232, "ab")
	q[questionEnd(q)+6] = 1 // version, behind owner, type, size and extended code
	if m := reply(t, newSet(t), q, stranger()); m.Rcode != dns.RcodeBadVers || len(m.IsEdns0().Option) != 0 {
		t.Errorf("%v", m)
	}
}

// FuzzEDNSOptions puts anything at all into the OPT record of a good query.
func FuzzEDNSOptions(f *testing.F) {
	set := newSet(f)
	tr, cookie := visitor(f)
	option := func(code uint16, data ...byte) []byte {
		b := binary.BigEndian.AppendUint16(nil, code)
		return append(binary.BigEndian.AppendUint16(b, uint16(len(data))), data...)
	}
	f.Add([]byte(nil), uint16(1232), uint32(0), uint8(0))
	f.Add(option(10, unhex(f, clientCookie)...), uint16(1232), uint32(1<<15), uint8(1))
	f.Add(option(10, unhex(f, cookie)...), uint16(512), uint32(0x7FFF), uint8(2))
	f.Add(append(option(11), option(3)...), uint16(0), uint32(1<<16), uint8(3))
	f.Add(option(10, 1, 2, 3), uint16(65535), uint32(0xFFFFFFFF), uint8(4))
	f.Add([]byte{0, 10, 0, 9, 1}, uint16(1232), uint32(0), uint8(5))
	f.Fuzz(func(t *testing.T, options []byte, size uint16, flags uint32, how uint8) {
		name := []string{"bob.direct.example.org.", "txt4.upper.example.", "nobody.direct.example.org."}[how%3]
		q := ask(t, name, []uint16{dns.TypeCERT, dns.TypeTXT, dns.TypeA}[how%3], 512)
		if len(options) > 2000 {
			return
		}
		opt := q[questionEnd(q):]
		binary.BigEndian.PutUint16(opt[3:], size)
		binary.BigEndian.PutUint32(opt[5:], flags)
		binary.BigEndian.PutUint16(opt[9:], uint16(len(options)))
		q = append(q, options...)

		tr.TCP, tr.Idle = how&8 != 0, 10*time.Second
		a := dnsserver.Handle(set, q, tr)
		if why := faulty(q, a, tr); why != "" {
			t.Fatalf("%s\n%x\n%x", why, q, a)
		}
		m := new(dns.Msg)
		if err := m.Unpack(a); err != nil {
			t.Fatal(err)
		}
		proved := tr.TCP || bytes.Contains(q, unhex(t, cookie))
		if !proved && len(a) > 512 || !proved && how%3 == 0 && len(a) > len(q)+16 {
			t.Fatalf("%d octets to an address that proved nothing, for %d\n%x", len(a), len(q), q)
		}
		for _, code := range optionCodes(m) {
			if code != 10 && (code != 11 || !tr.TCP) || !bytes.Contains(options, []byte{0, byte(code)}) {
				t.Fatalf("option %d in an answer to %x", code, q)
			}
		}
		if o := m.IsEdns0(); o != nil && (o.Hdr.Ttl&0x7FFF != 0 || o.Version() != 0 || o.UDPSize() != 1232) {
			t.Fatalf("%v", o)
		}
	})
}
