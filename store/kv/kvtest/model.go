package kvtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"directnode/store/kv"
)

// model is the contract as the plainest possible program.
type model struct {
	rev  int64
	data map[string]kv.KV
	log  []kv.Event // all of it
}

func (m *model) txn(conds []kv.Cond, ops []kv.Op) (int64, error) {
	if err := kv.Validate(conds, ops); err != nil {
		return 0, kv.ErrInvalid
	}
	for _, c := range conds {
		if m.data[c.Key].Rev != c.Rev {
			return 0, kv.ErrConflict
		}
	}
	changed := false
	for _, op := range ops {
		_, present := m.data[op.Key]
		switch {
		case op.Kind == kv.Put:
			m.data[op.Key] = kv.KV{Key: op.Key, Value: op.Value, Rev: m.rev + 1}
		case present:
			delete(m.data, op.Key)
		default:
			continue
		}
		changed = true
		m.log = append(m.log, kv.Event{Rev: m.rev + 1, Kind: op.Kind, Key: op.Key, Value: op.Value})
	}
	if changed {
		m.rev++
	}
	return m.rev, nil
}

func (m *model) dump() string {
	var b strings.Builder
	fmt.Fprintf(&b, "rev %d:", m.rev)
	for _, k := range slices.Sorted(maps.Keys(m.data)) {
		fmt.Fprintf(&b, " %s=%.20s@%d", k, m.data[k].Value, m.data[k].Rev)
	}
	return b.String()
}

// follower is a watch that is read whenever the walk feels like it.
type follower struct {
	events <-chan []kv.Event
	prefix string
	next   int64
}

// walk is the machine: the driver, the model, the open watches.
type walk struct {
	t      testing.TB
	s      kv.Store
	reopen func() kv.Store
	m      model
	ctx    context.Context
	open   []*follower
}

// testModel walks at random, with a small alphabet so that keys meet.
func testModel(t *testing.T, h *harness) {
	rapid.Check(t, func(rt *rapid.T) {
		s, reopen := h.open(t)
		ctx, cancel := context.WithCancel(t.Context())
		w := &walk{t: t, s: s, reopen: reopen, m: model{data: map[string]kv.KV{}}, ctx: ctx}
		defer func() {
			cancel()
			w.s.Close()
		}()
		rt.Repeat(map[string]func(*rapid.T){
			"":       w.invariant,
			"txn":    w.txn,
			"scan":   w.scan,
			"watch":  w.watch,
			"follow": w.follow,
			"reopen": w.restart,
		})
	})
}

func (w *walk) invariant(rt *rapid.T) {
	if got, want := dump(w.t, w.s), w.m.dump(); got != want {
		rt.Fatalf("store is %q, want %q", got, want)
	}
}

func genKey() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{"a", "a/", "a/1", "a/2", "a\xff", "b", "b/1", "c", ""})
}

func (w *walk) txn(rt *rapid.T) {
	var conds []kv.Cond
	for range rapid.IntRange(0, 2).Draw(rt, "conditions") {
		key := genKey().Draw(rt, "condition")
		rev := w.m.data[key].Rev
		if rapid.IntRange(0, 3).Draw(rt, "stale") == 0 {
			rev = rapid.Int64Range(0, w.m.rev+1).Draw(rt, "rev")
		}
		conds = append(conds, kv.Cond{Key: key, Rev: rev})
	}
	var ops []kv.Op
	for range rapid.IntRange(0, 4).Draw(rt, "ops") {
		op := kv.Op{Kind: kv.Put, Key: genKey().Draw(rt, "key")}
		if rapid.Bool().Draw(rt, "delete") {
			op.Kind = kv.Delete
		} else {
			op.Value = []byte(rapid.StringN(0, 5, 20).Draw(rt, "value"))
		}
		ops = append(ops, op)
	}
	got, err := w.s.Txn(w.ctx, conds, ops)
	want, wantErr := w.m.txn(conds, ops)
	if got != want || !errors.Is(err, wantErr) {
		rt.Fatalf("Txn(%v, %v) = %d, %v; want %d, %v", conds, ops, got, err, want, wantErr)
	}
}

func (w *walk) scan(rt *rapid.T) {
	prefix, after := genKey().Draw(rt, "prefix"), genKey().Draw(rt, "after")
	limit := rapid.IntRange(1, 5).Draw(rt, "limit")
	page, rev, err := w.s.Scan(w.ctx, prefix, after, limit)
	var got, want []string
	for _, e := range page {
		got = append(got, e.Key)
	}
	for _, k := range slices.Sorted(maps.Keys(w.m.data)) {
		if strings.HasPrefix(k, prefix) && k > after && len(want) < limit {
			want = append(want, k)
		}
	}
	if err != nil || rev != w.m.rev || !slices.Equal(got, want) {
		rt.Fatalf("Scan(%q, %q, %d) = %q at %d, %v; want %q", prefix, after, limit, got, rev, err, want)
	}
}

// kept tells whether the history must still hold a revision: as long as the
// events from there on are within its length. (Drivers may keep more.)
func (w *walk) kept(from int64) bool {
	n := 0
	for _, e := range w.m.log {
		if e.Rev >= from {
			n++
		}
	}
	return n <= History().Events
}

func (w *walk) watch(rt *rapid.T) {
	f := &follower{prefix: genKey().Draw(rt, "prefix"), next: rapid.Int64Range(1, w.m.rev+2).Draw(rt, "from")}
	events, err := w.s.Watch(w.ctx, f.prefix, f.next)
	if err != nil {
		if !errors.Is(err, kv.ErrCompacted) || w.kept(f.next) {
			rt.Fatalf("Watch(%d) at revision %d = %v", f.next, w.m.rev, err)
		}
		return
	}
	f.events = events
	w.open = append(w.open, f)
}

// follow reads a watch until it has caught up with the model.
func (w *walk) follow(rt *rapid.T) {
	if len(w.open) == 0 {
		return
	}
	i := rapid.IntRange(0, len(w.open)-1).Draw(rt, "watch")
	f := w.open[i]
	var want []kv.Event
	for _, e := range w.m.log {
		if e.Rev >= f.next && strings.HasPrefix(e.Key, f.prefix) {
			want = append(want, e)
		}
	}
	for len(want) > 0 {
		batch, ok := <-f.events
		if !ok {
			if w.kept(f.next) {
				rt.Fatalf("a watch ended at revision %d of %d", f.next, w.m.rev)
			}
			w.open = slices.Delete(w.open, i, i+1)
			return
		}
		for _, e := range batch {
			if len(want) == 0 || e.Rev != want[0].Rev || e.Kind != want[0].Kind || e.Key != want[0].Key || string(e.Value) != string(want[0].Value) {
				rt.Fatalf("event %+v, want the first of %+v", e, want)
			}
			want = want[1:]
			f.next = e.Rev + 1
		}
	}
}

func (w *walk) restart(rt *rapid.T) {
	w.s = w.reopen()
	w.open = nil
}
