package cms

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"

	"directnode/internal/ber"
)

// SignedData is a parsed SignedData (RFC 5652 §5.1). It keeps slices of the octets it was parsed from and does not change.
type SignedData struct {
	limits       Limits
	certificates []*x509.Certificate
	skipped      int
	content      []byte
	detached     bool
	signers      []signerInfo
}

// signerInfo is a parsed SignerInfo (RFC 5652 §5.3).
type signerInfo struct {
	err        error // why it could not be read; the other fields mean nothing then
	sid        identifier
	digest     algorithm
	attributes []byte // content octets as they were sent; nil when absent
	signature  algorithm
	value      []byte
}

// ParseSignedData reads a ContentInfo that holds a SignedData over id-data, in DER or BER.
//
// The bag of certificates is read with tolerance: what is no certificate that we can parse, or is too large for one, is left out. A SignerInfo that
// is malformed inside is kept and fails by itself in Verify. A structure without any SignerInfo, as ".p7c" and ".p7b" files
// are, is read, and Verify refuses it.
//
// Errors: ErrMalformed, ErrLimit, ErrContentType.
func ParseSignedData(b []byte, l Limits) (*SignedData, error) {
	l = l.withDefaults()
	r, err := openContent(b, l, oidSignedData, "SignedData")
	if err != nil {
		return nil, err
	}
	s := &SignedData{limits: l}
	if _, err := r.Int(ber.Integer); err != nil { // peers disagree about versions; nothing depends on it
		return nil, unread("version", err)
	}
	if _, err := r.Expect(ber.Set); err != nil { // digestAlgorithms only announce what the SignerInfos say
		return nil, unread("digestAlgorithms", err)
	}
	if err := s.readContent(r); err != nil {
		return nil, err
	}
	if err := s.readCertificates(r); err != nil {
		return nil, err
	}
	if err := skipContext(r, 1); err != nil { // revocation lists: they are fetched where they can be trusted
		return nil, unread("crls", err)
	}
	if err := s.readSigners(r); err != nil {
		return nil, err
	}
	return s, nil
}

// readContent reads encapContentInfo (RFC 5652 §5.2).
func (s *SignedData) readContent(r *ber.Reader) error {
	in, err := r.Enter(ber.Sequence)
	if err != nil {
		return unread("encapContentInfo", err)
	}
	typ, err := in.OID()
	if err != nil {
		return unread("eContentType", err)
	}
	if !typ.Equal(oidData) { // RFC 5751 §2.4.2: S/MIME signs MIME entities, which are id-data
		return fmt.Errorf("%w: content of type %s where data must stand", ErrContentType, typ)
	}
	if s.detached = in.Empty(); s.detached {
		return nil
	}
	explicit, err := in.Enter(ber.Context(0, true))
	if err != nil {
		return unread("eContent", err)
	}
	if s.content, err = explicit.OctetString(ber.OctetString); err != nil {
		return unread("eContent", err)
	}
	return nil
}

// readCertificates reads the optional CertificateSet (RFC 5652 §10.2.3).
func (s *SignedData) readCertificates(r *ber.Reader) error {
	if t, ok := r.Peek(); !ok || t != ber.Context(0, true) {
		return nil
	}
	bag, err := r.Enter(ber.Context(0, true))
	if err != nil {
		return unread("certificates", err)
	}
	for n := 0; !bag.Empty(); n++ {
		if n == s.limits.Certificates {
			return tooMany("certificates", s.limits.Certificates)
		}
		e, err := bag.Next()
		if err != nil {
			return unread("certificates", err)
		}
		if len(e.Raw) > maxCertificateOctets {
			s.skipped++
			continue
		}
		c, err := x509.ParseCertificate(e.Raw)
		switch {
		case err != nil: // attribute certificates and the like stand here too (RFC 5652 §10.2.2)
			s.skipped++
		case !slices.ContainsFunc(s.certificates, func(o *x509.Certificate) bool { return bytes.Equal(o.Raw, c.Raw) }):
			s.certificates = append(s.certificates, c)
		}
	}
	return nil
}

func (s *SignedData) readSigners(r *ber.Reader) error {
	set, err := r.Enter(ber.Set)
	if err != nil {
		return unread("signerInfos", err)
	}
	for n := 0; !set.Empty(); n++ {
		if n == s.limits.Signers {
			return tooMany("signers", s.limits.Signers)
		}
		e, err := set.Next()
		if err != nil {
			return unread("signerInfos", err)
		}
		info, err := readSigner(set, e)
		if err != nil {
			info = signerInfo{err: err}
		}
		s.signers = append(s.signers, info)
	}
	return nil
}

func readSigner(set *ber.Reader, e ber.Element) (s signerInfo, err error) {
	if e.Tag != ber.Sequence {
		return s, fmt.Errorf("%w: SignerInfo is a %s", ErrMalformed, e.Tag)
	}
	r, err := set.Into(e)
	if err != nil {
		return s, unread("SignerInfo", err)
	}
	if _, err := r.Int(ber.Integer); err != nil {
		return s, unread("version of SignerInfo", err)
	}
	if s.sid, err = readIdentifier(r); err != nil {
		return s, err
	}
	if s.digest, err = readAlgorithm(r); err != nil {
		return s, err
	}
	if t, ok := r.Peek(); ok && t == ber.Context(0, true) {
		attributes, err := r.Next()
		if err != nil {
			return s, unread("signedAttrs", err)
		}
		s.attributes = attributes.Content
	}
	if s.signature, err = readAlgorithm(r); err != nil {
		return s, err
	}
	if s.value, err = r.OctetString(ber.OctetString); err != nil {
		return s, unread("signature", err)
	}
	return s, nil // unsigned attributes prove nothing and are not read
}

// Certificates gives the enclosed certificates that parse, each once, in the order of the message.
func (s *SignedData) Certificates() []*x509.Certificate { return slices.Clone(s.certificates) }

// Skipped tells how many elements of the bag of certificates could not be read.
func (s *SignedData) Skipped() int { return s.skipped }

// Detached tells whether the content is absent, as it must be in multipart/signed (AS 2.5.1).
func (s *SignedData) Detached() bool { return s.detached }

// Content gives the enclosed content, nil when detached. It has been verified only if Verify(nil, …) said so.
func (s *SignedData) Content() []byte { return s.content }
