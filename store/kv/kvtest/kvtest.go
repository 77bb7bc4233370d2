// Package kvtest holds a driver of the kv contract against it: a table of
// cases for each sentence of the contract, and a random walk that compares
// the driver with a map.
//
// Only tests import it.
package kvtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"directnode/store/kv"
)

// History is the length of history, in events, that Open must configure. It
// is short so that the suite can outrun it.
func History() kv.HistoryLimits { return kv.HistoryLimits{Events: 64, Bytes: 1 << 20} }

// Open makes an empty store whose history is limited by History, and a
// function that closes it and opens it again with what it holds. The suite
// closes the store that it got last.
type Open func(t testing.TB) (s kv.Store, reopen func() kv.Store)

// Run runs the suite.
func Run(t *testing.T, open Open) {
	for name, test := range map[string]func(t *testing.T, h *harness){
		"a transaction is all or nothing":            testTxn,
		"conditions compare the revision of a key":   testConditions,
		"changes that change nothing keep the rev":   testNoChange,
		"limits are refused, named and harmless":     testLimits,
		"scan pages in key order":                    testScan,
		"large values end a page early":              testLargePages,
		"a stream is one state in key order":         testStream,
		"slices are the caller's":                    testOwnership,
		"a watch has no gap and no repetition":       testWatch,
		"a watch delivers whole revisions":           testWatchWhole,
		"a watch of a prefix sees only the prefix":   testWatchPrefix,
		"the history ends with ErrCompacted":         testCompacted,
		"a change beyond the history is not watched": testOversize,
		"a slow watcher delays nobody":               testSlowWatcher,
		"close ends everything":                      testClose,
		"reopen keeps everything":                    testReopen,
		"an ended context changes nothing":           testContext,
		"concurrent writers never lose an update":    testConcurrent,
		"a random walk agrees with a map":            testModel,
	} {
		t.Run(name, func(t *testing.T) {
			s, reopen := open(t)
			h := &harness{t: t, s: s, reopenFn: reopen, open: open}
			t.Cleanup(func() { h.s.Close() })
			test(t, h)
		})
	}
}

type harness struct {
	t        *testing.T
	s        kv.Store
	reopenFn func() kv.Store
	open     Open
}

func (h *harness) reopen() { h.s = h.reopenFn() }

func (h *harness) txn(conds []kv.Cond, ops ...kv.Op) int64 {
	h.t.Helper()
	rev, err := h.s.Txn(context.Background(), conds, ops)
	if err != nil {
		h.t.Fatalf("Txn: %v", err)
	}
	return rev
}

func (h *harness) refused(want error, conds []kv.Cond, ops ...kv.Op) error {
	h.t.Helper()
	before := dump(h.t, h.s)
	_, err := h.s.Txn(context.Background(), conds, ops)
	if !errors.Is(err, want) {
		h.t.Fatalf("Txn = %v, want %v", err, want)
	}
	if after := dump(h.t, h.s); after != before {
		h.t.Fatalf("a refused transaction changed the store:\n%s\n%s", before, after)
	}
	return err
}

func put(key, value string) kv.Op { return kv.Op{Kind: kv.Put, Key: key, Value: []byte(value)} }
func del(key string) kv.Op        { return kv.Op{Kind: kv.Delete, Key: key} }

