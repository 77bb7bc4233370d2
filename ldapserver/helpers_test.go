package ldapserver_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"directnode/internal/ber"
	"directnode/internal/direct"
	"directnode/ldapserver"
	"directnode/ldapserver/dit"
	"directnode/store"
)

// view is a generation of the store.
type view []*store.DomainData

func (v view) Domains() []direct.Domain {
	var names []direct.Domain
	for _, data := range v {
		names = append(names, data.Domain)
	}
	return names
}

func (v view) Domain(d direct.Domain) *store.DomainData {
	for _, data := range v {
		if data.Domain == d {
			return data
		}
	}
	return nil
}

// published makes a tree: owners in order, each with the DER that follows the
// equals sign; the domain is the owner's.
func published(t testing.TB, o dit.Options, owners ...string) *dit.Tree {
	t.Helper()
	var v view
	var of [][]store.Certificate
	for _, line := range owners {
		name, der, _ := strings.Cut(line, "=")
		owner, err := direct.ParseOwner(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(v) == 0 || v[len(v)-1].Domain != owner.Domain() {
			v, of = append(v, &store.DomainData{Domain: owner.Domain()}), append(of, nil)
		}
		last := &of[len(of)-1]
		*last = append(*last, store.Certificate{Owner: owner, DER: []byte(der), PublishLDAP: true})
	}
	for i, certs := range of {
		v[i].Certificates = store.NewCertificates(certs...)
	}
	tr, err := dit.Build(v, o)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// world is the directory of most tests.
func world(t testing.TB, o dit.Options) *dit.Tree {
	return published(t, o,
		"a.direct.test=ORG-A",
		"alice@a.direct.test=ALICE",
		"b.direct.test=ORG-B",
		"bob@b.direct.test=BOB-1", "bob@b.direct.test=BOB-2",
		"carol@b.direct.test=CAROL")
}

// everybody is exempt from no limit; loopback is counted like any address.
func everybody() []netip.Prefix { return []netip.Prefix{} }

// start serves the tree on loopback for the length of the test.
func start(t testing.TB, tr *dit.Tree, o ldapserver.Options) string {
	t.Helper()
	addr, _ := startWith(t, func() *dit.Tree { return tr }, o)
	return addr
}

func startWith(t testing.TB, tr func() *dit.Tree, o ldapserver.Options) (string, *ldapserver.Server) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if o.ListAllow == nil { // has no effect unless the tree allows listing
		o.ListAllow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	}
	s := ldapserver.New(tr, o)
	serve(t, s, l)
	return l.Addr().String(), s
}

func serve(t testing.TB, s *ldapserver.Server, l net.Listener) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Serve does not return")
		}
	})
}

// wire is a client that sends and reads octets.
type wire struct {
	t testing.TB
	net.Conn
}

func dial(t testing.TB, addr string) wire {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return wire{t, c}
}

func (w wire) send(b ...[]byte) {
	w.t.Helper()
	for _, b := range b {
		if _, err := w.Write(b); err != nil {
			w.t.Fatal(err)
		}
	}
}

// message is one answer.
type message struct {
	id      int64
	tag     uint32 // of the protocolOp
	code    int64
	matched string
	text    string
	name    string // of an extended response
	value   *string
	dn      string // of an entry
	body    []byte
	cookie  *string // of a paged results control
}

func (m message) String() string {
	switch m.tag {
	case 4:
		return fmt.Sprintf("%d entry %s", m.id, m.dn)
	case 24:
		return fmt.Sprintf("%d op 24 code %d %s", m.id, m.code, m.name)
	}
	return fmt.Sprintf("%d op %d code %d", m.id, m.tag, m.code)
}

// read reads one answer; io.EOF if the server closed.
func (w wire) read() (message, error) {
	w.t.Helper()
	head := make([]byte, 2)
	if _, err := io.ReadFull(w.Conn, head); err != nil {
		return message{}, err
	}
	for {
		n, err := ber.FrameLength(head, 64<<20)
		if errors.Is(err, ber.ErrShort) {
			one := make([]byte, 1)
			if _, err := io.ReadFull(w.Conn, one); err != nil {
				return message{}, err
			}
			head = append(head, one...)
			continue
		}
		if err != nil {
			return message{}, err
		}
		b := make([]byte, n)
		copy(b, head)
		if _, err := io.ReadFull(w.Conn, b[len(head):]); err != nil {
			return message{}, err
		}
		return decode(w.t, b), nil
	}
}

