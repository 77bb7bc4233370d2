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
	// maxDNSServers is how many configured servers are tried for one question.
	maxDNSServers = 8
	// ednsSize is the UDP payload that we take (RFC 6891 §6.2.5): what passes every usual path without fragments.
	ednsSize = 1232
	// udpBuffer is larger than ednsSize, so that a server that sends more than it was told is still read whole.
	udpBuffer = 8192
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
	// the protocol.
	maxLDAPBytes    = 4 << 20
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
