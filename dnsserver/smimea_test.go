package dnsserver_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"directnode/dnsserver"
	"directnode/internal/direct"
	"directnode/store"
	"directnode/store/kv/memory"
	"directnode/zones"
)

// smimeaName is where the SMIMEA records of an address stand (RFC 8162 §3).
func smimeaName(local, domain string) string {
	sum := sha256.Sum256([]byte(local))
	return hex.EncodeToString(sum[:28]) + "._smimecert." + domain + "."
}

// TestACertificateIsAnSMIMEARecordToo: the same certificate, at the hash of the
// local part, in signed zones alone, and gone with the certificate.
func TestACertificateIsAnSMIMEARecordToo(t *testing.T) {
	for _, m := range modes {
		t.Run(m.String(), func(t *testing.T) { smimeaOf(t, m) })
	}
}

func smimeaOf(t *testing.T, m mode) {
	db := memory.New(memory.Options{})
	t.Cleanup(func() { _ = db.Close() })
	var set *zones.Set
	s, err := store.Open(t.Context(), db, store.Options{Seal: masterKey, Prepare: func(next *store.View) (func(), error) {
		var built *zones.Set
		var err error
		if set == nil {
			built, err = zones.Build(next, zones.Options{Seal: masterKey})
		} else {
			built, err = set.Update(next)
		}
		return func() { set = built }, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := direct.ParseDomain("direct.example.org")
	if err != nil {
		t.Fatal(err)
	}
	change := func(fn func(tx *store.Tx) error) {
		t.Helper()
		if _, err := s.Update(t.Context(), fn); err != nil {
			t.Fatal(err)
		}
	}
	p, err := zones.ParseMaster(strings.NewReader(exampleText(t, "clinic")), d, "clinic")
	if err != nil {
		t.Fatal(err)
	}
	change(func(tx *store.Tx) error { return tx.AddDomain(d, p.Records) })
	for _, c := range p.Certs {
		change(func(tx *store.Tx) error {
			_, err := tx.AddCertificate(store.Certificate{Owner: c.Owner, DER: c.DER, PublishDNS: true})
			return err
		})
	}
	bob := smimeaName("bob", "direct.example.org")
	if got := reply(t, set, ask(t, bob, dns.TypeSMIMEA, 0), signedTCP); got.Rcode != dns.RcodeNameError {
		t.Errorf("an unsigned zone has SMIMEA records:\n%s", got)
	}
	is := signing(t, d, m)
	change(func(tx *store.Tx) error { return tx.SetSigning(d, is) })
	v := newValidator(t, set, signedAt)
	answers := func(name string, qtype uint16) *dns.Msg {
		t.Helper()
		got := reply(t, set, askDO(t, name, qtype, true), signedTCP)
		v.set = set
		v.check(got, reply(t, set, ask(t, name, qtype, 0), signedTCP))
		return got
	}
	cert := answers("bob.direct.example.org.", dns.TypeCERT).Answer[0].(*dns.CERT)
	first, ok := answers(bob, dns.TypeSMIMEA).Answer[0].(*dns.SMIMEA)
	if !ok || first.Usage != 3 || first.Selector != 0 || first.MatchingType != 0 {
		t.Fatalf("%v", first)
	}
	if der, _ := hex.DecodeString(first.Certificate); !strings.Contains(fmt.Sprint(cert), base64.StdEncoding.EncodeToString(der)) {
		t.Error("another certificate than in the CERT record")
	}
	for _, q := range []struct {
		name  string
		qtype uint16
		rcode int
	}{
		{bob, dns.TypeA, dns.RcodeSuccess},
		{bob, dns.TypeANY, dns.RcodeSuccess},
		{"x." + bob, dns.TypeSMIMEA, dns.RcodeNameError},
		{"_smimecert.direct.example.org.", dns.TypeSMIMEA, dns.RcodeSuccess},
		{smimeaName("nobody", "direct.example.org"), dns.TypeSMIMEA, dns.RcodeNameError},
		{"abc._smimecert.direct.example.org.", dns.TypeSMIMEA, dns.RcodeNameError},
		{strings.Repeat("z", 56) + "._smimecert.direct.example.org.", dns.TypeSMIMEA, dns.RcodeNameError},
	} {
		if got := answers(q.name, q.qtype); got.Rcode != q.rcode {
			t.Errorf("%s %s: %s", q.name, dns.TypeToString[q.qtype], dns.RcodeToString[got.Rcode])
		}
	}
	// A change finds its way into the index without building it anew.
	owner, err := direct.ParseOwner("New.Person@direct.example.org")
	if err != nil {
		t.Fatal(err)
	}
	der := p.Certs[0].DER
	change(func(tx *store.Tx) error {
		_, err := tx.AddCertificate(store.Certificate{Owner: owner, DER: der, PublishDNS: true})
		return err
	})
	for _, local := range []string{"new.person", "New.Person"} {
		if got := answers(smimeaName(local, "direct.example.org"), dns.TypeSMIMEA); len(got.Answer) == 0 {
			t.Errorf("%s has no SMIMEA record", local)
		}
	}
	change(func(tx *store.Tx) error { return tx.RemoveCertificate(store.Fingerprint(der)) })
	if got := answers(smimeaName("new.person", "direct.example.org"), dns.TypeSMIMEA); got.Rcode != dns.RcodeNameError {
		t.Errorf("a removed certificate is an SMIMEA record still:\n%s", got)
	}
}

// TestAWalkerLearnsNone asks for what a walker of NSEC chains asks for, from the
// apex on and from every name that an answer gave it.
func TestAWalkerLearnsNone(t *testing.T) {
	const addresses = 10_000
	clinic, err := direct.ParseDomain("direct.example.org")
	if err != nil {
		t.Fatal(err)
	}
	sample, err := zones.ParseMaster(strings.NewReader(exampleText(t, "clinic")), clinic, "clinic")
	if err != nil {
		t.Fatal(err)
	}
	d, err := direct.ParseDomain("walked.example")
	if err != nil {
		t.Fatal(err)
	}
	p, err := zones.ParseMaster(strings.NewReader(minimum), d, "walked")
	if err != nil {
		t.Fatal(err)
	}
	for i := range addresses {
		owner, err := direct.ParseOwner(fmt.Sprintf("secret%05d@walked.example", i))
		if err != nil {
			t.Fatal(err)
		}
		p.Certs = append(p.Certs, zones.ParsedCert{Owner: owner, DER: sample.Certs[0].DER})
	}
	for _, m := range modes[:2] {
		p.Signing = signing(t, d, m)
		set, err := zones.BuildParsed(7, zones.Options{Seal: masterKey}, p)
		if err != nil {
			t.Fatal(err)
		}
		if got := reply(t, set, askDO(t, "secret00042.walked.example.", dns.TypeCERT, false), signedTCP); len(got.Answer) != 2 {
			t.Fatalf("%s: %s", m, got)
		}
		seen, queue := map[string]bool{}, []string{"walked.example.", "a.walked.example.", "secret.walked.example.", "zzz.walked.example.", "_smimecert.walked.example."}
		for asked := 0; len(queue) > 0 && asked < number(t, "DNS_WALK", 300); asked++ {
			name := queue[0]
			queue = queue[1:]
			for _, qtype := range []uint16{dns.TypeNSEC, dns.TypeTXT, dns.TypeANY} {
				got := reply(t, set, askDO(t, name, qtype, false), signedTCP)
				if strings.Contains(got.String(), "secret0") {
					t.Fatalf("%s: a walker that asks for %s learns an address\n%s", m, name, got)
				}
				for _, rr := range append(got.Answer, got.Ns...) {
					for _, next := range namesOf(rr) {
						if !seen[next] && dns.IsSubDomain("walked.example.", next) {
							seen[next], queue = true, append(queue, next)
						}
					}
				}
			}
		}
		if len(seen) < 3 {
			t.Errorf("%s: the walker came nowhere: %v", m, seen)
		}
	}
}

// namesOf are the names that a record speaks of.
func namesOf(rr dns.RR) []string {
	switch x := rr.(type) {
	case *dns.NSEC:
		return []string{x.Hdr.Name, x.NextDomain}
	case *dns.NSEC3:
		return []string{x.Hdr.Name, strings.ToLower(x.NextDomain) + ".walked.example."}
	}
	return nil
}

// TestAFloodOfNamesTakesItsShareOnly: what cannot be signed within the bounds is
// TC=1 by UDP and SERVFAIL by TCP, and the others have their answers.
func TestAFloodOfNamesTakesItsShareOnly(t *testing.T) {
	set := buildSigned(t, texts(t), modes[0])
	bounds := dnsserver.NewSigning()
	from := func(addr string, tcp bool) dnsserver.Transport {
		return dnsserver.Transport{TCP: tcp, At: signedAt, Signing: bounds, Peer: netip.MustParseAddr(addr)}
	}
	refused := 0
	for i := range 1200 {
		got := reply(t, set, askDO(t, fmt.Sprintf("n%d.direct.example.org.", i), dns.TypeA, false), from("192.0.2.1", true))
		if got.Truncated || got.Rcode == dns.RcodeServerFailure {
			refused++
		}
	}
	if refused != 200 {
		t.Errorf("%d of 1200 refused; the burst of a network is 1000", refused)
	}
	if got := reply(t, set, askDO(t, "forged.direct.example.org.", dns.TypeA, false), from("192.0.2.1", false)); got.Truncated {
		t.Error("who has proved the address takes from the share of those who have not")
	}
	// What is in memory costs nothing, names that exist are not limited, and other
	// networks have their own share.
	for _, c := range []struct {
		name string
		from string
	}{{"n5.direct.example.org.", "192.0.2.77"}, {"mail.direct.example.org.", "192.0.2.1"}, {"other.direct.example.org.", "198.51.100.1"}} {
		if got := reply(t, set, askDO(t, c.name, dns.TypeA, false), from(c.from, false)); got.Truncated || got.Rcode != dns.RcodeSuccess {
			t.Errorf("%s from %s:\n%s", c.name, c.from, got)
		}
	}
	// A second later there is more.
	later := from("192.0.2.1", true)
	later.At = later.At.Add(time.Second)
	if got := reply(t, set, askDO(t, "later.direct.example.org.", dns.TypeA, false), later); got.Rcode != dns.RcodeSuccess {
		t.Error("nothing came back to the network's share")
	}
}
