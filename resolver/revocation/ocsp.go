package revocation

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/ocsp"

	"directnode/internal/ber"
	"directnode/resolver/trust"
)

// Answer is what a responder says about one certificate, after every check.
type Answer struct {
	Status     trust.Status // StatusUndetermined is "unknown", the responder's own word
	RevokedAt  time.Time
	Reason     int
	ThisUpdate time.Time
	NextUpdate time.Time // zero if it names none
	Responder  string    // who signed, for people
}

// until is when the answer stops speaking.
func (a Answer) until() time.Time {
	end := a.ThisUpdate.Add(maxAge)
	if a.NextUpdate.IsZero() {
		end = a.ThisUpdate.Add(openAge)
	} else if a.NextUpdate.Before(end) {
		end = a.NextUpdate
	}
	return end
}

// Current says why the answer does not speak about a moment that is the present.
func (a Answer) Current(at time.Time) error { return a.speaks(at, at) }

// speaks is Current for a moment that may be past.
func (a Answer) speaks(at, now time.Time) error {
	switch {
	case a.ThisUpdate.After(now.Add(skew)):
		return fmt.Errorf("the answer is of %s, which is yet to come", stamp(a.ThisUpdate))
	case at.After(a.until().Add(skew)):
		return fmt.Errorf("the answer counted until %s", stamp(a.until()))
	}
	return nil
}

var (
	oidNonce = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}
	oidSHA1  = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
)

// nonceSize is what RFC 9654 §2.1 asks for.
const nonceSize = 32

// newNonce draws a nonce.
func newNonce() []byte {
	n := make([]byte, nonceSize)
	rand.Read(n) // never fails; see crypto/rand
	return n
}

// Question builds a request for one certificate (RFC 6960 §4.1). The identifier is made with SHA-1, as every responder knows it and as
// nothing depends on its strength (RFC 5019 §2.1.1). A nil nonce leaves the extension out.
func Question(cert, issuer *x509.Certificate, nonce []byte) ([]byte, error) {
	key, err := keyOctets(issuer)
	if err != nil {
		return nil, err
	}
	serial, err := asn1.Marshal(cert.SerialNumber)
	if err != nil {
		return nil, fmt.Errorf("serial number: %w", err)
	}
	var b ber.Builder
	b.Begin(ber.Sequence) // OCSPRequest
	b.Begin(ber.Sequence) // tbsRequest
	b.Begin(ber.Sequence) // requestList
	b.Begin(ber.Sequence) // Request
	b.Begin(ber.Sequence) // CertID
	b.Begin(ber.Sequence)
	b.OID(oidSHA1)
	b.Bytes(ber.Null, nil)
	b.End()
	b.Bytes(ber.OctetString, digest(crypto.SHA1, issuer.RawSubject))
	b.Bytes(ber.OctetString, digest(crypto.SHA1, key))
	b.Raw(serial)
	b.End()
	b.End()
	b.End()
	if nonce != nil {
		b.Begin(ber.Context(2, true)) // requestExtensions
		b.Begin(ber.Sequence)
		b.Begin(ber.Sequence)
		b.OID(oidNonce)
		b.Bytes(ber.OctetString, ber.AppendTLV(nil, ber.OctetString, nonce))
		b.End()
		b.End()
		b.End()
	}
	b.End()
	b.End()
	return b.Encoded(), nil
}

func digest(h crypto.Hash, b []byte) []byte {
	d := h.New()
	d.Write(b)
	return d.Sum(nil)
}

// keyOctets gives the content of subjectPublicKey, which identifiers of issuers and responders are digests of.
func keyOctets(c *x509.Certificate) ([]byte, error) {
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if rest, err := asn1.Unmarshal(c.RawSubjectPublicKeyInfo, &spki); err != nil || len(rest) > 0 {
		return nil, errors.New("the issuer's key does not parse")
	}
	return spki.Key.RightAlign(), nil
}

// Errors of ReadAnswer that a caller tells apart.
var (
	// ErrNonce: the response answers somebody else's question, an older one perhaps.
	ErrNonce = errors.New("the nonce is not the one of the question")
	// ErrDeclined: the responder says that it does not answer.
	ErrDeclined = errors.New("the responder does not answer")
)

