package smtpclient_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"directnode/internal/direct"
	"directnode/internal/mail"
	"directnode/internal/spec"
	"directnode/internal/testpki"
	"directnode/sta/smtpclient"
	"directnode/sta/smtpserver"
)

const (
	ok        = "<nil>"
	temporary = "temporary"
	permanent = "permanent"
)

// kind sums a verdict up: step and sort.
func kind(t *testing.T, err error) string {
	t.Helper()
	var e *smtpclient.Error
	switch {
	case err == nil:
		return ok
	case !errors.As(err, &e):
		t.Errorf("%v is no *Error", err)
		return ""
	case e.Temporary():
		return temporary + " " + string(e.Step)
	}
	return permanent + " " + string(e.Step)
}

func kinds(t *testing.T, errs []error) string {
	t.Helper()
	var list []string
	for _, e := range errs {
		list = append(list, kind(t, e))
	}
	return strings.Join(list, ", ")
}

// plain is the start of a session without extensions, pipe one with PIPELINING.
func plain(then ...string) []string {
	return append([]string{"S: 220 mx", "W: EHLO ", "S: 250 mx"}, then...)
}

func pipe(then ...string) []string {
	return append([]string{"S: 220 mx", "W: EHLO ", "S: 250-mx", "S: 250 PIPELINING"}, then...)
}

// mailed goes on to the 354 for one recipient.
func mailed(then ...string) []string {
	return plain(append([]string{"W: MAIL FROM:<ann@a.direct.test>", "S: 250 ok", "W: RCPT TO:<bob@b.direct.test>", "S: 250 ok", "W: DATA", "S: 354 go"}, then...)...)
}

