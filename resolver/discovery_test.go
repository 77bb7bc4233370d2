package resolver_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"directnode/internal/direct"
	"directnode/internal/spec"
	"directnode/internal/testpki"
)

// TestDiscoveryCases are the cases of the public Direct certificate discovery tool, less those that need CRL or AIA. Decoys are valid
// wherever the case allows it, so that a wrong order is seen.
func TestDiscoveryCases(t *testing.T) {
	for _, tc := range []struct {
		name    string
		ids     []string
		address string
		build   func(w *world)
		usable  []string
		source  string
		verdict string
	}{
		{"D1 address certificate in the DNS", []string{"AS-2.3-a", "AS-2.3-b", "AS-5.0-a", "AS-5.1-a"}, "d1@domain1.test", func(w *world) {
			l := newLDAP(w.t, "ou=dcdt")
			w.srv("domain1.test", fmt.Sprintf("0 0 %d", l.port))
			w.dns.cert(w.t, "d1.domain1.test.", w.good("D1_valA", "d1@domain1.test"))
			w.dns.cert(w.t, "domain1.test.", w.good("D1_decB", "domain1.test"))
			l.add("ou=dcdt", "d1@domain1.test", w.good("D1_decC", "d1@domain1.test"))
			l.add("ou=dcdt", "domain1.test", w.good("D1_decD", "domain1.test"))
		}, []string{"D1_valA"}, "dns-address", "trusted"},
		{"D2 domain certificate in the DNS", []string{"AS-2.3-b", "AS-5.2-a"}, "d2@domain1.test", func(w *world) {
			l := newLDAP(w.t, "ou=dcdt")
			w.srv("domain1.test", fmt.Sprintf("0 0 %d", l.port))
			w.dns.cert(w.t, "domain1.test.", w.bad("D1_invB", "domain1.test"),
				w.root.Leaf("D2_valB", testpki.Domain("domain1.test"), testpki.EmailInDN("domain1.test")))
			l.add("ou=dcdt", "d2@domain1.test", w.good("D2_decC", "d2@domain1.test"))
		}, []string{"D2_valB"}, "dns-domain", "trusted"},
		{"D3 address certificate in LDAP", []string{"AS-2.3-c", "AS-5.0-b"}, "d3@domain2.test", func(w *world) {
			l := newLDAP(w.t, "ou=dcdt")
			w.srv("domain2.test", fmt.Sprintf("0 0 %d", l.port))
			l.add("ou=dcdt", "domain2.test", w.good("D4_valD", "domain2.test"))
			l.add("ou=dcdt", "d3@domain2.test", w.good("D3_valC", "d3@domain2.test"))
		}, []string{"D3_valC"}, "ldap-address", "trusted"},
		{"D4 domain certificate in LDAP, two entries", []string{"AS-2.3-c", "AS-5.2-a"}, "d4@domain2.test", func(w *world) {
			l := newLDAP(w.t, "ou=dcdt")
			w.srv("domain2.test", fmt.Sprintf("0 0 %d", l.port))
			l.add("ou=dcdt", "domain2.test", w.bad("D3_invD", "domain2.test"))
			l.add("ou=dcdt", "domain2.test", w.good("D4_valD", "domain2.test"))
		}, []string{"D4_valD"}, "ldap-domain", "trusted"},
		{"D5 expired address certificate ends the search", []string{"AS-2.3-b", "AS-5.2-a"}, "d5@domain1.test", func(w *world) {
			l := newLDAP(w.t, "ou=dcdt")
			w.srv("domain1.test", fmt.Sprintf("0 0 %d", l.port))
			w.dns.cert(w.t, "d5.domain1.test.", w.bad("D5_invA", "d5@domain1.test"))
			w.dns.cert(w.t, "domain1.test.", w.good("D2_valB", "domain1.test"))
			l.add("ou=dcdt", "d5@domain1.test", w.good("D5_decC", "d5@domain1.test"))
		}, nil, "dns-address", "invalid"},
		{"D6 expired domain certificate ends the search", []string{"AS-2.3-b"}, "d6@domain4.test", func(w *world) {
			l := newLDAP(w.t, "ou=dcdt")
			w.srv("domain4.test", fmt.Sprintf("0 0 %d", l.port))
			w.dns.cert(w.t, "domain4.test.", w.bad("D6_invB", "domain4.test"))
			l.add("ou=dcdt", "d6@domain4.test", w.good("D6_decC", "d6@domain4.test"))
		}, nil, "dns-domain", "invalid"},
		{"D7 expired address entry ends the search", []string{"AS-2.3-c", "AS-5.2-a"}, "d7@domain2.test", func(w *world) {
			l := newLDAP(w.t, "ou=dcdt")
			w.srv("domain2.test", fmt.Sprintf("0 0 %d", l.port))
			l.add("ou=dcdt", "d7@domain2.test", w.bad("D7_invC", "d7@domain2.test"))
			l.add("ou=dcdt", "domain2.test", w.good("D4_valD", "domain2.test"))
		}, nil, "ldap-address", "invalid"},
		{"D8 expired domain entry on the second server", []string{"AS-2.3-c"}, "d8@domain5.test", func(w *world) {
			l1, l3 := newLDAP(w.t, "ou=dcdt"), newLDAP(w.t, "ou=dcdt")
			w.srv("domain5.test", fmt.Sprintf("0 0 %d", l1.port), fmt.Sprintf("0 100 %d", l3.port))
			l3.add("ou=dcdt", "domain5.test", w.bad("D8_invD", "domain5.test"))
		}, nil, "ldap-domain", "invalid"},
		{"D9 good beside expired", []string{"AS-2.3-b"}, "d9@domain1.test", func(w *world) {
			w.dns.cert(w.t, "d9.domain1.test.", w.bad("D9_invA", "d9@domain1.test"), w.good("D9_valA", "d9@domain1.test"))
		}, []string{"D9_valA"}, "dns-address", "trusted"},
		{"D10 first LDAP server does not resolve", []string{"AS-2.3-c"}, "d10@domain3.test", func(w *world) {
			l := newLDAP(w.t, "ou=dcdt")
			w.srv("domain3.test", fmt.Sprintf("0 0 %d ldap-unavailable.test.", l.port), fmt.Sprintf("1 0 %d", l.port))
			l.add("ou=dcdt", "d10@domain3.test", w.good("D10_valE", "d10@domain3.test"))
		}, []string{"D10_valE"}, "ldap-address", "trusted"},
		{"first LDAP server refuses the connection", []string{"AS-2.3-c"}, "d10@domain3.test", func(w *world) {
			l := newLDAP(w.t, "ou=dcdt")
			w.srv("domain3.test", fmt.Sprintf("0 0 %d", closedPort(w.t)), fmt.Sprintf("1 0 %d", l.port))
			l.add("ou=dcdt", "d10@domain3.test", w.good("D10_valE", "d10@domain3.test"))
		}, []string{"D10_valE"}, "ldap-address", "trusted"},
		{"D11 nothing in the DNS and no SRV", []string{"AS-2.3-a"}, "d11@domain6.test", func(*world) {}, nil, "", "not_found"},
		{"D12 no LDAP server resolves", []string{"AS-2.3-a"}, "d12@domain7.test", func(w *world) {
			w.srv("domain7.test", "0 0 10389 ldap-unavailable.test.")
		}, nil, "", "not_found"},
		{"D13 LDAP server without the entry", []string{"AS-2.3-a"}, "d13@domain8.test", func(w *world) {
			l := newLDAP(w.t, "ou=dcdt")
			w.srv("domain8.test", fmt.Sprintf("0 0 %d", l.port))
		}, nil, "", "not_found"},
		{"D14 certificate that does not fit a datagram", []string{"AS-2.3-b", "AS-5.4-b"}, "d14@domain1.test", func(w *world) {
			w.dns.cert(w.t, "d14.domain1.test.", w.root.Leaf("D14_valA", testpki.Address("d14@domain1.test"), testpki.WithKey(testpki.RSA4096())),
				w.bad("D14_invA", "d14@domain1.test"))
		}, []string{"D14_valA"}, "dns-address", "trusted"},
		{"D15 priority", []string{"AS-2.3-c"}, "d15@domain2.test", func(w *world) {
			l1, l2 := newLDAP(w.t, "ou=dcdt"), newLDAP(w.t, "ou=dcdt")
			w.srv("domain2.test", fmt.Sprintf("1 100 %d", l2.port), fmt.Sprintf("0 0 %d", l1.port))
			l1.add("ou=dcdt", "d15@domain2.test", w.good("D15_valC", "d15@domain2.test"))
			l2.add("ou=dcdt", "d15@domain2.test", w.good("D15_decE", "d15@domain2.test"))
		}, []string{"D15_valC"}, "ldap-address", "trusted"},
		{"D16 weight", []string{"AS-2.3-c"}, "d16@domain5.test", func(w *world) {
			l1, l3 := newLDAP(w.t, "ou=dcdt"), newLDAP(w.t, "ou=dcdt")
			w.srv("domain5.test", fmt.Sprintf("0 0 %d", l1.port), fmt.Sprintf("0 100 %d", l3.port))
			l1.add("ou=dcdt", "d16@domain5.test", w.good("D16_valE", "d16@domain5.test"))
			l3.add("ou=dcdt", "d16@domain5.test", w.good("D16_valC", "d16@domain5.test"))
		}, []string{"D16_valC"}, "ldap-address", "trusted"},
		{"DTS 515 domain at the first server before address at the second", []string{"AS-2.3-c"}, "x@domain2.test", func(w *world) {
			l1, l2 := newLDAP(w.t, "ou=dcdt"), newLDAP(w.t, "ou=dcdt")
			w.srv("domain2.test", fmt.Sprintf("0 0 %d", l1.port), fmt.Sprintf("1 0 %d", l2.port))
			l1.add("ou=dcdt", "domain2.test", w.good("domain", "domain2.test"))
			l2.add("ou=dcdt", "x@domain2.test", w.good("address", "x@domain2.test"))
		}, []string{"domain"}, "ldap-domain", "trusted"},
		{"DTS 517 entry without a certificate", []string{"AS-2.3-c"}, "x@domain3.test", func(w *world) {
			l1, l2 := newLDAP(w.t, "ou=dcdt"), newLDAP(w.t, "ou=dcdt")
			w.srv("domain3.test", fmt.Sprintf("0 0 %d", l1.port), fmt.Sprintf("1 0 %d", l2.port))
			l1.add("ou=dcdt", "x@domain3.test")
			l2.add("ou=dcdt", "x@domain3.test", w.good("address", "x@domain3.test"))
		}, []string{"address"}, "ldap-address", "trusted"},
		{"entry in the second naming context", []string{"AS-2.3-c"}, "x@domain3.test", func(w *world) {
			l := newLDAP(w.t, "ou=one", "ou=two")
			w.srv("domain3.test", fmt.Sprintf("0 0 %d", l.port))
			l.add("ou=one", "domain3.test", w.good("domain", "domain3.test"))
			l.add("ou=two", "x@domain3.test", w.good("address", "x@domain3.test"))
		}, []string{"address"}, "ldap-address", "trusted"},
		{"both spellings of the attribute", []string{"AS-2.3-c"}, "x@domain3.test", func(w *world) {
			l := newLDAP(w.t, "ou=one")
			w.srv("domain3.test", fmt.Sprintf("0 0 %d", l.port))
			a, b, c := w.good("a", "x@domain3.test"), w.good("b", "x@domain3.test"), w.good("c", "x@domain3.test")
			l.addEntry(entry{"ou=one", "x@domain3.test", "userCertificate", [][]byte{a.DER}})
			l.addEntry(entry{"ou=one", "X@Domain3.TEST", "USERCERTIFICATE;Binary", [][]byte{b.DER, a.DER}})
			l.addEntry(entry{"ou=one", "x@domain3.test", "userCertificate;lang-en", [][]byte{c.DER}})
		}, []string{"a", "b", "c"}, "ldap-address", "trusted"},
		{"wrong owner in the DNS ends the search", []string{"AS-4.1-a"}, "bob@domain1.test", func(w *world) {
			w.dns.cert(w.t, "bob.domain1.test.", w.good("mallory", "mallory@domain1.test"))
			w.dns.cert(w.t, "domain1.test.", w.good("domain", "domain1.test"))
		}, nil, "dns-address", "invalid"},
		{"two addresses share a name", []string{"AS-5.1-c"}, "bob.smith@example.test", func(w *world) {
			w.dns.cert(w.t, "bob.smith.example.test.", w.good("other", "bob@smith.example.test"), w.good("mine", "bob.smith@example.test"))
		}, []string{"mine"}, "dns-address", "trusted"},
		{"several good ones are all used", nil, "x@domain1.test", func(w *world) {
			w.dns.cert(w.t, "x.domain1.test.", w.good("a", "x@domain1.test"), w.good("b", "x@domain1.test"))
		}, []string{"a", "b"}, "dns-address", "trusted"},
		{"upper case asked, lower case published", []string{"AS-4.1.1-b"}, "X.Y@Domain1.TEST", func(w *world) {
			w.dns.cert(w.t, "x.y.domain1.test.", w.good("a", "x.y@domain1.test"))
		}, []string{"a"}, "dns-address", "trusted"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			spec.Covers(t, tc.ids...)
			w := newWorld(t)
			tc.build(w)
			res, report := w.discover(tc.address)
			if got := usable(report); !slices.Equal(got, tc.usable) {
				t.Errorf("usable %v, want %v", got, tc.usable)
			}
			if res.Source != tc.source || report.Verdict != tc.verdict {
				t.Errorf("source %q verdict %q, want %q %q: %+v", res.Source, report.Verdict, tc.source, tc.verdict, report.Reason)
			}
			if t.Failed() {
				var b strings.Builder
				report.WriteText(&b, true)
				t.Log("\n" + b.String())
			}
		})
	}
}

