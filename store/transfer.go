package store

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"directnode/internal/direct"
	"directnode/store/kv"
)

// Transfer is what a domain has to do with other name servers. It belongs to
// the view and not to the domain's data: a change of it changes nothing that the
// zone shows.
type Transfer struct {
	Allow     []TransferRule // who may have the zone; nobody without one
	Notify    []TransferPeer // who is told of changes (RFC 1996)
	Primaries []TransferPeer // whom the records come from; without any the domain's records are edited here

	// Taken is what came from the primaries last; nil before, and when they
	// become others.
	Taken *TakenZone
}

// TransferRule lets who holds a key have the zone, from one network or from
// anywhere.
type TransferRule struct {
	Key    string
	Prefix netip.Prefix // not valid = anywhere
}

// TransferPeer is another name server.
type TransferPeer struct {
	Addr netip.AddrPort
	Key  string // may be empty for Notify
}

// TakenZone is a state of the zone as the primary gave it.
type TakenZone struct {
	Serial uint32    // the primary's
	At     time.Time // when the primary last said that it is still so
}

// IsZero tells that there is nothing to keep.
func (t Transfer) IsZero() bool {
	return len(t.Allow)+len(t.Notify)+len(t.Primaries) == 0 && t.Taken == nil
}

// Uses tells whether a key is used.
func (t Transfer) Uses(key string) bool { return slices.Contains(t.keys(), key) }

// keys lists the names of all keys that are used.
func (t Transfer) keys() []string {
	var names []string
	for _, r := range t.Allow {
		names = append(names, r.Key)
	}
	for _, p := range slices.Concat(t.Notify, t.Primaries) {
		if p.Key != "" {
			names = append(names, p.Key)
		}
	}
	return names
}

// peering is what a view holds of other name servers. It never changes, and
// views share it: the same pointer in two views means that nothing changed.
type peering struct {
	keys      []TSIGKey // sorted by name
	transfers map[direct.Domain]Transfer
}

func newPeering() *peering { return &peering{transfers: map[direct.Domain]Transfer{}} }

func (p *peering) key(name string) (TSIGKey, bool) {
	i, found := slices.BinarySearchFunc(p.keys, TSIGKey{Name: name}, compareKeys)
	if !found {
		return TSIGKey{}, false
	}
	return p.keys[i], true
}

// entries writes it as the entries that a load reads.
func (p *peering) entries() map[string][]byte {
	entries := make(map[string][]byte, len(p.keys)+len(p.transfers))
	for _, k := range p.keys {
		entries[tsigKey(k.Name)] = encodeTSIG(k)
	}
	for d, t := range p.transfers {
		entries[transferKey(d)] = encodeTransfer(t)
	}
	return entries
}

// Transfer is what a domain has to do with other name servers.
func (v *View) Transfer(d direct.Domain) Transfer { return v.peers.transfers[d] }

// SamePeers tells that keys and transfers are the same in both views.
func (v *View) SamePeers(other *View) bool { return other != nil && v.peers == other.peers }

// Transfer is a domain's, as changed so far.
func (tx *Tx) Transfer(d direct.Domain) Transfer {
	if tx.peers != nil {
		return tx.peers.transfers[d]
	}
	return tx.base.Transfer(d)
}

// SetTransfer replaces what a domain has to do with other name servers. Its
// keys must be there.
func (tx *Tx) SetTransfer(d direct.Domain, t Transfer) error {
	object := "the transfers of " + d.String()
	switch {
	case tx.over:
		return ErrTxOver
	case !tx.Has(d):
		return refuse("domain "+d.String(), ErrNotFound, "")
	}
	p := tx.editPeers()
	if fault := p.fault(t); fault != "" {
		return refuse(object, ErrInvalid, "%s", fault)
	}
	if t.IsZero() {
		delete(p.transfers, d)
	} else {
		p.transfers[d] = t
	}
	return nil
}

// editPeers is what the transaction may change: a copy.
func (tx *Tx) editPeers() *peering {
	if tx.peers == nil {
		tx.peers = &peering{slices.Clone(tx.base.peers.keys), maps.Clone(tx.base.peers.transfers)}
	}
	return tx.peers
}

// peersAndOps are the view's next peering and the operations that lead to it.
func (tx *Tx) peersAndOps() (*peering, []kv.Op) {
	if tx.peers == nil {
		return tx.base.peers, nil
	}
	ops := diff(tx.base.peers.entries(), tx.peers.entries())
	if len(ops) == 0 {
		return tx.base.peers, nil
	}
	return tx.peers, ops
}

