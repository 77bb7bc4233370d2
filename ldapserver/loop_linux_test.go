package ldapserver_test

import (
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	"directnode/ldapserver"
	"directnode/ldapserver/dit"
)

// crowdOf opens n connections without anything of Go's around them, so that the
// heap is the server's, and sends greeting on each.
func crowdOf(t *testing.T, addr string, n int, greeting []byte) []int {
	t.Helper()
	at := netip.MustParseAddrPort(addr)
	fds := make([]int, n)
	for i := range fds {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { syscall.Close(fd) })
		if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}); err != nil {
			t.Fatal(err)
		}
		if _, err := syscall.Write(fd, greeting); err != nil {
			t.Fatal(err)
		}
		fds[i] = fd
	}
	return fds
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// TestIdleConnectionsHoldLittle has clients bind and be silent, and clients that
// have begun a message and go on for ever.
func TestIdleConnectionsHoldLittle(t *testing.T) {
	tr := world(t, dit.Options{})
	addr, s := startWith(t, func() *dit.Tree { return tr }, ldapserver.Options{PDUTimeout: time.Minute, IdleTimeout: time.Minute})
	const n = 400
	for name, c := range map[string]struct {
		greeting []byte
		answered bool
		most     uint64
	}{
		"bound":              {bind(1, 3, "", ""), true, 1 << 10},
		"half a message":     {ask{}.pdu(1)[:20], false, 2 << 10},
		"most of a long one": {ask{base: string(make([]byte, 30<<10))}.pdu(1)[:30<<10], false, 66 << 10},
	} {
		open := s.Stats().Open
		before := heap()
		fds := crowdOf(t, addr, n, c.greeting)
		answer := make([]byte, 64)
		for _, fd := range fds {
			if !c.answered {
				break
			}
			if _, err := syscall.Read(fd, answer); err != nil {
				t.Fatal(err)
			}
		}
		for deadline := time.Now().Add(10 * time.Second); s.Stats().Open < open+n; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d connections are open", name, s.Stats().Open)
			}
		}
		dial(t, addr).alive() // whatever came before it was read
		if per := (max(heap(), before) - before) / n; per > c.most {
			t.Errorf("%s: %d octets for each connection, want %d at most", name, per, c.most)
		}
	}
}
