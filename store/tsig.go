package store

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"directnode/store/kv"
)

// The algorithms of a TSIG key (RFC 8945 §6) that this node knows. MD5 and SHA-1
// MUST NOT or need not be used any more, and the truncated kinds save nothing.
const (
	HMACSHA256 = "hmac-sha256"
	HMACSHA512 = "hmac-sha512"
)

// TSIGAlgorithms lists them, the default first.
func TSIGAlgorithms() []string { return []string{HMACSHA256, HMACSHA512} }

// TSIGKey is a secret that this node shares with other name servers (RFC 8945
// §2). View.TSIGSecret opens it.
type TSIGKey struct {
	Name      string // a domain name in lower case, without its final dot
	Algorithm string // one of TSIGAlgorithms
	Created   time.Time
	Sealed    []byte // shared: do not change it
}

func (k TSIGKey) label() string { return prefixTSIG + k.Name + "/" + k.Algorithm }

func (k TSIGKey) object() string { return "TSIG key " + k.Name }

// TSIGKeys lists the keys by name. The slice is shared: do not change it.
func (v *View) TSIGKeys() []TSIGKey { return v.peers.keys }

// TSIGKey finds a key by its name.
func (v *View) TSIGKey(name string) (TSIGKey, bool) { return v.peers.key(name) }

// TSIGSecret opens a key.
//
// Errors are *Refusal with ErrNoMasterKey or ErrDamaged.
func (v *View) TSIGSecret(s *Sealer, k TSIGKey) ([]byte, error) {
	if s == nil {
		return nil, refuse(k.object(), ErrNoMasterKey, "")
	}
	secret, err := s.openDER(k.label(), k.Sealed)
	if err != nil {
		return nil, refuse(k.object(), ErrDamaged, "%v", err)
	}
	return secret, nil
}

// TSIGSecret opens a key under the store's own master key.
func (s *Store) TSIGSecret(k TSIGKey) ([]byte, error) { return s.View().TSIGSecret(s.seal, k) }

// AddTSIGKey keeps a secret. ErrExists if there is a key of that name: other
// servers know it, so that its secret is not replaced in passing.
func (tx *Tx) AddTSIGKey(name, algorithm string, secret []byte) error {
	k := TSIGKey{Name: strings.TrimSuffix(strings.ToLower(name), "."), Algorithm: algorithm, Created: tx.at}
	if tx.over {
		return ErrTxOver
	}
	if fault := keyFault(k, len(secret)); fault != "" {
		return refuse(fmt.Sprintf("TSIG key %.100q", name), ErrInvalid, "%s", fault)
	}
	if tx.seal == nil {
		return refuse(k.object(), ErrNoMasterKey, "")
	}
	p := tx.editPeers()
	if _, there := p.key(k.Name); there {
		return refuse(k.object(), ErrExists, "")
	}
	if len(p.keys) >= maxTSIGKeys {
		return refuse(k.object(), ErrLimit, "a node has at most %d TSIG keys", maxTSIGKeys)
	}
	k.Sealed = tx.seal.sealDER(k.label(), secret)
	p.keys = append(p.keys, k)
	slices.SortFunc(p.keys, compareKeys)
	return nil
}

// RemoveTSIGKey removes a key that no domain uses.
func (tx *Tx) RemoveTSIGKey(name string) error {
	if tx.over {
		return ErrTxOver
	}
	p := tx.editPeers()
	k, there := p.key(name)
	if !there {
		return refuse(fmt.Sprintf("TSIG key %.100q", name), ErrNotFound, "")
	}
	for d, t := range p.transfers {
		if t.Uses(name) {
			return refuse(k.object(), ErrInUse, "%s is transferred with it", d)
		}
	}
	p.keys = slices.DeleteFunc(p.keys, func(x TSIGKey) bool { return x.Name == name })
	return nil
}

func compareKeys(a, b TSIGKey) int { return cmp.Compare(a.Name, b.Name) }

// keyFault says what is wrong with a key, or nothing. A size below 0 is not
// known.
func keyFault(k TSIGKey, size int) string {
	switch {
	case k.Name == "" || len(k.Name) > maxKeyName:
		return fmt.Sprintf("a name of %d characters; it has 1 to %d", len(k.Name), maxKeyName)
	case strings.Trim(k.Name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "":
		return "a name has letters, digits, hyphens, underscores and dots"
	case slices.ContainsFunc(strings.Split(k.Name, "."), func(l string) bool { return l == "" || len(l) > 63 }):
		return "a name's parts have 1 to 63 characters (RFC 1035 §2.3.4)"
	case !slices.Contains(TSIGAlgorithms(), k.Algorithm):
		return fmt.Sprintf("algorithm %.40q; there are %s", k.Algorithm, strings.Join(TSIGAlgorithms(), ", "))
	case size >= 0 && size < minTSIGSecret:
		return fmt.Sprintf("a secret of %d octets can be guessed; give %d or more", size, minTSIGSecret)
	case size > maxTSIGSecret:
		return fmt.Sprintf("a secret of %d octets; at most %d", size, maxTSIGSecret)
	}
	return ""
}

type tsigValue struct {
	Algorithm string    `json:"algorithm"`
	Created   time.Time `json:"created"`
	Sealed    []byte    `json:"sealed"`
}

func tsigKey(name string) string { return prefixTSIG + name }

func encodeTSIG(k TSIGKey) []byte { return marshal(tsigValue{k.Algorithm, k.Created, k.Sealed}) }

func decodeTSIG(e kv.KV) (TSIGKey, error) {
	var v tsigValue
	if err := unmarshal(e.Value, &v); err != nil {
		return TSIGKey{}, err
	}
	k := TSIGKey{Name: e.Key[len(prefixTSIG):], Algorithm: v.Algorithm, Created: v.Created, Sealed: v.Sealed}
	if fault := keyFault(k, -1); fault != "" {
		return k, errors.New(fault)
	}
	return k, nil
}
