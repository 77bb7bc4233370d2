package ldapserver

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"directnode/internal/ber"
	"directnode/ldapserver/dit"
)

// TestEveryCutAndEveryChangedOctetIsAnsweredOrEndsTheConnection takes one good
// request of each kind, cuts it and changes it in every place, and demands
// whole answers and no internal error.
func TestEveryCutAndEveryChangedOctetIsAnsweredOrEndsTheConnection(t *testing.T) {
	s := newSession(people(t, dit.Options{}, "bob@b.direct.test"), Options{})
	op := func(f func(b *ber.Builder)) []byte {
		var b ber.Builder
		b.Begin(ber.Sequence)
		b.Int(ber.Integer, 1)
		f(&b)
		b.Begin(ber.Context(0, true))
		b.Begin(ber.Sequence)
		b.Text(ber.OctetString, dit.OIDManageDsaIT)
		b.Bool(ber.Boolean, true)
		b.End()
		b.End()
		b.End()
		return b.Encoded()
	}
	mail := &refFilter{op: "=", attr: "mail", value: "bob@b.direct.test"}
	filter := &refFilter{op: "&", children: []*refFilter{mail, {op: "!", children: []*refFilter{{op: "*", attr: "cn", parts: []string{"a", "b", "c"}}}},
		{op: "|", children: []*refFilter{{op: "p", attr: "userCertificate"}, {op: ":", value: "x"}, {op: ">=", attr: "sn", value: "x"}}}}}
	for name, pdu := range map[string][]byte{
		"search": searchPDU("dc=b,dc=direct,dc=test", filter.encode()),
		"bind": op(func(b *ber.Builder) {
			b.Begin(ber.App(0, true))
			b.Int(ber.Integer, 3)
			b.Text(ber.OctetString, "")
			b.Text(ber.Context(0, false), "")
			b.End()
		}),
		"compare": op(func(b *ber.Builder) {
			b.Begin(ber.App(14, true))
			b.Text(ber.OctetString, "uid=bob,dc=b,dc=direct,dc=test")
			b.Begin(ber.Sequence)
			b.Text(ber.OctetString, "mail")
			b.Text(ber.OctetString, "bob@b.direct.test")
			b.End()
			b.End()
		}),
		"extended": op(func(b *ber.Builder) {
			b.Begin(ber.App(23, true))
			b.Text(ber.Context(0, false), dit.OIDWhoAmI)
			b.Text(ber.Context(1, false), "value")
			b.End()
		}),
		"delete": op(func(b *ber.Builder) { b.Text(ber.App(10, false), "dc=b") }),
	} {
		try := func(what string, at int, pdu []byte) {
			s.out = s.out[:0]
			then := s.handle(pdu, time.Unix(1, 0))
			list := answers(t, s.out)
			for _, m := range list {
				if m.code == int64(other) {
					t.Errorf("%s, %s at %d: an internal error", name, what, at)
				}
			}
			if len(list) == 0 && then == proceed && s.request.op.name != "abandon" {
				t.Errorf("%s, %s at %d: neither answer nor end", name, what, at)
			}
		}
		inner, err := ber.NewReader(pdu, messageLimits).Enter(ber.Sequence)
		if err != nil {
			t.Fatal(err)
		}
		content := inner.Rest()
		for i := range pdu {
			try("cut", i, pdu[:i])
			for _, change := range []byte{0x01, 0x20, 0x80, 0xff} {
				changed := bytes.Clone(pdu)
				changed[i] ^= change
				try("changed", i, changed)
			}
		}
		for i := range content {
			try("cut and framed", i, ber.AppendTLV(nil, ber.Sequence, content[:i]))
		}
	}
}

// TestTheLogNamesNoAddress looks up, guesses and fails, and reads the log.
func TestTheLogNamesNoAddress(t *testing.T) {
	var log strings.Builder
	s := newSession(people(t, dit.Options{}, "bob@b.direct.test"), Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	for _, subject := range []string{"bob@b.direct.test", "zoe@b.direct.test"} {
		pdu := searchPDU("dc=b,dc=direct,dc=test", (&refFilter{op: "=", attr: "mail", value: subject}).encode())
		s.handle(pdu, time.Now())
		s.handle(pdu[:len(pdu)-1], time.Now())
		s.handle(searchPDU("uid="+subject+",dc=b", (&refFilter{op: "p", attr: "mail"}).encode()), time.Now())
	}
	if n := strings.Count(log.String(), "\n"); n != 6 {
		t.Errorf("%d lines for 6 requests:\n%s", n, log.String())
	}
	for _, address := range []string{"bob", "zoe"} {
		if strings.Contains(log.String(), address) {
			t.Errorf("the log names %s:\n%s", address, log.String())
		}
	}
}
