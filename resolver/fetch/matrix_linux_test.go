package fetch_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"directnode/internal/testnode"
	"directnode/resolver/fetch"
)

// insideNamespace tells the second process of TestSSRFMatrix that it is the one in the namespace.
const insideNamespace = "DIRECTNODE_FETCH_NAMESPACE"

// TestSSRFMatrix offers the door URLs of every kind that leads to a place where it must not go, in a network namespace in which every
// address answers and every packet is seen: none may be sent to an address that is not one of the public internet.
func TestSSRFMatrix(t *testing.T) {
	if os.Getenv(insideNamespace) != "" {
		matrix(t)
		return
	}
	testnode.Peer(t, "ip")
	if os.Geteuid() != 0 {
		t.Skip("SKIP network namespace: needs root")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestSSRFMatrix$", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), insideNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "URLs") {
				t.Log(strings.TrimSpace(line))
			}
		}
	case errors.As(err, &exit):
		t.Fatalf("%s", out)
	case os.Getenv("DIRECTNODE_PEERS") == "required":
		t.Fatalf("no network namespace although root: %v; give the container the right to make one", err)
	default:
		t.Skipf("SKIP network namespace: %v", err)
	}
}

// canaries are addresses in every range that must not be reached. Each is heard before the matrix begins, so that silence means something.
var canaries = []string{
	"10.0.0.1", "100.64.0.1", "127.0.0.1", "127.8.8.8", "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.254", "192.0.0.8", "192.0.2.1",
	"192.31.196.1", "192.52.193.1", "192.88.99.1", "192.168.1.1", "192.175.48.1", "198.18.0.1", "198.19.255.254", "198.51.100.1", "203.0.113.1",
	"::1", "64:ff9b::a00:1", "64:ff9b:1::a00:1", "100::1", "2001::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:a00:1::1",
	"2620:4f:8000::1", "3fff::1", "fc00::1", "fd00:ec2::254", "fec0::1", "4000::1", "5f00::1",
}

// open are addresses of the public internet, as the namespace has it.
var open = []string{"8.8.8.8", "1.1.1.1", "2606:4700::1111"}

// world is the namespace with everything that was sent in it.
type world struct {
	t      *testing.T
	raw    int // AF_PACKET
	public map[netip.Addr]bool
}

func newWorld(t *testing.T) *world {
	for _, args := range [][]string{
		{"link", "set", "lo", "up"}, {"route", "add", "local", "default", "dev", "lo"}, {"-6", "route", "add", "local", "default", "dev", "lo"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	const all = 0x0300 // ETH_P_ALL in network order
	raw, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW|syscall.SOCK_NONBLOCK, all)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(raw) })
	_ = syscall.SetsockoptInt(raw, syscall.SOL_SOCKET, syscall.SO_RCVBUF, 8<<20)
	w := &world{t, raw, map[netip.Addr]bool{}}
	for _, a := range open {
		w.public[netip.MustParseAddr(a)] = true
	}
	for _, port := range []string{"80", "443", "22", "25", "53", "389", "8080", "6379", "3890"} {
		l, err := net.Listen("tcp", ":"+port)
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: http.HandlerFunc(serveCanary)}
		go srv.Serve(l)
		t.Cleanup(func() { srv.Close() })
	}
	return w
}

// serveCanary answers everybody; ?to= sends elsewhere.
func serveCanary(w http.ResponseWriter, r *http.Request) {
	if to := r.URL.Query().Get("to"); to != "" {
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusFound)
		return
	}
	w.Write([]byte("reached"))
}

// sent empties the socket and gives where something was sent: the first packet of every connection, and every packet of other protocols.
func (w *world) sent() (inside, outside []string) {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := syscall.Recvfrom(w.raw, buf, 0)
		if err != nil {
			return inside, outside
		}
		if ll, ok := from.(*syscall.SockaddrLinklayer); ok && ll.Pkttype != syscall.PACKET_OUTGOING {
			continue // each is seen twice on a loopback interface
		}
		to, ok := destination(buf[:n])
		switch {
		case !ok:
		case w.public[to.Addr()]:
			outside = append(outside, to.String())
		default:
			inside = append(inside, to.String())
		}
	}
}

// destination reads the address of a packet that begins something.
func destination(frame []byte) (netip.AddrPort, bool) {
	const ethernet = 14
	if len(frame) < ethernet+20 {
		return netip.AddrPort{}, false
	}
	packet, protocol, size := frame[ethernet:], byte(0), 0
	var to netip.Addr
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0800:
		size, protocol = int(packet[0]&15)*4, packet[9]
		to = netip.AddrFrom4([4]byte(packet[16:20]))
	case 0x86dd:
		if len(packet) < 40 {
			return netip.AddrPort{}, false
		}
		size, protocol = 40, packet[6]
		to = netip.AddrFrom16([16]byte(packet[24:40]))
	default:
		return netip.AddrPort{}, false
	}
	if to.IsMulticast() && protocol != syscall.IPPROTO_TCP && protocol != syscall.IPPROTO_UDP {
		return netip.AddrPort{}, false // the kernel looks for neighbors by itself
	}
	if protocol != syscall.IPPROTO_TCP || len(packet) < size+14 {
		return netip.AddrPortFrom(to, 0), protocol == syscall.IPPROTO_UDP
	}
	segment := packet[size:]
	const syn, ack = 2, 16
	return netip.AddrPortFrom(to, binary.BigEndian.Uint16(segment[2:])), segment[13]&(syn|ack) == syn
}

