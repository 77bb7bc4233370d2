package revocation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"directnode/resolver/fetch"
	"directnode/resolver/trust"
)

// list is a revocation list that is kept, under its URL. Its fields are guarded by Service.mu; the CRL itself never changes.
type list struct {
	url        string
	issuer     []byte // DER of the certificate whose key signed it
	thisUpdate time.Time
	until      time.Time
	fetched    time.Time // zero: it is wanted and nobody could fetch it in the time of a question
	used       time.Time
	octets     int64
	crl        *CRL // nil = only on the disk
	verified   map[[32]byte]error
}

// held looks at the lists in memory and on disk for the word revoked: it counts whatever else is said, and however old the list is.
func (q *question) held(urls []string) (trust.RevocationResult, bool) {
	for _, url := range urls[:min(len(urls), maxURLs)] {
		c := q.s.listOf(url, q.now)
		if c == nil || q.s.issued(url, c, q.issuer) != nil {
			continue
		}
		if _, err := c.Covers(q.cert); err != nil {
			continue
		}
		if e, found := c.Find(q.cert.SerialNumber); found {
			r := q.byList(url, c, e, true)
			r.Cached = true
			return r, true
		}
	}
	return trust.RevocationResult{}, false
}

// readLists asks the lists, those that are held and still speak first of all.
func (q *question) readLists(ctx context.Context, urls []string) (trust.RevocationResult, bool) {
	for _, url := range urls {
		if c := q.s.listOf(url, q.now); c != nil && c.speaks(q.at, q.now) == nil {
			if r, ok := q.judge(url, c, true); ok {
				return r, true
			}
		}
	}
	for _, url := range urls {
		if !q.take() {
			break
		}
		c, f := q.s.fetchList(ctx, url, q.issuer, q.now)
		if f.why != "" {
			q.failed("list "+clip(url), f)
			c = q.s.listOf(url, q.now) // an old one may still tell until when it said good
		}
		if c == nil {
			continue
		}
		if r, ok := q.judge(url, c, f.why != ""); ok {
			return r, true
		}
	}
	return trust.RevocationResult{}, false
}

// judge looks the certificate up in a list, after every check (RFC 5280 §6.3.3).
func (q *question) judge(url string, c *CRL, cached bool) (trust.RevocationResult, bool) {
	if err := q.s.issued(url, c, q.issuer); err != nil {
		q.failed("list "+clip(url), failure{why: err.Error(), temporary: true})
		return trust.RevocationResult{}, false
	}
	partial, err := c.Covers(q.cert)
	if err != nil {
		q.failed("list "+clip(url), failure{why: err.Error()})
		return trust.RevocationResult{}, false
	}
	e, found := c.Find(q.cert.SerialNumber)
	current := c.speaks(q.at, q.now)
	switch {
	case found:
	case partial:
		q.failed("list "+clip(url), failure{why: "the list speaks of some reasons only, and nothing else was learned of the others"})
		return trust.RevocationResult{}, false
	case current != nil:
		q.wasGood(c.until())
		q.failed("list "+clip(url), failure{why: current.Error(), temporary: true})
		return trust.RevocationResult{}, false
	}
	r := q.byList(url, c, e, found)
	r.Cached = cached
	return r, true
}

func (q *question) byList(url string, c *CRL, e Entry, found bool) trust.RevocationResult {
	name := "CRL"
	if c.Number != nil {
		name += " " + clip(c.Number.String())
	}
	r := trust.RevocationResult{Status: trust.StatusGood, Source: fmt.Sprintf("%s of %s, %s", name, stamp(c.ThisUpdate), clip(url)), ThisUpdate: c.ThisUpdate, NextUpdate: c.NextUpdate}
	if found {
		r.Status, r.RevokedAt, r.Reason = trust.StatusRevoked, e.At, reasonText(e.Reason)
	}
	return r
}

