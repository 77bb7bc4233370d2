package ldapserver_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"directnode/internal/ber"
	"directnode/ldapserver"
	"directnode/ldapserver/dit"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestOperations sends one request on a connection of its own and compares the
// result code; a code below zero means that nothing is answered and the
// connection goes on.
func TestOperations(t *testing.T) {
	addr := start(t, world(t, dit.Options{}), ldapserver.Options{})
	bob := "uid=bob,dc=b,dc=direct,dc=test"
	compare := func(dn, name, value string) []byte {
		return envelope(5, func(b *ber.Builder) {
			b.Begin(ber.App(14, true))
			b.Text(ber.OctetString, dn)
			b.Begin(ber.Sequence)
			b.Text(ber.OctetString, name)
			b.Text(ber.OctetString, value)
			b.End()
			b.End()
		})
	}
	write := func(tag uint32) []byte {
		return envelope(5, func(b *ber.Builder) {
			b.Begin(ber.App(tag, true))
			b.Text(ber.OctetString, bob)
			b.End()
		})
	}
	sasl := envelope(5, func(b *ber.Builder) {
		b.Begin(ber.App(0, true))
		b.Int(ber.Integer, 3)
		b.Text(ber.OctetString, "")
		b.Begin(ber.Context(3, true))
		b.Text(ber.OctetString, "EXTERNAL")
		b.End()
		b.End()
	})
	unknownAuth := envelope(5, func(b *ber.Builder) {
		b.Begin(ber.App(0, true))
		b.Int(ber.Integer, 3)
		b.Text(ber.OctetString, "")
		b.Text(ber.Context(9, false), "sicily")
		b.End()
	})
	search := func(c ...[]byte) []byte { return ask{controls: c}.pdu(5) }
	bindWith := func(c []byte) []byte {
		return envelope(5, func(b *ber.Builder) {
			b.Begin(ber.App(0, true))
			b.Int(ber.Integer, 3)
			b.Text(ber.OctetString, "")
			b.Text(ber.Context(0, false), "")
			b.End()
		}, c)
	}
	compareWith := func(c []byte) []byte {
		return envelope(5, func(b *ber.Builder) {
			b.Begin(ber.App(14, true))
			b.Text(ber.OctetString, bob)
			b.Begin(ber.Sequence)
			b.Text(ber.OctetString, "mail")
			b.Text(ber.OctetString, "bob@b.direct.test")
			b.End()
			b.End()
		}, c)
	}
	for name, c := range map[string]struct {
		pdu  []byte
		tag  uint32
		code int64
	}{
		"anonymous bind":                     {bind(5, 3, "", ""), 1, 0},
		"bind with a name, without password": {bind(5, 3, "cn=admin", ""), 1, 53},
		"bind with name and password":        {bind(5, 3, "cn=admin", "secret"), 1, 49},
		"bind with a password only":          {bind(5, 3, "", "secret"), 1, 49},
		"bind version 2":                     {bind(5, 2, "", ""), 1, 2},
		"bind version 4":                     {bind(5, 4, "", ""), 1, 2},
		"bind SASL":                          {sasl, 1, 7},
		"bind by an unknown method":          {unknownAuth, 1, 7},
		"modify":                             {write(6), 7, 53},
		"add":                                {write(8), 9, 53},
		"modifyDN":                           {write(12), 13, 53},
		"delete":                             {envelope(5, func(b *ber.Builder) { b.Text(ber.App(10, false), bob) }), 11, 53},
		"abandon":                            {envelope(5, func(b *ber.Builder) { b.Int(ber.App(16, false), 3) }), 0, -1},
		"compare true":                       {compare(bob, "mail", "BOB@b.direct.test"), 15, 6},
		"compare false":                      {compare(bob, "mail", "eve@b.direct.test"), 15, 5},
		"compare an absent attribute":        {compare(bob, "dc", "b"), 15, 16},
		"compare an unknown attribute":       {compare(bob, "telephoneNumber", "b"), 15, 17},
		"compare a certificate":              {compare(bob, "userCertificate;binary", "x"), 15, 18},
		"compare an entry not there":         {compare("uid=eve,dc=b,dc=direct,dc=test", "mail", "x"), 15, 32},
		"compare a malformed name":           {compare("bob", "mail", "x"), 15, 34},
		"who am I":                           {whoAmI(5), 24, 0},
		"StartTLS without certificate":       {extended(5, dit.OIDStartTLS), 24, 2},
		"unknown extended operation":         {extended(5, "1.2.3.4"), 24, 2},
		"empty controls":                     {search([][]byte{}...), 5, 0},
		"unknown control":                    {search(control("1.2.3", false, "x")), 5, 0},
		"unknown critical control":           {search(control("1.2.3", true, "x")), 5, 12},
		"ManageDsaIT as JNDI sends it":       {search(control(dit.OIDManageDsaIT, false, "")), 5, 0},
		"ManageDsaIT critical":               {search(control(dit.OIDManageDsaIT, true, "")), 5, 0},
		"critical control on an unbind":      {envelope(5, func(b *ber.Builder) { b.Int(ber.App(16, false), 3) }, control("1.2.3", true, "")), 0, -1},
		"seventeen controls":                 {search(slices.Repeat([][]byte{control("1.2.3", false, "")}, 17)...), 5, 11},
		"ManageDsaIT critical on a bind":     {bindWith(control(dit.OIDManageDsaIT, true, "")), 1, 12}, // RFC 4511 §4.1.11: not for this operation
		"ManageDsaIT on a bind":              {bindWith(control(dit.OIDManageDsaIT, false, "")), 1, 0},
		"ManageDsaIT twice":                  {search(control(dit.OIDManageDsaIT, true, ""), control(dit.OIDManageDsaIT, true, "")), 5, 2},
		"pages":                              {search(page(10, "", true)), 5, 0},
		"pages, critical, of a compare":      {compareWith(page(10, "", true)), 15, 12},
		"pages, of a compare":                {compareWith(page(10, "", false)), 15, 6},
		"pages twice":                        {search(page(10, "", false), page(10, "", false)), 5, 2},
		"pages without a value":              {search(control(dit.OIDPagedResults, false, "")), 5, 2},
		"pages with half a value":            {search(control(dit.OIDPagedResults, true, "\x30\x03\x02\x01\x0a")), 5, 2},
		"pages of a negative size":           {search(page(-1, "", true)), 5, 2},
		"pages of an enormous size":          {search(page(1<<31, "", true)), 5, 2},
		"pages of no size":                   {search(page(0, "", true)), 5, 0},
		"pages by a cookie of nobody's":      {search(page(10, "12345678", false)), 5, 53},
		"cancel what was not asked":          {cancel(5, 4), 24, 119},
		"cancel the cancel":                  {cancel(5, 5), 24, 121},
		"cancel without a value":             {extended(5, dit.OIDCancel), 24, 2},
		"cancel zero":                        {cancel(5, 0), 24, 2},
		"scope out of range":                 {ask{scope: 3}.pdu(5), 5, 2},
		"deref out of range":                 {ask{deref: 4}.pdu(5), 5, 2},
		"negative size limit":                {ask{size: -1}.pdu(5), 5, 2},
		"negative time limit":                {ask{seconds: -1}.pdu(5), 5, 2},
	} {
		t.Run(name, func(t *testing.T) {
			w := dial(t, addr)
			w.send(c.pdu)
			if c.code >= 0 {
				m := w.must()
				for m.tag == 4 {
					m = w.must()
				}
				if m.id != 5 || m.tag != c.tag || m.code != c.code {
					t.Errorf("answer %v %q, want op %d code %d", m, m.text, c.tag, c.code)
				}
			}
			w.alive()
		})
	}
}

