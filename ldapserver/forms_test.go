package ldapserver_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"directnode/ldapserver"
	"directnode/ldapserver/dit"
)

// inEveryForm runs f with what dials a server in each of the forms in which
// connections are served: a plain TCP listener, another listener, and TLS.
func inEveryForm(t *testing.T, tr *dit.Tree, o ldapserver.Options, f func(t *testing.T, dial func() wire)) {
	server, trusting := certificates(t)
	for name, form := range map[string]struct {
		wrap func(net.Listener) net.Listener
		dial func(addr string) (net.Conn, error)
	}{
		"TCP":   {func(l net.Listener) net.Listener { return l }, func(addr string) (net.Conn, error) { return net.Dial("tcp", addr) }},
		"other": {func(l net.Listener) net.Listener { return struct{ net.Listener }{l} }, func(addr string) (net.Conn, error) { return net.Dial("tcp", addr) }},
		"TLS": {func(l net.Listener) net.Listener { return tls.NewListener(l, server) },
			func(addr string) (net.Conn, error) { return tls.Dial("tcp", addr, trusting) }},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			serve(t, ldapserver.New(func() *dit.Tree { return tr }, o), form.wrap(l))
			f(t, func() wire {
				c, err := form.dial(l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				c.SetDeadline(time.Now().Add(10 * time.Second))
				return wire{t, c}
			})
		})
	}
}

// buffered is the same connection, read in large pieces.
func (w wire) buffered() wire { return wire{w.t, buffered{w.Conn, &bytes.Buffer{}}} }

// buffered reads large pieces: one octet at a time takes too long for megabytes.
type buffered struct {
	net.Conn
	have *bytes.Buffer
}

func (b buffered) Read(p []byte) (int, error) {
	if b.have.Len() == 0 {
		piece := make([]byte, 64<<10)
		n, err := b.Conn.Read(piece)
		if n == 0 {
			return 0, err
		}
		b.have.Write(piece[:n])
	}
	return b.have.Read(p)
}

// TestAFloodThatIsReadLateIsAnsweredWhole sends more requests than the buffers
// between client and server hold answers, and reads only then.
func TestAFloodThatIsReadLateIsAnsweredWhole(t *testing.T) {
	big := string(bytes.Repeat([]byte("x"), 20<<10))
	tr := published(t, dit.Options{}, "bob@b.direct.test="+big)
	inEveryForm(t, tr, ldapserver.Options{}, func(t *testing.T, dial func() wire) {
		w := dial()
		if tcp, ok := w.Conn.(*net.TCPConn); ok {
			tcp.SetReadBuffer(64 << 10)
		}
		w = w.buffered()
		const n = 400
		for id := int64(1); id <= n; id++ {
			w.send(ask{base: top, scope: 2, filter: equal("mail", "bob@b.direct.test")}.pdu(id))
		}
		for id := int64(1); id <= n; id++ {
			if m := w.must(); m.id != id || m.tag != 4 || len(m.body) < len(big) {
				t.Fatalf("%v of %d octets, want the entry for %d", m, len(m.body), id)
			}
			if m := w.must(); m.id != id || m.code != 0 {
				t.Fatalf("%v, want the result for %d", m, id)
			}
		}
		w.alive()
	})
}

func TestAClientThatNeverReadsIsCutOff(t *testing.T) {
	big := string(bytes.Repeat([]byte("x"), 50<<10))
	tr := published(t, dit.Options{}, "bob@b.direct.test="+big)
	inEveryForm(t, tr, ldapserver.Options{WriteTimeout: 100 * time.Millisecond}, func(t *testing.T, dial func() wire) {
		w := dial()
		for id := int64(1); ; id++ {
			if _, err := w.Write(ask{base: top, scope: 2, filter: equal("mail", "bob@b.direct.test")}.pdu(id)); err != nil {
				var timeout net.Error
				if errors.As(err, &timeout) && timeout.Timeout() {
					t.Fatal("the server goes on reading")
				}
				break
			}
		}
		dial().alive()
	})
}

func TestHalfAMessageAndSilenceAreCutOff(t *testing.T) {
	o := ldapserver.Options{PDUTimeout: 50 * time.Millisecond, IdleTimeout: 50 * time.Millisecond}
	inEveryForm(t, world(t, dit.Options{}), o, func(t *testing.T, dial func() wire) {
		half := dial()
		half.send(whoAmI(99), []byte{0x30, 0x20})
		half.must()
		half.closed()
		idle := dial()
		idle.send(whoAmI(99))
		idle.must()
		idle.closed()
	})
}

