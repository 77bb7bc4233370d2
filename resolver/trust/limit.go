package trust

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
	// maxEffort is what the signatures verified for one candidate may cost in all, in units of one RSA key of up to 3072 bits: below
	// 50 ms in the worst case. The longest path with the longest keys fits (7 × 8); hierarchies built to be searched exponentially end
	// here.
	maxEffort = 64
	// maxSteps is the number of (certificate, possible issuer) pairs looked at for one candidate, those already verified included.
	maxSteps = 256
	// maxPaths is the number of complete paths of one candidate that are judged.
	maxPaths = 8
	// maxDetail is the length in octets of one reason.
	maxDetail = 600
	// maxRSABits keeps the cost of one verification bounded; nobody issues longer keys.
	maxRSABits = 8192
	// maxComparisons is the number of (name, name constraint) pairs compared on one path.
	maxComparisons = 20000
	// maxPolicies is the number of certificate policies alive at one level of a path.
	maxPolicies = 256
)
