package resolver

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// asking is a query on its way by one socket.
type asking struct {
	msg      *dns.Msg
	wire     []byte
	mixed    bool          // the case of the name must come back as it was sent
	patience time.Duration // before a datagram is sent again
	x        *exchange
}

// roundTrip sends one query over a socket of its own: a fresh source port chosen by the kernel at random, connected, so that it drops
// datagrams from anybody but the server (RFC 5452 §9).
func (r *Resolver) roundTrip(ctx context.Context, a attempt, msg *dns.Msg, x *exchange) (*dns.Msg, error) {
	conn, err := new(net.Dialer).DialContext(ctx, a.network, a.server)
	if err == nil {
		defer conn.Close()
		if opt := msg.IsEdns0(); opt != nil {
			opt.Option = append(opt.Option, r.book.cookie(a.server, localAddr(conn)).option())
		}
	}
	wire, packErr := msg.Pack()
	if packErr != nil {
		return nil, fmt.Errorf("question: %w", packErr)
	}
	q := asking{msg: msg, wire: wire, mixed: r.mixCase, patience: r.book.patience(a.server), x: x}
	if r.mixCase {
		mixCase(wire)
	}
	x.Query = wire
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if a.network == "tcp" {
		return q.overTCP(conn)
	}
	deadline, _ := ctx.Deadline()
	return q.overUDP(conn, deadline)
}

func localAddr(conn net.Conn) netip.Addr {
	local, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return local.Addr()
}

// overUDP sends the datagram and, as datagrams get lost, sends the same one again after a while: it is still one question with one
// identifier from one port, and so no easier to forge.
func (q *asking) overUDP(conn net.Conn, deadline time.Time) (*dns.Msg, error) {
	if _, err := conn.Write(q.wire); err != nil {
		return nil, err
	}
	buf := make([]byte, udpBuffer)
	for strays := 0; strays < maxStray; {
		until := deadline
		again := time.Now().Add(q.patience)
		resend := q.x.Resent < maxResends && (deadline.IsZero() || again.Before(deadline))
		if resend {
			until = again
		}
		if err := conn.SetReadDeadline(until); err != nil {
			return nil, err
		}
		n, err := conn.Read(buf)
		var network net.Error
		switch {
		case err == nil:
			m, err := q.accept(buf[:n], "udp")
			if !errors.Is(err, errStray) {
				return m, err
			}
			strays++ // somebody guesses; the real answer may still come
		case resend && errors.As(err, &network) && network.Timeout():
			q.x.Resent++
			q.patience *= 2
			if _, err := conn.Write(q.wire); err != nil {
				return nil, err
			}
		default:
			return nil, err
		}
	}
	return nil, errStray
}

func (q *asking) overTCP(conn net.Conn) (*dns.Msg, error) {
	// RFC 7766 §8: length and message in one segment.
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(q.wire)), uint16(len(q.wire)))
	if _, err := conn.Write(append(framed, q.wire...)); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	// The buffer grows with what comes: a length costs a server nothing.
	var buf bytes.Buffer
	want := int64(binary.BigEndian.Uint16(size[:]))
	if n, err := io.CopyN(&buf, conn, want); err != nil {
		if n > 0 && errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	m, err := q.accept(buf.Bytes(), "tcp")
	if errors.Is(err, errStray) {
		q.x.Reply = buf.Bytes()
	}
	return m, err
}

// accept keeps a message that is the answer.
func (q *asking) accept(wire []byte, network string) (*dns.Msg, error) {
	m, err := parseReply(wire, q.msg, network)
	if err == nil && q.mixed && len(m.Question) == 1 && !sameCase(q.wire, wire) {
		err = errStray
	}
	if !errors.Is(err, errStray) {
		q.x.Reply = bytes.Clone(wire)
	}
	return m, err
}

// questionEnd is the offset behind the question's name in a message that we made: no compression, one question.
func questionEnd(wire []byte) int {
	const headerSize = 12
	i := headerSize
	for i < len(wire) && wire[i] != 0 {
		i += 1 + int(wire[i])
	}
	return min(i, len(wire))
}

// mixCase gives the letters of the question's name a random case, which the answer must repeat: some bits more for a forger to guess
// (draft-vixie-dnsext-dns0x20). Letters differ from lengths, which are below 64.
func mixCase(wire []byte) {
	const headerSize, caseBit = 12, 0x20
	end := questionEnd(wire)
	bits := make([]byte, end)
	rand.Read(bits)
	for i := headerSize; i < end; i++ {
		if c := wire[i] | caseBit; 'a' <= c && c <= 'z' && bits[i]&1 == 1 {
			wire[i] ^= caseBit
		}
	}
}

// sameCase tells whether the answer repeats the question's name octet by octet.
func sameCase(query, reply []byte) bool {
	const headerSize = 12
	end := questionEnd(query)
	return len(reply) >= end && bytes.Equal(query[headerSize:end], reply[headerSize:end])
}
