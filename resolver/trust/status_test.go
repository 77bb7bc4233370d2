package trust_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"directnode/internal/spec"
	"directnode/internal/testpki"
	"directnode/resolver/trust"
)

// statuses answers for certificates by common name; what it was not told is undetermined for now. It keeps what it was asked.
type statuses struct {
	known map[string]trust.RevocationResult
	asked []string
}

func (s *statuses) Status(_ context.Context, cert, issuer *x509.Certificate, at time.Time) trust.RevocationResult {
	s.asked = append(s.asked, cert.Subject.CommonName+" by "+issuer.Subject.CommonName)
	if r, ok := s.known[cert.Subject.CommonName]; ok {
		return r
	}
	return trust.RevocationResult{Why: "a time-out", Temporary: true}
}

var (
	isGood    = trust.RevocationResult{Status: trust.StatusGood, Source: "CRL 7 of http://crl.example"}
	isRevoked = trust.RevocationResult{Status: trust.StatusRevoked, RevokedAt: testpki.Now().AddDate(0, -1, 0), Reason: "keyCompromise"}
	isDown    = trust.RevocationResult{Why: "http://crl.example: a time-out", Temporary: true}
	isStale   = trust.RevocationResult{Why: "the list has ended", Temporary: true, GoodUntil: testpki.Now().Add(-time.Hour)}
	isOld     = trust.RevocationResult{Why: "the list has ended", Temporary: true, GoodUntil: testpki.Now().Add(-25 * time.Hour)}
	isNowhere = trust.RevocationResult{Why: "it names no list and no responder"}
)

// TestRevocationByPolicy is every status of leaf and issuer under every policy.
func TestRevocationByPolicy(t *testing.T) {
	spec.Covers(t, "AS-4.0-d", "AS-4.0-g", "AS-6.1-x", "AS-6.1-y")
	const pass, undetermined, fail = trust.Pass, trust.Undetermined, trust.Fail
	for _, tc := range []struct {
		name       string
		leaf, hisp trust.RevocationResult
		state      trust.State
		usable     string // modes under which the certificate is used all the same
		temporary  bool
	}{
		{"both good", isGood, isGood, pass, "strict grace soft", false},
		{"leaf revoked", isRevoked, isGood, fail, "", false},
		{"issuer revoked", isGood, isRevoked, fail, "", false},
		{"leaf revoked, issuer unknown", isRevoked, isDown, fail, "", false},
		{"leaf unknown, issuer revoked", isDown, isRevoked, fail, "", false},
		{"leaf unknown", isDown, isGood, undetermined, "soft", true},
		{"issuer unknown", isGood, isDown, undetermined, "soft", true},
		{"leaf stale", isStale, isGood, undetermined, "grace soft", true},
		{"both stale", isStale, isStale, undetermined, "grace soft", true},
		{"leaf stale, issuer unknown", isStale, isDown, undetermined, "soft", true},
		{"leaf stale for too long", isOld, isGood, undetermined, "soft", true},
		{"issuer stale for too long", isStale, isOld, undetermined, "soft", true},
		{"leaf names no source", isNowhere, isGood, undetermined, "soft", false},
		{"leaf unknown, issuer names no source", isDown, isNowhere, undetermined, "soft", false},
		{"a zero answer", trust.RevocationResult{}, isGood, undetermined, "soft", false},
		{"an answer of no kind", trust.RevocationResult{Status: 7}, isGood, undetermined, "soft", false},
	} {
		for _, mode := range []trust.RevocationMode{"", trust.RevocationStrict, trust.RevocationGrace, trust.RevocationSoft, "no such mode"} {
			t.Run(fmt.Sprintf("%s/%s", tc.name, mode), func(t *testing.T) {
				w := newWorld(t)
				q := w.question(t, w.hisp.Leaf("bob", testpki.Address(bobAddress)))
				q.Revocation = &statuses{known: map[string]trust.RevocationResult{"bob": tc.leaf, "HISP CA": tc.hisp}}
				q.Policy.Revocation = mode
				j := trust.Evaluate(q)
				c := j.Candidates[0]
				if got := state(c, "revocation"); got != tc.state {
					t.Errorf("the row says %s, want %s", got, tc.state)
				}
				effective := mode
				switch mode {
				case "":
					effective = trust.RevocationGrace
				case "no such mode":
					effective = trust.RevocationStrict
				}
				want := slices.Contains(strings.Fields(tc.usable), string(effective))
				if c.Usable != want || (len(j.Trusted()) == 1) != want {
					t.Errorf("usable %v, want %v", c.Usable, want)
				}
				if len(c.Statuses) != 2 || c.Statuses[0].Result.Status != tc.leaf.Status || !c.Statuses[1].Issuer.Equal(w.root.Cert) {
					t.Errorf("statuses %+v", c.Statuses)
				}
				if r := j.Refusal(); r != nil {
					kind := map[trust.State]trust.Kind{fail: trust.Revoked, undetermined: trust.Unknown}[tc.state]
					if r.Check != "revocation" || r.Kind != kind || r.Temporary() != tc.temporary || r.Detail == "" {
						t.Errorf("refusal %+v, temporary %v", r, r.Temporary())
					}
				}
			})
		}
	}
}

