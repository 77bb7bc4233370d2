package dnsserver

import (
	"encoding/binary"
	"net/netip"

	"github.com/miekg/dns"
)

// QueryLog says which queries leave a line in the log, at level info. The names
// in a Direct zone are people's addresses and the addresses of clients are
// people's too, so that a line has neither unless the operator asks for names:
// it tells the type, what became of the query, and the network it came from.
type QueryLog struct {
	Every uint32 // one of so many queries; 0 = none
	Names bool   // with the name that was asked for
}

// SetQueryLog changes what is logged from the next query on.
func (s *Server) SetQueryLog(l QueryLog) { s.queryLog.Store(&l) }

// sample tells whether the query that a reader has just answered is one to be
// logged: each reader logs one of every so many of its own, so that nothing is
// shared on the way of a query.
func (s *Server) sample(r *reader) *QueryLog {
	l := s.queryLog.Load()
	if l == nil || l.Every == 0 {
		return nil
	}
	if r.unlogged++; r.unlogged < l.Every {
		return nil
	}
	r.unlogged = 0
	return l
}

// logSample writes the line.
func (s *Server) logSample(l *QueryLog, packet, answer []byte, t *Transport) {
	attrs := []any{"transport", t.name(), "network", networkOf(t.Peer).String(), "query", len(packet), "size", len(answer)}
	var q query
	if _, silent := q.parse(packet); !silent && len(q.name) > 0 {
		attrs = append(attrs, "type", dns.Type(q.qtype).String())
		if l.Names {
			if name, _, err := dns.UnpackDomainName(q.name, 0); err == nil {
				attrs = append(attrs, "name", name)
			}
		}
	}
	if len(answer) >= headerSize {
		flags := binary.BigEndian.Uint16(answer[2:])
		attrs = append(attrs, "rcode", dns.RcodeToString[int(flags&0xF)], "tc", flags&flagTC != 0, "answers", binary.BigEndian.Uint16(answer[6:]))
	} else {
		attrs = append(attrs, "rcode", "silent")
	}
	s.log.Info("dns query", attrs...)
}

// name is the transport as figures and lines call it.
func (t *Transport) name() string {
	switch {
	case t.TLS:
		return "tls"
	case t.TCP:
		return "tcp"
	}
	return "udp"
}

// networkOf is what of a client's address may stand in a log: the IPv4 /24 or
// the IPv6 /48.
func networkOf(ip netip.Addr) netip.Prefix {
	bits := 48
	if ip.Is4() {
		bits = 24
	}
	p, _ := ip.Prefix(bits) // fails only for an address that is not valid
	return p
}