// names is a DNS: each question for a name gets the next of its answers, the last one for ever.
type names struct {
	mu      sync.Mutex
	answers map[string][][]string
}

func (n *names) lookup(_ context.Context, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := n.answers[host]
	if len(list) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	if len(list) > 1 {
		n.answers[host] = list[1:]
	}
	var out []netip.Addr
	for _, a := range list[0] {
		out = append(out, netip.MustParseAddr(a))
	}
	return out, nil
}

// row is one URL of the matrix. Unless told otherwise it must be refused without a packet.
type row struct {
	url     string
	dns     string // answers for the host of the URL, "," between addresses, "|" between one question and the next
	reached int    // connections to the public part of the world
	ok      bool   // it is fetched
}

func matrix(t *testing.T) {
	w := newWorld(t)
	for _, a := range canaries {
		c, err := net.DialTimeout("tcp", net.JoinHostPort(a, "80"), time.Second)
		if err != nil {
			t.Fatalf("canary %s: %v", a, err)
		}
		c.Close()
		if inside, _ := w.sent(); len(inside) == 0 {
			t.Fatalf("canary %s was not heard", a)
		}
	}
	rows := matrixRows()
	for i, r := range rows {
		dns := &names{answers: map[string][][]string{"inside.example.org": {{"10.0.0.1"}}, "outside.example.org": {{"8.8.8.8"}}}}
		if r.dns != "" {
			host := strings.TrimPrefix(strings.TrimPrefix(r.url, "http://"), "https://")
			host, _, _ = strings.Cut(host, "/")
			host, _, _ = strings.Cut(host, ":")
			for answer := range strings.SplitSeq(r.dns, "|") {
				dns.answers[host] = append(dns.answers[host], strings.Split(answer, ","))
			}
		}
		d := fetch.New(fetch.Options{Lookup: dns.lookup, HTTPS: true, Own: []netip.AddrPort{netip.MustParseAddrPort("1.1.1.1:80")}})
		w.sent()
		body, ev, err := d.Get(t.Context(), fetch.CRL, r.url)
		inside, outside := w.sent()
		switch {
		case len(inside) > 0:
			t.Errorf("%d %s: sent to %v", i, r.url, inside)
		case len(outside) != r.reached:
			t.Errorf("%d %s: sent to %v, want %d connections", i, r.url, outside, r.reached)
		case r.ok && (err != nil || string(body) != "reached"):
			t.Errorf("%d %s: %q, %v", i, r.url, body, err)
		case !r.ok && (err == nil || ev.Outcome != fetch.Refused):
			t.Errorf("%d %s: outcome %q, %v", i, r.url, ev.Outcome, err)
		}
		var e *fetch.Error
		if !r.ok && errors.As(err, &e) && e.Temporary() {
			t.Errorf("%d %s: a refusal that could be lifted by asking again", i, r.url)
		}
	}
	if len(rows) < 120 {
		t.Errorf("%d URLs, 120 are promised", len(rows))
	}
	fmt.Fprintf(os.Stdout, "%d URLs, %d canaries, no packet to one\n", len(rows), len(canaries))
}

