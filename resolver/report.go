package resolver

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"math"
	"time"

	"directnode/resolver/trust"
)

// Report is the answer of `directctl discover -o json`. The field names are a contract: fields are added, never renamed or removed.
type Report struct {
	Address    string            `json:"address"`
	Verdict    string            `json:"verdict"` // trusted not_found untrusted invalid revoked undetermined temporary
	Code       int               `json:"code"`    // exit code
	Source     string            `json:"source"`  // dns-address dns-domain ldap-address ldap-domain, empty if nothing was found
	Reason     *ReportReason     `json:"reason,omitempty"`
	Steps      []ReportStep      `json:"steps"`
	Candidates []ReportCandidate `json:"candidates"`
	Skipped    []ReportSkipped   `json:"skipped,omitempty"`
	Chain      []ReportCert      `json:"chain"`  // of the first trusted certificate, leaf first; else of the candidate that got furthest
	Anchor     *ReportCert       `json:"anchor"` // null if no path reached one
	TimingMS   float64           `json:"timing_ms"`

	AnchorsKnown bool `json:"anchors_known"` // false: nobody named trust anchors, so that nothing could be trusted
}

// ReportReason is why the verdict is not trusted.
type ReportReason struct {
	Check    string `json:"check"`
	Citation string `json:"citation"`
	Detail   string `json:"detail"`
}

// ReportStep is one step of the discovery.
type ReportStep struct {
	N         int     `json:"n"`
	Kind      string  `json:"kind"`
	Server    string  `json:"server"`
	Question  string  `json:"question"`
	Transport string  `json:"transport"`
	RTTMS     float64 `json:"rtt_ms"`
	Outcome   string  `json:"outcome"`
	Detail    string  `json:"detail,omitempty"`
	Answers   int     `json:"answers"`

	Parent  int     `json:"parent,omitempty"`   // the step that made this one necessary
	StartMS float64 `json:"start_ms,omitempty"` // since the discovery began
	Octets  int     `json:"octets,omitempty"`   // of the reply
	AD      bool    `json:"ad,omitempty"`       // the name server says that it has validated the answer
	Cached  bool    `json:"cached,omitempty"`   // nobody was asked
	AgeS    float64 `json:"age_s,omitempty"`    // of a cached answer
}

// ReportCandidate is one certificate that was found, with every check.
type ReportCandidate struct {
	SHA256    string                 `json:"sha256"`
	Subject   string                 `json:"subject"`
	Size      int                    `json:"size"`
	Step      int                    `json:"step"` // that found it
	NotBefore *time.Time             `json:"not_before,omitempty"`
	NotAfter  *time.Time             `json:"not_after,omitempty"`
	Source    string                 `json:"source"`
	Bound     string                 `json:"bound,omitempty"` // address or domain
	Usable    bool                   `json:"usable"`
	Checks    map[string]ReportCheck `json:"checks"`

	Paths      []ReportPath   `json:"paths,omitempty"`      // that were tried, in order
	Revocation []ReportStatus `json:"revocation,omitempty"` // along the path, leaf first
	Fetches    []ReportFetch  `json:"fetches,omitempty"`    // of issuers' certificates
}

// ReportPath is one way up from a candidate and what it fell by.
type ReportPath struct {
	Subjects []string `json:"subjects"` // leaf first
	Anchored bool     `json:"anchored"`
	Chosen   bool     `json:"chosen"`
	Check    string   `json:"check,omitempty"`
	Detail   string   `json:"detail,omitempty"`
}

// ReportStatus is the revocation status of one certificate of the path.
type ReportStatus struct {
	Subject    string     `json:"subject"`
	Status     string     `json:"status"` // good revoked undetermined
	Source     string     `json:"source,omitempty"`
	Detail     string     `json:"detail,omitempty"` // reason of a revocation, or why nothing is known
	RevokedAt  *time.Time `json:"revoked_at,omitempty"`
	ThisUpdate *time.Time `json:"this_update,omitempty"`
	NextUpdate *time.Time `json:"next_update,omitempty"`
	Cached     bool       `json:"cached,omitempty"`
}

// ReportFetch is one place that was asked for an issuer's certificate (AS 4.2.2).
type ReportFetch struct {
	For          string  `json:"for"`
	URL          string  `json:"url"`
	Outcome      string  `json:"outcome"`
	Detail       string  `json:"detail,omitempty"`
	Octets       int     `json:"octets"`
	Certificates int     `json:"certificates"`
	TookMS       float64 `json:"took_ms"`
	Cached       bool    `json:"cached,omitempty"`
}

// ReportCheck is one row for one candidate.
type ReportCheck struct {
	State    string `json:"state"`
	Citation string `json:"citation"`
	Detail   string `json:"detail"`
}

// ReportSkipped is a value on the way that is no certificate.
type ReportSkipped struct {
	Source string `json:"source"`
	Step   int    `json:"step"`
	Error  string `json:"error"`
}

// ReportCert names a certificate of the path.
type ReportCert struct {
	Subject  string    `json:"subject"`
	SHA256   string    `json:"sha256"`
	NotAfter time.Time `json:"not_after"`
}

// Judging is what decides about the certificates of a Result.
type Judging struct {
	Anchors      []*x509.Certificate
	AnchorsKnown bool // false: nobody named trust anchors, which the text then says
	Policy       trust.Policy
	At           time.Time
	Issuers      trust.Issuers    // nil: issuers' certificates are not fetched
	Revocation   trust.Revocation // nil: nobody is asked for revocation
}

