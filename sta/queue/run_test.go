package queue_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"directnode/internal/direct"
	"directnode/internal/durable"
	"directnode/sta/queue"
	"directnode/sta/smime"
)

// fixed is a schedule that makes times easy to read.
var fixed = queue.Schedule{Delays: []time.Duration{time.Minute, 10 * time.Minute}, Lifetime: time.Hour}

// within tells whether d is a pause of want, with its addition for chance.
func within(d, want time.Duration) bool { return d >= want && d <= want+want/5 }

// ok is an outbound handler's result when everything was delivered.
func ok(a queue.Attempt) []error { return make([]error, len(a.To)) }

func keys(list []direct.Address) (all []string) {
	for _, a := range list {
		all = append(all, a.String())
	}
	slices.Sort(all)
	return all
}

func TestOneAttemptForEachDomainWithAllItsRecipients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := tempDir(t)
		q := open(t, dir, queue.Options{})
		if err := q.Put(t.Context(), sealed(t, "m1", "ann@a.example", "bob@b.example", "ben@b.example", "cat@c.example", "bob@b.example")); err != nil {
			t.Fatal(err)
		}
		wantList(t, q, "outbound due ben@b.example 0", "outbound due bob@b.example 0", "outbound due cat@c.example 0")
		var mu sync.Mutex
		var got []string
		var content string
		stop := run(t, q, queue.Handlers{Outbound: func(_ context.Context, a queue.Attempt) []error {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, fmt.Sprintf("%s from %s to %v n %d report %v", a.MessageID, a.From, keys(a.To), a.N, a.Report))
			content = readAll(t, a.Open)
			if a.Size != int64(len(content)) {
				t.Errorf("size %d of %d", a.Size, len(content))
			}
			return ok(a)
		}})
		synctest.Wait()
		stop()
		slices.Sort(got)
		want := []string{
			"m1 from ann@a.example to [ben@b.example bob@b.example] n 1 report false",
			"m1 from ann@a.example to [cat@c.example] n 1 report false",
		}
		if !slices.Equal(got, want) {
			t.Errorf("attempts %q; want %q", got, want)
		}
		if content == "" {
			t.Error("no content")
		}
		wantList(t, q)
		if left := spool(t, dir); len(left) != 0 {
			t.Errorf("left in the spool: %v", left)
		}
	})
}

// A submission with blind copies is several messages. A fault at any moment
// leaves none of them, so that sending it again repeats nothing.
func TestMessagesPutTogetherAreTakenTogetherOrNotAtAll(t *testing.T) {
	both := []smime.Sealed{sealed(t, "m1", "ann@a.example", "bob@b.example"), sealed(t, "m1", "ann@a.example", "cat@c.example")}
	for k := 1; ; k++ {
		fsys := durable.NewCrashFS()
		q := open(t, tempDir(t), queue.OnFS(queue.Options{}, fsys))
		fsys.FailAt(k, errBoom)
		err := q.Put(t.Context(), both...)
		if fsys.Ops() < k {
			if err != nil || k < 8 {
				t.Errorf("end at %d: %v", k, err)
			}
			wantList(t, q, "outbound due bob@b.example 0", "outbound due cat@c.example 0")
			break
		}
		if !errors.Is(err, errBoom) {
			t.Errorf("fault at %d: %v", k, err)
		}
		wantList(t, q)
		if n := q.Depth().Outbound; n != 0 {
			t.Errorf("fault at %d: %d are due", k, n)
		}
	}
	q := open(t, tempDir(t), queue.Options{})
	for _, list := range [][]smime.Sealed{nil, {{}}, {both[0], {}}} {
		if err := q.Put(t.Context(), list...); err == nil {
			t.Errorf("%d messages, of which one is nothing, were taken", len(list))
		}
	}
	wantList(t, q)
}

func TestRecipientsGoTheirOwnWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := tempDir(t)
		q := open(t, dir, queue.Options{Retry: fixed})
		if err := q.Put(t.Context(), sealed(t, "m1", "ann@a.example", "bob@b.example", "ben@b.example", "bad@b.example")); err != nil {
			t.Fatal(err)
		}
		var j journal
		start := time.Now()
		var second time.Duration
		stop := run(t, q, queue.Handlers{
			Outbound: func(_ context.Context, a queue.Attempt) []error {
				j.note("attempt %d %v", a.N, keys(a.To))
				second = time.Since(start)
				errs := ok(a)
				for i, to := range a.To {
					switch {
					case to.Local() == "bad":
						errs[i] = permanent
					case to.Local() == "ben" && a.N == 1:
						errs[i] = temporary
					}
				}
				return errs
			},
			Expired: func(_ context.Context, a queue.Attempt, rcpt direct.Address, last error) error {
				j.note("expired %s %s: %v", a.MessageID, rcpt, last)
				return nil
			},
		})
		defer stop()
		synctest.Wait()
		j.want(t, "attempt 1 [bad@b.example ben@b.example bob@b.example]", "expired m1 bad@b.example: 550 5.1.1 no such address")
		wantList(t, q, "outbound due ben@b.example 1")
		sleep(20 * time.Minute)
		synctest.Wait()
		if all := j.all(); len(all) != 3 || all[2] != "attempt 2 [ben@b.example]" || !within(second, time.Minute) {
			t.Errorf("handlers saw %q, the last after %v", all, second)
		}
		wantList(t, q)
		if left := spool(t, dir); len(left) != 0 {
			t.Errorf("left in the spool: %v", left)
		}
	})
}

func TestTheScheduleEndsWithALastAttemptAndOneFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, tempDir(t), queue.Options{})
		if err := q.Put(t.Context(), sealed(t, "m1", "ann@a.example", "bob@b.example")); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		var at []time.Duration
		expired := 0
		stop := run(t, q, queue.Handlers{
			Outbound: func(_ context.Context, a queue.Attempt) []error {
				at = append(at, time.Since(start))
				if a.N != len(at) {
					t.Errorf("attempt %d says %d", len(at), a.N)
				}
				return []error{temporary}
			},
			Expired: func(_ context.Context, _ queue.Attempt, _ direct.Address, last error) error {
				if expired++; last.Error() != temporary.Error() {
					t.Errorf("last error %v", last)
				}
				return nil
			},
		})
		defer stop()
		sleep(100 * time.Hour)
		pauses := []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour}
		for i := 1; i < len(at); i++ {
			want := 4 * time.Hour
			if i <= len(pauses) {
				want = pauses[i-1]
			}
			if d := at[i] - at[i-1]; !within(d, want) && i != len(at)-1 {
				t.Errorf("pause %d is %v; want %v and up to a fifth more", i, d, want)
			}
		}
		if at[0] != 0 || at[len(at)-1] != 48*time.Hour || expired != 1 {
			t.Errorf("first attempt %v, last %v, expired %d times", at[0], at[len(at)-1], expired)
		}
		wantList(t, q)
	})
}

func TestTheSenderIsToldEvenIfThatFailsAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := tempDir(t)
		q := open(t, dir, queue.Options{Retry: fixed})
		if err := q.Put(t.Context(), sealed(t, "m1", "ann@a.example", "bob@b.example")); err != nil {
			t.Fatal(err)
		}
		attempts, told := 0, 0
		h := queue.Handlers{
			Outbound: func(context.Context, queue.Attempt) []error { attempts++; return []error{permanent} },
			Expired: func(context.Context, queue.Attempt, direct.Address, error) error {
				if told++; told < 3 {
					return errBoom
				}
				return nil
			},
		}
		stop := run(t, q, h)
		synctest.Wait()
		wantList(t, q, "outbound give up bob@b.example 2")
		stop()
		finish(t, q)
		q = open(t, dir, queue.Options{Retry: fixed}) // it is remembered over a restart
		stop = run(t, q, h)
		defer stop()
		sleep(time.Hour)
		if attempts != 1 || told != 3 {
			t.Errorf("%d attempts and told %d times; want 1 and 3", attempts, told)
		}
		wantList(t, q)
	})
}

func TestADeadHostStarvesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, tempDir(t), queue.Options{})
		for i := range 20 {
			if err := q.Put(t.Context(), sealed(t, fmt.Sprint("dead", i), "ann@a.example", "x@dead.example")); err != nil {
				t.Fatal(err)
			}
		}
		if err := q.Put(t.Context(), sealed(t, "good", "ann@a.example", "bob@b.example")); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		running, most := 0, 0
		var good time.Duration = -1
		start := time.Now()
		stop := run(t, q, queue.Handlers{Outbound: func(ctx context.Context, a queue.Attempt) []error {
			if a.To[0].Domain().String() == "b.example" {
				mu.Lock()
				defer mu.Unlock()
				good = time.Since(start)
				return ok(a)
			}
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			time.Sleep(10 * time.Second)
			mu.Lock()
			running--
			mu.Unlock()
			return []error{temporary}
		}})
		defer stop()
		sleep(55 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		if most != 4 || good != 0 {
			t.Errorf("at most %d attempts at a time for one domain; the good one after %v", most, good)
		}
	})
}

// MAIL FROM is what anybody writes: messages in a partner's name take slots of
// the peer that sends them, not the partner's.
func TestAForgerTakesNoSlotOfAPartner(t *testing.T) {
	for _, tt := range []struct {
		name         string
		forger, peer string // "": our own mail, handed over
		apart        bool
	}{
		{"another address", "192.0.2.7:1", "192.0.2.8:1", true},
		{"our own mail", "192.0.2.7:1", "", true},
		{"the same address", "192.0.2.7:1", "192.0.2.7:2", false},
		{"the same, mapped", "192.0.2.7:1", "[::ffff:192.0.2.7]:1", false},
		{"another /64", "[2001:db8:0:1::1]:1", "[2001:db8:0:2::1]:1", true},
		{"the same /64", "[2001:db8:0:1::1]:1", "[2001:db8:0:1:ffff::1]:1", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := open(t, tempDir(t), queue.Options{})
				send := func(peer, to string) {
					env := envelope(t, "ann@partner.example", to)
					env.Peer, _ = netip.ParseAddrPort(peer)
					receive(t, q, env, wire)
				}
				for range 20 {
					send(tt.forger, "slow@b.example")
				}
				sleep(time.Second) // it is the youngest
				send(tt.peer, "bob@b.example")
				var done atomic.Bool
				stop := run(t, q, queue.Handlers{Inbound: func(_ context.Context, i queue.Item) error {
					if i.Envelope.To[0].Local() == "bob" {
						done.Store(true)
					} else {
						time.Sleep(10 * time.Second)
					}
					return nil
				}})
				defer stop()
				sleep(time.Second)
				if done.Load() != tt.apart {
					t.Errorf("the partner's message was looked at: %v; want %v", done.Load(), tt.apart)
				}
			})
		})
	}
}

func TestAHandlerThatPanicsIsATemporaryError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, tempDir(t), queue.Options{Retry: fixed})
		receive(t, q, envelope(t, "ann@a.example", "bob@b.example"), wire)
		if err := q.Put(t.Context(), sealed(t, "m1", "ann@a.example", "cat@c.example", "dan@c.example")); err != nil {
			t.Fatal(err)
		}
		stop := run(t, q, queue.Handlers{
			Inbound: func(_ context.Context, i queue.Item) error {
				if i.Attempt == 1 {
					panic("inbound")
				}
				return nil
			},
			Outbound: func(_ context.Context, a queue.Attempt) []error {
				switch a.N {
				case 1:
					panic("outbound")
				case 2:
					return nil // the wrong number of results is as bad
				}
				return ok(a)
			},
		})
		defer stop()
		synctest.Wait()
		wantList(t, q, "inbound due bob@b.example 1", "outbound due cat@c.example 1", "outbound due dan@c.example 1")
		sleep(5 * time.Minute)
		wantList(t, q, "outbound due cat@c.example 2", "outbound due dan@c.example 2")
		sleep(time.Hour)
		wantList(t, q)
	})
}