func TestGraceIsCountedFromTheEndOfTheLastGoodAnswer(t *testing.T) {
	w := newWorld(t)
	q := w.question(t, w.hisp.Leaf("bob", testpki.Address(bobAddress)))
	q.Policy.Grace = time.Hour
	for late, want := range map[time.Duration]bool{time.Hour: true, time.Hour + time.Second: false} {
		stale := trust.RevocationResult{Why: "the list has ended", GoodUntil: q.At.Add(-late)}
		q.Revocation = &statuses{known: map[string]trust.RevocationResult{"bob": stale, "HISP CA": isGood}}
		if got := len(trust.Evaluate(q).Trusted()) == 1; got != want {
			t.Errorf("%v after the end: trusted %v", late, got)
		}
	}
}

func TestStatusIsAskedForWhatStandsBelowTheAnchor(t *testing.T) {
	spec.Covers(t, "AS-4.2.3-g")
	w := newWorld(t)
	bob := w.hisp.Leaf("bob", testpki.Address(bobAddress))
	for _, tc := range []struct {
		anchor *x509.Certificate
		asked  string
	}{
		{w.root.Cert, "bob by HISP CA, HISP CA by Root"},
		{w.hisp.Cert, "bob by HISP CA"},
		{bob.Cert, ""},
	} {
		s := &statuses{known: map[string]trust.RevocationResult{"bob": isGood, "HISP CA": isGood}}
		q := w.question(t, bob)
		q.Anchors, q.Revocation = []*x509.Certificate{tc.anchor}, s
		q.Policy.Revocation = trust.RevocationStrict
		if r := trust.Evaluate(q).Refusal(); r != nil {
			t.Error(r)
		}
		if got := strings.Join(s.asked, ", "); got != tc.asked {
			t.Errorf("anchor %s: asked for %s", tc.anchor.Subject.CommonName, got)
		}
	}
}

func TestNobodyIsAskedForACertificateThatIsRefusedAnyway(t *testing.T) {
	w := newWorld(t)
	s := &statuses{}
	q := w.question(t, w.hisp.Leaf("bob", testpki.Address(bobAddress), testpki.Expired()), w.hisp.Leaf("eve", testpki.Address("eve@example.org")),
		w.pki.Root("Stranger").Leaf("bob", testpki.Address(bobAddress)))
	q.Revocation = s
	for _, c := range trust.Evaluate(q).Candidates {
		if state(c, "revocation") != trust.Skipped {
			t.Error("the row was not skipped")
		}
	}
	if len(s.asked) != 0 {
		t.Errorf("asked for %v", s.asked)
	}
}

// TestRevocationIsSkippedAndNeverPasses: without anybody to ask, the row says so; a policy that names a mode makes it undetermined.
func TestRevocationIsSkippedAndNeverPasses(t *testing.T) {
	w := newWorld(t)
	q := w.question(t, w.hisp.Leaf("bob", testpki.Address(bobAddress)))
	for mode, want := range map[trust.RevocationMode]trust.State{"": trust.Skipped, trust.RevocationSoft: trust.Undetermined,
		trust.RevocationGrace: trust.Undetermined, trust.RevocationStrict: trust.Undetermined} {
		q.Policy.Revocation = mode
		j := trust.Evaluate(q)
		if got := state(j.Candidates[0], "revocation"); got != want {
			t.Errorf("%q: revocation is %q", mode, got)
		}
		if usable := mode == "" || mode == trust.RevocationSoft; usable != (len(j.Trusted()) == 1) {
			t.Errorf("%q: trusted %v", mode, !usable)
		}
	}
}

