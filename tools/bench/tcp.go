package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// streamRoom holds the answers that are outstanding on one connection:
	// eight certificates and more.
	streamRoom = 64 << 10

	// sourceAddresses spreads connections that live for one query: each closed
	// one keeps its port for a minute, and an address has 28,000 of them.
	sourceAddresses = 64

	epollEvents = 128
)

// dialect is what goes over a connection: numbered queries with what frames
// them, and what an answer to them looks like.
type dialect interface {
	count() int                   // of the queries; after the last comes the first again
	frame(b []byte, n int) []byte // appends query n

	// cut is the size of the first message of b with its frame, 0 if it is not
	// whole yet.
	cut(b []byte) (int, error)
	// id is which query a message answers, as idOf has it; false if none.
	id(msg []byte) (int, bool)
	idOf(n int) int
	// take holds a message against its query, notes what is wrong with it and
	// tells whether it was the last one of the answer.
	take(s *sentQuery, msg []byte) bool

	hello() []byte            // what is sent first on a connection, nil for nothing
	welcome(msg []byte) error // holds the answer to it against what is right
	farewell() []byte         // what is sent last on a connection, nil for nothing
}

// tcpRun is one running load over TCP.
type tcpRun struct {
	load   load
	to     unix.SockaddrInet4
	q      dialect
	out    outcome
	epoll  int
	next   int
	sent   int
	source byte
	conns  []*tcpConn
	start  time.Time
	ending bool // no more questions
	busy   int  // queries outstanding on all connections
}

// tcpConn is one connection.
type tcpConn struct {
	fd        int
	connected bool
	greeted   bool // the answer to hello has come, or there is none
	served    bool // a query was answered
	opened    int64
	out       []byte // what is to be sent at once
	in        []byte // what has come of answers that are not whole
	asked     []sentQuery
	room      []byte
}

// sentQuery is a query that is outstanding, and what has come of its answer.
type sentQuery struct {
	query  int32
	at     int64
	octets int
	parts  int   // messages before the last
	err    error // the first thing that was wrong
}

func (s *sentQuery) wrong(err error) {
	if s.err == nil {
		s.err = err
	}
}

func runTCP(ctx context.Context, l load, to netip.AddrPort, q dialect, d time.Duration) (outcome, error) {
	r := &tcpRun{load: l, to: unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}, q: q}
	var err error
	if r.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return outcome{}, err
	}
	defer unix.Close(r.epoll)
	defer r.closeAll()
	r.start = time.Now()
	for range l.conns {
		c := &tcpConn{room: make([]byte, streamRoom)}
		r.conns = append(r.conns, c)
		if err := r.open(c); err != nil {
			return r.out, err
		}
	}
	err = r.loop(ctx, int64(d))
	return r.out, err
}

func (r *tcpRun) closeAll() {
	for _, c := range r.conns {
		if c.fd > 0 {
			unix.Close(c.fd)
		}
	}
}

func (r *tcpRun) now() int64 { return int64(time.Since(r.start)) }

// loop runs until the end and then until what is outstanding has come.
func (r *tcpRun) loop(ctx context.Context, end int64) error {
	var events [epollEvents]unix.EpollEvent
	progress := int64(0)
	for {
		now := r.now()
		if !r.ending && (now >= end || r.load.limit > 0 && r.sent == r.load.limit || ctx.Err() != nil) {
			r.ending, r.out.elapsed = true, time.Duration(now)
		}
		if r.ending && r.busy == 0 {
			return nil
		}
		n, err := unix.EpollWait(r.epoll, events[:], 100)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		for _, e := range events[:max(n, 0)] {
			if err := r.event(r.conns[e.Fd], e.Events); err != nil {
				return err
			}
		}
		if n > 0 {
			progress = r.now()
		} else if r.now()-progress > int64(r.load.patience) {
			r.out.lost += uint64(r.busy)
			return nil
		}
	}
}

// open connects a socket. The connection's place among conns travels in the
// event's descriptor field, which is the caller's to use.
func (r *tcpRun) open(c *tcpConn) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	*c = tcpConn{fd: fd, room: c.room, in: c.room[:0], out: c.out[:0], asked: c.asked[:0], opened: r.now()}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	if r.load.over == perConnection {
		if err := r.bindSource(fd); err != nil {
			return err
		}
	}
	err = unix.Connect(fd, &r.to)
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("connect: %w", err)
	}
	e := unix.EpollEvent{Events: unix.EPOLLOUT, Fd: r.place(c)}
	return unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, fd, &e)
}

