package zones_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"directnode/internal/testpki"
	"directnode/store"
	"directnode/zones"
)

var signAt = time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)

// signedZone is a zone of a text with one key.
func signedZone(t testing.TB, is *store.Signing, text string) *zones.Zone {
	t.Helper()
	p := parse(t, "$TTL 300\n@ SOA NS.Elsewhere.Example. HostMaster 1 3600 600 86400 300\n@ NS ns\nns A 192.0.2.1\n"+text, "roll.example")
	p.Signing = is
	s, err := zones.BuildParsed(1, zones.Options{Seal: rollKey}, p)
	if err != nil {
		t.Fatal(err)
	}
	return s.Zone(p.Domain)
}

func oneKey(t testing.TB) *store.Signing {
	t.Helper()
	return zones.StartSigning(store.AlgorithmECDSA, store.DenialCompact, []store.DNSKey{newKey(t, domain(t, "roll.example"), store.RoleCSK)}, 300, signAt)
}

// TestEveryTypeIsSignedInCanonicalForm holds the forms of RFC 4034 §6 against
// another implementation: names in every type that has any, in both cases, and
// records whose order lowering changes.
func TestEveryTypeIsSignedInCanonicalForm(t *testing.T) {
	z := signedZone(t, oneKey(t), `
m MX 10 b.Example.
m MX 10 A.example.
m MX 9 Z.EXAMPLE.
s SRV 1 2 3 Host.B
s SRV 1 2 3 host.a
n NAPTR 100 10 "u" "E2U+sip" "!^.*$!sip:Info@Example!" .
n NAPTR 100 10 "S" "SIP+D2U" "" _SIP._udp.Example.
p PTR B.example.
p PTR a.example.
c CNAME Target.EXAMPLE.
d DNAME Other.EXAMPLE.
r RP Admin.Example. TXT.Example.
a AFSDB 1 AFS.Example.
k KX 10 Key.Example.
t RT 10 Relay.Example.
x PX 10 Map822.Example. MapX400.Example.
i MINFO R.Example. E.Example.
h HINFO "CPU" "OS"
u TXT "b" "A"
u TXT "A" "b"
v CAA 0 issue "CA.Example"
w SVCB 1 Svc.Example. alpn="h2"
y TYPE65280 \# 3 41425A
_l LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m
ip AAAA 2001:DB8::1
`)
	_, keys := keysAt(t, z)
	sets := 0
	z.All(func(owner zones.Name, set *zones.RRset) bool {
		rrs := records(t, z.Signer(), []byte(owner), set, signAt)
		if !verified(rrs, keys, signAt) {
			t.Errorf("%s %s does not verify:\n%v", owner, dns.TypeToString[set.Type], rrs)
		}
		sets++
		return true
	})
	if sets != 23 {
		t.Errorf("%d RRsets", sets)
	}
}

func keysAt(t testing.TB, z *zones.Zone) ([]dns.RR, []*dns.DNSKEY) {
	rrs := signedSet(t, z, "roll.example.", dns.TypeDNSKEY, signAt)
	keys, _ := keysOf(rrs)
	return rrs, keys
}

// TestASignatureStaysUntilItsTime: equal data have equal signatures in every
// generation and process, until a step of four days; what is handed out is good
// for at least ten days.
func TestASignatureStaysUntilItsTime(t *testing.T) {
	is := oneKey(t)
	sig := func(z *zones.Zone, name string, at time.Time) *dns.RRSIG {
		t.Helper()
		for _, rr := range signedSet(t, z, name, dns.TypeA, at) {
			if s, ok := rr.(*dns.RRSIG); ok {
				return s
			}
		}
		t.Fatal("no signature")
		return nil
	}
	one, other := signedZone(t, is, ""), signedZone(t, is, "more A 192.0.2.9\n")
	if a, b := sig(one, "ns.roll.example.", signAt), sig(other, "ns.roll.example.", signAt); a.String() != b.String() {
		t.Errorf("another process signs otherwise:\n%s\n%s", a, b)
	}
	changed := signedZone(t, is, "ns A 192.0.2.2\n")
	if a, b := sig(one, "ns.roll.example.", signAt), sig(changed, "ns.roll.example.", signAt); a.Signature == b.Signature {
		t.Error("other data have the same signature")
	}
	steps, begins := map[string]bool{}, map[uint32]bool{}
	for h := range 24 * 20 {
		at := signAt.Add(time.Duration(h) * time.Hour)
		s := sig(one, "ns.roll.example.", at)
		left := time.Unix(int64(s.Expiration), 0).Sub(at)
		if !s.ValidityPeriod(at.Add(-3*time.Hour)) || left < 10*24*time.Hour {
			t.Fatalf("at %v: from %d, %v left", at, s.Inception, left)
		}
		steps[s.Signature] = true
	}
	if len(steps) != 6 && len(steps) != 5 {
		t.Errorf("%d signatures in 20 days", len(steps))
	}
	for i := range 50 {
		z := signedZone(t, is, fmt.Sprintf("n%d A 192.0.2.1\n", i))
		begins[sig(z, fmt.Sprintf("n%d.roll.example.", i), signAt).Inception] = true
	}
	if len(begins) < 40 {
		t.Errorf("50 names are signed at %d times", len(begins))
	}
}

