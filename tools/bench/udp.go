package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// batchSize is how many messages one system call moves.
	batchSize = 64

	// answerRoom is more than any answer of a case has.
	answerRoom = 4608

	// refill is how much of the window must be free before more is sent: single
	// packets would cost the generator a system call each.
	refill = 16

	// pace is how often a load with a rate looks for what is due.
	pace = 200 * time.Microsecond
)

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// batch is a set of message headers that one call fills or empties.
type batch struct {
	hdrs [batchSize]mmsghdr
	iovs [batchSize]unix.Iovec
}

func newBatch() *batch {
	b := &batch{}
	for i := range b.hdrs {
		b.hdrs[i].hdr.Iov = &b.iovs[i]
		b.hdrs[i].hdr.SetIovlen(1)
	}
	return b
}

func (b *batch) set(i int, buf []byte) {
	b.iovs[i].Base = &buf[0]
	b.iovs[i].SetLen(len(buf))
}

func (b *batch) name(i int, sa *unix.RawSockaddrInet4) {
	b.hdrs[i].hdr.Name = (*byte)(unsafe.Pointer(sa))
	b.hdrs[i].hdr.Namelen = unix.SizeofSockaddrInet4
}

// call moves up to n messages without waiting. It returns at once, so the
// runtime need not know of it.
func (b *batch) call(trap uintptr, fd, n int) (int, error) {
	r, _, errno := unix.RawSyscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(&b.hdrs)), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
	return moved(r, errno)
}

// wait moves up to n messages from the given one on, and waits until it can.
func (b *batch) wait(trap uintptr, fd, from, n, flags int) (int, error) {
	r, _, errno := unix.Syscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(&b.hdrs[from])), uintptr(n), uintptr(flags), 0, 0)
	return moved(r, errno)
}

func moved(n uintptr, errno syscall.Errno) (int, error) {
	switch errno {
	case 0:
		return int(n), nil
	case unix.EAGAIN, unix.EINTR, unix.ENOBUFS:
		return 0, nil
	}
	return 0, errno
}

// udpRun is one running load: a socket, and what is outstanding by message ID.
type udpRun struct {
	load load
	fd   int
	q    *queries
	out  outcome

	next        int // the query to send
	sent        int64
	outstanding int
	asked       []int32 // by ID: the query, −1 if none is outstanding
	at          []int64 // by ID: when it was sent, from start
	in, send    *batch
	room        [batchSize][answerRoom]byte

	start    time.Time
	progress int64 // when the last answer came
	cut      int64 // when the current slice began
}

func runUDP(ctx context.Context, l load, to netip.AddrPort, q *queries, d time.Duration) (outcome, error) {
	fd, err := udpSocket(to)
	if err != nil {
		return outcome{}, err
	}
	defer unix.Close(fd)
	r := &udpRun{load: l, fd: fd, q: q, asked: make([]int32, 1<<16), at: make([]int64, 1<<16), in: newBatch(), send: newBatch()}
	for i := range r.asked {
		r.asked[i] = -1
	}
	for i := range r.room {
		r.in.set(i, r.room[i][:])
	}
	r.start = time.Now()
	err = r.loop(ctx, int64(d))
	r.out.elapsed = time.Since(r.start)
	if err == nil {
		err = r.drain()
	}
	return r.out, err
}

func udpSocket(to netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, socketBuffer),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, socketBuffer),
		unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}))
	if err != nil {
		unix.Close(fd)
		return 0, err
	}
	return fd, nil
}

func (r *udpRun) now() int64 { return int64(time.Since(r.start)) }

func (r *udpRun) loop(ctx context.Context, end int64) error {
	for ctx.Err() == nil {
		now := r.now()
		if now >= end {
			return nil
		}
		got, err := r.receive()
		if err != nil {
			return err
		}
		if room := r.due(now); room > 0 {
			if err := r.ask(room); err != nil {
				return err
			}
		}
		r.slice(now)
		switch {
		case got > 0:
		case r.load.rate > 0:
			r.wait(pace)
		default:
			r.wait(time.Millisecond)
		}
		r.expire()
	}
	return nil
}

// due is how many queries may be sent now.
func (r *udpRun) due(now int64) int {
	room := r.load.window - r.outstanding
	if r.load.rate > 0 {
		return min(room, int(now*int64(r.load.rate)/int64(time.Second)-r.sent))
	}
	if room < min(refill, r.load.window) && r.outstanding > 0 {
		return 0
	}
	return room
}

func (r *udpRun) ask(room int) error {
	for room > 0 {
		n := min(room, batchSize)
		now := r.now()
		for i := range n {
			k := (r.next + i) % len(r.q.msgs)
			r.send.set(i, r.q.msgs[k])
			r.asked[k&0xffff], r.at[k&0xffff] = int32(k), now
		}
		sent, err := r.send.call(unix.SYS_SENDMMSG, r.fd, n)
		if err != nil {
			return fmt.Errorf("send: %w", err)
		}
		r.next = (r.next + sent) % len(r.q.msgs)
		r.outstanding += sent
		r.sent += int64(sent)
		room -= sent
		if sent < n {
			return nil
		}
	}
	return nil
}

// receive takes what has come and says how many messages that were.
func (r *udpRun) receive() (int, error) {
	n, err := r.in.call(unix.SYS_RECVMMSG, r.fd, batchSize)
	if err != nil {
		return 0, fmt.Errorf("receive: %w", err)
	}
	now := r.now()
	for i := range n {
		r.answer(r.room[i][:r.in.hdrs[i].n], now)
	}
	if n > 0 {
		r.progress = now
	}
	return n, nil
}

func (r *udpRun) answer(msg []byte, now int64) {
	if len(msg) < headerSize {
		r.out.fail(errForeign)
		return
	}
	id := int(msg[0])<<8 | int(msg[1])
	k := r.asked[id]
	if k < 0 { // nothing with this ID is outstanding
		r.out.fail(errForeign)
		return
	}
	r.asked[id] = -1
	r.outstanding--
	r.out.record(&r.q.want, r.q.msgs[k], msg, time.Duration(now-r.at[id]))
}

// wait sleeps until something has come, or for d.
func (r *udpRun) wait(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	fds := [1]unix.PollFd{{Fd: int32(r.fd), Events: unix.POLLIN}}
	_, _ = unix.Ppoll(fds[:], &ts, nil) // an interruption is no matter: the loop looks again
}

// expire gives up what is outstanding when nothing comes any more.
func (r *udpRun) expire() {
	now := r.now()
	if r.outstanding == 0 {
		r.progress = now
		return
	}
	if now-r.progress < int64(r.load.patience) {
		return
	}
	r.out.lost += uint64(r.outstanding)
	r.outstanding, r.progress = 0, now
	for i := range r.asked {
		r.asked[i] = -1
	}
}

// drain waits for the last answers.
func (r *udpRun) drain() error {
	for r.outstanding > 0 {
		got, err := r.receive()
		if err != nil {
			return err
		}
		if got == 0 {
			r.wait(time.Millisecond)
		}
		r.expire()
	}
	r.slice(r.cut + int64(r.load.each))
	return nil
}

// slice ends a part of the timeline.
func (r *udpRun) slice(now int64) {
	if r.load.each == 0 || now-r.cut < int64(r.load.each) {
		return
	}
	h := &r.out.latency
	if h.count > 0 {
		r.out.slices = append(r.out.slices, slice{h.count, h.quantile(0.99), h.worst})
	}
	h.reset()
	r.cut = now
}
