package smtpserver_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"directnode/internal/direct"
	"directnode/internal/mail"
	"directnode/internal/spec"
	"directnode/sta/smtpserver"
)

func TestDialogues(t *testing.T) {
	for _, tc := range []struct {
		name   string
		script []string
	}{
		{"a message", []string{"S: 220 mx.direct.test", "C: EHLO client.test", "S: 250-mx.direct.test", "C: MAIL FROM:<ann@a.direct.test> SIZE=100 BODY=8BITMIME", "S: 250 2.1.0",
			"C: RCPT TO:<bob@b.direct.test>", "S: 250 2.1.5", "C: DATA", "S: 354", "C: Subject: x", "C: ", "C: hello", "C: .", "S: 250 2.0.0", "C: QUIT", "S: 221", "S: EOF"}},
		{"HELO", []string{"S: 220", "C: HELO client", "S: 250 mx.direct.test", "C: MAIL FROM:<>", "S: 250", "C: RSET", "S: 250", "C: QUIT", "S: 221"}},
		{"lower case", []string{"S: 220", "C: ehlo client", "S: 250", "C: mail from:<ann@a.direct.test>", "S: 250", "C: rcpt to:<bob@b.direct.test>", "S: 250", "C: quit", "S: 221"}},
		{"RCPT before MAIL", []string{"S: 220", "C: EHLO c", "S: 250", "C: RCPT TO:<bob@b.direct.test>", "S: 503 5.5.1"}},
		{"DATA before MAIL", []string{"S: 220", "C: EHLO c", "S: 250", "C: DATA", "S: 503"}},
		{"DATA before RCPT", []string{"S: 220", "C: EHLO c", "S: 250", "C: MAIL FROM:<ann@a.direct.test>", "S: 250", "C: DATA", "S: 554"}},
		{"MAIL before EHLO", []string{"S: 220", "C: MAIL FROM:<ann@a.direct.test>", "S: 503", "C: EHLO c", "S: 250"}},
		{"MAIL twice", []string{"S: 220", "C: EHLO c", "S: 250", "C: MAIL FROM:<ann@a.direct.test>", "S: 250", "C: MAIL FROM:<eve@a.direct.test>", "S: 503"}},
		{"MAIL again after RSET", []string{"S: 220", "C: EHLO c", "S: 250", "C: MAIL FROM:<ann@a.direct.test>", "S: 250", "C: RSET", "S: 250", "C: RCPT TO:<b@b.direct.test>", "S: 503", "C: MAIL FROM:<eve@a.direct.test>", "S: 250"}},
		{"EHLO resets", []string{"S: 220", "C: EHLO c", "S: 250", "C: MAIL FROM:<ann@a.direct.test>", "S: 250", "C: EHLO c", "S: 250", "C: RCPT TO:<b@b.direct.test>", "S: 503"}},
		{"unknown command", []string{"S: 220", "C: XYZZY", "S: 500 5.5.2", "C: NOOP", "S: 250"}},
		{"empty line", []string{"S: 220", "C: ", "S: 500"}},
		{"VRFY, EXPN, HELP, NOOP", []string{"S: 220", "C: VRFY bob", "S: 252", "C: EXPN list", "S: 502", "C: HELP", "S: 214", "C: NOOP x", "S: 250"}},
		{"AUTH is not there", []string{"S: 220", "C: EHLO c", "S: 250", "C: AUTH PLAIN AGEAYg==", "S: 502"}},
		{"bad EHLO names", []string{"S: 220", "C: EHLO", "S: 501", "C: EHLO a(b", "S: 501", "C: EHLO " + strings.Repeat("a", 256), "S: 501", "C: EHLO [127.0.0.1]", "S: 250"}},
		{"bad paths", []string{"S: 220", "C: EHLO c", "S: 250", "C: MAIL FROM:ann@a.direct.test", "S: 501", "C: MAIL FROM:<ann@a.direct.test", "S: 501", "C: MAIL <ann@a.direct.test>", "S: 501",
			"C: MAIL FROM:<ann@a.direct.test>SIZE=1", "S: 501", "C: MAIL FROM:<ann>", "S: 553 5.1.7", "C: MAIL FROM:<a..b@a.direct.test>", "S: 553", "C: MAIL FROM:<ann@a.direct.test>", "S: 250",
			"C: RCPT TO:<>", "S: 501", "C: RCPT TO:<bob@>", "S: 553 5.1.3", "C: RCPT TO:<b\xf6b@b.direct.test>", "S: 553"}},
		{"source route is ignored", []string{"S: 220", "C: EHLO c", "S: 250", "C: MAIL FROM:<@relay.test:ann@a.direct.test>", "S: 250"}},
		{"white space after the colon", []string{"S: 220", "C: EHLO c", "S: 250", "C: MAIL FROM: <ann@a.direct.test>", "S: 250"}},
		{"postmaster", []string{"S: 220", "C: EHLO c", "S: 250", "C: MAIL FROM:<>", "S: 250", "C: RCPT TO:<PostMaster>", "S: 250"}},
		{"parameters", []string{"S: 220", "C: EHLO c", "S: 250", "C: MAIL FROM:<ann@a.direct.test> FOO=1", "S: 555 5.5.4", "C: MAIL FROM:<ann@a.direct.test> SMTPUTF8", "S: 555",
			"C: MAIL FROM:<ann@a.direct.test> BODY=BINARYMIME", "S: 555", "C: MAIL FROM:<ann@a.direct.test> SIZE=1001", "S: 552 5.3.4", "C: MAIL FROM:<ann@a.direct.test> SIZE=1000", "S: 250"}},
		{"DATA with an argument", append([]string{"S: 220", "C: EHLO c", "S: 250"}, "C: MAIL FROM:<>", "S: 250", "C: RCPT TO:<b@b.direct.test>", "S: 250", "C: DATA x", "S: 501")},
		{"pipelining", []string{"S: 220", "C: EHLO c", "S: 250", "R: MAIL FROM:<ann@a.direct.test>\r\nRCPT TO:<b@b.direct.test>\r\nRCPT TO:<c@b.direct.test>\r\nDATA\r\n", "S: 250", "S: 250", "S: 250", "S: 354", "R: x\r\n.\r\nNOOP\r\n", "S: 250", "S: 250"}},
		{"mail pipelined before EHLO", []string{"S: 220", "R: MAIL FROM:<ann@a.direct.test>\r\nRCPT TO:<b@b.direct.test>\r\n", "S: 503", "S: EOF"}},
		{"message pipelined behind DATA", []string{"S: 220", "C: EHLO c", "S: 250", "C: MAIL FROM:<>", "S: 250", "C: RCPT TO:<b@b.direct.test>", "S: 250", "R: DATA\r\nNOOP\r\n.\r\n", "S: 503", "S: EOF"}},
		{"bare LF in a command", []string{"S: 220", "R: NOOP\nNOOP\r\n", "S: 500", "S: EOF"}},
		{"bare CR in a command", []string{"S: 220", "R: NOOP\rNOOP\r\n", "S: 500", "S: EOF"}},
		{"NUL in a command", []string{"S: 220", "R: NOOP \x00\r\n", "S: 500", "S: EOF"}},
		{"line of the longest length", []string{"S: 220", "C: NOOP " + strings.Repeat("x", 1093), "S: 250"}},
		{"line one octet longer", []string{"S: 220", "C: NOOP " + strings.Repeat("x", 1094), "S: 500", "S: EOF"}},
		{"line without end", []string{"S: 220", "R: " + strings.Repeat("x", 10000), "S: 500", "S: EOF"}},
		{"ten errors", append(append([]string{"S: 220"}, repeat(10, "C: XYZZY", "S: 500")...), "S: 421 4.7.0", "S: EOF")},
		{"nine errors", append(append([]string{"S: 220"}, repeat(9, "C: XYZZY", "S: 500")...), "C: NOOP", "S: 250")},
		{"a hundred idle commands", append(append([]string{"S: 220"}, repeat(101, "C: NOOP", "S: 250")...), "S: 421 4.7.0", "S: EOF")},
		{"STARTTLS is not there", []string{"S: 220", "C: EHLO c", "S: 250", "C: STARTTLS", "S: 502"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dial(t, serve(t, &store{}, smtpserver.Options{MaxMessageBytes: 1000}).addr).play(tc.script...)
		})
	}
}

