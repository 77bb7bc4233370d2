package queue_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"directnode/internal/mail"
	"directnode/sta/queue"
	"directnode/sta/smime"
)

func delivery(t testing.TB, rcpt string, digest byte, staged string) mail.Delivery {
	return mail.Delivery{Recipient: addr(t, rcpt), Digest: [32]byte{digest}, Staged: staged}
}

func staged(list []mail.Delivery) (names []string) {
	for _, d := range list {
		names = append(names, d.Staged)
	}
	return names
}

func TestSettleMakesDeliveriesAndNoticesDueTogether(t *testing.T) {
	dir := tempDir(t)
	q := open(t, dir, queue.Options{})
	id := receive(t, q, envelope(t, "ann@a.example", "bob@b.example", "ben@b.example"), wire)
	deliveries := []mail.Delivery{delivery(t, "bob@b.example", 1, "bob/1"), delivery(t, "ben@b.example", 1, "ben/1")}
	notices := []smime.Sealed{sealed(t, "n1", "bob@b.example", "ann@a.example"), {}}
	fresh, err := q.Settle(t.Context(), id, deliveries, notices)
	if err != nil || len(fresh) != 2 {
		t.Fatalf("fresh %v, %v", fresh, err)
	}
	want := []string{"outbound due ann@a.example 0", "publish due ben@b.example 0", "publish due bob@b.example 0"}
	wantList(t, q, want...)
	if got := spool(t, dir); len(got) != 1 {
		t.Errorf("spool %v; want the notice alone", got)
	}
	if _, err := q.Settle(t.Context(), id, deliveries, notices); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("settled twice: %v", err)
	}
	wantList(t, q, want...)
}

// AS 3.2-a: a retransmitted duplicate gives no second delivery and no second
// notification.
func TestADuplicateIsNeitherDeliveredNorNotified(t *testing.T) {
	dir := tempDir(t)
	q := open(t, dir, queue.Options{})
	settle := func(name string, deliveries ...mail.Delivery) []string {
		t.Helper()
		id := receive(t, q, envelope(t, "ann@a.example", "bob@b.example"), wire)
		var notices []smime.Sealed
		for range deliveries {
			notices = append(notices, sealed(t, name, "bob@b.example", "ann@a.example"))
		}
		fresh, err := q.Settle(t.Context(), id, deliveries, notices)
		if err != nil {
			t.Fatal(err)
		}
		return staged(fresh)
	}
	if got := settle("n1", delivery(t, "bob@b.example", 1, "1")); len(got) != 1 {
		t.Errorf("the first is not fresh")
	}
	// Another message, and the same for somebody else, are fresh; the same
	// again, in whatever case the address is written, is not.
	got := settle("n2", delivery(t, "BOB@B.example", 1, "2"), delivery(t, "ben@b.example", 1, "3"), delivery(t, "bob@b.example", 2, "4"), delivery(t, "bob@b.example", 2, "5"))
	if len(got) != 2 || got[0] != "3" || got[1] != "4" {
		t.Errorf("fresh %v; want 3 and 4", got)
	}
	if got := spool(t, dir); len(got) != 3 {
		t.Errorf("%d notices in the spool; want 3", len(got))
	}
	finish(t, q)
	q = open(t, dir, queue.Options{}) // the memory survives a restart
	if got := settle("n3", delivery(t, "bob@b.example", 1, "6")); len(got) != 0 {
		t.Errorf("after a restart %v is fresh", got)
	}
}

func TestADuplicateIsKnownForFourteenDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, tempDir(t), queue.Options{})
		published := 0
		stop := run(t, q, queue.Handlers{
			Inbound: func(ctx context.Context, i queue.Item) error {
				_, err := q.Settle(ctx, i.ID, []mail.Delivery{delivery(t, "bob@b.example", 1, i.ID)}, nil)
				return err
			},
			Publish: func(context.Context, mail.Delivery) error { published++; return nil },
		})
		defer stop()
		for _, step := range []struct {
			wait time.Duration
			want int
		}{{0, 1}, {time.Hour, 1}, {13 * 24 * time.Hour, 1}, {23*time.Hour - time.Minute, 1}, {3 * time.Hour, 2}, {13 * 24 * time.Hour, 2}} {
			sleep(step.wait)
			receive(t, q, envelope(t, "ann@a.example", "bob@b.example"), wire)
			synctest.Wait()
			if published != step.want {
				t.Errorf("after %v more: published %d times; want %d", step.wait, published, step.want)
			}
		}
	})
}

func TestADeliveryWithNothingToPublishStillSendsItsNotice(t *testing.T) {
	q := open(t, tempDir(t), queue.Options{})
	id := receive(t, q, envelope(t, "ann@a.example", "bob@b.example"), wire)
	_, err := q.Settle(t.Context(), id, []mail.Delivery{delivery(t, "bob@b.example", 1, "")}, []smime.Sealed{sealed(t, "n", "bob@b.example", "ann@a.example")})
	if err != nil {
		t.Fatal(err)
	}
	wantList(t, q, "outbound due ann@a.example 0")
}

func TestSettleRefusesMoreNoticesThanDeliveries(t *testing.T) {
	q := open(t, tempDir(t), queue.Options{})
	id := receive(t, q, envelope(t, "ann@a.example", "bob@b.example"), wire)
	if _, err := q.Settle(t.Context(), id, nil, []smime.Sealed{{}}); err == nil {
		t.Error("taken")
	}
	if _, err := q.Settle(t.Context(), "unknown", nil, nil); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("unknown message: %v", err)
	}
	wantList(t, q, "inbound due bob@b.example 0")
}

// What was accepted is published in the end, whatever the mailbox says: the
// processed notification has gone out (AS 3.2-d).
func TestPublishingNeverGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, tempDir(t), queue.Options{})
		id := receive(t, q, envelope(t, "ann@a.example", "bob@b.example"), wire)
		if _, err := q.Settle(t.Context(), id, []mail.Delivery{delivery(t, "bob@b.example", 1, "s")}, nil); err != nil {
			t.Fatal(err)
		}
		full := true
		tries := 0
		stop := run(t, q, queue.Handlers{Publish: func(_ context.Context, d mail.Delivery) error {
			tries++
			if d != delivery(t, "bob@b.example", 1, "s") {
				t.Errorf("delivery %+v", d)
			}
			if full {
				return permanent
			}
			return nil
		}})
		defer stop()
		sleep(6 * 24 * time.Hour) // three times the lifetime of a message
		if tries < 30 {
			t.Errorf("only %d tries in six days", tries)
		}
		if err := q.Drop(t.Context(), id); !errors.Is(err, queue.ErrAccepted) {
			t.Errorf("an accepted message was dropped: %v", err)
		}
		full = false
		if err := q.Retry(t.Context(), id); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		wantList(t, q)
	})
}
