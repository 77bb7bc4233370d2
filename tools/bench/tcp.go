package main

import (
	"context"
	"encoding/binary"
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

// tcpRun is one running load over TCP.
type tcpRun struct {
	load   load
	to     unix.SockaddrInet4
	q      *queries
	out    outcome
	epoll  int
	next   int
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
	opened    int64
	out       []byte // what is to be sent at once
	in        []byte // what has come of answers that are not whole
	asked     []sentQuery
	room      []byte
}

type sentQuery struct {
	query int32
	at    int64
}

func runTCP(ctx context.Context, l load, to netip.AddrPort, q *queries, d time.Duration) (outcome, error) {
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
		if !r.ending && (now >= end || ctx.Err() != nil) {
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
		return r.ask(c)
	}
	if events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
		return nil
	}
	return r.read(c)
}

// ask fills the connection's window in one write.
func (r *tcpRun) ask(c *tcpConn) error {
	if r.ending {
		return nil
	}
	c.out = c.out[:0]
	now := r.now()
	for len(c.asked) < r.load.window {
		msg := r.q.msgs[r.next]
		c.out = binary.BigEndian.AppendUint16(c.out, uint16(len(msg)))
		c.out = append(c.out, msg...)
		c.asked = append(c.asked, sentQuery{int32(r.next), now})
		r.busy++
		r.next = (r.next + 1) % len(r.q.msgs)
	}
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
	rest, done := c.in, 0
	now := r.now()
	for len(rest) >= 2 {
		size := int(binary.BigEndian.Uint16(rest))
		if len(rest) < 2+size {
			break
		}
		r.answer(c, rest[2:2+size], now)
		rest = rest[2+size:]
		done++
	}
	c.in = c.room[:copy(c.room, rest)]
	switch {
	case done == 0:
		return nil
	case r.load.over == perConnection:
		unix.Close(c.fd)
		c.fd = 0
		if r.ending {
			return nil
		}
		return r.open(c)
	}
	return r.ask(c)
}

// answer finds the query of an answer: answers may come in any order (RFC 7766
// §6.2.1.1).
func (r *tcpRun) answer(c *tcpConn, msg []byte, now int64) {
	for i, s := range c.asked {
		query := r.q.msgs[s.query]
		if len(msg) < headerSize || msg[0] != query[0] || msg[1] != query[1] {
			continue
		}
		from := s.at
		if r.load.over == perConnection {
			from = c.opened
		}
		r.out.record(&r.q.want, query, msg, time.Duration(now-from))
		c.asked = append(c.asked[:i], c.asked[i+1:]...)
		r.busy--
		return
	}
	r.out.fail(errForeign)
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