func repeat(n int, script ...string) []string {
	var all []string
	for range n {
		all = append(all, script...)
	}
	return all
}

func TestHelloListsExactlyWhatWorks(t *testing.T) {
	want := "250-mx.direct.test\n250-SIZE 1000\n250-8BITMIME\n250-PIPELINING\n250-CHUNKING\n250 ENHANCEDSTATUSCODES"
	c := dial(t, serve(t, &store{}, smtpserver.Options{MaxMessageBytes: 1000}).addr)
	c.play("S: 220", "C: EHLO c")
	if got := c.readReply(); got != want {
		t.Errorf("in clear without TLS:\n%s\nwant\n%s", got, want)
	}
	c = dial(t, serve(t, &store{}, smtpserver.Options{MaxMessageBytes: 1000, TLS: serverTLS(t)}).addr)
	c.play("S: 220", "C: EHLO c")
	if got := c.readReply(); !strings.HasSuffix(got, "\n250 STARTTLS") {
		t.Errorf("STARTTLS not offered: %s", got)
	}
	c.startTLS()
	c.play("C: EHLO c")
	if got := c.readReply(); got != want {
		t.Errorf("inside TLS:\n%s\nwant\n%s", got, want)
	}
}

func TestEnvelopeAndTraceTellWhatHappened(t *testing.T) {
	spec.Covers(t, "AS-6.1-p")
	b := &store{}
	s := serve(t, b, smtpserver.Options{TLS: serverTLS(t)})
	c := greeted(t, s.addr)
	c.startTLS()
	c.play("C: MAIL FROM:<ann@a.direct.test>", "S: 503", // RFC 3207 §4.2: EHLO is forgotten
		"C: EHLO inside.test", "S: 250", "C: MAIL FROM:<\"ann lee\"@A.Direct.Test>", "S: 250",
		"C: RCPT TO:<bob@b.direct.test>", "S: 250", "C: RCPT TO:<Bob@B.direct.test>", "S: 250", "C: RCPT TO:<eve@b.direct.test>", "S: 250",
		"C: DATA", "S: 354", "R: A: b\r\n\r\n..dot\r\n.\r\n", "S: 250 2.0.0 Queued as ", "C: QUIT", "S: 221")
	got := b.messages()
	if len(got) != 1 {
		t.Fatalf("%d messages", len(got))
	}
	env := got[0].env
	if env.From.String() != `"ann lee"@a.direct.test` || len(env.To) != 2 || env.Helo != "inside.test" || env.TLS != "TLS 1.3" || env.NullPath || !env.Peer.Addr().IsLoopback() {
		t.Errorf("envelope %+v", env)
	}
	want := regexp.MustCompile(`^Received: from inside\.test \(\[127\.0\.0\.1\]\)\r\n\tby mx\.direct\.test with ESMTPS \(TLS 1\.3\) id ` +
		regexp.QuoteMeta(env.ID) + `;\r\n\t\w{3}, \d{2} \w{3} \d{4} [0-9:]{8} [+-]\d{4}\r\nA: b\r\n\r\n\.dot\r\n$`)
	if !want.MatchString(got[0].body) {
		t.Errorf("message as handed over: %q", got[0].body)
	}
	waitFor(t, "the session's log line", func() bool { return strings.Contains(s.log.String(), `msg="smtp session"`) })
	if n := strings.Count(s.log.String(), "id="+env.ID); n != 1 {
		t.Errorf("the message has %d log lines:\n%s", n, s.log.String())
	}
}

