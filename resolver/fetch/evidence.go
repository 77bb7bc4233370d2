package fetch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

// Outcome says in a word what came of a fetch. The words are labels of a metric.
type Outcome string

// The outcomes.
const (
	OK          Outcome = "ok"
	Cached      Outcome = "cached"      // answered without asking, with an answer or with the failure of a moment ago
	Refused     Outcome = "refused"     // by the rules of the door: nothing was sent
	Absent      Outcome = "absent"      // the server, or the DNS, says that there is no such thing
	Unreachable Outcome = "unreachable" // no connection, or it broke
	TimedOut    Outcome = "timeout"
	TooLarge    Outcome = "too_large"
	BadAnswer   Outcome = "bad_answer" // a status or a form that is no answer
	Budget      Outcome = "budget"     // the discovery has fetched enough
	Backoff     Outcome = "backoff"    // the host is left alone for a while
)

// Evidence is what a fetch leaves for those who want to know later.
type Evidence struct {
	Kind        Kind
	URL         string        // as it was asked for
	Addr        string        // address and port that answered last; empty if nobody was asked
	Redirects   []string      // the URLs behind it, in order
	Status      int           // of HTTP, of the last answer
	ContentType string        // as sent; nothing depends on it
	Octets      int64         // of the body
	Elapsed     time.Duration // since Get was called
	At          time.Time     // when the answer was taken, which may be before the call
	Outcome     Outcome
	Detail      string
}

// Error is why there is no body.
type Error struct {
	URL     string
	Outcome Outcome
	Detail  string
	Err     error // may be nil
}

func (e *Error) Error() string {
	return fmt.Sprintf("fetch %s: %s: %s", clip(e.URL), e.Outcome, e.Detail)
}

// Unwrap gives what is below.
func (e *Error) Unwrap() error { return e.Err }

// Temporary tells whether the same URL may give an answer later: all but a refusal of ours and a plain "there is none".
func (e *Error) Temporary() bool { return e.Outcome != Refused && e.Outcome != Absent }

func refused(url, format string, args ...any) *Error {
	return &Error{URL: url, Outcome: Refused, Detail: fmt.Sprintf(format, args...)}
}

// clip bounds what strangers wrote and takes what a terminal would obey out of it.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r > 0xffff {
			return '?'
		}
		return r
	}, s)
	if len(s) > maxDetail {
		s = strings.ToValidUTF8(s[:maxDetail], "") + "…"
	}
	return s
}

// failed sorts an error of the network.
func failed(url string, err error) *Error {
	var e *Error
	var timeout net.Error
	switch {
	case errors.As(err, &e):
		return &Error{URL: url, Outcome: e.Outcome, Detail: e.Detail, Err: e.Err}
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return &Error{URL: url, Outcome: TimedOut, Detail: "no answer in time", Err: err}
	}
	return &Error{URL: url, Outcome: Unreachable, Detail: clip(err.Error()), Err: err}
}

// budgetKey is the context key of a budget.
type budgetKey struct{}

// WithBudget bounds the requests that everything below ctx may send: one discovery, one message. A redirect counts as one. What the
// cache answers costs nothing. Without a budget there is none.
func WithBudget(ctx context.Context, requests int) context.Context {
	n := new(atomic.Int64)
	n.Store(int64(requests))
	return context.WithValue(ctx, budgetKey{}, n)
}

// spend takes one request from the budget.
func spend(ctx context.Context) bool {
	n, ok := ctx.Value(budgetKey{}).(*atomic.Int64)
	return !ok || n.Add(-1) >= 0
}
