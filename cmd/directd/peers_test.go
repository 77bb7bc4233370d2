package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"directnode/dnsserver"
	"directnode/internal/admin"
	"directnode/internal/testnode"
	"directnode/internal/testpki"
	"directnode/ldapserver/dit"
	"directnode/store"
	"directnode/store/kv/memory"
)

const peerZone = "direct.example.org"

// peerNode is the DNS side of a node in this process.
type peerNode struct {
	*node
	t     *testing.T
	addr  netip.AddrPort
	kinds *transferLog
	certs [][]byte // PEM
}

// transferLog counts what the log says of transfers, by key and kind.
type transferLog struct {
	mu    sync.Mutex
	count map[string]int
	lines []string
}

func (l *transferLog) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo
}
func (l *transferLog) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l *transferLog) WithGroup(string) slog.Handler      { return l }

func (l *transferLog) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var key, kind string
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "key":
			key = a.Value.String()
		case "kind":
			kind = a.Value.String()
		case "whole":
			kind = map[bool]string{true: "AXFR", false: "IXFR"}[a.Value.Bool()]
		}
		line += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		return true
	})
	if kind != "" {
		l.count[strings.TrimSuffix(key, ".")+" "+kind]++
	}
	if l.lines = append(l.lines, line); len(l.lines) > 50 {
		l.lines = l.lines[1:]
	}
	return nil
}

func (l *transferLog) of(key, kind string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count[key+" "+kind]
}

func (l *transferLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

func newPeerNode(t *testing.T) *peerNode {
	t.Helper()
	n := &peerNode{node: &node{}, t: t, kinds: &transferLog{count: make(map[string]int)}}
	n.log = slog.New(n.kinds)
	sealer := store.NewSealer([32]byte{1})
	n.publisher = &publisher{sealer: sealer, dit: dit.Options{Anonymous: "exact"}, log: slog.New(slog.DiscardHandler), changed: make(chan struct{}, 1)}
	var err error
	if n.store, err = store.Open(t.Context(), memory.New(memory.Options{}), store.Options{Seal: sealer, Prepare: n.publisher.prepare}); err != nil {
		t.Fatal(err)
	}
	n.peering = newPeering(n.node)
	n.peering.notifier = dnsserver.NewNotifier(dnsserver.NotifyOptions{Pause: 10 * time.Millisecond, Log: n.log})
	n.admin = admin.New(n.store, nil, admin.Options{Hostname: "node." + peerZone, Listen: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Secondary: n.peering.secondary})
	u, l := listenBoth(t)
	n.addr = l.Addr().(*net.TCPAddr).AddrPort()
	server := dnsserver.New(n.publisher.zoneSet, dnsserver.Options{Peers: n.publisher.dnsPeers, Notified: n.peering.notified, Log: n.log})
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() {
		if err := server.Serve(ctx, u, l); err != nil {
			t.Error(err)
		}
	})
	work.Go(func() { _ = n.peering.run(ctx) })
	t.Cleanup(func() { cancel(); work.Wait() })
	if _, err := n.admin.AddDomain(t.Context(), admin.DomainRequest{Domain: peerZone}); err != nil {
		t.Fatal(err)
	}
	return n
}

// listenBoth opens one port for UDP and TCP.
func listenBoth(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		u, err := net.ListenPacket("udp", l.Addr().String())
		if err == nil {
			return u, l
		}
		l.Close()
	}
	t.Fatal("no port is free for UDP and TCP")
	return nil, nil
}

// key adds a TSIG key and gives its secret.
func (n *peerNode) key(name, algorithm string) string {
	n.t.Helper()
	if _, err := n.admin.AddTSIGKey(n.t.Context(), admin.TSIGRequest{Name: name, Algorithm: algorithm}); err != nil {
		n.t.Fatal(err)
	}
	k, err := n.admin.ShowTSIGKey(n.t.Context(), admin.TSIGRequest{Name: name, Show: true})
	if err != nil {
		n.t.Fatal(err)
	}
	return k.Secret
}

