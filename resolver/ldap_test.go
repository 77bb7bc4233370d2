package resolver_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"directnode/internal/ber"
	"directnode/internal/testpki"
	"directnode/resolver"

	"github.com/jimlambrt/gldap"
)

// rawLDAP listens and gives every connection to a function.
func rawLDAP(t testing.TB, serve func(net.Conn)) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// reply is an LDAPMessage with one operation in it.
func reply(id byte, op byte, content []byte) []byte {
	inner := append([]byte{0x02, 1, id}, ber.AppendTLV(nil, ber.App(uint32(op), true), content)...)
	return ber.AppendTLV(nil, ber.Sequence, inner)
}

// success is an LDAPResult.
var success = []byte{0x0a, 1, 0, 0x04, 0, 0x04, 0}

// bindThen answers the bind and then writes whatever a hostile server would.
func bindThen(hostile func(c net.Conn)) func(net.Conn) {
	return func(c net.Conn) {
		buf := make([]byte, 4096)
		if _, err := c.Read(buf); err != nil {
			return
		}
		c.Write(reply(1, 1, success))
		if _, err := c.Read(buf); err != nil {
			return
		}
		hostile(c)
		io.Copy(io.Discard, c)
	}
}

func TestHostileLDAPServersAreLeftForTheNext(t *testing.T) {
	entry := func(n int) []byte { return ber.AppendTLV(nil, ber.OctetString, make([]byte, n)) }
	nested := []byte{}
	for range 60 {
		nested = ber.AppendTLV(nil, ber.Sequence, nested)
	}
	for name, serve := range map[string]func(net.Conn){
		"accepts and is silent":       func(c net.Conn) { io.Copy(io.Discard, c) },
		"closes at once":              func(net.Conn) {},
		"speaks another protocol":     func(c net.Conn) { io.WriteString(c, "220 mail.example ESMTP\r\n"); io.Copy(io.Discard, c) },
		"silent after the bind":       bindThen(func(net.Conn) {}),
		"half a message":              bindThen(func(c net.Conn) { c.Write([]byte{0x30, 0x84, 0, 0, 0x10, 0, 2, 1, 2}) }),
		"announces gigabytes":         bindThen(func(c net.Conn) { c.Write([]byte{0x30, 0x84, 0x7f, 0xff, 0xff, 0xff}) }),
		"indefinite length":           bindThen(func(c net.Conn) { c.Write([]byte{0x30, 0x80, 2, 1, 2, 0, 0}) }),
		"nests sixty deep":            bindThen(func(c net.Conn) { c.Write(reply(2, 4, nested)) }),
		"a hundred thousand elements": bindThen(func(c net.Conn) { c.Write(reply(2, 4, bytes.Repeat([]byte{5, 0}, 100_000))) }),
		"endless search references": bindThen(func(c net.Conn) {
			for range 10_000 {
				if _, err := c.Write(reply(2, 19, ber.AppendTLV(nil, ber.OctetString, []byte("ldap://x/")))); err != nil {
					return
				}
			}
		}),
		"endless entries": bindThen(func(c net.Conn) {
			for range 100 {
				if _, err := c.Write(reply(2, 4, append(entry(100_000), 0x30, 0))); err != nil {
					return
				}
			}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			good := newLDAP(t, "ou=x")
			good.add("ou=x", "bob@direct.test", w.good("bob", "bob@direct.test"))
			w.srv("direct.test", fmt.Sprintf("0 0 %d", rawLDAP(t, serve)), fmt.Sprintf("1 0 %d", good.port))
			start := time.Now()
			res, r := w.discover("bob@direct.test", func(o *resolver.Options) { o.Timeout = 2 * time.Second })
			if !slices.Equal(usable(r), []string{"bob"}) {
				t.Errorf("%s: %+v", r.Verdict, res.Steps)
			}
			if took := time.Since(start); took > 3*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestOnlyFailingLDAPServersIsTemporary(t *testing.T) {
	for name, prepare := range map[string]func(w *world) int{
		"refused":     func(w *world) int { return closedPort(w.t) },
		"bind failed": func(w *world) int { l := newLDAP(w.t, "ou=x"); l.fail(gldap.ResultUnavailable, 0); return l.port },
		"busy":        func(w *world) int { l := newLDAP(w.t, "ou=x"); l.fail(0, gldap.ResultBusy); return l.port },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.srv("direct.test", fmt.Sprintf("0 0 %d", prepare(w)))
			if _, r := w.discover("bob@direct.test"); r.Verdict != "temporary" {
				t.Errorf("%s: %+v", r.Verdict, r.Steps)
			}
		})
	}
}

func TestLDAPAnswersThatMeanNone(t *testing.T) {
	for name, code := range map[string]int{"no such object": gldap.ResultNoSuchObject, "referral": gldap.ResultReferral} {
		w := newWorld(t)
		l := newLDAP(t, "ou=x")
		l.fail(0, code)
		w.srv("direct.test", fmt.Sprintf("0 0 %d", l.port))
		if _, r := w.discover("bob@direct.test"); r.Verdict != "not_found" {
			t.Errorf("%s: %s", name, r.Verdict)
		}
	}
}

func TestNoNamingContextsSearchesFromTheRoot(t *testing.T) {
	w := newWorld(t)
	l := newLDAP(t)
	l.add("", "bob@direct.test", w.good("bob", "bob@direct.test"))
	w.srv("direct.test", fmt.Sprintf("0 0 %d", l.port))
	if _, r := w.discover("bob@direct.test"); !slices.Equal(usable(r), []string{"bob"}) {
		t.Errorf("%s: %+v", r.Verdict, r.Steps)
	}
}

func TestSRVTargetOfDotMeansNone(t *testing.T) {
	w := newWorld(t)
	w.dns.add(t, "_ldap._tcp.direct.test. 300 IN SRV 0 0 0 .")
	if _, r := w.discover("bob@direct.test"); r.Verdict != "not_found" || w.dns.logged("udp A ") > 0 {
		t.Errorf("%s, asked %v", r.Verdict, w.dns.asked())
	}
}

func TestOnlyTheFirstEightServersAreTried(t *testing.T) {
	w := newWorld(t)
	good := newLDAP(t, "ou=x")
	good.add("ou=x", "bob@direct.test", w.good("bob", "bob@direct.test"))
	for i := range 8 {
		w.srv("direct.test", fmt.Sprintf("%d 0 %d gone%d.test.", i, good.port, i))
	}
	w.srv("direct.test", fmt.Sprintf("9 0 %d", good.port))
	if _, r := w.discover("bob@direct.test"); r.Verdict != "not_found" {
		t.Errorf("the ninth server was tried: %s", r.Verdict)
	}
}

func TestUnusableValuesInLDAP(t *testing.T) {
	w := newWorld(t)
	l := newLDAP(t, "ou=x")
	bob := w.good("bob", "bob@direct.test")
	l.addEntry(entry{"ou=x", "bob@direct.test", "userCertificate", [][]byte{bob.CertPEM(), bytes.Repeat([]byte{0x30}, 65<<10), {}, bob.DER}})
	w.srv("direct.test", fmt.Sprintf("0 0 %d", l.port))
	res, r := w.discover("bob@direct.test")
	if !slices.Equal(usable(r), []string{"bob"}) || len(res.Skipped) != 3 {
		t.Errorf("usable %v, skipped %v", usable(r), res.Skipped)
	}
}

func TestManyCertificatesOfOneEntry(t *testing.T) {
	w := newWorld(t)
	l := newLDAP(t, "ou=x")
	var pairs []testpki.Pair
	for i := range 70 {
		pairs = append(pairs, w.good(fmt.Sprintf("bob%d", i), "bob@direct.test"))
	}
	l.add("ou=x", "bob@direct.test", pairs...)
	w.srv("direct.test", fmt.Sprintf("0 0 %d", l.port))
	res, r := w.discover("bob@direct.test")
	if len(res.Found) != 64 || len(usable(r)) != 64 {
		t.Errorf("%d found, %d usable", len(res.Found), len(usable(r)))
	}
	if last := res.Steps[len(res.Steps)-1]; !strings.Contains(last.Detail, "more than 64") {
		t.Errorf("the step does not say that something was left out: %+v", last)
	}
}