func TestServersAnswer(t *testing.T) {
	long := strings.Repeat("x", 2000)
	for _, tc := range []struct {
		name   string
		script []string
		want   string
	}{
		{"accepts", mailed("DATA", "S: 250 2.0.0 queued", "W: QUIT", "S: 221 bye"), ok},
		{"accepts and never says goodbye", mailed("DATA", "S: 250 ok", "HANG"), ok},
		{"accepts and closes", mailed("DATA", "S: 250 ok", "CLOSE"), ok},
		{"251 for a recipient", plain("W: MAIL", "S: 250", "W: RCPT", "S: 251 will forward", "W: DATA", "S: 354", "DATA", "S: 250", "W: QUIT", "S: 221"), ok},
		{"multi-line replies", plain("W: MAIL", "S: 250-a", "S: 250-b", "S: 250 c", "W: RCPT", "S: 250", "W: DATA", "S: 354-a", "S: 354 b", "DATA", "S: 250-x", "S: 250 y", "CLOSE"), ok},
		{"LF alone in replies", []string{"R: 220 mx\n", "W: EHLO", "R: 250 mx\n", "W: MAIL", "R: 250 ok\n", "W: RCPT", "R: 250 ok\n", "W: DATA", "R: 354 go\n", "DATA", "R: 250 ok\n", "CLOSE"}, ok},
		{"knows only HELO", []string{"S: 220 mx", "W: EHLO ", "S: 502 what", "W: HELO node", "S: 250 mx", "W: MAIL FROM:<ann@a.direct.test>\r\n", "S: 250", "W: RCPT", "S: 250", "W: DATA", "S: 354", "DATA", "S: 250", "CLOSE"}, ok},
		{"lower-case keywords", []string{"S: 220 mx", "W: EHLO ", "S: 250-mx", "S: 250-pipelining", "S: 250 size 100000", "W: MAIL FROM:<ann@a.direct.test> SIZE=14\r\n", "W: RCPT", "S: 250", "S: 250", "W: DATA", "S: 354", "DATA", "S: 250", "CLOSE"}, ok},

		{"refuses at connect for now", []string{"S: 421 busy", "HANG"}, "temporary greeting"},
		{"refuses at connect", []string{"S: 554 5.7.1 no", "HANG"}, "permanent greeting"},
		{"greets with 250", []string{"S: 250 hello", "HANG"}, "temporary greeting"},
		{"refuses EHLO and HELO", []string{"S: 220", "W: EHLO", "S: 550 no", "W: HELO", "S: 550 no", "HANG"}, "permanent EHLO"},
		{"refuses the sender", plain("W: MAIL", "S: 550 5.7.1 no", "W: QUIT", "S: 221"), "permanent MAIL"},
		{"refuses the sender for now", plain("W: MAIL", "S: 451 4.3.0 later", "W: QUIT", "S: 221"), "temporary MAIL"},
		{"refuses the recipient", plain("W: MAIL", "S: 250", "W: RCPT", "S: 550 5.1.1 no", "W: RSET", "S: 250", "W: QUIT", "S: 221"), "permanent RCPT"},
		{"refuses the recipient for now", plain("W: MAIL", "S: 250", "W: RCPT", "S: 450 4.2.1 later", "W: RSET", "S: 250", "W: QUIT", "S: 221"), "temporary RCPT"},
		{"refuses DATA", plain("W: MAIL", "S: 250", "W: RCPT", "S: 250", "W: DATA", "S: 554 no", "W: RSET", "S: 250", "W: QUIT", "S: 221"), "permanent DATA"},
		{"refuses the message", mailed("DATA", "S: 554 5.6.0 no", "W: QUIT", "S: 221"), "permanent message"},
		{"refuses the message for now", mailed("DATA", "S: 452 4.3.1 full", "W: QUIT", "S: 221"), "temporary message"},

		{"never greets", []string{"HANG"}, "temporary greeting"},
		{"never answers EHLO", []string{"S: 220", "HANG"}, "temporary EHLO"},
		{"never answers MAIL", plain("HANG"), "temporary MAIL"},
		{"never answers RCPT", plain("W: MAIL", "S: 250", "CLOSE"), "temporary RCPT"},
		{"never answers DATA", plain("W: MAIL", "S: 250", "W: RCPT", "S: 250", "CLOSE"), "temporary DATA"},
		{"never answers the message", mailed("HANG"), "temporary message"},
		{"closes at once", []string{"CLOSE"}, "temporary greeting"},
		{"closes instead of 354", plain("W: MAIL", "S: 250", "W: RCPT", "S: 250", "CLOSE"), "temporary DATA"},
		{"drops after the message", mailed("DATA", "CLOSE"), "temporary message"},
		{"421 at MAIL", plain("W: MAIL", "S: 421 bye", "CLOSE"), "temporary MAIL"},
		{"421 at RCPT", plain("W: MAIL", "S: 250", "W: RCPT", "S: 421 bye", "CLOSE"), "temporary RCPT"},

		{"multi-line for ever", []string{"FLOOD: 220-hello"}, "temporary greeting"},
		{"a line without end", []string{"R: 220 " + long + long + long, "HANG"}, "temporary greeting"},
		{"a long line", []string{"S: 220 " + long, "HANG"}, "temporary greeting"},
		{"garbage", []string{"S: SSH-2.0-OpenSSH", "HANG"}, "temporary greeting"},
		{"binary garbage", []string{"R: \x16\x03\x01\x00\n", "HANG"}, "temporary greeting"},
		{"two codes in one reply", []string{"S: 220-a", "S: 250 b", "HANG"}, "temporary greeting"},
		{"354 to RCPT", plain("W: MAIL", "S: 250", "W: RCPT", "S: 354", "HANG"), "temporary RCPT"},
		{"250 to DATA", plain("W: MAIL", "S: 250", "W: RCPT", "S: 250", "W: DATA", "S: 250", "CLOSE"), "temporary DATA"},
		{"354 to the message", mailed("DATA", "S: 354", "HANG"), "temporary message"},
		{"a code out of range", plain("W: MAIL", "S: 650 what", "HANG"), "temporary MAIL"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			errs := submit(t, newFake(nil, tc.script), smtpclient.Options{Hostname: "node.a.direct.test"}, addr(t, "ann@a.direct.test"), addrs(t, "bob@b.direct.test"), body("Subject: x\r\n\n"))
			if got := kinds(t, errs); got != tc.want {
				t.Errorf("got %s (%v), want %s", got, errs, tc.want)
			}
		})
	}
}

func TestRefusalsCarryTheServersWords(t *testing.T) {
	f := newFake(nil, plain("W: MAIL", "S: 250", "W: RCPT", "S: 550-5.1.1 no such", "S: 550 5.1.1 us\x01er", "W: RSET", "S: 250", "W: QUIT", "S: 221"))
	err := smtpclient.New(smtpclient.Options{}).Submit(t.Context(), f.listen(t), direct.Address{}, addrs(t, "bob@b.direct.test"), body("x"))[0]
	var r *mail.Reply
	if !errors.As(err, &r) || r.Error() != "550 5.1.1 no such us?er" {
		t.Errorf("got %v", err)
	}
	if log := f.log(); log[0] != "EHLO [127.0.0.1]" || log[1] != "MAIL FROM:<>" {
		t.Errorf("the server saw %q", log)
	}
}

