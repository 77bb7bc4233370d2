package zones_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/miekg/dns"

	"directnode/store"
	"directnode/zones"
)

// BenchmarkSign is what a signature costs that is not in memory, and one that is.
func BenchmarkSign(b *testing.B) {
	for name, algorithm := range map[string]uint8{"p256": store.AlgorithmECDSA, "ed25519": store.AlgorithmEd25519} {
		d := domain(b, "roll.example")
		key, err := rollKey.NewDNSKey(d, algorithm, store.RoleCSK)
		if err != nil {
			b.Fatal(err)
		}
		p := parse(b, "$TTL 300\n@ SOA ns hostmaster 1 3600 600 86400 300\n@ NS ns\nns A 192.0.2.1\n", d.String())
		at := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
		p.Signing = zones.StartSigning(algorithm, store.DenialCompact, []store.DNSKey{key}, 300, at)
		s, err := zones.BuildParsed(1, zones.Options{Seal: rollKey}, p)
		if err != nil {
			b.Fatal(err)
		}
		z := s.Zone(d)
		set := z.Apex().RRset(dns.TypeNS)
		b.Run(name+"/cold", func(b *testing.B) {
			for i := range b.N {
				if err := z.Signer().Sign(wire(b, fmt.Sprintf("n%d.roll.example.", i)), set, zones.Denial, at); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/warm", func(b *testing.B) {
			name, owner := wire(b, "ns.roll.example."), []byte{0xC0, 12}
			if err := z.Signer().Sign(name, set, zones.Data, at); err != nil {
				b.Fatal(err)
			}
			var msg []byte
			b.ReportAllocs()
			for b.Loop() {
				var ok bool
				if msg, ok = z.Signer().Append(msg[:0], owner, name, set, zones.Data, at); !ok {
					b.Fatal("forgotten")
				}
			}
		})
	}
}
