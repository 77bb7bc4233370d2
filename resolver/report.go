package resolver

import (
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

// Judge evaluates what was found for encryption to the address and reports it.
// anchorsKnown is false where nobody named trust anchors.
func Judge(res Result, anchors []*x509.Certificate, anchorsKnown bool, p trust.Policy, at time.Time) Report {
	j := trust.Evaluate(trust.Question{Address: res.Subject, Purpose: trust.Encrypt, Candidates: res.Certificates(), Anchors: anchors, At: at, Policy: p})
	return NewReport(res, j, anchorsKnown)
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
			RTTMS: millis(s.RTT), Outcome: s.Outcome, Detail: s.Detail, Answers: s.Answers})
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
	return out
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