func TestEachRecipientHasItsVerdict(t *testing.T) {
	to := addrs(t, "a@b.direct.test", "b@b.direct.test", "c@b.direct.test")
	for name, script := range map[string][]string{
		"one by one": plain("W: MAIL", "S: 250", "W: RCPT TO:<a@", "S: 250", "W: RCPT TO:<b@", "S: 550 no", "W: RCPT TO:<c@", "S: 450 later", "W: DATA", "S: 354", "DATA", "S: 250", "CLOSE"),
		"pipelined":  pipe("W: MAIL", "W: RCPT TO:<a@", "W: RCPT TO:<b@", "W: RCPT TO:<c@", "S: 250", "S: 250", "S: 550 no", "S: 450 later", "W: DATA", "S: 354", "DATA", "S: 250", "CLOSE"),
	} {
		t.Run(name, func(t *testing.T) {
			errs := submit(t, newFake(nil, script), smtpclient.Options{}, direct.Address{}, to, body("x"))
			if got, want := kinds(t, errs), "<nil>, permanent RCPT, temporary RCPT"; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
	t.Run("refused sender, pipelined", func(t *testing.T) {
		f := newFake(nil, pipe("W: MAIL", "W: RCPT", "W: RCPT", "W: RCPT", "S: 550 no", "S: 503 no", "S: 503 no", "S: 503 no", "W: QUIT", "S: 221"))
		errs := submit(t, f, smtpclient.Options{}, direct.Address{}, to, body("x"))
		if got, want := kinds(t, errs), "permanent MAIL, permanent MAIL, permanent MAIL"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestMessageLeavesWithCanonicalLineEnds(t *testing.T) {
	for in, want := range map[string]string{
		"":                      ".\r\n",
		"a":                     "a\r\n.\r\n",
		"a\r\n":                 "a\r\n.\r\n",
		"a\nb\rc\r\nd":          "a\r\nb\r\nc\r\nd\r\n.\r\n",
		".\n..\nx.\n":           "..\r\n...\r\nx.\r\n.\r\n",
		"x\n.\nMAIL FROM:<e>\n": "x\r\n..\r\nMAIL FROM:<e>\r\n.\r\n",
		"x\r.\rMAIL FROM:<e>\r": "x\r\n..\r\nMAIL FROM:<e>\r\n.\r\n",
		"\r\r\n\n\r":            "\r\n\r\n\r\n\r\n.\r\n",
	} {
		f := newFake(nil, mailed("DATA", "S: 250", "CLOSE"))
		errs := submit(t, f, smtpclient.Options{}, addr(t, "ann@a.direct.test"), addrs(t, "bob@b.direct.test"), body(in))
		if log := f.log(); errs[0] != nil || log[len(log)-1] != want {
			t.Errorf("%q left as %q (%v), want %q", in, log[len(log)-1], errs[0], want)
		}
	}
}

func TestParametersFollowTheOffers(t *testing.T) {
	for _, tc := range []struct {
		name, body, want string
		ext              []string
		mail             string
	}{
		{"nothing offered", "x\n", ok, nil, "MAIL FROM:<>"},
		{"SIZE counts CR LF and no dots", ".x\ny", ok, []string{"S: 250 SIZE"}, "MAIL FROM:<> SIZE=7"},
		{"SIZE 0 is no limit", "x", ok, []string{"S: 250 SIZE 0"}, "MAIL FROM:<> SIZE=3"},
		{"the limit", "x\n", ok, []string{"S: 250 SIZE 3"}, "MAIL FROM:<> SIZE=3"},
		{"beyond the limit", "xy\n", "permanent MAIL", []string{"S: 250 SIZE 3"}, ""},
		{"8BITMIME unused", "x", ok, []string{"S: 250 8BITMIME"}, "MAIL FROM:<>"},
		{"8BITMIME used", "\xe4", ok, []string{"S: 250 8BITMIME"}, "MAIL FROM:<> BODY=8BITMIME"},
		{"8-bit content not taken", "\xe4", "permanent MAIL", nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			script := []string{"S: 220", "W: EHLO", "S: 250 mx"}
			if tc.ext != nil {
				script = append([]string{"S: 220", "W: EHLO", "S: 250-mx"}, tc.ext...)
			}
			if tc.mail != "" {
				script = append(script, "W: "+tc.mail+"\r\n", "S: 250", "W: RCPT", "S: 250", "W: DATA", "S: 354", "DATA", "S: 250", "CLOSE")
			} else {
				script = append(script, "W: QUIT", "S: 221")
			}
			errs := submit(t, newFake(nil, script), smtpclient.Options{}, direct.Address{}, addrs(t, "bob@b.direct.test"), body(tc.body))
			if got := kinds(t, errs); got != tc.want {
				t.Errorf("got %s (%v), want %s", got, errs, tc.want)
			}
		})
	}
}

func TestUnreadableMessageIsNotSent(t *testing.T) {
	c := smtpclient.New(smtpclient.Options{})
	to := addrs(t, "bob@b.direct.test")
	if got := kinds(t, c.Submit(t.Context(), "127.0.0.1:1", direct.Address{}, to, body("a\x00b"))); got != "permanent local" {
		t.Errorf("NUL: %s", got)
	}
	broken := func() (io.ReadCloser, error) { return nil, errors.New("disk") }
	if got := kinds(t, c.Submit(t.Context(), "127.0.0.1:1", direct.Address{}, to, broken)); got != "temporary local" {
		t.Errorf("unreadable: %s", got)
	}
	// Readable once, then not: the server must not see an end of the message.
	f := newFake(nil, plain("W: MAIL", "S: 250", "W: RCPT", "S: 250", "W: DATA", "S: 354", "DATA"))
	n := 0
	once := func() (io.ReadCloser, error) {
		if n++; n == 2 {
			return io.NopCloser(io.MultiReader(strings.NewReader("half"), failing{})), nil
		}
		return io.NopCloser(strings.NewReader("half and half")), nil
	}
	if got := kinds(t, submit(t, f, smtpclient.Options{}, direct.Address{}, to, once)); got != "temporary local" {
		t.Errorf("read error on the way: %s", got)
	}
	for _, s := range f.log() {
		if strings.HasSuffix(s, ".\r\n") {
			t.Errorf("half a message was ended: %q", s)
		}
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("disk") }

func TestServerThatStopsReadingDoesNotHoldUs(t *testing.T) {
	for name, limit := range map[string]time.Duration{"by default": 0, "shortened": time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(nil, mailed("STALL: 1h"))
				start := time.Now()
				c := smtpclient.New(smtpclient.Options{Dial: world{mxAddr: f}.dial, Timeouts: smtpclient.Timeouts{Block: limit}})
				errs := c.Submit(t.Context(), mxAddr, addr(t, "ann@a.direct.test"), addrs(t, "bob@b.direct.test"), body("x"))
				want := 3*time.Minute + 5*time.Second // RFC 5321 §4.5.3.2.5, and a last look for a reply
				if limit != 0 {
					want = limit + 5*time.Second
				}
				if got := kinds(t, errs); got != "temporary message" || time.Since(start) > want {
					t.Errorf("%s after %v: %v", got, time.Since(start), errs)
				}
				time.Sleep(time.Hour) // until the server wakes and leaves
			})
		})
	}
}

func TestFullSocketDoesNotHoldUs(t *testing.T) {
	f := newFake(nil, mailed("STALL: 500ms"))
	errs := smtpclient.New(smtpclient.Options{Timeouts: smtpclient.Timeouts{Block: 100 * time.Millisecond}}).
		Submit(t.Context(), f.listen(t), addr(t, "ann@a.direct.test"), addrs(t, "bob@b.direct.test"), body(strings.Repeat(strings.Repeat("x", 998)+"\r\n", 12<<10)))
	if got := kinds(t, errs); got != "temporary message" {
		t.Errorf("%s: %v", got, errs)
	}
}

func TestRefusalInTheMiddleOfTheMessageIsHeard(t *testing.T) {
	f := newFake(nil, mailed("S: 552 5.3.4 too much", "STALL: 200ms", "CLOSE"))
	errs := smtpclient.New(smtpclient.Options{}).Submit(t.Context(), f.listen(t), addr(t, "ann@a.direct.test"), addrs(t, "bob@b.direct.test"),
		body(strings.Repeat(strings.Repeat("x", 998)+"\r\n", 12<<10)))
	// The reset that follows may destroy the words on the way; then it is temporary.
	if got := kinds(t, errs); got != "permanent message" && got != "temporary message" {
		t.Errorf("%s: %v", got, errs)
	}
}

func TestCancelledDeliveryEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		errs := smtpclient.New(smtpclient.Options{Dial: world{mxAddr: newFake(nil, []string{"HANG"})}.dial}).Submit(ctx, mxAddr, direct.Address{}, addrs(t, "bob@b.direct.test"), body("x"))
		if got := kinds(t, errs); got != "temporary greeting" || time.Since(start) != time.Second {
			t.Errorf("%s after %v", got, time.Since(start))
		}
	})
}

