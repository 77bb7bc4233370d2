package smtpclient_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
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
//	STALL     do nothing for a while     MARK       note the connection
type fake struct {
	addr string
	tls  *tls.Config

	mu      sync.Mutex
	scripts [][]string // guarded by mu
	seen    []string   // guarded by mu: lines the client sent, messages as one
	errs    []string   // guarded by mu
}

func newFake(t testing.TB, ip string, port int, scripts ...[]string) *fake {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(ip, strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{addr: l.Addr().String(), scripts: scripts, tls: fakeTLS(t)}
	var open sync.WaitGroup
	open.Add(1)
	go func() {
		defer open.Done()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			script := f.scripts[0]
			if len(f.scripts) > 1 {
				f.scripts = f.scripts[1:]
			}
			f.mu.Unlock()
			open.Go(func() { f.run(c, script) })
		}
	}()
	t.Cleanup(func() {
		l.Close()
		open.Wait()
		if errs := f.problems(); len(errs) > 0 {
			t.Errorf("the server saw: %q", errs)
		}
	})
	return f
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

func (f *fake) problems() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.errs
}

func (f *fake) complain(s string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = append(f.errs, s)
}

func (f *fake) run(c net.Conn, script []string) {
	defer func() { c.Close() }()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
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
			time.Sleep(300 * time.Millisecond)
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

// quick are time-outs for servers that hang on purpose.
func quick() smtpclient.Timeouts {
	d := 150 * time.Millisecond
	return smtpclient.Timeouts{Connect: 2 * time.Second, Greeting: d, Command: d, DataInit: d, Block: d, Final: d, Total: 5 * time.Second}
}
