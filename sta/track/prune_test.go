package track_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"directnode/sta/track"
	"directnode/store/kv"
	"directnode/store/kv/memory"
)

// commits counts the transactions of a store.
type commits struct {
	kv.Store
	n int
}

func (c *commits) Txn(ctx context.Context, conds []kv.Cond, ops []kv.Op) (int64, error) {
	c.n++
	return c.Store.Txn(ctx, conds, ops)
}

func TestABusyNodeForgetsAsFastAsItLearns(t *testing.T) {
	db := &commits{Store: memory.New(memory.Options{})}
	tr := open(t, db, track.Options{Keep: 24 * time.Hour})
	say := func(id string, at time.Time) {
		t.Helper()
		m := track.Message{MessageID: id, From: "ann@a.example", At: at, Recipients: []track.Recipient{{Address: "bob@b.example", State: track.Queued}}}
		if err := tr.Expect(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 2500 {
		say(fmt.Sprintf("old-%d@a.example", i), day.Add(time.Duration(i)*time.Millisecond))
	}
	before := db.n
	for i := range 5 { // within seconds, a week later
		say(fmt.Sprintf("new-%d@a.example", i), day.Add(7*24*time.Hour+time.Duration(i)*time.Second))
	}
	list, err := tr.List(t.Context(), 10_000)
	if err != nil || len(list) != 5 {
		t.Errorf("%d messages are remembered, %v; want the 5 new ones", len(list), err)
	}
	if n := db.n - before; n > 50 {
		t.Errorf("%d transactions for 5 messages: each waits for a disk", n)
	}
}