func TestPaddedLengthsAndTrailingComponentsAreTaken(t *testing.T) {
	addr := start(t, world(t, dit.Options{}), ldapserver.Options{})
	for name, tail := range map[string]string{
		"empty controls":     "a0 00",
		"unknown component":  "8b 01 00", // RFC 4511 §4: to be ignored
		"both":               "a0 00 8b 01 00",
		"non-minimal length": "a0 82 0000",
	} {
		w := dial(t, addr)
		tail := unhex(t, tail)
		op := unhex(t, "02 81 01 05 77 84 0000001c 80 83 000017")
		body := append(append(op, dit.OIDWhoAmI...), tail...)
		pdu := ber.AppendTLV(nil, ber.Sequence, body)
		w.send(pdu)
		if m := w.must(); m.id != 5 || m.tag != 24 {
			t.Errorf("%s: %v", name, m)
		}
		w.alive()
	}
}

func TestWhoAmIAnswersAnEmptyName(t *testing.T) {
	w := dial(t, start(t, world(t, dit.Options{}), ldapserver.Options{}))
	w.send(whoAmI(1))
	if m := w.must(); m.value == nil || *m.value != "" {
		t.Errorf("value = %v", m.value)
	}
}

func TestUnbindClosesWithoutAnAnswer(t *testing.T) {
	w := dial(t, start(t, world(t, dit.Options{}), ldapserver.Options{}))
	w.send(bind(1, 3, "", ""), unhex(t, "30 05 0201 02 42 00"))
	if m := w.must(); m.tag != 1 {
		t.Errorf("%v", m)
	}
	w.closed()
}

