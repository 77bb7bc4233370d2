package queue

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// kind says which handler a task is for.
type kind int

const (
	inbound kind = iota
	outbound
	publish
)

// String is the kind's name in logs and for the administrator.
func (k kind) String() string { return [...]string{"inbound", "outbound", "publish"}[k] }

// lane is what shares its slots: for outbound and publish a domain, for inbound
// the peer that the messages came from.
type lane struct {
	kind kind
	name string
}

// taskKey names a task. key is the message's ID, and for publishing the key of
// the row. All recipients of one message in one domain are one outbound task.
type taskKey struct {
	lane
	key string
}

// task is something due at a time. It stands for rows in the index, which
// alone say what is to be done.
type task struct {
	taskKey
	next    time.Time
	running bool
	again   bool // became due anew while it was running
}

// schedule keeps every task in memory, by lane and in order of time.
type schedule struct {
	perDomain int
	pool      [3]int // by kind: how many may run

	mu      sync.Mutex
	tasks   map[taskKey]*task // guarded by mu
	lanes   map[lane]*waiting // guarded by mu
	running [3]int            // guarded by mu; by kind
}

// waiting is what a lane has to do.
type waiting struct {
	tasks   []*task // not running, by time, then key
	running int
}

func newSchedule(perDomain int) *schedule {
	return &schedule{
		perDomain: perDomain,
		pool:      [3]int{inbound: maxInbound, outbound: maxOutbound, publish: maxPublish},
		tasks:     map[taskKey]*task{},
		lanes:     map[lane]*waiting{},
	}
}

func byTime(a, b *task) int {
	return cmp.Or(a.next.Compare(b.next), cmp.Compare(a.key, b.key))
}

// add makes a task due at next, or moves it there if it is there already. A
// task that is running is looked at again when it ends.
func (s *schedule) add(k taskKey, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tasks[k]
	if t == nil {
		t = &task{taskKey: k}
		s.tasks[k] = t
	} else if t.running {
		t.again = true
		return
	} else {
		s.unlink(t)
	}
	t.next = next
	s.link(t)
}

// take returns what may start at at and counts it as running. The lanes take
// turns, the one with the oldest task first, so that a long lane does not
// fill the pool before the others have had their share.
func (s *schedule) take(at time.Time) []*task {
	s.mu.Lock()
	defer s.mu.Unlock()
	var taken []*task
	for {
		var ready []lane
		for l, w := range s.lanes {
			if s.ready(l, w, at) {
				ready = append(ready, l)
			}
		}
		if len(ready) == 0 {
			return taken
		}
		slices.SortFunc(ready, func(a, b lane) int {
			return cmp.Or(byTime(s.lanes[a].tasks[0], s.lanes[b].tasks[0]), cmp.Compare(a.kind, b.kind), cmp.Compare(a.name, b.name))
		})
		for _, l := range ready {
			w := s.lanes[l]
			if !s.ready(l, w, at) {
				continue // the pool is full by now
			}
			t := w.tasks[0]
			w.tasks = w.tasks[1:]
			t.running = true
			w.running++
			s.running[l.kind]++
			taken = append(taken, t)
		}
	}
}

func (s *schedule) ready(l lane, w *waiting, at time.Time) bool {
	return len(w.tasks) > 0 && !w.tasks[0].next.After(at) && w.running < s.perDomain && s.running[l.kind] < s.pool[l.kind]
}

// wake returns when take may have something again, if nothing ends before.
// ok is false when only the end of a task or a new one can change anything.
func (s *schedule) wake() (next time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l, w := range s.lanes {
		if len(w.tasks) == 0 || w.running >= s.perDomain || s.running[l.kind] >= s.pool[l.kind] {
			continue
		}
		if t := w.tasks[0].next; !ok || t.Before(next) {
			next, ok = t, true
		}
	}
	return next, ok
}

// end says that a running task has ended and is due again at next; the zero
// time means that nothing is left of it.
func (s *schedule) end(t *task, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.running = false
	s.running[t.kind]--
	w := s.lanes[t.lane]
	w.running--
	if t.again { // at once: the rows say whether there is anything to do
		t.again = false
		next = time.Unix(0, 0)
	}
	if next.IsZero() {
		delete(s.tasks, t.taskKey)
		if len(w.tasks) == 0 && w.running == 0 {
			delete(s.lanes, t.lane)
		}
		return
	}
	t.next = next
	s.link(t)
}

// link puts a task into its lane. Callers hold mu.
func (s *schedule) link(t *task) {
	w := s.lanes[t.lane]
	if w == nil {
		w = &waiting{}
		s.lanes[t.lane] = w
	}
	i, _ := slices.BinarySearchFunc(w.tasks, t, byTime)
	w.tasks = slices.Insert(w.tasks, i, t)
}

// unlink takes a task that is not running out of its lane. Callers hold mu.
func (s *schedule) unlink(t *task) {
	w := s.lanes[t.lane]
	if i, ok := slices.BinarySearchFunc(w.tasks, t, byTime); ok {
		w.tasks = slices.Delete(w.tasks, i, i+1)
	}
	if len(w.tasks) == 0 && w.running == 0 {
		delete(s.lanes, t.lane)
	}
}

// has reports whether a task is known, running or not.
func (s *schedule) has(k taskKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tasks[k] != nil
}

// depth counts the tasks of each kind.
func (s *schedule) depth() (n [3]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.tasks {
		n[k.kind]++
	}
	return n
}
