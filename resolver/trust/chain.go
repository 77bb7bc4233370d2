package trust

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// node is a certificate with what the search asks of it again and again, found out once.
type node struct {
	cert    *x509.Certificate
	number  uint32 // in the order in which the pool met it
	subject string // canonical, RFC 5280 §7.1
	issuer  string
	anchor  bool

	limits *limitsOf // its name constraints, read on first use
	names  *namesOfNode
}

// selfIssued: subject and issuer are one entity (RFC 5280 §3.2). Such certificates do not count for path lengths and name constraints.
func (n *node) selfIssued() bool { return n.subject == n.issuer }

// selfSigned tells, without a verification, the certificates above which nobody can stand.
func (n *node) selfSigned() bool {
	return n.selfIssued() && keyIDsAgree(n.cert, n.cert)
}

// pool is every certificate that may stand above a candidate, by canonical subject, and everything about pairs of them that was
// found out for one candidate and holds for the next.
type pool struct {
	bySubject map[string][]*node
	all       []*node
	known     map[string]*node // by DER: an anchor is the whole certificate, never a name or a key identifier
	links     map[link]error
	refusals  map[[2]*node]string // issuer with name constraints, certificate below → reason
	rising    map[string]bool     // canonical subjects that some chain of names connects with an anchor; nil = to be found out
	asked     map[string]bool     // places that Issuers was asked for
	fetches   int
	given     int // certificates of the question
	fetched   int // certificates that Issuers gave
	nodes     uint32
}

// link is one signature: it holds for every certificate of the same key.
type link struct {
	child *node
	key   string // the issuer's subjectPublicKeyInfo
}

func newPool(anchors, intermediates []*x509.Certificate) *pool {
	p := &pool{bySubject: map[string][]*node{}, known: map[string]*node{}, links: map[link]error{},
		refusals: map[[2]*node]string{}, asked: map[string]bool{}}
	for _, c := range anchors {
		if c != nil && p.known[string(c.Raw)] == nil {
			p.add(c, true)
		}
	}
	for _, c := range intermediates {
		if p.given == maxIntermediates {
			break
		}
		if p.stranger(c) {
			p.given++
			p.add(c, false)
		}
	}
	return p
}

// stranger tells whether a certificate is one that the pool lacks and may take.
func (p *pool) stranger(c *x509.Certificate) bool {
	return c != nil && len(c.Raw) <= maxCertificate && p.known[string(c.Raw)] == nil
}

func (p *pool) add(c *x509.Certificate, anchor bool) {
	n := p.node(c)
	if n.anchor = anchor; !anchor {
		n.issuer = canonical(c.RawIssuer).key() // nobody stands above an anchor
	}
	p.known[string(c.Raw)] = n
	p.all = append(p.all, n)
	p.bySubject[n.subject] = append(p.bySubject[n.subject], n)
	p.rising = nil
}

// candidate gives the node of a leaf; a leaf that is an anchor is the anchor's own node.
func (p *pool) candidate(c *x509.Certificate) *node {
	if n := p.known[string(c.Raw)]; n != nil {
		return n
	}
	n := p.node(c)
	n.issuer = canonical(c.RawIssuer).key()
	return n
}

func (p *pool) node(c *x509.Certificate) *node {
	p.nodes++
	return &node{cert: c, number: p.nodes, subject: canonical(c.RawSubject).key()}
}

// rises tells whether anybody who may have issued n leads to an anchor, going by names alone. It spares the search the parts of a
// hierarchy that cannot end well, however many there are.
func (p *pool) rises(n *node) bool {
	if n.anchor {
		return true
	}
	if p.rising == nil {
		p.rising = map[string]bool{}
		for _, a := range p.all {
			if a.anchor {
				p.rising[a.subject] = true
			}
		}
		for grown := true; grown; { // at most as many rounds as a path is long
			grown = false
			for _, c := range p.all {
				if !c.anchor && p.rising[c.issuer] && !p.rising[c.subject] {
					p.rising[c.subject], grown = true, true
				}
			}
		}
	}
	return p.rising[n.issuer]
}

// search looks for the paths of one candidate. It has three passes, and one budget for all of them:
//
//   - ascend goes depth first through what no rule forbids and puts each path that reaches an anchor before the whole table, until one
//     passes. Nothing put on top of a path heals what is wrong below, so that a branch ends at the first certificate that a rule forbids.
//   - survey visits each certificate once, breadth first, whatever is wrong with it. It says where the ways end, which is where
//     Issuers is asked, lowest first; what Issuers gives starts ascend again.
//   - ascend without regard to the rules, if nothing was good: the table then says what is wrong with the paths that exist.
type search struct {
	v    *view
	pool *pool
	leaf *node

	blind   bool            // the third pass
	barren  map[*node]bool  // nothing above it leads to an anchor, whatever stands below
	judged  map[string]bool // complete paths that were before the table
	noted   map[string]bool // paths in the evidence
	reached []reached       // by survey

	longest    []*node // if no path is complete: the longest one, for the reason
	incomplete string  // why it ends where it ends
	forged     bool    // because a signature is not the one of the issuer it points to
	failed     string  // what could not be fetched now and may be later
	signatures int
	effort     int // spent on the signatures
	steps      int
	exhausted  bool
}

