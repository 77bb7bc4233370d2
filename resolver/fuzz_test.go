package resolver

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"testing"

	"directnode/internal/testpki"

	"github.com/miekg/dns"
)

func certQuestion() *dns.Msg {
	q := new(dns.Msg)
	q.Id = 0x1234
	q.RecursionDesired = true
	q.Question = []dns.Question{{Name: "bob.direct.test.", Qtype: dns.TypeCERT, Qclass: dns.ClassINET}}
	return q
}

// FuzzAnswer hands arbitrary messages to everything between the socket and the list of certificates. Only an answer to our question
// may pass, and only records of its name or of the aliases that start there.
func FuzzAnswer(f *testing.F) {
	root := testpki.New(f).Root("Root")
	bob := root.Leaf("bob", testpki.Address("bob@direct.test"))
	for _, build := range []func(m *dns.Msg){
		func(*dns.Msg) {},
		func(m *dns.Msg) { m.Rcode = dns.RcodeNameError },
		func(m *dns.Msg) { m.Truncated = true },
		func(m *dns.Msg) { m.Answer = []dns.RR{certRecord("BOB.direct.test.", 1, bob.DER)} },
		func(m *dns.Msg) {
			m.Answer = []dns.RR{certRecord("bob.direct.test.", 4, []byte("http://x/")), certRecord("bob.direct.test.", 1, nil)}
		},
		func(m *dns.Msg) {
			m.Answer = []dns.RR{
				&dns.CNAME{Hdr: dns.RR_Header{Name: "bob.direct.test.", Rrtype: dns.TypeCNAME, Class: dns.ClassINET}, Target: "x.test."},
				certRecord("x.test.", 1, bob.DER),
			}
		},
	} {
		m := new(dns.Msg).SetReply(certQuestion())
		build(m)
		wire, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		q := certQuestion()
		m, err := parseReply(wire, q, "udp")
		if err != nil {
			return
		}
		if m.Id != q.Id || !m.Response {
			t.Fatal("not a response to this question")
		}
		err = usable(m, "udp", false)
		outcomeOf(m, err, dns.TypeCERT)
		if err != nil {
			return
		}
		rrs, end, aliases := follow(m, q.Question[0].Name, dns.TypeCERT)
		if aliases > maxAliases+1 {
			t.Fatalf("%d aliases followed", aliases)
		}
		for _, rr := range rrs {
			if !sameName(rr.Header().Name, end) {
				t.Fatalf("record of %s for %s", rr.Header().Name, end)
			}
		}
		l := lookup{question: question{q.Question[0].Name, dns.TypeCERT}, rrs: rrs, heard: []heard{{msg: m, certs: decodeCERT(m)}}}
		for _, v := range valuesOf(l) {
			if v.URL != "" && len(v.URL) > maxURL {
				t.Fatal("too long a URL")
			}
			if v.Err == nil && notACertificate(v.DER) == nil && len(v.DER) > dns.MaxMsgSize {
				t.Fatal("too large a certificate")
			}
		}
	})
}

func certRecord(name string, kind uint16, data []byte) *dns.CERT {
	hdr := dns.RR_Header{Name: name, Rrtype: dns.TypeCERT, Class: dns.ClassINET, Ttl: 300}
	return &dns.CERT{Hdr: hdr, Type: kind, Certificate: base64.StdEncoding.EncodeToString(data)}
}

// streamConn is a connection whose peer sent these octets.
type streamConn struct {
	net.Conn
	io.Reader
}

func (c streamConn) Read(p []byte) (int, error) { return c.Reader.Read(p) }

// FuzzGuardedConn sends arbitrary octets as an LDAP server. What comes through is a prefix of them, in whole messages within bounds.
func FuzzGuardedConn(f *testing.F) {
	f.Add([]byte{0x30, 0x0c, 2, 1, 1, 0x61, 7, 10, 1, 0, 4, 0, 4, 0})
	f.Add([]byte{0x30, 0x84, 0, 0, 0, 3, 2, 1, 1, 0x30, 0})
	f.Add(bytes.Repeat([]byte{0x30, 0}, 600))
	f.Fuzz(func(t *testing.T, sent []byte) {
		c := &guardedConn{Conn: streamConn{Reader: bytes.NewReader(sent)}}
		got, err := io.ReadAll(c)
		if !bytes.HasPrefix(sent, got) {
			t.Fatal("other octets than were sent")
		}
		if err == nil && len(got) != len(sent) {
			t.Fatal("octets are missing")
		}
		if c.messages > maxLDAPMessages+1 || len(got) > maxLDAPBytes {
			t.Fatal("a limit was passed")
		}
		if errors.Is(err, io.ErrNoProgress) {
			t.Fatal("the reader stood still")
		}
	})
}