func TestNullPathIsFlagged(t *testing.T) {
	b := &store{}
	c := greeted(t, serve(t, b, smtpserver.Options{}).addr)
	c.play("C: MAIL FROM:<>", "S: 250", "C: RCPT TO:<postmaster>", "S: 250", "C: DATA", "S: 354", "C: .", "S: 250")
	env := b.messages()[0].env
	if !env.NullPath || !env.From.IsZero() || env.To[0].String() != "postmaster@mx.direct.test" {
		t.Errorf("envelope %+v", env)
	}
}

func TestRepliesOfTheBackendGoOutAsTheyAre(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		want string
	}{
		{"a reply", &mail.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "No such user"}, "550 5.1.1 No such user"},
		{"a wrapped reply", fmt.Errorf("rcpt: %w", &mail.Reply{Code: 450, Enhanced: [3]int{4, 2, 1}, Text: "Busy"}), "450 4.2.1 Busy"},
		{"without an enhanced code", &mail.Reply{Code: 550, Text: "No"}, "550 5.0.0 No"},
		{"any other error", errors.New("disk /dev/sda1 on fire"), "451 4.3.0 Temporary failure, try again later"},
		{"a reply that is no refusal", &mail.Reply{Code: 250, Text: "Fine"}, "451 4.3.0"},
		{"line ends in the text", &mail.Reply{Code: 550, Enhanced: [3]int{5, 7, 1}, Text: "No\r\n250 yes"}, "550 5.7.1 No  250 yes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := &store{onRcpt: func(_ *smtpserver.Session, to direct.Address) error {
				if to.Local() == "rcpt" {
					return tc.err
				}
				return nil
			}, onData: func(mail.Envelope, io.Reader) error { return tc.err }}
			s := serve(t, b, smtpserver.Options{})
			c := greeted(t, s.addr)
			c.play("C: MAIL FROM:<ann@a.direct.test>", "S: 250", "C: RCPT TO:<rcpt@b.direct.test>", "S: "+tc.want, "C: RCPT TO:<data@b.direct.test>", "S: 250",
				"C: DATA", "S: 354", "C: not read by the backend", "C: .", "S: "+tc.want, "C: NOOP", "S: 250")
			if strings.HasPrefix(tc.want, "451") && !strings.Contains(s.log.String(), "level=ERROR") {
				t.Error("the details are not in the log")
			}
		})
	}
}