// dump writes the whole store as one line.
func dump(t testing.TB, s kv.Store) string {
	t.Helper()
	all, rev, err := kv.All(context.Background(), s, "")
	if err != nil {
		t.Fatalf("All: %v", err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "rev %d:", rev)
	for _, e := range all {
		fmt.Fprintf(&b, " %s=%.20s@%d", e.Key, e.Value, e.Rev)
	}
	return b.String()
}

func (h *harness) want(dumped string) {
	h.t.Helper()
	if got := dump(h.t, h.s); got != dumped {
		h.t.Fatalf("store is %q, want %q", got, dumped)
	}
}

func testStream(t *testing.T, h *harness) {
	rev := h.txn(nil, put("b/2", "two"), put("a", "1"), put("b/1", ""), put("b0", "x"), put("b/1/1", "deep"))
	for prefix, want := range map[string]string{"b/": "b/1= b/1/1=deep b/2=two ", "": "a=1 b/1= b/1/1=deep b/2=two b0=x ", "c": ""} {
		got := ""
		at, err := h.s.Stream(context.Background(), prefix, func(k, v []byte) error {
			got += string(k) + "=" + string(v) + " "
			return nil
		})
		if err != nil || at != rev || got != want {
			t.Errorf("Stream(%q) = %q at %d, %v; want %q at %d", prefix, got, at, err, want, rev)
		}
	}
	enough, calls := errors.New("enough"), 0
	if _, err := h.s.Stream(context.Background(), "b", func(_, _ []byte) error { calls++; return enough }); err != enough || calls != 1 {
		t.Errorf("an error after %d calls comes back as %v", calls, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := h.s.Stream(ctx, "", func(_, _ []byte) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("Stream with an ended context: %v", err)
	}
}

func testTxn(t *testing.T, h *harness) {
	h.want("rev 0:")
	if rev := h.txn(nil, put("b", "2"), put("a", "1"), put("c", "")); rev != 1 {
		t.Fatalf("first revision = %d", rev)
	}
	h.want("rev 1: a=1@1 b=2@1 c=@1")
	if rev := h.txn(nil, put("a", "3"), del("b"), put("d", "4")); rev != 2 {
		t.Fatalf("second revision = %d", rev)
	}
	h.want("rev 2: a=3@2 c=@1 d=4@2")
	e, err := h.s.Get(context.Background(), "c")
	if err != nil || e.Key != "c" || e.Rev != 1 || len(e.Value) != 0 {
		t.Fatalf("Get(c) = %+v, %v", e, err)
	}
	if _, err := h.s.Get(context.Background(), "b"); !errors.Is(err, kv.ErrNotFound) {
		t.Fatalf("Get of a deleted key = %v", err)
	}
	h.refused(kv.ErrConflict, []kv.Cond{{Key: "a", Rev: 1}}, put("e", "5"), del("a"))
}

func testConditions(t *testing.T, h *harness) {
	h.txn([]kv.Cond{{Key: "a"}}, put("a", "1"))
	h.txn(nil, put("b", "1"))
	err := h.refused(kv.ErrConflict, []kv.Cond{{Key: "a"}}, put("c", "1"))
	if !strings.Contains(err.Error(), `"a"`) {
		t.Errorf("the conflict does not name its key: %v", err)
	}
	h.refused(kv.ErrConflict, []kv.Cond{{Key: "a", Rev: 1}, {Key: "b", Rev: 1}}, put("c", "1"))
	h.refused(kv.ErrConflict, []kv.Cond{{Key: "absent", Rev: 1}}, put("c", "1"))
	h.txn([]kv.Cond{{Key: "a", Rev: 1}, {Key: "b", Rev: 2}, {Key: "c"}}, put("a", "2"))
	// A key that was deleted and put again has a new revision: no ABA.
	h.txn(nil, del("a"))
	h.txn([]kv.Cond{{Key: "a"}}, put("a", "2"))
	h.refused(kv.ErrConflict, []kv.Cond{{Key: "a", Rev: 3}}, del("a"))
	// The same value put again is a change as well.
	h.txn([]kv.Cond{{Key: "a", Rev: 5}}, put("a", "2"))
	h.want("rev 6: a=2@6 b=1@2")
}

func testNoChange(t *testing.T, h *harness) {
	h.txn(nil, put("a", "1"))
	if rev := h.txn([]kv.Cond{{Key: "a", Rev: 1}}); rev != 1 {
		t.Errorf("a transaction of conditions alone = revision %d", rev)
	}
	if rev := h.txn(nil, del("absent")); rev != 1 {
		t.Errorf("a deletion of nothing = revision %d", rev)
	}
	h.want("rev 1: a=1@1")
}

func testLimits(t *testing.T, h *harness) {
	h.txn(nil, put(strings.Repeat("k", kv.MaxKey), "1"), kv.Op{Kind: kv.Put, Key: "v", Value: make([]byte, kv.MaxValue)})
	h.refused(kv.ErrInvalid, nil, put("a", "1"), put("", "1"))
	h.refused(kv.ErrInvalid, nil, put("a", "1"), put(strings.Repeat("k", kv.MaxKey+1), "1"))
	h.refused(kv.ErrInvalid, nil, put("a", "1"), kv.Op{Kind: kv.Put, Key: "v", Value: make([]byte, kv.MaxValue+1)})
	h.refused(kv.ErrInvalid, nil, put("a", "1"), kv.Op{Kind: 3, Key: "b"})
	h.refused(kv.ErrInvalid, nil, put("a", "1"), kv.Op{Kind: kv.Delete, Key: "b", Value: []byte("1")})
	h.refused(kv.ErrInvalid, []kv.Cond{{Key: "a", Rev: -1}}, put("a", "1"))
	h.refused(kv.ErrInvalid, []kv.Cond{{Key: ""}}, put("a", "1"))
	if err := h.refused(kv.ErrInvalid, nil, put("twice", "1"), del("twice")); !strings.Contains(err.Error(), "twice") {
		t.Errorf("the refusal does not name the key: %v", err)
	}
}

func testScan(t *testing.T, h *harness) {
	var ops []kv.Op
	for _, k := range []string{"a", "a/", "a/1", "a/2", "a/\xff", "a0", "b", "b/1"} {
		ops = append(ops, put(k, k))
	}
	h.txn(nil, ops...)
	for _, c := range []struct {
		prefix, after string
		limit         int
		want          string
	}{
		{"", "", 0, "a a/ a/1 a/2 a/\xff a0 b b/1"},
		{"a/", "", 0, "a/ a/1 a/2 a/\xff"},
		{"a/", "", 2, "a/ a/1"},
		{"a/", "a/1", 2, "a/2 a/\xff"},
		{"a/", "a/15", 0, "a/2 a/\xff"},
		{"a/", "a/\xff", 0, ""},
		{"a/", "a", 0, "a/ a/1 a/2 a/\xff"},
		{"a/", "b", 0, ""},
		{"c", "", 0, ""},
		{"", "b", 5, "b/1"},
		{"", "", kv.MaxScanKeys + 1, "a a/ a/1 a/2 a/\xff a0 b b/1"},
	} {
		page, rev, err := h.s.Scan(context.Background(), c.prefix, c.after, c.limit)
		var got []string
		for _, e := range page {
			got = append(got, e.Key)
			if string(e.Value) != e.Key || e.Rev != 1 {
				t.Errorf("Scan(%q): %+v", c.prefix, e)
			}
		}
		if err != nil || rev != 1 || strings.Join(got, " ") != c.want {
			t.Errorf("Scan(%q, %q, %d) = %q at %d, %v; want %q", c.prefix, c.after, c.limit, got, rev, err, c.want)
		}
	}
}

func testLargePages(t *testing.T, h *harness) {
	const n = kv.MaxScanBytes/kv.MaxValue + 4
	value := make([]byte, kv.MaxValue)
	for i := range n {
		value[0] = byte(i)
		h.txn(nil, kv.Op{Kind: kv.Put, Key: fmt.Sprintf("k%03d", i), Value: value})
	}
	page, _, err := h.s.Scan(context.Background(), "k", "", 0)
	if err != nil || len(page) == 0 || len(page) > kv.MaxScanBytes/kv.MaxValue+1 {
		t.Fatalf("a page of %d values of %d octets, %v", len(page), kv.MaxValue, err)
	}
	all, _, err := kv.All(context.Background(), h.s, "k")
	if err != nil || len(all) != n || all[n-1].Value[0] != n-1 {
		t.Fatalf("All = %d keys, %v; want %d", len(all), err, n)
	}
}

func testOwnership(t *testing.T, h *harness) {
	value := []byte("as it was")
	h.txn(nil, kv.Op{Kind: kv.Put, Key: "a", Value: value})
	scribble := func(b []byte) { copy(b, "XXXXXXXXX") }
	scribble(value)
	e, _ := h.s.Get(context.Background(), "a")
	scribble(e.Value)
	page, _, _ := h.s.Scan(context.Background(), "", "", 0)
	scribble(page[0].Value)
	events := h.watch(t, "", 1)
	scribble((<-events)[0].Value)
	h.want("rev 1: a=as it was@1")
	if got := <-h.watch(t, "", 1); string(got[0].Value) != "as it was" {
		t.Errorf("the history now says %q", got[0].Value)
	}
}

// watch opens a watch that ends with the test.
func (h *harness) watch(t *testing.T, prefix string, from int64) <-chan []kv.Event {
	t.Helper()
	events, err := h.s.Watch(t.Context(), prefix, from)
	if err != nil {
		t.Fatalf("Watch(%q, %d): %v", prefix, from, err)
	}
	return events
}

// next waits for the next batch of a watch that must have one.
func next(t *testing.T, events <-chan []kv.Event) []kv.Event {
	t.Helper()
	select {
	case batch, ok := <-events:
		if !ok {
			t.Fatal("the watch ended")
		}
		return batch
	case <-time.After(10 * time.Second):
		t.Fatal("the watch is silent")
	}
	return nil
}

func testWatch(t *testing.T, h *harness) {
	h.txn(nil, put("a", "1"))
	past, future, now := h.watch(t, "", 1), h.watch(t, "", 4), h.watch(t, "", 0)
	for i := 2; i <= 50; i++ {
		h.txn(nil, put("a", fmt.Sprint(i)))
	}
	for name, w := range map[string]struct {
		events <-chan []kv.Event
		from   int64
	}{"from the beginning": {past, 1}, "from a future revision": {future, 4}, "from now": {now, 2}} {
		rev := w.from
		for rev <= 50 {
			for _, e := range next(t, w.events) {
				if e.Rev != rev || e.Kind != kv.Put || e.Key != "a" || string(e.Value) != fmt.Sprint(rev) {
					t.Fatalf("watch %s: got %+v, want revision %d", name, e, rev)
				}
				rev++
			}
		}
	}
	h.txn(nil, del("a"))
	if e := next(t, past)[0]; e.Rev != 51 || e.Kind != kv.Delete || e.Value != nil {
		t.Errorf("the deletion arrived as %+v", e)
	}
}

func testWatchWhole(t *testing.T, h *harness) {
	h.txn(nil, put("c", "1"), del("absent"), put("a", "1"), put("b", "1"))
	h.txn(nil, del("b"), put("d", "1"))
	batch := next(t, h.watch(t, "", 1))
	var got []string
	for _, e := range batch {
		got = append(got, fmt.Sprintf("%d %s %s", e.Rev, e.Kind, e.Key))
	}
	want := []string{"1 put c", "1 put a", "1 put b", "2 delete b", "2 put d"}
	if len(got) < 3 || !slices.Equal(got, want[:len(got)]) || len(got) == 4 {
		t.Errorf("first batch = %q, want whole revisions of %q", got, want)
	}
}

func testWatchPrefix(t *testing.T, h *harness) {
	events := h.watch(t, "b/", 1)
	h.txn(nil, put("a", "1"), put("b/1", "1"), put("b", "1"))
	h.txn(nil, put("c", "1"))
	h.txn(nil, put("b/2", "1"))
	var got []string
	for len(got) < 2 {
		for _, e := range next(t, events) {
			got = append(got, fmt.Sprint(e.Rev, e.Key))
		}
	}
	if !slices.Equal(got, []string{"1b/1", "3b/2"}) {
		t.Errorf("events = %q", got)
	}
}

func testCompacted(t *testing.T, h *harness) {
	for range History().Events + 10 {
		h.txn(nil, put("a", "1"))
	}
	if _, err := h.s.Watch(t.Context(), "", 1); !errors.Is(err, kv.ErrCompacted) {
		t.Fatalf("Watch of a forgotten revision = %v", err)
	}
	rev := int64(History().Events + 10)
	for range 2 { // the limit holds after a restart, too
		from := rev - int64(History().Events) + 1
		if got := next(t, h.watch(t, "", from)); got[0].Rev != from {
			t.Fatalf("the oldest event kept = %+v, want revision %d", got[0], from)
		}
		if _, err := h.s.Watch(t.Context(), "", from-1); !errors.Is(err, kv.ErrCompacted) {
			t.Fatalf("Watch of the revision before the history = %v", err)
		}
		h.reopen()
	}
}

func testOversize(t *testing.T, h *harness) {
	h.txn(nil, put("a", "1"))
	var ops []kv.Op
	for i := range History().Events + 1 {
		ops = append(ops, put(fmt.Sprintf("k%03d", i), "1"))
	}
	h.txn(nil, ops...)
	for _, from := range []int64{1, 2} {
		if _, err := h.s.Watch(t.Context(), "", from); !errors.Is(err, kv.ErrCompacted) {
			t.Fatalf("Watch(%d) across a change beyond the history = %v", from, err)
		}
	}
	events := h.watch(t, "", 3)
	h.txn(nil, put("a", "2"))
	if e := next(t, events); len(e) != 1 || e[0].Rev != 3 {
		t.Fatalf("after it: %+v", e)
	}
}

func testSlowWatcher(t *testing.T, h *harness) {
	events := h.watch(t, "", 1)
	for range 3 * History().Events {
		h.txn(nil, put("a", "1"))
	}
	// What it gets has no gap, and then it is told to read anew.
	rev := int64(1)
	for batch := range events {
		for _, e := range batch {
			if e.Rev != rev {
				t.Fatalf("revision %d where %d was next", e.Rev, rev)
			}
			rev++
		}
		if rev > 3*int64(History().Events) {
			return // it kept up after all
		}
	}
	if _, err := h.s.Watch(t.Context(), "", rev); !errors.Is(err, kv.ErrCompacted) {
		t.Fatalf("the watch ended at revision %d, and watching on = %v", rev, err)
	}
}

func testClose(t *testing.T, h *harness) {
	h.txn(nil, put("a", "1"))
	events, idle := h.watch(t, "", 1), h.watch(t, "", 0)
	if err := h.s.Close(); err != nil {
		t.Fatal(err)
	}
	for range events { // may still hold what was there, then ends
	}
	for range idle {
		t.Error("an event out of nothing")
	}
	ctx := context.Background()
	_, errGet := h.s.Get(ctx, "a")
	_, _, errScan := h.s.Scan(ctx, "", "", 0)
	_, errTxn := h.s.Txn(ctx, nil, []kv.Op{put("a", "2")})
	_, errWatch := h.s.Watch(ctx, "", 1)
	for name, err := range map[string]error{"Get": errGet, "Scan": errScan, "Txn": errTxn, "Watch": errWatch, "Close": h.s.Close()} {
		if !errors.Is(err, kv.ErrClosed) {
			t.Errorf("%s after Close = %v", name, err)
		}
	}
}

func testReopen(t *testing.T, h *harness) {
	h.txn(nil, put("a", "1"), put("b", "2"))
	h.txn(nil, del("a"), put("c", "3"))
	h.reopen()
	h.want("rev 2: b=2@1 c=3@2")
	if got := next(t, h.watch(t, "", 1)); got[0].Rev != 1 || got[0].Key != "a" {
		t.Errorf("the history after a restart begins with %+v", got[0])
	}
	if rev := h.txn([]kv.Cond{{Key: "b", Rev: 1}}, put("b", "4")); rev != 3 {
		t.Errorf("the revision after a restart = %d", rev)
	}
}

func testContext(t *testing.T, h *harness) {
	ctx, cancel := context.WithCancel(context.Background())
	events, err := h.s.Watch(ctx, "", 1)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	for range events {
		t.Error("an event out of nothing")
	}
	_, errGet := h.s.Get(ctx, "a")
	_, _, errScan := h.s.Scan(ctx, "", "", 0)
	_, errTxn := h.s.Txn(ctx, nil, []kv.Op{put("a", "2")})
	_, errWatch := h.s.Watch(ctx, "", 1)
	for name, err := range map[string]error{"Get": errGet, "Scan": errScan, "Txn": errTxn, "Watch": errWatch} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with an ended context = %v", name, err)
		}
	}
	h.want("rev 0:")
}

func testConcurrent(t *testing.T, h *harness) {
	const writers, rounds = 8, 25
	events := h.watch(t, "", 1)
	seen := make(chan int64)
	go func() { // a watcher that keeps up sees every revision, or is told
		rev := int64(0)
		for batch := range events {
			for _, e := range batch {
				if e.Rev != rev+1 {
					t.Errorf("revision %d after %d", e.Rev, rev)
				}
				rev = e.Rev
			}
			if rev == writers*rounds {
				break
			}
		}
		seen <- rev
	}()
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range rounds {
				if err := increment(h.s, "counter"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	e, err := h.s.Get(context.Background(), "counter")
	if err != nil || string(e.Value) != fmt.Sprint(writers*rounds) || e.Rev != writers*rounds {
		t.Errorf("counter = %s at %d, %v; want %d", e.Value, e.Rev, err, writers*rounds)
	}
	if rev := <-seen; rev != writers*rounds {
		if _, err := h.s.Watch(t.Context(), "", rev+1); !errors.Is(err, kv.ErrCompacted) {
			t.Errorf("the watch ended at %d without a reason: %v", rev, err)
		}
	}
}

// increment adds one to a decimal number by compare and set.
func increment(s kv.Store, key string) error {
	ctx := context.Background()
	for {
		e, err := s.Get(ctx, key)
		if err != nil && !errors.Is(err, kv.ErrNotFound) {
			return err
		}
		n := 0
		fmt.Sscan(string(e.Value), &n)
		_, err = s.Txn(ctx, []kv.Cond{{Key: key, Rev: e.Rev}}, []kv.Op{put(key, fmt.Sprint(n+1))})
		if !errors.Is(err, kv.ErrConflict) {
			return err
		}
	}
}
