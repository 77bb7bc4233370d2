package revocation_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"directnode/internal/testpki"
	"directnode/resolver/fetch"
	"directnode/resolver/revocation"
	"directnode/resolver/trust"
)

// clock is the moment at which the tests judge. The library that makes answers writes the present into them.
var clock = sync.OnceValue(func() time.Time { return time.Now().UTC().Truncate(time.Second) })

// web serves what issuers publish: by path, whatever a test puts there.
type web struct {
	t     *testing.T
	url   string
	mu    sync.Mutex
	pages map[string]func(http.ResponseWriter, *http.Request)
	asked map[string]int
}

func newWeb(t *testing.T) *web {
	w := &web{t: t, pages: map[string]func(http.ResponseWriter, *http.Request){}, asked: map[string]int{}}
	s := httptest.NewServer(w)
	t.Cleanup(s.Close)
	w.url = s.URL
	return w
}

func (w *web) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	w.asked[r.URL.Path]++
	h := w.pages[r.URL.Path]
	w.mu.Unlock()
	if h == nil {
		rw.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	h(rw, r)
}

// put serves octets under a path; nil takes the page away.
func (w *web) put(path string, body []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.pages, path)
	if body != nil {
		w.pages[path] = func(rw http.ResponseWriter, _ *http.Request) { rw.Write(body) }
	}
}

func (w *web) handle(path string, h func(http.ResponseWriter, *http.Request)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pages[path] = h
}

func (w *web) count(path string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked[path]
}

// door lets a test reach its own servers.
func door() *fetch.Door {
	return fetch.New(fetch.Options{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
}

// service is one that keeps in dir, or in memory.
func service(t *testing.T, f revocation.Fetcher, dir string) *revocation.Service {
	t.Helper()
	s, err := revocation.Open(revocation.Options{Fetch: f, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// listOptions is what a test wants of a list; the zero value is an empty one that speaks about the clock of the tests.
type listOptions struct {
	revoked    []int64
	reason     int
	number     int64
	this, next time.Time
	extensions []pkix.Extension
	entry      []pkix.Extension
}

func makeList(t testing.TB, ca testpki.Pair, o listOptions) []byte {
	t.Helper()
	now := clock()
	template := &x509.RevocationList{
		Number: big.NewInt(max(1, o.number)), ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(23 * time.Hour), ExtraExtensions: o.extensions,
	}
	if !o.this.IsZero() {
		template.ThisUpdate = o.this
	}
	if !o.next.IsZero() {
		template.NextUpdate = o.next
	}
	for _, serial := range o.revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: big.NewInt(serial), RevocationTime: now.AddDate(-1, 0, 0), ReasonCode: o.reason, ExtraExtensions: o.entry,
		})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, ca.Cert, ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// answerOptions is what a test wants of a responder's answer; the zero value says good.
type answerOptions struct {
	status     int
	this, next time.Time
	hash       crypto.Hash
	embed      *x509.Certificate
	extensions []pkix.Extension
}

// makeAnswer signs an answer about a certificate of issuer with the key of signer.
func makeAnswer(t testing.TB, cert *x509.Certificate, issuer, signer testpki.Pair, o answerOptions) []byte {
	t.Helper()
	now := clock()
	template := ocsp.Response{
		Status: o.status, SerialNumber: cert.SerialNumber, ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(time.Hour), IssuerHash: o.hash,
		Certificate: o.embed, ExtraExtensions: o.extensions,
	}
	if o.status == ocsp.Revoked {
		template.RevokedAt, template.RevocationReason = now.AddDate(0, -1, 0), ocsp.KeyCompromise
	}
	if !o.this.IsZero() {
		template.ThisUpdate = o.this
	}
	if !o.next.IsZero() {
		template.NextUpdate = o.next
	}
	der, err := ocsp.CreateResponse(issuer.Cert, signer.Cert, template, signer.Key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// withNonce puts a nonce into a response and signs it again.
func withNonce(t testing.TB, response, nonce []byte, key crypto.Signer) []byte {
	t.Helper()
	var outer struct {
		Status asn1.Enumerated
		Bytes  struct {
			Type asn1.ObjectIdentifier
			Raw  []byte
		} `asn1:"explicit,tag:0"`
	}
	var basic struct {
		Data         asn1.RawValue
		Algorithm    pkix.AlgorithmIdentifier
		Signature    asn1.BitString
		Certificates []asn1.RawValue `asn1:"explicit,tag:0,optional"`
	}
	must := func(_ []byte, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(asn1.Unmarshal(response, &outer))
	must(asn1.Unmarshal(outer.Bytes.Raw, &basic))
	inner, err := asn1.Marshal(nonce)
	must(nil, err)
	list, err := asn1.Marshal([]pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}, Value: inner}})
	must(nil, err)
	tagged, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, IsCompound: true, Bytes: list})
	must(nil, err)
	basic.Data.Bytes = slices.Concat(basic.Data.Bytes, tagged)
	basic.Data.FullBytes = nil
	data, err := asn1.Marshal(basic.Data)
	must(nil, err)
	h := crypto.SHA256.New()
	h.Write(data)
	signature, err := key.Sign(rand.Reader, h.Sum(nil), crypto.SHA256)
	must(nil, err)
	basic.Data.FullBytes = data
	basic.Signature = asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
	outer.Bytes.Raw, err = asn1.Marshal(basic)
	must(nil, err)
	out, err := asn1.Marshal(outer)
	must(nil, err)
	return out
}

// nonceOf reads the nonce of a request.
func nonceOf(request []byte) []byte {
	var r struct {
		TBS struct {
			List       []asn1.RawValue
			Extensions []pkix.Extension `asn1:"explicit,tag:2,optional"`
		}
	}
	if _, err := asn1.Unmarshal(request, &r); err != nil || len(r.TBS.Extensions) == 0 {
		return nil
	}
	var n []byte
	if _, err := asn1.Unmarshal(r.TBS.Extensions[0].Value, &n); err != nil {
		return nil
	}
	return n
}

// responder answers about cert and echoes nonces.
func (w *web) responder(path string, cert *x509.Certificate, issuer, signer testpki.Pair, o answerOptions) {
	w.handle(path, func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		response := makeAnswer(w.t, cert, issuer, signer, o)
		if n := nonceOf(body); n != nil {
			response = withNonce(w.t, response, n, signer.Key)
		}
		rw.Write(response)
	})
}

// status asks and wants a result.
func status(t *testing.T, r trust.Revocation, cert testpki.Pair, issuer *testpki.CA, at time.Time, want trust.Status) trust.RevocationResult {
	t.Helper()
	got := r.Status(context.Background(), cert.Cert, issuer.Cert, at)
	if got.Status != want {
		t.Errorf("%s: %+v, want %s", cert.Cert.Subject.CommonName, got, want)
	}
	return got
}