func (w wire) must() message {
	w.t.Helper()
	m, err := w.read()
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

// closed demands that the server has closed after what was read.
func (w wire) closed() {
	w.t.Helper()
	if m, err := w.read(); err == nil {
		w.t.Errorf("still open: %v", m)
	} else if !errors.Is(err, io.EOF) {
		w.t.Errorf("end of the connection: %v", err)
	}
}

// alive demands that the connection still serves.
func (w wire) alive() {
	w.t.Helper()
	w.send(whoAmI(99))
	if m := w.must(); m.id != 99 || m.code != 0 {
		w.t.Errorf("the connection is not usable: %v", m)
	}
}

func decode(t testing.TB, b []byte) message {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("answer %x: %v", b, err)
		}
	}
	r, err := ber.NewReader(b, ber.Limits{Depth: 16, Count: 100000, Size: 64 << 20}).Enter(ber.Sequence)
	must(err)
	var m message
	m.id, err = r.Int(ber.Integer)
	must(err)
	op, err := r.Next()
	must(err)
	m.tag, m.body = op.Tag.Number, op.Raw
	if !r.Empty() {
		m.cookie = pagedCookie(t, r)
	}
	in, err := r.Into(op)
	must(err)
	if m.tag == 4 {
		dn, err := in.OctetString(ber.OctetString)
		must(err)
		m.dn = string(dn)
		return m
	}
	m.code, err = in.Int(ber.Enumerated)
	must(err)
	matched, err := in.OctetString(ber.OctetString)
	must(err)
	text, err := in.OctetString(ber.OctetString)
	must(err)
	m.matched, m.text = string(matched), string(text)
	for !in.Empty() {
		e, err := in.Next()
		must(err)
		value := string(e.Content)
		switch e.Tag {
		case ber.Context(10, false):
			m.name = value
		case ber.Context(11, false):
			m.value = &value
		default:
			t.Fatalf("answer %x: %s in a result", b, e.Tag)
		}
	}
	return m
}

// pagedCookie reads controls that hold one of paged results.
func pagedCookie(t testing.TB, r *ber.Reader) *string {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("controls of an answer: %v", err)
		}
	}
	list, err := r.Enter(ber.Context(0, true))
	must(err)
	c, err := list.Enter(ber.Sequence)
	must(err)
	oid, err := c.OctetString(ber.OctetString)
	must(err)
	value, err := c.OctetString(ber.OctetString)
	must(err)
	in, err := ber.NewReader(value, ber.Limits{}).Enter(ber.Sequence)
	must(err)
	size, err := in.Int(ber.Integer)
	must(err)
	octets, err := in.OctetString(ber.OctetString)
	must(err)
	if string(oid) != dit.OIDPagedResults || size != 0 || !list.Empty() || !c.Empty() || !in.Empty() || !r.Empty() {
		t.Fatalf("control %s, size %d", oid, size)
	}
	cookie := string(octets)
	return &cookie
}

// The requests.

func envelope(id int64, op func(b *ber.Builder), controls ...[]byte) []byte {
	var b ber.Builder
	b.Begin(ber.Sequence)
	b.Int(ber.Integer, id)
	op(&b)
	if controls != nil {
		b.Begin(ber.Context(0, true))
		for _, c := range controls {
			b.Raw(c)
		}
		b.End()
	}
	b.End()
	return b.Encoded()
}

func control(oid string, critical bool, value string) []byte {
	var b ber.Builder
	b.Begin(ber.Sequence)
	b.Text(ber.OctetString, oid)
	if critical {
		b.Bool(ber.Boolean, true)
	}
	if value != "" {
		b.Text(ber.OctetString, value)
	}
	b.End()
	return b.Encoded()
}

func bind(id, version int64, name, password string) []byte {
	return envelope(id, func(b *ber.Builder) {
		b.Begin(ber.App(0, true))
		b.Int(ber.Integer, version)
		b.Text(ber.OctetString, name)
		b.Text(ber.Context(0, false), password)
		b.End()
	})
}

func extended(id int64, oid string) []byte {
	return envelope(id, func(b *ber.Builder) {
		b.Begin(ber.App(23, true))
		b.Text(ber.Context(0, false), oid)
		b.End()
	})
}

