package queue_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"directnode/internal/durable"
	"directnode/internal/mail"
	"directnode/sta/queue"
	"directnode/sta/smime"
)

// Callers that share a commit do not share each other's failures: of many who
// settle one message one succeeds, and the others' work in the same commits is
// untouched.
func TestOneSettlesAndNobodyElseSuffers(t *testing.T) {
	q := open(t, tempDir(t), queue.Options{})
	one := receive(t, q, envelope(t, "ann@a.example", "bob@b.example"), wire)
	var won, refused atomic.Int32
	var wg sync.WaitGroup
	const n = 30
	for i := range n {
		wg.Go(func() {
			_, err := q.Settle(t.Context(), one, []mail.Delivery{delivery(t, "bob@b.example", 1, fmt.Sprint("s", i))}, nil)
			switch {
			case err == nil:
				won.Add(1)
			case errors.Is(err, queue.ErrNotFound):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
		wg.Go(func() {
			if _, err := q.Receive(t.Context(), envelope(t, "ann@a.example", "ben@b.example"), strings.NewReader(wire), nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || refused.Load() != n-1 {
		t.Errorf("%d settled and %d were refused", won.Load(), refused.Load())
	}
	if got := len(list(t, q)); got != n+1 {
		t.Errorf("%d rows; want %d received and 1 to publish", got, n)
	}
}

// No fault of the disk may lead to an acknowledgment, or to half of what a
// settlement does.
func TestPutAndSettleAfterAFault(t *testing.T) {
	notices := []smime.Sealed{sealed(t, "n1", "bob@b.example", "ann@a.example"), sealed(t, "n2", "ben@b.example", "ann@a.example")}
	deliveries := []mail.Delivery{delivery(t, "bob@b.example", 1, "1"), delivery(t, "ben@b.example", 1, "2")}
	for _, tt := range []struct {
		name          string
		do            func(q *queue.Queue, id string) error
		before, after []string
		faults        int // operations that can fail before the commit
	}{
		{"put", func(q *queue.Queue, _ string) error { return q.Put(t.Context(), notices[0]) },
			[]string{"inbound due bob@b.example 0"}, []string{"inbound due bob@b.example 0", "outbound due ann@a.example 0"}, 5},
		{"settle", func(q *queue.Queue, id string) error {
			_, err := q.Settle(t.Context(), id, deliveries, notices)
			return err
		},
			[]string{"inbound due bob@b.example 0"},
			[]string{"outbound due ann@a.example 0", "outbound due ann@a.example 0", "publish due ben@b.example 0", "publish due bob@b.example 0"}, 9},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for k := 1; k <= tt.faults+1; k++ {
				fsys := durable.NewCrashFS()
				q := open(t, tempDir(t), queue.OnFS(queue.Options{}, fsys))
				id := receive(t, q, envelope(t, "ann@a.example", "bob@b.example"), wire)
				fsys.FailAt(k, errBoom)
				err := tt.do(q, id)
				if k > tt.faults { // after the commit a fault leaves a file behind, no more
					if err != nil {
						t.Errorf("fault at %d: %v", k, err)
					}
					wantList(t, q, tt.after...)
					fsys.FailAt(0, nil)
					if err := q.Close(); err != nil { // what it left is swept at the next start
						t.Error(err)
					}
					continue
				}
				if !errors.Is(err, errBoom) {
					t.Errorf("fault at %d: %v", k, err)
				}
				wantList(t, q, tt.before...)
				if err := tt.do(q, id); err != nil {
					t.Errorf("again after a fault at %d: %v", k, err)
				}
				wantList(t, q, tt.after...)
			}
		})
	}
}

// BenchmarkReceive measures what a peer waits for: octets and names durable.
func BenchmarkReceive(b *testing.B) {
	for _, parallel := range []int{1, 8, 64} {
		b.Run(fmt.Sprint("callers_", parallel), func(b *testing.B) {
			q, err := queue.Open(b.TempDir(), queue.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer q.Close()
			env, msg := envelope(b, "ann@a.example", "bob@b.example"), wire+strings.Repeat("MIIB\r\n", 1500)
			b.SetParallelism(parallel)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := q.Receive(b.Context(), env, strings.NewReader(msg), nil); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