func TestOrderOfQuestions(t *testing.T) {
	spec.Covers(t, "AS-5.1-a", "AS-5.1-b", "AS-5.2-a")
	for _, tc := range []struct {
		address string
		want    []string
	}{
		{"bob@direct.example.test", []string{"CERT bob.direct.example.test.", "CERT direct.example.test.", "SRV _ldap._tcp.direct.example.test."}},
		{"John.Smith@direct.example.test", []string{"CERT John.Smith.direct.example.test.", "CERT direct.example.test.", "SRV _ldap._tcp.direct.example.test."}},
		{"o'neil+lab@direct.example.test", []string{`CERT o\'neil+lab.direct.example.test.`, "CERT direct.example.test.", "SRV _ldap._tcp.direct.example.test."}},
		// No domain name can be made of these, so the domain is asked at once.
		{strings.Repeat("x", 64) + "@direct.example.test", []string{"CERT direct.example.test.", "SRV _ldap._tcp.direct.example.test."}},
		{`"a..b"@direct.example.test`, []string{"CERT direct.example.test.", "SRV _ldap._tcp.direct.example.test."}},
	} {
		w := newWorld(t)
		_, report := w.discover(tc.address, oneByOne)
		if got := w.dns.asked(); !slices.Equal(got, tc.want) {
			t.Errorf("%s: asked %v, want %v", tc.address, got, tc.want)
		}
		if report.Code != 10 {
			t.Errorf("%s: code %d", tc.address, report.Code)
		}
	}
}

