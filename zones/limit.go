package zones

const (
	// maxSetOctets bounds the wire size of one RRset. A DNS message ends at
	// 65,535 octets; what remains holds the question, a chain of aliases as long
	// as the server follows (8 times 534 octets, a DNAME and a CNAME each) and the OPT record.
	maxSetOctets = 60_000

	// maxCerts bounds the CERT records of one name: an address has one or two
	// pairs of certificates, four times that while they roll over; every
	// further one is load and amplification without a use.
	maxCerts = 20

	// maxMasterOctets bounds the zone text that one import reads: a million
	// certificates of 1.2 KB are about 1.7 GB of Base64.
	maxMasterOctets = 2 << 30

	// maxEntryOctets bounds one entry of zone text: 65,535 octets of RDATA are
	// 131,070 hexadecimal digits, plus line breaks and indents.
	maxEntryOctets = 256 << 10

	// maxGenerate bounds the records of one $GENERATE, maxGenerated and
	// maxGeneratedOctets those of a whole text: a line of thirty octets must not
	// fill the memory. A /16 of addresses, the largest use that is known, has
	// 65,536.
	maxGenerate        = 10_000
	maxGenerated       = 65_536
	maxGeneratedOctets = 16 << 20

	// maxWidth bounds the digits of one number: a label has 63 octets.
	maxWidth = 63

	// maxHistory is how many steps of a zone are kept for incremental transfers:
	// a secondary that is further behind takes all of it. minHistoryOctets lets a
	// small zone be followed too, maxHistoryOctets is what a transfer takes a
	// second for. usualCert and usualRecord estimate a zone.
	maxHistory       = 1024
	minHistoryOctets = 64 << 10
	maxHistoryOctets = 4 << 20
	usualCert        = 1500
	usualRecord      = 64

	// maxComparedNames bounds the comparison of two versions of which nobody
	// says where they differ.
	maxComparedNames = 50_000

	// maxIncomingRecords and maxIncomingOctets bound a zone that another server
	// sends: what the store takes of one domain, and as many steps of changes;
	// 300 octets for each.
	maxIncomingRecords = 200_000
	maxIncomingOctets  = 64 << 20

	// maxTTL is the largest TTL (RFC 2181 §8: the top bit is zero).
	maxTTL = 1<<31 - 1

	// defaultCertTTL is the TTL of CERT records. The usual publisher of Direct
	// certificates uses half an hour too; a longer one would keep a certificate
	// in caches after it was replaced.
	defaultCertTTL = 1800

	// defaultTTL is the TTL of the records of a new domain, and the time that
	// others remember that a name is not there.
	defaultTTL = 3600
)
