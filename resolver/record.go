package resolver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"directnode/internal/direct"

	"github.com/miekg/dns"
)

// recordVersion is the form of a Record. A record of another form is refused.
const recordVersion = 1

// Record is everything that the outside said in one discovery, and the rules and the clock of then. It is JSON for whoever wants to
// look into it, with messages of the DNS as they went over the wire.
type Record struct {
	Version   int                `json:"version"`
	Address   string             `json:"address"`
	Began     time.Time          `json:"began"`
	Elapsed   time.Duration      `json:"elapsed"`
	Rules     rules              `json:"rules"`
	Anchors   []string           `json:"dnssec_anchors,omitempty"`
	Questions []recordedQuestion `json:"questions"`
	Sessions  []recordedSession  `json:"ldap,omitempty"`
	Fetches   []fetched          `json:"fetches,omitempty"`

	Judgement *recordedJudgement `json:"judgement,omitempty"`
}

type recordedQuestion struct {
	Name      string     `json:"name"`
	Type      uint16     `json:"type"`
	Exchanges []exchange `json:"exchanges,omitempty"`
	Failure   string     `json:"failure,omitempty"` // where there is no exchange
}

type recordedSession struct {
	Server  string  `json:"server"` // as the domain names it
	Session session `json:"session"`
}

// The methods that add to a record do nothing where nobody wants one.

func (r *Record) lookup(l lookup) {
	if r == nil {
		return
	}
	name := l.question.name
	for _, h := range l.heard {
		if len(h.exchanges) > 0 {
			name = h.last().Name
		}
		q := recordedQuestion{Name: name, Type: l.question.qtype, Exchanges: h.exchanges}
		if len(h.exchanges) == 0 {
			q.Failure = h.failure
		}
		r.Questions = append(r.Questions, q)
	}
}

func (r *Record) session(s target, l session) {
	if r != nil {
		r.Sessions = append(r.Sessions, recordedSession{s.String(), l})
	}
}

func (r *Record) fetch(f fetched) {
	if r != nil {
		r.Fetches = append(r.Fetches, f)
	}
}

// File is a part of a record that other tools read.
type File struct {
	Name string
	Data []byte
}

// Files gives the packets of the DNS, and what certificates, lists and responses were fetched, each as it came.
func (r *Record) Files() []File {
	var out []File
	for i, q := range r.Questions {
		for j, x := range q.Exchanges {
			name := fmt.Sprintf("dns/%02d-%d", i+1, j+1)
			out = append(out, File{name + "-query.bin", x.Query})
			if len(x.Reply) > 0 {
				out = append(out, File{name + "-reply.bin", x.Reply})
			}
		}
	}
	add := func(name string, data []byte) {
		out = append(out, File{fmt.Sprintf("%s-%d.der", name, len(out)+1), data})
	}
	for _, s := range r.Sessions {
		for _, x := range s.Session.Exchanges {
			for _, e := range x.Entries {
				for _, c := range e.Certificates {
					add("ldap/certificate", c)
				}
			}
		}
	}
	for _, f := range r.Fetches {
		add("fetched/certificate", f.Body)
	}
	if r.Judgement != nil {
		for _, f := range r.Judgement.Fetches {
			add("fetched/"+string(f.Kind), f.Body)
		}
		for _, a := range r.Judgement.Anchors {
			add("anchors/anchor", a)
		}
	}
	return out
}

// Replay makes the Result of a record again. It asks nobody.
func Replay(rec *Record) (Result, error) {
	if rec.Version != recordVersion {
		return Result{}, fmt.Errorf("resolver: a record of form %d; this version reads %d", rec.Version, recordVersion)
	}
	a, err := direct.ParseAddress(rec.Address)
	if err != nil {
		return Result{}, fmt.Errorf("resolver: record: %w", err)
	}
	out := &replay{questions: map[string][]heard{}, sessions: map[string][]session{}, fetches: map[string][]fetched{}}
	for i, q := range rec.Questions {
		h, err := q.heard()
		if err != nil {
			return Result{}, fmt.Errorf("resolver: record: question %d: %w", i+1, err)
		}
		key := question{q.Name, q.Type}.key()
		out.questions[key] = append(out.questions[key], h)
	}
	for _, s := range rec.Sessions {
		out.sessions[s.Server] = append(out.sessions[s.Server], s.Session)
	}
	for _, f := range rec.Fetches {
		out.fetches[f.URL] = append(out.fetches[f.URL], f)
	}
	if out.anchors, err = parseAnchors(rec.Anchors); err != nil {
		return Result{}, err
	}
	d := &discovery{rules: rec.Rules, out: out}
	// Nobody is waited for; a budget that ended early then must not end anything now.
	d.rules.Budget, d.rules.Timeout = max(d.rules.Budget, time.Hour), max(d.rules.Timeout, time.Hour)
	d.run(context.Background(), a, rec.Began)
	d.res.Elapsed = rec.Elapsed
	if out.missing != "" {
		return Result{}, fmt.Errorf("resolver: the record does not hold %s", out.missing)
	}
	return d.res, nil
}

// heard works a recorded question out again: the octets are believed, not what was made of them.
func (q recordedQuestion) heard() (heard, error) {
	if len(q.Exchanges) == 0 {
		return heard{failure: q.Failure}, nil
	}
	if len(q.Exchanges) > maxRecorded {
		return heard{}, errors.New("too many exchanges")
	}
	exchanges := append([]exchange(nil), q.Exchanges...)
	for i := range exchanges {
		if _, err := exchanges[i].rejudge(); err != nil {
			return heard{}, err
		}
	}
	return conclude(question{q.Name, q.Type}, exchanges), nil
}

// maxRecorded bounds the exchanges of one recorded question, so that a forged record is refused instead of worked through.
const maxRecorded = 1024

// replay is the outside of a record. What was said several times is said again in that order.
type replay struct {
	anchors []dns.RR

	mu        sync.Mutex // guards all below: look-ups that are begun together ask together
	questions map[string][]heard
	sessions  map[string][]session
	fetches   map[string][]fetched
	missing   string // something that was waited for and is not there
}

// pop takes the next of what was said; the last stays.
func pop[V any](said map[string][]V, key string) (v V, ok bool) {
	list := said[key]
	if len(list) == 0 {
		return v, false
	}
	if len(list) > 1 {
		said[key] = list[1:]
	}
	return list[0], true
}

func (r *replay) known(q question) (heard, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.questions[q.key()]
	if len(list) == 0 || list[0].last() == nil || !list[0].last().Cached {
		return heard{}, false
	}
	return pop(r.questions, q.key())
}

func (r *replay) ask(_ context.Context, q question) heard {
	r.mu.Lock()
	defer r.mu.Unlock()
	h, ok := pop(r.questions, q.key())
	if !ok {
		h.failure = "not in the record" // it was asked and not waited for; if it is needed now, the result is not the one of then
	}
	return h
}

func (r *replay) directory(_ context.Context, t target, _ []host, _ direct.Address, _ int) session {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := pop(r.sessions, t.String())
	if !ok {
		r.missing = "what the LDAP server " + t.String() + " said"
	}
	return s
}

func (r *replay) fetch(_ context.Context, url string) fetched {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, ok := pop(r.fetches, url)
	if !ok {
		r.missing = "what is at " + url
	}
	return f
}

func (r *replay) trustAnchors() []dns.RR { return r.anchors }
