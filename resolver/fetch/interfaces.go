package fetch

import (
	"net"
	"net/netip"
)

// interfaceAddrs gives the addresses of this machine. Where they cannot be listed there are none to compare with, and the ranges that
// are forbidden anyway hold most of them.
func interfaceAddrs() []netip.Addr {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	out := make([]netip.Addr, 0, len(list))
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(n.IP); ok {
				out = append(out, addr.Unmap())
			}
		}
	}
	return out
}
