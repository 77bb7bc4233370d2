package smtpserver

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"strings"
	"time"

	"directnode/internal/direct"
	"directnode/internal/mail"
)

// readCommand takes one command line from the client. What it can answer it
// answers; the rest it feeds to the engine.
func (g *gate) readCommand() {
	switch {
	case g.errors >= maxErrors:
		g.goodbye("too many errors", replyTooManyErrors)
		return
	case g.idle > maxIdleCommands:
		g.goodbye("too many idle commands", replyTooManyCommands)
		return
	}
	line, ok := g.readLine()
	if !ok {
		return
	}
	c := parseCommand(line)
	if idles(c) {
		g.idle++
	}
	if g.mode == betweenBDAT {
		g.amidMessage(c)
		return
	}
	g.dispatch(c)
}

// idles says whether a command brings no message nearer.
func idles(c command) bool {
	switch c.verb {
	case "MAIL", "RCPT", "DATA":
		return false
	case "BDAT":
		size, last, _ := parseChunk(c.arg)
		return size == 0 && !last
	}
	return true
}

// readLine returns the next command line without its CR LF. One deadline holds
// for the whole line (RFC 5321 §4.5.3.2.7), so that an octet now and then does
// not keep a connection.
func (g *gate) readLine() (string, bool) {
	if err := g.arm(time.Now().Add(g.srv.o.CommandTimeout), g.mode == inCommands); err != nil {
		g.readFailed(err)
		return "", false
	}
	line, err := g.in.ReadSlice('\n')
	switch {
	case err == bufio.ErrBufferFull || len(line) > maxCommandLine:
		// RFC 5321 §4.5.3.1.9 allows 500. Where the line ends is unknown, so close.
		g.goodbye("command line too long", replyLineTooLong)
		return "", false
	case err != nil:
		g.readFailed(err)
		return "", false
	case !clean(line):
		g.goodbye("control character in a command", replyBadCharacter)
		return "", false
	}
	return string(line[:len(line)-2]), true
}

// dispatch is the table of commands outside a message. RFC 5321 §4.1.4 gives
// the order of commands.
func (g *gate) dispatch(c command) {
	switch c.verb {
	case "EHLO", "HELO":
		g.hail(c)
	case "MAIL":
		g.sender(c)
	case "RCPT":
		g.recipient(c)
	case "DATA":
		g.data(c)
	case "BDAT":
		g.bdat(c)
	case "RSET":
		g.pass(c.verb, "RSET")
	case "QUIT":
		g.pass(c.verb, "QUIT")
	case "STARTTLS":
		g.startTLS(c)
	case "NOOP":
		g.reply(replyOK)
	case "VRFY":
		// RFC 5321 §3.5.3: 252 when nothing is said about the address.
		g.reply(replyNoVerify)
	case "HELP":
		g.reply(replyHelp)
	case "EXPN", "AUTH", "ETRN", "TURN", "SEND", "SOML", "SAML":
		g.reply(replyNotImplemented)
	default:
		g.reply(replyUnknown)
	}
}

// pass feeds a command to the engine, whose reply comes through engineSays.
func (g *gate) pass(verb, line string) {
	if !g.greeted && verb == "RSET" {
		g.reply(replyOK)
		return
	}
	g.verb = verb
	g.feed = []byte(line + "\r\n")
}

// hail handles EHLO and HELO (RFC 5321 §4.1.1.1).
func (g *gate) hail(c command) {
	name, _, _ := strings.Cut(c.arg, " ")
	if !validHelo(name) {
		g.reply(replyBadHelo)
		return
	}
	g.session.Helo = name
	g.pass(c.verb, c.verb+" "+name)
}

// hello is the reply to EHLO: what is listed works from end to end.
func (g *gate) hello() string {
	lines := []string{g.srv.o.Hostname}
	if g.ehlo {
		lines = append(lines, fmt.Sprintf("SIZE %d", g.srv.o.MaxMessageBytes), "8BITMIME", "PIPELINING", "CHUNKING", "ENHANCEDSTATUSCODES")
		// RFC 3207 §4.2: not offered inside TLS.
		if g.srv.o.TLS != nil && g.session.TLS == "" {
			lines = append(lines, "STARTTLS")
		}
	}
	for i := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		lines[i] = "250" + sep + lines[i]
	}
	return strings.Join(lines, "\r\n")
}

