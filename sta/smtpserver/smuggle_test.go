package smtpserver_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"directnode/sta/smtpserver"
)

// wire is a client in memory: it sends its segments, each as one read, and
// then ends. It keeps what the server writes.
type wire struct {
	segments []string
	out      bytes.Buffer
	closed   chan struct{}
	once     sync.Once
}

func newWire(segments ...string) *wire { return &wire{segments: segments, closed: make(chan struct{})} }

func (w *wire) Read(p []byte) (int, error) {
	if len(w.segments) == 0 {
		return 0, io.EOF
	}
	n := copy(p, w.segments[0])
	if w.segments[0] = w.segments[0][n:]; w.segments[0] == "" {
		w.segments = w.segments[1:]
	}
	return n, nil
}

func (w *wire) Write(p []byte) (int, error) { return w.out.Write(p) }
func (w *wire) Close() error                { w.once.Do(func() { close(w.closed) }); return nil }

func (w *wire) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
func (w *wire) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9} }
func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// hall is a listener that hands out the wires it is given.
type hall struct {
	next chan net.Conn
	once sync.Once
	shut chan struct{}
}

func newHall() *hall { return &hall{next: make(chan net.Conn), shut: make(chan struct{})} }

func (h *hall) Accept() (net.Conn, error) {
	select {
	case c := <-h.next:
		return c, nil
	case <-h.shut:
		return nil, net.ErrClosed
	}
}

func (h *hall) Close() error   { h.once.Do(func() { close(h.shut) }); return nil }
func (h *hall) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// hold serves wires until the test ends; the returned function plays one to
// its end.
func hold(t testing.TB, b smtpserver.Backend, o smtpserver.Options) func(*wire) {
	h := newHall()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	o.Hostname = "mx.direct.test"
	go func() { done <- smtpserver.New(b, o).Serve(ctx, h) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return func(w *wire) {
		h.next <- w
		select {
		case <-w.closed:
		case <-time.After(10 * time.Second):
			t.Fatal("the connection hangs")
		}
	}
}

// TestNothingSmugglesAMessage sends every string of 1 to 5 octets over {CR, LF,
// '.', NUL, 'x'} through a whole session, within DATA and as a chunk, with a
// second transaction behind it. The scanner's own test goes to 7 octets.
func TestNothingSmugglesAMessage(t *testing.T) {
	b := &store{}
	play := hold(t, b, smtpserver.Options{})
	const head = "EHLO c\r\nMAIL FROM:<ann@a.direct.test>\r\nRCPT TO:<bob@b.direct.test>\r\n"
	const evil = "MAIL FROM:<smuggled@evil.example>\r\nRCPT TO:<bob@b.direct.test>\r\nBDAT 1 LAST\r\nE"
	var grow func(s string)
	n := 0
	grow = func(s string) {
		n++
		data := "x" + s
		end := strings.Index(data, "\r\n.\r\n")
		whole := end >= 0 && tidy(data[:end+5])
		b.got = nil
		play(newWire(head+"DATA\r\n", data+evil))
		want := []string{}
		// A CR that ends s is broken by the text behind it, a dot line by nothing.
		if whole {
			want = append(want, unstuff(data[:end+2]))
			// What follows the end of the message are commands, as it should be;
			// but only whole lines are.
			if rest := data[end+5:]; rest == "" || strings.HasSuffix(rest, "\r\n") && tidy(rest) {
				want = append(want, "E\r\n")
			}
		}
		check(t, b, "DATA", s, want)

		b.got = nil
		play(newWire(head + "BDAT 6 LAST\r\n" + (data + "......")[:6] + "QUIT\r\n"))
		if chunk := (data + "......")[:6]; tidy(chunk) {
			check(t, b, "BDAT", s, []string{strings.TrimSuffix(chunk, "\r\n") + "\r\n"})
		} else {
			check(t, b, "BDAT", s, nil)
		}
		if len(s) == 5 {
			return
		}
		for _, c := range "\r\n.\x00x" {
			grow(s + string(c))
		}
	}
	grow("")
	if n != 1+5+25+125+625+3125 {
		t.Errorf("%d strings", n)
	}
}

// tidy says whether all line ends in s are CR LF and there is no NUL.
func tidy(s string) bool {
	return !strings.ContainsAny(strings.ReplaceAll(s, "\r\n", ""), "\r\n\x00")
}

func unstuff(s string) string { return strings.ReplaceAll(s, "\r\n.", "\r\n") }

func check(t *testing.T, b *store, how, s string, want []string) {
	t.Helper()
	var got []string
	for _, m := range b.messages() {
		got = append(got, m.content())
	}
	if strings.Join(got, "|") != strings.Join(want, "|") || len(got) != len(want) {
		t.Fatalf("%s, %q: got messages %q, want %q", how, s, got, want)
	}
}

// FuzzDialogue feeds a session anything: it neither panics nor hangs, and what
// becomes a message has clean line ends.
func FuzzDialogue(f *testing.F) {
	f.Add([]byte("EHLO c\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<b@b.test>\r\n|DATA\r\n|x\r\n.\r\nQUIT\r\n"))
	f.Add([]byte("HELO c\r\nMAIL FROM:<> SIZE=1\r\nRCPT TO:<postmaster>\r\nBDAT 2\r\nhiBDAT 0 LAST\r\n"))
	f.Add([]byte("EHLO c\r\nSTARTTLS\r\n|\x16\x03\x01\x00\x05hello"))
	f.Add([]byte("EHLO c\r\nMAIL FROM:<\"a\\\"b>\"@b.test>\r\nRSET\r\nVRFY\r\nNOOP\r\nHELP\r\nEXPN\r\n"))
	f.Add([]byte("EHLO c\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<b@b.test>\r\nBDAT 1\r\n.RSET\r\nBDAT 3\r\nabcEHLO c\r\n"))
	f.Add([]byte("MAIL FROM:<a@b.test>\r\nDATA\r\n\n\r\x00"))
	b := &store{}
	play := hold(f, b, smtpserver.Options{TLS: serverTLS(f), MaxMessageBytes: 1000})
	f.Fuzz(func(t *testing.T, in []byte) {
		b.mu.Lock()
		b.got = nil
		b.mu.Unlock()
		w := newWire(strings.SplitAfter(string(in), "|")...)
		for i, s := range w.segments {
			w.segments[i] = strings.TrimSuffix(s, "|")
		}
		w.segments = dropEmpty(w.segments)
		play(w)
		for _, m := range b.messages() {
			if c := m.content(); !tidy(c) || len(c) > 1000 {
				t.Errorf("message %q", c)
			}
		}
		if err := replies(w.out.String()); err != nil {
			t.Errorf("%v in %q", err, w.out.String())
		}
	})
}

func dropEmpty(list []string) []string {
	kept := list[:0]
	for _, s := range list {
		if s != "" {
			kept = append(kept, s)
		}
	}
	return kept
}

// replies checks that what a server wrote in clear is a series of reply lines.
func replies(out string) error {
	clear, _, _ := strings.Cut(out, "220 2.0.0 Ready")
	for line := range strings.SplitAfterSeq(clear, "\r\n") {
		if line != "" && (len(line) < 6 || line[0] < '2' || line[0] > '5' || !strings.HasSuffix(line, "\r\n") || !tidy(line) || len(line) > 512) {
			return errors.New("bad reply line " + line)
		}
	}
	return nil
}
