package revocation

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"directnode/internal/durable"
	"directnode/resolver/fetch"
	"directnode/resolver/trust"
)

// Fetcher is the door to HTTP (fetch.Door). Its errors are *fetch.Error.
type Fetcher interface {
	Get(ctx context.Context, kind fetch.Kind, url string) ([]byte, fetch.Evidence, error)
	Post(ctx context.Context, kind fetch.Kind, url, contentType string, content []byte) ([]byte, fetch.Evidence, error)
	Save(ctx context.Context, kind fetch.Kind, url string, w io.Writer) (fetch.Evidence, error)
}

// Options configure a Service. The zero value asks nobody and keeps nothing on a disk.
type Options struct {
	Fetch Fetcher       // nil: what is held is all there is
	Dir   string        // where lists and answers are kept; empty: in memory, for a tool that ends soon
	FS    durable.FS    // nil = the system's
	Time  time.Duration // of one question, everything that is fetched for it included; 0 = 15 s
	Log   *slog.Logger  // nil = silent

	// Nonce makes the nonces of questions to responders; nil = at random. With it the moment of a question counts as the present, so that
	// what was recorded can be judged again.
	Nonce func(cert, issuer *x509.Certificate) []byte
}

// Service answers for the certificates of everybody. It implements trust.Revocation and may be used by any number of goroutines.
type Service struct {
	fetch Fetcher
	dir   string
	fs    durable.FS
	time  time.Duration
	log   *slog.Logger
	fixed func(cert, issuer *x509.Certificate) []byte // Options.Nonce

	mu       sync.Mutex // guards all below; not held while anything is read or fetched
	lists    map[string]*list
	answers  map[string]*answer
	failures map[string]failure
	flights  map[string]chan struct{} // closed when the flight has ended
	counts   map[string]uint64        // results by their word
}

// failure is why a source has no answer, until when that is taken for granted.
type failure struct {
	why       string
	temporary bool
	until     time.Time
}

func (f failure) Error() string { return f.why }

