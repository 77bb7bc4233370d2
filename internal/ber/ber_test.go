package ber_test

import (
	"bytes"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"directnode/internal/ber"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestHeadersOfEveryForm(t *testing.T) {
	for name, c := range map[string]struct {
		in      string
		tag     ber.Tag
		content string
	}{
		"short":              {"04 02 6869", ber.OctetString, "6869"},
		"long":               {"04 81 02 6869", ber.OctetString, "6869"},
		"padded long":        {"04 84 00000002 6869", ber.OctetString, "6869"},
		"indefinite":         {"30 80 0201 05 0000", ber.Sequence, "020105"},
		"nested indefinite":  {"30 80 3080 0000 3003 020105 0000", ber.Sequence, "30800000 3003 020105"},
		"high tag":           {"bf 8148 01 00", ber.Context(200, true), "00"},
		"application":        {"60 00", ber.App(0, true), ""},
		"zero inside length": {"04 02 0000", ber.OctetString, "0000"},
	} {
		t.Run(name, func(t *testing.T) {
			in := unhex(t, c.in)
			r := ber.NewReader(append(in, 0xee), ber.Limits{})
			e, err := r.Next()
			if err != nil || e.Tag != c.tag || !bytes.Equal(e.Content, unhex(t, c.content)) || !bytes.Equal(e.Raw, in) {
				t.Fatalf("Next() = %+v, %v", e, err)
			}
			if !bytes.Equal(r.Rest(), []byte{0xee}) {
				t.Errorf("rest = %x", r.Rest())
			}
		})
	}
}

func TestMalformedInputIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want error
	}{
		"nothing":                 {"", ber.ErrShort},
		"no length":               {"04", ber.ErrShort},
		"cut content":             {"04 03 6869", ber.ErrShort},
		"cut length":              {"04 82 01", ber.ErrShort},
		"reserved length":         {"04 ff", ber.ErrSyntax},
		"length of five octets":   {"04 85 0000000001 00", ber.ErrTooLong},
		"length of 2^31":          {"04 84 80000000", ber.ErrTooLong},
		"indefinite primitive":    {"04 80 0000", ber.ErrSyntax},
		"indefinite without end":  {"30 80 020105", ber.ErrShort},
		"tag number of 5 octets":  {"1f 8181818101 00", ber.ErrTooLong},
		"inner length runs over":  {"30 80 0405 00 0000", ber.ErrShort},
		"inner primitive endless": {"30 80 0480 0000 0000", ber.ErrSyntax},
	} {
		t.Run(name, func(t *testing.T) {
			if e, err := ber.NewReader(unhex(t, c.in), ber.Limits{}).Next(); !errors.Is(err, c.want) {
				t.Fatalf("Next() = %+v, %v; want %v", e, err, c.want)
			}
		})
	}
}

func TestEachLimitIsKept(t *testing.T) {
	deep := func(n int, indefinite bool) []byte {
		b := []byte{5, 0}
		for range n {
			if indefinite {
				b = append(append([]byte{0x30, 0x80}, b...), 0, 0)
			} else {
				b = ber.AppendTLV(nil, ber.Sequence, b)
			}
		}
		return b
	}
	descend := func(b []byte, l ber.Limits) error {
		r := ber.NewReader(b, l)
		for {
			e, err := r.Next()
			if err != nil || !e.Tag.Constructed {
				return err
			}
			if r, err = r.Into(e); err != nil {
				return err
			}
		}
	}
	l := ber.Limits{Depth: 8, Count: 100, Size: 1000}
	for _, indefinite := range []bool{false, true} {
		if err := descend(deep(7, indefinite), l); err != nil {
			t.Errorf("depth 7, indefinite %v: %v", indefinite, err)
		}
		if err := descend(deep(9, indefinite), l); !errors.Is(err, ber.ErrTooDeep) {
			t.Errorf("depth 9, indefinite %v: %v", indefinite, err)
		}
	}
	if err := descend(deep(400, true), ber.Limits{Depth: 8, Count: 1000, Size: 10000}); !errors.Is(err, ber.ErrTooDeep) {
		t.Errorf("depth 400: %v", err)
	}
	if err := descend(make([]byte, 1001), l); !errors.Is(err, ber.ErrTooLong) {
		t.Errorf("size: %v", err)
	}
	r := ber.NewReader(bytes.Repeat([]byte{5, 0}, 101), l)
	var err error
	n := 0
	for ; err == nil && !r.Empty(); n++ {
		_, err = r.Next()
	}
	if !errors.Is(err, ber.ErrTooMany) || n != 101 {
		t.Errorf("count: stopped after %d: %v", n, err)
	}
}