func (n *peerNode) set(req admin.TransferRequest) {
	n.t.Helper()
	req.Domain = peerZone
	if _, err := n.admin.SetTransfer(n.t.Context(), req); err != nil {
		n.t.Fatal(err)
	}
}

// step makes the i-th change of the zone: certificates come and go, records too.
func (n *peerNode) step(i int) {
	n.t.Helper()
	if n.certs == nil {
		ca := testpki.New(n.t).Root("Root")
		for user := range 40 {
			leaf := ca.Leaf(fmt.Sprintf("user%d", user), testpki.Address(fmt.Sprintf("user%d@%s", user, peerZone)))
			n.certs = append(n.certs, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.DER}))
		}
	}
	which := n.certs[i*7%len(n.certs)]
	block, _ := pem.Decode(which)
	sha := store.Fingerprint(block.Bytes)
	var err error
	switch {
	case i%10 == 9:
		_, err = n.admin.ImportZone(n.t.Context(), admin.ImportRequest{Origin: peerZone, Files: []admin.File{{Name: "zone",
			Data: fmt.Appendf(nil, "$TTL 300\n@ SOA ns h 1 3600 600 864000 60\n@ NS ns\nns A 127.0.0.1\n*.wild TXT \"change %d\"\nhost%d A 192.0.2.1\n", i, i)}}})
	case len(n.store.View().Find(sha)) > 0:
		_, err = n.admin.RemoveCertificate(n.t.Context(), admin.CertificateQuery{SHA256: sha})
	default:
		_, err = n.admin.ImportCertificates(n.t.Context(), admin.ImportRequest{Files: []admin.File{{Name: "c.pem", Data: which}}})
	}
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *peerNode) serial() uint32 {
	for _, z := range n.store.View().Domains() {
		return n.publisher.zoneSet().Zone(z).Serial()
	}
	return 0
}

func askSerial(addr string) (uint32, bool) {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(peerZone), dns.TypeSOA)
	r, _, err := (&dns.Client{Net: "tcp", Timeout: time.Second}).Exchange(m, addr)
	if err != nil || r.Rcode != dns.RcodeSuccess || len(r.Answer) != 1 {
		return 0, false
	}
	return r.Answer[0].(*dns.SOA).Serial, true
}

// zoneOf takes the whole zone from a server.
func zoneFrom(t *testing.T, addr, key, algorithm, secret string) map[string]bool {
	t.Helper()
	m := new(dns.Msg)
	m.SetAxfr(dns.Fqdn(peerZone))
	m.SetTsig(dns.Fqdn(key), dns.Fqdn(algorithm), 300, time.Now().Unix())
	in, err := (&dns.Transfer{TsigSecret: map[string]string{dns.Fqdn(key): secret}}).In(m, addr)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]bool)
	for e := range in {
		if e.Error != nil {
			t.Fatalf("AXFR from %s: %v", addr, e.Error)
		}
		for _, rr := range e.RR {
			all[rr.String()] = true
		}
	}
	return all
}

func same(t *testing.T, what string, got, want map[string]bool) {
	t.Helper()
	if maps.Equal(got, want) {
		return
	}
	for rr := range want {
		if !got[rr] {
			t.Errorf("%s lacks %.120s", what, rr)
		}
	}
	for rr := range got {
		if !want[rr] {
			t.Errorf("%s has too much: %.120s", what, rr)
		}
	}
}

// otherServer is one of the programs that the zone is exchanged with.
type otherServer struct {
	name, program, algorithm string
	// secondary and primary write a configuration for port and give the
	// arguments; the zone is in a file "zone" for a primary.
	secondary, primary func(o other) []string
	// change makes the primary serve another text of the zone.
	change func(o other, text, more string, serial int)
}

// other is a running one.
type other struct {
	t      *testing.T
	dir    string
	port   int
	ours   netip.AddrPort
	key    string
	secret string
}

func (o other) file(name, text string) string {
	o.t.Helper()
	path := filepath.Join(o.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		o.t.Fatal(err)
	}
	return path
}

