package smtpclient_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"directnode/internal/direct"
	"directnode/sta/smtpclient"
)

func mx(list ...any) []*net.MX {
	var out []*net.MX
	for i := 0; i < len(list); i += 2 {
		out = append(out, &net.MX{Pref: uint16(list[i].(int)), Host: list[i+1].(string)})
	}
	return out
}

func TestServersAreTriedInTheOrderOfTheirPreference(t *testing.T) {
	takes := plain("W: MAIL", "S: 250", "W: RCPT", "S: 250", "W: DATA", "S: 354", "DATA", "S: 250", "CLOSE")
	busy := []string{"S: 421 busy", "CLOSE"}
	refuses := plain("W: MAIL", "S: 250", "W: RCPT", "S: 550 no", "W: RSET", "S: 250", "W: QUIT", "S: 221")
	later := plain("W: MAIL", "S: 451 later", "W: QUIT", "S: 221")
	const d = "b.direct.test"
	failure := errors.New("SERVFAIL")
	one, two, three := "192.0.2.1", "192.0.2.2", "192.0.2.3"
	for _, tc := range []struct {
		name    string
		servers map[string][]string // address → script
		zone    zone
		want    string
		tried   []string // addresses at which a connection was made
		asked   string   // hosts whose addresses were asked for
	}{
		{"two preferences", map[string][]string{one: takes, two: takes}, zone{mx: map[string][]*net.MX{d: mx(20, "m2.", 10, "M1.")}, addrs: map[string][]netip.Addr{"m1": at(one), "m2": at(two)}}, ok, []string{one}, "m1"},
		{"the first is busy", map[string][]string{one: busy, two: takes}, zone{mx: map[string][]*net.MX{d: mx(10, "m1.", 20, "m2.")}, addrs: map[string][]netip.Addr{"m1": at(one), "m2": at(two)}}, ok, []string{one, two}, "m1 m2"},
		{"the first has a second address", map[string][]string{one: busy, two: takes}, zone{mx: map[string][]*net.MX{d: mx(10, "m1.")}, addrs: map[string][]netip.Addr{"m1": at(one, two)}}, ok, []string{one, two}, "m1"},
		{"nobody listens at the first", map[string][]string{two: takes}, zone{mx: map[string][]*net.MX{d: mx(10, "m1.", 20, "m2.")}, addrs: map[string][]netip.Addr{"m1": at(three), "m2": at(two)}}, ok, []string{two}, "m1 m2"},
		{"the first has no address", map[string][]string{two: takes}, zone{mx: map[string][]*net.MX{d: mx(10, "m1.", 20, "m2.")}, addrs: map[string][]netip.Addr{"m2": at(two)}}, ok, []string{two}, "m1 m2"},
		{"the first refuses the recipient", map[string][]string{one: refuses, two: takes}, zone{mx: map[string][]*net.MX{d: mx(10, "m1.", 20, "m2.")}, addrs: map[string][]netip.Addr{"m1": at(one), "m2": at(two)}}, "permanent RCPT", []string{one}, "m1"},
		{"the first wants us later", map[string][]string{one: later, two: takes}, zone{mx: map[string][]*net.MX{d: mx(10, "m1.", 20, "m2.")}, addrs: map[string][]netip.Addr{"m1": at(one), "m2": at(two)}}, "temporary MAIL", []string{one}, "m1"},
		{"all are busy", map[string][]string{one: busy, two: busy}, zone{mx: map[string][]*net.MX{d: mx(10, "m1.", 20, "m2.")}, addrs: map[string][]netip.Addr{"m1": at(one), "m2": at(two)}}, "temporary greeting", []string{one, two}, "m1 m2"},
		{"no MX but an address", map[string][]string{one: takes}, zone{addrs: map[string][]netip.Addr{d: at(one)}}, ok, []string{one}, d},
		{"null MX", nil, zone{mx: map[string][]*net.MX{d: mx(0, ".")}, addrs: map[string][]netip.Addr{d: at(one)}}, "permanent lookup", nil, ""},
		{"neither MX nor address", nil, zone{}, "permanent lookup", nil, d},
		{"no exchanger has an address", nil, zone{mx: map[string][]*net.MX{d: mx(10, "m1.", 20, "m2.")}}, "permanent lookup", nil, "m1 m2"},
		{"one has none, the other is unknown", nil, zone{mx: map[string][]*net.MX{d: mx(10, "m1.", 20, "m2.")}, fail: map[string]error{"m1": failure}}, "temporary lookup", nil, "m1 m2"},
		{"MX cannot be looked up", nil, zone{fail: map[string]error{"MX " + d: failure}, addrs: map[string][]netip.Addr{d: at(one)}}, "temporary lookup", nil, ""},
		{"address cannot be looked up", nil, zone{fail: map[string]error{d: failure}}, "temporary lookup", nil, d},
		{"we are the second", map[string][]string{one: takes}, zone{mx: map[string][]*net.MX{d: mx(10, "m1.", 20, "ME.a.direct.test.", 30, "m3.")}, addrs: map[string][]netip.Addr{"m1": at(one), "m3": at(three)}}, ok, []string{one}, "m1"},
		{"we are the first", nil, zone{mx: map[string][]*net.MX{d: mx(10, "me.a.direct.test.", 10, "m2.", 30, "m3.")}}, "permanent lookup", nil, ""},
		{"too many", nil, zone{mx: map[string][]*net.MX{d: many(50)}}, "permanent lookup", nil, "h0 h1 h2 h3 h4 h5 h6 h7 h8 h9"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			servers := world{}
			for ip, script := range tc.servers {
				servers[ip+":25"] = newFake(nil, append([]string{"MARK"}, script...))
			}
			z := tc.zone
			var errs []error
			synctest.Test(t, func(t *testing.T) {
				c := smtpclient.New(smtpclient.Options{Lookup: &z, Self: []string{"me.a.direct.test"}, Dial: servers.dial})
				errs = c.Deliver(t.Context(), direct.Address{}, addrs(t, "bob@"+d), body("x"))
			})
			if got := kinds(t, errs); got != tc.want {
				t.Errorf("got %s (%v), want %s", got, errs, tc.want)
			}
			var tried []string
			for _, ip := range []string{one, two, three} {
				if f := servers[ip+":25"]; f != nil && len(f.log()) > 0 {
					f.verify(t)
					tried = append(tried, ip)
				}
			}
			if !slices.Equal(tried, tc.tried) {
				t.Errorf("tried %v, want %v", tried, tc.tried)
			}
			if got := strings.Join(z.asked, " "); got != tc.asked {
				t.Errorf("asked for %q, want %q", got, tc.asked)
			}
		})
	}
}

