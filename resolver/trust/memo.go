package trust

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/binary"
	"hash/maphash"
	"slices"
	"sync"
	"time"
)

// Memo remembers judgements, so that the thousandth message to a correspondent costs a look-up instead of a path. It may be used by
// any number of goroutines.
//
// A judgement is remembered where it depends on nothing but the question: not where something could not be fetched or a status was not
// known. It is given again for the same candidates, intermediates, anchors, address, purpose and policy, as long as no certificate that
// it looked at begins or ends to be valid; and revocation is asked for anew each time, along each path that was good. Where an answer
// is not "good" any more the question is judged afresh. Anchors and intermediates are the same if they are the same values in memory,
// which those of one generation of the store are.
//
// The judgements share what they hold; nobody may change it.
type Memo struct {
	seed   maphash.Seed
	octets int // that a generation holds

	mu    sync.Mutex
	young map[uint64]*remembered // guarded by mu
	old   map[uint64]*remembered // guarded by mu; what was not asked for since the last change of generations goes with the next
	held  int                    // guarded by mu: octets in young
}

// remembered is one judgement with its question.
type remembered struct {
	q         Question
	judgement Judgement
	from, to  time.Time // both inside
	octets    int
}

// NewMemo makes one for so many octets of certificates, 0 = 4 MiB.
func NewMemo(octets int) *Memo {
	if octets <= 0 {
		octets = defaultMemo
	}
	return &Memo{seed: maphash.MakeSeed(), octets: octets / 2, young: map[uint64]*remembered{}}
}

// Evaluate gives the judgement of EvaluateContext, remembered or new.
func (m *Memo) Evaluate(ctx context.Context, q Question) Judgement {
	key := m.key(&q)
	if r := m.find(key, &q); r != nil {
		if j, good := r.renew(ctx, &q); good {
			return j
		}
	}
	j, pool := evaluate(ctx, &q)
	if j.lasting() && ctx.Err() == nil {
		m.keep(key, remember(q, j, pool))
	}
	return j
}

// Len is the number of judgements that are held.
func (m *Memo) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.young) + len(m.old)
}

func (m *Memo) key(q *Question) uint64 {
	var h maphash.Hash
	h.SetSeed(m.seed)
	h.WriteString(q.Address.String())
	var number [8]byte
	for _, der := range q.Candidates {
		binary.LittleEndian.PutUint64(number[:], uint64(len(der)))
		h.Write(number[:])
		h.Write(der)
	}
	maphash.WriteComparable(&h, memoKey{q.Purpose, q.Policy.Profile, q.Policy.Revocation, q.Policy.Grace, q.Policy.MinRSABits, q.Policy.RequirePolicy, len(q.Policy.Policies),
		q.Issuers == nil, q.Revocation == nil, ends(q.Intermediates), ends(q.Anchors)})
	return h.Sum64()
}

// memoKey is what of a question tells it cheaply from others; answers compares everything.
type memoKey struct {
	purpose                 Purpose
	profile                 string
	mode                    RevocationMode
	grace                   time.Duration
	bits                    int
	required                bool
	policies                int
	noIssuers, noRevocation bool
	intermediates, anchors  edges
}

type edges struct {
	n           int
	first, last *x509.Certificate
}

func ends(certs []*x509.Certificate) edges {
	if len(certs) == 0 {
		return edges{}
	}
	return edges{len(certs), certs[0], certs[len(certs)-1]}
}

func (m *Memo) find(key uint64, q *Question) *remembered {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, young := m.young[key]
	if !young {
		r = m.old[key]
	}
	if r == nil || !r.answers(q) {
		return nil
	}
	if !young {
		m.put(key, r)
	}
	return r
}

