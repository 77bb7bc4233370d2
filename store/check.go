package store

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"

	"directnode/internal/direct"
)

// Problem is an invariant that does not hold.
type Problem struct {
	Object string // the key of the entry, or the engine
	Detail string
}

// String reads "object: detail".
func (p Problem) String() string { return p.Object + ": " + p.Detail }

// checker is a kv store that can check itself.
type checker interface {
	Check(ctx context.Context) error
}

// Check reads the store anew and holds it against its invariants: the engine
// is sound; every entry is well formed and belongs to a domain; records lie in
// their domain; certificates parse, are Bound exactly if their subjectAltName
// says so, and fit their owner's limits; keys open and match; anchors parse;
// and the view that is served is what is stored. It lists what does not hold;
// the error says that the check could not be made.
//
// It parses every certificate and opens every key: about 20 microseconds and a
// millisecond each. Changes wait meanwhile, readers do not.
func (s *Store) Check(ctx context.Context) ([]Problem, error) {
	if err := s.acquire(ctx); err != nil {
		return nil, err
	}
	defer s.release()
	c := &audit{ctx: ctx, seal: s.seal}
	if engine, ok := s.db.(checker); ok {
		if err := engine.Check(ctx); err != nil {
			c.report(Problem{"engine", err.Error()})
		}
	}
	stored, problems, rev, err := readView(ctx, s.db)
	if err != nil {
		return c.problems, fmt.Errorf("check store: %w", err)
	}
	for _, p := range problems {
		c.report(p)
	}
	if err := c.view(stored); err != nil {
		return c.problems, fmt.Errorf("check store: %w", err)
	}
	if served := s.View(); served.Rev != stored.Rev || s.generationRev != rev || len(changesBetween(served, stored)) > 0 {
		c.report(Problem{keyGeneration, fmt.Sprintf("generation %d is served, and it is not what is stored as generation %d", served.Rev, stored.Rev)})
	}
	return c.problems, nil
}

// audit collects problems.
type audit struct {
	ctx      context.Context
	seal     *Sealer
	problems []Problem
}

func (c *audit) report(p Problem) {
	if len(c.problems) < maxProblems {
		c.problems = append(c.problems, p)
	}
}

// view checks all domains. Its error is the context's.
func (c *audit) view(v *View) error {
	for _, d := range v.domains {
		dd := v.data[d]
		clean, err := cleanRecords(d, dd.Records)
		switch {
		case err != nil:
			c.report(Problem{domainKey(d), err.Error()})
		case !slices.Equal(clean, dd.Records):
			c.report(Problem{domainKey(d), "records that are not in the form in which records are stored"})
		}
		for cert := range dd.Certificates.Sorted {
			if err := c.ctx.Err(); err != nil {
				return err
			}
			c.certificate(d, cert)
		}
		c.owners(dd)
		for k := range dd.Keys.Sorted {
			if err := c.ctx.Err(); err != nil {
				return err
			}
			c.key(v, k)
		}
		c.signing(d, dd.Signing)
		c.bundles(dd)
		for _, a := range dd.Anchors {
			if _, err := x509.ParseCertificate(a.DER); err != nil {
				c.report(Problem{anchorKey(d, a.SHA256), err.Error()})
			}
		}
	}
	c.peers(v)
	return nil
}

func (c *audit) certificate(d direct.Domain, stored Certificate) {
	object := certKey(d, stored.ident())
	if Fingerprint(stored.DER) != stored.SHA256 {
		c.report(Problem{object, "the certificate is not the one that was stored"})
		return
	}
	cert, err := x509.ParseCertificate(stored.DER)
	if err != nil {
		c.report(Problem{object, err.Error()})
		return
	}
	if bound := Binds(cert, stored.Owner); bound != stored.Bound {
		c.report(Problem{object, fmt.Sprintf("bound to %s: %v is stored, %v is so", stored.Owner, stored.Bound, bound)})
	}
}

// owners checks the limits of each owner.
func (c *audit) owners(dd *DomainData) {
	count, size := 0, 0
	before := ""
	for cert := range dd.Certificates.Sorted {
		if cert.ident().owner != before {
			count, size, before = 0, 0, cert.ident().owner
		}
		count++
		size += len(cert.DER)
		if count == maxCertsPerOwner+1 || size > maxOwnerBytes && size-len(cert.DER) <= maxOwnerBytes {
			c.report(Problem{certKey(dd.Domain, cert.ident()), fmt.Sprintf("%s has %d certificates of %d octets", cert.Owner, count, size)})
		}
	}
}

func (c *audit) key(v *View, k Key) {
	if c.seal == nil {
		return // nothing can be said without the master key
	}
	if _, err := v.Unseal(c.seal, k); err != nil {
		c.report(Problem{keyKey(k.Owner.Domain(), k.ident()), err.Error()})
	}
}

// peers checks TSIG keys, and what domains say about other servers.
func (c *audit) peers(v *View) {
	for _, k := range v.peers.keys {
		if c.seal == nil {
			break
		}
		secret, err := v.TSIGSecret(c.seal, k)
		fault := keyFault(k, len(secret))
		switch {
		case err != nil:
			c.report(Problem{tsigKey(k.Name), err.Error()})
		case fault != "":
			c.report(Problem{tsigKey(k.Name), fault})
		}
	}
	for d, t := range v.peers.transfers {
		if fault := v.peers.fault(t); fault != "" {
			c.report(Problem{transferKey(d), fault})
		}
	}
}