func TestARefusedMessageIsHeldForTheOperator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := tempDir(t)
		q := open(t, dir, queue.Options{})
		id := receive(t, q, envelope(t, "ann@a.example", "bob@b.example"), wire)
		tries := 0
		h := queue.Handlers{Inbound: func(context.Context, queue.Item) error { tries++; return permanent }}
		stop := run(t, q, h)
		synctest.Wait()
		stop()
		wantList(t, q, "inbound held bob@b.example 1")
		finish(t, q)
		q = open(t, dir, queue.Options{})
		stop = run(t, q, h)
		defer stop()
		sleep(time.Hour)
		if tries != 1 {
			t.Errorf("%d tries; a held message is not tried", tries)
		}
		if err := q.Retry(t.Context(), id); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if tries != 2 {
			t.Errorf("%d tries after Retry; want 2", tries)
		}
		wantList(t, q, "inbound held bob@b.example 2")
		sleep(8 * 24 * time.Hour)
		wantList(t, q)
		if left := spool(t, dir); len(left) != 0 {
			t.Errorf("left after its time: %v", left)
		}
	})
}

func TestInboundErrorsAreTriedAgainUntilTheLifetimeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, tempDir(t), queue.Options{Retry: fixed})
		receive(t, q, envelope(t, "ann@a.example", "bob@b.example"), wire)
		tries := 0
		stop := run(t, q, queue.Handlers{Inbound: func(context.Context, queue.Item) error { tries++; return errBoom }})
		defer stop()
		sleep(3 * time.Hour)
		if tries < 6 || tries > 8 {
			t.Errorf("%d tries in an hour of 1, 10, 10 … minutes", tries)
		}
		wantList(t, q, fmt.Sprintf("inbound held bob@b.example %d", tries))
	})
}

func TestCancellingRunDrains(t *testing.T) {
	for _, tt := range []struct {
		name  string
		takes time.Duration
		want  []string
		after time.Duration
	}{
		{"a handler that ends in time", 10 * time.Second, nil, 10 * time.Second},
		{"a handler that does not", time.Hour, []string{"outbound due cat@c.example 0"}, 20 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := open(t, tempDir(t), queue.Options{})
				if err := q.Put(t.Context(), sealed(t, "m1", "ann@a.example", "bob@c.example", "cat@c.example")); err != nil {
					t.Fatal(err)
				}
				stop := run(t, q, queue.Handlers{Outbound: func(ctx context.Context, a queue.Attempt) []error {
					select {
					case <-time.After(tt.takes):
						return ok(a)
					case <-ctx.Done():
						errs := ok(a)
						errs[slices.IndexFunc(a.To, func(to direct.Address) bool { return to.Local() == "cat" })] = ctx.Err()
						return errs // bob had been delivered before
					}
				}})
				synctest.Wait()
				start := time.Now()
				stop()
				if d := time.Since(start); d != tt.after {
					t.Errorf("Run took %v to end; want %v", d, tt.after)
				}
				wantList(t, q, tt.want...)
			})
		})
	}
}

func TestRunTwiceAtATimeIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, tempDir(t), queue.Options{})
		stop := run(t, q, queue.Handlers{})
		synctest.Wait()
		if err := q.Run(t.Context(), queue.Handlers{}); err == nil {
			t.Error("a second Run began")
		}
		stop()
		run(t, q, queue.Handlers{})()
	})
}

func TestDropAndRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := tempDir(t)
		q := open(t, dir, queue.Options{Retry: queue.Schedule{Delays: []time.Duration{24 * time.Hour}}})
		in := receive(t, q, envelope(t, "ann@a.example", "bob@b.example"), wire)
		if err := q.Put(t.Context(), sealed(t, "m1", "ann@a.example", "cat@c.example", "dan@d.example")); err != nil {
			t.Fatal(err)
		}
		var j journal
		block := make(chan struct{})
		stop := run(t, q, queue.Handlers{
			Inbound: func(ctx context.Context, i queue.Item) error { j.note("inbound"); return errBoom },
			Outbound: func(_ context.Context, a queue.Attempt) []error {
				j.note("outbound %d", a.N)
				if a.N == 3 {
					<-block
				}
				return []error{temporary}
			},
		})
		defer stop()
		synctest.Wait()
		entries, err := q.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(entries, func(e queue.Entry) bool { return e.Kind == "outbound" })
		e := entries[i]
		if e.MessageID != "m1" || e.From != "ann@a.example" || e.State != "due" || e.LastError != temporary.Error() || e.Attempts != 1 || !within(e.Next.Sub(e.Created), 24*time.Hour) {
			t.Errorf("entry %+v", e)
		}
		if err := errors.Join(q.Retry(t.Context(), e.ID), q.Retry(t.Context(), in)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := j.all(); len(got) != 6 {
			t.Errorf("handlers saw %q; want two calls of each of three", got)
		}
		if err := q.Retry(t.Context(), e.ID); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // both handlers are at work on it
		if err := errors.Join(q.Drop(t.Context(), e.ID), q.Drop(t.Context(), in)); err != nil {
			t.Fatal(err)
		}
		close(block)
		synctest.Wait()
		wantList(t, q)
		if left := spool(t, dir); len(left) != 0 {
			t.Errorf("left in the spool: %v", left)
		}
		for _, err := range []error{q.Drop(t.Context(), e.ID), q.Retry(t.Context(), e.ID), q.Retry(t.Context(), "x")} {
			if !errors.Is(err, queue.ErrNotFound) {
				t.Errorf("error %v", err)
			}
		}
	})
}

func TestRetryWhileAnAttemptRunsIsNotForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, tempDir(t), queue.Options{Retry: queue.Schedule{Delays: []time.Duration{time.Hour}}})
		id := receive(t, q, envelope(t, "ann@a.example", "bob@b.example"), wire)
		var tries atomic.Int32
		stop := run(t, q, queue.Handlers{Inbound: func(context.Context, queue.Item) error {
			tries.Add(1)
			time.Sleep(time.Second)
			return errBoom
		}})
		defer stop()
		sleep(time.Second / 2)
		if err := q.Retry(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		sleep(30 * time.Minute)
		// The attempt at work ends and counts; the next is by the schedule.
		if tries.Load() != 1 {
			t.Errorf("%d tries; want 1", tries.Load())
		}
		sleep(time.Hour)
		if tries.Load() != 2 {
			t.Errorf("%d tries; want 2", tries.Load())
		}
	})
}

func TestTroubleOfTheNetworkIsNeverPermanent(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"a 5yz reply", fmt.Errorf("rcpt: %w", permanent), "held"},
		{"a 4yz reply", temporary, "due"},
		{"an error that says nothing", errBoom, "due"},
		{"connection refused", fmt.Errorf("dial: %w", refused), "due"},
		{"a time-out", context.DeadlineExceeded, "due"},
		{"a name that is not found", &net.DNSError{IsNotFound: true}, "due"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := open(t, tempDir(t), queue.Options{})
				receive(t, q, envelope(t, "ann@a.example", "bob@b.example"), wire)
				stop := run(t, q, queue.Handlers{Inbound: func(context.Context, queue.Item) error { return tt.err }})
				synctest.Wait()
				stop()
				wantList(t, q, "inbound "+tt.want+" bob@b.example 1")
			})
		})
	}
}

