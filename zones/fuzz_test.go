package zones_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"directnode/zones"
)

// FuzzName reads names from text and from the wire: what is taken is a whole name
// within the limits, and comes back from its own text as the same name.
func FuzzName(f *testing.F) {
	long := strings.Repeat("l", 63)
	for _, text := range []string{".", "a", "A.b.", `\000.x`, `a\.b.c`, `$x`, `*.w`, `\"q\".\;s`, "..", "x..y", `\256`, `\25`, `\`, strings.Join([]string{long, long, long, long[:61]}, "."), strings.Join([]string{long, long, long, long[:62]}, ".")} {
		f.Add(text, []byte(text))
	}
	f.Add("", []byte("\x03abc\x01X\x00"))
	f.Add("", []byte("\x03abc\xC0\x00"))
	f.Fuzz(func(t *testing.T, text string, wire []byte) {
		if n, err := zones.ParseName(text); err == nil {
			holdName(t, n)
			buf := make([]byte, 300)
			if end, err := dns.PackDomainName(dns.Fqdn(text), buf, 0, nil, false); err != nil || string(zones.AppendLower(nil, buf[:end])) != string(n) {
				t.Fatalf("%q is %q, the codec has %q, %v", text, n, buf[:end], err)
			}
		}
		_, end, err := dns.UnpackDomainName(wire, 0)
		if err != nil || end > 255 || compressed(wire) {
			return
		}
		holdName(t, zones.Name(zones.AppendLower(nil, wire[:end])))
	})
}

// compressed tells that a label of a name is a pointer.
func compressed(wire []byte) bool {
	for at := 0; at < len(wire) && wire[at] != 0; at += 1 + int(wire[at]) {
		if wire[at] > 63 {
			return true
		}
	}
	return false
}

// holdName holds what is true of every name.
func holdName(t *testing.T, n zones.Name) {
	t.Helper()
	labels, at := 0, 0
	for n[at] != 0 {
		labels++
		at += 1 + int(n[at])
	}
	if at+1 != len(n) || len(n) > 255 {
		t.Fatalf("%q: %d octets, its end at %d", n, len(n), at)
	}
	if string(zones.AppendLower(nil, []byte(n))) != string(n) {
		t.Fatalf("%q has capitals", n)
	}
	back, err := zones.ParseName(n.String())
	if err != nil || back != n {
		t.Fatalf("%q is written %q and read %q, %v", n, n.String(), back, err)
	}
	if n.Compare(back) != 0 || labels > 0 && (n.Compare(n[1+n[0]:]) <= 0 || n[1+n[0]:].Compare(n) >= 0) {
		t.Fatalf("%q does not sort behind the name above it", n)
	}
}

// FuzzCERTRData writes RDATA of CERT records as text and reads it, and reads text
// and writes it: nothing changes, and the codec agrees where it can.
func FuzzCERTRData(f *testing.F) {
	f.Add("PKIX 0 0 eA==", []byte{0, 1, 0, 0, 0, 'x'})
	f.Add("IPKIX 65535 RSASHA256 aHR0cDovL2EvYg==", []byte("\x00\x04\x00\x00\x00http://a/b"))
	f.Add("1 1 1 eA = =", []byte{0, 1, 0, 0, 0})
	f.Add("URI 0 0 eB==", []byte{})
	f.Add(`\# 6 0001 0000 00 ff`, []byte{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF})
	f.Add(`\# 5 0001000000`, bytes.Repeat([]byte{0, 1}, 200))
	f.Fuzz(func(t *testing.T, text string, wire []byte) {
		if written, err := zones.RDataText(dns.TypeCERT, wire); err == nil {
			holdCERT(t, written, wire)
			holdCERT(t, zones.GenericText(wire), wire)
		} else if len(wire) > 5 {
			t.Fatalf("%x: %v", wire, err)
		}
		tokens := strings.Fields(text)
		read, err := zones.ParseRData(dns.TypeCERT, tokens, "example.")
		if err != nil {
			return
		}
		if len(read) > 65535 {
			return // no record holds it; the text is refused when its record is made
		}
		written, err := zones.RDataText(dns.TypeCERT, read)
		if err != nil {
			t.Fatalf("%q is %x: %v", text, read, err)
		}
		holdCERT(t, written, read)
		// The codec reads mnemonics of its own and bad Base64; what both read is the same.
		if _, err := strconv.ParseUint(tokens[0], 10, 16); err != nil {
			return
		}
		rr, err := dns.NewRR(". 0 IN CERT " + strings.Join(tokens, " "))
		if err != nil || rr == nil {
			return
		}
		c := rr.(*dns.CERT)
		if der, err := base64.StdEncoding.DecodeString(c.Certificate); err == nil && !bytes.Equal(der, read[5:]) {
			t.Fatalf("%q: the codec reads %x, we %x", text, der, read[5:])
		}
		if head := []byte{byte(c.Type >> 8), byte(c.Type), byte(c.KeyTag >> 8), byte(c.KeyTag), c.Algorithm}; !bytes.Equal(head, read[:5]) {
			t.Fatalf("%q: the codec reads %x, we %x", text, head, read[:5])
		}
	})
}

func holdCERT(t *testing.T, text string, wire []byte) {
	t.Helper()
	back, err := zones.ParseRData(dns.TypeCERT, strings.Fields(text), "example.")
	if err != nil || !bytes.Equal(back, wire) {
		t.Fatalf("%s is written %q and read %x, %v", hex.EncodeToString(wire), text, back, err)
	}
}
