package smime

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"strings"
	"time"

	"directnode/internal/cms"
	"directnode/internal/direct"
	"directnode/internal/mail"
)

// SignerCert is a certificate whose key has signed the message.
type SignerCert struct {
	Certificate *x509.Certificate
	Embedded    []*x509.Certificate // all certificates that came with the signature, to build a path with
	SigningTime time.Time           // as the signer claims it; zero: not claimed
}

// Verified is a message whose octets at least one signer has signed. Only Verify
// makes one.
type Verified struct {
	outer     mail.Header
	message   []byte
	header    mail.Header // of message
	originals originators
	wrapped   bool
	digest    [32]byte
	signers   []SignerCert
	results   []cms.SignerResult
}

type originators struct {
	from, sender direct.Address
}

// Signers is the signers whose signatures verified, in the order of the
// message. There is at least one; which of them is trusted and is the sender is
// for the caller to decide.
func (v Verified) Signers() []SignerCert { return v.signers }

// Results is one result for each signature, those included that did not verify.
func (v Verified) Results() []cms.SignerResult { return v.results }

// Message is the message: as it was wrapped, or, for one that was not, the
// outer header without its Content- fields (which nobody signed) followed by the
// signed entity. Nothing in it comes from outside the signed part otherwise.
func (v Verified) Message() []byte { return v.message }

// Header is the header of Message.
func (v Verified) Header() mail.Header { return v.header }

// Outer is the header that came in clear: evidence of transport, nothing more.
func (v Verified) Outer() mail.Header { return v.outer }

// Wrapped tells whether the header of Message is signed.
func (v Verified) Wrapped() bool { return v.wrapped }

// From is the one address of From.
func (v Verified) From() direct.Address { return v.originals.from }

// Sender is the one address of Sender, zero where there is none.
func (v Verified) Sender() direct.Address { return v.originals.sender }

// Digest is SHA-256 over the signed octets.
func (v Verified) Digest() [32]byte { return v.digest }

// Verify takes the decrypted content apart and verifies its detached signature
// over the exact octets of the first part, with CRLF (AS 2.5, RFC 1847 §2.1).
// It is enough that one signature verifies. Preamble, epilogue and whatever else
// the signature does not cover are dropped. Errors are *Refusal.
func Verify(o Opened, p cms.VerifyPolicy) (Verified, error) {
	part, signature, err := splitSigned(o.entity)
	if err != nil {
		return Verified{}, err
	}
	signed := mail.Canonical(part.Raw)
	v := Verified{outer: o.outer}
	if err := v.verifySignature(signed, signature, p); err != nil {
		return Verified{}, err
	}
	if err := v.unwrap(signed); err != nil {
		return Verified{}, err
	}
	v.originals.from, v.originals.sender, err = readOriginators(v.header)
	if err != nil {
		return Verified{}, err
	}
	return v, nil
}

// splitSigned finds the signed part and the signature. AS 2.4: what is
// encrypted is a multipart/signed, the first part the container, the second its
// detached signature; nothing else is looked into.
func splitSigned(entity []byte) (signed mail.Part, signature []byte, err error) {
	h, body, err := mail.Split(entity)
	if err != nil {
		return mail.Part{}, nil, refuse(CheckFormat, "RFC 5751 §3.1", "the decrypted content is no MIME entity", err)
	}
	boundary, err := checkSigned(h)
	if err != nil {
		return mail.Part{}, nil, err
	}
	parts, err := mail.SplitMultipart(body, boundary, mail.Limits{Parts: 3})
	if err != nil {
		return mail.Part{}, nil, refuse(CheckSigned, "RFC 1847 §2.1", "the multipart/signed", err)
	}
	if len(parts) != 2 {
		return mail.Part{}, nil, refuse(CheckSigned, "RFC 1847 §2.1", "a multipart/signed has exactly two parts", nil)
	}
	mediaType, _, err := parts[1].Header.ContentType()
	if err != nil || !isSignatureType(mediaType) {
		return mail.Part{}, nil, refuse(CheckSigned, "AS 2.5.1", "the second part is no detached signature", err)
	}
	signature, err = mail.DecodeBody(parts[1].Header, parts[1].Body)
	if err != nil {
		return mail.Part{}, nil, refuse(CheckFormat, "RFC 2045 §6", "the transfer encoding of the signature", err)
	}
	return parts[0], signature, nil
}

// checkSigned reads the header of the decrypted entity and gives the boundary.
// micalg is a hint that the signature itself overrides (RFC 5751 §3.4.3.2), and
// not looked at.
func checkSigned(h mail.Header) (boundary string, err error) {
	mediaType, params, err := h.ContentType()
	if err != nil {
		return "", refuse(CheckFormat, "RFC 2045 §5.1", "Content-Type of the decrypted content", err)
	}
	switch mediaType {
	case typeSigned:
	case typeEnveloped, typeEnvelopedLegacy:
		if strings.EqualFold(params["smime-type"], "enveloped-data") {
			return "", refuse(CheckNested, "AS 2.4", "encrypted content inside the encrypted content", nil)
		}
		return "", refuse(CheckOpaque, "AS 2.5.1", "the signature encloses its content", nil)
	default:
		return "", refuse(CheckSigned, "AS 2.4", "the decrypted content is not signed", nil)
	}
	protocol := strings.ToLower(strings.TrimSpace(params["protocol"]))
	if protocol != "" && !isSignatureType(protocol) {
		return "", refuse(CheckSigned, "AS 2.5.1", "a signature of another protocol", nil)
	}
	// RFC 2045 §6.4: a multipart is never encoded as a whole.
	encoding, err := h.TransferEncoding()
	if err != nil || encoding == "base64" || encoding == "quoted-printable" {
		return "", refuse(CheckFormat, "RFC 2045 §6.4", "the transfer encoding of the multipart/signed", err)
	}
	return params["boundary"], nil
}

// isSignatureType takes both names, for protocol and part alike, and does not
// ask that they agree (AS 2.5.1).
func isSignatureType(mediaType string) bool {
	return mediaType == typeSignature || mediaType == typeSignatureLegacy
}

// verifySignature verifies all SignerInfos and keeps all results.
func (v *Verified) verifySignature(signed, signature []byte, p cms.VerifyPolicy) error {
	data, err := cms.ParseSignedData(signature, cms.Limits{})
	if err != nil {
		return refuse(CheckSignature, "RFC 5652 §5", "no SignedData", err)
	}
	if !data.Detached() {
		return refuse(CheckOpaque, "AS 2.5.1", "the detached signature encloses a content of its own", nil)
	}
	v.results, err = data.Verify(bytes.NewReader(signed), p)
	if err != nil {
		return refuse(CheckSignature, "AS 2.5", "no signature that can be verified", err)
	}
	var failures []error
	embedded := data.Certificates()
	known := false
	for _, r := range v.results {
		if r.Err != nil {
			failures = append(failures, r.Err)
			continue
		}
		v.signers = append(v.signers, SignerCert{Certificate: r.Certificate, Embedded: embedded, SigningTime: r.SigningTime})
		if r.Digest == crypto.SHA256 {
			known = copy(v.digest[:], r.MessageDigest) == len(v.digest)
		}
	}
	if len(v.signers) == 0 {
		return refuse(CheckSignature, "AS 2.5", "no signature verifies", errors.Join(failures...))
	}
	if !known {
		v.digest = sha256.Sum256(signed)
	}
	return nil
}
