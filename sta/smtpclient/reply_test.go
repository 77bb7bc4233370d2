package smtpclient

import (
	"bufio"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestReplies(t *testing.T) {
	for _, tc := range []struct {
		in, want string
		err      error
	}{
		{"250 ok\r\n", "250 ok", nil},
		{"250\r\n", "250 ", nil},
		{"250 \r\n", "250 ", nil},
		{"250-a\r\n250-b\r\n250 c\r\n", "250 a b c", nil},
		{"250-a\r\n250\r\n", "250 a", nil},
		{"550 5.1.1 no\r\n", "550 5.1.1 no", nil},
		{"550-5.1.1 no\r\n550 5.1.1 such\r\n", "550 5.1.1 no such", nil},
		{"550 4.1.1 class differs\r\n", "550 4.1.1 class differs", nil},
		{"550 5.1.1\r\n", "550 5.1.1 ", nil},
		{"550 5.1.1x no\r\n", "550 5.1.1x no", nil},
		{"550 5.1.1000 no\r\n", "550 5.1.1000 no", nil},
		{"550 5..1 no\r\n", "550 5..1 no", nil},
		{"550 \xe4\x00\r\n", "550 ??", nil},
		{"250 " + strings.Repeat("x", 994) + "\r\n", "250 " + strings.Repeat("x", maxText), nil},
		{"250 " + strings.Repeat("x", 995) + "\r\n", "", errReplyLength},
		{strings.Repeat("250-x\r\n", 99) + "250 x\r\n", "250 " + strings.TrimSpace(strings.Repeat("x ", 100)), nil},
		{strings.Repeat("250-x\r\n", 100) + "250 x\r\n", "", errReplyLength},
		{"250_a\r\n", "", errReplyLine},
		{"25\r\n", "", errReplyLine},
		{"\r\n", "", errReplyLine},
		{"2x0 a\r\n", "", errReplyLine},
		{"150 a\r\n", "", errReplyLine},
		{"600 a\r\n", "", errReplyLine},
		{"250-a\r\n251 b\r\n", "", errReplyLine},
	} {
		r, err := readReply(bufio.NewReader(strings.NewReader(tc.in)))
		if !errors.Is(err, tc.err) {
			t.Errorf("%.40q: error %v, want %v", tc.in, err, tc.err)
			continue
		}
		if err == nil && r.mail().Error() != tc.want {
			t.Errorf("%.40q: %q, want %q", tc.in, r.mail().Error(), tc.want)
		}
	}
}

func TestCutShortReplyIsAnError(t *testing.T) {
	for _, in := range []string{"", "250", "250 ok", "250-a\r\n", "250-a\r\n250"} {
		if r, err := readReply(bufio.NewReader(strings.NewReader(in))); err == nil {
			t.Errorf("%q: %v", in, r)
		}
	}
}

// FuzzReply reads anything: no panic, and what passes for a reply is bounded,
// printable and survives being written and read again.
func FuzzReply(f *testing.F) {
	for _, s := range []string{"250 ok\r\n", "250-a\r\n250 b\r\n", "550 5.1.1 no\n", "421\r\n", "250-PIPELINING\r\n250-SIZE 1\r\n250 x\r\n", "220 \x00\xff\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		r, err := readReply(bufio.NewReader(strings.NewReader(in)))
		if err != nil {
			return
		}
		m := r.mail()
		if r.code < 200 || r.code > 599 || len(r.lines) > maxReplyLines || len(m.Text) > maxText || printable(m.Text) != m.Text {
			t.Fatalf("%q read as %+v", in, m)
		}
		back, err := readReply(bufio.NewReader(strings.NewReader(fmt.Sprintf("%s\r\n", m.Error()))))
		if err != nil || back.mail().Code != m.Code {
			t.Fatalf("%q came back as %+v, %v", m.Error(), back, err)
		}
	})
}