// Judge evaluates what was found for encryption to the address and reports it.
func Judge(ctx context.Context, res Result, j Judging) Report {
	return NewReport(res, trust.EvaluateContext(ctx, trust.Question{
		Address: res.Subject, Purpose: trust.Encrypt, Candidates: res.Certificates(), Anchors: j.Anchors, At: j.At, Policy: j.Policy,
		Issuers: j.Issuers, Revocation: j.Revocation,
	}), j.AnchorsKnown)
}

// NewReport joins what was found with what was decided about it. The judgement's question must have had res.Certificates() as its
// candidates. anchorsKnown is false where nobody named trust anchors, which the text then says.
func NewReport(res Result, j trust.Judgement, anchorsKnown bool) Report {
	r := Report{
		Address: res.Address.String(), Verdict: "trusted", Source: res.Source, TimingMS: millis(res.Elapsed),
		Steps: []ReportStep{}, Candidates: []ReportCandidate{}, Chain: []ReportCert{}, AnchorsKnown: anchorsKnown,
	}
	refusal := res.Refusal()
	if refusal == nil {
		refusal = j.Refusal()
	}
	if refusal != nil {
		r.Verdict, r.Code = string(refusal.Kind), refusal.Code()
		r.Reason = &ReportReason{Check: refusal.Check, Citation: refusal.Citation, Detail: refusal.Detail}
	}
	for _, s := range res.Steps {
		r.Steps = append(r.Steps, ReportStep{N: s.N, Kind: s.Kind, Server: s.Server, Question: s.Question, Transport: s.Transport,
			RTTMS: millis(s.RTT), Outcome: s.Outcome, Detail: s.Detail, Answers: s.Answers, Parent: s.Parent,
			StartMS: millis(s.Start), Octets: s.Octets, AD: s.Authenticated, Cached: s.Cached, AgeS: math.Round(s.Age.Seconds())})
	}
	for _, s := range res.Skipped {
		r.Skipped = append(r.Skipped, ReportSkipped{Source: s.Source, Step: s.Step, Error: s.Err.Error()})
	}
	for i, c := range j.Candidates {
		r.Candidates = append(r.Candidates, candidateOf(res, i, c))
	}
	r.setChain(j)
	return r
}

func candidateOf(res Result, i int, c trust.Candidate) ReportCandidate {
	out := ReportCandidate{SHA256: c.SHA256, Source: res.Source, Bound: c.Bound, Usable: c.Usable, Checks: map[string]ReportCheck{}, Size: len(c.DER)}
	if i < len(res.Found) {
		out.Source, out.Step = res.Found[i].Source, res.Found[i].Step
	}
	if c.Certificate != nil {
		out.Subject = c.Certificate.Subject.String()
		out.NotBefore, out.NotAfter = &c.Certificate.NotBefore, &c.Certificate.NotAfter
	}
	for _, check := range c.Checks {
		out.Checks[check.Name] = ReportCheck{State: string(check.State), Citation: check.Citation, Detail: check.Detail}
	}
	for _, p := range c.Paths {
		path := ReportPath{Anchored: p.Anchored, Chosen: p.Chosen, Check: p.Check, Detail: p.Detail}
		for _, cert := range p.Chain {
			path.Subjects = append(path.Subjects, cert.Subject.String())
		}
		out.Paths = append(out.Paths, path)
	}
	for _, s := range c.Statuses {
		out.Revocation = append(out.Revocation, statusOf(s))
	}
	for _, f := range c.Fetches {
		out.Fetches = append(out.Fetches, ReportFetch{For: f.For, URL: f.URL, Outcome: f.Outcome, Detail: f.Detail, Octets: f.Octets,
			Certificates: f.Certificates, TookMS: millis(f.Took), Cached: f.Cached})
	}
	return out
}

func statusOf(s trust.CertificateStatus) ReportStatus {
	r := s.Result
	out := ReportStatus{Subject: s.Certificate.Subject.String(), Status: r.Status.String(), Source: r.Source, Detail: r.Why, Cached: r.Cached,
		RevokedAt: moment(r.RevokedAt), ThisUpdate: moment(r.ThisUpdate), NextUpdate: moment(r.NextUpdate)}
	if r.Status == trust.StatusRevoked {
		out.Detail = r.Reason
	}
	return out
}

// moment leaves the zero time out of JSON.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// setChain takes the path of the first trusted certificate, else the longest one that was built.
func (r *Report) setChain(j trust.Judgement) {
	var best *trust.Candidate
	for i := range j.Candidates {
		c := &j.Candidates[i]
		if best == nil || c.Usable && !best.Usable || c.Usable == best.Usable && len(c.Chain) > len(best.Chain) && !c.Usable {
			best = c
		}
	}
	if best == nil {
		return
	}
	for _, c := range best.Chain {
		r.Chain = append(r.Chain, certOf(c))
	}
	if best.Anchor != nil {
		a := certOf(best.Anchor)
		r.Anchor = &a
	}
}

func certOf(c *x509.Certificate) ReportCert {
	sum := sha256.Sum256(c.Raw)
	return ReportCert{Subject: c.Subject.String(), SHA256: hex.EncodeToString(sum[:]), NotAfter: c.NotAfter}
}

// millis rounds to a tenth: what is below is noise.
func millis(d time.Duration) float64 {
	return math.Round(float64(d.Microseconds())/100) / 10
}
