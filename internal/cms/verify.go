package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"hash"
	"io"
	"time"

	"directnode/internal/ber"
)

// VerifyPolicy is what the caller decides about old algorithms. The zero value is the strictest.
type VerifyPolicy struct {
	AllowSHA1 bool // AS 2.6: receivers should still take SHA-1; MD5 is never taken
}

// SignerResult is the verdict about one SignerInfo.
type SignerResult struct {
	Certificate   *x509.Certificate // whose key made the signature; with an error the one that was tried first, or nil
	Digest        crypto.Hash       // 0 when the digest was refused
	MessageDigest []byte            // Digest of the content as it was given to Verify
	SigningTime   time.Time         // as the signer claims it; zero when it does not
	Err           error             // nil: the key of Certificate signed this content
}

// Verify checks every SignerInfo over content and gives one result for each, in the order of the message. It says nothing
// about trust: a result without Err means that the holder of Certificate's key signed these octets.
//
// A detached structure needs content; one that encloses its content must be given nil, and the enclosed octets are verified.
// Anything else is ErrContent: two contents for one signature are how a forger shows another text than the signed one.
//
// Errors: ErrNoSigner, ErrContent, or that of reading content. Errors of a result: ErrMalformed, ErrLimit, ErrAlgorithm,
// ErrSignerCertificate, ErrAttributes, ErrDigest, ErrSignature.
func (s *SignedData) Verify(content io.Reader, p VerifyPolicy) ([]SignerResult, error) {
	if len(s.signers) == 0 {
		return nil, ErrNoSigner
	}
	switch {
	case s.detached && content == nil:
		return nil, fmt.Errorf("%w: the signature is detached and no content was given", ErrContent)
	case !s.detached && content != nil:
		return nil, fmt.Errorf("%w: the signature encloses its own content", ErrContent)
	case !s.detached:
		content = bytes.NewReader(s.content)
	}
	d, err := s.digest(content, p)
	if err != nil {
		return nil, err
	}
	results := make([]SignerResult, len(s.signers))
	for i := range s.signers {
		s.judge(&s.signers[i], d, p, &results[i])
	}
	return results, nil
}

// digested is what one pass over the content leaves behind.
type digested struct {
	sums map[crypto.Hash][]byte
	head head
}

// digest reads the content once for all digests in use.
func (s *SignedData) digest(content io.Reader, p VerifyPolicy) (*digested, error) {
	d := &digested{sums: map[crypto.Hash][]byte{}}
	running := map[crypto.Hash]hash.Hash{}
	sinks := []io.Writer{&d.head}
	for i := range s.signers {
		algorithm, err := allowedDigest(s.signers[i].digest.oid, p)
		if err != nil || running[algorithm] != nil {
			continue
		}
		h := algorithm.New()
		running[algorithm] = h
		sinks = append(sinks, h)
	}
	if _, err := io.Copy(io.MultiWriter(sinks...), content); err != nil {
		return nil, fmt.Errorf("cms: reading the content to be verified: %w", err)
	}
	for algorithm, h := range running {
		d.sums[algorithm] = h.Sum(nil)
	}
	return d, nil
}

// allowedDigest maps a digest algorithm to a hash that the policy allows (AS 2.6).
func allowedDigest(o oid, p VerifyPolicy) (crypto.Hash, error) {
	hash, ok := digestByOID(o)
	if !ok || hash == crypto.SHA1 && !p.AllowSHA1 {
		return 0, fmt.Errorf("%w: digest %s", ErrAlgorithm, nameOf(o))
	}
	return hash, nil
}

// judge fills the result for one SignerInfo.
func (s *SignedData) judge(info *signerInfo, d *digested, p VerifyPolicy, out *SignerResult) {
	if out.Err = info.err; out.Err != nil {
		return
	}
	candidates := s.candidates(info.sid)
	if len(candidates) > 0 {
		out.Certificate = candidates[0]
	}
	hash, err := allowedDigest(info.digest.oid, p)
	if err != nil {
		out.Err = err
		return
	}
	out.Digest, out.MessageDigest = hash, d.sums[hash]
	var signed []byte
	if signed, out.SigningTime, out.Err = s.signedDigest(info, hash, d); out.Err != nil {
		return
	}
	if len(candidates) == 0 {
		out.Err = fmt.Errorf("%w among %d; %d could not be read", ErrSignerCertificate, len(s.certificates), s.skipped)
		return
	}
	for _, c := range candidates {
		if out.Err = checkSignature(c, info.signature, hash, signed, info.value); out.Err == nil {
			out.Certificate = c
			return
		}
	}
}

