package dnsserver_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"directnode/dnsserver"
	"directnode/internal/direct"
	"directnode/internal/testpki"
	"directnode/store"
	"directnode/store/kv/memory"
	"directnode/zones"
)

func hmacOf(secret, algorithm string, msg []byte) ([]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(secret)
	if err != nil {
		return nil, err
	}
	var h func() hash.Hash
	switch dns.CanonicalName(algorithm) {
	case dns.HmacSHA256:
		h = sha256.New
	case dns.HmacSHA512:
		h = sha512.New
	default:
		return nil, dns.ErrKeyAlg
	}
	m := hmac.New(h, raw)
	m.Write(msg)
	return m.Sum(nil), nil
}

// TestAZoneIsDeniedToEverybodyElse: not one record goes to who must not have it.
func TestAZoneIsDeniedToEverybodyElse(t *testing.T) {
	set := newSet(t)
	ixfr := func(zone string, serial uint32) *dns.Msg {
		m := new(dns.Msg)
		m.SetIxfr(zone, serial, "ns.", "h.")
		return m
	}
	for _, c := range []struct {
		what      string
		m         *dns.Msg
		key       string // empty = not signed
		algorithm string
		at        time.Time
		tcp       bool
		rcode     int
	}{
		{"no key", question("direct.example.org.", dns.TypeAXFR), "", "", tsigAt, true, dns.RcodeRefused},
		{"no key, IXFR", ixfr("direct.example.org.", 1), "", "", tsigAt, true, dns.RcodeRefused},
		{"no key, not our zone", question("nowhere.example.", dns.TypeAXFR), "", "", tsigAt, true, dns.RcodeRefused},
		{"unknown key", question("direct.example.org.", dns.TypeAXFR), "x.example.", dns.HmacSHA256, tsigAt, true, dns.RcodeNotAuth},
		{"another algorithm", question("direct.example.org.", dns.TypeAXFR), tsigName, dns.HmacSHA512, tsigAt, true, dns.RcodeNotAuth},
		{"another time", question("direct.example.org.", dns.TypeAXFR), tsigName, dns.HmacSHA256, tsigAt.Add(time.Hour), true, dns.RcodeNotAuth},
		{"the key of another zone", question("direct.example.org.", dns.TypeAXFR), otherName, dns.HmacSHA512, tsigAt, true, dns.RcodeRefused},
		{"from another network", question("structure.example.", dns.TypeAXFR), otherName, dns.HmacSHA512, tsigAt, true, dns.RcodeRefused},
		{"a zone without a rule", question("lower.upper.example.", dns.TypeAXFR), tsigName, dns.HmacSHA256, tsigAt, true, dns.RcodeRefused},
		{"a name inside", question("bob.direct.example.org.", dns.TypeAXFR), tsigName, dns.HmacSHA256, tsigAt, true, dns.RcodeNotAuth},
		{"not our zone", question("nowhere.example.", dns.TypeAXFR), tsigName, dns.HmacSHA256, tsigAt, true, dns.RcodeNotAuth},
		{"AXFR by UDP", question("direct.example.org.", dns.TypeAXFR), tsigName, dns.HmacSHA256, tsigAt, false, dns.RcodeRefused},
		{"IXFR by UDP without a key", ixfr("direct.example.org.", 1), "", "", tsigAt, false, dns.RcodeRefused},
		{"IXFR without its SOA", question("direct.example.org.", dns.TypeIXFR), tsigName, dns.HmacSHA256, tsigAt, true, dns.RcodeFormatError},
	} {
		packet := pack(t, c.m)
		if c.key != "" {
			packet, _ = signed(t, c.m, c.key, c.algorithm, tsigText, c.at)
		}
		var r dnsserver.Responder
		out := r.Append(nil, set, packet, withPeers(t, c.tcp))
		if r.Transfer() != nil {
			t.Errorf("%s: the zone goes out", c.what)
			continue
		}
		m := unpack(t, out)
		if m.Rcode != c.rcode || len(m.Answer)+len(m.Ns) > 0 {
			t.Errorf("%s: %s; want %s", c.what, m, dns.RcodeToString[c.rcode])
		}
	}
}

