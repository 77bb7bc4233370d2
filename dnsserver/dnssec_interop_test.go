package dnsserver_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"directnode/dnsserver"
)

// validated is a question and what a validator is to make of the answer.
type validated struct {
	name, qtype string
	insecure    bool // proved to be: it lies below a cut without a DS
}

// validatedQuestions has each shape of an answer once or twice.
func validatedQuestions() []validated {
	return []validated{
		{name: "structure.example.", qtype: "SOA"},
		{name: "structure.example.", qtype: "NS"},
		{name: "structure.example.", qtype: "DNSKEY"},
		{name: "structure.example.", qtype: "CDS"},
		{name: "bob.direct.example.org.", qtype: "CERT"},
		{name: smimeaName("bob", "direct.example.org"), qtype: "SMIMEA"},
		{name: "mixed.structure.example.", qtype: "A"},
		{name: "_ldap._tcp.structure.example.", qtype: "SRV"},
		{name: "mixed.structure.example.", qtype: "MX"},     // no data
		{name: "b.ent.structure.example.", qtype: "TXT"},    // an empty non-terminal
		{name: "nobody.structure.example.", qtype: "A"},     // no name
		{name: "c.ent.structure.example.", qtype: "A"},      // no name
		{name: "nobody.direct.example.org.", qtype: "CERT"}, // no name
		{name: "a.wild.structure.example.", qtype: "TXT"},   // a wildcard
		{name: "b.a.wild.structure.example.", qtype: "MX"},  // a wildcard
		{name: "a.wild.structure.example.", qtype: "A"},     // a wildcard without the type
		{name: "a.x.wild.structure.example.", qtype: "A"},   // no name beside a wildcard
		{name: "alias2.structure.example.", qtype: "A"},     // a chain
		{name: "z.many.structure.example.", qtype: "A"},     // a wildcard alias and a chain
		{name: "void.structure.example.", qtype: "A"},       // an alias to no name
		{name: "a.moved.structure.example.", qtype: "TXT"},  // DNAME, then a wildcard
		{name: "x.moved.structure.example.", qtype: "A"},    // DNAME
		{name: "y.x.moved.structure.example.", qtype: "A"},  // DNAME, then no name
		{name: "moved.structure.example.", qtype: "TXT"},    // the DNAME's own data
		{name: "sub.structure.example.", qtype: "DS"},       // a secure delegation
		{name: "cut.upper.example.", qtype: "DS"},           // an insecure delegation
		{name: "www.lower.upper.example.", qtype: "A", insecure: true},
	}
}

// anchors asks a server for the keys of zones, as an operator would.
func anchors(t *testing.T, addr string, origins ...string) (keys []*dns.DNSKEY) {
	t.Helper()
	for _, origin := range origins {
		m := new(dns.Msg)
		m.SetQuestion(dns.Fqdn(origin), dns.TypeDNSKEY)
		r, _, err := (&dns.Client{Net: "tcp", Timeout: 5 * time.Second}).Exchange(m, addr)
		if err != nil {
			t.Fatal(err)
		}
		for _, rr := range r.Answer {
			if k, ok := rr.(*dns.DNSKEY); ok && k.Flags&dns.SEP != 0 {
				keys = append(keys, k)
			}
		}
	}
	return keys
}

// needs is the path of a peer; without it the test is skipped, or fails where
// peers are required.
func needs(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	switch {
	case err != nil && os.Getenv("DIRECTNODE_PEERS") == "required":
		t.Fatalf("peer %s absent", program)
	case err != nil:
		t.Skipf("SKIP peer %s absent", program)
	}
	return path
}

// output runs a program for a question.
func output(t *testing.T, path string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out, _ := exec.CommandContext(ctx, path, args...).CombinedOutput()
	return string(out)
}

// TestInteropValidatorsTrustSignedAnswers asks other people's validators, with
// nothing but the zones' keys as trust anchors. DNS_MODES is how many ways of
// signing they see.
func TestInteropValidatorsTrustSignedAnswers(t *testing.T) {
	for _, m := range modes[:min(len(modes), number(t, "DNS_MODES", 2))] {
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			set := buildSigned(t, texts(t), m, "lower.upper.example")
			addr := start(t, fixed(set), dnsserver.Options{})
			host, port, err := net.SplitHostPort(addr)
			if err != nil {
				t.Fatal(err)
			}
			origins := []string{"direct.example.org", "structure.example", "upper.example"}
			keys := anchors(t, addr, origins...)
			dir := t.TempDir()
			t.Run("delv", func(t *testing.T) { t.Parallel(); delvValidates(t, dir, host, port, keys) })
			t.Run("unbound-host", func(t *testing.T) { t.Parallel(); unboundValidates(t, dir, host, port, origins, keys) })
			t.Run("drill", func(t *testing.T) { drillValidates(t, dir, host, port, keys) })
			t.Run("kdig", func(t *testing.T) {
				kdigShows(t, host, port, set.Zone(mustDomain(t, "structure.example")).Signer().Compact())
			})
		})
	}
}

