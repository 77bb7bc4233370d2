package dnsserver_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"directnode/dnsserver"
	"directnode/zones"
)

// TestInteropAnswersLikeOtherServers asks this server and three others for the
// same zones. DNS_DIFF is the number of queries, DNS_DIFF_SEED another choice of
// them and another zone. Each difference must be one of differences_test.go; docs/DNS-DIFFERENCES.md
// says why we differ.
func TestInteropAnswersLikeOtherServers(t *testing.T) {
	total, seed := number(t, "DNS_DIFF", 5_000), number(t, "DNS_DIFF_SEED", 1)
	texts := differentialZones(t, uint64(seed))
	set := build(t, texts)
	queries := generateQueries(t, texts, total, uint64(seed))
	for _, p := range []peer{nsd, knot, bind} {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			addr := p.start(t, texts)
			c := comparison{explained: make(map[string]int)}
			c.run(t, set, addr, p.name, queries)
			for _, d := range differences {
				t.Logf("%8d × %s", c.explained[d.name], d.name)
			}
			t.Logf("%d queries, %d equal, %d unexplained", len(queries), c.equal, c.unexplained)
		})
	}
}

func number(t *testing.T, variable string, otherwise int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q is no number", variable, text)
	}
	return n
}

// comparison counts what became of the queries.
type comparison struct {
	equal, unexplained int
	explained          map[string]int
}

// batch is how many queries travel at a time: many, because a peer that writes
// its answers one by one waits for our kernel once in each batch.
const batch = 512

func (c *comparison) run(t *testing.T, set *zones.Set, addr, name string, queries []differentialQuery) {
	link := &connection{addr: addr}
	defer link.close()
	for part := range slices.Chunk(queries, batch) {
		answers, err := link.exchange(part)
		if err != nil {
			t.Logf("%s: %v; each query of the batch goes alone", name, err)
			answers = link.oneByOne(part)
		}
		for i, q := range part {
			ours := view(dnsserver.Handle(set, q.packet, overTCP))
			c.judge(t, name, q, ours, view(answers[i]))
		}
	}
}

func (c *comparison) judge(t *testing.T, name string, q differentialQuery, ours, theirs *answerView) {
	if ours.equal(theirs) {
		c.equal++
		return
	}
	for _, d := range differences {
		if strings.Contains(cmp.Or(d.peers, name), name) && d.explains(q, ours, theirs) {
			c.explained[d.name]++
			return
		}
	}
	if c.unexplained++; c.unexplained <= 20 {
		t.Errorf("not explained: %s\nours:\n%s%s:\n%s", q, ours, name, theirs)
	}
}

// connection is one TCP connection to a peer, opened anew where the peer ends it.
type connection struct {
	addr string
	conn net.Conn
}

func (l *connection) close() {
	if l.conn != nil {
		l.conn.Close()
		l.conn = nil
	}
}

// exchange sends queries in one piece and sorts the answers by ID. A peer may
// close a connection that has served for long; then all are asked again.
func (l *connection) exchange(queries []differentialQuery) ([][]byte, error) {
	var err error
	for range 3 {
		var answers [][]byte
		if answers, err = l.try(queries); err == nil {
			return answers, nil
		}
		l.close()
	}
	return nil, err
}

// oneByOne finds the queries that a peer does not answer: it ends the
// connection instead.
func (l *connection) oneByOne(queries []differentialQuery) [][]byte {
	out := make([][]byte, len(queries))
	for i := range queries {
		if answers, err := l.exchange(queries[i : i+1]); err == nil {
			out[i] = answers[0]
		}
	}
	return out
}

func (l *connection) try(queries []differentialQuery) ([][]byte, error) {
	if l.conn == nil {
		c, err := net.DialTimeout("tcp", l.addr, 5*time.Second)
		if err != nil {
			return nil, err
		}
		l.conn = c
	}
	if err := l.conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return nil, err
	}
	var out []byte
	at := make(map[uint16]int, len(queries))
	for i, q := range queries {
		at[binary.BigEndian.Uint16(q.packet)] = i
		out = binary.BigEndian.AppendUint16(out, uint16(len(q.packet)))
		out = append(out, q.packet...)
	}
	if _, err := l.conn.Write(out); err != nil {
		return nil, err
	}
	answers := make([][]byte, len(queries))
	for range queries {
		var length [2]byte
		if _, err := io.ReadFull(l.conn, length[:]); err != nil {
			return nil, err
		}
		b := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(l.conn, b); err != nil {
			return nil, err
		}
		if len(b) < 2 {
			return nil, errors.New("an answer without an ID")
		}
		i, ok := at[binary.BigEndian.Uint16(b)]
		if !ok {
			return nil, errors.New("an answer to no question")
		}
		answers[i] = b
	}
	return answers, nil
}

