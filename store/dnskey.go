package store

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"directnode/internal/direct"
	"directnode/store/kv"
)

// Signing is how a domain is signed by DNSSEC: its keys and where each of them
// is in its life. Package zones decides what comes next in it; here it is kept.
type Signing struct {
	Algorithm uint8       `json:"algorithm"` // of every key: AlgorithmECDSA or AlgorithmEd25519
	Split     bool        `json:"split"`     // a KSK and a ZSK instead of one CSK
	Denial    string      `json:"denial"`    // DenialCompact or DenialNSEC3
	Since     time.Time   `json:"since"`
	MaxTTL    uint32      `json:"max_ttl"` // the largest TTL that the domain's records have had since
	Leaving   DepartState `json:"leaving,omitempty"`
	Unsigned  time.Time   `json:"unsigned,omitzero"` // LeavingDSGone: when the signatures may go
	Keys      []DNSKey    `json:"keys"`
}

// The algorithms (RFC 8624 §3.1, IANA's numbers).
const (
	AlgorithmECDSA   = 13 // ECDSA P-256 with SHA-256, RFC 6605
	AlgorithmEd25519 = 15 // RFC 8080
)

// The ways to deny what is not there.
const (
	DenialCompact = "compact" // RFC 9824
	DenialNSEC3   = "nsec3"   // RFC 5155 with records that cover one hash each
)

// DepartState says how far a domain is on its way to being unsigned.
type DepartState string

// The states.
const (
	Staying       DepartState = ""
	LeavingAsked  DepartState = "asked"   // the parent is asked to remove the DS (RFC 8078 §4)
	LeavingDSGone DepartState = "ds-gone" // it is removed; caches forget it until Signing.Unsigned
)

// KeyRole says what a key signs (RFC 6781 §1.2).
type KeyRole string

// The roles.
const (
	RoleCSK KeyRole = "csk" // everything
	RoleKSK KeyRole = "ksk" // the keys
	RoleZSK KeyRole = "zsk" // everything else
)

// SecureEntry tells the roles that a DS of the parent names.
func (r KeyRole) SecureEntry() bool { return r == RoleCSK || r == RoleKSK }

// SignsZone tells the roles that sign the zone's data.
func (r KeyRole) SignsZone() bool { return r == RoleCSK || r == RoleZSK }

// KeyState is where a key is in its life.
type KeyState string

// The states. In all of them the key is in the DNSKEY RRset.
const (
	KeyPublished KeyState = "published" // caches may not know it yet
	KeyReady     KeyState = "ready"     // they do; the parent is to name it in a DS
	KeyActive    KeyState = "active"    // the parent names it; a ZSK signs
	KeyRetired   KeyState = "retired"   // another has its place; caches may need it still
)

// DNSKey is one key of a domain.
type DNSKey struct {
	ID     string    `json:"id"` // sixteen digits of the public key's SHA-256
	Role   KeyRole   `json:"role"`
	State  KeyState  `json:"state"`
	Since  time.Time `json:"since"`           // the state began
	Due    time.Time `json:"due,omitzero"`    // when the next state may begin; zero waits for the operator
	Signs  bool      `json:"signs"`           // the zone's data are signed with it
	Signed time.Time `json:"signed,omitzero"` // since when
	Public []byte    `json:"public"`          // the public key field of the DNSKEY record
	Sealed []byte    `json:"sealed"`          // shared: do not change it
}

// Clone is a copy to be changed. A nil Signing has a nil copy.
func (s *Signing) Clone() *Signing {
	if s == nil {
		return nil
	}
	c := *s
	c.Keys = slices.Clone(s.Keys)
	return &c
}

// maxDNSKeys of a domain: two of each role, while both roll.
const maxDNSKeys = 4

// dnskeyObject names a key in errors.
func dnskeyObject(d direct.Domain, id string) string {
	return fmt.Sprintf("the DNSSEC key %s of %s", id, d)
}