func TestSTARTTLS(t *testing.T) {
	spec.Covers(t, "AS-6.1-p", "AS-6.1-r")
	cfg := fakeTLS(t)
	to := addrs(t, "bob@b.direct.test")
	offer := []string{"S: 220", "W: EHLO", "S: 250-mx", "S: 250 starttls", "W: STARTTLS"}
	secured := append(offer[:len(offer):len(offer)], "S: 220 go", "TLS", "W: EHLO", "S: 250 mx", "W: MAIL FROM:<>", "S: 250", "W: RCPT", "S: 250", "W: DATA", "S: 354", "DATA", "S: 250", "CLOSE")
	inClear := []string{"W: MAIL FROM:<>", "S: 250", "W: RCPT", "S: 250", "W: DATA", "S: 354", "DATA", "S: 250", "CLOSE"}
	noMail := []string{"CLOSE"}
	with := func(a []string, b ...string) []string { return append(a[:len(a):len(a)], b...) }
	for _, tc := range []struct {
		name    string
		mode    smtpclient.TLSMode
		scripts [][]string
		want    string
	}{
		{"used where offered", smtpclient.Opportunistic, [][]string{secured}, ok},
		{"not offered", smtpclient.Opportunistic, [][]string{plain(inClear...)}, ok},
		{"refused", smtpclient.Opportunistic, [][]string{with(with(offer, "S: 454 not now"), inClear...)}, ok},
		{"handshake fails", smtpclient.Opportunistic, [][]string{with(offer, "S: 220 go", "CLOSE"), plain(inClear...)}, ok},
		{"octets injected", smtpclient.Opportunistic, [][]string{with(offer, "R: 220 go\r\n250 injected\r\n", "TLS", "CLOSE")}, "temporary STARTTLS"},
		{"switched off", smtpclient.Never, [][]string{append([]string{"S: 220", "W: EHLO", "S: 250-mx", "S: 250 STARTTLS"}, inClear...)}, ok},
		{"required, not offered", smtpclient.Required, [][]string{plain(noMail...)}, "temporary STARTTLS"},
		{"required, refused", smtpclient.Required, [][]string{with(offer, "S: 454 not now", "CLOSE")}, "temporary STARTTLS"},
		{"required, certificate unknown", smtpclient.Required, [][]string{with(offer, "S: 220 go", "TLS", "CLOSE")}, "temporary STARTTLS"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			errs := submit(t, newFake(cfg, tc.scripts...), smtpclient.Options{TLS: tc.mode}, direct.Address{}, to, body("x"))
			if got := kinds(t, errs); got != tc.want {
				t.Errorf("got %s (%v), want %s", got, errs, tc.want)
			}
		})
	}
}

