package ldapserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// loops: plain TCP is served by event loops.
const loops = true

// loop serves the connections of one listener that are content with quick answers:
// it reads what is there, serves the messages in it, and writes once. A connection
// that is not goes on in a goroutine of its own, as a conn.
//
// The loop's epoll instance is a file that Go's poller watches: while nothing
// happens the loop waits like any goroutine. No call to the kernel in it blocks
// (docs/adr/0053-event-loops-for-ldap.md).
type loop struct {
	server   *Server
	session  session // serves the connection whose turn it is
	ctx      context.Context
	own      *sync.WaitGroup // of goroutines
	file     *os.File        // the epoll instance
	epoll    int
	listener syscall.RawConn
	accepts  bool // the listener is in the epoll instance
	err      error

	at     time.Time // of the events at hand
	tick   time.Time // when housekeeping is due
	conns  []*looped // by slot; nil for a free one
	free   []int     // free slots
	ready  []*looped // those with whole messages left over from their last turn
	in     []byte
	events []unix.EpollEvent
	// What calls to the kernel read and write, kept here so that none is allocated.
	interest unix.EpollEvent
	from     unix.RawSockaddrAny
}

// looped is a connection in a loop.
type looped struct {
	client
	fd      int
	slot    int
	in      []byte    // read and not served; nil between messages
	until   time.Time // when waiting for the client ends
	partial bool      // in begins a message, and until is its time
	ready   bool      // in loop.ready
	linger  int       // octets that are still read before the end; 0: it has not come
}

// serveLoops serves a listener with a loop for each processor until ctx ends.
func (s *Server) serveLoops(stopped context.Context, tl *net.TCPListener, own *sync.WaitGroup) error {
	ctx, cancel := context.WithCancel(stopped)
	defer cancel()
	n := runtime.GOMAXPROCS(0)
	ended := make(chan error, n)
	for range n {
		go func() {
			defer cancel() // one that fails ends the others
			ended <- s.serveLoop(ctx, tl, own)
		}()
	}
	var err error
	for range n {
		err = errors.Join(err, <-ended)
	}
	if err != nil && stopped.Err() == nil { // the stop closes the listener, whatever a loop is about
		return fmt.Errorf("ldap on %s: %w", tl.Addr(), err)
	}
	return nil
}

func (s *Server) serveLoop(ctx context.Context, tl *net.TCPListener, own *sync.WaitGroup) error {
	l := &loop{server: s, session: session{server: s, brief: true}, ctx: ctx, own: own, in: make([]byte, readSize), events: make([]unix.EpollEvent, loopEvents)}
	var err error
	if l.listener, err = tl.SyscallConn(); err != nil {
		return err
	}
	if err = prepare(l.listener, s.options.PDUTimeout); err != nil {
		return err
	}
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	if err := unix.SetNonblock(l.epoll, true); err != nil {
		unix.Close(l.epoll)
		return fmt.Errorf("epoll: %w", err)
	}
	l.file = os.NewFile(uintptr(l.epoll), "epoll") // not blocking, so that the poller takes it
	defer l.file.Close()
	stop := context.AfterFunc(ctx, func() { _ = l.file.SetReadDeadline(time.Now()) })
	defer stop()
	defer l.closeAll()
	if err := l.listen(true); err != nil {
		return err
	}
	return l.run()
}

// prepare sets what connections inherit from a listener: answers leave at once,
// few wait in the kernel, and a connection is accepted when its first request is there. Those who connect
// and say nothing cost the kernel little and us nothing.
func prepare(listener syscall.RawConn, wait time.Duration) (err error) {
	control := listener.Control(func(fd uintptr) {
		err = errors.Join(
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer),
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, int(max(wait/time.Second, 1))))
	})
	return errors.Join(control, err)
}

