package resolver_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"directnode/internal/ber"
	"directnode/internal/testpki"
	"directnode/resolver"

	"github.com/jimlambrt/gldap"
	"github.com/miekg/dns"
)

// TestBaseThatRefusesDoesNotHideTheOthers: directories name contexts that anonymous clients may not read, such as their configuration.
func TestBaseThatRefusesDoesNotHideTheOthers(t *testing.T) {
	for _, holds := range []string{"ou=people", "ou=other"} {
		w := newWorld(t)
		l := newLDAP(t, "cn=config", "ou=people", "cn=schema", "ou=other")
		l.refuse(map[string]int{"cn=config": gldap.ResultInsufficientAccessRights, "cn=schema": gldap.ResultUnwillingToPerform})
		l.add(holds, "bob@direct.test", w.good("bob", "bob@direct.test"))
		w.srv("direct.test", fmt.Sprintf("0 0 %d", l.port))
		if _, r := w.discover("bob@direct.test"); !slices.Equal(usable(r), []string{"bob"}) {
			t.Errorf("%s: %s: %+v", holds, r.Verdict, r.Steps)
		}
	}
}

// TestBaseThatRefusesIsNoAbsence: it might hold the certificate of the address, so neither the domain's is taken nor absence believed.
func TestBaseThatRefusesIsNoAbsence(t *testing.T) {
	w := newWorld(t)
	l := newLDAP(t, "ou=closed", "ou=people")
	l.refuse(map[string]int{"ou=closed": gldap.ResultInsufficientAccessRights})
	l.add("ou=people", "direct.test", w.good("domain", "direct.test"))
	w.srv("direct.test", fmt.Sprintf("0 0 %d", l.port))
	if _, r := w.discover("bob@direct.test"); r.Verdict != "temporary" {
		t.Errorf("%s: %+v", r.Verdict, r.Steps)
	}
}

// TestSizeLimitBeforeAnyCertificateIsNoAbsence: the server holds entries of that name and did not show them.
func TestSizeLimitBeforeAnyCertificateIsNoAbsence(t *testing.T) {
	w := newWorld(t)
	l := newLDAP(t, "ou=x")
	l.fail(0, gldap.ResultSizeLimitExceeded)
	w.srv("direct.test", fmt.Sprintf("0 0 %d", l.port))
	if _, r := w.discover("bob@direct.test"); r.Verdict != "temporary" {
		t.Errorf("%s: %+v", r.Verdict, r.Steps)
	}
}

// TestSilentAddressLeavesTimeForTheNextOfTheServer: a host with two addresses, of which the first accepts and says nothing.
func TestSilentAddressLeavesTimeForTheNextOfTheServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := newLDAP(t, "ou=x")
	good.add("ou=x", "bob@direct.test", w.good("bob", "bob@direct.test"))
	silent, err := net.Listen("tcp", fmt.Sprintf("127.0.0.2:%d", good.port))
	if err != nil {
		t.Skip("SKIP a second address of loopback: " + err.Error())
	}
	defer silent.Close()
	go func() {
		for {
			c, err := silent.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(io.Discard, c)
			}()
		}
	}()
	w.dns.add(t, "two.test. 300 IN A 127.0.0.2", "two.test. 300 IN A 127.0.0.1", fmt.Sprintf("_ldap._tcp.direct.test. 300 IN SRV 0 0 %d two.test.", good.port))
	start := time.Now()
	if _, r := w.discover("bob@direct.test"); !slices.Equal(usable(r), []string{"bob"}) {
		t.Errorf("%s: %+v", r.Verdict, r.Steps)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
}

// TestServerNamedManyTimesIsAskedOnce: repetitions would use up the servers that are tried.
func TestServerNamedManyTimesIsAskedOnce(t *testing.T) {
	w := newWorld(t)
	good := newLDAP(t, "ou=x")
	good.add("ou=x", "bob@direct.test", w.good("bob", "bob@direct.test"))
	gone := closedPort(t)
	for i := range 12 {
		w.srv("direct.test", fmt.Sprintf("%d 0 %d LDAP.test.", i, gone))
	}
	w.srv("direct.test", fmt.Sprintf("20 0 %d", good.port))
	_, r := w.discover("bob@direct.test")
	if !slices.Equal(usable(r), []string{"bob"}) {
		t.Errorf("%s: %+v", r.Verdict, r.Steps)
	}
}

