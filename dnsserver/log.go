package dnsserver

import (
	"encoding/binary"
	"log/slog"

	"github.com/miekg/dns"
)

// logQuery writes one line for one query. It is written at debug level only:
// the names in a Direct zone are people's addresses, and there may be hundreds
// of thousands a second.
func (s *Server) logQuery(packet, answer []byte, t *Transport) {
	if len(answer) == 0 {
		s.log.Debug("dns: silent", "peer", t.Peer, "tcp", t.TCP, "size", len(packet))
		return
	}
	flags := binary.BigEndian.Uint16(answer[2:])
	attrs := []any{"peer", t.Peer, "tcp", t.TCP, "id", binary.BigEndian.Uint16(answer),
		"rcode", dns.RcodeToString[int(flags&0xF)], "tc", flags&flagTC != 0, "answers", binary.BigEndian.Uint16(answer[6:]), "size", len(answer)}
	var q query
	if _, silent := q.parse(packet); !silent && len(q.name) > 0 {
		if name, _, err := dns.UnpackDomainName(q.name, 0); err == nil {
			attrs = append(attrs, slog.String("name", name), slog.String("type", dns.Type(q.qtype).String()))
		}
	}
	s.log.Debug("dns: query", attrs...)
}