func TestBackendThatDoesNotReadTheMessageGetsNo250(t *testing.T) {
	b := backendFunc(func(io.Reader) (string, error) { return "fine", nil })
	greeted(t, serve(t, b, smtpserver.Options{}).addr).play(inData("C: hello", "C: .", "S: 451", "C: NOOP", "S: 250")...)
}

type backendFunc func(io.Reader) (string, error)

func (backendFunc) Rcpt(context.Context, *smtpserver.Session, direct.Address) error { return nil }

func (f backendFunc) Data(_ context.Context, _ mail.Envelope, r io.Reader) (string, error) {
	return f(r)
}

func TestPanicEndsOneConnectionOnly(t *testing.T) {
	b := &store{onRcpt: func(_ *smtpserver.Session, to direct.Address) error {
		if to.Local() == "rcpt" {
			panic("backend bug")
		}
		return nil
	}, onData: func(mail.Envelope, io.Reader) error { panic("backend bug") }}
	s := serve(t, b, smtpserver.Options{})
	other := greeted(t, s.addr)
	greeted(t, s.addr).play("C: MAIL FROM:<>", "S: 250", "C: RCPT TO:<rcpt@b.direct.test>", "S: 421", "S: EOF")
	greeted(t, s.addr).play(inData("C: hello", "C: .", "S: 421", "S: EOF")...)
	other.play("C: NOOP", "S: 250")
	if log := s.log.String(); strings.Count(log, "panic in the backend") != 2 || !strings.Contains(log, "dialogue_test.go") {
		t.Errorf("panics are not in the log with their stacks:\n%s", log)
	}
}

func TestPanicInTheHandshakeEndsOneConnectionOnly(t *testing.T) {
	s := serve(t, &store{}, smtpserver.Options{TLS: &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { panic("certificate bug") }}})
	other, c := greeted(t, s.addr), greeted(t, s.addr)
	c.play("C: STARTTLS", "S: 220")
	if err := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true}).Handshake(); err == nil {
		t.Error("the handshake succeeded")
	}
	other.play("C: NOOP", "S: 250")
	if !strings.Contains(s.log.String(), "certificate bug") {
		t.Errorf("the panic is not in the log:\n%s", s.log.String())
	}
}

