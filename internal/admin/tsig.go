package admin

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"directnode/store"
)

// TSIGRequest names a key that is shared with other name servers.
type TSIGRequest struct {
	Name      string `json:"name"`
	Algorithm string `json:"algorithm,omitempty"` // add: hmac-sha256 (the default) or hmac-sha512
	Secret    string `json:"secret,omitempty"`    // add: Base64; empty: a new one is made
	Show      bool   `json:"show,omitempty"`      // show: with the secret
}

// TSIGKey is a key that is shared with other name servers.
type TSIGKey struct {
	Name      string    `json:"name"`
	Algorithm string    `json:"algorithm"`
	Created   time.Time `json:"created"`
	Domains   []string  `json:"domains"`          // that are transferred with it
	Secret    string    `json:"secret,omitempty"` // show: Base64
}

// AddTSIGKey keeps a key for transfers and notifies (RFC 8945). Without a secret
// it makes one as long as the hash.
func (s *Service) AddTSIGKey(ctx context.Context, req TSIGRequest) (TSIGKey, error) {
	const what = "the TSIG key was not added"
	algorithm := cmp.Or(req.Algorithm, store.HMACSHA256)
	secret := make([]byte, 32)
	if algorithm == store.HMACSHA512 {
		secret = make([]byte, 64)
	}
	rand.Read(secret) // never fails; see crypto/rand
	if text := strings.Join(strings.Fields(req.Secret), ""); text != "" {
		given, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			// The text is the secret: nothing of it is shown.
			return TSIGKey{}, &Error{"DN-TSIG-001", CodeUsage, what, "the secret is not Base64", "give a file that holds the secret alone, as it stands between the quotes of the other server's configuration"}
		}
		secret = given
	}
	defer clear(secret)
	_, err := s.store.Update(ctx, func(tx *store.Tx) error { return tx.AddTSIGKey(req.Name, algorithm, secret) })
	if err != nil {
		return TSIGKey{}, storeFailure(what, err)
	}
	return s.ShowTSIGKey(ctx, TSIGRequest{Name: req.Name})
}

// ListTSIGKeys gives all keys, without secrets.
func (s *Service) ListTSIGKeys(context.Context, struct{}) ([]TSIGKey, error) {
	v := s.store.View()
	list := []TSIGKey{}
	for _, k := range v.TSIGKeys() {
		list = append(list, shownKey(v, k))
	}
	return list, nil
}

func shownKey(v *store.View, k store.TSIGKey) TSIGKey {
	show := TSIGKey{Name: k.Name, Algorithm: k.Algorithm, Created: k.Created, Domains: []string{}}
	for _, d := range v.Domains() {
		if v.Transfer(d).Uses(k.Name) {
			show.Domains = append(show.Domains, d.String())
		}
	}
	return show
}

// ShowTSIGKey gives one key, with its secret if that is asked for: the other
// server needs it.
func (s *Service) ShowTSIGKey(_ context.Context, req TSIGRequest) (TSIGKey, error) {
	v := s.store.View()
	name := strings.TrimSuffix(strings.ToLower(req.Name), ".")
	k, ok := v.TSIGKey(name)
	if !ok {
		return TSIGKey{}, &Error{"DN-TSIG-002", CodeFailed, "nothing is shown", fmt.Sprintf("there is no TSIG key %.100q", req.Name), "`directctl tsig list` shows those there are"}
	}
	show := shownKey(v, k)
	if req.Show {
		secret, err := s.store.TSIGSecret(k)
		if err != nil {
			return TSIGKey{}, storeFailure("the secret is not shown", err)
		}
		show.Secret = base64.StdEncoding.EncodeToString(secret)
		s.o.Log.Info("the secret of a TSIG key was shown", "key", k.Name)
	}
	return show, nil
}

// RemoveTSIGKey removes a key that no domain uses.
func (s *Service) RemoveTSIGKey(ctx context.Context, req TSIGRequest) (Done, error) {
	name := strings.TrimSuffix(strings.ToLower(req.Name), ".")
	if _, err := s.store.Update(ctx, func(tx *store.Tx) error { return tx.RemoveTSIGKey(name) }); err != nil {
		return Done{}, storeFailure("the TSIG key was not removed", err)
	}
	return Done{"TSIG key " + name + " removed"}, nil
}