// dropTransfer forgets a domain that is removed.
func (tx *Tx) dropTransfer(d direct.Domain) {
	if !tx.Transfer(d).IsZero() {
		delete(tx.editPeers().transfers, d)
	}
}

// fault says what is wrong with a domain's settings, or nothing.
func (p *peering) fault(t Transfer) string {
	if n := max(len(t.Allow), len(t.Notify), len(t.Primaries)); n > maxTransferPeers {
		return fmt.Sprintf("%d of a kind; at most %d", n, maxTransferPeers)
	}
	for _, name := range t.keys() {
		if _, there := p.key(name); !there {
			return fmt.Sprintf("no TSIG key %.100q; add it first", name)
		}
	}
	for _, r := range t.Allow {
		switch {
		case r.Key == "":
			return "a zone is given to nobody without a key"
		case r.Prefix.IsValid() && r.Prefix != r.Prefix.Masked():
			return fmt.Sprintf("%s has bits beyond its length; it is %s", r.Prefix, r.Prefix.Masked())
		}
	}
	for _, peer := range slices.Concat(t.Notify, t.Primaries) {
		if a := peer.Addr; !a.IsValid() || a.Port() == 0 || a.Addr().IsUnspecified() || a.Addr().IsMulticast() || a.Addr().Is4In6() {
			return fmt.Sprintf("%s is no address and port of a name server", a)
		}
	}
	if slices.ContainsFunc(t.Primaries, func(p TransferPeer) bool { return p.Key == "" }) {
		return "a primary needs a key: without one anybody on the way could change the zone"
	}
	if t.Taken != nil && len(t.Primaries) == 0 {
		return "there is a state of a primary and no primary"
	}
	return ""
}

type transferValue struct {
	Allow     []ruleValue `json:"allow,omitempty"`
	Notify    []peerValue `json:"notify,omitempty"`
	Primaries []peerValue `json:"primaries,omitempty"`
	Taken     *takenValue `json:"taken,omitempty"`
}

type ruleValue struct {
	Key    string `json:"key"`
	Prefix string `json:"prefix,omitempty"`
}

type peerValue struct {
	Addr string `json:"addr"`
	Key  string `json:"key,omitempty"`
}

type takenValue struct {
	Serial uint32    `json:"serial"`
	At     time.Time `json:"at"`
}

func transferKey(d direct.Domain) string { return prefixTransfer + d.String() }

func encodeTransfer(t Transfer) []byte {
	var v transferValue
	for _, r := range t.Allow {
		rule := ruleValue{Key: r.Key}
		if r.Prefix.IsValid() {
			rule.Prefix = r.Prefix.String()
		}
		v.Allow = append(v.Allow, rule)
	}
	peers := func(list []TransferPeer) (values []peerValue) {
		for _, p := range list {
			values = append(values, peerValue{p.Addr.String(), p.Key})
		}
		return values
	}
	v.Notify, v.Primaries = peers(t.Notify), peers(t.Primaries)
	if t.Taken != nil {
		v.Taken = &takenValue{t.Taken.Serial, t.Taken.At.UTC().Truncate(time.Second)}
	}
	return marshal(v)
}

func decodeTransfer(e kv.KV) (d direct.Domain, t Transfer, err error) {
	name := strings.TrimPrefix(e.Key, prefixTransfer)
	if d, err = direct.ParseDomain(name); err != nil {
		return d, t, err
	}
	if d.String() != name {
		return d, t, errors.New("malformed key")
	}
	var v transferValue
	if err := unmarshal(e.Value, &v); err != nil {
		return d, t, err
	}
	for _, r := range v.Allow {
		rule := TransferRule{Key: r.Key}
		if r.Prefix != "" {
			if rule.Prefix, err = netip.ParsePrefix(r.Prefix); err != nil {
				return d, t, err
			}
		}
		t.Allow = append(t.Allow, rule)
	}
	if t.Notify, err = decodePeers(v.Notify); err != nil {
		return d, t, err
	}
	if t.Primaries, err = decodePeers(v.Primaries); err != nil {
		return d, t, err
	}
	if v.Taken != nil {
		t.Taken = &TakenZone{v.Taken.Serial, v.Taken.At}
	}
	if !bytes.Equal(encodeTransfer(t), e.Value) {
		return d, t, errors.New("not as this version writes it")
	}
	return d, t, nil
}

func decodePeers(values []peerValue) (list []TransferPeer, err error) {
	for _, v := range values {
		addr, err := netip.ParseAddrPort(v.Addr)
		if err != nil {
			return nil, err
		}
		list = append(list, TransferPeer{addr, v.Key})
	}
	return list, nil
}
