package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"directnode/internal/direct"
	"directnode/store"
	"directnode/zones"
)

// DNSSECRequest is an order about the signing of a domain.
type DNSSECRequest struct {
	Domain    string `json:"domain"`
	Algorithm string `json:"algorithm,omitempty"` // enable: ecdsap256sha256 (default) or ed25519
	Split     bool   `json:"split,omitempty"`     // enable: a KSK and a ZSK instead of one key
	Denial    string `json:"denial,omitempty"`    // enable: compact (default) or nsec3
	Role      string `json:"role,omitempty"`      // roll: csk, ksk or zsk; empty: the csk or the zsk
	DSTTL     string `json:"ds_ttl,omitempty"`    // ds-seen, disable: the TTL of the DS in the parent zone; empty: a day
	DSGone    bool   `json:"ds_gone,omitempty"`   // disable: the parent has no DS any more
}

// DNSSEC says how a domain is signed.
type DNSSEC struct {
	Domain    string      `json:"domain"`
	Signed    bool        `json:"signed"`
	Algorithm string      `json:"algorithm,omitempty"`
	Denial    string      `json:"denial,omitempty"`
	Since     time.Time   `json:"since,omitzero"`
	Keys      []DNSKeyRow `json:"keys,omitempty"`
	DS        []string    `json:"ds,omitempty"` // to be at the parent now; and no other
	Next      []string    `json:"next"`         // what happens by itself, and what is to be done
}

// DNSKeyRow is one key of a domain.
type DNSKeyRow struct {
	Tag   uint16    `json:"tag"`
	ID    string    `json:"id"`
	Role  string    `json:"role"`
	State string    `json:"state"` // published, ready, active, retired
	Since time.Time `json:"since"`
	Due   time.Time `json:"due,omitzero"` // when the next state begins
	Signs bool      `json:"signs"`        // the zone's data
}

// algorithms by their mnemonics (IANA's list).
var algorithms = map[string]uint8{"ecdsap256sha256": store.AlgorithmECDSA, "ed25519": store.AlgorithmEd25519}

func algorithmName(n uint8) string {
	for name, number := range algorithms {
		if number == n {
			return name
		}
	}
	return fmt.Sprint(n)
}

func dnssecUsage(why, do string) error {
	return &Error{"DN-DNSSEC-001", CodeUsage, "nothing was changed", why, do}
}

