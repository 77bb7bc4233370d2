package dnsserver_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"directnode/dnsserver"
	"directnode/zones"
)

// FuzzRoundTrip asks for any name and type, with any flags and sizes: what is
// written parses, its counts are those of its sections, and written again by the
// codec it says the same.
func FuzzRoundTrip(f *testing.F) {
	sets := []*zones.Set{newSet(f), buildSigned(f, texts(f), modes[0]), buildSigned(f, texts(f), modes[1])}
	for _, name := range []string{"bob.direct.example.org.", "robert.Direct.example.org.", "x.y.sub.structure.example.", "own.a.wild.structure.example.", "ca.upper.example.", "q.spiral.upper.example.", "mx.upper.example.", "ns3.a-rather-long-name-for-a-server.cut.upper.example.", "over.lower.upper.example.", "."} {
		buf := make([]byte, 256)
		n, err := dns.PackDomainName(name, buf, 0, nil, false)
		if err != nil {
			f.Fatal(err)
		}
		for _, qtype := range []uint16{dns.TypeCERT, dns.TypeANY, dns.TypeMX} {
			f.Add(buf[:n], qtype, uint16(0x0100), uint16(4096), uint8(qtype))
			f.Add(buf[:n], qtype, uint16(0), uint16(1232), uint8(0x83+qtype<<4&0x30))
		}
	}
	f.Fuzz(func(t *testing.T, name []byte, qtype, flags, size uint16, how uint8) {
		q := binary.BigEndian.AppendUint16([]byte{0xBE, 0xEF}, flags&^(1<<15|0x7800)) // a query
		q = append(q, 0, 1, 0, 0, 0, 0, 0, how&1)
		q = append(q, name...)
		q = binary.BigEndian.AppendUint16(q, qtype)
		q = append(q, 0, 1)
		if how&1 != 0 {
			q = append(q, 0, 0, byte(dns.TypeOPT), byte(size>>8), byte(size), 0, 0, how&0x80, 0, 0, 0)
		}
		tr := dnsserver.Transport{TCP: how&2 != 0, UDPCert: dnsserver.UDPCert(how >> 2 & 3 % 3), At: signedAt}
		if a := dnsserver.Handle(sets[how>>4&3%3], q, tr); a != nil {
			holdRoundTrip(t, q, a, tr)
		}
	})
}

func holdRoundTrip(t *testing.T, q, a []byte, tr dnsserver.Transport) {
	t.Helper()
	if why := faulty(q, a, tr); why != "" {
		t.Fatalf("%s\n%x\n%x", why, q, a)
	}
	m := new(dns.Msg)
	if err := m.Unpack(a); err != nil {
		t.Fatal(err)
	}
	sections := []int{len(m.Question), len(m.Answer), len(m.Ns), len(m.Extra)}
	for i, n := range sections {
		if int(binary.BigEndian.Uint16(a[4+2*i:])) != n {
			t.Fatalf("section %d is said to have %d entries\n%x", i, binary.BigEndian.Uint16(a[4+2*i:]), a)
		}
	}
	if m.Rcode != dns.RcodeFormatError && len(m.Question) != 1 {
		t.Fatalf("the question is not there: %v\n%x", m, q)
	}
	ends := questionEnd(q) // where a name ends early, what follows the question may be any record
	if hasOPT := len(q) > ends+2 && q[ends+2] == byte(dns.TypeOPT); (m.IsEdns0() != nil) != hasOPT && m.Rcode != dns.RcodeFormatError {
		t.Fatalf("an OPT record where there was none, or the other way round: %v", m)
	}
	again := new(dns.Msg)
	for _, compress := range []bool{false, true} {
		m.Compress = compress
		b, err := m.Pack()
		if err != nil {
			if strings.Contains(err.Error(), "overflow") {
				continue // without compression more than a message holds
			}
			t.Fatalf("%v\n%v", err, m)
		}
		if err := again.Unpack(b); err != nil || again.String() != m.String() {
			t.Fatalf("%v\n%v\n%v", err, m, again)
		}
	}
}

