package zones

import (
	"fmt"
	"slices"
	"time"

	"directnode/store"
)

// The life of DNSSEC keys. Everything here is a pure function of what the store
// keeps and of the time: data in, the next data out. What a step waits for is
// counted from the time at which the step before was made, so that a daemon
// that was down makes every wait longer and none shorter.
//
// A ZSK is pre-published (RFC 7583 §3.2.1). A KSK signs the keys beside the old
// one until the parent has changed its DS (§3.3.1, Double-KSK). A CSK is
// published and signs the keys like a KSK; once every cache knows it, it signs
// the data too, and the old one stays for as long as its signatures or its DS
// may be in a cache.

const (
	// dnskeyTTL is the TTL of DNSKEY, CDS and CDNSKEY records: an hour makes a
	// roll quick and costs a resolver a question an hour.
	dnskeyTTL = 3600

	// rollMargin is added to every wait: secondaries lag by a refresh (an hour in
	// a new SOA), and clocks differ.
	rollMargin = time.Hour

	// leastMaxTTL is what the largest TTL of a zone's data is taken for at least.
	// It covers the TTL of CERT records, which an operator may set to a day.
	leastMaxTTL = 86400

	// DefaultDSTTL is how long a DS of the parent is taken to stay in caches:
	// that of most top-level domains, and more than that of the others.
	DefaultDSTTL = 24 * time.Hour

	// maxDSTTL bounds what an operator may say it is: RFC 8767 §4 advises caches
	// to keep nothing for longer than a week.
	maxDSTTL = 7 * 24 * time.Hour
)

// RollError is an order about keys that does not fit their state.
type RollError struct{ Why, Do string }

// Error is what stands against it and what to do.
func (e *RollError) Error() string { return e.Why + "; " + e.Do }

// keyWait is how long a cache may not know a key that is in the zone.
func keyWait() time.Duration { return dnskeyTTL*time.Second + rollMargin }

// dataWait is how long a cache may keep data with the signatures of before.
func dataWait(s *store.Signing) time.Duration {
	return time.Duration(max(s.MaxTTL, leastMaxTTL))*time.Second + rollMargin
}

// StartSigning begins to sign with these keys, fresh ones of Tx.NewDNSKey: a
// CSK, or a KSK and a ZSK. The DS is for the parent when no cache has data
// without signatures any more.
func StartSigning(algorithm uint8, denial string, keys []store.DNSKey, maxTTL uint32, at time.Time) *store.Signing {
	at = whole(at)
	s := &store.Signing{Algorithm: algorithm, Denial: denial, Since: at, MaxTTL: maxTTL, Split: len(keys) > 1, Keys: slices.Clone(keys)}
	for i := range s.Keys {
		k := &s.Keys[i]
		k.Since = at
		k.State = store.KeyActive
		if k.Role.SecureEntry() {
			k.State, k.Due = store.KeyPublished, at.Add(dataWait(s))
		}
		if k.Role.SignsZone() {
			k.Signs, k.Signed = true, at
		}
	}
	return s
}

// whole is a time as the store keeps it.
func whole(at time.Time) time.Time { return at.UTC().Truncate(time.Second) }

// Roll begins to replace the keys of a role by a fresh one. The error is a
// *RollError.
func Roll(before *store.Signing, fresh store.DNSKey, at time.Time) (*store.Signing, error) {
	if before.Leaving != store.Staying {
		return nil, &RollError{"the domain is about to become unsigned", "sign it again with `dnssec enable` first"}
	}
	for _, k := range before.Keys {
		if k.Role == fresh.Role && k.State != store.KeyActive {
			return nil, &RollError{fmt.Sprintf("key %s (%s) is %s: a roll is under way", k.ID, k.Role, k.State), "wait until it is done; `dnssec status` shows when"}
		}
	}
	s := before.Clone()
	fresh.State, fresh.Since, fresh.Due, fresh.Signs = store.KeyPublished, whole(at), whole(at).Add(keyWait()), false
	s.Keys = append(s.Keys, fresh)
	return s, nil
}