// dnskeyLabel binds a sealed key to its domain and its public key.
func dnskeyLabel(d direct.Domain, public []byte) string {
	sum := sha256.Sum256(append([]byte("dnskey/"+d.String()+"/"), public...))
	return hex.EncodeToString(sum[:])
}

// NewDNSKey makes a key for a domain, sealed; the caller gives it its state and
// puts it into a Signing. Errors are *Refusal with ErrNoMasterKey or ErrInvalid.
func (tx *Tx) NewDNSKey(d direct.Domain, algorithm uint8, role KeyRole) (DNSKey, error) {
	return tx.seal.NewDNSKey(d, algorithm, role)
}

// NewDNSKey makes a key as Tx.NewDNSKey does.
func (s *Sealer) NewDNSKey(d direct.Domain, algorithm uint8, role KeyRole) (DNSKey, error) {
	object := "a DNSSEC key for " + d.String()
	if s == nil {
		return DNSKey{}, refuse(object, ErrNoMasterKey, "")
	}
	key, err := generateDNSKey(algorithm)
	if err != nil {
		return DNSKey{}, refuse(object, ErrInvalid, "%v", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return DNSKey{}, refuse(object, ErrMalformed, "%v", err)
	}
	defer clear(der)
	public, err := dnskeyPublic(key.Public())
	if err != nil {
		return DNSKey{}, refuse(object, ErrInvalid, "%v", err)
	}
	sum := sha256.Sum256(public)
	return DNSKey{ID: hex.EncodeToString(sum[:8]), Role: role, Public: public, Sealed: s.sealDER(dnskeyLabel(d, public), der)}, nil
}

func generateDNSKey(algorithm uint8) (crypto.Signer, error) {
	switch algorithm {
	case AlgorithmECDSA:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case AlgorithmEd25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, fmt.Errorf("algorithm %d; 13 (ECDSA P-256) and 15 (Ed25519) are known", algorithm)
}

// dnskeyPublic is the public key field of the DNSKEY record.
func dnskeyPublic(key crypto.PublicKey) ([]byte, error) {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil || k.Curve != elliptic.P256() {
			return nil, fmt.Errorf("not on curve P-256")
		}
		return point[1:], nil // RFC 6605 §4: x and y, without the octet for "uncompressed"
	case ed25519.PublicKey:
		return bytes.Clone(k), nil // RFC 8080 §3
	}
	return nil, fmt.Errorf("neither ECDSA P-256 nor Ed25519")
}

// OpenDNSKey opens a key of a domain. Errors are *Refusal with ErrNoMasterKey,
// ErrDamaged or ErrKeyMismatch.
func (s *Sealer) OpenDNSKey(d direct.Domain, k DNSKey) (crypto.Signer, error) {
	object := dnskeyObject(d, k.ID)
	key, err := s.openSigner(object, dnskeyLabel(d, k.Public), k.Sealed)
	if err != nil {
		return nil, err
	}
	if public, err := dnskeyPublic(key.Public()); err != nil || !bytes.Equal(public, k.Public) {
		return nil, refuse(object, ErrKeyMismatch, "")
	}
	return key, nil
}

// SetSigning sets how a domain is signed; nil leaves it unsigned. What cannot
// be a chain of trust is refused with ErrInvalid.
func (tx *Tx) SetSigning(d direct.Domain, s *Signing) error {
	dr, err := tx.edit(d)
	if err != nil {
		return err
	}
	s = s.Clone()
	if s != nil {
		if fault := s.fault(); fault != "" {
			return refuse("the DNSSEC of "+d.String(), ErrInvalid, "%s", fault)
		}
		s.MaxTTL = max(s.MaxTTL, maxRecordTTL(dr.data.Records))
	}
	dr.data.Signing = s
	dr.others = true
	return nil
}

// maxRecordTTL is the largest TTL among records.
func maxRecordTTL(records []Record) (ttl uint32) {
	for _, r := range records {
		ttl = max(ttl, r.TTL)
	}
	return ttl
}

// signingSeen notes the TTLs of records that a signed domain gets: for as long,
// caches may keep them and their signatures (RFC 7583 §3.2.1, TTLsig).
func (dr *draft) signingSeen() {
	if s := dr.data.Signing; s != nil && maxRecordTTL(dr.data.Records) > s.MaxTTL {
		s = s.Clone()
		s.MaxTTL = maxRecordTTL(dr.data.Records)
		dr.data.Signing = s
	}
}

// fault says what makes it no chain of trust, or nothing.
func (s *Signing) fault() string {
	entries, signing := 0, 0
	for i, k := range s.Keys {
		switch {
		case k.State != KeyPublished && k.State != KeyReady && k.State != KeyActive && k.State != KeyRetired:
			return fmt.Sprintf("key %s in the state %q", k.ID, k.State)
		case s.Split != (k.Role != RoleCSK) || !k.Role.SecureEntry() && !k.Role.SignsZone():
			return fmt.Sprintf("key %s as %q", k.ID, k.Role)
		case k.Signs && !k.Role.SignsZone():
			return fmt.Sprintf("key %s signs what a KSK does not", k.ID)
		case slices.ContainsFunc(s.Keys[:i], func(other DNSKey) bool { return other.ID == k.ID }):
			return fmt.Sprintf("key %s is there twice", k.ID)
		case len(k.Public) != publicSize(s.Algorithm):
			return fmt.Sprintf("key %s has a public key of %d octets", k.ID, len(k.Public))
		}
		if k.Role.SecureEntry() {
			entries++
		}
		if k.Signs {
			signing++
		}
	}
	switch {
	case publicSize(s.Algorithm) == 0:
		return fmt.Sprintf("algorithm %d", s.Algorithm)
	case s.Denial != DenialCompact && s.Denial != DenialNSEC3:
		return fmt.Sprintf("denial %q", s.Denial)
	case s.Leaving != Staying && s.Leaving != LeavingAsked && s.Leaving != LeavingDSGone:
		return fmt.Sprintf("leaving in the state %q", s.Leaving)
	case len(s.Keys) > maxDNSKeys:
		return fmt.Sprintf("%d keys, at most %d", len(s.Keys), maxDNSKeys)
	case entries == 0:
		return "no key that a DS could name"
	case signing != 1:
		return fmt.Sprintf("%d keys that sign the zone's data; it must be one", signing)
	}
	return ""
}

func publicSize(algorithm uint8) int {
	switch algorithm {
	case AlgorithmECDSA:
		return 64
	case AlgorithmEd25519:
		return ed25519.PublicKeySize
	}
	return 0
}

// The entry: dnskey/d/signing.
const signingRest = "signing"

func signingKey(d direct.Domain) string { return prefixDNSKey + d.String() + "/" + signingRest }

func decodeSigning(e kv.KV) (direct.Domain, *Signing, error) {
	d, rest, err := cutDomain(e.Key, prefixDNSKey)
	if err != nil {
		return d, nil, err
	}
	if rest != signingRest {
		return d, nil, fmt.Errorf("malformed key")
	}
	s := new(Signing)
	if err := unmarshal(e.Value, s); err != nil {
		return d, nil, err
	}
	if fault := s.fault(); fault != "" {
		return d, nil, fmt.Errorf("%s", fault)
	}
	return d, s, nil
}

// signingEntries writes the entry, none for an unsigned domain.
func signingEntries(d direct.Domain, s *Signing) map[string][]byte {
	if s == nil {
		return nil
	}
	return map[string][]byte{signingKey(d): marshal(s)}
}

// signing checks that the keys of a domain open.
func (c *audit) signing(d direct.Domain, s *Signing) {
	if s == nil || c.seal == nil {
		return // nothing can be said without the master key
	}
	for _, k := range s.Keys {
		if _, err := c.seal.OpenDNSKey(d, k); err != nil {
			c.report(Problem{signingKey(d), err.Error()})
		}
	}
}

// sealed tells whether the domain has secrets that a master key opens.
func (d *DomainData) sealed() bool { return d.Keys.Len() > 0 || d.Signing != nil }
