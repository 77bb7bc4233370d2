package dnsserver

import (
	"bytes"
	"net"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// message is one packet of a batch; ipv4 and ipv6 share the type.
type message = ipv4.Message

// batcher moves several packets in one system call where the system can.
type batcher interface {
	ReadBatch(ms []message, flags int) (int, error)
	WriteBatch(ms []message, flags int) (int, error)
}

// portable is a socket of any system, together with what makes answers leave
// from the address that was asked (RFC 2181 §4).
type portable struct {
	batcher
	source  func(oob []byte) []byte // the control message for the answer to one with this control message; nil if the socket has one address anyway
	in, out []message
}

// openPortable prepares any packet connection. Only a socket that listens on all
// addresses has to be told where each answer comes from.
func openPortable(pc net.PacketConn, room int) (datagrams, error) {
	_, system := pc.(syscall.Conn)
	addr, udp := pc.LocalAddr().(*net.UDPAddr)
	if !system || !udp {
		return newPortable(oneByOne{pc}, room, 0, nil), nil
	}
	local := addr.AddrPort().Addr()
	if local.Is4() {
		p := ipv4.NewPacketConn(pc)
		if !local.IsUnspecified() {
			return newPortable(p, room, 0, nil), nil
		}
		const wanted = ipv4.FlagDst | ipv4.FlagInterface
		return newPortable(p, room, len(ipv4.NewControlMessage(wanted)), sourceIPv4), p.SetControlMessage(wanted, true)
	}
	p := ipv6.NewPacketConn(pc)
	if !local.IsUnspecified() {
		return newPortable(p, room, 0, nil), nil
	}
	const wanted = ipv6.FlagDst | ipv6.FlagInterface
	return newPortable(p, room, len(ipv6.NewControlMessage(wanted)), sourceIPv6), p.SetControlMessage(wanted, true)
}

func newPortable(b batcher, room, oob int, source func([]byte) []byte) *portable {
	p := &portable{batcher: b, source: source, in: make([]message, udpBatch), out: make([]message, udpBatch)}
	for i := range udpBatch {
		p.in[i].Buffers = [][]byte{make([]byte, room)}
		p.in[i].OOB = make([]byte, oob)
		p.out[i].Buffers = make([][]byte, 1)
	}
	return p
}

// read implements datagrams.
func (p *portable) read(ps []packet) (int, error) {
	n, err := p.ReadBatch(p.in[:len(ps)], 0)
	for i := range max(n, 0) {
		m := &p.in[i]
		ps[i] = packet{query: m.Buffers[0][:m.N], peer: addrOf(m.Addr)}
	}
	return n, err
}

// write implements datagrams.
func (p *portable) write(ps []packet) (failed error) {
	out := p.out[:0]
	for i := range ps {
		if len(ps[i].answer) == 0 {
			continue
		}
		out = out[:len(out)+1]
		m := &out[len(out)-1]
		m.Buffers[0], m.Addr = ps[i].answer, p.in[i].Addr
		if p.source != nil {
			m.OOB = p.source(p.in[i].OOB[:p.in[i].NN])
		}
	}
	for len(out) > 0 {
		n, err := p.WriteBatch(out, 0)
		if err != nil || n == 0 {
			failed = err
			n = max(n, 1)
		}
		out = out[n:]
	}
	return failed
}

// sourceIPv4 names the address alone: which way an answer goes is for routing to
// say, not for the interface on which the question came.
func sourceIPv4(oob []byte) []byte {
	var cm ipv4.ControlMessage
	if cm.Parse(oob) != nil || cm.Dst == nil {
		return nil
	}
	return (&ipv4.ControlMessage{Src: cm.Dst}).Marshal()
}

func sourceIPv6(oob []byte) []byte {
	var cm ipv6.ControlMessage
	if cm.Parse(oob) != nil || cm.Dst == nil {
		return nil
	}
	if cm.Dst.To4() != nil {
		return sourceMapped(oob, cm.Dst.To16())
	}
	answer := &ipv6.ControlMessage{Src: cm.Dst}
	if cm.Dst.IsLinkLocalUnicast() {
		answer.IfIndex = cm.IfIndex // without it the address means nothing
	}
	return answer.Marshal()
}

// sourceMapped serves IPv4 on a socket of both families, which is what Go opens
// for "0.0.0.0" too. x/net marshals no mapped address, but what came in is what
// must go out: in6_pktinfo is address and interface both ways (RFC 3542 §6.1).
func sourceMapped(oob []byte, dst net.IP) []byte {
	at := bytes.Index(oob, dst)
	if at < 0 || len(oob) < at+len(dst)+4 {
		return nil
	}
	clear(oob[at+len(dst):][:4])
	return oob
}

// oneByOne is a batcher over any other packet connection.
type oneByOne struct{ net.PacketConn }

// ReadBatch reads one packet.
func (c oneByOne) ReadBatch(ms []message, _ int) (int, error) {
	n, peer, err := c.ReadFrom(ms[0].Buffers[0])
	if err != nil {
		return 0, err
	}
	ms[0].N, ms[0].Addr = n, peer
	return 1, nil
}

// WriteBatch writes one packet.
func (c oneByOne) WriteBatch(ms []message, _ int) (int, error) {
	if _, err := c.WriteTo(ms[0].Buffers[0], ms[0].Addr); err != nil {
		return 0, err
	}
	return 1, nil
}