func TestNothingIsAskedAfterTheFirstCertificate(t *testing.T) {
	w := newWorld(t)
	w.dns.cert(t, "bob.direct.test.", w.bad("old", "bob@direct.test"))
	res, _ := w.discover("bob@direct.test", oneByOne)
	if got := w.dns.asked(); !slices.Equal(got, []string{"CERT bob.direct.test."}) {
		t.Errorf("asked %v", got)
	}
	var notAsked []string
	for i, s := range res.Steps {
		if s.N != i+1 {
			t.Errorf("step %d has number %d", i, s.N)
		}
		if s.Outcome == "not_asked" {
			notAsked = append(notAsked, s.Question)
		}
	}
	if want := []string{"CERT direct.test.", "SRV _ldap._tcp.direct.test."}; !slices.Equal(notAsked, want) {
		t.Errorf("steps not asked %v, want %v", notAsked, want)
	}
}

func TestAbsenceInBothFormsMovesOn(t *testing.T) {
	spec.Covers(t, "AS-5.2-a")
	w := newWorld(t)
	w.dns.add(t, "nodata.direct.test. 300 IN TXT x")
	w.dns.cert(t, "direct.test.", w.good("domain", "direct.test"))
	for _, a := range []string{"nodata@direct.test", "nxdomain@direct.test"} {
		if _, r := w.discover(a); r.Verdict != "trusted" || r.Source != "dns-domain" {
			t.Errorf("%s: %s from %q", a, r.Verdict, r.Source)
		}
	}
}

