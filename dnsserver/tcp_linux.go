package dnsserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// loops: plain TCP is served by event loops.
const loops = true

// loop serves the connections of one listener that are content with being
// answered: it reads what is there, answers all queries in it, and writes once.
// A connection that is not (its client does not take the answers, or wants a
// transfer) goes on in a goroutine of its own, as an exchange.
//
// The loop's epoll instance is a file that Go's poller watches: while nothing
// happens the loop waits like any goroutine. No call to the kernel in it blocks
// (docs/adr/0064-event-loops-for-tcp.md).
type loop struct {
	desk
	ctx      context.Context
	of       *listening
	open     *sync.WaitGroup // of goroutines
	file     *os.File        // the epoll instance
	epoll    int
	listener syscall.RawConn
	accepts  bool // the listener is in the epoll instance
	err      error

	at     time.Time // of the events at hand
	tick   time.Time // when housekeeping is due
	conns  []*looped // by slot; nil for a free one
	free   []int     // free slots
	in     []byte
	events []unix.EpollEvent
	// What calls to the kernel read and write, kept here so that none is allocated.
	interest unix.EpollEvent
	from     unix.RawSockaddrAny
}

// looped is a connection in a loop.
type looped struct {
	conn
	fd      int
	slot    int
	in      []byte    // the beginning of a query
	until   time.Time // when waiting for a query ends
	started bool      // something was read
}

// cut implements link: the loop sees the end and closes. Connections leave the
// books before their descriptor is closed, so that it is the right one.
func (c *looped) cut() { _ = unix.Shutdown(c.fd, unix.SHUT_RDWR) } // an error means that the client was faster

// wake implements link: the loop is woken as a whole.
func (c *looped) wake() {}

// serveLoops serves a listener with a loop for each processor until ctx ends.
func (s *Server) serveLoops(ctx context.Context, tl *net.TCPListener, of *listening, open *sync.WaitGroup) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n := runtime.GOMAXPROCS(0)
	ended := make(chan error, n)
	for range n {
		go func() {
			defer cancel() // one that fails ends the others
			ended <- s.serveLoop(ctx, tl, of, open)
		}()
	}
	var err error
	for range n {
		err = errors.Join(err, <-ended)
	}
	return err
}

func (s *Server) serveLoop(ctx context.Context, tl *net.TCPListener, of *listening, open *sync.WaitGroup) error {
	l := &loop{desk: desk{server: s}, ctx: ctx, of: of, open: open, in: make([]byte, lengthSize+maxTCP), events: make([]unix.EpollEvent, loopEvents)}
	var err error
	if l.listener, err = tl.SyscallConn(); err != nil {
		return err
	}
	if err = prepare(l.listener, s.limits.FirstByte); err != nil {
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
// and a connection is accepted when its first query is there. Those who connect
// and say nothing cost the kernel little and us nothing.
func prepare(listener syscall.RawConn, firstByte time.Duration) (err error) {
	control := listener.Control(func(fd uintptr) {
		err = errors.Join(
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, int(max(firstByte/time.Second, 1))))
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
		case n == 0:
			return false
		}
		l.at = time.Now()
		for i := range l.events[:n] {
			if slot := int(l.events[i].Fd); slot == listenerSlot {
				l.accept()
			} else if c := l.conns[slot]; c != nil {
				l.read(c)
			}
		}
		l.server.totals.add(&l.tally)
		if !l.at.Before(l.tick) {
			return true
		}
		runtime.Gosched() // UDP and others are on this processor as well
	}
	return true
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
			l.server.log.Warn("dns: tcp accept", "err", errno)
			if err := l.listen(false); err != nil {
				l.err = err
			}
			return
		}
	}
}

// begin takes a connection in. Its query is there as a rule (TCP_DEFER_ACCEPT).
func (l *loop) begin(fd int) {
	s := l.server
	c := &looped{conn: conn{of: l.of, id: s.ids.Add(1), peer: peerAddr(&l.from)}, fd: fd, until: l.at.Add(s.limits.FirstByte)}
	c.link = c
	if refused := s.conns.admit(&c.conn, l.at); refused != "" {
		s.log.Debug("dns: tcp refused", "peer", c.peer, "why", refused)
		closeNow(fd)
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
		l.close(c, errno)
		return
	}
	l.read(c)
}

// peerAddr is the IP address in a socket address, one of IPv4 in its own form.
func peerAddr(from *unix.RawSockaddrAny) netip.Addr {
	switch from.Addr.Family {
	case unix.AF_INET:
		return netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(from)).Addr)
	case unix.AF_INET6:
		return netip.AddrFrom16((*unix.RawSockaddrInet6)(unsafe.Pointer(from)).Addr).Unmap()
	}
	return netip.Addr{}
}

