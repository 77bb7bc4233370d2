package smtpclient_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"directnode/internal/direct"
	"directnode/internal/testpki"
	"directnode/sta/smtpclient"
)

// fake is a server that follows a script, one for each connection, the last for
// all further ones. The steps:
//
//	S: text   send text and CR LF        W: PREFIX  want a line that starts so
//	R: text   send text as it stands     DATA       read up to the end of a message
//	TLS       handshake as server        HANG       do nothing until the client leaves
//	FLOOD: l  send line l for ever       CLOSE      close
//	STALL: d  do nothing for d           MARK       note the connection
type fake struct {
	tls *tls.Config

	mu      sync.Mutex
	scripts [][]string // guarded by mu
	seen    []string   // guarded by mu: lines the client sent, messages as one
	errs    []string   // guarded by mu
}

func newFake(cfg *tls.Config, scripts ...[]string) *fake { return &fake{tls: cfg, scripts: scripts} }

// script is the one of the next connection.
func (f *fake) script() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	script := f.scripts[0]
	if len(f.scripts) > 1 {
		f.scripts = f.scripts[1:]
	}
	return script
}

// listen makes the fake reachable by a socket, until the test ends.
func (f *fake) listen(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() { f.run(c, f.script()) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		open.Wait()
		f.verify(t)
	})
	return l.Addr().String()
}

// verify reports what the fake did not expect.
func (f *fake) verify(t *testing.T) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.errs) > 0 {
		t.Errorf("the server saw: %q", f.errs)
	}
}

// world is the reachable world: address → server. At other addresses nobody
// listens. Its connections are pipes, so that tests run in fake time.
type world map[string]*fake

func (w world) dial(_ context.Context, _, addr string) (net.Conn, error) {
	f := w[addr]
	if f == nil {
		return nil, errors.New("connection refused")
	}
	ours, theirs := net.Pipe()
	go f.run(theirs, f.script())
	return ours, nil
}

// mxAddr is the address that most tests have their only server at.
const mxAddr = "192.0.2.1:25"

// submit has a client hand a message to a fake in fake time, with the time-outs
// of RFC 5321.
func submit(t *testing.T, f *fake, o smtpclient.Options, from direct.Address, to []direct.Address, open func() (io.ReadCloser, error)) (errs []error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o.Dial = world{mxAddr: f}.dial
		errs = smtpclient.New(o).Submit(t.Context(), mxAddr, from, to, open)
	})
	f.verify(t)
	return errs
}

func fakeTLS(t testing.TB) *tls.Config {
	leaf := testpki.New(t).Root("Root").Leaf("mx", testpki.Domain("mx.b.direct.test"), testpki.ExtKeyUsage(x509.ExtKeyUsageServerAuth))
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.DER}, PrivateKey: leaf.Key}}}
}

func (f *fake) note(s string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = append(f.seen, s)
}

func (f *fake) log() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.seen...)
}

func (f *fake) complain(s string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = append(f.errs, s)
}

func (f *fake) run(c net.Conn, script []string) {
	defer func() { c.Close() }()
	r := bufio.NewReader(c)
	for _, step := range script {
		kind, text, _ := strings.Cut(step, ": ")
		switch kind {
		case "S":
			_, _ = io.WriteString(c, text+"\r\n")
		case "R":
			_, _ = io.WriteString(c, text)
		case "W":
			line, err := r.ReadString('\n')
			f.note(strings.TrimSuffix(line, "\r\n"))
			if err != nil || !strings.HasPrefix(line, text) || !strings.HasSuffix(line, "\r\n") {
				f.complain("got " + line + ", want " + text)
				return
			}
		case "DATA":
			f.note(readMessage(r))
		case "MARK":
			f.note("connected")
		case "TLS":
			t := tls.Server(c, f.tls)
			if t.Handshake() != nil {
				return
			}
			c, r = t, bufio.NewReader(t)
		case "FLOOD":
			for {
				if _, err := io.WriteString(c, text+"\r\n"); err != nil {
					return
				}
			}
		case "HANG":
			_, _ = io.Copy(io.Discard, r)
		case "STALL":
			d, err := time.ParseDuration(text)
			if err != nil {
				f.complain(err.Error())
			}
			time.Sleep(d)
		case "CLOSE":
			return
		}
	}
}

// readMessage reads up to CR LF . CR LF, or what there is.
func readMessage(r *bufio.Reader) string {
	all := "\r\n"
	for !strings.HasSuffix(all, "\r\n.\r\n") {
		line, err := r.ReadString('\n')
		all += line
		if err != nil {
			break
		}
	}
	return all[2:]
}

// zone is a Lookup in memory.
type zone struct {
	mx    map[string][]*net.MX
	addrs map[string][]netip.Addr
	fail  map[string]error
	asked []string
}

type absent struct{}

func (absent) Error() string  { return "no such name" }
func (absent) NotFound() bool { return true }

func (z *zone) MX(_ context.Context, domain string) ([]*net.MX, error) {
	if err := z.fail["MX "+domain]; err != nil {
		return nil, err
	}
	if m := z.mx[domain]; m != nil {
		return m, nil
	}
	return nil, absent{}
}

func (z *zone) Addrs(_ context.Context, host string) ([]netip.Addr, error) {
	z.asked = append(z.asked, host)
	if err := z.fail[host]; err != nil {
		return nil, err
	}
	if a := z.addrs[host]; a != nil {
		return a, nil
	}
	return nil, absent{}
}

func at(ips ...string) []netip.Addr {
	var list []netip.Addr
	for _, ip := range ips {
		list = append(list, netip.MustParseAddr(ip))
	}
	return list
}

func addr(t testing.TB, s string) direct.Address {
	t.Helper()
	a, err := direct.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func addrs(t testing.TB, list ...string) []direct.Address {
	t.Helper()
	var out []direct.Address
	for _, s := range list {
		out = append(out, addr(t, s))
	}
	return out
}

func body(s string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil }
}
