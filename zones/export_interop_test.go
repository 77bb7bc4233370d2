package zones_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"directnode/internal/testnode"
	"directnode/internal/testpki"
	"directnode/store"
	"directnode/store/kv/memory"
	"directnode/zones"
)

// exportText has what is written in more than one way, and what others read
// badly.
const exportText = `$TTL 3600
@ IN SOA ns.direct.example.org. hostmaster.direct.example.org. 1 3600 600 1209600 300
@ IN NS ns
@ IN NS ns.elsewhere.example.
@ IN MX 10 mail
@ IN TXT "v=spf1 -all" "a \"quoted\" one; no comment" "back\\slash \001\255"
@ IN CAA 0 issue "ca.example; policy=x"
ns IN A 192.0.2.1
ns IN AAAA 2001:db8::1
mail IN A 192.0.2.2
_ldap._tcp IN SRV 0 0 389 ns
_25._tcp.mail IN TLSA 3 1 1 d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971
abc._smimecert IN SMIMEA 3 0 1 d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971
www IN CNAME mail
old IN DNAME elsewhere.example.
*.wild IN TXT "wild"
cut IN NS ns.cut
cut IN DS 60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118
ns.cut IN A 192.0.2.3
odd\.name IN TXT "x"
\$dollar IN TXT "x"
semi\;colon 60 IN TXT "x"
url IN CERT IPKIX 0 0 aHR0cDovL2NlcnRzLmV4YW1wbGUub3JnL3guY2Vy
unknown IN TYPE65280 \# 4 01020304
empty IN TYPE65281 \# 0
host IN NAPTR 100 10 "u" "E2U+sip" "!^.*$!sip:info@example.org!" .
loc IN SSHFP 1 2 d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971
`

