package dnsserver

import (
	"net"
	"net/netip"
	"time"
)

// Sizes of messages.
const (
	headerSize = 12    // RFC 1035 §4.1.1
	maxName    = 255   // RFC 1035 §2.3.4
	maxTCP     = 65535 // RFC 1035 §4.2.2: the length field has 16 bits
	plainUDP   = 512   // RFC 1035 §4.2.1: without EDNS

	// DefaultUDPSize is what fits through every usual path without fragments (RFC
	// 9715 §3.1 and the DNS flag day of 2020): 1,280 octets of the least IPv6 MTU
	// less the headers. It is both what we send at most and what we advertise.
	DefaultUDPSize = 1232

	// MaxUDPSize is the most that an operator may choose instead: what servers
	// sent at most before the flag day. It is for networks of one's own, where
	// fragments arrive.
	MaxUDPSize = 4096
)

// maxChain is how many aliases (CNAME, DNAME) one answer follows. No zone needs
// more than two; a loop ends here. Package zones counts on it for the size of RRsets.
const maxChain = 8

// UDP reading.
const (
	// udpBatch is how many packets one system call moves: more than this adds
	// latency and no speed.
	udpBatch = 32

	// udpQuery is the least room for one query. As advertised it may have 1232;
	// what is longer arrives cut and is a format error.
	udpQuery = 2048

	// udpBuffer is what we ask the kernel to keep of a burst in each direction; it
	// gives no more than net.core.rmem_max and wmem_max. A thousand queries.
	udpBuffer = 1 << 20

	// At the stop, what has arrived is answered: until nothing has come for
	// udpQuiet, and for no longer than udpDrain.
	udpQuiet = 2 * time.Millisecond
	udpDrain = 200 * time.Millisecond

	// udpStuck is how long the stop waits for a socket that takes no answers.
	udpStuck = time.Second

	// readPause keeps a socket that fails again and again from eating a core.
	readPause = 10 * time.Millisecond
)

// TCP reading and writing.
const (
	lengthSize = 2       // RFC 1035 §4.2.2
	tcpRead    = 2 << 10 // the read buffer at first: dozens of queries; grows with a longer one

	// tcpWrite is when pipelined answers go out although more queries are there.
	tcpWrite = 64 << 10

	// tcpKeep is what an idle connection may keep of its write buffer: 1,024 of
	// them then hold 16 MiB.
	tcpKeep = 16 << 10

	// loopTick is how often an event loop looks for connections whose time is
	// over, and so by how much they may outstay it.
	loopTick = 250 * time.Millisecond

	// loopEvents is how many connections an event loop deals with before it lets
	// others have the processor.
	loopEvents = 64

	// loopAccept is how many connections it accepts at a time: those that are open
	// must not wait for a crowd at the door.
	loopAccept = 16

	// acceptPause is how long accepting rests when the system has no more file
	// descriptors; meanwhile connections end.
	acceptPause = 50 * time.Millisecond
)

// Limits bound what clients may hold of a Server. The zero value of a field
// means its default.
type Limits struct {
	UDPReaders int // goroutines that read one UDP socket; 1 on Linux, where ListenUDP gives each processor a socket, else 2

	// The figures of TCP are those that other servers have settled on: NSD 100
	// and BIND 150 clients are known to be too few beside slow ones.
	TCPTotal      int           // connections; 1024
	TCPPerAddress int           // of one IPv4 address or IPv6 /64; 32
	TCPPerNetwork int           // of one IPv4 /24 or IPv6 /48; 256
	FirstByte     time.Duration // from the handshake to the first octet; 3 s
	Idle          time.Duration // until the next query is there whole; 10 s (RFC 7766 §6.2.3: a few seconds)
	Transfers     int           // zones that are transferred at a time; 8: a slow secondary must not keep all others waiting
	Transfer      time.Duration // for one; 30 min: a million certificates over a line of 8 Mbit/s
	Write         time.Duration // for a batch of answers; 2 s: a client that does not read is gone

	// Answers by UDP to one address that shows no valid cookie; what is over is
	// answered with TC=1. Below 0 means no limit.
	Rate     int // a second; 50: a resolver that needs more has cookies or many addresses
	Absences int // NXDOMAIN answers a second, of the same share; 10: few people misspell more

	// Exempt networks are never refused, evicted or limited. Nil means loopback;
	// an empty slice means none.
	Exempt []netip.Prefix
}

func (l Limits) withDefaults() Limits {
	if l.Rate == 0 {
		l.Rate = 50
	}
	if l.Absences == 0 {
		l.Absences = 10
	}
	set := func(field *int, value int) {
		if *field <= 0 {
			*field = value
		}
	}
	wait := func(field *time.Duration, value time.Duration) {
		if *field <= 0 {
			*field = value
		}
	}
	set(&l.UDPReaders, udpReaders)
	set(&l.TCPTotal, 1024)
	set(&l.TCPPerAddress, 32)
	set(&l.TCPPerNetwork, 256)
	set(&l.Transfers, 8)
	wait(&l.Transfer, 30*time.Minute)
	wait(&l.FirstByte, 3*time.Second)
	wait(&l.Idle, 10*time.Second)
	wait(&l.Write, 2*time.Second)
	if l.Exempt == nil {
		l.Exempt = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	}
	return l
}

// exempt tells whether an address lies in one of the exempt networks.
func (l *Limits) exempt(ip netip.Addr) bool {
	for _, p := range l.Exempt {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// addrOf is the address of an IP peer, one of IPv4 in its own form; not valid
// for any other peer.
func addrOf(peer net.Addr) netip.Addr {
	switch a := peer.(type) {
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap().WithZone("")
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}
