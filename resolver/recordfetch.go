package resolver

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"directnode/resolver/fetch"
	"directnode/resolver/revocation"
	"directnode/resolver/trust"
)

// recordedJudgement is what decided, and all that was fetched to decide.
type recordedJudgement struct {
	At           time.Time      `json:"at"`
	Policy       trust.Policy   `json:"policy"`
	Anchors      [][]byte       `json:"anchors"`
	AnchorsKnown bool           `json:"anchors_known"`
	Issuers      bool           `json:"issuers,omitempty"`    // issuers' certificates were fetched
	Revocation   bool           `json:"revocation,omitempty"` // revocation was asked for
	Seed         []byte         `json:"seed,omitempty"`       // of the nonces in questions to responders
	Fetches      []recordedBody `json:"fetches,omitempty"`
}

// recordedBody is one use of the door to HTTP.
type recordedBody struct {
	Kind     fetch.Kind     `json:"kind"`
	URL      string         `json:"url"`
	Content  []byte         `json:"content,omitempty"` // of a POST
	Body     []byte         `json:"body,omitempty"`
	Evidence fetch.Evidence `json:"evidence"`
	Failed   bool           `json:"failed,omitempty"`
	Outcome  fetch.Outcome  `json:"outcome,omitempty"` // of the error
	Detail   string         `json:"detail,omitempty"`
}

func bodyKey(kind fetch.Kind, url string, content []byte) string {
	return string(kind) + " " + url + " " + hex.EncodeToString(content)
}

// JudgeRecorded is Judge with issuers and revocation through a door of which everything is kept in the record, so that the same report
// can be made again from it. Without a door nobody is asked.
func JudgeRecorded(ctx context.Context, res Result, rec *Record, door revocation.Fetcher, j Judging) (Report, error) {
	rec.Judgement = &recordedJudgement{At: j.At, Policy: j.Policy, AnchorsKnown: j.AnchorsKnown, Issuers: door != nil, Revocation: door != nil}
	for _, a := range j.Anchors {
		rec.Judgement.Anchors = append(rec.Judgement.Anchors, a.Raw)
	}
	if door == nil {
		return Judge(ctx, res, j), nil
	}
	rec.Judgement.Seed = make([]byte, sha256.Size)
	rand.Read(rec.Judgement.Seed) // never fails: crypto/rand ends the program instead
	tape := &bodyTape{door: door}
	report, err := judgeThrough(ctx, res, tape, rec.Judgement.Seed, j)
	rec.Judgement.Fetches = tape.bodies
	return report, err
}

// judgeThrough judges with a fresh memory of lists and answers. The nonces of its questions come of a seed, so that the answers of then
// fit the questions of a replay.
func judgeThrough(ctx context.Context, res Result, door revocation.Fetcher, seed []byte, j Judging) (Report, error) {
	service, err := revocation.Open(revocation.Options{Fetch: door, Nonce: func(cert, issuer *x509.Certificate) []byte {
		sum := sha256.Sum256(slices.Concat(seed, cert.Raw, issuer.Raw))
		return sum[:]
	}})
	if err != nil {
		return Report{}, err
	}
	j.Issuers, j.Revocation = revocation.Issuers{Fetch: door}, service
	return Judge(ctx, res, j), nil
}

// ReplayReport makes the report of a record again, certificates, revocation lists and responses judged anew at the moment of then.
func ReplayReport(ctx context.Context, rec *Record) (Report, error) {
	res, err := Replay(rec)
	if err != nil {
		return Report{}, err
	}
	if rec.Judgement == nil {
		return Report{}, errors.New("resolver: the record does not say who judged")
	}
	j := Judging{At: rec.Judgement.At, Policy: rec.Judgement.Policy, AnchorsKnown: rec.Judgement.AnchorsKnown}
	for _, der := range rec.Judgement.Anchors {
		a, err := x509.ParseCertificate(der)
		if err != nil {
			return Report{}, fmt.Errorf("resolver: record: anchor: %w", err)
		}
		j.Anchors = append(j.Anchors, a)
	}
	if !rec.Judgement.Revocation {
		return Judge(ctx, res, j), nil
	}
	door := &bodyReplay{bodies: map[string][]recordedBody{}}
	for _, b := range rec.Judgement.Fetches {
		key := bodyKey(b.Kind, b.URL, b.Content)
		door.bodies[key] = append(door.bodies[key], b)
	}
	return judgeThrough(ctx, res, door, rec.Judgement.Seed, j)
}

// bodyTape passes everything on to a door and keeps it.
type bodyTape struct {
	door revocation.Fetcher

	mu     sync.Mutex // guards bodies
	bodies []recordedBody
}

func (t *bodyTape) keep(b recordedBody, err error) {
	if err != nil {
		b.Failed, b.Outcome, b.Detail = true, fetch.Unreachable, shorten(err.Error())
		var why *fetch.Error
		if errors.As(err, &why) {
			b.Outcome, b.Detail = why.Outcome, why.Detail
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bodies = append(t.bodies, b)
}

func (t *bodyTape) Get(ctx context.Context, kind fetch.Kind, url string) ([]byte, fetch.Evidence, error) {
	body, ev, err := t.door.Get(ctx, kind, url)
	t.keep(recordedBody{Kind: kind, URL: url, Body: body, Evidence: ev}, err)
	return body, ev, err
}

func (t *bodyTape) Post(ctx context.Context, kind fetch.Kind, url, contentType string, content []byte) ([]byte, fetch.Evidence, error) {
	body, ev, err := t.door.Post(ctx, kind, url, contentType, content)
	t.keep(recordedBody{Kind: kind, URL: url, Content: content, Body: body, Evidence: ev}, err)
	return body, ev, err
}

func (t *bodyTape) Save(ctx context.Context, kind fetch.Kind, url string, w io.Writer) (fetch.Evidence, error) {
	var body bytes.Buffer
	ev, err := t.door.Save(ctx, kind, url, io.MultiWriter(w, &body))
	t.keep(recordedBody{Kind: kind, URL: url, Body: body.Bytes(), Evidence: ev}, err)
	return ev, err
}

// bodyReplay is the door of a record. What was fetched several times comes again in that order; the last stays.
type bodyReplay struct {
	mu     sync.Mutex // guards bodies
	bodies map[string][]recordedBody
}

func (r *bodyReplay) next(kind fetch.Kind, url string, content []byte) (recordedBody, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, ok := pop(r.bodies, bodyKey(kind, url, content))
	switch {
	case !ok:
		return b, &fetch.Error{URL: url, Outcome: fetch.Unreachable, Detail: "not in the record"}
	case b.Failed:
		return b, &fetch.Error{URL: url, Outcome: b.Outcome, Detail: b.Detail}
	}
	return b, nil
}

func (r *bodyReplay) Get(_ context.Context, kind fetch.Kind, url string) ([]byte, fetch.Evidence, error) {
	b, err := r.next(kind, url, nil)
	return b.Body, b.Evidence, err
}

func (r *bodyReplay) Post(_ context.Context, kind fetch.Kind, url, _ string, content []byte) ([]byte, fetch.Evidence, error) {
	b, err := r.next(kind, url, content)
	return b.Body, b.Evidence, err
}

func (r *bodyReplay) Save(_ context.Context, kind fetch.Kind, url string, w io.Writer) (fetch.Evidence, error) {
	b, err := r.next(kind, url, nil)
	if err != nil {
		return b.Evidence, err
	}
	if _, err := w.Write(b.Body); err != nil {
		return b.Evidence, err
	}
	return b.Evidence, nil
}