// exported is a view with that zone, and certificates of all sizes at its names.
func exported(t *testing.T) (*store.View, zones.Parsed) {
	t.Helper()
	p := parse(t, exportText, "direct.example.org")
	ca := testpki.New(t).Root("CA")
	s := openStore(t)
	v, err := s.Update(t.Context(), func(tx *store.Tx) error {
		if err := tx.AddDomain(p.Domain, p.Records); err != nil {
			return err
		}
		for i, size := range []int{0, 100, 1000, 10_000, 40_000} {
			for _, who := range []string{"direct.example.org", "bob@direct.example.org", "o'neil+x@direct.example.org", "a.b.c@direct.example.org"}[:4-i/2] {
				leaf := ca.Leaf(fmt.Sprintf("%s %d", who, i), testpki.Extension([]int{1, 2, 3, 4}, false, bytes.Repeat([]byte{'x'}, size+1)))
				if _, err := tx.AddCertificate(store.Certificate{Owner: owner(t, who), DER: leaf.DER, PublishDNS: true}); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return v, p
}

// everything is all records of parsed text, sorted, without the serial.
func everything(t *testing.T, p zones.Parsed) []string {
	t.Helper()
	var all []string
	for _, r := range p.Records {
		data := r.Data
		if r.Type == "SOA" {
			data = strings.Join(slices.Delete(strings.Fields(data), 2, 3), " ")
		}
		all = append(all, fmt.Sprintf("%s %d %s %s", r.Name, r.TTL, r.Type, data))
	}
	for _, c := range p.Certs {
		all = append(all, fmt.Sprintf("%s %x", c.Owner, c.DER))
	}
	slices.Sort(all)
	return all
}

func sameRecords(t *testing.T, what string, got, want []string) {
	t.Helper()
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("%s lacks %.150s", what, line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("%s has %.150s", what, line)
		}
	}
}

func export(t *testing.T, v *store.View, p zones.Parsed, format string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := zones.WriteMaster(&b, v, p.Domain, format); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestWhatIsExportedIsReadBack: an import of an export gives the same records,
// and lines stay short enough for mail and editors.
func TestWhatIsExportedIsReadBack(t *testing.T) {
	v, p := exported(t)
	want := everything(t, parse(t, string(export(t, v, p, zones.FormatBIND)), "direct.example.org"))
	if n := len(want); n != len(p.Records)+v.Domain(p.Domain).Certificates.Len() {
		t.Errorf("%d records and certificates came back of %d and %d", n, len(p.Records), v.Domain(p.Domain).Certificates.Len())
	}
	again := parse(t, string(export(t, v, p, zones.FormatRFC3597)), "direct.example.org")
	sameRecords(t, "the generic form", everything(t, again), want)
	for _, format := range []string{zones.FormatBIND, zones.FormatRFC3597} {
		for line := range strings.Lines(string(export(t, v, p, format))) {
			if strings.HasPrefix(line, "\t") && len(strings.TrimSpace(line)) > 76 {
				t.Errorf("%s: a line of %d: %.80s", format, len(line), line)
			}
		}
	}
}

// TestASignedDomainIsExportedAndChecked: both need no key, and the text has
// nothing of the signer's.
func TestASignedDomainIsExportedAndChecked(t *testing.T) {
	v, p := exported(t)
	s, err := store.Open(t.Context(), memory.New(memory.Options{}), store.Options{Seal: store.NewSealer([32]byte{1})})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := s.Update(t.Context(), func(tx *store.Tx) error {
		if err := tx.AddDomain(p.Domain, v.Domain(p.Domain).Records); err != nil {
			return err
		}
		key, err := tx.NewDNSKey(p.Domain, dns.ECDSAP256SHA256, store.RoleCSK)
		if err != nil {
			return err
		}
		return tx.SetSigning(p.Domain, zones.StartSigning(dns.ECDSAP256SHA256, store.DenialCompact, []store.DNSKey{key}, 3600, time.Unix(0, 0)))
	})
	if err != nil {
		t.Fatal(err)
	}
	if text := export(t, signed, p, zones.FormatBIND); bytes.Contains(text, []byte("DNSKEY")) || !bytes.Contains(text, []byte("SOA")) {
		t.Errorf("exported %.300s", text)
	}
	for _, f := range zones.Check(signed, p.Domain) {
		if strings.Contains(f.What, "key") {
			t.Error(f)
		}
	}
}

// TestInteropExportsAreReadByOthers gives each format to the programs that
// judge zone files.
func TestInteropExportsAreReadByOthers(t *testing.T) {
	v, p := exported(t)
	for _, tool := range []struct {
		name string
		args func(file string) []string
	}{
		{"named-checkzone", func(f string) []string { return []string{"-i", "none", "-k", "ignore", "direct.example.org", f} }},
		{"nsd-checkzone", func(f string) []string { return []string{"direct.example.org", f} }},
		{"kzonecheck", func(f string) []string { return []string{"-o", "direct.example.org", f} }},
	} {
		t.Run(tool.name, func(t *testing.T) {
			program := testnode.Peer(t, tool.name)
			for _, format := range []string{zones.FormatBIND, zones.FormatRFC3597} {
				file := filepath.Join(t.TempDir(), "zone")
				if err := os.WriteFile(file, export(t, v, p, format), 0o600); err != nil {
					t.Fatal(err)
				}
				if out, err := exec.CommandContext(t.Context(), program, tool.args(file)...).CombinedOutput(); err != nil {
					t.Errorf("%s: %v\n%.2000s", format, err, out)
				}
			}
		})
	}
	t.Run("what BIND understood", func(t *testing.T) {
		program := testnode.Peer(t, "named-checkzone")
		want := everything(t, parse(t, string(export(t, v, p, zones.FormatBIND)), "direct.example.org"))
		for _, format := range []string{zones.FormatBIND, zones.FormatRFC3597} {
			dir := t.TempDir()
			in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
			if err := os.WriteFile(in, export(t, v, p, format), 0o600); err != nil {
				t.Fatal(err)
			}
			if said, err := exec.CommandContext(t.Context(), program, "-i", "none", "-k", "ignore", "-D", "-o", out, "direct.example.org", in).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, said)
			}
			text, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			sameRecords(t, format, everything(t, parse(t, string(text), "direct.example.org")), want)
		}
	})
}

// TestInteropNsupdateFillsAZone feeds the script to nsupdate, which fills a bare
// zone of a real server, twice; what a transfer then shows is our zone.
func TestInteropNsupdateFillsAZone(t *testing.T) {
	named, nsupdate := testnode.Peer(t, "named"), testnode.Peer(t, "nsupdate")
	v, p := exported(t)
	addr := updatable(t, named)
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("server %s %s\n%s", host, port, export(t, v, p, zones.FormatNsupdate))
	for range 2 {
		cmd := exec.CommandContext(t.Context(), nsupdate, "-v")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("nsupdate: %v\n%.2000s", err, out)
		}
	}
	var text strings.Builder
	transfer := &dns.Transfer{}
	m := new(dns.Msg)
	m.SetAxfr("direct.example.org.")
	envelopes, err := transfer.In(m, addr)
	if err != nil {
		t.Fatal(err)
	}
	soas := 0
	for e := range envelopes {
		if e.Error != nil {
			t.Fatal(e.Error)
		}
		for _, rr := range e.RR {
			if rr.Header().Rrtype == dns.TypeSOA {
				if soas++; soas > 1 {
					continue
				}
			}
			wire := make([]byte, dns.Len(rr)+300)
			end, err := dns.PackRR(rr, wire, 0, nil, false)
			if err != nil {
				t.Fatal(err)
			}
			_, at, err := dns.UnpackDomainName(wire[:end], 0)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(rr.Header().Name, "$") {
				text.WriteByte('\\') // the codec leaves it like a directive
			}
			fmt.Fprintf(&text, "%s %d IN TYPE%d \\# %d %x\n", rr.Header().Name, rr.Header().Ttl, rr.Header().Rrtype, end-at-10, wire[at+10:end])
		}
	}
	// SOA and NS of the apex are left as the server has them.
	own := func(all []string) []string {
		return slices.DeleteFunc(all, func(l string) bool {
			return strings.HasPrefix(l, "direct.example.org. ") && (strings.Contains(l, " SOA ") || strings.Contains(l, " NS "))
		})
	}
	want := own(everything(t, parse(t, string(export(t, v, p, zones.FormatBIND)), "direct.example.org")))
	sameRecords(t, "BIND", own(everything(t, parse(t, text.String(), "direct.example.org"))), want)
}

// updatable starts a server with a bare zone that takes updates from loopback.
func updatable(t *testing.T, named string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	l.Close()
	dir := t.TempDir()
	bare := "$TTL 3600\n@ IN SOA ns hostmaster 1 3600 600 1209600 300\n@ IN NS ns\nns IN A 192.0.2.1\n"
	conf := fmt.Sprintf("options {\n directory %q; listen-on port %s { 127.0.0.1; }; listen-on-v6 { none; }; pid-file none; session-keyfile none;\n"+
		" recursion no; allow-transfer { 127.0.0.1; }; notify no; dnssec-validation no; check-names master ignore; max-records-per-type 0; max-types-per-name 0;\n};\ncontrols { };\n"+
		"zone \"direct.example.org\" { type master; file \"zone\"; allow-update { 127.0.0.1; }; };\n", dir, port)
	for name, text := range map[string]string{"zone": bare, "named.conf": conf} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, named, "-g", "-n", "1", "-c", filepath.Join(dir, "named.conf"))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%.20000s", said.String())
		}
	})
	m := new(dns.Msg)
	m.SetQuestion("direct.example.org.", dns.TypeSOA)
	for deadline := time.Now().Add(testnode.Wait); ; time.Sleep(50 * time.Millisecond) {
		if r, err := dns.Exchange(m, addr); err == nil && r.Rcode == dns.RcodeSuccess {
			return addr
		}
		if time.Now().After(deadline) {
			t.Fatal("named does not answer")
		}
	}
}
