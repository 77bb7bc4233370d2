package cms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"io"
	"time"

	"directnode/internal/ber"
)

// Signer is one who signs: a certificate, its private key, and the certificates that help to build the path from it.
type Signer struct {
	Certificate *x509.Certificate
	Key         crypto.Signer // RSA or ECDSA; may live in a hardware module
	Extra       []*x509.Certificate
}

// SignOptions are the choices of SignDetached; the zero value is right for everybody.
type SignOptions struct {
	Digest      crypto.Hash // SHA256 (0 means the same), SHA384 or SHA512
	SigningTime time.Time   // the signingTime attribute; zero leaves it out
}

// SignDetached signs content, which it reads to its end, and gives the DER of a ContentInfo with a SignedData that does not
// enclose the content (RFC 5652 §5.2). Every signer's certificate and its Extra are enclosed (AS 2.5.2). With several
// signers the SignerInfos stand in the order of DER, not of signers.
//
// Errors: ErrAlgorithm for a digest that must not be used to sign, ErrNoSigner, ErrKey for a key that is too short, of an
// unknown kind or not the certificate's, and whatever the reader and the keys give.
func SignDetached(content io.Reader, signers []Signer, o SignOptions) (der []byte, err error) {
	hash := o.Digest
	if hash == 0 {
		hash = crypto.SHA256
	}
	// AS 2.6: no signatures with SHA-1 or anything weaker.
	digestID, ok := digestOID(hash)
	if !ok || hash == crypto.SHA1 {
		return nil, fmt.Errorf("%w: %s for signing", ErrAlgorithm, hash)
	}
	if len(signers) == 0 {
		return nil, ErrNoSigner
	}
	schemes := make([]scheme, len(signers))
	for i, s := range signers {
		if schemes[i], err = s.scheme(); err != nil {
			return nil, err
		}
	}
	h := hash.New()
	if _, err := io.Copy(h, content); err != nil {
		return nil, fmt.Errorf("cms: reading the content to be signed: %w", err)
	}
	attributes, err := writeAttributes(h.Sum(nil), o.SigningTime)
	if err != nil {
		return nil, err
	}
	infos := make([][]byte, len(signers))
	var certificates [][]byte
	for i, s := range signers {
		if infos[i], err = s.info(schemes[i], hash, attributes); err != nil {
			return nil, err
		}
		certificates = append(certificates, s.Certificate.Raw)
		for _, c := range s.Extra {
			if c == nil {
				return nil, fmt.Errorf("%w: an extra certificate is missing", ErrKey)
			}
			certificates = append(certificates, c.Raw)
		}
	}
	return writeSignedData(digestID, setOf(certificates), setOf(infos)), nil
}

// scheme tells how the signer's key signs, and refuses keys that should not.
func (s Signer) scheme() (scheme, error) {
	if s.Certificate == nil || s.Key == nil {
		return 0, fmt.Errorf("%w: a signer needs a certificate and a key", ErrKey)
	}
	pub, ok := s.Key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(s.Certificate.PublicKey) {
		return 0, fmt.Errorf("%w: the key is not the one in the certificate", ErrKey)
	}
	switch pub := s.Certificate.PublicKey.(type) {
	case *rsa.PublicKey:
		return schemePKCS1v15, checkRSA(pub)
	case *ecdsa.PublicKey:
		return schemeECDSA, nil
	}
	return 0, fmt.Errorf("%w: %s keys do not sign here", ErrKey, s.Certificate.PublicKeyAlgorithm)
}

func checkRSA(pub *rsa.PublicKey) error {
	if n := pub.N.BitLen(); n < minRSABits || n > maxRSABits {
		return fmt.Errorf("%w: RSA key of %d bits, %d to %d are allowed", ErrKey, n, minRSABits, maxRSABits)
	}
	return nil
}

// info signs and gives the encoded SignerInfo (RFC 5652 §5.3).
func (s Signer) info(how scheme, hash crypto.Hash, attributes []byte) ([]byte, error) {
	digestID, _ := digestOID(hash)
	signatureID, _ := signatureOID(how, hash)
	// RFC 5652 §5.4: the signature covers the attributes tagged as SET OF, not as [0].
	signature, err := s.Key.Sign(rand.Reader, attributesDigest(hash, attributes), hash)
	if err != nil {
		return nil, fmt.Errorf("cms: signing: %w", err)
	}
	var params []byte // RFC 5754 §3.3: none with ECDSA
	if how == schemePKCS1v15 {
		params = asn1Null // RFC 5754 §3.2: NULL with RSA
	}
	var b ber.Builder
	b.Begin(ber.Sequence)
	b.Int(ber.Integer, 1) // RFC 5652 §5.3: 1 with issuer and serial number
	if err := writeIssuerAndSerial(&b, s.Certificate); err != nil {
		return nil, err
	}
	writeAlgorithm(&b, digestID, nil) // RFC 5754 §2: parameters should be absent
	b.Bytes(ber.Context(0, true), attributes)
	writeAlgorithm(&b, signatureID, params)
	b.Bytes(ber.OctetString, signature)
	b.End()
	return b.Encoded(), nil
}

// attributesDigest hashes signed attributes, given by their content octets, under the tag SET OF and a DER length.
func attributesDigest(hash crypto.Hash, content []byte) []byte {
	h := hash.New()
	h.Write(ber.AppendHeader(nil, ber.Set, len(content)))
	h.Write(content)
	return h.Sum(nil)
}

// writeSignedData writes the ContentInfo (RFC 5652 §3) and the SignedData (§5.1) around ordered sets.
func writeSignedData(digestID oid, certificates, infos []byte) []byte {
	var b ber.Builder
	b.Begin(ber.Sequence)
	b.OID(oidSignedData)
	b.Begin(ber.Context(0, true))
	b.Begin(ber.Sequence)
	b.Int(ber.Integer, 1) // RFC 5652 §5.1: id-data and version 1 SignerInfos only
	b.Begin(ber.Set)
	writeAlgorithm(&b, digestID, nil)
	b.End()
	b.Begin(ber.Sequence) // RFC 5652 §5.2: encapContentInfo without eContent
	b.OID(oidData)
	b.End()
	b.Bytes(ber.Context(0, true), certificates)
	b.Bytes(ber.Set, infos)
	b.End()
	b.End()
	b.End()
	return b.Encoded()
}
