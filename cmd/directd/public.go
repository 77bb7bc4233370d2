package main

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"directnode/store"
	"directnode/zones"
)

// Limits of the public HTTP listener.
const (
	// publicConns and publicPerPeer are for clients that fetch one certificate
	// of 2 KB: a cache of a whole organization keeps a few connections.
	publicConns   = 512
	publicPerPeer = 16

	// publicIdle is short: who fetches a certificate needs one.
	publicIdle = 5 * time.Second

	// publicAge is how long a cache may keep a certificate. It never changes
	// under its URL, but it can be withdrawn: the time is that of CERT records.
	publicAge = 30 * time.Minute
)

// public serves what peers fetch by HTTP: certificates that CERT records of
// type IPKIX point to (RFC 4398 §2.1, AS 5.3). There is nothing to list, and
// everything that is not there looks the same.
type public struct {
	view                    func() *store.View
	served, absent, refused atomic.Uint64
}

// ServeHTTP answers one request.
func (p *public) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		p.refused.Add(1)
		w.Header().Set("Allow", "GET, HEAD")
		plainAnswer(w, http.StatusMethodNotAllowed, "only GET and HEAD")
		return
	}
	der, sha, ok := zones.PublishedAt(p.view(), strings.TrimPrefix(r.URL.EscapedPath(), "/"))
	if !ok {
		p.absent.Add(1)
		plainAnswer(w, http.StatusNotFound, "not found")
		return
	}
	p.served.Add(1)
	h := w.Header()
	h.Set("Content-Type", "application/pkix-cert") // RFC 2585 §4.1
	h.Set("ETag", strconv.Quote(sha))
	h.Set("Cache-Control", "public, max-age="+strconv.Itoa(int(publicAge.Seconds())))
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(der)) // conditions and ranges (RFC 9110 §13, §14)
}

// servePublic serves the public listener until ctx ends.
func (n *node) servePublic(ctx context.Context, p *public, l net.Listener, exempt []netip.Prefix) error {
	s := newHTTP(p, n.log)
	s.IdleTimeout = publicIdle
	return serveHTTP(ctx, s, newCapped(l, publicConns, publicPerPeer, exempt))
}