// FuzzTCPFraming sends a stream cut at any places: the answers are those to its
// frames sent one by one, each when the one before is answered. What is left of a
// frame at its end is no query. A pipe is served by a goroutine of its own, a
// socket by whatever serves most.
func FuzzTCPFraming(f *testing.F) {
	set := newSet(f)
	p := newPipes()
	u, l := listen(f, "127.0.0.1")
	u.Close()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	server := dnsserver.New(fixed(set), dnsserver.Options{CookieSecret: [16]byte{1}, Limits: dnsserver.Limits{FirstByte: time.Minute, Idle: time.Minute, Write: time.Minute}})
	go func() { done <- server.Serve(ctx, nil, p) }()
	go func() { done <- server.Serve(ctx, nil, l) }()
	f.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, <-done); err != nil {
			f.Error(err)
		}
	})
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			f.Fatal(err)
		}
		_ = conn.(*net.TCPConn).SetLinger(0) // leaves no port behind
		return conn
	}
	var many []byte
	for _, name := range []string{"direct.example.org.", "bob.direct.example.org.", "txt200.upper.example.", "nobody.example."} {
		many = append(many, framed(ask(f, name, dns.TypeTXT, 1232))...)
	}
	f.Add(many, []byte{1})
	f.Add(many, []byte{3, 200, 0, 7})
	f.Add(append([]byte{0, 0}, many...), []byte{255})
	f.Add([]byte{0, 0, 0, 1, 0, 0, 12, 1, 2, 3}, []byte{2})
	f.Add(append(framed(ask(f, "mx.upper.example.", dns.TypeMX, 0)), 0xFF), []byte{14})
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		if len(stream) > 4096 {
			return
		}
		packets, rest := frames(stream)
		good := ask(t, "direct.example.org.", dns.TypeSOA, 0) // the last answer is known
		want := answersOneByOne(t, p.dial(), append(packets, good))
		// What was cut off comes when everything else is answered.
		whole := append(slices.Clone(stream[:len(stream)-len(rest)]), framed(good)...)
		for _, conn := range []net.Conn{p.dial(), dial()} {
			got := answersInPieces(conn, whole, cuts, rest, len(want))
			if len(got) != len(want) {
				t.Fatalf("%T: %d answers, one by one %d\n%x cut at %v", conn, len(got), len(want), stream, cuts)
			}
			for i := range got {
				if !bytes.Equal(got[i], want[i]) {
					t.Fatalf("%T: answer %d is\n%x\none by one\n%x\nto %x cut at %v", conn, i, got[i], want[i], stream, cuts)
				}
			}
		}
	})
}

// frames takes a stream apart, as RFC 1035 §4.2.2 has it.
func frames(stream []byte) (packets [][]byte, rest []byte) {
	for len(stream) >= 2 {
		end := 2 + int(binary.BigEndian.Uint16(stream))
		if len(stream) < end {
			break
		}
		packets = append(packets, stream[2:end])
		stream = stream[end:]
	}
	return packets, stream
}

// withoutTime is an answer without what tells the time of a cookie.
func withoutTime(answer []byte) []byte {
	m := new(dns.Msg)
	if m.Unpack(answer) == nil && cookieIn(m) != "" {
		return []byte(fmt.Sprintf("%x with a cookie of %d octets", answer[:12], len(cookieIn(m))/2))
	}
	return answer
}

// answersOneByOne sends each packet when the one before is answered. A packet
// that is no query has no answer; the next one's comes instead.
func answersOneByOne(t *testing.T, conn net.Conn, packets [][]byte) (answers [][]byte) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	for _, q := range packets {
		if _, err := conn.Write(framed(q)); err != nil {
			t.Fatal(err)
		}
		if silent := len(q) < 12 || q[2]&0x80 != 0; silent {
			continue
		}
		a, err := readFrame(conn)
		if err != nil {
			t.Fatalf("%v\nafter %x", err, q)
		}
		answers = append(answers, withoutTime(a))
	}
	return answers
}

func readFrame(r io.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}

// answersInPieces sends a stream in pieces as long as cuts says, again and again,
// reads so many answers, sends what is left and hangs up.
func answersInPieces(conn net.Conn, stream, cuts, rest []byte, want int) (answers [][]byte) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for i := 0; len(stream) > 0; i++ {
			n := len(stream)
			if len(cuts) > 0 && i < 256 {
				n = min(n, 1+int(cuts[i%len(cuts)]))
			}
			if _, err := conn.Write(stream[:n]); err != nil {
				return
			}
			stream = stream[n:]
		}
	}()
	for range want {
		a, err := readFrame(conn)
		if err != nil {
			break
		}
		answers = append(answers, withoutTime(a))
	}
	<-sent
	_, _ = conn.Write(rest)
	return answers
}
