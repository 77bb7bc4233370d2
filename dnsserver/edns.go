package dnsserver

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

// edns is what the OPT record of a query says (RFC 6891 §6.1.3).
type edns struct {
	present bool
	size    int
	version uint8
	do      bool
}

const (
	optSize = 11 // an OPT record without options: root, type, size, flags, length
	flagDO  = 1 << 15
)

// parse reads an OPT record behind its owner; false if the options do not fill
// it exactly. We use none of them: unknown options are ignored (RFC 6891 §6.1.2).
func (e *edns) parse(rr []byte) bool {
	e.present = true
	e.size = int(binary.BigEndian.Uint16(rr[2:]))
	e.version = rr[5]
	e.do = binary.BigEndian.Uint16(rr[6:])&flagDO != 0
	for options := rr[10:]; len(options) > 0; {
		if len(options) < 4 {
			return false
		}
		n := 4 + int(binary.BigEndian.Uint16(options[2:]))
		if len(options) < n {
			return false
		}
		options = options[n:]
	}
	return true
}

// append writes our OPT record. rcode is the whole extended code: its upper
// eight bits stand here (RFC 6891 §6.1.3), DO is copied (RFC 3225 §3).
func (e *edns) append(msg []byte, rcode int) []byte {
	msg = append(msg, 0)
	msg = binary.BigEndian.AppendUint16(msg, dns.TypeOPT)
	msg = binary.BigEndian.AppendUint16(msg, maxUDP)
	msg = append(msg, byte(rcode>>4), 0)
	flags := uint16(0)
	if e.do {
		flags = flagDO
	}
	msg = binary.BigEndian.AppendUint16(msg, flags)
	return binary.BigEndian.AppendUint16(msg, 0)
}
