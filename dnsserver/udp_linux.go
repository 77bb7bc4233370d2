package dnsserver

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// mmsg is a socket of which recvmmsg and sendmmsg are called without a detour.
// A peer's address stays the octets that the kernel gave; only the IP address in
// it is read. The calls never wait: waiting is for the runtime's poller, so that
// on one processor TCP has its turn. Therefore they need not be announced to the
// scheduler either (docs/adr/0063-own-recvmmsg.md).
type mmsg struct {
	conn  syscall.RawConn
	any   bool  // it listens on all addresses
	level int32 // the protocol at which it then tells the address that was asked

	in, out    []mmsghdr
	from       []unix.RawSockaddrInet6 // the longer of the two families
	inIO       []unix.Iovec
	outIO      []unix.Iovec
	room       int
	used       int    // places of in that the kernel has written to
	queries    []byte // of room octets each
	oob        []byte // of oobRoom each, empty for a socket that has one address anyway
	count      int    // messages to move, and then: that were read
	first      int    // of out, the first not yet sent
	errno      syscall.Errno
	recv, send func(fd uintptr) bool
}

// oobRoom holds the control message of either family with room to spare.
var oobRoom = unix.CmsgSpace(unix.SizeofInet6Pktinfo)

// openMmsg prepares a socket.
func openMmsg(uc *net.UDPConn, room int) (datagrams, error) {
	conn, err := uc.SyscallConn()
	if err != nil {
		return nil, err
	}
	m := &mmsg{
		conn: conn, in: make([]mmsghdr, udpBatch), out: make([]mmsghdr, udpBatch), from: make([]unix.RawSockaddrInet6, udpBatch),
		inIO: make([]unix.Iovec, udpBatch), outIO: make([]unix.Iovec, udpBatch), room: room, queries: make([]byte, udpBatch*room),
	}
	if uc.LocalAddr().(*net.UDPAddr).IP.IsUnspecified() {
		m.any = true
		if m.level, err = askSource(conn); err != nil {
			return nil, fmt.Errorf("ask for the address of each packet: %w", err)
		}
		m.oob = make([]byte, udpBatch*oobRoom)
	}
	for i := range udpBatch {
		m.inIO[i].Base = &m.queries[i*room]
		m.inIO[i].SetLen(room)
		m.in[i].hdr.Iov, m.out[i].hdr.Iov = &m.inIO[i], &m.outIO[i]
		m.in[i].hdr.SetIovlen(1)
		m.out[i].hdr.SetIovlen(1)
		m.in[i].hdr.Name = (*byte)(unsafe.Pointer(&m.from[i]))
		m.ready(i)
	}
	m.recv, m.send = m.recvmmsg, m.sendmmsg
	return m, nil
}

// askSource makes the socket tell with each packet which address was asked.
func askSource(conn syscall.RawConn) (level int32, err error) {
	control := conn.Control(func(fd uintptr) {
		var domain int
		if domain, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil {
			return
		}
		if domain == unix.AF_INET {
			level, err = unix.IPPROTO_IP, unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
			return
		}
		level, err = unix.IPPROTO_IPV6, unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	})
	if control != nil {
		return 0, control
	}
	return level, err
}

// ready makes the place of a message ready for one: the kernel writes lengths over
// ours.
func (m *mmsg) ready(i int) {
	h := &m.in[i].hdr
	h.Namelen = unix.SizeofSockaddrInet6
	if m.any {
		h.Control = &m.oob[i*oobRoom]
		h.SetControllen(oobRoom)
	}
}

func (m *mmsg) recvmmsg(fd uintptr) bool {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&m.in[0])), uintptr(m.count), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false // the poller waits and calls again
		case 0:
			m.count, m.errno = int(n), 0
		default:
			m.count, m.errno = 0, errno
		}
		return true
	}
}

func (m *mmsg) sendmmsg(fd uintptr) bool {
	for m.first < m.count {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&m.out[m.first])), uintptr(m.count-m.first), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		case 0:
			m.first += int(n)
		default:
			m.errno = errno
			m.first++
		}
	}
	return true
}

// read implements datagrams.
func (m *mmsg) read(ps []packet) (int, error) {
	for i := range m.used {
		m.ready(i)
	}
	m.used, m.count = 0, min(len(ps), udpBatch)
	if err := m.conn.Read(m.recv); err != nil {
		return 0, err
	}
	if m.errno != 0 {
		return 0, m.errno
	}
	m.used = m.count
	for i := range m.count {
		at := i * m.room
		ps[i] = packet{query: m.queries[at : at+int(m.in[i].len)], peer: m.peer(i)}
	}
	return m.count, nil
}

