package resolver_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"directnode/internal/testpki"
	"directnode/resolver"
	"directnode/resolver/fetch"

	"github.com/jimlambrt/gldap"
	"github.com/miekg/dns"
)

// The tests of this file are named after what went wrong in the reference implementations of Direct, by the number of the report in their
// tracker where there is one.

// TestNHIND199_AllServersOfTheSRVRecordsAreTried: a server without the entry, one whose entry has no certificate and one that cannot be
// reached did end the search.
func TestNHIND199_AllServersOfTheSRVRecordsAreTried(t *testing.T) {
	w := newWorld(t)
	empty, bare, good := newLDAP(t, "ou=x"), newLDAP(t, "ou=x"), newLDAP(t, "ou=x")
	bare.add("ou=x", "bob@direct.test")
	good.add("ou=x", "bob@direct.test", w.good("bob", "bob@direct.test"))
	w.srv("direct.test", fmt.Sprintf("0 0 %d", empty.port), fmt.Sprintf("1 0 %d", bare.port), fmt.Sprintf("2 0 %d", closedPort(t)), fmt.Sprintf("3 0 %d", good.port))
	if _, r := w.discover("bob@direct.test"); !slices.Equal(usable(r), []string{"bob"}) {
		t.Errorf("%s: %+v", r.Verdict, r.Steps)
	}
}

// TestNHIND185_InvalidAddressCertificateEndsTheSearch: falling through to the domain's certificate was asked for, built, and taken back.
func TestNHIND185_InvalidAddressCertificateEndsTheSearch(t *testing.T) {
	w := newWorld(t)
	w.dns.cert(t, "bob.direct.test.", w.bad("old", "bob@direct.test"))
	w.dns.cert(t, "direct.test.", w.good("domain", "direct.test"))
	if _, r := w.discover("bob@direct.test"); r.Verdict != "invalid" || r.Source != "dns-address" {
		t.Errorf("%s from %s", r.Verdict, r.Source)
	}
}

// TestNHIND182_CutDatagramIsAskedForByTCP: answers cut without a whole message were taken for nothing.
func TestNHIND182_CutDatagramIsAskedForByTCP(t *testing.T) {
	w := newWorld(t)
	w.dns.cert(t, "bob.direct.test.", w.good("a", "bob@direct.test"), w.good("b", "bob@direct.test"))
	if _, r := w.discover("bob@direct.test"); len(usable(r)) != 2 {
		t.Errorf("usable %v", usable(r))
	}
}

// TestNHIND188_IPKIX: records of type 4 were not known, and the type of URLs was taken for 253. Both are read.
func TestNHIND188_IPKIX(t *testing.T) {
	for name, kind := range map[string]uint16{"IPKIX": 4, "URI": 253} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			bob := w.good("bob", "bob@direct.test")
			url := serveBody(t, bob.DER)
			w.dns.certOf(t, "bob.direct.test.", kind, []byte(url))
			w.dns.cert(t, "direct.test.", w.good("domain", "direct.test"))
			if _, r := w.discover("bob@direct.test", openDoor); !slices.Equal(usable(r), []string{"bob"}) || r.Source != "dns-address" {
				t.Errorf("%s: %+v", r.Verdict, r.Steps)
			}
		})
	}
}

// serveBody serves one body on loopback.
func serveBody(t testing.TB, body []byte) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(body) }))
	t.Cleanup(s.Close)
	return s.URL + "/bob.cer"
}