// peer is another server.
type peer struct {
	name, program string
	// files writes the configuration to dir and gives the arguments.
	files func(t *testing.T, dir string, port int, zones []string) []string
}

// start runs the peer in the foreground until the test ends.
func (p peer) start(t *testing.T, texts map[string]string) string {
	t.Helper()
	program, err := exec.LookPath(p.program)
	switch {
	case err != nil && os.Getenv("DIRECTNODE_PEERS") == "required":
		t.Fatalf("peer %s absent; tools/install-peers installs it", p.name)
	case err != nil:
		t.Skipf("SKIP peer %s absent", p.name)
	}
	dir, port := t.TempDir(), freePort(t)
	var origins []string
	for origin, text := range texts {
		origins = append(origins, origin)
		write(t, filepath.Join(dir, origin+".zone"), "$ORIGIN "+origin+".\n"+text)
	}
	slices.Sort(origins)
	var log bytes.Buffer
	cmd := exec.Command(program, p.files(t, dir, port, origins)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() { end(cmd.Process, done) })
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if servesAll(t.Context(), addr, origins) {
			return addr
		}
		select {
		case err := <-done:
			done <- err
			t.Fatalf("%s ended: %v\n%s", p.name, err, log.String())
		default:
		}
	}
	end(cmd.Process, done)
	t.Fatalf("%s does not serve\n%s", p.name, log.String())
	return ""
}

// end asks the process to end, then makes its process group end.
func end(p *os.Process, done chan error) {
	_ = p.Signal(syscall.SIGTERM)
	select {
	case err := <-done:
		done <- err
	case <-time.After(5 * time.Second):
		_ = syscall.Kill(-p.Pid, syscall.SIGKILL)
		done <- <-done
	}
}

func servesAll(ctx context.Context, addr string, origins []string) bool {
	for _, origin := range origins {
		m := new(dns.Msg)
		m.SetQuestion(dns.Fqdn(origin), dns.TypeSOA)
		r, _, err := (&dns.Client{Net: "tcp", Timeout: time.Second}).ExchangeContext(ctx, m, addr)
		if err != nil || r.Rcode != dns.RcodeSuccess || len(r.Answer) != 1 {
			return false
		}
	}
	return true
}