// ReadAnswer takes a response to a question about cert (RFC 6960 §3.2): it must be signed by the issuer's key, or by a certificate which
// that key has made a responder; it must be about this certificate of this issuer and not only about its serial number; and where it
// echoes a nonce it must be ours. Whether it speaks about a moment is for Current to say. at is when the response is judged: a
// delegated responder must be valid then.
//
// golang.org/x/crypto/ocsp is the codec. Its verifier is not used: it takes the signature of every certificate of the issuer, whatever
// it is for, and looks at neither times nor identifiers.
func ReadAnswer(raw []byte, cert, issuer *x509.Certificate, nonce []byte, at time.Time) (Answer, error) {
	if len(raw) > maxOCSP {
		return Answer{}, fmt.Errorf("a response of %d octets, at most %d", len(raw), maxOCSP)
	}
	resp, err := parseResponse(raw, cert)
	if err != nil {
		return Answer{}, err
	}
	data, err := readData(resp.TBSResponseData)
	if err != nil {
		return Answer{}, err
	}
	if err := data.answers(cert, issuer); err != nil {
		return Answer{}, err
	}
	if echoed, there := data.nonce(); there && nonce != nil && !bytes.Equal(echoed, nonce) {
		return Answer{}, ErrNonce
	}
	who, err := signedBy(resp, issuer, at)
	if err != nil {
		return Answer{}, err
	}
	if resp.ProducedAt.After(at.Add(skew)) {
		return Answer{}, fmt.Errorf("the response was made %s, which is yet to come", stamp(resp.ProducedAt))
	}
	if !resp.NextUpdate.IsZero() && resp.NextUpdate.Before(resp.ThisUpdate) {
		return Answer{}, errors.New("the response ends before it begins")
	}
	a := Answer{ThisUpdate: resp.ThisUpdate, NextUpdate: resp.NextUpdate, Responder: who}
	switch resp.Status {
	case ocsp.Good:
		a.Status = trust.StatusGood
	case ocsp.Revoked:
		a.Status, a.RevokedAt, a.Reason = trust.StatusRevoked, resp.RevokedAt, resp.RevocationReason
	}
	return a, nil
}

// parseResponse reads the response and finds the answer about the certificate's serial number in it. Where a certificate is enclosed the
// library has verified the signature with its key, and with nothing else.
func parseResponse(raw []byte, cert *x509.Certificate) (resp *ocsp.Response, err error) {
	resp, err = ocsp.ParseResponseForCert(raw, cert, nil)
	var declined ocsp.ResponseError
	switch {
	case errors.As(err, &declined): // RFC 6960 §2.3: such a response is not signed, and means nothing
		return nil, fmt.Errorf("%w: %s", ErrDeclined, declined.Status)
	case err != nil:
		return nil, fmt.Errorf("the response is none: %.200s", err.Error())
	}
	return resp, nil
}

// responseData is ResponseData (RFC 6960 §4.2.1), with what the library leaves out.
type responseData struct {
	Version    int `asn1:"optional,default:0,explicit,tag:0"`
	Responder  asn1.RawValue
	ProducedAt time.Time `asn1:"generalized"`
	Responses  []singleResponse
	Extensions []pkix.Extension `asn1:"optional,explicit,tag:1"`
}

type singleResponse struct {
	CertID struct {
		Hash   pkix.AlgorithmIdentifier
		Name   []byte
		Key    []byte
		Serial *big.Int
	}
	Status     asn1.RawValue
	ThisUpdate time.Time        `asn1:"generalized"`
	NextUpdate time.Time        `asn1:"generalized,explicit,tag:0,optional"`
	Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
}

func readData(tbs []byte) (*responseData, error) {
	d := new(responseData)
	if rest, err := asn1.Unmarshal(tbs, d); err != nil || len(rest) > 0 {
		return nil, errors.New("the response is none: its data does not parse")
	}
	for _, e := range d.Extensions {
		// RFC 6960 §4.4: extensions may be critical, and one that is not understood then spoils the response.
		if e.Critical && !e.Id.Equal(oidNonce) {
			return nil, fmt.Errorf("the response has the critical extension %s, which is not understood", e.Id)
		}
	}
	return d, nil
}

// nonce gives the echoed nonce (RFC 9654 §2.1).
func (d *responseData) nonce() ([]byte, bool) {
	for _, e := range d.Extensions {
		if !e.Id.Equal(oidNonce) {
			continue
		}
		var n []byte
		if rest, err := asn1.Unmarshal(e.Value, &n); err == nil && len(rest) == 0 {
			return n, true
		}
		return e.Value, true // some responders leave the inner OCTET STRING away
	}
	return nil, false
}

// answers says why the response is not about this certificate. The library picks an answer by serial number alone, and takes the first;
// numbers are unique for one issuer only (RFC 6960 §4.1.1), so that one must be about our issuer.
func (d *responseData) answers(cert, issuer *x509.Certificate) error {
	key, err := keyOctets(issuer)
	if err != nil {
		return err
	}
	for _, r := range d.Responses {
		if r.CertID.Serial == nil || r.CertID.Serial.Cmp(cert.SerialNumber) != 0 {
			continue
		}
		h, ok := identifierHash(r.CertID.Hash.Algorithm)
		if !ok {
			return fmt.Errorf("the response names the certificate by the digest %s, which is not taken", r.CertID.Hash.Algorithm)
		}
		if !bytes.Equal(r.CertID.Name, digest(h, issuer.RawSubject)) || !bytes.Equal(r.CertID.Key, digest(h, key)) {
			return errors.New("the response is about a certificate of another issuer")
		}
		for _, e := range r.Extensions {
			if e.Critical {
				return fmt.Errorf("the response has the critical extension %s, which is not understood", e.Id)
			}
		}
		return nil
	}
	return errors.New("the response is about another certificate")
}