func TestIXFRByUDPSaysTheSerialAndNothingElse(t *testing.T) {
	m := new(dns.Msg)
	m.SetIxfr("direct.example.org.", 1, "ns.", "h.")
	packet, mac := signed(t, m, tsigName, dns.HmacSHA256, tsigText, tsigAt)
	out := dnsserver.Handle(newSet(t), packet, withPeers(t, false))
	got := unpack(t, out)
	if got.Rcode != dns.RcodeSuccess || !got.Authoritative || got.Truncated || len(got.Answer) != 1 || got.Answer[0].(*dns.SOA).Serial != 7 {
		t.Errorf("%s", got)
	}
	if err := dns.TsigVerifyWithProvider(bytes.Clone(out), secretOf(tsigText), mac, false); err != nil && err != dns.ErrTime {
		t.Error(err)
	}
}

func TestNotifyIsTakenFromAPrimaryAlone(t *testing.T) {
	for _, c := range []struct {
		what  string
		zone  string
		qtype uint16
		key   string
		peer  string
		rcode int
		aa    bool
	}{
		{"the primary", "upper.example.", dns.TypeSOA, tsigName, "192.0.2.77", dns.RcodeSuccess, true},
		{"another address", "upper.example.", dns.TypeSOA, tsigName, "192.0.2.78", dns.RcodeRefused, false},
		{"another key", "upper.example.", dns.TypeSOA, otherName, "192.0.2.77", dns.RcodeRefused, false},
		{"no key", "upper.example.", dns.TypeSOA, "", "192.0.2.77", dns.RcodeRefused, false},
		{"a zone that is edited here", "direct.example.org.", dns.TypeSOA, tsigName, "192.0.2.77", dns.RcodeRefused, false},
		{"not our zone", "nowhere.example.", dns.TypeSOA, tsigName, "192.0.2.77", dns.RcodeNotAuth, false},
		{"another type", "upper.example.", dns.TypeNS, tsigName, "192.0.2.77", dns.RcodeNotImplemented, false},
	} {
		m := question(c.zone, c.qtype)
		m.Opcode, m.Authoritative = dns.OpcodeNotify, true
		m.Answer = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: c.zone, Rrtype: dns.TypeSOA, Class: dns.ClassINET}, Ns: "n.", Mbox: "m.", Serial: 9}}
		packet := pack(t, m)
		switch c.key {
		case tsigName:
			packet, _ = signed(t, m, c.key, dns.HmacSHA256, tsigText, tsigAt)
		case otherName:
			packet, _ = signed(t, m, c.key, dns.HmacSHA512, tsigText, tsigAt)
		}
		var told atomic.Value
		server := dnsserver.New(func() *zones.Set { return newSet(t) }, dnsserver.Options{
			Peers: func() *dnsserver.Peers { return newPeers(t) }, Notified: func(apex zones.Name) { told.Store(apex) }})
		out := server.Desk().Answer(nil, packet, &net.UDPAddr{IP: net.ParseIP(c.peer), Port: 4000}, tsigAt)
		got := unpack(t, out)
		if got.Rcode != c.rcode || got.Authoritative != c.aa || got.Opcode != dns.OpcodeNotify || len(got.Answer) > 0 {
			t.Errorf("%s: %s", c.what, got)
		}
		if (told.Load() != nil) != (c.rcode == dns.RcodeSuccess) {
			t.Errorf("%s: told %v", c.what, told.Load())
		}
	}
}

// live is a store whose zones are published as they change.
type live struct {
	t       testing.TB
	store   *store.Store
	domain  direct.Domain
	current atomic.Pointer[zones.Set]
	ders    [][]byte
}

