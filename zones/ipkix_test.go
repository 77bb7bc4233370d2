package zones_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"directnode/internal/spec"
	"directnode/internal/testpki"
	"directnode/store"
	"directnode/zones"
)

// TestCertificatesByURL: in each form the records are what RFC 4398 §2.1 says,
// and the URL leads to the certificate for as long as it is published.
func TestCertificatesByURL(t *testing.T) {
	spec.Covers(t, "AS-5.3-b")
	spec.Covers(t, "AS-5.3-d")
	const base = "http://certs.example.org/direct/"
	d := domain(t, "direct.example.org")
	ca := testpki.New(t).Root("CA")
	own := map[string][]byte{
		"bob@direct.example.org":       ca.Leaf("bob").DER,
		"b.o.b@direct.example.org":     ca.Leaf("b.o.b").DER,
		"o'dd+x/y@direct.example.org":  ca.Leaf("odd").DER,
		"direct.example.org":           ca.Leaf("org").DER,
		"\"a b\"@direct.example.org":   ca.Leaf("quoted").DER,
		"Capital@direct.example.org":   ca.Leaf("capital").DER,
		"bob@sub.direct.example.org":   ca.Leaf("bob below").DER,
		"x.sub@direct.example.org":     ca.Leaf("shown by the zone below").DER,
		"hidden@direct.example.org":    ca.Leaf("hidden").DER,
		"\"*\"@direct.example.org":     ca.Leaf("everybody").DER,
		"withdrawn@direct.example.org": ca.Leaf("withdrawn").DER,
	}
	s := openStore(t)
	v, err := s.Update(t.Context(), func(tx *store.Tx) error {
		for _, name := range []string{"direct.example.org", "sub.direct.example.org"} {
			if err := tx.AddDomain(domain(t, name), zones.DefaultRecords(domain(t, name), zones.DefaultOptions{Hostname: "ns.example.net"})); err != nil {
				return err
			}
		}
		for who, der := range own {
			if _, err := tx.AddCertificate(store.Certificate{Owner: owner(t, who), DER: der, PublishDNS: who != "hidden@direct.example.org", PublishLDAP: true}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for form, perName := range map[zones.Form]int{zones.FormPKIX: 1, zones.FormIPKIX: 1, zones.FormBoth: 2} {
		set, err := zones.Build(v, zones.Options{Form: form, URL: base})
		if err != nil {
			t.Fatal(err)
		}
		for who, der := range own {
			name, err := owner(t, who).DNSName()
			if err != nil {
				t.Fatal(err)
			}
			qname := zones.AppendLower(nil, wire(t, name))
			sets := set.Find(qname).Lookup(qname, dns.TypeCERT)
			if who == "hidden@direct.example.org" || strings.Contains(who, "*") {
				if sets.RRset != nil {
					t.Errorf("%s: %s is published", form, who)
				}
				continue
			}
			if sets.RRset == nil || sets.RRset.Count != perName {
				t.Fatalf("%s: %s has %v", form, who, sets.RRset)
			}
			for _, data := range rdatas(sets.RRset) {
				checkCert(t, v, base, who, data, der)
			}
		}
	}

	// Withdrawn, it is served no longer.
	const who = "withdrawn@direct.example.org"
	sha := store.Fingerprint(own[who])
	path := "ipkix/withdrawn.direct.example.org/" + sha + ".cer"
	if _, _, ok := zones.PublishedAt(v, path); !ok {
		t.Fatal("the path of a published certificate leads nowhere")
	}
	after, err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.SetPublish(sha, false, true) })
	if err != nil {
		t.Fatal(err)
	}
	if _, _, ok := zones.PublishedAt(after, path); ok {
		t.Error("withdrawn, and still served")
	}
	if got := v.Domain(d); got == nil {
		t.Fatal("no domain")
	}
}

// checkCert holds one record against the certificate that it publishes.
func checkCert(t *testing.T, v *store.View, base, who string, data, der []byte) {
	t.Helper()
	switch kind := binary.BigEndian.Uint16(data); kind {
	case 1:
		if !bytes.Equal(data[5:], der) {
			t.Errorf("%s: not its certificate", who)
		}
	case 4:
		url := string(data[5:])
		path, ok := strings.CutPrefix(url, base)
		got, sha, found := zones.PublishedAt(v, path)
		if !ok || !found || !bytes.Equal(got, der) || sha != store.Fingerprint(der) {
			t.Errorf("%s: %s leads to %d octets, %v", who, url, len(got), found)
		}
		if strings.ContainsFunc(url, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("\"<>\\^`{|}", r) }) {
			t.Errorf("%s: %q is no URL (RFC 3986 §2)", who, url)
		}
		if tag := binary.BigEndian.Uint16(data[2:]); data[4] != dns.RSASHA256 || tag == 0 {
			t.Errorf("%s: key tag %d, algorithm %d", who, tag, data[4])
		}
	default:
		t.Errorf("%s: type %d", who, kind)
	}
}
