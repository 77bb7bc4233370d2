package revocation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"directnode/resolver/fetch"
	"directnode/resolver/trust"
)

// answer is a responder's answer that is kept, under the identity of the certificate. Its fields are guarded by Service.mu.
type answer struct {
	url     string
	known   *Answer // nil = only on the disk
	fetched time.Time
	used    time.Time
}

// heldAnswer looks at what a responder said before.
func (q *question) heldAnswer() (trust.RevocationResult, bool) {
	a, url, ok := q.s.answerOf(q.id, q.now)
	if !ok {
		return trust.RevocationResult{}, false
	}
	err := a.speaks(q.at, q.now)
	switch {
	case a.Status == trust.StatusRevoked:
		// What is revoked stays so; an answer does not have to be new to say it.
	case err != nil:
		if a.Status == trust.StatusGood {
			q.wasGood(a.until())
		}
		return trust.RevocationResult{}, false
	case a.Status == trust.StatusUndetermined:
		return trust.RevocationResult{}, false
	}
	r := byAnswer(url, a)
	r.Cached = true
	return r, true
}

func byAnswer(url string, a Answer) trust.RevocationResult {
	r := trust.RevocationResult{
		Status: a.Status, Source: fmt.Sprintf("OCSP of %s, %s, signed by %s", stamp(a.ThisUpdate), clip(url), clip(a.Responder)),
		ThisUpdate: a.ThisUpdate, NextUpdate: a.NextUpdate,
	}
	if a.Status == trust.StatusRevoked {
		r.RevokedAt, r.Reason = a.RevokedAt, reasonText(a.Reason)
	}
	return r
}

// askResponders asks one after the other until one knows.
func (q *question) askResponders(ctx context.Context) (trust.RevocationResult, bool) {
	for _, url := range q.cert.OCSPServer {
		if !q.take() {
			break
		}
		a, f := q.s.ask(ctx, q, url)
		switch {
		case f.why != "":
			q.failed("responder "+clip(url), f)
		case a.Status == trust.StatusUndetermined: // RFC 6960 §2.2: unknown is not good
			q.failed("responder "+clip(url), failure{why: "it does not know the certificate"})
		default:
			return byAnswer(url, a), true
		}
	}
	return trust.RevocationResult{}, false
}

// ask puts the question to one responder, unless that failed a moment ago. A failure without a reason is none.
func (s *Service) ask(ctx context.Context, q *question, url string) (Answer, failure) {
	key := "ocsp " + q.id + " " + url
	if f, ok := s.failing(key, q.now); ok {
		return Answer{}, f
	}
	if s.fetch == nil {
		return Answer{}, failure{why: "nobody is asked from here", temporary: true}
	}
	var a Answer
	var f failure
	flown, err := s.flight(ctx, key, func() { a, f = s.putQuestion(ctx, q, url) })
	switch {
	case err != nil:
		return Answer{}, failure{why: "no answer in time", temporary: true}
	case flown:
		return a, f
	}
	if f, ok := s.failing(key, q.now); ok {
		return Answer{}, f
	}
	if a, _, ok := s.answerOf(q.id, q.now); ok && a.speaks(q.at, q.now) == nil {
		return a, failure{}
	}
	return Answer{}, failure{why: "somebody else who asked it gave up", temporary: true}
}

// putQuestion is what ask does for all who wait.
func (s *Service) putQuestion(ctx context.Context, q *question, url string) (Answer, failure) {
	a, raw, err := s.exchange(ctx, q, url)
	if err == nil && a.Status == trust.StatusUndetermined {
		err = errors.New("it does not know the certificate")
	}
	if err != nil {
		f := failure{why: clip(reasonOf(err)), temporary: temporary(err), until: q.now.Add(retryTime)}
		s.remember(ctx, "ocsp "+q.id+" "+url, f)
		return Answer{}, f
	}
	s.keep(q, url, a, raw)
	return a, failure{}
}

// exchange asks with a nonce, and once more without where the responder cannot take one (RFC 9654 §3.1 lets it say malformedRequest). A
// response without the nonce is taken: most responders sign ahead (RFC 5019 §4), and Current bounds the age.
func (s *Service) exchange(ctx context.Context, q *question, url string) (Answer, []byte, error) {
	var declined error
	for _, nonce := range [][]byte{s.nonce(q), nil} {
		body, err := Question(q.cert, q.issuer, nonce)
		if err != nil {
			return Answer{}, nil, err
		}
		raw, _, err := s.fetch.Post(ctx, fetch.OCSP, url, "application/ocsp-request", body)
		if err != nil {
			return Answer{}, nil, err
		}
		a, err := ReadAnswer(raw, q.cert, q.issuer, nonce, q.now)
		if errors.Is(err, ErrDeclined) && nonce != nil {
			declined = err
			continue
		}
		if err == nil {
			err = a.speaks(q.at, q.now)
		}
		return a, raw, err
	}
	return Answer{}, nil, declined
}

// keep files an answer. One that is older than what is held does not replace it.
func (s *Service) keep(q *question, url string, a Answer, raw []byte) {
	s.mu.Lock()
	old := s.answers[q.id]
	if old != nil && old.known != nil && old.known.ThisUpdate.After(a.ThisUpdate) {
		s.mu.Unlock()
		return
	}
	s.answers[q.id] = &answer{url: url, known: &a, fetched: q.now, used: q.now}
	victim := ""
	if len(s.answers) > maxAnswers {
		for id, x := range s.answers {
			if victim == "" || x.used.Before(s.answers[victim].used) {
				victim = id
			}
		}
		delete(s.answers, victim)
	}
	delete(s.failures, "ocsp "+q.id+" "+url)
	s.mu.Unlock()
	if s.dir == "" {
		return
	}
	if err := s.saveAnswer(q, url, raw); err != nil {
		s.log.Error("a responder's answer was not kept on the disk", "err", err)
	}
	if victim != "" {
		s.dropFile(answerFile(victim))
	}
}

// answerOf gives what is kept of a certificate, out of memory or from the disk.
func (s *Service) answerOf(id string, now time.Time) (Answer, string, bool) {
	s.mu.Lock()
	x := s.answers[id]
	if x == nil {
		s.mu.Unlock()
		return Answer{}, "", false
	}
	if now.After(x.used) {
		x.used = now
	}
	known, url := x.known, x.url
	s.mu.Unlock()
	if known != nil {
		return *known, url, true
	}
	a, err := s.loadAnswer(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.log.Warn("a responder's answer that was kept is damaged and will be asked for again", "err", err)
		delete(s.answers, id)
		return Answer{}, "", false
	}
	if x := s.answers[id]; x != nil && x.known == nil {
		x.known = &a
	}
	return a, url, true
}