func TestRequiredTLSTakesAVerifiedServer(t *testing.T) {
	root := testpki.New(t).Root("Root")
	leaf := root.Leaf("mx", testpki.Domain("mx.b.direct.test"), testpki.ExtKeyUsage(x509.ExtKeyUsageServerAuth))
	roots := x509.NewCertPool()
	roots.AddCert(root.Cert)
	script := []string{"S: 220", "W: EHLO", "S: 250-mx", "S: 250 STARTTLS", "W: STARTTLS", "S: 220", "TLS", "W: EHLO", "S: 250", "W: MAIL", "S: 250", "W: RCPT", "S: 250", "W: DATA", "S: 354", "DATA", "S: 250", "CLOSE"}
	f := newFake(&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.DER}, PrivateKey: leaf.Key}}}, script)
	z := &zone{mx: map[string][]*net.MX{"b.direct.test": mx(10, "mx.b.direct.test.")}, addrs: map[string][]netip.Addr{"mx.b.direct.test": at("192.0.2.1")}}
	synctest.Test(t, func(t *testing.T) {
		c := smtpclient.New(smtpclient.Options{Lookup: z, TLS: smtpclient.Required, TLSConfig: &tls.Config{RootCAs: roots, Time: testpki.Now}, Dial: world{mxAddr: f}.dial})
		if err := c.Deliver(t.Context(), direct.Address{}, addrs(t, "bob@b.direct.test"), body("x"))[0]; err != nil {
			t.Error(err)
		}
	})
	f.verify(t)
}

