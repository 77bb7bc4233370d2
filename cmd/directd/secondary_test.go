package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"directnode/internal/admin"
	"directnode/internal/direct"
	"directnode/internal/testnode"
	"directnode/internal/testpki"
	"directnode/store"
)

// pair is a primary and a node that follows it.
func pair(t *testing.T) (primary, secondary *peerNode) {
	t.Helper()
	primary, secondary = newPeerNode(t), newPeerNode(t)
	const name = "pair.example"
	secret := primary.key(name, "hmac-sha512")
	if _, err := secondary.admin.AddTSIGKey(t.Context(), admin.TSIGRequest{Name: name, Algorithm: "hmac-sha512", Secret: secret}); err != nil {
		t.Fatal(err)
	}
	primary.set(admin.TransferRequest{Allow: &[]string{name + "@127.0.0.1"}, Notify: &[]string{secondary.addr.String() + "=" + name}})
	secondary.set(admin.TransferRequest{Primaries: &[]string{primary.addr.String() + "=" + name}})
	secondary.eventually("the first transfer", func(s *admin.Secondary) bool { return s.State == "current" && *s.Serial == primary.serial() })
	return primary, secondary
}

// eventually waits for a state of the domain's secondary.
func (n *peerNode) eventually(what string, holds func(*admin.Secondary) bool) {
	n.t.Helper()
	testnode.Eventually(n.t, what, func() bool { return holds(n.show()) })
}

func (n *peerNode) show() *admin.Secondary {
	n.t.Helper()
	d, err := n.admin.ShowDomain(n.t.Context(), admin.DomainRequest{Domain: peerZone})
	if err != nil {
		n.t.Fatal(err)
	}
	return d.Transfer.Secondary
}

// leaf is a certificate of a user, in PEM; another one for another serial number.
func leaf(t *testing.T, user string, serial int64) []byte {
	l := testpki.New(t).Root("Root").Leaf(user, testpki.Address(user+"@"+peerZone), testpki.Serial(serial))
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: l.DER})
}

func (n *peerNode) importCert(pemText []byte) (admin.ImportResult, error) {
	return n.admin.ImportCertificates(n.t.Context(), admin.ImportRequest{Files: []admin.File{{Name: "c.pem", Data: pemText}}})
}

func (n *peerNode) ask(name string, qtype uint16) *dns.Msg {
	n.t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name+"."+peerZone+".", qtype)
	r, _, err := (&dns.Client{Net: "tcp", Timeout: 5 * time.Second}).Exchange(m, n.addr.String())
	if err != nil {
		n.t.Fatal(err)
	}
	return r
}

