package admin

import (
	"context"
	"io"
	"time"
)

// Event is what an order that takes long says while it is carried out, and at
// the end its answer or its error. Exactly one field is set.
type Event struct {
	Progress *Progress     `json:"progress,omitempty"`
	Plan     *ImportPlan   `json:"plan,omitempty"` // before anything is changed
	Answer   *ImportResult `json:"answer,omitempty"`
	Error    *Error        `json:"error,omitempty"`
}

// Progress is how far an order has come.
type Progress struct {
	Stage string `json:"stage"` // reading, storing
	Done  int64  `json:"done"`  // octets read, certificates stored
	Total int64  `json:"total"` // 0 where nobody knows
}

// The stages.
const (
	StageSending = "sending" // the client's own: the daemon takes the files
	StageReading = "reading"
	StageStoring = "storing"
)

// Reporter takes events. Nil takes none.
type Reporter func(Event)

func (r Reporter) send(e Event) {
	if r != nil {
		r(e)
	}
}

// counter tells how many of a number of things are done, now and then.
func (r Reporter) counter(stage string, total int) func(done int) {
	var told time.Time
	return func(done int) {
		if r != nil && time.Since(told) >= progressEvery {
			told = time.Now()
			r(Event{Progress: &Progress{stage, int64(done), int64(total)}})
		}
	}
}

// progressEvery is how often progress is told: a bar that moves five times a
// second looks alive, and a million certificates make a few hundred lines.
const progressEvery = 200 * time.Millisecond

// watched is a reader that tells how far it has come, and ends when the order
// is cut off.
type watched struct {
	ctx    context.Context
	r      io.Reader
	size   int64
	report Reporter

	done int64
	told time.Time
	err  error // other than the end of the text
}

func (w *watched) Read(p []byte) (int, error) {
	if w.err = w.ctx.Err(); w.err != nil {
		return 0, w.err
	}
	n, err := w.r.Read(p)
	w.done += int64(n)
	if err != nil && err != io.EOF {
		w.err = err
	}
	if w.report != nil && time.Since(w.told) >= progressEvery {
		w.told = time.Now()
		w.report(Event{Progress: &Progress{StageReading, w.done, w.size}})
	}
	return n, err
}