// reached is a certificate that verified signatures connect with the leaf.
type reached struct {
	path []*node
	fit  bool // no rule forbids it
	end  bool // nobody above it is known
}

func newSearch(v *view) *search {
	return &search{v: v, pool: v.pool, leaf: v.pool.candidate(v.cert), judged: map[string]bool{}, noted: map[string]bool{}}
}

func (s *search) run() {
	for {
		s.barren = map[*node]bool{}
		if good, _ := s.ascend([]*node{s.leaf}); good || s.exhausted {
			break
		}
		s.survey()
		if !s.ask() {
			break
		}
	}
	if s.v.result.firstFailure < 0 {
		if s.reached == nil {
			s.survey()
		}
		s.blind, s.barren = true, map[*node]bool{}
		s.ascend([]*node{s.leaf})
	}
	if s.failed != "" && s.incomplete != "" {
		s.incomplete += "; " + s.failed
	}
}

// ascend tells whether a path passed, and whether anything on the way depended on the certificates below: if not, no other way up
// to here will end otherwise.
func (s *search) ascend(path []*node) (good, depends bool) {
	top := path[len(path)-1]
	if top.anchor {
		// AS 4.2.3 step 3.2: the first anchor met going up ends the path; what lies above it is of no concern.
		return s.complete(path), true
	}
	if len(path) == maxDepth {
		return false, true
	}
	issuers, looped := s.issuers(path)
	depends = looped
	for _, up := range issuers {
		if !s.pool.rises(up) || s.barren[up] {
			continue
		}
		if s.exhausted || len(s.judged) == maxPaths || !s.step() {
			return false, true
		}
		if row, detail := s.forbidden(path, up); row != nil {
			depends = depends || !row.local
			s.fell(path, up, row, detail)
			continue
		}
		if err := s.verify(top, up); err != nil {
			s.mismatch(path, up, err)
			continue
		}
		better, below := s.ascend(append(path[:len(path):len(path)], up))
		if better {
			return true, true
		}
		depends = depends || below
	}
	if !depends && !s.exhausted {
		s.barren[top] = true
	}
	return false, depends || s.exhausted
}

// complete puts a path that reached an anchor before the table, once.
func (s *search) complete(path []*node) bool {
	key := identity(path)
	if s.judged[key] {
		return false
	}
	s.judged[key] = true
	return s.v.try(path)
}

// forbidden gives the first rule that does not let a certificate stand on a path; in the pass without regard to the rules there is none.
func (s *search) forbidden(path []*node, up *node) (*row, string) {
	for i := range table {
		if s.blind || table[i].above == nil {
			continue
		}
		if detail := table[i].above(s.v, path, up); detail != "" {
			return &table[i], detail
		}
	}
	return nil, ""
}

// survey visits what verified signatures connect with the leaf, each certificate once and the shortest way.
func (s *search) survey() {
	s.reached, s.longest, s.incomplete, s.forged = nil, nil, "", false
	visited := map[*node]bool{s.leaf: true}
	queue := []reached{{path: []*node{s.leaf}, fit: true}}
	for i := 0; i < len(queue); i++ {
		path, fit := queue[i].path, queue[i].fit
		top := path[len(path)-1]
		if top.anchor {
			continue
		}
		if len(path) == maxDepth {
			s.stopped(path, fmt.Sprintf("the path is longer than %d certificates", maxDepth))
			continue
		}
		issuers, looped := s.issuers(path)
		queue[i].end = true
		for _, up := range issuers {
			if err := s.verify(top, up); err != nil {
				continue
			}
			queue[i].end = false
			if !visited[up] {
				visited[up] = true
				row, _ := s.forbidden(path, up)
				queue = append(queue, reached{path: append(path[:len(path):len(path)], up), fit: fit && row == nil})
			}
		}
		if s.exhausted {
			s.stopped(path, "")
			// Whatever else was learned, this is why no more is known.
			s.incomplete, s.forged = fmt.Sprintf("the search stopped after %d signatures and %d links", s.signatures, s.steps), false
			break
		}
		if queue[i].end {
			s.explain(path, issuers, looped)
		}
	}
	s.reached = queue
}

