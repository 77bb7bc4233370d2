package dnsserver

import (
	"encoding/binary"
	"time"

	"github.com/miekg/dns"
)

// edns is what the OPT record of a query says (RFC 6891 §6.1.3).
type edns struct {
	present   bool
	size      int
	version   uint8
	do        bool
	co        bool // compact answers to names that do not exist are welcome (RFC 9824 §5.1)
	compact   bool // of our answer: it is one of a server that makes them
	cookie    cookieOption
	keepAlive bool // the client asks how long we keep an idle connection (RFC 7828 §3.2.1)
	padding   bool // the client padded its query and wants a padded answer (RFC 7830 §4)
	malformed bool // the COOKIE option cannot be one
}

const (
	optSize    = 11 // an OPT record without options: root, type, size, flags, length
	optionSize = 4  // code and length before an option's data
	flagDO     = 1 << 15
	flagCO     = 1 << 14
)

// The options that we know. Others are ignored (RFC 6891 §6.1.2), NSID (RFC
// 5001 §2.2) among them: nobody needs the server's name.
const (
	optionCookie    = 10 // RFC 7873 §4
	optionKeepAlive = 11 // RFC 7828 §3.1
	optionPadding   = 12 // RFC 7830 §3
)

// padBlock is what the sizes of padded answers are multiples of: what was
// measured to tell an eavesdropper little at little cost (RFC 8467 §4.1).
const padBlock = 468

// parse reads an OPT record behind its owner; false if the options do not fill
// it exactly.
func (e *edns) parse(rr []byte) bool {
	e.present = true
	e.size = int(binary.BigEndian.Uint16(rr[2:]))
	e.version = rr[5]
	e.do = binary.BigEndian.Uint16(rr[6:])&flagDO != 0
	e.co = binary.BigEndian.Uint16(rr[6:])&flagCO != 0
	for options := rr[10:]; len(options) > 0; {
		if len(options) < optionSize {
			return false
		}
		n := optionSize + int(binary.BigEndian.Uint16(options[2:]))
		if len(options) < n {
			return false
		}
		if e.version == 0 { // RFC 6891 §6.1.3: what an option means is a matter of the version
			e.option(binary.BigEndian.Uint16(options), options[optionSize:n])
		}
		options = options[n:]
	}
	return true
}

func (e *edns) option(code uint16, data []byte) {
	switch code {
	case optionCookie:
		// RFC 7873 §5.2: of several, the first one counts.
		if e.cookie.client == nil && !e.malformed {
			e.malformed = !e.cookie.parse(data) // RFC 7873 §5.2.2
		}
	case optionKeepAlive:
		e.keepAlive = e.keepAlive || len(data) == 0 // RFC 7828 §3.2.1: a client names no time
	case optionPadding:
		e.padding = true
	}
}

// options is what our OPT record carries.
type options struct {
	client    []byte                 // with server, the COOKIE option; nil for none
	server    [serverCookieSize]byte // see client
	keepAlive time.Duration          // 0 for none
	pad       bool                   // fill the message up to a multiple of padBlock
	udpSize   int                    // what we take by UDP
}

// size is the room that the options take.
func (o *options) size() (n int) {
	if o.client != nil {
		n += optionSize + clientCookieSize + serverCookieSize
	}
	if o.keepAlive > 0 {
		n += optionSize + 2
	}
	return n
}

// keepAliveUnit is what the TIMEOUT of the option is counted in (RFC 7828 §3.1).
const keepAliveUnit = 100 * time.Millisecond

func (o *options) append(msg []byte) []byte {
	if o.client != nil {
		msg = binary.BigEndian.AppendUint16(msg, optionCookie)
		msg = binary.BigEndian.AppendUint16(msg, clientCookieSize+serverCookieSize)
		msg = append(append(msg, o.client...), o.server[:]...)
	}
	if o.keepAlive > 0 {
		msg = binary.BigEndian.AppendUint16(msg, optionKeepAlive)
		msg = binary.BigEndian.AppendUint16(msg, 2)
		msg = binary.BigEndian.AppendUint16(msg, uint16(min(o.keepAlive/keepAliveUnit, 1<<16-1)))
	}
	return msg
}

// append writes our OPT record behind a message that begins at start. rcode is the
// whole extended code: its upper eight bits stand here (RFC 6891 §6.1.3). Of the
// flags DO is copied (RFC 3225 §3), CO set where RFC 9824 §5.1 wants it, the others
// are zero (RFC 6891 §6.1.4).
func (e *edns) append(msg []byte, start, rcode int, o *options) []byte {
	size, padding := o.size(), -1
	if o.pad {
		padding = padFor(len(msg) - start + optSize + size)
	}
	if padding >= 0 {
		size += optionSize + padding
	}
	flags := byte(0)
	if e.do {
		flags = flagDO >> 8
	}
	if e.compact {
		flags |= flagCO >> 8
	}
	msg = append(msg, 0, 0, byte(dns.TypeOPT), byte(o.udpSize>>8), byte(o.udpSize), byte(rcode>>4), 0, flags, 0, byte(size>>8), byte(size))
	msg = o.append(msg)
	if padding >= 0 {
		msg = binary.BigEndian.AppendUint16(msg, optionPadding)
		msg = binary.BigEndian.AppendUint16(msg, uint16(padding))
		msg = append(msg, make([]byte, padding)...) // RFC 7830 §3: zeros
	}
	return msg
}

// padFor is the length of the padding that a message of so many octets takes,
// its option not counted; below 0 where there is no room for one.
func padFor(size int) int {
	size += optionSize
	return min((padBlock-size%padBlock)%padBlock, maxTCP-size)
}
