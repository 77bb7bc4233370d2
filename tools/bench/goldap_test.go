package main

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// plainServer runs the plain gldap server in the test itself.
func plainServer(t *testing.T, p *pool, names int) netip.AddrPort {
	t.Helper()
	addr, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	s, err := gldapOf(p, names)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(addr.String()) }()
	t.Cleanup(func() {
		if err := errors.Join(s.Stop(), <-ended); err != nil {
			t.Error(err)
		}
	})
	for {
		c, err := net.Dial("tcp", addr.String())
		if err == nil {
			c.Close()
			return addr
		}
		select {
		case err := <-ended:
			t.Fatal(err)
		case <-time.After(pollPause):
		}
	}
}

// TestThePlainServer: it gives the right certificates to both clients.
func TestThePlainServer(t *testing.T) {
	p := testPool(t, 1199)
	addr := plainServer(t, p, 100)
	for _, i := range []int{0, 99} {
		if err := directoryHas(addr, i, p.certificate(i, 0)); err != nil {
			t.Error(err)
		}
	}
	if err := directoryHas(addr, 100, p.certificate(100, 0)); !errors.Is(err, errEntries) {
		t.Errorf("an owner that is not there: %v", err)
	}
	r, err := goClient{address: addr.String(), names: 100, size: 1199}.run(4, 50*time.Millisecond)
	if err != nil || r.valid() != nil || r.P50 <= 0 || r.P99 < r.P50 {
		t.Errorf("go-ldap: %+v, %v, %v", r, err, r.valid())
	}
	for name, g := range map[string]goClient{"half are missing": {names: 200, size: 1199}, "another size": {names: 100, size: 1198}} {
		g.address = addr.String()
		if r, err := g.run(2, 50*time.Millisecond); err != nil || r.valid() == nil {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	if v, err := moduleVersion("none"); err == nil {
		t.Errorf("a library that is not there has version %q", v)
	}
}

func TestHelperArguments(t *testing.T) {
	for _, args := range [][]string{nil, {"127.0.0.1:1", "0", "1", "1", "1s"}, {"127.0.0.1:1", "1", "1", "1", "x"}, {"127.0.0.1:1", "1", "1", "1", "1s"}} {
		if err := runGoLDAP(args); err == nil {
			t.Errorf("the client takes %v", args)
		}
	}
	for _, args := range [][]string{nil, {"127.0.0.1:1", "/nonexistent", "1"}, {"127.0.0.1:1", "/dev/null", "1"}} {
		if err := serveGldap(args); err == nil {
			t.Errorf("the server takes %v", args)
		}
	}
}

func TestGoLDAPTable(t *testing.T) {
	r := &report{topic: topicLDAP, servers: []serverLine{{name: "directd"}, {name: "slapd"}, {name: "gldap"}}}
	fast := goResult{conns: 1, cells: map[string]*goCell{}}
	for name, rate := range map[string]uint64{"directd": 2600, "slapd": 2000} {
		fast.add(name, goRun{Searches: rate, Elapsed: time.Second, P50: 100 * time.Microsecond, P99: time.Millisecond}, nil)
	}
	slow := goResult{conns: 16, cells: map[string]*goCell{}}
	slow.add("directd", goRun{Searches: 2500, Elapsed: time.Second}, nil)
	slow.add("slapd", goRun{Searches: 2000, Elapsed: time.Second}, nil)
	slow.add("gldap", goRun{}, errors.New("7 wrong"))
	r.goLDAP = []goResult{fast, slow, {conns: 99}}
	var b strings.Builder
	r.goTable(&b)
	for _, want := range []string{
		"| 1 | 2600 [2600–2600]; 100 / 1000 | 2000 [2000–2000]; 100 / 1000 | absent | 1.30 | ≥ 1.30 × slapd | yes |",
		"| no valid run | 1.25 | ≥ 1.30 × slapd | **no** |",
		"| 99 | absent | absent | absent | – | ≥ 1.30 × slapd | not measured |",
		"go-ldap on 16 connections, gldap: 1 rounds did not count: 7 wrong.",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
}