func matrixRows() []row {
	var rows []row
	add := func(urls ...string) {
		for _, u := range urls {
			rows = append(rows, row{url: u})
		}
	}
	// Every range by its address, and by a name that resolves to it.
	for i, a := range append([]string{"0.0.0.0", "0.1.2.3", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "::", "ff02::1", "fe80::1", "::ffff:10.0.0.1", "::a00:1"}, canaries...) {
		literal := a
		if strings.Contains(a, ":") {
			literal = "[" + a + "]"
		}
		add("http://" + literal + "/latest/meta-data/")
		rows = append(rows, row{url: fmt.Sprintf("http://n%d.example.org/x.crl", i), dns: a})
	}
	// Addresses as some library somewhere reads them.
	add("http://2130706433/", "http://017700000001/", "http://0x7f000001/", "http://0x7f.0x0.0x0.0x1/", "http://0177.0.0.01/", "http://127.1/", "http://127.0.1/",
		"http://10.1/", "http://0xa9fea9fe/", "http://169.254.43518/", "http://127.0.0.1./", "http://127.0.0.01/", "http://127.0.0.0x1/", "http://00000177.1/",
		"http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://[0:0:0:0:0:ffff:127.0.0.1]/", "http://[::127.0.0.1]/", "http://[::1%25lo]/", "http://[fe80::1%25lo]/",
		"http://[2001:db8::1%25lo]/", "http://①②⑦.0.0.1/", "http://127。0。0。1/", "http://127%2e0%2e0%2e1/", "http://::1/", "http://[8.8.8.8]/", "http://[::1/")
	// Names of this machine and network.
	add("http://localhost/", "http://LOCALHOST/", "http://localhost./", "http://a.localhost/", "http://printer.local/", "http://intranet/", "http://x.onion/")
	// What stands before and behind the host.
	add("http://user@8.8.8.8/", "http://user:secret@8.8.8.8/", "http://8.8.8.8@127.0.0.1/", "http://127.0.0.1@8.8.8.8/", "http://8.8.8.8:80@10.0.0.1/", `http://8.8.8.8\@127.0.0.1/`,
		`http:\\127.0.0.1\`, "http://8.8.8.8\t@127.0.0.1/", "http://8.8.8.8\r\nHost: x/", "http:///etc/passwd", "http:127.0.0.1/", "//127.0.0.1/", "http://", "http://-/", "http://a..example.org/",
		"http://exa mple.org/", "http://[outside.example.org]/", "", " http://8.8.8.8/")
	// Other schemes.
	add("file:///etc/passwd", "ftp://8.8.8.8/x", "gopher://127.0.0.1:6379/_x", "ldap://127.0.0.1/dc=x", "ldap:///cn=x", "dict://127.0.0.1:11211/", "unix:///var/run/docker.sock",
		"data:text/plain,x", "jar:http://127.0.0.1!/", "javascript:0", "http+unix://x/")
	// Ports.
	add("http://8.8.8.8:22/", "http://8.8.8.8:25/", "http://8.8.8.8:6379/", "http://8.8.8.8:8080/", "https://8.8.8.8:3890/", "http://outside.example.org:53/", "http://8.8.8.8:0/",
		"http://8.8.8.8:65536/", "http://8.8.8.8:080/", "http://8.8.8.8:/", "http://8.8.8.8:-80/")
	// A listener of our own.
	add("http://1.1.1.1/")
	rows = append(rows,
		row{url: "http://own.example.org/", dns: "1.1.1.1"},
		// Sets of which one address is inside.
		row{url: "http://mixed1.example.org/", dns: "8.8.8.8,10.0.0.1"},
		row{url: "http://mixed2.example.org/", dns: "10.0.0.1,8.8.8.8"},
		row{url: "http://mixed3.example.org/", dns: "8.8.8.8,fd00:ec2::254"},
		row{url: "http://mixed4.example.org/", dns: "2606:4700::1111,::1"},
		// Names that change under us: the addresses that were looked at are those that are dialed.
		row{url: "http://rebind1.example.org/", dns: "8.8.8.8|127.0.0.1", reached: 1, ok: true},
		row{url: "http://rebind2.example.org/", dns: "127.0.0.1|8.8.8.8"},
		row{url: "http://rebind3.example.org/?to=http://rebind3.example.org/", dns: "8.8.8.8|127.0.0.1", reached: 1},
		// The world outside is reached.
		row{url: "http://8.8.8.8/", reached: 1, ok: true},
		row{url: "http://[2606:4700::1111]/", reached: 1, ok: true},
		row{url: "http://outside.example.org/", reached: 1, ok: true},
		row{url: "HTTP://OUTSIDE.example.org./x#fragment", reached: 1, ok: true},
		row{url: "http://8.8.8.8/?to=http://outside.example.org/", reached: 2, ok: true},
		row{url: "http://8.8.8.8/?to=/here", reached: 2, ok: true},
	)
	// A public server that sends us inside.
	for _, to := range []string{
		"http://127.0.0.1/", "http://169.254.169.254/latest/", "http://inside.example.org/", "http://[::1]/", "http://2130706433/", "http://8.8.8.8:22/", "file:///etc/passwd",
		"//10.0.0.1/", "http://user@8.8.8.8/", "gopher://8.8.8.8/", "http://1.1.1.1/", "http://[64:ff9b::a00:1]/", "http://localhost/",
	} {
		rows = append(rows, row{url: "http://8.8.8.8/?to=" + to, reached: 1})
	}
	return rows
}

// TestMatrixNamesEveryRange holds the canaries against the registry of the door: a range without a canary would be one that nobody looks at.
func TestMatrixNamesEveryRange(t *testing.T) {
	var all bytes.Buffer
	for _, p := range fetch.ForbiddenRanges() {
		covered := false
		for _, a := range append([]string{"0.0.0.0", "224.0.0.1", "240.0.0.1", "::", "ff02::1", "fe80::1", "::ffff:10.0.0.1", "::a00:1"}, canaries...) {
			addr := netip.MustParseAddr(a)
			covered = covered || p.Contains(addr) || p.Addr().Is4() && p.Contains(addr.Unmap())
			covered = covered || p.Addr().Is6() && addr.Is4In6() && p.String() == "::ffff:0.0.0.0/96"
		}
		if !covered {
			fmt.Fprintf(&all, "%s ", p)
		}
	}
	if all.Len() > 0 {
		t.Errorf("no canary in %s", all.String())
	}
}