// run waits for events and deals with them, until ctx ends or the listener is no
// more.
func (l *loop) run() error {
	raw, err := l.file.SyscallConn()
	if err != nil {
		return err
	}
	poll := l.poll
	for {
		l.tick = time.Now().Add(loopTick)
		if err := l.file.SetReadDeadline(l.tick); err != nil {
			return err
		}
		if l.ctx.Err() != nil { // looked at after the deadline, which may have put off that of the cancellation
			return nil
		}
		err := raw.Read(poll)
		switch {
		case l.ctx.Err() != nil:
			return nil
		case l.err != nil:
			return l.err
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		}
		if err := l.housekeep(time.Now()); err != nil {
			return err
		}
	}
}

// poll deals with what has happened until there is nothing more: false has Go's
// poller wait, true ends the wait. An event may be one of a connection whose slot
// has another by now: nothing is there to be read then.
func (l *loop) poll(uintptr) bool {
	for l.ctx.Err() == nil && l.err == nil {
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epoll), uintptr(unsafe.Pointer(&l.events[0])), uintptr(len(l.events)), 0, 0, 0)
		switch {
		case errno == unix.EINTR:
			continue
		case errno != 0:
			l.err = fmt.Errorf("epoll: %w", errno)
			return true
		case n == 0 && len(l.ready) == 0:
			return false
		}
		l.at = time.Now()
		waiting := l.ready // those of this round come again in the next one
		l.ready = nil
		for i := range l.events[:n] {
			if slot := int(l.events[i].Fd); slot == listenerSlot {
				l.accept()
			} else if c := l.conns[slot]; c != nil && !c.ready {
				l.turn(c, l.read)
			}
		}
		for _, c := range waiting {
			if c.ready = false; l.conns[c.slot] == c {
				l.turn(c, l.resume)
			}
		}
		if !l.at.Before(l.tick) {
			return true
		}
		runtime.Gosched() // DNS and others are on this processor as well
	}
	return true
}

// turn gives a connection its turn. A bug ends the connection and not the process.
func (l *loop) turn(c *looped, f func(*looped)) {
	defer func() {
		if v := recover(); v != nil {
			l.server.log.Error("ldap: panic in a connection", "conn", c.id, "panic", v, "stack", string(debug.Stack()))
			if l.session.out = nil; l.conns[c.slot] == c {
				l.close(c, "panic")
			}
		}
	}()
	f(c)
}

// listenerSlot marks events of the listener.
const listenerSlot = -1

// listen has the loop told of connections to accept, or not.
func (l *loop) listen(on bool) error {
	operation := unix.EPOLL_CTL_DEL
	if on {
		operation = unix.EPOLL_CTL_ADD
	}
	var err error
	control := l.listener.Control(func(fd uintptr) {
		// EPOLLEXCLUSIVE: one loop is told of each.
		err = unix.EpollCtl(l.epoll, operation, int(fd), &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLEXCLUSIVE, Fd: listenerSlot})
	})
	if err = errors.Join(control, err); err == nil {
		l.accepts = on
	}
	return err
}

// accept takes the connections that wait.
func (l *loop) accept() {
	err := l.listener.Control(l.acceptFrom)
	if err != nil && l.ctx.Err() == nil {
		l.err = err
	}
}

func (l *loop) acceptFrom(listener uintptr) {
	for range loopAccept {
		size := uint32(unsafe.Sizeof(l.from))
		fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, listener, uintptr(unsafe.Pointer(&l.from)), uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		switch errno {
		case 0:
			l.begin(int(fd))
		case unix.EAGAIN:
			return
		case unix.EINTR, unix.ECONNABORTED:
		default:
			// No more descriptors: accepting rests until the next housekeeping;
			// meanwhile connections end.
			l.server.log.Warn("ldap: accept failed", "error", errno)
			if err := l.listen(false); err != nil {
				l.err = err
			}
			return
		}
	}
}

