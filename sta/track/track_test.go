package track_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"directnode/internal/direct"
	"directnode/sta/track"
	"directnode/store/kv"
	"directnode/store/kv/bolt"
	"directnode/store/kv/memory"
)

var day = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func addr(t interface{ Fatal(...any) }, s string) direct.Address {
	if s == "" {
		return direct.Address{}
	}
	a, err := direct.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func open(t testing.TB, db kv.Store, o track.Options) *track.Track {
	t.Helper()
	tr, err := track.Open(t.Context(), db, o)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func fresh(t testing.TB) *track.Track { return open(t, memory.New(memory.Options{}), track.Options{}) }

// expect records a message of ours on its way to bob and ben.
func expect(t testing.TB, tr *track.Track, id string) {
	t.Helper()
	err := tr.Expect(t.Context(), track.Message{MessageID: id, From: "ann@a.example", At: day, Recipients: []track.Recipient{
		{Address: "Bob@b.example", State: track.Queued},
		{Address: "ben@b.example", State: track.Queued},
		{Address: "cat@c.example", State: track.Refused, Reason: "no certificate"},
	}})
	if err != nil {
		t.Fatal(err)
	}
}

// ann sends the messages, and hears of them.
func ann(t interface{ Fatal(...any) }) direct.Address { return addr(t, "ann@a.example") }

// state is what Show says about one recipient: the state, then each
// notification as disposition+ if it counts and disposition- if not.
func state(t testing.TB, tr *track.Track, id, address string) string {
	t.Helper()
	m, ok, err := tr.Show(t.Context(), id)
	if err != nil || !ok {
		t.Fatalf("show %s: %v, %v", id, ok, err)
	}
	for _, r := range m.Recipients {
		if r.Address == address {
			s := string(r.State)
			for _, n := range r.Notifications {
				mark := "-"
				if n.Counted {
					mark = "+"
				}
				s += " " + n.Disposition + mark
			}
			return s
		}
	}
	t.Fatalf("%s is no recipient of %s", address, id)
	return ""
}

func TestTheStoryInTheWordsOfTheContract(t *testing.T) {
	tr := fresh(t)
	expect(t, tr, "m1@a.example")
	bob := addr(t, "bob@b.example")
	if err := tr.Sent(t.Context(), "m1@a.example", ann(t), bob, day); err != nil {
		t.Fatal(err)
	}
	counted, err := tr.Record(t.Context(), track.Notification{MessageID: "n1@b.example", Original: "m1@a.example", Recipient: bob, Signer: bob, To: ann(t), Disposition: "processed", At: day.Add(time.Second)})
	if err != nil || !counted {
		t.Fatalf("counted %v, %v", counted, err)
	}
	m, ok, err := tr.Show(t.Context(), "<m1@a.example>")
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	got, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	want := `{
 "direction": "out",
 "message_id": "m1@a.example",
 "from": "ann@a.example",
 "at": "2026-01-02T03:04:05Z",
 "recipients": [
  {
   "address": "ben@b.example",
   "state": "queued"
  },
  {
   "address": "Bob@b.example",
   "state": "processed",
   "notifications": [
    {
     "message_id": "n1@b.example",
     "disposition": "processed",
     "at": "2026-01-02T03:04:06Z",
     "counted": true,
     "signer": "bob@b.example",
     "to": "ann@a.example"
    }
   ]
  },
  {
   "address": "cat@c.example",
   "state": "refused",
   "reason": "no certificate"
  }
 ]
}`
	if string(got) != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if _, ok, err := tr.Show(t.Context(), "unknown"); ok || err != nil {
		t.Errorf("unknown message: %v, %v", ok, err)
	}
}

// Only a notification about a message that went to the recipient it speaks of,
// signed by that recipient, counts; the others are kept and change nothing.
func TestWhichNotificationsCount(t *testing.T) {
	for _, tt := range []struct {
		name                                  string
		original, recipient, signer, disposed string
		counted                               bool
		want                                  string // of the recipient
		to                                    string // "": the sender
	}{
		{"processed", "m1", "bob@b.example", "bob@b.example", "processed", true, "processed processed+", ""},
		{"case does not count", "m1", "BOB@B.example", "bOb@b.example", "Processed", true, "processed Processed+", ""},
		{"dispatched without processed", "m1", "bob@b.example", "bob@b.example", "dispatched", true, "dispatched dispatched+", ""},
		{"failed", "m1", "bob@b.example", "bob@b.example", "failed", true, "failed failed+", ""},
		{"displayed is shown and is no state", "m1", "bob@b.example", "bob@b.example", "displayed", true, "queued displayed+", ""},
		{"denied says nothing", "m1", "bob@b.example", "bob@b.example", "denied", false, "queued denied-", ""},
		{"states that no disposition has", "m1", "bob@b.example", "bob@b.example", "timed_out", false, "queued timed_out-", ""},
		{"nobody signed", "m1", "bob@b.example", "", "processed", false, "queued processed-", ""},
		{"another one signed", "m1", "bob@b.example", "eve@b.example", "processed", false, "queued processed-", ""},
		{"another recipient signed", "m1", "bob@b.example", "ben@b.example", "processed", false, "queued processed-", ""},
		{"another one of the domain signed a success", "m1", "bob@b.example", "postmaster@b.example", "dispatched", false, "queued dispatched-", ""},
		{"another one of the domain signed a failure", "m1", "bob@b.example", "postmaster@b.example", "failed", true, "failed failed+", ""},
		{"another domain signed a failure", "m1", "bob@b.example", "postmaster@c.example", "failed", false, "queued failed-", ""},
		{"a domain below signed a failure", "m1", "bob@b.example", "postmaster@x.b.example", "failed", false, "queued failed-", ""},
		{"to another one of ours", "m1", "bob@b.example", "bob@b.example", "failed", false, "queued failed-", "eve@a.example"},
		{"to one of another domain of ours", "m1", "bob@b.example", "bob@b.example", "processed", false, "queued processed-", "ann@z.example"},
		{"processed, asked for at another address", "m1", "bob@b.example", "bob@b.example", "processed", true, "processed processed+", "office@a.example"},
		{"the sender in another case", "m1", "bob@b.example", "bob@b.example", "failed", true, "failed failed+", "ANN@A.example"},
		{"refused recipient", "m1", "cat@c.example", "cat@c.example", "processed", false, "queued", ""},
		{"no recipient of the message", "m1", "eve@b.example", "eve@b.example", "processed", false, "queued", ""},
		{"no recipient at all", "m1", "", "bob@b.example", "processed", false, "queued", ""},
		{"unknown message", "m2", "bob@b.example", "bob@b.example", "processed", false, "queued", ""},
		{"no message at all", "", "bob@b.example", "bob@b.example", "processed", false, "queued", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := fresh(t)
			expect(t, tr, "m1")
			n := track.Notification{MessageID: "n1", Original: tt.original, Recipient: addr(t, tt.recipient), Signer: addr(t, tt.signer), To: addr(t, cmp.Or(tt.to, "ann@a.example")), Disposition: tt.disposed, At: day}
			for range 3 { // it may be recorded again
				counted, err := tr.Record(t.Context(), n)
				if err != nil || counted != tt.counted {
					t.Errorf("counted %v, %v; want %v", counted, err, tt.counted)
				}
			}
			if got := state(t, tr, "m1", "Bob@b.example"); got != tt.want {
				t.Errorf("bob is %q; want %q", got, tt.want)
			}
			if got := state(t, tr, "m1", "ben@b.example"); got != "queued" {
				t.Errorf("ben is %q", got)
			}
		})
	}
}

func TestANotificationAboutNobodyIsKeptWithItsReason(t *testing.T) {
	tr := fresh(t)
	expect(t, tr, "m1")
	eve := addr(t, "eve@e.example")
	for i := range 40 { // bounded
		n := track.Notification{MessageID: fmt.Sprint("n", i), Original: "m1", Recipient: eve, Signer: eve, Disposition: "failed", At: day.Add(time.Duration(i))}
		if counted, err := tr.Record(t.Context(), n); counted || err != nil {
			t.Fatalf("counted %v, %v", counted, err)
		}
	}
	m, _, err := tr.Show(t.Context(), "m1")
	if err != nil || len(m.Notifications) != 16 {
		t.Fatalf("%d kept, %v; want 16", len(m.Notifications), err)
	}
	n := m.Notifications[0]
	if n.MessageID != "n0" || n.Counted || n.Recipient != "eve@e.example" || n.Reason != "the message did not go to this recipient" {
		t.Errorf("kept %+v", n)
	}
}

func TestManyNotificationsCannotPushOutTheOneThatCounts(t *testing.T) {
	tr := fresh(t)
	expect(t, tr, "m1")
	bob, ben := addr(t, "bob@b.example"), addr(t, "ben@b.example")
	record := func(id string, signer direct.Address) {
		t.Helper()
		_, err := tr.Record(t.Context(), track.Notification{MessageID: id, Original: "m1", Recipient: bob, Signer: signer, To: ann(t), Disposition: "processed", At: day})
		if err != nil {
			t.Fatal(err)
		}
	}
	record("good", bob)
	for i := range 50 {
		record(fmt.Sprint("bad", i), ben)
	}
	m, _, err := tr.Show(t.Context(), "m1")
	if err != nil {
		t.Fatal(err)
	}
	notes := m.Recipients[1].Notifications
	if len(notes) != 16 || notes[0].MessageID != "good" || notes[15].MessageID != "bad49" {
		t.Errorf("%d kept, the first %s, the last %s", len(notes), notes[0].MessageID, notes[len(notes)-1].MessageID)
	}
}

func TestOwnEventsNeverStepBack(t *testing.T) {
	bob := addr(t, "bob@b.example")
	for _, tt := range []struct {
		name, events, want string
	}{
		{"sent", "sent", "sent"},
		{"failed", "failed", "failed"},
		{"failed after sent", "sent failed", "failed"},
		{"sent after failed", "failed sent", "failed"},
		{"sent after processed", "processed sent", "processed processed+"},
		{"given up after processed", "sent processed failed", "processed processed+"},
		{"submitted again after processed", "processed expect", "processed processed+"},
		{"failed according to the recipient", "processed mdn-failed", "failed processed+ failed+"},
		{"the same in the other order", "mdn-failed processed", "failed failed+ processed+"},
		{"dispatched before processed", "dispatched processed", "dispatched dispatched+ processed+"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := fresh(t)
			expect(t, tr, "m1")
			for _, e := range strings.Fields(tt.events) {
				var err error
				switch e {
				case "sent":
					err = tr.Sent(t.Context(), "m1", ann(t), bob, day)
				case "failed":
					var applied bool
					applied, err = tr.Failed(t.Context(), "m1", ann(t), bob, "no such address", day)
					if applied == strings.Contains(tt.events, "processed failed") {
						t.Errorf("the failure applied: %v", applied)
					}
				case "expect":
					expect(t, tr, "m1")
				default:
					_, err = tr.Record(t.Context(), track.Notification{MessageID: e, Original: "m1", Recipient: bob, Signer: bob, To: ann(t), Disposition: strings.TrimPrefix(e, "mdn-"), At: day})
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if got := state(t, tr, "m1", "Bob@b.example"); got != tt.want {
				t.Errorf("bob is %q; want %q", got, tt.want)
			}
		})
	}
	tr := fresh(t)
	expect(t, tr, "m1") // and another one of ours has used the same Message-ID
	if err := tr.Expect(t.Context(), track.Message{MessageID: "m1", From: "zoe@a.example", At: day, Recipients: []track.Recipient{{Address: "bob@b.example", State: track.Queued}}}); err != nil {
		t.Fatal(err)
	}
	zoe := addr(t, "zoe@a.example")
	if counted, err := tr.Record(t.Context(), track.Notification{MessageID: "n", Original: "m1", Recipient: bob, Signer: bob, To: zoe, Disposition: "processed", At: day}); !counted || err != nil {
		t.Errorf("counted %v, %v", counted, err)
	}
	for from, want := range map[direct.Address]bool{ann(t): true, zoe: false} {
		if applied, err := tr.Failed(t.Context(), "m1", from, bob, "x", day); applied != want || err != nil {
			t.Errorf("the failure of %s's message applied: %v, %v", from, applied, err)
		}
	}
	applied, err := tr.Failed(t.Context(), "unknown", ann(t), bob, "x", day)
	if err := errors.Join(tr.Sent(t.Context(), "unknown", ann(t), bob, day), err); err != nil || !applied {
		t.Errorf("an unknown message stops the queue: %v, applied %v", err, applied)
	}
}

func TestARefusedRecipientMayBeSubmittedAgain(t *testing.T) {
	tr := fresh(t)
	expect(t, tr, "m1")
	err := tr.Expect(t.Context(), track.Message{MessageID: "m1", From: "Ann@a.example", At: day, Recipients: []track.Recipient{
		{Address: "cat@c.example", State: track.Queued}, {Address: "CAT@c.example", State: track.Refused}, {Address: "ben@b.example", State: track.Refused},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got := state(t, tr, "m1", "cat@c.example") + ", " + state(t, tr, "m1", "ben@b.example"); got != "queued, queued" {
		t.Errorf("cat and ben are %s", got)
	}
}

// What the queue did not take is not on its way, unless another submission of
// the same message is.
func TestASubmissionThatWasNotTakenIsWithdrawn(t *testing.T) {
	tr := fresh(t)
	submit := func(submission string, rcpts ...string) track.Message {
		t.Helper()
		m := track.Message{MessageID: "m1", From: "ann@a.example", At: day, Submission: submission}
		for _, r := range rcpts {
			m.Recipients = append(m.Recipients, track.Recipient{Address: r, State: track.Queued})
		}
		if err := tr.Expect(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	submit("s1", "bob@b.example")
	for range 2 { // it may be repeated
		if err := tr.Withdraw(t.Context(), submit("s2", "bob@b.example", "ben@b.example"), "not accepted: try again"); err != nil {
			t.Fatal(err)
		}
	}
	if got := state(t, tr, "m1", "bob@b.example") + ", " + state(t, tr, "m1", "ben@b.example"); got != "queued, refused" {
		t.Errorf("bob and ben are %s", got)
	}
	if m, _, _ := tr.Show(t.Context(), "m1"); m.Recipients[0].Reason != "not accepted: try again" {
		t.Errorf("ben's reason is %q", m.Recipients[0].Reason)
	}
	submit("s3", "ben@b.example")
	if err := tr.Withdraw(t.Context(), track.Message{MessageID: "m1", From: "ann@a.example", Submission: "s2"}, "late"); err != nil {
		t.Fatal(err)
	}
	if got := state(t, tr, "m1", "ben@b.example"); got != "queued" {
		t.Errorf("after the next submission ben is %s", got)
	}
}

func TestInboundAndOutboundOfOneIdentifierStayApart(t *testing.T) {
	tr := fresh(t)
	in := track.Message{MessageID: "m1", From: "ann@a.example", At: day, Recipients: []track.Recipient{{Address: "bob@b.example", State: track.Delivered}}}
	if err := tr.Delivered(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if got := state(t, tr, "m1", "bob@b.example"); got != "delivered" {
		t.Errorf("bob is %q", got)
	}
	in.Recipients[0].State = track.Refused // sent again, and refused now: it was delivered
	if err := tr.Delivered(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if got := state(t, tr, "m1", "bob@b.example"); got != "delivered" {
		t.Errorf("bob is %q", got)
	}
	bob := addr(t, "bob@b.example")
	counted, err := tr.Record(t.Context(), track.Notification{MessageID: "n", Original: "m1", Recipient: bob, Signer: bob, To: ann(t), Disposition: "processed", At: day})
	if counted || err != nil {
		t.Errorf("a notification about somebody else's message: counted %v, %v", counted, err)
	}
	expect(t, tr, "m1")
	if m, _, err := tr.Show(t.Context(), "m1"); m.Direction != track.Out || err != nil {
		t.Errorf("shown %s, %v; want our own", m.Direction, err)
	}
	list, err := tr.List(t.Context(), 10)
	if err != nil || len(list) != 2 {
		t.Errorf("%d messages, %v; want 2", len(list), err)
	}
}

func TestListIsNewestFirstAndLimited(t *testing.T) {
	tr := fresh(t)
	for _, i := range []int{3, 1, 4, 5, 2} {
		if err := tr.Delivered(t.Context(), track.Message{MessageID: fmt.Sprint("m", i), At: day.Add(time.Duration(i) * time.Hour)}); err != nil {
			t.Fatal(err)
		}
	}
	for limit, want := range map[int]string{0: "m5 m4 m3 m2 m1", 3: "m5 m4 m3", 9: "m5 m4 m3 m2 m1"} {
		list, err := tr.List(t.Context(), limit)
		var ids []string
		for _, m := range list {
			ids = append(ids, m.MessageID)
		}
		if got := strings.Join(ids, " "); got != want || err != nil {
			t.Errorf("limit %d: %s, %v; want %s", limit, got, err, want)
		}
	}
}

func TestOldStoriesAreForgotten(t *testing.T) {
	db := memory.New(memory.Options{})
	tr := open(t, db, track.Options{Keep: 24 * time.Hour})
	bob := addr(t, "bob@b.example")
	for i := range 5 {
		at := day.Add(time.Duration(i) * 10 * time.Hour)
		m := track.Message{MessageID: fmt.Sprint("m", i), From: "ann@a.example", At: at, Recipients: []track.Recipient{{Address: "bob@b.example", State: track.Queued}}}
		if err := tr.Expect(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		if _, err := tr.Record(t.Context(), track.Notification{MessageID: fmt.Sprint("n", i), Original: "unknown", Recipient: bob, Signer: bob, To: ann(t), Disposition: "processed", At: at}); err != nil {
			t.Fatal(err)
		}
	}
	// The last message came at hour 40: those of hours 0 and 10 are too old.
	list, err := tr.List(t.Context(), 0)
	if err != nil || len(list) != 3 || list[2].MessageID != "m2" {
		t.Errorf("%d messages, %v; want m4, m3, m2", len(list), err)
	}
	if n, err := tr.Prune(t.Context(), day.Add(1000*time.Hour)); n != 3+3 || err != nil {
		t.Errorf("%d forgotten, %v; want the rest, 3 messages and 3 notifications about nobody", n, err)
	}
	all, _, err := kv.All(t.Context(), db, "")
	if err != nil || len(all) != 1 || all[0].Key != "format" {
		t.Errorf("%d rows are left, %v; want the format alone", len(all), err)
	}
}

// Strangers make as many refused messages as they like: those are remembered as
// long as the queue holds them.
func TestWhatCameToNobodyIsForgottenAfterSevenDays(t *testing.T) {
	tr := fresh(t)
	receive := func(id string, at time.Time, states ...track.State) {
		t.Helper()
		m := track.Message{MessageID: id, From: "eve@e.example", At: at}
		for i, s := range states {
			m.Recipients = append(m.Recipients, track.Recipient{Address: fmt.Sprintf("u%d@b.example", i), State: s})
		}
		if err := tr.Delivered(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	receive("refused", day, track.Refused, track.Refused)
	receive("partly", day, track.Refused, track.Delivered)
	receive("later", day, track.Refused)
	receive("later", day, track.Delivered) // a key was added, and it was tried again
	expect(t, tr, "ours")
	for _, step := range []struct {
		days int
		want string
	}{{6, "later ours partly refused t6"}, {8, "later ours partly t6 t8"}, {91, "t6 t8 t91"}, {200, "t200"}} {
		receive(fmt.Sprint("t", step.days), day.Add(time.Duration(step.days)*24*time.Hour), track.Delivered) // pruning goes along with what happens
		list, err := tr.List(t.Context(), 0)
		var ids []string
		for _, m := range list {
			ids = append(ids, m.MessageID)
		}
		slices.Sort(ids)
		if got := strings.Join(ids, " "); got != step.want || err != nil {
			t.Errorf("after %d days: %s, %v; want %s", step.days, got, err, step.want)
		}
	}
}

// What a peer says of a failure comes out of an encrypted message, and stands on
// the operator's terminal.
func TestAPeersWordsAreOneShortLine(t *testing.T) {
	for said, want := range map[string]string{
		"mailbox full": "mailbox full",
		"a\r\nb\tc\x00d\x1b[2Je\u202ef\u2028g\xffh": "a b c d [2Je f g h",
		strings.Repeat("ö", 500):                    strings.Repeat("ö", 200),
	} {
		tr := fresh(t)
		expect(t, tr, "m1")
		bob := addr(t, "bob@b.example")
		if _, err := tr.Record(t.Context(), track.Notification{MessageID: "n", Original: "m1", Recipient: bob, Signer: bob, To: ann(t), Disposition: "failed", Reason: said, At: day}); err != nil {
			t.Fatal(err)
		}
		m, _, err := tr.Show(t.Context(), "m1")
		if err != nil {
			t.Fatal(err)
		}
		if r := m.Recipients[1]; r.Reason != want || r.Notifications[0].Reason != want {
			t.Errorf("%.40q is kept as %q and %q", said, r.Reason, r.Notifications[0].Reason)
		}
	}
}

func TestOddAndLongIdentifiersFitTheStore(t *testing.T) {
	tr := fresh(t)
	long := strings.Repeat("x", 990)
	far := addr(t, strings.Repeat("l", 64)+"@"+strings.Repeat("d.", 90)+"example")
	for _, id := range []string{long + "1", long + "2", "a\x00b", "a", "a\x00", "#", "a/b"} {
		m := track.Message{MessageID: id, From: far.String(), At: day, Recipients: []track.Recipient{{Address: far.String(), State: track.Queued, Reason: strings.Repeat("r", 5000)}}}
		if err := tr.Expect(t.Context(), m); err != nil {
			t.Fatalf("%.20q: %v", id, err)
		}
		m, ok, err := tr.Show(t.Context(), id)
		if err != nil || !ok || m.MessageID != id || len(m.Recipients) != 1 || len(m.Recipients[0].Reason) > 300 {
			t.Errorf("%.20q: %v, %v, %d recipients", id, ok, err, len(m.Recipients))
		}
	}
	if err := tr.Expect(t.Context(), track.Message{}); err == nil {
		t.Error("a message without an identifier was taken")
	}
}

func TestTheStorySurvivesARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "track.db")
	db, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, open(t, db, track.Options{}), "m1")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = bolt.Open(path, bolt.Options{}); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if got := state(t, open(t, db, track.Options{}), "m1", "ben@b.example"); got != "queued" {
		t.Errorf("ben is %q", got)
	}
	if _, err := db.Txn(t.Context(), nil, []kv.Op{{Kind: kv.Put, Key: "format", Value: []byte("2")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := track.Open(t.Context(), db, track.Options{}); err == nil || !strings.Contains(err.Error(), `format "2"`) {
		t.Errorf("a later format was opened: %v", err)
	}
}

func TestManyAtOnceLoseNothing(t *testing.T) {
	tr := fresh(t)
	expect(t, tr, "m1")
	bob := addr(t, "bob@b.example")
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			for _, d := range []string{"processed", "displayed"} {
				n := track.Notification{MessageID: fmt.Sprint("n", d, i%5), Original: "m1", Recipient: bob, Signer: bob, To: ann(t), Disposition: d, At: day}
				if counted, err := tr.Record(t.Context(), n); !counted || err != nil {
					t.Errorf("counted %v, %v", counted, err)
				}
			}
			if err := tr.Sent(t.Context(), "m1", ann(t), bob, day); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := state(t, tr, "m1", "Bob@b.example"); !strings.HasPrefix(got, "processed ") || strings.Count(got, "+") != 10 {
		t.Errorf("bob is %q; want each of 10 notifications once", got)
	}
}

// The state of a recipient is that of a model, whatever happens in whatever
// order.
func TestStatesAgreeWithTheModel(t *testing.T) {
	people := []string{"bob@b.example", "ben@b.example", "cat@c.example", "eve@e.example"}
	rapid.Check(t, func(rt *rapid.T) {
		tr, err := track.Open(t.Context(), memory.New(memory.Options{}), track.Options{})
		if err != nil {
			rt.Fatal(err)
		}
		model := map[string]string{} // message and recipient → state
		level := map[string]int{"refused": 0, "queued": 1, "sent": 2, "processed": 3, "dispatched": 4, "failed": 4}
		judged := map[string]bool{} // notification → whether it counted
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			id := rapid.SampledFrom([]string{"m1", "m2"}).Draw(rt, "message")
			who := rapid.SampledFrom(people).Draw(rt, "recipient")
			key, rcpt := id+" "+who, addr(rt, who)
			now, known := model[key]
			switch event := rapid.SampledFrom([]string{"expect", "refuse", "sent", "failed", "note", "note", "note"}).Draw(rt, "event"); event {
			case "expect", "refuse":
				s := map[string]string{"expect": "queued", "refuse": "refused"}[event]
				if !known || now == "refused" {
					model[key] = s
				}
				err = tr.Expect(t.Context(), track.Message{MessageID: id, From: "ann@a.example", At: day, Recipients: []track.Recipient{{Address: who, State: track.State(s)}}})
			case "sent":
				if now == "queued" {
					model[key] = "sent"
				}
				err = tr.Sent(t.Context(), id, ann(rt), rcpt, day)
			case "failed":
				if now == "queued" || now == "sent" {
					model[key] = "failed"
				}
				var applied bool
				if applied, err = tr.Failed(t.Context(), id, ann(rt), rcpt, "", day); applied == (now == "processed" || now == "dispatched") {
					rt.Fatalf("a failure of what is %q applied: %v", now, applied)
				}
			case "note":
				n := track.Notification{Original: id, Recipient: rcpt, To: ann(rt), At: day,
					Disposition: rapid.SampledFrom([]string{"processed", "dispatched", "failed", "displayed"}).Draw(rt, "disposition"),
					Signer:      addr(rt, rapid.SampledFrom(people).Draw(rt, "signer"))}
				n.MessageID = strings.Join([]string{id, who, n.Disposition, n.Signer.String()}, "-")
				// One that was judged once keeps its answer and does no more.
				want, again := judged[n.MessageID]
				if !again {
					want = known && now != "refused" && (n.Signer.Equal(rcpt) || n.Disposition == "failed" && n.Signer.Domain() == rcpt.Domain())
					if known {
						judged[n.MessageID] = want
					}
					if want && level[n.Disposition] > level[now] {
						model[key] = n.Disposition
					}
				}
				var counted bool
				if counted, err = tr.Record(t.Context(), n); counted != want {
					rt.Fatalf("%s counted %v; want %v", n.MessageID, counted, want)
				}
			}
			if err != nil {
				rt.Fatal(err)
			}
		}
		for _, id := range []string{"m1", "m2"} {
			m, _, err := tr.Show(t.Context(), id)
			if err != nil {
				rt.Fatal(err)
			}
			got := map[string]string{}
			for _, r := range m.Recipients {
				got[id+" "+r.Address] = string(r.State)
			}
			for _, who := range people {
				if got[id+" "+who] != model[id+" "+who] {
					rt.Fatalf("%s %s is %q; the model says %q", id, who, got[id+" "+who], model[id+" "+who])
				}
			}
		}
	})
}
