package admin

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"time"

	"directnode/internal/direct"
	"directnode/resolver/fetch"
	"directnode/resolver/trust"
	"directnode/store"
)

// FetchFunc fetches a trust bundle by its URL through the node's door to HTTP. Its error is a *fetch.Error.
type FetchFunc func(ctx context.Context, url string) ([]byte, error)

// minRefresh is more often than any publisher changes its bundle; a day is customary.
const minRefresh = 5 * time.Minute

// BundleRequest adds, refreshes or removes a trust bundle of a domain.
type BundleRequest struct {
	Domain   string `json:"domain"`
	Name     string `json:"name"`
	URL      string `json:"url,omitempty"`      // add
	File     File   `json:"file,omitempty"`     // add: instead of a URL
	Signer   File   `json:"signer,omitempty"`   // add: the certificate that signs it
	Refresh  string `json:"refresh,omitempty"`  // add: how often it is fetched, such as 24h; empty: 24h with a URL; 0: never
	Insecure bool   `json:"insecure,omitempty"` // add: by http and not signed
	In       bool   `json:"in,omitempty"`
	Out      bool   `json:"out,omitempty"`
	DryRun   bool   `json:"dry_run,omitempty"` // add, refresh: show the difference and change nothing
}

// Bundle is a trust bundle of a domain.
type Bundle struct {
	Domain  string    `json:"domain"`
	Name    string    `json:"name"`
	URL     string    `json:"url,omitempty"`
	In      bool      `json:"in"`
	Out     bool      `json:"out"`
	Signer  string    `json:"signer,omitempty"` // subject of the pinned certificate
	Refresh string    `json:"refresh"`          // empty: never
	Anchors int       `json:"anchors"`
	Changed time.Time `json:"changed"`
	Checked time.Time `json:"checked,omitzero"` // since the daemon started
	Error   string    `json:"error,omitempty"`  // of the last look; the anchors stay as they were
}

// BundleDiff says what a bundle changes, or would change.
type BundleDiff struct {
	Bundle
	Added   []Anchor `json:"added"`
	Removed []Anchor `json:"removed"`
	Kept    int      `json:"kept"`
	Skipped int      `json:"skipped,omitempty"` // elements of the bundle that are no certificates that can be read
	DryRun  bool     `json:"dry_run,omitempty"`
	Code    int      `json:"code"`
}

// looks is when each bundle was looked at last and what came of it. It lives as long as the daemon.
type looks struct {
	mu sync.Mutex
	at map[string]look
}

type look struct {
	at  time.Time
	err string
}

func (l *looks) note(key string, at time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at == nil {
		l.at = make(map[string]look)
	}
	n := look{at: at}
	if err != nil {
		n.err = err.Error()
	}
	l.at[key] = n
}

func (l *looks) of(key string) look {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at[key]
}

func bundleID(d direct.Domain, name string) string { return d.String() + "/" + name }

// AddBundle makes the certificates of a trust bundle anchors of a domain (AS 4.2.1), and keeps them as the bundle has them.
func (s *Service) AddBundle(ctx context.Context, req BundleRequest) (BundleDiff, error) {
	const what = "no bundle was added"
	_, data, err := s.domainData(req.Domain)
	if err != nil {
		return BundleDiff{}, err
	}
	b, err := newBundle(req)
	if err != nil {
		return BundleDiff{}, err
	}
	if data.Bundle(req.Name) != nil {
		return BundleDiff{}, &Error{"DN-BUNDLE-004", CodeFailed, what, fmt.Sprintf("%s has a bundle %q already", data.Domain, req.Name), "remove it first, or give this one another name"}
	}
	body := req.File.Data
	if b.URL != "" {
		if body, err = s.fetchBundle(ctx, b.URL); err != nil {
			return BundleDiff{}, bundleFailure(what, err)
		}
	}
	at := time.Now()
	diff, err := s.takeBundle(ctx, what, data.Domain, b, body, req.DryRun, at)
	if err == nil && !req.DryRun && b.URL != "" {
		s.looks.note(bundleID(data.Domain, b.Name), at, nil)
		diff.Checked = at
	}
	return diff, err
}