// TestTextsOfServersAreCut: they go to logs, to reports and to the sender of a message.
func TestTextsOfServersAreCut(t *testing.T) {
	long := ber.AppendTLV(nil, ber.OctetString, bytes.Repeat([]byte("x"), 500_000))
	w := newWorld(t)
	refusal := append([]byte{0x0a, 1, 51, 0x04, 0}, long...) // busy
	w.srv("direct.test",
		fmt.Sprintf("0 0 %d", rawLDAP(t, bindThen(func(c net.Conn) { c.Write(reply(2, 5, refusal)) }))),
		fmt.Sprintf("1 0 %d", rawLDAP(t, bindThen(func(c net.Conn) {
			values := ber.AppendTLV(nil, ber.Set, long)
			attribute := ber.AppendTLV(nil, ber.Sequence, append(ber.AppendTLV(nil, ber.OctetString, []byte("namingContexts")), values...))
			c.Write(reply(2, 4, append([]byte{4, 0}, ber.AppendTLV(nil, ber.Sequence, attribute)...)))
			c.Write(reply(2, 5, success))
			io.ReadFull(c, make([]byte, 400_000))
			c.Write(reply(3, 5, refusal))
		}))))
	res, _ := w.discover("bob@direct.test")
	if len(res.Detail) > 2000 {
		t.Errorf("detail of %d octets", len(res.Detail))
	}
	for _, s := range res.Steps {
		if len(s.Detail) > 2000 || len(s.Question) > 2000 {
			t.Errorf("step %d: question of %d, detail of %d octets", s.N, len(s.Question), len(s.Detail))
		}
	}
}

// TestTruncatedAnswerLeavesTheTimeToTCP: where there is no other server, the only one may take the time that is left.
func TestTruncatedAnswerLeavesTheTimeToTCP(t *testing.T) {
	w := newWorld(t)
	w.dns.cert(t, "bob.direct.test.", w.good("one", "bob@direct.test"), w.good("two", "bob@direct.test"))
	messages := 0
	w.dns.set(func() {
		w.dns.change = func(*dns.Msg) {
			if messages++; messages == 2 {
				time.Sleep(700 * time.Millisecond)
			}
		}
	})
	if _, r := w.discover("bob@direct.test", func(o *resolver.Options) { o.Timeout = time.Second }); len(usable(r)) != 2 {
		t.Errorf("%s: %+v", r.Verdict, r.Steps)
	}
}

// TestControlsAreNotUnpacked: the LDAP library decodes the values of controls once more, as deep and as many as they are.
func TestControlsAreNotUnpacked(t *testing.T) {
	core := ber.AppendTLV(nil, ber.OctetString, make([]byte, 900_000))
	var headers [][]byte // innermost first
	size := len(core)
	for range 900 {
		headers = append(headers, ber.AppendHeader(nil, ber.Sequence, size))
		size += len(headers[len(headers)-1])
	}
	slices.Reverse(headers)
	payload := append(bytes.Join(headers, nil), core...)
	control := append(ber.AppendTLV(nil, ber.OctetString, []byte("1.2.840.113556.1.4.319")), ber.AppendTLV(nil, ber.OctetString, payload)...)
	controls := ber.AppendTLV(nil, ber.Context(0, true), ber.AppendTLV(nil, ber.Sequence, control))
	inner := append([]byte{0x02, 1, 2}, ber.AppendTLV(nil, ber.App(5, true), success)...)
	bomb := ber.AppendTLV(nil, ber.Sequence, append(inner, controls...))

	w := newWorld(t)
	good := newLDAP(t, "ou=x")
	good.add("ou=x", "bob@direct.test", w.good("bob", "bob@direct.test"))
	w.srv("direct.test", fmt.Sprintf("0 0 %d", rawLDAP(t, bindThen(func(c net.Conn) { c.Write(bomb) }))), fmt.Sprintf("1 0 %d", good.port))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, r := w.discover("bob@direct.test")
	runtime.ReadMemStats(&after)
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 64<<20 {
		t.Errorf("%d MiB allocated for a message of %d octets", allocated>>20, len(bomb))
	}
	if !slices.Equal(usable(r), []string{"bob"}) {
		t.Errorf("%s: %+v", r.Verdict, r.Steps)
	}
}

// TestOversizedCertificateEndsTheSearch: it is a certificate, if a bad one, and the place that holds it is the last one asked.
func TestOversizedCertificateEndsTheSearch(t *testing.T) {
	w := newWorld(t)
	l := newLDAP(t, "ou=x")
	var names []string
	for i := range 10_000 {
		names = append(names, fmt.Sprintf("%d.test", i))
	}
	l.add("ou=x", "bob@direct.test", w.root.Leaf("bob", testpki.Address("bob@direct.test"), testpki.Domain(names...)))
	l.add("ou=x", "direct.test", w.good("domain", "direct.test"))
	w.srv("direct.test", fmt.Sprintf("0 0 %d", l.port))
	_, r := w.discover("bob@direct.test")
	if r.Verdict != "invalid" || r.Source != resolver.SourceLDAPAddress || !strings.Contains(r.Reason.Detail, "at most") {
		t.Errorf("%s from %s: %+v", r.Verdict, r.Source, r.Reason)
	}
}