func newLive(t testing.TB, text string) *live {
	t.Helper()
	d, err := direct.ParseDomain("direct.example.org")
	if err != nil {
		t.Fatal(err)
	}
	l := &live{t: t, domain: d}
	ca := testpki.New(t).Root("Root")
	for _, n := range []string{"a", "b", "c"} {
		l.ders = append(l.ders, ca.Leaf(n).DER)
	}
	l.store, err = store.Open(context.Background(), memory.New(memory.Options{}), store.Options{Prepare: l.prepare})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.change(func(tx *store.Tx) error { return tx.AddDomain(d, l.records(text)) }); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *live) prepare(v *store.View) (func(), error) {
	var next *zones.Set
	var err error
	if before := l.current.Load(); before == nil {
		next, err = zones.Build(v, zones.Options{})
	} else {
		next, err = before.Update(v)
	}
	return func() { l.current.Store(next) }, err
}

func (l *live) records(text string) []store.Record {
	l.t.Helper()
	p, err := zones.ParseMaster(strings.NewReader(text), l.domain, "text")
	if err != nil {
		l.t.Fatal(err)
	}
	return p.Records
}

func (l *live) change(f func(*store.Tx) error) error {
	_, err := l.store.Update(context.Background(), f)
	return err
}

func (l *live) add(tx *store.Tx, who string, der int) error {
	o, err := direct.ParseOwner(who)
	if err != nil {
		return err
	}
	_, err = tx.AddCertificate(store.Certificate{Owner: o, DER: l.ders[der], PublishDNS: true})
	return err
}

// transferred is what a secondary gets from a set: the records, first and last
// SOA included.
func transferred(t testing.TB, set *zones.Set, ixfr bool, serial uint32) (records []dns.RR, kind string) {
	t.Helper()
	m := question("direct.example.org.", dns.TypeAXFR)
	if ixfr {
		m = new(dns.Msg)
		m.SetIxfr("direct.example.org.", serial, "ns.", "h.")
	}
	packet, mac := signed(t, m, tsigName, dns.HmacSHA256, tsigText, tsigAt)
	var r dnsserver.Responder
	out := r.Append(nil, set, packet, withPeers(t, true))
	x := r.Transfer()
	if x == nil {
		t.Fatalf("no transfer: %s", unpack(t, out))
	}
	clear(packet) // whoever read it may read the next one into the same memory
	first := true
	for msg := range x.Messages {
		msg = x.Sign(msg, tsigAt)
		if err := dns.TsigVerifyWithProvider(bytes.Clone(msg), secretOf(tsigText), mac, !first); err != nil && err != dns.ErrTime {
			t.Fatalf("message after %d records: %v", len(records), err)
		}
		got := unpack(t, msg)
		if got.Id != m.Id || !got.Authoritative || got.Rcode != dns.RcodeSuccess || len(msg) > 65535 {
			t.Fatalf("%s", got)
		}
		records, mac, first = append(records, got.Answer...), got.IsTsig().MAC, false
	}
	return records, x.Kind()
}

// contents are the records between the SOAs of a whole transfer.
func contents(t testing.TB, records []dns.RR) (serial uint32, all map[string]bool) {
	t.Helper()
	first, ok := records[0].(*dns.SOA)
	last, also := records[len(records)-1].(*dns.SOA)
	if !ok || !also || first.String() != last.String() || len(records) < 2 {
		t.Fatalf("it begins with %s and ends with %s", records[0], records[len(records)-1])
	}
	all = make(map[string]bool)
	for _, rr := range records[1 : len(records)-1] {
		if all[rr.String()] || rr.Header().Rrtype == dns.TypeSOA {
			t.Fatalf("twice: %s", rr)
		}
		all[rr.String()] = true
	}
	return first.Serial, all
}