// EnableDNSSEC signs a domain, or keeps one signed that was about to be
// unsigned, or changes how it denies what is not there.
func (s *Service) EnableDNSSEC(ctx context.Context, req DNSSECRequest) (DNSSEC, error) {
	algorithm, ok := algorithms[strings.ToLower(orElse(req.Algorithm, "ecdsap256sha256"))]
	if !ok {
		return DNSSEC{}, dnssecUsage(fmt.Sprintf("the algorithm %.40q", req.Algorithm), "give ecdsap256sha256 or ed25519")
	}
	denial := orElse(req.Denial, store.DenialCompact)
	if denial != store.DenialCompact && denial != store.DenialNSEC3 {
		return DNSSEC{}, dnssecUsage(fmt.Sprintf("the denial %.40q", req.Denial), "give compact or nsec3")
	}
	return s.changeSigning(ctx, req.Domain, func(tx *store.Tx, data *store.DomainData) (*store.Signing, error) {
		if is := data.Signing; is != nil {
			if req.Algorithm != "" && is.Algorithm != algorithm || req.Split && !is.Split {
				return nil, &Error{"DN-DNSSEC-003", CodeFailed, "nothing was changed", "the domain is signed already, with other keys", "algorithm and kind of keys are changed by `dnssec disable` and, when it is unsigned, `dnssec enable`"}
			}
			next := zones.Stay(is, time.Now())
			if req.Denial != "" {
				next.Denial = denial
			}
			return next, nil
		}
		roles := []store.KeyRole{store.RoleCSK}
		if req.Split {
			roles = []store.KeyRole{store.RoleKSK, store.RoleZSK}
		}
		var keys []store.DNSKey
		for _, role := range roles {
			key, err := tx.NewDNSKey(data.Domain, algorithm, role)
			if err != nil {
				return nil, err
			}
			keys = append(keys, key)
		}
		return zones.StartSigning(algorithm, denial, keys, zones.LargestTTL(data.Records), time.Now()), nil
	})
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// RollDNSSEC begins to replace a key.
func (s *Service) RollDNSSEC(ctx context.Context, req DNSSECRequest) (DNSSEC, error) {
	return s.changeSigning(ctx, req.Domain, func(tx *store.Tx, data *store.DomainData) (*store.Signing, error) {
		if data.Signing == nil {
			return nil, notSigned(data.Domain)
		}
		role := store.KeyRole(req.Role)
		if role == "" {
			role = store.RoleCSK
			if data.Signing.Split {
				role = store.RoleZSK
			}
		}
		if !slices.ContainsFunc(data.Signing.Keys, func(k store.DNSKey) bool { return k.Role == role }) {
			return nil, dnssecUsage(fmt.Sprintf("the domain has no key of the role %.10q", req.Role), "`dnssec status` shows the roles: csk, or ksk and zsk")
		}
		fresh, err := tx.NewDNSKey(data.Domain, data.Signing.Algorithm, role)
		if err != nil {
			return nil, err
		}
		return zones.Roll(data.Signing, fresh, time.Now())
	})
}

// DSSeen notes that the parent publishes the DS of the key that waits for it.
func (s *Service) DSSeen(ctx context.Context, req DNSSECRequest) (DNSSEC, error) {
	ttl, err := dsTTL(req)
	if err != nil {
		return DNSSEC{}, err
	}
	return s.changeSigning(ctx, req.Domain, func(_ *store.Tx, data *store.DomainData) (*store.Signing, error) {
		if data.Signing == nil {
			return nil, notSigned(data.Domain)
		}
		return zones.DSSeen(data.Signing, ttl, time.Now())
	})
}

// DisableDNSSEC leads a domain to being unsigned.
func (s *Service) DisableDNSSEC(ctx context.Context, req DNSSECRequest) (DNSSEC, error) {
	ttl, err := dsTTL(req)
	if err != nil {
		return DNSSEC{}, err
	}
	return s.changeSigning(ctx, req.Domain, func(_ *store.Tx, data *store.DomainData) (*store.Signing, error) {
		switch {
		case data.Signing == nil:
			return nil, notSigned(data.Domain)
		case req.DSGone:
			return zones.DSGone(data.Signing, ttl, time.Now())
		}
		return zones.Leave(data.Signing), nil
	})
}

func notSigned(d direct.Domain) error {
	return &Error{"DN-DNSSEC-002", CodeFailed, "nothing was changed", d.String() + " is not signed", "sign it with `directctl dnssec enable " + d.String() + "`"}
}

func dsTTL(req DNSSECRequest) (time.Duration, error) {
	if req.DSTTL == "" {
		return zones.DefaultDSTTL, nil
	}
	ttl, err := time.ParseDuration(req.DSTTL)
	if err != nil {
		return 0, dnssecUsage(fmt.Sprintf("the TTL %.40q", req.DSTTL), "give a time such as 24h or 3600s")
	}
	return ttl, nil
}

// changeSigning changes how a domain is signed, in one transaction.
func (s *Service) changeSigning(ctx context.Context, domain string, change func(*store.Tx, *store.DomainData) (*store.Signing, error)) (DNSSEC, error) {
	_, data, err := s.domainData(domain)
	if err != nil {
		return DNSSEC{}, err
	}
	_, err = s.store.Update(ctx, func(tx *store.Tx) error {
		now := tx.Domain(data.Domain)
		if now == nil {
			return fmt.Errorf("domain %s: %w", data.Domain, store.ErrNotFound)
		}
		next, err := change(tx, now)
		if err != nil {
			return err
		}
		return tx.SetSigning(data.Domain, next)
	})
	var ours *Error
	var roll *zones.RollError
	switch {
	case errors.As(err, &ours):
		return DNSSEC{}, ours
	case errors.As(err, &roll):
		return DNSSEC{}, &Error{"DN-DNSSEC-004", CodeFailed, "nothing was changed", roll.Why, roll.Do}
	case err != nil:
		return DNSSEC{}, storeFailure("the signing of "+data.Domain.String()+" was not changed", err)
	}
	return s.DNSSECStatus(ctx, DNSSECRequest{Domain: domain})
}

// DNSSECStatus says how a domain is signed and what comes next.
func (s *Service) DNSSECStatus(_ context.Context, req DNSSECRequest) (DNSSEC, error) {
	_, data, err := s.domainData(req.Domain)
	if err != nil {
		return DNSSEC{}, err
	}
	show := DNSSEC{Domain: data.Domain.String(), Next: []string{}}
	is := data.Signing
	if is == nil {
		return show, nil
	}
	show.Signed, show.Algorithm, show.Denial, show.Since = true, algorithmName(is.Algorithm), is.Denial, is.Since
	for _, k := range is.Keys {
		show.Keys = append(show.Keys, DNSKeyRow{zones.KeyTag(is.Algorithm, k), k.ID, string(k.Role), string(k.State), k.Since, k.Due, k.Signs})
	}
	show.DS = zones.DS(data.Domain, is)
	show.Next = append(show.Next, zones.NextSteps(is)...)
	return show, nil
}

// AdvanceKeys makes the steps in the life of all domains' keys that are due. It
// looks first and changes the store only where something is. A domain whose
// change is refused keeps no other from its own.
func (s *Service) AdvanceKeys(ctx context.Context, at time.Time) error {
	v := s.store.View()
	var failed []error
	for _, d := range v.Domains() {
		if err := ctx.Err(); err != nil {
			return err
		}
		is := v.Domain(d).Signing
		if is == nil || zones.Advance(is, at) == is {
			continue
		}
		_, err := s.store.Update(ctx, func(tx *store.Tx) error {
			data := tx.Domain(d)
			if data == nil || data.Signing == nil {
				return nil
			}
			return tx.SetSigning(d, zones.Advance(data.Signing, at))
		})
		if err != nil {
			failed = append(failed, fmt.Errorf("the keys of %s: %w", d, err))
			continue
		}
		s.o.Log.Info("dnssec keys advanced", "domain", d.String())
	}
	return errors.Join(failed...)
}
