package admin

const (
	// maxBody bounds a request: a folder of 20,000 certificates with their
	// keys is 80 MB of JSON.
	maxBody = 256 << 20

	// maxBackup bounds a backup that is restored: a million certificates with
	// their keys are below it.
	maxBackup = 4 << 30

	// maxIterations of a key derivation in a PKCS #12 file: 600,000 is what
	// OWASP asks of the slowest; five million take seconds, and what asks for
	// more would keep the daemon busy for as long as its maker likes.
	maxIterations = 5_000_000

	// maxPKCS12Depth is deeper than the layers of PKCS #12 (RFC 7292 §4).
	maxPKCS12Depth = 24

	// minPrefix is how much of a fingerprint removes something: a slip of the
	// keyboard must not cost a key.
	minPrefix = 8
)
