package smtpserver

import (
	"strings"
	"testing"
)

// alphabet is what line ends are made of, and one octet of text.
var alphabet = []byte{'\r', '\n', '.', 0, 'x'}

// everyString calls f with each string over the alphabet of 1 to n octets.
func everyString(n int, f func(string)) {
	var b []byte
	var grow func()
	grow = func() {
		if len(b) > 0 {
			f(string(b))
		}
		if len(b) == n {
			return
		}
		for _, c := range alphabet {
			b = append(b, c)
			grow()
			b = b[:len(b)-1]
		}
	}
	grow()
}

// oracle says by other means than a state machine where a message ends and
// where it breaks the rules for line ends; -1 is nowhere. before is what the
// client sent ahead of s.
func oracle(before, s string) (end, broken int) {
	all := before + s
	end, broken = strings.Index(all, "\r\n.\r\n"), -1
	for i := range len(all) {
		// A CR without LF behind it counts where the next octet shows it.
		afterCR := i > 0 && all[i-1] == '\r'
		if all[i] == 0 || afterCR != (all[i] == '\n') {
			broken = i - len(before)
			break
		}
	}
	if end >= 0 {
		end += len("\r\n.\r\n") - len(before)
	}
	return end, broken
}

// TestExactlyCRLFDotCRLFEndsAMessage tries all 97,655 strings of 1 to 7 octets
// over {CR, LF, '.', NUL, 'x'}, at the start of a line and within one, in one
// piece and octet by octet.
func TestExactlyCRLFDotCRLFEndsAMessage(t *testing.T) {
	n, ended := 0, 0
	everyString(7, func(s string) {
		n++
		for _, before := range []string{"\r\n", "x"} {
			end, broken := oracle(before, s)
			wantEnd := end >= 0 && (broken < 0 || end <= broken)
			for _, piece := range []int{len(s), 1} {
				gotEnd, gotOK, at := run(before, s, piece)
				switch {
				case gotEnd != wantEnd, gotEnd && at != end:
					t.Fatalf("%q after %q in pieces of %d: end %v at %d, want %v at %d", s, before, piece, gotEnd, at, wantEnd, end)
				case !wantEnd && gotOK != (broken < 0):
					t.Fatalf("%q after %q in pieces of %d: ok %v, but broken at %d", s, before, piece, gotOK, broken)
				}
				if gotEnd {
					ended++
				}
			}
		}
	})
	if n != 97655 || ended == 0 {
		t.Errorf("%d strings, %d of them ended the message", n, ended)
	}
}

func run(before, s string, piece int) (end, ok bool, at int) {
	var d dotScanner
	if before == "x" {
		d.scan([]byte(before))
	}
	for i := 0; i < len(s); i += piece {
		n, end, ok := d.scan([]byte(s[i:min(i+piece, len(s))]))
		if end || !ok {
			return end, ok, i + n
		}
	}
	return false, true, len(s)
}

// TestChunksSurviveTheirTranslation: what BDAT carries comes out of the reader
// for DATA as it went in, or is refused for the same reasons.
func TestChunksSurviveTheirTranslation(t *testing.T) {
	everyString(6, func(s string) {
		var c chunkScanner
		stuffed, ok := c.scan(nil, []byte(s))
		if ok {
			stuffed, ok = c.finish(stuffed)
		}
		_, broken := oracle("\r\n", s+"$")
		if ok != (broken < 0) {
			t.Fatalf("%q: accepted %v, but broken at %d", s, ok, broken)
		}
		if !ok {
			return
		}
		var d dotScanner
		n, end, ok := d.scan(stuffed)
		if !end || !ok || n != len(stuffed) {
			t.Fatalf("%q became %q, which ends at %d", s, stuffed, n)
		}
		want := s
		if !strings.HasSuffix(s, "\r\n") {
			want += "\r\n"
		}
		got := strings.TrimSuffix(strings.ReplaceAll("\r\n"+string(stuffed), "\r\n.", "\r\n"), "\r\n")[2:]
		if got != want {
			t.Fatalf("%q came out as %q", s, got)
		}
	})
}