// Open makes a service and finds what is kept in its folder, which it makes if it is not there. It reads names and heads, not the lists:
// those are read when they are needed.
func Open(o Options) (*Service, error) {
	s := &Service{
		fetch: o.Fetch, dir: o.Dir, fs: o.FS, time: o.Time, log: o.Log, fixed: o.Nonce,
		lists: map[string]*list{}, answers: map[string]*answer{}, failures: map[string]failure{}, flights: map[string]chan struct{}{}, counts: map[string]uint64{},
	}
	if s.fs == nil {
		s.fs = durable.OS()
	}
	if s.time <= 0 {
		s.time = 15 * time.Second
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.dir == "" {
		return s, nil
	}
	if err := durable.MkdirAll(s.fs, s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("revocation: %w", err)
	}
	return s, s.find()
}

// Status implements trust.Revocation.
func (s *Service) Status(ctx context.Context, cert, issuer *x509.Certificate, at time.Time) trust.RevocationResult {
	ctx, cancel := context.WithTimeout(ctx, s.time)
	defer cancel()
	q := &question{s: s, cert: cert, issuer: issuer, at: at, now: s.present(at), id: identity(cert, issuer), left: maxURLs}
	r := q.answer(ctx)
	s.mu.Lock()
	s.counts[r.Status.String()]++
	s.mu.Unlock()
	return r
}

// present is the moment of asking, for a decision about another moment.
func (s *Service) present(at time.Time) time.Time {
	if now := time.Now(); s.fixed == nil && now.After(at) {
		return now
	}
	return at
}

// nonce for a question.
func (s *Service) nonce(q *question) []byte {
	if s.fixed != nil {
		return s.fixed(q.cert, q.issuer)
	}
	return newNonce()
}

// identity names a certificate of an issuer: by the issuer's name and key and the serial number, as responders do.
func identity(cert, issuer *x509.Certificate) string {
	h := sha256.New()
	for _, part := range [][]byte{issuer.RawSubject, issuer.RawSubjectPublicKeyInfo, serialOf(cert.SerialNumber, nil)} {
		fmt.Fprintf(h, "%d:", len(part))
		h.Write(part)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// question is one call of Status.
type question struct {
	s            *Service
	cert, issuer *x509.Certificate
	at           time.Time // of the decision, which may be past: a message is judged for when it came
	now          time.Time // of asking
	id           string
	left         int // URLs that may still be asked

	reasons   []string
	temporary bool
	goodUntil time.Time // of what said good and has expired
}

// answer goes through the sources in order; see the package comment.
func (q *question) answer(ctx context.Context) trust.RevocationResult {
	urls := listURLs(q.cert)
	if len(urls)+len(q.cert.OCSPServer) == 0 {
		// The certificate names nobody. AS 4.0 wants a method for discovering status and says that issuers should publish it; whether a
		// certificate without any is taken is for the policy to say.
		return trust.RevocationResult{Why: "the certificate names neither a revocation list nor a responder", Unpublished: true}
	}
	if r, ok := q.held(urls); ok {
		return r
	}
	if r, ok := q.heldAnswer(); ok {
		return r
	}
	if r, ok := q.askResponders(ctx); ok {
		return r
	}
	if r, ok := q.readLists(ctx, urls); ok {
		return r
	}
	if q.left <= 0 {
		q.reasons = append(q.reasons, fmt.Sprintf("only the first %d places are asked", maxURLs))
	}
	return trust.RevocationResult{Why: clip(strings.Join(q.reasons, "; ")), Temporary: q.temporary, GoodUntil: q.goodUntil}
}

// failed keeps a reason.
func (q *question) failed(what string, f failure) {
	q.reasons = append(q.reasons, what+": "+f.why)
	q.temporary = q.temporary || f.temporary
}

// wasGood keeps that an expired source said good.
func (q *question) wasGood(until time.Time) {
	if until.After(q.goodUntil) {
		q.goodUntil = until
	}
}

// listURLs gives the places of the lists that a certificate names. Those without HTTP (LDAP, directories) nobody here asks.
func listURLs(cert *x509.Certificate) []string {
	var out []string
	for _, u := range cert.CRLDistributionPoints {
		if scheme, _, _ := strings.Cut(strings.ToLower(u), ":"); scheme == "http" || scheme == "https" {
			out = append(out, u)
		}
	}
	return out
}

// take spends one URL of the question.
func (q *question) take() bool {
	if q.left <= 0 {
		return false
	}
	q.left--
	return true
}

// flight runs f unless somebody does already, for the same thing; then it waits and tells so.
func (s *Service) flight(ctx context.Context, key string, f func()) (flown bool, err error) {
	s.mu.Lock()
	busy, ok := s.flights[key]
	if ok {
		s.mu.Unlock()
		select {
		case <-busy:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	done := make(chan struct{})
	s.flights[key] = done
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.flights, key)
		s.mu.Unlock()
		close(done)
	}()
	f()
	return true, nil
}

// remember keeps a failure for a while. One that comes from our own context says nothing.
func (s *Service) remember(ctx context.Context, key string, f failure) {
	if ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.failures) >= maxFailures {
		for k, old := range s.failures {
			if delete(s.failures, k); old.until.After(f.until) {
				break
			}
		}
	}
	s.failures[key] = f
}

// failing gives what is remembered.
func (s *Service) failing(key string, at time.Time) (failure, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.failures[key]
	if ok && !at.Before(f.until) {
		delete(s.failures, key)
		return f, false
	}
	return f, ok
}

func (s *Service) forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.failures, key)
}

// clip bounds what goes into reasons, and takes what a terminal would obey out of it.
func clip(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, text)
	if len(text) > maxDetail {
		text = strings.ToValidUTF8(text[:maxDetail], "") + "…"
	}
	return text
}

// Stats are figures about what is kept.
type Stats struct {
	Lists, Answers int
	Expired        int           // lists that no longer speak
	Oldest         time.Duration // since the oldest list that is kept was made
	Results        map[string]uint64
}

// Stats gives the figures at a moment.
func (s *Service) Stats(at time.Time) Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{Answers: len(s.answers), Results: make(map[string]uint64, len(s.counts))}
	for word, n := range s.counts {
		st.Results[word] = n
	}
	for _, l := range s.lists {
		if l.thisUpdate.IsZero() {
			continue
		}
		st.Lists++
		st.Oldest = max(st.Oldest, at.Sub(l.thisUpdate))
		if at.After(l.until) {
			st.Expired++
		}
	}
	return st
}