// TestARevokedPathDoesNotHideAGoodOne: two issuers of one name and key, one of them revoked by its own issuer.
func TestARevokedPathDoesNotHideAGoodOne(t *testing.T) {
	w := newWorld(t)
	other := w.pki.Root("Other Root")
	cross := other.CrossSign(w.hisp)
	q := w.question(t, w.hisp.Leaf("bob", testpki.Address(bobAddress)))
	q.Intermediates = append(q.Intermediates, cross.Cert)
	q.Anchors = append(q.Anchors, other.Cert)
	for _, bad := range []*x509.Certificate{w.hisp.Cert, cross.Cert} {
		q.Revocation = byIssuer{bad.Issuer.CommonName}
		j := trust.Evaluate(q)
		if len(j.Trusted()) != 1 || j.Trusted()[0].Anchor().Subject.CommonName == bad.Issuer.CommonName {
			t.Errorf("%s revoked its certificate: %v", bad.Issuer.CommonName, j.Refusal())
		}
	}
}

// byIssuer says revoked for what one issuer has issued, and good for the rest.
type byIssuer struct{ bad string }

func (b byIssuer) Status(_ context.Context, _, issuer *x509.Certificate, _ time.Time) trust.RevocationResult {
	if issuer.Subject.CommonName == b.bad {
		return isRevoked
	}
	return isGood
}

func TestStatusesHaveNames(t *testing.T) {
	for s, want := range map[trust.Status]string{trust.StatusGood: "good", trust.StatusRevoked: "revoked", trust.StatusUndetermined: "undetermined", 9: "undetermined"} {
		if s.String() != want {
			t.Errorf("status %d is %q", s, s)
		}
	}
}

// listOf says good for what is judged with one key of an issuer, and is undetermined with any other; one certificate may be revoked.
type listOf struct {
	signer  *x509.Certificate
	revoked *x509.Certificate
}

func (l listOf) Status(_ context.Context, cert, issuer *x509.Certificate, _ time.Time) trust.RevocationResult {
	switch {
	case cert.Equal(l.revoked):
		return isRevoked
	case cert.Equal(l.signer): // by a list of its own issuer
		return isGood
	case cert.Issuer.CommonName != l.signer.Subject.CommonName || issuer.Equal(l.signer):
		return isGood
	}
	return trust.RevocationResult{Why: "the signature of the list is not one of the issuer's key", Temporary: true}
}

// TestAListMayBeSignedByAnotherKeyOfTheIssuer: one that the same authorities have certified, and that is in force.
func TestAListMayBeSignedByAnotherKeyOfTheIssuer(t *testing.T) {
	w := newWorld(t)
	bob := w.hisp.Leaf("bob", testpki.Address(bobAddress))
	lists := testpki.KeyUsage(x509.KeyUsageCRLSign)
	other := w.root.Intermediate("HISP CA", lists)
	stranger := w.pki.Root("HISP CA", lists)
	for _, tc := range []struct {
		name    string
		signer  *x509.Certificate
		known   []*x509.Certificate
		revoked *x509.Certificate
		want    bool
	}{
		{"its own", w.hisp.Cert, nil, nil, true},
		{"another, certified by the same root", other.Cert, []*x509.Certificate{other.Cert}, nil, true},
		{"another, certified by itself", w.hisp.Intermediate("HISP CA", lists).Cert, nil, nil, true},
		{"another that nobody here knows", other.Cert, []*x509.Certificate{w.hisp.Cert}, nil, false},
		{"another that is revoked", other.Cert, []*x509.Certificate{other.Cert}, other.Cert, false},
		{"another that has expired", w.root.Intermediate("HISP CA", lists, testpki.Expired()).Cert, nil, nil, false},
		{"one of a stranger of that name", stranger.Cert, []*x509.Certificate{stranger.Cert}, nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q := w.question(t, bob)
			if tc.known == nil {
				tc.known = []*x509.Certificate{tc.signer}
			}
			q.Intermediates = append(q.Intermediates, tc.known...)
			q.Revocation, q.Policy.Revocation = listOf{tc.signer, tc.revoked}, trust.RevocationStrict
			if c := trust.Evaluate(q).Candidates[0]; c.Usable != tc.want {
				t.Errorf("usable %v: %v", c.Usable, c.Refusal())
			}
		})
	}
}