// newBundle holds a request against what is safe.
func newBundle(req BundleRequest) (store.Bundle, error) {
	b := store.Bundle{Name: req.Name, URL: req.URL, In: req.In, Out: req.Out, Insecure: req.Insecure}
	if !b.In && !b.Out {
		b.In, b.Out = true, true
	}
	refuse := func(why, do string) (store.Bundle, error) {
		return b, &Error{"DN-BUNDLE-001", CodeUsage, "no bundle was added", why, do}
	}
	if (req.URL == "") == (len(req.File.Data) == 0) {
		return refuse("a bundle comes from a URL or from a file", "give one of them")
	}
	if len(req.Signer.Data) > 0 {
		list := classify(req.Signer, "")
		if len(list) != 1 || list[0].cert == nil {
			return refuse(req.Signer.Name+" is not one certificate", "give the certificate that signs the bundle, as PEM or DER")
		}
		b.Signer = list[0].cert.Raw
	}
	if req.URL == "" {
		return b, nil
	}
	u, err := url.Parse(req.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return refuse(fmt.Sprintf("%.100q is no URL of a bundle", req.URL), "write it like https://bundle.example.org/anchors.p7b")
	}
	if u.Scheme == "http" && b.Signer == nil && !b.Insecure {
		return refuse("by http anybody on the way could add anchors to a bundle that is not signed", "give an https URL, pin the signer of a signed bundle with --signer, or say --insecure")
	}
	b.Refresh = 24 * time.Hour
	if req.Refresh != "" {
		if b.Refresh, err = time.ParseDuration(req.Refresh); err != nil || b.Refresh != 0 && b.Refresh < minRefresh || b.Refresh%time.Second != 0 {
			return refuse(fmt.Sprintf("%.20q is no time between refreshes", req.Refresh), "write it like 24h; at least "+minRefresh.String()+", or 0 for never")
		}
	}
	return b, nil
}

// RefreshBundles fetches the bundles of a domain again, or the one of a name. Whatever goes wrong with one leaves its anchors as they are.
func (s *Service) RefreshBundles(ctx context.Context, req BundleRequest) ([]BundleDiff, error) {
	v, domains, err := s.chosen(req.Domain)
	if err != nil {
		return nil, err
	}
	list := []BundleDiff{}
	for _, d := range domains {
		for _, b := range v.Domain(d).Bundles {
			if b.URL == "" || req.Name != "" && b.Name != req.Name {
				continue
			}
			diff, err := s.RefreshBundle(ctx, d, b.Name, req.DryRun, time.Now())
			if err != nil {
				diff = BundleDiff{Bundle: s.shownBundle(d, b), Added: []Anchor{}, Removed: []Anchor{}, Code: CodeFailed}
				diff.Error = err.Error()
			}
			list = append(list, diff)
		}
	}
	if len(list) == 0 {
		return nil, &Error{"DN-BUNDLE-003", CodeFailed, "nothing was refreshed", "there is no such bundle with a URL", "`directctl bundle list` shows them"}
	}
	return list, nil
}

// RefreshBundle fetches one bundle again and replaces its anchors at once, or none of them.
func (s *Service) RefreshBundle(ctx context.Context, d direct.Domain, name string, dryRun bool, at time.Time) (BundleDiff, error) {
	const what = "the bundle stays as it is"
	data := s.store.View().Domain(d)
	if data == nil || data.Bundle(name) == nil {
		return BundleDiff{}, &Error{"DN-BUNDLE-003", CodeFailed, what, "it is not there any more", "`directctl bundle list` shows those there are"}
	}
	b := *data.Bundle(name)
	body, err := s.fetchBundle(ctx, b.URL)
	var diff BundleDiff
	if err != nil {
		err = bundleFailure(what, err)
	} else {
		diff, err = s.takeBundle(ctx, what, d, b, body, dryRun, at)
	}
	if !dryRun {
		s.looks.note(bundleID(d, name), at, err)
		diff.Checked, diff.Error = at, ""
	}
	if err != nil {
		s.o.Log.Warn("a trust bundle was not refreshed; its anchors stay", "domain", d.String(), "bundle", name, "url", b.URL, "err", err)
	}
	return diff, err
}

func (s *Service) fetchBundle(ctx context.Context, url string) ([]byte, error) {
	if s.o.Fetch == nil {
		return nil, errors.New("the node has no door to HTTP")
	}
	return s.o.Fetch(ctx, url)
}

