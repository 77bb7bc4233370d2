package revocation

import "time"

// Limits of reading and keeping what issuers publish. Whoever holds a certificate chooses the URLs in it, within what its issuer lets
// pass; the octets behind them are checked against the issuer's key, but not before they were read.
const (
	// maxCRL is the largest list that is read: 1.4 million entries. The largest ones of this network have a tenth of it.
	maxCRL = 64 << 20
	// maxOCSP is the largest response: a signature, a certificate and an answer have 2 KiB.
	maxOCSP = 64 << 10
	// maxHead bounds each field before the entries, maxEntry one entry, maxExtensions the extensions of the list.
	maxHead       = 16 << 10
	maxEntry      = 4 << 10
	maxExtensions = 64 << 10
	// maxSerial is what is kept of a serial number: RFC 5280 §4.1.2.2 allows 20 octets, some issuers use more.
	maxSerial = 64
	// window is what is read of a list at once.
	window = 128 << 10
	// skew is how far clocks may be apart.
	skew = 5 * time.Minute
	// maxAge bounds the age of an answer from a responder whatever it says of itself: an old answer may be played back by anybody on the way.
	maxAge = 7 * 24 * time.Hour
	// openAge is how long an answer without nextUpdate is taken: it says that newer ones are always at hand (RFC 6960 §2.4).
	openAge = 24 * time.Hour
	// openList is the same of a list without nextUpdate, which RFC 5280 §5.1.2.5 forbids and old issuers publish.
	openList = 7 * 24 * time.Hour
	// maxURLs is how many URLs of one certificate are asked, lists and responders together. There are certificates with 240.
	maxURLs = 5
	// retryTime is how long a failure answers for a URL.
	retryTime = 5 * time.Minute
	// maxFailures bounds what is remembered of failures.
	maxFailures = 4096
	// maxLists and maxListOctets bound the lists kept on disk; maxAnswers the answers.
	maxLists      = 1024
	maxListOctets = 512 << 20
	maxAnswers    = 8192
	// maxIndexOctets bounds the lists held in memory: one of the largest, or some hundreds of the usual ones. What is put out is read again
	// from the disk when it is needed.
	maxIndexOctets = 64 << 20
	// idle is how long something is kept fresh without being asked for: a correspondent writes to us once a week.
	idle = 8 * 24 * time.Hour
	// maxDetail bounds one reason.
	maxDetail = 400
)