// openDoor lets certificates be fetched from loopback.
func openDoor(o *resolver.Options) {
	o.Fetch = fetch.New(fetch.Options{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
}

// TestNHIND_TypeAboveEightDoesNotSpoilTheOthers: one record of a type above 8 ended the reading of the whole answer, and one of type 4 broke
// the list.
func TestNHIND_TypeAboveEightDoesNotSpoilTheOthers(t *testing.T) {
	w := newWorld(t)
	for _, kind := range []uint16{9, 253, 254, 255, 65280, 4, 3} {
		w.dns.certOf(t, "bob.direct.test.", kind, []byte{0})
	}
	w.dns.cert(t, "bob.direct.test.", w.good("bob", "bob@direct.test"))
	if _, r := w.discover("bob@direct.test", openDoor); !slices.Equal(usable(r), []string{"bob"}) || len(r.Skipped) != 7 {
		t.Errorf("%s, skipped %v", r.Verdict, r.Skipped)
	}
}

// TestNHIND_FilterIsEscaped: an address with a wildcard was put into the filter as it stood.
func TestNHIND_FilterIsEscaped(t *testing.T) {
	w := newWorld(t)
	l := newLDAP(t, "ou=x")
	w.srv("direct.test", fmt.Sprintf("0 0 %d", l.port))
	l.add("ou=x", "alice@direct.test", w.good("alice", "alice@direct.test"))
	if res, _ := w.discover("*@direct.test"); len(res.Found) != 0 {
		t.Error("a wildcard found somebody else's certificate")
	}
}

// TestNHIND194_PriorityAndWeight: servers were asked in the order of the answer, and those of weight 0 first.
func TestNHIND194_PriorityAndWeight(t *testing.T) {
	w := newWorld(t)
	var ports []int
	for _, name := range []string{"first", "second", "third"} {
		l := newLDAP(t, "ou=x")
		l.add("ou=x", "bob@direct.test", w.good(name, "bob@direct.test"))
		ports = append(ports, l.port)
	}
	w.srv("direct.test", fmt.Sprintf("1 100 %d", ports[2]), fmt.Sprintf("0 0 %d", ports[1]), fmt.Sprintf("0 100 %d", ports[0]))
	for range 20 {
		if _, r := w.discover("bob@direct.test"); !slices.Equal(usable(r), []string{"first"}) {
			t.Fatalf("usable %v", usable(r))
		}
	}
}

// TestNHIND61_RecursiveServerThatRefusesCERT: the servers of the zone itself are asked, if that is wanted.
func TestNHIND61_RecursiveServerThatRefusesCERT(t *testing.T) {
	w, zone := walkWorld(t)
	zone.cert(t, "bob.direct.test.", w.good("bob", "bob@direct.test"))
	w.dns.add(t, "direct.test. 300 IN NS ns.direct.test.", "ns.direct.test. 300 IN A 127.0.0.1")
	if _, r := w.discover("bob@direct.test", directly(zone)); !slices.Equal(usable(r), []string{"bob"}) {
		t.Errorf("%s: %+v", r.Verdict, r.Steps)
	}
	if _, r := w.discover("bob@direct.test"); r.Verdict != "temporary" {
		t.Errorf("without asking directly: %s", r.Verdict)
	}
}

// walkWorld has a recursive server that refuses CERT and a server of the zone.
func walkWorld(t *testing.T) (*world, *fakeDNS) {
	w := newWorld(t)
	zone := newDNS(t)
	for _, name := range []string{"bob.direct.test. CERT", "bob.sub.direct.test. CERT", "direct.test. CERT", "sub.direct.test. CERT"} {
		w.dns.rcode(name, dns.RcodeRefused)
	}
	return w, zone
}

// directly asks the servers of a zone at the port of one of them.
func directly(zone *fakeDNS) func(*resolver.Options) {
	return func(o *resolver.Options) {
		o.Direct = resolver.DirectOnFailure
		o.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		resolver.WithAuthorityPort(o, netip.MustParseAddrPort(zone.addr).Port())
	}
}

// TestNHIND237_DelegationBelowTheZoneIsFollowed: the walk to the servers of a zone stopped where they delegate.
func TestNHIND237_DelegationBelowTheZoneIsFollowed(t *testing.T) {
	w, parent := walkWorld(t)
	bob := w.good("bob", "bob@sub.direct.test")
	w.dns.add(t, "direct.test. 300 IN NS ns.direct.test.", "ns.direct.test. 300 IN A 127.0.0.1")
	port := netip.MustParseAddrPort(parent.addr).Port()
	pc, l := listenAt(t, fmt.Sprintf("127.0.0.2:%d", port))
	child := &fakeDNS{records: map[string][]dns.RR{}, names: map[string]bool{}, rcodes: map[string]int{}}
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: child.handler("udp")}, {Listener: l, Handler: child.handler("tcp")}} {
		go s.ActivateAndServe() // ends with the test
		t.Cleanup(func() { s.Shutdown() })
	}
	child.cert(t, "bob.sub.direct.test.", bob)
	parent.set(func() {
		parent.change = func(m *dns.Msg) {
			if strings.HasSuffix(strings.ToLower(m.Question[0].Name), "sub.direct.test.") {
				m.Authoritative, m.Rcode, m.Answer = false, dns.RcodeSuccess, nil
				m.Ns = []dns.RR{rr(t, "sub.direct.test. 300 IN NS ns.sub.direct.test.")}
				m.Extra = append(m.Extra, rr(t, "ns.sub.direct.test. 300 IN A 127.0.0.2"))
			}
		}
	})
	if _, r := w.discover("bob@sub.direct.test", directly(parent)); !slices.Equal(usable(r), []string{"bob"}) {
		t.Errorf("%s: %+v", r.Verdict, r.Steps)
	}
}

