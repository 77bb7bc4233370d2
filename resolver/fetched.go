package resolver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"directnode/resolver/fetch"
)

// fetched is what came of a URL in a CERT record.
type fetched struct {
	URL       string        `json:"url"`
	Server    string        `json:"server,omitempty"`
	Body      []byte        `json:"body,omitempty"`
	Failure   string        `json:"failure,omitempty"`
	Outcome   string        `json:"outcome"`
	Detail    string        `json:"detail,omitempty"`
	Temporary bool          `json:"temporary,omitempty"` // asking again may help
	Sent      time.Time     `json:"sent,omitzero"`
	RTT       time.Duration `json:"rtt"`
	Cached    bool          `json:"cached,omitempty"`
	Age       time.Duration `json:"age,omitempty"`
}

// fetchAll gets the certificates that records of a place point to, all at once, and keeps them in the order of the records. It returns
// why one of them is not known now, if asking again may help.
func (d *discovery) fetchAll(ctx context.Context, urls []string, source string, parent int) (unknown string) {
	results := make([]chan fetched, len(urls))
	for i, url := range urls {
		results[i] = make(chan fetched, 1)
		go func() {
			defer func() {
				if p := recover(); p != nil {
					results[i] <- fetched{URL: url, Outcome: "error", Failure: fmt.Sprint("a fault of our own: ", p), Temporary: true}
				}
			}()
			results[i] <- d.out.fetch(ctx, url)
		}()
	}
	for i := range urls {
		f := <-results[i] // it ends with ctx at the latest
		d.rec.fetch(f)
		step := d.step(Step{
			Parent: parent, Kind: KindFetch, Server: f.Server, Question: f.URL, Transport: "tcp", Start: d.since(f.Sent), RTT: f.RTT,
			Outcome: f.Outcome, Detail: f.Detail, Octets: len(f.Body), Cached: f.Cached, Age: f.Age,
		})
		if f.Failure != "" {
			d.keep(nil, source, step, errors.New(f.Failure))
			if f.Temporary && unknown == "" {
				unknown = f.Failure
			}
			continue
		}
		d.keep(certificateIn(f.Body), source, step, nil)
	}
	return unknown
}

// fetch goes through the one door to HTTP.
func (n network) fetch(ctx context.Context, url string) fetched {
	f := fetched{URL: url, Sent: time.Now()}
	if n.r.fetcher == nil {
		f.Outcome, f.Failure = "not_asked", "CERT record holds a URL, and URLs are not fetched here"
		f.Sent = time.Time{}
		return f
	}
	body, ev, err := n.r.fetcher.Get(ctx, fetch.IPKIX, url)
	f.Body, f.Server, f.RTT, f.Outcome, f.Detail = body, ev.Addr, ev.Elapsed, string(ev.Outcome), ev.Detail
	if ev.Outcome == fetch.Cached {
		f.Cached, f.Age, f.RTT = true, max(f.Sent.Sub(ev.At), 0), 0
		f.Sent = time.Time{}
	}
	if err != nil {
		f.Body, f.Failure = nil, shorten(err.Error())
		var why *fetch.Error
		f.Temporary = !errors.As(err, &why) || why.Temporary()
	}
	return f
}