// cancel asks for the operation other to be canceled.
func cancel(id, other int64) []byte {
	return envelope(id, func(b *ber.Builder) {
		b.Begin(ber.App(23, true))
		b.Text(ber.Context(0, false), dit.OIDCancel)
		b.Begin(ber.Context(1, false))
		b.Begin(ber.Sequence)
		b.Int(ber.Integer, other)
		b.End()
		b.End()
		b.End()
	})
}

// page is a paged results control.
func page(size int64, cookie string, critical bool) []byte {
	var b ber.Builder
	b.Begin(ber.Sequence)
	b.Int(ber.Integer, size)
	b.Text(ber.OctetString, cookie)
	b.End()
	return control(dit.OIDPagedResults, critical, string(b.Encoded()))
}

func whoAmI(id int64) []byte { return extended(id, dit.OIDWhoAmI) }

// ask is a search request; its zero value asks the root DSE for everything.
type ask struct {
	base       string
	scope      int64
	deref      int64
	size       int64
	seconds    int64
	typesOnly  bool
	filter     []byte // encoded; nil is (objectClass=*)
	attributes []string
	controls   [][]byte
}

func (a ask) pdu(id int64) []byte {
	if a.filter == nil {
		a.filter = present("objectClass")
	}
	return envelope(id, func(b *ber.Builder) {
		b.Begin(ber.App(3, true))
		b.Text(ber.OctetString, a.base)
		b.Int(ber.Enumerated, a.scope)
		b.Int(ber.Enumerated, a.deref)
		b.Int(ber.Integer, a.size)
		b.Int(ber.Integer, a.seconds)
		b.Bool(ber.Boolean, a.typesOnly)
		b.Raw(a.filter)
		b.Begin(ber.Sequence)
		for _, name := range a.attributes {
			b.Text(ber.OctetString, name)
		}
		b.End()
		b.End()
	}, a.controls...)
}

func present(name string) []byte {
	return ber.AppendTLV(nil, ber.Context(7, false), []byte(name))
}

func set(tag uint32, filters ...[]byte) []byte {
	var content []byte
	for _, f := range filters {
		content = append(content, f...)
	}
	return ber.AppendTLV(nil, ber.Context(tag, true), content)
}

func and(filters ...[]byte) []byte { return set(0, filters...) }
func or(filters ...[]byte) []byte  { return set(1, filters...) }
func not(filter []byte) []byte     { return set(2, filter) }

func assertion(tag uint32, name, value string) []byte {
	content := ber.AppendTLV(nil, ber.OctetString, []byte(name))
	return ber.AppendTLV(nil, ber.Context(tag, true), ber.AppendTLV(content, ber.OctetString, []byte(value)))
}

func equal(name, value string) []byte { return assertion(3, name, value) }

// extensible takes what an extensible item may hold; empty parts are absent.
func extensible(rule, name, value string, dn bool) []byte {
	var content []byte
	for tag, part := range []string{1: rule, 2: name, 3: value} {
		if part != "" {
			content = ber.AppendTLV(content, ber.Context(uint32(tag), false), []byte(part))
		}
	}
	if dn {
		content = ber.AppendTLV(content, ber.Context(4, false), []byte{0xff})
	}
	return ber.AppendTLV(nil, ber.Context(9, true), content)
}

// substrings takes the parts in order: initial, any…, final; empty initial and
// final are absent.
func substrings(name string, parts ...string) []byte {
	var list []byte
	for i, p := range parts {
		tag := uint32(1)
		switch {
		case i == 0:
			tag = 0
		case i == len(parts)-1:
			tag = 2
		}
		if p != "" || tag == 1 {
			list = ber.AppendTLV(list, ber.Context(tag, false), []byte(p))
		}
	}
	content := ber.AppendTLV(nil, ber.OctetString, []byte(name))
	return ber.AppendTLV(nil, ber.Context(4, true), ber.AppendTLV(content, ber.Sequence, list))
}

// search sends one search and collects the names of the entries and the result.
func (w wire) search(a ask) (dns []string, done message) {
	w.t.Helper()
	w.send(a.pdu(7))
	for {
		m := w.must()
		if m.id != 7 {
			w.t.Fatalf("answer to another request: %v", m)
		}
		if m.tag == 5 {
			return dns, m
		}
		dns = append(dns, m.dn)
	}
}
