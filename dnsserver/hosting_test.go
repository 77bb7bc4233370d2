package dnsserver_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"directnode/dnsserver"
	"directnode/internal/spec"
	"directnode/internal/testpki"
)

// hosted is a domain as a publisher would hand it to the certification tools:
// two addresses with certificates of their own, one of them with an old one
// beside the new one, and the organization's certificate.
type hosted struct {
	domain    string
	addresses []string
	text      string
}

func newHosted(t *testing.T) hosted {
	ca := testpki.New(t).Root("Root")
	h := hosted{domain: "direct.example.org", addresses: []string{"bob@direct.example.org", "John.Smith@direct.example.org"}}
	var b strings.Builder
	b.WriteString(minimum)
	put := func(owner string, leaf testpki.Pair) {
		fmt.Fprintf(&b, "%s CERT PKIX 0 0 %s\n", owner, base64.StdEncoding.EncodeToString(leaf.DER))
	}
	put("bob", ca.Leaf("bob", testpki.Address("bob@direct.example.org")))
	put("bob", ca.Leaf("bob", testpki.Address("bob@direct.example.org"), testpki.Expired()))
	put("John.Smith", ca.Leaf("john", testpki.Address("John.Smith@Direct.Example.org")))
	put("@", ca.Leaf("organization", testpki.Domain("direct.example.org")))
	h.text = b.String()
	return h
}

// tool walks the steps of the hosting test of the certification tools.
type tool struct {
	addr string
	at   time.Time
}

// certificates asks for CERT records as the tool's resolver does: by UDP with an
// OPT record, by TCP if the answer is cut. Every record must hold a certificate.
func (c tool) certificates(t *testing.T, name string) (certs []*x509.Certificate) {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, dns.TypeCERT)
	m.SetEdns0(4096, false)
	r, _, err := (&dns.Client{Timeout: 5 * time.Second}).Exchange(m, c.addr)
	if err == nil && r.Truncated {
		r, _, err = (&dns.Client{Net: "tcp", Timeout: 5 * time.Second}).Exchange(m, c.addr)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if r.Question[0].Name != name {
		t.Errorf("%s comes back as %s", name, r.Question[0].Name)
	}
	for _, rr := range r.Answer {
		record, ok := rr.(*dns.CERT)
		if !ok {
			t.Fatalf("%s: %s in the answer", name, rr)
		}
		if record.Type != 1 {
			t.Errorf("%s: a record of type %d; the tool counts type 1", name, record.Type)
		}
		der, err := base64.StdEncoding.DecodeString(record.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatalf("%s: one record that does not parse fails the step: %v", name, err)
		}
		certs = append(certs, cert)
	}
	return certs
}

// valid is the certificates that are so today.
func (c tool) valid(certs []*x509.Certificate) []*x509.Certificate {
	return slices.DeleteFunc(slices.Clone(certs), func(x *x509.Certificate) bool { return c.at.Before(x.NotBefore) || c.at.After(x.NotAfter) })
}

// nameOf is where the certificates of an address stand (AS 5.1).
func nameOf(address string) string { return strings.Replace(address, "@", ".", 1) + "." }

func hostedTool(t *testing.T, h hosted) tool {
	return tool{start(t, fixed(oneZone(t, h.domain, h.text)), dnsserver.Options{}), testpki.Now()}
}

// TestHostingH1 is "DNS address-bound certificate search" (also DTS 550): a valid
// certificate whose rfc822Name is the address.
func TestHostingH1(t *testing.T) {
	spec.Covers(t, "AS-5.1-a", "AS-5.3-a", "AS-5.3-b", "AS-5.3-c")
	h := newHosted(t)
	c := hostedTool(t, h)
	for _, address := range h.addresses {
		valid := c.valid(c.certificates(t, nameOf(address)))
		if len(valid) != 1 {
			t.Errorf("%s: %d valid certificates", address, len(valid))
		}
		for _, x := range valid {
			if len(x.EmailAddresses) != 1 || !strings.EqualFold(x.EmailAddresses[0], address) {
				t.Errorf("%s: rfc822Name %q", address, x.EmailAddresses)
			}
		}
	}
}

// TestHostingH2 is "DNS domain-bound certificate search" (also DTS 551): nothing
// at the address, a valid certificate at the domain whose dNSName is it.
func TestHostingH2(t *testing.T) {
	spec.Covers(t, "AS-5.2-c", "AS-5.3-a", "AS-5.3-c")
	h := newHosted(t)
	c := hostedTool(t, h)
	if certs := c.certificates(t, nameOf("nobody@"+h.domain)); len(certs) != 0 {
		t.Errorf("%d certificates of nobody", len(certs))
	}
	valid := c.valid(c.certificates(t, h.domain+"."))
	if len(valid) != 1 || !slices.Equal(valid[0].DNSNames, []string{h.domain}) {
		t.Errorf("at the domain: %v", valid)
	}
}

// TestDTS573 asks the questions of both in mixed letters: the answer is the same.
func TestDTS573(t *testing.T) {
	spec.Covers(t, "AS-5.1-a", "AS-5.2-c")
	h := newHosted(t)
	c := hostedTool(t, h)
	r := rand.New(rand.NewPCG(5, 73))
	names := []string{h.domain + "."}
	for _, address := range h.addresses {
		names = append(names, nameOf(address))
	}
	for _, name := range names {
		want := c.certificates(t, strings.ToLower(name))
		spellings := []string{strings.ToUpper(name), name}
		for range 8 {
			spellings = append(spellings, randomCase(r, name))
		}
		for _, spelling := range spellings {
			got := c.certificates(t, spelling)
			if len(got) == 0 || !slices.EqualFunc(got, want, func(a, b *x509.Certificate) bool { return bytes.Equal(a.Raw, b.Raw) }) {
				t.Errorf("%s: %d certificates, in lower case %d", spelling, len(got), len(want))
			}
		}
	}
}

// TestHostingOverTCPAlone: networks that block large answers leave TCP port 53;
// the reference implementations ask there first.
func TestHostingOverTCPAlone(t *testing.T) {
	spec.Covers(t, "AS-5.4-a")
	h := newHosted(t)
	c := hostedTool(t, h)
	conn, err := net.Dial("tcp", c.addr)
	if err != nil {
		t.Fatal(err)
	}
	dc := &dns.Conn{Conn: conn}
	defer dc.Close()
	for _, name := range []string{nameOf(h.addresses[0]), h.domain + ".", nameOf("nobody@" + h.domain)} {
		m := new(dns.Msg)
		m.SetQuestion(name, dns.TypeCERT)
		if err := dc.WriteMsg(m); err != nil {
			t.Fatal(err)
		}
		r, err := dc.ReadMsg()
		if err != nil || r.Truncated || (len(r.Answer) == 0) != (r.Rcode == dns.RcodeNameError) {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
}