// DSSeen notes that the parent publishes the DS of the key that is ready, and
// no other, and for how long caches may keep the one before. The error is a
// *RollError.
func DSSeen(before *store.Signing, dsTTL time.Duration, at time.Time) (*store.Signing, error) {
	if err := checkDSTTL(dsTTL); err != nil {
		return nil, err
	}
	if before.Leaving != store.Staying {
		return nil, &RollError{"the domain is about to become unsigned", "to stay signed, give `dnssec enable`; when the DS is gone, `dnssec disable --ds-gone`"}
	}
	s := before.Clone()
	next := slices.IndexFunc(s.Keys, func(k store.DNSKey) bool { return k.Role.SecureEntry() && k.State == store.KeyReady })
	if next < 0 {
		return nil, notReady(s)
	}
	at = whole(at)
	gone := at.Add(dsTTL + rollMargin)
	if s.Keys[next].Role == store.RoleCSK {
		// The old key's signatures may be in caches for longer than its DS.
		gone = later(gone, s.Keys[next].Signed.Add(dataWait(s)))
	}
	for i := range s.Keys {
		if k := &s.Keys[i]; k.Role.SecureEntry() && k.State == store.KeyActive {
			k.State, k.Since, k.Due = store.KeyRetired, at, gone
		}
	}
	s.Keys[next].State, s.Keys[next].Since, s.Keys[next].Due = store.KeyActive, at, time.Time{}
	return s, nil
}

func notReady(s *store.Signing) error {
	for _, k := range s.Keys {
		if k.Role.SecureEntry() && k.State == store.KeyPublished {
			return &RollError{fmt.Sprintf("key %s is not ready: caches may hold what it does not fit until %s", k.ID, k.Due.Format(time.RFC3339)), "a DS that is at the parent before then breaks the domain for some; have it removed, or wait"}
		}
	}
	return &RollError{"no key waits for its DS", "nothing is to be done; `dnssec status` shows the keys"}
}

