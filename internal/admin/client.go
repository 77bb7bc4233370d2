package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
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
	body, err := json.Marshal(req)
	if err != nil {
		return fmt.Errorf("order %s: %w", name, err)
	}
	res, err := c.post(ctx, name, bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(ans); err != nil {
		return &Error{"DN-ADMIN-004", CodeTemporary, "the daemon's answer to " + name + " broke off", err.Error(), "look at the daemon's log and try again"}
	}
	return nil
}

// Backup copies a backup of the store to w.
func (c *Client) Backup(ctx context.Context, w io.Writer) error {
	res, err := c.post(ctx, "backup", http.NoBody)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, err = io.Copy(w, res.Body)
	return err
}

// Restore hands a backup over.
func (c *Client) Restore(ctx context.Context, r io.Reader) (Done, error) {
	var done Done
	res, err := c.post(ctx, "restore", r)
	if err != nil {
		return done, err
	}
	defer res.Body.Close()
	return done, json.NewDecoder(res.Body).Decode(&done)
}

func (c *Client) post(ctx context.Context, name string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://directd/v1/"+name, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := c.http.Do(req)
	if err != nil {
		return nil, &Error{"DN-ADMIN-003", CodeTemporary, "the daemon does not answer", fmt.Sprintf("socket %s: %v", c.socket, unwrapAll(err)), "start directd, or name its socket with --socket or its configuration with --config"}
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
