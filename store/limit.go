package store

// The limits of what can be stored. Each is refused with the name of what
// would cross it.
const (
	// maxCertsPerOwner and maxOwnerBytes: all certificates of an owner travel
	// in one DNS answer, whose 65,535 octets over TCP (RFC 1035 §4.2.2) also
	// hold the record headers, and in one LDAP entry. 20 leave room for years
	// of renewals published side by side.
	maxCertsPerOwner = 20
	maxOwnerBytes    = 60_000
	// maxAnchorDER: the largest roots in use have about 2 KiB.
	maxAnchorDER = 32 << 10
	// maxAnchors per domain: the largest trust bundles have some hundreds.
	maxAnchors = 4096
	// maxBundles of a domain, and maxBundleAnchors of one: a network publishes a handful, the largest of some hundreds.
	maxBundles       = 64
	maxBundleAnchors = 2048
	maxBundleName    = 64
	maxBundleURL     = 2048
	// maxKeyDER: an RSA key of 16,384 bits in PKCS #8 has about 9 KiB.
	maxKeyDER = 16 << 10
	// maxDomains of a node; a view's list of them is copied with each change.
	maxDomains = 100_000
	// maxRecords of a domain, certificates apart: an MX, an SRV and an
	// address for every one of ten thousand hosts.
	maxRecords = 100_000
	// maxRRset: no answer could carry more.
	maxRRset = 1000
	// maxRecordName in presentation form, where an octet may take four
	// characters; what is longer fits no key (kv.MaxKey).
	maxRecordName = 600
	// maxRecordData is RDATA of 65,535 octets in presentation form, quotes and
	// escapes included, as far as a value can hold it.
	maxRecordData = 256 << 10
	// maxTTL is RFC 2181 §8.
	maxTTL = 1<<31 - 1
	// maxTSIGKeys of a node, and maxTransferPeers of each kind of a domain: a
	// key and a few servers for each owner who has secondaries of his own.
	maxTSIGKeys      = 10_000
	maxTransferPeers = 64
	// maxKeyName: a domain name has 255 octets, and the store's keys less.
	maxKeyName = 200
	// minTSIGSecret and maxTSIGSecret: RFC 8945 §8 wants as many octets as the
	// hash has, and 16 are what cannot be guessed; other servers read 512.
	minTSIGSecret = 16
	maxTSIGSecret = 512
	// maxProblems that Check lists before it stops.
	maxProblems = 1000
)
