package admin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"directnode/internal/direct"
	"directnode/store"
	"directnode/zones"
)

// TransferRequest sets what a domain has to do with other name servers. A list
// that is nil stays; an empty one empties it.
type TransferRequest struct {
	Domain    string    `json:"domain"`
	Allow     *[]string `json:"allow,omitempty"`     // KEY or KEY@PREFIX: who may have the zone
	Notify    *[]string `json:"notify,omitempty"`    // ADDRESS[:PORT][=KEY]: who is told of changes
	Primaries *[]string `json:"primaries,omitempty"` // ADDRESS[:PORT]=KEY: where the records come from
}

// Transfer is what a domain has to do with other name servers.
type Transfer struct {
	Allow     []string   `json:"allow"`
	Notify    []string   `json:"notify"`
	Primaries []string   `json:"primaries"`
	Secondary *Secondary `json:"secondary,omitempty"` // with primaries
}

// Secondary is how a domain follows its primaries.
type Secondary struct {
	State   string     `json:"state"`             // waiting (nothing taken yet), current, stale (the last attempt failed), expired
	Serial  *uint32    `json:"serial,omitempty"`  // the primary's, of what was taken last
	Checked *time.Time `json:"checked,omitempty"` // when the primary last said that it is so
	Next    *time.Time `json:"next,omitempty"`    // when it is asked again
	Expires *time.Time `json:"expires,omitempty"` // when the zone is no longer answered, if the primary stays silent
	Error   string     `json:"error,omitempty"`   // of the last attempt
}

// SetTransfer changes a domain's settings in one change.
func (s *Service) SetTransfer(ctx context.Context, req TransferRequest) (Domain, error) {
	_, data, err := s.domainData(req.Domain)
	if err != nil {
		return Domain{}, err
	}
	const what = "the transfers were not changed"
	usage := func(err error, do string) error { return &Error{"DN-TRANSFER-001", CodeUsage, what, err.Error(), do} }
	var allow []store.TransferRule
	var notify, primaries []store.TransferPeer
	if req.Allow != nil {
		if allow, err = parseRules(*req.Allow); err != nil {
			return Domain{}, usage(err, "write KEY or KEY@PREFIX, such as ns2.example.org@192.0.2.0/24")
		}
	}
	if req.Notify != nil {
		if notify, err = parsePeers(*req.Notify); err != nil {
			return Domain{}, usage(err, "write ADDRESS, ADDRESS:PORT or ADDRESS:PORT=KEY, such as 192.0.2.1=ns2.example.org or [2001:db8::1]:53")
		}
	}
	if req.Primaries != nil {
		if primaries, err = parsePeers(*req.Primaries); err != nil {
			return Domain{}, usage(err, "write ADDRESS=KEY or ADDRESS:PORT=KEY, such as 192.0.2.1:53=owner.example.org")
		}
	}
	_, err = s.store.Update(ctx, func(tx *store.Tx) error {
		t := tx.Transfer(data.Domain)
		if req.Allow != nil {
			t.Allow = allow
		}
		if req.Notify != nil {
			t.Notify = notify
		}
		if req.Primaries != nil && !slices.Equal(t.Primaries, primaries) {
			t.Primaries, t.Taken = primaries, nil // another server's versions mean other things
		}
		return tx.SetTransfer(data.Domain, t)
	})
	if err != nil {
		return Domain{}, storeFailure(what, err)
	}
	return s.ShowDomain(ctx, DomainRequest{Domain: req.Domain})
}