// listOf gives a list that is kept, out of memory or from the disk, nil if there is none.
func (s *Service) listOf(url string, now time.Time) *CRL {
	s.mu.Lock()
	l := s.lists[url]
	if l == nil || l.fetched.IsZero() {
		s.mu.Unlock()
		return nil
	}
	if now.After(l.used) {
		l.used = now
	}
	c := l.crl
	s.mu.Unlock()
	if c != nil || s.dir == "" {
		return c
	}
	// Read by one for all; the others find it in memory.
	if _, err := s.flight(context.Background(), "read "+url, func() { c = s.readBack(url) }); err != nil || c != nil {
		return c
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.lists[url]; l != nil {
		return l.crl
	}
	return nil
}

// readBack reads a list from the disk. One that is damaged is dropped: it can be fetched again.
func (s *Service) readBack(url string) *CRL {
	c, h, err := s.loadList(url)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lists[url]
	if l == nil {
		return nil
	}
	if err != nil || h.URL != url {
		s.log.Warn("a revocation list that was kept is damaged and will be fetched again", "url", clip(url), "err", err)
		delete(s.lists, url)
		return nil
	}
	s.install(l, c)
	return c
}

// install puts a list into memory and others out of it, those that were used longest ago first. It needs mu.
func (s *Service) install(l *list, c *CRL) {
	l.crl, l.verified = c, map[[32]byte]error{}
	l.thisUpdate, l.until = c.ThisUpdate, c.until()
	if s.dir == "" {
		return
	}
	total := 0
	for _, x := range s.lists {
		if x.crl != nil {
			total += x.crl.memory()
		}
	}
	for total > maxIndexOctets {
		var oldest *list
		for _, x := range s.lists {
			if x.crl != nil && x != l && (oldest == nil || x.used.Before(oldest.used)) {
				oldest = x
			}
		}
		if oldest == nil {
			return
		}
		total -= oldest.crl.memory()
		oldest.crl = nil
	}
}

// issued checks a list against an issuer, once for each.
func (s *Service) issued(url string, c *CRL, issuer *x509.Certificate) error {
	key := sha256.Sum256(issuer.Raw)
	s.mu.Lock()
	l := s.lists[url]
	if l != nil && l.crl == c {
		if err, known := l.verified[key]; known {
			s.mu.Unlock()
			return err
		}
	}
	s.mu.Unlock()
	err := c.Issued(issuer)
	s.mu.Lock()
	defer s.mu.Unlock()
	const issuers = 16 // of one list: a name, two keys, some cross-certificates
	if l := s.lists[url]; l != nil && l.crl == c && len(l.verified) < issuers {
		l.verified[key] = err
	}
	return err
}

// fetchList fetches a list, unless that failed a moment ago, and keeps it if it is one of the issuer's. A failure without a reason is none.
func (s *Service) fetchList(ctx context.Context, url string, issuer *x509.Certificate, now time.Time) (*CRL, failure) {
	key := "list " + url
	if f, ok := s.failing(key, now); ok {
		return nil, f
	}
	if s.fetch == nil {
		return nil, failure{why: "it is not at hand, and nobody asks for it here", temporary: true}
	}
	var c *CRL
	var f failure
	flown, err := s.flight(ctx, key, func() { c, f = s.bring(ctx, url, issuer, now) })
	switch {
	case err != nil:
		return nil, failure{why: "no answer in time", temporary: true}
	case flown:
		return c, f
	}
	if f, ok := s.failing(key, now); ok {
		return nil, f
	}
	if c := s.listOf(url, now); c != nil {
		return c, failure{}
	}
	return nil, failure{why: "somebody else who asked for it gave up", temporary: true}
}

// bring is what fetchList does for all who wait.
func (s *Service) bring(ctx context.Context, url string, issuer *x509.Certificate, now time.Time) (*CRL, failure) {
	c, size, err := s.download(ctx, url, issuer, now)
	if err != nil {
		f := failure{why: clip(reasonOf(err)), temporary: temporary(err), until: now.Add(retryTime)}
		s.remember(ctx, "list "+url, f)
		if ctx.Err() != nil {
			s.want(url, issuer, now)
		}
		return nil, f
	}
	s.forget("list " + url)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lists[url]
	if l == nil {
		l = &list{url: url}
		s.lists[url] = l
	}
	l.issuer, l.fetched, l.used, l.octets = bytes.Clone(issuer.Raw), now, now, size
	s.install(l, c)
	s.log.Info("revocation list fetched", "url", clip(url), "issuer", clip(issuer.Subject.String()), "entries", c.Entries(), "octets", c.Octets, "next_update", c.NextUpdate)
	return c, failure{}
}

// want notes a list that is too slow for a question, so that Refresh fetches it without haste.
func (s *Service) want(url string, issuer *x509.Certificate, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lists[url] == nil && len(s.lists) < maxLists {
		s.lists[url] = &list{url: url, issuer: bytes.Clone(issuer.Raw), used: now}
	}
}

var errOlder = errors.New("the list is older than the one that is held: an old one is being played back, or a server is behind")

// accept says whether a list that was fetched takes the place of the one that is held.
func (s *Service) accept(url string, c *CRL, issuer *x509.Certificate) error {
	if err := c.Issued(issuer); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.lists[url]; l != nil && c.ThisUpdate.Before(l.thisUpdate) && bytes.Equal(l.issuer, issuer.Raw) {
		return errOlder
	}
	return nil
}

func reasonOf(err error) string {
	var e *fetch.Error
	if errors.As(err, &e) {
		return string(e.Outcome) + ", " + e.Detail
	}
	return err.Error()
}

// temporary: what the door did not refuse may be there tomorrow; a list that is wrong may be right again with the next one.
func temporary(err error) bool {
	var e *fetch.Error
	if errors.As(err, &e) {
		return e.Outcome != fetch.Refused
	}
	return true
}