// TestTheMemoryOfSignaturesIsBounded: what is forgotten can be signed again.
func TestTheMemoryOfSignaturesIsBounded(t *testing.T) {
	z := signedZone(t, oneKey(t), "")
	set := z.Apex().RRset(dns.TypeNS)
	const names = 10_000 // the memory of denials has room for 8,192
	kept := 0
	for i := range names {
		if err := z.Signer().Sign(wire(t, fmt.Sprintf("n%d.roll.example.", i)), set, zones.Denial, signAt); err != nil {
			t.Fatal(err)
		}
	}
	for i := range names {
		if _, ok := z.Signer().Append(nil, []byte{0xC0, 12}, wire(t, fmt.Sprintf("n%d.roll.example.", i)), set, zones.Denial, signAt); ok {
			kept++
		}
	}
	if kept > 8192 || kept < 4096 {
		t.Errorf("%d of %d kept", kept, names)
	}
	// A denial does not take the place of data.
	name := wire(t, "ns.roll.example.")
	if _, ok := z.Signer().Append(nil, name, name, set, zones.Data, signAt); ok {
		t.Error("a signature that was never made is in memory")
	}
}

func TestASignedZoneTakesNoKeysFromItsRecords(t *testing.T) {
	is := oneKey(t)
	for _, text := range []string{"@ DNSKEY 257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==", "@ CDS 0 0 0 00", "@ CDNSKEY 0 3 0 AA=="} {
		p := parse(t, minimum+text+"\n", "roll.example")
		p.Signing = is
		if _, err := zones.BuildParsed(1, zones.Options{Seal: rollKey}, p); err == nil {
			t.Errorf("taken: %s", text)
		}
	}
	p := parse(t, minimum, "roll.example")
	p.Signing = is
	if _, err := zones.BuildParsed(1, zones.Options{Seal: store.NewSealer([32]byte{9})}, p); err == nil || bytes.Contains([]byte(err.Error()), is.Keys[0].Sealed) {
		t.Errorf("built under another master key: %v", err)
	}
}

// BenchmarkSMIMEAIndex is what a signed zone costs to build beside an unsigned one.
func BenchmarkSMIMEAIndex(b *testing.B) {
	sample := example(b, "clinic")
	p := parse(b, minimum, "roll.example")
	for i := range 100_000 {
		p.Certs = append(p.Certs, zones.ParsedCert{Owner: owner(b, fmt.Sprintf("u%d@roll.example", i)), DER: sample.Certs[0].DER})
	}
	for name, is := range map[string]*store.Signing{"unsigned": nil, "signed": oneKey(b)} {
		p.Signing = is
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := zones.BuildParsed(1, zones.Options{Seal: rollKey}, p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestWhatAZoneHasAtTheLabelOfSMIMEAComesFirst: a cut, a DNAME and a wildcard at
// _smimecert are the zone's own, and names that nobody's certificate makes are
// theirs to answer.
func TestWhatAZoneHasAtTheLabelOfSMIMEAComesFirst(t *testing.T) {
	leaf := testpki.New(t).Root("CA").Leaf("bob", testpki.Address("bob@roll.example"))
	bob := "bob CERT PKIX 0 0 " + base64.StdEncoding.EncodeToString(leaf.DER) + "\n"
	sum := sha256.Sum256([]byte("bob"))
	own, other := hex.EncodeToString(sum[:28]), strings.Repeat("0", 56)
	for text, want := range map[string][2]zones.Kind{ // of bob's name and of another
		"":                                     {zones.Hit, zones.NXDomain},
		"_smimecert NS ns.x.example.\n":        {zones.Referral, zones.Referral},
		"_smimecert DNAME x.example.\n":        {zones.DName, zones.DName},
		"*._smimecert TXT x\n":                 {zones.Hit, zones.NoData},
		"_smimecert TXT x\n":                   {zones.Hit, zones.NXDomain},
		own + "._smimecert CNAME x\n":          {zones.CName, zones.NXDomain},
		"x." + own + "._smimecert A 1.1.1.1\n": {zones.NoData, zones.NXDomain},
	} {
		z := signedZone(t, oneKey(t), bob+text)
		for i, label := range []string{own, other} {
			name, err := zones.ParseName(label + "._smimecert.roll.example.")
			if err != nil {
				t.Fatal(err)
			}
			if a := z.Lookup([]byte(name), dns.TypeSMIMEA); a.Kind != want[i] {
				t.Errorf("%q: %s: %v, want %v", text, label, a.Kind, want[i])
			}
		}
	}
}
