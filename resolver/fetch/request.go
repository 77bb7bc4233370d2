package fetch

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// request is one question with where its answer goes.
type request struct {
	kind        Kind
	rule        rule
	url         string
	to          io.Writer
	content     []byte // of a POST; nil for a GET
	contentType string
}

// request asks, follows redirects, and copies the body. The error is nil or an *Error.
func (d *Door) request(ctx context.Context, q request) (Evidence, error) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, q.rule.time)
	defer cancel()
	ev := Evidence{Kind: q.kind, URL: clip(q.url), At: start}
	err := d.follow(ctx, q, &ev)
	ev.Elapsed = time.Since(start)
	ev.Outcome = OK
	if err != nil {
		ev.Outcome, ev.Detail = err.Outcome, err.Detail
	}
	d.mu.Lock()
	d.count(q.kind, ev.Outcome)
	d.mu.Unlock()
	d.log.DebugContext(ctx, "fetch", "kind", string(q.kind), "url", ev.URL, "addr", ev.Addr, "outcome", string(ev.Outcome), "octets", ev.Octets, "ms", ev.Elapsed.Milliseconds(), "detail", ev.Detail)
	if err != nil {
		return ev, err
	}
	return ev, nil
}

// follow goes from redirect to redirect. Each is a URL like the first: a server that is public today must not send us to one that is
// not.
func (d *Door) follow(ctx context.Context, q request, ev *Evidence) *Error {
	raw, secure := q.url, false
	for hops := 0; ; hops++ {
		if hops > maxRedirects {
			return &Error{URL: q.url, Outcome: BadAnswer, Detail: fmt.Sprintf("more than %d redirects", maxRedirects)}
		}
		t, fault := parseTarget(raw, d.https || q.rule.https)
		if fault != nil {
			fault.URL = q.url
			if hops > 0 {
				fault.Detail = "redirect to " + clip(raw) + ": " + fault.Detail
			}
			return fault
		}
		if secure && !t.tls {
			return refused(q.url, "redirect from https to http")
		}
		secure = t.tls
		if !spend(ctx) {
			return &Error{URL: q.url, Outcome: Budget, Detail: "everything that may be fetched for one decision has been"}
		}
		next, fault := d.hop(ctx, q, t, ev)
		if fault != nil || next == "" {
			return fault
		}
		raw = next
		ev.Redirects = append(ev.Redirects, clip(raw))
	}
}

// hop makes one request. It gives the URL of a redirect, or nothing when the body has been taken.
func (d *Door) hop(ctx context.Context, q request, t target, ev *Evidence) (next string, fault *Error) {
	addrs, fault := d.resolve(ctx, q.url, t)
	if fault != nil {
		return "", fault
	}
	leave, fault := d.enter(ctx, q.url, t)
	if fault != nil {
		return "", fault
	}
	reached := false
	defer func() { leave(reached) }()
	transport := d.transport(q.url, t, addrs, ev)
	defer transport.CloseIdleConnections()
	req, err := q.message(ctx, t)
	if err != nil {
		return "", refused(q.url, "it does not make a request")
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		if e := ctx.Err(); e != nil {
			err = e
		}
		return "", failed(q.url, err)
	}
	defer resp.Body.Close()
	reached = true
	ev.Status, ev.ContentType = resp.StatusCode, clip(resp.Header.Get("Content-Type"))
	if next, fault := q.redirect(resp); next != "" || fault != nil {
		return next, fault
	}
	return "", q.take(ctx, resp, ev)
}

// resolve gives the addresses of a host after all of them were looked at: one that is forbidden refuses the host, for a name that means
// well has none.
func (d *Door) resolve(ctx context.Context, url string, t target) ([]netip.AddrPort, *Error) {
	addrs := []netip.Addr{t.addr}
	if !t.addr.IsValid() {
		var err error
		if addrs, err = d.lookup(ctx, t.host); err != nil {
			return nil, lookupFailed(ctx, url, t.host, err)
		}
		if len(addrs) == 0 {
			return nil, &Error{URL: url, Outcome: Absent, Detail: clip(t.host) + " has no address"}
		}
	}
	out := make([]netip.AddrPort, 0, len(addrs))
	for _, a := range addrs {
		ap := netip.AddrPortFrom(a, t.port)
		if why := d.addresses.check(ap); why != "" {
			return nil, refused(url, "%s: %s", clip(t.host), why)
		}
		out = append(out, ap)
	}
	return out[:min(len(out), maxAddresses)], nil
}