// apply does what RFC 1995 §4 says with an incremental transfer.
func apply(t testing.TB, serial uint32, all map[string]bool, records []dns.RR) (uint32, map[string]bool) {
	t.Helper()
	all = maps.Clone(all)
	final := records[0].(*dns.SOA)
	rest := records[1 : len(records)-1]
	for len(rest) > 0 {
		if old := rest[0].(*dns.SOA); old.Serial != serial {
			t.Fatalf("a step from %d; the zone is at %d", old.Serial, serial)
		}
		at := 1
		for ; rest[at].Header().Rrtype != dns.TypeSOA; at++ {
			if !all[rest[at].String()] {
				t.Fatalf("deletes what is not there: %s", rest[at])
			}
			delete(all, rest[at].String())
		}
		serial = rest[at].(*dns.SOA).Serial
		for at++; at < len(rest) && rest[at].Header().Rrtype != dns.TypeSOA; at++ {
			if all[rest[at].String()] {
				t.Fatalf("adds what is there: %s", rest[at])
			}
			all[rest[at].String()] = true
		}
		rest = rest[at:]
	}
	if serial != final.Serial || records[len(records)-1].String() != final.String() {
		t.Fatalf("ends at %d, announced %d", serial, final.Serial)
	}
	return serial, all
}

const transferText = minimum + "@ MX 10 mail\nmail A 192.0.2.1\n*.wild TXT x\nbob 7200 CERT IPKIX 0 0 eA==\ncut NS ns.cut\nns.cut A 192.0.2.2\n"