// forget takes a connection out of the loop.
func (l *loop) forget(c *looped) {
	l.conns[c.slot] = nil
	l.free = append(l.free, c.slot)
}

// close ends a connection; its descriptor leaves the epoll instance with it.
func (l *loop) close(c *looped, err error) {
	if err != nil {
		l.server.log.Debug("dns: tcp closed", "conn", c.id, "peer", c.peer, "err", err)
	}
	l.forget(c)
	l.server.conns.leave(&c.conn)
	closeNow(c.fd)
}

func (l *loop) closeAll() {
	for _, c := range l.conns {
		if c != nil {
			l.close(c, nil)
		}
	}
}

// housekeep closes the connections whose time is over, and accepts again.
func (l *loop) housekeep(at time.Time) error {
	for _, c := range l.conns {
		if c != nil && !at.Before(c.until) {
			l.close(c, os.ErrDeadlineExceeded)
		}
	}
	if !l.accepts {
		return l.listen(true)
	}
	return l.listener.Control(func(uintptr) {}) // fails when the listener was closed
}

// read reads what is there and answers it.
func (l *loop) read(c *looped) {
	begun := copy(l.in, c.in)
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(c.fd), uintptr(unsafe.Pointer(&l.in[begun])), uintptr(len(l.in)-begun))
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR: // the event comes again
	case errno != 0:
		l.close(c, errno)
	case n == 0:
		l.close(c, nil)
	default:
		l.answer(c, l.in[:begun+int(n)])
	}
}

// answer answers the queries that stand whole in b and keeps the beginning of the
// next one.
func (l *loop) answer(c *looped, b []byte) {
	t := l.server.transport(true, l.at)
	t.Peer = c.peer
	used := 0
	for more := true; more; {
		var n int
		n, more = l.frames(b[used:], &t)
		used += n
		taken, err := l.write(c)
		if err != nil {
			l.close(c, err)
			return
		}
		if !taken || l.responder.s.transfer != nil {
			l.handOver(c, b[used:])
			return
		}
	}
	// Memory follows what a client has sent, not what it has announced.
	if c.in = append(c.in[:0], b[used:]...); len(c.in) == 0 {
		c.in = nil
	}
	if used > 0 || !c.started {
		// The clock runs until the next query is there whole: octets that trickle
		// in do not set it back.
		c.started, c.until = true, l.at.Add(l.server.limits.Idle)
	}
}

// write sends the answers. False leaves in l.out what the client does not take
// now.
func (l *loop) write(c *looped) (taken bool, err error) {
	if len(l.out) == 0 {
		return true, nil
	}
	c.since.Store(l.at.UnixNano())
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(c.fd), uintptr(unsafe.Pointer(&l.out[0])), uintptr(len(l.out)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			n = 0
		case 0:
		default:
			l.emptied()
			return false, fmt.Errorf("write: %w", errno)
		}
		if int(n) == len(l.out) {
			l.emptied()
			return true, nil
		}
		l.out = l.out[:copy(l.out, l.out[n:])]
		return false, nil
	}
}

// handOver gives a connection a goroutine of its own, which begins with the
// answers in l.out, goes on with the transfer, and then with rest.
func (l *loop) handOver(c *looped, rest []byte) {
	transfer, s := l.responder.s.transfer, l.server
	l.responder.s.transfer = nil
	nc, err := connOf(c.fd)
	if err != nil {
		l.emptied()
		l.close(c, err)
		return
	}
	l.forget(c)
	kept := s.conns.relink(&c.conn, stream{nc}) // from here on nobody uses c.fd
	_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, c.fd, nil)
	_ = unix.Close(c.fd)
	x := s.exchanges.Get().(*exchange)
	x.reset(s, &c.conn, nc)
	x.in, x.out = append(x.in, rest...), append(x.out, l.out...)
	l.emptied()
	if !kept {
		x.end(nil)
		return
	}
	x.started, x.until = true, l.at.Add(s.limits.Idle)
	l.open.Go(func() { x.end(x.takeOver(l.ctx, transfer)) })
}

// connOf gives a connection of its own for a socket; fd stays open, and the
// caller's.
func connOf(fd int) (net.Conn, error) {
	second, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(second), "tcp")
	defer f.Close()
	return net.FileConn(f)
}

// takeOver goes on where a loop has stopped.
func (x *exchange) takeOver(ctx context.Context, transfer *Transfer) error {
	if _, err := x.wait(time.Now()); err != nil {
		return err
	}
	if err := x.flush(time.Now()); err != nil {
		return err
	}
	x.responder.s.transfer = transfer
	if err := x.transfer(ctx); err != nil {
		return err
	}
	if err := x.answer(ctx); err != nil {
		return err
	}
	return x.serve(ctx)
}

// closeNow closes the descriptor of a socket that does not linger: that waits for
// nobody.
func closeNow(fd int) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }
