package dnsserver

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"
)

// packet is one query of a batch and what becomes of it.
type packet struct {
	query  []byte
	peer   netip.Addr // not valid for a peer without an IP address
	answer []byte     // empty for silence
}

// datagrams moves batches of packets between one socket and memory.
type datagrams interface {
	// read waits for packets, fills in query and peer of the first n, and clears
	// their answers. What it fills in is good until the next call.
	read(ps []packet) (n int, err error)
	// write sends the answers of what was read last, each to where its query
	// came from. One that cannot be sent (no route, a spoofed address) does not
	// hold up those behind it; the error is that of the last such one.
	write(ps []packet) error
}

// openUDP prepares a socket for one reader, in the fastest way that it allows.
func (s *Server) openUDP(pc net.PacketConn) (datagrams, error) {
	if uc, ok := pc.(*net.UDPConn); ok {
		if d, err := openMmsg(uc, s.udpRoom()); d != nil || err != nil {
			return d, err
		}
	}
	return openPortable(pc, s.udpRoom())
}

// udpRoom is the room for one query: what we say that we take, or more.
func (s *Server) udpRoom() int { return max(udpQuery, s.udpSize) }

// batch is the memory of one reader: packets in, answers out. All answers stand
// in one piece of memory, one after the other: what is sent next is near.
type batch struct {
	reader
	packets []packet
	arena   []byte
}

func newBatch(udpSize int) *batch {
	return &batch{packets: make([]packet, udpBatch), arena: make([]byte, 0, udpBatch*udpSize)}
}

// serveUDP reads a batch, answers it, writes a batch, until ctx ends.
func (s *Server) serveUDP(ctx context.Context, pc net.PacketConn) error {
	socket, err := s.openUDP(pc)
	if err != nil {
		return err
	}
	b := newBatch(s.udpSize)
	for {
		n, err := socket.read(b.packets)
		if n > 0 {
			s.exchangeBatch(socket, b, n)
		}
		switch {
		case ctx.Err() != nil:
			s.drainUDP(pc, socket, b)
			return nil
		case err == nil:
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			// A single bad packet, such as the ICMP answer to an earlier one.
			s.log.Debug("dns: udp read", "err", err)
			time.Sleep(readPause)
		}
	}
}

// drainUDP answers what lies in the socket when the server is told to stop: a
// packet that has arrived is lost with the socket otherwise. It ends when nothing
// more is there, or after udpDrain however much goes on coming.
func (s *Server) drainUDP(pc net.PacketConn, socket datagrams, b *batch) {
	for end := time.Now().Add(udpDrain); time.Now().Before(end); {
		if pc.SetReadDeadline(time.Now().Add(udpQuiet)) != nil {
			return
		}
		n, err := socket.read(b.packets)
		if n > 0 {
			s.exchangeBatch(socket, b, n)
		}
		if err != nil {
			return
		}
	}
}

// exchangeBatch answers the first n packets that were read and sends the answers.
func (s *Server) exchangeBatch(socket datagrams, b *batch, n int) {
	ps := b.packets[:n]
	s.answerBatch(b, ps)
	if err := socket.write(ps); err != nil && s.log.Enabled(context.Background(), slog.LevelDebug) {
		s.log.Debug("dns: udp write", "err", err)
	}
}

// answerBatch answers what was read. The time is that of the batch.
func (s *Server) answerBatch(b *batch, ps []packet) {
	t := s.transport(false, time.Now())
	arena := b.arena[:0]
	for i := range ps {
		p := &ps[i]
		t.Peer = p.peer
		start := len(arena)
		arena = s.answer(&b.reader, arena, p.query, &t)
		p.answer = arena[start:]
	}
	b.arena = arena[:0]
	s.totals.add(&b.tally)
}

// enlarge asks for buffers that hold a burst; the system gives what it allows.
func enlarge(pc net.PacketConn) {
	if uc, ok := pc.(*net.UDPConn); ok {
		_ = uc.SetReadBuffer(udpBuffer) // an error leaves the usual size
		_ = uc.SetWriteBuffer(udpBuffer)
	}
}
