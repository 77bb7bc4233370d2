package main

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestQuantilesAreThoseOfTheSortedList within a bucket's width.
func TestQuantilesAreThoseOfTheSortedList(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 2, 3, 99, 100, 101, 10_000} {
		var h histogram
		all := make([]time.Duration, n)
		for i := range all {
			all[i] = time.Duration(r.ExpFloat64() * 200_000)
			h.add(all[i])
		}
		slices.Sort(all)
		for _, q := range []float64{0, 0.01, 0.5, 0.9, 0.99, 1} {
			at := max(int(q*float64(n)+0.9999999)-1, 0)
			want, got := all[at], h.quantile(q)
			if got > want && want >= perOctave || float64(got) < float64(want)*31/32-1 {
				t.Errorf("%d values: quantile %g = %d, the list has %d", n, q, got, want)
			}
		}
		if h.worst != all[n-1] || h.count != uint64(n) {
			t.Errorf("worst %v of %d, want %v of %d", h.worst, h.count, all[n-1], n)
		}
	}
}

func TestBucketsFollowEachOther(t *testing.T) {
	last := -1
	for d := time.Duration(0); d < 1<<16; d++ {
		b := bucket(d)
		if b < last || b > last+1 && last >= 0 {
			t.Fatalf("bucket %d after %d at %d", b, last, d)
		}
		if d >= perOctave && floor(b) > d || d >= perOctave && floor(b+1) <= d {
			t.Fatalf("%d lies in bucket %d from %d to %d", d, b, floor(b), floor(b+1))
		}
		last = b
	}
	if b := bucket(1 << 62); b != len(histogram{}.buckets)-1 {
		t.Errorf("what is longer than the last bucket lies in %d", b)
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want spread
	}{
		{nil, spread{}},
		{[]float64{3}, spread{3, 3, 3, 1}},
		{[]float64{9, 1, 5}, spread{5, 1, 9, 3}},
		{[]float64{4, 1, 3, 2}, spread{2, 1, 4, 4}},
	} {
		if got := spreadOf(c.in); got != c.want {
			t.Errorf("spreadOf(%v) = %+v, want %+v", c.in, got, c.want)
		}
	}
}

// answerTo makes the right answer to a query: a record of size octets after it.
func answerTo(query []byte, size int) []byte {
	b := slices.Clone(query[:len(query)-optSize])
	b[2], b[3], b[7], b[11] = bitQR|bitAA, 0, 1, 0
	return append(b, make([]byte, size)...)
}

func TestAnswersAreHeldAgainstTheirQueries(t *testing.T) {
	query := appendQuery(nil, 0x1234, "u0000001."+zoneName, typeCERT, 4096)
	cert := want{answers: 1, size: 1000}
	for name, c := range map[string]struct {
		want   want
		change func([]byte) []byte
		err    error
	}{
		"right":            {cert, func(b []byte) []byte { return b }, nil},
		"another ID":       {cert, func(b []byte) []byte { b[1]++; return b }, errForeign},
		"cut off":          {cert, func(b []byte) []byte { return b[:20] }, errForeign},
		"empty":            {cert, func([]byte) []byte { return nil }, errForeign},
		"another name":     {cert, func(b []byte) []byte { b[14]++; return b }, errQuestion},
		"another type":     {cert, func(b []byte) []byte { b[len(query)-optSize-3]++; return b }, errQuestion},
		"a query":          {cert, func(b []byte) []byte { b[2] &^= bitQR; return b }, errHeader},
		"not authority":    {cert, func(b []byte) []byte { b[2] &^= bitAA; return b }, errHeader},
		"SERVFAIL":         {cert, func(b []byte) []byte { b[3] |= 2; return b }, errCode},
		"truncated":        {cert, func(b []byte) []byte { b[2] |= bitTC; return b }, errTruncation},
		"no record":        {cert, func(b []byte) []byte { b[7] = 0; return b }, errNoAnswer},
		"too short":        {cert, func(b []byte) []byte { return b[:500] }, errShort},
		"TC as wanted":     {want{tc: true}, func(b []byte) []byte { b[2] |= bitTC; return b }, nil},
		"not truncated":    {want{tc: true}, func(b []byte) []byte { return b }, errTruncation},
		"NXDOMAIN":         {want{rcode: rcodeNXDomain}, func(b []byte) []byte { b[3] |= 3; b[7] = 0; return b }, nil},
		"found none":       {want{rcode: rcodeNXDomain}, func(b []byte) []byte { return b }, errCode},
		"RA and Z allowed": {cert, func(b []byte) []byte { b[3] |= 0xb0; return b }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.want.check(query, c.change(answerTo(query, 1200))); !errors.Is(err, c.err) {
				t.Errorf("check = %v, want %v", err, c.err)
			}
		})
	}
}

// TestOnlyCleanRunsCount is the rule of the whole.
func TestOnlyCleanRunsCount(t *testing.T) {
	for name, c := range map[string]struct {
		o    outcome
		good bool
	}{
		"clean":     {outcome{answers: 10}, true},
		"one lost":  {outcome{answers: 10, lost: 1}, false},
		"one wrong": {outcome{answers: 10, wrong: 1, first: errCode}, false},
		"nothing":   {outcome{}, false},
	} {
		if err := c.o.valid(); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestQueriesAreTheSameForAllServers(t *testing.T) {
	a, b := buildQueries(askCert, 5000), buildQueries(askCert, 5000)
	seen := map[string]bool{}
	for i := range a.msgs {
		if string(a.msgs[i]) != string(b.msgs[i]) {
			t.Fatalf("query %d differs", i)
		}
		if id := int(a.msgs[i][0])<<8 | int(a.msgs[i][1]); id != i&0xffff {
			t.Fatalf("query %d has ID %d", i, id)
		}
		seen[string(a.msgs[i][headerSize:])] = true
	}
	if len(seen) < 4900 {
		t.Errorf("only %d of 5000 names are asked for", len(seen))
	}
}

func TestAQueryThatWantsSignatures(t *testing.T) {
	q := buildQueries(askSigned(2), 5000)
	const want = "\x00\x02\x00\x00\x00\x01\x00\x00\x00\x00\x00\x01" + "\x08u0000002\x05bench\x04test\x00" + "\x00\x25\x00\x01" +
		"\x00\x00\x29\x10\x00\x00\x00\x80\x00\x00\x00" // RFC 6891 §6.1.2: DO is the first bit of the flags
	if got := string(q.msgs[2]); got != want {
		t.Errorf("query %q, want %q", got, want)
	}
	if !slices.Equal(q.msgs[2][2:], q.msgs[2+signedNames][2:]) {
		t.Error("the names do not come in turn")
	}
}

func TestCasesFitTheSize(t *testing.T) {
	for names, want := range map[int]string{1000: "cert", 100_000: "signed", 1_000_000: "change"} {
		cases := autoCases(names)
		if !slices.Contains(cases, want) {
			t.Errorf("%d names: %v", names, cases)
		}
		for _, c := range cases {
			if !slices.Contains(allCases(), c) {
				t.Errorf("%s is no case", c)
			}
		}
	}
	for _, args := range [][]string{{"-cases", "nothing"}, {"-rounds", "0"}, {"-quick", "-o", "x"}, {"rest"}, {"-seconds", "0"}} {
		if _, err := parseOptions(args); err == nil {
			t.Errorf("%v is taken", args)
		}
	}
}
