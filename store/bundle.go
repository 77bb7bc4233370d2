package store

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"directnode/internal/direct"
	"directnode/store/kv"
)

// Bundle is a set of trust anchors of a domain that somebody else publishes and that is replaced whole. It never changes.
type Bundle struct {
	Name     string        // of this domain's bundle
	URL      string        // where it comes from; empty: from a file, by hand
	In, Out  bool          // as for Anchor
	Signer   []byte        // DER of the certificate that must have signed it; nil: it is not signed
	Insecure bool          // not signed and fetched by http, as somebody wanted it
	Refresh  time.Duration // how often it is fetched; 0 = when somebody says so
	Added    time.Time
	Changed  time.Time // when its anchors became others last
	Anchors  []BundleAnchor
}

// BundleAnchor is one certificate of a bundle.
type BundleAnchor struct {
	SHA256 string
	DER    []byte // shared: do not change it
}

// Bundle finds one by name, nil if it is not there.
func (d *DomainData) Bundle(name string) *Bundle {
	i, found := slices.BinarySearchFunc(d.Bundles, name, compareBundle)
	if !found {
		return nil
	}
	return d.Bundles[i]
}

func compareBundle(b *Bundle, name string) int { return strings.Compare(b.Name, name) }

// SetBundle adds a bundle or replaces the one of its name; Added and Changed are set here. What is the same already changes nothing.
func (tx *Tx) SetBundle(d direct.Domain, b Bundle) (changed bool, err error) {
	dr, err := tx.edit(d)
	if err != nil {
		return false, err
	}
	object := fmt.Sprintf("bundle %.100q of %s", b.Name, d)
	b.Anchors = slices.Clone(b.Anchors)
	for i := range b.Anchors {
		b.Anchors[i].SHA256, b.Anchors[i].DER = Fingerprint(b.Anchors[i].DER), bytes.Clone(b.Anchors[i].DER)
	}
	slices.SortFunc(b.Anchors, func(x, y BundleAnchor) int { return cmp.Compare(x.SHA256, y.SHA256) })
	b.Anchors = slices.CompactFunc(b.Anchors, func(x, y BundleAnchor) bool { return x.SHA256 == y.SHA256 })
	b.Signer = bytes.Clone(b.Signer)
	if fault := b.fault(); fault != "" {
		return false, refuse(object, ErrInvalid, "%s", fault)
	}
	i, there := slices.BinarySearchFunc(dr.data.Bundles, b.Name, compareBundle)
	b.Added, b.Changed = tx.at, tx.at
	if there {
		old := dr.data.Bundles[i]
		b.Added = old.Added
		if sameAnchors(old.Anchors, b.Anchors) {
			b.Changed = old.Changed
		}
		if maps.EqualFunc(bundleEntries(d, []*Bundle{old}), bundleEntries(d, []*Bundle{&b}), bytes.Equal) {
			return false, nil
		}
	} else if len(dr.data.Bundles) >= maxBundles {
		return false, refuse(object, ErrLimit, "the domain has %d bundles already", maxBundles)
	}
	list := slices.Clone(dr.data.Bundles)
	if there {
		list[i] = &b
	} else {
		list = slices.Insert(list, i, &b)
	}
	dr.data.Bundles, dr.others = list, true
	return true, nil
}

// RemoveBundle ends a domain's trust in the anchors of a bundle, those apart that it trusts otherwise.
func (tx *Tx) RemoveBundle(d direct.Domain, name string) error {
	dr, err := tx.edit(d)
	if err != nil {
		return err
	}
	i, there := slices.BinarySearchFunc(dr.data.Bundles, name, compareBundle)
	if !there {
		return refuse(fmt.Sprintf("bundle %.100q of %s", name, d), ErrNotFound, "")
	}
	dr.data.Bundles, dr.others = slices.Delete(slices.Clone(dr.data.Bundles), i, i+1), true
	return nil
}

func sameAnchors(a, b []BundleAnchor) bool {
	return slices.EqualFunc(a, b, func(x, y BundleAnchor) bool { return x.SHA256 == y.SHA256 })
}

