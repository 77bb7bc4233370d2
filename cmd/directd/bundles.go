package main

import (
	"bytes"
	"context"
	"time"

	"directnode/resolver/fetch"
)

// fetchBundle fetches a trust bundle. It is never answered from a cache: who asks wants to know what the publisher has now.
func (n *node) fetchBundle(ctx context.Context, url string) ([]byte, error) {
	var body bytes.Buffer
	if _, err := n.door.Save(ctx, fetch.Bundle, url, &body); err != nil {
		return nil, err
	}
	return body.Bytes(), nil
}

// bundlePause is how often it is looked whether a bundle is due; they are fetched once a day as a rule.
const bundlePause = time.Minute

// keepBundles fetches trust bundles again when they are due. What goes wrong with one is in the log and in `directctl bundle list`, and leaves
// its anchors as they are.
func (n *node) keepBundles(ctx context.Context) error {
	tick := time.NewTicker(bundlePause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case at := <-tick.C:
			for _, b := range n.admin.DueBundles(at) {
				if ctx.Err() != nil {
					return nil
				}
				_, _ = n.admin.RefreshBundle(ctx, b.Domain, b.Name, false, at) // logged there
			}
		}
	}
}