func many(n int) []*net.MX {
	var list []*net.MX
	for i := range n {
		list = append(list, &net.MX{Host: fmt.Sprintf("h%d.", i), Pref: uint16(i)})
	}
	return list
}

func TestEqualPreferencesShareTheLoad(t *testing.T) {
	first := map[string]int{}
	for range 100 {
		z := zone{mx: map[string][]*net.MX{"b.direct.test": mx(10, "m1.", 10, "m2.")}}
		smtpclient.New(smtpclient.Options{Lookup: &z}).Deliver(t.Context(), direct.Address{}, addrs(t, "bob@b.direct.test"), body("x"))
		first[z.asked[0]]++
	}
	if first["m1"] == 0 || first["m2"] == 0 {
		t.Errorf("%v", first)
	}
}

func TestDomainsAreDeliveredApart(t *testing.T) {
	b := newFake(nil, plain("W: MAIL", "S: 250", "W: RCPT TO:<bob@b.", "S: 250", "W: RCPT TO:<eve@b.", "S: 250", "W: DATA", "S: 354", "DATA", "S: 250", "W: QUIT", "S: 221"))
	servers := world{"192.0.2.1:2525": b, "192.0.2.2:2525": newFake(nil, []string{"S: 421 busy", "CLOSE"})}
	z := &zone{addrs: map[string][]netip.Addr{"b.direct.test": at("192.0.2.1"), "c.direct.test": at("192.0.2.2")}}
	synctest.Test(t, func(t *testing.T) {
		c := smtpclient.New(smtpclient.Options{Lookup: z, Port: 2525, Dial: servers.dial})
		errs := c.Deliver(t.Context(), direct.Address{}, addrs(t, "bob@b.direct.test", "cyd@c.direct.test", "eve@B.direct.test", "dan@d.direct.test"), body("x"))
		if got, want := kinds(t, errs), "<nil>, temporary greeting, <nil>, permanent lookup"; got != want {
			t.Errorf("got %s (%v), want %s", got, errs, want)
		}
	})
	b.verify(t)
	if n := len(b.log()); n != 7 {
		t.Errorf("the server saw %q", b.log())
	}
}

func TestTotalBudgetHoldsForAllHosts(t *testing.T) {
	servers := world{}
	ips := []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}
	for _, ip := range ips {
		servers[ip+":25"] = newFake(nil, []string{"HANG"})
	}
	z := &zone{addrs: map[string][]netip.Addr{"b.direct.test": at(ips...)}}
	for total, want := range map[time.Duration]time.Duration{
		0:               15 * time.Minute, // three greetings at five minutes
		7 * time.Minute: 7 * time.Minute,
	} {
		synctest.Test(t, func(t *testing.T) {
			c := smtpclient.New(smtpclient.Options{Lookup: z, Dial: servers.dial, Timeouts: smtpclient.Timeouts{Total: total}})
			start := time.Now()
			errs := c.Deliver(t.Context(), direct.Address{}, addrs(t, "bob@b.direct.test"), body("x"))
			if got := kinds(t, errs); got != "temporary greeting" || time.Since(start) != want {
				t.Errorf("%s after %v, want %v", got, time.Since(start), want)
			}
		})
	}
}