func (o other) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(o.port)) }

// fill puts the figures into a configuration.
func (o other) fill(text string) string {
	return strings.NewReplacer("DIR", o.dir, "OURS", strconv.Itoa(int(o.ours.Port())), "PORT", strconv.Itoa(o.port), "KEY", o.key, "SECRET", o.secret, "ZONE", peerZone).Replace(text)
}

func (o other) command(name string, args ...string) {
	o.t.Helper()
	if out, err := exec.Command(testnode.Peer(o.t, name), args...).CombinedOutput(); err != nil {
		o.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

var otherServers = []otherServer{
	{
		name: "nsd", program: "nsd", algorithm: "hmac-sha256",
		secondary: func(o other) []string {
			return []string{"-d", "-c", o.file("nsd.conf", o.fill(nsdHead+`zone:
  name: ZONE
  zonefile: DIR/zone
  request-xfr: 127.0.0.1@OURS KEY
  allow-notify: 127.0.0.1 KEY
  provide-xfr: 127.0.0.1 KEY
`))}
		},
		primary: func(o other) []string {
			return []string{"-d", "-c", o.file("nsd.conf", o.fill(nsdHead+`zone:
  name: ZONE
  zonefile: DIR/zone
  notify: 127.0.0.1@OURS KEY
  provide-xfr: 127.0.0.1 KEY
  store-ixfr: yes
  create-ixfr: yes
`))}
		},
		change: func(o other, text, _ string, _ int) {
			o.file("zone", text)
			o.command("nsd-control", "-c", filepath.Join(o.dir, "nsd.conf"), "reload", peerZone)
		},
	},
	{
		name: "knot", program: "knotd", algorithm: "hmac-sha512",
		secondary: func(o other) []string {
			return []string{"-c", o.file("knot.conf", o.fill(knotHead+`acl:
  - id: all
    address: 127.0.0.1
    key: KEY
    action: [notify, transfer]
zone:
  - domain: ZONE
    file: DIR/zone
    master: ours
    acl: all
`))}
		},
		primary: func(o other) []string {
			return []string{"-c", o.file("knot.conf", o.fill(knotHead+`acl:
  - id: all
    address: 127.0.0.1
    key: KEY
    action: transfer
zone:
  - domain: ZONE
    file: DIR/zone
    notify: ours
    acl: all
    zonefile-load: difference
    serial-policy: increment
`))}
		},
		change: func(o other, text, _ string, _ int) {
			o.file("zone", text)
			o.command("knotc", "-s", filepath.Join(o.dir, "control"), "-b", "zone-reload", peerZone)
		},
	},
	{
		name: "bind", program: "named", algorithm: "hmac-sha256",
		secondary: func(o other) []string {
			return []string{"-g", "-n", "1", "-c", o.file("named.conf", o.fill(bindHead+`zone "ZONE" {
  type secondary; file "DIR/zone";
  primaries { 127.0.0.1 port OURS key "KEY"; };
  allow-notify { key "KEY"; };
  allow-transfer { key "KEY"; };
};
`))}
		},
		primary: func(o other) []string {
			return []string{"-g", "-n", "1", "-c", o.file("named.conf", o.fill(bindHead+`zone "ZONE" {
  type primary; file "DIR/zone";
  notify explicit; notify-delay 0; also-notify { 127.0.0.1 port OURS key "KEY"; };
  allow-update { key "KEY"; };
  allow-transfer { key "KEY"; };
};
`))}
		},
		change: func(o other, _, more string, serial int) {
			cmd := exec.Command(testnode.Peer(o.t, "nsupdate"), "-v", "-y", "hmac-sha256:"+o.key+":"+o.secret)
			cmd.Stdin = strings.NewReader(fmt.Sprintf("server 127.0.0.1 %d\nzone %s\n%ssend\n", o.port, peerZone, more))
			if out, err := cmd.CombinedOutput(); err != nil {
				o.t.Fatalf("nsupdate %d: %v\n%s", serial, err, out)
			}
		},
	},
}

const (
	nsdHead = `server:
  ip-address: 127.0.0.1@PORT
  server-count: 1
  username: ""
  chroot: ""
  zonesdir: DIR
  pidfile: ""
  database: ""
  xfrdfile: DIR/xfrd.state
  xfrdir: DIR
  zonelistfile: DIR/list
  xfrd-reload-timeout: 0
  verbosity: 1
remote-control:
  control-enable: yes
  control-interface: DIR/nsd.ctl
key:
  name: KEY
  algorithm: hmac-sha256
  secret: "SECRET"
`
	knotHead = `server:
  rundir: DIR
  listen: 127.0.0.1@PORT
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
control:
  listen: DIR/control
log:
  - target: stderr
    any: info
database:
  storage: DIR/db
key:
  - id: KEY
    algorithm: hmac-sha512
    secret: SECRET
remote:
  - id: ours
    address: 127.0.0.1@OURS
    key: KEY
`
	bindHead = `options {
  directory "DIR"; listen-on port PORT { 127.0.0.1; }; listen-on-v6 { none; };
  pid-file none; session-keyfile none; recursion no; dnssec-validation no; empty-zones-enable no;
  notify no; notify-rate 1000; serial-query-rate 1000; min-refresh-time 1; min-retry-time 1;
  ixfr-from-differences yes; max-ixfr-ratio unlimited; masterfile-format text;
};
controls { };
key "KEY" { algorithm hmac-sha256; secret "SECRET"; };
`
)

// start runs a program until the test ends.
func (o other) start(program string, args []string) {
	o.t.Helper()
	var log bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = o.dir, &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		o.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	o.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-done
		}
		if o.t.Failed() {
			text := log.String()
			o.t.Logf("%s says:\n%s", program, text[max(0, len(text)-4000):])
		}
	})
}