func freePort(t *testing.T) int {
	t.Helper()
	u, l := listen(t, "127.0.0.1")
	u.Close()
	l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

var nsd = peer{"nsd", "nsd", func(t *testing.T, dir string, port int, origins []string) []string {
	var b strings.Builder
	fmt.Fprintf(&b, "server:\n  ip-address: 127.0.0.1@%d\n  server-count: 1\n  username: \"\"\n  chroot: \"\"\n  zonesdir: %q\n", port, dir)
	fmt.Fprintf(&b, "  pidfile: \"\"\n  database: \"\"\n  xfrdfile: \"\"\n  xfrdir: %q\n  zonelistfile: %q\n", dir, filepath.Join(dir, "list"))
	fmt.Fprint(&b, "  tcp-timeout: 60\n  tcp-query-count: 0\n  minimal-responses: yes\nremote-control:\n  control-enable: no\n")
	for _, origin := range origins {
		fmt.Fprintf(&b, "zone:\n  name: %s\n  zonefile: %s.zone\n", origin, origin)
	}
	conf := filepath.Join(dir, "nsd.conf")
	write(t, conf, b.String())
	return []string{"-d", "-c", conf}
}}

var knot = peer{"knot", "knotd", func(t *testing.T, dir string, port int, origins []string) []string {
	var b strings.Builder
	fmt.Fprintf(&b, "server:\n  rundir: %q\n  listen: 127.0.0.1@%d\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n  tcp-idle-timeout: 60\n", dir, port)
	fmt.Fprintf(&b, "control:\n  listen: %q\nlog:\n  - target: stderr\n    any: warning\n", filepath.Join(dir, "control"))
	fmt.Fprintf(&b, "database:\n  storage: %q\ntemplate:\n  - id: default\n    storage: %q\n    file: \"%%s.zone\"\n    journal-content: none\n    zonefile-sync: -1\nzone:\n", filepath.Join(dir, "db"), dir)
	for _, origin := range origins {
		fmt.Fprintf(&b, "  - domain: %s\n", origin)
	}
	conf := filepath.Join(dir, "knot.conf")
	write(t, conf, b.String())
	return []string{"-c", conf}
}}

var bind = peer{"bind", "named", func(t *testing.T, dir string, port int, origins []string) []string {
	var b strings.Builder
	fmt.Fprintf(&b, "options {\n  directory %q;\n  listen-on port %d { 127.0.0.1; };\n  listen-on-v6 { none; };\n  pid-file none;\n  session-keyfile none;\n", dir, port)
	fmt.Fprint(&b, "  recursion no;\n  allow-transfer { none; };\n  notify no;\n  minimal-responses yes;\n  minimal-any yes;\n  dnssec-validation no;\n  empty-zones-enable no;\n")
	fmt.Fprint(&b, "  check-names master ignore;\n  check-integrity no;\n  check-mx ignore;\n  check-wildcard no;\n  max-records-per-type 0;\n  max-types-per-name 0;\n  zero-no-soa-ttl no;\n  tcp-idle-timeout 600;\n  version none;\n};\ncontrols { };\n")
	for _, origin := range origins {
		fmt.Fprintf(&b, "zone %q { type master; file \"%s.zone\"; };\n", origin, origin)
	}
	conf := filepath.Join(dir, "named.conf")
	write(t, conf, b.String())
	return []string{"-g", "-n", "1", "-c", conf}
}}

// answerView is an answer with all that may differ without harm taken away:
// order, letters' case in names, compression, TTLs in the case of negative.
type answerView struct {
	silent                bool
	broken                string // why it does not parse
	rcode                 int
	aa, tc, edns          bool
	version               uint8
	do                    bool
	question              string
	answer, ns, glue, all []string // all: the whole additional section
}

func view(b []byte) *answerView {
	if b == nil {
		return &answerView{silent: true}
	}
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		return &answerView{broken: err.Error()}
	}
	v := &answerView{rcode: m.Rcode, aa: m.Authoritative, tc: m.Truncated}
	for _, q := range m.Question {
		v.question = q.String()
	}
	if o := m.IsEdns0(); o != nil {
		v.edns, v.version, v.do = true, o.Version(), o.Do()
	}
	v.answer, v.ns = lines(m.Answer), lines(m.Ns)
	var extra, glue []dns.RR
	for _, rr := range m.Extra {
		if rr.Header().Rrtype == dns.TypeOPT {
			continue
		}
		extra = append(extra, rr)
		for _, ns := range m.Ns {
			// RFC 9471 §3: addresses of servers below the cut must be there.
			if dns.IsSubDomain(ns.Header().Name, rr.Header().Name) && ns.Header().Rrtype == dns.TypeNS {
				glue = append(glue, rr)
				break
			}
		}
	}
	v.glue, v.all = lines(glue), lines(extra)
	return v
}

// lines are records as text, sorted. Names are in lower case; what a TXT record
// or a certificate says keeps its case.
func lines(rrs []dns.RR) []string {
	var out []string
	for _, rr := range rrs {
		head := strings.ToLower(rr.Header().String())
		data := strings.TrimPrefix(rr.String(), rr.Header().String())
		switch rr.(type) {
		case *dns.TXT, *dns.CERT, *dns.HINFO, *dns.CAA:
		default:
			data = strings.ToLower(data)
		}
		out = append(out, head+data)
	}
	slices.Sort(out)
	return out
}

func (v *answerView) equal(w *answerView) bool {
	return v.silent == w.silent && v.broken == w.broken && v.rcode == w.rcode && v.aa == w.aa && v.tc == w.tc &&
		v.edns == w.edns && v.version == w.version && v.do == w.do && v.question == w.question &&
		slices.Equal(v.answer, w.answer) && slices.Equal(v.ns, w.ns) && slices.Equal(v.glue, w.glue)
}

func (v *answerView) String() string {
	switch {
	case v.silent:
		return "  silence\n"
	case v.broken != "":
		return "  does not parse: " + v.broken + "\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "  %s aa=%v tc=%v edns=%v version=%d do=%v\n", dns.RcodeToString[v.rcode], v.aa, v.tc, v.edns, v.version, v.do)
	for _, s := range []struct {
		name string
		rrs  []string
	}{{"an", v.answer}, {"ns", v.ns}, {"ar", v.all}} {
		for _, rr := range s.rrs {
			fmt.Fprintf(&b, "  %s %.160s\n", s.name, rr)
		}
	}
	return b.String()
}

// differentialQuery is one query and what it asks.
type differentialQuery struct {
	packet []byte
	name   string
	qtype  uint16
	qclass uint16
	how    string // what is unusual about its header and OPT record
}

func (q differentialQuery) String() string {
	return fmt.Sprintf("%s %s %s%s", q.name, dns.Class(q.qclass), dns.Type(q.qtype), q.how)
}
