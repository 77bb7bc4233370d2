package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"directnode/internal/admin"
	"directnode/internal/testnode"
)

func TestMain(m *testing.M) {
	code := m.Run()
	testnode.Clean()
	os.Exit(code)
}

// TestCrash kills either node at random moments while messages flow. Whatever
// was answered 250 is delivered exactly once and notified exactly once.
func TestCrash(t *testing.T) {
	kills, messages := 3, 12 // `make test`; `make crash` asks for 50 kills and 200 messages
	if v, err := strconv.Atoi(os.Getenv("DIRECTNODE_CRASH")); err == nil {
		kills, messages = v, 4*v
	} else if testing.Short() {
		t.Skip("short")
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	// One source of chance for each goroutine.
	killing, pacing := rand.New(rand.NewPCG(seed, 0)), rand.New(rand.NewPCG(seed, 1))
	w := testnode.Quickstart(t)
	before := len(w.B.Mail(w.Bob))

	var ids []string
	for i := range messages {
		ids = append(ids, fmt.Sprintf("crash-%d-%d@a.direct.test", seed, i))
	}
	var submitters sync.WaitGroup
	work := make(chan string)
	for range 4 {
		submitters.Go(func() {
			for id := range work {
				message := testnode.Compose(w.Alice, w.Bob, id, "letter "+id)
				for w.A.Submit(w.Alice, []directAddress{w.Bob}, message) != nil {
					time.Sleep(10 * time.Millisecond) // no 250: the client's copy is the only one
				}
			}
		})
	}
	stop := make(chan struct{})
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		for range kills {
			time.Sleep(time.Duration(10+killing.IntN(400)) * time.Millisecond)
			n := []*testnode.Node{w.A, w.B}[killing.IntN(2)]
			n.Kill()
			time.Sleep(time.Duration(killing.IntN(50)) * time.Millisecond)
			n.Launch()
		}
		close(stop)
	}()
	// The messages are spread over the time of the kills.
	for i, id := range ids {
		work <- id
		if i < len(ids)*9/10 {
			select {
			case <-stop:
			case <-time.After(time.Duration(pacing.IntN(60)) * time.Millisecond * time.Duration(kills) * 8 / time.Duration(messages)):
			}
		}
	}
	close(work)
	submitters.Wait()
	<-killed
	w.A.Ready()
	w.B.Ready()

	for _, id := range ids {
		testnode.Eventually(t, "processed: "+id, func() bool {
			m := w.A.Message(id)
			return len(m.Recipients) == 1 && m.Recipients[0].State == "processed"
		})
	}
	testnode.Eventually(t, "both queues are empty", func() bool { return idle(w.A) && idle(w.B) })

	copies := make(map[string]int)
	for _, text := range w.B.Mail(w.Bob) {
		for _, id := range ids {
			if strings.Contains(string(text), "Message-ID: <"+id+">") {
				copies[id]++
			}
		}
	}
	for _, id := range ids {
		if copies[id] != 1 {
			t.Errorf("%s was delivered %d times", id, copies[id])
		}
		if n := w.A.Message(id).Recipients[0].Notifications; len(n) != 1 || !n[0].Counted {
			t.Errorf("%s has notifications %+v, want exactly one that counts", id, n)
		}
	}
	if got := len(w.B.Mail(w.Bob)) - before; got != messages {
		t.Errorf("%d messages delivered for %d submitted", got, messages)
	}
	for _, n := range []*testnode.Node{w.A, w.B} {
		if out, code := n.Ctl("store", "check"); code != 0 {
			t.Errorf("store check: exit %d\n%s", code, out)
		}
	}
	t.Logf("%d kills, %d messages: each delivered once and notified once; %d repetitions recognized", kills, messages, repetitions(t, w))
}

func idle(n *testnode.Node) bool {
	var list []admin.QueueItem
	return n.Client.Do(context.Background(), "queue.list", struct{}{}, &list) == nil && len(list) == 0
}

// repetitions counts how often either node met a message that it had before:
// the cases that the test is about.
func repetitions(t *testing.T, w *testnode.World) int {
	t.Helper()
	n := 0
	for _, name := range []string{"node-a.log", "node-b.log"} {
		b, err := os.ReadFile(filepath.Join(w.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		n += bytes.Count(b, []byte("had before"))
	}
	return n
}
