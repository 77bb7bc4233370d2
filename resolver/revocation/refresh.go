package revocation

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"time"
)

// maxRefreshed bounds what one round fetches: rounds are a minute apart, and issuers should not see all of us at once.
const maxRefreshed = 32

// refreshTime bounds one fetch of Refresh. Nobody waits for it.
const refreshTime = 90 * time.Second

// due is when something is fetched again: after 60 to 85 percent of its life. Where in between hangs on its name, so that what was
// fetched together is not fetched together again, here and at other nodes.
func due(from, until time.Time, name string) time.Time {
	sum := sha256.Sum256([]byte(name))
	part := 0.60 + 0.25*float64(binary.BigEndian.Uint16(sum[:]))/65536
	return from.Add(time.Duration(part * float64(until.Sub(from))))
}

// chore is one thing to fetch again.
type chore struct {
	url    string
	id     string // of an answer; empty for a list
	issuer []byte
	used   time.Time
}

// Refresh fetches again what will soon end and was used lately, and forgets what nobody has asked for in a long time. It stops when ctx
// ends. The daemon calls it every minute.
func (s *Service) Refresh(ctx context.Context, at time.Time) {
	for _, c := range s.chores(at) {
		if ctx.Err() != nil {
			return
		}
		s.do(ctx, c, at)
	}
}

// chores lists what is due, and drops what is idle.
func (s *Service) chores(at time.Time) []chore {
	var list []chore
	var dropped []string
	s.mu.Lock()
	for url, l := range s.lists {
		switch {
		case at.Sub(l.used) > idle:
			delete(s.lists, url)
			dropped = append(dropped, listFile(url))
		case l.fetched.IsZero(), !at.Before(due(l.thisUpdate, l.until, url)):
			if f, ok := s.failures["list "+url]; !ok || !at.Before(f.until) {
				list = append(list, chore{url: url, issuer: l.issuer, used: l.used})
			}
		}
	}
	for id, a := range s.answers {
		switch {
		case at.Sub(a.used) > idle:
			delete(s.answers, id)
			dropped = append(dropped, answerFile(id))
		case a.known != nil && !at.Before(due(a.known.ThisUpdate, a.known.until(), id)):
			if f, ok := s.failures["ocsp "+id+" "+a.url]; !ok || !at.Before(f.until) {
				list = append(list, chore{url: a.url, id: id, used: a.used})
			}
		}
	}
	s.mu.Unlock()
	if s.dir != "" {
		for _, name := range dropped {
			s.dropFile(name)
		}
	}
	return list[:min(len(list), maxRefreshed)]
}

func (s *Service) do(ctx context.Context, c chore, at time.Time) {
	ctx, cancel := context.WithTimeout(ctx, refreshTime)
	defer cancel()
	if c.id == "" {
		issuer, err := x509.ParseCertificate(c.issuer)
		if err != nil {
			return // nobody could have verified it; it goes when it is idle
		}
		if _, f := s.fetchList(ctx, c.url, issuer, at); f.why != "" {
			s.log.Warn("a revocation list was not fetched again", "url", clip(c.url), "why", f.why)
		}
		s.restore(func() {
			if l := s.lists[c.url]; l != nil {
				l.used = c.used
			}
		})
		return
	}
	h, _, err := s.readHead(answerFile(c.id))
	if err != nil {
		return // kept in memory only: it is asked for when it is needed
	}
	cert, issuer, err := h.pair()
	if err != nil {
		return
	}
	if _, f := s.ask(ctx, &question{s: s, cert: cert, issuer: issuer, at: at, now: at, id: c.id}, c.url); f.why != "" {
		s.log.Warn("a responder was not asked again", "url", clip(c.url), "why", f.why)
	}
	s.restore(func() {
		if a := s.answers[c.id]; a != nil {
			a.used = c.used
		}
	})
}

// restore keeps a refresh from counting as a use: what nobody asks for must become idle.
func (s *Service) restore(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}
