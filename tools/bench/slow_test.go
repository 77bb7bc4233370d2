package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// visited is what a listener saw of a crowd.
type visited struct {
	mu      sync.Mutex
	sources map[netip.Addr]bool
	octets  []*bytes.Buffer // of each connection
}

func (v *visited) look(f func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f()
}

// visit accepts a crowd; with after a connection is closed at that many octets.
func visit(t *testing.T, after int) (netip.AddrPort, *visited) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	v := &visited{sources: map[netip.Addr]bool{}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			var b bytes.Buffer
			v.look(func() {
				v.sources[c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()] = true
				v.octets = append(v.octets, &b)
			})
			go func() {
				defer c.Close()
				one := make([]byte, 1)
				for n := 1; ; n++ {
					if _, err := io.ReadFull(c, one); err != nil {
						return
					}
					v.look(func() { b.Write(one) })
					if n == after {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort(), v
}

// until waits for something that the crowd does in its own time.
func until(t *testing.T, what string, seen func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for !seen() {
		select {
		case <-ctx.Done():
			t.Fatal("never: " + what)
		case <-time.After(pollPause):
		}
	}
}

// TestACrowdIsIdleOrDrips: half of it sends the request octet by octet, from
// many addresses.
func TestACrowdIsIdleOrDrips(t *testing.T) {
	to, v := visit(t, 0)
	c, disperse, err := gather(t.Context(), anyCore, to, 40)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "two octets of each that drips", func() bool {
		dripping := 0
		v.look(func() {
			for _, b := range v.octets {
				if b.Len() >= 2 {
					dripping++
				}
			}
		})
		return dripping == 20
	})
	request := searchRequest([]byte{1}, mailOf(0))
	v.look(func() {
		if len(v.sources) != 40 || len(v.octets) != 40 {
			t.Errorf("%d connections from %d addresses", len(v.octets), len(v.sources))
		}
		for _, b := range v.octets {
			if !bytes.HasPrefix(request, b.Bytes()) {
				t.Errorf("dripped %x", b.Bytes())
			}
		}
	})
	if c.open.Load() != 40 || c.closed.Load() != 0 {
		t.Errorf("%d open, %d closed", c.open.Load(), c.closed.Load())
	}
	if err := disperse(); err != nil {
		t.Error(err)
	}
}

// TestACrowdComesBack after the server closed its connections.
func TestACrowdComesBack(t *testing.T) {
	to, v := visit(t, 1)
	c, disperse, err := gather(t.Context(), anyCore, to, 10)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "five that drip have come again", func() bool {
		n := 0
		v.look(func() { n = len(v.octets) })
		return n >= 15
	})
	if c.closed.Load() < 5 {
		t.Errorf("%d were closed", c.closed.Load())
	}
	if err := disperse(); err != nil {
		t.Error(err)
	}
}

func TestACrowdThatCannotGather(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	free, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := gather(ctx, anyCore, free, 2); !errors.Is(err, context.Canceled) {
		t.Errorf("gather = %v", err)
	}
	if err := limitOpenFiles(1 << 30); err == nil {
		t.Error("there are files for a billion connections")
	}
}

func TestSlowTable(t *testing.T) {
	r := &report{slowly: 4000, slow: []slowResult{
		{name: "directd", title: "good", quiet: []float64{100, 90}, crowded: []float64{250, 280}, quiet50: []float64{50}, crowd50: []float64{60}, open: []float64{3990}, closed: 17},
		{name: "directd", title: "bad", quiet: []float64{100}, crowded: []float64{300}, void: []error{errForeign}},
		{name: "directd", title: "none", void: []error{errForeign}},
		{name: "slapd", title: "good", quiet: []float64{100}, crowded: []float64{900}},
		{name: "slapd", title: "gone"},
	}}
	var b strings.Builder
	r.slowTable(&b)
	for _, want := range []string{
		"among 4000 slow connections from 1000 addresses",
		"| directd | good | 50 | 90 [90–100] | 60 | 250 [250–280] | 2.78 | < 3 | yes | 3990 | 17 |",
		"| directd | bad | 0 | 100 [100–100] | 0 | 300 [300–300] | 3.00 | < 3 | **no** |",
		"| directd | none | – | – | – | – | – | < 3 | not measured: " + errForeign.Error(),
		"| slapd | good | 0 | 100 [100–100] | 0 | 900 [900–900] | 9.00 | – | – |",
		"| slapd | gone | – | – | – | – | – | – | not measured: absent |",
		"directd, bad: 1 measurements did not count: " + errForeign.Error(),
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
}

func TestMemoryTable(t *testing.T) {
	mib := func(all, anon int64) []usage {
		return []usage{{all: all << 20, anon: anon << 20, files: (all - anon) << 20, resident: (all + 1) << 20}}
	}
	r := &report{memory: []memoryResult{
		{name: "directd", rounds: [moments][]usage{mib(200, 150), mib(210, 160)}, stored: 300 << 20},
		{name: "slapd", rounds: [moments][]usage{mib(20, 15), mib(300, 20)}, stored: 400 << 20},
	}}
	gone := &report{memory: []memoryResult{r.memory[0], {name: "slapd", err: errEntries}}}
	for _, c := range []struct {
		r    *report
		want []string
	}{
		{r, []string{
			"| directd | three seconds after its first answer | 200 | 150 | 50 | 201 | 300 | 10.00 | – | – |",
			"| directd | when every name was asked for once | 210 | 160 | 50 | 211 | 300 | 0.70 | ≤ 1.00 | yes |",
			"| slapd | when every name was asked for once | 300 | 20 | 280 | 301 | 400 | – | – | – |",
		}},
		{gone, []string{"| 210 | 160 | 50 | 211 | 300 | – | ≤ 1.00 | not measured |", "| slapd | three seconds after its first answer | absent |"}},
	} {
		var b strings.Builder
		c.r.memoryTable(&b)
		for _, want := range c.want {
			if !strings.Contains(b.String(), want) {
				t.Errorf("the table lacks %q:\n%s", want, b.String())
			}
		}
	}
}

// TestPartsHaveSectionsOfTheirOwn: cases of LDAP alone touch no row of DNS.
func TestPartsHaveSectionsOfTheirOwn(t *testing.T) {
	for cases, want := range map[string][]string{
		"cert,tc":            {"1000 names"},
		"ldap,ldapmem":       {"LDAP, 1000 names"},
		"ldapslow,mx,goldap": {"1000 names", "LDAP, 1000 names"},
	} {
		o, err := parseOptions([]string{"-names", "1000", "-cases", cases})
		if err != nil {
			t.Fatal(err)
		}
		parts, err := o.parts(own{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range parts {
			r := newReport(o.of(p), p.topic, time.Unix(0, 0))
			got = append(got, r.section())
			if dns := p.topic == ""; dns == strings.Contains(r.command, "ldap") || dns == strings.Contains(r.command, "slapd") {
				t.Errorf("%s is repeated by %s", r.section(), r.command)
			}
		}
		if strings.Join(got, "; ") != strings.Join(want, "; ") {
			t.Errorf("%s: sections %q, want %q", cases, got, want)
		}
	}
	o, err := parseOptions([]string{"-peers", "stranger"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.parts(own{}); err == nil {
		t.Error("a stranger is a peer")
	}
	for _, n := range []string{"1", "100000"} {
		if _, err := parseOptions([]string{"-slow", n}); err == nil {
			t.Errorf("-slow %s is taken", n)
		}
	}
}