// TestNHIND231_NameServerNamedByItsAddress: zones whose NS record holds an address gave an error.
func TestNHIND231_NameServerNamedByItsAddress(t *testing.T) {
	w, zone := walkWorld(t)
	zone.cert(t, "bob.direct.test.", w.good("bob", "bob@direct.test"))
	w.dns.add(t, "direct.test. 300 IN NS 127.0.0.1.")
	if _, r := w.discover("bob@direct.test", directly(zone)); !slices.Equal(usable(r), []string{"bob"}) {
		t.Errorf("%s: %+v", r.Verdict, r.Steps)
	}
}

// TestNHIND257_WhatHangsEndsInTime: a list, a directory and a name server that say nothing held a message for ever.
func TestNHIND257_WhatHangsEndsInTime(t *testing.T) {
	t.Parallel()
	hang := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(func() { hang.CloseClientConnections(); hang.Close() })
	w := newWorld(t)
	w.dns.certOf(t, "bob.direct.test.", 4, []byte(hang.URL+"/x.cer"))
	_, r := w.discover("bob@direct.test", openDoor, func(o *resolver.Options) { o.Budget = time.Second })
	if r.Verdict != "temporary" || r.Source != "" {
		t.Errorf("%s: %+v", r.Verdict, r.Steps)
	}
}

// TestNHIND1_AnswersAreRememberedByTheirTTL: the cache of the Java implementation was never filled, and that of the other knew no TTL.
func TestNHIND1_AnswersAreRememberedByTheirTTL(t *testing.T) {
	w := newWorld(t)
	w.dns.cert(t, "bob.direct.test.", w.good("bob", "bob@direct.test"))
	w.dns.add(t, "ann.direct.test. 0 IN CERT 1 0 0 "+base64.StdEncoding.EncodeToString(w.good("ann", "ann@direct.test").DER))
	r := w.resolver(oneByOne)
	for range 3 {
		for _, a := range []string{"bob@direct.test", "ann@direct.test"} {
			if res, err := r.Discover(t.Context(), address(t, a)); err != nil || len(res.Found) != 1 {
				t.Fatalf("%s: %v %+v", a, err, res)
			}
		}
	}
	if bob, ann := w.dns.logged("udp CERT bob"), w.dns.logged("udp CERT ann"); bob != 1 || ann != 3 {
		t.Errorf("asked %d times for what lives 300 s, %d times for what lives no longer than the answer", bob, ann)
	}
}

// TestNHIND273_AlgorithmNumber: records whose algorithm or key tag is not that of the key are as good as others.
func TestNHIND273_AlgorithmNumber(t *testing.T) {
	w := newWorld(t)
	w.dns.add(t, "bob.direct.test. 300 IN CERT 1 4711 200 "+base64.StdEncoding.EncodeToString(w.good("bob", "bob@direct.test").DER))
	if _, r := w.discover("bob@direct.test"); !slices.Equal(usable(r), []string{"bob"}) {
		t.Errorf("%s", r.Verdict)
	}
}

// TestNHIND214_CertificateOfSomebodyElseIsRefused: what was found was not held against the address.
func TestNHIND214_CertificateOfSomebodyElseIsRefused(t *testing.T) {
	w := newWorld(t)
	w.dns.cert(t, "bob.direct.test.", w.root.Leaf("bob@direct.test", testpki.Address("mallory@direct.test")))
	if _, r := w.discover("bob@direct.test"); r.Verdict != "invalid" || r.Reason.Check != "binding" {
		t.Errorf("%s: %+v", r.Verdict, r.Reason)
	}
}

// TestNHIND202_TheReasonIsNamed: "no trusted recipients" was all that a sender was told.
func TestNHIND202_TheReasonIsNamed(t *testing.T) {
	w := newWorld(t)
	l := newLDAP(t, "ou=x")
	l.fail(gldap.ResultUnavailable, 0)
	w.srv("direct.test", fmt.Sprintf("0 0 %d", l.port))
	_, r := w.discover("bob@direct.test")
	if r.Verdict != "temporary" || !strings.Contains(r.Reason.Detail, "ldap.test") || !strings.Contains(r.Reason.Detail, "Unavailable") {
		t.Errorf("%s: %+v", r.Verdict, r.Reason)
	}
}