func TestMessageSizeLimitIsExact(t *testing.T) {
	const limit = 1000
	body := func(n int) string {
		return strings.Repeat("0123456789abcdef\r\n", n/18) + strings.Repeat("x", n%18-2) + "\r\n"
	}
	for _, tc := range []struct {
		name, raw, want string
	}{
		{"the limit", body(limit) + ".\r\n", "S: 250"},
		{"one more", body(limit+1) + ".\r\n", "S: 552 5.3.4"},
		{"dots do not count", "." + strings.Replace(body(limit), "0", ".", 1) + ".\r\n", "S: 250"},
		{"the limit by BDAT", fmt.Sprintf("BDAT %d LAST\r\n%s", limit, body(limit)), "S: 250"},
		{"one more by BDAT", fmt.Sprintf("BDAT %d LAST\r\n%s", limit+1, body(limit+1)), "S: 552 5.3.4"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := &store{}
			c := greeted(t, serve(t, b, smtpserver.Options{MaxMessageBytes: limit}).addr)
			if strings.HasPrefix(tc.raw, "BDAT") {
				c.play(addressed()...)
			} else {
				c.play(inData()...)
			}
			c.play("R: "+tc.raw, tc.want, "C: NOOP", "S: 250")
			if got := b.messages(); len(got) == 1 && len(got[0].content()) != limit {
				t.Errorf("%d octets arrived", len(got[0].content()))
			}
		})
	}
}

func TestOversizeIsReadForAWhileThenCut(t *testing.T) {
	c := greeted(t, serve(t, &store{}, smtpserver.Options{MaxMessageBytes: 1000}).addr)
	c.play(inData()...)
	block := strings.Repeat(strings.Repeat("x", 998)+"\r\n", 64)
	sent := 0
	for ; sent < 64<<20; sent += len(block) {
		if _, err := io.WriteString(c.conn, block); err != nil {
			break
		}
	}
	if sent > 16<<20 {
		t.Errorf("the server read %d octets of a refused message", sent)
	}
}

func TestRecipientsUpToTheLimit(t *testing.T) {
	b := &store{}
	c := greeted(t, serve(t, b, smtpserver.Options{}).addr)
	c.play("C: MAIL FROM:<ann@a.direct.test>", "S: 250")
	for i := range 100 {
		c.play(fmt.Sprintf("C: RCPT TO:<r%d@b.direct.test>", i), "S: 250")
	}
	for range 20 { // RFC 5321 §4.5.3.1.10: refused, and no reason to hang up
		c.play("C: RCPT TO:<more@b.direct.test>", "S: 452 4.5.3")
	}
	c.play("C: DATA", "S: 354", "C: .", "S: 250")
	if n := len(b.messages()[0].env.To); n != 100 {
		t.Errorf("%d recipients", n)
	}
}

