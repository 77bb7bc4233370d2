package trust

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"directnode/internal/cms"
)

// Limits of a trust bundle. The largest of this network holds some hundreds of anchors.
const (
	maxBundle       = 8 << 20
	maxBundleBag    = 2048
	maxBundleAnchor = 32 << 10 // what the store takes as an anchor
)

// Errors of ParseBundle, wrapped: the classes that the Implementation Guide for Trust Bundle Distribution tells apart.
var (
	ErrBundleFormat    = errors.New("no trust bundle")
	ErrBundleSignature = errors.New("not signed by the pinned signer")
)

// Bundle is a set of trust anchors as somebody publishes it.
type Bundle struct {
	Certificates []*x509.Certificate // each once, in the order of the bundle
	Skipped      int                 // elements that are no certificates that can be read
	Signed       bool
}

// ParseBundle reads a trust bundle: a certs-only CMS message (.p7b) in DER, BER or PEM, certificates in PEM, or a signed bundle (.p7m),
// which is a CMS message whose content is one of the former.
//
// With a signer the bundle must be signed, and by that very certificate; what is signed is then read, and nothing else: the certificates
// beside the signature are there to verify it, and whoever took them for anchors would trust the signer to issue mail certificates. Without
// a signer the bundle must not be signed, as a signature that nobody verifies would look like one that somebody did.
func ParseBundle(body []byte, signer *x509.Certificate, at time.Time) (Bundle, error) {
	if len(body) > maxBundle {
		return Bundle{}, fmt.Errorf("%w: %d octets, at most %d", ErrBundleFormat, len(body), maxBundle)
	}
	body = unarmor(body)
	message, err := cms.ParseSignedData(body, cms.Limits{Size: maxBundle, Certificates: maxBundleBag})
	signed := err == nil && signedBySomebody(message)
	switch {
	case signer == nil && signed:
		return Bundle{}, fmt.Errorf("%w: the bundle is signed, and no signer was pinned to verify it with", ErrBundleSignature)
	case signer == nil:
		return plainBundle(body)
	case err != nil:
		return Bundle{}, fmt.Errorf("%w: %w", ErrBundleFormat, err)
	case !signed:
		return Bundle{}, fmt.Errorf("%w: nobody signed it", ErrBundleSignature)
	}
	if err := verifyBundle(message, signer, at); err != nil {
		return Bundle{}, err
	}
	b, err := plainBundle(unarmor(message.Content()))
	b.Signed = true
	return b, err
}

// IsSignedBundle tells a CMS message that somebody signed: the certificates beside the signature are no anchors.
func IsSignedBundle(body []byte) bool {
	if len(body) > maxBundle {
		return false
	}
	m, err := cms.ParseSignedData(unarmor(body), cms.Limits{Size: maxBundle, Certificates: maxBundleBag})
	return err == nil && signedBySomebody(m)
}

// unarmor takes PEM off a CMS message; a file of PEM certificates stays as it is.
func unarmor(body []byte) []byte {
	if block, _ := pem.Decode(body); block != nil && (block.Type == "PKCS7" || block.Type == "CMS") {
		return block.Bytes
	}
	return body
}

func signedBySomebody(m *cms.SignedData) bool {
	_, err := m.Verify(nil, cms.VerifyPolicy{})
	return !errors.Is(err, cms.ErrNoSigner)
}

// verifyBundle wants one good signature of the pinned certificate, which must be valid: a bundle that is replaced for years by what an
// expired certificate signs is one that nobody looks after.
func verifyBundle(m *cms.SignedData, signer *x509.Certificate, at time.Time) error {
	if at.Before(signer.NotBefore) || at.After(signer.NotAfter) {
		return fmt.Errorf("%w: the pinned certificate %s is valid from %s to %s", ErrBundleSignature, label(signer), day(signer.NotBefore), day(signer.NotAfter))
	}
	results, err := m.Verify(nil, cms.VerifyPolicy{})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBundleSignature, err)
	}
	why := "it is signed by somebody else"
	for _, r := range results {
		switch {
		case r.Certificate == nil || !bytes.Equal(r.Certificate.Raw, signer.Raw):
		case r.Err == nil:
			return nil
		default:
			why = r.Err.Error()
		}
	}
	return fmt.Errorf("%w: %s", ErrBundleSignature, why)
}

// plainBundle reads certificates. A bundle without any is none: replacing anchors by nothing is what a person does, not a server.
func plainBundle(body []byte) (Bundle, error) {
	var b Bundle
	seen := map[[sha256.Size]byte]bool{}
	add := func(c *x509.Certificate) {
		sum := sha256.Sum256(c.Raw)
		switch {
		case len(c.Raw) > maxBundleAnchor:
			b.Skipped++
		case !seen[sum]:
			seen[sum] = true
			b.Certificates = append(b.Certificates, c)
		}
	}
	if block, rest := pem.Decode(body); block != nil {
		for n := 0; block != nil; n++ {
			if n == maxBundleBag {
				return Bundle{}, fmt.Errorf("%w: more than %d certificates", ErrBundleFormat, maxBundleBag)
			}
			if c, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
				add(c)
			} else {
				b.Skipped++
			}
			block, rest = pem.Decode(rest)
		}
	} else if c, err := x509.ParseCertificate(body); err == nil {
		add(c)
	} else {
		m, err := cms.ParseSignedData(body, cms.Limits{Size: maxBundle, Certificates: maxBundleBag})
		if err != nil {
			return Bundle{}, fmt.Errorf("%w: %w", ErrBundleFormat, err)
		}
		if signedBySomebody(m) {
			return Bundle{}, fmt.Errorf("%w: a signed bundle inside of a bundle", ErrBundleFormat)
		}
		for _, c := range m.Certificates() {
			add(c)
		}
		b.Skipped += m.Skipped()
	}
	if len(b.Certificates) == 0 {
		return Bundle{}, fmt.Errorf("%w: there is no certificate in it", ErrBundleFormat)
	}
	return b, nil
}
