package main

import (
	"bytes"
	"encoding/hex"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestZoneTextIsEditedInPlace: NSD's change touches the serial number and one
// line.
func TestZoneTextIsEditedInPlace(t *testing.T) {
	dir := t.TempDir()
	d := &dataSet{names: 70, pool: testPool(t, 1199)}
	path := filepath.Join(dir, "zone.text")
	if err := whole(path, func(w io.Writer) error { return d.writeZone(w, 0, d.names) }); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = nsd{}.change(&server{dir: dir}, d, 7, 3)
	if _, absent := find("nsd-control"); (err != nil) != (absent != nil) {
		t.Fatal(err)
	}
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	was, is := strings.Split(string(before), "\n"), strings.Split(string(after), "\n")
	var changed []int
	for i := range was {
		if was[i] != is[i] {
			changed = append(changed, i)
		}
	}
	first := strings.Count(head, "\n")
	if len(was) != len(is) || !slices.Equal(changed, []int{2, first + 7}) {
		t.Fatalf("lines %v of %d changed", changed, len(is))
	}
	if !strings.Contains(is[2], " 1000000004 ") || is[first+7]+"\n" != string(d.line(7, 3)) {
		t.Errorf("changed to\n%s\n%.60s", is[2], is[first+7])
	}
}

func TestSearchRequest(t *testing.T) {
	const want = "305d020101" + // message 1
		"6358" + "041064633d62656e63682c64633d74657374" + // dc=bench,dc=test
		"0a0102" + "0a0100" + "020100" + "020100" + "010100" +
		"a31b" + "04046d61696c" + "0413753030303030303140" + "62656e63682e74657374" +
		"3018" + "0416757365724365727469666963617465" + "3b62696e617279"
	got := searchRequest([]byte{1}, "u0000001@bench.test")
	if hex.EncodeToString(got) != want {
		t.Errorf("request\n%x, want\n%s", got, want)
	}
}

// TestDirectoryAnswers: a fake directory with what a real one may send.
func TestDirectoryAnswers(t *testing.T) {
	der := bytes.Repeat([]byte{0xab}, 1199)
	done := tlv(0x30, tlv(0x02, []byte{1}), tlv(tagSearchDone, []byte{0x0a, 1, 0, 4, 0, 4, 0}))
	entry := func(value []byte) []byte { return entryMessage(1, "userCertificate;binary", value) }
	for name, c := range map[string]struct {
		answer []byte
		good   bool
	}{
		"the certificate": {append(entry(der), done...), true},
		"two entries":     {slices.Concat(entry([]byte("x")), entry(der), done), false},
		"plain name":      {append(entryMessage(1, "userCertificate", der), done...), false},
		"another ID":      {append(entryMessage(2, certificateType, der), done...), false},
		"failed":          {append(entry(der), tlv(0x30, tlv(0x02, []byte{1}), tlv(tagSearchDone, []byte{0x0a, 1, 51, 4, 0, 4, 0}))...), false},
		"another":         {append(entry(der[1:]), done...), false},
		"nothing":         {done, false},
		"not done":        {entry(der), false},
		"another order":   {tlv(0x30, tlv(0x02, []byte{1}), tlv(0x61)), false},
		"cut":             {entry(der)[:50], false},
		"no message":      {[]byte{0x30, 2, 2, 1}, false},
		"endless":         {bytes.Repeat(entry(der), 100), false},
		"a huge message":  {[]byte{0x30, 0x84, 0x7f, 0xff, 0xff, 0xff}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := directoryHas(fakeDirectory(t, c.answer), 1, der); (err == nil) != c.good {
				t.Errorf("directoryHas = %v", err)
			}
		})
	}
}

// fakeDirectory gives one answer to whatever it is asked.
func fakeDirectory(t *testing.T, answer []byte) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		if _, err := c.Read(make([]byte, 1024)); err == nil {
			_, _ = c.Write(answer) // a client that has enough hangs up
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func TestTheLargeZonesTables(t *testing.T) {
	r := &report{
		starts: []startResult{
			{name: "directd", ready: []float64{2, 1.8, 2.2}, memory: []float64{1500}, files: []float64{600}},
			{name: "Knot", ready: []float64{10}, memory: []float64{1400}},
			{name: "NSD", ready: []float64{20}, memory: []float64{1000}},
			{name: "BIND", err: net.ErrClosed},
		},
		imports: []importResult{{"PEM", 100_000, 8 * time.Second}, {"text", 100_000, 20 * time.Second}},
		changes: []changeResult{
			{name: "directd", visible: []float64{12, 10, 30}, load: outcome{answers: 5000}, disturbed: []slice{{100, 2 * time.Millisecond, 9 * time.Millisecond}, {100, time.Millisecond, time.Millisecond}}},
			{name: "Knot", visible: []float64{500}, load: outcome{answers: 10, lost: 3}, err: net.ErrClosed},
			{name: "NSD", err: net.ErrClosed},
		},
	}
	var b strings.Builder
	r.startTable(&b)
	r.importTable(&b)
	r.changeTable(&b)
	for _, want := range []string{
		"| directd | 2.00 [1.80–2.20] | 0.20 | ≤ 0.20 | yes | 1500 [1500–1500] | 600 | 1.50 | ≤ 1.30 | **no** |",
		"| NSD | 20.00 [20.00–20.00] | 2.00 | – | – | 1000 [1000–1000] | 0 | 1.00 | – | – |",
		"| BIND | absent |",
		"| PEM | 100000 | 8.0 | 12500 | ≥ 10000 | yes |",
		"| text | 100000 | 20.0 | 5000 | ≥ 10000 | **no** |",
		"| directd | 3 | 12.0 [10.0–30.0] | 5000 | 0 | 2.00 | 0.00 | yes |",
		"| Knot | 1 | 500.0 [500.0–500.0] | 10 | 3 | 0.00 | 0.00 | – |",
		"| NSD | 0 | – | 0 | 0 | 0.00 | 0.00 | – |",
		"Knot: does not count: ",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the tables lack %q:\n%s", want, b.String())
		}
	}
}
