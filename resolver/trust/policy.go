package trust

import (
	"crypto/x509"
	"fmt"
	"slices"
)

const anyPolicy = "2.5.29.32.0"

// policyState is RFC 5280 §6.1.2 on the way down a path.
//
// RFC 9618 §4 shows that the tree of RFC 5280 can be kept as a graph, with one node for each policy of a level; and as nothing is
// asked of the levels above but which policies of the anchor's domain each node comes from, and of those nothing but whether the
// operator wants one, the levels above are not kept at all: a node carries the answer. The work for one certificate is then linear in
// its own policies and mappings, which are limited, however they are arranged.
type policyState struct {
	alive    map[string]policyNode
	wanted   []string // user-initial-policy-set, empty = any-policy
	explicit int
	mapping  int
	any      int
}

// policyNode is one policy of the current level.
type policyNode struct {
	expected []string // what the next level may name for it
	wanted   bool     // it comes from a policy that the operator wants
}

func newPolicyState(p Policy, length int) *policyState {
	s := &policyState{wanted: p.Policies, explicit: length, mapping: length, any: length} // §6.1.2 (d)-(f): n+1, the anchor makes the one
	s.alive = map[string]policyNode{anyPolicy: {[]string{anyPolicy}, true}}
	if p.RequirePolicy {
		s.explicit = 0
	}
	if p.InhibitPolicyMapping {
		s.mapping = 0
	}
	if p.InhibitAnyPolicy {
		s.any = 0
	}
	return s
}

// wants tells whether a policy of the anchor's domain is one that the operator accepts.
func (s *policyState) wants(policy string) bool {
	return len(s.wanted) == 0 || slices.Contains(s.wanted, anyPolicy) || slices.Contains(s.wanted, policy)
}

// checkPolicies walks from below the anchor down to the leaf (RFC 5280 §6.1.3 (d)-(f), §6.1.4 (a)-(j), §6.1.5).
func checkPolicies(v *view) (State, string) {
	switch len(v.path) {
	case 0:
		return Skipped, "no path to a trust anchor"
	case 1:
		return Pass, "the certificate is itself the trust anchor"
	}
	s := newPolicyState(v.q.Policy, len(v.path))
	for i := len(v.path) - 2; i >= 0; i-- {
		n := v.path[i]
		if reason := tooManyPolicies(n.cert); reason != "" {
			return Fail, reason
		}
		s.descend(n, i == 0)
		if s.explicit <= 0 && len(s.alive) == 0 { // §6.1.3 (f)
			return Fail, label(n.cert) + " leaves no certificate policy of those that the path demands"
		}
		if i == 0 {
			break
		}
		if reason := s.mapPolicies(n.cert); reason != "" {
			return Fail, label(n.cert) + ": " + reason
		}
		s.count(n)
	}
	return s.wrapUp(v.path[0].cert)
}

// wrapUp is §6.1.5 (a), (b) and (g).
func (s *policyState) wrapUp(leaf *x509.Certificate) (State, string) {
	s.explicit = max(0, s.explicit-1)
	if demand, present := constraint(leaf.RequireExplicitPolicy, leaf.RequireExplicitPolicyZero); present && demand == 0 {
		s.explicit = 0
	}
	if s.explicit > 0 {
		return Pass, ""
	}
	for _, n := range s.alive {
		if n.wanted {
			return Pass, ""
		}
	}
	if len(s.alive) == 0 {
		return Fail, "an explicit certificate policy is demanded and there is none"
	}
	return Fail, "the certificate policies of the path are none of those that are accepted"
}

// tooManyPolicies bounds what one certificate can make us do.
func tooManyPolicies(c *x509.Certificate) string {
	if len(c.Policies) > maxPolicies || len(c.PolicyMappings) > maxPolicies {
		return fmt.Sprintf("%s has %d certificate policies and %d mappings, at most %d of each", label(c), len(c.Policies), len(c.PolicyMappings), maxPolicies)
	}
	return ""
}

// descend is §6.1.3 (d) and (e).
func (s *policyState) descend(n *node, last bool) {
	if len(n.cert.Policies) == 0 {
		s.alive = nil
		return
	}
	expected := map[string]bool{} // → whether a wanted policy expects it
	for _, above := range s.alive {
		for _, p := range above.expected {
			expected[p] = expected[p] || above.wanted
		}
	}
	_, underAny := expected[anyPolicy]
	next := map[string]policyNode{}
	hasAny := false
	for _, oid := range n.cert.Policies {
		p := oid.String()
		wanted, named := expected[p]
		switch {
		case p == anyPolicy:
			hasAny = true
		case named: // (d)(1)(i)
			next[p] = policyNode{[]string{p}, wanted}
		case underAny: // (d)(1)(ii)
			next[p] = policyNode{[]string{p}, s.wants(p)}
		}
	}
	// (d)(2): anyPolicy stands for every expected policy that the certificate does not name, while it is not inhibited.
	if hasAny && (s.any > 0 || !last && n.selfIssued()) {
		for p, wanted := range expected {
			if _, named := next[p]; !named {
				next[p] = policyNode{[]string{p}, wanted}
			}
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
	_, underAny := s.alive[anyPolicy]
	for from, to := range mapped {
		n, alive := s.alive[from]
		switch {
		case s.mapping <= 0: // (b)(2)
			delete(s.alive, from)
		case alive: // (b)(1)
			s.alive[from] = policyNode{to, n.wanted}
		case underAny: // (b)(1), for want of a node of its own a child of anyPolicy's parent
			s.alive[from] = policyNode{to, s.wants(from)}
		}
	}
	return ""
}

// count is §6.1.4 (h) to (j).
func (s *policyState) count(n *node) {
	if !n.selfIssued() {
		s.explicit, s.mapping, s.any = max(0, s.explicit-1), max(0, s.mapping-1), max(0, s.any-1)
	}
	c := n.cert
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