// TestAnIncrementalTransferGivesWhatAWholeOneGives walks a zone through random
// changes; from every version that is still known the steps lead to the present.
func TestAnIncrementalTransferGivesWhatAWholeOneGives(t *testing.T) {
	texts := []string{transferText, transferText + "extra A 192.0.2.3\n", strings.Replace(transferText, "mail A 192.0.2.1", "mail 60 A 192.0.2.1", 1),
		strings.Replace(transferText, "bob 7200", "bob 60", 1)}
	owners := []string{"direct.example.org", "bob@direct.example.org", "john.smith@direct.example.org", "smith@direct.example.org", "mail@direct.example.org", "x.wild@direct.example.org"}
	rapid.Check(t, func(rt *rapid.T) {
		l := newLive(t, transferText)
		type version struct {
			serial uint32
			all    map[string]bool
		}
		var versions []version
		note := func() {
			whole, kind := transferred(t, l.current.Load(), false, 0)
			if kind != "AXFR" {
				rt.Fatalf("kind %s", kind)
			}
			serial, all := contents(t, whole)
			versions = append(versions, version{serial, all})
		}
		note()
		for range rapid.IntRange(1, 8).Draw(rt, "changes") {
			err := l.change(func(tx *store.Tx) error {
				for range rapid.IntRange(1, 3).Draw(rt, "together") {
					var err error
					der := rapid.IntRange(0, 2).Draw(rt, "certificate")
					switch rapid.IntRange(0, 3).Draw(rt, "what") {
					case 0:
						err = tx.SetRecords(l.domain, l.records(rapid.SampledFrom(texts).Draw(rt, "text")))
					case 1:
						if len(tx.Find(store.Fingerprint(l.ders[der]))) > 0 {
							err = tx.RemoveCertificate(store.Fingerprint(l.ders[der]))
						}
					default:
						err = l.add(tx, rapid.SampledFrom(owners).Draw(rt, "owner"), der)
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				rt.Fatal(err)
			}
			note()
		}
		now := versions[len(versions)-1]
		for _, v := range versions {
			records, kind := transferred(t, l.current.Load(), true, v.serial)
			switch {
			case v.serial == now.serial:
				if kind != "SOA" || len(records) != 1 {
					rt.Fatalf("nothing to do, but %s of %d records", kind, len(records))
				}
			case kind != "IXFR":
				rt.Fatalf("from %d: %s", v.serial, kind)
			default:
				serial, all := apply(t, v.serial, v.all, records)
				if serial != now.serial || !maps.Equal(all, now.all) {
					rt.Fatalf("from %d the steps lead elsewhere\n%v\n%v", v.serial, slices.Sorted(maps.Keys(all)), slices.Sorted(maps.Keys(now.all)))
				}
			}
		}
	})
}

func TestWithoutAHistoryAllOfTheZoneIsSent(t *testing.T) {
	l := newLive(t, transferText)
	begin := l.current.Load().Zone(l.domain).Serial()
	for i := range 60 { // more octets than a small zone keeps
		if err := l.change(func(tx *store.Tx) error { return l.add(tx, fmt.Sprintf("u%d@direct.example.org", i), 0) }); err != nil {
			t.Fatal(err)
		}
		if err := l.change(func(tx *store.Tx) error { return tx.RemoveCertificate(store.Fingerprint(l.ders[0])) }); err != nil {
			t.Fatal(err)
		}
	}
	last := l.current.Load().Zone(l.domain).Serial()
	for _, c := range []struct {
		serial uint32
		kind   string
	}{{begin, "AXFR"}, {last - 1, "IXFR"}, {last, "SOA"}, {last + 1, "SOA"}, {last + 1<<31 - 1, "SOA"}, {last + 1<<31 + 1, "AXFR"}, {0, "AXFR"}} {
		if _, kind := transferred(t, l.current.Load(), true, c.serial); kind != c.kind {
			t.Errorf("from %d at %d: %s, want %s", c.serial, last, kind, c.kind)
		}
	}
	kept, ok := l.current.Load().Zone(l.domain).Changes(last - 1)
	if !ok || len(kept) != 1 {
		t.Errorf("the last step: %v %v", kept, ok)
	}
}

// TestATransferIsOneGenerationHoweverLongItTakes changes the zone between the
// messages of a transfer.
func TestATransferIsOneGenerationHoweverLongItTakes(t *testing.T) {
	l := newLive(t, transferText)
	if err := l.change(func(tx *store.Tx) error {
		for i := range 100 {
			if err := l.add(tx, fmt.Sprintf("user%d@direct.example.org", i), i%3); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	_, want := contents(t, first(transferred(t, l.current.Load(), false, 0)))
	packet, _ := signed(t, question("direct.example.org.", dns.TypeAXFR), tsigName, dns.HmacSHA256, tsigText, tsigAt)
	var r dnsserver.Responder
	r.Append(nil, l.current.Load(), packet, withPeers(t, true))
	var records []dns.RR
	messages := 0
	for msg := range r.Transfer().Messages {
		records = append(records, unpack(t, msg).Answer...)
		messages++
		if err := l.change(func(tx *store.Tx) error { return l.add(tx, fmt.Sprintf("late%d@direct.example.org", messages), 0) }); err != nil {
			t.Fatal(err)
		}
	}
	_, got := contents(t, records)
	if !maps.Equal(got, want) || messages < 3 {
		t.Errorf("%d records in %d messages, want %d records", len(got), messages, len(want))
	}
}

func first(records []dns.RR, _ string) []dns.RR { return records }

// serveLive serves a store's zones; loopback may have direct.example.org.
func serveLive(t testing.TB, l *live, limits dnsserver.Limits) string {
	key := newKey(t, tsigName, "hmac-sha256")
	peers := dnsserver.NewPeers([]*dnsserver.Key{key}, map[zones.Name]dnsserver.Access{
		apexOf(t, "direct.example.org"): {Allow: []dnsserver.Rule{{Key: key, Prefix: netip.MustParsePrefix("127.0.0.0/8")}}}})
	return start(t, l.current.Load, dnsserver.Options{Limits: limits, Peers: func() *dnsserver.Peers { return peers }})
}

// TestAnotherImplementationTakesTheZone transfers by TCP, with ordinary queries
// on the same connection before and behind.
func TestAnotherImplementationTakesTheZone(t *testing.T) {
	l := newLive(t, transferText)
	addr := serveLive(t, l, dnsserver.Limits{})
	if err := l.change(func(tx *store.Tx) error { return l.add(tx, "bob@direct.example.org", 0) }); err != nil {
		t.Fatal(err)
	}
	before := l.current.Load().Zone(l.domain).Serial()
	if err := l.change(func(tx *store.Tx) error { return l.add(tx, "bob@direct.example.org", 1) }); err != nil {
		t.Fatal(err)
	}
	for _, serial := range []uint32{0, before} {
		m := question("direct.example.org.", dns.TypeAXFR)
		want := 11
		if serial > 0 {
			m = new(dns.Msg)
			m.SetIxfr("direct.example.org.", serial, "ns.", "h.")
			want = 5 // SOA, SOA, SOA, CERT, SOA
		}
		m.SetTsig(tsigName, dns.HmacSHA256, 300, time.Now().Unix())
		in, err := (&dns.Transfer{TsigSecret: map[string]string{tsigName: tsigText}}).In(m, addr)
		if err != nil {
			t.Fatal(err)
		}
		records := 0
		for e := range in {
			if e.Error != nil {
				t.Fatal(e.Error)
			}
			records += len(e.RR)
		}
		if records != want {
			t.Errorf("%d records, want %d", records, want)
		}
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	axfr, _ := signed(t, question("direct.example.org.", dns.TypeAXFR), tsigName, dns.HmacSHA256, tsigText, time.Now())
	soa := ask(t, "direct.example.org.", dns.TypeSOA, 0)
	for _, q := range [][]byte{soa, axfr, soa} {
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...)); err != nil {
			t.Fatal(err)
		}
	}
	var counts []int
	for range 3 {
		m, err := (&dns.Conn{Conn: conn, TsigSecret: map[string]string{tsigName: tsigText}}).ReadMsg()
		if m == nil {
			t.Fatal(err)
		}
		counts = append(counts, len(m.Answer))
	}
	if !slices.Equal(counts, []int{1, 11, 1}) {
		t.Errorf("answers of %v records", counts)
	}
}

// TestASecondaryThatDoesNotReadKeepsOneSlot crosses the number of transfers and
// the time of a write.
func TestASecondaryThatDoesNotReadKeepsOneSlot(t *testing.T) {
	l := newLive(t, transferText)
	if err := l.change(func(tx *store.Tx) error {
		for i := range 8000 {
			if err := l.add(tx, fmt.Sprintf("user%d@direct.example.org", i), i%3); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	addr := serveLive(t, l, dnsserver.Limits{Transfers: 1, Write: 500 * time.Millisecond})
	asked := func() net.Conn {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if err := conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
			t.Fatal(err)
		}
		q, _ := signed(t, question("direct.example.org.", dns.TypeAXFR), tsigName, dns.HmacSHA256, tsigText, time.Now())
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...)); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	answer := func(conn net.Conn) *dns.Msg {
		m, err := (&dns.Conn{Conn: conn, TsigSecret: map[string]string{tsigName: tsigText}}).ReadMsg()
		if m == nil {
			t.Fatal(err)
		}
		return m
	}
	slow := asked()
	if m := answer(slow); m.Rcode != dns.RcodeSuccess {
		t.Fatal(m)
	}
	if m := answer(asked()); m.Rcode != dns.RcodeServerFailure || len(m.Answer) > 0 {
		t.Errorf("a second transfer at the same time: %s", m)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if answer(asked()).Rcode == dns.RcodeSuccess {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the slow one still has the slot")
		}
	}
}

// TestASignedZoneIsNotTransferred, for a copy could neither sign nor prove: the
// log says so, the holder of the key is refused.
func TestASignedZoneIsNotTransferred(t *testing.T) {
	set := buildSigned(t, texts(t), modes[0], "structure.example")
	var log bytes.Buffer
	server := dnsserver.New(func() *zones.Set { return set }, dnsserver.Options{
		Peers: func() *dnsserver.Peers { return newPeers(t) }, Log: slog.New(slog.NewTextHandler(&log, nil))})
	packet, _ := signed(t, question("direct.example.org.", dns.TypeAXFR), tsigName, dns.HmacSHA256, tsigText, tsigAt)
	out := server.Desk().Answer(nil, packet, &net.TCPAddr{IP: tsigPeer.AsSlice(), Port: 4000}, tsigAt)
	m := unpack(t, out)
	if m.Rcode != dns.RcodeRefused || len(m.Answer)+len(m.Ns) > 0 || m.IsTsig() == nil {
		t.Errorf("%s", m)
	}
	if !strings.Contains(log.String(), "signed as it is asked") || !strings.Contains(log.String(), "direct.example.org") {
		t.Errorf("the log: %s", log.String())
	}
}
