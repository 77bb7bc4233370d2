//go:build !linux

package ldapserver

import (
	"context"
	"net"
	"sync"
)

// loops: a goroutine for each connection serves other systems.
const loops = false

func (s *Server) serveLoops(context.Context, *net.TCPListener, *sync.WaitGroup) error {
	return net.ErrClosed // never called
}
