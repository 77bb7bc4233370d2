package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"

	"golang.org/x/sys/unix"
)

// echoBatch is how many messages the echo moves at once, as servers do that
// read in batches.
const echoBatch = 32

// echo is what UDP costs by itself: a process that gives every query back,
// made as long as the answer would be. No server can be cheaper.
type echo struct{ size int }

func (echo) name() string                            { return "echo" }
func (echo) version(context.Context) (string, error) { return "this program", nil }
func (echo) settings() string {
	return "recvmmsg and sendmmsg of 32 messages, the query sent back with the length of an answer"
}

// echoMode is the argument that makes this program an echo.
const echoMode = "echo-server"

func (e echo) command(_ string, addr netip.AddrPort, _ *dataSet) (*exec.Cmd, error) {
	self, err := os.Executable()
	return exec.Command(self, echoMode, addr.String(), strconv.Itoa(e.size)), err
}

// serveEcho answers for ever.
func serveEcho(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%s ADDRESS SIZE", echoMode)
	}
	addr, err := netip.ParseAddrPort(args[0])
	if err != nil {
		return err
	}
	size, err := strconv.Atoi(args[1])
	if err != nil || size < headerSize || size > answerRoom {
		return fmt.Errorf("size %q", args[1])
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, socketBuffer); err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}); err != nil {
		return err
	}
	return echoLoop(fd, size)
}

func echoLoop(fd, size int) error {
	in, out := newBatch(), newBatch()
	var room [echoBatch][answerRoom]byte
	var from [echoBatch]unix.RawSockaddrInet4
	for i := range echoBatch {
		in.set(i, room[i][:])
		in.name(i, &from[i])
		out.name(i, &from[i])
	}
	for {
		n, err := in.wait(unix.SYS_RECVMMSG, fd, 0, echoBatch, unix.MSG_WAITFORONE)
		if err != nil {
			return err
		}
		for i := range n {
			msg := room[i][:max(size, int(in.hdrs[i].n))]
			msg[2], msg[3], msg[7] = bitQR|bitAA, rcodeNoError, 1
			out.set(i, msg)
		}
		for sent := 0; sent < n; {
			m, err := out.wait(unix.SYS_SENDMMSG, fd, sent, n-sent, 0)
			if err != nil {
				return err
			}
			sent += m
		}
	}
}