// ask fetches the issuers of one certificate, those of dead ends first and lower ones first (AS 4.2.2: AIA is tried before it is
// concluded that there is no chain), and tells whether the pool has grown.
func (s *search) ask() bool {
	if s.v.q.Issuers == nil || !s.v.worthFetching() {
		return false
	}
	for _, end := range []bool{true, false} {
		for _, r := range s.reached {
			top := r.path[len(r.path)-1]
			if r.end != end || !r.fit || top.anchor || top.selfSigned() || len(top.cert.IssuingCertificateURL) == 0 {
				continue
			}
			place := strings.Join(top.cert.IssuingCertificateURL, "\n")
			if s.pool.asked[place] {
				continue
			}
			if len(s.v.result.Fetches) >= maxFetches || s.pool.fetches >= maxFetchesInAll || s.v.ctx.Err() != nil {
				return false
			}
			s.pool.asked[place] = true
			if s.fetch(top) {
				return true
			}
		}
	}
	return false
}

// fetch asks for the issuers of one certificate and tells whether there was any that the pool lacked.
func (s *search) fetch(top *node) bool {
	certs, fetches := s.v.q.Issuers.Issuers(s.v.ctx, top.cert)
	s.pool.fetches += max(1, len(fetches))
	for _, f := range fetches {
		f.For = label(top.cert)
		f.Outcome, f.Detail, f.URL = shorten(f.Outcome), shorten(f.Detail), shorten(f.URL)
		if len(s.v.result.Fetches) < maxEvidence {
			s.v.result.Fetches = append(s.v.result.Fetches, f)
		}
		if f.Temporary && s.failed == "" {
			s.failed = strings.TrimSpace(fmt.Sprintf("%s could not be fetched now: %s %s", f.URL, f.Outcome, f.Detail))
		}
	}
	// Those that were asked for come first, what else lies in the same file after them (a bridge's p7c holds dozens).
	grown := false
	for _, named := range []bool{true, false} {
		for _, c := range certs {
			if s.pool.fetched == maxIntermediates || !s.pool.stranger(c) || (canonical(c.RawSubject).key() == top.issuer) != named {
				continue
			}
			s.pool.fetched++
			s.pool.add(c, false)
			grown = true
		}
	}
	return grown
}

// issuers lists who may have issued the top of the path: every certificate of that name which the path does not hold yet. Anchors
// come first, so that a path stops as low as it can (AS 4.2.3 step 3.2); then those whose key identifier agrees, which orders the work
// and decides nothing (RFC 5280 §4.2.1.1); then the newest. The order does not depend on that of the question. looped tells that one
// was left out because the path holds it.
func (s *search) issuers(path []*node) (list []*node, looped bool) {
	top := path[len(path)-1]
	for _, n := range s.pool.bySubject[top.issuer] {
		if onPath(path, n) {
			looped = true
			continue
		}
		list = append(list, n)
	}
	slices.SortStableFunc(list, func(a, b *node) int {
		if c := first(a.anchor, b.anchor); c != 0 {
			return c
		}
		if c := first(keyIDsAgree(top.cert, a.cert), keyIDsAgree(top.cert, b.cert)); c != 0 {
			return c
		}
		if c := b.cert.NotBefore.Compare(a.cert.NotBefore); c != 0 {
			return c
		}
		return bytes.Compare(a.cert.Raw, b.cert.Raw)
	})
	return list, looped
}

// first orders what is true before what is not.
func first(a, b bool) int {
	switch {
	case a && !b:
		return -1
	case b && !a:
		return 1
	}
	return 0
}

// onPath also holds certificates of one name and one key for the same: a loop through cross-certificates leads nowhere new.
func onPath(path []*node, n *node) bool {
	for _, have := range path {
		if have == n {
			return true
		}
		if !n.anchor && have.subject == n.subject && bytes.Equal(have.cert.RawSubjectPublicKeyInfo, n.cert.RawSubjectPublicKeyInfo) {
			return true
		}
	}
	return false
}

func keyIDsAgree(child, issuer *x509.Certificate) bool {
	return len(child.AuthorityKeyId) == 0 || len(issuer.SubjectKeyId) == 0 || bytes.Equal(child.AuthorityKeyId, issuer.SubjectKeyId)
}

// errBudget stands for a signature that was not looked at any more.
var errBudget = errors.New("not verified")

// verify checks one signature, once for all candidates, within the budget of this one.
func (s *search) verify(child, issuer *node) error {
	if !s.step() {
		return errBudget
	}
	l := link{child, string(issuer.cert.RawSubjectPublicKeyInfo)}
	if err, known := s.pool.links[l]; known {
		return err
	}
	cost := effort(issuer.cert)
	if s.effort+cost > maxEffort {
		s.exhausted = true
		return errBudget
	}
	s.effort += cost
	s.signatures++
	err := checkSignature(child.cert, issuer.cert)
	s.pool.links[l] = err
	return err
}

