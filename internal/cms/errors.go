package cms

import (
	"errors"
	"fmt"

	"directnode/internal/ber"
)

// ErrDecrypt is the one error of Decrypt, whatever happened (RFC 3218 §2.3.2). It is returned as it is, never wrapped.
var ErrDecrypt = errors.New("cms: the message does not decrypt")

// Errors that callers tell apart; the errors of this package wrap exactly one of them.
var (
	ErrMalformed         = errors.New("cms: malformed")                                     // not the structure it claims to be
	ErrLimit             = errors.New("cms: over a limit")                                  // larger, deeper or more numerous than Limits allows
	ErrContentType       = errors.New("cms: wrong content type")                            // a CMS structure, but not the one asked for
	ErrAlgorithm         = errors.New("cms: algorithm refused")                             // named in the text
	ErrNoSigner          = errors.New("cms: nobody signed")                                 // a SignedData without SignerInfo
	ErrContent           = errors.New("cms: content missing or present twice")              // detached and encapsulated mixed up
	ErrSignerCertificate = errors.New("cms: the certificate of the signer is not enclosed") // nothing to verify with
	ErrAttributes        = errors.New("cms: signed attributes are wrong")                   // RFC 5652 §5.3, §11
	ErrDigest            = errors.New("cms: the content is not the one that was signed")    // messageDigest differs
	ErrSignature         = errors.New("cms: the signature is wrong")                        // the key did not make it
	ErrKey               = errors.New("cms: unsuitable key or certificate")                 // ours or the recipient's, when writing
)

// unread gives the error for an element that could not be read: a limit of the BER reader or a malformed structure.
func unread(what string, err error) error {
	kind := ErrMalformed
	for _, limit := range []error{ber.ErrTooLong, ber.ErrTooDeep, ber.ErrTooMany} {
		if errors.Is(err, limit) {
			kind = ErrLimit
		}
	}
	return fmt.Errorf("%w: %s: %v", kind, what, err)
}
