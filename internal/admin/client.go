package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
)

// Client gives orders to a daemon over its admin socket.
type Client struct {
	socket string
	http   http.Client
}

// NewClient makes a client of the daemon behind a Unix socket.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, http: http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Do gives an order and decodes the answer into ans. Errors are *Error.
func (c *Client) Do(ctx context.Context, name string, req, ans any) error {
	if r, ok := req.(ImportRequest); ok && r.size() > maxBody*3/4 { // Base64 makes four octets of three
		return tooLarge(name)
	}
	body, err := json.Marshal(req)
	if err != nil {
		return &Error{"DN-ADMIN-002", CodeBug, "the order " + name + " was not given", err.Error(), "report it with the command line"}
	}
	if len(body) > maxBody {
		return tooLarge(name)
	}
	res, err := c.post(ctx, name, bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	return c.decode(ctx, name, res.Body, ans)
}

// Backup copies a backup of the store to w. Errors of the daemon are *Error,
// those of w are its own.
func (c *Client) Backup(ctx context.Context, w io.Writer) error {
	return c.copy(ctx, "backup", http.NoBody, w)
}

// Export copies an exported text to w: zone.export, ldif.export. Errors are as
// with Backup.
func (c *Client) Export(ctx context.Context, name string, req ExportRequest, w io.Writer) error {
	body, err := json.Marshal(req)
	if err != nil {
		return &Error{"DN-ADMIN-002", CodeBug, "the order " + name + " was not given", err.Error(), "report it with the command line"}
	}
	return c.copy(ctx, "text/"+name, bytes.NewReader(body), w)
}

func (c *Client) copy(ctx context.Context, name string, body io.Reader, w io.Writer) error {
	res, err := c.post(ctx, name, body)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer := &noted{r: res.Body}
	if _, err = io.Copy(w, answer); answer.err != nil {
		return c.brokenOff(ctx, name, answer.err)
	}
	return err
}

// noted keeps the error of a reader apart from that of the writer it is copied
// to.
type noted struct {
	r   io.Reader
	err error
}

func (n *noted) Read(p []byte) (int, error) {
	k, err := n.r.Read(p)
	if err != nil && err != io.EOF {
		n.err = err
	}
	return k, err
}

// Restore hands a backup over. Errors are *Error.
func (c *Client) Restore(ctx context.Context, r io.Reader) (Done, error) {
	var done Done
	res, err := c.post(ctx, "restore", r)
	if err != nil {
		return done, err
	}
	defer res.Body.Close()
	return done, c.decode(ctx, "restore", res.Body, &done)
}

func (c *Client) decode(ctx context.Context, name string, body io.Reader, ans any) error {
	if err := json.NewDecoder(body).Decode(ans); err != nil {
		return c.brokenOff(ctx, name, err)
	}
	return nil
}

func (c *Client) post(ctx context.Context, name string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://directd/v1/"+name, body)
	if err != nil {
		return nil, &Error{"DN-ADMIN-002", CodeBug, "the order " + name + " was not given", err.Error(), "report it with the command line"}
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.brokenOff(ctx, name, err)
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer res.Body.Close()
	var answer struct{ Error *Error }
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&answer); err != nil || answer.Error == nil {
		return nil, &Error{"DN-ADMIN-004", CodeTemporary, "the daemon's answer to " + name + " was not understood", res.Status, "use a directctl of the daemon's version"}
	}
	return nil, answer.Error
}

// brokenOff says how far an order came that has no answer: it decides whether
// the operator starts the daemon, looks at its log, or looks at what was done.
func (c *Client) brokenOff(ctx context.Context, name string, err error) error {
	where := fmt.Sprintf("socket %s: %v", c.socket, unwrapAll(err))
	var dial *net.OpError
	switch {
	case errors.As(err, &dial) && dial.Op == "dial" && errors.Is(err, fs.ErrPermission):
		return &Error{"DN-ADMIN-003", CodeTemporary, "the daemon cannot be asked", where, "run directctl as the user that directd runs as"}
	case errors.As(err, &dial) && dial.Op == "dial":
		return &Error{"DN-ADMIN-003", CodeTemporary, "the daemon does not answer", where, "start directd, or name its socket with --socket or its configuration with --config"}
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &Error{"DN-ADMIN-005", CodeTemporary, "there is no answer to " + name + " within the time", "the daemon is still at work, and the order may have been carried out", "look at what is there, then give it again with a longer --timeout"}
	case ctx.Err() != nil:
		return &Error{"DN-ADMIN-005", CodeTemporary, "the order " + name + " was interrupted", "the daemon had it already, and it may have been carried out", "look at what is there before you give it again"}
	}
	return &Error{"DN-ADMIN-004", CodeTemporary, "the daemon's answer to " + name + " broke off", where, "look at the daemon's log, and at what is there, before you give it again"}
}

// unwrapAll gives the innermost error: the URL that net/http puts around it
// says nothing to an operator.
func unwrapAll(err error) error {
	for {
		u, ok := err.(interface{ Unwrap() error })
		if !ok || u.Unwrap() == nil {
			return err
		}
		err = u.Unwrap()
	}
}