func TestRecordsThatAreNoCertificateAreSkipped(t *testing.T) {
	spec.Covers(t, "AS-5.3-b", "AS-5.3-c", "AS-5.3-e")
	w := newWorld(t)
	good := w.good("good", "bob@direct.test")
	for _, kind := range []uint16{2, 3, 4, 5, 6, 7, 8, 253, 254, 9000} {
		w.dns.certOf(t, "bob.direct.test.", kind, []byte("http://pki.test/bob.cer"))
		w.dns.certOf(t, "only.direct.test.", kind, good.DER)
	}
	w.dns.certOf(t, "bob.direct.test.", 1, []byte("garbage\x00"))
	w.dns.certOf(t, "bob.direct.test.", 1, good.CertPEM())
	w.dns.certOf(t, "bob.direct.test.", 1, good.DER)
	w.dns.cert(t, "direct.test.", w.good("domain", "direct.test"))

	res, r := w.discover("bob@direct.test")
	if got := usable(r); !slices.Equal(got, []string{"good"}) || r.Source != "dns-address" {
		t.Errorf("usable %v from %q", got, r.Source)
	}
	if len(res.Found) != 1 || len(res.Skipped) != 12 {
		t.Errorf("%d found, %d skipped", len(res.Found), len(res.Skipped))
	}
	for _, s := range res.Skipped {
		if s.Err == nil {
			t.Error("skipped without a reason")
		}
	}
	if !strings.Contains(fmt.Sprint(r.Skipped), "Base64 or PEM") {
		t.Errorf("PEM on the wire is not recognised: %v", r.Skipped)
	}
	// A name with records of foreign types only holds no certificate.
	if _, r := w.discover("only@direct.test"); r.Source != "dns-domain" {
		t.Errorf("source %q", r.Source)
	}
}

