package resolver

import (
	"time"

	"directnode/internal/ber"
)

// Limits of one discovery. Every server asked is chosen by the owner of the address, who may be anybody.
const (
	// defaultTimeout bounds each question to the DNS and the whole of the LDAP part, all servers included. Five seconds is what the
	// public discovery tools wait; one server among several gets its share of it, so that a silent one never spends it all.
	defaultTimeout = 5 * time.Second
	// defaultBudget bounds a discovery with everything in it: a submitter waits, and a person too.
	defaultBudget = 10 * time.Second
	// maxDNSServers is how many configured servers are tried for one question.
	maxDNSServers = 8
	// ednsSize is the UDP payload that we take (RFC 6891 §6.2.5): what passes every usual path without fragments.
	ednsSize = 1232
	// udpBuffer is larger than ednsSize, so that a server that sends more than it was told is still read whole.
	udpBuffer = 8192
	// maxResends is how often a datagram is sent again before the next server is asked. firstPatience is how long an answer of a server
	// that was never heard is waited for before that, and the most that is ever waited, as a recursive server needs its time too;
	// leastPatience keeps a near server that hiccups from being asked twice.
	maxResends    = 2
	firstPatience = time.Second
	leastPatience = 300 * time.Millisecond
	// maxServerStates is how many name servers' speeds and cookies are remembered; maxAvoid is how long one that failed is asked last.
	maxServerStates = 4096
	maxAvoid        = time.Minute
	// maxFlights is the number of questions under way at once, of all discoveries: each is a socket.
	maxFlights = 512
	// defaultCache is the size of each cache in octets, entryOverhead what an entry costs beside its content, and an answer may take
	// no more than one part in cacheShare of its cache.
	defaultCache  = 16 << 20
	entryOverhead = 256
	cacheShare    = 8
	// defaultLDAPTTL is how long the answer of a directory is remembered: LDAP has no TTL, and a certificate that was replaced should
	// be seen soon.
	defaultLDAPTTL = 5 * time.Minute
	// maxNegativeTTL is how many seconds absence is believed at most (RFC 2308 §5 advises one to three hours).
	maxNegativeTTL = 3 * 60 * 60
	// maxReferrals, maxZoneLabels and maxAuthorities bound the walk to the servers of a zone.
	maxReferrals   = 8
	maxZoneLabels  = 10
	maxAuthorities = 6
	// maxURLs is how many URLs of CERT records are fetched, maxURL how long one may be.
	maxURLs = 4
	maxURL  = 2048
	// maxChain, maxZoneKeys and maxVerified bound our own validation of one answer: zones on the way down, keys looked at of one zone
	// and signatures verified in all (KeyTrap: CVE-2023-50387).
	maxChain    = 16
	maxZoneKeys = 16
	maxVerified = 48
	// maxStray is the number of datagrams that do not answer our question that are read past while waiting.
	maxStray = 64
	// maxAliases is the number of CNAME records followed for one question.
	maxAliases = 8
	// maxFound is the number of certificates kept of one place. An RRset of more does not fit a DNS message; an LDAP entry of 50 has
	// been seen.
	maxFound = 64
	// maxSkipped is the number of unusable values that are reported, of however many there were.
	maxSkipped = 16
	// maxLDAPServers is how many SRV targets are tried, maxTargetAddresses how many addresses of each.
	maxLDAPServers     = 8
	maxTargetAddresses = 4
	// maxBaseDNs is how many naming contexts of a server are searched. Active Directory has five.
	maxBaseDNs = 8
	// maxEntries is the number of entries asked for and read in one search.
	maxEntries = 64
	// maxLDAPBytes and maxLDAPMessages bound what one server may send in all; search references are not covered by any size limit of
	// the protocol. Decoded, it is held about three times over, and a discovery may take 8 MiB.
	maxLDAPBytes    = 2 << 20
	maxLDAPMessages = 512
	// maxControls is the size of the controls of one LDAP message. We ask for none; the LDAP library decodes the value of those it
	// knows once more, out of sight of the limits of a message.
	maxControls = 1 << 10
	// maxText bounds, in octets, what a step or a reason quotes of what a server said.
	maxText = 400
	// maxMX and maxAddrs bound the answers handed to the mail side.
	maxMX    = 32
	maxAddrs = 32
)

// ldapMessage bounds one message of an LDAP server before the LDAP library decodes it, which costs it 150 octets of memory for each
// element: 64 entries of 50 certificates stay far below.
func ldapMessage() ber.Limits { return ber.Limits{Depth: 16, Count: 2048, Size: 1 << 20} }
