package smtpserver

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	smtp "github.com/emersion/go-smtp"

	"directnode/internal/direct"
	"directnode/internal/mail"
)

// Session is what a backend may know about a connection and the transaction on
// it. It is valid during the call it is passed to.
type Session struct {
	ID       string           // stands in the log lines of the connection
	Peer     netip.AddrPort   // the client's address
	Helo     string           // what the client called itself
	TLS      string           // protocol version, "" in clear
	From     direct.Address   // MAIL FROM; zero with NullPath
	NullPath bool             // MAIL FROM:<>
	To       []direct.Address // recipients accepted so far
}

// forget ends the transaction and keeps the connection.
func (s *Session) forget() {
	s.From, s.NullPath, s.To = direct.Address{}, false, nil
}

func (s *Session) has(a direct.Address) bool {
	for _, have := range s.To {
		if have.Equal(a) {
			return true
		}
	}
	return false
}

// newID makes an identifier for a session: 80 random bits do not collide, and
// unlike a counter they tell nobody how much mail we get.
func newID() string {
	var b [10]byte
	_, _ = rand.Read(b[:]) // never fails, crypto/rand ends the program instead
	return hex.EncodeToString(b[:])
}

// engineSession is the engine's end of a gate: the SMTP commands that are about
// messages, one method each.
type engineSession struct{ g *gate }

var _ smtp.Session = engineSession{}

// Reset is RSET and the end of every transaction; the gate has seen it.
func (engineSession) Reset() {}

// Logout is the end of the connection; the gate has seen it.
func (engineSession) Logout() error { return nil }

// Mail is MAIL FROM. The gate has parsed the path: the engine's own parser
// drops the quotes of a local part.
func (s engineSession) Mail(_ string, o *smtp.MailOptions) error {
	g := s.g
	// RFC 1870 §6.1: refuse at once what is announced too large.
	if o != nil && o.Size > g.srv.o.MaxMessageBytes {
		return engineError(replyTooLarge)
	}
	g.session.From, g.session.NullPath = g.path, g.path.IsZero()
	return nil
}

// Rcpt is RCPT TO. A recipient named twice is one recipient.
func (s engineSession) Rcpt(string, *smtp.RcptOptions) error {
	g := s.g
	to := g.path
	if g.session.has(to) {
		return nil
	}
	known := g.session
	err := g.guard("RCPT", func() error { return g.srv.backend.Rcpt(g.ctx, &known, to) })
	if err != nil {
		return engineError(g.answer("smtp recipient refused", err))
	}
	g.session.To = append(g.session.To[:len(g.session.To):len(g.session.To)], to)
	return nil
}

// Data is a message, from DATA or BDAT.
func (s engineSession) Data(r io.Reader) error {
	g := s.g
	g.messages++
	g.idle = 0
	at := time.Now()
	env := mail.Envelope{
		ID: fmt.Sprintf("%s-%d", g.session.ID, g.messages), From: g.session.From, NullPath: g.session.NullPath, To: g.session.To,
		Peer: g.session.Peer, Helo: g.session.Helo, TLS: g.session.TLS, At: at,
	}
	body := &content{r: r, left: g.srv.o.MaxMessageBytes}
	reply := g.deliver(env, body)
	g.log.Info("smtp message", "id", env.ID, "peer", env.Peer.String(), "null_path", env.NullPath, "recipients", len(env.To),
		"octets", body.n, "tls", env.TLS, "reply", reply.Code, "text", oneLine(reply.Text), "ms", time.Since(at).Milliseconds())
	return engineError(reply)
}

// deliver has the backend take the message and decides what the client reads.
// What broke the message comes before what the backend made of it.
func (g *gate) deliver(env mail.Envelope, body *content) *mail.Reply {
	var text string
	err := g.guard("DATA", func() (err error) {
		text, err = g.srv.backend.Data(g.ctx, env, io.MultiReader(strings.NewReader(trace(env, g.ehlo, g.srv.o.Hostname)), body))
		return err
	})
	if body.err == nil {
		// The rest is read to be thrown away, but not without bound.
		g.transfer.refused, g.transfer.discard = true, maxDiscard
	}
	switch {
	case g.fail != nil && g.fail.reply != nil:
		return g.fail.reply
	case g.fail != nil || g.mode == aborting:
		return replyFailed // nobody reads it
	case errors.Is(body.err, replyTooLarge):
		g.transfer.refused, g.transfer.discard = true, maxDiscard
		return replyTooLarge
	case err != nil:
		return g.answer("smtp message refused", err)
	case body.err != io.EOF:
		return g.answer("smtp message refused", errors.New("backend accepted a message that it did not read to its end"))
	}
	if text == "" {
		text = "Queued as " + env.ID
	}
	return say(250, 2, 0, 0, text)
}

// answer is forClient, with the details of a surprise in the log.
func (g *gate) answer(what string, err error) *mail.Reply {
	r := forClient(err)
	if r == replyFailed {
		g.log.Error(what, "error", err)
	}
	return r
}

// guard runs a call of the backend. A panic is a bug in it: it ends this
// connection with 421 and is logged with its stack; others live on.
func (g *gate) guard(what string, call func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			g.log.Error("smtp: panic in the backend", "command", what, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = replyInternal
		}
	}()
	return call()
}

// content is the message as the backend reads it: bounded in size, and an error
// of its own where it broke off.
type content struct {
	r    io.Reader
	left int64 // octets that are still allowed
	n    int64 // octets read
	err  error // the first error, io.EOF after a whole message
}

// Read hands out message octets. RFC 1870 §5: the size of a message is that of
// its octets with their line ends, without the terminator and the doubled dots;
// a message of exactly the limit passes.
func (c *content) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if int64(len(p)) > c.left+1 {
		p = p[:c.left+1]
	}
	n, err := c.r.Read(p)
	if int64(n) > c.left {
		n, err = int(c.left), replyTooLarge
	}
	c.left -= int64(n)
	c.n += int64(n)
	c.err = err
	return n, err
}

// Backend takes what the server receives. Its methods may be called at the same
// time for different connections. An error that is or wraps a *mail.Reply with
// a code from 400 to 599 is sent to the client as it stands; any other is
// logged, and the client reads 451.
type Backend interface {
	// Rcpt says whether a recipient is accepted.
	Rcpt(ctx context.Context, s *Session, to direct.Address) error
	// Data takes a message: r starts with our trace field and ends with io.EOF
	// only if the message ended as it should. The message must be safe before
	// nil is returned (RFC 5321 §6.1), for then the client forgets it; the
	// string is the text of the 250, "" for a standard one.
	Data(ctx context.Context, env mail.Envelope, r io.Reader) (string, error)
}
