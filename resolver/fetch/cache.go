package fetch

import (
	"container/list"
	"context"
	"time"
)

// kept is an answer, or the failure of a moment ago.
type kept struct {
	key      string
	body     []byte
	evidence Evidence
	err      error
	expires  time.Time
}

// keeper is a cache bounded in entries and octets; what was used longest ago goes first.
type keeper struct {
	entries map[string]*list.Element // of *kept
	recent  *list.List               // what was used last is in front
	octets  int
}

func newKeeper() keeper { return keeper{map[string]*list.Element{}, list.New(), 0} }

func (c *keeper) get(key string, at time.Time) (*kept, bool) {
	e, ok := c.entries[key]
	if !ok {
		return nil, false
	}
	k := e.Value.(*kept)
	if !at.Before(k.expires) {
		c.drop(e)
		return nil, false
	}
	c.recent.MoveToFront(e)
	return k, true
}

func (c *keeper) put(k *kept, at time.Time) {
	if e, ok := c.entries[k.key]; ok {
		c.drop(e)
	}
	if !at.Before(k.expires) || len(k.body) > maxKeptOctets/4 {
		return
	}
	c.entries[k.key] = c.recent.PushFront(k)
	c.octets += k.size()
	for c.octets > maxKeptOctets || len(c.entries) > maxKept {
		c.drop(c.recent.Back())
	}
}

func (c *keeper) drop(e *list.Element) {
	k := c.recent.Remove(e).(*kept)
	delete(c.entries, k.key)
	c.octets -= k.size()
}

// size is what an entry holds, with what the maps and lists around it cost.
func (k *kept) size() int { return len(k.body) + 2*len(k.key) + 512 }

// hostState is what is known of a host and port: how many requests are under way and how often it could not be reached.
type hostState struct {
	slots    chan struct{}
	users    int // requests that hold the state or wait for a slot; guarded by Door.mu
	failures int // in a row
	until    time.Time
}

// enter waits for a place at a host and gives what to call with whether it was reached.
func (d *Door) enter(ctx context.Context, url string, t target) (leave func(reached bool), fault *Error) {
	key := t.url.Host
	now := time.Now()
	d.mu.Lock()
	h := d.hosts[key]
	if h == nil {
		d.makeRoom(now)
		h = &hostState{slots: make(chan struct{}, perHost)}
		d.hosts[key] = h
	}
	if now.Before(h.until) {
		wait := h.until.Sub(now)
		d.mu.Unlock()
		return nil, &Error{URL: url, Outcome: Backoff, Detail: clip(t.host) + " could not be reached several times in a row; it is asked again in " + wait.Round(time.Second).String()}
	}
	h.users++
	d.mu.Unlock()
	done := func(f func()) {
		d.mu.Lock()
		defer d.mu.Unlock()
		h.users--
		f()
		if h.users == 0 && h.failures == 0 {
			delete(d.hosts, key)
		}
	}
	select {
	case h.slots <- struct{}{}:
	case <-ctx.Done():
		done(func() {})
		return nil, failed(url, ctx.Err())
	}
	return func(reached bool) {
		<-h.slots
		done(func() {
			if reached {
				h.failures = 0
			} else if ctx.Err() == nil || context.Cause(ctx) == context.DeadlineExceeded {
				h.failures++
				h.until = time.Now().Add(pause(h.failures))
			}
		})
	}, nil
}

// pause is how long a host is left alone after so many failures in a row.
func pause(failures int) time.Duration {
	if failures < backoffAfter {
		return 0
	}
	p := backoffBase
	for range failures - backoffAfter {
		if p *= 2; p >= backoffMost {
			return backoffMost
		}
	}
	return p
}

// makeRoom forgets a host that is not in use when there are too many, one whose pause is over if there is any. It needs mu.
func (d *Door) makeRoom(now time.Time) {
	if len(d.hosts) < maxHosts {
		return
	}
	victim := ""
	for key, h := range d.hosts {
		if h.users > 0 {
			continue
		}
		if victim = key; !now.Before(h.until) {
			break
		}
	}
	delete(d.hosts, victim)
}
