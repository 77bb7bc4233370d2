package zones_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"directnode/internal/direct"
	"directnode/store"
	"directnode/zones"
)

var rollKey = store.NewSealer([32]byte{3})

func newKey(t testing.TB, d direct.Domain, role store.KeyRole) store.DNSKey {
	t.Helper()
	k, err := rollKey.NewDNSKey(d, store.AlgorithmECDSA, role)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// version is something that caches could have learned, and until when.
type version struct {
	rrs  []dns.RR // with its signatures
	text string
	last time.Time
}

// learned is all versions of one thing, oldest first.
type learned []*version

// publish notes that a thing is published at a time.
func (l *learned) publish(rrs []dns.RR, at time.Time) {
	text := fmt.Sprint(rrs)
	if n := len(*l); n > 0 && (*l)[n-1].text == text {
		(*l)[n-1].last = at
		return
	}
	*l = append(*l, &version{rrs, text, at})
}

// cached yields the versions that a cache may still have.
func (l learned) cached(at time.Time, ttl time.Duration) (list []*version) {
	for _, v := range l {
		if at.Sub(v.last) <= ttl {
			list = append(list, v)
		}
	}
	return list
}

// world is a zone, its parent and every cache that there could be.
type world struct {
	t       *testing.T
	d       direct.Domain
	is      *store.Signing
	at      time.Time
	ds      []dns.RR // at the parent
	dataTTL uint32

	parent, keys, data learned
	checked            map[[2]*version]bool
}

// tick publishes and lets caches learn, then moves on.
func (w *world) tick(step time.Duration) {
	w.t.Helper()
	w.is = zones.Advance(w.is, w.at)
	w.parent.publish(w.ds, w.at)
	if w.is == nil {
		w.keys.publish(nil, w.at)
		w.data.publish(nil, w.at)
	} else {
		p := parse(w.t, fmt.Sprintf("$TTL %d\n@ SOA ns hostmaster 1 3600 600 86400 300\n@ NS ns\nns A 192.0.2.1\n", w.dataTTL), w.d.String())
		p.Signing = w.is
		s, err := zones.BuildParsed(1, zones.Options{Seal: rollKey}, p)
		if err != nil {
			w.t.Fatal(err)
		}
		w.keys.publish(signedSet(w.t, s.Zone(w.d), w.d.DNSName(), dns.TypeDNSKEY, w.at), w.at)
		w.data.publish(signedSet(w.t, s.Zone(w.d), "ns."+w.d.DNSName(), dns.TypeA, w.at), w.at)
	}
	w.validate()
	w.at = w.at.Add(step)
}

// signedSet is an RRset with its signatures, as an answer has them.
func signedSet(t testing.TB, z *zones.Zone, name string, rrtype uint16, at time.Time) []dns.RR {
	t.Helper()
	n := wire(t, name)
	var set *zones.RRset
	z.All(func(owner zones.Name, s *zones.RRset) bool {
		if string(owner) == string(n) && s.Type == rrtype {
			set = s
		}
		return set == nil
	})
	if set == nil {
		t.Fatalf("no %s %s", name, dns.TypeToString[rrtype])
	}
	return records(t, z.Signer(), n, set, at)
}

// records signs an RRset and reads all of it back.
func records(t testing.TB, signer *zones.Signer, name []byte, set *zones.RRset, at time.Time) []dns.RR {
	t.Helper()
	if err := signer.Sign(name, set, zones.Data, at); err != nil {
		t.Fatal(err)
	}
	b := set.Append(nil, name)
	b, ok := signer.Append(b, name, name, set, zones.Data, at)
	if !ok {
		t.Fatal("a signature that was made is not in memory")
	}
	var rrs []dns.RR
	for off := 0; off < len(b); {
		rr, next, err := dns.UnpackRR(b, off)
		if err != nil {
			t.Fatal(err)
		}
		rrs, off = append(rrs, rr), next
	}
	return rrs
}

// validate holds everything that a cache may still have against everything else
// that one may have.
func (w *world) validate() {
	w.t.Helper()
	for _, ds := range w.parent.cached(w.at, dsTTL) {
		if len(ds.rrs) == 0 {
			continue // insecure: nothing is validated
		}
		for _, k := range w.keys.cached(w.at, time.Hour) {
			keys, set := keysOf(k.rrs)
			if !w.once(ds, k, func() bool { return trusted(ds.rrs, keys, set, k.rrs, w.at) }) {
				w.t.Fatalf("%v: the DS\n%s\ndoes not lead to the keys\n%s", w.at, ds.text, k.text)
			}
			for _, x := range w.data.cached(w.at, time.Duration(w.dataTTL)*time.Second) {
				if !w.once(k, x, func() bool { return verified(x.rrs, keys, w.at) }) {
					w.t.Fatalf("%v: the keys\n%s\ndo not verify the data\n%s", w.at, k.text, x.text)
				}
			}
		}
	}
}

// once checks a pair of versions the first time that it is met.
func (w *world) once(a, b *version, check func() bool) bool {
	if w.checked == nil {
		w.checked = map[[2]*version]bool{}
	}
	pair := [2]*version{a, b}
	if _, known := w.checked[pair]; !known {
		w.checked[pair] = check()
	}
	return w.checked[pair]
}

const dsTTL = 24 * time.Hour

func keysOf(rrs []dns.RR) (keys []*dns.DNSKEY, set []dns.RR) {
	for _, rr := range rrs {
		if k, ok := rr.(*dns.DNSKEY); ok {
			keys, set = append(keys, k), append(set, rr)
		}
	}
	return keys, set
}

// trusted tells whether one of the DS leads to a key that signs the keys.
func trusted(ds []dns.RR, keys []*dns.DNSKEY, set, rrs []dns.RR, at time.Time) bool {
	for _, rr := range ds {
		d := rr.(*dns.DS)
		for _, k := range keys {
			if k.KeyTag() != d.KeyTag || !strings.EqualFold(k.ToDS(dns.SHA256).Digest, d.Digest) {
				continue
			}
			for _, rr := range rrs {
				if sig, ok := rr.(*dns.RRSIG); ok && sig.KeyTag == k.KeyTag() && sig.ValidityPeriod(at) && sig.Verify(k, set) == nil {
					return true
				}
			}
		}
	}
	return false
}

// verified tells whether one of the signatures is of one of the keys.
func verified(rrs []dns.RR, keys []*dns.DNSKEY, at time.Time) bool {
	var set []dns.RR
	var sigs []*dns.RRSIG
	for _, rr := range rrs {
		if sig, ok := rr.(*dns.RRSIG); ok {
			sigs = append(sigs, sig)
		} else {
			set = append(set, rr)
		}
	}
	for _, sig := range sigs {
		for _, k := range keys {
			if sig.KeyTag == k.KeyTag() && sig.ValidityPeriod(at) && sig.Verify(k, set) == nil {
				return true
			}
		}
	}
	return false
}

// handOver puts the DS that the zone wants at the parent.
func (w *world) handOver() {
	w.t.Helper()
	w.ds = nil
	for _, line := range zones.DS(w.d, w.is) {
		rr, err := dns.NewRR(line)
		if err != nil {
			w.t.Fatal(err)
		}
		w.ds = append(w.ds, rr)
	}
	if len(w.ds) == 0 {
		w.t.Fatalf("%v: no DS to hand over", w.at)
	}
}

func (w *world) seen() {
	w.t.Helper()
	next, err := zones.DSSeen(w.is, dsTTL, w.at)
	if err != nil {
		w.t.Fatalf("%v: %v", w.at, err)
	}
	w.is = next
}

func (w *world) roll(role store.KeyRole) {
	w.t.Helper()
	next, err := zones.Roll(w.is, newKey(w.t, w.d, role), w.at)
	if err != nil {
		w.t.Fatalf("%v: %v", w.at, err)
	}
	w.is = next
}

// run ticks until a condition holds.
func (w *world) run(until func() bool) {
	w.t.Helper()
	for range 400 {
		w.tick(27 * time.Minute)
		if w.is == nil || until() {
			return
		}
	}
	w.t.Fatalf("never: %+v", w.is)
}

func (w *world) has(states ...string) func() bool {
	return func() bool {
		var got []string
		for _, k := range w.is.Keys {
			got = append(got, string(k.Role)+" "+string(k.State))
		}
		return strings.Join(got, ", ") == strings.Join(states, ", ")
	}
}

// newWorld is a domain that was signed just now.
func newWorld(t *testing.T, split bool, ttl uint32) *world {
	d := domain(t, "roll.example")
	roles := []store.KeyRole{store.RoleCSK}
	if split {
		roles = []store.KeyRole{store.RoleKSK, store.RoleZSK}
	}
	var keys []store.DNSKey
	for _, r := range roles {
		keys = append(keys, newKey(t, d, r))
	}
	at := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	return &world{t: t, d: d, at: at, dataTTL: ttl, is: zones.StartSigning(store.AlgorithmECDSA, store.DenialCompact, keys, ttl, at)}
}

// TestARollNeverBreaksTheChain goes through the lives of keys and lets every
// cache combine whatever it may have: each DS, DNSKEY RRset and RRset of data
// that was published within its TTL.
func TestARollNeverBreaksTheChain(t *testing.T) {
	for _, ttl := range []uint32{300, 2 * 86400} {
		t.Run(fmt.Sprintf("csk-%d", ttl), func(t *testing.T) {
			w := newWorld(t, false, ttl)
			w.run(w.has("csk ready"))
			w.handOver()
			w.tick(time.Minute)
			w.seen()
			w.roll(store.RoleCSK)
			w.run(w.has("csk active", "csk ready"))
			w.run(func() bool { return w.at.Sub(w.is.Keys[1].Since) > 5*time.Hour })
			w.handOver()
			w.tick(10 * time.Minute)
			w.seen()
			w.run(w.has("csk active"))
			w.run(func() bool { return w.at.Sub(w.is.Keys[0].Since) > 60*time.Hour })
			w.is = zones.Leave(w.is)
			w.tick(time.Hour)
			w.ds = nil
			w.tick(time.Minute)
			gone, err := zones.DSGone(w.is, dsTTL, w.at)
			if err != nil {
				t.Fatal(err)
			}
			w.is = gone
			w.run(func() bool { return false })
			if w.is != nil {
				t.Error("still signed")
			}
		})
		t.Run(fmt.Sprintf("split-%d", ttl), func(t *testing.T) {
			w := newWorld(t, true, ttl)
			w.run(w.has("ksk ready", "zsk active"))
			w.handOver()
			w.tick(time.Minute)
			w.seen()
			w.roll(store.RoleZSK)
			w.tick(time.Minute)
			w.roll(store.RoleKSK) // both at a time
			w.run(w.has("ksk active", "zsk retired", "zsk active", "ksk ready"))
			w.handOver()
			w.tick(time.Minute)
			w.seen()
			w.run(w.has("zsk active", "ksk active"))
		})
	}
}

func TestOrdersThatDoNotFitAreRefusedWithWhatToDo(t *testing.T) {
	w := newWorld(t, false, 300)
	var refused *zones.RollError
	if _, err := zones.DSSeen(w.is, dsTTL, w.at); !errors.As(err, &refused) {
		t.Errorf("ds-seen before the key is ready: %v", err)
	}
	if _, err := zones.Roll(w.is, newKey(t, w.d, store.RoleCSK), w.at); !errors.As(err, &refused) {
		t.Errorf("a roll within a roll: %v", err)
	}
	w.run(w.has("csk ready"))
	if _, err := zones.DSSeen(w.is, 8*24*time.Hour, w.at); !errors.As(err, &refused) {
		t.Errorf("a DS of eight days: %v", err)
	}
	w.handOver()
	w.seen()
	leaving := zones.Leave(w.is)
	if _, err := zones.Roll(leaving, newKey(t, w.d, store.RoleCSK), w.at); !errors.As(err, &refused) {
		t.Errorf("a roll while leaving: %v", err)
	}
	if len(zones.DS(w.d, leaving)) > 0 {
		t.Error("a domain that leaves hands out a DS")
	}
	if got := zones.Stay(leaving, w.at); got.Leaving != store.Staying || got.Keys[0].State != store.KeyActive {
		t.Errorf("stayed as %+v", got)
	}
	gone, err := zones.DSGone(leaving, dsTTL, w.at)
	if err != nil {
		t.Fatal(err)
	}
	if got := zones.Stay(gone, w.at); got.Keys[0].State != store.KeyReady {
		t.Errorf("a domain without a DS stayed as %+v", got)
	}
	if got := zones.Advance(gone, gone.Unsigned.Add(-time.Second)); got == nil {
		t.Error("unsigned too early")
	}
	for _, is := range []*store.Signing{w.is, leaving, gone, newWorld(t, true, 300).is} {
		if len(zones.NextSteps(is)) == 0 && is != w.is {
			t.Errorf("nothing to say about %+v", is)
		}
	}
}
