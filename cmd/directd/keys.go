package main

import (
	"context"
	"time"
)

// keyPause is how often DNSSEC keys are looked at. Their steps are hours apart.
const keyPause = time.Minute

// keepKeys makes the steps in the life of DNSSEC keys when they are due. A step
// that fails is tried again: until then everything stays as it is, which is
// always right.
func (n *node) keepKeys(ctx context.Context) error {
	tick := time.NewTicker(keyPause)
	defer tick.Stop()
	for at := time.Now(); ; {
		if err := n.admin.AdvanceKeys(ctx, at); err != nil && ctx.Err() == nil {
			n.log.Error("dnssec keys were not advanced", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case at = <-tick.C:
		}
	}
}