// outOfOrder answers a mail command that comes at the wrong time. A client that
// sent more behind a mail command although it was not greeted yet is guessing
// (RFC 2920 §3.1 asks it to wait for the list of extensions) and is cut off.
func (g *gate) outOfOrder() {
	if !g.greeted && g.in.Buffered() > 0 {
		g.goodbye("pipelining before EHLO", replyOutOfOrder)
		return
	}
	g.reply(replyOutOfOrder)
}

func (g *gate) sender(c command) {
	spec, params, err := parsePath(c.arg, "FROM:")
	switch {
	case !g.greeted || g.mail:
		// RFC 5321 §4.1.4: MAIL must not be sent while a transaction is open.
		g.outOfOrder()
		return
	case err != nil:
		g.reply(replyMailSyntax)
		return
	}
	g.path = direct.Address{}
	if spec != "" { // RFC 5321 §4.5.5: the null reverse-path
		if g.path, err = direct.ParseAddress(spec); err != nil {
			g.reply(replyBadSender)
			return
		}
	}
	g.pass(c.verb, strings.TrimSpace("MAIL FROM:<"+spec+"> "+params))
}

func (g *gate) recipient(c command) {
	spec, params, err := parsePath(c.arg, "TO:")
	switch {
	case !g.mail:
		g.outOfOrder()
		return
	case err != nil || spec == "":
		g.reply(replyRcptSyntax)
		return
	}
	if g.path, err = parseRecipient(spec, g.srv.o.Hostname); err != nil {
		g.reply(replyBadRecipient)
		return
	}
	g.pass(c.verb, strings.TrimSpace("RCPT TO:<"+g.path.String()+"> "+params))
}

func (g *gate) data(c command) {
	switch {
	case g.in.Buffered() > 0:
		// RFC 2920 §3.1: DATA is the last of its group. What came with it was
		// written without knowing whether it would be a message or commands.
		g.goodbye("pipelining after DATA", replySynchronization)
	case !g.mail:
		g.outOfOrder()
	case len(g.session.To) == 0:
		g.reply(replyNoRecipients)
	case c.arg != "":
		g.reply(replyNoArgument)
	default:
		g.pass("DATA", "DATA")
	}
}

// startTLS handles STARTTLS (RFC 3207). It is done here, under the engine,
// because the engine would go on in clear after a failed handshake.
func (g *gate) startTLS(c command) {
	switch {
	case g.srv.o.TLS == nil:
		g.reply(replyNotImplemented)
		return
	case g.session.TLS != "":
		g.reply(replyOutOfOrder)
		return
	case c.arg != "":
		g.reply(replyNoArgument)
		return
	}
	g.reply(replyStartTLS)
	if g.in.Buffered() > 0 {
		// RFC 3207 §4.2 wants everything known before the handshake forgotten.
		// Octets sent in clear behind STARTTLS are somebody's attempt to have
		// them read as if they had come under its protection.
		g.stop("octets after STARTTLS", nil)
		return
	}
	if err := g.handshake(); err != nil {
		g.stop("TLS handshake failed", nil)
		g.log.Debug("smtp: TLS handshake failed", "error", err)
		return
	}
	g.greeted, g.ehlo = false, false
	g.session.Helo = ""
	g.resetEngine()
}

// resetEngine ends the transaction without the client's having asked for it.
func (g *gate) resetEngine() {
	g.reset()
	g.silent = true
	g.verb = "RSET"
	g.feed = []byte("RSET\r\n")
}

func (g *gate) handshake() error {
	deadline := time.Now().Add(handshakeTimeout)
	if err := g.arm(deadline, false); err != nil {
		return err
	}
	if err := g.socket.SetWriteDeadline(deadline); err != nil {
		return err
	}
	t := tls.Server(g.socket, g.srv.o.TLS)
	if err := t.HandshakeContext(g.ctx); err != nil {
		return err
	}
	g.conn = t
	g.in.Reset(t)
	g.session.TLS = tls.VersionName(t.ConnectionState().Version)
	return nil
}