func TestKeyTagAndAlgorithmAreIgnored(t *testing.T) {
	spec.Covers(t, "AS-5.3-e")
	w := newWorld(t)
	w.dns.cert(t, "bob.direct.test.", w.good("zero", "bob@direct.test"))
	base := w.dns.records["bob.direct.test. CERT"][0].String()
	fields := strings.Fields(base)
	for i, tail := range []string{"12345 8", "1 255", "65535 13", "0 5"} {
		p := w.good(fmt.Sprint(i), "bob@direct.test")
		w.dns.cert(t, "tmp.", p)
		data := strings.Fields(w.dns.records["tmp. CERT"][i].String())
		w.dns.add(t, fmt.Sprintf("bob.direct.test. 300 IN CERT PKIX %s %s", tail, data[len(data)-1]))
	}
	if len(fields) < 8 {
		t.Fatal("CERT text changed its form")
	}
	if _, r := w.discover("bob@direct.test"); len(usable(r)) != 5 {
		t.Errorf("usable %v", usable(r))
	}
}

func TestBrokenCertificateStillEndsTheSearch(t *testing.T) {
	w := newWorld(t)
	broken := w.good("broken", "bob@direct.test").DER
	broken[20] ^= 0xff // somewhere inside tbsCertificate
	w.dns.certOf(t, "bob.direct.test.", 1, broken)
	w.dns.cert(t, "direct.test.", w.good("domain", "direct.test"))
	if res, r := w.discover("bob@direct.test"); r.Verdict != "invalid" || res.Source != "dns-address" {
		t.Errorf("%s from %q", r.Verdict, res.Source)
	}
}

func TestFilterInjection(t *testing.T) {
	w := newWorld(t)
	l := newLDAP(t, "ou=x")
	w.srv("direct.test", fmt.Sprintf("0 0 %d", l.port))
	l.add("ou=x", "alice@direct.test", w.good("alice", "alice@direct.test"))
	for _, a := range []string{`*@direct.test`, `"*)(mail=*"@direct.test`, `"alice\\"@direct.test`} {
		if res, _ := w.discover(a); len(res.Found) != 0 {
			t.Errorf("%s found somebody else's certificate", a)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.filters {
		if strings.Count(f, "(") != 1 || strings.Contains(f, "*") {
			t.Errorf("the filter %q is more than one equality", f)
		}
	}
}

func TestTagIsPartOfTheAddress(t *testing.T) {
	w := newWorld(t)
	w.dns.cert(t, "bob.direct.test.", w.good("bob", "bob@direct.test"))
	w.dns.cert(t, "bob+lab.direct.test.", w.good("tagged", "bob+lab@direct.test"))
	if _, r := w.discover("bob+lab@direct.test"); !slices.Equal(usable(r), []string{"tagged"}) {
		t.Errorf("usable %v", usable(r))
	}
	if _, r := w.discover("bob+other@direct.test"); r.Verdict != "not_found" {
		t.Errorf("verdict %s", r.Verdict)
	}
}

func TestNoAddressIsAnError(t *testing.T) {
	w := newWorld(t)
	if _, err := w.resolver().Discover(t.Context(), direct.Address{}); err == nil {
		t.Error("no error")
	}
}
