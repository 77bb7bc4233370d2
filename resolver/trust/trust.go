// Package trust decides whether a certificate may be used for a Direct Address, now.
//
// Data in: the certificates that discovery or a signature gave (DER, in order), intermediates, the trust anchors of the local
// address, a moment. Data out: a Judgement that holds every check of every candidate with its state, citation and reason, every path
// that was tried with what it fell by, and a Trusted for each candidate that passed. The package opens no socket, reads no file and
// has no clock. What must be asked of others, the issuers that a certificate points to and whether it has been revoked, is asked
// through two small interfaces; the same Question with the same answers gives the same Judgement for ever, which is what makes a
// verdict replayable.
//
// Only Evaluate and EvaluateContext make a Trusted. A function that encrypts to a certificate, or believes a signature, takes a
// Trusted and therefore cannot be reached by a certificate that was not judged.
//
// Where to read: checks.go is the table of rules, chain.go the search for paths, constraints.go and policy.go the two parts of
// RFC 5280 that need more than a row, status.go what revocation does to a verdict, certificates.go how issuers travel.
//
// Sources: AS 4.0 (validity), 4.1 (binding), 4.2 (paths and anchors); RFC 5280 §4.2.1 (extensions), §4.2.2.1 (AIA), §6.1 (path
// validation), §7.1 (comparison of names); RFC 9618 (policy processing without exponential growth); RFC 5652 §5.1 and RFC 2585 §3
// (how certificates travel).
//
// crypto/x509 parses and verifies single signatures; its Verify is not used, because Direct differs from the web: an anchor may be
// an intermediate or the leaf itself (AS 4.2.3), addresses are compared without regard to case (AS 4.1.1), a dNSName binds a mail
// domain (AS 4.1.2), extended key usage does not matter (AS 4.1.3), names are compared by RFC 5280 §7.1 and not by octets, an
// rfc822Name constraint that names a host does not permit the hosts below it (RFC 5280 §4.2.1.10), directory names are constrained
// too, and a person wants all reasons, not the first.
package trust

import (
	"bytes"
	"context"
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

// The profiles of the Applicability Statement. They differ in this package by the row "profile".
const (
	AS12 = "as-1.2" // the default
	AS13 = "as-1.3" // ANSI/DS 2019-01-100-2021
)

// Policy is what an operator may tighten. The zero value is profile as-1.2 with RSA keys of at least 2048 bits, any certificate
// policy, and revocation by RevocationGrace where there is somebody to ask.
type Policy struct {
	Profile    string // AS12 (also for "") or AS13
	MinRSABits int    // 0 = 2048

	// The inputs of RFC 5280 §6.1.1 (c), (e), (f) and (g). Policies are object identifiers with dots; empty = any-policy.
	Policies             []string
	RequirePolicy        bool
	InhibitPolicyMapping bool
	InhibitAnyPolicy     bool

	Revocation RevocationMode // "" = RevocationGrace
	Grace      time.Duration  // of RevocationGrace, 0 = 24 h
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
	Issuers       Issuers    // asked where the certificates at hand lead to no anchor (AS 4.2.2); nil = nobody
	Revocation    Revocation // asked for every certificate of a path below its anchor; nil = the row is skipped unless the policy names a mode
}

// Issuers finds the certificates of a certificate's issuer at the places which it names itself (authorityInfoAccess, caIssuers:
// RFC 5280 §4.2.2.1). ParseCertificates reads what such places hold.
//
// Contract: what comes back is believed for nothing but its place in a path, and may be anything. An implementation bounds the
// places that it asks for one certificate, the time and the size of each, and gives one Fetch for each. It may be called by several
// goroutines.
type Issuers interface {
	Issuers(ctx context.Context, cert *x509.Certificate) ([]*x509.Certificate, []Fetch)
}

// Fetch is one place that was asked for certificates, as evidence.
type Fetch struct {
	For          string // subject of the certificate that named the place; set by this package
	URL          string
	Outcome      string // one word: ok, or what went wrong
	Detail       string // for people
	Octets       int
	Certificates int
	Took         time.Duration
	Cached       bool
	Temporary    bool // asking again later may help
}

// Revocation tells whether a certificate has been withdrawn by its issuer.
//
// Contract: at is the moment of the decision, the issuer is the next certificate of a path whose signatures are verified. The
// answer rests on nothing but verified lists and responses; whatever cannot be verified is undetermined. An implementation bounds
// the time of one call. It may be called by several goroutines.
type Revocation interface {
	Status(ctx context.Context, cert, issuer *x509.Certificate, at time.Time) RevocationResult
}

// Status is what is known about the revocation of one certificate. The zero value is that nothing is.
type Status int

const (
	StatusUndetermined Status = iota // never stands for good (AS 6.1)
	StatusGood
	StatusRevoked
)

// String names the status as it stands in evidence.
func (s Status) String() string {
	switch s {
	case StatusGood:
		return "good"
	case StatusRevoked:
		return "revoked"
	}
	return "undetermined"
}

// RevocationResult is the status of one certificate with its grounds. The zero value is undetermined.
type RevocationResult struct {
	Status    Status
	RevokedAt time.Time // StatusRevoked
	Reason    string    // StatusRevoked: the name of the reason code (RFC 5280 §5.3.1), empty if none was given
	Why       string    // StatusUndetermined: why, for people
	Temporary bool      // StatusUndetermined: asking again may help; false where the certificate names no source that we can use
	// Unpublished: StatusUndetermined, because the certificate names nobody who could be asked. RevocationGrace lets it pass: AS 4.0 wants a
	// method for discovering status and says that issuers SHOULD publish it; AS 1.2 does not make a certificate without one invalid, and the
	// row "profile" refuses it where as-1.3 does.
	Unpublished bool
	GoodUntil   time.Time // StatusUndetermined: the nextUpdate of the last answer that said good, zero if there is none
	Source      string    // what the status rests on, for people: "CRL 17 of http://…", "OCSP http://…"
	ThisUpdate  time.Time // of the source
	NextUpdate  time.Time // of the source, zero if it named none
	Cached      bool
}

// RevocationMode is what an undetermined status does to a verdict. A revoked certificate is refused in each.
type RevocationMode string

const (
	RevocationStrict RevocationMode = "strict" // it refuses
	RevocationGrace  RevocationMode = "grace"  // it refuses, unless the last answer said good and counted until no longer than Grace ago
	RevocationSoft   RevocationMode = "soft"   // it is shown and does not refuse
)

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
	Checks      []CheckResult     // in table order, of the path in Chain
	Chain       []*x509.Certificate
	Anchor      *x509.Certificate // last of Chain; nil if no path reached an anchor
	Usable      bool

	Paths       []Path              // every path that was tried, in order, the chosen one included
	Statuses    []CertificateStatus // revocation along Chain, leaf first; empty if nobody was asked
	Fetches     []Fetch             // what Issuers was asked for this candidate
	Signatures  int                 // how many signatures were verified for this candidate
	Comparisons int                 // how many pairs of a name and a name constraint were compared

	firstFailure int  // index into the table, len(table) if none
	final        bool // the failure is an undetermined status that asking again does not settle
}

