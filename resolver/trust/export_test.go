package trust

import (
	"context"
	"slices"
)

// EvaluateOtherRows judges the only candidate of a question without the rows that are named, the revocation row included, which the
// table does not ask for where another row has failed. It gives the first failure.
func EvaluateOtherRows(q Question, off []string) (valid bool, why string) {
	v := &view{ctx: context.Background(), q: &q, pool: newPool(q.Anchors, q.Intermediates)}
	c := v.judge(q.Candidates[0])
	for _, check := range c.Checks {
		if check.State == Fail && !slices.Contains(off, check.Name) {
			return false, check.Name + ": " + check.Detail
		}
	}
	v.path = nil
	for _, cert := range c.Chain {
		v.path = append(v.path, v.pool.candidate(cert))
	}
	state, detail := checkRevocation(v)
	return state == Pass || state == Skipped, "revocation: " + detail
}
