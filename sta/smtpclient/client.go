package smtpclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"

	"directnode/internal/direct"
)

// Lookup finds the servers of a domain. An error that says NotFound() true
// means that there is authoritatively nothing; any other is temporary.
type Lookup interface {
	MX(ctx context.Context, domain string) ([]*net.MX, error)
	Addrs(ctx context.Context, host string) ([]netip.Addr, error)
}

// TLSMode says what STARTTLS is used for.
type TLSMode int

const (
	// Opportunistic uses STARTTLS where offered, with any certificate, and goes
	// on in clear where not.
	Opportunistic TLSMode = iota
	// Required wants STARTTLS and a certificate for the host that verifies;
	// otherwise not even the sender is named to the server.
	Required
	// Never does not use STARTTLS.
	Never
)

// Options are the operator's choices. Hostname and, for Deliver, Lookup must be set.
type Options struct {
	Hostname  string      // in EHLO; "" for the address literal of the connection
	Port      uint16      // of the domains' servers; 0 for 25
	Lookup    Lookup      // finds them
	Self      []string    // our own names: exchangers at and behind them are left out
	TLS       TLSMode     // Opportunistic
	TLSConfig *tls.Config // roots and such; nil for the system's
	Timeouts  Timeouts
	Log       *slog.Logger // one line per server tried; nil: no log

	// Dial connects to a host:port, by a proxy for example; nil: directly.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Client delivers mail. It has no state between calls and may be used by
// several goroutines.
type Client struct{ o Options }

// New makes a client.
func New(o Options) *Client {
	if o.Port == 0 {
		o.Port = 25
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Timeouts = o.Timeouts.withDefaults()
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	return &Client{o}
}

// Deliver sends a message to the servers of its recipients' domains. The zero
// from is the null path. open gives the message from its start each time; it is
// read once to know it and once for every transfer. The result has one verdict
// for each recipient, nil or an *Error.
func (c *Client) Deliver(ctx context.Context, from direct.Address, to []direct.Address, open func() (io.ReadCloser, error)) []error {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeouts.Total)
	defer cancel()
	j := c.newJob(from, to, open)
	for _, domain := range j.domains() {
		j.only = domain
		if err := c.deliverTo(ctx, j, domain.String()); err != nil {
			j.settle(err)
		}
	}
	return j.verdicts
}

// Submit sends a message to one given server, host:port.
func (c *Client) Submit(ctx context.Context, addr string, from direct.Address, to []direct.Address, open func() (io.ReadCloser, error)) []error {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeouts.Total)
	defer cancel()
	j := c.newJob(from, to, open)
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		j.settle(&Error{addr, StepLookup, err})
		return j.verdicts
	}
	failed := j.unreadable(host)
	if failed == nil {
		failed = c.tryServer(ctx, j, host, addr)
	}
	if failed != nil {
		j.settle(failed)
	}
	return j.verdicts
}

// deliverTo tries the servers of a domain in order until the recipients there
// have their verdicts. Its error is for those that have none.
func (c *Client) deliverTo(ctx context.Context, j *job, domain string) *Error {
	if err := j.unreadable(domain); err != nil {
		return err
	}
	hosts, failed := c.route(ctx, domain)
	if failed != nil {
		return failed
	}
	var last *Error
	for _, host := range hosts {
		addrs, err := c.addresses(ctx, host)
		if err != nil {
			last = preferTemporary(last, err)
			continue
		}
		for _, a := range addrs {
			err := c.tryServer(ctx, j, host, netip.AddrPortFrom(a, c.o.Port).String())
			if err == nil || !err.nextHost() {
				return err
			}
			last = preferTemporary(last, err)
			if ctx.Err() != nil {
				return &Error{host, err.Step, fmt.Errorf("no time left: %w", err.Err)}
			}
		}
	}
	return last
}

// preferTemporary keeps of two failures the one that leaves hope: a domain is
// undeliverable only if all its hosts say so.
func preferTemporary(a, b *Error) *Error {
	if a == nil || b.Temporary() {
		return b
	}
	return a
}

// tryServer makes one attempt at one address. Verdicts that the server gives go
// into the job; the error is for the recipients that got none.
func (c *Client) tryServer(ctx context.Context, j *job, host, addr string) *Error {
	before := j.left()
	s, err := c.connect(ctx, host, addr)
	if err == nil {
		defer s.quit()
		for err == nil && j.left() > 0 {
			err = s.transaction(j)
		}
	}
	after := j.left()
	args := []any{"host", host, "addr", addr, "recipients", before, "settled", before - after}
	if s != nil {
		args = append(args, "tls", s.tlsVersion)
	}
	if err != nil {
		args = append(args, "step", string(err.Step), "error", err.Err.Error())
	}
	c.o.Log.Info("smtp delivery", args...)
	return err
}

// connect makes a session that is ready for MAIL. Where opportunistic TLS breaks
// down, the second attempt goes in clear.
func (c *Client) connect(ctx context.Context, host, addr string) (*session, *Error) {
	s, err := c.open(ctx, host, addr, c.o.TLS)
	if err != nil && errors.Is(err, errHandshake) && c.o.TLS == Opportunistic && ctx.Err() == nil {
		c.o.Log.Info("smtp: TLS failed, going on in clear", "host", host, "addr", addr, "error", err.Err.Error())
		s, err = c.open(ctx, host, addr, Never)
	}
	return s, err
}