// lookupFailed tells a name that is not there from one that could not be looked up.
func lookupFailed(ctx context.Context, url, host string, err error) *Error {
	if ctx.Err() != nil {
		return failed(url, ctx.Err())
	}
	e := &Error{URL: url, Outcome: Unreachable, Detail: "the address of " + clip(host) + " could not be looked up: " + clip(err.Error()), Err: err}
	var absent interface{ NotFound() bool } // of package resolver
	var system *net.DNSError
	if errors.As(err, &absent) && absent.NotFound() || errors.As(err, &system) && system.IsNotFound {
		e.Outcome, e.Detail = Absent, clip(host)+" has no address"
	}
	return e
}

// transport makes the connection of one hop: to the addresses that were looked at, and nowhere else.
func (d *Door) transport(url string, t target, addrs []netip.AddrPort, ev *Evidence) *http.Transport {
	dialer := &net.Dialer{Timeout: connectTime, ControlContext: d.guard}
	return &http.Transport{
		Proxy: nil, // never that of the environment
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var last error
			for _, ap := range addrs {
				c, err := dialer.DialContext(ctx, "tcp", ap.String())
				if err == nil {
					ev.Addr = ap.String()
					return c, nil
				}
				if last = err; ctx.Err() != nil {
					break
				}
			}
			return nil, last
		},
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.host, RootCAs: d.roots},
		TLSHandshakeTimeout:    handshakeTime,
		ResponseHeaderTimeout:  headTime,
		MaxResponseHeaderBytes: maxHeader,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{}, // HTTP/1.1 only: the smaller parser
	}
}

// guard is asked by the dialer with the address that the socket is about to connect to. It has been checked before; this is the last
// place at which a mistake above would show.
func (d *Door) guard(_ context.Context, network, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil || network != "tcp4" && network != "tcp6" {
		return refused(address, "%.60s %.60s is no address", network, address)
	}
	if why := d.addresses.check(ap); why != "" {
		return refused(address, "%s", why)
	}
	return nil
}

// message builds the request: nothing of ours but the name of the program goes out.
func (q request) message(ctx context.Context, t target) (*http.Request, error) {
	method, body := http.MethodGet, io.Reader(nil)
	if q.content != nil {
		method, body = http.MethodPost, bytes.NewReader(q.content)
	}
	req, err := http.NewRequestWithContext(ctx, method, t.url.String(), body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "directnode")
	req.Header.Set("Accept", q.rule.accept+", */*;q=0.5")
	if q.content != nil {
		req.Header.Set("Content-Type", q.contentType)
	}
	return req, nil
}

// redirect gives where a response sends us. A POST follows only what keeps it a POST (RFC 9110 §15.4.8, §15.4.9).
func (q request) redirect(resp *http.Response) (string, *Error) {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther:
		if q.content != nil {
			return "", &Error{URL: q.url, Outcome: BadAnswer, Detail: fmt.Sprintf("status %d to a POST", resp.StatusCode)}
		}
	case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return "", nil
	}
	to, err := resp.Location()
	if err != nil {
		return "", &Error{URL: q.url, Outcome: BadAnswer, Detail: fmt.Sprintf("status %d without a place to go", resp.StatusCode)}
	}
	return to.String(), nil
}

// take copies the body within its limit.
func (q request) take(ctx context.Context, resp *http.Response, ev *Evidence) *Error {
	bad := func(o Outcome, format string, args ...any) *Error {
		return &Error{URL: q.url, Outcome: o, Detail: fmt.Sprintf(format, args...)}
	}
	switch coding := strings.ToLower(strings.TrimSpace(resp.Header.Get("Content-Encoding"))); {
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone:
		return bad(Absent, "status %d", resp.StatusCode)
	case resp.StatusCode != http.StatusOK:
		return bad(BadAnswer, "status %d", resp.StatusCode)
	case coding != "" && coding != "identity":
		// RFC 9110 §12.5.3: we asked for none. Undoing it is how 10 KiB become 10 GiB.
		return bad(BadAnswer, "it is compressed (%.20q), which nobody asked for", coding)
	case resp.ContentLength > q.rule.octets:
		return bad(TooLarge, "%d octets, at most %d", resp.ContentLength, q.rule.octets)
	}
	n, err := io.Copy(q.to, io.LimitReader(resp.Body, q.rule.octets+1))
	ev.Octets = n
	switch {
	case n > q.rule.octets:
		return bad(TooLarge, "more than %d octets", q.rule.octets)
	case ctx.Err() != nil:
		return failed(q.url, ctx.Err())
	case err != nil:
		return failed(q.url, err)
	case n == 0:
		return bad(BadAnswer, "an empty answer")
	}
	return nil
}