// TestAZoneOfTwoPublishersIsMergedAndConflictsAreRefusedByName: the owner's
// certificates are answered beside ours, and where both have a say the whole
// transfer is refused and the old data stays.
func TestAZoneOfTwoPublishersIsMergedAndConflictsAreRefusedByName(t *testing.T) {
	primary, secondary := pair(t)
	if _, err := secondary.importCert(leaf(t, "bob", 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := primary.importCert(leaf(t, "carol", 1)); err != nil {
		t.Fatal(err)
	}
	secondary.eventually("carol's certificate", func(s *admin.Secondary) bool { return *s.Serial == primary.serial() })
	for _, who := range []string{"bob", "carol"} {
		if r := secondary.ask(who, dns.TypeCERT); len(r.Answer) != 1 {
			t.Errorf("%s: %s", who, r)
		}
	}
	// Our certificate where the owner publishes one.
	if res, err := secondary.importCert(leaf(t, "carol", 2)); err == nil || !strings.Contains(err.Error(), "carol."+peerZone) {
		t.Errorf("a certificate at the owner's name: %+v %v", res, err)
	}
	// The owner's certificate where we publish one.
	before := *secondary.show().Serial
	if _, err := primary.importCert(leaf(t, "bob", 2)); err != nil {
		t.Fatal(err)
	}
	secondary.eventually("the conflict", func(s *admin.Secondary) bool { return s.State == "stale" && strings.Contains(s.Error, "bob."+peerZone) })
	if s := secondary.show(); *s.Serial != before {
		t.Errorf("serial %d was taken, with a conflict", *s.Serial)
	}
	if r := secondary.ask("bob", dns.TypeCERT); len(r.Answer) != 1 {
		t.Errorf("bob: %s", r)
	}
	if !strings.Contains(secondary.kinds.String(), "bob."+peerZone) {
		t.Errorf("the log does not name it:\n%s", secondary.kinds)
	}
}

func TestRecordsOfASecondaryAreNotEditedHere(t *testing.T) {
	_, secondary := pair(t)
	_, err := secondary.admin.ImportZone(t.Context(), admin.ImportRequest{Origin: peerZone, Files: []admin.File{{Name: "zone", Data: []byte("@ 60 TXT x\n")}}})
	var refusal *admin.Error
	if !errors.As(err, &refusal) || refusal.ID != "DN-TRANSFER-002" {
		t.Errorf("a zone import: %v", err)
	}
	secondary.set(admin.TransferRequest{Primaries: &[]string{}})
	if _, err := secondary.admin.ImportZone(t.Context(), admin.ImportRequest{Origin: peerZone, Files: []admin.File{{Name: "zone", Data: []byte("@ 60 TXT x\n")}}}); err != nil {
		t.Errorf("after --none: %v", err)
	}
}

// TestAZoneWhosePrimaryIsSilentExpires and is answered again when it speaks.
func TestAZoneWhosePrimaryIsSilentExpires(t *testing.T) {
	_, secondary := pair(t)
	d, err := direct.ParseDomain(peerZone)
	if err != nil {
		t.Fatal(err)
	}
	secondary.peering.mu.Lock()
	f := secondary.peering.followers[d]
	secondary.peering.mu.Unlock()
	testnode.Eventually(t, "the settings with what was taken", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.transfer.Taken != nil
	})
	_, _, expire := f.timers()
	now := time.Now()
	f.expireBy(now.Add(expire - time.Minute))
	if r := secondary.ask("ns", dns.TypeSOA); r.Rcode == dns.RcodeServerFailure {
		t.Error("it expires before its time")
	}
	f.expireBy(now.Add(expire + time.Minute))
	if r := secondary.ask("node", dns.TypeA); r.Rcode != dns.RcodeServerFailure || len(r.Answer)+len(r.Ns) > 0 {
		t.Errorf("expired: %s", r)
	}
	if s := secondary.show(); s.State != "expired" {
		t.Errorf("state %s", s.State)
	}
	// A certificate that changes meanwhile does not bring it back.
	if _, err := secondary.importCert(leaf(t, "bob", 1)); err != nil {
		t.Fatal(err)
	}
	if r := secondary.ask("bob", dns.TypeCERT); r.Rcode != dns.RcodeServerFailure {
		t.Errorf("after a change: %s", r)
	}
	f.plan(nil, now.Add(expire+2*time.Minute))
	f.expireBy(now.Add(expire + 2*time.Minute))
	if r := secondary.ask("bob", dns.TypeCERT); len(r.Answer) != 1 {
		t.Errorf("answered again: %s", r)
	}
}

// TestTheTimersOfAPrimaryAreBounded crosses each bound.
func TestTheTimersOfAPrimaryAreBounded(t *testing.T) {
	primary, secondary := pair(t)
	d, err := direct.ParseDomain(peerZone)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		soa                    string
		refresh, retry, expire time.Duration
	}{
		{"1 1 1", minRefresh, minRetry, minExpire},
		{"4000000 4000000 4000000", maxRefresh, maxRetry, 4_000_000 * time.Second},
		{"7200 900 86400", 2 * time.Hour, 15 * time.Minute, 24 * time.Hour},
	} {
		text := fmt.Appendf(nil, "$TTL 60\n@ SOA ns h %d %s 60\n@ NS ns\nns A 127.0.0.1\n", i, c.soa)
		if _, err := primary.admin.ImportZone(t.Context(), admin.ImportRequest{Origin: peerZone, Files: []admin.File{{Name: "zone", Data: text}}}); err != nil {
			t.Fatal(err)
		}
		secondary.eventually("the new SOA", func(s *admin.Secondary) bool { return *s.Serial == primary.serial() })
		f := &follower{node: secondary.node, domain: d}
		if refresh, retry, expire := f.timers(); refresh != c.refresh || retry != c.retry || expire != c.expire {
			t.Errorf("%s: %v %v %v", c.soa, refresh, retry, expire)
		}
	}
}