func TestMalformedMessagesGetANoticeAndAreCutOff(t *testing.T) {
	addr := start(t, world(t, dit.Options{}), ldapserver.Options{PDUTimeout: time.Minute})
	indefinite := bytes.Repeat([]byte{0x30, 0x80}, 10000)
	deep := func(tag uint32) []byte {
		inner := present("cn")
		headers := make([][]byte, 10000)
		size := len(inner)
		for i := range headers {
			headers[len(headers)-1-i] = ber.AppendHeader(nil, ber.Context(tag, true), size)
			size += len(headers[len(headers)-1-i])
		}
		return append(slices.Concat(headers...), inner...)
	}
	for name, pdu := range map[string][]byte{
		"an HTTP request":               []byte("GET / HTTP/1.1\r\n\r\n"),
		"a TLS hello":                   unhex(t, "16 0301 0200 01 0001fc 0303"),
		"length of 2^31-1":              unhex(t, "30 84 7fffffff 0201 01"),
		"length of 2^32-1":              unhex(t, "30 84 ffffffff 0201 01"),
		"length of 65,537 in all":       unhex(t, "30 83 00fffd 0201 01"),
		"length of 127 octets":          append(unhex(t, "30 ff"), make([]byte, 127)...),
		"indefinite message":            unhex(t, "30 80 0201 01 4200 0000"),
		"indefinite in indefinite":      indefinite,
		"indefinite operation":          unhex(t, "30 09 0201 01 6380 0000 0000"),
		"message id 0":                  unhex(t, "30 05 0201 00 4200"),
		"negative message id":           unhex(t, "30 05 0201 ff 4200"),
		"message id of five octets":     unhex(t, "30 09 0205 0100000000 4200"),
		"no message id":                 unhex(t, "30 02 4200"),
		"unknown operation":             unhex(t, "30 05 0201 01 7f00"),
		"a response":                    unhex(t, "30 0c 0201 01 6507 0a0100 0400 0400"),
		"empty message":                 unhex(t, "30 00"),
		"search cut short":              unhex(t, "30 07 0201 01 6302 0400"),
		"constructed base":              unhex(t, "30 09 0201 01 6304 2402 0400"),
		"inner length runs over":        unhex(t, "30 07 0201 01 6302 0405"),
		"controls are no list":          unhex(t, "30 0a 0201 01 4200 a003 0401 78"),
		"controls are indefinite":       unhex(t, "30 0b 0201 01 4200 a080 0000 0000")[:13],
		"filter of an unknown class":    ask{filter: []byte{0x04, 0}}.pdu(1),
		"NOT of nothing":                ask{filter: []byte{0xa2, 0}}.pdu(1),
		"NOT of two":                    ask{filter: set(2, present("cn"), present("sn"))}.pdu(1),
		"equality without value":        ask{filter: set(3, ber.AppendTLV(nil, ber.OctetString, []byte("cn")))}.pdu(1),
		"substrings out of order":       ask{filter: unhex(t, "a4 0c 0402 636e 3006 82 0161 80 0162")}.pdu(1),
		"constructed presence":          ask{filter: unhex(t, "a7 02 0400")}.pdu(1),
		"eighty thousand attributes":    ask{attributes: slices.Repeat([]string{""}, 30000)}.pdu(1),
		"message of thousands of NULLs": ber.AppendTLV(nil, ber.Sequence, bytes.Repeat([]byte{5, 0}, 32000)),
	} {
		t.Run(name, func(t *testing.T) {
			w := dial(t, addr)
			w.Write(pdu) // may fail in the middle: the server cuts off
			m, err := w.read()
			if name == "eighty thousand attributes" {
				// Too many attributes is a limit, not a malformed message.
				if err != nil || m.code != 11 {
					t.Errorf("%v, %v", m, err)
				}
				return
			}
			if err != nil || m.id != 0 || m.code != 2 || m.name != "1.3.6.1.4.1.1466.20036" {
				t.Fatalf("%v, %v; want a notice of disconnection", m, err)
			}
			w.closed()
		})
	}
	for name, f := range map[string][]byte{"NOT, 10,000 deep": deep(2), "AND, 10,000 deep": deep(0), "OR, 10,000 deep": deep(1)} {
		w := dial(t, addr)
		w.send(ask{filter: f}.pdu(1))
		if m := w.must(); m.id != 1 || m.code != 11 {
			t.Errorf("%s: %v", name, m)
		}
		w.alive()
	}
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	w := dial(t, start(t, world(t, dit.Options{}), ldapserver.Options{}))
	var all []byte
	const n = 300
	for id := int64(1); id <= n; id++ {
		switch id % 3 {
		case 0:
			all = append(all, bind(id, 3, "", "")...)
		case 1:
			all = append(all, ask{scope: 2, filter: equal("mail", "bob@b.direct.test")}.pdu(id)...)
		default:
			all = append(all, whoAmI(id)...)
		}
	}
	go func() {
		for len(all) > 0 { // in pieces that cut messages anywhere
			k := min(len(all), 61)
			w.Write(all[:k])
			all = all[k:]
		}
	}()
	for id := int64(1); id <= n; id++ {
		m := w.must()
		if id%3 == 1 {
			if m.tag != 4 || m.id != id {
				t.Fatalf("%v, want the entry for %d", m, id)
			}
			m = w.must()
		}
		if m.id != id || m.code != 0 {
			t.Fatalf("%v, want the result for %d", m, id)
		}
	}
}

