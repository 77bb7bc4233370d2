package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"directnode/store"
	"directnode/store/kv"
	"directnode/store/kv/memory"
)

var secret = bytes.Repeat([]byte{7}, 32)

// withPeers makes a store with a domain that is transferred both ways.
func withPeers(t testing.TB, db kv.Store) (*store.Store, store.Transfer) {
	t.Helper()
	s := with(t, open(t, db, store.Options{Seal: sealer()}), "direct.example", "other.example")
	want := store.Transfer{
		Allow:     []store.TransferRule{{Key: "ns1.example"}, {Key: "ns2.example", Prefix: netip.MustParsePrefix("192.0.2.0/24")}},
		Notify:    []store.TransferPeer{{Addr: netip.MustParseAddrPort("192.0.2.1:53"), Key: "ns1.example"}, {Addr: netip.MustParseAddrPort("[2001:db8::1]:53")}},
		Primaries: []store.TransferPeer{{Addr: netip.MustParseAddrPort("192.0.2.9:53"), Key: "ns2.example"}},
		Taken:     &store.TakenZone{Serial: 4_000_000_000, At: time.Unix(1_700_000_000, 0).UTC()},
	}
	update(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.AddTSIGKey("NS2.example.", store.HMACSHA512, secret), tx.AddTSIGKey("ns1.example", store.HMACSHA256, secret),
			tx.SetTransfer(domain(t, "direct.example"), want))
	})
	return s, want
}

func TestKeysAndTransfersAreThereAgainAfterAnOpenAndARestore(t *testing.T) {
	db := memory.New(memory.Options{})
	s, want := withPeers(t, db)
	holds := func(s *store.Store) {
		t.Helper()
		v := s.View()
		if got := v.Transfer(domain(t, "direct.example")); !reflect.DeepEqual(got, want) {
			t.Errorf("transfer %+v, want %+v", got, want)
		}
		if len(v.TSIGKeys()) != 2 {
			t.Fatalf("keys %v", v.TSIGKeys())
		}
		for name, algorithm := range map[string]string{"ns1.example": store.HMACSHA256, "ns2.example": store.HMACSHA512} {
			k, ok := v.TSIGKey(name)
			if !ok || k.Algorithm != algorithm || bytes.Contains(k.Sealed, secret) {
				t.Errorf("%s: %+v %v", name, k, ok)
			}
			if got, err := v.TSIGSecret(sealer(), k); err != nil || !bytes.Equal(got, secret) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	holds(s)
	holds(open(t, db, store.Options{Seal: sealer()}))

	var backup bytes.Buffer
	if err := s.Backup(context.Background(), &backup); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(backup.Bytes(), secret) {
		t.Error("a secret stands in the backup")
	}
	restored := newStore(t)
	if err := restored.Restore(context.Background(), bytes.NewReader(backup.Bytes())); err != nil {
		t.Fatal(err)
	}
	holds(restored)

	// Keys that nobody could open must not come from a backup.
	foreign := open(t, memory.New(memory.Options{}), store.Options{Seal: store.NewSealer([32]byte{9})})
	if err := foreign.Restore(context.Background(), bytes.NewReader(backup.Bytes())); !errors.Is(err, store.ErrWrongMasterKey) {
		t.Errorf("restore under another master key: %v", err)
	}
}

func TestWhatCannotBeAKeyIsRefused(t *testing.T) {
	s, _ := withPeers(t, memory.New(memory.Options{}))
	for name, c := range map[string]struct {
		name, algorithm string
		secret          []byte
		want            error
	}{
		"twice":           {"NS1.example", store.HMACSHA256, secret, store.ErrExists},
		"no name":         {"", store.HMACSHA256, secret, store.ErrInvalid},
		"odd name":        {"a/b", store.HMACSHA256, secret, store.ErrInvalid},
		"empty label":     {"a..b", store.HMACSHA256, secret, store.ErrInvalid},
		"long label":      {strings.Repeat("a", 64), store.HMACSHA256, secret, store.ErrInvalid},
		"long name":       {strings.Repeat("a.", 100) + "b", store.HMACSHA256, secret, store.ErrInvalid},
		"old algorithm":   {"new", "hmac-md5.sig-alg.reg.int", secret, store.ErrInvalid},
		"other algorithm": {"new", "hmac-sha384", secret, store.ErrInvalid},
		"short secret":    {"new", store.HMACSHA256, secret[:15], store.ErrInvalid},
		"long secret":     {"new", store.HMACSHA256, bytes.Repeat([]byte{1}, 513), store.ErrInvalid},
	} {
		_, err := s.Update(context.Background(), func(tx *store.Tx) error { return tx.AddTSIGKey(c.name, c.algorithm, c.secret) })
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), string(secret[:15])) {
			t.Errorf("%s: the secret stands in the error", name)
		}
	}
	unsealed := open(t, memory.New(memory.Options{}), store.Options{})
	if _, err := unsealed.Update(context.Background(), func(tx *store.Tx) error { return tx.AddTSIGKey("a", store.HMACSHA256, secret) }); !errors.Is(err, store.ErrNoMasterKey) {
		t.Errorf("without a master key: %v", err)
	}
}