// followerOf is what follows the primaries of the domain of the tests.
func (n *peerNode) followerOf() *follower {
	n.t.Helper()
	d, err := direct.ParseDomain(peerZone)
	if err != nil {
		n.t.Fatal(err)
	}
	n.peering.mu.Lock()
	defer n.peering.mu.Unlock()
	return n.peering.followers[d]
}

// TestAFollowerThatWasStoppedExpiresNothing: a check that ends after the domain
// went its own way says nothing about it any more.
func TestAFollowerThatWasStoppedExpiresNothing(t *testing.T) {
	_, secondary := pair(t)
	f := secondary.followerOf()
	testnode.Eventually(t, "the settings with what was taken", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.transfer.Taken != nil
	})
	secondary.set(admin.TransferRequest{Primaries: &[]string{}})
	testnode.Eventually(t, "the end of the follower", func() bool { return secondary.followerOf() == nil })
	_, _, expire := f.timers()
	f.expireBy(time.Now().Add(expire + time.Minute))
	if r := secondary.ask("node", dns.TypeA); r.Rcode == dns.RcodeServerFailure {
		t.Errorf("a domain that follows nobody has expired:\n%s", r)
	}
}

// TestPrimariesThatWereSetAnewAreAskedAtOnce: a domain that went its own way for
// a moment, too short for the follower to end, has nothing of its primary.
func TestPrimariesThatWereSetAnewAreAskedAtOnce(t *testing.T) {
	f := &follower{wake: make(chan struct{}, 1), transfer: store.Transfer{
		Primaries: []store.TransferPeer{{Key: "k"}}, Taken: &store.TakenZone{Serial: 1}}}
	woken := func() bool { return len(f.wake) > 0 }
	t1 := f.transfer
	t1.Taken = &store.TakenZone{Serial: 2}
	f.settings(t1)
	if woken() {
		t.Error("what was taken wakes the follower that took it")
	}
	t1.Taken = nil
	f.settings(t1)
	if !woken() {
		t.Error("nothing was taken, and nobody is asked")
	}
}

// TestFewZonesAreTakenAtATime: one of each primary, and no more than a few of
// all; who waits is cut off with its check.
func TestFewZonesAreTakenAtATime(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	all := newTaking()
	var turns []*turn
	for i := range maxTaking {
		first := all.turn(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
		if err := first.begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := first.begin(ended); err != nil {
			t.Errorf("whose turn it is waits again: %v", err)
		}
		turns = append(turns, first)
	}
	other := all.turn(netip.MustParseAddr("2001:db8::1"))
	if err := other.begin(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("one more than %d: %v", maxTaking, err)
	}
	other.end()
	turns[0].end()
	second := all.turn(netip.AddrFrom4([4]byte{192, 0, 2, 1}))
	if err := second.begin(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("two of one primary: %v", err)
	}
	if err := other.begin(t.Context()); err != nil {
		t.Error(err)
	}
	for _, x := range append(turns, other, second) {
		x.end()
	}
	if len(all.all) != 0 {
		t.Errorf("%d turns are not given back", len(all.all))
	}
}

// TestAPrimaryIsAskedForItsVersionOutOfTurn: zones that are taken slowly hold up
// no check of whether others have changed.
func TestAPrimaryIsAskedForItsVersionOutOfTurn(t *testing.T) {
	primary, secondary := pair(t)
	for i := range maxTaking {
		busy := secondary.peering.taking.turn(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
		if err := busy.begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer busy.end()
	}
	f := secondary.followerOf()
	if err := f.check(t.Context()); err != nil {
		t.Errorf("nothing changed: %v", err)
	}
	before := *secondary.show().Serial
	if _, err := primary.importCert(leaf(t, "dave", 1)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := f.check(ctx); !errors.Is(err, context.DeadlineExceeded) || *secondary.show().Serial != before {
		t.Errorf("taken out of turn: %v", err)
	}
}