func TestOneOctetAtATimeIsServed(t *testing.T) {
	w := dial(t, start(t, world(t, dit.Options{}), ldapserver.Options{}))
	for _, c := range bind(1, 3, "", "") {
		w.send([]byte{c})
	}
	if m := w.must(); m.tag != 1 || m.code != 0 {
		t.Errorf("%v", m)
	}
}

func TestLargestMessageIsServed(t *testing.T) {
	w := dial(t, start(t, world(t, dit.Options{}), ldapserver.Options{}))
	filter := equal("mail", strings.Repeat("x", 64<<10-100))
	pdu := ask{scope: 2, filter: filter}.pdu(7)
	if len(pdu) > 64<<10 {
		t.Fatalf("the request has %d octets", len(pdu))
	}
	w.send(pdu)
	if m := w.must(); m.id != 7 || m.code != 0 {
		t.Errorf("%v", m)
	}
	w.alive()
}

func TestEachRequestSeesTheCurrentTree(t *testing.T) {
	var current atomic.Pointer[dit.Tree]
	addr, _ := startWith(t, current.Load, ldapserver.Options{})
	w := dial(t, addr)
	if _, done := w.search(ask{scope: 2, filter: equal("mail", "bob@b.direct.test")}); done.code != 52 {
		t.Errorf("before the first tree: %v", done)
	}
	current.Store(published(t, dit.Options{}, "bob@b.direct.test=BOB"))
	if dns, done := w.search(ask{scope: 2, filter: equal("mail", "bob@b.direct.test")}); done.code != 0 || len(dns) != 1 {
		t.Errorf("%v %v", dns, done)
	}
	current.Store(published(t, dit.Options{}, "eve@b.direct.test=EVE"))
	if dns, done := w.search(ask{scope: 2, filter: equal("mail", "bob@b.direct.test")}); done.code != 0 || len(dns) != 0 {
		t.Errorf("%v %v", dns, done)
	}
}

func TestAPanicEndsTheConnectionAndNotTheServer(t *testing.T) {
	tr := world(t, dit.Options{})
	var broken atomic.Bool
	var logged bytes.Buffer
	addr, s := startWith(t, func() *dit.Tree {
		if broken.Load() {
			panic("a bug")
		}
		return tr
	}, ldapserver.Options{Log: slog.New(slog.NewTextHandler(&logged, nil))})
	other := dial(t, addr)
	other.alive()
	broken.Store(true)
	w := dial(t, addr)
	w.send(ask{}.pdu(7))
	if m := w.must(); m.id != 7 || m.tag != 5 || m.code != 80 {
		t.Errorf("%v, want other(80)", m)
	}
	if m := w.must(); m.id != 0 || m.name != "1.3.6.1.4.1.1466.20036" {
		t.Errorf("%v, want a notice of disconnection", m)
	}
	w.closed()
	broken.Store(false)
	other.alive()
	if n := s.Results()[80]; n != 1 {
		t.Errorf("%d results with code 80", n)
	}
}

func TestStoppingTellsTheClientsAndReturns(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tr := world(t, dit.Options{})
	s := ldapserver.New(func() *dit.Tree { return tr }, ldapserver.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	idle, half := dial(t, l.Addr().String()), dial(t, l.Addr().String())
	idle.alive()
	half.alive()
	half.send([]byte{0x30})
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("Serve: %v", err)
		}
	case <-time.After(2 * time.Second):
		t.Fatal("Serve waits for an idle client")
	}
	for _, w := range []wire{idle, half} {
		if m, err := w.read(); err != nil || m.id != 0 || m.code != 52 {
			t.Errorf("%v, %v; want a notice with unavailable(52)", m, err)
		}
		if _, err := w.read(); err != io.EOF {
			t.Errorf("not closed: %v", err)
		}
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("the listener is open")
	}
}

func TestServeSaysWhenItsListenerBreaks(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := ldapserver.New(nil, ldapserver.Options{}).Serve(context.Background(), l); err == nil {
		t.Error("no error")
	}
}
