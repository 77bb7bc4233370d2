package dnsserver

import (
	"bytes"
	"context"
	"errors"
	"net"
	"time"

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

// udpSocket is a socket together with what makes answers leave from the address
// that was asked (RFC 2181 §4).
type udpSocket struct {
	batcher
	oob    int                     // room for control messages; 0 if the socket has one address anyway
	source func(oob []byte) []byte // the control message for the answer to one with this control message
}

// openUDP prepares a socket. Only one that listens on all addresses has to be
// told where each answer comes from.
func openUDP(pc net.PacketConn) (udpSocket, error) {
	uc, ok := pc.(*net.UDPConn)
	if !ok {
		return udpSocket{batcher: oneByOne{pc}}, nil
	}
	local := uc.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
	if local.Is4() {
		p := ipv4.NewPacketConn(uc)
		if !local.IsUnspecified() {
			return udpSocket{batcher: p}, nil
		}
		const wanted = ipv4.FlagDst | ipv4.FlagInterface
		return udpSocket{p, len(ipv4.NewControlMessage(wanted)), sourceIPv4}, p.SetControlMessage(wanted, true)
	}
	p := ipv6.NewPacketConn(uc)
	if !local.IsUnspecified() {
		return udpSocket{batcher: p}, nil
	}
	const wanted = ipv6.FlagDst | ipv6.FlagInterface
	return udpSocket{p, len(ipv6.NewControlMessage(wanted)), sourceIPv6}, p.SetControlMessage(wanted, true)
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

// batch is the memory of one reader: packets in, answers out.
type batch struct {
	reader
	in, out []message
	answers [][]byte // a buffer for each answer
}

func newBatch(oob int) *batch {
	b := &batch{in: make([]message, udpBatch), out: make([]message, udpBatch), answers: make([][]byte, udpBatch)}
	for i := range udpBatch {
		b.in[i].Buffers = [][]byte{make([]byte, udpQuery)}
		b.in[i].OOB = make([]byte, oob)
		b.out[i].Buffers = make([][]byte, 1)
		b.answers[i] = make([]byte, 0, maxUDP)
	}
	return b
}

// serveUDP reads a batch, answers it, writes a batch, until ctx ends.
func (s *Server) serveUDP(ctx context.Context, pc net.PacketConn) error {
	socket, err := openUDP(pc)
	if err != nil {
		return err
	}
	b := newBatch(socket.oob)
	for {
		n, err := socket.ReadBatch(b.in, 0)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			// A single bad packet, such as the ICMP answer to an earlier one.
			s.log.Debug("dns: udp read", "err", err)
			time.Sleep(readPause)
			continue
		}
		s.writeBatch(socket, s.answerBatch(socket, b, n))
	}
}

// answerBatch answers the first n packets that were read.
func (s *Server) answerBatch(socket udpSocket, b *batch, n int) []message {
	t := s.transport(false, time.Now())
	defer s.totals.add(&b.tally)
	sent := 0
	for i := range n {
		m := &b.in[i]
		a := s.answer(&b.reader, b.answers[i][:0], m.Buffers[0][:m.N], t, m.Addr)
		if len(a) == 0 {
			continue
		}
		b.answers[i] = a // it may have grown
		out := &b.out[sent]
		out.Buffers[0], out.Addr = a, m.Addr
		if socket.source != nil {
			out.OOB = socket.source(m.OOB[:m.NN])
		}
		sent++
	}
	return b.out[:sent]
}

// writeBatch sends the answers. One that cannot be sent (no route, a spoofed
// address) must not hold up those behind it.
func (s *Server) writeBatch(socket udpSocket, out []message) {
	for len(out) > 0 {
		n, err := socket.WriteBatch(out, 0)
		if err != nil || n == 0 {
			s.log.Debug("dns: udp write", "peer", out[0].Addr, "err", err)
			n = max(n, 1)
		}
		out = out[n:]
	}
}