func parseRules(list []string) (rules []store.TransferRule, err error) {
	for _, text := range list {
		key, prefix, narrowed := strings.Cut(text, "@")
		r := store.TransferRule{Key: strings.TrimSuffix(strings.ToLower(key), ".")}
		if narrowed {
			if a, aerr := netip.ParseAddr(prefix); aerr == nil {
				r.Prefix = netip.PrefixFrom(a, a.BitLen())
			} else if r.Prefix, err = netip.ParsePrefix(prefix); err != nil {
				return nil, fmt.Errorf("%q is no network", prefix)
			}
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// dnsPort is where name servers listen (RFC 1035 §4.2).
const dnsPort = 53

func parsePeers(list []string) (peers []store.TransferPeer, err error) {
	for _, text := range list {
		addr, key, _ := strings.Cut(text, "=")
		p := store.TransferPeer{Key: strings.TrimSuffix(strings.ToLower(key), ".")}
		if a, aerr := netip.ParseAddr(strings.Trim(addr, "[]")); aerr == nil {
			p.Addr = netip.AddrPortFrom(a, dnsPort)
		} else if p.Addr, err = netip.ParseAddrPort(addr); err != nil {
			return nil, fmt.Errorf("%q is no IP address", addr)
		}
		peers = append(peers, p)
	}
	return peers, nil
}

// shownTransfer is nil for a domain that has nothing to do with other servers.
func (s *Service) shownTransfer(v *store.View, d direct.Domain) *Transfer {
	t := v.Transfer(d)
	if t.IsZero() {
		return nil
	}
	show := &Transfer{Allow: []string{}, Notify: []string{}, Primaries: []string{}}
	for _, r := range t.Allow {
		text := r.Key
		if r.Prefix.IsValid() {
			text += "@" + r.Prefix.String()
		}
		show.Allow = append(show.Allow, text)
	}
	peers := func(list []store.TransferPeer) []string {
		texts := []string{}
		for _, p := range list {
			text := p.Addr.String()
			if p.Key != "" {
				text += "=" + p.Key
			}
			texts = append(texts, text)
		}
		return texts
	}
	show.Notify, show.Primaries = peers(t.Notify), peers(t.Primaries)
	if len(t.Primaries) > 0 {
		show.Secondary = &Secondary{State: "waiting"}
		if s.o.Secondary != nil {
			*show.Secondary = s.o.Secondary(d)
		}
	}
	return show
}

// ErrMeanwhile: what a zone was fetched for has changed while it was fetched.
var ErrMeanwhile = errors.New("the domain's primaries were changed meanwhile")

// TakeZone makes what a primary sent the records of a domain, in one change.
// was is what the domain had before of that primary. Errors that the primary's
// data deserves are *store.Refusal or wrap store.ErrUnservable, with the name
// that is at fault; the domain then stays as it is.
func (s *Service) TakeZone(ctx context.Context, d direct.Domain, was store.Transfer, in *zones.Incoming, at time.Time) error {
	_, err := s.store.Update(ctx, func(tx *store.Tx) error {
		t := tx.Transfer(d)
		if !slices.Equal(t.Primaries, was.Primaries) || (t.Taken == nil) != (was.Taken == nil) || t.Taken != nil && t.Taken.Serial != was.Taken.Serial {
			return ErrMeanwhile
		}
		if in != nil {
			records, err := in.Apply(tx.Domain(d).Records)
			if err != nil {
				return fmt.Errorf("%w: %w", ErrSteps, err)
			}
			if err := tx.SetRecords(d, records); err != nil {
				return err
			}
			t.Taken = &store.TakenZone{Serial: in.Serial()}
		}
		if t.Taken == nil {
			return ErrMeanwhile
		}
		t.Taken = &store.TakenZone{Serial: t.Taken.Serial, At: at.UTC().Truncate(time.Second)}
		return tx.SetTransfer(d, t)
	})
	return err
}

// ErrSteps: changes that do not fit what is here; all of the zone is needed.
var ErrSteps = errors.New("the primary's changes do not fit")

// follows tells the primaries of a domain whose records are not edited here.
func follows(t store.Transfer) error {
	if len(t.Primaries) == 0 {
		return nil
	}
	return &Error{"DN-TRANSFER-002", CodeFailed, "nothing was changed", "the domain's records come from its primary " + t.Primaries[0].Addr.String() + ", and the next transfer would undo the change",
		"change them there, or let the domain go its own way with `directctl domain primary DOMAIN --none`"}
}