// takeBundle verifies a bundle and puts its anchors into the place of those that are there.
func (s *Service) takeBundle(ctx context.Context, what string, d direct.Domain, b store.Bundle, body []byte, dryRun bool, at time.Time) (BundleDiff, error) {
	var signer *x509.Certificate
	if b.Signer != nil {
		var err error
		if signer, err = x509.ParseCertificate(b.Signer); err != nil {
			return BundleDiff{}, bundleFailure(what, err)
		}
	}
	parsed, err := trust.ParseBundle(body, signer, at)
	if err != nil {
		return BundleDiff{}, bundleFailure(what, err)
	}
	was := b.Anchors
	b.Anchors = nil
	for _, c := range parsed.Certificates {
		b.Anchors = append(b.Anchors, store.BundleAnchor{DER: c.Raw})
	}
	var next *store.Bundle
	err = s.change(ctx, dryRun, func(tx *store.Tx) error {
		if data := tx.Domain(d); data == nil || len(was) > 0 && data.Bundle(b.Name) == nil {
			return &Error{"DN-BUNDLE-003", CodeFailed, what, "it was removed meanwhile", "nothing needs to be done"}
		}
		changed, err := tx.SetBundle(d, b)
		if err != nil {
			return err
		}
		next = tx.Domain(d).Bundle(b.Name)
		if !changed {
			return errNothing
		}
		return nil
	})
	if err != nil {
		var ours *Error
		if errors.As(err, &ours) {
			return BundleDiff{}, err
		}
		return BundleDiff{}, storeFailure(what, err)
	}
	diff := differ(d, was, next)
	diff.Bundle, diff.Skipped, diff.DryRun = s.shownBundle(d, next), parsed.Skipped, dryRun
	if parsed.Skipped > 0 {
		diff.Code = CodeWarnings
	}
	if !dryRun && len(diff.Added)+len(diff.Removed) > 0 {
		s.o.Log.Info("trust anchors of a bundle changed", "domain", d.String(), "bundle", b.Name, "added", fingerprintsOf(diff.Added), "removed", fingerprintsOf(diff.Removed))
	}
	return diff, nil
}

func fingerprintsOf(list []Anchor) []string {
	out := make([]string, 0, len(list))
	for _, a := range list {
		out = append(out, a.SHA256)
	}
	return out
}

// differ lists what came and went.
func differ(d direct.Domain, was []store.BundleAnchor, next *store.Bundle) BundleDiff {
	diff := BundleDiff{Added: []Anchor{}, Removed: []Anchor{}}
	missing := func(list []store.BundleAnchor, a store.BundleAnchor) bool {
		return !slices.ContainsFunc(list, func(x store.BundleAnchor) bool { return x.SHA256 == a.SHA256 })
	}
	for _, a := range next.Anchors {
		if missing(was, a) {
			diff.Added = append(diff.Added, shownBundleAnchor(d, next, a))
		} else {
			diff.Kept++
		}
	}
	for _, a := range was {
		if missing(next.Anchors, a) {
			diff.Removed = append(diff.Removed, shownBundleAnchor(d, next, a))
		}
	}
	return diff
}

func shownBundleAnchor(d direct.Domain, b *store.Bundle, a store.BundleAnchor) Anchor {
	show := Anchor{Domain: d.String(), SHA256: a.SHA256, In: b.In, Out: b.Out, Bundle: b.Name}
	if c, err := x509.ParseCertificate(a.DER); err == nil {
		show.Subject, show.NotAfter = c.Subject.String(), c.NotAfter
	}
	return show
}

func (s *Service) shownBundle(d direct.Domain, b *store.Bundle) Bundle {
	seen := s.looks.of(bundleID(d, b.Name))
	show := Bundle{Domain: d.String(), Name: b.Name, URL: b.URL, In: b.In, Out: b.Out, Anchors: len(b.Anchors), Changed: b.Changed, Checked: seen.at, Error: seen.err}
	if b.Refresh > 0 {
		show.Refresh = b.Refresh.String()
	}
	if c, err := x509.ParseCertificate(b.Signer); err == nil {
		show.Signer = c.Subject.String()
	}
	return show
}

// ListBundles gives the bundles of a domain, or of all.
func (s *Service) ListBundles(_ context.Context, req BundleRequest) ([]Bundle, error) {
	v, domains, err := s.chosen(req.Domain)
	if err != nil {
		return nil, err
	}
	list := []Bundle{}
	for _, d := range domains {
		for _, b := range v.Domain(d).Bundles {
			list = append(list, s.shownBundle(d, b))
		}
	}
	return list, nil
}