func TestMoreThanAHundredRecipientsGoInBatches(t *testing.T) {
	b := &store{}
	s := serveOurs(t, b, smtpserver.Options{})
	var to []direct.Address
	for i := range 250 {
		to = append(to, addr(t, fmt.Sprintf("r%d@b.direct.test", i)))
	}
	errs := smtpclient.New(smtpclient.Options{}).Submit(t.Context(), s, direct.Address{}, to, body("x"))
	for i, err := range errs {
		if err != nil {
			t.Fatalf("recipient %d: %v", i, err)
		}
	}
	if fmt.Sprint(b.sizes()) != "[100 100 50]" {
		t.Errorf("transactions of %v", b.sizes())
	}
}

// store is a backend of our own server.
type store struct {
	mu   sync.Mutex
	env  []mail.Envelope
	body []string
}

func (b *store) Rcpt(_ context.Context, _ *smtpserver.Session, to direct.Address) error {
	if to.Local() == "nobody" {
		return &mail.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "No such user"}
	}
	return nil
}

func (b *store) Data(_ context.Context, env mail.Envelope, r io.Reader) (string, error) {
	all, err := io.ReadAll(r)
	if err != nil {
		return "", err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.env = append(b.env, env)
	b.body = append(b.body, string(all))
	return "", nil
}

func (b *store) sizes() []int {
	b.mu.Lock()
	defer b.mu.Unlock()
	var n []int
	for _, e := range b.env {
		n = append(n, len(e.To))
	}
	return n
}

func serveOurs(t *testing.T, b smtpserver.Backend, o smtpserver.Options) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- smtpserver.New(b, o).Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func TestOurClientAndOurServer(t *testing.T) {
	content := "Subject: x\r\n\r\n.\r\n..\r\n\xe4\r\n" + strings.Repeat("0123456789\r\n", 100000)
	for name, cfg := range map[string]*tls.Config{"in clear": nil, "TLS": fakeTLS(t)} {
		t.Run(name, func(t *testing.T) {
			b := &store{}
			var log bytes.Buffer
			c := smtpclient.New(smtpclient.Options{Hostname: "node.a.direct.test", Log: slog.New(slog.NewTextHandler(&log, nil))})
			errs := c.Submit(t.Context(), serveOurs(t, b, smtpserver.Options{TLS: cfg}), addr(t, `"ann lee"@a.direct.test`), addrs(t, "bob@b.direct.test", "nobody@b.direct.test"), body(content))
			if got := kinds(t, errs); got != "<nil>, permanent RCPT" {
				t.Fatalf("%s: %v", got, errs)
			}
			e := b.env[0]
			if e.From.String() != `"ann lee"@a.direct.test` || len(e.To) != 1 || e.Helo != "node.a.direct.test" || (e.TLS != "") != (cfg != nil) {
				t.Errorf("envelope %+v", e)
			}
			if !strings.HasSuffix(b.body[0], "\r\n"+content) {
				t.Error("the message changed on the way")
			}
			if n := strings.Count(log.String(), "\n"); n != 1 || strings.Contains(log.String(), "bob") {
				t.Errorf("log:\n%s", log.String())
			}
		})
	}
}

func TestInteropSMTPSinkTakesOurMail(t *testing.T) {
	sink, err := exec.LookPath("smtp-sink")
	switch {
	case err != nil && os.Getenv("DIRECTNODE_PEERS") == "required":
		t.Fatal("peer smtp-sink absent; tools/install-peers installs it")
	case err != nil:
		t.Skip("SKIP peer smtp-sink absent")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	l.Close()
	for name, opts := range map[string][]string{"ESMTP": nil, "HELO only": {"-e"}, "without PIPELINING": {"-p"}} {
		t.Run(name, func(t *testing.T) {
			args := append(slices.Clone(opts), at, "16")
			if os.Getuid() == 0 { // smtp-sink refuses to stay root
				args = append([]string{"-u", "nobody"}, args...)
			}
			cmd := exec.Command(sink, args...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			})
			for range 100 {
				c, err := net.Dial("tcp", at)
				if err == nil {
					c.Close()
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
			errs := smtpclient.New(smtpclient.Options{Timeouts: smtpclient.Timeouts{Total: 5 * time.Second}}).Submit(t.Context(), at, addr(t, "ann@a.direct.test"), addrs(t, "b@b.direct.test", "c@b.direct.test"), body("Subject: x\n\n.\nhello\n"))
			if got := kinds(t, errs); got != "<nil>, <nil>" {
				t.Errorf("%s: %v", got, errs)
			}
		})
	}
}