func identifierHash(o asn1.ObjectIdentifier) (crypto.Hash, bool) {
	for _, k := range []struct {
		oid  asn1.ObjectIdentifier
		hash crypto.Hash
	}{{oidSHA1, crypto.SHA1}, {oidSHA256, crypto.SHA256}, {oidSHA384, crypto.SHA384}, {oidSHA512, crypto.SHA512}} {
		if k.oid.Equal(o) {
			return k.hash, true
		}
	}
	return 0, false
}

// signedBy is RFC 6960 §4.2.2.2: the issuer itself, or a responder that it has named by a certificate of its own with id-kp-OCSPSigning.
// A responder that the operator configures by hand, which the RFC allows too, there is none.
func signedBy(resp *ocsp.Response, issuer *x509.Certificate, at time.Time) (string, error) {
	switch resp.SignatureAlgorithm {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA, x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512:
	default:
		return "", fmt.Errorf("the response is signed with %s, which is not taken", resp.SignatureAlgorithm)
	}
	signer := resp.Certificate
	if signer == nil || bytes.Equal(signer.RawSubjectPublicKeyInfo, issuer.RawSubjectPublicKeyInfo) {
		if keyTooLong(issuer) || resp.CheckSignatureFrom(issuer) != nil {
			return "", errors.New("the signature of the response is not one of the issuer's key")
		}
		if !names(resp, issuer) {
			return "", errors.New("the response is signed by the issuer and names another responder")
		}
		return "the issuer itself", nil
	}
	switch {
	case keyTooLong(signer) || keyTooLong(issuer) || resp.CheckSignatureFrom(signer) != nil:
		return "", errors.New("the signature of the response is not one of the certificate in it")
	case !trust.SameName(signer.RawIssuer, issuer.RawSubject) || issuer.CheckSignature(signer.SignatureAlgorithm, signer.RawTBSCertificate, signer.Signature) != nil:
		return "", errors.New("the response is signed by a certificate that the issuer did not make")
	case weakSignature(signer.SignatureAlgorithm):
		return "", fmt.Errorf("the responder's certificate is signed with %s", signer.SignatureAlgorithm)
	case !mayRespond(signer):
		return "", errors.New("the response is signed by a certificate that is no responder's (RFC 6960 §4.2.2.2: extended key usage OCSPSigning)")
	case at.Before(signer.NotBefore.Add(-skew)) || at.After(signer.NotAfter):
		return "", fmt.Errorf("the responder's certificate is valid from %s to %s", stamp(signer.NotBefore), stamp(signer.NotAfter))
	case !names(resp, signer):
		return "", errors.New("the response names another responder than the certificate in it")
	}
	return "the responder " + signer.Subject.String(), nil
}

// mayRespond: the usage must be there by name, anyExtendedKeyUsage does not give it (RFC 6960 §4.2.2.2), and the key must sign.
func mayRespond(c *x509.Certificate) bool {
	usage := false
	for _, u := range c.ExtKeyUsage {
		usage = usage || u == x509.ExtKeyUsageOCSPSigning
	}
	signs := c.KeyUsage == 0 || c.KeyUsage&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) != 0
	return usage && signs && len(c.UnhandledCriticalExtensions) == 0
}

func weakSignature(a x509.SignatureAlgorithm) bool {
	switch a {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.DSAWithSHA256, x509.ECDSAWithSHA1, x509.UnknownSignatureAlgorithm:
		return true
	}
	return false
}

// names tells whether ResponderID is this certificate (RFC 6960 §4.2.2.3).
func names(resp *ocsp.Response, c *x509.Certificate) bool {
	if len(resp.ResponderKeyHash) > 0 {
		key, err := keyOctets(c)
		return err == nil && bytes.Equal(resp.ResponderKeyHash, digest(crypto.SHA1, key))
	}
	return trust.SameName(resp.RawResponderName, c.RawSubject)
}

func keyTooLong(c *x509.Certificate) bool {
	k, ok := c.PublicKey.(*rsa.PublicKey)
	return ok && k.N.BitLen() > maxRSABits
}

// reasonText names a reason code (RFC 5280 §5.3.1). The words are those of the standard.
func reasonText(code int) string {
	names := []string{"", "keyCompromise", "cACompromise", "affiliationChanged", "superseded", "cessationOfOperation", "certificateHold", "", "removeFromCRL", "privilegeWithdrawn", "aACompromise"}
	if code < 0 || code >= len(names) {
		return ""
	}
	return names[code]
}
