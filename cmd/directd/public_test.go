package main

import (
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"directnode/internal/direct"
	"directnode/internal/testpki"
	"directnode/store"
	"directnode/store/kv/memory"
	"directnode/zones"
)

// TestOnlyPublishedCertificatesAreServed: under the name and the fingerprint of
// a certificate that the DNS publishes there is the certificate; everything
// else looks the same.
func TestOnlyPublishedCertificatesAreServed(t *testing.T) {
	p := &publisher{log: slog.New(slog.DiscardHandler)}
	s, err := store.Open(t.Context(), memory.New(memory.Options{}), store.Options{Prepare: p.prepare})
	if err != nil {
		t.Fatal(err)
	}
	ca := testpki.New(t).Root("Test CA")
	d := mustAddress(t, "x@direct.example.org").Domain()
	add := func(owner string, dns bool) (sha string, der []byte) {
		o, err := direct.ParseOwner(owner)
		if err != nil {
			t.Fatal(err)
		}
		leaf := ca.Leaf(owner, testpki.Address(owner))
		_, err = s.Update(t.Context(), func(tx *store.Tx) error {
			if !tx.Has(d) {
				if err := tx.AddDomain(d, zones.DefaultRecords(d, zones.DefaultOptions{Hostname: "ns.example.net"})); err != nil {
					return err
				}
			}
			_, err := tx.AddCertificate(store.Certificate{Owner: o, DER: leaf.DER, PublishDNS: dns, PublishLDAP: true})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(leaf.DER)
		return hex.EncodeToString(sum[:]), leaf.DER
	}
	alice, der := add("alice@direct.example.org", true)
	odd, oddDER := add("al/ice+x@direct.example.org", true)
	hidden, _ := add("hidden@direct.example.org", false)
	web := &public{view: s.View}
	ask := func(method, path string, header http.Header) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(method, path, nil)
		r.Header = header
		web.ServeHTTP(w, r)
		return w
	}

	url := "/ipkix/alice.direct.example.org/" + alice + ".cer"
	w := ask("GET", url, nil)
	if w.Code != 200 || w.Body.String() != string(der) || w.Header().Get("Content-Type") != "application/pkix-cert" || w.Header().Get("Cache-Control") != "public, max-age=1800" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if w := ask("HEAD", url, nil); w.Code != 200 || w.Body.Len() != 0 || w.Header().Get("Content-Length") == "0" {
		t.Errorf("HEAD: %d, %d octets", w.Code, w.Body.Len())
	}
	if w := ask("GET", url, http.Header{"If-None-Match": {w.Header().Get("ETag")}}); w.Code != http.StatusNotModified {
		t.Errorf("with its ETag: %d", w.Code)
	}
	if w := ask("GET", "/ipkix/ALICE.direct.example.ORG/"+alice+".cer", nil); w.Code != 200 {
		t.Errorf("in capitals: %d", w.Code)
	}
	if w := ask("GET", "/ipkix/al%2Fice+x.direct.example.org/"+odd+".cer", nil); w.Code != 200 || w.Body.String() != string(oddDER) {
		t.Errorf("an odd address: %d", w.Code)
	}
	none := ask("GET", "/", nil)
	for _, path := range []string{
		"/", "/ipkix", "/ipkix/", "/ipkix/alice.direct.example.org/", "/ipkix/" + alice + ".cer", url + "/", url + "x", "/" + url, "/x/.." + url,
		"/ipkix/bob.direct.example.org/" + alice + ".cer", "/ipkix/alice.direct.example.com/" + alice + ".cer",
		"/ipkix/hidden.direct.example.org/" + hidden + ".cer", "/ipkix/%2A.direct.example.org/" + alice + ".cer",
		"/ipkix/alice.direct.example.org/" + strings.ToUpper(alice) + ".cer", "/ipkix/alice.direct.example.org/" + alice + ".pem",
		"/ipkix/" + strings.Repeat("a.", 200) + "example.org/" + alice + ".cer", "/ipkix/%00/" + alice + ".cer", "/metrics", "/livez",
	} {
		if w := ask("GET", path, nil); w.Code != 404 || w.Body.String() != none.Body.String() || len(w.Header()) != len(none.Header()) {
			t.Errorf("GET %.60s: %d %q", path, w.Code, w.Body)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "PATCH"} {
		if w := ask(method, url, nil); w.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", method, w.Code)
		}
	}
	if web.served.Load() != 5 || web.refused.Load() != 5 {
		t.Errorf("%d served, %d refused", web.served.Load(), web.refused.Load())
	}
}
