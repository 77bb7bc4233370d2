package zones_test

import (
	"bytes"
	"cmp"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"directnode/internal/direct"
	"directnode/internal/testpki"
	"directnode/store"
	"directnode/zones"
)

var update = flag.Bool("update", false, "write examples/clinic.zone anew")

func domain(t testing.TB, s string) direct.Domain {
	t.Helper()
	d, err := direct.ParseDomain(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func owner(t testing.TB, s string) direct.Owner {
	t.Helper()
	o, err := direct.ParseOwner(s)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// wire is a name as a query has it, in lower case.
func wire(t testing.TB, s string) []byte {
	t.Helper()
	n, err := zones.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(n)
}

func parse(t testing.TB, text, origin string) zones.Parsed {
	t.Helper()
	p, err := zones.ParseMaster(strings.NewReader(text), domain(t, origin), origin+".zone")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func example(t testing.TB, name string) zones.Parsed {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("examples", name+".zone"))
	if err != nil {
		t.Fatal(err)
	}
	origin := map[string]string{"clinic": "direct.example.org", "structure": "structure.example", "generic": "generic.example"}[name]
	return parse(t, string(text), origin)
}

// set builds zones of texts, each with the minimum of a zone put before it.
func set(t testing.TB, texts map[string]string) *zones.Set {
	t.Helper()
	var all []zones.Parsed
	for origin, text := range texts {
		all = append(all, parse(t, minimum+text, origin))
	}
	s, err := zones.BuildParsed(7, zones.Options{}, all...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const minimum = "$TTL 3600\n@ SOA ns.elsewhere.example. hostmaster 1 3600 600 86400 300\n@ NS ns.elsewhere.example.\n"

// data is a domain of the store: the minimum, further text, certificates.
func data(t testing.TB, name, text string, certs ...store.Certificate) *store.DomainData {
	t.Helper()
	return &store.DomainData{Domain: domain(t, name), Records: parse(t, minimum+text, name).Records, Certificates: store.NewCertificates(certs...)}
}

func cert(t testing.TB, who string, der []byte) store.Certificate {
	t.Helper()
	return store.Certificate{Owner: owner(t, who), DER: der, PublishDNS: true}
}

func rec(name, typ string, ttl uint32, data string) store.Record {
	return store.Record{Name: name, Type: typ, TTL: ttl, Data: data}
}

func rdatas(s *zones.RRset) (out [][]byte) {
	if s == nil {
		return nil
	}
	for d := range s.RData {
		out = append(out, bytes.Clone(d))
	}
	return out
}

func sortRecords(r []store.Record) []store.Record {
	r = slices.Clone(r)
	slices.SortFunc(r, func(a, b store.Record) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Data, b.Data))
	})
	return r
}

// TestExampleClinicIsCurrent keeps examples/clinic.zone as text with real
// certificates; -update makes it anew.
func TestExampleClinicIsCurrent(t *testing.T) {
	if *update {
		pki := testpki.New(t)
		ca := pki.Root("Example Root")
		var b strings.Builder
		fmt.Fprint(&b, clinicHead)
		put := func(name, head string, der []byte) {
			text := base64.StdEncoding.EncodeToString(der)
			fmt.Fprintf(&b, "%s IN CERT %s (\n", name, head)
			for len(text) > 0 {
				n := min(28, len(text))
				fmt.Fprintf(&b, "  %s\n", text[:n])
				text = text[n:]
			}
			fmt.Fprint(&b, "  )\n")
		}
		fmt.Fprintln(&b, "\n; The organization's certificate stands at the domain (AS 5.2).")
		put("direct.example.org.", "1 0 5", ca.Leaf("Example Clinic", testpki.Domain("direct.example.org")).DER)
		fmt.Fprintln(&b, "\n; An address's certificate stands where '@' becomes '.' (AS 5.1).")
		put("bob.direct.example.org.", "1 0 5", ca.Leaf("Bob", testpki.Address("bob@direct.example.org")).DER)
		put("john.smith.direct.example.org.", "PKIX 0 RSASHA256", ca.Leaf("John Smith", testpki.Address("john.smith@direct.example.org")).DER)
		if err := os.WriteFile("examples/clinic.zone", []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p := example(t, "clinic")
	var got []string
	for _, c := range p.Certs {
		got = append(got, c.Owner.String())
	}
	if want := []string{"direct.example.org", "bob@direct.example.org", "john.smith@direct.example.org"}; !slices.Equal(got, want) {
		t.Errorf("certificates of %q, want %q", got, want)
	}
}

const clinicHead = `; A whole Direct domain: mail, LDAP, and certificates in the layout of AS 5.3.1.
$ORIGIN direct.example.org.
$TTL 3600
@           IN SOA  ns1 hostmaster 1 3600 600 1209600 300
            IN NS   ns1
            IN MX   10 mail
ns1         IN A    192.0.2.1
            IN AAAA 2001:db8::1
mail        IN A    192.0.2.2
_ldap._tcp  IN SRV  0 0 389 mail
@           IN TXT  "v=spf1 mx -all"
; carol's certificate is behind a URL (type 4, RFC 4398 2.1).
carol       IN CERT IPKIX 0 0 aHR0cDovL3BraS5leGFtcGxlLm9yZy9jYXJvbC5jZXI=
`

func addrs(s ...string) (out []netip.Addr) {
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// rsaPublicKey is the key in the form of a DNSKEY's public key field (RFC 3110).
func rsaPublicKey(t testing.TB, c *x509.Certificate) string {
	t.Helper()
	k := c.PublicKey.(*rsa.PublicKey)
	e := []byte{3, byte(k.E >> 16), byte(k.E >> 8), byte(k.E)}
	return base64.StdEncoding.EncodeToString(append(e, k.N.Bytes()...))
}