// RemoveBundle ends a domain's trust in the anchors of a bundle.
func (s *Service) RemoveBundle(ctx context.Context, req BundleRequest) (Done, error) {
	_, data, err := s.domainData(req.Domain)
	if err != nil {
		return Done{}, err
	}
	b := data.Bundle(req.Name)
	if b == nil {
		return Done{}, &Error{"DN-BUNDLE-003", CodeFailed, "nothing was removed", fmt.Sprintf("%s has no bundle %.100q", data.Domain, req.Name), "`directctl bundle list` shows those there are"}
	}
	if _, err := s.store.Update(ctx, func(tx *store.Tx) error { return tx.RemoveBundle(data.Domain, req.Name) }); err != nil {
		return Done{}, storeFailure("the bundle was not removed", err)
	}
	return Done{fmt.Sprintf("bundle %s of %s removed with %d anchors", b.Name, data.Domain, len(b.Anchors))}, nil
}

// DueBundles lists the bundles that are to be fetched at a moment. One that was not looked at since the start is due within the first
// hour: a restart does not ask for all at once.
func (s *Service) DueBundles(at time.Time) []DueBundle {
	v := s.store.View()
	var due []DueBundle
	for _, d := range v.Domains() {
		for _, b := range v.Domain(d).Bundles {
			if b.Refresh <= 0 || b.URL == "" {
				continue
			}
			id := bundleID(d, b.Name)
			// Up to a tenth earlier: nodes that were set up together do not ask together for ever.
			next := s.looks.of(id).at.Add(b.Refresh - spread(id, b.Refresh/10))
			if s.looks.of(id).at.IsZero() {
				next = s.o.Started.Add(spread(id, min(b.Refresh, time.Hour)))
			}
			if !at.Before(next) {
				due = append(due, DueBundle{d, b.Name})
			}
		}
	}
	return due
}

// DueBundle names a bundle to refresh.
type DueBundle struct {
	Domain direct.Domain
	Name   string
}

// spread picks a moment in a span, by name.
func spread(name string, span time.Duration) time.Duration {
	sum := sha256.Sum256([]byte(name))
	return time.Duration(float64(span) * float64(sum[0]) / 256)
}

func bundleFailure(what string, err error) error {
	var e *fetch.Error
	switch {
	case errors.As(err, &e) && e.Outcome == fetch.Refused:
		return &Error{"DN-BUNDLE-002", CodeFailed, what, err.Error(), "give a URL of the public internet, or open the network with resolver.fetch.allow"}
	case errors.As(err, &e) && e.Outcome == fetch.Absent:
		return &Error{"DN-BUNDLE-002", CodeFailed, what, err.Error(), "look whether the publisher has moved it"}
	case errors.As(err, &e):
		return &Error{"DN-BUNDLE-002", CodeTemporary, what, err.Error(), "try again; look whether the publisher's server can be reached from here"}
	case errors.Is(err, trust.ErrBundleSignature):
		return &Error{"DN-BUNDLE-005", CodeFailed, what, err.Error(), "ask the publisher which certificate signs the bundle, by another way than the bundle's own, and give it with --signer"}
	case errors.Is(err, trust.ErrBundleFormat):
		return &Error{"DN-BUNDLE-006", CodeFailed, what, err.Error(), "give a trust bundle: .p7b, .p7m with --signer, or certificates in PEM"}
	}
	return &Error{"DN-BUNDLE-007", CodeFailed, what, err.Error(), "look at the daemon's log"}
}

// anchorsOf lists what a domain trusts, own anchors and those of bundles.
func anchorsOf(data *store.DomainData) []Anchor {
	var list []Anchor
	for _, a := range data.Anchors {
		x := Anchor{Domain: data.Domain.String(), SHA256: a.SHA256, In: a.In, Out: a.Out}
		if c, err := x509.ParseCertificate(a.DER); err == nil {
			x.Subject, x.NotAfter = c.Subject.String(), c.NotAfter
		}
		list = append(list, x)
	}
	for _, b := range data.Bundles {
		for _, a := range b.Anchors {
			list = append(list, shownBundleAnchor(data.Domain, b, a))
		}
	}
	return list
}