// begin takes a connection in. Its first request is there as a rule.
func (l *loop) begin(fd int) {
	s := l.server
	c := &looped{client: client{id: s.serial.Add(1), peer: s.peer(addrOf(&l.from))}, fd: fd, until: l.at.Add(s.options.IdleTimeout)}
	if !s.admit(&c.peer) {
		l.turnAway(fd)
		return
	}
	if n := len(l.free); n > 0 {
		c.slot, l.free = l.free[n-1], l.free[:n-1]
	} else {
		c.slot, l.conns = len(l.conns), append(l.conns, nil)
	}
	l.conns[c.slot] = c
	l.interest = unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c.slot)}
	if _, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(l.epoll), unix.EPOLL_CTL_ADD, uintptr(fd), uintptr(unsafe.Pointer(&l.interest)), 0, 0); errno != 0 {
		l.close(c, errno.Error())
		return
	}
	l.turn(c, l.read)
}

// turnAway tells a client that there is no slot for it.
func (l *loop) turnAway(fd int) {
	farewell(fd, l.in, appendTurnedAway(nil))
	closeNow(fd)
}

// farewell sends the last words before a socket is closed. What the client has
// sent is read first: unread, it would have the kernel throw the words away.
func farewell(fd int, scratch, words []byte) {
	_, _ = recv(fd, scratch)
	_, _ = send(fd, words)
}

// addrOf is the address in a socket address.
func addrOf(from *unix.RawSockaddrAny) netip.AddrPort {
	switch from.Addr.Family {
	case unix.AF_INET:
		a := (*unix.RawSockaddrInet4)(unsafe.Pointer(from))
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), port(&a.Port))
	case unix.AF_INET6:
		a := (*unix.RawSockaddrInet6)(unsafe.Pointer(from))
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), port(&a.Port))
	}
	return netip.AddrPort{}
}

// port reads a port number in network byte order.
func port(p *uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(p))
	return uint16(b[0])<<8 | uint16(b[1])
}

// forget takes a connection out of the loop.
func (l *loop) forget(c *looped) {
	l.conns[c.slot] = nil
	l.free = append(l.free, c.slot)
}

// close ends a connection; its descriptor leaves the epoll instance with it.
func (l *loop) close(c *looped, reason string) {
	l.forget(c)
	l.server.slots.give(c.peer.counted)
	closeNow(c.fd)
	l.server.ended(&c.client, reason)
}

// closeAll tells the clients that the server stops.
func (l *loop) closeAll() {
	l.session.out = l.server.appendFarewell(l.session.out[:0], errDraining)
	for _, c := range l.conns {
		if c == nil {
			continue
		}
		if c.linger == 0 {
			farewell(c.fd, l.in, l.session.out)
		}
		l.close(c, errDraining.Error())
	}
}

// housekeep closes the connections whose time is over, and accepts again.
func (l *loop) housekeep(at time.Time) error {
	for _, c := range l.conns {
		if c != nil && !at.Before(c.until) {
			l.close(c, "timed out")
		}
	}
	if !l.accepts {
		return l.listen(true)
	}
	return l.listener.Control(func(uintptr) {}) // fails when the listener was closed
}

// read reads what is there and serves it.
func (l *loop) read(c *looped) {
	have := len(c.in)
	b := l.in
	if have > 0 { // the beginning of a message: go on behind it
		if have == cap(c.in) {
			// Memory follows what a client has sent, not what it has announced.
			c.in = append(make([]byte, 0, min(2*have, maxPDU)), c.in...)
		}
		b = c.in[have:cap(c.in)]
	}
	n, errno := recv(c.fd, b)
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR: // the event comes again
	case errno != 0:
		l.close(c, errno.Error())
	case n == 0:
		l.close(c, "closed by the client")
	case c.linger > 0:
		if c.linger -= n; c.linger <= 0 {
			l.close(c, "closed after the last answer")
		}
	case have > 0:
		c.in = c.in[:have+n]
		l.serve(c, c.in)
	default:
		l.serve(c, b[:n])
	}
}

// resume goes on with what a turn has left.
func (l *loop) resume(c *looped) { l.serve(c, c.in) }