// step counts one pair of certificates that was looked at.
func (s *search) step() bool {
	if s.steps == maxSteps {
		s.exhausted = true
		return false
	}
	s.steps++
	return true
}

// effort weighs one verification with a key: time grows with the square and more of its length.
func effort(issuer *x509.Certificate) int {
	switch k := issuer.PublicKey.(type) {
	case *rsa.PublicKey:
		switch bits := k.N.BitLen(); {
		case bits > maxRSABits: // refused unseen
			return 1
		case bits > 4096:
			return 8
		case bits > 3072:
			return 2
		}
	case *ecdsa.PublicKey:
		if k.Curve.Params().BitSize > 256 {
			return 2
		}
	}
	return 1
}

// checkSignature verifies with the issuer's key and nothing else: whether the issuer may issue is a row of its own. SHA-1 is let
// through here for the same reason.
func checkSignature(child, issuer *x509.Certificate) error {
	if k, ok := issuer.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() > maxRSABits {
		return fmt.Errorf("RSA key of %d bits, at most %d", k.N.BitLen(), maxRSABits)
	}
	return issuer.CheckSignature(child.SignatureAlgorithm, child.RawTBSCertificate, child.Signature)
}

// fell records a branch that a rule ended.
func (s *search) fell(path []*node, up *node, row *row, detail string) {
	s.note(append(path[:len(path):len(path)], up), Path{Anchored: up.anchor, Check: row.name, Citation: row.citation, Detail: detail})
}

// mismatch records an issuer that the certificate seems to point to and that did not sign it.
func (s *search) mismatch(path []*node, up *node, err error) {
	if top := path[len(path)-1]; err != errBudget && keyIDsAgree(top.cert, up.cert) {
		s.note(append(path[:len(path):len(path)], up), Path{Anchored: up.anchor, Check: "signature", Citation: citeSignature, Detail: notSigned(top, up)})
	}
}

func notSigned(child, issuer *node) string {
	return fmt.Sprintf("the signature of %s is not one of %s", label(child.cert), label(issuer.cert))
}

// note keeps one path as evidence, once. The chosen one has always room.
func (s *search) note(path []*node, p Path) {
	if len(s.v.result.Paths) >= maxEvidence && !p.Chosen {
		return
	}
	if key := identity(path) + p.Check; !s.noted[key] {
		s.noted[key] = true
		p.Chain, p.Detail = certificates(path), shorten(p.Detail)
		s.v.result.Paths = append(s.v.result.Paths, p)
	}
}

// explain records why the path goes no further. looped tells that only issuers which stand on it already are known.
func (s *search) explain(path, issuers []*node, looped bool) {
	top := path[len(path)-1]
	meant := slices.IndexFunc(issuers, func(n *node) bool { return keyIDsAgree(top.cert, n.cert) })
	switch {
	case meant >= 0:
		// The issuer that the certificate itself points to did not sign it.
		if s.stopped(path, notSigned(top, issuers[meant])) {
			s.forged = true
		}
	case len(issuers) > 0:
		// Somebody of the same name with another key: not the issuer that the certificate means.
		s.stopped(path, fmt.Sprintf("no certificate of the issuer %s with key identifier %x", issuerLabel(top.cert), top.cert.AuthorityKeyId))
	case top.selfIssued():
		s.stopped(path, fmt.Sprintf("%s is self-signed and no trust anchor", label(top.cert)))
	case looped:
		s.stopped(path, fmt.Sprintf("above %s the certificates lead back to those below it", label(top.cert)))
	default:
		s.stopped(path, fmt.Sprintf("no certificate of the issuer %s", issuerLabel(top.cert)))
	}
}

// stopped keeps the reason of the longest path, the first among equals, and tells whether this is it.
func (s *search) stopped(path []*node, why string) bool {
	if why != "" {
		s.note(path, Path{Check: "path", Citation: citePath, Detail: why})
	}
	if len(path) <= len(s.longest) {
		return false
	}
	s.longest, s.incomplete, s.forged = path, why, false
	return true
}

func issuerLabel(c *x509.Certificate) string {
	switch {
	case len(c.RawIssuer) > maxLabel:
		return fmt.Sprintf("with a name of %d octets", len(c.RawIssuer))
	case len(c.Issuer.Names) == 0:
		return "without a name"
	}
	return c.Issuer.String()
}

func certificates(path []*node) []*x509.Certificate {
	if path == nil {
		return nil
	}
	out := make([]*x509.Certificate, len(path))
	for i, n := range path {
		out[i] = n.cert
	}
	return out
}

// identity is a key for a path.
func identity(path []*node) string {
	b := make([]byte, 0, 4*maxDepth)
	for _, n := range path {
		b = binary.BigEndian.AppendUint32(b, n.number)
	}
	return string(b)
}
