package trust

import "crypto/x509"

const anyPolicy = "2.5.29.32.0"

// policyState is RFC 5280 §6.1.2 for an STA that accepts any policy and demands none by itself: what is left to do is to obey the
// demands that the certificates of the path make (requireExplicitPolicy, inhibitPolicyMapping, inhibitAnyPolicy).
//
// alive maps each policy of the current level to the set that the next level may name for it. RFC 9618 §4 shows that the tree of RFC
// 5280 can be kept level by level; as only its being empty matters for any-policy, the levels above need not be kept at all.
type policyState struct {
	alive    map[string][]string
	explicit int
	mapping  int
	any      int
}

// checkPolicies walks from below the anchor down to the leaf (RFC 5280 §6.1.3 (d)-(f), §6.1.4 (a)-(j), §6.1.5).
func checkPolicies(v *view) (State, string) {
	if v.path == nil {
		return Skipped, "no path to a trust anchor"
	}
	n := len(v.path)
	s := policyState{alive: map[string][]string{anyPolicy: {anyPolicy}}, explicit: n, mapping: n, any: n}
	for i := n - 2; i >= 0; i-- {
		c := v.path[i]
		s.descend(c, i == 0)
		if len(s.alive) > maxPolicies {
			return Fail, "too many certificate policies"
		}
		if s.explicit <= 0 && len(s.alive) == 0 {
			return Fail, label(c) + " leaves no certificate policy of those that the path demands"
		}
		if i == 0 {
			break
		}
		if reason := s.mapPolicies(c); reason != "" {
			return Fail, label(c) + ": " + reason
		}
		s.count(c)
	}
	leaf := v.path[0]
	s.explicit = max(0, s.explicit-1)                                                                                      // §6.1.5 (a)
	if demand, present := constraint(leaf.RequireExplicitPolicy, leaf.RequireExplicitPolicyZero); present && demand == 0 { // §6.1.5 (b)
		s.explicit = 0
	}
	if s.explicit == 0 && len(s.alive) == 0 {
		return Fail, "an explicit certificate policy is demanded and there is none"
	}
	return Pass, ""
}

// descend is §6.1.3 (d) and (e).
func (s *policyState) descend(c *x509.Certificate, last bool) {
	if len(c.Policies) == 0 {
		s.alive = nil
		return
	}
	next := map[string][]string{}
	allowed := map[string]bool{}
	for _, expected := range s.alive {
		for _, p := range expected {
			allowed[p] = true
		}
	}
	hasAny := false
	for _, oid := range c.Policies {
		p := oid.String()
		switch {
		case p == anyPolicy:
			hasAny = true
		case allowed[p] || len(s.alive[anyPolicy]) > 0: // (d)(1)(i) and (ii)
			next[p] = []string{p}
		}
	}
	// (d)(2): anyPolicy stands for every expected policy, while it is not inhibited.
	if hasAny && (s.any > 0 || !last && selfIssued(c)) {
		for p := range allowed {
			next[p] = []string{p}
		}
	}
	s.alive = next
}

// mapPolicies is §6.1.4 (a) and (b).
func (s *policyState) mapPolicies(c *x509.Certificate) string {
	mapped := map[string][]string{}
	for _, m := range c.PolicyMappings {
		from, to := m.IssuerDomainPolicy.String(), m.SubjectDomainPolicy.String()
		if from == anyPolicy || to == anyPolicy {
			return "a policy mapping from or to anyPolicy"
		}
		mapped[from] = append(mapped[from], to)
	}
	for from, to := range mapped {
		_, alive := s.alive[from]
		switch {
		case s.mapping <= 0: // (b)(2)
			delete(s.alive, from)
		case alive || len(s.alive[anyPolicy]) > 0: // (b)(1)
			s.alive[from] = to
		}
	}
	return ""
}

// count is §6.1.4 (h) to (j).
func (s *policyState) count(c *x509.Certificate) {
	if !selfIssued(c) {
		s.explicit, s.mapping, s.any = max(0, s.explicit-1), max(0, s.mapping-1), max(0, s.any-1)
	}
	if n, ok := constraint(c.RequireExplicitPolicy, c.RequireExplicitPolicyZero); ok {
		s.explicit = min(s.explicit, n)
	}
	if n, ok := constraint(c.InhibitPolicyMapping, c.InhibitPolicyMappingZero); ok {
		s.mapping = min(s.mapping, n)
	}
	if n, ok := constraint(c.InhibitAnyPolicy, c.InhibitAnyPolicyZero); ok {
		s.any = min(s.any, n)
	}
}

// constraint reads the standard library's pair of fields: zero counts only when it is marked.
func constraint(n int, zero bool) (int, bool) { return n, n > 0 || zero }