// TestMessagesOfAllSizesCutAnywhere sends a long request between short ones, in
// pieces of every usual size.
func TestMessagesOfAllSizesCutAnywhere(t *testing.T) {
	long := ask{base: top, scope: 2, filter: equal("mail", string(bytes.Repeat([]byte("x"), 40<<10)))}.pdu(2)
	stream := slices.Concat(whoAmI(1), long, ask{base: top, scope: 2, filter: equal("mail", "bob@b.direct.test")}.pdu(3), whoAmI(4))
	inEveryForm(t, world(t, dit.Options{}), ldapserver.Options{}, func(t *testing.T, dial func() wire) {
		for _, piece := range []int{7, 100, 511, 512, 513, 8 << 10, 8<<10 + 1, len(stream)} {
			w := dial()
			for rest := stream; len(rest) > 0; {
				n := min(piece, len(rest))
				w.send(rest[:n])
				rest = rest[n:]
			}
			for _, want := range []string{"1 op 24 code 0 ", "2 op 5 code 0", "3 entry " + bobDN, "3 op 5 code 0", "4 op 24 code 0 "} {
				if m := w.must(); m.String() != want {
					t.Fatalf("in pieces of %d: %v, want %s", piece, m, want)
				}
			}
		}
	})
}

// TestAnswersBeforeAnUnbindArrive pipelines all that a client wants, the end too.
func TestAnswersBeforeAnUnbindArrive(t *testing.T) {
	inEveryForm(t, world(t, dit.Options{}), ldapserver.Options{}, func(t *testing.T, dial func() wire) {
		w := dial()
		w.send(slices.Concat(bind(1, 3, "", ""), ask{base: top, scope: 2, filter: equal("mail", "bob@b.direct.test")}.pdu(2), unhex(t, "30 05 0201 03 42 00")))
		for _, want := range []string{"1 op 1 code 0", "2 entry " + bobDN, "2 op 5 code 0"} {
			if m := w.must(); m.String() != want {
				t.Errorf("%v, want %s", m, want)
			}
		}
		w.closed()
	})
}

// TestNoticesArriveThoughTheClientSendsOn sends garbage and much behind it: the
// notice must not be lost with a reset.
func TestNoticesArriveThoughTheClientSendsOn(t *testing.T) {
	inEveryForm(t, world(t, dit.Options{}), ldapserver.Options{}, func(t *testing.T, dial func() wire) {
		w := dial()
		w.send(append(whoAmI(1), bytes.Repeat([]byte("GET "), 20<<10)...))
		if m := w.must(); m.id != 1 {
			t.Errorf("%v", m)
		}
		if m := w.must(); m.id != 0 || m.code != 2 {
			t.Errorf("%v, want a notice", m)
		}
		if _, err := w.read(); !errors.Is(err, io.EOF) {
			t.Errorf("end: %v", err)
		}
	})
}

func TestFiguresOfWhatIsServedAndDenied(t *testing.T) {
	tr := world(t, dit.Options{})
	addr, s := startWith(t, func() *dit.Tree { return tr }, ldapserver.Options{Exempt: everybody(), SearchRate: 2, MissRate: 1, PerAddress: 2})
	w := dial(t, addr)
	known, unknown := equal("mail", "bob@b.direct.test"), equal("mail", "eve@b.direct.test")
	for _, f := range [][]byte{known, present("mail"), and(slices.Repeat([][]byte{known}, 40)...), unknown, unknown, unknown, unknown, unknown, known} {
		w.search(ask{base: top, scope: 2, filter: f})
	}
	dial(t, addr).alive()
	refused(t, dial(t, addr))
	other := from(t, addr, "127.0.0.2")
	for range 11 {
		other.search(ask{base: top, scope: 2, filter: known})
	}
	other.search(ask{scope: 3})
	st := s.Stats()
	for name, c := range map[string]struct{ got, want uint64 }{
		"found":       {st.Searches["found"], 1 + 10},
		"absent":      {st.Searches["absent"], 5},
		"denied":      {st.Searches["denied"], 4},
		"failed":      {st.Searches["failed"], 1},
		"limited":     {st.Searches["limited"], 0},
		"listing":     {st.Denied["listing"], 1},
		"complexity":  {st.Denied["complexity"], 1},
		"misses":      {st.Denied["misses"], 1},
		"rate":        {st.Denied["rate"], 1},
		"per address": {st.Denied["per_address"], 1},
		"connections": {st.Denied["connections"], 0},
		"accepted":    {st.Accepted, 3},
		"open":        {uint64(st.Open), 3},
		"busy":        {st.Results[51], 3},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d, want %d", name, c.got, c.want)
		}
	}
}

// from dials from another loopback address.
func from(t *testing.T, addr, local string) wire {
	t.Helper()
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(local), 0))}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return wire{t, c}
}
