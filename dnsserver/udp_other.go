//go:build !linux

package dnsserver

import (
	"context"
	"fmt"
	"net"
)

// openMmsg is for Linux; elsewhere the portable way serves.
func openMmsg(*net.UDPConn, int) (datagrams, error) { return nil, nil }

// ListenUDP opens what a Server needs to serve UDP on an address: one socket,
// for other systems do not divide clients among several.
func ListenUDP(ctx context.Context, addr string) ([]net.PacketConn, error) {
	pc, err := new(net.ListenConfig).ListenPacket(ctx, "udp", addr)
	if err != nil {
		return nil, fmt.Errorf("dns server: udp %s: %w", addr, err)
	}
	enlarge(pc)
	return []net.PacketConn{pc}, nil
}

// udpReaders: one answers while another waits in the kernel.
const udpReaders = 2