// serve serves the messages that stand whole in b, which is c.in if that is not
// empty: maxOutstanding of them. It keeps the rest.
func (l *loop) serve(c *looped, b []byte) {
	l.session.client = &c.client
	used, then := 0, proceed
	var pdu []byte
	var err error
	for served := 0; then == proceed; served++ {
		if pdu, err = message(b[used:]); pdu == nil || served == maxOutstanding || len(l.session.out) >= maxBuffered {
			break
		}
		if then = l.session.handle(pdu, l.at); then != detach {
			used += len(pdu)
		}
	}
	if err != nil {
		l.session.out = l.server.appendFarewell(l.session.out, err)
		then = hangUp
	}
	if then == startTLS {
		l.handOver(c, b[used:], then) // nothing leaves before it is known that nothing came in clear
		return
	}
	taken, broken := l.write(c)
	switch {
	case broken != 0:
		l.close(c, broken.Error())
	case !taken, then == detach:
		l.handOver(c, b[used:], then)
	case then == leave:
		l.close(c, "unbind")
	case then == hangUp:
		l.hangUp(c)
	default:
		l.keep(c, b[used:], pdu != nil)
	}
}

// keep keeps what is not served: whole messages for the next turn, or the
// beginning of one, whose time runs from its first octet.
func (l *loop) keep(c *looped, rest []byte, more bool) {
	moved := len(rest) < len(c.in)
	switch {
	case len(rest) == 0:
		c.in = nil
	case len(c.in) == 0:
		c.in = append(make([]byte, 0, max(len(rest), partialBuffer)), rest...)
		moved = true
	case moved:
		c.in = c.in[:copy(c.in, rest)]
	}
	switch {
	case more:
		c.ready, c.partial = true, false
		l.ready = append(l.ready, c)
		c.until = l.at.Add(l.server.options.PDUTimeout)
	case len(rest) == 0:
		c.partial = false
		c.until = l.at.Add(l.server.options.IdleTimeout)
	case moved || !c.partial:
		c.partial = true
		c.until = l.at.Add(l.server.options.PDUTimeout)
	}
}

// hangUp closes the sending half behind the last answer, and the connection when
// the client has done so, or has had a moment for it: closing a socket with unread
// octets resets the connection, and the client would never see that answer.
func (l *loop) hangUp(c *looped) {
	if err := unix.Shutdown(c.fd, unix.SHUT_WR); err != nil {
		l.close(c, err.Error())
		return
	}
	c.in, c.ready, c.linger = nil, false, lingerOctets
	c.until = l.at.Add(lingerTime)
}

// write sends the answers. False leaves in l.session.out what the client does not take
// now.
func (l *loop) write(c *looped) (taken bool, errno syscall.Errno) {
	for len(l.session.out) > 0 {
		n, errno := send(c.fd, l.session.out)
		switch errno {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false, 0
		case 0:
		default:
			l.session.out = recycle(l.session.out)
			return false, errno
		}
		if n < len(l.session.out) {
			l.session.out = l.session.out[:copy(l.session.out, l.session.out[n:])]
			return false, 0
		}
		l.session.out = recycle(l.session.out)
	}
	return true, 0
}

// handOver gives a connection a goroutine of its own, which begins with the
// answers in l.session.out, does what then says, and goes on with rest.
func (l *loop) handOver(c *looped, rest []byte, then next) {
	s := l.server
	l.forget(c)
	_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, c.fd, nil)
	f := os.NewFile(uintptr(c.fd), "tcp")
	nc, err := net.FileConn(f) // a second descriptor
	f.Close()
	if err != nil {
		l.session.out = recycle(l.session.out)
		s.slots.give(c.peer.counted)
		s.ended(&c.client, err.Error())
		return
	}
	own := &conn{client: c.client, raw: nc, rw: nc, buf: make([]byte, max(len(rest), firstBuffer))}
	own.to = copy(own.buf, rest)
	own.session.out = append([]byte(nil), l.session.out...)
	l.session.out = recycle(l.session.out)
	l.own.Go(func() { s.serve(l.ctx, own, then) })
}

func recv(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), errno
}

func send(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	return int(n), errno
}

// closeNow closes the descriptor of a socket that does not linger: that waits for
// nobody.
func closeNow(fd int) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }
