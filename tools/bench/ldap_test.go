package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// messageOf is a message with an ID of two octets, as searches have them.
func messageOf(id int, op []byte) []byte {
	return tlv(tagSequence, tlv(tagInteger, binary.BigEndian.AppendUint16(nil, uint16(id))), op)
}

// entryMessage is an entry with one attribute.
func entryMessage(id int, name string, values ...[]byte) []byte {
	var set [][]byte
	for _, v := range values {
		set = append(set, tlv(tagOctets, v))
	}
	return messageOf(id, tlv(tagSearchEntry, octets("uid=x"), tlv(tagSequence, tlv(tagSequence, octets(name), tlv(tagSet, set...)))))
}

func resultMessage(id int, tag, code byte) []byte {
	return messageOf(id, tlv(tag, []byte{tagEnumerated, 1, code, tagOctets, 0, tagOctets, 0}))
}

// certificateLike holds an owner's address, as a certificate does.
func certificateLike(owner, size int) []byte {
	return append([]byte(mailOf(owner)), make([]byte, size-len(mailOf(owner)))...)
}

func TestSearchesAreTheSameForAllServers(t *testing.T) {
	a, b := buildSearches(5000, 1199), buildSearches(5000, 1199)
	seen := map[string]bool{}
	for i := range 70_000 {
		msg := a.frame(nil, i)
		if !bytes.Equal(msg, b.frame(nil, i)) {
			t.Fatalf("search %d differs", i)
		}
		id, op, ok := operation(msg)
		if want := searchRequest(binary.BigEndian.AppendUint16(nil, uint16(a.idOf(i))), mailOf(int(a.owners[i]))); !ok || !bytes.Equal(msg, want) {
			t.Fatalf("search %d is\n%x, want\n%x", i, msg, want)
		}
		if got, ok := a.id(msg); !ok || got != id || id != a.idOf(i) {
			t.Fatalf("search %d has ID %d", i, id)
		}
		seen[string(op)] = true
	}
	if len(seen) < 4900 {
		t.Errorf("only %d of 5000 names are asked for", len(seen))
	}
	all := searchesForAll(300, 1199)
	for i := range all.count() {
		if !strings.Contains(string(all.frame(nil, i)), mailOf(i)) {
			t.Fatalf("search %d of all is for another", i)
		}
	}
}

func TestMessagesAreCut(t *testing.T) {
	q := buildSearches(100, 1199)
	long := entryMessage(0x100, certificateType, make([]byte, 1199))
	for name, c := range map[string]struct {
		in   []byte
		want int
		bad  bool
	}{
		"nothing":     {},
		"one octet":   {in: []byte{0x30}},
		"half length": {in: []byte{0x30, 0x82, 1}},
		"half":        {in: long[:len(long)-1]},
		"whole":       {in: long, want: len(long)},
		"and more":    {in: append(slices.Clone(long), 0x30), want: len(long)},
		"long form":   {in: []byte{0x30, 0x84, 0, 0, 0, 1, 9}, want: 7},
		"indefinite":  {in: []byte{0x30, 0x80, 0, 0}, bad: true},
		"too long":    {in: []byte{0x30, 0x83, 1, 0, 1}, bad: true},
		"giant":       {in: []byte{0x30, 0x85, 1, 0, 0, 0, 0}, bad: true},
	} {
		if n, err := q.cut(c.in); n != c.want || (err != nil) != c.bad {
			t.Errorf("%s: cut = %d, %v", name, n, err)
		}
	}
}

// TestAnswersOfDirectoriesAreHeldAgainstTheirSearches: what take accepts.
func TestAnswersOfDirectoriesAreHeldAgainstTheirSearches(t *testing.T) {
	const size = 1199
	q := buildSearches(5000, size)
	owner, id := int(q.owners[0]), q.idOf(0)
	der := certificateLike(owner, size)
	done := resultMessage(id, tagSearchDone, 0)
	for name, c := range map[string]struct {
		answer [][]byte
		err    error
	}{
		"right":               {[][]byte{entryMessage(id, certificateType, der), done}, nil},
		"another case":        {[][]byte{entryMessage(id, "usercertificate;BINARY", der), done}, nil},
		"without option":      {[][]byte{entryMessage(id, "userCertificate", der), done}, errAttributes},
		"another attribute":   {[][]byte{entryMessage(id, "cn", der), done}, errAttributes},
		"no value":            {[][]byte{entryMessage(id, certificateType), done}, errValues},
		"two values":          {[][]byte{entryMessage(id, certificateType, der, der), done}, errValues},
		"short":               {[][]byte{entryMessage(id, certificateType, der[:500]), done}, errSize},
		"another owner":       {[][]byte{entryMessage(id, certificateType, certificateLike(owner+1, size)), done}, errOwner},
		"no entry":            {[][]byte{done}, errEntries},
		"two entries":         {[][]byte{entryMessage(id, certificateType, der), entryMessage(id, certificateType, der), done}, errEntries},
		"busy":                {[][]byte{resultMessage(id, tagSearchDone, 51)}, errResult},
		"failed after one":    {[][]byte{entryMessage(id, certificateType, der), resultMessage(id, tagSearchDone, 4)}, errResult},
		"another operation":   {[][]byte{messageOf(id, tlv(0x73, octets("ldap://x"))), done}, errOperation},
		"done without result": {[][]byte{messageOf(id, tlv(tagSearchDone))}, errEncoding},
		"no operation":        {[][]byte{messageOf(id, nil)}, errEncoding},
	} {
		t.Run(name, func(t *testing.T) {
			var s sentQuery
			for n, msg := range c.answer {
				if last := q.take(&s, msg); last != (n == len(c.answer)-1) {
					t.Fatalf("message %d: last = %v", n, last)
				}
			}
			if !errors.Is(s.err, c.err) || (s.err == nil) != (c.err == nil) {
				t.Errorf("%v, want %v", s.err, c.err)
			}
		})
	}
	if q.welcome(resultMessage(1, tagBindResponse, 0)) != nil {
		t.Error("a bind's success is refused")
	}
	for name, msg := range map[string][]byte{"failed": resultMessage(1, tagBindResponse, 49), "another": resultMessage(1, tagSearchDone, 0), "ID": resultMessage(2, tagBindResponse, 0), "none": nil} {
		if q.welcome(msg) == nil {
			t.Errorf("%s: is welcome", name)
		}
	}
}

// directoryManners change the answer to search n of a connection; nil hangs up.
type directoryManners func(n int, answer []byte) []byte

// fakeLDAP is a directory with a right answer for every search, whose
// connections must begin with a bind. Of two searches that are there together
// the messages of the answers come crosswise.
func fakeLDAP(t *testing.T, size int, m directoryManners) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go fakeLDAPConn(c, size, m)
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func fakeLDAPConn(c net.Conn, size int, m directoryManners) {
	defer c.Close()
	if msg, err := readMessage(c); err != nil || !bytes.Equal(msg, bindRequest(helloID)) {
		return
	}
	if _, err := c.Write(resultMessage(1, tagBindResponse, 0)); err != nil {
		return
	}
	var held []byte
	for n := 0; ; n++ {
		msg, err := readMessage(c)
		if err != nil {
			return
		}
		id, op, ok := operation(msg)
		if !ok || op[0] != tagSearchRequest {
			return
		}
		at := bytes.Index(op, []byte("@"+zoneName))
		der := append(bytes.Clone(op[at-8:at+len(zoneName)+1]), make([]byte, size-9-len(zoneName))...)
		entry, done := m(n, entryMessage(id, certificateType, der)), resultMessage(id, tagSearchDone, 0)
		switch {
		case entry == nil:
			return
		case n%8 == 0: // the second half of the first of eight comes within the second
			held, done = done, nil
		case n%8 == 1:
			done = append(held, done...)
		}
		if _, err := c.Write(append(entry, done...)); err != nil {
			return
		}
	}
}

func goodDirectory(_ int, a []byte) []byte { return a }

// untilSearched runs a load in short pieces until it has seen what it looks
// for: a busy machine takes longer.
func untilSearched(t *testing.T, l load, to netip.AddrPort, seen func(outcome) bool) outcome {
	t.Helper()
	l.patience = 150 * time.Millisecond
	q := buildSearches(1000, 1199)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		o, err := generator{core: 0}.do(ctx, l, to, q, 100*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if seen(o) {
			return o
		}
	}
	t.Fatal("the load never saw it")
	return outcome{}
}

func TestAGoodDirectoryHasCleanRuns(t *testing.T) {
	o := untilSearched(t, byPipeline, fakeLDAP(t, 1199, goodDirectory), clean)
	if o.octets < o.answers*1199 {
		t.Errorf("%d octets of %d answers", o.octets, o.answers)
	}
}

func TestALoadOfSoManySearchesEnds(t *testing.T) {
	l := load{over: overTCP, conns: 1, window: 8, limit: 296} // whole eights: the fake holds the first of them back
	o, err := generator{core: 0}.do(t.Context(), l, fakeLDAP(t, 1199, goodDirectory), searchesForAll(296, 1199), time.Hour)
	if err != nil || o.valid() != nil || o.answers != 296 {
		t.Errorf("%d answers, %v, %v", o.answers, err, o.valid())
	}
}

func TestWhatDirectoriesDoWrongIsSeen(t *testing.T) {
	sometimes := func(f directoryManners) directoryManners {
		return func(n int, a []byte) []byte {
			if n%50 == 49 {
				return f(n, a)
			}
			return a
		}
	}
	for name, c := range map[string]struct {
		do  directoryManners
		err error
	}{
		"no entry":      {func(int, []byte) []byte { return []byte{} }, errEntries},
		"another owner": {func(_ int, a []byte) []byte { return bytes.Replace(a, []byte("u00"), []byte("u99"), 1) }, errOwner},
		"ID of another": {func(_ int, a []byte) []byte { a[6] ^= 0x40; return a }, errForeign},
		"nonsense":      {func(_ int, a []byte) []byte { return []byte{0x30, 0x80} }, errEncoding},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // a search whose answer is taken for another's is waited for
			o := untilSearched(t, byPipeline, fakeLDAP(t, 1199, sometimes(c.do)), func(o outcome) bool { return o.wrong > 0 })
			if o.valid() == nil || !errors.Is(o.first, c.err) {
				t.Errorf("valid = %v, first = %v, want %v", o.valid(), o.first, c.err)
			}
		})
	}
	t.Run("hangs up", func(t *testing.T) {
		t.Parallel()
		o := untilSearched(t, byPipeline, fakeLDAP(t, 1199, sometimes(func(int, []byte) []byte { return nil })), func(o outcome) bool { return o.lost > 0 })
		if o.valid() == nil {
			t.Error("a run with a closed connection counts")
		}
	})
}

// TestAConnectionForEachSearch: bind, search and unbind, and then the end.
func TestAConnectionForEachSearch(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	spoken := make(chan []byte, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				bind, _ := readMessage(c)
				_, _ = c.Write(resultMessage(1, tagBindResponse, 0))
				msg, _ := readMessage(c)
				id, op, ok := operation(msg)
				if !ok {
					return
				}
				at := bytes.Index(op, []byte("@"+zoneName))
				der := append(bytes.Clone(op[at-8:at+len(zoneName)+1]), make([]byte, 1199-9-len(zoneName))...)
				_, _ = c.Write(append(entryMessage(id, certificateType, der), resultMessage(id, tagSearchDone, 0)...))
				rest, _ := io.ReadAll(c)
				select {
				case spoken <- slices.Concat(bind, rest):
				default:
				}
			}()
		}
	}()
	untilSearched(t, byConnector, l.Addr().(*net.TCPAddr).AddrPort(), clean)
	if got := <-spoken; !bytes.Equal(got, append(bindRequest(helloID), unbindRequest(farewellID)...)) {
		t.Errorf("a connection carries %x around the search", got)
	}
}

func TestDirectoryData(t *testing.T) {
	d := &dataSet{names: 64, pool: testPool(t, 1199)}
	var b bytes.Buffer
	if err := d.writeLDIF(&b); err != nil {
		t.Fatal(err)
	}
	records := strings.Split(strings.TrimSuffix(b.String(), "\n\n"), "\n\n")
	if len(records) != 65 {
		t.Fatalf("%d records", len(records))
	}
	const want = "dn: uid=u0000063,dc=bench,dc=test\nobjectClass: top\nobjectClass: person\nobjectClass: organizationalPerson\nobjectClass: inetOrgPerson\n" +
		"cn: u0000063@bench.test\nsn: u0000063@bench.test\nuid: u0000063\nmail: u0000063@bench.test\nuserCertificate;binary:: MII"
	if !strings.HasPrefix(records[64], want) || !strings.HasPrefix(records[0], "dn: dc=bench,dc=test\n") {
		t.Errorf("records begin\n%s\n%.400s", records[0], records[64])
	}
}

// TestInteropSlapd: the database is loaded once, and what it answers is right.
func TestInteropSlapd(t *testing.T) {
	if _, err := (slapd{}).version(t.Context()); err != nil {
		t.Skip("SKIP peer slapd absent")
	}
	cache := t.TempDir()
	d := &dataSet{names: 200, pool: testPool(t, 1199), cache: cache, zoneText: filepath.Join(cache, "zone-200-1199.text")}
	if err := whole(d.zoneText, func(w io.Writer) error { return d.writeZone(w, 0, 1) }); err != nil {
		t.Fatal(err)
	}
	loads := 0
	say := func(string, ...any) { loads++ }
	for range 2 {
		if err := (slapd{}).prepare(t.Context(), d, say); err != nil {
			t.Fatal(err)
		}
	}
	if loads != 1 {
		t.Errorf("loaded %d times", loads)
	}
	s, err := start(t.Context(), anyCore, slapd{}, filepath.Join(t.TempDir(), "s"), d)
	if err != nil {
		t.Fatal(err)
	}
	defer s.proc.stop()
	if err := s.verify(d); err != nil {
		t.Error(err)
	}
	if o, err := (generator{core: 0}).do(t.Context(), byPipeline, s.addr, buildSearches(200, 1199), 100*time.Millisecond); err != nil || o.valid() != nil {
		t.Errorf("%v, %v", err, o.valid())
	}
	if n, err := databaseSize(slapd{}, "", d); err != nil || n < 200*1199 || n > 64<<20 {
		t.Errorf("database of %d octets, %v", n, err)
	}
}
