package cms

import (
	"crypto"
	"fmt"

	"directnode/internal/ber"
)

// maskedParams is what RSASSA-PSS-params and RSAES-OAEP-params have in common (RFC 4055 §3.1, §4.1): a hash under [0] and a
// mask generation function under [1], both SHA-1 when they are absent.
type maskedParams struct {
	hash, mgf crypto.Hash
	rest      *ber.Reader // what stands after them; nil when the parameters are absent
}

func readMasked(a algorithm) (maskedParams, error) {
	p := maskedParams{hash: crypto.SHA1, mgf: crypto.SHA1}
	if a.noParams() { // some writers leave the whole SEQUENCE out when it would be empty
		return p, nil
	}
	r, err := a.sequence()
	if err != nil {
		return p, err
	}
	p.rest = r
	if t, ok := r.Peek(); ok && t == ber.Context(0, true) {
		if p.hash, err = readExplicitDigest(r, 0); err != nil {
			return p, err
		}
	}
	if t, ok := r.Peek(); ok && t == ber.Context(1, true) {
		if p.mgf, err = readMGF(r); err != nil {
			return p, err
		}
	}
	return p, nil
}

func readExplicitDigest(r *ber.Reader, number uint32) (crypto.Hash, error) {
	in, err := r.Enter(ber.Context(number, true))
	if err != nil {
		return 0, unread("hash algorithm", err)
	}
	return readDigest(in)
}

func readDigest(r *ber.Reader) (crypto.Hash, error) {
	a, err := readAlgorithm(r)
	if err != nil {
		return 0, err
	}
	hash, ok := digestByOID(a.oid)
	if !ok || !a.noParams() {
		return 0, fmt.Errorf("%w: digest %s", ErrAlgorithm, nameOf(a.oid))
	}
	return hash, nil
}

// readMGF reads [1] { AlgorithmIdentifier mgf1 with an AlgorithmIdentifier of its hash } (RFC 4055 §2.2).
func readMGF(r *ber.Reader) (crypto.Hash, error) {
	in, err := r.Enter(ber.Context(1, true))
	if err != nil {
		return 0, unread("mask generation function", err)
	}
	a, err := readAlgorithm(in)
	if err != nil {
		return 0, err
	}
	if !a.oid.Equal(oidMGF1) {
		return 0, fmt.Errorf("%w: mask generation function %s", ErrAlgorithm, nameOf(a.oid))
	}
	return readDigest(ber.NewReader(a.params, ber.Limits{Depth: defaultDepth, Count: 64, Size: 4096}))
}

// readPSS reads RSASSA-PSS-params (RFC 4055 §3.1). The hash must be that of the SignerInfo (RFC 4056 §3) and that of the
// mask generation function: nothing in the field differs, and the standard library knows nothing else.
func readPSS(a algorithm, hash crypto.Hash) (signatureHow, error) {
	how := signatureHow{scheme: schemePSS, salt: 20} // RFC 4055 §3.1: the default
	p, err := readMasked(a)
	if err != nil {
		return how, err
	}
	if p.hash != hash || p.mgf != hash {
		return how, fmt.Errorf("%w: RSA-PSS with %s and MGF1 with %s over a digest with %s", ErrAlgorithm, p.hash, p.mgf, hash)
	}
	if p.rest == nil {
		return how, nil
	}
	salt, err := readExplicitInt(p.rest, 2, 20)
	if err != nil {
		return how, err
	}
	trailer, err := readExplicitInt(p.rest, 3, 1)
	if err != nil {
		return how, err
	}
	if trailer != 1 || salt < 1 || salt > maxRSABits/8 { // RFC 4055 §3.1: the trailer field must be 1
		return how, fmt.Errorf("%w: RSA-PSS with salt of %d octets and trailer %d", ErrAlgorithm, salt, trailer)
	}
	how.salt = int(salt)
	return how, nil
}

func readExplicitInt(r *ber.Reader, number uint32, absent int64) (int64, error) {
	if t, ok := r.Peek(); !ok || t != ber.Context(number, true) {
		return absent, nil
	}
	in, err := r.Enter(ber.Context(number, true))
	if err != nil {
		return 0, unread("parameter", err)
	}
	n, err := in.Int(ber.Integer)
	if err != nil {
		return 0, unread("parameter", err)
	}
	return n, nil
}