func (m *Memo) keep(key uint64, r *remembered) {
	if r.octets > maxRemembered {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if before := m.young[key]; before != nil {
		m.held -= before.octets
	}
	m.put(key, r)
}

// put adds to the young generation, and begins a new one when it is full. The caller holds the lock.
func (m *Memo) put(key uint64, r *remembered) {
	if m.held+r.octets > m.octets {
		m.old, m.young, m.held = m.young, map[uint64]*remembered{}, 0
	}
	m.young[key] = r
	m.held += r.octets
}

// answers tells whether the question is the one that was judged, at a moment at which the judgement is the same.
func (r *remembered) answers(q *Question) bool {
	p := &r.q
	return !q.At.Before(r.from) && !q.At.After(r.to) && q.Address == p.Address && q.Purpose == p.Purpose && samePolicy(q.Policy, p.Policy) &&
		(q.Issuers == nil) == (p.Issuers == nil) && (q.Revocation == nil) == (p.Revocation == nil) &&
		slices.EqualFunc(q.Candidates, p.Candidates, bytes.Equal) && slices.Equal(q.Intermediates, p.Intermediates) && slices.Equal(q.Anchors, p.Anchors)
}

func samePolicy(a, b Policy) bool {
	return a.Profile == b.Profile && a.MinRSABits == b.MinRSABits && a.RequirePolicy == b.RequirePolicy && a.InhibitPolicyMapping == b.InhibitPolicyMapping &&
		a.InhibitAnyPolicy == b.InhibitAnyPolicy && a.Revocation == b.Revocation && a.Grace == b.Grace && slices.Equal(a.Policies, b.Policies)
}

// lasting tells whether a judgement depends on its question alone.
func (j *Judgement) lasting() bool {
	for i := range j.Candidates {
		c := &j.Candidates[i]
		for _, check := range c.Checks {
			if check.State == Undetermined {
				return false
			}
		}
		// What could not be found may be there tomorrow, and what is revoked may have been on hold.
		if !c.Usable && (len(c.Fetches) > 0 || len(c.Statuses) > 0) {
			return false
		}
	}
	return true
}

// remember finds out how long the judgement holds: until the next certificate begins or ends to be valid, whichever it is.
func remember(q Question, j Judgement, pool *pool) *remembered {
	q.Candidates, q.Intermediates, q.Anchors = slices.Clone(q.Candidates), slices.Clone(q.Intermediates), slices.Clone(q.Anchors)
	r := &remembered{q: q, judgement: j, to: time.Unix(1<<40, 0)}
	for _, der := range q.Candidates {
		r.octets += len(der)
	}
	for _, c := range q.Intermediates {
		if c != nil {
			r.octets += len(c.Raw)
		}
	}
	for i := range j.Candidates {
		if c := j.Candidates[i].Certificate; c != nil {
			r.narrow(c)
		}
	}
	for _, n := range pool.all {
		r.narrow(n.cert)
	}
	return r
}

func (r *remembered) narrow(c *x509.Certificate) {
	at := r.q.At
	for _, begin := range []time.Time{c.NotBefore, c.NotAfter.Add(1)} { // from here on something is otherwise
		if begin.After(at) {
			if last := begin.Add(-1); last.Before(r.to) {
				r.to = last
			}
		} else if begin.After(r.from) {
			r.from = begin
		}
	}
}

// renew makes the judgement one of this moment. good tells that every status along the paths is.
func (r *remembered) renew(ctx context.Context, q *Question) (j Judgement, good bool) {
	j = r.judgement
	if q.Revocation != nil {
		j.Candidates = slices.Clone(j.Candidates)
		for i := range j.Candidates {
			if !j.Candidates[i].renew(ctx, q) {
				return j, false
			}
		}
	}
	j.collect(q)
	return j, true
}

// renew asks for the status of every certificate of the path again.
func (c *Candidate) renew(ctx context.Context, q *Question) bool {
	if !c.Usable || len(c.Statuses) == 0 {
		return true
	}
	statuses := make([]CertificateStatus, len(c.Statuses))
	for i, before := range c.Statuses {
		result := q.Revocation.Status(ctx, before.Certificate, before.Issuer, q.At)
		if result.Status != StatusGood {
			return false
		}
		statuses[i] = CertificateStatus{before.Certificate, before.Issuer, result}
	}
	c.Statuses = statuses
	return true
}
