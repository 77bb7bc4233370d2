package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxSlow keeps a crowd within what a process may open by the limit below.
	maxSlow = 12_000

	// openFiles is the limit of open files that the servers and this program
	// get. Some servers make tables of its size, so that it is not larger.
	openFiles = 16_384

	// otherFiles are those beside a crowd.
	otherFiles = 512

	// crowdAddresses are those that a crowd comes from.
	crowdAddresses = 1000

	// crowdTick is how often a part of the crowd has its turn; everybody has it
	// once in crowdTicks, which is a second.
	crowdTick  = 10 * time.Millisecond
	crowdTicks = 100

	// crowdWait bounds the gathering.
	crowdWait = 30 * time.Second

	// crowdRipens is how long a crowd is there before anything is measured: by
	// then a server that bounds the time of a request closes as many of it as it
	// will ever do, and as many come anew.
	crowdRipens = 6 * time.Second

	// crowdNice is the priority of a crowd, which must not hold up those whose
	// latency is measured on the same core.
	crowdNice = 10
)

// limitOpenFiles sets the limit of open files for this process and for those
// that it starts, which must be enough for so many connections.
func limitOpenFiles(connections int) error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	l.Cur = min(openFiles, l.Max)
	if need := uint64(connections + otherFiles); l.Cur < need {
		return fmt.Errorf("%d open files are needed and %d allowed: raise the hard limit, or give a smaller -slow", need, l.Max)
	}
	// By the package syscall: then the runtime does not give children the limit
	// that was there before.
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
}

// crowd are connections to one server that do next to nothing: the even ones
// nothing at all, the odd ones send a search, an octet a second. What a server
// closes is opened anew.
type crowd struct {
	to      unix.SockaddrInet4
	request []byte
	epoll   int
	members []member
	start   time.Time

	open   atomic.Int64 // connected now
	closed atomic.Int64 // by the server
}

// member is one connection of a crowd.
type member struct {
	fd        int
	connected bool
	opened    time.Time
	sent      int // octets of the request
}

// gather opens a crowd and keeps it until the returned function is called,
// which says what went wrong in between. It returns when all are connected.
func gather(ctx context.Context, core int, to netip.AddrPort, size int) (*crowd, func() error, error) {
	c := &crowd{to: unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}, request: searchRequest([]byte{1}, mailOf(0)),
		members: make([]member, size), start: time.Now()}
	var err error
	if c.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, nil, err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- c.run(running, core) }()
	disperse := func() error {
		stop()
		return <-ended
	}
	limit := time.After(crowdWait)
	for c.open.Load() < int64(size) {
		select {
		case err := <-ended:
			stop()
			return nil, nil, errOr(err, ctx.Err())
		case <-limit:
			err := disperse()
			return nil, nil, errors.Join(fmt.Errorf("%d of %d connections are open after %v", c.open.Load(), size, crowdWait), err)
		case <-time.After(crowdTick):
		}
	}
	return c, disperse, nil
}

// run is the crowd's thread.
func (c *crowd) run(ctx context.Context, core int) error {
	runtime.LockOSThread() // not unlocked: the thread has a core and a priority of its own and ends with the goroutine
	defer c.disperse()
	if core != anyCore {
		var one unix.CPUSet
		one.Set(core)
		if err := unix.SchedSetaffinity(0, &one); err != nil {
			return err
		}
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), crowdNice); err != nil {
		return err
	}
	var events [epollEvents]unix.EpollEvent
	for tick := 0; ctx.Err() == nil; {
		wait := time.Until(c.start.Add(time.Duration(tick) * crowdTick))
		if wait <= 0 {
			for i := tick % crowdTicks; i < len(c.members); i += crowdTicks {
				if err := c.turn(i); err != nil {
					return err
				}
			}
			tick++
			continue
		}
		n, err := unix.EpollWait(c.epoll, events[:], int(wait.Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		for _, e := range events[:max(n, 0)] {
			if err := c.event(int(e.Fd)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *crowd) disperse() {
	for i := range c.members {
		if c.members[i].fd > 0 {
			unix.Close(c.members[i].fd)
		}
	}
	unix.Close(c.epoll)
}

// turn is what a member does once a second.
func (c *crowd) turn(i int) error {
	m := &c.members[i]
	switch {
	case m.fd == 0:
		return c.join(i)
	case !m.connected || i%2 == 0:
		return nil
	}
	if _, err := unix.Write(m.fd, c.request[m.sent:m.sent+1]); err != nil {
		return c.leave(i)
	}
	m.sent = (m.sent + 1) % len(c.request)
	return nil
}

// join connects a member.
func (c *crowd) join(i int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	m := &c.members[i]
	*m = member{fd: fd, opened: time.Now()}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return err
	}
	k := i % crowdAddresses
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 7, byte(k / 250), byte(1 + k%250)}}); err != nil {
		return err
	}
	if err := unix.Connect(fd, &c.to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("connect: %w", err)
	}
	e := unix.EpollEvent{Events: unix.EPOLLOUT, Fd: int32(i)}
	return unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, fd, &e)
}

// event is a connection that is there, an answer, which is thrown away, or an
// end.
func (c *crowd) event(i int) error {
	m := &c.members[i]
	if m.fd == 0 {
		return nil
	}
	if !m.connected {
		if code, err := unix.GetsockoptInt(m.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
			return c.leave(i)
		}
		m.connected = true
		c.open.Add(1)
		e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}
		return unix.EpollCtl(c.epoll, unix.EPOLL_CTL_MOD, m.fd, &e)
	}
	var room [4 << 10]byte
	n, err := unix.Read(m.fd, room[:])
	if n > 0 || errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return nil
	}
	return c.leave(i)
}

// leave is the end of a connection by the server. The next one is opened at
// once, but not more than one a second.
func (c *crowd) leave(i int) error {
	m := &c.members[i]
	c.closed.Add(1)
	if m.connected {
		c.open.Add(-1)
	}
	unix.Close(m.fd)
	lasted := time.Since(m.opened)
	*m = member{}
	if lasted < time.Second {
		return nil // until its turn
	}
	return c.join(i)
}