func delvValidates(t *testing.T, dir, host, port string, keys []*dns.DNSKEY) {
	delv := needs(t, "delv")
	var text strings.Builder
	text.WriteString("trust-anchors {\n")
	for _, k := range keys {
		fmt.Fprintf(&text, "%s static-key %d %d %d %q;\n", k.Hdr.Name, k.Flags, k.Protocol, k.Algorithm, k.PublicKey)
	}
	text.WriteString("};\n")
	file := filepath.Join(dir, "delv.keys")
	write(t, file, text.String())
	for _, q := range validatedQuestions() {
		if q.insecure {
			continue // it follows no referrals
		}
		anchor := ""
		for _, k := range keys {
			if dns.IsSubDomain(k.Hdr.Name, q.name) {
				anchor = k.Hdr.Name
			}
		}
		got := output(t, delv, "@"+host, "-p", port, "-a", file, "+root="+anchor, q.name, q.qtype)
		if !strings.Contains(got, "; fully validated") && !strings.Contains(got, "; negative response, fully validated") || strings.Contains(got, "unsigned answer") {
			t.Errorf("%s %s:\n%s", q.name, q.qtype, got)
		}
	}
}

func unboundValidates(t *testing.T, dir, host, port string, origins []string, keys []*dns.DNSKEY) {
	unbound := needs(t, "unbound-host")
	var text, conf strings.Builder
	for _, k := range keys {
		fmt.Fprintln(&text, k)
	}
	conf.WriteString("server:\n do-not-query-localhost: no\n do-ip6: no\n module-config: \"validator iterator\"\n local-zone: \"example.\" nodefault\n")
	for _, origin := range append([]string{"lower.upper.example"}, origins...) {
		fmt.Fprintf(&conf, "stub-zone:\n name: %q\n stub-addr: %s@%s\n", origin, host, port)
	}
	file, config := filepath.Join(dir, "unbound.keys"), filepath.Join(dir, "unbound.conf")
	write(t, file, text.String())
	write(t, config, conf.String())
	for _, q := range validatedQuestions() {
		got := output(t, unbound, "-C", config, "-f", file, "-v", "-t", q.qtype, q.name)
		want := "(secure)"
		if q.insecure {
			want = "(insecure)"
		}
		if !strings.Contains(got, want) || strings.Contains(got, "BOGUS") {
			t.Errorf("%s %s:\n%s", q.name, q.qtype, got)
		}
	}
}

func drillValidates(t *testing.T, dir, host, port string, keys []*dns.DNSKEY) {
	drill := needs(t, "drill")
	var text strings.Builder
	for _, k := range keys {
		fmt.Fprintln(&text, k)
	}
	file := filepath.Join(dir, "drill.keys")
	write(t, file, text.String())
	for _, q := range validatedQuestions()[:8] { // its chase takes positive answers
		got := output(t, drill, "-t", "-S", "-k", file, "-p", port, q.name, q.qtype, "@"+host)
		if !strings.Contains(got, "is trusted") && !strings.Contains(got, "Chase successful") {
			t.Errorf("%s %s:\n%s", q.name, q.qtype, got)
		}
	}
}

// kdigShows: it validates nothing, and shows what is on the wire.
func kdigShows(t *testing.T, host, port string, compact bool) {
	kdig := needs(t, "kdig")
	got := output(t, kdig, "@"+host, "-p", port, "+dnssec", "+tcp", "nobody.structure.example.", "A")
	want, code := "NSEC3\t1 0 0 -", "status: NXDOMAIN"
	if compact {
		want, code = "NSEC\t\\000.nobody.structure.example. RRSIG NSEC", "status: NOERROR"
	}
	if !strings.Contains(got, want) || !strings.Contains(got, code) || !strings.Contains(got, "RRSIG\tSOA") {
		t.Errorf("want %q and %q:\n%s", want, code, got)
	}
}