func checkDSTTL(ttl time.Duration) error {
	if ttl < 0 || ttl > maxDSTTL {
		return &RollError{fmt.Sprintf("a DS with a TTL of %v", ttl), fmt.Sprintf("give the TTL of the DS in the parent zone, at most %v", maxDSTTL)}
	}
	return nil
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// Leave begins to make a domain unsigned: it asks the parent to remove the DS
// (RFC 8078 §4) and goes on signing. A domain whose DS nobody was given yet is
// unsigned at once: the answer is nil.
func Leave(before *store.Signing) *store.Signing {
	given := slices.ContainsFunc(before.Keys, func(k store.DNSKey) bool { return k.Role.SecureEntry() && k.State != store.KeyPublished })
	if !given {
		return nil
	}
	s := before.Clone()
	if s.Leaving == store.Staying {
		s.Leaving = store.LeavingAsked
	}
	return s
}

// DSGone notes that the parent has no DS any more. The domain is unsigned when
// caches have forgotten it. The error is a *RollError.
func DSGone(before *store.Signing, dsTTL time.Duration, at time.Time) (*store.Signing, error) {
	if err := checkDSTTL(dsTTL); err != nil {
		return nil, err
	}
	s := before.Clone()
	s.Leaving, s.Unsigned = store.LeavingDSGone, whole(at).Add(dsTTL+rollMargin)
	return s, nil
}

// Stay ends a departure. A domain whose DS is gone is like one that was signed
// just now: its key waits for the DS to be given.
func Stay(before *store.Signing, at time.Time) *store.Signing {
	s := before.Clone()
	if s.Leaving == store.LeavingDSGone {
		for i := range s.Keys {
			if k := &s.Keys[i]; k.Role.SecureEntry() && k.State == store.KeyActive {
				k.State, k.Since = store.KeyReady, whole(at)
			}
		}
	}
	s.Leaving, s.Unsigned = store.Staying, time.Time{}
	return s
}

// Advance makes the steps that are due. The answer is what was given when there
// are none, and nil for a domain that is to be unsigned now.
func Advance(before *store.Signing, at time.Time) *store.Signing {
	at = whole(at)
	if before.Leaving == store.LeavingDSGone && !at.Before(before.Unsigned) {
		return nil
	}
	is := func(k store.DNSKey) bool { return !k.Due.IsZero() && !at.Before(k.Due) }
	if !slices.ContainsFunc(before.Keys, is) {
		return before
	}
	s := before.Clone()
	s.Keys = slices.DeleteFunc(s.Keys, func(k store.DNSKey) bool { return k.State == store.KeyRetired && is(k) })
	for i := range s.Keys {
		if is(s.Keys[i]) && s.Keys[i].State == store.KeyPublished {
			mature(s, i, at)
		}
	}
	return s
}

// mature takes a key into use that every cache knows by now.
func mature(s *store.Signing, i int, at time.Time) {
	k := &s.Keys[i]
	k.Since, k.Due = at, time.Time{}
	k.State = store.KeyReady
	if k.Role == store.RoleZSK {
		k.State = store.KeyActive
	}
	if !k.Role.SignsZone() || k.Signs {
		return
	}
	for j := range s.Keys {
		if old := &s.Keys[j]; old.Signs {
			old.Signs = false
			if old.Role == store.RoleZSK { // a CSK has its DS still
				old.State, old.Since, old.Due = store.KeyRetired, at, at.Add(dataWait(s))
			}
		}
	}
	k.Signs, k.Signed = true, at
}

// ForParent are the keys whose DS the parent is to publish now (RFC 7344 §4):
// the one that is ready, else those that are active.
func ForParent(s *store.Signing) (keys []store.DNSKey) {
	for _, state := range []store.KeyState{store.KeyReady, store.KeyActive} {
		for _, k := range s.Keys {
			if k.Role.SecureEntry() && k.State == state {
				keys = append(keys, k)
			}
		}
		if len(keys) > 0 {
			break
		}
	}
	return keys
}

// LargestTTL is the largest TTL among records.
func LargestTTL(records []store.Record) (ttl uint32) {
	for _, r := range records {
		ttl = max(ttl, r.TTL)
	}
	return ttl
}

// NextSteps says what happens to the keys by itself, and what an operator is to
// do, a sentence each.
func NextSteps(s *store.Signing) (steps []string) {
	switch s.Leaving {
	case store.LeavingAsked:
		return []string{"The parent is asked by CDS to remove the DS (RFC 8078). Have it removed where it does not look at CDS. The domain stays signed until then: a DS at the parent and no signatures here would make it unreachable. When the DS is gone, give `dnssec disable --ds-gone`."}
	case store.LeavingDSGone:
		return []string{fmt.Sprintf("The signatures go at %s, when no cache has the DS any more.", s.Unsigned.Format(time.RFC3339))}
	}
	for _, k := range s.Keys {
		tag, due := KeyTag(s.Algorithm, k), k.Due.Format(time.RFC3339)
		switch {
		case k.State == store.KeyPublished && (k.Signs || k.Role == store.RoleKSK && len(ForParent(s)) == 0):
			steps = append(steps, fmt.Sprintf("The DS of key %d is for the parent from %s on, when no cache has data without signatures any more.", tag, due))
		case k.State == store.KeyPublished:
			steps = append(steps, fmt.Sprintf("Key %d is taken into use at %s, when every cache knows it.", tag, due))
		case k.State == store.KeyReady:
			steps = append(steps, fmt.Sprintf("The DS of key %d is to be at the parent, in the place of any other. A parent that looks at CDS takes it by itself. When all servers of the parent have it, give `dnssec ds-seen`.", tag))
		case k.State == store.KeyRetired:
			steps = append(steps, fmt.Sprintf("Key %d is removed at %s, when no cache needs it any more.", tag, due))
		}
	}
	return steps
}
