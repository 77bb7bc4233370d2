package admin

import "time"

const (
	// maxBody bounds a request: a folder of 20,000 certificates with their
	// keys is 80 MB of JSON.
	maxBody = 256 << 20

	// defaultImport bounds a request that streams files: the zone text of a
	// million certificates has 1.7 GB.
	defaultImport = 2 << 30

	// maxCertFiles bounds files that are held in memory until it is known which
	// key belongs to which certificate: 100,000 PEM files with their keys have
	// 330 MB.
	maxCertFiles = 512 << 20

	// maxItems bounds what an answer lists of an import: an account of a million
	// certificates would be 200 MB that nobody reads. The counts are of all.
	maxItems = 20_000

	// maxBackup bounds a backup that is restored: a million certificates with
	// their keys are below it.
	maxBackup = 4 << 30

	// defaultPatience is how long a client may leave unread what it is told. It
	// is told of a plan while a change is under way, and no other change is made
	// meanwhile: a tool that was stopped must not stop the node.
	defaultPatience = 10 * time.Second

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

// What the doctor may cost.
const (
	// probeTime is for one question to a listener of ours, on the same machine.
	probeTime = 3 * time.Second

	// maxProbed bounds listeners of a kind, and SRV records, that are asked.
	maxProbed = 8

	// expiresSoon is when somebody should be told: issuers of Direct certificates
	// take days.
	expiresSoon = 30 * 24 * time.Hour
)