func TestChunking(t *testing.T) {
	for _, tc := range []struct {
		name   string
		script []string
		want   []string
	}{
		{"one chunk", []string{"R: BDAT 7 LAST\r\nhello\r\n", "S: 250 2.0.0 Queued"}, []string{"hello\r\n"}},
		{"pipelined chunks", []string{"R: BDAT 3\r\nhelBDAT 4\r\nlo\r\nBDAT 0 LAST\r\nNOOP\r\n", "S: 250", "S: 250", "S: 250 2.0.0 Queued", "S: 250"}, []string{"hello\r\n"}},
		{"CR LF across chunks", []string{"R: BDAT 2\r\na\rBDAT 2 LAST\r\n\nb", "S: 250", "S: 250"}, []string{"a\r\nb\r\n"}},
		{"dots stay", []string{"R: BDAT 10 LAST\r\n.\r\n..\r\na\r\n", "S: 250"}, []string{".\r\n..\r\na\r\n"}},
		{"an end of DATA is content", []string{"R: BDAT 19 LAST\r\na\r\n.\r\nMAIL FROM:<\r\n", "S: 250"}, []string{"a\r\n.\r\nMAIL FROM:<\r\n"}},
		{"last line is completed", []string{"R: BDAT 1 LAST\r\na", "S: 250"}, []string{"a\r\n"}},
		{"empty message", []string{"R: BDAT 0 LAST\r\n", "S: 250"}, []string{""}},
		{"NOOP between", []string{"R: BDAT 1\r\na", "S: 250", "C: NOOP", "S: 250", "R: BDAT 1 LAST\r\nb", "S: 250"}, []string{"ab\r\n"}},
		{"MAIL and DATA between", []string{"R: BDAT 1\r\na", "S: 250", "C: MAIL FROM:<>", "S: 503", "C: DATA", "S: 503", "R: BDAT 1 LAST\r\nb", "S: 250"}, []string{"ab\r\n"}},
		{"RSET gives up", append([]string{"R: BDAT 1\r\na", "S: 250", "C: RSET", "S: 250", "C: BDAT 0 LAST", "S: 503"}, addressed("R: BDAT 1 LAST\r\nb", "S: 250")...), []string{"b\r\n"}},
		{"EHLO gives up", append([]string{"R: BDAT 1\r\na", "S: 250", "C: EHLO c", "S: 250-"}, addressed("R: BDAT 1 LAST\r\nb", "S: 250")...), []string{"b\r\n"}},
		{"QUIT gives up", []string{"R: BDAT 1\r\na", "S: 250", "C: QUIT", "S: 221", "S: EOF"}, nil},
		{"bad size", []string{"C: BDAT x LAST", "S: 501", "S: EOF"}, nil},
		{"negative size", []string{"C: BDAT -1 LAST", "S: 501", "S: EOF"}, nil},
		{"bad last", []string{"C: BDAT 1 FIRST", "S: 501", "S: EOF"}, nil},
		{"bare LF", []string{"R: BDAT 2 LAST\r\na\n", "S: 550 5.5.2", "S: EOF"}, nil},
		{"bare CR at the end", []string{"R: BDAT 2 LAST\r\na\r", "S: 550 5.5.2", "S: EOF"}, nil},
		{"NUL", []string{"R: BDAT 2 LAST\r\na\x00", "S: 550 5.5.2", "S: EOF"}, nil},
		{"a refused chunk is skipped", []string{"C: RSET", "S: 250", "R: BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n", "S: 503", "S: 250"}, nil},
		{"no recipients", []string{"C: RSET", "S: 250", "C: MAIL FROM:<>", "S: 250", "R: BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n", "S: 554", "S: 250"}, nil},
		{"too large in sum", append([]string{"R: BDAT 600\r\n" + strings.Repeat("x", 600), "S: 250", "R: BDAT 600 LAST\r\n" + strings.Repeat("y", 600), "S: 552", "C: RCPT TO:<b@b.direct.test>", "S: 503"},
			addressed("R: BDAT 1 LAST\r\nb", "S: 250")...), []string{"b\r\n"}},
		{"too large at once", append([]string{"R: BDAT 1200\r\n" + strings.Repeat("x", 1200), "S: 552", "C: RCPT TO:<b@b.direct.test>", "S: 503"}, addressed("R: BDAT 1 LAST\r\nb", "S: 250")...), []string{"b\r\n"}},
		{"much too large", []string{"C: BDAT 99999999999999", "S: 552", "S: EOF"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := &store{}
			c := greeted(t, serve(t, b, smtpserver.Options{MaxMessageBytes: 1000}).addr)
			c.play(addressed()...)
			c.play(tc.script...)
			var got []string
			for _, m := range b.messages() {
				got = append(got, m.content())
			}
			if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestMessageCutShortIsNotAMessage(t *testing.T) {
	for name, raw := range map[string]string{"DATA": "", "BDAT": "BDAT 1000 LAST\r\n"} {
		t.Run(name, func(t *testing.T) {
			b := &store{}
			s := serve(t, b, smtpserver.Options{})
			c := greeted(t, s.addr)
			if name == "DATA" {
				c.play(inData()...)
			} else {
				c.play(addressed()...)
			}
			c.play("R: " + raw + "hello\r\n")
			c.conn.Close()
			waitFor(t, "the end of the session", func() bool { return strings.Contains(s.log.String(), "client left") })
			if got := b.messages(); len(got) != 0 || b.torn != 1 {
				t.Errorf("%d whole messages, %d torn", len(got), b.torn)
			}
		})
	}
}

func TestOctetsAfterSTARTTLSAreNotCommands(t *testing.T) {
	for name, script := range map[string][]string{
		"in one segment": {"R: STARTTLS\r\nNOOP\r\n", "S: 220 2.0.0", "S: EOF"},
		"in two":         {"C: STARTTLS", "S: 220 2.0.0", "C: NOOP", "R: \r\n\r\n\r\n\r\n\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			c := greeted(t, serve(t, &store{}, smtpserver.Options{TLS: serverTLS(t)}).addr)
			c.play(script...)
			rest, _ := io.ReadAll(c.r)
			if strings.Contains(string(rest), "250 ") {
				t.Errorf("the server answered %q in clear", rest)
			}
		})
	}
	greeted(t, serve(t, &store{}, smtpserver.Options{TLS: serverTLS(t)}).addr).play("C: STARTTLS now", "S: 501")
}

func TestTransactionDoesNotSurviveSTARTTLS(t *testing.T) {
	c := greeted(t, serve(t, &store{}, smtpserver.Options{TLS: serverTLS(t)}).addr)
	c.play(addressed()...)
	c.startTLS()
	c.play("C: DATA", "S: 503", "C: EHLO c", "S: 250", "C: DATA", "S: 503", "C: RCPT TO:<b@b.direct.test>", "S: 503", "C: STARTTLS", "S: 503")
	c.play(inData("C: x", "C: .", "S: 250", "C: QUIT", "S: 221")...)
}

func TestNetworksMayBeLimited(t *testing.T) {
	s := serve(t, &store{}, smtpserver.Options{Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	dial(t, s.addr).play("S: 554 5.7.1", "S: EOF")
	s = serve(t, &store{}, smtpserver.Options{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	dial(t, s.addr).play("S: 220")
}

func TestConnectionLimits(t *testing.T) {
	nobody := []netip.Prefix{}
	t.Run("per address", func(t *testing.T) {
		s := serve(t, &store{}, smtpserver.Options{MaxPerPeer: 2, Exempt: nobody})
		first := dial(t, s.addr)
		first.play("S: 220")
		dial(t, s.addr).play("S: 220")
		dial(t, s.addr).play("S: 421 4.7.0", "S: EOF")
		first.play("C: QUIT", "S: 221", "S: EOF")
		waitFor(t, "a free place", func() bool { return strings.HasPrefix(dial(t, s.addr).readReply(), "220") })
	})
	t.Run("in total", func(t *testing.T) {
		s := serve(t, &store{}, smtpserver.Options{MaxConnections: 1, Exempt: nobody})
		dial(t, s.addr).play("S: 220")
		dial(t, s.addr).play("S: 421 4.3.2", "S: EOF")
	})
	t.Run("exempt", func(t *testing.T) {
		s := serve(t, &store{}, smtpserver.Options{MaxConnections: 1, MaxPerPeer: 1})
		for range 5 {
			dial(t, s.addr).play("S: 220")
		}
	})
}

func TestStalledClientsAreCutOff(t *testing.T) {
	t.Run("between commands", func(t *testing.T) {
		s := serve(t, &store{}, smtpserver.Options{CommandTimeout: 50 * time.Millisecond})
		dial(t, s.addr).play("S: 220", "S: 421 4.4.2", "S: EOF")
	})
	t.Run("octet by octet in a command", func(t *testing.T) {
		s := serve(t, &store{}, smtpserver.Options{CommandTimeout: 100 * time.Millisecond})
		c := dial(t, s.addr)
		began := time.Now()
		for {
			if _, err := io.WriteString(c.conn, "x"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
			if time.Since(began) > 150*time.Millisecond {
				c.play("S: 220", "S: 421 4.4.2", "S: EOF")
				return
			}
		}
	})
	t.Run("in DATA, and the rest is not commands", func(t *testing.T) {
		b := &store{}
		s := serve(t, b, smtpserver.Options{DataTimeout: 50 * time.Millisecond})
		c := greeted(t, s.addr)
		c.play(inData()...)
		c.play("C: Subject: x", "S: 421 4.4.2")
		// Sending may fail, for the connection is on its way down.
		_, _ = io.WriteString(c.conn, "MAIL FROM:<smuggled@evil.example>\r\n")
		c.play("S: EOF")
		if b.torn != 1 || len(b.messages()) != 0 {
			t.Errorf("%d torn, %d whole messages", b.torn, len(b.messages()))
		}
	})
	t.Run("in BDAT", func(t *testing.T) {
		c := greeted(t, serve(t, &store{}, smtpserver.Options{DataTimeout: 50 * time.Millisecond}).addr)
		c.play(addressed()...)
		c.play("R: BDAT 100 LAST\r\nx", "S: 421 4.4.2", "S: EOF")
	})
	t.Run("session as a whole", func(t *testing.T) {
		c := dial(t, serve(t, &store{}, smtpserver.Options{SessionTimeout: 100 * time.Millisecond}).addr)
		c.play("S: 220")
		for range 50 {
			if _, err := io.WriteString(c.conn, "NOOP\r\n"); err != nil {
				return
			}
			if got := c.readReply(); strings.HasPrefix(got, "421 4.4.2") || got == "EOF" {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Error("the session lives")
	})
}

func TestStopEndsIdleClientsAndLetsMessagesFinish(t *testing.T) {
	b := &store{}
	s := serve(t, b, smtpserver.Options{Grace: 5 * time.Second})
	idle, busy := greeted(t, s.addr), greeted(t, s.addr)
	busy.play(inData()...)
	busy.play("C: half")
	s.stop()
	idle.play("S: 421 4.3.2", "S: EOF")
	if _, err := net.DialTimeout("tcp", s.addr, time.Second); err == nil {
		t.Error("the listener still accepts")
	}
	busy.play("C: whole", "C: .", "S: 250", "S: 421 4.3.2", "S: EOF")
	if err := s.wait(); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if len(b.messages()) != 1 {
		t.Error("the message under way was lost")
	}
}

func TestStopCutsMessagesAfterTheGrace(t *testing.T) {
	b := &store{}
	s := serve(t, b, smtpserver.Options{Grace: 50 * time.Millisecond})
	c := greeted(t, s.addr)
	c.play(inData()...)
	s.stop()
	if err := s.wait(); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if b.torn != 1 {
		t.Error("the backend did not see the message break off")
	}
}

func TestStopBeforeServe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := smtpserver.New(&store{}, smtpserver.Options{}).Serve(ctx, l); err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestServeReportsABrokenListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := smtpserver.New(&store{}, smtpserver.Options{}).Serve(t.Context(), l); err == nil {
		t.Error("Serve on a closed listener returned nil")
	}
}

func TestInteropSwaksDelivers(t *testing.T) {
	swaks, err := exec.LookPath("swaks")
	switch {
	case err != nil && os.Getenv("DIRECTNODE_PEERS") == "required":
		t.Fatal("peer swaks absent; tools/install-peers installs it")
	case err != nil:
		t.Skip("SKIP peer swaks absent")
	}
	b := &store{}
	s := serve(t, b, smtpserver.Options{TLS: serverTLS(t)})
	for _, extra := range [][]string{nil, {"--pipeline"}, {"--tls"}} {
		args := append([]string{"--server", s.addr, "--from", "ann@a.direct.test", "--to", "bob@b.direct.test,eve@b.direct.test", "--helo", "client.test"}, extra...)
		out, err := exec.CommandContext(t.Context(), swaks, args...).CombinedOutput()
		if err != nil && strings.Contains(string(out), "not available") {
			t.Logf("SKIP peer swaks %v: %s", extra, out)
			continue
		}
		if err != nil {
			t.Errorf("swaks %v: %v\n%s", extra, err, out)
		}
	}
	if len(b.messages()) < 2 {
		t.Errorf("%d messages arrived", len(b.messages()))
	}
}