// bdat handles BDAT (RFC 3030 §2). The engine sees DATA: its own BDAT takes the
// end of the connection for the end of a chunk, and a message cut short for whole.
func (g *gate) bdat(c command) {
	size, last, ok := parseChunk(c.arg)
	switch {
	case !ok:
		// How much follows is unknown, so nothing after it can be read.
		g.goodbye("bad BDAT", replyBadChunk)
		return
	case !g.mail:
		g.refuseChunk(size, replyOutOfOrder)
		return
	case len(g.session.To) == 0:
		g.refuseChunk(size, replyNoRecipients)
		return
	case size > g.srv.o.MaxMessageBytes:
		if g.refuseChunk(size, replyTooLarge) {
			g.resetEngine()
		}
		return
	}
	g.transfer = transfer{left: size, last: last, total: size}
	g.silent = true
	g.pass("DATA", "DATA")
}

// refuseChunk reads a chunk that is not wanted and then refuses it; RFC 3030
// §2: the octets follow whatever the answer will be. It says whether the
// connection goes on.
func (g *gate) refuseChunk(size int64, r *mail.Reply) bool {
	if size > maxDiscard {
		g.goodbye("refused chunk too long", r)
		return false
	}
	g.transfer = transfer{}
	for left := size; left > 0; {
		b, ok := g.readBlock()
		if !ok {
			return false
		}
		n := min(left, int64(len(b)))
		g.take(int(n))
		left -= n
	}
	g.transfer = transfer{}
	g.reply(r)
	return true
}

// readChunk feeds the engine octets of the current chunk, and at its end the
// end of the message or an acknowledgement to the client.
func (g *gate) readChunk() {
	t := &g.transfer
	if t.left > 0 {
		b, ok := g.readBlock()
		if !ok {
			return
		}
		b = b[:min(t.left, int64(len(b)))]
		g.take(len(b))
		t.left -= int64(len(b))
		if t.buf, ok = t.chunks.scan(t.buf[:0], b); !ok {
			g.stop("bare CR, bare LF or NUL", replyBareLineEnd)
			return
		}
		g.feed = t.buf
		return
	}
	if !t.last {
		g.mode = betweenBDAT
		g.reply(replyChunk)
		return
	}
	var ok bool
	if t.buf, ok = t.chunks.finish(t.buf[:0]); !ok {
		g.stop("bare CR, bare LF or NUL", replyBareLineEnd)
		return
	}
	t.ended = true
	g.feed = t.buf
}

// amidMessage is the table of commands between two chunks of a message.
func (g *gate) amidMessage(c command) {
	switch c.verb {
	case "BDAT":
		g.nextChunk(c)
	case "NOOP":
		g.reply(replyOK)
	case "RSET":
		g.giveUp(func() { g.reply(replyOK) })
	case "EHLO", "HELO":
		// RFC 5321 §4.1.4: EHLO in a session clears everything as RSET does.
		g.giveUp(func() { g.hail(c) })
	case "QUIT":
		g.goodbye("quit", replyBye)
	default:
		g.reply(replyOutOfOrder)
	}
}

func (g *gate) nextChunk(c command) {
	size, last, ok := parseChunk(c.arg)
	t := &g.transfer
	switch {
	case !ok:
		g.goodbye("bad BDAT", replyBadChunk)
	case size > g.srv.o.MaxMessageBytes-t.total:
		// RFC 1870 §6.3: 552, and RFC 3030 §2: the transaction is over.
		if g.refuseChunk(size, replyTooLarge) {
			g.giveUp(nil)
		}
	default:
		t.left, t.last = size, last
		t.total += size
		g.mode = inChunk
	}
}

// giveUp makes the engine abandon the message and then does what comes next.
func (g *gate) giveUp(next func()) {
	g.mode, g.resume = aborting, next
}