// peer is the IP address of a message's sender, one of IPv4 in its own form.
func (m *mmsg) peer(i int) netip.Addr {
	from := &m.from[i]
	switch from.Family {
	case unix.AF_INET:
		return netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(from)).Addr)
	case unix.AF_INET6:
		return netip.AddrFrom16(from.Addr).Unmap()
	}
	return netip.Addr{}
}

// write implements datagrams.
func (m *mmsg) write(ps []packet) error {
	m.first, m.count, m.errno = 0, 0, 0
	for i := range ps {
		if answer := ps[i].answer; len(answer) > 0 {
			in, h, io := &m.in[i].hdr, &m.out[m.count].hdr, &m.outIO[m.count]
			io.Base = &answer[0]
			io.SetLen(len(answer))
			h.Name, h.Namelen = in.Name, in.Namelen
			if m.any {
				m.answerFrom(h, in)
			}
			m.count++
		}
	}
	err := m.conn.Write(m.send)
	if err == nil && m.errno != 0 {
		return m.errno
	}
	return err
}

// answerFrom makes an answer leave from the address that was asked (RFC 2181 §4):
// the control message of the query says which that is, and is understood the
// same way around (RFC 3542 §6.1 and ip(7)). The interface in it is cleared:
// which way an answer goes is for routing to say, but for a link-local address,
// which means nothing without.
func (m *mmsg) answerFrom(h, in *unix.Msghdr) {
	h.Control = nil
	h.SetControllen(0)
	n := int(in.Controllen)
	if n < unix.SizeofCmsghdr {
		return
	}
	c := (*unix.Cmsghdr)(unsafe.Pointer(in.Control))
	data := unsafe.Add(unsafe.Pointer(in.Control), unix.CmsgLen(0))
	switch {
	case c.Level != m.level:
		return
	case m.level == unix.IPPROTO_IP && c.Type == unix.IP_PKTINFO && n >= unix.CmsgLen(unix.SizeofInet4Pktinfo):
		info := (*unix.Inet4Pktinfo)(data)
		info.Ifindex = 0
		if info.Spec_dst == [4]byte{} { // it came before we had asked
			info.Spec_dst = info.Addr
		}
	case m.level == unix.IPPROTO_IPV6 && c.Type == unix.IPV6_PKTINFO && n >= unix.CmsgLen(unix.SizeofInet6Pktinfo):
		if info := (*unix.Inet6Pktinfo)(data); !netip.AddrFrom16(info.Addr).IsLinkLocalUnicast() {
			info.Ifindex = 0
		}
	default:
		return
	}
	h.Control, h.Controllen = in.Control, in.Controllen
}

// ListenUDP opens what a Server needs to serve UDP on an address: a socket for
// each processor that the process may use. The kernel divides the clients among
// them (SO_REUSEPORT), so that no two processors fight for one queue. That others
// may not share the port stays true: the first socket takes it alone.
func ListenUDP(ctx context.Context, addr string) (sockets []net.PacketConn, err error) {
	defer func() {
		if err != nil {
			for _, pc := range sockets {
				pc.Close()
			}
			sockets = nil
		}
	}()
	for range runtime.GOMAXPROCS(0) {
		config := net.ListenConfig{}
		if len(sockets) > 0 {
			config.Control = func(_, _ string, c syscall.RawConn) error { return sharePort(c) }
			addr = sockets[0].LocalAddr().String() // the port, if the system chose it
		}
		pc, err := config.ListenPacket(ctx, "udp", addr)
		if err != nil {
			return sockets, fmt.Errorf("dns server: udp %s: %w", addr, err)
		}
		enlarge(pc)
		sockets = append(sockets, pc)
		if len(sockets) > 1 {
			continue
		}
		conn, err := pc.(*net.UDPConn).SyscallConn()
		if err == nil {
			err = sharePort(conn)
		}
		if err != nil {
			return sockets, fmt.Errorf("dns server: udp %s: share the port: %w", addr, err)
		}
	}
	return sockets, nil
}

// sharePort lets other sockets of ours have the same address.
func sharePort(c syscall.RawConn) (err error) {
	control := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
	if control != nil {
		return control
	}
	return err
}

// udpReaders: each socket has its processor (ListenUDP).
const udpReaders = 1
