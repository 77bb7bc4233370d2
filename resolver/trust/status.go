package trust

import (
	"bytes"
	"fmt"
	"slices"
	"time"
)

// checkRevocation asks for the status of every certificate below the anchor, leaf first, and only when every other row has passed
// (AS 4.0 (3), 6.1). One that is revoked refuses; one whose status is not known never passes, and refuses unless the policy says
// otherwise. A revoked certificate outweighs any number of unknown ones, so that all are asked.
func checkRevocation(v *view) (State, string) {
	switch {
	case v.path == nil:
		return Skipped, "no path to a trust anchor"
	case len(v.path) == 1:
		return Pass, "the certificate is itself the trust anchor"
	case v.q.Revocation == nil && v.q.Policy.Revocation == "":
		return Skipped, "nobody was named who can be asked for revocation status"
	case v.q.Revocation == nil:
		v.final = true
		return v.undetermined("nobody was named who can be asked for revocation status", time.Time{})
	}
	for i := range v.path[:len(v.path)-1] {
		s := v.status(v.path[i], v.path[i+1])
		for _, other := range v.otherKeys(i, s.Result) {
			if again := v.status(v.path[i], other); again.Result.Status != StatusUndetermined {
				s = again
				break
			}
		}
		v.statuses = append(v.statuses, s)
	}
	return v.weigh()
}

func (v *view) status(n, issuer *node) CertificateStatus {
	r := v.q.Revocation.Status(v.ctx, n.cert, issuer.cert, v.q.At)
	r.Why, r.Source, r.Reason = shorten(r.Why), shorten(r.Source), shorten(r.Reason)
	return CertificateStatus{n.cert, issuer.cert, r}
}

// otherKeys gives other certificates of the issuer of certificate i, by which the list may be signed that its own key did not sign: an
// authority that changes its key, or has one for lists alone, publishes one list (RFC 5280 §6.3.3 (f): the path of who signed the list ends
// in the same anchor). Each stands on this path, is an anchor, or was certified by an authority of this path and is fit for it.
func (v *view) otherKeys(i int, known RevocationResult) (others []*node) {
	if known.Status != StatusUndetermined || known.Unpublished {
		return nil
	}
	issuer := v.path[i+1]
	for _, n := range v.pool.bySubject[issuer.subject] {
		same := bytes.Equal(n.cert.RawSubjectPublicKeyInfo, issuer.cert.RawSubjectPublicKeyInfo)
		if !same && len(others) < maxOtherKeys && (n.anchor || slices.Contains(v.path[i+1:], n) || v.certified(n, v.path[i+1:])) {
			others = append(others, n)
		}
	}
	return others
}

// certified tells whether one of the authorities has signed a certificate that is in force and that it has not withdrawn.
func (v *view) certified(n *node, by []*node) bool {
	if aboveValidity(v, nil, n)+aboveKey(v, nil, n)+unknownCritical(n.cert) != "" || weak(n.cert.SignatureAlgorithm) {
		return false
	}
	return slices.ContainsFunc(by, func(up *node) bool {
		return n.issuer == up.subject && v.search.verify(n, up) == nil && v.status(n, up).Result.Status == StatusGood
	})
}

// weigh makes one state of those of the path.
func (v *view) weigh() (State, string) {
	var unknown, silent *CertificateStatus
	for i := range v.statuses {
		s := &v.statuses[i]
		switch s.Result.Status {
		case StatusRevoked:
			detail := fmt.Sprintf("%s was revoked %s", label(s.Certificate), day(s.Result.RevokedAt))
			if s.Result.Reason != "" {
				detail += ", " + s.Result.Reason
			}
			return Fail, withSource(detail, s.Result.Source)
		case StatusGood:
		default:
			if s.Result.Unpublished && v.q.Policy.Revocation != RevocationStrict {
				silent = s
				continue
			}
			// The one that asking again does not settle is the reason to give.
			if unknown == nil || unknown.Result.Temporary && !s.Result.Temporary {
				unknown = s
			}
		}
	}
	if unknown == nil && silent != nil {
		v.tolerated = true
		return Undetermined, fmt.Sprintf("%s; there is nobody to ask about %s, and the policy lets that pass", silent.Result.Why, label(silent.Certificate))
	}
	if unknown == nil {
		return Pass, withSource(fmt.Sprintf("%d good", len(v.statuses)), v.statuses[0].Result.Source)
	}
	v.final = !unknown.Result.Temporary
	return v.undetermined(fmt.Sprintf("the status of %s is not known: %s", label(unknown.Certificate), unknown.Result.Why), v.oldest())
}

// oldest is until when all the last answers together said good, zero if there was none for one of them.
func (v *view) oldest() time.Time {
	var oldest time.Time
	for _, s := range v.statuses {
		switch {
		case s.Result.Status == StatusGood, s.Result.Unpublished:
		case s.Result.GoodUntil.IsZero():
			return time.Time{}
		case oldest.IsZero() || s.Result.GoodUntil.Before(oldest):
			oldest = s.Result.GoodUntil
		}
	}
	return oldest
}

// undetermined applies the policy. The state stays what it is: tolerated or not, it is never good.
func (v *view) undetermined(detail string, goodUntil time.Time) (State, string) {
	p := v.q.Policy
	switch p.Revocation {
	case RevocationSoft:
		v.tolerated = true
		return Undetermined, detail + "; the policy soft lets it pass"
	case RevocationGrace, "":
		grace := p.Grace
		if grace <= 0 {
			grace = defaultGrace
		}
		if !goodUntil.IsZero() && !v.q.At.After(goodUntil.Add(grace)) {
			v.tolerated = true
			return Undetermined, fmt.Sprintf("%s; the last answer said good and counted until %s, which the policy lets pass for %s", detail, goodUntil.UTC().Format(time.RFC3339), grace)
		}
	}
	return Undetermined, detail
}

func withSource(detail, source string) string {
	if source == "" {
		return detail
	}
	return detail + " (" + source + ")"
}