// Path is one way up from a candidate and what it fell by.
type Path struct {
	Chain    []*x509.Certificate // leaf first; the last one is the anchor if Anchored
	Anchored bool
	Chosen   bool   // every row passed
	Check    string // name of the row that ended it, empty if Chosen
	Citation string
	Detail   string
}

// CertificateStatus is the revocation status of one certificate of a path.
type CertificateStatus struct {
	Certificate, Issuer *x509.Certificate
	Result              RevocationResult
}

// Judgement answers a Question. Candidates stand in the order of the question's.
type Judgement struct {
	Candidates []Candidate

	trusted []Trusted
}

// Trusted is a certificate that passed every check for one address and one purpose at one moment. The zero value is of no use;
// only Evaluate and EvaluateContext make one.
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

// Evaluate is EvaluateContext without an end.
func Evaluate(q Question) Judgement { return EvaluateContext(context.Background(), q) }

// EvaluateContext runs every row of the table for every candidate and keeps all results. The context goes to Issuers and Revocation
// and to nobody else; when it ends, nothing more is fetched.
func EvaluateContext(ctx context.Context, q Question) Judgement {
	j, _ := evaluate(ctx, &q)
	return j
}

// evaluate also gives the certificates that the decision looked at.
func evaluate(ctx context.Context, q *Question) (Judgement, *pool) {
	var j Judgement
	pool := newPool(q.Anchors, q.Intermediates)
	for i, der := range q.Candidates {
		v := &view{ctx: ctx, q: q, pool: pool, index: i}
		j.Candidates = append(j.Candidates, v.judge(der))
	}
	j.collect(q)
	return j, pool
}

// collect makes a Trusted of every usable candidate, each certificate once.
func (j *Judgement) collect(q *Question) {
	j.trusted = nil
	for i := range j.Candidates {
		if c := &j.Candidates[i]; c.Usable && !j.has(c.DER) {
			j.trusted = append(j.trusted, Trusted{address: q.Address, purpose: q.Purpose, chain: c.Chain, at: q.At})
		}
	}
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

// judge finds out everything about one candidate.
func (v *view) judge(der []byte) Candidate {
	sum := sha256.Sum256(der)
	v.result = Candidate{DER: der, SHA256: hex.EncodeToString(sum[:]), firstFailure: -1}
	v.parse(der)
	v.result.Certificate = v.cert
	if v.cert != nil {
		v.result.Bound, _ = boundTo(v.cert, v.q.Address)
		v.search = newSearch(v)
		v.search.run()
		v.result.Signatures, v.result.Comparisons = v.search.signatures, v.comparisons
	}
	if v.result.firstFailure < 0 {
		v.try(nil) // no path reached an anchor: the rows of the certificate itself still tell what is wrong with it
	}
	return v.result
}

// try runs the table on one complete path (nil = there is none), keeps the result if it got further than what was known, and tells
// whether every row passed.
func (v *view) try(path []*node) bool {
	v.path, v.statuses, v.tolerated, v.final = path, nil, false, false
	checks, failure := run(v)
	r := &v.result
	if failure > r.firstFailure {
		r.Checks, r.firstFailure, r.Statuses, r.final = checks, failure, v.statuses, v.final
		r.Chain, r.Anchor = certificates(path), nil
		if len(path) > 0 {
			r.Anchor = path[len(path)-1].cert
		} else if v.search != nil {
			r.Chain = certificates(v.search.longest)
		}
	}
	r.Usable = failure == len(table)
	if path != nil {
		tried := Path{Anchored: true, Chosen: r.Usable}
		if !r.Usable {
			row, got := table[failure], checks[failure]
			tried.Check, tried.Citation, tried.Detail = row.name, row.citation, got.Detail
		}
		v.search.note(path, tried)
	}
	return r.Usable
}
