package dnsserver_test

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"directnode/dnsserver"
)

// askByTCP sends count queries for a name by one TCP connection, so that one reader
// has them all.
func askByTCP(t *testing.T, addr, name string, qtype uint16, count int) {
	t.Helper()
	c, err := (&dns.Client{Net: "tcp"}).Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range count {
		m := new(dns.Msg)
		m.SetQuestion(name, qtype)
		if err := c.WriteMsg(m); err != nil {
			t.Fatal(err)
		}
		if _, err := c.ReadMsg(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTheQueryLogSamplesAndNamesNobody: nothing is logged unless the operator
// says so; then one of N queries is, and the name only if he asks for it.
func TestTheQueryLogSamplesAndNamesNobody(t *testing.T) {
	const name = "bob.direct.example.org."
	for _, c := range []struct {
		log   dnsserver.QueryLog
		lines int
		named bool
	}{
		{dnsserver.QueryLog{}, 0, false},
		{dnsserver.QueryLog{Every: 10}, 3, false},
		{dnsserver.QueryLog{Every: 1, Names: true}, 30, true},
		{dnsserver.QueryLog{Every: 31, Names: true}, 0, false},
	} {
		t.Run(fmt.Sprint(c.log), func(t *testing.T) {
			var logged lockedBuffer
			addr := start(t, fixed(newSet(t)), dnsserver.Options{QueryLog: c.log, Log: slog.New(slog.NewTextHandler(&logged, nil))})
			askByTCP(t, addr, name, dns.TypeCERT, 30)
			lines := logged.String()
			if n := strings.Count(lines, "dns query"); n != c.lines {
				t.Errorf("%d lines, want %d", n, c.lines)
			}
			if got := strings.Contains(lines, "bob"); got != c.named {
				t.Errorf("named: %v\n%s", got, lines)
			}
			if strings.Contains(lines, "127.0.0.1") {
				t.Errorf("an address is in the log:\n%s", lines)
			}
			if c.lines > 0 && !strings.Contains(lines, `transport=tcp network=127.0.0.0/24`) || c.lines > 0 && !strings.Contains(lines, "type=CERT") || c.lines > 0 && !strings.Contains(lines, "rcode=NOERROR") {
				t.Errorf("a line says too little:\n%s", lines)
			}
		})
	}
}

func TestTheQueryLogChangesWhileItRuns(t *testing.T) {
	var logged lockedBuffer
	server := dnsserver.New(fixed(newSet(t)), dnsserver.Options{Log: slog.New(slog.NewTextHandler(&logged, nil))})
	addr := serve(t, server)
	askByTCP(t, addr, "bob.direct.example.org.", dns.TypeMX, 5)
	server.SetQueryLog(dnsserver.QueryLog{Every: 1})
	askByTCP(t, addr, "bob.direct.example.org.", dns.TypeMX, 5)
	server.SetQueryLog(dnsserver.QueryLog{})
	askByTCP(t, addr, "bob.direct.example.org.", dns.TypeMX, 5)
	if n := strings.Count(logged.String(), "dns query"); n != 5 {
		t.Errorf("%d lines", n)
	}
}

func TestTypesAreCounted(t *testing.T) {
	server := dnsserver.New(fixed(newSet(t)), dnsserver.Options{})
	addr := serve(t, server)
	for i, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeANY, dns.TypeCERT, dns.TypeDNSKEY, dns.TypeDS, dns.TypeMX, dns.TypeNS, dns.TypeSOA, dns.TypeSRV, dns.TypeTXT, dns.TypeCAA} {
		askByTCP(t, addr, "direct.example.org.", qtype, i+1)
	}
	eventually(t, "not all of 78 queries were counted", func() bool { return server.Stats().TCP == 78 })
	s := server.Stats()
	for name, want := range map[string]uint64{"a": 1, "aaaa": 2, "any": 3, "cert": 4, "dnskey": 5, "ds": 6, "mx": 7, "ns": 8, "soa": 9, "srv": 10, "txt": 11, "other": 12} {
		if s.Types[name] != want {
			t.Errorf("%s: %d, want %d", name, s.Types[name], want)
		}
	}
}

// begin opens a connection and begins a query, without which a system may keep
// the connection to itself.
func begin(t *testing.T, addr string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := c.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
}

func TestConnectionsAreCounted(t *testing.T) {
	server := dnsserver.New(fixed(newSet(t)), dnsserver.Options{Limits: dnsserver.Limits{TCPPerAddress: 2, Exempt: []netip.Prefix{}}})
	addr := serve(t, server)
	for range 3 {
		begin(t, addr)
	}
	eventually(t, "two connections stay and one goes", func() bool {
		s := server.Stats()
		return s.Open == 2 && s.Refused == 1
	})
	server = dnsserver.New(fixed(newSet(t)), dnsserver.Options{Limits: dnsserver.Limits{TCPTotal: 1, Exempt: []netip.Prefix{}}})
	addr = serve(t, server)
	for range 2 {
		begin(t, addr)
	}
	eventually(t, "one connection makes room for the other", func() bool {
		s := server.Stats()
		return s.Open == 1 && s.Evicted == 1
	})
}
