package trust

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
)

// pool is every certificate that may stand above a candidate, by canonical subject. Anchors come first among equals, so that a
// path stops as low as it can (AS 4.2.3 step 3.2).
type pool struct {
	bySubject map[string][]*node
	anchors   map[string]bool // by DER: an anchor is the whole certificate, never a name or a key identifier
	links     map[[2]*node]error
}

type node struct {
	cert    *x509.Certificate
	subject string
	issuer  string
	anchor  bool
}

func newPool(anchors, intermediates []*x509.Certificate) *pool {
	p := &pool{bySubject: map[string][]*node{}, anchors: map[string]bool{}, links: map[[2]*node]error{}}
	for _, c := range anchors {
		if c != nil && !p.anchors[string(c.Raw)] {
			p.anchors[string(c.Raw)] = true
			p.add(c)
		}
	}
	seen, count := map[string]bool{}, 0
	for _, c := range intermediates {
		if c == nil || p.anchors[string(c.Raw)] || seen[string(c.Raw)] {
			continue
		}
		if count++; count > maxIntermediates {
			break
		}
		seen[string(c.Raw)] = true
		p.add(c)
	}
	return p
}

func (p *pool) add(c *x509.Certificate) {
	n := p.node(c)
	p.bySubject[n.subject] = append(p.bySubject[n.subject], n)
}

func (p *pool) node(c *x509.Certificate) *node {
	return &node{cert: c, subject: canonical(c.RawSubject).key(), issuer: canonical(c.RawIssuer).key(), anchor: p.anchors[string(c.Raw)]}
}

// search is one walk upwards from a candidate, depth first.
type search struct {
	pool       *pool
	found      [][]*x509.Certificate // complete paths, leaf first, anchor last
	longest    []*x509.Certificate   // for the reason, if none is complete
	incomplete string                // why the longest path ends where it ends
	forged     bool                  // because a signature is not the one of the issuer it points to
	signatures int
	effort     int // spent on the signatures
	steps      int
	exhausted  bool
}

// paths finds the paths from a candidate to an anchor. Each link is made by name and verified signature; everything else about the
// certificates is for the rows of the table to judge, so that a person learns what is wrong with a path that exists.
func (p *pool) paths(leaf *x509.Certificate) *search {
	s := &search{pool: p}
	s.climb([]*node{p.node(leaf)})
	return s
}

func (s *search) climb(path []*node) {
	top := path[len(path)-1]
	if top.anchor {
		// AS 4.2.3 step 3.2: the first anchor met going up ends the path; what lies above it is of no concern.
		s.found = append(s.found, certificates(path))
		return
	}
	if len(path) == maxDepth {
		s.stopped(path, fmt.Sprintf("the path is longer than %d certificates", maxDepth))
		return
	}
	issuers := s.issuers(path)
	climbed := false
	for _, up := range issuers {
		if len(s.found) == maxPaths || s.exhausted {
			return
		}
		err := s.verify(top, up)
		if s.exhausted {
			s.stopped(path, "")
			// Whatever else was learned, this is why no more is known.
			s.incomplete, s.forged = fmt.Sprintf("the search stopped after %d signatures and %d links", s.signatures, s.steps), false
			return
		}
		if err == nil {
			climbed = true
			s.climb(append(path[:len(path):len(path)], up))
		}
	}
	if !climbed {
		s.explain(path, issuers)
	}
}

// issuers lists who may have issued the top of the path: every certificate of that name which the path does not hold yet, those
// whose key identifier agrees first. Key identifiers order the work and decide nothing (RFC 5280 §4.2.1.1).
func (s *search) issuers(path []*node) []*node {
	top := path[len(path)-1]
	var likely, others []*node
	for _, n := range s.pool.bySubject[top.issuer] {
		if onPath(path, n) {
			continue
		}
		if keyIDsAgree(top.cert, n.cert) {
			likely = append(likely, n)
		} else {
			others = append(others, n)
		}
	}
	return append(likely, others...)
}

// onPath also holds certificates of one name and one key for the same: a loop through cross-certificates leads nowhere new.
func onPath(path []*node, n *node) bool {
	for _, have := range path {
		if have.subject == n.subject && bytes.Equal(have.cert.RawSubjectPublicKeyInfo, n.cert.RawSubjectPublicKeyInfo) && !n.anchor {
			return true
		}
		if bytes.Equal(have.cert.Raw, n.cert.Raw) {
			return true
		}
	}
	return false
}

func keyIDsAgree(child, issuer *x509.Certificate) bool {
	return len(child.AuthorityKeyId) == 0 || len(issuer.SubjectKeyId) == 0 || bytes.Equal(child.AuthorityKeyId, issuer.SubjectKeyId)
}

// verify checks one signature, once for all candidates, within the budget of this one.
func (s *search) verify(child, issuer *node) error {
	if s.steps == maxSteps {
		s.exhausted = true
		return nil
	}
	s.steps++
	link := [2]*node{child, issuer}
	if err, known := s.pool.links[link]; known {
		return err
	}
	cost := effort(issuer.cert)
	if s.effort+cost > maxEffort {
		s.exhausted = true
		return nil
	}
	s.effort += cost
	s.signatures++
	err := checkSignature(child.cert, issuer.cert)
	s.pool.links[link] = err
	return err
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

// explain records why the path goes no further.
func (s *search) explain(path, issuers []*node) {
	top := path[len(path)-1]
	switch {
	case len(issuers) == 0 && top.subject == top.issuer:
		s.stopped(path, fmt.Sprintf("%s is self-signed and no trust anchor", label(top.cert)))
	case len(issuers) == 0:
		s.stopped(path, fmt.Sprintf("no certificate of the issuer %s", issuerLabel(top.cert)))
	case keyIDsAgree(top.cert, issuers[0].cert):
		// The issuer that the certificate itself points to did not sign it.
		if s.stopped(path, fmt.Sprintf("the signature of %s is not one of %s", label(top.cert), label(issuers[0].cert))) {
			s.forged = true
		}
	default:
		// Somebody of the same name with another key: not the issuer that the certificate means.
		s.stopped(path, fmt.Sprintf("no certificate of the issuer %s with key identifier %x", issuerLabel(top.cert), top.cert.AuthorityKeyId))
	}
}

// stopped keeps the reason of the longest path, the first among equals, and tells whether this is it.
func (s *search) stopped(path []*node, why string) bool {
	if len(path) <= len(s.longest) {
		return false
	}
	s.longest, s.incomplete, s.forged = certificates(path), why, false
	return true
}

func issuerLabel(c *x509.Certificate) string {
	if n := c.Issuer.String(); n != "" {
		return n
	}
	return "without a name"
}

func certificates(path []*node) []*x509.Certificate {
	out := make([]*x509.Certificate, len(path))
	for i, n := range path {
		out[i] = n.cert
	}
	return out
}
