package cms_test

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"runtime"
	"testing"

	"directnode/internal/cms"
	"directnode/internal/testpki"
)

// TestHugeCertificatesAreLeftOut: a parsed certificate takes many times its octets, and a message has room for one of 30 MiB.
func TestHugeCertificatesAreLeftOut(t *testing.T) {
	p := newPeople(t)
	var names []string
	for i := range 200_000 {
		names = append(names, fmt.Sprintf("%05x", i))
	}
	huge := testpki.New(t).Root("Huge", testpki.Domain(names...))
	der, err := cms.SignDetached(bytes.NewReader(entity), []cms.Signer{{Certificate: p.alice.Cert, Key: p.alice.Key, Extra: []*x509.Certificate{huge.Cert}}}, cms.SignOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s, err := cms.ParseSignedData(der, cms.Limits{})
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > uint64(len(der)) {
		t.Errorf("%d octets allocated for a structure of %d", allocated, len(der))
	}
	if len(s.Certificates()) != 1 || s.Skipped() != 1 {
		t.Errorf("%d certificates, %d skipped", len(s.Certificates()), s.Skipped())
	}
	results, err := s.Verify(bytes.NewReader(entity), cms.VerifyPolicy{})
	if err != nil || results[0].Err != nil {
		t.Errorf("the signature beside it: %v %v", err, results)
	}
}