func newOther(t *testing.T, n *peerNode, s otherServer) other {
	t.Helper()
	u, l := listenBoth(t)
	u.Close()
	l.Close()
	key, dir := s.name+".secondary.example", t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	return other{t: t, dir: dir, port: l.Addr().(*net.TCPAddr).Port, ours: n.addr, key: key, secret: n.key(key, s.algorithm)}
}

// changes is how many changes the others follow: DNS_CHANGES.
func changes(t *testing.T) int {
	if text := os.Getenv("DNS_CHANGES"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return 20
}

// TestInteropSecondariesFollow lets NSD, Knot and BIND follow our zone by NOTIFY
// and IXFR.
func TestInteropSecondariesFollow(t *testing.T) {
	n := newPeerNode(t)
	var all []other
	var allow, notify []string
	for _, s := range otherServers {
		program := testnode.Peer(t, s.program)
		o := newOther(t, n, s)
		all = append(all, o)
		allow = append(allow, o.key+"@127.0.0.0/8")
		notify = append(notify, o.addr()+"="+o.key)
		n.set(admin.TransferRequest{Allow: &allow})
		o.start(program, s.secondary(o))
	}
	caughtUp := func(i int) {
		t.Helper()
		want := n.serial()
		for k, o := range all {
			for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(2 * time.Millisecond) {
				if serial, ok := askSerial(o.addr()); ok && serial == want {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("after change %d %s does not follow\n%s", i, otherServers[k].name, n.kinds)
				}
			}
		}
	}
	caughtUp(-1)
	n.set(admin.TransferRequest{Notify: &notify})
	total := changes(t)
	start := time.Now()
	for i := range total {
		n.step(i)
		caughtUp(i)
	}
	t.Logf("%d changes in %v", total, time.Since(start).Round(time.Millisecond))
	want := zoneFrom(t, n.addr.String(), all[0].key, otherServers[0].algorithm, all[0].secret)
	for k, o := range all {
		s := otherServers[k]
		same(t, s.name, zoneFrom(t, o.addr(), o.key, s.algorithm, o.secret), want)
		t.Logf("%s: %d × AXFR, %d × IXFR, zone of %d records", s.name, n.kinds.of(o.key, "AXFR"), n.kinds.of(o.key, "IXFR"), len(want))
		if n.kinds.of(o.key, "IXFR") < total*9/10 {
			t.Errorf("%s took changes by other means", s.name)
		}
	}
}

// TestInteropWeFollow follows each of them, with a certificate of our own in the
// zone.
func TestInteropWeFollow(t *testing.T) {
	for _, s := range otherServers {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			program := testnode.Peer(t, s.program)
			n := newPeerNode(t)
			n.step(0) // a certificate
			o := newOther(t, n, s)
			text := func(i int) string {
				return fmt.Sprintf("$ORIGIN %s.\n$TTL 300\n@ SOA ns h %d 3600 600 864000 60\n@ NS ns\nns A 127.0.0.1\nwww A 192.0.2.%d\n@ MX 10 mail\nstep%d TXT \"change %d\"\n", peerZone, i+10, i%250+1, i, i)
			}
			more := func(i int) string {
				return fmt.Sprintf("update delete www.%[1]s. A\nupdate add www.%[1]s. 300 A 192.0.2.%[2]d\nupdate delete step%[3]d.%[1]s. TXT\nupdate add step%[4]d.%[1]s. 300 TXT \"change %[4]d\"\n", peerZone, i%250+1, i-1, i)
			}
			o.file("zone", text(0))
			o.start(program, s.primary(o))
			for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(10 * time.Millisecond) {
				if _, ok := askSerial(o.addr()); ok {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("it does not serve")
				}
			}
			n.set(admin.TransferRequest{Primaries: &[]string{o.addr() + "=" + o.key}, Allow: &[]string{o.key}})
			taken := func(i int) {
				t.Helper()
				for deadline := time.Now().Add(40 * time.Second); ; time.Sleep(5 * time.Millisecond) {
					if answers(n.addr.String(), fmt.Sprintf("step%d.%s.", i, peerZone)) {
						return
					}
					if time.Now().After(deadline) {
						t.Fatalf("change %d is not here\n%s", i, n.kinds)
					}
				}
			}
			taken(0)
			total := changes(t) / 4
			for i := 1; i <= total; i++ {
				s.change(o, text(i), more(i), i)
				taken(i)
			}
			theirs := zoneFrom(t, o.addr(), o.key, s.algorithm, o.secret)
			ours := zoneFrom(t, n.addr.String(), o.key, s.algorithm, o.secret)
			certs := 0
			for rr := range ours {
				if strings.Contains(rr, "\tCERT\t") {
					certs++
				}
			}
			same(t, "ours", without(ours, "\tCERT\t", "\tSOA\t"), without(theirs, "\tSOA\t"))
			if certs != 1 {
				t.Errorf("%d certificates of ours in the zone", certs)
			}
			show, err := n.admin.ShowDomain(t.Context(), admin.DomainRequest{Domain: peerZone})
			if err != nil || show.Transfer.Secondary.State != "current" {
				t.Errorf("%+v %v", show.Transfer, err)
			}
			t.Logf("%d changes: %d × AXFR, %d × IXFR", total, n.kinds.of("", "AXFR"), n.kinds.of("", "IXFR"))
			if n.kinds.of("", "IXFR") < total/2 {
				t.Errorf("changes came by other means\n%s", n.kinds)
			}
		})
	}
}

func without(all map[string]bool, types ...string) map[string]bool {
	out := maps.Clone(all)
	maps.DeleteFunc(out, func(rr string, _ bool) bool {
		return slices.ContainsFunc(types, func(s string) bool { return strings.Contains(rr, s) })
	})
	return out
}

func answers(addr, name string) bool {
	m := new(dns.Msg)
	m.SetQuestion(name, dns.TypeTXT)
	r, _, err := (&dns.Client{Net: "tcp", Timeout: time.Second}).Exchange(m, addr)
	return err == nil && len(r.Answer) == 1
}
