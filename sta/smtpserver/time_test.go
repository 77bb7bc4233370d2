package smtpserver_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"directnode/internal/mail"
	"directnode/sta/smtpserver"
)

// pace plays a transaction over a pipe in fake time: the client sends piece
// every interval, as often as it can up to n times, and then the end. It
// returns what the server said last and how long it took.
func pace(t *testing.T, b smtpserver.Backend, o smtpserver.Options, piece string, every time.Duration, n int) (last string, took time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- smtpserver.New(b, o).Serve(ctx, h) }()
		ours, theirs := net.Pipe()
		h.next <- theirs
		replies := make(chan string, 100)
		go func() {
			defer close(replies)
			for s := bufio.NewScanner(ours); s.Scan(); {
				replies <- s.Text()
			}
		}()
		for _, line := range []string{"HELO c", "MAIL FROM:<>", "RCPT TO:<bob@b.direct.test>", "DATA"} {
			<-replies
			if _, err := io.WriteString(ours, line+"\r\n"); err != nil {
				t.Fatal(err)
			}
		}
		<-replies
		start := time.Now()
		for range n {
			if _, err := io.WriteString(ours, piece); err != nil {
				break
			}
			time.Sleep(every)
		}
		// The server may be gone; what it said last is the result.
		_, _ = io.WriteString(ours, "\r\n.\r\nQUIT\r\n")
		for r := range replies {
			last = r
			if !strings.HasPrefix(r, "221") {
				took = time.Since(start)
			}
			if strings.HasPrefix(r, "250") {
				break
			}
		}
		ours.Close()
		for range replies {
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return last, took
}

func TestMessagesHaveAMinimumRate(t *testing.T) {
	for _, tc := range []struct {
		name   string
		o      smtpserver.Options
		piece  string
		every  time.Duration
		n      int
		want   string
		within time.Duration
	}{
		{"an octet now and then", smtpserver.Options{}, "x", 10 * time.Second, 1000, "421 4.4.2", 2 * time.Minute},
		{"half the rate", smtpserver.Options{MinRate: 100}, strings.Repeat("x", 50), time.Second, 3600, "421 4.4.2", 3 * time.Minute},
		{"slow enough for a modem", smtpserver.Options{MinRate: 100}, strings.Repeat("x", 101), time.Second, 3000, "250", time.Hour},
		{"longer than a session", smtpserver.Options{MinRate: 100}, strings.Repeat("x", 101), time.Second, 4000, "421 4.4.2", time.Hour + time.Second},
		{"a pause within the time-out", smtpserver.Options{}, strings.Repeat("x", 100000), 2*time.Minute + 59*time.Second, 10, "250", time.Hour},
		{"a pause beyond it", smtpserver.Options{}, strings.Repeat("x", 100000), 3*time.Minute + time.Second, 10, "421 4.4.2", 4 * time.Minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			last, took := pace(t, &store{}, tc.o, tc.piece, tc.every, tc.n)
			if !strings.HasPrefix(last, tc.want) || took > tc.within {
				t.Errorf("%q after %v, want %s within %v", last, took, tc.want, tc.within)
			}
		})
	}
}

func TestSlowBackendIsNotTheClientsFault(t *testing.T) {
	b := &store{onData: func(mail.Envelope, io.Reader) error {
		time.Sleep(10 * time.Minute)
		return nil
	}}
	if last, _ := pace(t, b, smtpserver.Options{}, "x", time.Second, 1); !strings.HasPrefix(last, "250") {
		t.Errorf("%q", last)
	}
}
