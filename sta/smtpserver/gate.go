package smtpserver

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"directnode/internal/direct"
	"directnode/internal/mail"
)

// mode is what the octets from the client mean at the moment.
type mode uint8

const (
	inCommands  mode = iota // command lines; the engine waits for one
	inData                  // a message, up to CR LF . CR LF
	inChunk                 // a message, chunk.left more octets of this BDAT
	betweenBDAT             // command lines; the engine waits for more of the message
	aborting                // the engine is to give up the message, without a word to the client
)

// gate is the engine's view of a client and the client's view of the engine.
// Except for Close, cut and drain it belongs to the goroutine that serves the
// connection: the engine reads, runs commands and writes in one goroutine.
type gate struct {
	srv    *Server
	ctx    context.Context // ends with the connection or with the server's patience
	cancel context.CancelFunc
	door   *door
	socket net.Conn
	conn   net.Conn // socket, or the TLS connection over it
	in     *bufio.Reader
	began  time.Time
	log    *slog.Logger

	session  Session // what the backend may know
	ehlo     bool    // the client speaks ESMTP
	greeted  bool    // EHLO or HELO was accepted
	mail     bool    // MAIL was accepted
	messages int
	errors   int // 4yz and 5yz replies
	idle     int // commands since the last message
	ending   string

	mode     mode
	verb     string         // the command the engine is at
	feed     []byte         // what the engine reads next
	fail     *failure       // once set the client is not read any more
	path     direct.Address // of the command the engine is at
	silent   bool           // swallow the engine's next reply
	resume   func()         // what to do when the engine has given up the message
	partial  []byte         // an incomplete reply line of the engine
	transfer transfer

	mu       sync.Mutex
	waiting  bool // guarded by mu: blocked for a command, so a drain may interrupt
	draining bool // guarded by mu
	once     sync.Once
}

// transfer is the state of the message on its way.
type transfer struct {
	waited  time.Duration // for the client; the backend's time is not the client's
	octets  int64         // as on the wire
	dots    dotScanner
	chunks  chunkScanner
	left    int64 // of the current chunk
	last    bool  // the current chunk is the last
	total   int64 // announced by BDAT so far
	buf     []byte
	ended   bool  // the terminator was fed to the engine
	refused bool  // the message is only read to be thrown away …
	discard int64 // … up to this many octets
}

// failure ends the reading of a connection. reply is what the client is still
// told about its message; nil means nothing, because it is gone or was told.
type failure struct {
	reply *mail.Reply
	why   string
}

func (f *failure) Error() string { return "connection ended: " + f.why }

// errGivenUp is what the engine reads where a message stops because the client
// began something else.
var errGivenUp = errors.New("message given up")

func newGate(s *Server, d *door, c net.Conn, peer netip.AddrPort) *gate {
	ctx, cancel := context.WithCancel(d.work)
	g := &gate{srv: s, ctx: ctx, cancel: cancel, door: d, socket: c, conn: c,
		in: bufio.NewReaderSize(c, readBuffer), began: time.Now()}
	g.session.ID = newID()
	g.session.Peer = peer
	g.log = s.log.With("session", g.session.ID)
	return g
}