func (r *tcpRun) place(c *tcpConn) int32 {
	for i, other := range r.conns {
		if other == c {
			return int32(i)
		}
	}
	return -1
}

func (r *tcpRun) bindSource(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return err
	}
	r.source = (r.source + 1) % sourceAddresses
	return unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 1, 1 + r.source}})
}

func (r *tcpRun) event(c *tcpConn, events uint32) error {
	if !c.connected {
		if code, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
			return fmt.Errorf("connect: %w", errOr(err, unix.Errno(code)))
		}
		c.connected = true
		e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: r.place(c)}
		if err := unix.EpollCtl(r.epoll, unix.EPOLL_CTL_MOD, c.fd, &e); err != nil {
			return err
		}
		return r.greet(c)
	}
	if events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
		return nil
	}
	return r.read(c)
}

// greet begins a connection.
func (r *tcpRun) greet(c *tcpConn) error {
	hello := r.q.hello()
	if hello == nil {
		c.greeted = true
		return r.ask(c)
	}
	c.out = append(c.out[:0], hello...)
	return r.write(c)
}

// ask fills the connection's window in one write.
func (r *tcpRun) ask(c *tcpConn) error {
	if r.ending {
		return nil
	}
	c.out = c.out[:0]
	now := r.now()
	for len(c.asked) < r.load.window && (r.load.limit == 0 || r.sent < r.load.limit) {
		c.out = r.q.frame(c.out, r.next)
		c.asked = append(c.asked, sentQuery{query: int32(r.next), at: now})
		r.busy++
		r.sent++
		r.next = (r.next + 1) % r.q.count()
	}
	return r.write(c)
}

// write sends c.out, for which a socket's buffer always has room.
func (r *tcpRun) write(c *tcpConn) error {
	if len(c.out) == 0 {
		return nil
	}
	if n, err := unix.Write(c.fd, c.out); err != nil || n < len(c.out) {
		return r.broken(c, fmt.Errorf("%d of %d octets written: %w", n, len(c.out), errOr(err, unix.EAGAIN)))
	}
	return nil
}

// read takes what has come.
func (r *tcpRun) read(c *tcpConn) error {
	free := c.room[len(c.in):]
	n, err := unix.Read(c.fd, free)
	switch {
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return r.broken(c, err)
	case n == 0:
		return r.broken(c, errors.New("the server closed the connection"))
	}
	c.in = c.room[:len(c.in)+n]
	rest, progress := c.in, false
	now := r.now()
	for {
		size, err := r.q.cut(rest)
		if err != nil {
			return r.broken(c, err)
		}
		if size == 0 {
			break
		}
		whole, err := r.message(c, rest[:size], now)
		if err != nil {
			return r.broken(c, err)
		}
		rest, progress = rest[size:], progress || whole
	}
	c.in = c.room[:copy(c.room, rest)]
	switch {
	case !progress:
		return nil
	case r.load.over == perConnection && len(c.asked) == 0 && c.served:
		return r.again(c)
	}
	return r.ask(c)
}

// again closes a connection that has served its query and opens the next one.
func (r *tcpRun) again(c *tcpConn) error {
	if last := r.q.farewell(); last != nil {
		_, _ = unix.Write(c.fd, last) // a server that has gone already has answered
	}
	unix.Close(c.fd)
	c.fd = 0
	if r.ending {
		return nil
	}
	return r.open(c)
}

// message takes one message and tells whether there is something to send now:
// a greeting was answered, or a query.
func (r *tcpRun) message(c *tcpConn, msg []byte, now int64) (bool, error) {
	if !c.greeted {
		c.greeted = true
		return true, r.q.welcome(msg)
	}
	id, ok := r.q.id(msg)
	for i := range c.asked {
		s := &c.asked[i]
		if !ok || r.q.idOf(int(s.query)) != id {
			continue
		}
		s.octets += len(msg)
		if !r.q.take(s, msg) {
			return false, nil
		}
		from := s.at
		if r.load.over == perConnection {
			from = c.opened
		}
		r.out.count(s.octets, time.Duration(now-from), s.err)
		c.asked = append(c.asked[:i], c.asked[i+1:]...)
		c.served = true
		r.busy--
		return true, nil
	}
	r.out.fail(errForeign)
	return false, nil
}

// broken counts what was outstanding on a connection as lost and opens it anew.
func (r *tcpRun) broken(c *tcpConn, err error) error {
	r.out.lost += uint64(len(c.asked))
	r.busy -= len(c.asked)
	r.out.fail(err)
	unix.Close(c.fd)
	c.fd = 0
	return r.open(c)
}