// fault says what is wrong with a bundle, or nothing.
func (b *Bundle) fault() string {
	switch {
	case b.Name == "" || len(b.Name) > maxBundleName || strings.Trim(b.Name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "":
		return fmt.Sprintf("a name has 1 to %d letters, digits, dots, dashes and underscores", maxBundleName)
	case len(b.URL) > maxBundleURL:
		return fmt.Sprintf("a URL of %d characters, at most %d", len(b.URL), maxBundleURL)
	case !b.In && !b.Out:
		return "a bundle is for incoming mail, for outgoing mail or for both"
	case len(b.Anchors) == 0:
		return "there is no anchor in it"
	case len(b.Anchors) > maxBundleAnchors:
		return fmt.Sprintf("%d anchors, at most %d", len(b.Anchors), maxBundleAnchors)
	case b.Refresh < 0 || b.Refresh%time.Second != 0:
		return "the time between refreshes is whole seconds"
	case b.URL == "" && b.Refresh != 0:
		return "what has no URL is not refreshed"
	}
	if b.Signer != nil {
		if _, err := x509.ParseCertificate(b.Signer); err != nil || len(b.Signer) > maxAnchorDER {
			return "the signer is no certificate"
		}
	}
	for _, a := range b.Anchors {
		if len(a.DER) > maxAnchorDER {
			return fmt.Sprintf("an anchor of %d octets, at most %d", len(a.DER), maxAnchorDER)
		}
		if _, err := x509.ParseCertificate(a.DER); err != nil {
			return fmt.Sprintf("anchor %.16s: %v", a.SHA256, err)
		}
	}
	return ""
}

type bundleValue struct {
	URL      string    `json:"url,omitempty"`
	In       bool      `json:"in"`
	Out      bool      `json:"out"`
	Signer   []byte    `json:"signer,omitempty"`
	Insecure bool      `json:"insecure,omitempty"`
	Refresh  int64     `json:"refresh,omitempty"` // seconds
	Added    time.Time `json:"added"`
	Changed  time.Time `json:"changed"`
	Count    int       `json:"count"` // of its anchors, which are entries of their own
}

func bundleKey(d direct.Domain, name string) string { return prefixBundle + d.String() + "/" + name }

func bundleAnchorKey(d direct.Domain, name, sha string) string {
	return prefixBundleAnchor + d.String() + "/" + name + "/" + sha
}

// bundleEntries writes bundles, and each anchor as an entry of its own: a refresh writes what came and went.
func bundleEntries(d direct.Domain, list []*Bundle) map[string][]byte {
	entries := map[string][]byte{}
	for _, b := range list {
		entries[bundleKey(d, b.Name)] = marshal(bundleValue{b.URL, b.In, b.Out, b.Signer, b.Insecure, int64(b.Refresh / time.Second), b.Added, b.Changed, len(b.Anchors)})
		for _, a := range b.Anchors {
			entries[bundleAnchorKey(d, b.Name, a.SHA256)] = a.DER
		}
	}
	return entries
}

func decodeBundle(e kv.KV) (direct.Domain, *Bundle, int, error) {
	d, name, err := cutDomain(e.Key, prefixBundle)
	if err != nil {
		return d, nil, 0, err
	}
	var v bundleValue
	if err := unmarshal(e.Value, &v); err != nil {
		return d, nil, 0, err
	}
	return d, &Bundle{
		Name: name, URL: v.URL, In: v.In, Out: v.Out, Signer: v.Signer, Insecure: v.Insecure, Refresh: time.Duration(v.Refresh) * time.Second, Added: v.Added, Changed: v.Changed,
	}, v.Count, nil
}

// takeBundleAnchor files an anchor under its bundle, whose entry came before.
func takeBundleAnchor(dd *DomainData, name string, der []byte) error {
	name, sha, found := strings.Cut(name, "/")
	if !found || Fingerprint(der) != sha {
		return errors.New("the anchor is not the one that was stored")
	}
	for _, b := range dd.Bundles {
		if b.Name == name {
			b.Anchors = append(b.Anchors, BundleAnchor{sha, bytes.Clone(der)})
			return nil
		}
	}
	return fmt.Errorf("bundle %.100q is not there", name)
}

// bundles checks those of a domain.
func (c *audit) bundles(dd *DomainData) {
	for _, b := range dd.Bundles {
		if fault := b.fault(); fault != "" {
			c.report(Problem{bundleKey(dd.Domain, b.Name), fault})
		}
	}
}