// Read is the engine's read. It blocks for the client and returns one command
// line, or octets of the message, never both and never two lines.
func (g *gate) Read(p []byte) (n int, err error) {
	defer func() {
		// The engine recovers what happens in commands, not in its reading.
		if r := recover(); r != nil {
			g.log.Error("smtp: panic", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			g.goodbye("panic", replyInternal)
			n, err = 0, g.stopped()
		}
	}()
	for {
		if n := copy(p, g.feed); n > 0 {
			g.feed = g.feed[n:]
			return n, nil
		}
		if err := g.stopped(); err != nil {
			return 0, err
		}
		switch g.mode {
		case inData:
			g.readData()
		case inChunk:
			g.readChunk()
		default:
			g.readCommand()
		}
	}
}

// stopped says why the engine may not read on. In a message it is an error, so
// that half a message is never taken for a whole one; between commands it is a
// plain end of file, on which the engine leaves without a word.
func (g *gate) stopped() error {
	switch {
	case g.mode == aborting:
		return errGivenUp
	case g.fail == nil:
		return nil
	case g.mode == inCommands:
		return io.EOF
	}
	return g.fail
}

// stop ends the reading of this connection for good. The first reason stands.
func (g *gate) stop(why string, reply *mail.Reply) {
	if g.fail == nil {
		g.fail = &failure{reply, why}
		g.ending = why
	}
}

// goodbye tells the client why and ends the connection.
func (g *gate) goodbye(why string, r *mail.Reply) {
	g.stop(why, nil)
	g.reply(r)
}

// errDraining stands for a read that was not begun because the server stops.
var errDraining = errors.New("server stops")

// arm sets the deadline of the next read. forCommand marks reads that a drain
// may interrupt.
func (g *gate) arm(until time.Time, forCommand bool) error {
	if end := g.began.Add(g.srv.o.SessionTimeout); end.Before(until) {
		until = end
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if forCommand && g.draining {
		return errDraining
	}
	g.waiting = forCommand
	return g.socket.SetReadDeadline(until)
}

// drain makes the connection end before its next command.
func (g *gate) drain() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.draining = true
	if g.waiting {
		// The error is the socket's being closed already, which is as good.
		_ = g.socket.SetReadDeadline(time.Unix(1, 0))
	}
}

// readFailed turns a read error into the end of the connection.
func (g *gate) readFailed(err error) {
	g.mu.Lock()
	draining := g.draining && g.waiting
	g.mu.Unlock()
	inMessage := g.mode == inData || g.mode == inChunk
	switch {
	case errors.Is(err, errDraining), draining && errors.Is(err, os.ErrDeadlineExceeded):
		g.goodbye("server stops", replyStopping)
	case !errors.Is(err, os.ErrDeadlineExceeded):
		g.stop("client left", nil)
	case time.Since(g.began) >= g.srv.o.SessionTimeout:
		g.timedOut("session too long", inMessage, replySessionTooLong)
	case inMessage:
		g.timedOut("message too slow", inMessage, replyTooSlow)
	default:
		g.timedOut("idle", inMessage, replyIdle)
	}
}

// timedOut says so at once between commands; in a message the engine is asked
// to, after the backend has let go of it.
func (g *gate) timedOut(why string, inMessage bool, r *mail.Reply) {
	if inMessage {
		g.stop(why, r)
		return
	}
	g.goodbye(why, r)
}

// readBlock waits until octets of the message are there and returns them all,
// still in the buffer. The deadline is the time-out of a block (RFC 5321
// §4.5.3.2.5) or, earlier, the moment at which the message falls below the
// minimum rate; so a slow but steady client passes.
func (g *gate) readBlock() ([]byte, bool) {
	if g.in.Buffered() == 0 {
		t := &g.transfer
		budget := rateStart + time.Duration(float64(t.octets)/float64(g.srv.o.MinRate)*float64(time.Second))
		start := time.Now()
		err := g.arm(start.Add(min(g.srv.o.DataTimeout, budget-t.waited)), false)
		if err == nil {
			_, err = g.in.Peek(1)
		}
		t.waited += time.Since(start)
		if err != nil {
			g.readFailed(err)
			return nil, false
		}
	}
	b, _ := g.in.Peek(g.in.Buffered())
	return b, true
}

// take removes n octets of a block from the buffer and counts them. The block
// stays valid until the next read.
func (g *gate) take(n int) {
	// Discarding what Peek has shown cannot fail.
	_, _ = g.in.Discard(n)
	t := &g.transfer
	t.octets += int64(n)
	if !t.refused {
		return
	}
	if t.discard -= int64(n); t.discard < 0 {
		g.stop("refused message goes on", replyTooLarge)
	}
}

// readData feeds the engine octets of a message sent with DATA.
func (g *gate) readData() {
	b, ok := g.readBlock()
	if !ok {
		return
	}
	n, end, ok := g.transfer.dots.scan(b)
	g.take(n)
	if !ok {
		g.stop("bare CR, bare LF or NUL", replyBareLineEnd)
		return
	}
	g.transfer.ended = end
	g.feed = b[:n]
}

// Write is the engine's write: replies, whole lines of them.
func (g *gate) Write(p []byte) (int, error) {
	g.partial = append(g.partial, p...)
	for {
		line, rest, found := bytes.Cut(g.partial, []byte("\r\n"))
		if !found {
			return len(p), nil
		}
		g.engineSays(string(line))
		g.partial = append(g.partial[:0], rest...)
	}
}

// engineSays handles one line of a reply of the engine.
func (g *gate) engineSays(line string) {
	if len(line) < 4 || line[3] == '-' {
		// Only the reply to EHLO has several lines, and that list is ours.
		return
	}
	code, err := strconv.Atoi(line[:3])
	if err != nil {
		g.stop("engine: bad reply", nil)
		return
	}
	verb := g.verb
	g.verb = ""
	silent := g.silent
	g.silent = false
	switch {
	case g.mode == inData || g.mode == inChunk || g.mode == betweenBDAT || g.mode == aborting:
		g.messageEnds(line)
		return
	case silent && verb == "DATA" && code == 354:
		g.mode = inChunk
		return
	case silent && code >= 400:
		g.goodbye("engine: "+line, replyInternal)
		return
	case silent:
		return
	}
	g.send(g.state(verb, code, line), code)
}

// state follows the engine through the session and says what the client reads:
// for the commonplaces our own words, for the rest the engine's.
func (g *gate) state(verb string, code int, line string) string {
	switch {
	case (verb == "EHLO" || verb == "HELO") && code == 250:
		g.greeted, g.ehlo = true, verb == "EHLO"
		g.reset()
		return g.hello()
	case verb == "MAIL" && code == 250:
		g.mail = true
		return "250 2.1.0 Sender accepted"
	case verb == "RCPT" && code == 250:
		return "250 2.1.5 Recipient accepted"
	case (verb == "MAIL" || verb == "RCPT") && (code == 500 || code == 504):
		// RFC 5321 §4.1.1.11: unknown parameters are 555.
		return "555 5.5.4 Parameter not recognized"
	case verb == "RSET" && code == 250:
		g.reset()
	case verb == "DATA" && code == 354:
		g.mode = inData
		g.transfer = transfer{}
		return "354 End data with <CR><LF>.<CR><LF>"
	}
	return line
}

// messageEnds handles the engine's verdict about a message, which comes when it
// has read its end, or a failure.
func (g *gate) messageEnds(line string) {
	was, resume := g.mode, g.resume
	g.mode, g.resume, g.feed = inCommands, nil, nil
	g.reset()
	switch {
	case was == aborting:
		if resume != nil {
			resume()
		}
	case g.fail != nil && g.fail.reply == nil:
		// The client is gone or was told already.
	default:
		code, _ := strconv.Atoi(line[:3])
		g.send(line, code)
	}
	if !g.transfer.ended && was != aborting {
		// The rest of the message is still to come: never read it as commands.
		g.stop("message not read to its end", nil)
	}
	g.transfer = transfer{}
}

// reset forgets the transaction (RFC 5321 §4.1.1.5), not the session.
func (g *gate) reset() {
	g.mail = false
	g.session.forget()
}

// reply sends a reply of ours.
func (g *gate) reply(r *mail.Reply) { g.send(r.Error(), r.Code) }

// send writes a reply of one line, or several joined by CR LF, and counts it.
func (g *gate) send(line string, code int) {
	// 452 is the answer to one recipient too many, which RFC 5321 §4.5.3.1.10
	// wants clients to run into.
	if code >= 400 && code != 452 {
		g.errors++
	}
	if err := g.socket.SetWriteDeadline(time.Now().Add(g.srv.o.WriteTimeout)); err != nil {
		g.stop("client left", nil)
		return
	}
	if _, err := io.WriteString(g.conn, line+"\r\n"); err != nil {
		g.stop("client does not read", nil)
		return
	}
	if code == 421 {
		// RFC 5321 §3.8: 421 announces that the connection closes.
		g.stop("421 sent", nil)
	}
}

// Close ends the connection. After a refusal it first waits a moment for the
// client to close: closing with unread octets resets the connection, and a
// reset may overtake the reply.
func (g *gate) Close() error {
	g.once.Do(func() {
		g.linger()
		// The connection is over; there is nobody to tell about an error.
		_ = g.conn.Close()
		_ = g.socket.Close()
		g.cancel()
		g.door.left(g)
		if g.ending == "" {
			g.ending = "quit"
		}
		g.log.Info("smtp session", "peer", g.session.Peer.String(), "helo", g.session.Helo, "tls", g.session.TLS,
			"messages", g.messages, "errors", g.errors, "end", g.ending, "ms", time.Since(g.began).Milliseconds())
	})
	return nil
}

func (g *gate) linger() {
	tcp, ok := g.socket.(interface{ CloseWrite() error })
	if !ok || g.fail == nil || g.ending == "client left" {
		return
	}
	if tcp.CloseWrite() != nil || g.socket.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	// What is read is thrown away, and so is the reason for reading no more.
	_, _ = io.Copy(io.Discard, io.LimitReader(g.socket, lingerBytes))
}

// cut ends the connection from outside: whatever blocks on it returns.
func (g *gate) cut() { _ = g.socket.Close() }

// The rest of net.Conn. Deadlines are the gate's own affair; the engine is
// configured to set none.

func (g *gate) LocalAddr() net.Addr              { return g.socket.LocalAddr() }
func (g *gate) RemoteAddr() net.Addr             { return g.socket.RemoteAddr() }
func (g *gate) SetDeadline(time.Time) error      { return nil }
func (g *gate) SetReadDeadline(time.Time) error  { return nil }
func (g *gate) SetWriteDeadline(time.Time) error { return nil }
