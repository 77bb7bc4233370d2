package trust

import "time"

// Limits of one Evaluate. Everything it reads comes from strangers, so each figure bounds what a stranger can make us do; all are
// far above what Direct hierarchies need (three certificates deep, one or two issuers of one name).
const (
	// maxCandidates is how many certificates of one discovery are judged. An LDAP entry with 50 certificates has been seen.
	maxCandidates = 64
	// maxCertificate bounds one certificate; the largest in the wild, with many names, stay below 16 KiB.
	maxCertificate = 64 << 10
	// maxIntermediates is how many certificates that are no anchors take part in a path search.
	maxIntermediates = 64
	// maxDepth is the number of certificates in a path, leaf and anchor included.
	maxDepth = 8
	// maxEffort is what the signatures verified for one candidate may cost in all, in units of one RSA key of up to 3072 bits, so that
	// it is also the greatest number of them: below 50 ms in the worst case. The longest path with the longest keys fits (7 × 8);
	// hierarchies built to be searched exponentially end here.
	maxEffort = 64
	// maxSteps is the number of (path, possible issuer) pairs looked at for one candidate, those already verified included. Each costs
	// some look-ups; twenty times what the worst hierarchy of the tests that ends well needs.
	maxSteps = 2048
	// maxPaths is the number of complete paths of one candidate that are put before the whole table.
	maxPaths = 16
	// maxFetches is how many certificates of one candidate's paths Issuers is asked for, and places it asks: the longest path has
	// eight certificates, an anchor at the top and the leaf's issuer mostly at hand.
	maxFetches = 5
	// maxFetchesInAll bounds the same for all candidates of a question, which come from one publisher and mostly share an issuer.
	maxFetchesInAll = 20
	// maxEvidence is the number of paths and of fetches of one candidate that are kept to be shown.
	maxEvidence = 48
	// maxDetail is the length in octets of one reason.
	maxDetail = 600
	// maxLabel is the length in octets of a distinguished name that is written into a reason.
	maxLabel = 1 << 10
	// maxRSABits keeps the cost of one verification bounded; nobody issues longer keys.
	maxRSABits = 8192
	// maxComparisons is the number of (name, name constraint) pairs compared for one candidate: a few milliseconds. A thousand names
	// against a thousand constraints, which no hierarchy has, are ten times as many.
	maxComparisons = 100_000
	// maxPolicies is the number of certificate policies, and of mappings, of one certificate. Bridges have some dozens.
	maxPolicies = 256
	// maxBody is the number of octets that ParseCertificates reads; the largest p7c of a bridge has some 100 KiB.
	maxBody = 1 << 20
	// maxBag is the number of certificates that it gives, and maxBagRead that of one CMS message that it reads to find them.
	maxBag     = 64
	maxBagRead = 256
	// maxOtherKeys is how many other keys of an issuer its list may be signed with: the one before and one for lists.
	maxOtherKeys = 2
	// defaultMemo is the number of octets of certificates that a Memo holds; in memory a certificate takes some twenty times its octets.
	defaultMemo = 4 << 20
	// maxRemembered is the number of octets of certificates of one question that a Memo takes: some forty certificates.
	maxRemembered = 64 << 10
	// defaultGrace is how long past its end the last answer "good" counts under RevocationGrace.
	defaultGrace = 24 * time.Hour
)