// candidates are the enclosed certificates that the identifier names: as a rule one; several may share a key identifier.
func (s *SignedData) candidates(id identifier) (found []*x509.Certificate) {
	for _, c := range s.certificates {
		if id.names(c) {
			found = append(found, c)
		}
	}
	return found
}

// signedDigest gives the digest that the signature is over (RFC 5652 §5.4): that of the signed attributes, once they have
// been found to speak about this content, or that of the content itself when there are none.
func (s *SignedData) signedDigest(info *signerInfo, hash crypto.Hash, d *digested) ([]byte, time.Time, error) {
	if info.attributes == nil {
		// Signed attributes of another message, shown as content without attributes, would verify: both are just octets
		// under one key. No MIME entity looks like them.
		if d.head.looksLikeAttributes() {
			return nil, time.Time{}, fmt.Errorf("%w: the content is itself a set of signed attributes", ErrAttributes)
		}
		return d.sums[hash], time.Time{}, nil
	}
	a, err := readAttributes(info.attributes, s.limits)
	if err != nil {
		return nil, time.Time{}, err
	}
	if err := a.agree(info, hash, d.sums[hash]); err != nil {
		return nil, a.signingTime, err
	}
	return attributesDigest(hash, info.attributes), a.signingTime, nil
}

// head keeps the first octets of the content.
type head struct {
	buf [64]byte
	n   int
}

func (h *head) Write(p []byte) (int, error) {
	h.n += copy(h.buf[h.n:], p)
	return len(p), nil
}

// looksLikeAttributes recognizes SET { SEQUENCE { OBJECT IDENTIFIER …, the encoding of signed attributes.
func (h *head) looksLikeAttributes() bool {
	b := h.buf[:h.n]
	for _, t := range []ber.Tag{ber.Set, ber.Sequence, ber.ObjectID} {
		header := ber.AppendHeader(nil, t, 0)[:1]
		if !bytes.HasPrefix(b, header) || len(b) < 2 {
			return false
		}
		skip := 2
		if b[1] > 0x80 { // the long form of a length: so many octets follow
			skip += int(b[1] & 0x7f)
		}
		b = b[min(skip, len(b)):]
	}
	return true
}

// checkSignature verifies value over the digest signed with the key of c. The signature algorithm must use the digest
// algorithm of the SignerInfo: two different ones would leave open which of them was meant to be strong.
//
// x509.Certificate.CheckSignature is not used: it hashes by itself, and its rules about SHA-1 are not the caller's policy.
func checkSignature(c *x509.Certificate, a algorithm, hash crypto.Hash, signed, value []byte) error {
	how, err := signatureScheme(a, hash)
	if err != nil {
		return err
	}
	ok := false
	switch pub := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if pub.N.BitLen() > maxRSABits {
			return fmt.Errorf("%w: RSA key of %d bits", ErrAlgorithm, pub.N.BitLen())
		}
		switch how.scheme {
		case schemePKCS1v15:
			ok = rsa.VerifyPKCS1v15(pub, hash, signed, value) == nil
		case schemePSS:
			ok = rsa.VerifyPSS(pub, hash, signed, value, &rsa.PSSOptions{SaltLength: how.salt}) == nil
		}
	case *ecdsa.PublicKey:
		ok = how.scheme == schemeECDSA && ecdsa.VerifyASN1(pub, signed, value)
	default:
		return fmt.Errorf("%w: key of the signer (%s)", ErrAlgorithm, c.PublicKeyAlgorithm)
	}
	if !ok {
		return ErrSignature
	}
	return nil
}

// signatureHow is a signature algorithm with its parameters.
type signatureHow struct {
	scheme scheme
	salt   int // of RSA-PSS
}

func signatureScheme(a algorithm, hash crypto.Hash) (signatureHow, error) {
	for _, known := range signatures {
		if !known.oid.Equal(a.oid) {
			continue
		}
		if known.scheme == schemePSS {
			return readPSS(a, hash)
		}
		if known.hash != 0 && known.hash != hash {
			return signatureHow{}, fmt.Errorf("%w: signature with %s over a digest with %s", ErrAlgorithm, known.hash, hash)
		}
		return signatureHow{scheme: known.scheme}, nil
	}
	return signatureHow{}, fmt.Errorf("%w: signature %s", ErrAlgorithm, nameOf(a.oid))
}