func TestFrameLength(t *testing.T) {
	for _, c := range []struct {
		in   string
		max  int
		n    int
		want error
	}{
		{"30 03 020105", 100, 5, nil},
		{"30 82 0100", 400, 260, nil},
		{"30 82 0100", 259, 0, ber.ErrTooLong},
		{"30 82 01", 400, 0, ber.ErrShort},
		{"30 84 7fffffff", 1 << 16, 0, ber.ErrTooLong},
		{"30 80", 400, 0, ber.ErrSyntax},
	} {
		if n, err := ber.FrameLength(unhex(t, c.in), c.max); n != c.n || !errors.Is(err, c.want) {
			t.Errorf("FrameLength(%s, %d) = %d, %v", c.in, c.max, n, err)
		}
	}
}

func TestConstructedOctetStringsAreJoined(t *testing.T) {
	in := unhex(t, "24 80 0402 6162 2404 0402 6364 0401 65 0000")
	got, err := ber.NewReader(in, ber.Limits{}).OctetString(ber.OctetString)
	if err != nil || string(got) != "abcde" {
		t.Fatalf("OctetString = %q, %v", got, err)
	}
	if _, err := ber.NewReader(unhex(t, "24 03 020105"), ber.Limits{}).OctetString(ber.OctetString); !errors.Is(err, ber.ErrSyntax) {
		t.Errorf("an INTEGER inside an octet string: %v", err)
	}
}

func TestBuilderWritesWhatEncodingASN1Reads(t *testing.T) {
	type inner struct {
		N int64
		B bool
	}
	type outer struct {
		OID asn1.ObjectIdentifier
		In  inner
		S   []byte
	}
	for _, n := range []int64{0, 1, 127, 128, 255, 256, -1, -128, -129, 1 << 40, -1 << 63, 1<<63 - 1} {
		want := outer{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 3}, inner{n, true}, bytes.Repeat([]byte{7}, 300)}
		var b ber.Builder
		b.Begin(ber.Sequence)
		b.OID(want.OID)
		b.Begin(ber.Sequence)
		b.Int(ber.Integer, n)
		b.Bool(ber.Boolean, true)
		b.End()
		b.Bytes(ber.OctetString, want.S)
		b.End()
		der, err := asn1.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b.Encoded(), der) {
			t.Fatalf("n = %d: wrote %x, want %x", n, b.Encoded(), der)
		}
		r, err := ber.NewReader(der, ber.Limits{}).Enter(ber.Sequence)
		if err != nil {
			t.Fatal(err)
		}
		oid, err := r.OID()
		if err != nil || !oid.Equal(want.OID) {
			t.Fatalf("OID() = %v, %v", oid, err)
		}
		in, err := r.Enter(ber.Sequence)
		if err != nil {
			t.Fatal(err)
		}
		if v, err := in.Int(ber.Integer); err != nil || v != n {
			t.Fatalf("Int() = %d, %v; want %d", v, err, n)
		}
		if v, err := in.Bool(ber.Boolean); err != nil || !v {
			t.Fatalf("Bool() = %v, %v", v, err)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte{0x30, 0x80, 0x24, 0x80, 4, 1, 'a', 0, 0, 0, 0})
	f.Add([]byte{0x30, 3, 2, 1, 5})
	f.Add([]byte{0xbf, 0x81, 0x48, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var walk func(r *ber.Reader)
		walk = func(r *ber.Reader) {
			for !r.Empty() {
				tag, ok := r.Peek()
				e, err := r.Next()
				if err != nil {
					return
				}
				if !ok || e.Tag != tag {
					t.Fatalf("peeked %v, read %v", tag, e.Tag)
				}
				if !bytes.Contains(e.Raw, e.Content) {
					t.Fatal("content lies outside of the element")
				}
				if e.Tag.Constructed {
					if in, err := r.Into(e); err == nil {
						walk(in)
					}
				}
				_, _ = e.OID()
				_, _ = e.Int()
			}
		}
		walk(ber.NewReader(b, ber.Limits{Depth: 16, Count: 2000, Size: 1 << 16}))
		_, _ = ber.NewReader(b, ber.Limits{}).OctetString(ber.OctetString)
		_, _ = ber.FrameLength(b, 1<<16)
	})
}