func TestTheStartRepairsWhatACrashLeft(t *testing.T) {
	dir := tempDir(t)
	q := open(t, dir, queue.Options{})
	kept := receive(t, q, envelope(t, "ann@a.example", "bob@b.example"), wire)
	lost := receive(t, q, envelope(t, "ann@a.example", "ben@b.example"), wire)
	if err := q.Put(t.Context(), sealed(t, "m1", "ann@a.example", "cat@c.example")); err != nil {
		t.Fatal(err)
	}
	finish(t, q)
	for _, id := range spool(t, dir) {
		if id != kept {
			if err := os.Remove(filepath.Join(dir, "spool", id)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, name := range []string{"orphan", ".tmp-half"} {
		if err := os.WriteFile(filepath.Join(dir, "spool", name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	q = open(t, dir, queue.Options{})
	wantList(t, q, "inbound due bob@b.example 0")
	if got := spool(t, dir); !slices.Equal(got, []string{kept}) {
		t.Errorf("spool %v; want %s alone, %s having lost its file", got, kept, lost)
	}
}

func TestAMissingIndexNeverCostsTheSpool(t *testing.T) {
	dir := tempDir(t)
	q := open(t, dir, queue.Options{})
	receive(t, q, envelope(t, "ann@a.example", "bob@b.example"), wire)
	finish(t, q)
	index := filepath.Join(dir, "index.db")
	if err := os.Rename(index, index+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := queue.Open(dir, queue.Options{}); err == nil || !strings.Contains(err.Error(), "restore the index") {
		t.Errorf("error %v", err)
	}
	if got := spool(t, dir); len(got) != 1 {
		t.Errorf("spool %v", got)
	}
	if err := os.Rename(index+".away", index); err != nil {
		t.Fatal(err)
	}
	q = open(t, dir, queue.Options{})
	wantList(t, q, "inbound due bob@b.example 0")
}

func TestAnIndexHalfMadeIsMadeAgain(t *testing.T) {
	dir := tempDir(t)
	if err := os.WriteFile(filepath.Join(dir, "index.db.new"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	q := open(t, dir, queue.Options{})
	receive(t, q, envelope(t, "ann@a.example", "bob@b.example"), wire)
	finish(t, q)
	if err := os.WriteFile(filepath.Join(dir, "index.db"), []byte("not an index"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := queue.Open(dir, queue.Options{}); err == nil {
		t.Error("a damaged index was opened")
	}
	if _, err := queue.Open(dir, queue.Options{}); err == nil || strings.Contains(err.Error(), "locked") {
		t.Errorf("the lock was kept after a failure: %v", err)
	}
}

func TestCheckFindsWhatIsWrong(t *testing.T) {
	dir := tempDir(t)
	q, err := queue.Open(dir, queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	short := receive(t, q, envelope(t, "ann@a.example", "bob@b.example"), wire)
	gone := receive(t, q, envelope(t, "ann@a.example", "bob@b.example"), wire)
	path := func(name string) string { return filepath.Join(dir, "spool", name) }
	if err := errors.Join(
		os.Truncate(path(short), 3), os.Remove(path(gone)),
		os.WriteFile(path("orphan"), nil, 0o600), os.WriteFile(path(".tmp-x"), nil, 0o600),
	); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range q.Check() {
		got = append(got, p.String())
	}
	slices.Sort(got)
	want := []string{
		"orphan a file without a row", "spool: temporary file .tmp-x", gone + " a row without a file",
		fmt.Sprintf("%s the file has 3 octets; the row says %d", short, len(wire)),
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("problems\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestFilesAreForTheOwnerOnly(t *testing.T) {
	dir := filepath.Join(tempDir(t), "queue")
	q := open(t, dir, queue.Options{})
	id := receive(t, q, envelope(t, "ann@a.example", "bob@b.example"), wire)
	for _, name := range []string{".", "spool", "spool/" + id, "index.db", "lock"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v, %v", name, info.Mode(), err)
		}
	}
}
