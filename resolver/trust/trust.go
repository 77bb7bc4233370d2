// Package trust decides whether a certificate may be used for a Direct Address, now.
//
// Data in: the certificates that discovery or a signature gave (DER, in order), intermediates, the trust anchors of the local
// address, a moment. Data out: a Judgement that holds every check of every candidate with its state, citation and reason, and a
// Trusted for each candidate that passed. The package opens no socket, reads no file and has no clock: the same Question gives the
// same Judgement for ever, which is what makes a verdict replayable.
//
// Only Evaluate makes a Trusted. A function that encrypts to a certificate, or believes a signature, takes a Trusted and therefore
// cannot be reached by a certificate that was not judged.
//
// Sources: AS 4.0 (validity), 4.1 (binding), 4.2 (paths and anchors); RFC 5280 §4.2.1 (extensions), §6.1 (path validation),
// §7.1 (comparison of names); RFC 9618 (policy processing without exponential growth).
//
// crypto/x509 parses and verifies single signatures; its Verify is not used, because Direct differs from the web: an anchor may be
// an intermediate or the leaf itself (AS 4.2.3), addresses are compared without regard to case (AS 4.1.1), a dNSName binds a mail
// domain (AS 4.1.2), extended key usage does not matter (AS 4.1.3), and a person wants all reasons, not the first.
package trust

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"time"

	"directnode/internal/direct"
)

// Purpose is what the certificate is to be used for.
type Purpose int

const (
	Encrypt Purpose = iota + 1 // send to the address
	Verify                     // believe a signature of the address
)

// String names the purpose as it stands in logs.
func (p Purpose) String() string {
	switch p {
	case Encrypt:
		return "encrypt"
	case Verify:
		return "verify"
	}
	return "none"
}

// Policy is what an operator may tighten. The zero value is profile as-1.2 with RSA keys of at least 2048 bits.
type Policy struct {
	Profile    string // "as-1.2" (also for "") or "as-1.3"; the checks of this package are the same in both
	MinRSABits int    // 0 = 2048
}

// Question is one decision to make. Nothing in it is changed.
type Question struct {
	Address       direct.Address
	Purpose       Purpose
	Candidates    [][]byte            // DER, as found
	Intermediates []*x509.Certificate // believed for nothing but their place in a path
	Anchors       []*x509.Certificate // the trust anchors of our own address (AS 4.2.1)
	At            time.Time
	Policy        Policy
}

// State is the outcome of one check.
type State string

const (
	Pass         State = "pass"
	Fail         State = "fail"
	Skipped      State = "skipped"      // not evaluated; never stands for "good"
	Undetermined State = "undetermined" // could not be answered
)

// CheckResult is one row of the table for one candidate.
type CheckResult struct {
	Name     string
	Level    string // MUST, SHOULD, MAY, POLICY
	Citation string
	State    State
	Detail   string
}

// Candidate is a certificate with everything that was found out about it.
type Candidate struct {
	DER         []byte
	Certificate *x509.Certificate // nil if it does not parse
	SHA256      string            // lower-case hexadecimal
	Bound       string            // "address" (AS 4.1.1), "domain" (AS 4.1.2) or ""
	Checks      []CheckResult     // in table order
	Chain       []*x509.Certificate
	Anchor      *x509.Certificate // last of Chain; nil if no path reached an anchor
	Usable      bool

	firstFailure int // index into the table, len(table) if none
}

// Judgement answers a Question. Candidates stand in the order of the question's.
type Judgement struct {
	Candidates []Candidate

	trusted []Trusted
}

// Trusted is a certificate that passed every check for one address and one purpose at one moment. The zero value is of no use;
// only Evaluate makes one.
type Trusted struct {
	address direct.Address
	purpose Purpose
	chain   []*x509.Certificate
	at      time.Time
}

// Address is the Direct Address that the certificate was judged for.
func (t Trusted) Address() direct.Address { return t.address }

// Purpose is what it was judged for.
func (t Trusted) Purpose() Purpose { return t.purpose }

// Certificate is the leaf, nil for a zero Trusted.
func (t Trusted) Certificate() *x509.Certificate {
	if len(t.chain) == 0 {
		return nil
	}
	return t.chain[0]
}

// Chain is the path from the leaf to the anchor, both included.
func (t Trusted) Chain() []*x509.Certificate { return append([]*x509.Certificate(nil), t.chain...) }

// Anchor is the trust anchor that ended the path, nil for a zero Trusted.
func (t Trusted) Anchor() *x509.Certificate {
	if len(t.chain) == 0 {
		return nil
	}
	return t.chain[len(t.chain)-1]
}

// At is the moment of the decision.
func (t Trusted) At() time.Time { return t.at }

// Evaluate runs every row of the table for every candidate and keeps all results.
func Evaluate(q Question) Judgement {
	var j Judgement
	pool := newPool(q.Anchors, q.Intermediates)
	for i, der := range q.Candidates {
		c := judge(&q, pool, i, der)
		if c.Usable && !j.has(c.DER) {
			j.trusted = append(j.trusted, Trusted{address: q.Address, purpose: q.Purpose, chain: c.Chain, at: q.At})
		}
		j.Candidates = append(j.Candidates, c)
	}
	return j
}

// Trusted lists the certificates that may be used, in the order in which they were found and each once.
func (j Judgement) Trusted() []Trusted { return append([]Trusted(nil), j.trusted...) }

func (j Judgement) has(der []byte) bool {
	for _, t := range j.trusted {
		if bytes.Equal(t.Certificate().Raw, der) {
			return true
		}
	}
	return false
}

// judge tries the paths of one candidate in order and keeps the first on which every row passes, else the one that got furthest.
func judge(q *Question, pool *pool, index int, der []byte) Candidate {
	sum := sha256.Sum256(der)
	c := Candidate{DER: der, SHA256: hex.EncodeToString(sum[:])}
	v := &view{q: q, index: index}
	v.parse(der)
	c.Certificate = v.cert
	if v.cert != nil {
		c.Bound, _ = boundTo(v.cert, q.Address)
		v.search = pool.paths(v.cert)
	}
	paths := [][]*x509.Certificate{nil}
	if v.search != nil && len(v.search.found) > 0 {
		paths = v.search.found
	}
	for i, p := range paths {
		v.path = p
		checks, failure := run(v)
		if i == 0 || failure > c.firstFailure {
			c.Checks, c.firstFailure = checks, failure
			c.Chain, c.Anchor = p, nil
			if len(p) > 0 {
				c.Anchor = p[len(p)-1]
			}
		}
		if failure == len(table) {
			c.Usable = true
			break
		}
	}
	if c.Chain == nil && v.search != nil {
		c.Chain = v.search.longest
	}
	return c
}
