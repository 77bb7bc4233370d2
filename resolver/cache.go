package resolver

import (
	"container/list"
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// cache holds answers for the time that they may be believed, within a bound of octets, and lets those who ask the same at the same
// time share one question. What has expired is never served: an answer that is out of date says nothing about absence (RFC 8767 is
// not applied).
type cache[V any] struct {
	max   int           // octets
	slots chan struct{} // one for each question that is under way

	mu      sync.Mutex               // guards all below
	used    int                      // octets of all entries
	entries map[string]*list.Element // of *entry[V]
	recent  *list.List               // what was used last is in front
	flights map[string]*flight[V]
}

type entry[V any] struct {
	key             string
	value           V
	stored, expires time.Time
	cost            int
}

// flight is one question that is under way and those who wait for it.
type flight[V any] struct {
	done  chan struct{}
	value V   // set before done is closed
	fault any // a panic, which belongs to those who asked
}

// kept says what may be remembered of an answer; a ttl of 0 forbids it.
type kept struct {
	cost int
	ttl  time.Duration
}

func newCache[V any](octets int) *cache[V] {
	return &cache[V]{
		max: octets, slots: make(chan struct{}, maxFlights), entries: map[string]*list.Element{}, recent: list.New(), flights: map[string]*flight[V]{},
	}
}

// get gives what is known at a moment, and for how long it has been.
func (c *cache[V]) get(key string, at time.Time) (v V, age time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peek(key, at)
}

// peek is get for the owner of the lock.
func (c *cache[V]) peek(key string, at time.Time) (v V, age time.Duration, ok bool) {
	elem, there := c.entries[key]
	if !there {
		return v, 0, false
	}
	e := elem.Value.(*entry[V])
	if !at.Before(e.expires) {
		c.drop(elem)
		return v, 0, false
	}
	c.recent.MoveToFront(elem)
	return e.value, max(at.Sub(e.stored), 0), true
}

func (c *cache[V]) drop(elem *list.Element) {
	e := elem.Value.(*entry[V])
	c.used -= e.cost
	delete(c.entries, e.key)
	c.recent.Remove(elem)
}

// put remembers an answer. One that would push out much of the others is not kept.
func (c *cache[V]) put(key string, v V, k kept, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, there := c.entries[key]; there {
		c.drop(old)
	}
	k.cost += len(key) + entryOverhead
	if k.ttl <= 0 || k.cost > c.max/cacheShare {
		return
	}
	for c.used+k.cost > c.max {
		c.drop(c.recent.Back())
	}
	c.used += k.cost
	c.entries[key] = c.recent.PushFront(&entry[V]{key: key, value: v, stored: at, expires: at.Add(k.ttl), cost: k.cost})
}

// source says where an answer of do came from.
type source struct {
	cached bool
	age    time.Duration
}

// do gives what is known, else what work finds out, which is done once for all who ask at the same time. The work goes on when those
// who wait give up, as the next ones will ask the same; it bounds its time itself. The error is that of ctx.
func (c *cache[V]) do(ctx context.Context, key string, work func(context.Context) (V, kept)) (V, source, error) {
	c.mu.Lock()
	if v, age, ok := c.peek(key, time.Now()); ok {
		c.mu.Unlock()
		return v, source{true, age}, nil
	}
	f, joined := c.flights[key]
	if !joined {
		f = &flight[V]{done: make(chan struct{})}
		c.flights[key] = f
		go c.fly(context.WithoutCancel(ctx), key, f, work)
	}
	c.mu.Unlock()
	select {
	case <-f.done:
		if f.fault != nil {
			panic(f.fault)
		}
		return f.value, source{}, nil
	case <-ctx.Done():
		var none V
		return none, source{}, ctx.Err()
	}
}

func (c *cache[V]) fly(ctx context.Context, key string, f *flight[V], work func(context.Context) (V, kept)) {
	c.slots <- struct{}{}
	var k kept
	defer func() {
		if p := recover(); p != nil {
			f.fault = fmt.Sprintf("%v\n%s", p, debug.Stack())
		} else if k.ttl > 0 {
			c.put(key, f.value, k, time.Now())
		}
		c.mu.Lock()
		delete(c.flights, key)
		c.mu.Unlock()
		close(f.done)
		<-c.slots
	}()
	f.value, k = work(ctx)
}
