package cms

import (
	"fmt"

	"directnode/internal/ber"
)

// Limits bounds what the parsers take. A zero field means its default.
type Limits struct {
	Size         int // octets of the structure
	Depth        int // nesting of elements
	Recipients   int // RecipientInfos of an EnvelopedData
	Certificates int // certificates of a SignedData
	Signers      int // SignerInfos of a SignedData
	Attributes   int // signed attributes of a SignerInfo
}

// The defaults, and what breaks if they change.
const (
	defaultSize         = 64 << 20 // a mail message has at most 36 MiB, base64 undone; certificate bundles are far below
	defaultDepth        = 16       // the deepest thing we read (OAEP parameters of a recipient) stands at 10
	defaultRecipients   = 6400     // 100 recipients of a transaction (RFC 5321 §4.5.3.1.8) with 64 certificates each; maxUnwraps bounds the RSA operations
	defaultCertificates = 32       // 8 signers with a chain of 4 certificates each
	defaultSigners      = 8        // each costs an RSA verification per matching certificate
	defaultAttributes   = 32       // 13 are registered for S/MIME
)

// Limits that no caller needs to change.
const (
	maxRSABits           = 8192     // as in crypto/tls: a larger modulus lets one message cost seconds
	minRSABits           = 2048     // NIST SP 800-131A: shorter keys are no longer allowed for encryption or signing
	maxUnwraps           = 32       // private key operations per message; a sender encloses each of our certificates once
	maxCertificateOctets = 64 << 10 // the largest in use stay below 16 KiB; parsed, one takes twenty times its octets
	maxSerialOctets      = 64       // RFC 5280 §4.1.2.2 allows 20; some issuers exceed that
	maxKeyIDOctets       = 128      // key identifiers are hashes, 20 octets as a rule
	streamChunk          = 32 << 10 // octets encrypted or decrypted at a time; a multiple of the AES block size
	spareElements        = 1 << 14  // elements of a structure besides the segments of its content
	octetsPerElement     = 8        // one element more for so many octets: segments of 64 octets, each read 8 times at most
)

func (l Limits) withDefaults() Limits {
	set := func(field *int, value int) {
		if *field == 0 {
			*field = value
		}
	}
	set(&l.Size, defaultSize)
	set(&l.Depth, defaultDepth)
	set(&l.Recipients, defaultRecipients)
	set(&l.Certificates, defaultCertificates)
	set(&l.Signers, defaultSigners)
	set(&l.Attributes, defaultAttributes)
	return l
}

// ber gives the limits of a reader over a structure of size octets. Streaming writers cut the content into segments of
// their buffer size, so the number of elements must grow with the size; it bounds time, not memory.
func (l Limits) ber(size int) ber.Limits {
	return ber.Limits{Depth: l.Depth, Count: spareElements + size/octetsPerElement, Size: l.Size}
}

func tooMany(what string, limit int) error {
	return fmt.Errorf("%w: more than %d %s", ErrLimit, limit, what)
}
