package trust

import "fmt"

// Kind sorts refusals by what a person can do about them.
type Kind string

const (
	NotFound       Kind = "not_found"    // there is no certificate
	Untrusted      Kind = "untrusted"    // no path to one of our anchors
	Invalid        Kind = "invalid"      // expired, not bound to the address, badly signed, unfit key
	Revoked        Kind = "revoked"      // withdrawn by its issuer
	Unknown        Kind = "undetermined" // revocation status could not be learned
	TemporaryFault Kind = "temporary"    // ask again later
)

// Code is the exit code that commands end with and that JSON carries.
func (k Kind) Code() int {
	switch k {
	case NotFound:
		return 10
	case Untrusted:
		return 11
	case Invalid:
		return 12
	case Revoked:
		return 13
	case Unknown:
		return 14
	case TemporaryFault:
		return 20
	}
	return 0
}

// Refusal says why no certificate may be used: the first row of the table that failed, of the candidate that got furthest.
type Refusal struct {
	Check    string // name of the row
	Citation string
	Detail   string
	Kind     Kind
	Final    bool // of Unknown: asking again will not tell more, the certificate names no source that can be used
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("%s: %s (%s)", r.Check, r.Detail, r.Citation)
}

// Code is the exit code of contract and JSON.
func (r *Refusal) Code() int { return r.Kind.Code() }

// Temporary tells whether asking again later may help.
func (r *Refusal) Temporary() bool { return r.Kind == TemporaryFault || r.Kind == Unknown && !r.Final }

// Refusal is nil if and only if at least one certificate is trusted.
func (j Judgement) Refusal() *Refusal {
	if len(j.trusted) > 0 {
		return nil
	}
	if len(j.Candidates) == 0 {
		return &Refusal{Check: "discovery", Citation: "AS 2.3", Detail: "no certificate was found", Kind: NotFound}
	}
	best := &j.Candidates[0]
	for i := range j.Candidates {
		if j.Candidates[i].firstFailure > best.firstFailure {
			best = &j.Candidates[i]
		}
	}
	return best.Refusal()
}

// Refusal is the first failing row of this candidate, nil if it is usable.
func (c *Candidate) Refusal() *Refusal {
	if c.Usable || c.firstFailure >= len(table) {
		return nil
	}
	r, got := table[c.firstFailure], c.Checks[c.firstFailure]
	kind := r.kind
	if got.State == Undetermined {
		kind = r.unclear
	}
	return &Refusal{Check: r.name, Citation: r.citation, Detail: got.Detail, Kind: kind, Final: c.final && kind == Unknown}
}