func TestAKeyInUseStaysAndOneThatIsNotGoes(t *testing.T) {
	s, _ := withPeers(t, memory.New(memory.Options{}))
	remove := func(name string) error {
		_, err := s.Update(context.Background(), func(tx *store.Tx) error { return tx.RemoveTSIGKey(name) })
		return err
	}
	if err := remove("ns1.example"); !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), "direct.example") {
		t.Errorf("in use: %v", err)
	}
	if err := remove("ns3.example"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("absent: %v", err)
	}
	before := s.View()
	v := update(t, s, func(tx *store.Tx) error { return tx.RemoveDomain(domain(t, "direct.example")) })
	if !v.Transfer(domain(t, "direct.example")).IsZero() {
		t.Error("the transfers of a removed domain are still there")
	}
	if v.SamePeers(before) {
		t.Error("the views share what differs")
	}
	for _, name := range []string{"ns1.example", "ns2.example"} {
		if err := remove(name); err != nil {
			t.Error(err)
		}
	}
}

func TestATransferOfTheDomainLeavesItsDataAlone(t *testing.T) {
	s, _ := withPeers(t, memory.New(memory.Options{}))
	d := domain(t, "direct.example")
	before := s.View()
	v := update(t, s, func(tx *store.Tx) error { return tx.SetTransfer(d, store.Transfer{}) })
	if v.Domain(d) != before.Domain(d) {
		t.Error("the zone would be built anew")
	}
	if v.Rev == before.Rev {
		t.Error("nothing was committed")
	}
}

func TestATransferThatCannotBeIsRefused(t *testing.T) {
	s, _ := withPeers(t, memory.New(memory.Options{}))
	addr := func(s string) []store.TransferPeer {
		return []store.TransferPeer{{Addr: netip.MustParseAddrPort(s), Key: "ns1.example"}}
	}
	var many []store.TransferPeer
	for i := range 65 {
		many = append(many, addr(fmt.Sprintf("192.0.2.%d:53", i))...)
	}
	for name, c := range map[string]store.Transfer{
		"unknown key":         {Allow: []store.TransferRule{{Key: "ns3.example"}}},
		"no key":              {Allow: []store.TransferRule{{}}},
		"prefix":              {Allow: []store.TransferRule{{Key: "ns1.example", Prefix: netip.MustParsePrefix("192.0.2.1/24")}}},
		"unspecified":         {Notify: addr("0.0.0.0:53")},
		"multicast":           {Notify: addr("[ff02::1]:53")},
		"mapped":              {Notify: addr("[::ffff:192.0.2.1]:53")},
		"port 0":              {Notify: addr("192.0.2.1:0")},
		"primary without key": {Primaries: []store.TransferPeer{{Addr: netip.MustParseAddrPort("192.0.2.1:53")}}},
		"too many":            {Notify: many},
		"state of nobody":     {Taken: &store.TakenZone{}},
	} {
		_, err := s.Update(context.Background(), func(tx *store.Tx) error { return tx.SetTransfer(domain(t, "direct.example"), c) })
		if !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.Update(context.Background(), func(tx *store.Tx) error {
		return tx.SetTransfer(domain(t, "foreign.example"), store.Transfer{})
	}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("foreign domain: %v", err)
	}
}

func TestCheckFindsDamagedKeysAndTransfers(t *testing.T) {
	for name, c := range map[string]struct{ key, value string }{
		"secret altered":  {"tsig/ns1.example", `{"algorithm":"hmac-sha256","created":"2026-01-01T00:00:00Z","sealed":"AAAA"}`},
		"key of a zone":   {"transfer/other.example", `{"allow":[{"key":"nobody"}]}`},
		"no such domain":  {"transfer/no.example", `{}`},
		"malformed":       {"transfer/other.example", `{"allow":[{"key":"ns1.example","prefix":"x"}]}`},
		"other algorithm": {"tsig/x", `{"algorithm":"hmac-sha1","created":"2026-01-01T00:00:00Z","sealed":"AAAA"}`},
	} {
		db := memory.New(memory.Options{})
		s, err := store.Open(context.Background(), db, store.Options{Seal: sealer()})
		if err != nil {
			t.Fatal(err)
		}
		with(t, s, "direct.example", "other.example")
		update(t, s, func(tx *store.Tx) error { return tx.AddTSIGKey("ns1.example", store.HMACSHA256, secret) })
		if _, err := db.Txn(context.Background(), nil, []kv.Op{{Kind: kv.Put, Key: c.key, Value: []byte(c.value)}}); err != nil {
			t.Fatal(err)
		}
		problems, err := s.Check(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, p := range problems {
			found = found || p.Object == c.key
		}
		if !found {
			t.Errorf("%s: %v", name, problems)
		}
	}
}
